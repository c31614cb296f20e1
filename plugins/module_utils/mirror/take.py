# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirror the stack's bucket to the vault, as it was at the instant of the newest database backup.

The vault's bucket is versioned, and nothing in it is ever deleted here but by a delete marker. Only what differs is
copied; the listing that is published says of every object which version of the vault's holds it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import re
import secrets as token
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Optional

from ..base import throttle, typed
from ..base.clock import format_time
from ..base.errors import LifeboatError, LockedError, Log, NotFoundError
from ..base.filesystem import explained
from ..base.text import human
from ..base.version import VERSION
from ..recovery import state as recovery_state
from ..repository import base as repository_base
from ..repository import catalog, checksums, repositories
from ..repository.base import STALE
from ..repository.details import ObjectsDetails
from ..repository.manifest import Manifest
from ..repository.points import EVENTUAL
from ..s3 import bucket, copier
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Listed, Version, Watch
from ..s3.copier import Copied, Copier
from ..s3.signed import NULL
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from . import guard, identities, listing, mc, store
from .guard import Instant
from .listing import Point
from .state import Numbers, Object, State

JOURNAL = "mirror.jsonl"
SHOWN = 1000  # keys named in a manifest
_FEW = 20  # where at most one key in so many changed, those are looked at one by one instead of listing all
_FEWEST = 50
ASKED = 1000  # of the objects that are to be removed: at most so many are asked for, one by one, before it
SETTLED = timedelta(seconds=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OTHER_ETAGS = 10
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
_PROBE = ".lifeboat-name-"


def take(run: Opened, *, log: Log, override: bool = False) -> Manifest:
    """Bring the vault's mirror up to date and publish an objects backup. The caller holds the stack's lock.

    Raises LifeboatError; whatever fails, nothing is published, and what was copied need not be copied again. Objects
    that the vault cannot hold do not stop the others: they are named in details.unheld, and that is never a success.
    """
    config = run.config
    started, now = time.monotonic(), datetime.now(timezone.utc)
    repo = _open(run, writable=True)
    repo.sweep(older_than=STALE, now=now)
    source, vault = buckets.source(run), buckets.vault(run)
    guard.require_vault(source, vault)
    try:
        guard.sweep(vault, STALE, now)
    except LifeboatError as exc:  # they cost a little; a mirror not taken costs more
        log(f"unfinished uploads in the vault were not swept: {exc}")
    instant = guard.choose_instant(config, repo, source, now, log)
    identity = catalog.free_id(repo, "objects", now)
    seen = store.look(run)
    with State(config.state / JOURNAL) as state:
        work = _Mirror(config, source, vault, state, instant, log)
        ambiguous = work.look(repo)
        instant, numbers = work.instant, state.numbers()
        guard.guard(config, source, vault, numbers, override)
        log(
            f"{identity}: {numbers.source} objects as of {format_time(instant.at or now)} ({instant.consistency});"
            f" {numbers.copy} to copy ({human(numbers.bytes)}), {numbers.alike} to compare, {numbers.removed} to remove"
        )
        work.bring(numbers)
        work.confirm(numbers)
        held = identities.take(run, identity, override=override, log=log)
        count, unheld = state.unheld_rows(SHOWN)
        with repo.stage("objects", identity) as staging, explained("write the listing", staging.path):
            summary = listing.write(staging.path / listing.NAME, state.listing())
            if count and not summary.objects:
                raise LifeboatError(
                    "mirror the bucket", vault.url, f"it holds none of {count} objects; the first: {unheld[0].why}",
                    "Look at the vault's log, and at what its key may do.",
                )  # fmt: skip
            details = ObjectsDetails(
                bucket=source.name,
                endpoint=source.endpoint_url,
                host=socket.gethostname(),
                versioned=instant.at is not None,
                consistency=instant.consistency,
                why=instant.why,
                database_backup=instant.database_backup,
                objects=summary.objects,
                bytes=summary.bytes,
                digest=summary.digest,
                copied=work.copied,
                copied_bytes=work.bytes,
                removed=work.removed,
                unheld=tuple(unheld),
                unheld_count=count,
                ambiguous=ambiguous,
                clock_skew=instant.skew,
                engine=config.objects.engine,
                weaknesses=tuple(mc.WEAKNESSES) if config.objects.engine == "mc" else (),
                settings=work.settings.values,
                settings_denied=work.settings.denied,
                vault={"endpoint": vault.endpoint_url, "bucket": vault.name},
                identities=held,
                seconds=round(time.monotonic() - started, 2),
                unprotected=seen.unprotected,
                excluded=seen.excluded,
                unlisted=seen.unlisted,
            )
            manifest = Manifest(
                id=identity, component="objects", stack=config.stack, taken_at=instant.at or now,
                finished_at=datetime.now(timezone.utc), tool={"lifeboat": VERSION},
                artefacts=(checksums.measure(staging.path / listing.NAME, listing.NAME),),
                details=typed.plain(details, nulls=True),
            )  # fmt: skip
            staging.publish(manifest.to_bytes())
        state.published()
    log(
        f"{identity}: published, {summary.objects} objects, {human(summary.bytes)}; {work.copied} copied,"
        f" {work.removed} removed in {details.seconds} s"
    )
    for gap in details.left:
        log(f"NOT in this backup: {gap.what}: {gap.why}")
    if count:
        log(f"WARNING: the vault does not hold {count} objects, the first is {unheld[0].key!r}: {unheld[0].why}")
    return manifest


@dataclass(frozen=True)
class Preview(Numbers):
    """What take() would do now."""

    taken_at: datetime
    consistency: str
    database_backup: str


def preview(run: Opened, *, log: Log, override: bool = False) -> Preview:
    """What take() would do now, with nothing changed: it raises what that would raise before its first change."""
    repo = _open(run, writable=False)
    source, vault = buckets.source(run), buckets.vault(run)
    guard.require_vault(source, vault)
    now = datetime.now(timezone.utc)
    instant = guard.choose_instant(run.config, repo, source, now, log)
    with State(run.config.state / JOURNAL) as state:
        work = _Mirror(run.config, source, vault, state, instant, log)
        work.look(repo)
        instant, numbers = work.instant, state.numbers()
    guard.guard(run.config, source, vault, numbers, override)
    return Preview(
        **vars(numbers),
        taken_at=instant.at or now,
        consistency=instant.consistency,
        database_backup=instant.database_backup,
    )


def _open(run: Opened, *, writable: bool) -> repository_base.Repository:
    for marker in (run.config.state / recovery_state.RECOVERING, run.config.state / recovery_state.RECOVERING_OBJECTS):
        if marker.exists():
            raise LockedError(
                "start a mirror", run.config.stack, f"a recovery has begun and not ended ({marker})",
                "Finish it. If the data is right as it is, remove that file.",
            )  # fmt: skip
    repo = repositories.of(run)
    repo.check(writable=writable)
    return repo


class _Mirror:
    """One run: what is to do, and what was done."""

    def __init__(self, config: Config, source: Bucket, vault: Bucket, state: State, instant: Instant, log: Log) -> None:
        self._config, self._source, self._vault, self._state, self._log = config, source, vault, state, log
        self.instant = instant  # what the mirror is of; later than asked where the source's answers do not allow that
        self._lock = threading.Lock()
        self._touched: list[str] = []  # as long as they are few
        self._few = _FEWEST
        self._progress = throttle.Progress()
        self.settings = s3_settings.Told({})
        self._proved = 0
        self._doubtful: list[str] = []
        self.copied = self.bytes = self.removed = 0

    @property
    def _exact(self) -> bool:
        return self.instant.at is not None

    def look(self, repo: repository_base.Repository) -> int:
        """Read both buckets at once, and what the last mirror knew; returns how many keys are ambiguous."""
        watch = self._watch()
        with ThreadPoolExecutor(2) as pool:
            settings = pool.submit(s3_settings.look, self._source, quick=True)
            theirs = pool.submit(self._state.read_vault, bucket.versions(self._vault, watch=watch))
            ambiguous = self._look_at_source()
            theirs.result()
            self.settings = settings.result()
        if self.settings.denied:
            denied = ", ".join(self.settings.denied)
            self._log(f"WARNING: the key may not read the bucket's {denied}, so this backup does not have them")
        if watch.order:
            self._disbelieve(f"the vault's listing is not in order: {watch.order}")
        self._state.read_copies(self._before(repo))
        self._ask_before_removal()
        count, keys = self._state.replaced()
        if count:
            self._log(
                f"WARNING: the vault holds something else in {count} versions that were copied, the first is"
                f" {keys[0]!r}: earlier backups cannot give these objects back; they are copied again"
            )
        return ambiguous

    def _look_at_source(self) -> int:
        versioned = bool(bucket.versioning(self._source))
        watch = self._watch()
        found = bucket.versions if versioned else bucket.objects
        late: list[str] = []
        listed = self._without_past(found(self._source, watch=watch), late)
        ambiguous = self._state.read_source(listed, self.instant.server)
        doubt = f"the source's listing is not in order: {watch.order}" if watch.order else watch.times
        if late:
            doubt = doubt or f"{late[0]!r} was written later and has no version, so that its past is not known"
        if doubt and self._exact:
            self.instant = Instant(None, None, EVENTUAL, why=doubt, skew=self.instant.skew)
            self._log(f"consistency is {EVENTUAL}, the bucket as it is now: {doubt}")
            again = self._watch()
            found = bucket.objects if watch.order else bucket.versions
            ambiguous = self._state.read_source(found(self._source, watch=again), None)
            watch = again
        if watch.order:
            self._disbelieve(f"the source's listing is not in order: {watch.order}")
        for key in watch.unread:
            self._state.unheld(key, "the source's listing does not tell its name")
        return ambiguous

    def _watch(self) -> Watch:
        return Watch(datetime.now(timezone.utc) + timedelta(seconds=self.instant.skew or 0) - SETTLED)

    def _without_past(self, versions: Iterator[Version], late: list[str]) -> Iterator[Version]:
        """Note what was written after the instant and has no version: what it replaced is gone. An empty folder's
        placeholder replaced nothing; SeaweedFS gives it no version."""
        at = self.instant.server
        for version in versions:
            new = at is not None and version.version == NULL and version.modified > at and not version.deleted
            if new and not late and not (version.key.endswith("/") and not version.size):
                late.append(version.key)
            yield version

    def _disbelieve(self, why: str) -> None:
        self._state.removes = False
        self._weaken(f"{why}; nothing is removed")

    def _weaken(self, why: str) -> None:
        """What was listed is mirrored, and never called a snapshot."""
        why = "; ".join(filter(None, (self.instant.why, why)))
        self.instant = dataclasses.replace(self.instant, consistency=EVENTUAL, why=why)
        self._log(f"WARNING: {why}")

    def _ask_before_removal(self) -> None:
        """Is it really not there? MinIO does not list `a/b` once there is `a`, and gives it all the same. All are asked
        for, or some at random where they are many, and all if one of these is there."""
        keys = list(self._state.to_remove())
        few = keys if len(keys) <= ASKED else random.sample(keys, ASKED)
        found = self._there(few)
        if found and len(few) < len(keys):
            found += self._there(sorted({*keys} - {*few}))
        if found:
            self._weaken(f"the source holds {len(found)} objects that it does not list, the first is {min(found)!r}")

    def _there(self, keys: Sequence[str]) -> list[str]:
        """Which of them the source holds; they become part of what it is taken to hold."""
        found: list[str] = []
        at = self.instant.server

        def ask(key: str) -> None:
            try:
                head = self._source.ask("HEAD", key, attempted=copier.READ)
            except NotFoundError:
                return
            except LifeboatError as exc:
                if not (copier.denied(exc) or copier.refused(exc)):
                    raise
                found.append(key)
                why = f"the source does not list it, and whether it is there is not known: {exc.cause}"
                self._state.unheld(key, why)
                self._state.there(Version(key, 0, "", _EPOCH))
                return
            told = head.headers.get("last-modified")
            modified = parsedate_to_datetime(told) if told else _EPOCH
            if at is not None and head.version != NULL and modified > at:
                return  # made after the instant
            found.append(key)
            self._state.there(Version(key, head.size, head.etag, modified, head.version))

        throttle.each(ask, keys, self._config.objects.transfers)
        return found

    def _before(self, repo: repository_base.Repository) -> Iterator[Listed]:
        good = catalog.good(catalog.entries(repo, "objects", self._config.stack))
        try:
            for last in good[-1:]:
                yield from Point(repo, last).entries()
        except LifeboatError as exc:
            self._log(f"compares object by object, for the last listing cannot be read: {exc}")

    def bring(self, numbers: Numbers) -> None:
        """Make the vault's current objects those of the source, and note what the vault says of them."""
        workers = self._config.objects.transfers
        rate = throttle.parse_rate(self._config.objects.bandwidth)
        self._few = max(_FEWEST, numbers.source // _FEW)
        if numbers.copy or numbers.alike:
            with Copier(self._source, self._vault, rate=rate) as moving:
                for item in list(self._odd()):
                    self._state.unheld(*item)
                if self._config.objects.engine == "mc":
                    mc.run(self._config, self._source, self._vault, log=self._log)
                    # What it copied is the vault's now; what it did not carry is seen by comparing, and carried then.
                    self._state.read_vault(bucket.versions(self._vault))
                throttle.each(lambda one: self._compare(*one), self._state.alike(), workers)
                throttle.each(lambda one: self._copy(moving, one, numbers.copy), self._state.to_copy(), workers)
        if numbers.removed:
            throttle.each(self._remove, self._state.to_remove(), workers)
        # Of a server whose ETags are never MD5s nothing is proved, and nothing can be said against one object.
        if self._proved or len(self._doubtful) < _OTHER_ETAGS:
            for key in self._doubtful:
                self._state.unheld(key, "its bytes are not those that its ETag is the MD5 of: the source is damaged")

    def _odd(self) -> Iterator[tuple[str, str]]:
        """Keys that the vault would store under another name, perhaps over another object: found out by trying."""
        holds = functools.lru_cache(maxsize=None)(self._holds)
        for item in self._state.to_copy():
            for kind, (pattern, example) in _ODD.items():
                if pattern.search(item.key) and not holds(example):
                    yield item.key, f"the vault does not keep a name with {kind}"
                    break

    def _holds(self, example: str) -> bool:
        key = example.format(_PROBE + token.token_hex(6))
        try:
            put = self._vault.ask("PUT", key, headers=copier.EMPTY, attempted=copier.WRITE)
        except LifeboatError as exc:
            if copier.refused(exc):
                return False
            raise
        try:
            return any(version.key == key for version in bucket.versions(self._vault, key))
        finally:
            # The version, and where the key may not delete versions, as it should not, at least a marker on it.
            for query in ({"versionId": put.version}, {}):
                with contextlib.suppress(LifeboatError):
                    self._vault.ask("DELETE", key, query, attempted=copier.WRITE)
                    break

    def _compare(self, item: Object, vault_version: str, vault_etag: str, sha256: Optional[str]) -> None:
        """Its bytes are right: are its headers and tags? They can be changed without the bytes."""
        same = False
        with contextlib.suppress(NotFoundError):
            ours = copier.facts(self._source, item.key, self._version(item))
            same = ours == copier.facts(self._vault, item.key, vault_version)
        if same:
            self._state.copied(item, vault_version, vault_etag, sha256)
        else:
            self._state.unlike(item.key)

    def _version(self, item: Object) -> str:
        return item.version if self._exact or item.version != NULL else ""

    def _copy(self, moving: Copier, item: Object, total: int) -> None:
        try:
            done = moving.copy(item.key, item.size, item.etag, self._version(item))
        except LifeboatError as exc:
            if isinstance(exc, NotFoundError) and exc.attempted == copier.READ and not self._exact:
                if "\ufffd" in item.key:  # or listed under a name that XML cannot say
                    self._state.unheld(item.key, "the source's listing does not tell its name")
                else:
                    self._state.vanished(item.key)  # deleted since it was listed
                return
            why = copier.refusal(exc)
            if not why:
                raise
            self._state.unheld(item.key, why)
            return
        self._note(item, done, total)

    def _note(self, item: Object, done: Copied, total: int) -> None:
        if self._exact and (item.size != done.size or done.version not in ("", item.version)):
            self._state.unheld(item.key, "the source gives another object than the version it lists")
            return
        if not self._exact and (item.size, item.etag) != (done.size, done.etag):  # overwritten since it was listed
            self._state.changed(item.key, done.size, done.etag)
            item = item._replace(size=done.size, etag=done.etag)
        self._state.copied(item, done.target_version, done.target_etag, done.sha256)
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

    def _remove(self, key: str) -> None:
        """A delete marker: every version stays."""
        self._vault.ask("DELETE", key, attempted="put a delete marker")
        with self._lock:
            self.removed += 1

    def confirm(self, numbers: Numbers) -> None:
        """See in the vault's own answers that it holds what it was sent, under the very name."""
        if not numbers.copy and not numbers.alike:
            return  # the listing that was read is the vault's answer
        if len(self._touched) > self._few:
            self._state.read_vault(bucket.versions(self._vault))
        else:
            throttle.each(self._see, self._touched, self._config.objects.transfers)
        self._state.compare()

    def _see(self, key: str) -> None:
        if any(pattern.search(key) for pattern, _example in _ODD.values()):
            listed = bucket.versions(self._vault, key)
            found = [version for version in listed if version.key == key and version.latest][:1]
        else:
            head = self._vault.ask("HEAD", key, attempted=copier.READ)
            found = [Version(key, head.size, head.etag, datetime.now(timezone.utc), head.version)]
        self._state.put_vault(found)
