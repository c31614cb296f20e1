#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_reopen
short_description: Start a stack's services and see that it serves
version_added: 0.1.0
description:
  - Opens the database to logins, where a recovery that was killed left it closed.
  - Starts the services, waits for their health checks, and asks the endpoints of the configuration until they answer as
    expected or the time is up.
  - "What is wrong is a check with result C(FAIL), not an error: the caller decides."
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  services:
    description: The services to start, in addition to the database itself.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    details: Starts nothing and asks nothing.
  diff_mode:
    support: none
    details: Only the state of services changes.
"""

EXAMPLES = r"""
- name: Reopen
  lifeboat.dr.stack_reopen:
    stack: shop
    services: [backend]
  register: reopened
"""

RETURN = r"""
verdict:
  description: C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: success
  type: str
checks:
  description: Each service and each endpoint with what was seen.
  returned: success
  type: list
  elements: dict
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.stack_reopen import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
