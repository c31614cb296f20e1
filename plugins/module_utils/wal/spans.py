# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans: an hour of WAL is one backup, written piece by piece and closed with one manifest.

While a span is open its notes say what is in it (notes.py); once it is closed its manifest does. Either way it is read
into a Span, and only where every piece follows the one before it, or a gap says why it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import BinaryIO, Callable, Optional

from ..base import filesystem, typed
from ..base.checks import FAIL, PASS, Check
from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..base.version import VERSION
from ..repository import manifest as manifests
from ..repository import notes as common
from ..repository.base import Repository
from ..repository.components import WAL
from ..repository.details import MOST_SPAN_PIECES, SPAN_PIECES, Gap, WalDetails
from ..repository.manifest import Artefact, Manifest
from . import notes, segments
from .notes import Entry, Note, Reached
from .segments import PieceName, Segment, format_lsn, parse_piece, wrong

HOUR = timedelta(hours=1)
MOST_SPAN_BYTES = 1 << 30
_READ = "read the span of WAL"


@dataclass(frozen=True)
class Piece:
    """A run of bytes of the log, and the file that has them. bytes: how many of the log's."""

    name: PieceName
    artefact: Artefact
    bytes: int

    @property
    def start(self) -> int:
        return self.name.start

    @property
    def end(self) -> int:
        """The position behind its last byte. What follows to the next piece's start is in no piece."""
        return self.name.start + self.bytes


@dataclass(frozen=True)
class Span:
    """What is in a span. pieces: in the log's order. first_at: when the first note was written. reached: until when it
    is complete. notes, last_note: how many there are, and the SHA-256 of the last one."""

    id: str
    stack: str
    system: str
    server_version_num: int
    segment_size: int
    reached: Reached
    first_at: datetime
    pieces: tuple[Piece, ...] = ()
    histories: tuple[Artefact, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: int = 0
    last_note: str = ""
    closed: bool = False

    @property
    def timeline(self) -> int:
        return self.reached.timeline

    @property
    def start(self) -> int:
        """Where its first piece begins; of a span without one, what it reached."""
        return self.pieces[0].start if self.pieces else self.reached.position

    @property
    def end(self) -> int:
        """Where the next piece begins, in this span or the next one."""
        return self.pieces[-1].end if self.pieces else self.reached.position

    @property
    def size(self) -> int:
        """Bytes that are stored."""
        return sum(item.size for item in (*(piece.artefact for piece in self.pieces), *self.histories))

    def full(self, now: datetime) -> bool:
        """Is it time to close it?"""
        many = len(self.pieces) + len(self.histories) >= SPAN_PIECES or self.notes >= notes.MOST_NOTES - 1
        return many or self.size >= MOST_SPAN_BYTES or now - self.first_at >= HOUR


# Reading.


def read(repo: Repository, identity: str, stack: str = "") -> Span:
    """The span of that id, open or closed. IntegrityError where anything of it is not as it was written, UntrustedError
    where signers are pinned and none of them signed it, NotFoundError where there is none."""
    try:  # by itself, as a bucket is asked once for each backup that it lists
        data = repo.manifest(WAL, identity)
    except NotFoundError:
        return of_notes(identity, read_notes(repo, identity, stack))
    manifest = manifests.parse(data, component=WAL, expected_id=identity)
    if stack and manifest.stack != stack:
        raise wrong(_READ, identity, f"it is of the stack {manifest.stack[:80]}")
    return of_manifest(manifest)


def read_notes(repo: Repository, identity: str, stack: str = "") -> list[tuple[Note, str]]:
    """Every note of a span with its SHA-256, as repository/notes.py reads them."""
    return common.read(repo, WAL, Note, identity, stack, _READ)


def of_notes(identity: str, chain: Sequence[tuple[Note, str]]) -> Span:
    """The span that these notes are of, which is open."""
    first, last = chain[0][0], chain[-1][0]
    reached = first.reached
    for note, _digest in chain:
        stream = (note.stack, note.reached.system, note.reached.timeline, note.segment_size, note.server_version_num)
        if stream != (first.stack, reached.system, reached.timeline, first.segment_size, first.server_version_num):
            raise wrong(_READ, identity, f"{note.name} is of another server, timeline or stack than the first note")
        if note.reached.position < reached.position or note.reached.at < reached.at:
            raise wrong(_READ, identity, f"{note.name} reached less than the note before it")
        reached = note.reached
    entries = [entry for note, _digest in chain for entry in note.pieces]
    return _span(
        Span(
            identity, first.stack, reached.system, first.server_version_num, first.segment_size, reached,
            first.reached.at, gaps=tuple(gap for note, _digest in chain for gap in note.gaps), notes=len(chain),
            last_note=chain[-1][1],
        ),
        [Artefact(entry.name, entry.size, entry.sha256) for entry in entries],
        {entry.name: entry.bytes for entry in entries}, last,
    )  # fmt: skip


def of_manifest(manifest: Manifest) -> Span:
    """The span that a manifest closed."""
    details = manifest.detailed(WalDetails)
    reached = Reached(details.system_identifier, details.timeline, details.reached, details.last_at)
    if not segments.is_segment_size(details.segment_size):
        raise wrong(_READ, manifest.id, f"its segments have {details.segment_size} bytes, which is not a power of two")
    span = Span(
        manifest.id, manifest.stack, details.system_identifier, details.server_version_num, details.segment_size,
        reached, details.first_at, gaps=details.gaps, notes=details.notes, last_note=details.last_note, closed=True,
    )  # fmt: skip
    span = _span(span, manifest.artefacts, details.lengths)
    if (format_lsn(span.start), format_lsn(span.end)) != (details.start, details.end):
        raise wrong(_READ, manifest.id, "it does not begin and end where its pieces do")
    return span


def _span(span: Span, artefacts: Iterable[Artefact], lengths: Mapping[str, int], last: Optional[Note] = None) -> Span:
    pieces, histories = [], []
    for artefact in artefacts:
        if segments.history_timeline(artefact.name):
            histories.append(artefact)
        else:
            pieces.append(Piece(parse_piece(artefact.name, span.segment_size), artefact, lengths[artefact.name]))
    if len(pieces) + len(histories) > MOST_SPAN_PIECES:
        raise wrong(_READ, span.id, f"it has more than {MOST_SPAN_PIECES} pieces")
    whole = replace(span, pieces=tuple(sorted(pieces, key=lambda piece: piece.start)), histories=tuple(histories))
    if cause := unsound(whole):
        raise wrong(_READ, span.id, cause)
    return whole


def unsound(span: Span) -> str:
    """Why no span of ours can have such pieces; empty where they follow one another, or gaps say where they do not."""
    names = [str(piece.name) for piece in span.pieces] + [item.name for item in span.histories]
    if len({*names}) != len(names):
        return "it names a file twice"
    for piece in span.pieces:
        if piece.name.segment.timeline != span.timeline:
            return f"{piece.name} is of another timeline than {span.timeline}"
        if not 1 <= piece.bytes <= min(piece.name.most_bytes, notes.MOST_PIECE):
            return f"{piece.name} goes beyond its segment, or is longer than a piece is"
    for before, after in zip(span.pieces, span.pieces[1:]):
        if cause := unfollowed(before.end, after, span.gaps, span.system):
            return cause
    if span.pieces and span.end > span.reached.position + span.segment_size:
        return f"its pieces end at {format_lsn(span.end)}, far behind {span.reached.lsn} that it reached"
    return ""


def unfollowed(end: int, piece: Piece, gaps: Iterable[Gap], system: str) -> str:
    """Why this is not the next piece after the position `end` of that server; empty where it is, or a gap says so."""
    if piece.start == end:
        return ""
    if piece.start < end:
        return f"{piece.name} begins before {format_lsn(end)}, where the piece before it ends"
    timeline = piece.name.segment.timeline
    hole = (system, timeline, format_lsn(end), format_lsn(piece.start))
    if any((gap.system, gap.timeline, gap.start, gap.end) == hole for gap in gaps):
        return ""
    return f"nothing has the WAL from {hole[2]} to {hole[3]}, and no gap says why"


def damaged(repo: Repository, span: Span) -> dict[str, str]:
    """What is wrong with the files of a span, by name, each read to its end: for an open one what `verify` does for a
    backup. A file that no note names yet does not belong to it."""
    differences: dict[str, str] = {}
    for artefact in (*(piece.artefact for piece in span.pieces), *span.histories):
        if cause := damaged_piece(repo, span.id, artefact):
            differences[artefact.name] = f"{artefact.name}: {cause}"
    return differences


def damaged_piece(repo: Repository, identity: str, artefact: Artefact) -> str:
    """What is wrong with one file of a span, which is read to its end; empty where nothing is."""
    try:
        for _chunk in stored(repo, identity, artefact):
            pass
    except LifeboatError as exc:
        return exc.cause
    return ""


def stored(repo: Repository, identity: str, artefact: Artefact) -> Iterator[bytes]:
    """The bytes of a file as it is stored, as repository/notes.py reads them."""
    return common.stored(repo, WAL, identity, artefact, _READ)


def put_together(
    target: BinaryIO, segment: Segment, pieces: Sequence[Piece], unpack: Callable[[Piece], Iterable[bytes]]
) -> int:
    """Write a segment's file out of its pieces: what none of them has is zero. `unpack` yields the bytes of the log
    that a piece has; more or fewer than it should are an error. Returns how much of the segment the pieces have."""
    attempted, position = "put the WAL segment together", segment.start
    target.seek(0)
    target.truncate(0)
    target.truncate(segment.size)  # as zeros: a file grows, and what was in it before is gone
    for piece in sorted((piece for piece in pieces if piece.name.segment == segment), key=lambda piece: piece.start):
        if piece.start != position:
            word = "overlaps the one before it" if piece.start < position else "leaves a hole before it"
            raise wrong(attempted, str(piece.name), word)
        target.seek(piece.name.offset)
        left = piece.bytes
        for data in unpack(piece):
            left -= len(data)
            if left < 0:
                raise wrong(attempted, str(piece.name), f"it has more than {piece.bytes} bytes")
            target.write(data)
        if left:
            raise wrong(attempted, str(piece.name), f"it lacks {left} of {piece.bytes} bytes")
        position = piece.end
    return position - segment.start


# Writing.


@dataclass
class Writer:
    """Adds to one open span of a repository. key: of this host, empty where it signs nothing. The caller holds the lock
    of the stack's sender."""

    repo: Repository
    stack: str
    identity: str
    segment_size: int
    server_version_num: int
    key: str = ""
    span: Optional[Span] = None

    @classmethod
    def resume(cls, repo: Repository, identity: str, stack: str, key: str = "") -> Writer:
        """The writer of a span that is open already. Raises as read() does."""
        span = of_notes(identity, read_notes(repo, identity, stack))
        return cls(repo, span.stack, identity, span.segment_size, span.server_version_num, key, span)

    def add(self, name: str, data: bytes, length: int) -> Entry:
        """Write one piece or history file as it is stored. length: how many bytes of the log it has. It is in the span
        once a note names it."""
        entry = Entry(name, len(data), filesystem.sha256(data), length)
        if not (segments.history_timeline(name) or parse_piece(name, self.segment_size)):
            raise wrong("write the piece of WAL", name, "it is neither a piece nor a history file")
        if max(length, len(data) - notes.MORE_STORED) > notes.MOST_PIECE:
            raise wrong("write the piece of WAL", name, f"it has more than {notes.MOST_PIECE} bytes")
        self.repo.add(WAL, self.identity, name, data)
        return entry

    def note(self, reached: Reached, entries: Sequence[Entry] = (), gaps: Sequence[Gap] = ()) -> Span:
        """Write the next note: from then on these files are in the span. Raises IntegrityError, and writes nothing,
        where they do not follow what is there."""
        before = self.span
        note = Note(
            self.identity, self.stack, (before.notes if before else 0) + 1, reached, self.segment_size,
            self.server_version_num, tuple(entries), tuple(gaps), before.last_note if before else "",
        )  # fmt: skip
        data = notes.to_bytes(note, self.repo.identity() if self.key else "", self.key)
        after = _continued(before, note, notes.digest(data))
        self.repo.add(WAL, self.identity, note.name, data)
        self.span = after
        return after

    def manifest(self, finished_at: datetime, **details: object) -> Manifest:
        """What closes the span: sign it by repositories.publish() and give its bytes to repo.finish(). details: host,
        recipients, host_key."""
        if self.span is None:
            remedy = "Write its first note, or leave it."
            raise UsageError("close the span of WAL", self.identity, "it has no note", remedy)
        return manifest_of(self.span, finished_at, **details)


def _continued(before: Optional[Span], note: Note, digest: str) -> Span:
    """The span with one more note."""
    if before is None:
        return of_notes(note.id, [(note, digest)])
    reached = note.reached
    stream = (reached.system, reached.timeline, note.segment_size)
    if stream != (before.system, before.timeline, before.segment_size):
        raise wrong("write the note", note.name, "another server or timeline needs a span of its own")
    if reached.position < before.reached.position or reached.at < before.reached.at:
        raise wrong("write the note", note.name, "it reached less than the note before it")
    artefacts = [*(piece.artefact for piece in before.pieces), *before.histories]
    lengths = {str(piece.name): piece.bytes for piece in before.pieces}
    fresh = [Artefact(entry.name, entry.size, entry.sha256) for entry in note.pieces]
    lengths.update({entry.name: entry.bytes for entry in note.pieces})
    whole = replace(
        before, reached=reached, gaps=(*before.gaps, *note.gaps), notes=note.number, last_note=digest, pieces=()
    )
    return _span(whole, [*artefacts, *fresh], lengths)


def manifest_of(span: Span, finished_at: datetime, **details: object) -> Manifest:
    """The manifest that closes a span. It is of the instant that the span reached."""
    about = WalDetails(
        span.system, span.server_version_num, span.segment_size, span.timeline, format_lsn(span.start),
        format_lsn(span.end), span.reached.lsn, span.first_at, span.reached.at,
        {str(piece.name): piece.bytes for piece in span.pieces}, span.gaps, span.notes, span.last_note,
        **details,  # type: ignore[arg-type]
    )  # fmt: skip
    artefacts = (*(piece.artefact for piece in span.pieces), *span.histories)
    written = max(finished_at, span.reached.at)
    return Manifest(
        span.id, WAL, span.stack, span.reached.at, written, artefacts, {"lifeboat": VERSION}, typed.plain(about)
    )


def unlike_notes(closed: Span, chain: Sequence[tuple[Note, str]]) -> str:
    """Why a closed span is not what its notes say; empty where it is. A note less is one that somebody removed."""
    if (len(chain), chain[-1][1] if chain else "") != (closed.notes, closed.last_note):
        return f"{closed.notes} notes were written, and {len(chain)} are there, or the last one is another"
    opened = of_notes(closed.id, chain)
    same = replace(opened, closed=True, histories=closed.histories)
    if same != closed or {*opened.histories} != {*closed.histories}:
        return "its manifest names other pieces than its notes"
    return ""


def check(repo: Repository, manifest: Manifest) -> Check:
    """Whether the pieces of a closed span follow one another, and are those that its notes name. A copy has no notes:
    of that the manifest's own account counts."""
    try:
        span = of_manifest(manifest)
        if not repo.notes(WAL, manifest.id) and span.notes:
            return Check("span", PASS, f"{len(span.pieces)} pieces to {span.reached.lsn}; its notes are not here")
        cause = unlike_notes(span, read_notes(repo, manifest.id, manifest.stack))
    except LifeboatError as exc:
        return Check("span", FAIL, exc.cause)
    gaps = f", {len(span.gaps)} gaps" if span.gaps else ""
    return Check("span", FAIL if cause else PASS, cause or f"{len(span.pieces)} pieces to {span.reached.lsn}{gaps}")


def following(spans: Sequence[Span], start: int, timeline: int, system: str) -> tuple[list[Span], str]:
    """The spans that hold the WAL of one server and timeline from a position on, in order, as far as they follow one
    another; and why they end before the last of them, empty where they do not."""
    chosen = sorted(
        (span for span in spans if (span.system, span.timeline) == (system, timeline) and span.pieces),
        key=lambda span: span.start,
    )
    there: list[Span] = []
    position = -1
    for span in chosen:
        if span.end <= start:
            continue
        if not there and span.start > start:
            return [], f"nothing has the WAL from {format_lsn(start)} to {format_lsn(span.start)}"
        if there and span.start != position:
            return there, unfollowed(position, span.pieces[0], (), system)
        for before, after in zip(span.pieces, span.pieces[1:]):
            if before.end != after.start and after.end > start:
                return [*there, span], f"there is a gap from {format_lsn(before.end)} to {format_lsn(after.start)}"
        there.append(span)
        position = span.end
    return there, ""
