# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recovery points and backups as a table for a terminal: age, size, content, and whether a restore proved each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Optional, Union

from ..base.clock import TOLERANCE
from ..base.text import human, several
from .catalog import Entry
from .components import DATABASE, KINDS, component_kind, every
from .points import PointEntry

Row = tuple[str, ...]


def table(tied: Sequence[PointEntry], by_component: Mapping[str, Sequence[Entry]], now: datetime) -> list[str]:
    """Recovery points, where there are any, then backups, in the order of points.listing()."""
    points, backups = _points(tied, now), _backups(by_component, now)
    if not tied:
        return backups
    return [*points, "", *backups] if any(by_component.values()) else points


def _points(tied: Sequence[PointEntry], now: datetime) -> list[str]:
    rows: list[Row] = [("RECOVERY POINT", "AGE", "CONSISTENCY", "COMPONENTS", "COPIES", "PROVEN")]
    for entry in tied:
        point = entry.point
        parts = ", ".join(point.parts) if point else ""
        cells = (point.consistency, parts or "-", str(len(point.copies))) if point else ("-", "-", "0")
        rows.append((entry.id, _since(point.taken_at if point else None, now), *cells, _proven(entry)))
    return aligned(rows)


def _backups(by_component: Mapping[str, Sequence[Entry]], now: datetime) -> list[str]:
    rows_only = not any(by_component.values())
    columns = [
        what for name, kind in KINDS.items() if by_component.get(name) or (rows_only and name == DATABASE)
        for what in kind.counts
    ]  # fmt: skip
    rows: list[Row] = [("ID", "AGE", "SIZE", *(what.upper() for what in columns), "PROVEN")]
    for name in reversed(tuple(every())):
        for entry in by_component.get(name, ()):
            rows.append((entry.id, *_cells(entry, columns, now), _proven(entry)))
    return [*aligned(rows), *_notes(by_component.get(DATABASE, ()))]


def _notes(entries: Sequence[Entry]) -> list[str]:
    """What an operator must know of the newest backup of the database server."""
    last = next((entry.manifest for entry in reversed(entries) if entry.manifest), None)
    kind = KINDS[DATABASE]
    return [f"{last.id}: {note}" for note in kind.notes(last.detailed(kind.details))] if last else []


def _cells(entry: Entry, columns: Iterable[str], now: datetime) -> Row:
    kind, manifest = component_kind(entry.component), entry.manifest
    if manifest is None:
        return ("-", "-", *("-" for _what in columns))
    details = manifest.detailed(kind.details)
    size, counted = kind.bytes(details), kind.counted(details)
    size = manifest.size if size is None else size
    counts = (str(counted.get(what, "-")) for what in columns)
    return (_since(manifest.taken_at, now), human(size) if size else "-", *counts)


def _proven(entry: Union[Entry, PointEntry]) -> str:
    if entry.hidden:
        return f"HIDDEN: {entry.hidden}"
    if entry.proven_at:
        return f"yes, {entry.proven_at:%Y-%m-%d}"
    if entry.untrusted:
        return entry.problem.replace("untrusted", "UNTRUSTED", 1)
    word = "UNKNOWN" if entry.unknown else "WRONG DATE" if entry.ahead else "BROKEN"
    word = "INCOMPLETE" if entry.incomplete and not entry.ahead else word
    if entry.spoiled:
        word = f"BROKEN for {several('database', [*entry.spoiled])}"
    return "no" if entry.good else f"{word}: {entry.problem}"


def aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows]


def _since(taken_at: Optional[datetime], now: datetime) -> str:
    if taken_at and taken_at > now + TOLERANCE:
        return "-"
    return age(int((now - taken_at).total_seconds()) if taken_at else None)


def age(seconds: Optional[int]) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
