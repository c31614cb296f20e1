# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which bases and spans of WAL to keep. Pure, as repository/retention.py is: no clock, no files.

* The **anchor** is the newest base that was verified and is older than the window. Without one nothing goes: bases that
  nobody proved are no reason to delete anything. With it any instant of the window can be gone back to from a proved
  base. The window is counted back from the newest good base, so that it stands still while bases fail.
* Bases from the anchor on stay. Older ones go as the rules and floors of retention.plan() say, holds and pins first.
* A span stays while a base that stays may need it: of the same server, on the same timeline or a later one, with its
  end behind the base's start. One that was written after the anchor stays whatever it is of. Where a base could not be
  read, every span stays; so does a span that could not be read.
* A timeline's history outlives the span that brought it, for as long as a base or span of that timeline or a later one
  of that server stays: the newest span that has it stays then, and where something could not be read, in any case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Optional

from ..repository import retention
from ..repository.catalog import Entry, for_retention
from ..repository.details import BaseDetails, WalDetails
from ..repository.retention import Backup, Plan, Policy
from . import segments
from .segments import parse_lsn


@dataclass(frozen=True)
class Base:
    """A base as retention sees it. system, timeline, start: where its WAL begins. system: empty where nobody knows."""

    backup: Backup
    system: str = ""
    timeline: int = 0
    start: int = 0


@dataclass(frozen=True)
class Reach:
    """A closed span as retention sees it: what of the log is in it, until when. histories: the timelines whose history
    it has. system is empty where it could not be read."""

    id: str
    system: str
    timeline: int
    end: int
    until: Optional[datetime]
    histories: tuple[int, ...] = ()
    hold: str = ""


def rules(window_days: int, timezone: str = "UTC") -> Policy:
    return Policy(daily_days=window_days + 1, weekly_months=0, monthly_months=0, minimum=2, timezone=timezone)


def trail(
    bases: Sequence[Base], spans: Sequence[Reach], window_days: int, now: datetime, timezone: str = "UTC"
) -> Plan:
    """Decide which bases and spans to keep, and why."""
    ordered = sorted(bases, key=lambda base: (base.backup.taken_at, base.backup.id))
    anchor = _anchor(ordered, window_days, now)
    plan = retention.plan([base.backup for base in ordered], rules(window_days, timezone), now)
    keep = {name: list(reasons) for name, reasons in plan.keep.items()}
    for base in ordered:
        if anchor is None:
            keep.setdefault(base.backup.id, []).append(
                f"no verified base is older than the window of {window_days} days"
            )
        elif base is anchor:
            keep.setdefault(base.backup.id, []).append(f"the window of {window_days} days begins with it")
        elif base.backup.taken_at >= anchor.backup.taken_at:
            keep.setdefault(base.backup.id, []).append("inside the window")
    staying = [base for base in ordered if base.backup.id in keep]
    chosen = {span.id: reason for span in spans if (reason := _why(span, staying, anchor))}
    for span in _histories(spans, staying, chosen):
        chosen.setdefault(span.id, "it has the history of a timeline that is needed")
    keep.update({name: [reason] for name, reason in chosen.items()})
    gone = [base.backup.id for base in ordered if base.backup.id not in keep]
    return Plan(keep, [*gone, *(span.id for span in sorted(spans, key=lambda span: span.id) if span.id not in keep)])


def _anchor(ordered: Sequence[Base], window_days: int, now: datetime) -> Optional[Base]:
    good = [base for base in ordered if base.backup.good and base.backup.taken_at <= now]
    if not good:
        return None
    begins = good[-1].backup.taken_at - timedelta(days=window_days)
    proved = [base for base in good if base.backup.verified and base.system and base.backup.taken_at <= begins]
    return proved[-1] if proved else None


def _why(span: Reach, staying: Sequence[Base], anchor: Optional[Base]) -> str:
    """Why a span stays; empty where nothing needs it."""
    if span.hold:
        return span.hold
    if not span.system or span.until is None:
        return "unknown: it could not be read"
    if anchor is None:
        return "no base that was verified is older than the window"
    if unread := next((base for base in staying if not base.system), None):
        return f"{unread.backup.id} may need it, which could not be read"
    if span.until >= anchor.backup.taken_at:
        return "inside the window"
    needs = [base.backup.id for base in staying if _needs(base, span)]
    return f"{', '.join(needs[-2:])} needs it" if needs else ""


def _needs(base: Base, span: Reach) -> bool:
    """May the way from the base to any instant behind it go through the span? A timeline is forked off earlier ones."""
    return base.system == span.system and base.timeline <= span.timeline and base.start < span.end


def _histories(spans: Sequence[Reach], staying: Sequence[Base], chosen: Collection[str]) -> list[Reach]:
    """The newest span with each history that a server of what stays may ask for; any, where something was not read."""
    unread = not all((*(span.system for span in spans), *(base.system for base in staying)))
    last: dict[str, int] = {}
    for system, timeline in (
        *((base.system, base.timeline) for base in staying),
        *((span.system, span.timeline) for span in spans if span.id in chosen),
    ):
        last[system] = max(last.get(system, 0), timeline)
    newest: dict[tuple[str, int], Reach] = {}
    for span in sorted(spans, key=lambda span: span.id):
        for timeline in span.histories:
            if span.system and (unread or timeline <= last.get(span.system, 0)):
                newest[span.system, timeline] = span
    return list(newest.values())


# Out of what a repository has.


def bases_of(entries: Sequence[Entry], verified: Collection[str], holds: Collection[str] = ()) -> list[Base]:
    """verified: the ids of those that were restored, wherever that was. holds: what recoveries need."""
    judged = {backup.id: backup for backup in for_retention(entries)}
    bases = []
    for entry in [entry for entry in entries if entry.id in judged]:
        backup = judged[entry.id]
        proved = backup.good and (backup.verified or entry.id in verified)
        backup = replace(backup, verified=proved, hold="a recovery needs it" if entry.id in holds else "")
        if entry.manifest is None:
            bases.append(Base(backup))
        else:
            details = entry.manifest.detailed(BaseDetails)
            bases.append(Base(backup, details.system_identifier, details.timeline, parse_lsn(details.start)))
    return bases


def spans_of(entries: Sequence[Entry], holds: Collection[str] = ()) -> list[Reach]:
    reaches = []
    for entry in entries:
        why = "a recovery needs it" if entry.id in holds else ""
        if entry.manifest is None:
            reaches.append(Reach(entry.id, "", 0, 0, None, hold=why))
            continue
        details = entry.manifest.detailed(WalDetails)
        timelines = (segments.history_timeline(item.name) for item in entry.manifest.artefacts)
        reaches.append(
            Reach(
                entry.id, details.system_identifier, details.timeline,
                max(parse_lsn(details.end), parse_lsn(details.reached)), details.last_at,
                tuple(filter(None, timelines)), why,
            )
        )  # fmt: skip
    return reaches
