# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""What a record says beside its verdict, that the published schema describes all of it, and how it is kept and signed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import phases as evidence_phases
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema, store
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import site
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import signature
from builders import NOW, Run, make_config, publish
from evidence_schema_check import problems, published
from evidence_world import drilled, recovered, typed
from test_evidence import GOOD, PHASES, PLAN, build, phase

DETAILS = {"details": {"database_size": 300_000_000, "server_version_num": 170002}}
SIZED = {**PLAN, "backup": {**PLAN["backup"], **DETAILS}}
BOOT = {"boot": "b"}
ROOT = Path(__file__).resolve().parents[2]


def at_production(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    size = {"production_database_bytes": 3_000_000_000}
    config = make_config(tmp_path, evidence=size)
    plain = {
        "scenario": "database",
        "reason": "",
        "operator": "",
        "planned": SIZED,
        "phases": PHASES,
        "results": GOOD,
        "now": NOW,
    }
    return recovered(config, **{**plain, **changes})


def test_bytes_speed_and_the_time_at_production_size(tmp_path: Path) -> None:
    record = at_production(tmp_path)
    restore = record["phases"][2]
    assert (restore["bytes"], restore["mb_per_second"], restore["production_seconds"]) == (300_000_000, 5.26, 570.0)
    assert [ran["bytes"] for ran in record["phases"]] == [None, None, 300_000_000, None]
    assert record["production"]["bytes"] == 3_000_000_000
    assert record["production"]["seconds"] == 65.5 - 57 + 570
    assert "estimate" in record["production"]["how"]
    assert record["versions"]["postgresql"] == "17.2"
    assert problems(record) == []
    unknown = build(tmp_path)
    assert unknown["production"] is None
    assert "the time at production size" in [untested["what"] for untested in unknown["untested"]]


def test_objects_that_were_copied_are_bytes(tmp_path: Path) -> None:
    phases = [phase("restore", 0, 10, copied={"objects": 3, "copied": 2, "copied_bytes": 50_000_000})]
    record = build(tmp_path, scenario="object_storage", phases=phases)
    assert (record["phases"][0]["bytes"], record["phases"][0]["mb_per_second"]) == (50_000_000, 5.0)
    assert problems(record) == []


# (monotonic times of the phases, boots, seconds of the whole, which clock) where the wall says 100
CLOCKS: list[tuple[str, list[Any], list[str], float, str]] = [
    ("both known", [[10, 11], [70, 80]], ["b", "b"], 70.0, "monotonic"),
    ("two boots", [[10, 11], [70, 80]], ["b", "c"], 100.0, "wall"),
    ("no boot", [[10, 11], [70, 80]], ["", ""], 100.0, "wall"),
    ("one unknown", [[10, 11], None], ["b", "b"], 100.0, "wall"),
    ("backwards", [[10, 11], [1, 2]], ["b", "b"], 100.0, "wall"),
]


@pytest.mark.parametrize(
    ("given", "boots", "seconds", "which"), [case[1:] for case in CLOCKS], ids=[case[0] for case in CLOCKS]
)
def test_which_clock(tmp_path: Path, given: list[Any], boots: list[str], seconds: float, which: str) -> None:
    """NTP may set the wall's clock in the middle of a recovery; two machines' monotonic clocks have nothing in common."""
    phases = [phase("assess", 0, 1), phase("restore", 90, 100)]
    for ran, pair, boot in zip(phases, given, boots):
        ran.update(monotonic=pair, boot=boot)
    record = build(tmp_path, phases=phases, planned={**PLAN, "target_seconds": 80})
    assert (record["seconds"], record["clock"], record["rto"]["seconds"]) == (seconds, which, seconds)
    assert record["verdict"] == ("PASS" if seconds <= 80 else "FAIL")
    assert problems(record) == []


# What a playbook tells of a phase that is none -> the words of the error.
TOLD: list[tuple[str, dict[str, Any], str]] = [
    ("not numbers", {"monotonic": ["a", "b"]}, "phase assess.monotonic[0]: wants float, has 'a'"),
    ("no time", {"started_at": "yesterday"}, "phase assess.started_at: wants a time"),
    ("a kept field of another type", {"stopped": "backend"}, "phase assess.stopped: wants a list"),
    ("a log of numbers", {"log": [1]}, "phase assess.log[0]: wants str, has 1"),
]


@pytest.mark.parametrize(("told", "words"), [case[1:] for case in TOLD], ids=[case[0] for case in TOLD])
def test_a_phase_that_is_none_is_refused_by_its_field(tmp_path: Path, told: dict[str, Any], words: str) -> None:
    assert build(tmp_path, phases=[phase("assess", 0, 1)])["seconds"] == 1.0
    with pytest.raises(LifeboatError) as error:
        build(tmp_path, phases=[{**phase("assess", 0, 1), **told}])
    assert words in str(error.value).replace("(", "").replace(")", "")


def test_a_phase_of_a_module_has_both_clocks() -> None:
    phase = clock.start().phase()
    assert phase.monotonic[1] >= phase.monotonic[0] > 0
    assert len(phase.boot) == 36
    wall, monotonic = clock.elapsed([phase])
    assert monotonic is not None
    assert abs(wall - monotonic) < 0.5


def test_rpo_is_the_time_until_the_writers_stopped(tmp_path: Path) -> None:
    planned = {**PLAN, "backup": {**PLAN["backup"], "taken_at": format_time(NOW - timedelta(seconds=600))}}
    assert build(tmp_path, planned=planned)["rpo"]["seconds"] == 603.0
    assert build(tmp_path, planned=planned, phases=[phase("assess", 0, 1)])["rpo"]["seconds"] is None
    assert build(tmp_path, planned={**PLAN, "backup": None})["rpo"]["seconds"] is None
    site = build(tmp_path, scenario="site", planned=planned, phases=[phase("assess", 0, 1), phase("database", 1, 9)])
    assert site["rpo"]["seconds"] == 600.0, "nobody knows when it died: until the recovery began, at most"


CHOSEN: list[tuple[str, dict[str, Any], str]] = [
    ("by default", {"passed_over": []}, "the newest good backup"),
    ("one was broken", {}, "the newest good backup; 1 newer one was passed over"),
    (
        "a point by name",
        {"recovery_point": "20261124_030000", "passed_over": []},
        "the recovery point 20261124_030000 was asked for",
    ),
    ("a time", {"state": "2026-11-24T02:00:00.000Z", "passed_over": []}, "2026-11-24T02:00:00.000Z was asked for"),
]


@pytest.mark.parametrize(("planned", "words"), [case[1:] for case in CHOSEN], ids=[case[0] for case in CHOSEN])
def test_how_the_recovery_point_was_chosen(tmp_path: Path, planned: dict[str, Any], words: str) -> None:
    record = build(tmp_path, planned={**PLAN, "location": "/backup", **planned})
    assert (record["chosen"]["how"], record["chosen"]["location"]) == (words, "/backup")
    assert build(tmp_path, planned={**PLAN, "backup": None})["chosen"] is None


def test_a_backup_that_was_accepted_is_on_record_and_never_green(tmp_path: Path) -> None:
    """Every check of the restore passed: a verification looks at more."""
    assert build(tmp_path)["verdict"] == "PASS"
    assert "accepted" not in build(tmp_path), "as records were before"
    why = "verification at level archive failed (archive: cut)"
    record = build(tmp_path, planned={**PLAN, "accepted": [why]})
    assert (record["verdict"], record["accepted"]) == ("COULD_NOT_VERIFY", [why])
    assert record["chosen"]["how"].endswith("; ACCEPTED although it failed")
    assert problems(record) == []
    said = {untested["what"]: untested["why"] for untested in record["untested"]}
    assert said["backup accepted"] == f"ACCEPTED although it failed: {why}"
    shown = evidence_record.lines(typed(record))
    assert f"          ACCEPTED although it failed: {why}" in shown
    for face in ("html", "markdown"):
        assert "Accepted although it failed" in site.face(face, typed(record))
        assert "Accepted although it failed" not in site.face(face, typed(build(tmp_path)))
    worse = [*GOOD, {"name": "tables", "result": "FAIL", "detail": "public.t differs"}]
    assert build(tmp_path, planned={**PLAN, "accepted": [why]}, results=worse)["verdict"] == "FAIL"


def test_what_was_not_tested_is_said(tmp_path: Path) -> None:
    unsure = [*GOOD, {"name": "schema", "result": "COULD_NOT_VERIFY", "detail": "a newer major"}]
    record = build(
        tmp_path,
        planned={
            **PLAN,
            "unchecked": ["t was not read"],
            "untested": [{"what": "the bucket docs", "why": "in no backup"}],
        },
        results=unsure,
        untested=[{"what": "load"}],
    )
    said = {untested["what"]: untested["why"] for untested in record["untested"]}
    assert said["t was not read"] == "the assessment could not look at it"
    assert said["schema"] == "a newer major"
    assert said["load"] == "not said"
    assert said["the bucket docs"] == "in no backup"
    assert {
        "the bucket's objects",
        "data written after the backup",
        "the time until somebody noticed and decided",
    } <= set(said)
    for scenario in SCENARIOS:
        assert build(tmp_path, scenario=scenario)["untested"], scenario


def test_what_no_restore_brings_back_as_it_was_is_not_tested(tmp_path: Path) -> None:
    last = {**PHASES[-1], "notes": ["differs: the slot s", "found something"]}
    told = build(tmp_path, phases=[*PHASES[:-1], last])["untested"]
    why = "a restore does not bring it back as it was"
    assert [untested["what"] for untested in told if untested["why"] == why] == ["the slot s"]


def test_versions_where_known(tmp_path: Path) -> None:
    given = {"ansible": "2.19.4", "images": {"db": "postgres:17@sha256:1"}}
    record = build(
        tmp_path,
        versions=given,
        phases=[*PHASES[:3], phase("reopen", 60, 65)],
        commit="abc",
    )
    assert record["versions"]["images"] == {"db": "postgres:17@sha256:1"}
    assert (record["versions"]["ansible"], record["commit"]) == ("2.19.4", "abc")
    assert build(tmp_path, phases=[phase("restore", 0, 1, commit="def")])["commit"] == "def"


# --- secrets, rows, logs ---


def test_no_secret_and_no_row(tmp_path: Path) -> None:
    secrets = {"database_password": "correct-horse-battery", "short": "shop"}
    config = dataclasses.replace(make_config(tmp_path), secrets=secrets)
    log = [
        "restoring with correct-horse-battery",
        'DETAIL:  Key (id)=(42) already exists.\nCONTEXT:  COPY t, line 1: "42 Ada"',
        "shop is back",
    ]
    phases = [phase("restore", 0, 1, log=log, way_back=["psql postgres://u:correct-horse-battery@h"])]
    record = recovered(
        config, scenario="database", reason="password=hunter2hunter2", operator="", planned=PLAN, phases=phases,
        results=[{"name": "x", "result": "PASS", "detail": "correct-horse-battery"}], now=NOW,
        error="it failed\nDETAIL:  Key (id)=(42) already exists.",
    )  # fmt: skip
    log = evidence_phases.log([evidence_phases.parse_phase(ran) for ran in phases], secrets)
    text = json.dumps(record) + log
    for word in ("correct-horse", "hunter2", "Ada", "(42)"):
        assert word not in text, word
    assert log == "restore: restoring with ********\nrestore: shop is back\n"
    assert problems(record) == []


def test_a_secret_that_is_an_everyday_word_leaves_the_record_a_record(tmp_path: Path) -> None:
    """The lab's vault has the access key `lifeboat`: the first records of it had no `lifeboat` among their versions."""
    secrets = {"vault_access_key": "lifeboat", "database_password": "database", "x": "monotonic", "y": "postgres"}
    config = dataclasses.replace(make_config(tmp_path), secrets=secrets)
    record = recovered(
        config, scenario="database", reason="the database is gone", operator="", planned=SIZED, phases=PHASES, results=GOOD,
        now=NOW, versions={"images": {"lifeboat": "lifeboat-lab/db:1"}},
    )  # fmt: skip
    assert problems(record) == []
    assert (record["scenario"], record["reason"]) == ("database", "the ******** is gone")
    assert record["versions"]["images"] == {"lifeboat": "lifeboat-lab/db:1"}


def test_the_log_lies_beside_the_record_and_is_the_one_that_was_hashed(tmp_path: Path) -> None:
    config, phases = make_config(tmp_path), [phase("restore", 0, 1, log=["one", "two"])]
    record = build(tmp_path, phases=phases)
    path, _ = store.write(
        config, typed(record), log=evidence_phases.log([evidence_phases.parse_phase(ran) for ran in phases], {})
    )
    assert path.with_suffix(".log").read_text() == "restore: one\nrestore: two\n"
    assert path.with_suffix(".log").stat().st_mode & 0o777 == 0o600
    assert store.load(config, path.stem).problem == ""
    path.with_suffix(".log").write_text("restore: one\n")
    assert "its log is not the one" in store.load(config, path.stem).problem
    path.with_suffix(".log").unlink()
    assert "its log cannot be read" in store.load(config, path.stem).problem


# --- the schema ---


def test_every_kept_key_of_a_phase_is_published() -> None:
    """A key more in KEPT is a field more in docs/schema/evidence-1.json."""
    assert set(schema.KEPT) <= set(published()["properties"]["phases"]["items"]["properties"])


def test_a_record_of_version_1_0_is_still_one(tmp_path: Path) -> None:
    old = {key: value for key, value in build(tmp_path).items() if key in published()["required"]}
    for ran in old["phases"]:
        for key in ("monotonic_seconds", "bytes", "mb_per_second", "production_seconds"):
            del ran[key]
    old["version"] = [1, 0]
    assert problems(old) == []
    assert schema.read(old)[1] == ""


def test_the_schema_is_what_the_types_say() -> None:
    made = subprocess.run(
        [sys.executable, "docs/generate_evidence.py", "--check"], cwd=ROOT, capture_output=True, check=False
    )
    assert (made.returncode, made.stderr) == (0, b"")


def test_a_check_keeps_its_figure_and_limit(tmp_path: Path) -> None:
    figure = {"name": "lag", "result": "PASS", "detail": "1.5 s behind", "measured": 1.5, "limit": 5, "unit": "s"}
    record = build(tmp_path, results=[*GOOD, figure])
    assert figure in record["checks"]
    assert record["checks"][-1]["limit"] == PLAN["target_seconds"]
    assert problems(record) == []
    body = json.loads(json.dumps(record))
    body["checks"][0]["limit"] = "much"
    assert schema.read(body) == (None, "checks[0].limit: wants float, has 'much'")


def test_nesting_in_a_field_that_nobody_knows_is_no_traceback(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    assert schema.read(build(tmp_path))[1] == ""
    assert "levels deep" in schema.read({**build(tmp_path), "later": deep})[1]


Change = Callable[[dict[str, Any]], Any]
# What the schema must refuse: (how a good record is broken)
BROKEN: dict[str, Change] = {
    "no verdict": lambda body: body.pop("verdict"),
    "another verdict": lambda body: body.update(verdict="OK"),
    "a later major": lambda body: body.update(version=[2, 0]),
    "another schema": lambda body: body.update(schema="x"),
    "a field of 1.1 is missing": lambda body: body.pop("rpo"),
    "a time that is none": lambda body: body.update(recorded_at="yesterday"),
    "a local time": lambda body: body.update(recorded_at="2026-11-24T12:00:00+09:00"),
    "a phase without a name": lambda body: body["phases"][0].pop("name"),
    "negative seconds": lambda body: body["phases"][0].update(seconds=-1),
    "a check without a result": lambda body: body["checks"][0].pop("result"),
    "a finding without an owner": lambda body: body["findings"].append({"what": "x", "due": "2026-12-01"}),
    "a due date that is none": lambda body: body["findings"].append({"what": "x", "owner": "me", "due": "soon"}),
    "signed off by nobody": lambda body: body.update(sign_off={"by": "", "at": "2026-11-24T12:00:00Z", "note": ""}),
    "a seal that is none": lambda body: body.update(seal="x"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=list(BROKEN))
def test_the_schema_refuses(tmp_path: Path, change: Change) -> None:
    record = build(tmp_path)
    assert problems(record, strict=False) == []
    change(record)
    assert problems(record, strict=False)


def test_a_field_that_is_not_published_is_noticed_here_and_ignored_by_readers(tmp_path: Path) -> None:
    record = {**build(tmp_path), "later": 1}
    assert problems(record, strict=False) == []
    assert problems(record)


# --- a drill ---

DRILL: dict[str, Any] = {
    "fault": "the data directory is wiped", "proof": "the server does not start", "seed": "7", "steady_state": "10 of 10 requests",
    "injected_at": format_time(NOW - timedelta(seconds=20)), "transaction_at": format_time(NOW + timedelta(seconds=70)),
    "ledger": {"acknowledged": 100, "present": 100, "lost": 0, "unexpected": 0}, "evidence": ["database_20261124_120110"],
}  # fmt: skip


def of_drill(root: Path, recovery: dict[str, Any], error: str = "", **changes: Any) -> dict[str, Any]:
    return drilled(
        make_config(root), recovery, {**DRILL, **changes}, scenario="database", reason="drill", operator="mika",
        target=14400, error=error, now=NOW + timedelta(seconds=80),
    )  # fmt: skip


DRILLS: list[tuple[str, dict[str, Any], str, str]] = [
    ("all well", {}, "PASS", ""),
    ("nobody saw the fault", {"proof": ""}, "COULD_NOT_VERIFY", "fault"),
    ("no transaction", {"transaction_at": None}, "COULD_NOT_VERIFY", "business transaction"),
    ("no ledger", {"ledger": None}, "COULD_NOT_VERIFY", "data loss"),
    (
        "lost, of unknown age",
        {"ledger": {"acknowledged": 9, "present": 8, "lost": 1, "unexpected": 0}},
        "COULD_NOT_VERIFY",
        "data loss",
    ),
    (
        "lost, within the target",
        {
            "ledger": {"acknowledged": 9, "present": 8, "lost": 1, "unexpected": 0},
            "rpo_seconds": 5,
            "rpo_target_seconds": 5,
        },
        "PASS",
        "",
    ),
    (
        "lost, over the target",
        {
            "ledger": {"acknowledged": 9, "present": 8, "lost": 1, "unexpected": 0},
            "rpo_seconds": 6,
            "rpo_target_seconds": 5,
        },
        "FAIL",
        "data loss",
    ),
    ("unexpected rows", {"ledger": {"acknowledged": 9, "present": 9, "lost": 0, "unexpected": 1}}, "FAIL", "data loss"),
    ("too slow", {"seconds": 14401}, "FAIL", "recovery time"),
]


@pytest.mark.parametrize(("changes", "verdict", "bad"), [case[1:] for case in DRILLS], ids=[case[0] for case in DRILLS])
def test_a_drill(tmp_path: Path, changes: dict[str, Any], verdict: str, bad: str) -> None:
    record = of_drill(tmp_path, build(tmp_path), **changes)
    assert (record["kind"], record["verdict"]) == ("drill", verdict)
    assert [check["name"] for check in record["checks"] if check["result"] != "PASS"] == ([bad] if bad else [])
    assert problems(record) == []
    if not changes:
        assert record["rto"]["seconds"] == record["seconds"] == 90.0, "from the fault to the transaction"
        assert record["rpo"]["seconds"] == 0.0


def lost(at: int) -> dict[str, Any]:
    """One write was lost that was acknowledged so many seconds after NOW."""
    first = format_time(NOW + timedelta(seconds=at))
    return {
        "ledger": {"acknowledged": 9, "present": 8, "lost": 1, "unexpected": 0, "first_lost": first},
        "rpo_seconds": 1,
    }


@pytest.mark.parametrize(
    ("at", "verdict"),
    [(-1, "FAIL"), (0, "PASS"), (1, "PASS")],
    ids=["before the point", "in its millisecond", "after it"],
)
def test_a_write_from_before_the_recovery_point_must_be_there(tmp_path: Path, at: int, verdict: str) -> None:
    recovery = build(tmp_path)
    assert recovery["backup"]["taken_at"] == format_time(NOW)
    record = of_drill(tmp_path, recovery, **lost(at))
    assert record["verdict"] == verdict
    by_name = {check["name"]: check["result"] for check in record["checks"]}
    assert by_name["writes before the recovery point"] == verdict


DROPPED = {
    "what": "DROP TABLE", "names": ["app.items"], "transaction": 918, "at": format_time(NOW + timedelta(seconds=30)),
    "before": "0/A41607C8", "timeline": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("at", "verdict"),
    [(-1, "FAIL"), (29, "FAIL"), (30, "PASS"), (31, "PASS")],
    ids=["before the backup", "just before the loss", "in its millisecond", "after it"],
)
def test_a_write_from_before_the_loss_must_be_there_where_the_recovery_went_to_just_before_it(
    tmp_path: Path, at: int, verdict: str
) -> None:
    """The backup of that instant is dated to the last commit, which may be long before the loss."""
    record = of_drill(tmp_path, build(tmp_path), loss=DROPPED, **lost(at))
    assert record["verdict"] == verdict
    by_name = {check["name"]: check for check in record["checks"]}
    assert by_name["writes before the loss"]["result"] == verdict
    assert "DROP TABLE app.items by transaction 918" in by_name["writes before the loss"]["detail"]
    assert "writes before the recovery point" not in by_name, "that point is not what it went back to"
    assert problems(record) == []


def test_a_drill_that_ended_early(tmp_path: Path) -> None:
    never = of_drill(
        tmp_path, {}, "the stack is not well", injected_at=None, transaction_at=None, proof="", ledger=None
    )
    assert (never["verdict"], never["checks"], never["rto"]) == ("ABORTED", [], None)
    broken = of_drill(tmp_path, {}, "it refused", transaction_at=None)
    assert (broken["verdict"], broken["rto"]) == ("FAIL", None)
    assert "business transaction" in [
        check["name"] for check in broken["checks"] if check["result"] == "COULD_NOT_VERIFY"
    ]
    failed = of_drill(tmp_path, build(tmp_path, error="pg_restore: no"))
    assert (failed["verdict"], failed["error"]) == ("FAIL", "pg_restore: no")
    assert [problems(made) for made in (never, broken, failed)] == [[], [], []]


def test_a_drill_stands_around_the_recoverys_record(tmp_path: Path) -> None:
    recovery = build(tmp_path)
    record = of_drill(tmp_path, recovery, evidence=[recovery["id"]])
    assert record["drill"]["evidence"] == [recovery["id"]]
    assert record["phases"] == recovery["phases"]
    assert {check["name"] for check in recovery["checks"]} <= {check["name"] for check in record["checks"]}
    assert record["seal"] != recovery["seal"]
    assert not [untested for untested in record["untested"] if "noticed" in untested["what"]]


# --- a verification ---


def test_a_verification_leaves_a_record_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup, config = publish(tmp_path), make_config(tmp_path)
    said: list[str] = []
    result = operations_verify.verify(Opened(config), "latest", "checksum", log=said.append)
    (kept,) = store.everything(config)
    assert (kept.problem, kept.body["kind"], kept.body["verdict"]) == ("", "verification", result.verdict)
    assert problems(kept.body) == []
    assert kept.body["verification"] == {
        "id": backup.id, "level": "checksum",
        "backups": [{"id": backup.id, "verdict": "PASS", "taken_at": format_time(NOW), "size": backup.size}],
    }  # fmt: skip
    assert "whether the backup can be restored" in [each["what"] for each in kept.body["untested"]]
    assert evidence_record.lines(typed(kept.body))
    operations_verify.verify(Opened(config), "latest", "checksum", log=said.append, record=False)
    assert len(store.everything(config)) == 1, "check mode leaves none"


# --- at rest ---


def test_two_records_of_one_second_are_two(tmp_path: Path) -> None:
    config, record = make_config(tmp_path), build(tmp_path)
    first, _ = store.write(config, typed(record))
    before = first.read_bytes()
    second, kept = store.write(config, typed(record))
    assert (first.read_bytes(), second.stem, kept.id) == (before, f"{first.stem}_2", f"{first.stem}_2")
    assert problems(schema.plain(kept)) == []
    assert [entry.problem for entry in store.everything(config)] == ["", ""]


@pytest.mark.slow
@pytest.mark.parametrize("log", ["", "restore: one\n"], ids=["no log", "a log"])
def test_what_a_power_cut_leaves_is_evidence_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    """After each step the power may fail. A name may be on the disk then, its content only as far as it was synced."""
    config, record = make_config(tmp_path, state_directory=str(tmp_path / "a/state")), build(tmp_path)
    if log:
        record = build(tmp_path, phases=[phase("restore", 0, 1, log=["one"])])
    folder, content, cuts = store.folder(config), dict[int, bytes](), list[list[str]]()
    names: dict[int, set[str]] = {}

    def cut() -> None:
        lost = tmp_path / f"cut{len(cuts)}"
        lost.mkdir()
        there = make_config(lost, state_directory=str(lost / "state"))
        store.folder(there).mkdir(parents=True)
        for path in folder.iterdir() if folder.exists() else ():
            (store.folder(there) / path.name).write_bytes(content.get(path.stat().st_ino, b""))
        cuts.append([kept.problem for kept in store.everything(there)])

    def sync(handle: int, real: Callable[[int], None] = os.fsync) -> None:
        real(handle)
        at = Path(f"/proc/self/fd/{handle}").readlink()
        if at.is_dir():
            names[at.stat().st_ino] = {path.name for path in at.iterdir()}
        else:
            content[at.stat().st_ino] = at.read_bytes()
        cut()

    def link(old: Path, new: Path, real: Callable[[Path, Path], None] = os.link) -> None:
        real(old, new)
        cut()

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    first, _ = store.write(config, typed(record), log=log)
    store.write(config, typed(record), log=log)
    store.review(config, first.stem, by="Ada", now=NOW)
    cut()
    assert [problem for cut_ in cuts for problem in cut_] == [""] * sum(map(len, cuts))
    assert [len(cut_) for cut_ in cuts[-1:]] == [2]
    suffixes = {".json", ".log"} if log else {".json"}
    both = {f"{first.stem}{number}{suffix}" for number in ("", "_2") for suffix in suffixes}
    assert {path.name for path in folder.iterdir()} == both
    assert names[folder.stat().st_ino] >= both, "the names are on the disk too"
    assert "evidence" in names[folder.parent.stat().st_ino]
    assert "state" in names[(tmp_path / "a").stat().st_ino]
    assert "a" in names[tmp_path.stat().st_ino]


def test_a_log_without_a_record_stays_as_it_is(tmp_path: Path) -> None:
    """A run that was killed between the two has left it."""
    config, record = make_config(tmp_path), build(tmp_path, phases=[phase("restore", 0, 1, log=["one"])])
    store.folder(config).mkdir(parents=True)
    orphan = store.folder(config) / f"{record['id']}.log"
    orphan.write_text("of another run")
    path, _ = store.write(config, typed(record), log="restore: one\n")
    assert (orphan.read_text(), path.stem) == ("of another run", f"{record['id']}_2")
    assert [kept.problem for kept in store.everything(config)] == [""]


EDITS: dict[str, tuple[Change, str]] = {
    "the verdict": (lambda body: body.update(verdict="COULD_NOT_VERIFY"), "it was edited"),
    "a check": (lambda body: body["checks"][0].update(detail="all fine"), "it was edited"),
    "the seal": (lambda body: body.update(seal="0" * 64), "it was edited"),
    "no seal": (lambda body: body.pop("seal"), "it was edited"),
    "another's name": (lambda body: body.update(id="database_20200101_000000"), "under another's name"),
    "not a verdict": (
        lambda body: body.update(verdict="GREEN"),
        "verdict: 'GREEN' is not one of PASS, FAIL, COULD_NOT_VERIFY, ABORTED",
    ),
    "a later major": (lambda body: body.update(version=[2, 0]), "its version is [2, 0]"),
    "no list": (lambda body: body.update(checks={}), "checks: wants a list, has {}"),
    "a phase that is none": (lambda body: body["phases"].append("x"), "phases[4]: wants a mapping, has 'x'"),
    "an infinite time": (lambda body: body.update(seconds=float("inf")), "Infinity is not a number"),
    "not a number": (lambda body: body["phases"][0].update(seconds=float("nan")), "NaN is not a number"),
    "a time that is none": (
        lambda body: body.update(recorded_at="soon"),
        "recorded_at: wants a time like 2026-11-24T02:00:00+00:00, has 'soon'",
    ),
}


@pytest.mark.parametrize(("change", "words"), EDITS.values(), ids=list(EDITS))
def test_an_edited_record_is_no_evidence(tmp_path: Path, change: Change, words: str) -> None:
    config = make_config(tmp_path)
    path, record = store.write(config, typed(build(tmp_path)))
    assert store.load(config, path.stem).problem == ""
    edited = schema.plain(record)
    change(edited)
    path.write_text(json.dumps(edited))
    assert words in store.load(config, path.stem).problem


def test_what_people_add_does_not_break_the_seal(tmp_path: Path) -> None:
    record = build(tmp_path)
    record["findings"].append({"what": "x", "owner": "me", "due": "2026-12-01"})
    record["sign_off"] = {"by": "me", "at": format_time(NOW), "note": ""}
    assert schema.read(record)[1] == ""
    assert problems(record) == []


RUBBISH: dict[str, bytes] = {
    "empty": b"", "not JSON": b"{", "a list": b"[]", "deep": b"[" * 100_000, "binary": b"\xff\xfe\x00", "a number": b"1",
}  # fmt: skip


@pytest.mark.parametrize("data", RUBBISH.values(), ids=list(RUBBISH))
def test_rubbish_is_listed_with_its_problem(tmp_path: Path, data: bytes) -> None:
    config = make_config(tmp_path)
    path, _ = store.write(config, typed(build(tmp_path)))
    path.write_bytes(data)
    (kept,) = store.everything(config)
    assert kept.problem
    assert (kept.body, kept.record) == ({}, None)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    path, _ = store.write(config, typed(build(tmp_path)))
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert "cannot be read" in store.load(config, path.stem).problem


@pytest.mark.parametrize(
    "identity", ["../../etc/shadow", "", "x", "database_20261124_120110/../x", "nosuch_20261124_120110"]
)
def test_an_id_is_no_path(tmp_path: Path, identity: str) -> None:
    with pytest.raises(LifeboatError):
        store.load(make_config(tmp_path), identity)


# --- signatures, by the real ssh-keygen ---


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, word in (("mine", ""), ("theirs", ""), ("locked", "a passphrase")):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", word, "-C", name, "-f", str(folder / name)], check=True
        )  # fmt: skip
    (folder / "allowed").write_text(f"auditor@example.org {(folder / 'mine.pub').read_text()}")
    return folder


def test_signed_and_checked(tmp_path: Path, keys: Path) -> None:
    config = make_config(tmp_path, evidence={"signing_key": str(keys / "mine")})
    path, _ = store.write(config, typed(build(tmp_path)))
    assert signature.check(path, str(keys / "allowed")) == "unsigned"
    assert store.sign(config, path, lambda _: None) == "signed, not checked"
    assert store.load(config, path.stem).signature == "signed, not checked"
    assert signature.check(path, str(keys / "allowed")) == "signed by auditor@example.org"
    path.write_text(path.read_text().replace("PASS", "FAIL", 1))
    assert signature.check(path, str(keys / "allowed")).startswith("BAD SIGNATURE")


def test_another_ones_signature_is_none(tmp_path: Path, keys: Path) -> None:
    config = make_config(tmp_path, evidence={"signing_key": str(keys / "theirs")})
    path, _ = store.write(config, typed(build(tmp_path)))
    store.sign(config, path, lambda _: None)
    assert signature.check(path, str(keys / "allowed")).startswith("BAD SIGNATURE")
    with pytest.raises(NotFoundError):
        signature.check(path, str(keys / "nowhere"))


@pytest.mark.parametrize("key", ["locked", "nowhere", "allowed"])
def test_a_record_that_cannot_be_signed_is_kept_and_said(tmp_path: Path, keys: Path, key: str) -> None:
    config = make_config(tmp_path, evidence={"signing_key": str(keys / key)})
    path, _ = store.write(config, typed(build(tmp_path)))
    said: list[str] = []
    assert store.sign(config, path, said.append) == "unsigned"
    assert said[0].startswith("NOT SIGNED: Could not sign the evidence")
    assert path.exists()
    assert not path.with_name(path.name + ".sig").exists()


def test_the_module_signs_and_names_what_it_kept(run: Run, tmp_path: Path, keys: Path) -> None:
    settings = {"stack": "shop", "runtime": {"project_directory": str(tmp_path)}, "state_directory": str(tmp_path / "state"),
                "evidence": {"signing_key": str(keys / "mine")}}  # fmt: skip
    given = {"scenario": "database", "plan": PLAN, "phases": [phase("restore", 0, 5, log=["hello"])], "checks": GOOD}
    first, second = (run("evidence", settings=settings, **given) for _ in range(2))
    assert first["path"] != second["path"]
    assert first["signature"] == "signed, not checked"
    assert problems(first["record"]) == []
    assert first["record"]["versions"]["ansible"]
    assert signature.check(Path(first["path"]), str(keys / "allowed")) == "signed by auditor@example.org"
    assert sorted(path.name for path in Path(first["path"]).parent.iterdir())[:3] == [
        f"{first['record']['id']}{suffix}" for suffix in (".json", ".json.sig", ".log")
    ]
