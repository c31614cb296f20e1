# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server keeps of one object: read from its answers, put on record in a line, read again strictly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldProperties
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import properties
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.properties import OWN_KEY, Properties
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import KEPT

AT = datetime(2027, 1, 1, tzinfo=timezone.utc)
LOCK = {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": "2027-01-01T00:00:00Z"}
TOLD: list[tuple[dict[str, str], Properties, str]] = [
    ({"content-type": "a/b", "x-amz-storage-class": "COLD"}, Properties(), ""),
    ({"x-amz-server-side-encryption": "aws:kms"}, Properties("aws:kms"), "encryption=aws%3Akms"),
    ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, Properties(OWN_KEY),
     "encryption=a+key+of+the+customer%27s"),
    ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha256": "x", "x-amz-checksum-type": "FULL_OBJECT"},
     Properties(checksums="CRC32,SHA256"), "checksums=CRC32%2CSHA256"),
    (LOCK, Properties(mode="COMPLIANCE", until=AT), "mode=COMPLIANCE&until=2027-01-01T00%3A00%3A00Z"),
    ({**LOCK, "x-amz-object-lock-retain-until-date": "2026-12-31T23:59:59.9999990001Z"},
     Properties(mode="COMPLIANCE", until=AT), "mode=COMPLIANCE&until=2027-01-01T00%3A00%3A00Z"),
    ({**LOCK, "x-amz-object-lock-retain-until-date": "soon"}, Properties(), ""),
    ({"x-amz-object-lock-legal-hold": "ON"}, Properties(hold=True), "hold=1"),
    ({"x-amz-object-lock-legal-hold": "OFF"}, Properties(), ""),
    ({**LOCK, "x-amz-object-lock-retain-until-date": "2026-12-31T23:59:59.001Z"},
     Properties(mode="COMPLIANCE", until=AT - timedelta(milliseconds=999)),
     "mode=COMPLIANCE&until=2026-12-31T23%3A59%3A59.001Z"),
    ({**LOCK, "x-amz-object-lock-retain-until-date": "2026-12-31T23:59:59.12345Z"},
     Properties(mode="COMPLIANCE", until=AT - timedelta(microseconds=876550)),
     "mode=COMPLIANCE&until=2026-12-31T23%3A59%3A59.123450Z"),
    ({**LOCK, "x-amz-object-lock-retain-until-date": "9999-12-31T23:59:59.9999999Z"}, Properties(), ""),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "found", "line"), TOLD)
def test_what_an_answer_tells_is_a_line_on_record(headers: dict[str, str], found: Properties, line: str) -> None:
    assert (properties.from_headers(headers), found.encoded, properties.parse(line)) == (found, line, found)


def test_a_lock_is_written_to_end_when_it_did() -> None:
    """It came back up to a second longer."""
    for until in ("2026-12-31T23:59:59.001Z", "2026-12-31T23:59:59.123456Z", "2027-01-01T00:00:00Z"):
        headers = {**LOCK, "x-amz-object-lock-retain-until-date": until}
        assert properties.from_headers(headers).headers(AT - timedelta(days=9)) == headers


@pytest.mark.parametrize(
    "line",
    [
        "mode=FOREVER&until=2027-01-01T00%3A00%3A00Z", "until=2027-01-01T00%3A00%3A00Z", "mode=COMPLIANCE", "hold=2",
        "until=soon&mode=GOVERNANCE", "other=1", "hold=1&hold=1", "rubbish", "clear=0", "encryption=" + "x" * 5000,
        "lost=x-amz-tagging", "lost=expires%2Ccache-control", "lost=expires%2Cexpires", "lost=",
    ],
)  # fmt: skip
def test_another_line_is_none_of_ours(line: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        properties.parse(line)


WANTED = Properties(mode="GOVERNANCE", until=AT, hold=True)
LACKING: list[tuple[Properties, list[str]]] = [
    (Properties(), ["retention", "legal hold"]),
    (WANTED, []),
    (Properties(mode="COMPLIANCE", until=AT + timedelta(days=1), hold=True), []),
    (Properties(mode="COMPLIANCE", until=AT - timedelta(seconds=1), hold=True), ["retention"]),
]


@pytest.mark.parametrize(("have", "lacking"), LACKING)
def test_a_longer_or_stricter_lock_will_do(have: Properties, lacking: list[str]) -> None:
    before = AT - timedelta(days=9)
    assert have.lacks(WANTED, before) == lacking
    assert Properties(mode="GOVERNANCE", until=AT).lacks(Properties(mode="COMPLIANCE", until=AT), before) == [
        "retention"
    ]
    assert Properties(hold=True).lacks(WANTED, AT) == [], "it has ended"


def test_what_is_not_carried_is_counted_and_named() -> None:
    held = HeldProperties({"AES256": 2, "aws:kms": 1}, 2, {"COLD": 4}, {"CRC32": 9, "SHA256": 7}, 1, 1)
    assert [(gap.what, gap.why.partition(";")[0]) for gap in held.not_carried("uploads")] == [
        ("the encryption of 2 objects (AES256), 1 objects (aws:kms) of uploads",
         "the vault holds the plain bytes of 2, for it does not encrypt them"),
        ("the storage class of 4 objects (COLD) of uploads", "they come back as usual ones"),
        ("the checksums of 7 objects (SHA256) of uploads", "the server computes its own again"),
    ]  # fmt: skip
    unasked = HeldProperties(checksums={"CRC32": 7, "CRC32C": 1, "CRC64NVME": 2})
    assert not list(unasked.not_carried("uploads")), "clients send one with every write"
    assert not list(HeldProperties(retained=1, legal_holds=1).not_carried("uploads")), "these are given back"
    (lost,) = HeldProperties(lost={"expires": 2, "user metadata": 1}).not_carried("uploads")
    assert lost.what == "headers in the vault's copies of 2 objects (expires), 1 objects (user metadata) of uploads"
    assert "a recovery gives them from the backup's listing" in lost.why


GIVEN = {"content-type": "a/b", "x-amz-website-redirect-location": "/x", "x-amz-meta-own": "1", "x-amz-meta-empty": ""}


@pytest.mark.parametrize(
    ("held", "lost"),
    [
        ({**GIVEN, "date": "now", "x-amz-meta-more": "x"}, ()),
        ({**GIVEN, "content-type": "c/d"}, ("content-type",)),
        ({name: value for name, value in GIVEN.items() if value}, ("user metadata",)),
        ({"content-type": "a/b"}, ("user metadata", "x-amz-website-redirect-location")),
    ],
)
def test_what_a_copy_lost_is_on_record(held: dict[str, str], lost: tuple[str, ...]) -> None:
    found = Properties(hold=True, lost=properties.lost(GIVEN, held))
    assert (found.lost, properties.parse(found.encoded)) == (lost, found)


def test_all_that_can_be_lost_fits_into_a_line() -> None:
    every = dict.fromkeys([*KEPT, "x-amz-meta-own"], "x")
    full = Properties(
        "x" * 40, True, "CRC32,CRC32C,CRC64NVME,SHA1,SHA256", "GOVERNANCE", AT, True, properties.lost(every, {})
    )
    assert properties.parse(full.encoded) == full


TEXTS = [
    "a",
    "a-b",
    "A",
    "x-amz-meta-own",
    "",
    "a b",
    "a+b",
    "a=b",
    "a&b",
    "a/b:c;d,e",
    "%2F",
    "~._-",
    "\x00\x1f\x7f",
    "é",
    "😀",
    "一",
]
LINES = [
    *(properties.written([(name, value), ("b", "1")]) for name in TEXTS for value in TEXTS),
    *(properties.written([(chr(sign), chr(sign))]) for sign in range(256)),
    "", "a", "a=", "=", "=a", "a=1&", "&a=1", "a=1&&b=1", "b=1&a=1", "a=1&a=1", "a=2&a=1", "a=1&a=2", "a=1&A=1",
    "a=a+b", "a=%2f", "a=%61", "a=%7E", "a=%5F", "a=%2D", "a=%2E", "a=%", "a=%2", "a=%GG", "a=b=c", "a=/", "a=é",
    "a=%C3", "a=%FF", "a=%C3%A9", "%61=1", "a=1;b=2", "a=1\n", "a=\x00", "a b=1", f"a={'%' * 40_000}", "a" * 40_000,
    f"a={'b%20' * 9_000}!",
]  # fmt: skip


def wrong(read: Callable[[str], object], line: str) -> str:
    try:
        read(line)
    except ValueError as exc:
        return str(exc)
    return ""


def test_a_line_of_headers_is_right_where_it_can_be_read() -> None:
    """And that is found out in a time that grows with its length, whatever it is."""
    assert {bool(wrong(properties.check, line)) for line in LINES} == {True, False}
    assert [line[:99] for line in LINES if wrong(properties.check, line) != wrong(properties.pairs, line)] == []
