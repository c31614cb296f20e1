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
  - The protect phase of a bucket's recovery, as planned by M(lifeboat.dr.objects_plan_info).
  - "A server that is down is started first: if it comes up with its objects, nothing needs to be restored. Otherwise,
    and where it takes no objects, its data directory is moved aside, never deleted, and a fresh server is started."
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  plan:
    description: What M(lifeboat.dr.objects_plan_info) returned as RV(lifeboat.dr.objects_plan_info#module:plan).
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.objects_protect import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
