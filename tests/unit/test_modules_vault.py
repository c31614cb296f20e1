# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real main() of endpoint_info and vault; the core below them is tried on real servers in tests/objects."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, Log, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Store
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import (
    endpoints,
    policy,
    service_accounts,
    vault,
    writer,
)
from botocore import session
from builders import Run, settings
from test_awx import render, trusted
from test_probe import report

LINE = "s3://mirror at http://vault1:9000: make the bucket"
NOTE = "s3://mirror at http://vault1:9000: the server has no public access block"


def asked(root: Path) -> dict[str, Any]:
    vault = {"endpoint_url": "http://vault1:9000", "objects_bucket": "mirror"}
    return {
        "settings": settings(root, objects={"bucket": "uploads", "endpoint_url": "http://shop1:9000"}, vault=vault),
        "secrets": {"vault_access_key": "AKIATEST", "vault_secret_key": "hunter2"},
    }


@pytest.fixture
def ensured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How ensure() was called; the first real call makes the bucket."""
    calls: list[dict[str, Any]] = []

    def ensure(config: Config, check: bool, *, warn: Log, note: Log, **more: Any) -> list[str]:
        missing = not any(not call["check"] for call in calls)
        calls.append({"check": check, **more})
        warn("THE VAULT IS ON THIS VERY HOST")
        note(NOTE)
        return [LINE] if missing else []

    monkeypatch.setattr(vault, "ensure", ensure)
    monkeypatch.setattr(writer, "server", lambda config: "MinIO")
    monkeypatch.setattr(
        writer, "attempt", lambda config, **key: rights(writer.CAN if key["access_key"] else writer.HELD)
    )
    monkeypatch.setattr(service_accounts, "find", lambda config, access_key, secret_key: ())
    return calls


def rights(state: str, at: datetime | None = None) -> writer.Rights:
    acts = {name: writer.Act(state, "seen") for name in writer.DESTROYS}
    return writer.Rights("x", "MinIO", at or datetime.now(timezone.utc), acts)


def test_vault_changes_once(run: Run, tmp_path: Path, ensured: list[dict[str, Any]]) -> None:
    planned = run("vault", check=True, **asked(tmp_path))
    assert (planned["changed"], planned["changes"], planned["diff"]["after"]) == (True, [LINE], f"{LINE}\n")
    done = run("vault", adopt=True, admin_access_key="admin", admin_secret_key="hunter2-too", **asked(tmp_path))
    assert (done["changed"], done["changes"]) == (True, [LINE])
    assert done["vault_warnings"][0] == "THE VAULT IS ON THIS VERY HOST"
    assert (
        "http://vault1:9000: the writer's key can destroy what the vault holds: delete versions"
        in (done["vault_warnings"][1])
    )
    assert ("writer" in planned, done["writer"]["acts"]["delete versions"]["state"]) == (False, "can")
    assert done["writer_policy"] == policy.document(["mirror"], "MinIO")
    assert "THE VAULT IS ON THIS VERY HOST" in str(done["warnings"])
    assert (NOTE in done["log"], NOTE in str(done["warnings"])) == (True, False), "it is told, and costs nothing"
    assert done["writer"]["accounts"] == []
    assert run("vault", **asked(tmp_path))["changed"] is False
    assert run("vault", check=True, **asked(tmp_path))["changed"] is False
    assert [call["check"] for call in ensured] == [True, False, False, True]
    admin = {"access_key": "admin", "secret_key": "hunter2-too"}
    assert ensured[1] == {"check": False, "additional": (), "adopt": True, **admin}


# (the stack's bucket, the vault's repository bucket, whether a keeper mirrors) -> what the role includes
INCLUDED: list[tuple[str, str, bool, list[str]]] = [
    ("uploads", "copies", False, ["mirror.yml", "changes.yml"]),
    ("uploads", "", False, ["mirror.yml", "changes.yml"]),
    ("", "copies", False, ["copies.yml"]),
    ("", "", False, []),
    ("", "copies", True, []),
    ("uploads", "copies", True, []),
]


@pytest.mark.parametrize(("bucket", "copies", "keeper", "included"), INCLUDED)
def test_the_copies_of_a_stack_without_a_bucket_have_their_own(
    bucket: str, copies: str, keeper: bool, included: list[str]
) -> None:
    role = Path(__file__).resolve().parents[2] / "roles/object_storage_backup"
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    given = {
        **trusted(defaults), "lifeboat_objects": {"bucket": bucket}, "lifeboat_vault": {"repository_bucket": copies},
        "object_storage_backup_by_keeper": keeper,
    }  # fmt: skip
    tasks = yaml.safe_load((role / "tasks/main.yml").read_text(encoding="utf-8"))
    wanted = [task for task in tasks if all(render("{{ " + clause + " }}", given) for clause in task["when"])]
    names = [task.get("ansible.builtin.include_tasks") for task in wanted]
    assert [name for name in names if name] == included


def test_the_vault_of_a_stack_without_a_bucket_has_the_repositorys_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = asked(tmp_path)
    given["settings"]["vault"] = {"endpoint_url": "http://vault1:9000", "repository_bucket": "copies"}
    given["settings"]["objects"] = {}
    tried: list[str] = []

    def attempt(config: Config, **_: str) -> writer.Rights:
        tried.extend(writer.names(config))
        return rights(writer.HELD)

    monkeypatch.setattr(writer, "attempt", attempt)
    monkeypatch.setattr(writer, "server", lambda config: "MinIO")
    monkeypatch.setattr(vault._Ensuring, "changes", lambda self: [f"make {self._bucket.name} for {self._mark}"])
    done = run("vault", **given)
    assert (done["changes"], done["vault_warnings"]) == (["make copies for shop/repository"], [])
    assert (tried, done["writer_policy"]) == (["copies"], policy.document(["copies"], "MinIO"))


def test_what_the_writers_key_can_do_is_tried_once_a_day(
    run: Run, tmp_path: Path, ensured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, tried = asked(tmp_path), list[str]()
    of = writer._key_digest(config.from_mapping(given["settings"], given["secrets"]))

    def attempt(config: Config, *, access_key: str, **_: str) -> writer.Rights:
        tried.append(access_key)
        if access_key == "broken":
            raise LifeboatError("try it", "s3://mirror", "no answer")
        return dataclasses.replace(rights(writer.UNTRIED if not access_key else writer.HELD), digest=of)

    monkeypatch.setattr(writer, "attempt", attempt)
    assert "writer" not in run("vault", check=True, **given)
    assert run("vault", **given)["writer"]["acts"]["delete versions"]["state"] == "not tried"
    run("vault", **given)
    assert tried == [""]
    admin = {"admin_access_key": "admin", "admin_secret_key": "hunter2-too"}
    assert run("vault", **admin, **given)["writer"]["acts"]["delete versions"]["state"] == "held"
    assert tried == ["", "admin"]
    broken = run("vault", **{**admin, "admin_access_key": "broken"}, **given)
    assert (broken["failed"], broken["writer"]["acts"]["delete versions"]["state"]) == (False, "held")
    assert any("could not be tried" in line for line in broken["log"])
    known = writer.remembered(config.from_mapping(given["settings"], given["secrets"]))
    assert known is not None
    assert known.summary == "the writer's key can destroy nothing there"
    other = config.from_mapping(given["settings"], {**given["secrets"], "vault_access_key": "another"})
    assert writer.remembered(other) is None, "of another key nothing is known"


def test_service_accounts_are_looked_for_with_an_administrators_key(
    run: Run, tmp_path: Path, ensured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of MinIO only. What was found is kept where the next run has no such key; a server that does not say is told."""
    given = asked(tmp_path)
    of = writer._key_digest(config.from_mapping(given["settings"], given["secrets"]))
    server = ["MinIO"]

    def attempt(config: Config, **_: str) -> writer.Rights:
        return dataclasses.replace(rights(writer.HELD), digest=of, server=server[0])

    monkeypatch.setattr(writer, "attempt", attempt)
    monkeypatch.setattr(service_accounts, "find", lambda config, access_key, secret_key: (f"of {access_key}",))
    admin = {"admin_access_key": "admin", "admin_secret_key": "hunter2-too"}
    assert run("vault", **given)["writer"]["accounts"] is None
    found = run("vault", **admin, **given)
    assert found["writer"]["accounts"] == ["of admin"]
    assert "mc admin accesskey rm vault 'of admin'" in found["vault_warnings"][1], "also where nothing else is wrong"
    assert run("vault", **given)["writer"]["accounts"] == ["of admin"]

    def find(*_: object) -> tuple[str, ...]:
        raise LifeboatError("export the identities", "http://vault1:9000", "no such request")

    monkeypatch.setattr(service_accounts, "find", find)
    unknown = run("vault", **admin, **given)
    assert unknown["writer"]["accounts"] is None
    assert any("which service accounts the writer's key has is not known" in line for line in unknown["log"])
    server[0] = "SeaweedFS"
    elsewhere = run("vault", **admin, **given)
    assert not any("service accounts" in line for line in elsewhere["log"])


FORM = {
    "access key own": {"parent": "writer"}, "access key own2": {"parent": "writer"}, "user writer": {},
    "access key other": {"parent": "somebody"}, "user own3": {}, "access key made": {"parent": "own3"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "found"), [("own3", ("made",)), ("own", ("own2",)), ("writer", ("own", "own2")), ("nobody", ())]
)
def test_whose_service_accounts_are_the_writers(key: str, found: tuple[str, ...]) -> None:
    """Those of a user; of a service account, those that have the same user."""
    assert service_accounts.siblings(FORM, key) == found


@pytest.mark.parametrize(("name", "server"), [("", "SeaweedFS 4.48"), ("-minio", "MinIO")])
def test_the_policy_in_the_docs_is_the_one_that_is_made(name: str, server: str) -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    shown = json.loads((docs / f"vault-writer-policy{name}.json").read_text())
    assert shown == policy.document(["uploads-backup", "shop-repository"], server)


def test_minios_policy_has_no_condition_that_minio_refuses() -> None:
    """It loads no policy with `s3:x-amz-acl` or `s3:x-amz-grant-…`, which the plain one has; the docs say so."""
    made = policy.document(["uploads-backup", "shop-repository"], "MinIO")
    statements: Any = made["Statement"]
    keys = {key for each in statements for test in each.get("Condition", {}).values() for key in test}
    assert keys == {"s3:versionid"}
    page = (Path(__file__).resolve().parents[2] / "docs" / "vault.md").read_text()
    assert "MinIO refuses that file, as it knows no condition `s3:x-amz-acl`" in page


def test_the_policy_denies_every_way_to_share_an_object_but_with_the_vaults_owner() -> None:
    """As botocore knows them: the words for x-amz-acl, and the headers that grant a right."""
    put = session.get_session().get_service_model("s3").operation_model("PutObject").input_shape.members
    granting = {shape.serialization["name"] for name, shape in put.items() if name.startswith("Grant")}
    conditions = [
        condition
        for statement in policy.document(["mirror"], "AmazonS3")["Statement"]  # type: ignore[attr-defined]
        if statement["Effect"] == "Deny" and statement["Action"] == ["s3:PutObject"]
        for operator in statement["Condition"].values()
        for condition in operator.items()
    ]
    assert {name for name, _values in conditions} >= {f"s3:{header}" for header in granting}
    (words,) = [set(values) for name, values in conditions if name == "s3:x-amz-acl"]
    assert {*put["ACL"].enum} - words == {"private", "bucket-owner-full-control"}


def test_vault_fails_with_the_cores_own_words(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(*_: Any, **more: Any) -> list[str]:
        raise UsageError("prepare the vault", "s3://mirror", "the server has no versioning", "Another server.")

    monkeypatch.setattr(vault, "ensure", ensure)
    failed = run("vault", **asked(tmp_path))
    assert (failed["failed"], failed["cause"], failed["remedy"]) == (
        True, "the server has no versioning", "Another server."
    )  # fmt: skip
    alone = run("vault", plain=True, admin_access_key="admin", **asked(tmp_path))
    assert "admin_secret_key" in alone["msg"]


def test_endpoint_info_never_changes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, bool]] = []

    def tell(config: Config, place: str, *, fresh: bool, **_: Any) -> Any:
        tried.append((place, fresh))
        return report(versioning="missing", object_lock="missing") if place == "source" else report()

    monkeypatch.setattr(endpoints, "report", tell)
    monkeypatch.setattr(store, "read_store", lambda run: Store(("uploads",), ("docs",)))
    monkeypatch.setattr(endpoints, "permissions", lambda run: Check("source permissions", "FAIL", "the key may not x"))
    found = run("endpoint_info", **asked(tmp_path))
    assert (found["changed"], sorted(found["endpoints"])) == (False, ["source", "vault"])
    assert found["endpoints"]["vault"]["features"]["versioning"]["state"] == "supported"
    assert [line.partition(": mirrored")[0] for line in found["lacking"]] == [
        "source: no versioning",
        "source: the bucket docs: in no backup, as lifeboat_objects.bucket names uploads alone",
        "source permissions: the key may not x",
    ]
    assert sorted(run("endpoint_info", endpoint="vault", fresh=True, **asked(tmp_path))["endpoints"]) == ["vault"]
    assert tried == [("source", False), ("vault", False), ("vault", True)]
    checked = run("endpoint_info", check=True, **asked(tmp_path))
    assert (checked["changed"], checked["endpoints"], checked["lacking"]) == (False, {}, [])
    assert len(tried) == 3
    assert [(check["name"], check["result"]) for check in found["checks"]] == [
        ("source endpoint", "PASS"),
        ("vault endpoint", "PASS"),
        ("source permissions", "FAIL"),
    ]
    monkeypatch.setattr(endpoints, "ready", lambda config, now: Check("vault endpoint", "FAIL", "no answer"))
    for check in (False, True):
        looked = run("endpoint_info", look=True, check=check, **asked(tmp_path))
        assert (looked["changed"], looked["failed"], len(tried)) == (False, False, 3), "nothing is tried"
        assert looked["checks"] == [{"name": "vault endpoint", "result": "FAIL", "detail": "no answer"}]
    wrong = run("endpoint_info", endpoint="vault")
    assert (wrong["failed"], wrong["cause"]) == (True, "it is not configured")
    assert run("endpoint_info")["endpoints"] == {}
