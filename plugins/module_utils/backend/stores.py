# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database and the object store below a backend: is one of them broken in a way that no start will mend?"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from ..base.errors import LifeboatError, Log
from ..database import assess as database_assess
from ..database import server as database_server
from ..objects import condition as objects_condition
from ..recovery import state as recovery_state
from ..repository.sources import Sources
from ..settings.config import Config
from ..stack import runtime
from ..stack.runtime import DataMount, Opened, Runtime
from .facts import DATABASE, OBJECTS, Observations, Seen, Store


def look(run: Opened, found: Observations, *, log: Log) -> tuple[list[Store], list[str]]:
    """Each store with what is broken of it, and what could not be looked at. One merely stopped is not broken."""
    stores, unsure = [], []
    places = {DATABASE: run.config.database.service, OBJECTS: run.config.objects.service}
    for role, service in places.items():
        if not service or (role == OBJECTS and not run.config.objects.bucket):
            continue
        seen = next((item for item in found.seen if item.role == role), None)
        try:
            broken = _broken(run, found, role, service, seen, log)
        except LifeboatError as exc:
            unsure.append(f"{service}: {exc.cause}")
            broken = ""
        stores.append(Store(role, service, broken))
    return stores, unsure


def _broken(run: Opened, found: Observations, role: str, service: str, one: Optional[Seen], log: Log) -> str:
    runs = one is not None and one.status in ("running", "restarting")
    if not runs and (gone := _data_gone(run, role, service)):
        return gone
    if one is None:
        return ""
    if one.looping:
        said = runtime.last_words("\n".join(one.log))
        return f"{service} is {one.describe()}" + (f"; it last said: {said}" if said else "")
    if one.status != "running" or one.health == "starting":
        return ""
    log(f"looking at {service}")
    if role == OBJECTS:
        state = objects_condition.answers(run)
        return "" if state.condition == recovery_state.HEALTHY or state.refused else "; ".join(state.findings[:3])
    reached = database_server.reach(run)
    if reached.server is None:
        return "" if reached.refused else f"{service} runs and does not answer: {reached.why}"
    if not (found.ill_backend or found.unanswered):
        return ""
    state_of_data = database_assess.assess(run, _reference(run, log))
    return "" if state_of_data.condition == recovery_state.HEALTHY else "; ".join(state_of_data.findings[:3])


def _reference(run: Opened, log: Log) -> Optional[database_assess.Reference]:
    """What the database should hold, where there is a backup that tells."""
    try:
        return database_assess.reference_of(Sources(run, "database"))
    except LifeboatError as exc:
        log(f"no backup tells what the database should hold: {exc.cause}")
        return None


def data_mount(config: Config, stack: Runtime, role: str) -> DataMount:
    mounted = runtime.database_mount if role == DATABASE else runtime.objects_mount
    return mounted(config, stack)


def _data_gone(run: Opened, role: str, service: str) -> str:
    """A server that is started without its data makes a new, empty store of its own: it must not be started here."""
    try:
        mount = data_mount(run.config, run.runtime, role)
    except LifeboatError:
        return ""
    where = mount.path
    if where == Path():
        return f"the {mount.kind} {mount.name} of {service} is gone"
    if not where.is_dir() or not any(where.iterdir()):
        return f"the data directory of {service} is empty or gone ({where})"
    return ""
