# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery from step to step, and the modules by their real main(): looks and steps are the test's own tables."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import assess as backend_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import images as backend_images
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import plan as backend_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import recovery as backend_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import redeploy, steps
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.facts import Observations
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.catalog import Entry
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer, mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.state import StateInventory, StateMount
from builders import NOW, Run, make_config, settings
from test_backend_cause import APP, DEAD, HEALTHY, KILLED, LOOP, LOST, REFUSED, THIEF, WEB, app, seen

CHECKS = {"checks": [{"url": "http://127.0.0.1:8000/health"}]}


class World:
    """What each look sees: the first of `looks`, and after each step the next. errors: what a step ends with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list[Observations] = [HEALTHY]
        self.done: list[str] = []
        self.errors: dict[str, LifeboatError] = {}
        monkeypatch.setattr(backend_assess, "observe", lambda config, log: self.looks[0])
        monkeypatch.setattr(backend_assess, "glance", lambda config, **_: self.looks[0])
        monkeypatch.setattr(backend_recovery, "settle", lambda config: None)
        monkeypatch.setattr(backend_images, "candidates", lambda config, found: {})
        monkeypatch.setattr(answer, "ask", lambda check: "" if self.looks[0].serves else "Connection refused")
        monkeypatch.setattr(answer, "endpoint", lambda check, *_: Check("GET x", *self.answer()))
        monkeypatch.setattr(redeploy, "available", lambda run, identity, accept: (None, "no backup"))
        for name in steps.STEPS:
            monkeypatch.setitem(steps.STEPS, name, self.step(name))

    def answer(self) -> tuple[str, str]:
        return (PASS, "status 200") if self.looks[0].serves else (FAIL, "Connection refused")

    def step(self, name: str) -> Callable[[steps.Work], None]:
        def do(work: steps.Work) -> None:
            self.done.append(name)
            if len(self.looks) > 1:
                self.looks.pop(0)
            if name in self.errors:
                raise self.errors[name]

        return do


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def given(root: Path, **more: Any) -> dict[str, Any]:
    return {"settings": settings(root, application=dict(CHECKS)), "secrets": {}, **more}


def plan_of(run: Run, root: Path, **more: Any) -> dict[str, Any]:
    planned: dict[str, Any] = run("backend_plan_info", **given(root, host="shop1", **more))
    assert (planned["failed"], planned["changed"]) == (False, False)
    return planned


def test_backend_plan_info_never_changes(run: Run, tmp_path: Path, world: World) -> None:
    planned = plan_of(run, tmp_path)
    assert (planned["needed"], planned["plan"]["condition"]) == (False, "healthy")
    assert planned["text"][-1] == "nothing to do: every service is well and every endpoint answers"
    same = run("backend_recover", **given(tmp_path, plan=planned["plan"]))
    assert (same["changed"], same["checks"], world.done) == (False, [], [])
    forced = plan_of(run, tmp_path, force=True)
    assert (forced["needed"], forced["plan"]["begin"]) == (True, "restart")
    assert run("backend_recover", **given(tmp_path, plan=forced["plan"]))["mode"] == "restart"


def test_an_endpoint_that_was_down_before_the_loss_is_in_the_plan(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_state, "warnings_of_unanswered", lambda config, patience: [f"it is {patience}"])
    assert "it is 60.0" not in plan_of(run, tmp_path)["plan"]["warnings"], "nobody will wait for it"
    world.looks = [seen(app(status="created"))]
    assert "it is 60.0" in plan_of(run, tmp_path)["plan"]["warnings"]


def turns(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stack's lock in the test's own directory; returns another recovery's turn, under it."""
    monkeypatch.setattr(lock, "DIRECTORY", root / "locks")
    conf = make_config(root)

    @contextlib.contextmanager
    def other() -> Iterator[None]:
        with lock.held("shop", "recover backend"), recovery_state.own_turn(conf, "recover the backend", "S"):
            yield

    return other


@pytest.mark.parametrize("sees", ["an error", "a plan without a step"])
def test_a_plan_that_another_recovery_disturbs_says_so(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, sees: str
) -> None:
    """Containers are down while another run redeploys: what is seen then is no cause."""
    other = turns(tmp_path, monkeypatch)
    world.looks = [seen(app(status="created"), ports=(THIEF,))] if sees != "an error" else [HEALTHY]

    def observe(*_: Any, **__: Any) -> Observations:
        if sees == "an error":
            raise LifeboatError("list the containers", "shop", "No such container", "Look.")
        return world.looks[0]

    monkeypatch.setattr(backend_assess, "observe", observe)
    alone = run("backend_plan_info", **given(tmp_path))
    assert alone["failed"] is (sees == "an error") and "another run" not in json.dumps(alone)
    with other():
        during = run("backend_plan_info", **given(tmp_path))
    assert during["failed"] and "another run (recover the backend, at 2" in during["cause"], during
    assert during["cause"].endswith("nothing was done") and "Run the same command again" in during["remedy"]


def test_of_two_recoveries_at_once_the_second_does_nothing(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = turns(tmp_path, monkeypatch)
    world.looks = [seen(KILLED)]
    planned = plan_of(run, tmp_path)["plan"]
    with other():
        pass
    second = run("backend_recover", **given(tmp_path, plan=planned))
    assert (second["failed"], world.done) == (True, [])
    assert "another run (recover the backend, at 2" in second["cause"] and "nothing was done" in second["cause"]


def test_a_failed_configuration_that_is_named_is_accepted(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("config_backup_x", problem="archive: cut", failures=1)
    asked: list[Any] = []

    def available(_: Any, identity: str, *, accept: bool) -> Any:
        asked.append((identity, accept))
        return entry, ""

    monkeypatch.setattr(redeploy, "available", available)
    world.looks = [seen(KILLED)]
    planned = plan_of(run, tmp_path, recovery_point="config_backup_x", accept="failed")
    assert asked == [("config_backup_x", True)]
    assert "  ACCEPTED although it failed: archive: cut" in planned["text"]
    assert (planned["plan"]["accept"], planned["plan"]["failed"]) == (True, "archive: cut")
    worked: list[Any] = []

    def step(work: steps.Work) -> None:
        worked.append((work.identity, work.accept))
        work.checks.append(Check("backup accepted", COULD_NOT_VERIFY, "x"))
        world.looks = [HEALTHY]

    monkeypatch.setitem(steps.STEPS, "restart", step)
    result = run("backend_recover", **given(tmp_path, plan=planned["plan"]))
    assert worked == [("config_backup_x", True)]
    assert {check["name"]: check["result"] for check in result["checks"]}["backup accepted"] == COULD_NOT_VERIFY
    refused = run("backend_plan_info", **given(tmp_path, host="shop1", accept="failed"))
    assert "it needs the id of a backup" in refused["cause"]


def test_a_mount_of_the_backend_that_is_in_no_backup_is_no_green(
    run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend's own: what the stores alone mount says nothing of it."""
    of = {"media": ("web:/media",), "dumps": ("db:/dumps",)}
    listed = tuple(StateMount(name, "volume", uses, "unprotected", "no component") for name, uses in of.items())
    monkeypatch.setattr(mounts, "inventory", lambda run: StateInventory(listed))
    world.looks = [seen(KILLED), HEALTHY]
    planned = plan_of(run, tmp_path)
    (warning,) = planned["plan"]["warnings"]
    assert warning.startswith("the volume media (web:/media) is in no backup: no component")
    result = run("backend_recover", **given(tmp_path, plan=planned["plan"]))
    checked = {check["name"]: check for check in result["checks"]}
    assert (checked["mounts"]["result"], checked["application"]["result"]) == (COULD_NOT_VERIFY, PASS)
    assert "dumps" not in checked["mounts"]["detail"]


def test_check_mode_changes_nothing(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(KILLED)]
    planned = plan_of(run, tmp_path)["plan"]
    result = run("backend_recover", check=True, **given(tmp_path, plan=planned))
    assert (result["failed"], result["changed"], world.done) == (False, True, [])


WRONG_PLANS: list[tuple[dict[str, Any], str, str]] = [
    ({"needed": "yes"}, "needed", "wants bool, has 'yes'"),
    ({"ladder": [{"step": "restart"}]}, "ladder[0]", "lacks "),
    ({"logs": {"app": "line"}}, "logs.app", "wants a list, has 'line'"),
    ({"target_seconds": 10**30}, "target_seconds", "has a number beyond"),
    ({"later": 1}, "", "does not know later"),
]


@pytest.mark.parametrize(("change", "field", "words"), WRONG_PLANS)
def test_a_plan_that_the_other_module_did_not_return_is_refused(
    run: Run, tmp_path: Path, world: World, change: dict[str, Any], field: str, words: str
) -> None:
    world.looks = [seen(KILLED)]
    planned = plan_of(run, tmp_path)["plan"]
    wrong = run("backend_recover", **given(tmp_path, plan={**planned, **change}))
    assert (wrong["failed"], wrong["attempted"], wrong["subject"], world.done) == (True, "read the plan", field, [])
    assert words in wrong["cause"]
    assert "lifeboat.dr.backend_plan_info" in wrong["remedy"]


def test_backend_recover_changes_with_the_smallest_step_that_heals(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(KILLED), HEALTHY]
    planned = plan_of(run, tmp_path)
    assert planned["plan"]["begin"] == "restart"
    result = run("backend_recover", **given(tmp_path, plan=planned["plan"]))
    assert (result["changed"], result["mode"], world.done) == (True, "restart", ["restart"])
    assert [step["healed"] for step in result["tried"]] == [True]
    assert {check["name"]: check["result"] for check in result["checks"]}["application"] == PASS


def test_what_does_not_heal_is_followed_by_the_next_for_the_cause_that_is_then_seen(
    run: Run, tmp_path: Path, world: World
) -> None:
    changed = {"backend": "20261124_033000"}
    world.looks = [seen(KILLED), seen(LOOP), seen(LOOP, images_changed=changed), HEALTHY]
    world.errors = {"recreate": LifeboatError("start the project", "shop", "dependency failed to start")}
    planned = plan_of(run, tmp_path)["plan"]
    result = run("backend_recover", **given(tmp_path, plan=planned))
    assert (world.done, result["mode"]) == (["restart", "recreate", "image"], "image")
    assert result["tried"][1]["problem"] == "dependency failed to start"
    assert sorted(result["seconds"]) == ["image", "recreate", "restart"]


def test_a_store_found_broken_on_the_way_ends_it(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(KILLED), seen(LOOP, stores=LOST)]
    planned = plan_of(run, tmp_path)["plan"]
    result = run("backend_recover", **given(tmp_path, plan=planned))
    assert result["failed"]
    assert world.done == ["restart"], "no loop"
    assert "Next: ansible-playbook lifeboat.dr.recover_database -e confirm=shop1" in result["msg"]
    assert [step["step"] for step in result["tried"]] == ["restart"]


def test_backend_recover_fails_and_tells_what_was_tried(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(LOOP)]
    world.errors = {"image": NotFoundError("x", "y", "no image"), "redeploy": NotFoundError("x", "y", "no backup")}
    planned = plan_of(run, tmp_path)["plan"]
    result = run("backend_recover", **given(tmp_path, plan=planned))
    assert result["failed"]
    assert world.done == ["recreate", "image", "redeploy"]
    assert "tried: recreate; image: no image; redeploy: no backup" in result["msg"]


@pytest.mark.parametrize(
    ("found", "words", "next_words"),
    [
        (seen(app(status="created"), ports=(THIEF,)), "held by process 4711", "kill 4711"),
        (seen(LOOP, stores=LOST), "the database underneath is broken", "lifeboat.dr.recover_database"),
        (seen(REFUSED), "no configuration backup", "-e identity_file="),
        (seen(APP, compose="yaml: line 7"), "no configuration backup", "by hand"),
    ],
)
def test_what_no_step_may_mend_blocks_the_plan(
    run: Run, tmp_path: Path, world: World, found: Observations, words: str, next_words: str
) -> None:
    world.looks = [found]
    planned = plan_of(run, tmp_path)
    assert words in planned["blocked"]
    assert next_words in planned["plan"]["next"]
    assert any(line.startswith("BLOCKED: ") for line in planned["text"])


def test_the_plan_shows_the_machine_every_step_and_the_log(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(replace(LOOP, log=("boom",)))]
    planned = plan_of(run, tmp_path, method="restart")
    text = "\n".join(planned["text"])
    for words in ("load ", "memory ", "disk /var/lib/docker", "log of shop-backend-1: boom", "restart: ", "BEGIN HERE"):
        assert words in text
    assert [step["step"] for step in planned["plan"]["ladder"]] == list(backend_plan.LADDER)
    assert planned["plan"]["logs"] == {"shop-backend-1": ["boom"]}


def test_without_an_endpoint_nobody_has_seen_it_answer(run: Run, tmp_path: Path, world: World) -> None:
    world.looks = [seen(KILLED), HEALTHY]
    bare = {"settings": settings(tmp_path), "secrets": {}}
    planned = run("backend_plan_info", **bare, host="shop1")
    assert "no endpoint is configured" in planned["plan"]["unchecked"][0]
    result = run("backend_recover", **bare, plan=planned["plan"])
    assert {check["name"]: check["result"] for check in result["checks"]}["application"] == "COULD_NOT_VERIFY"


def test_the_last_look_can_fail(run: Run, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was well when the step was judged and fell afterwards."""
    world.looks = [seen(KILLED), HEALTHY]
    planned = plan_of(run, tmp_path)["plan"]
    monkeypatch.setattr(backend_assess, "glance", lambda config: seen(KILLED))
    monkeypatch.setattr(answer, "endpoint", lambda check, *_: Check("GET x", FAIL, "Connection refused"))
    result = run("backend_recover", **given(tmp_path, plan=planned))
    made = {check["name"]: check["result"] for check in result["checks"]}
    assert (made["service backend"], made["application"]) == (FAIL, FAIL)


@pytest.mark.parametrize("method", ["image", "recreate", "redeploy", "space"])
def test_units_have_no_images(run: Run, tmp_path: Path, world: World, method: str) -> None:
    of_units = {"settings": settings(tmp_path, runtime={"type": "host"}), "secrets": {}}
    refused = run("backend_plan_info", **of_units, method=method)
    assert refused["failed"]
    assert "the stack is of systemd units" in refused["msg"]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


STARTING = replace(APP, health="starting")


@pytest.mark.parametrize(
    ("looks", "healed", "within"),
    [
        ([HEALTHY], True, 3),
        ([seen(STARTING), seen(STARTING), HEALTHY], True, 4),
        ([seen(app(status="exited", exit_code=1))], False, 10),
        ([seen(app(health="unhealthy"))], False, 17),
        ([seen(replace(APP, restarts=0, status="restarting")), seen(LOOP)], False, 2),
        ([seen(STARTING)], False, 182),
        ([replace(HEALTHY, units=(APP, WEB), absent=("db",))], False, 10),
        ([HEALTHY, seen(replace(LOOP, restarts=0)), seen(LOOP)], False, 5),
    ],
    ids=["well", "comes up", "fallen", "unhealthy", "loops", "never", "no container", "well for a moment"],
)
def test_a_step_is_watched_as_long_as_it_may_still_heal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[Observations], healed: bool, within: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(backend_recovery, "time", clock)
    queue = list(looks)
    monkeypatch.setattr(backend_assess, "glance", lambda config: queue.pop(0) if len(queue) > 1 else queue[0])
    assert backend_recovery.settle(Opened(make_config(tmp_path, application=dict(CHECKS)))) is healed
    assert clock.now - 1000 <= within


def test_an_endpoint_that_was_as_wrong_at_the_last_backup_is_not_watched_the_whole_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every service is well, and 181 s went by at each step."""
    conf, clock, looks = make_config(tmp_path, application=dict(CHECKS)), Clock(), [replace(HEALTHY, endpoints=DEAD)]
    monkeypatch.setattr(backend_recovery, "time", clock)
    monkeypatch.setattr(backend_assess, "glance", lambda config: looks[0])

    def watched(was: str) -> float:
        began = clock.now
        recovery_state.keep_unanswered(conf, conf.application.checks, [was], NOW)
        assert not backend_recovery.settle(Opened(conf))
        return clock.now - began

    assert 0 <= watched("Connection refused") - backend_recovery.PATIENCE_AS_BEFORE < 2
    assert watched("status 502 instead of 200: x") > 180, "it fails in another way"
    assert watched("") > 180, "it answered"
    looks[0] = replace(HEALTHY, units=(replace(APP, health="starting"), WEB), endpoints=DEAD)
    assert watched("Connection refused") > 180, "a service is not well yet"
