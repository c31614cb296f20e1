# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the position in the WAL of the very snapshot that is dumped, while that is there: see wal/cuts.py.

Not every snapshot has one, so it is looked for again with the next, for a while. It is read by PostgreSQL's pg_waldump
where the server runs, in the server's own pg_wal: from a mark of ours that is half a second older than the snapshot, to
one that is younger. Three things are checked of each: that pg_waldump came to its end; that our own younger mark is
among what it read; that no COMMIT has waited since before the older mark for a synchronous standby.

It never makes a backup fail. What is found is judged again by `lifeboat verify base`, over all WAL since the base.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Optional

from ...base import clock, pipeline
from ...base.errors import LifeboatError, NotFoundError, present
from ...repository.details import Cut
from ...stack.runtime import Opened
from ...wal import cuts
from ...wal.cuts import Search
from ...wal.segments import format_lsn
from .. import server as database_server
from ..server import Server, Session, answers
from .rows import TRANSACTIONS, Rows

FIND = "find the snapshot in the WAL"
TRIES, PATIENCE = 50, 10.0  # seconds
OLDER = 0.5  # seconds between the mark from which is read and the snapshot
_READ = 10.0  # seconds that pg_waldump may take
_TOOL = "pg_waldump"
# Debian and Red Hat keep what belongs to a server out of the PATH.
_ELSEWHERE = ("/usr/lib/postgresql/{major}/bin/pg_waldump", "/usr/pgsql-{major}/bin/pg_waldump")


@dataclass(frozen=True)
class _About:
    data: str
    system: str
    major: int
    standby: bool


@dataclass(frozen=True)
class _Mark:
    """Our own commit. lsn: behind its message. xid: of its transaction."""

    lsn: str
    xid: str


@dataclass(frozen=True)
class _Flushed:
    """Until where the WAL is on disk. timeline: that is written to."""

    lsn: str
    timeline: int


_ABOUT = """SELECT jsonb_build_object('data', current_setting('data_directory'), 'standby', pg_is_in_recovery(),
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'major', current_setting('server_version_num')::int / 10000);"""
# Flushed when it is answered, and no standby is waited for.
_AT_ONCE = "SET synchronous_commit = local;"
_MARK = """SELECT jsonb_build_object('lsn', pg_logical_emit_message(true, 'lifeboat', 'cut')::text,
  'xid', pg_current_xact_id()::text);"""
_FLUSHED = """SELECT jsonb_build_object('lsn', pg_current_wal_flush_lsn()::text,
  'timeline', ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int);"""
_WAITING = f"""SELECT to_json(count(*)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'
  AND state_change < clock_timestamp() - interval '{OLDER} s';"""


class Seeker:
    """Looks for a snapshot that has a cut, within the `with`. For each try: look(), take the snapshot, judge() it."""

    def __init__(self, run: Opened) -> None:
        self._run = run
        self._session: Optional[Session] = None
        self._marks: list[tuple[float, str]] = []  # when, and where
        self._began = self._looked = time.monotonic()
        self._tries, self._waiting, self._why = 0, False, ""

    def __enter__(self) -> Seeker:
        try:
            self._open()
        except LifeboatError as exc:
            self._why = exc.cause
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    def _open(self) -> None:
        self._server = database_server.of(self._run)
        self._session = self._server.session("template1").__enter__()
        (self._about,) = answers(_About, self._session.rows(_ABOUT, attempted=FIND))
        if self._about.standby:
            raise LifeboatError(FIND, self._run.config.stack, "the server is a standby, and writes no WAL of its own")
        self._tool = _tool(self._server, self._about.major)
        self._session.rows(_AT_ONCE, attempted=FIND)
        self._mark()
        time.sleep(OLDER)
        self._began = time.monotonic()

    def _rows(self, sql: str) -> list[object]:
        return present(self._session).rows(sql, attempted=FIND)

    def _mark(self) -> _Mark:
        """Write a mark, and know it for the next tries; of those that are old enough the newest is enough."""
        (mark,) = answers(_Mark, self._rows(_MARK))
        old = [known for known in self._marks if known[0] <= time.monotonic() - OLDER]
        self._marks = [*old[-1:], *self._marks[len(old) :], (time.monotonic(), mark.lsn)]
        return mark

    def assess(self) -> None:
        """Before the snapshot: see who waits. Whoever wrote a COMMIT before the older mark and is not seen yet does."""
        if self._why:
            return
        try:
            self._looked = time.monotonic()
            self._waiting = answers(int, self._rows(_WAITING)) != [0]
        except LifeboatError as exc:
            self._why = exc.cause

    def judge(self, snapshot: str) -> Optional[Cut]:
        """The cut of the snapshot that was taken since assess(), or why there is none; None where another one may have
        one."""
        if self._why:
            return Cut(why=self._why)
        self._tries += 1
        try:
            cut, why = self._judged(snapshot)
        except LifeboatError as exc:
            return Cut(why=exc.cause)
        if cut is None and (self._tries >= TRIES or time.monotonic() - self._began > PATIENCE):
            return Cut(why=f"none of {self._tries} snapshots has one: {why}")
        if cut is None:
            clock.pause(self._began)
        return cut

    def _judged(self, snapshot: str) -> tuple[Optional[Cut], str]:
        since = [lsn for at, lsn in self._marks if at <= self._looked - OLDER][-1]
        mark = self._mark()
        (flushed,) = answers(_Flushed, self._rows(_FLUSHED))
        search = Search(cuts.parse(snapshot), int(mark.xid))
        ended = self._read(since, flushed, search)
        if ended:
            return None, ended
        if not search.whole:
            return None, f"pg_waldump did not read the WAL to {flushed.lsn}, where our own mark is"
        if self._waiting:
            return None, "a COMMIT waits for a synchronous standby"
        if search.late is not None or search.first is None:
            return None, "transactions overtook each other on the way from their COMMIT to where others see them"
        return Cut(self._about.system, flushed.timeline, format_lsn(search.first), flushed.lsn, snapshot), ""

    def _read(self, since: str, flushed: _Flushed, search: Search) -> str:
        """Returns why pg_waldump did not come to its end; empty where it did."""
        words = ("--path", f"{self._about.data}/pg_wal", "--timeline", str(flushed.timeline), "--start", since)
        command = self._server.run_command([self._tool, *words, "--end", flushed.lsn, TRANSACTIONS])
        (finished,) = pipeline.run(
            [command], attempted=FIND, subject=self._tool, sink=Rows(FIND, [search]), ok=lambda _: True, timeout=_READ
        )
        return pipeline.describe(finished) if finished.status else ""


def _tool(server: Server, major: int) -> str:
    """pg_waldump where the server runs."""
    for path in (_TOOL, *(elsewhere.format(major=major) for elsewhere in _ELSEWHERE)):
        if pipeline.probe(server.run_command([path, "--version"]))[0] == 0:
            return path
    raise NotFoundError(FIND, _TOOL, f"{_TOOL} is not there, which belongs to PostgreSQL's server")
