# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher of a run: a process that outlives it, kill -9 included, and runs the `after` that it owes then."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import syslog
import time
from pathlib import Path

from ..base import lock, typed
from ..base.errors import LifeboatError, present
from ..base.filesystem import explained
from ..settings.config import Config
from . import hook_debts
from .hook_debts import Debt

LATER = b"later\n"  # what a run says whose debts another process is to pay
PATIENCE = 3600.0  # seconds without a run of the stack, after which nobody goes on with a recovery or a drill
_READY = b"ready\n"
_STARTS = 60  # seconds that a watcher may take to start


def start(config: Config) -> subprocess.Popen[bytes]:
    """Start the process that outlives this one. It reads all its code before it says that it is ready: what Ansible
    sent is removed with this process."""
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    program = f"import sys; sys.path[:] = {paths!r}; from {__name__} import watch; watch()"
    env = {name: value for name, value in os.environ.items() if name != hook_debts.RUN}
    with explained("start the watcher of the hooks", config.stack):
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd="/", env=env, start_new_session=True,
        )  # fmt: skip
        try:
            _configure(watcher, json.dumps(typed.plain(config)).encode() + b"\n")
        except BaseException:
            with watcher:
                watcher.kill()
            raise
    return watcher


def _configure(watcher: subprocess.Popen[bytes], message: bytes) -> None:
    with present(watcher.stdout) as answer:
        present(watcher.stdin).write(message)
        present(watcher.stdin).flush()
        waiting = select.poll()
        waiting.register(answer, select.POLLIN)
        if not waiting.poll(_STARTS * 1000) or answer.readline() != _READY:
            raise OSError(f"{sys.executable} could not be started")


def watch() -> None:
    """Pay what the process owes that started this one, once that is gone."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # of a terminal, a session or a unit that ends
        signal.signal(number, lambda *_: None)
    os.umask(0o077)
    config = typed.build(Config, json.loads(sys.stdin.buffer.readline()), functools.partial(LifeboatError, "watch"))
    owner = hook_debts.owner(os.getpid())
    sys.stdout.buffer.write(_READY)
    sys.stdout.flush()
    later = sys.stdin.buffer.read() == LATER
    syslog.openlog("lifeboat", syslog.LOG_PID)
    quiet = time.monotonic()
    while (debts := _owed_by(config, owner)) and later and time.monotonic() - quiet < PATIENCE:
        time.sleep(1)
        quiet = time.monotonic() if _busy(config) else quiet
    for debt in reversed(debts):
        hook_debts.pay(
            config, debt, hook_debts.KILLED, lambda message: syslog.syslog(f"{config.stack}: {message}"), left=True
        )


def _busy(config: Config) -> bool:
    try:
        return lock.busy(config.stack)
    except LifeboatError:
        return False


def _owed_by(config: Config, owner: str) -> list[Debt]:
    return [debt for debt in hook_debts.owed(config) if owner in debt.owners]
