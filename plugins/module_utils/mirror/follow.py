# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow the objects of a store between two backups: one look, then the end; a timer starts the next.

The current objects of each bucket are listed and held against what is known: the newest backup that was of an instant
which the looks before this one reached, with all changes since. Only of a key that differs the versions are listed. So
a look that never was, or was killed, leaves no hole: the next one finds the same, with the times of the versions.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import NamedTuple, Optional, Union

from ..base import clock, filesystem, lock, throttle, typed
from ..base.checks import FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, LockedError, Log, NotFoundError, UsageError
from ..base.text import named
from ..recovery import state as recovery_state
from ..repository import catalog, copies, notes, relay, repositories
from ..repository.base import MANIFEST, dated
from ..repository.components import CHANGES, OBJECTS
from ..repository.details import SPAN_PIECES, ObjectsDetails
from ..repository.notes import Entry
from ..repository.relay import Relay
from ..s3 import bucket, copier
from ..s3.bucket import TRUST, Bucket, Doubts, Listed, Version, Watch
from ..s3.copier import Copier, Shared
from ..s3.inventory import Inventory
from ..settings.config import Config
from ..settings.parts import LocalSettings
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import age
from . import changes, guard, sides, store
from .changes import HOUR, MARGIN, Change, Note, Reached, Trail
from .listing import Point, RawEntry

FOLLOW = "follow the objects"
LEDGER, CHECK = "changes.json", "object changes"
SENT, OFF_THE_HOST = "changes-sent-vault.json", "object changes off the host"
TIMES = 20  # a look is taken at most once in so many times as long as the last one took
_BATCH = 500  # changes that one note names, so that a long way to catch up is noted on the way
_BATCH_BYTES = 4 << 20
_FEW = 3  # backups, back from the newest one, whose changes are read
_OLDER = 30  # backups that are looked into for what the newest does not have
_KEYS = 100  # that are asked for their versions at once
_PAST = 1000  # versions of one key that are copied at once
_PAGE = 1000  # versions that one answer lists: to read them all costs nothing more
_TRIES, _PAUSE = 3, 0.2  # SeaweedFS lists a version a moment before it is the latest
_MILLISECOND, _EPOCH = timedelta(milliseconds=1), datetime(1970, 1, 1, tzinfo=timezone.utc)
_TABLES = {
    "known": "key TEXT PRIMARY KEY, size INT, etag TEXT, modified INT, version TEXT",
    "current": "key TEXT PRIMARY KEY, size INT, etag TEXT, modified INT",
    # What a newer backup has copied meanwhile.
    "copied": "key TEXT, version TEXT, vault_version TEXT, vault_etag TEXT, PRIMARY KEY (key, version)",
}
# Servers tell times in several ways, so that of two the coarser one counts.
_SAME = (
    "k.size = c.size AND k.etag = c.etag AND (k.modified = c.modified OR (k.modified / 1000 = c.modified / 1000"
    " AND (k.modified % 1000 = 0 OR c.modified % 1000 = 0)))"
)
_DIFFERING = (
    "SELECT c.key, k.modified, k.version FROM current c LEFT JOIN known k ON k.key = c.key"
    f" WHERE k.key IS NULL OR NOT ({_SAME})"
)
_GONE = "SELECT key, modified, version, size, etag FROM known WHERE key NOT IN (SELECT key FROM current)"


@dataclass(frozen=True)
class Ledger:
    """What the last look found. begun_at: when it began. listing_seconds: what it took to see what changed."""

    begun_at: datetime
    reached: Reached
    listing_seconds: float = 0.0
    objects: int = 0
    changes: int = 0
    span: str = ""
    left: Mapping[str, str] = field(default_factory=dict)  # by bucket: why it could not be followed


def ledger(config: Config) -> Optional[Ledger]:
    try:
        return typed.maybe(Ledger, filesystem.read_plain(config.state / LEDGER))
    except OSError:
        return None


def remember(config: Config, state: Ledger) -> None:
    data = json.dumps(typed.plain(state, nulls=True), indent=1).encode() + b"\n"
    filesystem.remember(config.state / LEDGER, data, attempted="remember what was followed")


@dataclass(frozen=True)
class Copied(relay.Copied):
    """reached: every change of the buckets before that is in the spans there, as Reached says."""

    reached: Optional[Reached] = None


# The next look waits for it: so a pass has a few seconds, and the next one goes on.
RELAY = Relay(CHANGES, SENT, Copied, Note, lambda config: config.objects.bandwidth, seconds=5.0)


def copied(config: Config) -> Optional[Copied]:
    """What this host remembers of the spans in the vault of today; None where nothing was sent there."""
    return RELAY.known(config)


def push(run: Opened, log: Log) -> None:
    """Send on to the vault what it lacks of what was noted. Asks it nothing where it lacks nothing, and raises nothing
    where it fails: that is in its own ledger."""
    state = ledger(run.config)
    if state is None:
        return
    try:
        with lock.held(f"{run.config.stack}.changes", "send the changes to the vault"):
            closed = repositories.repository_of(run).read_file(CHANGES, state.span, MANIFEST) is not None
            RELAY.push(run, log, "" if closed else state.span, state.reached)
    except LockedError:
        pass  # another look sends them
    except LifeboatError as exc:
        log(f"not in the vault: {exc}")


def interval(config: Config, state: Optional[Ledger]) -> float:
    """Seconds from one look to the next."""
    return max(config.objects.changes_seconds, TIMES * (state.listing_seconds if state else 0.0))


def allowed(config: Config, state: Optional[Ledger]) -> float:
    """How old the newest instant may be, in seconds: that of three looks, and two minutes."""
    return 3 * interval(config, state) + 120


def checked(config: Config, now: datetime) -> Iterator[Check]:
    """Whether the newest instant is young enough; nothing where objects are not to be followed."""
    if not config.objects.changes_seconds or config.mirrored_elsewhere:
        return
    state = ledger(config)
    if state is None:
        yield Check(CHECK, FAIL, "nobody looked yet: lifeboat backup objects, then lifeboat changes enable")
        return
    age, most = (now - state.reached.at).total_seconds(), allowed(config, state)
    left = "; ".join(f"not of the bucket {named(name)}: {why}" for name, why in state.left.items())
    words = f"every change before {format_time(state.reached.at)} is written down"
    good = -60 <= age <= most and not left
    yield Check(CHECK, PASS if good else FAIL, "; ".join(filter(None, (words, left))), round(age, 1), most, "s")
    if copies.configured(config):
        yield _off_the_host(config, state, now)


def _off_the_host(config: Config, state: Ledger, now: datetime) -> Check:
    """By what was sent to the vault, which is not asked: that is done after each look."""
    copy = copied(config)
    if copy is None or copy.reached is None:
        failed = f": {copy.failed}" if copy and copy.failed else ""
        return Check(OFF_THE_HOST, FAIL, f"nothing is in {copies.location(config)} yet{failed}")
    age, most = (now - copy.reached.at).total_seconds(), allowed(config, state)
    words = f"every change before {format_time(copy.reached.at)} is written down in {copy.location}"
    failed = f"the last attempt failed: {copy.failed}" if copy.failed else ""
    good = -60 <= age <= most and not copy.lacks
    text = "; ".join(filter(None, (words, failed, copy.lacks)))
    return Check(OFF_THE_HOST, PASS if good else FAIL, text, round(age, 1), most, "s")


def is_due(config: Config, now: datetime) -> bool:
    """Whether it is time for the next look. A clock that went back is no reason to wait."""
    state = ledger(config)
    if state is None:
        return True
    seconds = (now - state.begun_at).total_seconds()
    return not 0 <= seconds < interval(config, state) - 1


def refuse(run: Opened, doubts: Doubts = TRUST) -> None:
    """Raise UsageError where objects cannot be followed, with the reason. Asks the store."""
    config = run.config
    cause, remedy = _obstacle(config)
    if not cause:
        source, vault = buckets.source(run), buckets.vault(run)
        guard.require_vault(source, vault)
        cause = guard.unversioned(source) or doubts.times
        remedy = "Switch the bucket's versions on, or leave lifeboat_objects.changes_seconds at 0: docs/continuous.md."
    if cause:
        raise UsageError(FOLLOW, config.stack, cause, remedy)


def _obstacle(config: Config) -> tuple[str, str]:
    objects = config.objects
    if not objects.bucket or not objects.changes_seconds:
        return "lifeboat_objects.changes_seconds is 0", "Set it, such as to 60, and run lifeboat.dr.deploy."
    if config.mirrored_elsewhere:
        return "a keeper mirrors the store, and this host has no key to the vault", "Use lifeboat_vault.mode: push."
    if objects.engine != "lifeboat":
        return "it is mirrored by mc, which copies no versions", "Use lifeboat_objects.engine: lifeboat."
    if not isinstance(config.repository, LocalSettings):
        remedy = "Use lifeboat_repository: {type: local, …}, with the bucket as lifeboat_vault."
        return "the repository is a bucket, and changes are written to a directory of this host only", remedy
    if config.vault.noncurrent_days <= config.wal.window_days:
        days = f"{config.vault.noncurrent_days} days, and the window is {config.wal.window_days} days"
        return f"the vault forgets old versions after {days}", "Set lifeboat_vault.noncurrent_days to more than that."
    return "", ""


def follow(run: Opened, *, log: Log, doubts: Doubts = TRUST, wait: float = 0) -> Ledger:
    """Look once, whether it is time or not; wait up to `wait` seconds for a mirror or another look that is going on.
    Raises LifeboatError where the application's bucket cannot be followed; another one that cannot is named in what is
    returned."""
    refuse(run, doubts)
    recovery_state.refuse_while_unfinished(run.config, FOLLOW, (recovery_state.RECOVERING_OBJECTS,))
    with lock.mirroring(run.config.stack, FOLLOW, wait=wait):
        return _Pass(run, log).run()


class _Known(NamedTuple):
    """What is known of a key. modified: in milliseconds since 1970."""

    modified: int
    version: str


class _Item(NamedTuple):
    """A key that differs. gone: size and ETag of what is not listed any more."""

    key: str
    known: Optional[_Known]
    gone: Optional[tuple[int, str]] = None


class _Base(NamedTuple):
    """A bucket, and what it is held against. newest: the newest backup, where it is another one. fresh: nobody followed
    it before, or a backup of that time is gone."""

    name: str
    point: Point
    newest: Point
    fresh: bool


class _Pass:
    """One look. The caller holds the lock of the mirror."""

    def __init__(self, run: Opened, log: Log) -> None:
        self.run_of, self.config, self.log = run, run.config, log
        self.repo = repositories.repository_of(run)
        self.repo.check(writable=True)
        self.source, self.vault = buckets.source(run), buckets.vault(run)
        self.seal, self.keys = age.sealing(self.config, log), age.keys(self.config, run.key)
        self.started = clock.parse_time(format_time(clock.now()))  # as it is written
        lead = bucket.lead(self.source)
        # A header tells whole seconds: what may be none is taken for none.
        least, most = lead or (0.0, 0.0)
        self.skew = 0.0 if least <= 0 <= most else round(least if least > 0 else most, 3)
        if abs(self.skew) > guard.MAX_SKEW:
            remedy = "Set both clocks (timedatectl), then try again."
            raise UsageError(FOLLOW, self.source.url, f"its clock is {self.skew:+.0f} s off this host's", remedy)
        self.trail = self._read_trail()
        changes.warn(self.trail, log)
        last = self.trail.spans[-1].details if self.trail.spans else None
        self.before = Reached(last.last_at, last.behind) if last else None
        self.unreached = Reached(self.started)
        self.chain: list[tuple[Note, str]] = []  # of the open span
        self.pending: list[Change] = []
        self.since: dict[str, datetime] = {}
        self.objects = self.changes = self.copied = self.bytes = 0
        self.looked = 0.0
        self._lock = threading.Lock()

    @property
    def mirror(self) -> dict[str, str]:
        """Where versions are copied to."""
        return {"endpoint": self.vault.endpoint_url, "bucket": self.vault.name}

    def _read_trail(self, *, whole: bool = False) -> Trail:
        """Of a window of weeks only what the last few backups lead to; all of it where that is not enough."""
        ids = self.repo.published(OBJECTS)
        self._read_since = None if whole or len(ids) <= _FEW else dated(ids[-_FEW])
        trail = Trail.read(self.repo, self.config.stack, self._read_since)
        return trail if trail.spans or self._read_since is None else self._read_trail(whole=True)

    def run(self) -> Ledger:
        bases = self._bases()
        if self._read_since and any(base.point.at < self._read_since for base in bases):
            self.trail = self._read_trail(whole=True)
        self._resume()
        self.unreached = self._unreached(bases)
        self.since.update({base.name: base.point.at for base in bases if base.fresh})
        behind: dict[str, Optional[datetime]] = {}
        left: dict[str, str] = {}
        failed: list[LifeboatError] = []
        for base in bases:
            try:
                done = self._follow(base)
            except LifeboatError as exc:
                self.log(f"the bucket {named(base.name)} is not followed: {exc}")
                left[base.name], done = exc.cause, False
                failed += [exc] if not base.point.bucket else []
            if not done:
                left.setdefault(base.name, "it changed while it was looked at, or an object could not be copied")
                behind[base.name] = None if base.fresh else self.trail.end(base.name)
        if failed and len(behind) == len(bases):
            if self.pending:
                self._flush(self.unreached)
            raise failed[0]
        self._flush(Reached(self.started, behind))
        state = Ledger(
            self.started, Reached(self.started, behind), round(self.looked, 3), self.objects, self.changes,
            self.chain[-1][0].id, left,
        )  # fmt: skip
        remember(self.config, state)
        self._close_due()
        if failed:
            raise failed[0]
        return state

    def _unreached(self, bases: Sequence[_Base]) -> Reached:
        """What was reached before this look."""
        if self.before is None:
            return Reached(self.started, dict.fromkeys(base.name for base in bases))
        fresh = {base.name: None for base in bases if base.fresh}
        return Reached(self.before.at, {**self.before.behind, **fresh})

    # What is known.

    def _bases(self) -> list[_Base]:
        """Each bucket that backups hold. What changed between the last look and a backup that was taken since is in no
        line yet: so the one that is not newer than the last look counts."""
        newest: dict[str, Point] = {}
        chosen: dict[str, Point] = {}
        waiting: set[str] = set()
        for identity in list(reversed(self.repo.published(OBJECTS)))[:_OLDER]:
            entry = catalog.entry(self.repo, OBJECTS, identity)
            if not entry.sound or entry.manifest is None or entry.manifest.stack != self.config.stack:
                continue
            if not newest:
                missing = entry.manifest.detailed(ObjectsDetails).missing
                waiting = {name for name in missing if store.is_selected(self.config.objects, name)}
            for point in Point(self.repo, entry.manifest, keys=self.keys).points():
                name = point.held_bucket.name
                if point.bucket and not store.is_selected(self.config.objects, name):
                    continue
                if not point.bucket and name != self.config.objects.bucket:
                    continue
                newest.setdefault(name, point)
                end = self.trail.end(name)
                if end is not None and point.at <= end:
                    chosen.setdefault(name, point)
            waiting -= {*newest}
            if newest and not waiting and all(name in chosen or self.trail.end(name) is None for name in newest):
                break
        if self.config.objects.bucket not in newest:
            cause = "no backup of the objects is there, which they could be held against"
            raise NotFoundError(FOLLOW, self.config.stack, cause, "Take one: lifeboat backup objects.")
        return [_Base(name, chosen.get(name, point), point, name not in chosen) for name, point in newest.items()]

    # One bucket.

    def _follow(self, base: _Base) -> bool:
        """Whether all that changed in it is written down."""
        name = base.name
        source = self.source if not base.point.bucket else self.source.sibling(name)
        vault = self.vault
        if base.point.bucket:
            vault = vault.sibling(buckets.suffixed(self.config, name))
            guard.require_place(self.config, source, vault)
            if why := guard.unversioned(source):
                raise UsageError(FOLLOW, source.url, why, "Rows alone can be had of an instant: docs/continuous.md.")
        return _BucketPass(self, base, source, vault).run()

    def count(self, size: int) -> None:
        """A version was copied, by one of many threads."""
        with self._lock:
            self.copied += 1
            self.bytes += size

    def note(self, several: Sequence[Change]) -> None:
        """Changes of one key, oldest first."""
        self.pending += several
        if len(self.pending) >= _BATCH:
            self._flush(self.unreached)

    # The span.

    def _resume(self) -> None:
        """Go on with the open span, or close it: of other keys, another store, or one that is not the last."""
        for identity in self.repo.growing(CHANGES):
            try:
                chain = changes.read_notes(self.repo, identity, self.config.stack) if self._noted(identity) else []
            except LifeboatError as exc:
                self.log(f"{identity} is left as it is: {exc.cause}")
                continue
            if not chain:
                self.repo.delete(CHANGES, identity)  # no note names what is in it
                continue
            if self.chain:
                self._close()
            self.chain = chain
        if self.chain and self._another():
            self._close()
        self.since = dict(self.chain[-1][0].since) if self.chain else self._carried()

    def _noted(self, identity: str) -> bool:
        return bool(self.repo.notes(CHANGES, identity))

    def _another(self) -> bool:
        first = self.chain[0][0]
        here = (self.source.endpoint_url, self.mirror, self.seal.recipients, self.seal.host)
        return (first.endpoint, dict(first.vault), first.recipients, first.host_key) != here

    def _carried(self) -> dict[str, datetime]:
        """Where a new span goes on earlier than where the one before it ended."""
        behind = self.before.behind if self.before else {}
        return {name: at for name, at in behind.items() if at is not None}

    def _flush(self, reached: Reached) -> None:
        """Write what is pending, a note for each batch, the last of which reaches that."""
        while True:
            size, count = 0, 0
            while count < min(len(self.pending), 2 * _BATCH) and size < _BATCH_BYTES:
                size, count = size + len(self.pending[count].encoded), count + 1
            several, self.pending = self.pending[:count], self.pending[count:]
            self._write(several, self.unreached if self.pending else reached)
            if not self.pending:
                return

    def _write(self, several: Sequence[Change], reached: Reached) -> None:
        first = self.chain[0][0] if self.chain else None
        identity = first.id if first else catalog.free_id(self.repo, CHANGES, self.started)
        entries = self._files(identity, several) if several else []
        done, self.copied, copied_bytes, self.bytes = self.copied, 0, self.bytes, 0
        apart = (self.started - self.before.at).total_seconds() if self.before else 0.0
        note = Note(
            identity, self.config.stack, len(self.chain) + 1, reached,
            first.from_at if first else (self.before.at if self.before else self.started), dict(self.since),
            tuple(entries), self.source.endpoint_url, self.mirror, self.skew, len(several), done, copied_bytes,
            round(self.looked, 3), round(max(0.0, apart), 3), self.seal.recipients, self.seal.host,
            self.chain[-1][1] if self.chain else "",
        )  # fmt: skip
        key = self.config.signing_key
        data = notes.to_bytes(note, self.repo.identity() if key else "", key)
        self.repo.add(CHANGES, identity, notes.note_name(note.number), data)
        self.chain.append((note, notes.digest(data)))
        self.changes += len(several)

    def _files(self, identity: str, several: Sequence[Change]) -> list[Entry]:
        """The lines, and where they are encrypted what everybody may know of them. Names that a killed look used for
        what no note names are passed over."""
        plain = changes.packed(several)
        stored = io.BytesIO()
        self.seal.write(gzip.compress(plain, 6, mtime=0), stored, subject=identity)
        number = 1 + sum(len(note.pieces) for note, _digest in self.chain)
        while not self.repo.grow(CHANGES, identity, self.seal.named(f"{number:06d}.jsonl.gz"), stored.getvalue()):
            number += 1
        name = self.seal.named(f"{number:06d}.jsonl.gz")
        entries = [Entry(name, len(stored.getvalue()), filesystem.sha256(stored.getvalue()), len(plain))]
        clear = changes.needed(several) if self.seal.recipients else b""
        if clear:
            beside = gzip.compress(clear, 6, mtime=0)
            name = f"{number:06d}.versions.jsonl.gz"
            self.repo.add(CHANGES, identity, name, beside)
            entries.append(Entry(name, len(beside), filesystem.sha256(beside), len(clear)))
        return entries

    def _close_due(self) -> None:
        if not self.chain:
            return
        first = self.chain[0][0]
        many = sum(len(note.pieces) for note, _digest in self.chain) >= SPAN_PIECES
        if many or len(self.chain) >= notes.MOST_NOTES - 2 * _BATCH or clock.now() - dated(first.id) >= HOUR:
            self._close()

    def _close(self) -> None:
        """Write the manifest of the open span, from what its notes say."""
        span = changes.of_notes(self.chain)
        span = replace(span, details=replace(span.details, host=socket.gethostname()))
        if self.repo.read_file(CHANGES, span.id, MANIFEST) is None:
            manifest = span.manifest(clock.now())
            repositories.publish(self.run_of, manifest, lambda data: self.repo.finish(CHANGES, span.id, data))
            self.log(f"{span.id}: closed, {span.details.changes} changes until {format_time(span.details.last_at)}")
        self.chain = []


class _BucketPass:
    """One bucket: what differs, copied and written down."""

    def __init__(self, whole: _Pass, base: _Base, source: Bucket, vault: Bucket) -> None:
        self._whole, self._base, self._source, self._vault = whole, base, source, vault
        self._config, self._log = whole.config, whole.log
        self._skew = timedelta(seconds=whole.skew)
        self._listed_at = whole.started + self._skew
        self._unsure: list[str] = []
        self._refused: list[str] = []
        self._left = 0

    def run(self) -> bool:
        whole, base = self._whole, self._base
        began = time.monotonic()
        with Inventory(_TABLES) as inventory:
            known = changes.as_of(base.point, whole.trail, None)
            inventory.add("known", (_row(entry) for entry in known.lines()))
            whole.objects += self._list(inventory)
            sums = (inventory.value(f"SELECT count(*) FROM ({several})") for several in (_DIFFERING, _GONE))
            if sum(map(int, sums)) and base.newest.id != base.point.id:
                inventory.add("copied", (_vault_row(entry) for entry in base.newest.lines()))
            whole.looked += time.monotonic() - began
            shared = Shared(throttle.parse_rate(self._config.objects.bandwidth), self._config.objects.transfers)
            with Copier(self._source, self._vault, shared, for_owner=True) as moving:
                self._bring(moving, inventory)
        if self._left:
            self._log(f"{self._left} keys of {named(base.name)} with odd names are left to the next mirror")
        if self._refused:
            self._log(f"WARNING: {len(self._refused)} objects could not be copied, first {self._refused[0]}")
        return not (self._unsure or self._refused)

    def _list(self, inventory: Inventory) -> int:
        """The current objects. SeaweedFS lists them in another order where one key begins another, so that some may be
        missing, and every version in order. Raises LifeboatError where neither listing is to be believed."""
        order = ""
        for listed in (bucket.objects, bucket.versions):
            watch = Watch(datetime.now(timezone.utc) + self._skew - bucket.SETTLED)
            inventory.change("DELETE FROM current")
            found = (each for each in listed(self._source, watch=watch) if each.latest and not each.deleted)
            count = inventory.add(
                "current", ((each.key, each.size, each.etag, _milliseconds(each.modified)) for each in found)
            )
            if not watch.order:
                self._unsure += watch.topless  # on its way
                self._left += len(watch.unread)
                return count
            order = watch.order
        raise LifeboatError(FOLLOW, self._source.url, f"its listing is not to be believed: {order}", "Try again later.")

    def _differing(self, inventory: Inventory) -> Iterator[_Item]:
        out = store.left_out(self._config.objects, self._base.name)
        for key, modified, version in inventory.each(f"{_DIFFERING} ORDER BY c.key"):
            if store.outside(key, out):
                continue
            if version is None and (sides.odd(key) or "\ufffd" in key):
                self._left += 1  # whether the vault keeps such a name is found out by the mirror
                continue
            yield _Item(key, None if version is None else _Known(modified, version))
        for key, modified, version, size, etag in inventory.each(f"{_GONE} ORDER BY key"):
            if not store.outside(key, out):
                yield _Item(key, _Known(modified, version), (size, etag))

    def _bring(self, moving: Copier, inventory: Inventory) -> None:
        """As they come: of a store that was wiped each key differs."""
        items = self._differing(inventory)
        while batch := list(itertools.islice(items, _KEYS)):
            changed: dict[str, list[Change]] = {}
            throttle.each(partial(self._bring_key, changed, moving, inventory), batch, self._config.objects.transfers)
            for item in batch:
                self._whole.note(changed.get(item.key, []))

    def _bring_key(self, changed: dict[str, list[Change]], moving: Copier, inventory: Inventory, item: _Item) -> None:
        changed[item.key] = list(self._changes(moving, inventory, *item))

    def _changes(
        self, moving: Copier, inventory: Inventory, key: str, known: Optional[_Known], gone: Optional[tuple[int, str]]
    ) -> Iterator[Change]:
        """What became of one key since it was known, oldest first."""
        name, past = self._base.name, self._past(key, empty=gone is not None)
        if past is None:
            self._unsure.append(key)
            return
        top = past[0] if past else None
        if gone and (top is None or not top.deleted):
            # Not listed: deleted with its versions, or hidden, as MinIO hides `a/b` behind `a`.
            hidden = self._hidden(key)
            if hidden and (hidden.size, hidden.etag) == gone:
                return
            if hidden or top:
                past, top = [hidden] if hidden else past, hidden or top
        if top is None:
            yield Change(name, self._listed_at, Listed(key, 0, "", self._listed_at), deleted=True)
            return
        for version in reversed(self._newer(past, known)):
            at = version.modified
            if known and version is top and _milliseconds(at) < known.modified:
                at = self._listed_at  # what replaced it was removed with its version
            if version.deleted:
                marker = Listed(key, 0, "", version.modified, version.version)
                yield Change(name, at, marker, deleted=True)
            elif entry := self._copy(moving, inventory, version):
                yield Change(name, at, entry)

    def _past(self, key: str, *, empty: bool) -> Optional[list[Version]]:
        """Its versions, the newest first; None where the server does not tell which is the latest. empty: there may be
        none, as it is not listed any more."""
        for attempt in range(_TRIES):
            time.sleep(_PAUSE if attempt else 0)
            past: list[Version] = []
            for number, version in enumerate(bucket.versions(self._source, key)):
                # SeaweedFS lists `a-1` and `a b` before `a`: no other key says that this one does not follow.
                if version.key == key:
                    past.append(version)
                if len(past) == _PAST or (past and version.key != key and number >= _PAGE):
                    break
            if any(version.latest for version in past) or (empty and not past):
                return sorted(past, key=lambda version: not version.latest)  # stays as it was but for that
        return None

    def _newer(self, past: Sequence[Version], known: Optional[_Known]) -> list[Version]:
        """Those that are not known yet, the newest first; of a key that was not there those since the last look."""
        if known:
            place = next((number for number, each in enumerate(past) if each.version == known.version), None)
            if place is not None and known.version != "null":
                return list(past[:place])
            return [each for each in past if each is past[0] or _milliseconds(each.modified) > known.modified]
        end = None if self._base.fresh else self._whole.trail.end(self._base.name)
        since = (end or self._base.point.at) + self._skew - MARGIN
        return [each for each in past if each is past[0] or each.modified > since]

    def _hidden(self, key: str) -> Optional[Version]:
        """What the server gives, although it does not list it."""
        try:
            head = self._source.ask("HEAD", key, attempted=copier.READ)
        except NotFoundError:
            return None
        return Version(key, head.size, head.etag, head.modified, head.version)

    def _copy(self, moving: Copier, inventory: Inventory, version: Version) -> Optional[Listed]:
        """The version in the vault; None where it cannot be had any more."""
        key = version.key
        rows = inventory.each(
            "SELECT vault_version, vault_etag FROM copied WHERE key = ? AND version = ?", key, version.version
        )
        for vault_version, vault_etag in rows:  # its headers and tags are the vault's
            return Listed(key, version.size, version.etag, version.modified, version.version, vault_version, vault_etag)
        try:
            done = moving.copy(key, version.size, version.etag, version.version)
        except LifeboatError as exc:
            if isinstance(exc, NotFoundError) and exc.attempted == copier.READ:
                return None  # removed since it was listed
            why = copier.refusal(exc)
            if not why:
                raise
            self._refused.append(f"{key!r}: {why}")
            return None
        self._whole.count(done.size)
        at = datetime.fromtimestamp(done.record.tags_at, timezone.utc) if done.record.tags is not None else None
        return Listed(
            key, done.size, done.etag, version.modified, version.version, done.target_version, done.target_etag,
            done.sha256, done.properties.encoded, done.record.headers, done.record.tags, at, None, version.storage,
        )  # fmt: skip


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _row(entry: Union[RawEntry, Listed]) -> tuple[str, int, str, int, str]:
    if isinstance(entry, RawEntry):
        return entry.key, entry.size, entry.etag, _milliseconds(clock.parse_time(entry.modified)), entry.version
    return entry.key, entry.size, entry.etag, _milliseconds(entry.modified or _EPOCH), entry.version


def _vault_row(entry: Union[RawEntry, Listed]) -> tuple[str, str, str, str]:
    return entry.key, entry.version, entry.vault_version, entry.vault_etag
