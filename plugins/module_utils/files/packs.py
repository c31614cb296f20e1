# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packs: the contents of files as a tar, compressed by zstd and encrypted by age. By hand, with the key:

    age -d -i key.txt pack-7.tar.zst.age | zstd -d | tar -x

A pack holds contents only. What else there is to say of a file, and of directories and links, is in the listing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Optional

from ..base import filesystem, pipeline
from ..base.errors import IntegrityError, present, printable
from ..base.pipeline import Command, HashingWriter
from ..repository.base import Repository
from ..repository.details import FilesDetails, Pack
from ..repository.manifest import Artefact, Manifest
from ..tools import age
from . import contents, headers
from .headers import Pair
from .listing import LISTING, Row, leaves, order_of, read

FILES = "files"  # the component, as repository/components has it
AGAIN = 30  # days in which every file is read once, whatever the file system says of it
LARGEST = 1 << 30  # bytes of content in one pack, and one file more
MOST = 48  # packs that a backup refers to: what it says of them goes into its manifest
_COMPRESS, _DECOMPRESS = Command(["zstd", "-q", "-1", "-c"]), Command(["zstd", "-q", "-d", "-c"])
_LONG = 24 * 3600.0
_MEMBERS = 10_000_000
_TOGETHER = 1 << 18  # bytes of small files that are written at once
_MAP = 8 << 20  # bytes of a sparse file's map


@contextlib.contextmanager
def compressed(target: Path, seal: age.Seal, subject: str) -> Iterator[tuple[IO[bytes], HashingWriter]]:
    """Something to write to, and what knows size and digest of what came out of it, once it is closed."""
    with filesystem.explained("write the backup", target), filesystem.create(target) as raw:
        hashed = HashingWriter(raw)

        def work(reader: IO[bytes]) -> None:
            pipeline.run(
                [_COMPRESS, *seal.chain], attempted="compress", subject=subject, source=reader, sink=hashed,
                timeout=_LONG, remedy="Install zstd, and age where backups are encrypted.",
            )  # fmt: skip

        with pipeline.writing(work) as sink:
            yield sink, hashed


@contextlib.contextmanager
def decompressed(source: IO[bytes], seal: age.Seal, keys: age.Keys, subject: str) -> Iterator[IO[bytes]]:
    with (
        keys.stream(source, seal, subject=subject) as plain,
        pipeline.reading(_DECOMPRESS, plain, attempted="decompress", subject=subject, timeout=_LONG) as stream,
    ):
        yield stream


class Packing:
    """Tonight's packs, one after the other. number: of the first."""

    def __init__(self, folder: Path, identity: str, number: int, seal: age.Seal) -> None:
        self.finished: list[Pack] = []
        self.artefacts: list[Artefact] = []
        self.number, self._folder, self._identity, self._seal = number, folder, identity, seal
        self._files = self._bytes = self._offset = self._waiting = 0
        self._open: Optional[contextlib.ExitStack] = None
        self._sink: Optional[IO[bytes]] = None
        self._parts: list[bytes] = []  # what is to be written
        self._hashed = HashingWriter()

    def __enter__(self) -> Packing:
        return self

    def __exit__(self, failed: Optional[type[BaseException]], *_: object) -> None:
        if failed is None:
            self._close()
        elif self._open is not None:
            with contextlib.suppress(Exception):
                self._open.close()

    def begin(self) -> int:
        """Return the number of the pack into which the next file goes."""
        if self._open is not None and self._bytes >= LARGEST:
            self._close()
            self.number += 1
        if self._open is None:
            name = self._seal.named(self.name)
            self._open = contextlib.ExitStack()
            self._sink, self._hashed = self._open.enter_context(
                compressed(self._folder / name, self._seal, f"{self._identity}/{name}")
            )
            self._open.callback(self._end)  # inside, so that who compresses tells why that failed
        return self.number

    def add(self, header: bytes, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file of so many bytes; they come in pieces."""
        left = size
        self._write(header)
        try:
            for data in chunks:
                left -= len(data)
                self._write(data)
        except OSError:  # what comes after a file that cannot be read to its end must stand where it is looked for
            while left > 0:
                self._write(bytes(min(left, _TOGETHER)))
                left -= _TOGETHER
            self._write(headers.padding(size))
            raise
        self._write(headers.padding(size))
        self._files += 1
        self._bytes += size

    def _write(self, data: bytes) -> None:
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        self._offset += self._waiting
        data, self._parts, self._waiting = b"".join(self._parts), [], 0
        present(self._sink).write(data)

    def _end(self) -> None:
        self._write(headers.end(self._offset + self._waiting))
        if self._parts:
            self._flush()

    @property
    def name(self) -> str:
        return f"pack-{self.number}.tar.zst"

    def _close(self) -> None:
        if self._open is None:
            return
        self._open.close()
        artefact = Artefact(self._seal.named(self.name), self._hashed.size, self._hashed.sha256)
        self.artefacts.append(artefact)
        self.finished.append(
            Pack(
                self.number, self._identity, artefact.name, artefact.size, artefact.sha256, self._files, self._bytes,
                self._bytes, self._seal.recipients, self._seal.host,
            )
        )  # fmt: skip
        self._open = self._sink = None
        self._files = self._bytes = self._offset = 0


def header(
    path: str, status: os.stat_result, size: int, xattrs: Mapping[str, str], records: Sequence[Pair] = ()
) -> bytes:
    """The header of a file of which so many bytes are stored. Attributes are in it for GNU tar, `tar --xattrs -x`."""
    if xattrs:
        attributes = (
            (f"SCHILY.xattr.{name}".encode("utf-8", "surrogateescape"), base64.b64decode(value))
            for name, value in xattrs.items()
        )
        records = [*attributes, *records]
    owner = status.st_uid, status.st_gid
    return headers.header(path, size, stat.S_IMODE(status.st_mode), owner, status.st_mtime_ns // 10**9, records)


def add_sparse(
    packing: Packing, path: str, status: os.stat_result, xattrs: Mapping[str, str], handle: int
) -> tuple[str, int]:
    """A sparse file by its pieces, in GNU's format 1.0, which GNU tar and bsdtar read. Returns its digest, and how many
    bytes are stored of it.

    https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html#PAX-1
    """
    size = status.st_size
    segments = contents.pieces(handle, size)
    ends = [] if segments and sum(segments[-1]) == size else [(size, 0)]
    numbers = [len(segments) + len(ends), *(number for piece in [*segments, *ends] for number in piece)]
    head = "".join(f"{number}\n" for number in numbers).encode()
    head += bytes(-len(head) % headers.BLOCK)
    digest = contents.SparseDigest()
    stored = len(head) + sum(length for _offset, length in segments)
    records = (
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", path.encode("utf-8", "surrogateescape")), (b"GNU.sparse.realsize", b"%d" % size),
    )  # fmt: skip

    def chunks() -> Iterator[bytes]:
        yield head
        for offset, data in contents.read_pieces(handle, segments):
            digest.add(offset, data)
            yield data

    packing.add(header(path, status, stored, xattrs, records), stored, chunks())
    return digest.hexdigest(), stored


def add_large(
    packing: Packing, path: str, status: os.stat_result, xattrs: Mapping[str, str], handle: int, size: int
) -> str:
    """A file that is not read whole, of so many bytes. Returns its digest."""
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for _offset, data in contents.read_pieces(handle, [(0, size)]):
            digest.update(data)
            yield data

    packing.add(header(path, status, size, xattrs), size, chunks())
    return digest.hexdigest()


@contextlib.contextmanager
def listed(repo: Repository, manifest: Manifest, keys: age.Keys) -> Iterator[Iterator[Row]]:
    """The lines of a backup's listing."""
    details = manifest.detailed(FilesDetails)
    seal = age.Seal(details.recipients, details.host_key)
    subject = f"{manifest.id}/{LISTING}"
    with (
        repo.open(FILES, manifest.id, seal.named(LISTING)) as source,
        decompressed(source, seal, keys, subject) as stream,
    ):
        yield read(stream, subject)


@contextlib.contextmanager
def opened(repo: Repository, pack: Pack, keys: age.Keys) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """(path, what is stored) of every member of a pack, in the order in which they were written."""
    subject = f"{pack.backup}/{pack.artefact}"
    with (
        repo.open(FILES, pack.backup, pack.artefact) as source,
        decompressed(source, age.Seal(pack.recipients, pack.host_key), keys, subject) as stream,
    ):
        yield _members(stream, subject)


def _members(stream: IO[bytes], subject: str) -> Iterator[tuple[str, IO[bytes]]]:
    def damaged(cause: str) -> IntegrityError:
        return IntegrityError("read the pack", subject, f"it is cut or damaged: {cause}")

    for path, content in headers.members(stream, _MEMBERS, damaged):
        if leaves(path):
            cause = f"{printable(path)} would leave the directory that it is restored to"
            raise IntegrityError("read the pack", subject, cause)
        yield path, content


def beside(rows: Iterator[Row], members: Iterable[tuple[str, IO[bytes]]]) -> Iterator[tuple[Row, Optional[IO[bytes]]]]:
    """Yield each line of a listing with what a pack has at its path, both in order: as often as it is there, and the
    last time counts; with None where it is not."""
    row, found = next(rows, None), False
    for path, content in members:
        order = order_of(path)
        while row is not None and row.order < order:
            if not found:
                yield row, None
            row, found = next(rows, None), False
        if row is not None and row.path == path:
            found = True
            yield row, content
    while row is not None:
        if not found:
            yield row, None
        row, found = next(rows, None), False


def sparse_pieces(content: IO[bytes], size: int, subject: str) -> list[tuple[int, int]]:
    """The map of a sparse file, from the start of what is stored of it: within its size, in order, and not without an
    end."""
    numbers: list[int] = []
    read, count = 0, 1
    buffered = io.BytesIO()

    def number() -> int:
        nonlocal read
        text = b""
        while not text.endswith(b"\n"):
            letter = buffered.read(1)
            if not letter:
                block = content.read(512)
                read += len(block)
                if len(block) < 512 or read > _MAP:
                    raise IntegrityError("read the pack", subject, "the map of a sparse file is cut or too long")
                buffered.seek(0)
                buffered.truncate()
                buffered.write(block)
                buffered.seek(0)
                continue
            text += letter
            if not (letter.isdigit() or letter == b"\n") or len(text) > 20 or text == b"\n":
                raise IntegrityError("read the pack", subject, "the map of a sparse file is damaged")
        return int(text)

    count = number()
    numbers = [number() for _number in range(2 * count)] if count <= _MAP // 4 else []
    pieces = list(zip(numbers[::2], numbers[1::2]))
    at = 0
    for offset, length in pieces:
        if offset < at or offset + length > size:
            raise IntegrityError("read the pack", subject, "the map of a sparse file does not fit its size")
        at = offset + length
    return [(offset, length) for offset, length in pieces if length]
