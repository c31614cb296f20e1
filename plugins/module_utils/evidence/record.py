# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record that a recovery, a verification or a drill leaves: what happened when, what was checked, the verdict.

docs/schema/evidence-1.json describes it. A field is only ever added, with a new minor version.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Optional

from ..base import clock, pipeline, typed
from ..base.checks import ABORTED, COULD_NOT_VERIFY, FAIL, Check, at_most, verdict
from ..base.clock import format_time, parse_time
from ..base.errors import UsageError
from ..base.version import VERSION
from ..repository.sealing import seal as seal_of
from ..settings.config import Config
from ..settings.scenarios import SCENARIOS
from . import limits
from . import phases as evidence_phases
from .drill import drilled

SCHEMA = "lifeboat.dr/evidence"
SCHEMA_VERSION = (1, 2)
RECOVERY, VERIFICATION, DRILL = "recovery", "verification", "drill"
KINDS = (RECOVERY, VERIFICATION, DRILL)
# People add these when the machine is done; the seal covers everything else.
BY_PEOPLE = ("findings", "sign_off")


def build(
    config: Config,
    *,
    scenario: str,
    reason: str,
    operator: str,
    planned: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    error: str = "",
    now: datetime,
    versions: Optional[Mapping[str, Any]] = None,
    commit: str = "",
    untested: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Put one recovery's facts together.

    planned: {condition, findings, unchecked, passed_over, target_seconds, backup (where one was used)}. phases: [{name,
    started_at, finished_at, ...}] in order, with what is worth keeping of each; results: the modules' checks. The clock
    runs from the first phase's start to the last one's end. verdict: FAIL on an error after something was changed,
    ABORTED before; FAIL also when the recovery took longer than its target. versions, commit: where known. untested:
    [{what, why}] beside what is known to be left out.
    """
    checks = [_check(item) for item in results]
    wall, monotonic = clock.elapsed(phases)
    seconds = wall if monotonic is None else monotonic
    target = int(planned["target_seconds"])
    proofs = SCENARIOS[scenario].proofs
    if not error and not any(check.name in proofs for check in checks):
        checks.append(Check(proofs[-1], COULD_NOT_VERIFY, f"the {proofs[-1]} was compared with nothing"))
    backup = planned.get("backup")
    counted = "from the first phase's start to the last one's end"
    if not error:
        checks.append(at_most("recovery time", seconds, target, "s", f"{seconds:.0f} s, target {target} s"))
    touched = any(item["name"] not in ("assess", "plan", "confirm") for item in phases)
    timeline, at_size = evidence_phases.timeline(config, scenario, phases, backup)
    left_out = limits.untested(scenario, planned["unchecked"], checks, extrapolated=at_size is not None, more=untested)
    return _finished(
        config,
        {
            "id": f"{scenario}_{now.astimezone(timezone.utc):%Y%m%d_%H%M%S}",
            "kind": RECOVERY,
            "scenario": scenario,
            "operator": operator,
            "reason": reason,
            "versions": evidence_phases.versions(backup, phases, versions),
            "commit": commit or next((str(phase["commit"]) for phase in reversed(phases) if phase.get("commit")), ""),
            "recorded_at": format_time(now),
            "started_at": str(phases[0]["started_at"]) if phases else None,
            "finished_at": str(phases[-1]["finished_at"]) if phases else None,
            "verdict": (FAIL if touched else ABORTED) if error else verdict(checks),
            "error": "\n".join(pipeline.without_rows(error.splitlines())),
            "found": {key: planned[key] for key in ("condition", "findings", "unchecked")},
            "backup": {key: backup[key] for key in ("id", "taken_at", "age_seconds", "size")} if backup else None,
            "chosen": evidence_phases.chosen(planned),
            "passed_over": planned["passed_over"],
            "phases": timeline,
            "seconds": seconds,
            "target_seconds": target,
            "clock": "wall" if monotonic is None else "monotonic",
            "rto": {"seconds": seconds, "target_seconds": target, "counted": counted},
            "rpo": evidence_phases.rpo(backup, phases),
            "production": at_size,
            "checks": [check.as_dict() for check in checks],
            "untested": left_out,
            "verification": None,
            "drill": None,
        },
        phases,
    )


def of_drill(
    config: Config,
    recovery: Mapping[str, Any],
    *,
    scenario: str,
    reason: str,
    operator: str,
    drill: Mapping[str, Any],
    target: int,
    error: str = "",
    now: datetime,
) -> dict[str, Any]:
    """The record of a drill, around the record of the recovery that it rehearsed.

    recovery: that record; empty where the drill ended before one was made, and then error says why. drill: what
    evidence_drill.drilled() takes. verdict: ABORTED on an error before the fault, FAIL after it.
    """
    if not recovery:
        error = error or "no recovery was recorded"
        planned: dict[str, Any] = {
            "condition": "", "findings": [], "unchecked": [], "passed_over": [], "backup": None,
            "target_seconds": target,
        }  # fmt: skip
        recovery = build(
            config, scenario=scenario, reason=reason, operator=operator, planned=planned, phases=(), results=(),
            error=error, now=now,
        )  # fmt: skip
    else:
        drill = {"evidence": [recovery["id"]], **drill}
        error = error or recovery["error"]
    restored = recovery["backup"] if SCENARIOS[scenario].data else None
    until = restored["taken_at"] if restored else drill.get("injected_at")
    fault, found, seconds, rpo = drilled({"kept_until": until, **drill})
    checks = [_check(check) for check in recovery["checks"]]
    checks = [check for check in checks if check.name != "recovery time"] + found
    if seconds is not None:  # else it did not end with a transaction, which drilled() has said
        checks.append(at_most("recovery time", seconds, target, "s", f"{seconds:.0f} s, target {target} s"))
    counted = "from the fault to the first verified business transaction"
    broken = bool(drill.get("injected_at"))
    outcome = verdict(checks) if not error else FAIL if broken else ABORTED
    left_out = [item for item in recovery["untested"] if not item["what"].startswith(limits.UNNOTICED)]
    return _finished(
        config,
        {
            **{key: item for key, item in recovery.items() if key not in (*BY_PEOPLE, "seal")},
            "id": f"drill_{scenario}_{now.astimezone(timezone.utc):%Y%m%d_%H%M%S}",
            "kind": DRILL,
            "recorded_at": format_time(now),
            "started_at": drill.get("injected_at") or recovery["started_at"],
            "finished_at": drill.get("transaction_at") or recovery["finished_at"],
            "verdict": outcome,
            "error": "\n".join(pipeline.without_rows(error.splitlines())),
            "seconds": recovery["seconds"] if seconds is None else seconds,
            "target_seconds": target,
            "rto": None if seconds is None else {"seconds": seconds, "target_seconds": target, "counted": counted},
            "rpo": rpo,
            "checks": [check.as_dict() for check in checks] if broken else [],
            "untested": left_out,
            "drill": fault,
        },
        (),
    )


def beside(record: Mapping[str, Any], steady_state: str) -> dict[str, Any]:
    """The record of a drill that broke nothing, made of the record of what was restored beside production."""
    nothing = {"fault": "nothing was broken: restored beside production", "proof": "", "seed": "", "evidence": []}
    return sealed(
        {
            **record,
            "id": f"drill_{record['id']}",
            "kind": DRILL,
            "drill": {
                **nothing,
                "steady_state": steady_state,
                "injected_at": None,
                "transaction_at": None,
                "ledger": None,
            },
        }
    )


def of_verification(
    config: Config,
    *,
    identity: str,
    level: str,
    results: Sequence[Check],
    parts: Sequence[Mapping[str, Any]],
    started: datetime,
    finished: datetime,
) -> dict[str, Any]:
    """The record of a verification, beside the verification.json that each backup keeps.

    parts: of each backup {id, verdict, taken_at, size, started_at, finished_at}.
    """
    phases = [
        {
            "name": f"verify {item['id']}",
            "started_at": item["started_at"],
            "finished_at": item["finished_at"],
            "bytes": item["size"],
        }
        for item in parts
    ]
    timeline, _scaled = evidence_phases.timeline(config, VERIFICATION, phases, None)
    seconds = round((finished - started).total_seconds(), 2)
    return _finished(
        config,
        {
            "id": f"{VERIFICATION}_{finished.astimezone(timezone.utc):%Y%m%d_%H%M%S}",
            "kind": VERIFICATION,
            "scenario": VERIFICATION,
            "operator": os.environ.get("SUDO_USER") or os.environ.get("USER") or os.environ.get("LOGNAME") or "",
            "reason": "",
            "versions": evidence_phases.versions(None, (), None),
            "commit": "",
            "recorded_at": format_time(finished),
            "started_at": format_time(started),
            "finished_at": format_time(finished),
            "verdict": verdict(results),
            "error": "",
            "found": {"condition": "", "findings": [], "unchecked": []},
            "backup": None,
            "chosen": None,
            "passed_over": [],
            "phases": timeline,
            "seconds": seconds,
            "target_seconds": 0,
            "clock": "wall",
            "rto": None,
            "rpo": None,
            "production": None,
            "checks": [check.as_dict() for check in results],
            "untested": limits.unproved(level, results),
            "verification": {
                "id": identity,
                "level": level,
                "backups": [{key: item[key] for key in ("id", "verdict", "taken_at", "size")} for item in parts],
            },
            "drill": None,
        },
        (),
    )


def _finished(config: Config, facts: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    record = {
        "schema": SCHEMA,
        "version": list(SCHEMA_VERSION),
        "stack": config.stack,
        "host": socket.gethostname(),
        "tool": f"lifeboat {VERSION}",
        **evidence_phases.cleaned(facts, config.secrets),
        "findings": [],
        "sign_off": None,
        "logs": evidence_phases.hashes(evidence_phases.log(phases, config.secrets)),
    }
    return sealed(record)


def _check(given: Mapping[str, Any]) -> Check:
    """A check as a module returned it."""
    return typed.build(
        Check, given, lambda field, cause: UsageError("record the checks", field, cause), "checks", unknown="ignore"
    )


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the seal of what is in it now."""
    body = {key: value for key, value in record.items() if key != "seal"}
    return {**body, "seal": seal(body)}


def seal(record: Mapping[str, Any]) -> str:
    """SHA-256 over all that the machine saw: what people add later does not break it, an edit does."""
    return seal_of({key: value for key, value in record.items() if key not in BY_PEOPLE})


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record for a terminal."""
    shown = [f"{record['scenario']} of {record['stack']} on {record['host']}: {record['verdict']}"]
    if record["found"]["condition"]:
        found = "".join(f"; {finding}" for finding in record["found"]["findings"][:4])
        shown.append(f"found:    {record['found']['condition']}{found}")
    if record["backup"]:
        shown.append(f"backup:   {record['backup']['id']} taken {record['backup']['taken_at']}")
    shown += [f"          passed over {item['id']}: {item['problem']}" for item in record["passed_over"]]
    for phase in record["phases"]:
        parts = "".join(f"  {name} {seconds:.1f} s" for name, seconds in evidence_phases.steps(phase))
        shown.append(f"phase:    {phase['name']:<8} {phase['seconds']:8.1f} s{parts}")
    allowed = f" of {record['target_seconds']} s allowed" if record["target_seconds"] else ""
    shown.append(f"total:    {record['seconds']:.1f} s{allowed}")
    for check in record["checks"]:
        shown.append(f"{check['result']:<9} {check['name']}: {check['detail']}")
    shown += [f"not tested: {item['what']} ({item['why']})" for item in record.get("untested", [])]
    for phase in record["phases"]:
        if phase.get("quarantine"):
            shown.append(f"kept:     the old data as {phase['quarantine']}")
        if phase.get("quarantined_database"):
            shown.append(f"kept:     the old database as {phase['quarantined_database']}")
        if phase.get("quarantine_bucket"):
            shown.append(f"kept:     the objects that were replaced in the bucket {phase['quarantine_bucket']}")
        shown += [f"way back: {step}" for step in phase.get("way_back", [])]
    if record["error"]:
        shown.append(f"error:    {record['error']}")
    return shown


def began(record: Mapping[str, Any]) -> datetime:
    return parse_time(str(record.get("started_at") or record["recorded_at"]))
