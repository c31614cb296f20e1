# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes of a span of WAL: what they have beyond repository/notes.py. Pure: bytes in, bytes out.

docs/decisions/0051 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Optional

from ..base import typed
from ..base.typed import Range
from ..repository import notes as common
from ..repository.details import Gap, Major, SegmentSize, Timeline
from ..repository.notes import MORE_STORED, MOST_NOTES, Entry, body_of, digest, note_name, note_number, opened, to_bytes
from ..repository.sealing import Signature
from . import segments
from .segments import PieceName, parse_lsn, parse_piece

MOST_BYTES, MOST_ENTRIES = common.MOST_BYTES, common.MOST_ENTRIES
MOST_GAPS = 64
MOST_PIECE = common.MOST_FILE  # bytes of WAL in a piece
__all__ = [
    "MORE_STORED", "MOST_BYTES", "MOST_ENTRIES", "MOST_GAPS", "MOST_NOTES", "MOST_PIECE", "Entry", "Note", "Reached",
    "body_of", "digest", "note_name", "note_number", "opened", "parse", "to_bytes",
]  # fmt: skip


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

    @property
    def impossible(self) -> str:
        """Why no note of WAL can be like this; empty where one can. Raises IntegrityError for the name of a piece."""
        if not segments.is_segment_size(self.segment_size):
            return f"its segments have {self.segment_size} bytes, which is not a power of two"
        if not segments.is_system(self.reached.system) or not segments.is_lsn(self.reached.lsn):
            return "reached is not a position in the log of a server"
        if len(self.gaps) > MOST_GAPS:
            return f"it has more than {MOST_GAPS} gaps"
        if cause := next((gap.impossible for gap in self.gaps if gap.impossible), ""):
            return f"gaps: {cause}"
        return next((f"{typed.shown(each.name)}: {cause}" for each in self.pieces if (cause := self._unlike(each))), "")

    def _unlike(self, entry: Entry) -> str:
        """Why a note of this span cannot name such a file; empty where it can."""
        if timeline := segments.history_timeline(entry.name):
            if not 2 <= timeline <= self.reached.timeline:
                return f"timeline {timeline} is not in the history of {self.reached.timeline}"
            longest = segments.HISTORY_BYTES + MORE_STORED
            return "no history file is so long" if max(entry.bytes, entry.size) > longest else ""
        piece = self.piece(entry)
        if piece.segment.timeline != self.reached.timeline:
            return f"it is of timeline {piece.segment.timeline}, and the span of {self.reached.timeline}"
        return "it goes beyond the end of its segment" if entry.bytes > piece.most_bytes else ""


def parse(data: bytes, identity: str, number: int, stack: str = "") -> Note:
    """As of repository/notes.py."""
    return common.parse(Note, data, identity, number, stack)
