# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands of the operator's before and after a backup, a recovery and a drill.

An `after` is owed from the moment before its `before` begins: it is written down in the state directory first. A run
pays what it owes when it ends. A watcher, a process of its own, waits for the end of the run's pipe, which comes with
kill -9 too, and pays then. Where the watcher is gone as well, as after a power cut, the stack's next command pays.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from ..base.checks import FAIL, PASS, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, present
from ..base.text import named
from ..settings import config as settings
from ..settings.config import Config
from ..settings.parts import Hook
from . import hook_debts, hook_watcher
from .hook_debts import Debt, pay
from .runtime import connect

BACKUP, RECOVERY, DRILL = "backup", "recovery", "drill"


def applying(config: Config, when: str, component: str = "") -> list[Hook]:
    """Return the hooks that are run around that component; without one, those around all that is done."""
    return [
        hook
        for hook in config.hooks
        if hook.when == when and (component in hook.components if component else not hook.components)
    ]


def planned(config: Config, *components: str) -> list[str]:
    """Return what a plan says of the hooks that its recovery runs."""
    hooks = [hook for component in ("", *components) for hook in applying(config, RECOVERY, component)]
    return [
        f"hook {hook.name}: before: {_shown(hook.before)}; after, in any case: {_shown(hook.after)};"
        f" {f'in the service {named(hook.service)}' if hook.service else 'on the host'}, {hook.timeout} s each at most"
        for hook in dict.fromkeys(hooks)
    ]


def _shown(argv: Sequence[str]) -> str:
    return named(" ".join(argv)) or "nothing"


class Run:
    """The hooks around what one process does. problems: why an `after` failed."""

    def __init__(self, config: Config, when: str, log: Log) -> None:
        self._config, self._when, self._log = config, when, log
        self._watcher: Optional[subprocess.Popen[bytes]] = None
        self.problems: list[str] = []

    @contextlib.contextmanager
    def around(self, component: str = "") -> Iterator[None]:
        """Run the hooks of that component, or those of all; what is done does not begin where a `before` fails."""
        debts: list[Debt] = []
        try:
            for hook in applying(self._config, self._when, component):
                debts.append(self.owe(hook))
                self.begin(debts[-1])
            yield
        except BaseException:
            self._settle(debts, FAIL)
            raise
        self._settle(debts, PASS)

    def _settle(self, debts: Sequence[Debt], result: str) -> None:
        self.problems += filter(None, [pay(self._config, debt, result, self._log) for debt in reversed(debts)])

    def owe(self, hook: Hook) -> Debt:
        """Write down that the hook's `after` is owed, by this process and its watcher."""
        now = datetime.now(timezone.utc)
        debt = Debt(hook, f"{time.time_ns()}-{hook.when}-{hook.name}", format_time(now))
        self.take_over(debt)
        return debt

    def take_over(self, debt: Debt) -> None:
        self._watcher = self._watcher or hook_watcher.start(self._config)
        owners = hook_debts.owner(self._watcher.pid), hook_debts.owner(os.getpid())
        hook_debts.keep(self._config, replace(debt, owners=owners))

    def begin(self, debt: Debt) -> None:
        """Run `before`. Raise LifeboatError where it fails. What a recovery finds down cannot be told anything."""
        hook = debt.hook
        if self._when == RECOVERY and hook.service and not _runs(self._config, hook.service):
            self._log(f"hook {hook.name}: before is not run, as the service {named(hook.service)} does not run")
            return
        problem = hook_debts.execute(self._config, debt, "before", hook.before, "", self._log)
        if problem:
            raise LifeboatError(
                "run `before` of the hook", hook.name, problem,
                f"Without it there is no {hook.when}. Mend it; or take the hook out of lifeboat_hooks and run"
                f" lifeboat.dr.deploy, in haste out of {settings.DIRECTORY / self._config.stack}.json on the host.",
            )  # fmt: skip

    def refuse_problems(self) -> None:
        """Raise LifeboatError where an `after` failed, once all is done that it was run around."""
        if self.problems:
            remedy = f"The {self._when} itself is done. Mend the cause; the next command runs `after` again."
            raise LifeboatError("run `after` of the hooks", self._config.stack, "; ".join(self.problems), remedy)

    def close(self, message: bytes = b"") -> None:
        """Let the watcher go."""
        if self._watcher:
            with contextlib.suppress(OSError), present(self._watcher.stdin) as pipe:
                pipe.write(message)
            self._watcher.returncode = 0  # it outlives us, and nobody waits for it


@contextlib.contextmanager
def running(config: Config, when: str, log: Log) -> Iterator[Run]:
    """Run the hooks around something that this process does from its beginning to its end."""
    run = Run(config, when, log)
    try:
        with run.around():
            yield run
    finally:
        run.close()


@contextlib.contextmanager
def continued(config: Config, when: str, component: str, log: Log, *, alone: bool = False) -> Iterator[None]:
    """Run each `before` whose `after` is not owed yet; a later process runs that by finish(). alone: none will."""
    run = Run(config, when, log)
    debts = {debt.hook: debt for debt in hook_debts.owed(config) if debt.hook.when == when and debt.awaited}
    hooks = [*applying(config, when), *(applying(config, when, component) if component else ())]
    try:
        for debt in debts.values():
            run.take_over(debt)
        for hook in hooks:
            if hook not in debts:
                run.begin(run.owe(hook))
    except BaseException:
        finish(config, when, FAIL, log)
        run.close()
        raise
    try:
        yield
    except BaseException:
        if alone:
            finish(config, when, FAIL, log)
        raise
    else:
        if alone:
            run.problems += [check.detail for check in finish(config, when, PASS, log) if check.result != PASS]
    finally:
        run.close(b"" if alone else hook_watcher.LATER)
    run.refuse_problems()


def finish(config: Config, when: str, result: str, log: Log) -> list[Check]:
    """Run every `after` that is owed for it, the last one first. Return a check of each."""
    checks = []
    for debt in reversed([debt for debt in hook_debts.owed(config) if debt.hook.when == when]):
        problem = pay(config, debt, result, log)
        if debt.hook.after:
            checks.append(Check(f"hook {debt.hook.name}", FAIL if problem else PASS, problem or "its after was run"))
    return checks


def _runs(config: Config, service: str) -> bool:
    try:
        return connect(config).state(service).running
    except LifeboatError:
        return False
