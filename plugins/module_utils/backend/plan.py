# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan a backend's recovery: what is wrong, why, and which steps would be taken. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..base import clock
from ..base.errors import Log, UsageError
from ..base.text import cautions, human
from ..recovery import state as recovery_state
from ..recovery.state import DAMAGED, DOWN, HEALTHY
from ..repository import catalog
from ..settings.config import Config
from ..settings.scenarios import BACKEND
from ..stack.runtime import Opened
from . import assess, images, recovery, redeploy, space
from . import host as backend_host
from .cause import IMAGE, LADDER, REDEPLOY, SPACE, Cause, classify, next_step
from .facts import Observations
from .planned import Plan, Rung

METHODS = ("auto", *(step for step in LADDER if step != "engine"))


def make(
    run: Opened,
    *,
    host: str,
    identity: str = "latest",
    method: str = "auto",
    force: bool = False,
    key: str = "",
    accept: bool = False,
    log: Log,
) -> Plan:
    """The plan. key: the age identity, if one was given. accept: the backup that is named, although it failed."""
    config = run.config
    with recovery_state.planning(config) as number:  # before anything is looked at
        made = _make(run, host, identity, method, force, key, accept, log)
    if made.blocked and recovery_state.disturbed(config, number):
        raise recovery_state.disturbance(config, "plan the recovery", config.stack, made.blocked)
    return replace(made, turn=number)


def _make(
    run: Opened, host: str, identity: str, method: str, force: bool, key: str, accept: bool, log: Log
) -> Plan:  # fmt: skip
    config = run.config
    catalog.require_named(accept, identity)
    seen = assess.observe(run, log=log)
    cause = classify(seen, host)
    asked = force or method != "auto"
    needed = asked or not seen.healthy
    if config.runtime.type != "compose" and method not in ("auto", "restart"):
        raise UsageError(
            "plan the recovery", config.stack, f"method={method} is about containers, and the stack is of systemd units"
        )
    known = images.candidates(run, seen) if not seen.host.engine else {}
    backup, none = (
        redeploy.available(run, identity, accept=accept)
        if config.runtime.project_directory
        else (None, "no project directory")
    )
    begin = next_step(cause, (), method=method) if needed else ""
    blocked = _blocked(cause, begin, none, key) if needed else ""
    files = backup.id if backup else f"not possible: {none}"
    why = cause.description
    if needed:
        why = "force was given" if asked and seen.healthy else f"the likely cause: {why}"
    return Plan(
        needed=needed,
        condition=_condition(seen),
        kind=cause.kind,
        cause=cause.description,
        why=why,
        machine=machine(seen),
        findings=tuple(([f"cause: {cause.description}"] if needed and not seen.healthy else []) + findings(seen)),
        unchecked=_unchecked(config, seen),
        warnings=(
            *_warnings(config, seen, cause, key, backup is not None),
            *_mounts(run),
            *(recovery_state.warnings_of_unanswered(config, recovery.PATIENCE_AS_BEFORE) if needed else ()),
        ),
        ladder=_ladder(config, cause, begin, known, files) if needed else (),
        begin=begin,
        blocked=blocked,
        next=_next(cause, config, host) if blocked else "",
        logs={service.name: service.log for service in seen.ill if service.log},
        method=method,
        requested=asked,
        identity=identity,
        stamp=clock.stamp(),
        host=host,
        target_seconds=config.target(BACKEND),
        accept=accept,
        failed=backup.failed if backup else "",
    )


def _condition(observations: Observations) -> str:
    if observations.healthy:
        return HEALTHY
    down = (
        observations.host.engine
        or observations.absent
        or any(service.status != "running" for service in observations.ill)
    )
    return DOWN if down else DAMAGED


def findings(observations: Observations) -> list[str]:
    """List what is not as it should be, most telling first."""
    found = [f"{service.service} is {service.describe()}" for service in observations.ill]
    found += [f"{name} has no container" for name in observations.absent]
    found += [f"{check.name}: {check.detail}" for check in observations.unanswered]
    found += [f"Compose cannot read the project: {observations.compose}"] if observations.compose else []
    found += [f".env lacks {', '.join(observations.env_missing)}"] if observations.env_missing else []
    found += [f"{service.service} last said: {service.log[-1]}" for service in observations.ill if service.log]
    found += [
        f"the health check of {service.service} says: {service.health_output}"
        for service in observations.ill
        if service.health_output
    ]
    found += [f"port {holder.port} of {holder.service} is held by {holder.describe()}" for holder in observations.ports]
    return found + [f"{disk.path} has no {disk.full} left" for disk in observations.host.full]


def machine(observations: Observations) -> tuple[str, ...]:
    """Return processor, memory and disks as text."""
    host = observations.host
    return (
        f"load {host.load} on {host.cpus} processors; memory {human(host.memory_free)} free of {human(host.memory)}",
        *(
            f"disk {disk.path}: {human(disk.free)} free of {human(disk.size)}"
            + (f", {disk.free_inodes} inodes free of {disk.inodes}" if disk.inodes else "")
            for disk in host.disks
        ),
    )


def _unchecked(config: Config, observations: Observations) -> tuple[str, ...]:
    none = "no endpoint is configured (lifeboat_application.checks): whether the application answers is not known"
    return (*observations.not_looked, *(() if config.application.checks else (none,)))


def _mounts(run: Opened) -> list[str]:
    inventory = recovery.own_mounts(run)
    return inventory.warnings if inventory else []


def _warnings(config: Config, observations: Observations, cause: Cause, key: str, backup: bool) -> tuple[str, ...]:
    found = []
    if observations.host.memory_free < 0.05 * observations.host.memory:
        found.append(f"memory is nearly used up: {human(observations.host.memory_free)} free")
    if observations.host.load > 4 * observations.host.cpus:
        found.append(f"the machine is overloaded: load {observations.host.load} on {observations.host.cpus} processors")
    if observations.healthy:
        found += [f"{disk.path} has no {disk.full} left" for disk in observations.host.full]
    if REDEPLOY in cause.useful and backup and not key:
        found.append("no -e identity_file=…: where files are put back, .env and other secret files stay as they are")
    return tuple(found)


def _blocked(cause: Cause, begin: str, no_backup: str, key: str) -> str:
    """Return why no step that is allowed here can help; empty if one can."""
    if not begin:
        return cause.description
    if begin == REDEPLOY and cause.useful[:1] == (REDEPLOY,):
        if no_backup:
            return f"{cause.description}; and there is no configuration backup to put back ({no_backup})"
        if cause.kind in ("env", "refused", "unset") and not key:
            return f"{cause.description}; the .env of the configuration backup is sealed"
    return ""


def _next(cause: Cause, config: Config, host: str) -> str:
    if cause.next:
        return cause.next
    if cause.kind in ("env", "refused", "unset"):
        by_hand = f"mend {config.runtime.project_directory}/.env by hand"
        return f"the same command with -e identity_file=<the age identity's file>, or {by_hand}"
    return f"mend the files in {config.runtime.project_directory} by hand (docker compose config shows what is wrong)"


def _ladder(
    config: Config, cause: Cause, begin: str, known: Mapping[str, images.Known], files: str
) -> tuple[Rung, ...]:
    """Return every step with what becomes of it: begin, then (in case), or skipped and why. files: the
    backup of them."""
    rows = []
    for step, words in LADDER.items():
        state = "begin" if step == begin else "then" if step in cause.useful else "skipped"
        why = ""
        if state == "skipped":
            why = cause.useless.get(step, "it would not help")
        elif step == IMAGE and state == "then" and not known:
            why = "if a recovery point names another image than the present one"
        elif step == IMAGE:
            why = ", ".join(f"{service}: that of {item.point}" for service, item in sorted(known.items()))
        elif step == REDEPLOY:
            why = files
        elif step == SPACE:
            logs = space.logs(config, Path(backend_host.docker_root()))
            why = f"{len(logs)} logs of {human(sum(size for _path, size, _container in logs))}"
        rows.append(Rung(step, words, state, why))
    return tuple(rows)


def text(plan: Plan) -> list[str]:
    """Return the plan for a terminal, as an operator reads it before typing the confirmation."""
    lines = [f"the backend is {plan.condition}"]
    lines += [f"  {item}" for item in plan.machine]
    lines += [f"  found: {finding}" for finding in plan.findings]
    lines += [f"  not checked: {item}" for item in plan.unchecked]
    lines += cautions(plan.warnings, accepted=[plan.failed] if plan.failed else [])
    if not plan.needed:
        return [*lines, f"nothing to do: {plan.why}"]
    for name, said in plan.logs.items():
        lines += [f"  log of {name}: {item}" for item in said[-6:]]
    lines.append(f"to do: {plan.why}")
    if plan.blocked:
        return [*lines, f"BLOCKED: {plan.blocked}", f"next: {plan.next}"]
    marks = {"begin": "BEGIN HERE", "then": "if that does not heal", "skipped": "skipped"}
    for number, rung in enumerate(plan.ladder, 1):
        why = f" ({rung.why})" if rung.why else ""
        lines.append(f"  {number}. {rung.step}: {rung.description} - {marks[rung.state]}{why}")
    return [
        *lines,
        "after each step: every service well and every endpoint answers, or the next step; never more than needed",
        "then record: evidence with the time of each phase and step",
    ]
