# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reopen phase of a recovery: start the application, and see that it is well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Callable

from ..base.checks import FAIL, PASS, Check, verdict
from ..base.errors import LifeboatError
from ..stack import runtime
from ..stack.answer import endpoint
from ..stack.runtime import Opened
from . import state as recovery_state


def reopen(run: Opened, services: Sequence[str], *, log: Callable[[str], None]) -> list[Check]:
    """Start the application, wait until it is well, and ask its endpoints. What is wrong is a failed check.

    While a store is being filled that was empty nothing is started: the application would tell its users that their
    data is gone, and write into the wrong store.
    """
    config, stack = run.config, run.runtime
    if closed := list(recovery_state.kept_closed(config)):
        for why in closed:
            log(why)
        return [Check("services", FAIL, why) for why in closed]
    names = list(filter(None, [config.database.service, *services]))
    log(f"starting {', '.join(names)}")
    checks: list[Check] = []
    try:
        before = runtime.states_of(stack, names)
        # Compose would first wait, in half seconds, for the health of those that run.
        stack.start([name for name in names if not before[name].running], timeout=config.application.timeout)
        states = runtime.wait_until_well(stack, names, timeout=config.application.timeout, log=log)
        checks += [Check(f"service {name}", PASS, words) for name, words in states.items()]
    except LifeboatError as exc:
        checks.append(Check("services", FAIL, exc.cause))
    began = time.monotonic()
    deadline = began + config.application.timeout
    known = recovery_state.unanswered(config)
    answers = [
        endpoint(check, deadline, log, known.problem(config, f"{check.method} {check.url}"), known.at, began)
        for check in config.application.checks
    ]
    if verdict(answers) == FAIL and (restarting := _restarting(stack, names)):
        answers = [replace(one, detail=f"{one.detail}; {restarting}") if one.result == FAIL else one for one in answers]
    checks += answers
    if verdict(checks) != FAIL:
        (config.state / recovery_state.STOPPED).unlink(missing_ok=True)
    return checks


def _restarting(stack: runtime.Runtime, names: Sequence[str]) -> str:
    """Say which services do not stay up, and what the first of them said last: each look may find it running."""
    try:
        states = runtime.states_of(stack, names)
        bad = [name for name, state in states.items() if not state.well or state.restarts]
        last = runtime.last_words(stack.logs(bad[0])) if bad else ""
    except LifeboatError:
        return ""
    words = "; ".join(f"{name} is {states[name].describe()}" for name in bad)
    return words + (f"; {bad[0]} last said: {last}" if last else "")
