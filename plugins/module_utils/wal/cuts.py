# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The position in the WAL at which a server has what a snapshot saw, no more and no less. Pure: lines in, a cut out.

A snapshot sees transactions by their numbers, and a replay has them by where their COMMIT lies. The two are one where
no COMMIT that the snapshot sees lies behind the first one that it does not: the cut is that one's position. Between
writing a COMMIT and being seen a transaction waits for a flush, or for a standby; who waits less overtakes it there, so
that not every snapshot has a cut. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from ..base import typed
from ..base.errors import IntegrityError
from ..repository.details import SNAPSHOT
from .segments import format_lsn, parse_lsn

# The number of a transaction that was prepared is in the words: its record has another one, or none.
_COMMIT = re.compile(r"tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: COMMIT(?:_PREPARED (\d+):)? ")
_ROUND = 1 << 32  # the WAL has the last 32 bits of a transaction's number


@dataclass(frozen=True)
class Snapshot:
    """Which transactions it sees: those before `first`, and those before `end` but the running ones."""

    first: int
    end: int
    running: frozenset[int]

    def sees(self, xid: int) -> bool:
        """xid: as the WAL has it. It is the one that is nearest to the snapshot: two are never 2^31 apart."""
        distance = (xid - self.end) % _ROUND
        whole = self.end + (distance if distance < _ROUND // 2 else distance - _ROUND)
        return whole < self.first or (whole < self.end and whole not in self.running)


def parse(text: str) -> Snapshot:
    """What pg_current_snapshot() prints."""
    match = SNAPSHOT.fullmatch(text)
    if not match:
        raise IntegrityError("read a snapshot", typed.shown(text[:80]), "it is not what pg_current_snapshot() prints")
    first, end = int(match.group(1)), int(match.group(2))
    return Snapshot(first, end, frozenset(int(xid) for xid in match.group(3).split(",") if xid))


@dataclass
class Search:
    """Reads COMMITs in the order of the WAL. mark: the number of a transaction of ours that came after the snapshot;
    whether it was read tells whether all before it was. first: where the first COMMIT lies that the snapshot does not
    see. late: where the first one lies that it sees all the same, behind that."""

    snapshot: Snapshot
    mark: int = 0
    first: Optional[int] = None
    late: Optional[int] = None
    commits: int = 0
    whole: bool = False

    def add(self, row: str) -> None:
        """A line of `pg_waldump --rmgr=Transaction`."""
        match = _COMMIT.search(row) if " desc: COMMIT" in row else None
        if match is None:
            return
        xid, position = int(match.group(3) or match.group(1)), parse_lsn(match.group(2))
        self.commits += 1
        self.whole |= xid == self.mark % _ROUND
        if not self.snapshot.sees(xid):
            self.first = position if self.first is None else self.first
        elif self.first is not None and self.late is None:
            self.late = position

    @property
    def exact(self) -> bool:
        return self.first is not None and self.late is None


def differs(search: Search, position: int) -> str:
    """Why the cut is not at that position, by all COMMITs since the base; empty where it is."""
    if search.first is None:
        return f"none of {search.commits} COMMITs is one that the snapshot does not see"
    if search.first != position:
        return f"it is at {format_lsn(position)}, and the first COMMIT that the snapshot does not see at " + (
            format_lsn(search.first)
        )
    if search.late is not None:
        return f"the snapshot sees the COMMIT at {format_lsn(search.late)}, which lies behind it"
    return ""
