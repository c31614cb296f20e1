#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_protect
short_description: Stop the writers and put damaged data aside
version_added: 0.1.0
description:
  - The protect phase of a database recovery, as planned by M(lifeboat.dr.database_plan).
  - Runs first what the recovery's hooks (C(lifeboat_hooks)) have before it; M(lifeboat.dr.evidence) runs what they have
    after.
  - Services and containers of C(docker compose run) are stopped. Then the database that will be replaced is closed to
    logins, and the sessions that are left in it are ended. M(lifeboat.dr.database_restore) opens it again, or, after a
    run that was killed, M(lifeboat.dr.stack_reopen).
  - "A server that is down is started first: if it comes up with its data, nothing needs to be restored. Otherwise its
    data directory is moved aside, never deleted, and a fresh server is started."
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  plan:
    description: What M(lifeboat.dr.database_plan) returned as RV(lifeboat.dr.database_plan#module:plan).
    type: dict
    required: true
  reopen:
    description: Where the server came up whole, start the writers again, as M(lifeboat.dr.stack_reopen) does.
    type: bool
    default: false
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
  lifeboat.dr.database_protect:
    stack: shop
    plan: "{{ plan.plan }}"
  register: protected
"""

RETURN = r"""
mode:
  description: V(swap), V(rebuild), or V(started) when the server came up whole.
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
  returned: when RV(mode) is V(started)
  type: list
  elements: dict
stopped:
  description: The services and the containers of C(docker compose run) that were stopped.
  returned: when any had to be
  type: list
  elements: str
notes:
  description: The sessions of other clients that were ended, one line each.
  returned: success
  type: list
  elements: str
way_back:
  description: Commands that put the old data back.
  returned: success
  type: list
  elements: str
replaced:
  description:
    - The databases to restore, as O(plan) names them. Empty where the server is a fresh one, which gets every database
      of the backup.
  returned: success
  type: list
  elements: str
copied:
  description: Where databases were copied to that the backup does not hold; empty where none were.
  returned: success
  type: str
databases:
  description: What became of databases that are not restored, each with C(name), C(action) and C(why).
  returned: success
  type: list
  elements: dict
reopened:
  description: What M(lifeboat.dr.stack_reopen) returns. C(phase) and C(log) are then of what came before it.
  returned: when O(reopen) and RV(mode) is V(started)
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.module import reopened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run


@dataclass(frozen=True)
class Foreseen:
    mode: str
    fresh: bool
    stopped: Sequence[str]
    quarantine: str = ""
    way_back: Sequence[str] = ()
    replaced: Sequence[str] = ()
    copied: str = ""
    databases: Sequence[str] = ()


def work(task: Task) -> Result:
    planned = task.plan(Plan, "database_plan")
    if task.check:
        return Result(
            Foreseen(
                "swap" if planned.mode == "fill" else planned.mode,
                planned.mode in ("rebuild", "fill"),
                (*planned.writers, *planned.one_offs),
                replaced=planned.replaced,
            ),
            changed=True,
        )
    opened = Opened(task.config)
    turn = recovery_state.own_turn(task.config, "recover the database", planned.stamp, planned.turn)
    hooked = hooks.continued(task.config, hooks.RECOVERY, "database", task.log)
    with lock.held(task.config.stack, "recover database", wait=60), turn, hooked:
        done = database_protect.protect(opened, planned, log=task.log)
    if task.params["reopen"] and done.mode == "started":
        return Result(reopened.after(task, opened, done, planned.writers), changed=True)
    return Result(done, changed=True)


def main() -> None:
    run(work, {"plan": {"type": "dict", "required": True}, "reopen": {"type": "bool", "default": False}})


if __name__ == "__main__":
    main()
