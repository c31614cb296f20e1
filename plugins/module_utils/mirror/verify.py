# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a bucket against a listing: is every object there, with the right bytes, headers, user metadata and tags?

Presence, size and ETag of all of them, from the bucket's own listing. Bytes are read, of all or of a sample, and it is
said which. What nothing is known of to compare with is told, never passed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from ..base import throttle
from ..base.checks import COULD_NOT_VERIFY, Check, compared
from ..base.errors import IntegrityError, LifeboatError, NotFoundError
from ..s3 import bucket as s3_bucket
from ..s3 import copier
from ..s3.bucket import Bucket, Listed
from ..s3.inventory import Inventory
from ..settings.config import Config
from ..stack import buckets

_TABLES = {
    "wanted": "key TEXT PRIMARY KEY, size INT, etag TEXT, vault_version TEXT, vault_etag TEXT, sha256 TEXT",
    "have": "key TEXT PRIMARY KEY, size INT, etag TEXT",
}
_MD5 = re.compile(r"[0-9a-f]{32}")
_NAMED = 20
_JOINED = "wanted w JOIN have h ON h.key = w.key"
_OTHER_ETAG = "h.etag <> w.etag AND h.etag <> w.vault_etag AND length(h.etag) = 32 AND length(w.etag) = 32"


_Row = tuple[str, int, str, str, str, Optional[str]]


@dataclass
class _Found:
    """What reading objects told, from many threads."""

    bytes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    read: int = 0
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def verify_objects(
    config: Config,
    listing: Iterable[Listed],
    bucket: Bucket,
    sample: Optional[int] = None,
    *,
    metadata: bool = True,
) -> list[Check]:
    """The checks `objects`, `bytes` and, with `metadata`, `metadata and tags`, which are compared with the vault's.

    sample: read so many objects, drawn by chance; None: all. Keys that the listing does not know are told and are no
    failure: whether they belong there is the caller's to say.
    """
    with Inventory(_TABLES) as tables:
        rows = ((row.key, row.size, row.etag, row.vault_version, row.vault_etag, row.sha256) for row in listing)
        total = tables.add("wanted", rows)
        tables.add("have", ((version.key, version.size, version.etag) for version in s3_bucket.objects(bucket)))
        checks = [_presence(tables, total)]
        order = "w.size DESC" if sample is None else f"random() LIMIT {sample}"
        found = _Found()
        vault = buckets.vault(config) if metadata else None
        drawn = f"SELECT w.* FROM {_JOINED} ORDER BY {order}"
        throttle.each(lambda row: _look(bucket, vault, row, found), tables.each(drawn), config.objects.transfers)
    which = f"all {total} objects" if found.read == total else f"{found.read} of {total} objects"
    checks.append(_bytes(found, which, total))
    if metadata:
        checks.append(_facts(found, which, total))
    return checks


def _presence(tables: Inventory, total: int) -> Check:
    wrong = []
    for words, source in (
        ("is missing", "wanted w WHERE w.key NOT IN (SELECT key FROM have)"),
        ("has another size", f"{_JOINED} WHERE h.size <> w.size"),
        ("has another ETag", f"{_JOINED} WHERE h.size = w.size AND {_OTHER_ETAG}"),
    ):
        count = int(tables.value(f"SELECT count(*) FROM {source}"))
        first = [str(key) for (key,) in tables.each(f"SELECT w.key FROM {source} ORDER BY w.key LIMIT {_NAMED}")]
        wrong += [f"{key!r} {words}" for key in first] + [f"another {words}"] * (count - len(first))
    more = int(tables.value("SELECT count(*) FROM have WHERE key NOT IN (SELECT key FROM wanted)"))
    same = f"all {total} objects are there with their size and ETag"
    return compared("objects", wrong, same + (f"; {more} others are there too" if more else ""))


def _look(bucket: Bucket, vault: Optional[Bucket], row: _Row, found: _Found) -> None:
    key, size, etag, vault_version, _at, sha256 = row
    wrong, unknown = "", ""
    try:
        own, md5, _size = copier.digest(bucket, key, size)
        if sha256:
            wrong = "other bytes" if own != sha256 else ""
        elif _MD5.fullmatch(etag):
            wrong = "other bytes" if md5 != etag else ""
        elif vault is None:
            unknown = f"of {key!r} no checksum is known"
        else:
            wrong = "other bytes" if own != copier.digest(vault, key, size, vault_version)[0] else ""
    except (NotFoundError, IntegrityError) as exc:
        wrong = exc.cause
    different, unasked = ("", "") if vault is None else _facts_of(bucket, vault, key, vault_version)
    with found.lock:
        found.read += 1
        found.size += size
        for said, into in ((wrong, found.bytes), (different, found.facts)):
            if said:
                into.append(f"{key!r}: {said}")
        found.unknown += [unknown] if unknown else []
        found.unasked += [unasked] if unasked else []


def _facts_of(bucket: Bucket, vault: Bucket, key: str, vault_version: str) -> tuple[str, str]:
    """(what differs, why nobody can say)"""
    try:
        ours = copier.facts(bucket, key)
    except NotFoundError as exc:
        return exc.cause, ""
    try:
        theirs = copier.facts(vault, key, vault_version)
    except LifeboatError as exc:
        return "", f"the vault's {key!r} cannot be looked at: {exc.cause}"
    wrong = sorted(
        name for name in {*ours.headers, *theirs.headers} if ours.headers.get(name) != theirs.headers.get(name)
    )
    wrong += ["tags"] if ours.tags != theirs.tags else []
    return f"other {', '.join(wrong)}" if wrong else "", ""


def _bytes(found: _Found, which: str, total: int) -> Check:
    if total and not found.read:
        return Check("bytes", COULD_NOT_VERIFY, f"none of {total} objects was read")
    if not found.bytes and found.unknown:
        return Check(
            "bytes", COULD_NOT_VERIFY, "; ".join(sorted(found.unknown)[:3]) + f" ({len(found.unknown)} in all)"
        )
    return compared("bytes", sorted(found.bytes), f"{which} were read ({found.size} bytes) and have their checksum")


def _facts(found: _Found, which: str, total: int) -> Check:
    name = "metadata and tags"
    if total and not found.read:
        return Check(name, COULD_NOT_VERIFY, f"none of {total} objects was looked at")
    if not found.facts and found.unasked:
        return Check(name, COULD_NOT_VERIFY, "; ".join(sorted(found.unasked)[:3]) + f" ({len(found.unasked)} in all)")
    return compared(name, sorted(found.facts), f"of {which} they are the vault's")
