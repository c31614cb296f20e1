# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The large parts of a config backup: images, git mirrors, the built site. Each is kept once while it is the same.

A part has a `key`, which says what it is of. Where the newest good backup that holds the part has the same key, the new
one names that backup instead of keeping the bytes again, and retention holds it for as long as something refers to it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Optional, cast

from ..base import filesystem, pipeline
from ..base.errors import NOT_INSTALLED, IntegrityError, LifeboatError, NotFoundError, UnverifiedError, unable
from ..base.pipeline import Command
from ..repository import catalog
from ..repository.base import Repository
from ..repository.details import ConfigDetails, ImageInUse, Part
from ..repository.manifest import Artefact, Manifest
from ..settings.config import Config, GitRepository
from ..stack.images import image_id
from ..stack.runtime import states_of
from ..stack.service import Runtime
from ..tools import age

IMAGES, SITE, GIT = "images", "site", "git/"
NAMES = {IMAGES: "images.tar.gz", SITE: "site.tar.gz"}


def artefact_name(part: str, seal: age.Seal = age.OPEN) -> str:
    return seal.named(NAMES.get(part) or f"{part}.bundle")


def parts_of(manifest: Manifest) -> Mapping[str, Part]:
    """Return the parts that a backup has, its own and those that it refers to."""
    return manifest.detailed(ConfigDetails).parts


def holder(entries: Sequence[catalog.Entry], name: str, key: str, recipients: Sequence[str] = ()) -> Optional[Part]:
    """Return the newest good backup's own part of that name, if key and recipients are the same."""
    for manifest in reversed(catalog.good(entries)):
        part = parts_of(manifest).get(name)
        if part and part.backup == manifest.id:
            return part if (part.key, sorted(part.recipients)) == (key, sorted(recipients)) else None
    return None


def problem(repo: Repository, part: Part) -> str:
    """Return why a part that another backup holds cannot be read from there; empty if it can, judged by its listing."""
    entry = catalog.entry(repo, "config", part.backup)
    if entry.unknown:
        raise UnverifiedError("look at a part of the configuration", part.backup, entry.problem, "Try again.")
    if entry.manifest is None:
        return f"{part.backup}: {entry.problem}"
    if Artefact(part.artefact, part.size, part.sha256) not in entry.manifest.artefacts:
        return f"{part.backup} has another {part.artefact}"
    had = repo.files("config", part.backup).get(part.artefact)
    return "" if had == part.size else f"{part.backup}: {part.artefact} is missing or has another size"


class _Measured(io.RawIOBase):
    """What is read of a stream, measured."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream, self.had = stream, pipeline.HashingWriter()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.had.write(data)
        return data


@contextmanager
def opened(repo: Repository, manifest: Manifest, name: str, keys: Optional[age.Keys] = None) -> Iterator[IO[bytes]]:
    """Yield the bytes of a part, wherever they are kept, as they were before they were encrypted. Of one that is
    encrypted they were compared with what was written; of another, that is for fetch()."""
    part = parts_of(manifest).get(name)
    if part is None:
        raise NotFoundError("read from the config backup", manifest.id, f"it has no {name}", "Choose another.")
    wrong = problem(repo, part)
    if wrong:
        raise IntegrityError("read from the config backup", manifest.id, wrong, "Choose another (lifeboat list).")
    subject, seal = f"{part.backup}/{part.artefact}", age.Seal(part.recipients, part.host_key)
    with ExitStack() as stack:
        source = stack.enter_context(repo.open("config", part.backup, part.artefact))
        if not seal.recipients:
            yield source
            return
        measured = _Measured(source)
        plain = stack.enter_context((keys or age.keys_of()).stream(cast(IO[bytes], measured), seal, subject=subject))
        _require_same(part, measured.had)
        yield plain


def _require_same(part: Part, had: pipeline.HashingWriter) -> None:
    if (had.size, had.sha256) != (part.size, part.sha256):
        raise IntegrityError("fetch", f"{part.backup}/{part.artefact}", "it is not what was written", "Choose another.")


def fetch(repo: Repository, manifest: Manifest, name: str, target: Path, keys: Optional[age.Keys] = None) -> None:
    """A part as a new file, compared with what was written."""
    with (
        opened(repo, manifest, name, keys) as stream,
        filesystem.explained("fetch", target),
        filesystem.create(target) as file,
    ):
        writer = pipeline.HashingWriter(file)
        shutil.copyfileobj(stream, writer, filesystem.CHUNK)
    part = parts_of(manifest)[name]
    try:
        if not part.recipients:
            _require_same(part, writer)
    except IntegrityError:
        target.unlink()
        raise


# Images.


def images_in_use(runtime: Runtime) -> dict[str, ImageInUse]:
    """By service."""
    used = runtime.images()
    states = states_of(runtime, list(used))
    return {name: ImageInUse(states[name].image, states[name].image_id, digest) for name, digest in used.items()}


def images_nowhere(used: Mapping[str, ImageInUse]) -> list[str]:
    """Services whose image no registry is known to have: runtime.images() then falls back on the engine's own id."""
    return sorted(
        name for name, image in used.items() if image.digest == f"{image.reference.partition('@')[0]}@{image.id}"
    )


def images_key(used: Mapping[str, ImageInUse]) -> str:
    named = sorted({(image.id, image.reference) for image in used.values()})
    return filesystem.sha256(json.dumps(named).encode())


def save_images(used: Mapping[str, ImageInUse], target: Path, timeout: float, seal: age.Seal = age.OPEN) -> Artefact:
    """`docker save`, compressed and encrypted on the way. By name where the name still means that image: a load brings
    it back."""
    wanted = []
    for reference, identity in sorted({(image.reference, image.id) for image in used.values()}):
        wanted.append(reference if image_id(reference) == identity and "@" not in reference else identity)
    with filesystem.create(target) as file:
        writer = pipeline.HashingWriter(file)
        pipeline.run(
            [Command(["docker", "save", *sorted(set(wanted))]), Command(["gzip", "-1", "-n"]), *seal.chain],
            attempted="save the images", subject=", ".join(wanted), sink=writer, timeout=timeout,
            remedy="Set lifeboat_config.images to digests where a registry has them all.",
        )  # fmt: skip
    return Artefact(target.name, writer.size, writer.sha256)


# Git repositories.


def git(repository: GitRepository, config: Config, *arguments: str) -> Command:
    """git that asks nobody. A token goes by the environment, to that one host only: where that sends on to another, git
    would take it along. A local repository is read with its owner's rights, because its own configuration can run
    programs."""
    env = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes", "GIT_CONFIG_NOSYSTEM": "1"}
    token = config.secrets.get(f"git_token_{repository.name}", "")
    if token and repository.url.startswith("https://"):
        host = "/".join(repository.url.split("/")[:3])
        basic = base64.b64encode(f"{repository.user}:{token}".encode()).decode()
        env |= {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": f"http.{host}/.extraHeader"}
        env["GIT_CONFIG_VALUE_0"] = f"Authorization: Basic {basic}"
        env |= {"GIT_CONFIG_KEY_1": "http.followRedirects", "GIT_CONFIG_VALUE_1": "false"}
    argv = ["git", *arguments]
    if repository.path and os.geteuid() == 0:
        with filesystem.explained("read the git repository", repository.path):
            owner = Path(repository.path).stat()
        if owner.st_uid:
            env["HOME"] = "/nonexistent"
            argv = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--", *argv]
    return Command(argv, env)


def git_heads(repository: GitRepository, config: Config) -> str:
    """Return every ref and what it points to, as the repository says now; empty where there is none yet."""
    return heads(pipeline.output(
        git(repository, config, "ls-remote", "--", repository.url or repository.path),
        attempted="ask the git repository", subject=repository.name, timeout=120,
        remedy=f"Set the secret git_token_{repository.name} where it is private, and see that this host reaches it."
        " Where it has moved (error 301) give its new address: with a token no redirect is followed.",
    ))  # fmt: skip


def heads(text: str) -> str:
    """`ls-remote` and `bundle list-heads` in one form. Peeled tags are the former's only."""
    lines = (line.split() for line in text.splitlines())
    return "\n".join(sorted(f"{item[0]} {item[1]}" for item in lines if len(item) == 2 and not item[1].endswith("^{}")))


def git_key(heads_: str) -> str:
    return filesystem.sha256(heads_.encode())


def bundle(
    repository: GitRepository, config: Config, target: Path, scratch: Path, seal: age.Seal = age.OPEN
) -> Artefact:
    """All refs of a repository in one file that git clones from, read back. A remote one by way of a mirror clone."""
    place = repository.path
    if repository.url:
        place = str(scratch / "mirror.git")
        pipeline.run(
            [git(repository, config, "clone", "--quiet", "--mirror", "--", repository.url, place)],
            attempted="mirror the git repository", subject=repository.name, timeout=config.timeout,
        )  # fmt: skip
    plain = scratch / "plain.bundle" if seal.recipients else target
    with filesystem.create(plain) as file:
        writer = pipeline.HashingWriter(file)
        pipeline.run(
            [git(repository, config, "-C", place, "bundle", "create", "--quiet", "-", "--all")],
            attempted="bundle the git repository", subject=repository.name, sink=writer, timeout=config.timeout,
        )  # fmt: skip
    bundle_heads(plain)
    if seal.recipients:
        with plain.open("rb") as source, filesystem.create(target) as file:
            writer = pipeline.HashingWriter(file)
            age.encrypt(source, seal.everybody, writer, subject=repository.name, timeout=config.timeout)
    return Artefact(f"git/{target.name}", writer.size, writer.sha256)


def bundle_heads(path: Path, *, timeout: float = 600) -> str:
    """Return the refs of a bundle that is whole and needs nothing that it does not hold.

    `git bundle verify` reads the header only and calls a bundle that was cut "okay"; unbundling reads every byte.
    """
    with filesystem.scratch("lifeboat-git-") as empty:
        environment = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}

        def git_(*arguments: str) -> str:
            command = Command(["git", *arguments], environment)
            return pipeline.output(command, attempted="verify the git bundle", subject=path.name, timeout=timeout)

        try:
            git_("init", "--quiet", "--bare", str(empty))
            git_("-C", str(empty), "bundle", "verify", "--quiet", str(path))
            git_("-C", str(empty), "bundle", "unbundle", str(path))
            return heads(git_("-C", str(empty), "bundle", "list-heads", str(path)))
        except LifeboatError as exc:
            raise git_error(exc, path, empty) from exc


def git_error(exc: LifeboatError, bundle: Path, scratch: Path) -> LifeboatError:
    """Return what it means that git failed to read `bundle` into `scratch`: IntegrityError where nothing but the bundle
    is to blame. git ends with 128 for a full disk as well as for a damaged bundle."""
    if exc.exit_status == NOT_INSTALLED:
        return UnverifiedError(exc.attempted, exc.subject, "git is not installed", "Install git.")
    if exc.exit_status is None or unable(exc.exit_status):
        return UnverifiedError(exc.attempted, exc.subject, exc.cause, exc.remedy)
    try:
        filesystem.require_room(scratch, 2 * bundle.stat().st_size)
    except LifeboatError as full:
        return full
    return IntegrityError(exc.attempted, exc.subject, exc.cause, "Choose another backup.")


# The built site.


def site_commit(config: Config) -> str:
    """Return what the site was built of, as the operator says or the first word of the file named; empty if unknown."""
    if config.config.site_commit or not config.config.site_commit_file:
        return config.config.site_commit
    try:
        with Path(config.config.site_commit_file).open(encoding="utf-8") as file:
            words = file.read(200).split()
    except (OSError, UnicodeDecodeError):
        return ""
    return words[0] if words else ""
