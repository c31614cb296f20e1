# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat keeper`: what a keeper's timer runs, and what its operator types."""

from __future__ import annotations

import argparse
import os
import pwd
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import clock, lock
from ..base.checks import CODES
from ..base.errors import LifeboatError, Log, UsageError
from ..keeper import follow, metrics, prune, receipts, receive, status
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from .report import Answer

ACTIONS = {
    "pull": "receive what the stack's host has published since the last pull",
    "follow": "receive what the stack's host has written of WAL since the last minute",
    "status": "say whether the keeper has what it should; fails when it has not (the default)",
    "metrics": "tell Prometheus how it stands, by monitoring.textfile_directory; prints it where that is not set",
    "prune": "apply the retention by the time of receipt; nothing is deleted while there is an alarm",
    "log": "read the log of receipts to its end, compare every line with the one before, print its head",
    "acknowledge": "say that you have looked at the alarms: what was seen up to now is none any more",
}


def options(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=list(ACTIONS), default="status", help=words)
    parser.add_argument("--prune", action="store_true", help="pull: apply the retention afterwards, if it was whole")
    parser.add_argument(
        "--override", type=int, default=0, metavar="NUMBER",
        help="pull: so many objects of the store may be removed or overwritten beyond the limit, this once",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="prune: print the plan, delete nothing")
    parser.add_argument(
        "--head", default="", metavar="NUMBER:SHA256", help="log: a head that was noted; it must be in it"
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="acknowledge: what you found; it stays in the log")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait for the lock this long")


def run(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    if not run.config.keeper.directory:
        raise UsageError(
            "run the keeper", run.config.stack, "this host is no keeper of that stack: keeper.directory is not set",
            "Run it on the keeper's host, which lifeboat.dr.keeper sets up.",
        )  # fmt: skip
    return _ACTIONS[arguments.action](run, arguments, log)


def _pull(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    with _locked(run, "keeper pull", arguments.wait):
        try:
            source = receive.reach(run.config.keeper, store=bool(run.config.objects.bucket))
        except LifeboatError as exc:
            receive.unreached(run, exc)
            raise
        with source:
            pulled = receive.pull(run, source, log=log, override=arguments.override)
        shown, result = pulled.lines(), pulled.as_dict()
        problem = pulled.problem or pulled.mirrored.problem
        if problem:
            return problem.exit_code, result, [*shown, str(problem)]
        code = 0
        if arguments.prune:
            code, result["prune"], more = _retain(run, False, log)
            shown += more
    return code, result, shown


def _follow(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    config = run.config
    if not config.wal.enabled:
        remedy = "Set lifeboat_wal: {enabled: true} and run lifeboat.dr.keeper."
        raise UsageError("follow the WAL of the stack's host", config.stack, "wal.enabled is false here", remedy)
    _require_owner(Path(config.keeper.directory))
    with follow.locked(config):
        try:
            source = follow.reach(config.keeper)
        except LifeboatError as exc:
            follow.unreached(run, exc)
            raise
        with source:
            done = follow.follow(run, source, log=log)
    problem = done.problem
    return (problem.exit_code if problem else 0), done.as_dict(), [*done.lines(), *([str(problem)] if problem else [])]


def _prune(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    with _locked(run, "keeper prune", arguments.wait):
        return _retain(run, arguments.dry_run, log)


def _retain(run: Opened, dry_run: bool, log: Log) -> Answer:
    found = prune.prune(run, now=clock.now(), dry_run=dry_run, log=log)
    shown = prune.lines(found, "would delete" if dry_run else "deleted")
    if found.alarms:
        error = prune.alarm(run.config.stack, found.alarms)
        return error.exit_code, found.as_dict(), [*shown, str(error)]
    if found.failed:
        return LifeboatError.exit_code, found.as_dict(), [*shown, *found.failed]
    return 0, found.as_dict(), shown


def _status(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    found = status.status(run, now=clock.now())
    return CODES[found.verdict], found.as_dict(), found.lines()


def _metrics(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    """By root and not by the keeper's user, who may write nothing that node_exporter reads."""
    text = metrics.textfile(run, now=clock.now())
    if not run.config.monitoring.textfile_directory:
        return 0, {"metrics": text}, text.splitlines()
    path = str(metrics.write(run.config, text))
    return 0, {"path": path}, [f"written to {path}"]


def _log(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    found = receipts.load(Path(run.config.keeper.directory))
    if arguments.head:
        receipts.check_head(found, arguments.head)
    noted = f", and the noted line {arguments.head.partition(':')[0]} is in it" if arguments.head else ""
    result = {"lines": len(found), "head": status.head(found)}
    return 0, result, [f"{len(found)} lines, each tied to the one before{noted}", f"head {result['head']}"]


def _acknowledge(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    if not arguments.why:
        raise UsageError(
            "acknowledge the alarms",
            run.config.stack,
            "what you found is not said",
            "Add --why '...': it stays in the log.",
        )
    with _locked(run, "keeper acknowledge", arguments.wait):
        record = status.acknowledge(run, arguments.why, now=clock.now())
    return 0, {"number": record.number}, [f"acknowledged, line {record.number} of the log"]


def _locked(run: Opened, purpose: str, wait: float) -> AbstractContextManager[None]:
    """Hold the stack's lock on this keeper: in the keeper's directory, which its unprivileged user may write to."""
    directory = Path(run.config.keeper.directory)
    _require_owner(directory)
    return lock.held(run.config.stack, purpose, wait=wait, directory=directory)


def _require_owner(directory: Path) -> None:
    if not directory.is_dir():
        remedy = "Run lifeboat.dr.keeper for this host, or mount the disk."
        raise UsageError("run the keeper", str(directory), "the keeper's directory is not there", remedy)
    owner = directory.stat().st_uid
    if owner != os.geteuid():  # what another user wrote there, the timer's user could not read
        name = _name(owner)
        raise UsageError(
            "run the keeper", str(directory), f"it is the user {name}'s, and this is {_name(os.geteuid())}",
            f"Run it as that user: sudo -u {name} lifeboat keeper …",
        )  # fmt: skip


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


_ACTIONS = {
    "pull": _pull,
    "follow": _follow,
    "status": _status,
    "metrics": _metrics,
    "prune": _prune,
    "log": _log,
    "acknowledge": _acknowledge,
}
