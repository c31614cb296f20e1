# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bucket is told beside its objects, lost with it and given back, on real servers. boto3 looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import lifecycle
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from botocore.exceptions import ClientError
from s3_servers import JuiceFS, SeaweedFS, Server, wipe
from test_recover import Case, bad

MakeBucket = Callable[..., str]
LOCK = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 2}}}
CORS = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://shop.example"]}]}
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::NAME/*"]}]}'  # noqa: E501
# With an element of MinIO's that boto3 does not know.
RULES = b"""<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>theirs</ID>\
<Status>Enabled</Status><Filter><Prefix>tmp/</Prefix></Filter><Expiration><Days>90</Days></Expiration>\
<DelMarkerExpiration><Days>1</Days></DelMarkerExpiration></Rule></LifecycleConfiguration>"""
OWN = "<DelMarkerExpiration><Days>1</Days></DelMarkerExpiration>"


def of(server: Server, name: str) -> Bucket:
    return Bucket(name, server.url, access_key=server.access_key, secret_key=server.secret_key)


def rules(server: Server, name: str) -> str:
    return of(server, name).ask("GET", query={"lifecycle": ""}, attempted="look").body.decode()


class Locked(Case):
    """Its bucket was made with object lock."""

    def settle(self) -> None:
        client, name = self.client, self.bucket
        client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=LOCK)
        client.put_bucket_cors(Bucket=name, CORSConfiguration=CORS)
        client.put_bucket_policy(Bucket=name, Policy=POLICY.replace("NAME", name))
        client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "team", "Value": "shop"}]})
        of(self.source, name).set("lifecycle", RULES, "set theirs")

    def look(self) -> dict[str, Any]:
        client, name = self.client, self.bucket
        return {
            "lock": client.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"],
            "versioning": client.get_bucket_versioning(Bucket=name)["Status"],
            "cors": client.get_bucket_cors(Bucket=name)["CORSRules"],
            "policy": client.get_bucket_policy(Bucket=name)["Policy"],
            "tags": client.get_bucket_tagging(Bucket=name)["TagSet"],
            "rules": rules(self.source, name),
        }

    def lose(self) -> None:
        for version in self.client.list_object_versions(Bucket=self.bucket).get("Versions", ()):
            self.client.delete_object(
                Bucket=self.bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
            )
        wipe(self.client, self.bucket)


@pytest.fixture
def case(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch) -> Locked:
    monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    bucket = make_bucket(weed)
    wipe(weed.client, bucket)
    weed.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    made = Locked(tmp_path, weed, bucket, weed, make_bucket(weed), False)
    monkeypatch.setattr(runtime, "connect", lambda config: made.process)
    made.fill()
    return made


def test_a_locked_bucket_comes_back_locked_with_all_its_settings(case: Locked) -> None:
    case.settle()
    expected, held = case.look(), case.backup()
    assert (expected["lock"], OWN in expected["rules"]) == (LOCK, True)
    case.lose()
    found = case.recover()
    assert bad(found) == []
    assert (case.look(), case.portrait()) == (expected, held)
    names = {check["name"] for check in found["checks"] if check["name"].startswith("bucket ")}
    assert names >= {f"bucket {name}" for name in ("object lock", "lifecycle", "cors", "policy", "tags", "versioning")}
    again = case.plan()
    assert (again["needed"], again["condition"]) == (False, "healthy"), again["findings"]


def test_an_object_in_it_cannot_be_deleted(case: Locked) -> None:
    """What was put after the recovery is kept by the bucket's default, as before it; what came back is not."""
    case.settle()
    case.backup()
    case.lose()
    case.recover()
    put = case.client.put_object(Bucket=case.bucket, Key="new", Body=b"x")
    with pytest.raises(ClientError, match="AccessDenied"):
        case.client.delete_object(Bucket=case.bucket, Key="new", VersionId=put["VersionId"])
    head = case.client.head_object(Bucket=case.bucket, Key="root")
    assert "ObjectLockMode" not in head, "nobody had locked it"


def test_encryption_that_the_server_cannot_do_stops_no_object(case: Locked) -> None:
    """SeaweedFS without a key takes the setting, and then no object."""
    held = case.backup()
    case.client.put_bucket_encryption(
        Bucket=case.bucket, ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
    )  # fmt: skip
    case.backup()
    case.lose()
    found = case.recover()
    assert case.portrait() == held
    (check,) = bad(found)
    assert (check["name"], check["result"]) == ("bucket encryption", "FAIL")
    assert "with it the server takes no object" in check["detail"]


def test_a_server_without_locks_says_so(gateway: JuiceFS, make_bucket: MakeBucket) -> None:
    name = make_bucket(gateway)
    wipe(gateway.client, name)
    bucket = of(gateway, name)
    assert s3_settings.make(bucket, lock=True)
    assert s3_settings.LOCK not in s3_settings.inspect(bucket).values
    gateway.client.put_object(Bucket=name, Key="a", Body=b"it takes objects")


def test_our_rule_leaves_other_peoples_rules_as_they_are(weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    name = make_bucket(weed)
    bucket = of(weed, name)
    bucket.set("lifecycle", RULES, "set theirs")
    wanted = lifecycle.rule("lifeboat-shop", 30)
    for _ in range(2):
        have = lifecycle.put(bucket, lifecycle.read(bucket) or [], wanted)
        assert [rule.id for rule in have] == ["theirs", "lifeboat-shop"]
        assert OWN in rules(weed, name)
    assert lifecycle.mine(have, wanted)
