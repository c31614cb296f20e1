"""As AWX runs it: ansible-runner, a playbook by its path, and every answer of the survey as text."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
from support import APP, ROOT, Stack

SURVEY = next(
    load["survey"]
    for load in json.loads((ROOT / "roles/awx/files/templates.json").read_text(encoding="utf-8"))
    if load["playbook"] == "playbooks/recover_database.yml"
)


def launch(folder: Path, *words: str, **answers: str) -> Any:
    given = {question["variable"]: str(question["default"]) for question in SURVEY}
    return ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(ROOT),
        playbook="playbooks/recover_database.yml",
        inventory=str(ROOT / "molecule/inventory"),
        extravars={**given, **answers},
        envvars={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cmdline=" ".join(words) or None,
        quiet=True,
    )


@pytest.fixture(scope="module")
def backed_up(shop: Stack) -> str:
    code, taken = shop.host.lifeboat("backup", "database")
    assert code == 0
    return str(taken["id"])


@pytest.mark.parametrize(
    ("words", "answers", "needed"),
    [
        pytest.param((), {}, False, id="defaults", marks=pytest.mark.long),
        pytest.param(
            (), {"recovery_point": "", "recovery_time": "", "reason": ""}, False, id="empty", marks=pytest.mark.long
        ),
        pytest.param((), {"force": "true"}, True, id="plan", marks=pytest.mark.long),
        pytest.param(("--check",), {"force": "true", "confirm": APP}, True, id="dry run"),
    ],
)
def test_a_recovery_is_planned(
    shop: Stack, backed_up: str, tmp_path: Path, words: tuple[str, ...], answers: dict[str, str], needed: bool
) -> None:
    before = (shop.host.world(), shop.portrait())
    ran = launch(tmp_path, *words, **answers)
    events = [event["event_data"] for event in ran.events if event["event"] == "runner_on_ok"]
    said = "".join(event["stdout"] for event in ran.events)
    assert ran.status == "successful", said
    plans = [event["res"]["plan"] for event in events if "plan" in event.get("res", {})]
    assert [(plan["needed"], plan["backup"]["id"]) for plan in plans[:1]] == [(needed, backed_up)], said
    assert (shop.host.world(), shop.portrait()) == before
