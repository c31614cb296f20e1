# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role recovery_common: what a record keeps of each phase, and what an operator sees of a recovery that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from test_awx import render

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "recovery_common"
VARS: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
PHASE = {
    "started_at": "2026-11-24T00:00:00Z", "finished_at": "2026-11-24T00:00:05Z", "monotonic": [1.0, 6.0], "boot": "b",
}  # fmt: skip
STEPS = [
    {"name": "assess", "result": {"phase": PHASE, "plan": {"mode": "swap"}, "text": ["a plan"], "log": ["looked"]}},
    {"name": "protect", "result": {"phase": PHASE, "changed": True, "stopped": ["backend"], "checks": [{"name": "a"}]}},
    {"name": "restore", "result": {"skipped": True, "changed": False}},
    {"name": "reopen", "result": {"phase": PHASE, "seconds": {"swap": 1}, "checks": [{"name": "b"}, {"name": "c"}]}},
    {"name": "never reached", "result": {}},
]


def rendered(text: str, **given: Any) -> Any:
    return render(text, {**DEFAULTS, **VARS, **given})


def test_a_phase_keeps_its_times_and_what_the_record_knows() -> None:
    assert rendered(VARS["__recovery_common_phases"], recovery_common_steps=STEPS) == [
        {"name": "assess", **PHASE, "log": ["looked"], "seconds_of": {}},
        {"name": "protect", **PHASE, "log": [], "seconds_of": {}, "stopped": ["backend"]},
        {"name": "reopen", **PHASE, "log": [], "seconds_of": {"swap": 1}},
    ]
    assert rendered(VARS["__recovery_common_phases"]) == []


def test_what_a_phase_hands_to_the_record_is_what_the_record_keeps() -> None:
    """`seconds_of` is called seconds in a module's result; the recovery point is that of a site's phases."""
    assert sorted([*VARS["__recovery_common_details"], "recovery_point", "seconds_of"]) == sorted(schema.KEPT)


def test_the_checks_are_those_of_all_steps_in_order() -> None:
    found = rendered(DEFAULTS["recovery_common_checks"], recovery_common_steps=STEPS)
    assert [check["name"] for check in found] == ["a", "b", "c"]


# (what was registered, whether this recovery's evidence is recorded)
RECORDED: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"recovery_common_evidence": {"record": {"scenario": "database"}}}, True),
    ({"recovery_common_evidence": {"record": {"scenario": "backend"}}}, False),  # an earlier scenario of a drill
    ({"recovery_common_evidence": {"failed": True, "msg": "the disk is full"}}, True),  # not to be tried again
]


@pytest.mark.parametrize(("registered", "recorded"), RECORDED)
def test_whether_this_recovery_is_recorded(registered: dict[str, Any], recorded: bool) -> None:
    given = {"recovery_common_scenario": "database", **registered}
    assert rendered(VARS["__recovery_common_recorded"], **given) is recorded


PLAN = {
    "needed": True, "blocked": "", "text": ["the plan"], "phase": PHASE,
    "plan": {"condition": "damaged", "findings": [], "unchecked": [], "passed_over": [], "target_seconds": 3600},
}  # fmt: skip


def play(tmp_path: Path, *arguments: str, **given: Any) -> tuple[int, str]:
    """As a recovery role includes it, with the modules' settings for all of a block."""
    parts = [
        {"name": "Part", "ansible.builtin.include_role": {"name": "lifeboat.dr.recovery_common"}, "vars": {
            "recovery_common_part": part, "recovery_common_plan": PLAN, "recovery_common_scenario": "backend",
            "recovery_common_steps": STEPS[:1], "recovery_common_state": "as it was found",
            "recovery_common_next": "run it again", "recovery_common_kept": ["kept: a file"], **given,
        }} for part in ("confirm", "record", "failed")
    ]  # fmt: skip
    settings = {"stack": "shop", "runtime": {"project_directory": str(tmp_path)}, "state_directory": str(tmp_path)}
    tasks = [
        {"name": "Recover", "module_defaults": {"group/lifeboat.dr.lifeboat": {"settings": settings}},
         "block": parts[:2], "rescue": parts[2:]},
    ]  # fmt: skip
    book = tmp_path / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    environment = {
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
    }  # fmt: skip
    argv = [sys.executable, "-m", "ansible", "playbook", str(book), *arguments]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.slow
def test_a_recovery_that_is_not_proved_fails_with_the_state_and_the_next_command(tmp_path: Path) -> None:
    code, text = play(
        tmp_path, recovery_common_checks=[{"name": "health", "result": "FAIL", "detail": "it answers 500"}]
    )
    assert code == 2
    assert "Nothing was changed. To carry this plan out on localhost, run the same command again" in text
    words = [
        "localhost | The verdict is FAIL, see the checks",
        "localhost | state: as it was found",
        "localhost | next: run it again",
        "localhost | kept: a file",
    ]
    found = [text.find(word) for word in words]
    assert -1 not in found, text
    assert found == sorted(found)
    assert text.count("The verdict is FAIL") == 1
    (record,) = (tmp_path / "evidence").glob("*.json")
    body = json.loads(record.read_text(encoding="utf-8"))
    assert (body["scenario"], body["verdict"], [phase["name"] for phase in body["phases"]]) == (
        "backend",
        "FAIL",
        ["assess"],
    )


@pytest.mark.slow
def test_check_mode_records_nothing(tmp_path: Path) -> None:
    code, text = play(tmp_path, "--check")
    assert code == 0, text
    assert not (tmp_path / "evidence").exists()
