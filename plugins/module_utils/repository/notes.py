# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes: while a backup grows, signed files that say which files are in it. What every component's notes share.

A note is written after its files, under its number: `note-000001.json`. What no note names is not in the backup. Each
has the SHA-256 of the one before it, so that none can be left out, swapped or put back unnoticed; `reached` says until
when the backup is complete, so that a note that is withheld looks like silence and never like an older truth.

docs/decisions/0051 says why; the bytes are those of `render()` in repository/sealing.py, and no others. What a note of
WAL has beyond that is in wal/notes.py, of the changes of objects in mirror/changes.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional, Protocol, TypeVar

from ..base import filesystem, typed
from ..base.errors import IntegrityError, LifeboatError, UntrustedError, UsageError, printable
from ..base.typed import Range
from ..settings.config import NOTES
from . import sealing
from .manifest import Artefact
from .sealing import Opened, Signature

if TYPE_CHECKING:
    from .base import Repository

SCHEMA = "lifeboat.dr/note"
VERSION = (1, 0)
MOST_BYTES = 1 << 20  # of a note
MOST_NOTES = 9_999  # of a backup: an hour of WAL has 120 of them
MOST_ENTRIES = 1024  # of a note
MOST_FILE = 16 << 20  # bytes that a file has before it is compressed: who writes or reads one may hold it in memory
MORE_STORED = 1 << 20  # bytes by which a file may be longer as it is stored: what compression and age add
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
READ = "read the note"
_NAME = re.compile(r"note-([0-9]{6})\.json", re.ASCII)
_ID = re.compile(r"([a-z]+)_backup_[0-9]{8}_[0-9]{6}", re.ASCII)
_UNTRUSTED = "Find out who wrote it: docs/signatures.md#untrusted-documents."
_REMEDY = "Keep the backup for inquiry; what is in it counts up to there only. Take a new one (lifeboat.dr.backup)."


def wrong(attempted: str, subject: str, cause: str) -> IntegrityError:
    return IntegrityError(attempted, printable(subject)[:200], cause, _REMEDY)


def note_name(number: int) -> str:
    return f"note-{number:06d}.json"


def note_number(name: str) -> int:
    """The number of the note in a file of this name; 0 where it is not a note's name."""
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else 0


@dataclass(frozen=True)
class Entry:
    """One file of a backup that grows. size, sha256: as it is stored. bytes: before compression and age."""

    name: str
    size: Annotated[int, Range(1, MOST_FILE + MORE_STORED)]
    sha256: str
    bytes: Annotated[int, Range(1, MOST_FILE)]

    @property
    def artefact(self) -> Artefact:
        return Artefact(self.name, self.size, self.sha256)


class Moment(Protocol):
    """Until when a note says that its backup is complete."""

    @property
    def at(self) -> datetime: ...


class Note(Protocol):
    """What a note of any component is, a dataclass. previous: the SHA-256 of the note before it; of the first empty."""

    @property
    def id(self) -> str:
        """The backup's."""

    @property
    def stack(self) -> str: ...

    @property
    def number(self) -> int:
        """From 1 on."""

    @property
    def reached(self) -> Moment: ...

    @property
    def pieces(self) -> tuple[Entry, ...]:
        """The files that it names."""

    @property
    def previous(self) -> str: ...

    @property
    def component(self) -> str: ...

    @property
    def signature(self) -> Optional[Signature]: ...

    @property
    def impossible(self) -> str:
        """Why no note of this component can be like this; empty where one can."""


N = TypeVar("N", bound=Note)


@dataclass(frozen=True)
class _Head:
    schema: str
    version: tuple[int, ...]


def body_of(note: Note) -> dict[str, object]:
    """What is written of a note, without a signature."""
    plain = {name: value for name, value in typed.plain(note).items() if name != "signature"}
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
        raise wrong("write the note", f"{note.id}/{note_name(note.number)}", f"it has more than {MOST_BYTES} bytes")
    return data


def digest(data: bytes) -> str:
    """What the next note has as `previous`."""
    return filesystem.sha256(data)


def parse(kind: type[N], data: bytes, identity: str, number: int, stack: str = "") -> N:
    """The note that lies under this number in this backup. IntegrityError where it is not exactly one that to_bytes()
    wrote; UsageError where a newer Lifeboat wrote it. Its signature is not checked: opened() says what to check."""
    subject = f"{identity}/{note_name(number)}"

    def bad(name: str, cause: str) -> LifeboatError:
        return wrong(READ, subject, f"{name} {cause}".strip())

    if len(data) > MOST_BYTES:
        raise bad("", f"it has more than {MOST_BYTES} bytes")
    body = typed.load(data, bad)
    head = typed.build(_Head, body, bad, unknown="ignore")
    if head.schema != SCHEMA:
        raise bad("schema", f"is {typed.shown(head.schema)}, not {SCHEMA}")
    if head.version[:1] != VERSION[:1]:
        remedy = "Upgrade Lifeboat on this host (lifeboat.dr.deploy), then try again."
        raise UsageError(READ, printable(subject), f"its version is {typed.shown(list(head.version))}", remedy)
    if sealing.render(body) != data:
        raise bad("", "its bytes are not as they were written")
    fields = {name: value for name, value in body.items() if name not in ("schema", "version")}
    newer = head.version[1:] > VERSION[1:]
    note = typed.build(kind, fields, bad, unknown="ignore" if newer else "refuse")
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
        return wrong(READ, f"{note.id}/{note_name(note.number)}", cause)

    match = _ID.fullmatch(note.id)
    if not match or match.group(1) != note.component:
        raise bad(f"it is of {typed.shown(note.component)}, and in {typed.shown(note.id)}")
    if cause := _out_of_order(note):
        raise bad(cause)
    if len(note.pieces) > MOST_ENTRIES:
        raise bad(f"it has more than {MOST_ENTRIES} pieces")
    names = [entry.name for entry in note.pieces]
    if len({*names}) != len(names):
        raise bad("it names a file twice")
    for entry in note.pieces:
        if not SHA256.fullmatch(entry.sha256):
            raise bad(f"{typed.shown(entry.name)}: it has no SHA-256")
    if cause := note.impossible:
        raise bad(cause)


def _out_of_order(note: Note) -> str:
    if bool(note.previous) is not (note.number > 1) or (note.previous and not SHA256.fullmatch(note.previous)):
        return "previous is not the SHA-256 of the note before it"
    bound = note.signature
    if bound and (bound.sequence, bound.previous) != (note.number, note.previous):
        return "its signature is of another number, or of another note before it"
    return ""


# In a repository.


def read(
    repo: Repository, component: str, kind: type[N], identity: str, stack: str = "", attempted: str = READ
) -> list[tuple[N, str]]:
    """Every note of a backup with its SHA-256, each following the one before. Only the last one's signature is checked:
    it has signed the SHA-256 of the one before it, and so on. Raises IntegrityError where anything is not as it was
    written, UntrustedError where signers are pinned and none of them signed it."""
    names = repo.notes(component, identity)
    if len(names) > MOST_NOTES:
        raise wrong(attempted, identity, f"it has more than {MOST_NOTES} notes")
    chain: list[tuple[N, str]] = []
    data = b""
    for number, name in enumerate(names, 1):
        if name != note_name(number):
            raise wrong(attempted, identity, f"{note_name(number)} is missing, and {name} is there")
        data = repo.read_note(component, identity, name)
        note = parse(kind, data, identity, number, stack)
        previous = chain[-1][1] if chain else ""
        if note.previous != previous:
            raise wrong(attempted, identity, f"{name} does not follow the note that is there before it")
        chain.append((note, digest(data)))
    if not chain:
        raise wrong(attempted, identity, "it has neither a manifest nor a note")
    if repo.trust and (cause := repo.trust.refused_note(component, identity, data)):
        raise UntrustedError(attempted, identity, cause, _UNTRUSTED)
    return chain


@dataclass(frozen=True)
class Outline:
    """What any component's note has. data: its bytes, as they were written."""

    name: str
    data: bytes
    pieces: tuple[Entry, ...]


@dataclass(frozen=True)
class _Outline:
    id: str
    stack: str
    number: int
    previous: str
    pieces: tuple[Entry, ...] = ()


def outlines(repo: Repository, component: str, identity: str, stack: str, attempted: str) -> Iterator[Outline]:
    """Every note of a backup, to copy it byte for byte with its files. What the component's own notes have beyond that
    is read where it is used. Raises as read() does."""
    previous, data = "", b""
    for number, name in enumerate(repo.notes(component, identity), 1):
        subject = f"{identity}/{name}"

        def bad(where: str, cause: str, subject: str = subject) -> LifeboatError:
            return wrong(attempted, subject, f"{where} {cause}".strip())

        data = repo.read_note(component, identity, name)
        body = typed.load(data, bad)
        note = typed.build(_Outline, body, bad, unknown="ignore")
        if (name, note.number, note.id, note.stack) != (note_name(number), number, identity, stack):
            raise bad("", f"it is note {note.number} of {printable(note.id)[:80]}, and lies as {name}")
        if note.previous != previous or sealing.render(body) != data:
            raise bad("", "it does not follow the note before it, or its bytes are not as they were written")
        yield Outline(name, data, note.pieces)
        previous = digest(data)
    if data and repo.trust and (cause := repo.trust.refused_note(component, identity, data)):
        raise UntrustedError(attempted, identity, cause, _UNTRUSTED)


def stored(repo: Repository, component: str, identity: str, artefact: Artefact, attempted: str) -> Iterator[bytes]:
    """The bytes of a file as it is stored. The last of them come only where all are as they were written."""
    sha256, size, before = hashlib.sha256(), 0, b""
    with repo.open(component, identity, artefact.name) as stream:
        while data := stream.read(min(filesystem.CHUNK, artefact.size - size + 1)):
            size += len(data)
            if size > artefact.size:
                break
            sha256.update(data)
            if before:
                yield before
            before = data
    if size != artefact.size or sha256.hexdigest() != artefact.sha256:
        cause = "it has another length or SHA-256 than when it was written"
        raise wrong(attempted, f"{identity}/{artefact.name}", cause)
    yield before
