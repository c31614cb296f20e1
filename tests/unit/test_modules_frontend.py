# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a frontend's recovery, by their real main(): check mode, change, no change, failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import plan as frontend_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import recovery as frontend_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.recovery import Recovered
from builders import FRONTEND_PLAN, Run, settings

PLAN: dict[str, Any] = plain(FRONTEND_PLAN, nulls=True)


def given(root: Path, **more: Any) -> dict[str, Any]:
    frontend = {"url": "https://www.shop.test/", "repository": "acme/shop"}
    return {"settings": settings(root, frontend=frontend), "secrets": {"github_token": "hunter2"}, **more}


def test_frontend_plan_info_never_changes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool, str]] = []

    def make(config: Any, token: str, *, force: bool, method: str, log: Any) -> frontend_plan.Plan:
        asked.append((token, force, method))
        return FRONTEND_PLAN

    monkeypatch.setattr(frontend_plan, "make", make)
    result = run("frontend_plan_info", **given(tmp_path))
    assert (result["changed"], result["needed"], result["plan"]) == (False, True, PLAN)
    assert result["text"][0] == "the site https://www.shop.test/ is down: transient"
    run("frontend_plan_info", **given(tmp_path, token="mine-hunter2", force=True, method="revert"))
    assert asked == [("hunter2", False, "auto"), ("mine-hunter2", True, "revert")]


def test_frontend_plan_info_fails_without_a_frontend(run: Run) -> None:
    result = run("frontend_plan_info")
    assert result["failed"]
    assert (result["cause"], result["remedy"]) == ("the stack has no frontend", "Set lifeboat_frontend.url.")


def test_frontend_recover_changes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(True, Recovered(mode="rerun", checks=(Check("site", "PASS"),))), (False, Recovered())]
    monkeypatch.setattr(frontend_recovery, "recover", lambda config, planned, token, log: answers.pop(0))
    planned = run("frontend_recover", check=True, **given(tmp_path, plan=PLAN))
    assert (planned["changed"], planned["tried"], len(answers)) == (True, [], 2)
    assert run("frontend_recover", check=True, **given(tmp_path, plan={**PLAN, "needed": False}))["changed"] is False
    done = run("frontend_recover", **given(tmp_path, plan=PLAN))
    assert (done["changed"], done["mode"], done["checks"]) == (
        True, "rerun", [{"name": "site", "result": "PASS", "detail": ""}]
    )  # fmt: skip
    assert "another run" in run("frontend_recover", **given(tmp_path, plan=PLAN))["cause"], "by the same plan, again"
    assert run("frontend_recover", **given(tmp_path, plan={**PLAN, "turn": 2}))["changed"] is False


def test_frontend_recover_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Any, planned: Any, token: str, log: Any) -> None:
        raise UnverifiedError("recover the frontend", "https://www.shop.test/", "rerun: token=hunter2", "Mend that.")

    monkeypatch.setattr(frontend_recovery, "recover", broken)
    result = run("frontend_recover", **given(tmp_path, plan=PLAN))
    assert (result["failed"], result["remedy"]) == (True, "Mend that.")
    wrong = run("frontend_recover", **given(tmp_path, plan={**PLAN, "steps": "rerun"}))
    assert (wrong["attempted"], wrong["subject"]) == ("read the plan", "steps")
    assert wrong["remedy"] == "Give what lifeboat.dr.frontend_plan_info returned as plan."
