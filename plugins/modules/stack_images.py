#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_images
short_description: Provide the images of a stack's services
version_added: 0.1.0
description:
  - For each service of the Compose project the very image that was recorded, from the engine, the backup's archive or a
    registry; else another build of the same name, which is said.
  - Fails where an image is to be had from nowhere, and says where it was looked for.
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
options:
  images:
    description: Service to image by digest, as a recovery point has them.
    type: dict
    default: {}
  id:
    description: The config backup whose archive may hold the images. Empty means none.
    type: str
    default: ""
  place:
    description: Where to take it from.
    type: str
    choices: [repository, vault, repository_versions, vault_versions]
    default: vault
attributes:
  check_mode:
    support: full
    details: Says which services lack theirs.
  diff_mode:
    support: none
    details: The result names the services.
"""

EXAMPLES = r"""
- name: Provide the images
  lifeboat.dr.stack_images:
    stack: shop
    id: config_backup_20261124_033000
"""

RETURN = r"""
services:
  description: The services of the project.
  returned: success
  type: list
  elements: str
brought:
  description: The services whose image was brought here, or would be.
  returned: success
  type: list
  elements: str
checks:
  description: Each image, and whether it is the recorded one.
  returned: success
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

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore as configuration_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import IDENTITY, Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import PLACES, VAULT, open_place
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images as stack_images
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age


@dataclass(frozen=True)
class Facts:
    services: Sequence[str] = ()
    brought: Sequence[str] = ()
    checks: Sequence[Check] = ()


def work(task: Task) -> Result:
    given = task.params
    if task.config.runtime.type != "compose":
        return Result(Facts())  # units come from packages

    def load() -> object:
        if not given["id"]:
            raise NotFoundError("load the images", task.config.stack, "there is no config backup")
        store = open_place(Opened(task.config), given["place"])
        keys = age.keys(task.config, given["identity"])
        return configuration_restore.load_images(store, given["id"], keys=keys, log=task.log)

    stack = runtime.ComposeRuntime(task.config)
    found, brought = stack_images.provide(stack, given["images"], load, check=task.check, log=task.log)
    services = sorted(stack.model.services)
    return Result(Facts(services, brought, found), changed=bool(brought))


def main() -> None:
    run(
        work,
        {
            "images": {"type": "dict", "default": {}},
            **IDENTITY,
            "id": {"type": "str", "default": ""},
            "place": {"type": "str", "choices": list(PLACES), "default": VAULT},
        },
    )


if __name__ == "__main__":
    main()
