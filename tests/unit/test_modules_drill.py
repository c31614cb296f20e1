# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill's modules: who is refused, what check mode leaves alone, what an end without a beginning is."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, LockedError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside, ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import database as drill_database
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer
from builders import NOW, Run, make_config, publish
from evidence_schema_check import problems

TRANSACTION = {"name": "a", "write": {"url": "http://127.0.0.1:9/{token}"}, "read": {"url": "http://127.0.0.1:9/"}}


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    known = {key: value for key, value in dataclasses.asdict(make_config(root)).items() if key != "secrets"}
    return {**json.loads(json.dumps(known)), "environment": "drill", **changes}


@pytest.mark.parametrize("module", ["drill_begin", "drill_fault"])
@pytest.mark.parametrize("check", [False, True])
def test_production_is_refused(run: Run, tmp_path: Path, module: str, check: bool) -> None:
    said = run(module, settings=settings(tmp_path, environment="production"), scenario="database", check=check)
    assert said["failed"]
    assert "not as drill" in said["msg"]
    assert "nothing was touched" in said["msg"]


def test_drill_begin_changes_nothing_in_check_mode(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "start", lambda *_: pytest.fail("a writer in check mode"))
    monkeypatch.setattr(answer, "ask", lambda _: "")
    given = settings(tmp_path, application={"checks": [{"url": "http://127.0.0.1:9/health"}]})
    said = run("drill_begin", settings=given, scenario="backend", fault="random", seed="3", check=True)
    assert (said["changed"], said["target_seconds"], said["scenario"]) == (False, 3600, "backend")
    assert said["fault"]["name"] == fault.choose(make_config(tmp_path), "backend", "random", "3").name
    assert "http://127.0.0.1:9/health: status 200" in said["steady_state"]


def test_drill_begin_fails_where_the_stack_is_not_well_or_cannot_be_asked(run: Run, tmp_path: Path) -> None:
    said = run("drill_begin", settings=settings(tmp_path), scenario="database")
    assert said["failed"]
    assert "lifeboat_drill.transactions is empty" in said["msg"]
    said = run("drill_begin", settings=settings(tmp_path), scenario="database", fault="meteor")
    assert "it has corrupted, killed" in said["msg"]


def test_drill_fault_changes_what_it_says(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def inject(*_: Any) -> str:
        done.append("broken")
        return "seen to be broken"

    broken = fault.Fault("corrupted", "it is broken", inject)
    monkeypatch.setattr(fault, "FAULTS", {**fault.FAULTS, "database": (broken,)})
    said = run("drill_fault", settings=settings(tmp_path), scenario="database", check=True)
    assert (said["changed"], said["name"], said["proof"], done) == (True, "corrupted", "", [])
    assert "injected_at" not in said
    said = run("drill_fault", settings=settings(tmp_path), scenario="database")
    assert (said["changed"], said["proof"], done, said["ledger"]) == (True, "seen to be broken", ["broken"], "")
    assert said["monotonic"] > 0
    assert said["injected_at"].endswith("Z")


def test_the_clock_begins_with_the_damage_and_not_with_what_comes_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what nobody received before it would count as nothing lost."""
    order: list[str] = []
    ready: list[float] = []

    @contextlib.contextmanager
    def prepare(*_: Any) -> Iterator[str]:
        with lock.held("shop", "a base that is taken meanwhile"):
            order.append("before")
        time.sleep(0.02)
        ready.append(clock.start().monotonic)
        yield "status said FAIL"
        order.append("after")

    def inject(*_: Any) -> str:
        order.append("broken")
        return "seen"

    broken = fault.Fault("corrupted", "it is broken", inject, prepare)
    monkeypatch.setattr(fault, "FAULTS", {**fault.FAULTS, "database": (broken,)})
    answer = run("drill_fault", settings=settings(tmp_path), scenario="database")
    assert (order, answer["proof"]) == (["before", "broken", "after"], "status said FAIL; seen")
    assert answer["monotonic"] >= ready[0]


def test_drill_fault_breaks_nothing_amid_another_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    broken = fault.Fault("corrupted", "it is broken", lambda *_: done.append("broken") or "seen")
    monkeypatch.setattr(fault, "FAULTS", {"database": (broken,)})
    minutes = partial(next, itertools.count(0, 60))
    monkeypatch.setattr(lock, "time", SimpleNamespace(**{**vars(time), "monotonic": minutes, "sleep": lambda _: None}))
    with lock.held("shop", "another run"):
        said = run("drill_fault", settings=settings(tmp_path), scenario="database")
    assert said["failed"]
    assert "(another run)" in said["msg"]
    assert done == []


def test_drill_fault_ends_the_plans_that_were_made_before_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = make_config(tmp_path)
    with recovery_state.own_turn(conf, "an earlier recovery", "20261130_120000", 0):
        pass
    with recovery_state.planning(conf) as number:
        pass
    monkeypatch.setattr(fault, "FAULTS", {"database": (fault.Fault("corrupted", "it is broken", lambda *_: "seen"),)})
    assert not run("drill_fault", settings=settings(tmp_path), scenario="database").get("failed")
    with pytest.raises(LockedError, match=r"another run \(a drill's fault, at .*nothing was done"):
        recovery_state.own_turn(conf, "recover", "20261130_130000", number).__enter__()
    with recovery_state.planning(conf) as number:
        pass
    with recovery_state.own_turn(conf, "recover what the drill broke", "20261130_140000", number):
        pass


def test_drill_fault_brings_the_ledger_of_a_machine_that_is_about_to_go(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "state" / "drill" / "ledger.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "a"}\n')
    said = run("drill_fault", settings=settings(tmp_path), scenario="site")
    assert (said["ledger"], said["proof"]) == ('{"name": "a"}\n', ""), "what shows that it is gone is not on it"


def test_drill_fault_fails_where_it_did_not_take(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def inject(*_: Any) -> str:
        raise drill_database.did_not_take("db", "it still answers")

    monkeypatch.setattr(fault, "FAULTS", {"database": (fault.Fault("corrupted", "it is broken", inject),)})
    said = run("drill_fault", settings=settings(tmp_path), scenario="database")
    assert said["failed"]
    assert "it still answers" in said["msg"]
    with pytest.raises(LifeboatError):
        inject(random.Random(1))  # noqa: S311


def test_drill_end_changes_something_always_as_it_leaves_a_record(run: Run, tmp_path: Path) -> None:
    given = {"settings": settings(tmp_path), "scenario": "backend", "chosen": "killed", "error": "it is not well"}
    before = {"verdict": "PASS"}
    said = run("drill_end", **given, rows=[before])
    assert (said["changed"], said["verdict"]) == (True, "ABORTED")
    assert said["rows"][0] == before
    assert [said["rows"][1][key] for key in ("scenario", "fault", "rto", "lost", "verdict")] == [
        "backend", "killed", "-", "-", "ABORTED",
    ]  # fmt: skip
    kept = json.loads(Path(said["path"]).read_text())
    assert (kept["kind"], kept["error"], kept["checks"]) == ("drill", "it is not well", [])


def test_drill_end_in_check_mode_records_nothing(run: Run, tmp_path: Path) -> None:
    given = {"settings": settings(tmp_path), "scenario": "backend", "error": "it is not well", "rows": [{"rto": "-"}]}
    said = run("drill_end", **given, check=True)
    assert (said["changed"], said["verdict"], said["rows"]) == (False, "COULD_NOT_VERIFY", [{"rto": "-"}])
    assert not list(tmp_path.rglob("*.json"))


def test_drill_end_fails_a_drill_whose_recovery_did(run: Run, tmp_path: Path) -> None:
    fault_seen = {"fault": "killed", "name": "killed", "proof": "exited", "injected_at": "2026-11-24T12:00:00.000Z"}
    said = run("drill_end", settings=settings(tmp_path), scenario="backend", fault=fault_seen, error="no way")
    assert (said["verdict"], said["record"]["error"]) == ("FAIL", "no way")
    results = {check["name"]: check["result"] for check in said["record"]["checks"]}
    assert results == {"fault": "PASS", "business transaction": "COULD_NOT_VERIFY", "data loss": "COULD_NOT_VERIFY"}


def test_drill_end_never_passes_what_nobody_saw(run: Run, tmp_path: Path) -> None:
    said = run(
        "drill_end", settings=settings(tmp_path, drill={"transactions": [TRANSACTION]}), scenario="backend",
        fault={"fault": "killed", "injected_at": "2026-11-24T12:00:00.000Z"},
    )  # fmt: skip
    assert said["verdict"] == "FAIL", "no recovery was recorded"
    assert said["record"]["rto"] is None


# --- next to production ---

BEFORE = {"container shop-db-1": "1 running", "volume shop_pgdata": "there", "database shop": "there"}


@pytest.mark.parametrize(
    ("after", "result", "words"),
    [
        (BEFORE, "PASS", "1 x container, 1 x database, 1 x volume"),
        ({**BEFORE, "container shop-db-1": "2 running"}, "FAIL", "1 running, now 2 running"),
        (
            {key: value for key, value in BEFORE.items() if "volume" not in key},
            "FAIL",
            "volume shop_pgdata: there, now gone",
        ),
        ({**BEFORE, "database scratch": "there"}, "FAIL", "database scratch is new"),
        ({}, "FAIL", "now gone"),
    ],
)
def test_production_is_compared_thing_by_thing(after: dict[str, str], result: str, words: str) -> None:
    check = beside.untouched(BEFORE, after)
    assert check.result == result
    assert words in check.detail


@pytest.mark.parametrize("noticed", [False, True])
def test_drill_beside_changes_nothing_but_leaves_a_record(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed: bool
) -> None:
    """Also on production: nothing there is broken."""
    backup = publish(tmp_path)
    looks = iter([BEFORE, {**BEFORE, "volume left behind": "there"} if noticed else BEFORE])
    monkeypatch.setattr(beside, "portrait", lambda _: next(looks))
    monkeypatch.setattr(
        operations_verify, "verify",
        lambda config, identity, level, **_: Result(
            identity, level, (Check("tables", "PASS", "equal"),), NOW, NOW, taken_at="2026-11-24T02:00:00.000Z", size=9
        ),
    )  # fmt: skip
    given = settings(tmp_path, environment="production")
    said = run("drill_beside", settings=given, scenario="database", check=True)
    assert (said["changed"], said["verdict"]) == (False, "COULD_NOT_VERIFY")
    said = run("drill_beside", settings=given, scenario="database")
    assert said["verdict"] == ("FAIL" if noticed else "PASS"), said
    record = said["record"]
    assert (record["kind"], record["backup"]["id"], problems(record)) == ("drill", backup.id, [])
    assert "the application on the restored data" in [each["what"] for each in record["untested"]]
    assert said["rows"][0]["fault"] == "none: beside"


def test_drill_beside_fails_where_nothing_can_be_restored_beside(run: Run, tmp_path: Path) -> None:
    for scenario in ("backend", "frontend", "site"):
        said = run("drill_beside", settings=settings(tmp_path), scenario=scenario)
        assert said["failed"]
        assert "without breaking something" in said["msg"]
    said = run("drill_beside", settings=settings(tmp_path), scenario="database")
    assert "the repository holds no backup" in said["msg"]
