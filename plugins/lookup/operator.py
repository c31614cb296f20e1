# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: operator
short_description: Name who runs the playbook, for the evidence
version_added: 0.1.0
description:
  - The account where Ansible runs. Behind sudo it is the account that called sudo.
  - The environment says it at a terminal. In a container or a service it often does not; then the system does.
options:
  _terms:
    description: None are wanted.
author:
  - The Lifeboat founders (@lifeboat)
"""

EXAMPLES = r"""
- name: Show who is written into the evidence
  ansible.builtin.debug:
    msg: "{{ lookup('lifeboat.dr.operator') }}"
"""

RETURN = r"""
_raw:
  description: The account's name, or its number where the system knows no name.
  type: list
  elements: str
"""

import os
import pwd
from collections.abc import Mapping
from typing import Optional

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore] # Ansible has no types
    def run(self, terms: object, variables: Optional[Mapping[str, object]] = None, **kwargs: object) -> list[str]:
        for name in ("SUDO_USER", "USER", "LOGNAME"):
            if os.environ.get(name):
                return [os.environ[name]]
        try:
            return [pwd.getpwuid(os.getuid()).pw_name]
        except KeyError:  # a container's account need not have a name
            return [str(os.getuid())]
