# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore the other databases beside the living servers, and swap."""

from __future__ import annotations

from ..base import lock
from ..dumps import recovery as dumps_recovery
from ..dumps.plan import Plan
from ..recovery import state as recovery_state
from ..site import granted
from ..stack import hooks
from ..stack.runtime import Opened
from .step import IDENTITY, Options, Result, Step

OPTIONS: Options = {
    "plan": {"type": "dict", "required": True},
    **IDENTITY,
    "reopen": {"type": "bool", "default": True},
}


def work(step: Step) -> Result:
    planned = step.plan(Plan, "dumps_plan_info")
    if step.check:
        return Result(dumps_recovery.Recovered(), changed=planned.needed)
    turn = recovery_state.own_turn(step.config, "recover the dumps", planned.stamp, planned.turn)
    hooked = hooks.continued(step.config, hooks.RECOVERY, "dumps", step.log)
    with lock.held(step.config.stack, "recover dumps", wait=60), turn, hooked:
        opened = granted.reached(Opened(step.config, step.params["identity"]))
        recovered = dumps_recovery.recover(opened, planned, reopens=step.params["reopen"], log=step.log)
    return Result(recovered, changed=True)
