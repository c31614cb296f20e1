# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listing of an objects backup: one JSON object a line, gzipped, in the order of the keys' UTF-8 bytes.

    {"key", "size", "etag", "modified", "version", "vault_version", "vault_etag", "sha256",
     "properties", "headers", "tags", "tags_as_of", "vault_modified", "storage"}

etag, modified and version are the source's; sha256 is null where no one has read the bytes. The fields of the second
line may be missing: there is nothing to say then, or (headers, tags, vault_modified) nobody noted it. Headers and tags
are each a line of text: objects that have the same say the same, and the file's compression shares it.

With encryption it is an age file. Next to it lies VERSIONS, in the clear and of the same form, with nothing but what
everybody sees who may list the vault's bucket: which of its versions the backup needs. A prune must know that of last
year's backups, whose listings nobody there can read.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Callable, NamedTuple, Optional, TypeVar, Union

from ..base import pipeline, typed
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError
from ..base.filesystem import create
from ..base.text import named
from ..repository import checksums
from ..repository.base import Repository
from ..repository.details import VERSIONS, HeldBucket, ObjectsDetails
from ..repository.manifest import Manifest
from ..s3 import properties
from ..s3.bucket import Listed
from ..tools import age

T = TypeVar("T")
_Column = Sequence[Optional[str]]
_BLOCK = 1 << 16  # bytes of lines that are made at once
LONGEST = 1 << 20  # bytes of a line: a key has at most 1,024, its headers 8 KiB, each letter up to six in JSON
NAME = "listing.jsonl.gz"
FIELDS = ("key", "size", "etag", "modified", "version", "vault_version", "vault_etag", "sha256")
_MORE = {  # where it is not this
    "properties": "", "headers": None, "tags": None, "tags_as_of": None, "vault_modified": None, "storage": "",
}  # fmt: skip
_TEXT = (str, type(None))
_N = ord("n")  # as `null` begins
_AS_WRITTEN = tuple((str, int, str, str, str, str, str, last) for last in _TEXT)
_MORE_AS_WRITTEN = frozenset((str, *kinds, str) for kinds in itertools.product(_TEXT, repeat=len(_MORE) - 2))
# A line as write() makes it where no text needs an escape, which is nearly every one: what it says can be read off it,
# and the same entries are written as the same bytes.
_CHARACTER, _TIME = r'[^"\\\x00-\x1f]', r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_FORM = re.compile(
    r'\{"key":"(C*)","size":(0|[1-9][0-9]{0,18}),"etag":"(C*)","modified":"(T)","version":"(C*)","vault_version":"(C*)",'
    r'"vault_etag":"(C*)","sha256":(?:null|"(C+)")(?:,"properties":"(C+)")?(?:,"headers":"(C*)")?(?:,"tags":"(C*)")?'
    r'(?:,"tags_as_of":"(T)")?(?:,"vault_modified":"(T)")?(?:,"storage":"(C+)")?\}\n'.replace("C", _CHARACTER).replace(
        "(T)", f"({_TIME})"
    )
)
_text = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one a line
_decode = json.JSONDecoder().raw_decode  # json.loads would look for each line's encoding


class RawEntry(NamedTuple):
    """A line as write() makes it, and what it says. Times are text; what is not said is None."""

    raw: bytes
    key: str
    size: int
    etag: str
    modified: str
    version: str
    vault_version: str
    vault_etag: str
    sha256: Optional[str]
    properties: Optional[str]
    headers: Optional[str]
    tags: Optional[str]
    tags_as_of: Optional[str]
    vault_modified: Optional[str]
    storage: Optional[str]


@dataclass(frozen=True)
class Summary:
    """digest: SHA-256 over [key, size, etag, sha256] of each line as compact JSON, each ended by a newline."""

    objects: int
    bytes: int
    digest: str


def artefacts(folder: str, seal: age.Seal) -> list[str]:
    """The names of what write() writes for the bucket with that folder in the backup."""
    names = [seal.named(NAME), *([VERSIONS] if seal.recipients else [])]
    return [f"{folder}/{name}" if folder else name for name in names]


def write(path: Path, entries: Iterable[Union[Listed, bytes]], seal: age.Seal = age.OPEN) -> Summary:
    """Write a new listing as the entries come. Raises ValueError where they do not come in the order of their keys.

    entries: also the `raw` of a RawEntry that goes on as it is. path: where it is called NAME; what seal.named() adds
    comes to that.
    """
    with contextlib.ExitStack() as stack:
        if seal.recipients:
            beside = stack.enter_context(_packed(path.with_name(VERSIONS), age.OPEN))
            entries = _noted(entries, beside)
        return _write(stack.enter_context(_packed(path.with_name(seal.named(path.name)), seal)), entries)


@contextlib.contextmanager
def _packed(path: Path, seal: age.Seal) -> Iterator[IO[bytes]]:
    # No name and no time in the head of the file: same listing, same bytes.
    with (
        create(path) as raw,
        seal.writing(pipeline.HashingWriter(raw), subject=path.name) as sink,
        gzip.GzipFile("", "wb", 3, sink, mtime=0) as packed,
    ):
        file = io.BufferedWriter(packed, 1 << 20)  # type: ignore[type-var,unused-ignore]
        yield file  # type: ignore[misc,unused-ignore]
        file.flush()


def _noted(entries: Iterable[Union[Listed, bytes]], file: IO[bytes]) -> Iterator[Union[Listed, bytes]]:
    """The entries, each written down with what is not secret of it."""
    for given in entries:
        entry = parsed(given) if isinstance(given, bytes) else given
        public = Listed(entry.key, entry.size, "", entry.modified, "", entry.vault_version, "", None)
        file.write(_lines(public)[0].encode())
        yield given


def _write(file: IO[bytes], entries: Iterable[Union[Listed, bytes]]) -> Summary:
    count, total, digest, last = 0, 0, hashlib.sha256(), b""
    for entry in entries:
        if isinstance(entry, bytes):
            line, (key, size, seen) = entry, _digested(entry)
        else:
            text, said = _lines(entry)
            line, key, size, seen = text.encode(), entry.key.encode(), entry.size, said.encode()
        if count and key <= last:
            raise ValueError(f"{key!r} after {last!r}")
        last = key
        file.write(line)
        digest.update(seen)
        count += 1
        total += size
    return Summary(count, total, digest.hexdigest())


def _digested(raw: bytes) -> tuple[bytes, int, bytes]:
    """The key and the size of the `raw` of a RawEntry, and that of which the digest is. No text in it has an escape."""
    key = raw.index(b'"', 8) + 1
    size = raw.index(b",", key + 8)
    etag = raw.index(b'"', size + 9) + 1
    start = raw.index(b'"sha256":', etag) + 9
    sha256 = b"null" if raw[start] == _N else raw[start : raw.index(b'"', start + 1) + 1]
    said = b"[%b,%b,%b,%b]\n" % (raw[7:key], raw[key + 8 : size], raw[size + 8 : etag], sha256)
    return raw[8 : key - 1], int(raw[key + 8 : size]), said


@functools.lru_cache(maxsize=4096)
def _format(moment: datetime) -> str:
    return format_time(moment)


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> datetime:
    return parse_time(text)


def _lines(entry: Listed) -> tuple[str, str]:
    """Its line, and that of which the digest is, as compact JSON. By hand: that takes a third of the encoder's time."""
    key, etag, sha256 = _text(entry.key), _text(entry.etag), "null" if entry.sha256 is None else _text(entry.sha256)
    modified = format_time(entry.modified) if entry.modified else ""
    more = f',"properties":{_text(entry.properties)}' if entry.properties else ""
    more += "" if entry.headers is None else f',"headers":{_text(entry.headers)}'
    more += "" if entry.tags is None else f',"tags":{_text(entry.tags)}'
    more += f',"tags_as_of":"{_format(entry.tags_as_of)}"' if entry.tags_as_of else ""
    more += f',"vault_modified":"{format_time(entry.vault_modified)}"' if entry.vault_modified else ""
    more += f',"storage":{_text(entry.storage)}' if entry.storage else ""
    version, held, vault_etag = _text(entry.version), _text(entry.vault_version), _text(entry.vault_etag)
    line = (
        f'{{"key":{key},"size":{entry.size},"etag":{etag},"modified":"{modified}","version":{version},'
        f'"vault_version":{held},"vault_etag":{vault_etag},"sha256":{sha256}{more}}}\n'
    )
    return line, f"[{key},{entry.size},{etag},{sha256}]\n"


def encode(entry: Listed) -> bytes:
    """The line of one entry."""
    return _lines(entry)[0].encode()


def read(file: IO[bytes], subject: str) -> Iterator[Listed]:
    """The lines of a listing, as they are asked for. Raises IntegrityError where it is broken or cut."""
    return _read_with(_entry, file, subject)


def read_lines(file: IO[bytes], subject: str) -> Iterator[Union[RawEntry, Listed]]:
    """The same for one who goes through all of them and writes most of them again."""
    return _read_with(_parse, file, subject, _several)


def _read_with(
    make: Callable[[bytes, typed.Wrong], T], file: IO[bytes], subject: str,
    several: Callable[[bytes], Sequence[T]] = lambda _block: (),
) -> Iterator[T]:  # fmt: skip
    """several: makes all lines of a block at once; none where that cannot be done."""
    number = 0

    def wrong(field: str, cause: str) -> LifeboatError:
        what = f"{NAME}, line {number}: {field} {cause}"
        return IntegrityError("read the listing", subject, what, "Choose another backup (`lifeboat list`).")

    try:
        with gzip.open(file) as packed:
            for block in _blocks(packed):
                if found := several(block):
                    yield from found
                    number += len(found)
                    continue
                for line in io.BytesIO(block):
                    number += 1
                    if len(line) > LONGEST:  # a MiB of gzip's may be a GiB
                        raise wrong("", f"has more than {LONGEST >> 20} MiB")
                    yield make(line, wrong)
    except (OSError, EOFError, zlib.error) as exc:
        raise wrong("", str(exc) or repr(exc)) from exc


def _blocks(packed: gzip.GzipFile) -> Iterator[bytes]:
    """Yield its bytes in blocks of whole lines; the last one may be cut, and one may be too long."""
    rest = b""
    while block := packed.read1(_BLOCK):
        rest += block
        end = rest.rfind(b"\n") + 1 if len(rest) <= LONGEST + _BLOCK else len(rest)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def parsed(raw: bytes) -> Listed:
    """The `raw` of a RawEntry."""
    return _entry(raw, functools.partial(IntegrityError, "read the listing", NAME))


def entry(raw: bytes, wrong: typed.Wrong) -> Listed:
    """What a line says, which may have more than a listing's. Raises wrong() where it is none."""
    return _entry(raw, wrong)


def _several(block: bytes) -> Sequence[RawEntry]:
    """The lines of a block, where each of them is as write() makes it; else none. It takes half the time of making them
    one after the other."""
    try:
        parts = _FORM.split(block.decode())
        every = len(RawEntry._fields)
        if len(block) > LONGEST or any(parts[::every]):
            return ()
        key, sizes, *more = (parts[place::every] for place in range(1, every))
        size = [*map(int, sizes)]
        _check(size, *more)
        # What matches has no line break but that at its end.
        return [*map(RawEntry, block.splitlines(keepends=True), key, size, *more)]
    except (ValueError, LifeboatError):
        return ()


def _parse(raw: bytes, wrong: typed.Wrong) -> Union[RawEntry, Listed]:
    found = _several(raw)
    return found[0] if found else _entry(raw, wrong)


def _check(
    size: Sequence[int], _etag: _Column, modified: _Column, _version: _Column, _vault_version: _Column,
    _vault_etag: _Column, _sha256: _Column, lines: _Column, headers: _Column, tags: _Column, tags_as_of: _Column,
    vault_modified: _Column, _storage: _Column,
) -> None:  # fmt: skip
    """Raise ValueError where one of these says what nobody can have written."""
    for time in {*modified, *tags_as_of, *vault_modified} - {None}:
        _read(time or "")
    if max(size, default=0) > typed.MOST:
        raise ValueError(max(size))
    for text in {*lines}:
        properties.parse(text or "")
    for text in {*headers, *tags}:
        properties.check(text or "")


def _entry(raw: bytes, wrong: typed.Wrong) -> Listed:
    """As typed.build() makes it of any line, and faster of one that is as write() makes it: there may be millions."""
    try:
        text = raw.decode()
        row, end = _decode(text)
        key, size, etag, modified, version, vault_version, vault_etag, sha256 = values = [*map(row.pop, FIELDS)]
        line_of, headers, tags, as_of, seen, storage = more = [*map(row.pop, _MORE, _MORE.values())]
        as_written = tuple(map(type, values)) in _AS_WRITTEN and tuple(map(type, more)) in _MORE_AS_WRITTEN
        as_written = as_written and not row and text[end:] in ("\n", "")
        if as_written and 0 <= size <= typed.MOST and modified[-1:] == "Z" and "2000" <= modified < "2200":
            properties.parse(line_of)
            properties.check(headers or "")
            properties.check(tags or "")
            at, read = datetime.fromisoformat(f"{modified[:-1]}+00:00"), _read(as_of) if as_of else None
            held, noted = (version, vault_version, vault_etag, sha256), (line_of, headers, tags)
            return Listed(key, size, etag, at, *held, *noted, read, _read(seen) if seen else None, storage)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, LifeboatError):
        pass
    found = typed.build(Listed, typed.load(raw, wrong), wrong, unknown="ignore")
    for name, check in (("properties", properties.parse), ("headers", properties.check), ("tags", properties.check)):
        try:
            check(getattr(found, name) or "")
        except ValueError as exc:
            raise wrong(name, str(exc)) from exc
    return found


@dataclass(frozen=True)
class Point:
    """One bucket of an objects backup: what it held at an instant. bucket: empty for the application's, whatever its
    name is. keys: what opens a listing that is encrypted."""

    repo: Repository
    manifest: Manifest
    bucket: str = ""
    keys: Optional[age.Keys] = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def at(self) -> datetime:
        return self.manifest.taken_at

    @functools.cached_property
    def held_bucket(self) -> HeldBucket:
        """What the manifest says of it. Raises NotFoundError where the backup does not hold it."""
        for held in self.manifest.detailed(ObjectsDetails).buckets:
            if self.bucket == ("" if held.primary else held.name):
                return held
        raise NotFoundError(
            "look into the backup", self.id, f"it does not hold the bucket {named(self.bucket)}",
            "Choose another (`lifeboat list`).",
        )  # fmt: skip

    @property
    def holds(self) -> bool:
        """Does the backup hold the bucket?"""
        try:
            return bool(self.held_bucket)
        except NotFoundError:
            return False

    @property
    def settings(self) -> Mapping[str, object]:
        return self.held_bucket.settings

    @property
    def artefact(self) -> str:
        """The name of its listing."""
        return self._named(self._seal.named(NAME))

    @functools.cached_property
    def _seal(self) -> age.Seal:
        return age.Seal(self.manifest.recipients, self.manifest.host_key)

    def _named(self, name: str) -> str:
        return f"{self.held_bucket.folder}/{name}" if self.held_bucket.folder else name

    def points(self) -> list[Point]:
        """Every bucket of the same backup, the application's first."""
        found = []
        for held in self.manifest.detailed(ObjectsDetails).buckets:
            point = Point(self.repo, self.manifest, "" if held.primary else held.name, self.keys)
            vars(point)["held_bucket"] = held  # there may be a thousand, and each would read the manifest again
            found.append(point)
        return found

    @property
    def settings_denied(self) -> tuple[str, ...]:
        """The settings that are not on record because the key might not read them."""
        return self.held_bucket.settings_denied

    def problem(self) -> str:
        """Why its listing cannot be used; empty when every byte is the one that was written. No key is needed."""
        return "; ".join(filter(None, map(self._problem, artefacts(self.held_bucket.folder, self._seal))))

    def copied(self, folder: Path, seal: age.Seal) -> bool:
        """Lay the bucket's artefacts into a folder, as write() made them; where they are for other recipients, or are
        damaged, nothing is there afterwards."""
        if seal != self._seal:
            return False
        names = artefacts("", seal)
        for number, name in enumerate(names, 1):
            with create(folder / name) as file:
                try:
                    wrong = self._problem(self._named(name), file)
                except LifeboatError as exc:
                    wrong = exc.cause
            if wrong:
                for written in names[:number]:
                    (folder / written).unlink()
                return False
        return True

    def _problem(self, name: str, copy: Optional[IO[bytes]] = None) -> str:
        wanted = next((artefact for artefact in self.manifest.artefacts if artefact.name == name), None)
        if wanted is None:
            return f"it has no {name}"
        with self.repo.open("objects", self.id, name) as file:
            right = checksums.artefact_of(file, name, copy) == wanted
        return "" if right else f"{name} has another SHA-256 than when it was written"

    def entries(self, prefix: str = "") -> Iterator[Listed]:
        """The listing's lines below `prefix`, in the order of their keys. Raises NoKeyError, WrongKeyError."""
        with self._plain() as plain:
            for entry in read(plain, self.id):
                if entry.key.startswith(prefix):
                    yield entry

    def lines(self) -> Iterator[Union[RawEntry, Listed]]:
        """All of them, as read_lines()."""
        with self._plain() as plain:
            yield from read_lines(plain, self.id)

    @contextlib.contextmanager
    def _plain(self) -> Iterator[IO[bytes]]:
        subject = f"{self.id}/{self.artefact}"
        with (
            self.repo.open("objects", self.id, self.artefact) as file,
            (self.keys or age.keys_of()).stream(file, self._seal, subject=subject) as plain,
        ):
            yield plain

    def versions(self) -> Iterator[tuple[str, str]]:
        """The keys and versions in the vault that the backup needs; no key is needed to know them."""
        name = self._named(VERSIONS if self._seal.recipients else NAME)
        with self.repo.open("objects", self.id, name) as file:
            for entry in read(file, self.id):
                yield entry.key, entry.vault_version
