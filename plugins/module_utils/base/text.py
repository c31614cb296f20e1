# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes, checks and plans as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from .checks import SHOWN, Check
from .errors import printable, prints

named = printable  # a name, for a line that people read


def printable_json(value: object, indent: Optional[int] = None) -> str:
    """JSON for people too, with what does not print escaped: JSON itself asks for that of some of it only."""
    said = json.dumps(value, ensure_ascii=False, indent=indent)
    if said.isprintable():
        return said
    between = "" if indent is None else "\n"  # within a text it is escaped already
    return "".join(letter if prints(letter) or letter == between else json.dumps(letter)[1:-1] for letter in said)


def human(size: float) -> str:
    """Bytes as text: 1.5 GB is 1.5 * 10^9."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def several(what: str, names: Sequence[str], most: int = SHOWN) -> str:
    """Names with what they are names of: "the bucket a", "the buckets a, b"; of very many the first and how many."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"the {what}{'s' if len(names) > 1 else ''} {', '.join(map(named, names[:most]))}{rest}"


@dataclass(frozen=True)
class Untested:
    """What is not proved, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class PassedOver:
    """A newer backup that was not chosen, and why."""

    id: str
    problem: str


@dataclass(frozen=True)
class Outline:
    """What every plan says that restores a backup. Roles see it as JSON, with these names.

    state: the time that was asked for. writers: who is stopped meanwhile. accepted: why the backup failed, which an
    operator named and accepted; empty where it did not.
    """

    needed: bool
    condition: str
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    warnings: tuple[str, ...]
    why: str
    state: str
    location: str
    recovery_point: str
    passed_over: tuple[PassedOver, ...]
    accepted: tuple[str, ...]
    writers: tuple[str, ...]
    stamp: str
    steps: tuple[str, ...]
    target: str
    target_seconds: int


@dataclass(frozen=True)
class Planned(Outline):
    """The like for a server. asked: for a state, which it is to have again."""

    asked: bool


def assessed(what: str, plan: Outline, verb: str = "is") -> list[str]:
    """How the text of a plan begins: what was seen, and whether anything is to be done."""
    return [
        f"{what} {verb} {plan.condition}",
        *(f"  found: {finding}" for finding in plan.findings),
        *(f"  not checked: {thing}" for thing in plan.unchecked),
        f"{'to do' if plan.needed else 'nothing to do'}: {plan.why}",
    ]


def cautions(
    warnings: Sequence[str], passed_over: Sequence[PassedOver] = (), accepted: Sequence[str] = ()
) -> list[str]:
    """What an operator must know of a plan's choice before agreeing to it."""
    over = [f"  passed over {backup.id}: {backup.problem}" for backup in passed_over]
    failed = [f"  ACCEPTED although it failed: {'; '.join(accepted)}"] if accepted else []
    return [*failed, *(f"  WARNING: {warning}" for warning in warnings), *over]


def checks(found: Sequence[Check]) -> list[str]:
    return [named(f"{check.result:<16} {check.name}: {check.words}") for check in found]


def of_other(check: Check, name: str) -> Check:
    """The same of another database than the application's."""
    return replace(check, name=f"{check.name} of {named(name)}", subject=name)
