# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instants as an operator writes them: one time and no other, or a refusal that says what to write."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import (
    At,
    Latest,
    Mark,
    Position,
    Table,
    Transaction,
)

NOON = datetime(2026, 12, 1, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-01T12:00:00Z", "2026-12-01T12:00:00", "2026-12-01 12:00", "2026-12-01T21:00:00+09:00",
        "2026-12-01T21:00:00 Asia/Tokyo", "2026-12-01 13:00 Europe/Berlin", " 2026-12-01 12:00:00 UTC ",
    ],
)  # fmt: skip
def test_a_time_is_one_time(text: str) -> None:
    assert instants.parse(text) == At(NOON)
    assert str(instants.parse(text)) == "2026-12-01T12:00:00.000Z"


def test_the_latest_is_named() -> None:
    assert instants.parse("latest") == Latest()


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        (
            "2026-10-25 02:30 Europe/Berlin",
            "showed it twice: at 2026-10-25T00:30:00.000Z and at 2026-10-25T01:30:00.000Z",
            "Write the one that is meant, in UTC",
        ),
        ("2026-03-29 02:30 Europe/Berlin", "were put forward over it", "2026-03-29T00:30:00.000Z"),
        ("2026-12-01 12:00 Mars/Olympus", "knows no time zone Mars/Olympus", "Write the offset"),
        ("2026-12-01T12:00:00Z Europe/Berlin", "it has an offset and a zone", "Write one of them"),
        ("2026-12-01T12:00:00+01:00 Europe/Berlin", "it has an offset and a zone", "Write one of them"),
        ("yesterday", "it is not ISO 8601", "Write it like"),
        ("", "it is not ISO 8601", "Write it like"),
    ],
)
def test_what_is_no_single_time_is_refused(text: str, cause: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refused:
        instants.parse(text)
    assert cause in refused.value.cause
    assert remedy in refused.value.remedy


def test_an_hour_that_was_there_twice_is_one_outside_it() -> None:
    assert instants.parse("2026-10-25 01:59 Europe/Berlin") == At(datetime(2026, 10, 24, 23, 59, tzinfo=timezone.utc))
    assert instants.parse("2026-10-25 03:00 Europe/Berlin") == At(datetime(2026, 10, 25, 2, 0, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("0/A41607C8", Position(0xA41607C8)),
        ("1/0000001c", Position((1 << 32) + 0x1C)),
        ("918233", Transaction(918233)),
        ("mark:before-upgrade", Mark("before-upgrade")),
        ("mark:0/1", Mark("0/1")),
        ("app.items", Table("app.items")),
        ('app.my "items"', Table('app.my "items"')),
    ],
)
def test_what_an_instant_is_before(text: str, instant: object) -> None:
    assert instants.parse_before(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "items",
        ".items",
        "app.",
        "a\nb.c",
        "app.it/ems",
        "2",
        "0",
        "-5",
        str(1 << 32),
        "0/",
        "mark:",
        f"mark:{'x' * 64}",
        "mark:a\nb",
        "½",
    ],
)
def test_what_is_none_of_them_is_refused(text: str) -> None:
    with pytest.raises(LifeboatError) as refused:
        instants.parse_before(text)
    assert refused.value.exit_code == 2
    assert "mark:before-upgrade" in refused.value.remedy
