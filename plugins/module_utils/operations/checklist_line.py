# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line of a checklist, and how lists are shown: to a terminal, as Markdown, as one page of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..faces import page as faces_page
from ..faces.markdown import text as marked
from ..faces.page import badge, section, table
from ..faces.words import tag, terminal

BY_HAND = "BY_HAND"
_BOXES = {"PASS": "x"}


@dataclass(frozen=True)
class Line:
    """box: the line of the operator's list that this is a part of. seen: the figure; limit: what it may be."""

    box: str
    name: str
    result: str
    seen: str
    limit: str = ""


def _boxes(lines: Sequence[Mapping[str, str]]) -> dict[str, list[Mapping[str, str]]]:
    found: dict[str, list[Mapping[str, str]]] = {}
    for item in lines:
        found.setdefault(item["box"], []).append(item)
    return found


def _title(made: Mapping[str, Any]) -> str:
    ahead = f", as if nothing ran for {made['ahead_days']:g} days" if made["ahead_days"] else ""
    return f"{made['period']} checklist of {made['stack']} at {made['at']}{ahead}"


def text(made: Mapping[str, Any]) -> list[str]:
    shown = [_title(made)]
    for box, lines in _boxes(made["lines"]).items():
        shown += ["", box]
        for item in lines:
            limit = f"  ({item['limit']})" if item["limit"] else ""
            words = f"{item['name']}: {item['seen']}{limit}"
            shown.append(f"  {item['result'].replace('_', ' '):<16}  {terminal(words)}")
    wrong = [terminal(line["name"]) for line in made["lines"] if line["result"] not in ("PASS", BY_HAND)]
    return [*shown, "", f"{made['verdict']}  {made['stack']}{': ' if wrong else ''}{', '.join(wrong)}"]


def markdown(made: Mapping[str, Any]) -> str:
    shown = [f"# {marked(_title(made))}", "", f"**{marked(made['verdict'])}**"]
    for box, lines in _boxes(made["lines"]).items():
        shown += ["", f"## {marked(box)}", ""]
        for item in lines:
            limit = f" ({marked(item['limit'])})" if item["limit"] else ""
            words = f"**{marked(item['result'])}** {marked(item['name'])}: {marked(item['seen'])}{limit}"
            shown.append(f"- [{_BOXES.get(item['result'], ' ')}] {words}")
    return "\n".join([*shown, ""])


def page(made: Mapping[str, Any]) -> str:
    body = [
        section(
            box,
            table(
                ("Verdict", "Check", "Seen", "Allowed"),
                [(badge(item["result"]), item["name"], item["seen"], item["limit"]) for item in lines],
            ),
        )
        for box, lines in _boxes(made["lines"]).items()
    ]
    return faces_page.page(_title(made), tag("h1", badge(made["verdict"]), " ", _title(made)), body)
