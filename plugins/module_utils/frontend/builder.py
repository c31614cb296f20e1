# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where foreign code builds: as a user without rights, in a tree of his own, in a space whose processes all end.

Each command has a process space of its own (unshare(1)): when its first process ends, the kernel ends all that it
started, also what has left its session and its group. It sees no process of the host. Its environment is what is named
here from the first process on, so that /proc tells nothing of ours. Root neither walks that tree nor changes owners in
it: the user himself checks out, packs what was built, and removes the tree.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Optional

from ..base import filesystem, pipeline
from ..base.errors import LifeboatError, UsageError
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..settings.parts import FrontendSettings
from ..tools import tar
from ..tools.git import Clone

MOST_FILES = 500_000
LARGEST_SITE = 4 << 30  # bytes; GitHub Pages takes 1 GB
GRACE = 10  # seconds that a command has to end itself when its time is up
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What fetches packages needs the network's settings, and nothing else of our environment: no token, no key.
_KEPT = re.compile(r"(?i)(https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_(file|dir)|npm_config_(registry|cafile))")
# Neither the code of packages nor that of the commit runs while there is a network. Of npm, pnpm and yarn the
# environment counts more than the commit's .npmrc and .yarnrc, which may name a program as git, what node loads first,
# a file of hooks, or another yarn.
_NO_SCRIPTS = {
    "npm_config_ignore_scripts": "true", "npm_config_git": "git", "npm_config_node_options": "--no-warnings",
    "npm_config_onload_script": "false", "npm_config_script_shell": "/bin/sh", "npm_config_ignore_pnpmfile": "true",
    "pnpm_config_ignore_scripts": "true", "pnpm_config_ignore_pnpmfile": "true",
    "YARN_IGNORE_PATH": "1", "YARN_ENABLE_SCRIPTS": "false",
}  # fmt: skip
# A space without a network has no loopback either until it is switched on (netdevice(7)); builds serve to themselves.
_LOOPBACK = """\
import contextlib, fcntl, os, socket, struct, sys
with contextlib.suppress(OSError), socket.socket() as made:
    fcntl.ioctl(made, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Builder:
    """The user who builds, and a tree that he owns from the start."""

    def __init__(self, settings: FrontendSettings, commit: str, folder: Path) -> None:
        self.settings, self.commit, self.folder = settings, commit, folder
        self.user, self.group = owner(settings)
        self.tree = folder / f"build-{commit[:12]}"

    @contextlib.contextmanager
    def opened(self, clone: Clone) -> Iterator[None]:
        """The tree with the files of the commit, gone at the end. Raises UsageError where no space can be made."""
        self._require_space()
        bundle = self.folder / f"{self.commit[:12]}.bundle"
        clone.bundle(bundle)
        with explained("make the tree to build in", self.tree):
            bundle.chmod(0o644)
            self.tree.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(self.tree, self.user, self.group)  # new and empty, in a directory of root's
        try:
            self._do(["git", "clone", "--quiet", "--no-checkout", "--", str(bundle), "."], "clone")
            self._do(["git", "checkout", "--quiet", "--detach", self.commit], "check out")
            yield
        finally:
            bundle.unlink(missing_ok=True)
            self._do(["find", ".", "-mindepth", "1", "-delete"], "remove what was built", strict=False)
            with contextlib.suppress(OSError):  # somebody else of that user wrote there: scratch() leaves it
                self.tree.rmdir()

    def run(self, argv: Sequence[str], *, network: bool) -> tuple[int, str, str]:
        """Run one command of the build: (status, stdout, stderr); 124 where it had no time left."""
        if self.settings.builder_image:
            name = f"lifeboat-build-{secrets.token_hex(6)}"
            try:
                return pipeline.probe(self.contained(argv, name, network=network), timeout=self._seconds + 30)
            finally:  # a client that was killed leaves its container
                pipeline.probe(Command(["docker", "rm", "--force", name]))
        path = ":".join(filter(None, (self.settings.builder_path, "/usr/local/bin:/usr/bin:/bin")))
        directory = self.tree / self.settings.directory
        command = self.apart(argv, self._environment(self.tree, network), directory, network=network, path=path)
        return pipeline.probe(command, timeout=self._seconds + 30)

    @property
    def _seconds(self) -> int:
        return self.settings.build_timeout

    def _environment(self, tree: Path, network: bool) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if network and _KEPT.fullmatch(name)}
        return {
            **kept, **(_NO_SCRIPTS if network else {}),
            "HOME": str(tree / ".lifeboat-home"), "LANG": "C.UTF-8", "CI": "true", "GITHUB_SHA": self.commit,
        }  # fmt: skip

    def apart(
        self, argv: Sequence[str], env: Mapping[str, str], directory: Path, *, network: bool, path: str = _SYSTEM
    ) -> Command:
        """Return the command that runs argv as that user, in a process space of its own. The first process there is
        timeout(1), which stays ours: it is killed with unshare(1), and when it ends, so does all that is in the space.
        """
        space = ["unshare", "--fork", "--pid", "--kill-child", "--mount-proc", *([] if network else ["--net"])]
        if os.geteuid() == 0:
            rights = [f"--reuid={self.user}", f"--regid={self.group}", "--clear-groups", "--no-new-privs"]
            rights = ["setpriv", *rights]
        else:
            space, rights = [*space, "--user", "--map-current-user"], ["setpriv", "--no-new-privs"]
        loopback = [] if network else [sys.executable, "-I", "-S", "-c", _LOOPBACK]
        return Command(
            [
                *space, *loopback, "timeout", f"--kill-after={GRACE}", str(self._seconds), *rights,
                "env", f"--chdir={directory}", f"PATH={path}", *argv,
            ],
            {"PATH": _SYSTEM, **env}, alone=True,
        )  # fmt: skip

    def contained(self, argv: Sequence[str], name: str, *, network: bool) -> Command:
        """Return the command that runs argv as that user in a container. Docker passes on the proxies by name: they may
        hold a password."""
        inside = Path("/work")
        env = self._environment(inside, network)
        given = [f"--env={key}" if _KEPT.fullmatch(key) else f"--env={key}={value}" for key, value in env.items()]
        return Command([
            "timeout", f"--kill-after={GRACE}", str(self._seconds),
            "docker", "run", "--rm", "--init", "--user", f"{self.user}:{self.group}", "--volume",
            f"{self.tree}:{inside}", "--workdir", str(inside / self.settings.directory), f"--name={name}",
            *([] if network else ["--network=none"]), "--cap-drop=ALL", "--security-opt=no-new-privileges",
            *given, self.settings.builder_image, *argv,
        ])  # fmt: skip

    def take(self, output: str, target: Path) -> str:
        """Copy what was built into a new directory of ours: the user packs it, we unpack. Return why there is none."""
        name = os.path.normpath(f"{self.settings.directory}/{output}")
        archive, size = self.folder / f"{self.commit[:12]}.tar.gz", 0
        if name.startswith(("/", "..")) or name == ".":
            return f"{self.settings.directory}/{output} leads out of the clone"
        argv = ["tar", "--create", "--gzip", "--hard-dereference", "--file=-", "--", name]
        with explained("read what was built", target):
            try:
                with filesystem.create(archive) as packed:
                    self._packed(argv, packed)
                target.mkdir(mode=0o755)
                with archive.open("rb") as stream:
                    for entry, content in tar.members(stream, "what was built", MOST_FILES):
                        if entry.path == f"/{name}" and entry.type != tar.DIRECTORY:
                            return f"{self.settings.directory}/{output} leads out of the clone"
                        size += entry.size
                        if size > LARGEST_SITE:
                            return f"what was built has more than {LARGEST_SITE >> 30} GiB"
                        _unpack_entry(entry, content, target)
            except LifeboatError as exc:
                if exc.exit_status == 2:  # tar(1): a file is not there, or cannot be read
                    what = f"{self.settings.directory}/{output}/index.html"
                    return f"the build left no {what}, or what cannot be read: {exc.cause}"
                raise
            finally:
                archive.unlink(missing_ok=True)
        return ""

    def _packed(self, argv: Sequence[str], sink: pipeline.Sink) -> None:
        command = self.apart(argv, {"LANG": "C.UTF-8"}, self.tree, network=False)
        pipeline.run([command], attempted="pack what was built", subject=self.commit, sink=sink, timeout=self._seconds)

    def _do(self, argv: Sequence[str], attempted: str, *, strict: bool = True) -> None:
        command = self.apart(argv, self._environment(self.tree, False), self.tree, network=False)
        status, _out, err = pipeline.probe(command, timeout=self._seconds + 30)
        if status and strict:
            raise LifeboatError(attempted, self.commit, err.strip() or f"{argv[0]} ended with {status}")

    def _require_space(self) -> None:
        command = self.apart(["true"], {}, Path("/"), network=False)
        status, _out, err = pipeline.probe(command)
        if status:
            why = (err.strip().splitlines() or [f"exit {status}"])[-1]
            raise UsageError(
                "build the frontend", "this machine",
                f"no process space can be made here, with which all that a build starts would end ({why}). A container,"
                " such as an execution environment of AWX, has none: name a host for the recovery in the inventory",
                "On a host it needs root, and unshare, setpriv (util-linux) and timeout (coreutils).",
            )  # fmt: skip


def owner(settings: FrontendSettings) -> tuple[int, int]:
    """Who builds: where we are root somebody with no rights, else ourselves."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    name = settings.build_user
    try:
        found = pwd.getpwnam(name)
    except KeyError as exc:
        remedy = "Correct lifeboat_frontend.build_user."
        raise UsageError("build the frontend", name, "this host has no such user", remedy) from exc
    return found.pw_uid, found.pw_gid


def _unpack_entry(entry: tar.Entry, content: Optional[IO[bytes]], target: Path) -> None:
    """Unpack one file of an archive that is not trusted: below the target, through no link, over nothing. A link stays
    one: publishing refuses it."""
    above, name = os.path.split(entry.path)
    at = filesystem.descend(target, filter(None, above.split("/")), make=True)
    try:
        if entry.type == tar.FILE and content is not None:
            handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=at)
            with os.fdopen(handle, "wb") as file:
                shutil.copyfileobj(content, file, filesystem.CHUNK)
        elif entry.type == tar.LINK:
            os.symlink(entry.target, name, dir_fd=at)
        elif name:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=at)
    finally:
        os.close(at)
