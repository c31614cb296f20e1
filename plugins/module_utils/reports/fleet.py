# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All stacks in one table, worst first: for a terminal and as a page. Pure: same input, same answer.

What a host says is looked at again: its verdict follows from its checks, and where it said nothing nothing is known.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ..base import checks, pipeline, typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, NEWEST, PASS, PROOF, Check, kind_of
from ..base.errors import LifeboatError, UnverifiedError
from . import words
from .history import Stack
from .page import badge, facts, page, table
from .words import Markup, tag

TITLE = "All stacks, worst first"
_RANK = {FAIL: 0, COULD_NOT_VERIFY: 2, PASS: 3}
_SILENT = 1  # a host that does not answer may be lost: worse than one that could not look at something
_NAME, _WORDS = 32, 100  # columns of a name and of what is wrong, in the table of a terminal
_SHOWN, _CHECK = 3, 160  # checks that are shown, and columns of each


@dataclass(frozen=True)
class _HostCheck:
    name: str
    result: str
    detail: str = ""
    measured: Optional[float] = None
    kind: str = ""


@dataclass(frozen=True)
class _HostStatus:
    """The answer of `lifeboat status` or `lifeboat keeper status`, of which only the checks count."""

    checks: tuple[_HostCheck, ...] = ()


@dataclass(frozen=True)
class StackRow:
    """One stack on one host. wrong: the checks that did not pass, failed ones first. hours: how old the newest backup
    of the component is that has the oldest; days: the same of a proof; None: not known. problem: why nothing is."""

    host: str
    stack: str
    verdict: str
    wrong: tuple[Check, ...] = ()
    hours: Optional[float] = None
    days: Optional[float] = None
    problem: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        failed = sum(check.result == FAIL for check in self.wrong)
        rank = _SILENT if self.problem else _RANK[self.verdict]
        return rank, -failed, -len(self.wrong), self.stack, self.host

    @property
    def explanation(self) -> str:
        """Return the first things that are wrong, as text."""
        if self.problem:
            return _cut(f"no answer: {self.problem}", _CHECK * _SHOWN)
        shown = "; ".join(_cut(f"{check.name}: {check.detail}", _CHECK) for check in self.wrong[:_SHOWN])
        rest = len(self.wrong) - _SHOWN
        return f"{shown}; and {rest} more" if rest > 0 else shown


def judge(answers: Sequence[Mapping[str, object]], stacks: Sequence[Stack] = ()) -> list[StackRow]:
    """Return a row for each stack, worst first. answers: of each host {host, stack, status, keeper} or {host, stack,
    problem}. stacks: their records in the same order, if they were read: then overdue duties count too."""
    known: Sequence[Optional[Stack]] = list(stacks) or [None for _item in answers]
    return sorted((_judged(item, stack) for item, stack in zip(answers, known)), key=lambda row: row.order)


def _judged(answer: Mapping[str, object], stack: Optional[Stack]) -> StackRow:
    host, name = str(answer.get("host") or "?"), str(answer.get("stack") or "?")
    problem = str(answer.get("problem") or "") or (stack.problem if stack else "")
    if problem:
        return StackRow(host, name, COULD_NOT_VERIFY, problem=pipeline.scrub(problem))  # Ansible's words, or a login's
    found = _checks("status", answer.get("status"))
    if answer.get("keeper"):
        kept = _checks("status", answer["keeper"])
        found += [Check(f"keeper: {check.name}", check.result, check.detail) for check in kept]
    for duty in stack.overdue if stack else ():
        last = f"last {duty.last:%Y-%m-%d}" if duty.last else "never done"
        found.append(Check(duty.name, FAIL, f"{last}, every {duty.days} days"))
    bad = [held for held in stack.records if not held.good] if stack else []
    if bad:
        found.append(Check("records", FAIL, f"{len(bad)} that are not evidence, such as {bad[-1].id}"))
    wrong = sorted((check for check in found if check.result != PASS), key=lambda check: check.result != FAIL)
    return StackRow(host, name, checks.verdict(found), tuple(wrong), _oldest(found, NEWEST), _oldest(found, PROOF))


def _checks(what: str, answer: object) -> list[Check]:
    """Return the checks of an answer. A result that is none of ours counts as unknown: checks.verdict()."""
    if not answer:
        return [Check(what, COULD_NOT_VERIFY, "it was not asked")]
    try:
        wrong = "read what the host says"
        said = typed.build(_HostStatus, answer, lambda at, why: UnverifiedError(wrong, at, why), unknown="ignore")
    except LifeboatError as exc:
        return [Check(what, COULD_NOT_VERIFY, f"its answer cannot be read: {exc.cause}")]
    if not said.checks:
        return [Check(what, COULD_NOT_VERIFY, "it says nothing")]
    return [
        Check(check.name, check.result, check.detail, check.measured, kind=check.kind or kind_of(check.name))
        for check in said.checks
    ]


def _oldest(results: Sequence[Check], kind: str) -> Optional[float]:
    """Return the largest figure of the checks of that kind."""
    own = [check for check in results if check.kind == kind]
    measured = [check.measured for check in own]
    return max(filter(None, measured), default=0.0) if own and None not in measured else None


def verdict(lines: Sequence[StackRow]) -> str:
    """Return the worst verdict of all rows; without a row nothing is known."""
    found = {line.verdict for line in lines}
    return next((bad for bad in (FAIL, COULD_NOT_VERIFY) if bad in found), PASS if found else COULD_NOT_VERIFY)


def summary(lines: Sequence[StackRow]) -> str:
    """Return a line such as: 100 stacks: 2 FAIL, 1 COULD NOT VERIFY, 97 PASS."""
    counts = {name: sum(line.verdict == name for line in lines) for name in _RANK}
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    return f"{len(lines)} stack{'' if len(lines) == 1 else 's'}: {told or 'none was asked'}"


def text(lines: Sequence[StackRow]) -> list[str]:
    """Return the summary and one line per stack."""
    head = ("VERDICT", "STACK", "HOST", "BACKUP", "PROVED", "WHAT IS WRONG")
    rows = [
        (
            line.verdict.replace("_", " "),
            _cut(line.stack, _NAME),
            _cut(line.host, _NAME),
            _hours(line.hours),
            _days(line.days),
            _cut(line.explanation, _WORDS),
        )
        for line in lines
    ]
    wide = [max(map(_width, column)) for column in zip(head, *rows)]
    padded = ("  ".join(cell + " " * (room - _width(cell)) for cell, room in zip(row, wide)) for row in (head, *rows))
    return [summary(lines), "", *(row.rstrip() for row in padded)]


def html(lines: Sequence[StackRow], now: datetime, links: Mapping[tuple[str, str], str]) -> str:
    """Return the page. links: (host, stack) -> the address of its newest record."""
    counts = {name: sum(line.verdict == name for line in lines) for name in _RANK}
    tiles = [("Stacks", len(lines)), ("Fail", counts[FAIL]), ("Could not verify", counts[COULD_NOT_VERIFY])]
    tiles += [("Pass", counts[PASS]), ("No answer", sum(bool(line.problem) for line in lines))]
    head = ("Stack", "Verdict", "Host", "Newest backup", "Proved", "What is wrong")
    body = [
        tag("h1", badge(verdict(lines)), TITLE),
        tag("p", f"As of {now:%Y-%m-%d %H:%M}, UTC. ", tag("a", "Every record", href="index.html"), class_="soft"),
        facts([(name, str(count)) for name, count in tiles]),
        table(head, [_row(line, links.get((line.host, line.stack), "")) for line in lines], empty="No host was asked."),
    ]
    return page(TITLE, body, footer="Lifeboat. What was not asked could not be verified; it never passes.")


def _row(row: StackRow, link: str) -> tuple[object, ...]:
    name: Markup = tag("a", row.stack, href=link) if link else tag("strong", row.stack)
    return name, badge(row.verdict), row.host, _hours(row.hours), _days(row.days), row.explanation


def _hours(hours: Optional[float]) -> str:
    return "" if hours is None else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _days(days: Optional[float]) -> str:
    return "" if days is None else f"{days:.1f} days"


def _cut(text: str, most: int) -> str:
    """Return the text on one line, with nothing that moves a cursor, and no wider than its column."""
    plain = words.terminal(text)
    if _width(plain) <= most:
        return plain
    while _width(plain) > most - 1:
        plain = plain[: max(0, min(len(plain) - 1, most - 1))]
    return f"{plain}…"


def _width(text: str) -> int:
    """Return the columns that the text takes in a terminal: Japanese letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
