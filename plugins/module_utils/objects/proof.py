# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove an objects backup beyond its checksums.

archive: every version that the listing names is in the vault, with its size and tag, and the listing is what the
manifest says of it. restore: objects are copied into a scratch bucket at the vault's endpoint, and every byte, header
and tag of them is compared; the scratch bucket is removed. Which: all of them, a sample, or those whose turn it is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import json
import re
import secrets as token
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from ..base import clock, filesystem, progress, throttle, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared
from ..base.errors import LifeboatError, Log, UnverifiedError, UsageError
from ..base.text import named
from ..mirror import back
from ..mirror import verify as mirror_verify
from ..mirror.listing import Point
from ..mirror.store import folded
from ..repository.base import Repository
from ..repository.details import ObjectsDetails
from ..repository.manifest import Manifest
from ..s3 import bucket, client, delete_bucket
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.inventory import UNHELD, Inventory
from ..s3.signed import NULL
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from ..tools import age

PREFIX = "lifeboat-verify-"
ABANDONED = timedelta(hours=24)
LEAST = 500  # objects that are read in one verification, where there are so many
_ENOUGH = 1000  # objects that are wrong tell enough
_RING = 1 << 64
_UNKNOWN_NIGHTS = 7  # that are made up for where it is not known when objects were read last
_FILE = "objects-read.json"
_SAME = "point p JOIN held h ON h.key = p.key AND h.version = p.version"


@dataclass(frozen=True)
class Turn:
    """Whose turn it is to be read: every object has a place on a ring, by the hash of its key, and the ring is read a
    part a night. A key keeps its place, whatever else appears or goes, so that within `nights` nights after a
    verification every object that stays is read at least once; a night without a verification is made up for.

    last: the night of the last verification that read its part. night: of this one. Nights are days since 1970, UTC.
    """

    last: int
    night: int
    nights: int

    @property
    def _width(self) -> int:
        if self.night - self.last >= self.nights:
            return _RING
        return (self._border(self.night + 1) - self._border(self.last + 1)) % _RING

    def _border(self, night: int) -> int:
        return (night % self.nights) * _RING // self.nights

    def distance(self, key: str) -> int:
        """How far from where this verification begins. The lowest come first."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return (int.from_bytes(digest[:8], "big") - self._border(self.last + 1)) % _RING

    def due(self, key: str) -> bool:
        return self.distance(key) < self._width


@dataclass(frozen=True)
class _Read:
    """nights: by the name of a bucket, when its part was read last."""

    nights: dict[str, int] = field(default_factory=dict)


class Turns:
    """When the objects of each bucket were read last, in a file of the state directory.

    One that is lost or cannot be read costs the exact share of one verification, and no more.
    """

    def __init__(self, config: Config, now: Optional[datetime] = None) -> None:
        self._path: Path = config.state / _FILE
        self._nights, self._night = config.vault.read_days, int((now or clock.now()).timestamp() // 86400)

    def _wrong(self, field_name: str, cause: str) -> LifeboatError:
        return LifeboatError("read when objects were read last", str(self._path), f"{field_name} {cause}")

    def _known(self) -> dict[str, int]:
        try:
            return typed.build(_Read, typed.load(filesystem.read_plain(self._path), self._wrong), self._wrong).nights
        except (OSError, LifeboatError):
            return {}

    def turn(self, bucket_name: str) -> Turn:
        last = self._known().get(bucket_name, self._night - _UNKNOWN_NIGHTS)
        # The same night again, or a clock that went back: the part of this night.
        return Turn(min(last, self._night - 1), self._night, self._nights)

    def read(self, bucket_name: str) -> None:
        """All that was due of that bucket has been read."""
        data = json.dumps({"nights": {**self._known(), bucket_name: self._night}}).encode()
        with filesystem.explained("remember when objects were read", self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            filesystem.write(self._path, data, self._path.with_name(f".{_FILE}.new"))


def levels(
    run: Opened, repo: Repository, manifest: Manifest, level: str, sample: Optional[int], log: Log, *,
    record: bool = True,
) -> Iterator[Check]:  # fmt: skip
    """The checks of `archive`, and of `restore` where asked for, which is not begun when the former failed; of the
    application's bucket, then of the others.

    sample: of so many objects in all, at least one a bucket; 0: of all; None: of those whose turn it is, and of LEAST
    in all. record: remember that these were read, if it is the newest backup: an older one lacks what came since.
    """
    point = Point(repo, manifest, keys=age.keys(run.config, run.key))
    whole = sum(held.objects for held in manifest.detailed(ObjectsDetails).buckets)
    part = functools.partial(_share, LEAST if sample is None else sample, max(whole, 1))
    turns = Turns(run.config) if sample is None else None
    remembered = record and repo.published("objects")[-1:] == [manifest.id]
    which = functools.partial(_Which, turns=turns, remembered=remembered)
    yield from _levels(run, point, level, which(part(point)), log)
    others = [
        (other.bucket, _levels(placed(run, other), other, level, which(part(other)), log))
        for other in point.points()[1:]
    ]
    # Of the scratch buckets of the level `restore` there is one at a time.
    yield from folded(others, 1 if level == "restore" else throttle.SIDE_BY_SIDE)


@dataclass(frozen=True)
class _Which:
    """The objects of a bucket that are restored: `count` of them, with `turns` those whose turn it is."""

    count: int
    turns: Optional[Turns]
    remembered: bool

    def draw(self, inventory: Inventory, bucket_name: str) -> str:
        """Settle them as drawn; returns how they were chosen, in words."""
        if self.turns is None:
            drawn = f"WHERE key IN (SELECT key FROM point ORDER BY random() LIMIT {self.count})" if self.count else ""
            inventory.change(f"INSERT INTO settled SELECT key, 'drawn' FROM point {drawn}")
            return "chosen at random"
        turn = self.turns.turn(bucket_name)
        keys = (str(key) for (key,) in inventory.each("SELECT key FROM point"))
        inventory.add("settled", ((key, "drawn") for key in keys if turn.due(key)))
        keys = (str(key) for (key,) in inventory.each("SELECT key FROM point"))
        inventory.add("settled", ((key, "drawn") for key in heapq.nsmallest(self.count, keys, key=turn.distance)))
        return f"whose turn it is: each is read once in {turn.nights} days"

    def done(self, bucket_name: str, log: Log) -> None:
        """They were read."""
        if self.turns and self.remembered:
            try:
                self.turns.read(bucket_name)
            except LifeboatError as exc:  # then they are read once more
                log(str(exc))


def _share(sample: int, whole: int, point: Point) -> int:
    return sample and max(1, sample * point.held_bucket.objects // whole)


def placed(run: Opened, point: Point) -> Opened:
    """By the place that the configuration gives: a manifest cannot send us elsewhere."""
    wanted = buckets.suffixed(run.config, point.bucket)
    if point.held_bucket.vault != wanted:
        raise UsageError(
            "look into the vault", f"the bucket {named(point.bucket)} of {point.id}",
            f"it was mirrored to {named(point.held_bucket.vault)}, and lifeboat_vault.objects_bucket makes it"
            f" {named(wanted)}",
            "Set lifeboat_vault.objects_bucket as it was, and verify again.",
        )  # fmt: skip
    return buckets.alone(run, point.bucket)


def _levels(run: Opened, point: Point, level: str, which: _Which, log: Log) -> Iterator[Check]:
    """Of one bucket."""
    vault = buckets.vault(run)
    with Inventory(share=throttle.SIDE_BY_SIDE if point.bucket else 1) as inventory:
        inventory.add_listing("point", point.entries())
        log(f"{point.id}: looking for {inventory.count('point')} versions in {vault.url}")
        archive = list(_archive(inventory, point, vault))
        yield from archive
        if level == "restore" and all(check.result == PASS for check in archive):
            yield from _restored(run, inventory, vault, point, which, log)


def _archive(inventory: Inventory, point: Point, vault: Bucket) -> Iterator[Check]:
    has = (inventory.count("point"), int(inventory.value("SELECT coalesce(sum(size), 0) FROM point")))
    told = (point.held_bucket.objects, point.held_bucket.bytes)
    yield compared(
        "listing",
        [] if has == told else [f"it has {has[0]} objects, {has[1]} bytes; the manifest says {told[0]}, {told[1]}"],
        f"{has[0]} objects, {has[1]} bytes",
    )
    inventory.add_held(bucket.versions(vault))
    inventory.add_unlisted(vault, "true")
    missing = inventory.summary(f"point p WHERE {UNHELD}")
    gone = f"the vault no longer has these versions: {missing}"
    yield Check("versions", FAIL, gone) if missing else Check("versions", PASS, f"all of them are in {vault.url}")
    wrong: list[str] = []
    columns = "p.key, p.size, p.vault_etag, h.size, h.etag"
    for key, told_size, told_tag, size, tag in inventory.each(f"SELECT {columns} FROM {_SAME}"):
        if size != told_size:
            wrong.append(f"{key!r} has {size} bytes instead of {told_size}")
        elif told_tag and tag != told_tag:
            wrong.append(f"{key!r} has another tag than when it was put there")
        if len(wrong) >= _ENOUGH:
            break
    right = "those versions have the size and the tag that the listing says, as told by the server: no byte was read"
    yield compared("sizes and tags", wrong, right)


def _restored(
    run: Opened, inventory: Inventory, vault: Bucket, point: Point, selection: _Which, log: Log
) -> Iterator[Check]:
    total, name = inventory.count("point"), point.held_bucket.name
    how = selection.draw(inventory, name)
    chosen = "point p WHERE EXISTS (SELECT 1 FROM settled s WHERE s.key = p.key)"
    count = inventory.count("settled")
    which = f"all {total} objects" if count == total else f"{count} of {total} objects, {how}"
    with _scratch(run.config, vault, log) as scratch:
        log(f"restoring {which} into {scratch.url}")
        with progress.going(progress.Gauge(f"objects to {scratch.url}", count, unit=progress.OBJECTS)) as gauge:
            entries = gauge.counting(inventory.entries(chosen))
            done = back.copy_back(run, entries, scratch, log=log, compare=False, encrypt=False)
        failed = [f"{lost.key!r}: {lost.why}" for lost in done.failed]
        restored = compared("restore", failed, f"{which}, into a bucket of their own")
        unread = bool(failed) and done.denied == done.failed_count
        yield replace(restored, result=COULD_NOT_VERIFY) if unread else restored
        if not failed:
            checks = mirror_verify.verify_objects(run, inventory.entries(chosen), scratch)
            if all(check.result in (PASS, FAIL) for check in checks):
                selection.done(name, log)
            yield from checks


@contextlib.contextmanager
def _scratch(config: Config, vault: Bucket, log: Log) -> Iterator[Bucket]:
    """A bucket that is gone afterwards; those that killed runs of this stack left are removed first."""
    prefix = f"{PREFIX}{filesystem.sha256(config.stack.encode())[:8]}-"
    now = datetime.now(timezone.utc)
    made = replace(vault, name=f"{prefix}{now:%Y%m%d%H%M%S}-{token.token_hex(3)}")
    try:
        s3_settings.create(made)
    except UsageError as exc:
        remedy = f"Let the vault's key make and remove buckets named {PREFIX}*, or prove them with one that may."
        raise UnverifiedError("restore objects to prove them", made.url, exc.cause, remedy) from exc
    try:
        _version(made, log)
        yield made
    finally:
        _remove(made)
        left: list[Bucket] = []
        with contextlib.suppress(LifeboatError), client.translated_errors("list the buckets", vault.url):
            left = s3_settings.abandoned(vault, re.compile(rf"{prefix}(\d{{14}})-[0-9a-f]{{6}}"), now - ABANDONED)
        for scratch in left:
            log(f"removing {scratch.name}, which a killed verification left")
            _remove(scratch)


def _version(scratch: Bucket, log: Log) -> None:
    """Without versions SeaweedFS refuses long names and changes types, which would be called damage."""
    try:
        with client.translated_errors("switch versioning on", scratch.url):
            enabled = {"Status": "Enabled"}
            scratch.client.put_bucket_versioning(Bucket=scratch.name, VersioningConfiguration=enabled)
    except LifeboatError as exc:
        log(f"{scratch.name} keeps no versions: {exc.cause}")


def _remove(scratch: Bucket) -> None:
    """Empty and remove it."""

    def drop(version: bucket.Version) -> None:
        which = {"VersionId": version.version} if version.version != NULL else {}
        with client.translated_errors("empty the scratch bucket", scratch.where(version.key)):
            scratch.client.delete_object(Bucket=scratch.name, Key=version.key, **which)

    throttle.each(drop, (version for version in bucket.versions(scratch) if version.key), 8)
    delete_bucket.delete_bucket(scratch, confirm=scratch.name if scratch.name.startswith(PREFIX) else "")
