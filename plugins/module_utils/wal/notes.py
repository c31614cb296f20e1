# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes: while a span of WAL is open, signed files that say which pieces are in it. Pure: bytes in, bytes out.

A note is written after its pieces, under its number: `note-000001.json`. What no note names is not in the span. Each
has the SHA-256 of the one before it, so that none can be left out, swapped or put back unnoticed; `reached` says until
when the span is complete, so that a note that is withheld looks like silence and never like an older truth.

docs/decisions/0051 says why; the bytes are those of `render()` in repository/sealing.py, and no others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, ClassVar, Optional

from ..base import filesystem, typed
from ..base.errors import LifeboatError, UsageError, printable
from ..base.typed import Range
from ..repository import sealing
from ..repository.details import Gap, Major, SegmentSize, Timeline
from ..repository.sealing import Opened, Signature
from ..settings.config import NOTES
from . import segments
from .segments import PieceName, parse_lsn, parse_piece, wrong

SCHEMA = "lifeboat.dr/note"
VERSION = (1, 0)
MOST_BYTES = 1 << 20  # of a note
MOST_NOTES = 9_999  # of a span: an hour has 120 of them
MOST_ENTRIES = 1024  # of a note
MOST_GAPS = 64
MOST_PIECE = 16 << 20  # bytes of WAL in a piece: who writes or reads one may hold it in memory
MORE_STORED = 1 << 20  # bytes by which a piece may be longer as it is stored: what zstd and age add
_NAME = re.compile(r"note-([0-9]{6})\.json", re.ASCII)
_ID = re.compile(r"wal_backup_[0-9]{8}_[0-9]{6}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ = "read the note"


def note_name(number: int) -> str:
    return f"note-{number:06d}.json"


def note_number(name: str) -> int:
    """The number of the note in a file of this name; 0 where it is not a note's name."""
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else 0


@dataclass(frozen=True)
class Entry:
    """One file of a span: a piece, or a timeline's history. size, sha256: as it is stored. bytes: as they were in the
    log, before zstd and age."""

    name: str
    size: Annotated[int, Range(1, MOST_PIECE + MORE_STORED)]
    sha256: str
    bytes: Annotated[int, Range(1, MOST_PIECE)]


@dataclass(frozen=True)
class Reached:
    """Every commit that the server `system` acknowledged before `at` is before `lsn`, and all until there was sent."""

    system: str
    timeline: Timeline
    lsn: str
    at: datetime

    @property
    def position(self) -> int:
        return parse_lsn(self.lsn)


@dataclass(frozen=True)
class Note:
    """id: the span's. number: from 1 on. previous: the SHA-256 of the note before it; of the first one empty.

    segment_size, server_version_num: the server's, so that a span can be closed from its notes alone.
    """

    id: str
    stack: str
    number: Annotated[int, Range(1, MOST_NOTES)]
    reached: Reached
    segment_size: SegmentSize
    server_version_num: Major
    pieces: tuple[Entry, ...] = ()
    gaps: tuple[Gap, ...] = ()
    previous: str = ""
    component: str = "wal"
    signature: Optional[Signature] = None
    COMPONENT: ClassVar[str] = "wal"

    @property
    def name(self) -> str:
        return note_name(self.number)

    def piece(self, entry: Entry) -> PieceName:
        return parse_piece(entry.name, self.segment_size)


@dataclass(frozen=True)
class _Head:
    schema: str
    version: tuple[int, ...]


def body_of(note: Note) -> dict[str, object]:
    """What is written of a note, without a signature."""
    plain = typed.plain(replace(note, signature=None))
    return {"schema": SCHEMA, "version": list(VERSION), **plain}


def to_bytes(note: Note, repository: str = "", key: str = "") -> bytes:
    """The file of a note, signed where there is a private key. repository: the identity of the one that it is written
    to. Raises IntegrityError where no note can be like this, LifeboatError where it cannot be signed."""
    refuse(note)
    body = body_of(note)
    if not key:
        data = sealing.render(body)
    else:
        data = sealing.signed_record(body, Signature(repository, note.number, note.previous), key, NOTES)
    if len(data) > MOST_BYTES:
        raise wrong("write the note", f"{note.id}/{note.name}", f"it has more than {MOST_BYTES} bytes")
    return data


def digest(data: bytes) -> str:
    """What the next note has as `previous`."""
    return filesystem.sha256(data)


def parse(data: bytes, identity: str, number: int, stack: str = "") -> Note:
    """The note that lies under this number in this span. IntegrityError where it is not exactly one that to_bytes()
    wrote; UsageError where a newer Lifeboat wrote it. Its signature is not checked: opened() says what to check."""
    subject = f"{identity}/{note_name(number)}"

    def bad(name: str, cause: str) -> LifeboatError:
        return wrong(_READ, subject, f"{name} {cause}".strip())

    if len(data) > MOST_BYTES:
        raise bad("", f"it has more than {MOST_BYTES} bytes")
    body = typed.load(data, bad)
    head = typed.build(_Head, body, bad, unknown="ignore")
    if head.schema != SCHEMA:
        raise bad("schema", f"is {typed.shown(head.schema)}, not {SCHEMA}")
    if head.version[:1] != VERSION[:1]:
        remedy = "Upgrade Lifeboat on this host (lifeboat.dr.deploy), then try again."
        raise UsageError(_READ, printable(subject), f"its version is {typed.shown(list(head.version))}", remedy)
    if sealing.render(body) != data:
        raise bad("", "its bytes are not as they were written")
    fields = {name: value for name, value in body.items() if name not in ("schema", "version")}
    newer = head.version[1:] > VERSION[1:]
    note = typed.build(Note, fields, bad, unknown="ignore" if newer else "refuse")
    if not newer and _bytes(note) != data:  # another form of the same time, say: there is one form only
        raise bad("", "its bytes are not as they were written")
    if (note.id, note.number) != (identity, number):
        raise bad("", f"it is note {note.number} of {printable(note.id)[:80]}")
    if stack and note.stack != stack:
        raise bad("", f"it is of the stack {printable(note.stack)[:80]}")
    refuse(note)
    return note


def _bytes(note: Note) -> bytes:
    signature = {"signature": typed.plain(note.signature)} if note.signature else {}
    return sealing.render({**body_of(note), **signature})


def opened(data: bytes, identity: str, number: int) -> Opened:
    """What has to be checked of a note's signature, by repository/sealing.py."""
    return sealing.opened_record(data, f"{identity}/{note_name(number)}", NOTES)


def refuse(note: Note) -> None:
    """Raise IntegrityError where the note has what to_bytes() never writes, even where its signature is good."""

    def bad(cause: str) -> LifeboatError:
        return wrong(_READ, f"{note.id}/{note.name}", cause)

    if note.component != Note.COMPONENT or not _ID.fullmatch(note.id):
        raise bad(f"it is of {typed.shown(note.component)}, and in {typed.shown(note.id)}")
    if not segments.is_segment_size(note.segment_size):
        raise bad(f"its segments have {note.segment_size} bytes, which is not a power of two")
    if not segments.is_system(note.reached.system) or not segments.is_lsn(note.reached.lsn):
        raise bad("reached is not a position in the log of a server")
    if cause := _out_of_order(note):
        raise bad(cause)
    if len(note.pieces) > MOST_ENTRIES or len(note.gaps) > MOST_GAPS:
        raise bad(f"it has more than {MOST_ENTRIES} pieces or more than {MOST_GAPS} gaps")
    if cause := next((gap.impossible for gap in note.gaps if gap.impossible), ""):
        raise bad(f"gaps: {cause}")
    names = [entry.name for entry in note.pieces]
    if len({*names}) != len(names):
        raise bad("it names a file twice")
    for entry in note.pieces:
        refuse_entry(note, entry)


def _out_of_order(note: Note) -> str:
    if bool(note.previous) is not (note.number > 1) or (note.previous and not _SHA256.fullmatch(note.previous)):
        return "previous is not the SHA-256 of the note before it"
    bound = note.signature
    if bound and (bound.sequence, bound.previous) != (note.number, note.previous):
        return "its signature is of another number, or of another note before it"
    return ""


def refuse_entry(note: Note, entry: Entry) -> None:
    """Raise IntegrityError where a note cannot name such a file."""

    def bad(cause: str) -> LifeboatError:
        return wrong(_READ, f"{note.id}/{note.name}", f"{typed.shown(entry.name)}: {cause}")

    if not _SHA256.fullmatch(entry.sha256):
        raise bad("it has no SHA-256")
    if timeline := segments.history_timeline(entry.name):
        if not 2 <= timeline <= note.reached.timeline:
            raise bad(f"timeline {timeline} is not in the history of {note.reached.timeline}")
        if max(entry.bytes, entry.size) > segments.HISTORY_BYTES + MORE_STORED:
            raise bad("no history file is so long")
        return
    piece = parse_piece(entry.name, note.segment_size)
    if piece.segment.timeline != note.reached.timeline:
        raise bad(f"it is of timeline {piece.segment.timeline}, and the span of {note.reached.timeline}")
    if entry.bytes > piece.most_bytes:
        raise bad("it goes beyond the end of its segment")
