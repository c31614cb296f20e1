# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore_command of a throw-away server, run by a real shell as PostgreSQL runs it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import feed
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.feed import Feeder
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import Segment

SIZE = 1 << 20


def name(number: int, timeline: int = 1) -> str:
    return Segment(timeline, number, SIZE).name


class Files:
    """What an archive has, by name. away: reading it fails."""

    def __init__(self) -> None:
        self.there = {name(number): b"wal %d" % number for number in range(5, 12)}
        self.there["00000002.history"] = b"1\t0/500000\tno recovery target specified\n"
        self.written: list[str] = []
        self.away = False

    def write(self, name: str, target: Path) -> bool:
        if self.away:
            raise IntegrityError("read the WAL", name, "it is damaged", "Take a new base.")
        if name not in self.there:
            return False
        self.written.append(name)
        target.write_bytes(self.there[name])
        return True


class World:
    def __init__(self, root: Path) -> None:
        self.files, self.data = Files(), root / "data"
        self.data.mkdir()
        self.folder = root / "exchange"
        self.folder.mkdir()
        self.feeder = Feeder(self.files, self.folder, str(self.folder), SIZE)

    def command(self, file: str) -> list[str]:
        """As PostgreSQL expands it. It runs in the data directory."""
        return shlex.split(self.feeder.command.replace("%f", file).replace("%p", "RECOVERYXLOG"))

    def ask(self, file: str) -> int:
        return subprocess.run(self.command(file), cwd=self.data, timeout=120, check=False).returncode

    @property
    def restored(self) -> bytes:
        return (self.data / "RECOVERYXLOG").read_bytes()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.feeder:
        yield made


def test_a_file_is_handed_over_and_the_next_ones_are_prepared(world: World) -> None:
    assert world.ask(name(5)) == feed.HANDED
    assert world.restored == b"wal 5"
    assert world.ask(name(6)) == feed.HANDED
    assert world.restored == b"wal 6"
    assert world.ask("00000002.history") == feed.HANDED
    assert world.restored.endswith(b"specified\n")
    assert world.files.written[:3] == [name(5), name(6), name(7)]
    assert (world.feeder.handed, world.feeder.repeated, world.feeder.error) == (3, 0, None)
    assert not (world.folder / "files" / name(5)).exists(), "what was read is not kept"


@pytest.mark.parametrize("file", [name(4), name(5, 2), "00000003.history", "RECOVERYHISTORY", "../../etc/passwd"])
def test_what_the_archive_does_not_have_is_no_failure(world: World, file: str) -> None:
    assert world.ask(file) == feed.MISSING
    assert world.feeder.error is None
    assert not (world.data / "RECOVERYXLOG").exists()


def test_an_archive_that_cannot_be_read_is_not_the_end_of_the_wal(world: World) -> None:
    assert world.ask(name(5)) == feed.HANDED
    world.files.away = True
    assert world.ask(name(9)) == feed.UNREACHABLE > 125, "above 125 PostgreSQL gives up, and promotes nothing"
    assert world.feeder.error is not None
    assert world.feeder.error.cause == "it is damaged"
    world.files.away = False
    assert world.ask(name(5)) == feed.UNREACHABLE, "and so it stays"


def test_whatever_goes_wrong_is_not_the_end_of_the_wal(world: World) -> None:
    def write(file: str, target: Path) -> bool:
        raise ValueError("nobody expected that")

    world.files.write = write  # type: ignore[method-assign, assignment]
    assert world.ask(name(5)) == feed.UNREACHABLE
    assert world.feeder.error is not None
    assert world.feeder.error.cause == "nobody expected that"


def test_a_file_that_was_prepared_and_never_asked_for_may_be_damaged(world: World) -> None:
    real = world.files.write

    def write(file: str, target: Path) -> bool:
        world.files.away = file == name(6)
        return real(file, target)

    world.files.write = write  # type: ignore[method-assign, assignment]
    assert world.ask(name(5)) == feed.HANDED
    assert world.ask(name(11)) == feed.HANDED
    assert world.feeder.error is None
    assert world.ask(name(6)) == feed.UNREACHABLE


def test_a_disk_that_is_full_is_not_the_end_of_the_wal(world: World) -> None:
    (world.data / "RECOVERYXLOG").mkdir()
    (world.data / "RECOVERYXLOG" / name(5)).mkdir()  # cp cannot write there
    assert world.ask(name(5)) == feed.UNREACHABLE


def test_it_is_seen_when_a_server_asks_again_and_again(world: World) -> None:
    for file in (name(10), name(11), name(12)):
        world.ask(file)
    assert world.feeder.repeated == 0
    for file in (name(12), name(11), name(12)):
        world.ask(file)
    assert world.feeder.repeated == 3
    world.ask(name(13))
    assert world.feeder.repeated == 0
    world.feeder.forget()
    world.ask(name(12))
    assert world.feeder.repeated == 0, "another server has asked for nothing yet"


def test_what_a_killed_script_was_answered_is_passed_over(world: World) -> None:
    with (world.folder / "want").open("w") as want:  # one that is gone before it reads
        want.write(f"{name(4)}\n")
    assert world.ask(name(5)) == feed.HANDED
    assert world.ask(name(4)) == feed.MISSING
    assert world.restored == b"wal 5"


def test_the_servers_user_can_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = World(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [made.folder, *made.folder.iterdir()]}
    assert modes == {"exchange": 0o755, "files": 0o755, "want": 0o666, "have": 0o666, "restore.sh": 0o755}
