# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirror the stack's bucket to the vault, as it was at the instant of the newest database backup.

The vault's bucket is versioned, and nothing in it is ever deleted here but by a delete marker. Only what differs is
copied; the listing that is published says of every object which version of the vault's holds it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import random
import re
import secrets as token
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple, Optional, Union

from ..base import throttle, typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UsageError
from ..base.filesystem import explained
from ..base.text import human, named
from ..base.version import VERSION
from ..recovery import state as recovery_state
from ..repository import base as repository_base
from ..repository import catalog, checksums, repositories
from ..repository.base import STALE
from ..repository.details import BUCKETS, HeldBucket, HeldProperties, HeldTags, ObjectsDetails, Store
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL
from ..s3 import bucket, copier, properties
from ..s3 import settings as s3_settings
from ..s3.bucket import TRUST, Bucket, Doubts, Listed, Version, Watch
from ..s3.copier import Copied, Copier, Shared
from ..s3.signed import NULL
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import age
from . import guard, identities, listing, mc, store
from .guard import Instant
from .listing import Point
from .state import NAME_CHECK, Numbers, Object, State, as_of, remove_journal
from .sweep import Sweep

PRIMARY = ""  # the application's bucket, whatever its name is
JOURNAL = "mirror.jsonl"
SHOWN = 1000  # keys named in a manifest
_ABSENT = "the store has no such bucket, or shows the key none"
_GONE = "it was there at the last backup and is gone; if that is right: lifeboat backup objects --override"
_MARKED = (
    "it was in the last backup and is marked as another stack's vault now; if that is right: lifeboat backup objects"
    " --override"
)
_SHOWN_OF_OTHERS = 20  # of a bucket that may be one of a thousand
_FEW = 20  # where at most one key in so many changed, those are looked at one by one instead of listing all
_FEWEST = 50
ASKED = 1000  # of the objects that are to be removed: at most so many are asked for, one by one, before it
_SECOND = timedelta(seconds=1)
_SAME_TIME = timedelta(seconds=2)  # servers round the same time in several ways
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
CYCLE = 7  # days within which every version is listed once; on the others current objects, which is cheaper
_OTHER_ETAGS = 10
_TOPS, _TOP_COMES = 3, 0.2  # SeaweedFS lists a version a moment before it is the latest: asked so often, seconds apart
# Names that servers which keep objects in a file system store under another name, or not at all; and one of each.
_ODD = {
    "an empty part (//)": (re.compile(r"//"), "{0}/a//b"),
    "a slash at the beginning": (re.compile(r"^/"), "/{0}"),
    "a slash at the end": (re.compile(r"/$"), "{0}/a/"),
    "a backslash": (re.compile(r"\\"), "{0}\\a"),
    "a part . or ..": (re.compile(r"(^|/)\.\.?(/|$)"), "{0}/a/../b"),
    "a tab or a line break": (re.compile(r"[\t\n\r]"), "{0}\t\r\n"),
    "a control character": (re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"), "{0}\x01"),
}


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
    seal, (known, seen, before) = age.sealing(config, log), _earlier(run, repo)
    mirrors = _Mirrors(run, before, instant, accepted, log, doubts, seal, _shared(config))
    with State(mirrors.journal(PRIMARY)) as state:
        work = mirrors.bring(PRIMARY, state, identity)
        instant = work.instant
        held = identities.take(run, identity, override=bool(accepted), log=log)
        with repo.stage("objects", identity) as staging, explained("write the listing", staging.path):
            primary = mirrors.write(PRIMARY, work, staging.path, "")
            state.release()
            additional = mirrors.take(seen, known, staging.path)
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
                unprotected=seen.unprotected,
                excluded=seen.excluded,
                vaults=tuple(name for name in seen.vaults if name not in mirrors.missing),
                excluded_keys=tuple(entry for entry in config.objects.exclude if "/" in entry),
                unlisted=seen.unlisted,
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
    """What earlier backups tell of what the vault holds. points: of the application's bucket (PRIMARY) the newest; of
    each other bucket the newest that holds it, for the newest of all may lack one. gaps: HeldBucket.gap, of those that
    were left out for a while."""

    points: Mapping[str, Point]
    gaps: Mapping[str, str]


def _earlier(run: Opened, repo: repository_base.Repository) -> tuple[tuple[str, ...], Store, _Before]:
    """The other buckets that the newest backup has, or names as missing; what the store tells; what backups tell."""
    sound = catalog.sound(catalog.entries(repo, "objects", run.config.stack))
    newest = sound[-1].detailed(ObjectsDetails) if sound else None
    known = {*(each.name for each in newest.additional), *newest.missing} if newest else set[str]()
    seen = store.look(run, sorted(known))
    return tuple(sorted(known)), seen, _before(run, repo, sound, known, seen)


def _before(
    run: Opened, repo: repository_base.Repository, sound: Sequence[Manifest], known: set[str], seen: Store
) -> _Before:
    """What is to be held is looked for in every backup, also where the newest left it out."""
    if not sound:
        return _Before({}, {})
    keys = age.keys(run.config, run.key)
    wanted = known | {*seen.protected} - {run.config.objects.bucket}
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
        gap = f"{format_time(point.at)}/{format_time(lacks.taken_at)}" if lacks else point.held.gap
        if gap >= oldest:  # else no backup is left of before it
            gaps[name] = gap
    return _Before({PRIMARY: Point(repo, sound[-1], keys=keys), **others}, gaps)


class _Listing(NamedTuple):
    """What a listing that was written says in all. tags_as_of, tags_unknown: as of HeldTags."""

    objects: int
    bytes: int
    digest: str
    properties: HeldProperties
    tags_as_of: str
    tags_unknown: int


def _taken_over(last: Optional[Point], state: State, path: Path, seal: age.Seal) -> Optional[_Listing]:
    """The listing of the last backup, where it is what would be written: nothing has changed and no tags were due, as
    in the second run of a day. What it says in all is on record then. None where it is to be written."""
    if last is None or last.manifest.tool.get("lifeboat") != VERSION or not state.unchanged():
        return None
    held = last.held
    if held.properties is None or held.tags is None or not last.copied(path, seal):
        return None
    return _Listing(held.objects, held.bytes, held.digest, held.properties, held.tags.as_of, held.tags.unknown)


def _listed(state: State, path: Path, seal: age.Seal) -> _Listing:
    summary = listing.write(path / listing.NAME, state.lines(), seal)
    unknown, oldest = state.tags_known()
    as_of = format_time(oldest) if oldest else ""
    return _Listing(summary.objects, summary.bytes, summary.digest, _counted(state), as_of, unknown)


def _of_tags(tags: Sweep, listed: _Listing) -> HeldTags:
    return HeldTags(
        listed.tags_as_of, listed.tags_unknown, tags.read, tags.changed, tuple(tags.unread), tags.unread_count,
        tuple(tags.refused), tags.refused_count,
    )  # fmt: skip


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

    def look(self, name: str, state: State) -> _Mirror:
        """What there is to do for the bucket; nothing is changed. Raises where it cannot be mirrored."""
        source, vault, instant = self._ready(name) if name else (self._source, self._vault, self._instant)
        work = _Mirror(self._config, source, vault, state, instant, self._log, self._shared, self._doubts)
        work.look(self._before.points.get(name))
        return work

    def bring(self, name: str, state: State, label: str) -> _Mirror:
        """Make the vault's objects those of the bucket. label: what the log calls it."""
        work, last = self.look(name, state), self._before.points.get(name)
        numbers, now = work.numbers, datetime.now(timezone.utc)
        if name and (numbers.vault or numbers.copy):  # not where a thousand buckets are empty
            _sweep(work.vault, now, self._log)
        self.allow(work, state)
        if not name or numbers.copy or numbers.alike or numbers.removed:
            self._log(
                f"{label}: {numbers.source} objects as of {format_time(work.instant.at or now)}"
                f" ({work.instant.consistency}); {numbers.copy} to copy ({human(numbers.bytes)}), {numbers.alike} to"
                f" compare, {numbers.removed} to remove"
            )
        work.bring(numbers)
        work.confirm(numbers)
        work.look_at_properties(last)
        work.sweep(last)
        return work

    def allow(self, work: _Mirror, state: State) -> None:
        """Raise where the vault would lose too much of what it has, or hold more than it may."""
        guard.guard(self._config, work.source, work.vault, work.numbers, self._override, state.lost, self._log)
        if self._shared:
            self._shared.room.take(state.held + work.numbers.bytes, work.vault.url)

    def write(self, name: str, work: _Mirror, root: Path, folder: str) -> HeldBucket:
        """Write the listing of a bucket that has been mirrored; what the manifest says of it."""
        state, instant, last = work.state, work.instant, self._before.points.get(name)
        count, unheld = state.unheld_rows(_SHOWN_OF_OTHERS if name else SHOWN)
        path = root / folder
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        listed = _taken_over(last, state, path, self._seal) or _listed(state, path, self._seal)
        if count and not listed.objects:
            raise LifeboatError(
                "mirror the bucket", work.vault.url, f"it holds none of {count} objects; the first: {unheld[0].why}",
                "Look at the vault's log, and at what its key may do.",
            )  # fmt: skip
        return HeldBucket(
            work.source.name, folder, listed.objects, listed.bytes, instant.consistency, work.vault.name, instant.why,
            instant.at is not None, listed.digest, work.copied, work.bytes, work.removed, tuple(unheld), count,
            work.ambiguous, work.settings.values, work.settings.denied, listed.properties,
            _of_tags(work.tags, listed), self._before.gaps.get(name, ""), work.versions_listed,
        )  # fmt: skip

    def take(self, seen: Store, known: Sequence[str], root: Path) -> list[HeldBucket]:
        """All but the application's. seen: as the store tells. known: those of the last backup."""
        objects = self._config.objects
        wanted = [name for name in seen.protected if name != objects.bucket]
        gone = [name for name in known if name not in wanted and store.wanted(objects, name)]
        if seen.unlisted:
            wanted, gone = sorted({*wanted, *gone}), []
        tried = throttle.mapped(lambda numbered: self._tried(root, *numbered), list(enumerate(wanted, 1)))
        self.missing.update((name, why) for name, why in zip(wanted, tried) if isinstance(why, str))
        for name in store.absent(objects, seen):
            self.missing[name] = _ABSENT
        for name in () if self._override else gone:
            self.missing.setdefault(name, _MARKED if name in seen.vaults else _GONE)
        self._before = _Before({}, {})  # not needed any more
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

    def preview(self, seen: Store) -> Iterator[Numbers]:
        """What take() would do, of each that it would not leave out."""
        names = [name for name in seen.protected if name != self._config.objects.bucket]
        return filter(None, throttle.mapped(self._previewed, names))

    def _previewed(self, name: str) -> Optional[Numbers]:
        with contextlib.suppress(LifeboatError), State(self.journal(name), share=throttle.SIDE_BY_SIDE) as state:
            return self.look(name, state).numbers
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
    seen, before = _earlier(run, repo)[1:]
    mirrors = _Mirrors(run, before, instant, guard.Override(override), log)
    with State(mirrors.journal(PRIMARY)) as state:
        work = mirrors.look(PRIMARY, state)
        mirrors.allow(work, state)
    each = [work.numbers, *mirrors.preview(seen)]
    return Preview(
        **{what: sum(getattr(numbers, what) for numbers in each) for what in vars(work.numbers)},
        taken_at=work.instant.at or now,
        consistency=work.instant.consistency,
        database_backup=work.instant.database_backup,
    )


def _open(run: Opened, *, writable: bool) -> repository_base.Repository:
    recovery_state.refuse_while_unfinished(
        run.config, "start a mirror", (recovery_state.RECOVERING, recovery_state.RECOVERING_OBJECTS)
    )
    repo = repositories.of(run)
    repo.check(writable=writable)
    return repo


@dataclass
class _Hidden:
    """What the source does not list, of the keys that were asked for.

    held: it gives them. later: those of them that were written after the instant: what they were then is not known.
    deleted: it gives an old version; when it was deleted is not known.
    """

    held: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def add(self, more: _Hidden) -> None:
        self.held += more.held
        self.later += more.later
        self.deleted += more.deleted

    @property
    def why(self) -> str:
        """Why a mirror of these is not of the instant; empty where it is."""
        said = []
        for keys, text in (
            (self.held, "the source holds {0} objects that it does not list, the first is {1!r}"),
            (self.later, "{0} of them were written later, the first is {1!r}, and are as they are now"),
            (self.deleted, "the source does not tell when it deleted {0} objects that it hides, the first is {1!r}"),
        ):
            if keys:
                said.append(text.format(len(keys), min(keys)))
        return "; ".join(said)


def _due(config: Config, listed: datetime, now: datetime) -> str:
    """Why it is time to list every version again, by whole days; empty where it is not. What somebody hid must be
    copied again before the vault forgets it. A clock that went back is no reason to believe."""
    days = min(CYCLE, config.vault.noncurrent_days // 2)
    if 0 <= (now.date() - listed.date()).days < days:
        return ""
    return f"it was done on {format_time(listed)[:10]}, and is every {days} days" if days else "the vault forgets soon"


class _Mirror:
    """One run: what is to do, and what was done."""

    def __init__(
        self, config: Config, source: Bucket, vault: Bucket, state: State, instant: Instant, log: Log,
        shared: Optional[Shared] = None, doubts: Doubts = TRUST,
    ) -> None:  # fmt: skip
        self._config, self.state, self._log, self._shared, self._doubts = config, state, log, shared, doubts
        self.source, self.vault = source, vault
        self.instant = instant  # what the mirror is of; later than asked where the source's answers do not allow that
        self._lock = threading.Lock()
        self._touched: list[str] = []  # as long as they are few
        self._few = _FEWEST
        self._losses: Optional[copier.Losses] = None  # None: the copies are few, and confirm() looks at each
        self._progress = throttle.Progress()
        self.settings = s3_settings.BucketSettings({})
        self.tags = Sweep(source, vault, state, log)
        self._proved = 0
        self._doubtful: list[str] = []
        self._brief = self._brief_source = False  # current objects are listed; so too of the source
        self.versions_listed: Optional[datetime] = None  # as of HeldBucket
        self.numbers = Numbers(0, 0, 0, 0, 0, 0, 0)  # as look() found them
        self.ambiguous = 0  # keys of which it is not sure what they held at the instant
        self.copied = self.bytes = self.removed = 0

    @property
    def _exact(self) -> bool:
        return self.instant.at is not None

    def look(self, last: Optional[Point]) -> None:
        """Read both buckets at once, and what the last mirror knew."""
        started = datetime.now(timezone.utc)
        why = self._why_in_full(last, started)
        self._brief = not why
        if why and last:
            self._log(f"every version in {self.vault.url} is listed: {why}")
        with ThreadPoolExecutor(3) as pool:
            settings = pool.submit(s3_settings.inspect, self.source)
            theirs = pool.submit(self._look_at_vault)
            before = pool.submit(lambda: self.state.read_copies(self._before(last)))
            self.ambiguous = self._look_at_source(before, last)
            watch = theirs.result()
            self.settings = settings.result()
        self._complete(last, watch, started)
        if self.settings.denied:
            denied = ", ".join(self.settings.denied)
            self._log(f"WARNING: the key may not read the bucket's {denied}, so this backup does not have them")
        self._ask_for_unlisted()
        count, keys = self.state.foreign()
        if count:
            self._log(
                f"{count} objects in {self.vault.url} are not known to be of this stack, the first is {keys[0]!r}: they"
                " stay as they are"
            )
        self.numbers = self.state.numbers()
        count, keys = self.state.replaced() if self.numbers.copy or self.numbers.alike else (0, [])
        if count:
            self._log(
                f"WARNING: the vault holds something else in {count} versions that were copied, the first is"
                f" {keys[0]!r}: earlier backups cannot give these objects back; they are copied again"
            )

    def _complete(self, last: Optional[Point], watch: Watch, started: datetime) -> None:
        """Where current objects were listed and do not tell enough, list the versions. watch: of the vault."""
        if self._brief_source and len(self._unlisted()) > ASKED:  # what is being replaced shows among versions alone
            again = self._list_source(versions=True)[1]
            if again.order:
                self._disbelieve(f"the source's listing is not in order: {again.order}")
        if self._brief and (odd := watch.order or self._know_vault()):
            self._log(f"every version in {self.vault.url} is listed: of its current objects, {odd}")
            self._brief = False
            watch = self._look_at_vault()
        if self._brief and last:
            self.versions_listed = last.held.versions_listed
        elif not watch.order:
            self.versions_listed = started
        if watch.order:
            self._disbelieve(f"the vault's listing is not in order: {watch.order}")

    def _why_in_full(self, last: Optional[Point], now: datetime) -> str:
        """Why all versions are to be listed, and not current objects alone; empty where these suffice."""
        config = self._config
        listed = last.held.versions_listed if last else None
        if last is None or listed is None:
            return "no mirror before did so and noted it"
        if not self._same_places(last):
            return "the last mirror was of another bucket, or to another"
        if self.state.interrupted:
            return "the last mirror was interrupted"
        if config.objects.engine == "mc":
            return mc.BY_MC
        if config.keeper.directory:
            return "a keeper counts the bytes of all of them, and takes no server's word"
        if due := _due(config, listed, now):
            return due
        recoveries = config.state.glob(f"{recovery_state.RECOVERED_OBJECTS}*")
        if any(path.stat().st_mtime >= listed.timestamp() for path in recoveries):
            return "there was a recovery"
        return ""

    def _same_places(self, last: Point) -> bool:
        """Whether the last mirror was from here to there. Elsewhere its versions mean nothing, whatever looks alike."""
        details = last.manifest.detailed(ObjectsDetails)
        before = [(details.endpoint, last.held.name), (details.vault.get("endpoint"), last.held.vault)]
        return before == [(side.endpoint_url, side.name) for side in (self.source, self.vault)]

    def _look_at_vault(self) -> Watch:
        watch = self._watch()
        if self._brief:
            try:
                self.state.read_vault(bucket.objects(self.vault, watch=watch), current=True)
                return watch
            except LifeboatError as exc:
                if not copier.answered(exc):
                    raise
                self._log(f"every version in {self.vault.url} is listed: of its current objects, {exc.cause}")
            self._brief, watch = False, self._watch()
        self.state.read_vault(bucket.versions(self.vault, watch=watch))
        return watch

    def _know_vault(self) -> str:
        """After a list of its current objects: which versions these are. Returns why that cannot be known; empty where
        it is. What the last listing does not explain is asked for by its name, if it is little."""
        state = self.state
        before, few = state.count("copies"), self._few_of(state.count("copies"))
        if state.garbled("vault"):
            return "some are listed without their names"
        if state.count("vault") + few < before:
            return f"there are less than the {before} that were copied"
        keys = state.know_vault(few + 1)
        if len(keys) > few:
            return f"more than {few} are not those that were listed before, such as {keys[0]!r}"
        odd: list[str] = []

        def ask(key: str) -> None:
            try:
                head = self.vault.ask("HEAD", key, attempted=copier.WRITE)
            except LifeboatError as exc:
                if not copier.answered(exc):
                    raise
                odd.append(f"{key!r}: {exc.cause}")
                return
            if not state.name_vault(key, head.size, head.etag, head.version):
                odd.append(f"{key!r} is listed as another object than it is")

        throttle.each(ask, keys, self._config.objects.transfers)
        return min(odd, default="")

    @staticmethod
    def _few_of(count: int) -> int:
        return max(_FEWEST, count // _FEW)

    def _know_source(self, last: Optional[Point], watch: Watch) -> str:
        """The same of the source. What was written just before it was listed is asked for; else what is not known is
        copied or compared anyway."""
        if watch.order or self.state.garbled("source"):
            return watch.order or "some are listed without their names"
        unknown = self.state.know_source(last.at if last else _EPOCH)
        if unknown > self._few_of(self.state.count("copies")):
            return f"{unknown} are not those that were listed before"

        def ask(found: tuple[str, str]) -> None:
            key, version = found
            with contextlib.suppress(NotFoundError):
                head = self.source.ask("HEAD", key, attempted=copier.READ)
                if head.version == version:
                    self.state.name_source(key, head.size, head.etag, version)

        throttle.each(ask, self.state.unsettled(), self._config.objects.transfers)
        return ""

    def _list_source(self, *, versions: bool) -> tuple[int, Watch]:
        """Read the source once more, as it is now."""
        self._brief_source = False
        watch = self._watch()
        found = bucket.versions if versions else bucket.objects
        ambiguous = self.state.read_source(self._wanted(found(self.source, watch=watch, tags=self._tags())), None)
        self._ask_whole(watch)
        return ambiguous, watch

    def _look_at_source(self, before: Future[None], last: Optional[Point]) -> int:
        """before: what the last mirror knew, as soon as it is read."""
        versioned = bool(bucket.versioning(self.source))
        watch = self._watch()
        self._brief_source = brief = self._brief and versioned and not self._exact
        found = bucket.versions if versioned and not brief else bucket.objects
        late: list[str] = []
        listed = self._wanted(found(self.source, watch=watch, tags=self._tags()))
        listed = self.state.noting_past(listed) if self._exact else listed
        listed, instant = self._without_past(listed, late), self.instant
        ambiguous = self.state.read_source(listed, instant.server, brief, instant.certain)
        self._ask_whole(watch)
        before.result()
        if brief and (odd := self._know_source(last, watch)):
            self._log(f"every version in {self.source.url} is listed: of its current objects, {odd}")
            ambiguous, watch = self._list_source(versions=True)
        doubt = f"the source's listing is not in order: {watch.order}" if watch.order else watch.times
        doubt = doubt or (self._mistimed() if self._exact else "")
        if late:
            doubt = doubt or f"{late[0]!r} was written later and has no version, so that its past is not known"
        if doubt and self._exact:
            self.instant = Instant(None, None, EVENTUAL, why=doubt, skew=self.instant.skew)
            self._log(f"consistency is {EVENTUAL}, the bucket as it is now: {doubt}")
            ambiguous, watch = self._list_source(versions=not watch.order)
        if watch.order:
            self._disbelieve(f"the source's listing is not in order: {watch.order}")
        for key in watch.unread:
            self.state.unheld(key, "the source's listing does not tell its name")
        return ambiguous

    def _tags(self) -> Optional[bucket.Tags]:
        return self.tags.listing() if self._config.objects.tags_days else None

    def _wanted(self, versions: Iterator[Version]) -> Iterator[Version]:
        """Without the keys that the configuration leaves out."""
        out = store.left_out(self._config.objects, self.source.name)
        return (version for version in versions if not store.outside(version.key, out)) if out else versions

    def _watch(self) -> Watch:
        return Watch(datetime.now(timezone.utc) + timedelta(seconds=self.instant.skew or 0) - bucket.SETTLED)

    def _without_past(self, versions: Iterator[Version], late: list[str]) -> Iterator[Version]:
        """Note what was written after the instant and has no version: what it replaced is gone. An empty folder's
        placeholder replaced nothing; SeaweedFS gives it no version."""
        at = self.instant.server
        for version in versions:
            new = version.version == NULL and at is not None and version.modified > at and not version.deleted
            if new and not late and not (version.key.endswith("/") and not version.size):
                late.append(version.key)
            yield version

    def _mistimed(self) -> str:
        """Have old versions the times that the last mirror was told of them? VersityGW gives a version another one when
        it is replaced, and where its probe could not be made nothing else shows that."""
        key = self.state.mistimed(_SAME_TIME)
        return "" if key is None else f"a version of {key!r} is listed with another time than at the last mirror"

    def _disbelieve(self, why: str) -> None:
        self.state.removes = False
        self._weaken(f"{why}; nothing is removed")

    def _weaken(self, why: str) -> None:
        """What was listed is mirrored, and never called a snapshot."""
        why = "; ".join(filter(None, (self.instant.why, why)))
        self.instant = replace(self.instant, consistency=EVENTUAL, why=why)
        self._log(f"WARNING: {why}")

    def _ask_for_unlisted(self) -> None:
        """Is it really not there? MinIO does not list `a/b` once there is `a`, and gives it all the same. All are asked
        for, or some at random where they are many, and all if one of these is there. So too where a listing is not
        believed and nothing is removed: what is there belongs to the mirror."""
        unseen, keys = {*self.state.unseen()}, self._unlisted()
        few = keys if len(keys) <= ASKED else random.sample(keys, ASKED)
        hidden = self._there(few)
        if hidden.held and len(few) < len(keys):
            hidden.add(self._there(sorted({*keys} - {*few})))
        throttle.each(self._see, sorted(unseen.intersection(hidden.held)), self._config.objects.transfers)
        if hidden.why:
            self._weaken(hidden.why)

    def _unlisted(self) -> list[str]:
        out = store.left_out(self._config.objects, self.source.name)
        found = itertools.chain(self.state.unlisted(), self.state.unseen())
        return [key for key in found if not store.outside(key, out)]

    def _there(self, keys: Sequence[str]) -> _Hidden:
        """Which of them the source holds; they become part of what it is taken to hold."""
        hidden = _Hidden()
        at = self.instant.server

        def ask(key: str) -> None:
            try:
                head = self.source.ask("HEAD", key, attempted=copier.READ)
            except NotFoundError:
                if at is not None and not self._past(key) and self._gives_what_was_copied(key):
                    hidden.deleted.append(key)
                return
            except LifeboatError as exc:
                if not (copier.denied(exc) or copier.refused(exc)):
                    raise
                hidden.held.append(key)
                why = f"the source does not list it, and whether it is there is not known: {exc.cause}"
                self.state.unheld(key, why)
                self.state.there(Version(key, 0, "", _EPOCH))
                return
            found = Version(key, head.size, head.etag, head.modified, head.version)
            # A header tells whole seconds where a listing may tell more.
            if at is not None and head.version != NULL and head.modified > at - _SECOND:
                # Made after the instant, or overwritten after it? Only a listing knows.
                past = self._past(key)
                if any(version.version == head.version for version in past):
                    was = as_of(past, at)
                    if was is None:
                        return
                    found = was
                elif head.modified > at:
                    hidden.later.append(key)
            hidden.held.append(key)
            self.state.there(found)

        throttle.each(ask, keys, self._config.objects.transfers)
        return hidden

    def _ask_whole(self, watch: Watch) -> None:
        """Ask for each object by its name of which the source listed old versions and no latest: one page may hide
        what the next goes on with, and nothing tells then whether the old one was still there at the instant."""
        out = store.left_out(self._config.objects, self.source.name)
        keys = [key for key in watch.topless if not store.outside(key, out)]

        def ask(key: str) -> None:
            for attempt in range(_TOPS):
                time.sleep(_TOP_COMES if attempt else 0)
                past = self._past(key)
                if any(version.latest for version in past):
                    break
            else:
                watch.untopped(key)
                return
            at = self.instant.server
            current = next((version for version in past if version.latest and not version.deleted), None)
            was = current if at is None else as_of(past, at)
            self.state.vanished(key)
            if was:
                self.state.there(was)

        throttle.each(ask, keys, self._config.objects.transfers)

    def _past(self, key: str) -> list[Version]:
        """The versions that a listing of this key alone tells, its delete markers among them."""
        listed = bucket.versions(self.source, key)  # in the order of the keys, and this key is the first
        return list(itertools.takewhile(lambda version: version.key == key, listed))

    def _gives_what_was_copied(self, key: str) -> bool:
        """Does the source still give the version that was copied? An object that was deleted has its versions, and a
        listing tells them: where it does not, the source hides them."""
        version = self.state.copied_version(key)
        if version in ("", NULL):
            return False
        try:
            self.source.ask("HEAD", key, {"versionId": version}, attempted=copier.READ)
        except LifeboatError as exc:
            if not copier.answered(exc):
                raise
            return False
        return True

    def _before(self, last: Optional[Point]) -> Iterator[Union[listing.Line, Listed]]:
        try:
            if last:
                yield from last.lines()
        except LifeboatError as exc:
            self._log(f"compares object by object, for the last listing cannot be read: {exc}")

    def bring(self, numbers: Numbers) -> None:
        """Make the vault's current objects those of the source, and note what the vault says of them."""
        workers = self._config.objects.transfers
        self._few = self._few_of(numbers.source)
        if numbers.copy + numbers.alike > self._few:
            self._losses = copier.Losses(self.vault)
        if numbers.copy or numbers.alike:
            with Copier(self.source, self.vault, self._shared, for_owner=True) as moving:
                for item in list(self._odd()):
                    self.state.unheld(*item)
                if self._config.objects.engine == "mc":
                    mc.run(self._config, self.source, self.vault, log=self._log)
                    # What it copied is the vault's now; what it did not carry is seen by comparing, and carried then.
                    self.state.read_vault(bucket.versions(self.vault))
                throttle.each(lambda one: self._compare(*one), self.state.alike(), workers)
                throttle.each(lambda one: self._copy(moving, one, numbers.copy), self.state.to_copy(), workers)
        if numbers.removed:
            throttle.each(self._remove, self.state.to_remove(), workers)
        # Of a server whose ETags are never MD5s nothing is proved, and nothing can be said against one object.
        if self._proved or len(self._doubtful) < _OTHER_ETAGS:
            for key in self._doubtful:
                self.state.unheld(key, "its bytes are not those that its ETag is the MD5 of: the source is damaged")

    def _odd(self) -> Iterator[tuple[str, str]]:
        """Keys that the vault would store under another name, perhaps over another object: found out by trying."""
        holds = functools.lru_cache(maxsize=None)(self._holds)
        for item in self.state.to_copy():
            for kind, (pattern, example) in _ODD.items():
                if pattern.search(item.key) and not holds(example):
                    yield item.key, f"the vault does not keep a name with {kind}"
                    break

    def _holds(self, example: str) -> bool:
        key = example.format(NAME_CHECK + token.token_hex(6))
        try:
            put = self.vault.ask("PUT", key, headers=copier.EMPTY, attempted=copier.WRITE)
        except LifeboatError as exc:
            if copier.refused(exc):
                return False
            raise
        try:
            return any(version.key == key for version in bucket.versions(self.vault, key))
        finally:
            # The version, and where the key may not delete versions, as it should not, at least a marker on it.
            for query in ({"versionId": put.version}, {}):
                with contextlib.suppress(LifeboatError):
                    self.vault.ask("DELETE", key, query, attempted=copier.WRITE)
                    break

    def _compare(self, item: Object, vault_version: str, vault_etag: str, sha256: Optional[str]) -> None:
        """Its bytes are right: are its headers and tags? They can be changed without the bytes.

        Where an ETag can be chosen, that it is equal says nothing of bytes that were not copied by us: they are read.
        """
        same, line, record = False, "", copier.UNRECORDED
        try:
            ours = copier.facts(self.source, item.key, self._version(item))
        except LifeboatError as exc:
            if not (isinstance(exc, IntegrityError) or copier.answered(exc)):
                raise
            self.state.unlike(item.key)  # a copy tells what it is that cannot be had
            return
        with contextlib.suppress(NotFoundError, IntegrityError):
            theirs = copier.facts(self.vault, item.key, vault_version)
            alike, line, record = ours == theirs, ours.kept_by(theirs).encoded, ours.record
            if not item.version:  # a list of current objects does not tell it
                alike &= ours.etag == item.etag
                item = item._replace(version=ours.version)
            if alike and sha256 is None and self._doubts.etags:
                sha256 = copier.digest(self.source, item.key, item.size, self._version(item))[0]
                alike = sha256 == copier.digest(self.vault, item.key, item.size, vault_version)[0]
            same = alike
        if same:
            if self._brief_source:
                self.state.changed(item)
            self.state.copied(item, vault_version, vault_etag, sha256, line, record)
        else:
            self.state.unlike(item.key)

    def _version(self, item: Object) -> str:
        return item.version if self._exact or item.version != NULL else ""

    def _copy(self, moving: Copier, item: Object, total: int) -> None:
        try:
            done = moving.copy(item.key, item.size, item.etag, self._version(item))
        except LifeboatError as exc:
            if isinstance(exc, NotFoundError) and exc.attempted == copier.READ and not self._exact:
                if "\ufffd" in item.key:  # or listed under a name that XML cannot say
                    self.state.unheld(item.key, "the source's listing does not tell its name")
                else:
                    self.state.vanished(item.key)  # deleted since it was listed
                return
            why = copier.refusal(exc)
            if not why:
                raise
            self.state.unheld(item.key, why)
            return
        self._note(item, done, total)

    def _note(self, item: Object, done: Copied, total: int) -> None:
        if self._exact and (item.size != done.size or done.version not in ("", item.version)):
            self.state.unheld(item.key, "the source gives another object than the version it lists")
            return
        now = item._replace(size=done.size, etag=done.etag, version=item.version or done.version or NULL)
        if not self._exact and item != now:  # overwritten since it was listed, or listed without its version
            self.state.changed(now)
            item = now
        found = done.properties
        if self._losses is not None and not done.read_back:
            headers = dict(properties.pairs(done.record.headers or ""))
            found = replace(found, lost=self._losses.headers_lost(item.key, done.target_version, headers))
        self.state.copied(item, done.target_version, done.target_etag, done.sha256, found.encoded, done.record)
        if done.untagged:
            self.tags.refuse(item.key, done.untagged)
        if done.unread:
            self.tags.not_read(item.key, done.unread)
        with self._lock:
            self.copied += 1
            self.bytes += done.size
            self._proved += done.proved
            if done.doubtful:
                self._doubtful.append(item.key)
            if len(self._touched) <= self._few:
                self._touched.append(item.key)
            if self._progress.due():
                self._log(f"copied {self.copied} of {total} objects, {human(self.bytes)}")

    def look_at_properties(self, last: Optional[Point]) -> None:
        """Of what was not copied just now a lock may have changed; all else of it changes with the object alone, and is
        on record, where the last backup kept records of that."""
        locked = bool(self.settings.values.get(s3_settings.LOCK))
        if locked:
            self._may_see_locks()
        if locked or last is None or last.held.properties is None:
            throttle.each(lambda one: self._look_again(*one), self.state.unlooked(), self._config.objects.transfers)

    def sweep(self, last: Optional[Point]) -> None:
        """Read this night's share of the tags again: they change without the object."""
        before = last.manifest.finished_at.timestamp() if last else time.time()
        objects = self._config.objects
        self.tags.run(objects.tags_days, before, objects.transfers, exact=self._exact)
        self.tags.warn()

    def _may_see_locks(self) -> None:
        """A key without the right to see locks is told of none."""
        key = self.state.any_key()
        denied = []
        for what, request in (("object retention", "retention"), ("object legal hold", "legal-hold")):
            try:
                if key:
                    self.source.ask("GET", key, {request: ""}, attempted=copier.READ)
            except LifeboatError as exc:
                denied += [what] if copier.denied(exc) else []  # of an object that has none it is an error too
        self.settings = replace(self.settings, denied=(*self.settings.denied, *denied))

    def _look_again(self, item: Object, vault_version: str, line: str) -> None:
        version = self._version(item)
        query = {"versionId": version} if version not in ("", NULL) else {}
        try:
            found = properties.from_headers(
                self.source.ask("HEAD", item.key, query, properties.ASK, attempted=copier.READ).headers
            )
        except LifeboatError as exc:
            if not (isinstance(exc, NotFoundError) or copier.denied(exc) or copier.refused(exc)):
                raise
            return  # what is on record of it stays
        before = properties.parse(line)
        found = replace(found, lost=before.lost)
        if found.encryption and found.encryption == before.encryption:
            found = replace(found, clear=before.clear)
        elif found.encryption:
            copy = self.vault.ask("HEAD", item.key, {"versionId": vault_version}, attempted=copier.READ)
            found = replace(found, clear=not properties.encryption(copy.headers))
        self.state.seen(item.key, found.encoded)

    def _remove(self, key: str) -> None:
        """A delete marker: every version stays."""
        self.vault.ask("DELETE", key, attempted="put a delete marker")
        with self._lock:
            self.removed += 1

    def confirm(self, numbers: Numbers) -> None:
        """See in the vault's own answers that it holds what it was sent, under the very name."""
        if not numbers.copy and not numbers.alike:
            return  # the listing that was read is the vault's answer
        if len(self._touched) > self._few:
            self.state.read_vault(bucket.versions(self.vault))
        else:
            throttle.each(self._see, self._touched, self._config.objects.transfers)
        self.state.compare()

    def _see(self, key: str) -> None:
        if any(pattern.search(key) for pattern, _example in _ODD.values()):
            listed = bucket.versions(self.vault, key)
            found = [version for version in listed if version.key == key and version.latest][:1]
        else:
            found = []
            with contextlib.suppress(NotFoundError):  # it took the object and does not have it
                head = self.vault.ask("HEAD", key, attempted=copier.WRITE)
                found = [Version(key, head.size, head.etag, head.modified, head.version)]
                self._see_headers(key, head.headers)
        self.state.put_vault(key, found)

    def _see_headers(self, key: str, held: Mapping[str, str]) -> None:
        """What the vault's copy has of the headers that it was given."""
        line, headers = self.state.noted(key)
        known = properties.parse(line)
        lost = properties.lost(dict(properties.pairs(headers or "")), held)
        if lost != known.lost:
            self.state.seen(key, replace(known, lost=lost).encoded)
