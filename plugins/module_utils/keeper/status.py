# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a keeper stands: what it received and compared, what is wrong, and what it cannot know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Optional

from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, Verdict, at_most, verdict
from ..base.clock import format_time
from ..base.errors import LifeboatError
from ..base.text import Untested, checks, human, named
from ..base.throttle import parse_rate
from ..repository import points, repositories
from ..repository.catalog import Entry
from ..repository.components import OBJECTS
from ..stack.runtime import Opened
from . import following, objects, unfinished
from . import receipts as receipts_file
from .alarms import alarms
from .following import BEHIND, Followed
from .receipts import Receipts, Record
from .receive import received, used

_FULL = 90  # percent of the quota
UNTESTED = (
    Untested(
        "archive, restore", "the keeper has no server and no key; lifeboat.dr.escrow proves it with the paper key"
    ),
    Untested("content", "a checksum proves what the stack's host published, not that it was right"),
)


@dataclass(frozen=True)
class Status:
    """The state of a keeper. entries: for every backup and point its id, when it was received, and why the retention
    does not count it. alarms: their kinds; None if the log cannot be read. pulled_at: when the last whole pull ended.
    noted_at: until when all WAL is here, where it is followed.
    """

    stack: str
    checks: tuple[Check, ...]
    entries: tuple[Mapping[str, object], ...] = ()
    alarms: Optional[frozenset[str]] = None
    pulled_at: Optional[datetime] = None
    noted_at: Optional[datetime] = None

    @property
    def verdict(self) -> Verdict:
        return verdict(self.checks)

    def as_dict(self) -> dict[str, object]:
        return {
            "stack": self.stack,
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
            "untested": [{"what": item.what, "why": item.why} for item in UNTESTED],
            "held": [dict(item) for item in self.entries],
        }

    def lines(self) -> list[str]:
        late = [f"{item['id']}  received {item['received_at']}  {named(str(item['late']))}" for item in self.entries]
        return [
            *late[-10:],
            "",
            *checks(self.checks),
            *(f"{COULD_NOT_VERIFY:<16} {item.what}: {item.why}" for item in UNTESTED),
            f"{self.verdict}  {self.stack}",
        ]


def status(run: Opened, *, now: datetime) -> Status:
    """Return how the keeper stands. It only reads, and reads nothing from the stack's host."""
    config = run.config
    directory = Path(config.keeper.directory)
    try:
        receipts = receipts_file.load(directory)
        receipts.require_clock(now)
    except LifeboatError as exc:
        return Status(config.stack, (Check("log", FAIL, str(exc)),))
    repo = repositories.repository_of(run)
    repo.check(writable=False)
    backups = points.backups(repo, config.stack, received(config))
    tied = points.entries(repo, config.stack, backups)
    backups.update(points.bases(repo, config))
    wal = following.followed(config)
    wrong = alarms(config, receipts, backups, now, unfinished.killed(config), wal)
    found = [
        Check("log", PASS, f"{len(receipts)} lines, head {head(receipts)}"),
        _pulled(receipts, config.keeper.silent_hours, now),
        *([_noted(wal, now)] if config.wal.enabled else ()),
        _compared(receipts, backups),
        at_most(
            "quota", 100 * used(directory) / max(1, parse_rate(config.keeper.quota)), _FULL, "%",
            f"{human(used(directory))} of {config.keeper.quota}",
        ),
        *(objects.backup_checks(config, backups[OBJECTS]) if config.objects.bucket else ()),
        *([objects.store_key(receipts)] if config.objects.bucket else ()),
        *(Check(item.kind, FAIL, item.message) for item in wrong),
    ]  # fmt: skip
    entries = [*(entry for some in backups.values() for entry in some), *tied]
    described = tuple(_entry(receipts, entry.id, entry.problem) for entry in entries)
    last = receipts.last_whole
    kinds = frozenset(item.kind for item in wrong)
    noted = wal.until if config.wal.enabled else None
    return Status(config.stack, tuple(found), described, kinds, last.at if last else None, noted)


def acknowledge(run: Opened, why: str, *, now: datetime) -> Record:
    """Record that an operator has looked at the alarms: those up to now end. The caller holds the lock."""
    receipts = receipts_file.load(Path(run.config.keeper.directory), repair=True)
    return receipts.append(Record(0, now, "", "acknowledged", why=why[:500]), now)


def head(receipts: Receipts) -> str:
    """Return the last line's number and SHA-256, to be written down outside of the keeper."""
    return f"{len(receipts) - 1}:{receipts.head}" if len(receipts) else "none"


def _pulled(receipts: Receipts, hours: int, now: datetime) -> Check:
    last = receipts.last_whole
    if last is None:
        return Check("last pull", FAIL, "there was no whole one")
    age = (now - last.at) / timedelta(hours=1)
    return at_most("last pull", age, hours, "h", f"whole, at {format_time(last.at)}")


def _noted(wal: Followed, now: datetime) -> Check:
    """How far the WAL is here: a quiet stack's goes on, too."""
    if wal.noted_at is None or wal.reached is None or wal.until is None:
        return Check("last note", FAIL, "none ever came")
    words = f"of WAL, at {format_time(wal.noted_at)}: what was committed before {format_time(wal.reached)} is here"
    return at_most("last note", (now - wal.until).total_seconds(), BEHIND.total_seconds(), "s", words)


def _compared(receipts: Receipts, backups: Mapping[str, Sequence[Entry]]) -> Check:
    """Compare by the keeper's own records: it fetches none. A date in the future was reported as strange until an
    operator acknowledged it."""
    entries = [entry for some in backups.values() for entry in some]
    bad = [
        entry.id for entry in entries
        if entry.proof.get("checksum") is None
        or not (entry.sound or (entry.ahead and _acknowledged(receipts, entry.id)))
    ]  # fmt: skip
    if not entries:
        return Check("checksums", COULD_NOT_VERIFY, "the keeper has no backup")
    if bad:
        shown = ", ".join(
            f"{entry.id} ({named(entry.problem) or 'never compared'})" for entry in entries if entry.id in bad[-3:]
        )
        return Check("checksums", FAIL, f"{len(bad)} of {len(entries)} are not as they should be: {shown}")
    return Check("checksums", PASS, f"{len(entries)} backups were compared with their SHA-256 as they came")


def _acknowledged(receipts: Receipts, identity: str) -> bool:
    receipt = receipts.received.get(identity)
    return receipt is not None and receipt.number < receipts.acknowledged


def _entry(receipts: Receipts, identity: str, problem: str) -> dict[str, object]:
    receipt = receipts.received.get(identity)
    return {
        "id": identity,
        "received_at": format_time(receipt.at) if receipt else None,
        "late": receipt.late if receipt else "no receipt",
        "problem": problem,
    }
