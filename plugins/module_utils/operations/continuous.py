# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Continuous protection of a database by its WAL: switch it on and off, and say how it stands."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from ..base import clock, filesystem, pipeline
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, verdict
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, SpaceError, UnverifiedError, UsageError, printable
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..base.text import human, named
from ..base.throttle import parse_rate
from ..database import server as database_server
from ..database.server import Server, literal
from ..database.wal import base, preflight, receiver, send, vault, watch
from ..database.wal.preflight import ENABLE, ROLE, SLOT, Facts
from ..database.wal.receiver import Enabled, Way
from ..database.wal.send import Ledger
from ..database.wal.vault import Copied
from ..repository import copies, repositories
from ..settings.config import Config
from ..settings.parts import S3Settings
from ..stack.runtime import Opened
from ..wal.notes import Reached

UNITS = Path("/etc/systemd/system")
AGENT = "/usr/local/bin/lifeboat"
DISABLE = "disable continuous protection"
RECEIVER = "wal receiver"
OFF_THE_HOST = "wal off the host"  # the check of status
_RUNS = Path("/run/systemd/system")  # https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html
_MEBI = 1 << 20
_PATIENCE = 90.0  # seconds until the first note
_SENT = 3600  # seconds that one pass may take
_STARTED = "base-started"  # in the state directory: why a base was needed at once, as old as the last try
_AGAIN = 900.0  # seconds until such a base is tried again

_RECEIVER = """\
# By Lifeboat (lifeboat wal enable), which writes it again.
[Unit]
Description=Receive the WAL of {stack}
After=docker.service postgresql.service
StartLimitIntervalSec=0
RequiresMountsFor={spool}

[Service]
ExecStart={agent} wal receive --stack {stack}
{stop}# The server holds the WAL back until the receiver is there again.
Restart=always
RestartSec=2
UMask=0077

[Install]
WantedBy=multi-user.target
"""
_SENDER = """\
# By Lifeboat (lifeboat wal enable), which writes it again.
[Unit]
Description=Send the WAL of {stack} to its repository

[Service]
Type=oneshot
ExecStart={agent} wal send --stack {stack}
TimeoutStartSec={timeout}
Nice=5
UMask=0077
"""
_TIMER = """\
# By Lifeboat (lifeboat wal enable), which writes it again.
[Unit]
Description=Send the WAL of {stack} every {interval} s

[Timer]
OnBootSec={interval}
OnActiveSec=1
OnUnitInactiveSec={interval}
AccuracySec=1

[Install]
WantedBy=timers.target
"""

_BASE = """\
# By Lifeboat (lifeboat wal enable), which writes it again.
[Unit]
Description=Take a base of {stack} at once, as none leads on to its WAL

[Service]
Type=oneshot
ExecStart={agent} backup base --stack {stack} --wait 3600
TimeoutStartSec=infinity
Nice=5
UMask=0077
"""


def units(config: Config) -> dict[Path, str]:
    """The units of a stack, by their files."""
    stack, docker = config.stack, shutil.which("docker") or "/usr/bin/docker"
    stop = f"ExecStopPost=-{docker} stop --time 5 {name}\n" if (name := _container(config)) else ""
    words = {
        "stack": stack, "agent": shutil.which("lifeboat") or AGENT, "spool": config.spool, "stop": stop,
        "timeout": _SENT, "interval": config.wal.interval,
    }  # fmt: skip
    return {
        UNITS / receiver_unit(config): _RECEIVER.format(**words),
        UNITS / f"lifeboat-send-{stack}.service": _SENDER.format(**words),
        UNITS / f"lifeboat-send-{stack}.timer": _TIMER.format(**words),
        UNITS / _base_unit(config): _BASE.format(**words),
    }


def receiver_unit(config: Config) -> str:
    return f"lifeboat-wal-{config.stack}.service"


def _base_unit(config: Config) -> str:
    return f"lifeboat-base-{config.stack}.service"


def _container(config: Config) -> str:
    return f"lifeboat-wal-{config.stack}" if config.runtime.type == "compose" else ""


@dataclass(frozen=True)
class Plan:
    """steps: what is still to be done, in order; empty where all of it is. limit: bytes that the slot may hold back."""

    steps: tuple[str, ...]
    limit: int
    facts: Facts
    way: Way
    server: Server

    def as_dict(self) -> dict[str, object]:
        return {"changed": bool(self.steps), "steps": list(self.steps), "slot_limit": self.limit}


def plan(run: Opened) -> Plan:
    """Read what is there and what is in the way of it. Changes nothing; raises UsageError with all obstacles."""
    config = run.config
    if not config.wal.enabled:
        remedy = "Set lifeboat_wal: {enabled: true} and run lifeboat.dr.deploy, then this again."
        raise UsageError(ENABLE, config.stack, "lifeboat_wal.enabled is false on this host", remedy)
    receiver.refuse_elsewhere(config)
    _require_tools(config)
    server = database_server.of(run)
    facts = preflight.read(server)
    receiver.refuse_without_tool(server)
    route = receiver.way(run, server, facts)
    rules = preflight.rules(server)
    container = bool(route.container)
    preflight.refuse(
        config.stack, list(preflight.obstacles(facts, rules, config.wal, container=container, user=route.user))
    )
    limit = _limit(config, server, facts)
    _require_room(run, facts, limit)
    repositories.repository_of(run).check(writable=True)
    return Plan(tuple(_steps(config, facts, route, limit)), limit, facts, route, server)


def _require_tools(config: Config) -> None:
    if not shutil.which("systemctl") or not _RUNS.is_dir():
        cause = "systemd does not run here, and nothing else would start the receiver again"
        raise UsageError(ENABLE, config.stack, cause, "Protect the stack from a host that runs systemd.")
    for tool in ("zstd", *(["age"] if config.encryption.recipients else [])):
        if not shutil.which(tool):
            raise UnverifiedError(ENABLE, config.stack, f"{tool} is not installed here", f"apt install {tool}")


def _limit(config: Config, server: Server, facts: Facts) -> int:
    """Bytes that the slot may hold back: what is set stays, unless the inventory says otherwise."""
    if facts.limit >= 0 and not config.wal.slot_limit:
        return facts.limit * _MEBI
    return preflight.slot_limit(server.free_bytes(f"{facts.data}/pg_wal"), config.wal.slot_limit)


def _require_room(run: Opened, facts: Facts, limit: int) -> None:
    config = run.config
    there = next(path for path in (config.spool, *config.spool.parents) if path.exists())
    used = watch.size(str(config.spool)) if config.spool.is_dir() else 0
    need = preflight.spool_limit(config.wal) + preflight.floor(limit, receiver.shared_disk(run, facts)) - used
    if filesystem.free(there) < need:
        raise SpaceError(
            ENABLE, str(config.spool),
            f"{human(filesystem.free(there))} are free there, and {human(need)} are needed: for the spool, for what the"
            " slot may hold back on the same disk, and 1 GB that stays free",
            "Make room, lower lifeboat_wal.spool_limit or lifeboat_wal.slot_limit, or set"
            " lifeboat_wal.spool_directory to another disk.",
        )  # fmt: skip


def _steps(config: Config, facts: Facts, route: Way, limit: int) -> Iterator[str]:
    if route.container and facts.role is None:
        yield f"make the role {ROLE} (LOGIN REPLICATION, no password)"
    if facts.limit * _MEBI != limit:
        yield f"set max_slot_wal_keep_size to {human(limit)}, without a restart"
    if facts.ours is None or facts.ours.lost:
        yield f"make the replication slot {SLOT}"
    for path, text in units(config).items():
        if differs(path, text):
            yield f"write {path}"
    note = receiver.enabled(config)
    if note is None or note.limit != limit or note.system != facts.system:
        yield f"receive into {config.spool}, send every {config.wal.interval} s"


def differs(path: Path, text: str) -> bool:
    try:
        return filesystem.read_plain(path) != text.encode()
    except OSError:
        return True


def enable(run: Opened, log: Log, *, wait: float = _PATIENCE) -> Plan:
    """Carry out the plan; what is there already stays. Where the server refuses the receiver the role that was made for
    it is gone again. Returns the plan as it was before."""
    config, before = run.config, plan(run)
    server, facts, route = before.server, before.facts, before.way
    old = receiver.enabled(config)
    made = bool(route.container) and facts.role is None
    if made:
        receiver.make_role(server)
        log(f"made the role {ROLE}")
    try:
        receiver.try_connection(run, route, facts)
    except LifeboatError:
        if made:
            server.execute(f"DROP ROLE {ROLE};", attempted="take the role away again")
        raise
    set_now = facts.limit * _MEBI != before.limit
    note = Enabled(
        facts.system,
        before.limit,
        limit_set=set_now or bool(old and old.limit_set),
        role_made=made or bool(old and old.role_made),
        at=old.at if old else format_time(clock.now()),
    )
    receiver.remember(config, note)  # first: what is undone is what was noted
    if set_now:
        _set_limit(server, before.limit)
        log(f"max_slot_wal_keep_size is {human(before.limit)}")
    receiver.make_slot(server, facts, log)
    receiver.make_spool(config, facts.system, route.owner)
    start(units(config), log)
    _wait(config, note, wait, log)
    return before


def _set_limit(server: Server, limit: int) -> None:
    value = literal(f"{limit // _MEBI}MB")
    # ALTER SYSTEM runs outside of a transaction block: each statement by itself.
    server.execute(f"ALTER SYSTEM SET max_slot_wal_keep_size = {value};", attempted="bound what the slot may hold back")
    server.execute("SELECT to_json(pg_reload_conf());", attempted="reload the server's settings")


def start(texts: Mapping[Path, str], log: Log) -> None:
    """Write these units, by their files, and start those that are to be started."""
    changed = False
    for path, text in texts.items():
        if differs(path, text):
            changed = True
            with explained("write the unit", path):
                filesystem.write(path, text.encode(), path.with_name(f".{path.name}.new"))
                path.chmod(0o644)
    names = [path.name for path, text in texts.items() if "[Install]" in text]
    if changed:
        systemctl("daemon-reload")
    systemctl("enable", "--now", *names)
    if changed:
        systemctl("restart", *names)
    log(f"started {' and '.join(names)}")


def systemctl(*arguments: str) -> None:
    pipeline.run(
        [Command(["systemctl", *arguments])], attempted=f"{arguments[0]} the units",
        subject=" ".join(arguments[1:]) or "systemd", timeout=120, remedy="Look at `journalctl -u 'lifeboat-*'`.",
    )  # fmt: skip


def _wait(config: Config, note: Enabled, seconds: float, log: Log) -> None:
    """Until the first note of this server is in the repository."""
    began = time.monotonic()
    while True:
        state = send.ledger(config)
        if state and state.system == note.system and state.number and state.reached:
            log(f"any instant from {format_time(state.reached.at)} on is received; the sender has a base taken next")
            return
        if time.monotonic() - began >= seconds:
            raise UnverifiedError(
                ENABLE, config.stack, f"no WAL was sent within {seconds:.0f} s",
                f"Look at `journalctl -u lifeboat-wal-{config.stack} -u lifeboat-send-{config.stack}`, then run:"
                f" lifeboat wal status --stack {config.stack}",
            )  # fmt: skip
        clock.pause(began)


def renew(run: Opened, state: Ledger, log: Log) -> None:
    """Start a base where none leads on to what is received, as after a gap. The sender waits for none, and goes on
    whatever comes of it."""
    try:
        why = base.due(repositories.repository_of(run), state)
        if why and _try_again(run.config, why):
            log(f"a base is taken now: {why}")
            systemctl("start", "--no-block", _base_unit(run.config))
    except LifeboatError as exc:
        log(f"no base was started: {exc}")


def _try_again(config: Config, why: str) -> bool:
    """Whether the last try for that reason is so long ago that another one is due, which is noted. A new gap does not
    wait for what was tried, and was done, for the one before."""
    path, reason = config.state / _STARTED, why.encode()
    with contextlib.suppress(OSError):
        if filesystem.read_plain(path) == reason and 0 <= time.time() - path.stat().st_mtime < _AGAIN:
            return False
    filesystem.remember(path, reason, attempted="note that a base is started")
    return True


def disable(run: Opened, log: Log, *, dry_run: bool = False) -> list[str]:
    """Stop receiving, give the WAL that the server holds back free, and undo what `enable` did, no more. What was sent
    stays. The slot goes before anything else that could fail: it is what costs the server disk."""
    config, note = run.config, receiver.enabled(run.config)
    paths = [path for path in units(config) if os.path.lexists(path)]
    if note is None and not paths:
        return []
    server = database_server.of(run)
    facts = preflight.read(server)
    undone = _undoing(note, facts)
    steps = [
        *([f"stop {', '.join(path.name for path in paths)}"] if paths else []),
        *([f"drop the slot {SLOT}"] if facts.ours else []),
        *(step for step, _sql in undone),
        *(f"remove {path}" for path in paths),
    ]
    if dry_run:
        return steps
    if paths:  # first: a receiver that starts again would make the slot again
        systemctl("disable", "--now", *(path.name for path in paths))
    if _container(config):
        receiver.remove(config.stack)
    receiver.drop_slot(server)
    for step, statements in undone:
        for sql in statements:
            server.execute(sql, attempted=step)
    if receiver.spools(config) and send.ledger(config):
        send.send(run, log, close=True)
    _remove(config, paths)
    return steps


def remove(paths: Sequence[Path]) -> None:
    """Remove the files of units that were stopped."""
    for path in paths:
        with explained("remove the unit", path):
            path.unlink(missing_ok=True)
    if paths:
        systemctl("daemon-reload")


def _remove(config: Config, paths: Sequence[Path]) -> None:
    """What `enable` wrote on this host."""
    remove(paths)
    for folder in receiver.spools(config):
        with explained("remove the spool", folder):
            filesystem.remove(folder)
    receiver.remember(config, None)  # last: until then the same command continues


def _undoing(note: Optional[Enabled], facts: Facts) -> list[tuple[str, list[str]]]:
    """What `enable` did to the server besides the slot, and the SQL that undoes it."""
    undone: list[tuple[str, list[str]]] = []
    if note and note.limit_set and facts.limit * _MEBI == note.limit:  # else somebody has set another since
        reset = ["ALTER SYSTEM RESET max_slot_wal_keep_size;", "SELECT to_json(pg_reload_conf());"]
        undone.append(("reset max_slot_wal_keep_size", reset))
    if note and note.role_made and facts.role:
        undone.append((f"drop the role {ROLE}", [f"DROP ROLE {ROLE};"]))
    return undone


def mark(run: Opened, name: str) -> str:
    """Write a name into the WAL, by which its place is found again. Returns the LSN behind it."""
    if not name or len(name.encode()) > 63 or name != printable(name):
        cause = "a name has 1 to 63 bytes, all printable"
        raise UsageError("mark the WAL", repr(name)[:80], cause, "Write it like before-upgrade.")
    if receiver.enabled(run.config) is None:
        remedy = "Run: lifeboat wal enable."
        raise UsageError("mark the WAL", run.config.stack, "no WAL is received: the mark could not be gone to", remedy)
    server = database_server.of(run)
    sql = f"SELECT to_json(pg_create_restore_point({literal(name)})::text);"
    (position,) = database_server.answers(str, server.execute(sql, attempted=f"mark the WAL as {named(name)}"))
    return position


@dataclass(frozen=True)
class Standing:
    """How continuous protection stands. reached: every commit that was acknowledged before is in the repository."""

    checks: tuple[Check, ...]
    state: Optional[Ledger]
    copied: Optional[Copied] = None

    @property
    def verdict(self) -> str:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, object]:
        reached = self.state.reached if self.state else None
        return {
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
            "reached": _reached(reached),
            "span": self.state.span if self.state else "",
            "off_the_host": _reached(self.copied.reached if self.copied else None),
            "gaps": [
                {"timeline": gap.timeline, "from": gap.start, "to": gap.end, "why": gap.why}
                for gap in (self.state.gaps if self.state else ())
            ],
        }


def _reached(reached: Optional[Reached]) -> Optional[dict[str, str]]:
    return {"at": format_time(reached.at), "lsn": reached.lsn} if reached else None


def status(run: Opened, now: datetime, patience: float = 60) -> Standing:
    """What was not checked does not pass: where the server does not answer, its checks could not be made. patience:
    seconds for its answer."""
    config = run.config
    note = receiver.enabled(config)
    state, copied = send.ledger(config), vault.copied(config)
    if note is None:
        detail = "continuous protection is not enabled: lifeboat wal enable"
        return Standing((Check("wal", FAIL if config.wal.enabled else PASS, detail),), state, copied)
    checks: list[Check] = []
    try:
        server = database_server.of(run)
        checks += _of_server(preflight.read(server, patience), note)
    except LifeboatError as exc:
        checks.append(Check(RECEIVER, COULD_NOT_VERIFY, f"the server does not answer: {exc.cause}"))
    checks.append(_behind(config, state, now))
    checks.append(_off_the_host(run, state, copied, now))
    checks.append(_base(run, state))
    checks.append(_gaps(run, state))
    checks.append(_spool(config))
    return Standing(tuple(checks), state, copied)


def _of_server(facts: Facts, note: Enabled) -> Iterator[Check]:
    slot = facts.ours
    if facts.system != note.system:
        detail = f"the server is {facts.system}, and {note.system} is received: the receiver changes over by itself"
        yield Check(RECEIVER, FAIL, detail)
        return
    if slot is None or slot.lost:
        detail = f"is lost: {slot.why_lost}" if slot else "is not there"
        yield Check("wal slot", FAIL, f"the slot {SLOT} {detail}; the receiver makes it again, with a gap")
        return
    if slot.theirs:
        yield Check(RECEIVER, FAIL, f"another receiver has the slot: {slot.theirs}")
    elif slot.pid is None:
        yield Check(RECEIVER, FAIL, f"nothing receives; the slot holds WAL back since {slot.restart}")
    else:
        yield Check(RECEIVER, PASS, f"receives, from {slot.restart} on")
    if slot.safe is None:
        yield Check("wal slot", FAIL, "max_slot_wal_keep_size is not set: a receiver that is away could fill the disk")
    else:
        half = note.limit // 2
        words = f"{human(slot.safe)} more may be written before the slot is lost, of {human(note.limit)}"
        yield Check("wal slot", PASS if slot.safe >= half else FAIL, words)
    if facts.idle_timeout:
        yield Check("wal slot", FAIL, f"idle_replication_slot_timeout is {facts.idle_timeout} s: set it to 0")


def _behind(config: Config, state: Optional[Ledger], now: datetime) -> Check:
    reached = state.reached if state else None
    if reached is None:
        return Check("wal behind", FAIL, "nothing was sent yet")
    return _in_time(config, "wal behind", reached, "in the repository", now)


def _in_time(config: Config, name: str, reached: Reached, where: str, now: datetime, wrong: str = "") -> Check:
    """Where wrong says why, it fails however young that is."""
    age = (now - reached.at).total_seconds()
    words = f"every commit before {format_time(reached.at)} ({reached.lsn}) is {where}{wrong and f'; {wrong}'}"
    good = -60 <= age <= config.wal.alarm_seconds and not wrong
    return Check(name, PASS if good else FAIL, words, round(age, 1), config.wal.alarm_seconds, "s")


def _off_the_host(run: Opened, state: Optional[Ledger], copied: Optional[Copied], now: datetime) -> Check:
    """By what was sent to the vault, which is not asked: that is done every pass. A repository in a bucket is off the
    host itself."""
    config, name = run.config, OFF_THE_HOST
    try:
        store = copies.vault(run)
    except LifeboatError as exc:
        return Check(name, FAIL, f"{copies.location(config)}: {exc.cause}")
    if store is None and isinstance(config.repository, S3Settings):
        if state is None or state.reached is None:
            return Check(name, FAIL, "nothing was sent yet")
        return _in_time(config, name, state.reached, f"in {repositories.repository_of(run).address}", now)
    if store is None:
        words = "there is no vault that this host sends to; where a keeper pulls, it says: lifeboat keeper status"
        return Check(name, COULD_NOT_VERIFY, words)
    if copied is None or copied.reached is None:
        failed = f": {copied.failed}" if copied and copied.failed else ""
        return Check(name, FAIL, f"nothing is in {copies.location(config)} yet{failed}")
    where = f"in {copied.location}" + (f"; the last attempt failed: {copied.failed}" if copied.failed else "")
    return _in_time(config, name, copied.reached, where, now, copied.lacks)


def _base(run: Opened, state: Optional[Ledger]) -> Check:
    """Whether the newest instant can be gone back to, by what lies in the repository."""
    try:
        why = base.due(repositories.repository_of(run), state) if state else "nothing was sent yet"
    except LifeboatError as exc:
        return Check("wal base", COULD_NOT_VERIFY, str(exc))
    if why:
        return Check("wal base", FAIL, f"{why}; the sender has one taken: journalctl -u {_base_unit(run.config)}")
    return Check("wal base", PASS, "the newest one leads on to what is received")


def _gaps(run: Opened, state: Optional[Ledger]) -> Check:
    """Those that no base lies behind. One that is closed stays on record, and the window begins behind it."""
    gaps = state.gaps if state else ()
    try:
        behind = base.open_gaps(repositories.repository_of(run), state) if state and gaps else []
    except LifeboatError as exc:
        return Check("wal gaps", COULD_NOT_VERIFY, str(exc))
    words = "; ".join(f"from {gap.start} to {gap.end or 'another server'}: {gap.why}" for gap in (behind or gaps)[-3:])
    if behind:
        return Check("wal gaps", FAIL, words)
    return Check("wal gaps", PASS, f"closed by a base: {words}" if words else "none")


def _spool(config: Config) -> Check:
    limit = int(parse_rate(config.wal.spool_limit))
    used = watch.size(str(config.spool)) if config.spool.is_dir() else 0
    words = f"{human(used)} in {config.spool}, of at most {human(limit)}"
    return Check("wal spool", PASS if used < limit // 2 else FAIL, words)
