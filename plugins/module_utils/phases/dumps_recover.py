# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore the other databases beside the living servers, and swap."""

from __future__ import annotations

from ..dumps import recovery as dumps_recovery
from ..dumps.plan import Plan
from ..recovery.turn import changing
from ..site import keeper_readback
from ..stack.runtime import Opened
from .step import IDENTITY, REOPEN, Options, Result, Step

OPTIONS: Options = {
    "plan": {"type": "dict", "required": True},
    **IDENTITY,
    **REOPEN,
}


def work(step: Step) -> Result:
    planned = step.plan(Plan, "dumps_plan_info")
    if step.check:
        return Result(dumps_recovery.Recovered(), changed=planned.needed)
    with changing(step.config, "dumps", planned.stamp, step.log, planned=planned.turn, component="dumps"):
        opened = keeper_readback.reached(Opened(step.config, step.params["identity"]))
        recovered = dumps_recovery.recover(opened, planned, reopens=step.params["reopen"], log=step.log)
    return Result(recovered, changed=True)
