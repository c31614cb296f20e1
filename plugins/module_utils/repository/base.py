# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where backups live: one interface over a directory or an S3 bucket. Bytes and names, no schema.

    <root>/<folder of the component>/<backup id>/{manifest.json, artefacts..., verification.json, copies.json}
    <root>/recovery-points/{<id>.json..., escrow-<stack>.json}
    <root>/holds/<id>.json
    <root>/repository.json

The layout is the same on disk and in S3, so a copy of one is the other. A backup is what has a manifest.json, and that
is written last and removed first: neither a killed backup nor a killed deletion ever looks like a backup.
"""

from __future__ import annotations

import abc
import contextlib
import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, Callable, NamedTuple, Optional, Protocol

from ..base import filesystem, progress, typed
from ..base.clock import stamped
from ..base.errors import IntegrityError, NotFoundError, UsageError, printable
from ..base.filesystem import explained, plain_name
from ..settings.config import MANIFESTS, RECOVERY_POINTS
from .components import CONTINUOUS, GROWING, KINDS

MANIFEST = "manifest.json"
MARKER = "repository.json"  # whose repository this is
SOURCE = "source.json"  # in a vault: which repository it has copies of
VERIFICATION = "verification.json"
PINNED = "pinned.json"
COPIES = "copies.json"
RECORDS = (VERIFICATION, PINNED, COPIES)  # written after publication; not artefacts, so never in files()
POINTS = "recovery-points"
LATEST = ("", "latest")  # what an operator who names none may type
HOLDS = "holds"
_HOLD = 4096  # bytes of a hold that are read
PARTIAL = ".partial-"
DELETING = ".deleting-"
OR_COMING = ", or another run is publishing one"
NOTE = re.compile(r"note-[0-9]{6}\.json", re.ASCII)  # of what grows, beside its artefacts
_NOTE_BYTES = 1 << 20
CLAIM = re.compile(r"claim(-[0-9a-f]{16})?\.json")  # of a run that is publishing; gone when that is done
ID = re.compile(r"([a-z][a-z0-9]*)_backup_(\d{8}_\d{6})", re.ASCII)
POINT_ID = re.compile(r"\d{8}_\d{6}", re.ASCII)
_SCHEMA = "lifeboat.dr/repository"
_SOURCE_SCHEMA = "lifeboat.dr/source"
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Hidden(NamedTuple):
    """A backup or recovery point of which old versions are there and no document (manifest, point) is live.

    document: the document had a version. whole: nothing else of it is live either.
    """

    document: bool
    whole: bool


class Altered(NamedTuple):
    """What became of a published manifest or recovery point. gone: nothing is live under its name. version: the
    server's name for what was published."""

    gone: bool
    detail: str
    version: str = ""


class Trust(Protocol):
    """Who may sign what lies in a repository. Without one everything is believed that its seal fits."""

    def check(self, document: str, component: str, identity: str, data: bytes) -> None:
        """Raise UntrustedError where nobody signed it who may. component: empty for a recovery point."""

    def refused(self, component: str, identity: str, data: bytes) -> str:
        """Why the record of a verification does not count; empty where it does."""

    def refused_escrow(self, point: str, data: bytes) -> str:
        """Why the record of an escrow check does not count; empty where it does."""

    def refused_note(self, component: str, identity: str, data: bytes) -> str:
        """Why a note of what grows does not count; empty where it does."""

    def contradicted(self, document: str, identity: str, seal: str) -> str:
        """Why a document that was checked is no choice, now that others were, too; empty where it is one."""

    def newer(self, document: str, component: str, there: Iterable[str]) -> str:
        """Which document was seen with a higher sequence than those that are there; empty where none was."""

    def keep(self) -> None:
        """Remember what was checked."""


class Memory(Protocol):
    """Which repository a host used at a place before."""

    @property
    def path(self) -> str:
        """Where that is remembered, for a message."""

    def identity(self) -> str:
        """Of the repository; empty where this host knows of none."""

    def remember(self, identity: str, new: bool) -> None:
        """new: its marker was made just now."""


class Staging:
    """A private directory (0700) to write a backup's artefacts into; it is gone after the `with` unless published."""

    def __init__(self, path: Path, publish: Callable[[Path, bytes], None]) -> None:
        self.path = path
        self._publish = publish

    def publish(self, manifest: bytes) -> None:
        """Make what lies in `path` the backup, whole or not at all. After this `path` may no longer exist."""
        self._publish(self.path, manifest)


class Repository(abc.ABC):
    """Backups by component and id. Every failure is a LifeboatError; ids and names that are not plain are refused.

    `stack`: whose it should be, where one is named. Then nothing is written or deleted in another stack's repository.
    `memory`: which repository this host used here before. Then nothing is written or deleted in another one.

    A run that publishes claims the id before it writes anything there, so that of two runs with one id at most one
    publishes. Neither removes what the other wrote.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self.stack = ""
        self.trust: Optional[Trust] = None
        self.memory: Optional[Memory] = None
        self._owned = False
        self.folders = {**{name: kind.folder for name, kind in KINDS.items()}, **folders}
        for name, kind in CONTINUOUS.items():  # a folder that an operator chose before there were such stays his
            if kind.folder not in self.folders.values():
                self.folders.setdefault(name, kind.folder)
        used = [*self.folders.values(), POINTS, HOLDS]
        for folder in used:
            if not isinstance(folder, str) or not _FOLDER.fullmatch(folder) or used.count(folder) > 1:
                raise bad_setting("folders", folder, "each must be one plain name, used once")

    def require_ours(self, *, make: bool = False) -> None:
        """Raise OtherStackError where the marker names another stack, OtherRepositoryError where it is not the marker
        of the repository that this host used here before.

        make: write the marker where there is none. A repository that was made before there were markers is adopted,
        unless a manifest in it is another stack's.
        """
        if not self.stack or self._owned:
            return
        data = self._read((MARKER,))
        known, new = self.memory.identity() if self.memory else "", data is None
        if data is None and known:
            raise self._another("its marker is not there")
        if data is None and make:
            others = self._other_stacks()
            if others:
                raise self._foreign(
                    f"it has no marker, and holds backups of {', '.join(map(printable, sorted(others)))}"
                )
            self._write_new((MARKER,), _marker(self.stack))
            data = self._read((MARKER,))  # another stack's, where that was a moment faster
        if data is None:
            return
        found = marker_of(data)
        if found is None:
            remedy = f"Find out who wrote {MARKER} there, remove it and back up again."
            raise IntegrityError("use the repository", self.address, "its marker cannot be read", remedy)
        if found.stack != self.stack:
            raise self._foreign(f"its marker names the stack {printable(found.stack)}")
        if known and found.repository != known:
            raise self._another(f"it is {printable(found.repository[:12])}")
        if self.memory and not known:
            self.memory.remember(found.repository, new)
        self._owned = True

    def identity(self) -> str:
        """What tells this repository from another one: chosen at random when its marker was made."""
        self.require_ours(make=True)
        found = marker_of(self._read((MARKER,)))
        return found.repository if found else ""

    def source(self) -> Optional[str]:
        """In a vault: the identity of the repository that it has copies of; None where none is on record."""
        found = typed.maybe(_Source, self._read((SOURCE,)))
        return found.repository if found and found.schema == _SOURCE_SCHEMA else None

    def write_source(self, repository: str) -> None:
        body = {"schema": _SOURCE_SCHEMA, "version": [1, 0], "stack": self.stack, "repository": repository}
        self._write((SOURCE,), json.dumps(body, indent=1).encode() + b"\n")

    def _other_stacks(self) -> set[str]:
        """The other stacks that have backups here. A manifest that says nothing of a stack may be ours."""
        found: set[str] = set()
        for component in self.folders:

            def read(id: str, component: str = component) -> None:
                owner = typed.maybe(_Owner, self._read((*self._backup(component, id), MANIFEST)))
                found.update({owner.stack} if owner else ())

            filesystem.parallel(read, self.ids(component), workers=8)
        return found - {self.stack}

    def _foreign(self, cause: str) -> OtherStackError:
        return OtherStackError(
            "use the repository", self.address, f"it is not known as that of the stack {self.stack}: {cause}",
            "Name another path, bucket or prefix for each stack (lifeboat_repository, lifeboat_vault.prefix). If the"
            f" stack was renamed, or the marker is wrong: look at {MARKER} there, remove it and back up again.",
        )  # fmt: skip

    def _another(self, cause: str) -> OtherRepositoryError:
        return OtherRepositoryError(
            "use the repository", self.address, f"it is not the one that this host knows: {cause}",
            "Is its disk mounted? Mount it and try again. If this repository replaces the old one for good, remove"
            f" {self.memory.path if self.memory else 'what this host remembers of it'} on this host.",
        )  # fmt: skip

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The root, as text: a path or an s3:// address."""

    @property
    def race(self) -> str:
        """Why two runs may both believe that an id is theirs, as far as a use has shown; empty where they cannot."""
        return ""

    # What the two implementations differ in. `parts` is a path below the root: folder, id, name...

    @abc.abstractmethod
    def location(self, component: str, id: str) -> str:
        """Where a backup is, as text: a path or an s3:// address."""

    @abc.abstractmethod
    def ids(self, component: str) -> list[str]:
        """Every backup id there is a directory or prefix for, published or not, oldest first."""

    @abc.abstractmethod
    def published(self, component: str) -> list[str]:
        """The ids that have a manifest, oldest first."""

    @abc.abstractmethod
    def stage(self, component: str, id: str) -> contextlib.AbstractContextManager[Staging]:
        """Begin a backup. Raises UsageError when the id exists, published or not."""

    @abc.abstractmethod
    def files(self, component: str, id: str) -> dict[str, int]:
        """Name -> size in bytes of all that is there, expected or not, save the manifest and the records.

        Links and other oddities are listed too, so that a verification sees them; open() refuses to read them.
        """

    @abc.abstractmethod
    def materialise(self, component: str, id: str) -> contextlib.AbstractContextManager[Path]:
        """A directory with the backup in it, never to write into: in place where possible, else fetched and removed."""

    @abc.abstractmethod
    def delete(self, component: str, id: str) -> list[str]:
        """Unpublish, then remove. Interrupted, it leaves no backup, only leftovers for sweep().

        Returns what the store keeps all the same, and why: versions that are locked or not ours to delete.
        """

    @abc.abstractmethod
    def sweep(self, older_than: timedelta, now: datetime, dry_run: bool = False) -> list[str]:
        """Remove what killed runs left behind, if untouched for `older_than`; returns the locations, sorted.

        That is stagings, deletions and uploads never finished, and backups without a manifest.
        """

    sent = 0  # bytes of artefacts that went to a server
    keeps_versions = False  # whether what is deleted or overwritten there may be kept as an old version

    def hide(self, component: str, id: str) -> list[str]:
        """As delete(), and old versions stay, where the store has such: purge_hidden() removes them."""
        return self.delete(component, id)

    def hide_point(self, id: str) -> list[str]:
        """As delete_point(), in the same way."""
        return self.delete_point(id)

    def look_back(self) -> tuple[dict[str, Hidden], dict[str, Altered]]:
        """hidden(), and all that is altered(), from one look."""
        return {}, {}

    def hidden(self) -> dict[str, Hidden]:
        """What was deleted or hidden and is still there as old versions, by id, where the store has such."""
        return self.look_back()[0]

    by_version = False  # whether this is past(), which reads what was published whatever is live now

    def altered(self, component: str, id: str = "") -> dict[str, Altered]:
        """Of the backups, where the store keeps versions: whose manifest was hidden or overwritten, by id.

        component: empty for recovery points. id: only this one.
        """
        return {}

    def past(self) -> Optional[Repository]:
        """The same repository, to read only, as it was published: by versions. None where the store keeps none."""
        return None

    def purge_hidden(
        self, before: datetime, dry_run: bool = False, only: Optional[Collection[str]] = None
    ) -> tuple[list[str], list[str]]:
        """Remove for good what was deleted before that time and is still there as old versions, where the store has
        such. only: of the backups and recovery points, these. Returns what goes, and what stays and why."""
        return [], []

    @abc.abstractmethod
    def check(self, writable: bool = False) -> None:
        """Raise the error that any use would meet: not there, not permitted, not writable, not reachable."""

    @abc.abstractmethod
    def free_bytes(self) -> Optional[int]:
        """Bytes free where stage() writes; None when unknown."""

    @abc.abstractmethod
    def _open(self, parts: tuple[str, ...]) -> BinaryIO: ...

    @abc.abstractmethod
    def _write(self, parts: tuple[str, ...], data: bytes) -> None: ...

    @abc.abstractmethod
    def _write_new(self, parts: tuple[str, ...], data: bytes) -> bool:
        """Write a file that is not there yet; False where it is, also where another run made it in this moment."""

    @abc.abstractmethod
    def _names(self, folder: str) -> list[str]: ...

    @abc.abstractmethod
    def _remove(self, parts: tuple[str, ...]) -> None: ...

    # What they share.

    def open(self, component: str, id: str, name: str) -> BinaryIO:
        """Read one file as a stream, in bounded memory. Raises NotFoundError; IntegrityError for a link or a device."""
        return self._open((*self._backup(component, id), *plain_name(name).split("/")))

    def fetch(self, component: str, id: str, directory: Path) -> None:
        """Copy the artefacts and the manifest into `directory`, made if missing; a file in the way is an error."""
        files = self.files(component, id)
        with explained("fetch the backup", f"{self.location(component, id)} to {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

        def copy(name: str) -> None:
            with explained("fetch the backup", f"{self.location(component, id)}: {name}"):
                target = directory / plain_name(name)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self.open(component, id, name) as source, filesystem.create(target) as sink:
                    while data := source.read(filesystem.CHUNK):
                        sink.write(data)
                        gauge.write(data)

        with progress.going(progress.Gauge(f"{id}: fetching", sum(files.values()))) as gauge:
            filesystem.parallel(copy, [*files, MANIFEST])

    def manifest(self, component: str, id: str) -> bytes:
        """The manifest's bytes. Raises NotFoundError when there is none: then it is not a backup. UntrustedError where
        signers are pinned, and none of them signed it."""
        data = self._read((*self._backup(component, id), MANIFEST))
        if data is None:
            remedy = "`lifeboat list` shows those there are."
            raise NotFoundError("read the manifest", self.location(component, id), "there is no such backup", remedy)
        if self.trust:
            self.trust.check(MANIFESTS, component, id, data)
        return data

    def read_record(self, component: str, id: str, name: str) -> Optional[bytes]:
        """One of RECORDS, or None when it was never written."""
        return self._read((*self._backup(component, id), _record(name)))

    def write_record(self, component: str, id: str, name: str, data: bytes) -> None:
        """Write one of RECORDS beside the manifest, atomically, over an older one."""
        self.require_ours()
        _record(name)
        self.manifest(component, id)
        self._write((*self._backup(component, id), name), data)

    # What grows: a span of WAL is written file by file, and is a backup once it is closed.

    def growing(self, component: str) -> list[str]:
        """The ids that have no manifest yet, oldest first."""
        return sorted({*self.ids(component)} - {*self.published(component)}) if component in GROWING else []

    def grow(self, component: str, id: str, name: str, data: bytes) -> bool:
        """Write one file of a backup that grows: once, whole, and on the disk when this returns. The manifest comes
        last, and nothing after it. False where a file of that name is there already, which stays as it is. Raises
        TakenError where it is closed."""
        parts = (*self._grows(component, id), name if name == MANIFEST else _single(name))
        self.require_ours(make=True)
        if name != MANIFEST and self._read((*parts[:2], MANIFEST)) is not None:
            raise exists(f"{self.location(component, id)}: {name}", ": the span is closed")
        self._begin(parts[:2])
        return self._write_new(parts, data)

    def add(self, component: str, id: str, name: str, data: bytes) -> None:
        """The like, and the same bytes once more are no error, as a run that was killed sends them again. Raises
        TakenError where other bytes lie there."""
        if self.grow(component, id, name, data):
            return
        with self._open((*self._backup(component, id), name)) as stream, explained("read", name):
            same = stream.read(len(data) + 1) == data
        if not same:
            raise exists(f"{self.location(component, id)}: {name}", ", with other bytes")

    def finish(self, component: str, id: str, manifest: bytes) -> None:
        """Make what grew a backup. Raises as add() does."""
        self.add(component, id, MANIFEST, manifest)

    def read_file(self, component: str, id: str, name: str) -> Optional[bytes]:
        """A small file of a backup, published or not; None where there is none of that name."""
        return self._read((*self._backup(component, id), _single(name) if name != MANIFEST else name))

    def notes(self, component: str, id: str) -> list[str]:
        """The names of the notes that are there, in their order."""
        self._grows(component, id)
        return sorted(name for name in self._contents(component, id) if NOTE.fullmatch(name))

    def read_note(self, component: str, id: str, name: str) -> bytes:
        """Raises NotFoundError where there is none, IntegrityError where it is too long for one, or a link."""
        if not NOTE.fullmatch(name):
            remedy = "Write it like note-000001.json."
            raise UsageError("read the note", repr(name), "that is not a note's name", remedy)
        with self._open((*self._grows(component, id), name)) as stream, explained("read the note", name):
            data = stream.read(_NOTE_BYTES + 1)
        if len(data) > _NOTE_BYTES:
            cause, remedy = f"it has more than {_NOTE_BYTES} bytes", "Find out who wrote it."
            raise IntegrityError("read the note", f"{self.location(component, id)}: {name}", cause, remedy)
        return data

    def _grows(self, component: str, id: str) -> tuple[str, str]:
        if component not in GROWING:
            raise UsageError("add to the backup", id, f"no backup of {component} grows", "Take a new backup.")
        return self._backup(component, id)

    @abc.abstractmethod
    def _begin(self, parts: tuple[str, ...]) -> None:
        """Make the directory of what grows, where files need one."""

    def _artefact(self, component: str, name: str) -> bool:
        """Is it a file of the backup itself, and none of the repository's?"""
        reserved = name in (MANIFEST, *RECORDS) or CLAIM.fullmatch(name)
        return not reserved and not (component in GROWING and NOTE.fullmatch(name))

    @abc.abstractmethod
    def _contents(self, component: str, id: str) -> dict[str, int]:
        """Name -> size in bytes of all that is there. Raises NotFoundError where nothing is."""

    def points(self) -> list[str]:
        """The ids of the recovery points, oldest first."""
        names = (name[: -len(".json")] for name in self._names(POINTS) if name.endswith(".json"))
        return sorted(name for name in names if POINT_ID.fullmatch(name))

    def read_point(self, id: str) -> bytes:
        """Raises NotFoundError, and UntrustedError as manifest() does."""
        data = self._read(_point(id))
        if data is None:
            raise NotFoundError("read the recovery point", id, "there is none of that name", "Choose another.")
        if self.trust:
            self.trust.check(RECOVERY_POINTS, "", id, data)
        return data

    def write_point(self, id: str, data: bytes) -> None:
        """Write a recovery point, once: what it ties together never changes."""
        self.require_ours(make=True)
        if self._read(_point(id)) is not None or not self._write_new(_point(id), data):
            raise UsageError("write the recovery point", id, "it exists already", "Take a new one a second later.")

    def delete_point(self, id: str) -> list[str]:
        """Returns what the store keeps all the same, as delete() does."""
        self.require_ours()
        self._remove(_point(id))
        return []

    def holds(self) -> dict[str, bytes]:
        """What recoveries left to keep a backup or recovery point, by its id; of other names nothing is read."""
        found: dict[str, bytes] = {}
        for name in self._names(HOLDS):
            id = name.removesuffix(".json")
            if name == f"{id}.json" and (ID.fullmatch(id) or POINT_ID.fullmatch(id)):
                try:
                    with self._open((HOLDS, name)) as stream:
                        found[id] = stream.read(_HOLD + 1)
                except (IntegrityError, NotFoundError):
                    found[id] = b""
        return found

    def write_hold(self, id: str, data: bytes) -> None:
        self.require_ours()
        self._write(_hold(id), data)

    def remove_hold(self, id: str) -> None:
        self.require_ours()
        self._remove(_hold(id))

    def read_escrow(self, stack: str) -> Optional[bytes]:
        """When the escrowed key last opened a recovery point of the stack; None where it never did."""
        return self._read(_escrow(stack))

    def write_escrow(self, stack: str, data: bytes) -> None:
        """Beside the points, not beside what it opened: it must outlive that."""
        self._write(_escrow(stack), data)

    def _read(self, parts: tuple[str, ...]) -> Optional[bytes]:
        try:
            stream = self._open(parts)
        except NotFoundError:
            return None
        with stream, explained("read", "/".join(parts)):
            data = stream.read(filesystem.LARGEST + 1)
        if len(data) > filesystem.LARGEST:  # or one of them fills the memory of every run that lists what is here
            remedy = "Find out who wrote it and remove it."
            raise IntegrityError("read", "/".join(parts), f"it has more than {filesystem.LARGEST >> 20} MiB", remedy)
        return data

    def _folder(self, component: str) -> str:
        if component not in self.folders:
            remedy = f"Use one of {', '.join(self.folders)}."
            raise UsageError("find the component's folder", component, "there is no such component", remedy)
        return self.folders[component]

    def _backup(self, component: str, id: str) -> tuple[str, str]:
        if not ID.fullmatch(id):
            raise no_id(id)
        return self._folder(component), id


@dataclass(frozen=True)
class Marker:
    """Whose repository it is. repository: chosen at random when it was made, so that two are told apart."""

    schema: str
    stack: str
    repository: str


@dataclass(frozen=True)
class _Source:
    """Of which repository a vault has copies."""

    schema: str
    repository: str


@dataclass(frozen=True)
class _Owner:
    """What of a manifest is asked for where there is no marker."""

    stack: str


def marker_of(data: Optional[bytes]) -> Optional[Marker]:
    """Whose repository it is by its marker; None where that cannot be read."""
    found = typed.maybe(Marker, data)
    return found if found and found.schema == _SCHEMA else None


def _marker(stack: str) -> bytes:
    body = {"schema": _SCHEMA, "version": [1, 0], "stack": stack, "repository": secrets.token_hex(16)}
    return json.dumps(body, indent=1).encode() + b"\n"


def dated(id: str) -> datetime:
    """The time in the name of a backup or a recovery point. A name that is no date is of long ago: it is nobody's
    newest, and what lies under it is read and told like any other."""
    return stamped(id) or datetime(2000, 1, 1, tzinfo=timezone.utc)


def no_id(text: str) -> UsageError:
    remedy = "Write it like db_backup_20261124_020000."
    return UsageError("find the backup", repr(text), "that is not a backup id", remedy)


class OtherStackError(UsageError):
    """The repository is another stack's: no backup of this one may be written there, and nothing deleted."""


class OtherRepositoryError(UsageError):
    """The repository is another than the one that was here before: its disk is not mounted, or another one is."""


class TakenError(UsageError):
    """A backup of that id is there already, or another run is publishing one."""


def exists(location: str, more: str = "") -> TakenError:
    return TakenError(
        "publish the backup", location, f"a backup of that id exists{more}", "Take a new one a second later."
    )


def refuse_reserved(directory: Path) -> None:
    """The repository's own names are not for artefacts."""
    for name in sorted(path.name for path in directory.iterdir()):
        if name in (MANIFEST, *RECORDS) or CLAIM.fullmatch(name):
            raise UsageError("publish the backup", name, "that name is the repository's own", "Rename the artefact.")


def leftovers(folder: Path, grows: bool = False) -> Iterator[Path]:
    """What killed runs may have left directly in `folder`. grows: what has no manifest there is open."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        unfinished = not grows and ID.fullmatch(path.name) and not path.is_symlink() and absent(path / MANIFEST)
        if path.name.startswith((PARTIAL, DELETING)) or unfinished:
            yield path


def absent(path: Path) -> bool:
    """Is it certain that nothing lies there? os.path.lexists() takes an error of the disk for that."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _single(name: str) -> str:
    """The name of a file that may be added to what grows."""
    if "/" in plain_name(name) or name in (MANIFEST, *RECORDS) or CLAIM.fullmatch(name):
        raise UsageError("add to the backup", repr(name), "that name is not an artefact's", "Use another name.")
    return name


def _record(name: str) -> str:
    if name not in RECORDS:
        raise UsageError("use the record", repr(name), f"a record is one of {', '.join(RECORDS)}", "Use one of them.")
    return name


def _point(id: str) -> tuple[str, str]:
    if not POINT_ID.fullmatch(id):
        raise UsageError("find the recovery point", repr(id), "that is not its id", "Write it like 20261124_033000.")
    return POINTS, f"{id}.json"


def _hold(id: str) -> tuple[str, str]:
    if not (ID.fullmatch(id) or POINT_ID.fullmatch(id)):
        raise no_id(id)
    return HOLDS, f"{id}.json"


def _escrow(stack: str) -> tuple[str, str]:
    return POINTS, f"escrow-{plain_name(stack)}.json"


def bad_setting(name: str, value: object, cause: str) -> UsageError:
    return UsageError(
        "open the repository", f"{name}: {value!r}", cause, "Correct the repository's settings and deploy again."
    )
