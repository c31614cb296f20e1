# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prune of bases and spans: a base that stays never loses its WAL, and the window never shrinks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import Backup
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.trail import Base, Reach, trail

BEGIN = datetime(2026, 12, 1, tzinfo=timezone.utc)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WINDOW = 7
PER_HOUR = 100 << 20  # bytes of WAL


def base(day: float, *, verified: bool = True, good: bool = True, **changes: object) -> Base:
    at = BEGIN + day * DAY
    backup = Backup(f"base_backup_{at:%Y%m%d_%H%M%S}", at, good, verified and good)
    return replace(Base(backup, "1", 1, round(day * 24) * PER_HOUR), **changes)  # type: ignore[arg-type]


def spans(first: int, last: int, **changes: object) -> list[Reach]:
    """One for each hour of these days."""
    return [
        replace(
            Reach(
                f"wal_backup_{BEGIN + hour * HOUR:%Y%m%d_%H%M%S}",
                "1",
                1,
                hour * PER_HOUR + PER_HOUR,
                BEGIN + (hour + 1) * HOUR,
            ),
            **changes,  # type: ignore[arg-type]
        )
        for hour in range(first * 24, last * 24)
    ]


def test_what_is_older_than_the_window_goes_and_no_more() -> None:
    """Of twenty nights, all proved: the base with which the window begins, and all since then."""
    plan = trail([base(day) for day in range(20)], spans(0, 20), WINDOW, BEGIN + 19.9 * DAY)
    assert next(name for name in plan.keep if name.startswith("base")) == base(11).backup.id
    assert plan.delete == [*(base(day).backup.id for day in range(11)), *(span.id for span in spans(0, 11))]


@pytest.mark.parametrize("count", [0, 1, 60])
def test_nothing_goes_while_no_base_is_proved(count: int) -> None:
    plan = trail([base(day, verified=False) for day in range(count)], spans(0, 60), WINDOW, BEGIN + 60 * DAY)
    assert plan.delete == []


def test_nothing_goes_while_the_proved_base_is_inside_the_window() -> None:
    """The window would begin later than it should."""
    bases = [base(day, verified=day == 15) for day in range(20)]
    plan = trail(bases, spans(0, 20), WINDOW, BEGIN + 20 * DAY)
    assert plan.delete == []
    assert trail([*bases, *(base(day) for day in range(20, 24))], spans(0, 24), WINDOW, BEGIN + 24 * DAY).delete != []


def test_a_proof_that_fails_for_weeks_keeps_the_wal_since_the_last_one_that_passed() -> None:
    bases = [base(day, verified=day <= 10) for day in range(40)]
    plan = trail(bases, spans(0, 40), WINDOW, BEGIN + 40 * DAY)
    assert {span.id for span in spans(10, 40)} <= plan.keep.keys()
    assert {item.backup.id for item in bases[10:]} <= plan.keep.keys()
    assert base(9).backup.id in plan.delete


def test_the_window_stands_still_while_no_base_is_taken() -> None:
    bases = [base(day) for day in range(20)]
    then = trail(bases, spans(0, 20), WINDOW, BEGIN + 20 * DAY)
    assert trail(bases, spans(0, 20), WINDOW, BEGIN + 2000 * DAY).delete == then.delete


def test_a_hold_keeps_the_base_and_its_trail() -> None:
    early = base(2)
    held = replace(early, backup=replace(early.backup, hold="a recovery needs it"))
    plan = trail([base(0), base(1), held, *(base(day) for day in range(3, 20))], spans(0, 20), WINDOW, BEGIN + 20 * DAY)
    assert held.backup.id in plan.keep
    assert {span.id for span in spans(2, 20)} <= plan.keep.keys()
    assert {span.id for span in spans(0, 2)} <= {*plan.delete}


def test_what_could_not_be_read_stays_and_so_does_all_that_it_may_need() -> None:
    lost = replace(base(0), system="", backup=replace(base(0).backup, good=False, verified=False, unknown="no answer"))
    plan = trail([lost, *(base(day) for day in range(1, 20))], spans(0, 20), WINDOW, BEGIN + 20 * DAY)
    assert lost.backup.id in plan.keep
    assert {span.id for span in spans(0, 20)} <= plan.keep.keys()
    unread = spans(0, 1, system="", until=None)
    plan = trail([base(day) for day in range(20)], [*unread, *spans(1, 20)], WINDOW, BEGIN + 20 * DAY)
    assert {span.id for span in unread} <= plan.keep.keys()


def test_a_timeline_that_began_before_the_base_is_not_needed_by_it() -> None:
    """After a recovery on day 10 the server is on timeline 2; what the first one wrote afterwards nobody can reach."""
    bases = [base(day, timeline=1 if day < 10 else 2) for day in range(30)]
    abandoned = spans(10, 12)
    ours = [replace(span, id=f"{span.id[:-1]}1") for span in spans(10, 30, timeline=2)]
    plan = trail(bases, [*spans(0, 10), *abandoned, *ours], WINDOW, BEGIN + 30 * DAY)
    assert {span.id for span in abandoned} <= {*plan.delete}
    inside = trail(bases[:16], [*spans(0, 10), *abandoned, *ours], WINDOW, BEGIN + 15 * DAY)
    assert {span.id for span in abandoned} <= inside.keep.keys(), "the base of day 8 can still go there"


def test_the_history_of_a_timeline_outlives_the_span_that_brought_it() -> None:
    brought = replace(spans(10, 11)[0], timeline=2, histories=(2,))
    bases = [base(day, timeline=1 if day < 10 else 2) for day in range(40)]
    later = spans(11, 40, timeline=2)
    plan = trail(bases, [brought, *later], WINDOW, BEGIN + 40 * DAY)
    assert plan.keep[brought.id] == ["it has the history of a timeline that is needed"]
    again = [*later[:-1], replace(later[-1], histories=(2,))]
    assert brought.id in trail(bases, [brought, *again], WINDOW, BEGIN + 40 * DAY).delete


@dataclass
class World:
    """Sixty days of a host on which anything may fail, and of a prune each night."""

    seed: int
    bases: dict[str, Base] = field(default_factory=dict)
    spans: dict[str, Reach] = field(default_factory=dict)
    system: int = 1
    timeline: int = 1
    position: int = 0

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)  # noqa: S311
        self.fails = self.source.choice([0.0, 0.1, 0.5, 0.9])
        self.unread = self.source.choice([0.0, 0.02])

    def hour(self, at: datetime) -> None:
        if self.source.random() < 0.002:
            self.system, self.timeline, self.position = self.system + 1, 1, 0
        elif self.source.random() < 0.004:
            self.timeline += 1
        self.position += self.source.randrange(1, PER_HOUR)
        name = f"wal_backup_{at:%Y%m%d_%H%M%S}"
        histories = (self.timeline,) if self.timeline > 1 and self.source.random() < 0.1 else ()
        self.spans[name] = Reach(name, str(self.system), self.timeline, self.position, at + HOUR, histories)

    def night(self, at: datetime) -> None:
        if self.source.random() >= self.fails:
            name = f"base_backup_{at:%Y%m%d_%H%M%S}"
            good, verified = self.source.random() < 0.95, self.source.random() >= self.fails
            self.bases[name] = Base(
                Backup(name, at, good, good and verified), str(self.system), self.timeline, self.position
            )

    def anchored(self, since: datetime) -> Optional[Base]:
        """The newest proved base before that instant, of what is still there."""
        proved = [item for item in self.bases.values() if item.backup.verified and item.backup.taken_at <= since]
        return max(proved, key=lambda item: item.backup.taken_at, default=None)


@pytest.mark.parametrize("seed", range(8))
def test_sixty_days_of_prune(seed: int) -> None:
    world = World(seed)
    deleted: dict[str, Reach] = {}
    for day in range(60):
        for hour in range(24):
            world.hour(BEGIN + day * DAY + hour * HOUR)
        now = BEGIN + (day + 1) * DAY
        world.night(now)
        shown = [
            replace(span, system="", until=None) if world.source.random() < world.unread else span
            for span in world.spans.values()
        ]
        plan = trail([*world.bases.values()], shown, WINDOW, now)
        assert {*plan.keep} | {*plan.delete} == world.bases.keys() | world.spans.keys()
        assert not {*plan.keep} & {*plan.delete}
        good = [item.backup.taken_at for item in world.bases.values() if item.backup.good]
        begins = max(good, default=now) - WINDOW * DAY
        before = world.anchored(begins)
        if before is None:
            assert plan.delete == [], "nothing goes while no base is proved that is older than the window"
        for name in plan.delete:
            if name in world.spans:
                deleted[name] = world.spans.pop(name)
            else:
                del world.bases[name]
        assert world.anchored(begins) == before, "the window begins where it began before the prune"
        if before is not None:
            assert all(span.until and span.until < before.backup.taken_at for span in deleted.values()), (
                "no hour of it is gone"
            )
        for item in world.bases.values():
            lost = [
                span.id
                for span in deleted.values()
                if span.system == item.system and span.timeline >= item.timeline and span.end > item.start
            ]
            assert lost == [], f"{item.backup.id} stays without its WAL"
        there = {(span.system, timeline) for span in world.spans.values() for timeline in span.histories}
        last = {
            system: max(span.timeline for span in world.spans.values() if span.system == system)
            for system in {span.system for span in world.spans.values()}
        }
        gone = {(span.system, timeline) for span in deleted.values() for timeline in span.histories} - there
        assert not [each for each in gone if each[1] <= last.get(each[0], 0)], "a history went that is needed"
    if not world.fails and not world.unread:
        assert len(world.bases) <= (WINDOW + 3) * 2
        assert deleted, "the disk is no longer than the formula"
