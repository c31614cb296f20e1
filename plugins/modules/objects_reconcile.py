#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: objects_reconcile
short_description: Compare a stack's rows with its objects, and fetch the objects that rows lack
version_added: 0.1.0
description:
  - Asks the database which keys it knows (C(lifeboat_objects.keys_query)) and the bucket which it holds. Reports rows
    without objects, objects without rows, and objects that are not what their row says. Reports keys only, nothing else
    of a row.
  - Rows are compared with the bucket that their column C(bucket) names; without it with the application's.
  - Where C(lifeboat_files.references) is set, the rows that it returns are compared with the files of the stack, too.
    Files are brought back by M(lifeboat.dr.files_recover).
  - Looks in the vault, older versions included, for what rows miss, and with O(fetch) copies it back. Nothing is
    overwritten.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  fetch:
    description: Copy back what the vault has for rows without an object.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Says what it would fetch.
  diff_mode:
    support: none
    details: RV(offers) says it.
"""

EXAMPLES = r"""
- name: Reconcile
  lifeboat.dr.objects_reconcile:
    stack: shop
  register: found

- name: Show what was found
  ansible.builtin.debug:
    var: found.text
"""

RETURN = r"""
verdict:
  description: C(PASS), C(FAIL) where rows have no object or another one, or C(COULD_NOT_VERIFY) where there is no
    query.
  returned: success
  type: str
checks:
  description: What was compared, with the result.
  returned: success
  type: list
  elements: dict
report:
  description: Counts and the first 20 keys of each kind of difference; empty where there is no query.
  returned: success
  type: dict
offers:
  description: What the vault has for rows without an object, each with C(bucket) (empty for the application's), C(key),
    C(version), C(size), C(modified) and C(why) it fits.
  returned: success
  type: list
  elements: dict
unfit:
  description: How many rows without an object the vault has nothing for.
  returned: success
  type: int
fetched:
  description: How many objects were copied back.
  returned: success
  type: int
text:
  description: The same as lines of text.
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

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import refetch
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.refetch import Refetched
from ansible_collections.lifeboat.dr.plugins.module_utils.files import references
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check, verdict
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import Log


def compared(opened: Opened, files: Sequence[Check], *, fetch: bool, log: Log) -> Refetched:
    """Rows with objects, and with the files that were compared already. What no query is set for is not asked."""
    if files and not opened.config.objects.keys_query:
        return Refetched(verdict(files), tuple(files))
    found = refetch.live(opened, fetch=fetch, log=log)
    checks = (*found.checks, *files)
    return replace(found, checks=checks, verdict=verdict(checks))


def work(task: Task) -> Result:
    fetch = task.params["fetch"] and not task.check
    with lock.held(task.config.stack, "fetch objects", wait=60) if fetch else contextlib.nullcontext():
        opened = Opened(task.config, task.params["identity"])
        found = compared(opened, references.checks(opened), fetch=fetch, log=task.log)
    changed = bool(found.fetched) or (task.check and task.params["fetch"] and bool(found.offers))
    return Result({**typed.plain(found), "text": refetch.text(found)}, changed)


def main() -> None:
    run(work, {"fetch": {"type": "bool", "default": False}, **IDENTITY})


if __name__ == "__main__":
    main()
