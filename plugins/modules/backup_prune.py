#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_prune
short_description: Apply retention to a stack's backups
version_added: 0.1.0
description:
  - "Deletes the backups that no rule keeps: daily, weekly, monthly, and the floors that are never crossed."
  - Failed or unfinished backups never count as good, so a streak of failures deletes nothing.
  - Judges recovery points and the backups of every component, and deletes in the repository and in the vault alike.
  - Of the mirror in the vault it deletes versions that were replaced or removed longer than C(noncurrent_days) before
    the newest mirror, where no lifecycle rule did. What a kept backup names stays.
  - Refuses where the host's clock is wrong or may have jumped, and deletes nothing then.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  trust_clock:
    description: Prune although the host's clock seems to have jumped. For once, where you know that it is right.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Returns the plan and deletes nothing.
  diff_mode:
    support: full
    details: The list of backups before and after.
"""

EXAMPLES = r"""
- name: Apply retention
  lifeboat.dr.backup_prune:
    stack: shop

- name: Apply retention on a host that was off for two months, and whose clock is right
  lifeboat.dr.backup_prune:
    stack: shop
    trust_clock: true
"""

RETURN = r"""
keep:
  description: Each kept backup's id with the rules that keep it.
  returned: success
  type: dict
  sample: {db_backup_20261122_020000: ["weekly: Sunday 2026-11-22"]}
delete:
  description: Ids deleted, or to be deleted in check mode, oldest first.
  returned: success
  type: list
  elements: str
unknown:
  description: What could not be read and so not be judged, and why. It stays, with all that may be a part of it, and
    the module fails after it has done the rest.
  returned: success
  type: dict
  sample: {db_backup_20260901_020000: Input/output error}
untrusted:
  description: The ids of what RV(unknown) has because none of C(lifeboat_signers) signed it.
  returned: success
  type: list
  elements: str
swept:
  description: Remains of interrupted runs that were removed.
  returned: success
  type: list
  elements: str
locked:
  description: What a bucket with versions keeps although it was deleted, and why; a lock is not a failure.
  returned: success
  type: list
  elements: str
hidden:
  description: Backups and recovery points that had a manifest, have none or another one now and were removed by no
    retention, and where that is. Their old versions stay, and the module fails after it has done the rest.
  returned: success
  type: dict
  sample: {db_backup_20261120_020000: vault}
versions:
  description: Old versions in the mirror that were deleted or would be, and why they have to wait, where they do.
  returned: success
  type: dict
  sample: {deleted: 120, bytes: 52428800, waits: ""}
failed:
  description: What could not be done in the vault; the module fails then, and the repository was pruned all the same.
  returned: always
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


from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Diff, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies


def work(task: Task) -> Result:
    with lock.held(task.config.stack, "prune"):
        result = operations_prune.prune(
            Opened(task.config), now=task.now, dry_run=task.check, log=task.log, trust_clock=task.params["trust_clock"]
        )
    kept, old = list(result["keep"]), result["versions"]["deleted"]
    versions = [f"{old} old versions in the mirror"] if old else []
    before = [*sorted([*kept, *result["delete"]]), *versions]
    done = Result(
        result,
        changed=bool(result["delete"] or result["swept"] or old),
        diff=Diff("".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in sorted(kept))),
    )
    stack = task.config.stack
    problem = (
        operations_prune.alarm(stack, result)
        or copies.problem(stack, result["failed"])
        or operations_prune.unread(stack, result)
    )
    if problem:
        task.fail(str(problem), done)
    return done


def main() -> None:
    run(work, {"trust_clock": {"type": "bool", "default": False}})


if __name__ == "__main__":
    main()
