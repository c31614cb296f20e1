#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_recover
short_description: Recover a stack's backend, smallest step first, each proved before the next
version_added: 0.1.0
description:
  - "Takes the steps of a plan: start the engine, restart the services, C(docker compose down) and C(up -d), free disk,
    go back to the image of a recovery point, put the files of the configuration backup back. Stops at the first that
    heals."
  - Ends with every service and every endpoint asked. No volume is removed; files, images and what containers wrote into
    their own layer are kept where a step replaces them.
  - A port that another process holds, a broken database or a broken object store are named and left alone; the module
    fails.
  - Internal to the role C(backend_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  plan:
    description: What M(lifeboat.dr.backend_plan_info) returned as C(plan).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    details: Says whether it would act.
  diff_mode:
    support: none
    details: The steps that were taken are returned.
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.backend_plan_info:
    stack: shop
  register: plan

- name: Recover
  lifeboat.dr.backend_recover:
    stack: shop
    plan: "{{ plan.plan }}"
  when: plan.needed
  register: recovered
"""

RETURN = r"""
mode:
  description: The step that healed, empty where none was needed.
  returned: success
  type: str
tried:
  description: Each step with its cause, its time, whether it healed, and the error it ended with.
  returned: when something was done
  type: list
  elements: dict
checks:
  description: Each service and each endpoint, and C(application) for all of them.
  returned: success
  type: list
  elements: dict
quarantine:
  description: Where what was replaced is kept.
  returned: when something was done
  type: str
way_back:
  description: Commands that undo a step which replaced something.
  returned: when something was done
  type: list
  elements: str
notes:
  description: What an operator should know of the steps.
  returned: success
  type: list
  elements: str
seconds:
  description: Seconds spent in each step.
  returned: when something was done
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.backend_recover import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
