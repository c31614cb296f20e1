# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recoveries that a host carries out alone, by the words of `lifeboat recover`."""

from __future__ import annotations

from ..settings.scenarios import DUMPS, FILES
from . import backend, database, dumps_plan, dumps_recover, files_plan, files_recover, objects
from .recovery import Phase, Recovery, State, Work, assessment, of_plan, steps


def _in_place(scenario: str, plan: Work, work: Work, what: str, remains: str, remedy: str) -> Recovery:
    """Return a recovery of one phase. what: it brings back; remains: where what it replaces is kept."""

    def described(state: State) -> str:
        if not state.result("done"):
            return "nothing was changed"
        if state.failed("done"):
            return f"the services may be stopped, and some of the {what} may be back; what was replaced is {remains}"
        return f"the {what} are as the checks above say; what was replaced is {remains}"

    return Recovery(
        scenario=scenario,
        role=f"{scenario}_recovery",
        assess=assessment(plan),
        phases=(Phase("done", work, of_plan),),
        steps=steps(plan="assess", done="restore"),
        state=described,
        remedy=lambda state: f"mend what the error says, then run the same command again; {remedy}",
    )


RECOVERIES = {
    "database": database.RECOVERY,
    "objects": objects.RECOVERY,
    "files": _in_place(
        FILES, files_plan, files_recover, "files", "kept beside them", "what is back is not restored again"
    ),
    "dumps": _in_place(
        DUMPS, dumps_plan, dumps_recover, "servers", "in quarantine",
        "the living server goes on until its dump is restored and proved",
    ),
    "backend": backend.RECOVERY,
}  # fmt: skip
