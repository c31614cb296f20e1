#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_phase
short_description: Remember how far the recovery of a site came
version_added: 0.1.0
description:
  - Ends the phase that runs, with what it found, and begins the next. A run that was killed is gone on with from there,
    and the clock of the evidence runs from the first of its runs.
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  begin:
    description: The phase that begins. Empty only ends the one that runs.
    type: str
    default: ""
  recovery_point:
    description: The recovery point that the site is recovered to.
    type: str
    required: true
  recovery_time:
    description: The instant behind the point that it is recovered to, as C(plan.way) of M(lifeboat.dr.site_plan_info)
      has it. Read at the beginning of a recovery only.
    type: str
    default: ""
  before:
    description: The like, as a position in the WAL.
    type: str
    default: ""
  timeline:
    description: The timeline that leads there.
    type: int
    default: 0
  facts:
    description: What is worth keeping of the phase that ends.
    type: dict
    default: {}
  checks:
    description: What the phase that ends has checked. It counts as done by this.
    type: list
    elements: dict
    default: []
  rehearsal:
    description: The recovery is a rehearsal.
    type: bool
    default: false
  since:
    description:
      - When the assessment began that led to this recovery, as RV(lifeboat.dr.site_plan_info#module:phase) says.
    type: str
    default: ""
  finished:
    description: The recovery has come to its end.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Remembers nothing.
  diff_mode:
    support: none
    details: Only what the host remembers changes.
"""

EXAMPLES = r"""
- name: Begin
  lifeboat.dr.site_phase:
    stack: shop
    begin: build
    recovery_point: "20261124_033000"
"""

RETURN = r"""
phases:
  description: The phases so far, as M(lifeboat.dr.evidence) takes them.
  returned: success
  type: list
  elements: dict
checks:
  description: What they checked.
  returned: success
  type: list
  elements: dict
finished:
  description: Whether this call ended the recovery.
  returned: success
  type: bool
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.site import state as site_state


@dataclass(frozen=True)
class Facts:
    phases: Sequence[object]
    checks: Sequence[object]
    finished: bool = False


def work(task: Task) -> Result:
    given = task.params
    if task.check:
        return Result(Facts((), ()), changed=True)
    found = site_state.begin(
        task.config,
        given["begin"],
        site_state.Goal(
            given["recovery_point"],
            given["rehearsal"],
            (given["recovery_time"], given["before"], given["timeline"]),
        ),
        finished=given["finished"],
        since=given["since"],
        facts=given["facts"],
        checks=given["checks"],
        now=task.now,
    )
    ended = [phase for phase in found.phases if phase.finished_at]
    return Result(Facts(ended, site_state.checks_of(found), given["finished"]), changed=True)


def main() -> None:
    run(
        work,
        {
            "begin": {"type": "str", "default": ""},
            "recovery_point": {"type": "str", "required": True},
            "recovery_time": {"type": "str", "default": ""},
            "before": {"type": "str", "default": ""},
            "timeline": {"type": "int", "default": 0},
            "facts": {"type": "dict", "default": {}},
            "checks": {"type": "list", "elements": "dict", "default": []},
            "rehearsal": {"type": "bool", "default": False},
            "since": {"type": "str", "default": ""},
            "finished": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
