# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send received WAL from the spool to the repository: pieces first, the note that names them last.

One pass, then the end: a timer starts the next. What a pass that was killed has written without a note is in no span;
the next one begins another span, where nothing is in its way. An hour of WAL is one span, whose manifest is written
when it closes. The sender never waits for the database, and the database never for it.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from ...base import clock, filesystem, lock, pipeline, typed
from ...base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError
from ...base.filesystem import explained
from ...base.pipeline import Command
from ...base.text import human
from ...repository import repositories
from ...repository.base import MANIFEST, Repository, TakenError
from ...repository.components import WAL
from ...repository.details import SPAN_PIECES, Gap
from ...repository.local import LocalRepository
from ...repository.manifest import backup_id
from ...settings.config import Config
from ...stack.runtime import Opened
from ...tools import age
from ...wal import notes, segments, spans
from ...wal.notes import Entry, Note, Reached
from ...wal.segments import PieceName, format_lsn, parse_lsn
from ...wal.spans import HOUR, MOST_SPAN_BYTES, Span
from .. import server as database_server
from ..server import Server, answers
from . import receiver, spool, vault
from .preflight import SLOT
from .spool import Cut, Written

SEND = "send WAL to the repository"
LEDGER = "wal-sent.json"
IDLE = timedelta(minutes=5)  # a note says that a quiet stack is alive, and not dead
_BATCH = 64  # pieces that one note names, so that a long way to catch up is noted on the way
_GAPS = 32  # of the newest that are remembered
_MARKS = 20
_ROOM = 2 << 30  # bytes that WAL leaves free in the repository: a night's backup must not fail for it
NEVER = datetime(typed.YEARS[0], 1, 1, tzinfo=timezone.utc)  # the oldest time that a note may have, to be read again
_PATIENCE = 60.0  # seconds for the pass of the timer: who calls by hand, or recovers, wants what is received until then
_COMPRESS = ("zstd", "-1", "-q", "-c")


@dataclass(frozen=True)
class Mark:
    """What the server said: all that was acknowledged before `at` is before `lsn`."""

    timeline: int
    lsn: str
    at: datetime


@dataclass(frozen=True)
class Answer:
    """What the server says of itself. received: until where the receiver has it on its disk, by the server."""

    system: str
    version: int
    segment: int
    timeline: int
    lsn: str
    at: datetime
    received: Optional[str] = None


@dataclass(frozen=True)
class Ledger:
    """What was sent. span: the open one, empty where none is. number, previous: of its last note. position: where the
    next piece begins, on `timeline`. marks: what the server said and is not yet received. gaps: the newest ones;
    unnoted: those that no note has yet."""

    system: str
    version: int
    segment: int
    timeline: int
    position: str
    span: str = ""
    opened_at: Optional[datetime] = None
    number: int = 0
    previous: str = ""
    noted_at: Optional[datetime] = None
    pieces: int = 0
    bytes: int = 0
    reached: Optional[Reached] = None
    marks: tuple[Mark, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unnoted: tuple[Gap, ...] = ()
    histories: tuple[str, ...] = ()

    @property
    def next(self) -> PieceName:
        position = parse_lsn(self.position)
        segment = segments.segment_at(self.timeline, position, self.segment)
        return PieceName(segment, position - segment.start)


# What was acknowledged before `at` is before `lsn`: the time is taken first. A transaction that does not wait for its
# commit (synchronous_commit off) may be written a little later.
_ASK = f"""SELECT jsonb_build_object('at', clock_timestamp(), 'lsn', pg_current_wal_flush_lsn()::text,
  'timeline', ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int,
  'received', (SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = '{SLOT}'),
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'version', current_setting('server_version_num')::int,
  'segment', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'));"""


def ask(server: Server) -> Answer:
    return answers(Answer, server.execute(_ASK, attempted="ask how far the WAL is", timeout=30))[0]


def ledger(config: Config) -> Optional[Ledger]:
    """What this host remembers; None where nothing was sent, or where that cannot be read: a new span begins then."""
    path = config.state / LEDGER
    try:
        return typed.maybe(Ledger, filesystem.read_plain(path))
    except OSError:
        return None


def remember(config: Config, state: Ledger) -> None:
    data = json.dumps(typed.plain(state), indent=1).encode() + b"\n"
    filesystem.remember(config.state / LEDGER, data, attempted="remember what was sent")


@dataclass(frozen=True)
class Waiting:
    """What was received and not sent yet: bytes of WAL, and when the last of them was written to the spool."""

    bytes: int
    at: datetime


def waiting(config: Config) -> Optional[Waiting]:
    """What the next pass will send of the server that was sent last; None where that is nothing. Reads only. Raises
    LifeboatError where the spool cannot be read."""
    state = ledger(config)
    if state is None:
        return None
    known, total, newest = state.next, 0, 0.0
    for folder in receiver.spools(config):
        if receiver.system_of(folder) != state.system:
            continue
        files = spool.contents(folder, state.system, state.segment, after=known.segment, start=known.offset)
        for item, start in spool.unsent(files, known):
            with explained("read the spool", item.path):
                newest = max(newest, item.path.stat().st_mtime)
            total += item.end - start
    return Waiting(total, datetime.fromtimestamp(newest, timezone.utc)) if total else None


def send(run: Opened, log: Log, *, close: bool = False) -> Ledger:
    """One pass: to the repository, and from there to the vault. close: the open span gets its manifest at the end,
    however young it is. Raises LifeboatError; what was noted until then is sent. The vault's failures are in its own
    ledger."""
    config = run.config
    with lock.held(f"{config.stack}.wal", "wal send", wait=_PATIENCE):
        try:
            state = _to_repository(run, log, close)
        except LifeboatError:
            if known := ledger(config):  # a full repository keeps nothing of what it has from the vault
                vault.push(run, log, known.span, known.reached)
            raise
        vault.push(run, log, state.span, state.reached, at_once=close)
        return state


def _to_repository(run: Opened, log: Log, close: bool) -> Ledger:
    work = _Pass(run, log)
    try:
        return work.go(close)
    except TakenError as exc:
        log(f"{exc.cause}: that span is closed, and another one begins")
        work.leave()
        return work.go(close)


class _Pass:
    """state: what was sent until now; None where nothing was, ever."""

    def __init__(self, run: Opened, log: Log) -> None:
        self.run, self.config, self.log = run, run.config, log
        self.repo: Repository = repositories.repository_of(run)
        self.seal = age.sealing(run.config, log)
        self.encrypted = bool(self.seal.recipients)

    def go(self, close: bool) -> Ledger:
        # Of a bucket it would be the room of the staging directory, where no piece of WAL lies.
        free = self.repo.free_bytes() if isinstance(self.repo, LocalRepository) else None
        if free is not None and free < _ROOM:
            raise SpaceError(
                SEND, self.repo.address, f"{human(free)} are free there, and {human(_ROOM)} are left to backups",
                "Make room there. What was received waits in the spool, and after that in the server.",
            )  # fmt: skip
        answer = self._ask()
        state = ledger(self.config)
        folders = receiver.spools(self.config)
        for folder in folders:
            state = self._server(folder, state, answer, last=folder == folders[-1])
        if state is None:
            remedy = "Wait until the server answers and the receiver runs: lifeboat wal status."
            raise NotFoundError(SEND, str(self.config.spool), "nothing was received yet", remedy)
        state = self._idle(state)
        return self._close(state) if close or _due(state) else state

    def leave(self) -> None:
        """Close the open span by what its notes say, or forget it where there are none."""
        state = ledger(self.config)
        if state is not None:
            state = self._close(state)
            remember(self.config, replace(state, span="", number=0, previous="", pieces=0, bytes=0, histories=()))

    def _ask(self) -> Optional[Answer]:
        """None where the server is away: what was received is sent all the same."""
        try:
            return ask(database_server.of(self.run))
        except LifeboatError as exc:
            self.log(f"the server does not answer, what was received is sent: {exc.cause}")
            return None

    def _server(self, folder: Path, state: Optional[Ledger], answer: Optional[Answer], last: bool) -> Optional[Ledger]:
        """Send what one server wrote into one directory. last: it is the one that is written to."""
        system = receiver.system_of(folder)
        here = answer if answer and answer.system == system else None
        if state is None or state.system != system:
            if here is None:
                return state  # of an earlier server, sent long ago, or of one that cannot be asked yet
            state = self._begin(here, folder, state)
        if here is not None:
            state = _marked(state, here)
        known = state.next
        files = spool.contents(folder, system, state.segment, after=known.segment, start=known.offset)
        files = _received(files, here) if last else files
        batch: list[Cut] = []
        for cut in spool.cuts(files, known, self.encrypted):
            if batch and (len(batch) >= _BATCH or not _follows(batch[-1], cut)):
                state = self._send(state, folder, batch)
                batch = []
            batch.append(cut)
        if batch:
            state = self._send(state, folder, batch)
        state = _settled(state)
        remember(self.config, state)
        self._clear(folder, files, state, last)
        return state

    def _clear(self, folder: Path, files: Sequence[Written], state: Ledger, last: bool) -> None:
        """Remove what was sent; of a directory that nothing is written to any more all of it."""
        next_piece = state.next
        with explained("remove what was sent", folder):
            for path in spool.removable(files, next_piece):
                path.unlink(missing_ok=True)
            if not last and not any(spool.cuts(files, next_piece, self.encrypted)):
                filesystem.remove(folder)

    def _begin(self, answer: Answer, folder: Path, before: Optional[Ledger]) -> Ledger:
        """Of a server of which this host remembers nothing: where its newest span ends, else from the first byte that
        was received."""
        if before is not None:
            self._close(before)
        self._close_left()
        files = spool.contents(folder, answer.system, answer.segment)
        first = files[0].segment if files else None
        start = first.start if first else parse_lsn(answer.received or answer.lsn)
        timeline, position = first.timeline if first else answer.timeline, format_lsn(start - start % answer.segment)
        newest = self._newest(answer.system)
        if newest is not None:
            timeline, position = newest.timeline, format_lsn(newest.end)
        note = receiver.enabled(self.config)
        since = clock.parse_time(note.at) if note and note.at else NEVER
        reached = Reached(answer.system, timeline, position, newest.reached.at if newest else since)
        state = Ledger(answer.system, answer.version, answer.segment, timeline, position, reached=reached)
        if before is None:
            return state
        why = "another server: its system identifier changed"
        self.log(f"server {answer.system} instead of {before.system}: between them there is a gap, until a new base")
        return _with_gap(
            replace(state, gaps=before.gaps), Gap(before.system, before.timeline, before.position, "", why, clock.now())
        )

    def _close_left(self) -> None:
        """Spans that are open and that this host does not remember."""
        for identity in self.repo.growing(WAL):
            if self.repo.notes(WAL, identity):
                self._publish(identity)
            else:
                self.repo.delete(WAL, identity)  # no note names what is in it

    def _newest(self, system: str) -> Optional[Span]:
        """Of that server; of the newest spans those that can be read."""
        for identity in list(reversed(self.repo.published(WAL)))[:_GAPS]:
            try:
                span = spans.read(self.repo, identity, self.config.stack)
            except IntegrityError as exc:
                self.log(f"{identity} is passed over: {exc.cause}")
                continue
            if span.system == system:
                return span
        return None

    def _send(self, state: Ledger, folder: Path, batch: Sequence[Cut]) -> Ledger:
        """Pieces of one timeline, then their note."""
        first, last = batch[0].name, batch[-1]
        timeline = first.segment.timeline
        gap = self._gap(state, folder, first)
        if state.span and (timeline != state.timeline or state.pieces + len(batch) > 2 * SPAN_PIECES):
            state = self._close(state)
        state = replace(_with_gap(state, gap) if gap else state, timeline=timeline)
        state = self._opened(state)
        entries = [*self._histories(state, folder), *(self.write(state.span, str(cut.name), cut.data) for cut in batch)]
        state = replace(
            state,
            position=format_lsn(last.name.start + len(last.data)),
            pieces=state.pieces + len(entries),
            bytes=state.bytes + sum(entry.size for entry in entries),
            histories=(*state.histories, *(entry.name for entry in entries if segments.history_timeline(entry.name))),
        )
        return self._note(_settled(state), entries)

    def _gap(self, state: Ledger, folder: Path, first: PieceName) -> Optional[Gap]:
        """Where the WAL does not go on where the last piece ended."""
        position, timeline = parse_lsn(state.position), first.segment.timeline
        if timeline != state.timeline:
            fork = _fork(folder, timeline, state.timeline)
            # The segment in which a timeline was left is in the newer one as well, whole.
            lacks = fork is None or first.start > min(position, fork)
        else:
            lacks = first.start > position
        if not lacks:
            return None
        why = "the WAL between was not received: the slot or the spool was lost"
        self.log(f"a gap from {state.position} to {format_lsn(first.start)}: {why}")
        return Gap(state.system, state.timeline, state.position, format_lsn(first.start), why, clock.now())

    def _opened(self, state: Ledger) -> Ledger:
        if state.span:
            return state
        state = replace(
            state, span=_free_id(self.repo), opened_at=clock.now(), number=0, previous="", pieces=0, bytes=0,
            histories=(), noted_at=None,
        )  # fmt: skip
        remember(self.config, state)
        return state

    def _histories(self, state: Ledger, folder: Path) -> Iterator[Entry]:
        """Where the span's timeline and its ancestors were left, once a span: no segment is understood without."""
        for path in spool.histories(folder):
            timeline = int(path.name[:8], 16)
            name = segments.history_name(timeline, self.encrypted)
            if 2 <= timeline <= state.timeline and name not in state.histories:
                with explained("read the spool", path):
                    data = filesystem.read_file(path, segments.HISTORY_BYTES)
                if data:
                    yield self.write(state.span, name, data, compressed=False)

    def write(self, span: str, name: str, data: bytes, *, compressed: bool = True) -> Entry:
        """One file of the span, encrypted before it leaves this host."""
        stored = self._packed(name, data, compressed)
        self.repo.add(WAL, span, name, stored)
        return Entry(name, len(stored), filesystem.sha256(stored), len(data))

    def _packed(self, name: str, data: bytes, compressed: bool) -> bytes:
        chain = [*([Command(_COMPRESS)] if compressed else []), *self.seal.chain]
        if not chain:
            return data
        packed = io.BytesIO()
        pipeline.run(
            chain, attempted="compress WAL", subject=name, source=io.BytesIO(data), sink=packed, timeout=300,
            remedy="Is zstd installed here, and age where backups are encrypted? apt install zstd age",
        )  # fmt: skip
        return packed.getvalue()

    def _note(self, state: Ledger, entries: Sequence[Entry]) -> Ledger:
        number = state.number + 1
        note = Note(
            state.span, self.config.stack, number, _reached(state), state.segment, state.version, tuple(entries),
            state.unnoted[: notes.MOST_GAPS], state.previous,
        )  # fmt: skip
        data = notes.to_bytes(note, self.repo.identity(), self.config.signing_key)
        self.repo.add(WAL, state.span, note.name, data)
        state = replace(state, number=number, previous=notes.digest(data), noted_at=clock.now(), unnoted=())
        remember(self.config, state)
        return state

    def _idle(self, state: Ledger) -> Ledger:
        """Say now and then that there is nothing to send."""
        if state.span and (state.unnoted or not state.noted_at or clock.now() - state.noted_at >= IDLE):
            return self._note(state, ())
        return state

    def _close(self, state: Ledger) -> Ledger:
        """Write the span's manifest, from what its notes say."""
        if not state.span:
            return state
        there = state.span in self.repo.ids(WAL)
        if there and self.repo.notes(WAL, state.span):
            span = self._publish(state.span)
            # A pass that was killed after a note has sent more than it could remember.
            if span.timeline == state.timeline:
                state = replace(state, position=format_lsn(max(span.end, parse_lsn(state.position))))
        elif there:
            self.repo.delete(WAL, state.span)  # no note names what is in it
        state = replace(state, span="", number=0, previous="", opened_at=None, pieces=0, bytes=0, histories=())
        remember(self.config, state)
        return state

    def _publish(self, identity: str) -> Span:
        span = spans.of_notes(identity, spans.read_notes(self.repo, identity, self.config.stack))
        if self.repo.read_file(WAL, identity, MANIFEST) is None:  # else by a pass that was killed before it remembered
            manifest = spans.manifest_of(
                span, clock.now(), host=socket.gethostname(), recipients=self.seal.recipients, host_key=self.seal.host
            )
            repositories.publish(self.run, manifest, lambda data: self.repo.finish(WAL, identity, data))
            self.log(f"{identity}: closed, {len(manifest.artefacts)} files until {span.reached.lsn}")
        return span


def _due(state: Ledger) -> bool:
    if not state.span or not state.opened_at:
        return False
    old = clock.now() - state.opened_at >= HOUR
    return old or state.pieces >= SPAN_PIECES or state.bytes >= MOST_SPAN_BYTES


def _follows(before: Cut, cut: Cut) -> bool:
    """Whether it goes on where the piece before it ended."""
    same = cut.name.segment.timeline == before.name.segment.timeline
    return same and cut.name.start == before.name.start + len(before.data)


def _with_gap(state: Ledger, gap: Gap) -> Ledger:
    return replace(state, gaps=(*state.gaps, gap)[-_GAPS:], unnoted=(*state.unnoted, gap)[-_GAPS:])


def _fork(folder: Path, timeline: int, parent: int) -> Optional[int]:
    """Where `timeline` left `parent`; None where its history is not here or does not say."""
    path = folder / segments.history_name(timeline)
    try:
        forks = segments.parse_history(filesystem.read_file(path, segments.HISTORY_BYTES), timeline)
    except (OSError, IntegrityError):
        return None
    return next((fork.position for fork in forks if fork.parent == parent), None)


def _marked(state: Ledger, answer: Answer) -> Ledger:
    mark = Mark(answer.timeline, answer.lsn, answer.at)
    return replace(state, version=answer.version, marks=(*state.marks, mark)[-_MARKS:])


def _received(files: Sequence[Written], answer: Optional[Answer]) -> list[Written]:
    """What the receiver has confirmed is written, zeros and all: without them the piece would end before a record does
    that ends in zeros."""
    position = parse_lsn(answer.received) if answer and answer.received else 0
    newest = max((item.segment.timeline for item in files), default=0)
    return [
        item._replace(end=max(item.end, min(position - item.segment.start, item.segment.size)))
        if item.open and item.segment.timeline == newest and item.segment.start < position
        else item
        for item in files
    ]


def _settled(state: Ledger) -> Ledger:
    """With the newest instant of which all is sent."""
    position = parse_lsn(state.position)
    done = [mark for mark in state.marks if mark.timeline == state.timeline and parse_lsn(mark.lsn) <= position]
    if not done:
        return state
    newest = max(done, key=lambda mark: mark.at)
    if state.reached and newest.at < state.reached.at:
        return state
    reached = Reached(state.system, newest.timeline, newest.lsn, newest.at)
    return replace(state, reached=reached, marks=tuple(mark for mark in state.marks if mark.at > newest.at))


def _reached(state: Ledger) -> Reached:
    """What the note says: all until where the next piece begins is sent, and until when that has every commit. While
    the server is away, or of a fresh timeline, of those no more is known than before."""
    before = state.reached
    at, position = before.at if before else NEVER, parse_lsn(state.position)
    if before and before.timeline == state.timeline:
        position = max(position, before.position)
    return Reached(state.system, state.timeline, format_lsn(position), at)


def _free_id(repo: Repository) -> str:
    there, moment = {*repo.ids(WAL)}, datetime.now(timezone.utc)
    while (identity := backup_id(WAL, moment)) in there:
        moment += timedelta(seconds=1)
    return identity
