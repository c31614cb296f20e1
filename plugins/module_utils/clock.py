# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When something ran: the wall's time for people, the monotonic clock for durations that no NTP can bend."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from .manifest import format_time, parse_time

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Clock:
    """The start of a phase. `boot`: monotonic times of two boots, or of two machines, must never be subtracted."""

    started_at: datetime
    monotonic: float
    boot: str

    def phase(self) -> dict[str, Any]:
        """{started_at, finished_at, monotonic: [start, end], boot} of what ends now."""
        return {
            "started_at": format_time(self.started_at),
            "finished_at": format_time(datetime.now(timezone.utc)),
            "monotonic": [round(self.monotonic, 3), round(time.monotonic(), 3)],
            "boot": self.boot,
        }


def start() -> Clock:
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Clock(datetime.now(timezone.utc), time.monotonic(), boot)


def elapsed(phases: Sequence[Mapping[str, Any]]) -> tuple[float, Optional[float]]:
    """From the first phase's start to the last one's end: seconds by the wall, and by the monotonic clock if known."""
    if not phases:
        return 0.0, None
    wall = (
        parse_time(str(phases[-1]["finished_at"])) - parse_time(str(phases[0]["started_at"]))
    ).total_seconds()  # fmt: skip
    first, last = _pair(phases[0]), _pair(phases[-1])
    boots = {str(one.get("boot") or "") for one in phases}
    if not first or not last or len(boots) != 1 or boots == {""} or last[1] < first[0]:
        return round(wall, 2), None
    return round(wall, 2), round(last[1] - first[0], 2)


def _pair(phase: Mapping[str, Any]) -> Optional[tuple[float, float]]:
    given = phase.get("monotonic")
    if isinstance(given, (list, tuple)) and len(given) == 2:
        try:
            return float(given[0]), float(given[1])
        except (TypeError, ValueError):
            pass
    return None
