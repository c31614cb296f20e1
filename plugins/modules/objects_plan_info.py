#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects_plan_info
short_description: Assess a stack's bucket and plan its recovery
version_added: 0.1.0
description:
  - Reads only, but for O(hold).
  - Says what is wrong, which backup would be used and why, and every step that would be taken.
  - Fails when no recovery is possible, before anything is touched. So it does when the vault no longer has what is
    needed.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.stack.reads_only
  - lifeboat.dr.options.target
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.hold
options:
  force:
    description: Recover even where the bucket is healthy and already what was asked for.
    type: bool
    default: false
  method:
    description:
      - V(auto) chooses. V(fill) copies back what is missing or wrong into a living server. V(rebuild) quarantines the
        data directory and starts from an empty one.
    type: str
    choices: [auto, fill, rebuild]
    default: auto
  prefix:
    description: Only the objects whose keys begin so. No pattern.
    type: str
    default: ""
  exact:
    description: Put objects aside that the backup does not know. Without it they stay.
    type: bool
    default: false
  partial:
    description: Recover what can be, where the vault no longer has all of it.
    type: bool
    default: false
  bucket:
    description: Only this bucket of the store, in a server that lives. Empty means all that backups hold.
    type: str
    default: ""
  others:
    description:
      - What a rebuild does with the store's buckets besides C(bucket). V(restore) brings back those that the backup
        holds, and copies the rest out of the old server first, as far as that gives it. V(aside) leaves all of them in
        the data directory that is put aside. Without it no bucket is put aside that does not come back.
    type: str
    choices: ["", restore, aside]
    default: ""
  bucket_settings:
    description:
      - V(restore) puts back the buckets' settings that are not those of the backup, such as policy, lifecycle and CORS,
        also where the objects are healthy. Without it only what is lost is set again.
    type: str
    choices: ["", restore]
    default: ""
"""

EXAMPLES = r"""
- name: Plan
  lifeboat.dr.objects_plan_info:
    stack: shop
  register: plan

- name: Show the plan
  ansible.builtin.debug:
    var: plan.text
"""

RETURN = r"""
plan:
  description: The plan, as C(objects_protect), C(objects_restore) and C(evidence) take it.
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.objects_plan import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
