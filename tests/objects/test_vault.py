# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's buckets on real servers: made once, left alone the second time, and refused where they are not ours."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import builders
import pytest
import s3_quirks
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import S3Settings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import vault
from botocore.exceptions import ClientError
from conftest import BUCKETS, PLAIN, WRITER, MakeBucket
from s3_faults import Proxy, faulty
from s3_servers import ALIAS, JuiceFS, SeaweedFS, Server

OBJECTS, REPOSITORY = BUCKETS
ENABLED = {"Status": "Enabled"}


def make(server: Server, stack: str = "shop", keys: Any = None, **changes: Any) -> Config:
    """A stack whose bucket is somewhere else and whose vault is `server`."""
    keys = keys or {"access_key": server.access_key, "secret_key": server.secret_key}
    settings = {
        "stack": stack,
        "runtime": {"project_directory": "/srv/shop"},
        "objects": {"bucket": "uploads", "endpoint_url": "http://192.0.2.7:9000"}
        if changes.get("objects_bucket", 1)
        else {},
        "vault": {"endpoint_url": server.url, "objects_bucket": OBJECTS, "repository_bucket": REPOSITORY, **changes},
    }
    return config.from_mapping(
        settings, {"vault_access_key": keys["access_key"], "vault_secret_key": keys["secret_key"]}
    )


@pytest.fixture(autouse=True)
def no_vault_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("weed", "gateway"):
        if name in request.fixturenames:
            client = request.getfixturevalue(name).client
            for bucket in client.list_buckets()["Buckets"]:
                if bucket["Name"] in (*BUCKETS, "locked-backup"):
                    s3_servers.wipe(client, bucket["Name"])


def rules(server: Server, bucket: str = OBJECTS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    return found


def short(changes: list[str]) -> list[str]:
    return [f"{change.split()[0][5:]}: {change.partition(': ')[2]}" for change in changes]


MADE = [
    f"{bucket}: {what}"
    for bucket, kind in ((OBJECTS, "objects"), (REPOSITORY, "repository"))
    for what in (
        "make the bucket",
        f"mark it as that of shop/{kind}",
        "switch versioning on",
        "expire replaced and removed objects after 30 days",
    )
]


def test_made_once_and_left_alone_after(weed: SeaweedFS, witness: None) -> None:
    one = make(weed)
    assert short(vault.ensure(one, check=True)) == MADE
    assert OBJECTS not in [found["Name"] for found in weed.client.list_buckets()["Buckets"]]
    told: list[str] = []
    assert short(vault.ensure(one, warn=told.append)) == MADE
    assert vault.ensure(one) == vault.ensure(one, check=True) == []
    assert [line[:33] for line in told] == ["THE VAULT IS ON THIS VERY HOST (h"]
    assert rules(weed)[0]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rules(weed)[0]["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert rules(weed)[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    said = s3_servers.mc(weed, "version", "info", f"{ALIAS}/{OBJECTS}")[0]
    assert said["versioning"]["status"] == "Enabled"
    weed.client.put_object(Bucket=OBJECTS, Key="a", Body=b"1")
    assert vault.ensure(one) == []


REPAIRED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}, ["switch versioning on"]),
    ("delete_bucket_lifecycle", {}, ["expire replaced and removed objects after 30 days"]),
    ("delete_bucket_tagging", {}, ["mark it as that of shop/objects"]),
    (
        "put_bucket_lifecycle_configuration",
        {"LifecycleConfiguration": {"Rules": [
            {"ID": "lifeboat-shop", "Status": "Disabled", "Filter": {"Prefix": ""},
             "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}]}},
        ["expire replaced and removed objects after 30 days"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "arguments", "repaired"), REPAIRED)
def test_what_was_changed_behind_our_back_is_put_right(
    weed: SeaweedFS, call: str, arguments: dict[str, Any], repaired: list[str]
) -> None:
    one = make(weed, repository_bucket="")
    vault.ensure(one)
    assert vault.ensure(one) == []
    getattr(weed.client, call)(Bucket=OBJECTS, **arguments)
    expected = [f"{OBJECTS}: {what}" for what in repaired]
    assert short(vault.ensure(one, check=True)) == expected
    assert short(vault.ensure(one)) == expected
    assert vault.ensure(one) == []


def test_rules_and_tags_of_others_stay(weed: SeaweedFS) -> None:
    weed.client.create_bucket(Bucket=OBJECTS)
    weed.client.put_bucket_tagging(Bucket=OBJECTS, Tagging={"TagSet": [{"Key": "cost", "Value": "7"}]})
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"},
              "NoncurrentVersionExpiration": {"NoncurrentDays": 3}}  # fmt: skip
    weed.client.put_bucket_lifecycle_configuration(Bucket=OBJECTS, LifecycleConfiguration={"Rules": [theirs]})
    told: list[str] = []
    vault.ensure(make(weed, repository_bucket="", noncurrent_days=9), warn=told.append)
    assert {rule["ID"] for rule in rules(weed)} == {"theirs", "lifeboat-shop"}
    tags = {tag["Key"]: tag["Value"] for tag in weed.client.get_bucket_tagging(Bucket=OBJECTS)["TagSet"]}
    assert tags == {"cost": "7", "lifeboat": "shop/objects"}
    assert any("rule theirs removes old versions sooner than after 9 days" in line for line in told)
    assert short(vault.ensure(make(weed, repository_bucket="", noncurrent_days=40))) == [
        f"{OBJECTS}: expire replaced and removed objects after 40 days"
    ]


def test_a_rule_that_removes_what_is_live_is_refused(weed: SeaweedFS) -> None:
    weed.client.create_bucket(Bucket=OBJECTS)
    seeds = {"ID": "seed", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    weed.client.put_bucket_lifecycle_configuration(Bucket=OBJECTS, LifecycleConfiguration={"Rules": [seeds]})
    with pytest.raises(UsageError, match="lifecycle rule seed removes objects by age"):
        vault.ensure(make(weed, repository_bucket=""))
    assert [rule["ID"] for rule in rules(weed)] == ["seed"]


def test_foreign_objects_are_not_taken_over_unasked(weed: SeaweedFS) -> None:
    weed.client.create_bucket(Bucket=OBJECTS)
    weed.client.put_bucket_versioning(Bucket=OBJECTS, VersioningConfiguration=ENABLED)
    weed.client.put_object(Bucket=OBJECTS, Key="theirs", Body=b"1")
    weed.client.delete_object(Bucket=OBJECTS, Key="theirs")  # deleted, and still somebody's past
    one = make(weed, repository_bucket="")
    for check in (True, False):
        with pytest.raises(UsageError, match=r"holds objects and is not marked as ours.*adopt"):
            vault.ensure(one, check)
    with pytest.raises(ClientError):
        weed.client.get_bucket_tagging(Bucket=OBJECTS)
    assert f"{OBJECTS}: mark it as that of shop/objects" in short(vault.ensure(one, adopt=True))
    assert vault.ensure(one) == []


def behind(proxy: Proxy, one: Config) -> Config:
    return dataclasses.replace(one, vault=dataclasses.replace(one.vault, endpoint_url=proxy.url))


def test_a_server_that_answers_501_holds_copies_and_no_mirror(weed: SeaweedFS, tmp_path: Path) -> None:
    """Garage: PutBucketVersioning is not implemented (501)."""
    told: list[str] = []
    with faulty(weed, s3_quirks.garage) as proxy:
        one = behind(proxy, make(weed, objects_bucket=""))
        assert short(vault.ensure(one, warn=told.append)) == [f"{REPOSITORY}: make the bucket"]
        assert vault.ensure(one) == []
        said = [line.partition(": ")[2] for line in told if line.startswith(f"s3://{REPOSITORY}")]
        assert [line for line in said if line.startswith("the server has no versioning: anyone with the writer's key")]
        with pytest.raises(UsageError, match="the server has no versioning: the mirror could be gone back"):
            vault.ensure(behind(proxy, make(weed, repository_bucket="")))
        repo = S3Repository(
            REPOSITORY, endpoint_url=proxy.url, access_key=weed.access_key, secret_key=weed.secret_key,
            staging_root=tmp_path / "staging",
        )  # fmt: skip
        (tmp_path / "a").write_bytes(b"1")
        id, sums = "db_backup_20261124_020000", {"a": hashlib.sha256(b"1").hexdigest()}
        repo.receive("database", id, tmp_path, sums, b"{}")
        weed.client.put_object(Bucket=REPOSITORY, Key=f"{repo.folders['database']}/{id}/a", Body=b"2")
        assert repo.receive("database", id, tmp_path, sums, b"{}") == 1, "what was damaged is kept aside"
        assert repo.delete("database", id) == []
        assert repo.purge_hidden(datetime.now(timezone.utc)) == ([], [])


def test_a_rule_of_minios_own_that_shortens_the_history_is_told(weed: SeaweedFS) -> None:
    one = make(weed, repository_bucket="")
    vault.ensure(one)
    said = "its rule d removes an object with all its versions 1 days after it was deleted (DelMarkerExpiration)"
    with faulty(weed, edit=s3_quirks.minio_marker_rule) as proxy:
        told: list[str] = []
        assert vault.ensure(behind(proxy, one), warn=told.append) == []
        assert any(said in line for line in told), told
        call, arguments, _repaired = REPAIRED[-1]
        getattr(weed.client, call)(Bucket=OBJECTS, **arguments)
        (made,) = short(vault.ensure(behind(proxy, one)))
        assert made == f"{OBJECTS}: expire replaced and removed objects after 30 days"
        (put,) = [call for call in proxy.calls if call.method == "PUT"]
        assert b"<DelMarkerExpiration><Days>1</Days>" in put.body, "what the other rule does is written back"


@pytest.mark.parametrize("kind", ["mirror", "copies"])
def test_a_bucket_that_excepts_objects_from_versioning_is_refused(weed: SeaweedFS, kind: str) -> None:
    """MinIO's ExcludedPrefixes, ExcludeFolders: there version `null` is overwritten, and boto3 tells only Enabled."""
    one = make(weed, **{"repository_bucket" if kind == "mirror" else "objects_bucket": ""})
    vault.ensure(one)
    said = r"its versioning is Enabled except for tmp/, folders: what is overwritten.*mc version enable"
    with faulty(weed, edit=s3_quirks.minio_excludes) as proxy:
        for check in (True, False):
            with pytest.raises(UsageError, match=said):
                vault.ensure(behind(proxy, one), check)
    assert [call.path for call in proxy.calls if call.method == "PUT"] == []
    assert vault.ensure(one) == []


def test_another_stacks_bucket_is_refused_whatever_is_asked(weed: SeaweedFS) -> None:
    vault.ensure(make(weed, "blog"))
    for adopt in (True, False):
        with pytest.raises(UsageError, match="marked as that of blog/objects, this is shop/objects"):
            vault.ensure(make(weed), adopt=adopt)
    # Of the repository's bucket several stacks may have a part each.
    apart = make(weed, objects_bucket="", prefix="shop", noncurrent_days=5)
    assert short(vault.ensure(apart)) == [f"{REPOSITORY}: expire replaced and removed objects after 5 days"]
    assert vault.ensure(apart) == []
    assert {rule["ID"]: rule["Filter"]["Prefix"] for rule in rules(weed, REPOSITORY)} == {
        "lifeboat-blog": "", "lifeboat-shop": "shop/"
    }  # fmt: skip
    with pytest.raises(UsageError, match="marked as that of blog/repository"):
        vault.ensure(make(weed, objects_bucket=""))


def test_object_lock_is_chosen_when_the_bucket_is_made(weed: SeaweedFS) -> None:
    lock = {"objects_bucket": "locked-backup", "repository_bucket": "", "object_lock": "GOVERNANCE", "lock_days": 7}
    made = [
        "locked-backup: make the bucket, objects in it can be locked (GOVERNANCE)",
        "locked-backup: mark it as that of shop/objects",
        "locked-backup: lock every new object for 7 days in GOVERNANCE",
        "locked-backup: expire replaced and removed objects after 30 days",
    ]
    assert short(vault.ensure(make(weed, **lock), check=True)) == made
    assert short(vault.ensure(make(weed, **lock))) == made
    assert vault.ensure(make(weed, **lock)) == []
    version = weed.client.put_object(Bucket="locked-backup", Key="k", Body=b"1")["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        weed.client.delete_object(Bucket="locked-backup", Key="k", VersionId=version)
    assert short(vault.ensure(make(weed, **{**lock, "lock_days": 8}))) == [
        "locked-backup: lock every new object for 8 days in GOVERNANCE"
    ]
    with pytest.raises(UsageError, match="locks every object in mode GOVERNANCE, configured is COMPLIANCE"):
        vault.ensure(make(weed, **{**lock, "object_lock": "COMPLIANCE"}))
    with pytest.raises(UsageError, match="locks every object in mode GOVERNANCE, configured is no lock"):
        vault.ensure(make(weed, objects_bucket="locked-backup", repository_bucket=""))
    vault.ensure(make(weed))
    with pytest.raises(UsageError, match="chosen when a bucket is made"):
        vault.ensure(make(weed, **{**lock, "objects_bucket": OBJECTS}))


def test_a_server_without_versions_holds_copies_and_no_mirror(gateway: JuiceFS) -> None:
    with pytest.raises(UsageError, match="the server has no versioning"):
        vault.ensure(make(gateway, repository_bucket=""))
    assert OBJECTS not in [bucket["Name"] for bucket in gateway.client.list_buckets()["Buckets"]]
    told: list[str] = []
    copies = make(gateway, objects_bucket="")
    assert short(vault.ensure(copies, warn=told.append)) == [
        f"{REPOSITORY}: make the bucket",
        f"{REPOSITORY}: mark it as that of shop/repository",
    ]
    assert ["no versioning" in line or "knows no lifecycle rules" in line for line in told] == [True, True]
    assert vault.ensure(copies) == []
    gateway.client.create_bucket(Bucket=OBJECTS)
    for check in (True, False):
        with pytest.raises(UsageError, match="the server has no versioning"):
            vault.ensure(make(gateway, repository_bucket=""), check)


def test_its_own_bucket_is_no_vault(weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    one = make(weed, objects_bucket="uploads")
    same = config.from_mapping(
        {"stack": "shop", "runtime": {"project": "shop"},
         "objects": {"bucket": "uploads", "endpoint_url": weed.url},
         "vault": {"endpoint_url": weed.url, "objects_bucket": "uploads"}}, one.secrets,
    )  # fmt: skip
    with pytest.raises(UsageError, match="own bucket"):
        vault.ensure(same)


def test_the_writer_needs_the_administrator_once(weed: SeaweedFS) -> None:
    one = make(weed, keys=WRITER)
    with pytest.raises(UsageError, match=r"make the bucket.*access denied.*admin_access_key"):
        vault.ensure(one)
    assert short(vault.ensure(one, access_key=weed.access_key, secret_key=weed.secret_key)) == MADE
    assert vault.ensure(one) == []
    weed.client.delete_bucket_lifecycle(Bucket=OBJECTS)
    with pytest.raises(UsageError, match=r"expire replaced and removed.*admin_access_key") as caught:
        vault.ensure(one)
    assert weed.secret_key not in str(caught.value)


def writes(client: Any) -> None:
    """All that backups and restores do."""
    client.put_object(Bucket=OBJECTS, Key="a", Body=b"1", Tagging="a=b")
    client.put_object(Bucket=OBJECTS, Key="a", Body=b"2")
    client.put_object_tagging(Bucket=OBJECTS, Key="a", Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert client.get_object_tagging(Bucket=OBJECTS, Key="a")["TagSet"] == [{"Key": "c", "Value": "d"}]
    listed = client.list_object_versions(Bucket=OBJECTS)["Versions"]
    old = next(version["VersionId"] for version in listed if not version["IsLatest"])
    assert client.get_object(Bucket=OBJECTS, Key="a", VersionId=old)["Body"].read() == b"1"
    upload = client.create_multipart_upload(Bucket=OBJECTS, Key="parts")["UploadId"]
    client.upload_part(Bucket=OBJECTS, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    client.list_parts(Bucket=OBJECTS, Key="parts", UploadId=upload)
    assert client.list_multipart_uploads(Bucket=OBJECTS)["Uploads"]
    client.abort_multipart_upload(Bucket=OBJECTS, Key="parts", UploadId=upload)
    client.delete_object(Bucket=OBJECTS, Key="a")
    client.put_object(Bucket=REPOSITORY, Key="database/x/manifest.json", Body=b"{}")


RULE = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
OPEN = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::uploads-backup/*"]}]}'  # noqa: E501
DESTROYS: dict[str, dict[str, Any]] = {
    "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Suspended"}},
    "put_bucket_lifecycle_configuration": {"LifecycleConfiguration": {"Rules": [RULE]}},
    "delete_bucket_lifecycle": {},
    "put_bucket_policy": {"Policy": OPEN},
    "put_bucket_tagging": {"Tagging": {"TagSet": [{"Key": "x", "Value": "y"}]}},
    "put_object_lock_configuration": {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
    "delete_bucket": {},
}


def test_the_writer_can_write_and_cannot_destroy(weed: SeaweedFS) -> None:
    vault.ensure(make(weed))
    writer = weed.connect(WRITER["access_key"], WRITER["secret_key"])
    writes(writer)
    held = weed.client.list_object_versions(Bucket=OBJECTS)
    for version in [*held["Versions"], *held["DeleteMarkers"]]:
        with pytest.raises(ClientError, match="AccessDenied"):
            writer.delete_object(Bucket=OBJECTS, Key=version["Key"], VersionId=version["VersionId"])
    first = held["Versions"][0]
    batch = {"Objects": [{"Key": first["Key"], "VersionId": first["VersionId"]}]}
    assert [error["Code"] for error in writer.delete_objects(Bucket=OBJECTS, Delete=batch)["Errors"]] == [
        "AccessDenied"
    ]
    for call, arguments in DESTROYS.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(writer, call)(Bucket=OBJECTS, **arguments)
    for call in ("list_objects_v2", "delete_bucket", "create_bucket"):
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(writer, call)(Bucket="somebody-elses")
    assert len(weed.client.list_object_versions(Bucket=OBJECTS)["Versions"]) == len(held["Versions"])
    assert vault.ensure(make(weed)) == []


def test_the_writers_policy_suffices_for_mirrors_and_copies(
    weed: SeaweedFS, gateway: JuiceFS, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    uploads = make_bucket(gateway)
    one = dataclasses.replace(
        builders.make_config(
            tmp_path,
            objects={"bucket": uploads, "endpoint_url": gateway.url},
            vault={"endpoint_url": weed.url, "objects_bucket": OBJECTS, "repository_bucket": REPOSITORY},
        ),
        secrets={
            "objects_access_key": gateway.access_key, "objects_secret_key": gateway.secret_key,
            "vault_access_key": WRITER["access_key"], "vault_secret_key": WRITER["secret_key"],
        },
    )  # fmt: skip
    vault.ensure(one, access_key=weed.access_key, secret_key=weed.secret_key)
    for key in ("a", "b c", "d/e"):
        gateway.client.put_object(Bucket=uploads, Key=key, Body=b"1", Tagging="x=y")
    first = take.take(Opened(one), log=print)
    gateway.client.delete_object(Bucket=uploads, Key="a")
    gateway.client.put_object(Bucket=uploads, Key="b c", Body=b"two")
    second = take.take(Opened(one), log=print, override=True)
    assert [(done.details["objects"], done.details["unheld"]) for done in (first, second)] == [(3, []), (2, [])]
    held = weed.client.list_object_versions(Bucket=OBJECTS)
    assert sorted(found["Key"] for found in held["Versions"]) == ["a", "b c", "b c", "d/e"]

    settings = S3Settings(bucket=REPOSITORY, endpoint_url=weed.url, staging_root=str(tmp_path / "staging"))
    keys = {"s3_access_key": WRITER["access_key"], "s3_secret_key": WRITER["secret_key"]}
    repo = repositories.from_settings(settings, keys)
    repo.check(writable=True)
    with repo.stage("database", "db_backup_20261124_020000") as staging:
        (staging.path / "dump").write_bytes(b"1" * 1000)
        staging.publish(b"{}")
    assert repo.published("database") == ["db_backup_20261124_020000"]
    # A listing no longer shows it, but its versions stay; this is reported and is not an error.
    kept = repo.delete("database", "db_backup_20261124_020000")
    assert repo.published("database") == repo.ids("database") == []
    assert len(kept) == 2
    assert "the key may not delete it" in kept[0]


def test_what_seaweedfs_own_actions_do_not_hold_back(weed: SeaweedFS) -> None:
    """docs/vault.md says so: Write is more than writing. Where this fails the server has become stricter."""
    vault.ensure(make(weed))
    plain = weed.connect(PLAIN["access_key"], PLAIN["secret_key"])
    version = plain.put_object(Bucket=OBJECTS, Key="a", Body=b"1")["VersionId"]
    plain.delete_object(Bucket=OBJECTS, Key="a", VersionId=version)
    assert not weed.client.list_object_versions(Bucket=OBJECTS).get("Versions")
    plain.put_bucket_lifecycle_configuration(Bucket=OBJECTS, LifecycleConfiguration={"Rules": [RULE]})
    with pytest.raises(ClientError, match="AccessDenied"):
        plain.put_bucket_policy(Bucket=OBJECTS, Policy=OPEN)
    with pytest.raises(ClientError, match="AccessDenied"):
        plain.delete_bucket(Bucket=OBJECTS)
