# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, groups, policies, service accounts and quotas of a store that is wiped: kept, given back, compared.

The store is tests/integration/minio_admin.py: a stand-in of MinIO's admin API, not MinIO. MinIO's own client judges it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minio_admin
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import identities
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.admin import AbsentError, Admin
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import identities as stack_identities
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from minio_admin import StandIn
from s3_servers import ALIAS, SeaweedFS, mc, running, wipe
from test_recover import Case, empty

MakeBucket = Callable[..., str]
# As recorded, with more of each.
FOUND = minio_admin.identities(
    users={"webapp": "webappsecret1", "auditor": "auditorsecret1"},
    accounts={"websvcaccesskey01": ("webapp", "websvcsecret0001")},
    groups={"editors": ["webapp", "auditor"]},
    policies={"uploads-rw": minio_admin.document("s3:GetObject", "s3:PutObject", "s3:ListBucket", bucket="uploads")},
    attached={"webapp": "uploads-rw,diagnostics"},
)
FOUND["group_mappings"] = {"editors": {"version": 0, "policy": "readonly"}}
SERVICE = "websvcaccesskey01"
QUOTA = {"quota": 5368709120, "size": 0, "rate": 0, "requests": 0, "quotatype": "hard"}


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with running(lambda directory: StandIn(directory, minio_admin.keys([FOUND]))) as started:
        yield started


@pytest.fixture
def store(server: StandIn) -> StandIn:
    """With the identities above, whatever the test before it did."""
    server.state, server.absent = {**FOUND, "quotas": {}}, set()
    return server


def of(server: StandIn, access_key: str = "", secret_key: str = "") -> Admin:
    return Admin(server.url, "", access_key or server.access_key, secret_key or server.secret_key)


def test_mc_judges_the_stand_in(store: StandIn, witness: None, tmp_path: Path) -> None:
    """`mc admin cluster iam export` reads what we read; `import` of what we exported gives the same to a fresh one."""
    ours = of(store).export_identities()
    (tmp_path / "ours.zip").write_bytes(ours)
    mc(store, "admin", "cluster", "iam", "export", ALIAS, "--output", str(tmp_path / "theirs.zip"))
    theirs = (tmp_path / "theirs.zip").read_bytes()
    assert identities.of_minio(theirs) == identities.of_minio(ours)
    store.state = minio_admin.identities({})
    assert identities.of_minio(of(store).export_identities()) != identities.of_minio(ours)
    mc(store, "admin", "cluster", "iam", "import", ALIAS, str(tmp_path / "ours.zip"))
    assert identities.of_minio(of(store).export_identities()) == identities.of_minio(ours)


def test_the_stand_in_refuses_the_writers_policy_that_minio_refuses(store: StandIn) -> None:
    """docs/vault-writer-policy.json has conditions on access control lists; docs/vault-writer-policy-minio.json not."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    for name, refused in (("vault-writer-policy", True), ("vault-writer-policy-minio", False)):
        policy = json.loads((docs / f"{name}.json").read_text())
        given = minio_admin.zipped({**minio_admin.identities({}), "policies": {name: policy}})
        refusal = pytest.raises(LifeboatError, match="invalid condition key 's3:x-amz-acl'")
        with refusal if refused else contextlib.nullcontext():
            of(store).import_identities(given)
        assert (name in store.state["policies"]) is not refused


def broken(store: StandIn, what: str) -> LifeboatError:
    with pytest.raises(LifeboatError) as caught:
        {
            "key": lambda: of(store, "nobody", "wrong-secret-1").export_identities(),
            "secret": lambda: of(store, store.access_key, "wrong-secret-1").export_identities(),
            "rights": lambda: of(store, "webapp", "webappsecret1").export_identities(),
            "older": lambda: of(store).export_identities(),
            "weed": lambda: Admin(store.weed.url, "", store.access_key, store.secret_key).export_identities(),
            "down": lambda: Admin("http://127.0.0.1:9", "", "a", "b").export_identities(),
        }[what]()
    return caught.value


REFUSALS = {
    "key": (UsageError, "the server does not take the admin key (InvalidAccessKeyId"),
    "secret": (UsageError, "the server does not take the admin key (SignatureDoesNotMatch"),
    "rights": (UsageError, "the admin key may not do that (AccessDenied: Access Denied.)"),
    "older": (AbsentError, "this server has no such admin request (XMinioAdminVersionMismatch"),
    "weed": (AbsentError, "this server has no such admin request (NoSuchBucket"),
    "down": (LifeboatError, "Could not connect"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_the_admin_api_refuses_is_said(store: StandIn, what: str) -> None:
    store.absent = {"export-iam"} if what == "older" else set()
    error = broken(store, what)
    assert (type(error), REFUSALS[what][1] in error.cause) == (REFUSALS[what][0], True), error
    assert not any(secret in str(error) for secret in ("wrong-secret-1", "webappsecret1", store.secret_key))


def test_an_older_server_has_only_the_first_import(store: StandIn) -> None:
    ours = of(store).export_identities()
    store.state = minio_admin.identities({})
    store.absent = {"import-iam-v2"}
    assert of(store).import_identities(ours).added.count == 0, "it does not say"
    assert store.requests[-2:] == ["PUT import-iam-v2", "PUT import-iam"]
    assert identities.of_minio(of(store).export_identities()) == identities.of_minio(ours)


class Shop(Case):
    """The store is the stand-in; the application has a service account of its own."""

    def __init__(self, root: Path, source: StandIn, vault: SeaweedFS, mirrored: str) -> None:
        super().__init__(root, source, "uploads", vault, mirrored, ours=True)
        self.store = source
        secrets = dict(self.config.secrets)
        secrets |= {"objects_access_key": SERVICE, "objects_secret_key": "websvcsecret0001"}
        secrets |= {"objects_admin_access_key": source.access_key, "objects_admin_secret_key": source.secret_key}
        settings = {
            "stack": "shop", "runtime": {"project_directory": str(root)}, "state_directory": str(root / "state"),
            "repository": {"type": "local", "path": str(root / "backup")},
            "objects": {
                "bucket": "uploads", "endpoint_url": source.url, "service": "objects", "admin": {"api": "minio"},
            },
            "vault": {"endpoint_url": vault.url, "objects_bucket": mirrored}, "application": {"timeout": 60},
        }  # fmt: skip
        self.config = config.from_mapping(settings, secrets)

    def identities(self) -> identities.Form:
        return identities.of_minio(of(self.store).export_identities())

    def checked(self, found: dict[str, Any]) -> tuple[str, str]:
        (check,) = [check for check in found["checks"] if check["name"] == "identities"]
        return check["result"], check["detail"]


@pytest.fixture
def shop(
    store: StandIn, tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> Shop:
    monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    with contextlib.suppress(store.client.exceptions.ClientError):
        wipe(store.client, "uploads")
    store.client.create_bucket(Bucket="uploads")
    case = Shop(tmp_path, store, weed, make_bucket(weed))
    monkeypatch.setattr(runtime, "connect", lambda config: case.process)
    case.client.put_bucket_versioning(Bucket="uploads", VersioningConfiguration={"Status": "Enabled"})
    case.fill()
    store.state = {**store.state, "quotas": {"uploads": QUOTA}}
    return case


def wiped_while_it_is_down(case: Shop) -> None:
    case.process.stop(["objects"], timeout=1)
    empty(case.store.data)


def wiped_and_started_again(case: Shop) -> None:
    """A fresh server answers, and takes nobody's key but root's."""
    case.store.kill()
    empty(case.store.data)
    case.store.start()


@pytest.mark.parametrize("fault", [wiped_while_it_is_down, wiped_and_started_again])
def test_a_wiped_store_has_its_identities_again(shop: Shop, fault: Callable[[Shop], None]) -> None:
    shop.client.create_bucket(Bucket="unprotected")
    shop.store.state = {**shop.store.state, "quotas": {"uploads": QUOTA, "unprotected": QUOTA}}
    expected, before = shop.backup(), shop.identities()
    fault(shop)
    found = shop.recover()
    assert shop.identities() == before
    assert shop.portrait() == expected
    result, detail = shop.checked(found)
    assert (result, detail) == (
        "PASS", f"2 users, 1 group, 1 policy, 1 access key, 2 quotas, as with {shop.id}",
    )  # fmt: skip
    assert shop.store.state["quotas"] == {"uploads": QUOTA}
    assert [one["Name"] for one in shop.client.list_buckets()["Buckets"]] == ["uploads"], "an import makes buckets"
    client = shop.store.connect(SERVICE, "websvcsecret0001")
    assert client.get_object(Bucket="uploads", Key="root")["Body"].read()
    assert shop.plan()["condition"] == "healthy"


def test_without_a_copy_a_key_that_is_unknown_stays_a_refusal(shop: Shop) -> None:
    shop.backup()
    shop.config.identities.unlink()
    wiped_and_started_again(shop)
    with pytest.raises(UsageError, match=r"look at the bucket .*the endpoint refuses the key"):
        shop.plan()


def test_what_an_import_does_not_carry_is_named(shop: Shop) -> None:
    """A group is disabled by a request of its own. A disabled access key would come back enabled, so it does not."""
    state = shop.store.state
    state["groups"]["editors"]["status"] = "disabled"
    state["svcaccts"]["leaked-key-1"] = {**state["svcaccts"][SERVICE], "accessKey": "leaked-key-1", "status": "off"}
    shop.store.state = state
    shop.backup()
    wiped_and_started_again(shop)
    result, detail = shop.checked(shop.recover())
    assert (result, detail.partition("; not given back: ")[2]) == (
        "COULD_NOT_VERIFY", "the access key leaked-key-1: it is disabled, and an import would enable it",
    )  # fmt: skip
    assert shop.store.state["groups"]["editors"]["status"] == "disabled"
    assert "leaked-key-1" not in shop.store.state["svcaccts"]


def test_a_living_store_keeps_its_identities(shop: Shop) -> None:
    """Someone who was removed since the backup is not let in again."""
    shop.backup()
    state = shop.store.state
    del state["users"]["auditor"]
    shop.store.state = state
    shop.client.delete_object(Bucket="uploads", Key="root")
    result, detail = shop.checked(shop.recover(force=True))
    assert result == "COULD_NOT_VERIFY" and "differ from those of" in detail and "the user auditor is missing" in detail
    assert "auditor" not in shop.store.state["users"]


def test_a_store_that_lost_them_does_not_replace_the_copy(shop: Shop) -> None:
    shop.backup()
    kept = stack_identities.newest(shop.config)
    state = shop.store.state
    shop.store.state = {**minio_admin.identities({"newcomer": "newcomersecret1"}), "svcaccts": state["svcaccts"]}
    shop.backup()
    assert any("3 of 4 users, groups and access keys are gone" in line for line in shop.said)
    after = stack_identities.newest(shop.config)
    assert kept and after and (after.backup, after.form) == (kept.backup, kept.form)


def test_no_secret_is_told(shop: Shop) -> None:
    shop.backup()
    manifest = (Path(shop.root) / "backup").rglob("manifest.json")
    told = "\n".join([*shop.said, *(path.read_text() for path in manifest)])
    assert '"access_keys": 1' in told
    assert not [secret for secret in minio_admin.keys([FOUND]).values() if secret in told]
    assert shop.config.identities.stat().st_mode & 0o777 == 0o600


def test_a_rebuild_takes_along_what_came_after_the_backup(shop: Shop) -> None:
    shop.backup()
    state = shop.store.state
    state["users"]["newcomer"] = {"secretKey": "newcomersecret1", "status": "enabled"}
    shop.store.state = state
    found = shop.recover(method="rebuild", force=True)
    result, detail = shop.checked(found)
    assert (result, found["mode"]) == ("PASS", "rebuild")
    assert detail.startswith("3 users, 1 group,") and detail.endswith("before the rebuild")
    assert "newcomer" in shop.store.state["users"]
