# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checklist of daily operation, of maintenance and of an incident: each line a check with what was seen.

What `lifeboat status` judges is not judged again here: its checks are lines of the list they belong to. What only a
person can know is a line BY_HAND, which never passes by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Optional

from ..base import clock
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, PROOF, Check
from ..base.errors import LifeboatError, UsageError, present
from ..base.text import human
from ..evidence import store
from ..reports import history
from ..repository import growth, repositories, retention
from ..repository.catalog import Entry
from ..repository.components import AnyKind, configured
from ..settings.config import Config
from ..stack.runtime import Opened
from . import checklist_incident, prune, schedule, status
from .checklist_line import BY_HAND, Checklist, Item

PERIODS = ("daily", "weekly", "monthly", "quarterly", "incident")
RAN = "backups ran"
SIZE, SPACE = "size and integrity of the backups", "disk space where the backups are"
OLD, SCRIPTS, DRILLS = "old backups were deleted", "the backup jobs work", "recovery drills"
ALERTS = "alerts arrive"
DAYS_TO_ACT = 30
MOST_AHEAD = 3650  # days
# Where a check of status belongs; every other one is of the daily list.
_BELONGS = {
    status.CONTENT: "weekly", status.SIZES: "weekly", PROOF: "weekly", "config parts": "weekly",
    "rows and objects": "weekly", "rows without objects": "weekly",
    "rows and objects agree": "weekly", "objects without rows": "weekly",
    "rows and files": "weekly", "rows without files": "weekly", "rows and files agree": "weekly",
    "files without rows": "weekly", "space": "weekly", "escrow": "quarterly",
}  # fmt: skip


def work_through(run: Opened, period: str, *, now: datetime, ahead: timedelta = timedelta()) -> Checklist:
    """Make every check of one list. Reads only. What cannot be looked at is a line, not an error.

    ahead: look at it as it would be after so long without a backup too; each line is then the worse of the two.
    """
    lines = list(_lines(run, period, now, now))
    if ahead > timedelta():
        lines = _worse(lines, list(_lines(run, period, now + ahead, now)))
    return Checklist(run.config.stack, period, now, tuple(lines), ahead)


def ahead_of(days: float) -> timedelta:
    if not 0 <= days <= MOST_AHEAD:
        raise UsageError("look ahead", f"{days} days", f"it must be from 0 to {MOST_AHEAD}")
    return timedelta(days=days)


def _worse(today: Sequence[Item], later: Sequence[Item]) -> list[Item]:
    """A look into the future may turn a line red, and none green."""
    order = (BY_HAND, PASS, COULD_NOT_VERIFY, FAIL)
    found = {(line.box, line.name): line for line in today}
    for line in later:
        before = found.get((line.box, line.name), line)
        found[line.box, line.name] = line if order.index(line.result) >= order.index(before.result) else before
    return list(found.values())


def _lines(run: Opened, period: str, now: datetime, present: datetime) -> Iterator[Item]:
    if period == "incident":
        yield from checklist_incident.lines(run, now)
        return
    try:
        found = status.status(run, now=now, real_now=present)
    except LifeboatError as exc:
        yield Item(RAN if period == "daily" else period, "repository", COULD_NOT_VERIFY, str(exc))
        found = status.Status(run.config.stack, now, (), (), {})
    kinds = configured(run.config)
    mine = [check for check in found.checks if _BELONGS.get(check.kind, "daily") == period]
    if period == "daily":
        yield from (_item(RAN, check) for check in mine)
    elif period == "weekly":
        good = {kind.name: [entry for entry in found.backups.get(kind.name, ()) if entry.good] for kind in kinds}
        yield from (_trend(component, some) for component, some in good.items())
        yield from (_item(SIZE, check) for check in mine if check.kind != "space")
        if not any(check.kind == status.CONTENT for check in mine):
            yield _content({kind: good[kind.name] for kind in kinds if kind.counts and not kind.guarded})
        yield from (_item(SPACE, check) for check in mine if check.kind == "space")
        yield _days_until_full(run, good, now)
    elif period == "monthly":
        yield _overdue(run, now)
        yield from (_item(SCRIPTS, check) for check in schedule.checks(run.config, now))
        if run.config.monitored:
            words = f"run lifeboat.dr.alert_test -e alert_stack={run.config.stack}; it must end with PASS"
            yield Item(ALERTS, "alert test", BY_HAND, words)
    else:
        yield from _drills(run.config, now)
        yield from (_item(DRILLS, check) for check in mine)


def _item(box: str, check: Check) -> Item:
    return Item(box, check.name, check.result, check.detail, f"at most {check.most}" if check.most else "")


def _trend(component: str, good: Sequence[Entry]) -> Item:
    name, limit = f"{component} size", f"half to three times the median of the {growth.BEFORE} before"
    if len(good) < 2:
        words = f"{good[0].id} has {human(status.bytes_of(good[0]))}" if good else "there is no good backup"
        return Item(SIZE, name, COULD_NOT_VERIFY, f"{words}: no earlier one to compare it with", limit)
    sizes = [status.bytes_of(entry) for entry in good[-1 - growth.BEFORE :]]
    median = statistics.median(sizes[:-1])
    words = f"{good[-1].id} has {human(sizes[-1])}, the median before is {human(median)}"
    return Item(SIZE, name, FAIL if growth.sudden(sizes[-1], median) else PASS, words, limit)


def _content(by_kind: Mapping[AnyKind, Sequence[Entry]]) -> Item:
    """Status speaks of it only where it is wrong."""
    limit = f"half of the {' and '.join(what for kind in by_kind for what in kind.counts)} of the seven before"
    if any(len(good) < 2 for good in by_kind.values()):
        return Item(SIZE, status.CONTENT, COULD_NOT_VERIFY, "there are no two good backups to compare", limit)
    told = []
    for kind, good in by_kind.items():
        counted = kind.counted(present(good[-1].manifest).detailed(kind.details))
        told.append(f"{good[-1].id} holds {', '.join(f'{count} {what}' for what, count in counted.items())}")
    return Item(SIZE, status.CONTENT, PASS, "; ".join(told), limit)


def _days_until_full(run: Opened, good: Mapping[str, Sequence[Entry]], now: datetime) -> Item:
    name, limit = "days until full", f"at least {DAYS_TO_ACT} days"
    try:
        free, days = until_full(run, good, now)
    except LifeboatError as exc:
        return Item(SPACE, name, COULD_NOT_VERIFY, str(exc), limit)
    if free is None:
        return Item(SPACE, name, PASS, "a repository without a limit", limit)
    kept = {component: _sizes(some) for component, some in good.items()}
    if not any(kept.values()):
        return Item(SPACE, name, COULD_NOT_VERIFY, "there is no backup to measure by", limit)
    told = f"full in {days} days" if days is not None else f"not full within {growth.HORIZON} days"
    slopes = {component: growth.slope(some, now) for component, some in kept.items() if some}
    grows = ", ".join(f"{slope} grows by {human(more)} a day" for slope, more in slopes.items() if more is not None)
    words = f"{human(free)} free, {told}{'; ' + grows if grows else ''}"
    if days is not None and days < DAYS_TO_ACT:
        return Item(SPACE, name, FAIL, words, limit)
    unknown = [slope for slope, more in slopes.items() if more is None]
    if unknown:
        words += f"; how much {', '.join(unknown)} grows is not known before there are backups of two days"
        return Item(SPACE, name, COULD_NOT_VERIFY, words, limit)
    return Item(SPACE, name, PASS, words, limit)


def until_full(run: Opened, good: Mapping[str, Sequence[Entry]], now: datetime) -> tuple[Optional[int], Optional[int]]:
    """(bytes that are free where the backups are, None where there is no limit; days until they are used up, None where
    a year passes without it). good: by component."""
    free, rules = repositories.repository_of(run).free_bytes(), prune.policy(run.config)
    kept = [_sizes(some) for some in good.values()]
    return free, None if free is None else growth.days_until_full(free, kept, rules, now)


def _sizes(good: Sequence[Entry]) -> list[growth.Sized]:
    """Bytes on this disk, which for objects is the listing alone."""
    found = (present(entry.manifest) for entry in good)
    return [(retention.Backup(manifest.id, manifest.taken_at, True), manifest.size) for manifest in found]


def _overdue(run: Opened, now: datetime) -> Item:
    name, limit = "retention", "nothing is overdue"
    try:
        to_come = now > clock.now() + clock.TOLERANCE
        plan = prune.prune(run, now=now, dry_run=True, log=lambda _: None, trust_clock=to_come)
    except LifeboatError as exc:
        return Item(OLD, name, COULD_NOT_VERIFY, str(exc), limit)
    due, old = plan["delete"], plan["versions"]
    words = f"{len(plan['keep'])} kept by a rule, {len(due)} overdue"
    words += f": {', '.join(due[:5])}; lifeboat prune deletes them" if due else ""
    words += f"; {old['deleted']} old object versions ({human(old['bytes'])}) go next time" if old["deleted"] else ""
    words += f"; {len(plan['locked'])} are locked by the store" if plan["locked"] else ""
    if due:
        return Item(OLD, name, FAIL, words, limit)
    unread = [f"{identity}: {why}" for identity, why in plan["unknown"].items()]
    unknown = [*unread[:3], *plan["failed"], *([f"old versions: {old['waits']}"] if old["waits"] else [])]
    if unknown:
        return Item(OLD, name, COULD_NOT_VERIFY, f"{words}; not looked at: {'; '.join(unknown)}", limit)
    return Item(OLD, name, PASS, words, limit)


def _drills(config: Config, now: datetime) -> Iterator[Item]:
    """Which is overdue is for the history to say; a later one that failed is red, however young the last pass."""
    limit = f"one that passed in {config.alarms.drill_age_days} days"
    try:
        kept = store.everything(config)
    except LifeboatError as exc:
        yield Item(DRILLS, "evidence", COULD_NOT_VERIFY, str(exc), limit)
        return
    for duty in history.judge(history.answer(config, kept), now).duties:
        if not duty.name.startswith("drill"):
            continue  # the proof of the backups is of the weekly list
        words = "there was none that passed"
        if duty.last is not None:
            words = f"the last that passed was {(now - duty.last) / timedelta(days=1):.0f} days ago"
        words += f"; a later one ended with {duty.failed}" if duty.failed else ""
        good = duty.state == history.OK and not duty.failed
        yield Item(DRILLS, duty.name, PASS if good else FAIL, words if good else f"{words}; hold one", limit)
    bad = [item for item in kept if item.problem]
    if bad:
        words = "; ".join(f"{item.id}: {item.problem}" for item in bad[:3])
        yield Item(DRILLS, "records", FAIL, f"{len(bad)} are not evidence: {words}", "all can be read")
