# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far long work is: percentage, rate and time left. It is for people, and decides nothing.

A total that is unknown is never shown as a percentage, and one that is a guess is shown as "about".
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Callable, Optional, TypeVar

from .errors import LifeboatError
from .text import human

T = TypeVar("T")
BYTES, OBJECTS = "bytes", "objects"
EVERY = 15.0  # seconds between two lines of a log, and before the first
_WINDOW = 30.0  # seconds that the rate is taken over
_ENDS = 2.0  # seconds for a meter to answer at the end
_PATIENCE = 5.0  # seconds before a rate is good enough to tell the time left
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Gauge:
    """How much of some work is done, by any number of threads.

    what: the work, for a line of a log. total: how much it is; None or 0: unknown. about: the total is a guess.
    meter: tells how much is done, in place of add(); it is read at most once in `pace` seconds, and by who shows it.
    """

    def __init__(
        self, what: str, total: Optional[int] = None, *, unit: str = BYTES, about: bool = False,
        meter: Optional[Callable[[], int]] = None, pace: float = 1.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.what, self._total, self._unit, self._about = what, total or 0, unit, about
        self._meter, self._pace, self._clock = meter, pace, clock
        self._lock = threading.Lock()
        self.began = clock()
        self._done = 0
        self._samples = deque([(self.began, 0)])

    def add(self, amount: int = 1) -> None:
        """Count so much more as done."""
        with self._lock:
            self._done += max(0, amount)
            self._sample()

    def write(self, data: bytes, /) -> int:
        """Count the bytes, as a sink of what is read."""
        self.add(len(data))
        return len(data)

    def counting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; each counts as done when the next one is wanted."""
        for item in items:
            yield item
            self.add()

    @property
    def done(self) -> int:
        with self._lock:
            return self._done

    def text(self) -> str:
        """Return how far it is: "42 %, 118 MB/s, 3 min left"."""
        self._follow()
        with self._lock:
            now = self._clock()
            rate = self._rate(now)
            parts = [self._share(), self._speed(rate)]
            left = self._total - self._done
            if self._total and rate > 0 and left > 0 and now - self.began >= _PATIENCE:
                parts.append(f"{'about ' if self._about else ''}{_duration(left / rate)} left")
            return ", ".join(part for part in parts if part)

    def _share(self) -> str:
        if self._total and not (self._about and self._done > self._total):
            most = 99 if self._about else 100
            return f"{'about ' if self._about else ''}{min(most, 100 * self._done // self._total)} %"
        if self._unit == BYTES:
            return human(self._done) if self._done else ""
        return f"{self._done} {self._unit}"

    def _speed(self, rate: float) -> str:
        if not self._done:
            return ""
        if self._unit == BYTES:
            return f"{human(rate)}/s"
        return f"{rate:.0f} {self._unit}/s" if rate >= 10 or not rate else f"{60 * rate:.0f} {self._unit}/min"

    def _read(self) -> Optional[int]:
        with contextlib.suppress(LifeboatError):  # who does the work says what is wrong
            return self._meter() if self._meter else None
        return None

    def _follow(self) -> None:
        with self._lock:
            due = self._meter is not None and self._clock() - self._samples[-1][0] >= self._pace
        shown = self._read() if due else None  # a meter may take its time, and who works must not wait for it
        if shown is not None:
            with self._lock:
                self._done = max(self._done, shown)
                self._sample()

    def _sample(self) -> None:
        now = self._clock()
        if now - self._samples[-1][0] >= self._pace:
            self._samples.append((now, self._done))
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()

    def _rate(self, now: float) -> float:
        """Return how much was done in a second, of late."""
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        return (self._done - before) / (now - since) if now > since else 0.0


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    if seconds < 100 * _MINUTE:
        return f"{math.ceil(seconds / _MINUTE)} min"
    if seconds < 100 * _HOUR:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:02.0f} min"
    return f"{math.ceil(seconds / _DAY)} days"


_GOING: list[Gauge] = []


@contextlib.contextmanager
def going(gauge: Gauge) -> Iterator[Gauge]:
    """Meanwhile a terminal and the log show this gauge."""
    _GOING.append(gauge)
    try:
        yield gauge
    finally:
        _GOING.remove(gauge)


def current() -> Optional[Gauge]:
    """Return the gauge of the work that began last and still goes on."""
    shown = _GOING[-1:]
    return shown[0] if shown else None


class Teller:
    """Tells of each work that takes long, in a line every EVERY seconds."""

    def __init__(self, tell: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._last: dict[Gauge, float] = {}

    def turn(self) -> None:
        """Tell of those whose time has come."""
        gauges, now = list(_GOING), self._clock()
        self._last = {gauge: self._last.get(gauge, gauge.began) for gauge in gauges}
        for gauge in gauges:
            if now - self._last[gauge] >= EVERY:
                self._last[gauge] = now
                if text := gauge.text():
                    self._tell(f"{gauge.what}: {text}")


@contextlib.contextmanager
def told(tell: Callable[[str], object], every: float = 1.0) -> Iterator[None]:
    """Meanwhile `tell` gets a line every EVERY seconds about each work that takes longer than that."""
    ended, teller = threading.Event(), Teller(tell)

    def follow() -> None:
        while not ended.wait(every):
            teller.turn()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=_ENDS)  # a meter that does not answer must not keep what has ended
