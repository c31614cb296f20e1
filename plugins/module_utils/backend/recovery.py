# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recover a backend: one step after the other, each judged before the next, until it serves or none is left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError
from ..recovery import state as recovery_state
from ..settings.config import Config
from ..stack import answer, mounts
from ..stack.runtime import Opened
from ..stack.state import StateInventory
from . import assess, steps
from .cause import LADDER, Cause, classify, next_step
from .facts import OTHER
from .planned import Plan
from .steps import Work

# How long a state that does not mend itself is watched.
PATIENCE_FALLEN, PATIENCE_UNHEALTHY = 8.0, 15.0
PATIENCE_AS_BEFORE = 60.0  # of endpoints that answered as wrongly when the last backup was taken
FALLS = 3
CALM = 2.0  # one that has no health check must be up at two looks so far apart


@dataclass(frozen=True)
class Tried:
    """One step: the cause that it was taken for, and the problem that it ended with, if it did."""

    step: str
    cause: str
    problem: str
    seconds: float
    healed: bool = False


@dataclass(frozen=True)
class Recovered:
    """mode: the step that healed, empty where none did. Modules return it as it is."""

    mode: str = ""
    tried: tuple[Tried, ...] = ()
    checks: tuple[Check, ...] = ()
    quarantine: str = ""
    way_back: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def recover(run: Opened, planned: Plan, *, key: str = "", log: Log) -> tuple[Recovered, str]:
    """Carry the plan out. Returns what was done, and why it ended without success, in full and empty where it did not:
    no step is left, or what is wrong is not ours to mend."""
    work = Work(
        run, assess.observe(run, log=log), planned.stamp, log, key=key, identity=planned.identity, accept=planned.accept
    )
    tried: list[Tried] = []
    while not work.observations.healthy or (planned.requested and not tried):
        cause = classify(work.observations, planned.host)
        name = next_step(cause, [step.step for step in tried], method="auto" if tried else planned.method)
        if not name:
            return _recovered(work, tried), str(_given_up(run.config, cause, tried))
        step = _try(name, cause, work)
        work.observations = assess.observe(run, log=log)
        healed = work.observations.healthy
        tried.append(replace(step, healed=healed))
        log(f"{name}: {'it serves' if healed else 'not yet: ' + classify(work.observations, planned.host).description}")
    inventory = own_mounts(run)
    checks = [*prove(run, log=log), *work.checks, *([inventory.check] if inventory else [])]
    return replace(_recovered(work, tried), mode=tried[-1].step if tried else "", checks=tuple(checks)), ""


def own_mounts(run: Opened) -> Optional[StateInventory]:
    """What the backend's services mount. None of a stack that is no Compose project."""
    inventory = mounts.inventory(run)
    return inventory.without({*run.config.stores}) if inventory else None


def _recovered(work: Work, tried: Sequence[Tried]) -> Recovered:
    return Recovered(
        tried=tuple(tried),
        quarantine="; ".join(work.quarantined),
        way_back=tuple(work.way_back),
        notes=tuple(work.notes),
        seconds={step.step: step.seconds for step in tried},
    )


def _try(name: str, cause: Cause, work: Work) -> Tried:
    """Try one step and give its effect time to show. An error is an answer: the next step comes."""
    work.log(f"step {name}: {LADDER[name]}")
    began = time.monotonic()
    problem, acted = "", True
    try:
        steps.STEPS[name](work)
    except LifeboatError as exc:
        problem = assess.redactor_of(work.run.config).one_line(exc.cause)
        acted = not isinstance(exc, (NotFoundError, UsageError))  # there was nothing to do it with
        work.log(f"step {name} ended with: {problem}")
    if acted:
        settle(work.run)
    return Tried(name, cause.description, problem, round(time.monotonic() - began, 2))


def settle(run: Opened) -> bool:
    """Wait until it serves (twice in a row: one may fall again) or until it is plain that it will not."""
    began = time.monotonic()
    fallen_since = unhealthy_since = well_since = same_since = 0.0
    before: dict[str, int] = {}
    while True:
        now = time.monotonic()
        seen = assess.glance(run)
        if seen.host.engine:
            return False
        before = before or {service.id: service.restarts for service in seen.units}
        if seen.serves:
            well_since = well_since or now
            certain = all(
                service.health == "healthy" or service.once for service in seen.units if service.role != OTHER
            )
            if certain or now - well_since >= CALM:
                return True
            time.sleep(CALM / 2)
            continue
        well_since = 0.0
        falls = max((service.restarts - before.get(service.id, 0) for service in seen.ill), default=0)
        down = [service for service in seen.ill if service.status not in ("running", "restarting")] or seen.absent
        fallen_since = (fallen_since or now) if down else 0.0
        same = not (seen.ill or seen.absent) and _as_before(run.config, seen.unanswered)
        same_since = (same_since or now) if same else 0.0
        unhealthy = any(service.health == "unhealthy" for service in seen.ill)
        unhealthy_since = (unhealthy_since or now) if unhealthy else 0.0
        if (
            falls >= FALLS
            or (fallen_since and now - fallen_since > PATIENCE_FALLEN)
            or (same_since and now - same_since > PATIENCE_AS_BEFORE)
            or (unhealthy_since and now - unhealthy_since > PATIENCE_UNHEALTHY)
            or now - began > run.config.application.timeout
        ):
            return False
        time.sleep(0.5)


def _as_before(config: Config, unanswered: Sequence[Check]) -> bool:
    """Return whether each of these is as wrong as it was when the last backup was taken."""
    known = recovery_state.unanswered(config)
    was = {check: known.problem(config, check.name) for check in unanswered}
    return bool(was) and all(before and answer.alike(check.detail, before) for check, before in was.items())


def _given_up(config: Config, cause: Cause, tried: Sequence[Tried]) -> LifeboatError:
    words = cause.description
    if tried:
        words += f" (tried: {'; '.join(step.step + (step.problem and ': ' + step.problem) for step in tried)})"
    by_hand = "Look at the log lines in the evidence; docs/runbook-backend.md shows how to go on by hand."
    remedy = f"Next: {cause.next}, then run the same command again." if cause.next else by_hand
    return LifeboatError("recover the backend", config.stack, words, remedy)


def prove(run: Opened, *, log: Log) -> list[Check]:
    """The last look: every service, then every endpoint. Without an endpoint nobody has seen the application answer."""
    log("asking every service and endpoint")
    seen = assess.glance(run)
    redactor = assess.redactor_of(run.config)
    checks = [
        Check(f"service {service.service}", PASS if service.well else FAIL, service.describe())
        for service in seen.units
        if service.role != OTHER
    ]
    checks += [Check(f"service {name}", FAIL, "it has no container") for name in seen.absent]
    began = time.monotonic()
    deadline = began + min(run.config.application.timeout, 60)
    known = recovery_state.unanswered(run.config)
    endpoints = [
        answer.endpoint(
            check, deadline, None, known.problem(run.config, f"{check.method} {check.url}"), known.at, began
        )
        for check in run.config.application.checks
    ]
    checks += [
        Check(redactor.one_line(check.name), check.result, redactor.one_line(check.detail)) for check in endpoints
    ]
    if seen.compose:
        checks.append(Check("compose files", FAIL, seen.compose))
    if not checks:
        return [Check("application", COULD_NOT_VERIFY, "no service and no endpoint is known")]
    if not endpoints:
        nobody = "no endpoint is configured (lifeboat_application.checks), so it is not known whether it answers"
        return [*checks, Check("application", FAIL if verdict(checks) == FAIL else COULD_NOT_VERIFY, nobody)]
    bad = [check for check in checks if check.result != PASS]
    words = f"{len(seen.units)} services are well, {len(endpoints)} endpoints answer as expected"
    return [
        *checks,
        Check("application", verdict(checks), "; ".join(f"{check.name}: {check.detail}" for check in bad) or words),
    ]
