#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checklist_info
short_description: Work through a checklist of operation, maintenance or an incident
version_added: 0.1.0
description:
  - Makes every check of one list and says of each line what was seen and what it may be; changes nothing.
  - A line that could not be checked is C(COULD_NOT_VERIFY), and one that only a person can tick is C(BY_HAND). Neither
    passes.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
options:
  period:
    description: Which list.
    type: str
    choices: [daily, weekly, monthly, quarterly, incident]
    default: daily
  ahead_days:
    description:
      - Look at it as after so many days without a backup too. Each line is then the worse of the two, so that a look
        ahead can turn none green.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Work through the weekly list
  lifeboat.dr.checklist_info:
    stack: shop
    period: weekly
  register: list

- name: Stop where a line of it is red
  ansible.builtin.assert:
    that: list.verdict == 'PASS'
"""

RETURN = r"""
verdict:
  description: C(FAIL) where a line failed, else C(COULD_NOT_VERIFY) where one could not be checked, else C(PASS).
  returned: success
  type: str
lines:
  description: Every line with C(box), the line of the operator's list it is a part of, C(name), C(result), C(seen) and
    C(limit).
  returned: success
  type: list
  elements: dict
text:
  description: The list as lines of text.
  returned: success
  type: list
  elements: str
markdown:
  description: The list as Markdown.
  returned: success
  type: str
html:
  description: The list as one page of HTML.
  returned: success
  type: str
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    checklist as operations_checklist,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    checklist_line,
)


@dataclass(frozen=True)
class Facts:
    verdict: str
    lines: Sequence[object]
    text: Sequence[str]
    markdown: str
    html: str


def work(task: Task) -> Result:
    ahead = operations_checklist.ahead_of(task.params["ahead_days"])
    made = operations_checklist.work_through(Opened(task.config), task.params["period"], now=task.now, ahead=ahead)
    return Result(
        Facts(
            verdict=made.verdict,
            lines=made.lines,
            text=checklist_line.text(made),
            markdown=checklist_line.markdown(made),
            html=checklist_line.page(made),
        )
    )


def main() -> None:
    run(
        work,
        {
            "period": {"type": "str", "choices": list(operations_checklist.PERIODS), "default": "daily"},
            "ahead_days": {"type": "float", "default": 0},
        },
    )


if __name__ == "__main__":
    main()
