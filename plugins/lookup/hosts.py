# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: Return the hosts that a play is about, and fail where there are none
version_added: 0.1.0
description:
  - The answer C(target), or without one the hosts that the playbook is for.
  - Ansible ends a play on no host with exit status 0, and AWX calls the job successful. This lookup ends the run with
    an error that names the groups and hosts that there are.
options:
  _terms:
    description: The pattern of the playbook's hosts, where nobody answered C(target).
    required: true
author:
  - The Lifeboat founders (@lifeboat)
"""

EXAMPLES = r"""
- name: Work on the stacks, or on what -e target=... names
  hosts: "{{ lookup('lifeboat.dr.hosts', 'lifeboat_stacks') }}"
  tasks: []
"""

RETURN = r"""
_raw:
  description: The pattern, which matches at least one host.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Optional, cast

from ansible import context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase
from ansible_collections.lifeboat.dr.plugins.plugin_utils import answers

_NAMES = 20  # that an error lists of groups and of hosts


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"{', '.join(names[:_NAMES])}{more}" if names else "none"


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore] # Ansible has no types
    def run(self, terms: list[str], variables: Optional[Mapping[str, object]] = None, **kwargs: object) -> list[str]:
        variables = variables or {}
        (pattern,) = terms
        if "target" in variables:
            pattern = self._answered(variables["target"])
        # A syntax check has no inventory.
        if not context.CLIARGS.get("syntax"):
            self._require_hosts(pattern, "target" in variables, variables)
        return [pattern]

    def _answered(self, value: object) -> str:
        value = self._templar.template(value)
        try:
            elements = [
                answers.read("target", element) for element in (value if isinstance(value, (list, tuple)) else [value])
            ]
        except answers.AnswerError as problem:
            raise AnsibleError(f"Could not read the answer target: {problem}. Nothing was done.") from None
        return ",".join(str(element) for element in elements if element is not None)

    def _require_hosts(self, pattern: str, answered: bool, variables: Mapping[str, object]) -> None:
        groups, limit = cast("Mapping[str, list[str]]", variables["groups"]), variables.get("ansible_limit")
        manager = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            manager.add_group(group)
            for host in hosts:
                manager.add_host(host, group=group)
        # A playbook may be for two groups of which one is enough; what an operator typed is meant, every part of it.
        parts = [part for part in split_host_pattern(pattern) if not part.startswith(("!", "&"))] if answered else []
        unmatched = [part for part in parts if not self._matches(manager, part)] or [pattern]
        manager.subset(limit)
        if pattern and unmatched == [pattern] and self._matches(manager, pattern):
            return
        asked = f"target={','.join(unmatched)}" if answered else f"{pattern}, which this playbook is for"
        limited = f" within --limit {limit}" if limit else ""
        named = [group for group in groups if group not in ("all", "ungrouped")]
        raise AnsibleError(
            f"No host of the inventory matches {asked}{limited}. Nothing was done. Groups: {_listed(named)}. Hosts:"
            f" {_listed(sorted({host for names in groups.values() for host in names}))}. Name one of them: -e"
            " target=<group or host>"
        )

    @staticmethod
    def _matches(manager: InventoryManager, pattern: str) -> bool:
        try:
            return bool(manager.get_hosts(pattern))
        except AnsibleError:
            return False
