# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""place_files.py gets everything from a recovery without the protection, and nothing from Lifeboat's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("place_files.py")
ROOT = SCRIPT.parents[2]
WANTED = {
    "etc/ld.so.preload", "etc/sudoers.d/shop", "etc/cron.d/shop", "root/.ssh/authorized_keys", "srv/shop/evil",
    "srv/shop/conf",
}  # fmt: skip


def attack(target: str, root: Path) -> subprocess.CompletedProcess[str]:
    environment = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **os.environ, "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), target, str(root)],
        check=False, capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_the_attack_succeeds_where_a_backup_is_unpacked_as_it_is(tmp_path: Path) -> None:
    """The control: an attack that gets nothing anywhere would prove nothing."""
    done = attack("unprotected", tmp_path)
    assert (done.returncode, set(done.stdout.split())) == (0, WANTED), done.stderr


@pytest.mark.slow
def test_the_attack_fails_against_a_recovery_and_the_recovery_names_it(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr
    said = json.loads(done.stderr[done.stderr.index("{") : done.stderr.index("\n}\n") + 2])
    assert {Path(one["path"]).relative_to(tmp_path).as_posix() for one in said["left_out"]} == WANTED
    (check,) = (check for check in said["checks"] if check["name"] == "files left out")
    assert check["result"] == "COULD_NOT_VERIFY"
    assert f"{tmp_path}/etc/ld.so.preload: the inventory does not name it" in check["detail"]
    helper = tmp_path / "srv/shop/evil"
    assert helper.stat().st_mode & 0o7777 == 0o755, "it is the stack's own, without the bit"
