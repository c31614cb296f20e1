# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of a database: the order of its phases, as the role database_recovery has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..settings.scenarios import DATABASE
from . import database_instant, database_plan, database_protect, database_restore, stack_reopen
from .recovery import Phase, Recovery, State, mapping, sequence, texts

_IN_PLACE = re.compile("Already in place of what was found: .*")
CLOSED = "the application stays stopped"  # what reopen says where a recovery into an empty server has not ended


def _plan(state: State) -> Mapping[str, object]:
    asked = state.request
    return {
        "recovery_point": asked.text("recovery_point") or "latest",
        "recovery_time": asked.text("recovery_time"),
        "before": asked.text("before"),
        "timeline": int(asked.text("timeline") or 0),
        **_scope(state),
    }


def _scope(state: State) -> Mapping[str, object]:
    asked = state.request
    return {
        "accept": asked.text("accept"),
        "force": bool(asked.options.get("force")),
        "method": asked.text("method") or "auto",
        "database": asked.text("database"),
        "others": asked.text("others") or "ask",
        "identity": asked.identity,
        "hold": asked.confirmed,
    }


def _instant(state: State) -> Mapping[str, object]:
    return {**_scope(state), "plan": state.plan}


def _is_an_instant(state: State) -> bool:
    """Whether the plan goes back to an instant of which there is no backup yet."""
    return bool(state.plan.get("replay"))


def _protect(state: State) -> Mapping[str, object]:
    return {"plan": state.plan, "identity": state.request.identity, "reopen": True}


def _restore(state: State) -> Mapping[str, object]:
    plan, protected = state.plan, state.result("protected")
    backup = mapping(plan.get("backup"))
    return {
        "id": backup.get("id"),
        "place": backup.get("place"),
        "databases": protected.get("replaced"),
        "fresh": protected.get("fresh"),
        "copied": protected.get("copied"),
        "newer": plan.get("newer"),
        "stamp": plan.get("stamp"),
        "asked": plan.get("state"),
        "accept": state.request.text("accept"),
        "identity": state.request.identity,
        "force": True,
        "reopen": True,
        "services": plan.get("writers"),
    }


def _is_needed(state: State) -> bool:
    return state.result("protected").get("mode") != "started"


def _services(state: State) -> Mapping[str, object]:
    return {"services": state.plan.get("writers")}


def _is_as_found(state: State) -> bool:
    """Whether the live database was not replaced and its server not rebuilt: the application has what it had before."""
    return state.result("protected").get("mode") == "swap" and state.failed("restored")


def _reopened(state: State) -> Mapping[str, object]:
    """By the phase before it, whichever that was."""
    return mapping(state.result("restored").get("reopened") or state.result("protected").get("reopened"))


def _steps(state: State) -> Sequence[tuple[str, Mapping[str, object]]]:
    return (
        ("assess", state.result("plan")),
        ("stand", state.result("stood")),
        ("protect", state.result("protected")),
        ("restore", state.result("restored")),
        ("reopen", _reopened(state)),
    )


def _state(state: State) -> str:
    if state.failed("stood"):
        return "nothing of the stack was changed, and the application runs as it did"
    protected, restored = state.result("protected"), state.result("restored")
    if not protected or state.failed("protected"):
        return (
            "the writers may be stopped; no data was deleted, and none was restored; a database that is closed to"
            " logins is opened by the next run"
        )
    if restored and not state.failed("restored"):
        well = _reopened(state).get("verdict") == "PASS"
        return f"the database is restored; the application is {'well' if well else 'not well yet'}"
    if protected.get("mode") == "swap":
        in_place = _IN_PLACE.search(str(restored.get("remedy") or ""))
        live = in_place.group() if in_place else "the live database is as it was found"
        ends = f"{CLOSED}: the server was empty" if is_closed(state) else "the application was started again"
        return f"{live}, and {ends}"
    return (
        "the server is fresh and empty, its database takes no logins, the application stays stopped, and backups are"
        f" refused until a recovery ends; the old data lies in {protected.get('quarantine') or 'its place'}"
    )


def is_closed(state: State) -> bool:
    """Whether a recovery that has not ended keeps the application stopped, no matter what would start it."""
    checks = map(mapping, sequence(state.result("restarted").get("checks")))
    return any(CLOSED in str(check.get("detail")) for check in checks)


def _way_back(state: State) -> Sequence[str]:
    databases = map(mapping, sequence(state.result("restored").get("databases")))
    old = [str(database["kept"]) for database in databases if database.get("kept")]
    names = f"old databases were kept as {', '.join(old)}; rename them back with ALTER DATABASE"
    steps = [*texts(state.result("protected").get("way_back")), *([names] if old else [])]
    return (f"way back to the old data: {'; '.join(steps) or 'not needed'}",)


RECOVERY = Recovery(
    scenario=DATABASE,
    role="database_recovery",
    assess=Phase("plan", database_plan, _plan),
    phases=(
        Phase("stood", database_instant, _instant, _is_an_instant),
        Phase("protected", database_protect, _protect),
        Phase("restored", database_restore, _restore, _is_needed),
    ),
    after_failure=(Phase("restarted", stack_reopen, _services, _is_as_found),),
    steps=_steps,
    state=_state,
    way_back=_way_back,
    remedy=lambda state: "mend the cause, then run the same command again; it continues from here",
)
