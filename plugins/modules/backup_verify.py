#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_verify
short_description: Prove a recovery point or a backup
version_added: 0.1.0
description:
  - Checks a backup at one of three levels, each including the ones before it, and leaves C(verification.json) next to
    it.
  - V(checksum) reads every byte of every artefact; V(archive) has the real tools read the dump to its end; V(restore)
    restores it into a throw-away PostgreSQL without a network and compares it with the fingerprint taken in the dump's
    own snapshot.
  - Of a bucket, V(archive) finds every version in the vault, and V(restore) brings objects back into a scratch bucket
    there and compares every byte, header and tag.
  - Of a configuration, V(archive) reads every archive and git bundle to its end, and V(restore) unpacks and compares
    it, clones the bundles and has Compose read the project. What is sealed stays sealed; M(lifeboat.dr.escrow) proves
    that the key opens it.
  - Fails unless the verdict is C(PASS). C(COULD_NOT_VERIFY) is a failure too, since nothing was proved.
  - Touches nothing of the stack.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  id:
    description:
      - Of a recovery point, which is proved by all its backups, or of one backup. V(latest) is the newest published
        backup of each component, whatever its state.
    type: str
    default: latest
  level:
    description: How far to go.
    type: str
    choices: [checksum, archive, restore]
    default: restore
  sample:
    description:
      - Of a bucket V(restore) brings back so many objects, chosen at random. V(0) brings back all of them. Without it,
        those whose turn it is, so that each is read once in C(lifeboat_vault.read_days).
    type: int
attributes:
  check_mode:
    support: partial
    details: Verifies, but leaves no record.
  diff_mode:
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
  description: What was verified; several ids where V(latest) stands for several.
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
databases:
  description: >-
    The verdict on each database of a backup of the server, where they differ, and the reason where it is not C(PASS).
  returned: when single databases did not pass
  type: dict
  sample: {shop: {verdict: PASS}, stats: {verdict: FAIL, reason: "archive of stats: could not read from input file"}}
parts:
  description: The same of each backup.
  returned: when there are several
  type: list
  elements: dict
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


from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY, Diff, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import component_of
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config


def on_record(repo: Repository, level: str, ids: list[str]) -> str:
    """The level's verdicts before and after: re-proving what was proved changes nothing."""
    lines = []
    for identity in ids:
        proof = catalog.entry(repo, component_of(identity), identity).proof
        lines.append(f"{identity} {level}: {proof[level].verdict if level in proof else 'none'}\n")
    return "".join(lines)


def work(task: Task) -> Result:
    opened, level = Opened(task.config, task.params["identity"]), task.params["level"]
    repo = repositories.repository_of(opened)
    ids, _checks = operations_verify.targets(task.config, repo, task.params["id"])
    before = on_record(repo, level, ids)
    result = operations_verify.verify(
        opened,
        task.params["id"],
        level,
        sample=task.params["sample"],
        log=task.log,
        record=not task.check,
        wait=60,
    )
    if task.check:
        proved = {part.id: part.verdict for part in result.parts or (result,)}
        after = "".join(f"{name} {result.level}: {proved.get(name, 'none')}\n" for name in ids)
    else:
        after = on_record(repo, level, ids)
    done = Result(result, changed=before != after, diff=Diff(before, after))
    if result.verdict != checks.PASS:
        bad = [f"{check.name}: {check.detail}" for check in result.checks if check.result != checks.PASS]
        task.fail(f"{result.verdict}: {result.id} at level {result.level}: {'; '.join(bad)}", done)
    return done


def main() -> None:
    run(
        work,
        {
            "id": {"type": "str", "default": "latest"},
            "level": {"type": "str", "choices": list(config.LEVELS), "default": "restore"},
            "sample": {"type": "int"},
            **IDENTITY,
        },
    )


if __name__ == "__main__":
    main()
