# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copies of the repository in the vault: made after every backup, and what is missing there is made up for.

A vault that is away costs no backup: that is good where it is, the copy is what failed, and the next run sends it.
The vault's repository lies below `vault.prefix`, or where that is empty below the stack's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Callable, Optional

from ..base import filesystem, progress, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.errors import (
    CopyError,
    IntegrityError,
    LifeboatError,
    Log,
    NotFoundError,
    UntrustedError,
    present,
)
from ..base.text import human
from ..settings.config import Config
from ..stack.runtime import Opened
from . import points, repositories
from .base import COPIES, MANIFEST, RECORDS, VERIFICATION, OtherRepositoryError, OtherStackError, Repository
from .catalog import Entry
from .components import GROWING, component_kind
from .details import Count
from .manifest import Manifest

if TYPE_CHECKING:
    from .s3 import Mark, S3Repository

_SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """location: where copies are kept, empty where none are. copies: backup id -> places, of all that is there now."""

    location: str = ""
    copied: tuple[str, ...] = ()
    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "place": self.location,
            "copied": list(self.copied),
            "held": len(self.copies),
            "failed": list(self.failed),
        }


@dataclass(frozen=True)
class Copy:
    """One copy of a backup. proof: the digest of the verifications that were sent along.

    marks: the digest of what the vault said of its artefacts when their bytes were compared; earlier records lack it.
    """

    location: str = field(metadata={"json": "place"})
    at: datetime
    bytes: Count
    proof: str = ""
    marks: str = ""


@dataclass(frozen=True)
class _Record:
    seal: str
    copy: Copy


def vault(run: Opened) -> Optional[S3Repository]:
    """The repository in the vault; None where none is kept, or where the repository itself is that bucket."""
    return repositories.in_vault(run)


def configured(config: Config) -> bool:
    """Return whether copies are kept in a vault besides the repository."""
    own = getattr(config.repository, "bucket", "")
    return bool(config.vault.repository_bucket) and own != config.vault.repository_bucket


def location(config: Config) -> str:
    """Where the copies are, as plans and records say it."""
    settings, prefix = config.vault, config.vault.prefix or config.stack
    return f"s3://{settings.repository_bucket}/{prefix} at {settings.endpoint_url or 'Amazon S3'}"


def catch_up(run: Opened, *, log: Log) -> Outcome:
    """Send what the vault lacks or no longer has as it was sent, newest first, and say what is there.

    Never raises for a vault that fails.

    Only what looks good here is sent, and only what its manifest says arrives. Of one that was sent and is flawed the
    verdict is. The caller holds the stack's lock.
    """
    where = location(run.config)
    try:
        store = vault(run)
    except LifeboatError as exc:
        return Outcome(where, failed=(str(exc),))
    if store is None:
        return Outcome()
    repo = repositories.repository_of(run)
    every = {**points.continuous(repo, run.config.stack), **points.backups(repo, run.config.stack)}
    found = [entry for some in every.values() for entry in some if entry.manifest and (entry.sound or entry.flawed)]
    held: dict[str, list[str]] = {}
    copied, failed = [], []
    try:
        store.require_ours()
        require_source(run, store, make=True)
        there = {component: set(store.published(component)) for component in {entry.component for entry in found}}
    except LifeboatError as exc:
        return Outcome(where, failed=(f"{where}: {exc}",))
    relayed = [component for component in GROWING if component_kind(component).configured(run.config)]
    for entry in _ordered(found, there, relayed):
        try:
            copied += _bring(repo, store, entry, entry.id in there[entry.component], where, log)
            if entry.sound:
                held[entry.id] = [where]
        except IntegrityError as exc:  # of this one: damaged here, or another's there
            failed.append(str(exc))
        except LifeboatError as exc:  # of the vault: the next would fail likewise
            failed.append(str(exc))
            break
    for line in failed:
        log(f"not copied: {line}")
    if store.race:
        log(store.race)
    return Outcome(where, tuple(copied), held, tuple(failed))


def _ordered(entries: Sequence[Entry], there: Mapping[str, Collection[str]], relayed: Collection[str]) -> list[Entry]:
    """The newest first. relayed: the components that are sent span by span, in order and with their notes (relay.py);
    what of them is there is compared as everything is."""
    due = [entry for entry in entries if entry.component not in relayed or entry.id in there[entry.component]]
    return sorted(due, key=lambda item: item.id.rpartition("backup_")[2], reverse=True)


def require_source(run: Opened, store: Repository, *, make: bool = False) -> None:
    """Raise OtherRepositoryError where the vault has copies of another repository of the stack than this host's.

    A host that began a new repository, when it knew of none or was told to forget the old one, sends that from now on.
    make: put on record which one it is.
    """
    repo = repositories.repository_of(run)
    if not isinstance(repo.memory, repositories.HostMemory):
        return  # a bucket has a name of its own
    before = store.source()
    if before is None and not make:
        return
    mine, kept = repo.identity(), repo.memory.remembered
    if before not in (None, mine) and not (kept and kept.new):
        raise OtherRepositoryError(
            "bring the vault up to date", store.address,
            f"it has copies of another repository than that in {repo.address}",
            "Is the right disk mounted? Mount it. If this repository replaces the other for good, remove source.json"
            " there.",
        )  # fmt: skip
    if make and before != mine:
        store.write_source(mine)


def _bring(repo: Repository, store: S3Repository, entry: Entry, there: bool, where: str, log: Log) -> list[str]:
    """Bring one copy up to date. Returns the backup's id where it had to be sent. Of a flawed one the verdict goes."""
    manifest = present(entry.manifest)
    marks = store.marks(entry.component, entry.id) if there else {}
    sent: list[str] = []
    if entry.sound:
        record = read(repo, manifest)
        if not there or record is None or _compare(store, manifest, record, marks) != Comparison():
            ours = record is not None and record.location == where
            sent = _send(repo, store, manifest, where, ours, log)
    if entry.sound or there:
        _send_proof(repo, store, manifest, marks.get(VERIFICATION))
    return sent


def _send(repo: Repository, store: S3Repository, manifest: Manifest, where: str, ours: bool, log: Log) -> list[str]:
    """Returns the id where it had to be sent; a copy that was all there is only put on record. ours: see receive()."""
    component, identity = manifest.component, manifest.id
    before = datetime.now(timezone.utc)
    sums = {artefact.name: artefact.sha256 for artefact in manifest.artefacts}
    before_it = store.sent
    gauge = progress.Gauge(f"{identity} to {where}", manifest.size, meter=lambda: store.sent - before_it)
    with repo.materialise(component, identity) as folder, progress.going(gauge):
        sent = store.receive(component, identity, folder, sums, manifest.to_bytes(), ours)
    now = datetime.now(timezone.utc)
    _write(repo, manifest, Copy(where, now, manifest.size, marks=_digest(manifest, store.marks(component, identity))))
    if sent:
        log(f"{identity}: copied to {where}, {human(sent)} in {(now - before).total_seconds():.1f} s")
    return [identity] if sent else []


@dataclass(frozen=True)
class Comparison:
    """A copy, looked at in the vault. wrong: missing, or another than was sent; unknown: why its bytes are unknown."""

    wrong: tuple[str, ...] = ()
    unknown: str = ""


def _compare(store: S3Repository, manifest: Manifest, record: Optional[Copy], marks: Mapping[str, Mark]) -> Comparison:
    """Whether the manifest and every artefact are there as they were sent, by size and the mark that the server gives
    to the bytes."""
    wanted = {artefact.name: artefact.size for artefact in manifest.artefacts}
    wrong = [f"{name} is missing" for name in (MANIFEST, *wanted) if name not in marks]
    wrong += [f"{name} does not belong to it" for name in marks if name not in (MANIFEST, *RECORDS, *wanted)]
    if MANIFEST in marks and not _same(
        marks[MANIFEST], manifest.to_bytes(), lambda: store.manifest(manifest.component, manifest.id)
    ):
        wrong.append(f"{MANIFEST} is another than the repository's")
    for name, size in wanted.items():
        if name in marks and marks[name].size != size:
            wrong.append(f"{name} has {marks[name].size} bytes instead of {size}")
    if wrong:
        return Comparison(tuple(wrong))
    if record is None or not record.marks:
        return Comparison(unknown="its bytes were not compared")
    return (
        Comparison()
        if _digest(manifest, marks) == record.marks
        else Comparison(unknown="it was written again since it was sent")
    )


def _look_at_proof(repo: Repository, store: S3Repository, manifest: Manifest, marks: Mapping[str, Mark]) -> Comparison:
    """Whether the verifications that were sent are still there. A verdict that is yet to be sent is no matter; another
    one may be that of a verification that ran on the vault itself."""
    raw, record = repo.read_record(manifest.component, manifest.id, VERIFICATION), read(repo, manifest)
    if not raw or record is None or record.proof != filesystem.sha256(raw):
        return Comparison()
    if VERIFICATION not in marks:
        return Comparison((f"{VERIFICATION} is missing",))
    return (
        Comparison()
        if _proof_is(store, manifest, marks[VERIFICATION], raw)
        else Comparison(unknown=f"{VERIFICATION} is another")
    )


def _proof_is(store: S3Repository, manifest: Manifest, mark: Mark, raw: bytes) -> bool:
    return _same(mark, raw, lambda: store.read_record(manifest.component, manifest.id, VERIFICATION))


def _same(mark: Mark, data: bytes, read_again: Callable[[], Optional[bytes]]) -> bool:
    """Whether the vault holds these very bytes. A server whose ETag is no MD5 has to show them."""
    if mark.size != len(data):
        return False
    if mark.etag == hashlib.new("md5", data, usedforsecurity=False).hexdigest():
        return True
    try:
        return read_again() == data
    except (IntegrityError, NotFoundError):
        return False


def _digest(manifest: Manifest, marks: Mapping[str, Mark]) -> str:
    digest = hashlib.sha256()
    for name in sorted(artefact.name for artefact in manifest.artefacts):
        digest.update(f"{name}\0{marks.get(name)}\0".encode())
    return digest.hexdigest()


def _send_proof(repo: Repository, store: S3Repository, manifest: Manifest, mark: Optional[Mark]) -> None:
    """What a restore proved of these bytes holds for their copy: it must be known where the repository is gone.

    mark: of what is there; None where nothing is.
    """
    raw = repo.read_record(manifest.component, manifest.id, VERIFICATION)
    record = read(repo, manifest)
    digest = filesystem.sha256(raw) if raw else ""
    if raw and record and (record.proof != digest or mark is None or not _proof_is(store, manifest, mark, raw)):
        store.write_record(manifest.component, manifest.id, VERIFICATION, raw)
        _write(repo, manifest, replace(record, proof=digest))


def read(repo: Repository, manifest: Manifest) -> Optional[Copy]:
    """The copy on record of this very backup; None where none was made, or what is on record cannot be read."""
    record = typed.maybe(_Record, repo.read_record(manifest.component, manifest.id, COPIES))
    return record.copy if record and record.seal == manifest.seal else None


def _write(repo: Repository, manifest: Manifest, copy: Copy) -> None:
    repo.write_record(manifest.component, manifest.id, COPIES, manifest.record("copies", copy=typed.plain(copy)))


def send_points(run: Opened, *, log: Log) -> tuple[str, ...]:
    """Put the recovery points into the vault too; returns what failed. They are small, and useless on one side only.

    One that is there and another than the repository's is replaced, and kept as receive() keeps what it replaces.
    """
    try:
        store = vault(run)
        if store is None:
            return ()
        repo = repositories.repository_of(run)
        there = store.point_marks()
        for identity in repo.points():
            try:
                data = repo.read_point(identity)
            except UntrustedError as exc:
                log(f"{identity}: recovery point not copied: {exc.cause}")
                continue
            if identity in there and _point_is(store, identity, there[identity], data):
                continue
            try:
                ours = points.parse(data, expected_id=identity).stack == run.config.stack
            except LifeboatError:
                continue  # broken, or of a newer schema: `lifeboat list` says so
            if ours and identity in there:
                _replace_point(run.config, store, identity, data)
            elif ours:
                store.write_point(identity, data)
            if ours:
                log(f"{identity}: recovery point copied to {location(run.config)}")
    except LifeboatError as exc:
        log(f"recovery points not copied: {exc}")
        return (str(exc),)
    return ()


def _point_is(store: S3Repository, identity: str, mark: Mark, data: bytes) -> bool:
    return _same(mark, data, lambda: store.read_point(identity))


def _replace_point(config: Config, store: S3Repository, identity: str, data: bytes) -> None:
    try:
        stack = points.parse(store.read_point(identity), expected_id=identity).stack
    except IntegrityError:
        stack = config.stack
    if stack != config.stack:
        remedy = "Two stacks with one place? Set lifeboat_vault.prefix to a name of its own for each."
        raise IntegrityError("copy the recovery point", identity, f"that of the stack {stack} is there", remedy)
    store.replace_point(identity, data)


def problem(what: str, failed: Sequence[str]) -> Optional[CopyError]:
    """The error where something failed: what was backed up is good, and that is not all that was promised."""
    if not failed:
        return None
    remedy = "Nothing is lost: the backups in the repository are good, and the next backup sends what is missing."
    return CopyError("bring the vault up to date", what, "; ".join(failed[:3]), remedy)


def checks(run: Opened, by_component: Mapping[str, Sequence[Entry]], tied: Sequence[points.PointEntry]) -> list[Check]:
    """Whether the vault has what the repository has, by asking the vault; none where no copies are kept."""
    where = location(run.config)
    try:
        store = vault(run)
        if store is None:
            return []
        store.require_ours()
        require_source(run, store)
        there = {name for component, some in by_component.items() if some for name in store.published(component)}
        point_marks = store.point_marks()
        there |= set(point_marks)
    except LifeboatError as exc:
        others = isinstance(exc, (OtherStackError, OtherRepositoryError))
        return [Check("copies", FAIL if others else COULD_NOT_VERIFY, f"{where}: {exc.cause}")]
    backups = [entry.id for some in by_component.values() for entry in some if entry.sound]
    tied_ids = [entry.id for entry in tied if entry.sound]
    missing = [name for name in [*backups, *tied_ids] if name not in there]
    if missing:
        shown = ", ".join(missing[-_SHOWN:]) + (" …" if len(missing) > _SHOWN else "")
        return [Check("copies", FAIL, f"{len(missing)} are not in {where}: {shown}")]
    if not backups:
        return [Check("copies", COULD_NOT_VERIFY, f"there is no good backup to be in {where}")]
    try:
        looked = {**_looked(run, store, by_component), **_looked_at_points(run, store, tied_ids, point_marks)}
    except LifeboatError as exc:
        return [Check("copies", COULD_NOT_VERIFY, f"{where}: {exc.cause}")]
    wrong = [f"{name}: {'; '.join(seen.wrong[:2])}" for name, seen in looked.items() if seen.wrong]
    if wrong:
        words = f"{len(wrong)} are damaged or replaced in {where}: {', '.join(wrong[-_SHOWN:])}"
        return [Check("copies", FAIL, f"{words}; the next backup sends them again")]
    unknown = [f"{name}: {seen.unknown}" for name, seen in looked.items() if seen.unknown]
    if unknown:
        words = f"{len(unknown)} are in {where} and not known to be whole: {', '.join(unknown[-_SHOWN:])}"
        return [Check("copies", COULD_NOT_VERIFY, f"{words}; the next backup compares their bytes")]
    return [Check("copies", PASS, f"{len(backups)} backups, {len(tied_ids)} recovery points are in {where} too")]


def _looked(run: Opened, store: S3Repository, by_component: Mapping[str, Sequence[Entry]]) -> dict[str, Comparison]:
    repo = repositories.repository_of(run)
    seen: dict[str, Comparison] = {}

    def compare(identity: str) -> None:
        manifest = good[identity]
        marks = store.marks(manifest.component, identity)
        looked = _compare(store, manifest, read(repo, manifest), marks)
        seen[identity] = looked if looked != Comparison() else _look_at_proof(repo, store, manifest, marks)

    good = {
        entry.id: entry.manifest for some in by_component.values() for entry in some if entry.sound and entry.manifest
    }
    filesystem.parallel(compare, good, workers=8)
    return dict(sorted(seen.items()))


def _looked_at_points(
    run: Opened, store: S3Repository, named: Sequence[str], marks: Mapping[str, Mark]
) -> dict[str, Comparison]:
    repo = repositories.repository_of(run)
    others = [name for name in named if not _point_is(store, name, marks[name], repo.read_point(name))]
    return {name: Comparison(("it is another than the repository's",)) for name in others}
