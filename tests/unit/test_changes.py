# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes of objects between two backups: what was written down is the bucket of any instant."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import builders
import object_world
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import changes, follow, guard
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.changes import Change, Note, Reached, Trail
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.state import State
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import choose
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.choose import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import following
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import notes
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ChangesDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import parse
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Doubts, Listed, Version
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.copier import Copied
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

T = builders.NOW
MILLISECOND = timedelta(milliseconds=1)
SPAN = "changes_backup_20261201_130000"


class Side:
    """A bucket with versions. rows: of each key the newest first."""

    def __init__(self, name: str) -> None:
        self.name, self.endpoint_url, self.url = name, "http://127.0.0.1:9000", f"s3://{name}"
        self.rows: dict[str, list[Version]] = {}
        self.order = self.versions_order = ""

    def put(self, key: str, body: bytes, at: datetime) -> Version:
        past = self.rows.setdefault(key, [])
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        past.insert(0, Version(key, len(body), etag, at, f"{self.name}-{key}-{len(past)}"))
        self._tops(key)
        return past[0]

    def delete(self, key: str, at: datetime) -> None:
        past = self.rows[key]
        past.insert(0, Version(key, 0, "", at, f"{self.name}-{key}-{len(past)}", deleted=True))
        self._tops(key)

    def remove(self, key: str) -> None:
        """Its newest version, for good."""
        self.rows[key].pop(0)
        self._tops(key)

    def _tops(self, key: str) -> None:
        self.rows[key] = [row._replace(latest=not number) for number, row in enumerate(self.rows[key])]

    def current(self) -> Iterator[Version]:
        tops = (past[0] for _key, past in sorted(self.rows.items()) if past)
        return (row._replace(version="null") for row in tops if not row.deleted)

    def ask(self, method: str, key: str, *_: Any, **_more: Any) -> Any:
        raise NotFoundError(method, key, "there is no such object")


class Moving:
    """A copier between two of them."""

    def __init__(self, source: Side, target: Side, *_: Any, **_more: Any) -> None:
        self._target = target

    def __enter__(self) -> Moving:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def copy(self, key: str, size: int, etag: str, version: str) -> Copied:
        past = self._target.rows.setdefault(key, [])
        there = f"vault-{key}-{len(past)}"
        past.insert(0, Version(key, size, etag, T, there))
        return Copied(key, size, etag, "", there, etag, version)


class World:
    """A stack whose store is followed. at: what the clock shows."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.root, self.at = root, T
        self.source, self.vault = Side("uploads"), Side("vault")
        objects = {**object_world.OBJECTS, "changes_seconds": 60, **more.pop("objects", {})}
        made = builders.make_config(
            root, objects=objects, vault={**object_world.VAULT, **more.pop("vault", {})}, **more
        )
        self.run = Opened(replace(made, secrets=object_world.SECRETS))
        self.lines: list[str] = []
        monkeypatch.setattr(clock, "now", lambda: self.at)
        monkeypatch.setattr(buckets, "source", lambda run: self.source)
        monkeypatch.setattr(buckets, "vault", lambda run: self.vault)
        monkeypatch.setattr(bucket, "objects", self.objects)
        monkeypatch.setattr(bucket, "versions", self.versions)
        monkeypatch.setattr(bucket, "versioning", lambda one: "Enabled")
        monkeypatch.setattr(bucket, "lead", lambda one: (-0.5, 0.5))
        monkeypatch.setattr(follow, "Copier", Moving)

    def objects(self, one: Side, prefix: str = "", watch: Optional[bucket.Watch] = None) -> Iterator[Version]:
        yield from (row for row in one.current() if row.key.startswith(prefix))
        if watch:
            watch.order = one.order

    def versions(self, one: Side, prefix: str = "", watch: Optional[bucket.Watch] = None) -> Iterator[Version]:
        yield from (row for key, past in sorted(one.rows.items()) if key.startswith(prefix) for row in past)
        if watch:
            watch.order = one.versions_order

    def put(self, key: str, body: bytes = b"x") -> None:
        self.at += MILLISECOND
        self.source.put(key, body, self.at)

    def delete(self, key: str) -> None:
        self.at += MILLISECOND
        self.source.delete(key, self.at)

    def later(self, seconds: float = 60) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at

    def backup(self) -> Point:
        """An objects backup of what the bucket holds now."""
        held = {}
        for row in self.source.current():
            held[row.key] = object_world.Object(b"x" * row.size, row.modified, row.etag)
        return object_world.publish_objects(self.root, held, self.at)

    def look(self) -> follow.Ledger:
        return follow.follow(self.run, log=self.lines.append)

    @property
    def trail(self) -> Trail:
        return Trail.read(builders.store(self.root), "shop")

    def as_of(self, point: Point, at: datetime) -> dict[str, str]:
        found = changes.as_of(point, self.trail, at)
        assert isinstance(found, changes.AsOf)
        assert found.at == at
        rows = list(found.entries())
        assert [row.key for row in rows] == sorted(row.key for row in rows)
        assert [row.key for row in found.lines()] == [row.key for row in rows]
        return {row.key: row.etag for row in rows}

    def held_at(self, at: datetime) -> dict[str, str]:
        """What the bucket held just before that time."""
        held = {}
        for key, past in self.source.rows.items():
            row = next((row for row in past if row.modified < at), None)
            if row and not row.deleted:
                held[key] = row.etag
        return held


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


# The format.


def change(key: str = "a", deleted: bool = False) -> Change:
    return Change("uploads", T, Listed(key, 3, "e", T, "v1", "v-a", "e", None), deleted)


def test_a_line_is_read_as_it_was_written() -> None:
    for key in ("a", "日本\u2028語", 'a"b\\', "a\nb\x01", "/lead//", "k" * 1024):
        for each in (change(key), change(key, deleted=True)):
            assert changes.parse_line(each.encoded, "x") == each
            assert each.encoded.count(b"\n") == 1
    body = json.loads(change().encoded)
    assert {name: body[name] for name in ("bucket", "key", "at", "deleted", "version", "vault_version")} == {
        "bucket": "uploads", "key": "a", "at": clock.format_time(T), "deleted": False, "version": "v1",
        "vault_version": "v-a",
    }  # fmt: skip


WHOLE = change().encoded


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[]", b"\xff", b"null", WHOLE[:-9], WHOLE.replace(b'"bucket":"uploads"', b'"b":1'),
        WHOLE.replace(b'"deleted":false', b'"deleted":0'), WHOLE.replace(b'"size":3', b'"size":-3'),
        WHOLE.replace(b'"at":"2', b'"at":"x'), b'{"a":' * 5000, b"x" * (2 << 20),
    ],
)  # fmt: skip
def test_no_other_line_is_a_change(raw: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"read the changes|line 7"):
        changes.parse_line(raw, "line 7")


def note(**more: Any) -> Note:
    entry = notes.Entry("000001.jsonl.gz", 10, "9f" * 32, 20)
    standard = Note(SPAN, "shop", 1, Reached(T, {"avatars": None, "b": T}), T, {"b": T}, (entry,))
    return replace(standard, **more)


def test_a_note_is_read_as_it_was_written() -> None:
    for each in (note(), note(number=2, previous="ab" * 32, pieces=(), recipients=("age1x",), clock_skew=-0.5)):
        assert notes.parse(Note, notes.to_bytes(each), SPAN, each.number, "shop") == each


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"component": "wal"}, "it is of 'wal'"),
        ({"id": "wal_backup_20261201_130000"}, "it is of 'changes'"),
        ({"reached": Reached(T - MILLISECOND)}, "less than it begins with"),
        ({"pieces": (notes.Entry("manifest.json", 1, "9f" * 32, 1),)}, "not a file of changes"),
        ({"pieces": (notes.Entry("../000001.jsonl.gz", 1, "9f" * 32, 1),)}, "not a file of changes"),
        ({"pieces": (notes.Entry("000001.jsonl.gz", 1, "9F" * 32, 1),)}, "no SHA-256"),
        ({"pieces": (notes.Entry("000001.jsonl.gz", 1, "9f" * 32, 1),) * 2}, "names a file twice"),
        ({"previous": "ab" * 32}, "previous"),
    ],
)
def test_no_other_note_is_written_or_read(more: dict[str, Any], cause: str) -> None:
    with pytest.raises(IntegrityError, match=cause):
        notes.to_bytes(note(**more))


def test_the_details_of_a_span_say_what_is_in_it() -> None:
    details = ChangesDetails(T, T, lengths={"000001.jsonl.gz": 1})
    assert details.impossible(["000001.jsonl.gz"]) == ""
    assert "do not name the same" in details.impossible([])
    assert "not a file of changes" in replace(details, lengths={"x": 1}).impossible(["x"])
    assert "ends before" in replace(details, last_at=T - MILLISECOND).impossible(["000001.jsonl.gz"])


# Looks.


def test_what_was_written_overwritten_and_deleted_is_there_at_its_instant(world: World) -> None:
    for key in ("a", "b", "c"):
        world.put(key, b"1")
    point = world.backup()
    times = [world.later()]
    world.put("a", b"22")
    world.put("d", b"4")
    times.append(world.later())
    world.look()
    world.delete("b")
    world.put("a", b"333")
    world.put("a", b"4444")
    times.append(world.later())
    state = world.look()
    assert (state.changes, state.objects, state.left) == (3, 3, {})
    for at in times:
        assert world.as_of(point, at) == world.held_at(at), at
    # Both versions of `a` that were there between two looks.
    between = next(row.modified for row in world.source.rows["a"] if row.size == 3) + MILLISECOND
    assert world.as_of(point, between)["a"] == hashlib.md5(b"333", usedforsecurity=False).hexdigest()
    assert len(world.vault.rows["a"]) == 3
    assert changes.as_of(point, world.trail, world.later()) is point, "nobody looked since"


@pytest.mark.parametrize("seed", range(3))
def test_any_instant_after_any_backup_is_what_the_bucket_held(world: World, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    keys = [f"k/{number}" for number in range(12)]
    for key in keys[:6]:
        world.put(key, key.encode())
    points, looked = [world.backup()], set(keys[:6])
    begin = -1  # the backup that the first look was held against
    for _number in range(30):
        world.later(chance.choice([1, 20, 600]))
        alive = {row.key for row in world.source.current()}
        for _ in range(chance.randint(0, 4)):
            world.later(0.5)
            key = chance.choice(keys)
            if chance.random() < 0.35 and key in alive & looked:
                world.delete(key)
                alive.discard(key)
                looked.discard(key)  # made again it is new: nobody may see it go
            else:
                world.put(key, b"%d" % chance.getrandbits(40))
                alive.add(key)
        if chance.random() < 0.15:
            world.later(3)
            points.append(world.backup())
            world.later(3)
        if chance.random() < 0.6:
            world.look()
            begin = len(points) - 1 if begin < 0 else begin
            looked = {row.key for row in world.source.current()}
    last = world.look().reached.at
    assert len(points) > 1
    assert world.trail.unread == {}
    assert any(identity for identity in builders.store(world.root).published("changes"))
    assert all(changes.as_of(point, world.trail, last) is point for point in points[:begin]), "nobody looked then"
    for point in points[begin:]:
        span = (last - point.at) / MILLISECOND
        for at in [last, *(point.at + chance.randint(3000, int(span)) * MILLISECOND for _ in range(8))]:
            assert world.as_of(point, at) == world.held_at(at), (seed, point.id, at)


def test_an_older_version_that_is_back_is_what_the_bucket_holds_since_it_was_seen(world: World) -> None:
    world.put("a", b"1")
    point = world.backup()
    world.later()
    world.put("a", b"22")
    before = world.later()
    world.look()
    world.source.remove("a")
    after = world.later()
    world.look()
    one, two = (hashlib.md5(body, usedforsecurity=False).hexdigest() for body in (b"1", b"22"))
    assert (world.as_of(point, before), world.as_of(point, after)) == ({"a": two}, {"a": two})
    world.later()
    world.look()
    assert world.as_of(point, world.later(-1)) == {"a": one}


def test_an_object_that_is_gone_with_its_versions_is_gone_when_that_was_seen(world: World) -> None:
    world.put("a")
    point = world.backup()
    world.later()
    del world.source.rows["a"]
    world.later()
    world.look()
    world.later()
    world.look()
    assert world.as_of(point, world.later(-1)) == {}


def test_a_look_that_finds_nothing_says_until_when(world: World) -> None:
    world.put("a")
    point = world.backup()
    for _ in range(3):
        world.later()
        state = world.look()
        assert state.changes == 0
    span = world.trail.spans[0]
    assert (len(world.trail.spans), span.details.notes, span.files) == (1, 3, ())
    assert world.trail.reach("uploads", point.at, world.at) == world.at
    assert world.trail.reach("uploads", point.at, world.later(1)) == state.reached.at
    assert world.trail.reach("other", point.at - timedelta(days=1), world.at) is None
    assert follow.ledger(world.run.config) == state


def test_a_span_is_closed_after_an_hour_and_the_next_one_goes_on(world: World) -> None:
    world.put("a")
    point = world.backup()
    for number in range(70):
        world.put(f"k{number}")
        world.later()
        world.look()
    repo = builders.store(world.root)
    closed = repo.published("changes")
    assert (len(closed), len(repo.growing("changes"))) == (1, 1)
    spans = world.trail.spans
    assert [one.details.from_at for one in spans[1:]] == [one.details.last_at for one in spans[:-1]]
    for identity in closed:
        manifest = parse(repo.manifest("changes", identity), component="changes", expected_id=identity)
        assert changes.check(repo, manifest).result == "PASS"
    (repo.root / "changes" / closed[0] / "note-000003.json").unlink()  # type: ignore[attr-defined]
    manifest = parse(repo.manifest("changes", closed[0]), component="changes", expected_id=closed[0])
    assert changes.check(repo, manifest).result == "FAIL"
    assert world.as_of(point, world.at) == world.held_at(world.at)


def test_what_a_look_that_was_killed_has_written_is_in_nobodys_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a")
    point = world.backup()
    world.later()
    world.look()
    world.put("b")
    world.later()
    with monkeypatch.context() as patched, pytest.raises(LifeboatError, match="killed"):

        def killed(*_: object, **_more: object) -> bytes:
            raise LifeboatError("write the note", "x", "killed")

        patched.setattr(notes, "to_bytes", killed)
        world.look()
    world.put("c")
    world.later()
    world.look()
    (span,) = world.trail.spans
    assert [entry.name for entry in span.files] == ["000002.jsonl.gz"]
    assert world.as_of(point, world.at) == world.held_at(world.at)


def test_a_damaged_file_is_a_problem_and_a_damaged_note_is_passed_over(world: World) -> None:
    world.put("a")
    point = world.backup()
    world.later()
    world.put("b")
    world.later()
    world.look()
    found = changes.as_of(point, world.trail, world.at)
    assert found.problem() == ""
    folder = world.root / "backup" / "changes" / world.trail.spans[0].id
    builders.flip(folder / "000001.jsonl.gz")
    assert "another length or SHA-256" in found.problem()
    with pytest.raises(IntegrityError, match="SHA-256"):
        list(found.entries())
    builders.flip(folder / "note-000001.json", 0)  # nothing signs it: a digit in it may be another one unnoticed
    assert changes.as_of(point, world.trail, world.at) is point
    assert "note-000001.json" in next(iter(world.trail.unread.values()), "") or world.trail.unread
    world.later()
    world.look()
    assert world.as_of(point, world.at) == world.held_at(world.at), "the next look finds all of it again"


def test_a_listing_that_is_not_in_order_ends_the_look(world: World) -> None:
    world.put("a")
    point = world.backup()
    world.later()
    world.look()
    reached = world.at
    world.source.order = world.source.versions_order = "'b' is listed after 'c'"
    world.later()
    with pytest.raises(LifeboatError, match="not to be believed"):
        world.look()
    assert world.trail.reach("uploads", point.at, world.at) == reached


def test_where_objects_are_not_listed_in_order_the_versions_are(world: World) -> None:
    world.put("a")
    world.put("a b")
    point = world.backup()
    world.source.order = "'a b' is listed after 'a+b'"
    world.put("a", b"again")
    world.delete("a b")
    world.put("a+b")
    world.later()
    assert world.look().changes == 3
    assert world.as_of(point, world.at) == world.held_at(world.at)


def test_a_key_whose_versions_come_after_those_of_others_is_not_called_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SeaweedFS lists `a-1` before `a`; and a listing that does not tell of what is there says nothing of it."""
    for key in ("a", "a-1"):
        world.put(key)
    point = world.backup()
    monkeypatch.setattr(bucket, "versions", lambda one, prefix="", watch=None: reversed([*world.versions(one, prefix)]))
    monkeypatch.setattr(follow, "_PAUSE", 0)
    world.put("a", b"again")
    world.later()
    assert world.look().changes == 1
    assert world.as_of(point, world.at) == world.held_at(world.at)
    reached = world.at
    monkeypatch.setattr(bucket, "versions", lambda one, prefix="", watch=None: iter(()))
    world.put("a", b"once more")
    world.later()
    state = world.look()
    assert (state.changes, state.reached.behind, [*state.left]) == (0, {"uploads": reached}, ["uploads"])


def test_a_look_needs_a_backup_to_begin_from(world: World) -> None:
    with pytest.raises(LifeboatError, match="no backup of the objects"):
        world.look()


# What is refused.


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"objects": {"changes_seconds": 0}}, "changes_seconds is 0"),
        ({"objects": {"engine": "mc"}}, "mirrored by mc"),
        ({"vault": {"noncurrent_days": 7}}, "forgets old versions after 7 days"),
    ],
)
def test_a_stack_that_cannot_be_followed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], cause: str
) -> None:
    with pytest.raises(UsageError, match=cause):
        World(tmp_path, monkeypatch, **more).look()


def test_a_store_without_versions_is_refused_with_the_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("a")
    world.backup()
    with pytest.raises(UsageError, match="do not tell"):
        follow.follow(world.run, log=world.lines.append, doubts=Doubts(times="its versions do not tell"))
    monkeypatch.setattr(guard, "require_vault", lambda *_: None)
    monkeypatch.setattr(bucket, "versioning", lambda one: "")
    with pytest.raises(UsageError, match="keeps no versions"):
        world.look()
    assert world.trail.spans == ()


def test_a_look_that_takes_long_is_taken_more_seldom(world: World) -> None:
    config = world.run.config
    assert follow.is_due(config, world.at), "nobody looked yet"
    state = follow.Ledger(world.at, Reached(world.at), 2.0)
    follow.remember(config, state)
    assert follow.interval(config, state) == 60
    assert [follow.is_due(config, world.at + timedelta(seconds=each)) for each in (-5, 0, 30, 60)] == [
        True, False, False, True,
    ]  # fmt: skip
    slow = replace(state, listing_seconds=35.0)
    follow.remember(config, slow)
    assert follow.interval(config, slow) == 700
    assert not follow.is_due(config, world.at + timedelta(seconds=600))


# What an operator sees.


def test_a_stack_without_a_backup_is_not_looked_at_until_there_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the unit of a new stack fails each minute of its first day."""
    monkeypatch.setattr(following.endpoints, "doubts", lambda run, log: Doubts())
    world.put("a")
    assert following.observe(world.run, world.at, world.lines.append) is None
    assert "lifeboat backup objects" in world.lines[-1]
    (told,) = following.checks(world.run.config, world.at)
    assert (told.result, "lifeboat backup objects" in told.detail) == ("FAIL", True)
    with pytest.raises(LifeboatError, match="no backup of the objects is there"):
        following.observe(world.run, world.at, world.lines.append, force=True)
    world.backup()
    assert following.observe(world.run, world.later(), world.lines.append) is not None


def test_a_look_by_hand_waits_for_the_mirror_and_that_of_the_timer_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following.endpoints, "doubts", lambda run, log: Doubts())
    world.put("a")
    world.backup()
    entered, leave = threading.Event(), threading.Event()

    def mirror() -> None:
        with lock.mirroring("shop", "mirror"):
            entered.set()
            leave.wait(60)

    other = threading.Thread(target=mirror)
    other.start()
    assert entered.wait(10)
    assert following.observe(world.run, world.later(), world.lines.append) is None
    assert "the next look follows: process" in world.lines[-1]
    threading.Timer(0.5, leave.set).start()
    assert following.observe(world.run, world.later(), world.lines.append, force=True) is not None
    other.join()


def test_an_instant_is_taken_from_changes_where_they_reach_it(world: World) -> None:
    world.put("a")
    point = world.backup()
    world.later(90 * 60)
    world.put("b")
    at = world.later()
    world.look()
    for instant, says in ((at, "the objects as of "), (world.later(3600), "NOT the objects of ")):
        run = Opened(world.run.config)
        sources = Sources(run, "objects", "latest", instant, reach=choose.reach(run))
        entry, chosen, _passed = choose.choose(run.config, sources, Request(before=instant))
        assert (entry.id, chosen.manifest.seal) == (point.id, point.manifest.seal)
        assert choose.instant_text(chosen, instant).startswith(f"{says}{clock.format_time(instant)}: ")
        assert [row.key for row in chosen.entries()] == (["a", "b"] if instant == at else ["a"])
    assert "2 h 31 min before" in choose.instant_text(chosen, instant)
    assert choose.instant_text(point, point.at) == choose.instant_text(point, None) == ""
    assert choose.instant_of(clock.format_time(at)) == clock.parse_time(clock.format_time(at))
    assert choose.instant_of(point.id) is None


def test_status_says_until_when_and_what_a_loss_would_cost(world: World) -> None:
    config = world.run.config
    assert [one.result for one in following.checks(config, world.at)] == ["FAIL"]
    world.put("a")
    world.backup()
    world.later()
    world.look()
    behind, rpo = following.checks(config, world.later(30))
    assert (behind.name, behind.result, rpo.name, rpo.result) == ("object changes", "PASS", "rpo", "PASS")
    assert rpo.detail.startswith("objects 30 s here (1 objects, a look takes 0.")
    nothing = replace(config, wal=replace(config.wal, enabled=True))
    _behind, rpo = following.checks(nothing, world.later(30))
    assert (rpo.result, "rows: nothing was sent yet" in rpo.detail) == ("COULD_NOT_VERIFY", True)
    behind, _rpo = following.checks(config, world.later(3600))
    assert behind.result == "FAIL"
    off = replace(config, objects=replace(config.objects, changes_seconds=0))
    assert [*following.checks(off, world.at)] == []


def test_a_timer_is_started_and_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, ...]] = []
    for module in (following, following.continuous):
        monkeypatch.setattr(module, "systemctl", lambda *words: called.append(words))
    monkeypatch.setattr(following.continuous, "UNITS", world.root)
    monkeypatch.setattr(following.endpoints, "doubts", lambda run, log: Doubts())
    service, timer = (world.root / f"lifeboat-changes-shop.{kind}" for kind in ("service", "timer"))
    assert following.enable(world.run, world.lines.append, dry_run=True) == [f"write {service}", f"write {timer}"]
    assert (called, service.exists()) == ([], False)
    assert len(following.enable(world.run, world.lines.append)) == 2
    assert "OnUnitInactiveSec=60\n" in timer.read_text()
    assert "changes look --stack shop\n" in service.read_text()
    assert called == [("daemon-reload",), ("enable", "--now", timer.name), ("restart", timer.name)]
    assert following.enable(world.run, world.lines.append) == []
    assert called[3:] == [("enable", "--now", timer.name)]
    assert len(following.disable(world.run, world.lines.append)) == 2
    assert (called[4:], timer.exists()) == ([("disable", "--now", timer.name), ("daemon-reload",)], False)
    assert following.disable(world.run, world.lines.append) == []


def test_what_a_look_copied_counts_as_overwritten_since_the_last_backup(tmp_path: Path) -> None:
    with State(tmp_path / "journal") as state:
        state.read_source([Version("a", 1, "new", T, "s2"), Version("b", 1, "same", T, "s1")], None)
        state.read_vault([Version("a", 1, "new", T, "v2"), Version("b", 1, "same", T, "v1")])
        before = (Listed("a", 1, "old", T, "s1", "v1", "old"), Listed("b", 1, "same", T, "s1", "v1", "same"))
        state.read_copies(before)
        numbers = state.numbers()
    assert (numbers.copy, numbers.alike, numbers.overwritten, numbers.share) == (0, 1, 1, 50.0)


# What goes.


def test_changes_behind_the_oldest_backup_of_the_window_go() -> None:
    def span(day: int) -> changes.Span:
        at = T + timedelta(days=day)
        return changes.Span(f"changes_{day}", "shop", ChangesDetails(at - timedelta(hours=1), at))

    spans = [span(day) for day in range(12)]
    nights = [T + timedelta(days=day) for day in range(12)]
    window = timedelta(days=7)
    assert changes.outdated(spans, nights, window) == [f"changes_{day}" for day in range(4)]
    assert changes.outdated(spans, nights[:7], window) == [], "no backup is older than the window"
    assert changes.outdated(spans, [], window) == []


def test_a_prune_knows_the_versions_that_changes_need(world: World) -> None:
    world.put("a")
    world.backup()
    world.later()
    world.put("b")
    world.put("b", b"22")
    world.later()
    world.look()
    world.delete("b")
    world.later()
    world.look()
    (need,) = changes.needs(builders.store(world.root), world.trail.spans[0], "uploads").points()
    assert (need.bucket, need.problem()) == ("", "")
    assert [*need.versions()] == [("b", "vault-b-0"), ("b", "vault-b-1")]
