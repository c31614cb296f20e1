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
    points = [item for item in found if item["component"] == "point"]
    backups = [item for item in found if item["component"] != "point"]
    lines = [*_points(points), ""] if points else []
    return [*lines, *_backups(backups)] if backups or not points else lines[:-1]


def assessed(what: str, made: Mapping[str, Any]) -> list[str]:
    """How the text of a plan begins: what was seen, and whether anything is to be done."""
    return [
        f"{what} is {made['condition']}",
        *(f"  found: {finding}" for finding in made["findings"]),
        *(f"  not checked: {item}" for item in made["unchecked"]),
        f"{'to do' if made['needed'] else 'nothing to do'}: {made['why']}",
    ]


def cautions(made: Mapping[str, Any]) -> list[str]:
    """What an operator must know of a plan's choice before agreeing to it."""
    return [
        *(f"  WARNING: {warning}" for warning in made["warnings"]),
        *(f"  passed over {item['id']}: {item['problem']}" for item in made["passed_over"]),
    ]


def _points(found: Sequence[Mapping[str, Any]]) -> list[str]:
    rows: list[Row] = [("RECOVERY POINT", "AGE", "CONSISTENCY", "COMPONENTS", "COPIES", "PROVEN")]
    for item in found:
        parts = ", ".join(name for name, part in item["components"].items() if part) or "-"
        cells = (item["id"], age(item["age_seconds"]), item["consistency"] or "-", parts, str(len(item["copies"])))
        rows.append((*cells, _proven(item)))
    return _aligned(rows)


def _backups(found: Sequence[Mapping[str, Any]]) -> list[str]:
    buckets = any(item["component"] == "objects" for item in found)
    head = ("ID", "AGE", "SIZE", "TABLES", "ROWS", *(("OBJECTS",) if buckets else ()), "PROVEN")
    rows: list[Row] = [head]
    for item in found:
        details = item["details"]
        summary = details.get("fingerprint", {})
        # The bytes of objects lie in the vault's bucket; the backup itself is but their listing.
        size = details.get("bytes") if item["component"] == "objects" else item["size"]
        cells = [item["id"], age(item["age_seconds"]), human(size) if size else "-"]
        cells += [str(summary.get(what, "-")) for what in ("tables", "rows")]
        cells += [str(details.get("objects", "-"))] if buckets else []
        rows.append((*cells, _proven(item)))
    return _aligned(rows)


def _proven(item: Mapping[str, Any]) -> str:
    if item["proven"]:
        return f"yes, {item['proven_at'][:10]}"
    return "no" if item["good"] else f"BROKEN: {item['problem']}"


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
