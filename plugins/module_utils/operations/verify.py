# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a backup, at one of three levels, each including the ones before it; a recovery point by all its parts.

checksum: every artefact is there, nothing else is, and every byte is the one that was written.
archive:  the real tools read every byte back: pg_restore to nowhere, or gunzip to the dump's last line.
restore:  a throw-away PostgreSQL restores it; the fingerprint must match; amcheck reads every table and index.
What archive and restore are of a bucket, objects_proof.py says; of the configuration, config_proof.py.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from ..base import lock, pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, compared, verdict
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UnverifiedError, UsageError
from ..base.pipeline import Command
from ..base.version import VERSION
from ..configuration import proof as configuration_proof
from ..database import restore as database_restore
from ..database import scratch
from ..database.dump import DUMP, GLOBALS, facts_of
from ..database.server import conninfo
from ..evidence import record as evidence_record
from ..evidence import store
from ..objects import proof as objects_proof
from ..repository import catalog, points, repositories
from ..repository.base import Repository
from ..repository.checksums import checksums
from ..repository.details import DatabaseDetails
from ..repository.manifest import COMPONENTS, Manifest, component_of, parse
from ..settings.config import LEVELS, Config
from ..stack.runtime import exec_command

Log = Callable[[str], None]
SAMPLE = 500  # objects
END_OF_DUMP = b"-- PostgreSQL database dump complete"


@dataclass(frozen=True)
class Result:
    """What one verification found. verdict: PASS, FAIL or COULD_NOT_VERIFY. parts: of each backup, where several.

    taken_at, size: of the backup, where its manifest could be read.
    """

    id: str
    level: str
    checks: tuple[Check, ...]
    started_at: datetime
    finished_at: datetime
    parts: tuple[Result, ...] = ()
    taken_at: str = ""
    size: int = 0

    @property
    def verdict(self) -> str:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "level": self.level,
            "verdict": self.verdict,
            "started_at": format_time(self.started_at),
            "finished_at": format_time(self.finished_at),
            "tool": f"lifeboat {VERSION}",
            "checks": [check.as_dict() for check in self.checks],
            **({"parts": [one.as_dict() for one in self.parts]} if self.parts else {}),
        }


def targets(config: Config, repo: Repository, identity: str) -> tuple[list[str], list[Check]]:
    """The ids of the backups to verify, and what a recovery point is checked for itself.

    identity: of a backup or a recovery point, or `latest`: the newest published one of each component, whatever its
    state: never yesterday's in place of today's.
    """
    if identity in ("", "latest"):
        found = points.backups(repo, config.stack)
        newest = [found[component][-1].id for component in COMPONENTS if found[component]]
        if not newest:
            raise UnverifiedError(
                "verify the newest backup", config.stack, "the repository holds no backup",
                "Take one: lifeboat backup database.",
            )  # fmt: skip
        return newest, []
    if not points.is_id(identity):
        component = component_of(identity)
        if identity not in repo.ids(component):
            repo.manifest(component, identity)  # raises: one that is not there; a typing error is no verdict
        return [identity], []
    data = repo.read_point(identity)
    try:
        point = points.parse(data, expected_id=identity)
    except UsageError as exc:
        return [], [Check("recovery point", COULD_NOT_VERIFY, str(exc))]
    except LifeboatError as exc:
        return [], [Check("recovery point", FAIL, exc.cause)]
    differences = []
    for component, part in point.parts.items():
        one = catalog.entry(repo, component, part.id)
        if one.manifest is None:
            differences.append(f"{part.id}: {one.problem}")
        elif one.manifest.seal != part.seal:
            differences.append(f"{part.id} is another than the one that was sealed")
    sealed = f"sealed {point.seal[:12]}, consistency {point.consistency}"
    known = [part.id for component, part in point.parts.items() if part.id in repo.published(component)]
    return known, [compared("recovery point", differences, sealed)]


def verify(config: Config, identity: str, level: str, *, sample: int = SAMPLE, log: Log, record: bool = True) -> Result:
    """Verify what `identity` names, leave `verification.json` beside each backup, and a record on this host.

    A failed check is no error. sample: of so many objects the restore is tried; 0: of all.
    """
    if level not in LEVELS:
        raise UsageError("verify a backup", identity, f"unknown level {level!r}", f"One of: {', '.join(LEVELS)}.")
    if sample < 0:
        raise UsageError("verify a backup", identity, f"a sample of {sample} objects", "Give a number, or 0 for all.")
    repo = repositories.from_settings(config.repository, config.secrets)
    started = datetime.now(timezone.utc)
    ids, checks = targets(config, repo, identity)
    parts = [_one(config, repo, one, level, sample, log, record) for one in ids]
    if len(parts) == 1 and not checks:
        return _recorded(config, parts[0], log) if record else parts[0]
    found = [replace(check, name=f"{component_of(part.id)}: {check.name}") for part in parts for check in part.checks]
    name = identity if checks else ", ".join(ids)
    result = Result(name, level, (*checks, *found), started, datetime.now(timezone.utc), tuple(parts))
    if checks:
        log(f"{name}: {result.verdict} at level {level}")
    return _recorded(config, result, log) if record else result


def _recorded(config: Config, result: Result, log: Log) -> Result:
    parts = [{**one.as_dict(), "taken_at": one.taken_at, "size": one.size} for one in result.parts or (result,)]
    kept = evidence_record.of_verification(
        config, identity=result.id, level=result.level, results=result.checks, parts=parts,
        started=result.started_at, finished=result.finished_at,
    )  # fmt: skip
    path, _record = store.write(config, kept)
    store.sign(config, path, log)
    return result


def _one(config: Config, repo: Repository, identity: str, level: str, sample: int, log: Log, record: bool) -> Result:
    component = component_of(identity)
    started = datetime.now(timezone.utc)
    log(f"{identity}: verifying at level {level}")
    manifest: Optional[Manifest] = None
    found: list[Check] = []
    try:
        manifest = parse(repo.manifest(component, identity), component=component, expected_id=identity)
        found.extend(_levels(config, repo, manifest, level, sample, log))
    except UsageError as exc:  # a newer schema, or a place we cannot reach: that says nothing about the backup
        found.append(Check("manifest" if manifest is None else "verification", COULD_NOT_VERIFY, str(exc)))
    except UnverifiedError as exc:
        found.append(Check("verification", COULD_NOT_VERIFY, str(exc)))
    except LifeboatError as exc:
        # A vault that does not answer has proved nothing of the objects in it.
        away = component == "objects" and manifest is not None and not isinstance(exc, (IntegrityError, NotFoundError))
        how = COULD_NOT_VERIFY if away else FAIL
        found.append(Check("manifest" if manifest is None else "verification", how, exc.cause))
    taken, size = (format_time(manifest.taken_at), manifest.size) if manifest else ("", 0)
    now = datetime.now(timezone.utc)
    result = Result(identity, level, tuple(found), started, now, taken_at=taken, size=size)
    log(f"{identity}: {result.verdict} at level {level}")
    if record and manifest is not None:
        keep(repo, manifest, result)
    return result


def keep(repo: Repository, manifest: Manifest, result: Result) -> None:
    """Write the result beside what it proves, under its level. What could not be verified leaves an older proof be."""
    levels = catalog.read_proof(repo, manifest.component, manifest)
    if result.verdict == COULD_NOT_VERIFY and levels.get(result.level, {}).get("verdict") in (PASS, FAIL):
        return
    levels[result.level] = result.as_dict()
    body = {
        "schema": "lifeboat.dr/verification",
        "version": [1, 0],
        "id": manifest.id,
        "seal": manifest.seal,
        "levels": levels,
    }
    repo.write_record(
        manifest.component,
        manifest.id,
        catalog.RECORD,
        (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode(),
    )


def _levels(config: Config, repo: Repository, manifest: Manifest, level: str, sample: int, log: Log) -> Iterator[Check]:
    """The checks of each level in turn; a level is not entered when the one before it failed."""
    yield Check("manifest", PASS, f"sealed {manifest.seal[:12]}, schema 1")
    with repo.materialise(manifest.component, manifest.id) as folder:
        check = checksums(repo, manifest, folder)
        yield check
        if check.result != PASS or level == "checksum":
            return
        if manifest.component == "objects":
            with lock.held(f"{config.stack}.verify", "verify"):
                yield from objects_proof.levels(config, repo, manifest, level, sample, log)
            return
        if manifest.component == "config":
            yield from configuration_proof.levels(config, repo, manifest, level, log)
            return
        image = config.database.verify_image or manifest.detailed(DatabaseDetails).image
        if not image:
            raise UnverifiedError(
                "verify a backup",
                manifest.id,
                "no image is known to verify with",
                "Set lifeboat_database.verify_image.",
            )
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock.held(f"{config.stack}.verify", "verify"))
            scratch.sweep(config.stack)
            name = stack.enter_context(scratch.container(image, config.stack, folder, timeout=config.timeout))
            log(f"{manifest.id}: reading the archive back")
            for check in _archive(config, manifest, folder, name):
                yield check
                if check.result != PASS:
                    return
            if level == "restore":
                yield from _restored(config, manifest, folder, name, log)


def _archive(config: Config, manifest: Manifest, folder: Path, name: str) -> Iterator[Check]:
    details = manifest.detailed(DatabaseDetails)
    try:
        facts = facts_of(folder)
        with gzip.open(folder / GLOBALS, "rb") as file:
            roles = sum(one.startswith("CREATE ROLE ") for one in database_restore.statements(file.read().decode()))
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        yield Check("globals and fingerprint", FAIL, str(exc))
        return
    yield compared(
        "globals",
        [] if roles == len(facts["roles"]) else [f"{roles} roles, the fingerprint has {len(facts['roles'])}"],
        f"{roles} roles" + ("" if details.role_passwords else ", without passwords"),
    )
    if details.format == "plain":
        yield _plain_archive(manifest, folder)
        return
    status, _out, err = pipeline.probe(
        exec_command(name, ["pg_restore", "--file=/dev/null", f"/backup/{DUMP}"], user="0"), timeout=config.timeout
    )
    words = err.strip().splitlines()
    if status in (124, 126, 127):
        yield Check("archive", COULD_NOT_VERIFY, words[-1] if words else f"pg_restore ended with {status}")
    else:
        yield compared(
            "archive", [] if status == 0 else [words[-1] if words else f"exit {status}"], "pg_restore reads every byte"
        )


def _plain_archive(manifest: Manifest, folder: Path) -> Check:
    artefact = next(one.name for one in manifest.artefacts if one.name.endswith((".sql", ".sql.gz")))
    path, tail = folder / artefact, b""
    try:
        with gzip.open(path) if artefact.endswith(".gz") else path.open("rb") as file:
            while True:
                data = file.read(pipeline.CHUNK)
                if not data:
                    break
                tail = (tail + data)[-4096:]
    except (OSError, EOFError, zlib.error) as exc:
        return Check("archive", FAIL, f"{artefact}: {exc}")
    ended = END_OF_DUMP in tail
    return compared(
        "archive",
        [] if ended else [f"{artefact} does not end as a dump ends: it was cut"],
        "read to pg_dump's last line",
    )


def _restored(config: Config, manifest: Manifest, folder: Path, name: str, log: Log) -> Iterator[Check]:
    """Restore into the container's own server and hold it against the fingerprint."""
    facts = facts_of(folder)
    details = manifest.detailed(DatabaseDetails)
    have = scratch.image_major(name)
    if have < details.server_version_num // 10000:
        raise UnverifiedError(
            "verify a backup",
            manifest.id,
            f"it is of PostgreSQL {details.server_version_num // 10000}, the image has {have}",
            "Name an image of that major in lifeboat_database.verify_image.",
        )
    database = "lifeboat_verify"
    with scratch.server(name, superuser=details.superuser, preload=details.preload, timeout=config.timeout) as server:
        try:
            database_restore.roles(server, folder, facts, fresh=True)
            database_restore.database(server, manifest, folder, facts, database, jobs=config.database.jobs, log=log)
        except LifeboatError as exc:
            yield Check("restore", FAIL, exc.cause)
            return
        yield Check("restore", PASS, "restored without an error")
        log(f"{manifest.id}: comparing with the fingerprint")
        yield from database_restore.compare(server, database, facts, fresh=True)
        yield _amcheck(
            server.tool(
                "pg_amcheck",
                "--heapallindexed",
                "--install-missing",
                "--no-password",
                f"--jobs={config.database.jobs}",
                conninfo(dbname=database),
            ),
            config.timeout,
        )


def _amcheck(command: Command, timeout: float) -> Check:
    """https://www.postgresql.org/docs/current/app-pgamcheck.html: exit 2 means corruption was found."""
    status, out, err = pipeline.probe(command, timeout=timeout)
    words = (out.strip() or err.strip()).splitlines()
    if status == 0:
        return Check("amcheck", PASS, "every table and B-tree index is sound")
    return Check("amcheck", FAIL if status == 2 else COULD_NOT_VERIFY, words[0] if words else f"exit {status}")
