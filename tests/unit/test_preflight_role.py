# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role preflight: an old variable is refused with its new name, wherever an inventory is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from test_awx import render

ROOT = Path(__file__).resolve().parents[2]
VARS: dict[str, Any] = yaml.safe_load((ROOT / "roles/preflight/vars/main.yml").read_text(encoding="utf-8"))
RENAMED: dict[str, str] = VARS["__preflight_renamed"]


def refused(inventory: dict[str, Any]) -> Any:
    given = {"__preflight_renamed": RENAMED, "inventory_hostname": "shop1", "hostvars": {"shop1": inventory}}
    return render(VARS["__preflight_old"], given)


def settings(name: str) -> set[str]:
    """The keys that the configuration has below this variable of the inventory."""
    if name == "lifeboat_targets":
        return set(SCENARIOS)
    found = get_type_hints(Config)[name.removeprefix("lifeboat_")]
    return {field.name for field in dataclasses.fields(found)}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_variable_is_refused_with_its_new_name(old: str) -> None:
    variable, key = old.split(".")
    renamed, new_key = RENAMED[old].split(".")
    assert key not in settings(variable)
    assert new_key in settings(renamed)
    assert refused({variable: {key: 60, "backup_age_hours": 26}}) == [f"{old} is now {RENAMED[old]}"]
    assert refused({variable: {"backup_age_hours": 26}, renamed: {new_key: 60}}) == []


def test_all_old_variables_are_named_at_once() -> None:
    every = {"lifeboat_alarms": {old.split(".")[1]: 60 for old in RENAMED}}
    assert refused(every) == [f"{old} is now {new}" for old, new in RENAMED.items()]
    assert refused({}) == []


def test_the_error_says_the_new_name() -> None:
    tasks = yaml.safe_load((ROOT / "roles/preflight/tasks/main.yml").read_text(encoding="utf-8"))
    (task,) = (task for task in tasks if "__preflight_old" in str(task))
    given = {"__preflight_old": ["a.b is now c.d"], "inventory_hostname": "shop1"}
    message = "The inventory of shop1 uses old names: a.b is now c.d. Nothing was changed. Rename them."
    assert render(task["ansible.builtin.assert"]["fail_msg"], given) == message
    assert task["ansible.builtin.assert"]["that"] == "__preflight_old | length == 0"


@pytest.mark.parametrize("name", ["deploy", *(f"recover_{scenario}" for scenario in SCENARIOS)])
def test_what_reads_an_inventory_looks_for_old_names_first(name: str) -> None:
    (play,) = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8"))
    assert play["roles"][0]["role"] == "lifeboat.dr.preflight"
