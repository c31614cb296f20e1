# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What the role site_recovery makes of a machine's silence (only one that was not reached may be lost), and of a backup
that failed and was accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
VARS = yaml.safe_load((ROOT / "roles/site_recovery/vars/main.yml").read_text("utf-8"))
GARBLED = {"rc": 1, "module_stdout": "", "msg": "Module result deserialization failed: No start of json char found"}
SCOPE = {"running": ["db"], "stopped": []}
GONE = "Error response from daemon: No such container: shop1"
STOPPED = "Error response from daemon: container 8c1f is not running"
PAUSED = "Error response from daemon: Container 8c1f is paused, unpause the container before exec"
DOCKER, SSH = "community.docker.docker", "ssh"

# As Ansible 2.19 registered each, with ignore_unreachable and failed_when: false.
TABLE: list[tuple[str, str, dict[str, Any], Any]] = [
    ("it was looked at", SSH, {"scope": SCOPE, "failed": False}, SCOPE),
    ("not reached", SSH, {"unreachable": True, "msg": "Task failed: ssh: Connection refused"}, "Task failed: ssh: Connection refused"),
    ("its container is gone", DOCKER, {**GARBLED, "module_stderr": f"{GONE}\n"}, GONE),
    ("its container is stopped", DOCKER, {**GARBLED, "module_stderr": STOPPED}, STOPPED),
    ("its container is paused", DOCKER, {**GARBLED, "module_stderr": PAUSED}, {"failed": PAUSED}),
    ("words of an engine on the host", SSH, {**GARBLED, "module_stderr": GONE}, {"failed": GONE}),
    ("the module began to answer", DOCKER, {**GARBLED, "module_stdout": "{", "module_stderr": GONE}, {"failed": GONE}),
    ("no Python", SSH, {"rc": 127, "module_stdout": "", "module_stderr": "/bin/sh: 1: /usr/bin/python3: not found\n"}, {"failed": "/bin/sh: 1: /usr/bin/python3: not found"}),
    ("the module failed", SSH, {"failed": False, "failed_when_result": False, "msg": "Could not list the units"}, {"failed": "Could not list the units"}),
    ("a traceback", SSH, {"module_stderr": "Traceback (most recent call last):\n  x\nMemoryError\n", "msg": "MODULE FAILURE"}, {"failed": "MemoryError"}),
    ("it said nothing at all", SSH, {"module_stderr": "", "msg": ""}, {"failed": "no answer"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("connection", "result", "seen"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE]
)
def test_only_a_machine_that_was_not_reached_may_be_lost(connection: str, result: dict[str, Any], seen: Any) -> None:
    variables = {
        "__site_recovery_scope": {"results": [{"__site_recovery_host": "shop1", **result}]},
        "hostvars": {"shop1": {"ansible_connection": connection}},
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template(VARS["__site_recovery_seen"])) == {"shop1": seen}


def test_a_machine_that_the_inventory_does_not_know_is_not_lost() -> None:
    variables = {
        "__site_recovery_scope": {"results": [{"__site_recovery_host": "shop9", "msg": "no such host"}]},
        "hostvars": {},
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    made = templar.template(trust_as_template(VARS["__site_recovery_seen"]))
    assert made == {"shop9": {"failed": "no such host"}}


GOOD, BAD, UNKNOWN = ({"name": "x", "result": result} for result in ("PASS", "FAIL", "COULD_NOT_VERIFY"))
# (the verdict so far, what was accepted, the checks of the images and of the endpoints) -> whether users are sent here
GOES_ON: list[tuple[str, str, list[dict[str, str]], list[dict[str, str]], bool]] = [
    ("PASS", "", [GOOD], [GOOD], True),
    ("FAIL", "", [GOOD], [GOOD], False),
    ("COULD_NOT_VERIFY", "", [GOOD], [GOOD], False),
    ("FAIL", "failed", [GOOD], [GOOD], True),
    ("COULD_NOT_VERIFY", "failed", [GOOD], [GOOD], True),
    ("FAIL", "failed", [BAD], [GOOD], False),
    ("FAIL", "failed", [GOOD], [GOOD, BAD], False),
    ("FAIL", "failed", [GOOD], [UNKNOWN], False),
]


@pytest.mark.parametrize(("verdict", "accept", "images", "endpoints", "on"), GOES_ON)
def test_an_accepted_backup_does_not_excuse_a_site_that_does_not_serve(
    verdict: str, accept: str, images: list[dict[str, str]], endpoints: list[dict[str, str]], on: bool
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/site_recovery/tasks/verify.yml").read_text("utf-8"))
    (condition,) = (task["ansible.builtin.assert"]["that"] for task in tasks if "ansible.builtin.assert" in task)
    variables = {
        "site_recovery_verdict": {"verdict": verdict}, "site_recovery_accept": accept,
        "__site_recovery_images": {"checks": images}, "__site_recovery_reopened": {"checks": endpoints},
        "__site_recovery_way": {},
    }  # fmt: skip
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.evaluate_conditional(trust_as_template(condition)) is on


@pytest.mark.parametrize(
    ("short", "on"),
    [
        (["rows without objects"], False), (["files left out"], True), (["files left out", "rows"], False), (["rows"], False),
        (["backup accepted"], False), (["databases left out"], True), (["files left out", "databases left out"], True),
        (["databases left out", "rows"], False), (["buckets left out"], True), (["buckets left out", "rows"], False),
        (["buckets left out", "databases left out", "files left out"], True),
        (["mounts"], True), (["mounts", "files left out"], True), (["mounts", "rows"], False),
    ],
)  # fmt: skip
def test_files_that_the_confirmed_plan_leaves_out_keep_nobody_from_the_site(short: list[str], on: bool) -> None:
    tasks = yaml.safe_load((ROOT / "roles/site_recovery/tasks/verify.yml").read_text("utf-8"))
    (condition,) = (task["ansible.builtin.assert"]["that"] for task in tasks if "ansible.builtin.assert" in task)
    found = [GOOD, *({"name": name, "result": "COULD_NOT_VERIFY"} for name in short)]
    variables = {
        "site_recovery_verdict": {"verdict": "COULD_NOT_VERIFY", "record": {"checks": found}},
        "site_recovery_accept": "", "__site_recovery_images": {"checks": []}, "__site_recovery_reopened": {"checks": []},
        "__site_recovery_way": {},
    }  # fmt: skip
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.evaluate_conditional(trust_as_template(condition)) is on


@pytest.mark.parametrize(
    ("way", "result", "on"),
    [({"recovery_time": "latest"}, "COULD_NOT_VERIFY", True), ({"recovery_time": "latest"}, "FAIL", False),
     ({}, "COULD_NOT_VERIFY", False)],
)  # fmt: skip
def test_rows_that_may_be_younger_than_their_objects_keep_nobody_from_a_site_at_an_instant(
    way: dict[str, str], result: str, on: bool
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/site_recovery/tasks/verify.yml").read_text("utf-8"))
    (condition,) = (task["ansible.builtin.assert"]["that"] for task in tasks if "ansible.builtin.assert" in task)
    rows = {"name": "rows without objects", "result": result}
    variables = {
        "site_recovery_verdict": {"verdict": result, "record": {"checks": [GOOD, rows]}}, "__site_recovery_way": way,
        "site_recovery_accept": "", "__site_recovery_images": {"checks": []}, "__site_recovery_reopened": {"checks": []},
    }  # fmt: skip
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.evaluate_conditional(trust_as_template(condition)) is on


@pytest.mark.parametrize(
    ("finished", "phase", "state", "command"),
    [
        (False, "backups", "it is NOT backed up yet", "it continues with P from the phase backups"),
        (True, "record", "its record is not PASS", "they name what did not come back"),
    ],
)
def test_a_record_that_is_no_pass_is_not_taken_for_a_recovery_that_stopped(
    finished: bool, phase: str, state: str, command: str
) -> None:
    """What a total loss took with it never comes back, and the same command again would do nothing."""
    variables = yaml.safe_load((ROOT / "roles/site_recovery/vars/main.yml").read_text("utf-8"))
    (record,) = (
        task["vars"]
        for task in yaml.safe_load((ROOT / "roles/site_recovery/tasks/record.yml").read_text("utf-8"))
        if "vars" in task
    )
    variables |= {
        "__site_recovery_ended": {"phases": [{"name": "verify"}, {"name": "backups"}], "finished": finished},
        "__site_recovery_plan": {"plan": {"backup": {"id": "P"}}}, "agent_objects": {},
        "recovery_common_evidence": {"record": {"scenario": "site"}},  # there is one of a recovery that failed, too
    }  # fmt: skip
    told = {name: text for name, text in {**variables, **record}.items() if isinstance(text, str)}
    variables |= {name: trust_as_template(text) for name, text in told.items()}
    variables["__site_recovery_states"] = {
        name: trust_as_template(text) for name, text in variables["__site_recovery_states"].items()
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template("{{ __site_recovery_phase }}")) == phase
    assert state in templar.template(trust_as_template("{{ recovery_common_state }}"))
    assert command in templar.template(trust_as_template("{{ recovery_common_next }}"))


def test_every_module_that_places_is_told_what_is_allowed() -> None:
    told = []
    for name in ("plan", "build", "open"):
        for task in yaml.safe_load((ROOT / f"roles/site_recovery/tasks/{name}.yml").read_text("utf-8")):
            told += [
                task[key]["allow"] for key in ("lifeboat.dr.site_plan_info", "lifeboat.dr.config_deploy") if key in task
            ]
    assert told == ["{{ site_recovery_allow }}"] * 3


ACCEPTS = [
    "database_plan_info",
    "database_restore",
    "objects_plan_info",
    "objects_restore",
    "backend_plan_info",
    "site_plan_info",
]


@pytest.mark.parametrize("role", ["database", "object_storage", "backend", "site"])
def test_every_module_of_a_recovery_is_told_what_is_accepted(role: str) -> None:
    """A plan that is accepted and a restore that is not told would stop half-way."""
    told = []
    for path in sorted((ROOT / f"roles/{role}_recovery/tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text("utf-8")):
            for inner in [task, *task.get("block", [])]:
                told += [inner[f"lifeboat.dr.{name}"] for name in ACCEPTS if f"lifeboat.dr.{name}" in inner]
    assert told
    assert [arguments.get("accept") for arguments in told] == [f"{{{{ {role}_recovery_accept }}}}"] * len(told)
