# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One record as one HTML file that stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..evidence.phases import steps
from . import charts, words
from .page import badge, bullets, facts, page, pairs, section, table
from .words import Markup, tag


def html(record: Mapping[str, Any], *, problem: str = "", signature: str = "", sha256: str = "") -> str:
    """The record's page. problem: why it is no evidence; then the page says that before anything else."""
    found = record["found"]
    condition = found["condition"]
    title = words.title(record)
    body = [
        tag("h1", badge(record["verdict"]), " ", title),
        tag("p", f"{record['host']}, {words.moment(record.get('started_at') or record['recorded_at'])}", class_="soft"),
        tag("p", badge("FAIL"), " ", tag("strong", f"This is no evidence: {problem}.")) if problem else None,
        facts(words.facts(record)),
        section("Error", tag("pre", record["error"])) if record["error"] else None,
        section("Timeline", _timeline(record)),
        section("Drill", pairs(words.drill(record))) if record.get("drill") else None,
        section(
            "Found",
            tag("p", "The assessment said: ", tag("strong", condition)) if condition else None,
            bullets(found["findings"]) if found["findings"] else None,
        ),
        section("Tried and noted", bullets(words.tried(record)) if words.tried(record) else None),
        section("Checks", table(("Result", "Check", "Seen"), [_check(one) for one in record["checks"]])),
        section(
            "Not tested",
            table(("What", "Why"), [(one["what"], one["why"]) for one in record["untested"]])
            if record.get("untested")
            else tag("p", "The record does not say: it is of an older version."),
        ),
        section("Passed over", _passed_over(record)),
        section("Kept", bullets([tag("code", one) for one in words.kept(record)]) if words.kept(record) else None),
        section("Who, where, with what", pairs(words.origin(record))),
        section("Findings and sign-off", _people(record)),
    ]
    return page(title, body, footer=_footer(record, signature, sha256))


def _timeline(record: Mapping[str, Any]) -> list[Markup]:
    if not record["phases"]:
        return []
    rows = []
    for one in record["phases"]:
        parts = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in steps(one))
        speed = one.get("mb_per_second")
        moved = words.size(one["bytes"]) if isinstance(one.get("bytes"), int) else ""
        moved += f", {speed:g} MB/s" if moved and isinstance(speed, (int, float)) else ""
        rows.append((one["name"], f"{words.moment(one['started_at'])}", words.duration(one["seconds"]), moved, parts))
    return [charts.timeline(record), table(("Phase", "Started", "Took", "Moved", "Steps"), rows)]


def _check(one: Mapping[str, Any]) -> tuple[object, ...]:
    return badge(one["result"]), one["name"], one["detail"]


def _passed_over(record: Mapping[str, Any]) -> object:
    found = [(one["id"], one["problem"]) for one in record["passed_over"]]
    return table(("Backup", "Why it could not be used"), found) if found else None


def _people(record: Mapping[str, Any]) -> list[object]:
    found = [(one["what"], one["owner"], one["due"]) for one in record.get("findings") or ()]
    signed = record.get("sign_off")
    note = f" {signed['note']}" if signed and signed["note"] else ""
    return [
        table(("To improve", "Owner", "Due"), found) if found else tag("p", "No finding was written down."),
        tag("p", f"Signed off by {signed['by']}, {words.moment(signed['at'])}.{note}")
        if signed
        else tag("p", "Nobody has signed it off."),
    ]


def _footer(record: Mapping[str, Any], signature: str, sha256: str) -> list[object]:
    lines = [
        f"Record {record['id']}, schema {record['schema']} {'.'.join(str(one) for one in record['version'])}",
        f"signature: {signature}" if signature else "",
        f"SHA-256 of the record: {sha256}" if sha256 else "",
        *(f"SHA-256 of {one['name']}: {one['sha256']}" for one in record.get("logs") or ()),
    ]
    return [tag("p", one) for one in lines if one]
