# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One record as Markdown, for a ticket or a wiki. Nothing in a record becomes a link, an image, HTML or a mention."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..evidence.schema import Record
from . import words

_SPECIAL = re.compile(r"[\\`*\[\]<>&|~!$#@{}]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|:(?=//)|(?<=www)\.")


def text(value: object) -> str:
    """On one line, what Markdown would take for its own escaped. Names such as db_backup_1 stay readable."""
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", words.one_line(value))


def markdown(record: Record, *, problem: str = "", signature: str = "", sha256: str = "") -> str:
    found = record.assessment
    when = words.moment(record.started_at or record.recorded_at)
    lines = [f"# {text(record.verdict)}: {text(words.title(record))}", "", f"{text(record.host)}, {text(when)}", ""]
    if problem:
        lines += [f"**This is not evidence: {text(problem)}.**", ""]
    lines += [
        f"* {text(name)}: **{text(value)}**"
        for name, value in (*words.facts(record), *words.vouched(record, signature))
    ]
    if record.error:
        lines += ["", "## Error", "", text(record.error)]
    phases = [
        (phase.name, words.moment(phase.started_at), words.duration(phase.seconds), words.moved(phase))
        for phase in record.phases
    ]
    lines += _table("Timeline", ("Phase", "Started", "Took", "Moved"), phases)
    lines += _table("Drill", ("", ""), words.drill(record))
    if found.condition:
        lines += ["", "## Found", "", f"The assessment said: **{text(found.condition)}**", ""]
        lines += [f"* {text(finding)}" for finding in found.findings]
    tried = words.tried(record)
    lines += ["", "## Tried and noted", "", *(f"* {text(word)}" for word in tried)] if tried else []
    checks = [(check.result, check.name, check.detail) for check in record.checks]
    lines += _table("Checks", ("Result", "Check", "Seen"), checks)
    lines += _table("Not tested", ("What", "Why"), [(gap.what, gap.why) for gap in record.untested])
    lines += _table("Accepted although it failed", ("Why",), [(reason,) for reason in record.accepted])
    lines += _table("Passed over", ("Backup", "Why"), [(backup.id, backup.problem) for backup in record.passed_over])
    lines += (
        ["", "## Kept", "", *(f"* {text(word)}" for word in words.quarantined(record))]
        if words.quarantined(record)
        else []
    )
    lines += _table("Who, where, with what", ("", ""), words.origin(record))
    findings = [(finding.what, finding.owner, finding.due) for finding in record.findings]
    lines += _table("Findings", ("To improve", "Owner", "Due"), findings)
    lines += ["", "## Sign-off", "", text(words.signed_off(record))]
    lines += ["", f"Record `{record.id}`" if re.fullmatch(r"\w+", record.id) else f"Record {text(record.id)}"]
    lines += [f"SHA-256 of the record: {sha256}"] if sha256 else []
    return "\n".join(lines) + "\n"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return []
    lines = ["", f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(text(cell) for cell in row)} |" for row in rows)]
