# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When something ran: wall-clock time for reports, the monotonic clock for durations that no NTP can bend."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from .errors import Log, UsageError

BOOT = Path("/proc/sys/kernel/random/boot_id")
SAY_EVERY = 10.0  # seconds, while something is waited for
TOLERANCE = timedelta(hours=1)  # clocks of two machines may differ so much before one of them counts as wrong


@dataclass(frozen=True)
class Phase:
    """What ended. `monotonic`: start and end by a clock that counts from `boot`; empty where that is not known."""

    started_at: datetime
    finished_at: datetime
    monotonic: tuple[float, ...] = ()
    boot: str = ""


@dataclass(frozen=True)
class Clock:
    """The start of a phase. `boot`: monotonic times of two boots, or of two machines, must never be subtracted."""

    started_at: datetime
    monotonic: float
    boot: str

    def phase(self) -> Phase:
        """Of what ends now."""
        both = (round(self.monotonic, 3), round(time.monotonic(), 3))
        return Phase(self.started_at, datetime.now(timezone.utc), both, self.boot)


def now() -> datetime:
    """The time by this host's clock, UTC."""
    return datetime.now(timezone.utc)


def stamp(moment: Optional[datetime] = None) -> str:
    """A recovery point's id, and the end of every other id, in UTC so that no clock change repeats one."""
    return f"{(moment or datetime.now()).astimezone(timezone.utc):%Y%m%d_%H%M%S}"


def stamped(identity: str) -> Optional[datetime]:
    """The time at the end of an id; None where there is no such day."""
    try:
        return datetime.strptime(identity[-15:], "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def ahead(moment: datetime) -> str:
    """Why a time on record cannot be right: it has not come yet. Empty where it has, as far as clocks agree."""
    at = now()
    if moment <= at + TOLERANCE:
        return ""
    return f"it is dated {format_time(moment)}, and by this host's clock it is {format_time(at)}: one of them is wrong"


def start() -> Clock:
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Clock(datetime.now(timezone.utc), time.monotonic(), boot)


def pause(since: float) -> None:
    """Wait before looking again for what has been waited for since then (monotonic): the longer, the longer."""
    time.sleep(min(0.5, max(0.05, (time.monotonic() - since) / 20)))


class Waiting:
    """Log what is waited for, since when and until when, every SAY_EVERY seconds. deadline: monotonic."""

    def __init__(self, what: str, deadline: float, log: Optional[Log]) -> None:
        self._what, self._deadline, self._log = what, deadline, log
        self._began = self._last = time.monotonic()

    def note(self, state: str) -> None:
        """Log the state of what is waited for, where nothing was logged of it for that long."""
        at = time.monotonic()
        if self._log is None or at - self._last < SAY_EVERY:
            return
        self._last = at
        left = max(0.0, self._deadline - at)
        self._log(f"waiting for {self._what} for {at - self._began:.0f} s, {left:.0f} s more at most: {state}")


def elapsed(phases: Sequence[Phase]) -> tuple[float, Optional[float]]:
    """From the first phase's start to the last one's end: seconds by the wall, and by the monotonic clock if known."""
    if not phases:
        return 0.0, None
    first, last = phases[0], phases[-1]
    wall = round((last.finished_at - first.started_at).total_seconds(), 2)
    boots = {phase.boot for phase in phases}
    known = len(boots) == 1 and boots != {""} and len(first.monotonic) == len(last.monotonic) == 2
    if not known or last.monotonic[1] < first.monotonic[0]:
        return wall, None
    return wall, round(last.monotonic[1] - first.monotonic[0], 2)


def parse_time(text: str) -> datetime:
    """An aware datetime from ISO 8601 (`Z` allowed, which Python < 3.11 does not know). A naive time is UTC.

    One that has no UTC is none: `0001-01-01T00:00:00+14:00` would be of the year 0, and no reckoning with it ends well.
    """
    plain = re.sub(r"[zZ]$", "+00:00", text.strip())
    # Before 3.11 it takes three or six digits of a second only; PostgreSQL leaves trailing zeros out.
    plain = re.sub(r"\.(\d+)", lambda found: f".{found.group(1)[:6]:0<6}", plain, count=1)
    try:
        moment = datetime.fromisoformat(plain)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment.astimezone(timezone.utc)
    except (ValueError, OverflowError) as exc:
        remedy = "Write it like 2026-11-24T02:00:00Z or 2026-11-24T11:00:00+09:00."
        raise UsageError("read a time", text, "it is not ISO 8601", remedy) from exc
    return moment


def format_time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
