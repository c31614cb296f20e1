# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention, legal hold and encryption of single objects: on record, given back or named. boto3 alone looks."""

from __future__ import annotations

import dataclasses
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import sides, take
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import refetch
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldProperties, ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from botocore.exceptions import ClientError
from s3_faults import Call, error, faulty
from s3_servers import SeaweedFS, running, seaweedfs
from test_recover import Case, bad, empty

MakeBucket = Callable[..., str]
HEADER = "x-amz-object-lock-retain-until-date"
UNTIL = (datetime.now(timezone.utc) + timedelta(days=3)).replace(microsecond=0)


class Encrypting(SeaweedFS):
    """With a key to encrypt with."""

    _kek = secrets.token_hex(32)

    def command(self) -> tuple[list[str], dict[str, str]]:
        argv, environment = super().command()
        return argv, {**environment, "WEED_S3_SSE_KEK": self._kek}


class Locked(Case):
    def put(self, key: str, mode: str = "", until: datetime = UNTIL, hold: bool = False) -> None:
        more: dict[str, Any] = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until} if mode else {}
        more |= {"ObjectLockLegalHoldStatus": "ON"} if hold else {}
        more |= {"Body": f"body of {key}".encode(), "ContentType": "text/plain"}
        self.client.put_object(Bucket=self.bucket, Key=key, **more)

    def locks(self) -> dict[str, tuple[str, Any, str]]:
        found = {}
        for key in [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket)["Contents"]]:
            head = self.client.head_object(Bucket=self.bucket, Key=key)
            hold = head.get("ObjectLockLegalHoldStatus", "OFF")
            found[key] = (head.get("ObjectLockMode", ""), head.get("ObjectLockRetainUntilDate"), hold)
        return found

    def details(self) -> ObjectsDetails:
        made = take.take(Opened(self.config), log=self.said.append)
        self.id, self.manifest = made.id, made
        return made.detailed(ObjectsDetails)

    def lines(self) -> dict[str, str]:
        point = Point(repositories.repository_of(Opened(self.config)), self.manifest)
        return {entry.key: entry.properties for entry in point.entries()}


def case_of(server: SeaweedFS, root: Path, weed: SeaweedFS, mirrored: str, patch: pytest.MonkeyPatch) -> Locked:
    patch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    server.client.create_bucket(Bucket="uploads", ObjectLockEnabledForBucket=True)
    made = Locked(root, server, "uploads", weed, mirrored, True)
    patch.setattr(runtime, "connect", lambda config: made.process)
    return made


@pytest.fixture
def case(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Locked]:
    with seaweedfs() as source:
        yield case_of(source, tmp_path, weed, make_bucket(weed), monkeypatch)


def wiped(case: Locked) -> None:
    case.process.stop(["objects"], timeout=1)
    empty(case.source.data)


def check(found: dict[str, Any], name: str) -> tuple[str, str]:
    return next((one["result"], one["detail"]) for one in found["checks"] if one["name"] == name)


def test_what_was_locked_is_locked_again(case: Locked) -> None:
    case.put("contract", "COMPLIANCE")
    case.put("invoice", "GOVERNANCE", hold=True)
    case.put("evidence", hold=True)
    case.put("note")
    case.put("old", "GOVERNANCE", datetime.now(timezone.utc) + timedelta(seconds=8))
    expected, held = case.locks(), case.portrait()
    details = case.details()
    assert details.primary.properties == HeldProperties(retained=3, legal_holds=2)
    assert (details.not_carried, details.primary.settings_denied) == ((), ())
    time.sleep(8)
    wiped(case)
    found = case.recover()
    assert bad(found) == []
    assert check(found, "object locks") == (
        "PASS", "3 objects are locked as on record; the retention of 1 others has ended"
    )  # fmt: skip
    assert (case.locks(), case.portrait()) == ({**expected, "old": ("", None, "OFF")}, held)
    assert "restore: the retention of 3 objects and the legal hold of 2 objects, where it still lasts" in found["steps"]
    version = case.client.head_object(Bucket="uploads", Key="contract")["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        case.client.delete_object(Bucket="uploads", Key="contract", VersionId=version, BypassGovernanceRetention=True)
    assert case.plan()["condition"] == "healthy"


def test_what_reconcile_fetches_is_locked_as_it_was(case: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    class Database:
        database = "shop"

        def stream(self, sql: str, take: Any, **_: Any) -> None:
            for key in ("contract", "evidence", "note"):
                take([key, None, None, None, True, None])

    def fetched() -> list[tuple[str, str, str]]:
        for key in ("contract", "evidence", "note"):
            case.client.delete_object(Bucket="uploads", Key=key)
        found = refetch.live(Opened(case.config), fetch=True, log=case.said.append)
        assert found.fetched == 3
        return [(one.name, one.result, one.detail) for one in found.checks if one.name.startswith("object locks")]

    monkeypatch.setattr(server, "connect", lambda config, stack: Database())
    objects = dataclasses.replace(case.config.objects, keys_query="SELECT key FROM f")
    case.config = dataclasses.replace(case.config, objects=objects)
    case.put("contract", "COMPLIANCE")
    case.put("evidence", hold=True)
    case.put("note")
    expected, held = case.locks(), case.portrait()
    case.details()
    assert fetched() == [("object locks", "PASS", "2 objects are locked as on record")]
    assert (case.locks(), case.portrait()) == (expected, held)
    shutil.rmtree(case.root / "backup" / "objects")
    words = "no backup tells whether 3 of the fetched objects were locked: contract, evidence, note"
    assert fetched() == [("object locks on record", "COULD_NOT_VERIFY", words)]


def test_a_lock_is_on_record_although_the_object_is_not_copied_again(case: Locked) -> None:
    for key in ("a", "b", "c"):
        case.put(key)
    first = case.details()
    assert (first.primary.copied, set(case.lines().values())) == (3, {""})
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": UNTIL}
    case.client.put_object_retention(Bucket="uploads", Key="a", Retention=retention)
    case.client.put_object_legal_hold(Bucket="uploads", Key="b", LegalHold={"Status": "ON"})
    case.details()
    assert case.lines() == {"a": f"mode=GOVERNANCE&until={UNTIL:%Y-%m-%dT%H%%3A%M%%3A%SZ}", "b": "hold=1", "c": ""}
    case.client.put_object_legal_hold(Bucket="uploads", Key="b", LegalHold={"Status": "OFF"})
    case.details()
    assert case.lines()["b"] == ""


def test_a_hold_that_was_taken_off_is_set_again_with_the_rest(case: Locked) -> None:
    """SeaweedFS forgets the Content-Type where a hold changes: it is seen as damage, and the object copied with it."""
    case.put("a", hold=True)
    case.put("b", "GOVERNANCE")
    case.put("c")
    case.details()
    longer = UNTIL + timedelta(days=1)
    case.put("b", "GOVERNANCE", longer)
    case.details()

    case.client.delete_object(Bucket="uploads", Key="c")
    found = case.recover(identity=case.id)
    assert check(found, "object locks") == ("PASS", "2 objects are locked as on record")
    assert case.locks() == {"a": ("", None, "ON"), "b": ("GOVERNANCE", longer, "OFF"), "c": ("", None, "OFF")}
    case.client.put_object_legal_hold(Bucket="uploads", Key="a", LegalHold={"Status": "OFF"})
    case.client.delete_object(Bucket="uploads", Key="c")
    found = case.recover(identity=case.id)
    assert check(found, "object locks")[0] == "PASS"
    assert case.locks()["a"] == ("", None, "ON")


def through(case: Locked, url: str) -> None:
    case.config = dataclasses.replace(case.config, objects=dataclasses.replace(case.config.objects, endpoint_url=url))


def test_a_key_that_may_not_see_locks_is_named(case: Locked) -> None:
    """Such a server tells it of no lock at all."""
    case.put("a", hold=True)

    def blind(call: Call) -> Any:
        return error(403, "AccessDenied") if {"retention", "legal-hold"} & set(call.query) else None

    with faulty(case.source, blind) as proxy:
        through(case, proxy.url)
        assert case.details().primary.settings_denied == ("object retention", "object legal hold")
        seen = endpoints.permissions(Opened(case.config))
        assert "the key may not s3:GetObjectRetention, s3:GetObjectLegalHold" in seen.detail
        planned = case.plan(force=True)
        unknown = planned["unchecked"]
        lacks = "the key may not s3:GetObjectRetention, s3:GetObjectLegalHold, which every backup needs"
        assert any(line.startswith(lacks) for line in planned["warnings"]), planned["warnings"]
    assert "the bucket's object retention: the key may not read it" in unknown


def test_a_lock_that_the_server_refuses_is_no_pass(case: Locked) -> None:
    case.put("a", "GOVERNANCE")
    case.put("b")
    case.details()
    wiped(case)

    def refuse(call: Call) -> Any:
        locks = "retention" in call.query or "x-amz-object-lock-mode" in call.headers
        return error(400, "InvalidRequest") if call.method == "PUT" and locks else None

    with faulty(case.source, refuse) as proxy:
        through(case, proxy.url)
        found = case.recover()
    result, words = check(found, "object locks")
    assert (result, words.startswith("1 of 1 objects are not locked as on record: 'a': its retention is not set")) == (
        "FAIL", True,
    )  # fmt: skip
    assert sorted(case.locks()) == ["a", "b"], "it stopped no object"


class _Fractions:
    """A server that keeps milliseconds of the end of a retention, as MinIO does (SeaweedFS keeps seconds), or refuses
    them. `given`: what it was written with."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps, self.ends, self.given = keeps, dict[str, str](), list[str]()

    def fault(self, call: Call) -> Any:
        found = re.search(r"<RetainUntilDate>(.*?)<", call.body.decode(errors="replace"))
        until = found[1] if found and "retention" in call.query else call.headers.get(HEADER, "")
        if call.method != "PUT" or not until:
            return None
        self.given.append(until)
        if "." in until and not self.keeps:
            return error(400, "InvalidRequest")
        self.ends[call.key] = until
        return None

    def headers(self, call: Call, answered: dict[str, str]) -> dict[str, str]:
        return {**answered, HEADER: self.ends[call.key]} if HEADER in answered and call.key in self.ends else answered


def test_a_lock_ends_at_the_fraction_of_a_second_that_the_server_kept(case: Locked) -> None:
    case.put("a", "GOVERNANCE")
    exact = UNTIL + timedelta(milliseconds=250)
    line = f"mode=GOVERNANCE&until={exact:%Y-%m-%dT%H%%3A%M%%3A%S}.250Z"
    server = _Fractions(keeps=True)
    server.ends["a"] = f"{exact:%Y-%m-%dT%H:%M:%S}.250Z"
    with faulty(case.source, server.fault) as proxy:
        proxy.edit_headers = server.headers
        through(case, proxy.url)
        case.details()
        assert case.lines() == {"a": line}
        wiped(case)
        server.ends.clear()
        found = case.recover()
        assert check(found, "object locks") == ("PASS", "1 objects are locked as on record")
    assert server.given == [f"{exact:%Y-%m-%dT%H:%M:%S}.250Z"]


@pytest.mark.parametrize("server", ["cuts", "refuses", "SeaweedFS"])
def test_a_lock_is_not_shorter_where_the_server_keeps_no_fractions(case: Locked, server: str) -> None:
    """The whole second after it is set, and nothing is wrong. SeaweedFS is given that first; that it forgets the
    Content-Type where a lock is set later is hidden for the others."""
    case.client.put_object(
        Bucket="uploads", Key="a", Body=b"a", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=UNTIL
    )
    exact = UNTIL + timedelta(milliseconds=250)
    source, target = _Fractions(keeps=True), _Fractions(keeps=server != "refuses")
    source.ends["a"] = f"{exact:%Y-%m-%dT%H:%M:%S}.250Z"
    with faulty(case.source, source.fault) as proxy:
        proxy.edit_headers, proxy.without = source.headers, ("content-type",)
        through(case, proxy.url)
        case.details()
    wiped(case)
    with faulty(case.source, target.fault, calls_itself="SeaweedFS" if server == "SeaweedFS" else "") as proxy:
        proxy.without = ("content-type",)
        through(case, proxy.url)
        found = case.recover()
    again = "" if server == "SeaweedFS" else ", 1 of them since they were there"
    assert check(found, "object locks") == ("PASS", f"1 objects are locked as on record{again}")
    assert case.locks() == {"a": ("GOVERNANCE", UNTIL + timedelta(seconds=1), "OFF")}
    assert len(target.given) == (1 if server == "SeaweedFS" else 3)


def test_what_is_encrypted_is_named_and_encrypted_again(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Encrypting) as server:
        case = case_of(server, tmp_path, weed, make_bucket(weed), monkeypatch)
        case.client.put_bucket_encryption(
            Bucket="uploads", ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
        )  # fmt: skip
        case.put("secret")
        case.put("plain")
        details = case.details()
        assert details.primary.properties == HeldProperties({"AES256": 2}, 2)
        line = "NOT carried: the encryption of 2 objects (AES256) of uploads: the vault holds the plain bytes of 2"
        assert any(said.startswith(line) for said in case.said), case.said
        assert case.vault.client.get_object(Bucket=case.mirrored, Key="secret")["Body"].read() == b"body of secret"
        assert case.details().primary.properties == details.primary.properties, (
            "on record although it is not copied again"
        )
        wiped(case)
        found = case.recover()
        assert bad(found) == []
        assert check(found, "object encryption") == ("PASS", "all 2 objects that were encrypted are as they were")
        assert case.client.head_object(Bucket="uploads", Key="secret")["ServerSideEncryption"] == "AES256"
        (gap,) = found["untested"]
        assert gap["what"] == "the encryption of 2 objects (AES256) of uploads"


def test_storage_classes_and_checksums_are_counted(case: Locked) -> None:
    case.put("a")
    case.put("b")

    def classes(call: Call, body: bytes) -> bytes:
        return body.replace(b"<StorageClass>STANDARD<", b"<StorageClass>COLD<")

    case.client.put_object(Bucket="uploads", Key="c", Body=b"c", ChecksumAlgorithm="SHA256")
    with faulty(case.source, edit=classes) as proxy:
        through(case, proxy.url)
        found = case.details().primary.properties
    assert found and found.storage == {"COLD": 3}
    assert found.checksums in ({"SHA256": 1}, {}), "where the server keeps it"


@pytest.mark.parametrize("few", [True, False], ids=["each is looked at", "the first with each header is looked at"])
def test_headers_that_the_vault_does_not_keep_are_named(
    case: Locked, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    """When they are copied, and as long as the copies are in use; it costs no backup, and a recovery gives them."""
    if not few:
        monkeypatch.setattr(sides, "_FEWEST", 0)
    for key in "abcde":
        case.client.put_object(
            Bucket="uploads", Key=key, Body=key.encode(), CacheControl="no-store", ContentLanguage="is",
            Metadata={"own": key} if key in "ab" else {},
        )  # fmt: skip
    with faulty(case.vault) as proxy:
        proxy.without = ("cache-control", "x-amz-meta-own")
        config, url = case.config, proxy.url
        case.config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=url))
        details = case.details()
        looked = [call for call in proxy.calls if call.method == "HEAD" and call.key in {*"abcde"}]
        # Of many the first with each header: those of one with metadata, or first of one without and then of one with.
        assert len(looked) == 5 if few else len(looked) in (1, 2)
        wanted = {"cache-control": 5, "user metadata": 2}
        assert details.primary.properties == HeldProperties(lost=wanted)
        (line,) = [said for said in case.said if "NOT carried" in said]
        assert (
            "headers in the vault's copies of 5 objects (cache-control), 2 objects (user metadata) of uploads" in line
        )
        case.put("f")
        again = case.details()
        assert (again.primary.copied, again.primary.properties) == (1, HeldProperties(lost=wanted)), (
            "on record of what is not copied"
        )
        case.config = config
    wiped(case)
    found = case.recover()
    assert bad(found) == []
    assert case.client.head_object(Bucket="uploads", Key="a")["Metadata"] == {"own": "a"}
    assert case.client.head_object(Bucket="uploads", Key="a")["CacheControl"] == "no-store"
    (gap,) = found["untested"]
    assert gap["why"] == "the vault does not keep them; a recovery gives them from the backup's listing alone"
