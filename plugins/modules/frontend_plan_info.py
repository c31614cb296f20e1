#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: frontend_plan_info
short_description: Assess a static site on GitHub Pages and plan its recovery
version_added: 0.1.0
description:
  - "Reads only. Looks at the public site and the commit it serves, its certificate and custom domain, the git remote,
    GitHub Pages, and the last workflow run with the end of what its failing step said."
  - "Says why the site is not served as it should be: C(transient), C(build broken), C(configuration), C(deploying), or
    C(GitHub cannot be asked); and every step that would be taken, smallest first."
  - Fails when nothing can be done, before anything is touched.
  - Internal to the role C(frontend_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
options:
  token:
    description: GitHub's token. Empty takes C(github_token) of the stack's secrets. It is sent to the API's and the git
      remote's host only.
    type: str
    default: ""
  method:
    description:
      - V(auto) takes the steps that the cause asks for. The others take one only, where anything is to be done.
      - V(revert) brings the last good commit back by a commit on top of the branch, even where the workflow could be
        dispatched for it.
    type: str
    choices: [auto, rerun, redeploy, revert, fallback]
    default: auto
  force:
    description: Recover even where the site is served as it should be.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.frontend_plan_info:
    stack: shop
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as C(frontend_recover) and C(evidence) take it.
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import (
    assess as frontend_assess,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import (
    plan as frontend_plan,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks


@dataclass(frozen=True)
class Planned:
    plan: object  # a Plan, the fields without a value too
    needed: bool
    text: Sequence[str]


def work(task: Task) -> Result:
    given = task.params
    token = frontend_assess.token_of(task.config, given["token"])
    made = frontend_plan.make(task.config, token, force=given["force"], method=given["method"], log=task.log)
    text = frontend_plan.text(made, task.config.frontend)
    if made.needed:
        text += hooks.planned(task.config)
    return Result(Planned(plain(made, nulls=True), made.needed, text))


def main() -> None:
    run(
        work,
        {
            "token": {"type": "str", "default": "", "no_log": True},
            "method": {
                "type": "str",
                "choices": ["auto", "rerun", "redeploy", "revert", "fallback"],
                "default": "auto",
            },
            "force": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
