# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Charts as inline SVG without a script: positions in percent, so that text keeps its size on a phone and on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..base.checks import PASS
from ..evidence.schema import Record
from .words import Markup, duration, one_line, tag

_ROW = 38
_NAME = 30  # characters that fit beside a duration on a phone
_HEIGHT = 190
_LEFT, _RIGHT = 14.0, 96.0  # percent of the width that a trend's points lie between
_GRID = (1, 10, 60, 600, 3600, 4 * 3600, 24 * 3600, 7 * 86400)


@dataclass(frozen=True)
class Point:
    """One recovery in a trend."""

    when: datetime
    seconds: float
    verdict: str
    label: str


def timeline(record: Record) -> Markup:
    """Return a bar for each phase, a mark for each event of a drill, from the first start to the last end."""
    rows = [(phase.name, phase.started_at, phase.finished_at, duration(phase.seconds)) for phase in record.phases]
    drill = record.drill
    events = ((drill.injected_at, "the fault"), (drill.transaction_at, "the first transaction")) if drill else ()
    rows += [(name, when, when, f"{when:%H:%M:%S}") for when, name in events if when]
    if not rows:
        return Markup("")
    first = min(start for _label, start, _end, _kind in rows)
    whole = max(0.001, *((end - first).total_seconds() for _label, _start, end, _kind in rows))
    parts = []
    for number, (name, start, end, words) in enumerate(sorted(rows, key=lambda row: row[1])):
        top = number * _ROW
        left = _within(100 * (start - first).total_seconds() / whole, 0, 99.4)
        wide = _within(100 * (end - start).total_seconds() / whole, 0.6, 100 - left)
        parts += [
            tag("text", _short(name), x=0, y=top + 13),
            tag("text", words, x="100%", y=top + 13, text_anchor="end", class_="value"),
            tag("rect", x=0, y=top + 19, width="100%", height=9, rx=2, class_="track"),
            tag(
                "rect", tag("title", f"{one_line(name)}: {words}"), x=f"{left:.2f}%", y=top + 19, width=f"{wide:.2f}%",
                height=9, rx=2, class_="mark" if start == end else "bar",
            ),
        ]  # fmt: skip
    label = f"Timeline of {len(rows)} phases, {duration(whole)} from the first to the last"
    return tag("svg", parts, role="img", aria_label=label, width="100%", height=len(rows) * _ROW, class_="chart")


def trend(points: Sequence[Point], target: float) -> Markup:
    """Recovery times on a logarithmic scale, and the time that is allowed."""
    if not points:
        return Markup("")
    most = max(0.2, target, *(point.seconds for point in points))
    least = max(0.1, min(point.seconds for point in points))
    low, high = math.log10(least / 1.6), math.log10(most * 1.6)

    def height(seconds: float) -> float:
        share = (math.log10(max(seconds, 0.1)) - low) / (high - low)
        return round(_HEIGHT - 24 - _within(share, 0, 1) * (_HEIGHT - 44), 1)

    ordered = sorted(points, key=lambda point: point.when)
    first, span = ordered[0].when, (ordered[-1].when - ordered[0].when).total_seconds()

    def across(when: datetime) -> float:
        share = (when - first).total_seconds() / span if span else 0.5
        return round(_LEFT + share * (_RIGHT - _LEFT), 2)

    parts = []
    for seconds in _GRID:
        if low < math.log10(seconds) < high and abs(height(seconds) - height(target or 1)) > 12:
            at = height(seconds)
            parts.append(tag("line", x1=f"{_LEFT - 2}%", x2="100%", y1=at, y2=at, class_="grid"))
            parts.append(tag("text", _tick(seconds), x=0, y=at + 4, class_="value"))
    if target > 0:
        at = height(target)
        parts.append(tag("line", x1=f"{_LEFT - 2}%", x2="100%", y1=at, y2=at, class_="target"))
        parts.append(tag("text", f"target {_tick(target)}", x="100%", y=at - 5, text_anchor="end", class_="value"))
    places = [(across(point.when), height(point.seconds)) for point in ordered]
    for (left, down), (right, end) in zip(places, places[1:]):
        parts.append(tag("line", x1=f"{left}%", y1=down, x2=f"{right}%", y2=end, class_="path"))
    parts += [_mark(point, left, down) for point, (left, down) in zip(ordered, places)]
    for words, anchor, x in zip(_ends(first, ordered[-1].when), ("end", "start"), ("100%", "0")):
        parts.append(tag("text", words, x=x, y=_HEIGHT - 4, text_anchor=anchor, class_="value"))
    passed = sum(point.verdict == PASS for point in ordered)
    label = f"{len(ordered)} recovery times, {passed} passed, the last {duration(ordered[-1].seconds)}"
    return tag("svg", parts, role="img", aria_label=label, width="100%", height=_HEIGHT, class_="chart")


def _ends(first: datetime, last: datetime) -> list[str]:
    """Return what stands at an axis' right and left end: as much of the times as tells them apart, once what nothing
    does."""
    for form in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        if first.strftime(form) != last.strftime(form):
            return [last.strftime(form), first.strftime(form)]
    return [f"{last:%Y-%m-%d}"]


def _mark(point: Point, across: float, down: float) -> Markup:
    """Return a circle for PASS, a cross for everything else: colour alone tells too few people."""
    said = tag("title", point.label)
    shape = (
        tag("circle", said, r=5, class_="dot pass")
        if point.verdict == PASS
        else tag("path", said, d="M-5 -5L5 5M-5 5L5 -5", class_="dot cross")
    )
    return tag("svg", shape, x=f"{across}%", y=down, overflow="visible", width=1, height=1)


def _tick(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}" if seconds % unit == 0 else f"{seconds / unit:.1f} {name}"
    return f"{seconds:g} s"


def _short(name: object) -> str:
    text = one_line(name)
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def _within(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
