# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop the writers and see to a server that can be filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base.checks import Check
from ..objects import recovery as objects_recovery
from ..objects.planned import Plan
from ..recovery.turn import changing
from ..site import keeper_readback
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
    opened = keeper_readback.reached(Opened(step.config, step.params["identity"]))
    with changing(step.config, "objects", planned.stamp, step.log, planned=planned.turn, component="objects"):
        return Result(objects_recovery.protect(opened, planned, log=step.log), changed=True)
