# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove what a base and its WAL have become: every table of every database is read to its end.

While the server is a standby that has paused: what reads a table there writes nothing, where it would afterwards mark
rows as committed, and with checksums write that to the WAL. A table that a transaction has locked which had not ended
at the instant can be read only after the promotion, which ends that transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ....base.checks import COULD_NOT_VERIFY, PASS, Check, compared
from ....base.clock import format_time
from ....base.errors import LifeboatError, Log, present
from ....base.text import named, several
from ...server import Server, answers, literal
from ...wal.standing import Standing

BEARABLE = (PASS, COULD_NOT_VERIFY)
_LOCKED = "55P03"
_SECONDS = 2  # so long a table is waited for that may be locked
# As in an assessment: an index alone could count the rows, and no page of the table would be read.
_PAGES = "SET enable_indexonlyscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off;"
# TOAST too. A materialised view that was never filled, and what is unlogged while WAL is replayed, cannot be read.
_TABLES = """SELECT jsonb_build_object('name', format('%I.%I', n.nspname, c.relname), 'unlogged',
  c.relpersistence = 'u', 'kind', c.relkind) FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm', 't') AND c.relispopulated AND c.relpersistence <> 't' ORDER BY c.oid;"""
_PREPARED = """SELECT jsonb_build_object('gid', gid, 'owner', owner, 'database', database)
  FROM pg_catalog.pg_prepared_xacts ORDER BY prepared;"""


@dataclass(frozen=True)
class Proved:
    """checks: of what stands there. notes: what an operator has to decide, or has to know of it, a sentence each."""

    databases: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    name: str
    unlogged: bool
    kind: str


@dataclass(frozen=True)
class _Prepared:
    gid: str
    owner: str
    database: str


@dataclass
class Reading:
    """Reads what stands there. read_tables() before the promotion, read_rest() after it, then proved()."""

    room: Standing
    log: Log
    databases: list[str] = field(default_factory=list)
    tables: int = 0
    wrong: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    unlogged: list[str] = field(default_factory=list)
    locked: dict[str, list[str]] = field(default_factory=dict)
    prepared: list[_Prepared] = field(default_factory=list)

    @property
    def _server(self) -> Server:
        return self.room.server

    def read_tables(self) -> None:
        """Every table that no transaction has locked."""
        for database in self._server.living():
            self.databases.append(database.name)
            if not database.open:
                self.unread.append(f"the database {named(database.name)} takes no logins")
                continue
            self.log(f"reading every table of {named(database.name)}")
            try:
                rows = self._server.execute(_TABLES, database=database.name, attempted="list the tables")
            except LifeboatError as exc:
                self.wrong.append(f"the database {named(database.name)} cannot be read: {exc.cause}")
                continue
            found = answers(_Table, rows)
            there = [table for table in found if table.unlogged and table.kind == "r"]
            self.unlogged += [f"{named(table.name)} in {named(database.name)}" for table in there]
            names = [table.name for table in found if not table.unlogged]
            self.locked[database.name] = self._counted(database.name, names, locks=True)

    def read_rest(self) -> None:
        """After the promotion: what was locked, and what transactions were prepared."""
        for database, names in self.locked.items():
            self._counted(database, names, locks=False)
        self.prepared = answers(_Prepared, self._server.execute(_PREPARED, attempted="list prepared transactions"))

    def _counted(self, database: str, names: list[str], *, locks: bool) -> list[str]:
        """Read these tables to their end. Returns those that are locked, where that is expected."""
        locked, left = list[str](), list(names)
        deadline = time.monotonic() + self.room.run.config.timeout
        while left:
            name = ""
            try:
                with self._server.session(database) as session:
                    session.rows(f"{_PAGES} SET lock_timeout = '{_SECONDS}s';", attempted="open a session")
                    while left:
                        name = left.pop(0)
                        if time.monotonic() > deadline:
                            self.unread.append(f"{named(name)} of {named(database)}: lifeboat_timeout was up")
                            continue
                        sql = f"SELECT to_json(count(*)) FROM ONLY {name};"
                        session.rows(sql, attempted=f"read {named(name)}")
                        self.tables += 1
            except LifeboatError as exc:  # it ends the session: the tables that are left get another
                if locks and name and exc.sqlstate == _LOCKED:
                    locked.append(name)
                elif not name:
                    self.wrong.append(f"the database {named(database)} cannot be read: {exc.cause}")
                    return locked
                else:
                    self.wrong.append(f"{named(name)} of {named(database)} cannot be read: {exc.cause}")
        return locked

    def proved(self) -> Proved:
        return Proved(tuple(self.databases), tuple(self._checks()), tuple(self._notes()))

    def _checks(self) -> Iterator[Check]:
        reached, route = present(self.room.reached), self.room.route
        last = format_time(reached.at) if reached.at else "before the base"
        words = f"{route.base.id}, WAL until {reached.lsn}, last commit {last}"
        yield Check("replay", PASS, f"{words}; {reached.why or 'all that was received'}")
        read = f"{self.tables} tables of {several('database', self.databases)} were read to their end"
        if self.unread and not self.wrong:
            yield Check("tables", COULD_NOT_VERIFY, f"{read}; not read: {'; '.join(self.unread[:8])}")
        else:
            yield compared("tables", self.wrong, read)

    def _notes(self) -> Iterator[str]:
        if self.unlogged:
            yield f"unlogged tables are empty, as after a crash: {', '.join(self.unlogged)}"
        for each in self.prepared:
            gid = literal(each.gid)
            yield (
                f"a transaction of {named(each.owner)} in {named(each.database)} was prepared and not ended:"
                f" {named(f'COMMIT PREPARED {gid};')} or {named(f'ROLLBACK PREPARED {gid};')} in {named(each.database)}"
            )
