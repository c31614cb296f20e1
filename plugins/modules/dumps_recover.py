#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dumps_recover
short_description: Bring the other database servers of a stack back
version_added: 0.1.0
description:
  - Carries out what M(lifeboat.dr.dumps_plan_info) planned. Each dump is restored into a fresh server of the same
    image, without a network, next to the living one, and compared with the facts that were taken with it. Only then the
    services that write there are stopped, and its data takes the place of the living server's.
  - "Nothing is lost: what is replaced is moved into quarantine."
  - Killed at any step, the same plan made again goes on.
  - What is not as in the backup afterwards is a check with result C(FAIL), not an error. The caller decides.
  - Internal to the roles C(dumps_recovery) and C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.reopen
  - lifeboat.dr.stack.carries_out
options:
  plan:
    description: What M(lifeboat.dr.dumps_plan_info) returned as RV(lifeboat.dr.dumps_plan_info#module:plan).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Recover
  lifeboat.dr.dumps_recover:
    stack: shop
    plan: "{{ plan.plan }}"
  register: recovered
"""

RETURN = r"""
checks:
  description: What came back, server by server, as it was compared; then the services and the endpoints.
  returned: success
  type: list
  elements: dict
restored:
  description: How many bytes of dump came back, by source.
  returned: success
  type: dict
quarantine:
  description: Where what was replaced is now, with commas between; empty where nothing was.
  returned: success
  type: str
way_back:
  description: Commands that put it back.
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.dumps_recover import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
