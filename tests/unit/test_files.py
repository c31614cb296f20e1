# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A files backup: what is in it, what is stored again, how it is proved, and that everything comes back as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import shutil
import sqlite3
import stat
import subprocess
import time
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import fake_age
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem as filesystem_module
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import (
    COULD_NOT_VERIFY,
    FAIL,
    PASS,
    Check,
    verdict,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.files import (
    backup,
    contents,
    listing,
    packs,
    plan,
    proof,
    recovery,
    rewrites,
    sources,
    walk,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.files import restore as restore_module
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import FilesDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as configuration
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from builders import flip

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices are root's to give")


def portrait(root: Path) -> dict[str, Any]:
    """A tree by the system's own calls and not by ours: type, mode, owner, time, content, links, attributes."""
    found: dict[str, Any] = {}
    for path in sorted([root, *root.rglob("*")]):
        name = str(path.relative_to(root))
        if any(part.startswith(".lifeboat-") for part in Path(name).parts):
            continue
        status = path.lstat()
        facts: list[Any] = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
        if stat.S_ISREG(status.st_mode):
            facts += [status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest(), status.st_nlink]
        elif stat.S_ISLNK(status.st_mode):
            facts += [status.st_mtime_ns, str(path.readlink())]
        facts += [
            {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        ]
        found[name] = facts
    return found


class World:
    """A stack on systemd units that keeps files in one directory, with its repository beside it."""

    def __init__(self, tmp_path: Path, **files: Any) -> None:
        self.root, self.now = tmp_path / "data", datetime.now(timezone.utc)
        self.root.mkdir()
        self.backups = tmp_path / "backups"
        self.settings: dict[str, Any] = {
            "stack": "shop",
            "runtime": {"type": "host"},
            "repository": {"type": "local", "path": str(self.backups)},
            "state_directory": str(tmp_path / "state"),
            "files": {"sources": [{"name": "uploads", "path": str(self.root), **files}]},
        }
        self.backups.mkdir()
        (tmp_path / "state").mkdir(mode=0o700)
        self.said: list[str] = []

    @property
    def run(self) -> Opened:
        return Opened(configuration.from_mapping(self.settings))

    @property
    def repo(self) -> Any:
        return repositories.repository_of(self.run)

    def take(self, **how: Any) -> Manifest:
        return backup.take(self.run, log=self.said.append, **how)

    def levels(self, manifest: Manifest, level: str = "restore", sample: int = 0) -> dict[str, tuple[str, str]]:
        found = proof.levels(self.run.config, self.repo, manifest, level, sample, self.said.append, "")
        return {check.name: (check.result, check.detail) for check in found}

    def plan(self, **wanted: Any) -> plan.Plan:
        return plan.make(self.run, Request(**wanted), log=self.said.append)

    def recover(self, **wanted: Any) -> recovery.Recovered:
        return recovery.recover(self.run, self.plan(**wanted), log=self.said.append)

    def fill(self) -> None:
        (self.root / "a" / "b").mkdir(parents=True)
        (self.root / "a" / "one.txt").write_text("one\n")
        (self.root / "a" / "b" / "two.bin").write_bytes(os.urandom(100_000))
        (self.root / "a" / "b" / "empty").touch()
        (self.root / "empty directory").mkdir(mode=0o751)
        (self.root / "link").symlink_to("a/one.txt")
        (self.root / "dangling").symlink_to("/nowhere/at all")
        os.link(self.root / "a" / "one.txt", self.root / "z-one-again")
        (self.root / "new\nline").write_text("odd")
        Path(os.fsdecode(os.fsencode(self.root) + b"/no-utf8-\xff\xfe")).write_text("bytes")
        (self.root / ("n" * 255)).write_text("long")
        (self.root / "mode").write_text("x")
        (self.root / "mode").chmod(0o4711)
        os.mkfifo(self.root / "pipe")
        os.utime(self.root / "mode", ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A clock that goes on only where it is told to: no second is waited for, and no two backups have one name."""
    now = [datetime.now(timezone.utc) - timedelta(days=60)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now[0].astimezone(tz) if tz else now[0]

    def on(days: float = 1.0) -> None:
        now[0] += timedelta(days=days)

    monkeypatch.setattr(backup, "datetime", Clock)
    return on


def details(manifest: Manifest) -> FilesDetails:
    return manifest.detailed(FilesDetails)


def test_everything_that_was_lost_comes_back_as_it_was(world: World) -> None:
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    held = details(taken).sources["uploads"]
    assert (held.skipped_count, held.torn_count, held.damaged_count) == (0, 0, 0)
    found = world.levels(taken)
    assert {result for result, _detail in found.values()} == {PASS}, found
    shutil.rmtree(world.root)
    assert world.plan().needed
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before
    assert not world.plan().needed


def by_path(world: World, manifest: Manifest) -> dict[str, Any]:
    with packs.listed(world.repo, manifest, age.keys(world.run.config)) as lines:
        return {line.path: line.entry for line in lines}


def size_of(manifest: Manifest) -> int:
    return sum(artefact.size for artefact in manifest.artefacts if artefact.name.startswith("pack-"))


def test_what_did_not_change_is_not_stored_again_and_the_earlier_pack_is_held(world: World, later: Any) -> None:
    world.fill()
    first = world.take()
    later()
    (world.root / "a" / "more").write_text("more")
    second = world.take()
    held = details(second)
    assert [pack.backup for pack in held.packs] == [first.id, second.id]
    assert (held.sources["uploads"].changed, held.previous) == (1, first.id)
    assert size_of(second) < 1000 < size_of(first)
    assert KINDS["files"].earlier(held)[first.id] == size_of(first)
    assert {entry.pack for path, entry in by_path(world, second).items() if path.endswith("more")} == {2}
    (again,) = [item.needs for item in catalog.for_retention(catalog.entries(world.repo, "files", "shop"))][1:]
    assert first.id in again, "no retention may take it away"
    shutil.rmtree(world.root / "a")
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS]
    assert (world.root / "a" / "more").read_text() == "more"


def test_nothing_changed_stores_nothing(world: World, later: Any) -> None:
    world.fill()
    world.take()
    later()
    second = world.take()
    assert size_of(second) == 0
    assert details(second).sources["uploads"].changed == 0


def test_a_file_that_is_written_in_place_with_its_old_time_is_stored_again(world: World, later: Any) -> None:
    """Who sets mtime back does not set ctime."""
    world.fill()
    world.take()
    path = world.root / "a" / "b" / "two.bin"
    was = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    later()
    assert details(world.take()).sources["uploads"].changed == 1


def test_bytes_that_rot_on_the_disk_are_found_within_thirty_days(
    world: World, monkeypatch: pytest.MonkeyPatch, later: Any
) -> None:
    """Nothing that the file system says of the file is another: only that it is read again tells."""
    world.fill()
    first = world.take()
    path = world.root / "a" / "b" / "two.bin"
    real = contents.digest
    rotten = path.stat().st_ino

    def read(handle: int, size: int, *, sparse: bool) -> str:
        return "0" * 64 if os.fstat(handle).st_ino == rotten else real(handle, size, sparse=sparse)

    monkeypatch.setattr(contents, "digest", read)
    seen = []
    for day in range(packs.AGAIN):
        later(days=1)
        del day
        held = details(world.take()).sources["uploads"]
        seen += held.damaged
    assert seen == ["uploads/a/b/two.bin"], first.id


@pytest.mark.parametrize("what", ["setgid", "xattr", "owner"])
@needs_root
def test_attributes_come_back_too(world: World, what: str) -> None:
    world.fill()
    path = world.root / "a" / "one.txt"
    if what == "xattr":
        os.setxattr(path, "user.origin", b"\x00\xffcamera")
        os.setxattr(world.root / "a", "user.of", b"directory")
    elif what == "owner":
        os.chown(path, 1234, 4321)
        os.chown(world.root / "dangling", 77, 78, follow_symlinks=False)
    else:
        (world.root / "a").chmod(0o2775)
    before = portrait(world.root)
    world.take()
    shutil.rmtree(world.root)
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before


def test_a_sparse_terabyte_takes_no_time_and_comes_back_sparse(world: World) -> None:
    path = world.root / "image.raw"
    with path.open("wb") as file:
        file.seek(5 << 30)
        file.write(b"in the middle")
        file.truncate(1 << 40)
    began = time.monotonic()
    taken = world.take()
    assert {result for result, _detail in world.levels(taken).values()} == {PASS}
    assert by_path(world, taken)["uploads/image.raw"].rest.sparse
    path.unlink()
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert path.stat().st_size == 1 << 40
    assert path.stat().st_blocks * 512 < 1 << 20
    with path.open("rb") as file:
        file.seek((5 << 30) - 1)
        assert file.read(15) == b"\0in the middle\0"
    assert time.monotonic() - began < 60


def test_by_hand_with_zstd_and_tar_alone(world: World, tmp_path: Path) -> None:
    """As docs/files.md says it."""
    world.fill()
    os.setxattr(world.root / "mode", "user.a", b"b")
    with (world.root / "holes").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"x")
        file.truncate(9 << 20)
    before = portrait(world.root)
    taken = world.take()
    out = tmp_path / "out"
    out.mkdir()
    with (world.backups / "files" / taken.id / "pack-1.tar.zst").open("rb") as pack:
        tar = subprocess.run(["zstd", "-dc"], stdin=pack, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-xp", "--xattrs", "--xattrs-include=*", "-C", str(out)], input=tar, check=True)
    here = portrait(out / "uploads")
    named = [name for name, facts in before.items() if facts[0].startswith("-") and facts[4] and name in here]
    assert len(named) >= 6
    for name in named:
        assert (here[name][0], here[name][4]) == (before[name][0], before[name][4]), name
    assert here["mode"][-1] == {"user.a": b"b"}


def rows(path: Path) -> list[tuple[int]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT n FROM t ORDER BY n").fetchall()


def test_a_database_in_use_is_copied_by_sqlite_with_the_rows_of_its_log(world: World, later: Any) -> None:
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("CREATE TABLE t (n INTEGER)")
        writer.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(500)])
        writer.commit()
        assert (world.root / "app.db-wal").stat().st_size > 0
        first = world.take()
        writer.execute("INSERT INTO t VALUES (500)")
        writer.commit()
        later()
        second = world.take()
    assert details(first).sources["uploads"].databases == details(second).sources["uploads"].databases == 1
    assert sorted(by_path(world, second)) == ["uploads", "uploads/app.db"]
    assert {result for result, _detail in world.levels(second).values()} == {PASS}
    shutil.rmtree(world.root)
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert rows(path) == [(n,) for n in range(501)]


def test_what_lay_beside_a_database_is_never_written_into_the_one_that_comes_back(world: World) -> None:
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (1)")
        database.commit()
    taken = world.take()
    path.write_bytes(b"ruined")
    (world.root / "app.db-wal").write_bytes(b"of another life")
    done = world.recover(identity=taken.id)
    assert [check.result for check in done.checks] == [PASS]
    assert rows(path) == [(1,)]
    assert not (world.root / "app.db-wal").exists()
    (aside,) = done.aside
    assert (Path(aside) / "app.db").read_bytes() == b"ruined"


def test_a_database_is_compared_by_its_pages_and_not_by_how_it_is_kept(world: World) -> None:
    """The application that runs again sets its write-ahead log again: that changes the file and none of its rows."""
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (1)")
        database.commit()
        taken = world.take()
    path.unlink()
    assert [check.result for check in world.recover(identity=taken.id).checks] == [PASS]
    recovered = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchall() == [("wal",)]
        database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        assert path.read_bytes() != recovered
        assert not world.plan(identity=taken.id).needed, "while it is open"
    assert not world.plan(identity=taken.id).needed, "and after that"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE t SET n = 2")
        database.commit()
        assert world.plan(identity=taken.id).sources[0].altered == 1, "its row lies in the log"
    assert world.plan(identity=taken.id).sources[0].altered == 1
    before = sorted(entry.name for entry in world.root.iterdir())
    assert before == ["app.db"], "who reads leaves nothing there"
    done = world.recover(identity=taken.id)
    assert [check.result for check in done.checks] == [PASS]
    assert rows(path) == [(1,)]


def test_the_log_of_a_database_is_not_moved_aside_as_something_else(world: World) -> None:
    """Rows may be in it alone. What looks like a log, and lies beside none, goes."""
    path, like = world.root / "app.db", world.root / "else-wal"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (1)")
        database.commit()
        taken = world.take()
        assert (world.root / "app.db-wal").stat().st_size > 0
        assert not world.plan(identity=taken.id, exact=True).needed
        like.touch()
        assert world.plan(identity=taken.id, exact=True).why == "uploads: 1 not in the backup"
        world.recover(identity=taken.id, exact=True)
        assert not like.exists()
        assert (world.root / "app.db-wal").exists()
        assert rows(path) == [(1,)]


def test_a_database_that_is_no_database_any_more_is_altered(world: World) -> None:
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.commit()
    taken = world.take()
    for data in (b"SQLite format 3\0" + b"\xff" * 8176, b"ruined", b""):
        path.write_bytes(data)
        assert world.plan(identity=taken.id).sources[0].altered == 1
    path.unlink()
    path.mkdir()
    assert world.plan(identity=taken.id).sources[0].altered == 1


def test_what_was_changed_since_the_backup_stays_unless_that_state_is_asked_for(world: World) -> None:
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    (world.root / "a" / "one.txt").write_text("edited\n")
    (world.root / "new").write_text("new")
    (world.root / "mode").unlink()
    made = world.plan()
    assert (made.sources[0].missing, made.sources[0].altered, made.sources[0].changed) == (1, 0, 2)
    assert any("-e recovery_point=" in words for words in made.warnings)
    assert [check.result for check in world.recover().checks] == [PASS]
    assert (world.root / "a" / "one.txt").read_text() == "edited\n"
    done = world.recover(identity=taken.id, exact=True)
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before
    (aside,) = done.aside
    assert (Path(aside) / "new").read_text() == "new"
    assert (Path(aside) / "a" / "one.txt").read_text() == "edited\n"
    assert not world.plan(identity=taken.id, exact=True).needed, "the second run has nothing to do"


def test_two_names_of_one_file_are_that_again_when_the_first_comes_back(world: World) -> None:
    world.fill()
    before = portrait(world.root)
    world.take()
    first, again = world.root / "a" / "one.txt", world.root / "z-one-again"
    first.unlink()
    assert world.plan().sources[0].missing == 2, "the file, and what made the other name one of it"
    assert [check.result for check in world.recover().checks] == [PASS]
    assert portrait(world.root) == before
    assert first.stat().st_ino == again.stat().st_ino
    assert not world.plan().needed


def test_another_name_that_was_written_since_stays_as_it_is(world: World) -> None:
    world.fill()
    world.take()
    first, again = world.root / "a" / "one.txt", world.root / "z-one-again"
    again.write_text("edited\n")
    first.unlink()
    assert world.plan().sources[0].missing == 1
    assert [check.result for check in world.recover().checks] == [PASS]
    assert again.read_text() == "edited\n"
    assert first.read_text() != "edited\n"


def test_another_name_stays_where_the_file_does_not_come_back(world: World) -> None:
    world.fill()
    taken = world.take()
    (world.root / "a" / "one.txt").unlink()
    content = (world.root / "z-one-again").read_bytes()
    made = world.plan()
    pack = world.backups / "files" / taken.id / "pack-1.tar.zst"
    pack.write_bytes(b"")
    checks = recovery.recover(world.run, made, log=world.said.append).checks
    assert [check.result for check in checks] == [FAIL]
    assert "z-one-again" in checks[0].detail
    assert (world.root / "z-one-again").read_bytes() == content


def test_the_plan_counts_what_differs_and_nothing_else(world: World) -> None:
    world.fill()
    taken = world.take()
    assert world.plan().why == f"everything that {taken.id} has is there"
    (world.root / "dangling").unlink()
    (world.root / "a" / "one.txt").write_text("other\n")
    (world.root / "a" / "b" / "empty").chmod(0o640)
    assert world.plan(identity=taken.id).why == "uploads: 1 missing, 2 altered, 1 with other attributes"
    world.recover(identity=taken.id)
    (world.root / "new").touch()
    assert world.plan(identity=taken.id, exact=True).why == "uploads: 1 not in the backup"


def test_files_that_an_attacker_encrypted_come_back_and_his_are_kept(world: World) -> None:
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    for path in [*world.root.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            path.write_bytes(os.urandom(200))
            path.rename(path.with_name(path.name[:200] + ".locked"))
    done = world.recover(identity=taken.id, exact=True)
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before


def test_one_path_alone(world: World) -> None:
    world.fill()
    world.take()
    shutil.rmtree(world.root / "a")
    (world.root / "mode").unlink()
    done = world.recover(paths=("uploads/a/b",))
    assert [check.result for check in done.checks] == [PASS]
    assert (world.root / "a" / "b" / "two.bin").exists()
    assert not (world.root / "a" / "one.txt").exists()
    assert not (world.root / "mode").exists()


def test_an_emptied_directory_is_no_backup_unless_somebody_says_so(world: World, later: Any) -> None:
    for number in range(50):
        (world.root / str(number)).write_text(str(number))
    first = world.take()
    for number in range(30):
        (world.root / str(number)).unlink()
    later()
    with pytest.raises(UsageError, match=r"uploads holds 20 files, and in files_backup_.* 50"):
        world.take()
    assert [entry.id for entry in catalog.entries(world.repo, "files", "shop")] == [first.id]
    taken = world.take(override=True)
    assert details(taken).accepted


def test_a_disk_that_is_not_mounted_any_more_is_no_backup(
    world: World, monkeypatch: pytest.MonkeyPatch, later: Any
) -> None:
    world.fill()
    monkeypatch.setattr(backup.filesystem, "is_mounted", lambda path: True)
    world.take()
    monkeypatch.undo()
    later()
    with pytest.raises(UsageError, match="is not a mount point any more"):
        world.take()


def test_what_is_left_out_is_in_no_backup_and_no_recovery_misses_it(tmp_path: Path) -> None:
    world = World(tmp_path, exclude=["cache/**", "*.tmp", "/a/b/*.bin"])
    world.fill()
    for name in ("cache/x/y", "a/cache/z", "deep/er/scratch.tmp"):
        (world.root / name).parent.mkdir(parents=True, exist_ok=True)
        (world.root / name).write_text(name)
    names = set(by_path(world, world.take()))
    assert "uploads/a/cache/z" in names
    assert not names & {"uploads/cache/x/y", "uploads/deep/er/scratch.tmp", "uploads/a/b/two.bin"}
    assert not world.plan().needed


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_in_the_backup(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill()
    real = backup.filesystem.plain_at

    def denied(at: int, name: str) -> Any:
        if name == "mode":
            raise PermissionError(13, "Permission denied")
        return real(at, name)

    monkeypatch.setattr(backup.filesystem, "plain_at", denied)
    taken = world.take()
    held = details(taken).sources["uploads"]
    assert (held.skipped_count, dict(held.skipped)) == (1, {"uploads/mode": "Permission denied"})
    monkeypatch.undo()
    assert world.levels(taken)["files read"][0] == FAIL


def test_a_file_that_grows_while_it_is_read_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    path = world.root / "a" / "b" / "two.bin"
    real = backup._Work._content

    def growing(self: Any, name: str, *more: Any) -> Any:
        if name.endswith("two.bin"):
            with path.open("ab") as file:
                file.write(b"more")
        return real(self, name, *more)

    monkeypatch.setattr(backup._Work, "_content", growing)
    taken = world.take()
    held = details(taken).sources["uploads"]
    assert (held.torn_count, held.torn) == (1, ("uploads/a/b/two.bin",))
    monkeypatch.undo()
    found = world.levels(taken)
    assert found["pack 1"][0] == PASS, "what was read last is what the listing has"
    assert found["files read"][0] == FAIL


def test_a_file_that_changed_once_while_it_was_read_is_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    path = world.root / "a" / "b" / "two.bin"
    real, done = backup._Work._content, []

    def once(self: Any, name: str, *more: Any) -> Any:
        if name.endswith("two.bin") and not done:
            done.append(name)
            with path.open("ab") as file:
                file.write(b"more")
        return real(self, name, *more)

    monkeypatch.setattr(backup._Work, "_content", once)
    taken = world.take()
    assert details(taken).sources["uploads"].torn_count == 0
    assert {result for result, _detail in world.levels(taken).values()} == {PASS}
    whole = path.read_bytes()
    path.unlink()
    world.recover()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "listing", "of another stack"])
def test_a_damaged_backup_is_seen_at_the_level_that_can_see_it(world: World, tmp_path: Path, damage: str) -> None:
    world.fill()
    taken = world.take()
    folder = world.backups / "files" / taken.id
    pack = folder / ("listing.zst" if damage == "listing" else "pack-1.tar.zst")
    data = bytearray(pack.read_bytes())
    if damage == "missing":
        pack.unlink()
    elif damage == "of another stack":
        (tmp_path / "other").mkdir()
        other = World(tmp_path / "other")
        other.fill()
        shutil.copy(other.backups / "files" / other.take().id / pack.name, pack)
    else:
        data[len(data) // 2] ^= 1
        pack.write_bytes(data[: len(data) - 40] if damage == "cut" else data)
    found = world.levels(taken)
    assert verdict([Check(name, *said) for name, said in found.items()]) == FAIL


@pytest.mark.parametrize("earlier", ["missing", "flipped"])
def test_a_pack_of_an_earlier_backup_is_this_ones_too(world: World, earlier: str, later: Any) -> None:
    world.fill()
    first = world.take()
    later()
    (world.root / "more").write_text("more")
    second = world.take()
    pack = world.backups / "files" / first.id / "pack-1.tar.zst"
    if earlier == "missing":
        shutil.rmtree(pack.parent)
    else:
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    assert world.levels(second)["earlier packs"][0] == FAIL
    shutil.rmtree(world.root)
    if earlier == "missing":
        with pytest.raises(LifeboatError):
            world.plan()
    else:
        done = world.recover()
        assert [check.result for check in done.checks] == [FAIL], "what did not come back is said"
        assert (world.root / "more").read_text() == "more", "and the rest is there"
        assert recovery_state.unfinished(world.run.config, recovery_state.RECOVERING_FILES) is not None


@pytest.mark.parametrize(("lost", "closed"), [("removed", True), ("emptied", True), ("a part", False)])
def test_an_application_that_would_find_none_of_its_files_stays_stopped(
    world: World, later: Any, monkeypatch: pytest.MonkeyPatch, lost: str, closed: bool
) -> None:
    """A pack is damaged, so that not everything comes back."""
    (world.root / "old").write_text("old")
    first = world.take()
    later()
    (world.root / "more").write_text("more")
    world.take()
    pack = world.backups / "files" / first.id / "pack-1.tar.zst"
    intact = pack.read_bytes()
    flip(pack)
    for path in [*world.root.iterdir()] if lost != "a part" else [world.root / "old"]:
        path.unlink()
    if lost == "removed":
        world.root.rmdir()
    run = world.run
    run.runtime = SimpleNamespace(stop=lambda *_, **__: ())  # type: ignore[assignment]
    if not closed:
        monkeypatch.setattr(reopen, "reopen", lambda *_, **__: [Check("services", PASS)])
    made = dataclasses.replace(world.plan(), writers=("app",))
    *_, services = recovery.recover(run, made, log=world.said.append).checks
    assert (services.name, services.result) == ("services", FAIL if closed else PASS)
    assert ("the application stays stopped: the application's files were empty" in services.detail) == closed
    pack.write_bytes(intact)
    monkeypatch.setattr(reopen, "reopen", lambda *_, **__: [Check("services", PASS)])
    assert {check.result for check in recovery.recover(run, world.plan(), log=world.said.append).checks} == {PASS}
    assert not [*recovery_state.kept_closed(run.config)]


def test_a_pack_that_is_mostly_dead_is_not_referred_to_any_more(world: World, later: Any) -> None:
    for number in range(10):
        (world.root / f"f{number}").write_bytes(os.urandom(10_000))
    first = world.take()
    for number in range(6):
        (world.root / f"f{number}").write_bytes(os.urandom(10_000))
    later()
    second = world.take()
    assert [pack.backup for pack in details(second).packs] == [first.id, second.id]
    later()
    third = world.take()
    assert [pack.backup for pack in details(third).packs] == [second.id, third.id], "four of ten lived, and moved"
    later()
    assert size_of(world.take()) == 0
    assert {result for result, _detail in world.levels(third).values()} == {PASS}


def test_a_listing_that_leaves_its_place_is_refused(world: World) -> None:
    world.fill()
    taken = world.take()
    for hostile in (
        '"uploads/../../etc/passwd"\tfile 644 0 0 0 0 1 3\t1\t{}\n',
        '"other/x"\tfile 644 0 0 0 0 1 3\t1\t{}\n',
        '"uploads/x"\tfile 644 0 0 0 0 1 3\t1\t{"link": "uploads/../../etc/shadow"}\n',
        '"uploads/x"\tfile 99999 0 0 0 0 1 3\t1\t{}\n',
        '"uploads/x"\tfile 644 0 0 0 0 1 3\t1\t[]\n',
        '"uploads/x"\tfile 644 0 0 0 0 1 3\t-1\t{}\n',
        '"uploads"\tdirectory 755 0 0 0 0 1 3\t0\t{}\n"uploads"\tdirectory 755 0 0 0 0 1 3\t0\t{}\n',
        "{}\n", "\n", '"uploads/x"\n', '"uploads/x\\u0000"\tfile 644 0 0 0 0 1 3\t1\t{}\n',
    ):  # fmt: skip
        head = b'{"schema": "lifeboat.dr/file-listing", "version": [1, 0]}\n'
        with pytest.raises(IntegrityError):
            for line in listing.read(io.BytesIO(head + hostile.encode()), taken.id):
                if line.entry.path.startswith("other/"):
                    raise IntegrityError("read", "a source that is none", "as proof and plan see it")


def test_a_link_that_appears_on_the_way_is_not_followed(world: World, tmp_path: Path) -> None:
    """Whoever writes into the volume turns a directory into a link."""
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(world.root / "a")
    (world.root / "a").symlink_to(outside)
    assert not world.plan().needed, "what an application put there instead stays, unless the state of then is asked for"
    done = world.recover(identity=taken.id)
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert not [*outside.iterdir()], "nothing was written out of the volume"
    assert portrait(world.root) == before


def test_encrypted_nothing_of_it_is_in_the_clear_and_the_key_opens_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    identity = fake_age.identity()
    recipient = next(line.split()[-1] for line in identity.splitlines() if "public key" in line)
    world.settings["encryption"] = {"recipients": [recipient]}
    world.fill()
    (world.root / "secret").write_text("a known word of the application\n" * 100)
    taken = world.take()
    folder = world.backups / "files" / taken.id
    assert all(path.name.endswith(".age") or path.name.endswith(".json") for path in folder.iterdir())
    assert not any(b"uploads/secret" in path.read_bytes() for path in folder.iterdir())
    assert {result for result, _detail in world.levels(taken).values()} == {PASS}, "with the host's own key"
    for key in (tmp_path / "state" / "keys").iterdir():
        key.unlink()
    assert COULD_NOT_VERIFY in {result for result, _detail in world.levels(taken).values()}
    shutil.rmtree(world.root)
    with pytest.raises(LifeboatError, match="encrypted for"):
        world.plan()
    opened = Opened(world.run.config, identity)
    made = plan.make(opened, Request(), log=world.said.append)
    done = recovery.recover(opened, made, log=world.said.append)
    assert [check.result for check in done.checks] == [PASS], done.checks


def test_a_recovery_that_was_killed_is_ended_by_the_same_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    for path in (world.root / "a" / "one.txt", world.root / "mode", world.root / "link"):
        path.unlink()
        path.write_text("ruined")
    real, count = restore_module.Placer.put, []

    def killed(self: Any, entry: Any) -> None:
        count.append(entry)
        if len(count) == 2:
            raise KeyboardInterrupt
        real(self, entry)

    monkeypatch.setattr(restore_module.Placer, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        world.recover(identity=taken.id, exact=True)
    monkeypatch.undo()
    with pytest.raises(LockedError, match="recovery of the application's files"):
        world.take()
    made = world.plan()
    assert (made.backup["id"], made.requested, made.exact) == (taken.id, True, True), "it goes on with what was begun"
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before
    assert recovery_state.unfinished(world.run.config, recovery_state.RECOVERING_FILES) is None


def test_another_file_system_below_is_named_and_not_entered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    real = os.stat

    def other(name: Any, **how: Any) -> Any:
        found = real(name, **how)
        if name == "a" and how.get("dir_fd") is not None:
            return os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))
        return found

    monkeypatch.setattr(walk.os, "stat", other)
    problems = walk.Problems()
    names = {found.path for found in walk.walk(str(world.root), "uploads", problems)}
    assert "uploads/a" in names and "uploads/a/one.txt" not in names
    assert list(problems.first) == ["uploads/a"]


def test_a_volume_that_is_deeper_than_any_stack_is_walked(world: World, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: filesystem_module.remove(world.root))  # pytest's own way ends with a RecursionError
    at = os.open(world.root, os.O_RDONLY)
    for _level in range(400):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    taken = world.take()
    assert details(taken).sources["uploads"].files == 1
    assert world.levels(taken)["listing"][0] == PASS
    filesystem_module.remove(world.root)
    done = world.recover()
    assert [check.result for check in done.checks] == [PASS]


def test_a_source_that_is_not_there_is_an_error_and_no_empty_backup(world: World) -> None:
    shutil.rmtree(world.root)
    with pytest.raises(NotFoundError):
        world.take()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"sources": [{"name": "Up", "path": "/srv"}]}, "a name is plain"),
        ({"sources": [{"name": "a", "path": "/srv", "volume": "x"}]}, "wants either volume or path"),
        ({"sources": [{"name": "a"}]}, "wants either volume or path"),
        ({"sources": [{"name": "a", "path": "srv"}]}, "is not a plain absolute path"),
        ({"sources": [{"name": "a", "path": "/"}]}, "is not a plain absolute path"),
        ({"sources": [{"name": "a", "path": "/x"}, {"name": "b", "path": "/x"}]}, "is named twice"),
        ({"sources": [{"name": "a", "path": "/x", "services": ["web"]}]}, "with consistency live"),
        ({"sources": [{"name": "a", "path": "/x", "exclude": ["../y"]}]}, "is no pattern"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(world: World, files: Any, words: str) -> None:
    world.settings["files"] = files
    with pytest.raises(UsageError, match=words):
        assert world.run


def test_of_a_volume_that_is_gone_everything_is_missing_and_nothing_else_is_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has no place, and that is not the directory in which we were started."""
    world.fill()
    taken = world.take()
    monkeypatch.chdir(world.root)
    with packs.listed(world.repo, taken, age.keys(world.run.config)) as rows:
        differences = restore_module.compare(
            "", "uploads", rows, walk.Problems(), left_out=lambda path: False, scratch=Path()
        )
        assert {difference.what for difference in differences} == {restore_module.MISSING}


def test_a_pack_that_no_key_here_opens_ends_the_plan_before_anything_is_stopped(tmp_path: Path, later: Any) -> None:
    """The listing of last night opens with the host's own key; that of the week in which the pack was made is gone."""
    world = World(tmp_path)
    identity = fake_age.identity()
    recipient = next(line.split()[-1] for line in identity.splitlines() if "public key" in line)
    world.settings["encryption"] = {"recipients": [recipient]}
    world.fill()
    world.take()
    for key in (tmp_path / "state" / "keys").iterdir():
        key.unlink()
    later()
    shutil.copytree(world.root / "a", world.root / "more")
    second = world.take()
    assert details(second).sources["uploads"].changed > 5, "the listing before could not be read"
    for key in (tmp_path / "state" / "keys").iterdir():
        own = key.read_text()
        key.unlink()
    later()
    listing_key = world.run
    third = backup.take(Opened(listing_key.config, identity), log=world.said.append)
    assert details(third).sources["uploads"].changed == 0
    shutil.rmtree(world.root / "a")
    with pytest.raises(age.NoKeyError, match=r"pack-2\.tar\.zst\.age"):
        world.plan()
    assert own
    assert plan.make(Opened(listing_key.config, identity), Request(), log=world.said.append).needed


def test_a_killed_recovery_of_one_path_goes_on_with_that_path(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    taken = world.take()
    (world.root / "a" / "one.txt").write_text("edited")
    (world.root / "mode").write_text("edited too")
    monkeypatch.setattr(restore_module, "restore", lambda *_more: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        world.recover(identity=taken.id, paths=("uploads/a",))
    monkeypatch.undo()
    assert world.plan().paths == ("uploads/a",)
    assert [check.result for check in world.recover().checks] == [PASS]
    assert (world.root / "a" / "one.txt").read_text() == "one\n"
    assert (world.root / "mode").read_text() == "edited too"
    assert recovery_state.unfinished(world.run.config, recovery_state.RECOVERING_FILES) is None


def test_the_way_back_leaves_the_directories_as_they_are(world: World) -> None:
    world.fill()
    taken = world.take()
    (world.root / "a" / "one.txt").write_text("edited\n")
    done = world.recover(identity=taken.id)
    modes = {name: facts[0] for name, facts in portrait(world.root).items()}
    (command,) = done.way_back
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert (world.root / "a" / "one.txt").read_text() == "edited\n"
    assert {name: facts[0] for name, facts in portrait(world.root).items()} == modes


def test_a_database_that_is_locked_is_not_waited_for_and_is_stored_with_its_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the lock may stand still because of us. With its journal SQLite takes back what was not ended."""
    monkeypatch.setattr(contents, "_LOCKED", 0.3)
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("CREATE TABLE t (n INTEGER, text TEXT)")
        writer.execute("INSERT INTO t VALUES (1, 'ended')")
        writer.execute("BEGIN EXCLUSIVE")
        writer.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * 3000) for n in range(2, 200)])
        assert (world.root / "app.db-journal").stat().st_size > 0
        began = time.monotonic()
        taken = world.take()
        assert time.monotonic() - began < 20
    assert sorted(by_path(world, taken)) == ["uploads", "uploads/app.db", "uploads/app.db-journal"]
    held = details(taken).sources["uploads"]
    assert (held.databases, held.torn) == (0, ("uploads/app.db",)), "and it is said, as nobody stood still"
    shutil.rmtree(world.root)
    assert [check.result for check in world.recover().checks] == [PASS]
    assert rows(path) == [(1,)]


# --- guards ---


def texts(world: World, count: int = 60) -> None:
    for number in range(count):
        folder = world.root / f"{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(f"invoice {number}\n" * 300)


def encrypted(world: World, ending: str = ".locked") -> None:
    for path in sorted(world.root.rglob("*")):
        if path.is_file():
            path.write_bytes(os.urandom(max(600, path.stat().st_size)))
            path.rename(path.with_name(path.name + ending))


def entries(world: World) -> list[catalog.Entry]:
    return catalog.entries(world.repo, "files", "shop")


@pytest.mark.parametrize("ending", ["", ".locked"])
def test_files_that_an_attacker_encrypted_are_kept_and_not_chosen(world: World, later: Any, ending: str) -> None:
    texts(world)
    before = portrait(world.root)
    first = world.take()
    encrypted(world, ending)
    later()
    second = world.take()
    held = details(second).sources["uploads"]
    assert (held.compared, held.rewritten, held.ruined) == (60, 60, True)
    assert any(words.startswith("WARNING: uploads: 60 of the 60 files") for words in world.said), world.said
    error = operations_backup.Taken((second,)).missing
    assert error is not None
    assert "lifeboat backup files --override" in error.remedy
    assert operations_backup.Taken((first,)).missing is None
    good, bad = entries(world)
    assert (good.good, bad.good, bad.incomplete, bad.serves) == (True, False, True, False)
    assert "as by an attacker who encrypts them" in bad.problem
    judged = catalog.for_retention([good, bad])[1]
    assert (judged.good, judged.incomplete) == (False, True), "so it makes no older one go"
    assert world.plan().backup["id"] == first.id
    later()
    third = world.take()
    assert not entries(world)[-1].good, "another night makes nothing good"
    assert [artefact.name for artefact in third.artefacts] == ["listing.zst"], "and nothing is stored again for that"
    assert world.plan(identity=third.id).backup["id"] == third.id, "who names it has it"
    done = world.recover(identity=first.id, exact=True)
    assert ([check.result for check in done.checks], portrait(world.root)) == ([PASS], before)
    later()
    assert details(world.take()).sources["uploads"].rewritten == 0
    assert entries(world)[-1].good, "what was lost is back"


def test_an_operator_may_say_that_files_are_encrypted_from_now_on(world: World, later: Any) -> None:
    texts(world)
    world.take()
    encrypted(world)
    later()
    world.take()
    later()
    accepted = world.take(override=True)
    later()
    last = world.take()
    assert [entry.good for entry in entries(world)] == [True, False, True, True]
    assert (details(accepted).accepted, details(last).reference) == (True, accepted.id)


def test_what_cannot_be_compared_any_more_is_not_good_by_that(
    world: World, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's own key of the week before the attack is gone, so that the last good listing cannot be read."""
    texts(world)
    first = world.take()
    encrypted(world)
    later()
    world.take()
    real = packs.listed

    def listed(repo: Any, manifest: Manifest, keys: Any) -> Any:
        if manifest.id == first.id:
            raise LifeboatError("decrypt", first.id, "this host's own key that opened it is gone")
        return real(repo, manifest, keys)

    monkeypatch.setattr(backup, "listed", listed)
    later()
    taken = world.take()
    assert (details(taken).sources["uploads"].rewritten, entries(world)[-1].good) == (60, False)


def moved(world: World) -> None:
    (world.root / "0").rename(world.root / "archive")
    (world.root / "1").rename(world.root / "older")


def logs(world: World) -> None:
    """Each gets the name of the one after it, and its content."""
    for number in reversed(range(59)):
        (world.root / f"{number}.gz").rename(world.root / f"{number + 1}.gz")
    (world.root / "0.gz").write_bytes(os.urandom(3000))


def restored(world: World) -> None:
    """To another disk, so that every inode is another."""
    shutil.copytree(world.root, world.root.with_name("copy"), symlinks=True)
    shutil.rmtree(world.root)
    world.root.with_name("copy").rename(world.root)


def added(world: World) -> None:
    for number in range(200):
        (world.root / f"photo-{number}").write_bytes(os.urandom(3000))


def edited(world: World) -> None:
    for path in world.root.rglob("*.gz"):
        path.write_text("a new release of the same text\n" * 400)


def packed(world: World) -> None:
    """As by `git gc`: many files of noise go into one."""
    (world.root / "pack").write_bytes(b"".join(path.read_bytes() for path in sorted(world.root.rglob("*.gz"))[:29]))
    for path in sorted(world.root.rglob("*.gz"))[:29]:
        path.unlink()


@pytest.mark.parametrize("what", [moved, logs, restored, added, edited, packed])
def test_what_applications_do_to_files_is_no_attack(world: World, later: Any, what: Callable[[World], None]) -> None:
    for number in range(60):
        (world.root / f"{number % 3}").mkdir(exist_ok=True)
        folder = world.root if what is logs else world.root / f"{number % 3}"
        (folder / f"{number}.gz").write_bytes(os.urandom(3000))
    world.take()
    what(world)
    later()
    taken = world.take()
    held = details(taken).sources["uploads"]
    assert (held.compared, held.ruined) == (60, False)
    assert held.rewritten <= 1
    assert entries(world)[-1].good


def test_of_many_files_a_sample_tells(world: World, later: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrites, "_SAMPLE", 40)
    texts(world, 600)
    world.take()
    looked: list[str] = []
    real = rewrites._is_noise
    monkeypatch.setattr(rewrites, "_is_noise", lambda node: looked.append(node.path) or real(node))
    encrypted(world)
    later()
    held = details(world.take()).sources["uploads"]
    assert 10 <= len(looked) <= 100
    assert (300 <= held.rewritten <= 900, held.ruined) == (True, True)


CONTENTS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "short text": (lambda: b"text " * 3, False),
    "short noise": (lambda: os.urandom(40), True),
    "text of two bytes a letter": (lambda: "漢字".encode() * 20, False),
    "zeros": (lambda: bytes(900), False),
    "text": (lambda: b"text " * 3000, False),
    "noise": (lambda: os.urandom(5000), True),
    "noise after text": (lambda: b"text " * 3000 + os.urandom(20_000), True),
    "noise before text": (lambda: os.urandom(5000) + b"text " * 30_000, True),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_no_compression_shortens_is_noise(tmp_path: Path, name: str) -> None:
    """Programs of attackers are in a hurry: some encrypt only the start of a file, or every other megabyte."""
    content, noise = CONTENTS[name]
    (tmp_path / "file").write_bytes(content())
    for node in walk.walk(str(tmp_path), "uploads", walk.Problems()):
        if node.name == "file":
            assert rewrites._is_noise(node) is noise
            return
    pytest.fail("the file was not walked over")


@pytest.mark.parametrize("files", ["others", "the same"])
def test_a_disk_of_another_machine_is_no_backup(
    world: World, later: Any, monkeypatch: pytest.MonkeyPatch, files: str
) -> None:
    texts(world)
    monkeypatch.setattr(backup.filesystem, "disk_of", lambda path: "uuid 1111-aaaa")
    first = world.take()
    assert details(first).sources["uploads"].disk == "uuid 1111-aaaa"
    if files == "others":
        for path in world.root.rglob("*.txt"):
            path.write_text(f"of somebody else {path.name}" * 50)
    else:
        restored(world)
    later()
    assert world.take(), "a remount changes nothing"
    monkeypatch.setattr(backup.filesystem, "disk_of", lambda path: "uuid 2222-bbbb")
    if files == "others":
        for path in world.root.rglob("*.txt"):
            path.write_text(f"of a third machine {path.name}" * 50)
        later()
        with pytest.raises(UsageError, match=r"is on another disk \(uuid 2222-bbbb\) than in .*\(uuid 1111-aaaa\)"):
            world.take()
        assert details(world.take(override=True)).accepted
    else:
        later()
        assert details(world.take()).sources["uploads"].disk == "uuid 2222-bbbb", "the files were moved there"


def test_a_disk_is_known_by_its_uuid_or_by_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = tmp_path.stat().st_dev
    own = f"{os.major(number)}:{os.minor(number)}"
    table = tmp_path / "mountinfo"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **how: real(table if str(self) == "/proc/self/mountinfo" else self, **how)
    )
    monkeypatch.setattr(filesystem_module, "_UUIDS", tmp_path / "none")
    table.write_text(f"1 0 {own} / / rw - ext4 /dev/vda rw\n")
    assert filesystem_module.disk_of(tmp_path) == ""
    table.write_text(f"1 0 0:1 / /proc rw - proc proc rw\n2 0 {own} / / rw shared:1 - nfs4 store:/uploads rw\n")
    assert filesystem_module.disk_of(tmp_path) == "nfs4 store:/uploads"
    assert filesystem_module.disk_of(tmp_path / "gone") == ""
    if os.geteuid() == 0:
        uuids = tmp_path / "uuids"
        uuids.mkdir()
        os.mknod(uuids / "1234-abcd", stat.S_IFBLK | 0o600, number)
        monkeypatch.setattr(filesystem_module, "_UUIDS", uuids)
        table.write_text(f"1 0 {own} / / rw - ext4 /dev/no-such-disk rw\n")
        assert filesystem_module.disk_of(tmp_path) == "uuid 1234-abcd"


# --- memory ---


def listing_of(count: int) -> io.BytesIO:
    data = io.BytesIO()
    writer = listing.Writer(data)
    writer.add(listing.Entry("uploads", "directory 755 0 0 1 1 1 4096"))
    digest = "0" * 64
    for number in range(count):
        status = f"file 644 0 0 1796123261351325123 1796123261351325123 {number} 100"
        writer.add(listing.Entry(f"uploads/{number:07}.jpg", status, 1 + number % 3, listing.Rest(digest)))
    data.seek(0)
    return data


def test_what_comes_back_is_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    count, data = 4000, listing_of(4000)
    (tmp_path / "selection").mkdir()
    tracemalloc.start()
    try:
        with restore_module.Selection(tmp_path / "selection") as selection:
            for found in restore_module.compare(
                "", "uploads", listing.read(data, "x"), walk.Problems(), left_out=lambda path: False, scratch=tmp_path
            ):
                assert found.row is not None
                selection.add(found.row)
            assert (selection.every.count, selection.directories.count, selection.bytes) == (count + 1, 1, count * 100)
            assert sum(spool.count for spool in selection.packs.values()) == count
            asked = [f"uploads/{number:07}.jpg" for number in range(0, count, 50)]
            assert all(map(selection.has, asked))
            assert not selection.has("uploads/none")
            assert [row.path for row in selection.directories.backwards()] == ["uploads"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count * 100, "each of them took about 1,000 bytes"


def test_what_a_pack_has_is_found_in_the_order_of_the_listing() -> None:
    """A file that changed while it was read is there twice; one that no backup needs any more is passed over."""
    rows = list(listing.read(listing_of(4), "x"))[1:]
    paths = [row.path for row in rows]
    contents_of = [io.BytesIO(str(number).encode()) for number in range(5)]
    members = zip([paths[0], paths[0], "uploads/0000000x", paths[2], "uploads/z"], contents_of)
    found = [(row.path, content and content.getvalue()) for row, content in packs.beside(iter(rows), members)]
    assert found == [(paths[0], b"0"), (paths[0], b"1"), (paths[1], None), (paths[2], b"3"), (paths[3], None)]


def test_further_names_of_a_file_that_comes_back_are_its_names_again(world: World) -> None:
    """Its attributes were changed, so that it comes back as another file; the others would be names of the old one."""
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    (world.root / "a" / "one.txt").chmod(0o600)
    done = world.recover(identity=taken.id)
    assert ([check.result for check in done.checks], portrait(world.root)) == ([PASS], before)
    assert (world.root / "a" / "one.txt").stat().st_ino == (world.root / "z-one-again").stat().st_ino
    assert not world.plan(identity=taken.id).needed


# --- what is no usual directory ---


def test_a_path_of_more_than_4096_bytes_is_kept(world: World, request: pytest.FixtureRequest) -> None:
    """No call of the system takes it as a whole."""
    request.addfinalizer(lambda: filesystem_module.remove(world.root))
    at = os.open(world.root, os.O_RDONLY)
    for _level in range(20):
        os.mkdir("d" * 250, dir_fd=at)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    handle = os.open("f" * 255, os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(handle, b"at the bottom")
    for opened in (handle, at):
        os.close(opened)
    taken = world.take()
    assert details(taken).sources["uploads"].bytes == 13
    assert {result for result, _detail in world.levels(taken).values()} == {PASS}
    filesystem_module.remove(world.root)
    assert [check.result for check in world.recover().checks] == [PASS]
    assert not world.plan(identity=taken.id).needed


def test_no_room_ends_the_plan_before_anything_is_touched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill()
    world.take()
    shutil.rmtree(world.root / "a")
    monkeypatch.setattr(plan.filesystem, "free", lambda path: 1000)
    with pytest.raises(SpaceError, match="come back, and"):
        world.plan()


def test_a_disk_that_fills_up_leaves_whole_files_and_the_same_command_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill()
    before = portrait(world.root)
    world.take()
    shutil.rmtree(world.root / "a")
    for name in ("mode", "z-one-again"):
        (world.root / name).unlink()
    real, count = restore_module.Placer.staged, list[str]()

    def full(self: Any, entry: Any, content: Any, subject: str) -> bool:
        count.append(entry.path)
        if len(count) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, entry, content, subject)

    monkeypatch.setattr(restore_module.Placer, "staged", full)
    with pytest.raises(LifeboatError, match="No space left"):
        world.recover()
    with pytest.raises(LifeboatError):
        world.take()
    monkeypatch.undo()
    assert [check.result for check in world.recover().checks] == [PASS]
    assert portrait(world.root) == before


def test_who_has_a_file_open_keeps_it_and_the_one_of_the_backup_is_there(world: World) -> None:
    world.fill()
    taken = world.take()
    path = world.root / "a" / "one.txt"
    path.write_text("of today\n")
    with path.open("r+") as held:
        done = world.recover(identity=taken.id)
        held.seek(0, os.SEEK_END)
        held.write("and more\n")
    assert [check.result for check in done.checks] == [PASS]
    assert path.read_text() == "one\n"
    (aside,) = done.aside
    assert (Path(aside) / "a" / "one.txt").read_text() == "of today\nand more\n"


@pytest.mark.parametrize("problem", ["it is of the volume driver rclone", "it is in memory"])
def test_a_volume_that_cannot_be_read_from_here_is_no_empty_backup(
    world: World, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    world.settings["files"] = {"sources": [{"name": "uploads", "volume": "uploads"}]}
    place = mounts.MountLocation("uploads", "shop_uploads", True, str(world.root), ("app",), ("app",), problem)
    monkeypatch.setattr(sources.mounts, "places", lambda run: [place])
    with pytest.raises(UsageError, match=problem):
        world.take()
    assert catalog.entries(world.repo, "files", "shop") == []


def test_many_files_in_one_directory_are_walked_in_order(world: World) -> None:
    """Of one directory the names are in memory, and nothing else."""
    for number in range(3000):
        os.close(os.open(world.root / f"{number * 7919 % 3000:04}", os.O_WRONLY | os.O_CREAT))
    taken = world.take()
    assert details(taken).sources["uploads"].files == 3000
    assert world.levels(taken, "archive")["listing"][0] == PASS


@pytest.mark.parametrize("left", ["stopped", "a mark"])
def test_what_an_earlier_recovery_stopped_is_started_though_nothing_is_missing(
    world: World, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """It was killed when every file was back: the application would stay stopped, and its files without a backup."""
    world.fill()
    world.take()
    assert not world.plan().needed
    config, started = world.run.config, list[tuple[str, ...]]()
    recovery_state.mark(config, recovery_state.RECOVERING_FILES, recovery_state.Unfinished(world.plan().backup["id"]))
    if left == "stopped":
        recovery_state.keep(config, recovery_state.STOPPED, '["app"]')
        recovery_state.unmark(config, recovery_state.RECOVERING_FILES)
    made = world.plan()
    stopped = "app" if left == "stopped" else "nothing"
    assert (made.needed, made.why) == (True, f"an earlier recovery stopped {stopped} and did not come to its end")
    assert (made.condition, made.steps[0].partition(":")[0], len(made.steps)) == ("healthy", "reopen", 2)
    run = world.run
    run.runtime = SimpleNamespace(stop=lambda *_, **__: ())  # type: ignore[assignment]

    def reopened(_run: Any, services: Any, **_how: Any) -> list[Check]:
        started.append(tuple(services))
        (config.state / recovery_state.STOPPED).unlink()
        return [Check("services", PASS)]

    monkeypatch.setattr(reopen, "reopen", reopened)
    done = recovery.recover(run, made, log=world.said.append)
    assert {check.result for check in done.checks} == {PASS}
    assert started == ([("app",)] if left == "stopped" else [])
    assert not world.plan().needed
    world.take()
