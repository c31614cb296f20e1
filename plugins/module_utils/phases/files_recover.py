# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring the files of an application back."""

from __future__ import annotations

from ..files import recovery as files_recovery
from ..files.plan import Plan
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
    planned = step.plan(Plan, "files_plan_info")
    if step.check:
        return Result(files_recovery.Recovered(), changed=planned.needed)
    with changing(step.config, "files", planned.stamp, step.log, planned=planned.turn, component="files"):
        opened = keeper_readback.reached(Opened(step.config, step.params["identity"]))
        recovered = files_recovery.recover(opened, planned, reopens=step.params["reopen"], log=step.log)
    return Result(recovered, changed=True)
