# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_build.py gets a token, root's file and a look at the host from a common build, nothing from Lifeboat's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hostile_build.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: builds run as another user only for root"),
]


def attack(target: str, case: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, case, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_what_an_unprotected_build_leaves_behind(tmp_path: Path) -> None:
    done = attack("unprotected", "leaves", tmp_path)
    harm = ["a process that lives on", "a token: GITHUB_TOKEN=ghp_canary", "root's own file"]
    assert (done.returncode, done.stdout.splitlines()) == (0, harm), done.stderr


def test_what_an_unprotected_build_sees(tmp_path: Path) -> None:
    """The control of what a build sees. Its secret it saw above."""
    done = attack("unprotected", "looks", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"processes of the host", "the network"} <= {*done.stdout.splitlines()}


def test_a_build_leaves_nothing_behind(tmp_path: Path) -> None:
    done = attack("product", "leaves", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_a_build_sees_no_process_and_no_secret_of_the_host(tmp_path: Path) -> None:
    """What fetches has a network, and what builds still reaches itself."""
    done = attack("product", "looks", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="NOT CHECKED: only npm reads an .npmrc")


@needs_npm
def test_what_a_commit_names_as_git_runs_with_the_network(tmp_path: Path) -> None:
    """The control of what follows."""
    done = attack("unprotected", "npmrc", tmp_path)
    assert (done.returncode, done.stdout) == (0, "a program of the commit, with the network\n"), done.stderr


@needs_npm
def test_a_build_fetches_by_gits_own_git(tmp_path: Path) -> None:
    """The package that comes by git is there all the same."""
    done = attack("product", "npmrc", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_time_that_is_up_ends_all(tmp_path: Path) -> None:
    """Also what ignores the signal, and what has a session of its own."""
    done = attack("product", "time", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "does not build here" in done.stderr


def test_the_space_ends_with_its_owner(tmp_path: Path) -> None:
    """As when somebody kills what root started, and not what that started."""
    done = attack("product", "killed", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
