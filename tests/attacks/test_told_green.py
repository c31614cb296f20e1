# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""told_green.py: a host that was taken over speaks of its own stack only; labels are the inventory's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import evidence_world
import pytest

SCRIPT = Path(__file__).with_name("told_green.py")


@pytest.mark.parametrize("target", ["unprotected", "product"])
def test_a_host_makes_no_other_stack_green(target: str, tmp_path: Path) -> None:
    failed = [{"name": "tables", "result": "FAIL", "detail": "20 tables, 3 rows are missing"}]
    records = {
        "honest": {**evidence_world.record(tmp_path, days=3, results=failed), "host": "shop1"},
        "forged": {**evidence_world.record(tmp_path), "host": "shop1"},
    }
    for name, record in records.items():
        (tmp_path / name).write_text(json.dumps(evidence_world.resealed(record)))
    assert [record["verdict"] for record in records.values()] == ["FAIL", "PASS"]
    words = [sys.executable, str(SCRIPT), target, str(tmp_path), *(str(tmp_path / name) for name in records)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == (0 if target == "unprotected" else 1), done.stderr
    if target == "product":
        assert 'lifeboat_evidence_passed{stack="shop",host="shop1"' in done.stderr
