#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: files_recover
short_description: Bring the files of an application back
version_added: 0.1.0
description:
  - Carries out what M(lifeboat.dr.files_plan) planned. The services that write there are stopped, what is missing or
    altered is written beside its place, compared with the backup and put there, and the services are started again.
  - "Nothing is lost: what is replaced is moved aside, into a directory beside it."
  - Killed at any step, the same plan made again goes on.
  - What is not as in the backup afterwards is a check with result C(FAIL), not an error. The caller decides.
  - Internal to the roles C(files_recovery) and C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  plan:
    description: What M(lifeboat.dr.files_plan) returned as RV(lifeboat.dr.files_plan#module:plan).
    type: dict
    required: true
  reopen:
    description: Start the services again that were stopped. False where none of them runs, and the caller starts them.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    details: Does nothing; the plan says what it would do.
  diff_mode:
    support: none
    details: The plan says it.
"""

EXAMPLES = r"""
- name: Recover
  lifeboat.dr.files_recover:
    stack: shop
    plan: "{{ plan.plan }}"
  register: recovered
"""

RETURN = r"""
checks:
  description: What came back, source by source, as it was compared; then the services and the endpoints.
  returned: success
  type: list
  elements: dict
restored:
  description: How many entries came back, by source.
  returned: success
  type: dict
aside:
  description: Where what was replaced is now; empty where nothing was.
  returned: success
  type: list
  elements: str
way_back:
  description: Commands that put it back.
  returned: success
  type: list
  elements: str
bytes:
  description: Bytes that were written.
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


from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.files import recovery as files_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.files.plan import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.site import granted
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened


def work(task: Task) -> Result:
    planned = task.plan(Plan, "files_plan")
    if task.check:
        return Result(files_recovery.Recovered(), changed=planned.needed)
    turn = recovery_state.own_turn(task.config, "recover the files", planned.stamp, planned.turn)
    hooked = hooks.continued(task.config, hooks.RECOVERY, "files", task.log)
    with lock.held(task.config.stack, "recover files", wait=60), turn, hooked:
        opened = granted.reached(Opened(task.config, task.params["identity"]))
        recovered = files_recovery.recover(opened, planned, reopens=task.params["reopen"], log=task.log)
    return Result(recovered, changed=True)


def main() -> None:
    run(
        work,
        {
            "plan": {"type": "dict", "required": True},
            **IDENTITY,
            "reopen": {"type": "bool", "default": True},
        },
    )


if __name__ == "__main__":
    main()
