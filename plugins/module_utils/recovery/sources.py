# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery of the sources of one backup, directories or servers: what its plan and its work have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ..base.errors import Log, NotFoundError
from ..base.text import Outline, cautions
from ..repository import catalog
from ..repository import sources as repository_sources
from ..repository.base import LATEST, Repository
from ..repository.catalog import Entry
from ..repository.manifest import Manifest
from ..stack.runtime import Opened
from .state import STOPPED, keep

SHOWN = 5  # names of what differs
REOPENS = (
    "reopen: start what was stopped, see that the application is well", "record: evidence with the time of each phase",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What an operator wants. sources: these only; empty: all."""

    identity: str = "latest"
    before: Optional[datetime] = None
    accept: bool = False
    sources: tuple[str, ...] = ()

    @property
    def requested(self) -> bool:
        """Is a state asked for, so that what was changed since then is changed back?"""
        return self.identity not in LATEST or self.before is not None


@dataclass(frozen=True)
class SourcesPlan(Outline):
    """What is wrong and what would be done. backup: as `lifeboat list` has it."""

    backup: Mapping[str, object]
    requested: bool


def manifest_of(entry: Entry, remedy: str = "Choose another (`lifeboat list`).") -> Manifest:
    if entry.manifest is None:
        raise NotFoundError("use the backup", entry.id, entry.problem, remedy)
    return entry.manifest


def planned_backup(run: Opened, component: str, plan: SourcesPlan) -> tuple[Repository, Manifest]:
    """Return where the backup of the plan lies, and its manifest."""
    location = str(plan.backup.get("place") or repository_sources.REPOSITORY)
    repo = repository_sources.open_place(run, location)
    entry = catalog.entry(repo, component, str(plan.backup["id"]))
    return repo, manifest_of(entry, "Run the same command again: it plans again.")


def not_in(entry: Entry, configured: Iterable[str], contents: Iterable[str]) -> list[str]:
    """Return a warning for each source that the backup does not have."""
    return [
        f"{name} is not in {entry.id}: it was taken before that was named"
        for name in sorted({*configured} - {*contents})
    ]


def stop(run: Opened, writers: Sequence[str], log: Log) -> None:
    """Stop who writes there, and remember that on the host."""
    keep(run.config, STOPPED, json.dumps(writers))
    log(f"stopping {', '.join(writers)}")
    for text in run.runtime.stop(tuple(writers), timeout=120) or ():
        log(text)


def described(plan: SourcesPlan, assessed: Sequence[str]) -> list[str]:
    """Return the plan for a terminal, as an operator reads it before typing the confirmation. assessed: its begin."""
    backup = plan.backup
    proof = "proved" if backup.get("proven") else "not proved"
    lines = [*assessed, f"backup: {backup['id']} of {backup['taken_at']}, {proof}"]
    lines += [f"  it is that of recovery point {plan.recovery_point}"] if plan.recovery_point else []
    vault = backup.get("place") in repository_sources.FROM_VAULT
    lines += [f"  it is taken from the vault: {plan.location}"] if vault else []
    lines += cautions(plan.warnings, plan.passed_over, plan.accepted)
    return lines + [f"  {number}. {step}" for number, step in enumerate(plan.steps, 1)]
