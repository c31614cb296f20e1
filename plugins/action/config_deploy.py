# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.lifeboat.dr.plugins.plugin_utils.in_memory import InMemory


class ActionModule(InMemory):
    """Sends the module's secrets in memory only."""
