# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dripping.py holds whoever gives each read a limit; what Lifeboat asks has a deadline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dripping import S3_WAYS, WAYS

SCRIPT = Path(__file__).with_name("dripping.py")


def attack(target: str, way: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, way, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["body", *S3_WAYS])
def test_control_a_limit_of_each_read_holds_nothing(way: str, tmp_path: Path) -> None:
    done = attack("unprotected", way, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_lifeboat_ends(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "one" in done.stderr, "the application's answer is not told"


@pytest.mark.slow
@pytest.mark.parametrize("way", S3_WAYS)
def test_lifeboat_ends_what_boto3_reads(way: str, tmp_path: Path) -> None:
    done = attack("product", way, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "timeout" in done.stderr.lower(), "it is told"
