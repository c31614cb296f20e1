#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_point
short_description: Take a recovery point of a stack now
version_added: 0.1.0
description:
  - Backs up the database, then the bucket as it was at the dump's own instant, then the configuration, ties them and
    the image digests into one sealed file, and brings the vault's copies up to date.
  - Of a stack without a bucket it is a recovery point of database and configuration.
  - Whatever fails, what was published before stays. Where only the vault fails the module fails too, and says that the
    backups are good.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.wait
options:
  max_age:
    description: Take none if the newest good recovery point is younger than this many seconds. V(0) always takes one.
    type: int
    default: 0
  override:
    description: >-
      Mirror the bucket even where more of it was removed or overwritten than C(change_limit) allows, if no more than
      this number of objects would be, in all buckets together, and accept that the database holds far less than before.
    type: int
    default: 0
  counted:
    description: >-
      Remove and overwrite no more than this number of the vault's objects, in all buckets together, also where
      C(change_limit) allows more. It is what RV(changes) of a call in check mode counted; V(0) lets nothing go.
    type: int
attributes:
  check_mode:
    support: full
    details:
      - Looks whether the repository can be written and the database be reached, counts what the mirror of the bucket as
        it is now would remove and overwrite, and takes nothing.
  diff_mode:
    support: full
    details: The id that was or would be added.
"""

EXAMPLES = r"""
- name: Take a recovery point
  lifeboat.dr.recovery_point:
    stack: shop
  register: taken

- name: Prove it
  lifeboat.dr.backup_verify:
    stack: shop
    id: "{{ taken.id }}"
"""

RETURN = r"""
id:
  description: The new recovery point, or the one that is young enough.
  returned: success, except in check mode when one would be taken
  type: str
changes:
  description: >-
    How many of the vault's objects the mirror would remove or overwrite. O(override) has to name as many, and
    O(counted) keeps it to that.
  returned: in check mode, when one would be taken of a stack with a bucket
  type: int
consistency:
  description: V(snapshot) where rows and objects are of one instant, else V(eventual).
  returned: when one was taken
  type: str
components:
  description: Component to backup id; null where there is no backup of it.
  returned: when one was taken
  type: dict
notes:
  description: What an operator must know of it.
  returned: when one was taken
  type: list
  elements: str
backups:
  description: The backups that were taken, with their details.
  returned: when one was taken
  type: list
  elements: dict
unheld:
  description: How many objects the vault could not hold; they are in no backup, and the module fails.
  returned: when one was taken
  type: int
copies:
  description: Where the copies are, what was sent, and what failed.
  returned: when one was taken and copies are kept
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import present
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.guard import Override
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import WAIT, Result, Task, added, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base as repository_base
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import OBJECTS, configured
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened


def young(task: Task, repo: repository_base.Repository) -> str:
    """The newest good recovery point, if it is young enough."""
    if not task.params["max_age"]:
        return ""
    stack = task.config.stack
    good = [entry for entry in points.entries(repo, stack, points.backups(repo, stack)) if entry.good and entry.point]
    if not good or good[-1].point is None:
        return ""
    age = (task.now - good[-1].point.taken_at).total_seconds()
    return good[-1].id if age <= task.params["max_age"] else ""


@dataclass(frozen=True)
class Facts:
    id: Optional[str] = None
    consistency: Optional[str] = None
    components: Optional[Mapping[str, Optional[str]]] = None
    notes: Optional[Sequence[str]] = None
    backups: Optional[Sequence[object]] = None
    unheld: Optional[int] = None
    copies: Optional[copies.Outcome] = None
    changes: Optional[int] = None


def changes(task: Task, opened: Opened) -> Optional[int]:
    """What the mirror would remove and overwrite. It will be of a database backup yet to be taken: as of now."""
    if not any(kind.name == OBJECTS for kind in configured(task.config)):
        return None
    doubts = Doubts(times="the backup whose instant it will be of is not taken yet")
    planned = take.preview(opened, log=task.log, override=True, doubts=doubts)
    return planned.removed + planned.overwritten


def accepted(task: Task, override: int) -> Union[int, Override]:
    """What may be removed and overwritten."""
    counted = task.params["counted"]
    return override if counted is None else Override(override, counted)


def work(task: Task) -> Result:
    opened, override = Opened(task.config), task.override
    repo = repositories.repository_of(opened)
    repo.check(writable=not task.check)
    found = young(task, repo)
    if found:
        return Result(Facts(found))
    if task.check:
        if task.config.database.enabled:
            server = database_server.for_backups(opened)
            database_server.require_database(server, server.database)
        return Result(Facts(changes=changes(task, opened)), changed=True, diff=added(["a new recovery point"]))
    with lock.held(task.config.stack, "recovery point", wait=task.params["wait"]):
        taken = operations_backup.take(opened, override=accepted(task, override), log=task.log)
    point = present(taken.point)
    facts = Facts(
        point.id,
        point.consistency,
        {name: part.id if part else None for name, part in point.components.items()},
        point.notes,
        [{"id": manifest.id, "size": manifest.size, **manifest.details} for manifest in taken.manifests],
        taken.unheld,
        taken.copied if taken.copied.location else None,
    )
    done = Result(facts, changed=True, diff=added([point.id]))
    problem = copies.problem(task.config.stack, taken.failed)
    if taken.missing:
        task.fail(f"The recovery point {point.id} is there. {taken.missing}", done)
    if taken.unheld:
        task.fail(f"The recovery point {point.id} is there. {taken.lines()[-1]}", done)
    if problem:
        task.fail(f"The recovery point {point.id} is there. {problem}", done)
    return done


def main() -> None:
    run(
        work,
        {
            "max_age": {"type": "int", "default": 0},
            "override": {"type": "int", "default": 0},
            "counted": {"type": "int"},
            **WAIT,
        },
    )


if __name__ == "__main__":
    main()
