#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: escrow
short_description: Prove that the escrowed key and the vault's credentials open a recovery point
version_added: 0.1.0
description:
  - Reads a recovery point in the vault alone, compares every byte of its backups with what was written, decrypts every
    sealed artefact to its end, and finds the objects in the mirror.
  - Asks nothing of the protected host, so run it from any other machine. Give O(settings) and O(secrets) there.
  - A success is put on record in the vault; C(lifeboat status) tells how long ago that was.
  - Fails unless the verdict is C(PASS). C(COULD_NOT_VERIFY) is a failure too, since nothing was proved.
extends_documentation_fragment:
  - lifeboat.dr.stack
options:
  identity:
    description: The age identity, as text. It goes to age's standard input and nowhere else.
    type: str
    required: true
  point:
    description: The recovery point; V(latest) is the newest that can be used.
    type: str
    default: latest
attributes:
  check_mode:
    support: full
    details: Proves it, but leaves no record.
  diff_mode:
    support: none
    details: The record is a time.
requirements:
  - age
  - boto3
"""

EXAMPLES = r"""
- name: Prove that the key in the safe opens the vault
  lifeboat.dr.escrow:
    settings:
      stack: shop
      runtime: {type: host}
      vault: {endpoint_url: "https://s3.elsewhere.example", repository_bucket: shop-repository}
    secrets:
      vault_access_key: "{{ vault_access_key }}"
      vault_secret_key: "{{ vault_secret_key }}"
    identity: "{{ lookup('ansible.builtin.file', '/media/usb/age.key') }}"
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: always
  type: str
id:
  description: The recovery point.
  returned: always
  type: str
checks:
  description: Every check with its result and what was seen.
  returned: always
  type: list
  elements: dict
  sample: [{name: "config: secrets", result: PASS, detail: "the key opens all of it: 4 secret files, as listed"}]
log:
  description: What was done, line by line.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""


from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow


def work(task: Task) -> Result:
    identity, point = task.params["identity"], task.params["point"]
    result = escrow.prove(Opened(task.config), identity, point=point, record=not task.check, log=task.log)
    if result.verdict != checks.PASS:
        bad = [f"{check.name}: {check.detail}" for check in result.checks if check.result != checks.PASS]
        task.fail(f"{result.verdict}: {result.id}: {'; '.join(bad)}", Result(result))
    return Result(result)


def main() -> None:
    run(
        work,
        {"identity": {"type": "str", "required": True, "no_log": True}, "point": {"type": "str", "default": "latest"}},
    )


if __name__ == "__main__":
    main()
