# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build leaves a process behind, which reads a token and has root give his own file away.

The control builds as it is commonly done: as an unprivileged user whose environment `env` empties, in a tree that root
gives to him file by file. Where a moment counts the attacker gets it: `env` starts late, and root waits for him once.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import left_behind
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import build, builder
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import FrontendSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.git import Clone

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # that of the tests may lie where nobody may look
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: builds run as another user only for root")


class World:
    """A machine: root's directory with a file, a place for loot, and a repository whose build is the attack."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.loot, self.target, self.trees = root / "loot", root / "target", root / "trees"
        for place, mode in ((self.loot, 0o777), (self.target, 0o755), (self.trees, 0o711)):
            place.mkdir()
            place.chmod(mode)
        self.victim = self.target / "victim"
        self.victim.write_text("root's")
        shutil.copyfile(left_behind.__file__, root / "left_behind.py")
        (root / "left_behind.py").chmod(0o644)  # whatever umask a command left that ran here before
        self.words = (PYTHON, str(root / "left_behind.py"), str(self.loot), str(self.target), str(self.trees))
        self.repository = root / "repository"
        (self.repository / "x/y").mkdir(parents=True)
        (self.repository / "x/y/victim").write_text("the attacker's")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", ".")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=x")
        self.commit = self.git("rev-parse", "HEAD").strip()

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.repository), *words], check=True, capture_output=True, text=True
        ).stdout

    @property
    def lives(self) -> bool:
        """Whether what the build left behind is still there."""
        with (self.loot / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def token(self) -> str:
        found = self.loot / "token"
        return found.read_text() if found.exists() else ""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Not below tmp_path, where nobody else may look."""
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_canary")
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as found:
        made = World(Path(found))
        yield made
        lock = made.loot / "lock"
        if lock.exists() and made.lives:
            os.kill(int(lock.read_text()), 9)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not true():
        time.sleep(0.01)


def handed_over(tree: Path, *, waits: bool) -> None:
    """By path, file by file, as `chown -R` does it too."""
    os.chown(tree, NOBODY, NOBODY)
    for place, directories, files in os.walk(tree):
        if waits and place.endswith("x/y"):
            until(Path(place).is_symlink)
        for name in [*directories, *files]:
            os.chown(Path(place) / name, NOBODY, NOBODY, follow_symlinks=False)


def unprotected(world: World, name: str, words: Sequence[str]) -> None:
    tree = world.trees / name
    shutil.copytree(world.repository, tree)
    handed_over(tree, waits=name == "second")
    alone = ["env", "--ignore-environment", f"--chdir={tree}", f"GITHUB_SHA={world.commit}", *words]
    late = f"import os, time; time.sleep(1); os.execvp('env', {alone!r})"
    rights = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    subprocess.run([*rights, PYTHON, "-c", late], check=True, timeout=60)


def test_what_an_unprotected_build_leaves_behind(world: World) -> None:
    unprotected(world, "first", world.words)
    assert world.lives
    unprotected(world, "second", ["/bin/true"])
    until(lambda: world.token)
    assert world.token == "GITHUB_TOKEN=ghp_canary"
    assert world.victim.stat().st_uid == NOBODY, "root's own file"


def test_a_build_leaves_nothing_behind(world: World) -> None:
    settings = FrontendSettings(build=(world.words,), directory=".", output="dist", marker="version.txt")
    for name in ("first", "second"):
        folder = world.trees / f"{name}-scratch"
        folder.mkdir()
        folder.chmod(0o711)
        made = build.build(settings, Clone(world.repository), world.commit, folder, log=print)
        assert not world.lives, "it ended with its build"
        assert Path(made.directory, "index.html").read_text() == "harmless", made.said
        assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {0}
    assert (world.token, world.victim.stat().st_uid) == ("", 0)


@pytest.mark.parametrize("number", [0, 1], ids=["what fetches", "what builds"])
def test_a_build_sees_no_process_and_no_secret_of_the_host(world: World, number: int) -> None:
    """Which of its commands has a network, too; what builds still reaches itself."""
    look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /proc/net/dev; ls -d /proc/[0-9]* | wc -l"
    write = "mkdir dist; echo x > dist/index.html; echo $GITHUB_SHA > dist/version.txt; mv seen dist"
    itself = f"{PYTHON} -c 'import socket; print(socket.create_server((\"127.0.0.1\", 0)).getsockname()[0])'"
    words = ("sh", "-c", f"{{ {itself}; {look}; }} > seen 2>&1; {write}")
    quiet = ("true",)
    commands = (words,) if number == 0 else (quiet, words)
    settings = FrontendSettings(build=commands, directory=".", output="dist", marker="version.txt")
    folder = world.trees / "scratch"
    folder.mkdir()
    folder.chmod(0o711)
    made = build.build(settings, Clone(world.repository), world.commit, folder, log=print)
    assert made.directory, made.said
    seen = Path(made.directory, "seen").read_text(errors="replace")
    assert "ghp_canary" not in seen
    assert "GITHUB_SHA" in seen, "its own is there to be read"
    assert int(seen.split()[-1]) < 10
    assert seen.startswith("127.0.0.1\n")
    networks = [line.partition(":")[0].strip() for line in seen.splitlines() if re.match(r" *[\w@.-]+: +\d", line)]
    host = re.findall(r"(?m)^ *([\w@.-]+):", Path("/proc/net/dev").read_text())
    assert networks == (["lo"] if number == 1 else host)


def test_time_that_is_up_ends_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what ignores the signal, and what has a session of its own."""
    monkeypatch.setattr(builder, "GRACE", 1)
    words = ("sh", "-c", f"{' '.join(world.words)}; trap '' TERM; while :; do sleep 0.1; done")
    settings = FrontendSettings(build=(words,), directory=".", output="dist", marker="version.txt", build_timeout=2)
    folder = world.trees / "scratch"
    folder.mkdir()
    folder.chmod(0o711)
    made = build.build(settings, Clone(world.repository), world.commit, folder, log=print)
    assert not made.directory
    assert not world.lives


def test_the_space_ends_with_its_owner(world: World) -> None:
    """As when the recovery itself is killed."""
    settings = FrontendSettings(build=(world.words,), directory=".", output="dist", marker="version.txt")
    home = world.loot / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    words = ["sh", "-c", f"{' '.join(world.words)}; sleep 600"]
    command = builder.Builder(settings, world.commit, world.trees).apart(
        words, {"GITHUB_SHA": world.commit}, home, network=True
    )
    process = subprocess.Popen(command.argv, env=command.environment(), start_new_session=True)
    until(lambda: (world.loot / "lock").exists() and (world.loot / "lock").read_text())
    assert world.lives
    process.kill()
    process.wait()
    until(lambda: not world.lives)
    assert not world.lives
