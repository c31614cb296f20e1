# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an S3 endpoint really does. Tried in a bucket of its own, made for it and removed; no other is written to.

Servers answer 200 to what they then ignore (JuiceFS makes a bucket "with object lock" and has none), so a feature is
supported only where its effect was seen: an old version read back, a locked one that could not be deleted.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets as token
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional

from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import demolish, lifecycle
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.client import DENIED, UNSUPPORTED

SUPPORTED, MISSING, UNKNOWN = "supported", "missing", "unknown"
PREFIX = "lifeboat-probe-"
PATIENCE = 15  # seconds of silence from the server, twice
LOCKED = 4  # seconds that the locked object stays locked
ABANDONED = timedelta(hours=1)  # a probe takes seconds: what is so old was left by one that died
COSTS: Mapping[str, str] = {
    "versioning": "mirrored, it is of no one instant (consistency: eventual); as a vault it is refused",
    "lifecycle": "replaced and removed objects never expire by themselves; the vault grows where retention may not"
    " delete versions",
    "object_lock": "anyone with a key that may delete versions can destroy the backups: give the writer none",
    "tagging": "tags of objects cannot be kept, and a vault is recognised by its lifecycle rule alone",
    "metadata": "Content-Type, Cache-Control and user metadata of objects are lost",
    "multipart": "objects above 5 GiB cannot be held, and an upload that breaks begins again",
}
_NAME = re.compile(re.escape(PREFIX) + r"(\d{14})-[0-9a-f]{8}(-lock)?")
_OURS = ("versioned", "locked", "tagged", "parts", "first")  # the only keys a probe ever writes
_ABSENT = (*UNSUPPORTED, "InvalidRequest", "InvalidBucketState", "ObjectLockConfigurationNotFoundError", "400")


@dataclass(frozen=True)
class Feature:
    """supported: its effect was seen. missing: it was tried and there was none; `cost` says what that means."""

    state: str
    detail: str
    cost: str = ""


@dataclass(frozen=True)
class Report:
    """What was found. `skew`: seconds that the server's clock is ahead of this host's; None where it sends no date.

    `left`: buckets of the probe that the server would not remove; the next probe tries again.
    """

    endpoint: str
    server: str
    probed_at: datetime
    skew: Optional[float] = field(metadata={"json": "clock_skew"})
    features: Mapping[str, Feature]
    left: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.features) != set(COSTS):
            raise UsageError("read what the endpoint can do", self.endpoint, "it is of another release")

    def those(self, state: str) -> list[str]:
        return [name for name, feature in self.features.items() if feature.state == state]


class _MissingError(Exception):
    """A feature was tried, and there was none."""


def probe(bucket: Bucket, *, mode: str = "", now: Optional[datetime] = None) -> Report:
    """Try the endpoint of `bucket` with its key. `mode`: of the object lock to try, where one is configured.

    Raises LifeboatError where the endpoint cannot be used at all: no answer, wrong keys, answers that are not S3's.
    """
    now = now or datetime.now(timezone.utc)
    where = bucket.endpoint_url or "Amazon S3"
    scratch = replace(bucket, name=f"{PREFIX}{now:%Y%m%d%H%M%S}-{token.token_hex(4)}", patience=PATIENCE, attempts=2)
    locked = replace(scratch, name=f"{scratch.name}-lock")
    made: list[Bucket] = []
    left: list[str] = []
    try:
        left = _sweep(scratch, where, now)
        server = _begin(scratch, made)
        features = _features(scratch, locked, mode or "GOVERNANCE", made)
    except LifeboatError as exc:
        if s3_client.code(exc) == "RequestTimeTooSkewed":
            raise _skewed(bucket, exc) from exc
        if s3_client.code(exc) not in DENIED:
            raise
        features, server = _untried(replace(scratch, name=bucket.name), exc), ""
    finally:
        left += [item.url for item in made if not _remove(item)]
    return Report(where, server, now, bucket.requests.skew(bucket.name, where), features, tuple(left))


def _features(scratch: Bucket, locked: Bucket, mode: str, made: list[Bucket]) -> dict[str, Feature]:
    tries: dict[str, Callable[[], str]] = {
        "versioning": lambda: _versioning(scratch),
        "lifecycle": lambda: _lifecycle(scratch),
        "object_lock": lambda: _object_lock(locked, mode, made),
        "tagging": lambda: _tagging(scratch),
        "metadata": lambda: _metadata(scratch),
        "multipart": lambda: _multipart(scratch),
    }
    return {name: _tried(name, work) for name, work in tries.items()}


def _begin(scratch: Bucket, made: list[Bucket]) -> str:
    """Make the bucket; write and read one object, so that an answer that is not S3's is known for what it is."""
    made.append(scratch)  # before it is: the answer may be lost on its way
    s3_settings.create(scratch)
    body = token.token_hex(8).encode()
    with s3_client.spoken("try the endpoint", scratch.url):
        answer = scratch.client.put_object(Bucket=scratch.name, Key="first", Body=body)
        back = scratch.client.get_object(Bucket=scratch.name, Key="first")["Body"].read(4096)
    if back != body:
        raise IntegrityError(
            "try the endpoint", scratch.url,
            f"it answered 200 and did not keep what was written: {back[:200].decode('utf-8', 'replace')!r}",
            "Is that an S3 endpoint, and not a proxy or a web server before one? Correct endpoint_url and port.",
        )  # fmt: skip
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("server", ""))


def _skewed(bucket: Bucket, exc: LifeboatError) -> UsageError:
    ahead = s3_bucket.skew(bucket)
    cause = exc.cause if ahead is None else f"{exc.cause}; the server's clock is {ahead:+.0f} s from this host's"
    return UsageError(exc.attempted, exc.subject, cause, exc.remedy)


def _untried(bucket: Bucket, denied: LifeboatError) -> dict[str, Feature]:
    """Nothing could be tried. What the bucket says of itself is told, and is no proof."""
    told = f"; bucket {bucket.name} is not there"
    if bucket.name:
        try:
            with s3_client.spoken("try the endpoint", bucket.url):
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
    """One attempt; a refusal that means "no such thing" is `missing`, any other answer leaves it unknown."""
    try:
        return Feature(SUPPORTED, work())
    except _MissingError as exc:
        return Feature(MISSING, str(exc), COSTS[name])
    except LifeboatError as exc:
        if s3_client.code(exc) in _ABSENT:
            return Feature(MISSING, exc.cause, COSTS[name])
        return Feature(UNKNOWN, f"could not {exc.attempted}: {exc.cause}")


def _require(seen: bool, otherwise: str) -> None:
    if not seen:
        raise _MissingError(otherwise)


def _put(scratch: Bucket, key: str, body: bytes, **more: object) -> str:
    """Write one object; its version, where the server names one."""
    answer = scratch.client.put_object(Bucket=scratch.name, Key=key, Body=body, **more)
    return str(answer.get("VersionId") or "")


def _read(scratch: Bucket, key: str, **more: str) -> bytes:
    body: bytes = scratch.client.get_object(Bucket=scratch.name, Key=key, **more)["Body"].read(1 << 20)
    return body


# The tries: each returns what was seen, in words.


def _versioning(scratch: Bucket) -> str:
    client = scratch.client
    with s3_client.spoken("switch versioning on", scratch.url):
        client.put_bucket_versioning(Bucket=scratch.name, VersioningConfiguration={"Status": "Enabled"})
        status = client.get_bucket_versioning(Bucket=scratch.name).get("Status")
    _require(status == "Enabled", f"it was switched on and the server then says {status or 'nothing'}")
    with s3_client.spoken("try versions", scratch.url):
        old = _put(scratch, "versioned", b"old")
        new = _put(scratch, "versioned", b"new")
        client.delete_object(Bucket=scratch.name, Key="versioned")
        _require(old not in ("", new), "it is switched on, and an overwritten object got no version of its own")
        back = [_read(scratch, "versioned", VersionId=version) for version in (old, new)]
        _require(back == [b"old", b"new"], "an old version was not what it had been")
        page = client.list_object_versions(Bucket=scratch.name, Prefix="versioned")
    listed = {version["VersionId"] for version in page.get("Versions", ())}
    shown = {old, new} <= listed and page.get("DeleteMarkers")
    _require(bool(shown), "old versions can be read and do not show in the list of versions")
    return "an overwritten and deleted object was read back"


def _lifecycle(scratch: Bucket) -> str:
    wanted = lifecycle.rule("lifeboat-probe", 30)
    mine = lifecycle.mine(lifecycle.put(scratch, [], wanted), wanted)
    if mine is None:
        raise _MissingError("a rule was set, and read back it is not there or another one")
    dropped = lifecycle.uncleaned(scratch, mine)
    less = f", without {' and '.join(dropped)}" if dropped else ""
    return f"a rule was set and read back{less}; that it is carried out takes a day to see"


def _object_lock(scratch: Bucket, mode: str, made: list[Bucket]) -> str:
    made.append(scratch)
    s3_settings.create(scratch, lock=True)
    # Else a refusal below would prove nothing.
    with s3_client.spoken("delete a version that is not locked", scratch.url):
        scratch.client.delete_object(Bucket=scratch.name, Key="first", VersionId=_put(scratch, "first", b"x") or "null")
    until = datetime.now(timezone.utc) + timedelta(seconds=LOCKED)
    with s3_client.spoken("lock an object", scratch.url):
        md5 = hashlib.new("md5", b"locked", usedforsecurity=False).digest()
        version = _put(
            scratch, "locked", b"locked", ObjectLockMode=mode, ContentMD5=base64.b64encode(md5).decode(),
            ObjectLockRetainUntilDate=until.replace(microsecond=0) + timedelta(seconds=1),
        )  # fmt: skip
    _require(bool(version), "a locked object got no version")
    try:
        with s3_client.spoken("delete a locked version", scratch.url):
            scratch.client.delete_object(Bucket=scratch.name, Key="locked", VersionId=version)
    except LifeboatError as exc:
        if s3_client.code(exc) not in (*DENIED, "ObjectLocked", "InvalidRequest", "MethodNotAllowed", "409"):
            raise
    else:
        raise _MissingError(f"a version locked in {mode} was deleted all the same")
    with s3_client.spoken("read a locked version", scratch.url):
        kept = _read(scratch, "locked", VersionId=version) == b"locked"
    _require(kept, "a locked version is no longer what it had been")
    return f"a version locked in {mode} could not be deleted"


def _tagging(scratch: Bucket) -> str:
    with s3_client.spoken("tag an object", scratch.url):
        _put(scratch, "tagged", b"x", Tagging="probe=a%20b")
        tags = scratch.client.get_object_tagging(Bucket=scratch.name, Key="tagged")["TagSet"]
    same = tags == [{"Key": "probe", "Value": "a b"}]
    _require(same, f"an object was written with a tag, and read back it has {tags}")
    return "a tag was read back"


def _metadata(scratch: Bucket) -> str:
    sent = {"ContentType": "text/x-probe", "CacheControl": "max-age=7", "ContentDisposition": "inline"}
    with s3_client.spoken("write metadata", scratch.url):
        _put(scratch, "tagged", b"x", Metadata={"probe": "kept"}, **sent)
        head = scratch.client.head_object(Bucket=scratch.name, Key="tagged")
    lost = [name for name, value in sent.items() if head.get(name) != value]
    lost += [] if head.get("Metadata", {}).get("probe") == "kept" else ["user metadata"]
    _require(not lost, f"read back without {', '.join(lost)}")
    return "headers and user metadata were read back"


def _multipart(scratch: Bucket) -> str:
    client, what = scratch.client, {"Bucket": scratch.name, "Key": "parts"}
    with s3_client.spoken("upload in parts", scratch.url):
        what["UploadId"] = client.create_multipart_upload(**what)["UploadId"]
        etag = client.upload_part(**what, PartNumber=1, Body=b"part")["ETag"]
        client.complete_multipart_upload(**what, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
        back = _read(scratch, "parts")
    _require(back == b"part", "an object uploaded in parts was not what had been sent")
    return "an object uploaded in parts was read back"


# Leave nothing.


def _sweep(scratch: Bucket, where: str, now: datetime) -> list[str]:
    """Remove what a probe that died has left; the urls of what stays. A key that may not list could leave nothing."""
    try:
        with s3_client.spoken("look for earlier probes", where):
            abandoned = s3_settings.abandoned(scratch, _NAME, now - ABANDONED)
    except LifeboatError as exc:
        if s3_client.code(exc) in (*DENIED, *UNSUPPORTED):
            return []
        if isinstance(exc, NotFoundError):
            cause = f"there is no S3 server at that address: {exc.cause}"
            raise UsageError("look for earlier probes", where, cause, "Correct endpoint_url and port.") from exc
        raise
    return [bucket.url for bucket in abandoned if not _remove(bucket)]


def _remove(scratch: Bucket) -> bool:
    """The bucket and what a probe put there; whatever else is in it stays, and the bucket with it. Whether it is gone.

    That it is empty is seen, not left to the server: SeaweedFS removes a bucket with all that is in it. Never raises:
    it runs while something else may be on its way up.
    """
    for pause in (0.0, 0.0, LOCKED / 2, LOCKED / 2 + 2):  # the last one is beyond the lock
        time.sleep(pause)
        try:
            for key, version in list(_contents(scratch)):
                if key not in _OURS:
                    return False
                _drop(scratch, key, {"VersionId": version} if version else {})
            if next(_contents(scratch), None) is None:
                demolish.delete_bucket(scratch, confirm=scratch.name if _NAME.fullmatch(scratch.name) else "")
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
            with s3_client.spoken("remove the probe's object", scratch.url):
                scratch.client.delete_object(Bucket=scratch.name, Key=key, **more, **options)
            return
        except LifeboatError:
            continue


def _contents(scratch: Bucket) -> Iterator[tuple[str, str]]:
    """Every version of every object in it, a handful; where there is none, or no versions at all, every object."""
    versions: list[Mapping[str, object]] = []
    try:
        with s3_client.spoken("list the probe's bucket", scratch.url):
            page = scratch.client.list_object_versions(Bucket=scratch.name)
        versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
    except LifeboatError as exc:
        if s3_client.code(exc) not in UNSUPPORTED:
            raise
    if not versions:  # to delete both would leave a marker behind
        with s3_client.spoken("list the probe's bucket", scratch.url):
            versions = scratch.client.list_objects_v2(Bucket=scratch.name).get("Contents", [])
    for item in versions:
        yield str(item["Key"]), str(item.get("VersionId", ""))
