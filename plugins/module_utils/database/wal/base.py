# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a base: a copy of the server's files with the WAL that makes it whole, from which spans lead to any instant.

By PostgreSQL's own pg_basebackup to standard output, through zstd and age, so that no plain byte lies anywhere and
memory stays flat. `-X fetch`: it holds what it needs to stand by itself; a temporary slot holds that WAL back until
then.
The plain format on purpose: a server that compresses cannot write a manifest to standard output.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, Optional

from ...base import lock, pipeline
from ...base.errors import IntegrityError, LifeboatError, Log, SpaceError, UsageError
from ...base.filesystem import STALE, create
from ...base.pipeline import Command, HashingWriter
from ...base.text import human, named
from ...base.typed import plain
from ...base.version import VERSION
from ...recovery.state import RECOVERING, refuse_while_unfinished
from ...repository import catalog, repositories
from ...repository import manifest as manifests
from ...repository.base import Repository
from ...repository.components import BASE
from ...repository.details import BaseDetails, Gap
from ...repository.manifest import Artefact, Manifest
from ...stack.runtime import Opened
from ...tools import age
from ...wal.segments import format_lsn, parse_lsn
from .. import server as database_server
from ..server import Server, answers
from . import preflight, receiver, relations
from .receiver import Way
from .send import Ledger

TAKE = "take a base"
_SLOT = "lifeboat_base"
_COMPRESS = ("zstd", "-1", "-q", "-c")
# A libzstd that was built without threads refuses the first one, before the server is asked for anything.
_THREADS, _ZSTD = "client-zstd:level=1,workers=2", "client-zstd:level=1"
_NOTHING = 1 << 16  # bytes: what encrypts writes a header first
# What pg_basebackup says with --verbose, in English: its tools run with LC_ALL=C.
_POINTS = re.compile(r"write-ahead log (start|end) point: ([0-9A-F]{1,8}/[0-9A-F]{1,8})(?: on timeline (\d{1,10}))?")


@dataclass(frozen=True)
class _About:
    """What a server must be like that takes the base. zstd: whether its programs compress by themselves."""

    size: int
    tablespaces: tuple[str, ...]
    superuser: str
    preload: str
    checksums: bool
    zstd: bool = False
    collations: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)


_ABOUT = """SELECT jsonb_build_object(
  'size', (SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace),
  'tablespaces', (SELECT coalesce(jsonb_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace
     WHERE spcname NOT IN ('pg_default', 'pg_global')),
  'superuser', (SELECT rolname FROM pg_roles WHERE oid = 10), 'preload', current_setting('shared_preload_libraries'),
  'checksums', current_setting('data_checksums') = 'on',
  'zstd', (SELECT coalesce('zstd' = ANY(enumvals), false) FROM pg_settings WHERE name = 'wal_compression'),
  'collations', (SELECT coalesce(jsonb_object_agg(datname, version), '{}') FROM (SELECT datname,
     to_jsonb(d) ->> 'datcollversion' AS version FROM pg_database d) v WHERE version IS NOT NULL),
  'settings', (SELECT jsonb_object_agg(name, setting::bigint) FROM pg_settings WHERE name IN ('max_connections',
     'max_wal_senders', 'max_worker_processes', 'max_prepared_transactions', 'max_locks_per_transaction')));"""


def take(run: Opened, log: Log) -> Manifest:
    """Take one base of the server whose WAL is received, and publish it. Raises LifeboatError; whatever fails, nothing
    is published, and the server is as it was."""
    config = run.config
    if receiver.enabled(config) is None:
        remedy = "Run: lifeboat wal enable."
        raise UsageError(TAKE, config.stack, "no WAL is received: nothing would lead on from a base", remedy)
    refuse_while_unfinished(config, TAKE, (RECOVERING,))
    with lock.held(f"{config.stack}.base", TAKE):
        return _take(run, log)


def _take(run: Opened, log: Log) -> Manifest:
    config, started = run.config, time.monotonic()
    seal = age.sealing(config, log)
    repo = repositories.repository_of(run)
    repo.check(writable=True)
    repo.sweep(older_than=STALE, now=datetime.now(timezone.utc))
    server = database_server.of(run)
    facts = preflight.read(server)
    (about,) = answers(_About, server.execute(_ABOUT, attempted=TAKE, timeout=60))
    if about.tablespaces:
        names = ", ".join(map(named, about.tablespaces))
        raise UsageError(
            TAKE, config.stack, f"the server has tablespaces ({names}), and pg_basebackup streams none but its own",
            "Move their tables to pg_default, or go on with the dumps alone.",
        )  # fmt: skip
    free = repo.free_bytes()
    if free is not None and free < about.size:
        remedy = "Make room, or prune: lifeboat prune."
        cause = f"{human(free)} are free there, and the server has {human(about.size)}"
        raise SpaceError(TAKE, repo.address, cause, remedy)
    route = receiver.way(run, server, facts)
    taken_at = datetime.now(timezone.utc)
    identity = catalog.free_id(repo, BASE, taken_at)
    log(f"{identity}: copying the server's files ({human(about.size)})")
    with repo.stage(BASE, identity) as staging, server.session("template1") as session:
        # It is gone with the session, whatever ends that.
        slot = f"SELECT to_json(pg_create_physical_replication_slot('{_SLOT}', true, true)::text);"
        session.rows(slot, attempted="hold the WAL of the base back")
        name = seal.named("base.tar.zst")
        with create(staging.path / name) as file:
            copy = partial(_copy, partial(_chain, run, server, route, seal), config.timeout, identity, file)
            try:
                stderr, writer = copy(_THREADS if about.zstd else "")
            except LifeboatError as exc:
                if not about.zstd or file.tell() > _NOTHING:
                    raise
                log(f"once more, by one thread: {exc.cause}")
                file.seek(0)
                file.truncate()
                stderr, writer = copy(_ZSTD)
        listed = _list_relations(server, seal, staging.path, identity)
        start, stop, timeline = points(stderr, identity)
        details = BaseDetails(
            system_identifier=facts.system,
            server_version_num=facts.version,
            timeline=timeline,
            start=start,
            stop=stop,
            image=route.image,
            architecture=_architecture(server),
            collversion=about.collations,
            data_checksums=about.checksums,
            segment_size=facts.segment,
            superuser=about.superuser,
            preload=tuple(filter(None, (text.strip() for text in about.preload.split(",")))),
            settings=about.settings,
            bytes=about.size,
            seconds=round(time.monotonic() - started, 2),
            host=socket.gethostname(),
            recipients=seal.recipients,
            host_key=seal.host,
        )
        manifest = Manifest(
            identity, BASE, config.stack, taken_at, datetime.now(timezone.utc),
            (Artefact(name, writer.size, writer.sha256), *listed), {"lifeboat": VERSION}, plain(details),
        )  # fmt: skip
        manifest = repositories.publish(run, manifest, staging.publish)
    log(f"{identity}: published, {human(writer.size)} in {details.seconds} s; WAL from {start} to {stop} is inside")
    return manifest


def due(repo: Repository, state: Ledger) -> str:
    """Why a base is needed at once: none leads on to the WAL that is received now. Empty where one does."""
    newest = _newest(repo)
    if newest is None:
        return "there is no base yet"
    if newest.system_identifier != state.system:
        return f"the server is another one than that of the newest base: {state.system}"
    if newest.timeline < state.timeline:
        return f"the server is on timeline {state.timeline} since the newest base was taken"
    behind = [gap for gap in state.gaps if not _closed(gap, newest)]
    return f"a gap from {behind[-1].start} to {behind[-1].end}: {behind[-1].why}" if behind else ""


def open_gaps(repo: Repository, state: Ledger) -> list[Gap]:
    """Those behind which no base was taken."""
    newest = _newest(repo)
    if newest is None or newest.system_identifier != state.system:
        return list(state.gaps)
    return [gap for gap in state.gaps if not _closed(gap, newest)]


def _closed(gap: Gap, newest: BaseDetails) -> bool:
    """Whether the newest base lies behind the gap. The WAL inside it closes a hole that ends before its last
    segment."""
    if gap.system != newest.system_identifier:
        return True  # of a server before
    stop = parse_lsn(newest.stop)
    return bool(gap.end) and parse_lsn(gap.end) <= stop - stop % newest.segment_size


def _newest(repo: Repository) -> Optional[BaseDetails]:
    """Of those that can be read."""
    for identity in reversed(repo.published(BASE)) if BASE in repo.folders else ():
        with contextlib.suppress(IntegrityError):
            manifest = manifests.parse(repo.manifest(BASE, identity), component=BASE, expected_id=identity)
            return manifest.detailed(BaseDetails)
    return None


def _list_relations(server: Server, seal: age.Seal, folder: Path, identity: str) -> list[Artefact]:
    """Write what relations are called, for `lifeboat when`: of one that is gone WAL has only the number."""
    entries = relations.read(server)
    if not entries:
        return []
    name = seal.named(relations.FILE)
    with create(folder / name) as file:
        writer = HashingWriter(file)
        pipeline.run(
            [Command(_COMPRESS), *seal.chain], attempted="list the relations", subject=identity, sink=writer,
            source=io.BytesIO(relations.to_bytes(entries)), timeout=600,
        )  # fmt: skip
    return [Artefact(name, writer.size, writer.sha256)]


def _copy(
    chain: Callable[[str], list[Command]], timeout: float, identity: str, file: BinaryIO, compression: str
) -> tuple[str, HashingWriter]:  # fmt: skip
    """Returns what pg_basebackup said, and what was written."""
    writer = HashingWriter(file)
    finished = pipeline.run(
        chain(compression), attempted=TAKE, subject=identity, sink=writer, timeout=timeout,
        remedy="See the server's log. Nothing was published.",
    )  # fmt: skip
    return finished[0].stderr, writer


def _chain(run: Opened, server: Server, route: Way, seal: age.Seal, compression: str) -> list[Command]:
    """compression: by which it is compressed before the bytes leave the container, where its engine copies each of them
    several times; empty: here."""
    command = _command(run, server, route, ["--compress", compression] if compression else [])
    return [command, *([] if compression else [Command(_COMPRESS)]), *seal.chain]


def _command(run: Opened, server: Server, route: Way, more: Sequence[str]) -> Command:
    words = ["pg_basebackup", *(["--host", route.host] if route.host else []), "--port", str(route.port)]
    words += ["--username", route.user, "--no-password", "--checkpoint", "fast", "--wal-method", "fetch"]
    words += ["--format", "tar", "--pgdata", "-", "--verbose", "--label", "lifeboat", *more]
    user = run.config.database.os_user if route.container else route.user
    return run.runtime.command(run.config.database.service, words, env={"LC_ALL": "C"}, user=user)


def points(stderr: str, identity: str) -> tuple[str, str, int]:
    """Where the WAL of a base begins and ends, and on which timeline, by what pg_basebackup said."""
    said: dict[str, str] = {}
    timeline: Optional[int] = None
    for which, lsn, number in _POINTS.findall(stderr):
        said[which] = format_lsn(parse_lsn(lsn))
        timeline = int(number) if number else timeline
    if set(said) != {"start", "end"} or not timeline:
        cause = "pg_basebackup did not say from where to where its WAL goes"
        raise IntegrityError(TAKE, identity, cause, "Is it PostgreSQL's own pg_basebackup? Nothing was published.")
    return said["start"], said["end"], timeline


def _architecture(server: Server) -> str:
    status, out, _err = pipeline.probe(server.run_command(["uname", "-m"]))
    return out.strip() if status == 0 else ""
