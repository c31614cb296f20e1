#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects_restore
short_description: Bring a bucket to a backup from the vault, and prove it
version_added: 0.1.0
description:
  - Makes the bucket where it is missing, sets its versioning, lifecycle, policy and CORS again where they are lost, and
    copies from the vault what is missing or wrong, in the very versions that the backup's listing names. What is right
    is not copied.
  - What is overwritten is kept, as an older version where the bucket has versions, else in a bucket of its own.
  - "Restarts the service before it compares, so that only what is on its disk counts."
  - "Idempotent by identity: a bucket that was already recovered to O(id) is left alone unless O(force)."
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.restore
  - lifeboat.dr.options.accept
options:
  id:
    description: The objects backup to restore, a recovery point whose bucket it shall be, or V(latest).
    type: str
    default: latest
  place:
    description:
      - Where to take its listing from. V(auto) takes the repository's, and the copy in the vault where that one is
        broken or gone.
  prefix:
    description: Only the objects whose keys begin so. No pattern.
    type: str
    default: ""
  exact:
    description: Put objects aside that the backup does not know.
    type: bool
    default: false
  partial:
    description: Restore what can be, where the vault no longer has all of it.
    type: bool
    default: false
  fresh:
    description: The server is a new, empty one.
    type: bool
    default: false
  asked:
    description: A state was asked for, so that not even what the database knows to be right now is left as it is.
    type: bool
    default: true
  state:
    description: What the operator asked for, remembered so that asking again changes nothing.
    type: str
    default: ""
  bucket:
    description: This bucket of the store in place of the application's.
    type: str
    default: ""
  others:
    description: Other buckets of the store to restore from the same backup. One that cannot be is a failed check.
    type: list
    elements: str
    default: []
  newer:
    description:
      - Buckets that newer backups hold and this one does not, as RV(lifeboat.dr.objects_plan_info#module:plan) has
        them. A check says whether the store has them.
    type: list
    elements: str
    default: []
  bucket_settings:
    description:
      - V(restore) puts back the buckets' settings that are not those of the backup, such as policy, lifecycle and CORS,
        also where the objects are healthy. Without it only what is lost is set again. V(only) leaves the objects alone.
    type: str
    choices: ["", restore, only]
    default: ""
  sample:
    description: How many objects are read back and compared byte by byte. V(0) reads all.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    details: Says whether it would restore.
  diff_mode:
    support: full
    details: The backup the bucket is recovered to, before and after.
"""

EXAMPLES = r"""
- name: Bring one folder back as it was in the newest good backup
  lifeboat.dr.objects_restore:
    stack: shop
    prefix: invoices/2026/
    force: true
  register: restored
"""

RETURN = r"""
id:
  description: The backup that was restored.
  returned: success
  type: str
checks:
  description: The comparison with the backup's listing, the bucket's settings, and what reconciling with the database
    found.
  returned: when restored
  type: list
  elements: dict
copied:
  description: How many objects were copied, skipped and how many bytes that was.
  returned: when restored
  type: dict
quarantine_bucket:
  description: The bucket in which overwritten objects are kept; empty where they are older versions, or there were
    none.
  returned: when restored
  type: str
settings:
  description: The bucket's settings that were set again.
  returned: when restored
  type: list
  elements: str
reconciled:
  description: Rows without objects, objects without rows and mismatches, counted, with examples; empty when not
    reconciled.
  returned: when restored
  type: dict
seconds:
  description: Seconds spent in restore and verify.
  returned: when restored
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.objects_restore import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
