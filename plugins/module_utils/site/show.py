# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a site's recovery, as roles take it and as an operator reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Optional

from ..base.checks import Check
from ..base.clock import format_time
from ..base.text import PassedOver, Untested, cautions, human
from ..settings.config import Config
from . import instant, scope
from .files import SAME, SCHEDULES, Planned
from .instant import Way

SHOWN = 200  # files of a plan; its JSON has every one


@dataclass(frozen=True)
class Details:
    server_version_num: int


@dataclass(frozen=True)
class Backup:
    """A recovery point; only its id is known where nothing is to be done. size: of all its backups, in bytes."""

    SPARSE: ClassVar[tuple[str, ...]] = ("taken_at", "size", "age_seconds", "consistency", "details", "hidden")
    id: str
    taken_at: Optional[datetime] = None
    size: Optional[int] = None
    age_seconds: Optional[int] = None
    consistency: str = ""
    details: Optional[Details] = None
    hidden: str = ""


@dataclass(frozen=True)
class Plan:
    """What is lost and what will be done. Roles see it as JSON, with these names.

    ready: false where the vault could not be read yet, as the machine lacks what that takes. parts: component ->
    backup. databases: those that come back, where not all of the backup's do. images: service -> name@digest. done:
    phases of an earlier run. lacking: what must be given before anything is done. fresh: nothing of the stack is here.
    accepted: why the point that an operator named failed. untested: what of the object store is in no backup, and why.
    placing: the files and services of the configuration. way: to an instant behind the recovery point; the age of the
    backup is that of the instant then.
    """

    SPARSE: ClassVar[tuple[str, ...]] = ("way",)

    needed: bool
    ready: bool
    why: str
    condition: str
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    warnings: tuple[str, ...]
    fresh: bool
    rehearsal: bool
    cutover: str
    machine: scope.Machine
    target_seconds: int
    passed_over: tuple[PassedOver, ...] = ()
    accepted: tuple[str, ...] = ()
    backup: Optional[Backup] = None
    recovery_point: Optional[str] = None
    location: Optional[str] = None
    parts: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[str, ...] = ()
    source: str = field(default="", metadata={"json": "place"})
    images: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    done: tuple[str, ...] = ()
    lacking: str = ""
    steps: tuple[str, ...] = ()
    untested: tuple[Untested, ...] = ()
    placing: Planned = field(default_factory=Planned)
    way: Optional[Way] = None


def steps(config: Config, plan: Plan) -> tuple[str, ...]:
    """What will be done, in the words of the runbook and the order of the seed, one line a step."""
    machine, parts = plan.machine, plan.parts
    from_ = f" from {parts['config']}" if parts.get("config") else ""
    engine = (
        f"Docker Engine {machine.engine} and Compose {machine.compose} are here already"
        if machine.engine and machine.compose
        else "install Docker Engine and Compose from the distribution, start and enable them"
    )
    checked = f"done: {len(plan.checks)} checks" if plan.ready else "first, as soon as it can be read"
    found = [
        "scope: what is lost and what lives: done, see above",
        f"verify the backups: every artefact in the vault, by its SHA-256, and the key: {checked}",
        *([f"build: {engine}"] if config.runtime.type == "compose" else []),
        f"configure: compose files, .env and secrets{from_}, what is in the way put aside; what the inventory does"
        " not name left out; then Lifeboat's own",
        f"fetch: the recovery point{', and what leads to the instant,' if plan.way else ''} out of the vault into this"
        " machine's repository",
        f"images: {len(plan.images) or 'all'} services, from the backup's archive, else pulled",
    ]
    if config.database.enabled:
        dump = f"a fresh {config.database.service}, roles, {parts.get('database', 'the dump')}; proved before use"
        if plan.way:
            dump = (
                f"{plan.way.base} and the WAL behind it, to {plan.way.instant}, in a throw-away container; every table"
                f" read before {config.database.service} starts with it"
            )
        found.append(f"database: {dump}")
    if config.objects.bucket:
        what = f"every object of {parts.get('objects', 'the backup')}"
        if plan.way and plan.way.objects:
            what = f"every object {plan.way.state}"
        found.append(f"objects: a fresh bucket {config.objects.bucket}, {what}, compared with its listing")
    if parts.get("files"):
        found.append(f"files: every file of {parts['files']} into its volume or directory, compared with its listing")
    if parts.get("dumps"):
        found.append(
            f"dumps: every server of {parts['dumps']} restored, compared with its facts, then put in its place"
        )
    rows = ", rows against objects" if config.database.enabled else ""
    found.append(f"verify: start all services, wait for their health, ask the endpoints{rows}")
    if plan.rehearsal:
        return (*found, "record: evidence; a rehearsal does not cut over and takes no backup")
    hook = (
        f"run {plan.cutover}"
        if plan.cutover
        else "no hook is set (site_recovery_cutover): send your users here yourself"
    )
    return (
        *found,
        f"cutover, only after every check passed{' that was not accepted' if plan.accepted else ''}: {hook}",
        "backups: install them and their schedule here, take the first recovery point",
        "record: evidence with the time of each phase",
    )


def text(plan: Plan, here: scope.HostState) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    machine, backup = plan.machine, plan.backup
    lines = [f"the site is {plan.condition}", *(f"  {finding}" for finding in plan.findings)]
    engine = f"engine {machine.engine}, Compose {machine.compose or 'missing'}" if machine.engine else "no engine"
    lines.append(
        f"target {here.host}: {machine.system}, {machine.cpus} CPUs, {human(machine.free_bytes)} free at"
        f" {machine.free_at}, {engine}"
    )
    lines += [f"  {word}" for word in scope.described("it", here)]
    lines += [f"  not checked: {item}" for item in plan.unchecked]
    lines.append(f"{'to do' if plan.needed else 'nothing to do'}: {plan.why}")
    if backup and backup.taken_at and backup.age_seconds is not None:
        rows = "rows" if "database" in plan.parts else "data"
        lines.append(
            f"recovery point: {backup.id}, the {rows} of {format_time(backup.taken_at)}, {backup.age_seconds // 60}"
            f" minutes old, consistency {backup.consistency}; what was written later is lost"
            if plan.way is None
            else f"to an instant behind the recovery point {backup.id}; what was written later is lost"
        )
        lines += instant.text(plan.way) if plan.way else []
        lines += [f"  {name}: {identity}" for name, identity in plan.parts.items()]
    lines += [f"  {check.result}  {check.name}: {check.detail}" for check in plan.checks]
    lines += _placing(plan.placing)
    lines += cautions(plan.warnings, plan.passed_over, plan.accepted)
    lines += [f"  done by an earlier run: {', '.join(plan.done)}"] if plan.done else []
    return lines + [f"  {number}. {step}" for number, step in enumerate(plan.steps, 1)]


def _placing(placing: Planned) -> list[str]:
    """What an operator must know of a configuration that the lost host wrote, before agreeing to it."""
    new = [file for file in placing.files if file.what != SAME]
    lines = []
    if placing.files or placing.left:
        there = len(placing.files) - len(new)
        lines.append(
            f"files: {len(new)} to be placed, {there} there already, {len(placing.left)} differ from the backup"
        )
    late = "; cron or systemd runs what it says, as root unless it names another user: read it first"
    lines += [f"  {file.path}: {file.what}{late if file.when == SCHEDULES else ''}" for file in new[:SHOWN]]
    lines += [f"  and {len(new) - SHOWN} more"] if len(new) > SHOWN else []
    lines += [f"  LEFT OUT  {one.description}" for one in placing.left[:SHOWN]]
    lines += [f"  LEFT OUT  and {len(placing.left) - SHOWN} more"] if len(placing.left) > SHOWN else []
    for service in placing.services:
        if service.role:
            ports = f", answers on {', '.join(service.ports)}" if service.ports else ""
            called = "the inventory does not name it" if service.role == "not named" else service.role
            lines.append(f"  starts {service.name}: {service.image}, {called}{ports}")
        lines += [f"  {'ALLOWED' if text in service.allowed else 'REFUSED'}  {text}" for text in service.beyond]
    return lines + ([f"  services: not known yet: {placing.unknown}"] if placing.unknown else [])
