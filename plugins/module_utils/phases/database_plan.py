# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the database and plan its recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..database import plan as database_plan
from ..database.planned import Plan
from ..repository import sources
from ..stack import hooks
from ..stack.runtime import Opened
from .step import ACCEPT, HOLD, IDENTITY, TARGET, Options, Result, Step

OPTIONS: Options = {
    **TARGET,
    **ACCEPT,
    **HOLD,
    **IDENTITY,
    "force": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["auto", "swap", "rebuild"], "default": "auto"},
    "database": {"type": "str", "default": ""},
    "others": {"type": "str", "choices": ["ask", "restore", "aside"], "default": "ask"},
}


@dataclass(frozen=True)
class Planned:
    plan: Plan
    needed: bool
    text: Sequence[str]


def work(step: Step) -> Result:
    opened = Opened(step.config, step.params["identity"])
    request = database_plan.Request(
        identity=step.params["recovery_point"],
        before=step.before(),
        force=step.params["force"],
        method=step.params["method"],
        accept=step.accept,
        database=step.params["database"],
        others=step.params["others"],
    )
    made = database_plan.make(opened, request, log=step.log)
    text = database_plan.text(made)
    if made.needed:
        text += hooks.planned(step.config, "database")
    if step.holds and made.mode not in ("none", "reopen"):
        place, identity = str(made.backup["place"]), str(made.backup["id"])
        text += sources.hold(opened, place, identity, "recover_database", step.now)
    return Result(Planned(made, made.needed, text))
