# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup to be proved, and what was found."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Callable, Optional

from ..base.checks import Check, Verdict, verdict
from ..base.clock import format_time
from ..base.errors import Log
from ..base.text import Untested
from ..base.version import VERSION
from ..repository import catalog
from ..repository.base import Repository
from ..repository.manifest import Manifest
from ..stack.runtime import Opened


@dataclass(frozen=True)
class Proof:
    """A backup to be proved. folder: where its artefacts lie; level, sample: how far to go; key: what opens secrets.
    record: what is found is remembered. spoiled: the parts of the backup whose bytes are not those that were written.
    """

    run: Opened
    repo: Repository
    manifest: Manifest
    folder: Path = Path()
    level: str = ""
    sample: Optional[int] = 0
    log: Log = lambda _: None
    key: str = ""
    record: bool = True
    spoiled: Collection[str] = ()


Prove = Callable[[Proof], Iterator[Check]]


@dataclass(frozen=True)
class Result:
    """What one verification found. verdict: PASS, FAIL or COULD_NOT_VERIFY. parts: of each backup, where several.

    taken_at, size: of the backup, where its manifest could be read. databases: the verdict on each database of it, and
    what was found of one that did not pass; none where the verdict is the same for all. gaps: what of the stack no
    backup holds, as this one says: it is told, and lowers no verdict on what the backup does hold.
    """

    id: str
    level: str
    checks: tuple[Check, ...]
    started_at: datetime
    finished_at: datetime
    parts: tuple[Result, ...] = ()
    taken_at: str = ""
    size: int = 0
    databases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    gaps: tuple[Untested, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "level": self.level,
            "verdict": self.verdict,
            "started_at": format_time(self.started_at),
            "finished_at": format_time(self.finished_at),
            "tool": f"lifeboat {VERSION}",
            "checks": [check.as_dict() for check in self.checks],
            **({catalog.BY_DATABASE: self._by_database()} if self.databases else {}),
            **({"parts": [result.as_dict() for result in self.parts]} if self.parts else {}),
        }

    def _by_database(self) -> dict[str, dict[str, str]]:
        return {
            name: {"verdict": found, **({"reason": reason} if reason else {})}
            for name, (found, reason) in self.databases.items()
        }
