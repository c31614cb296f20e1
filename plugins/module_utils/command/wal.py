# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat wal`, `mark` and `when`: continuous protection, as an operator and the units call it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..base import clock, lock, text
from ..base.checks import CODES
from ..base.clock import format_time
from ..base.errors import Log, UsageError
from ..database.wal import base, receiver, send
from ..operations import continuous, instants
from ..repository import sources
from ..stack.runtime import Opened
from ..wal import instants as wal_instants

if TYPE_CHECKING:
    from .report import Answer

ACTIONS = {
    "status": "say how it stands; fails when a commit could be lost (the default)",
    "enable": "see what is in the way, make role and slot, start the units",
    "disable": "stop the units, drop the slot, undo what enable did; what was sent stays",
    "base": "copy the server's files, from which the WAL leads on",
    "instants": "list what can be gone back to",
    "verify": "stand a throw-away server at an instant (--at or --before; else at the latest one), and remove it",
    "dump": "the like, and take a backup of the databases as they were then, to be recovered by its name",
    "receive": "for its unit: receive until the connection ends",
    "send": "for its timer: send what was received",
}


def options(parser: argparse.ArgumentParser) -> None:
    help_text = "; ".join(f"{name}: {words}" for name, words in ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=list(ACTIONS), default="status", help=help_text)
    parser.add_argument("--dry-run", action="store_true", help="enable, disable: print the steps, change nothing")
    parser.add_argument(
        "--at", default="", metavar="TIME", help="verify, dump: what was committed before this time; or latest"
    )
    parser.add_argument(
        "--before",
        default="",
        metavar="WHAT",
        help="verify, dump: a position, a transaction, a table's last loss (schema.name), or mark:NAME",
    )
    parser.add_argument(
        "--timeline", type=int, default=0, help="verify, dump: the one that is meant, where two lived then"
    )
    parser.add_argument(
        "--from", dest="source", choices=sources.LIVE, default=sources.REPOSITORY,
        help="instants, verify, dump: read the bases and the WAL there (default: repository)",
    )  # fmt: skip


def mark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what this instant is called, such as before-upgrade")


def when_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", default="", metavar="NAME", help="only what was done to it; written as schema.name")
    parser.add_argument("--since", default="2h", help="how far back to look: 2h, 7d, or a time (default: 2h)")
    parser.add_argument(
        "--rows", type=int, default=instants.ROWS, metavar="N",
        help=f"list a DELETE or UPDATE of so many rows (default: {instants.ROWS}); 0: none, which is ten times as fast",
    )  # fmt: skip
    parser.add_argument("--timeline", type=int, default=0, help="look there, and not on the newest timeline")


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
    continuous.renew(run, state, log)
    reached = state.reached
    result = {"span": state.span, "number": state.number, "position": state.position}
    return 0, result, [f"sent until {reached.lsn}, {format_time(reached.at)}" if reached else "nothing was sent"]


def _base(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    manifest = base.take(run, log)
    return 0, {"id": manifest.id, "bytes": manifest.size}, [f"{manifest.id}: {text.human(manifest.size)}"]


def _instants(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    known = instants.known(run, arguments.source)
    return 0, known.as_dict(), known.lines()


def _instant(arguments: argparse.Namespace) -> wal_instants.Instant:
    if arguments.at and arguments.before:
        raise UsageError("read the instant", arguments.at, "--at and --before are two instants", "Name one of them.")
    if arguments.before:
        return wal_instants.parse_before(arguments.before)
    return wal_instants.parse(arguments.at or wal_instants.LATEST_WORD)


def _verify(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    stood = instants.stand(run, _instant(arguments), log, arguments.timeline, arguments.source)
    return 0, stood.as_dict(), stood.lines()


def _dump(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    manifest = instants.dump(run, _instant(arguments), log, arguments.timeline, arguments.source)
    at = format_time(manifest.taken_at)
    shown = [
        f"{manifest.id}: the databases as they were at {at}, {text.human(manifest.size)}",
        f"  bring them back: lifeboat recover database -e recovery_point={manifest.id}",
    ]
    return 0, {"id": manifest.id, "taken_at": at, "bytes": manifest.size}, shown


def when(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    since = instants.moment(arguments.since, clock.now())
    events = instants.happened(
        run, log, since=since, table=arguments.table, rows=arguments.rows, timeline=arguments.timeline
    )
    stack = run.config.stack
    shown = [row for event in events for row in instants.event_lines(stack, event)]
    nothing = f"nothing was dropped, truncated, deleted or updated in bulk since {format_time(since)}"
    return 0, {"events": [instants.event_dict(stack, event) for event in events]}, shown or [nothing]


_ACTIONS = {
    "instants": _instants, "verify": _verify, "dump": _dump,
    "status": _status, "enable": _enable, "disable": _disable, "base": _base, "receive": _receive, "send": _send,
}  # fmt: skip
