#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_deploy
short_description: Put the files of a config backup where they were
version_added: 0.1.0
description:
  - Compose files, C(.env), secret files and whatever else the backup holds, with their owners and modes. Every file is
    compared with the backup's listing.
  - What is in the way is moved aside, below the stack's state directory, never deleted. Files that are right already
    are left alone.
  - Cron files and systemd units are put there only by O(which=schedules), so that no job runs on a site that is half
    recovered.
  - The backup is not trusted. Placed is what the inventory names, in the project's directory and at the paths of
    C(lifeboat_config), without setuid, setgid and sticky bits, and no link that leads outside. The rest is left out,
    and RV(checks) says so.
  - For V(files) Compose reads the project. A service that would reach out of its container (privileges, the host's
    directories or namespaces, devices) is an error before anything is started.
  - Internal to the role C(site_recovery).
extends_documentation_fragment:
  - lifeboat.dr.stack
  - lifeboat.dr.options.identity
  - lifeboat.dr.options.allow
options:
  id:
    description: The config backup.
    type: str
    required: true
  place:
    description: Where to take it from.
    type: str
    choices: [repository, vault, repository_versions, vault_versions]
    default: vault
  which:
    description: V(files) are all but cron files and systemd units, V(schedules) are those.
    type: str
    choices: [files, schedules]
    default: files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The paths. Contents are not shown, for secrets are among them.
"""

EXAMPLES = r"""
- name: Deploy the configuration
  lifeboat.dr.config_deploy:
    stack: shop
    id: config_backup_20261124_033000
    identity: "{{ lookup('ansible.builtin.file', identity_file) }}"
"""

RETURN = r"""
written:
  description: The paths that were put in place, or would be.
  returned: success
  type: list
  elements: str
aside:
  description: Path to where the file that was in the way is kept.
  returned: success
  type: dict
left_out:
  description: What of the backup was not placed as it is there, C(path) and C(why).
  returned: success
  type: list
  elements: dict
checks:
  description: That all is as the backup's listing says, what was left out of it, and that no service reaches out.
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

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, checks, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import allowed, services
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration.allowed import LeftOut
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import ALLOW, IDENTITY, Result, Task, added, run
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import PLACES, VAULT, open_place
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.site import keeper_readback


@dataclass(frozen=True)
class Facts:
    written: Sequence[str]
    aside: Mapping[str, str]
    left_out: Sequence[LeftOut]
    checks: Sequence[checks.Check]


def work(task: Task) -> Result:
    given = task.params
    purpose = "deploy the configuration"
    with contextlib.nullcontext() if task.check else lock.held(task.config.stack, purpose, wait=60):
        placed = site_files.place_files(
            task.config,
            open_place(keeper_readback.opened(Opened(task.config)), given["place"]),
            given["id"],
            key=given["identity"],
            which=given["which"],
            stamp=clock.stamp(task.now),
            check=task.check,
            log=task.log,
            allow=given["allow"],
        )
    words = f"{len(placed.written)} put in place, {placed.same} there already, as {given['id']} has them"
    found = [checks.Check(given["which"], checks.PASS, words), *allowed.checks(placed.left)]
    found += [services.check(placed.services)] if placed.services else []
    facts = Facts(placed.written, placed.aside, placed.left, found)
    return Result(facts, changed=bool(placed.written), diff=added(placed.written))


def main() -> None:
    run(
        work,
        {
            "id": {"type": "str", "required": True},
            "place": {"type": "str", "choices": list(PLACES), "default": VAULT},
            **IDENTITY,
            **ALLOW,
            "which": {"type": "str", "choices": [site_files.FILES, site_files.SCHEDULES], "default": site_files.FILES},
        },
    )


if __name__ == "__main__":
    main()
