# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read both sides, make the vault's current objects those of a bucket, and note what the vault says of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Optional, Union

from ..base import progress, throttle
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError
from ..s3 import bucket, copier, properties
from ..s3 import settings as s3_settings
from ..s3.bucket import Doubts, Listed
from ..s3.copier import Copied, Copier, Shared
from ..s3.signed import NULL
from ..settings.config import Config
from . import mc
from .listing import Point, RawEntry
from .sides import SourceListing, VaultListing, few_of
from .state import Numbers, Object, State
from .sweep import Sweep

_OTHER_ETAGS = 10


class Transfer:
    """numbers: what there is to do, as read() found it. copied, bytes, removed: what was done."""

    def __init__(
        self, config: Config, source: SourceListing, vault: VaultListing, state: State, tags: Sweep, log: Log,
        shared: Optional[Shared], doubts: Doubts,
    ) -> None:  # fmt: skip
        self._config, self.source, self.vault, self.state = config, source, vault, state
        self._log, self._shared, self._doubts, self.tags = log, shared, doubts, tags
        self._lock = threading.Lock()
        self._touched: list[str] = []  # as long as they are few
        self._threshold = few_of(0)
        self._losses: Optional[copier.Losses] = None  # None: the copies are few, and confirm() looks at each
        self._proved = 0
        self._doubtful: list[str] = []
        self.numbers = Numbers(0, 0, 0, 0, 0, 0, 0)
        self.copied = self.bytes = self.removed = 0

    def assess(self, last: Optional[Point]) -> None:
        """Read both buckets at once, and what the last mirror knew."""
        source, vault = self.source, self.vault
        vault.begin(source.bucket, last)
        with ThreadPoolExecutor(3) as pool:
            settings = pool.submit(s3_settings.inspect, source.bucket)
            theirs = pool.submit(vault.fetch)
            before = pool.submit(lambda: self.state.read_copies(self._before(last)))
            source.fetch(before, last, current=vault.current)
            watch = theirs.result()
            source.settings = settings.result()
        source.complete()
        if why := vault.complete(watch, last):
            source.disbelieve(why)
        if source.settings.denied:
            denied = ", ".join(source.settings.denied)
            self._log(f"WARNING: the key may not read the bucket's {denied}, so this backup does not have them")
        vault.see(source.ask_for_unlisted())
        count, keys = self.state.foreign()
        if count:
            self._log(
                f"{count} objects in {vault.bucket.url} are not known to be of this stack, the first is {keys[0]!r}:"
                " they stay as they are"
            )
        self.numbers = self.state.numbers()
        count, keys = self.state.replaced() if self.numbers.copy or self.numbers.alike else (0, [])
        if count:
            self._log(
                f"WARNING: the vault holds something else in {count} versions that were copied, the first is"
                f" {keys[0]!r}: earlier backups cannot give these objects back; they are copied again"
            )

    def _before(self, last: Optional[Point]) -> Iterator[Union[RawEntry, Listed]]:
        try:
            if last:
                yield from last.lines()
        except LifeboatError as exc:
            self._log(f"compares object by object, for the last listing cannot be read: {exc}")

    def bring(self) -> None:
        """Make the vault's current objects those of the source, and note what the vault says of them."""
        numbers, workers = self.numbers, self._config.objects.transfers
        self._threshold = few_of(numbers.source)
        if numbers.copy + numbers.alike > self._threshold:
            self._losses = copier.Losses(self.vault.bucket)
        if numbers.copy or numbers.alike:
            with Copier(self.source.bucket, self.vault.bucket, self._shared, for_owner=True) as moving:
                for item in list(self.vault.names_not_kept()):
                    self.state.unheld(*item)
                if self._config.objects.engine == "mc":
                    mc.run(self._config, self.source.bucket, self.vault.bucket, log=self._log)
                    # What it copied is the vault's now; what it did not carry is seen by comparing, and carried then.
                    self.state.read_vault(bucket.versions(self.vault.bucket))
                with progress.going(self._gauge()) as gauge:
                    alike, to_copy = gauge.counting(self.state.alike()), self.state.to_copy()
                    throttle.each(lambda row: self._compare(*row), alike, workers)
                    throttle.each(lambda item: self._copy(moving, item), gauge.counting(to_copy), workers)
        if numbers.removed:
            throttle.each(self._remove, self.state.to_remove(), workers)
        # Of a server whose ETags are never MD5s nothing is proved, and nothing can be said against one object.
        if self._proved or len(self._doubtful) < _OTHER_ETAGS:
            for key in self._doubtful:
                self.state.unheld(key, "its bytes are not those that its ETag is the MD5 of: the source is damaged")

    def _gauge(self) -> progress.Gauge:
        what, numbers = f"{self.source.bucket.url} to {self.vault.bucket.url}", self.numbers
        # One that is compared may have to be copied as well.
        return progress.Gauge(what, numbers.copy + numbers.alike, unit=progress.OBJECTS, about=numbers.alike > 0)

    def confirm(self) -> None:
        """See in the vault's own answers that it holds what it was sent, under the very name."""
        if not self.numbers.copy and not self.numbers.alike:
            return  # the listing that was read is the vault's answer
        if len(self._touched) > self._threshold:
            self.state.read_vault(bucket.versions(self.vault.bucket))
        else:
            self.vault.see(self._touched)
        self.state.compare()

    def _compare(self, item: Object, vault_version: str, vault_etag: str, sha256: Optional[str]) -> None:
        """Its bytes are right: are its headers and tags? They can be changed without the bytes.

        Where an ETag can be chosen, that it is equal says nothing of bytes that were not copied by us: they are read.
        """
        same, line, record = False, "", copier.UNRECORDED
        try:
            ours = copier.facts(self.source.bucket, item.key, self.source.version(item))
        except LifeboatError as exc:
            if not (isinstance(exc, IntegrityError) or copier.answered(exc)):
                raise
            self.state.unlike(item.key)  # a copy tells what it is that cannot be had
            return
        with contextlib.suppress(NotFoundError, IntegrityError):
            theirs = copier.facts(self.vault.bucket, item.key, vault_version)
            alike, line, record = ours == theirs, ours.kept_by(theirs).encoded, ours.record
            if not item.version:  # a list of current objects does not tell it
                alike &= ours.etag == item.etag
                item = item._replace(version=ours.version)
            if alike and sha256 is None and self._doubts.etags:
                sha256 = copier.digest(self.source.bucket, item.key, item.size, self.source.version(item))[0]
                alike = sha256 == copier.digest(self.vault.bucket, item.key, item.size, vault_version)[0]
            same = alike
        if same:
            if self.source.current:
                self.state.changed(item)
            self.state.copied(item, vault_version, vault_etag, sha256, line, record)
        else:
            self.state.unlike(item.key)

    def _copy(self, moving: Copier, item: Object) -> None:
        try:
            done = moving.copy(item.key, item.size, item.etag, self.source.version(item))
        except LifeboatError as exc:
            if isinstance(exc, NotFoundError) and exc.attempted == copier.READ and not self.source.exact:
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
        self._note(item, done)

    def _note(self, item: Object, done: Copied) -> None:
        if self.source.exact and (item.size != done.size or done.version not in ("", item.version)):
            self.state.unheld(item.key, "the source gives another object than the version it lists")
            return
        now = item._replace(size=done.size, etag=done.etag, version=item.version or done.version or NULL)
        if not self.source.exact and item != now:  # overwritten since it was listed, or listed without its version
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
            if len(self._touched) <= self._threshold:
                self._touched.append(item.key)

    def _remove(self, key: str) -> None:
        """A delete marker: every version stays."""
        self.vault.bucket.ask("DELETE", key, attempted="put a delete marker")
        with self._lock:
            self.removed += 1

    def look_at_properties(self, last: Optional[Point]) -> None:
        """Of what was not copied just now a lock may have changed; all else of it changes with the object alone, and is
        on record, where the last backup kept records of that."""
        locked = bool(self.source.settings.values.get(s3_settings.LOCK))
        if locked:
            self.source.see_whether_locks_are_shown()
        if locked or last is None or last.held_bucket.properties is None:
            throttle.each(lambda row: self._look_again(*row), self.state.unlooked(), self._config.objects.transfers)

    def _look_again(self, item: Object, vault_version: str, recorded: str) -> None:
        version = self.source.version(item)
        query = {"versionId": version} if version not in ("", NULL) else {}
        try:
            found = properties.from_headers(
                self.source.bucket.ask("HEAD", item.key, query, properties.ASK, attempted=copier.READ).headers
            )
        except LifeboatError as exc:
            if not (isinstance(exc, NotFoundError) or copier.denied(exc) or copier.refused(exc)):
                raise
            return  # what is on record of it stays
        before = properties.parse(recorded)
        found = replace(found, lost=before.lost)
        if found.encryption and found.encryption == before.encryption:
            found = replace(found, clear=before.clear)
        elif found.encryption:
            copy = self.vault.bucket.ask("HEAD", item.key, {"versionId": vault_version}, attempted=copier.READ)
            found = replace(found, clear=not properties.encryption(copy.headers))
        self.state.note_read(item.key, found.encoded)

    def sweep(self, last: Optional[Point]) -> None:
        """Read this night's share of the tags again: they change without the object."""
        before = last.manifest.finished_at.timestamp() if last else time.time()
        objects = self._config.objects
        self.tags.run(objects.tags_days, before, objects.transfers, exact=self.source.exact)
        self.tags.warn()
