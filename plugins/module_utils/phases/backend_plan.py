# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess a backend, name the likely cause, and plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..backend import plan as backend_plan
from ..stack import hooks
from ..stack.runtime import Opened
from .step import ACCEPT, IDENTITY, Options, Result, Step

OPTIONS: Options = {
    "recovery_point": {"type": "str", "default": "latest"},
    "method": {"type": "str", "choices": list(backend_plan.METHODS), "default": "auto"},
    "force": {"type": "bool", "default": False},
    **ACCEPT,
    **IDENTITY,
    "host": {"type": "str", "default": "<host>"},
}


@dataclass(frozen=True)
class Planned:
    plan: object
    needed: bool
    blocked: str
    text: Sequence[str]


def work(step: Step) -> Result:
    given = step.params
    made = backend_plan.make(
        Opened(step.config),
        host=given["host"],
        identity=given["recovery_point"],
        method=given["method"],
        force=given["force"],
        key=given["identity"],
        accept=step.accept,
        log=step.log,
    )
    text = backend_plan.text(made)
    if made.needed:
        text += hooks.planned(step.config)
    return Result(Planned(made, made.needed, made.blocked, text))
