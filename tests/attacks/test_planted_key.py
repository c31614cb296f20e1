# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""planted_key.py lets a second key in with the one that is granted; Lifeboat lets in that one or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("planted_key.py")
WAYS = ("readback", "keeper")


def attack(target: str, way: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, way, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("way", WAYS)
def test_control_a_second_line_is_a_key_without_an_end(way: str, tmp_path: Path) -> None:
    done = attack("unprotected", way, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_no_other_key_is_let_in(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
