# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups to keep, which to delete, and why. Pure: no clock, no files, same input, same answer.

The promises, from the seed: every backup 30 days, Sunday's 3 months, that of the 1st 1 year.

* A **week** runs from its anchor day (Sunday) to the day before the next; a **month** likewise from its anchor (the
  1st; the 29th to 31st mean the last day of a shorter month). A period is represented by the first day in it that has
  a good backup: the anchor, or the next good day promoted in its place. Because a period *starts* with its anchor, its
  representative is always older than what it outlives: no backup still to come can make today's deletion a mistake.
* Several good backups on that day: a verified one before an unverified one, then the earliest. The earliest is the
  scheduled one; later ones the same day are by hand, often the last-chance backup of damaged data.
* Age is counted in local dates against the **newest good backup**, not against the clock on the wall. While backups
  fail the window stands still, so a streak of failures, or a host clock that jumped to 2099, deletes nothing.
* A **recovery point** is judged as a backup is; while it stays, so do the backups that it names. When it goes, they
  are loose: what the rules say of them alone then decides, from the same run on.
* A backup that another one **needs** stays while that one does, by a rule or by a point. Needs are one step deep.
* One that is **unknown**, because it could not be read, stays, and so does whatever may be a part of it: every older
  backup of its component, and where it is a recovery point, every older backup. It is no reason to delete anything.
* A backup that is not good only because **one verification failed** stays for as long as it would if it were good: a
  second look may revise the verdict. So does one that is not good only because **something is not in it**. Neither
  counts for another backup's deletion.
* A backup that is **spoiled** for some of its databases is good for the others. The rules are followed for each
  database that is spoiled anywhere, as if there were no other, and for all others together; what any of them keeps
  stays.
* Floors: the newest verified and the newest `minimum` good backups always stay. Pinned ones too. Backups dated after
  `now` are kept and never count as a reason to delete anything.

Local dates make daylight saving harmless: no hour is ever added or subtracted.
"""

from __future__ import annotations

import calendar
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Optional

from ..base import typed
from ..base.clock import TOLERANCE, format_time
from ..base.errors import UsageError, printable
from ..base.text import named
from ..settings.config import Config
from ..settings.parts import RetentionSettings

_READ = "read the retention policy"
HOLD_SCHEMA = "lifeboat.dr/hold"
HELD = timedelta(hours=24)  # so long a recovery may take between two of its steps
HELD_MOST = timedelta(hours=72)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return timezone.utc  # works on hosts without a time zone database
    # Imported here so that UTC, the default, needs neither the module nor the database.
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        cause = f"no such time zone on this host ({error})"
        remedy = "Use a name such as UTC or Asia/Tokyo, or install the tzdata package."
        raise UsageError(_READ, f"timezone {name!r}", cause, remedy) from error


@dataclass(frozen=True)
class Backup:
    """One backup as retention sees it. `good`: published and not known to be damaged. `needs`: ids of backups of the
    same component that hold a part of it. `doubted`: not good, because one verification failed and for nothing else.
    `incomplete`: not good, because something is not in it and for nothing else. `hold`: why a recovery needs it.
    `unknown`: why it could not be read, where it could not; it is not good. `spoiled`: the databases for which it is
    not good, where it is good for others."""

    id: str
    taken_at: datetime
    good: bool
    verified: bool = False
    pinned: bool = False
    doubted: bool = False
    incomplete: bool = False
    needs: tuple[str, ...] = ()
    unknown: str = ""
    hold: str = ""
    spoiled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.taken_at.tzinfo is None:
            cause = f"its time {self.taken_at.isoformat()} has no time zone"
            raise UsageError("plan retention", f"backup {self.id}", cause, "Give taken_at in UTC.")


@dataclass(frozen=True)
class Point(Backup):
    """A recovery point; `holds`: the ids of the backups that it names. `strange`: one of them is of a component that is
    not known here, and may need any older backup."""

    holds: tuple[str, ...] = ()
    strange: bool = False


@dataclass(frozen=True)
class Hold:
    """Keeps one backup or recovery point from being deleted between the steps of a recovery. by: the host. why: what it
    is for. It counts until `until`, and never longer than HELD_MOST after it was written."""

    id: str
    stack: str
    by: str
    why: str
    made_at: datetime
    until: datetime
    schema: str = HOLD_SCHEMA
    version: tuple[int, ...] = (1, 0)

    @property
    def end(self) -> datetime:
        return min(self.until, self.made_at + HELD_MOST)

    @property
    def detail(self) -> str:
        return f"held until {format_time(self.end)} by {printable(self.by)[:80]} for {printable(self.why)[:80]}"


def hold_of(id: str, stack: str, data: bytes, now: datetime) -> Optional[Hold]:
    """A hold that counts now. None where it is over, another stack's, or not as this code writes it: whatever lies
    there, a retention is not stopped by it for longer than HELD_MOST."""
    found = typed.maybe(Hold, data)
    if found is None or (found.schema, found.version[:1], found.id, found.stack) != (HOLD_SCHEMA, (1,), id, stack):
        return None
    if found.made_at.tzinfo is None or found.until.tzinfo is None or found.made_at > now + TOLERANCE:
        return None
    return found if now < found.end else None


@dataclass(frozen=True)
class Policy(RetentionSettings):
    """What is promised."""

    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.weekly_day.lower() not in WEEKDAYS:
            cause = f"it must be one of {', '.join(WEEKDAYS)}"
            subject = f"lifeboat_retention.weekly_day: {self.weekly_day!r}"
            raise UsageError(_READ, subject, cause, "Correct lifeboat_retention.weekly_day.")
        _zone(self.timezone)


def policy(config: Config) -> Policy:
    return Policy(**{**vars(config.retention), "timezone": config.retention.timezone or config.timezone})


@dataclass(frozen=True)
class Plan:
    """`keep`: id -> reasons, `delete`: ids; both oldest first. Together they are every backup given, once."""

    keep: dict[str, list[str]] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)


def plan(backups: Sequence[Backup], policy: Policy, now: datetime) -> Plan:
    """Decide which backups to keep and why. `now` must be aware; order and time zone of the input do not matter."""
    whole = _plan([_good_for(backup, "") for backup in backups], policy, now)
    keep = dict(whole.keep)
    for name in sorted({name for backup in backups for name in backup.spoiled}):
        doubted = {backup.id for backup in backups if name in backup.spoiled and backup.doubted}
        others = {backup.id for backup in backups if name not in backup.spoiled}
        # What is spoiled for this database stays for the others, or as if it were good where one verification failed.
        for judged, hope in ((others, False), (doubted, True)) if doubted else ((others, False),):
            found = _plan([_good_for(backup, name, hope) for backup in backups], policy, now)
            for id_, reasons in found.keep.items():
                if id_ in judged:
                    keep.setdefault(id_, [f"database {named(name)}: {reason}" for reason in reasons])
    order = {backup.id: (backup.taken_at, backup.id) for backup in backups}
    return Plan(
        {id_: keep[id_] for id_ in sorted(keep, key=order.__getitem__)},
        [id_ for id_ in whole.delete if id_ not in keep],
    )


def _good_for(backup: Backup, database: str, hope: bool = False) -> Backup:
    """As it is seen for a database that is spoiled somewhere; empty: for any other. hope: what one verification said
    counts for nothing."""
    if not backup.spoiled:
        return backup
    return replace(backup, good=database not in backup.spoiled or (hope and backup.doubted), doubted=False)


def _plan(backups: Sequence[Backup], policy: Policy, now: datetime) -> Plan:
    if now.tzinfo is None:
        raise UsageError("plan retention", "the time now", "it has no time zone", "Give now in UTC.")
    ordered = sorted(backups, key=lambda backup: (backup.taken_at, backup.id))
    _refuse_duplicates(ordered)

    good = [backup for backup in ordered if backup.good and backup.taken_at <= now]
    zone = _zone(policy.timezone)
    days = {backup.id: backup.taken_at.astimezone(zone).date() for backup in ordered if backup.taken_at <= now}
    today = now.astimezone(zone).date()
    newest = good[-1] if good else None
    clock = days[newest.id] if newest else today

    reasons: dict[str, list[str]] = defaultdict(list)
    for backup in ordered:
        if backup.pinned or backup.hold:
            reasons[backup.id] += [*(["pinned"] if backup.pinned else []), *filter(None, [backup.hold])]
        if backup.taken_at > now:
            reasons[backup.id].append("future: taken after now")
        elif not backup.good:
            reason = _not_good(backup, days[backup.id], newest, clock, policy)
            if reason:
                reasons[backup.id].append(reason)
    for id_, reason in _promised(good, days, policy, clock, today):
        reasons[id_].append(reason)
    doubted = {
        backup.id: "one verification failed" if backup.doubted else "incomplete"
        for backup in ordered
        if (backup.doubted or backup.incomplete) and backup.taken_at <= now
    }
    for id_, reason in _promised(_hoped(ordered, doubted, now), days, policy, clock, today) if doubted else ():
        if id_ in doubted:
            reasons[id_].append(f"{doubted[id_]}, kept as if good: {reason}")
    return Plan(
        keep={backup.id: reasons[backup.id] for backup in ordered if backup.id in reasons},
        delete=[backup.id for backup in ordered if backup.id not in reasons],
    )


def plan_all(points: Sequence[Point], backups: Sequence[Sequence[Backup]], policy: Policy, now: datetime) -> Plan:
    """One plan over recovery points and the backups of each component. Points come first: none outlives its parts."""
    whole = plan(points, policy, now)
    holders: dict[str, list[str]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.taken_at):
        for id_ in point.holds if point.id in whole.keep else ():
            holders[id_].append(point.id)
    keep, delete = dict(whole.keep), list(whole.delete)
    unread = [point for point in points if point.unknown and (point.strange or not point.holds)]
    for component in backups:
        own = plan(component, policy, now)
        needed: dict[str, list[str]] = defaultdict(list)
        for item in component:
            for id_ in item.needs if item.id in own.keep or item.id in holders else ():
                needed[id_].append(item.id)
        for item in sorted(component, key=lambda backup: (backup.taken_at, backup.id)):
            held = [f"part of {', '.join(holders[item.id][-3:])}"] if item.id in holders else []
            held += [f"holds a part of {', '.join(needed[item.id][-3:])}"] if item.id in needed else []
            held += _perhaps(item, [*unread, *(other for other in component if other.unknown and not other.needs)])
            if item.id in own.keep or held:
                keep[item.id] = [*own.keep.get(item.id, []), *held]
            else:
                delete.append(item.id)
    return Plan(keep, delete)


def _perhaps(item: Backup, unread: Sequence[Backup]) -> list[str]:
    """Older than what could not be read, it may be a part of that."""
    later = min(
        (other for other in unread if other.taken_at > item.taken_at), key=lambda other: other.taken_at, default=None
    )
    return [f"may be a part of {later.id}, which could not be read"] if later else []


def _hoped(ordered: Sequence[Backup], doubted: Collection[str], now: datetime) -> list[Backup]:
    """The good ones, if the doubted were: as verified ones, for what failed may have been proved before."""
    both = [replace(backup, good=True, verified=True) if backup.id in doubted else backup for backup in ordered]
    return [backup for backup in both if backup.good and backup.taken_at <= now]


def _promised(
    good: Sequence[Backup], days: Mapping[str, date], policy: Policy, clock: date, today: date
) -> Iterator[tuple[str, str]]:
    """What the rules and the floors keep of these, and why."""
    rules = _daily(good, days, policy, clock, today) + _weekly(good, days, policy) + _monthly(good, days, policy)
    for id_, reason, until in rules:
        if clock <= until:
            held = f" (held: no good backup since {clock})" if until < today else ""
            yield id_, reason + held
    yield from _floors(good, policy)


# A rule yields (id, reason, last local day on which the reason holds).
_Rule = list[tuple[str, str, date]]


def _daily(good: Sequence[Backup], days: Mapping[str, date], policy: Policy, clock: date, today: date) -> _Rule:
    window = timedelta(days=policy.daily_days)
    found: _Rule = []
    for backup in reversed(good):
        day = days[backup.id]
        if day + window < clock:  # so is every older one
            break
        found.append((backup.id, f"daily: {(today - day).days} days old, kept {policy.daily_days}", day + window))
    return found


def _weekly(good: Sequence[Backup], days: Mapping[str, date], policy: Policy) -> _Rule:
    if not policy.weekly_months:
        return []
    name = policy.weekly_day.lower()
    anchor = WEEKDAYS.index(name)
    starts = {day: day - timedelta(days=(day.weekday() - anchor) % 7) for day in set(days.values())}
    return _periods(f"weekly: {name.capitalize()}", good, days, starts, policy.weekly_months)


def _monthly(good: Sequence[Backup], days: Mapping[str, date], policy: Policy) -> _Rule:
    if not policy.monthly_months:
        return []
    starts = {day: _month_start(day, policy.monthly_day) for day in set(days.values())}
    return _periods("monthly:", good, days, starts, policy.monthly_months)


def _periods(
    label: str, good: Sequence[Backup], days: Mapping[str, date], starts: Mapping[date, date], months: int
) -> _Rule:
    """One representative for each period. `good` is oldest first, so the first seen is the first day."""
    chosen: dict[date, Backup] = {}
    for backup in good:
        day = days[backup.id]
        rival = chosen.setdefault(starts[day], backup)
        if days[rival.id] == day and backup.verified and not rival.verified:
            chosen[starts[day]] = backup
    found: _Rule = []
    for start, backup in chosen.items():
        day = days[backup.id]
        until = _months_later(day, months)
        promoted = "" if day == start else f", promoted from {day} (that day has no good backup)"
        found.append((backup.id, f"{label} {start}{promoted}, kept until {until}", until))
    return found


def _floors(good: Sequence[Backup], policy: Policy) -> list[tuple[str, str]]:
    floors = [(backup.id, f"floor: newest {policy.minimum}") for backup in good[-policy.minimum :]]
    verified = [backup for backup in good if backup.verified]
    if verified:
        floors.append((verified[-1].id, "floor: newest verified"))
    return floors


def _not_good(backup: Backup, day: date, newest: Optional[Backup], clock: date, policy: Policy) -> str:
    """A bad backup proves nothing but may be all there is, or the only clue: it goes last. One unknown may be good."""
    if backup.unknown:
        return f"unknown: {backup.unknown}"
    if newest is None or backup.taken_at >= newest.taken_at:
        return "not good: kept until a newer good backup exists"
    if (clock - day).days <= policy.daily_days:
        return f"not good: kept {policy.daily_days} days for inspection"
    return ""


def _month_start(day: date, anchor: int) -> date:
    """The latest monthly anchor on or before `day`; an anchor beyond the month's end means its last day."""
    start = day.replace(day=min(anchor, _length(day.year, day.month)))
    if start <= day:
        return start
    before = day.replace(day=1) - timedelta(days=1)
    return before.replace(day=min(anchor, before.day))


def _months_later(day: date, months: int) -> date:
    """The last date from which `months` calendar months back, clamped to the month's end, still reaches `day`.

    28 February + 3 months is 31 May, for 3 months before 29, 30 and 31 May is 28 February: never less than promised.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    length = _length(year, month + 1)
    at_end = day.day == _length(day.year, day.month)
    return date(year, month + 1, length if at_end else min(day.day, length))


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _refuse_duplicates(ordered: Sequence[Backup]) -> None:
    seen: set[str] = set()
    for backup in ordered:
        if backup.id in seen:
            raise UsageError("plan retention", f"backup {backup.id}", "it was given twice", "Give each backup once.")
        seen.add(backup.id)
