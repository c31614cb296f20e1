# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a bucket's recovery: what its phases are told, what a role reads, and its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..base.text import Planned, Untested, assessed, cautions, human, several
from ..base.typed import plain
from ..recovery.state import DOWN
from ..repository.sources import FROM_VAULT

Mode = Literal["none", "start", "fill", "rebuild", "reopen", "settings"]
Action = Literal["restored", "untouched", "copied", "quarantined"]
CHOICE = (
    "-e others=restore (what is in the backup comes back, the rest is copied out of the old server first, as far as"
    " that gives it) or -e others=aside (all of them stay aside)"
)


@dataclass(frozen=True)
class Difference:
    """What stands between the bucket and the point: keys that are gone, that differ, and that the point has not."""

    gone: int = 0
    differ: int = 0
    extra: int = 0
    later: int = 0  # of the extra ones, written after the point's instant


@dataclass(frozen=True)
class Bucket:
    """What happens to one bucket of the store, and why. action: restored (of the backup), copied (out of the server
    that is put aside, into the fresh one), quarantined (it stays in the data directory that is put aside), untouched.

    objects, bytes: of one that is copied, or that an operator may have copied.
    """

    name: str
    action: Action
    why: str
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Plan(Planned):
    """What is wrong and what will be done. Roles see it as JSON, with these names.

    mode: none; start (it is down: start it and look; if it does not come up, or empty, rebuild); fill (it lives: make
    the bucket where it is gone, copy back what is missing or wrong); rebuild (quarantine the data directory, fresh
    server, buckets as they were); reopen (a recovery was killed when the data was back and the writers were not);
    settings (the objects are left alone, and nothing is stopped). settings: as in the request.
    asked, state, prefix, exact, partial: as in the request. unreadable: as in the assessment. target: the bucket.
    buckets: those of the store. untested: what of the store no recovery brings back, and why. bucket: as in the
    request. additional: buckets that are restored with it. asks: those that a rebuild would move aside for good,
    and that nobody said may be; while there are any, none is done. rows_without, held_by: as in the assessment.
    aside: in a rebuild all other buckets are to stay aside, so that none is copied out of the old server. turn: the
    number of the host's changes when it was made. newer: buckets that newer backups hold and this one does not, and
    that ought to be there afterwards.
    """

    mode: Mode
    unreadable: bool
    backup: Mapping[str, object]
    service: str
    prefix: str
    exact: bool
    partial: bool
    counts: Difference
    buckets: tuple[Bucket, ...] = ()
    untested: tuple[Untested, ...] = ()
    bucket: str = ""
    additional: tuple[str, ...] = field(default=(), metadata={"json": "others"})
    asks: tuple[str, ...] = ()
    rows_without: int = 0
    held_by: str = ""
    settings: str = ""
    aside: bool = False
    turn: int = 0
    newer: tuple[str, ...] = ()

    @property
    def copied(self) -> tuple[Bucket, ...]:
        return tuple(one for one in self.buckets if one.action == "copied")


def alike(rest: Sequence[Bucket]) -> list[tuple[tuple[Action, str], list[str]]]:
    """Their names by what happens to them, and why."""
    found: dict[tuple[Action, str], list[str]] = {}
    for one in rest:
        found.setdefault((one.action, one.why), []).append(one.name)
    return list(found.items())


def amount(copied: Sequence[Bucket]) -> str:
    return f"{sum(one.objects for one in copied)} objects, {human(sum(one.bytes for one in copied))}"


def text(plan: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    backup, counts = plan.backup, plan.counts
    details = plain(backup)["details"]
    proof = f"proven {backup['proven_at']}" if backup["proven_at"] else "NOT proven by a restore"
    lines = assessed(f"the bucket {plan.target}", plan)
    lines.append(
        f"backup: {backup['id']} of {backup['taken_at']}, {details.get('objects')} objects,"
        f" {human(int(details.get('bytes') or 0))}, {proof}"
    )
    lines += [f"  it is the bucket of recovery point {plan.recovery_point}"] if plan.recovery_point else []
    lines += [f"  its listing is taken from the vault: {plan.location}"] if backup["place"] in FROM_VAULT else []
    lines += cautions(plan.warnings, plan.passed_over, plan.accepted)
    fates: dict[Action, str] = {
        "restored": "its settings are put back too" if plan.mode == "settings" else "restored too",
        "untouched": "not touched",
        "copied": "copied out of the old server first, and put back",
        "quarantined": "put aside with the data directory, and not brought back"
        if plan.mode == "rebuild"
        else "where the data directory must be put aside, they go with it and are not brought back",
    }
    for (action, why), names in alike(plan.buckets[1:]):
        lines.append(f"  {fates[action]}: {several('bucket', names, len(names))} ({why})")
    if plan.copied:
        lines.append(f"    that is {amount(plan.copied)}; older versions are not copied")
    if plan.asks and plan.mode in ("start", "rebuild"):
        count = f"{len(plan.asks)} bucket{'s' if len(plan.asks) > 1 else ''}"
        lines.append(f"  a rebuild would move {count} aside for good; it is not done before you say {CHOICE}")
    if plan.mode in ("start", "rebuild") and plan.condition == DOWN:
        comes_up = "; unless it comes up when it is started, and gives it then" if plan.mode == "start" else ""
        lines.append(
            f"the server does not answer, so nothing can be copied out of it: what is in no backup, such as objects"
            f" written after {backup['taken_at']}, goes aside with the data directory and is kept there{comes_up}"
        )
    elif plan.mode == "rebuild" and plan.exact:
        lines.append(f"objects written after {backup['taken_at']} go aside with the data directory and are kept there")
    elif plan.mode == "rebuild":
        lines.append(
            f"objects written after {backup['taken_at']} that the backup does not know ({counts.extra} are listed) are"
            " copied out of the old server first, as far as it gives them, and put back; those that were changed become"
            " as they were then"
        )
    if plan.mode == "fill":
        fate = "are put into quarantine" if plan.exact else "stay as they are"
        lines.append(
            f"{counts.extra} objects that the backup does not know, {counts.later} of them written after"
            f" {backup['taken_at']}, {fate}; {counts.differ} that differ become as they were then, what they are now"
            " is kept as an older version or in a quarantine bucket"
        )
    return lines + [f"  {number}. {step}" for number, step in enumerate(plan.steps, 1)]
