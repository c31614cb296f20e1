# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pg_waldump prints, and what of it tells of lost data. Pure: lines in, events out.

Who drops, truncates or rewrites a table locks it first, and that lock is in the WAL with transaction and relation. What
the transaction then did to pg_class and to files tells which it was, tried with PostgreSQL 15 and 17:

| | in pg_class | files | the relation is |
|---|---|---|---|
| DROP | DELETE | none | among the statistics that its COMMIT drops (15 and newer) |
| TRUNCATE | UPDATE | one for each file, none of an index alone | not among them |
| VACUUM FULL, CLUSTER, ALTER TYPE, REFRESH | INSERT of another one | its own | no loss |
| REINDEX | UPDATE | of an index alone | no loss |

Rows that are deleted or updated are counted by transaction and relation. What a transaction that was rolled back did is
no event; what a part of it did that was rolled back (a savepoint) is none either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional

from .segments import parse_lsn

DROP, TRUNCATE, DELETE, UPDATE, DROP_DATABASE = "DROP TABLE", "TRUNCATE", "DELETE", "UPDATE", "DROP DATABASE"
PG_CLASS = 1259  # its file, unless somebody rewrote the catalogue itself
FIRST_USER = 16384  # the first OID that a server gives to anything but its own
TABLES = frozenset("rmpf")  # of pg_class.relkind: tables, materialised views, partitioned and foreign tables
_HEAD = re.compile(r"rmgr: (\S+) +len .*?, tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: (\S+)")
_LOCK = re.compile(r"xid (\d+) db (\d+) rel (\d+)")
_ENDED = re.compile(r"desc: (COMMIT|ABORT)(?:_PREPARED (\d+):)? (\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)")
_FILES = re.compile(r"; rels: ((?:\S+/\d+ ?)+)")
_SUBXACTS = re.compile(r"; subxacts: ((?:\d+ ?)+)")
_DROPPED = re.compile(r"; dropped stats: ((?:\d+/\d+/\d+ ?)+)")
_STATS_OF_DATABASE, _STATS_OF_RELATION = 1, 2
_FILE = re.compile(r"(?:rel|CREATE) (?:\d+/|\S*?/)?(\d+)/(\d+)(?:\b|$)")
_ROW = re.compile(r"desc: (?:HOT_)?(DELETE|UPDATE)(?:\+INIT)? .*?blkref #0: rel \d+/(\d+)/(\d+)\b")

Relation = tuple[int, int]  # OIDs of a database and of a relation in it, or of its file


@dataclass(frozen=True)
class Commit:
    """A transaction that ended. lsn: of the record, so that a replay that stops before it has nothing of it. files: how
    many it removed. dropped: relations whose statistics went, None where the server does not say; databases: those."""

    xid: int
    lsn: int
    at: datetime
    parts: tuple[int, ...] = ()
    files: int = 0
    dropped: Optional[frozenset[Relation]] = None
    databases: tuple[int, ...] = ()

    @property
    def xids(self) -> tuple[int, ...]:
        return (self.xid, *self.parts)


@dataclass(frozen=True)
class Event:
    """Something that lost data. lsn: of its COMMIT; before: when the last transaction before it was committed. names:
    of what it was done to; relations: their OIDs, or those of their files. rows: 0 where nobody counted."""

    what: str
    xid: int
    at: datetime
    lsn: int
    timeline: int
    database: int
    relations: tuple[int, ...]
    rows: int = 0
    before: Optional[datetime] = None
    names: tuple[str, ...] = ()


@dataclass
class Locks:
    """Which relations transactions locked against everybody: by transaction, in order. first: the LSN of the first."""

    relations: dict[int, list[Relation]] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def add(self, row: str) -> None:
        """A line of `pg_waldump --rmgr=Standby`."""
        if " desc: LOCK " not in row:
            return
        head = _HEAD.match(row)
        for xid, database, relation in _LOCK.findall(row.partition("desc: LOCK ")[2]):
            if int(relation) < FIRST_USER or head is None:
                continue
            there = self.relations.setdefault(int(xid), [])
            if (int(database), int(relation)) not in there:
                there.append((int(database), int(relation)))
            self.first.setdefault(int(xid), parse_lsn(head.group(3)))


def ended(row: str) -> Optional[tuple[bool, Commit]]:
    """Whether a transaction was committed, and what; None where the line is about something else."""
    match = _ENDED.search(row)
    head = _HEAD.match(row) if match else None
    if match is None or head is None:
        return None
    parts, files, dropped = (pattern.search(row) for pattern in (_SUBXACTS, _FILES, _DROPPED))
    stats = [tuple(map(int, item.split("/"))) for item in dropped.group(1).split()] if dropped else []
    relations = frozenset((database, oid) for kind, database, oid in stats if kind == _STATS_OF_RELATION)
    return match.group(1) == "COMMIT", Commit(
        int(match.group(2) or head.group(2)), parse_lsn(head.group(3)), _time(match.group(3)),
        tuple(map(int, parts.group(1).split())) if parts else (), len(files.group(1).split()) if files else 0,
        relations if dropped else None,
        tuple(database for kind, database, _oid in stats if kind == _STATS_OF_DATABASE),
    )  # fmt: skip


def _time(text: str) -> datetime:
    """As pg_waldump prints it where TZ is UTC."""
    whole, _point, fraction = text.partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return moment.replace(microsecond=int(f"{fraction[:6]:0<6}") if fraction else 0)


@dataclass
class Commits:
    """Transactions that were committed and removed files, having locked something. chosen: with when the one before
    was committed."""

    locks: Locks
    chosen: list[tuple[Commit, Optional[datetime]]] = field(default_factory=list)
    _last: str = ""

    def add(self, row: str) -> None:
        """A line of `pg_waldump --rmgr=Transaction`."""
        if " desc: COMMIT" not in row:
            return
        if "; rels: " in row or "; dropped stats: 1/" in row:
            outcome = ended(row)
            if outcome and (outcome[1].databases or (outcome[1].files and self._locked(outcome[1]))):
                before = ended(self._last)
                self.chosen.append((outcome[1], before[1].at if before else None))
        self._last = row

    def _locked(self, commit: Commit) -> bool:
        return any(xid in self.locks.relations for xid in commit.xids)


@dataclass
class Effects:
    """What transactions did to the catalogue of relations and to files. created: files; indexes: those of them that got
    pages which are no table's."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    created: set[Relation] = field(default_factory=set)
    indexes: set[Relation] = field(default_factory=set)

    def add(self, row: str) -> None:
        """A line of `pg_waldump --xid`."""
        head = _HEAD.match(row)
        if head is None:
            return
        manager, what = head.group(1), head.group(4)
        file = _FILE.search(row[head.end(3) :])
        relation = (int(file.group(1)), int(file.group(2))) if file else None
        if manager == "Storage" and what == "CREATE" and relation:
            self.created.add(relation)
        elif manager == "Heap" and relation and relation[1] == PG_CLASS:
            plain = what.replace("HOT_", "").partition("+")[0]
            self.inserted += plain == "INSERT"
            self.updated += plain == "UPDATE"
            self.deleted += plain == "DELETE"
        elif manager not in ("Heap", "Heap2") and relation in self.created:
            self.indexes.add(relation)


@dataclass(frozen=True)
class Names:
    """What relations are called, and of which kind they are (pg_class.relkind), by OID and by file. databases: by
    OID."""

    by_oid: Mapping[Relation, tuple[str, str]] = field(default_factory=dict)
    by_file: Mapping[Relation, tuple[str, str]] = field(default_factory=dict)
    databases: Mapping[int, str] = field(default_factory=dict)

    def of_oid(self, relation: Relation) -> str:
        return self.by_oid.get(relation, (f"relation {relation[1]}", ""))[0]

    def of_file(self, relation: Relation) -> str:
        return self.by_file.get(relation, (f"the relation in file {relation[1]}", ""))[0]


def removals(
    commit: Commit, before: Optional[datetime], locked: Iterable[Relation], effects: Effects, names: Names,
    timeline: int,
) -> Iterator[Event]:  # fmt: skip
    """What of a transaction was a DROP or a TRUNCATE."""

    def event(what: str, relations: Collection[Relation]) -> Event:
        shown = tuple(names.of_oid(relation) for relation in relations)
        database = next(iter(relations))[0]
        oids = tuple(relation[1] for relation in relations)
        return Event(what, commit.xid, commit.at, commit.lsn, timeline, database, oids, 0, before, shown)

    for database in commit.databases:
        shown = (names.databases.get(database, f"database {database}"),)
        yield Event(DROP_DATABASE, commit.xid, commit.at, commit.lsn, timeline, database, (), 0, before, shown)
    there = [relation for relation in locked if relation not in effects.created]
    rewritten = effects.inserted > 0
    if commit.dropped is None:
        gone = there if effects.deleted and not (effects.updated or rewritten) else []
    else:
        gone = [relation for relation in there if relation in commit.dropped]
    if dropped := _tables(gone, names, known_only=rewritten):
        yield event(DROP, dropped)
    emptied = [relation for relation in there if relation not in gone]
    if not rewritten and effects.created - effects.indexes and (tables := _tables(emptied, names, known_only=False)):
        yield event(TRUNCATE, tables)


def _tables(relations: Collection[Relation], names: Names, *, known_only: bool) -> list[Relation]:
    """Those that are tables. Of those that nobody can name the first one: a table is locked before its indexes."""
    known = [relation for relation in relations if names.by_oid.get(relation, ("", ""))[1] in TABLES]
    unknown = [relation for relation in relations if relation not in names.by_oid]
    return known or ([] if known_only else unknown[:1])


@dataclass
class Tally:
    """Rows that transactions deleted and updated. rows: how many make an event."""

    rows: int
    names: Names
    timeline: int
    events: list[Event] = field(default_factory=list)
    _counts: dict[int, Counter[tuple[str, int, int]]] = field(default_factory=dict)
    _last: str = ""

    def add(self, row: str) -> None:
        """A line of `pg_waldump --rmgr=Heap`, or of `--rmgr=Transaction`, or of both."""
        match = _ROW.search(row)
        if match:
            database, file = int(match.group(2)), int(match.group(3))
            head = _HEAD.match(row)
            if head and file >= FIRST_USER:
                counts = self._counts.setdefault(int(head.group(2)), Counter())
                counts[match.group(1), database, file] += 1
            return
        if " desc: COMMIT" in row or " desc: ABORT" in row:
            outcome = ended(row) if self._counts else None
            if outcome:
                self._end(*outcome)
            if " desc: COMMIT" in row:
                self._last = row

    def _end(self, committed: bool, commit: Commit) -> None:
        total: Counter[tuple[str, int, int]] = Counter()
        for xid in commit.xids:
            total.update(self._counts.pop(xid, Counter()))
        for (what, database, file), count in total.most_common() if committed else ():
            if count < self.rows:
                break
            before, shown = ended(self._last), (self.names.of_file((database, file)),)
            self.events.append(
                Event(
                    what, commit.xid, commit.at, commit.lsn, self.timeline, database, (file,), count,
                    before[1].at if before else None, shown,
                )
            )  # fmt: skip
