#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_scope_info
short_description: Report what of a stack is on a machine, and which recovery it needs
version_added: 0.1.0
description:
  - Reads only. Works on a machine that has nothing, and on one where the stack is half dead.
  - A machine on which the stack was deployed is looked at with its own configuration, not with O(settings).
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
"""

EXAMPLES = r"""
- name: See what is left of the stack
  lifeboat.dr.site_scope_info:
    stack: shop
  register: seen

- name: Show it
  ansible.builtin.debug:
    var: seen.text
"""

RETURN = r"""
scope:
  description: >-
    C(running) and C(stopped) services, or why they are C(unknown), C(components) with condition, findings and the
    scenario that mends them, the C(machine), and what a C(recovery) of the site left there.
  returned: success
  type: dict
text:
  description: The same as lines of text.
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.site import scope


@dataclass(frozen=True)
class Facts:
    scope: object
    text: Sequence[str]


def work(task: Task) -> Result:
    own = (config.DIRECTORY / f"{task.config.stack}.json").exists()
    found = scope.assess_host(Opened(config.load(task.config.stack) if own else task.config), deep=True, log=task.log)
    return Result(Facts(typed.plain(found, nulls=True), scope.described(found.host, found)))


def main() -> None:
    run(work, {})


if __name__ == "__main__":
    main()
