# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bucket of a stack, or the vault's mirror of one: what it holds, listed fast and in bounded memory.

Servers list in orders of their own, repeat keys while others write, and some have no versions: nobody who reads a
listing here may rely on more than that every object that was there all the time comes at least once.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import MAXYEAR, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Callable, NamedTuple, Optional, TypeVar
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree

from ..base import throttle
from ..base.clock import parse_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError
from ..base.typed import MOST, Range
from . import client, listing_parser
from .listing_parser import Page
from .signed import NULL, UNBOUNDED, UNSPEAKABLE, Answer, Bounds, Requests, fields, plain, xml

T = TypeVar("T")
_Decode = Callable[[str], str]
_Following = frozenset[tuple[str, str]]  # what asks for a page after the first: parameters of the request
# What asks for the next page: the parameter, and the field of this page that it is taken from.
_VERSIONS = {"key-marker": "NextKeyMarker", "version-id-marker": "NextVersionIdMarker"}
_OBJECTS = {"continuation-token": "NextContinuationToken"}
_MORE_BUCKETS = "ContinuationToken"  # the field of a list of buckets that has more
_KINDS = frozenset({"Contents", "Version", "DeleteMarker"})
_UPLOADS = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
_GARBLED = "\ufffd"
_LIST = "list the bucket"
EXCEPT = " except for "  # what is not versioned in a bucket that is
_SEAWEEDFS = "SeaweedFS"  # as it names itself in its answers
_BEFORE_A_SLASH = " !\"#$%&'()*+,-."
_BESIDE = 16  # of what begins with a folder's name: the first so many tell whether any of these comes after it
_AT_ONCE = 8  # requests after a listing
_AHEAD = 2  # pages of a listing that are here or on their way while one is worked on
_DEEPEST = 32  # listings that follow one from another, each below a longer name and of more than one page
KEYS = 1000  # that one page of a listing holds
# SeaweedFS gives so many times more current objects where it is asked to, and each page's end costs requests (_missed).
_LARGER = 5
SETTLED = timedelta(seconds=10)  # what was written longer ago is listed as it is
KNOWN_WITHIN = 20.0  # seconds in which each part of a server knows of a new bucket
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
    patience: float = client.READ_TIMEOUT  # seconds of silence that the client bears, so many times
    attempts: int = client.ATTEMPTS
    bounds: Bounds = UNBOUNDED

    @functools.cached_property
    def _lines(self) -> _Clients:
        return _Clients(self)

    @property
    def client(self) -> client.Client:
        return self._lines.client()

    @property
    def requests(self) -> Requests:
        return self._lines.requests

    def sibling(self, name: str) -> Bucket:
        """Another bucket at the same endpoint, over the same connections: a store may have a thousand."""
        found = dataclasses.replace(self, name=name)
        vars(found)["_lines"] = self._lines
        return found

    @property
    def url(self) -> str:
        """As messages name it."""
        return f"s3://{self.name} at {self.endpoint_url or 'Amazon S3'}"

    def ask(
        self, method: str, key: Optional[str] = None, query: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None, body: bytes = b"", *, attempted: str, subject: str = "",
    ) -> Answer:  # fmt: skip
        """One request about an object of the bucket; key None: about the bucket. As Requests.call()."""
        subject = subject or self.where(key)
        return self.requests.call(method, self.name, key, query, headers, body, attempted=attempted, subject=subject)

    def set(self, what: str, document: bytes, attempted: str) -> None:
        """Set one of the bucket's settings. what: a name of signed.SETTINGS. Servers want an MD5 with most of them.

        A bucket that was made just now is waited for: under load SeaweedFS reads its settings, and still answers that
        there is no such bucket where they are written.
        """
        md5 = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
        deadline = time.monotonic() + KNOWN_WITHIN
        while True:
            try:
                self.ask("PUT", query={what: ""}, headers={"content-md5": md5}, body=document, attempted=attempted)
                return
            except LifeboatError as exc:
                if client.code(exc) != "NoSuchBucket" or time.monotonic() >= deadline:
                    raise
            time.sleep(0.2)

    def ask_xml(self, attempted: str, query: Mapping[str, str], key: Optional[str] = None) -> ElementTree.Element:
        return xml(self.ask("GET", key, query, attempted=attempted).body, attempted, self.where(key))

    def where(self, key: Optional[str]) -> str:
        """Return what an error is of."""
        return self.url if key is None else f"{key!r} in {self.url}"


class _Clients:
    """The connections to an endpoint with a key, for all buckets there. Nothing is opened before it is used."""

    def __init__(self, bucket: Bucket) -> None:
        endpoint = bucket.endpoint_url or AMAZON.format(region=bucket.region or "us-east-1")
        keys = (bucket.access_key, bucket.secret_key, bucket.ca_bundle)
        self.requests = Requests(endpoint, bucket.region, *keys, bucket.bounds)
        self._bucket, self._lock = bucket, threading.Lock()
        self._client: client.Client = None

    def client(self) -> client.Client:
        with self._lock:  # a client takes long to make: one for all threads
            if self._client is None:
                bucket, keys = self._bucket, (self._bucket.access_key, self._bucket.secret_key, self._bucket.ca_bundle)
                self._client = client.connect(
                    bucket.endpoint_url, bucket.region, *keys, patience=bucket.patience, attempts=bucket.attempts
                )
            return self._client


class Version(NamedTuple):
    """One version of one object. `version`: the server's id, or `null`. `deleted`: it is a delete marker. storage: its
    class, nothing for the usual one. A tuple, because a listing makes millions of them."""

    key: str
    size: int
    etag: str
    modified: datetime
    version: str = NULL
    latest: bool = True
    deleted: bool = False
    storage: str = ""


@dataclass(frozen=True)
class Doubts:
    """What is known against a server's answers, in words; each empty where nothing is.

    times: the source's versions do not tell what it held at an instant. etags: a write can choose its ETag.
    dates: a write can choose the time that the source lists it with.
    """

    times: str = ""
    etags: str = ""
    dates: str = ""


TRUST = Doubts()


@dataclass
class Watch:
    """What is seen to be wrong in a listing while it is read; each empty where nothing is.

    order: the keys go back, or an object has old versions and no latest, so that some may be missing.
    times: the times are not those of the writes.
    unread: current objects whose names the listing does not tell, as it shows them.
    topless: objects of which it listed old versions and no latest, and which may be on their way: a reader asks for
    each by its name, or takes the listing for one that is not in order.
    settled: what was written later, by the server's clock, may be on its way: SeaweedFS lists a version before it is
    the latest.
    """

    settled: datetime
    order: str = ""
    times: str = ""
    unread: set[str] = field(default_factory=set)
    topless: set[str] = field(default_factory=set)
    _last: str = ""
    _last_parts: list[str] = field(default_factory=lambda: [""])
    _by_bytes: bool = True
    _by_parts: bool = True
    _topped: bool = True  # whether the latest version of the last key was listed
    _since: Optional[datetime] = None  # the time of that key's first row
    _untold: str = ""  # the key that the last page ended with, where the listing does not tell it

    def page(self, versions: Sequence[Version]) -> None:
        """Look at the next page, as it came."""
        if self._untold:  # what the next page begins after is not where this one ended: SeaweedFS leaves some out
            self.order = self.order or f"a page of it ends with a name that it does not tell, shown as {self._untold!r}"
        self._untold = next((version.key for version in versions[-1:] if _GARBLED in version.key), "")
        latest: dict[str, Version] = {}
        others: list[Version] = []
        for version in versions:
            key = version.key
            if _GARBLED in key:
                continue
            if key != self._last:
                self.end()
                self._follow(key)
                self._topped, self._since = False, version.modified
            self._topped |= version.latest
            if not version.latest or latest.setdefault(key, version) is not version:
                others.append(version)
        for version in others:
            top = latest.get(version.key)
            if top and top.modified < version.modified <= self.settled and not self.times:
                self.times = f"the latest version of {version.key!r} is listed as older than an earlier one"

    def end(self) -> None:
        """The last key has no more versions. What a reader gets is listed too, if only as a delete marker."""
        if not self._topped and self._since:
            if self._since > self.settled and len(self.topless) < KEYS:
                self.topless.add(self._last)
            else:
                self.untopped(self._last)
        self._topped = True

    def untopped(self, key: str) -> None:
        """The latest version of that object is not to be had."""
        self.order = self.order or f"no version of {key!r} is listed as its latest"

    def _follow(self, key: str) -> None:
        """By their bytes, as Amazon S3 sorts, or directory by directory, as SeaweedFS does. Text sorts as its UTF-8."""
        if self._by_bytes and key < self._last:
            self._by_bytes = False
        if self._by_parts:
            parts = key.split("/")
            self._by_parts = parts >= self._last_parts
            self._last_parts = parts
        if not (self._by_bytes or self._by_parts or self.order):
            self.order = f"{key!r} is listed after {self._last!r}"
        self._last = key


@dataclass
class Tags:
    """The tags of current objects that a listing tells beside them, as MinIO's does where it is asked to.

    take: gets them page by page: (key, ETag, tags as a query). included: the listing has some. omitted: it has none, as
    that of the JuiceFS gateway, which calls itself MinIO too. refused: why it is read without them. of_versions: it is
    a listing of versions.
    """

    take: Callable[[list[tuple[str, str, str]]], None]
    included: bool = False
    omitted: bool = False
    refused: str = ""
    of_versions: bool = False

    @property
    def requested(self) -> bool:
        return not (self.omitted or self.refused)

    def page(self, page: Page, decode: _Decode) -> None:
        """Look at the next page, as it came."""
        columns, rows = page.columns, list[tuple[str, str, str]]()
        count = page.count if page.kind != "DeleteMarker" else 0
        tells = count > 0 and "UserMetadata" in columns
        if tells:
            latest = columns.get("IsLatest", ["true"] * count)
            every = zip(columns["Key"], columns["ETag"], columns["UserTags"], latest)
            rows = [(decode(key), etag, _plainly(tags)) for key, etag, tags, top in every if top == "true"]
        for child in page.root:
            if plain(child.tag) in ("Contents", "Version"):
                count += 1
                row = fields(child)
                tells |= "UserMetadata" in row
                if row.get("IsLatest", "true") == "true":
                    rows.append((decode(row.get("Key", "")), row.get("ETag", "").strip('"'), row.get("UserTags", "")))
        if tells:
            self.included = True
            self.take(rows)
        elif count and not self.included:
            self.omitted = True


def _plainly(tags: Optional[str]) -> str:
    """Tags as XML writes them, which are no row's where that has none."""
    return (tags or "").replace("&amp;", "&")


@dataclass(frozen=True)
class Listed:
    """One object of a backup: what the source said of it, and which version of the vault's holds it.

    sha256: None where no one has read the bytes. properties: of the source, a line of properties.py; so are its headers
    and its tags, None where nobody noted them. tags_as_of: when its tags were read. vault_modified: the time that the
    vault lists its version with, None where no listing told. storage: its class, nothing for the usual one.
    """

    key: str
    size: Annotated[int, Range(0)]
    etag: str = ""
    modified: Optional[datetime] = None
    version: str = NULL
    vault_version: str = ""
    vault_etag: str = ""
    sha256: Optional[str] = None
    properties: str = ""
    headers: Optional[str] = None
    tags: Optional[str] = None
    tags_as_of: Optional[datetime] = None
    vault_modified: Optional[datetime] = None
    storage: str = ""


def host_and_port(url: str, region: str) -> tuple[str, int]:
    """Return host and port of an endpoint."""
    parts = urlsplit(url or AMAZON.format(region=region or "us-east-1"))
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def addresses(host: str) -> Optional[set[str]]:
    """None where it has none, or no resolver tells."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return None


def versioning(bucket: Bucket) -> str:
    """`Enabled`, `Suspended`, or empty: never switched on, or not known to the server.

    MinIO can leave objects out: then `Enabled except for` these.
    """
    try:
        return told_versioning(bucket)
    except LifeboatError as exc:
        if client.code(exc) in client.UNSUPPORTED:
            return ""
        raise


def told_versioning(bucket: Bucket) -> str:
    """As versioning(); raises what a server says that knows no versioning."""
    page = bucket.ask_xml("look at the bucket", {"versioning": ""})
    status = fields(page).get("Status", "")
    out = [child.text or "" for part in page if plain(part.tag) == "ExcludedPrefixes" for child in part]
    out += ["folders"] if fields(page).get("ExcludeFolders", "").strip().lower() == "true" else []
    return f"{status}{EXCEPT}{', '.join(out)}" if status and out else status


def lead(bucket: Bucket) -> Optional[tuple[float, float]]:
    """At least and at most so many seconds the server's clock is ahead of this host's: a header tells whole seconds."""
    return bucket.requests.lead(bucket.name, bucket.url)


def server(bucket: Bucket) -> str:
    """Return what the server calls itself in its answers; empty where it does not."""
    return bucket.requests.greet(bucket.name, bucket.url).get("server", "")


def versions(
    bucket: Bucket, prefix: str = "", watch: Optional[Watch] = None, tags: Optional[Tags] = None
) -> Iterator[Version]:
    """Yield every version of every object below `prefix`, in whatever order; without versions: objects(), as `null`."""
    if tags:
        tags.of_versions = True
    garbled: set[str] = set()
    live: set[str] = set()
    try:
        for version in _listed(bucket, {"versions": "", "prefix": prefix}, _VERSIONS, watch, tags=tags):
            if _GARBLED in version.key:
                garbled.add(version.key)
                live |= {version.key} if version.latest and not version.deleted else set()
            else:
                yield version
    except LifeboatError as exc:
        if client.code(exc) not in client.UNSUPPORTED:
            raise
        yield from objects(bucket, prefix, watch, tags)
    for version in _restored(bucket, prefix, garbled):
        live.discard(UNSPEAKABLE.sub(_GARBLED, version.key))
        yield version
    if watch:
        watch.unread |= live


def _restored(bucket: Bucket, prefix: str, garbled: set[str]) -> Iterator[Version]:
    """XML has no control characters, and SeaweedFS does not encode the keys where it lists versions: ask for each such
    key by the name that it has where the server does encode. What is deleted has no such name, and is left out. A page
    that ends with such a key hides others, so each is asked for that the listing of objects shows."""
    for known in [item.key for item in objects(bucket, prefix)] if garbled else ():
        shown = UNSPEAKABLE.sub(_GARBLED, known)
        if shown in garbled or shown != known:
            for version in _listed(bucket, {"versions": "", "prefix": known}, _VERSIONS):
                if version.key == shown:
                    yield version._replace(key=known)


def objects(
    bucket: Bucket, prefix: str = "", watch: Optional[Watch] = None, tags: Optional[Tags] = None
) -> Iterator[Version]:
    """Yield the current objects, without versions' ids: cheaper where there are many, all there is where there are
    none."""
    larger = not prefix and not bucket.bounds.about and server(bucket).startswith(_SEAWEEDFS)
    keys = KEYS * _LARGER if larger else KEYS
    if tags:
        tags.of_versions = False
    yield from _listed(bucket, {"list-type": "2", "prefix": prefix}, _OBJECTS, watch, keys, tags=tags)


def tagged(bucket: Bucket) -> Iterator[tuple[str, str, str]]:
    """(key, ETag, tags as a query) of the current objects, where a listing tells tags as MinIO's does; else nothing.

    A key that may not read an object's tags is told of none, so this is a hint and no answer.
    """
    if not server(bucket).startswith("MinIO"):
        return
    query = {"list-type": "2", "prefix": "", "metadata": "true", "max-keys": str(KEYS)}
    count = 0
    for page, decode in _pages(bucket, query, _OBJECTS, _LIST, whole=True):
        rows = [fields(child) for child in page.root if plain(child.tag) == "Contents"]
        count = _counted(bucket, count, len(rows))
        if not any("UserMetadata" in row for row in rows):
            return  # the JuiceFS gateway calls itself MinIO too
        for row in rows:
            yield decode(row.get("Key", "")), row.get("ETag", "").strip('"'), row.get("UserTags", "")


def names(bucket: Bucket) -> list[str]:
    """Return every bucket at its endpoint that the key may see, by name. An endpoint shows a key no others."""
    attempted, subject = "list the buckets", bucket.endpoint_url or "Amazon S3"
    found: set[str] = set()
    query: dict[str, str] = {}
    while True:
        answer = bucket.requests.call("GET", "", query=query, attempted=attempted, subject=subject)
        page = xml(answer.body, attempted, subject)
        if plain(page.tag) != "ListAllMyBucketsResult":
            raise _unintelligible(bucket, attempted, f"<{plain(page.tag)}>")
        here = {fields(one).get("Name", "") for some in page if plain(some.tag) == "Buckets" for one in some} - {""}
        if 0 < bucket.bounds.buckets < len(found | here):
            raise _too_many(attempted, subject, f"it has more than {bucket.bounds.buckets} buckets")
        more = fields(page).get(_MORE_BUCKETS, "")
        if not more or here <= found:
            return sorted(found | here)
        found |= here
        query = {"continuation-token": more}


def uploads(bucket: Bucket) -> Iterator[tuple[str, str, datetime]]:
    """Uploads of parts that are not finished: key, upload id, when they were begun."""
    attempted = "list unfinished uploads"
    for page, decode in _pages(bucket, {"uploads": ""}, _UPLOADS, attempted, strict=False, whole=True):
        told = [fields(child) for child in page.root if plain(child.tag) == "Upload"]
        try:
            found = [(decode(said["Key"]), said["UploadId"], _moment(said["Initiated"])) for said in told]
        except (LookupError, ValueError, LifeboatError) as exc:
            raise _unintelligible(bucket, attempted, repr(exc)) from exc
        yield from found


def _listed(
    bucket: Bucket, query: Mapping[str, str], marks: Mapping[str, str], watch: Optional[Watch] = None, keys: int = 0,
    further: Optional[_Further] = None, tags: Optional[Tags] = None,
) -> Iterator[Version]:  # fmt: skip
    """keys: that a page is to hold, where those are not KEYS. further: it looks for what another listing lacks."""
    ends: set[str] = set()  # the last keys of the pages that others follow
    last = ""
    count, longest = 0, bucket.bounds.key
    if tags and not server(bucket).startswith("MinIO"):
        tags = None
    for page, decode in _pages(bucket, {**query, "max-keys": str(keys or KEYS)}, marks, _LIST, tags=tags):
        found = _rows(bucket, page, decode)
        count = _counted(bucket, count, len(found))
        if further:
            further.page(bucket)
        if longest and any(len(version.key.encode("utf-8", "replace")) > longest for version in found):
            raise _too_many(_LIST, bucket.url, f"it lists a name of more than {longest} bytes")
        ends |= {last} - {""}
        last = max((version.key for version in found), default="")
        if watch:
            watch.page(found)
        if tags and tags.requested:
            tags.page(page, decode)
        yield from found
    if watch:
        watch.end()
    if ends and server(bucket).startswith(_SEAWEEDFS):
        yield from _missed(bucket, query, marks, ends, further or _Further(itertools.count(1)))


class _Further(NamedTuple):
    """Listings that look for what others lack, and may lack something themselves. pages: theirs, counted over all of
    them. depth: of how many each follows from the one before. A server that nobody trusts may answer so that they do
    not end: names get longer and longer, and what begins like each is asked for."""

    pages: Iterator[int]
    depth: int = 0

    def page(self, bucket: Bucket) -> None:
        most = bucket.bounds.versions
        if 0 < most < next(self.pages):
            raise _too_many(_LIST, bucket.url, f"more than {most} pages tell what its listing may lack")

    def next(self, bucket: Bucket, prefix: str) -> _Further:
        if self.depth == _DEEPEST:
            cause = f"it lists names that go on without end, such as those that begin with {prefix[:80]!r}"
            raise IntegrityError(_LIST, bucket.url, cause, "Look at that server.")
        return self._replace(depth=self.depth + 1)


def _counted(bucket: Bucket, before: int, more: int) -> int:
    """Return how many rows a listing has had, with those of one more page; one without any counts too, for it may be
    one of endlessly many."""
    count, most = before + max(more, 1), bucket.bounds.versions
    if 0 < most < count:
        raise _too_many(_LIST, bucket.url, f"it lists more than {most} versions and objects")
    return count


def _rows(bucket: Bucket, page: Page, decode: _Decode) -> list[Version]:
    root = page.root
    if plain(root.tag) not in ("ListVersionsResult", "ListBucketResult"):
        raise _unintelligible(bucket, _LIST, f"<{plain(root.tag)}>")
    try:
        alike, found = iter(_alike(page, decode)), list[Version]()
        for row in root:
            found += itertools.islice(alike, page.marks(row))
            if (kind := plain(row.tag)) in _KINDS:
                found.append(_version(kind, fields(row), decode))
        return found
    except (LookupError, ValueError, LifeboatError) as exc:
        raise _unintelligible(bucket, _LIST, repr(exc)) from exc


def _missed(
    bucket: Bucket, query: Mapping[str, str], marks: Mapping[str, str], ends: Iterable[str], further: _Further
) -> Iterator[Version]:
    """Yield what SeaweedFS (4.48) may have left out of a listing with pages, if it is there.

    It pages in the order of its files, where the object `q` is `q.versions` and the objects `q/...` are in the
    directory `q`, and of each next page it drops the keys that S3 sorts before the last page's end. So after an end
    such as `q/x` or `q-1` the object `q` may be missing; after `q/x` all whose names begin with `q` and a character
    before `/`; after `q-1` all below `q/`. These are asked for. Of an object that is found by its name alone only the
    newest version is known.
    """
    names, prefixes, folders = set[str](), set[str](), set[str]()
    for key in ends:
        for place, sign in enumerate(key):
            if sign <= "/" and place and key[place - 1] != "/":
                names.add(key[:place])
                if sign == "/":
                    folders.add(key[:place])
                else:
                    prefixes.add(f"{key[:place]}/")
    below_what, at_once = query["prefix"], 1 if further.depth else _AT_ONCE
    for _folder, starts in _several(lambda folder: _beside(bucket, query, folder), folders, below_what, at_once):
        prefixes |= {*starts}
    for _name, named in _several(lambda name: _named(bucket, query, name), names, below_what, at_once):
        yield from named

    def below(prefix: str) -> Iterator[Version]:
        return _listed(bucket, {**query, "prefix": prefix}, marks, further=further.next(bucket, prefix))

    def beginning(prefix: str) -> list[Version]:
        return list(itertools.islice(below(prefix), KEYS + 1))

    for prefix, found in _several(beginning, prefixes, below_what, at_once):  # nearly always there is nothing
        yield from found if len(found) <= KEYS else below(prefix)


def _beside(bucket: Bucket, query: Mapping[str, str], folder: str) -> list[str]:
    """Return how those names begin that may go on after the folder's with a character before `/`. One request tells
    that there are none, which is nearly always so: in the order of its files they come before all others."""
    few = {**query, "prefix": folder, "delimiter": "/", "max-keys": str(_BESIDE)}
    page, decode = next(_pages(bucket, few, {}, _LIST))
    keys = [version.key for version in _rows(bucket, page, decode)]
    keys += [decode(text) for row in page.root if plain(row.tag) == "CommonPrefixes" for text in fields(row).values()]
    signs = {key[len(folder) : len(folder) + 1] for key in keys} - {""}
    whole = any("/" < sign < _GARBLED for sign in signs) or fields(page.root).get("IsTruncated", "").lower() == "false"
    return [] if whole and min(signs, default="/") >= "/" else [folder + other for other in _BEFORE_A_SLASH]


def _several(
    ask: Callable[[str], list[T]], names: Iterable[str], prefix: str, at_once: int
) -> Iterator[tuple[str, list[T]]]:
    """Yield what there is of each of the names that begin with `prefix`, some asked for at once."""
    wanted = sorted(name for name in names if name.startswith(prefix))
    for start in range(0, len(wanted), 2 * at_once):
        some = wanted[start : start + 2 * at_once]
        yield from zip(some, throttle.mapped(ask, some, at_once))


def _named(bucket: Bucket, query: Mapping[str, str], name: str) -> list[Version]:
    """Return the object of that name, if it is there."""
    try:
        told = bucket.ask("HEAD", name, attempted=_LIST)
    except LifeboatError as exc:
        if isinstance(exc, NotFoundError) or client.status(exc) == HTTPStatus.BAD_REQUEST:  # as of `a/.`
            return []
        raise
    page, decode = next(_pages(bucket, {**query, "prefix": name, "max-keys": str(KEYS)}, {}, _LIST))
    found = [version for version in _rows(bucket, page, decode) if version.key == name]
    return found or [Version(name, told.size, told.etag, told.modified, told.version)]


class _Answered(NamedTuple):
    """The bytes of a page. tagged: it was asked for with tags. following: what they say that asks for the next page,
    where its answer is `coming` already."""

    body: bytes
    tagged: bool
    following: Optional[_Following] = None
    coming: Optional[Future[_Answered]] = None


@dataclass
class _Reader:
    """Asks for the pages of one listing, and reads them. whole: no row is taken out of the document. taken: how many
    pages are worked on or done with. ended: nobody wants another one."""

    bucket: Bucket
    query: Mapping[str, str]
    marks: Mapping[str, str]
    attempted: str
    whole: bool
    tags: Optional[Tags]
    taken: int = 0
    ended: bool = False
    pool: ThreadPoolExecutor = field(default_factory=functools.partial(ThreadPoolExecutor, 1))

    def first(self) -> _Answered:
        """Return the first page, and begin with the next one. Of few objects a thread would cost more than it saves."""
        if self.marks and not self.query.get("prefix"):
            return self.ask(frozenset(), 1).result()
        body, tagged = self._body(frozenset())
        following = _expected(body, self.marks)
        return _Answered(body, tagged, following, self.ask(following, 2) if following else None)

    def ask(self, more: _Following, number: int) -> Future[_Answered]:
        """Have a page asked for. number: of the page, counted from 1."""
        answer: Future[_Answered] = Future()
        self.pool.submit(self._ask, more, number, answer)
        return answer

    def _ask(self, more: _Following, number: int, answer: Future[_Answered]) -> None:
        """Ask for the page, and in the same thread for those after it: another one would have to wait until the page is
        read, for Python runs one at a time."""
        while True:
            try:
                body, tagged = self._body(more)
                following = _expected(body, self.marks)
            except BaseException as exc:  # raised where the answer is taken
                answer.set_exception(exc)
                return
            if following in (None, more) or number - self.taken >= _AHEAD or self.ended:
                answer.set_result(_Answered(body, tagged))
                return
            coming: Future[_Answered] = Future()
            answer.set_result(_Answered(body, tagged, following, coming))
            more, number, answer = following or more, number + 1, coming

    def _body(self, more: _Following) -> tuple[bytes, bool]:
        """Return the bytes of a page, and whether it was asked for with tags."""
        asked = {**self.query, **dict(more), "encoding-type": "url"}
        if self.tags and self.tags.requested:
            try:
                tagged = {**asked, "metadata": "true"}
                return self.bucket.ask("GET", query=tagged, attempted=self.attempted).body, True
            except LifeboatError as exc:
                self.tags.refused = exc.cause
        return self.bucket.ask("GET", query=asked, attempted=self.attempted).body, False

    def read(self, answered: _Answered, more: _Following) -> Page:
        """Return the page that was answered. more: what asked for it."""
        try:
            return self._read(answered.body)
        except LifeboatError as exc:  # what an object's metadata is called may be no XML; the listing itself is
            if not (answered.tagged and self.tags):
                raise
            self.tags.refused = exc.cause
        return self._read(self._body(more)[0])

    def _read(self, body: bytes) -> Page:
        of = (body, self.attempted, self.bucket.url)
        return Page(xml(*of)) if self.whole else listing_parser.read(*of)


def _pages(
    bucket: Bucket, query: Mapping[str, str], marks: Mapping[str, str], attempted: str, *, strict: bool = True,
    whole: bool = False, tags: Optional[Tags] = None,
) -> Iterator[tuple[Page, _Decode]]:  # fmt: skip
    """Yield the pages of a listing, and how keys are decoded in each. strict: one that is followed by itself is an
    error. whole: no row is taken out of the document.

    The next page is asked for as soon as this one is here, before it is read: the server takes about as long for one as
    we do. What asks for it is found in the bytes, and its page is taken only where the document says the same.
    """
    more: _Following = frozenset()
    visited = {more}
    reader = _Reader(bucket, query, marks, attempted, whole, tags)
    try:
        answered = reader.first()
        while True:
            reader.taken += 1
            page = reader.read(answered, more)
            following, decode = _following(page, marks)
            coming: Optional[Future[_Answered]] = None
            if following is not None and following not in visited:
                coming = answered.coming if answered.following == following else None
                coming = coming or reader.ask(following, reader.taken + 1)
                more = following
            yield page, decode
            if coming is None:
                break
            visited.add(more)
            answered = coming.result()
    finally:
        reader.ended = True
        reader.pool.shutdown(wait=False, cancel_futures=True)
    if following is not None and strict:
        raise _unintelligible(bucket, attempted, "a page that says it is followed by itself")


def _following(page: Page, marks: Mapping[str, str]) -> tuple[Optional[_Following], _Decode]:
    """Return what asks for the page after this one, None where it is the last; and how its keys are decoded."""
    head = {plain(child.tag): child.text or "" for child in page.root if not len(child)}
    decode: _Decode = _unquoted if head.get("EncodingType") == "url" else str
    truncated = head.get("IsTruncated", "").lower() == "true"
    return _more(head, page.last("Key"), decode, marks) if truncated else None, decode


def _more(head: Mapping[str, str], last: str, decode: _Decode, marks: Mapping[str, str]) -> _Following:
    """Return what asks for the next page. Only keys are encoded; a token is opaque and goes back as it came.

    last: the last key of this page, as it stands there.
    """
    return frozenset(
        (mark, _marker(head[name], decode(last), decode) if mark == "key-marker" else head[name])
        for mark, name in marks.items()
        if head.get(name)
    )


def _marker(marker: str, last: str, decode: _Decode) -> str:
    """Return the key after which the next page begins: the last one of this page.

    Ceph RGW announces that it encodes, encodes the keys, and does not encode this. MinIO may add `[...]` to it.
    """
    for text in (marker, decode(marker)):
        if text == last:
            return text
    return next((text for text in (marker, decode(marker)) if text.startswith(f"{last}[")), decode(marker))


def _expected(body: bytes, marks: Mapping[str, str]) -> Optional[_Following]:
    """Return what will ask for the page after this one, as its bytes show it; None where they do not show it plainly.
    Only the document, when it is read, says whether that is right."""

    def text(name: str, find: Callable[[bytes], int]) -> str:
        tag = f"<{name}>".encode()
        start = find(tag)
        found = body[start + len(tag) : body.find(b"<", start + len(tag))] if start >= 0 else b""
        if b"&" in found:
            raise ValueError(found)
        return found.decode()

    try:
        if not marks or text("IsTruncated", body.find) != "true":
            return None
        head = {name: text(name, body.find) for name in marks.values()}
        decode: _Decode = _unquoted if text("EncodingType", body.find) == "url" else str
        return _more(head, text("Key", body.rfind), decode, marks) or None
    except ValueError:
        return None


def _version(kind: str, row: Mapping[str, str], decode: _Decode) -> Version:
    return Version(
        decode(row["Key"]),
        _size(row.get("Size", "")),
        row.get("ETag", "").strip('"'),
        _moment(row["LastModified"]),
        row.get("VersionId") or NULL,
        row.get("IsLatest", "true").lower() == "true",
        kind == "DeleteMarker",
        _storage(row.get("StorageClass", "")),
    )


def _alike(page: Page, decode: _Decode) -> Iterable[Version]:
    """Return the same of the rows that were taken out of the document."""
    said, count = page.columns, page.count
    if not count:
        return ()
    nothing = [""] * count
    return map(
        Version,
        map(decode, said["Key"]),
        map(_size, said.get("Size", nothing)),
        said.get("ETag", nothing),
        map(_moment, said["LastModified"]),
        [version or NULL for version in said.get("VersionId", nothing)],
        [latest.lower() == "true" for latest in said.get("IsLatest", ["true"] * count)],
        itertools.repeat(page.kind == "DeleteMarker"),
        map(_storage, said.get("StorageClass", nothing)),
    )


def _unquoted(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


def _size(text: str) -> int:
    size = int(text or 0)
    if not 0 <= size <= MOST:  # less than nothing would make room in a quota
        raise ValueError(f"a size of {size}")
    return size


def _storage(text: str) -> str:
    return "" if text == "STANDARD" else text[:40]


@functools.lru_cache(maxsize=1024)
def _moment(text: str) -> datetime:
    """As parse_time(), and in a fifth of the time for what servers write: 2026-11-24T02:00:00.000Z."""
    moment = None
    if len(text) in (20, 24) and text[-1] == "Z":
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(f"{text[:-1]}+00:00")
    moment = moment or parse_time(text)
    if moment.year == MAXYEAR:  # no second comes after it to reckon with
        raise ValueError(f"the time {text}")
    return moment


def _too_many(attempted: str, subject: str, cause: str) -> IntegrityError:
    return IntegrityError(attempted, subject, cause, "Look at that server; if it is right, raise the limit.")


def _unintelligible(bucket: Bucket, attempted: str, what: str) -> LifeboatError:
    remedy = "Is that an S3 endpoint? Correct endpoint_url and port, or look at the server's log."
    return LifeboatError(attempted, bucket.url, f"the server's answer is not a bucket listing: {what}", remedy)
