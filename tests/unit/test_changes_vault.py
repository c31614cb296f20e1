# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes of objects in the vault while their span is open: in what order they come there, what a vault that is
away costs, what is never taken for a copy, and what can be gone to where the vault alone is left."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, throttle
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import changes, follow
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.changes import AsOf, Trail
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import choose
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.choose import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import following, prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, notes, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest as manifests
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import VAULT, Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import flip, store
from test_changes import World
from test_wal_vault import Vault, files

DAY = timedelta(days=1)


class Protected(World):
    """A stack whose store is followed, with a vault that does as it is told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        super().__init__(root, monkeypatch, vault={"repository_bucket": "copies"}, **more)
        self.there = Vault(root / "vault")
        monkeypatch.setattr(copies, "vault", lambda run: self.there)
        monkeypatch.setattr(following.endpoints, "doubts", lambda run, log: Doubts())
        self.put("first")
        self.point = self.backup()

    def observe(self, *, force: bool = False) -> None:
        following.observe(self.run, self.at, self.lines.append, force=force)

    def write(self, *keys: str) -> datetime:
        """Let these be written, and a look be taken. Returns the time of that."""
        for key in keys:
            self.put(key)
        at = self.later()
        self.observe()
        return at

    @property
    def copied(self) -> follow.Copied:
        state = follow.copied(self.run.config)
        assert state is not None
        return state

    def same(self) -> None:
        """Whether the vault has each file of the repository's spans, byte for byte, and nothing else."""
        assert files(self.there.root / "changes") == files(self.root / "backup" / "changes")

    def open_span(self) -> Path:
        """The folder of the open span in the repository."""
        (identity,) = store(self.root).growing("changes")
        return self.root / "backup" / "changes" / identity

    def check(self, later: float = 0) -> Check:
        checks = {check.name: check for check in following.checks(self.run.config, self.later(later))}
        return checks["object changes off the host"]

    def lose(self) -> None:
        """The host's repository, with everything in it. The vault has the backups, as after a night."""
        shutil.copytree(self.root / "backup" / "objects", self.there.root / "objects")
        shutil.rmtree(self.root / "backup")

    def chosen(self, monkeypatch: pytest.MonkeyPatch, instant: datetime) -> Point:
        """What a recovery to that instant takes."""
        run = Opened(self.run.config)
        sources = Sources(run, "objects", "latest", instant, reach=choose.reach(run))
        entry, point, _passed = choose.choose(run.config, sources, Request(before=instant))
        assert entry.source == VAULT
        return point


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Protected:
    return Protected(tmp_path, monkeypatch)


def written(world: Protected) -> list[str]:
    """What came into the vault's spans, in that order."""
    kinds = {"note": "note", "0000": "lines", "mani": "manifest"}
    return [kinds[name[:4]] for name in world.there.written if name[:4] in kinds]


def test_each_look_brings_the_lines_and_then_their_note(world: Protected) -> None:
    world.write("a")
    at = world.write("b", "c")
    world.same()
    assert written(world) == ["lines", "note", "lines", "note"]
    trail = Trail.read(world.there, "shop")
    assert (trail.unread, [span.details.last_at for span in trail.spans]) == ({}, [at])
    assert world.copied.reached == changes.Reached(at)


def test_a_look_that_finds_nothing_brings_its_note(world: Protected) -> None:
    world.write("a")
    at = world.write()
    world.same()
    assert written(world) == ["lines", "note", "note"]
    assert world.copied.reached == changes.Reached(at)


def test_where_nothing_is_lacking_the_vault_is_asked_nothing(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a")

    def asked(*_: Any) -> None:
        raise AssertionError

    for name in ("published", "files", "add", "notes"):
        monkeypatch.setattr(Vault, name, asked)
    world.later(5)
    world.observe()
    assert world.copied.failed == ""


def test_a_closed_span_is_a_backup_in_the_vault(world: Protected) -> None:
    for number in range(63):
        world.write(f"k{number}")
    assert len(world.there.published("changes")) == 1
    world.same()
    (identity,) = world.there.published("changes")
    data = world.there.manifest("changes", identity)
    made = manifests.parse(data, component="changes", expected_id=identity)
    assert changes.check(world.there, made).result == "PASS"
    assert next(iter(points.continuous(world.there, "shop")["changes"])).good


def test_a_manifest_that_was_refused_comes_before_the_next_look(
    world: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All notes are there, so that nothing but the manifest is lacking."""
    real = Vault._write_new

    def write(self: Vault, parts: tuple[str, ...], data: bytes) -> bool:
        if parts[-1] == "manifest.json":
            raise LifeboatError("write", "s3://copies", "slow down")
        return real(self, parts, data)

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "_write_new", write)
        while not store(world.root).published("changes"):
            world.write()
    assert world.there.published("changes") == []
    world.later(61)
    follow.push(world.run, world.lines.append)
    assert world.there.published("changes") == store(world.root).published("changes")
    world.same()


def test_a_vault_that_was_away_is_brought_up_to_date_in_order_by_looks_that_write_nothing(world: Protected) -> None:
    world.write("a")
    reached = world.copied.reached
    world.there.away = "connection refused"
    for number in range(70):
        world.write(f"k{number}")
    assert len(store(world.root).published("changes")) == 1, "the repository has all of it"
    assert (world.copied.reached, world.copied.failed) == (reached, "connection refused")
    assert world.check().result == "FAIL"
    world.there.away = ""
    world.there.written.clear()
    slow = follow.ledger(world.run.config)
    assert slow is not None
    follow.remember(world.run.config, replace(slow, listing_seconds=100.0))
    world.later(61)
    world.observe()
    assert follow.ledger(world.run.config) == replace(slow, listing_seconds=100.0), "it was not time for a look"
    world.same()
    assert [each for each in written(world) if each != "lines"].index("manifest") == 60, "of the first span, then"
    assert (world.copied.failed, world.copied.reached) == ("", slow.reached)
    assert world.check().result == "PASS"


def test_a_vault_that_failed_is_left_in_peace_for_a_minute(world: Protected) -> None:
    world.there.away = "connection refused"
    world.write("a")
    world.there.away = ""
    world.later(30)
    world.observe()
    assert world.there.ids("changes") == []
    world.later(31)
    world.observe()
    world.same()


def test_a_look_that_fails_keeps_nothing_from_the_vault(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    world.there.away = "connection refused"
    world.write("a")
    world.there.away = ""
    world.later()

    def refuse(*_: Any) -> None:
        raise UsageError("follow", "shop", "the store is away")

    monkeypatch.setattr(follow, "refuse", refuse)
    with pytest.raises(UsageError, match="the store is away"):
        world.observe()
    world.same()


def test_a_vault_that_fails_costs_no_look(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(run: Opened) -> None:
        raise LifeboatError("reach the vault", "shop", "vault_access_key is not set")

    monkeypatch.setattr(copies, "vault", closed)
    world.write("a")
    assert store(world.root).growing("changes"), "the repository has it"
    assert "vault_access_key is not set" in world.copied.failed
    assert "yet: vault_access_key is not set" in world.check().detail


def test_a_vault_that_is_full_gets_the_rest_when_it_has_room(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = Vault._write_new, 5

    def write(self: Vault, parts: tuple[str, ...], data: bytes) -> bool:
        if len(self.written) >= room:
            raise LifeboatError("write", "s3://copies", "no space is left")
        return real(self, parts, data)

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "_write_new", write)
        for key in ("a", "b", "c", "d"):
            world.write(key)
        assert world.copied.failed == "no space is left"
    trail = Trail.read(world.there, "shop")
    assert trail.unread == {}
    assert world.copied.reached == changes.Reached(trail.spans[0].details.last_at), "what is there is a beginning"
    world.write("e")
    world.same()


def test_the_time_of_a_pass_ends_and_the_next_goes_on(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that takes 2 s for a file holds the next look up by 6 s."""
    real, now = Vault._write_new, [time.monotonic()]

    def write(self: Vault, parts: tuple[str, ...], data: bytes) -> bool:
        now[0] += 2
        return real(self, parts, data)

    world.there.away = "away"
    for number in range(6):
        world.write(f"k{number}")
    world.there.away = ""
    world.there.written.clear()
    monkeypatch.setattr(Vault, "_write_new", write)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    took = []
    for _ in range(6):
        before = now[0]
        world.later()
        follow.push(world.run, world.lines.append)
        took.append(now[0] - before)
    assert took[1:] == [6, 6, 6, 0, 0], (
        "of twelve files three each; the first pass wrote the marker and the source, too"
    )
    assert any("goes on in the next pass" in text for text in world.lines)
    world.same()


def test_the_bandwidth_bounds_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Protected(tmp_path, monkeypatch, objects={"bandwidth": "20M"})
    took: list[tuple[float, int]] = []
    monkeypatch.setattr(throttle.Rate, "take", lambda rate, size: took.append((rate._limit, size)))
    world.write("a")
    assert {limit for limit, _size in took} == {20 * 1024.0**2}
    assert sum(size for _limit, size in took) == sum(map(len, files(world.there.root / "changes").values()))


@pytest.mark.parametrize("name", ["000002.jsonl", "note-000002", "manifest.json"])
def test_a_pass_that_was_killed_costs_nothing(world: Protected, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Killed(BaseException):
        pass

    world.write("a")
    real = Vault._write_new

    def write(self: Vault, parts: tuple[str, ...], data: bytes) -> bool:
        done = real(self, parts, data)
        if name in parts[-1]:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Vault, "_write_new", write)
        with pytest.raises(Killed):
            for number in range(63):
                world.write(f"k{number}")
    assert Trail.read(world.there, "shop").unread == {}
    world.write("z")
    world.same()


def test_no_two_send_at_once(world: Protected) -> None:
    world.there.away = "away"
    world.write("a")
    world.there.away = ""
    world.later()
    with lock.held("shop.changes", "test"):
        follow.push(world.run, world.lines.append)
    assert world.there.ids("changes") == []
    follow.push(world.run, world.lines.append)
    world.same()


def test_a_lost_memory_sends_nothing_twice_that_is_there(world: Protected) -> None:
    world.write("a")
    world.write("b")
    (world.run.config.state / follow.SENT).unlink()
    world.there.written.clear()
    world.write("c")
    assert written(world).count("lines") == 1, "the new ones"
    world.same()


def test_what_grows_is_left_to_its_relay(world: Protected) -> None:
    """The nightly copies send no closed span of what is followed, and compare the one that is there."""
    world.there.away = "away"
    for number in range(63):
        world.write(f"k{number}")
    world.there.away = ""
    shutil.rmtree(world.root / "backup" / "objects")
    done = copies.catch_up(world.run, log=world.lines.append)
    assert (done.copied, done.failed) == ((), ())
    assert world.there.ids("changes") == []


# What is never taken for a copy.


def test_what_is_damaged_here_is_not_sent_and_holds_up_nothing(world: Protected) -> None:
    world.there.away = "away"
    world.write("a")
    first = world.open_span()
    for number in range(62):
        world.write(f"k{number}")
    world.backup()
    world.write()
    world.there.away = ""
    flip(first / "000001.jsonl.gz")
    world.write("z")
    world.write()
    assert world.there.published("changes") == []
    assert len(world.there.growing("changes")) == 1, "the one after it"
    assert first.name in world.copied.passed_over
    check = world.check()
    assert check.result == "FAIL"
    assert f"{first.name} is not there: it has another length or SHA-256" in check.detail


def test_a_note_that_somebody_put_there_is_not_followed(world: Protected) -> None:
    at = world.write("a")
    identity = world.open_span().name
    (world.there.root / "changes" / identity / "note-000002.json").write_bytes(b"{}")
    world.write("b")
    assert identity in world.copied.passed_over
    assert world.copied.reached == changes.Reached(at), "nothing newer is claimed"
    assert "with other bytes" in world.check().detail


def test_a_note_that_does_not_follow_is_not_sent(world: Protected) -> None:
    world.there.away = "away"
    world.write("a")
    world.write("b")
    folder = world.open_span()
    shutil.copy(folder / "note-000001.json", folder / "swapped")
    (folder / "note-000002.json").unlink()
    (folder / "swapped").rename(folder / "note-000002.json")
    world.there.away = ""
    world.later()
    follow.push(world.run, world.lines.append)
    assert world.there.notes("changes", folder.name) == ["note-000001.json"]
    assert "it is note 1 of" in world.copied.passed_over[folder.name]


def test_a_note_after_another_note_is_not_sent(world: Protected) -> None:
    """It is the second, and another one was the first."""
    world.there.away = "away"
    world.write("a")
    world.write("b")
    path = world.open_span() / "note-000002.json"
    note = notes.parse(changes.Note, path.read_bytes(), path.parent.name, 2)
    path.chmod(0o600)
    path.write_bytes(notes.to_bytes(replace(note, previous="0" * 64)))
    world.there.away = ""
    world.later()
    follow.push(world.run, world.lines.append)
    assert world.there.notes("changes", path.parent.name) == ["note-000001.json"]
    assert "does not follow the note before it" in world.copied.passed_over[path.parent.name]


def test_another_stacks_vault_is_not_written_to(world: Protected) -> None:
    other = Vault.__mro__[1](world.there.root)  # type: ignore[call-arg]
    other.stack = "wiki"
    other.require_ours(make=True)
    world.write("a")
    assert world.there.ids("changes") == []
    assert "wiki" in world.copied.failed


# From the vault alone.


def test_where_the_repository_is_lost_the_open_span_in_the_vault_leads_to_its_instants(
    world: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        world.put(f"k{number % 20}", b"%d" % number)
        if number % 7 == 6:
            world.delete(f"k{number % 20}")
        world.later()
        world.observe()
    middle, end = world.at - timedelta(minutes=4), world.at
    assert (len(world.there.published("changes")), len(world.there.growing("changes"))) == (1, 1)
    world.lose()
    for instant in (middle, end):
        point = world.chosen(monkeypatch, instant)
        assert isinstance(point, AsOf)
        assert {row.key: row.etag for row in point.entries()} == world.held_at(instant)
    assert world.held_at(middle) != world.held_at(end)
    beyond = world.chosen(monkeypatch, end + timedelta(seconds=1))
    assert not isinstance(beyond, AsOf), "the last note says until when"


def test_a_vault_that_is_behind_leads_to_the_last_note_that_it_has(
    world: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = world.write("a")
    world.there.away = "away"
    later = world.write("b")
    world.there.away = ""
    world.lose()
    assert isinstance(world.chosen(monkeypatch, there), AsOf)
    assert not isinstance(world.chosen(monkeypatch, later), AsOf)


@pytest.mark.parametrize("how", ["altered", "swapped", "withheld", "lines"])
def test_what_was_altered_in_the_vault_leads_nowhere(
    world: Protected, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for key in ("a", "b", "c"):
        at = world.write(key)
    folder = world.there.root / "changes" / world.open_span().name
    names = [folder / notes.note_name(number) for number in (1, 2, 3)]
    if how == "altered":
        names[1].write_bytes(names[1].read_bytes().replace(b'"changes": 1', b'"changes": 2'))
    elif how == "swapped":
        first, second = names[0].read_bytes(), names[1].read_bytes()
        names[0].write_bytes(second)
        names[1].write_bytes(first)
    elif how == "withheld":
        names[1].unlink()
    else:
        flip(folder / "000002.jsonl.gz")
    world.lose()
    point = world.chosen(monkeypatch, at)
    assert not isinstance(point, AsOf), "it is the backup's, and the plan says by how much it misses"
    assert [row.key for row in point.entries()] == ["first"]


def test_files_that_no_note_names_are_no_span(world: Protected) -> None:
    world.write("a")
    folder = world.there.root / "changes" / world.open_span().name
    (folder / "note-000001.json").unlink()
    trail = Trail.read(world.there, "shop")
    assert (trail.spans, trail.unread) == ((), {}), "or a prune of the mirror would wait for it for ever"


# What goes.


def test_an_open_span_that_nobody_closes_goes_with_the_window(world: Protected) -> None:
    world.write("a")
    orphan = world.open_span()
    for _ in range(11):
        world.later(DAY.total_seconds())
        world.backup()
    sides = [
        prune.Side(name, repo, points.backups(store(world.root), "shop"), ())
        for name, repo in (("repository", store(world.root)), ("vault", world.there))
    ]
    own, there = prune._trails(world.run.config, sides, world.at, {})
    assert (own.delete, there.delete) == ([], []), "one that the repository has may go on"
    shutil.rmtree(orphan)
    own, there = prune._trails(world.run.config, sides, world.at, {})
    assert (own.delete, there.delete) == ([], [orphan.name])
    prune._hide(world.there, orphan.name)
    assert world.there.ids("changes") == []


# What is said of it.


def test_status_says_what_left_the_host(world: Protected) -> None:
    world.there.away = "connection refused"
    world.write("a")
    assert "nothing is in s3://copies/shop" in world.check().detail
    assert "objects 0 s here, nothing in the vault yet (2 objects" in rpo_of(world).detail
    world.there.away = ""
    world.later(30)
    world.write("b")
    check = world.check(later=30)
    assert (check.result, check.measured, check.limit) == ("PASS", 30.0, 300.0)
    assert "objects 30 s here, 30 s in the vault (3 objects" in rpo_of(world).detail
    world.there.away = "connection refused"
    for _ in range(4):
        world.write()
    assert (world.check().result, world.check().measured) == ("PASS", 270.0), "one that failed is not behind yet"
    assert "the last attempt failed: connection refused" in world.check().detail
    world.write()
    behind, off, rpo = following.checks(world.run.config, world.at)
    assert (behind.result, off.result, rpo.result) == ("PASS", "FAIL", "PASS")
    assert "objects 0 s here, 5 min 30 s in the vault" in rpo.detail
    reached = following.status(world.run, world.at).as_dict()
    assert reached["off_the_host"] < reached["reached"]  # type: ignore[operator]


def rpo_of(world: Protected) -> Check:
    return {check.name: check for check in following.checks(world.run.config, world.at)}["rpo"]


def test_where_no_copies_are_made_nothing_is_said_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.put("a")
    world.backup()
    world.later()
    world.look()
    follow.push(world.run, world.lines.append)
    assert [check.name for check in following.checks(world.run.config, world.at)] == ["object changes", "rpo"]
    assert follow.copied(world.run.config) is None
