# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The record of a recovery: the verdict that follows from what was done, how long it took, and whether it ended."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import record as evidence_record
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store
from builders import NOW, make_config
from evidence_schema_check import problems
from evidence_world import recovered, typed

GOOD = [{"name": "tables", "result": "PASS", "detail": "2 tables"}, {"name": "roles", "result": "PASS"}]


def phase(name: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    times = {
        "started_at": format_time(NOW + timedelta(seconds=start)),
        "finished_at": format_time(NOW + timedelta(seconds=end)),
    }
    return {"name": name, **times, **more}


PHASES = [phase("assess", 0, 1), phase("protect", 1, 3), phase("restore", 3, 60), phase("reopen", 60, 65.5)]
PLAN: dict[str, Any] = {
    "condition": "damaged",
    "findings": ["the table public.t is missing"],
    "unchecked": [],
    "backup": {"id": "db_backup_20261124_120000", "taken_at": format_time(NOW), "age_seconds": 60, "size": 5, "x": "y"},
    "passed_over": [{"id": "db_backup_20261124_130000", "problem": "cut"}],
    "target_seconds": 14400,
}


def build(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    plain = {
        "scenario": "database", "reason": "", "operator": "", "planned": PLAN, "phases": PHASES, "results": GOOD,
        "now": NOW + timedelta(seconds=70),
    }  # fmt: skip
    return recovered(make_config(tmp_path), **{**plain, **changes})


FAILED = [*GOOD, {"name": "sequences", "result": "FAIL", "detail": "x"}]
UNSURE = [*GOOD, {"name": "schema", "result": "COULD_NOT_VERIFY", "detail": "x"}]
LATE = {**PLAN, "target_seconds": 65}
ON_TIME = {**PLAN, "target_seconds": 66}
NO_CHANGE = [phase("assess", 0, 1)]
# (what happened, the verdict)
VERDICTS: list[tuple[str, dict[str, Any], str]] = [
    ("all well", {}, "PASS"),
    ("a check failed", {"results": FAILED}, "FAIL"),
    ("a check could not be made", {"results": UNSURE}, "COULD_NOT_VERIFY"),
    ("failed and unsure", {"results": FAILED + UNSURE}, "FAIL"),
    ("no check at all", {"results": []}, "COULD_NOT_VERIFY"),
    ("the data was compared with nothing", {"results": [{"name": "service db", "result": "PASS"}]}, "COULD_NOT_VERIFY"),
    ("looked at, not restored", {"results": [{"name": "data", "result": "PASS", "detail": ""}]}, "PASS"),
    ("objects were compared", {"results": [{"name": "objects", "result": "PASS"}]}, "PASS"),
    ("over the target", {"planned": LATE}, "FAIL"),
    ("within the target", {"planned": ON_TIME}, "PASS"),
    ("an error after a change", {"error": "boom"}, "FAIL"),
    ("an error before any", {"error": "boom", "phases": NO_CHANGE}, "ABORTED"),
    ("an error before the first phase", {"error": "boom", "phases": []}, "ABORTED"),
    ("an error, and good checks", {"error": "boom", "results": GOOD}, "FAIL"),
    (
        "an error before any change, and failed checks",
        {"error": "b", "phases": NO_CHANGE, "results": FAILED},
        "ABORTED",
    ),
    ("an error while confirming", {"error": "b", "phases": [*NO_CHANGE, phase("confirm", 1, 2)]}, "ABORTED"),
    ("an error while planning", {"error": "b", "phases": [phase("plan", 0, 1)]}, "ABORTED"),
    ("an unknown result", {"results": [*GOOD, {"name": "x", "result": "OK"}]}, "COULD_NOT_VERIFY"),
]


@pytest.mark.parametrize(("changes", "verdict"), [case[1:] for case in VERDICTS], ids=[case[0] for case in VERDICTS])
def test_verdict(tmp_path: Path, changes: dict[str, Any], verdict: str) -> None:
    record = build(tmp_path, **changes)
    assert record["verdict"] == verdict
    assert record["error"] == changes.get("error", "")
    assert problems(record) == []


def test_what_the_record_holds(tmp_path: Path) -> None:
    kept = {
        "quarantine": "/old",
        "way_back": ["mv a b"],
        "seconds_of": {"restore": 5.0},
        "secret": "hunter2",
        "mode": "",
    }
    record = build(
        tmp_path, reason="a test", operator="me", phases=[*PHASES[:2], phase("restore", 3, 60, **kept), PHASES[3]]
    )
    assert record["id"] == "database_20261124_120110"
    assert (record["scenario"], record["stack"], record["reason"], record["operator"]) == (
        "database",
        "shop",
        "a test",
        "me",
    )
    assert [phase["seconds"] for phase in record["phases"]] == [1.0, 2.0, 57.0, 5.5]
    assert (record["seconds"], record["target_seconds"]) == (65.5, 14400)
    restore = record["phases"][2]
    assert (restore["quarantine"], restore["way_back"], restore["seconds_of"]) == ("/old", ["mv a b"], {"restore": 5.0})
    assert "hunter2" not in json.dumps(record), "only what is worth keeping is kept"
    assert "mode" not in restore
    assert record["backup"] == {key: PLAN["backup"][key] for key in ("id", "taken_at", "age_seconds", "size")}
    assert record["found"] == {"condition": "damaged", "findings": ["the table public.t is missing"], "unchecked": []}
    assert [check["name"] for check in record["checks"]] == ["tables", "roles", "recovery time"]
    assert json.loads(json.dumps(record)) == record


def test_the_clock_runs_over_the_gaps_between_phases(tmp_path: Path) -> None:
    """What the operator waits for is the whole, whatever Ansible does in between."""
    record = build(tmp_path, phases=[phase("assess", 0, 1), phase("reopen", 100, 101)])
    assert record["seconds"] == 101.0


def test_no_time_is_no_pass(tmp_path: Path) -> None:
    record = build(tmp_path, phases=[])
    assert record["seconds"] == 0.0


def test_it_is_kept_private_and_whole(tmp_path: Path) -> None:
    settings = make_config(tmp_path)
    record = build(tmp_path, reason="日本")
    path, kept = store.write(settings, typed(record))
    assert kept == typed(record)
    assert path == tmp_path / "state" / "evidence" / "database_20261124_120110.json"
    assert json.loads(path.read_text(encoding="utf-8")) == record
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no half of it beside"


def test_lines_for_a_terminal(tmp_path: Path) -> None:
    kept = {
        "quarantine": "/old",
        "quarantined_database": "shop_quarantine",
        "way_back": ["mv a b"],
        "seconds_of": {"swap": 0.5},
    }
    lines = evidence_record.lines(
        typed(build(tmp_path, phases=[*PHASES[:2], phase("restore", 3, 60, **kept)], error="boom"))
    )
    text = "\n".join(lines)
    for words in (
        ": FAIL", "found:    damaged; the table public.t is missing", "passed over db_backup_20261124_130000: cut",
        "phase:    restore      57.0 s  swap 0.5 s", "total:    60.0 s of 14400 s allowed", "PASS      tables: 2 tables",
        "kept:     the old data as /old", "kept:     the old database as shop_quarantine", "way back: mv a b",
        "error:    boom",
    ):  # fmt: skip
        assert words in text, words
    assert "error:" not in "\n".join(evidence_record.lines(typed(build(tmp_path))))
    assert checks.PASS in evidence_record.lines(typed(build(tmp_path)))[0]
