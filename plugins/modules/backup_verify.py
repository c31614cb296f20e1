#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_verify
short_description: Prove a backup
version_added: 0.1.0
description:
  - Checks a backup at one of three levels, each including the ones before it, and leaves C(verification.json) beside it.
  - V(checksum) reads every byte of every artefact; V(archive) has the real tools read the dump to its end; V(restore) restores it into a throw-away PostgreSQL without a network and compares it with the fingerprint taken in the dump's own snapshot.
  - Fails unless the verdict is C(PASS). C(COULD_NOT_VERIFY) is a failure too, since nothing was proved.
  - Touches nothing of the stack.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  id:
    description: The backup's id. V(latest) is the newest published one, whatever its state.
    type: str
    default: latest
  level:
    description: How far to go.
    type: str
    choices: [checksum, archive, restore]
    default: restore
attributes:
  check_mode:
    description: Can run without changing anything.
    support: partial
    details: Verifies, but leaves no record.
  diff_mode:
    description: Shows what changed or would change.
    support: full
    details: The verdict on record before and after.
"""

EXAMPLES = r"""
- name: Prove the newest backup by restoring it
  lifeboat.dr.backup_verify:
    stack: shop

- name: Read every byte of one backup
  lifeboat.dr.backup_verify:
    stack: shop
    id: "{{ info.backups[-1].id }}"
    level: checksum
"""

RETURN = r"""
verdict:
  description: C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: always
  type: str
id:
  description: The backup that was verified.
  returned: always
  type: str
level:
  description: The level that was asked for.
  returned: always
  type: str
checks:
  description: Every check with its result and what was seen.
  returned: always
  type: list
  elements: dict
  sample: [{name: tables, result: PASS, detail: "23 tables, 1200417 rows: rows and content equal"}]
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

from typing import Any

from ansible_collections.lifeboat.dr.plugins.module_utils import catalog, checks, config, repository, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.errors import NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.module import Task, run


def on_record(task: Task, identity: str) -> str:
    """The level's verdict before and after: re-proving what was proved changes nothing."""
    repo = repository.from_settings(task.config.repository, task.config.secrets)
    try:
        proof = catalog.entry(repo, "database", identity).proof
    except NotFoundError:
        return ""
    return str(proof.get(task.params["level"], {}).get("verdict", "none"))


def work(task: Task) -> dict[str, Any]:
    repo = repository.from_settings(task.config.repository, task.config.secrets)
    identity = task.params["id"]
    if identity == "latest":
        identity = max((one.id for one in catalog.entries(repo, "database", task.config.stack)), default="latest")
    before = on_record(task, identity) if identity != "latest" else "none"
    result = verify.verify(task.config, identity, task.params["level"], log=task.log, record=not task.check)
    after = result.verdict if task.check else on_record(task, result.id)
    facts = {
        **result.as_dict(),
        "changed": before != after,
        "diff": {
            "before": f"{result.id} {result.level}: {before}\n",
            "after": f"{result.id} {result.level}: {after}\n",
        },
    }
    if result.verdict != checks.PASS:
        bad = [f"{one.name}: {one.detail}" for one in result.checks if one.result != checks.PASS]
        task.fail(f"{result.verdict}: {result.id} at level {result.level}: {'; '.join(bad)}", **facts)
    return facts


def main() -> None:
    run(
        work,
        {
            "id": {"type": "str", "default": "latest"},
            "level": {"type": "str", "choices": list(config.LEVELS), "default": "restore"},
        },
    )


if __name__ == "__main__":
    main()
