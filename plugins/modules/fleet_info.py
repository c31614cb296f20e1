#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: List the state of many stacks, worst first
version_added: 0.1.0
description:
  - One table and one verdict of all stacks; that of the worst. What was not asked, or cannot be read, is
    C(COULD_NOT_VERIFY), never C(PASS); so are no stacks at all.
  - A host's verdict is not believed - it follows from the checks that it returned.
  - Meant for the controller, after M(lifeboat.dr.backup_info) on the hosts.
options:
  hosts:
    description:
      - Of each stack C(host), its name; C(stack); and what M(lifeboat.dr.backup_info) returned as C(status), or
        C(problem), why it is not known.
      - C(keeper), what C(lifeboat keeper status --json) said on the stack's keeper, where it has one.
    type: list
    elements: dict
    required: true
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
  - lifeboat.dr.stack.reads_only
"""

EXAMPLES = r"""
- name: Weigh all stacks
  lifeboat.dr.fleet_info:
    hosts:
      - host: shop1
        stack: shop
        status:
          checks:
            - {name: newest backup, result: PASS, detail: 2.0 h old, measured: 2.0}
      - host: shop2
        stack: blog
        problem: it was not reached
  register: fleet
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: C(FAIL), C(COULD_NOT_VERIFY) or C(PASS); the worst of all.
  returned: success
  type: str
summary:
  description: How many stacks have which verdict.
  returned: success
  type: str
  sample: "100 stacks: 2 FAIL, 1 COULD NOT VERIFY, 97 PASS"
stacks:
  description: Each with C(host), C(stack), C(verdict) and C(words), what is wrong; worst first.
  returned: success
  type: list
  elements: dict
table:
  description: The same as lines of text.
  returned: success
  type: list
  elements: str
log:
  description: Always empty.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import fleet


def main() -> None:
    module = AnsibleModule(
        argument_spec={"hosts": {"type": "list", "elements": "dict", "required": True}}, supports_check_mode=True
    )
    started = clock.start()
    lines = fleet.judge(module.params["hosts"])
    module.exit_json(
        changed=False,
        verdict=fleet.verdict(lines),
        summary=fleet.summary(lines),
        stacks=[
            {"host": line.host, "stack": line.stack, "verdict": line.verdict, "words": line.explanation}
            for line in lines
        ],
        table=fleet.text(lines),
        log=[],
        phase=typed.plain(started.phase()),
    )


if __name__ == "__main__":
    main()
