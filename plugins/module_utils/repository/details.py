# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a manifest says of its backup beyond its artefacts: one dataclass for each component.

A field with a default may be missing: a reader then sees what the field means when there is nothing to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Optional

from ..base import typed
from ..base.clock import parse_time
from ..base.errors import UsageError
from ..base.text import Untested, named, several
from ..base.typed import Range
from ..stack.state import StateInventory

Count = Annotated[int, Range(0)]
LOGICAL = "logical"  # the method of backups that are a dump of each database
COPY = "a copy of the server"  # a backup that does not tell what its databases hold
DATABASES = "databases"  # the folder in a backup of the server's other databases, a numbered one for each
EXCLUDED = "left out by lifeboat_objects.exclude"
A_VAULT = "another stack's vault"
VERSIONS = "versions.jsonl.gz"  # of a listing that is encrypted, what everybody who reads the vault can see
BUCKETS = "buckets"  # the like of the store's other buckets
# The application's, in each format; of the directory's every file below it.
_OWN_DUMP = re.compile(r"database\.dump(?:[./]|\Z)|(?!globals\.)[^/]+\.sql(?:\.gz)?(?:\.age)?\Z")
_FOLDER = re.compile(rf"{DATABASES}/[0-9]{{3,5}}")
_BUCKET_FOLDER = re.compile(rf"{BUCKETS}/[0-9]{{3,5}}")


@dataclass(frozen=True)
class Content:
    """The few figures of a fingerprint that a manifest and a list show."""

    level: str = ""
    tables: Count = 0
    rows: Count = 0
    large_objects: Count = 0
    objects: Count = 0


@dataclass(frozen=True)
class DatabaseEntry:
    """One database of the server in a backup of it.

    size: bytes that it takes in the server. folder: of its artefacts in the backup, empty where they lie in the
    backup's own. taken_at: the instant of its snapshot, ISO 8601; empty where that is the manifest's. not_carried:
    what it has and the backup does not carry, a sentence each.
    """

    name: str
    size: Count
    folder: str = ""
    taken_at: str = ""
    not_carried: tuple[str, ...] = ()

    @property
    def content(self) -> Optional[Content]:
        """What it holds; None where the backup does not tell."""
        return None


# As pg_current_snapshot() prints it.
SNAPSHOT = re.compile(r"([1-9][0-9]{0,19}):([1-9][0-9]{0,19}):((?:[1-9][0-9]{0,19}(?:,[1-9][0-9]{0,19})*)?)", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """Where a server that replays the WAL has what the dump's snapshot saw, no more and no less: before the record at
    lsn. until: until where the WAL was read to find that. why: why there is no such position; the rest is empty then.
    """

    system: str = ""
    timeline: Count = 0
    lsn: str = ""
    until: str = ""
    snapshot: str = ""
    why: str = ""

    @property
    def impossible(self) -> str:
        """Why no cut can be like this; empty where one can."""
        if self.why:
            return "it is there, and it says why it is not" if self != Cut(why=self.why) else ""
        if not _SYSTEM.fullmatch(self.system):
            return f"{typed.shown(self.system)} is not a system identifier"
        if not 0 < self.timeline < 1 << 32:
            return f"{typed.shown(self.timeline)} is not a timeline"
        if not SNAPSHOT.fullmatch(self.snapshot):
            return f"{typed.shown(self.snapshot)} is not a snapshot"
        return next((f"{typed.shown(at)} is not an LSN" for at in (self.lsn, self.until) if not _LSN.fullmatch(at)), "")


@dataclass(frozen=True)
class DatabaseDump(DatabaseEntry):
    """relations: tables, indexes, sequences and the like: as many locks. 0: the backup does not say. cut: of its
    snapshot; None where nobody looked for it, as without continuous protection."""

    relations: Count = 0
    fingerprint: Content = Content()
    cut: Optional[Cut] = None

    @property
    def content(self) -> Content:
        return self.fingerprint


@dataclass(frozen=True)
class DatabaseHeader:
    """What every backup of a server says beside its databases, whatever its method. superuser, preload: what a server
    to restore into needs.

    accepted: an operator said that what it holds is right, however much the backups before it hold. excluded: databases
    that the configuration leaves out. missing: those that should be in it and are not, and why; a backup with such is
    not good. created: those that came while the backup ran, so that they are not in it: at its instant they did not
    exist. recipients: for whom every artefact is encrypted; host_key: the recipient of the host's own key, which is one
    more.
    """

    format: str
    server_version_num: Count  # as PostgreSQL counts it: 170012 is 17.12
    superuser: str
    preload: str
    role_passwords: bool
    compression: str = ""
    host: str = ""
    image: str = ""
    seconds: float = 0.0
    method: str = LOGICAL  # backups that do not say were made before there were others
    accepted: bool = False
    excluded: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    standby: bool = False
    recipients: tuple[str, ...] = ()
    host_key: str = ""


@dataclass(frozen=True)
class _Primary:
    """How a manifest names two of the primary database's fields."""

    database: str
    database_size: Count


@dataclass(frozen=True)
class DatabaseDetails(DatabaseHeader):
    """databases: every one that is in the backup, the application's first, then in the order of their names. surveyed:
    False where the backup is of the time when a backup held the application's database alone.

    A manifest says of the primary one in the header what it says of each of the others in a list of its own. The method
    is the tag by which from_dict() tells the details of a DumpDetails from others.
    """

    databases: tuple[DatabaseEntry, ...] = ()
    surveyed: bool = True
    entry: ClassVar[type[DatabaseEntry]] = DatabaseEntry

    @classmethod
    def from_dict(cls, data: Mapping[str, object], build: typed.Build) -> DatabaseDetails:
        """The details as a manifest has them."""
        header, own, others = build(DatabaseHeader, data), build(_Primary, data), data.get("others")
        kind: type[DatabaseDetails] = DumpDetails if header.method == LOGICAL else DatabaseDetails
        flat = {**data, "name": own.database, "size": own.database_size, "folder": "", "taken_at": ""}
        rest = enumerate(build(tuple[object, ...], () if others is None else others, "others"))
        additional = (build(kind.entry, each, f"others[{number}]") for number, each in rest)
        databases = (build(kind.entry, flat), *additional)
        return kind(**vars(header), databases=databases, surveyed=others is not None)

    def as_dict(self) -> dict[str, object]:
        primary, rest = vars(self.primary), ("name", "size", "folder", "taken_at")
        header = {name: value for name, value in vars(self).items() if name not in ("databases", "surveyed")}
        flat = {name: value for name, value in primary.items() if name not in (*rest, *_unset(primary))}
        own = {"database": primary["name"], "database_size": primary["size"]}
        return {**own, **flat, **header, "others": self.additional if self.surveyed else None}

    @property
    def primary(self) -> DatabaseEntry:
        """The application's."""
        return self.databases[0]

    @property
    def cut(self) -> Optional[Cut]:
        """Of the application's database; None where nobody looked for it."""
        return None

    @property
    def additional(self) -> tuple[DatabaseEntry, ...]:
        return self.databases[1:]

    @property
    def alone(self) -> tuple[str, ...]:
        """The databases, the primary one first, where there are several and each recovers without the others."""
        return ()

    def part_of(self, artefact: str) -> Optional[str]:
        """Of which database it is; None where every one needs it."""
        return None

    def spread(self, taken_at: datetime) -> float:
        """Seconds between the first snapshot and the last. taken_at: the manifest's."""
        at = [parse_time(entry.taken_at) if entry.taken_at else taken_at for entry in self.databases]
        return (max(at) - min(at)).total_seconds()

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no backup of ours can say this of itself, by the names of its artefacts; empty where one can."""
        names = [*(entry.name for entry in self.databases), *self.excluded, *self.missing, *self.created]
        strange = [name for name in names if not _stored(name)]
        return f"{typed.shown(strange[0])} cannot be the name of a database" if strange else _repeated(names)


def _unset(entry: Mapping[str, object]) -> tuple[str, ...]:
    """What is left out: a manifest without a cut is as it was before there were any."""
    return ("cut",) if entry.get("cut") is None else ()


@dataclass(frozen=True)
class DumpDetails(DatabaseDetails):
    """A dump of each database. What belongs to none of them is the server's: its roles, what surrounds the databases.
    So is the primary one's fingerprint, which has the roles and the server's properties."""

    databases: tuple[DatabaseDump, ...] = ()
    entry: ClassVar[type[DatabaseEntry]] = DatabaseDump

    @property
    def cut(self) -> Optional[Cut]:
        return self.databases[0].cut

    @property
    def alone(self) -> tuple[str, ...]:
        return tuple(dump.name for dump in self.databases) if self.additional else ()

    def part_of(self, artefact: str) -> Optional[str]:
        for dump in self.additional:
            if artefact.startswith(f"{dump.folder}/"):
                return dump.name
        return self.primary.name if _OWN_DUMP.match(artefact) else None

    def impossible(self, artefacts: Iterable[str]) -> str:
        for cut in (dump.cut for dump in self.databases if dump.cut):
            if cut.impossible:
                return f"its cut: {cut.impossible}"
        folders = [dump.folder for dump in self.additional]
        for dump in self.additional:
            if not _FOLDER.fullmatch(dump.folder):
                return f"{typed.shown(dump.folder)} cannot be the folder of a database"
            try:
                parse_time(dump.taken_at)
            except UsageError as exc:
                return f"taken_at of the database {named(dump.name)}: {exc.cause}"
        inside = {"/".join(name.split("/")[:2]) for name in artefacts if name.split("/")[0] == DATABASES}
        differ = sorted(inside ^ set(folders))
        words = f"its artefacts and its databases do not have the same folders: {', '.join(differ)}" if differ else ""
        return super().impossible(artefacts) or _repeated(folders) or words


def _repeated(names: Iterable[str]) -> str:
    return next((f"it names {typed.shown(name)} {n} times" for name, n in Counter(names).items() if n > 1), "")


def _stored(name: str) -> bool:
    """Can a server have a database of that name? A byte that is not UTF-8 is half a character, see database/server."""
    try:
        return bool(name) and "\0" not in name and bool(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Unheld:
    """An object that the vault could not hold, or that could not be had back, and why."""

    key: str
    why: str


IDENTITIES = "identities"  # the check of them, in status and in a recovery
WHAT_THEY_ARE = "users, groups, policies and access keys"
UNKEPT = f"the {WHAT_THEY_ARE} of the object store are in no backup; set lifeboat_objects.admin"
USES = "server's configuration, in no backup"


@dataclass(frozen=True)
class HeldIdentities:
    """The identities of the object store as they were with a backup: how many, never what they are.

    digest: SHA-256 of all but their secret keys. problem: why they could not be had, so that they are in no backup.
    access_keys: those of service accounts too. uses: what of the server's configuration buckets depend on, and no
    backup holds.
    """

    api: str
    digest: str = ""
    users: Count = 0
    groups: Count = 0
    policies: Count = 0
    access_keys: Count = 0
    quotas: Count = 0
    uses: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class HeldProperties:
    """What the single objects of a bucket have beside bytes, headers and tags: how many have it, by what it is.

    encrypted: by kind. clear: those of them whose copies in the vault are not. storage: by class, but the usual one.
    checksums: those that the server keeps with the object, by kind. retained, legal_holds: retention and legal hold,
    which are in the listing and are given back. lost: what the vault's copies have not, by header, and `user metadata`.
    """

    encrypted: Mapping[str, Count] = field(default_factory=dict)
    clear: Count = 0
    storage: Mapping[str, Count] = field(default_factory=dict)
    checksums: Mapping[str, Count] = field(default_factory=dict)
    retained: Count = 0
    legal_holds: Count = field(default=0, metadata={"json": "held"})
    lost: Mapping[str, Count] = field(default_factory=dict)

    def not_carried(self, bucket: str) -> Iterator[Untested]:
        """What of it no recovery can promise, and why."""
        if self.encrypted:
            plain = (
                f"the vault holds the plain bytes of {self.clear}, for it does not encrypt them; " if self.clear else ""
            )
            why = f"{plain}a recovery writes them as the bucket's default encryption says"
            yield Untested(f"the encryption of {_kinds(self.encrypted)} of {named(bucket)}", why)
        if self.storage:
            yield Untested(
                f"the storage class of {_kinds(self.storage)} of {named(bucket)}", "they come back as usual ones"
            )
        if asked := {kind: count for kind, count in self.checksums.items() if kind not in _UNASKED}:
            why = "the server computes its own again; the bytes are compared by SHA-256"
            yield Untested(f"the checksums of {_kinds(asked)} of {named(bucket)}", why)
        if self.lost:
            why = "the vault does not keep them; a recovery gives them from the backup's listing alone"
            yield Untested(f"headers in the vault's copies of {_kinds(self.lost)} of {named(bucket)}", why)


# Sums for the way there, which clients send with every write, unasked:
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html
_UNASKED = ("CRC32", "CRC32C", "CRC64NVME")


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} objects ({named(kind)})" for kind, count in sorted(counts.items()))


UNRECORDED = "the backup is older than the record of them; take a new one: lifeboat backup objects"


@dataclass(frozen=True)
class HeldTags:
    """What is known of the tags of a bucket's objects. They are in the listing, and a recovery gives those.

    as_of: the oldest time at which one object's were read, ISO 8601; what was changed in place later may not be in the
    backup. Empty: of `unknown` objects nobody read them yet, and a recovery gives what the vault has. read: of so many
    they were read by this backup's sweep, `changed` of these had other ones than before. unread: could not be read.
    refused: the first few whose tags the vault does not keep, and why, of `refused_count`.
    """

    as_of: str = ""
    unknown: Count = 0
    read: Count = 0
    changed: Count = 0
    unread: tuple[Unheld, ...] = ()
    unread_count: Count = 0
    refused: tuple[Unheld, ...] = ()
    refused_count: Count = 0


@dataclass(frozen=True)
class HeldBucket:
    """One bucket of the store in an objects backup.

    folder: of its listing in the backup; the application's lies in the backup's own. vault: the bucket in the vault
    that holds its objects. consistency: `snapshot` (of the instant of `database_backup`) or `eventual`, for the reason
    `why`. unheld: the first few objects that the vault could not hold, of `unheld_count`. settings_denied: settings
    that the key may not read, so that nobody knows whether they are set. properties, tags: None where the backup is of
    the time when nobody looked. gap: `from/until`, two times as ISO 8601: no backup after one and until the other holds
    it; empty where there is no such time. versions_listed: when the last mirror ran that listed every version of the
    vault's bucket; None where nobody noted it, or that listing could not be believed.
    """

    name: str
    folder: str
    objects: Count
    bytes: Count
    consistency: str
    vault: str = ""
    why: str = ""
    versioned: bool = False
    digest: str = ""
    copied: Count = 0
    copied_bytes: Count = 0
    removed: Count = 0
    unheld: tuple[Unheld, ...] = ()
    unheld_count: Count = 0
    ambiguous: Count = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    settings_denied: tuple[str, ...] = ()
    properties: Optional[HeldProperties] = None
    tags: Optional[HeldTags] = None
    gap: str = ""
    versions_listed: Optional[datetime] = None

    @property
    def primary(self) -> bool:
        """Is it the application's?"""
        return not self.folder

    @property
    def in_no_backup(self) -> int:
        return self.unheld_count or len(self.unheld)

    @property
    def left_out(self) -> str:
        """The gap in words; empty where there is none."""
        since, mark, until = self.gap.partition("/")
        return f"no backup after {since} and until {until} holds it" if mark else ""

    @property
    def not_carried(self) -> tuple[Untested, ...]:
        """What its objects have and their copies have not, and why it is not given back."""
        if self.properties is not None:
            return tuple(self.properties.not_carried(self.name))
        what = f"retention, legal hold, encryption and storage class of the objects of {named(self.name)}"
        return (Untested(what, UNRECORDED),) if self.objects else ()


@dataclass(frozen=True)
class Store:
    """The buckets of an object store, as far as its key sees them. protected: those that backups hold. unprotected:
    others that nobody left out. excluded: those that the configuration leaves out. unlisted: why it is not known which
    buckets there are; empty where the store told. vaults: those in which another stack keeps its copies.
    """

    protected: tuple[str, ...]
    unprotected: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    unlisted: str = ""
    vaults: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[Untested, ...]:
        """What of the store is in no backup, and why."""
        alone = f"in no backup, as lifeboat_objects.bucket names {', '.join(map(named, self.protected))} alone"
        if len(self.protected) > 1:
            alone = "in no backup, as lifeboat_objects.buckets does not name them"
        return (
            *([Untested(several("bucket", self.unprotected), alone)] if self.unprotected else []),
            *([Untested(several("bucket", self.excluded), EXCLUDED)] if self.excluded else []),
            *([Untested("which other buckets the store has", f"not known: {self.unlisted}")] if self.unlisted else []),
        )


@dataclass(frozen=True)
class ObjectsHeader:
    """What a backup of objects says beside its buckets.

    identities: None where nobody said how they are kept. missing: buckets that should be in it and are not, and why; a
    backup with such is not good. excluded_keys: objects that the configuration leaves out, as `bucket/key` or
    `bucket/prefix*`.
    unprotected: buckets of the store that no backup holds, as nobody chose them. None: the backup is of the time when
    nobody looked. excluded: those that the configuration leaves out. unlisted: why it is not known which buckets there
    are; empty where the store told. vaults: buckets of the store in which another stack keeps its copies; they are in
    no backup. recipients: for whom its listings are encrypted; host_key: the recipient of the host's own key, which is
    one more.
    """

    endpoint: str = ""
    host: str = ""
    database_backup: str = ""
    clock_skew: Optional[float] = None
    engine: str = ""
    weaknesses: tuple[str, ...] = ()
    vault: Mapping[str, str] = field(default_factory=dict)
    identities: Optional[HeldIdentities] = None
    seconds: float = 0.0
    unprotected: Optional[tuple[str, ...]] = None
    excluded: tuple[str, ...] = ()
    unlisted: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    excluded_keys: tuple[str, ...] = ()
    vaults: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    host_key: str = ""


@dataclass(frozen=True)
class ObjectsDetails(ObjectsHeader):
    """buckets: every one that is in the backup, the application's first, then in the order of their names.

    A manifest says of the application's in the header what it says of each of the others in a list of its own.
    """

    buckets: tuple[HeldBucket, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, object], build: typed.Build) -> ObjectsDetails:
        """The details as a manifest has them."""
        header, name = build(ObjectsHeader, data), build(str, data.get("bucket", ""), "bucket")
        place = {"name": name, "folder": "", "vault": header.vault.get("bucket", ""), "gap": ""}
        primary = build(HeldBucket, {"consistency": "", **data, **place})
        additional = build(tuple[HeldBucket, ...], data.get("others", ()), "others")
        return cls(**vars(header), buckets=(primary, *additional))

    def as_dict(self) -> dict[str, object]:
        header = {name: value for name, value in vars(self).items() if name != "buckets"}
        flat = {name: value for name, value in vars(self.primary).items() if name not in ("name", "folder", "gap")}
        return {**flat, **header, "bucket": self.primary.name, "others": self.additional}

    @property
    def primary(self) -> HeldBucket:
        """The application's."""
        return self.buckets[0]

    @property
    def additional(self) -> tuple[HeldBucket, ...]:
        return self.buckets[1:]

    @property
    def left(self) -> tuple[Untested, ...]:
        """What of the store is in no backup, and why."""
        protected = tuple(bucket.name for bucket in self.buckets)
        keys = [Untested(f"the objects {named(text)}", EXCLUDED) for text in self.excluded_keys]
        return (*Store(protected, self.unprotected or (), self.excluded, self.unlisted).left, *keys)

    @property
    def not_carried(self) -> tuple[Untested, ...]:
        """What single objects have and their copies have not, and why it is not given back."""
        return tuple(gap for bucket in self.buckets for gap in bucket.not_carried)

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no backup of ours can say this of itself, by the names of its artefacts; empty where one can."""
        names = [*(bucket.name for bucket in self.buckets), *self.missing, *(self.unprotected or ())]
        folders = [bucket.folder for bucket in self.additional]
        for bucket in self.additional:
            if not bucket.name:
                return "one of its buckets has no name"
            if not _BUCKET_FOLDER.fullmatch(bucket.folder):
                return f"{typed.shown(bucket.folder)} cannot be the folder of a bucket"
        for text, times in Counter([*names, *self.excluded, *self.vaults]).items():
            if times > 1:
                return f"it names the bucket {typed.shown(text)} {times} times"
        if repeated := next((folder for folder, times in Counter(folders).items() if times > 1), ""):
            return f"it names {repeated} twice"
        inside = {"/".join(name.split("/")[:2]) for name in artefacts if name.split("/")[0] == BUCKETS}
        differ = sorted(inside ^ set(folders))
        return f"its artefacts and its buckets do not have the same folders: {', '.join(differ)}" if differ else ""


@dataclass(frozen=True)
class Part:
    """backup: the config backup that holds the artefact. size, sha256: the artefact's own. recipients, host_key: for
    whom it is encrypted."""

    backup: str
    artefact: str
    key: str
    size: Count
    sha256: str
    recipients: tuple[str, ...] = ()
    host_key: str = ""


@dataclass(frozen=True)
class ImageInUse:
    """By which name a service's image was started, and what that was."""

    reference: str
    id: str
    digest: str


@dataclass(frozen=True)
class ConfigDetails:
    """left_out: secret files that are not in it, as no recipient was configured. torn: files that changed meanwhile.
    recipients: for whom all of it is encrypted; of older ones the secret files alone. host_key: the recipient of the
    host's own key, which opens all but the secret files. state: what the stack mounts, and what protects it; None of
    older ones, and of a stack that is no Compose project.
    """

    files: Count
    bytes: Count
    secrets: Count
    host: str = ""
    recipients: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    torn: tuple[str, ...] = ()
    compose_files: tuple[str, ...] = ()
    images: Mapping[str, ImageInUse] = field(default_factory=dict)
    site: Mapping[str, object] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    host_key: str = ""
    state: Optional[StateInventory] = None


FEW_FILES = 20  # of which any number may go, or be rewritten, from one day to the next
_REWRITTEN = 4  # of so many files one is enough


@dataclass(frozen=True)
class HeldDump:
    """One database server in a dumps backup. artefact, facts: of the backup, the dump and what must be equal once it is
    restored. version: as the server says. image: what it ran in. bytes, sha256: of the dump before it was compressed.

    lines: how many facts there are; unsettled: how many of them were others before the dump than after it, so that the
    dump has one or the other. append_only: the server keeps an append-only file. consistency, services,
    paused_seconds: as of HeldFiles.
    """

    artefact: str
    facts: str = ""
    service: str = ""
    preset: str = ""
    version: str = ""
    image: str = ""
    bytes: Count = 0
    sha256: str = ""
    lines: Count = 0
    unsettled: Count = 0
    append_only: bool = False
    consistency: str = "live"
    services: tuple[str, ...] = ()
    paused_seconds: float = 0.0


@dataclass(frozen=True)
class DumpsDetails:
    """What a dumps backup says beside its artefacts. sources: by their names in lifeboat_dumps. recipients, host_key:
    for whom it is encrypted."""

    host: str = ""
    sources: Mapping[str, HeldDump] = field(default_factory=dict)
    accepted: bool = False
    seconds: float = 0.0
    recipients: tuple[str, ...] = ()
    host_key: str = ""

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no backup of ours can say this of itself, by the names of its artefacts; empty where one can."""
        wanted = [name for held in self.sources.values() for name in (held.artefact, held.facts)]
        missing = sorted({*wanted} - {*artefacts})
        return _repeated(wanted) or (f"no artefact is called {named(missing[0])}" if missing else "")


@dataclass(frozen=True)
class Pack:
    """Contents of files, as a compressed tar. number: as the listing refers to it. backup: the files backup that holds
    the artefact. size, sha256: the artefact's own. files, bytes: how much of it this backup refers to, of what there
    is in it (all_bytes). recipients, host_key: for whom it is encrypted."""

    number: Count
    backup: str
    artefact: str
    size: Count
    sha256: str
    files: Count
    bytes: Count
    all_bytes: Count
    recipients: tuple[str, ...] = ()
    host_key: str = ""


@dataclass(frozen=True)
class HeldFiles:
    """One directory in a files backup. path: where it is on the host. volume: as the engine calls it, where it is one.

    files, bytes: plain files and what they hold. entries: with directories, links and the like. changed: the files that
    were read, as they were new or other than before. services: what was paused meanwhile. mounted: it was a mount
    point of its own. skipped, torn: the first few that could not be read, and that changed whenever they were read, of
    skipped_count and torn_count. damaged: files whose content is another although nothing else says so. disk: of its
    file system what is the same after each mount; empty where it has nothing of the kind. compared: the files that the
    backup of FilesDetails.reference has; rewritten: how many of these are gone, with noise in their place.
    """

    path: str
    volume: str = ""
    files: Count = 0
    bytes: Count = 0
    entries: Count = 0
    changed: Count = 0
    changed_bytes: Count = 0
    databases: Count = 0
    consistency: str = "live"
    services: tuple[str, ...] = ()
    paused_seconds: float = 0.0
    mounted: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)
    skipped_count: Count = 0
    torn: tuple[str, ...] = ()
    torn_count: Count = 0
    damaged: tuple[str, ...] = ()
    damaged_count: Count = 0
    disk: str = ""
    compared: Count = 0
    rewritten: Count = 0

    @property
    def ruined(self) -> bool:
        """Were so many files rewritten as only an attacker, or a program that nobody expected, does it?"""
        return self.compared > FEW_FILES and self.rewritten * _REWRITTEN >= self.compared


@dataclass(frozen=True)
class FilesDetails:
    """What a files backup says beside its artefacts. sources: by their names in lifeboat_files. packs: those that it
    needs, its own and those that earlier backups hold. previous: the backup of which nothing unchanged is stored again.
    reference: the last one that is good, with which it was compared. accepted: an operator said that it is right.
    recipients, host_key: for whom its listing and its own packs are encrypted."""

    host: str = ""
    sources: Mapping[str, HeldFiles] = field(default_factory=dict)
    packs: tuple[Pack, ...] = ()
    previous: str = ""
    reference: str = ""
    accepted: bool = False
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    recipients: tuple[str, ...] = ()
    host_key: str = ""

    @property
    def ruined(self) -> dict[str, HeldFiles]:
        """The sources that should be looked at before anybody recovers from this."""
        return {} if self.accepted else {name: held for name, held in self.sources.items() if held.ruined}

    @property
    def problems(self) -> list[str]:
        """What is not in the backup as it should be, a sentence for each source and reason."""
        problems = []
        for name, source in self.sources.items():
            for count, what, first in (
                (source.skipped_count, "could not be read", [f"{path}: {why}" for path, why in source.skipped.items()]),
                (source.torn_count, "changed while they were read", list(source.torn)),
                (source.damaged_count, "have other bytes than before, and nothing else says so", list(source.damaged)),
            ):
                if count:
                    problems.append(f"{name}: {count} {what}: {', '.join(first[:3])}{', …' if count > 3 else ''}")
        return problems

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no backup of ours can say this of itself, by the names of its artefacts; empty where one can."""
        numbers = [str(pack.number) for pack in self.packs]
        return _repeated(numbers) or _repeated([f"{pack.backup}/{pack.artefact}" for pack in self.packs])


SPAN_PIECES = 512  # a span of so many pieces is closed
MOST_SPAN_PIECES = 4096  # more are not read of one
_SYSTEM = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_LSN = re.compile(r"(0|[1-9A-F][0-9A-F]{0,7})/(0|[1-9A-F][0-9A-F]{0,7})", re.ASCII)
_OF_WAL = re.compile(r"(?!0{8})[0-9A-F]{8}(?:[0-9A-F]{16}\.[0-9a-f]{8}\.zst|\.history)(?:\.age)?", re.ASCII)
_OF_BASE = re.compile(r"(?:(?:base|[1-9][0-9]{0,9})\.tar|relations\.jsonl)\.zst(?:\.age)?", re.ASCII)
CHANGES_FILE = re.compile(r"[0-9]{6}\.(?:jsonl\.gz(?:\.age)?|versions\.jsonl\.gz)", re.ASCII)
Timeline = Annotated[int, Range(1, (1 << 32) - 1)]
SegmentSize = Annotated[int, Range(1 << 20, 1 << 30)]
Major = Annotated[int, Range(100_000, 999_999)]  # server_version_num


@dataclass(frozen=True)
class Gap:
    """Where the WAL that was sent has a hole. start, end: the last position before it and the first one behind it, as
    LSNs; end is empty where that server's WAL never goes on. at: when it was noticed. A new base closes it, and nothing
    repairs it."""

    system: str
    timeline: Timeline
    start: str = field(metadata={"json": "from"})
    end: str = field(metadata={"json": "to"})
    why: str = ""
    at: Optional[datetime] = None

    @property
    def impossible(self) -> str:
        """Why no gap can be like this; empty where one can."""
        if not _SYSTEM.fullmatch(self.system):
            return f"{typed.shown(self.system)} is not a system identifier"
        positions = (self.start, self.end or "0/0")
        return next((f"{typed.shown(at)} is not an LSN" for at in positions if not _LSN.fullmatch(at)), "")


@dataclass(frozen=True)
class WalDetails:
    """What the manifest of a span, an hour of WAL, says beside its artefacts, which are its pieces and history files.

    system_identifier, timeline, segment_size: of the server's WAL; another server or timeline is another span. start:
    the LSN of its first byte. end: that of the first byte behind its last piece, where the next span goes on. reached:
    every commit that was acknowledged before last_at is before this LSN. lengths: by piece, how many bytes of WAL it
    has. notes, last_note: how many were written while it was open, and the SHA-256 of the last. closed_by: who wrote
    the manifest, where it was not the host. recipients, host_key: for whom it is encrypted.
    """

    system_identifier: str
    server_version_num: Major
    segment_size: SegmentSize
    timeline: Timeline
    start: str
    end: str
    reached: str
    first_at: datetime
    last_at: datetime
    lengths: Mapping[str, Annotated[int, Range(1, 1 << 30)]] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    notes: Count = 0
    last_note: str = ""
    closed_by: str = "host"
    host: str = ""
    recipients: tuple[str, ...] = ()
    host_key: str = ""

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no span of ours can say this of itself, by the names of its artefacts; empty where one can.

        wal/spans.py looks closer, at who reads what is in it.
        """
        names = list(artefacts)
        if len(names) > MOST_SPAN_PIECES:
            return f"it has more than {MOST_SPAN_PIECES} artefacts"
        if not _SYSTEM.fullmatch(self.system_identifier):
            return f"{typed.shown(self.system_identifier)} is not a system identifier"
        for at in (self.start, self.end, self.reached):
            if not _LSN.fullmatch(at):
                return f"{typed.shown(at)} is not an LSN"
        strange = [name for name in names if not _OF_WAL.fullmatch(name)]
        if strange:
            return f"{typed.shown(strange[0])} is neither a piece nor a history file"
        differ = sorted({name for name in names if ".history" not in name} ^ {*self.lengths})
        if differ:
            return f"its artefacts and its lengths do not name the same pieces: {', '.join(map(named, differ[:3]))}"
        return next((gap.impossible for gap in self.gaps if gap.impossible), "") or _repeated(names)


@dataclass(frozen=True)
class ChangesDetails:
    """What the manifest of a span of changes, an hour in which the objects of a store were followed, says.

    from_at, last_at: the changes of every bucket between these are in it. since: of the buckets for which it begins at
    another time, by their names. behind: of those that could not be followed to its end, until when they were; empty
    where not at all. endpoint, vault: of the store, and where the versions were copied to. clock_skew: seconds by which
    the store's clock is ahead. changes: lines in its files; copied, bytes: versions that were copied. listing_seconds:
    the longest time that a look at all buckets took; apart_seconds: the longest time between two. lengths: by file,
    bytes before compression. notes, last_note, closed_by, recipients, host_key: as of WalDetails.
    """

    from_at: datetime
    last_at: datetime
    since: Mapping[str, datetime] = field(default_factory=dict)
    behind: Mapping[str, Optional[datetime]] = field(default_factory=dict)
    endpoint: str = ""
    vault: Mapping[str, str] = field(default_factory=dict)
    clock_skew: float = 0.0
    changes: Count = 0
    copied: Count = 0
    bytes: Count = 0
    listing_seconds: float = 0.0
    apart_seconds: float = 0.0
    lengths: Mapping[str, Annotated[int, Range(1, 1 << 30)]] = field(default_factory=dict)
    notes: Count = 0
    last_note: str = ""
    closed_by: str = "host"
    host: str = ""
    recipients: tuple[str, ...] = ()
    host_key: str = ""

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no span of ours can say this of itself, by the names of its artefacts; empty where it can."""
        names = list(artefacts)
        if len(names) > MOST_SPAN_PIECES:
            return f"it has more than {MOST_SPAN_PIECES} artefacts"
        if strange := [name for name in names if not CHANGES_FILE.fullmatch(name)]:
            return f"{typed.shown(strange[0])} is not a file of changes"
        if differ := sorted({*names} ^ {*self.lengths}):
            return f"its artefacts and its lengths do not name the same files: {', '.join(map(named, differ[:3]))}"
        if self.last_at < self.from_at:
            return "it ends before it begins"
        return _repeated(names)


@dataclass(frozen=True)
class Tablespace:
    """A tablespace of a base: its archive is called after its OID. bytes: unpacked."""

    oid: Annotated[int, Range(1, (1 << 32) - 1)]
    name: str
    path: str = ""
    bytes: Count = 0


@dataclass(frozen=True)
class BaseDetails:
    """What the manifest of a base, a copy of a server's files, says beside its artefacts.

    image, architecture, collversion: what the server ran in; another major, architecture or collation cannot use it.
    timeline, start, stop: the WAL that it needs to be whole. wal: whether that is inside, or in the spans alone.
    superuser: the account that made the cluster. preload: shared_preload_libraries. settings: the max_* settings, of
    which a standby must not have less. bytes: unpacked. incremental_of: reserved.
    """

    system_identifier: str
    server_version_num: Major
    timeline: Timeline
    start: str
    stop: str
    wal: str = "inside"
    image: str = ""
    architecture: str = ""
    collversion: Mapping[str, str] = field(default_factory=dict)
    data_checksums: bool = False
    segment_size: SegmentSize = 16 << 20
    tablespaces: tuple[Tablespace, ...] = ()
    superuser: str = ""
    preload: tuple[str, ...] = ()
    settings: Mapping[str, Count] = field(default_factory=dict)
    bytes: Count = 0
    seconds: float = 0.0
    incremental_of: str = ""
    host: str = ""
    recipients: tuple[str, ...] = ()
    host_key: str = ""

    def impossible(self, artefacts: Iterable[str]) -> str:
        """Why no base of ours can say this of itself, by the names of its artefacts; empty where one can."""
        names = list(artefacts)
        if not _SYSTEM.fullmatch(self.system_identifier):
            return f"{typed.shown(self.system_identifier)} is not a system identifier"
        if self.wal not in ("inside", "spans"):
            return f"wal: {typed.shown(self.wal)} is neither inside nor spans"
        for at in (self.start, self.stop):
            if not _LSN.fullmatch(at):
                return f"{typed.shown(at)} is not an LSN"
        strange = [name for name in names if not _OF_BASE.fullmatch(name)]
        if strange:
            return f"{typed.shown(strange[0])} is not a file that a base has"
        tars = {name.split(".")[0] for name in names if ".tar." in name}
        expected = {"base", *(str(space.oid) for space in self.tablespaces)}
        if tars != expected:
            return f"its archives are {', '.join(sorted(tars))}, and its tablespaces are {', '.join(sorted(expected))}"
        return _repeated([*names, *(str(space.oid) for space in self.tablespaces)])
