#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_backup
short_description: Take a backup of a stack's database server now
version_added: 0.1.0
description:
  - Dumps every database of the server, the application's first, with the roles and a fingerprint of each, and publishes
    them with a manifest.
  - Whatever fails, nothing is published and earlier backups stay as they were.
  - Where a database takes no connections, may not be read or is dropped meanwhile, the backup is published without it,
    is not good, and the module fails and names it.
  - Brings the vault's copies up to date; where only that fails the module fails too, and says that the backup is good.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.wait
options:
  max_age:
    description: Take none if the newest good backup is younger than this many seconds. V(0) always takes one.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    details: Looks whether the repository can be written and the database be reached, and takes no backup.
  diff_mode:
    support: full
    details: The id that was or would be added.
"""

EXAMPLES = r"""
- name: Take a backup
  lifeboat.dr.database_backup:
    stack: shop
  register: taken

- name: Take one unless the newest is younger than an hour
  lifeboat.dr.database_backup:
    stack: shop
    max_age: 3600
"""

RETURN = r"""
id:
  description: The new backup, or the one that is young enough.
  returned: success, except in check mode when one would be taken
  type: str
size:
  description: Bytes of all artefacts.
  returned: when a backup was taken
  type: int
details:
  description:
    - Database, format, server version, fingerprint summary, seconds. C(others) are the server's other
      databases, each with the instant of its snapshot; excluded, missing, created and standby say what is not in it.
  returned: when a backup was taken
  type: dict
copies:
  description: Where the copies are, what was sent, and what failed.
  returned: when a backup was taken and copies are kept
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
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import WAIT, Result, Task, added, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened


@dataclass(frozen=True)
class Facts:
    id: Optional[str] = None
    size: Optional[int] = None
    details: Optional[object] = None
    copies: Optional[copies.Outcome] = None


def work(task: Task) -> Result:
    opened = Opened(task.config)
    repo = repositories.repository_of(opened)
    repo.check(writable=not task.check)
    good = [entry for entry in catalog.entries(repo, "database", task.config.stack) if entry.good and entry.manifest]
    if good and good[-1].manifest and task.params["max_age"]:
        age = (task.now - good[-1].manifest.taken_at).total_seconds()
        if age <= task.params["max_age"]:
            return Result(Facts(good[-1].id))
    if task.check:
        server = database_server.for_backups(opened)
        database_server.require_database(server, server.database)
        return Result(Facts(), changed=True, diff=added(["a new backup"]))
    with lock.held(task.config.stack, "backup database", wait=task.params["wait"]):
        taken = operations_backup.take(opened, "database", log=task.log)
    manifest = taken.manifests[0]
    copied = taken.copied if taken.copied.location else None
    facts = Facts(manifest.id, manifest.size, manifest.details, copied)
    done = Result(facts, changed=True, diff=added([manifest.id]))
    if taken.missing:
        task.fail(str(taken.missing), done)
    problem = copies.problem(task.config.stack, taken.failed)
    if problem:
        task.fail(f"The backup {manifest.id} is there. {problem}", done)
    return done


def main() -> None:
    run(work, {"max_age": {"type": "int", "default": 0}, **WAIT})


if __name__ == "__main__":
    main()
