# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a bucket against a backup's listing and the database, key by key: what is gone, what is wrong, what is right."""

from __future__ import annotations

import functools
import hashlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from ..base import throttle
from ..base.errors import LifeboatError, Log, present
from ..base.text import named
from ..mirror import store
from ..mirror.listing import Point
from ..s3 import bucket, client, copier, error_registry, properties
from ..s3.bucket import Bucket
from ..s3.copier import Record
from ..s3.inventory import UNHELD, Inventory, text
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import Opened
from . import reconcile

SAMPLE = 50
SAMPLE_BYTES = 256 << 20
READ_SECONDS = 120
READ_MOST = 2000
READERS = 8
SILENCE = 20  # seconds: a server that looks for what it lost may never answer
ENOUGH = 3  # damaged objects that tell enough
ASKED = 100  # of the objects that are not listed: so many are asked for before they are called gone
_Told = tuple[int, str]
_Live = tuple[str, int, str, str, float]

GONE = "point p WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = p.key)"
_OTHER = "(p.size <> l.size OR (p.etag <> l.etag AND p.etag <> '' AND l.etag <> ''))"
DIFFERS = f"point p JOIN live l USING (key) WHERE {_OTHER}"
# What is known of a key that is gone or differs. same: another tag, the same bytes. right: so the database has it now.
# wrong: the database has it otherwise, or it cannot be read. doubt: nobody can say. unread: its ETag says nothing of
# its bytes, and there was no time to read them. lost: not even the vault has it.
# loose: gone, and no row knows it: deleted rightly, or never one of the database's. A recovery brings it back:
# reporting an extra object is safe, missing one is not. excluded: in the bucket, and the configuration leaves it out.
SAME, RIGHT, WRONG, DOUBT, LOST, LOOSE, EXCLUDED = "same", "right", "wrong", "doubt", "lost", "loose", "excluded"
UNREAD = "unread"
_BY_KMS = "substr(p.properties, 1, 20) = 'encryption=aws%3Akms' AND p.size = l.size"
UNKNOWN_TO_POINT = (
    "live l WHERE NOT EXISTS (SELECT 1 FROM point p WHERE p.key = l.key)"
    f" AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.key = l.key AND s.how = '{EXCLUDED}')"
)


def to_restore(*, keep: bool) -> str:
    """The condition on a row p that settle() has found to be brought back. keep: but not what is right as it is."""
    left = (SAME, LOST, EXCLUDED, RIGHT) if keep else (SAME, LOST, EXCLUDED)
    return f"EXISTS (SELECT 1 FROM settled s WHERE s.key = p.key AND s.how NOT IN {left})"


def expected(*, keep: bool) -> str:
    """The condition on a row p of `point` that the bucket must be like afterwards."""
    left = (LOST, RIGHT) if keep else (LOST, "")
    return f"NOT EXISTS (SELECT 1 FROM settled s WHERE s.key = p.key AND s.how IN {left})"


def leave_out_unheld(run: Opened, inventory: Inventory, prefix: str, condition: str) -> str:
    """Settle as lost what the vault no longer has of what is wanted; returns how many, and the first of them."""
    vault = buckets.vault(run)
    inventory.add_held(bucket.versions(vault, prefix))
    inventory.add_unlisted(vault, condition)
    lacking = f"point p WHERE {condition} AND {UNHELD}"
    told = inventory.summary(lacking)
    inventory.change(f"INSERT OR REPLACE INTO settled SELECT p.key, '{LOST}' FROM {lacking}")
    return told


def hold(
    run: Opened,
    inventory: Inventory,
    source: Bucket,
    point: Point,
    *,
    prefix: str = "",
    created: bool = False,
    log: Log,
) -> str:
    """Fill the tables from the live bucket and settle what differs; returns why the database could not be asked.

    created: the bucket was made just now, so that what it does not list is not there.
    """
    unknown = load(run, inventory, source, point, prefix=prefix, created=created, log=log)
    settle(inventory, source, known=not unknown)
    return unknown


def all_gone(inventory: Inventory, point: Point, *, prefix: str) -> None:
    """Fill the tables as if there were no bucket: all must come back."""
    for table in ("point", "live", "rows", "settled"):
        inventory.change(f"DELETE FROM {table}")
    inventory.add_listing("point", point.entries(prefix))
    inventory.change(f"INSERT INTO settled SELECT key, '{DOUBT}' FROM point")


def load(
    run: Opened,
    inventory: Inventory,
    source: Bucket,
    point: Point,
    *,
    prefix: str = "",
    created: bool = False,
    log: Log,
) -> str:
    """Fill `point`, `live` and, where it can be asked, `rows`; returns why the database could not be, or nothing.

    created: as in hold().
    """
    inventory.add_listing("point", point.entries(prefix))
    _read_live(inventory, source, prefix, "point", created=created)
    for pattern in store.left_out(run.config.objects, source.name):
        same = "substr(key, 1, length(?)) = ?" if pattern.endswith("*") else "key = ? AND key = ?"
        inventory.change(
            f"INSERT OR IGNORE INTO settled SELECT key, '{EXCLUDED}' FROM live WHERE {same}"
            " AND key NOT IN (SELECT key FROM point)", *[pattern[:-1] if pattern.endswith("*") else pattern] * 2,
        )  # fmt: skip
    log(f"{inventory.count('live')} objects in {source.url}, {inventory.count('point')} in {point.id}")
    if not run.config.database.enabled:
        return "there is no database"
    if not run.config.objects.keys_query:
        return "lifeboat_objects.keys_query is not set"
    try:
        known = reconcile.read_known(run, inventory)
    except LifeboatError as exc:
        return exc.cause
    return "" if known or not inventory.count("point") else "it knows no object at all"


def look_again(run: Opened, inventory: Inventory, source: Bucket, prefix: str = "") -> None:
    """Fill `rows` and `live` as they are now, below `prefix`.

    The rows first: an object is written before its row, so what is listed later has every object that they name.
    """
    for table in ("rows", "live"):
        inventory.change(f"DELETE FROM {table}")
    reconcile.read_known(run, inventory)
    inventory.change("DELETE FROM rows WHERE substr(key, 1, length(?)) <> ?", prefix, prefix)
    _read_live(inventory, source, prefix, "rows")


def _read_live(inventory: Inventory, source: Bucket, prefix: str, expected: str, *, created: bool = False) -> None:
    """Fill `live` from the bucket's listing, not believed for what it lacks of the keys in the table `expected`.

    MinIO lists no `a/b` once there is `a`, and gives it all the same: of the keys that are not listed some at random
    are asked for, and all of them if one of these is there, or the listing is not in order. created: as in hold().
    """
    watch = bucket.Watch(datetime.now(timezone.utc) - bucket.SETTLED)
    listed = inventory.add("live", live_rows(source, prefix, watch))
    if created and not listed:
        return
    missing = f"SELECT DISTINCT w.key FROM {expected} w WHERE w.key NOT IN (SELECT key FROM live)"
    limit = -1 if watch.order else ASKED
    deadline = time.monotonic() + READ_SECONDS

    def ask(key: str) -> Optional[_Live]:
        return None if time.monotonic() > deadline else _head(source, key)

    while True:
        keys = [str(key) for (key,) in inventory.each(f"SELECT key FROM ({missing}) ORDER BY random() LIMIT {limit}")]
        with ThreadPoolExecutor(READERS) as pool:
            found = list(filter(None, pool.map(ask, keys)))
        inventory.add("live", found)
        if not found or limit < 0:
            return
        limit = -1


def _head(source: Bucket, key: str) -> Optional[_Live]:
    """A row of `live`; None where it is not there, or the server does not say so."""
    try:
        with client.translated_errors("look for the object", f"{key} in {source.url}"):
            told = _impatient(source).client.head_object(Bucket=source.name, Key=key)
    except LifeboatError:
        return None
    modified = told.get("LastModified")
    at = modified.timestamp() if isinstance(modified, datetime) else 0.0
    return key, int(told["ContentLength"]), str(told.get("ETag", "")).strip('"'), "", at


def live_rows(source: Bucket, prefix: str = "", watch: Optional[bucket.Watch] = None) -> Iterator[_Live]:
    """The bucket's current objects, as the table `live` has them."""
    for version in bucket.objects(source, prefix, watch):
        if not version.key:
            continue  # no request can be about it: it stays as it is
        yield text(version.key), version.size, version.etag, "", version.modified.timestamp()


def settle(inventory: Inventory, source: Bucket, *, known: bool) -> None:
    """Find out of every key that is gone or differs whether that is damage: fills `settled`.

    known: the database was asked. An object whose tag differs is read: a tag need not be a hash of the bytes.
    """
    row = "EXISTS (SELECT 1 FROM rows r WHERE r.key = p.key)"
    verdict = f"CASE WHEN {row} THEN '{WRONG}' ELSE '{LOOSE}' END" if known else f"'{DOUBT}'"
    inventory.change(f"INSERT INTO settled SELECT p.key, {verdict} FROM {GONE}")
    columns = "key, p.size, p.etag, p.sha256, l.size"
    differing = list(inventory.each(f"SELECT {columns} FROM {DIFFERS} ORDER BY key LIMIT {READ_MOST}"))
    told: dict[str, list[_Told]] = {
        key: list(inventory.each("SELECT size, sha256 FROM rows WHERE key = ?", key)) for key, *_rest in differing
    }  # a connection to SQLite is not for several threads
    deadline = time.monotonic() + READ_SECONDS

    def compare_object(differs: tuple[str, int, str, str, int]) -> Optional[tuple[str, str]]:
        if time.monotonic() > deadline:
            return None
        return differs[0], _settled(source, *differs, rows=told[differs[0]] if known else [])

    with ThreadPoolExecutor(READERS) as pool:
        inventory.add("settled", filter(None, pool.map(compare_object, differing)))
    rest = f"{DIFFERS} AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.key = p.key)"
    how = f"CASE WHEN {_BY_KMS} THEN '{UNREAD}' ELSE '{DOUBT}' END"
    inventory.change(f"INSERT INTO settled SELECT key, {how} FROM {rest}")


def _settled(source: Bucket, key: str, size: int, etag: str, sha256: str, live_size: int, *, rows: list[_Told]) -> str:
    """One object that is not as listed. rows: (size, sha256) of each row that names it."""
    if size != live_size and not any(digest for _size, digest in rows):
        return RIGHT if live_size in [item for item, _digest in rows] else WRONG if rows else DOUBT
    try:
        md5, own = digests(source, key)
    except LifeboatError as exc:
        cause = error_registry.cause_of(exc)
        if cause and cause.whole:
            raise
        return DOUBT if cause else WRONG
    if size == live_size and (own == sha256 or md5 == etag):
        return SAME
    if own in [digest for _size, digest in rows]:
        return RIGHT
    return WRONG if rows else DOUBT


def digests(source: Bucket, key: str, version: str = "") -> tuple[str, str]:
    """MD5 and SHA-256 of the bytes of an object, or of one version of it, read now."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with client.translated_errors("read", f"{key} in {source.url}"):
        which = {"VersionId": version} if version else {}
        body = _impatient(source).client.get_object(Bucket=source.name, Key=key, **which)["Body"]
        try:
            for data in iter(lambda: body.read(1 << 20), b""):
                md5.update(data)
                sha256.update(data)
        finally:
            body.close()
    return md5.hexdigest(), sha256.hexdigest()


def _impatient(source: Bucket) -> Bucket:
    """With a client that asks once, and is that of all buckets there."""
    return _asking_once(replace(source, name="")).sibling(source.name)


@functools.lru_cache(maxsize=8)
def _asking_once(source: Bucket) -> Bucket:
    return replace(source, patience=SILENCE, attempts=1)


def judge(config: Config, inventory: Inventory, point: Point, unknown: str) -> tuple[list[str], list[str], list[str]]:
    """(findings, what nobody can say, what is worth telling) of what settle() found out.

    unknown: why the database could not be asked.
    """
    findings, unsure, told = [], [], []
    if missing := inventory.summary(f"{GONE} AND {_is(WRONG)}"):
        findings.append(f"objects are gone that the database knows: {missing}")
    if overwritten := inventory.summary(f"{DIFFERS} AND {_is(WRONG)}"):
        findings.append(f"objects are neither what {point.id} nor what the database has: {overwritten}")
    either = f"settled WHERE how IN ('{DOUBT}', '{LOOSE}')"
    count, total = inventory.counted(either)[0], inventory.count("point")
    if count and (count == total or 100 * count > config.objects.change_limit * total):
        words = f"of {total} objects are gone or overwritten since {point.id}: {inventory.summary(either)}"
        findings.append(f"more than the {config.objects.change_limit} % {words}")
    elif count:
        if doubtful := inventory.summary(f"settled WHERE how = '{DOUBT}'"):
            changed = f"of {total} objects are gone or overwritten since {point.id}: {doubtful}"
            unsure.append(f"{changed}; whether rightly, is not known")
        if loose := inventory.summary(f"settled WHERE how = '{LOOSE}'"):
            told.append(f"objects are gone since {point.id} that no row knows: {loose}; a recovery brings them back")
    if unread := inventory.summary(f"settled WHERE how = '{UNREAD}'"):
        unsure.append(f"objects encrypted with a KMS were written again since {point.id} and not read: {unread}")
    if unknown and config.database.enabled:
        unsure.append(f"what the database says of the objects: {unknown}")
    return findings, unsure, told


def rows_without(inventory: Inventory) -> tuple[frozenset[str], int, str]:
    """Keys of rows whose object neither the bucket nor the point has, how many, and these in words: the first of them.

    A row so young that its object may be on its way is none. The keys are at most as many as are looked for.
    """
    old = time.time() - reconcile.GRACE
    lacking = (
        "rows r WHERE NOT EXISTS (SELECT 1 FROM live l WHERE l.key = r.key)"
        f" AND NOT EXISTS (SELECT 1 FROM point p WHERE p.key = r.key) AND coalesce(r.at, 0) <= {old!r}"
    )
    keys = frozenset(key for (key,) in inventory.each(f"SELECT DISTINCT r.key FROM {lacking} LIMIT {READ_MOST}"))
    return keys, inventory.counted(lacking)[0], inventory.summary(lacking)


def _is(how: str) -> str:
    return f"EXISTS (SELECT 1 FROM settled s WHERE s.key = p.key AND s.how = '{how}')"


def damaged(inventory: Inventory, source: Bucket, vault: Bucket, among: str) -> str:
    """Read every object that is `among` those that should be right; the condition on a row p that is not.

    Its headers and tags are held against those on record: another client may have changed them alone.
    """

    def check_object(entry: tuple[str, str, str, str, str, Optional[str], Optional[str]]) -> tuple[str, str]:
        key, etag, sha256, line, version, headers, tags = entry
        if _damage(source, key, etag, sha256, line):
            return key, WRONG
        ours, wanted = copier.facts(source, key), copier.recorded(vault, key, version, Record(headers, tags))
        return key, SAME if (ours.headers, ours.tags) == wanted else WRONG

    columns = "p.key, p.etag, p.sha256, p.properties, p.version, p.headers, p.tags"
    several = inventory.each(f"SELECT {columns} FROM {among} ORDER BY p.key")
    throttle.each(lambda entry: inventory.add("settled", [check_object(entry)]), several, READERS)
    return _is(WRONG)


def _damage(source: Bucket, key: str, etag: str, sha256: str, properties_text: str) -> str:
    """What is wrong with the bytes under a key; nothing where they are as listed, or nobody noted what they were.
    properties_text: its properties on record.

    Raises what refuses to let us look.
    """
    try:
        md5, own = digests(source, key)
    except LifeboatError as exc:
        if error_registry.cause_of(exc):
            raise
        return f"{named(key)} cannot be read: {exc.cause}"
    speaks = properties.is_md5(etag, properties.parse(properties_text).encryption)
    wrong = own != sha256 if sha256 else speaks and md5 != etag
    return f"{named(key)} has other bytes than its listing says" if wrong else ""


def sample(inventory: Inventory, source: Bucket, share: int = 1) -> tuple[list[str], list[str], int]:
    """Really read some of the objects that are listed as they should be. share: of so many buckets this is one.

    Returns (findings, what was not read, how many are damaged); stops where these are ENOUGH. Raises what refuses to
    let us read any of them.
    """
    same = f"point p JOIN live l USING (key) WHERE NOT {_OTHER}"
    columns = "key, p.size, p.etag, p.sha256, p.properties"
    drawn = list(inventory.each(f"SELECT {columns} FROM {same} ORDER BY random() LIMIT {-(-SAMPLE // share)}"))
    random.shuffle(drawn)
    chosen, bytes_left = [], SAMPLE_BYTES // share
    for item in drawn:
        if item[1] <= bytes_left:
            bytes_left -= item[1]
            chosen.append(item)
    deadline = time.monotonic() + READ_SECONDS

    bad: list[str] = []
    withheld: list[LifeboatError] = []

    def read_object(entry: tuple[str, int, str, str, str]) -> bool:
        key, _size, etag, sha256, line = entry
        if time.monotonic() > deadline or len(bad) >= ENOUGH:
            return False
        try:
            wrong = _damage(source, key, etag, sha256, line)
        except LifeboatError as exc:
            withheld.append(exc)
            return False
        bad.extend([wrong] if wrong else [])
        return True

    with ThreadPoolExecutor(READERS) as pool:
        read = sum(pool.map(read_object, chosen))
    told = [exc for exc in withheld if not read or present(error_registry.cause_of(exc)).whole]
    if told:
        raise told[0]
    if bad:
        return [f"{len(bad)} of {read} objects read are damaged: {'; '.join(sorted(bad)[:ENOUGH])}"], [], len(bad)
    late = len(chosen) - read - len(withheld)
    unread = [f"{late} of {len(chosen)} objects were not read: {READ_SECONDS} s were up"] if late else []
    if withheld:
        first = withheld[0]
        unread.append(f"{len(withheld)} of {len(chosen)} objects could not be read: {first.subject}: {first.cause}")
    return [], unread, 0
