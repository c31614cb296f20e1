# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give objects back the retention and the legal hold that they had, and see whether they are encrypted as they were.

What is copied back is locked and encrypted as it is written. Locks of the others, and of those that the server did not
take so, come after all else, and only if they were proved: what is locked cannot be put right any more. A lock that
lasts longer stays.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ..base import throttle
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, SHOWN, Check
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError
from ..mirror.listing import Point
from ..s3 import client, copier, documents, properties
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Listed
from ..s3.inventory import Inventory
from ..s3.properties import Properties
from ..s3.signed import NULL, Answer
from ..stack import buckets
from ..stack.runtime import Opened

LOCKS, ENCRYPTION = "object locks", "object encryption"
_REQUESTS = {"retention": "retention", "legal hold": "legal-hold"}


def may(source: Bucket, point: Point) -> bool:
    """Has the backup locks, and the bucket too, so that what is copied back can be written with them?"""
    held = point.held_bucket.properties
    return held is not None and bool(held.retained or held.legal_holds) and bool(_lock(source))


def _lock(source: Bucket) -> object:
    """As it is told; True where it is not."""
    return s3_settings.read(source, [s3_settings.LOCK]).get(s3_settings.LOCK, True)


def _ends(current: Properties, recorded: Properties) -> list[datetime]:
    """List the ends that a retention is set with, until the server has none that is shorter: the exact one, and the
    whole second after it for a server that keeps no fractions."""
    until = max([end for end in (current.until, recorded.until) if end], default=datetime.min)
    return [until, *([properties.whole_second(until)] if until.microsecond else [])]


def bring(run: Opened, point: Point, inventory: Inventory, expected: str, *, log: Log) -> list[Check]:
    """One check on the locks, one on the encryption, where the backup has any. expected: the condition on a row p of
    the table `point` of an object that the bucket must have."""
    held = point.held_bucket.properties
    if held is None or not (held.retained or held.legal_holds or held.encrypted):
        return []
    source = buckets.source(run)
    work = _Work(source, not _lock(source))
    if held.retained or held.legal_holds:
        log(f"locking objects as on record: {held.retained} with a retention, {held.legal_holds} with a legal hold")
    entries = inventory.entries(f"point p WHERE p.properties <> '' AND {expected}")
    throttle.each(work.check, entries, run.config.objects.transfers)
    return list(work.checks())


def locking(source: Bucket) -> bool:
    """Has the bucket object lock? Where the key may not ask, it may have."""
    told = s3_settings.inspect(source, [s3_settings.LOCK])
    return bool(told.values.get(s3_settings.LOCK)) or s3_settings.LOCK in told.denied


def of_these(run: Opened, source: Bucket, entries: Iterable[Listed]) -> list[Check]:
    """As bring(), of a few objects that were copied back; `properties` of an entry is what is on record of it."""
    work = _Work(source, not _lock(source))
    throttle.each(work.check, [entry for entry in entries if entry.properties], run.config.objects.transfers)
    return list(work.checks())


@dataclass
class _Work:
    """unlockable: the bucket has no object lock."""

    source: Bucket
    unlockable: bool
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    _examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, entry: Listed) -> None:
        """One object that has something on record."""
        try:
            wanted = properties.parse(entry.properties)
        except ValueError as exc:
            raise IntegrityError(
                "lock the objects", self.source.where(entry.key), str(exc), "Choose another backup (`lifeboat list`)."
            ) from exc
        locked = wanted.locked(self.now)
        if wanted.until and not wanted.retained(self.now):
            self._note("expired")
        if not locked and not wanted.encryption:
            return
        with contextlib.suppress(NotFoundError):  # another check says so
            answer = self._head(entry.key)
            have = properties.from_headers(answer.headers)
            if wanted.encryption:
                self._note("encrypted")
                if have.encryption != wanted.encryption:
                    self._note("plain", f"{entry.key!r}: {have.encryption or 'not encrypted'}")
                elif wanted.encryption_key and have.encryption_key != wanted.encryption_key:
                    self._note("plain", f"{entry.key!r}: with the key {have.encryption_key or '(not told)'}")
            if locked:
                self._note("locked")
                self._bring(entry.key, answer, have, wanted)

    def _note(self, what: str, example: str = "") -> None:
        with self._lock:
            self._counts[what] += 1
            if example and len(self._examples[what]) < SHOWN:
                self._examples[what].append(example)

    def _head(self, key: str) -> Answer:
        return self.source.ask("HEAD", key, headers=properties.ASK, attempted=copier.READ)

    def _bring(self, key: str, answer: Answer, have: Properties, expected: Properties) -> None:
        lacking = have.lacks(expected, self.now)
        if not lacking:
            return
        if self.unlockable:
            self._note("wrong", f"{key!r}: the bucket has no object lock")
            return
        now, still = answer, lacking
        for until in _ends(have, expected):
            refused = self._put_all(key, answer.version, still, have, expected, until)
            now = self._head(key)
            still = properties.from_headers(now.headers).lacks(expected, self.now)
            if "retention" not in still:
                break
        if refused:
            self._note("wrong", f"{key!r}: {refused}")
            return
        if copier.object_headers(now.headers) != copier.object_headers(answer.headers):
            self._note("wrong", f"{key!r}: the server gave it other headers when it was locked")
        elif not still:
            self._note("set")
        elif self._may_not_see(key, still):
            self._note("unknown", f"{key!r}: its {' and '.join(still)} was set, and the key may not read it")
        else:
            self._note("wrong", f"{key!r}: its {' and '.join(still)} was set, and the server does not have it")

    def _put_all(
        self, key: str, version: str, lacking: list[str], have: Properties, expected: Properties, until: datetime
    ) -> str:
        """Return why the server refused one of them."""
        for what in lacking:
            try:
                self._put(key, version, what, have, expected, until)
            except LifeboatError as exc:
                if not client.status(exc):
                    raise
                return f"its {what} is not set: {exc.cause}"
        return ""

    def _put(self, key: str, version: str, what: str, have: Properties, expected: Properties, until: datetime) -> None:
        """Of this very version; never weaker or shorter than what is there."""
        if what == "retention":
            parts = [
                documents.new_element("Mode", content=have.mode if have.mode == "COMPLIANCE" else expected.mode),
                documents.new_element("RetainUntilDate", content=properties.format_until(until)),
            ]
            body = documents.write(documents.new_element("Retention", parts))
        else:
            body = documents.write(documents.new_element("LegalHold", [documents.new_element("Status", content="ON")]))
        query = {_REQUESTS[what]: "", **({"versionId": version} if version != NULL else {})}
        self.source.ask("PUT", key, query, copier.content_md5(body), body, attempted=f"set the object's {what}")

    def _may_not_see(self, key: str, lacking: list[str]) -> bool:
        for what in lacking:
            try:
                self.source.ask("GET", key, {_REQUESTS[what]: ""}, attempted=copier.READ)
            except LifeboatError as exc:
                if copier.denied(exc):
                    return True
        return False

    def checks(self) -> Iterator[Check]:
        count, found = self._counts, self._examples
        if count["locked"]:
            total = f"{count['locked']} objects"
            if count["wrong"]:
                words = f"{count['wrong']} of {total} are not locked as on record: {'; '.join(found['wrong'])}"
                yield Check(LOCKS, FAIL, words)
            elif count["unknown"]:
                yield Check(LOCKS, COULD_NOT_VERIFY, f"{count['unknown']} of {total}: {'; '.join(found['unknown'])}")
            else:
                again = f", {count['set']} of them since they were there" if count["set"] else ""
                late = f"; the retention of {count['expired']} others has ended" if count["expired"] else ""
                yield Check(LOCKS, PASS, f"{total} are locked as on record{again}{late}")
        if count["encrypted"]:
            total = f"{count['encrypted']} objects that were encrypted"
            if count["plain"]:
                words = f"{count['plain']} of {total} are not as they were: {'; '.join(found['plain'])}"
                yield Check(ENCRYPTION, FAIL, words)
            else:
                yield Check(ENCRYPTION, PASS, f"all {total} are as they were")
