# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a site's recovery, by their real main(): check mode, change, no change, failure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import allowed
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import services as configuration_services
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import files as site_files
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site import point_fetch, scope
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show as site_show
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import compose, runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images as stack_images
from ansible_collections.lifeboat.dr.plugins.modules import config_deploy
from ansible_collections.lifeboat.dr.plugins.modules import stack_images as images_module
from builders import NOW, Run, make_config, make_manifest, publish, publish_config, settings, store
from test_site_plan import EMPTY

ID = "config_backup_20261124_120000"
PLAN = site_show.Plan(True, True, "x", "lost", (), (), (), True, False, "", EMPTY.machine, 60)
KEY = "AGE-SECRET-KEY-1TESTTESTTEST"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "assess_host", lambda *_, **__: EMPTY)


def test_site_scope_info_never_changes(
    run: Run, machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "DIRECTORY", tmp_path)
    result = run("site_scope_info")
    assert (result["failed"], result["changed"], result["scope"]["running"]) == (False, False, [])
    assert result["text"] == ["spare1: nothing of the stack is on it"]
    (tmp_path / "shop.json").write_text(json.dumps({"stack": "shop"}))
    monkeypatch.setattr(config, "load", lambda stack: pytest.fail("") if stack != "shop" else make_config(tmp_path))
    assert not run("site_scope_info")["failed"], "its own configuration was taken"


def test_site_plan_info_never_changes(run: Run, machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def make(_: Any, request: Any, here: Any, others: Any, log: Any) -> site_show.Plan:
        given.append((request, others))
        return PLAN

    monkeypatch.setattr(site_plan, "make", make)
    monkeypatch.setattr(site_show, "text", lambda made, here: ["the plan"])
    result = run(
        "site_plan_info",
        others={"app1": "gone"},
        recovery_time="2026-11-24T12:00:00Z",
        identity=KEY,
        rehearsal=True,
        accept="failed",
    )
    assert (result["changed"], result["needed"], result["ready"], result["text"]) == (False, True, True, ["the plan"])
    assert result["plan"] == json.loads(json.dumps(typed.plain(PLAN, nulls=True)))
    assert (result["plan"]["backup"], result["plan"]["machine"]["system"]) == (None, "Debian")
    request, others = given[0]
    assert (request.wish.moment, request.key, request.rehearsal, others) == (NOW, KEY, True, {"app1": "gone"})
    assert request.accept is True
    assert run("site_plan_info")["failed"] is False
    assert given[1][0].accept is False
    assert KEY not in json.dumps(result)
    assert run("site_plan_info", recovery_time="yesterday")["failed"]

    def refuse(*_: Any, **__: Any) -> Any:
        raise UsageError("plan the recovery of the site", "shop", "the site still lives on app1")

    monkeypatch.setattr(site_plan, "make", refuse)
    assert "the site still lives on app1" in run("site_plan_info")["msg"]


def test_a_plan_of_the_site_that_another_recovery_disturbs_says_so(
    run: Run, machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path / "locks")

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotFoundError("plan the recovery of the site", "shop", "no recovery point is whole")

    monkeypatch.setattr(site_plan, "make", refuse)
    assert "another run" not in run("site_plan_info")["msg"]
    conf = make_config(tmp_path)
    with lock.held("shop", "prune"), recovery_state.own_turn(conf, "recover the objects", "S"):
        during = run("site_plan_info")
    assert "another run (recover the objects, at 2" in during["cause"] and "nothing was done" in during["cause"]


def test_site_phase_changes_what_is_remembered(run: Run, tmp_path: Path) -> None:
    point = {"recovery_point": "20261124_120000"}
    checked = [{"name": "tables", "result": "PASS", "detail": "x"}]
    assert run("site_phase", check=True, begin="build", **point)["changed"]
    assert not (tmp_path / "state" / "site.json").exists()
    first = run("site_phase", begin="build", since="2026-11-24T12:00:00Z", **point)
    assert [phase["name"] for phase in first["phases"]] == ["assess"]
    ended = run("site_phase", checks=checked, facts={"mode": "m"}, finished=True, **point)
    assert ([phase["name"] for phase in ended["phases"]], ended["checks"]) == (["assess", "build"], checked)
    assert ended["phases"][1]["mode"] == "m"
    assert (first["finished"], ended["finished"]) == (False, True), "by which the role tells an end from a stop"


def test_site_phase_fails_where_nothing_can_be_remembered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    result = run("site_phase", begin="build", recovery_point="20261124_120000")
    assert "Could not remember the recovery" in result["msg"]


@pytest.fixture
def placing(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []

    def place(*given: Any, **more: Any) -> site_files.Placed:
        seen.append(more)
        left = [allowed.LeftOut("/etc/x", "the inventory does not name it")] if more["allow"] else []
        written = ["/srv/shop/.env"] if len(seen) < 3 else []
        started = (configuration_services.Service("web", role="a writer"),) if more["which"] == "files" else ()
        return site_files.Placed(written, same=len(seen), aside={}, left=left, services=started)

    monkeypatch.setattr(site_files, "place_files", place)
    monkeypatch.setattr(config_deploy, "open_place", lambda *_: None)
    return seen


def test_config_deploy_changes_once(run: Run, placing: list[dict[str, Any]]) -> None:
    planned = run("config_deploy", check=True, id=ID, identity=KEY)
    done = run("config_deploy", id=ID, identity=KEY)
    again = run("config_deploy", id=ID, which="schedules")
    assert [result["changed"] for result in (planned, done, again)] == [True, True, False]
    assert done["diff"]["after"] == "/srv/shop/.env\n"
    assert [call["check"] for call in placing] == [True, False, False]
    assert (placing[0]["key"], placing[2]["which"]) == (KEY, "schedules")
    assert (done["checks"][0]["name"], done["checks"][0]["result"]) == ("files", PASS)
    assert KEY not in json.dumps(done)
    assert [check["result"] for check in done["checks"]] == [PASS, PASS], "nothing left out, and services as expected"
    assert [check["name"] for check in again["checks"]] == ["schedules"]


def test_config_deploy_takes_the_stacks_lock(
    run: Run, placing: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of the configuration that has begun is not of files that are half placed."""
    taken, real = [], lock.held
    monkeypatch.setattr(lock, "held", lambda *words, **more: (taken.append(words), real(*words, **more))[1])
    run("config_deploy", check=True, id=ID)
    assert taken == []
    run("config_deploy", id=ID)
    assert taken == [("shop", "deploy the configuration")]
    assert len(placing) == 2


def test_config_deploy_says_what_it_left_out(run: Run, placing: list[dict[str, Any]]) -> None:
    done = run("config_deploy", id=ID, allow=["/srv/other"], which="schedules")
    assert placing[0]["allow"] == ["/srv/other"]
    assert done["left_out"] == [{"path": "/etc/x", "why": "the inventory does not name it"}]
    assert done["checks"][1] == {
        "name": "files left out", "result": "COULD_NOT_VERIFY", "detail": "/etc/x: the inventory does not name it",
    }  # fmt: skip


def test_config_deploy_fails_with_anothers_key(
    run: Run, placing: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UsageError("decrypt", ID, "no identity matched any of the recipients")

    monkeypatch.setattr(site_files, "place_files", refuse)
    assert "no identity matched" in run("config_deploy", id=ID, identity=KEY)["msg"]


class Project:
    model = compose.Project("shop", services={"web": compose.Service(), "db": compose.Service()})


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "ComposeRuntime", lambda _: Project())


def test_stack_images_changes_where_one_is_lacking(run: Run, project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    brought = [["db"], []]
    monkeypatch.setattr(
        stack_images, "provide", lambda *_, **__: ([Check("image db", PASS, "as recorded")], brought.pop(0))
    )
    first, second = run("stack_images", id=ID), run("stack_images", id=ID)
    assert [result["changed"] for result in (first, second)] == [True, False]
    assert (first["services"], first["checks"][0]["name"]) == (["db", "web"], "image db")
    units = run("stack_images", settings={"stack": "shop", "runtime": {"type": "host"}})
    assert (units["changed"], units["services"]) == (False, [])


def test_stack_images_fails_where_one_comes_from_nowhere(
    run: Run, project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: Any, __: Any, load: Any, **___: Any) -> Any:
        load()

    monkeypatch.setattr(stack_images, "provide", nowhere)
    assert "there is no config backup" in run("stack_images")["msg"]

    def gone(*_: Any, **__: Any) -> Any:
        raise NotFoundError("load the images", ID, "it has no images")

    monkeypatch.setattr(images_module.configuration_restore, "load_images", gone)
    monkeypatch.setattr(images_module, "open_place", lambda *_: None)
    assert "it has no images" in run("stack_images", id=ID)["msg"]


POINT = "20261124_120000"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vault with one point; this machine's repository is another directory, and empty."""
    root = tmp_path / "vault"
    root.mkdir()
    parts = {"database": publish(root), "config": publish_config(root)}
    named: dict[str, Any] = {name: points.Part(part.id, part.seal) for name, part in parts.items()}
    note = "the endpoint GET http://x.invalid/ did not answer as it should: status 502 instead of 200: Bad Gateway"
    one = points.Point(POINT, "shop", NOW, NOW, "snapshot", {**named, "objects": None}, {}, (), (note,))
    store(root).write_point(POINT, one.to_bytes())
    monkeypatch.setattr(point_fetch, "open_store", lambda _: (store(root), "vault"))
    return root


def test_point_fetch_changes_once(run: Run, tmp_path: Path, vault: Path) -> None:
    expected = [ID.replace("config", "db"), ID, POINT]
    given = {"settings": settings(tmp_path), "recovery_point": POINT}
    planned = run("point_fetch", check=True, **given)
    assert (planned["changed"], sorted(planned["fetched"]), list((tmp_path / "backup").iterdir())) == (
        True, sorted(expected), [],
    )  # fmt: skip
    conf = make_config(tmp_path)
    assert not recovery_state.unanswered(conf).problems
    assert sorted(run("point_fetch", **given)["fetched"]) == sorted(expected)
    assert (
        recovery_state.unanswered(conf).problem(conf, "GET http://x.invalid/").startswith("status 502 instead of 200")
    )
    again = run("point_fetch", **given)
    assert (again["changed"], again["fetched"]) == (False, [])
    dump = tmp_path / "backup" / "postgresql" / "db_backup_20261124_120000" / "database.dump"
    assert dump.read_bytes() == b"dump"


def test_point_fetch_fails_on_what_is_damaged_on_the_way(run: Run, tmp_path: Path, vault: Path) -> None:
    damaged = vault / "backup" / "postgresql" / "db_backup_20261124_120000" / "database.dump"
    damaged.write_bytes(b"XXXX")
    result = run("point_fetch", settings=settings(tmp_path), recovery_point=POINT)
    assert "database.dump has another SHA-256" in result["msg"]
    assert list((tmp_path / "backup" / "postgresql").glob("db_*")) == []


@pytest.mark.parametrize("missing", [False, True])
def test_point_fetch_goes_without_another_database_that_is_damaged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    """The plan left it out. Here the backup is spoiled for that database alone."""
    root = tmp_path / "vault"
    root.mkdir()
    name = "databases/001/database.dump"
    counts = {"level": "content", "tables": 1, "rows": 7, "large_objects": 0, "objects": 1}
    wiki = {"name": "wiki", "folder": "databases/001", "taken_at": "2026-11-24T12:00:01Z", "size": 1, "relations": 1}
    artefacts = (*make_manifest(NOW).artefacts, Artefact(name, 4, hashlib.sha256(b"dump").hexdigest()))
    one = publish(root, artefacts=artefacts, details={"others": [{**wiki, "fingerprint": counts}]})
    point = points.Point(
        POINT, "shop", NOW, NOW, "snapshot", {"database": points.Part(one.id, one.seal), "objects": None}, {}, (), ()
    )
    store(root).write_point(POINT, point.to_bytes())
    monkeypatch.setattr(point_fetch, "open_store", lambda _: (store(root), "vault"))
    path = root / "backup/postgresql" / one.id / name
    path.unlink() if missing else path.write_bytes(b"XXXX")
    result = run("point_fetch", settings=settings(tmp_path), recovery_point=POINT)
    why = f"{name} is missing" if missing else f"{name} has another SHA-256 than when it was written"
    assert f"{one.id}: {why}; its database is left out" in result["log"]
    found = catalog.entry(store(tmp_path), "database", one.id)
    assert (found.good, found.spoiled) == (False, {"wiki": f"{name} is missing"})


def test_point_fetch_fails_on_another_backup_of_that_id(run: Run, tmp_path: Path, vault: Path) -> None:
    publish(tmp_path, details={"database": "other"})
    result = run("point_fetch", settings=settings(tmp_path), recovery_point=POINT)
    assert "another backup of that id" in result["msg"]
    assert result["failed"] and IntegrityError.exit_code == 6


def test_a_key_that_is_a_name_is_not_hidden_in_results(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shop` as an access key must not blank /srv/shop; what is secret stays hidden, also where both are equal."""
    monkeypatch.setattr(scope, "assess_host", lambda *_, **__: replace(EMPTY, host="shop-spare and hunter3"))
    secrets = {"objects_access_key": "shop", "objects_secret_key": "hunter3"}
    said = run("site_scope_info", secrets=secrets)["text"][0]
    assert said.startswith("shop-spare and ***")
    same = {"objects_access_key": "hunter3", "objects_secret_key": "hunter3"}
    assert "hunter3" not in json.dumps(run("site_scope_info", secrets=same))
