# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real main() of endpoint_info and vault; the core below them is tried on real servers in tests/objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Store
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints, vault
from builders import Run, settings
from test_probe import report

LINE = "s3://mirror at http://vault1:9000: make the bucket"


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

    def ensure(config: Config, check: bool, *, warn: vault.Warn, **more: Any) -> list[str]:
        missing = not any(not call["check"] for call in calls)
        calls.append({"check": check, **more})
        warn("THE VAULT IS ON THIS VERY HOST")
        return [LINE] if missing else []

    monkeypatch.setattr(vault, "ensure", ensure)
    return calls


def test_vault_changes_once(run: Run, tmp_path: Path, ensured: list[dict[str, Any]]) -> None:
    planned = run("vault", check=True, **asked(tmp_path))
    assert (planned["changed"], planned["changes"], planned["diff"]["after"]) == (True, [LINE], f"{LINE}\n")
    done = run("vault", adopt=True, admin_access_key="admin", admin_secret_key="hunter2-too", **asked(tmp_path))
    assert (done["changed"], done["changes"]) == (True, [LINE])
    assert done["vault_warnings"] == ["THE VAULT IS ON THIS VERY HOST"]
    assert "THE VAULT IS ON THIS VERY HOST" in str(done["warnings"])
    assert run("vault", **asked(tmp_path))["changed"] is False
    assert run("vault", check=True, **asked(tmp_path))["changed"] is False
    assert [call["check"] for call in ensured] == [True, False, False, True]
    admin = {"access_key": "admin", "secret_key": "hunter2-too"}
    assert ensured[1] == {"check": False, "others": (), "adopt": True, **admin}


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
    monkeypatch.setattr(store, "look", lambda run: Store(("uploads",), ("docs",)))
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
