# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Positions in PostgreSQL's write-ahead log (WAL), and the names of what holds it. Pure: no files, no clock.

An LSN is a byte position in the log of one server; a segment is a file of `wal_segment_size` bytes of it on one
timeline. A piece is a run of bytes of one segment: `<segment>.<offset>.zst[.age]`. It is written once. A segment is its
pieces put together by their offsets, and what no piece has is zero.

https://www.postgresql.org/docs/current/wal-internals.html, src/include/access/xlog_internal.h
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..base import typed
from ..base.errors import IntegrityError, printable

SMALLEST, DEFAULT, LARGEST = 1 << 20, 16 << 20, 1 << 30  # wal_segment_size, in bytes
MOST_LSN = (1 << 64) - 1
MOST_TIMELINE = (1 << 32) - 1
HISTORY_BYTES = 1 << 16  # of a timeline history file; a fork takes fewer than 200
_FORKS = 1000
_LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.ASCII)
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})", re.ASCII)
_PIECE = re.compile(r"([0-9A-F]{24})\.([0-9a-f]{8})\.zst(\.age)?", re.ASCII)
_HISTORY = re.compile(r"([0-9A-F]{8})\.history(\.age)?", re.ASCII)
_SYSTEM = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_FORK = re.compile(r"[ \t]*([0-9]{1,10})[ \t]+([0-9A-F]{1,8}/[0-9A-F]{1,8})(?:[ \t]+(.*))?", re.ASCII)
PARTIAL = ".partial"  # pg_receivewal's open segment
_REMEDY = "Keep the backup for inquiry, and take a new base: lifeboat wal base."


def wrong(attempted: str, subject: str, cause: str) -> IntegrityError:
    return IntegrityError(attempted, printable(subject)[:200], cause, _REMEDY)


def parse_lsn(text: str) -> int:
    """The position that `0/A4160000` names; leading zeros, as PostgreSQL 19 writes them, are allowed."""
    match = _LSN.fullmatch(text)
    if not match:
        raise wrong("read the position in the WAL", typed.shown(text), "an LSN has the form 0/A4160000")
    return int(match.group(1), 16) << 32 | int(match.group(2), 16)


def format_lsn(position: int) -> str:
    """The LSN as PostgreSQL 14 to 18 write it."""
    if not 0 <= position <= MOST_LSN:
        raise wrong("write the position in the WAL", str(position), "an LSN has 64 bits")
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def is_lsn(text: str) -> bool:
    """Is it an LSN in the form in which format_lsn() writes it? Documents have no other."""
    return bool(_LSN.fullmatch(text)) and format_lsn(parse_lsn(text)) == text


def is_system(text: str) -> bool:
    """Is it a database system identifier: 64 bits, in decimal?"""
    return bool(_SYSTEM.fullmatch(text)) and int(text) <= MOST_LSN


def is_segment_size(size: int) -> bool:
    return SMALLEST <= size <= LARGEST and size & (size - 1) == 0


def require_segment_size(size: int) -> int:
    if not is_segment_size(size):
        raise wrong("read the size of a WAL segment", str(size), "it must be a power of two from 1 MiB to 1 GiB")
    return size


@dataclass(frozen=True, order=True)
class Segment:
    """A segment of the WAL. number: how many segments of `size` bytes lie before it."""

    timeline: int
    number: int
    size: int = DEFAULT

    @property
    def name(self) -> str:
        each = (1 << 32) // self.size
        return f"{self.timeline:08X}{self.number // each:08X}{self.number % each:08X}"

    @property
    def start(self) -> int:
        return self.number * self.size

    @property
    def end(self) -> int:
        """The first position behind it."""
        return self.start + self.size


def segment_at(timeline: int, position: int, size: int) -> Segment:
    """The segment that holds the byte at that position."""
    return Segment(timeline, position // require_segment_size(size), size)


def parse_segment(name: str, size: int) -> Segment:
    """The segment whose file has this name, where segments have `size` bytes."""
    attempted = "read the name of a WAL segment"
    match = _SEGMENT.fullmatch(name)
    if not match:
        raise wrong(attempted, name, "it has 24 hexadecimal digits in capitals")
    timeline, high, low = (int(part, 16) for part in match.groups())
    each = (1 << 32) // require_segment_size(size)
    if not timeline:
        raise wrong(attempted, name, "its timeline is 0; the first one is 1")
    if low >= each:
        raise wrong(attempted, name, f"no segment of {size} bytes has this name")
    return Segment(timeline, high * each + low, size)


@dataclass(frozen=True, order=True)
class PieceName:
    """Which bytes of the WAL a piece begins with. encrypted: by age, after zstd."""

    segment: Segment
    offset: int
    encrypted: bool = False

    def __str__(self) -> str:
        return f"{self.segment.name}.{self.offset:08x}.zst{'.age' if self.encrypted else ''}"

    @property
    def start(self) -> int:
        """The position of its first byte."""
        return self.segment.start + self.offset

    @property
    def most_bytes(self) -> int:
        """It ends with its segment at the latest: nothing that it is unpacked to may be longer."""
        return self.segment.size - self.offset


def parse_piece(name: str, size: int) -> PieceName:
    """The piece whose file has this name, where segments have `size` bytes."""
    match = _PIECE.fullmatch(name)
    if not match:
        raise wrong("read the name of a piece of WAL", name, "it has the form <segment>.<offset>.zst or .zst.age")
    segment, offset = parse_segment(match.group(1), size), int(match.group(2), 16)
    if offset >= size:
        raise wrong("read the name of a piece of WAL", name, f"its offset is not inside a segment of {size} bytes")
    return PieceName(segment, offset, bool(match.group(3)))


def is_piece(name: str) -> bool:
    """Has it the form of a piece's name, whatever the size of segments?"""
    return bool(_PIECE.fullmatch(name))


def history_name(timeline: int, encrypted: bool = False) -> str:
    return f"{timeline:08X}.history{'.age' if encrypted else ''}"


def history_timeline(name: str) -> int:
    """The timeline whose history file has this name; 0 where it is not the name of one."""
    match = _HISTORY.fullmatch(name)
    return int(match.group(1), 16) if match else 0


class Fork(NamedTuple):
    """Where a timeline was left: what is behind `position` on `parent` is not in the history of its child."""

    parent: int
    position: int
    reason: str = ""


def parse_history(data: bytes, timeline: int) -> tuple[Fork, ...]:
    """The forks that a timeline's history file lists, oldest first. The first timeline has no such file."""
    name, attempted = history_name(timeline), "read the history of a timeline"
    if len(data) > HISTORY_BYTES:
        raise wrong(attempted, name, f"it has more than {HISTORY_BYTES} bytes")
    forks: list[Fork] = []
    for row in data.decode("utf-8", "replace").split("\n"):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        match = _FORK.fullmatch(row.rstrip("\r"))
        if not match:
            raise wrong(attempted, name, f"it has the row {typed.shown(row)}")
        fork = Fork(int(match.group(1)), parse_lsn(match.group(2)), (match.group(3) or "").strip())
        last = forks[-1] if forks else Fork(0, 0)
        if not last.parent < fork.parent < timeline or fork.position < last.position:
            raise wrong(attempted, name, f"its timelines and positions do not ascend: {typed.shown(row)}")
        forks.append(fork)
        if len(forks) > _FORKS:
            raise wrong(attempted, name, f"it lists more than {_FORKS} forks")
    if not forks:
        raise wrong(attempted, name, "it lists no fork")
    return tuple(forks)


def ancestors(timeline: int, forks: Sequence[Fork]) -> dict[int, int]:
    """By timeline how far a server on `timeline` shares its history: itself to the end, each parent to the fork."""
    return {**{fork.parent: fork.position for fork in forks}, timeline: MOST_LSN}
