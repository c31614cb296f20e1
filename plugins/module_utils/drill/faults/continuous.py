# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to continuous protection, unnoticed, before something happens to the database itself.

What goes wrong first loses no data; its proof is that `lifeboat status` said so, which is what an operator has.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ...base import clock
from ...base.checks import FAIL, PASS, Check
from ...base.clock import format_time
from ...base.errors import Log, UsageError
from ...base.text import human
from ...database import server as database_server
from ...database.server import Server, answers
from ...database.wal import preflight, receiver, send
from ...database.wal.preflight import SLOT
from ...operations import continuous, instants
from ...repository.details import Gap
from ...settings import scenarios
from ...settings.config import Config
from ...stack.runtime import Opened
from ...wal.instants import At
from ...wal.segments import format_lsn
from .. import instant
from . import database
from . import service as drill_service
from .service import did_not_take

AWAY = 20.0  # seconds under load without a receiver, before it is back and again before the loss
_NOTICED = 15.0  # seconds until status says what happened
_OVERWRITTEN = 60.0  # seconds until the server has removed WAL that no slot holds back
_BACK = 90.0  # seconds until the receiver receives again
_BASE = 300.0  # seconds until the watch has had a base taken, besides its interval
_AGAIN = 0.5
_RECEIVER, _SLOT = continuous.RECEIVER, "wal slot"  # checks of status
_STANDING = (_RECEIVER, _SLOT, "wal base", "wal gaps")

_LACKING = f"""SELECT jsonb_build_object('bytes', pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::bigint,
  'position', restart_lsn::text) FROM pg_replication_slots WHERE slot_name = '{SLOT}';"""


@dataclass(frozen=True)
class _Lacking:
    """What the server wrote behind what was received, which its slot keeps. position: where that begins."""

    bytes: int
    position: str


@contextlib.contextmanager
def receiver_away(run: Opened, log: Log) -> Iterator[str]:
    """The receiver is killed and kept from starting, twice, under load. The first time it comes back, and must find in
    the slot all that it missed; the second time it is away until the database is lost."""
    server, config = database_server.of(run), run.config
    with _started_again(config):
        first = _killed(run, server)
        time.sleep(AWAY)
        lacking, until = _lacking(server), send.ask(server).at
    log(f"the receiver starts again: the slot holds {human(lacking.bytes)} for it")
    _await(run, (_RECEIVER,), _BACK)
    instant.send_until(run, until, log)
    log(f"every commit before {format_time(until)} is in the repository")
    with _started_again(config):
        second = _killed(run, server)
        time.sleep(AWAY)
        yield (
            f"the receiver was killed and away for {AWAY:.0f} s, status said: {first}; the slot held"
            f" {human(lacking.bytes)} meanwhile, and all of it arrived when the receiver was back: nothing was lost;"
            f" killed again {AWAY:.0f} s before the loss, status said: {second}"
        )


def lose(run: Opened, lot: random.Random, log: Log) -> str:
    """The data directory goes, and with it what the slot held for a receiver that is away."""
    server = database_server.of(run)
    slot = preflight.read(server).ours
    if slot is None or slot.pid is not None:
        raise did_not_take(continuous.receiver_unit(run.config), "something receives")
    lacking = _lacking(server)
    if lacking.bytes <= 0:
        raise did_not_take(SLOT, "all that the server wrote was received: there is nothing to lose")
    proof = database.empty(run, lot, log)
    return f"{proof}; {human(lacking.bytes)} of WAL from {lacking.position} on was in its slot only, and never arrived"


@contextlib.contextmanager
def slot_dropped(run: Opened, log: Log) -> Iterator[str]:
    """Somebody drops the slot while nothing receives, and the server removes WAL that was not received. The unit makes
    another slot, the sender records a gap and has a base taken: by themselves, as at night."""
    server, config = database_server.of(run), run.config
    known = _gaps(config)
    with _started_again(config):
        _require_receiver(run, server)
        continuous.systemctl("stop", continuous.receiver_unit(config))
        receiver.drop_slot(server)
        warned = _fails(run, _SLOT)
        log(f"the slot is dropped, status says: {warned}")
        during = _overwritten(run, server)
    gap = _recorded(run, known, log)
    refusal = _refused(run, gap, during)
    yield (
        f"the slot {SLOT} was dropped, status said: {warned}; the WAL from {gap.start} to {gap.end} was never received;"
        f" another slot was made and a base taken since; the window says: {refusal}"
    )


# --- how it is done, and seen ---


@contextlib.contextmanager
def _started_again(config: Config) -> Iterator[None]:
    """Whatever happens inside: a stack is not left without its receiver. After a loss it waits for the server."""
    try:
        yield
    finally:
        continuous.systemctl("start", "--no-block", continuous.receiver_unit(config))


def _require_receiver(run: Opened, server: Server) -> None:
    slot = preflight.read(server).ours
    if slot is None or slot.pid is None or slot.theirs:
        cause = "the receiver does not receive: nothing of it can be broken"
        raise UsageError("break continuous protection", run.config.stack, cause, "See lifeboat wal status.")


def _killed(run: Opened, server: Server) -> str:
    """SIGKILL, and the unit that would start it again is stopped. Returns what status says then."""
    _require_receiver(run, server)
    unit = continuous.receiver_unit(run.config)
    if run.config.runtime.type == "compose":
        drill_service.docker("kill the receiver", unit, "kill", f"lifeboat-wal-{run.config.stack}")
    else:
        continuous.systemctl("kill", "--signal=KILL", unit)
    continuous.systemctl("stop", unit)
    return _fails(run, _RECEIVER)


def _fails(run: Opened, name: str) -> str:
    """What that check of status says, which must be FAIL: an operator would have been told before anything is lost."""
    deadline = time.monotonic() + _NOTICED
    while True:
        check = _checks(run, (name,))[0]
        if check.result == FAIL:
            return f"{check.result} {check.name}: {check.detail}"
        if time.monotonic() >= deadline:
            cause = f"it says {check.result} {check.name}: {check.detail or 'nothing'}"
            raise did_not_take("lifeboat status", cause)
        time.sleep(_AGAIN)


def _checks(run: Opened, names: tuple[str, ...]) -> list[Check]:
    """Those checks of status, the worst of each name; one that was not made is no PASS."""
    checks = [check for check in continuous.status(run, clock.now()).checks if check.kind in names]
    worst = {check.kind: check for check in sorted(checks, key=lambda check: check.result != PASS)}
    return [worst.get(name, Check(name, FAIL, "was not made")) for name in names]


def _await(run: Opened, names: tuple[str, ...], seconds: float) -> None:
    """Wait until those checks pass."""
    deadline = time.monotonic() + seconds
    while bad := [check for check in _checks(run, names) if check.result != PASS]:
        if time.monotonic() >= deadline:
            raise did_not_take(
                "continuous protection", "; ".join(f"{check.name}: {check.detail}" for check in bad)
            )  # fmt: skip
        time.sleep(_AGAIN)


def _lacking(server: Server) -> _Lacking:
    found = answers(_Lacking, server.execute(_LACKING, attempted="ask what the slot holds", timeout=60))
    if not found:
        raise did_not_take(SLOT, "the slot is not there")
    return found[0]


def _gaps(config: Config) -> tuple[Gap, ...]:
    state = send.ledger(config)
    return state.gaps if state else ()


def _overwritten(run: Opened, server: Server) -> datetime:
    """Have the server write on until it has removed what follows on what was received. Returns a time in between."""
    facts, folder = preflight.read(server), receiver.spools(run.config)[-1]
    deadline = time.monotonic() + _OVERWRITTEN
    while not receiver.broken(server, facts, folder):
        if time.monotonic() >= deadline:
            others = ", ".join(facts.others_slots)
            cause = "the server keeps the WAL that follows on what was received"
            raise did_not_take(SLOT, f"{cause}: for the slots {others}" if others else cause)
        for sql in ("SELECT to_json(pg_switch_wal()::text);", "CHECKPOINT;"):
            server.execute(sql, attempted="have the server go on in its WAL", timeout=120)
    return clock.now()


def _recorded(run: Opened, known: tuple[Gap, ...], log: Log) -> Gap:
    """Wait until the sender has recorded the gap and a base lies behind it; nothing of that is done here."""
    deadline = time.monotonic() + _BASE + 2 * run.config.wal.interval
    while not (fresh := [gap for gap in _gaps(run.config) if gap not in known]):
        if time.monotonic() >= deadline:
            raise did_not_take(SLOT, "no gap was recorded")
        time.sleep(_AGAIN)
    log(f"a gap from {fresh[-1].start} to {fresh[-1].end} is recorded: {fresh[-1].why}")
    _await(run, _STANDING, max(1.0, deadline - time.monotonic()))
    return fresh[-1]


def _refused(run: Opened, gap: Gap, during: datetime) -> str:
    """What the window says of the hole: it must be in it, and no instant inside may be offered. That is asked when the
    WAL leads on behind the hole: before that, whatever came after what was received would be refused."""
    deadline = time.monotonic() + _BACK + 2 * run.config.wal.interval
    catalogue = instants.known(run).catalogue
    while not any(window.since > during for window in catalogue.windows):
        if time.monotonic() >= deadline:
            cause = f"nothing behind the gap from {gap.start} to {gap.end} can be gone back to"
            raise did_not_take("the window", cause)
        time.sleep(_AGAIN)
        catalogue = instants.known(run).catalogue
    holes = [window.run.hole for window in catalogue.windows if window.run.hole]
    if not any((format_lsn(hole.start), format_lsn(hole.end)) == (gap.start, gap.end) for hole in holes):
        raise did_not_take("the window", f"it does not say the gap from {gap.start} to {gap.end}")
    try:
        route = catalogue.route(At(during), clock.now(), 0)
    except UsageError as exc:
        return f"{format_time(during)}: {exc.cause}"
    raise did_not_take("the window", f"{format_time(during)} lies in the gap, and {route.base.id} would lead there")


SCENARIO = scenarios.DATABASE
FAULTS = (
    (
        "receiver_killed",
        "what receives the WAL is killed and kept from starting; then the server is killed, and everything in its data"
        " directory is deleted",
        lose, receiver_away,
    ),
    (
        "slot_lost",
        "the replication slot is dropped, so that WAL is missing; then the largest table is dropped, with all that"
        " depends on it",
        database.drop_table, slot_dropped,
    ),
)  # fmt: skip
