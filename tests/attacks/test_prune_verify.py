# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""prune_verify.py: find deletes a backup that is being verified; Lifeboat's retention deletes nothing then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("prune_verify.py")
FILES = ["config.tar.gz", "files.json", "manifest.json"]


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_control_what_knows_of_no_lock_deletes_it(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{name} is gone" for name in FILES]), done.stderr


@pytest.mark.slow
def test_a_prune_deletes_nothing_of_what_is_being_verified(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (1, []), done.stderr
    assert "4 lifeboat: prune failed: Could not take the lock" in done.stderr
    assert "(verify)" in done.stderr, "and whose it is"
