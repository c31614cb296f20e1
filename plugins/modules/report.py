#!/usr/bin/python
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write the history page and the pages of all records
version_added: 0.1.0
description:
  - "Writes, where it runs: C(index.html) with what is overdue, the trend of recovery times and every record;
    C(fleet.html) with one line a stack, worst first; of each record its page in HTML, Markdown, JUnit XML and JSON;
    C(lifeboat.prom) for Prometheus."
  - Every page is one file that stands alone, without a script. Everything in a record is shown as text.
  - Meant for the controller, after M(lifeboat.dr.evidence_info) on the hosts.
options:
  directory:
    description: Where to write. Files there that are not part of the report are left alone.
    type: path
    required: true
  hosts:
    description:
      - Of each host C(host), its name, and what M(lifeboat.dr.evidence_info) returned as C(evidence); or C(problem),
        why it is not known.
      - >-
        For C(fleet.html) also C(status), what M(lifeboat.dr.backup_info) returned as that. A stack without it could not
        be verified.
      - And C(keeper), what C(lifeboat keeper status --json) said on the stack's keeper, where it has one.
    type: list
    elements: dict
    required: true
extends_documentation_fragment:
  - lifeboat.dr.stack.no_stack
attributes:
  check_mode:
    support: full
    details: Says which files would be written.
  diff_mode:
    support: none
    details: The names of the files are returned.
"""

EXAMPLES = r"""
- name: Write the report on the controller
  lifeboat.dr.report:
    directory: /srv/report
    hosts:
      - host: shop1
        evidence: "{{ evidence.evidence }}"
  delegate_to: localhost
"""

RETURN = r"""
index:
  description: The history page.
  returned: success
  type: str
fleet:
  description: The page with one line a stack.
  returned: success
  type: str
files:
  description: The files that were written, or would be, relative to the directory.
  returned: success
  type: list
  elements: str
overdue:
  description: What is overdue, each with C(host), C(stack), C(duty), C(state).
  returned: success
  type: list
  elements: dict
broken:
  description: Records that are not evidence, each with C(host), C(stack), C(id), C(problem).
  returned: success
  type: list
  elements: dict
silent:
  description: Hosts of which nothing is known, each with C(host) and C(problem).
  returned: success
  type: list
  elements: dict
log:
  description: Always empty.
  returned: always
  type: list
  elements: str
phase:
  description: When the module started and finished, UTC.
  returned: always
  type: dict
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import report
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import site as reports_site
from ansible_collections.lifeboat.dr.plugins.module_utils.module.task import refuse


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "hosts": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    started = clock.start()
    folder = Path(module.params["directory"])
    given = [{**(host.get("evidence") or {}), **host} for host in module.params["hosts"]]
    for item in given:
        if not item.get("problem") and not item.get("evidence"):
            item["problem"] = "nothing was read"
    try:
        stacks, files = reports_site.site(given, started.started_at, fleet=True)
        touch = report.differing if module.check_mode else report.write
        changed = touch(folder, files)
    except LifeboatError as exc:
        refuse(module, exc, started)
    module.exit_json(
        changed=bool(changed),
        index=str(folder / "index.html"),
        fleet=str(folder / "fleet.html"),
        files=changed,
        overdue=[
            {"host": stack.host, "stack": stack.stack, "duty": duty.name, "state": duty.state}
            for stack in stacks
            for duty in stack.overdue
        ],
        broken=[
            {"host": stack.host, "stack": stack.stack, "id": record.id, "problem": record.problem}
            for stack in stacks
            for record in stack.records
            if not record.good
        ],
        silent=[{"host": stack.host, "problem": stack.problem} for stack in stacks if stack.problem],
        log=[],
        phase=typed.plain(started.phase()),
    )


if __name__ == "__main__":
    main()
