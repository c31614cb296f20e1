# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two buckets of a stack: its own and the vault's mirror of it. What they hold, listed fast and in bounded memory.

Servers list in orders of their own, repeat keys while others write, and some have no versions: nobody who reads a
listing here may rely on more than that every object that was there all the time comes at least once.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Callable, Optional
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from ..base.clock import parse_time
from ..base.errors import LifeboatError
from ..base.typed import Range
from . import client
from .signed import Requests, fields, plain

NULL = "null"  # the version of what was written where, or while, nothing was versioned
_PAGE = 1000
_GARBLED = "\ufffd"
UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # no XML can say these
AMAZON = "https://s3.{region}.amazonaws.com"


@dataclass(frozen=True)
class Bucket:
    """One bucket at one endpoint. `endpoint_url` empty: Amazon S3."""

    name: str
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    @functools.cached_property
    def client(self) -> client.Client:
        return client.connect(self.endpoint_url, self.region, self.access_key, self.secret_key, self.ca_bundle)

    @functools.cached_property
    def requests(self) -> Requests:
        endpoint = self.endpoint_url or AMAZON.format(region=self.region or "us-east-1")
        return Requests(endpoint, self.region, self.access_key, self.secret_key, self.ca_bundle)

    @property
    def url(self) -> str:
        """For people."""
        return f"s3://{self.name} at {self.endpoint_url or 'Amazon S3'}"


@dataclass(frozen=True)
class Version:
    """One version of one object. `version`: the server's id, or `null`. `deleted`: it is a delete marker."""

    key: str
    size: int
    etag: str
    modified: datetime
    version: str = NULL
    latest: bool = True
    deleted: bool = False


@dataclass(frozen=True)
class Listed:
    """One object of a backup: what the source said of it, and which version of the vault's holds it.

    sha256: None where no one has read the bytes.
    """

    key: str
    size: Annotated[int, Range(0)]
    etag: str = ""
    modified: Optional[datetime] = None
    version: str = NULL
    vault_version: str = ""
    vault_etag: str = ""
    sha256: Optional[str] = None


def versioning(bucket: Bucket) -> str:
    """`Enabled`, `Suspended`, or empty: never switched on, or not known to the server."""
    query = {"versioning": ""}
    try:
        page = _ask(bucket, query, "look at the bucket")
    except LifeboatError as exc:
        if client.code(exc) in client.UNSUPPORTED:
            return ""
        raise
    return fields(page).get("Status", "")


def skew(bucket: Bucket) -> Optional[float]:
    """Seconds that the server's clock is ahead of this host's, to the second; None where it sends no date."""
    return bucket.requests.skew(bucket.name, bucket.url)


def versions(bucket: Bucket, prefix: str = "") -> Iterator[Version]:
    """Every version of every object below `prefix`, in whatever order; without versions: objects(), as `null`."""
    garbled: set[str] = set()
    try:
        for page in _pages(bucket, {"versions": "", "prefix": prefix}, _version_marks):
            if _GARBLED in page.key:
                garbled.add(page.key)
            else:
                yield page
    except LifeboatError as exc:
        if client.code(exc) not in client.UNSUPPORTED:
            raise
        yield from objects(bucket, prefix)
    yield from _restored(bucket, garbled)


def _restored(bucket: Bucket, garbled: set[str]) -> Iterator[Version]:
    """XML has no control characters, and SeaweedFS does not encode the keys where it lists versions: ask for each such
    key by the name that it has where the server does encode. What is deleted has no such name, and is left out."""
    for start in sorted({key.partition(_GARBLED)[0] for key in garbled}):
        for known in [item.key for item in objects(bucket, start)]:
            shown = UNSPEAKABLE.sub(_GARBLED, known)
            if shown in garbled:
                for page in _pages(bucket, {"versions": "", "prefix": known}, _version_marks):
                    if page.key == shown:
                        yield dataclasses.replace(page, key=known)


def objects(bucket: Bucket, prefix: str = "") -> Iterator[Version]:
    """The current objects, without versions' ids: cheaper where there are many, all there is where there are none."""
    yield from _pages(bucket, {"list-type": "2", "prefix": prefix}, _object_marks)


Marks = Callable[[Mapping[str, str], Callable[[str], str]], Optional[dict[str, str]]]


def _pages(bucket: Bucket, query: Mapping[str, str], marks: Marks) -> Iterator[Version]:
    seen: set[str] = set()
    more: Optional[dict[str, str]] = {}
    attempted = "list the bucket"
    while more is not None:
        asked = {**query, **more, "max-keys": str(_PAGE), "encoding-type": "url"}
        page = _ask(bucket, asked, attempted)
        if plain(page.tag) not in ("ListVersionsResult", "ListBucketResult"):
            raise _unintelligible(bucket, attempted, f"<{plain(page.tag)}>")
        found, head = [], {}
        for child in page:
            if len(child):
                found.append(child)
            else:
                head[plain(child.tag)] = child.text or ""
        decode = unquote_plus if head.get("EncodingType") == "url" else str
        try:
            for child in found:
                one = _version(child, decode)
                if one is not None:
                    yield one
        except (LookupError, ValueError, LifeboatError) as exc:
            raise _unintelligible(bucket, attempted, repr(exc)) from exc
        more = marks(head, decode) if head.get("IsTruncated", "").lower() == "true" else None
        if more is not None:
            mark = repr(more)
            if mark in seen or not any(more.values()):
                raise _unintelligible(bucket, attempted, "a page that says it is followed by itself")
            seen.add(mark)


def uploads(bucket: Bucket) -> Iterator[tuple[str, str, datetime]]:
    """Uploads of parts that are not finished: key, upload id, when they were begun."""
    attempted, more = "list unfinished uploads", {"uploads": ""}
    seen: set[str] = set()
    while repr(more) not in seen:
        seen.add(repr(more))
        head: dict[str, str] = {}
        for child in _ask(bucket, {**more, "encoding-type": "url"}, attempted):
            head[plain(child.tag)] = child.text or ""
            if plain(child.tag) == "Upload":
                said = fields(child)
                key = unquote_plus(said["Key"]) if head.get("EncodingType") == "url" else said["Key"]
                yield key, said["UploadId"], _moment(said["Initiated"])
        if head.get("IsTruncated", "").lower() != "true":
            return
        key_marker = head.get("NextKeyMarker", "")
        key_marker = unquote_plus(key_marker) if head.get("EncodingType") == "url" else key_marker
        more = {"uploads": "", "key-marker": key_marker, "upload-id-marker": head.get("NextUploadIdMarker", "")}


def _version_marks(head: Mapping[str, str], decode: Callable[[str], str]) -> dict[str, str]:
    found = {"key-marker": decode(head.get("NextKeyMarker", ""))}
    return {**found, "version-id-marker": head["NextVersionIdMarker"]} if head.get("NextVersionIdMarker") else found


def _object_marks(head: Mapping[str, str], decode: Callable[[str], str]) -> dict[str, str]:
    del decode  # a continuation token is opaque and comes as it is
    return {"continuation-token": head.get("NextContinuationToken", "")}


def _version(child: ElementTree.Element, decode: Callable[[str], str]) -> Optional[Version]:
    kind = plain(child.tag)
    if kind not in ("Contents", "Version", "DeleteMarker"):  # CommonPrefixes
        return None
    said = fields(child)
    return Version(
        key=decode(said["Key"]),
        size=int(said.get("Size") or 0),
        etag=said.get("ETag", "").strip('"'),
        modified=_moment(said["LastModified"]),
        version=said.get("VersionId") or NULL,
        latest=said.get("IsLatest", "true").lower() == "true",
        deleted=kind == "DeleteMarker",
    )


@functools.lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    return parse_time(text)


def _ask(bucket: Bucket, query: Mapping[str, str], attempted: str) -> ElementTree.Element:
    """One page, as XML."""
    data = bucket.requests.get(bucket.name, query, attempted, bucket.url)
    try:
        return ElementTree.fromstring(data)  # noqa: S314 - expat bounds entity expansion since 2.4.1
    except ElementTree.ParseError as exc:
        raise _unintelligible(bucket, attempted, f"no XML ({exc})") from exc


def _unintelligible(bucket: Bucket, attempted: str, what: str) -> LifeboatError:
    return LifeboatError(
        attempted, bucket.url, f"the server answered what is no listing: {what}",
        "Is that an S3 endpoint? Correct endpoint_url and port, or look at the server's log.",
    )  # fmt: skip
