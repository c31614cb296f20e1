# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a check to `lifeboat status` and to the weekly list: does the newest backup have the roles' passwords?"""

from __future__ import annotations

from pathlib import Path

from edits import insert, run

CODE = """    if details.role_passwords:
        yield Check("role passwords", PASS, f"{manifest.id} has them")
    else:
        yield Check("role passwords", COULD_NOT_VERIFY, f"{manifest.id} has none: somebody must know them")
"""
SHOWN = """
import sys
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist import work_through
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, publish
root = Path(sys.argv[1])
publish(root)
run = Opened(make_config(root))
print("\\n".join(f"status: {check.result} {check.name}" for check in status.status(run, now=NOW).checks))
print("\\n".join(f"weekly: {line.result} {line.name}" for line in work_through(run, "weekly", now=NOW).lines))
publish(root, NOW.replace(hour=13), details={"role_passwords": False})
print("\\n".join(f"then: {check.result} {check.name}" for check in status.status(run, now=NOW).checks))
"""
EXPECTED = ("status: PASS role passwords", "weekly: PASS role passwords", "then: COULD_NOT_VERIFY role passwords")


def add(root: Path) -> None:
    operations = root / "plugins" / "module_utils" / "operations"
    insert(operations / "status_checks.py", "    if not details.surveyed:", CODE)
    insert(operations / "checklist.py", '    status.CONTENT: "weekly"', '    "role passwords": "weekly",\n')


if __name__ == "__main__":
    run(add)
