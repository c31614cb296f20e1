# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the phase that plans a recovery from a backup ends: what its hooks do is said, and its backup held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..repository import sources
from ..settings.scenarios import SCENARIOS
from ..stack import hooks
from ..stack.runtime import Opened
from .step import Result, Step


class Plan(Protocol):
    @property
    def needed(self) -> bool: ...

    @property
    def backup(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Planned:
    """What the modules *_plan_info return."""

    plan: object
    needed: bool
    text: Sequence[str]


def planned(step: Step, opened: Opened, plan: Plan, text: list[str], scenario: str, *, restores: bool) -> Result:
    """Return the plan with its text. restores: from its backup, on which a hold is left where it is carried out."""
    if plan.needed:
        text += hooks.planned(step.config, SCENARIOS[scenario].component)
    if step.holds and restores:
        location, identity = str(plan.backup["place"]), str(plan.backup["id"])
        text += sources.hold(opened, location, identity, SCENARIOS[scenario].playbook, step.now)
    return Result(Planned(plan, plan.needed, text))
