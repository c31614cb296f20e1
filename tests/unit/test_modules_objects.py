# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a bucket's recovery, by their real main(): check mode, change, no change, failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, present
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import refetch
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from builders import Run, prove, settings, store
from object_world import OBJECTS, SECRETS, VAULT, T, World, publish_objects
from test_objects_plan import Stack
from test_objects_recovery import PLANNED

ID = "objects_backup_20261124_120000"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A healthy bucket and a backup of it."""
    world = World(monkeypatch)
    data = tmp_path / "data"
    data.mkdir()
    (data / "1.dat").write_text("x")
    monkeypatch.setattr(runtime, "connect", lambda _: Stack(data))
    world.fill()
    publish_objects(tmp_path, dict(world.live.objects))
    return world


def given(root: Path, **more: Any) -> dict[str, Any]:
    return {"settings": settings(root, objects=dict(OBJECTS), vault=dict(VAULT)), "secrets": dict(SECRETS), **more}


def test_objects_plan_info_never_changes(run: Run, tmp_path: Path, bucket: World) -> None:
    result = run("objects_plan_info", **given(tmp_path))
    assert (result["failed"], result["changed"], result["needed"], result["plan"]["mode"]) == (
        False,
        False,
        False,
        "none",
    )
    assert "nothing to do: the bucket is healthy and no recovery point was asked for" in result["text"]
    asked = run(
        "objects_plan_info", **given(tmp_path, recovery_time="2026-11-24T21:00:00+09:00", prefix="a", exact=True)
    )
    assert (asked["changed"], asked["needed"], asked["plan"]["state"]) == (False, True, "2026-11-24T12:00:00.000Z")
    assert (asked["plan"]["prefix"], asked["plan"]["exact"], asked["plan"]["backup"]["id"]) == ("a", True, ID)
    forced = run("objects_plan_info", **given(tmp_path, force=True, method="rebuild", partial=True))
    assert (forced["plan"]["mode"], forced["plan"]["partial"]) == ("rebuild", True)


def test_a_failed_backup_that_is_named_is_accepted(
    run: Run, tmp_path: Path, bucket: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = catalog.entries(store(tmp_path), "objects", "shop")
    prove(tmp_path, present(one.manifest), checks.FAIL)
    asked: list[bool] = []

    def restored(opened: Any, identity: str, **options: Any) -> dict[str, Any]:
        asked.append(options["accept"])
        return {"id": identity, "checks": []}

    monkeypatch.setattr(objects_recovery, "restore_objects", restored)
    for module, named in (("objects_plan_info", "recovery_point"), ("objects_restore", "id")):
        assert "-e accept=failed" in run(module, **given(tmp_path, **{named: ID}))["remedy"]
        assert "it needs the id of a backup" in run(module, **given(tmp_path, accept="failed"))["cause"]
        assert run(module, **given(tmp_path, accept="failed", **{named: ID}))["failed"] is False
    assert asked == [True]
    made = run("objects_plan_info", **given(tmp_path, accept="failed", recovery_point=ID))
    assert made["plan"]["accepted"] == ["verification at level restore failed (tables: x)"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recovery_time": "yesterday"}, "it is not ISO 8601"),
        ({"recovery_point": "objects_backup_20200101_000000"}, f"the repository has {ID}"),
        ({"recovery_point": "20200101_000000"}, "there is none of that name"),
    ],
)
def test_objects_plan_info_fails_before_it_looks(
    run: Run,
    tmp_path: Path,
    bucket: World,
    options: dict[str, Any],
    words: str,
) -> None:
    result = run("objects_plan_info", **given(tmp_path, **options))
    assert result["failed"]
    assert words in result["msg"]


PLAN = typed.plain(dataclasses.replace(PLANNED, writers=("backend",), stamp="S"))


def test_objects_protect_changes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        objects_recovery, "protect", lambda config, planned, log: {"mode": planned.mode, "fresh": False}
    )
    done = run("objects_protect", **given(tmp_path, plan=PLAN))
    assert (done["changed"], done["mode"]) == (True, "fill")
    planned = run("objects_protect", check=True, **given(tmp_path, plan={**PLAN, "mode": "rebuild"}))
    assert (planned["changed"], planned["fresh"], planned["stopped"]) == (True, True, ["backend"])


def test_objects_protect_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Any, planned: Any, log: Any) -> None:
        raise LifeboatError("start the object store", "objects", "FATAL no disk", "docker compose logs")

    monkeypatch.setattr(objects_recovery, "protect", broken)
    result = run("objects_protect", **given(tmp_path, plan=PLAN))
    assert (result["failed"], result["cause"], result["remedy"]) == (True, "FATAL no disk", "docker compose logs")


def test_objects_restore_changes_once(
    run: Run,
    tmp_path: Path,
    bucket: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []

    def restored(config: Any, identity: str, **options: Any) -> dict[str, Any]:
        seen.append({"id": identity, **{key: value for key, value in options.items() if key != "log"}})
        (tmp_path / "state").mkdir(exist_ok=True)
        text = f'{{"id": "{identity}", "at": "then", "prefix": "{options["prefix"]}"}}'
        (tmp_path / "state" / objects_plan.RECOVERED).write_text(text)
        return {"id": identity, "checks": []}

    monkeypatch.setattr(objects_recovery, "restore_objects", restored)
    planned = run("objects_restore", check=True, **given(tmp_path))
    assert (planned["changed"], planned["id"], planned["diff"], seen) == (
        True,
        ID,
        {"before": "\n", "after": f"{ID}\n"},
        [],
    )
    assert run("objects_restore", **given(tmp_path, prefix="a", sample=3, stamp="S"))["changed"] is True
    (options,) = seen
    assert {name: options[name] for name in ("id", "location", "stamp", "prefix", "sample")} == {
        "id": ID, "location": "repository", "stamp": "S", "prefix": "a", "sample": 3,
    }  # fmt: skip
    assert {name: options[name] for name in ("exact", "partial", "fresh", "requested", "state")} == {
        "exact": False, "partial": False, "fresh": False, "requested": True, "state": "",
    }  # fmt: skip
    assert run("objects_restore", **given(tmp_path, prefix="a"))["changed"] is False
    assert run("objects_restore", **given(tmp_path))["changed"] is True, "only a part of it was"
    assert run("objects_restore", **given(tmp_path))["changed"] is False
    assert run("objects_restore", **given(tmp_path, force=True))["changed"] is True
    assert parse_time("2026-11-24") and len(seen) == 3


def test_objects_restore_fails(
    run: Run,
    tmp_path: Path,
    bucket: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(config: Any, identity: str, **options: Any) -> None:
        raise IntegrityError("prove the restored objects", "uploads", "objects: a", "run it again")

    monkeypatch.setattr(objects_recovery, "restore_objects", broken)
    result = run("objects_restore", **given(tmp_path))
    assert (result["failed"], result["cause"]) == (True, "objects: a")


FOUND = refetch.Refetched(
    verdict="FAIL",
    checks=(Check("rows without objects", "FAIL", "2 rows have no object: a, b"),),
    offers=(refetch.Offer("a", "v", 1, T, "", "its size is the row's"),),
    unfit=1,
)


def test_objects_reconcile_changes_only_what_it_fetches(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refetch, "live", lambda config, fetch, log: dataclasses.replace(FOUND, fetched=int(fetch)))
    told = run("objects_reconcile", **given(tmp_path))
    assert (told["changed"], told["verdict"], told["unfit"]) == (False, "FAIL", 1)
    assert told["text"] == [
        "FAIL             rows without objects: 2 rows have no object: a, b",
        "the vault has: a, version of 2026-11-24T12:00:00.000Z: its size is the row's",
        "the vault has nothing for 1 of them",
    ]
    planned = run("objects_reconcile", check=True, **given(tmp_path, fetch=True))
    assert (planned["changed"], planned["fetched"]) == (True, 0)
    done = run("objects_reconcile", **given(tmp_path, fetch=True))
    fetched = "fetched: a, version of 2026-11-24T12:00:00.000Z: its size is the row's"
    assert (done["changed"], done["text"][1]) == (True, fetched)
    assert run("objects_reconcile", check=True, **given(tmp_path))["changed"] is False


def test_objects_reconcile_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Any, fetch: bool, log: Any) -> None:
        raise LifeboatError("list the bucket", "uploads", "no answer", "look")

    monkeypatch.setattr(refetch, "live", broken)
    result = run("objects_reconcile", **given(tmp_path))
    assert (result["failed"], result["cause"]) == (True, "no answer")
