# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""followed_link.py has a recovered project reach out of its directory; Lifeboat starts nothing that can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from followed_link import IMAGE

SCRIPT = Path(__file__).with_name("followed_link.py")
WAYS = ("link", "file", "allowed", "log", "variables")


def image_is_here() -> bool:
    try:
        return subprocess.run(["docker", "image", "inspect", IMAGE], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not image_is_here(), reason="NOT CHECKED: the attack needs an engine (make engine)")


def attack(target: str, way: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, way, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("way", WAYS)
def test_control_a_container_writes_where_it_likes(way: str, tmp_path: Path) -> None:
    done = attack("unprotected", way, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_recovered_site_stays_in_its_project(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
