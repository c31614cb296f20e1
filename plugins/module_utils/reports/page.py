# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page that every face in HTML shares: one file, no script, nothing fetched, light and dark, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..base.checks import ABORTED, COULD_NOT_VERIFY, FAIL, PASS
from .words import Markup, joined, tag

# Every text colour against every background that it stands on has the contrast that WCAG AA asks for: a test counts.
LIGHT = {
    "back": "#ffffff", "card": "#f4f6f8", "text": "#1a1d21", "soft": "#525a65", "rule": "#d4d9df", "link": "#1a56b0",
    "pass": "#0a6638", "fail": "#ad1f17", "unsure": "#7d5000", "aborted": "#4a515b", "badge": "#ffffff",
}  # fmt: skip
DARK = {
    "back": "#121417", "card": "#1c2025", "text": "#e8eaed", "soft": "#a9b0ba", "rule": "#363c45", "link": "#8fb8f9",
    "pass": "#62d394", "fail": "#ff8f86", "unsure": "#efb94f", "aborted": "#b6bcc5", "badge": "#121417",
}  # fmt: skip
# Characters that stay on one line. A badge: all of our words; a stranger's may be longer than a phone is wide. A cell:
# a phase's name, a time, a size.
_BADGE, _CELL = 24, 12
VERDICTS: Mapping[str, str] = {PASS: "pass", FAIL: "fail", COULD_NOT_VERIFY: "unsure", ABORTED: "aborted"}
# No script runs, whatever gets into a page; nothing is fetched, so a page tells nobody that it is read.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1.25rem 1rem 3rem;max-width:60rem;background:var(--back);color:var(--text);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK JP",sans-serif;
overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 .25rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem;padding-bottom:.25rem;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.4rem 0}
a{color:var(--link)}
code,pre{font:.875rem/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
pre{background:var(--card);padding:.6rem .75rem;border-radius:.3rem;margin:.5rem 0;white-space:pre-wrap}
.soft{color:var(--soft)}
.badge{display:inline-block;padding:.1rem .5rem;border-radius:.25rem;font-weight:600;font-size:.8rem;
color:var(--badge);background:var(--aborted);-webkit-print-color-adjust:exact;print-color-adjust:exact}
.badge.pass{background:var(--pass)}.badge.fail{background:var(--fail)}.badge.unsure{background:var(--unsure)}
h1 .badge{font-size:1rem;vertical-align:.15rem;margin-right:.35rem}
.whole{white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(6,1fr);gap:.6rem;margin:1rem 0}
.facts div{grid-column:span 3;background:var(--card);border-radius:.4rem;padding:.6rem .8rem}
.facts.odd div:nth-child(-n+3){grid-column:span 2}
.facts dt{color:var(--soft);font-size:.85rem}.facts dd{margin:0;font-size:1.1rem;font-weight:600}
dl.pairs{display:grid;grid-template-columns:minmax(6rem,11rem) 1fr;gap:.2rem 1rem;margin:.5rem 0}
dl.pairs dt{color:var(--soft)}dl.pairs dd{margin:0}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.95rem}
th{text-align:left;overflow-wrap:normal;color:var(--soft);font-weight:600;font-size:.85rem}
th,td{padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
ul{margin:.4rem 0;padding-left:1.2rem}
summary{cursor:pointer;color:var(--link);font-weight:600}
.chart{display:block;margin:.75rem 0;overflow:visible}
.chart text{fill:var(--text);font-size:13px}.chart text.value{fill:var(--soft);font-size:12px}
.track{fill:var(--card)}.bar{fill:var(--link)}.mark{fill:var(--fail)}
.grid{stroke:var(--rule)}.target{stroke:var(--fail);stroke-dasharray:5 4}.path{stroke:var(--soft);stroke-opacity:.5}
.chart text.number{fill:var(--text);font-size:12px;paint-order:stroke;stroke:var(--back);stroke-width:3px}
.dot{stroke-width:2.5}.dot.pass{fill:var(--pass);stroke:var(--back)}.dot.cross{fill:none;stroke:var(--fail)}
@media (min-width:40rem){.facts div{grid-column:span 2}.facts.row{display:flex}.facts.row div{flex:1 1 0}}
footer{margin-top:2.5rem;color:var(--soft);font-size:.85rem}
@media (max-width:40rem){
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody,tr,td{display:block}
tr{padding:.5rem 0;border-bottom:1px solid var(--rule)}
td{border:0;padding:.1rem 0}td:empty{display:none}
td[data-name]::before{content:attr(data-name) ": ";color:var(--soft);font-size:.85rem}
dl.pairs{grid-template-columns:1fr;gap:0}dl.pairs dd{margin-bottom:.5rem}
}
@media print{
body{max-width:none;padding:0;font-size:10pt}
a{color:inherit;text-decoration:none}
details::details-content{content-visibility:visible;block-size:auto}
tr,.facts div,.chart,pre{break-inside:avoid}h2,h3{break-after:avoid}
}
"""


def _variables(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


def style() -> Markup:
    """Paper is always light."""
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    return Markup(f":root{{color-scheme:light dark;{_variables(LIGHT)}}}{dark}{_RULES}")


def page(title: str, *body: object, footer: object = "") -> str:
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style()),
    ]
    content = tag("body", tag("main", *body), tag("footer", footer))
    return f"<!doctype html>\n{tag('html', tag('head', *head), content, lang='en')}\n"


def badge(verdict: object, word: object = "") -> Markup:
    """Return the verdict in words and in colour, or another word in its colour. What is no verdict has the colour of
    none."""
    text = str(word or verdict).replace("_", " ")
    whole = " whole" if len(text) <= _BADGE else ""
    return tag("span", text, class_=f"badge {VERDICTS.get(str(verdict), 'aborted')}{whole}")


def pairs(items: Sequence[tuple[str, object]]) -> Markup:
    return tag("dl", [[tag("dt", name), tag("dd", words)] for name, words in items], class_="pairs")


def facts(items: Sequence[tuple[str, object]]) -> Markup:
    """Return two to six tiles, none alone in its row: up to five in one row, six in two; on a phone two and three."""
    shape = f"facts{' odd' if len(items) % 2 else ''}{' row' if len(items) < 6 else ''}"
    return tag("dl", [tag("div", tag("dt", name), tag("dd", words)) for name, words in items], class_=shape)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> Markup:
    """Return a table that a phone shows as one block a row. The first cell of a row is its name and needs none itself.

    empty: what to say where there is no row.
    """
    if empty and not rows:
        return tag("p", empty)
    labels = [None, *(name or None for name in head[1:])]
    lines = [tag("tr", [_cell(name, cell) for name, cell in zip(labels, row)], role="row") for row in rows]
    names = tag("tr", [tag("th", name, role="columnheader", scope="col") for name in head], role="row")
    return tag("table", tag("thead", names, role="rowgroup"), tag("tbody", lines, role="rowgroup"), role="table")


def _cell(name: object, content: object) -> Markup:
    whole = isinstance(content, str) and not isinstance(content, Markup) and len(content) <= _CELL
    return tag("td", content, role="cell", data_name=name, class_="whole" if content and whole else None)


def bullets(items: Sequence[object]) -> Markup:
    return tag("ul", [tag("li", item) for item in items])


def folded(title: str, *content: object) -> Markup:
    """Return what a reader opens if he wants it, without a script; paper has it open where the browser knows how."""
    return tag("details", tag("summary", title), *content)


def section(title: str, *content: object) -> Markup:
    """Return the section; nothing if it has no content."""
    inner = joined(content)
    return tag("section", tag("h2", title), inner) if inner else Markup("")
