#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: point_fetch
short_description: Bring a recovery point from the vault into this machine's repository
version_added: 0.1.0
description:
  - Every backup that the point names, and what an earlier config backup keeps for it, hashed on the way, manifest last.
  - What is here already, the very same, is left alone.
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  recovery_point:
    description: The recovery point's id.
    type: str
    required: true
  backups:
    description: What leads from the point to an instant behind it, as C(plan.way.brought) of
      M(lifeboat.dr.site_plan_info). A span that is open there is brought as far as its notes go.
    type: list
    elements: str
    default: []
  release:
    description: Fetch nothing, and end the hold that M(lifeboat.dr.site_plan_info) left on the point.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The ids, one a line.
"""

EXAMPLES = r"""
- name: Bring the recovery point here
  lifeboat.dr.point_fetch:
    stack: shop
    recovery_point: "20261124_033000"
"""

RETURN = r"""
fetched:
  description: The ids that were not here.
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, added, run
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.site.store import open_store
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.site import granted, point_fetch


@dataclass(frozen=True)
class Facts:
    fetched: Sequence[str]


def work(task: Task) -> Result:
    if task.params["release"]:
        opened = granted.opened(Opened(task.config))
        if not task.check:
            sources.release(opened, open_store(opened)[1], task.params["recovery_point"], task.log)
        return Result(Facts(()))
    with lock.held(task.config.stack, "fetch the recovery point", wait=60):
        opened = granted.opened(Opened(task.config))
        fetched = point_fetch.fetch(
            opened, task.params["recovery_point"], task.params["backups"], check=task.check, log=task.log
        )
    return Result(Facts(fetched), changed=bool(fetched), diff=added(fetched))


def main() -> None:
    run(
        work,
        {
            "recovery_point": {"type": "str", "required": True},
            "backups": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "bool", "default": False},
        },
    )


if __name__ == "__main__":
    main()
