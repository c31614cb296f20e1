# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All records of some stacks, judged: which drill is overdue, how recovery times go. Pure: same input, same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from ..base.checks import PASS
from ..evidence import record as evidence_record
from ..evidence import schema
from ..evidence.store import Kept
from ..settings.config import Config
from . import words
from .charts import Point

DAY = 86400
OK, OVERDUE, NEVER = "in time", "OVERDUE", "NEVER DONE"


@dataclass(frozen=True)
class Record:
    """One record as a host gave it. `problem`: why it is no evidence, found there or here.

    body: its JSON as it was written, which the seal is of; seen: what that says, None where no face can show it.
    """

    id: str
    body: Mapping[str, object]
    seen: Optional[schema.Record]
    problem: str
    signature: str
    sha256: str

    @property
    def good(self) -> Optional[schema.Record]:
        """The record where it is evidence."""
        return None if self.problem else self.seen


@dataclass(frozen=True)
class Duty:
    """Something to be done every so often. `last`: when it last passed; `failed`: the verdict of a later try."""

    name: str
    days: int
    last: Optional[datetime]
    state: str
    failed: str = ""


@dataclass(frozen=True)
class Stack:
    """A stack on a host: its duties, its records oldest first. `problem`: why nothing is known of it."""

    host: str
    stack: str
    problem: str = ""
    duties: tuple[Duty, ...] = ()
    records: tuple[Record, ...] = ()
    trends: Mapping[str, tuple[tuple[Point, ...], float]] = field(default_factory=dict)

    @property
    def overdue(self) -> list[Duty]:
        return [one for one in self.duties if one.state != OK]


def judge(given: Mapping[str, Any], now: datetime) -> Stack:
    """given: {host, stack, problem, scenarios, drill_age_days, proof_age_days, records: [Kept.as_dict()]}.

    What a host says of its records is looked at again: a host that was broken into says what it likes.
    """
    host, stack = str(given.get("host") or "?"), str(given.get("stack") or "?")
    if given.get("problem"):
        return Stack(host, stack, str(given["problem"]))
    try:
        records = tuple(sorted((_record(one) for one in given["records"]), key=_order))
        days, proof = int(given["drill_age_days"]), int(given["proof_age_days"])
        scenarios = [str(one) for one in given["scenarios"]]
    except (LookupError, TypeError, ValueError) as exc:
        return Stack(host, stack, f"its answer cannot be read: {exc!r}")
    good = [record for held in records if (record := held.good)]
    drills = [record for record in good if record.kind == "drill"]
    duties = [
        _duty(
            f"drill of the {name.replace('_', ' ')}", [drill for drill in drills if drill.scenario == name], days, now
        )
        for name in scenarios
    ]
    proofs = [record for record in good if record.verification and record.verification.level == "restore"]
    duties.append(_duty("proof of the backups by a restore", proofs, proof, now))
    return Stack(host, stack, "", tuple(duties), records, _trends(good))


def _record(given: Mapping[str, Any]) -> Record:
    body = given["record"]
    record, problem = schema.read(body, expected_id=str(given["id"]))
    problem = str(given.get("problem") or "") or problem
    return Record(
        str(given["id"]),
        body if record else {},
        record,
        problem,
        str(given.get("signature") or ""),
        str(given.get("sha256") or ""),
    )


def _order(held: Record) -> tuple[float, str]:
    return (held.seen.recorded_at.timestamp() if held.seen else 0.0, held.id)


def _duty(name: str, records: Sequence[schema.Record], days: int, now: datetime) -> Duty:
    """Only what passed counts. A record from the future does not: somebody's clock is wrong, or somebody."""
    past = [record for record in records if record.recorded_at <= now]
    passed = [record.recorded_at for record in past if record.verdict == PASS]
    last = passed[-1] if passed else None
    failed = past[-1].verdict if past and past[-1].verdict != PASS else ""
    if last is None:
        return Duty(name, days, None, NEVER, failed)
    late = (now - last).total_seconds() > days * DAY
    return Duty(name, days, last, OVERDUE if late else OK, failed)


def _trends(records: Sequence[schema.Record]) -> dict[str, tuple[tuple[Point, ...], float]]:
    """By scenario: recoveries and drills, and the target of the newest one."""
    found: dict[str, list[Point]] = {}
    targets: dict[str, float] = {}
    for record in records:
        if record.kind == "verification" or not record.phases:
            continue
        when = record.recorded_at
        label = f"{when:%Y-%m-%d} {record.kind}: {words.duration(record.seconds)}, {record.verdict}"
        found.setdefault(record.scenario, []).append(Point(when, record.seconds, record.verdict, label))
        targets[record.scenario] = record.target_seconds
    return {name: (tuple(points), targets[name]) for name, points in found.items()}


def scenarios(config: Config) -> list[str]:
    """What can be lost of this stack, and so must be drilled."""
    has = {"object_storage": bool(config.objects.bucket), "frontend": bool(config.frontend.url)}
    return [one for one in evidence_record.SCENARIOS if has.get(one, True)]


def answer(config: Config, records: list[Kept]) -> dict[str, Any]:
    """What this host has to say, as evidence_history.judge() takes it."""
    return {
        "stack": config.stack,
        "scenarios": scenarios(config),
        "drill_age_days": config.alarms.drill_age_days,
        "proof_age_days": config.alarms.proof_age_days,
        "records": [one.as_dict() for one in records],
    }
