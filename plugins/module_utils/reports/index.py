# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The history page: what is overdue, how recovery times go, every record there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ..base.checks import FAIL, PASS
from ..evidence.store import StoredRecord
from . import charts, words
from .history import OK, Duty, Stack
from .page import badge, facts, page, section, table
from .words import Markup, tag

TITLE = "Recoveries, drills and verifications"


def index(stacks: Sequence[Stack], now: datetime, links: Mapping[tuple[str, str, str], str], fleet: str = "") -> str:
    """links: (host, stack, record's id) -> address of the record's own page. fleet: of the page of all stacks."""
    silent = [(stack.host, stack.problem) for stack in stacks if stack.problem]
    records = [held.good for stack in stacks for held in stack.records]
    counts = {
        "Records": len(records),
        "Passed": sum(bool(record and record.verdict == PASS) for record in records),
        "Overdue": sum(len(stack.overdue) for stack in stacks),
        "No evidence": records.count(None),
        "Not reached": len(silent),
    }
    body = [
        tag("h1", TITLE),
        tag("p", f"As of {now:%Y-%m-%d}, UTC", class_="soft"),
        tag("p", tag("a", "All stacks, worst first", href=fleet)) if fleet else None,
        facts([(name, str(count)) for name, count in counts.items()]),
        section("Not reached", table(("Host", "Why"), silent) if silent else None),
        [_stack(stack, now, links) for stack in stacks if not stack.problem],
        tag("p", "No host was asked.") if not stacks else None,
    ]
    return page(TITLE, body, footer="Lifeboat. A drill counts for its quarter when its verdict is PASS.")


def _stack(stack: Stack, now: datetime, links: Mapping[tuple[str, str, str], str]) -> Markup:
    trends = [
        [tag("h3", f"Recovery time: {scenario.replace('_', ' ')}"), charts.trend(points, target)]
        for scenario, (points, target) in stack.trends.items()
    ]
    rows = [_row(record, links.get((stack.host, stack.stack, record.id), "")) for record in reversed(stack.records)]
    return section(
        f"{stack.stack} on {stack.host}",
        table(("Duty", "State", "Last passed", "Every"), [_duty(duty, now) for duty in stack.duties]),
        trends,
        tag("h3", "Every record, newest first"),
        table(("Record", "Verdict", "When", "Took", "Allowed", "Data loss, at most"), rows, empty="There is none."),
    )


def _duty(duty: Duty, now: datetime) -> tuple[object, ...]:
    days = "" if duty.last is None else f", {(now - duty.last).days} days ago"
    state = badge(PASS if duty.state == OK else FAIL, duty.state)
    since = f"; the last try: {duty.failed}" if duty.failed else ""
    last = f"{duty.last:%Y-%m-%d}{days}" if duty.last else "never"
    return duty.name, state, last + since, f"{duty.days} days"


def _row(item: StoredRecord, link: str) -> tuple[object, ...]:
    record = item.record
    if record is None:
        return item.id, badge("NO EVIDENCE"), item.problem, "", "", ""
    name = record.kind if record.kind == record.scenario else f"{record.kind}, {record.scenario.replace('_', ' ')}"
    loss = words.duration(record.rpo.seconds) if record.rpo and record.rpo.seconds is not None else ""
    verdict = badge(record.verdict) if item.good else [badge("NO EVIDENCE"), f" {item.problem}"]
    return (
        tag("a", name, href=link) if link else name,
        verdict,
        words.moment(record.recorded_at),
        words.duration(record.seconds),
        words.duration(record.target_seconds) if record.target_seconds else "",
        loss,
    )
