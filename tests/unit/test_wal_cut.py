# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The position in the WAL of a snapshot: which one it is, how it is looked for, and why there may be none.

What pg_waldump prints is what a real one printed (test_wal_records.py). tests/integration/test_proof.py has a server.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import cut, rows
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Cut, DatabaseDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import cuts
from builders import make_config, make_manifest
from test_wal_records import DATA

SYSTEM = "7412345678901234567"
LINES = (DATA / "17/transaction.txt").read_text().splitlines()
COMMIT = {744: "0/A59260", 745: "0/AEF350", 746: "0/B3A978", 752: "0/BDD730", 753: "0/C0C5F8"}  # of some of them
GOOD = Cut(SYSTEM, 1, COMMIT[745], "0/B00000", "745:745:")


# --- which position it is ---


def searched(snapshot: str, own: int = 0) -> cuts.Search:
    search = cuts.Search(cuts.parse(snapshot), own)
    for line in LINES:
        search.add(line)
    return search


@pytest.mark.parametrize(
    ("snapshot", "first", "late"),
    [
        ("745:745:", 745, None),
        ("744:747:744,745,746", 744, None),
        ("744:746:744", 744, 745),  # 745 was committed behind 744, which it does not see
        ("753:753:", 753, None),  # it sees the transaction that was prepared, by the number in the words
        ("752:754:752", 752, 753),  # and here it does not
    ],
)
def test_the_cut_is_the_first_commit_that_is_not_seen(snapshot: str, first: int, late: Optional[int]) -> None:
    search = searched(snapshot)
    position = search.first
    assert position is not None
    assert position == cuts.parse_lsn(COMMIT[first])
    assert (search.late is None, search.exact) == (late is None, late is None)
    assert cuts.differs(search, position) == ("" if late is None else cuts.differs(search, position))
    if late is not None:
        assert f"the snapshot sees the COMMIT at {COMMIT[late]}" in cuts.differs(search, position)


def test_a_cut_that_was_moved_is_told() -> None:
    search = searched(GOOD.snapshot)
    assert cuts.differs(search, cuts.parse_lsn(COMMIT[745])) == ""
    for moved in (744, 746):
        words = f"it is at {COMMIT[moved]}, and the first COMMIT that the snapshot does not see at {COMMIT[745]}"
        assert cuts.differs(search, cuts.parse_lsn(COMMIT[moved])) == words
    assert "none of" in cuts.differs(searched("9000:9000:"), 1)


def test_it_is_known_whether_all_was_read() -> None:
    assert searched(GOOD.snapshot, 746).whole
    assert searched(GOOD.snapshot, 746 + (7 << 32)).whole, "the WAL has the last 32 bits"
    assert not searched(GOOD.snapshot, 9000).whole


def test_numbers_of_transactions_go_round() -> None:
    """The snapshot counts on where the WAL begins again."""
    end = (5 << 32) + 10
    snapshot = cuts.parse(f"{end - 20}:{end}:{end - 20},{end - 3}")
    assert snapshot.sees(end % (1 << 32) - 1)
    assert not snapshot.sees((end - 3) % (1 << 32))
    assert not snapshot.sees((end - 20) % (1 << 32)), "of before the round"
    assert snapshot.sees((end - 21) % (1 << 32))
    assert not snapshot.sees(end % (1 << 32))
    assert not snapshot.sees(end % (1 << 32) + 1000)


@pytest.mark.parametrize(
    "text", ["", "1:2", "0:1:", "1:2:x", "1:2:3,", "1:2:3,,4", " 1:2:", "1:2:\n", "٣:4:", "1:2:3" * 99]
)
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="it is not what"):
        cuts.parse(text)
    assert dataclasses.replace(GOOD, snapshot=text).impossible != ""


def test_lines_that_are_none_are_passed_over() -> None:
    search = cuts.Search(cuts.parse(GOOD.snapshot))
    for line in ("", "desc: COMMIT ", "tx: x, lsn: 0/1, desc: COMMIT ", "\0" * 9, "x" * 100_000):
        search.add(line)
    assert (search.commits, search.first) == (0, None)


def test_a_line_without_an_end_is_not_read() -> None:
    sink = rows.Rows("read", [cuts.Search(cuts.parse(GOOD.snapshot))])
    with pytest.raises(IntegrityError, match="a line of it has more than"):
        sink.write(b"x" * (rows._ROW + 1))


# --- in the manifest ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"why": "it is away"}, "it says why it is not"),
        ({"system": "0"}, "is not a system identifier"),
        ({"timeline": 0}, "is not a timeline"),
        ({"timeline": 1 << 32}, "is not a timeline"),
        ({"lsn": "0/0123"}, "is not an LSN"),
        ({"until": ""}, "is not an LSN"),
        ({"snapshot": "745"}, "is not a snapshot"),
    ],
)
def test_a_cut_that_no_backup_has_is_refused(change: dict[str, Any], said: str) -> None:
    assert GOOD.impossible == Cut(why="the server is away").impossible == ""
    bad = dataclasses.replace(GOOD, **change)
    assert said in bad.impossible
    details = make_manifest(details={"cut": typed.plain(bad)}).detailed(DatabaseDetails)
    assert said in details.impossible([])


def test_a_manifest_has_it_and_is_as_it_was_without() -> None:
    plain = make_manifest().detailed(DatabaseDetails)
    assert plain.cut is None
    assert "cut" not in typed.plain(plain)
    details = make_manifest(details={"cut": typed.plain(GOOD)}).detailed(DatabaseDetails)
    assert details.cut == GOOD
    assert make_manifest(details=typed.plain(details)).detailed(DatabaseDetails) == details
    for damage in (5, {"lsn": 1}, ["0/1"]):
        with pytest.raises(IntegrityError, match="cut"):
            make_manifest(details={"cut": damage}).detailed(DatabaseDetails)


# --- how it is looked for ---


class World:
    """A server whose pg_waldump is `cat` of the recording. snapshots: what it sees in turn; own: the number of our
    mark's transaction; waits: COMMITs that wait for a standby."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.sql, self.argv = list[str](), list[list[str]]()
        self.snapshots, self.own, self.waits, self.standby = ["745:745:"], "746", 0, False
        self.script, self.there = f"cat {DATA / '17/transaction.txt'}", ("pg_waldump",)
        self.fails = ""  # in what SQL the server fails
        self.ended = False
        monkeypatch.setattr(cut, "OLDER", 0.0)
        monkeypatch.setattr(clock, "pause", lambda since: None)
        monkeypatch.setattr(database_server, "connect", lambda config, runtime: self)
        monkeypatch.setattr(fingerprint, "sequences", self.sequences)

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[World]:
        yield self

    def close(self) -> None:
        self.ended = True

    def sequences(self, session: object) -> dict[str, fingerprint.Position]:
        self.sql.append("sequences")
        return {"public.s": fingerprint.Position(True, "5", False)}

    def run_command(self, argv: Sequence[str], **_: Any) -> Command:
        self.argv.append(list(argv))
        if "--version" in argv:
            return Command(["true" if argv[0] in self.there else "false"])
        return Command(["sh", "-c", self.script])

    def rows(self, sql: str, *, attempted: str) -> list[object]:
        self.sql.append(sql)
        if self.fails and self.fails in sql:
            raise LifeboatError(attempted, "template1", "the server went away")
        if "data_directory" in sql:
            return [{"data": "/data", "system": SYSTEM, "major": 17, "standby": self.standby}]
        if "emit_message" in sql:
            return [{"lsn": f"0/{len(self.sql):X}", "xid": self.own}]
        if "pg_walfile_name" in sql:
            return [{"lsn": "0/B00000", "timeline": 1}]
        if "SyncRep" in sql:
            return [self.waits]
        if "pg_export_snapshot" in sql:
            visible = self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]
            return [{"taken_at": "2026-12-02T04:10:56+00:00", "snapshot": "s", "size": 1, "version": 170012,
                     "relations": 1, "encoding": "UTF8", "visible": visible}]  # fmt: skip
        return []

    def read(self) -> Any:
        session: Any = self
        return dump._read_with_cut(self.run, session, print)

    def why(self) -> str:
        found = self.read().cut
        assert found is not None
        assert (found.lsn, found.impossible) == ("", "")
        return str(found.why)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_the_cut_of_the_snapshot_is_in_its_head(world: World) -> None:
    head = world.read()
    assert head.cut == GOOD
    assert head.stood["public.s"].last == "5"
    assert world.ended, "the session of the marks ends with it"
    reading = world.argv[-1]
    assert reading[0] == "pg_waldump"
    text = " ".join(reading)
    assert "--path /data/pg_wal --timeline 1" in text
    assert "--end 0/B00000 --rmgr=Transaction" in text
    order = [next((word for word in ("sequences", "SyncRep", "export", "emit", "ROLLBACK") if word in sql), "")
             for sql in world.sql]  # fmt: skip
    assert [word for word in order if word] == ["sequences", "emit", "SyncRep", "export", "emit"]


def test_it_is_looked_for_again_until_there_is_one(world: World) -> None:
    world.snapshots = ["744:746:744", "752:754:752", "745:745:"]
    assert world.read().cut == GOOD
    rolled = [sql for sql in world.sql if "ROLLBACK" in sql]
    assert len(rolled) == 2, "the session has the last snapshot alone"
    assert world.sql.count("sequences") == 1, "they are read before the first one"


def test_each_try_reads_from_a_mark_that_is_old_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.snapshots = ["744:746:744", "745:745:"]
    world.read()
    starts = [argv[argv.index("--start") + 1] for argv in world.argv if "--start" in argv]
    assert starts == sorted(set(starts)), "the second try does not read what the first one has"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"snapshots": ["744:746:744"]}, "overtook each other"),
        ({"own": "9000"}, "did not read the WAL to 0/B00000"),
        ({"waits": 1}, "waits for a synchronous standby"),
        ({"script": "echo 'could not find a valid record' >&2; exit 1"}, "could not find a valid record"),
    ],
    ids=["inexact", "our mark is missing", "a standby is waited for", "pg_waldump fails"],
)
def test_a_check_of_it_that_fails_is_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(cut, "TRIES", 3)
    vars(world).update(change)
    words = world.why()
    assert words.startswith("none of 3 snapshots has one: ")
    assert why in words
    monkeypatch.setattr(cut, "PATIENCE", -1.0)
    assert world.why().startswith("none of 1 snapshots")


@pytest.mark.parametrize(
    "fails", ["data_directory", "synchronous_commit", "emit_message", "pg_walfile_name", "SyncRep"]
)
def test_a_backup_does_not_fail_for_it(world: World, fails: str) -> None:
    world.fails = fails
    head = world.read()
    assert (head.snapshot, head.cut.why) == ("s", "the server went away")


def test_what_cannot_be_asked_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.standby = True
    assert "is a standby" in world.why()
    world.standby, world.there = False, ()
    assert "pg_waldump is not there" in world.why()
    world.there = ("/usr/lib/postgresql/17/bin/pg_waldump",)
    assert world.read().cut == GOOD
    assert world.argv[-1][0] == world.there[0]
    world.snapshots = ["nonsense"]
    assert "it is not what pg_current_snapshot() prints" in world.why()

    def away(config: object, runtime: object) -> None:
        raise LifeboatError("reach the database", "shop", "its service does not run")

    monkeypatch.setattr(database_server, "connect", away)
    assert world.why() == "its service does not run"


def test_a_snapshot_that_cannot_be_taken_fails_the_backup_as_before(world: World) -> None:
    world.fails = "pg_export_snapshot"
    with pytest.raises(LifeboatError, match="the server went away"):
        world.read()
