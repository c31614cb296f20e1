# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL of a repository as files: whole, or not there, or an error. One is never taken for another."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    UnverifiedError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.typed import plain
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import archive as archives
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.archive import Archive
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import BaseDetails, Gap
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import Latest
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.notes import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import (
    PieceName,
    Segment,
    format_lsn,
    history_name,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Writer
from builders import make_config

MIB, SYSTEM = 1 << 20, "7412345678901234567"
AT = datetime(2026, 12, 1, 13, 0, tzinfo=timezone.utc)
SPAN, BASE = "wal_backup_20261201_130000", "base_backup_20261201_120000"


class World:
    """A repository whose pieces are packed by no program: what is stored is what they hold."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "_UNPACK", ("cat",))
        self.run = Opened(make_config(root, wal={"enabled": True}))
        self.repo = repositories.repository_of(self.run)
        self.folder = root / "private"
        self.folder.mkdir()

    def span(
        self, ranges: list[tuple[int, int]], *, timeline: int = 1, system: str = SYSTEM, identity: str = SPAN,
        gaps: tuple[Gap, ...] = (), history: bytes = b"", hours: int = 0,
    ) -> Path:  # fmt: skip
        """A span with a piece for each range of bytes. Returns its directory."""
        to = Writer(self.repo, "shop", identity, MIB, 170_002)
        entries = []
        if history:
            entries.append(to.add(history_name(timeline), history, len(history)))
        for start, end in ranges:
            piece = PieceName(Segment(timeline, start // MIB, MIB), start % MIB)
            entries.append(to.add(str(piece), log(start, end), end - start))
        to.note(Reached(system, timeline, format_lsn(ranges[-1][1]), AT + timedelta(hours=hours)), entries, gaps)
        return self.repo.root / "wal" / identity  # type: ignore[attr-defined, no-any-return]

    def base(self, start: int, timeline: int = 1) -> None:
        details = BaseDetails(
            SYSTEM, 170_002, timeline, format_lsn(start + 40), format_lsn(start + 4096), segment_size=MIB
        )
        with self.repo.stage("base", BASE) as staging:
            (staging.path / "base.tar.zst").write_bytes(b"files")
            artefacts = (Artefact("base.tar.zst", 5, filesystem.sha256(b"files")),)
            staging.publish(
                Manifest(BASE, "base", "shop", AT, AT, artefacts, {"lifeboat": "1"}, plain(details)).to_bytes()
            )

    def archive(self) -> Archive:
        made = Archive(self.run, self.repo, self.folder)
        made.use(SYSTEM)
        return made

    def read(self, name: str) -> bytes:
        target = self.folder / name
        assert self.archive().write(name, target)
        data = target.read_bytes()
        assert target.stat().st_mode & 0o777 == 0o644
        target.unlink()
        return data


def log(start: int, end: int) -> bytes:
    """The bytes of the log in that range: no two places have the same."""
    return b"".join(struct.pack("=Q", word * 8) for word in range(start // 8, -(-end // 8)))[: end - start]


def name(number: int, timeline: int = 1) -> str:
    return Segment(timeline, number, MIB).name


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_segment_is_put_together_out_of_its_pieces(world: World) -> None:
    world.span([(5 * MIB, 6 * MIB), (6 * MIB, 6 * MIB + 4096), (6 * MIB + 4096, 6 * MIB + 8000)])
    assert world.read(name(5)) == log(5 * MIB, 6 * MIB)
    assert world.read(name(6)) == log(6 * MIB, 6 * MIB + 8000).ljust(MIB, b"\0")


def test_what_is_not_there_is_not_there(world: World) -> None:
    world.span([(5 * MIB, 6 * MIB), (6 * MIB, 6 * MIB + 4096)])
    archive = world.archive()
    for missing in (name(4), name(7), name(5, 2), "00000002.history"):
        assert archive.write(missing, world.folder / missing) is False
        assert not (world.folder / missing).exists()


def test_a_segment_without_its_beginning_is_not_there(world: World) -> None:
    world.span([(5 * MIB + 4096, 6 * MIB), (6 * MIB, 7 * MIB)])
    archive = world.archive()
    assert archive.has(name(5)) is False
    assert archive.has(name(6)) is True


def test_behind_a_gap_in_a_segment_nothing_of_it_is_used(world: World) -> None:
    gap = Gap(SYSTEM, 1, format_lsn(5 * MIB + 4096), format_lsn(5 * MIB + 8192), "the slot was lost", AT)
    world.span([(5 * MIB, 5 * MIB + 4096), (5 * MIB + 8192, 6 * MIB)], gaps=(gap,))
    assert world.read(name(5)) == log(5 * MIB, 5 * MIB + 4096).ljust(MIB, b"\0")


def test_the_wal_of_another_server_is_not_served(world: World) -> None:
    world.span([(5 * MIB, 6 * MIB)], system="8")
    assert world.archive().has(name(5)) is False


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_what_is_damaged_is_an_error_and_not_the_end(world: World, damage: str) -> None:
    path = world.span([(5 * MIB, 6 * MIB)]) / f"{name(5)}.00000000.zst"
    data = path.read_bytes()
    path.chmod(0o600)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(LifeboatError) as error:
        world.archive().write(name(5), world.folder / name(5))
    assert error.value.cause


def test_a_piece_that_unpacks_to_more_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.span([(5 * MIB, 5 * MIB + 4096)])
    monkeypatch.setattr(archives, "_UNPACK", ("sh", "-c", "cat; yes"))
    with pytest.raises(IntegrityError, match="more than the 4096 bytes"):
        world.archive().write(name(5), world.folder / name(5))


def test_a_program_that_is_missing_says_nothing_of_the_piece(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.span([(5 * MIB, 6 * MIB)])
    monkeypatch.setattr(archives, "_UNPACK", ("/no/such/zstd",))
    with pytest.raises(UnverifiedError, match="zstd"):
        world.archive().write(name(5), world.folder / name(5))
    monkeypatch.setattr(archives, "_UNPACK", ("sh", "-c", "echo not zstd >&2; exit 1"))
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        world.archive().write(name(5), world.folder / f"{name(5)}.again")


def test_a_history_is_served_and_leads_to_its_timeline(world: World) -> None:
    history = b"1\t0/680000\tbefore 2026-12-01 12:00:00+00\n"
    world.base(5 * MIB)
    world.span([(5 * MIB, 6 * MIB), (6 * MIB, 7 * MIB)])
    later = "wal_backup_20261201_140000"
    world.span([(6 * MIB, 7 * MIB), (7 * MIB, 8 * MIB)], timeline=2, identity=later, history=history, hours=1)
    assert world.read("00000002.history") == history
    found = world.archive().catalogue()
    route = found.route(Latest(), AT + timedelta(hours=2))
    assert (route.timeline, route.base.id, route.until.lsn) == (2, BASE, "0/800000")


def test_what_cannot_be_read_is_passed_over_by_name(world: World) -> None:
    world.base(5 * MIB)
    folder = world.span([(5 * MIB, 6 * MIB), (6 * MIB, 7 * MIB)])
    note = folder / "note-000001.json"
    note.chmod(0o600)
    note.write_bytes(note.read_bytes().replace(b'"number": 1', b'"number": 7'))
    manifest = world.repo.root / "base" / BASE / "manifest.json"  # type: ignore[attr-defined]
    manifest.chmod(0o600)
    manifest.write_bytes(b"{}")
    archive = world.archive()
    found = archive.catalogue()
    assert (found.windows, found.runs) == ((), ())
    assert [each.partition(":")[0] for each in archive.passed_over] == [SPAN, BASE]


def test_a_span_that_has_just_begun_is_no_damage(world: World) -> None:
    world.span([(5 * MIB, 6 * MIB)])
    to = Writer(world.repo, "shop", "wal_backup_20261201_140000", MIB, 170_002)
    to.add(f"{name(6)}.00000000.zst", b"x", 1)
    archive = world.archive()
    assert [span.id for span in archive.spans] == [SPAN]
    assert archive.passed_over == []


@pytest.mark.parametrize(
    ("length", "ends"),
    [(0, True), (500, True), (64, False)],
    ids=["nothing follows", "a record that is not whole", "a whole record that a server refused"],
)
def test_where_the_wal_ends(world: World, length: int, ends: bool) -> None:
    """A server that stops before what was received has met damage, unless a record was cut off there."""
    position, until = 5 * MIB + 4096, 5 * MIB + 4096 + 200
    data = bytearray(log(5 * MIB, until))
    data[4096:4100] = struct.pack("=I", length)
    to = Writer(world.repo, "shop", SPAN, MIB, 170_002)
    entry = to.add(f"{name(5)}.00000000.zst", bytes(data), len(data))
    to.note(Reached(SYSTEM, 1, format_lsn(until), AT), [entry])
    archive = world.archive()
    assert archive.ends_at(1, position, until, MIB) is ends
    assert archive.ends_at(1, until, until, MIB) is True
    assert archive.ends_at(1, 3 * MIB, until, MIB) is False, "a segment before it"
    assert [*world.folder.iterdir()] == []
