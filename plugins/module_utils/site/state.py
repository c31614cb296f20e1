# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine remembers of the recovery of a site: to which point, how far it came, when, and what was checked.

    <state directory>/site.json

A phase is done when its checks are on record. A run that was killed or failed is gone on with by the next, and the
clock of the evidence runs from the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Optional

from ..base import typed
from ..base.checks import Check
from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, LockedError, UsageError
from ..recovery import state as recovery_state
from ..settings.config import Config
from ..stack import judged

FILE = "site.json"
Instant = tuple[str, str, int]  # recovery_time, before and timeline
NONE: Instant = ("", "", 0)


@dataclass(frozen=True)
class Goal:
    """What a recovery goes to. instant: behind the point; NONE: the point itself."""

    point: str
    rehearsal: bool = False
    instant: Instant = NONE


@dataclass(frozen=True)
class Phase:
    """finished_at: empty until it has ended. facts: what else is worth keeping of it, next to these fields in JSON."""

    name: str
    started_at: str
    finished_at: str = ""
    checks: tuple[Check, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        return {**{name: value for name, value in vars(self).items() if name != "facts"}, **self.facts}


@dataclass(frozen=True)
class Recovery:
    """A recovery of a site. finished_at: empty until it has ended. recovery_time, before, timeline: of the instant that
    it goes to, as the database's recovery takes them; of a recovery point empty."""

    point: str
    rehearsal: bool
    finished_at: str
    phases: tuple[Phase, ...]
    recovery_time: str = ""
    before: str = ""
    timeline: int = 0

    @property
    def instant(self) -> Instant:
        return self.recovery_time, self.before, self.timeline


@dataclass(frozen=True)
class _File:
    point: str
    rehearsal: bool
    finished_at: str
    phases: tuple[Mapping[str, object], ...]
    recovery_time: str = ""
    before: str = ""
    timeline: int = 0


def read(config: Config) -> Optional[Recovery]:
    """None where no site was recovered here."""
    kept = recovery_state.remembered(config, FILE, _File)
    try:
        return Recovery(**{**vars(kept), "phases": tuple(map(_phase, kept.phases))}) if kept else None
    except LifeboatError:
        return None


def _phase(body: Mapping[str, object]) -> Phase:
    own = [name for name in body if name in ("name", "started_at", "finished_at", "checks")]
    facts = {name: value for name, value in body.items() if name not in own}
    return typed.build(Phase, {**{name: body[name] for name in own}, "facts": facts}, _wrong)


def _wrong(where: str, cause: str) -> LifeboatError:
    return UsageError("remember the recovery of the site", where, cause)


def unfinished(recovery: Optional[Recovery], point: str = "") -> bool:
    """Whether a recovery (to that point) was begun here and has not ended."""
    return recovery is not None and not recovery.finished_at and point in ("", recovery.point)


def done(recovery: Optional[Recovery], point: str, instant: Instant = NONE) -> tuple[str, ...]:
    """The phases of an unfinished recovery to that point, and that instant, that need not be done again: their checks
    are on record."""
    same = recovery is not None and unfinished(recovery, point) and recovery.instant == instant
    return tuple(phase.name for phase in recovery.phases if phase.checks) if recovery and same else ()


def begin(
    config: Config, phase: str, goal: Goal, *, finished: bool = False, since: str = "",
    facts: Optional[Mapping[str, object]] = None, checks: Sequence[object] = (), now: datetime,
) -> Recovery:  # fmt: skip
    """Begin a phase (none where `phase` is empty), which ends the one before it, with its facts and checks.

    goal: all of it with `since`, at the beginning of a run; then its point is enough. A run to another instant than the
    one before begins again. finished: the recovery has come to its end. since: when the assessment began that led to
    it; the clock of a new recovery runs from there. checks: as modules return them. Returns what is remembered now.
    """
    found, stamp = read(config), format_time(now)
    _refuse_another(config, found, since)
    if found is None or not unfinished(found, goal.point) or (since and found.instant != goal.instant):
        first = (Phase("assess", since, stamp),) if since else ()
        found = Recovery(goal.point, goal.rehearsal, "", first, *goal.instant)
    phases = list(found.phases)
    if phases and not phases[-1].finished_at:
        checked = tuple(typed.build(Check, check, _wrong, f"checks[{number}]") for number, check in enumerate(checks))
        phases.append(replace(phases.pop(), finished_at=stamp, checks=checked, facts=facts or {}))
    if phase:
        phases.append(Phase(phase, stamp))
    found = replace(found, phases=tuple(phases), finished_at=stamp if finished else found.finished_at)
    recovery_state.keep(config, FILE, json.dumps(typed.plain(found), indent=1))
    if finished:
        judged.forget(config.state)
    return found


def _refuse_another(config: Config, recovery: Optional[Recovery], since: str) -> None:
    """Raise LockedError where another run acted since this one's assessment began: its plan may be untrue by now."""
    last = recovery.phases[-1] if recovery and recovery.phases else None
    moments = [last.started_at, last.finished_at or last.started_at] if last else []
    if since and any(parse_time(moment) > parse_time(since) for moment in moments):
        raise LockedError(
            "recover the site", config.stack,
            f"another run recovers it or did ({last.name if last else ''}, begun at {moments[0]}) since this one's plan"
            " was made, so the plan may not be true any more; nothing was done",
            "Wait for that one to end, then run the same command again: it makes a new plan.",
        )  # fmt: skip


def checks_of(recovery: Recovery) -> list[Check]:
    """What was checked, phase by phase; of a phase that was done twice, what it checked the last time."""
    last = {phase.name: phase.checks for phase in recovery.phases if phase.checks}
    return [check for checks in last.values() for check in checks]
