# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names and documents of continuous protection: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import (
    BaseDetails,
    Gap,
    Tablespace,
    WalDetails,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import notes, segments
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Entry, Note, Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import Fork, PieceName, Segment

MIB = 1 << 20
AT = datetime(2026, 12, 1, 13, 8, 31, 204000, timezone.utc)
SPAN = "wal_backup_20261201_130000"
PIECE = "0000000100000000000000A4.0012c000.zst.age"


def note(**changes: Any) -> Note:
    standard = Note(
        SPAN, "shop", 1, Reached("7412345678901234567", 1, "0/A4160000", AT), 16 * MIB, 170_002,
        (Entry(PIECE, 48211, "9f" * 32, 212992),),
    )  # fmt: skip
    return replace(standard, **changes)


# Positions and names.


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0/0", 0),
        ("0/A4160000", 0xA4160000),
        ("1/00000028", (1 << 32) + 0x28),
        ("FFFFFFFF/FFFFFFFF", segments.MOST_LSN),
    ],
)
def test_a_position_is_read(text: str, position: int) -> None:
    assert segments.parse_lsn(text) == position
    assert segments.parse_lsn(segments.format_lsn(position)) == position


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/a4", "0x0/0", "0/0\n", " 0/0", "0/-1", "0/123456789", "0/٣"])
def test_no_other_text_is_a_position(text: str) -> None:
    with pytest.raises(IntegrityError, match="LSN"):
        segments.parse_lsn(text)
    assert not segments.is_lsn(text)


def test_documents_have_one_form_of_a_position() -> None:
    assert segments.is_lsn("1/28")
    assert not segments.is_lsn("1/00000028")
    with pytest.raises(IntegrityError):
        segments.format_lsn(1 << 64)


@pytest.mark.parametrize(
    ("name", "size", "start"),
    [
        ("000000010000000000000001", 16 * MIB, 0x1000000),
        ("0000000100000000000000A4", 16 * MIB, 0xA4000000),
        ("0000000100000001000000FF", 16 * MIB, 0x1FF000000),
        ("000000020000000300000FFF", MIB, (3 << 32) + 0xFFF00000),
        ("FFFFFFFF0000000100000003", 1 << 30, (1 << 32) + (3 << 30)),
        ("000000010000000A0000003F", 64 * MIB, (10 << 32) + 0x3F * 64 * MIB),
    ],
)
def test_a_segment_of_any_size_is_where_its_name_says(name: str, size: int, start: int) -> None:
    segment = segments.parse_segment(name, size)
    assert (segment.name, segment.start, segment.end) == (name, start, start + size)
    assert segments.segment_at(segment.timeline, start, size) == segment
    assert segments.segment_at(segment.timeline, start + size - 1, size) == segment
    assert segments.segment_at(segment.timeline, start + size, size).number == segment.number + 1


@pytest.mark.parametrize("size", [MIB << shift for shift in range(11)])
def test_names_of_segments_follow_one_another(size: int) -> None:
    each = (1 << 32) // size
    edges = [0, 1, each - 1, each, each + 1, 7 * each - 1, 7 * each]
    names = [Segment(3, number, size).name for number in edges]
    assert names == sorted(names)
    assert [segments.parse_segment(name, size).number for name in names] == edges


@pytest.mark.parametrize(
    ("name", "size", "cause"),
    [
        ("000000010000000000000100", 16 * MIB, "no segment of 16777216 bytes"),
        ("000000000000000000000001", 16 * MIB, "its timeline is 0"),
        ("0000000100000000000000a4", 16 * MIB, "24 hexadecimal digits"),
        ("0000000100000000000000A4.partial", 16 * MIB, "24 hexadecimal digits"),
        ("0000000100000000000000A4\n", 16 * MIB, "24 hexadecimal digits"),
        ("../00000100000000000000A4", 16 * MIB, "24 hexadecimal digits"),
        ("0000000100000000000000A4", 16 * MIB + 1, "power of two"),
        ("0000000100000000000000A4", 0, "power of two"),
        ("0000000100000000000000A4", -MIB, "power of two"),
        ("0000000100000000000000A4", 1 << 31, "power of two"),
    ],
)
def test_no_other_name_is_a_segments(name: str, size: int, cause: str) -> None:
    with pytest.raises(IntegrityError, match=cause):
        segments.parse_segment(name, size)


def test_a_piece_says_what_it_begins_with() -> None:
    piece = segments.parse_piece(PIECE, 16 * MIB)
    assert piece == PieceName(Segment(1, 0xA4), 0x12C000, True)
    assert (str(piece), segments.format_lsn(piece.start), piece.most_bytes) == (
        PIECE,
        "0/A412C000",
        16 * MIB - 0x12C000,
    )
    assert str(replace(piece, encrypted=False)) == PIECE.removesuffix(".age")


@pytest.mark.parametrize(
    "name",
    [
        "", "0000000100000000000000A4", "0000000100000000000000A4.0012C000.zst", "0000000100000000000000A4.12c000.zst",
        "0000000100000000000000A4.01000000.zst", "0000000100000000000000A4.0012c000", PIECE + "\n", f"./{PIECE}",
        "0000000100000000000000A4.0012c000.gz", "0000000100000000000000A4.0012c000.zst.age.age", "00000002.history",
        "0000000000000000000000A4.0012c000.zst", "000000010000000000000100.00000000.zst",
    ],
)  # fmt: skip
def test_no_other_name_is_a_pieces(name: str) -> None:
    with pytest.raises(IntegrityError):
        segments.parse_piece(name, 16 * MIB)


@pytest.mark.parametrize(
    ("name", "timeline"),
    [("00000002.history", 2), ("FFFFFFFF.history.age", segments.MOST_TIMELINE), ("2.history", 0), ("00000002.hist", 0)],
)
def test_the_name_of_a_history_has_its_timeline(name: str, timeline: int) -> None:
    assert segments.history_timeline(name) == timeline
    assert not timeline or segments.history_name(timeline, name.endswith(".age")) == name


HISTORY = (
    b"1\t0/A000000\tno recovery target specified\n\n# said by an operator\n2\t1/28\tbefore 2026-12-01 13:00:00+00\n"
)


def test_a_history_is_read_as_postgresql_writes_it() -> None:
    forks = segments.parse_history(HISTORY, 3)
    assert forks == (
        Fork(1, 0xA000000, "no recovery target specified"),
        Fork(2, (1 << 32) + 0x28, "before 2026-12-01 13:00:00+00"),
    )
    assert segments.ancestors(3, forks) == {1: 0xA000000, 2: (1 << 32) + 0x28, 3: segments.MOST_LSN}


@pytest.mark.parametrize(
    ("data", "timeline", "cause"),
    [
        (b"", 2, "lists no fork"),
        (b"# nothing\n", 2, "lists no fork"),
        (b"1 0/A000000 it is its own parent\n", 1, "do not ascend"),
        (b"2\t0/A000000\n1\t0/B000000\n", 3, "do not ascend"),
        (b"1\t0/B000000\n2\t0/A000000\n", 3, "do not ascend"),
        (b"0\t0/A000000\n", 2, "do not ascend"),
        (b"1\t0/zz\n", 2, "has the row"),
        (b"1\n", 2, "has the row"),
        (b"\0\xff\x80", 2, "has the row"),
        (b"99999999999\t0/0\n", 2, "has the row"),
        (b"#" * (segments.HISTORY_BYTES + 1), 2, "more than 65536 bytes"),
        (b"".join(b"%d\t0/A000000\n" % number for number in range(1, 1200)), 1300, "more than 1000 forks"),
    ],
)
def test_no_other_history_is_read(data: bytes, timeline: int, cause: str) -> None:
    with pytest.raises(IntegrityError, match=cause):
        segments.parse_history(data, timeline)


# Notes.


def test_a_note_is_read_as_it_was_written() -> None:
    gap = Gap("7412345678901234567", 1, "0/A4000000", "0/A4120000", "the slot was lost", AT)
    for each in (note(), note(number=2, previous="ab" * 32, pieces=(), gaps=(gap, replace(gap, end="")))):
        data = notes.to_bytes(each)
        assert notes.parse(data, SPAN, each.number, "shop") == each
        assert notes.parse(notes.to_bytes(notes.parse(data, SPAN, each.number)), SPAN, each.number) == each
        assert notes.note_number(each.name) == each.number


def test_a_note_has_the_bytes_that_the_format_says() -> None:
    body = json.loads(notes.to_bytes(note()))
    assert body == {
        "schema": "lifeboat.dr/note", "version": [1, 0], "id": SPAN, "component": "wal", "stack": "shop", "number": 1,
        "pieces": [{"name": PIECE, "size": 48211, "sha256": "9f" * 32, "bytes": 212992}], "gaps": [], "previous": "",
        "reached": {
            "system": "7412345678901234567", "timeline": 1, "lsn": "0/A4160000", "at": "2026-12-01T13:08:31.204Z",
        },
        "segment_size": 16 * MIB, "server_version_num": 170_002,
    }  # fmt: skip
    gap = Gap("7412345678901234567", 1, "0/A4000000", "0/A4120000", "the slot was lost", AT)
    assert {*json.loads(notes.to_bytes(note(gaps=(gap,))))["gaps"][0]} == {
        "system",
        "timeline",
        "from",
        "to",
        "why",
        "at",
    }


ENTRY = note().pieces[0]
UNLIKE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": lambda body: body.update(schema="lifeboat.dr/backup"),
    "of a manifest": lambda body: body.update(component="database"),
    "another span": lambda body: body.update(id="wal_backup_20261201_140000"),
    "no span": lambda body: body.update(id="../wal"),
    "another number": lambda body: body.update(number=2, previous="ab" * 32),
    "number 0": lambda body: body.update(number=0),
    "a number beyond": lambda body: body.update(number=10_000),
    "a number as text": lambda body: body.update(number="1"),
    "a number that is true": lambda body: body.update(number=True),
    "a previous of the first": lambda body: body.update(previous="ab" * 32),
    "another stack": lambda body: body.update(stack="other"),
    "a field more": lambda body: body.update(extra=1),
    "a field less": lambda body: body.pop("reached"),
    "no pieces": lambda body: body.update(pieces=None),
    "a piece twice": lambda body: body.update(pieces=body["pieces"] * 2),
    "too many pieces": lambda body: body.update(pieces=body["pieces"] * 1025),
    "too many gaps": lambda body: body.update(
        gaps=[{"system": "1", "timeline": 1, "from": "0/0", "to": "", "why": "", "at": "2026-12-01T13:08:31.204Z"}] * 65
    ),
    "a gap of no server": lambda body: body.update(gaps=[{"system": "x", "timeline": 1, "from": "0/0", "to": ""}]),
    "a gap from nowhere": lambda body: body.update(gaps=[{"system": "1", "timeline": 1, "from": "", "to": ""}]),
    "a path": lambda body: body["pieces"][0].update(name=f"../{PIECE}"),
    "a manifest as a piece": lambda body: body["pieces"][0].update(name="manifest.json"),
    "a note as a piece": lambda body: body["pieces"][0].update(name="note-000002.json"),
    "a piece of another timeline": lambda body: body["pieces"][0].update(name="00000002" + PIECE[8:]),
    "a piece beyond its segment": lambda body: body["pieces"][0].update(bytes=16 * MIB - 0x12C000 + 1),
    "an empty piece": lambda body: body["pieces"][0].update(bytes=0),
    "a piece that is a bomb": lambda body: body["pieces"][0].update(size=17 * MIB + 1),
    "no SHA-256": lambda body: body["pieces"][0].update(sha256="9F" * 32),
    "a history that is to come": lambda body: body["pieces"][0].update(name="00000002.history"),
    "a history as long as a segment": lambda body: (
        body["reached"].update(timeline=2), body["pieces"][0].update(name="00000002.history", bytes=2 * MIB)
    ),
    "segments of no size": lambda body: body.update(segment_size=16 * MIB + 8192),
    "segments too large": lambda body: body.update(segment_size=1 << 31),
    "no server": lambda body: body["reached"].update(system="0"),
    "a server of 65 bits": lambda body: body["reached"].update(system=str(1 << 64)),
    "timeline 0": lambda body: body["reached"].update(timeline=0),
    "a position with zeros": lambda body: body["reached"].update(lsn="0/0A4160000"),
    "no time": lambda body: body["reached"].update(at="yesterday"),
    "a year that no clock showed": lambda body: body["reached"].update(at="1901-01-01T00:00:00.000Z"),
    "another time zone": lambda body: body["reached"].update(at=1),
    "an old server": lambda body: body.update(server_version_num=90_600),
    "no version": lambda body: body.update(version=[]),
}  # fmt: skip


@pytest.mark.parametrize("unlike", UNLIKE)
def test_a_note_that_no_lifeboat_wrote_is_refused(unlike: str) -> None:
    body = json.loads(notes.to_bytes(note()))
    UNLIKE[unlike](body)
    with pytest.raises(LifeboatError):
        notes.parse(sealing.render(body), SPAN, 1, "shop")


def test_a_note_of_a_newer_lifeboat_is_told_from_a_broken_one() -> None:
    body = json.loads(notes.to_bytes(note()))
    with pytest.raises(UsageError, match="its version is"):
        notes.parse(sealing.render({**body, "version": [2, 0]}), SPAN, 1)
    assert notes.parse(sealing.render({**body, "version": [1, 1], "extra": 1}), SPAN, 1) == note()


def test_any_other_bytes_are_refused() -> None:
    """Every byte flipped, every length cut, and what parses as the same JSON."""
    data, source = notes.to_bytes(note()), random.Random(36)  # noqa: S311
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << source.randrange(8)
        try:
            parsed = notes.parse(bytes(changed), SPAN, 1, "shop")
        except LifeboatError:
            continue
        newer = b"1,\n  0" not in changed  # a minor version's
        assert newer or notes.to_bytes(parsed) == bytes(changed), "another note, which its signature would tell"
        assert newer or parsed != note()
    for length in range(0, len(data), 7):
        with pytest.raises(LifeboatError):
            notes.parse(data[:length], SPAN, 1)
    for other in (data + b"\n", data.replace(b": ", b":"), b"\xef\xbb\xbf" + data, b"[" * 100_000, b"x" * (MIB + 1)):
        with pytest.raises(LifeboatError):
            notes.parse(other, SPAN, 1)


def test_no_note_is_written_that_would_be_refused() -> None:
    for bad in (note(component="database"), note(previous="ab" * 32), note(pieces=(ENTRY, ENTRY)), note(number=2)):
        with pytest.raises(IntegrityError):
            notes.to_bytes(bad)


# Details.


def span(**changes: Any) -> WalDetails:
    standard = WalDetails(
        "7412345678901234567", 170_002, 16 * MIB, 1, "0/A412C000", "0/A4160000", "0/A4160000", AT, AT, {PIECE: 212992}
    )
    return replace(standard, **changes)


def built(details: object) -> object:
    def wrong(field: str, cause: str) -> LifeboatError:
        return LifeboatError("read", field, cause)

    return typed.build(type(details), json.loads(json.dumps(typed.plain(details))), wrong)


def test_details_are_read_as_they_were_written() -> None:
    gap = Gap("7412345678901234567", 1, "0/A4000000", "0/A4120000", "the slot was lost", AT)
    base = BaseDetails(
        "7412345678901234567", 170_002, 1, "0/2000028", "0/2000100", tablespaces=(Tablespace(16385, "fast"),)
    )
    assert built(span(gaps=(gap,))) == span(gaps=(gap,))
    assert built(base) == base
    assert span(gaps=(gap,)).impossible([PIECE]) == ""
    assert span().impossible([PIECE, "00000002.history.age"]) == ""
    assert base.impossible(["base.tar.zst", "16385.tar.zst", "relations.jsonl.zst"]) == ""


@pytest.mark.parametrize(
    ("details", "names", "cause"),
    [
        (span(), [], "do not name the same pieces"),
        (span(lengths={}), [PIECE], "do not name the same pieces"),
        (span(), [PIECE, PIECE], "2 times"),
        (span(), [PIECE, "note-000001.json"], "neither a piece nor a history file"),
        (span(), [f"x/{PIECE}"], "neither a piece nor a history file"),
        (span(start="0/0a"), [PIECE], "not an LSN"),
        (span(end=""), [PIECE], "not an LSN"),
        (span(reached="latest"), [PIECE], "not an LSN"),
        (span(system_identifier="-1"), [PIECE], "not a system identifier"),
        (span(gaps=(Gap("1", 1, "0/0", "x"),)), [PIECE], "not an LSN"),
        (span(), [PIECE] * 5000, "more than 4096"),
        (BaseDetails("1", 170_002, 1, "0/0", "0/1"), [], "its archives are"),
        (BaseDetails("1", 170_002, 1, "0/0", "0/1"), ["base.tar.zst", "16385.tar.zst"], "its archives are"),
        (BaseDetails("1", 170_002, 1, "0/0", "0/1"), ["base.tar.zst", "../x"], "not a file that a base has"),
        (BaseDetails("1", 170_002, 1, "0/0", "0/1", wal="none"), ["base.tar.zst"], "neither inside nor spans"),
        (BaseDetails("1", 170_002, 1, "0/0", ""), ["base.tar.zst"], "not an LSN"),
        (BaseDetails("", 170_002, 1, "0/0", "0/1"), ["base.tar.zst"], "not a system identifier"),
    ],
)
def test_details_that_cannot_be_are_refused(details: Any, names: list[str], cause: str) -> None:
    assert cause in details.impossible(names)
