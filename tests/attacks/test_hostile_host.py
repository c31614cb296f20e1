# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_host.py gets everything from a copy that follows its source, and nothing from a keeper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hostile_host.py")
WANTED = {"overwritten", "dated-back", "deleted", "escaped", "read", "proven", "flooded"}


def attack(target: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), target, str(root)], check=False, capture_output=True, text=True)


def test_the_attack_succeeds_against_a_copy_that_follows_its_source(tmp_path: Path) -> None:
    """The control: an attack that gets nothing anywhere would prove nothing."""
    done = attack("unprotected", tmp_path)
    assert (done.returncode, set(done.stdout.split())) == (0, WANTED), done.stderr


@pytest.mark.slow
def test_the_attack_fails_against_a_keeper_and_the_keeper_names_it(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    first, second, third = done.stderr.split("exit ")[1:]
    assert first.startswith("0\n"), first
    assert second.startswith("6\n") and third.startswith("6\n")
    for words in ("the keeper has it with other bytes", "not a plain relative path", "is not a plain file"):
        assert words in second
    assert "Nothing was deleted" in second, "the retention stopped"
    assert "holds more than 500 names" in third
