# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets of what a test says, and objects backups in a local repository: for tests of the recovery of objects."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import bucket_requests
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import NAME as LISTING
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import compare
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, client
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Version
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from botocore.exceptions import ClientError
from builders import NOW
from builders import store as repository

OBJECTS = {"service": "objects", "bucket": "uploads", "endpoint_url": "http://127.0.0.1:9000"}
VAULT = {"endpoint_url": "http://vault.invalid:9000", "objects_bucket": "uploads-backup"}
SECRETS = {  # long, for Ansible blanks them wherever they stand
    "objects_access_key": "OBJECTSKEY0001", "objects_secret_key": "objects-secret-0001",
    "vault_access_key": "VAULTKEY0001", "vault_secret_key": "vault-secret-0001",
}  # fmt: skip
T = NOW
BEFORE, AFTER = T - timedelta(hours=1), T + timedelta(hours=1)


def row(known: list[Any], keyed: bool = True) -> list[Any]:
    """A line of what the database knows, as SQL gives it: key, size, sha256, at, whether there is a key, bucket."""
    given = [*known, *[None] * (5 - len(known))]
    return [*given[:4], keyed, given[4]]


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def failure(code: str, status: int, call: str = "X") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        call,
    )


@dataclass
class Object:
    body: bytes
    modified: datetime = BEFORE
    etag: str = ""
    error: Optional[Exception] = None

    @property
    def tag(self) -> str:
        return self.etag or md5(self.body)


@dataclass
class FakeBucket:
    """A bucket and its client in one. A diary tells what was done to it."""

    name: str = "uploads"
    full: bool = False
    objects: dict[str, Object] = field(default_factory=dict)
    missing: bool = False
    error: Optional[Exception] = None
    settings: dict[str, Any] = field(default_factory=lambda: {"versioning": "Enabled"})
    diary: list[str] = field(default_factory=list)
    endpoint_url: str = "http://127.0.0.1:9000"
    held: list[Version] = field(default_factory=list)
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)  # of older versions
    aside: dict[str, dict[str, bytes]] = field(default_factory=dict)
    own: str = ""  # the name of the one that `objects` are in, also where this is another at the same endpoint

    def __post_init__(self) -> None:
        self.own = self.own or self.name

    meta: Any = None

    @property
    def url(self) -> str:
        return f"s3://{self.name} at {self.endpoint_url}"

    @property
    def client(self) -> FakeBucket:
        return self

    def sibling(self, name: str) -> FakeBucket:
        return self if name == self.name else replace(self, name=name, objects={})

    def head_bucket(self, Bucket: str) -> dict[str, Any]:
        if self.error:
            raise self.error
        if Bucket not in self.aside and (self.missing or Bucket != self.own):
            raise failure("404", 404)
        return {}

    def ask(
        self, method: str, key: str | None = None, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, *, body: bytes = b"", attempted: str = "",
    ) -> Any:  # fmt: skip
        del headers
        if attempted.startswith("try s3:"):  # its key may do everything
            return SimpleNamespace(body=b"")
        if key:
            raise NotFoundError(method, key, "there is no such version")
        if query and set(query) <= set(bucket_requests.CALLS):
            return bucket_requests.answer(self, method, query, body, attempted)
        with client.translated_errors(attempted, self.url):
            self.head_bucket(self.name)
        return None

    def set(self, what: str, document: bytes, attempted: str) -> None:
        self.ask("PUT", query={what: ""}, body=document, attempted=attempted)

    def list_buckets(self) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"Buckets": [{"Name": name} for name in (self.own, *self.aside)]}

    def create_bucket(self, Bucket: str) -> None:
        self.diary.append(f"make {Bucket}")
        if Bucket == self.own:
            self.missing = False
        else:
            self.aside[Bucket] = {}

    def delete_bucket(self, Bucket: str) -> None:
        self.diary.append(f"unmake {Bucket}")
        del self.aside[Bucket]

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:
        if self.full:
            raise failure("InternalError", 500)
        self.aside[Bucket][Key] = Body

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise failure("404", 404)
        return {"ContentLength": len(self.objects[Key].body)}

    def get_object(self, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:
        if Bucket != self.name:
            return {"Body": io.BytesIO(self.aside[Bucket][Key])}
        if VersionId:
            return {"Body": io.BytesIO(self.bodies[Key, VersionId])}
        if Key not in self.objects:
            raise failure("NoSuchKey", 404)
        one = self.objects[Key]
        if one.error:
            raise one.error
        return {"Body": io.BytesIO(one.body)}

    def copy_object(self, Bucket: str, Key: str, CopySource: dict[str, str]) -> None:
        one = self.objects[CopySource["Key"]]
        if one.error:
            raise one.error
        self.aside[Bucket][Key] = one.body

    def delete_object(self, Bucket: str, Key: str) -> None:
        if Bucket == self.name:
            self.diary.append(f"delete {Key}")
            self.objects.pop(Key, None)
        elif Bucket not in self.aside:
            raise failure("NoSuchBucket", 404)
        else:
            self.aside[Bucket].pop(Key)

    def get_bucket_versioning(self, Bucket: str) -> dict[str, Any]:
        return {"Status": self.settings["versioning"]} if self.settings.get("versioning") else {}

    def put_bucket_versioning(self, Bucket: str, VersioningConfiguration: dict[str, str]) -> None:
        self.diary.append("versioning on")
        self.settings["versioning"] = VersioningConfiguration["Status"]

    def get_bucket_lifecycle_configuration(self, Bucket: str) -> dict[str, Any]:
        if not self.settings.get("lifecycle"):
            raise failure("NoSuchLifecycleConfiguration", 404)
        return {"Rules": self.settings["lifecycle"]}

    def get_bucket_policy(self, Bucket: str) -> dict[str, Any]:
        if isinstance(self.settings.get("policy"), Exception):
            raise self.settings["policy"]
        if not self.settings.get("policy"):
            raise failure("NoSuchBucketPolicy", 404)
        return {"Policy": json.dumps(self.settings["policy"])}

    def put_bucket_policy(self, Bucket: str, Policy: str) -> None:
        self.diary.append("policy")
        self.settings["policy"] = json.loads(Policy)

    def get_bucket_cors(self, Bucket: str) -> dict[str, Any]:
        if not self.settings.get("cors"):
            raise failure("NotImplemented", 501)
        return {"CORSRules": self.settings["cors"]}

    def put_bucket_lifecycle_configuration(self, Bucket: str, LifecycleConfiguration: dict[str, Any]) -> None:
        self.settings["lifecycle"] = LifecycleConfiguration["Rules"]


class World:
    """The stack's bucket and the vault's, as bucket.py hands them out."""

    def __init__(self, monkeypatch: Any) -> None:
        self.live = FakeBucket()
        self.vault = FakeBucket("uploads-backup", endpoint_url="http://vault.invalid:9000")
        monkeypatch.setattr(buckets, "source", lambda config: self.live)
        monkeypatch.setattr(buckets, "vault", lambda config: self.vault)
        self.others: list[str] = []
        self.unlisted = ""
        self.vaults: list[str] = []  # of another stack
        monkeypatch.setattr(bucket, "names", self.names)
        monkeypatch.setattr(store, "_tagged", lambda one: one.name in self.vaults)
        monkeypatch.setattr(bucket, "objects", self.listed)
        monkeypatch.setattr(compare, "_impatient", lambda opened: opened)
        # Headers and tags: those of the vault are the key's own, unless a test says that somebody changed them.
        self.retagged: set[str] = set()
        monkeypatch.setattr(compare.copier, "facts", self.facts)
        monkeypatch.setattr(bucket, "versions", lambda opened, prefix="", watch=None: iter(opened.held))
        monkeypatch.setattr(bucket, "versioning", lambda opened: opened.settings.get("versioning") or "")

    def facts(self, fake_bucket: FakeBucket, key: str, version: str = "") -> Any:
        changed = fake_bucket is self.live and key in self.retagged
        return SimpleNamespace(headers={"content-type": "text/plain"}, tags=["other"] if changed else [])

    def listed(self, fake_bucket: FakeBucket, prefix: str = "", watch: object = None) -> Iterator[Version]:
        if fake_bucket.missing:
            raise UsageError("list the bucket", fake_bucket.url, "there is no such bucket")
        for key, each in list(fake_bucket.objects.items()):
            if key.startswith(prefix):
                yield Version(key, len(each.body), each.tag, each.modified)

    def names(self, fake_bucket: FakeBucket) -> list[str]:
        if self.unlisted:
            raise UsageError("list the buckets", fake_bucket.endpoint_url, self.unlisted)
        return sorted(
            {self.live.own, *fake_bucket.aside, *self.others} - ({self.live.own} if self.live.missing else set())
        )

    def fill(self, keys: str = "a b c d", at: datetime = BEFORE) -> None:
        """Objects in the live bucket, and their versions in the vault."""
        for key in keys.split():
            self.live.objects[key] = Object(f"body of {key}".encode(), at)
            self.vault.held.append(Version(key, len(f"body of {key}"), "e", at, f"v-{key}"))


def line(key: str, one: Object) -> dict[str, Any]:
    return {
        "key": key, "size": len(one.body), "etag": one.tag, "modified": clock.format_time(one.modified),
        "version": f"s-{key}", "vault_version": f"v-{key}", "vault_etag": one.tag, "sha256": None,
    }  # fmt: skip


def publish_objects(
    root: Path, objects: dict[str, Object], taken_at: datetime = T, stack: str = "shop", besides: Sequence[str] = (),
    **details: Any,
) -> Point:  # fmt: skip
    """An objects backup of what is given, in the local repository below `root`. besides: other buckets of the store, of
    which it has the same objects."""
    data = gzip.compress("".join(json.dumps(line(key, objects[key])) + "\n" for key in sorted(objects)).encode())
    folders = {f"buckets/{number:03d}": name for number, name in enumerate(besides, 1)}
    names = [LISTING, *(f"{folder}/{LISTING}" for folder in folders)]
    sizes = {"objects": len(objects), "bytes": sum(len(held.body) for held in objects.values())}
    others = [{"name": name, "folder": folder, "consistency": "snapshot", **sizes} for folder, name in folders.items()]
    one = Manifest(
        id=manifest.backup_id("objects", taken_at),
        component="objects",
        stack=stack,
        taken_at=taken_at,
        finished_at=taken_at + timedelta(seconds=2),
        artefacts=tuple(Artefact(name, len(data), hashlib.sha256(data).hexdigest()) for name in names),
        details={
            "bucket": "uploads", **sizes, **({"others": others, "unprotected": []} if besides else {}),
            "consistency": "snapshot", "unheld": [], "settings": {"versioning": "Enabled", "lifecycle": None},
            "properties": {},
            **details,
        },
    )  # fmt: skip
    (root / "backup").mkdir(exist_ok=True)
    repo = repository(root)
    with repo.stage("objects", one.id) as staging:
        for name in names:
            (staging.path / name).parent.mkdir(parents=True, exist_ok=True)
            (staging.path / name).write_bytes(data)
        staging.publish(one.to_bytes())
    return Point(repo, one)
