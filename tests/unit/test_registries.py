# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registries of components and scenarios: YAML says what they say, and no other code lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.doc_fragments.options import ModuleDocFragment
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.components import COMPONENTS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


# --- what is written down, and what the registries say ---


def test_a_component_has_what_is_done_with_it() -> None:
    assert list(COMPONENTS) == list(KINDS)
    for scenario in SCENARIOS.values():
        assert scenario.component in ("", *scope.ASSESS), "it can be assessed by itself"
    assert [scenario.component for scenario in SCENARIOS.values() if scenario.component] == list(scope.ASSESS)
    assert set(scope.ASSESS) <= set(KINDS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_what_recovers_it(name: str) -> None:
    scenario = SCENARIOS[name]
    (play,) = load(f"playbooks/{scenario.playbook}.yml")
    assert play["roles"][1]["role"] == f"lifeboat.dr.{name}_recovery"
    for folder in ("docs", "docs/ja"):
        assert (ROOT / folder / f"{scenario.runbook}.md").is_file()
    assert [known.name for known in fault.FAULTS[name]] == list(scenario.faults)


def test_the_words_of_the_specifications_are_those_of_the_registries() -> None:
    options = yaml.safe_load(ModuleDocFragment.SCENARIO)["options"]
    assert options["scenario"]["choices"] == list(SCENARIOS)
    spec = load("roles/drill/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert spec["drill_scenario"]["choices"] == ["all", *SCENARIOS]
    described = ", ".join(f"C({name})" for name in SCENARIOS)
    targets = load("roles/agent/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["agent_targets"]
    assert described in targets["description"]
    recover = load("roles/drill/tasks/recover.yml")[1]["vars"]
    assert list(recover) == [f"{name}_recovery_{what}" for name in SCENARIOS for what in ("confirm", "reason")]
