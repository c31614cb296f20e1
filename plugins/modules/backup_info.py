#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List a stack's recovery points and backups, and say whether it is protected
version_added: 0.1.0
description:
  - Reads manifests and verification records in the stack's repository; changes nothing.
  - A backup that no restore has proved makes the verdict C(COULD_NOT_VERIFY), never C(PASS).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
"""

EXAMPLES = r"""
- name: See what there is
  lifeboat.dr.backup_info:
    stack: shop
  register: info

- name: Stop unless the newest backup is proved
  ansible.builtin.assert:
    that: info.status.verdict == 'PASS'
"""

RETURN = r"""
points:
  description: Every recovery point, oldest first.
  returned: success
  type: list
  elements: dict
  sample:
    - id: "20261124_030500"
      taken_at: "2026-11-24T02:00:00.412Z"
      consistency: snapshot
      components: {database: db_backup_20261124_020000, objects: objects_backup_20261124_030000, config: null}
      copies: ["s3://copies/shop at https://vault.example.org"]
      good: true
      proven: true
backups:
  description: Every published backup, by component and oldest first; the database's are the last.
  returned: success
  type: list
  elements: dict
  sample:
    - id: db_backup_20261124_020000
      component: database
      taken_at: "2026-11-24T02:00:00.412Z"
      age_seconds: 3600
      size: 91226112
      good: true
      unknown: false
      proven: true
      verification: {checksum: PASS, restore: PASS}
status:
  description: Verdict and the checks behind it.
  returned: success
  type: dict
quarantine:
  description: >-
    What recoveries moved aside and is there now, as the server, the engine and the store say; of what kinds nothing is
    known, and why; and which databases only look as if an earlier version had put them aside. It does not change the
    verdict.
  returned: success
  type: dict
  sample:
    kept:
      - kind: database
        name: shop_quarantine_20261124_162202
        quarantined_at: "2026-11-24T16:22:02.000Z"
        age_seconds: 259200
        size: 91226112
        remove: lifeboat quarantine --stack shop remove database shop_quarantine_20261124_162202 --yes
    unseen: []
    alike: []
table:
  description: The same lists as lines of text.
  returned: success
  type: list
  elements: str
text:
  description: The checks as lines of text.
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

from ansible_collections.lifeboat.dr.plugins.module_utils.base import text as base_text
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import quarantine, status
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, show


@dataclass(frozen=True)
class Facts:
    points: Sequence[object]
    backups: Sequence[object]
    status: object
    quarantine: object
    table: Sequence[str]
    text: Sequence[str]


def work(task: Task) -> Result:
    opened = Opened(task.config)
    seen, kept = status.status(opened, now=task.now), quarantine.survey(opened, now=task.now)
    found = seen.as_dict()
    return Result(
        Facts(
            points=points.listing(seen.points, {}, seen.at),
            backups=points.listing([], seen.backups, seen.at),
            status={key: found[key] for key in ("stack", "verdict", "checks")},
            quarantine=kept.as_dict(),
            table=[*show.table(seen.points, seen.backups, task.now), "", *kept.lines(), ""],
            text=base_text.checks(seen.checks),
        )
    )


def main() -> None:
    run(work, {})


if __name__ == "__main__":
    main()
