# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of a database server: of each database a dump and a fingerprint of one snapshot, the globals once."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Callable, Optional

from ....base import pipeline, progress
from ....base.clock import format_time
from ....base.errors import (
    LifeboatError,
    LockedError,
    Log,
    NotFoundError,
    SpaceError,
    UsageError,
    of_machine,
    present,
    unable,
)
from ....base.filesystem import STALE, create
from ....base.pipeline import Command
from ....base.text import human, named
from ....base.typed import plain
from ....base.version import VERSION
from ....recovery.state import RECOVERING, refuse_while_unfinished
from ....repository import base as repository_base
from ....repository import catalog, repositories
from ....repository.components import DATABASE
from ....repository.details import DATABASES, Cut, DatabaseDetails, DatabaseDump, DumpDetails
from ....repository.manifest import Artefact, Manifest
from ....settings.config import Config
from ....stack.runtime import Opened, wal_elsewhere
from ....tools import age, tar
from ... import carried, cluster, fingerprint, listed
from ... import server as database_server
from ...cluster import CLUSTER
from ...fingerprint import DUMP, FINGERPRINT, GLOBALS, Facts, Fingerprint, Position
from ...listed import LISTED, Listed
from ...logins import CLOSED
from ...server import Server, Session, alike, answers, conninfo, is_utf8
from ...wal.cut import Seeker
from . import cause

_BRING = "bring the dump out of the container"
_NOT_BROUGHT = 74
# One program of the container for what a directory needs: to start one there takes longer than to dump most databases.
# It is started before there is a snapshot, and waits for the words that tell of it; without any nothing is dumped.
# $1: pg_dump's directory; $2: how those of killed runs are called. The rest: pg_dump.
_OUT = f"""\
directory=$1
find "${{directory%/*}}" -maxdepth 1 -type d -name "$2" -exec rm -rf {{}} + 2>/dev/null
shift 2
read -r words || exit
for word in $words; do set -- "$@" "$word"; done
"$@" || exit
tar -C "$directory" -cf - . || exit {_NOT_BROUGHT}
rm -rf -- "$directory" || :
"""


@dataclass(frozen=True)
class Earlier:
    """A throw-away server with the data of an earlier instant, which is the backup's. server: it takes writes. living:
    the stack's own, of which the settings and access rules are: the throw-away one has others."""

    server: Server
    living: Server
    moment: datetime


def take(run: Opened, *, log: Log, override: bool = False, earlier: Optional[Earlier] = None) -> Manifest:
    """Take one backup of the stack's database server and publish it. The caller holds the stack's lock.

    The application's database comes first, then every other one. What cannot be read of these is in details.missing,
    and such a backup is not good. override: what it holds is right, even if it is far less than before. earlier: of
    that instant, and not of now.

    Raises LifeboatError; whatever fails, nothing is published and earlier backups stay as they were.
    """
    config, stack = run.config, run.runtime
    _refuse_in_recovery(config)
    seal = age.sealing(config, log)
    repo = repositories.repository_of(run)
    repo.check(writable=True)
    repo.sweep(older_than=STALE, now=datetime.now(timezone.utc))
    server, living, moment = _servers(run, earlier)
    database = server.database
    _refuse_excluded(config, database)
    started, moved = time.monotonic(), pipeline.moved()
    # The pool runs what costs a process in the container and does not depend on what runs beside it.
    with (
        ThreadPoolExecutor(8) as pool, contextlib.closing(_Sessions(server)) as sessions,
        contextlib.closing(_Dumps(pool, config, server, seal)) as dumps,
    ):  # fmt: skip
        dumps.start(database)
        elsewhere = pool.submit(wal_elsewhere, config, stack)
        try:
            session = sessions.begin(database)
        except LifeboatError as exc:
            raise _not_let_in(server, database, exc) from exc
        server.reap(session)
        head = _read_head(session, moment) if earlier or not config.wal.enabled else _read_with_cut(run, session, log)
        (around,) = answers(_Around, session.rows(_AROUND, attempted="look at the server"))
        others, missing = _others(config, around, database, living.made.names(), log)
        last = _require_space(config, repo, {database: head.size, **{item.name: item.size for item in others}})
        taken_at = head.taken_at
        identity = catalog.free_id(repo, DATABASE, taken_at)
        many = f", 1 of {len(others) + 1}" if others else ""
        log(f"{identity}: dumping {named(database)} ({human(head.size)}) as {config.database.format}{many}")
        dumps.expect(item.name for item in others)
        if around.standby:
            log(f"{identity}: the server is a standby: what it has not replayed yet is not in it")
        with (
            progress.going(_gauge(config, identity, last, moved)), repo.stage(DATABASE, identity) as staging,
            _named_errors(config),
        ):  # fmt: skip
            work = _Work(pool, config, server, sessions, dumps, identity, staging.path, log, seal, moment)
            naming = pool.submit(_globals, server, around, staging.path, seal)
            around_it = pool.submit(_look_around, living, [database, *(item.name for item in others)], earlier is None)
            done = [_database(work, session, head, database, "", naming)]
            sessions.ended(session)
            if place := elsewhere.result():
                log(f"{identity}: the server's write-ahead log lies in {place}, outside of its data")
            done += _each(work, others, missing)
            closing = pool.submit(sessions.close)
            artefacts = [*done[0].artefacts, naming.result(), *(each for other in done[1:] for each in other.artefacts)]
            artefacts.append(_surrounding(around_it.result(), staging.path, seal))
            details = replace(
                _details(config, done, seal),
                compression=compression(config, done[0].facts.server_version_num),
                host=socket.gethostname(),
                image=server.image or stack.image(config.database.service),
                seconds=round(time.monotonic() - started, 2),
                accepted=override,
                excluded=tuple(sorted(set(config.database.exclude))),
                missing=missing,
                created=tuple(sorted(done[-1].there - {item.name for item in around.databases} - set(missing))),
                standby=around.standby,
            )
            tool = {"lifeboat": VERSION, "pg_dump": done[0].facts.server_version}
            manifest = Manifest(
                identity, DATABASE, config.stack, taken_at, datetime.now(timezone.utc), tuple(artefacts), tool,
                plain(details),
            )  # fmt: skip
            manifest = repositories.publish(run, manifest, staging.publish)
            closing.result()
    spread = f", snapshots within {details.spread(taken_at):.1f} s" if details.additional else ""
    log(f"{identity}: published, {human(manifest.size)} in {details.seconds} s{spread}")
    _tell(identity, details, log)
    return manifest


def _servers(run: Opened, earlier: Optional[Earlier]) -> tuple[Server, Server, Optional[datetime]]:
    """What is dumped, what surrounds it, and of when it is where that is not now."""
    if earlier:
        return earlier.server, earlier.living, earlier.moment
    server = database_server.for_backups(run)
    return server, server, None


def _look_around(server: Server, names: Sequence[str], complete: bool) -> cluster.Cluster:
    """complete: the server has all of these databases."""
    there = {*names} if complete else {item.name for item in server.living()}
    return cluster.take(server, [name for name in names if name in there])


def _gauge(config: Config, identity: str, last: Optional[int], before: int) -> progress.Gauge:
    """Return how far a backup is, guessed by the size of the last one. before: what had moved when it began."""
    # A directory is written in the server's container, and brought out after that.
    ways = 2 if config.database.format == "directory" else 1
    about = ways * last if last else None
    return progress.Gauge(identity, about, about=True, meter=lambda: pipeline.done() - before, pace=5.0)


def _refuse_in_recovery(config: Config) -> None:
    refuse_while_unfinished(config, "start a backup", (RECOVERING,))
    if (config.state / CLOSED).exists():
        raise LockedError(
            "start a backup",
            config.stack,
            f"a recovery has closed the database to logins and not ended ({config.state / CLOSED})",
            "Finish it (lifeboat.dr.recover_database): that opens the database again.",
        )


def _tell(identity: str, details: DatabaseDetails, log: Log) -> None:
    """What the backup does not have."""
    for entry in details.databases:
        for line in entry.not_carried:
            log(f"{identity}: {named(entry.name)}: {line}")
    for name in details.created:
        log(f"{identity}: {named(name)} was made while the backup ran; the next one will hold it")
    for name, why in details.missing.items():
        log(f"{identity}: the database {named(name)} is NOT in it: {why}")


def copy(config: Config, server: Server, names: Sequence[str], identity: str, root: Path, log: Log) -> Manifest:
    """Dump these databases into the directory `root` as into a backup's, the first as if it were the primary one.
    Returns the manifest, which is not written."""
    artefacts, done = [], []
    with (
        ThreadPoolExecutor(4) as pool, contextlib.closing(_Sessions(server)) as sessions,
        contextlib.closing(_Dumps(pool, config, server, age.OPEN)) as dumps,
    ):  # fmt: skip
        work = _Work(pool, config, server, sessions, dumps, identity, root, log)
        for number, name in enumerate(names):
            folder = f"{DATABASES}/{number:03d}" if number else ""
            (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            with sessions.session(name) as session:
                (head,) = answers(_Head, session.rows(_HEAD, attempted=_SNAPSHOT))
                if not number:
                    (around,) = answers(_Around, session.rows(_AROUND, attempted="look at the server"))
                    artefacts.append(_globals(server, around, root))
                log(f"copying {named(name)} ({human(head.size)})")
                done.append(_database(work, session, head, name, folder))
            artefacts += done[-1].artefacts
    now = datetime.now(timezone.utc)
    return Manifest(
        identity, DATABASE, config.stack, now, now, tuple(artefacts), details=plain(_details(config, done, age.OPEN))
    )


@dataclass(frozen=True)
class _Database:
    name: str
    encoding: str


# taken_at: when the transaction began, which is before its first statement takes the snapshot, however long that waits:
# what was acknowledged before it is in the dump. https://www.postgresql.org/docs/current/transaction-iso.html
# visible: the transactions that it sees. cut: see _read_with_cut(). stood: the sequences before it.
@dataclass(frozen=True)
class _Head:
    taken_at: datetime
    snapshot: str
    size: int
    version: int
    relations: int
    encoding: str
    visible: str = ""
    cut: Optional[Cut] = None
    stood: Optional[Mapping[str, Position]] = None


_SNAPSHOT = "export a snapshot"
_HEAD = """BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT jsonb_build_object('taken_at', transaction_timestamp(), 'snapshot', pg_export_snapshot(),
  'visible', pg_current_snapshot()::text,
  'size', pg_database_size(current_database()), 'version', current_setting('server_version_num')::int,
  'relations', (SELECT count(*) FROM pg_class WHERE oid >= 16384), 'encoding', pg_encoding_to_char(encoding))
FROM pg_database WHERE datname = current_database();"""


def _read_head(session: Session, moment: Optional[datetime]) -> _Head:
    """Begin the snapshot. moment: see _Work."""
    (head,) = answers(_Head, session.rows(_HEAD, attempted=_SNAPSHOT))
    return replace(head, taken_at=moment) if moment else head


def _read_with_cut(run: Opened, session: Session, log: Log) -> _Head:
    """Begin a snapshot that has a cut in the WAL, so that a replay to there can be compared with it; the last one that
    was tried where none has. A replay has sequences as they were then or later: so they are read before it."""
    stood = fingerprint.sequences(session)
    with Seeker(run) as seeker:
        while True:
            seeker.assess()
            head = _read_head(session, None)
            if cut := seeker.judge(head.visible):
                break
            session.rows("ROLLBACK;", attempted=_SNAPSHOT)
    log(f"the snapshot is before {cut.lsn} in the WAL" if cut.lsn else f"the snapshot has no cut in the WAL: {cut.why}")
    return replace(head, cut=cut, stood=stood)


@dataclass(frozen=True)
class _Around:
    """What one database knows of its server."""

    is_superuser: bool
    standby: bool
    template_encoding: str
    role_names: str
    single_byte: tuple[_Database, ...]
    databases: tuple[Listed, ...]

    @property
    def globals_from(self) -> _Database:
        """The database in which pg_dumpall can name every role.

        Roles and their comments are the bytes that some session sent, and a multibyte encoding refuses what it is not.
        """
        template = _Database("template1", self.template_encoding)
        fits = self.role_names.isascii() or (template.encoding == "UTF8" and is_utf8(self.role_names))
        return template if fits or not self.single_byte else self.single_byte[0]


_AROUND = f"""SELECT jsonb_build_object(
  'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), 'standby', pg_is_in_recovery(),
  'template_encoding', (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template1'),
  'role_names', (SELECT string_agg(concat(rolname, rolconfig::text, shobj_description(oid, 'pg_authid')), ' ')
     FROM pg_roles),
  'single_byte', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', datname, 'encoding',
     pg_encoding_to_char(encoding)) ORDER BY datname <> current_database(), datname), '[]')
     FROM pg_database WHERE datallowconn AND pg_encoding_max_length(encoding) = 1),
  'databases', {LISTED});"""


def _not_let_in(server: Server, database: str, why: LifeboatError) -> LifeboatError:
    """Why no session began in the application's database: there is none, or what the server said of ours."""
    try:
        database_server.require_database(server, database)
    except NotFoundError as exc:
        return exc
    except LifeboatError:
        pass  # a server that takes no session at all
    return LifeboatError(
        "connect to the database", named(database), why.cause,
        "Nothing was published, and earlier backups are untouched. See that the server answers, lets the account in and"
        " has a connection left (max_connections, the CONNECTION LIMIT of the role and of the database), then run it"
        " again.", exit_status=why.exit_status, sqlstate=why.sqlstate,
    )  # fmt: skip


def _refuse_excluded(config: Config, database: str) -> None:
    if database in config.database.exclude:
        remedy = "Take it out of there, or name another database in lifeboat_database.name."
        raise UsageError("start a backup", database, "lifeboat_database.exclude leaves it out", remedy)


def _others(
    config: Config, around: _Around, database: str, ours: Collection[str], log: Log
) -> tuple[tuple[Listed, ...], dict[str, str]]:
    """The server's other databases that are to be in the backup, and those that cannot be, with the reason."""
    found = listed.choose(around.databases, database, config.database.exclude, ours)
    if found.unknown:
        names = ", ".join(map(named, found.unknown))
        log(f"lifeboat_database.exclude names {names}: the server has no such database")
    for name in found.torn:
        log(f"{named(name)} is what is left of an interrupted DROP DATABASE: nothing of it can be read")
    for name in filter(alike, (item.name for item in found.others)):
        log(f"{named(name)} is in it: it is called as what a recovery keeps, and none here has kept it")
    return found.others, dict(found.missing)


class _Sessions:
    """One session a database, in one psql as long as nothing fails: to start it takes longer than most answers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[Session] = []
        self._free: Optional[Session] = None

    def begin(self, database: str) -> Session:
        session, self._free = self._free, None
        if session is not None:
            try:
                session.again(database)
                return session
            except LifeboatError:  # psql connects before it leaves, and a limit may allow no connection more
                session.close()
        session = self._server.session(database).__enter__()
        self._open.append(session)
        return session

    def ended(self, session: Session) -> None:
        """Its transaction is over: it can go on to another database."""
        self._free = session

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[Session]:
        session = self.begin(database)
        try:
            yield session
        except BaseException:
            session.close()  # its snapshot keeps the server from tidying up
            raise
        self.ended(session)

    def close(self) -> None:
        for session in self._open:
            session.close()


@dataclass(frozen=True)
class _Target:
    """What is known of a database when its snapshot is there. folder: where its artefacts go. script: how a plain dump
    is called."""

    head: _Head
    folder: Path
    script: str

    def options(self, config: Config) -> list[str]:
        """What only then can be said to pg_dump; none of them has a space in it."""
        jobs = config.database.jobs if self.head.relations else 1
        return [
            f"--snapshot={self.head.snapshot}",
            f"--encoding={self.head.encoding}",  # its own: a conversion would fail on, or change, what that lets in
            _packing(config, self.head.version),
            *([f"--jobs={jobs}"] if config.database.format == "directory" else []),
        ]


class _Options(io.BytesIO):
    """The words of a database that is told of later, as one line to read."""

    def __init__(self, target: Future[_Target], config: Config) -> None:
        super().__init__()
        self._target: Optional[Future[_Target]] = target
        self._config = config

    def read(self, size: Optional[int] = -1, /) -> bytes:
        target, self._target = self._target, None
        return f"{' '.join(target.result().options(self._config))}\n".encode() if target else b""


class _Noticed:
    """A sink that tells of what comes."""

    def __init__(self, target: pipeline.Sink, comes: Callable[[int], object]) -> None:
        self._target, self._comes = target, comes

    def write(self, data: bytes, /) -> object:
        self._comes(len(data))
        return self._target.write(data)


@dataclass(frozen=True)
class _Work:
    """What every database of one backup is dumped with. root: where its artefacts go. seal: for whom. moment: of its
    data, where that is not now."""

    pool: ThreadPoolExecutor
    config: Config
    server: Server
    sessions: _Sessions
    dumps: _Dumps
    identity: str
    root: Path
    log: Log
    seal: age.Seal = age.OPEN
    moment: Optional[datetime] = None


@dataclass(frozen=True)
class _Done:
    """facts: of its fingerprint. there: the databases that the server had after it."""

    dump: DatabaseDump
    artefacts: list[Artefact]
    facts: Facts
    there: set[str]


class _Dumps:
    """The dump of one database after the other. What dumps is started before there is a snapshot, the next one while
    the one before is brought out: to start a program in a container takes longer than to dump most databases."""

    def __init__(self, pool: ThreadPoolExecutor, config: Config, server: Server, seal: age.Seal = age.OPEN) -> None:
        self._pool, self._config, self._server, self._seal = pool, config, server, seal
        self._coming: list[str] = []
        self._waiting: Optional[tuple[str, Future[_Target]]] = None
        self._brought: Optional[Future[list[Artefact]]] = None  # of the one that was started last
        self._writing: Optional[Future[list[Artefact]]] = None  # of the one that was told last
        self._swept, self._unwanted = False, threading.Event()

    def expect(self, databases: Iterable[str]) -> None:
        """Those that come after the one that was started."""
        self._coming = list(databases)

    def start(self, database: str) -> None:
        """Have it wait for tell()."""
        target: Future[_Target] = Future()
        if database in self._coming:
            del self._coming[: self._coming.index(database) + 1]
        sweep, self._swept = not self._swept, True  # what the one before made is brought out while this one starts
        dump = _Dump(self._config, self._server, self._seal, database, target, self._comes_out, sweep, self._unwanted)
        self._brought = self._pool.submit(dump.take)
        self._waiting = (database, target)

    def tell(self, database: str, target: _Target) -> list[Artefact]:
        """The artefacts of a database whose snapshot is there."""
        if self._waiting is None or self._waiting[0] != database:
            self._leave()
            self.start(database)
        (_name, waiting), self._waiting = present(self._waiting), None
        self._writing = writing = present(self._brought)
        waiting.set_result(target)
        while not wait((writing,), timeout=1).done:  # Ctrl-C, which a wait without an end may not notice
            pass
        return writing.result()

    def _comes_out(self, size: int) -> None:
        """So many bytes of the dump that was told came out."""
        pipeline.count(size)
        if self._waiting is None and self._coming:
            self.start(self._coming[0])

    def _leave(self) -> None:
        if self._waiting:
            self._waiting[1].cancel()
            self._waiting = None

    def abandon(self) -> None:
        """Nothing of the dump that was told is written any more."""
        if self._writing and not self._writing.done():
            self._unwanted.set()
            wait((self._writing,), timeout=60)

    def close(self) -> None:
        """End what waits."""
        self._leave()
        self._unwanted.set()


def _database(
    work: _Work, session: Session, head: _Head, name: str, folder: str, *beside: Future[Artefact]
) -> _Done:  # fmt: skip
    """One database, into that folder of the backup. beside: what else writes into the backup."""
    script = "database.sql" if folder else f"{work.identity}.sql"
    artefacts, found, lost = _fill(work, session, head, name, script, folder, *beside)
    at = format_time(head.taken_at)
    dump = DatabaseDump(name, head.size, folder, at, lost, head.relations, found.summary, head.cut)
    return _Done(dump, artefacts, found.facts, _there(session, work.server))


def _details(config: Config, done: Sequence[_Done], seal: age.Seal) -> DumpDetails:
    """What the dumps themselves tell, the primary one first."""
    facts = done[0].facts
    return DumpDetails(
        config.database.format, facts.server_version_num, facts.superuser, facts.preload or "", facts.is_superuser,
        recipients=seal.recipients, host_key=seal.host, databases=tuple(each.dump for each in done),
    )  # fmt: skip


def _each(work: _Work, others: Sequence[Listed], missing: dict[str, str]) -> Iterator[_Done]:
    """The other databases in turn; their folders are numbered without a gap."""
    made = 0
    for number, item in enumerate(others, 2):
        words = f"dumping {named(item.name)} ({human(item.size)}) {number} of {len(others) + 1}"
        work.log(f"{work.identity}: {words}")
        done = _other(work, item, f"{DATABASES}/{made + 1:03d}", missing)
        if done:
            made += 1
            yield done


def _other(work: _Work, item: Listed, folder: str, missing: dict[str, str]) -> Optional[_Done]:
    """One of the other databases. None where it alone cannot be read, or is gone by now: that is `missing`."""
    path = work.root / folder
    path.mkdir(mode=0o700, parents=True)
    try:
        with work.sessions.session(item.name) as session:
            return _database(work, session, _read_head(session, work.moment), item.name, folder)
    except LifeboatError as exc:
        shutil.rmtree(path)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        name = _name_now(work.server, item.oid, exc)
        if name and not _of_that_database(exc):
            raise
        renamed = f"it was given the name {named(name)} while the backup ran" if name != item.name else ""
        missing[item.name] = (renamed or named(exc.cause)) if name else "it was dropped while the backup ran"
        return None


def _name_now(server: Server, oid: int, why: LifeboatError) -> str:
    """What a database is called that could not be read; empty where it is gone. Raises `why` where nobody can say."""
    try:
        rows = server.execute(f"SELECT to_json(datname) FROM pg_database WHERE oid = {oid};", attempted="look for it")
    except LifeboatError:
        raise why from None
    return next(iter(answers(str, rows)), "")


def _of_that_database(exc: LifeboatError) -> bool:
    """Does a failure tell of the database that was read? Else it is of the machine, and the next would fail as well."""
    machine = isinstance(exc, SpaceError) or exc.attempted == _BRING
    return not machine and not unable(exc.exit_status or 0) and not of_machine(exc.sqlstate)


def _there(session: Session, server: Server) -> set[str]:
    """The names of the databases that there are by now, but those that runs of ours made."""
    sql = f"SELECT to_json(datname) FROM pg_database WHERE {database_server.NO_TEMPLATE};"
    return set(answers(str, session.rows(sql, attempted="list the databases"))) - server.made.names()


def _fill(
    work: _Work, session: Session, head: _Head, database: str, script: str, folder: str, *beside: Future[Artefact]
) -> tuple[list[Artefact], Fingerprint, tuple[str, ...]]:
    """Write a database's artefacts into that folder of the backup. The fingerprint, and what the dump does not carry,
    are read while pg_dump reads, from the same snapshot. script: how a plain dump is called. beside: what else writes
    into the backup."""
    inside = work.root / folder
    try:
        # Before pg_dump reads any: a large schema may take us longer than it.
        stood = head.stood or fingerprint.sequences(session)
    except BaseException:
        wait(beside, timeout=60)
        raise
    reading = work.pool.submit(_facts, session, work.config.database.fingerprint)
    try:
        artefacts = work.dumps.tell(database, _Target(head, inside, script))
    except BaseException as exc:
        # The snapshot is gone when the session that exported it ends, and pg_dump only says that: the reason is there.
        first = reading.exception() if reading.done() else None
        with contextlib.suppress(LifeboatError):
            work.server.reap()  # pg_dump outlives a killed `docker exec`; its sessions must not
        work.dumps.abandon()
        wait(beside, timeout=60)  # nobody writes into a directory that is being removed
        wait((reading,), timeout=60)
        if isinstance(exc, LifeboatError) and isinstance(first, LifeboatError):
            raise first from exc
        raise
    found, not_carried = reading.result()
    work.log(f"{work.identity}: fingerprint of {len(found.tables)} tables taken")
    session.rows("COMMIT;", attempted=_SNAPSHOT)  # sequences know no snapshot, but which there are is known by one
    found = replace(found, sequences=fingerprint.Sequences(stood, fingerprint.sequences(session)))
    artefacts.append(_put(inside, FINGERPRINT, found.to_bytes(), work.seal))
    return [replace(item, name=f"{folder}/{item.name}".lstrip("/")) for item in artefacts], found, not_carried


def _facts(session: Session, level: str) -> tuple[Fingerprint, tuple[str, ...]]:
    return fingerprint.take(session, level), carried.take(session)


def _put(folder: Path, name: str, data: bytes, seal: age.Seal) -> Artefact:
    with create(folder / seal.named(name)) as raw:
        writer = pipeline.HashingWriter(raw)
        seal.write(data, writer, subject=name)
    return Artefact(seal.named(name), writer.size, writer.sha256)


def _surrounding(found: cluster.Cluster, folder: Path, seal: age.Seal) -> Artefact:
    return _put(folder, CLUSTER, found.to_bytes(), seal)


def _globals(server: Server, around: _Around, folder: Path, seal: age.Seal = age.OPEN) -> Artefact:
    data = io.BytesIO()  # in memory: there may be passwords in it, which are on no disk unless encrypted
    with gzip.GzipFile("", "wb", 6, data, mtime=0) as packed:
        source = around.globals_from
        # Not --dbname: of that pg_dumpall ignores the name. Both take a connection string.
        words = ["--globals-only", f"--database={conninfo(dbname=source.name)}", f"--encoding={source.encoding}"]
        words += [] if around.is_superuser else ["--no-role-passwords"]
        pipeline.run(
            [server.tool("pg_dumpall", *words)],
            attempted="dump roles and other globals",
            subject=server.database,
            sink=packed,
            timeout=300,
        )
    return _put(folder, GLOBALS, data.getvalue(), seal)


def compression(config: Config, server_version_num: int) -> str:
    """What pg_dump is told. Before 16 it knows gzip only; a plain dump is gzip so that gunzip and psql suffice."""
    wanted = config.database.compression
    if wanted != "none" and (config.database.format == "plain" or server_version_num < 160000):
        return wanted if wanted.startswith("gzip") else "gzip:6"
    return wanted


def _packing(config: Config, server_version_num: int) -> str:
    method = compression(config, server_version_num)
    level = method.partition(":")[2] or "6"
    return f"--compress={method if server_version_num >= 160000 else 0 if method == 'none' else level}"


COMPRESSION = "lifeboat_database.compression"
_PLAINER = f"Set {COMPRESSION} to gzip:6."


def compression_problem(run: Opened) -> str:
    """Try the compression on template1 without its rows. Returns why pg_dump cannot do it; empty where it can, or where
    something else is wrong, which is others' to say."""
    server = database_server.for_backups(run)
    tried = ("--format=custom", "--schema-only", _packing(run.config, server.version_num), "--file=/dev/null", *_ALWAYS)
    _status, _out, stderr = pipeline.probe(server.tool("pg_dump", *tried, database="template1"), timeout=60)
    lacked = cause.of_the_compression(stderr)
    return f"{lacked}. {_PLAINER}" if lacked else ""


_ALWAYS = ("--lock-wait-timeout=60s", "--no-password", "--no-sync")


@dataclass(frozen=True)
class _Dump:
    """One of _Dumps. comes: called with what comes out of a directory. sweep: remove what killed runs left. unwanted:
    set where it is to end at once."""

    config: Config
    server: Server
    seal: age.Seal
    database: str
    target: Future[_Target]
    comes: Callable[[int], object]
    sweep: bool
    unwanted: threading.Event

    def take(self) -> list[Artefact]:
        """The dump's artefacts. A directory's program is started at once, and waits; all else when it is told."""
        if self.config.database.format == "directory":
            return self._directory()
        if self.sweep:
            self.server.sweep()
        target, plain = self.target.result(), self.config.database.format == "plain"
        method = compression(self.config, target.head.version)
        name = self.seal.named(target.script + ("" if method == "none" else ".gz") if plain else DUMP)
        words = [f"--format={self.config.database.format}", *target.options(self.config), *_ALWAYS]
        words += ["--no-tablespaces"] if plain else []  # others restore it: tablespaces are directories of this host
        command = self.server.tool("pg_dump", *words, database=self.database)
        with create(target.folder / name) as raw:
            writer = pipeline.HashingWriter(raw)
            self._run(command, writer, self.config.timeout)
        return [Artefact(name, writer.size, writer.sha256)]

    def _run(
        self, command: Command, sink: pipeline.Sink, timeout: float, source: Optional[IO[bytes]] = None
    ) -> None:  # fmt: skip
        untouched = "Earlier backups are untouched. `lifeboat.dr.status` shows them."
        try:
            pipeline.run(
                [command, *self.seal.chain],
                attempted="dump the database",
                subject=named(self.database),
                source=source,
                sink=sink,
                timeout=timeout,
                remedy=untouched,
                unwanted=self.unwanted,
            )
        except LifeboatError as exc:
            if cause.of_the_compression(exc.cause):
                exc.remedy = f"{_PLAINER} {untouched}"
            raise

    def _directory(self) -> list[Artefact]:
        server, target = self.server, self.target
        inside = server.scratch_path()
        wrapper = ("sh", "-c", _OUT, "sh", inside, server.scratch_names if self.sweep else "")
        words = ("--format=directory", *_ALWAYS, f"--file={inside}")
        command = server.tool("pg_dump", *words, database=self.database, wrapper=wrapper, stdin=True)

        def write(sink: pipeline.Sink) -> None:  # twice the time: to dump it and to bring it out
            source = _Options(target, self.config)
            self._run(command, _Noticed(sink, self.comes), 2 * self.config.timeout, source)

        try:
            try:
                with pipeline.growing(lambda: server.size(inside)):
                    return _receive_sealed(write, target) if self.seal.recipients else _receive(write, target)
            except LifeboatError as exc:
                if target.cancelled() or self.unwanted.is_set():
                    raise
                if exc.exit_status == _NOT_BROUGHT:
                    exc.attempted, exc.subject = _BRING, inside
                if server.is_full(inside):
                    remedy = "Free space there, or set lifeboat_database.format to custom, which needs none."
                    raise SpaceError(exc.attempted, inside, exc.cause, remedy) from exc
                raise
        except BaseException:
            if not target.cancelled():  # else it made nothing
                server.remove(inside)
            raise


def _receive_sealed(write: Callable[[pipeline.Sink], object], target: Future[_Target]) -> list[Artefact]:
    """As one age file, so that neither the number nor the sizes of the tables are told."""
    name = f"{DUMP}{age.DIRECTORY}"
    with create(target.result().folder / name) as raw:
        writer = pipeline.HashingWriter(raw)
        write(writer)
    return [Artefact(name, writer.size, writer.sha256)]


def _receive(write: Callable[[pipeline.Sink], object], target: Future[_Target]) -> list[Artefact]:
    """Unpack the archive that is written, hashing on the way. Plain files only."""
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end, "rb") as reader:
        unpacking = pool.submit(_unpack_into, reader, target)
        try:
            with os.fdopen(write_end, "wb") as writer:
                write(writer)
        except BrokenPipeError:
            unpacking.result()  # says why it stopped reading
            raise
        return unpacking.result()


def _unpack_into(stream: IO[bytes], target: Future[_Target]) -> list[Artefact]:
    with stream:
        folder = target.result().folder / DUMP
        folder.mkdir(mode=0o700)
        return _unpack(stream, folder)


def _unpack(stream: IO[bytes], folder: Path) -> list[Artefact]:
    try:
        return _unpack_plain(stream, folder)
    except tarfile.TarError as exc:
        raise LifeboatError(_BRING, folder.name, f"the tar archive is not whole: {exc}") from exc


def _unpack_plain(stream: IO[bytes], folder: Path) -> list[Artefact]:
    artefacts = []
    # Closing the stream, also on failure, is what lets the writer at its other end stop.
    with stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=tar.Member) as archive:
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


def _require_space(
    config: Config, repo: repository_base.Repository, sizes: Mapping[str, int]
) -> Optional[int]:  # fmt: skip
    """Refuse early rather than fill the disk: the last backup's size and half of it again, and of the databases that it
    does not hold a third of their data. sizes: of each database, in bytes.

    Returns the last backup's size, where that was looked up.
    """
    free = repo.free_bytes()
    if free is None:
        return None
    last = next(
        (entry.manifest for entry in reversed(catalog.entries(repo, DATABASE, config.stack)) if entry.manifest), None
    )
    covered = {entry.name for entry in last.detailed(DatabaseDetails).databases} if last else set()
    new = sum(size for name, size in sizes.items() if name not in covered)
    needed = (int(last.size * 1.5) if last else 0) + new // 3
    if free < needed:
        raise SpaceError(
            "start a backup",
            config.backup_directory,
            f"{human(free)} free, about {human(needed)} needed",
            "Free space there, or run lifeboat.dr.prune.",
        )
    return last.size if last else None


@contextlib.contextmanager
def _named_errors(config: Config) -> Iterator[None]:
    """An OSError while writing artefacts is the repository's: full, read-only or gone."""
    try:
        yield
    except OSError as exc:
        raise SpaceError(
            "write the backup",
            config.backup_directory or "staging directory",
            exc.strerror or str(exc),
            "The unfinished backup was removed; earlier ones are untouched. Free space, then run it again.",
        ) from exc
