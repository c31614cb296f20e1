# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_inventory.py has the inventory that a host is asked for run code on the controller; Lifeboat's runs none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hostile_inventory.py")
WAYS = ("project", "template", "host")


def attack(target: str, way: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, way, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("way", WAYS)
def test_control_a_host_runs_code_where_ansible_runs(way: str, tmp_path: Path) -> None:
    done = attack("unprotected", way, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_the_inventory_that_init_writes_runs_no_code(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
