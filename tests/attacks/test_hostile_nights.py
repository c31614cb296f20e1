# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_nights.py fills what fetches from three hosts; a keeper's other stacks are fetched, pruned and told.

LONG=1: forty nights, a host that may write 10 GB and a million files, and a keeper with 1 GB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hostile_nights.py")
# nights, the keeper's disk, bytes and files of the host
WHOLE = ("40", "1000000000", "10000000000", "1000000")
SHORT = ("4", "64000000", "80000000", "8000")


def attack(target: str, scale: tuple[str, ...], directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory), *scale]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_control_it_fills_what_has_no_bounds(tmp_path: Path) -> None:
    done = attack("unprotected", SHORT, tmp_path)
    assert (done.returncode, "night" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_a_keepers_other_stacks_are_fetched_and_told_every_night(tmp_path: Path) -> None:
    done = attack("product", WHOLE if os.environ.get("LONG") else SHORT, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (1, ""), done.stderr
    assert "peaks of" in done.stderr
