#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_test
short_description: Send one alert through the real chain, and see that it arrives
version_added: 0.1.0
description:
  - Sends C(LifeboatAlertTest) to Alertmanager, which routes it as it routes every alert of that severity, and waits
    until each receiver has taken it. Somebody is really told. It ends the alert afterwards.
  - Alertmanager's own counts of requests that ended, and of those that failed, say whether a receiver took it. They are
    told apart by receiver only where Alertmanager runs with C(--enable-feature=receiver-name-in-metrics), as the role
    P(lifeboat.dr.monitoring_server#role) starts it.
  - Fails unless the verdict is C(PASS). C(COULD_NOT_VERIFY) is a failure too, since nothing was seen to arrive.
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
options:
  url:
    description: Alertmanager's address.
    type: str
    default: http://127.0.0.1:9093
  stack_name:
    description: The stack that the alert is of, by which it is grouped. Empty, nothing is sent and nothing passes.
    type: str
    default: ""
  severity:
    description: The severity of the alert, by which it is routed.
    type: str
    choices: [critical, warning, info]
    default: critical
  wait_seconds:
    description: How long it may take.
    type: int
    default: 180
  arrived:
    description:
      - Where what a receiver got can be read, a file on this host or an address. The id of the test must be in it.
        Empty asks Alertmanager alone.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Sends nothing, so that nothing passes.
  diff_mode:
    support: none
    details: Changes nothing that stays.
"""

EXAMPLES = r"""
- name: See that critical alerts arrive
  lifeboat.dr.alert_test:
    stack_name: shop
    severity: critical
"""

RETURN = r"""
verdict:
  description: C(PASS), C(FAIL) or C(COULD_NOT_VERIFY).
  returned: always
  type: str
id:
  description: The label C(test) of the alert.
  returned: always
  type: str
checks:
  description: Every check with its result and what was seen.
  returned: always
  type: list
  elements: dict
  sample: [{name: slack of critical, result: PASS, detail: "the receiver took it: 1 of 1 requests"}]
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, pipeline, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import refuse
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import alert_test
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.alertmanager import Client


def main() -> None:
    started = clock.start()
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:9093"},
            "stack_name": {"type": "str", "default": ""},
            "severity": {"type": "str", "choices": list(alert_test.SEVERITIES), "default": "critical"},
            "wait_seconds": {"type": "int", "default": 180},
            "arrived": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given, log = module.params, list[str]()
    try:
        asked = alert_test.request_of(given["stack_name"], given["severity"], given["wait_seconds"], given["arrived"])
        found = alert_test.send(
            Client(given["url"]), asked, now=started.started_at, log=log.append, dry=module.check_mode
        )
    except LifeboatError as exc:
        refuse(module, exc, started, log)
    result = {
        "verdict": found.verdict, "id": found.id, "checks": [check.as_dict() for check in found.checks],
        "log": log, "phase": typed.plain(started.phase()), "changed": False,
    }  # fmt: skip
    if found.verdict != PASS:
        module.fail_json(msg=pipeline.scrub(f"{found.verdict}: {alert_test.summary(found.checks)}"), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
