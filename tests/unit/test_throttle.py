# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded threads, bytes and rates."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import throttle
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", 0), ("off", 0), ("0", 0), ("1", 1024), ("512k", 512 << 10), ("10M", 10 << 20), ("1.5G", 1.5 * (1 << 30)),
        ("100B", 100), ("10MiB", 10 << 20), ("2 MB/s", 2 << 20),
    ],
)  # fmt: skip
def test_rates(text: str, rate: float) -> None:
    assert throttle.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["fast", "-1", "10M:5M", "08:00,512k", "1e3"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number with K, M or G"):
        throttle.parse_rate(text)


def test_a_rate_holds_over_all_threads() -> None:
    rate = throttle.Rate(100_000)
    start = time.monotonic()
    throttle.each(rate.take, [5_000] * 8, 4)
    assert 0.3 <= time.monotonic() - start < 3


def test_a_budget_is_never_exceeded() -> None:
    budget, lock, held = throttle.Budget(100), threading.Lock(), [0, 0]

    def work(size: int) -> None:
        taken = budget.take(size)
        with lock:
            held[0] += taken
            held[1] = max(held)
        time.sleep(0.002)
        with lock:
            held[0] -= taken
        budget.give(taken)

    throttle.each(work, [30, 60, 500, 10, 0] * 10, 16)
    assert 30 <= held[1] <= 100
    assert budget.take(100, wait=False) == 100
    assert budget.take(1, wait=False) == 0


def test_each_takes_no_more_than_it_works_on() -> None:
    asked, done = [0], threading.Event()

    def endless() -> Iterator[int]:
        while True:
            asked[0] += 1
            yield asked[0]

    def work(number: int) -> None:
        if number == 20:
            raise ValueError(number)
        done.wait(0.001)

    with pytest.raises(ValueError, match="20"):
        throttle.each(work, endless(), 4)
    assert asked[0] <= 24


def test_an_iterator_that_fails_stops_everything() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        throttle.each(lambda _: None, broken(), 4)


def test_what_is_made_of_each_is_in_the_order_of_the_items() -> None:
    assert throttle.mapped(lambda number: time.sleep((5 - number) / 1000) or number * 2, range(6)) == [
        0,
        2,
        4,
        6,
        8,
        10,
    ]
    assert throttle.mapped(str, []) == []
    with pytest.raises(ZeroDivisionError):
        throttle.mapped(lambda number: 1 / number, [2, 1, 0])


def test_few_items_start_few_threads() -> None:
    before, most = threading.active_count(), [0]

    def work(_number: int) -> None:
        most[0] = max(most[0], threading.active_count() - before)

    throttle.each(work, [1, 2], 100)
    assert 1 <= most[0] <= 3
