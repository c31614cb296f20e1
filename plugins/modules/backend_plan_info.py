#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backend_plan_info
short_description: Assess a stack's backend, name the likely cause, and plan its recovery
version_added: 0.1.0
description:
  - Reads only. Looks at the machine, the engine, every container, the Compose files, C(.env), the ports and the stores
    underneath; names the likely cause and every step with what would become of it.
  - Works with a broken compose file, without an engine, and for stacks of systemd units.
  - Internal to the role C(backend_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.accept
options:
  recovery_point:
    description: The configuration backup, or a recovery point's, that files would be put back from. V(latest) is the
      newest good one.
    type: str
    default: latest
  method:
    description: The step to begin with. V(auto) begins with the smallest that may heal what was found.
    type: str
    choices: [auto, restart, recreate, space, image, redeploy]
    default: auto
  force:
    description: Recover even where everything is well.
    type: bool
    default: false
  identity:
    description: The age identity that opens the secret files of the configuration backup, as text. Only whether there
      is one counts here.
  host:
    description: The host's name in the inventory, for the commands that are printed.
    type: str
    default: <host>
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.backend_plan_info:
    stack: shop
    host: "{{ inventory_hostname }}"
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as C(backend_recover) and C(evidence) take it.
  returned: success
  type: dict
needed:
  description: Whether there is anything to do.
  returned: success
  type: bool
blocked:
  description: Why no step of this recovery may mend it, empty where one may.
  returned: success
  type: str
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.backend_plan import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
