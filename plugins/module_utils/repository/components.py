# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The components of a stack that are backed up, and what a repository and a recovery point must know of each.

This is the only list of them. operations/components.py says how each is taken, levels.py there how each is verified;
judgements.py and escrow_opened.py, how some are judged and opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, Optional, TypeVar

from ..base.text import named, several
from ..settings.config import Config
from .details import (
    BaseDetails,
    ChangesDetails,
    ConfigDetails,
    Content,
    DatabaseDetails,
    DumpDetails,
    DumpsDetails,
    FilesDetails,
    ObjectsDetails,
    WalDetails,
)

DATABASE, OBJECTS, FILES, DUMPS, CONFIG = "database", "objects", "files", "dumps", "config"
BASE, WAL, CHANGES = "base", "wal", "changes"
NO_DATABASE = "the stack has no database"  # stands in recovery points, which are read by it: never another text
D = TypeVar("D")
Counts = Mapping[str, int]
Parts = Mapping[str, Counts]


@dataclass(frozen=True, eq=False)
class Kind(Generic[D]):
    """One component. folder, prefix: of its backups in a repository. details: what their manifests say beyond the
    artefacts. configured: whether a stack has it.

    silent: a recovery point of a stack that does not have it does not name it, so that an earlier Lifeboat can read it.
    needed: a recovery point of a stack that has it cannot do without. tied: its backup should be of the instant of the
    rows. absent: what a point says where the stack does not have it, other_host: where another host backs it up, else
    empty; notes: what it says of the backup. lacks: what should be in a backup and is not, or has to be looked at, so
    that it is not good.
    unchosen: how much there is that nobody chose to back up or to leave out. impossible: why its details cannot be true
    of artefacts of these names; empty where they can.
    counts: how much a backup holds, None where it does not tell; parts: the like of each of its parts, which must not
    shrink by half; part: the like of what was a part of an earlier one, None where this backup does not say; accepted:
    whether an operator said that a backup is right, however much less it holds; guarded: a backup that shrank is
    refused when it is taken, unless an operator insists.
    elsewhere: what it stands for lies in the vault's mirror: an error there says nothing of the backup, and the mirror
    keeps what a backup needs. bytes: how much it is; earlier: the earlier backups that hold some of it, and how much.
    alone: its parts that recover without one another, where it has several; part_of: to which of them an artefact of
    that name belongs, None where every one of them needs it.
    """

    name: str
    folder: str
    prefix: str
    details: type[D]
    configured: Callable[[Config], bool] = lambda config: True
    silent: bool = False
    needed: bool = False
    tied: bool = False
    absent: str = "no backup of it is wanted"
    other_host: Callable[[Config], str] = lambda config: ""
    notes: Callable[[D], list[str]] = lambda details: []
    lacks: Callable[[D], list[str]] = lambda details: []
    unchosen: Callable[[D], int] = lambda details: 0
    impossible: Callable[[D, Sequence[str]], str] = lambda details, artefacts: ""
    counts: Mapping[str, Callable[[D], Optional[int]]] = field(default_factory=dict)
    parts: Optional[Callable[[D], Parts]] = None
    part: Optional[Callable[[D, str], Optional[Counts]]] = None
    accepted: Callable[[D], bool] = lambda details: False
    guarded: bool = False
    elsewhere: bool = False
    bytes: Callable[[D], Optional[int]] = lambda details: None
    earlier: Callable[[D], Mapping[str, int]] = lambda details: {}
    alone: Callable[[D], Sequence[str]] = lambda details: ()
    part_of: Callable[[D, str], Optional[str]] = lambda details, artefact: None

    @property
    def word(self) -> str:
        """What the names of its checks have before `backup` and `proof`: of the database nothing."""
        return "" if self.name == DATABASE else f"{self.name} "

    def counted(self, details: D) -> dict[str, int]:
        found = {what: count(details) for what, count in self.counts.items()}
        return {what: count for what, count in found.items() if count is not None}

    def held_parts(self, details: D) -> Parts:
        """What each part holds; the one without a name is all that there is, or what the stack's name stands for."""
        return self.parts(details) if self.parts else {"": self.counted(details)}

    def held_part(self, details: D, name: str) -> Optional[Counts]:
        return self.part(details, name) if self.part else self.counted(details)


def _by_keeper(config: Config) -> str:
    return "its keeper mirrors it" if config.objects.bucket and config.mirrored_elsewhere else ""


def _unheld(details: ObjectsDetails) -> list[str]:
    count = sum(bucket.in_no_backup for bucket in details.buckets)
    return [f"{count} keys could not be held by the vault and are in no backup"] if count else []


def _buckets_not_in_it(details: ObjectsDetails) -> list[str]:
    return [f"the bucket {named(name)} is not in it: {why}" for name, why in details.missing.items()]


def _of_the_store(details: ObjectsDetails) -> list[str]:
    otherwise = [named(each.name) for each in details.additional if each.consistency != details.primary.consistency]
    return [
        *_buckets_not_in_it(details),
        *_unheld(details),
        *([f"as they are now, of no instant: {several('bucket', otherwise)}"] if otherwise else []),
        *(f"the bucket {named(each.name)}: {each.left_out}" for each in details.buckets if each.left_out),
        *(f"{gap.what}: {gap.why}" for gap in (*details.left, *details.not_carried)),
    ]


def _buckets(details: ObjectsDetails) -> Parts:
    """The application's is the one without a name: it may have been given another since."""
    return {"" if bucket.primary else bucket.name: {"objects": bucket.objects} for bucket in details.buckets}


def _bucket(details: ObjectsDetails, name: str) -> Optional[Counts]:
    """None of a bucket that is not in it: its manifest says why."""
    return _buckets(details).get("" if name == details.primary.name else name)


def _earlier_parts(details: ConfigDetails) -> Mapping[str, int]:
    held: dict[str, int] = {}
    for part in details.parts.values():
        held[part.backup] = held.get(part.backup, 0) + part.size
    return held


def _left_out(details: ConfigDetails) -> list[str]:
    left = details.left_out
    words = [f"{len(left)} secret files are not in it, as no recipient was configured"] if left else []
    return words + (details.state.notes if details.state else [])


def _earlier_packs(details: FilesDetails) -> Mapping[str, int]:
    held: dict[str, int] = {}
    for pack in details.packs:
        held[pack.backup] = held.get(pack.backup, 0) + pack.size
    return held


def _of_the_files(details: FilesDetails) -> list[str]:
    live = sorted(name for name, held in details.sources.items() if held.consistency == "live")
    return [
        *([f"not of one instant, as applications may have written meanwhile: {', '.join(live)}"] if live else []),
        *(
            f"{name}: {count} files {what}"
            for name, held in details.sources.items()
            for count, what in (
                (held.skipped_count, "could not be read"), (held.torn_count, "changed while they were read"),
                (held.damaged_count, "have other bytes than before, and nothing else says so"),
            )
            if count
        ),
    ]  # fmt: skip


def _rewritten(details: FilesDetails) -> list[str]:
    return [
        f"{name}: {held.rewritten} of the {held.compared} files that {details.reference} has were replaced by what no"
        " compression shortens, as by an attacker who encrypts them"
        for name, held in details.ruined.items()
    ]


def _sources(details: FilesDetails) -> Parts:
    return {name: {"files": held.files} for name, held in details.sources.items()}


def _source(details: FilesDetails, name: str) -> Optional[Counts]:
    return _sources(details).get(name)


def _of_the_dumps(details: DumpsDetails) -> list[str]:
    return [
        f"{name}: {held.unsettled} facts changed while it was dumped, so that no comparison proves them"
        for name, held in details.sources.items()
        if held.unsettled
    ]


def _dumped(details: DumpsDetails) -> Parts:
    return {name: {"facts": held.lines} for name, held in details.sources.items()}


def _dump(details: DumpsDetails, name: str) -> Optional[Counts]:
    return _dumped(details).get(name)


def _contents(details: DatabaseDetails) -> list[Content]:
    return [entry.content for entry in details.databases if entry.content]


def _databases(details: DatabaseDetails) -> Parts:
    """The primary one is the one without a name: it may have been given another since."""
    return {
        "" if entry is details.primary else entry.name: {"tables": entry.content.tables, "rows": entry.content.rows}
        for entry in details.databases
        if entry.content
    }


def _database(details: DatabaseDetails, name: str) -> Optional[Counts]:
    untold = not details.surveyed and name not in ("", details.primary.name)
    if untold or name in details.excluded or name in details.missing or not isinstance(details, DumpDetails):
        return None
    return _databases(details).get("" if name == details.primary.name else name, {})


def _not_in_it(details: DatabaseDetails) -> list[str]:
    return [f"the database {named(name)} is not in it: {why}" for name, why in details.missing.items()]


def _of_the_server(details: DatabaseDetails) -> list[str]:
    left, later = (", ".join(map(named, names)) for names in (details.excluded, details.created))
    lost = [(named(entry.name), len(entry.not_carried)) for entry in details.databases if entry.not_carried]
    otherwise = ", ".join(f"{count} {'things' if count > 1 else 'thing'} of {name}" for name, count in lost)
    return [
        *_not_in_it(details),
        *([f"left out by lifeboat_database.exclude: {left}"] if left else []),
        *([f"made while it was taken, the next one will hold it: {later}"] if later else []),
        *(["taken from a standby"] if details.standby else []),
        *([f"a restore brings back otherwise: {otherwise} (not_carried in --json says what)"] if otherwise else []),
    ]


_TABLES: Mapping[str, Callable[[DatabaseDetails], Optional[int]]] = {
    "databases": lambda details: len(details.databases),
    "tables": lambda details: sum(found.tables for found in _contents(details)) if _contents(details) else None,
    "rows": lambda details: sum(found.rows for found in _contents(details)) if _contents(details) else None,
}

_OBJECTS: Mapping[str, Callable[[ObjectsDetails], int]] = {
    "objects": lambda details: sum(bucket.objects for bucket in details.buckets),
}

AnyKind = Kind[Any]
# The order in which they are taken. The database is first: a recovery point is of the instant of its rows.
KINDS: dict[str, AnyKind] = {
    kind.name: kind
    for kind in (
        Kind(
            DATABASE, "postgresql", "db", DatabaseDetails, lambda config: config.database.enabled,
            needed=True, absent=NO_DATABASE, notes=_of_the_server, lacks=_not_in_it,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            counts=_TABLES, parts=_databases, part=_database, accepted=lambda details: details.accepted,
            alone=lambda details: details.alone, part_of=lambda details, artefact: details.part_of(artefact),
        ),
        Kind(
            OBJECTS, "objects", "objects", ObjectsDetails,
            lambda config: bool(config.objects.bucket) and not config.mirrored_elsewhere,
            needed=True, tied=True, absent="the stack has no bucket", other_host=_by_keeper, notes=_of_the_store,
            lacks=_buckets_not_in_it,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            counts=_OBJECTS, parts=_buckets, part=_bucket, guarded=True, elsewhere=True,
            bytes=lambda details: sum(bucket.bytes for bucket in details.buckets),
            unchosen=lambda details: len(details.unprotected or ()) + bool(details.unlisted),
        ),
        Kind(
            FILES, "files", "files", FilesDetails, lambda config: bool(config.files.sources), silent=True,
            needed=True, notes=_of_the_files, lacks=_rewritten,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            counts={"files": lambda details: sum(held.files for held in details.sources.values())},
            parts=_sources, part=_source, accepted=lambda details: details.accepted,
            bytes=lambda details: sum(held.bytes for held in details.sources.values()), earlier=_earlier_packs,
        ),
        Kind(
            DUMPS, "dumps", "dumps", DumpsDetails, lambda config: bool(config.dumps.sources), silent=True,
            needed=True, notes=_of_the_dumps,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            counts={"dumps": lambda details: len(details.sources)},
            parts=_dumped, part=_dump, accepted=lambda details: details.accepted,
            bytes=lambda details: sum(held.bytes for held in details.sources.values()),
        ),
        Kind(
            CONFIG, "config", "config", ConfigDetails, lambda config: config.config.enabled, notes=_left_out,
            earlier=_earlier_parts,
        ),
    )
}  # fmt: skip

# What continuous protection writes. No recovery point names them, and what is said of a stack's components is not said
# of them: a stack without them is as it was before there were any. See wal/spans.py.
CONTINUOUS: dict[str, AnyKind] = {
    kind.name: kind
    for kind in (
        Kind(
            BASE, "base", "base", BaseDetails, lambda config: config.wal.enabled, silent=True,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            bytes=lambda details: details.bytes,
        ),
        Kind(
            WAL, "wal", "wal", WalDetails, lambda config: config.wal.enabled, silent=True,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            bytes=lambda details: sum(details.lengths.values()),
        ),
        Kind(
            CHANGES, "changes", "changes", ChangesDetails,
            lambda config: bool(config.objects.changes_seconds) and not config.mirrored_elsewhere, silent=True,
            impossible=lambda details, artefacts: details.impossible(artefacts),
            bytes=lambda details: details.bytes,
        ),
    )
}  # fmt: skip
GROWING = (WAL, CHANGES)  # written over an hour: without a manifest they are open, and no leftovers of a killed run


def every() -> dict[str, AnyKind]:
    """All that may lie in a repository, those of continuous protection last."""
    return {**KINDS, **CONTINUOUS}


def component_kind(component: str) -> AnyKind:
    return KINDS[component] if component in KINDS else CONTINUOUS[component]


def taken() -> tuple[str, ...]:
    """What `lifeboat backup` takes, each by its name."""
    return (*KINDS, BASE)


def configured(config: Config) -> list[AnyKind]:
    """What the stack has to be backed up."""
    return [kind for kind in KINDS.values() if kind.configured(config)]


def watched(config: Config) -> list[AnyKind]:
    """What is to be backed up and proved by schedule: with continuous protection the bases, too."""
    return [*configured(config), *(kind for kind in [CONTINUOUS[BASE]] if kind.configured(config))]
