# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore databases under other names, prove them, swap them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from ..base import clock, lock
from ..base.errors import LifeboatError
from ..database import logins
from ..database import recovery as database_recovery
from ..recovery import state as recovery_state
from ..repository import catalog
from ..repository import sources as sources_of
from ..repository.sources import Sources
from ..stack import hooks
from ..stack.runtime import Opened
from . import reopened
from .step import ACCEPT, IDENTITY, RESTORE, Diff, Options, Result, Step

OPTIONS: Options = {
    "id": {"type": "str", "default": "latest"},
    **RESTORE,
    **ACCEPT,
    **IDENTITY,
    "databases": {"type": "list", "elements": "str", "default": []},
    "copied": {"type": "str", "default": ""},
    "newer": {"type": "list", "elements": "str", "default": []},
    "fresh": {"type": "bool", "default": False},
    "asked": {"type": "str", "default": ""},
    "reopen": {"type": "bool", "default": False},
    "services": {"type": "list", "elements": "str", "default": []},
}


@dataclass(frozen=True)
class Chosen:
    id: str


def work(step: Step) -> Result:
    opened = Opened(step.config, step.params["identity"])
    if database_recovery.is_base(step.params["id"]):
        return _of_base(step, opened)
    sources = Sources(opened, "database", step.params["id"], accept=step.accept)
    chosen, _why = catalog.choose(
        sources.entries, step.config.stack, identity=sources.identity, accept=step.accept, partly=True
    )
    place = chosen.source if step.params["place"] == "auto" else step.params["place"]
    last = recovery_state.recovered(step.config)
    diff = Diff(f"{last.id if last else ''}\n", f"{chosen.id}\n")
    done = last and (not last.databases or set(step.params["databases"]) <= set(last.databases))
    if last and done and last.id == chosen.id and not step.params["force"]:
        return Result(Chosen(chosen.id))
    if step.check:
        return Result(Chosen(chosen.id), changed=True, diff=diff)
    later: list[Callable[[], None]] = []
    stamp = step.params["stamp"] or clock.stamp(step.now)
    held = lock.held(step.config.stack, "restore database", wait=60)
    turn = recovery_state.own_turn(step.config, "restore the database", step.params["stamp"])
    hooked = hooks.continued(step.config, hooks.RECOVERY, "database", step.log, alone=not step.params["stamp"])
    with held, turn, hooked, logins.opened_afterwards(opened, log=step.log):
        result = database_recovery.restore_database(
            opened,
            chosen.id,
            place=place,
            fresh=step.params["fresh"],
            stamp=stamp,
            asked=step.params["asked"],
            accept=step.accept,
            wanted=database_recovery.Wanted(
                tuple(step.params["databases"]),
                step.params["copied"],
                later if step.params["reopen"] else None,
                tuple(step.params["newer"]),
            ),
            log=step.log,
        )
    sources_of.release(opened, place, chosen.id, step.log)
    return _ended(step, opened, result, later, diff)


def _of_base(step: Step, opened: Opened) -> Result:
    """Of a server that was filled from a base: there is nothing to be chosen."""
    identity, last = step.params["id"], recovery_state.recovered(step.config)
    diff = Diff(f"{last.id if last else ''}\n", f"{identity}\n")
    if step.check:
        return Result(Chosen(identity), changed=True, diff=diff)
    later: list[Callable[[], None]] = []
    held = lock.held(step.config.stack, "restore database", wait=60)
    turn = recovery_state.own_turn(step.config, "restore the database", step.params["stamp"])
    hooked = hooks.continued(step.config, hooks.RECOVERY, "database", step.log, alone=not step.params["stamp"])
    with held, turn, hooked, logins.opened_afterwards(opened, log=step.log):
        result = database_recovery.finish(
            opened, identity, requested=step.params["asked"], later=later if step.params["reopen"] else None,
            log=step.log,
        )  # fmt: skip
    sources_of.release(opened, sources_of.REPOSITORY, identity, step.log)
    return _ended(step, opened, result, later, diff)


def _ended(
    step: Step, opened: Opened, result: database_recovery.Recovered, later: Sequence[Callable[[], None]], diff: Diff
) -> Result:  # fmt: skip
    """What can wait is done when the application runs."""
    if not step.params["reopen"]:
        return Result(result, changed=True, diff=diff)
    values = reopened.after(step, opened, result, step.params["services"])
    for work_left in later:
        try:
            work_left()
        except LifeboatError as exc:  # the application runs, and `lifeboat quarantine` lists what is left
            step.log(str(exc))
    return Result(values, changed=True, diff=diff)
