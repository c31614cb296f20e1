# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of files: its digest, the pieces of a sparse file, and the copy that SQLite makes of a database."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..base import filesystem
from ..base.errors import LifeboatError
from ..stack.contents import SQLITE_HEAD
from .walk import inside

CHUNK = 1 << 20
BLOCK = 4096
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database, and a copy of it does not need
_HOLES = 1 << 20  # bytes that a file must spare to be called sparse
_ZEROS = bytes(BLOCK)
_LOCKED = 5.0  # seconds that a database may be locked by its application, which may stand still meanwhile
_COPIED = 600.0  # seconds that a copy may take
_BUSY = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED: https://www.sqlite.org/rescode.html
_PAGES = 4096  # of a copy, between which writers have their turn
# What of a database's head tells only how often it was written, and by which release of SQLite: its change counter, for
# which change the size in it is valid, and the release. https://www.sqlite.org/fileformat2.html#the_database_header
_COUNTERS = ((24, b"\0\0\0\1"), (92, b"\0\0\0\1"), (96, bytes(4)))


def is_sparse(status: os.stat_result) -> bool:
    return status.st_size - status.st_blocks * 512 >= _HOLES


def pieces(handle: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what a sparse file holds, in order; of one on a file system that knows no holes all of it."""
    found: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(handle, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == 6:  # ENXIO: nothing but a hole is left
                break
            return [(0, size)]
        end = min(os.lseek(handle, begin, os.SEEK_HOLE), size)
        if begin >= end:
            break
        found.append((begin, end - begin))
        offset = end
    return found


def read_pieces(handle: int, segments: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes), a chunk at a time. Where the file has become shorter zeros take the place of what is gone: who
    reads it sees by the status that it was changed."""
    for offset, length in segments:
        done = 0
        while done < length:
            data = os.pread(handle, min(CHUNK, length - done), offset + done)
            data = data or bytes(min(CHUNK, length - done))
            yield offset + done, data
            done += len(data)


class SparseDigest:
    """SHA-256 of the blocks of 4,096 bytes that are not all zeros, each after its offset in decimal and a newline: the
    same wherever a file system puts its holes, and a terabyte of them takes no time."""

    def __init__(self) -> None:
        self._digest, self._block, self._number = hashlib.sha256(), bytearray(), -1

    def add(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, inner = divmod(offset + at, BLOCK)
            if number != self._number:
                self._flush()
                self._number, self._block = number, bytearray(BLOCK)
            piece = data[at : at + BLOCK - inner]
            self._block[inner : inner + len(piece)] = piece
            at += len(piece)

    def _flush(self) -> None:
        if self._number >= 0 and self._block != _ZEROS:
            self._digest.update(f"{self._number * BLOCK}\n".encode() + self._block)

    def hexdigest(self) -> str:
        self._flush()
        self._number = -1
        return self._digest.hexdigest()


def digest(handle: int, size: int, *, sparse: bool) -> str:
    """SHA-256 of an open file as a listing has it."""
    if sparse:
        sparse_digest = SparseDigest()
        for offset, data in read_pieces(handle, pieces(handle, size)):
            sparse_digest.add(offset, data)
        return sparse_digest.hexdigest()
    data = os.pread(handle, min(size + 1, CHUNK), 0)
    plain, offset = hashlib.sha256(data), len(data)
    while offset != size or offset >= CHUNK:  # of a file that is as long as it was one call is enough
        if not (data := os.pread(handle, CHUNK, offset)):
            break
        plain.update(data)
        offset += len(data)
    return plain.hexdigest()


def is_database(handle: int) -> bool:
    return os.pread(handle, len(SQLITE_HEAD), 0) == SQLITE_HEAD


def copy_database(at: int, name: str, target: Path) -> None:
    """A copy of a SQLite database of one instant, made by SQLite while others write to it, and checked by it.

    Raises LifeboatError where SQLite cannot: then the file itself is all that there is.
    """
    attempted, subject = "copy the SQLite database", name
    try:
        _copy(at, name, "mode=ro", target)
        if problem := check_database(target):
            raise LifeboatError(attempted, subject, f"SQLite finds it damaged: {problem}")
    except (sqlite3.Error, TimeoutError) as exc:
        raise LifeboatError(attempted, subject, f"SQLite says: {exc}") from exc


def _copy(at: int, name: str, how: str, target: Path) -> None:
    """Every page of it, and nothing that tells how the file is kept: two copies are alike where their pages are."""
    with contextlib.closing(sqlite3.connect(f"file:{_quoted(inside(at, name))}?{how}", uri=True)) as source:
        source.execute(f"PRAGMA busy_timeout = {int(_LOCKED * 1000)}")
        with contextlib.closing(sqlite3.connect(target)) as made:
            source.backup(made, pages=_PAGES, progress=_Patience(), sleep=0.05)
            made.execute("PRAGMA journal_mode = DELETE")
    target.chmod(0o600)
    with target.open("r+b") as file:
        for offset, value in _COUNTERS if os.fstat(file.fileno()).st_size else ():
            os.pwrite(file.fileno(), value, offset)


def copied_digest(at: int, name: str, target: Path) -> str:
    """The SHA-256 of the copy that a backup would have of it; empty where it is no whole database any more.

    Nothing is left beside it. Raises OSError where that cannot be told, as somebody has locked it.
    """
    try:
        # With nobody in it SQLite would make a write-ahead log, only to read.
        _copy(at, name, "mode=ro" if _log_in_use(at, name) else "mode=ro&immutable=1", target)
        with target.open("rb") as file:
            return digest(file.fileno(), os.fstat(file.fileno()).st_size, sparse=False)
    except (sqlite3.OperationalError, TimeoutError) as exc:
        raise OSError(errno.EBUSY, f"SQLite says: {exc}") from exc
    except sqlite3.Error:
        return ""
    finally:
        target.unlink(missing_ok=True)


def _log_in_use(at: int, name: str) -> bool:
    """Is it kept without a write-ahead log, or has somebody that log open?"""
    with filesystem.open_at(at, name) as file:
        if os.pread(file.fileno(), 2, 18) != b"\x02\x02":
            return True
    with contextlib.suppress(FileNotFoundError):
        os.stat(f"{name}-wal", dir_fd=at, follow_symlinks=False)
        return True
    return False


def check_database(path: Path) -> str:
    """What SQLite finds wrong with a database; empty where that is nothing."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{_quoted(str(path))}?mode=ro&immutable=1", uri=True)) as opened:
            rows = opened.execute("PRAGMA integrity_check(3)").fetchall()
    except sqlite3.Error as exc:
        return str(exc)
    said = "; ".join(str(row[0]) for row in rows)
    return "" if said == "ok" else said[:200]


class _Patience:
    """Ends a copy that takes too long, or waits for a lock that nobody lets go: its holder may stand still because of
    us. Python's backup() itself waits without an end."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + _COPIED
        self._locked = 0.0

    def __call__(self, status: int, _remaining: int, _total: int) -> None:
        now = time.monotonic()
        self._locked = (self._locked or now) if status in _BUSY else 0.0
        if self._locked and now - self._locked > _LOCKED:
            raise TimeoutError(f"it is locked, for {_LOCKED:g} s by now")
        if now > self._ends:
            raise TimeoutError(f"the copy did not end in {_COPIED:g} s")


def _quoted(path: str) -> str:
    return "".join(
        f"%{byte:02x}" if chr(byte) in "%?#" or byte > 126 or byte < 33 else chr(byte) for byte in os.fsencode(path)
    )
