# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator asks of a bucket's recovery, and which backup answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..base.clock import format_time
from ..base.errors import IntegrityError, NotFoundError, UsageError, present
from ..mirror.listing import Point
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.sources import Sources
from ..settings.config import Config

LATEST = ("", "latest")


@dataclass(frozen=True)
class Request:
    """What the operator asked for. identity: a recovery point, an objects backup, or `latest`, which asks for none.

    prefix: only these keys. exact: what the point does not know goes into quarantine. partial: recover what can be,
    where the vault no longer has all of it.
    """

    identity: str = "latest"
    before: Optional[datetime] = None
    force: bool = False
    method: str = "auto"
    prefix: str = ""
    exact: bool = False
    partial: bool = False

    @property
    def state(self) -> str:
        """The state that was named, in the words it is remembered by."""
        return self.identity if self.identity not in LATEST else format_time(self.before) if self.before else ""

    @property
    def asked(self) -> bool:
        return bool(self.force or self.state or self.prefix)


def reference_of(sources: Sources) -> Optional[Point]:
    """What should be there: the newest good backup, or the fuller one before it; its bytes are checked."""
    for entry in reversed(sources.found):
        if entry.good and entry.manifest and not catalog.shrunk(sources.found, entry.id)[0]:
            point = Point(sources.repo(entry), entry.manifest)
            if not point.problem():
                return point
    return None


def choose(config: Config, sources: Sources, request: Request) -> tuple[Entry, Point, list[dict[str, str]]]:
    """The backup, its listing's bytes checked. A broken newest one is passed over, and said so."""
    passed: list[Entry] = []
    candidates = list(sources.found)
    named = request.identity not in LATEST
    while True:
        identity = sources.tied or request.identity
        chosen, newer = catalog.choose(candidates, config.stack, identity=identity, before=request.before)
        passed += newer
        less, fuller = catalog.shrunk(candidates, chosen.id)
        if less and not named:
            raise UsageError(
                "choose a backup", config.stack, f"{less}: which of them is right is not ours to guess",
                f"Name the one you want: -e recovery_point={fuller} (or {chosen.id}).",
            )  # fmt: skip
        point = Point(sources.repo(chosen), present(chosen.manifest))
        problem = point.problem()
        if not problem:
            return chosen, point, [{"id": entry.id, "problem": entry.problem} for entry in passed]
        copy = sources.copy_of(chosen)
        if copy:
            passed.append(replace(chosen, problem=f"{problem} in the repository; the vault has a copy"))
            candidates = [copy if entry is chosen else entry for entry in candidates]
            continue
        if named:
            raise IntegrityError("use the backup", chosen.id, problem, "Choose another (`lifeboat list`).")
        passed.append(replace(chosen, problem=problem))
        if sources.tied:
            sources.untie(problem)
        candidates = [entry for entry in candidates if entry.id < chosen.id]
        if not candidates:
            raise NotFoundError(
                "choose a backup", config.stack, "; ".join(f"{entry.id}: {entry.problem}" for entry in passed[:3]),
                "No backup's listing is whole; look in the vault's repository.",
            )  # fmt: skip
