# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`lifeboat metrics`, and what a stack that is monitored gets after each run of scheduled work."""

from __future__ import annotations

import argparse
import contextlib
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Callable, Optional

from ..base.errors import LifeboatError, Log
from ..operations import heartbeat, metrics, notify, runs
from ..stack.runtime import Opened

if TYPE_CHECKING:
    from .report import Answer

_HELD = 4  # another run holds the lock: nothing was tried, and what that run does is what counts


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stdout", action="store_true", help="print them, although a textfile directory is configured")
    parser.add_argument(
        "--ask", action="store_true",
        help="also ask the vault, the database and the engine, which takes longer, and remember what they say",
    )  # fmt: skip


def show(run: Opened, arguments: argparse.Namespace) -> Answer:
    text = metrics.textfile(run, now=_now(), ask=arguments.ask)
    if arguments.stdout or not run.config.monitoring.textfile_directory:
        return 0, {"metrics": text}, text.splitlines()
    path = str(metrics.write(run.config, text))
    return 0, {"path": path}, [f"written to {path}"]


def reported(run: Opened, name: str, work: Callable[[], Answer], warn: Log) -> Answer:
    """Do the work; then tell how it ended, and renew the metrics. What fails of that never fails the work.

    run: opened for the metrics alone, which tell of what is there after the work.
    """
    began, told = _now(), list[str]()
    code: Optional[int] = None
    # Somebody at a terminal sees how it ends, and must not hide from the switch that cron is dead.
    heard = heartbeat.Heartbeat(run.config, name, began, warn) if run.config.heard and not _typed() else None
    metered = bool(run.config.monitoring.textfile_directory) and not run.config.keeper.directory
    if metered:
        _noted(warn, lambda: runs.begin(run.config, name, began))
    try:
        with runs.noted(run.config, name, began) if metered else contextlib.nullcontext():
            answer = work()
        code, told = answer[0], answer[2]
        return answer
    except LifeboatError as exc:
        code, told = exc.exit_code, [str(exc)]
        raise
    finally:
        if heard is not None:
            heard.ended(code, _now(), told)
        if run.config.notify and not run.config.keeper.directory:
            notify.ended(run.config, name, code, told, _now(), warn, quiet=_typed())
        # A keeper tells nothing of the stack itself: `lifeboat keeper metrics` is its own.
        if metered:
            _noted(warn, lambda: runs.end(run.config, name, tried=code != _HELD))
        if metered and code != _HELD:
            try:
                runs.remember(run.config, name, LifeboatError.exit_code if code is None else code, began, _now())
                metrics.write(run.config, metrics.textfile(run, now=_now(), again=True))
            except LifeboatError as exc:
                warn(f"the metrics are not renewed: {exc}")


def _noted(warn: Log, note: Callable[[], None]) -> None:
    try:
        note()
    except LifeboatError as exc:
        warn(f"that the run is killed would not be seen: {exc}")


def _typed() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _now() -> datetime:
    return datetime.now(timezone.utc)
