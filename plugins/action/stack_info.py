# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action.normal import ActionModule as Normal
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.plugin_utils import inventory


class ActionModule(Normal):  # type: ignore[misc,unused-ignore] # Ansible has no types
    """Writes the text of the inventory here, from what the module answered, whatever text the host sent along."""

    def run(self, tmp: object = None, task_vars: Optional[Mapping[str, object]] = None) -> dict[str, object]:
        done: dict[str, object] = super().run(tmp, task_vars)
        if done.get("failed") or done.get("skipped"):
            return done
        try:
            draft = inventory.draft_of(done)
        except LifeboatError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return {**done, **typed.plain(draft), "text": inventory.text(draft)}
