# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a scenario: the proxy in front of the stack is lost. What is new is its playbook, its role and its runbook."""

from __future__ import annotations

from pathlib import Path

from edits import insert, run, write

PLAYBOOK = """---
- name: Recover the proxy (scenario 6)
  hosts: "{{ lookup('lifeboat.dr.hosts', 'lifeboat_stacks') }}"
  gather_facts: false
  become: true
  roles:
    - role: lifeboat.dr.preflight
    - role: lifeboat.dr.proxy_recovery
"""
DEFAULTS = """---
proxy_recovery_confirm: "{{ lookup('lifeboat.dr.answer', 'confirm', default='') }}"
proxy_recovery_reason: "{{ lookup('lifeboat.dr.answer', 'reason', default='') }}"
"""
SPECS = """---
argument_specs:
  main:
    short_description: Recover the proxy
    description: Assesses and plans; changes nothing unless O(proxy_recovery_confirm) names this host.
    author: The Lifeboat founders
    options:
      proxy_recovery_confirm:
        description: The host's inventory name, to act on it. Empty only plans.
        type: str
        default: "{{ lookup('lifeboat.dr.answer', 'confirm', default='') }}"
      proxy_recovery_reason:
        description: Why, for the evidence.
        type: str
        default: "{{ lookup('lifeboat.dr.answer', 'reason', default='') }}"
"""
TASKS = """---
- name: Restart the proxy
  when: proxy_recovery_confirm == inventory_hostname
  ansible.builtin.service:
    name: proxy
    state: restarted
"""
SHOWN = """
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import history
from ansible_collections.lifeboat.dr.plugins.module_utils.module import task
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
stack = config.from_mapping({"stack": "shop", "runtime": {"project": "shop"}, "targets": {"proxy": 60}})
print("a drill offers it:", "proxy" in task.SCENARIO["scenario"]["choices"], fault.choose(stack, "proxy").name)
print("it is to be drilled:", history.answer(stack, [])["scenarios"])
print("its target:", stack.target("proxy"))
"""
EXPECTED = (
    "a drill offers it: True power_off",
    "it is to be drilled: ['database', 'backend', 'site', 'proxy']",
    "its target: 60",
)


def add(root: Path) -> None:
    insert(
        root / "plugins/module_utils/settings/scenarios.py", "    )\n}  # fmt: skip",
        '        Scenario("proxy", 900, ("power_off",), proofs=("application",), data=False),\n',
    )  # fmt: skip
    insert(root / "plugins/doc_fragments/options.py", "]\n" + '"""\n\n    DRILL', ", proxy")
    drill = root / "roles/drill"
    scenario = "]\n        default: \"{{ lookup('lifeboat.dr.answer', 'scenario', default='all') }}\""
    insert(drill / "meta/argument_specs.yml", scenario, ", proxy")
    insert(drill / "defaults/main.yml", '] }}"\ndrill_mode', ", 'proxy'")
    insert(drill / "tasks/recover.yml", "\n- name: recover | Refuse a recovery", (
        '    proxy_recovery_confirm: "{{ inventory_hostname }}"\n    proxy_recovery_reason: "{{ drill_reason }}"\n'
    ))  # fmt: skip
    write(root / "playbooks/recover_proxy.yml", PLAYBOOK)
    write(root / "roles/proxy_recovery/defaults/main.yml", DEFAULTS)
    write(root / "roles/proxy_recovery/meta/argument_specs.yml", SPECS)
    write(root / "roles/proxy_recovery/tasks/main.yml", TASKS)
    for folder in ("docs", "docs/ja"):
        write(root / folder / "runbook-proxy.md", "# The proxy is lost\n")


if __name__ == "__main__":
    run(add)
