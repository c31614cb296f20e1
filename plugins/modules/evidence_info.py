#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_info
short_description: Read the records of recoveries, drills and verifications
version_added: 0.1.0
description:
  - Returns every record that the host keeps of a stack, what is wrong with those that are not evidence, and what must
    be drilled how often.
  - M(lifeboat.dr.report) makes pages of it.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
"""

EXAMPLES = r"""
- name: Read the records
  lifeboat.dr.evidence_info:
    stack: shop
  register: evidence
"""

RETURN = r"""
evidence:
  description:
    - C(stack), C(scenarios) that can hit it, C(drill_age_days), C(proof_age_days), and C(records), each with C(id), the
      C(record) itself, C(problem) where it is not evidence, C(signature) and C(sha256).
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

from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import history
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run


@dataclass(frozen=True)
class Facts:
    evidence: object


def work(task: Task) -> Result:
    return Result(Facts(history.answer(task.config, store.everything(task.config))))


def main() -> None:
    run(work, {})


if __name__ == "__main__":
    main()
