# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of where the time of a database recovery goes, from the records of a drill and its recovery."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[1] / "bench" / "recovery_time.py"
SPEC = importlib.util.spec_from_file_location("bench_recovery", PATH)
assert SPEC is not None
assert SPEC.loader is not None
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)
DRILL = {"drill": {"transaction_at": "2026-11-24T12:00:11.500Z"}}


def phase(name: str, begin: float, end: float) -> dict[str, Any]:
    at = "2026-11-24T12:00:{:06.3f}Z"
    return {"name": name, "started_at": at.format(begin), "finished_at": at.format(end), "seconds": end - begin}


def test_every_second_from_the_plan_to_the_transaction_is_somewhere() -> None:
    phases = [phase("assess", 0, 1), phase("protect", 2, 5), phase("restore", 6, 10), phase("reopen", 10, 14)]
    found = bench.rows(DRILL, {"id": "d", "phases": phases})
    assert found == pytest.approx(
        {"protect": 3, "restore": 4, "reopen, to the transaction": 1.5, bench.GAPS: 2, bench.TOTAL: 10.5}
    )
    assert sum(found.values()) == pytest.approx(2 * found[bench.TOTAL])


@pytest.mark.parametrize("phases", [[phase("assess", 0, 1)], [phase("protect", 0, 1), phase("reopen", 2, 3)]])
def test_a_recovery_that_did_something_else_is_not_measured(phases: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="its phases are"):
        bench.rows(DRILL, {"id": "d", "phases": phases})


def test_the_table_has_medians_and_an_empty_cell_for_what_was_not_done() -> None:
    runs = [{"protect": number, bench.TOTAL: number + 1} for number in (3.0, 1.0, 2.0)]
    lost = [{"protect": 1.0, "restore": 5.0, bench.TOTAL: 7.25}]
    assert bench.table({"killed": runs, "corrupted": lost}).splitlines() == [
        "| phase | `killed` | `corrupted` |", "|---|--:|--:|",
        "| protect | 2.0 | 1.0 |", "| restore |  | 5.0 |",
        "| plan to transaction | 3.0 | 7.2 |", "| target | 8 | 15 |",
    ]  # fmt: skip
