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
from .facts import DATABASE, OBJECTS, Observations, Store, Unit


def assess_stores(run: Opened, observations: Observations, *, log: Log) -> tuple[list[Store], list[str]]:
    """Return each store with what is broken, and what could not be checked. A store that is stopped is not broken."""
    stores, unsure = [], []
    places = {DATABASE: run.config.database.service, OBJECTS: run.config.objects.service}
    for role, service in places.items():
        if not service or (role == OBJECTS and not run.config.objects.bucket):
            continue
        unit = next((item for item in observations.units if item.role == role), None)
        try:
            broken = _broken(run, observations, role, service, unit, log)
        except LifeboatError as exc:
            unsure.append(f"{service}: {exc.cause}")
            broken = ""
        stores.append(Store(role, service, broken))
    return stores, unsure


def _broken(run: Opened, observations: Observations, role: str, service: str, unit: Optional[Unit], log: Log) -> str:
    runs = unit is not None and unit.status in ("running", "restarting")
    if not runs and (gone := _data_gone(run, role, service)):
        return gone
    if unit is None:
        return ""
    if unit.looping:
        said = runtime.last_words("\n".join(unit.log))
        return f"{service} is {unit.describe()}" + (f"; it last said: {said}" if said else "")
    if unit.status != "running" or unit.health == "starting":
        return ""
    log(f"looking at {service}")
    if role == OBJECTS:
        state = objects_condition.answers(run)
        return "" if state.condition == recovery_state.HEALTHY or state.refused else "; ".join(state.findings[:3])
    reached = database_server.reach(run)
    if reached.server is None:
        return "" if reached.refused else f"{service} runs and does not answer: {reached.why}"
    if not (observations.ill_backend or observations.unanswered):
        return ""
    state_of_data = database_assess.assess(run, _reference(run, log))
    return "" if state_of_data.condition == recovery_state.HEALTHY else "; ".join(state_of_data.findings[:3])


def _reference(run: Opened, log: Log) -> Optional[database_assess.Reference]:
    """Return what the database should hold, if there is a backup that tells."""
    try:
        return database_assess.reference_of(Sources(run, "database"))
    except LifeboatError as exc:
        log(f"no backup tells what the database should hold: {exc.cause}")
        return None


def data_mount(config: Config, stack: Runtime, role: str) -> DataMount:
    mounted = runtime.database_mount if role == DATABASE else runtime.objects_mount
    return mounted(config, stack)


def _data_gone(run: Opened, role: str, service: str) -> str:
    """Return why the data is gone, or nothing. A server started without its data would create a new, empty store."""
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
