# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One record as one HTML file that stands alone."""

from __future__ import annotations

from ..base.checks import PASS
from ..evidence.schema import Record
from . import charts, words
from .page import badge, bullets, facts, folded, page, pairs, section, table
from .words import Markup, tag

_OLDER = "The record does not say: it is of an older version."


def html(record: Record, *, problem: str = "", signature: str = "", sha256: str = "") -> str:
    """Return the record's page. problem: why it is no evidence; then the page says that before anything else."""
    found = record.assessment
    title = words.title(record)
    untested = [(gap.what, gap.why) for gap in record.untested]
    passed = [(backup.id, backup.problem) for backup in record.passed_over]
    findings = [(finding.what, finding.owner, finding.due) for finding in record.findings]
    body = [
        tag("h1", badge(record.verdict), " ", title),
        tag("p", f"{record.host}, {words.moment(record.started_at or record.recorded_at)}", class_="soft"),
        tag("p", badge("FAIL"), " ", tag("strong", f"This is not evidence: {problem}.")) if problem else None,
        facts([*words.facts(record), *words.vouched(record, signature)]),
        section("Error", tag("pre", record.error)) if record.error else None,
        section("Timeline", _timeline(record)),
        section("Drill", pairs(words.drill(record))) if record.drill else None,
        section(
            "Found",
            tag("p", "The assessment said: ", tag("strong", found.condition)) if found.condition else None,
            bullets(found.findings) if found.findings else None,
        ),
        section("Tried and noted", bullets(words.tried(record)) if words.tried(record) else None),
        section("Checks", _checks(record)),
        section("Not tested", table(("What", "Why"), untested, empty=_OLDER)),
        section("Accepted although it failed", bullets(record.accepted) if record.accepted else None),
        section("Passed over", table(("Backup", "Why it could not be used"), passed) if passed else None),
        section(
            "Kept",
            bullets([tag("code", name) for name in words.quarantined(record)]) if words.quarantined(record) else None,
        ),
        section("Who, where, with what", pairs(words.origin(record))),
        section(
            "Findings and sign-off",
            table(("To improve", "Owner", "Due"), findings, empty="No finding was written down."),
            tag("p", words.signed_off(record)),
        ),
    ]
    return page(title, body, footer=_footer(record, sha256))


def _checks(record: Record) -> list[Markup]:
    """Return what did not pass as a table, and what passed behind its number: a reader looks for the former."""
    rows = [(check.result, (badge(check.result), check.name, check.detail)) for check in record.checks]
    passed = [row for result, row in rows if result == PASS]
    others = [row for result, row in rows if result != PASS]
    head = ("Result", "Check", "Seen")
    parts = [table(head, others)] if others else []
    return [*parts, folded(f"{len(passed)} of {len(rows)} passed", table(head, passed))] if passed else parts


def _timeline(record: Record) -> list[Markup]:
    if not record.phases:
        return []
    rows = []
    for phase in record.phases:
        parts = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in phase.seconds_of.items())
        took = words.duration(phase.seconds)
        rows.append((phase.name, words.moment(phase.started_at), took, words.moved(phase), parts))
    return [charts.timeline(record), table(("Phase", "Started", "Took", "Moved", "Steps"), rows)]


def _footer(record: Record, sha256: str) -> list[object]:
    lines = [
        f"Record {record.id}, schema {record.schema} {'.'.join(map(str, record.version))}",
        f"SHA-256 of the record: {sha256}" if sha256 else "",
        *(f"SHA-256 of {log.name}: {log.sha256}" for log in record.logs),
    ]
    return [tag("p", line) for line in lines if line]
