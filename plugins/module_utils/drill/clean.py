# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is removed after a drill that went well: what its recovery put aside, and what its writer wrote."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import Callable

from ..base.errors import LifeboatError, Log
from ..base.filesystem import explained, remove
from ..base.text import named
from ..database import server as database_server
from ..evidence.schema import Phase, Record, sealed
from ..settings.scenarios import DUMPS, FILES, FRONTEND
from ..stack.quarantine import REPLACED
from ..stack.runtime import Opened
from . import ledger
from .faults import frontend
from .faults.service import docker

_COPIES = re.compile(
    rf"tar -C (?P<place>/.+)/(?P<name>{re.escape(REPLACED)}\w+) -cf - \."
    r" \| tar -C (?P=place) -xpf - --no-overwrite-dir"
)


def clean(run: Opened, record: Record, fault: str, *, log: Log) -> tuple[list[str], list[str], Record]:
    """Remove what this drill's recovery put aside, what its writer wrote, and a commit that broke a build.

    Returns what was done, what could not be and why, which changes no verdict, and the record without ways back to what
    is gone.
    """
    removed: list[str] = []
    left: list[str] = []

    def tried(work: Callable[[], str]) -> bool:
        try:
            done = work()
        except LifeboatError as exc:
            left.append(str(exc))
            return False
        removed.extend([done] if done else [])
        return bool(done)

    def writes() -> str:
        gone, every = ledger.remove(run.config, ledger.path_of(run.config))
        return f"{gone} of {every} writes" if gone else ""

    tried(writes)
    if (record.scenario, fault) == (FRONTEND, "build_broken"):
        tried(lambda: frontend.mend_build(run.config, log))
    phases = []
    for phase in record.phases:
        aside = (
            *(
                tried(functools.partial(_remove, where))
                for where in (phase.quarantine.split(", ") if record.scenario == DUMPS else [phase.quarantine])
            ),
            tried(functools.partial(_remove_replaced, phase)) if record.scenario == FILES else False,
            *(tried(functools.partial(_drop, run, name)) for name in phase.quarantined_databases),
        )
        left_over = tuple(replace(database, retained_as="") for database in phase.databases)
        gone = replace(phase, quarantine="", quarantined_database="", way_back=(), databases=left_over)
        phases.append(gone if any(aside) else phase)
    for done in removed:
        log(f"cleaned up: {done}")
    for problem in left:
        log(f"not cleaned up: {problem}")
    return removed, left, sealed(replace(record, phases=tuple(phases)))


def _remove(where: str) -> str:
    """What quarantine.aside() made: a volume of its own, or a directory beside the data. Nothing else, and no `.`."""
    path = Path(where)
    if not path.is_absolute():
        return ""
    name = path.parent.name
    if path.name == "_data" and "_quarantine_" in name:
        docker("remove the volume that was put aside", name, "volume", "rm", name)
        return name
    if ".quarantine_" in path.name and path.is_dir():
        with explained("remove the directory that was put aside", path):
            remove(path)
        return str(path)
    return ""


def _remove_replaced(phase: Phase) -> str:
    """What a recovery of files replaced: in a directory of its own among them, from which its way back copies."""
    removed = []
    for found in filter(None, map(_COPIES.fullmatch, phase.way_back)):
        path = Path(found["place"]) / found["name"]
        if path.is_dir():
            with explained("remove the files that were put aside", path):
                remove(path)
            removed.append(str(path))
    return ", ".join(removed)


def _drop(run: Opened, database: str) -> str:
    if "_quarantine_" not in database:
        return ""
    server = database_server.of(run)
    # A record has text; a name of other bytes is one of the server's that is shown so.
    name = next((there for there in server.databases() if named(there) == database), database)
    database_server.drop(server, name, force=True)
    return database
