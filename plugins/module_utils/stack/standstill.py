# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services that stand still for a while: paused or stopped, for so long at most, and let go also when we are killed."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..base import pipeline
from ..base.errors import LifeboatError, Log, UsageError
from ..base.pipeline import Command
from .compose import ComposeRuntime
from .runtime import Opened

PAUSE, STOP = "pause", "stop"
_UNDO = {PAUSE: "unpause", STOP: "start"}
# What lets them go: when we say so, when we are no more (the pipe ends), and when the time is up.
_WATCH = 'timeout "$0" cat >/dev/null; exec "$@" >/dev/null 2>&1'


@dataclass
class Still:
    """services: those that stand still. seconds: for how long they did. late: the time was up before the work was done,
    so that they did not stand still all the time."""

    services: tuple[str, ...] = ()
    seconds: float = 0.0
    late: bool = False


@contextlib.contextmanager
def still(run: Opened, services: Sequence[str], how: str, limit: int, log: Log) -> Iterator[Still]:
    """Pause or stop those of the services that run. Raises LifeboatError where that fails, and nothing is changed; and
    where they could not be let go, which the watcher tries once more than we do."""
    done = Still()
    runtime = run.runtime
    if services and not isinstance(runtime, ComposeRuntime):
        raise UsageError(
            "let services stand still", ", ".join(services), "the stack is no Compose project", "Set consistency: live."
        )
    running = [
        one for one in (runtime.containers() if isinstance(runtime, ComposeRuntime) else ())
        if one.service in services and one.state.running and one.state.status != "paused"
    ]  # fmt: skip
    if not running:
        yield done
        return
    ids = [one.id for one in running]
    done.services = tuple(sorted({one.service for one in running}))
    words = ", ".join(done.services)
    undo = ["docker", _UNDO[how], *ids]
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, str(limit), *undo], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    log(f"{how}: {words}, for {limit} s at most")
    began = time.monotonic()
    try:
        pipeline.output(Command(["docker", how, *ids]), attempted=f"{how} the services", subject=words, timeout=120)
        yield done
    finally:
        done.late = watcher.poll() is not None or time.monotonic() - began >= limit
        if watcher.stdin is not None:
            watcher.stdin.close()
        watcher.wait(120)
        done.seconds = round(time.monotonic() - began, 2)
        log(f"{words} went on after {done.seconds} s" + (", before the work was done" if done.late else ""))
        _require(runtime, done.services, undo)


def _require(runtime: object, services: Sequence[str], undo: Sequence[str]) -> None:
    """See that they run: what was let go by somebody else does, whatever the engine said to us."""
    if not isinstance(runtime, ComposeRuntime):
        return
    found = [one for one in runtime.containers() if one.service in services]
    stuck = sorted({one.service for one in found if not one.state.running or one.state.status == "paused"})
    if not stuck:
        return
    pipeline.probe(Command(list(undo)), timeout=120)
    found = [one for one in runtime.containers() if one.service in stuck]
    stuck = sorted({one.service for one in found if not one.state.running or one.state.status == "paused"})
    if stuck:
        raise LifeboatError("let the services go on", ", ".join(stuck), "they do not run", f"Try: {' '.join(undo)}")
