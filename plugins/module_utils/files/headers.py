# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The headers of a pack's tar, as bytes: ustar, with pax records for what that has no room for.

Python's tarfile writes and reads the same; for a million small files its objects are most of the work. What a pack may
have is what Lifeboat writes, with this or with tarfile: plain files, and before one of them its pax records.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import IO, Callable, Optional, cast

from ..base.errors import LifeboatError

BLOCK = 512
RECORD = 20 * BLOCK  # a tar ends with zeros up to a multiple of it
RECORDS = 1 << 20  # bytes of what is said of one file, such as its name
_CHUNK = 1 << 18  # bytes that are read at once
_WHOLE = 1 << 20  # bytes of a file that is read whole
_NAME, _CHECKED = 100, 156  # where the name ends, and the checksum
_FILE, _RECORDS = b"0", b"x"
_ZEROS = bytes(BLOCK)
_END = b"ustar\x0000" + bytes(64)  # magic, version, no names of owner and group
_NUMBERS = re.compile(rb"[0-7]{7}\0[0-7]{7}\0[0-7]{7}\0([0-7]{11})\0[0-7]{11}\0([0-7]{6})\0 ")
_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_SIZE = re.compile(rb"[0-9]{1,18}")
# What follows the checksum. Of what is no device tarfile wrote zeros as its numbers, and from Python 3.10 on nothing.
_TAILS = {
    kind + bytes(_NAME) + _END + numbers + bytes(167): kind for kind in (_FILE, _RECORDS)
    for numbers in (bytes(16), b"0000000\0" * 2)
}  # fmt: skip
_SUMS = {tail: sum(tail) + 8 * ord(" ") for tail in _TAILS}
_TAIL_OF = {kind: tail for tail, kind in reversed(_TAILS.items())}
Pair = tuple[bytes, bytes]


def header(
    path: str, size: int, mode: int, owner: tuple[int, int], seconds: int, records: Sequence[Pair] = ()
) -> bytes:
    """What stands before the content of a file. seconds: its mtime. records: pax records, besides those it takes."""
    name = path.encode("utf-8", "surrogateescape")
    uid, gid = owner
    if not path.isascii() or len(name) > _NAME:
        records = [*records, (b"path", name)]
        name = path.encode("ascii", "replace")[:_NAME]
    if uid >= 8**7:
        records, uid = [*records, (b"uid", b"%d" % uid)], 0
    if gid >= 8**7:
        records, gid = [*records, (b"gid", b"%d" % gid)], 0
    if size >= 8**11:
        records, size = [*records, (b"size", b"%d" % size)], 0
    if not 0 <= seconds < 8**11:
        records, seconds = [*records, (b"mtime", b"%d" % seconds)], 0
    block = _block(name, size, mode, uid, gid, seconds, _FILE)
    return _extended(records) + block if records else block


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def end(size: int) -> bytes:
    """What ends a tar of so many bytes."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def _block(name: bytes, size: int, mode: int, uid: int, gid: int, seconds: int, kind: bytes) -> bytes:
    fields = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, seconds)
    tail = _TAIL_OF[kind]
    return b"%b%b%06o\0 %b" % (name.ljust(_NAME, b"\0"), fields, sum(name) + sum(fields) + _SUMS[tail], tail)


def _extended(records: Sequence[Pair]) -> bytes:
    """The pax records, with a header of their own."""
    data = b"".join(_record(keyword, value) for keyword, value in records)
    if not _is_text(data):
        data = _record(b"hdrcharset", b"BINARY") + data
    return _block(b"././@PaxHeader", len(data), 0, 0, 0, 0, _RECORDS) + data + padding(len(data))


def _record(keyword: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (keyword, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Blocks:
    """A stream, from which exactly so much is taken as somebody needs."""

    def __init__(self, stream: IO[bytes], damaged: Callable[[str], LifeboatError]) -> None:
        self._stream, self._damaged = stream, damaged
        self._data, self._at = b"", 0

    def take(self, size: int) -> bytes:
        """The next so many bytes."""
        begin, ends = self._at, self._at + size
        if ends > len(self._data):
            rest = self._data[begin:]
            self._data = rest + self._stream.read(max(_CHUNK, size - len(rest)))
            begin, ends = 0, size
            if len(self._data) < size:
                raise self._damaged("it ends in the middle of a file")
        self._at = ends
        return self._data[begin:ends]


class _Part(io.RawIOBase):
    """What is stored of a large file."""

    def __init__(self, blocks: _Blocks, size: int) -> None:
        super().__init__()
        self._blocks, self.left = blocks, size

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        data = self._blocks.take(min(size, self.left, _WHOLE))
        self.left -= len(data)
        return data


def members(stream: IO[bytes], most: int, damaged: Callable[[str], LifeboatError]) -> Iterator[tuple[str, IO[bytes]]]:
    """(path, what is stored) of every file, in turn: what was not read of one is passed over. To the very end of the
    stream. Raises what damaged() makes of a cause."""
    blocks, number = _Blocks(stream, damaged), 0
    while (member := _member(blocks, damaged)) is not None:
        path, size = member
        number += 1
        if number > most:
            raise damaged(f"it has more than {most} files")
        if size <= _WHOLE:
            yield path, io.BytesIO(blocks.take(size))
        else:
            part = _Part(blocks, size)
            yield path, cast(IO[bytes], part)
            while part.left:
                part.read(_CHUNK)
        blocks.take(-size % BLOCK)
    while stream.read(_CHUNK):  # so that what writes it ends well, or says why not
        pass


def _member(blocks: _Blocks, damaged: Callable[[str], LifeboatError]) -> Optional[tuple[str, int]]:
    """The path of the next file, and how many bytes are stored of it; None at the end."""
    head = blocks.take(BLOCK)
    if head == _ZEROS:
        return None
    kind, length = _checked(head, damaged)
    name, size = "", -1
    if kind == _RECORDS:
        if length > RECORDS:
            raise damaged(f"a header of {length} bytes")
        name, size = _path_and_size(blocks.take(length), damaged)
        blocks.take(-length % BLOCK)
        head = blocks.take(BLOCK)
        kind, length = _checked(head, damaged)
        if kind == _RECORDS:
            raise damaged("headers without a file")
    name = name or head[:_NAME].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return name, size if size >= 0 else length


def _checked(head: bytes, damaged: Callable[[str], LifeboatError]) -> tuple[bytes, int]:
    """What kind of header it is, and the size that it tells."""
    numbers, tail = _NUMBERS.fullmatch(head, _NAME, _CHECKED), head[_CHECKED:]
    if numbers is None or tail not in _TAILS:
        raise damaged("a header that no backup has")
    if sum(head[: _CHECKED - 8]) + _SUMS[tail] != int(numbers[2], 8):
        raise damaged("a header with another checksum")
    return _TAILS[tail], int(numbers[1], 8)


def _path_and_size(data: bytes, damaged: Callable[[str], LifeboatError]) -> tuple[str, int]:
    """The path and the size of pax records; empty and -1 where they have none. A sparse file's name is its own."""
    path, name, size, at = b"", b"", -1, 0
    while at < len(data):
        length = _LENGTH.match(data, at)
        ends = at + int(length[1]) if length else 0
        if length is None or not length.end() < ends <= len(data) or data[ends - 1] != 10:
            raise damaged("a record that is none")
        keyword, _equals, value = data[length.end() : ends - 1].partition(b"=")
        if keyword == b"path":
            path = value
        elif keyword == b"GNU.sparse.name":
            name = value
        elif keyword == b"size":
            if not _SIZE.fullmatch(value):
                raise damaged("a size that is none")
            size = int(value)
        at = ends
    return (name or path).decode("utf-8", "surrogateescape"), size
