# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""telling.py finds an application's secrets in what a script prints of its answers, and none in what Lifeboat tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from telling import ANSWERS

SCRIPT = Path(__file__).with_name("telling.py")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_a_script_tells_every_secret(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, list(ANSWERS)), done.stderr


@pytest.mark.slow
def test_lifeboat_tells_none(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), f"{done.stdout} got out; {done.stderr}"
    assert f"searched for the secrets of {len(ANSWERS)} answers" in done.stderr, "it did not end before"
