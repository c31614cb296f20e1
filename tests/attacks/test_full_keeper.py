# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""full_keeper.py fills what fetches from a hostile host; of a keeper it gets what its bounds give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("full_keeper.py")
# The last takes minutes, nearly all of them to receive so many backups.
WAYS = ("stderr", "nodes", "manifests", "names", *(("ids",) if os.environ.get("LONG") else ()))


def attack(target: str, way: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, way, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("way", WAYS)
def test_control_it_fills_what_has_no_bounds(way: str, tmp_path: Path) -> None:
    done = attack("unprotected", way, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_keeper_is_not_filled_and_sees_it(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
