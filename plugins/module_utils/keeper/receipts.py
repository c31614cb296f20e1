# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keeper first saw when: a log that only grows, each line tied to the one before it by SHA-256.

Everything that a keeper decides by time it decides by this log and its own clock. A line that was changed, removed or
put in breaks the chain. Lines cut off the end do not: note the head that `lifeboat keeper log` prints elsewhere, and
compare it later (`--head`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Optional

from ..base import filesystem, typed
from ..base.clock import TOLERANCE, format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..repository.details import Count
from ..s3.write_rights import WriteRights

NAME = "receipts.jsonl"
SCHEMA = "lifeboat.dr/receipts"
NO_MARKER = "none"  # of a repository that does not say which one it is
FIRST = "0" * 64  # what the first line is tied to
LONGEST = 16 << 20  # of a line that is read: a prune once wrote all of its ids in one
MOST = 256 << 10  # of a line that is written
_READ = "read the keeper's log"


@dataclass(frozen=True)
class Strange:
    """Something that a stack's host should not have sent: its name, and what is wrong with it."""

    what: str
    why: str


@dataclass(frozen=True)
class Record:
    """One line. number, at, before: its place, its time by the keeper's clock, the SHA-256 of the line before it.

    received: a backup or recovery point that is whole here since then; `digest` is that of its document, `late` why it
    takes no place in the retention, empty where it does. made: the like, of one that the keeper itself made.
    pulled: the end of a pull, whole or not (`stopped`: why); `began` is when its listing began, `listed` how many
    backups and points the stack had, `repository` which one it was, `refused` the one that was not taken, `strange`
    what it should not have had, `unmirrored` why its object store could not be mirrored, `store_key` what the key of
    that store can do beside reading.
    followed: what a run that follows the WAL found strange.
    pruned: the retention is about to delete these ids, or an operator did.
    acknowledged: an operator looked at all alarms up to here; only then may the time go back, after a clock that was
    wrong.
    """

    number: Count
    at: datetime
    before: str
    kind: Literal["received", "pulled", "pruned", "acknowledged", "made", "followed"]
    id: str = ""
    digest: str = ""
    late: str = ""
    began: Optional[datetime] = None
    listed: Mapping[str, Count] = field(default_factory=dict)
    repository: str = ""
    strange: tuple[Strange, ...] = ()
    more: Count = 0
    stopped: str = ""
    full: bool = False
    refused: str = ""
    unmirrored: str = ""
    store_key: Optional[WriteRights] = None
    ids: tuple[str, ...] = ()
    why: str = ""
    schema: str = SCHEMA
    version: tuple[int, ...] = (1, 0)

    SPARSE = (
        "id", "digest", "late", "listed", "repository", "strange", "stopped", "refused", "unmirrored", "ids", "why"
    )  # fmt: skip

    def to_line(self) -> bytes:
        body = {name: value for name, value in typed.plain(self).items() if name not in _EMPTY or value != _EMPTY[name]}
        return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


_EMPTY: Mapping[str, object] = {"more": 0, "full": False}


@dataclass(frozen=True)
class Receipt:
    """Since when the keeper has it, by its own clock."""

    at: datetime
    digest: str
    late: str
    number: int


class Receipts:
    """The log of one stack. Only its owner writes; the caller holds the stack's lock."""

    def __init__(self, path: Path, records: Sequence[Record], head: str) -> None:
        self.path = path
        self._records, self.head = list(records), head
        self.received: dict[str, Receipt] = {}
        self.pruned: dict[str, datetime] = {}
        self.pulls: list[Record] = []
        self.follows: list[Record] = []
        self.acknowledged = -1
        for record in records:
            self._count(record)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def last(self) -> Optional[Record]:
        return self._records[-1] if self._records else None

    def gaps(self, longest: timedelta, now: datetime) -> list[tuple[datetime, datetime]]:
        """Since the last acknowledgement: from when to when nothing was written for longer than that."""
        at = [record.at for record in self._records if record.number >= self.acknowledged]
        return [(before, after) for before, after in zip(at, [*at[1:], now]) if after - before > longest]

    @property
    def last_whole(self) -> Optional[Record]:
        """Return the last pull that saw all that there was."""
        return next((pull for pull in reversed(self.pulls) if not pull.stopped), None)

    @property
    def reported(self) -> set[Strange]:
        """What was found strange while following, and was not acknowledged."""
        return {item for record in self.follows if record.number > self.acknowledged for item in record.strange}

    @property
    def repository(self) -> str:
        """Return which repository of the stack was pulled from; empty where none was, or it had no marker."""
        return next((pull.repository for pull in reversed(self.pulls) if pull.repository), "")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Repositories that were refused before an operator acknowledged that, since the last one that was taken."""
        since = next((pull.number for pull in reversed(self.pulls) if pull.repository), -1)
        found = {pull.refused for pull in self.pulls if pull.refused and since < pull.number < self.acknowledged}
        return tuple("" if name == NO_MARKER else name for name in sorted(found))

    def append(self, record: Record, now: datetime) -> Record:
        """Tie a record to the last one and put it on the disk. UsageError where the clock went back since then."""
        if record.kind != "acknowledged":
            self.require_clock(now)
        tied = replace(record, number=len(self._records), at=now, before=self.head)
        line = tied.to_line()
        if len(line) > MOST:
            raise UsageError("write the keeper's log", str(self.path), f"a line would have more than {MOST} bytes")
        with filesystem.explained("write the keeper's log", self.path):
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if os.write(handle, line) != len(line):
                    raise OSError(28, "only a part was written", str(self.path))
                os.fsync(handle)
            finally:
                os.close(handle)
            if tied.number == 0:
                filesystem.sync(self.path.parent)
        self._records.append(tied)
        self.head = filesystem.sha256(line)
        self._count(tied)
        return tied

    def require_clock(self, now: datetime) -> None:
        last = self.last
        if last and now < last.at - TOLERANCE:
            raise UsageError(
                "go by the keeper's clock", str(self.path),
                f"it is {format_time(now)} here, and the log's last line is of {format_time(last.at)}",
                "Nothing was done. Set this host's clock (timedatectl). If it was wrong then and is right now: lifeboat"
                " keeper acknowledge --why 'the clock was wrong'.",
            )  # fmt: skip

    def digest_of(self, number: int) -> str:
        """The SHA-256 of the line of that number."""
        return filesystem.sha256(self._records[number].to_line())

    def _count(self, record: Record) -> None:
        if record.kind in ("received", "made"):
            self.received.setdefault(record.id, Receipt(record.at, record.digest, record.late, record.number))
        elif record.kind == "pruned":
            self.pruned.update(dict.fromkeys(record.ids, record.at))
        elif record.kind == "pulled":
            self.pulls.append(record)
        elif record.kind == "followed":
            self.follows.append(record)
        else:
            self.acknowledged = record.number


def load(directory: Path, *, repair: bool = False) -> Receipts:
    """Read the log to its end and compare every line with the one before. IntegrityError where it was changed.

    What a power cut left of a line at the very end was never acted on. repair: cut it off; the caller holds the lock.
    """
    path = directory / NAME
    records: list[Record] = []
    head = FIRST
    try:
        with filesystem.explained(_READ, path), filesystem.open_below(directory, (NAME,)) as file:
            kept = 0
            while line := file.readline(LONGEST):
                if not line.endswith(b"\n"):
                    if len(line) == LONGEST or file.read(1):
                        raise _changed(path, len(records), f"it is longer than {LONGEST} bytes")
                    if repair:
                        os.truncate(path, kept)
                    break
                records.append(_record(path, line, len(records), head, records[-1] if records else None))
                head = filesystem.sha256(line)
                kept += len(line)
    except NotFoundError:
        pass
    return Receipts(path, records, head)


def check_head(receipts: Receipts, head: str) -> None:
    """Raise IntegrityError unless the log has the line that was noted as NUMBER:SHA-256."""
    number, colon, digest = head.partition(":")
    if not colon or not re.fullmatch("[0-9]{1,15}", number) or len(digest) != 64:
        raise UsageError(
            "compare the head", head, "it is not NUMBER:SHA-256", "Give it as `lifeboat keeper log` wrote it."
        )
    if int(number) >= len(receipts):
        raise _changed(receipts.path, int(number), f"the log ends before it, with line {len(receipts) - 1}")
    if receipts.digest_of(int(number)) != digest:
        raise _changed(receipts.path, int(number), "it is another than the one that was noted")


def _record(path: Path, data: bytes, number: int, head: str, last: Optional[Record]) -> Record:
    def wrong(name: str, cause: str) -> LifeboatError:
        return _changed(path, number, f"{name} {cause}".strip())

    record = typed.build(Record, typed.load(data, wrong), wrong)
    if (record.schema, record.version[:1]) != (SCHEMA, (1,)):
        raise wrong("schema", f"is {typed.shown(record.schema)} {record.version}")
    if record.to_line() != data:
        raise wrong("", "its bytes are not as they were written")
    if record.number != number:
        raise wrong("number", f"is {record.number}")
    if record.before != head:
        raise wrong("before", "is not the SHA-256 of the line before it")
    if last and record.at < last.at - TOLERANCE and record.kind != "acknowledged":
        raise wrong("at", "is before that of the line before it")
    return record


def _changed(path: Path, number: int, cause: str) -> IntegrityError:
    remedy = "Nothing is pulled or pruned. Find out who wrote it: docs/keeper.md#the-log-of-receipts."
    return IntegrityError(_READ, str(path), f"line {number}: {cause}", remedy)


def bounded(items: Iterable[Strange], most: int = 20) -> tuple[tuple[Strange, ...], int]:
    """Return the first items and how many more there are: a host that sends a million names must not fill the log."""
    every = list(items)
    return tuple(every[:most]), max(0, len(every) - most)
