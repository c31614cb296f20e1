# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the vault's writer can do although it should not. Each act is tried with its key.

Rights on a bucket are tried by writing back, byte for byte, what is there. What could do harm if it succeeded is done
only in a bucket that was made for it, which the writer's policy covers as it covers the vault's, and whose name the
request code insists on. What cannot be tried safely is said to be not tried. An act counts as possible where its
effect was seen, not where the server answered 200.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import io
import json
import re
import secrets as token
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Callable, Optional

from ..base import filesystem, typed
from ..base.errors import LifeboatError, NotFoundError, printable
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import copier, delete_bucket, error_registry
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.client import DENIED, UNSUPPORTED
from ..settings.config import Config
from ..stack import buckets
from . import policy, probe
from .policy import TRIALS

CAN, HELD, UNTRIED = "can", "held", "not tried"
_NAME = re.compile(re.escape(TRIALS) + r"(\d{14})-[0-9a-f]{8}")
_OLD, _NEW = b"one", b"TWO"
_PAST = "2001-01-01T00:00:00Z"
_SETTINGS: Mapping[str, tuple[str, bytes]] = {
    "switch versioning off": (
        "versioning", b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    ),
    "change lifecycle rules": (
        "lifecycle", b"<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter><Prefix></Prefix>"
        b"</Filter><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
        b"</Rule></LifecycleConfiguration>",
    ),
    "change the bucket's tags": (
        "tagging", b"<Tagging><TagSet><Tag><Key>x</Key><Value>y</Value></Tag></TagSet></Tagging>"
    ),
    "change the bucket's policy": (
        "policy", b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],'
        b'"Resource":["arn:aws:s3:::%s/*"]}]}'
    ),
    "change the bucket's object lock": ("object-lock", b""),
    "change the bucket's public access block": (
        "publicAccessBlock", b"<PublicAccessBlockConfiguration><BlockPublicAcls>false</BlockPublicAcls>"
        b"<IgnorePublicAcls>false</IgnorePublicAcls><BlockPublicPolicy>false</BlockPublicPolicy>"
        b"<RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
    ),
}  # fmt: skip
_PUBLIC = {"x-amz-acl": "public-read"}
_GRANTED = {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}
# How a key may make public what it writes: key, parameters, header and body of the request.
_SHARED: Mapping[str, tuple[Optional[str], Mapping[str, str], Mapping[str, str], bytes]] = {
    "with the object": ("public", {}, _PUBLIC, b"TWO"), "granted with the object": ("public", {}, _GRANTED, b"TWO"),
    "of an object": ("public", {"acl": ""}, _PUBLIC, b""), "of the bucket": (None, {"acl": ""}, _PUBLIC, b""),
}  # fmt: skip
_OWNERS = {"x-amz-acl": "bucket-owner-full-control"}  # what a writer may say, so that the vault's owner can read it
# What a server answers to a key that has no right to an act; and to any key, where a lock or the absence of access
# control lists forbids it. All else may be due to the form of the request.
_REFUSED = (*DENIED, "AccessControlListNotSupported", "XMinioAdminInvalidArgument")
# Acts after which a recovery may not find what a backup says, and what else the writer should not be able to do.
DESTROYS = (
    "delete versions", "overwrite versions", "erase by prefix", "unpack archives over versions", "back-date objects",
    "switch versioning off", "change lifecycle rules", "change the bucket's policy", "delete the bucket",
)  # fmt: skip
OTHERS = (
    "make objects public", "choose ETags", "change the tags of versions", "change the bucket's tags",
    "change the bucket's object lock", "change the bucket's public access block", "list other buckets",
    "make further keys",
)  # fmt: skip
_KEYS = ("delete", "overwrite", "erase/a", "erase/", "unpack", "unpack.tar", "dated", "etag", "tags", "public")
_FILE = "vault-writer.json"
_NO_VERSIONS = "the server has no versions"


@dataclass(frozen=True)
class Act:
    """can: it was done. held: it was refused, or had no effect."""

    state: str
    detail: str


@dataclass(frozen=True)
class Rights:
    """What the writer's key can do. digest: of the endpoint, the key and the buckets. accounts: MinIO's service
    accounts that it or its user has, which are keys of their own; None: nobody looked."""

    digest: str = field(metadata={"json": "of"})
    server: str
    tried_at: datetime
    acts: Mapping[str, Act]
    accounts: Optional[tuple[str, ...]] = None

    def those(self, state: str, among: Sequence[str] = (*DESTROYS, *OTHERS)) -> list[str]:
        return [name for name in among if name in self.acts and self.acts[name].state == state]

    @property
    def summary(self) -> str:
        """Return one line, as status and deploy print it."""
        if not self.acts:
            return "nothing was tried with the writer's key"
        can, untried = self.those(CAN), self.those(UNTRIED)
        destroys = [name for name in can if name in DESTROYS]
        less = [name for name in can if name not in DESTROYS]
        words = [f"the writer's key can destroy what the vault holds: {', '.join(destroys)}"] if destroys else []
        words += [f"the writer's key can also {', '.join(less)}"] if less else []
        words += [f"not tried with the writer's key: {', '.join(untried)}"] if untried else []
        words += [self.further] if self.further else []
        return "; ".join(words) or "the writer's key can destroy nothing there"

    @property
    def further(self) -> str:
        """Return the keys that may outlive the writer's, and how to remove each; empty where there are none."""
        if not self.accounts:
            return ""
        commands = "; ".join(f"mc admin accesskey rm vault {shlex.quote(printable(name))}" for name in self.accounts)
        return f"the writer's key has service accounts, which are keys of their own. Remove each: {commands}"


def names(config: Config) -> list[str]:
    """Return the vault's buckets as the policy has to name them."""
    vault = config.vault
    found = [name for name in (vault.objects_bucket, vault.repository_bucket) if name]
    return found + ([f"{vault.objects_bucket}-*"] if vault.objects_bucket and config.objects.buckets else [])


def server(config: Config) -> str:
    """Return what the vault's server calls itself."""
    return s3_bucket.server(buckets.in_vault(config, config.vault.objects_bucket or config.vault.repository_bucket))


def remembered(config: Config) -> Optional[Rights]:
    """Return the last result if it is of this endpoint, key and buckets. An unreadable file is ignored."""
    path = config.state / _FILE

    def wrong(field: str, cause: str) -> LifeboatError:
        return LifeboatError("read what the writer's key can do", str(path), f"{field} {cause}")

    try:
        found = typed.build(Rights, typed.load(filesystem.read_plain(path), wrong), wrong)
    except (OSError, LifeboatError):
        return None
    return found if found.digest == _key_digest(config) else None


def remember(config: Config, rights: Rights) -> None:
    path = config.state / _FILE
    data = json.dumps(typed.plain(rights, nulls=True), indent=1).encode()
    filesystem.remember(path, data, attempted="remember what the writer's key can do")


def _key_digest(config: Config) -> str:
    vault = config.vault
    what = [vault.endpoint_url, vault.region, config.secrets.get("vault_access_key", ""), *names(config)]
    return filesystem.sha256("\0".join(what).encode())


def attempt(config: Config, *, access_key: str = "", secret_key: str = "") -> Rights:
    """Try every act with the vault's own key. access_key, secret_key: an administrator's, who makes the bucket for it
    and looks at the effects; without them the vault's own key has to do that."""
    vault = config.vault
    real = buckets.in_vault(config, vault.objects_bucket or vault.repository_bucket)
    admin = replace(real, access_key=access_key, secret_key=secret_key) if access_key else real
    now, software = datetime.now(timezone.utc), s3_bucket.server(real)
    scratch = admin.sibling(f"{TRIALS}{now:%Y%m%d%H%M%S}-{token.token_hex(4)}")
    minio, why = policy.is_minio(software), ""
    try:
        probe.sweep(scratch, _NAME, _KEYS, now)
        s3_settings.create(scratch, lock=minio or bool(vault.object_lock))
    except LifeboatError as exc:
        why = f"the bucket to try it in cannot be made ({exc.cause}); run lifeboat.dr.vault with an administrator's key"
    try:
        if not why:
            why = _prepared(scratch, real.sibling(scratch.name), admin)
        trial = _Trial(real, admin, None if why else scratch, why, names(config))
        return Rights(_key_digest(config), software, now, trial.acts(minio))
    finally:
        probe.discard(scratch, _NAME, _KEYS)


def _prepared(scratch: Bucket, writer: Bucket, vault: Bucket) -> str:
    """Return why nothing can be tried in the bucket that was made for it; empty where it can. It is closed to the
    public as the vault's is."""
    try:
        with s3_client.translated_errors("switch versioning on", scratch.url):
            enabled = {"Status": "Enabled"}
            scratch.client.put_bucket_versioning(Bucket=scratch.name, VersioningConfiguration=enabled)
        with contextlib.suppress(LifeboatError):
            if s3_settings.blocked(vault):
                s3_settings.block(scratch)
        if writer.ask("PUT", "etag", body=_OLD, attempted="write to the trial's bucket").version == "null":
            return _NO_VERSIONS
    except LifeboatError as exc:
        if s3_client.code(exc) in UNSUPPORTED:
            return _NO_VERSIONS
        if s3_client.code(exc) in DENIED:
            return f"the key may not write to {TRIALS}*, as the policy in docs/vault.md allows it to"
        return exc.cause
    return ""


class _Trial:
    """One run. `scratch`: as its administrator sees it; None: there is none, and `why`."""

    def __init__(self, real: Bucket, admin: Bucket, scratch: Optional[Bucket], why: str, known: Sequence[str]) -> None:
        self._real, self._admin, self._scratch, self._why, self._known = real, admin, scratch, why, known
        self._writer = real.sibling(scratch.name) if scratch else real

    def acts(self, minio: bool) -> dict[str, Act]:
        there: dict[str, Callable[[Bucket], str]] = {
            "delete versions": self._delete,
            "overwrite versions": self._overwrite,
            "erase by prefix": self._erase,
            "unpack archives over versions": self._unpack,
            "back-date objects": self._back_date,
            "choose ETags": self._choose_etag,
            "change the tags of versions": self._tag,
            "make objects public": self._make_public,
        }
        found = {name: self._in_scratch(work) for name, work in there.items()}
        for name, (setting, canned) in _SETTINGS.items():
            found[name] = self._tried(functools.partial(self._set, setting, canned))
        found["list other buckets"] = self._tried(self._list)
        if minio:
            cause = "a key that it makes would stay; on MinIO any key may make some, unless its policy denies that"
            found["make further keys"] = Act(UNTRIED, cause)
        found["delete the bucket"] = self._in_scratch(self._delete_bucket)  # the last: then the others have no place
        return found

    def _in_scratch(self, work: Callable[[Bucket], str]) -> Act:
        scratch = self._scratch
        return Act(UNTRIED, self._why) if scratch is None else self._tried(lambda: work(scratch))

    def _tried(self, work: Callable[[], str]) -> Act:
        """work: returns what was seen to be done; empty where nothing was."""
        try:
            seen = work()
        except _UntriedError as exc:
            return Act(UNTRIED, str(exc))
        except LifeboatError as exc:
            code = s3_client.code(exc)
            if code in _REFUSED:
                return Act(HELD, f"refused: {code}")
            if error_registry.cause_of(exc) is error_registry.by_name(error_registry.LOCKED):
                return Act(HELD, f"refused: {exc.cause}")
            # A server that does not know the act, or takes the request for malformed, says nothing of the right to it.
            return Act(UNTRIED, f"could not {exc.attempted}: {exc.cause}")
        return Act(CAN, seen) if seen else Act(HELD, "it had no effect")

    def _ask(
        self, method: str, key: str, query: Mapping[str, str], headers: Optional[Mapping[str, str]] = None,
        body: bytes = b"",
    ) -> None:  # fmt: skip
        """What the request code sends nowhere else."""
        writer = self._writer
        writer.requests.attempt(
            method, writer.name, key, query, {**(headers or {}), **(copier.content_md5(body) if body else {})}, body,
            attempted="try what the key should not be able to do", subject=writer.where(key),
        )  # fmt: skip

    def _old(self, key: str) -> str:
        """Return an old version of an object; the newest has the same bytes."""
        with _needed():
            old, _new = self._write(key), self._write(key)
        return old

    def _write(self, key: str) -> str:
        """Write an object, such that the vault's owner can look at it: on Ceph RGW it could not without this header. A
        key that may not send it (on Amazon S3 that is a right of its own) writes without. Returns the version."""
        headers, attempted = copier.content_md5(_OLD), "write an object"
        try:
            put = self._writer.requests.attempt(
                "PUT", self._writer.name, key, {}, {**headers, **_OWNERS}, _OLD, attempted=attempted,
                subject=self._writer.where(key),
            )  # fmt: skip
        except LifeboatError as exc:
            if not 400 <= s3_client.status(exc) < 500:
                raise
            put = self._writer.ask("PUT", key, headers=headers, body=_OLD, attempted=attempted)
        return put.version

    def _now(self, scratch: Bucket, key: str, version: str) -> Optional[bytes]:
        """Return the bytes of a version, as its administrator reads it; None where it is gone."""
        try:
            with _needed():
                return scratch.ask("GET", key, {"versionId": version}, attempted="look for the version").body
        except NotFoundError:
            return None

    def _damage(self, scratch: Bucket, key: str, version: str, how: str) -> str:
        now = self._now(scratch, key, version)
        return "" if now == _OLD else f"{how}: an old version is {'gone' if now is None else 'another one'}"

    def _delete(self, scratch: Bucket) -> str:
        version = self._old("delete")
        self._ask("DELETE", "delete", {"versionId": version})
        return self._damage(scratch, "delete", version, "DELETE ?versionId")

    def _overwrite(self, scratch: Bucket) -> str:
        version = self._old("overwrite")
        self._ask("PUT", "overwrite", {"versionId": version}, body=_NEW)
        return self._damage(scratch, "overwrite", version, "PUT ?versionId")

    def _erase(self, scratch: Bucket) -> str:
        version = self._old("erase/a")
        self._ask("DELETE", "erase/", {}, {"x-minio-force-delete": "true"})
        return self._damage(scratch, "erase/a", version, "x-minio-force-delete")

    def _unpack(self, scratch: Bucket) -> str:
        version = self._old("unpack")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo("unpack")
            member.size, member.pax_headers = len(_NEW), {"minio.versionId": version}
            tar.addfile(member, io.BytesIO(_NEW))
        self._ask("PUT", "unpack.tar", {}, {"x-amz-meta-snowball-auto-extract": "true"}, packed.getvalue())
        return self._damage(scratch, "unpack", version, "snowball-auto-extract with minio.versionId")

    def _back_date(self, scratch: Bucket) -> str:
        self._ask("PUT", "dated", {}, {"x-minio-source-mtime": _PAST}, _OLD)
        with _needed():
            listed = list(s3_bucket.versions(scratch, "dated"))
        past = [version for version in listed if version.modified.year == int(_PAST[:4])]
        return "x-minio-source-mtime: a lifecycle rule would remove what it replaces" if past else ""

    def _choose_etag(self, _scratch: Bucket) -> str:
        with _needed():
            return "x-minio-source-etag: equal ETags prove nothing" if probe.chosen(self._writer) else ""

    def _tag(self, scratch: Bucket) -> str:
        version = self._old("tags")
        body = b"<Tagging><TagSet><Tag><Key>x</Key><Value>y</Value></Tag></TagSet></Tagging>"
        self._ask("PUT", "tags", {"tagging": "", "versionId": version}, body=body)
        with _needed():
            return "PUT ?tagging&versionId" if copier.tags(scratch, "tags", version) else ""

    def _make_public(self, _scratch: Bucket) -> str:
        """Return whether the object can then be read without a key, however the server answered."""
        refused: Optional[LifeboatError] = None
        self._write("public")
        for words, (key, query, header, body) in _SHARED.items():
            try:
                self._writer.requests.attempt(
                    "PUT", self._writer.name, key, query, {**header, **copier.content_md5(body)}, body,
                    attempted="make an object public", subject=self._writer.where(key),
                )  # fmt: skip
            except LifeboatError as exc:
                refused = refused or (None if s3_client.code(exc) in UNSUPPORTED else exc)
            with _needed():
                if self._writer.requests.public(self._writer.name, "public" if key else None, self._writer.url):
                    said = ", ".join(f"{name}: {value}" for name, value in header.items())
                    return f"{said} {words}: anybody can {'read it' if key else 'list it'}"
        if refused:
            raise refused
        return ""

    def _set(self, setting: str, canned: bytes) -> str:
        """Write back what the vault's bucket has; where it has none, set one of the bucket that was made for it."""
        attempted = f"write the bucket's {setting}"
        try:
            there = self._admin.ask("GET", query={setting: ""}, attempted=attempted).body
        except LifeboatError as exc:
            there = b""
            if s3_client.code(exc) in UNSUPPORTED:
                raise
        if there:
            self._real.requests.write_back(self._real.name, setting, there, attempted=attempted, subject=self._real.url)
            return f"it wrote back the {setting} of {self._real.name}"
        if self._scratch is None or not canned:
            raise _UntriedError(self._why or "there is none to write back")
        body = canned.replace(b"%s", self._writer.name.encode())
        self._writer.requests.attempt(
            "PUT", self._writer.name, None, {setting: ""}, copier.content_md5(body), body, attempted=attempted,
            subject=self._writer.url,
        )  # fmt: skip
        return f"it set the {setting} of a bucket made for the trial"

    def _list(self) -> str:
        known = [*self._known, f"{TRIALS}*"]
        seen = s3_bucket.names(self._real)
        others = [name for name in seen if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)]
        return f"it sees the names of {len(others)} buckets" if others else ""

    def _delete_bucket(self, scratch: Bucket) -> str:
        try:
            delete_bucket.delete_bucket(self._writer, confirm=scratch.name)
        except LifeboatError as exc:
            if s3_client.code(exc) not in ("BucketNotEmpty", "409"):
                raise
            return "it may delete an empty bucket"
        with _needed():
            return "it deleted a bucket" + ("" if s3_settings.exists(scratch) else " with all that was in it")


class _UntriedError(Exception):
    """An act that cannot be tried here."""


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    """What comes before an act and after it: a refusal of that is none of the act."""
    try:
        yield
    except NotFoundError:
        raise
    except LifeboatError as exc:
        raise _UntriedError(f"could not {exc.attempted}: {exc.cause}") from exc
