#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_protect
short_description: Stop the writers and put damaged data aside
version_added: 0.1.0
description:
  - The protect phase of a database recovery, as planned by M(lifeboat.dr.database_plan_info).
  - Runs first what the recovery's hooks (C(lifeboat_hooks)) have before it; M(lifeboat.dr.evidence) runs what they have
    after.
  - Services and containers of C(docker compose run) are stopped. Then the database that will be replaced is closed to
    logins, and the sessions that are left in it are ended. M(lifeboat.dr.database_restore) opens it again, or, after a
    run that was killed, M(lifeboat.dr.stack_reopen).
  - "A server that is down is started first: if it comes up with its data, nothing needs to be restored. Otherwise its
    data directory is moved aside, never deleted, and a fresh server is started."
  - Where the plan names a base, the new data directory is filled from it and from the WAL behind it, in a throw-away
    container without a network, and every table is read there before the server starts.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  plan:
    description: What M(lifeboat.dr.database_plan_info) returned as RV(lifeboat.dr.database_plan_info#module:plan).
    type: dict
    required: true
  reopen:
    description: Where the server came up whole, start the writers again, as M(lifeboat.dr.stack_reopen) does.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Returns what it would do by the plan.
  diff_mode:
    support: none
    details: The plan says it.
"""

EXAMPLES = r"""
- name: Protect
  lifeboat.dr.database_protect:
    stack: shop
    plan: "{{ plan.plan }}"
  register: protected
"""

RETURN = r"""
mode:
  description: V(swap), V(rebuild), or V(started) when the server came up whole.
  returned: success
  type: str
fresh:
  description: Whether the server is a new, empty one.
  returned: success
  type: bool
quarantine:
  description: Where the old data directory lies now; empty when it was not moved.
  returned: success
  type: str
checks:
  description: What was looked at where the server came up whole, so that nothing is restored.
  returned: when RV(mode) is V(started)
  type: list
  elements: dict
stopped:
  description: The services and the containers of C(docker compose run) that were stopped.
  returned: when any had to be
  type: list
  elements: str
notes:
  description: The sessions of other clients that were ended, one line each.
  returned: success
  type: list
  elements: str
way_back:
  description: Commands that put the old data back.
  returned: success
  type: list
  elements: str
replaced:
  description:
    - The databases to restore, as O(plan) names them. Empty where the server is a fresh one, which gets every database
      of the backup.
  returned: success
  type: list
  elements: str
copied:
  description: Where databases were copied to that the backup does not hold; empty where none were.
  returned: success
  type: str
databases:
  description: What became of databases that are not restored, each with C(name), C(action) and C(why).
  returned: success
  type: list
  elements: dict
reopened:
  description: What M(lifeboat.dr.stack_reopen) returns. C(phase) and C(log) are then of what came before it.
  returned: when O(reopen) and RV(mode) is V(started)
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
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.database_protect import OPTIONS, work


def main() -> None:
    run(work, OPTIONS)


if __name__ == "__main__":
    main()
