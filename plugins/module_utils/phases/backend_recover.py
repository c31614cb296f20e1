# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the steps of a backend's plan, each proved before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..backend import recovery as backend_recovery
from ..backend.planned import Plan
from ..base.checks import Check
from ..recovery.turn import changing
from ..stack.runtime import Opened
from .step import IDENTITY, Options, Result, Step

OPTIONS: Options = {"plan": {"type": "dict", "required": True}, **IDENTITY}


@dataclass(frozen=True)
class Nothing:
    mode: str = ""
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()


def work(step: Step) -> Result:
    planned = step.plan(Plan, "backend_plan_info")
    if not planned.needed or step.check:
        return Result(Nothing(), changed=planned.needed)
    with changing(step.config, "backend", planned.stamp, step.log, planned=planned.turn):
        done, error = backend_recovery.recover(Opened(step.config), planned, key=step.params["identity"], log=step.log)
    if error:
        step.fail(error, Result(done))
    return Result(done, changed=True)
