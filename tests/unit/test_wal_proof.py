# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lifeboat verify base`: what it replays, what it compares, each way in which it is not green, and what is recorded.

The WAL is a recording (test_wal_when.py), and the server that stands is none. tests/integration/test_proof.py has one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    UnverifiedError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import proof as logical
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import proof, standing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Cut
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.catalogue import Route
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import Latest, Position
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.spans import Writer
from builders import publish
from test_fingerprint import facts, read
from test_wal_cut import COMMIT, GOOD
from test_wal_when import AT, BASE
from test_wal_when import World as Recorded

EQUAL = ["tables", "sequences", "large objects", "schema", "extensions", "database settings", "roles"]
SPAN = "wal_backup_20261202_041000"


class World(Recorded):
    """replayed: the fingerprint of the server that stands; ends: the error that something ends with, by what it is."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.replayed, self.ends = facts(), dict[str, LifeboatError]()
        self.unlogged, self.ahead = list[str](), dict[str, int]()
        self.route: Optional[Route] = None
        self.did: list[str] = []
        self.name, self.sound = "scratch", PASS
        self.reached = standing.Reached("0/AEF350", AT, "recovery stopping before WAL location", 1.0, 2.0, 3)
        monkeypatch.setattr(standing, "standing", self.standing)
        monkeypatch.setattr(fingerprint, "take", lambda session, *words: read(self.replayed))
        monkeypatch.setattr(fingerprint, "reserve", lambda session: self.ahead)
        monkeypatch.setattr(logical, "amcheck", self.amcheck)

    @property
    def server(self) -> World:
        return self

    @contextlib.contextmanager
    def standing(self, run: object, archive: object, route: Route, log: object) -> Iterator[World]:
        self.fail("stand")
        self.route = route
        yield self

    def fail(self, what: str) -> None:
        self.did.append(what)
        if what in self.ends:
            raise self.ends[what]

    def promote(self) -> None:
        self.fail("promote")

    def stop(self) -> None:
        self.fail("stop")

    def execute(self, sql: str, **_: Any) -> list[object]:
        self.fail("write")
        return []

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[World]:
        self.fail(f"compare {database}")
        yield self

    def rows(self, sql: str, *, attempted: str) -> list[object]:
        return list(self.unlogged) if "relpersistence" in sql else []

    def amcheck(self, name: str, server: object, jobs: int, timeout: float, databases: str) -> Check:
        self.did.append(f"amcheck {databases}")
        return Check("amcheck", self.sound, "")

    def close(self) -> None:
        to = Writer.resume(self.repo, SPAN, "shop")
        self.repo.finish("wal", SPAN, to.manifest(AT + timedelta(minutes=10)).to_bytes())

    def dump(self, cut: Optional[Cut] = GOOD, minutes: float = 4) -> Manifest:
        details = {} if cut is None else {"cut": typed.plain(cut)}
        return publish(self.root, AT + timedelta(minutes=minutes), facts(), details=details)

    def levels(self, level: str = "restore") -> list[Check]:
        (base,) = catalog.entries(self.repo, "base", "shop")
        assert base.manifest is not None
        return list(proof.levels(self.run, self.repo, base.manifest, level, self.log.append))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def worst(checks: list[Check]) -> tuple[str, str, str]:
    """The first check that is not green."""
    check = next(check for check in checks if check.result != PASS)
    return check.name, check.result, check.detail


def test_a_base_is_replayed_to_the_cut_and_compared(world: World) -> None:
    dump = world.dump()
    checks = world.levels()
    assert [check.name for check in checks] == ["replay", "cut", "promotion", *EQUAL, "amcheck"]
    assert {check.result for check in checks} == {PASS}
    assert world.did == ["stand", "promote", "write", "compare shop", "amcheck --all", "stop"]
    assert world.route is not None
    assert (world.route.instant, world.route.base.id) == (Position(parse_lsn(COMMIT[745])), BASE)
    judging = world.argv[-1]
    assert judging[judging.index("--start") + 1] == "0/900028", "over all since the base"
    assert judging[judging.index("--end") + 1] == GOOD.until
    assert dump.id in checks[1].detail
    assert "3 files of WAL" in checks[0].detail


def test_the_level_archive_is_the_replay_to_the_end(world: World) -> None:
    world.dump()
    (check,) = world.levels("archive")
    assert (check.name, check.result, world.did) == ("replay", PASS, ["stand"])
    assert world.route is not None
    assert isinstance(world.route.instant, Latest)


# --- what is compared, and is not equal ---


def rows_of(world: World, **change: Any) -> None:
    world.replayed["tables"]["public.t"].update(change)


RED: dict[str, tuple[Callable[[World], Any], str, str]] = {
    "a row more": (lambda world: rows_of(world, rows=6), "tables", "public.t has 6 rows, the backup 5"),
    "a row that is another": (lambda world: rows_of(world, hash="124"), "tables", "public.t has other content"),
    "a sequence that stands too far": (
        lambda world: world.replayed["sequences"]["before"]["public.a"].update(last="43"), "sequences", "stands at 43",
    ),
    "a definition": (lambda world: world.replayed["schema"].update({"table public.t": "zz"}), "schema", "differs"),
    "a role": (lambda world: world.replayed["roles"].pop("app"), "roles", "app is missing"),
    "an index": (lambda world: setattr(world, "sound", FAIL), "amcheck", ""),
    "damage on the way": (
        lambda world: world.ends.update(stand=IntegrityError("read", "wal_x/y", "it has another SHA-256")), "replay",
        "another SHA-256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("red", RED)
def test_each_difference_is_red_by_itself(world: World, red: str) -> None:
    world.dump()
    change, name, words = RED[red]
    world.ahead = {"public.a": 32}
    change(world)
    checks = world.levels()
    assert [check.name for check in checks if check.result != PASS] == [name]
    assert worst(checks)[1] == FAIL
    assert words in worst(checks)[2]


def test_a_sequence_may_be_logged_ahead(world: World) -> None:
    world.dump()
    world.ahead = {"public.a": 32}
    world.replayed["sequences"]["before"]["public.a"].update(last="42")
    assert {check.result for check in world.levels()} == {PASS}


def test_tables_that_wal_does_not_have_are_left_out_and_named(world: World) -> None:
    world.dump()
    world.unlogged = ["public.t"]
    rows_of(world, rows=0, hash="0")
    check = next(check for check in world.levels() if check.name == "tables")
    assert (check.result, "public.t" in check.detail) == (PASS, True)


def test_sequences_that_wal_does_not_have_are_left_out(world: World) -> None:
    world.dump()
    world.replayed["sequences"]["before"]["public.a"].update(last=None)  # it begins anew
    assert worst(world.levels())[:2] == ("sequences", FAIL)
    world.unlogged = ["public.a"]
    checks = world.levels()
    assert {check.result for check in checks} == {PASS}
    assert not any("unlogged" in check.detail for check in checks), "it is no table"


CUTS: dict[str, tuple[Cut, str]] = {
    "one COMMIT later": (dataclasses.replace(GOOD, lsn=COMMIT[746], until=COMMIT[753]), f"it is at {COMMIT[746]}"),
    "one COMMIT earlier": (dataclasses.replace(GOOD, lsn=COMMIT[744]), f"it is at {COMMIT[744]}"),
    "it was none": (dataclasses.replace(GOOD, lsn=COMMIT[744], snapshot="744:746:744"), "which lies behind it"),
}


@pytest.mark.parametrize("moved", CUTS)
def test_a_cut_that_is_elsewhere_is_red(world: World, moved: str) -> None:
    cut, words = CUTS[moved]
    world.dump(cut)
    checks = world.levels()
    assert [check.name for check in checks] == ["replay", "cut"], "what stands there is compared with nothing"
    assert (checks[1].result, words in checks[1].detail) == (FAIL, True)


@pytest.mark.parametrize("step", ["promote", "write"])
def test_a_server_that_does_not_open_is_not_compared(world: World, step: str) -> None:
    world.dump()
    world.ends[step] = UnverifiedError(step, "scratch", "it is still in recovery")
    checks = world.levels()
    assert worst(checks)[:2] == ("promotion", COULD_NOT_VERIFY)
    assert "amcheck --all" not in world.did


@pytest.mark.parametrize(("step", "name"), [("compare shop", "comparison"), ("stop", "stop")])
def test_what_ends_on_the_way_is_told(world: World, step: str, name: str) -> None:
    world.dump()
    world.ends[step] = UnverifiedError(step, "scratch", "no answer")
    assert worst(world.levels())[:2] == (name, COULD_NOT_VERIFY)


# --- what there is to compare with ---


def test_without_a_cut_it_could_not_be_verified_and_was_replayed(world: World) -> None:
    world.dump(Cut(why="none of 50 snapshots has one: they overtook each other"))
    checks = world.levels()
    assert [check.name for check in checks] == ["replay", "cut"]
    assert worst(checks)[:2] == ("cut", COULD_NOT_VERIFY)
    assert "none of 50 snapshots" in worst(checks)[2]
    assert world.route is not None
    assert isinstance(world.route.instant, Latest)


NO_GOAL: list[tuple[str, list[tuple[Optional[Cut], float]], str]] = [
    ("no dump", [], "no dump was taken since the base"),
    ("one before it", [(GOOD, -60)], "no dump was taken since the base"),
    ("one that did not look", [(None, 4)], "nobody looked for a cut"),
    ("another server's", [(dataclasses.replace(GOOD, system="7"), 4)], "of another server"),
    ("a cut before the base", [(dataclasses.replace(GOOD, lsn="0/800000"), 4)], "before the base"),
]


@pytest.mark.parametrize(("dumps", "why"), [case[1:] for case in NO_GOAL], ids=[case[0] for case in NO_GOAL])
def test_what_is_no_goal(world: World, dumps: list[tuple[Optional[Cut], float]], why: str) -> None:
    for cut, minutes in dumps:
        world.dump(cut, minutes)
    name, result, detail = worst(world.levels())
    assert (name, result, why in detail) == ("cut", COULD_NOT_VERIFY, True)


def test_the_newest_dump_that_has_one_is_the_goal(world: World) -> None:
    earlier = world.dump(minutes=3)
    world.dump(None, minutes=5)
    broken = world.dump(minutes=6)
    Path(world.repo.location("database", broken.id), "globals.sql.gz").unlink()
    checks = world.levels()
    assert {check.result for check in checks} == {PASS}
    assert earlier.id in checks[1].detail


def test_a_fingerprint_that_was_damaged_says_nothing_of_the_base(world: World) -> None:
    dump = world.dump()
    path = Path(world.repo.location("database", dump.id), "fingerprint.json")
    path.write_bytes(path.read_bytes().replace(b'"123"', b'"124"'))
    name, result, detail = worst(world.levels())
    assert (name, result) == ("fingerprint", COULD_NOT_VERIFY)
    assert "another SHA-256" in detail


# --- the WAL on the way ---


def test_wal_that_was_not_sent_yet_is_waited_for(world: World) -> None:
    world.dump(dataclasses.replace(GOOD, lsn="0/2000000", until="0/2000100"))
    name, result, detail = worst(world.levels())
    assert (name, result, "received until 0/1088118" in detail) == ("replay", COULD_NOT_VERIFY, True)
    assert world.did == []


def test_another_timeline_is_not_gone_to(world: World) -> None:
    world.dump(dataclasses.replace(GOOD, timeline=2))
    assert worst(world.levels())[:2] == ("replay", COULD_NOT_VERIFY)
    assert world.did == []


def notes(world: World) -> list[Path]:
    return sorted(Path(world.repo.location("wal", SPAN)).glob("note-*"))


def lost(world: World) -> None:
    notes(world)[0].unlink()


def swapped(world: World) -> None:
    first, second = notes(world)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def flipped(world: World) -> None:
    data = bytearray(notes(world)[1].read_bytes())
    data[len(data) // 2] ^= 1
    notes(world)[1].write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [lost, swapped, flipped])
def test_a_note_that_is_not_as_it_was_is_red(world: World, damage: Callable[[World], None]) -> None:
    world.dump()
    damage(world)
    name, result, _detail = worst(world.levels())
    assert (name, result, world.did) == ("replay", FAIL, [])


@pytest.mark.parametrize("damage", [lost, swapped, flipped])
def test_so_is_one_of_a_span_that_was_closed(world: World, damage: Callable[[World], None]) -> None:
    """A replay reads its pieces alone."""
    world.dump()
    world.close()
    assert {check.result for check in world.levels()} == {PASS}
    world.did.clear()
    damage(world)
    name, result, _detail = worst(world.levels())
    assert (name, result, world.did) == ("replay", FAIL, [])


# --- what is recorded ---


def verified(world: World, monkeypatch: pytest.MonkeyPatch) -> catalog.Entry:
    monkeypatch.setattr(clock, "now", lambda: AT + timedelta(hours=1))
    verify._verify_backup(world.run, world.repo, BASE, "restore", None, world.log.append, True)
    (entry,) = catalog.entries(world.repo, "base", "shop")
    return entry


def test_a_proof_is_one_by_which_wal_may_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dump()
    entry = verified(world, monkeypatch)
    assert entry.good
    assert entry.proven_at is not None


def test_a_base_without_a_cut_is_proved_at_the_level_below(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dump(Cut(why="a standby"))
    entry = verified(world, monkeypatch)
    assert entry.proven_at is None
    assert entry.good
    assert {level: item.verdict for level, item in entry.proof.items()} == {
        "archive": PASS, "restore": COULD_NOT_VERIFY,
    }  # fmt: skip
    assert catalog.proved(entry) == "archive"


def test_a_base_that_is_not_equal_is_not_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dump()
    rows_of(world, rows=6)
    entry = verified(world, monkeypatch)
    assert not entry.good
    assert "public.t has 6 rows" in entry.problem


def test_it_is_named_by_its_component(world: World) -> None:
    config = world.run.config
    assert verify.targets(config, world.repo, "base") == ([BASE], [])
    dump = world.dump()
    assert verify.targets(config, world.repo, "database") == ([dump.id], [])
    with pytest.raises(UnverifiedError, match="there is no files backup"):
        verify.targets(config, world.repo, "files")
