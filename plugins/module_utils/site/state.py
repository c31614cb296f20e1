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
from datetime import datetime
from typing import Any, Optional

from ..base.clock import format_time
from ..recovery import state as recovery_state
from ..settings.config import Config

FILE = "site.json"


def read(config: Config) -> Optional[dict[str, Any]]:
    """{point, rehearsal, finished_at (empty: it has not ended), phases}; None where no site was recovered here."""
    try:
        found = dict(json.loads((config.state / FILE).read_text(encoding="utf-8")))
        return found if {"point", "rehearsal", "finished_at", "phases"} <= set(found) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def unfinished(found: Optional[Mapping[str, Any]], point: str = "") -> bool:
    """Whether a recovery (to that point) was begun here and has not ended."""
    return found is not None and not found["finished_at"] and point in ("", found["point"])


def done(found: Optional[Mapping[str, Any]], point: str) -> list[str]:
    """The phases of an unfinished recovery to that point that need not be done again: their checks are on record."""
    return [phase["name"] for phase in found["phases"] if phase["checks"]] if found and unfinished(found, point) else []


def begin(
    config: Config, phase: str, *, point: str, rehearsal: bool = False, finished: bool = False, since: str = "",
    facts: Optional[Mapping[str, Any]] = None, checks: Sequence[Mapping[str, Any]] = (), now: datetime,
) -> dict[str, Any]:  # fmt: skip
    """Begin a phase (none where `phase` is empty), which ends the one before it, with its facts and checks.

    finished: the recovery has come to its end. since: when the assessment began that led to it; the clock of a new
    recovery runs from there. Returns what is remembered now.
    """
    found, stamp = read(config), format_time(now)
    if found is None or not unfinished(found, point):
        assessed = {"name": "assess", "started_at": since, "finished_at": stamp, "checks": []}
        found = {
            "point": point, "rehearsal": rehearsal, "finished_at": "", "phases": [assessed] if since else [],
        }  # fmt: skip
    phases: list[dict[str, Any]] = found["phases"]
    if phases and not phases[-1]["finished_at"]:
        phases[-1].update(facts or {}, finished_at=stamp, checks=[dict(item) for item in checks])
    if phase:
        phases.append({"name": phase, "started_at": stamp, "finished_at": "", "checks": []})
    if finished:
        found["finished_at"] = stamp
    recovery_state.keep(config, FILE, json.dumps(found, indent=1))
    return found


def checks_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was checked, phase by phase; of a phase that was done twice, what it checked the last time."""
    last = {phase["name"]: phase["checks"] for phase in found["phases"] if phase["checks"]}
    return [check for checks in last.values() for check in checks]
