# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans: what was written piece by piece is read as a whole, and whatever was done to it meanwhile is noticed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UntrustedError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import TakenError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.checksums import in_place
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Gap, WalDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import backup_id, component_of, parse
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import notes, spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import PieceName, Segment, format_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Piece, Span, Writer

MIB = 1 << 20
AT = datetime(2026, 12, 1, 13, 0, tzinfo=timezone.utc)
SPAN = "wal_backup_20261201_130000"
SYSTEM = "7412345678901234567"


@pytest.fixture
def repo(tmp_path: Path) -> LocalRepository:
    (tmp_path / "backup").mkdir(mode=0o700)
    found = LocalRepository(tmp_path / "backup")
    found.stack = "shop"
    return found


def reached(position: int, seconds: int = 0, system: str = SYSTEM, timeline: int = 1) -> Reached:
    return Reached(system, timeline, format_lsn(position), AT + timedelta(seconds=seconds))


def piece(start: int, timeline: int = 1) -> str:
    return str(PieceName(Segment(timeline, start // MIB, MIB), start % MIB))


def writer(repo: LocalRepository, identity: str = SPAN, stack: str = "shop") -> Writer:
    return Writer(repo, stack, identity, MIB, 170_002)


def send(to: Writer, start: int, length: int, seconds: int = 0, gaps: tuple[Gap, ...] = ()) -> Span:
    """One piece and its note. As it is stored a piece of these tests is what it says of itself."""
    entry = to.add(piece(start), b"%d:%d" % (start, length), length)
    return to.note(reached(start + length, seconds), [entry], gaps)


def opened(repo: LocalRepository) -> Writer:
    """A span of three notes: the rest of a segment, a whole one, and the beginning of the next one."""
    to = writer(repo)
    send(to, 5 * MIB + 4096, MIB - 4096)
    send(to, 6 * MIB, MIB, 30)
    send(to, 7 * MIB, 8192, 60)
    return to


def closed(repo: LocalRepository) -> Span:
    to = opened(repo)
    repo.finish("wal", SPAN, to.manifest(AT + timedelta(hours=1), host="db1").to_bytes())
    return spans.read(repo, SPAN, "shop")


def path(repo: LocalRepository, name: str, identity: str = SPAN) -> Path:
    return repo.root / "wal" / identity / name


# What is written is read.


def test_an_open_span_is_read_from_its_notes(repo: LocalRepository) -> None:
    to = opened(repo)
    span = spans.read(repo, SPAN, "shop")
    assert span == to.span
    assert (span.start, span.end, span.timeline, span.closed) == (5 * MIB + 4096, 7 * MIB + 8192, 1, False)
    assert (span.notes, len(span.pieces), span.first_at) == (3, 3, AT)
    assert repo.growing("wal") == [SPAN]
    assert repo.published("wal") == []
    assert spans.damaged(repo, span) == {}


def test_a_closed_span_is_a_backup_like_any_other(repo: LocalRepository) -> None:
    span = closed(repo)
    manifest = parse(repo.manifest("wal", SPAN), component="wal", expected_id=SPAN)
    assert span.closed
    assert replace(span, closed=False) == replace(spans.of_notes(SPAN, spans.read_notes(repo, SPAN)), closed=False)
    assert spans.unlike_notes(span, spans.read_notes(repo, SPAN)) == ""
    assert (manifest.taken_at, manifest.component, component_of(SPAN)) == (AT + timedelta(seconds=60), "wal", "wal")
    assert backup_id("wal", AT) == SPAN
    assert manifest.detailed(WalDetails).host == "db1"
    assert {*repo.files("wal", SPAN)} == {item.name for item in manifest.artefacts}, "notes are no artefacts"
    assert in_place(repo, manifest) == []
    assert (repo.growing("wal"), repo.published("wal")) == ([], [SPAN])


def test_a_sender_that_was_killed_goes_on_where_the_notes_end(repo: LocalRepository) -> None:
    opened(repo)
    again = Writer.resume(repo, SPAN, "shop")
    lost = again.add(piece(7 * MIB + 8192), b"before the kill", 100)
    assert spans.read(repo, SPAN).end == 7 * MIB + 8192, "what no note names is not there"
    assert again.add(piece(7 * MIB + 8192), b"before the kill", 100) == lost
    with pytest.raises(TakenError, match="other bytes"):
        again.add(piece(7 * MIB + 8192), b"other bytes", 100)
    again.note(reached(8 * MIB, 90), [lost])
    assert spans.read(repo, SPAN).end == 7 * MIB + 8292


def test_a_note_without_pieces_says_that_nothing_was_committed(repo: LocalRepository) -> None:
    to = opened(repo)
    to.note(reached(7 * MIB + 9000, 300))
    span = spans.read(repo, SPAN)
    assert (span.end, span.reached) == (7 * MIB + 8192, reached(7 * MIB + 9000, 300))


def test_a_span_is_full_after_an_hour(repo: LocalRepository) -> None:
    span = opened(repo).span
    assert span is not None
    assert not span.full(AT + timedelta(minutes=59))
    assert span.full(AT + timedelta(hours=1))
    assert replace(span, pieces=span.pieces * 171).full(AT)


def test_only_its_owner_enters_a_span(repo: LocalRepository) -> None:
    opened(repo)
    assert path(repo, "").stat().st_mode & 0o777 == 0o700
    assert {item.stat().st_mode & 0o777 for item in path(repo, "").iterdir()} == {0o600}


def test_a_sweep_leaves_an_open_span(repo: LocalRepository) -> None:
    opened(repo)
    (repo.root / "postgresql" / "db_backup_20261124_020000").mkdir(parents=True)
    swept = repo.sweep(timedelta(0), datetime.now(timezone.utc) + timedelta(days=30))
    assert swept == [str(repo.root / "postgresql" / "db_backup_20261124_020000")]
    assert spans.read(repo, SPAN).notes == 3


def test_a_closed_span_takes_nothing_more(repo: LocalRepository) -> None:
    closed(repo)
    again = Writer.resume(repo, SPAN, "shop")
    with pytest.raises(TakenError, match="closed"):
        again.add(piece(7 * MIB + 8192), b"more", 4)
    with pytest.raises(TakenError):
        repo.finish("wal", SPAN, b"{}")


@pytest.mark.parametrize("component", ["database", "objects", "base"])
def test_no_other_backup_grows(repo: LocalRepository, component: str) -> None:
    with pytest.raises(UsageError, match="grows"):
        repo.grow(component, backup_id(component, AT), "file", b"")


@pytest.mark.parametrize("name", ["../x", "a/b", "verification.json", "copies.json", "claim.json", ""])
def test_a_span_takes_no_name_of_the_repository(repo: LocalRepository, name: str) -> None:
    with pytest.raises(UsageError):
        repo.grow("wal", SPAN, name, b"")


def test_a_link_in_the_place_of_a_span_is_refused(repo: LocalRepository, tmp_path: Path) -> None:
    (repo.root / "wal").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (repo.root / "wal" / SPAN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LifeboatError):
        writer(repo).add(piece(0), b"x", 1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


# Writers that are wrong.


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (lambda to: send(to, 7 * MIB + 8192 + 1, 5, 90), "no gap says why"),
        (lambda to: send(to, 7 * MIB + 8191, 5, 90), "begins before"),
        (lambda to: to.note(reached(7 * MIB, 90)), "reached less"),
        (lambda to: to.note(reached(8 * MIB, 59)), "reached less"),
        (lambda to: to.note(reached(8 * MIB, 90, system="1")), "span of its own"),
        (lambda to: to.note(reached(8 * MIB, 90, timeline=2)), "span of its own"),
        (lambda to: to.add("manifest.json", b"x", 1), "form"),
        (lambda to: to.add(piece(8 * MIB), b"x", 17 * MIB), "more than"),
        (lambda to: to.add(piece(8 * MIB), b"x" * (17 * MIB + 1), 1), "more than"),
        (lambda to: to.note(reached(7 * MIB + 8193, 90), [to.add(piece(7 * MIB + 8192), b"x", MIB)]), "beyond the end"),
    ],
)
def test_what_does_not_follow_is_not_written(
    repo: LocalRepository, act: Callable[[Writer], object], cause: str
) -> None:
    to = opened(repo)
    before = spans.read(repo, SPAN)
    with pytest.raises(IntegrityError, match=cause):
        act(to)
    assert spans.read(repo, SPAN) == before == to.span


def test_a_gap_says_why_a_piece_does_not_follow(repo: LocalRepository) -> None:
    to = opened(repo)
    gap = Gap(SYSTEM, 1, format_lsn(7 * MIB + 8192), format_lsn(9 * MIB), "the slot was lost", AT)
    with pytest.raises(IntegrityError, match="no gap says why"):
        send(to, 9 * MIB, 10, 90, (replace(gap, end=format_lsn(9 * MIB + 1)),))
    with pytest.raises(IntegrityError, match="no gap says why"):
        send(to, 9 * MIB, 10, 90, (replace(gap, system="1"),))
    assert send(to, 9 * MIB, 10, 90, (gap,)).gaps == (gap,)
    assert spans.read(repo, SPAN).end == 9 * MIB + 10


# What is done to it meanwhile.


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        (flip, "length or SHA-256"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "length or SHA-256"),
        (lambda file: file.write_bytes(file.read_bytes() + b"x"), "length or SHA-256"),
        (lambda file: file.unlink(), ""),
        (lambda file: (file.rename(file.with_name("x")), file.symlink_to("x")), ""),
    ],
)
def test_a_piece_that_was_harmed_is_named(
    repo: LocalRepository, state: str, harm: Callable[[Path], object], cause: str
) -> None:
    span = closed(repo) if state == "closed" else opened(repo).span
    assert span is not None
    harm(path(repo, piece(6 * MIB)))
    assert {*spans.damaged(repo, span)} == {piece(6 * MIB)}
    assert cause in spans.damaged(repo, span)[piece(6 * MIB)]
    with pytest.raises(LifeboatError):
        list(spans.stored(repo, SPAN, span.pieces[1].artefact))
    if state == "closed" and cause:
        manifest = parse(repo.manifest("wal", SPAN), component="wal", expected_id=SPAN)
        assert [piece(6 * MIB) in words for words in in_place(repo, manifest)] == [True]


def test_two_pieces_that_were_swapped_are_named(repo: LocalRepository) -> None:
    span = closed(repo)
    first, second = path(repo, piece(6 * MIB)), path(repo, piece(7 * MIB))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert {*spans.damaged(repo, span)} == {first.name, second.name}


def swap(repo: LocalRepository) -> None:
    first, second = path(repo, "note-000002.json"), path(repo, "note-000003.json")
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def other(repo: LocalRepository, name: str, **changes: object) -> None:
    """Put a note that is right in itself in the place of one."""
    target = path(repo, name)
    note = notes.parse(target.read_bytes(), SPAN, notes.note_number(name))
    target.write_bytes(notes.to_bytes(replace(note, **changes)))  # type: ignore[arg-type]


def replay(repo: LocalRepository) -> None:
    """The note of another span of the same stack, under the same number."""
    to = writer(repo, "wal_backup_20261201_120000")
    send(to, MIB, MIB)
    send(to, 2 * MIB, MIB, 30)
    path(repo, "note-000002.json").write_bytes(path(repo, "note-000002.json", to.identity).read_bytes())


NOTES: dict[str, tuple[Callable[[LocalRepository], object], str]] = {
    "swapped": (swap, "it is note"),
    "withheld in the middle": (lambda repo: path(repo, "note-000002.json").unlink(), "note-000002.json is missing"),
    "withheld at the beginning": (lambda repo: path(repo, "note-000001.json").unlink(), "note-000001.json is missing"),
    "replayed of another span": (replay, "it is note"),
    "written again": (
        lambda repo: other(repo, "note-000002.json", reached=reached(7 * MIB, 31)),
        "does not follow the note",
    ),
    "of another stack": (lambda repo: other(repo, "note-000003.json", stack="other"), "of the stack other"),
    "of another server": (
        lambda repo: other(repo, "note-000003.json", reached=reached(7 * MIB + 8192, 60, "1")),
        "another server",
    ),
    "of another segment size": (lambda repo: other(repo, "note-000003.json", segment_size=16 * MIB), "another server"),
    "that goes back": (
        lambda repo: other(repo, "note-000003.json", reached=reached(7 * MIB + 8192, 1)),
        "reached less",
    ),
    "without a piece": (lambda repo: other(repo, "note-000001.json", pieces=()), "does not follow the note"),
    "that forgot a piece": (
        lambda repo: (other(repo, "note-000003.json", pieces=()), path(repo, "note-000002.json").unlink()),
        "is missing",
    ),
    "too long": (lambda repo: path(repo, "note-000002.json").write_bytes(b" " * (MIB + 1)), "more than"),
    "empty": (lambda repo: path(repo, "note-000003.json").write_bytes(b""), "not JSON"),
    "a link": (
        lambda repo: (
            path(repo, "note-000003.json").unlink(),
            path(repo, "note-000003.json").symlink_to("note-000002.json"),
        ),
        "note-000003",
    ),
    "a number too high": (
        lambda repo: path(repo, "note-000009.json").write_bytes(b"{}"),
        "note-000004.json is missing",
    ),
}


@pytest.mark.parametrize("harm", NOTES)
def test_notes_that_are_not_as_they_were_are_refused(repo: LocalRepository, harm: str) -> None:
    opened(repo)
    act, cause = NOTES[harm]
    act(repo)
    with pytest.raises(LifeboatError, match=cause):
        spans.read(repo, SPAN, "shop")


def test_notes_that_are_withheld_at_the_end_look_like_silence(repo: LocalRepository) -> None:
    """Of an open span: never like an older truth, for it says until when it reaches. Of a closed one it is noticed."""
    span = closed(repo)
    path(repo, "note-000003.json").unlink()
    chain = spans.read_notes(repo, SPAN, "shop")
    assert "3 notes were written, and 2 are there" in spans.unlike_notes(span, chain)
    assert spans.of_notes(SPAN, chain).reached == reached(7 * MIB, 30)


def test_a_manifest_that_names_other_pieces_than_its_notes_is_noticed(repo: LocalRepository) -> None:
    opened(repo)
    chain = spans.read_notes(repo, SPAN)
    span = replace(spans.of_notes(SPAN, chain), closed=True)
    assert "other pieces" in spans.unlike_notes(replace(span, pieces=span.pieces[:-1]), chain)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"segment_size": 3 * MIB}, "power of two"),
        ({"start": "0/0"}, "begin and end"),
        ({"end": "0/0"}, "begin and end"),
        ({"timeline": 2}, "another timeline"),
        ({"reached": "0/0"}, "far behind"),
        ({"segment_size": 2 * MIB}, "no gap says why|begin and end"),
    ],
)
def test_a_manifest_that_contradicts_its_pieces_is_refused(
    repo: LocalRepository, changes: dict[str, object], cause: str
) -> None:
    to = opened(repo)
    manifest = to.manifest(AT + timedelta(hours=1))
    with pytest.raises(IntegrityError, match=cause):
        spans.of_manifest(replace(manifest, details={**manifest.details, **changes}))


def test_a_span_of_another_stack_is_refused(repo: LocalRepository) -> None:
    closed(repo)
    for state in ("closed", "open"):
        with pytest.raises(IntegrityError, match="of the stack shop"):
            spans.read(repo, SPAN, "other")
        if state == "closed":
            path(repo, "manifest.json").unlink()
    with pytest.raises(NotFoundError):
        spans.read(repo, "wal_backup_20261201_140000")


class Distrust:
    """Stands for the signers that are pinned."""

    def refused_note(self, component: str, identity: str, data: bytes) -> str:
        return f"untrusted: {component} {identity} {json.loads(data)['number']}"


def test_the_newest_note_is_the_one_whose_signature_is_checked(repo: LocalRepository) -> None:
    opened(repo)
    repo.trust = Distrust()  # type: ignore[assignment]
    with pytest.raises(UntrustedError, match=f"untrusted: wal {SPAN} 3"):
        spans.read(repo, SPAN)


def test_a_note_is_signed_in_a_namespace_of_its_own(repo: LocalRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is of all of it, its number and the note before it too."""
    signed: list[tuple[bytes, str]] = []

    def sign(message: bytes, key: str, document: str) -> str:
        signed.append((message, document))
        return "c2ln"

    monkeypatch.setattr(sealing, "sign", sign)
    to = replace(writer(repo), key="/key")
    send(to, MIB, MIB)
    span = send(to, 2 * MIB, MIB, 30)
    assert spans.read(repo, SPAN) == span
    body = json.loads(path(repo, "note-000002.json").read_bytes())
    assert [document for _message, document in signed] == ["note", "note"]
    assert body["signature"] == {
        "repository": repo.identity(), "sequence": 2, "previous": body["previous"], "value": "c2ln",
    }  # fmt: skip
    assert json.loads(signed[1][0])["pieces"] == body["pieces"]
    body["signature"]["sequence"] = 3
    path(repo, "note-000002.json").write_bytes(sealing.render(body))
    with pytest.raises(IntegrityError, match="another number"):
        spans.read(repo, SPAN)


# Put together.


def parts(span: Span, number: int) -> tuple[Segment, list[Piece]]:
    segment = Segment(1, number, MIB)
    return segment, [item for item in span.pieces if item.name.segment == segment]


def zeros(item: Piece) -> Iterator[bytes]:
    yield b"\x01" * (item.bytes - 1)
    yield b"\x02"


def test_a_segment_is_its_pieces_and_zeros(repo: LocalRepository) -> None:
    to = writer(repo)
    for start, length in ((MIB, 8192), (MIB + 8192, 100), (MIB + 8292, 8)):
        send(to, start, length)
    span = spans.read(repo, SPAN)
    target = repo.root / "segment"
    target.write_bytes(b"what was there before" * 100_000)
    with target.open("r+b") as file:
        assert spans.put_together(file, *parts(span, 1), zeros) == 8300
    data = target.read_bytes()
    assert len(data) == MIB
    assert data[8191:8193] + data[8291:8300] == b"\x02\x01\x02" + b"\x01" * 7 + b"\x02"
    assert data[8300:] == bytes(MIB - 8300)


@pytest.mark.parametrize(
    ("keep", "length", "cause"),
    [
        ((0, 2), 0, "leaves a hole"), ((1,), 0, "leaves a hole"), ((0, 0), 0, "overlaps"),
        ((0, 1), 1, "has more than"), ((0, 1), -1, "lacks 1 of"),
    ],
)  # fmt: skip
def test_a_segment_of_other_pieces_is_refused(
    repo: LocalRepository, keep: tuple[int, ...], length: int, cause: str
) -> None:
    to = writer(repo)
    for start in (MIB, MIB + 100, MIB + 200):
        send(to, start, 100)
    segment, items = parts(spans.read(repo, SPAN), 1)
    with pytest.raises(IntegrityError, match=cause):
        spans.put_together(
            io.BytesIO(), segment, [items[index] for index in keep], lambda item: [bytes(item.bytes + length)]
        )


def test_spans_follow_one_another_as_far_as_they_do(repo: LocalRepository) -> None:
    names = [f"wal_backup_20261201_1{hour}0000" for hour in range(4)]
    for hour, name in enumerate(names):
        send(writer(repo, name), (hour + 1) * MIB, MIB)
    every = [spans.read(repo, name) for name in names]
    there, why = spans.following(every, 2 * MIB + 5, 1, SYSTEM)
    assert ([span.id for span in there], why) == (names[1:], "")
    there, why = spans.following([every[0], every[1], every[3]], MIB, 1, SYSTEM)
    assert [span.id for span in there] == names[:2]
    assert "nothing has the WAL from 0/300000 to 0/400000" in why
    assert spans.following(every, 0, 1, SYSTEM) == ([], "nothing has the WAL from 0/0 to 0/100000")
    assert spans.following(every, MIB, 1, "1") == ([], "")
    assert spans.following(every, MIB, 2, SYSTEM) == ([], "")


def test_memory_is_that_of_one_piece(repo: LocalRepository) -> None:
    """A piece is read in chunks, however large it is."""
    to = writer(repo)
    data = os.urandom(3 * MIB)
    entry = to.add(piece(MIB), data, 100)
    span = to.note(reached(MIB + 100), [entry])
    chunks = list(spans.stored(repo, SPAN, span.pieces[0].artefact))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= MIB
