# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listing of a files backup: one line for every file, directory and link, in the order in which trees are walked.

    {"schema": "lifeboat.dr/file-listing", "version": [1, 0]}
    "uploads/a.jpg" <tab> file 644 1000 1000 1764547200123456789 … <tab> 3 <tab> {"sha256": "…"}

The path is JSON, in ASCII, as a name may be any bytes. Then what the file system says of it, the number of the pack
that holds its content (0: none does), and the rest as JSON. A file that did not change is a line that did not change,
so that a million of them are compared as text, and nothing but one line is in memory.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import IO, Annotated, Callable, Optional

from ..base import typed
from ..base.errors import IntegrityError, UsageError
from ..repository.sealing import VERSION

LISTING = "listing.zst"
SCHEMA = "lifeboat.dr/file-listing"
FILE, DIRECTORY, LINK, FIFO, SOCKET, DEVICE = "file", "directory", "link", "fifo", "socket", "device"
_LINE = 1 << 20  # bytes of one entry: a path of 4,096, and 64 KiB of attributes in base64
_DIGEST = '"sha256": "'
_ONLY_DIGEST = re.compile(r'\{(?:"sha256": "([0-9a-f]{64})")?\}')
_LEAVES = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|\0")  # a part that is no name of an entry
_HEAD = json.dumps({"schema": SCHEMA, "version": list(VERSION)}).encode() + b"\n"
# The path as JSON, and as it is where that says what it looks like; the status; the pack; the rest as JSON.
_SHAPE = re.compile(
    r'("([ !#-\[\]-~]+)"|[^\t\n]*)\t'
    r"((?:file|directory|link|fifo|socket|device) [0-7]{1,4} [0-9]{1,10} [0-9]{1,10} -?[0-9]{1,20} -?[0-9]{1,20}"
    r" [0-9]{1,20} [0-9]{1,19})\t([0-9]{1,10})\t([^\t\n]*)\n"
)
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: LINK, stat.S_IFIFO: FIFO, stat.S_IFSOCK: SOCKET}
_END = re.compile(rb"([0-9]{1,9})\t([ -~]*)\n")  # of a line: the pack and the rest
_READ = "read the listing"
_quoted: Callable[[str], str] = encode_basestring_ascii  # what json.dumps() makes of a text


@dataclass(frozen=True)
class Rest:
    """What of an entry is not compared every night. sha256: of the content; of a sparse file that of its blocks, see
    contents.py. target: of a symbolic link. link: of a file with several names, the first of them, which has the
    content. stored: bytes of a sparse file without its holes. database: it is a copy that SQLite made, so that the file
    itself has other bytes. xattrs: name -> base64.
    """

    sha256: str = ""
    target: str = ""
    link: str = ""
    sparse: bool = False
    stored: Annotated[int, typed.Range(0)] = 0
    database: bool = False
    xattrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One line. path: below the name of its source, `uploads/2026/a.jpg`. status: as status_of() tells it. pack: the
    number of the one that holds its content."""

    path: str
    status: str
    pack: int = 0
    rest: Rest = Rest()

    @property
    def encoded(self) -> bytes:
        rest = self.rest
        if rest.xattrs or rest.target or rest.link or rest.sparse or rest.stored or rest.database or not rest.sha256:
            text = json.dumps({name: value for name, value in vars(rest).items() if value})
        else:
            text = f'{{"sha256": {_quoted(rest.sha256)}}}'
        return f"{_quoted(self.path)}\t{self.status}\t{self.pack}\t{text}\n".encode("ascii")

    @property
    def type(self) -> str:
        return self.status.partition(" ")[0]

    @property
    def digest(self) -> str:
        return self.rest.sha256 if self.pack else ""

    @property
    def mode(self) -> int:
        return int(self.status.split(" ")[1], 8)

    @property
    def owner(self) -> tuple[int, int]:
        words = self.status.split(" ")
        return int(words[2]), int(words[3])

    @property
    def mtime(self) -> int:
        """Nanoseconds since 1970."""
        return int(self.status.split(" ")[4])

    @property
    def size(self) -> int:
        return int(self.status.split(" ")[7])


def lasting_of(status: str) -> Sequence[str]:
    """What is the same after a restore: not the inode, nor when that was changed; of a directory not its size, nor its
    time, which tells of what was made in it."""
    words = status.split(" ")
    return words[:4] if words[0] == DIRECTORY else (*words[:5], words[7])


def order_of(path: str) -> str:
    """By which entries are sorted: a directory, what is in it, and then what comes after it by its name."""
    return path.replace("/", "\0")


def status_of(status: os.stat_result) -> str:
    """What the file system says: type, mode, owner, group, mtime and ctime in ns, inode, size. Where all of it is as it
    was, the content is, too: each change of it, of attributes or of links to it sets ctime, which nobody can choose."""
    mode = status.st_mode
    return (
        f"{_KINDS.get(mode & 0o170000, DEVICE)} {mode & 0o7777:o} {status.st_uid} {status.st_gid} {status.st_mtime_ns}"
        f" {status.st_ctime_ns} {status.st_ino} {status.st_size}"
    )


@dataclass(frozen=True)
class _Head:
    schema: str
    version: tuple[int, ...]


class Row:
    """A line as it was read; the JSON of it is looked at only where somebody asks for it."""

    __slots__ = ("_order", "_path", "_rest", "_wrong", "pack", "raw", "status", "text")

    def __init__(self, raw: bytes, wrong: typed.Wrong) -> None:
        self.raw, self._wrong, self._order = raw, wrong, ""
        try:
            shape = _SHAPE.fullmatch(raw.decode("ascii"))
        except ValueError:
            shape = None
        if shape is None:
            raise wrong("a line", "is none of a listing")
        self.text, path, self.status, pack, self._rest = shape.groups()
        self.pack = int(pack)
        if self.pack >= 2**31:
            raise wrong("a line", "says what no file can be")
        if path:
            _require_inside(path, path, wrong)
        self._path: str = path or ""

    @classmethod
    def checked(cls, raw: bytes, wrong: typed.Wrong, parts: tuple[str, str, str, bytes, str]) -> Row:
        """A line of which every part is known to be right."""
        row = cls.__new__(cls)
        row.raw, row._wrong, row._order = raw, wrong, ""
        row.text, row._path, row.status, pack, row._rest = parts
        row.pack = int(pack)
        return row

    @property
    def path(self) -> str:
        if not self._path:
            path = str(typed.load(self.text.encode(), self._wrong))
            _require_inside(path, path, self._wrong)
            self._path = path
        return self._path

    @property
    def order(self) -> str:
        if not self._order:
            self._order = order_of(self.path)
        return self._order

    @property
    def type(self) -> str:
        return self.status.partition(" ")[0]

    @property
    def need(self) -> int:
        """Bytes that it takes to write it."""
        if not self.pack:
            return 0
        return self.entry.rest.stored if '"sparse"' in self._rest else int(self.status.rpartition(" ")[2])

    @property
    def database(self) -> bool:
        """Is it a database that SQLite copied?"""
        return '"database"' in self._rest and self.entry.rest.database

    @property
    def digest(self) -> str:
        """Of what it holds, without reading the rest for that; empty where that is nothing."""
        _head, found, rest = self._rest.partition(_DIGEST)
        return rest[:64] if found and self.pack else ""

    @property
    def entry(self) -> Entry:
        only = _ONLY_DIGEST.fullmatch(self._rest)
        if only:
            return Entry(self.path, self.status, self.pack, Rest(only[1] or ""))
        rest = typed.build(Rest, typed.load(self._rest.encode(), self._wrong), self._wrong, "rest", unknown="ignore")
        if rest.link:
            _require_inside(rest.link, self.path, self._wrong)
        return Entry(self.path, self.status, self.pack, rest)


def leaves(path: str) -> bool:
    """Whether a part of it cannot be an entry's name, so that it could leave where it is restored to."""
    odd = "//" in path or "/." in path or "\0" in path or path[:1] in ("", "/", ".") or path[-1] == "/"
    return odd and _LEAVES.search(path) is not None


def _require_inside(path: str, owner: str, wrong: typed.Wrong) -> None:
    """A path that somebody else wrote: below its source, and below that of the entry that names it."""
    if leaves(path) or (path is not owner and path.partition("/")[0] != owner.partition("/")[0]):
        raise wrong(typed.shown(path), "would leave the place that it is restored to")


class Rows(Iterator[Row]):
    """Every line of a listing, in order. IntegrityError where it is none, or not in order, so that nothing of it comes
    twice and a directory comes before what is in it; UsageError where a newer Lifeboat wrote it."""

    def __init__(self, stream: IO[bytes], subject: str) -> None:
        self._stream, self._subject = stream, subject
        self._raw, self._before, self._begun = b"", "", False

    def _ahead(self) -> bytes:
        """The next line, which is still to be taken; empty at the end."""
        if not self._begun:
            self._begun = True
            data = typed.load(self._stream.readline(_LINE), self._wrong)
            head = typed.build(_Head, data, self._wrong, unknown="ignore")
            if (head.schema, head.version[:1]) != (SCHEMA, VERSION[:1]):
                cause = "its schema is not one that this Lifeboat reads"
                raise UsageError(_READ, self._subject, cause, "Upgrade Lifeboat.")
        self._raw = self._raw or self._stream.readline(_LINE)
        return self._raw

    def _wrong(self, name: str, cause: str) -> IntegrityError:
        return IntegrityError(_READ, self._subject, f"{name} {cause}".strip(), "Choose another backup (lifeboat list).")

    def __next__(self) -> Row:
        raw, self._raw = self._ahead(), b""
        if not raw:
            raise StopIteration
        if not raw.endswith(b"\n"):
            raise self._wrong("a line", "is cut, or longer than any can be")
        row = Row(raw, self._wrong)
        if row.order <= order_of(self._before):
            raise self._wrong(typed.shown(row.path), "is not in order")
        self._before = row.path
        return row

    def unchanged(self, path: str, status: str) -> Optional[Row]:
        """The next line, where it is of that path and says that status: what is compared byte by byte with what the
        file system says needs no other check. Else None, and it is still the next one. path: behind the line before."""
        raw, text = self._ahead(), _quoted(path)
        begin = f"{text}\t{status}\t".encode("ascii")
        end = _END.fullmatch(raw, len(begin)) if raw.startswith(begin) else None
        if end is None:
            return None
        self._raw, self._before = b"", path
        return Row.checked(raw, self._wrong, (text, path, status, end[1], end[2].decode("ascii")))


def read(stream: IO[bytes], subject: str) -> Rows:
    """The lines of a listing."""
    return Rows(stream, subject)


def by_source(rows: Iterable[Row]) -> Iterator[tuple[str, Iterator[Row]]]:
    """The name of each source with its lines, which are read in turn."""
    return itertools.groupby(rows, key=lambda row: row.path.partition("/")[0])


class Spool:
    """Some lines of a listing, in order, on disk: however many, they take no memory. backwards: they are read in that
    order, too, which takes eight bytes for each."""

    def __init__(self, path: Path, *, backwards: bool = False) -> None:
        self._file = path.open("w+b")
        self._starts = array("Q") if backwards else None
        self.count = self._end = 0

    def close(self) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        if self._starts is not None:
            self._starts.append(self._end)
        self.count += 1
        self._end += self._file.write(row.raw)

    def rows(self) -> Iterator[Row]:
        """Each of them. Whoever begins again begins at the first; only one goes through them at a time."""
        self._file.seek(0)
        while raw := self._file.readline():
            yield Row(raw, _unreadable)

    def backwards(self) -> Iterator[Row]:
        for start in reversed(self._starts or ()):
            self._file.seek(start)
            yield Row(self._file.readline(), _unreadable)


def _unreadable(name: str, cause: str) -> IntegrityError:
    return IntegrityError("read the lines of a listing", "a file of this run", f"{name} {cause}", "Run it again.")


class Writer:
    """A listing that is written line by line."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        sink.write(_HEAD)

    def add(self, entry: Entry) -> None:
        self._sink.write(entry.encoded)

    def again(self, row: Row) -> None:
        """A line of an earlier listing, as it was."""
        self._sink.write(row.raw)
