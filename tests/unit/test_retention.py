# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: each rule alone in a table, then years of nightly pruning checked against the promises themselves.

Speed, measured by hand and not asserted here: time.process_time() around plan() of 100,000 backups (2 a day for 137
years, Asia/Tokyo, 1 in 20 bad) says 0.35 s on one core of the 2-core build machine; the promise is 1 s.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any, Callable
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.retention import (
    Backup,
    Plan,
    Point,
    Policy,
    plan,
    plan_all,
)

UTC = timezone.utc
NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)  # a Tuesday


def backup(when: str, good: bool = True, **more: Any) -> Backup:
    taken = datetime.fromisoformat(when if "T" in when else when + "T02:00").replace(tzinfo=UTC)
    return Backup(id=f"{taken:%Y-%m-%dT%H:%M}", taken_at=taken, good=good, **more)


def nightly(first: str, last: str) -> list[Backup]:
    day, end, found = date.fromisoformat(first), date.fromisoformat(last), []
    while day <= end:
        found.append(backup(day.isoformat()))
        day += timedelta(days=1)
    return found


def kept_days(result: Plan) -> set[str]:
    return {id_[:10] for id_ in result.keep}


# A minimum of 1 keeps the floor out of sight of the rule under test; RECENT gives the plan a newest good backup.
ONE = Policy(minimum=1)
RECENT = backup("2026-11-24")


@pytest.mark.parametrize(
    ("given", "policy", "expected"),
    [
        # daily: 30 days inclusive, as `find -mtime +30` deletes from day 31 on
        (backup("2026-10-25"), ONE, "daily: 30 days old, kept 30"),  # a Sunday as well
        (backup("2026-10-26"), ONE, "daily: 29 days old, kept 30"),
        # weekly: Sunday, three calendar months, to the day
        (backup("2026-08-23"), replace(ONE, monthly_months=0), None),
        (backup("2026-08-30"), ONE, "weekly: Sunday 2026-08-30, kept until 2026-11-30"),
        # Monday stands in where Sunday has none
        (
            backup("2026-08-31"),
            ONE,
            "weekly: Sunday 2026-08-30, promoted from 2026-08-31 (that day has no good backup), kept until 2026-11-30",
        ),
        (backup("2026-09-09"), replace(ONE, weekly_day="wednesday"),
         "weekly: Wednesday 2026-09-09, kept until 2026-12-09"),
        # monthly: the 1st, a year
        (backup("2025-11-24"), ONE, "monthly: 2025-11-01, promoted from 2025-11-24 (that day has no good backup), "
         "kept until 2026-11-24"),
        (backup("2025-11-23"), ONE, None),
        (backup("2025-12-01"), ONE, "monthly: 2025-12-01, kept until 2026-12-01"),
        # an anchor beyond the month's end is the month's last day
        (backup("2026-02-28"), replace(ONE, monthly_day=31), "monthly: 2026-02-28, kept until 2027-02-28"),
        (backup("2026-04-15"), replace(ONE, monthly_day=31, monthly_months=9),
         "monthly: 2026-03-31, promoted from 2026-04-15 (that day has no good backup), kept until 2027-01-15"),
        # rules off
        (backup("2026-08-30"), replace(ONE, weekly_months=0, monthly_months=0), None),
        (backup("2026-11-23"), replace(ONE, daily_days=0, weekly_months=0, monthly_months=0), None),
        # not good
        (backup("2026-10-25", good=False), ONE, "not good: kept 30 days for inspection"),
        (backup("2026-10-24", good=False), ONE, None),
        (backup("2026-11-24T05:00", good=False), ONE, "not good: kept until a newer good backup exists"),
        # whatever else is true of it
        (backup("2020-01-02", pinned=True), ONE, "pinned"),
        (backup("2020-01-02", good=False, pinned=True), ONE, "pinned"),
        (backup("2020-01-02", verified=True), ONE, "floor: newest verified"),
        (backup("2020-01-02", good=False, verified=True), ONE, None),
        (backup("2026-11-24T07:00"), ONE, "future: taken after now"),
        (backup("2020-01-02"), replace(ONE, minimum=2), "floor: newest 2"),
    ],
    ids=lambda value: value.id if isinstance(value, Backup) else "",
)  # fmt: skip
def test_one_backup(given: Backup, policy: Policy, expected: str | None) -> None:
    result = plan([given, RECENT], policy, NOW)
    if expected is None:
        assert result.delete == [given.id]
    else:
        assert expected in result.keep[given.id]
        assert given.id not in result.delete


@pytest.mark.parametrize(
    ("taken", "last_day"),
    [
        ("2026-02-28", "2026-05-31"),  # 3 months before 29, 30 and 31 May is 28 February
        ("2026-02-27", "2026-05-27"),
        ("2025-11-30", "2026-02-28"),
        ("2025-11-29", "2026-02-28"),  # there is no 29 February 2026
        ("2027-11-29", "2028-02-29"),  # there is one in 2028
        ("2026-03-31", "2026-06-30"),
        ("2026-12-31", "2027-03-31"),
        ("2026-10-15", "2027-01-15"),
    ],
)
def test_calendar_months_clamp(taken: str, last_day: str) -> None:
    weekday = date.fromisoformat(taken).strftime("%A")
    policy = Policy(daily_days=0, monthly_months=0, minimum=1, weekly_day=weekday)
    last = date.fromisoformat(last_day)
    for day, kept in ((last, True), (last + timedelta(days=1), False)):
        today = backup(day.isoformat())
        assert (backup(taken).id in plan([backup(taken), today], policy, today.taken_at).keep) is kept


def test_local_dates_decide() -> None:
    """2026-08-29 15:30 UTC is Sunday in Tokyo and Saturday in UTC; 00:30 in Berlin on both sides of a clock change."""
    saturday = backup("2026-08-29T15:30")
    tokyo = plan([saturday, RECENT], replace(ONE, monthly_months=0, timezone="Asia/Tokyo"), NOW)
    assert tokyo.keep[saturday.id] == ["weekly: Sunday 2026-08-30, kept until 2026-11-30"]
    berlin = Policy(minimum=1, weekly_months=0, monthly_months=0, daily_days=2, timezone="Europe/Berlin")
    before, after = backup("2026-10-23T22:30"), backup("2026-10-26T23:30")  # 24 Oct 00:30 CEST, 27 Oct 00:30 CET
    assert plan([before, after], berlin, after.taken_at).delete == [before.id]  # 3 local days, though 73 hours
    assert plan([before, after], replace(berlin, daily_days=3), after.taken_at).delete == []


@pytest.mark.parametrize(
    ("verified", "kept"),
    [((), "02"), (("14",), "14"), (("02", "14"), "02"), (("20",), "20")],
)
def test_several_on_the_anchor_day(verified: Iterable[str], kept: str) -> None:
    """The earliest, unless only a later one is proven. 2026-10-04 is a Sunday past the daily window."""
    day = [backup(f"2026-10-04T{hour}:00", verified=hour in verified) for hour in ("02", "14", "20")]
    newest = replace(RECENT, verified=True)  # takes the verified floor away from that day
    result = plan([*day, newest], ONE, NOW)
    assert [id_[11:13] for id_ in result.keep if id_.startswith("2026-10-04")] == [kept]


def test_order_is_oldest_first_whatever_the_input() -> None:
    backups = nightly("2025-10-01", "2026-11-24")
    result = plan(backups, Policy(), NOW)
    shuffled = random.Random(1).sample(backups, len(backups))  # noqa: S311
    again = plan(shuffled, Policy(), NOW)
    assert again == result
    assert list(again.keep) == list(result.keep) == sorted(result.keep)
    assert result.delete == sorted(result.delete)
    assert sorted([*result.keep, *result.delete]) == [item.id for item in backups]
    assert all(result.keep.values())


def test_a_healthy_year_keeps_exactly_what_is_promised() -> None:
    days = kept_days(plan(nightly("2024-01-01", "2026-11-24"), Policy(), NOW))
    expected = {(date(2026, 11, 24) - timedelta(days=n)).isoformat() for n in range(31)}
    expected |= {(date(2026, 8, 30) + timedelta(weeks=n)).isoformat() for n in range(13)}
    expected |= {f"2026-{month:02}-01" for month in range(1, 12)} | {"2025-12-01"}
    assert days == expected


# --- when things go wrong -------------------------------------------------------------------------------------------


def test_failures_delete_nothing_however_long() -> None:
    """Forty failed nights push every good backup past 30 days; all that was kept on the last good day still is."""
    good = nightly("2026-01-01", "2026-06-30")
    kept = set(plan(good, Policy(), good[-1].taken_at).keep)
    survivors = [item for item in good if item.id in kept]
    failed: list[Backup] = []
    for night in range(1, 401):
        when = good[-1].taken_at + timedelta(days=night)
        failed.append(Backup(id=f"failed-{night:03}", taken_at=when, good=False))
        result = plan([*survivors, *failed], Policy(), when + timedelta(hours=1))
        assert result.delete == []
    assert result.keep["2026-06-01T02:00"][0] == "daily: 429 days old, kept 30 (held: no good backup since 2026-06-30)"
    # The first good backup after the streak sets the window moving again, and the old failures go.
    recovered = Backup(id="z", taken_at=when + timedelta(days=1), good=True)
    assert "failed-001" in plan([*survivors, *failed, recovered], Policy(), recovered.taken_at).delete


def test_backups_that_only_ever_failed_are_kept() -> None:
    bad = [replace(item, good=False) for item in nightly("2025-01-01", "2026-01-01")]
    assert plan(bad, Policy(), NOW).delete == []
    assert plan([], Policy(), NOW) == Plan()


@pytest.mark.parametrize("now", [datetime(2099, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)])
def test_a_wrong_clock_deletes_nothing(now: datetime) -> None:
    backups = nightly("2026-10-25", "2026-11-24")
    assert plan(backups, Policy(), now).delete == []


def test_a_backup_from_the_future_licenses_nothing() -> None:
    future = backup("2099-01-01", verified=True)
    old = backup("2020-01-02")
    result = plan([old, future], ONE, NOW)
    assert result.delete == []
    assert result.keep == {old.id: [r for r in result.keep[old.id] if r], future.id: ["future: taken after now"]}
    assert "floor: newest 1" in result.keep[old.id]


def test_the_floor_counts_only_good_ones() -> None:
    good = [backup(f"2020-01-0{n}") for n in (2, 3, 4)]
    bad = [backup(f"2020-02-0{n}", good=False) for n in range(1, 8)]
    result = plan([*good, *bad], Policy(monthly_months=0, weekly_months=0, daily_days=0), NOW)
    assert result.delete == []
    assert [result.keep[item.id][-1] for item in good] == ["floor: newest 3"] * 3


def test_one_failed_verification_deletes_nothing() -> None:
    sunday, monday = backup("2026-08-30", good=False, doubted=True), backup("2026-08-31")
    result = plan([sunday, monday, RECENT], ONE, NOW)
    assert result.delete == []
    assert result.keep[sunday.id][0] == (
        "one verification failed, kept as if good: weekly: Sunday 2026-08-30, kept until 2026-11-30"
    )
    assert "promoted from 2026-08-31" in result.keep[monday.id][0], "it stands for no period"
    assert plan([replace(sunday, doubted=False), monday, RECENT], ONE, NOW).delete == [sunday.id]


def test_an_incomplete_backup_is_kept_as_a_good_one_and_deletes_nothing() -> None:
    sunday, monday = backup("2026-08-30", good=False, incomplete=True), backup("2026-08-31")
    result = plan([sunday, monday, RECENT], ONE, NOW)
    assert result.delete == []
    assert result.keep[sunday.id][0] == "incomplete, kept as if good: weekly: Sunday 2026-08-30, kept until 2026-11-30"
    assert "promoted from 2026-08-31" in result.keep[monday.id][0], "it stands for no period"
    assert plan([replace(sunday, incomplete=False), monday, RECENT], ONE, NOW).delete == [sunday.id]


def test_a_backup_that_was_proved_before_one_failure_stays_as_proved() -> None:
    morning, evening = backup("2026-08-30T02:00"), backup("2026-08-30T22:00", good=False, doubted=True)
    assert plan([morning, evening, RECENT], ONE, NOW).delete == []


@pytest.mark.parametrize("doubted", [True, False])
def test_a_failed_one_stays_until_a_later_good_one_exists(doubted: bool) -> None:
    failed = backup("2020-02-02", good=False, doubted=doubted)
    assert plan([backup("2020-02-01"), failed], ONE, NOW).delete == []
    assert plan([failed], ONE, NOW).delete == []


@pytest.mark.parametrize("seed", range(20))
def test_a_doubted_backup_is_kept_as_a_good_one_and_licenses_nothing(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    some = [replace(item, good=dice.random() < 0.7) for item in nightly("2025-06-01", "2026-11-24")]
    some = [replace(item, verified=item.good and dice.random() < 0.1) for item in some if dice.random() < 0.8]
    bad = plan(some, Policy(), NOW)
    for item in dice.sample([item for item in some if not item.good], 20):
        among = [replace(other, doubted=True) if other is item else other for other in some]
        good = [replace(other, good=True) if other is item else other for other in some]
        result = plan(among, Policy(), NOW)
        assert (item.id in plan(good, Policy(), NOW).keep) <= (item.id in result.keep)
        assert {id_: why for id_, why in result.keep.items() if id_ != item.id} == {
            id_: why for id_, why in bad.keep.items() if id_ != item.id
        }


# --- years of pruning, night after night ------------------------------------------------------------------------------

Nights = Callable[[random.Random, date, int], bool]  # (random, local day, hour) -> good?


def _streaks(dice: random.Random, day: date, hour: int) -> bool:
    return (day.toordinal() // 17) % 4 != 0  # 17 bad nights, 51 good


SIMULATIONS: dict[str, tuple[str, tuple[int, ...], Nights, dict[str, Any]]] = {
    "healthy": ("UTC", (2,), lambda dice, day, hour: True, {}),
    "coin": ("UTC", (2,), lambda dice, day, hour: dice.random() < 0.5, {}),
    "streaks": ("Asia/Tokyo", (17,), _streaks, {}),
    "sundays fail": ("Europe/Berlin", (1,), lambda dice, day, hour: day.weekday() != 6, {}),
    "only saturdays": ("America/New_York", (6,), lambda dice, day, hour: day.weekday() == 5, {}),
    "months begin badly": ("America/Sao_Paulo", (3,), lambda dice, day, hour: day.day > 9, {}),
    "twice a day": ("Australia/Lord_Howe", (0, 15), lambda dice, day, hour: dice.random() < 0.6, {}),
    "midnight, clocks change": ("Europe/Berlin", (22, 23), lambda dice, day, hour: dice.random() < 0.8, {}),
    "last of the month": ("UTC", (2,), lambda dice, day, hour: dice.random() < 0.7, {"monthly_day": 31}),
    "narrow": ("UTC", (2, 9, 16), lambda dice, day, hour: dice.random() < 0.4,
               {"daily_days": 0, "minimum": 1, "weekly_day": "thursday", "monthly_day": 15}),
    "daily outlives weekly": ("UTC", (2,), lambda dice, day, hour: dice.random() < 0.5, {"daily_days": 120}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATIONS)
def test_three_years_of_pruning_keep_every_promise(name: str) -> None:
    """From 2026-07 to 2029-07, leap year 2028 inside. After every prune the survivors are checked against history."""
    zone_name, hours, is_good, more = SIMULATIONS[name]
    policy = Policy(timezone=zone_name, **more)
    zone = ZoneInfo(zone_name)
    dice = random.Random(name)  # noqa: S311
    periods = _calendar(policy)
    history: list[Backup] = []
    alive: list[Backup] = []
    by_day: dict[date, list[str]] = defaultdict(list)  # local day -> ids of good backups ever taken
    start = datetime(2026, 7, 1, tzinfo=UTC)
    for night in range(3 * 365 + 1):
        for hour in hours:
            taken = start + timedelta(days=night, hours=hour, minutes=30)
            local = taken.astimezone(zone).date()
            if dice.random() < 0.03:
                continue  # a gap: nothing ran
            made = Backup(f"{taken:%Y%m%d_%H%M}", taken, is_good(dice, local, hour), verified=dice.random() < 0.1)
            made = replace(made, verified=made.verified and made.good)
            history.append(made)
            alive.append(made)
            if made.good:
                by_day[local].append(made.id)
        now = start + timedelta(days=night, hours=hours[-1], minutes=40)
        result = plan(alive, policy, now)
        had_good = any(item.good for item in alive)
        alive = [item for item in alive if item.id in result.keep]
        ids = {item.id for item in alive}
        assert any(item.good for item in alive) or not had_good
        _check_promises(policy, now.astimezone(zone).date(), periods, by_day, ids)
        # Nothing that a plan made with the whole history still wants was ever deleted.
        if night % 23 == 0:
            assert set(plan(history, policy, now).keep) <= ids
    assert len(history) > len(alive)


def _check_promises(
    policy: Policy, today: date, periods: _Periods, by_day: dict[date, list[str]], ids: set[str]
) -> None:
    """The seed's words, computed another way: walk the calendar back from today and look for what must be there."""
    for back in range(policy.daily_days + 1):
        assert set(by_day.get(today - timedelta(days=back), ())) <= ids
    for shortest, spans in periods:
        for days in spans:
            if 0 <= (today - days[0]).days <= shortest:
                _one_of(days, by_day, ids)


_Periods = list[tuple[int, list[list[date]]]]  # (days in the shortest such promise, periods as lists of their days)


def _calendar(policy: Policy) -> _Periods:
    weeks: list[list[date]] = []
    months: list[list[date]] = []
    day = date(2026, 7, 1)
    while day < date(2029, 9, 1):
        if day.strftime("%A").lower() == policy.weekly_day:
            weeks.append([])
        if _is_anchor(day, policy.monthly_day):
            months.append([])
        for spans in (weeks, months):
            if spans:
                spans[-1].append(day)
        day += timedelta(days=1)
    return [(89, weeks), (365, months)]


def _is_anchor(day: date, anchor: int) -> bool:
    return day.day == anchor or (day.day < anchor and (day + timedelta(days=1)).day == 1)


def _one_of(days: list[date], by_day: dict[date, list[str]], ids: set[str]) -> None:
    for day in days:
        if by_day.get(day):
            assert ids & set(by_day[day]), f"{day} had a good backup that had to stay"
            return


# --- nonsense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"daily_days": -1}, "daily_days: -1"),
        ({"daily_days": "30"}, "daily_days: '30'"),
        ({"daily_days": True}, "daily_days: True"),
        ({"weekly_months": 1201}, "not between 0 and 1200"),
        ({"monthly_months": 1.5}, "monthly_months: 1.5"),
        ({"weekly_day": "sun"}, "one of monday"),
        ({"weekly_day": 6}, "weekly_day: 6"),
        ({"monthly_day": 0}, "not between 1 and 31"),
        ({"monthly_day": 32}, "not between 1 and 31"),
        ({"minimum": 0}, "not between 1 and 100000"),
        ({"timezone": "Asia/Edo"}, "no such time zone"),
        ({"timezone": "../../etc/passwd"}, "no such time zone"),
        ({"timezone": ""}, "timezone ''"),
        ({"timezone": 9}, "timezone: 9"),
        ({"daily": 30}, "daily_days, minimum, monthly_day"),
    ],
    ids=str,
)
def test_a_nonsense_policy_is_refused(settings: dict[str, Any], message: str) -> None:
    def wrong(field: str, cause: str) -> UsageError:
        return UsageError("read the policy", f"{field}: {settings.get(field)!r}", cause)

    assert typed.build(Policy, {}, wrong) == Policy()
    with pytest.raises(UsageError, match=message):
        typed.build(Policy, settings, wrong)


def test_naive_times_and_duplicates_are_refused() -> None:
    with pytest.raises(UsageError, match="no time zone"):
        Backup("a", datetime(2026, 1, 1), True)
    with pytest.raises(UsageError, match="no time zone"):
        plan([], Policy(), datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="given twice"):
        plan([RECENT, RECENT], Policy(), NOW)


# --- recovery points and loose backups together ---


def tied(day: datetime, **more: Any) -> tuple[Point, Backup, Backup]:
    """A night: the database at 02:00, its objects at 03:00, and the recovery point that names both."""
    database = Backup(f"db_{day:%Y%m%d_%H}", day, **{"good": True, **more})
    objects = Backup(f"objects_{day:%Y%m%d_%H}", day, **{"good": True, **more})
    point = Point(f"{day:%Y%m%d_%H}", day, **{"good": True, **more}, holds=(database.id, objects.id))
    return point, database, objects


def test_a_kept_point_keeps_its_parts_and_a_deleted_one_lets_them_go() -> None:
    days = [NOW - timedelta(days=number) for number in range(60)]
    nights = [tied(day) for day in days]
    points, databases, objects = (list(some) for some in zip(*nights))
    loose = Backup("db_loose", NOW - timedelta(days=40, hours=5), good=True)  # no rule of its own
    result = plan_all(points, [[*databases, loose], objects], ONE, NOW)
    assert "db_loose" in result.delete
    for point, database, of_it in nights:
        whole = {entry.id in result.keep for entry in (point, database, of_it)}
        assert len(whole) == 1, "a point and its parts stay or go together, where the parts have no other reason"
        if point.id in result.keep:
            assert f"part of {point.id}" in result.keep[database.id]
    gone = [identity for identity in result.delete if identity != "db_loose"]
    first_part = next(index for index, identity in enumerate(result.delete) if identity.startswith(("db_", "objects_")))
    assert all(not identity.startswith(("db_", "objects_")) for identity in result.delete[:first_part]), "points first"
    assert len(gone) == 3 * len([entry for entry in points if entry.id not in result.keep])


def test_a_point_holds_what_no_rule_would_keep() -> None:
    """Taken by hand at noon; the database backup alone would go, as one of several that day."""
    day = NOW - timedelta(days=50)
    night, noon = tied(day.replace(hour=2)), tied(day.replace(hour=12), pinned=True)
    result = plan_all([night[0], noon[0], tied(NOW)[0]], [[night[1], replace(noon[1], pinned=False), RECENT]], ONE, NOW)
    assert result.keep[noon[0].id] == ["pinned"]
    assert result.keep[noon[1].id] == [f"part of {noon[0].id}"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_three_years_of_points_and_loose_backups_on_both_sides(seed: int) -> None:
    """Every night a point, with extra backups, failures and copies that fail; each side keeps every promise.

    As prune.py does it: a side deletes what the plan of all deletes and its own plan would not keep. While copies fail
    the vault's promises are counted from the newest that it has.
    """
    dice = random.Random(seed)  # noqa: S311
    policy = Policy(timezone="Asia/Tokyo")
    periods = _calendar(policy)
    sides: tuple[dict[str, Backup], dict[str, Backup]] = ({}, {})
    here, there = sides
    by_day: tuple[dict[date, list[str]], ...] = (defaultdict(list), defaultdict(list))
    away = 0
    for number in range(3 * 365 + 1):
        now = datetime(2026, 7, 1, 17, tzinfo=UTC) + timedelta(days=number)  # 02:00 of the next day in Tokyo
        fresh: list[Backup] = []
        if dice.random() > 0.05:
            point, database, objects = tied(now)
            broken = dice.random() < 0.1
            fresh += [replace(point, good=not broken), database, replace(objects, good=not broken)]
        if dice.random() < 0.1:
            fresh.append(Backup(f"db_{now:%Y%m%d}_noon", now + timedelta(hours=3), good=True))
        away = max(0, away - 1) or (dice.randint(5, 40) if dice.random() < 0.01 else 0)
        here.update({entry.id: entry for entry in fresh})
        copied = [] if away else [entry for entry in here.values() if entry.good and entry.id not in there]
        there.update({entry.id: entry for entry in copied})
        for days, some in zip(by_day, (fresh, copied)):
            for entry in some:
                if entry.good and entry.id.startswith("db_"):
                    days[entry.taken_at.astimezone(ZoneInfo("Asia/Tokyo")).date()].append(entry.id)
        if number % 3:  # prune does not run every night
            continue
        later = now + timedelta(hours=4)
        together = planned({**there, **here}, policy, later)
        for side, days in zip(sides, by_day):
            own = planned(side, policy, later)
            for identity in [backup for backup in together.delete if backup in side and backup not in own.keep]:
                del side[identity]
            for point in (entry for entry in side.values() if isinstance(entry, Point) and entry.good):
                assert set(point.holds) <= set(side), "a point outlived a part of it"
            _check_promises(policy, max(days), periods, days, set(side))
    assert len(here) < 250, "and it does not grow without end"
    assert len(there) < 250


def planned(side: dict[str, Backup], policy: Policy, now: datetime) -> Plan:
    points = [entry for entry in side.values() if isinstance(entry, Point)]
    components = [[entry for entry in side.values() if entry.id.startswith(prefix)] for prefix in ("db_", "objects_")]
    result = plan_all(points, components, policy, now)
    assert sorted([*result.keep, *result.delete]) == sorted(side), "every one, once"
    return result


# --- by database ---

BARE = Policy(minimum=1, weekly_months=0, monthly_months=0)


def test_no_newer_backup_deletes_the_last_good_copy_of_a_database_that_is_spoiled_in_it() -> None:
    """`stats` was good last in November of last year; every backup since then has it spoiled."""
    old = backup("2025-11-20")
    newer = [replace(item, good=False, spoiled=("stats",)) for item in nightly("2026-01-01", "2026-11-24")]
    found = plan([old, *newer], Policy(), NOW)
    assert old.id in found.keep
    assert found.keep[old.id][0].startswith("database stats: daily: ")
    days = {(NOW.date() - timedelta(days=n)).isoformat() for n in range(31)}
    assert days <= kept_days(found), "they are good backups of every other database"
    assert newer[1].id in found.delete, "2 January is no day of the promise, and the others are in newer ones"
    doubted = plan([old, *(replace(item, doubted=True) for item in newer)], Policy(), NOW)
    assert (set(doubted.keep), old.id in doubted.keep) == (set(found.keep), True), "one more look may revise it"


def test_a_backup_that_is_good_for_others_alone_counts_for_these() -> None:
    found = plan([backup("2025-01-02"), replace(RECENT, good=False, spoiled=("stats",))], BARE, NOW)
    assert found.keep["2025-01-02T02:00"] == [
        "database stats: daily: 691 days old, kept 30 (held: no good backup since 2025-01-02)",
        "database stats: floor: newest 1",
    ]
    assert found.keep["2026-11-24T02:00"][0] == "daily: 0 days old, kept 30"


@pytest.mark.parametrize("seed", range(20))
def test_of_each_database_the_plan_keeps_what_it_would_keep_if_there_were_no_other(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    names = ("shop", "stats", "blog")
    given = []
    for item in nightly("2025-09-01", "2026-11-24"):
        spoiled = tuple(name for name in names if dice.random() < 0.3)
        whole = dice.random() > 0.1
        given.append(replace(item, good=whole and not spoiled, spoiled=spoiled if whole and spoiled != names else ()))
    kept = plan(given, Policy(), NOW).keep
    for name in (*names, "another"):
        alone = [
            replace(one, good=one.good or bool(one.spoiled), spoiled=()) for one in given if name not in one.spoiled
        ]
        assert set(plan(alone, Policy(), NOW).keep) <= set(kept), name
