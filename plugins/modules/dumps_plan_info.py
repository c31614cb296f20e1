#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dumps_plan_info
short_description: Assess the other database servers of a stack and plan their recovery
version_added: 0.1.0
description:
  - Reads only, but for O(hold). Compares the servers of C(lifeboat_dumps) with the facts that were taken with a dump.
  - Says which of them does not answer or lacks something, which backup would be used and why, and every step.
  - Without a recovery point a server is restored only where it does not answer, or where something is missing. What was
    written after the backup is somebody's work, and stays unless the state of then is asked for.
  - Fails when no recovery is possible, before anything is touched.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.stack.reads_only
  - lifeboat.dr.options.target
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.hold
options:
  sources:
    description: Only these, by their names in C(lifeboat_dumps). Empty means all.
    type: list
    elements: str
    default: []
  force:
    description: Restore also what is healthy, or was recovered to that backup before.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.dumps_plan_info:
    stack: shop
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as C(dumps_recover) and C(evidence) take it.
  returned: success
  type: dict
needed:
  description: Whether there is anything to do.
  returned: success
  type: bool
text:
  description: The plan as lines of text.
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.dumps_plan import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
