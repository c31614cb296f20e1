# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line of a checklist, and how lists are shown: to a terminal, as Markdown, as one page of HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BY_HAND = "BY_HAND"
_BOXES = {"PASS": "x"}
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:auto;padding:1rem;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;"
    "border-bottom:1px solid #999}.PASS{color:#0a6638}.FAIL{color:#ad1f17}.COULD_NOT_VERIFY{color:#7d5000}"
    ":root{color-scheme:light dark}@media(prefers-color-scheme:dark){.PASS{color:#62d394}.FAIL{color:#ff8f86}"
    ".COULD_NOT_VERIFY{color:#efb94f}}"
)


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
    for one in lines:
        found.setdefault(one["box"], []).append(one)
    return found


def _title(made: Mapping[str, Any]) -> str:
    ahead = f", as if nothing ran for {made['ahead_days']:g} days" if made["ahead_days"] else ""
    return f"{made['period']} checklist of {made['stack']} at {made['at']}{ahead}"


def text(made: Mapping[str, Any]) -> list[str]:
    shown = [_title(made)]
    for box, lines in _boxes(made["lines"]).items():
        shown += ["", box]
        for one in lines:
            limit = f"  ({one['limit']})" if one["limit"] else ""
            words = f"{one['name']}: {one['seen']}{limit}"
            shown.append(f"  {one['result'].replace('_', ' '):<16}  {_plain(words)}")
    wrong = [_plain(one["name"]) for one in made["lines"] if one["result"] not in ("PASS", BY_HAND)]
    return [*shown, "", f"{made['verdict']}  {made['stack']}{': ' if wrong else ''}{', '.join(wrong)}"]


def _plain(words: object) -> str:
    """On one line, and without what a terminal or a page would take for a command."""
    return "".join(one if one.isprintable() else " " for one in " ".join(str(words).split()))


def markdown(made: Mapping[str, Any]) -> str:
    shown = [f"# {_mark(_title(made))}", "", f"**{_mark(made['verdict'])}**"]
    for box, lines in _boxes(made["lines"]).items():
        shown += ["", f"## {_mark(box)}", ""]
        for one in lines:
            limit = f" ({_mark(one['limit'])})" if one["limit"] else ""
            words = f"**{_mark(one['result'])}** {_mark(one['name'])}: {_mark(one['seen'])}{limit}"
            shown.append(f"- [{_BOXES.get(one['result'], ' ')}] {words}")
    return "\n".join([*shown, ""])


def _mark(words: object) -> str:
    """Text that Markdown takes for text; names of tables and keys are hostile."""
    plain = _plain(words)
    for letter in "\\`*_[]<>|#!~":
        plain = plain.replace(letter, f"&#{ord(letter)};" if letter in "<>" else f"\\{letter}")
    return plain


def page(made: Mapping[str, Any]) -> str:
    title = html.escape(_title(made))
    body = [f'<h1>{title}</h1><p class="{made["verdict"]}"><strong>{made["verdict"].replace("_", " ")}</strong></p>']
    for box, lines in _boxes(made["lines"]).items():
        rows = "".join(
            f'<tr><td class="{html.escape(one["result"])}">{html.escape(one["result"].replace("_", " "))}</td>'
            + "".join(f"<td>{html.escape(_plain(one[key]))}</td>" for key in ("name", "seen", "limit"))
            + "</tr>"
            for one in lines
        )
        head = "<tr><th>Verdict</th><th>Check</th><th>Seen</th><th>Allowed</th></tr>"
        body.append(f"<h2>{html.escape(box)}</h2><table>{head}{rows}</table>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
