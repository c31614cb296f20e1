# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of an application's files: the order of its phases, as the role files_recovery has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..settings.scenarios import FILES
from . import files_plan, files_recover
from .recovery import Phase, Recovery, State, texts


def _plan(state: State) -> Mapping[str, object]:
    asked = state.request
    return {
        "recovery_point": asked.text("recovery_point") or "latest",
        "recovery_time": asked.text("recovery_time"),
        "accept": asked.text("accept"),
        "paths": texts(asked.options.get("paths")),
        "exact": bool(asked.options.get("exact")),
        "identity": asked.identity,
        "hold": asked.confirmed,
    }


def _recover(state: State) -> Mapping[str, object]:
    return {"plan": state.plan, "identity": state.request.identity}


def _steps(state: State) -> Sequence[tuple[str, Mapping[str, object]]]:
    return (("assess", state.result("plan")), ("restore", state.result("done")))


def _state(state: State) -> str:
    if not state.result("done"):
        return "nothing was changed"
    if state.failed("done"):
        return "the services may be stopped, and some of the files may be back; what was replaced is kept beside them"
    return "the files are as the checks above say; what was replaced is kept beside them"


def _remedy(state: State) -> str:
    return "mend what the error says, then run the same command again; what is back is not restored again"


RECOVERY = Recovery(
    scenario=FILES,
    role="files_recovery",
    assess=Phase("plan", files_plan, _plan),
    phases=(Phase("done", files_recover, _recover),),
    steps=_steps,
    state=_state,
    remedy=lambda state: (
        "mend what the error says, then run the same command again; what is back is not restored again"
    ),
)
