#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: files_recover
short_description: Bring the files of an application back
version_added: 0.1.0
description:
  - Carries out what M(lifeboat.dr.files_plan_info) planned. The services that write there are stopped, what is missing
    or altered is written beside its place, compared with the backup and put there, and the services are started again.
  - "Nothing is lost: what is replaced is moved aside, into a directory beside it."
  - Killed at any step, the same plan made again goes on.
  - What is not as in the backup afterwards is a check with result C(FAIL), not an error. The caller decides.
  - Internal to the roles C(files_recovery) and C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.reopen
  - lifeboat.dr.stack.carries_out
options:
  plan:
    description: What M(lifeboat.dr.files_plan_info) returned as RV(lifeboat.dr.files_plan_info#module:plan).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Recover
  lifeboat.dr.files_recover:
    stack: shop
    plan: "{{ plan.plan }}"
  register: recovered
"""

RETURN = r"""
checks:
  description: What came back, source by source, as it was compared; then the services and the endpoints.
  returned: success
  type: list
  elements: dict
restored:
  description: How many entries came back, by source.
  returned: success
  type: dict
aside:
  description: Where what was replaced is now; empty where nothing was.
  returned: success
  type: list
  elements: str
way_back:
  description: Commands that put it back.
  returned: success
  type: list
  elements: str
bytes:
  description: Bytes that were written.
  returned: success
  type: int
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.files_recover import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
