# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe tells two real servers apart, and leaves them as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints, probe
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.probe import MISSING, SUPPORTED, UNKNOWN
from conftest import BUCKETS, WRITER, MakeBucket
from s3_faults import Call, Reply, error, faulty
from s3_servers import JuiceFS, SeaweedFS, Server
from test_mirror import World

ALL = {
    "versioning", "times", "etags", "dates", "lifecycle", "object_lock", "tagging", "metadata", "multipart",
    "conditions",
}  # fmt: skip


def of(server: Server, name: str = "nothing-there") -> Bucket:
    return Bucket(name, server.url, access_key=server.access_key, secret_key=server.secret_key)


def names(server: Server) -> set[str]:
    return {bucket["Name"] for bucket in server.client.list_buckets()["Buckets"]}


def states(report: probe.Report) -> dict[str, set[str]]:
    return {state: set(report.those(state)) for state in (SUPPORTED, MISSING, UNKNOWN)}


@pytest.mark.parametrize("mode", ["", "COMPLIANCE"])
def test_seaweedfs_has_all(
    weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(probe, "LOCKED", 2)
    kept = make_bucket(weed)
    weed.client.put_object(Bucket=kept, Key="mine", Body=b"untouched")
    before = names(weed)
    report = probe.probe(of(weed, kept), mode=mode)
    assert states(report) == {SUPPORTED: ALL, MISSING: set(), UNKNOWN: set()}
    assert (mode or "GOVERNANCE") in report.features["object_lock"].detail
    assert (report.skew, report.left, report.those(MISSING)) == (0.0, (), [])
    assert "SeaweedFS" in report.server
    assert names(weed) == before
    assert [content["Key"] for content in weed.client.list_objects_v2(Bucket=kept)["Contents"]] == ["mine"]
    assert weed.client.get_bucket_versioning(Bucket=kept).get("Status") is None


def test_juicefs_lacks_versions_lifecycle_and_lock(gateway: JuiceFS) -> None:
    before = names(gateway)
    report = probe.probe(of(gateway))
    lacks = gateway.lacks
    assert states(report) == {SUPPORTED: ALL - lacks, MISSING: lacks, UNKNOWN: set()}
    assert {name: bool(feature.cost) for name, feature in report.features.items()} == {
        name: name in lacks for name in ALL
    }
    assert "NotImplemented" in report.features["versioning"].detail
    assert names(gateway) == before
    shown = typed.plain(report, nulls=True)
    again = typed.build(probe.Report, shown, lambda *why: UsageError("read it", *why))
    assert typed.plain(again, nulls=True) == shown


def test_a_server_lacks_what_it_is_known_to_lack(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LOCKED", 2)
    assert states(probe.probe(of(server))) == {SUPPORTED: ALL - server.lacks, MISSING: server.lacks, UNKNOWN: set()}


def test_what_a_dead_probe_left_is_removed_and_nothing_else(weed: SeaweedFS) -> None:
    now = datetime.now(timezone.utc)
    old, young = f"{now - timedelta(hours=2):%Y%m%d%H%M%S}", f"{now - timedelta(minutes=2):%Y%m%d%H%M%S}"
    dead, busy, foreign = f"lifeboat-probe-{old}-0a0b0c0d", f"lifeboat-probe-{young}-0a0b0c0d", "lifeboat-probe-of-mine"
    used = f"lifeboat-probe-{old}-11111111"
    for name in (dead, busy, foreign, used):
        weed.client.create_bucket(Bucket=name)
    for name in (dead, used):
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        weed.client.put_object(Bucket=name, Key="versioned", Body=b"1")
        weed.client.delete_object(Bucket=name, Key="versioned")
    weed.client.put_object(Bucket=used, Key="somebody's", Body=b"kept")
    try:
        report = probe.probe(of(weed), now=now)
        assert {dead, busy, foreign, used} & names(weed) == {busy, foreign, used}
        assert [line.split()[0] for line in report.left] == [f"s3://{used}"]
        assert weed.client.get_object(Bucket=used, Key="somebody's")["Body"].read() == b"kept"
    finally:
        for name in {busy, foreign, used} & names(weed):
            s3_servers.wipe(weed.client, name)


def test_a_key_that_may_not_make_buckets_leaves_all_unknown(weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    others = make_bucket(weed)
    make_bucket(weed, BUCKETS[0])
    key = {"access_key": WRITER["access_key"], "secret_key": WRITER["secret_key"]}
    told = probe.probe(Bucket(BUCKETS[0], weed.url, **key)).features["versioning"].detail
    assert "bucket uploads-backup says versioning: none" in told
    weed.client.put_bucket_versioning(Bucket=BUCKETS[0], VersioningConfiguration={"Status": "Enabled"})
    report = probe.probe(Bucket(BUCKETS[0], weed.url, **key))
    assert states(report) == {SUPPORTED: set(), MISSING: set(), UNKNOWN: ALL}
    for words in ("may not make a bucket", "AccessDenied", "bucket uploads-backup says versioning: Enabled"):
        assert words in report.features["versioning"].detail
    with pytest.raises(UsageError, match=r"refuses this key everything.*AccessDenied"):
        probe.probe(Bucket(others, weed.url, **key))


def test_a_key_that_may_do_all_lacks_no_right_for_a_recovery(server: Server) -> None:
    """A setting that a server does not know, or does not take as it is tried, is refused for another reason."""
    key = {"access_key": server.access_key, "secret_key": server.secret_key}
    assert probe.probe(Bucket("x", server.url, **key), rights=True).denied == {}


def test_a_key_that_may_not_make_buckets_lacks_what_a_recovery_needs(weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    make_bucket(weed, BUCKETS[0])
    key = {"access_key": WRITER["access_key"], "secret_key": WRITER["secret_key"]}
    denied = probe.probe(Bucket(BUCKETS[0], weed.url, **key), rights=True).denied
    assert denied is not None and list(denied) == ["s3:CreateBucket"]


@pytest.mark.parametrize(("access_key", "secret_key"), [("nobody", "x"), ("", "wrong")])
def test_a_wrong_key_is_an_error_and_tells_no_secret(server: Server, access_key: str, secret_key: str) -> None:
    wrong = Bucket("x", server.url, access_key=access_key or server.access_key, secret_key=secret_key)
    with pytest.raises(UsageError, match="the endpoint refuses the key") as caught:
        probe.probe(wrong)
    assert server.secret_key not in str(caught.value)
    assert "lifeboat_secrets" in caught.value.remedy


ALL_BUT: list[tuple[str, str]] = [
    ("s3:ListBucketVersions", "versions="), ("s3:GetBucketVersioning", "versioning="),
    ("s3:GetBucketPolicy", "policy="), ("s3:GetObjectVersionTagging", "tagging="),
]  # fmt: skip


@pytest.mark.parametrize(("action", "asked"), ALL_BUT)
def test_each_permission_that_a_backup_needs_is_tried(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, action: str, asked: str
) -> None:
    names = (make_bucket(weed), make_bucket(weed))
    weed.client.put_bucket_versioning(Bucket=names[0], VersioningConfiguration={"Status": "Enabled"})
    world = World(tmp_path, weed, weed, names)
    seen = endpoints.permissions(Opened(world.config))
    assert (seen.result, "there is no object to read" in seen.detail) == ("COULD_NOT_VERIFY", True), (
        "not tried is no PASS"
    )
    world.put("a", b"a")
    assert endpoints.permissions(Opened(world.config)).result == "PASS"

    def refused(call: Call) -> Reply | None:
        meant = asked in call.path and bool(call.key) is ("Object" in action)
        return error(403, "AccessDenied") if meant else None

    with faulty(weed, refused) as proxy:
        objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
        seen = endpoints.permissions(Opened(dataclasses.replace(world.config, objects=objects)))
        assert {call.method for call in proxy.calls} <= {"GET", "HEAD"}, "nothing is written"
        status = endpoints.rights(Opened(dataclasses.replace(world.config, objects=objects)))
    assert (seen.result, seen.detail) == ("FAIL", f"the key may not {action}: see docs/mirror.md")
    assert status == [seen], "status says it, too"


def test_status_says_that_a_store_cannot_decrypt_what_it_holds(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    """MinIO with another MINIO_KMS_SECRET_KEY: it lists everything, and reads nothing."""
    names = (make_bucket(weed), make_bucket(weed))
    world = World(tmp_path, weed, weed, names)
    now = datetime.now(timezone.utc)

    def looked(answer: Callable[[Call], Reply | None]) -> dict[str, Check]:
        with faulty(weed, answer) as proxy:
            objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
            run = Opened(dataclasses.replace(world.config, objects=objects))
            return {check.name: check for check in endpoints.checks(run, now=now)}

    fine: Callable[[Call], Reply | None] = lambda call: None  # noqa: E731
    told = looked(fine)["source permissions"]
    assert (told.result, told.detail) == ("PASS", "the key may do what was tried; there is no object to read")
    world.put("a", b"a")
    assert looked(fine)["source permissions"].result == "PASS"
    kms = error(400, "kms:InvalidCiphertextException")
    told = looked(lambda call: kms if call.method == "GET" and call.key == "a" and not call.query else None)[
        "source permissions"
    ]
    assert (told.result, "the server cannot decrypt what it holds" in told.detail) == ("FAIL", True), told
    assert "MINIO_KMS_SECRET_KEY" in told.detail
    busy = error(500, "InternalError")
    told = looked(lambda call: busy if call.method == "GET" and call.key == "a" else None)["source permissions"]
    assert told.result == "COULD_NOT_VERIFY", told
