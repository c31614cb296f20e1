#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_instant
short_description: Take a backup of the databases as they were at an instant
version_added: 0.1.0
description:
  - The phase of a database recovery that goes back to an instant of which there is no backup, as planned by
    M(lifeboat.dr.database_plan_info).
  - A throw-away server without a network gets a base, and replays the WAL behind it exactly to the instant. Each
    database is dumped out of it, with a fingerprint. The application runs on, and nothing of the stack is touched.
  - Then the recovery is planned once more, with that backup.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.hold
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.scope
options:
  plan:
    description: What M(lifeboat.dr.database_plan_info) returned as RV(lifeboat.dr.database_plan_info#module:plan).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    details: Returns the plan that it was given, and takes no backup.
  diff_mode:
    support: full
    details: The id that was added.
"""

EXAMPLES = r"""
- name: Plan for an instant
  lifeboat.dr.database_plan_info:
    stack: shop
    before: app.items
  register: plan

- name: Take a backup of that instant, and plan with it
  lifeboat.dr.database_instant:
    stack: shop
    plan: "{{ plan.plan }}"
  register: stood
  when: plan.plan.replay is defined
"""

RETURN = r"""
id:
  description: The new backup.
  returned: success, except in check mode
  type: str
plan:
  description: The plan with that backup, as C(database_protect), C(database_restore) and C(evidence) take it.
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.database_instant import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
