# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat wal` and `lifeboat mark`: continuous protection, as an operator and the units call it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..base import clock, lock, text
from ..base.checks import CODES
from ..base.clock import format_time
from ..base.errors import Log
from ..database.wal import base, receiver, send
from ..operations import continuous
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from .report import Answer

ACTIONS = {
    "status": "say how it stands; fails when a commit could be lost (the default)",
    "enable": "see what is in the way, make role and slot, start the units",
    "disable": "stop the units, drop the slot, undo what enable did; what was sent stays",
    "base": "copy the server's files, from which the WAL leads on",
    "receive": "for its unit: receive until the connection ends",
    "send": "for its timer: send what was received",
}


def options(parser: argparse.ArgumentParser) -> None:
    help_text = "; ".join(f"{name}: {words}" for name, words in ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=list(ACTIONS), default="status", help=help_text)
    parser.add_argument("--dry-run", action="store_true", help="enable, disable: print the steps, change nothing")


def mark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what this instant is called, such as before-upgrade")


def run(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    return _ACTIONS[arguments.action](run, arguments, log)


def mark(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    position = continuous.mark(run, arguments.name)
    return 0, {"name": arguments.name, "lsn": position}, [f"{arguments.name} is at {position}"]


def _status(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    standing = continuous.status(run, clock.now())
    shown = [*text.checks(standing.checks), f"{standing.verdict}  {run.config.stack}"]
    return CODES[standing.verdict], standing.as_dict(), shown


def _enable(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    if arguments.dry_run:
        plan = continuous.plan(run)
        return 0, plan.as_dict(), [f"would {step}" for step in plan.steps] or ["nothing to do: it is enabled"]
    with lock.held(run.config.stack, "wal enable", wait=60):
        plan = continuous.enable(run, log)
    return 0, plan.as_dict(), list(plan.steps) or ["nothing to do: it is enabled"]


def _disable(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    steps = continuous.disable(run, log, dry_run=arguments.dry_run)
    word = "would " if arguments.dry_run else ""
    shown = [f"{word}{step}" for step in steps] or ["nothing to do: it is not enabled"]
    return 0, {"changed": bool(steps), "steps": steps}, shown


def _receive(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    receiver.receive(run, log)


def _send(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    state = send.send(run, log)
    reached = state.reached
    result = {"span": state.span, "number": state.number, "position": state.position}
    return 0, result, [f"sent until {reached.lsn}, {format_time(reached.at)}" if reached else "nothing was sent"]


def _base(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    manifest = base.take(run, log)
    return 0, {"id": manifest.id, "bytes": manifest.size}, [f"{manifest.id}: {text.human(manifest.size)}"]


_ACTIONS = {
    "status": _status, "enable": _enable, "disable": _disable, "base": _base, "receive": _receive, "send": _send,
}  # fmt: skip
