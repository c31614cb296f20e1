# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verification found, and a proof of the escrow, as it is returned and kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..base.checks import Check, Verdict, verdict
from ..base.clock import format_time
from ..base.version import VERSION


@dataclass(frozen=True)
class Result:
    """What one verification found. verdict: PASS, FAIL or COULD_NOT_VERIFY. parts: of each backup, where several.

    taken_at, size: of the backup, where its manifest could be read.
    """

    id: str
    level: str
    checks: tuple[Check, ...]
    started_at: datetime
    finished_at: datetime
    parts: tuple[Result, ...] = ()
    taken_at: str = ""
    size: int = 0

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
            **({"parts": [result.as_dict() for result in self.parts]} if self.parts else {}),
        }
