#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects_protect
short_description: Stop the writers and see to a server that can be filled
version_added: 0.1.0
description:
  - The protect phase of a bucket's recovery, as planned by M(lifeboat.dr.objects_plan).
  - "A server that is down is started first: if it comes up with its objects, nothing needs to be restored. Otherwise,
    and where it takes no objects, its data directory is moved aside, never deleted, and a fresh server is started."
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  plan:
    description: What M(lifeboat.dr.objects_plan) returned as RV(lifeboat.dr.objects_plan#module:plan).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    details: Returns what it would do by the plan.
  diff_mode:
    support: none
    details: The plan says it.
"""

EXAMPLES = r"""
- name: Protect
  lifeboat.dr.objects_protect:
    stack: shop
    plan: "{{ plan.plan }}"
  register: protected
"""

RETURN = r"""
mode:
  description: V(fill), V(rebuild), or V(started) when the server came up whole.
  returned: success
  type: str
fresh:
  description: Whether the server is a new, empty one.
  returned: success
  type: bool
quarantine:
  description: Where the old data directory lies now; empty when it was not moved.
  returned: success
  type: str
checks:
  description: What was looked at where the server came up whole, so that nothing is restored.
  returned: success
  type: list
  elements: dict
way_back:
  description: Commands that put the old data back.
  returned: success
  type: list
  elements: str
stopped:
  description: The services that were stopped.
  returned: success
  type: list
  elements: str
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.site import granted
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.plan import Plan


@dataclass(frozen=True)
class Foreseen:
    mode: str
    fresh: bool
    stopped: Sequence[str]
    quarantine: str = ""
    way_back: Sequence[str] = ()
    checks: Sequence[Check] = ()


def work(task: Task) -> Result:
    planned = task.plan(Plan, "objects_plan")
    if task.check:
        return Result(Foreseen(planned.mode, planned.mode == "rebuild", planned.writers), changed=True)
    opened = granted.reached(Opened(task.config, task.params["identity"]))
    turn = recovery_state.own_turn(task.config, "recover the objects", planned.stamp, planned.turn)
    hooked = hooks.continued(task.config, hooks.RECOVERY, "objects", task.log)
    with lock.held(task.config.stack, "recover objects", wait=60), turn, hooked:
        return Result(objects_recovery.protect(opened, planned, log=task.log), changed=True)


def main() -> None:
    run(work, {"plan": {"type": "dict", "required": True}, **IDENTITY})


if __name__ == "__main__":
    main()
