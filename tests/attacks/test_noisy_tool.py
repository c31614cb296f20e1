# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""noisy_tool.py keeps a script waiting and fills its memory and its log. Lifeboat bounds all of that, and ends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("noisy_tool.py")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_control_a_script_waits_and_takes_all_that_is_said(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    harm = ["keep its caller waiting", "fill the memory", "fill the log"]
    assert (done.returncode, done.stdout.splitlines()) == (0, harm), done.stderr


@pytest.mark.slow
def test_lifeboat_keeps_the_end_and_ends_what_was_left(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (1, []), done.stderr
    assert "Could not read the Compose project" in done.stderr, "and says what failed"
