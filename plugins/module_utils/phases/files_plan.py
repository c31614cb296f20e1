# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the files of an application and plan their recovery."""

from __future__ import annotations

from ..files import plan as files_plan
from ..settings.scenarios import FILES
from ..site import keeper_readback
from ..stack.runtime import Opened
from .planning import planned
from .step import ACCEPT, HOLD, IDENTITY, TARGET, Options, Result, Step

OPTIONS: Options = {
    **TARGET,
    **ACCEPT,
    **HOLD,
    **IDENTITY,
    "paths": {"type": "list", "elements": "str", "default": []},
    "exact": {"type": "bool", "default": False},
}


def work(step: Step) -> Result:
    given = step.params
    request = files_plan.Request(
        given["recovery_point"], step.before(), accept=step.accept, paths=tuple(given["paths"]), exact=given["exact"]
    )
    opened = keeper_readback.reached(Opened(step.config, given["identity"]))
    made = files_plan.make(opened, request, log=step.log)
    return planned(step, opened, made, files_plan.text(made), FILES, restores=made.needed)
