# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of a backend: the order of its phases, as the role backend_recovery has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..settings.scenarios import BACKEND
from . import backend_plan, backend_recover
from .recovery import NEXT, Phase, Recovery, State, assessment, of_plan, texts


def _steps(state: State) -> Sequence[tuple[str, Mapping[str, object]]]:
    """With what the plan saw, and the record keeps: the services' last lines, and the machine."""
    seen = {"logs": state.plan.get("logs", {}), "notes": state.plan.get("machine", [])}
    return (("assess", {**state.result("plan"), **seen}), ("restore", state.result("recovered")))


def _state(state: State) -> str:
    if not state.result("recovered"):
        return "nothing was changed"
    if state.failed("recovered"):
        return "the steps above were taken and did not heal it; no volume was touched, and what was replaced is kept"
    return "the steps were taken; not everything is proved, see the checks"


def _way_back(state: State) -> Sequence[str]:
    recovered = state.result("recovered")
    return (
        f"kept: {recovered.get('quarantine') or 'nothing was replaced'}",
        f"way back: {'; '.join(texts(recovered.get('way_back'))) or 'not needed'}",
    )


RECOVERY = Recovery(
    scenario=BACKEND,
    role="backend_recovery",
    assess=assessment(backend_plan),
    phases=(Phase("recovered", backend_recover, of_plan),),
    steps=_steps,
    state=_state,
    way_back=_way_back,
    remedy=lambda state: str(state.plan.get("next") or NEXT),
)
