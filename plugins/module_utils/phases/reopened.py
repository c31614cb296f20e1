# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reopen phase in the module of the phase before it: a call of its own would take a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..base import clock, typed
from ..base.checks import FAIL, Check, verdict
from ..base.errors import LifeboatError
from ..database import reopen
from ..stack.runtime import Opened
from .step import Step


@dataclass(frozen=True)
class Reopened:
    """What the module stack_reopen returns."""

    verdict: str
    checks: Sequence[Check]
    log: Sequence[str]
    phase: clock.Phase


def after(step: Step, opened: Opened, done: object, services: Sequence[str]) -> dict[str, object]:
    """Return the module's values: those of its own phase, which ends here, and `reopened`. An error is a
    failed check."""
    own, said = step.clock.phase(), list(step.lines)
    began = clock.start()
    try:
        found = reopen.reopen(opened, services, log=step.log)
    except LifeboatError as exc:
        found = [Check("services", FAIL, exc.cause)]
    reopened = Reopened(verdict(found), found, step.lines[len(said) :], began.phase())
    return {**typed.plain(done), **typed.plain({"reopened": reopened, "phase": own, "log": said})}
