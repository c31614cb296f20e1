# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server keeps of one object that a copy of it has not: encryption, checksums, retention, legal hold.

On record it is a line like `encryption=aws%3Akms&clear=1&mode=COMPLIANCE&until=2027-01-01T00%3A00%3A00Z&hold=1`. So
are an object's headers with its user metadata, and its tags.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional
from urllib.parse import parse_qsl, quote, urlencode

from ..base.clock import parse_time
from ..base.errors import LifeboatError
from .signed import ENCRYPTION, KEPT, LOCK, USER

ASK = {"x-amz-checksum-mode": "ENABLED"}  # or no server tells an object's checksums
OWN_KEY = "a key of the customer's"
ALGORITHM, _KEY = ENCRYPTION
_MD5 = re.compile(r"[0-9a-f]{32}")
_CHECKSUM = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)")
_MODE, _UNTIL, _HOLD = LOCK
_FINER = re.compile(r"\.\d{6}\d*[1-9]")  # than a microsecond
_MODES = ("GOVERNANCE", "COMPLIANCE")
_LONGEST = 1200  # characters of a line on record
_LONGEST_KEY = 200  # characters of the name of a key
METADATA = "user metadata"
# A line of written() whose names need no quotes, and whose texts are ASCII: what must be quoted is, and nothing else.
_PLAIN, _QUOTED = "[A-Za-z0-9_.~-]", "%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF])"
_PAIR = f"{_PLAIN}+={_PLAIN}*(?:{_QUOTED}{_PLAIN}*)*"
_AS_WRITTEN = re.compile(f"{_PAIR}(?:&{_PAIR})*")
_LOSABLE = frozenset({*KEPT, METADATA})


@dataclass(frozen=True)
class Properties:
    """encryption: how it is encrypted, and encryption_key: the name of the key, where the server tells one. clear: the
    vault's copy is not encrypted. checksums: the kinds that are kept with it.

    lost: what the vault's copy has not, or has otherwise: names of headers, and METADATA; see lost().
    mode, until: nobody may delete it before then, GOVERNANCE: but with a right to. hold: nor as long as that is ON.
    """

    encryption: str = ""
    clear: bool = False
    checksums: str = ""
    mode: str = ""
    until: Optional[datetime] = None
    hold: bool = False
    lost: tuple[str, ...] = ()
    encryption_key: str = ""

    @property
    def encoded(self) -> str:
        said = {
            "encryption": self.encryption, "key": self.encryption_key, "clear": "1" if self.clear else "",
            "checksums": self.checksums, "mode": self.mode, "until": format_until(self.until) if self.until else "",
            "hold": "1" if self.hold else "", "lost": ",".join(self.lost),
        }  # fmt: skip
        return urlencode({name: value for name, value in said.items() if value})

    def headers(self, now: datetime, *, whole_seconds: bool = False) -> dict[str, str]:
        """Return those with which it is written to be locked from the beginning, as far as the lock still lasts.

        whole_seconds: the server cuts what is finer, so that its lock would be too short.
        """
        kept = {}
        if self.until and self.retained(now):
            until = whole_second(self.until) if whole_seconds else self.until
            kept = {_MODE: self.mode, _UNTIL: format_until(until)}
        return {**kept, **({_HOLD: "ON"} if self.hold else {})}

    @property
    def encryption_headers(self) -> dict[str, str]:
        """Return those with which it is written to be encrypted as it was; nothing if only its client has the key."""
        if self.encryption in ("", OWN_KEY):
            return {}
        return {ALGORITHM: self.encryption, **({_KEY: self.encryption_key} if self.encryption_key else {})}

    def retained(self, now: datetime) -> bool:
        """Does a retention that is on record still last?"""
        return self.until is not None and self.until > now

    def locked(self, now: datetime) -> bool:
        return self.hold or self.retained(now)

    def lacks(self, expected: Properties, now: datetime) -> list[str]:
        """List what of the expected lock is missing; a longer or stricter lock will do."""
        lacking = []
        if expected.retained(now):
            shorter = self.until is None or expected.until is None or self.until < expected.until
            weaker = expected.mode == "COMPLIANCE" and self.mode != expected.mode
            lacking += ["retention"] if shorter or weaker else []
        return lacking + (["legal hold"] if expected.hold and not self.hold else [])


NONE = Properties()


def encryption(headers: Mapping[str, str]) -> str:
    """Return how the server says that an object is encrypted; nothing where it does not."""
    if any(name.startswith(f"{ALGORITHM}-customer-") for name in headers):
        return OWN_KEY
    return headers.get(ALGORITHM, "")[:40]


def is_md5(etag: str, encryption: str) -> bool:
    """Tell whether an ETag speaks of an object's bytes, which have this encryption.

    An object that is encrypted by a KMS, or with a key of the customer's, has an ETag of 32 hexadecimal digits that is
    no MD5 and new at each write: MinIO, and https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    return bool(_MD5.fullmatch(etag)) and not encryption.startswith("aws:kms") and encryption != OWN_KEY


def from_headers(headers: Mapping[str, str]) -> Properties:
    """Return the properties that the answer to a GET or a HEAD tells."""
    mode = headers.get(_MODE, "").upper()
    sums = sorted(found[1].upper() for found in map(_CHECKSUM.fullmatch, headers) if found)
    until = None
    with contextlib.suppress(ValueError):  # no time at all: no lock that could be set again
        until = _moment(headers.get(_UNTIL, "")) if mode in _MODES else None
    hold = headers.get(_HOLD, "").upper() == "ON"
    how = encryption(headers)
    key = headers.get(_KEY, "") if how not in ("", OWN_KEY) else ""
    key = key if len(key) <= _LONGEST_KEY else ""
    return Properties(how, False, ",".join(sums), mode if until else "", until, hold, encryption_key=key)


@functools.lru_cache(maxsize=4096)
def parse(encoded: str) -> Properties:
    """Return the properties that are on record in this form. Raise ValueError where it is none of ours."""
    if not encoded:
        return NONE
    said = dict(parse_qsl(encoded[: _LONGEST + 1], strict_parsing=True))
    until = _moment(said.get("until", ""))
    known = Properties(
        said.get("encryption", ""), said.get("clear") == "1", said.get("checksums", ""), said.get("mode", ""), until,
        said.get("hold") == "1", tuple(filter(None, said.get("lost", "").split(","))), said.get("key", ""),
    )  # fmt: skip
    if list(known.lost) != sorted(_LOSABLE & {*known.lost}):
        raise ValueError(f"no properties of an object: {encoded[:_LONGEST]!r}")
    if known.encoded != encoded or (known.mode not in _MODES if until else known.mode):
        raise ValueError(f"no properties of an object: {encoded[:_LONGEST]!r}")
    return known


def lost(expected: Mapping[str, str], stored: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a copy does not have of the headers and the user metadata that it was given, by its
    server's answer."""
    gone = (name for name, value in expected.items() if stored.get(name) != value)
    return tuple(sorted({METADATA if name.startswith(USER) else name for name in gone}))


def written(pairs: Iterable[tuple[str, str]]) -> str:
    """Headers or tags as a line that is put on record, and as the header that sends tags. A blank as + would stay a +
    (Ceph RGW)."""
    return urlencode(sorted(pairs), quote_via=quote)


@functools.lru_cache(maxsize=4096)
def pairs(encoded: str) -> tuple[tuple[str, str], ...]:
    """Return the headers or tags that written() encoded. Raise ValueError where it is none of ours."""
    found = tuple(parse_qsl(encoded, keep_blank_values=True, strict_parsing=True)) if encoded else ()
    if written(found) != encoded:
        raise ValueError(f"no headers or tags of an object: {encoded[:_LONGEST]!r}")
    return found


def check(encoded: str) -> None:
    """Raise what pairs() raises. Nearly every line need not be decoded for that. Few are the same: tools that copy
    files note in the metadata when each was written."""
    if encoded and _AS_WRITTEN.fullmatch(encoded):
        names = [pair.partition("=")[0] for pair in encoded.split("&")]
        if names == sorted({*names}):
            return
    pairs(encoded)


def format_until(moment: datetime) -> str:
    """Return the end of a retention as servers write it, with as many digits of a second as it has."""
    fraction = f".{moment.microsecond:06}" if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction[: 4 if fraction.endswith('000') else None]}Z"


def whole_second(moment: datetime) -> datetime:
    """Return the first whole second that is not before this moment."""
    return moment.replace(microsecond=0) + timedelta(seconds=1 if moment.microsecond else 0)


def _moment(text: str) -> Optional[datetime]:
    """Parse the end of a retention. What is finer than a microsecond is rounded up: a record must not be shorter than
    the lock."""
    if not text:
        return None
    try:
        moment = parse_time(text).astimezone(timezone.utc)
    except LifeboatError as exc:
        raise ValueError(exc.cause) from exc
    try:
        return moment + timedelta(microseconds=1 if _FINER.search(text) else 0)
    except OverflowError as exc:
        raise ValueError(f"{text} is too late") from exc
