# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All records of some stacks, judged: which drill is overdue, how recovery times go. Pure: same input, same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional

from ..base import typed
from ..base.checks import PASS
from ..base.clock import parse_time
from ..base.errors import LifeboatError, UnverifiedError, UsageError
from ..evidence import schema
from ..evidence.store import Kept
from ..settings.config import Config
from . import words
from .charts import Point

OK, OVERDUE, NEVER = "in time", "OVERDUE", "NEVER DONE"


@dataclass(frozen=True)
class Given:
    """A record as answer() tells of it."""

    id: str
    record: object
    problem: str = ""
    signature: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Answer:
    """What answer() says of a host's records and duties."""

    scenarios: tuple[str, ...]
    drill_age_days: int
    proof_age_days: int
    records: tuple[Given, ...]


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
    records: tuple[Kept, ...] = ()
    trends: Mapping[str, tuple[tuple[Point, ...], float]] = field(default_factory=dict)

    @property
    def overdue(self) -> list[Duty]:
        return [duty for duty in self.duties if duty.state != OK]


def judge(given: Mapping[str, object], now: datetime) -> Stack:
    """given: {host, stack, problem, scenarios, drill_age_days, proof_age_days, records: [Given]}.

    What a host says of its records is looked at again: a host that was broken into says what it likes.
    """
    host, stack = str(given.get("host") or "?"), str(given.get("stack") or "?")
    if given.get("problem"):
        return Stack(host, stack, str(given["problem"]))
    try:
        said = typed.build(
            Answer, given, lambda at, why: UnverifiedError("read what the host says", at, why), unknown="ignore"
        )
    except LifeboatError as exc:
        return Stack(host, stack, f"its answer cannot be read: {exc.subject}: {exc.cause}")
    records = tuple(sorted((_kept(told) for told in said.records), key=lambda kept: kept.order))
    good = [record for held in records if (record := held.good)]
    drills = [record for record in good if record.kind == "drill"]
    duties = []
    for name in said.scenarios:
        own = [drill for drill in drills if drill.scenario == name]
        duties.append(_duty(f"drill of the {name.replace('_', ' ')}", own, said.drill_age_days, now))
    proofs = [record for record in good if _proves(record, timedelta(days=said.proof_age_days))]
    duties.append(_duty("proof of the backups by a restore", proofs, said.proof_age_days, now))
    return Stack(host, stack, "", tuple(duties), records, _trends(good))


def _kept(told: Given) -> Kept:
    """`problem`: found there or here."""
    record, problem = schema.read(told.record, expected_id=told.id)
    body = told.record if record and isinstance(told.record, Mapping) else {}
    return Kept(told.id, body, record, told.problem or problem, told.signature, told.sha256)


def _proves(record: schema.Record, young: timedelta) -> bool:
    """A restore of backups that were young then: last year's, restored today, says nothing of the others."""
    if record.verification is None or record.verification.level != "restore":
        return False
    try:
        taken = [parse_time(backup.taken_at) for backup in record.verification.backups if backup.taken_at]
    except UsageError:
        return False
    return all(record.recorded_at - at <= young for at in taken)


def _duty(name: str, records: Sequence[schema.Record], days: int, now: datetime) -> Duty:
    """Only what passed counts. A record from the future does not: somebody's clock is wrong, or somebody."""
    past = [record for record in records if record.recorded_at <= now]
    passed = [record.recorded_at for record in past if record.verdict == PASS]
    last = passed[-1] if passed else None
    failed = past[-1].verdict if past and past[-1].verdict != PASS else ""
    late = last and now - last > timedelta(days=days)
    return Duty(name, days, last, NEVER if last is None else OVERDUE if late else OK, failed)


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


def answer(config: Config, records: Sequence[Kept]) -> dict[str, object]:
    """What this host has to say, as judge() takes it."""
    told = tuple(Given(kept.id, kept.body, kept.problem, kept.signature, kept.sha256) for kept in records)
    duties = tuple(scenario.name for scenario in config.scenarios)
    said = Answer(duties, config.alarms.drill_age_days, config.alarms.proof_age_days, told)
    return {"stack": config.stack, **typed.plain(said)}
