# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat changes`: the objects between two backups, as an operator and the units call it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..base import clock, lock, text
from ..base.checks import CODES
from ..base.clock import format_time
from ..base.errors import Log
from ..operations import following
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from .report import Answer

ACTIONS = {
    "status": "say until when changes are written down (the default)",
    "enable": "see what is in the way, start the timer",
    "disable": "stop the timer; what was written down stays",
    "look": "for its timer: write down what changed, where it is time for that; with --now in any case",
}


def options(parser: argparse.ArgumentParser) -> None:
    help_text = "; ".join(f"{name}: {words}" for name, words in ACTIONS.items())
    parser.add_argument("action", nargs="?", choices=list(ACTIONS), default="status", help=help_text)
    parser.add_argument("--dry-run", action="store_true", help="enable, disable: print the steps, change nothing")
    parser.add_argument("--now", action="store_true", help="look: although it is not time for it")


def run(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    return _ACTIONS[arguments.action](run, arguments, log)


def _status(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    del arguments, log
    found = following.status(run, clock.now())
    if not found.checks:
        return 0, found.as_dict(), ["the objects are not followed: lifeboat_objects.changes_seconds is 0"]
    shown = [*text.checks(found.checks), f"{found.verdict}  {run.config.stack}"]
    return CODES[found.verdict], found.as_dict(), shown


def _switch(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    switch = following.enable if arguments.action == "enable" else following.disable
    with lock.held(run.config.stack, f"changes {arguments.action}", wait=60):
        steps = switch(run, log, dry_run=arguments.dry_run)
    shown = [f"{'would ' if arguments.dry_run else ''}{step}" for step in steps] or ["nothing to do"]
    return 0, {"changed": bool(steps), "steps": steps}, shown


def _observe(run: Opened, arguments: argparse.Namespace, log: Log) -> Answer:
    state = following.observe(run, clock.now(), log, force=arguments.now)
    if state is None:
        return 0, {"looked": False}, ["there was no look"]
    reached = format_time(state.reached.at)
    result = {"looked": True, "reached": reached, "changes": state.changes, "objects": state.objects}
    return 0, result, [f"{state.changes} changes of {state.objects} objects, until {reached}"]


_ACTIONS = {"status": _status, "enable": _switch, "disable": _switch, "look": _observe}
