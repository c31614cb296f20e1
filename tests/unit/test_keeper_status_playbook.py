# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""lifeboat.dr.status asks the keeper of a stack that has one, shows what it says, and fails where that is bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [{"name": "last pull", "result": "PASS", "detail": "whole, at noon"}]


def status(tmp_path: Path, code: int, keeper: str) -> subprocess.CompletedProcess[str]:
    """From the question on: what comes before reads a real repository. The command on the keeper is a stand-in."""
    stand_in = tmp_path / "lifeboat"
    stand_in.write_text(f"#!/bin/sh\necho '{json.dumps({'checks': CHECKS})}'\nexit {code}\n")
    stand_in.chmod(0o755)
    words = ["-i", "shop1,", "-e", "target=shop1", "-e", "ansible_become=false", "-e", "ansible_connection=local"]
    given = {"lifeboat_stack": "shop", "ansible_python_interpreter": sys.executable}
    given |= {"lifeboat_keeper": {"host": keeper}} if keeper else {}
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")), *words, "-e", json.dumps(given),
            "--start-at-task", "Ask the keeper", str(ROOT / "playbooks/status.yml"),
        ],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
             "ANSIBLE_NOCOLOR": "1", "COLUMNS": "500"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "PASS  last pull  whole, at noon"),
        (6, "shop on the keeper keeper1: lifeboat keeper status --stack shop"),
        (4, "non-zero return code"),
    ],
)
def test_the_keeper_is_asked(tmp_path: Path, code: int, said: str) -> None:
    done = status(tmp_path, code, "keeper1")
    assert said in done.stdout + done.stderr
    assert ("__status" in done.stdout + done.stderr) is (code == 0), "the rest of the playbook comes only after a pass"


@pytest.mark.slow
def test_a_stack_without_a_keeper_asks_none(tmp_path: Path) -> None:
    done = status(tmp_path, 6, "")
    assert "keeper status" not in done.stdout + done.stderr and "__status" in done.stdout + done.stderr
