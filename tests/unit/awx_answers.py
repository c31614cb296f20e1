# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of extra variables that AWX 24.6.1 writes for a job, which it passes as `-e @file`.

Each key and each text has the tag `!unsafe`; numbers and lists are plain. https://github.com/ansible/awx, tag 24.6.1,
awx/main/utils/safe_yaml.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.CSafeDumper):
    """AWX's SafeStringDumper, with libyaml."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("!unsafe", text))


def as_awx_writes(answers: Mapping[str, Any]) -> str:
    return yaml.dump(dict(answers), Dumper=_Dumper, default_flow_style=False)
