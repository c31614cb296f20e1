# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks and plans for a terminal. Takes what as_dict() makes, so that modules can show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .checks import Check


def assessed(what: str, made: Mapping[str, Any]) -> list[str]:
    """How the text of a plan begins: what was seen, and whether anything is to be done."""
    return [
        f"{what} is {made['condition']}",
        *(f"  found: {finding}" for finding in made["findings"]),
        *(f"  not checked: {item}" for item in made["unchecked"]),
        f"{'to do' if made['needed'] else 'nothing to do'}: {made['why']}",
    ]


def cautions(made: Mapping[str, Any]) -> list[str]:
    """What an operator must know of a plan's choice before agreeing to it."""
    return [
        *(f"  WARNING: {warning}" for warning in made["warnings"]),
        *(f"  passed over {item['id']}: {item['problem']}" for item in made["passed_over"]),
    ]


def checks(found: Sequence[Check]) -> list[str]:
    return [f"{check.result:<16} {check.name}: {check.words}" for check in found]
