# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the database and plan its recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..base import clock
from ..base.clock import format_time
from ..base.errors import UsageError
from ..database import plan as database_plan
from ..database.planned import Plan, Replay
from ..operations import instants as operations_instants
from ..recovery import state as recovery_state
from ..recovery.state import DAMAGED
from ..repository import sources
from ..repository.base import LATEST
from ..stack import hooks
from ..stack.runtime import Opened
from ..wal import instants
from .step import ACCEPT, HOLD, IDENTITY, INSTANT, TARGET, Options, Result, Step

SCOPE: Options = {
    **ACCEPT,
    **HOLD,
    "force": {"type": "bool", "default": False},
    "method": {"type": "str", "choices": ["auto", "swap", "rebuild", "physical"], "default": "auto"},
    "database": {"type": "str", "default": ""},
    "others": {"type": "str", "choices": ["ask", "restore", "aside"], "default": "ask"},
}
OPTIONS: Options = {**TARGET, **INSTANT, **IDENTITY, **SCOPE}


@dataclass(frozen=True)
class Planned:
    plan: Plan
    needed: bool
    text: Sequence[str]


def work(step: Step) -> Result:
    opened = Opened(step.config, step.params["identity"])
    instant = instants.requested(step.params["recovery_time"], step.params["before"])
    point, timeline = step.params["recovery_point"], step.params["timeline"]
    if timeline and not instant:
        remedy = "Name the instant, too: recovery_time or before."
        raise UsageError("plan the recovery", f"timeline={timeline}", "a timeline alone is no instant", remedy)
    if instant and point not in LATEST and not isinstance(instant, instants.At):
        raise UsageError(
            "plan the recovery", f"recovery_point={point}", f"{instant} is another state", "Name one of them."
        )
    replay = None
    if instant and point in LATEST:
        last, state = recovery_state.recovered(step.config), operations_instants.shown(instant, timeline)
        if last and last.requested == state and not step.params["force"]:
            done = planned(step, opened, point, None, state)
            if not done.plan.needed:  # it may be on a timeline that was left since, where it is not found again
                return Result(hold(step, opened, done))
        replay = _replay(step, opened, instant, timeline)
    before = instant.moment if isinstance(instant, instants.At) and not replay else None
    done = planned(step, opened, point, before, replay.instant if replay else "", replay)
    return Result(hold(step, opened, done if done.plan.asked else _with_choices(step, opened, done)))


def _replay(step: Step, opened: Opened, instant: instants.Instant, timeline: int) -> Optional[Replay]:
    """How the instant is gone to; None where a backup has to do, or was required for a time that cannot be gone to."""
    try:
        return operations_instants.replay(opened, instant, step.log, timeline)
    except UsageError as exc:
        if step.params["method"] != "rebuild" or not isinstance(instant, instants.At):
            exc.remedy = f"{exc.remedy} Or name a backup: -e recovery_point=<id> (`lifeboat list`).".lstrip()
            raise
        step.log(f"by a dump: {exc.cause}")
        return None


def _with_choices(step: Step, opened: Opened, done: Planned) -> Planned:
    """With continuous protection a server that lives and is damaged can be brought back to more than the newest backup:
    which of it is meant is for an operator to say. UsageError where the plan was confirmed without that."""
    made = done.plan
    if not (step.config.wal.enabled and made.needed and made.mode == "swap" and made.condition == DAMAGED):
        return done
    taken_at = format_time(clock.parse_time(str(made.backup["taken_at"])))
    choices = operations_instants.choices(opened, str(made.backup["id"]), taken_at, step.log)
    if choices and step.holds:
        cause = "the database is damaged, and it can be brought back to more than one state"
        raise UsageError("recover the database", step.config.stack, cause, f"Add one of these: {'; '.join(choices)}")
    lead = ["it can be brought back to more than one state; add one of these to the command:"] if choices else []
    return replace(done, text=[*done.text, *lead, *(f"  {choice}" for choice in choices)])


def planned(
    step: Step, opened: Opened, identity: str, before: Optional[datetime], state: str, replay: Optional[Replay] = None
) -> Planned:
    """The plan and its text."""
    request = database_plan.Request(
        identity=identity,
        before=before,
        force=step.params["force"],
        method=step.params["method"],
        accept=step.accept,
        database=step.params["database"],
        others=step.params["others"],
        state=state,
        replay=replay,
    )
    made = database_plan.make(opened, request, log=step.log)
    text = database_plan.text(made)
    if made.needed:
        text += hooks.planned(step.config, "database")
    return Planned(made, made.needed, text)


def hold(step: Step, opened: Opened, done: Planned) -> Planned:
    """The same, with a hold on what it recovers from where it is going to be carried out."""
    made = done.plan
    if not step.holds or made.mode in ("none", "reopen") or made.replay:
        return done
    place, backup = str(made.backup["place"]), str(made.backup["id"])
    shown = sources.hold(opened, place, backup, "recover_database", step.now)
    return replace(done, text=[*done.text, *shown])
