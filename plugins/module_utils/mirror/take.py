# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirror the stack's bucket to the vault, as it was at the instant of the newest database backup.

The vault's bucket is versioned, and nothing in it is ever deleted here but by a delete marker. Only what differs is
copied; the listing that is published says of every object which version of the vault's holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ..base import lock, throttle, typed
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, UsageError, present
from ..base.filesystem import STALE, explained
from ..base.text import human, named
from ..base.version import VERSION
from ..recovery import state as recovery_state
from ..repository import base as repository_base
from ..repository import catalog, checksums, repositories
from ..repository.details import BUCKETS, HeldBucket, HeldProperties, HeldTags, ObjectsDetails, Store
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL
from ..s3 import properties
from ..s3.bucket import TRUST, Bucket, Doubts
from ..s3.copier import Shared
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import age
from . import guard, identities, listing, mc, store
from .guard import Instant
from .listing import Point
from .sides import SourceListing, VaultListing
from .state import Numbers, State, remove_journal
from .sweep import Sweep
from .transfer import Transfer

PRIMARY = ""  # the application's bucket, whatever its name is
JOURNAL = "mirror.jsonl"
_PATIENCE = 600.0  # seconds
SHOWN = 1000  # keys named in a manifest
_ABSENT = "the store has no such bucket, or shows the key none"
_GONE = "it was there at the last backup and is gone; if that is right: lifeboat backup objects --override"
_MARKED = (
    "it was in the last backup and is marked as another stack's vault now; if that is right: lifeboat backup objects"
    " --override"
)
_SHOWN_OF_OTHERS = 20  # of a bucket that may be one of a thousand


def take(
    run: Opened, *, log: Log, override: Union[int, guard.Override] = 0, doubts: Doubts = TRUST,
    database: Optional[Manifest] = None,
) -> Manifest:  # fmt: skip
    """Bring the vault's mirror up to date and publish an objects backup. The caller holds the stack's lock.

    doubts: what was found out against the servers before (vault/endpoints.py). database: the backup whose instant it is
    to be of, in place of the newest one.

    Raises LifeboatError; whatever fails, nothing is published, and what was copied need not be copied again. Objects
    that the vault cannot hold do not stop the others: they are named in its `unheld`, and that is never a success.
    Nor does another bucket than the application's that cannot be mirrored: it is named in details.missing.
    """
    with lock.mirroring(run.config.stack, "mirror", wait=_PATIENCE):  # a look at what changed may go on
        return _take(run, log, override, doubts, database)


def _take(
    run: Opened, log: Log, override: Union[int, guard.Override], doubts: Doubts, database: Optional[Manifest]
) -> Manifest:
    config = run.config
    accepted = override if isinstance(override, guard.Override) else guard.Override(override)
    started, now = time.monotonic(), datetime.now(timezone.utc)
    repo = _open(run, writable=True)
    repo.sweep(older_than=STALE, now=now)
    source, vault = buckets.source(run), buckets.vault(run)
    guard.require_vault(source, vault)
    _sweep(vault, now, log)
    instant = guard.choose_instant(config, repo, source, now, log, doubts, database)
    identity = catalog.free_id(repo, "objects", now)
    seal, before = age.sealing(config, log), _before(run, repo)
    listed, mirrors = before.listed, _Mirrors(run, before, instant, accepted, log, doubts, seal, _shared(config))
    with State(mirrors.journal(PRIMARY)) as state:
        work = mirrors.bring(PRIMARY, state, identity)
        instant = work.source.instant
        held = identities.take(run, identity, override=bool(accepted), log=log)
        with repo.stage("objects", identity) as staging, explained("write the listing", staging.path):
            primary = mirrors.write(PRIMARY, work, staging.path, "")
            state.release()
            additional = mirrors.take(staging.path)
            del before, work  # of a thousand buckets they are large, and so is the manifest that is written now
            details = ObjectsDetails(
                endpoint=source.endpoint_url,
                host=socket.gethostname(),
                database_backup=instant.database_backup,
                clock_skew=instant.skew,
                engine=config.objects.engine,
                weaknesses=tuple(mc.WEAKNESSES) if config.objects.engine == "mc" else (),
                vault={"endpoint": vault.endpoint_url, "bucket": vault.name},
                identities=held,
                seconds=round(time.monotonic() - started, 2),
                unprotected=listed.unprotected,
                excluded=listed.excluded,
                vaults=tuple(name for name in listed.vaults if name not in mirrors.missing),
                excluded_keys=tuple(entry for entry in config.objects.exclude if "/" in entry),
                unlisted=listed.unlisted,
                missing=mirrors.missing,
                recipients=seal.recipients,
                host_key=seal.host,
                buckets=(primary, *additional),
            )
            artefacts = [name for each in details.buckets for name in listing.artefacts(each.folder, seal)]
            manifest = Manifest(
                id=identity, component="objects", stack=config.stack, taken_at=instant.at or now,
                finished_at=datetime.now(timezone.utc), tool={"lifeboat": VERSION},
                artefacts=tuple(checksums.measure(staging.path / name, name) for name in artefacts),
                details=typed.plain(details, nulls=True),
            )  # fmt: skip
            manifest = repositories.publish(run, manifest, staging.publish)
    mirrors.published()
    many = f" of {len(details.buckets)} buckets" if details.additional else ""
    objects, size, copied, removed = (
        sum(getattr(each, what) for each in details.buckets) for what in ("objects", "bytes", "copied", "removed")
    )
    log(
        f"{identity}: published, {objects} objects{many}, {human(size)}; {copied} copied, {removed} removed in"
        f" {details.seconds} s"
    )
    _warn(details, log)
    return manifest


def _warn(details: ObjectsDetails, log: Log) -> None:
    """Say what is not in the backup, or was not in those before."""
    for name, why in details.missing.items():
        log(f"WARNING: the bucket {named(name)} is not in this backup: {why}")
    for each in details.buckets:
        if each.left_out:
            log(f"WARNING: the bucket {named(each.name)}: {each.left_out}")
    for gap in details.left:
        log(f"NOT in this backup: {gap.what}: {gap.why}")
    for gap in details.not_carried:
        log(f"NOT carried: {gap.what}: {gap.why}")
    for each in details.buckets:
        if each.in_no_backup:
            first = each.unheld[0]
            lost = f"{each.in_no_backup} objects of {named(each.name)}, the first is {first.key!r}: {first.why}"
            log(f"WARNING: the vault does not hold {lost}")


def _shared(config: Config) -> Shared:
    room = throttle.parse_rate(config.keeper.store.quota) if config.keeper.directory else 0
    return Shared(throttle.parse_rate(config.objects.bandwidth), config.objects.transfers, int(room))


def _sweep(vault: Bucket, now: datetime, log: Log) -> None:
    try:
        guard.sweep(vault, STALE, now)
    except LifeboatError as exc:  # they cost a little; a mirror not taken costs more
        log(f"unfinished uploads in the vault were not swept: {exc}")


class _Before(NamedTuple):
    """What is known before a bucket is looked at. listed: what the store tells. known: the other buckets that the
    newest backup has, or names as missing. points: of the application's bucket (PRIMARY) the newest; of each other the
    newest that holds it, for the newest of all may lack one. gaps: HeldBucket.gap, where one was left out for a while.
    """

    listed: Store
    known: set[str]
    points: Mapping[str, Point]
    gaps: Mapping[str, str]


def _before(run: Opened, repo: repository_base.Repository) -> _Before:
    """What is to be held is looked for in every backup, also where the newest left it out."""
    sound = catalog.sound(catalog.entries(repo, "objects", run.config.stack))
    newest = sound[-1].detailed(ObjectsDetails) if sound else None
    known = {*(each.name for each in newest.additional), *newest.missing} if newest else set[str]()
    listed = store.read_store(run, sorted(known))
    if not sound:
        return _Before(listed, known, {}, {})
    keys = age.keys(run.config, run.key)
    wanted = known | {*listed.protected} - {run.config.objects.bucket}
    others: dict[str, Point] = {}
    without: dict[str, Manifest] = {}  # the newest after that which neither holds it nor names it as missing
    for manifest in reversed(sound):
        if wanted <= {*others}:
            break
        held = {point.bucket: point for point in Point(repo, manifest, keys=keys).points() if point.bucket in wanted}
        rest = wanted - {*others, *held}
        for name in rest - {*manifest.detailed(ObjectsDetails).missing} if rest else ():
            without.setdefault(name, manifest)
        others = {**held, **others}
    oldest, gaps = format_time(sound[0].taken_at), dict[str, str]()
    for name, point in others.items():
        lacks = without.get(name)
        gap = f"{format_time(point.at)}/{format_time(lacks.taken_at)}" if lacks else point.held_bucket.gap
        if gap >= oldest:  # else no backup is left of before it
            gaps[name] = gap
    return _Before(listed, known, {PRIMARY: Point(repo, sound[-1], keys=keys), **others}, gaps)


def _taken_over(last: Optional[Point], state: State, path: Path, seal: age.Seal) -> Optional[HeldBucket]:
    """The listing of the last backup, where it is what would be written: nothing has changed and no tags were due, as
    in the second run of a day. What it says in all is on record then. None where it is to be written."""
    if last is None or last.manifest.tool.get("lifeboat") != VERSION or not state.unchanged():
        return None
    held = last.held_bucket
    return held if held.properties and held.tags and last.copied(path, seal) else None


def _listed(state: State, path: Path, seal: age.Seal) -> HeldBucket:
    """Write the listing; what it says in all."""
    summary = listing.write(path / listing.NAME, state.lines(), seal)
    unknown, oldest = state.tags_known()
    tags = HeldTags(format_time(oldest) if oldest else "", unknown)
    return HeldBucket(
        "", "", summary.objects, summary.bytes, "", digest=summary.digest, properties=_counted(state), tags=tags
    )


def _counted(state: State) -> HeldProperties:
    encrypted, checksums, lost = Counter[str](), Counter[str](), Counter[str]()
    clear, retained, held = 0, 0, 0
    for line, count in state.properties():
        found = properties.parse(line)
        encrypted.update({found.encryption: count} if found.encryption else {})
        checksums.update({kind: count for kind in found.checksums.split(",") if kind})
        lost.update(dict.fromkeys(found.lost, count))
        clear += count if found.clear else 0
        retained += count if found.until else 0
        held += count if found.hold else 0
    return HeldProperties(dict(encrypted), clear, state.storage(), dict(checksums), retained, held, dict(lost))


class _Mirrors:
    """The buckets of one backup: the application's (PRIMARY), then the others, some at once over the same connections.

    missing: those of the others that are not in it, and why.
    """

    def __init__(
        self, run: Opened, before: _Before, instant: Instant, override: guard.Override, log: Log,
        doubts: Doubts = TRUST, seal: age.Seal = age.OPEN, shared: Optional[Shared] = None,
    ) -> None:  # fmt: skip
        self._run, self._config, self._before, self._instant = run, run.config, before, instant
        self._override, self._log, self._doubts, self._seal, self._shared = override, log, doubts, seal, shared
        self._source, self._vault = buckets.source(run), buckets.vault(run)
        self._journals = [self.journal(PRIMARY)]
        self.missing: dict[str, str] = {}

    def assess(self, name: str, state: State) -> Transfer:
        """What there is to do for the bucket; nothing is changed. Raises where it cannot be mirrored."""
        source, vault, instant = self._ready(name) if name else (self._source, self._vault, self._instant)
        tags = Sweep(source, vault, state, self._log)
        at_source = SourceListing(self._config, source, state, instant, tags, self._log)
        in_vault = VaultListing(self._config, vault, state, instant, self._log)
        work = Transfer(self._config, at_source, in_vault, state, tags, self._log, self._shared, self._doubts)
        work.assess(self._before.points.get(name))
        return work

    def bring(self, name: str, state: State, label: str) -> Transfer:
        """Make the vault's objects those of the bucket. label: what the log calls it."""
        work, last = self.assess(name, state), self._before.points.get(name)
        numbers, instant, now = work.numbers, work.source.instant, datetime.now(timezone.utc)
        if name and (numbers.vault or numbers.copy):  # not where a thousand buckets are empty
            _sweep(work.vault.bucket, now, self._log)
        self.allow(work, state)
        if not name or numbers.copy or numbers.alike or numbers.removed:
            self._log(
                f"{label}: {numbers.source} objects as of {format_time(instant.at or now)} ({instant.consistency});"
                f" {numbers.copy} to copy ({human(numbers.bytes)}), {numbers.alike} to compare, {numbers.removed} to"
                " remove"
            )
        work.bring()
        work.confirm()
        work.look_at_properties(last)
        work.sweep(last)
        return work

    def allow(self, work: Transfer, state: State) -> None:
        """Raise where the vault would lose too much of what it has, or hold more than it may."""
        source, vault = work.source.bucket, work.vault.bucket
        guard.guard(self._config, source, vault, work.numbers, self._override, state.lost, self._log)
        if self._shared:
            self._shared.room.take(state.vault_bytes + work.numbers.bytes, vault.url)

    def write(self, name: str, work: Transfer, root: Path, folder: str) -> HeldBucket:
        """Write the listing of a bucket that has been mirrored; what the manifest says of it."""
        state, source, last = work.state, work.source, self._before.points.get(name)
        count, unheld = state.unheld_rows(_SHOWN_OF_OTHERS if name else SHOWN)
        path = root / folder
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        listed = _taken_over(last, state, path, self._seal) or _listed(state, path, self._seal)
        if count and not listed.objects:
            raise LifeboatError(
                "mirror the bucket", work.vault.bucket.url,
                f"it holds none of {count} objects; the first: {unheld[0].why}",
                "Look at the vault's log, and at what its key may do.",
            )  # fmt: skip
        instant, vault, tags = source.instant, work.vault, work.tags
        known = present(listed.tags)
        return HeldBucket(
            source.bucket.name, folder, listed.objects, listed.bytes, instant.consistency, vault.bucket.name,
            instant.why, instant.at is not None, listed.digest, work.copied, work.bytes, work.removed,
            tuple(unheld), count, source.ambiguous, source.settings.values, source.settings.denied, listed.properties,
            HeldTags(
                known.as_of, known.unknown, tags.read, tags.changed, tuple(tags.unread), tags.unread_count,
                tuple(tags.refused), tags.refused_count,
            ),
            self._before.gaps.get(name, ""), vault.versions_listed,
        )  # fmt: skip

    def take(self, root: Path) -> list[HeldBucket]:
        """All but the application's."""
        objects, listed = self._config.objects, self._before.listed
        wanted = [name for name in listed.protected if name != objects.bucket]
        gone = [name for name in sorted(self._before.known) if name not in wanted and store.is_selected(objects, name)]
        if listed.unlisted:
            wanted, gone = sorted({*wanted, *gone}), []
        tried = throttle.mapped(lambda numbered: self._tried(root, *numbered), list(enumerate(wanted, 1)))
        self.missing.update((name, why) for name, why in zip(wanted, tried) if isinstance(why, str))
        for name in store.absent(objects, listed):
            self.missing[name] = _ABSENT
        for name in () if self._override else gone:
            self.missing.setdefault(name, _MARKED if name in listed.vaults else _GONE)
        self._before = self._before._replace(points={}, gaps={})  # not needed any more
        return [entry for entry in tried if isinstance(entry, HeldBucket)]

    def _tried(self, root: Path, number: int, name: str) -> Union[HeldBucket, str]:
        """The bucket, mirrored, or why it is missing."""
        folder = f"{BUCKETS}/{number:03}"
        try:
            with State(self.journal(name), share=throttle.SIDE_BY_SIDE) as state:
                entry = self.write(name, self.bring(name, state, named(name)), root, folder)
            self._journals.append(self.journal(name))
            return entry
        except LifeboatError as exc:
            shutil.rmtree(root / folder, ignore_errors=True)
            self._log(f"the bucket {named(name)} is not mirrored: {exc}")
            return exc.cause

    def preview(self) -> Iterator[Numbers]:
        """What take() would do, of each that it would not leave out."""
        names = [name for name in self._before.listed.protected if name != self._config.objects.bucket]
        return filter(None, throttle.mapped(self._previewed, names))

    def _previewed(self, name: str) -> Optional[Numbers]:
        with contextlib.suppress(LifeboatError), State(self.journal(name), share=throttle.SIDE_BY_SIDE) as state:
            return self.assess(name, state).numbers
        return None

    def published(self) -> None:
        """The listings know everything now."""
        for journal in self._journals:
            remove_journal(journal)

    def _ready(self, name: str) -> tuple[Bucket, Bucket, Instant]:
        """The bucket, its place in the vault, and what it is to be of; raises where it cannot be mirrored."""
        source, vault = self._source.sibling(name), self._vault.sibling(buckets.suffixed(self._config, name))
        if vault.name in (self._vault.name, self._config.vault.repository_bucket):
            cause = f"its place in the vault would be {vault.name}, which is taken"
            raise UsageError("mirror the bucket", source.url, cause, "Name other buckets in lifeboat_vault.")
        guard.require_place(self._config, source, vault)
        instant = self._instant
        why = guard.unversioned(source) if instant.at is not None else ""
        until = self._before.gaps.get(name, "").partition("/")[2]
        if why:
            instant = replace(instant, at=None, server=None, certain=None, consistency=EVENTUAL, why=why)
        elif instant.at is not None and format_time(instant.at) <= until:
            why = f"no backup until {until} holds it, and nobody looked at it at that instant"
            instant = replace(instant, consistency=EVENTUAL, why="; ".join(filter(None, (instant.why, why))))
        return source, vault, instant

    def journal(self, name: str) -> Path:
        """Where is noted what was copied since the last backup."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return self._config.state / (f"mirror-{digest}.jsonl" if name else JOURNAL)


@dataclass(frozen=True)
class Preview(Numbers):
    """What take() would do now."""

    taken_at: datetime
    consistency: str
    database_backup: str


def preview(run: Opened, *, log: Log, override: int = 0, doubts: Doubts = TRUST) -> Preview:
    """What take() would do now, with nothing changed: it raises what that would raise before its first change."""
    repo = _open(run, writable=False)
    source, vault = buckets.source(run), buckets.vault(run)
    guard.require_vault(source, vault)
    now = datetime.now(timezone.utc)
    instant = guard.choose_instant(run.config, repo, source, now, log, doubts)
    mirrors = _Mirrors(run, _before(run, repo), instant, guard.Override(override), log)
    with State(mirrors.journal(PRIMARY)) as state:
        work = mirrors.assess(PRIMARY, state)
        mirrors.allow(work, state)
    each = [work.numbers, *mirrors.preview()]
    return Preview(
        **{what: sum(getattr(numbers, what) for numbers in each) for what in vars(work.numbers)},
        taken_at=work.source.instant.at or now,
        consistency=work.source.instant.consistency,
        database_backup=work.source.instant.database_backup,
    )


def _open(run: Opened, *, writable: bool) -> repository_base.Repository:
    recovery_state.refuse_while_unfinished(
        run.config, "start a mirror", (recovery_state.RECOVERING, recovery_state.RECOVERING_OBJECTS)
    )
    repo = repositories.repository_of(run)
    repo.check(writable=writable)
    return repo
