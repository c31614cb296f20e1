# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove from the mirror what its lifecycle rule would: what was replaced or removed longer than noncurrent_days ago.

Some servers know no such rules, some keep them and do nothing of them: there the vault would grow for ever. What is
live is never touched, nor what the listing of a kept backup names, whatever its age; no lifecycle rule can see to that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from xml.sax.saxutils import escape

from ..base import lock, throttle
from ..base.errors import LifeboatError
from ..s3 import bucket, client, signed
from ..s3.bucket import Bucket
from ..s3.inventory import Inventory, text
from ..stack import buckets
from ..stack.runtime import Opened
from .guard import of_a_check
from .listing import Point

DELETE = "delete old versions"
_PATIENCE = 600.0  # seconds that a look at what changed may take
_MOST = 1000  # that one request may name: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_DENIED = client.REFUSED
_ASKED = 100  # of the versions that stay with one answer: so many are asked for their lock
_HOPELESS = 20  # refused one after the other, and not for a lock: the key will not get the right for the next ones
_LOCKED = "locked "
_SPACES = {"\r": "&#13;"}  # XML would make a line feed of it
_TABLES = {
    "versions": "key TEXT, modified REAL, version TEXT, size INT, latest INT, deleted INT,"
    " PRIMARY KEY (key, modified, version)",
    "old": "key TEXT, version TEXT, size INT, PRIMARY KEY (key, version)",
    "stay": "key TEXT, version TEXT, PRIMARY KEY (key, version)",  # the server would not delete these
}
# When it was replaced is when what came after it was written; of two that were written in one moment, that moment. A
# key of whose versions none is called the latest is not understood, and left alone.
_OLD = """
INSERT INTO old SELECT v.key, v.version, v.size FROM versions v
WHERE NOT v.latest AND EXISTS (SELECT 1 FROM versions l WHERE l.key = v.key AND l.latest)
AND coalesce((SELECT min(n.modified) FROM versions n WHERE n.key = v.key AND n.modified > v.modified), v.modified) < ?
"""
# A marker goes only where it hides nothing any more, else what was deleted would be back.
_LONE = """
SELECT v.key, v.version, 0 FROM versions v WHERE v.latest AND v.deleted AND v.modified < ? AND NOT EXISTS (
SELECT 1 FROM versions o WHERE o.key = v.key AND o.version <> v.version AND (
NOT EXISTS (SELECT 1 FROM old d WHERE d.key = o.key AND d.version = o.version)
OR EXISTS (SELECT 1 FROM stay s WHERE s.key = o.key AND s.version = o.version)))
"""
Row = tuple[str, str, int]  # key, version, size
_Item = tuple[str, str]  # key, version


class _Group(NamedTuple):
    """What stays for one reason. ours: it is of our own checks, and nobody's object."""

    answer: str
    ours: bool


@dataclass(frozen=True)
class Pruned:
    """versions, bytes: that went, or would go. retained: what the server keeps all the same, and why; no failure."""

    versions: int = 0
    bytes: int = 0
    retained: tuple[str, ...] = ()


def prune(run: Opened, points: Sequence[Point], newest: datetime, *, dry_run: bool) -> Pruned:
    """The caller holds the stack's lock. `points`: every backup that stays; the bytes of its listings are right.

    Age is counted from `newest`, the newest good backup: while no mirror is taken the window stands still.
    """
    waiting = lock.mirroring(run.config.stack, "prune the mirror", wait=_PATIENCE)
    with contextlib.nullcontext() if dry_run else waiting:
        return _prune(run, points, newest, dry_run=dry_run)


def _prune(run: Opened, points: Sequence[Point], newest: datetime, *, dry_run: bool) -> Pruned:
    own, others = list[Point](), dict[str, list[Point]]()  # others: by the bucket in the vault
    for each in (each for point in points for each in point.points()):
        place = others.setdefault(buckets.suffixed(run.config, each.bucket), []) if each.bucket else own
        place.append(each)
    vault = buckets.vault(run)
    done = _prune_bucket(run, vault, own, newest, dry_run=dry_run)
    for more in throttle.mapped(
        lambda item: _prune_bucket(
            run, vault.sibling(item[0]), item[1], newest, dry_run=dry_run, share=throttle.SIDE_BY_SIDE
        ),
        sorted(others.items()),
    ):
        done = Pruned(done.versions + more.versions, done.bytes + more.bytes, (*done.retained, *more.retained))
    return done


def _prune_bucket(
    run: Opened, vault: Bucket, points: Iterable[Point], newest: datetime, *, dry_run: bool, share: int = 1
) -> Pruned:
    """One of the vault's buckets. share: as of Inventory."""
    before = (newest - timedelta(days=run.config.vault.noncurrent_days)).timestamp()
    watch = bucket.Watch(datetime.now(timezone.utc) - bucket.SETTLED)
    with Inventory(_TABLES, share=share) as inventory:
        rows = (
            (text(found.key), found.modified.timestamp(), found.version, found.size, found.latest, found.deleted)
            for found in bucket.versions(vault, watch=watch)
            if found.key  # one without a name cannot be asked to go
        )
        inventory.add("versions", rows)
        if watch.order or watch.times:
            said = watch.times or f"it is not in order: {watch.order}"
            return Pruned(retained=(f"{vault.url}: nothing was deleted, for its listing cannot be believed: {said}",))
        inventory.change(_OLD, before)
        for point in points if inventory.count("old") else ():
            named = ((text(key), version) for key, version in point.versions())
            inventory.drop("old", ("key", "version"), named)
        if dry_run:
            size = inventory.value("SELECT coalesce(sum(size), 0) FROM old")
            lone = inventory.value(f"SELECT count(*) FROM ({_LONE})", before)
            return Pruned(inventory.count("old") + int(lone), int(size))
        removal = _Removal(vault, inventory)
        removal.run(inventory.each("SELECT key, version, size FROM old"), run.config.objects.transfers)
        if not removal.refused:
            removal.run(inventory.each(_LONE, before), run.config.objects.transfers)
        return Pruned(removal.count, removal.bytes, tuple(removal.remaining()))


class _Removal:
    """What is being deleted, from several threads. Only what the server says it deleted counts as gone."""

    def __init__(self, vault: Bucket, inventory: Inventory) -> None:
        self._vault, self._inventory = vault, inventory
        self._lock = threading.Lock()
        self._first: dict[_Group, list[_Item]] = {}  # the first that stay with one answer
        self._stay: Counter[_Group] = Counter()
        self._all = True  # False: some were not tried
        self._together = True  # False: the server refuses requests that name several
        self.count = self.bytes = 0
        self.refused = False

    def run(self, rows: Iterator[Row], workers: int) -> None:
        batches = iter(lambda: list(itertools.islice(rows, _MOST)), [])
        throttle.each(self._batch, batches, workers)

    def remaining(self) -> Iterator[str]:
        """What stays, by reason, as text. Of those with one answer some may be locked, and others not."""
        for group, total in self._stay.items():
            found: dict[bool, list[tuple[_Item, str]]] = {}
            for item in self._first[group]:
                words = self._reason(item, group.answer) if group.answer in _DENIED else group.answer
                found.setdefault(words.startswith(_LOCKED), []).append((item, words))
            rest = total - len(self._first[group])
            for locked, items in found.items():
                (key, _version), words = items[0]
                what = "leftovers of Lifeboat's own checks" if group.ours else "old versions"
                count = f"{len(items)} {what}"
                if rest:
                    count = f"{total} {what}" if len(found) == 1 else f"{count} of {total - rest} that were asked for"
                by_rule = group.answer in _DENIED and not locked
                more = "; the bucket's own lifecycle rule has to remove them" if by_rule else ""
                yield f"{self._vault.url}: {count if self._all else what}, the first is {key!r}: {words}{more}"

    def _reason(self, item: _Item, answer: str) -> str:
        return client.reason(self._vault.client, self._vault.name, *item, answer)

    def _batch(self, rows: Sequence[Row]) -> None:
        if self.refused:
            self._all = False
            return
        sizes = {(key, version): size for key, version, size in rows}
        together = [item for item in sizes if self._together and not signed.UNSPEAKABLE.search(item[0])]
        left: dict[_Item, str] = {}
        try:
            left = self._ask(together) if together else {}
        except LifeboatError as exc:
            # The right may be missing for that request alone: Ceph RGW looks for it at the bucket.
            if client.code(exc) not in client.UNSUPPORTED and not client.undeletable(exc):
                raise
            self._together, together = False, []
        left |= self._singly([item for item in sizes if item not in {*together}])
        self._inventory.add("stay", left)
        with self._lock:
            for item, answer in left.items():
                group = _Group(answer, of_a_check(item[0]))
                self._stay[group] += 1
                few = self._first.setdefault(group, [])
                few += [item] if len(few) < _ASKED else []
            self.count += len(sizes) - len(left)
            self.bytes += sum(size for item, size in sizes.items() if item not in left)
            # A key without the right will not get it with the next thousand; a lock may be one object's.
            denied = len(left) == len(sizes) and set(left.values()) <= set(_DENIED)
        if denied and not self._locked(*next(iter(left))):
            self.refused = True

    def _ask(self, several: Sequence[_Item]) -> dict[_Item, str]:
        """Delete them in one request; which stay, and why."""
        lines = "".join(
            f"<Object><Key>{escape(key, _SPACES)}</Key><VersionId>{escape(version)}</VersionId></Object>"
            for key, version in several
        )
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{lines}</Delete>'.encode()
        md5 = base64.b64encode(hashlib.new("md5", body, usedforsecurity=False).digest()).decode()
        answer = self._vault.ask("POST", None, {"delete": ""}, {"content-md5": md5}, body, attempted=DELETE)
        left = dict.fromkeys(several, "the server did not say that it deleted it")
        for child in signed.xml(answer.body, DELETE, self._vault.url):
            said = signed.fields(child)
            # Of a marker some servers name only this.
            named = (said.get("Key", ""), said.get("VersionId") or said.get("DeleteMarkerVersionId", ""))
            if child.tag.endswith("Deleted"):
                left.pop(named, None)
            elif named in left:
                left[named] = said.get("Code") or said.get("Message") or "it was refused"
        return left

    def _singly(self, items: Sequence[_Item]) -> dict[_Item, str]:
        """Delete them one by one; which stay, and why."""
        left: dict[_Item, str] = {}
        for number, item in enumerate(items, 1):
            if answer := self._single(*item):
                left[item] = answer
            if number == len(left) == _HOPELESS and not self._locked(*item):
                return dict.fromkeys(items, answer)
        return left

    def _single(self, key: str, version: str) -> str:
        """Delete one; why it stays, if it does."""
        try:
            self._vault.ask("DELETE", key, {"versionId": version}, attempted=DELETE)
        except LifeboatError as exc:
            if not client.undeletable(exc):
                raise
            return client.code(exc)
        return ""

    def _locked(self, key: str, version: str) -> str:
        """What locks it; empty where nothing does, or nobody says so."""
        return client.lock(self._vault.client, self._vault.name, key, version) or ""
