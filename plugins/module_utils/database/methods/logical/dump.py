# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of a database: the dump, the globals and the fingerprint, all of one snapshot."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import socket
import tarfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Optional

from ....base import pipeline
from ....base.errors import LifeboatError, LockedError, Log, SpaceError
from ....base.filesystem import create
from ....base.text import human
from ....base.typed import plain
from ....base.version import VERSION
from ....recovery.state import RECOVERING
from ....repository import base as repository_base
from ....repository import catalog, repositories
from ....repository.checksums import measure
from ....repository.details import DatabaseDetails
from ....repository.manifest import Artefact, Manifest
from ....settings.config import Config
from ....stack.runtime import Opened
from ... import fingerprint
from ... import server as database_server
from ...fingerprint import DUMP, FINGERPRINT, GLOBALS, Fingerprint, Position
from ...logins import CLOSED
from ...server import Server, Session, answers, conninfo, shown

_BRING = "bring the dump out of the container"


def take(run: Opened, *, log: Log, override: bool = False) -> Manifest:
    """Take one backup of the stack's database and publish it. The caller holds the stack's lock.

    override: what it holds is right, even if it is far less than before.

    Raises LifeboatError; whatever fails, nothing is published and earlier backups stay as they were.
    """
    config, stack = run.config, run.runtime
    if (config.state / RECOVERING).exists():
        raise LockedError(
            "start a backup",
            config.stack,
            f"a recovery has begun and not ended ({config.state / RECOVERING})",
            "Finish it (lifeboat.dr.recover_database). If the database is right as it is, remove that file.",
        )
    if (config.state / CLOSED).exists():
        raise LockedError(
            "start a backup",
            config.stack,
            f"a recovery has closed the database to logins and not ended ({config.state / CLOSED})",
            "Finish it (lifeboat.dr.recover_database): that opens the database again.",
        )
    repo = repositories.of(run)
    repo.check(writable=True)
    repo.sweep(older_than=repository_base.STALE, now=datetime.now(timezone.utc))
    server = database_server.for_backups(run)
    database = server.database
    started = time.monotonic()
    # The pool runs what costs a process in the container and does not depend on what runs beside it.
    with ThreadPoolExecutor(4) as pool, contextlib.ExitStack() as opened:
        swept = pool.submit(server.sweep)
        image = pool.submit(stack.image, config.database.service)
        try:
            session = opened.enter_context(server.session(database))
        except LifeboatError:
            database_server.require_database(server, database)
            raise
        server.reap(session)
        (head,) = answers(_Head, session.rows(_HEAD, attempted="export a snapshot"))
        _require_space(config, repo, head.size)
        taken_at = head.taken_at
        identity = catalog.free_id(repo, "database", taken_at)
        log(f"{identity}: dumping {database} ({human(head.size)}) as {config.database.format}")
        swept.result()
        with repo.stage("database", identity) as staging, _named_errors(config):
            artefacts, found = _fill(pool, config, server, session, head, identity, staging.path, log)
            facts = found.facts
            details = DatabaseDetails(
                database=database,
                format=config.database.format,
                compression=compression(config, facts.server_version_num),
                host=socket.gethostname(),
                image=image.result(),
                server_version_num=facts.server_version_num,
                superuser=facts.superuser,
                preload=facts.preload or "",
                role_passwords=facts.is_superuser,
                database_size=head.size,
                fingerprint=found.summary,
                seconds=round(time.monotonic() - started, 2),
                method="logical",
                relations=head.relations,
                accepted=override,
            )
            manifest = Manifest(
                id=identity,
                component="database",
                stack=config.stack,
                taken_at=taken_at,
                finished_at=datetime.now(timezone.utc),
                artefacts=tuple(artefacts),
                tool={"lifeboat": VERSION, "pg_dump": facts.server_version},
                details=plain(details),
            )
            staging.publish(manifest.to_bytes())
    log(f"{identity}: published, {human(manifest.size)} in {details.seconds} s")
    return manifest


# The snapshot is taken before the row is made, and the clock is read first, as exporting takes its time: what was
# acknowledged before `taken_at` is in the dump. https://www.postgresql.org/docs/current/transaction-iso.html
@dataclass(frozen=True)
class _Database:
    name: str
    encoding: str


@dataclass(frozen=True)
class _Head:
    taken_at: datetime
    snapshot: str
    size: int
    version: int
    is_superuser: bool
    relations: int
    encoding: str
    template_encoding: str
    role_names: str
    single_byte: tuple[_Database, ...]

    @property
    def globals_from(self) -> _Database:
        """The database in which pg_dumpall can name every role.

        Roles and their comments are the bytes that some session sent, and a multibyte encoding refuses what it is not.
        """
        template = _Database("template1", self.template_encoding)
        fits = self.role_names.isascii() or (template.encoding == "UTF8" and shown(self.role_names) == self.role_names)
        return template if fits or not self.single_byte else self.single_byte[0]


_HEAD = """BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT jsonb_build_object('taken_at', clock_timestamp(), 'snapshot', pg_export_snapshot(),
  'size', pg_database_size(current_database()), 'version', current_setting('server_version_num')::int,
  'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'relations', (SELECT count(*) FROM pg_class WHERE oid >= 16384),
  'encoding', pg_encoding_to_char(encoding), 'template_encoding', (SELECT pg_encoding_to_char(encoding)
     FROM pg_database WHERE datname = 'template1'),
  'role_names', (SELECT string_agg(concat(rolname, rolconfig::text, shobj_description(oid, 'pg_authid')), ' ')
     FROM pg_roles),
  'single_byte', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', datname, 'encoding',
     pg_encoding_to_char(encoding)) ORDER BY datname <> current_database(), datname), '[]')
     FROM pg_database WHERE datallowconn AND pg_encoding_max_length(encoding) = 1))
FROM pg_database WHERE datname = current_database();"""


def _fill(
    pool: ThreadPoolExecutor,
    config: Config,
    server: Server,
    session: Session,
    head: _Head,
    identity: str,
    folder: Path,
    log: Log,
) -> tuple[list[Artefact], Fingerprint]:
    """Write every artefact into `folder`. The fingerprint is read while pg_dump reads, from the same snapshot."""
    reading = pool.submit(fingerprint.take, session, config.database.fingerprint)
    naming = pool.submit(_globals, server, head, folder)
    try:
        artefacts, later = _dump(pool, config, server, head, identity, folder)
    except BaseException as exc:
        # The snapshot is gone when the session that exported it ends, and pg_dump only says that: the reason is there.
        first = reading.exception() if reading.done() else None
        with contextlib.suppress(LifeboatError):
            server.reap()  # pg_dump outlives a killed `docker exec`; its sessions must not
        wait((naming,), timeout=60)  # nobody writes into a directory that is being removed
        wait((reading,), timeout=60)
        if isinstance(exc, LifeboatError) and isinstance(first, LifeboatError):
            raise first from exc
        raise
    found = reading.result()
    log(f"{identity}: fingerprint of {len(found.tables)} tables taken")
    found = replace(found, sequences=replace(found.sequences, after=later.result()))
    artefacts.append(naming.result())
    with create(folder / FINGERPRINT) as raw:
        raw.write(found.to_bytes())
    artefacts.append(measure(folder / FINGERPRINT, FINGERPRINT))
    return artefacts, found


def _globals(server: Server, head: _Head, folder: Path) -> Artefact:
    with create(folder / GLOBALS) as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        source = head.globals_from
        # Not --dbname: of that pg_dumpall ignores the name. Both take a connection string.
        words = ["--globals-only", f"--database={conninfo(dbname=source.name)}", f"--encoding={source.encoding}"]
        words += [] if head.is_superuser else ["--no-role-passwords"]
        pipeline.run(
            [server.tool("pg_dumpall", *words)],
            attempted="dump roles and other globals",
            subject=server.database,
            sink=packed,
            timeout=300,
        )
    return measure(folder / GLOBALS, GLOBALS)


def _sequences(server: Server) -> Mapping[str, Position]:
    with server.session(server.database) as session:
        return fingerprint.sequences(session)


def compression(config: Config, server_version_num: int) -> str:
    """What pg_dump is told. Before 16 it knows gzip only; a plain dump is gzip so that gunzip and psql suffice."""
    wanted = config.database.compression
    if wanted != "none" and (config.database.format == "plain" or server_version_num < 160000):
        return wanted if wanted.startswith("gzip") else "gzip:6"
    return wanted


def _dump(
    pool: ThreadPoolExecutor, config: Config, server: Server, head: _Head, identity: str, folder: Path
) -> tuple[list[Artefact], Future[Mapping[str, Position]]]:
    """The dump's artefacts, and where the sequences stood once pg_dump had read them."""
    method = compression(config, head.version)
    level = method.partition(":")[2] or "6"
    packing = f"--compress={method if head.version >= 160000 else 0 if method == 'none' else level}"
    # The database's own encoding: a conversion would fail on, or change, what its encoding lets in.
    words = [
        f"--snapshot={head.snapshot}",
        f"--encoding={head.encoding}",
        packing,
        "--lock-wait-timeout=60s",
        "--no-password",
        "--no-sync",
    ]

    def run(form: str, *more: str, sink: Optional[pipeline.Sink] = None) -> Future[Mapping[str, Position]]:
        pipeline.run(
            [server.tool("pg_dump", f"--format={form}", *words, *more, database=server.database)],
            attempted="dump the database",
            subject=server.database,
            sink=sink,
            timeout=config.timeout,
            remedy="Earlier backups are untouched. `lifeboat.dr.status` shows them.",
        )
        return pool.submit(_sequences, server)

    if config.database.format != "directory":
        plain = config.database.format == "plain"
        name = f"{identity}.sql" + ("" if method == "none" else ".gz") if plain else DUMP
        if plain:  # the others are restored without: tablespaces are directories of this host
            words.append("--no-tablespaces")
        with create(folder / name) as raw:
            writer = pipeline.HashingWriter(raw)
            later = run(config.database.format, sink=writer)
        return [Artefact(name, writer.size, writer.sha256)], later
    inside = server.scratch_path()
    try:
        later = run("directory", f"--jobs={config.database.jobs}", f"--file={inside}")
        return _receive(server, inside, folder / DUMP, config.timeout), later
    finally:
        pool.submit(server.remove, inside)


def _receive(server: Server, inside: str, folder: Path, timeout: float) -> list[Artefact]:
    """Bring a directory from where the tools run into `folder`, hashing on the way. Plain files only."""
    folder.mkdir(mode=0o700)
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end, "rb") as reader:
        unpacking = pool.submit(_unpack, reader, folder)
        try:
            with os.fdopen(write_end, "wb") as writer:
                pipeline.run(
                    [server.run_command(["tar", "-C", inside, "-cf", "-", "."])],
                    attempted=_BRING,
                    subject=inside,
                    sink=writer,
                    timeout=timeout,
                )
        except BrokenPipeError:
            unpacking.result()  # says why it stopped reading
            raise
        return unpacking.result()


def _unpack(stream: IO[bytes], folder: Path) -> list[Artefact]:
    try:
        return _unpack_plain(stream, folder)
    except tarfile.TarError as exc:
        raise LifeboatError(_BRING, folder.name, f"what came is no whole tar archive: {exc}") from exc


def _unpack_plain(stream: IO[bytes], folder: Path) -> list[Artefact]:
    artefacts = []
    # Closing the stream, also on failure, is what lets the writer at its other end stop.
    with stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir():
                continue
            name = os.path.basename(member.name)
            source = archive.extractfile(member) if member.isreg() else None
            if source is None:
                raise LifeboatError(_BRING, member.name, "it is not a plain file")
            with create(folder / name) as raw:
                writer = pipeline.HashingWriter(raw)
                shutil.copyfileobj(source, writer, pipeline.CHUNK)
            artefacts.append(Artefact(f"{folder.name}/{name}", writer.size, writer.sha256))
        while stream.read(pipeline.CHUNK):  # tar pads its end; a writer cut short would call that a failure
            pass
    return sorted(artefacts, key=lambda artefact: artefact.name)


def _require_space(config: Config, repo: repository_base.Repository, database_size: int) -> None:
    """Refuse early rather than fill the disk: the last backup's size and half of it again, else a third of the data."""
    free = repo.free_bytes()
    if free is None:
        return
    last = next(
        (entry.manifest for entry in reversed(catalog.entries(repo, "database", config.stack)) if entry.manifest), None
    )
    needed = int(last.size * 1.5) if last else database_size // 3
    if free < needed:
        raise SpaceError(
            "start a backup",
            str(config.repository.get("path", "")),
            f"{human(free)} free, about {human(needed)} needed",
            "Free space there, or run lifeboat.dr.prune.",
        )


@contextlib.contextmanager
def _named_errors(config: Config) -> Iterator[None]:
    """An OSError while writing artefacts is the repository's: full, read-only or gone."""
    try:
        yield
    except OSError as exc:
        raise SpaceError(
            "write the backup",
            str(config.repository.get("path") or "staging directory"),
            exc.strerror or str(exc),
            "The unfinished backup was removed; earlier ones are untouched. Free space, then run it again.",
        ) from exc
