#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_begin
short_description: See that a stack is well, and start the writer of a drill
version_added: 0.1.0
description:
  - Refuses a host that is not deployed with C(lifeboat_environment) C(drill), and a fault that the scenario does not
    have.
  - Asks the endpoints of the configuration, makes each business transaction once and reads it back.
  - Then a writer makes them again and again, and keeps a ledger outside the stack of what was acknowledged, until
    M(lifeboat.dr.drill_end) or M(lifeboat.dr.drill_fault) stops it.
  - Runs what the drill's hooks (C(lifeboat_hooks)) have before it; M(lifeboat.dr.drill_end) runs what they have after.
  - Internal to the role C(drill).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.scenario
options:
  fault:
    description: What will be broken, by name; C(random) chooses at random; empty is the scenario's first.
    type: str
    default: ""
  seed:
    description: The same seed draws the same lot.
    type: str
    default: ""
  agent_path:
    description: Where the command is installed that the writer runs.
    type: path
    default: /usr/local/bin/lifeboat
attributes:
  check_mode:
    support: full
    details: Asks the endpoints, and neither makes a transaction nor starts the writer.
  diff_mode:
    support: none
    details: Nothing of the stack changes but what a user would write.
"""

EXAMPLES = r"""
- name: Begin
  lifeboat.dr.drill_begin:
    stack: shop
    scenario: database
  register: began
"""

RETURN = r"""
scenario:
  description: As given.
  returned: success
  type: str
fault:
  description: C(name) and C(words) of what will be broken.
  returned: success
  type: dict
steady_state:
  description: What held, in words.
  returned: success
  type: str
target_seconds:
  description: What the strategy gives the scenario.
  returned: success
  type: int
log:
  description: What was done, line by line, as also written to the journal.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

from dataclasses import dataclass, field

from ansible_collections.lifeboat.dr.plugins.module_utils.drill import drill
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import SCENARIO, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks


@dataclass(frozen=True)
class Chosen:
    name: str
    description: str = field(metadata={"json": "words"})


@dataclass(frozen=True)
class Facts:
    scenario: str
    fault: Chosen
    steady_state: str
    target_seconds: int


def work(task: Task) -> Result:
    scenario = task.params["scenario"]
    chosen = fault.choose(task.config, scenario, task.params["fault"], task.params["seed"])
    fault.refuse_elsewhere(task.config)
    fault.refuse_absent(task.config, scenario)
    if task.check:
        words = "; ".join(f"{check.name}: {check.detail}" for check in drill.steady(task.config, scenario))
    else:
        with hooks.continued(task.config, hooks.DRILL, SCENARIOS[scenario].component, task.log):
            words = drill.begin(task.config, scenario, task.params["agent_path"], log=task.log)
    facts = Facts(scenario, Chosen(chosen.name, chosen.description), words, task.config.target(scenario))
    return Result(facts, changed=not task.check)


def main() -> None:
    run(
        work,
        {
            **SCENARIO,
            "fault": {"type": "str", "default": ""},
            "seed": {"type": "str", "default": ""},
            "agent_path": {"type": "path", "default": "/usr/local/bin/lifeboat"},
        },
    )


if __name__ == "__main__":
    main()
