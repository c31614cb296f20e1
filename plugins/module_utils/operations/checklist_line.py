# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line of a checklist, and how lists are shown: to a terminal, as Markdown, as one page of HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..base import typed
from ..base.checks import PASS, Check, verdict
from ..base.clock import format_time
from ..reports import page as reports_page
from ..reports.markdown import text as marked
from ..reports.page import badge, section, table
from ..reports.words import tag, terminal

BY_HAND = "BY_HAND"


@dataclass(frozen=True)
class Item:
    """box: the line of the operator's list that this is a part of. limit: what the figure may be."""

    box: str
    name: str
    result: str
    figure: str = field(metadata={"json": "seen"})
    limit: str = ""


@dataclass(frozen=True)
class Checklist:
    """One list, worked through. `ahead`: as if nothing more had happened for so long; its verdict is never better."""

    stack: str
    period: str
    at: datetime
    lines: tuple[Item, ...]
    ahead: timedelta = timedelta()

    @property
    def verdict(self) -> str:
        """A line that the operator ticks by hand neither passes nor fails it."""
        return verdict(Check(line.name, line.result) for line in self.lines if line.result != BY_HAND)

    @property
    def boxes(self) -> dict[str, list[Item]]:
        names = dict.fromkeys(line.box for line in self.lines)
        return {name: [line for line in self.lines if line.box == name] for name in names}

    def as_dict(self) -> dict[str, object]:
        return {
            "stack": self.stack,
            "period": self.period,
            "at": format_time(self.at),
            "ahead_days": self.ahead / timedelta(days=1),
            "verdict": self.verdict,
            "lines": [typed.plain(line) for line in self.lines],
        }


def _title(checklist: Checklist) -> str:
    ahead = f", as if nothing ran for {checklist.ahead / timedelta(days=1):g} days" if checklist.ahead else ""
    return f"{checklist.period} checklist of {checklist.stack} at {format_time(checklist.at)}{ahead}"


def text(checklist: Checklist) -> list[str]:
    shown = [_title(checklist)]
    for box, lines in checklist.boxes.items():
        shown += ["", box]
        for item in lines:
            limit = f"  ({item.limit})" if item.limit else ""
            words = f"{item.name}: {item.figure}{limit}"
            shown.append(f"  {item.result.replace('_', ' '):<16}  {terminal(words)}")
    wrong = [terminal(line.name) for line in checklist.lines if line.result not in (PASS, BY_HAND)]
    return [*shown, "", f"{checklist.verdict}  {checklist.stack}{': ' if wrong else ''}{', '.join(wrong)}"]


def markdown(checklist: Checklist) -> str:
    shown = [f"# {marked(_title(checklist))}", "", f"**{marked(checklist.verdict)}**"]
    for box, lines in checklist.boxes.items():
        shown += ["", f"## {marked(box)}", ""]
        for item in lines:
            limit = f" ({marked(item.limit)})" if item.limit else ""
            words = f"**{marked(item.result)}** {marked(item.name)}: {marked(item.figure)}{limit}"
            shown.append(f"- [{'x' if item.result == PASS else ' '}] {words}")
    return "\n".join([*shown, ""])


def page(checklist: Checklist) -> str:
    body = []
    for box, lines in checklist.boxes.items():
        rows = [(badge(item.result), item.name, item.figure, item.limit) for item in lines]
        body.append(section(box, table(("Verdict", "Check", "Seen", "Allowed"), rows)))
    return reports_page.page(_title(checklist), tag("h1", badge(checklist.verdict), " ", _title(checklist)), body)
