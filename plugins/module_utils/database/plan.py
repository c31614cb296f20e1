# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan the recovery of a database: read only, decided once, printed before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Optional

from ..base import typed
from ..base.checks import PASS
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, SpaceError, UsageError, present
from ..base.text import PassedOver, assessed, cautions, human
from ..recovery import state as recovery_state
from ..recovery.state import DOWN, recovered, stopped
from ..repository import catalog, checksums
from ..repository.catalog import Entry
from ..repository.details import DatabaseDetails
from ..repository.sources import LATEST, VAULT, Sources
from ..settings.config import Config
from ..settings.scenarios import DATABASE
from ..stack.runtime import Opened, Runtime, database_mount
from . import assess, clients, logins, scratch
from . import server as database_server
from .methods import registry as methods
from .planned import Mode, Plan

_ASKED: Mapping[str, Mode] = {"swap": "swap", "rebuild": "rebuild"}


def _warnings(found: list[Entry], chosen: Entry) -> list[str]:
    less, fuller = catalog.shrunk(found, chosen.id)
    lines = [f"{less}; to use that one: -e recovery_point={fuller}"] if less else []
    if chosen.incomplete:
        lines.append(f"{chosen.id} is not good: {chosen.problem}")
    if chosen.manifest and not chosen.manifest.detailed(DatabaseDetails).role_passwords:
        lines.append("the backup has no role passwords: a role that must be made anew has none until you set it")
    return lines


def make(
    run: Opened,
    *,
    identity: str = "latest",
    before: Optional[datetime] = None,
    force: bool = False,
    method: str = "auto",
    accept: bool = False,
    log: Log,
) -> Plan:
    """The plan of a database recovery. Reads only. Raises LifeboatError when no recovery is possible.

    identity: of a backup or a recovery point, or `latest`. accept: the one that is named, although it failed.
    """
    config, stack = run.config, run.runtime
    sources = Sources(run, "database", identity, before, accept=accept)
    identity = sources.identity
    log("assessing the database")
    seen = assess.assess(run, assess.reference_of(sources))
    if seen.refused and method != "rebuild":
        raise assess.refusal(config, seen.refused)
    state = _named(identity, before)
    needed, why = _needed(config, seen, identity, before, force)
    chosen, passed_over = _choose(run, sources, identity, before, needed, log)
    mode: Mode = "none"
    left, shut = stopped(config), (config.state / logins.CLOSED).exists()
    if not needed and (left or shut):
        needed, mode = True, "reopen"
        why = f"an earlier recovery stopped {', '.join(left)} and did not start them again" if left else (
            "an earlier recovery closed the database to logins and did not come to its end"
        )  # fmt: skip
    elif needed:
        mode = _ASKED.get(method) or ("start" if seen.condition == DOWN else "swap")
        if mode == "swap" and seen.condition == DOWN:
            raise UsageError(
                "plan the recovery", config.stack, "method=swap needs a server that answers", "Leave method at auto."
            )
    writers = list(config.application.writers) or stack.dependants(config.database.service)
    now = datetime.now(timezone.utc)
    details = present(chosen.manifest).detailed(DatabaseDetails)
    target = config.database.name or details.database
    one_offs: list[str] = []
    remaining: list[str] = []
    if mode not in ("none", "reopen"):
        _require_space(config, stack, seen, details.database_size)
        one_offs = stack.one_offs(config.database.service, *writers)
        remaining = _clients(run, writers, one_offs, target) if seen.condition != DOWN else []
    return Plan(
        needed=needed,
        condition=seen.condition,
        findings=seen.findings,
        unchecked=seen.unchecked,
        warnings=(*sources.notes, *_warnings(sources.found, chosen), *remaining),
        why=why,
        asked=force or bool(state),
        state=state,
        mode=mode,
        backup=chosen.as_dict(now),
        location=sources.where(chosen),
        recovery_point=sources.point,
        passed_over=tuple(passed_over),
        accepted=sources.accepted,
        writers=tuple(writers),
        stamp=now.strftime("%Y%m%d_%H%M%S"),
        steps=tuple(_steps(config, chosen, [*writers, *map(_one_off, one_offs)], mode, before)) if needed else (),
        target=target,
        target_seconds=config.target(DATABASE),
        one_offs=tuple(one_offs),
    )


def _named(identity: str, before: Optional[datetime]) -> str:
    return identity if identity not in LATEST else format_time(before) if before else ""


def _needed(
    config: Config, seen: assess.Assessment, identity: str, before: Optional[datetime], force: bool
) -> tuple[bool, str]:
    return recovery_state.needed("database", seen.condition, _named(identity, before), force, recovered(config))


def _choose(
    run: Opened, sources: Sources, identity: str, before: Optional[datetime], needed: bool, log: Log
) -> tuple[Entry, list[PassedOver]]:
    """The backup, its bytes checked before anything is touched. A broken newest one is passed over, and said so."""

    def problem(entry: Entry) -> str:
        if not needed:
            return ""
        less, fuller = catalog.shrunk(sources.found, entry.id)
        if less and identity in LATEST:
            raise UsageError(
                "choose a backup", run.config.stack, f"{less}: which of them is right is not ours to guess",
                f"Name the one you want: -e recovery_point={fuller} (or {entry.id}).",
            )  # fmt: skip
        log(f"checking the bytes of {entry.id}")
        repo = sources.repo(entry)
        with repo.materialise("database", entry.id) as folder:
            check = checksums.checksums(repo, present(entry.manifest), folder)
            if check.result == PASS or sources.accept:
                _require_major(run, entry, folder)
        return "" if check.result == PASS else check.detail

    return sources.choose(identity, before, problem, bearable=True)


def _require_major(run: Opened, chosen: Entry, folder: Path) -> None:
    """A dump restores into its own major or a newer one, never into an older."""
    needed = present(chosen.manifest).detailed(DatabaseDetails).server_version_num // 10000
    try:
        have = database_server.of(run).major()
    except LifeboatError:
        if run.config.runtime.type != "compose":
            raise
        image = run.runtime.image(run.config.database.service)
        with scratch.container(image, run.config.stack, folder, timeout=300) as name:
            have = scratch.image_major(name)
    if have < needed:
        raise UsageError(
            "restore the backup",
            chosen.id,
            f"it is of PostgreSQL {needed}, the server is {have}",
            f"Run PostgreSQL {needed} or newer, or choose an older backup.",
        )


def _require_space(config: Config, stack: Runtime, seen: assess.Assessment, database_size: int) -> None:
    """The old data stays until an operator removes it, so the restored database needs room of its own."""
    try:
        mount = database_mount(config, stack)
        free = os.statvfs(mount.path).f_bavail * os.statvfs(mount.path).f_frsize
    except (LifeboatError, OSError):
        return  # a volume that is gone: the fresh one is the engine's matter
    if free < database_size * 1.1:
        raise SpaceError(
            "plan the recovery",
            str(mount.path),
            f"{human(free)} free, about {human(database_size * 1.1)} needed",
            "Free space there: nothing was changed yet.",
        )


def _clients(run: Opened, writers: list[str], one_offs: list[str], target: str) -> list[str]:
    """Who else is connected, and will be when the writers are stopped."""
    try:
        found = clients.connected(database_server.of(run), [target])
        return clients.lasting(found, run.runtime.addresses(writers, one_offs)) if found else []
    except LifeboatError as exc:
        return [f"who else is connected to {target} is not known: {exc.cause}"]


def _one_off(name: str) -> str:
    return f"{name} of `docker compose run`, which is not started again"


def _steps(config: Config, chosen: Entry, writers: list[str], mode: str, before: Optional[datetime]) -> list[str]:
    manifest = present(chosen.manifest)
    then = methods.of(manifest).steps(manifest, before, config.database.name or "the database")
    shut = "close the database to logins until it is replaced, end the sessions that are left"
    fresh = ", whose database takes no logins until it is filled"
    return recovery_state.steps(mode, config.database.service, writers, then, living=[shut], fresh=fresh)


@dataclass(frozen=True)
class _Listed:
    """What the text tells of the backup."""

    id: str
    taken_at: str
    size: int
    place: str
    details: DatabaseDetails
    proven_at: Optional[str] = None


def text(made: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    backup = typed.build(_Listed, made.backup, partial(UsageError, "show the plan"), "backup", unknown="ignore")
    summary, proof = backup.details.fingerprint, backup.proven_at
    lines = assessed("the database", made)
    lines.append(
        f"backup: {backup.id} taken {backup.taken_at}, {human(backup.size)}, {summary.tables} tables,"
        f" {summary.rows} rows, {f'proven {proof}' if proof else 'NOT proven by a restore'}"
    )
    lines += [f"  it is the database of recovery point {made.recovery_point}"] if made.recovery_point else []
    lines += [f"  it is taken from the vault: {made.location}"] if backup.place == VAULT else []
    lines += cautions(made.warnings, made.passed_over, made.accepted)
    if made.mode in ("swap", "start", "rebuild"):
        lines.append(f"data written after {backup.taken_at} will be missing from {made.target}; it is kept aside")
    return lines + [f"  {number}. {step}" for number, step in enumerate(made.steps, 1)]
