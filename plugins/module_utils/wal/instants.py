# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instants to go back to, as an operator names them. Pure: text in, an instant out.

A time is what a commit record says, so it is the server's clock. A time without a zone is UTC; one with the name of a
zone (`2026-10-25 02:30 Europe/Berlin`) must have been on its clocks exactly once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional, Union

from ..base.clock import format_time, parse_time
from ..base.errors import UsageError
from ..base.text import named
from . import segments

READ = "read the instant"
LATEST_WORD = "latest"
_ZONED = re.compile(r"(\S+(?: \S+)?) ([A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2})", re.ASCII)
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", re.ASCII)
_MARK = "mark:"
_TABLE = re.compile(r"[^\s./]+\.[^/]+")  # schema.name
_MARK_BYTES = 63
_MOST_XID = (1 << 32) - 1
_FIRST_XID = 3  # the first one that a transaction can have
_FORMS = (
    "Write a time like 2026-12-01T22:02:11+09:00, or latest; before: a position like 0/A41607C8, a transaction like"
    " 918233, a table like app.items, or mark:before-upgrade."
)


@dataclass(frozen=True)
class At:
    """All that was committed before that time, and nothing that was committed at it or later."""

    moment: datetime

    def __str__(self) -> str:
        return format_time(self.moment)


@dataclass(frozen=True)
class Latest:
    """All that was received."""

    def __str__(self) -> str:
        return LATEST_WORD


@dataclass(frozen=True)
class Position:
    """All that is in the WAL before that position."""

    lsn: int

    def __str__(self) -> str:
        return segments.format_lsn(self.lsn)


@dataclass(frozen=True)
class Transaction:
    """All that was committed before that transaction was."""

    xid: int

    def __str__(self) -> str:
        return f"transaction {self.xid}"


@dataclass(frozen=True)
class Mark:
    """All that was committed before `lifeboat mark` wrote that name."""

    name: str

    def __str__(self) -> str:
        return f"mark {named(self.name)}"


@dataclass(frozen=True)
class Table:
    """All that was committed before the last loss of that table, as `lifeboat when` finds it: schema.name."""

    name: str

    def __str__(self) -> str:
        return f"the last loss of {named(self.name)}"


Instant = Union[At, Latest, Position, Transaction, Mark, Table]


def parse(text: str) -> Instant:
    """The instant of `recovery_time`: a time, or `latest`. UsageError where it is neither, or no single time."""
    plain = text.strip()
    if plain == LATEST_WORD:
        return Latest()
    zoned = _ZONED.fullmatch(plain)
    return At(_local(zoned.group(1), zoned.group(2), plain) if zoned else parse_time(plain).astimezone(timezone.utc))


def requested(recovery_time: str, before: str) -> Optional[Instant]:
    """The instant that an operator names by one of the two; None where both are empty. UsageError where both are not,
    or where it is no instant."""
    if recovery_time and before:
        cause = f"before={named(before)} is another instant"
        raise UsageError(READ, f"recovery_time={recovery_time}", cause, "Name one of them.")
    if before:
        return parse_before(before)
    return parse(recovery_time) if recovery_time else None


def options(instant: Instant) -> tuple[str, str]:
    """The two options, recovery_time and before, by which requested() gives the instant again: to the microsecond."""
    if isinstance(instant, At):
        return instant.moment.isoformat(), ""
    return (str(instant), "") if isinstance(instant, Latest) else ("", str(instant))


def parse_before(text: str) -> Instant:
    """The instant of `before`: a position, a transaction, a table or a mark. UsageError where it is none of them."""
    plain = text.strip()
    if plain.startswith(_MARK):
        name = plain[len(_MARK) :]
        if not name or len(name.encode()) > _MARK_BYTES or named(name) != name:
            raise UsageError(READ, plain, f"a mark's name has 1 to {_MARK_BYTES} bytes, all printable", _FORMS)
        return Mark(name)
    if _LSN.fullmatch(plain):
        return Position(segments.parse_lsn(plain.upper()))
    if plain.isascii() and plain.isdecimal() and len(plain) <= 20:
        if not _FIRST_XID <= int(plain) <= _MOST_XID:
            raise UsageError(READ, plain, f"a transaction has a number from {_FIRST_XID} to {_MOST_XID}", _FORMS)
        return Transaction(int(plain))
    if _TABLE.fullmatch(plain) and named(plain) == plain:
        return Table(plain)
    cause = "it is neither a position in the WAL, nor a transaction, nor a table, nor a mark"
    raise UsageError(READ, plain, cause, _FORMS)


def _local(clock_time: str, zone: str, text: str) -> datetime:
    """That time on the clocks of a zone, in UTC. UsageError where it was there twice, or never."""
    # Imported here, as in retention.py: UTC needs neither the module nor the database.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        zone_info = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        remedy = "Write the offset: 2026-12-01T22:02:11+09:00. Or install tzdata."
        raise UsageError(READ, text, f"this host knows no time zone {named(zone)}", remedy) from None
    if re.search(r"(?:[zZ]|[+-]\d\d:?\d\d)$", clock_time.partition("T")[2] or clock_time.partition(" ")[2]):
        raise UsageError(READ, text, "it has an offset and a zone", "Write one of them.")
    naive = parse_time(clock_time).replace(tzinfo=None)
    both = [naive.replace(tzinfo=zone_info, fold=fold).astimezone(timezone.utc) for fold in (0, 1)]
    first, second = min(both), max(both)
    there = [moment for moment in (first, second) if moment.astimezone(zone_info).replace(tzinfo=None) == naive]
    if not there:
        cause = f"the clocks of {zone} were put forward over it"
        raise UsageError(READ, text, cause, f"Write it in UTC: {format_time(first)} or {format_time(second)}.")
    if first != second:
        cause = f"the clocks of {zone} showed it twice: at {format_time(first)} and at {format_time(second)}"
        raise UsageError(READ, text, cause, "Write the one that is meant, in UTC.")
    return first
