#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Record what a recovery did and whether it is proved
version_added: 0.1.0
description:
  - Puts the plan, the timeline and the checks of a recovery together, draws the verdict, and keeps the record on the
    host.
  - Runs what the hooks of the recovery (C(lifeboat_hooks)) have after it, and has a check of each in the record.
  - docs/schema/evidence-1.json describes the record. It is signed where C(lifeboat_evidence.signing_key) names a key.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  scenario:
    description: Which recovery this was.
    type: str
    required: true
  plan:
    description: What M(lifeboat.dr.database_plan_info) returned.
    type: dict
    required: true
  phases:
    description:
      - The phases in order, each with C(name), C(started_at), C(finished_at) and what is worth keeping of it.
      - C(monotonic) and C(boot), which modules return in C(phase), make its duration independent of the clock being
        set. C(log) is kept in a file next to the record, which has its hash.
    type: list
    elements: dict
    required: true
  checks:
    description: The checks that modules returned.
    type: list
    elements: dict
    default: []
  reason:
    description: Why the operator recovered.
    type: str
    default: ""
  operator:
    description: The operator.
    type: str
    default: ""
  error:
    description: The error that stopped the recovery, empty when none did.
    type: str
    default: ""
  commit:
    description: The commit of the playbooks or of the application that was recovered, where known.
    type: str
    default: ""
  untested:
    description: What was not tested, each with C(what) and C(why), in addition to what is known to be left out.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
    details: Returns the record and does not keep it.
  diff_mode:
    support: none
    details: Each record is a new file.
"""

EXAMPLES = r"""
- name: Record
  lifeboat.dr.evidence:
    stack: shop
    scenario: database
    plan: "{{ plan.plan }}"
    phases: "{{ phases }}"
    checks: "{{ restored.checks + reopened.checks }}"
  register: evidence
"""

RETURN = r"""
record:
  description: The record itself.
  returned: success
  type: dict
verdict:
  description: C(PASS), C(FAIL), C(COULD_NOT_VERIFY) or C(ABORTED).
  returned: success
  type: str
path:
  description: Where the host keeps it.
  returned: success
  type: str
signature:
  description: C(unsigned), or C(signed, not checked).
  returned: success
  type: str
text:
  description: The record as lines of text.
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.evidence import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
