# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: known_variables
short_description: Name the variables of an inventory that the roles of this collection read
version_added: 0.1.0
description:
  - Every C(lifeboat_) variable that an option of a role defaults to, read from the roles themselves.
options:
  _terms:
    description: None are wanted.
author:
  - The Lifeboat founders (@lifeboat)
"""

EXAMPLES = r"""
- name: Show what an inventory may set
  ansible.builtin.debug:
    msg: "{{ query('lifeboat.dr.known_variables') }}"
"""

RETURN = r"""
_raw:
  description: The names, sorted.
  type: list
  elements: str
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from ansible.plugins.lookup import LookupBase

ROLES = Path(__file__).resolve().parents[2] / "roles"


class LookupModule(LookupBase):  # type: ignore[misc,unused-ignore] # Ansible has no types
    def run(self, terms: object, variables: Optional[Mapping[str, object]] = None, **kwargs: object) -> list[str]:
        # A specification cannot hold a default that is a template of a mapping; the test of both compares the rest.
        files = [path for name in ("defaults/main.yml", "meta/argument_specs.yml") for path in ROLES.glob(f"*/{name}")]
        given = re.compile(r"{{.*?\blifeboat_.*?}}", re.DOTALL)
        templates = [text for path in files for text in given.findall(path.read_text(encoding="utf-8"))]
        return sorted({name for text in templates for name in re.findall(r"\blifeboat_\w+", text)})
