# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lost server comes back from a base and WAL: what is refused before, what lies in the directory at any moment, what
is proved, and what a killed run leaves to the next. tests/integration/test_lost_to_an_instant.py has a real one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    SpaceError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess, planned, scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.physical import choice, fill, proof
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.physical.choice import Choice, Wish
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.physical.fill import FILLING, Filled
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.physical.method import Physical
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Living, Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base as wal_base
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import receiver, send, standing
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.standing import Destination, Standing
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect as recovery_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import (
    DAMAGED,
    DOWN,
    HEALTHY,
    RECOVERING,
    Unfinished,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Tablespace
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import catalogue
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.catalogue import Catalogue, Fork, Route
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest, Position
from builders import PLAN, make_config
from test_wal_archive import World as Stored
from test_wal_archive import name as segment_name
from test_wal_catalogue import MIB, NOW, at, base, span
from test_wal_standing import AT, DETAILS, SYSTEM, Feeder, PackedBase, route

BASE = "base_backup_20261202_041000"
MARK = Unfinished(BASE, empty=True, replay="at latest", timeline=1)
PHYSICAL = planned.PhysicalRoute(
    "latest", "latest", "", BASE, 1, "2026-12-01T02:00:00.000Z", "2026-12-01T16:00:00.000Z", "0/2800000",
    "2026-12-01T16:00:00.000Z", 1000, 2000, 9.0, 22.0,
)  # fmt: skip
UP, CRASHED = ServiceState(True, True, "running"), ServiceState(True, status="exited", exit_code=1)


# --- the throw-away server whose data stays ---


class Staying(PackedBase):
    """Its data lies in a directory of this machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch, encrypted=False)
        self.ran: list[list[str]] = []
        (root / "mount").mkdir()
        monkeypatch.setattr(scratch, "DATA", str(root / "mount"))
        self.room = Standing(
            self.run, self, route(Latest()), Feeder(), "scratch", replace(DETAILS, bytes=10), root,  # type: ignore[arg-type]
            lambda text: None, Destination(root / "mount", FILLING, "7:8"),
        )  # fmt: skip
        self.data = root / "mount" / FILLING

    def step(self, argv: list[str]) -> None:
        self.ran.append(argv)
        if argv[0] != "pg_ctl":
            super().step(argv)

    def command(self, name: str, argv: list[str], **words: Any) -> Command:
        made = super().command(name, argv, **words)
        return Command(["true"]) if argv[0] == "initdb" else made


def test_it_leaves_the_settings_of_the_base_and_none_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Staying(tmp_path, monkeypatch)
    made.room.unpack(made.manifest)
    assert made.ran[0][3:] == ["7:8", str(made.data), str(made.inside), str(made.data.parent)]
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "standby.signal", "postmaster.opts"):
        (made.data / name).write_text("of the throw-away server")
    for name in ("backup_manifest", "backup_label.old"):
        (made.data / name).write_text("of the base")
    made.room.leave()
    there = {path.name: path.read_text() for path in made.data.iterdir()}
    assert there == {name: name for name in ("PG_VERSION", "postgresql.conf", "postgresql.auto.conf")}
    ran = [" ".join(argv) for argv in made.ran]
    stopped, moved = (next(i for i, words in enumerate(ran) if word in words) for word in ("pg_ctl", "backup_manifest"))
    assert stopped < moved, "nothing is moved below a server that runs"
    assert made.argv[-1] == ["initdb", "--sync-only", "-D", str(made.data)], "last, when all is in its place"


def test_data_that_could_not_be_written_to_the_disk_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Staying(tmp_path, monkeypatch)
    made.room.unpack(made.manifest)
    monkeypatch.setattr(standing, "exec_command", lambda *_, **__: Command(["sh", "-c", "echo I/O error >&2; exit 1"]))
    with pytest.raises(UnverifiedError, match=r"write the data to the disk.*I/O error"):
        made.room.leave()


# --- the WAL, before anything is touched ---


def test_every_piece_that_leads_to_the_instant_is_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(tmp_path, monkeypatch)
    folder = stored.span([(4 * MIB, 5 * MIB), (5 * MIB, 6 * MIB), (6 * MIB, 7 * MIB), (7 * MIB, 8 * MIB)])
    stored.base(5 * MIB)
    archive = stored.archive()
    way = archive.catalogue().route(Latest(), clock.now())
    assert archive.require(way, 8 * MIB) == 3 * MIB, "none before the base"
    assert archive.require(way, 6 * MIB + 1) == 2 * MIB, "none behind the instant"
    path = folder / f"{segment_name(6)}.00000000.zst"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    assert archive.require(way, 6 * MIB) == MIB
    with pytest.raises(IntegrityError, match=r"another length or SHA-256.*before=0/600000"):
        archive.require(way, 8 * MIB)


def test_wal_of_a_timeline_that_was_left_is_read_to_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Stored(tmp_path, monkeypatch)
    stored.span([(5 * MIB, 6 * MIB), (6 * MIB, 7 * MIB), (7 * MIB, 8 * MIB)])
    stored.span(
        [(6 * MIB, 7 * MIB), (7 * MIB, 8 * MIB)], timeline=2, identity="wal_backup_20261201_140000", hours=1,
        history=b"1\t0/680000\tno recovery target specified\n",
    )  # fmt: skip
    stored.base(5 * MIB)
    archive = stored.archive()
    way = archive.catalogue().route(Latest(), clock.now())
    assert (way.timeline, way.window.path) == (2, (Fork(1, 0x680000, "no recovery target specified"),))
    assert archive.require(way, 8 * MIB) == 4 * MIB, "of the first timeline none behind the fork"


# --- what is refused ---


class Source:
    """An archive whose WAL is whole. bad: why it is not."""

    bad: Optional[IntegrityError] = None

    def __init__(self, run: Opened, found: Optional[Catalogue] = None) -> None:
        self.repo = repositories.repository_of(run)
        self.passed_over: list[str] = []
        self.spans: tuple[Any, ...] = ()
        self.marks: tuple[Any, ...] = ()
        self.found = found

    def catalogue(self) -> Catalogue:
        assert self.found is not None
        return self.found

    def end(self, way: Route) -> int:
        return way.instant.lsn if isinstance(way.instant, Position) else way.until.position

    def require(self, way: Route, end: int) -> int:
        if self.bad:
            raise self.bad
        return end - way.base.start


def publish(run: Opened, **changes: Any) -> Manifest:
    details = replace(DETAILS, **{"bytes": 1000, **changes})
    tars = ["base.tar.zst", *(f"{space.oid}.tar.zst" for space in details.tablespaces)]
    artefacts = tuple(Artefact(name, 5, filesystem.sha256(b"files")) for name in tars)
    manifest = Manifest(BASE, "base", "shop", AT, AT, artefacts, {"lifeboat": "1"}, typed.plain(details))
    with repositories.repository_of(run).stage("base", BASE) as staging:
        for name in tars:
            (staging.path / name).write_bytes(b"files")
        staging.publish(manifest.to_bytes())
    return manifest


class Engine:
    """A stack without a server, and throw-away containers of an image of PostgreSQL 17 on x86_64."""

    sorting = ("2.36", "153.120")

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = DataMount("bind", "", root / "data")
        self.mount.path.mkdir()
        self.images: list[str] = []
        monkeypatch.setattr(runtime, "connect", lambda config: self)
        monkeypatch.setattr(scratch, "container", self.container)
        monkeypatch.setattr(scratch, "image_major", lambda name: 17)
        monkeypatch.setattr(scratch, "server", self.server)
        monkeypatch.setattr(standing, "exec_command", lambda name, argv, **_: Command(["echo", "x86_64"]))
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.source: Any = Source(self.run)

    def image(self, service: str) -> str:
        return "shop/postgres:17"

    def data_path(self, service: str) -> str:
        return "/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount

    @contextlib.contextmanager
    def container(self, image: str, stack: str, artefacts: Path, **_: Any) -> Iterator[str]:
        self.images.append(image)
        yield "scratch"

    @contextlib.contextmanager
    def server(self, name: str, **_: Any) -> Iterator[object]:
        yield SimpleNamespace(execute=lambda sql, **_: list(self.sorting))

    def require(self, **changes: Any) -> fill.Usable:
        publish(self.run, **changes)
        return fill.require(self.run, self.source, route(Latest()), lambda text: None)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(tmp_path, monkeypatch)


def test_what_can_be_used_is_told(engine: Engine) -> None:
    found = engine.require()
    assert (found.wal, found.details.bytes) == (0x1088118 - 0x900028, 1000)
    assert engine.images == ["shop/postgres:17"], "the one that the stack's server starts in"
    assert list(engine.mount.path.iterdir()) == [], "nothing is touched"


def test_an_image_of_another_major_is_refused_before(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "image_major", lambda name: 18)
    with pytest.raises(UsageError, match="it is of PostgreSQL 17, and the image has 18"):
        engine.require()


def test_a_machine_of_another_architecture_is_refused_before(engine: Engine) -> None:
    with pytest.raises(UsageError, match="it is of aarch64, and this machine is x86_64"):
        engine.require(architecture="aarch64")


def test_an_image_that_sorts_text_otherwise_is_refused_before(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"sorted by version 2\.31, and shop/postgres:17 has 153\.120, 2\.36.*rebuild"):
        engine.require(collversion={"shop": "2.31", "blog": "2.36"})


def test_where_versions_are_not_known_the_server_itself_is_asked_later(engine: Engine) -> None:
    engine.sorting = ()
    engine.require(collversion={"shop": "2.31"})


def test_tablespaces_are_in_no_base(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"tablespaces of its own \(fast\)"):
        engine.require(tablespaces=(Tablespace(17000, "fast"),))


def test_without_room_nothing_is_touched(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wal = 0x1088118 - 0x900028
    monkeypatch.setattr(filesystem, "free", lambda path: 1099 + wal)
    with pytest.raises(SpaceError, match=r"the old data stays beside.*nothing was changed yet"):
        engine.require()
    assert engine.images == []


def test_the_base_and_its_wal_together_must_have_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "free", lambda path: 1100 + 0x1088118 - 0x900028)
    engine.require()


def test_what_a_killed_run_has_filled_is_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed before the directory is filled again."""
    (engine.mount.path / FILLING).mkdir()
    (engine.mount.path / FILLING / "5").write_bytes(b"x" * 8192)
    monkeypatch.setattr(filesystem, "free", lambda path: 1100 + 0x1088118 - 0x900028 - 8192)
    engine.require()


def test_a_base_that_is_damaged_is_told_from_damaged_wal(engine: Engine) -> None:
    publish(engine.run)
    path = Path(engine.source.repo.root) / "base" / BASE / "base.tar.zst"
    path.chmod(0o600)
    path.write_bytes(b"filed")
    with pytest.raises(fill.DamagedBaseError, match="another SHA-256"):
        fill.require(engine.run, engine.source, route(Latest()), lambda text: None)
    path.write_bytes(b"files")
    engine.source.bad = IntegrityError("read", "piece", "it has another length or SHA-256")
    with pytest.raises(IntegrityError) as error:
        fill.require(engine.run, engine.source, route(Latest()), lambda text: None)
    assert not isinstance(error.value, fill.DamagedBaseError)


# --- the directory ---


TABLES = {"shop": ["public.t", "public.locked"], "blog": ["public.t"]}


class Session:
    def __init__(self, server: Server, database: str) -> None:
        self._server, self._database = server, database

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, *, attempted: str) -> list[object]:
        if "count(*)" not in sql:
            self._server.settings.append(sql)
            return []
        table = sql.rsplit(maxsplit=1)[-1].rstrip(";")
        where = (self._database, table)
        if where in self._server.locked and not self._server.promoted:
            raise LifeboatError(attempted, table, "lock timeout", sqlstate="55P03")
        if where in self._server.broken:
            raise LifeboatError(attempted, table, "invalid page in block 7", sqlstate="XX001")
        self._server.read.append((*where, self._server.promoted))
        return [7]


class Server:
    """A standby that has paused, and what is in it."""

    def __init__(self) -> None:
        self.tables = {name: list(tables) for name, tables in TABLES.items()}
        self.unlogged, self.locked, self.broken = {("shop", "public.cache")}, {("shop", "public.locked")}, set[Any]()
        self.shut, self.prepared = list[str](), list[dict[str, str]]()
        self.promoted = False
        self.read: list[tuple[str, str, bool]] = []
        self.sql: list[str] = []
        self.settings: list[str] = []

    def living(self) -> list[Living]:
        return [Living(name, name not in self.shut, False) for name in self.tables]

    def session(self, database: str) -> Session:
        return Session(self, database)

    def execute(self, sql: str, *, database: str = "template1", **_: Any) -> list[Any]:
        self.sql.append(sql)
        if "relkind" in sql:
            logged = [{"name": name, "unlogged": False, "kind": "r"} for name in self.tables[database]]
            there = [
                {"name": name, "unlogged": True, "kind": "r"} for where, name in self.unlogged if where == database
            ]
            return [*logged, *there]
        if "pg_prepared_xacts" in sql:
            return self.prepared if self.promoted else []
        return [2] if "pg_walfile_name" in sql else []


class Room:
    """What standing() yields. files: what a base has."""

    files = ("PG_VERSION", "base/5/1259", "global/pg_control", "postgresql.conf")

    def __init__(self, run: Opened, way: Route, folder: Path, server: Server) -> None:
        self.run, self.route, self.server, self.folder = run, way, server, folder
        self.reached = standing.Reached(
            "0/A0C3D0", AT, "recovery stopping before commit of transaction 741", 2.0, 4.0, 3
        )
        self.left = False
        for name in self.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def promote(self) -> None:
        self.server.promoted = True

    def leave(self) -> None:
        self.left = True


class Directory:
    """A data directory that is to be filled, `below` in what is mounted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, below: str = "") -> None:
        self.root, self.below = root, below
        self.mount = DataMount("bind", "", root / "volume", below)
        self.mount.path.mkdir(exist_ok=True)
        self.server, self.rooms = Server(), list[Room]()
        self.asked: list[tuple[str, Destination]] = []
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.run.runtime = SimpleNamespace(image=lambda service: "shop/postgres:17")  # type: ignore[assignment]
        self.config = self.run.config
        if not repositories.repository_of(self.run).published("base"):
            publish(self.run)
        recovery_state.mark(self.config, RECOVERING, MARK)
        monkeypatch.setattr(standing, "standing", self.standing)

    @contextlib.contextmanager
    def standing(
        self, run: Opened, source: object, way: Route, log: object, image: str, destination: Destination
    ) -> Iterator[Room]:  # fmt: skip
        self.asked.append((image, destination))
        folder = destination.mounted / destination.below
        folder.mkdir(mode=0o700, exist_ok=True)
        self.rooms.append(Room(run, way, folder, self.server))
        yield self.rooms[-1]

    def fill(self) -> Filled:
        return fill.fill(self.run, Source(self.run), route(Latest()), self.mount, lambda text: None)  # type: ignore[arg-type]

    def files(self) -> set[str]:
        return {str(path.relative_to(self.mount.data)) for path in self.mount.data.rglob("*") if path.is_file()}


@pytest.mark.parametrize("below", ["", "18/docker", "pgdata"])
def test_the_directory_has_what_the_server_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    made = Directory(tmp_path, monkeypatch, below)
    before = os.umask(0o077)
    try:
        found = made.fill()
    finally:
        os.umask(before)
    assert made.files() == set(Room.files)
    assert made.mount.data.stat().st_mode & 0o777 == 0o700
    assert not (made.mount.data / FILLING).exists()
    for parent in made.mount.data.relative_to(made.mount.path).parents:
        if str(parent) != ".":
            assert (made.mount.path / parent).stat().st_mode & 0o777 == 0o755, "the server's user goes through it"
    ((image, destination),) = made.asked
    own = made.mount.path.stat()
    assert (image, destination.below) == ("shop/postgres:17", f"{below}/{FILLING}".lstrip("/"))
    assert destination.owner == (f"{own.st_uid}:{own.st_gid}" if own.st_uid else "")
    assert made.rooms[0].left, "stopped before it was moved"
    assert (found.timeline, found.databases, found.lsn) == (2, ("shop", "blog"), "0/A0C3D0")


def test_a_mode_that_lets_the_group_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.mount.path.chmod(0o750)
    made.fill()
    assert made.mount.data.stat().st_mode & 0o777 == 0o750


def test_every_table_is_read_and_what_is_locked_after_the_promotion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.server.prepared = [{"gid": "it's", "owner": "app", "database": "shop"}]
    found = made.fill()
    assert made.server.read == [
        ("shop", "public.t", False), ("blog", "public.t", False), ("shop", "public.locked", True),
    ]  # fmt: skip
    assert all("enable_indexonlyscan = off" in sql for sql in made.server.settings), "an index alone reads no page"
    replayed, tables = found.checks
    assert (replayed.name, replayed.result, tables.name, tables.result) == ("replay", PASS, "tables", PASS)
    assert "0/A0C3D0" in replayed.detail and "before commit of transaction 741" in replayed.detail
    assert tables.detail == "3 tables of the databases shop, blog were read to their end"
    unlogged, prepared = found.notes
    assert unlogged == "unlogged tables are empty, as after a crash: public.cache in shop"
    assert "COMMIT PREPARED 'it''s'; or ROLLBACK PREPARED 'it''s'; in shop" in prepared


@pytest.mark.parametrize("when", ["before the promotion", "after it"])
def test_a_table_that_cannot_be_read_ends_it_and_nothing_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.server.broken = {("blog", "public.t") if when.startswith("before") else ("shop", "public.locked")}
    with pytest.raises(IntegrityError, match=r"cannot be read: invalid page in block 7.*-e method=rebuild"):
        made.fill()
    assert not (made.mount.data / "PG_VERSION").exists()
    assert fill.half_filled(made.mount)
    assert fill.completed(made.config, made.mount) is None
    assert ("shop", "public.t", False) in made.server.read, "the others are read all the same"


def test_a_database_that_takes_no_logins_is_not_called_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.server.shut = ["blog"]
    tables = made.fill().checks[1]
    assert (tables.result, "the database blog takes no logins" in tables.detail) == (COULD_NOT_VERIFY, True)


def test_the_new_timeline_is_received_from_its_first_byte_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.fill()
    assert not [sql for sql in made.server.sql if "replication_slot" in sql], "nothing is received here"
    (tmp_path / "again").mkdir()
    again = Directory(tmp_path / "again", monkeypatch)
    receiver.remember(again.config, receiver.Enabled(SYSTEM, 2 << 30))
    old = receiver.make_spool(again.config, SYSTEM, (os.getuid(), os.getgid()))
    again.fill()
    assert [sql for sql in again.server.sql if "pg_create_physical_replication_slot('lifeboat_wal', true)" in sql]
    assert receiver.spools(again.config)[-1].name > old.name, "what it has may be behind the instant"


STEPS = 40


def test_wherever_it_is_killed_the_next_run_has_a_whole_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each thing that is written, moved or removed; then the next run goes on, and is killed at the same place
    once more."""
    whole = 0
    for number in range(STEPS):
        root = tmp_path / str(number)
        root.mkdir()
        made = Directory(root, monkeypatch, "18/docker")
        for _ in range(2):
            with monkeypatch.context() as patched:
                kill_at(patched, number)
                with contextlib.suppress(KeyboardInterrupt):
                    run_once(made)
            there = made.files() - {f"{FILLING}/{name}" for name in Room.files}
            if "PG_VERSION" in there:
                assert there >= set(Room.files), "with PG_VERSION it could be opened, so all is there"
        filled = len(made.rooms)
        run_once(made)
        assert made.files() == set(Room.files)
        assert not (made.mount.data / FILLING).exists()
        whole += len(made.rooms) == filled
    assert 0 < whole < STEPS, "some have gone on from what was whole, others have filled it again"


def run_once(made: Directory) -> None:
    """What a recovery does with the directory."""
    if fill.completed(made.config, made.mount):
        return
    fill.clear(made.config, made.mount)
    made.server.promoted = False
    made.fill()


def kill_at(patched: pytest.MonkeyPatch, number: int) -> None:
    """The run ends before the step of that number."""
    left = [number]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*words, **more)

        return step

    for name in ("rename", "mkdir", "rmdir", "chmod", "unlink"):
        patched.setattr(Path, name, counted(getattr(Path, name)))
    patched.setattr(filesystem, "sync", counted(filesystem.sync))
    patched.setattr(filesystem, "remove", counted(filesystem.remove))
    patched.setattr(recovery_state, "keep", counted(recovery_state.keep))


@pytest.mark.parametrize(
    "changes",
    [{"since": "2026-12-01T00:00:00.000Z"}, {"backup": "base_backup_20261201_000000"}, {"replay": "before 0/A0C3D0"},
     {"timeline": 2}, {"replay": ""}, {"empty": False}],
    ids=str,
)  # fmt: skip
def test_what_another_recovery_filled_is_filled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    made = Directory(tmp_path, monkeypatch)
    made.fill()
    assert fill.completed(made.config, made.mount)
    mark = recovery_state.unfinished(made.config, RECOVERING)
    assert mark is not None
    recovery_state.keep(made.config, RECOVERING, json.dumps(typed.plain(replace(mark, **changes))))
    assert fill.completed(made.config, made.mount) is None


def test_what_was_there_before_is_not_taken_for_what_was_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Directory(tmp_path, monkeypatch)
    (made.mount.data / "PG_VERSION").write_text("17")
    assert fill.completed(made.config, made.mount) is None
    fill.clear(made.config, made.mount)
    assert made.files() == {"PG_VERSION"}, "nor removed"


def test_how_fast_it_went_is_remembered_for_the_next_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Directory(tmp_path, monkeypatch)
    assert fill.pace(made.config) == fill.Pace()
    made.fill()
    pace = fill.pace(made.config)
    assert (pace.unpack, pace.replay) == (500.0, round((0xA0C3D0 - 0x900028) / 4))
    assert pace.at, "measured here"


# --- the choice ---

PLAIN = catalogue.assemble([base(2, 5), base(10, 20)], [span(5, 15, (1, 8)), span(15, 40, (8, 16))], {})
LOST = assess.Assessment(DOWN, ("db is exited",), "exited")
AGAIN = assess.Assessment(DAMAGED, (), "running", initialised_again=True)
ALIVE = assess.Assessment(DAMAGED, ("a table is missing",), "running", damaged=("shop",))
NONE = Wish()


class Choosing:
    """damaged: ids of bases whose bytes are not as they were written."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.source = Source(self.run, PLAIN)
        self.damaged: list[str] = []
        self.error: Optional[LifeboatError] = None
        self.required: list[Route] = []
        monkeypatch.setattr(standing, "archive", self.archive)
        monkeypatch.setattr(fill, "require", self.require)
        monkeypatch.setattr(clock, "now", lambda: NOW)

    @contextlib.contextmanager
    def archive(self, run: Opened, repo: object) -> Iterator[Source]:
        yield self.source

    def require(self, run: Opened, source: object, way: Route, log: object) -> fill.Usable:
        self.required.append(way)
        if self.error:
            raise self.error
        if way.base.id in self.damaged:
            raise fill.DamagedBaseError("use", way.base.id, "base.tar.zst has another SHA-256")
        return fill.Usable(None, replace(DETAILS, bytes=2_900_000_000), 1_760_000_000, 7)  # type: ignore[arg-type]

    def choose(self, seen: assess.Assessment = LOST, **wish: Any) -> Choice:
        return choice.choose(self.run, seen, replace(NONE, **wish), lambda text: None)


@pytest.fixture
def choosing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Choosing:
    return Choosing(tmp_path, monkeypatch)


@pytest.mark.parametrize("seen", [LOST, AGAIN])
def test_a_lost_server_goes_to_the_end_of_its_wal(choosing: Choosing, seen: assess.Assessment) -> None:
    found = choosing.choose(seen)
    assert found.route is not None
    assert (found.route.instant, found.route.base.id, found.at) == (Latest(), "base_10", at(16))


@pytest.mark.parametrize(
    ("seen", "wish"),
    [
        (ALIVE, {}), (LOST, {"method": "rebuild"}), (LOST, {"method": "swap"}), (LOST, {"backup": "db_backup_1"}),
        (LOST, {"database": "shop"}), (LOST, {"continues": Unfinished("db_backup_1", empty=True)}),
        (LOST, {"newest": at(17)}),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_dump_is_taken_where_it_is_meant_or_newer(
    choosing: Choosing, seen: assess.Assessment, wish: dict[str, Any]
) -> None:
    found = choosing.choose(seen, **wish)
    assert (found.route, found.headline(at(0))) == (None, "")
    assert choosing.required == []


@pytest.mark.parametrize(
    ("instant", "base_id", "known"),
    [
        (At(at(9)), "base_2", 9), (At(at(12)), "base_10", 12), (Position(19 * MIB), "base_2", 2),
        (Latest(), "base_10", 16),
    ],
    ids=str,
)  # fmt: skip
def test_an_instant_is_gone_to_from_the_newest_base_before_it(
    choosing: Choosing, instant: Instant, base_id: str, known: float
) -> None:
    found = choosing.choose(instant=instant)
    assert found.route is not None
    assert (found.route.base.id, found.at) == (base_id, at(known))


def test_a_server_that_lives_is_rebuilt_where_that_was_asked_for(choosing: Choosing) -> None:
    found = choosing.choose(ALIVE, method="physical", instant=At(at(9)))
    assert (found.route is not None, found.tries) == (True, False)
    for named in ({"backup": "db_backup_1"}, {"database": "shop"}):
        with pytest.raises(UsageError, match="brings back the whole server to an instant"):
            choosing.choose(method="physical", **named)


def test_a_damaged_base_gives_way_to_the_one_before_it(choosing: Choosing) -> None:
    choosing.damaged = ["base_10"]
    found = choosing.choose()
    assert found.route is not None
    assert (found.route.base.id, [each.id for each in found.passed_over]) == ("base_2", ["base_10"])
    choosing.damaged = ["base_2", "base_10"]
    with pytest.raises(IntegrityError, match=r"base_10: .*base_2: .*No base that leads there is whole"):
        choosing.choose(instant=Latest())


REFUSED: list[tuple[Instant, str]] = [
    (At(at(21)), "it has not come yet"), (At(at(18)), "not in the repository yet"),
    (Position(50 * MIB), "it is behind 0/2800000"), (Position(4 * MIB), "no base leads"),
]  # fmt: skip


@pytest.mark.parametrize(("instant", "cause"), REFUSED, ids=str)
def test_what_cannot_be_gone_to_is_refused_with_the_nearest_instants(
    choosing: Choosing, instant: Instant, cause: str
) -> None:
    with pytest.raises(UsageError) as error:
        choosing.choose(instant=instant)
    assert cause in error.value.cause
    assert "2026-12-01T16:00:00.000Z" in error.value.remedy
    assert ("-e method=rebuild" in error.value.remedy) is isinstance(instant, At), "no dump is of a position"
    assert choosing.required == []


def test_an_instant_in_a_gap_or_on_two_timelines_is_named_again(choosing: Choosing) -> None:
    choosing.source.found = catalogue.assemble([base(2, 5), base(10, 20)], [span(5, 40, (1, 16), gaps=[(9, 20)])], {})
    with pytest.raises(UsageError, match="it is in a gap"):
        choosing.choose(instant=At(at(6)))
    choosing.source.found = catalogue.assemble(
        [base(2, 5)], [span(5, 30, (1, 12)), span(20, 40, (9, 16), timeline=2)],
        {(SYSTEM, 2): (Fork(1, 20 * MIB),)},
    )  # fmt: skip
    with pytest.raises(UsageError, match="timeline"):
        choosing.choose(instant=At(at(11)))
    found = choosing.choose(instant=At(at(11)), timeline=1)
    assert found.route is not None and found.route.timeline == 1


def test_a_time_before_the_window_is_a_matter_of_dumps_and_that_is_said_first(choosing: Choosing) -> None:
    found = choosing.choose(instant=At(at(1.5)))
    assert found.route is None
    assert found.headline(at(0)) == (
        "NOT the instant 2026-12-01T01:30:00.000Z, but 2026-12-01T00:00:00.000Z, 1 h 30 min before it: it is before all"
        " that can be gone back to"
    )
    with pytest.raises(UsageError, match="it is before all"):
        choosing.choose(instant=At(at(1.5)), method="physical")


def test_without_a_way_to_the_end_the_dump_says_how_much_is_lost(choosing: Choosing) -> None:
    choosing.source.found = catalogue.assemble([], [span(5, 40, (1, 16))], {})
    assert choosing.choose().headline(at(3.5)) == (
        "NOT the instant 2026-12-01T16:00:00.000Z, but 2026-12-01T03:30:00.000Z, 12 h 30 min before it: no base leads"
        " to WAL that was received"
    )


def test_where_the_base_cannot_be_used_and_nothing_was_named_the_dump_says_why_first(choosing: Choosing) -> None:
    choosing.error = IntegrityError(
        "read", "piece", "it has another SHA-256", "Go to an instant before it: before=0/6."
    )
    found = choosing.choose()
    assert found.route is None
    assert found.headline(at(19)) == (
        "NOT the instant 2026-12-01T20:00:00.000Z, but 2026-12-01T19:00:00.000Z, 1 h before it: piece: it has another"
        " SHA-256. Go to an instant before it: before=0/6."
    )
    for named in ({"instant": Latest()}, {"method": "physical"}, {"continues": MARK}):
        with pytest.raises(IntegrityError, match="another SHA-256"):
            choosing.choose(**named)
    choosing.error = UsageError("use", "base_10", "it is of PostgreSQL 17, and the image has 18")
    with pytest.raises(UsageError, match="the image has 18"):
        choosing.choose()


def test_where_no_wal_is_received_a_dump_is_taken(choosing: Choosing, tmp_path: Path) -> None:
    choosing.run = Opened(make_config(tmp_path))
    assert choosing.choose() == Choice(cause="lifeboat_wal is not enabled for this stack")
    assert choosing.choose().headline(at(0)) == ""
    assert "1 h before it: lifeboat_wal is not enabled" in choosing.choose(instant=At(at(5))).headline(at(4))
    assert choosing.choose(instant=At(at(5))).headline(at(5)) == ""
    for wish in ({"method": "physical"}, {"instant": Position(MIB)}):
        with pytest.raises(UsageError, match="lifeboat_wal is not enabled"):
            choosing.choose(**wish)


def test_a_replay_that_has_not_ended_goes_on_to_the_same_instant(choosing: Choosing) -> None:
    mark = Unfinished("base_2", empty=True, replay="at 2026-12-01T09:00:00.000001+00:00", timeline=1)
    for seen in (LOST, ALIVE):
        found = choosing.choose(seen, continues=mark, newest=at(17))
        assert found.route is not None
        assert (found.route.instant, found.tries) == (At(at(9) + timedelta(microseconds=1)), False)
    found = choosing.choose(continues=mark, instant=Latest())
    assert found.route is not None and found.route.instant == Latest(), "unless another one is named"
    assert choosing.choose(continues=mark, method="rebuild").route is None, "or the dump"


@pytest.mark.parametrize("instant", [At(at(9) + timedelta(microseconds=1)), Latest(), Position(20 * MIB + 8)], ids=str)
def test_the_instant_of_a_plan_is_read_as_it_was_written(choosing: Choosing, instant: Instant) -> None:
    way = choice.route_of(choosing.choose(instant=instant), choosing.run.config)
    assert way is not None
    assert choice.read(choice.written(way)) == instant


# --- the plan ---


class Down:
    """A stack whose server does not answer; `up`: it runs."""

    def __init__(self, mount: DataMount) -> None:
        self.mount, self.up, self.comes_up = mount, False, True
        self.diary: list[str] = []

    def state(self, service: str) -> ServiceState:
        return UP if self.up else CRASHED

    def data_path(self, service: str) -> str:
        return "/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount

    def dependants(self, service: str) -> list[str]:
        return ["backend"]

    def one_offs(self, *services: str) -> list[str]:
        return []

    def logs(self, service: str, lines: int = 30) -> str:
        return ""

    def by_hand(self, service: str) -> tuple[str, str]:
        return f"stop {service}", "start all"

    def start(self, services: Any, *, timeout: float) -> None:
        self.diary.append(f"start {' '.join(services)}")
        self.up = self.comes_up or "fill" in self.diary

    def stop(self, services: Any, *, timeout: float) -> tuple[str, ...]:
        self.diary.append(f"stop {' '.join(services)}")
        return ()

    def discard(self, service: str, *, timeout: float) -> None:
        self.diary.append(f"discard {service}")
        self.up = False

    def prepare(self, service: str, *, timeout: float) -> None:
        self.diary.append(f"prepare {service}")
        self.mount.path.mkdir()

    def image(self, service: str) -> str:
        return "shop/postgres:17"


class Answering:
    """The server when it is up. system, databases: what it says of itself."""

    system, recovering, timeline = SYSTEM, False, 2
    databases = ("blog", "shop")
    database, user, host = "shop", "postgres", ""

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if "pg_control_checkpoint" in sql:
            return [{"system": self.system, "recovering": self.recovering, "timeline": self.timeline}]
        return ["*"]

    def living(self) -> list[Living]:
        return [Living(name, True, False) for name in self.databases]

    def reap(self) -> int:
        return 0


class Lost:
    """A stack whose server is lost, with a base and WAL in its repository and no dump."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data = root / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "PG_VERSION").write_text("the old one")
        self.stack = Down(DataMount("bind", str(self.data), self.data))
        self.server = Answering()
        monkeypatch.setattr(runtime, "connect", lambda config: self.stack)
        monkeypatch.setattr(
            database_server, "reach", lambda run: Reached(self.server if self.stack.up else None, "it is down")
        )
        monkeypatch.setattr(database_server, "connect", lambda config, runtime: self.server)
        monkeypatch.setattr(recovery_protect, "PATIENCE_WHEN_EXITED", -1.0)
        monkeypatch.setattr(recovery_protect.time, "sleep", lambda _: None)
        self.moment = NOW
        monkeypatch.setattr(clock, "now", lambda: self.moment)
        self.run = Opened(make_config(root, wal={"enabled": True}, application={"writers": ["backend", "worker"]}))
        self.config, self.source = self.run.config, Source(self.run, PLAIN)
        self.manifest = publish(self.run)
        monkeypatch.setattr(standing, "archive", self.archive)
        monkeypatch.setattr(fill, "require", self.require)
        monkeypatch.setattr(fill, "fill", self.fill)
        self.filled: list[Route] = []
        self.ends: Optional[LifeboatError] = None

    @contextlib.contextmanager
    def archive(self, run: Opened, repo: object) -> Iterator[Source]:
        yield self.source

    def require(self, run: Opened, source: object, way: Route, log: object) -> fill.Usable:
        return fill.Usable(self.manifest, replace(DETAILS, bytes=2_900_000_000), 1_760_000_000, 7)

    def fill(self, run: Opened, source: object, way: Route, mount: DataMount, log: object) -> None:
        self.filled.append(way)
        self.stack.diary.append("fill")
        assert [path.name for path in mount.data.iterdir()] == [], "into an empty directory"
        if self.ends:
            (mount.data / FILLING).mkdir()
            (mount.data / FILLING / "PG_VERSION").write_text("half of it")
            raise self.ends
        (mount.data / "PG_VERSION").write_text("the new one")
        self.remember()

    def remember(self) -> None:
        mark = recovery_state.unfinished(self.config, RECOVERING)
        assert mark is not None
        made = Filled(
            mark.since, mark.backup, mark.replay, mark.timeline, SYSTEM, "0/A0C3D0", "", 2, ("shop", "blog"),
            (proof.Check("replay", PASS, "x"), proof.Check("tables", PASS, "3 tables")), ("unlogged tables are empty",),
            1.0, 2.0,
        )  # fmt: skip
        recovery_state.keep(self.config, fill.FILLED, json.dumps(typed.plain(made)))

    def plan(self, instant: Optional[Instant] = None, **request: Any) -> planned.Plan:
        if instant:
            replay = planned.Replay(str(instant), str(instant), "", 1, BASE, "2026-12-01T02:00:00.000Z", 1, "")
            request.update(state=replay.instant, replay=replay)
        made = database_plan.make(self.run, database_plan.Request(**request), log=lambda text: None)
        return typed.build(planned.Plan, json.loads(json.dumps(typed.plain(made))), wrong)

    def protect(self, made: planned.Plan) -> database_protect.ProtectedDatabase:
        return database_protect.protect(self.run, made, log=lambda text: None)

    def recover(self, **request: Any) -> database_protect.ProtectedDatabase:
        self.moment += timedelta(seconds=1)
        return self.protect(self.plan(**request))


def wrong(field: str, cause: str) -> UsageError:
    return UsageError("read", field, cause)


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lost:
    return Lost(tmp_path, monkeypatch)


def assessed(monkeypatch: pytest.MonkeyPatch, condition: str, **more: Any) -> None:
    """What is seen of the server once it was started."""

    def look(run: Opened, reference: object) -> assess.Assessment:
        if not run.runtime.state("db").running:
            return LOST
        return assess.Assessment(condition, ("why",) if condition != HEALTHY else (), "running", **more)

    monkeypatch.setattr(assess, "assess", look)


def test_the_plan_says_by_what_and_what_is_lost(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that has no dump at all is planned for, too."""
    found = choice.Choice(
        replace(PLAIN.route(Latest(), NOW), base=replace(PLAIN.windows[0].bases[1], id=BASE)),
        lost.require(lost.run, None, None, None), at(16),  # type: ignore[arg-type]
    )  # fmt: skip
    monkeypatch.setattr(choice, "choose", lambda *_: found)
    made = lost.plan()
    assert (made.mode, made.needed, made.condition) == ("start", True, DOWN)
    assert made.physical is not None
    assert (made.backup["id"], made.backup["taken_at"], made.backup["place"]) == (
        BASE, "2026-12-01T16:00:00.000Z", "repository",
    )  # fmt: skip
    text = database_plan.text(made)
    assert text[0] == "the database is down"
    for row in (
        "the whole server comes back from a base and the WAL behind it: latest",
        "  any instant from 2026-12-01T02:00:00.000Z to 2026-12-01T16:00:00.000Z (4 h ago, 0/2800000), timeline 1",
        f"  {BASE}, 5 B, NOT proven by a replay, then at most 1.8 GB of WAL",
        "  about 30 s: unpack 10, replay 20; as measured elsewhere, never here",
        "data written after 2026-12-01T16:00:00.000Z (4 h before this plan) will be missing; it is kept aside",
    ):
        assert row in text, text
    assert [step.split(":")[0] for step in made.steps][:3] == ["protect"] * 3
    assert "in a throw-away container without a network" in made.steps[3]
    assert made.steps[-2].startswith("then: take a new base")


def test_the_plan_names_what_waits_in_the_spool(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent before the replay to the latest begins; a named instant is before it."""
    asked: list[Instant] = []
    waits: list[Any] = [send.Waiting(3_000_000, at(17)), None, LifeboatError("read", "the spool", "it is unlike one")]

    def waiting(config: object) -> Optional[send.Waiting]:
        asked.append(instant)
        if isinstance(waits[0], LifeboatError):
            raise waits[0]
        return waits[0]  # type: ignore[no-any-return]

    monkeypatch.setattr(send, "waiting", waiting)
    monkeypatch.setattr(choice, "choose", lambda *_: found)
    line = "  but for 3.0 MB of WAL that was received until 2026-12-01T17:00:00.000Z: it is sent first"
    for instant, shown in ((Latest(), True), (At(at(9)), False), (Latest(), False), (Latest(), False)):
        found = choice.Choice(
            replace(PLAIN.route(instant, NOW), base=replace(PLAIN.windows[0].bases[1], id=BASE)),
            lost.require(lost.run, None, None, None), at(16),  # type: ignore[arg-type]
        )  # fmt: skip
        made = lost.plan()
        assert made.physical is not None
        assert (line in database_plan.text(made)) is shown
        assert (made.physical.spool, made.physical.spooled_at != "") == (3_000_000 if shown else 0, shown)
        if isinstance(instant, Latest):
            waits.pop(0)
    assert asked == [Latest()] * 3


def test_a_recovery_point_or_the_dump_is_planned_with_as_ever(lost: Lost) -> None:
    for request in ({"identity": "db_backup_20261124_120000"}, {"method": "rebuild"}):
        with pytest.raises(LifeboatError, match="backup"):
            lost.plan(**request)


# --- protect ---


def on_the_way(lost: Lost) -> planned.Plan:
    """A plan whose base is one of the catalogue's."""
    made = lost.plan()
    assert made.physical is not None
    return made


@pytest.fixture
def planning(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> Lost:
    """The catalogue's newest base is the one that is published."""
    bases = [replace(base(2, 5), id="base_backup_20261201_020000"), replace(base(10, 20), id=BASE)]
    lost.source.found = catalogue.assemble(bases, [span(5, 15, (1, 8)), span(15, 40, (8, 16))], {})
    return lost


def test_a_server_that_does_not_come_up_is_filled_from_the_base(planning: Lost) -> None:
    planning.stack.comes_up = False
    done = planning.recover()
    assert planning.stack.diary == ["stop backend worker", "start db", "discard db", "fill", "start db"]
    assert (done.mode, done.fresh, done.replaced, done.copied) == ("rebuild", True, (), "")
    assert (Path(done.quarantine) / "PG_VERSION").read_text() == "the old one"
    assert (planning.data / "PG_VERSION").read_text() == "the new one"
    (way,) = planning.filled
    assert (way.base.id, way.instant, way.timeline) == (BASE, Latest(), 1)
    mark = planned.resumed(planning.config)
    assert mark and (mark.backup, mark.replay, mark.timeline) == (BASE, "at latest", 1)
    assert not (planning.config.state / "closed.json").exists(), "what was proved is closed to nobody"


def test_a_server_that_comes_up_whole_is_not_replaced(planning: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    assessed(monkeypatch, HEALTHY)
    done = planning.recover()
    assert (done.mode, planning.filled) == ("started", [])
    assert (planning.data / "PG_VERSION").read_text() == "the old one"
    assert recovery_state.unfinished(planning.config, RECOVERING) is None


def test_a_server_that_comes_up_whole_goes_to_the_instant_that_was_asked_for(
    planning: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assessed(monkeypatch, HEALTHY)
    done = planning.recover(instant=At(at(12)))
    assert (done.mode, [way.instant for way in planning.filled]) == ("rebuild", [At(at(12))])


def test_a_server_that_comes_up_damaged_is_planned_anew(planning: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it is in its WAL, too: the end of that would be the same again."""
    assessed(monkeypatch, DAMAGED, damaged=("shop",))
    with pytest.raises(LifeboatError, match=r"The server is up.*run the same command again"):
        planning.recover()
    assert planning.filled == []
    assert (planning.data / "PG_VERSION").read_text() == "the old one"


def test_an_empty_server_that_the_image_made_is_filled(planning: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    assessed(monkeypatch, DAMAGED, damaged=("shop",), initialised_again=True)
    assert planning.recover().mode == "rebuild"
    assert len(planning.filled) == 1


def test_a_volume_that_is_gone_is_made_before_it_is_filled(planning: Lost) -> None:
    planning.stack.comes_up = False
    gone = planning.data.with_name("gone")
    planning.stack.mount = DataMount("bind", str(gone), gone)
    planning.recover()
    assert planning.stack.diary[2:] == ["discard db", "prepare db", "fill", "start db"]


def test_what_was_received_last_is_sent_first(planning: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    planning.stack.comes_up = False
    receiver.remember(planning.config, receiver.Enabled(SYSTEM, 2 << 30))
    sent: list[list[str]] = []
    monkeypatch.setattr(send, "send", lambda run, log: sent.append([*planning.stack.diary]))
    planning.recover()
    assert sent == [["stop backend worker", "start db", "discard db"]]

    def away(run: object, log: object) -> None:
        raise SpaceError("send WAL", "the repository", "it is full")

    monkeypatch.setattr(send, "send", away)
    said: list[str] = []
    planning.moment += timedelta(seconds=1)
    planning.stack.up = False
    planning.stack.diary.clear()
    recovery_state.unmark(planning.config, RECOVERING)
    database_protect.protect(planning.run, planning.plan(), log=said.append)
    assert "what was received last may be missing: it is full" in said


def test_a_fill_that_fails_leaves_nothing_to_open_and_the_same_command_goes_on(planning: Lost) -> None:
    planning.stack.comes_up = False
    planning.ends = IntegrityError("stand at an instant", "latest", "the WAL cannot be read", "Go before it.")
    with pytest.raises(IntegrityError, match=r"The old data lies in .*quarantine"):
        planning.recover()
    assert (planning.stack.diary[-1], planning.stack.up) == ("fill", False), "nothing is started"
    planning.ends = None
    made = planning.plan()
    assert (made.mode, f"the recovery of {BASE} that began at" in made.why) == ("rebuild", True)
    planning.stack.diary.clear()
    done = planning.protect(made)
    assert planning.stack.diary == ["stop backend worker", "discard db", "fill", "start db"]
    assert done.quarantine == "", "the old data lies where the first run put it, and what it half filled is gone"
    aside = [path for path in planning.data.parent.iterdir() if "quarantine" in path.name]
    assert [(path / "PG_VERSION").read_text() for path in aside] == ["the old one"]


def test_a_directory_that_is_half_filled_is_never_started(planning: Lost) -> None:
    """Whatever the next run goes by, and whoever set the mark aside."""
    (planning.data / FILLING).mkdir()
    made = replace(PLAN, mode="start", writers=("backend",))
    protection = database_protect._Protection(planning.run, made, lambda text: None)
    assert protection.hopeless() == f"a recovery that was filling {planning.data} has not ended"
    (planning.data / FILLING).rmdir()
    assert "has not ended" not in protection.hopeless()


def test_an_empty_directory_is_not_started_to_see_whether_its_server_comes_up(
    planning: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image would make an empty one. By a dump it is made: that is then what gets the data."""
    made = replace(PLAN, mode="start", writers=("backend",), physical=PHYSICAL)
    by_base = database_protect._FromBase(planning.run, made, PHYSICAL, lambda text: None)
    by_dump = database_protect._Protection(planning.run, made, lambda text: None)
    (planning.data / "lost+found").mkdir()
    assert by_base.hopeless() == by_dump.hopeless(), "something lies there"
    filesystem.remove(planning.data)
    planning.data.mkdir()
    assert (by_base.hopeless(), by_dump.hopeless()) == (f"{planning.data} is empty", "")
    gone = DataMount("volume", "shop_data", Path())
    monkeypatch.setattr(database_protect._FromBase, "data_mount", lambda self: gone)
    assert by_base.hopeless() == "there is no volume shop_data"


def test_a_run_that_was_killed_when_the_server_started_is_not_filled_again(planning: Lost) -> None:
    planning.stack.comes_up = False
    planning.recover()
    planning.stack.diary.clear()
    planning.stack.comes_up = True
    done = planning.recover()
    assert planning.stack.diary == ["stop backend worker", "start db"]
    assert (done.mode, done.fresh, len(planning.filled)) == ("rebuild", True, 1)
    planning.recover(instant=At(at(12)))
    assert [way.instant for way in planning.filled] == [Latest(), At(at(12))], "another instant is another directory"


# --- restore ---


@pytest.fixture
def back(planning: Lost) -> Lost:
    planning.stack.comes_up = False
    planning.recover()
    return planning


def test_a_server_that_runs_with_what_was_filled_ends_the_recovery(back: Lost) -> None:
    done = database_recovery.finish(back.run, BASE, requested="T", log=lambda text: None)
    assert [(check.name, check.result) for check in done.checks] == [
        ("replay", PASS), ("tables", PASS), ("server", PASS), ("databases", PASS),
    ]  # fmt: skip
    assert [(item.name, item.action) for item in done.databases] == [("shop", "restored"), ("blog", "restored")]
    assert done.notes[0] == "differs: unlogged tables are empty"
    assert "no WAL is received, so no new base was taken" in done.notes[1]
    last = recovery_state.recovered(back.config)
    assert last and (last.id, last.requested, last.databases) == (BASE, "T", ("shop", "blog"))
    assert recovery_state.unfinished(back.config, RECOVERING) is None
    assert not (back.config.state / fill.FILLED).exists()
    assert list(recovery_state.kept_closed(back.config)) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"system": "8"}, "it is the server 8"), ({"recovering": True}, "it is in recovery"),
     ({"timeline": 1}, "its timeline is 1, not 2"), ({"databases": ("shop",)}, "the database blog are missing")],
    ids=str,
)  # fmt: skip
def test_another_server_ends_no_recovery(back: Lost, changes: dict[str, Any], cause: str) -> None:
    for name, value in changes.items():
        setattr(back.server, name, value)
    with pytest.raises(IntegrityError, match=cause):
        database_recovery.finish(back.run, BASE, log=lambda text: None)
    assert planned.resumed(back.config), "backups wait, and the application stays stopped"


def test_what_was_not_filled_is_not_called_restored(back: Lost) -> None:
    recovery_state.unmark(back.config, fill.FILLED)
    with pytest.raises(UsageError, match="no data directory was filled from it"):
        database_recovery.finish(back.run, BASE, log=lambda text: None)


def test_a_new_base_follows_when_the_application_runs(back: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.remember(back.config, receiver.Enabled(SYSTEM, 2 << 30))
    taken: list[bool] = []

    def take(run: Opened, log: object) -> None:
        taken.append(recovery_state.unfinished(run.config, RECOVERING) is None)

    monkeypatch.setattr(wal_base, "take", take)
    later: list[Callable[[], None]] = []
    database_recovery.finish(back.run, BASE, later=later, log=lambda text: None)
    assert taken == []
    later[0]()
    assert taken == [True], "a base is refused while the mark stands"


def test_a_base_that_fails_is_no_failed_recovery(back: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.remember(back.config, receiver.Enabled(SYSTEM, 2 << 30))

    def full(run: Opened, log: object) -> None:
        raise SpaceError("take a base", "/backup", "2 GB are free there")

    monkeypatch.setattr(wal_base, "take", full)
    done = database_recovery.finish(back.run, BASE, log=lambda text: None)
    assert done.notes[-1] == "no new base was taken (2 GB are free there): lifeboat wal base"


def test_what_a_base_alone_cannot_say_is_not_made_up() -> None:
    manifest: Any = SimpleNamespace(id=BASE, finished_at=AT)
    with pytest.raises(UsageError, match="lifeboat wal verify"):
        list(Physical().levels(None, manifest, Path(), "restore", print))  # type: ignore[arg-type]
    assert Physical().mode(LOST) == "empty"
    assert Physical().instant(manifest, AT + timedelta(hours=1)) == AT + timedelta(hours=1)
    assert Physical().instant(manifest, AT - timedelta(hours=1)) == AT
