#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_info
short_description: Reach a stack's database and say what it is
version_added: 0.1.0
description:
  - Connects the way a backup would. Fails with the reason when the service, the database, the account or the password
    is wrong, so that a deployment can stop before it has changed anything.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
"""

EXAMPLES = r"""
- name: See that the database can be reached
  lifeboat.dr.database_info:
    stack: shop
  register: database
"""

RETURN = r"""
database:
  description: Name, size in bytes, the account that takes backups, the server's version number.
  returned: success
  type: dict
  sample: {name: shop, size: 351336115, user: shop, server_version_num: 170012}
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

from ansible_collections.lifeboat.dr.plugins.module_utils.database import reach
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened


@dataclass(frozen=True)
class Facts:
    database: reach.Database


def work(task: Task) -> Result:
    found = reach.database(Opened(task.config))
    if found.warning:
        task.module.warn(found.warning)
    return Result(Facts(found))


def main() -> None:
    run(work, {})


if __name__ == "__main__":
    main()
