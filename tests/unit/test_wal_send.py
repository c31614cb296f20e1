# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending received WAL: what of the spool is written, what a pass sends and notes, what a killed pass leaves."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import receiver, send, spool
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.send import Answer, Ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import notes, segments, spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import PieceName, Segment, format_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Span
from builders import make_config

SYSTEM, SIZE, PAGE = "7412000000000000001", 1 << 20, 8192
START = datetime(2026, 12, 1, 13, 0, tzinfo=timezone.utc)


def segment_bytes(segment: Segment, end: int, system: str = SYSTEM) -> bytes:
    """A segment that is written until `end`: pages with their headers, then zeros."""
    pages = []
    for number in range(segment.size // PAGE):
        if number * PAGE >= end:
            break
        long = struct.pack("=QII", int(system), segment.size, PAGE) if number == 0 else b""
        head = struct.pack("=HHIQII", 0xD110, 2 if long else 0, segment.timeline, segment.start + number * PAGE, 0, 0)
        pages.append((head + long).ljust(PAGE, bytes([number % 250 + 1])))
    return b"".join(pages)[:end].ljust(segment.size, b"\0")


def put(folder: Path, number: int, end: int = SIZE, *, timeline: int = 1, system: str = SYSTEM) -> Segment:
    """Let pg_receivewal have written so much of a segment."""
    segment = Segment(timeline, number, SIZE)
    closed, partial = folder / segment.name, folder / f"{segment.name}.partial"
    partial.unlink(missing_ok=True)
    (closed if end == SIZE else partial).write_bytes(segment_bytes(segment, end, system))
    return segment


# The spool.


def test_what_is_written_of_the_open_segment(tmp_path: Path) -> None:
    for end in (41, PAGE - 3, PAGE, 3 * PAGE + 100, SIZE - 8):
        segment = put(tmp_path, 7, end)
        path = tmp_path / f"{segment.name}.partial"
        assert spool.written(path, segment, SYSTEM) == end
        assert spool.written(path, segment, SYSTEM, start=end) == end, "from where it was reached before"


def test_zeros_at_the_end_wait_and_pages_of_another_segment_are_not_read(tmp_path: Path) -> None:
    segment = put(tmp_path, 7, 2 * PAGE)
    path = tmp_path / f"{segment.name}.partial"
    data = bytearray(path.read_bytes())
    data[2 * PAGE - 50 : 2 * PAGE] = bytes(50)
    data[2 * PAGE :] = segment_bytes(Segment(1, 3, SIZE), SIZE)[2 * PAGE :]  # of a file that was used before
    path.write_bytes(data)
    assert spool.written(path, segment, SYSTEM) == 2 * PAGE - 50


def test_a_segment_that_was_just_made_has_nothing(tmp_path: Path) -> None:
    segment = Segment(1, 7, SIZE)
    (tmp_path / f"{segment.name}.partial").write_bytes(bytes(SIZE))
    (tmp_path / Segment(1, 6, SIZE).name).write_bytes(b"")
    assert [item.end for item in spool.contents(tmp_path, SYSTEM, SIZE)] == [0]


def test_another_servers_segment_is_refused(tmp_path: Path) -> None:
    put(tmp_path, 7, system="8000000000000000000")
    with pytest.raises(IntegrityError, match="it is of server 8000000000000000000"):
        spool.contents(tmp_path, SYSTEM, SIZE)


def test_what_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, 7)
    for name in ("lost", "000000010000000000000001.gz", "00000002.history"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / Segment(1, 8, SIZE).name).symlink_to("/etc/passwd")
    assert [item.segment.number for item in spool.contents(tmp_path, SYSTEM, SIZE)] == [7]
    assert [path.name for path in spool.histories(tmp_path)] == ["00000002.history"]


def test_cuts_go_on_where_the_last_piece_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(tmp_path, 7), put(tmp_path, 8, 5000)
    files = spool.contents(tmp_path, SYSTEM, SIZE)
    assert [(str(cut.name), len(cut.data)) for cut in spool.cuts(files, None, False)] == [
        (f"{first.name}.00000000.zst", SIZE),
        (f"{second.name}.00000000.zst", 5000),
    ]
    rest = list(spool.cuts(files, PieceName(second, 4000), True))
    assert [(str(cut.name), len(cut.data)) for cut in rest] == [(f"{second.name}.00000fa0.zst.age", 1000)]
    assert list(spool.cuts(files, PieceName(second, 5000), False)) == []
    monkeypatch.setattr(spool, "MOST", 600_000)
    assert [len(cut.data) for cut in spool.cuts(files[:1], None, False)] == [600_000, SIZE - 600_000]


def test_no_piece_is_longer_than_a_note_takes(tmp_path: Path) -> None:
    size = 64 << 20
    segment = Segment(1, 3, size)
    path = tmp_path / segment.name
    with path.open("wb") as file:
        file.truncate(size)  # a hole in a file: no disk is used
    closed = spool.Written(path, segment, False, size)
    lengths = [(cut.name.offset, len(cut.data)) for cut in spool.cuts([closed], None, False)]
    assert lengths == [(number * notes.MOST_PIECE, notes.MOST_PIECE) for number in range(4)]
    (rest,) = spool.cuts([closed], PieceName(segment, size - 5), False)
    assert (rest.name.offset, len(rest.data)) == (size - 5, 5)


def test_the_newest_closed_segment_stays_for_the_receiver(tmp_path: Path) -> None:
    for number in (5, 6, 7):
        put(tmp_path, number)
    last = put(tmp_path, 8, 100)
    put(tmp_path, 4, 100, timeline=1)
    files = [item for item in spool.contents(tmp_path, SYSTEM, SIZE) if item.segment.number > 4]
    names = [path.name for path in spool.removable(files, PieceName(last, 100))]
    assert names == [Segment(1, 5, SIZE).name, Segment(1, 6, SIZE).name]
    assert [path.name for path in spool.removable(files, PieceName(Segment(1, 6, SIZE), 9))] == [
        Segment(1, 5, SIZE).name
    ]


def test_the_open_segment_of_a_timeline_that_was_left_goes(tmp_path: Path) -> None:
    put(tmp_path, 7, 100)
    other = put(tmp_path, 7, 200, timeline=2)
    files = spool.contents(tmp_path, SYSTEM, SIZE)
    names = [path.name for path in spool.removable(files, PieceName(other, 200))]
    assert names == [f"{Segment(1, 7, SIZE).name}.partial"]


# Passes.


class World:
    """A stack of this host whose server and receiver do as they are told. Time stands still but for tick()."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {"enabled": True, "spool_directory": f"{root}/spool/shop"}
        self.run = Opened(make_config(root, runtime={"type": "host"}, wal=settings))
        self.now, self.log = START, list[str]()
        self.free = 100 << 30
        self.answer: Optional[Answer] = None
        self.folder = self.spool(SYSTEM)
        self.repo, self.repo_root = repositories.repository_of(self.run), root / "backup"
        receiver.remember(self.run.config, receiver.Enabled(SYSTEM, 1, at="2026-12-01T12:00:00Z"))

        def ask(server: object) -> Answer:
            if self.answer is None:
                raise LifeboatError("ask", "server", "it is away")
            return self.answer

        monkeypatch.setattr(database_server, "connect", lambda config, runtime: None)
        monkeypatch.setattr(send, "ask", ask)
        monkeypatch.setattr(send, "_COMPRESS", ("cat",))
        monkeypatch.setattr(type(self.repo), "free_bytes", lambda repo: self.free)
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def spool(self, system: str, number: int = 1) -> Path:
        folder = self.run.config.spool / f"{system}-{number:04d}"
        folder.mkdir(parents=True)
        return folder

    def tick(self, **more: float) -> None:
        self.now += timedelta(**more)

    def says(self, position: int, *, received: Optional[int] = None, timeline: int = 1, system: str = SYSTEM) -> None:
        """Let the server answer: all until `position` is flushed, all until `received` is at the receiver."""
        there = format_lsn(position if received is None else received)
        self.answer = Answer(system, 170012, SIZE, timeline, format_lsn(position), self.now, there)

    def send(self, **more: Any) -> Ledger:
        return send.send(self.run, self.log.append, **more)

    def spans(self) -> list[Span]:
        return [spans.read(self.repo, identity, "shop") for identity in self.repo.ids("wal")]

    def stored(self) -> dict[str, bytes]:
        """Segments, put together from what the notes name."""
        found: dict[str, bytearray] = {}
        for span in self.spans():
            for piece in span.pieces:
                data = b"".join(spans.stored(self.repo, span.id, piece.artefact))
                assert len(data) == piece.bytes
                whole = found.setdefault(piece.name.segment.name, bytearray(SIZE))
                whole[piece.name.offset : piece.name.offset + len(data)] = data
        return {name: bytes(data) for name, data in found.items()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield World(tmp_path, monkeypatch)


def test_a_pass_sends_what_is_new_and_says_until_when(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    state = world.send()
    assert (state.number, state.position) == (1, format_lsn(segment.start + 5000))
    assert state.reached is not None
    assert state.reached.at == START
    world.tick(seconds=30)
    world.says(segment.start + 5000)
    state = world.send()
    assert state.number == 1, "nothing is new: no note"
    assert state.reached is not None
    assert state.reached.at == world.now, "and all until now is there"
    put(world.folder, 7)
    later = put(world.folder, 8, 300)
    world.says(later.start + 300)
    assert world.send().number == 2
    (span,) = world.spans()
    assert [str(piece.name) for piece in span.pieces] == [
        f"{segment.name}.00000000.zst", f"{segment.name}.00001388.zst", f"{later.name}.00000000.zst",
    ]  # fmt: skip
    assert world.stored() == {segment.name: segment_bytes(segment, SIZE), later.name: segment_bytes(later, 300)}
    assert span.gaps == ()


def test_what_waits_in_the_spool_is_what_the_next_pass_sends(world: World) -> None:
    assert send.waiting(world.run.config) is None, "nothing was sent yet, so nobody knows of which server"
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    world.send()
    assert send.waiting(world.run.config) is None
    put(world.folder, 7)
    later, other = put(world.folder, 8, 300), world.spool("8000000000000000000")
    os.utime(world.folder / f"{later.name}.partial", (START.timestamp() + 9,) * 2)
    os.utime(world.folder / segment.name, (START.timestamp(),) * 2)
    put(other, 9, system="8000000000000000000")
    found = send.waiting(world.run.config)
    assert found == send.Waiting(SIZE - 5000 + 300, START + timedelta(seconds=9))
    put(world.folder, 9, system="8000000000000000000")
    with pytest.raises(LifeboatError, match="it is of server 8000000000000000000"):
        send.waiting(world.run.config)


def test_nothing_is_claimed_that_was_not_received(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 9000, received=segment.start + 5000)
    state = world.send()
    assert state.reached is not None
    assert state.reached.at.hour == 12, "before it was enabled nothing is promised"
    asked = world.now
    put(world.folder, 7, 9000)
    world.tick(seconds=30)
    world.answer = None
    state = world.send()
    assert state.reached is not None
    assert state.reached.at == asked, "what the server said then is received now, though it is away"
    assert any("does not answer" in text for text in world.log)


def test_a_host_that_does_not_know_since_when_writes_notes_that_can_be_read(world: World) -> None:
    """Before what the server said first has come, and the next pass goes on."""
    receiver.remember(world.run.config, receiver.Enabled(SYSTEM, 1))
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 9000, received=segment.start + 5000)
    state = world.send()
    assert state.reached is not None
    assert [span.reached.at for span in world.spans()] == [state.reached.at] == [send.NEVER]
    (world.run.config.state / send.LEDGER).unlink()
    put(world.folder, 7, 9000)
    state = world.send()
    assert state.reached is not None and state.reached.at == world.now
    assert len(world.spans()) == 2, "the span before is closed"


def test_zeros_that_the_receiver_confirmed_are_sent(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    path = world.folder / f"{segment.name}.partial"
    data = bytearray(path.read_bytes())
    data[4900:5000] = bytes(100)
    path.write_bytes(data)
    world.says(segment.start + 5000)
    state = world.send()
    assert state.position == format_lsn(segment.start + 5000)
    assert state.reached is not None
    assert state.reached.at == START


def test_what_was_sent_leaves_the_spool(world: World) -> None:
    for number in (5, 6, 7):
        put(world.folder, number)
    last = put(world.folder, 8, 100)
    world.says(last.start + 100)
    world.send()
    names = sorted(path.name for path in world.folder.iterdir())
    assert names == [Segment(1, 7, SIZE).name, f"{last.name}.partial"]
    assert world.stored().keys() == {Segment(1, number, SIZE).name for number in (5, 6, 7, 8)}


def test_a_repository_that_is_away_leaves_the_spool_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (5, 6, 7):
        put(world.folder, number)
    world.says(8 * SIZE)

    def away(*_: Any) -> None:
        raise LifeboatError("write", "repository", "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(world.repo), "add", away)
        with pytest.raises(LifeboatError, match="no space left"):
            world.send()
    assert len(list(world.folder.iterdir())) == 3
    world.send()
    assert world.stored().keys() == {Segment(1, number, SIZE).name for number in (5, 6, 7)}


def test_wal_leaves_room_for_the_nights_backups(world: World) -> None:
    segment = put(world.folder, 7)
    world.says(segment.end)
    world.free = (2 << 30) - 1
    with pytest.raises(SpaceError, match="are left to backups"):
        world.send()
    assert world.repo.ids("wal") == []
    assert len(list(world.folder.iterdir())) == 1, "it waits in the spool"
    world.free += 1
    assert world.send().number == 1


def test_a_hole_is_a_gap_on_record(world: World) -> None:
    first = put(world.folder, 7)
    world.says(first.end)
    world.send()
    after = put(world.folder, 9, 400)
    world.says(after.start + 400)
    state = world.send()
    (gap,) = state.gaps
    assert (gap.start, gap.end) == (format_lsn(first.end), format_lsn(after.start))
    (span,) = world.spans()
    assert span.gaps == (gap,)
    assert any("a gap from" in text for text in world.log)
    world.tick(hours=1)
    world.send()
    assert world.repo.published("wal") == [span.id], "and the closed span has it, too"
    assert world.spans()[0].gaps == (gap,)


def fork_at(world: World, position: int) -> None:
    (world.folder / "00000002.history").write_text(f"1\t{format_lsn(position)}\tpromoted\n", encoding="ascii")


def test_a_new_timeline_is_a_span_of_its_own_without_a_gap(world: World) -> None:
    old = put(world.folder, 7, 5000)
    world.says(old.start + 5000)
    world.send()
    fork_at(world, old.start + 4800)
    put(world.folder, 7, 6000, timeline=2)
    world.says(old.start + 6000, timeline=2)
    state = world.send()
    first, second = world.spans()
    assert (first.closed, first.timeline, second.closed, second.timeline) == (True, 1, False, 2)
    assert [item.name for item in second.histories] == ["00000002.history"]
    assert second.start == old.start, "the segment of the fork whole"
    assert state.gaps == ()
    world.tick(seconds=30)
    put(world.folder, 7, 7000, timeline=2)
    world.says(old.start + 7000, timeline=2)
    world.send()
    assert [item.name for item in world.spans()[1].histories] == ["00000002.history"], "once a span"


@pytest.mark.parametrize("known", [True, False], ids=["before the fork", "no history"])
def test_a_timeline_that_nobody_can_join_to_the_last_is_a_gap(world: World, known: bool) -> None:
    old = put(world.folder, 7, 5000)
    world.says(old.start + 5000)
    world.send()
    new = put(world.folder, 8, 6000, timeline=2)
    if known:
        fork_at(world, new.start + 100)
    world.says(new.start + 6000, timeline=2)
    (gap,) = world.send().gaps
    assert (gap.timeline, gap.start, gap.end) == (1, format_lsn(old.start + 5000), format_lsn(new.start))


def test_what_was_not_received_of_a_timeline_is_in_the_segment_of_its_fork(world: World) -> None:
    """A server that is stopped and promoted writes to its end what no receiver took."""
    old = put(world.folder, 7, 5000)
    world.says(old.start + 5000)
    world.send()
    fork_at(world, old.start + 5200)
    put(world.folder, 7, 6000, timeline=2)
    world.says(old.start + 6000, timeline=2)
    assert world.send().gaps == ()


def test_another_server_is_never_mixed_with_the_last(world: World) -> None:
    old = put(world.folder, 7, 5000)
    world.says(old.start + 5000)
    world.send()
    other = "8000000000000000000"
    put(world.spool(other), 1, 700, system=other)
    world.says(SIZE + 700, system=other)
    state = world.send()
    assert state.system == other
    first, second = world.spans()
    assert (first.system, first.closed, second.system, second.closed) == (SYSTEM, True, other, False)
    (gap,) = second.gaps
    assert (gap.system, gap.start, gap.end) == (SYSTEM, format_lsn(old.start + 5000), "")


def test_a_spool_that_is_not_written_to_any_more_goes_when_it_is_sent(world: World) -> None:
    first = put(world.folder, 7, 5000)
    world.says(first.start + 5000)
    after = put(world.spool(SYSTEM, 2), 9, 300)
    world.says(after.start + 300)
    state = world.send()
    assert not world.folder.exists()
    assert [gap.end for gap in state.gaps] == [format_lsn(after.start)]
    assert receiver.spools(world.run.config) == [world.run.config.spool / f"{SYSTEM}-0002"]


def test_an_hour_is_a_backup(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    world.send()
    assert world.repo.published("wal") == []
    world.tick(minutes=59)
    world.send()
    assert world.repo.published("wal") == []
    world.tick(minutes=1)
    state = world.send()
    assert state.span == ""
    (identity,) = world.repo.published("wal")
    assert world.repo.growing("wal") == []
    put(world.folder, 7, 6000)
    world.says(segment.start + 6000)
    assert world.send().span not in ("", identity)
    first, second = world.spans()
    assert first.end == second.start, "the next goes on where it ended"


def test_a_quiet_stack_says_that_it_is_alive(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    numbers = []
    for _ in range(11):
        world.says(segment.start + 5000)
        numbers.append(world.send().number)
        world.tick(seconds=30)
    assert numbers == [1] * 10 + [2]
    (span,) = world.spans()
    assert span.reached.at == START + timedelta(minutes=5)
    assert len(span.pieces) == 1


class Killed(BaseException):
    pass


def killed_at(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A pass that dies as soon as a file of that name is written."""
    real = type(world.repo).add

    def add(self: Any, component: str, identity: str, file: str, data: bytes) -> None:
        real(self, component, identity, file, data)
        if name in file:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(world.repo), "add", add)
        with pytest.raises(Killed):
            world.send()


@pytest.mark.parametrize("name", [".zst", "note-000001"])
@pytest.mark.parametrize("more", [0, 1000], ids=["the same bytes", "more bytes"])
def test_a_pass_that_was_killed_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, more: int
) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    killed_at(world, monkeypatch, name)
    put(world.folder, 7, 5000 + more)
    world.says(segment.start + 5000 + more)
    state = world.send()
    assert state.position == format_lsn(segment.start + 5000 + more)
    assert world.stored() == {segment.name: segment_bytes(segment, 5000 + more)}
    ends = [(span.start, span.end) for span in world.spans() if span.pieces]
    assert ends[0][0] == segment.start
    assert ends[-1][1] == segment.start + 5000 + more
    assert all(before[1] == after[0] for before, after in zip(ends, ends[1:])), "no byte twice, none missing"
    assert state.gaps == ()


def test_a_lost_memory_is_found_again_in_the_repository(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    world.send()
    (world.run.config.state / send.LEDGER).unlink()
    put(world.folder, 7, 6000)
    world.says(segment.start + 6000)
    state = world.send()
    assert state.gaps == ()
    first, second = world.spans()
    assert (first.closed, first.end, second.start) == (True, segment.start + 5000, segment.start + 5000)
    (world.run.config.state / send.LEDGER).write_text("{")
    world.send()
    assert len(world.repo.published("wal")) == 2


def test_files_that_no_note_names_are_in_no_span(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    killed_at(world, monkeypatch, ".zst")
    (world.run.config.state / send.LEDGER).unlink()
    world.send()
    assert len(world.repo.ids("wal")) == 1, "the rest of the killed pass is gone"
    assert world.stored() == {segment.name: segment_bytes(segment, 5000)}


def test_pieces_are_encrypted_before_they_leave(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "sealing", lambda config, log: age.Seal(("age1recipient",), "age1host"))
    monkeypatch.setattr(age, "encryption", lambda recipients: Command(["tr", "\\001-\\100", "\\101-\\200"]))
    segment = put(world.folder, 7, 5000)
    fork_at(world, segment.start)
    put(world.folder, 7, 5000, timeline=2)
    world.says(segment.start + 5000, timeline=2)
    world.send(close=True)
    for identity in world.repo.published("wal"):
        span = spans.read(world.repo, identity, "shop")
        names = [*(piece.artefact.name for piece in span.pieces), *(item.name for item in span.histories)]
        assert names
        assert all(name.endswith(".age") for name in names)
    known = bytes([1]) * 100  # what the first page is filled with
    assert known in segment_bytes(segment, 5000)
    stored = b"".join(path.read_bytes() for path in (world.repo_root / "wal").rglob("*.age"))
    assert len(stored) > 9000
    assert known not in stored


def test_before_anything_was_received_there_is_nothing_to_send(world: World) -> None:
    world.folder.rmdir()
    with pytest.raises(NotFoundError, match="nothing was received yet"):
        world.send()


def test_two_passes_are_never_at_work_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    tried: list[bool] = []

    def packed(*_: Any) -> bytes:
        with pytest.raises(LockedError):
            world.send()
        tried.append(True)
        return b"x"

    monkeypatch.setattr(send, "_PATIENCE", 0.3)
    monkeypatch.setattr(send._Pass, "_packed", packed)
    world.send()
    assert tried


def test_a_pass_waits_for_the_one_of_the_timer(world: World) -> None:
    """A recovery that meets it would bring back less than was received."""
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 5000)
    entered = threading.Event()

    def timer() -> None:
        with lock.held("shop.wal", "wal send"):
            entered.set()
            time.sleep(0.5)

    other = threading.Thread(target=timer)
    other.start()
    assert entered.wait(10)
    assert world.send().position == format_lsn(segment.start + 5000)
    other.join()


def test_no_claim_is_made_of_a_timeline_that_the_server_has_left(world: World) -> None:
    segment = put(world.folder, 7, 5000)
    world.says(segment.start + 4000, timeline=2)
    state = world.send()
    assert state.reached is not None
    assert state.reached.at.hour == 12
    assert segments.parse_lsn(state.position) == segment.start + 5000
