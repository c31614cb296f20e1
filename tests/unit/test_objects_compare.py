# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""A bucket against a listing and the database: what is damage, what is the application's own doing, what nobody can say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import compare
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Version
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import flip, make_config
from object_world import BEFORE, OBJECTS, VAULT, Object, T, World, failure, md5, publish_objects
from object_world import row as as_row

QUERY = "SELECT key FROM f"


class Database:
    """What the database knows; `error`: it does not answer."""

    database = "shop"

    def __init__(self, rows: list[Any], error: Optional[Exception] = None) -> None:
        self.rows, self.error = rows, error

    def stream(self, sql: str, take: Any, *, database: str, attempted: str) -> None:
        if self.error:
            raise self.error
        for row in self.rows:
            take(as_row(row))


def hold(config: Config, inventory: Inventory, world: World, point: Point, prefix: str = "") -> str:
    return compare.hold(Opened(config), inventory, world.live, point, prefix=prefix, log=lambda _: None)  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(monkeypatch)
    monkeypatch.setattr(runtime, "connect", lambda config: "runtime")
    return one


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


NEW = b"written anew"
Rows = Optional[list[Any]]
# (what, what the live bucket has of `a` (None: gone), what the database knows (None: nothing is asked), how it is settled)
SETTLED: list[tuple[str, Optional[Object], Rows, str]] = [
    ("gone, nobody to ask", None, None, "doubt"),
    ("gone, and the database knows it", None, [["a"]], "wrong"),
    ("gone, and no row knows it", None, [["b"]], "loose"),
    ("overwritten, nobody to ask", Object(NEW), None, "doubt"),
    ("overwritten, no row names it", Object(NEW), [["b"]], "doubt"),
    ("overwritten, the row has the old size", Object(NEW), [["a", 9]], "wrong"),
    ("overwritten, the row has the new size", Object(NEW), [["a", len(NEW)]], "right"),
    ("overwritten, the row has the new hash", Object(NEW), [["a", len(NEW), sha256(NEW)]], "right"),
    ("overwritten, the row has another hash", Object(NEW), [["a", len(NEW), sha256(b"x")]], "wrong"),
    ("same size, other bytes, row by size", Object(b"BODY OF a"), [["a", 9]], "wrong"),
    ("same size, other bytes, row by hash", Object(b"BODY OF a"), [["a", 9, sha256(b"BODY OF a")]], "right"),
    ("the same bytes under another tag", Object(b"body of a", etag="x-2"), None, "same"),
    ("listed, and not to be read", Object(b"BODY OF a", error=failure("InternalError", 500)), None, "wrong"),
]  # fmt: skip


@pytest.mark.parametrize(("live", "rows", "how"), [case[1:] for case in SETTLED], ids=[case[0] for case in SETTLED])
def test_settle(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, live: Optional[Object], rows: Rows, how: str
) -> None:
    world.fill("a b")
    point = publish_objects(tmp_path, dict(world.live.objects))
    if live:
        world.live.objects["a"] = live
    else:
        del world.live.objects["a"]
    monkeypatch.setattr(server, "connect", lambda config, stack: Database(rows or []))
    config = make_config(tmp_path, objects={**OBJECTS, "keys_query": QUERY if rows is not None else ""}, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        assert list(inventory.each("SELECT key, how FROM settled")) == [("a", how)]
        brought = {
            keep: inventory.counted(f"point p WHERE {compare.to_restore(keep=keep)}")[0] for keep in (True, False)
        }
        assert brought == {True: how not in ("same", "right"), False: how != "same"}
        after = inventory.counted(f"point p WHERE {compare.expected(keep=True)}")[1]
        assert after == (["b"] if how == "right" else ["a", "b"])


UNKNOWN: list[tuple[dict[str, Any], Any, str]] = [
    ({}, None, "lifeboat_objects.keys_query is not set"),
    ({"keys_query": QUERY}, Database([], LifeboatError("x", "y", "it is down")), "it is down"),
    ({"keys_query": QUERY}, Database([]), "it knows no object at all"),
    ({"keys_query": QUERY}, Database([["a"]]), ""),
]


@pytest.mark.parametrize(("query", "database", "why"), UNKNOWN, ids=[case[2] for case in UNKNOWN])
def test_why_the_database_was_not_asked(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, query: dict[str, Any], database: Any, why: str
) -> None:
    world.fill("a")
    monkeypatch.setattr(server, "connect", lambda config, stack: database)
    config = make_config(tmp_path, objects={**OBJECTS, **query}, vault=VAULT)
    point = publish_objects(tmp_path, world.live.objects)
    with Inventory() as inventory:
        assert compare.load(Opened(config), inventory, world.live, point, log=lambda _: None) == why  # type: ignore[arg-type]


# (keys that are gone, the limit in percent) -> (a finding, unsure)
SHARES = [
    (0, 30, False, False),
    (1, 30, False, True),
    (3, 30, False, True),
    (4, 30, True, False),
    (10, 100, True, False),
    (9, 100, False, True),
]


@pytest.mark.parametrize(("gone", "limit", "finding", "unsure"), SHARES)
def test_without_the_database_a_share_decides(
    tmp_path: Path, world: World, gone: int, limit: int, finding: bool, unsure: bool
) -> None:
    world.fill(" ".join("abcdefghij"))
    point = publish_objects(tmp_path, dict(world.live.objects))
    for key in "abcdefghij"[:gone]:
        del world.live.objects[key]
    config = make_config(tmp_path, objects={**OBJECTS, "change_limit": limit}, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        found, unknown, _ = compare.judge(config, inventory, point, "")
    assert (bool(found), bool(unknown)) == (finding, unsure)
    assert all("gone or overwritten" in line for line in found + unknown)


def test_findings_name_a_few_keys_and_count_the_rest(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{n:02d}" for n in range(12)]
    world.fill(" ".join(keys))
    point = publish_objects(tmp_path, dict(world.live.objects))
    world.live.objects = {"k11": Object(b"overwritten")}
    monkeypatch.setattr(
        server, "connect", lambda config, stack: Database([[key, 11] if key != "k11" else [key, 5] for key in keys])
    )
    config = make_config(tmp_path, objects={**OBJECTS, "keys_query": QUERY}, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        found, unsure, _ = compare.judge(config, inventory, point, "")
    assert found == [
        "objects are gone that the database knows: 11 (k00, k01, k02, k03, k04, k05, k06, k07 and 3 more)",
        f"objects are neither what {point.id} nor what the database has: 1 (k11)",
    ]
    assert unsure == []


# (what lies under `b`, what the listing says of its hash) -> words of the finding
SAMPLED: list[tuple[Object, Optional[str], str]] = [
    (Object(b"body of b"), None, ""),
    (Object(b"body of b", error=failure("InternalError", 500)), None, "b cannot be read"),
    (Object(b"flipped b", etag=md5(b"body of b")), None, "b has other bytes than its listing says"),
    (Object(b"flipped b", etag="abc-2"), None, ""),  # a tag that is no hash proves nothing
]


@pytest.mark.parametrize(("live", "listed", "words"), SAMPLED)
def test_a_sample_is_really_read(tmp_path: Path, world: World, live: Object, listed: Optional[str], words: str) -> None:
    world.fill("a b")
    point = publish_objects(tmp_path, {**world.live.objects, "b": Object(b"body of b", etag=live.etag)})
    world.live.objects["b"] = live
    config = make_config(tmp_path, objects=OBJECTS, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        found, unread, damaged = compare.sample(inventory, world.live)  # type: ignore[arg-type]
        assert (unread, damaged) == ([], 1 if words else 0)
        assert [words in line for line in found] == ([True] if words else [])
        bad = compare.damaged(inventory, world.live, world.vault, "point p")  # type: ignore[arg-type]
        assert inventory.counted(f"point p WHERE {bad}")[1] == (["b"] if words else [])


def test_what_is_not_read_in_time_is_said(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "READ_SECONDS", -1)
    world.fill("a b")
    point = publish_objects(tmp_path, world.live.objects)
    config = make_config(tmp_path, objects=OBJECTS, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        assert compare.sample(inventory, world.live) == ([], ["2 of 2 objects were not read: -1 s were up"], 0)  # type: ignore[arg-type]


def test_a_prefix_is_no_pattern(tmp_path: Path, world: World) -> None:
    world.fill("a_1 ab1 A_2 a_/x")
    point = publish_objects(tmp_path, dict(world.live.objects))
    world.live.objects = {}
    with Inventory() as inventory:
        hold(make_config(tmp_path, objects=OBJECTS, vault=VAULT), inventory, world, point, prefix="a_")
        assert inventory.counted("point")[1] == ["a_/x", "a_1"]


def test_what_the_vault_no_longer_has_is_told_and_left_out(tmp_path: Path, world: World) -> None:
    world.fill("a b")
    point = publish_objects(tmp_path, dict(world.live.objects))
    world.live.objects = {}
    world.vault.held = [Version("a", 9, "e", BEFORE, "another version"), Version("b", 9, "e", BEFORE, "v-b")]
    config = make_config(tmp_path, objects=OBJECTS, vault=VAULT)
    with Inventory() as inventory:
        hold(config, inventory, world, point)
        wanted = compare.to_restore(keep=False)
        assert compare.leave_out_unheld(Opened(config), inventory, "", wanted) == "1 (a)"
        assert inventory.counted(f"point p WHERE {wanted}")[1] == ["b"]
        assert inventory.counted(f"point p WHERE {compare.expected(keep=False)}")[1] == ["b"]


def test_a_bucket_that_is_gone_must_come_back_whole(tmp_path: Path, world: World) -> None:
    world.fill("a b")
    point = publish_objects(tmp_path, world.live.objects)
    with Inventory() as inventory:
        inventory.add("live", [("half", 1, "", "", 0.0)])
        compare.all_gone(inventory, point, prefix="")
        assert inventory.count("live") == 0
        assert inventory.counted(f"point p WHERE {compare.to_restore(keep=True)}")[1] == ["a", "b"]


def test_a_listing_is_used_only_when_every_byte_is_right(tmp_path: Path) -> None:
    point = publish_objects(tmp_path, {"a": Object(b"1")})
    assert (point.problem(), point.at, [entry.key for entry in point.entries()]) == ("", T, ["a"])
    path = tmp_path / "backup" / "objects" / point.id / "listing.jsonl.gz"
    flip(path, -9)
    assert point.problem() == "listing.jsonl.gz has another SHA-256 than when it was written"
    with pytest.raises(IntegrityError, match="Could not read the listing"):
        list(point.entries())
