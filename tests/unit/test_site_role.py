# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What the role site_recovery makes of a machine's silence: only one that was not reached may be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

VARS = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/site_recovery/vars/main.yml").read_text("utf-8"))
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
