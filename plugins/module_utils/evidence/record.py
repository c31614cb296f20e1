# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record that a recovery, a verification or a drill leaves: what happened when, what was checked, the verdict.

docs/schema/evidence-1.json describes it. A field is only ever added, with a new minor version.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..base import clock, pipeline, typed
from ..base.checks import ABORTED, COULD_NOT_VERIFY, FAIL, PASS, Check, Verdict, accepted, at_most, by_kind, verdict
from ..base.clock import format_time
from ..base.errors import UsageError
from ..base.text import Untested
from ..base.version import VERSION
from ..recovery.state import DIFFERS
from ..settings.config import LEVELS, Config
from ..settings.scenarios import FILES, ROWS, SCENARIOS, SITE, Scenario
from . import phases as evidence_phases
from . import schema
from .drill import Account, drilled
from .phases import Plan, ReportedPhase
from .schema import Assessment, Record, Rto, Verification

UNNOTICED = "the time until somebody noticed"
_TIME = "recovery time"  # the check
_SKIPPED = {
    "archive": "whether the real tools can read the backup", "restore": "whether the backup can be restored",
}  # fmt: skip


@dataclass(frozen=True)
class Gap:
    """What a playbook says that it did not test."""

    what: str
    why: str = ""


@dataclass(frozen=True)
class Recovery:
    """What a playbook tells of a recovery: the options of the module evidence.

    The clock runs from the first phase's start to the last one's end. untested: besides what is known to be left out.
    """

    scenario: str
    plan: Plan
    phases: tuple[ReportedPhase, ...]
    checks: tuple[Check, ...]
    reason: str = ""
    operator: str = ""
    error: str = ""
    commit: str = ""
    untested: tuple[Gap, ...] = ()


def recovery(body: Mapping[str, object], phases: Sequence[Mapping[str, object]]) -> Recovery:
    """The same from JSON. What a playbook tells besides is left out."""
    wrong = functools.partial(UsageError, "record the recovery")
    found = typed.build(Recovery, {**body, "phases": ()}, wrong, unknown="ignore")
    if found.scenario not in SCENARIOS:
        raise wrong("scenario", f"{found.scenario!r} is not one of {', '.join(SCENARIOS)}")
    checks = tuple(map(by_kind, found.checks))
    return replace(found, phases=tuple(evidence_phases.parse_phase(phase) for phase in phases), checks=checks)


def build(
    config: Config, recovery: Recovery, *, now: datetime, ansible: str = "", images: Optional[Mapping[str, str]] = None
) -> Record:
    """The record of a recovery: FAIL on an error after something was changed, ABORTED before; FAIL also when it took
    longer than its target. ansible, images: what ran, where known."""
    plan, phases, checks = recovery.plan, recovery.phases, list(recovery.checks)
    seconds, clock = evidence_phases.seconds(phases)
    target = int(plan.target_seconds)
    proofs = _proofs(config, SCENARIOS[recovery.scenario])
    if not recovery.error:
        if proofs and not any(check.kind in proofs for check in checks):
            checks.append(Check(proofs[-1], COULD_NOT_VERIFY, f"the {proofs[-1]} was compared with nothing"))
        if plan.accepted:
            checks.append(accepted(plan.accepted))
        checks.append(_in_time(seconds, target))
    touched = any(phase.name not in ("assess", "plan", "confirm", "stand") for phase in phases)
    timeline, at_size = evidence_phases.timeline(config, recovery.scenario, phases, plan.backup)
    backup = plan.backup
    noted = [note for phase in timeline for note in phase.notes if isinstance(note, str)]
    differing = [note[len(DIFFERS) :] for note in noted if note.startswith(DIFFERS)]
    commits = [str(phase.recorded["commit"]) for phase in phases if "commit" in phase.recorded]
    outcome = (FAIL if touched else ABORTED) if recovery.error else verdict(checks)
    made = replace(
        _blank(config, schema.RECOVERY, recovery.scenario, now, outcome, checks),
        reason=recovery.reason,
        operator=recovery.operator,
        error=_without_rows(recovery.error),
        versions=evidence_phases.versions(backup, ansible, images or {}),
        commit=recovery.commit or (commits[-1] if commits else ""),
        started_at=phases[0].started_at if phases else None,
        finished_at=phases[-1].finished_at if phases else None,
        assessment=Assessment(plan.condition, plan.findings, plan.unchecked),
        backup=schema.Backup(backup.id, backup.taken_at, backup.age_seconds, backup.size) if backup else None,
        chosen=evidence_phases.chosen(plan),
        passed_over=plan.passed_over,
        accepted=plan.accepted,
        phases=timeline,
        seconds=seconds,
        target_seconds=target,
        clock=clock,
        rto=Rto(seconds, target, "from the first phase's start to the last one's end"),
        rpo=evidence_phases.rpo(backup, phases),
        production=at_size,
        untested=_untested(
            _never(config, SCENARIOS[recovery.scenario]),
            plan,
            checks,
            at_size is not None,
            recovery.untested,
            differing,
        ),
    )
    return _finished(config, made, phases)


def of_drill(
    config: Config, recovery: Optional[Record], account: Account, *, scenario: str, reason: str, operator: str,
    target: int, error: str = "", now: datetime,
) -> Record:  # fmt: skip
    """The record of a drill, around that of the recovery that it rehearsed: ABORTED on an error before the fault, FAIL
    after it. recovery: None where the drill ended before a record was made, and then error says why."""
    if recovery is None:
        error = error or "no recovery was recorded"
        plan = Plan("", (), (), (), target)
        recovery = build(config, Recovery(scenario, plan, (), (), reason, operator, error), now=now)
    else:
        account = replace(account, evidence=account.evidence or (recovery.id,))
        error = error or recovery.error
    restored = recovery.backup if SCENARIOS[scenario].data else None
    fault, found, seconds, rpo = drilled(account, restored.taken_at if restored else account.injected_at)
    checks = [check for check in recovery.checks if check.kind != _TIME] + found
    if seconds is not None:  # else it did not end with a transaction, which drilled() has said
        checks.append(_in_time(seconds, target))
    counted = "from the fault to the first verified business transaction"
    broken = account.injected_at is not None
    made = replace(
        recovery,
        id=_identity(f"{schema.DRILL}_{scenario}", now),
        kind=schema.DRILL,
        recorded_at=now,
        started_at=account.injected_at or recovery.started_at,
        finished_at=account.transaction_at or recovery.finished_at,
        verdict=verdict(checks) if not error else FAIL if broken else ABORTED,
        error=_without_rows(error),
        seconds=recovery.seconds if seconds is None else seconds,
        target_seconds=target,
        rto=None if seconds is None else Rto(seconds, target, counted),
        rpo=rpo,
        checks=_schema_checks(checks) if broken else (),
        untested=tuple(gap for gap in recovery.untested if not gap.what.startswith(UNNOTICED)),
        drill=fault,
        findings=(),
        sign_off=None,
    )
    return _finished(config, made)


def beside(record: Record, steady_state: str) -> Record:
    """The record of a drill that broke nothing, made of the record of what was restored beside production."""
    nothing = "nothing was broken: restored beside production"
    drill = schema.Drill(nothing, "", "", steady_state, None, None, None, ())
    return schema.sealed(replace(record, id=f"drill_{record.id}", kind=schema.DRILL, drill=drill))


def of_verification(
    config: Config, what: Verification, *, results: Sequence[Check], phases: Sequence[ReportedPhase], started: datetime,
    finished: datetime, gaps: Sequence[Untested] = (),
) -> Record:  # fmt: skip
    """The record of a verification, next to the verification.json of each backup. gaps: what no backup holds."""
    above = LEVELS[LEVELS.index(what.level) + 1 :]
    untested = [
        *_unmade(results),
        *((_SKIPPED[level], f"that is checked at level {level}") for level in above),
        *((gap.what, gap.why) for gap in gaps),
        ("whether the data made sense when it was backed up", "a wrong value is faithfully kept"),
    ]
    made = replace(
        _blank(config, schema.VERIFICATION, schema.VERIFICATION, finished, verdict(results), results),
        operator=os.environ.get("SUDO_USER") or os.environ.get("USER") or os.environ.get("LOGNAME") or "",
        versions=evidence_phases.versions(None, "", {}),
        started_at=started,
        finished_at=finished,
        phases=evidence_phases.timeline(config, schema.VERIFICATION, phases, None)[0],
        seconds=round((finished - started).total_seconds(), 2),
        clock="wall",
        untested=tuple(itertools.starmap(Untested, untested)),
        verification=what,
    )
    return _finished(config, made)


def _blank(
    config: Config, kind: str, scenario: str, now: datetime, outcome: Verdict, checks: Sequence[Check]
) -> Record:
    return Record(
        "lifeboat.dr/evidence", schema.VERSION, _identity(scenario, now), scenario, config.stack, socket.gethostname(),
        operator="", reason="", tool=f"lifeboat {VERSION}", recorded_at=now, verdict=outcome, error="",
        assessment=Assessment("", (), ()), backup=None, passed_over=(), phases=(), seconds=0, target_seconds=0,
        checks=_schema_checks(checks), kind=kind,
    )  # fmt: skip


def _identity(name: str, now: datetime) -> str:
    return f"{name}_{clock.stamp(now)}"


def _schema_checks(checks: Sequence[Check]) -> tuple[schema.Check, ...]:
    return tuple(schema.Check(**vars(check.plain)) for check in checks)


def _in_time(seconds: float, target: int) -> Check:
    return at_most(_TIME, seconds, target, "s", f"{seconds:.0f} s, target {target} s")


def _without_rows(error: str) -> str:
    return "\n".join(pipeline.without_rows(error.splitlines()))


def _finished(config: Config, record: Record, phases: Sequence[ReportedPhase] = ()) -> Record:
    """Without secrets, with the hash of the log, sealed."""
    logs = evidence_phases.hashes(evidence_phases.log(phases, config.secrets))
    clean = evidence_phases.cleaned(record, config.secrets)
    return schema.sealed(replace(clean, stack=record.stack, host=record.host, tool=record.tool, logs=logs))


def _proofs(config: Config, scenario: Scenario) -> tuple[str, ...]:
    """Return the checks of which at least one must have been made. Empty for the site of a stack that has neither rows
    nor objects nor files: it brings no data back."""
    if scenario.name != SITE or config.database.enabled or config.objects.bucket:
        return scenario.proofs
    return SCENARIOS[FILES].proofs if config.files.sources else ()


def _never(config: Config, scenario: Scenario) -> list[tuple[str, str]]:
    """Return what the scenario does not prove of what the stack has."""
    return [gap for gap in scenario.untested if gap != ROWS or config.database.enabled]


def _untested(
    never: Sequence[tuple[str, str]],
    plan: Plan,
    checks: Sequence[Check],
    extrapolated: bool,
    more: Sequence[Gap],
    differing: Sequence[str],
) -> tuple[Untested, ...]:
    """Of a recovery."""
    found = [(thing, "the assessment could not look at it") for thing in plan.unchecked]
    found += [(gap.what, gap.why) for gap in plan.untested]
    found += _unmade(checks)
    found += never
    found.append((f"{UNNOTICED} and decided", "the clock starts with the operator's command"))
    if not extrapolated:
        why = "no size is configured, or no bytes were moved (lifeboat_evidence)"
        found.append(("the time at production size", why))
    found += [(gap.what, gap.why or "not said") for gap in more]
    found += [(note, "a restore does not bring it back as it was") for note in differing]
    return tuple(itertools.starmap(Untested, found))


def _unmade(checks: Sequence[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.detail or "not said") for check in checks if check.result not in (PASS, FAIL)]


def lines(record: Record) -> list[str]:
    """The record for a terminal."""
    shown = [f"{record.scenario} of {record.stack} on {record.host}: {record.verdict}"]
    if record.assessment.condition:
        found = "".join(f"; {finding}" for finding in record.assessment.findings[:4])
        shown.append(f"found:    {record.assessment.condition}{found}")
    if record.backup:
        shown.append(f"backup:   {record.backup.id} taken {format_time(record.backup.taken_at)}")
    shown += [f"          ACCEPTED although it failed: {reason}" for reason in record.accepted]
    shown += [f"          passed over {over.id}: {over.problem}" for over in record.passed_over]
    for phase in record.phases:
        parts = "".join(f"  {name} {seconds:.1f} s" for name, seconds in phase.seconds_of.items())
        shown.append(f"phase:    {phase.name:<8} {phase.seconds:8.1f} s{parts}")
    allowed = f" of {record.target_seconds} s allowed" if record.target_seconds else ""
    shown.append(f"total:    {record.seconds:.1f} s{allowed}")
    shown += [f"{check.result:<9} {check.name}: {check.detail}" for check in record.checks]
    shown += [f"not tested: {gap.what} ({gap.why})" for gap in record.untested]
    for phase in record.phases:
        shown += [
            f"database: {database.name} {database.action}" + (f" ({database.why})" if database.why else "")
            for database in (phase.databases if len(phase.databases) > 1 or phase.name == "protect" else ())
        ]
        aside = (
            ("the old data as", phase.quarantine),
            *(("the old database as", name) for name in phase.quarantined_databases),
            ("the objects that were replaced in the bucket", phase.quarantine_bucket),
        )
        shown += [f"kept:     {words} {where}" for words, where in aside if where]
        shown += [f"way back: {step}" for step in phase.way_back]
    return [*shown, f"error:    {record.error}"] if record.error else shown
