# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery points: what one ties together, what breaks it, which is chosen, and what an operator may type."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest, points, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Point, PointEntry
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import BUCKET, NOW, folder, make_config, prove, publish, publish_objects, store

DAY = timedelta(days=1)
IMAGES = {"db": "postgres@sha256:1", "backend": "shop@sha256:2"}


class Stack:
    def __init__(self, problem: str = "") -> None:
        self.problem = problem

    def images(self) -> dict[str, str]:
        if self.problem:
            raise LifeboatError("ask the engine for the images", "shop", self.problem)
        return IMAGES


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Stack())


def seal(root: Path, now: Any = NOW, **more: Any) -> Point:
    settings = {**BUCKET, **more.pop("settings", {})}
    return points.seal(Opened(make_config(root, **settings)), now=now, log=lambda _: None, **more)[0]


def pair(root: Path, at: Any = NOW) -> tuple[Manifest, Manifest]:
    """A database backup and the bucket as it was at that instant."""
    database = publish(root, at)
    return database, publish_objects(root, at + timedelta(hours=1), of=database)


def found(root: Path) -> list[PointEntry]:
    return points.entries(store(root), "shop", points.backups(store(root), "shop"))


# --- sealing ---


def test_rows_and_objects_of_one_instant(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    point = seal(tmp_path, NOW + timedelta(hours=2))
    assert (point.id, point.stack, point.consistency, point.taken_at) == ("20261124_140000", "shop", "snapshot", NOW)
    assert point.components == {
        "database": points.Part(database.id, database.seal),
        "objects": points.Part(objects.id, objects.seal),
        "config": None,
    }
    assert point.images == IMAGES
    assert point.notes == (
        "config: no backup of it is wanted",
        "objects: retention, legal hold, encryption and storage class of the objects of uploads: the backup is older"
        " than the record of them; take a new one: lifeboat backup objects",
    )
    assert points.parse(store(tmp_path).read_point(point.id), expected_id=point.id) == point
    (one,) = found(tmp_path)
    assert (one.good, one.proven_at) == (True, None)


def test_another_instant_is_said(tmp_path: Path) -> None:
    """Somebody took a database backup after the mirror; an eventual mirror is never of the same instant."""
    pair(tmp_path)
    newer = publish(tmp_path, NOW + timedelta(hours=3))
    point = seal(tmp_path)
    assert (point.parts["database"].id, point.consistency) == (newer.id, "eventual")
    assert "objects: of another instant than the rows, 7200 s apart" in point.notes[1]
    assert f"and not of {newer.id}; to take both: lifeboat backup)" in points.why_apart(point)
    eventual = publish_objects(tmp_path, NOW + timedelta(hours=4), of=newer, consistency="eventual")
    point = seal(tmp_path)
    assert (point.parts["objects"].id, point.consistency) == (eventual.id, "eventual")
    assert "(the backup does not say why)" in points.why_apart(point)
    why = {"consistency": "eventual", "why": "the source bucket keeps no versions", "versioned": False}
    publish_objects(tmp_path, NOW + timedelta(hours=5), of=newer, **why)
    assert (
        "(the source bucket keeps no versions; to switch its versioning on: mc version enable ALIAS/uploads, or aws"
        " s3api put-bucket-versioning --endpoint-url http://127.0.0.1:9000 --bucket uploads --versioning-configuration"
        " Status=Enabled); reconcile after a recovery"
    ) in points.why_apart(seal(tmp_path))


def test_broken_backups_are_passed_over(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    broken, _ = pair(tmp_path, NOW + DAY)
    (folder(tmp_path, broken) / "database.dump").unlink()
    point = seal(tmp_path)
    assert {part.id for part in point.parts.values()} == {database.id, objects.id}
    assert point.consistency == "snapshot"


def test_half_a_point_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no good backup of database"):
        seal(tmp_path)
    publish(tmp_path)
    with pytest.raises(NotFoundError, match=r"no good backup of objects\. .*lifeboat backup objects"):
        seal(tmp_path)
    assert store(tmp_path).points() == []
    alone = seal(tmp_path, settings={"objects": {}, "vault": {}})
    assert (list(alone.parts), alone.consistency) == (["database"], "snapshot")
    assert alone.notes[1] == "objects: the stack has no bucket"


def test_the_same_backups_are_tied_once(tmp_path: Path) -> None:
    pair(tmp_path)
    first = seal(tmp_path)
    again, new = points.seal(Opened(make_config(tmp_path, **BUCKET)), now=NOW + DAY, log=lambda _: None)
    assert (again, new) == (first, False)
    pair(tmp_path, NOW + DAY)
    second = seal(tmp_path)
    assert second.id == "20261124_120001", "ids have steps of a second, and that one was taken"
    assert store(tmp_path).points() == [first.id, second.id]


def test_an_engine_that_is_away_does_not_cost_the_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Stack("it is not running"))
    pair(tmp_path)
    point = seal(tmp_path)
    assert (point.images, point.notes[-1]) == ({}, "images: not known, it is not running")


def test_copies_are_those_that_every_part_has(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    both = seal(tmp_path, copies={database.id: ["vault", "tape"], objects.id: ["vault"]})
    assert both.copies == ("vault",)
    pair(tmp_path, NOW + DAY)
    assert seal(tmp_path, copies={}).copies == ()


def test_keys_that_no_backup_holds_are_noted(tmp_path: Path) -> None:
    database = publish(tmp_path)
    publish_objects(tmp_path, of=database, unheld=[{"key": "a//b", "why": "x"}])
    assert "objects: 1 keys could not be held by the vault and are in no backup" in seal(tmp_path).notes


# --- reading ---


def edited(change: Callable[[dict[str, Any]], object], sealed_anew: bool) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        body = json.loads(data)
        change(body)
        return sealing.render({**body, "seal": sealing.seal(body)} if sealed_anew else body)

    return edit


MUTATIONS: list[tuple[str, Callable[[bytes], bytes], type[LifeboatError], str]] = [
    ("cut", lambda data: data[:-9], IntegrityError, "it is not a recovery point"),
    ("one byte more", lambda data: data + b"\n", IntegrityError, "its bytes are not as they were written"),
    (
        "edited",
        edited(lambda doc: doc.update(taken_at="2020-01-01T00:00:00.000Z"), False),
        IntegrityError,
        "was edited",
    ),
    (
        "a part swapped",
        edited(lambda doc: doc["components"]["database"].update(seal="0"), False),
        IntegrityError,
        "edited",
    ),
    (
        "a manifest",
        edited(lambda doc: doc.update(schema=manifest.Manifest.schema), True),
        IntegrityError,
        "its schema is",
    ),
    ("newer", edited(lambda doc: doc.update(version=[2, 0]), True), UsageError, "this Lifeboat reads version 1"),
    (
        "another's",
        edited(lambda doc: doc.update(id="20200101_000000"), True),
        IntegrityError,
        "it is the recovery point",
    ),
    ("no database", edited(lambda doc: doc["components"].update(database=None), True), IntegrityError, "its database"),
    ("odd consistency", edited(lambda doc: doc.update(consistency="sure"), True), IntegrityError, "its consistency"),
    (
        "mixed up",
        edited(lambda doc: doc["components"].update(objects=doc["components"]["database"]), True),
        IntegrityError,
        "is not a backup of objects",
    ),
    ("no images", edited(lambda doc: doc.pop("images"), True), IntegrityError, ".json: lacks images"),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), [case[1:] for case in MUTATIONS], ids=[case[0] for case in MUTATIONS]
)
def test_what_is_not_as_it_was_sealed_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], error: type[LifeboatError], words: str
) -> None:
    pair(tmp_path)
    point = seal(tmp_path)
    data = store(tmp_path).read_point(point.id)
    assert points.parse(data, expected_id=point.id) == point
    with pytest.raises(error, match=words):
        points.parse(change(data), expected_id=point.id)
    (tmp_path / "backup" / "recovery-points" / f"{point.id}.json").write_bytes(change(data))
    (one,) = found(tmp_path)
    assert not one.good
    assert words in one.problem
    assert one.as_dict(NOW)["taken_at"] is None


def test_a_point_is_as_good_as_its_parts(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    point = seal(tmp_path)
    assert found(tmp_path)[0].good
    (tmp_path / "backup/objects" / objects.id / "listing.jsonl.gz").write_bytes(b"")
    assert found(tmp_path)[0].problem == f"{objects.id}: listing.jsonl.gz has 0 bytes instead of 7"
    store(tmp_path).delete("objects", objects.id)
    assert found(tmp_path)[0].problem == f"{objects.id} is missing"
    store(tmp_path).delete("database", database.id)
    publish(tmp_path, details={"seconds": 9})  # of the same name, and not the one that was sealed
    publish_objects(tmp_path, NOW + timedelta(hours=1), of=database)
    (one,) = found(tmp_path)
    assert one.problem == f"{database.id} is another than the one that was sealed"
    assert one.as_dict(NOW + DAY) == {
        **one.as_dict(NOW + DAY),
        "id": point.id,
        "component": "point",
        "good": False,
        "proven": False,
        "age_seconds": 86400,
        "components": {"database": database.id, "objects": objects.id, "config": None},
    }


def test_a_backup_that_lacks_a_database_is_tied_into_a_point_that_is_not_good(tmp_path: Path) -> None:
    publish(tmp_path, NOW - DAY)
    database = publish(tmp_path, details={"missing": {"old": "it takes no connections"}})
    objects = publish_objects(tmp_path, NOW + timedelta(seconds=5), of=database)
    point = seal(tmp_path)
    said = "the database old is not in it: it takes no connections"
    assert point.ids == {"database": database.id, "objects": objects.id, "config": None}
    assert point.consistency == "snapshot" and f"database: {said}" in point.notes
    (one,) = found(tmp_path)
    assert (one.good, one.sound, one.problem) == (False, True, f"{database.id}: {said}")
    assert points.for_retention([one])[0].incomplete
    assert points.choose([one], "shop", identity=point.id) == (one, [])
    with pytest.raises(NotFoundError, match=f"recovery_point={point.id}"):
        points.choose([one], "shop")
    assert seal(tmp_path).id == point.id, "the same parts are tied once"


def test_a_point_that_lacks_a_bucket_serves_as_one_that_lacks_a_database(tmp_path: Path) -> None:
    database = publish(tmp_path)
    objects = publish_objects(tmp_path, of=database, missing={"wiki": "access denied"})
    point = seal(tmp_path)
    (one,) = found(tmp_path)
    assert (one.good, one.sound, one.serves, one.lacking) == (False, True, True, ("objects",))
    assert one.problem == f"{objects.id}: the bucket wiki is not in it: access denied"
    assert points.choose([one], "shop", partly=True) == (one, [])
    with pytest.raises(NotFoundError, match=f"recovery_point={point.id}"):
        points.choose([one], "shop")
    publish(tmp_path, NOW + DAY, details={"missing": {"old": "it takes no connections"}})
    publish_objects(tmp_path, NOW + DAY, missing={"wiki": "access denied"})
    seal(tmp_path, NOW + DAY)
    both = found(tmp_path)[-1]
    assert (both.lacking, both.serves) == (("database", "objects"), True)


def test_a_point_is_doubted_as_its_parts_are(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    seal(tmp_path)
    prove(tmp_path, database, checks.FAIL)
    (one,) = found(tmp_path)
    assert (one.good, one.failures, points.for_retention([one])[0].doubted) == (False, 1, True)
    prove(tmp_path, objects, checks.FAIL)
    assert found(tmp_path)[0].failures == 1
    prove(tmp_path, objects, checks.FAIL)
    (one,) = found(tmp_path)
    assert (one.failures, points.for_retention([one])[0].doubted) == (2, False)
    prove(tmp_path, objects)
    assert found(tmp_path)[0].failures == 1
    store(tmp_path).delete("objects", objects.id)
    assert found(tmp_path)[0].failures == 0


def test_a_point_is_proven_when_every_part_is(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    seal(tmp_path)
    prove(tmp_path, database, at=NOW + DAY)
    assert found(tmp_path)[0].proven_at is None
    prove(tmp_path, objects, at=NOW + 2 * DAY)
    assert found(tmp_path)[0].proven_at == NOW + DAY, "as old as its oldest proof"


def test_other_stacks_points_are_not_ours(tmp_path: Path) -> None:
    pair(tmp_path)
    seal(tmp_path)
    assert points.entries(store(tmp_path), "blog", points.backups(store(tmp_path), "blog")) == []


# --- choosing ---


@pytest.fixture
def three(tmp_path: Path) -> list[Point]:
    """Three days' points; the newest lost a part."""
    made = []
    for day in range(3):
        database, _ = pair(tmp_path, NOW + day * DAY)
        made.append(seal(tmp_path, NOW + day * DAY + timedelta(hours=2)))
    (folder(tmp_path, database) / "database.dump").unlink()
    return made


def test_the_newest_good_one_is_chosen_and_the_broken_one_named(tmp_path: Path, three: list[Point]) -> None:
    chosen, passed = points.choose(found(tmp_path), "shop")
    assert (chosen.id, [entry.id for entry in passed]) == (three[1].id, [three[2].id])
    assert "database.dump is missing" in passed[0].problem
    assert points.choose(found(tmp_path), "shop", before=NOW + timedelta(hours=5))[0].id == three[0].id
    assert points.choose(found(tmp_path), "shop", identity=three[0].id) == (found(tmp_path)[0], [])


REFUSALS: list[tuple[str, dict[str, Any], type[LifeboatError], str]] = [
    ("a broken one by name", {"identity": "20261126_140000"}, IntegrityError, "database.dump is missing"),
    ("an unknown one", {"identity": "20200101_000000"}, NotFoundError, "the repository has 20261124_140000"),
    ("before the first", {"before": NOW - DAY}, NotFoundError, "the first is of 2026-11-24T12:00:00.000Z"),
]


@pytest.mark.parametrize(
    ("asked", "error", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals(
    tmp_path: Path, three: list[Point], asked: dict[str, Any], error: type[LifeboatError], words: str
) -> None:
    with pytest.raises(error, match=words):
        points.choose(found(tmp_path), "shop", **asked)


def test_none_at_all() -> None:
    with pytest.raises(NotFoundError, match="the repository holds no recovery point"):
        points.choose([], "shop")


def test_what_an_operator_may_type(tmp_path: Path) -> None:
    database, objects = pair(tmp_path)
    point = seal(tmp_path)
    repo = store(tmp_path)
    for typed in ("latest", "", database.id, "nonsense"):
        assert points.part_of(repo, "shop", typed, "database") == typed
    assert points.part_of(repo, "shop", point.id, "database") == database.id
    assert points.part_of(repo, "shop", point.id, "objects") == objects.id
    with pytest.raises(NotFoundError, match="it has no backup of config"):
        points.part_of(repo, "shop", point.id, "config")
    with pytest.raises(NotFoundError, match="none of that name"):
        points.part_of(repo, "shop", "20200101_000000", "database")
    with pytest.raises(UsageError, match="it is of the stack shop, not blog"):
        points.part_of(repo, "blog", point.id, "database")
    repo.delete("database", database.id)
    publish(tmp_path, details={"seconds": 9})
    with pytest.raises(IntegrityError, match="another than the one that was sealed"):
        points.part_of(repo, "shop", point.id, "database")


def test_for_retention(tmp_path: Path, three: list[Point]) -> None:
    (tmp_path / "backup/recovery-points/20261123_020000.json").write_text("{")
    lost, *rest = points.for_retention(found(tmp_path))
    assert (lost.id, lost.good, lost.holds, lost.taken_at.day) == ("20261123_020000", False, (), 23)
    assert [(point.id, point.good, point.taken_at) for point in rest] == [
        (point.id, number < 2, NOW + number * DAY) for number, point in enumerate(three)
    ]
    assert rest[0].holds == tuple(part.id for part in three[0].parts.values())
