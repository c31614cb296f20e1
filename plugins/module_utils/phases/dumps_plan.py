# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the servers of other databases and plan their recovery."""

from __future__ import annotations

from ..dumps import plan as dumps_plan
from ..settings.scenarios import DUMPS
from ..site import keeper_readback
from ..stack.runtime import Opened
from .planning import planned
from .step import ACCEPT, HOLD, IDENTITY, TARGET, Options, Result, Step

OPTIONS: Options = {
    **TARGET,
    **ACCEPT,
    **HOLD,
    **IDENTITY,
    "sources": {"type": "list", "elements": "str", "default": []},
    "force": {"type": "bool", "default": False},
}


def work(step: Step) -> Result:
    given = step.params
    request = dumps_plan.Request(
        given["recovery_point"], step.before(), accept=step.accept, sources=tuple(given["sources"]),
        force=given["force"],
    )  # fmt: skip
    opened = keeper_readback.reached(Opened(step.config, given["identity"]))
    made = dumps_plan.make(opened, request, log=step.log)
    return planned(step, opened, made, dumps_plan.text(made), DUMPS, restores=made.needed)
