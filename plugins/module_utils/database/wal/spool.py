# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pg_receivewal has written of one server: how far that goes, what of it is still to be sent, what may go.

A closed segment is whole. Of the open one (`.partial`, padded with zeros) that is written which lies in pages that
have their own address, less the zeros at the end of the last: what a record has of zeros there comes with the next
piece, and until then zero is what they are. The headers: src/include/access/xlog_internal.h, XLogLongPageHeaderData.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from ...base import filesystem
from ...base.errors import IntegrityError
from ...base.filesystem import explained
from ...wal.notes import MOST_PIECE
from ...wal.segments import PARTIAL, PieceName, Segment, parse_segment

MOST = MOST_PIECE  # segments may have 1 GiB, and a note takes no longer piece
_PAGE = 8192  # until the segment itself says otherwise
_SEGMENT = re.compile(r"[0-9A-F]{24}(\.partial)?", re.ASCII)
_HISTORY = re.compile(r"[0-9A-F]{8}\.history", re.ASCII)
_HEAD = 40  # bytes of the first page's header


class Written(NamedTuple):
    """A file of the spool. open: it is the segment that pg_receivewal writes to. end: the offset behind what is written
    of it."""

    path: Path
    segment: Segment
    open: bool
    end: int


@dataclass(frozen=True)
class Cut:
    """Bytes that become a piece."""

    name: PieceName
    data: bytes


def _number(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "little" if sys.byteorder == "little" else "big")


def header(file: BinaryIO, segment: Segment, system: str, path: Path) -> int:
    """The size of a page of WAL, as the segment's first page says; 0 where that is not written yet. Raises
    IntegrityError where it is another server's: two servers' WAL is never mixed."""
    file.seek(0)
    head = file.read(_HEAD)
    if len(head) < _HEAD or _number(head, 8, 8) != segment.start or not _number(head, 0, 2):
        return 0
    owner, size, page = str(_number(head, 24, 8)), _number(head, 32, 4), _number(head, 36, 4)
    if owner != system or size != segment.size or page < 512 or size % page:
        raise IntegrityError(
            "read the spool", str(path), f"it is of server {owner} with segments of {size} bytes, not of {system}",
            "Find out who put it there and move it away.",
        )  # fmt: skip
    return page


def written(path: Path, segment: Segment, system: str, start: int = 0) -> int:
    """The offset behind what is written of an open segment. start: an offset that was reached before."""
    with explained("read the spool", path), filesystem.open_file(path) as file:
        page = header(file, segment, system, path)
        if not page:
            return 0
        number, last = start // page, b""
        while number * page < segment.size:
            file.seek(number * page)
            data = file.read(page)
            if len(data) < page or _number(data, 8, 8) != segment.start + number * page:
                break
            number, last = number + 1, data
        return max(start, (number - 1) * page + len(last.rstrip(b"\0"))) if last else start


def contents(folder: Path, system: str, size: int, *, after: Optional[Segment] = None, start: int = 0) -> list[Written]:
    """The segments there, in the order of the WAL. after, start: of that segment so much is known to be written."""
    found: list[Written] = []
    for name in _names(folder, _SEGMENT):
        path, segment = folder / name, parse_segment(name[:24], size)
        if name.endswith(PARTIAL):
            known = start if segment == after else 0
            found.append(Written(path, segment, True, written(path, segment, system, known)))
        else:
            with explained("read the spool", path), filesystem.open_file(path) as file:
                header(file, segment, system, path)
                length = os.fstat(file.fileno()).st_size
            if length == size:  # else it was just made
                found.append(Written(path, segment, False, size))
    return sorted(found, key=lambda item: (item.segment.number, item.segment.timeline, item.open))


def histories(folder: Path) -> list[Path]:
    """The files that say where timelines were left."""
    return [folder / name for name in _names(folder, _HISTORY)]


def _names(folder: Path, form: re.Pattern[str]) -> list[str]:
    with explained("list the spool", folder):
        entries = [entry for entry in os.scandir(folder) if form.fullmatch(entry.name)]
        return sorted(item.name for item in entries if stat.S_ISREG(item.stat(follow_symlinks=False).st_mode))


def cuts(files: Sequence[Written], sent: Optional[PieceName], encrypted: bool) -> Iterator[Cut]:
    """What is still to be sent, in order. sent: where the next piece begins; None: with what is there."""
    for item, start in unsent(files, sent):
        offset = start
        with explained("read the spool", item.path), filesystem.open_file(item.path) as file:
            file.seek(offset)
            while offset < item.end:
                data = file.read(min(MOST, item.end - offset))
                if not data:
                    break
                yield Cut(PieceName(item.segment, offset, encrypted), data)
                offset += len(data)


def unsent(files: Sequence[Written], sent: Optional[PieceName]) -> Iterator[tuple[Written, int]]:
    """Each segment of which something is still to be sent, and the offset from which on. sent: as of cuts()."""
    for item in files:
        segment, offset = item.segment, 0
        if sent is not None:
            if segment.timeline < sent.segment.timeline or (
                segment.timeline == sent.segment.timeline and segment.number < sent.segment.number
            ):
                continue
            offset = sent.offset if segment == sent.segment else 0
        if offset < item.end:
            yield item, offset


def removable(files: Sequence[Written], sent: PieceName) -> list[Path]:
    """The closed segments that were sent whole, but for the newest: by it pg_receivewal knows where to go on, and one
    of PostgreSQL 14 that finds nothing would go on with what is written now."""
    closed = [item for item in files if not item.open]
    done = [item for item in closed[:-1] if item.segment.end <= sent.start]
    # Where a timeline was left, its open segment stays open for ever.
    done += [item for item in files if item.open and item.segment.timeline < sent.segment.timeline]
    return [item.path for item in done if item.segment.timeline <= sent.segment.timeline]
