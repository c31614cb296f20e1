# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an S3 endpoint really does. Tried in a bucket of its own, made for it and removed; no other is written to.

Servers answer 200 to what they then ignore (JuiceFS makes a bucket "with object lock" and has none), so a feature is
supported only where its effect was seen: an old version read back, a locked one that could not be deleted. Objects are
written, read, listed and copied by the code that mirrors them, so that a server's traps are met here first.
"""

from __future__ import annotations

import re
import secrets as token
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional

from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import copier, delete_bucket, lifecycle
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket, Version, Watch
from ..s3.client import DENIED, UNSUPPORTED
from ..s3.copier import Copier
from ..s3.signed import NULL

SUPPORTED, MISSING, UNKNOWN = "supported", "missing", "unknown"
PREFIX = "lifeboat-probe-"
PATIENCE = 15  # seconds of silence from the server, twice
LOCKED = 4  # seconds that the locked object stays locked
APART = 3.2  # seconds between two writes of one object: more than rounding can hide
_SECOND = 1.0  # a server tells its clock, and most of them the time of a version, in whole seconds
ABANDONED = timedelta(hours=1)  # a probe takes seconds: what is so old was left by one that died
COSTS: Mapping[str, str] = {
    "versioning": "mirrored, it is of no one instant (consistency: eventual); as a vault it is refused",
    "times": "what a bucket held at an instant cannot be told from its versions: it is mirrored as it is now"
    " (consistency: eventual)",
    "etags": "equal ETags prove nothing: what Lifeboat did not copy itself is read and compared",
    "dates": "a write can choose the time that it is listed with: times do not prove what a bucket held at an instant"
    " (consistency: eventual), and a lifecycle rule may remove what was replaced before its time",
    "lifecycle": "replaced and removed objects never expire by themselves; the vault grows where retention may not"
    " delete versions",
    "object_lock": "anyone with a key that may delete versions can destroy the backups: give the writer none",
    "tagging": "tags of objects cannot be kept, and a vault is recognised by its lifecycle rule alone",
    "metadata": "Content-Type, Cache-Control and user metadata of objects are lost",
    "multipart": "objects above 5 GiB cannot be held, and an upload that breaks begins again",
    "conditions": "two runs that publish a backup under one id see each other only by listing the bucket: a race is"
    " possible",
}
_NAME = re.compile(re.escape(PREFIX) + r"(\d{14})-[0-9a-f]{8}(-lock)?")
_TRY = "try the endpoint"
_CHOSEN = "0123456789abcdef0123456789abcdef"
_PAST = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
_DATED = ("dated/a", "dated/b")
_OURS = (
    "versioned",
    "locked",
    "tagged",
    "parts",
    "first",
    "etag",
    "new",
    "past",
    *_DATED,
)  # the only keys a probe ever writes
_BY_PARTS = {"x-amz-meta-snowball-probe": "parts"}  # what has such metadata is copied in parts, however small it is
_ABSENT = (*UNSUPPORTED, "InvalidRequest", "InvalidBucketState", "ObjectLockConfigurationNotFoundError", "400")


# What a recovery sets in a bucket that it has made, by the right that it takes. It is tried with what is no document.
_SET = {
    "s3:PutBucketVersioning": "versioning", "s3:PutBucketPolicy": "policy", "s3:PutBucketCORS": "cors",
    "s3:PutEncryptionConfiguration": "encryption", "s3:PutBucketTagging": "tagging",
    "s3:PutBucketNotification": "notification", "s3:PutBucketWebsite": "website",
    "s3:PutBucketObjectLockConfiguration": "object-lock",
}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """supported: its effect was seen. missing: it was tried and there was none; `cost` says what that means."""

    state: str
    detail: str
    cost: str = ""


@dataclass(frozen=True)
class Report:
    """What was found. `skew`: seconds that the server's clock is ahead of this host's; None where it sends no date.

    `left`: buckets of the probe that the server would not remove; the next probe tries again. `denied`: the rights that
    a recovery needs and the key has not, and why; None where they were not tried.
    """

    endpoint: str
    server: str
    probed_at: datetime
    skew: Optional[float] = field(metadata={"json": "clock_skew"})
    features: Mapping[str, Feature]
    left: tuple[str, ...] = ()
    denied: Optional[Mapping[str, str]] = None

    def __post_init__(self) -> None:
        if set(self.features) != set(COSTS):
            raise UsageError("read what the endpoint can do", self.endpoint, "it is of another release")

    def those(self, state: str) -> list[str]:
        return [name for name, feature in self.features.items() if feature.state == state]


class _MissingError(Exception):
    """A feature was tried, and there was none."""


def probe(bucket: Bucket, *, mode: str = "", now: Optional[datetime] = None, rights: bool = False) -> Report:
    """Try the endpoint of `bucket` with its key. `mode`: of the object lock to try, where one is configured. `rights`:
    also what a recovery does with the bucket itself.

    Raises LifeboatError where the endpoint cannot be used at all: no answer, wrong keys, answers that are not S3's.
    """
    now = now or datetime.now(timezone.utc)
    where = bucket.endpoint_url or "Amazon S3"
    scratch = replace(bucket, name=f"{PREFIX}{now:%Y%m%d%H%M%S}-{token.token_hex(4)}", patience=PATIENCE, attempts=2)
    locked = replace(scratch, name=f"{scratch.name}-lock")
    created: list[Bucket] = []
    left: list[str] = []
    denied: Optional[dict[str, str]] = None
    try:
        left = sweep(scratch, _NAME, _OURS, now)
        server = _begin(scratch, created)
        features = _features(scratch, locked, mode or "GOVERNANCE", created)
        denied = _denied(scratch) if rights else None
    except LifeboatError as exc:
        if s3_client.code(exc) == "RequestTimeTooSkewed":
            raise _skewed(bucket, exc) from exc
        if s3_client.code(exc) not in DENIED:
            raise
        features, server = _untried(replace(scratch, name=bucket.name), exc), ""
        denied = {"s3:PutObject" if exc.attempted == _TRY else "s3:CreateBucket": exc.cause} if rights else None
    finally:
        left += [item.url for item in created if not discard(item, _NAME, _OURS)]
    return Report(where, server, now, bucket.requests.skew(bucket.name, where), features, tuple(left), denied)


def _denied(scratch: Bucket) -> dict[str, str]:
    """Return the rights to set a bucket's settings that the key lacks, and why. A server that asks for them asks
    first."""
    found = {}
    for right, what in _SET.items():
        try:
            scratch.set(what, b"<", f"try {right}")
        except LifeboatError as exc:
            if s3_client.code(exc) in DENIED:
                found[right] = exc.cause
    return found


def _features(scratch: Bucket, locked: Bucket, mode: str, created: list[Bucket]) -> dict[str, Feature]:
    tries: dict[str, Callable[[], str]] = {
        "etags": lambda: _etags(scratch),
        "dates": lambda: _dates(scratch),
        "lifecycle": lambda: _lifecycle(scratch),
        "object_lock": lambda: _object_lock(locked, mode, created),
        "tagging": lambda: _tagging(scratch),
        "metadata": lambda: _metadata(scratch),
        "multipart": lambda: _multipart(scratch),
        "conditions": lambda: _conditions(scratch),
    }
    found = {"versioning": _tried("versioning", lambda: _versioning(scratch))}
    dated = _times if found["versioning"].state != MISSING else _no_times
    with ThreadPoolExecutor(1) as pool:  # it mostly waits
        times = pool.submit(_tried, "times", lambda: dated(scratch))
        found.update({name: _tried(name, work) for name, work in tries.items()})
        found["times"] = times.result()
    return {name: found[name] for name in COSTS}


def _begin(scratch: Bucket, created: list[Bucket]) -> str:
    """Make the bucket; write and read one object, so that an answer that is not S3's is known for what it is."""
    created.append(scratch)  # before it is: the answer may be lost on its way
    s3_settings.create(scratch)
    body = token.token_hex(8).encode()
    answer = scratch.ask("PUT", "first", body=body, attempted=_TRY)
    back = scratch.ask("GET", "first", attempted=_TRY).body[:4096]
    if back != body:
        raise IntegrityError(
            _TRY, scratch.url,
            f"it answered 200 and did not keep what was written: {back[:200].decode('utf-8', 'replace')!r}",
            "Is that an S3 endpoint, and not a proxy or a web server before one? Correct endpoint_url and port.",
        )  # fmt: skip
    return answer.headers.get("server", "")


def _skewed(bucket: Bucket, exc: LifeboatError) -> UsageError:
    ahead = bucket.requests.skew(bucket.name, bucket.url)
    cause = exc.cause if ahead is None else f"{exc.cause}; the server's clock is {ahead:+.0f} s from this host's"
    return UsageError(exc.attempted, exc.subject, cause, exc.remedy)


def _untried(bucket: Bucket, denied: LifeboatError) -> dict[str, Feature]:
    """Nothing could be tried. What the bucket says of itself is told, and is no proof."""
    told = f"; bucket {bucket.name} is not there"
    if bucket.name:
        try:
            with s3_client.translated_errors("try the endpoint", bucket.url):
                bucket.client.list_objects_v2(Bucket=bucket.name, MaxKeys=1)
            said = s3_settings.read(bucket)
            told = f"; bucket {bucket.name} says versioning: {said.get('versioning') or 'none'}"
        except LifeboatError as exc:
            if s3_client.code(exc) in DENIED:
                raise UsageError(
                    "try the endpoint", bucket.url, "it refuses this key everything, making a bucket and listing this "
                    f"one: {exc.cause}", "Correct the key's rights there, or endpoint_url.",
                ) from exc  # fmt: skip
            if s3_client.code(exc) != "NoSuchBucket":
                raise
    why = f"not tried: the key may not make a bucket to try it in ({denied.cause}){told}"
    return dict.fromkeys(COSTS, Feature(UNKNOWN, why))


def _tried(name: str, work: Callable[[], str]) -> Feature:
    """Try a feature. A refusal that means "no such thing" makes it `missing`, any other answer leaves it unknown."""
    try:
        return Feature(SUPPORTED, work())
    except _MissingError as exc:
        return Feature(MISSING, str(exc), COSTS[name])
    except LifeboatError as exc:
        if s3_client.code(exc) in _ABSENT:
            return Feature(MISSING, exc.cause, COSTS[name])
        return Feature(UNKNOWN, f"could not {exc.attempted}: {exc.cause}")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _MissingError(otherwise)


# The tries: each returns what was seen, in words.


def _versioning(scratch: Bucket) -> str:
    client, attempted = scratch.client, "try versions"
    with s3_client.translated_errors("switch versioning on", scratch.url):
        client.put_bucket_versioning(Bucket=scratch.name, VersioningConfiguration={"Status": "Enabled"})
    status = s3_bucket.versioning(scratch)
    _require(status == "Enabled", f"it was switched on and the server then says {status or 'nothing'}")
    old, new = (scratch.ask("PUT", "versioned", body=body, attempted=attempted).version for body in (b"old", b"new"))
    scratch.ask("DELETE", "versioned", attempted=attempted)
    _require(old not in (NULL, new), "it is switched on, and an overwritten object got no version of its own")
    back = [scratch.ask("GET", "versioned", {"versionId": one}, attempted=attempted).body for one in (old, new)]
    _require(back == [b"old", b"new"], "an old version was not what it had been")
    listed = list(s3_bucket.versions(scratch, "versioned"))
    shown = {old, new} <= {version.version for version in listed} and any(version.deleted for version in listed)
    _require(shown, "old versions can be read and do not show in the list of versions")
    return "an overwritten and deleted object was read back"


def _times(scratch: Bucket) -> str:
    """Write, replace and delete, and compare the listed times and their order with the clock here.

    VersityGW gives a replaced version the time of its replacement, a marker an older one, and lists every marker first.
    """
    attempted = "try the times of versions"
    ahead = scratch.requests.skew(scratch.name, scratch.url) or 0.0
    written: dict[str, list[tuple[bool, float, float]]] = {key: [] for key in _DATED}  # newest first
    for number, (method, keys) in enumerate((("PUT", _DATED), ("PUT", _DATED[:1]), ("DELETE", _DATED))):
        time.sleep(APART if number else 0)
        for key in keys:
            began = time.time()
            scratch.ask(method, key, body=b"x" * (number + 1) if method == "PUT" else b"", attempted=attempted)
            written[key].insert(0, (method == "DELETE", began, time.time()))
    watch = Watch(datetime.now(timezone.utc))
    listed: dict[str, list[Version]] = {key: [] for key in _DATED}
    for version in s3_bucket.versions(scratch, "dated/", watch):
        listed.setdefault(version.key, []).append(version)
    for key, wanted in written.items():
        kinds = [version.deleted for version in listed[key]]
        _require(kinds == [write[0] for write in wanted], "the versions of an object are not listed newest first")
        latest = [version.latest for version in listed[key]]
        _require(latest == [True] + [False] * (len(wanted) - 1), "the newest version is not listed as the latest")
        for version, (deleted, began, ended) in zip(listed[key], wanted):
            told, what = version.modified.timestamp() - ahead, "a delete marker" if deleted else "a version"
            # The header that `ahead` is from and the listing may each be a second behind, and it a second ahead.
            early, late = told - (began - 2 * _SECOND), told - (ended + _SECOND)
            wrong = early if early < 0 else max(late, 0.0)
            _require(not wrong, f"{what} is listed with a time that is {wrong:+.1f} s off, rounding allowed for")
    _require(not watch.order, f"versions are not listed in the order of their keys: {watch.order}")
    return "versions and delete markers are listed in order, with the times of their writes"


def chosen(bucket: Bucket) -> bool:
    """Return whether the key of `bucket` can choose the ETag of what it writes there. MinIO takes one from a header."""
    if not _taken(bucket, "etag", {"x-minio-source-etag": _CHOSEN}, "choose an ETag"):
        return False
    return bucket.ask("HEAD", "etag", attempted="look at the ETag").etag == _CHOSEN


def _taken(bucket: Bucket, key: str, headers: Mapping[str, str], attempted: str) -> bool:
    """Write an object with what a server may refuse; whether it was written."""
    try:
        bucket.requests.attempt(
            "PUT", bucket.name, key, {}, headers, b"x", attempted=attempted, subject=bucket.url
        )  # fmt: skip
    except LifeboatError as exc:
        if not 400 <= s3_client.status(exc) < 500:
            raise
        return False
    return True


def _etags(scratch: Bucket) -> str:
    _require(not chosen(scratch), "a write chose its own ETag (x-minio-source-etag)")
    return "a write could not choose its ETag"


def _dates(scratch: Bucket) -> str:
    """MinIO takes the time of a version from a header, as its own replication needs it."""
    if _taken(scratch, "past", {"x-minio-source-mtime": f"{_PAST:%Y-%m-%dT%H:%M:%SZ}"}, "choose a time"):
        listed = [version for version in s3_bucket.versions(scratch, "past") if version.key == "past"]
        _require(bool(listed), "an object was written and is not listed")
        past = any(abs(version.modified - _PAST) < ABANDONED for version in listed)
        _require(not past, "a write chose the time that it is listed with (x-minio-source-mtime)")
    return "a write could not choose the time that it is listed with"


def _no_times(scratch: Bucket) -> str:
    raise _MissingError(f"{scratch.url} has no versions")


def _lifecycle(scratch: Bucket) -> str:
    wanted = lifecycle.rule("lifeboat-probe", 30)
    mine = lifecycle.mine(lifecycle.put(scratch, [], wanted), wanted)
    if mine is None:
        raise _MissingError("a rule was set, and read back it is not there or another one")
    dropped = lifecycle.uncleaned(scratch, mine)
    less = f", without {' and '.join(dropped)}" if dropped else ""
    return f"a rule was set and read back{less}; that it is carried out takes a day to see"


def _object_lock(scratch: Bucket, mode: str, created: list[Bucket]) -> str:
    created.append(scratch)
    s3_settings.create(scratch, lock=True)
    # Else a refusal below would prove nothing.
    first = scratch.ask("PUT", "first", headers=copier.content_md5(b"x"), body=b"x", attempted="write an object")
    scratch.ask("DELETE", "first", {"versionId": first.version}, attempted="delete a version that is not locked")
    until = datetime.now(timezone.utc) + timedelta(seconds=LOCKED)
    with s3_client.translated_errors("lock an object", scratch.url):
        answer = scratch.client.put_object(
            Bucket=scratch.name, Key="locked", Body=b"locked", ObjectLockMode=mode,
            ContentMD5=copier.content_md5(b"locked")["content-md5"],
            ObjectLockRetainUntilDate=until.replace(microsecond=0) + timedelta(seconds=1),
        )  # fmt: skip
    version = str(answer.get("VersionId") or "")
    _require(bool(version), "a locked object got no version")
    try:
        scratch.ask("DELETE", "locked", {"versionId": version}, attempted="delete a locked version")
    except LifeboatError as exc:
        if s3_client.code(exc) not in (*DENIED, "ObjectLocked", "InvalidRequest", "MethodNotAllowed", "409"):
            raise
    else:
        raise _MissingError(f"a version locked in {mode} was deleted all the same")
    kept = scratch.ask("GET", "locked", {"versionId": version}, attempted="read a locked version").body
    _require(kept == b"locked", "a locked version is no longer what it had been")
    return f"a version locked in {mode} could not be deleted"


def _tagging(scratch: Bucket) -> str:
    """Of an object written at once, and of one written in parts: Ceph RGW forgets the tags of the second."""
    wanted = [("probe", "a b+c")]
    for more, how in (({}, ""), (_BY_PARTS, " in parts")):
        headers = {**copier.tagging(wanted), **more}
        scratch.ask("PUT", "tagged", headers=headers, body=b"x", attempted="tag an object")
        if more:
            _copy(scratch, "tagged", b"x")
        told = copier.tags(scratch, "tagged")
        _require(told is not None, "the server knows no tags")
        _require(told == wanted, f"an object was written{how} with a tag, and read back it has {told or 'none'}")
    return "tags were read back, of an object written in parts too"


def _metadata(scratch: Bucket) -> str:
    sent = {
        "content-type": "text/x-probe", "cache-control": "max-age=7", "content-disposition": "inline",
        "x-amz-meta-probe": "kept",
    }  # fmt: skip
    scratch.ask("PUT", "tagged", headers=sent, body=b"x", attempted="write metadata")
    told = copier.facts(scratch, "tagged").headers
    lost = [name for name, value in sent.items() if told.get(name) != value]
    _require(not lost, f"read back without {', '.join(lost)}")
    return "headers and user metadata were read back"


def _multipart(scratch: Bucket) -> str:
    scratch.ask("PUT", "parts", headers=_BY_PARTS, body=b"part", attempted="upload in parts")
    try:
        _copy(scratch, "parts", b"part")
    except IntegrityError as exc:
        raise _MissingError(f"an object uploaded in parts was not what had been sent: {exc.cause}") from exc
    back = scratch.ask("GET", "parts", attempted="read what was uploaded in parts").body
    _require(back == b"part", "an object uploaded in parts was not what had been sent")
    return "an object uploaded in parts was read back"


def _conditions(scratch: Bucket) -> str:
    """Write an object twice, each time on the condition that there is none. Many servers ignore that, and overwrite."""
    for refused in (False, True):
        try:
            scratch.requests.attempt(
                "PUT", scratch.name, "new", {}, {"if-none-match": "*"}, b"x",
                attempted="write what is not there yet", subject=scratch.url,
            )  # fmt: skip
        except LifeboatError as exc:
            if not refused or s3_client.status(exc) not in (409, 412):
                raise
        else:
            _require(not refused, "an object was overwritten on the condition that there is none (If-None-Match: *)")
    return "a second write on the condition that there is no such object was refused"


def _copy(scratch: Bucket, key: str, body: bytes) -> None:
    """The object over itself, by way of parts."""
    with Copier(scratch, scratch.sibling(scratch.name)) as moving:
        moving.copy(key, len(body), "")


# Leave nothing.


def sweep(scratch: Bucket, name: re.Pattern[str], ours: Sequence[str], now: datetime) -> list[str]:
    """Remove what a run that died has left; the urls of what stays. A key that may not list could leave nothing.

    name, ours: as of discard(); its first group is when the bucket was made.
    """
    where = scratch.endpoint_url or "Amazon S3"
    try:
        with s3_client.translated_errors("look for earlier probes", where):
            abandoned = s3_settings.abandoned(scratch, name, now - ABANDONED)
    except LifeboatError as exc:
        if s3_client.code(exc) in (*DENIED, *UNSUPPORTED):
            return []
        if isinstance(exc, NotFoundError):
            cause = f"there is no S3 server at that address: {exc.cause}"
            raise UsageError("look for earlier probes", where, cause, "Correct endpoint_url and port.") from exc
        raise
    return [bucket.url for bucket in abandoned if not discard(bucket, name, ours)]


def discard(scratch: Bucket, name: re.Pattern[str], ours: Sequence[str]) -> bool:
    """Remove a scratch bucket with the keys `ours`; whatever else is in it stays, and the bucket with it. Whether it is
    gone. name: what such a bucket's name is like; no other is removed.

    That it is empty is seen, not left to the server: SeaweedFS removes a bucket with all that is in it. Never raises:
    it runs while something else may be on its way up.
    """
    for pause in (0.0, 0.0, LOCKED / 2, LOCKED / 2 + 2):  # the last one is beyond the lock
        time.sleep(pause)
        try:
            for key, version in list(_contents(scratch)):
                if key not in ours:
                    return False
                _drop(scratch, key, {"VersionId": version} if version else {})
            if next(_contents(scratch), None) is None:
                delete_bucket.delete_bucket(scratch, confirm=scratch.name if name.fullmatch(scratch.name) else "")
                return True
        except LifeboatError as exc:
            code = s3_client.code(exc)
            if code in ("NoSuchBucket", "404", *DENIED):  # it never was: a key that makes one may remove it
                return True
            if code not in ("BucketNotEmpty", "409"):
                return False
    return False


def _drop(scratch: Bucket, key: str, more: dict[str, str]) -> None:
    """Past a lock where the key may; where it may not, the lock ends in seconds."""
    for options in ({"BypassGovernanceRetention": True}, {}) if scratch.name.endswith("-lock") else ({},):
        try:
            with s3_client.translated_errors("remove the probe's object", scratch.url):
                scratch.client.delete_object(Bucket=scratch.name, Key=key, **more, **options)
            return
        except LifeboatError:
            continue


def _contents(scratch: Bucket) -> Iterator[tuple[str, str]]:
    """Yield every version of every object in it, a handful; if there is none, or no versions at all, every object."""
    versions: list[Mapping[str, object]] = []
    try:
        with s3_client.translated_errors("list the probe's bucket", scratch.url):
            page = scratch.client.list_object_versions(Bucket=scratch.name)
        versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
    except LifeboatError as exc:
        if s3_client.code(exc) not in UNSUPPORTED:
            raise
    if not versions:  # to delete both would leave a marker behind
        with s3_client.translated_errors("list the probe's bucket", scratch.url):
            versions = scratch.client.list_objects_v2(Bucket=scratch.name).get("Contents", [])
    for item in versions:
        yield str(item["Key"]), str(item.get("VersionId", ""))
