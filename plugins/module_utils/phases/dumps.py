# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of an application's other databases: the order of its phases, as the role dumps_recovery has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..settings.scenarios import DUMPS
from . import dumps_plan, dumps_recover
from .recovery import Phase, Recovery, State, texts


def _plan(state: State) -> Mapping[str, object]:
    asked = state.request
    return {
        "recovery_point": asked.text("recovery_point") or "latest",
        "recovery_time": asked.text("recovery_time"),
        "accept": asked.text("accept"),
        "sources": texts(asked.options.get("sources")),
        "force": bool(asked.options.get("force")),
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
        return "the services may be stopped, and some of the servers may be back; what was replaced is in quarantine"
    return "the servers are as the checks above say; what was replaced is in quarantine"


def _remedy(state: State) -> str:
    return (
        "mend what the error says, then run the same command again; the living server goes on until its dump is"
        " restored and proved"
    )


RECOVERY = Recovery(
    scenario=DUMPS,
    role="dumps_recovery",
    assess=Phase("plan", dumps_plan, _plan),
    phases=(Phase("done", dumps_recover, _recover),),
    steps=_steps,
    state=_state,
    remedy=_remedy,
)
