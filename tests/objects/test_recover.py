# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket lost on real servers in every way, and brought back from a vault: looked at with boto3 alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.choose import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from s3_servers import SeaweedFS, Server, seaweedfs, wipe

MakeBucket = Callable[[Server], str]
BIG = b"0123456789abcdef" * (1 << 20)  # 16 MiB, in parts
KEYS = ["docs/a b.txt", "docs/写真.jpg", "docs/empty", "img/1.png", "img/2.png", "root"]


def portrait(client: Any, bucket: str) -> dict[str, Any]:
    """Everything of every current object, read now."""
    found: dict[str, Any] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for content in page.get("Contents", ()):
            answer = client.get_object(Bucket=bucket, Key=content["Key"])
            tags = client.get_object_tagging(Bucket=bucket, Key=content["Key"])["TagSet"]
            found[content["Key"]] = (
                hashlib.sha256(answer["Body"].read()).hexdigest(), answer["ContentType"], answer.get("CacheControl"),
                answer.get("ContentDisposition"), answer["Metadata"],
                sorted((tag["Key"], tag["Value"]) for tag in tags),
            )  # fmt: skip
    return found


class Process:
    """A stack whose one service is a server of ours: `docker compose` for a plain process."""

    label = "a process"

    def __init__(self, server: Server) -> None:
        self.server, self.up = server, True
        self.environment: dict[str, str] = {}

    def state(self, service: str) -> ServiceState:
        return ServiceState(
            exists=True, running=self.up, status="running" if self.up else "exited", exit_code=1,
            environment=self.environment,
        )  # fmt: skip

    def start(self, services: Any, *, timeout: float) -> None:
        if "objects" in services and not self.up:
            self.server.start()
            self.up = True

    def stop(self, services: Any, *, timeout: float) -> None:
        if "objects" in services:
            self.server.kill()
            self.up = False

    def discard(self, service: str, *, timeout: float) -> None:
        self.stop([service], timeout=timeout)

    def dependants(self, service: str) -> list[str]:
        return ["backend"]

    def logs(self, service: str) -> str:
        return ""

    def data_mount(self, service: str, inside: str) -> DataMount:
        return DataMount("bind", str(self.server.data), self.server.data)

    def by_hand(self, service: str) -> tuple[str, str]:
        return "stop", "start"


class Case:
    """One bucket with objects of every kind, mirrored to a vault. `ours`: the server is the stack's to restart.

    key: the identity that an operator gives to a recovery.
    """

    key = ""

    def __init__(self, root: Path, source: Server, bucket: str, vault: Server, mirrored: str, ours: bool) -> None:
        self.root, self.source, self.bucket, self.vault, self.mirrored = root, source, bucket, vault, mirrored
        self.client = source.client
        self.process = Process(source)
        (root / "backup").mkdir()
        settings = {
            "stack": "shop", "runtime": {"project_directory": str(root)}, "state_directory": str(root / "state"),
            "repository": {"type": "local", "path": str(root / "backup")},
            "objects": {
                "bucket": bucket, "endpoint_url": source.url, "service": "objects" if ours else "",
                "admin": {"api": "elsewhere"},
            },
            "vault": {"endpoint_url": vault.url, "objects_bucket": mirrored},
            "application": {"timeout": 60},
        }  # fmt: skip
        keys = {
            "objects_access_key": source.access_key, "objects_secret_key": source.secret_key,
            "vault_access_key": vault.access_key, "vault_secret_key": vault.secret_key,
        }  # fmt: skip
        self.config = config.from_mapping(settings, keys)
        vault.client.put_bucket_versioning(Bucket=mirrored, VersioningConfiguration={"Status": "Enabled"})
        self.said: list[str] = []

    def fill(self) -> None:
        for number, key in enumerate(KEYS):
            body = b"" if key.endswith("empty") else f"body of {key}".encode() * 50
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="text/plain; charset=utf-8",
                CacheControl="max-age=3600", ContentDisposition=f'attachment; filename="{number}.txt"',
                Metadata={"origin": "test", "number": str(number)}, Tagging=f"kind=test&number={number}",
            )  # fmt: skip
        upload = self.client.create_multipart_upload(
            Bucket=self.bucket, Key="big", ContentType="video/mp4", Metadata={"parts": "2"}
        )["UploadId"]
        parts = [
            {"PartNumber": n, "ETag": self.client.upload_part(
                Bucket=self.bucket, Key="big", UploadId=upload, PartNumber=n, Body=body)["ETag"]}
            for n, body in enumerate((BIG[: 8 << 20], BIG[8 << 20 :]), 1)
        ]  # fmt: skip
        self.client.complete_multipart_upload(
            Bucket=self.bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": parts}
        )

    def backup(self) -> dict[str, Any]:
        """Mirror, and return what the bucket was."""
        self.id = take.take(Opened(self.config), log=self.said.append).id
        return portrait(self.client, self.bucket)

    def plan(self, **request: Any) -> dict[str, Any]:
        made = objects_plan.make(Opened(self.config, self.key), Request(**request), log=self.said.append)
        self.made, found = made, typed.plain(made)
        return dict(found)

    def recover(self, **request: Any) -> dict[str, Any]:
        """As the role does it: plan, protect, restore."""
        made = self.plan(**request)
        assert made["needed"], "; ".join(made["steps"])
        protected = typed.plain(
            objects_recovery.protect(Opened(self.config, self.key), self.made, log=self.said.append)
        )
        if protected["mode"] == "started":
            return {**made, **protected}
        restored = objects_recovery.restore_objects(
            Opened(self.config, self.key), made["backup"]["id"], log=self.said.append, fresh=protected["fresh"],
            requested=made["asked"], location=made["backup"]["place"],
            **{name: made[name] for name in ("stamp", "prefix", "exact", "partial", "state")},
        )  # fmt: skip
        return {**made, **protected, **typed.plain(restored)}

    def portrait(self) -> dict[str, Any]:
        return portrait(self.client, self.bucket)


@pytest.fixture
def make(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Case]:
    def made(source: Server, ours: bool = False) -> Case:
        monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
        bucket = "uploads" if ours else make_bucket(source)
        if ours:  # the server goes with all that is in it
            source.client.create_bucket(Bucket=bucket)
        case = Case(tmp_path, source, bucket, weed, make_bucket(weed), ours)
        monkeypatch.setattr(runtime, "connect", lambda config: case.process)
        return case

    return made


def bad(found: dict[str, Any]) -> list[Any]:
    """The checks that did not pass; what the database says was not asked here."""
    return [check for check in found["checks"] if check["result"] != "PASS" and check["name"] != "rows and objects"]


def delete_prefix(case: Case) -> None:
    for key in KEYS[:3]:
        case.client.delete_object(Bucket=case.bucket, Key=key)


def overwrite_all(case: Case) -> None:
    for key in [*KEYS, "big"]:
        case.client.put_object(Bucket=case.bucket, Key=key, Body=b"encrypted by somebody")


def delete_bucket(case: Case) -> None:
    wipe(case.client, case.bucket)


@pytest.mark.parametrize("fault", [delete_prefix, overwrite_all, delete_bucket])
def test_what_is_missing_or_wrong_comes_back_exactly(make: Callable[..., Case], server: Server, fault: Any) -> None:
    """On both servers: one keeps versions of what is overwritten, on the other it goes into a bucket of its own."""
    case = make(server)
    if server.kind == "SeaweedFS":
        case.client.put_bucket_versioning(Bucket=case.bucket, VersioningConfiguration={"Status": "Enabled"})
    case.fill()
    expected = case.backup()
    fault(case)
    if fault is not delete_bucket:
        case.client.put_object(Bucket=case.bucket, Key="later", Body=b"written after the backup")
        expected = {**expected, "later": case.portrait()["later"]}
    found = case.recover()
    assert bad(found) == []
    assert case.portrait() == expected
    again = case.plan()
    assert (again["needed"], again["condition"]) == (False, "healthy"), "; ".join(again["steps"])
    if fault is overwrite_all and server.kind == "JuiceFS":
        kept = portrait(case.client, found["quarantine_bucket"])
        assert set(kept) == {*KEYS, "big"}
        assert {copy[0] for copy in kept.values()} == {hashlib.sha256(b"encrypted by somebody").hexdigest()}
        wipe(case.client, found["quarantine_bucket"])
    if fault is overwrite_all and server.kind == "SeaweedFS":
        versions = case.client.list_object_versions(Bucket=case.bucket, Prefix="root")["Versions"]
        assert next(version["Size"] for version in versions if not version["IsLatest"]) == len(b"encrypted by somebody")


@pytest.fixture
def versioned(make: Callable[..., Case], weed: SeaweedFS) -> Case:
    case = make(weed)
    case.client.put_bucket_versioning(Bucket=case.bucket, VersioningConfiguration={"Status": "Enabled"})
    case.fill()
    return case


def test_versioning_that_was_switched_off_is_damage(versioned: Case) -> None:
    expected = versioned.backup()
    versioned.client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Suspended"})
    found = versioned.recover()
    assert (found["settings"], found["copied"]["copied"], bad(found)) == (["versioning"], 0, [])
    assert versioned.client.get_bucket_versioning(Bucket=versioned.bucket)["Status"] == "Enabled"
    assert versioned.portrait() == expected


def test_a_prefix_and_nothing_else(versioned: Case) -> None:
    expected = versioned.backup()
    versioned.client.put_object(Bucket=versioned.bucket, Key="docs/empty", Body=b"no more")
    versioned.client.put_object(Bucket=versioned.bucket, Key="img/1.png", Body=b"changed, and rightly so")
    found = versioned.recover(prefix="docs/")
    after = versioned.portrait()
    assert (found["copied"]["copied"], bad(found)) == (1, [])
    assert after["docs/empty"] == expected["docs/empty"]
    assert after["img/1.png"][0] == hashlib.sha256(b"changed, and rightly so").hexdigest()
    assert versioned.plan(prefix="docs/")["needed"] is False


def test_an_older_state_by_its_id_and_exactly(versioned: Case) -> None:
    expected = versioned.backup()
    older = versioned.id
    versioned.client.put_object(Bucket=versioned.bucket, Key="root", Body=b"the second version")
    versioned.client.put_object(Bucket=versioned.bucket, Key="new", Body=b"only in the second")
    versioned.backup()
    found = versioned.recover(identity=older, exact=True)
    assert (bad(found), versioned.portrait()) == ([], expected)
    assert versioned.plan(identity=older)["needed"] is False
    newest = versioned.plan()
    assert newest["condition"] == "healthy", "another state was chosen on purpose, and is within the limit"


def test_a_state_that_was_recovered_to_and_is_lost_again(versioned: Case) -> None:
    expected = versioned.backup()
    versioned.recover(identity=versioned.id)
    assert versioned.plan(identity=versioned.id)["needed"] is False
    for key in KEYS[:2]:
        versioned.client.delete_object(Bucket=versioned.bucket, Key=key)
    assert versioned.plan()["condition"] == "healthy", "within the limit"
    made = versioned.plan(identity=versioned.id)
    assert (made["needed"], made["why"]) == (True, f"2 objects are not those of {versioned.id}")
    versioned.recover(identity=versioned.id)
    versioned.client.put_object(Bucket=versioned.bucket, Key="later", Body=b"written after the point")
    assert versioned.plan(identity=versioned.id)["needed"] is False
    found = versioned.recover(identity=versioned.id, exact=True)
    assert (bad(found), versioned.portrait()) == ([], expected)


def test_what_expired_in_the_vault_is_said_first(versioned: Case) -> None:
    expected = versioned.backup()
    vault = versioned.vault.client
    (one,) = vault.list_object_versions(Bucket=versioned.mirrored, Prefix="img/2.png")["Versions"]
    vault.delete_object(Bucket=versioned.mirrored, Key="img/2.png", VersionId=one["VersionId"])
    wipe(versioned.client, versioned.bucket)
    with pytest.raises(IntegrityError, match=r"the vault no longer has 1 \(img/2.png\) of 7 objects"):
        versioned.plan()
    found = versioned.recover(partial=True)
    assert [(check["name"], check["result"]) for check in bad(found)] == [("held by the vault", "FAIL")]
    assert versioned.portrait() == {key: value for key, value in expected.items() if key != "img/2.png"}


def test_headers_and_tags_changed_by_another_client(versioned: Case) -> None:
    expected = versioned.backup()
    versioned.client.put_object_tagging(
        Bucket=versioned.bucket, Key="root", Tagging={"TagSet": [{"Key": "kind", "Value": "other"}]}
    )
    found = versioned.recover(force=True)
    assert (bad(found), versioned.portrait()) == ([], expected)


# --- a server of the stack's own ---


@pytest.fixture
def ours(make: Callable[..., Case]) -> Iterator[Case]:
    with seaweedfs() as server:
        case = make(server, ours=True)
        case.client.put_bucket_versioning(Bucket=case.bucket, VersioningConfiguration={"Status": "Enabled"})
        case.client.put_bucket_lifecycle_configuration(
            Bucket=case.bucket,
            LifecycleConfiguration={"Rules": [{
                "ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
            }]},
        )  # fmt: skip
        case.fill()
        yield case


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def emptied_while_it_runs(case: Case) -> str:
    empty(case.source.data)
    return "rebuild"


def emptied_while_it_is_down(case: Case) -> str:
    case.process.stop(["objects"], timeout=1)
    empty(case.source.data)
    return "fill"


def merely_stopped(case: Case) -> str:
    case.process.stop(["objects"], timeout=1)
    return "started"


@pytest.mark.parametrize("fault", [emptied_while_it_runs, emptied_while_it_is_down, merely_stopped])
def test_a_data_directory_is_lost(ours: Case, fault: Callable[[Case], str]) -> None:
    expected = ours.backup()
    mode = fault(ours)
    found = ours.recover()
    assert found["mode"] == mode
    assert [check for check in bad(found) if check["name"] != "data"] == []
    assert ours.portrait() == expected
    if mode != "started":
        rules = ours.client.get_bucket_lifecycle_configuration(Bucket=ours.bucket)["Rules"]
        assert rules[0]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
        assert ours.client.get_bucket_versioning(Bucket=ours.bucket)["Status"] == "Enabled"
    if mode == "rebuild":
        aside = Path(found["quarantine"])
        assert aside.is_dir() and aside.parent == ours.source.data.parent
    again = ours.plan()
    assert (again["condition"], again["mode"]) == ("healthy", "reopen"), "the writers are still to be started"
