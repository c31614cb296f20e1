# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a stack, as its keeper sees it. While anything is, its prune stops. Pure: log, backups, time.

An alarm of what was seen ends when an operator acknowledges it; one of what is missing, when it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from ..base.clock import format_time
from ..base.text import named
from ..operations.clocks import JUMP
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.components import watched
from ..settings.config import Config
from .following import BEHIND, Followed
from .receipts import Receipts

_WEEK = 7  # pulls that the number of what is published is compared with
_SHOWN = 3
KINDS = ("clock", "silent", "strange", "shrunk", "fewer", "full", "stopped", "objects", "behind")


@dataclass(frozen=True)
class Alarm:
    """Something that is wrong with a stack. kind: one of KINDS."""

    kind: str
    message: str


def alarms(
    config: Config, receipts: Receipts, backups: Mapping[str, Sequence[Entry]], now: datetime,
    killed: Optional[datetime] = None, followed: Optional[Followed] = None,
) -> list[Alarm]:  # fmt: skip
    """Return everything that is wrong now. backups: of the keeper's repository, by component. killed: when the last
    pull began, if it never ended. followed: how the WAL is, where it is followed."""
    return [
        *_clock(receipts, now),
        *_stopped(receipts, killed),
        *_unmirrored(receipts),
        *_silent(config, receipts, backups, now),
        *_behind(config, followed or Followed(), now),
        *_strange(receipts),
        *_fewer(receipts),
        *_shrunk(receipts, backups),
    ]


def _clock(receipts: Receipts, now: datetime) -> list[Alarm]:
    """A clock that jumped ahead makes everything old, and looks the same as a keeper that was switched off."""
    return [
        Alarm("clock", f"from {format_time(before)} to {format_time(after)} nothing was pulled, or the clock jumped")
        for before, after in receipts.gaps(JUMP, now)
    ]


def _stopped(receipts: Receipts, killed: Optional[datetime]) -> list[Alarm]:
    """The last pull did not see all that there was, so that nothing may be concluded from what it did not see."""
    if killed:
        words = f"the pull of {format_time(killed)} was killed: by systemd's limit of time or memory, or with the host"
        return [Alarm("stopped", words)]
    last = receipts.pulls[-1] if receipts.pulls else None
    if last is None or not last.stopped:
        return []
    return [
        Alarm("full" if last.full else "stopped", f"the pull of {format_time(last.at)} ended early: {last.stopped}")
    ]


def _unmirrored(receipts: Receipts) -> list[Alarm]:
    """The last whole pull did not mirror the store. It ends with the next one that does."""
    last = receipts.last_whole
    if last is None or not last.unmirrored:
        return []
    return [Alarm("objects", f"the store was not mirrored at {format_time(last.at)}: {named(last.unmirrored)}")]


def _silent(config: Config, receipts: Receipts, backups: Mapping[str, Sequence[Entry]], now: datetime) -> list[Alarm]:
    limit = timedelta(hours=config.keeper.silent_hours)
    found = []
    for kind in watched(config):
        times = [receipts.received[entry.id].at for entry in backups.get(kind.name, ()) if in_time(receipts, entry.id)]
        newest = max(times, default=None)
        if newest is None:
            found.append(Alarm("silent", f"no backup of {kind.name} was ever received"))
        elif now - newest > limit:
            hours = (now - newest) / timedelta(hours=1)
            words = f"no new backup of {kind.name} for {hours:.0f} h, since {format_time(newest)}"
            found.append(Alarm("silent", f"{words}; limit {config.keeper.silent_hours} h"))
    return found


def _behind(config: Config, followed: Followed, now: datetime) -> list[Alarm]:
    """A quiet stack sends a note every five minutes, so that silence is no quiet."""
    last = followed.until
    if not config.wal.enabled or (last and now - last <= BEHIND):
        return []
    since = f"since {format_time(last)}" if last else "ever"
    failed = f"; the last run: {named(followed.failed)}" if followed.failed else ""
    return [Alarm("behind", f"no WAL came {since}{failed}")]


def _strange(receipts: Receipts) -> list[Alarm]:
    every = sorted((*receipts.pulls, *receipts.follows), key=lambda record: record.number)
    since = [pull for pull in every if pull.number > receipts.acknowledged and pull.strange]
    if not since:
        return []
    told: dict[str, str] = {}
    for pull in since:
        for item in pull.strange:
            told.pop(item.what, None)  # the newest last
            told[item.what] = item.why
    shown = "; ".join(f"{named(what)}: {named(why)}" for what, why in list(reversed(told.items()))[:_SHOWN])
    more = len(told) + sum(pull.more for pull in since[-1:]) - _SHOWN
    words = f"since {format_time(since[0].at)}: {shown}" + (f"; and {more} more" if more > 0 else "")
    return [Alarm("strange", words)]


def _fewer(receipts: Receipts) -> list[Alarm]:
    """The stack had under half of the backups that it had in one of the pulls of the week before: somebody removes them
    there. It ends when half of them are there again, or when an operator acknowledges it; never by itself."""
    whole = [pull for pull in receipts.pulls if not pull.stopped and pull.number > receipts.acknowledged]
    missing: dict[str, int] = {}
    for number, pull in enumerate(whole):
        for what, count in pull.listed.items():
            had = max(before.listed.get(what, 0) for before in whole[max(0, number - _WEEK) : number + 1])
            had = max(had, missing.pop(what, 0))
            if 2 * count < had:
                missing[what] = had
    last = whole[-1].listed if whole else {}
    return [
        Alarm("fewer", f"the stack has {last[what]} backups of {named(what)}, and it had {had}")
        for what, had in missing.items() if what in last
    ]  # fmt: skip


def _shrunk(receipts: Receipts, backups: Mapping[str, Sequence[Entry]]) -> list[Alarm]:
    """By what was received in time, in the order in which it came. That the host calls it right counts for nothing."""
    found = []
    for entries in backups.values():
        ordered = sorted(
            (entry for entry in entries if in_time(receipts, entry.id)),
            key=lambda entry: receipts.received[entry.id].number,
        )
        accepted = [entry for entry in ordered if receipts.received[entry.id].number < receipts.acknowledged]
        said, _larger = catalog.shrunk(ordered[max(0, len(accepted) - 1) :], accepts=False)
        found += [Alarm("shrunk", said)] if said else []
    return found


def in_time(receipts: Receipts, identity: str) -> bool:
    """Return whether it was received and counts for the retention."""
    receipt = receipts.received.get(identity)
    return receipt is not None and not receipt.late
