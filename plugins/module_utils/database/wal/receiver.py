# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receive WAL by PostgreSQL's own pg_receivewal, in the network of the database's container, or on this host.

In a container of the very image that the database runs, so that the version always fits, and over 127.0.0.1 of its
network, which the official image trusts for replication: no port, no password, no edit, no restart. On a host as the
server's user over its socket. https://www.postgresql.org/docs/current/app-pgreceivewal.html
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Optional, Protocol, cast

from ...base import filesystem, pipeline, typed
from ...base.errors import LifeboatError, LockedError, Log, NotFoundError, SpaceError, UsageError
from ...base.filesystem import explained, is_directory
from ...base.pipeline import Command
from ...base.text import human
from ...settings.config import WAL_NOTE, Config
from ...stack.runtime import ComposeRuntime, Opened, database_mount, last_words
from .. import scratch
from .. import server as database_server
from ..server import Server, conninfo
from . import preflight, watch
from .preflight import ROLE, SLOT, Facts
from .spool import contents

RECEIVE = "receive WAL"
_INSIDE = "/spool"
_ADDRESS = "127.0.0.1"
_MEMORY = "64m"  # it needs 4 MB
_LOG = ("--log-driver", "json-file", "--log-opt", "max-size=1m")


@dataclass(frozen=True)
class Enabled:
    """What `enable` did. system: identifier of the server then. limit: bytes that the slot may hold back. limit_set,
    role_made: whether that was not so before."""

    system: str
    limit: int
    limit_set: bool = False
    role_made: bool = False
    at: str = ""


@dataclass(frozen=True)
class Way:
    """How the receiver reaches the server. container: of the database, empty on a host; image: its id. user: whom the
    server lets in. owner: user and group that write the spool. host: an address or a directory of sockets, empty: the
    usual one."""

    user: str
    port: int
    owner: tuple[int, int]
    container: str = ""
    image: str = ""
    host: str = ""

    def name(self, stack: str) -> str:
        return f"lifeboat-wal-{stack}"


def enabled(config: Config) -> Optional[Enabled]:
    """What `enable` noted; None where continuous protection was never enabled, or is disabled."""
    try:
        data = filesystem.read_plain(config.state / WAL_NOTE)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UsageError("read how WAL is received", str(config.state / WAL_NOTE), exc.strerror or str(exc)) from exc
    note = typed.maybe(Enabled, data)
    if note is None:
        remedy = "Look at it, remove it, and run: lifeboat wal enable."
        raise UsageError("read how WAL is received", str(config.state / WAL_NOTE), "it is damaged", remedy)
    return note


def remember(config: Config, note: Optional[Enabled]) -> None:
    path = config.state / WAL_NOTE
    if note is None:
        with explained("forget how WAL was received", path):
            path.unlink(missing_ok=True)
        return
    data = json.dumps(typed.plain(note), indent=1).encode() + b"\n"
    filesystem.remember(path, data, attempted="remember how WAL is received")


def refuse_elsewhere(config: Config) -> None:
    """Raise UsageError where the server is reached over a network: its receiver needs TLS and a password."""
    if config.database.host not in ("", "localhost", "127.0.0.1", "::1") and not config.database.host.startswith("/"):
        raise UsageError(
            preflight.ENABLE, config.database.host,
            "WAL is received inside the database's container or over this host's socket, and the server is elsewhere",
            "Protect it on its own machine, with lifeboat_runtime: {type: host} there.",
        )  # fmt: skip


def way(run: Opened, server: Server, facts: Facts) -> Way:
    """Find out how the receiver reaches the server that runs now."""
    config, runtime = run.config, run.runtime
    if not isinstance(runtime, ComposeRuntime):
        user = config.database.os_user or "postgres"
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            remedy = "Correct lifeboat_database.os_user."
            raise NotFoundError(preflight.ENABLE, user, "there is no such user on this host", remedy) from None
        sockets = config.database.host if config.database.host.startswith("/") else ""
        return Way(user, facts.port, (account.pw_uid, account.pw_gid), host=sockets)
    container = runtime.state(config.database.service)
    asked = server.run_command(["stat", "-c", "%u %g", facts.data])
    answer = pipeline.output(asked, attempted=preflight.ENABLE, subject=f"the owner of {facts.data}", timeout=60)
    numbers = answer.split()
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise LifeboatError(preflight.ENABLE, facts.data, f"its owner cannot be told: {answer.strip()[:80]!r}")
    return Way(ROLE, facts.port, (int(numbers[0]), int(numbers[1])), container.id, container.image_id, _ADDRESS)


def refuse_without_tool(server: Server) -> None:
    """Raise NotFoundError where the image, or this host, has no pg_receivewal."""
    status, _out, err = pipeline.probe(server.run_command(["pg_receivewal", "--version"]))
    if status:
        cause = err.strip() or f"pg_receivewal --version ended with {status}"
        remedy = "Use an image with PostgreSQL's client programs, as the official one has them."
        raise NotFoundError(preflight.ENABLE, "pg_receivewal", cause, remedy)


def try_connection(run: Opened, route: Way, facts: Facts) -> None:
    """Raise UsageError with the line that would allow it where the server refuses the receiver. By the very connection
    that the receiver will use: pg_hba.conf is not guessed at."""
    words = {"user": route.user, "port": str(route.port), "replication": "true", "connect_timeout": "10"}
    if route.host:
        words["host"] = route.host
    argv = ["psql", "-XAtw", "-F", " ", "-d", conninfo(**words), "-c", "IDENTIFY_SYSTEM"]
    user = "" if route.container else route.user
    command = run.runtime.command(run.config.database.service, argv, user=user or run.config.database.os_user)
    status, out, err = pipeline.probe(command)
    if status:
        line = preflight.allowing(bool(route.container), route.user)
        raise UsageError(
            preflight.ENABLE, f"replication as {route.user}", pipeline.scrub(err.strip()) or f"psql: {status}",
            f"If pg_hba.conf is why, this as its first line allows it, then SELECT pg_reload_conf();\n  {line}",
        )  # fmt: skip
    if out.split()[:1] != [facts.system]:
        cause = f"another server answers there: {out.split()[:1]}, not {facts.system}"
        raise LifeboatError(preflight.ENABLE, f"replication as {route.user}", cause)


def argv(stack: str, route: Way, spool: Path) -> list[str]:
    """The receiver's words: `docker run`, or pg_receivewal itself as the server's user."""
    flags = ["--port", str(route.port), "--username", route.user, "--no-password", "--slot", SLOT, "--synchronous"]
    tail = [*(["--host", route.host] if route.host else []), *flags, "--no-loop", "--directory"]
    if not route.container:
        ids = ("--reuid", str(route.owner[0]), "--regid", str(route.owner[1]), "--init-groups")
        return ["setpriv", *ids, "--", "pg_receivewal", *tail, str(spool)]
    mount = f"type=bind,{scratch.field(f'source={spool}')},target={_INSIDE}"
    return [
        "docker", "run", "--detach", "--name", route.name(stack), "--label", f"lifeboat.wal={stack}",
        "--network", f"container:{route.container}", "--user", f"{route.owner[0]}:{route.owner[1]}",
        "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "16",
        "--memory", _MEMORY, *_LOG, "--env", f"PGAPPNAME={SLOT}", "--mount", mount,
        "--entrypoint", "pg_receivewal", route.image, *tail, _INSIDE,
    ]  # fmt: skip


def make_role(server: Server) -> None:
    """Without a password, so that no network lets it in."""
    server.execute(f"CREATE ROLE {ROLE} LOGIN REPLICATION;", attempted=f"make the role {ROLE}")


def make_slot(server: Server, facts: Facts, log: Log) -> bool:
    """See that the slot is there and holds WAL back from now on; one that the server gave up is made again. Returns
    whether it was made: from what was received before to here there may be a gap."""
    slot = facts.ours
    if slot is not None and not slot.lost:
        if slot.theirs:
            raise LockedError(
                RECEIVE, f"slot {SLOT}", f"another receiver has it: {slot.theirs}",
                "Stop that one. Two hosts cannot share a slot.",
            )  # fmt: skip
        return False
    if slot is not None:
        log(f"the slot {SLOT} is lost: {slot.why_lost}")
        server.execute(f"SELECT to_json(pg_drop_replication_slot('{SLOT}')::text);", attempted="drop the lost slot")
    sql = f"SELECT to_json(pg_create_physical_replication_slot('{SLOT}', true)::text);"
    server.execute(sql, attempted="make the replication slot")
    log(f"made the slot {SLOT}: the server holds WAL back for the receiver from now on")
    return True


def drop_slot(server: Server) -> bool:
    """Returns whether there was one. A receiver that is still connected is ended first."""
    sql = (
        f"SELECT to_json(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        " AND active_pid IS NOT NULL;"
    )
    server.execute(sql, attempted="end the receiver's connection", timeout=60)
    sql = (
        f"SELECT to_json(pg_drop_replication_slot(slot_name)::text) FROM pg_replication_slots"
        f" WHERE slot_name = '{SLOT}' AND slot_type = 'physical';"
    )
    return bool(server.execute(sql, attempted="drop the replication slot", timeout=60))


_SPOOL = re.compile(r"([1-9][0-9]{0,19})-([0-9]{4})", re.ASCII)


def spools(config: Config) -> list[Path]:
    """The spools of this host, oldest first. Each server has its own: what two servers wrote is never mixed. And the
    next number begins where the way from what was received is lost."""
    with explained("list the spool", config.spool):
        if not config.spool.is_dir():
            return []
        paths = [path for path in config.spool.iterdir() if _SPOOL.fullmatch(path.name) and is_directory(path)]
        newest = {system_of(path): 0.0 for path in paths}
        for path in paths:
            newest[system_of(path)] = max(newest[system_of(path)], path.stat().st_mtime)
    return sorted(paths, key=lambda path: (newest[system_of(path)], path.name))


def system_of(folder: Path) -> str:
    return folder.name.partition("-")[0]


def make_spool(config: Config, system: str, owner: tuple[int, int], fresh: bool = False) -> Path:
    """The server's directory, which its user alone may read: rows are in WAL. fresh: another one than before."""
    numbers = [int(path.name[-4:]) for path in spools(config) if system_of(path) == system]
    path = config.spool / f"{system}-{max(numbers, default=1) + (1 if fresh and numbers else 0):04d}"
    with explained("make the spool", path):
        config.spool.mkdir(mode=0o711, parents=True, exist_ok=True)
        config.spool.chmod(0o711)  # whatever the umask is: the server's user goes through it
        if not config.wal.spool_directory:
            config.spool.parent.chmod(0o711)
        path.mkdir(mode=0o700, exist_ok=True)
        if (path.stat().st_uid, path.stat().st_gid) != owner:
            os.chown(path, *owner)
    return path


def broken(server: Server, facts: Facts, folder: Path) -> bool:
    """Whether the server has no more what follows on what was received: pg_receivewal would ask for it for ever."""
    files = contents(folder, facts.system, facts.segment)
    if not files:
        return False
    last = files[-1]
    following = replace(last.segment, number=last.segment.number + (0 if last.open else 1)).name
    sql = (
        "SELECT to_json(coalesce(min(substr(name, 9)) > "
        f"'{following[8:]}', false)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{{24}}$';"
    )
    return server.execute(sql, attempted="look which WAL the server still has", timeout=60) == [True]


def shared_disk(run: Opened, facts: Facts) -> bool:
    """Whether the spool lies on the disk of pg_wal. Where that cannot be told it does: more is left free then."""
    try:
        if isinstance(run.runtime, ComposeRuntime):
            data = database_mount(run.config, run.runtime).path
        else:
            data = Path(facts.data) / "pg_wal"
        spool = next(path for path in (run.config.spool, *run.config.spool.parents) if path.exists())
        return data == Path() or data.stat().st_dev == spool.stat().st_dev
    except (LifeboatError, OSError):
        return True


def refuse_full(config: Config, spool: Path, limit: int, free: int) -> None:
    """Raise SpaceError where the spool has no room. The server's slot holds WAL back meanwhile, up to its own bound."""
    with explained("look at the spool", spool):
        if not watch.full(str(spool), limit, free):
            return
        used, room = watch.size(str(spool)), filesystem.free(spool)
    raise SpaceError(
        RECEIVE, str(spool),
        f"{human(used)} wait there to be sent, of at most {human(limit)}, and {human(room)} of the disk are free,"
        f" of at least {human(free)}",
        "See why nothing is sent: lifeboat wal status. The server keeps the WAL meanwhile, and the receiver goes on by"
        " itself.",
    )  # fmt: skip


class _WithSource(Protocol):
    def get_source(self, name: str) -> Optional[str]: ...


def receive(run: Opened, log: Log) -> NoReturn:
    """Start the receiver and become the program that waits for its end. For the unit, which starts it again."""
    config = run.config
    note = enabled(config)
    if note is None or not config.wal.enabled:
        remedy = "Set lifeboat_wal.enabled and deploy, then: lifeboat wal enable."
        raise UsageError(RECEIVE, config.stack, "continuous protection is not enabled on this host", remedy)
    refuse_elsewhere(config)
    server = database_server.of(run)
    facts = preflight.read(server)
    if facts.standby:
        raise UsageError(RECEIVE, config.stack, "the server is a standby", "Receive from its primary.")
    route = way(run, server, facts)
    spool = make_spool(config, facts.system, route.owner)
    limit, free = preflight.spool_limit(config.wal), preflight.floor(note.limit, shared_disk(run, facts))
    refuse_full(config, config.spool, limit, free)
    clear(config.stack, route, log)
    if route.container and facts.role is None:
        make_role(server)
        log(f"made the role {ROLE}: this server did not have it")
    if make_slot(server, facts, log) and broken(server, facts, spool):
        log("the server has removed the WAL that follows on what was received: from there to here there is a gap")
        spool = make_spool(config, facts.system, route.owner, fresh=True)
    if facts.system != note.system:
        log(f"this is another server, {facts.system} instead of {note.system}: what it writes is kept apart")
        remember(config, replace(note, system=facts.system))
    process = start(config.stack, route, spool)
    log(f"receiving WAL of server {facts.system} into {spool}")
    source = cast(_WithSource, watch.__loader__).get_source(watch.__name__) or ""
    words = ["-I", "-S", "-c", source, str(process), str(config.spool), str(limit), str(free)]
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - argv list


def start(stack: str, route: Way, spool: Path) -> int:
    """Start pg_receivewal; returns its process on this host."""
    words = argv(stack, route, spool)
    if not route.container:
        environment = Command(words, {"PGAPPNAME": SLOT}).environment()
        try:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment).pid
        except OSError as exc:
            raise LifeboatError(RECEIVE, "setpriv", exc.strerror or str(exc), "Install util-linux.") from exc
    pipeline.output(Command(words), attempted=RECEIVE, subject=route.name(stack), timeout=120)
    form = ["docker", "inspect", "--format", "{{.State.Pid}}", route.name(stack)]
    number = pipeline.output(Command(form), attempted=RECEIVE, subject=route.name(stack), timeout=60).strip()
    if not number.isdecimal() or number == "0":
        status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", "10", route.name(stack)]))
        cause = last_words(pipeline.scrub(out + err)) if status == 0 else ""
        raise LifeboatError(RECEIVE, route.name(stack), cause or "it ended at once", "Look at: lifeboat wal status.")
    return int(number)


def clear(stack: str, route: Way, log: Log) -> None:
    """Remove the container of the receiver before, and say why that ended."""
    if not route.container:
        return
    name = route.name(stack)
    status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", "10", name]))
    if status:
        return  # there is none
    cause = last_words(pipeline.scrub(out + err))
    if cause:
        log(f"the receiver before ended: {cause}")
    remove(stack)


def remove(stack: str) -> None:
    """Remove the receiver's container; gone already is fine."""
    pipeline.probe(Command(["docker", "rm", "--force", f"lifeboat-wal-{stack}"]), timeout=120)
