# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""identity.py finds the age identity on a host's disk where Ansible puts modules, and never where Lifeboat sends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("identity.py")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    environment = {"ANSIBLE_CONFIG": str(SCRIPT.parents[2] / "ansible.cfg"), **os.environ, "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(words, check=False, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_control_a_module_lies_on_the_disk_with_its_key(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["AnsiballZ_open_backup.py"]), done.stderr


@pytest.mark.slow
def test_without_a_pipe_nothing_is_sent_and_that_is_said(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    assert "Could not send the age identity (lifeboat.dr.escrow on localhost): pipelining is off" in done.stderr
    assert "the host's Python: never" in done.stderr


@pytest.mark.slow
def test_through_a_pipe_the_key_arrives_and_is_on_no_disk(tmp_path: Path) -> None:
    done = attack("piped", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    assert "the host's Python: ['piped']" in done.stderr, "it did arrive"
