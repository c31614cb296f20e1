# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes, checks and plans as text. Takes a plan as a module returns it, so that modules can show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import typed
from .checks import Check
from .errors import UsageError


def human(size: float) -> str:
    """Bytes as text: 1.5 GB is 1.5 * 10^9."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@dataclass(frozen=True)
class _PassedOver:
    id: str
    problem: str


@dataclass(frozen=True)
class _Plan:
    needed: bool = False
    why: str = ""
    condition: str = ""
    findings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    passed_over: tuple[_PassedOver, ...] = ()


def _plan(made: Mapping[str, object]) -> _Plan:
    return typed.build(_Plan, made, lambda at, why: UsageError("show the plan", at, why), unknown="ignore")


def assessed(what: str, made: Mapping[str, object]) -> list[str]:
    """How the text of a plan begins: what was seen, and whether anything is to be done."""
    plan = _plan(made)
    return [
        f"{what} is {plan.condition}",
        *(f"  found: {finding}" for finding in plan.findings),
        *(f"  not checked: {thing}" for thing in plan.unchecked),
        f"{'to do' if plan.needed else 'nothing to do'}: {plan.why}",
    ]


def cautions(made: Mapping[str, object]) -> list[str]:
    """What an operator must know of a plan's choice before agreeing to it."""
    plan = _plan(made)
    over = [f"  passed over {backup.id}: {backup.problem}" for backup in plan.passed_over]
    return [*(f"  WARNING: {warning}" for warning in plan.warnings), *over]


def checks(found: Sequence[Check]) -> list[str]:
    return [f"{check.result:<16} {check.name}: {check.words}" for check in found]
