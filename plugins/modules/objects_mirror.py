#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects_mirror
short_description: Mirror a stack's bucket to the vault now
version_added: 0.1.0
description:
  - Brings the vault's bucket to what the stack's bucket was at the instant of the newest good database backup, and
    publishes an objects backup with a listing of every object's version in the vault.
  - Where the stack's bucket keeps no versions, or there is no recent database backup, the bucket is taken as it is now,
    and RV(details) says V(eventual).
  - Only what differs is copied. In the vault nothing is deleted but by a delete marker.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.wait
options:
  override:
    description:
      - Mirror although more of the bucket was removed or overwritten than C(lifeboat_objects.change_limit) allows, or
        although it is empty, if no more than this number of objects would be removed or overwritten. The refusal names
        the number. It holds for all buckets together.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    details: Lists both buckets and returns what would be copied and removed.
  diff_mode:
    support: full
    details: The id that was added, or the numbers of what would be done.
"""

EXAMPLES = r"""
- name: Mirror the bucket
  lifeboat.dr.objects_mirror:
    stack: shop
  register: mirrored

- name: Mirror it after a great change that was meant
  lifeboat.dr.objects_mirror:
    stack: shop
    override: 784  # as the refusal says
"""

RETURN = r"""
id:
  description: The new objects backup.
  returned: success, except in check mode
  type: str
details:
  description:
    - Its manifest's details, among them objects, bytes, copied, removed, consistency, database_backup and unheld, the
      keys that the vault does not hold.
    - In check mode, numbers of what would be done.
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
from typing import Optional

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import named
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import OBJECTS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import WAIT, Result, Task, added, run


@dataclass(frozen=True)
class Facts:
    details: object
    id: Optional[str] = None


def work(task: Task) -> Result:
    override = task.override
    if task.check:
        opened = Opened(task.config)
        doubts = endpoints.doubts(opened, log=task.log, probing=False)
        planned = take.preview(opened, log=task.log, override=override, doubts=doubts)
        after = f"{planned.copy} objects to copy, {planned.alike} to compare, {planned.removed} to remove"
        return Result(Facts(planned), changed=True, diff=added([after]))
    with lock.held(task.config.stack, "backup objects", wait=task.params["wait"]):
        opened = Opened(task.config)
        doubts = endpoints.doubts(opened, log=task.log)
        with hooks.running(task.config, hooks.BACKUP, task.log) as hooked, hooked.around(OBJECTS):
            manifest = take.take(opened, log=task.log, override=override, doubts=doubts)
    details = manifest.detailed(ObjectsDetails)
    for held in details.buckets:
        if held.unheld_count:
            first = held.unheld[0]
            task.module.warn(
                f"the vault does not hold {held.unheld_count} objects of {held.name}, the first is"
                f" {first.key!r}: {first.why}"
            )
    for name, why in details.missing.items():
        task.module.warn(f"the bucket {named(name)} is not in this backup, which is not good: {why}")
    hooked.refuse_problems()
    return Result(Facts(manifest.details, manifest.id), changed=True, diff=added([manifest.id]))


def main() -> None:
    run(work, {"override": {"type": "int", "default": 0}, **WAIT})


if __name__ == "__main__":
    main()
