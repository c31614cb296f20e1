# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""lock_taken.py keeps a script with a lock in everybody's directory from its backup, and Lifeboat from none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("lock_taken.py")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root has processes of other users")
MAY_MOUNT = ["unshare", "--mount", "mount", "--bind", "/tmp", "/run/lifeboat"]


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_where_everybody_may_write_root_does_not_get_its_lock(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout[:9]) == (0, "lifeboat-"), done.stderr
    assert not (tmp_path / "backup/backup.tar").exists()


@pytest.mark.slow
def test_roots_lock_is_out_of_reach(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "he holds the lock in /run/lock" in done.stderr, "wherever he may, he does"
    assert "/run/lifeboat" not in done.stderr


@pytest.mark.slow
def test_everybodys_directory_is_refused(tmp_path: Path) -> None:
    Path("/run/lifeboat").mkdir(mode=0o700, exist_ok=True)  # as the command makes it
    if subprocess.run(MAY_MOUNT, check=False, capture_output=True).returncode:
        pytest.skip("NOT CHECKED: this machine mounts nothing over the directory of locks")
    done = attack("everybodys", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "others may write there" in done.stderr
