# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A secret that no host keeps is sent in memory only: through a pipe, or not at all.

Without pipelining Ansible writes a module with its arguments into a file of the host, runs it and removes it. That file
is readable on the disk, and after a power cut it stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action.normal import ActionModule as Normal

SECRETS = {"identity": "the age identity", "admin_secret_key": "the vault administrator's key"}  # options, and in words


class ActionModule(Normal):  # type: ignore[misc,unused-ignore] # Ansible has no types
    """Runs the module that meta/runtime.yml routes to it; not where one of its secrets would lie on the host's disk."""

    def run(self, tmp: object = None, task_vars: Optional[Mapping[str, object]] = None) -> dict[str, object]:
        for option, words in SECRETS.items():
            if self._task.args.get(option) and not self._pipelined():
                host = (task_vars or {}).get("inventory_hostname", "the host")
                raise AnsibleActionFail(
                    f"Could not send {words} ({self._task.action} on {host}): {self._why()}, so it would lie on that"
                    " host's disk while the module runs. Nothing was sent."
                )
        done: dict[str, object] = super().run(tmp, task_vars)
        return done

    def _later(self) -> bool:
        return bool(self._task.async_val) and not self._connection.has_native_async

    def _pipelined(self) -> bool:
        """Whether Ansible pipes the module: it asks itself the same just before it sends it."""
        return bool(self._is_pipelining_enabled("new", self._later()))

    def _why(self) -> str:
        name = getattr(self._connection, "ansible_name", "") or self._connection.transport
        become = self._connection.become
        if not self._connection.has_pipelining:
            return f"the connection {name} has no pipelining; use ssh"
        if become and not getattr(become, "pipelining", become.name != "su"):
            return f"with {become.name} there is no pipelining; set ansible_become_method to sudo"
        if C.DEFAULT_KEEP_REMOTE_FILES:
            return "ANSIBLE_KEEP_REMOTE_FILES turns pipelining off; unset it"
        if self._later():
            return "a task with async is not pipelined; leave async out"
        return "pipelining is off; set ansible_pipelining to true for it, or pipelining in [connection] of ansible.cfg"
