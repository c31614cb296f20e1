#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_plan_info
short_description: Assess a stack's database and plan its recovery
version_added: 0.1.0
description:
  - Reads only, but for O(hold).
  - Says what is wrong, which backup would be used and why, what happens to each database of the server,
    and every step that would be taken.
  - Fails when no recovery is possible, before anything is touched.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
  - lifeboat.dr.options.target
  - lifeboat.dr.options.instant
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.hold
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.scope
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.database_plan_info:
    stack: shop
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as C(database_protect), C(database_restore) and C(evidence) take it.
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.database_plan import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
