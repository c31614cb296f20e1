#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_restore
short_description: Restore databases under other names, prove them, swap them in
version_added: 0.1.0
description:
  - Restores roles and a dump into a new database, compares it with the fingerprint of the backup, and only then puts
    it in the live database's place by rename. The old database is kept under a quarantine name.
  - If anything differs the live database stays as it was, unless O(accept). The application's database must be right;
    of the others each stands for itself, and a check says which one is not.
  - Without O(stamp) nothing of a plan goes on after it, so it runs the recovery's hooks (C(lifeboat_hooks)) itself.
  - "Idempotent by identity: a stack that was already recovered to O(id) is left alone unless O(force)."
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.restore
  - lifeboat.dr.options.accept
  - lifeboat.dr.options.identity
options:
  id:
    description: The backup to restore, a recovery point whose database backup it shall be, or V(latest).
    type: str
    default: latest
  databases:
    description:
      - The databases to replace. Empty means every database of the backup in a fresh server, else the application's.
    type: list
    elements: str
    default: []
  newer:
    description:
      - Databases that newer backups hold and this one does not, as RV(lifeboat.dr.database_plan#module:plan) has them.
        A check says whether the server has them.
    type: list
    elements: str
    default: []
  fresh:
    description: The server is a new, empty one, so that every role becomes what it was in the backup.
    type: bool
    default: false
  copied:
    description: RV(lifeboat.dr.database_protect#module:copied), whose databases a fresh server gets too.
    type: str
    default: ""
  asked:
    description: What the operator asked for, remembered so that asking again changes nothing.
    type: str
    default: ""
  reopen:
    description: Start the services afterwards, as M(lifeboat.dr.stack_reopen) does.
    type: bool
    default: false
  services:
    description: The services to start where O(reopen), in addition to the database itself.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    details: Says whether it would restore.
  diff_mode:
    support: full
    details: The backup the database is recovered to, before and after.
"""

EXAMPLES = r"""
- name: Bring the newest good backup back
  lifeboat.dr.database_restore:
    stack: shop
  register: restored
"""

RETURN = r"""
id:
  description: The backup that was restored.
  returned: success
  type: str
checks:
  description: The comparison with the backup's fingerprint.
  returned: when restored
  type: list
  elements: dict
quarantined_database:
  description: The name under which the first database that was replaced is kept; empty when there was none.
  returned: when restored
  type: str
databases:
  description:
    - What became of each database of the server, with C(name), C(action) (C(restored), C(copied), C(failed) or
      C(untouched)), C(why) and C(kept), the name under which the old one is kept.
  returned: when restored
  type: list
  elements: dict
notes:
  description: What no restore brings back as it was, each with the command to use; not tested in the record.
  returned: when restored
  type: list
  elements: str
seconds:
  description: Seconds spent in restore, verify and swap.
  returned: when restored
  type: dict
reopened:
  description: What M(lifeboat.dr.stack_reopen) returns. C(phase) and C(log) are then of what came before it.
  returned: when restored and O(reopen)
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
from typing import Callable

from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.module import reopened
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import ACCEPT, IDENTITY, RESTORE
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Diff, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources as sources_of
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import hooks
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources


@dataclass(frozen=True)
class Chosen:
    id: str


def work(task: Task) -> Result:
    opened = Opened(task.config, task.params["identity"])
    sources = Sources(opened, "database", task.params["id"], accept=task.accept)
    chosen, _why = catalog.choose(
        sources.entries, task.config.stack, identity=sources.identity, accept=task.accept, partly=True
    )
    place = chosen.source if task.params["place"] == "auto" else task.params["place"]
    last = recovery_state.recovered(task.config)
    diff = Diff(f"{last.id if last else ''}\n", f"{chosen.id}\n")
    done = last and (not last.databases or set(task.params["databases"]) <= set(last.databases))
    if last and done and last.id == chosen.id and not task.params["force"]:
        return Result(Chosen(chosen.id))
    if task.check:
        return Result(Chosen(chosen.id), changed=True, diff=diff)
    later: list[Callable[[], None]] = []
    stamp = task.params["stamp"] or clock.stamp(task.now)
    held = lock.held(task.config.stack, "restore database", wait=60)
    turn = recovery_state.own_turn(task.config, "restore the database", task.params["stamp"])
    hooked = hooks.continued(task.config, hooks.RECOVERY, "database", task.log, alone=not task.params["stamp"])
    with held, turn, hooked, logins.opened_afterwards(opened, log=task.log):
        result = database_recovery.restore_database(
            opened,
            chosen.id,
            place=place,
            fresh=task.params["fresh"],
            stamp=stamp,
            asked=task.params["asked"],
            accept=task.accept,
            wanted=database_recovery.Wanted(
                tuple(task.params["databases"]),
                task.params["copied"],
                later if task.params["reopen"] else None,
                tuple(task.params["newer"]),
            ),
            log=task.log,
        )
    sources_of.release(opened, place, chosen.id, task.log)
    if task.params["reopen"]:
        values = reopened.after(task, opened, result, task.params["services"])
        for step in later:
            try:
                step()
            except LifeboatError as exc:  # the application runs, and `lifeboat quarantine` lists what is left
                task.log(str(exc))
        return Result(values, changed=True, diff=diff)
    return Result(result, changed=True, diff=diff)


def main() -> None:
    run(
        work,
        {
            "id": {"type": "str", "default": "latest"},
            **RESTORE,
            **ACCEPT,
            **IDENTITY,
            "databases": {"type": "list", "elements": "str", "default": []},
            "copied": {"type": "str", "default": ""},
            "newer": {"type": "list", "elements": "str", "default": []},
            "fresh": {"type": "bool", "default": False},
            "asked": {"type": "str", "default": ""},
            "reopen": {"type": "bool", "default": False},
            "services": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
