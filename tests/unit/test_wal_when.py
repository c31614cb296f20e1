# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat wal instants`, `wal verify` and `when`: what is run, what is said, and what is asked of pg_waldump.

pg_waldump is a script that prints what a real one printed (test_wal_records.py).
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UnverifiedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.command import wal as command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import archive, relations, standing, when
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.relations import Entry
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import Position
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import (
    PieceName,
    Segment,
    format_lsn,
    parse_lsn,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Writer
from builders import make_config
from test_wal_records import DATA

MIB, SYSTEM = 1 << 20, "7412345678901234567"
AT = datetime(2026, 12, 2, 4, 10, 50, tzinfo=timezone.utc)  # when the recording began
END = 0x1088118
BASE = "base_backup_20261202_041000"


class World:
    """A repository with the WAL of the recording, whose bytes nobody reads, and a pg_waldump that knows it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.log = root, list[str]()
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.repo = repositories.repository_of(self.run)
        self.argv: list[list[str]] = []
        self.living: list[Entry] = []
        self.mounts: list[list[str]] = []
        self.script = ""
        self.major = 17
        monkeypatch.setattr(archive, "_UNPACK", ("cat",))
        monkeypatch.setattr(scratch, "sweep", lambda stack: None)
        monkeypatch.setattr(scratch, "account", lambda name: "postgres")
        monkeypatch.setattr(scratch, "container", self.container)
        monkeypatch.setattr(scratch, "ended", lambda name: "")
        monkeypatch.setattr(standing, "refuse_unlike", lambda name, details, identity: None)
        monkeypatch.setattr(when, "exec_command", self.command)
        monkeypatch.setattr(clock, "now", lambda: AT + timedelta(hours=1))
        monkeypatch.setattr(database_server, "connect", lambda config, runtime: None)
        monkeypatch.setattr(relations, "read", lambda server: self.living)
        (root / "locks").mkdir()
        self.base()
        to = Writer(self.repo, "shop", "wal_backup_20261202_041000", MIB, 170_012)
        entries = [
            to.add(str(PieceName(Segment(1, number, MIB), 0)), b"x" * size, size)
            for number in range(9, 17)
            for size in [min(MIB, END - number * MIB)]
        ]
        to.note(Reached(SYSTEM, 1, "0/A00000", AT), entries[:1])
        to.note(Reached(SYSTEM, 1, format_lsn(END), AT + timedelta(minutes=5)), entries[1:])

    def base(self) -> None:
        details = BaseDetails(SYSTEM, 170_012, 1, "0/900028", "0/900120", image="postgres:17", segment_size=MIB)
        listed = relations.to_bytes(
            [Entry(5, 16395, "app", "items", "r", 16395), Entry(5, 16400, "app", "old", "r", 1)]
        )
        files = {"base.tar.zst": b"files", relations.FILE: listed}
        with self.repo.stage("base", BASE) as staging:
            for name, data in files.items():
                (staging.path / name).write_bytes(data)
            artefacts = tuple(Artefact(name, len(data), filesystem.sha256(data)) for name, data in files.items())
            made = Manifest(BASE, "base", "shop", AT, AT, artefacts, {"lifeboat": "1"}, plain(details))
            staging.publish(made.to_bytes())

    @contextlib.contextmanager
    def container(self, image: str, stack: str, artefacts: Path, *, timeout: float) -> Iterator[str]:
        self.mounts.append(sorted(path.name for path in artefacts.iterdir()))
        yield "scratch"

    def command(self, name: str, argv: list[str], **_: Any) -> Command:
        self.argv.append(argv)
        if self.script:
            return Command(["sh", "-c", self.script])
        words = " ".join(argv)
        data = DATA / str(self.major)
        if xid := re.search(r"--xid=(\d+)", words):
            return Command(["grep", "-E", f"tx: +{xid[1]},", str(data / "effects.txt")])
        if "--rmgr=Heap" in words or "--relation" in words:
            return Command(["cat", str(data / "heap.txt")])
        kind = re.search(r"--rmgr=(\w+)", words)
        if kind and kind[1] == "XLOG":
            row = "rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/00A00308, prev 0/00A002D0, "
            return Command(["printf", "%s\\n", f"{row}desc: RESTORE_POINT before-upgrade"])
        return Command(["cat", str(data / f"{kind[1].lower() if kind else ''}.txt")])

    def when(self, **words: Any) -> tuple[dict[str, Any], list[str]]:
        given = {"since": "2h", "table": "", "rows": 30, "timeline": 0, **words}
        status, result, shown = command.when(self.run, argparse.Namespace(**given), self.log.append)
        assert status == 0
        return result, list(shown)  # type: ignore[return-value]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: None) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this test's own."""
    monkeypatch.setattr(instants.lock, "verifying", lambda stack, purpose: contextlib.nullcontext())


def test_what_happened_is_told_with_the_command_to_paste(world: World) -> None:
    result, shown = world.when()
    (drop,) = [event for event in result["events"] if event["transaction"] == 741]
    assert drop == {
        "what": "DROP TABLE", "transaction": 741, "at": "2026-12-02T04:10:56.167Z", "before": "0/A0C3D0",
        "last_commit_before": "2026-12-02T04:10:51.529Z", "timeline": 1, "database": 5, "relations": ["app.items"],
        "oids": [16395], "rows": 0,
        "command": "lifeboat recover database --stack shop --before 0/A0C3D0 --timeline 1",
    }  # fmt: skip
    assert shown[:3] == [
        "2026-12-02T04:10:56.167Z  DROP TABLE app.items, transaction 741",
        "  the instant before it: 0/A0C3D0, last commit 2026-12-02T04:10:51.529Z",
        "  lifeboat recover database --stack shop --before 0/A0C3D0 --timeline 1",
    ]
    what = [(event["what"], event["transaction"]) for event in result["events"]]
    assert ("TRUNCATE", 742) in what
    assert ("DELETE", 744) in what
    assert ("DROP DATABASE", 763) in what
    assert not {746, 747, 748, 756} & {xid for _what, xid in what}
    assert [event["before"] for event in result["events"]] == sorted(
        (event["before"] for event in result["events"]), key=parse_lsn
    )


def test_pg_waldump_reads_the_segments_that_are_needed(world: World) -> None:
    world.when(since=format_time(AT + timedelta(seconds=1)))
    first = world.argv[0]
    assert first[:7] == ["pg_waldump", "--path", "/backup", "--timeline", "1", "--start", "0/A00000"]
    assert first[7:] == ["--end", "0/1088118", "--rmgr=Standby"]
    assert world.mounts == [[Segment(1, number, MIB).name for number in range(10, 17)]]
    effects = next(argv for argv in world.argv if "--xid=750" in argv)
    assert effects[effects.index("--end") + 1] == "0/B7FB38", "no further than to its COMMIT"
    assert not list(world.run.config.state.glob("standing-*")), "nothing decrypted is left"


def test_the_living_server_names_what_the_base_does_not(world: World) -> None:
    world.living = [Entry(5, 16400, "app", "emptied", "r", 16445), Entry(5, 16408, "app", "deleted", "r", 16408)]
    result, _shown = world.when()
    names = {event["transaction"]: event["relations"] for event in result["events"]}
    assert (names[741], names[742], names[744]) == (["app.items"], ["app.emptied"], ["app.deleted"])


def test_only_one_table_is_asked_for_by_its_file(world: World) -> None:
    world.living = [Entry(5, 16408, "app", "deleted", "r", 16408)]
    result, _shown = world.when(table="app.deleted")
    assert {event["what"] for event in result["events"]} >= {"DELETE"}
    assert all("app.deleted" in event["relations"] or event["what"] == "DROP DATABASE" for event in result["events"])
    assert any("--relation=1663/5/16408" in argv for argv in world.argv)
    assert not any("--rmgr=Heap" in argv for argv in world.argv), "which takes ten times as long"
    with pytest.raises(NotFoundError, match="a table of that name"):
        world.when(table="app.nosuch")


def test_rows_are_not_counted_where_nobody_asks(world: World) -> None:
    result, _shown = world.when(rows=0)
    assert not any("--rmgr=Heap" in argv for argv in world.argv)
    assert not {"DELETE", "UPDATE"} & {event["what"] for event in result["events"]}


def test_what_happened_before_is_left_out(world: World) -> None:
    result, _shown = world.when(since="2026-12-02T04:11:30Z")
    assert {event["transaction"] for event in result["events"]} == {753, 760, 761, 763}
    result, shown = world.when(since="1s")
    assert (result["events"], len(shown)) == ([], 1)
    assert shown[0].startswith("nothing was dropped, truncated, deleted or updated in bulk since")


def test_the_end_of_the_wal_is_no_failure_and_damage_is_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script = (
        "echo 'pg_waldump: error: error in WAL record at 0/10880F0: invalid record length at 0/1088118: expected at"
        " least 24, got 0' >&2; exit 1"
    )
    assert world.when()[0]["events"] == []
    world.script = world.script.replace("0/1088118", "0/C00000")
    with pytest.raises(IntegrityError, match=r"WAL at 0/C00000.*wal base"):
        world.when()
    world.script = "echo 'pg_waldump: error: could not open file' >&2; exit 1"
    with pytest.raises(UnverifiedError, match="could not open file"):
        world.when()


def test_a_full_disk_is_seen_before_it_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "free", lambda path: MIB)
    with pytest.raises(SpaceError, match="the WAL needs"):
        world.when()
    assert world.argv == []


def test_a_list_of_relations_that_is_damaged_is_an_error(world: World) -> None:
    path = world.repo.root / "base" / BASE / relations.FILE  # type: ignore[attr-defined]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"items", b"other"))
    with pytest.raises(IntegrityError, match="another length or SHA-256"):
        world.when()


def test_names_are_read_as_they_were_written() -> None:
    entries = [Entry(5, 16395, "app", 'it"ems', "r", 16395, "shop"), Entry(5, 16399, "app", "x", "p")]
    assert relations.parse(relations.to_bytes(entries), "base") == entries
    names = relations.names(entries)
    assert names.databases == {5: "shop"}
    assert names.of_oid((5, 1)) == "relation 1"
    assert names.of_file((5, 16399)) == "the relation in file 16399"
    with pytest.raises(IntegrityError, match="line 2"):
        relations.parse(relations.to_bytes(entries[:1]) + b'{"database": "x"}\n', "base")


# The command.


def arguments(**words: Any) -> argparse.Namespace:
    given = {"at": "", "before": "", "timeline": 0, "dry_run": False, "source": "repository"}
    return argparse.Namespace(**{**given, **words})


def test_the_instants_are_listed(world: World) -> None:
    status, result, shown = command.run(world.run, arguments(action="instants"), world.log.append)
    assert status == 0
    assert result["windows"][0]["bases"] == [BASE]  # type: ignore[index]
    assert list(shown) == [
        "any instant from 2026-12-02T04:10:50.000Z to 2026-12-02T04:15:50.000Z (0/1088118), timeline 1; 1 base, the"
        f" newest {BASE}"
    ]


class Room:
    reached = standing.Reached("0/A0C3D0", AT, "recovery stopping before commit", 1.0, 2.0, 3)
    server = "the throw-away server"

    def __init__(self, route: Any) -> None:
        self.route, self.promoted = route, False

    def promote(self) -> None:
        self.promoted = True


def stands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The routes that a server was made to stand at."""
    routes: list[Any] = []

    @contextlib.contextmanager
    def stand(run: Opened, source: Any, route: Any, log: Any) -> Iterator[Room]:
        routes.append(route)
        yield Room(route)

    monkeypatch.setattr(standing, "standing", stand)
    return routes


def test_an_instant_is_verified(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = stands(monkeypatch)
    words = arguments(action="verify", at="2026-12-02T13:11:00+09:00")
    status, result, shown = command.run(world.run, words, world.log.append)
    assert (status, result["lsn"], result["base"]) == (0, "0/A0C3D0", BASE)
    assert str(routes[0].instant) == "2026-12-02T04:11:00.000Z"
    assert next(iter(shown)) == "stood at 0/A0C3D0, the last commit was 2026-12-02T04:10:50.000Z"
    command.run(world.run, arguments(action="verify"), world.log.append)
    assert str(routes[1].instant) == "latest"


@pytest.mark.parametrize(
    ("before", "position"), [("741", "0/A0C3D0"), ("750", "0/B7FB38"), ("mark:before-upgrade", "0/A00308")]
)
def test_a_transaction_or_a_mark_is_a_position(
    world: World, monkeypatch: pytest.MonkeyPatch, before: str, position: str
) -> None:
    routes = stands(monkeypatch)
    command.run(world.run, arguments(action="verify", before=before), world.log.append)
    assert routes[0].instant == Position(parse_lsn(position))


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ({"at": "latest", "before": "0/1"}, UsageError, 2),
        ({"at": "2027-01-01T00:00:00Z"}, UsageError, 2),
        ({"at": "2026-12-02T04:00:00Z"}, UsageError, 2),
        ({"at": "2026-10-25 02:30 Europe/Berlin"}, UsageError, 2),
        ({"before": "0/2000000"}, UsageError, 2),
        ({"before": "0/A0C3D0", "timeline": 3}, UsageError, 2),
        ({"before": "999"}, NotFoundError, 5),
    ],
)
def test_a_refusal_comes_before_anything_is_started(
    world: World, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], kind: type[LifeboatError], code: int
) -> None:
    routes = stands(monkeypatch)
    with pytest.raises(kind) as error:
        command.run(world.run, arguments(action="verify", **words), world.log.append)
    assert error.value.exit_code == code
    assert routes == []


class Living:
    """The stack's server. away: why it does not answer."""

    def __init__(self, away: str = "") -> None:
        self.away = away

    def problem(self) -> Optional[LifeboatError]:
        return LifeboatError("ask", "db", self.away) if self.away else None


@pytest.mark.parametrize(
    ("words", "moment"),
    [({"at": "2026-12-02T04:11:00Z"}, AT + timedelta(seconds=10)), ({"before": "0/A0C3D0"}, AT)],
    ids=["a time", "the last commit before a position"],
)
def test_a_dump_is_a_backup_of_the_instant(
    world: World, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], moment: datetime
) -> None:
    routes, living, taken = stands(monkeypatch), Living(), list[Any]()

    def take(run: Opened, *, log: Any, override: bool, earlier: Any) -> Manifest:
        taken.append((run.config.database.format, override, earlier))
        return Manifest("db_backup_20261202_041100", "database", "shop", earlier.moment, AT, (), {}, {})

    monkeypatch.setattr(database_server, "for_backups", lambda run: living)
    monkeypatch.setattr(instants.logical, "take", take)
    monkeypatch.setattr(instants.sources, "hold", lambda *_: ["  it is held for 24 hours"])
    monkeypatch.setattr(instants.lock, "held", lambda *_args, **_words: contextlib.nullcontext())
    status, result, shown = command.run(world.run, arguments(action="dump", **words), world.log.append)
    ((form, accepted, earlier),) = taken
    assert (status, form, accepted, len(routes)) == (0, "custom", True, 1)
    assert (earlier.server, earlier.living, earlier.moment) == (Room.server, living, moment)
    assert (result["id"], result["taken_at"]) == ("db_backup_20261202_041100", format_time(moment))
    assert list(shown)[-1].endswith("lifeboat recover database -e recovery_point=db_backup_20261202_041100")
    assert "it is held for 24 hours" in world.log
    assert world.run.config.database.format == "directory", "of nights it is as it was"


def test_a_dump_unlocks_what_was_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is locked by the transaction that has not ended: a dump of a standby would wait for ever."""
    rooms: list[Room] = []

    @contextlib.contextmanager
    def stand(run: Opened, source: Any, route: Any, log: Any) -> Iterator[Room]:
        rooms.append(Room(route))
        yield rooms[-1]

    def take(run: Opened, **_: Any) -> Manifest:
        assert rooms[-1].promoted
        raise LifeboatError("dump", "shop", "the disk is full")

    monkeypatch.setattr(standing, "standing", stand)
    monkeypatch.setattr(database_server, "for_backups", lambda run: Living())
    monkeypatch.setattr(instants.logical, "take", take)
    monkeypatch.setattr(instants.lock, "held", lambda *_args, **_words: contextlib.nullcontext())
    with pytest.raises(LifeboatError, match="the disk is full"):
        command.run(world.run, arguments(action="dump"), world.log.append)
    assert world.repo.ids("database") == []


def test_without_a_living_server_nothing_is_dumped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = stands(monkeypatch)
    monkeypatch.setattr(database_server, "for_backups", lambda run: Living("connection refused"))
    with pytest.raises(UsageError, match="the server does not answer: connection refused"):
        command.run(world.run, arguments(action="dump"), world.log.append)
    assert routes == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", AT - timedelta(hours=2)), ("30m", AT - timedelta(minutes=30)), ("7d", AT - timedelta(days=7)),
        ("45s", AT - timedelta(seconds=45)), ("2026-12-01T00:00:00Z", datetime(2026, 12, 1, tzinfo=timezone.utc)),
    ],
)  # fmt: skip
def test_how_far_back(text: str, moment: datetime) -> None:
    assert instants.moment(text, AT) == moment


@pytest.mark.parametrize("text", ["", "0h", "2 h", "2w", "99999999d", "h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        instants.moment(text, AT)
