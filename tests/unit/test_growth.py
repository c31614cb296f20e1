# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a disk will be full: by the growth that was measured and by what retention keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import growth
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import Backup, Policy
from builders import NOW

GB = 10**9
DAY = timedelta(days=1)
POLICY = Policy()


def nightly(days: int, size: int, more: int = 0, good: bool = True) -> list[growth.Sized]:
    """One backup a night, the newest of `size` bytes, each `more` larger than the one before."""
    found = [(Backup(f"b{n}", NOW - n * DAY, good), size - n * more) for n in range(days)]
    return found[::-1]


SLOPES: list[tuple[str, list[growth.Sized], Optional[float]]] = [
    ("steady", nightly(10, 1000), 0.0),
    ("growing", nightly(10, 1000, 50), 50.0),
    ("shrinking makes no room", nightly(10, 1000, -50), 0.0),
    ("two of one day tell nothing", [(Backup("a", NOW - DAY / 2, True), 1), (Backup("b", NOW, True), 9)], None),
    ("one tells nothing", nightly(1, 1000), None),
    ("bad ones tell nothing", nightly(10, 1000, 50, good=False), None),
]


@pytest.mark.parametrize(("kept", "expected"), [case[1:] for case in SLOPES], ids=[case[0] for case in SLOPES])
def test_slope(kept: list[growth.Sized], expected: Optional[float]) -> None:
    found = growth.slope(kept, NOW)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_disk_of_exactly_what_retention_keeps_is_never_full() -> None:
    """31 days, 13 Sundays, 12 firsts, and a week of lateness: a year needs no more than 70 of the same size."""
    assert growth.days_until_full(70 * GB, [nightly(31, GB)], POLICY, NOW) is None


def test_the_first_backups_of_a_new_stack_fill_a_small_disk() -> None:
    assert growth.days_until_full(10 * GB, [nightly(2, GB)], POLICY, NOW) == 11
    assert growth.days_until_full(0, [nightly(2, GB)], POLICY, NOW) == 1
    assert growth.days_until_full(10 * GB, [nightly(2, GB), nightly(2, GB)], POLICY, NOW) == 6


def test_growth_brings_the_day_nearer() -> None:
    steady = growth.days_until_full(25 * GB, [nightly(31, GB)], POLICY, NOW)
    growing = growth.days_until_full(25 * GB, [nightly(31, GB, GB // 32)], POLICY, NOW)
    assert growing is not None
    assert steady is None or growing < steady


def test_as_many_a_day_as_there_were() -> None:
    hourly = [(Backup(f"h{n}", NOW - n * timedelta(hours=1), True), GB) for n in range(7 * 24)][::-1]
    assert growth.days_until_full(24 * GB, [hourly], POLICY, NOW) == 2


def test_nothing_there_needs_nothing() -> None:
    assert growth.days_until_full(0, [[], nightly(3, GB, good=False)], POLICY, NOW) is None


def sizes(*given: int) -> list[growth.Sized]:
    """One backup a night, the last one tonight."""
    return [
        (Backup(f"b{number}", NOW - (len(given) - 1 - number) * DAY, True), size) for number, size in enumerate(given)
    ]


TEN = [100 * 10**6] * 10
JUMPS: list[tuple[str, list[growth.Sized], Optional[str]]] = [
    ("steady", sizes(*TEN), None),
    ("half is no jump", sizes(*TEN, 50 * 10**6), None),
    ("less than half", sizes(*TEN, 49 * 10**6), "b10"),
    ("three times is none", sizes(*TEN, 300 * 10**6), None),
    ("more than three times", sizes(*TEN, 301 * 10**6), "b10"),
    ("more by little", sizes(*[10**6] * 10, 9 * 10**6), None),
    ("the first of them is told, for a week", sizes(*TEN, *[40 * 10**6] * 8), "b10"),
    ("and then no more", sizes(*TEN, *[40 * 10**6] * 9), None),
    ("undone", sizes(*TEN, 40 * 10**6, 90 * 10**6), None),
    ("too few before it", sizes(100, 100, 1), None),
    ("enough before it", sizes(100, 100, 100, 1), "b3"),
    ("growth by and by", sizes(*(int(10**8 * 1.1**night) for night in range(60))), None),
    ("one that is to come", [*sizes(*TEN), (Backup("later", NOW + DAY, True), 1)], None),
    ("one that is not good", [*sizes(*TEN), (Backup("bad", NOW, False), 1)], None),
]


@pytest.mark.parametrize(("kept", "expected"), [case[1:] for case in JUMPS], ids=[case[0] for case in JUMPS])
def test_a_size_that_those_before_do_not_explain(kept: list[growth.Sized], expected: Optional[str]) -> None:
    found = growth.jump(kept, NOW)
    assert (found[0] if found else None) == expected
