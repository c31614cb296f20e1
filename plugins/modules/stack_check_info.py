#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_check_info
short_description: Refuse an inventory that cannot work, before anything is installed
version_added: 0.1.0
description:
  - Fails, naming every variable to correct, where a C(lifeboat_) variable is unknown, a key or value of the
    configuration is wrong, an address has no scheme, a port does not answer, an S3 server refuses the key, or another
    stack has the same repository.
  - Logs in to the database as M(lifeboat.dr.database_info) does.
  - Needs no boto3, so that it can run on a host before its first deployment. Says which packages the host lacks.
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.stack.reads_only
options:
  variables:
    description: The names of the C(lifeboat_) variables that the inventory sets.
    type: list
    elements: str
    default: []
  known:
    description: The names that a role reads.
    type: list
    elements: str
    default: []
  host:
    description: The inventory's name of this host, to find it in O(places).
    type: str
    default: ""
  places:
    description: Where the stacks of the play keep their backups; each has C(host), C(machine), C(stack), C(repository).
    type: list
    elements: dict
    default: []
  reach:
    description:
      - The stack is up, so its services must answer, and its database let the account in that takes backups. The vault
        and a repository in S3 must answer in any case.
    type: bool
    default: true
  packages:
    description: What the host should have, by Debian's names. It is looked for by what a package brings.
    type: list
    elements: str
    choices: [age, cron, git, logrotate, openssh-client, python3-boto3, tzdata, zstd]
    default: []
"""

EXAMPLES = r"""
- name: Refuse an inventory that cannot work
  lifeboat.dr.stack_check_info:
    settings: "{{ agent_configuration }}"
    secrets: "{{ agent_secrets }}"
    variables: [lifeboat_stack, lifeboat_repositry]
    known: [lifeboat_stack, lifeboat_repository]
"""

RETURN = r"""
notes:
  description:
    - What works and should be known at once, such as secret files that no backup will hold.
    - The databases that each backup will hold and those that it leaves out, where the server answers.
  returned: success
  type: list
  elements: str
missing:
  description: The packages of O(packages) that the host lacks.
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

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import reach
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import Result, Task, run
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import preflight
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import retention
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


@dataclass(frozen=True)
class Facts:
    """It may be deployed. notes: what its operator had better know at once. missing: packages to install."""

    notes: list[str]
    missing: list[str]


def names(module: AnsibleModule) -> None:
    """Unknown variables before the configuration, whose errors may be their consequence."""
    params = module.params
    preflight.refuse(preflight.unknown(params["variables"], params["known"]), params["host"] or "inventory")
    if params["settings"] is not None:
        preflight.configuration(params["settings"], params["secrets"] or {})


def work(task: Task) -> Result:
    config, params = task.config, task.params
    retention.policy(config)
    places = typed.build(
        tuple[preflight.Location, ...],
        params["places"],
        partial(UsageError, "read where the stacks keep their backups"),
    )
    here = next((place.machine for place in places if place.host == params["host"]), params["host"])
    own = preflight.Location(params["host"], here, config.stack, typed.plain(config.repository))
    problems = [*preflight.addresses(config), *preflight.hooks(config)]
    problems += preflight.shared(own, places, Path(params["config_directory"]))
    # An address without a scheme cannot be asked.
    opened = Opened(config)
    problems += [] if problems else preflight.unreachable(opened, stack=params["reach"])
    preflight.refuse(problems, f"stack {config.stack}")
    if params["reach"] and config.database.enabled and (warning := reach.database(opened).warning):
        task.module.warn(warning)
    notes = preflight.notes(opened) if params["reach"] else []
    return Result(Facts(notes, preflight.missing(params["packages"])))


def main() -> None:
    run(
        work,
        {
            "variables": {"type": "list", "elements": "str", "default": []},
            "known": {"type": "list", "elements": "str", "default": []},
            "host": {"type": "str", "default": ""},
            "places": {"type": "list", "elements": "dict", "default": []},
            "reach": {"type": "bool", "default": True},
            "packages": {"type": "list", "elements": "str", "choices": sorted(preflight.PACKAGES), "default": []},
        },
        first=names,
    )


if __name__ == "__main__":
    main()
