# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local user who wants no backup to be made: files and links where the lock is expected, before root takes it.

`/run/lock` is everybody's on Debian: there the kernel lets root open no file that somebody else made (see
fs.protected_regular in proc(5)), or root waits for one that somebody else holds. The control is that directory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError

NOBODY = 65534
STACK = "attacked"
# It takes the lock's name in each directory that it may write to, and holds what it made.
ATTACK = f"""
import fcntl, os, sys
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
kept = []
for place in sys.argv[1:]:
    try:
        os.makedirs(place, exist_ok=True)
        kept.append(os.open(f"{{place}}/lifeboat-{STACK}.lock", os.O_RDWR | os.O_CREAT, 0o666))
        fcntl.flock(kept[-1], fcntl.LOCK_EX)
    except OSError:
        pass
print(len(kept), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """As /run/lock is. Not below tmp_path, where nobody else may look."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as found:
        Path(found).chmod(0o1777)
        yield Path(found)


@pytest.fixture
def attacked(shared: Path) -> Iterator[int]:
    """In how many directories the attacker holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", ATTACK, str(lock.DIRECTORY), str(shared)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    with process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.kill()


def test_control_where_everybody_may_write_root_does_not_get_its_lock(
    attacked: int, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attacked
    monkeypatch.setattr(lock, "_opened", lambda place: lock.os.open(place, lock.os.O_RDONLY))
    with pytest.raises(LifeboatError, match="take the lock"), lock.held(STACK, "backup", directory=shared):
        pytest.fail("the attack does nothing, so it shows nothing")


def test_roots_lock_is_out_of_reach(attacked: int) -> None:
    assert attacked == 1, "of the two directories the one that is everybody's"
    with lock.held(STACK, "backup"):
        pass


def test_everybodys_directory_is_refused(attacked: int, shared: Path) -> None:
    with pytest.raises(LifeboatError, match="others may write there"), lock.held(STACK, "backup", directory=shared):
        pytest.fail("believed it")
