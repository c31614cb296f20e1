# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole store, lost in three ways: what boto3 and the admin API see before and after is the same, but for what the
plan named before anybody confirmed it.

Five buckets (with versions, public with versions suspended, locked, encrypted, empty), three users, a group, a policy
and two service accounts, in tests/integration/minio_admin.py: a stand-in of MinIO's admin API before SeaweedFS, not
MinIO.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fake_age
import minio_admin
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import backup as configuration_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import planned as objects_planned
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.selection import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import vault
from minio_admin import StandIn
from s3_servers import SeaweedFS, ServerError, running, wipe
from test_identities import QUOTA, SERVICE, Shop
from test_recover import Process, empty

OTHERS = ("empty", "encrypted", "locked", "public")
EVERY = ("uploads", *OTHERS)
LEAKED = "leaked-key-1"
READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::public/*"}],
}
RULES = [{
    "ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 9},
}]  # fmt: skip
SEALED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
LOCK = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}}}
Facts = Mapping[tuple[str, str], Any]


def found() -> dict[str, Any]:
    """Three users, a service account of the application's, and one that somebody disabled."""
    made = minio_admin.identities(
        users={"webapp": "webappsecret1", "auditor": "auditorsecret1", "reporter": "reportersecret1"},
        accounts={SERVICE: ("webapp", "websvcsecret0001"), LEAKED: ("reporter", "leakedsecret0001")},
        groups={"editors": ["webapp", "auditor"]},
        policies={"uploads-rw": minio_admin.document("s3:GetObject", "s3:PutObject", bucket="uploads")},
        attached={"webapp": "uploads-rw,diagnostics"},
    )
    made["group_mappings"] = {"editors": {"version": 0, "policy": "readonly"}}
    made["svcaccts"][LEAKED]["status"] = "off"
    return made


def unordered(value: Any) -> Any:
    """The server tells arrays in any order."""
    if isinstance(value, dict):
        return {name: unordered(inner) for name, inner in value.items()}
    return sorted(map(unordered, value), key=str) if isinstance(value, list) else value


class Engine(Process):
    """One that says so where a server does not start, as `docker compose` does."""

    def start(self, services: Any, *, timeout: float) -> None:
        try:
            super().start(services, timeout=timeout)
        except ServerError as exc:
            raise LifeboatError("start", "objects", str(exc)[-300:]) from exc

    def images(self) -> dict[str, str]:
        return {}


class Whole(Shop):
    """The store is filled by boto3, and looked at by boto3 and through what its admin API keeps."""

    def __init__(self, root: Path, source: StandIn, held: SeaweedFS, mirrored: str) -> None:
        super().__init__(root, source, held, mirrored)
        self.process = Engine(source)
        fake_age.install()
        self.key = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
        one = self.config
        self.config = dataclasses.replace(
            one,
            objects=dataclasses.replace(one.objects, buckets=("*",)),
            vault=dataclasses.replace(one.vault, repository_bucket=f"{mirrored}-repository"),
            config=dataclasses.replace(one.config, recipients=tuple(age.recipients_of(self.key))),
        )

    def fill(self) -> None:
        client = self.client
        for name in EVERY:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=name == "locked")
        client.put_bucket_versioning(Bucket="uploads", VersioningConfiguration={"Status": "Enabled"})
        client.put_bucket_versioning(Bucket="public", VersioningConfiguration={"Status": "Suspended"})
        client.put_bucket_lifecycle_configuration(Bucket="uploads", LifecycleConfiguration={"Rules": RULES})
        client.put_bucket_policy(Bucket="public", Policy=json.dumps(READ))
        client.put_bucket_encryption(Bucket="encrypted", ServerSideEncryptionConfiguration=SEALED)
        client.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=LOCK)
        for name in EVERY:
            for number in range(0 if name == "empty" else 4):
                client.put_object(
                    Bucket=name, Key=f"at/{number}", Body=f"{number} of {name}".encode() * 40, ContentType="text/plain",
                    Metadata={"of": name}, Tagging=f"of={name}",
                )  # fmt: skip
        self.store.state = {**found(), "quotas": {"uploads": QUOTA}}

    def backup_all(self) -> None:
        """As a night does: the objects with the identities, the configuration, then the copies of both in the vault."""
        run = Opened(self.config)
        self.id = take.take(run, log=self.said.append).id
        configuration_backup.take(run, log=self.said.append, directory=self.root / "etc")
        assert not copies.catch_up(run, log=self.said.append).failed

    def facts(self) -> Facts:
        """(of what, which of its properties): as it is now."""
        told: dict[tuple[str, str], Any] = {}
        client = self.client
        for bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            told[bucket, "there"] = True
            for what, ask in {
                "versioning": lambda name: client.get_bucket_versioning(Bucket=name).get("Status"),
                "lifecycle": lambda name: client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"],
                "policy": lambda name: json.loads(client.get_bucket_policy(Bucket=name)["Policy"])["Statement"],
                "encryption": lambda name: client.get_bucket_encryption(Bucket=name)[
                    "ServerSideEncryptionConfiguration"
                ],
                "lock": lambda name: client.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"],
            }.items():
                with contextlib.suppress(client.exceptions.ClientError):
                    told[bucket, what] = ask(bucket)
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", ()):
                    for what, value in self._object(bucket, entry["Key"]).items():
                        told.setdefault((bucket, f"objects' {what}"), {})[entry["Key"]] = value
        state = self.store.state
        for kind in ("users", "groups", "policies", "svcaccts", "user_mappings", "group_mappings", "quotas"):
            for name, value in state[kind].items():
                told[name, kind] = unordered({key: one for key, one in value.items() if key != "updatedAt"})
        return told

    def _object(self, bucket: str, key: str) -> dict[str, Any]:
        answer = self.client.get_object(Bucket=bucket, Key=key)
        found = {
            "bytes": hashlib.sha256(answer["Body"].read()).hexdigest(),
            "headers": (answer["ContentType"], answer["Metadata"]),
            "tags": self.client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"],
            "encryption": answer.get("ServerSideEncryption"),
        }
        with contextlib.suppress(self.client.exceptions.ClientError):
            kept = self.client.get_object_retention(Bucket=bucket, Key=key)["Retention"]
            found["retention"] = (kept["Mode"], kept["RetainUntilDate"])
        return found

    def recover_all(self) -> dict[str, Any]:
        """As the role does it; `text` is what an operator reads before the confirmation."""
        made = objects_plan.make(Opened(self.config), Request(), log=self.said.append)
        text = objects_planned.text(made)
        protected = objects_recovery.protect(Opened(self.config), made, log=self.said.append)
        assert protected.mode != "started", "nothing was lost"
        names = ("stamp", "prefix", "exact", "partial", "state", "bucket")
        restored = objects_recovery.restore_objects(
            Opened(self.config), str(made.backup["id"]), location=str(made.backup["place"]), log=self.said.append,
            fresh=protected.fresh, requested=made.asked, additional=made.additional,
            **{name: getattr(made, name) for name in names},
        )  # fmt: skip
        return {**dict(typed.plain(made)), **dict(typed.plain(protected)), **dict(typed.plain(restored)), "text": text}

    def new_host(self) -> None:
        """Nothing of the old one is left. The vault has the copies; the operator has the key."""
        for name in ("state", "backup"):
            shutil.rmtree(self.root / name)
        (self.root / "backup").mkdir()
        store = copies.vault(Opened(self.config))
        assert store is not None
        (newest,) = store.published("config")
        target = self.root / "unpacked"
        configuration_restore.extract(store, newest, target, keys=age.keys_of(self.key), log=self.said.append)
        self.config.state.mkdir(mode=0o700, parents=True)
        shutil.copy2(target / str(self.config.identities).lstrip("/"), self.config.identities)


@pytest.fixture
def whole(tmp_path: Path, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
    monkeypatch.setenv("WEED_S3_SSE_KEK", "0f" * 32)  # without it the server encrypts nothing
    monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    mirrored = f"whole-{datetime.now(timezone.utc):%H%M%S%f}"
    with running(lambda directory: StandIn(directory, minio_admin.keys([found()]))) as store:
        for name in (mirrored, f"{mirrored}-repository"):
            weed.client.create_bucket(Bucket=name)
        case = Whole(tmp_path, store, weed, mirrored)
        monkeypatch.setattr(runtime, "connect", lambda config: case.process)
        case.fill()
        vault.ensure(case.config, additional=OTHERS)
        yield case
    for bucket in weed.client.list_buckets()["Buckets"]:
        if bucket["Name"].startswith(mirrored):
            wipe(weed.client, bucket["Name"])


def is_wiped(case: Whole) -> None:
    """A fresh server answers, and takes nobody's key but root's."""
    case.store.kill()
    empty(case.store.data)
    case.store.start()


def fails_to_start(case: Whole) -> None:
    case.process.stop(["objects"], timeout=1)
    shutil.rmtree(case.store.data / "filerldb2")
    (case.store.data / "filerldb2").write_bytes(b"")


def is_lost_with_its_host(case: Whole) -> None:
    is_wiped(case)
    case.new_host()


def named(difference: tuple[str, str], text: str) -> bool:
    """Does a line of the plan say that this of it does not come back?"""
    of, what = difference
    words = (of, {"svcaccts": "access key"}.get(what, what.removeprefix("objects' ")))
    return any(all(word in line for word in words) for line in text)


@pytest.mark.parametrize("fault", [is_wiped, fails_to_start, is_lost_with_its_host])
def test_a_whole_store_comes_back(whole: Whole, fault: Callable[[Whole], None]) -> None:
    whole.backup_all()
    before = whole.facts()
    assert {of for of, what in before if what == "there"} == set(EVERY)
    fault(whole)
    broken = fault is fails_to_start
    done = whole.recover_all()
    assert (done["mode"], bool(done["quarantine"]) and Path(done["quarantine"]).is_dir()) == (
        "rebuild" if broken else "fill", broken,
    )  # fmt: skip
    assert done["others"] == list(OTHERS), done["text"]
    after = whole.facts()
    differ = {one for one in {*before, *after} if before.get(one) != after.get(one)}
    assert [one for one in sorted(differ) if not named(one, done["text"])] == [], done["text"]
    assert (LEAKED, "svcaccts") in differ, "an import would enable it: it is named, and does not come back"
    bad = {check["name"]: check["result"] for check in done["checks"] if check["result"] == "FAIL"}
    assert not bad, done["checks"]
    application = whole.store.connect(SERVICE, "websvcsecret0001")
    application.put_object(Bucket="uploads", Key="at/new", Body=b"written since")
    assert application.get_object(Bucket="uploads", Key="at/0")["Body"].read() == b"0 of uploads" * 40


def judged(case: Whole) -> tuple[str, str]:
    """What status says of the buckets."""
    told = status.status(Opened(case.config), now=datetime.now(timezone.utc))
    (check,) = [check for check in told.checks if check.name == "buckets"]
    return check.result, check.detail


def test_status_names_every_bucket_that_no_backup_holds(whole: Whole) -> None:
    """Before anybody chose buckets, with all of them, and with some left out: each time that it is asked."""

    def back_up(**chosen: Any) -> None:
        whole.config = dataclasses.replace(whole.config, objects=dataclasses.replace(whole.config.objects, **chosen))
        take.take(Opened(whole.config), log=whole.said.append).detailed(ObjectsDetails)

    back_up(buckets=())
    result, words = judged(whole)
    assert (result, [name for name in OTHERS if name not in words]) == ("COULD_NOT_VERIFY", []), words
    assert "in no backup, as lifeboat_objects.bucket names uploads alone" in words
    back_up(buckets=("*",))
    assert judged(whole) == ("PASS", "uploads, empty, encrypted, locked, public")
    back_up(exclude=("encrypted", "empty"))
    left = (
        "COULD_NOT_VERIFY",
        "uploads, locked, public; the buckets empty, encrypted: left out by lifeboat_objects.exclude",
    )
    assert judged(whole) == left
    assert judged(whole) == left, "every time"
