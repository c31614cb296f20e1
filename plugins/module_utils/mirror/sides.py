# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two sides of a mirror: what a bucket of the store held at the instant, and what the vault holds of it.

A listing is not believed for all that it lacks: some servers hide what they give to those who ask for it by its name.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import re
import secrets as token
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Optional

from ..base import throttle
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, NotFoundError
from ..recovery import state as recovery_state
from ..repository.details import ObjectsDetails
from ..repository.points import EVENTUAL
from ..s3 import bucket, copier, properties
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Version, Watch
from ..s3.signed import NULL
from ..settings.config import Config
from . import mc, store
from .guard import Instant
from .listing import Point
from .state import NAME_CHECK, Object, State
from .sweep import Sweep

ASKED = 1000  # of the objects that are to be removed: at most so many are asked for, one by one, before it
_SECOND = timedelta(seconds=1)
_SAME_TIME = timedelta(seconds=2)  # servers round the same time in several ways
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TOPS, _TOP_COMES = 3, 0.2  # SeaweedFS lists a version a moment before it is the latest: asked so often, seconds apart
CYCLE = 7  # days within which every version is listed once; on the others current objects, which is cheaper
_FEW = 20  # where at most one key in so many changed, those are looked at one by one instead of listing all
_FEWEST = 50
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


def odd(key: str) -> bool:
    """Is it a name that some vaults would store as another one?"""
    return any(pattern.search(key) for pattern, _example in _ODD.values())


def few_of(count: int) -> int:
    """How many of so many keys are few enough to be looked at one by one."""
    return max(_FEWEST, count // _FEW)


@dataclass
class _Hidden:
    """What the source does not list, of the keys that were asked for.

    there: it gives them. later: those of them that were written after the instant: what they were then is not known.
    deleted: it gives an old version; when it was deleted is not known.
    """

    there: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    def add(self, more: _Hidden) -> None:
        self.there += more.there
        self.later += more.later
        self.deleted += more.deleted

    @property
    def why(self) -> str:
        """Why a mirror of these is not of the instant; empty where it is."""
        said = []
        for keys, text in (
            (self.there, "the source holds {0} objects that it does not list, the first is {1!r}"),
            (self.later, "{0} of them were written later, the first is {1!r}, and are as they are now"),
            (self.deleted, "the source does not tell when it deleted {0} objects that it hides, the first is {1!r}"),
        ):
            if keys:
                said.append(text.format(len(keys), min(keys)))
        return "; ".join(said)


def _as_of(versions: Iterable[Version], at: datetime) -> Optional[Version]:
    """Which of the versions of one object it was at that instant, as read_source() takes it; None where it was not."""

    def counts(version: Version) -> bool:
        same_second = version.modified.microsecond == 0 and at < version.modified + _SECOND
        return version.modified <= at and not (version.deleted and same_second)

    # Of two with the same time the first is the newer one.
    newest = max(filter(counts, versions), key=lambda version: version.modified, default=None)
    return None if newest is None or newest.deleted else newest


class SourceListing:
    """instant: what the mirror is of; later than asked where the source's answers do not allow that. current: current
    objects are listed, and no versions. ambiguous: keys of which it is not sure what they held at the instant."""

    def __init__(self, config: Config, source: Bucket, state: State, instant: Instant, tags: Sweep, log: Log) -> None:
        self._config, self._state, self._tags_told, self._log = config, state, tags, log
        self.bucket, self.instant = source, instant
        self.current = False
        self.ambiguous = 0
        self.settings = s3_settings.BucketSettings({})

    @property
    def exact(self) -> bool:
        return self.instant.at is not None

    def fetch(self, before: Future[None], last: Optional[Point], *, current: bool) -> None:
        """Read it as it was at the instant, or later where its answers do not allow that. before: what the last mirror
        knew, as soon as it is read. current: a list of its current objects may do."""
        versioned = bool(bucket.versioning(self.bucket))
        watch = self.instant.watch()
        self.current = brief = current and versioned and not self.exact
        found = bucket.versions if versioned and not brief else bucket.objects
        late: list[str] = []
        listed = self._included(found(self.bucket, watch=watch, tags=self._tags()))
        listed = self._state.noting_past(listed) if self.exact else listed
        listed, instant = self._without_past(listed, late), self.instant
        ambiguous = self._state.read_source(listed, instant.server, brief, instant.certain)
        self._ask_whole(watch)
        before.result()
        if brief and (odd := self._know_source(last, watch)):
            self._log(f"every version in {self.bucket.url} is listed: of its current objects, {odd}")
            ambiguous, watch = self._read_again(versions=True)
        doubt = f"the source's listing is not in order: {watch.order}" if watch.order else watch.times
        doubt = doubt or (self._mistimed() if self.exact else "")
        if late:
            doubt = doubt or f"{late[0]!r} was written later and has no version, so that its past is not known"
        if doubt and self.exact:
            self.instant = Instant(None, None, EVENTUAL, why=doubt, skew=self.instant.skew)
            self._log(f"consistency is {EVENTUAL}, the bucket as it is now: {doubt}")
            ambiguous, watch = self._read_again(versions=not watch.order)
        if watch.order:
            self.disbelieve(f"the source's listing is not in order: {watch.order}")
        for key in watch.unread:
            self._state.unheld(key, "the source's listing does not tell its name")
        self.ambiguous = ambiguous

    def complete(self) -> None:
        """Where current objects were listed and too many are not among them to be asked for, list the versions: what is
        being replaced shows there alone."""
        if self.current and len(self._unlisted()) > ASKED and (odd := self._read_again(versions=True)[1].order):
            self.disbelieve(f"the source's listing is not in order: {odd}")

    def _read_again(self, *, versions: bool) -> tuple[int, Watch]:
        """Read the source once more, as it is now."""
        self.current = False
        watch = self.instant.watch()
        found = bucket.versions if versions else bucket.objects
        ambiguous = self._state.read_source(self._included(found(self.bucket, watch=watch, tags=self._tags())), None)
        self._ask_whole(watch)
        return ambiguous, watch

    def _know_source(self, last: Optional[Point], watch: Watch) -> str:
        """The same of the source. What was written just before it was listed is asked for; else what is not known is
        copied or compared anyway."""
        if watch.order or self._state.garbled("source"):
            return watch.order or "some are listed without their names"
        unknown = self._state.know_source(last.at if last else _EPOCH)
        if unknown > few_of(self._state.count("copies")):
            return f"{unknown} are not those that were listed before"

        def ask(item: tuple[str, str]) -> None:
            key, version = item
            with contextlib.suppress(NotFoundError):
                head = self.bucket.ask("HEAD", key, attempted=copier.READ)
                if head.version == version:
                    self._state.name_source(key, head.size, head.etag, version)

        throttle.each(ask, self._state.unsettled(), self._config.objects.transfers)
        return ""

    def _tags(self) -> Optional[bucket.Tags]:
        return self._tags_told.listing() if self._config.objects.tags_days else None

    def _included(self, versions: Iterator[Version]) -> Iterator[Version]:
        """Without the keys that the configuration leaves out."""
        out = store.left_out(self._config.objects, self.bucket.name)
        return (version for version in versions if not store.outside(version.key, out)) if out else versions

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
        key = self._state.mistimed(_SAME_TIME)
        return "" if key is None else f"a version of {key!r} is listed with another time than at the last mirror"

    def disbelieve(self, why: str) -> None:
        self._state.removes = False
        self._weaken(f"{why}; nothing is removed")

    def _weaken(self, why: str) -> None:
        """What was listed is mirrored, and never called a snapshot."""
        why = "; ".join(filter(None, (self.instant.why, why)))
        self.instant = replace(self.instant, consistency=EVENTUAL, why=why)
        self._log(f"WARNING: {why}")

    def ask_for_unlisted(self) -> list[str]:
        """Is it really not there? MinIO does not list `a/b` once there is `a`, and gives it all the same. All are asked
        for, or some at random where they are many, and all if one of these is there. So too where a listing is not
        believed and nothing is removed: what is there belongs to the mirror."""
        unseen, keys = {*self._state.unseen()}, self._unlisted()
        few = keys if len(keys) <= ASKED else random.sample(keys, ASKED)
        hidden = self._there(few)
        if hidden.there and len(few) < len(keys):
            hidden.add(self._there(sorted({*keys} - {*few})))
        if hidden.why:
            self._weaken(hidden.why)
        return sorted(unseen.intersection(hidden.there))

    def _unlisted(self) -> list[str]:
        out = store.left_out(self._config.objects, self.bucket.name)
        found = itertools.chain(self._state.unlisted(), self._state.unseen())
        return [key for key in found if not store.outside(key, out)]

    def _there(self, keys: Sequence[str]) -> _Hidden:
        """Which of them the source holds; they become part of what it is taken to hold."""
        hidden = _Hidden()
        at = self.instant.server

        def ask(key: str) -> None:
            try:
                head = self.bucket.ask("HEAD", key, attempted=copier.READ)
            except NotFoundError:
                if at is not None and not self._past(key) and self._gives_what_was_copied(key):
                    hidden.deleted.append(key)
                return
            except LifeboatError as exc:
                if not (copier.denied(exc) or copier.refused(exc)):
                    raise
                hidden.there.append(key)
                why = f"the source does not list it, and whether it is there is not known: {exc.cause}"
                self._state.unheld(key, why)
                self._state.there(Version(key, 0, "", _EPOCH))
                return
            found = Version(key, head.size, head.etag, head.modified, head.version)
            # A header tells whole seconds where a listing may tell more.
            if at is not None and head.version != NULL and head.modified > at - _SECOND:
                # Made after the instant, or overwritten after it? Only a listing knows.
                past = self._past(key)
                if any(version.version == head.version for version in past):
                    was = _as_of(past, at)
                    if was is None:
                        return
                    found = was
                elif head.modified > at:
                    hidden.later.append(key)
            hidden.there.append(key)
            self._state.there(found)

        throttle.each(ask, keys, self._config.objects.transfers)
        return hidden

    def _ask_whole(self, watch: Watch) -> None:
        """Ask for each object by its name of which the source listed old versions and no latest: one page may hide
        what the next goes on with, and nothing tells then whether the old one was still there at the instant."""
        out = store.left_out(self._config.objects, self.bucket.name)
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
            was = current if at is None else _as_of(past, at)
            self._state.vanished(key)
            if was:
                self._state.there(was)

        throttle.each(ask, keys, self._config.objects.transfers)

    def _past(self, key: str) -> list[Version]:
        """The versions that a listing of this key alone tells, its delete markers among them."""
        listed = bucket.versions(self.bucket, key)  # in the order of the keys, and this key is the first
        return list(itertools.takewhile(lambda version: version.key == key, listed))

    def _gives_what_was_copied(self, key: str) -> bool:
        """Does the source still give the version that was copied? An object that was deleted has its versions, and a
        listing tells them: where it does not, the source hides them."""
        version = self._state.copied_version(key)
        if version in ("", NULL):
            return False
        try:
            self.bucket.ask("HEAD", key, {"versionId": version}, attempted=copier.READ)
        except LifeboatError as exc:
            if not copier.answered(exc):
                raise
            return False
        return True

    def version(self, item: Object) -> str:
        return item.version if self.exact or item.version != NULL else ""

    def see_whether_locks_are_shown(self) -> None:
        """A key without the right to see locks is told of none."""
        key = self._state.any_key()
        denied = []
        for what, request in (("object retention", "retention"), ("object legal hold", "legal-hold")):
            try:
                if key:
                    self.bucket.ask("GET", key, {request: ""}, attempted=copier.READ)
            except LifeboatError as exc:
                denied += [what] if copier.denied(exc) else []  # of an object that has none it is an error too
        self.settings = replace(self.settings, denied=(*self.settings.denied, *denied))


def _due(config: Config, listed: datetime, now: datetime) -> str:
    """Why it is time to list every version again, by whole days; empty where it is not. What somebody hid must be
    copied again before the vault forgets it. A clock that went back is no reason to believe."""
    days = min(CYCLE, config.vault.noncurrent_days // 2)
    if 0 <= (now.date() - listed.date()).days < days:
        return ""
    return f"it was done on {format_time(listed)[:10]}, and is every {days} days" if days else "the vault forgets soon"


class VaultListing:
    """current: current objects are listed, and no versions. versions_listed: as of HeldBucket."""

    def __init__(self, config: Config, vault: Bucket, state: State, instant: Instant, log: Log) -> None:
        self._config, self._state, self._instant, self._log = config, state, instant, log
        self._started = datetime.now(timezone.utc)
        self.bucket = vault
        self.current = False
        self.versions_listed: Optional[datetime] = None

    def _why_in_full(self, source: Bucket, last: Optional[Point], now: datetime) -> str:
        """Why all versions are to be listed, and not current objects alone; empty where these suffice."""
        config = self._config
        listed = last.held_bucket.versions_listed if last else None
        if last is None or listed is None:
            return "no mirror before did so and noted it"
        if not self._same_places(source, last):
            return "the last mirror was of another bucket, or to another"
        if self._state.interrupted:
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

    def _same_places(self, source: Bucket, last: Point) -> bool:
        """Whether the last mirror was from here to there. Elsewhere its versions mean nothing, whatever looks alike."""
        details = last.manifest.detailed(ObjectsDetails)
        before = [(details.endpoint, last.held_bucket.name), (details.vault.get("endpoint"), last.held_bucket.vault)]
        return before == [(side.endpoint_url, side.name) for side in (source, self.bucket)]

    def begin(self, source: Bucket, last: Optional[Point]) -> None:
        """Decide what is to be listed. last: of the mirror before, of the bucket that is mirrored here."""
        why = self._why_in_full(source, last, self._started)
        self.current = not why
        if why and last:
            self._log(f"every version in {self.bucket.url} is listed: {why}")

    def fetch(self) -> Watch:
        watch = self._instant.watch()
        if self.current:
            try:
                self._state.read_vault(bucket.objects(self.bucket, watch=watch), current=True)
                return watch
            except LifeboatError as exc:
                if not copier.answered(exc):
                    raise
                self._log(f"every version in {self.bucket.url} is listed: of its current objects, {exc.cause}")
            self.current, watch = False, self._instant.watch()
        self._state.read_vault(bucket.versions(self.bucket, watch=watch))
        return watch

    def complete(self, watch: Watch, last: Optional[Point]) -> str:
        """Where current objects were listed and do not tell enough, list the versions. Returns why the listing is not
        to be believed; empty where it is."""
        if self.current and (odd := watch.order or self._know_vault()):
            self._log(f"every version in {self.bucket.url} is listed: of its current objects, {odd}")
            self.current = False
            watch = self.fetch()
        if self.current and last:
            self.versions_listed = last.held_bucket.versions_listed
        elif not watch.order:
            self.versions_listed = self._started
        return f"the vault's listing is not in order: {watch.order}" if watch.order else ""

    def _know_vault(self) -> str:
        """After a list of its current objects: which versions these are. Returns why that cannot be known; empty where
        it is. What the last listing does not explain is asked for by its name, if it is little."""
        state = self._state
        before, few = state.count("copies"), few_of(state.count("copies"))
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
                head = self.bucket.ask("HEAD", key, attempted=copier.WRITE)
            except LifeboatError as exc:
                if not copier.answered(exc):
                    raise
                odd.append(f"{key!r}: {exc.cause}")
                return
            if not state.name_vault(key, head.size, head.etag, head.version):
                odd.append(f"{key!r} is listed as another object than it is")

        throttle.each(ask, keys, self._config.objects.transfers)
        return min(odd, default="")

    def names_not_kept(self) -> Iterator[tuple[str, str]]:
        """Keys that the vault would store under another name, perhaps over another object: found out by trying."""
        holds = functools.lru_cache(maxsize=None)(self._holds)
        for item in self._state.to_copy():
            for kind, (pattern, example) in _ODD.items():
                if pattern.search(item.key) and not holds(example):
                    yield item.key, f"the vault does not keep a name with {kind}"
                    break

    def _holds(self, example: str) -> bool:
        key = example.format(NAME_CHECK + token.token_hex(6))
        try:
            put = self.bucket.ask("PUT", key, headers=copier.EMPTY, attempted=copier.WRITE)
        except LifeboatError as exc:
            if copier.refused(exc):
                return False
            raise
        try:
            return any(version.key == key for version in bucket.versions(self.bucket, key))
        finally:
            # The version, and where the key may not delete versions, as it should not, at least a marker on it.
            for query in ({"versionId": put.version}, {}):
                with contextlib.suppress(LifeboatError):
                    self.bucket.ask("DELETE", key, query, attempted=copier.WRITE)
                    break

    def see(self, keys: Iterable[str]) -> None:
        """Ask for each of these what it is now."""
        throttle.each(self._see, keys, self._config.objects.transfers)

    def _see(self, key: str) -> None:
        if odd(key):
            listed = bucket.versions(self.bucket, key)
            found = [version for version in listed if version.key == key and version.latest][:1]
        else:
            found = []
            with contextlib.suppress(NotFoundError):  # it took the object and does not have it
                head = self.bucket.ask("HEAD", key, attempted=copier.WRITE)
                found = [Version(key, head.size, head.etag, head.modified, head.version)]
                self._see_headers(key, head.headers)
        self._state.put_vault(key, found)

    def _see_headers(self, key: str, answer: Mapping[str, str]) -> None:
        """What the vault's copy has of the headers that it was given."""
        line, headers = self._state.noted(key)
        known = properties.parse(line)
        lost = properties.lost(dict(properties.pairs(headers or "")), answer)
        if lost != known.lost:
            self._state.note_read(key, replace(known, lost=lost).encoded)
