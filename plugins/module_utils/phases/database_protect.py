# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop the writers and put damaged data aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base import lock
from ..database import protect as database_protect
from ..database.planned import Plan
from ..recovery import state as recovery_state
from ..stack import hooks
from ..stack.runtime import Opened
from . import reopened
from .step import IDENTITY, Options, Result, Step

OPTIONS: Options = {
    **IDENTITY,
    "plan": {"type": "dict", "required": True},
    "reopen": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Foreseen:
    mode: str
    fresh: bool
    stopped: Sequence[str]
    quarantine: str = ""
    way_back: Sequence[str] = ()
    replaced: Sequence[str] = ()
    copied: str = ""
    databases: Sequence[str] = ()


def work(step: Step) -> Result:
    planned = step.plan(Plan, "database_plan_info")
    if step.check:
        return Result(
            Foreseen(
                "swap" if planned.mode == "fill" else planned.mode,
                planned.mode in ("rebuild", "fill"),
                (*planned.writers, *planned.one_offs),
                replaced=planned.replaced,
            ),
            changed=True,
        )
    opened = Opened(step.config, step.params["identity"])
    turn = recovery_state.own_turn(step.config, "recover the database", planned.stamp, planned.turn)
    hooked = hooks.continued(step.config, hooks.RECOVERY, "database", step.log)
    with lock.held(step.config.stack, "recover database", wait=60), turn, hooked:
        done = database_protect.protect(opened, planned, log=step.log)
    if step.params["reopen"] and done.mode == "started":
        return Result(reopened.after(step, opened, done, planned.writers), changed=True)
    return Result(done, changed=True)
