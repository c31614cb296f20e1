# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply the retention on a keeper: the product's own rules, by the time at which each backup was received.

A stack's host chooses ids, dates and verifications. None of them decides here: a date is that of the receipt, what is
dated outside the pulls takes no place, and while there is an alarm nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from ..base.errors import IntegrityError, Log
from ..base.filesystem import STALE
from ..mirror.listing import Point
from ..operations.prune import old_versions
from ..repository import catalog, points, repositories, retention
from ..repository.catalog import Entry
from ..repository.components import BASE, OBJECTS, WAL
from ..repository.manifest import component_of
from ..repository.points import PointEntry
from ..repository.retention import Plan
from ..stack.runtime import Opened
from ..wal import trail
from . import following, unfinished
from . import receipts as receipts_file
from .alarms import Alarm, alarms, in_time
from .receipts import Receipts, Record
from .receive import received

_IDS = 1000  # in one line of the log, which is a fraction of the longest that is read
B = TypeVar("B", retention.Backup, retention.Point)


@dataclass(frozen=True)
class Pruned:
    """What was kept and why, what was deleted, and the alarms for which nothing was. versions: of objects, in the
    mirror; failed: why they could not be looked at."""

    keep: Mapping[str, Sequence[str]] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    versions: int = 0
    failed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "keep": {identity: list(reasons) for identity, reasons in self.keep.items()},
            "delete": list(self.delete),
            "alarms": [{"kind": alarm.kind, "words": alarm.message} for alarm in self.alarms],
            "versions": self.versions,
            "failed": list(self.failed),
        }


def plan(
    receipts: Receipts,
    backups: Mapping[str, Sequence[Entry]],
    tied: Sequence[PointEntry],
    rules: retention.Policy,
    now: datetime,
    holds: Mapping[str, str],
) -> Plan:
    """Decide what to keep and why, by receipt. Pure: same input, same answer. holds: by id, which recovery needs it.

    What has no receipt stays: since when it is here is not known.
    """
    unknown = {entry.id for some in (*backups.values(), tied) for entry in some if entry.id not in receipts.received}
    reasons = {**dict.fromkeys(unknown, "no receipt: the next pull writes one"), **holds}
    plain = [_by_receipt(catalog.for_retention(some), receipts, reasons, now) for some in backups.values()]
    return retention.plan_all(_by_receipt(points.for_retention(tied), receipts, reasons, now), plain, rules, now)


def _by_receipt(backups: Sequence[B], receipts: Receipts, holds: Mapping[str, str], now: datetime) -> list[B]:
    return [
        replace(
            item,
            taken_at=receipts.received[item.id].at if item.id in receipts.received else now,
            good=item.good and in_time(receipts, item.id),
            doubted=item.doubted and in_time(receipts, item.id),
            incomplete=item.incomplete and in_time(receipts, item.id),
            spoiled=item.spoiled if in_time(receipts, item.id) else (),
            hold=holds.get(item.id, ""),
        )
        for item in backups
    ]


def _trail(run: Opened, receipts: Receipts, holds: Mapping[str, str], now: datetime) -> Plan:
    """Which bases and spans of WAL stay, by when each came. The keeper proves no base: one that came whole and in time
    leads to its WAL here."""
    config, repo = run.config, repositories.repository_of(run)
    there = {BASE: [], WAL: [], **points.continuous(repo, config.stack)}
    whole = {entry.id for entry in there[BASE] if entry.good and in_time(receipts, entry.id)}
    unknown = {entry.id for some in there.values() for entry in some if entry.id not in receipts.received}
    kept = {**dict.fromkeys(unknown, "no receipt: the next pull writes one"), **holds}
    bases = [
        replace(base, backup=_by_receipt([base.backup], receipts, kept, now)[0])
        for base in trail.bases_of(there[BASE], whole, kept)
    ]
    spans = [
        replace(span, until=receipts.received[span.id].at) if span.until and span.id in receipts.received else span
        for span in trail.spans_of(there[WAL], kept)
    ]
    return trail.trail(bases, spans, config.wal.window_days, now, retention.policy(config).timezone)


def prune(run: Opened, *, now: datetime, dry_run: bool, log: Log) -> Pruned:
    """Delete what the plan deletes; nothing while there is an alarm. The caller holds the stack's lock."""
    config, repo = run.config, repositories.repository_of(run)
    receipts = receipts_file.load(Path(config.keeper.directory), repair=not dry_run)
    receipts.require_clock(now)
    repo.check(writable=False)
    repo.require_ours()
    backups = points.backups(repo, config.stack, received(config))
    tied = points.entries(repo, config.stack, backups)
    holds = _holds(run, now)
    decided = plan(receipts, backups, tied, retention.policy(config), now, holds)
    spans = _trail(run, receipts, holds, now)
    decided = Plan({**decided.keep, **spans.keep}, [*decided.delete, *spans.delete])
    killed = unfinished.begun(Path(config.keeper.directory))
    watched = {**backups, **points.bases(repo, config)}
    found = alarms(config, receipts, watched, now, killed, following.followed(config))
    if found:
        return Pruned(decided.keep, (), tuple(found))
    if not dry_run and decided.delete:
        # First on record: what a killed run has left is deleted by the next one, and never fetched again.
        for first in range(0, len(decided.delete), _IDS):
            receipts.append(Record(0, now, "", "pruned", ids=tuple(decided.delete[first : first + _IDS])), now)
    for identity in decided.delete:
        log(f"{'would delete' if dry_run else 'deleting'} {identity}")
        if dry_run:
            continue
        if points.is_id(identity):
            repo.delete_point(identity)
        else:
            repo.delete(component_of(identity), identity)
    if not dry_run:
        repo.sweep(older_than=STALE, now=now)
    left = {
        entry.id: [Point(repo, entry.manifest)] if entry.manifest else []
        for entry in backups[OBJECTS]
        if entry.id not in decided.delete
    }
    failed: list[str] = []
    old, _waits = old_versions(run, left, now, dry_run, failed, log, "")
    return Pruned(decided.keep, tuple(decided.delete), versions=old.versions, failed=tuple(failed))


def alarm(stack: str, raised: Sequence[Alarm]) -> IntegrityError:
    """Return the error that reports these alarms."""
    said = "; ".join(f"{item.kind}: {item.message}" for item in raised[:3])
    remedy = (
        f"Nothing was deleted. Look at the stack's host; when it is right: lifeboat keeper acknowledge --stack {stack}"
        " --why '...' (docs/keeper.md#alarms)."
    )
    return IntegrityError("find everything as it should be", stack, said, remedy)


def _holds(run: Opened, now: datetime) -> dict[str, str]:
    """Return why recoveries that read here need an entry, by id; parts of points included."""
    repo, holds = repositories.repository_of(run), dict[str, str]()
    for identity, data in repo.holds().items():
        hold = retention.hold_of(identity, run.config.stack, data, now)
        if hold is None:
            continue
        holds[identity] = hold.detail
        if points.is_id(identity) and identity in repo.points():
            parts = points.parse(repo.read_point(identity), expected_id=identity).parts.values()
            holds.update({part.id: f"part of {identity}, {hold.detail}" for part in parts if part.id not in holds})
    return holds


def lines(pruned: Pruned, word: str) -> list[str]:
    """Return the plan as lines for a terminal."""
    return [
        *(f"keep    {identity}  {', '.join(reasons)}" for identity, reasons in pruned.keep.items()),
        *(f"{word}  {identity}" for identity in pruned.delete),
        *([f"{word}  {pruned.versions} old versions in the mirror"] if pruned.versions else []),
        *(f"ALARM   {item.kind}: {item.message}" for item in pruned.alarms),
        f"{len(pruned.keep)} kept, {len(pruned.delete)} {word}",
    ]
