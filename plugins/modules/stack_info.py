#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
short_description: Read a running Compose project and draft the inventory of its stack
version_added: 0.1.0
description:
  - Recognises the database, the object store, the bucket, ports, health checks and secret files of a Compose project.
  - Names each mount of its services that no backup would hold, with the databases in it.
  - Takes names, addresses and paths over. The value of a password or a key is never returned. What a project does not
    tell is listed, not guessed.
options:
  project:
    description: The Compose project's name, as C(docker compose ls) has it. Empty means the only one there is.
    type: str
    default: ""
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
  - lifeboat.dr.stack.reads_only
requirements:
  - Docker Engine with the compose plugin
"""

EXAMPLES = r"""
- name: Read the project
  lifeboat.dr.stack_info:
    project: shop
  register: inspected

- name: Show the inventory
  ansible.builtin.debug:
    var: inspected.text
"""

RETURN = r"""
stack:
  description: The stack's name, taken from the project's.
  returned: success
  type: str
variables:
  description: The variables of the inventory.
  returned: success
  type: dict
later:
  description: Variables that are not complete without what is in RV(wanted).
  returned: success
  type: dict
unclear:
  description: What an operator has to check.
  returned: success
  type: list
  elements: str
wanted:
  description: What only the operator can provide.
  returned: success
  type: list
  elements: str
text:
  description: The file of the inventory, YAML. It is written where Ansible runs, from the other values.
  returned: success
  type: str
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
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import refuse
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import discover


def main() -> None:
    module = AnsibleModule(argument_spec={"project": {"type": "str", "default": ""}}, supports_check_mode=True)
    started = clock.start()
    try:
        found = discover.survey(module.params["project"])
    except LifeboatError as exc:
        refuse(module, exc, started)
    phase = typed.plain(started.phase())
    module.exit_json(changed=False, log=[], phase=phase, **typed.plain(found))


if __name__ == "__main__":
    main()
