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
      - Databases that newer backups hold and this one does not, as RV(lifeboat.dr.database_plan_info#module:plan) has
        them. A check says whether the server has them.
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

from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import run
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.database_restore import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
