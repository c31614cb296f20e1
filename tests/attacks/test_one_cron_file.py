# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""one_cron_file.py takes a stack's schedule where dots of a name become underscores, and none from Lifeboat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("one_cron_file.py")
OVER = ["unshare", "--mount", "sh", "-c", "mount --bind /tmp /etc/cron.d"]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(OVER, check=False, capture_output=True).returncode != 0,
    reason="NOT CHECKED: only root, where it may mount, puts a directory over /etc/cron.d",
)


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    environment = {"ANSIBLE_CONFIG": str(SCRIPT.parents[2] / "ansible.cfg"), **os.environ, "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(words, check=False, capture_output=True, text=True, env=environment)


def test_control_the_second_stack_takes_the_file_of_the_first(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["a.b"]), done.stderr


@pytest.mark.slow
def test_each_stack_has_its_own_file(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    assert sorted(path.name for path in (tmp_path / "cron.d").iterdir()) == ["lifeboat-aDOTb", "lifeboat-a_b"]
