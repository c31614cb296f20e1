# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused of an inventory: old variables, wherever one is read; unknown ones, where it is deployed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.lookup import known_variables
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


# --- the variables that there are ---

AGENT: dict[str, Any] = yaml.safe_load((ROOT / "roles/agent/vars/main.yml").read_text(encoding="utf-8"))
GROUPS = {
    "lifeboat_stacks", "lifeboat_spares", "lifeboat_vaults", "lifeboat_forges", "lifeboat_evidence_", "lifeboat_watch",
}  # fmt: skip


def known() -> set[str]:
    return set(known_variables.LookupModule().run([]))


def set_somewhere() -> Iterator[str]:
    """What inventories, playbooks, scripts and tests of this tree set: as a key, on a command line, as an argument."""
    for folder in ("inventories", "molecule", "playbooks", "tests/lab", "tests/testinfra", "tests/compat", "tests/awx"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".yml", ".yaml", ".py", ".sh", ".ini", ""):
                text = path.read_text(encoding="utf-8", errors="replace")
                yield from re.findall(r"\b(lifeboat_\w+)[\"\']?\s*[:=]", text)


def test_every_variable_that_is_documented_is_known_and_none_else() -> None:
    text = (ROOT / "docs/variables.md").read_text(encoding="utf-8")
    assert known() == set(re.findall(r"^\| `(lifeboat_\w+)`", text, re.MULTILINE))


def test_every_variable_that_is_set_in_this_tree_is_known() -> None:
    given = set(set_somewhere()) - GROUPS - {"lifeboat_repositry"}  # misspelt for the test that it is refused
    assert len(given) > 15
    assert given <= known()


def test_a_vars_file_that_names_no_variable_of_the_inventory_is_found() -> None:
    """What a role reads without a default would be refused in an inventory."""
    read = {
        name
        for path in ROOT.glob("roles/*/[tv]a*/*.yml")
        for name in re.findall(r"(?<!\w)(lifeboat_[a-z_]+)(?![\w.]*:)\b", path.read_text(encoding="utf-8"))
    }
    assert read - GROUPS <= known() | {name.split(".")[0] for name in (*RENAMED, *RENAMED.values())}


def test_the_repositories_of_the_play_are_those_of_its_hosts() -> None:
    bucket = {"type": "s3", "bucket": "b"}
    hosts = {
        "shop1": {"lifeboat_stack": "shop", "ansible_host": "10.0.0.1"},
        "wiki1": {"lifeboat_stack": "wiki", "ansible_host": "10.0.0.1", "lifeboat_repository": bucket},
        "other": {"ansible_port": 2222},
    }
    found = render(AGENT["__agent_places"], {"ansible_play_hosts_all": list(hosts), "hostvars": hosts})
    local = {"type": "local", "path": "/backup"}
    assert found == [
        {"host": "shop1", "machine": "10.0.0.1:22", "stack": "shop", "repository": local},
        {"host": "wiki1", "machine": "10.0.0.1:22", "stack": "wiki", "repository": bucket},
        {"host": "other", "machine": "other:2222", "stack": "", "repository": local},
    ]


def test_nothing_is_installed_before_the_inventory_was_looked_at() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/deploy.yml").read_text(encoding="utf-8"))
    assert [role["role"] for role in play["roles"]][:2] == ["lifeboat.dr.preflight", "lifeboat.dr.agent"]
    tasks = yaml.safe_load((ROOT / "roles/agent/tasks/main.yml").read_text(encoding="utf-8"))
    assert [task.get("ansible.builtin.import_tasks") for task in tasks][:2] == ["check.yml", "inventory.yml"]
    looked = yaml.safe_load((ROOT / "roles/agent/tasks/inventory.yml").read_text(encoding="utf-8"))
    modules = {"lifeboat.dr.stack_check_info", "ansible.builtin.debug"}
    assert {name for task in looked for name in task} - {"name", "when", "register"} == modules
