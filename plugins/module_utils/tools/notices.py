# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the one who is on call reads at 03:00: which stack on which host, what failed, why, and the next command.

Its causes are words of programs and names of data, which may be hostile: each is one line that prints, of bounded
length. What a receiver's own markup would make of it is for the receiver's payload to undo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Literal

from ..base.checks import FAIL, Verdict
from ..base.errors import printable

FAILURE: Final = "failure"
RECOVERY: Final = "recovery"
WEEKLY: Final = "weekly"
TEST: Final = "test"
Kind = Literal["failure", "recovery", "weekly", "test"]
CRITICAL, WARNING, INFO = "critical", "warning", "info"
MOST = 20  # troubles that a notice has in full
_CAUSE, _TITLE = 640, 140  # characters


@dataclass(frozen=True)
class Sent:
    """What became of a notice. problem: why it was not taken; empty: it was. partly: some of its recipients have it."""

    problem: str = ""
    partly: bool = False


def shortened(text: str, most: int) -> str:
    """Return the text on one line that prints."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shown_time(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Trouble:
    """Something that is not well. key: what it is, for as long as it lasts. remedy: the next command."""

    key: str
    name: str
    result: Verdict
    detail: str
    since: datetime
    remedy: str = ""

    @property
    def severity(self) -> str:
        return CRITICAL if self.result == FAIL else WARNING

    @property
    def lines(self) -> list[str]:
        lines = [
            f"{self.result}  {shortened(self.name, _TITLE)}",
            f"  {shortened(self.detail, _CAUSE)}",
            f"  since {shown_time(self.since)}",
        ]
        return [*lines, *([f"  next: {self.remedy}"] if self.remedy else [])]


@dataclass(frozen=True)
class Notice:
    """One message. failed: what is told now; lasting: what was told before and still is so; over: what is well again.
    remarks: the weekly word, a line each."""

    kind: Kind
    stack: str
    host: str
    at: datetime
    failed: Sequence[Trouble] = ()
    lasting: Sequence[Trouble] = ()
    over: Sequence[Trouble] = ()
    remarks: Sequence[str] = ()

    @property
    def severity(self) -> str:
        found = [trouble.severity for trouble in self.failed]
        return CRITICAL if CRITICAL in found else WARNING if found else INFO

    @property
    def title(self) -> str:
        names = [trouble.name for trouble in self.failed or self.over]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        what = {
            FAILURE: "FAIL" if self.severity == CRITICAL else "could not verify",
            RECOVERY: "well again",
            WEEKLY: "all is well",
            TEST: "a test of lifeboat_notify, nothing is wrong",
        }[self.kind]
        about = f": {shortened(names[0], _TITLE - len(more))}{more}" if names else ""
        return f"{self.stack} on {shortened(self.host, 64)}: {what}{about}"

    def text(self) -> str:
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield f"Stack {self.stack} on host {shortened(self.host, 64)}, {shown_time(self.at)}"
        yield from ("", *self.remarks) if self.remarks else ()
        for trouble in self.failed[:MOST]:
            yield from ("", *trouble.lines)
        if self.over:
            names = (f"  {shortened(item.name, _TITLE)}, since {shown_time(item.since)}" for item in self.over[:MOST])
            yield from ("", "Well again:", *names)
        if self.lasting:
            names = (f"  {item.result}  {shortened(item.name, _TITLE)}" for item in self.lasting[:MOST])
            yield from ("", "Told before, and still so:", *names)
        for left in (len(items) - MOST for items in (self.failed, self.over, self.lasting)):
            if left > 0:
                yield f"  and {left} more"
        if self.kind != TEST:
            yield from ("", f"On {shortened(self.host, 64)}, as root: lifeboat status --stack {self.stack}")
