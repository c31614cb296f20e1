# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a bucket against a listing: is every object there, with the right bytes, headers, user metadata and tags?

Presence, size and ETag of all of them, from the bucket's own listing. Bytes are read, of all or of a sample, and it is
said which. What nothing is known of to compare with is told, never passed.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Optional

from ..base import progress, throttle
from ..base.checks import COULD_NOT_VERIFY, Check, compared
from ..base.errors import IntegrityError, LifeboatError, NotFoundError
from ..s3 import bucket as s3_bucket
from ..s3 import copier, properties
from ..s3.bucket import Bucket, Listed
from ..s3.copier import Facts, Record, Shared, Tags
from ..s3.inventory import ASKED, Inventory
from ..stack import buckets
from ..stack.runtime import Opened

_TABLES = {
    "wanted": "key TEXT PRIMARY KEY, size INT, etag TEXT, vault_version TEXT, vault_etag TEXT, sha256 TEXT,"
    " headers TEXT, tags TEXT, properties TEXT",
    "have": "key TEXT PRIMARY KEY, size INT, etag TEXT",
    "silent": "key TEXT PRIMARY KEY",
}
_NAMED = 20
_MISSING = "wanted w WHERE w.key NOT IN (SELECT key FROM have)"
_JOINED = "wanted w JOIN have h ON h.key = w.key"
# silent: objects whose ETag says nothing of their bytes.
_OTHER_ETAG = "h.etag <> w.etag AND h.etag <> w.vault_etag AND length(h.etag) = 32 AND length(w.etag) = 32"
BYTES, FACTS = "bytes", "metadata and tags"
_Row = tuple[str, int, str, str, str, Optional[str], Optional[str], Optional[str], str]


class _Findings:
    """What reading objects told, from many threads: by check what is wrong, and what nobody can say."""

    def __init__(self) -> None:
        self.wrong: defaultdict[str, list[str]] = defaultdict(list)
        self.unknown: defaultdict[str, list[str]] = defaultdict(list)
        self.read = self.size = 0
        self.lock = threading.Lock()

    def check(self, name: str, total: int, looked: str, right: str) -> Check:
        wrong, unknown = self.wrong[name], self.unknown[name]
        if total and not self.read:
            return Check(name, COULD_NOT_VERIFY, f"none of {total} objects was {looked}")
        if unknown and not wrong:
            return Check(name, COULD_NOT_VERIFY, "; ".join(sorted(unknown)[:3]) + f" ({len(unknown)} in all)")
        return compared(name, sorted(wrong), right)


def verify_objects(
    run: Opened, listing: Iterable[Listed], bucket: Bucket, sample: Optional[int] = None, *,
    shared: Optional[Shared] = None, share: int = 1,
) -> list[Check]:  # fmt: skip
    """The checks `objects`, `bytes` and `metadata and tags`, which are compared with those on record.

    sample: read so many objects, drawn by chance; None: all. Keys that the listing does not know are told and are no
    failure: whether they belong there is the caller's to say. shared: with what else is copied and read at the same
    time; share: this is one of so many, as of an Inventory.
    """
    vault, found, turn = buckets.vault(run), _Findings(), (shared or Shared()).turn

    def check_row(row: _Row) -> None:
        with turn:
            _check_object(bucket, vault, row, found)

    with Inventory(_TABLES, share=share) as tables:
        rows = (
            (
                row.key,
                row.size,
                row.etag,
                row.vault_version,
                row.vault_etag,
                row.sha256,
                row.headers,
                row.tags,
                row.properties,
            )
            for row in listing
        )
        total = tables.add("wanted", rows)
        watch = s3_bucket.Watch(datetime.now(timezone.utc) - s3_bucket.SETTLED)
        listed = s3_bucket.objects(bucket, watch=watch)
        tables.add("have", ((version.key, version.size, version.etag) for version in listed))
        unknown = _ask_for_unlisted(tables, bucket, all_of_them=bool(watch.order))
        _find_silent_etags(tables, bucket)
        presence = _presence(tables, total, unknown)
        order = "w.size DESC" if sample is None else f"random() LIMIT {sample}"
        drawn = f"SELECT w.* FROM {_JOINED} ORDER BY {order}"
        gauge = progress.Gauge(f"reading {bucket.url}", sample or total, unit=progress.OBJECTS)
        with progress.going(gauge):
            throttle.each(check_row, gauge.counting(tables.each(drawn)), run.config.objects.transfers)
    which = f"all {total} objects" if found.read == total else f"{found.read} of {total} objects"
    read = f"{which} were read ({found.size} bytes) and have their checksum"
    return [
        presence,
        found.check(BYTES, total, "read", read),
        found.check(FACTS, total, "looked at", f"of {which} they are those on record"),
    ]


def _ask_for_unlisted(tables: Inventory, bucket: Bucket, *, all_of_them: bool) -> str:
    """Before an object is called missing it is asked for: MinIO lists no `a/b` once there is `a`, and gives it.

    Of more than ASKED some at random, and all if one of these is there, or the listing is not in order. Returns why it
    is not known whether one is there; empty where that is known.
    """
    found: list[tuple[str, int, str]] = []
    unknown: list[str] = []

    def ask(row: tuple[str]) -> None:
        try:
            head = bucket.ask("HEAD", row[0], attempted=copier.READ)
        except NotFoundError:
            return
        except LifeboatError as exc:
            unknown.append(f"{row[0]!r} is not listed and cannot be asked for: {exc.cause}")
            return
        found.append((row[0], head.size, head.etag))

    limit = -1 if all_of_them else ASKED
    while True:
        rows = list(tables.each(f"SELECT w.key FROM {_MISSING} ORDER BY random() LIMIT {limit}"))
        throttle.each(ask, rows, 8)
        tables.add("have", found)
        if not found or len(rows) < ASKED or limit < 0:
            return min(unknown, default="")
        limit = -1


def _find_silent_etags(tables: Inventory, bucket: Bucket) -> None:
    """Fill `silent`. A listing does not tell which objects are encrypted: those with another ETag are asked."""

    def ask(row: tuple[str, str, str]) -> None:
        key, etag, line = row
        speaks = properties.is_md5(etag, properties.parse(line).encryption)
        if speaks:
            try:
                head = bucket.ask("HEAD", key, attempted=copier.READ)
            except NotFoundError:  # reading it tells so
                return
            speaks = properties.is_md5(head.etag, properties.encryption(head.headers))
        if not speaks:
            tables.add("silent", [(key,)])

    others = f"SELECT w.key, w.etag, w.properties FROM {_JOINED} WHERE h.size = w.size AND {_OTHER_ETAG}"
    throttle.each(ask, tables.each(others), 8)


def _presence(tables: Inventory, total: int, unknown: str) -> Check:
    wrong = []
    for words, source in (
        ("is missing", _MISSING),
        ("has another size", f"{_JOINED} WHERE h.size <> w.size"),
        ("has another ETag", f"{_JOINED} WHERE h.size = w.size AND {_OTHER_ETAG} AND w.key NOT IN silent"),
    ):
        count = int(tables.value(f"SELECT count(*) FROM {source}"))
        first = [str(key) for (key,) in tables.each(f"SELECT w.key FROM {source} ORDER BY w.key LIMIT {_NAMED}")]
        wrong += [f"{key!r} {words}" for key in first] + [f"another {words}"] * (count - len(first))
    if unknown:
        return Check("objects", COULD_NOT_VERIFY, unknown)
    more = int(tables.value("SELECT count(*) FROM have WHERE key NOT IN (SELECT key FROM wanted)"))
    silent = int(tables.value("SELECT count(*) FROM silent"))
    same = f"all {total} objects are there with their size and ETag"
    if silent:
        same += f"; {silent} of the ETags are no checksums, because the objects are encrypted with a KMS"
    return compared("objects", wrong, same + (f"; {more} others are there too" if more else ""))


def _check_object(bucket: Bucket, vault: Bucket, row: _Row, findings: _Findings) -> None:
    key, size, _etag, vault_version, *_rest = row
    told = {
        BYTES: _other_bytes(bucket, vault, row),
        FACTS: _facts_of(bucket, vault, key, vault_version, Record(*row[6:8])),
    }
    with findings.lock:
        findings.read += 1
        findings.size += size
        for name, (wrong, unknown) in told.items():
            findings.wrong[name] += [f"{key!r}: {wrong}"] if wrong else []
            findings.unknown[name] += [unknown] if unknown else []


def _other_bytes(bucket: Bucket, vault: Bucket, row: _Row) -> tuple[str, str]:
    """As _facts_of()."""
    key, size, etag, vault_version, _at, sha256, _headers, _tags, line = row
    try:
        own, md5, _now = copier.digest(bucket, key, size)
    except (NotFoundError, IntegrityError) as exc:
        return exc.cause, ""
    if sha256:
        same = own == sha256
    elif properties.is_md5(etag, properties.parse(line).encryption):
        same = md5 == etag
    else:
        try:
            same = own == copier.digest(vault, key, size, vault_version)[0]
        except LifeboatError as exc:
            return "", f"the vault's {key!r} cannot be read: {exc.cause}"
    return "" if same else "other bytes", ""


def _facts_of(bucket: Bucket, vault: Bucket, key: str, vault_version: str, record: Record) -> tuple[str, str]:
    """(what differs, why nobody can say)"""
    try:
        ours = copier.facts(bucket, key)
    except NotFoundError as exc:
        return exc.cause, ""
    try:
        headers, tags = copier.recorded(vault, key, vault_version, record)
        wrong = _differing(ours, headers, tags)
        if wrong and bucket.endpoint_url == vault.endpoint_url:
            # A bucket at the vault's own server cannot have what that server does not keep; a recovery may.
            theirs = copier.facts(vault, key, vault_version)
            if set(wrong) <= {*_differing(theirs, headers, tags)}:
                return "", f"the vault's server does not keep the {', '.join(wrong)} of {key!r}"
    except LifeboatError as exc:
        return "", f"the vault's {key!r} cannot be looked at: {exc.cause}"
    return f"other {', '.join(wrong)}" if wrong else "", ""


def _differing(ours: Facts, headers: Mapping[str, str], tags: Tags) -> list[str]:
    wrong = sorted(name for name in {*ours.headers, *headers} if ours.headers.get(name) != headers.get(name))
    return wrong + (["tags"] if ours.tags != tags else [])
