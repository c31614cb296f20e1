# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The acting phases on buckets of dictionaries: what is started, moved, copied, in which order, and never lost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import verify as mirror_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.back import CopiedBack
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import assess as objects_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import condition as objects_condition
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import planned as objects_planned
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Unheld
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from builders import settings
from object_world import AFTER, OBJECTS, SECRETS, VAULT, FakeBucket, Object, T, World, failure, publish_objects
from object_world import row as as_row

UP = ServiceState(exists=True, running=True, status="running")
CRASHED = ServiceState(exists=True, status="exited", exit_code=1)
STAMP = "20261124_130000"
PLANNED = objects_planned.Plan(
    needed=True, condition="damaged", findings=(), unchecked=(), warnings=(), why="", asked=False, mode="fill",
    unreadable=False, backup={}, location="", recovery_point="", passed_over=(), accepted=(), service="objects",
    writers=("backend", "worker"), stamp=STAMP, target="uploads", target_seconds=0, prefix="", exact=False,
    partial=False, state="", counts=objects_planned.Difference(0, 0, 0, 0), steps=(),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes are at once what they will be."""
    monkeypatch.setattr(objects_recovery, "SETTLING", -1.0)


class Stack:
    """A stack that keeps a diary. comes_up: what its server is once started; fresh: what an empty one is."""

    def __init__(self, mount: DataMount) -> None:
        self.mount = mount
        self.comes_up, self.fresh = True, True
        self.up = True
        self.diary: list[str] = []

    def state(self, service: str) -> ServiceState:
        return UP if self.up else CRASHED

    def start(self, services: Any, *, timeout: float) -> None:
        self.diary.append(f"start {' '.join(services)}")
        empty = not any(self.mount.path.iterdir())
        self.up = self.fresh if empty else self.comes_up

    def stop(self, services: Any, *, timeout: float) -> None:
        self.diary.append(f"stop {' '.join(services)}")
        self.up = self.up and "objects" not in services

    def discard(self, service: str, *, timeout: float) -> None:
        self.diary.append(f"discard {service}")
        self.up = False

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount

    def by_hand(self, service: str) -> tuple[str, str]:
        return f"stop {service}", "start all"

    def logs(self, service: str, lines: int = 30) -> str:
        return "FATAL no disk"


class Case:
    """A world with one objects backup of a, b, c and d, and a mirror that copies by the vault's versions."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        self.world = World(monkeypatch)
        data = root / "it's data"
        data.mkdir(mode=0o700)
        (data / "1.dat").write_text("x")
        self.stack = Stack(DataMount("bind", str(data), data))
        monkeypatch.setattr(runtime, "connect", lambda _: self.stack)
        monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", -1.0)
        monkeypatch.setattr(objects_recovery.time, "sleep", lambda _: None)
        monkeypatch.setattr(back, "copy_back", self.copy_back)
        monkeypatch.setattr(mirror_verify, "verify_objects", self.verify_objects)
        self.objects: dict[str, Any] = dict(OBJECTS)
        self.world.fill()
        self.wanted = dict(self.world.live.objects)
        self.point = publish_objects(root, self.wanted)
        self.copied: list[list[str]] = []
        self.spoiled: list[str] = []  # keys whose first copy goes wrong
        self.said: list[str] = []

    @property
    def config(self) -> config.Config:
        return config.from_mapping(settings(self.root, objects=self.objects, vault=dict(VAULT)), SECRETS)

    def copy_back(
        self, _: Any, entries: Iterable[Listed], target: Any, *, log: Any, compare: bool = True, lock: bool = False,
        shared: Any,
    ) -> CopiedBack:  # fmt: skip
        assert not lock, "the backup has no lock on record"
        keys = [entry.key for entry in entries]
        self.copied.append(keys)
        for key in keys:
            assert key not in self.lacking, "asked for what the vault does not have"
            assert not compare, "what is copied is known to be wrong there"
            bad = key in self.spoiled and len(self.copied) == 1
            self.world.live.objects[key] = Object(b"spoiled", etag=self.wanted[key].tag) if bad else self.wanted[key]
        self.world.retagged -= set(keys) if len(self.copied) > 1 else set()
        return CopiedBack(len(keys), len(keys), 0, 0, 0, ())

    lacking: tuple[str, ...] = ()

    def verify_objects(
        self, _: Any, entries: Iterable[Listed], target: Any, sample: Optional[int] = None, *, shared: Any, share: int
    ) -> list[Check]:
        self.sample = sample
        bad = [
            entry.key
            for entry in entries
            if entry.key not in target.objects or target.objects[entry.key].body != self.wanted[entry.key].body
        ]
        if self.unreadable and len(self.copied) == 1:
            raise LifeboatError("read", "b in s3://uploads", "InternalError")
        other = sorted(self.world.retagged)
        return [
            Check("objects", FAIL if bad else PASS, ", ".join(bad) or "all read back"),
            Check("metadata and tags", FAIL if other else PASS, ", ".join(other)),
        ]

    unreadable = False

    @property
    def backup(self) -> dict[str, object]:
        return {"id": self.point.id, "place": "repository"}

    def protect(self, **changes: Any) -> dict[str, Any]:
        done: dict[str, Any] = typed.plain(
            objects_recovery.protect(
                Opened(self.config), replace(PLANNED, **{"backup": self.backup, **changes}), log=self.said.append
            )
        )
        return done

    def restore(self, **options: Any) -> dict[str, Any]:
        restored = objects_recovery.restore_objects(
            Opened(self.config), self.point.id, stamp=STAMP, log=self.said.append, **options
        )
        found: dict[str, Any] = typed.plain(restored)
        json.dumps(found)
        return found

    def known(self, *rows: Any) -> None:
        self.objects["keys_query"] = "SELECT key FROM f"

        class Database:
            database = "shop"

            def stream(self, sql: str, take: Any, **_: Any) -> None:
                for row in rows:
                    take(as_row(row))

        self.monkeypatch.setattr(server, "connect", lambda config, stack: Database())

    def assess_as(self, condition: str, **more: Any) -> None:
        self.monkeypatch.setattr(
            objects_assess,
            "assess",
            lambda config, reference, instead, log: objects_condition.Assessment(condition, ("why",), **more),
        )

    @property
    def marked(self) -> bool:
        return (self.root / "state" / recovery_state.RECOVERING_OBJECTS).exists()

    def bodies(self) -> dict[str, bytes]:
        return {key: held.body for key, held in self.world.live.objects.items()}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


# --- protect ---


def test_fill_stops_the_writers_and_tries_the_server(case: Case) -> None:
    done = case.protect()
    assert (done["mode"], done["fresh"], done["quarantine"], done["stopped"]) == (
        "fill",
        False,
        "",
        ["backend", "worker"],
    )
    assert case.stack.diary == ["stop backend worker"]
    scratch = "lifeboat-check-20261124-130000"
    assert case.world.live.diary == [f"make {scratch}", f"unmake {scratch}"], (
        "tried in a bucket of its own, which is gone"
    )
    assert recovery_state.stopped(case.config) == ["backend", "worker"], "remembered, lest a kill leave them stopped"
    assert case.marked, "no mirror until the objects are back"


def test_the_bucket_of_a_check_that_was_killed_is_removed_by_the_next(case: Case) -> None:
    left = "lifeboat-check-20261124-125959"
    live = case.world.live
    live.create_bucket(Bucket=left)
    live.put_object(Bucket=left, Key="check", Body=b"x")
    live.diary.clear()
    recovery_state.keep(case.config, objects_recovery.CHECKING, json.dumps(left))
    assert case.protect()["mode"] == "fill"
    scratch = "lifeboat-check-20261124-130000"
    assert live.diary == [f"unmake {left}", f"make {scratch}", f"unmake {scratch}"]
    assert not (case.config.state / objects_recovery.CHECKING).exists()


def test_unreadable_objects_are_looked_at_again_after_a_start(case: Case) -> None:
    assert case.protect(unreadable=True)["mode"] == "fill"
    assert case.stack.diary == ["stop backend worker", "stop objects", "start objects"]


def test_a_server_that_takes_no_objects_is_rebuilt(case: Case) -> None:
    case.world.live.full = True
    done = case.protect()
    assert (done["mode"], done["fresh"]) == ("rebuild", True)
    assert any(line.startswith("it takes no objects: InternalError") for line in case.said)


def test_a_key_that_may_make_no_bucket_is_no_reason_to_rebuild(case: Case) -> None:
    def refuse(Bucket: str) -> None:
        raise failure("AccessDenied", 403)

    case.monkeypatch.setattr(case.world.live, "create_bucket", refuse)
    assert case.protect()["mode"] == "fill"


def test_rebuild_moves_the_data_aside_and_deletes_nothing(case: Case) -> None:
    done = case.protect(mode="rebuild")
    data = case.stack.mount.path
    aside = data.with_name("it's data.quarantine_" + STAMP)
    assert (done["mode"], done["fresh"], done["quarantine"]) == ("rebuild", True, str(aside))
    assert (aside / "1.dat").read_text() == "x"
    assert list(data.iterdir()) == []
    assert case.stack.diary == ["stop backend worker", "discard objects", "start objects"]
    assert (done["way_back"][0], done["way_back"][-1], len(done["way_back"])) == ("stop objects", "start all", 4)


@pytest.mark.parametrize("mode", ["rebuild", "start", "fill"])
def test_no_bucket_is_moved_aside_that_nobody_said_may_be(case: Case, mode: str) -> None:
    """A plan that fills says that the others are not touched, and a server that takes no objects is rebuilt."""
    case.world.live.full = mode == "fill"
    case.stack.up = case.stack.comes_up = mode != "start"
    with pytest.raises(UsageError, match=r"it would put the buckets docs, avatars aside(.|\n)*-e others=restore"):
        case.protect(mode=mode, asks=("docs", "avatars"))
    assert (case.stack.mount.path / "1.dat").read_text() == "x"
    if mode == "rebuild":
        assert case.stack.diary == [], "refused before anything stops"


def test_a_server_that_was_merely_stopped_is_merely_started(case: Case) -> None:
    case.stack.up = False
    case.assess_as(recovery_state.HEALTHY)
    done = case.protect(mode="start")
    assert (done["mode"], [check["result"] for check in done["checks"]]) == ("started", [PASS])
    assert case.stack.diary == ["stop backend worker", "start objects"]
    assert not case.marked


def test_what_was_not_checked_does_not_pass(case: Case) -> None:
    case.assess_as(recovery_state.HEALTHY, unchecked=("no query",))
    (check,) = case.protect(mode="start")["checks"]
    assert (check["result"], check["detail"]) == (COULD_NOT_VERIFY, "no query")


STARTED: list[tuple[str, dict[str, Any], bool, str]] = [
    (recovery_state.HEALTHY, {}, True, "fill"),
    (recovery_state.DAMAGED, {}, False, "fill"),
    (recovery_state.DAMAGED, {"emptied": True}, False, "rebuild"),
    (recovery_state.DAMAGED, {"ruined": True}, False, "rebuild"),
    (recovery_state.DOWN, {}, False, "rebuild"),
]


@pytest.mark.parametrize(("condition", "more", "asked", "mode"), STARTED)
def test_what_comes_up_decides(case: Case, condition: str, more: dict[str, Any], asked: bool, mode: str) -> None:
    case.assess_as(condition, **more)
    assert case.protect(mode="start", asked=asked)["mode"] == mode
    assert case.marked


def test_the_temporary_server_of_an_image_is_not_taken_for_one_that_fails(case: Case) -> None:
    """An emptied directory may be initialised by a server that answers, stops, and makes room for the real one."""
    conditions = [recovery_state.DOWN, recovery_state.DAMAGED]
    case.monkeypatch.setattr(
        objects_assess, "assess", lambda *_, **__: objects_condition.Assessment(conditions.pop(0), ("why",), "")
    )
    done = case.protect(mode="start")
    assert (done["mode"], done["fresh"], conditions) == ("fill", False, [])
    assert list(case.stack.mount.path.iterdir()), "nothing was put aside"


def test_a_fresh_server_has_to_stay_up(case: Case) -> None:
    """The first answers may be of the temporary server: four looks in a row find the service up."""
    looks: list[bool] = []
    real = case.stack.state

    def state(service: str) -> ServiceState:
        looks.append(len(looks) != 3)
        return real(service) if looks[-1] else ServiceState(exists=True, status="restarting")

    case.monkeypatch.setattr(case.stack, "state", state)
    assert case.protect(mode="rebuild")["fresh"] is True
    assert len(looks) >= 4 + 4, "the count begins again when it is seen down"


def test_a_server_that_does_not_come_up_is_rebuilt(case: Case) -> None:
    case.stack.up = case.stack.comes_up = False
    done = case.protect(mode="start")
    assert (done["mode"], done["fresh"]) == ("rebuild", True)
    assert "it does not: objects is exited, exit code 1; it last said: FATAL no disk" in case.said


def test_a_fresh_server_that_does_not_come_up_is_said(case: Case) -> None:
    case.stack.up = case.stack.comes_up = case.stack.fresh = False
    with pytest.raises(LifeboatError, match=r"Could not start the object store.*FATAL no disk"):
        case.protect(mode="start")
    assert case.marked


def test_a_refused_key_stops_it_before_data_is_moved(case: Case) -> None:
    case.world.live.error = failure("403", 403)
    with pytest.raises(UsageError, match="access denied"):
        case.protect(mode="start")
    assert list(case.stack.mount.path.iterdir())


def test_an_endpoint_that_is_not_ours_is_not_touched(case: Case) -> None:
    case.objects["service"] = ""
    assert case.protect()["mode"] == "fill"
    assert case.stack.diary == ["stop backend worker"]


def test_reopen_touches_nothing(case: Case) -> None:
    begun = recovery_state.Unfinished(begun=False)
    recovery_state.mark(case.config, recovery_state.RECOVERING_OBJECTS, begun)
    done = case.protect(mode="reopen")
    assert (done["mode"], [check["result"] for check in done["checks"]], case.stack.diary) == ("started", [PASS], [])
    assert not case.marked, "it was only started, and nothing of it was replaced: mirrors may go on"
    recovery_state.mark(case.config, recovery_state.RECOVERING_OBJECTS)
    assert (case.protect(mode="reopen")["mode"], case.marked) == ("started", True), "only a comparison ends a recovery"
    assert case.protect(mode="reopen", unchecked=["x"])["checks"][0]["result"] == COULD_NOT_VERIFY


# --- restore ---


def test_only_what_is_missing_or_wrong_is_copied(case: Case) -> None:
    del case.world.live.objects["a"]
    case.world.live.objects["b"] = Object(b"rubbish")
    case.world.live.objects["new"] = Object(b"later", AFTER)
    done = case.restore()
    assert case.copied == [["a", "b"]]
    assert case.bodies() == {**{key: wanted.body for key, wanted in case.wanted.items()}, "new": b"later"}
    assert (done["copied"]["copied"], done["copied"]["failed"]) == (2, [])
    assert (done["quarantine_bucket"], done["settings"]) == ("", [])
    assert case.stack.diary == ["stop objects", "start objects"], "only what is on its disk counts"
    assert {check["name"]: check["result"] for check in done["checks"]} == {
        "objects": PASS, "metadata and tags": PASS, "bucket versioning": PASS, "rows and objects": COULD_NOT_VERIFY,
    }  # fmt: skip
    last = objects_plan.recovered(case.config)
    assert last and (last.id, last.prefix, last.requested) == (case.point.id, "", "")
    assert set(done["seconds"]) == {"restore", "verify"}
    case.copied.clear()
    case.restore()
    assert case.copied == [[]], "what is right is not copied again"


def test_a_missing_bucket_is_made_with_its_settings(case: Case) -> None:
    case.world.live.missing = True
    case.world.live.objects = {}
    case.world.live.settings = {}
    done = case.restore(fresh=True)
    assert case.world.live.diary == ["make uploads", "versioning on"]
    assert (case.copied, done["settings"]) == ([["a", "b", "c", "d"]], ["versioning"])


def test_a_bucket_made_just_now_is_asked_for_none_of_its_objects(case: Case) -> None:
    """Of one that was there some keys that it does not list are: a listing may hide them. Each bucket costs a hundred
    requests so."""
    asked: list[str] = []

    def head(self: FakeBucket, Bucket: str, Key: str) -> dict[str, Any]:
        asked.append(Key)
        raise failure("404", 404)

    case.monkeypatch.setattr(FakeBucket, "head_object", head)
    case.world.live.objects = {}
    case.restore()
    assert sorted(asked) == ["a", "b", "c", "d"]
    asked.clear()
    case.world.live.missing, case.world.live.objects = True, {}
    case.restore(fresh=True)
    assert asked == []
    assert case.copied == [["a", "b", "c", "d"]] * 2


def settings_checks(done: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        check["name"]: (check["result"], check["detail"])
        for check in done["checks"]
        if check["name"].startswith("bucket ")
    }


def test_a_setting_that_the_server_refuses_never_stops_the_objects(case: Case) -> None:
    """A fresh server without the tier of a rule, and a versioning that cannot be switched on: every object is back."""
    wanted = {"versioning": "Enabled", "lifecycle": [{"ID": "tier"}], "policy": None}
    case.point = publish_objects(case.root, case.wanted, AFTER, settings=wanted)
    case.world.live.objects, case.world.live.settings = {}, {}

    def refuse(*_: Any, **__: Any) -> None:
        raise failure("InvalidStorageClass", 400)

    case.monkeypatch.setattr(FakeBucket, "put_bucket_lifecycle_configuration", refuse, raising=False)
    case.monkeypatch.setattr(FakeBucket, "put_bucket_versioning", refuse)
    done = case.restore(fresh=True)
    assert sorted(case.world.live.objects) == ["a", "b", "c", "d"]
    found = settings_checks(done)
    assert {name: result for name, (result, _) in found.items()} == {
        "bucket versioning": FAIL,
        "bucket lifecycle": FAIL,
    }
    assert "InvalidStorageClass" in found["bucket lifecycle"][1]


def test_settings_come_after_the_objects(case: Case) -> None:
    """A policy that denies writes, or a rule that expires old objects, is no hindrance to bringing them back."""
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={"lifecycle": [{"ID": "old"}]})
    case.world.live.objects, seen = {}, []

    def put(_: Any, Bucket: str, LifecycleConfiguration: dict[str, Any]) -> None:
        seen.extend(sorted(case.world.live.objects))
        case.world.live.settings["lifecycle"] = LifecycleConfiguration["Rules"]

    case.monkeypatch.setattr(FakeBucket, "put_bucket_lifecycle_configuration", put, raising=False)
    done = case.restore(fresh=True)
    assert seen == ["a", "b", "c", "d"]
    assert settings_checks(done) == {"bucket lifecycle": (PASS, "as on record")}


# (on record, unread then, now) -> (result, words)
SETTINGS: list[tuple[dict[str, Any], tuple[str, ...], dict[str, Any], str, str]] = [
    ({"lifecycle": [{"ID": "x"}]}, (), {"lifecycle": [{"ID": "y"}]}, COULD_NOT_VERIFY, "not as on record"),
    ({"lifecycle": [{"ID": "x"}, {"ID": "y"}]}, (), {"lifecycle": [{"ID": "y"}, {"ID": "x"}]}, PASS, "as on record"),
    ({"cors": [{"ID": "x"}]}, (), {}, COULD_NOT_VERIFY, "the server does not tell it"),
    ({"versioning": "Suspended"}, (), {"versioning": "Suspended"}, PASS, "as on record"),
    ({"versioning": "Suspended"}, (), {"versioning": "Enabled"}, COULD_NOT_VERIFY, "not as on record"),
    ({}, ("lifecycle",), {}, COULD_NOT_VERIFY, "the key might not read it when the backup was made"),
    ({}, (), {}, PASS, "none are on record"),
]


@pytest.mark.parametrize(("wanted", "unread", "now", "result", "words"), SETTINGS)
def test_each_setting_is_a_check_of_its_own(
    case: Case, wanted: dict[str, Any], unread: tuple[str, ...], now: dict[str, Any], result: str, words: str
) -> None:
    case.point = publish_objects(case.root, case.wanted, AFTER, settings=wanted, settings_denied=list(unread))
    case.world.live.settings.update(now)
    ((name, (told, detail)),) = settings_checks(case.restore()).items()
    assert name == f"bucket {next(iter([*wanted, *unread]), 'settings')}"
    assert (told, words in detail) == (result, True), detail


def test_settings_alone_are_put_back_and_what_they_were_is_kept(case: Case) -> None:
    wanted = {"versioning": "Enabled", "policy": {"Statement": []}, "cors": None}
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={**wanted, "policy": {"Statement": ["x"]}})
    case.world.live.settings.update(policy={"Statement": ["y"]}, cors=[{"ID": "z"}])
    case.world.live.objects = {"new": Object(b"new")}
    done = case.restore(bucket_settings="only")
    assert case.world.live.diary == ["policy"]
    assert (list(case.world.live.objects), case.copied, case.marked) == (["new"], [], False)
    found = settings_checks(done)
    assert (found["bucket versioning"], found["bucket policy"]) == ((PASS, "as on record"), (PASS, "as on record"))
    assert found["bucket cors"][0] == COULD_NOT_VERIFY, "it is set, and was not; nothing is removed"
    assert done["settings"] == ["policy"]
    (path,) = (case.root / "state").glob("bucket_settings_*.json")
    assert json.loads(path.read_text()) == {"uploads": {"policy": {"Statement": ["y"]}}}
    assert any(check["detail"] == f"kept in {path}" for check in done["checks"])


def test_a_setting_that_the_key_may_not_read_is_not_put_back(case: Case) -> None:
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={"policy": {"Statement": ["x"]}})
    case.world.live.settings["policy"] = failure("AccessDenied", 403)
    done = case.restore(bucket_settings="only")
    assert settings_checks(done) == {"bucket policy": (COULD_NOT_VERIFY, "the key may not read it")}
    assert case.world.live.diary == []


def test_settings_that_differ_are_put_back_with_the_objects(case: Case) -> None:
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={"policy": {"Statement": ["x"]}})
    case.world.live.settings["policy"] = {"Statement": ["y"]}
    assert settings_checks(case.restore())["bucket policy"][0] == COULD_NOT_VERIFY
    assert settings_checks(case.restore(bucket_settings="restore"))["bucket policy"] == (PASS, "as on record")


def test_a_setting_of_which_none_is_on_record_is_told(case: Case) -> None:
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={"policy": None})
    case.world.live.settings["policy"] = {"Statement": ["y"]}
    ((name, (result, words)),) = settings_checks(case.restore()).items()
    assert (name, result, "on record there is none" in words) == ("bucket policy", COULD_NOT_VERIFY, True)


def test_versioning_comes_first_so_that_nothing_is_overwritten_for_good(case: Case) -> None:
    case.world.live.settings = {"versioning": "Suspended"}
    case.world.live.objects["b"] = Object(b"rubbish")
    assert case.restore()["quarantine_bucket"] == ""
    assert case.world.live.diary[0] == "versioning on"


def unversioned(case: Case) -> None:
    case.point = publish_objects(case.root, case.wanted, AFTER, settings={"versioning": None})
    case.world.live.settings = {}


def test_without_versions_what_is_overwritten_is_kept_elsewhere(case: Case) -> None:
    unversioned(case)
    case.world.live.objects["b"] = Object(b"rubbish")
    name = case.restore()["quarantine_bucket"]
    assert name == "uploads-quarantine-20261124-130000"
    assert case.world.live.aside[name] == {"b": b"rubbish"}


def test_exact_puts_aside_what_the_point_does_not_know(case: Case) -> None:
    unversioned(case)
    case.world.live.objects["new"] = Object(b"later", AFTER)
    name = case.restore(exact=True)["quarantine_bucket"]
    assert case.world.live.aside[name] == {"new": b"later"}
    assert sorted(case.world.live.objects) == ["a", "b", "c", "d"]


def test_a_prefix_alone(case: Case) -> None:
    case.world.live.objects = {"c": Object(b"rubbish")}
    case.restore(prefix="a")
    assert case.copied == [["a"]]
    assert case.bodies() == {"a": b"body of a", "c": b"rubbish"}
    last = objects_plan.recovered(case.config)
    assert last and last.prefix == "a"


def test_what_the_database_has_as_it_is_now_stays_unless_a_state_was_asked_for(case: Case) -> None:
    case.known(["a", 7], ["c"], ["d"])
    case.world.live.objects["a"] = Object(b"changed", AFTER)
    del case.world.live.objects["b"], case.world.live.objects["c"]
    done = case.restore(requested=False)
    assert case.copied == [["b", "c"]], "b is no row's: too many objects are told, too few are lost"
    assert case.bodies() == {"a": b"changed", **{key: f"body of {key}".encode() for key in "bcd"}}
    assert {check["name"]: check["result"] for check in done["checks"]}["rows without objects"] == PASS
    case.copied.clear()
    case.restore()
    assert case.copied == [["a"]]


@pytest.mark.parametrize("missing", [True, False])
def test_a_bucket_that_lost_everything_gets_everything_back(case: Case, missing: bool) -> None:
    """Also what no row knows, and what a row has otherwise: none of it is there to be right."""
    case.known(["a", 7])
    case.world.live.missing, case.world.live.objects = missing, {}
    done = case.restore(requested=False)
    assert case.copied == [["a", "b", "c", "d"]]
    assert done["checks"][0]["result"] == PASS


def test_rows_written_after_the_point_are_told_apart(case: Case) -> None:
    case.known(["a"], ["b"], ["c"], ["d"], ["later", None, None, AFTER.isoformat()])
    case.world.live.objects = {}
    done = case.restore(fresh=True)
    report = done["reconciled"]
    assert (report["newer"]["examples"], report["rows_without_objects"]["count"], report["verdict"]) == (
        ["later"],
        0,
        PASS,
    )
    case.known(["a"], ["b"], ["c"], ["d"], ["undated"])
    report = case.restore()["reconciled"]
    assert (report["unsure"]["examples"], report["verdict"]) == (["undated"], COULD_NOT_VERIFY)


def test_a_prefix_is_reconciled_below_it(case: Case) -> None:
    case.known(["a"], ["elsewhere"])
    assert case.restore(prefix="a")["reconciled"]["clean"] is True


def test_listed_rightly_and_wrong_all_the_same_is_copied_once_more(case: Case) -> None:
    case.world.live.objects = {}
    case.spoiled = ["b"]
    done = case.restore()
    assert case.copied == [["a", "b", "c", "d"], ["b"]]
    assert (case.bodies()["b"], done["checks"][0]["result"]) == (b"body of b", PASS)


def test_headers_and_tags_that_alone_are_wrong_are_brought_back(case: Case) -> None:
    case.world.retagged = {"c"}
    done = case.restore()
    assert case.copied == [[], ["c"]]
    assert {check["result"] for check in done["checks"][:2]} == {PASS}


def test_an_object_that_cannot_be_read_back_is_copied_once_more(case: Case) -> None:
    case.world.live.objects["b"].error = failure("InternalError", 500)
    case.wanted = {**case.wanted, "b": Object(b"body of b")}
    case.unreadable = True
    case.restore()
    assert case.copied == [[], ["b"]]
    assert case.world.live.objects["b"].error is None


def test_what_cannot_be_made_right_is_no_recovery(case: Case) -> None:
    case.world.live.objects = {}
    failed = CopiedBack(4, 3, 0, 0, 1, (Unheld("a", "no such version"),))
    case.monkeypatch.setattr(back, "copy_back", lambda *a, **kw: failed)
    with pytest.raises(IntegrityError, match=r"objects: a, b, c, d; a: no such version\..*method=rebuild"):
        case.restore()
    assert objects_plan.recovered(case.config) is None


def test_what_not_even_the_vault_has_is_a_failed_check(case: Case) -> None:
    case.world.live.objects = {}
    case.world.vault.held = [version for version in case.world.vault.held if version.key != "b"]
    case.lacking = ("b",)
    done = case.restore(partial=True)
    assert case.copied == [["a", "c", "d"]]
    checks = {check["name"]: check for check in done["checks"]}
    assert (checks["objects"]["result"], checks["held by the vault"]["result"]) == (PASS, FAIL)
    assert "1 (b)" in checks["held by the vault"]["detail"]


def test_a_damaged_listing_is_not_used(case: Case) -> None:
    path = case.root / "backup" / "objects" / case.point.id / "listing.jsonl.gz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="another SHA-256"):
        case.restore()
    assert case.copied == []


def test_how_many_are_read_back_is_passed_on(case: Case) -> None:
    case.restore(sample=7)
    assert case.sample == 7
    case.restore()
    assert case.sample is None


def test_one_instant_however_it_was_written(case: Case) -> None:
    case.restore(state="2026-11-24T21:00:00+09:00")
    last = objects_plan.recovered(case.config)
    assert last and last.requested == "2026-11-24T12:00:00.000Z"
    assert T.hour == 12


def test_accepted_differences_are_let_through_and_stay_failed_checks(case: Case) -> None:
    def spoil(_: Any, entries: Any, *__: Any, **___: Any) -> list[Check]:
        return [Check("objects", FAIL, "b has other bytes")]

    case.monkeypatch.setattr(mirror_verify, "verify_objects", spoil)
    with pytest.raises(IntegrityError, match="b has other bytes"):
        case.restore()
    assert not (case.root / "state" / objects_plan.RECOVERED).exists()
    done = case.restore(accept=True)
    assert {check["name"]: check["result"] for check in done["checks"]}["objects"] == FAIL
    assert (case.root / "state" / objects_plan.RECOVERED).exists()


def test_a_right_that_the_recovery_lacks_ends_it_before_anything_is_stopped(case: Case) -> None:
    """A bucket is missing and the key may not make one: nobody waits for an application that lost its files."""

    def refuse(self: Any, Bucket: str) -> None:
        raise failure("AccessDenied", 403)

    case.monkeypatch.setattr(FakeBucket, "create_bucket", refuse)
    assert case.protect(target=case.world.live.name)["mode"] == "fill", "the bucket is there, and none has to be made"
    case.stack.diary.clear()
    case.world.live.missing = True
    with pytest.raises(UsageError, match=r"bucket uploads is missing, and the key may make no bucket.*CreateBucket"):
        case.protect(target=case.world.live.name)
    assert case.stack.diary == [], "nothing was stopped"


def test_what_newer_backups_hold_and_the_store_lacks_is_no_pass(case: Case) -> None:
    live = case.world.live
    live.aside["docs"] = {}
    named = {"docs": replace(live, name="docs"), "wiki": replace(live, name="wiki")}
    case.monkeypatch.setattr(buckets, "source", lambda run: named.get(run.config.objects.bucket, live))

    def checked(*newer: str) -> list[tuple[str, str]]:
        checks = case.restore(newer=newer)["checks"]
        return [(check["result"], check["detail"]) for check in checks if check["name"] == "buckets of newer backups"]

    assert checked() == []
    assert checked("docs") == [(PASS, "the store has the bucket docs")]
    assert checked("docs", "wiki") == [(FAIL, f"the bucket wiki is not back: {case.point.id} does not hold it")]
    named["docs"].error = failure("InternalError", 500)
    (check,) = objects_recovery._newer(Opened(case.config), ("docs",), case.point.id)
    assert check.result == COULD_NOT_VERIFY, "it could not be looked at"
