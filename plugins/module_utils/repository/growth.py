# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When will the place of the backups be full? By what retention keeps of a future like the past. And is a backup of a
size that those before it do not explain? Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Optional

from . import retention
from .retention import Backup, Policy

HORIZON = 365
SPAN = timedelta(days=30)
LEAST = timedelta(days=1)
_WEEK = 7
_PER_DAY = 24  # more than that many a day are counted as so many: the plan is of days
Sized = tuple[Backup, int]  # a backup and its bytes
BEFORE = 7  # a backup is held against so many before it
_ENOUGH = 3  # fewer of them tell nothing
_SMALL = 10_000_000  # more by less than this is no news, whatever the ratio


def sudden(size: int, median: float) -> bool:
    """Whether it is less than half of the median of those before it, or more than three times it."""
    return 2 * size < median or (size > 3 * median and size - median > _SMALL)


def jump(backups: Sequence[Sized], now: datetime) -> Optional[tuple[str, int, float]]:
    """The first sudden change of size in the last week, unless it was undone: (id, its size, the median before it)."""
    good = [(backup, size) for backup, size in backups if backup.good and backup.taken_at <= now]
    for number, (backup, size) in enumerate(good[_ENOUGH:], _ENOUGH):
        median = statistics.median(before for _backup, before in good[max(0, number - BEFORE) : number])
        late = now - backup.taken_at > timedelta(days=_WEEK)
        if (
            not late
            and sudden(size, median)
            and sudden(good[-1][1], median)
            and not sudden(good[number - 1][1], median)
        ):
            return backup.id, size, median
    return None


def slope(backups: Sequence[Sized], now: datetime) -> Optional[float]:
    """Bytes that a backup grows by each day: least squares over the last 30 days. None: they are of less than a day.

    Never below zero: a stack that shrank a little does not make room.
    """
    some = [(backup, size) for backup, size in backups if backup.good and now - SPAN <= backup.taken_at <= now]
    if not some or some[-1][0].taken_at - some[0][0].taken_at < LEAST:
        return None
    days = [(backup.taken_at - some[0][0].taken_at).total_seconds() / 86400 for backup, _size in some]
    sizes = [float(size) for _backup, size in some]
    middle, mean = sum(days) / len(days), sum(sizes) / len(sizes)
    spread = sum((day - middle) ** 2 for day in days)
    return max(0.0, sum((day - middle) * (size - mean) for day, size in zip(days, sizes)) / spread)


def days_until_full(free: int, components: Sequence[Sequence[Sized]], policy: Policy, now: datetime) -> Optional[int]:
    """The day on which what is kept needs more than is free; None where a year passes without it.

    Each component goes on as in its last week: as many backups a day, each larger by its slope, where that is known.
    Retention is applied once a week, as if it were a little late.
    """
    series = [_Series(some, now) for some in components if any(backup.good for backup, _size in some)]
    held = sum(item.bytes() for item in series)
    for week in range(0, HORIZON, _WEEK):
        for day in range(week + 1, week + 1 + _WEEK):
            for item in series:
                item.take(now + timedelta(days=day), day)
            if sum(item.bytes() for item in series) - held > free:
                return day
        for item in series:
            item.prune(policy, now + timedelta(days=week + _WEEK))
    return None


class _Series:
    """One component's backups, as they are and as they will be."""

    def __init__(self, backups: Sequence[Sized], now: datetime) -> None:
        good = [(backup, size) for backup, size in backups if backup.good and backup.taken_at <= now]
        self._backups = list(backups)
        self._size = good[-1][1] if good else 0
        self._slope = slope(backups, now) or 0.0
        recent = sum(backup.taken_at > now - timedelta(days=_WEEK) for backup, _size in good)
        self._often = min(_PER_DAY, max(1, round(recent / _WEEK)))

    def take(self, at: datetime, day: int) -> None:
        for number in range(self._often):
            one = Backup(f"future-{day}-{number}", at + timedelta(minutes=number), True)
            self._backups.append((one, int(self._size + self._slope * day)))

    def bytes(self) -> int:
        return sum(size for _backup, size in self._backups)

    def prune(self, policy: Policy, now: datetime) -> None:
        keep = retention.plan([backup for backup, _size in self._backups], policy, now + LEAST).keep
        self._backups = [(backup, size) for backup, size in self._backups if backup.id in keep]
