# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases that the backup does not hold: out of a server that is to be rebuilt, and into the fresh one."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ..base import filesystem, pipeline
from ..base.checks import Check, ended
from ..base.errors import LifeboatError, Log
from ..base.filesystem import create, explained
from ..base.typed import plain
from ..repository.base import MANIFEST
from ..repository.checksums import measure
from ..repository.details import DatabaseDetails, DatabaseDump
from ..repository.manifest import Manifest, parse
from ..settings.config import Config
from ..stack.runtime import Opened
from . import fingerprint, held
from . import server as database_server
from .fingerprint import DUMP, FINGERPRINT, GLOBALS, Fingerprint
from .methods import registry as methods
from .methods.base import Outcome, Restoration
from .server import Server, answers, conninfo, shown

EVERYWHERE = "postgres"  # every new server has it
_RESTORED = "copied"
# From this number on, identifiers are those of objects that somebody made.
# https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT
_FILLED = " OR ".join(
    f"EXISTS (SELECT FROM {catalogue} WHERE oid >= 16384)"
    for catalogue in ("pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_largeobject_metadata", "pg_extension")
)


@dataclass(frozen=True)
class Size:
    """Bytes that a database takes in the server; filled: anybody made something in it."""

    bytes: int
    filled: bool


def size(server: Server, name: str) -> Size:
    """Raises LifeboatError where the database cannot be opened: then it cannot be copied either, and that is said."""
    sql = f"SELECT jsonb_build_object('bytes', pg_database_size(current_database()), 'filled', {_FILLED});"
    return answers(Size, server.execute(sql, database=name, attempted=f"look at the database {shown(name)}"))[0]


def take(run: Opened, names: Sequence[str], stamp: str, log: Log) -> str:
    """Dump these databases of the server, named as shown() prints them, into a private directory; returns where.

    Nothing was changed yet: what fails leaves the server as it is.
    """
    config, server = run.config, database_server.of(run)
    wanted = [database.name for database in server.living() if shown(database.name) in names]
    folder = config.state / f"others_{stamp}"
    with explained("copy the databases that the backup does not hold", folder):
        folder.mkdir(mode=0o700, parents=True)
        filesystem.require_room(folder, sum(size(server, name).bytes for name in wanted) // 3)
        try:
            _fill(config, server, wanted, folder, log)
        except BaseException:
            filesystem.remove(folder)
            raise
    return str(folder)


def _fill(config: Config, server: Server, names: Sequence[str], folder: Path, log: Log) -> None:
    with create(folder / GLOBALS) as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        words = ["--globals-only", f"--database={conninfo(dbname=server.database)}"]
        pipeline.run(
            [server.tool("pg_dumpall", *words)], attempted="dump roles and other globals", subject=server.database,
            sink=packed, timeout=300,
        )  # fmt: skip
    dumps, facts = [], []
    for number, name in enumerate(names):
        log(f"copying {shown(name)}, which the backup does not hold")
        inside = f"databases/{number:03d}" if number else ""
        (folder / inside).mkdir(mode=0o700, parents=True, exist_ok=True)
        found = _dump(config, server, name, folder / inside)
        facts.append(found)
        taken_at = datetime.now(timezone.utc).isoformat()
        dumps.append(DatabaseDump(name, inside, taken_at, size(server, name).bytes, fingerprint=found.summary))
    now, first = datetime.now(timezone.utc), facts[0].facts
    details = DatabaseDetails(
        dumps[0].name, "custom", first.server_version_num, first.superuser, first.preload or "", first.is_superuser,
        dumps[0].size, fingerprint=dumps[0].fingerprint, others=tuple(dumps[1:]),
    )  # fmt: skip
    identity = f"db_backup_{folder.name.removeprefix('others_')}"
    artefacts = tuple(measure(folder / name, name) for name in sorted(filesystem.relative_files(folder)))
    made = Manifest(identity, "database", config.stack, now, now, artefacts, details=plain(details))
    with create(folder / MANIFEST) as raw:
        raw.write(made.to_bytes())


def _dump(config: Config, server: Server, name: str, folder: Path) -> Fingerprint:
    with server.session(name) as session:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT to_json(pg_export_snapshot());"
        (snapshot,) = answers(str, session.rows(begin, attempted="export a snapshot"))
        found = fingerprint.take(session, config.database.fingerprint)
        words = ["--format=custom", f"--snapshot={snapshot}", f"--encoding={found.facts.encoding}", "--no-password"]
        with create(folder / DUMP) as raw:
            pipeline.run(
                [server.tool("pg_dump", *words, database=name)], attempted="dump the database", subject=shown(name),
                sink=raw, timeout=config.timeout,
            )  # fmt: skip
    with server.session(name) as session:
        found = replace(found, sequences=replace(found.sequences, after=fingerprint.sequences(session)))
    with create(folder / FINGERPRINT) as raw:
        raw.write(found.to_bytes())
    return found


def bring_back(
    config: Config, server: Server, folder: Path, stamp: str, log: Log
) -> tuple[tuple[Check, ...], list[Outcome]]:
    """Restore what take() copied and compare it. What does not come back whole stays in the directory, and in the data
    directory that was put aside; it stops nothing else."""
    identity = f"db_backup_{folder.name.removeprefix('others_')}"
    with explained("read what was copied", folder):
        manifest = parse((folder / MANIFEST).read_bytes(), component="database", expected_id=identity)
    checks: list[Check] = []
    outcomes = []
    for item in held.of(manifest):
        one = replace(item, application=False)
        wanted = Restoration(config, server, manifest, folder, False, stamp, lambda: None, log, (one,), one)
        try:
            done = methods.of(manifest).restore(wanted)
            checks += [check for check in done.checks if check.name.endswith(f" of {item.shown}")]
            outcomes.append(Outcome(item.shown, _RESTORED, "out of the server that was put aside"))
        except LifeboatError as exc:
            log(f"{item.shown} was not brought back: {exc.cause}")
            checks.append(ended(f"restore of {item.shown}", exc))
            outcomes.append(Outcome(item.shown, "failed", f"{exc.cause}; its copy is in {folder}"))
    if all(outcome.action == _RESTORED for outcome in outcomes):
        filesystem.remove(folder)
    return tuple(checks), outcomes
