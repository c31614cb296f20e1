# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies in a real vault: resumed, refused, and really gone from a bucket with versions, as far as a lock lets them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.client import connect, purge
from s3_faults import Call, Reply, faulty
from s3_servers import SeaweedFS, Server

MakeBucket = Callable[[Server], str]

ID = "db_backup_20261124_020000"
FILES = {"globals.sql": b"roles", "database.dump/toc.dat": b"toc" * 1000, "empty": b""}
OTHER = "db_backup_20261125_020000"
SUMS = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backup's artefacts, as they lie in a local repository."""
    path = tmp_path / "backup"
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def repository(server: Server, bucket: str, tmp_path: Path, **keys: str) -> S3Repository:
    return S3Repository(
        bucket,
        prefix="shop",
        endpoint_url=server.url,
        access_key=keys.get("access_key", server.access_key),
        secret_key=keys.get("secret_key", server.secret_key),
        staging_root=tmp_path / "staging",
    )


def names(server: Server, bucket: str) -> list[str]:
    return sorted(content["Key"] for content in server.client.list_objects_v2(Bucket=bucket).get("Contents", ()))


def versions(server: Server, bucket: str) -> list[str]:
    answer = server.client.list_object_versions(Bucket=bucket)
    return sorted(version["Key"] for kind in ("Versions", "DeleteMarkers") for version in answer.get(kind, ()))


def test_a_copy_is_whole_and_made_once(
    server: Server, make_bucket: MakeBucket, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = repository(server, make_bucket(server), tmp_path)
    assert repo.receive("database", ID, folder, SUMS, b"{}") == sum(map(len, FILES.values()))
    assert repo.files("database", ID) == {name: len(data) for name, data in FILES.items()}
    assert repo.manifest("database", ID) == b"{}"
    with repo.materialise("database", ID) as path:
        assert {name: (path / name).read_bytes() for name in FILES} == FILES
    monkeypatch.setattr(repo, "_send", None)
    assert repo.receive("database", ID, folder, SUMS, b"{}") == 0
    with pytest.raises(IntegrityError, match=r"another backup of that id is there.*lifeboat_vault\.prefix"):
        repo.receive("database", ID, folder, SUMS, b"{ }")


def test_a_killed_copy_is_gone_on_with(
    server: Server, make_bucket: MakeBucket, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the manifest, with one artefact missing, one wrong and one that does not belong there."""
    repo = repository(server, make_bucket(server), tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    key = f"shop/postgresql/{ID}"
    repo._drop(f"{key}/manifest.json")
    repo._drop(f"{key}/empty")
    server.client.put_object(Bucket=repo.bucket, Key=f"{key}/globals.sql", Body=b"rolez")
    server.client.put_object(Bucket=repo.bucket, Key=f"{key}/stray", Body=b"x")
    assert repo.published("database") == []
    sent: list[str] = []
    real = repo._send
    monkeypatch.setattr(repo, "_send", lambda path, key, facts: (sent.append(path.name), real(path, key, facts)))
    assert repo.receive("database", ID, folder, SUMS, b"{}") == 5
    assert sorted(sent) == ["empty", "globals.sql"]
    assert repo.published("database") == [ID]
    assert repo.files("database", ID) == {name: len(data) for name, data in FILES.items()}


def test_damage_is_not_copied(server: Server, make_bucket: MakeBucket, tmp_path: Path, folder: Path) -> None:
    repo = repository(server, make_bucket(server), tmp_path)
    (folder / "globals.sql").write_bytes(b"rolez")
    with pytest.raises(IntegrityError, match="another SHA-256 than when it was written"):
        repo.receive("database", ID, folder, SUMS, b"{}")
    assert repo.published("database") == []


@pytest.mark.parametrize("versioned", [True, False])
def test_what_was_replaced_is_sent_again_and_kept(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, folder: Path, versioned: bool
) -> None:
    bucket = make_bucket(weed)
    if versioned:
        weed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    repo = repository(weed, bucket, tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    repo.write_point("20261124_030000", b"{}")
    before = (repo.marks("database", ID)["manifest.json"], repo.point_marks())
    manifest, point = f"shop/postgresql/{ID}/manifest.json", "shop/recovery-points/20261124_030000.json"
    for key in (manifest, point):
        weed.client.put_object(Bucket=bucket, Key=key, Body=b"[]")
    assert repo.marks("database", ID)["manifest.json"] != before[0]
    assert repo.point_marks() != before[1]
    with pytest.raises(IntegrityError, match="another backup of that id is there"):
        repo.receive("database", ID, folder, SUMS, b"{}")
    assert repo.receive("database", ID, folder, SUMS, b"{}", ours=True) == 2
    repo.replace_point("20261124_030000", b"{}")
    assert (repo.manifest("database", ID), repo.read_point("20261124_030000")) == (b"{}", b"{}")
    assert (repo.marks("database", ID)["manifest.json"], repo.point_marks()) == before
    if versioned:
        assert (versions(weed, bucket).count(manifest), versions(weed, bucket).count(point)) == (3, 3)
    else:
        aside = [key for key in names(weed, bucket) if key.startswith("shop/damaged/")]
        assert sorted(key.split("/", 3)[3] for key in aside) == [key.split("/", 1)[1] for key in (manifest, point)]


def test_deleted_is_gone_with_all_versions(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, folder: Path
) -> None:
    bucket = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    repo = repository(weed, bucket, tmp_path)
    other = ID.replace("24", "25")
    for identity in (ID, other):
        repo.receive("database", identity, folder, SUMS, b"{}")
        for text in (b"1", b"2"):
            repo.write_record("database", identity, "verification.json", text)
    repo.write_point("20261124_030000", b"{}")
    assert repo.delete("database", ID) == []
    assert repo.delete_point("20261124_030000") == []
    assert {key.split("/")[2] for key in versions(weed, bucket)} == {other}
    assert repo.published("database") == [other]
    with repo.materialise("database", other) as path:
        assert (path / "globals.sql").read_bytes() == b"roles"


def test_deleted_is_gone_where_nothing_is_versioned(
    server: Server, make_bucket: MakeBucket, tmp_path: Path, folder: Path
) -> None:
    bucket = make_bucket(server)
    repo = repository(server, bucket, tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    assert repo.delete("database", ID) == []
    assert names(server, bucket) == []


def test_a_locked_version_stays_and_is_reported(weed: SeaweedFS, tmp_path: Path, folder: Path) -> None:
    bucket = f"locked-{secrets.token_hex(4)}"
    weed.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    weed.client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    repo = repository(weed, bucket, tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    kept = repo.delete("database", ID)
    assert [line.partition(": ")[0].rpartition("/")[2] for line in kept] == [
        "toc.dat", "empty", "globals.sql", "manifest.json",
    ]  # fmt: skip
    assert all("locked until 20" in line and "(COMPLIANCE)" in line for line in kept), kept
    assert repo.ids("database") == repo.published("database") == [], "unpublished all the same"
    assert len([key for key in versions(weed, bucket) if key.endswith("globals.sql")]) == 2, "the version, hidden"


def test_a_writer_that_may_not_delete_versions(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault's least privilege: deleted backups are hidden, the bucket's own lifecycle expires them."""
    bucket = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    repo = repository(weed, bucket, tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    real = repo.client.delete_object

    def refuse(**more: Any) -> Any:
        if "VersionId" not in more:
            return real(**more)
        from botocore.exceptions import ClientError

        answer = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "DeleteObject")

    monkeypatch.setattr(repo.client, "delete_object", refuse)
    kept = repo.delete("database", ID)
    assert len(kept) == 4
    assert all("the key may not delete it (AccessDenied)" in line for line in kept), kept
    assert repo.ids("database") == []
    monkeypatch.undo()
    # Another run, with a key that may, finds what is hidden; and nothing else.
    repo.check(writable=True)
    foreign = [f"shop/postgresql/{ID}-mine/x", "shop/.check-mine", "shop/recovery-points/20261124_033000.json.bak", "x"]
    for key in foreign:
        weed.client.put_object(Bucket=bucket, Key=key, Body=b"x")
        weed.client.delete_object(Bucket=bucket, Key=key)
    repo.receive("database", OTHER, folder, SUMS, b"{}")
    repo.write_point("20261124_033000", b"{}")
    repo._drop("shop/recovery-points/20261124_033000.json")
    now = datetime.now(timezone.utc)
    assert repo.purge_hidden(now - timedelta(days=1)) == ([], []), "an intruder may have hidden it: it stays a while"
    gone, kept = repo.purge_hidden(now + timedelta(seconds=2), dry_run=True)
    there = versions(weed, bucket)
    assert (len(gone), kept) == (3, []) and f"s3://{bucket}/shop/postgresql/{ID}/" in gone
    assert repo.purge_hidden(now + timedelta(seconds=2)) == (gone, [])
    left = [key for key in there if f"/{ID}/" in key or ".check-" in key or key.endswith("_033000.json")]
    assert sorted([*versions(weed, bucket), *left]) == sorted([*there, "shop/.check-mine", "shop/.check-mine"])
    assert repo.published("database") == [OTHER]


@pytest.mark.parametrize("which", ["versions", "markers"])
@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("InvalidRequest", 400)])
def test_a_refused_deletion_is_no_failure_and_locked_only_by_a_lock(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, folder: Path, code: str, status: int, which: str
) -> None:
    """MinIO answers InvalidRequest to who deletes a locked version; so does who refuses it for another reason."""
    bucket = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    repo = repository(weed, bucket, tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    key = f"shop/postgresql/{ID}/manifest.json"
    markers: set[str] = set()

    def fault(call: Call) -> Reply | None:
        version = call.query.get("versionId", "")
        if call.method == "DELETE" and call.key == key and version and (version in markers) == (which == "markers"):
            return Reply(status, f"<Error><Code>{code}</Code><Message>WORM protected</Message></Error>")
        return None

    with faulty(weed, fault) as proxy:
        repo._drop(key)
        found = weed.client.list_object_versions(Bucket=bucket, Prefix=key)
        markers |= {item["VersionId"] for item in found["DeleteMarkers"]}
        (line,) = purge(connect(proxy.url, "", weed.access_key, weed.secret_key), bucket, key)
    assert line == f"s3://{bucket}/{key}: the key may not delete it ({code})"


def test_sweeping_leaves_a_copy_that_can_be_gone_on_with(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, folder: Path
) -> None:
    repo = repository(weed, make_bucket(weed), tmp_path)
    repo.receive("database", ID, folder, SUMS, b"{}")
    repo._drop(f"shop/postgresql/{ID}/manifest.json")
    now = datetime.now(timezone.utc)
    assert repo.sweep(timedelta(hours=24), now) == []
    assert len(repo.sweep(timedelta(hours=24), now + timedelta(days=2))) == 1
