#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_fault
short_description: Break something for real, and prove that it broke
version_added: 0.1.0
description:
  - Breaks one component of the stack as the named fault does, and looks whether that took. B(The damage is real.)
  - Refuses a host that is not deployed with C(lifeboat_environment) C(drill).
  - The fault of a whole site is not this module's to do, as it would go with the machine. It then stops the writer and
    returns its ledger, so that it survives, and the clock begins.
  - Where the fault is one of continuous protection, what happens to that comes first, for minutes; the clock begins
    with the damage to the database.
  - Takes the stack's lock, for which it waits a minute, so that nothing breaks amid another run. A recovery that was
    planned before the fault ends without having done anything.
  - Internal to the role C(drill).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.scenario
options:
  fault:
    description: What is broken, by name; C(random) chooses at random; empty is the scenario's first. Some need
      continuous protection (C(lifeboat_wal)).
    type: str
    default: ""
  seed:
    description: The same seed draws the same lot.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Says what it would break.
  diff_mode:
    support: none
    details: What is broken has no before and after that could be shown.
"""

EXAMPLES = r"""
- name: Break it
  lifeboat.dr.drill_fault:
    stack: shop
    scenario: database
    fault: table_dropped
  register: fault
"""

RETURN = r"""
scenario:
  description: As given.
  returned: success
  type: str
fault:
  description: What was broken, in words.
  returned: success
  type: str
name:
  description: The fault's name.
  returned: success
  type: str
proof:
  description: What was seen of it afterwards.
  returned: success
  type: str
injected_at:
  description: When the clock began, UTC.
  returned: success
  type: str
monotonic:
  description: The same by the clock that no NTP bends, in seconds, and C(boot), whose clock that is.
  returned: success
  type: float
boot:
  description: Identifies the boot that C(monotonic) counts from.
  returned: success
  type: str
ledger:
  description: The writer's ledger, where the machine is about to go.
  returned: success
  type: str
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

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import SCENARIO, Result, Task, run


@dataclass(frozen=True)
class Facts:
    scenario: str
    fault: str
    name: str
    proof: str = ""
    ledger: str = ""
    injected_at: Optional[datetime] = None
    monotonic: Optional[float] = None
    boot: Optional[str] = None


def work(task: Task) -> Result:
    seed = task.params["seed"]
    chosen = fault.choose(task.config, task.params["scenario"], task.params["fault"], seed)
    fault.refuse_elsewhere(task.config)
    fault.refuse_absent(task.config, task.params["scenario"])
    facts = Facts(task.params["scenario"], chosen.description, chosen.name)
    if task.check:
        return Result(facts, changed=True)
    kept = proof = ""
    if chosen.inject is None:
        ledger.stop(task.config)
        kept = ledger.path_of(task.config).read_text(encoding="utf-8")
        at = clock.start()
    else:
        opened = Opened(task.config)
        # What comes before the damage waits for bases and notes, which the lock would keep from being taken.
        prepared = fault.prepared(opened, chosen, task.log)
        with prepared as before, lock.held(task.config.stack, "drill", wait=60), _turn(task):
            at = clock.start()
            proof = fault.inject(opened, chosen, seed, log=task.log)
        proof = "; ".join(filter(None, [before, proof]))
    facts = replace(facts, proof=proof, ledger=kept, injected_at=at.started_at, monotonic=at.monotonic, boot=at.boot)
    return Result(facts, changed=True)


def _turn(task: Task) -> AbstractContextManager[None]:
    """What is broken now was whole when anybody's plan was made."""
    number = recovery_state.turn(task.config).number
    return recovery_state.own_turn(task.config, "a drill's fault", clock.stamp(task.now), number)


def main() -> None:
    run(
        work,
        {
            **SCENARIO,
            "fault": {"type": "str", "default": ""},
            "seed": {"type": "str", "default": ""},
        },
    )


if __name__ == "__main__":
    main()
