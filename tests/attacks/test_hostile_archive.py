# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_archive.py gets something from a script by each lie of a tar's header, and nothing from Lifeboat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_archive import LIES, TRUE

SCRIPT = Path(__file__).with_name("hostile_archive.py")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_a_script_that_unpacks_is_harmed_by_each(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, dict(line.split(": ") for line in done.stdout.splitlines())) == (0, {
        "an endless time": "a traceback",
        "an owner beyond all": "a traceback",
        "a size that lies": "a traceback",
        "two thousand levels": "a traceback",
        "a name that leads out": "a file elsewhere",
        "an absolute name": "a file elsewhere",
    }), done.stderr  # fmt: skip


@pytest.mark.slow
def test_lifeboat_refuses_each_and_removes_what_is_deep(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (1, []), done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    verdicts = dict(zip(LIES, (verification["verdict"] for verification in said)))
    assert verdicts == {lie: "PASS" if lie in TRUE else "FAIL" for lie in LIES}, "each was judged"
