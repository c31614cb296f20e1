# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record that a recovery leaves: when each phase ran, what was checked, and the verdict that follows."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .checks import ABORTED, COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from .config import Config
from .filesystem import explained
from .manifest import format_time, parse_time
from .version import VERSION

SCHEMA = "lifeboat.dr/evidence"
# By scenario, the checks of which at least one must have been made, or nothing is proved: that data was compared with
# what it should be, that the application answered, that the public site serves the expected commit.
_DATA = ("tables", "objects", "data")
PROOFS = {"database": _DATA, "object_storage": _DATA, "backend": ("application",), "frontend": ("site",), "site": _DATA}


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
) -> dict[str, Any]:
    """Put one recovery's facts together.

    planned: {condition, findings, unchecked, passed_over, target_seconds, backup (where one was used)}. phases: [{name,
    started_at, finished_at, ...}] in order, with what is worth keeping of each; results: the modules' checks. The clock
    runs from the first phase's start to the last one's end. verdict: FAIL on an error after something was changed,
    ABORTED before; FAIL also when the recovery took longer than its target.
    """
    checks = [Check(one["name"], one["result"], one.get("detail", "")) for one in results]
    timeline = [_phase(one) for one in phases]
    seconds = 0.0
    if phases:
        first, last = parse_time(str(phases[0]["started_at"])), parse_time(str(phases[-1]["finished_at"]))
        seconds = round((last - first).total_seconds(), 2)
    target = int(planned["target_seconds"])
    proofs = PROOFS.get(scenario, _DATA)
    if not error and not any(one.name in proofs for one in checks):
        checks.append(Check(proofs[-1], COULD_NOT_VERIFY, f"the {proofs[-1]} was compared with nothing"))
    if not error:
        checks.append(
            Check("recovery time", PASS if seconds <= target else FAIL, f"{seconds:.0f} s, target {target} s")
        )
    touched = any(one["name"] not in ("assess", "plan", "confirm") for one in phases)
    backup = planned.get("backup")
    return {
        "schema": SCHEMA,
        "version": [1, 0],
        "id": f"{scenario}_{now.astimezone(timezone.utc):%Y%m%d_%H%M%S}",
        "scenario": scenario,
        "stack": config.stack,
        "host": socket.gethostname(),
        "operator": operator,
        "reason": reason,
        "tool": f"lifeboat {VERSION}",
        "recorded_at": format_time(now),
        "verdict": (FAIL if touched else ABORTED) if error else verdict(checks),
        "error": error,
        "found": {
            "condition": planned["condition"],
            "findings": planned["findings"],
            "unchecked": planned["unchecked"],
        },
        "backup": {key: backup[key] for key in ("id", "taken_at", "age_seconds", "size")} if backup else None,
        "passed_over": planned["passed_over"],
        "phases": timeline,
        "seconds": seconds,
        "target_seconds": target,
        "checks": [one.as_dict() for one in checks],
    }


# What is worth keeping of a phase; anything else that a module returned stays out of the record.
_KEPT = (
    "quarantine", "quarantined_database", "quarantine_bucket", "way_back", "stopped", "reindexed", "mode", "seconds_of",
    "copied", "settings", "reconciled", "tried", "logs", "commit", "recovery_point",
)  # fmt: skip


def _phase(one: Mapping[str, Any]) -> dict[str, Any]:
    seconds = (parse_time(str(one["finished_at"])) - parse_time(str(one["started_at"]))).total_seconds()
    return {
        "name": one["name"],
        "started_at": one["started_at"],
        "finished_at": one["finished_at"],
        "seconds": round(seconds, 2),
        **{key: one[key] for key in _KEPT if one.get(key)},
    }


def write(config: Config, record: Mapping[str, Any]) -> Path:
    """Keep the record on the host, readable by root alone; whole or not at all."""
    folder = config.state / "evidence"
    path = folder / f"{record['id']}.json"
    with explained("keep the evidence", path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.chmod(0o600)
        partial.replace(path)
    return path


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record for a terminal."""
    shown = [
        f"{record['scenario']} of {record['stack']} on {record['host']}: {record['verdict']}",
        f"found:    {record['found']['condition']}" + "".join(f"; {one}" for one in record["found"]["findings"][:4]),
    ]
    if record["backup"]:
        shown.append(f"backup:   {record['backup']['id']} taken {record['backup']['taken_at']}")
    shown += [f"          passed over {one['id']}: {one['problem']}" for one in record["passed_over"]]
    for one in record["phases"]:
        detail = one.get("seconds_of") or {}
        parts = "".join(f"  {name} {seconds:.1f} s" for name, seconds in detail.items())
        shown.append(f"phase:    {one['name']:<8} {one['seconds']:8.1f} s{parts}")
    shown.append(f"total:    {record['seconds']:.1f} s of {record['target_seconds']} s allowed")
    for one in record["checks"]:
        shown.append(f"{one['result']:<9} {one['name']}: {one['detail']}")
    for one in record["phases"]:
        if one.get("quarantine"):
            shown.append(f"kept:     the old data as {one['quarantine']}")
        if one.get("quarantined_database"):
            shown.append(f"kept:     the old database as {one['quarantined_database']}")
        if one.get("quarantine_bucket"):
            shown.append(f"kept:     the objects that were replaced in the bucket {one['quarantine_bucket']}")
        shown += [f"way back: {step}" for step in one.get("way_back", [])]
    if record["error"]:
        shown.append(f"error:    {record['error']}")
    return shown
