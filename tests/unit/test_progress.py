# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long work is, on a clock of its own: percentage, rate, time left, and how often it is told."""

from __future__ import annotations

import re
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import progress
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from builders import until
from hypothesis import given
from hypothesis import strategies as st

MB = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gauge(clock: Clock, total: Optional[int] = None, **options: object) -> progress.Gauge:
    return progress.Gauge("copying", total, clock=clock, **options)  # type: ignore[arg-type]


def test_a_known_total_gives_percentage_rate_and_time_left() -> None:
    clock = Clock()
    work = gauge(clock, 36_000 * MB)
    for _second in range(128):
        clock.now += 1
        work.add(118 * MB)
    assert work.text() == "41 %, 118 MB/s, 3 min left"


def test_an_unknown_total_is_no_percentage() -> None:
    clock = Clock()
    for total in (None, 0):
        work = gauge(clock, total)
        clock.now += 10
        work.add(1200 * MB)
        assert work.text() == "1.2 GB, 120 MB/s"


def test_a_guess_is_told_as_one_and_given_up_when_it_was_too_low() -> None:
    clock = Clock()
    work = gauge(clock, 100 * MB, about=True)
    clock.now += 10
    work.add(50 * MB)
    assert work.text() == "about 50 %, 5.0 MB/s, about 10 s left"
    work.add(50 * MB)
    assert work.text() == "about 99 %, 10.0 MB/s"
    work.add(20 * MB)
    assert work.text() == "120 MB, 12.0 MB/s"


def test_the_time_left_waits_until_the_rate_is_known() -> None:
    clock = Clock()
    work = gauge(clock, 100, unit=progress.OBJECTS)
    clock.now += 4
    work.add(40)
    assert work.text() == "40 %, 10 objects/s"
    clock.now += 1
    assert work.text() == "40 %, 480 objects/min, 8 s left"


def test_the_rate_is_that_of_the_last_30_seconds() -> None:
    clock = Clock()
    work = gauge(clock, 10_000 * MB)
    for _second in range(60):
        clock.now += 1
        work.add(100 * MB)
    for _second in range(30):
        clock.now += 1
        work.add(1 * MB)
    assert work.text() == "60 %, 1.0 MB/s, 67 min left"
    clock.now += 31
    assert work.text() == "60 %, 0 B/s", "what stands still has no time left"


def test_before_anything_is_done_there_is_nothing_to_tell_but_the_percentage() -> None:
    clock = Clock()
    assert gauge(clock).text() == ""
    assert gauge(clock, 5).text() == "0 %"


def test_a_meter_is_read_no_more_often_than_said_and_never_goes_back() -> None:
    clock, reads, amount = Clock(), list[int](), [0]

    def meter() -> int:
        reads.append(amount[0])
        return amount[0]

    work = gauge(clock, 10 * MB, meter=meter, pace=5.0)
    amount[0] += 5 * MB
    clock.now += 4
    assert work.text() == "0 %"
    clock.now += 1
    assert work.text().startswith("50 %")
    assert work.text().startswith("50 %")
    assert len(reads) == 1
    amount[0] = 0
    clock.now += 5
    assert work.text().startswith("50 %"), "a meter that falls back takes nothing away"


def test_a_meter_that_cannot_be_read_stops_nothing() -> None:
    def meter() -> int:
        raise LifeboatError("ask", "it", "no answer")

    clock = Clock()
    work = gauge(clock, 10, meter=meter)
    clock.now += 10
    assert work.text() == "0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (99, "99 s"), (101, "2 min"), (5999, "100 min"), (6000, "1 h 40 min"), (360_001, "5 days")],
)
def test_the_time_left_is_round(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text


STEPS = st.lists(st.tuples(st.integers(-5, 10**12), st.floats(0, 10**5)), max_size=60)


@given(total=st.one_of(st.none(), st.integers(0, 10**13)), about=st.booleans(), steps=STEPS)
def test_whatever_happens_the_percentage_only_grows_and_ends_at_100(
    total: Optional[int], about: bool, steps: list[tuple[int, float]]
) -> None:
    clock, last = Clock(), 0
    work = gauge(clock, total, about=about)
    for amount, seconds in steps:
        clock.now += seconds
        work.add(amount)
        text = work.text()
        shown = re.search(r"(\d+) %", text)
        assert not (shown and not total), "no percentage of what is unknown"
        assert "-" not in text
        if shown:
            assert last <= int(shown[1]) <= (99 if about else 100)
            assert text.startswith("about ") == about
            last = int(shown[1])
        if "left" in text:
            assert total
            assert work.done < total


def test_long_work_is_told_every_15_seconds_and_short_work_never() -> None:
    clock, lines = Clock(), list[str]()
    teller = progress.Teller(lines.append, clock)
    with progress.going(gauge(clock, 100, unit=progress.OBJECTS)) as work:
        for _second in range(14):
            clock.now += 1
            work.add()
            teller.turn()
    assert lines == [], "it ended before"
    with progress.going(gauge(clock, 100, unit=progress.OBJECTS)) as work:
        for _second in range(44):
            clock.now += 1
            work.add()
            teller.turn()
    assert lines == [
        "copying: 15 %, 60 objects/min, 85 s left",
        "copying: 30 %, 60 objects/min, 70 s left",
    ]
    clock.now += 60
    teller.turn()
    assert len(lines) == 2, "what has ended is told no more"


def test_the_work_that_began_last_is_the_current_one() -> None:
    clock = Clock()
    assert progress.current() is None
    with progress.going(gauge(clock)) as outer:
        with progress.going(gauge(clock)) as inner:
            assert progress.current() is inner
        assert progress.current() is outer
    with pytest.raises(ValueError, match="broken"), progress.going(gauge(clock)):
        raise ValueError("broken")
    assert progress.current() is None


def test_it_is_told_meanwhile_and_not_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    lines = list[str]()
    with progress.told(lines.append, every=0.01), progress.going(progress.Gauge("reading", 4, unit="entries")) as work:
        work.add(2)
        until(lambda: bool(lines))
    assert lines[0].startswith("reading: 50 %, ")
    count = len(lines)
    with progress.going(progress.Gauge("reading", 4)):
        pass
    assert len(lines) == count
