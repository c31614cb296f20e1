# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The instant before a drill's fault, found in the WAL as an operator finds it: by `lifeboat when`."""

from __future__ import annotations

import time
from datetime import datetime

from ..base import clock
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..database.wal import send
from ..evidence.drill import Loss
from ..operations import following, instants
from ..settings import scenarios
from ..settings.config import Config
from ..stack.runtime import Opened
from ..wal.segments import format_lsn

# After these faults the server answers, and how it was before the loss is in its WAL alone.
LIVING = ("table_dropped", "database_dropped", "slot_lost")
SENT = 120.0  # seconds until what was committed is in the repository; the receiver has it within one
_AGAIN = 0.5


def named(config: Config, scenario: str, fault: str) -> bool:
    """Whether an operator would name an instant after that fault: the server lives, so that nothing else says what it
    is to go back to. A server that is lost goes to the latest instant by itself."""
    return config.wal.enabled and scenario == scenarios.DATABASE and fault in LIVING


def find(run: Opened, fault: str, since: datetime, *, log: Log, patience: float = SENT) -> Loss:
    """Return what `lifeboat when` says of the first loss since then. The objects are looked at, too, where they are
    followed, so that they can be had of the same instant. Raises LifeboatError where the fault is not in the WAL."""
    config = run.config
    send_until(run, clock.now(), log, patience)
    events = [event for event in instants.happened(run, log, since=since, rows=0) if event.at >= since]
    if not events:
        cause = f"the WAL names no loss since {clock.format_time(since)}, though this was broken: {fault}"
        raise UnverifiedError("find the instant before the fault", config.stack, cause)
    event = events[0]
    for row in instants.event_lines(config.stack, event):
        log(row.strip())
    if config.objects.changes_seconds:
        following.observe(run, clock.now(), log, force=True)
    return Loss(
        event.what, event.names, event.xid, event.at, format_lsn(event.lsn), event.timeline,
        instants.command(config.stack, event),
    )  # fmt: skip


def send_until(run: Opened, until: datetime, log: Log, patience: float = SENT) -> None:
    """Do what the timer does every `interval` seconds, until every commit before then is in the repository."""
    deadline = time.monotonic() + patience
    while True:
        state = send.send(run, log)
        if state.reached and state.reached.at >= until:
            return
        if time.monotonic() >= deadline:
            cause = f"not every commit before {clock.format_time(until)} was received"
            raise LifeboatError("send the WAL", run.config.stack, cause, "See lifeboat wal status.")
        time.sleep(_AGAIN)
