#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: undeploy
short_description: Take a stack off a host; its backups stay
version_added: 0.1.0
description:
  - Removes the stack's schedule, configuration, secrets, metrics file and log shipping. With the last stack of the host
    the command, its completion and its log rotation go, too.
  - Backups, keys, evidence, logs and whatever a recovery moved aside stay.
  - Refused while a command of the stack runs, or a recovery of it has not ended.
options:
  stack_name:
    description: The stack.
    type: str
    required: true
  config_directory:
    description: Where the host's configuration is.
    type: path
    default: /etc/lifeboat
  shared:
    description: Files that all stacks of the host use.
    type: list
    elements: path
    default: [/usr/local/bin/lifeboat, /usr/share/bash-completion/completions/lifeboat, /etc/logrotate.d/lifeboat]
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The path of each file; no content.
"""

EXAMPLES = r"""
- name: Take the stack off the host
  lifeboat.dr.undeploy:
    stack_name: shop
"""

RETURN = r"""
removed:
  description: The files that went, or in check mode would go.
  returned: success
  type: list
  elements: str
kept:
  description: What of the stack stays, one line each. Where the stack is not deployed, which stacks are.
  returned: success
  type: list
  elements: str
services:
  description: Services to restart, as they have read one of the files.
  returned: success
  type: list
  elements: str
  sample: [rsyslog]
log:
  description: What was done, line by line. Empty, as the diff has it.
  returned: success
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: success
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.module.placing import Placing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import undeployment
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.undeployment import Undeployment
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import timers


def work(module: AnsibleModule, placing: Placing) -> Undeployment:
    stack, directory = module.params["stack_name"], Path(module.params["config_directory"])
    shared = [Path(path) for path in module.params["shared"]]
    if not (directory / f"{stack}.json").exists():
        elsewhere = ", ".join(undeployment.deployed(directory)) or "none"
        return Undeployment((), (f"the stack {stack} is not deployed on this host; deployed are: {elsewhere}",), ())
    known = config.load(stack, directory)
    with lock.held(stack, "undeploy"), lock.verifying(stack, "undeploy"):
        planned = undeployment.plan(known, directory, shared)
        units = [] if placing.check else [path for path in planned.remove if timers.is_ours(str(path))]
        timers.stop([path.name for path in units if path.suffix == timers.TIMER])
        for path in planned.remove:
            placing.absent(path)
        if units:
            timers.reload()
    return planned


def main() -> None:
    started = clock.start()
    module = AnsibleModule(
        argument_spec={
            "stack_name": {"type": "str", "required": True},
            "config_directory": {"type": "path", "default": "/etc/lifeboat"},
            "shared": {
                "type": "list", "elements": "path",
                "default": [
                    "/usr/local/bin/lifeboat",
                    "/usr/share/bash-completion/completions/lifeboat",
                    "/etc/logrotate.d/lifeboat",
                ],
            },
        },
        supports_check_mode=True,
    )  # fmt: skip
    placing = Placing(module.check_mode)
    try:
        planned = work(module, placing)
    except LifeboatError as exc:
        module.fail_json(msg=pipeline.scrub(str(exc)))
    except OSError as exc:
        module.fail_json(msg=f"Could not remove {exc.filename}: {exc.strerror or exc}. Mend that, then run this again.")
    module.exit_json(
        changed=placing.changed, removed=[str(path) for path in planned.remove], kept=list(planned.keep),
        services=list(planned.services), log=[], phase=typed.plain(started.phase()),
        diff={"before": placing.before, "after": placing.after},
    )  # fmt: skip


if __name__ == "__main__":
    main()
