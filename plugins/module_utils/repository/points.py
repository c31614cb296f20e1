# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery point: one backup of each component, of one instant where that can be, tied by one sealed file.

    <repository>/recovery-points/<YYYYMMDD_HHMMSS>.json

It never changes once written. It is good while every backup that it names is there, good, and still the very one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import ClassVar, Optional

from ..base import clock, typed
from ..base.clock import format_time, stamp
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UntrustedError, UsageError
from ..base.text import named
from ..settings.config import RECOVERY_POINTS, Config
from ..stack.runtime import Opened
from . import catalog, repositories, retention
from .base import POINT_ID, Altered, Repository, Trust
from .catalog import Entry, Published
from .components import BASE, CONTINUOUS, DATABASE, FILES, KINDS, NO_DATABASE, OBJECTS, Kind, every
from .details import FilesDetails, ObjectsDetails
from .manifest import D, Manifest, component_of
from .sealing import Sealed, Signature, unseal

SNAPSHOT = "snapshot"  # every part is of one instant
EVENTUAL = "eventual"  # the objects are of another instant than the rows; without rows, the parts are of several
_APART = "of another instant than the rows"
_SEVERAL = "data: of more than one instant"
_NO_ROWS = f"{DATABASE}: {NO_DATABASE}"  # what a point of a stack without a database says
_TAKE = "Take one: lifeboat backup."


@dataclass(frozen=True)
class Part:
    """A backup, by name and by the seal of its manifest: another of the same name is not the one."""

    id: str
    seal: str


@dataclass(frozen=True)
class Point(Sealed):
    """components: by name; None is a component that has no backup yet, named so that nobody takes it for there.

    taken_at: the instant that the rows are of; of a stack without a database that of its oldest part. images: service
    -> image by digest. copies: where else the parts were when this was sealed (and the point itself right after).
    notes: what an operator must know of it, in words.
    """

    schema: ClassVar[str] = "lifeboat.dr/recovery-point"
    document: ClassVar[str] = RECOVERY_POINTS
    what: ClassVar[str] = "recovery point"
    remedy: ClassVar[str] = "Choose another (lifeboat list) and keep this one for inquiry."

    id: str
    stack: str
    sealed_at: datetime
    taken_at: datetime
    consistency: str
    components: Mapping[str, Optional[Part]]
    images: Mapping[str, str]
    copies: tuple[str, ...]
    notes: tuple[str, ...]
    signature: Optional[Signature] = None

    @property
    def written_at(self) -> datetime:
        return max(self.taken_at, self.sealed_at)

    @property
    def parts(self) -> dict[str, Part]:
        """The components that it has a backup of."""
        return {name: part for name, part in self.components.items() if part is not None}

    @property
    def strange(self) -> str:
        """What it names that this Lifeboat does not know, in words; empty where it knows all of it."""
        names = ", ".join(typed.shown(name) for name in self.components if name not in KINDS)
        return f"no component is called {names} here: a newer Lifeboat wrote it" if names else ""

    @property
    def ids(self) -> dict[str, Optional[str]]:
        """The id of each component's backup."""
        return {name: part.id if part else None for name, part in self.components.items()}


def is_id(text: str) -> bool:
    return POINT_ID.fullmatch(text) is not None


def parse(data: bytes, *, expected_id: str) -> Point:
    """Raises IntegrityError when it is broken, edited or another's; UsageError when its schema is newer than ours.

    A component that only a newer Lifeboat has is no error: `strange` tells of it.
    """
    point = unseal(Point, data, expected_id, f"{expected_id}.json")
    for name, part in point.components.items():
        try:
            fits = part is None or name not in KINDS or component_of(part.id) == name
        except UsageError:
            fits = False
        if not fits:
            raise point.error(expected_id, f"{part} is not a backup of {name}")
    complete = bool(point.components.get(DATABASE)) or (bool(point.parts) and _NO_ROWS in point.notes)
    if point.consistency not in (SNAPSHOT, EVENTUAL) or not complete:
        raise point.error(expected_id, "its consistency or its database is missing or wrong")
    return point


@dataclass(frozen=True)
class PointEntry(Published):
    """One recovery point of a repository."""

    id: str
    point: Optional[Point] = None
    problem: str = ""
    proven_at: Optional[datetime] = None
    unknown: bool = False
    failures: int = 0
    ahead: bool = False
    incomplete: bool = False
    untrusted: bool = False
    hidden: str = ""
    spoiled: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @property
    def sealed(self) -> Optional[Point]:
        return self.point

    def as_dict(self, now: datetime) -> dict[str, object]:
        point = self.point
        return {
            **super().as_dict(now),
            "component": "point",
            "sealed_at": format_time(point.sealed_at) if point else None,
            "consistency": point.consistency if point else None,
            "components": point.ids if point else {},
            "images": dict(point.images) if point else {},
            "copies": list(point.copies) if point else [],
            "notes": list(point.notes) if point else [],
        }


def backups(repo: Repository, stack: str, outlined: Iterable[str] = ()) -> dict[str, list[Entry]]:
    """Every published backup of the stack, by component, oldest first. outlined: of which components without their
    lists of artefacts."""
    return {name: catalog.entries(repo, name, stack, outlined=name in {*outlined}) for name in KINDS}


def continuous(repo: Repository, stack: str) -> dict[str, list[Entry]]:
    """The like of what continuous protection wrote, closed spans alone; nothing where it never wrote anything."""
    there = [name for name in CONTINUOUS if name in repo.folders and repo.ids(name)]
    return {name: catalog.entries(repo, name, stack) for name in there}


def bases(repo: Repository, config: Config) -> dict[str, list[Entry]]:
    """The like of the bases alone, where the database is protected continuously; else nothing."""
    there = config.wal.enabled and BASE in repo.folders
    return {BASE: catalog.entries(repo, BASE, config.stack)} if there else {}


def entry(repo: Repository, identity: str, by_id: Mapping[str, Entry], altered: Optional[Altered] = None) -> PointEntry:
    """Read one recovery point and compare it with the backups that are there, by id."""
    try:
        point = _read(repo, identity, altered)
    except LifeboatError as exc:
        untrusted = isinstance(exc, UntrustedError)
        return PointEntry(identity, problem=exc.cause, unknown=catalog.inconclusive(exc), untrusted=untrusted)
    problems, failures, proofs = [], [], []
    lacks: dict[str, str] = {}
    unread = [point.strange] if point.strange else []
    early = clock.ahead(point.written_at)
    for name, part in point.parts.items():
        if name not in KINDS:
            continue
        one = by_id.get(part.id)
        if one is None:
            problems.append(f"{part.id} is missing")
        elif one.unknown:
            unread.append(f"{part.id}: {one.problem}")
        elif one.manifest is None or not (one.good or one.ahead or one.incomplete):
            problems.append(f"{part.id}: {one.problem}")
            failures += [one.failures] if one.manifest and one.manifest.seal == part.seal else []
        elif one.manifest.seal != part.seal:
            problems.append(f"{part.id} is another than the one that was sealed")
        elif one.ahead:
            early = early or f"{part.id}: {one.problem}"
        elif one.incomplete:
            lacks[name] = f"{part.id}: {one.problem}"
        else:
            proofs.append(one.proven_at)
    said = [*problems, *unread, *lacks.values(), *filter(None, [early])]
    proven = None if said or None in proofs else min(filter(None, proofs), default=None)
    counted = len(failures) == len(problems) and all(failures) and not early
    failed = max(failures, default=0) if counted else 0
    unknown, whole = bool(unread) and not problems, not problems and not unread
    ahead, incomplete = bool(early) and whole, bool(lacks) and whole
    hidden = _hidden(point, by_id, altered)
    untrusted = unknown and any(by_id[part.id].untrusted for part in point.parts.values() if part.id in by_id)
    rows = point.parts.get(DATABASE)
    own = by_id.get(rows.id) if rows else None
    fits = own and rows and own.sealed and own.sealed.seal == rows.seal
    spoiled = own.spoiled if own and fits and len(said) == 1 else {}
    return PointEntry(
        identity, point, "; ".join(said[:4]), proven, unknown, failed, ahead, incomplete, untrusted, hidden, spoiled,
        tuple(lacks) if incomplete else (),
    )  # fmt: skip


def _read(repo: Repository, identity: str, altered: Optional[Altered]) -> Point:
    if altered and not repo.by_version:  # what is live says nothing of what was published
        if repo.trust:
            raise UntrustedError("read the recovery point", identity, f"untrusted: {altered.detail}")
        raise LifeboatError("read the recovery point", identity, altered.detail)
    return parse(repo.read_point(identity), expected_id=identity)


def _hidden(point: Point, by_id: Mapping[str, Entry], altered: Optional[Altered]) -> str:
    """Of a point that is read by version: what became of it and of its parts."""
    parts = [by_id[part.id] for part in point.parts.values() if part.id in by_id]
    return "; ".join(
        [*([altered.detail] if altered else []), *(f"{one.id}: {one.hidden}" for one in parts if one.hidden)]
    )


def entries(repo: Repository, stack: str, by_component: Mapping[str, Sequence[Entry]]) -> list[PointEntry]:
    """The stack's recovery points, oldest first. One that cannot be read may be ours, so it is shown."""
    by_id = {item.id: item for some in by_component.values() for item in some}
    altered = repo.altered("")
    newest_first = [entry(repo, identity, by_id, altered.get(identity)) for identity in reversed(repo.points())]
    read = newest_first[::-1]  # as catalog.entries()
    if repo.trust:
        read = [_consistent(repo.trust, item) for item in read]
        repo.trust.keep()
    return [item for item in read if item.point is None or item.point.stack == stack]


def _consistent(trust: Trust, entry: PointEntry) -> PointEntry:
    """Once all are read: what others that are as well signed contradict is no choice."""
    cause = trust.contradicted(RECOVERY_POINTS, entry.id, entry.point.seal) if entry.point else ""
    return PointEntry(entry.id, problem=cause, unknown=True, untrusted=True) if cause else entry


def listing(
    tied: Sequence[PointEntry], by_component: Mapping[str, Sequence[Entry]], now: datetime
) -> list[dict[str, object]]:
    """Recovery points, then backups, each oldest first, for JSON.

    The database's come last: the last good one of the list is what a database recovery would take.
    """
    shown = [entry.as_dict(now) for entry in tied]
    return shown + [entry.as_dict(now) for name in reversed(tuple(every())) for entry in by_component.get(name, ())]


def choose(
    entries: Sequence[PointEntry], stack: str, *, identity: str = "latest", before: Optional[datetime] = None,
    accept: Optional[bool] = None, partly: bool = False,
) -> tuple[PointEntry, list[PointEntry]]:  # fmt: skip
    """The recovery point to use, and newer ones passed over because they cannot be used; errors as catalog.choose()."""
    return catalog.choose(
        entries, stack, what="recovery point", identity=identity, before=before, accept=accept, partly=partly
    )


def part_of(repo: Repository, stack: str, identity: str, component: str, note: Log = lambda _: None) -> str:
    """What an operator typed as recovery_point, as the id of a backup of `component`, or `latest`.

    A recovery point's id stands for the backup that it names, and that must be the very one that was sealed. What else
    the point names, and this Lifeboat does not know, is noted.
    """
    if not is_id(identity):
        return identity
    attempted, another = "use the recovery point", "Choose another (`lifeboat list`)."
    altered = repo.altered("", identity).get(identity)
    if altered and not repo.by_version and not altered.gone:
        raise IntegrityError(attempted, identity, altered.detail, another)
    point = parse(repo.read_point(identity), expected_id=identity)
    if point.stack != stack:
        raise UsageError(attempted, identity, f"it is of the stack {point.stack}, not {stack}")
    part = point.components.get(component)
    if part is None:
        raise NotFoundError(attempted, identity, f"it has no backup of {component}", another)
    found = catalog.entry(repo, component, part.id)
    if found.manifest is not None and found.manifest.seal != part.seal:
        raise IntegrityError(attempted, identity, f"{part.id} is another than the one that was sealed", another)
    if altered:
        note(f"recovery point {identity}: {altered.detail}")
    if point.strange:
        note(f"recovery point {identity}: {point.strange}; only its {component} is recovered by this")
    return part.id


def seal(
    run: Opened, *, now: datetime, copies: Mapping[str, Sequence[str]] = MappingProxyType({}), log: Log,
    database: Optional[Manifest] = None, more: Sequence[str] = (),
) -> tuple[Point, bool]:  # fmt: skip
    """Tie the newest good backups together and publish the recovery point; the caller holds the stack's lock.
    database: the backup that it is of, in place of the newest one. more: notes of the caller's.

    A backup that only lacks something is tied too: what is in it is of the newest instant, and the point is not good.
    Returns it and whether it is new: the same backups are tied once. copies: backup id -> where else it is.
    Raises NotFoundError where a component of the stack has no good backup: half a point is none.
    """
    config, repo = run.config, repositories.repository_of(run)
    found = backups(repo, config.stack)
    if config.database.enabled:
        database = database or _newest(config, found[DATABASE], DATABASE)
    notes: list[str] = []
    consistency = SNAPSHOT
    parts: dict[str, Optional[Part]] = {}
    manifests: dict[str, Manifest] = {}
    for name, kind in KINDS.items():
        said: list[str] = []
        chosen = database if name == DATABASE else _chosen(config, kind, found[name], database)
        if kind.silent and not (chosen or kind.configured(config)):
            continue
        parts[name] = Part(chosen.id, chosen.seal) if chosen else None
        manifests.update({name: chosen} if chosen else {})
        if chosen and kind.tied and database and not _of_one_instant(chosen, database):
            consistency = EVENTUAL
            apart = abs((chosen.taken_at - database.taken_at).total_seconds())
            said.append(f"{_APART}, {apart:.0f} s apart ({_why_apart(chosen, database)}); reconcile after a recovery")
        missing = "no backup of it exists yet" if kind.configured(config) else kind.other_host(config) or kind.absent
        said += kind.notes(chosen.detailed(kind.details)) if chosen else [missing]
        notes[:0] = [f"{name}: {note}" for note in said]
    names = [part.id for part in parts.values() if part]
    if not names:
        raise NotFoundError("seal a recovery point", config.stack, "there is no good backup", _TAKE)
    if not database and (why := _instants(manifests)):
        consistency = EVENTUAL
        notes.insert(0, f"{_SEVERAL} ({why})")
    for item in reversed(entries(repo, config.stack, found)):
        if item.sound and item.point and item.point.components == parts and item.point.consistency == consistency:
            return item.point, False
    try:
        # A keeper runs nothing of the stack; the images are in the backup of its configuration.
        images = run.runtime.images() if not config.keeper.directory else {}
    except LifeboatError as exc:
        images = {}
        notes.append(f"images: not known, {exc.cause}")
    point = Point(
        id=catalog.unused(repo.points(), stamp, now),
        stack=config.stack,
        sealed_at=now,
        taken_at=database.taken_at if database else _oldest(manifests),
        consistency=consistency,
        components=parts,
        images=images,
        copies=tuple(sorted(set.intersection(*(set(copies.get(name, ())) for name in names)))),
        notes=(*notes, *more),
    )
    point = repositories.publish(run, point, lambda data: repo.write_point(point.id, data))
    log(f"{point.id}: recovery point of {', '.join(names)}, consistency {consistency}")
    return point, True


def _oldest(manifests: Mapping[str, Manifest]) -> datetime:
    """Return since when something may be lost: the instant of the oldest data; of a stack that has none, that of its
    configuration."""
    data = [manifest.taken_at for name, manifest in manifests.items() if KINDS[name].needed]
    return min(data or (manifest.taken_at for manifest in manifests.values()))


def _instants(manifests: Mapping[str, Manifest]) -> str:
    """Return why the data of a stack without a database is not all of one instant; empty where it is."""
    data = [name for name in manifests if KINDS[name].needed]
    words = [f"{' and '.join(data)} are backed up one after the other"] if len(data) > 1 else []
    if OBJECTS in manifests:
        primary = manifests[OBJECTS].detailed(ObjectsDetails).primary
        words += [named(primary.why) or "the bucket is as it was found"] if primary.consistency != SNAPSHOT else []
    if FILES in manifests:
        held = manifests[FILES].detailed(FilesDetails).sources
        live = [name for name, source in held.items() if source.consistency == "live"]
        words += [f"{', '.join(live)}: nothing stands still while it is read"] if live else []
        words += [f"{', '.join(held)} are read one after the other"] if len(held) > 1 else []
    return "; ".join(words)


def _chosen(
    config: Config, kind: Kind[D], entries: Sequence[Entry], database: Optional[Manifest]
) -> Optional[Manifest]:
    """The newest good backup; of a component that is tied to the rows, the newest one of their instant."""
    usable = catalog.sound(entries)
    if not kind.configured(config):
        return _received_lately(config, usable, database) if kind.silent and config.keeper.directory else None
    if kind.tied and database:
        usable = [manifest for manifest in usable if _of_one_instant(manifest, database)] or usable
    if not usable:
        return _newest(config, entries, kind.name) if kind.needed else None
    return usable[-1]


def _received_lately(config: Config, usable: Sequence[Manifest], database: Optional[Manifest]) -> Optional[Manifest]:
    """A keeper's configuration may not say all that its stack has: what came in these days is in its points, too."""
    if not usable:
        return None
    latest = database.taken_at if database else usable[-1].taken_at
    recent = latest - usable[-1].taken_at <= timedelta(hours=config.keeper.silent_hours)
    return usable[-1] if recent else None


def _newest(config: Config, entries: Sequence[Entry], component: str) -> Manifest:
    usable = catalog.sound(entries)
    if not usable:
        cause = f"there is no good backup of {component}"
        raise NotFoundError("seal a recovery point", config.stack, cause, f"Take one: lifeboat backup {component}.")
    return usable[-1]


def _why_apart(objects: Manifest, database: Manifest) -> str:
    """Why the objects are of another instant than the rows, and what ends it, where a command does."""
    details = objects.detailed(ObjectsDetails)
    primary = details.primary
    if primary.consistency == SNAPSHOT:
        return f"they are of that of {details.database_backup}, and not of {database.id}; to take both: lifeboat backup"
    why = named(primary.why) or "the backup does not say why"
    if primary.versioned or not primary.why:
        return why
    bucket = named(primary.name)
    where = f" --endpoint-url {named(details.endpoint)}" if details.endpoint else ""
    return (
        f"{why}; to switch its versioning on: mc version enable ALIAS/{bucket}, or aws s3api put-bucket-versioning"
        f"{where} --bucket {bucket} --versioning-configuration Status=Enabled"
    )


def why_apart(point: Point) -> str:
    """The note of the point on that; empty where all of it is of one instant."""
    starts = (f"{OBJECTS}: {_APART}", _SEVERAL)
    return next((note for note in point.notes if note.startswith(starts)), "") if point.consistency == EVENTUAL else ""


def _of_one_instant(objects: Manifest, database: Manifest) -> bool:
    details = objects.detailed(ObjectsDetails)
    return details.primary.consistency == SNAPSHOT and details.database_backup == database.id


def for_retention(entries: Sequence[PointEntry]) -> list[retention.Point]:
    """What the retention plan needs. One that is broken holds nothing."""
    plain = []
    for item in entries:
        holds = tuple(part.id for part in item.point.parts.values()) if item.point else ()
        why = item.problem if item.unknown else ""
        strange = bool(item.point and item.point.strange)
        verified, doubted = item.proven_at is not None, item.failures == 1
        plain.append(
            retention.Point(
                item.id, item.dated, item.good, verified, doubted=doubted, incomplete=item.incomplete, unknown=why,
                holds=holds, strange=strange, spoiled=tuple(sorted(item.spoiled)),
            )
        )  # fmt: skip
    return plain
