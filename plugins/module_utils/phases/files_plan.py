# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assess the files of an application and plan their recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..files import plan as files_plan
from ..repository import sources
from ..site import granted
from ..stack import hooks
from ..stack.runtime import Opened
from .step import ACCEPT, HOLD, IDENTITY, TARGET, Options, Result, Step

OPTIONS: Options = {
    **TARGET,
    **ACCEPT,
    **HOLD,
    **IDENTITY,
    "paths": {"type": "list", "elements": "str", "default": []},
    "exact": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Planned:
    plan: object
    needed: bool
    text: Sequence[str]


def work(step: Step) -> Result:
    given = step.params
    request = files_plan.Request(
        given["recovery_point"], step.before(), accept=step.accept, paths=tuple(given["paths"]), exact=given["exact"]
    )
    opened = granted.reached(Opened(step.config, given["identity"]))
    made = files_plan.make(opened, request, log=step.log)
    text = files_plan.text(made)
    if made.needed:
        text += hooks.planned(step.config, "files")
    if step.holds and made.needed:
        place, identity = str(made.backup["place"]), str(made.backup["id"])
        text += sources.hold(opened, place, identity, "recover_files", step.now)
    return Result(Planned(made, made.needed, text))
