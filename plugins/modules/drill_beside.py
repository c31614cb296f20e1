#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_beside
short_description: Rehearse a recovery next to production, and prove that production did not notice
version_added: 0.1.0
description:
  - Restores the newest backup of a component into something of its own (a throw-away PostgreSQL, a scratch bucket),
    compares it with what the backup promises, and removes it. Nothing of the stack is stopped, changed or broken.
  - Containers, volumes, databases and the project's files are looked at before and after; a difference is C(FAIL).
  - Keeps the record as one of kind C(drill).
  - Internal to the role C(drill).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.drill
options:
  scenario:
    description: What is rehearsed. The others cannot be without breaking something.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    details: Restores nothing, and returns no record.
  diff_mode:
    support: none
    details: Nothing of the stack changes; each record is a new file.
"""

EXAMPLES = r"""
- name: Rehearse the database's recovery on the production host
  lifeboat.dr.drill_beside:
    stack: shop
    scenario: database
"""

RETURN = r"""
record:
  description: The record, as docs/schema/evidence-1.json describes it.
  returned: success, not in check mode
  type: dict
verdict:
  description: C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: success
  type: str
path:
  description: Where the host keeps it.
  returned: success, not in check mode
  type: str
text:
  description: The record as lines of text.
  returned: success
  type: list
  elements: str
rows:
  description: A table of drills, O(rows) and this one, as M(lifeboat.dr.drill_end) returns it.
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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import drill as evidence_drill
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema, store
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import DRILL, Result, Task, run


@dataclass(frozen=True)
class Facts:
    verdict: str
    text: Sequence[str]
    rows: Sequence[object]
    record: Optional[object] = None
    path: Optional[str] = None


def work(task: Task) -> Result:
    given, config = task.params, task.config
    scenario, rows = given["scenario"], given["rows"]
    if task.check:
        return Result(Facts(checks.COULD_NOT_VERIFY, (), rows))
    with (
        hooks.running(config, hooks.DRILL, task.log) as hooked,
        hooked.around(SCENARIOS[scenario].component or scenario),
    ):
        record = beside.rehearse(
            Opened(config), scenario, reason=given["reason"], operator=given["operator"],
            target=given["target_seconds"] or config.target(scenario), log=task.log,
        )  # fmt: skip
    path, record = store.write(config, record, say=task.log)
    store.sign(config, path, task.log)
    hooked.refuse_problems()
    rows = [*rows, evidence_drill.row(record, "none: beside")]
    facts = Facts(record.verdict, evidence_record.lines(record), rows, schema.plain(record), str(path))
    return Result(facts, changed=True)


def main() -> None:
    run(work, {"scenario": {"type": "str", "required": True}, **DRILL})


if __name__ == "__main__":
    main()
