# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of the databases as they were at an instant, and plan their recovery with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ..base.errors import UsageError
from ..database.planned import Plan
from ..operations import instants as operations_instants
from ..stack.runtime import Opened
from ..wal import instants
from .database_plan import SCOPE, hold, planned
from .step import IDENTITY, Options, Result, Step, added

OPTIONS: Options = {**IDENTITY, **SCOPE, "plan": {"type": "dict", "required": True}}


@dataclass(frozen=True)
class Stood:
    """id: of the backup. plan, needed, text: as database_plan returns them, with that backup."""

    plan: Plan
    needed: bool
    text: Sequence[str]
    id: Optional[str] = None


def work(step: Step) -> Result:
    foreseen = step.plan(Plan, "database_plan_info")
    replay = foreseen.replay
    instant = instants.requested(replay.recovery_time, replay.before) if replay else None
    if replay is None or instant is None:
        cause = "the plan goes back to a backup that there is"
        raise UsageError("take a backup of an instant", foreseen.target, cause, "Leave this phase out.")
    if step.check:
        return Result(Stood(foreseen, foreseen.needed, ()), changed=True, diff=added(["a backup of that instant"]))
    opened = Opened(step.config, step.params["identity"])
    manifest = operations_instants.dump(opened, instant, step.log, replay.timeline)
    made = hold(step, opened, planned(step, opened, manifest.id, None, replay.instant))
    return Result(Stood(made.plan, made.needed, made.text, manifest.id), changed=True, diff=added([manifest.id]))
