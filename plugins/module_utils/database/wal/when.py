# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find what lost data in the WAL of the repository: DROP, TRUNCATE, and DELETE and UPDATE of many rows.

By PostgreSQL's own pg_waldump, in a throw-away container of the base's image. What it prints is read in wal/records.py.
https://www.postgresql.org/docs/current/pgwaldump.html
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Optional

from ...base import filesystem, pipeline
from ...base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError, UnverifiedError
from ...base.text import human, named
from ...repository import manifest as manifests
from ...repository.components import BASE
from ...repository.details import BaseDetails
from ...repository.manifest import Manifest
from ...stack.runtime import Opened, exec_command
from ...tools import age
from ...wal import records, segments
from ...wal.catalogue import Window
from ...wal.instants import Instant, Mark, Position, Table, Transaction
from ...wal.records import Commits, Effects, Event, Locks, Names, Tally
from ...wal.segments import format_lsn, parse_lsn
from .. import scratch
from .. import server as database_server
from . import relations, standing
from .archive import Archive
from .relations import Entry
from .rows import TRANSACTIONS, Reader, Rows

FIND = "find what happened"
MOST_EVENTS = 200  # transactions that are looked at closer
_SEVERAL = 150000  # pg_waldump takes several kinds of records from here on
# "error in WAL record at <the last one that was read>: invalid record length at <where it stopped>: …"
_UNREAD = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+)(?:.* at ([0-9A-F]+/[0-9A-F]+))?")
_NAMED = re.compile(r"desc: RESTORE_POINT (.*)")
_LSN = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+)")


@dataclass(frozen=True)
class Range:
    """WAL of one timeline, from a position to where it ends that was received."""

    timeline: int
    start: int
    end: int


class Dump:
    """pg_waldump over WAL of the repository, in a container."""

    def __init__(self, run: Opened, archive: Archive, name: str, window: Window, size: int, reach: Range) -> None:
        self._run, self._archive, self._name, self._window, self._size = run, archive, name, window, size
        self.reach, self.version = reach, window.bases[-1].version
        self._user = scratch.account(name)

    def scan(self, *options: str, reader: Reader, start: int = 0, end: int = 0) -> None:
        """Raises IntegrityError where the WAL cannot be read before its end."""
        start, end = start or self.reach.start, end or self.reach.end
        if start >= end:
            return
        argv = [
            "pg_waldump", "--path", scratch.MOUNT, "--timeline", str(self.reach.timeline), "--start", format_lsn(start),
            "--end", format_lsn(end), *options,
        ]  # fmt: skip
        command = exec_command(self._name, argv, env={"TZ": "UTC", "LC_ALL": "C"}, user=self._user)
        (finished,) = pipeline.run(
            [command], attempted=FIND, subject=self._window.bases[-1].id, sink=Rows(FIND, [reader]), ok=lambda _: True,
            timeout=self._run.config.timeout,
        )  # fmt: skip
        if finished.status:
            self._judge(finished.stderr, pipeline.describe(finished))

    def _judge(self, stderr: str, cause: str) -> None:
        """Nothing where it came to the end of the WAL, as of a record that is not written whole yet."""
        match = _UNREAD.search(stderr)
        position = parse_lsn(match.group(2) or match.group(1)) if match else None
        reach = self.reach
        if position is None:
            raise UnverifiedError(FIND, self._window.bases[-1].id, scratch.ended(self._name) or cause)
        if not self._archive.ends_at(reach.timeline, position, reach.end, self._size):
            remedy = "The WAL behind it is of no use. Take a new base: lifeboat wal base."
            raise IntegrityError(FIND, f"WAL at {format_lsn(position)}", cause, remedy)


@contextlib.contextmanager
def dump(run: Opened, archive: Archive, window: Window, start: int, log: Log, end: int = 0) -> Iterator[Dump]:
    """The WAL of a window from a position on, to be read by pg_waldump. end: 0: to the window's."""
    base = window.bases[-1]
    manifest = manifests.parse(archive.repo.manifest(BASE, base.id), component=BASE, expected_id=base.id)
    details = manifest.detailed(BaseDetails)
    archive.use(window.system)
    start = max(start, window.run.start, min(each.start for each in window.bases))
    reach = Range(window.timeline, start, end or window.until.position)
    folder = archive.folder / "segments"
    with filesystem.explained(FIND, folder):
        folder.mkdir()
        folder.chmod(0o755)
    try:
        log(f"reading the WAL from {format_lsn(start)} to {format_lsn(reach.end)}")
        _put_together(archive, folder, reach, details.segment_size)
        scratch.sweep(run.config.stack)
        image = standing.image_of(run, details)
        with scratch.container(image, run.config.stack, folder, timeout=run.config.timeout) as container:
            standing.refuse_unlike(container, details, base.id)
            yield Dump(run, archive, container, window, details.segment_size, reach)
    finally:
        with filesystem.explained(FIND, folder):
            filesystem.remove(folder)


def _put_together(archive: Archive, folder: Path, reach: Range, size: int) -> None:
    first = segments.segment_at(reach.timeline, reach.start, size)
    last = segments.segment_at(reach.timeline, max(reach.end - 1, reach.start), size)
    need = (last.number - first.number + 1) * size
    if filesystem.free(folder) < need:
        cause = f"{human(filesystem.free(folder))} are free there, and the WAL needs {human(need)}"
        raise SpaceError(FIND, str(folder), cause, "Make room, or name a later --since.")
    for number in range(first.number, last.number + 1):
        segment = replace(first, number=number)
        archive.write(segment.name, folder / segment.name)


def start_of(archive: Archive, window: Window, since: Optional[datetime]) -> int:
    """Where the WAL stood at that time, as far as is known: not behind it."""
    stream = (window.system, window.timeline)
    marks = [span.reached for span in archive.spans] + list(archive.marks)
    known = [mark for mark in marks if (mark.system, mark.timeline) == stream and since and mark.at <= since]
    return max((mark.position for mark in known), default=window.run.start)


def names_of(run: Opened, archive: Archive, window: Window, living: Sequence[Entry]) -> Names:
    """By the list in the window's newest base that has one, then by the living server."""
    entries: list[Entry] = []
    for base in reversed(window.bases):
        manifest = manifests.parse(archive.repo.manifest(BASE, base.id), component=BASE, expected_id=base.id)
        if any(item.name.startswith(relations.FILE) for item in manifest.artefacts):
            entries = listed(run, archive, manifest)
            break
    return relations.names([*entries, *living])


def listed(run: Opened, archive: Archive, manifest: Manifest) -> list[Entry]:
    """The relations that a base lists. Raises IntegrityError where that is damaged."""
    details = manifest.detailed(BaseDetails)
    seal = age.Seal(details.recipients, details.host_key)
    name = seal.named(relations.FILE)
    artefact = next(item for item in manifest.artefacts if item.name == name)
    with archive.repo.open(BASE, manifest.id, name) as stream:
        stored = stream.read(min(artefact.size, relations.MOST_BYTES) + 1)
    subject = f"{manifest.id}/{name}"
    if (len(stored), filesystem.sha256(stored)) != (artefact.size, artefact.sha256):
        raise segments.wrong(FIND, subject, "it has another length or SHA-256 than when it was written")
    return relations.parse(archive.unpacked(stored, seal, subject, relations.MOST_BYTES), manifest.id)


def events(source: Dump, names: Names, *, table: str, rows: int, since: Optional[datetime], log: Log) -> list[Event]:
    """What happened, oldest first. table: only to that one, `schema.name`. rows: of one transaction, from which on
    DELETE and UPDATE count; 0: they are not looked for, which takes ten times as long as the rest."""
    happened = [*_removed(source, names, log)]
    if rows:
        happened += _tallied(source, names, table, rows)
    chosen = [event for event in happened if not since or event.at >= since]
    if table:
        chosen = [event for event in chosen if table in event.names or event.what == records.DROP_DATABASE]
    return sorted(chosen, key=lambda event: (event.lsn, event.what))


def _removed(source: Dump, names: Names, log: Log) -> Iterator[Event]:
    locks = Locks()
    source.scan("--rmgr=Standby", reader=locks)
    commits = Commits(locks)
    # A DROP DATABASE locks no relation, and is in the same lines.
    source.scan(TRANSACTIONS, reader=commits)
    if len(commits.chosen) > MOST_EVENTS:
        log(f"{len(commits.chosen)} transactions removed files; the newest {MOST_EVENTS} of them are looked at")
    for commit, before in commits.chosen[-MOST_EVENTS:]:
        effects, locked = Effects(), []
        for xid in commit.xids:
            if xid in locks.relations:
                locked += locks.relations[xid]
                source.scan(f"--xid={xid}", reader=effects, start=locks.first[xid], end=commit.lsn)
        yield from records.removals(commit, before, locked, effects, names, source.reach.timeline)


def _tallied(source: Dump, names: Names, table: str, rows: int) -> list[Event]:
    tally = Tally(rows, names, source.reach.timeline)
    if table:
        files = [relation for relation, (name, _kind) in names.by_file.items() if name == table]
        if not files:
            cause = "neither the newest base nor the living server has a table of that name"
            raise NotFoundError(FIND, named(table), cause, "Write it as schema.name; without --table all are read.")
        for database, file in files:
            source.scan(f"--relation=1663/{database}/{file}", reader=tally)
        source.scan(TRANSACTIONS, reader=tally)
    elif source.version >= _SEVERAL:
        source.scan("--rmgr=Heap", TRANSACTIONS, reader=tally)
    else:
        source.scan("--rmgr=Heap", reader=tally)
        source.scan(TRANSACTIONS, reader=tally)
    return tally.events


# A transaction and a mark, as positions.


@dataclass
class _Finder:
    """The position of the record that an instant is named by; of several with one name the last."""

    instant: Instant
    position: Optional[int] = None

    def add(self, row: str) -> None:
        if isinstance(self.instant, Transaction):
            outcome = records.ended(row)
            if outcome and outcome[0] and self.instant.xid in outcome[1].xids:
                self.position = outcome[1].lsn
        elif isinstance(self.instant, Mark):
            name, lsn = _NAMED.search(row), _LSN.search(row)
            if name and lsn and name.group(1) == self.instant.name:
                self.position = parse_lsn(lsn.group(1))


def resolved(run: Opened, archive: Archive, window: Window, instant: Instant, log: Log, rows: int) -> Position:
    """The position just before what the instant names: from the newest base on, then from the one before it.
    NotFoundError where the window does not have it. rows: from which on a DELETE or UPDATE is the loss of a table."""
    end = window.until.position
    names = names_of(run, archive, window, surviving(run)) if isinstance(instant, Table) else Names()
    for base in reversed(window.bases):
        with dump(run, archive, window, base.start, log, end) as source:
            position = _position(source, instant, names, rows, log)
        if position is not None:
            log(f"{instant} is at {format_lsn(position)}")
            return Position(position)
        end = base.start
    cause = f"it is not in the WAL from {format_lsn(end)} to {window.until.lsn} of timeline {window.timeline}"
    raise NotFoundError(FIND, str(instant), cause, "Find what happened, and when: lifeboat when.")


def _position(source: Dump, instant: Instant, names: Names, rows: int, log: Log) -> Optional[int]:
    if isinstance(instant, Table):
        happened = events(source, names, table=instant.name, rows=rows, since=None, log=log)
        losses = [event.lsn for event in happened if instant.name in event.names]
        return losses[-1] if losses else None
    finder = _Finder(instant)
    source.scan("--rmgr=XLOG" if isinstance(instant, Mark) else TRANSACTIONS, reader=finder)
    return finder.position


def surviving(run: Opened) -> Sequence[Entry]:
    """The relations of the living server; none where that is what was lost."""
    with contextlib.suppress(LifeboatError):
        return relations.read(database_server.of(run))
    return ()
