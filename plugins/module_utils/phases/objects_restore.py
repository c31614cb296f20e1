# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy objects back from the vault, and prove them."""

from __future__ import annotations

from dataclasses import dataclass

from ..base import clock, lock
from ..base.clock import format_time
from ..objects import (
    choose,
)
from ..objects import (
    plan as objects_plan,
)
from ..objects import (
    recovery as objects_recovery,
)
from ..recovery import state as recovery_state
from ..repository import catalog
from ..repository import sources as sources_of
from ..repository.sources import Sources
from ..site import granted
from ..stack import hooks
from ..stack.runtime import Opened
from .step import ACCEPT, IDENTITY, RESTORE, Diff, Options, Result, Step

_OPTIONS: Options = {
    "prefix": {"type": "str", "default": ""},
    "exact": {"type": "bool", "default": False},
    "partial": {"type": "bool", "default": False},
    "fresh": {"type": "bool", "default": False},
    "asked": {"type": "bool", "default": True},
    "state": {"type": "str", "default": ""},
    "sample": {"type": "int", "default": 0},
    "bucket": {"type": "str", "default": ""},
    "others": {"type": "list", "elements": "str", "default": []},
    "newer": {"type": "list", "elements": "str", "default": []},
    "bucket_settings": {"type": "str", "choices": ["", "restore", "only"], "default": ""},
}
OPTIONS: Options = {"id": {"type": "str", "default": "latest"}, **RESTORE, **ACCEPT, **IDENTITY, **_OPTIONS}
_PARAMETERS = {"asked": "requested", "others": "additional"}  # roles have the options by the first names


@dataclass(frozen=True)
class Chosen:
    id: str


def work(step: Step) -> Result:
    given, stack = step.params, step.config.stack
    opened = granted.reached(Opened(step.config, step.params["identity"]))
    sources = Sources(opened, "objects", given["id"], accept=step.accept)
    chosen, _why = catalog.choose(sources.entries, stack, identity=sources.identity, accept=step.accept)
    place = chosen.source if given["place"] == "auto" else given["place"]
    last = objects_plan.recovered(step.config, objects_plan.meant(opened, given["bucket"])[1])
    diff = Diff(f"{last.id if last else ''}\n", f"{chosen.id}\n")
    instant = choose.instant_of(given["state"])
    # One backup, with its changes, gives many instants.
    same = last and last.id == chosen.id and (instant is None or last.requested == format_time(instant))
    if last and same and last.prefix in ("", given["prefix"]) and not given["force"]:
        return Result(Chosen(chosen.id))
    if step.check:
        return Result(Chosen(chosen.id), changed=True, diff=diff)
    stamp = given["stamp"] or clock.stamp(step.now)
    turn = recovery_state.own_turn(step.config, "restore the objects", given["stamp"])
    hooked = hooks.continued(step.config, hooks.RECOVERY, "objects", step.log, alone=not given["stamp"])
    with lock.held(stack, "restore objects", wait=60), turn, hooked:
        result = objects_recovery.restore_objects(
            opened,
            chosen.id,
            location=place,
            stamp=stamp,
            accept=step.accept,
            log=step.log,
            **{_PARAMETERS.get(name, name): given[name] for name in _OPTIONS},
        )
    sources_of.release(opened, place, chosen.id, step.log)
    return Result(result, changed=True, diff=diff)
