# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess a database and plan its recovery: read only, decided once, printed before anything is touched."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Literal, Optional

from ..base.checks import PASS
from ..base.clock import format_time
from ..base.errors import LifeboatError, SpaceError, UsageError, present
from ..base.text import assessed, cautions, human
from ..base.typed import plain
from ..recovery.state import DAMAGED, DOWN, HEALTHY, recovered, stopped
from ..repository import catalog, checksums
from ..repository.catalog import Entry
from ..repository.details import DatabaseDetails
from ..repository.manifest import Artefact
from ..repository.sources import LATEST, VAULT, PassedOver, Sources
from ..settings.config import Config
from ..settings.scenarios import DATABASE
from ..stack import runtime
from ..stack.runtime import DataMount, Runtime
from . import scratch
from . import server as database_server
from .fingerprint import FINGERPRINT
from .server import Server

Log = Callable[[str], None]
# A table that lost every one of at least this many rows is damage; a short queue that ran empty is not.
EMPTIED = 100
READ_SECONDS = 120
QUERY_CANCELED = "57014"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


@dataclass(frozen=True)
class Assessment:
    """condition: healthy, damaged (the server answers, the data is wrong) or down (no server). findings: why."""

    condition: str
    findings: tuple[str, ...]
    service: str
    unchecked: tuple[str, ...] = ()
    refused: str = ""  # the server lives and does not let us in: this is what it said


Mode = Literal["none", "swap", "start", "rebuild", "reopen"]
_ASKED: Mapping[str, Mode] = {"swap": "swap", "rebuild": "rebuild"}


@dataclass(frozen=True)
class Plan:
    """What is wrong and what will be done. Roles see it as JSON, with these names.

    mode: none, swap (the server lives: restore beside, swap by name), start (it is down: start it and look; if it does
    not come up, or wrong, rebuild), rebuild (quarantine the data directory, fresh server), reopen (a recovery was
    killed when the data was back and the writers were not). asked: a state was named, so a healthy server will not do;
    state: that name, an identity or a time. backup: as a listing has it. target: the database's name.
    """

    needed: bool
    condition: str
    findings: tuple[str, ...]
    unchecked: tuple[str, ...]
    warnings: tuple[str, ...]
    why: str
    asked: bool
    state: str
    mode: Mode
    backup: Mapping[str, Any]
    location: str
    recovery_point: str
    passed_over: tuple[PassedOver, ...]
    writers: tuple[str, ...]
    stamp: str
    steps: tuple[str, ...]
    target: str
    target_seconds: int


def assess(config: Config, reference: Optional[Mapping[str, Any]]) -> Assessment:
    """Look at the stack's database. `reference`: the fingerprint of the newest good backup, what should be there."""
    stack = runtime.connect(config)
    service = config.database.service
    state = stack.state(service)
    server, why, refused = database_server.reach(config, stack) if state.running else database_server.Reached(None)
    if server is None:
        said = runtime.last_words(stack.logs(service))
        words = [f"{service} is {state.describe()}" + (f" and does not answer: {why}" if why else "")]
        return Assessment(
            DOWN,
            (*words, *([f"it last said: {said}"] if said else [])),
            state.describe(),
            refused=why if refused else "",
        )
    name = server.database
    if name not in server.databases():
        return Assessment(DAMAGED, (f"the database {name} is missing",), state.describe())
    if reference is None:
        return Assessment(HEALTHY, (), state.describe(), ("no good backup to compare the data with",))
    try:
        findings, unchecked = _look_at_data(server, name, reference)
    except LifeboatError as exc:  # its directory is gone, its catalogue is damaged, or the server died of the question
        return Assessment(DAMAGED, (f"the database {name} cannot be read: {exc.cause}",), state.describe())
    return Assessment(DAMAGED if findings else HEALTHY, tuple(findings), state.describe(), tuple(unchecked))


def refusal(config: Config, said: str) -> UsageError:
    """A server that lives and does not let us in may hold all its data: what is wrong is most likely our access."""
    return UsageError(
        "look at the database",
        f"{config.database.service} of {config.stack}",
        said,
        "Correct lifeboat_database (user) or lifeboat_secrets (database_password), then lifeboat.dr.deploy. Only if its"
        " data is lost, and with it the role: -e method=rebuild, which puts what is there aside.",
    )


def _look_at_data(server: Server, database: str, reference: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Read every table that should be there, so that a damaged page is met now; bounded in time."""
    findings: list[str] = []
    unchecked: list[str] = []
    roles = set(server.execute("SELECT to_json(rolname) FROM pg_roles;", database=database, attempted="list the roles"))
    findings += [f"the role {name} is missing" for name in reference["roles"] if name not in roles]
    rows = server.execute(
        "SELECT jsonb_build_object('name', format('%I.%I', n.nspname, c.relname), 'unlogged', c.relpersistence = 'u')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r';",
        database=database,
        attempted="list the tables",
    )
    there = {row["name"]: row["unlogged"] for row in rows}
    findings += [f"the table {name} is missing" for name in reference["tables"] if name not in there]
    deadline = time.monotonic() + READ_SECONDS
    remaining = [name for name in reference["tables"] if name in there]
    while remaining:
        # An error ends the session: note it, open another for the tables that are left.
        name = ""
        try:
            with server.session(database) as session:
                while remaining:
                    name = remaining.pop(0)
                    left = int(1000 * (deadline - time.monotonic()))
                    if left <= 0:
                        unchecked.append(f"{name} was not read: {READ_SECONDS} s were up")
                        continue
                    count = session.rows(
                        f"SET statement_timeout = {left}; SELECT to_json(count(*)) FROM ONLY {name};",
                        attempted=f"read {name}",
                    )[0]
                    expected = int(reference["tables"][name]["rows"])
                    # A crash empties unlogged tables, as it must: restoring would lose rows to bring those back.
                    if count == 0 and expected >= EMPTIED and not there[name]:
                        findings.append(f"the table {name} is empty, the backup has {expected} rows")
        except LifeboatError as exc:
            if not name:  # not even the session opened
                return [*findings, f"the database {database} cannot be read: {exc.cause}"], unchecked
            if exc.sqlstate == QUERY_CANCELED:
                unchecked.append(f"{name} was not read to its end in {READ_SECONDS} s")
            else:
                findings.append(f"the table {name} cannot be read: {exc.cause}")
    return findings, unchecked


def _warnings(found: list[Entry], chosen: Entry) -> list[str]:
    less, fuller = catalog.shrunk(found, chosen.id)
    lines = [f"{less}; to use that one: -e recovery_point={fuller}"] if less else []
    if chosen.manifest and not chosen.manifest.detailed(DatabaseDetails).role_passwords:
        lines.append("the backup has no role passwords: a role that must be made anew has none until you set it")
    return lines


def reference_of(sources: Sources) -> Optional[Mapping[str, Any]]:
    """What should be there: the fingerprint of the newest good backup, or of the fuller one before it.

    Its bytes are checked first: a damaged one would make a healthy database look damaged, or a damaged one healthy.
    """
    for entry in reversed(sources.found):
        if entry.good and entry.manifest and not catalog.shrunk(sources.found, entry.id)[0]:
            with sources.repo(entry).open("database", entry.id, FINGERPRINT) as file:
                data = file.read()
            if Artefact(FINGERPRINT, len(data), hashlib.sha256(data).hexdigest()) in entry.manifest.artefacts:
                return dict(json.loads(data))
    return None


def make(
    config: Config,
    *,
    identity: str = "latest",
    before: Optional[datetime] = None,
    force: bool = False,
    method: str = "auto",
    log: Log,
) -> Plan:
    """The plan of a database recovery. Reads only. Raises LifeboatError when no recovery is possible.

    identity: of a backup or a recovery point, or `latest`.
    """
    sources = Sources(config, "database", identity, before)
    identity = sources.identity
    stack = runtime.connect(config)
    log("assessing the database")
    seen = assess(config, reference_of(sources))
    if seen.refused and method != "rebuild":
        raise refusal(config, seen.refused)
    needed, why = _needed(config, seen, identity, before, force)
    chosen, passed_over = _choose(config, sources, stack, identity, before, needed, log)
    mode: Mode = "none"
    left = stopped(config)
    if not needed and left:
        needed, mode, why = (
            True,
            "reopen",
            f"an earlier recovery stopped {', '.join(left)} and did not start them again",
        )
    elif needed:
        mode = _ASKED.get(method) or ("start" if seen.condition == DOWN else "swap")
        if mode == "swap" and seen.condition == DOWN:
            raise UsageError(
                "plan the recovery", config.stack, "method=swap needs a server that answers", "Leave method at auto."
            )
    writers = list(config.application.writers) or stack.dependants(config.database.service)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d_%H%M%S")
    details = present(chosen.manifest).detailed(DatabaseDetails)
    if mode not in ("none", "reopen"):
        _require_space(config, stack, seen, details.database_size)
    return Plan(
        needed=needed,
        condition=seen.condition,
        findings=seen.findings,
        unchecked=seen.unchecked,
        warnings=(*sources.notes, *_warnings(sources.found, chosen)),
        why=why,
        asked=force or identity not in ("", "latest") or before is not None,
        state=identity if identity not in ("", "latest") else format_time(before) if before else "",
        mode=mode,
        backup=chosen.as_dict(datetime.now(timezone.utc)),
        location=sources.where(chosen),
        recovery_point=sources.point,
        passed_over=tuple(passed_over),
        writers=tuple(writers),
        stamp=stamp,
        steps=tuple(_steps(config, chosen, writers, mode)) if needed else (),
        target=config.database.name or details.database,
        target_seconds=config.target(DATABASE),
    )


def _needed(
    config: Config, seen: Assessment, identity: str, before: Optional[datetime], force: bool
) -> tuple[bool, str]:
    """Idempotent by identity: healthy, and nothing else asked for than what is there already, needs nothing."""
    if seen.condition != HEALTHY:
        return True, f"the database is {seen.condition}"
    if force:
        return True, "force was given"
    asked = identity if identity not in ("", "latest") else format_time(before) if before else ""
    last = recovered(config)
    if not asked:
        return False, "the database is healthy and no recovery point was asked for"
    if last and asked in (last["id"], last.get("asked")):
        return False, f"the database is healthy and was recovered to {last['id']} at {last['at']}"
    return True, f"{asked} was asked for"


def _choose(
    config: Config, sources: Sources, stack: Runtime, identity: str, before: Optional[datetime], needed: bool, log: Log
) -> tuple[Entry, list[PassedOver]]:
    """The backup, its bytes checked before anything is touched. A broken newest one is passed over, and said so."""

    def problem(entry: Entry) -> str:
        if not needed:
            return ""
        less, fuller = catalog.shrunk(sources.found, entry.id)
        if less and identity in LATEST:
            raise UsageError(
                "choose a backup", config.stack, f"{less}: which of them is right is not ours to guess",
                f"Name the one you want: -e recovery_point={fuller} (or {entry.id}).",
            )  # fmt: skip
        log(f"checking the bytes of {entry.id}")
        repo = sources.repo(entry)
        with repo.materialise("database", entry.id) as folder:
            check = checksums.checksums(repo, present(entry.manifest), folder)
            if check.result == PASS:
                _require_major(config, stack, entry, folder)
                return ""
        return check.detail

    return sources.choose(identity, before, problem)


def _require_major(config: Config, stack: Runtime, chosen: Entry, folder: Path) -> None:
    """A dump restores into its own major or a newer one, never into an older."""
    needed = present(chosen.manifest).detailed(DatabaseDetails).server_version_num // 10000
    try:
        have = database_server.connect(config, stack).major()
    except LifeboatError:
        if config.runtime.type != "compose":
            raise
        image = stack.image(config.database.service)
        with scratch.container(image, config.stack, folder, timeout=300) as name:
            have = scratch.image_major(name)
    if have < needed:
        raise UsageError(
            "restore the backup",
            chosen.id,
            f"it is of PostgreSQL {needed}, the server is {have}",
            f"Run PostgreSQL {needed} or newer, or choose an older backup.",
        )


def _require_space(config: Config, stack: Runtime, seen: Assessment, database_size: int) -> None:
    """The old data stays until an operator removes it, so the restored database needs room of its own."""
    try:
        mount = data_mount(config, stack)
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


def data_mount(config: Config, stack: Runtime) -> DataMount:
    """The volume or directory that holds the server's data."""
    return stack.data_mount(config.database.service, stack.data_path(config.database.service))


def _steps(config: Config, chosen: Entry, writers: list[str], mode: str) -> list[str]:
    """What will be done, in the words of the runbook, one line a step."""
    name = config.database.name or "the database"
    taken_at = format_time(present(chosen.manifest).taken_at)
    service = config.database.service
    reopen = [
        "reopen: start the application, wait for its health, ask its endpoints",
        "record: evidence with the time of each phase",
    ]
    if mode == "reopen":
        return reopen
    rebuild = [
        f"quarantine the data directory of {service} (moved aside, nothing is deleted)",
        f"start a fresh, empty {service}",
    ]
    protect = {
        "swap": [],
        "start": [
            f"start {service} and look again; if it comes up whole and nothing else was asked for, nothing is restored",
            *(f"otherwise {word}" for word in rebuild),
        ],
        "rebuild": rebuild,
    }[mode]
    return [
        f"protect: stop the writers ({', '.join(writers) or 'none known'})",
        *(f"protect: {word}" for word in protect),
        f"restore: roles, then {chosen.id} ({taken_at}) into a new database beside",
        f"verify: rows, content, sequences, schema, settings against the backup's fingerprint; only then swap {name}",
        *reopen,
    ]


def text(made: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    backup, shown = made.backup, plain(made)
    summary = backup["details"]["fingerprint"]
    lines = assessed("the database", shown)
    lines.append(
        f"backup: {backup['id']} taken {backup['taken_at']}, {human(backup['size'])}, {summary['tables']} tables,"
        f" {summary['rows']} rows, {'proven ' + backup['proven_at'] if backup['proven'] else 'NOT proven by a restore'}"
    )
    lines += [f"  it is the database of recovery point {made.recovery_point}"] if made.recovery_point else []
    lines += [f"  it is taken from the vault: {made.location}"] if backup["place"] == VAULT else []
    lines += cautions(shown)
    if made.mode in ("swap", "start", "rebuild"):
        lines.append(f"data written after {backup['taken_at']} will be missing from {made.target}; it is kept aside")
    return lines + [f"  {number}. {step}" for number, step in enumerate(made.steps, 1)]
