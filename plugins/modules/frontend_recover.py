#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_recover
short_description: Bring a static site on GitHub Pages back, the smallest step first
version_added: 0.1.0
description:
  - "Carries out what M(lifeboat.dr.frontend_plan_info) planned: run the failed jobs again; build in a clean clone at
    the newest and at the last good commit; deploy the last good commit by a dispatch or a reverting commit; switch
    Pages on and set the custom domain again; publish the built site to the fallback."
  - After each step it waits until the public site serves the commit. The first step that heals is the last.
  - "Nothing is lost: the remote is never forced, no working copy is touched, and what lay in the fallback's directory
    is moved aside."
  - "A site that does not come back is a check with result C(FAIL), not an error: the caller decides."
  - Internal to the role C(frontend_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.stack.carries_out
options:
  plan:
    description: What M(lifeboat.dr.frontend_plan_info) returned as RV(lifeboat.dr.frontend_plan_info#module:plan).
    type: dict
    required: true
  token:
    description: GitHub's token. Empty takes C(github_token) of the stack's secrets. It is sent to the API's and the git
      remote's host only.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Recover
  lifeboat.dr.frontend_recover:
    stack: shop
    plan: "{{ plan.plan }}"
  register: recovered
"""

RETURN = r"""
mode:
  description: The step that healed; empty where none did.
  returned: success
  type: str
commit:
  description: The commit that the public site serves; empty where it is none that it should.
  returned: success
  type: str
tried:
  description: Each step with its result, its seconds and what was seen.
  returned: success
  type: list
  elements: dict
checks:
  description: The site, the fallback, the custom domain and the certificate, as they were seen at the end.
  returned: success
  type: list
  elements: dict
quarantine:
  description: Where the fallback's old files are now; empty when there were none or nothing was published.
  returned: success
  type: str
way_back:
  description: Commands that put the fallback's old files back.
  returned: success
  type: list
  elements: str
logs:
  description: The end of what the failing step of the workflow said.
  returned: success
  type: list
  elements: str
seconds:
  description: Seconds spent in each step.
  returned: success
  type: dict
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


from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import assess as frontend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import recovery as frontend_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend.plan import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.turn import changing
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY, Result, Task, run


def work(task: Task) -> Result:
    planned = task.plan(Plan, "frontend_plan_info")
    if task.check:
        return Result(frontend_recovery.Recovered(), changed=planned.needed)
    token = frontend_assess.token_of(task.config, task.params["token"])
    with changing(task.config, "frontend", planned.stamp, task.log, planned=planned.turn):
        changed, recovered = frontend_recovery.recover(
            Opened(task.config, task.params["identity"]), planned, token, log=task.log
        )
    return Result(recovered, changed)


def main() -> None:
    run(
        work,
        {
            "plan": {"type": "dict", "required": True},
            **IDENTITY,
            "token": {"type": "str", "default": "", "no_log": True},
        },
    )


if __name__ == "__main__":
    main()
