# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_waldump prints, as real servers printed it: losses are told apart from what only looks like one.

tests/unit/waldump/<major>/ was written by pg_waldump of Debian's 17.12 and 15.18. Invalidation messages are cut short,
and of rows that a transaction wrote in bulk only the first forty are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import records
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.records import (
    DELETE,
    DROP,
    DROP_DATABASE,
    TRUNCATE,
    UPDATE,
    Commits,
    Effects,
    Event,
    Locks,
    Names,
    Relation,
    Tally,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import format_lsn

DATA = Path(__file__).parent / "waldump"
KINDS = {
    "app.items": (16395, "r"), "app.items_toast": (16398, "t"), "app.items_pkey": (16399, "i"),
    "app.emptied": (16400, "r"), "app.emptied_toast": (16403, "t"), "app.emptied_pkey": (16404, "i"),
    "app.noindex": (16405, "r"), "app.deleted": (16408, "r"), "app.updated": (16413, "r"),
    "app.updated_toast": (16416, "t"), "app.updated_toast_index": (16417, "i"), "app.rewritten": (16418, "r"),
    "app.idx": (16423, "r"), "app.idx_pkey": (16426, "i"), "app.sub": (16428, "r"), "app.prep": (16433, "r"),
    "app.mv": (16438, "m"), "public.victim": (16387, "r"),
}  # fmt: skip
NAMES = Names(
    {(5, oid): (name, kind) for name, (oid, kind) in KINDS.items()},
    {(5, oid): (name, kind) for name, (oid, kind) in KINDS.items()},
    {5: "postgres", 16471: "other", 16468: "other"},
)
FIRST = {17: 741, 15: 727}  # the transaction of the recording's first DROP: both did the same in the same order
MAJORS = pytest.mark.parametrize("major", FIRST)


def rows(name: str, major: int) -> Iterator[str]:
    yield from (DATA / str(major) / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def removals(names: Names, major: int, *, statistics: bool = True) -> dict[int, list[Event]]:
    """What each transaction of the recording removed, as database/wal/when.py finds it, numbered from 741 on.
    statistics: False as on 14."""
    locks = Locks()
    for row in rows("standby", major):
        locks.add(row)
    commits = Commits(locks)
    for row in rows("transaction", major):
        commits.add(row if statistics else re.sub(r"; dropped stats: (?!1/)[\d/ ]+", "", row))
    found = {}
    for commit, before in commits.chosen:
        effects, locked = Effects(), list[Relation]()
        for xid in commit.xids:
            locked += locks.relations.get(xid, [])
            for row in rows("effects", major):
                if re.search(rf"tx: +{xid},", row):
                    effects.add(row)
        found[commit.xid] = list(records.removals(commit, before, locked, effects, names, 1))
    return {xid - FIRST[major] + 741: events for xid, events in found.items() if events}


def shown(found: dict[int, list[Event]]) -> dict[int, list[tuple[str, tuple[str, ...]]]]:
    return {xid: [(event.what, event.names) for event in events] for xid, events in found.items()}


@MAJORS
def test_every_loss_is_found_and_nothing_else_is_called_one(major: int) -> None:
    found = shown(removals(NAMES, major))
    ((what, (unnamed,)),) = found.pop(760)
    assert (what, unnamed) == (DROP, f"relation {16468 if major == 17 else 16465}"), "made and dropped at once"
    assert found == {
        741: [(DROP, ("app.items",))],
        742: [(TRUNCATE, ("app.emptied",))],
        743: [(TRUNCATE, ("app.noindex",))],
        749: [(DROP, ("app.sub",))],  # in a savepoint: the lock is of 750
        752: [(DROP, ("app.prep",))],  # prepared, then committed
        761: [(DROP, (
            "app.emptied", "app.noindex", "app.deleted", "app.updated", "app.rewritten", "app.idx", "app.mv",
        ))],
        763: [(DROP_DATABASE, ("other",))],
    }  # fmt: skip


def test_a_drop_has_its_transaction_its_time_and_the_one_before() -> None:
    (event,) = removals(NAMES, 17)[741]
    assert (event.xid, event.database, event.relations, event.timeline) == (741, 5, (16395,), 1)
    assert event.at == datetime(2026, 12, 2, 4, 10, 56, 167160, timezone.utc)
    assert event.before == datetime(2026, 12, 2, 4, 10, 51, 529882, timezone.utc)
    assert format_lsn(event.lsn) == "0/A0C3D0", "a replay that stops before it has the table"


@MAJORS
def test_without_names_the_first_relation_stands_for_all(major: int) -> None:
    found = shown(removals(Names(), major))
    assert found[741] == [(DROP, ("relation 16395",))]
    assert found[742] == [(TRUNCATE, ("relation 16400",))]
    assert found[743] == [(TRUNCATE, ("relation 16405",))]
    assert {746, 747, 748, 756} & {*found} == set(), "VACUUM FULL, REINDEX, ALTER TYPE and REFRESH lose nothing"


@MAJORS
def test_a_server_that_says_nothing_of_statistics_is_read_by_its_catalogue(major: int) -> None:
    found = shown(removals(NAMES, major, statistics=False))
    assert found[741] == [(DROP, ("app.items",))]
    assert found[742] == [(TRUNCATE, ("app.emptied",))]
    assert found[749] == [(DROP, ("app.sub",))]
    assert {746, 747, 748, 756} & {*found} == set()


def test_who_rolled_back_did_nothing() -> None:
    outcomes = [outcome for row in rows("transaction", 17) if (outcome := records.ended(row))]
    assert [commit.xid for committed, commit in outcomes if not committed] == [751, 755]
    assert 752 in [commit.xid for committed, commit in outcomes if committed], "of COMMIT PREPARED the prepared one"
    assert [commit.parts for _committed, commit in outcomes if commit.parts] == [(750,), (754,)]
    assert 751 not in removals(NAMES, 17)


def tallied(many: int, major: int, *, by_kind: bool = False) -> list[Event]:
    """by_kind: as pg_waldump 14 gives them, which takes one kind of records at a time."""
    tally, every = Tally(many, NAMES, 1), list(rows("heap", major))
    for row in sorted(every, key=lambda row: "rmgr: Transaction" in row) if by_kind else every:
        tally.add(row)
    return tally.events


@MAJORS
def test_rows_are_counted_by_transaction(major: int) -> None:
    found = tallied(30, major)
    assert [(event.xid - FIRST[major] + 741, event.what, event.names, event.rows) for event in found] == [
        (744, DELETE, ("app.deleted",), 40),
        (752, DELETE, ("app.prep",), 40),
        (753, DELETE, ("public.victim",), 40),  # by its savepoint 754; what 755 deleted was rolled back
    ]
    assert tallied(41, major) == []


def test_an_update_has_its_time_and_the_one_before() -> None:
    # Of its forty lines half are locks of rows, which lose nothing.
    (event,) = [event for event in tallied(20, 17) if event.what == UPDATE]
    assert (event.xid, event.rows, event.names) == (745, 20, ("app.updated",))
    assert event.at == datetime(2026, 12, 2, 4, 11, 9, 932553, timezone.utc)
    assert event.before == datetime(2026, 12, 2, 4, 11, 7, 478753, timezone.utc)


@MAJORS
def test_the_tally_does_the_same_kind_by_kind(major: int) -> None:
    together, apart = tallied(20, major), tallied(20, major, by_kind=True)
    assert [replace(event, before=None) for event in apart] == [replace(event, before=None) for event in together]
    assert len(together) > 3


@pytest.mark.parametrize(
    "row",
    [
        "", "first record is after 0/900000, at 0/900028, skipping over 40 bytes",
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/00A002A8, prev 0/0, desc: COMMIT soon",
        "desc: COMMIT 2026-12-02 04:10:51.529882 UTC", "rmgr: Standby desc: LOCK xid 1 db 2 rel 16385",
    ],
)  # fmt: skip
def test_what_is_no_record_is_passed_over(row: str) -> None:
    locks, effects, tally = Locks(), Effects(), Tally(1, NAMES, 1)
    commits = Commits(locks)
    for reader in (locks, effects, tally, commits):
        reader.add(row)
    assert (locks.relations, effects, tally.events, commits.chosen) == ({}, Effects(), [], [])
    assert records.ended(row) is None
