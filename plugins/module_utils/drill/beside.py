# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drill that breaks nothing: restore the newest backup next to production, and prove that it did not notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..base import clock, filesystem
from ..base.checks import COULD_NOT_VERIFY, FAIL, Check, by_kind, compared
from ..base.clock import parse_time
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError
from ..database import server as database_server
from ..evidence import record
from ..evidence.phases import Plan, PlannedBackup, ReportedPhase
from ..evidence.schema import Record
from ..operations import verify as operations_verify
from ..recovery import state as recovery_state
from ..repository import repositories
from ..repository.components import FILES
from ..repository.manifest import component_of
from ..settings.scenarios import DATABASE, SCENARIOS
from ..stack import files as stack_files
from ..stack import quarantine
from ..stack.compose import ComposeRuntime
from ..stack.runtime import Opened
from . import drill


def portrait(run: Opened) -> dict[str, str]:
    """Return what a drill next to it must leave as it is, name -> what it is now: containers or units with when they
    were started, the stack's volumes, databases, and the project's files."""
    config, stack = run.config, run.runtime
    found: dict[str, str] = {}
    if isinstance(stack, ComposeRuntime):
        for container in stack.containers():
            state = container.state
            now = f"{container.id[:12]} {state.status} since {state.started_at}, restarted {container.restarts} times"
            found[f"container {container.name}"] = now
        # The volumes of other stacks change at any time.
        volumes = {*stack.volumes(), *quarantine.volumes(config.stack)}
        found.update({f"volume {name}": "there" for name in volumes})
        for path in (*stack_files.project_files(config), Path(stack.directory) / ".env"):
            if path.is_file():
                found[f"file {path}"] = project_digest(path)
    else:
        units = (*config.stores, *config.application.services)
        found.update({f"unit {service}": stack.state(service).describe() for service in units})
    databases = database_server.of(run).databases() if config.database.enabled else ()
    return {**found, **{f"database {name}": "there" for name in databases}}


def project_digest(path: Path) -> str:
    with filesystem.explained("read the project's file", path):
        return filesystem.sha256(filesystem.read_file(path))


def untouched(before: Mapping[str, str], after: Mapping[str, str]) -> Check:
    """Return whether production is what it was, thing by thing."""
    changed = (name for name in before if after.get(name) != before[name])
    differences = [f"{name}: {before[name]}, now {after.get(name, 'gone')}" for name in changed]
    differences += [f"{name} is new" for name in after if name not in before]
    kinds = Counter(name.split()[0] for name in before)
    counted = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    return compared("production untouched", differences, f"as before: {counted}")


def rehearse(run: Opened, scenario: str, *, reason: str, operator: str, target: int, log: Log) -> Record:
    """Restore the scenario's newest backup into something of its own, compare it, remove it. Returns the record."""
    component = SCENARIOS[scenario].component
    if not component:
        known = ", ".join(name for name, other in SCENARIOS.items() if other.component)
        raise UsageError(
            "restore next to production", scenario, "nothing of it could be restored without breaking something first",
            f"Beside production one can rehearse {known}. For a whole site:"
            " lifeboat.dr.recover_site -e rehearsal=true; for the rest a drill on a host that may be lost.",
        )  # fmt: skip
    if scenario == DATABASE:
        database_server.refuse_without(run.config, "restore next to production")
    steady = "; ".join(f"{check.name}: {check.detail}" for check in drill.steady(run.config, scenario))
    repo = repositories.repository_of(run)
    ids = [name for name in operations_verify.targets(run.config, repo, "latest")[0] if component_of(name) == component]
    if not ids:
        raise NotFoundError("restore next to production", component, "there is no backup of it", "Take one.")
    number = recovery_state.turn(run.config).number
    before = portrait(run)
    began = clock.start()
    every = 0 if component == FILES else None  # what changed last night is no rehearsal of what would be lost
    result = operations_verify.verify(run, ids[0], "restore", sample=every, log=log, record=False)
    took = began.phase()
    phase = ReportedPhase(took.started_at, took.finished_at, took.monotonic, took.boot, "restore", result.size)
    after: dict[str, str] = {}
    try:
        after = portrait(run)
    except LifeboatError as exc:
        log(f"production cannot be looked at any more: {exc.cause}")
    production = untouched(before, after)
    if production.result == FAIL and recovery_state.disturbed(run.config, number):
        last = recovery_state.turn(run.config)
        why = f"another run ({last.what}, at {last.at}) changed it meanwhile: {production.detail}"
        production = Check(production.name, COULD_NOT_VERIFY, why)
    now = datetime.now(timezone.utc)
    taken = parse_time(result.taken_at) if result.taken_at else now
    backup = PlannedBackup(ids[0], taken, int((now - taken).total_seconds()), result.size)
    told = record.Recovery(
        scenario, Plan("healthy", (), (), (), target, backup), (phase,),
        (*map(by_kind, result.checks), production), reason, operator,
        untested=(record.Gap("the application on the restored data", "it was restored beside production"),),
    )  # fmt: skip
    return record.beside(record.build(run.config, told, now=now), steady)
