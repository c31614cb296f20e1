# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes into a record of the phases: durations, bytes, speed, versions, logs; and what must not go into it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, TypeVar, cast

from ..base import clock, pipeline, typed
from ..base.errors import UsageError
from ..base.text import PassedOver, Untested
from ..base.version import VERSION
from ..settings.config import Config
from ..settings.scenarios import SCENARIOS
from . import schema
from .schema import Backup, Phase, Production, Rpo

T = TypeVar("T")
_WRONG = functools.partial(UsageError, "record the phases")
OUR_OWN = ("schema", "id", "kind", "scenario", "verdict", "result", "level", "clock", "seal")


@dataclass(frozen=True)
class Details:
    """What a record takes from a database's backup."""

    database_size: Optional[int] = None
    server_version_num: Optional[int] = None


@dataclass(frozen=True)
class PlannedBackup(Backup):
    """A backup as a plan names it."""

    details: Details = Details()
    hidden: str = ""


@dataclass(frozen=True)
class Plan:
    """What a record takes from the plan of a recovery."""

    condition: str
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    passed_over: tuple[PassedOver, ...]
    target_seconds: float
    backup: Optional[PlannedBackup] = None
    recovery_point: Optional[str] = None
    state: Optional[str] = None
    location: Optional[str] = None
    accepted: tuple[str, ...] = ()
    untested: tuple[Untested, ...] = ()


@dataclass(frozen=True)
class Copied:
    copied_bytes: Optional[int] = None


@dataclass(frozen=True)
class ReportedPhase(clock.Phase):
    """A phase as modules and roles tell of it. recorded: what the record keeps of it, see schema.KEPT."""

    name: str = ""
    bytes: Optional[int] = None
    log: tuple[str, ...] = ()
    recorded: Mapping[str, object] = field(default_factory=dict)


def parse_phase(body: Mapping[str, object]) -> ReportedPhase:
    """A phase from JSON."""
    known = {key: value for key, value in body.items() if value is not None}
    known["recorded"] = {key: body[key] for key in schema.KEPT if body.get(key)}
    found = typed.build(ReportedPhase, known, _WRONG, f"phase {body.get('name')}", unknown="ignore")
    return dataclasses.replace(found, log=tuple(line for said in found.log for line in said.splitlines()))


def timeline(
    config: Config, scenario: str, phases: Sequence[ReportedPhase], backup: Optional[PlannedBackup]
) -> tuple[tuple[Phase, ...], Optional[Production]]:
    """The phases for the record, and the time at production size, None where unknown."""
    component = SCENARIOS[scenario].component if scenario in SCENARIOS else ""
    wanted = int(getattr(config.evidence, f"production_{component}_bytes", 0))
    found = tuple(_phase(phase, backup, wanted) for phase in phases)
    longer = [(phase.name, phase.production_seconds - phase.seconds) for phase in found if phase.production_seconds]
    if not longer:
        return found, None
    names = ", ".join(name for name, more in longer)
    how = f"{names} in proportion to the bytes, everything else as measured; an estimate, not a measurement"
    return found, Production(wanted, round(seconds(phases)[0] + sum(more for name, more in longer), 2), how)


def seconds(phases: Sequence[clock.Phase]) -> tuple[float, str]:
    """How long they took, and by which clock."""
    wall, monotonic = clock.elapsed(phases)
    return (wall, "wall") if monotonic is None else (monotonic, "monotonic")


def _phase(phase: ReportedPhase, backup: Optional[PlannedBackup], production_bytes: int) -> Phase:
    took, which = seconds([phase])
    moved = _bytes(phase, backup)
    facts = {
        **phase.recorded,
        "name": phase.name,
        "started_at": phase.started_at,
        "finished_at": phase.finished_at,
        "seconds": took,
        "monotonic_seconds": took if which == "monotonic" else None,
        "bytes": moved,
        "mb_per_second": round(moved / 1e6 / took, 2) if moved and took > 0 else None,
        "production_seconds": round(took * production_bytes / moved, 2) if moved and production_bytes else None,
    }
    return typed.build(Phase, facts, _WRONG, f"phase {phase.name}")


def _bytes(phase: ReportedPhase, backup: Optional[PlannedBackup]) -> Optional[int]:
    """What the phase moved: as it says itself, the objects it copied, or the database that it restored."""
    copied = phase.recorded.get("copied")
    moved = typed.build(Copied, copied, _WRONG, "copied", unknown="ignore").copied_bytes if copied else None
    size = backup.details.database_size if backup and phase.name == "restore" else None
    return phase.bytes or moved or size or None


def rpo(backup: Optional[Backup], phases: Sequence[ReportedPhase]) -> Rpo:
    """How much time may be lost: from the backup's instant to when the writers were stopped. seconds: None unknown."""
    components = {scenario.component for scenario in SCENARIOS.values()}
    restored = any(phase.name == "restore" or phase.name in components for phase in phases)
    if not backup or not restored:
        return Rpo(None, None, "no data was restored from a backup")
    stopped = next((phase.finished_at for phase in phases if phase.name == "protect"), phases[0].started_at)
    how = "at most: from the backup's instant to when writing was stopped; what was written in between is in no backup"
    return Rpo(round(max(0.0, (stopped - backup.taken_at).total_seconds()), 2), None, how)


def chosen(plan: Plan) -> Optional[schema.Chosen]:
    """The recovery point, and how it was chosen: by name, by time, or as the newest one that can be used."""
    if not plan.backup:
        return None
    over = len(plan.passed_over)
    how = (
        f"the recovery point {plan.recovery_point} was asked for" if plan.recovery_point
        else f"{plan.state} was asked for" if plan.state
        else "the newest good backup"
    )  # fmt: skip
    how += f"; {over} newer {'one was' if over == 1 else 'ones were'} passed over" if over else ""
    how += "; ACCEPTED although it failed" if plan.accepted else ""
    how += f"; OLD VERSIONS of it were read: {plan.backup.hidden}" if plan.backup.hidden else ""
    return schema.Chosen(how, plan.recovery_point or "", plan.location or "")


def versions(backup: Optional[PlannedBackup], ansible: str, images: Mapping[str, str]) -> schema.Versions:
    """What ran, where known; images by service."""
    number = (backup.details.server_version_num if backup else None) or 0
    postgresql = f"{number // 10000}.{number % 10000}" if number else ""
    return schema.Versions(VERSION, images, platform.python_version(), ansible, postgresql)


def log(phases: Sequence[ReportedPhase], secrets: Mapping[str, str]) -> str:
    """What the phases said while they ran, without secrets and rows: kept beside the record, which has its hash."""
    said = [f"{phase.name}: {line}" for phase in phases for line in pipeline.without_rows(phase.log)]
    return "".join(f"{cleaned(line, secrets)}\n" for line in said)


def hashes(text: str) -> tuple[schema.Log, ...]:
    """Of the log that lies beside the record. An empty one is none."""
    data = text.encode("utf-8", "backslashreplace")
    return (schema.Log("phases.log", len(data), hashlib.sha256(data).hexdigest()),) if data else ()


def cleaned(value: T, secrets: Mapping[str, str]) -> T:
    """The last line of defence: whatever a module or a tool put into its words, no secret gets into a record.

    Where a password is an everyday word, the record's own words stay what the schema says.
    """
    return cast(T, _cleaned(value, secrets))


def _cleaned(value: object, secrets: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return pipeline.scrub(value, secrets)
    if isinstance(value, Mapping):
        return {key: inner if key in OUR_OWN else _cleaned(inner, secrets) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cleaned(inner, secrets) for inner in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.name not in OUR_OWN]
        return dataclasses.replace(value, **{name: _cleaned(getattr(value, name), secrets) for name in names})
    return value
