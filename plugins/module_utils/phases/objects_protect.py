# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop the writers and see to a server that can be filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base import lock
from ..base.checks import Check
from ..objects import recovery as objects_recovery
from ..objects.plan import Plan
from ..recovery import state as recovery_state
from ..site import granted
from ..stack import hooks
from ..stack.runtime import Opened
from .step import IDENTITY, Options, Result, Step

OPTIONS: Options = {"plan": {"type": "dict", "required": True}, **IDENTITY}


@dataclass(frozen=True)
class Foreseen:
    mode: str
    fresh: bool
    stopped: Sequence[str]
    quarantine: str = ""
    way_back: Sequence[str] = ()
    checks: Sequence[Check] = ()


def work(step: Step) -> Result:
    planned = step.plan(Plan, "objects_plan_info")
    if step.check:
        return Result(Foreseen(planned.mode, planned.mode == "rebuild", planned.writers), changed=True)
    opened = granted.reached(Opened(step.config, step.params["identity"]))
    turn = recovery_state.own_turn(step.config, "recover the objects", planned.stamp, planned.turn)
    hooked = hooks.continued(step.config, hooks.RECOVERY, "objects", step.log)
    with lock.held(step.config.stack, "recover objects", wait=60), turn, hooked:
        return Result(objects_recovery.protect(opened, planned, log=step.log), changed=True)
