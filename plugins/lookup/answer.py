# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: answer
short_description: Read what the operator answered, in the declared type
version_added: 0.1.0
description:
  - The value of a variable that a playbook of this collection asks for, whether it was typed on the command line, kept
    in a YAML file, or answered in a survey of AWX.
  - What YAML turned into another type is turned back where there is one way to do it. Everything else is refused, and
    the error names the variable.
  - An answer left empty, or null, is the default.
options:
  _terms:
    description: The name of one variable.
    required: true
  default:
    description: The value where the variable is not set or is left empty.
    type: raw
  missing:
    description: What to do where the variable is not set. It ends the run; then O(default) is not used.
    type: str
author:
  - The Lifeboat founders (@lifeboat)
"""

EXAMPLES = r"""
- name: Show the host that was confirmed
  ansible.builtin.debug:
    msg: "{{ lookup('lifeboat.dr.answer', 'confirm', default='') }}"
"""

RETURN = r"""
_raw:
  description: The answer in its declared type.
  type: list
  elements: raw
"""

from collections.abc import Mapping
from typing import Optional

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.lifeboat.dr.plugins.plugin_utils import answers


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore] # Ansible has no types
    def run(self, terms: list[str], variables: Optional[Mapping[str, object]] = None, **kwargs: object) -> list[object]:
        (name,) = terms
        value = self._templar.template((variables or {}).get(name))
        try:
            answer = answers.read(name, value)
        except answers.AnswerError as problem:
            raise AnsibleError(f"Could not read the answer {name}: {problem}. Nothing was done.") from None
        if answer is None and "missing" in kwargs:
            raise AnsibleError(f"The answer {name} is missing. {kwargs['missing']}")
        return [kwargs.get("default") if answer is None else answer]
