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
_PHONE = 358  # pixels that a chart has on a phone 390 wide: what does not touch there touches nowhere
_LETTER, _TALL = 7.2, 14  # pixels that a letter is wide at most, and a number high
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_GRID = (1, 10, 60, 600, 3600, 4 * 3600, 24 * 3600, 7 * 86400)


Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of a phone


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

    parts, taken = [], []
    for seconds in _GRID:
        if low < math.log10(seconds) < high and abs(height(seconds) - height(target or 1)) > 12:
            at = height(seconds)
            parts.append(tag("line", x1=f"{_LEFT - 2}%", x2="100%", y1=at, y2=at, class_="grid"))
            parts.append(tag("text", _tick(seconds), x=0, y=at + 4, class_="value"))
            taken.append(_box(_tick(seconds), 0, at + 4, "start"))
    if target > 0:
        at, text = height(target), f"target {_tick(target)}"
        parts.append(tag("line", x1=f"{_LEFT - 2}%", x2="100%", y1=at, y2=at, class_="target"))
        parts.append(tag("text", text, x="100%", y=at - 5, text_anchor="end", class_="value"))
        taken.append(_box(text, 100, at - 5, "end"))
    places = [(across(point.when), height(point.seconds)) for point in ordered]
    for (left, down), (right, end) in zip(places, places[1:]):
        parts.append(tag("line", x1=f"{left}%", y1=down, x2=f"{right}%", y2=end, class_="path"))
    parts += [_mark(point, left, down) for point, (left, down) in zip(ordered, places)]
    for words, anchor, x in zip(_ends(first, ordered[-1].when), ("end", "start"), (100, 0)):
        parts.append(tag("text", words, x=f"{x}%", y=_HEIGHT - 4, text_anchor=anchor, class_="value"))
        taken.append(_box(words, x, _HEIGHT - 4, anchor))
    parts += _numbers([(point.seconds, *place) for point, place in zip(ordered, places)], taken)
    passed = sum(point.verdict == PASS for point in ordered)
    label = f"{len(ordered)} recovery times, {passed} passed, the last {duration(ordered[-1].seconds)}"
    return tag("svg", parts, role="img", aria_label=label, width="100%", height=_HEIGHT, class_="chart")


def _numbers(points: Sequence[tuple[float, float, float]], taken: Sequence[Box]) -> list[Markup]:
    """Return the time beside each point that has room for it: above it, else below. The last comes first, then the
    longest and the shortest, as they are what a reader asks for. points: (seconds, percent from the left, pixels)."""
    boxes, parts = list(taken), []
    first = [len(points) - 1, *(choose(range(len(points)), key=lambda at: points[at][0]) for choose in (max, min))]
    for number in dict.fromkeys([*first, *range(len(points))]):
        seconds, across, down = points[number]
        anchor = "start" if across < 2 * _LEFT else "end" if across > 100 - _LEFT else "middle"
        for y in (down - 9, down + 19):
            box = _box(_brief(seconds), across, y, anchor)
            if y < _HEIGHT - 4 and not any(_touch(box, other) for other in boxes):
                words = tag("text", _brief(seconds), x=f"{across}%", y=y, text_anchor=anchor, class_="number")
                parts.append(words)
                boxes.append(box)
                break
    return parts


def _box(text: str, across: float, y: float, anchor: str) -> Box:
    wide, at = len(text) * _LETTER, across * _PHONE / 100
    left = at - wide * {"start": 0, "middle": 0.5, "end": 1}[anchor]
    return left, y - _TALL, left + wide, y


def _touch(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _brief(seconds: float) -> str:
    """12 s, 2.6 min, 3.1 h, 4 d: seven letters at most, below ten thousand days."""
    size, name = next(((size, name) for size, name in _UNITS if seconds >= size), (1, "s"))
    count = seconds / size
    return f"{count:.1f}".removesuffix(".0") + f" {name}" if count < 10 else f"{count:.0f} {name}"


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
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{seconds / unit:g} {name}" if seconds % unit == 0 else f"{seconds / unit:.1f} {name}"
    return f"{seconds:g} s"


def _short(name: object) -> str:
    text = one_line(name)
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def _within(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
