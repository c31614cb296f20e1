# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_project.py has Compose fetch what a project's owner likes, and endless_variables.py has it fill the memory;
for Lifeboat it does neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile_project import REMOTE

REMOTES, ENDLESS = (Path(__file__).with_name(name) for name in ("hostile_project.py", "endless_variables.py"))
ASKED = ["docker", "compose", "version"]


def compose_is_here() -> bool:
    try:
        return subprocess.run(ASKED, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not compose_is_here(), reason="NOT CHECKED: only Compose reads a hostile project so")


def attack(target: str, directory: Path, script: Path = REMOTES) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(script), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_compose_fetches_what_the_owner_likes(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, list(REMOTE)), done.stderr


def test_a_backup_fetches_nothing(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr


def test_control_compose_takes_what_memory_there_is(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path, ENDLESS)
    assert done.returncode == 0, done.stderr


def test_a_backup_takes_no_more_than_it_may(tmp_path: Path) -> None:
    done = attack("product", tmp_path, ENDLESS)
    assert done.returncode == 1, done.stderr
