# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""looked_at.py: a machine that remembers nothing sees nothing of what disappeared; Lifeboat's look tells it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from looked_at import ATTACKS
from s3_servers import SeaweedFS

SCRIPT = Path(__file__).with_name("looked_at.py")
BUCKETS = {"product": "versions", "unprotected": "plain"}
Attack = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def attacked(weed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """Each target is attacked once, in all ways."""

    @functools.lru_cache
    def run(target: str) -> subprocess.CompletedProcess[str]:
        keys = {"AWS_ACCESS_KEY_ID": weed.access_key, "AWS_SECRET_ACCESS_KEY": weed.secret_key}
        words = [sys.executable, str(SCRIPT), target, weed.url, BUCKETS[target], str(tmp_path_factory.mktemp(target))]
        return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **keys})

    return run


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_another_machine_names_the_backup_and_the_version(attacked: Attack, attack: str) -> None:
    done = attacked("product")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert f"{attack}: the looks ended with [3, 0, 6, 6, 0], it was told: True" in done.stderr


@pytest.mark.slow
def test_a_marker_is_seen_at_the_first_look_already(attacked: Attack) -> None:
    done = attacked("product")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "at first: the look ended with 6" in done.stderr


@pytest.mark.slow
def test_control_a_machine_that_remembers_nothing_finds_the_vault_whole(attacked: Attack) -> None:
    done = attacked("unprotected")
    assert (done.returncode, done.stdout) == (0, "hidden\n"), done.stderr
