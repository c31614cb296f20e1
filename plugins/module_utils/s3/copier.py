# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy objects from one bucket to another, exactly: the bytes of one version, its headers, user metadata and tags.

Every byte passes through SHA-256 on its way and is held against the ETags of both sides. Tags are read back; where the
source does not give them, or the target refuses or loses them, it has the object all the same, and why is told. Memory
is bounded by a budget that all copies share. An upload that is cut leaves no half object: S3 has none.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import IO, Callable, NamedTuple, Optional, TypeVar
from xml.sax.saxutils import escape

from ..base import pipeline
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, SpaceError, UsageError
from ..base.text import human
from ..base.throttle import Budget, Rate
from . import client, documents, error_registry, properties, signed
from .bucket import Bucket
from .properties import NONE, Properties
from .signed import FOR_OWNER, NULL, Answer

T = TypeVar("T")
Tags = list[tuple[str, str]]
PART = 8 << 20  # larger objects travel in parts of this size
BUDGET = 32 << 20  # bytes held at once by all copies together
_PARTS = 10_000  # S3 takes no more in one upload
_AHEAD = 3
_CHANGED_TRIES = 3
# MinIO unpacks what is put with such user metadata, over other objects and their versions, and keeps no object of it;
# by way of a multipart upload it keeps the object and its metadata.
_UNPACKED = ("x-amz-meta-snowball-", "x-amz-meta-minio-")
_TELL_TAGS = ("AmazonS3", "MinIO", "SeaweedFS")  # who counts an object's tags with it; others are asked for them
READ = "read the object"  # what an error says was attempted, and so on which side it happened
WRITE = "write the object"
LOOKS = 200  # copies that a run looks at to learn which headers a target keeps
EMPTY = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}  # with an empty body; see content_md5()


class Record(NamedTuple):
    """What is known of an object beside its bytes, as lines of properties.py. None: nobody noted it.

    headers: its own, with its user metadata. tags_at: when its tags were read, in seconds since 1970.
    """

    headers: Optional[str] = None
    tags: Optional[str] = None
    tags_at: int = 0


UNRECORDED = Record()


@dataclass(frozen=True)
class Copied:
    """One object as it now is at the target. size, etag, version: what was read, as the source says.

    doubtful: its bytes do not have the MD5 that the source's ETag seems to be. properties: of the source; `clear`: that
    the target does not say that it encrypts; `lost`: only where the copy was `read_back`. record: of the source.
    untagged: why the target does not have its tags. unread: why nobody knows them; then they are not on record.
    """

    key: str
    size: int
    etag: str
    sha256: str
    target_version: str
    target_etag: str
    version: str = ""
    proved: bool = False
    doubtful: bool = False
    properties: Properties = NONE
    record: Record = UNRECORDED
    untagged: str = ""
    read_back: bool = False
    unread: str = ""


class Room:
    """How many bytes a target may hold in all; `most` 0: any number. A source that nobody trusts gives more than it
    lists, so that is counted too. May be used by many threads."""

    def __init__(self, most: int = 0) -> None:
        self._most, self._used, self._lock = most, 0, threading.Lock()

    def take(self, size: int, subject: str) -> None:
        """So many bytes are there, or are about to be. Raises SpaceError where they do not fit."""
        with self._lock:
            if 0 < self._most < self._used + size:
                raise SpaceError(
                    "mirror the bucket", subject,
                    f"the quota of {human(self._most)} is full: {human(self._used)} are used, {human(size)} would come",
                    "Raise keeper.store.quota, or look at what came.",
                )  # fmt: skip
            self._used += size


class Shared:
    """What all copies of a run have together, those of several buckets too: bytes held at once, bytes a second, room.

    at_once: objects that are copied at once; 0: as many as are asked for. room: bytes that their targets may hold.
    """

    def __init__(self, rate: float = 0.0, at_once: int = 0, room: int = 0) -> None:
        self.rate, self.budget, self.room = Rate(rate), Budget(BUDGET), Room(room)
        self.turn = threading.BoundedSemaphore(at_once) if at_once else contextlib.nullcontext()


class Copier:
    """Copies from `source` to `target`. Use it with `with`; copy() may be called from many threads.

    for_owner: the copies are such that the owner of the target's bucket can read them (Ceph RGW), where the target
    takes that.
    """

    def __init__(
        self, source: Bucket, target: Bucket, shared: Optional[Shared] = None, *, for_owner: bool = False
    ) -> None:
        self._for_owner: Optional[bool] = None if for_owner else False  # None: it is not known yet whether it does
        self.source, self.target = source, target
        shared = shared or Shared()
        self._rate, self._budget, self._turn, self._room = shared.rate, shared.budget, shared.turn, shared.room
        self._pool = ThreadPoolExecutor(8)
        self._no_tags = False

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def copy(
        self, key: str, size: int, etag: str, version: str = "", sha256: str = "",
        lock: Mapping[str, str] = MappingProxyType({}), record: Record = UNRECORDED,
    ) -> Copied:  # fmt: skip
        """Copy one object, listed with that size and ETag. `version` empty: what is current, also where it changes.

        sha256: what its bytes must have, or nothing is written and IntegrityError says so. lock: headers that lock the
        copy; no word of the source. record: the headers and tags that the copy gets; those of the source where it does
        not say.
        """
        subject = f"{key!r} from {self.source.url} to {self.target.url}"
        for again in range(_CHANGED_TRIES):
            try:
                with self._turn:
                    copy = self._copy_whole if size <= PART else self._copy_parts
                    return copy(_Order(key, size, etag, version, sha256, subject, lock, record))
            except ChangedError as exc:
                if again == _CHANGED_TRIES - 1:
                    raise LifeboatError(
                        READ, subject, "it was overwritten each time while being read", "Try again later."
                    ) from exc
                now = self._ask("HEAD", self.source, key, _version_query(version), subject=subject).size
                self._room.take(max(0, now - size), subject)
                size = now
        raise AssertionError("the last attempt returns or raises")

    def _ask(
        self, method: str, bucket: Bucket, key: str, query: Mapping[str, str],
        headers: Optional[Mapping[str, str]] = None, body: bytes = b"", *, subject: str,
    ) -> Answer:  # fmt: skip
        side = READ if bucket is self.source else WRITE
        return bucket.ask(method, key, query, headers, body, attempted=side, subject=subject)

    def _write(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes = b"", *,
        subject: str,
    ) -> Answer:  # fmt: skip
        """Make an object of the target's. That its owner may read it takes a right of its own on Amazon S3, and some
        servers know no access control lists: where a write is taken without it alone, it is not said again."""
        if self._for_owner is not False:
            try:
                done = self._ask(method, self.target, key, query, {**headers, **FOR_OWNER}, body, subject=subject)
            except LifeboatError as exc:
                if self._for_owner or not answered(exc):
                    raise
            else:
                self._for_owner = True
                return done
        done = self._ask(method, self.target, key, query, headers, body, subject=subject)
        self._for_owner = self._for_owner or False
        return done

    def _copy_whole(self, order: _Order) -> Copied:
        key, subject = order.key, order.subject
        held = self._budget.take(order.size)
        try:
            self._rate.take(order.size)
            answer = self._ask("GET", self.source, key, _version_query(order.version), properties.ASK, subject=subject)
            if len(answer.body) > max(2 * PART, 2 * order.size):
                raise ChangedError
            self._room.take(max(0, len(answer.body) - order.size), subject)
            wanted = self._attributes(answer, order)
            data = answer.body
            pipeline.count(len(data))
            md5, sha256 = _md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
            _require(order.sha256, sha256, subject)

            def put_whole(headers: Mapping[str, str]) -> _Put:
                if any(name.startswith(_UNPACKED) for name in headers):
                    with self._upload(key, headers, subject) as upload:
                        return self._finish(key, upload, [self._put_part(key, 1, data, upload.id, 0, subject)], subject)
                done = self._write("PUT", key, {}, {**headers, **_md5_header(md5)}, data, subject=subject)
                return _Put(done.version, done.etag, done.etag == md5, bool(properties.encryption(done.headers)))

            put, refused = _with_tags(put_whole, wanted)
            if not put.usual:
                put = put._replace(stored_headers=self._read_back(key, put.version, sha256, len(data), subject))
        finally:
            self._budget.give(held)
        untagged = self._ensure_tags(key, put, wanted, refused)
        return _copied(order, len(data), answer, md5, sha256, put, wanted, untagged)

    def _copy_parts(self, order: _Order) -> Copied:
        key, size, subject = order.key, order.size, order.subject
        part = max(PART, -(-size // _PARTS))
        ranges = [(start, min(start + part, size)) for start in range(0, size, part)]
        first = self._ask("HEAD", self.source, key, _version_query(order.version), properties.ASK, subject=subject)
        if first.size != size:
            raise ChangedError
        wanted = self._attributes(first, order)
        with contextlib.ExitStack() as stack:
            upload, refused = _with_tags(
                lambda headers: stack.enter_context(self._upload(key, headers, subject)), wanted
            )
            sums, md5, sha256 = self._move(key, ranges, order.version, first.etag, upload.id, subject)
            _require(order.sha256, sha256, subject)
            put = self._finish(key, upload, sums, subject)
        if not put.usual:
            put = put._replace(stored_headers=self._read_back(key, put.version, sha256, size, subject))
        untagged = self._ensure_tags(key, put, wanted, refused)
        return _copied(order, size, first, md5, sha256, put, wanted, untagged)

    def _ensure_tags(self, key: str, put: _Put, attributes: _Attributes, refused: str) -> str:
        """See that the copy has its tags; why it does not. Those of an upload in parts are lost on Ceph RGW."""
        if refused or not attributes.tags:
            return refused
        version = "" if put.version == NULL else put.version
        return ensure_tags(self.target, key, version, attributes.tags, sent=True)

    @contextlib.contextmanager
    def _upload(self, key: str, headers: Mapping[str, str], subject: str) -> Iterator[_Upload]:
        """Yield an upload in parts, which is aborted where it is not finished."""
        begun = self._write("POST", key, {"uploads": ""}, headers, subject=subject)
        upload = _Upload(_text(begun.body, "UploadId", subject), bool(properties.encryption(begun.headers)))
        try:
            yield upload
        except BaseException:
            with contextlib.suppress(LifeboatError):
                self._ask("DELETE", self.target, key, {"uploadId": upload.id}, subject=subject)
            raise

    def _finish(self, key: str, upload: _Upload, sums: list[tuple[str, str]], subject: str) -> _Put:
        done = self._complete(key, upload.id, sums, subject)
        etag = _text(done.body, "ETag", subject).strip('"')
        joined = _md5(b"".join(bytes.fromhex(name) for name, _etag in sums)).hexdigest()
        encrypted = upload.encrypted or bool(properties.encryption(done.headers))
        return _Put(done.version, etag, etag == f"{joined}-{len(sums)}", encrypted)

    def _move(
        self, key: str, ranges: list[tuple[int, int]], version: str, etag: str, upload: str, subject: str
    ) -> tuple[list[tuple[str, str]], str, str]:
        """Fetch some parts ahead, hash them in their order, put each as soon as it is hashed."""
        md5, sha256 = _md5(b""), hashlib.sha256()
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        puts: list[Future[tuple[str, str]]] = []
        asked = 0
        try:
            while len(puts) < len(ranges):
                while asked < len(ranges) and len(waiting) < _AHEAD:
                    start, end = ranges[asked]
                    # Who holds parts that are not on their way yet must not wait for others to let go of theirs.
                    reserved = self._budget.take(end - start, wait=not waiting)
                    if not reserved:
                        break
                    waiting.append((reserved, self._pool.submit(self._fetch, key, start, end, version, etag, subject)))
                    asked += 1
                reserved, fetched = waiting.popleft()
                try:
                    data = fetched.result()
                    md5.update(data)
                    sha256.update(data)
                except BaseException:
                    self._budget.give(reserved)
                    raise
                puts.append(self._pool.submit(self._put_part, key, len(puts) + 1, data, upload, reserved, subject))
                del data
            return [future.result() for future in puts], md5.hexdigest(), sha256.hexdigest()
        finally:
            for reserved, fetched in waiting:
                fetched.cancel()
                self._budget.give(reserved)
            for future in puts:  # an upload that is aborted while parts arrive keeps them
                with contextlib.suppress(Exception):
                    future.result()

    def _fetch(self, key: str, start: int, end: int, version: str, etag: str, subject: str) -> bytes:
        self._rate.take(end - start)
        headers = {"range": f"bytes={start}-{end - 1}", "if-match": f'"{etag}"'}
        try:
            answer = self._ask("GET", self.source, key, _version_query(version), headers, subject=subject)
        except LifeboatError as exc:
            if client.code(exc) in ("PreconditionFailed", "412", "InvalidRange", "416"):
                raise ChangedError from exc
            raise
        if len(answer.body) != end - start:
            raise ChangedError
        pipeline.count(len(answer.body))
        return answer.body

    def _put_part(
        self, key: str, number: int, data: bytes, upload: str, reserved: int, subject: str
    ) -> tuple[str, str]:
        """(MD5 of the part, its ETag)"""
        try:
            query = {"partNumber": str(number), "uploadId": upload}
            md5 = _md5(data).hexdigest()
            return md5, self._ask("PUT", self.target, key, query, _md5_header(md5), data, subject=subject).etag
        finally:
            self._budget.give(reserved)

    def _complete(self, key: str, upload: str, sums: list[tuple[str, str]], subject: str) -> Answer:
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;{escape(etag)}&quot;</ETag></Part>"
            for n, (_md5sum, etag) in enumerate(sums, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return self._ask(
            "POST", self.target, key, {"uploadId": upload}, {"content-type": "application/xml"}, body, subject=subject
        )

    def _read_back(self, key: str, version: str, sha256: str, size: int, subject: str) -> Mapping[str, str]:
        """For servers whose ETags are not the usual sums: the bytes they hold are the bytes they were sent. Returns the
        headers that came with them."""
        remedy = "Run it again; if it repeats, check the network and the target's disks."
        try:
            # Without versions a server names none, and is asked for what is current.
            version = "" if version == NULL else version
            held, _md5sum, headers = digest(self.target, key, size, version, attempted=WRITE)
        except NotFoundError as exc:  # not the source's: nobody deleted the object
            raise IntegrityError(WRITE, subject, "the target took it and does not have it", remedy) from exc
        if held != sha256:
            raise IntegrityError(WRITE, subject, "what the target holds is not what it was sent", remedy)
        return headers

    def _attributes(self, answer: Answer, order: _Order) -> _Attributes:
        """Return what the copy gets beside its bytes: as on record, or else as the source has it."""
        line, noted, at = order.record
        headers = object_headers(answer.headers) if line is None else dict(properties.pairs(line))
        if noted is not None:
            return _Attributes(headers, list(properties.pairs(noted)), at, order.lock)
        at, told, unread = int(time.time()), None, ""
        if not self._no_tags and may_have_tags(answer):
            try:
                told = tags(self.source, order.key, order.version)
            except NotFoundError as exc:  # deleted since it was read: as if it had not been there then
                raise NotFoundError(READ, exc.subject, exc.cause, exc.remedy) from exc.__cause__
            except LifeboatError as exc:
                if not answered(exc):
                    raise
                unread = exc.cause
            counted = "x-amz-tagging-count" in answer.headers
            self._no_tags = told is None and not unread and not counted
            if told is None and counted:  # it knows tags, and does not give those of this one
                unread = unread or "the server says that it knows no tags"
        return _Attributes(headers, told or [], at, order.lock, unread)


class _Order(NamedTuple):
    """What copy() was asked for."""

    key: str
    size: int
    etag: str
    version: str
    sha256: str
    subject: str
    lock: Mapping[str, str]
    record: Record


class _Attributes(NamedTuple):
    """What a copy gets beside its bytes. at: when its tags were read. unread: why they could not be read."""

    headers: dict[str, str]
    tags: Tags
    at: int
    lock: Mapping[str, str]
    unread: str = ""

    @property
    def record(self) -> Record:
        told = None if self.unread else properties.written(self.tags)
        return Record(properties.written(self.headers.items()), told, self.at)


class _Upload(NamedTuple):
    id: str
    encrypted: bool


class _Put(NamedTuple):
    """The target's answer to a write. usual: its ETag is the one that S3 describes for these bytes. stored_headers: the
    headers with which it gave the copy back; None where it was not read back."""

    version: str
    etag: str
    usual: bool
    encrypted: bool
    stored_headers: Optional[Mapping[str, str]] = None


@dataclass(frozen=True)
class Facts:
    headers: dict[str, str]
    tags: Tags
    size: int
    properties: Properties = field(default=NONE, compare=False)
    at: int = field(default=0, compare=False)  # when they were read
    etag: str = field(default="", compare=False)
    version: str = field(default=NULL, compare=False)

    @property
    def record(self) -> Record:
        return Record(properties.written(self.headers.items()), properties.written(self.tags), self.at)

    def kept_by(self, copy: Facts) -> Properties:
        """Return the properties of an object whose copy is that."""
        return _as_copied(self.properties, bool(copy.properties.encryption))


class ChangedError(Exception):
    """The object is not the one any more whose first part was read."""


def _require(expected: str, sha256: str, subject: str) -> None:
    if expected and expected != sha256:
        remedy = "Choose another backup, and keep this one for inquiry."
        raise IntegrityError(READ, subject, "its bytes are not those that were mirrored (SHA-256 differs)", remedy)


def _with_tags(write: Callable[[Mapping[str, str]], T], attributes: _Attributes) -> tuple[T, str]:
    """Write with the tags or, where these are refused, without: what that gave, and why they were refused."""
    plain = {**attributes.headers, **attributes.lock}
    if not attributes.tags:
        return write(plain), ""
    try:
        return write({**plain, **tagging(attributes.tags)}), ""
    except LifeboatError as exc:
        if exc.attempted != WRITE or not answered(exc):
            raise
        refusal = exc
    return write(plain), refusal.cause  # where the object itself is refused, this says so


def answered(exc: LifeboatError) -> bool:
    """Did the server refuse what was asked, for good?"""
    status = client.status(exc)
    return (400 <= status < 500 and status not in (408, 429)) or status == 501


def _copied(
    order: _Order, size: int, source: Answer, md5: str, sha256: str, put: _Put, attributes: _Attributes, untagged: str
) -> Copied:
    headers, etag, listed = source.headers, source.etag, order.etag
    told = {text for text in (etag, listed) if properties.is_md5(text, properties.encryption(headers))}
    lost = properties.lost(attributes.headers, put.stored_headers) if put.stored_headers is not None else ()
    return Copied(
        order.key, size, etag, sha256, put.version, put.etag, headers.get("x-amz-version-id", ""),
        proved=md5 in told, doubtful=bool(told) and md5 not in told,
        properties=replace(_as_copied(properties.from_headers(headers), put.encrypted), lost=lost),
        record=attributes.record, untagged=untagged, read_back=put.stored_headers is not None, unread=attributes.unread,
    )  # fmt: skip


def _as_copied(source: Properties, encrypted: bool) -> Properties:
    return replace(source, clear=bool(source.encryption) and not encrypted)


def _md5(data: bytes) -> hashlib._Hash:
    return hashlib.new("md5", data, usedforsecurity=False)


def content_md5(body: bytes) -> dict[str, str]:
    """Return the header without which a bucket with object lock takes nothing."""
    return _md5_header(_md5(body).hexdigest())


def _md5_header(md5: str) -> dict[str, str]:
    return {"content-md5": base64.b64encode(bytes.fromhex(md5)).decode()}


def tagging(pairs: Optional[Sequence[tuple[str, str]]]) -> dict[str, str]:
    """Return the header that gives an object these tags."""
    return {"x-amz-tagging": properties.written(pairs)} if pairs else {}


def _text(body: bytes, name: str, subject: str) -> str:
    root = signed.xml(body, WRITE, subject)
    return next((element.text or "" for element in root.iter() if signed.plain(element.tag) == name), "")


def _version_query(version: str) -> dict[str, str]:
    return {"versionId": version} if version else {}


def object_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers that are part of the object and not of the answer."""
    return {name: value for name, value in headers.items() if name in signed.KEPT or name.startswith(signed.USER)}


def tags(bucket: Bucket, key: str, version: str = "") -> Optional[Tags]:
    """Return an object's tags, sorted by name; None where the server knows no tags."""
    try:
        body = bucket.ask("GET", key, {"tagging": "", **_version_query(version)}, attempted="read the tags").body
    except LifeboatError as exc:
        if client.code(exc) not in (*client.UNSUPPORTED, "NoSuchTagSet"):
            raise
        return [] if client.code(exc) == "NoSuchTagSet" else None
    # Ceph RGW says nothing at all where an upload in parts lost its tags.
    elements = signed.xml(body, "read the tags", bucket.where(key)).iter() if body else iter(())
    said = [signed.fields(element) for element in elements if signed.plain(element.tag) == "Tag"]
    return sorted((tag.get("Key", ""), tag.get("Value", "")) for tag in said)


def ensure_tags(target: Bucket, key: str, version: str, expected: Tags, *, sent: bool = False) -> str:
    """Give an object of the target's these tags and read them back; why it does not have them, or nothing.

    version: its current one. It is not named in the write: a vault's writer must not change the tags of old versions,
    and so has no right to name one. It is named when they are read back. sent: they came with the object.
    """
    why = ""
    try:
        for put in (False, True) if sent else (True,):
            if put:
                body = _tag_set(expected)
                target.ask("PUT", key, {"tagging": ""}, content_md5(body), body, attempted="put the tags")
            found = tags(target, key, version)
            if found == sorted(expected):
                return ""
            why = "the server knows no tags" if found is None else "it has other tags than it was given"
    except LifeboatError as exc:
        if not answered(exc):
            raise
        why = exc.cause
    return why


class Losses:
    """Which headers a target does not keep, where too many objects are copied to look at each.

    The first copy with a header that no other had yet is looked at, with a value and without one: SeaweedFS keeps no
    empty metadata. What it lost every later copy with that header is taken to have lost. May be used by many threads.
    """

    def __init__(self, target: Bucket) -> None:
        self._target, self._lock = target, threading.Lock()
        self._known: dict[tuple[str, bool], bool] = {}  # the header, whether it has a value: is it lost?
        self._left = LOOKS

    def headers_lost(self, key: str, version: str, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return the headers that this copy lost. version: the target's."""
        kinds = {name: (name, bool(value)) for name, value in headers.items()}
        with self._lock:
            if self._left and not self._known.keys() >= {*kinds.values()}:
                self._left -= 1
                self._inspect(key, "" if version == NULL else version, headers)
            gone = (name for name, kind in kinds.items() if self._known.get(kind))
            return properties.lost({name: headers[name] for name in gone}, {})

    def _inspect(self, key: str, version: str, headers: Mapping[str, str]) -> None:
        try:
            held = self._target.ask("HEAD", key, _version_query(version), attempted=WRITE).headers
        except LifeboatError:  # a write that failed, and a target that is down, are found out elsewhere
            return
        for name, value in headers.items():
            self._known.setdefault((name, bool(value)), held.get(name) != value)


def _tag_set(expected: Tags) -> bytes:
    made = [
        documents.new_element(
            "Tag", [documents.new_element("Key", content=name), documents.new_element("Value", content=value)]
        )
        for name, value in expected
    ]
    return documents.write(documents.new_element("Tagging", [documents.new_element("TagSet", made)]))


def facts(bucket: Bucket, key: str, version: str = "") -> Facts:
    """Return what an object is beside its bytes: its headers and user metadata, its tags, its size, its properties.
    version: `null` is one: it was written before the bucket kept versions, and may be an old one by now."""
    at = int(time.time())
    answer = bucket.ask("HEAD", key, _version_query(version), properties.ASK, attempted=READ)
    found = tags(bucket, key, version) if may_have_tags(answer) else []
    held = (answer.etag, answer.version)
    return Facts(
        object_headers(answer.headers), found or [], answer.size, properties.from_headers(answer.headers), at, *held
    )


def recorded(vault: Bucket, key: str, version: str, record: Record) -> tuple[dict[str, str], Tags]:
    """Return the headers and tags that an object of a backup is to have: as on record or, where older backups have
    none, as the vault's copy has them. The tags of a copy follow the source's, and are not those of every backup with
    it."""
    headers, noted, _at = record
    if headers is not None and noted is not None:
        return dict(properties.pairs(headers)), list(properties.pairs(noted))
    theirs = facts(vault, key, version)
    return (
        theirs.headers if headers is None else dict(properties.pairs(headers)),
        theirs.tags if noted is None else list(properties.pairs(noted)),
    )


def may_have_tags(answer: Answer) -> bool:
    """Some servers tell with an object how many tags it has, and tell nothing where it has none."""
    told = answer.headers.get("x-amz-tagging-count")
    return told not in ("0", None) or (told is None and not answer.headers.get("server", "").startswith(_TELL_TAGS))


def digest(
    bucket: Bucket, key: str, size: int, version: str = "", *, attempted: str = READ, into: Optional[IO[bytes]] = None
) -> tuple[str, str, Mapping[str, str]]:
    """Read an object's bytes: (SHA-256, MD5, its headers). version: `null` too is one. into: a file that gets them.

    Raises IntegrityError where there are not `size` of them.
    """
    query = _version_query(version)
    sha256, md5, count = hashlib.sha256(), _md5(b""), 0
    headers: Mapping[str, str] = {}
    for start in range(0, max(size, 1), PART):
        part = {"range": f"bytes={start}-{min(start + PART, size) - 1}"} if size > PART else {}
        answer = bucket.ask("GET", key, query, part, attempted=attempted)
        sha256.update(answer.body)
        md5.update(answer.body)
        if into:
            into.write(answer.body)
        count += len(answer.body)
        headers = headers or answer.headers
    if count != size:
        raise IntegrityError(attempted, bucket.where(key), f"it has {count} bytes instead of {size}")
    return sha256.hexdigest(), md5.hexdigest(), headers


def refused(exc: LifeboatError) -> bool:
    """Does the server refuse the object itself, its name say, and would take another?"""
    cause = error_registry.cause_of(exc)
    if isinstance(exc, (UsageError, SpaceError, NotFoundError)) or (cause and cause.name == error_registry.READ_ONLY):
        return False
    status = client.status(exc)
    return 400 <= status < 500 and status not in (408, 429)


def denied(exc: LifeboatError) -> bool:
    """Does the key have no right to read it? Then nothing is known of it."""
    return exc.attempted == READ and client.code(exc) in client.DENIED


def refusal(exc: LifeboatError) -> str:
    """Return why this one object cannot be copied while others can; empty where the error is not of this object."""
    reading = exc.attempted == READ
    if reading and isinstance(exc, NotFoundError):
        return "it is listed and not there"
    if isinstance(exc, (IntegrityError, signed.UnsendableError)) or isinstance(exc.__cause__, ChangedError):
        return exc.cause
    if denied(exc):
        return "it may not be read (access denied)"
    if refused(exc) or client.status(exc) == 501:  # "a header you provided implies functionality that is not there"
        return f"{'it cannot be read' if reading else 'it is not taken'}: {exc.cause}"
    return ""
