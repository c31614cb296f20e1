# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups, recovery points and plans for a terminal. Takes what as_dict() makes, so that modules can show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .checks import Check
from .text import human

Row = tuple[str, ...]


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Recovery points, where there are any, then backups: age, size, content, and whether a restore proved it."""
    points = [one for one in found if one["component"] == "point"]
    backups = [one for one in found if one["component"] != "point"]
    lines = [*_points(points), ""] if points else []
    return [*lines, *_backups(backups)] if backups or not points else lines[:-1]


def assessed(what: str, made: Mapping[str, Any]) -> list[str]:
    """How the text of a plan begins: what was seen, and whether anything is to be done."""
    return [
        f"{what} is {made['condition']}",
        *(f"  found: {one}" for one in made["findings"]),
        *(f"  not checked: {one}" for one in made["unchecked"]),
        f"{'to do' if made['needed'] else 'nothing to do'}: {made['why']}",
    ]


def cautions(made: Mapping[str, Any]) -> list[str]:
    """What an operator must know of a plan's choice before agreeing to it."""
    return [
        *(f"  WARNING: {one}" for one in made["warnings"]),
        *(f"  passed over {one['id']}: {one['problem']}" for one in made["passed_over"]),
    ]


def _points(found: Sequence[Mapping[str, Any]]) -> list[str]:
    rows: list[Row] = [("RECOVERY POINT", "AGE", "CONSISTENCY", "COMPONENTS", "COPIES", "PROVEN")]
    for one in found:
        parts = ", ".join(name for name, part in one["components"].items() if part) or "-"
        cells = (one["id"], age(one["age_seconds"]), one["consistency"] or "-", parts, str(len(one["copies"])))
        rows.append((*cells, _proven(one)))
    return _aligned(rows)


def _backups(found: Sequence[Mapping[str, Any]]) -> list[str]:
    buckets = any(one["component"] == "objects" for one in found)
    head = ("ID", "AGE", "SIZE", "TABLES", "ROWS", *(("OBJECTS",) if buckets else ()), "PROVEN")
    rows: list[Row] = [head]
    for one in found:
        details = one["details"]
        summary = details.get("fingerprint", {})
        # The bytes of objects lie in the vault's bucket; the backup itself is but their listing.
        size = details.get("bytes") if one["component"] == "objects" else one["size"]
        cells = [one["id"], age(one["age_seconds"]), human(size) if size else "-"]
        cells += [str(summary.get(what, "-")) for what in ("tables", "rows")]
        cells += [str(details.get("objects", "-"))] if buckets else []
        rows.append((*cells, _proven(one)))
    return _aligned(rows)


def _proven(one: Mapping[str, Any]) -> str:
    if one["proven"]:
        return f"yes, {one['proven_at'][:10]}"
    return "no" if one["good"] else f"BROKEN: {one['problem']}"


def _aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows]


def checks(found: Sequence[Check]) -> list[str]:
    return [f"{check.result:<16} {check.name}: {check.words}" for check in found]


def age(seconds: Optional[int]) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
