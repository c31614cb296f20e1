# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""When a bucket must be recovered, in which mode, from which backup: decided from what is seen, nothing touched."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import builders
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import assess as objects_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import planned as objects_planned
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.selection import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, client
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Version
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints, probe
from builders import flip, prove, settings
from object_world import AFTER, BEFORE, OBJECTS, SECRETS, VAULT, FakeBucket, Object, T, World, failure, publish_objects
from object_world import row as as_row

UP = ServiceState(exists=True, running=True, status="running")
CRASHED = ServiceState(exists=True, status="exited", exit_code=1)
ID = "objects_backup_20261124_120000"


class Stack:
    label = "a test"

    def __init__(self, data: Path) -> None:
        self.found = UP
        self.mount = DataMount("volume", "data", data)

    def state(self, service: str) -> ServiceState:
        assert service == "objects"
        return self.found

    def logs(self, service: str, lines: int = 30) -> str:
        return "FATAL no disk"

    def dependants(self, service: str) -> list[str]:
        return ["backend", "frontend"]

    def data_mount(self, service: str, inside: str) -> DataMount:
        assert inside == "/data"
        return self.mount


class Case:
    """A world with one objects backup of a, b, c and d, and a plan of it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.world = World(monkeypatch)
        data = root / "data"
        data.mkdir()
        (data / "1.dat").write_text("x")
        self.stack = Stack(data)
        monkeypatch.setattr(runtime, "connect", lambda _: self.stack)
        self.objects: dict[str, Any] = dict(OBJECTS)
        self.vault: dict[str, Any] = dict(VAULT)
        self.world.fill()
        self.point = publish_objects(root, dict(self.world.live.objects))

    @property
    def config(self) -> config.Config:
        return config.from_mapping(settings(self.root, objects=self.objects, vault=self.vault), SECRETS)

    def known(self, *rows: Any) -> None:
        """The database answers, and knows these."""
        self.objects["keys_query"] = "SELECT key FROM f"

        class Database:
            database = "shop"

            def stream(self, sql: str, take: Any, **_: Any) -> None:
                for row in rows:
                    take(as_row(row))

        self.monkeypatch.setattr(server, "connect", lambda config, stack: Database())

    def plan(self, **request: Any) -> dict[str, Any]:
        before = dict(self.world.live.objects)
        made = objects_plan.make(Opened(self.config), Request(**request), log=lambda _: None)
        assert (self.world.live.objects, self.world.live.diary, self.world.vault.diary) == (before, [], []), "read only"
        found: dict[str, Any] = typed.plain(made)
        json.dumps(found)
        return found

    def remember(self, **what: str) -> None:
        (self.root / "state").mkdir(exist_ok=True)
        (self.root / "state" / objects_plan.RECOVERED).write_text(json.dumps({"at": "then", **what}))


def text(made: dict[str, Any]) -> list[str]:
    return objects_planned.text(typed.build(objects_planned.Plan, made, lambda *why: UsageError("read it", *why)))


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_a_healthy_bucket_needs_nothing(case: Case) -> None:
    case.known(["a"], ["b"], ["c"], ["d"])
    made = case.plan()
    assert (made["needed"], made["mode"], made["condition"], made["findings"], made["unchecked"], made["steps"]) == (
        False, "none", "healthy", [], [], [],
    )  # fmt: skip
    assert "nothing to do: the bucket is healthy and no recovery point was asked for" in text(made)


def lose(case: Case, *keys: str) -> None:
    for key in keys:
        del case.world.live.objects[key]


def stopped(case: Case) -> None:
    case.stack.found = CRASHED


def unanswering(case: Case) -> None:
    case.world.live.error = failure("ServiceUnavailable", 503)


def bucket_gone(case: Case) -> None:
    case.world.live.missing = True


def emptied(case: Case) -> None:
    (case.root / "data" / "1.dat").unlink()


def prefix_gone(case: Case) -> None:
    case.known(["a"], ["b"], ["c"], ["d"])
    lose(case, "c", "d")


def overwritten(case: Case) -> None:
    case.known(["a", 9], ["b"], ["c"], ["d"])
    case.world.live.objects["a"] = Object(b"rubbish")


def unreadable(case: Case) -> None:
    case.world.live.objects["a"].error = failure("InternalError", 500)


def ruined(case: Case) -> None:
    for held in case.world.live.objects.values():
        held.error = failure("InternalError", 500)


def unversioned(case: Case) -> None:
    case.world.live.settings["versioning"] = "Suspended"


def dying(case: Case) -> None:
    def broken(one: Any, prefix: str = "", watch: object = None) -> Iterator[Version]:
        raise LifeboatError("list the bucket", "uploads", "InternalError: leveldb")
        yield

    case.monkeypatch.setattr(objects_assess.compare.bucket, "objects", broken)


# (fault, condition, words of the finding, mode, to be copied)
FAULTS: list[tuple[Any, str, str, str, tuple[int, int]]] = [
    (stopped, "down", "objects is exited, exit code 1", "start", (4, 0)),
    (unanswering, "down", "does not answer", "start", (4, 0)),
    (bucket_gone, "damaged", "the bucket uploads is missing", "fill", (4, 0)),
    (emptied, "damaged", "the data directory of objects is empty", "rebuild", (4, 0)),
    (prefix_gone, "damaged", "objects are gone that the database knows: 2 (c, d)", "fill", (2, 0)),
    (overwritten, "damaged", "objects are neither what", "fill", (0, 1)),
    (unreadable, "damaged", "1 of 4 objects read are damaged: a cannot be read", "fill", (0, 0)),
    (ruined, "damaged", "objects read are damaged", "rebuild", (0, 0)),
    (unversioned, "damaged", "versioning is Suspended, it was Enabled", "fill", (0, 0)),
    (dying, "damaged", "the bucket uploads cannot be read: InternalError: leveldb", "fill", (4, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "condition", "finding", "mode", "counts"), FAULTS, ids=[case[0].__name__ for case in FAULTS]
)
def test_every_fault_is_seen_and_planned(
    case: Case, fault: Any, condition: str, finding: str, mode: str, counts: tuple[int, int]
) -> None:
    fault(case)
    made = case.plan()
    assert (made["needed"], made["condition"], made["mode"]) == (True, condition, mode)
    assert finding in made["findings"][0]
    assert (made["counts"]["gone"], made["counts"]["differ"]) == counts
    assert (made["backup"]["id"], made["writers"], made["target"]) == (ID, ["backend", "frontend"], "uploads")
    words = text(made)
    assert words[0] == f"the bucket uploads is {condition}"
    assert f"  1. {made['steps'][0]}" in words
    assert any("written after" in line for line in words), "what becomes of later objects is always said"
    assert any("quarantine the data directory" in step for step in made["steps"]) is (mode in ("start", "rebuild"))
    assert any("see what is really on its disk" in step for step in made["steps"]) is (fault in (unreadable, dying))


def test_why_a_server_is_down_is_in_its_own_words(case: Case) -> None:
    stopped(case)
    assert case.plan()["findings"][1] == "it last said: FATAL no disk"


def test_an_application_may_change_its_objects(case: Case) -> None:
    """Gone or overwritten, and so in the database too: that is work, not damage. Asked for a state, it goes all the same."""
    case.known(["a", 7], ["b"], ["c"])
    case.world.live.objects["a"] = Object(b"changed", AFTER)
    lose(case, "d")
    assert (case.plan()["condition"], case.plan()["needed"]) == ("healthy", False)
    asked = case.plan(identity=ID)
    assert (asked["mode"], asked["counts"]["gone"], asked["counts"]["differ"]) == ("fill", 1, 1)
    lose(case, "b")
    damaged = case.plan()
    assert (damaged["condition"], damaged["counts"]["gone"], damaged["counts"]["differ"]) == ("damaged", 2, 0)


def test_objects_that_no_row_knows_are_told_and_above_the_limit_are_damage(case: Case) -> None:
    """They may be nobody's, or thumbnails that no table names: a folder of those must not vanish in silence."""
    case.known(["a"])
    lose(case, "d")
    made = case.plan()
    assert (made["condition"], made["unchecked"]) == ("healthy", [])
    assert any("that no row knows: 1 (d)" in warning for warning in made["warnings"])
    lose(case, "b")
    made = case.plan()
    assert (made["condition"], made["counts"]["gone"]) == ("damaged", 2)
    assert "more than the 30 % of 4 objects" in made["findings"][0]


def test_a_hostile_key_forges_no_line_of_the_plan(case: Case) -> None:
    key = "x\n  1. nothing is done\x1b[2J"
    case.world.live.objects[key] = Object(b"x")
    publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1))
    lose(case, key)
    lines = text(case.plan())
    assert any("x\\n  1. nothing is done\\x1b[2J" in line for line in lines)
    assert [line for line in lines if not line.isprintable()] == []


def test_what_nobody_can_say_is_said_to_be_unchecked(case: Case) -> None:
    lose(case, "d")
    made = case.plan()
    assert made["condition"] == "healthy"
    assert made["unchecked"] == [
        f"of 4 objects are gone or overwritten since {ID}: 1 (d); whether rightly, is not known",
        "what the database says of the objects: lifeboat_objects.keys_query is not set",
    ]


def test_later_objects_are_counted_and_stay(case: Case) -> None:
    case.world.live.objects["new"] = Object(b"later", AFTER)
    case.world.live.objects["old"] = Object(b"earlier", BEFORE)
    lose(case, "a", "b")
    made = case.plan()
    assert made["counts"] == {"gone": 2, "differ": 0, "extra": 2, "later": 1}
    assert any(
        "2 objects that the backup does not know, 1 of them written after" in line and "stay as they are" in line
        for line in text(made)
    )
    exact = case.plan(exact=True)
    assert any("are put into quarantine" in line for line in text(exact))
    assert any("put 2 objects that the point does not know aside" in step for step in exact["steps"])


# (what was asked, what is remembered) -> needed
IDENTITY: list[tuple[dict[str, Any], Optional[dict[str, str]], bool]] = [
    ({}, None, False),
    ({"force": True}, None, True),
    ({"identity": ID}, None, True),
    ({"identity": ID}, {"id": ID}, False),
    ({"identity": ID}, {"id": ID, "prefix": "a"}, True),  # only a part of it was
    ({"identity": ID, "prefix": "a"}, {"id": ID, "prefix": "a"}, False),
    ({"identity": ID, "prefix": "a"}, {"id": ID}, False),
    ({"identity": ID, "force": True}, {"id": ID}, True),
    ({"identity": ID}, {"id": "objects_backup_20261123_120000"}, True),
    ({"before": T}, None, True),
    ({"before": T}, {"id": ID, "asked": "2026-11-24T12:00:00.000Z"}, False),
    ({"before": T + timedelta(days=1)}, {"id": ID, "asked": "2026-11-24T12:00:00.000Z"}, True),
    ({"prefix": "a"}, None, False),  # nothing differs below it
]  # fmt: skip


def others(made: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["name"], one["action"], one["why"]) for one in made["buckets"][1:]]


def gaps(made: dict[str, Any]) -> list[tuple[str, str]]:
    return [(gap["what"], gap["why"]) for gap in made["untested"]]


def test_what_is_not_carried_of_single_objects_is_named_before_confirmation(case: Case) -> None:
    some = {"encrypted": {"aws:kms": 2}, "clear": 2, "storage": {"COLD": 1}, "retained": 3, "held": 1}
    publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), properties=some)
    made = case.plan(force=True)
    (encryption, storage) = gaps(made)
    assert encryption[0] == "the encryption of 2 objects (aws:kms) of uploads"
    assert encryption[1].startswith("the vault holds the plain bytes of 2")
    assert storage == ("the storage class of 1 objects (COLD) of uploads", "they come back as usual ones")
    assert {": ".join(encryption), ": ".join(storage)} <= set(made["warnings"])
    assert "restore: the retention of 3 objects and the legal hold of 1 objects, where it still lasts" in made["steps"]
    older = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=2), properties=None)
    assert gaps(case.plan(force=True)) == [(
        "retention, legal hold, encryption and storage class of the objects of uploads",
        "the backup is older than the record of them; take a new one: lifeboat backup objects",
    )], older.id  # fmt: skip


def test_what_happens_to_every_other_bucket_is_planned(case: Case) -> None:
    case.world.others = ["avatars", "cache", "docs"]
    case.objects["exclude"] = ["cache"]
    apart = [("avatars", "in no backup"), ("docs", "in no backup"), ("cache", "left out by lifeboat_objects.exclude")]
    healthy = case.plan()
    assert others(healthy) == [(name, "untouched", why) for name, why in apart]
    assert "  not touched: the buckets avatars, docs (in no backup)" in text(healthy)
    filled = case.plan(force=True)
    assert (filled["mode"], filled["buckets"][0]["action"]) == ("fill", "restored")
    assert others(filled) == [(name, "untouched", why) for name, why in apart]
    rebuilt = case.plan(force=True, method="rebuild")
    assert others(rebuilt) == [(name, "quarantined", why) for name, why in apart]
    words = "  put aside with the data directory, and not brought back: the bucket"
    assert f"{words}s avatars, docs (in no backup)" in text(rebuilt)
    assert f"{words} cache (left out by lifeboat_objects.exclude)" in text(rebuilt)
    for made in (filled, rebuilt):
        assert [(gap["what"], gap["why"]) for gap in made["untested"]] == [
            ("the buckets avatars, docs", "in no backup"),
            ("the bucket cache", "left out by lifeboat_objects.exclude"),
        ]


def test_a_rebuild_names_each_of_many_buckets(case: Case) -> None:
    case.world.others = [f"tenant-{number:03}" for number in range(300)]
    (line,) = [line for line in text(case.plan(force=True, method="rebuild")) if "tenant" in line]
    assert all(name in line for name in case.world.others)


def test_a_rebuild_asks_for_what_it_would_move_aside_for_good(case: Case) -> None:
    case.world.others = ["docs"]
    made = case.plan(force=True, method="rebuild")
    assert made["asks"] == ["docs"]
    assert any("a rebuild would move 1 bucket aside for good" in line for line in text(made))
    for others, action in (("restore", "copied"), ("aside", "quarantined")):
        agreed = case.plan(force=True, method="rebuild", other_buckets=others)
        assert (agreed["asks"], agreed["buckets"][1]["action"]) == ([], action)
    assert case.plan(force=True)["asks"] == ["docs"], "should the fill turn into a rebuild"
    assert case.plan()["asks"] == [], "nothing is done"


def test_another_stacks_vault_is_asked_for_and_not_copied(case: Case) -> None:
    case.world.others = case.world.vaults = ["blog-backup"]
    assert case.plan(force=True, method="rebuild")["asks"] == ["blog-backup"]
    made = case.plan(force=True, method="rebuild", other_buckets="restore")
    assert others(made) == [("blog-backup", "quarantined", "another stack's vault")]


def test_a_store_that_does_not_answer_had_the_buckets_of_the_backups_time(case: Case) -> None:
    stopped(case)
    case.world.others = ["unseen"]
    before = case.plan()
    assert (others(before), before["unchecked"]) == ([], ["which other buckets the store has: it does not answer"])
    publish_objects(case.root, dict(case.world.live.objects), AFTER, unprotected=["docs"], excluded=["cache"])
    made = case.plan()
    assert made["mode"] == "start"
    assert others(made) == [
        ("docs", "quarantined", "in no backup"),
        ("cache", "quarantined", "left out by lifeboat_objects.exclude"),
    ]
    assert made["unchecked"] == ["which buckets were made since the backup: it does not answer"]
    aside = "where the data directory must be put aside, they go with it and are not brought back"
    assert f"  {aside}: the bucket docs (in no backup)" in text(made)
    assert any("the server does not answer, so nothing can be copied out of it" in line for line in text(made))


def test_a_key_that_may_not_list_buckets_leaves_them_unchecked(case: Case) -> None:
    case.world.unlisted = "access denied"
    made = case.plan()
    assert (made["needed"], "which other buckets the store has: access denied" in made["unchecked"]) == (False, True)
    assert "  not checked: which other buckets the store has: access denied" in text(made)


@pytest.mark.parametrize(("request_", "last", "needed"), IDENTITY)
def test_idempotent_by_identity(
    case: Case, request_: dict[str, Any], last: Optional[dict[str, str]], needed: bool
) -> None:
    if last:
        case.remember(**last)
    made = case.plan(**request_)
    assert (made["needed"], made["mode"]) == (needed, "fill" if needed else "none")


def test_a_state_that_is_asked_for_is_compared_with(case: Case) -> None:
    """That the bucket was recovered to it once does not make it so still."""
    case.remember(id=ID)
    assert case.plan(identity=ID)["needed"] is False
    case.world.live.objects["new"] = Object(b"later", AFTER)
    assert case.plan(identity=ID)["needed"] is False, "what the point does not know stays"
    made = case.plan(identity=ID, exact=True)
    assert (made["needed"], made["mode"], made["counts"]["extra"]) == (True, "fill", 1)
    assert made["why"] == f"1 objects are not in {ID}, and exact was given"
    assert case.plan(exact=True)["needed"] is True, "of the newest backup, too"
    lose(case, "d")
    made = case.plan(identity=ID)
    assert (made["needed"], made["counts"]["gone"], made["why"]) == (True, 1, f"1 objects are not those of {ID}")
    case.known(["a"], ["b"], ["c"])
    assert case.plan(identity=ID)["needed"] is True, "though the database knows it to be deleted: a state was asked for"
    assert case.plan()["needed"] is False


def test_settings_of_a_state_that_is_asked_for(case: Case) -> None:
    case.remember(id=ID)
    case.known(["a"], ["b"], ["c"], ["d"])
    newer = publish_objects(
        case.root, dict(case.world.live.objects), T + timedelta(days=1), settings={"versioning": None}
    )
    case.world.live.settings["versioning"] = None
    assert case.plan()["condition"] == "healthy", f"as in {newer.id}"
    made = case.plan(identity=ID)
    assert (made["needed"], made["why"]) == (True, "versioning is off, it was Enabled")


def test_rows_whose_object_only_an_older_backup_has(case: Case) -> None:
    """The newest backup was taken after they were lost: by it alone the bucket would be healthy."""
    lose(case, "c", "d")
    older = ID
    publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1))
    case.known(["a"], ["b"], ["c"], ["d"])
    words = f"rows have no object: 2 (c, d); {older} has 2 of them"
    with refused(NotFoundError, rf"{re.escape(words)}.*lifeboat.dr.reconcile.*-e recovery_point={older}"):
        case.plan()
    assert case.plan(identity=older)["counts"]["gone"] == 2
    lose(case, "a")
    damaged = case.plan()
    assert (damaged["counts"]["gone"], words in damaged["findings"]) == (1, True), "what the newest has is brought back"


def test_rows_whose_object_no_backup_has(case: Case) -> None:
    case.known(
        ["a"], ["b"], ["c"], ["d"], ["never"], ["young", None, None, clock.format_time(datetime.now(timezone.utc))]
    )
    made = case.plan()
    assert (made["needed"], made["condition"], made["rows_without"], made["held_by"]) == (False, "damaged", 1, "")
    words = (
        "rows have no object: 1 (never); no earlier backup that was looked into has one of them; the rows may be wrong"
    )
    assert (made["findings"], made["unchecked"]) == ([words], [])
    assert "the bucket uploads is healthy" not in text(made)
    assert any(line.startswith("nothing to do: no backup that could be read has") for line in text(made))
    assert case.plan(identity=ID)["needed"] is True, "a state was asked for"


def test_rows_are_of_the_bucket_that_they_name(case: Case) -> None:
    """A row of another bucket is no row without an object of the application's."""
    case.known(["a"], ["b", None, None, None, "uploads"], ["c"], ["d"], ["elsewhere", None, None, None, "docs"])
    made = case.plan()
    assert (made["condition"], made["findings"], made["rows_without"]) == ("healthy", [], 0)


OPEN = {"Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Principal": {"AWS": ["*"]}}]}
REORDERED = {"Statement": [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Principal": {"AWS": "*"}}]}


def test_settings_are_put_back_where_the_objects_are_healthy(case: Case) -> None:
    """Nothing is stopped for it, and no object is touched: not one that the application changed since."""
    wanted = {"versioning": "Enabled", "lifecycle": [{"ID": "old"}], "policy": OPEN, "cors": None}
    point = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), settings=wanted)
    case.world.live.settings.update(lifecycle=[{"ID": "old"}], policy=REORDERED)
    case.world.live.objects["a"] = Object(b"changed", AFTER)
    assert case.plan(bucket_settings="restore")["needed"] is False, "arrays in another order are the same policy"
    case.world.live.settings.update(lifecycle=[{"ID": "new"}], policy={"Statement": []}, cors=[{"ID": "x"}])
    assert case.plan()["needed"] is False
    made = case.plan(bucket_settings="restore")
    assert (made["needed"], made["mode"], made["writers"], made["asks"]) == (True, "settings", [], [])
    assert made["why"] == (
        f"not as in {point.id}: the bucket's lifecycle is not what it was; the bucket's policy is not what it was"
    )
    assert any("no object is touched, and nothing is stopped" in step for step in made["steps"])
    lose(case, "b", "c")
    damaged = case.plan(bucket_settings="restore")
    assert (damaged["mode"], damaged["settings"]) == ("fill", "restore")


def test_a_prefix_alone_is_brought_back(case: Case) -> None:
    lose(case, "a", "b")
    case.world.live.objects["c"] = Object(b"rubbish")
    made = case.plan(prefix="c")
    assert (made["needed"], made["counts"]["gone"], made["counts"]["differ"]) == (True, 0, 1)
    assert "1 missing and 0 other objects below a" in " ".join(case.plan(prefix="a")["steps"])
    with pytest.raises(NotFoundError, match="no object below 'z'"):
        case.plan(prefix="z")


def test_a_prefix_that_alone_differs_is_reason_enough(case: Case) -> None:
    case.world.live.objects["c"] = Object(b"rubbish")
    assert case.plan()["needed"] is False
    made = case.plan(prefix="c")
    assert (made["needed"], made["mode"], made["why"]) == (True, "fill", f"1 objects below c are not those of {ID}")


def test_writers_left_stopped_are_started(case: Case) -> None:
    (case.root / "state").mkdir()
    (case.root / "state" / recovery_state.STOPPED).write_text('["backend"]')
    made = case.plan()
    assert (made["needed"], made["mode"]) == (True, "reopen")
    assert len(made["steps"]) == 2


@contextmanager
def refused(kind: type[Exception], words: str) -> Iterator[None]:
    with pytest.raises(kind, match=words):
        yield


def test_a_key_that_is_refused_is_not_a_lost_bucket(case: Case) -> None:
    case.world.live.error = failure("SignatureDoesNotMatch", 403)
    with refused(UsageError, "refuses the key.*Correct lifeboat_objects"):
        case.plan()
    case.world.live.error = failure("403", 403)
    with refused(UsageError, "access denied.*docs/mirror.md lists.*nothing is rebuilt"):
        case.plan()
    assert case.plan(force=True, method="rebuild")["mode"] == "rebuild"


def test_a_store_that_lets_nothing_be_listed_and_everything_be_read_is_not_damaged(case: Case) -> None:
    def denied(one: Any, prefix: str = "", watch: object = None) -> Iterator[Version]:
        with client.translated_errors("list the bucket", "uploads"):
            raise failure("AccessDenied", 403, "ListObjectsV2")
        yield

    case.monkeypatch.setattr(objects_assess.compare.bucket, "objects", denied)
    words = r"Could not look at the bucket(.|\n)*access denied(.|\n)*docs/mirror.md lists(.|\n)*nothing is rebuilt"
    with refused(UsageError, words):
        case.plan()


ROOT = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": "root-secret-1"}
OF_ANOTHER = {"objects_admin_access_key": "another", "objects_admin_secret_key": "another-secret"}
# (the service's environment, the admin's key) -> the key that a fresh store is filled with, or why there is none
FRESH: list[tuple[dict[str, str], dict[str, str], str, str]] = [
    ({}, {}, "", ""),
    (ROOT, {}, "root", ""),
    (ROOT, OF_ANOTHER, "root", ""),
    (ROOT, {**OF_ANOTHER, "objects_admin_access_key": "root"}, "root", ""),
    ({"MINIO_ROOT_USER_FILE": "/run/secrets/root"}, OF_ANOTHER, "another", ""),
    ({"MINIO_ROOT_USER": "root"}, {}, "", "which is not known here"),
    ({"MINIO_ROOT_USER": "root"}, OF_ANOTHER, "", "which objects_admin_access_key is not"),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "admin", "used", "why"), FRESH)
def test_the_key_that_a_fresh_store_would_know(
    case: Case, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], admin: dict[str, str], used: str, why: str
) -> None:
    monkeypatch.setitem(globals(), "SECRETS", {**SECRETS, **admin})
    case.stack.found = dataclasses.replace(UP, environment=environment)
    if why:
        with refused(UsageError, rf"{why}, and not the stack's own key(.|\n)*Nothing was moved"):
            case.plan(force=True, method="rebuild")
        case.stack.found = dataclasses.replace(CRASHED, environment=environment)
        (line,) = [line for line in case.plan()["warnings"] if line.startswith("should it not come up")]
        assert why in line and "Set objects_admin_access_key" in line
    else:
        key = buckets.for_fresh(Opened(case.config))
        assert (key.access_key if key else "") == used


def test_what_the_vault_no_longer_has_is_said_before_anything_is_touched(case: Case) -> None:
    lose(case, "a", "b")
    case.world.vault.held = case.world.vault.held[1:]
    with refused(IntegrityError, r"the vault no longer has 1 \(a\) of 4 objects.*partial=true"):
        case.plan()
    made = case.plan(partial=True)
    assert any("the vault no longer has 1 (a): they stay lost" in warning for warning in made["warnings"])
    lose(case, "c", "d")
    del case.world.vault.held[0]
    with refused(IntegrityError, r"2 \(a, b\) of 4"):
        case.plan()


def test_what_expired_and_is_not_needed_does_not_matter(case: Case) -> None:
    lose(case, "a", "b")
    case.world.vault.held = case.world.vault.held[:2]
    assert case.plan()["needed"] is True


def test_a_vault_that_burns_with_the_bucket_is_refused(case: Case) -> None:
    case.vault["endpoint_url"] = "http://localhost:9000"
    case.world.live.endpoint_url = "http://127.0.0.1:9000"
    case.monkeypatch.setattr(bucket.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("127.0.0.1", 0))])
    assert any("what burns one burns both" in warning for warning in case.plan()["warnings"])
    lose(case, "a", "b")
    assert case.plan()["mode"] == "fill"
    stopped(case)
    with refused(UsageError, "the vault is served by objects too"):
        case.plan()
    case.vault["objects_bucket"] = "uploads"
    case.stack.found = UP
    with refused(UsageError, "the very bucket"):
        case.plan()


def test_a_vault_that_does_not_answer_stops_it_now(case: Case) -> None:
    def silent(one: Any, prefix: str = "") -> Iterator[Version]:
        raise LifeboatError("list the bucket", "vault", "no answer")
        yield

    case.monkeypatch.setattr(objects_assess.compare.bucket, "versions", silent)
    assert case.plan()["needed"] is False, "not asked where there is nothing to do"
    lose(case, "a", "b")
    with refused(LifeboatError, "no answer"):
        case.plan()


def test_a_full_disk_stops_it_now(case: Case) -> None:
    lose(case, "a", "b")
    case.monkeypatch.setattr(objects_plan.filesystem, "free", lambda path: 8)
    with refused(SpaceError, "8 B free"):
        case.plan()


def test_an_endpoint_that_is_not_ours_is_not_started(case: Case) -> None:
    case.objects["service"] = ""
    case.world.live.error = failure("503", 503)
    with refused(UsageError, "no service of the stack serves it"):
        case.plan()
    case.world.live.error = None
    lose(case, "a", "b")
    assert case.plan()["mode"] == "fill"
    with refused(UsageError, "method=rebuild needs lifeboat_objects.service"):
        case.plan(force=True, method="rebuild")


def test_fill_needs_a_server(case: Case) -> None:
    stopped(case)
    with refused(UsageError, "method=fill needs a server"):
        case.plan(method="fill")


def test_a_far_smaller_newest_backup_is_not_chosen_for_you(case: Case) -> None:
    small = publish_objects(case.root, {"a": case.world.live.objects["a"]}, T + timedelta(days=1))
    lose(case, "a", "b")
    with refused(UsageError, f"{small.id} holds 1 objects, {ID} 4: which of them is right"):
        case.plan()
    assert case.plan(identity=ID)["backup"]["id"] == ID
    named = case.plan(identity=small.id)
    assert any(f"to use that one: -e recovery_point={ID}" in warning for warning in named["warnings"])


def test_a_failed_backup_is_planned_with_if_it_is_named_and_accepted(case: Case) -> None:
    lose(case, "a")
    prove(case.root, case.point.manifest, checks.FAIL)
    with refused(IntegrityError, "verification at level restore failed"):
        case.plan(identity=ID)
    made = case.plan(identity=ID, accept=True)
    assert made["accepted"] == ["verification at level restore failed (tables: x)"]
    assert f"  ACCEPTED although it failed: {made['accepted'][0]}" in text(made)
    with refused(UsageError, "it needs the id of a backup"):
        case.plan(accept=True)


def test_a_listing_of_other_bytes_is_not_accepted(case: Case) -> None:
    """A damaged one cannot be unpacked: one that can was edited."""
    path = case.root / "backup" / "objects" / ID / "listing.jsonl.gz"
    flip(path, -1)
    with refused(IntegrityError, "another SHA-256"):
        case.plan(identity=ID, accept=True)


def test_a_damaged_listing_is_passed_over_and_said(case: Case) -> None:
    newer = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1))
    path = case.root / "backup" / "objects" / newer.id / "listing.jsonl.gz"
    flip(path, -1)
    lose(case, "a", "b")
    made = case.plan()
    assert made["backup"]["id"] == ID
    assert [entry["id"] for entry in made["passed_over"]] == [newer.id]
    assert any(
        line.startswith(f"  passed over {newer.id}: listing.jsonl.gz has another SHA-256") for line in text(made)
    )
    with refused(IntegrityError, "another SHA-256"):
        case.plan(identity=newer.id)


def test_an_older_backup_that_has_to_do_says_what_newer_ones_hold(case: Case) -> None:
    case.objects["buckets"] = ["*"]
    newer = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), besides=["docs", "wiki"])
    path = case.root / "backup" / "objects" / newer.id / "listing.jsonl.gz"
    path.write_bytes(b"X" * path.stat().st_size)
    case.world.others = ["docs"]
    lose(case, "a", "b")
    made = case.plan()
    assert (made["backup"]["id"], made["newer"]) == (ID, ["docs", "wiki"])
    words = f"{ID} does not hold the bucket wiki, which is not in the store; {newer.id} does"
    assert [line for line in made["warnings"] if "does not hold" in line] == [
        f"{words}: -e recovery_point={newer.id} -e bucket=wiki"
    ]
    gap = {"what": "the bucket wiki", "why": f"only newer backups hold it, such as {newer.id}"}
    assert gap in made["untested"]
    assert case.plan(identity=ID)["newer"] == [], "it was not there then"
    assert case.plan(bucket="uploads")["newer"] == []


def lacking(case: Case) -> tuple[Point, FakeBucket]:
    """The newest backup could not include wiki, which the one before it has; it is there."""
    case.objects["buckets"] = ["*"]
    case.root.joinpath("backup", "objects", ID).rename(case.root / "aside")
    publish_objects(case.root, dict(case.world.live.objects), besides=["docs", "wiki"])
    newer = publish_objects(
        case.root, dict(case.world.live.objects), T + timedelta(days=1), besides=["docs"], missing={"wiki": "denied"}
    )
    case.world.others = ["docs", "wiki"]
    live = case.world.live
    named = {
        name: dataclasses.replace(live, name=name, own=name, objects=dict(live.objects)) for name in ("docs", "wiki")
    }
    case.monkeypatch.setattr(buckets, "source", lambda run: named.get(run.config.objects.bucket, live))
    return newer, named["wiki"]


def test_a_backup_that_lacks_a_bucket_is_used_and_the_lack_named(case: Case) -> None:
    """As one that lacks a database. It was passed over, and the objects were those of the night before."""
    newer, wiki = lacking(case)
    case.world.others, wiki.missing = ["docs"], True
    lose(case, "a", "b")
    made = case.plan()
    assert (made["backup"]["id"], made["passed_over"], made["newer"]) == (newer.id, [], ["wiki"])
    assert [line for line in made["warnings"] if "wiki" in line] == [
        f"the bucket wiki is not in {newer.id}: denied",
        f"{newer.id} does not hold the bucket wiki, which is not in the store; {ID} does:"
        f" -e recovery_point={ID} -e bucket=wiki",
    ]
    assert {"what": "the bucket wiki", "why": f"the newest that holds it is {ID}"} in made["untested"]
    assert case.plan(identity=ID)["newer"] == []


def test_an_endpoint_that_was_down_before_the_loss_is_in_the_plan(case: Case) -> None:
    case.monkeypatch.setattr(recovery_state, "warnings_of_unanswered", lambda config, patience: [f"it is {patience}"])
    assert "it is 30.0" not in case.plan()["warnings"], "nobody will wait for it"
    lose(case, "a", "b")
    made = case.plan()
    assert (made["needed"], "it is 30.0" in made["warnings"]) == (True, True)


def test_what_newer_backups_could_not_include_is_recovered_of_the_newest_that_has_it(case: Case) -> None:
    newer, wiki = lacking(case)
    assert not case.plan()["needed"], "all is there"
    wiki.missing = True
    made = case.plan()
    assert made["findings"] == ["the bucket wiki: it is missing"]
    assert (made["backup"]["id"], made["others"]) == (ID, ["wiki"])
    assert [(one["id"], one["problem"]) for one in made["passed_over"]] == [
        (newer.id, "the bucket wiki is not in it: denied")
    ]
    lose(case, "a", "b")
    made = case.plan()
    assert (made["backup"]["id"], made["others"], made["newer"]) == (newer.id, [], ["wiki"]), "the application's first"
    assert case.plan(bucket="wiki")["backup"]["id"] == ID


def test_a_state_that_was_asked_for_is_there_whatever_newer_backups_hold(case: Case) -> None:
    """Asking for it again would take back what was changed since."""
    case.objects["buckets"] = ["*"]
    newer = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), besides=["wiki"])
    case.remember(id=ID)
    live = case.world.live
    wiki = dataclasses.replace(live, name="wiki")
    case.monkeypatch.setattr(buckets, "source", lambda run: wiki if run.config.objects.bucket == "wiki" else live)
    assert case.plan()["findings"] == ["the bucket wiki: it is missing"]
    made = case.plan(identity=ID)
    assert (made["condition"], made["needed"], made["newer"]) == ("damaged", False, ["wiki"])
    assert [
        line for line in made["warnings"] if f"{newer.id} does: -e recovery_point={newer.id} -e bucket=wiki" in line
    ]
    lose(case, "a")
    assert case.plan(identity=ID)["needed"], "it is the application's bucket that differs"


def test_a_bucket_that_was_deleted_on_purpose_is_named(case: Case) -> None:
    case.objects["buckets"] = ["*"]
    before = publish_objects(case.root, dict(case.world.live.objects), T - timedelta(days=1), besides=["docs", "wiki"])
    publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), unprotected=[])
    case.world.others = ["docs"]
    made = case.plan()
    words = "the bucket wiki is neither in the store nor in the newest backup: it counts as deleted on purpose"
    assert [line for line in made["warnings"] if "on purpose" in line] == [
        f"{words}; if it was not: -e recovery_point={before.id} -e bucket=wiki"
    ]
    assert (made["needed"], made["newer"]) == (False, [])
    case.world.unlisted = "access denied"
    assert not [line for line in case.plan()["warnings"] if "on purpose" in line]


def test_a_bucket_that_is_gone_is_not_called_right(case: Case) -> None:
    """Of a backup that holds it, where nobody wants it back."""
    publish_objects(case.root, dict(case.world.live.objects), T + timedelta(days=1), besides=["docs"])
    made = case.plan(force=True)
    assert others(made) == [("docs", "untouched", "the store does not have it, and it is not brought back")]


def test_a_time_takes_the_recovery_point_of_that_time(case: Case) -> None:
    """The bucket of the very point whose rows scenario 1 would take, though a loose mirror is newer."""
    tied = case.point
    loose = publish_objects(case.root, dict(case.world.live.objects), T + timedelta(hours=1))
    database = builders.publish(case.root, T)
    parts = {"database": Part(database.id, database.seal), "objects": Part(tied.id, tied.manifest.seal)}
    point = points.Point("20261124_130000", "shop", T, T, "snapshot", parts, {}, (), ())
    builders.store(case.root).write_point(point.id, point.to_bytes())
    asked = {"before": T + timedelta(days=1)}
    made = case.plan(**asked)
    assert (made["backup"]["id"], made["recovery_point"], made["needed"]) == (tied.id, point.id, True)
    assert any(f"-e recovery_point={loose.id}" in warning for warning in made["warnings"])
    case.remember(id=tied.id, asked="2026-11-25T12:00:00.000Z")
    assert not case.plan(**asked)["needed"]
    assert Sources(Opened(case.config), "database", "latest", asked["before"]).point == point.id


def test_without_a_bucket_or_a_backup_it_says_so(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    with refused(NotFoundError, "objects_backup_20200101_000000"):
        case.plan(identity="objects_backup_20200101_000000")
    case.objects, case.vault = {}, {}
    with refused(UsageError, "the stack has no bucket"):
        case.plan()


def test_settings_that_were_changed_on_purpose_are_left_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, monkeypatch)
    publish_objects(
        tmp_path,
        dict(case.world.live.objects),
        T + timedelta(days=1),
        settings={"versioning": "Enabled", "lifecycle": [{"ID": "x"}]},
    )
    case.world.live.settings["lifecycle"] = [{"ID": "y"}]
    made = case.plan()
    assert (made["condition"], made["warnings"]) == (
        "healthy",
        ["the bucket's lifecycle is not what it was; it is left as it is"],
    )


def test_a_setting_that_the_key_may_not_read_is_not_called_healthy(case: Case) -> None:
    case.known(["a"], ["b"], ["c"], ["d"])
    publish_objects(
        case.root, dict(case.world.live.objects), T + timedelta(days=1), settings={}, settings_denied=["policy"]
    )
    made = case.plan()
    assert (made["condition"], made["unchecked"]) == ("healthy", ["the bucket's policy: the key may not read it"])


def test_what_is_remembered_may_be_broken(case: Case) -> None:
    (case.root / "state").mkdir()
    for text in ("", "{", "5", "{}"):
        (case.root / "state" / objects_plan.RECOVERED).write_text(text)
        assert objects_plan.recovered(case.config) is None


def test_what_the_recovery_may_not_do_is_said_before_it_begins(case: Case) -> None:
    """As the last day's try of the key told; a try of another key tells nothing."""
    report = probe.Report(
        "http://objects:8333", "MinIO", datetime.now(timezone.utc), 0.0,
        {name: probe.Feature("supported", "tried") for name in probe.COSTS}, denied={"s3:CreateBucket": "AccessDenied"},
    )  # fmt: skip
    path = case.root / "state" / "endpoint-source.json"
    path.parent.mkdir(exist_ok=True)
    for digest, said in ((endpoints._endpoint_digest(case.config, endpoints.SOURCE), True), ("another key", False)):
        path.write_text(json.dumps(typed.plain(endpoints._Remembered(digest, report), nulls=True)))
        lines = [line for line in case.plan()["warnings"] if "s3:CreateBucket (AccessDenied)" in line]
        assert bool(lines) == said
        assert all("a recovery needs it if the bucket uploads is gone" in line for line in lines)
