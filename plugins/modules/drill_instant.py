#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_instant
short_description: Find the instant just before a drill's fault
version_added: 0.1.0
description:
  - Does what an operator does before the recovery of a server that lives and has lost data, as C(lifeboat when)
    does it. First what was received of the write-ahead log is sent to the repository, which else the timer does.
  - Returns nothing where the stack has no continuous protection (C(lifeboat_wal)), and for a fault after which the
    recovery names no instant. Fails where the log does not name the loss.
  - Where objects are followed (C(lifeboat_objects.changes_seconds)) it looks at them once more.
  - Internal to the role C(drill).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.scenario
options:
  fault:
    description: What M(lifeboat.dr.drill_fault) returned.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    details: Looks for nothing, as nothing was broken.
  diff_mode:
    support: none
    details: Nothing of the stack changes.
"""

EXAMPLES = r"""
- name: Find the instant before it
  lifeboat.dr.drill_instant:
    stack: shop
    scenario: database
    fault: "{{ fault }}"
  register: loss
"""

RETURN = r"""
scenario:
  description: As given.
  returned: success
  type: str
loss:
  description:
    - "Empty where no instant is to be named. Else C(what) was done to which C(names), by which C(transaction) of which
      C(timeline), C(at) what time; C(before) is its position, and C(command) what an operator pastes."
  returned: success
  type: dict
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

from dataclasses import dataclass
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import instant
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.drill import Injected, Loss
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import SCENARIO, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened


@dataclass(frozen=True)
class Facts:
    scenario: str
    loss: object


def wrong(where: str, cause: str) -> LifeboatError:
    return UsageError("find the instant before the fault", where, cause)


def work(task: Task) -> Result:
    scenario = task.params["scenario"]
    broke = typed.build(Injected, task.params["fault"], wrong, "fault", unknown="ignore")
    loss: Optional[Loss] = None
    if not task.check and broke.injected_at and instant.named(task.config, scenario, broke.name):
        loss = instant.find(Opened(task.config), broke.fault, broke.injected_at, log=task.log)
    return Result(Facts(scenario, typed.plain(loss) if loss else {}))


def main() -> None:
    run(work, {**SCENARIO, "fault": {"type": "dict", "required": True}})


if __name__ == "__main__":
    main()
