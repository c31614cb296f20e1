# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All records of some stacks, judged: which drill is overdue, how recovery times go. Pure: same input, same answer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional

from ..base import typed
from ..base.checks import PASS
from ..base.clock import parse_time
from ..base.errors import LifeboatError, UnverifiedError, UsageError
from ..evidence import schema
from ..evidence.store import StoredRecord
from ..repository.components import DATABASE, configured
from ..repository.manifest import component_of
from ..settings.config import Config
from . import words
from .charts import Point

Done = tuple[datetime, str]  # when, and the verdict
OK, OVERDUE, NEVER = "in time", "OVERDUE", "NEVER DONE"


@dataclass(frozen=True)
class RecordAnswer:
    """A record as answer() returns it."""

    id: str
    record: object
    problem: str = ""
    signature: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Answer:
    """A host's records and duties, as answer() returns them. components: what the stack has to be backed up."""

    scenarios: tuple[str, ...]
    drill_age_days: int
    proof_age_days: int
    records: tuple[RecordAnswer, ...]
    components: tuple[str, ...] = (DATABASE,)


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
    """A stack on a host: its duties, its records oldest first. `problem`: why nothing is known of it. `proofs`: when a
    restore last proved each component; None where none ever did."""

    host: str
    stack: str
    problem: str = ""
    duties: tuple[Duty, ...] = ()
    records: tuple[StoredRecord, ...] = ()
    trends: Mapping[str, tuple[tuple[Point, ...], float]] = field(default_factory=dict)
    proofs: Mapping[str, Optional[datetime]] = field(default_factory=dict)

    @property
    def overdue(self) -> list[Duty]:
        return [duty for duty in self.duties if duty.state != OK]


def judge(reply: Mapping[str, object], now: datetime) -> Stack:
    """Judge a host's reply: {host, stack, problem, scenarios, components, drill_age_days, proof_age_days, records}.

    Each record is checked again: a host that was broken into says what it likes.
    """
    host, stack = str(reply.get("host") or "?"), str(reply.get("stack") or "?")
    if reply.get("problem"):
        return Stack(host, stack, str(reply["problem"]))
    try:
        said = typed.build(
            Answer, reply, lambda at, why: UnverifiedError("read what the host says", at, why), unknown="ignore"
        )
    except LifeboatError as exc:
        return Stack(host, stack, f"its answer cannot be read: {exc.subject}: {exc.cause}")
    records = tuple(sorted((_stored_record(told) for told in said.records), key=lambda record: record.order))
    good = [record for held in records if (record := held.good)]
    drills = [record for record in good if record.kind == "drill"]
    duties = []
    for name in said.scenarios:
        own = [(drill.recorded_at, drill.verdict) for drill in drills if drill.scenario == name]
        duties.append(_duty(f"drill of the {name.replace('_', ' ')}", own, said.drill_age_days, now))
    proofs: dict[str, Optional[datetime]] = {}
    for name in said.components:
        proved = _proved(good, name, timedelta(days=said.proof_age_days))
        duty = _duty(f"proof of the {name} by a restore", proved, said.proof_age_days, now)
        proofs[name] = duty.last
        duties.append(duty)
    return Stack(host, stack, "", tuple(duties), records, _trends(good), proofs)


def _stored_record(item: RecordAnswer) -> StoredRecord:
    """Return the record with the problem that was found there or here."""
    record, problem = schema.read(item.record, expected_id=item.id)
    body = item.record if record and isinstance(item.record, Mapping) else {}
    return StoredRecord(item.id, body, record, item.problem or problem, item.signature, item.sha256)


def _proved(records: Sequence[schema.Record], component: str, young: timedelta) -> list[Done]:
    """Return when backups of the component were restored to prove them, and how that ended.

    Of backups that were young then: last year's, restored today, says nothing of the others.
    """
    found = []
    for record in records:
        if record.verification is None or record.verification.level != "restore":
            continue
        for backup in record.verification.backups:
            with contextlib.suppress(UsageError):  # a name or a time that is none
                late = backup.taken_at and record.recorded_at - parse_time(backup.taken_at) > young
                if component_of(backup.id) == component and not late:
                    found.append((record.recorded_at, backup.verdict))
    return found


def _duty(name: str, done: Sequence[Done], days: int, now: datetime) -> Duty:
    """Return whether the duty was done in time. Only what passed counts, and no record from the future."""
    past = [(at, verdict) for at, verdict in done if at <= now]
    passed = [at for at, verdict in past if verdict == PASS]
    last = passed[-1] if passed else None
    failed = past[-1][1] if past and past[-1][1] != PASS else ""
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


def answer(config: Config, records: Sequence[StoredRecord]) -> dict[str, object]:
    """Return this host's records and duties, as judge() takes them."""
    told = tuple(RecordAnswer(kept.id, kept.body, kept.problem, kept.signature, kept.sha256) for kept in records)
    duties = tuple(scenario.name for scenario in config.scenarios)
    components = tuple(kind.name for kind in configured(config))
    said = Answer(duties, config.alarms.drill_age_days, config.alarms.proof_age_days, told, components)
    return {"stack": config.stack, **typed.plain(said)}
