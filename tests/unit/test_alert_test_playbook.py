# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""lifeboat.dr.alert_test on stacks' hosts, whose command is a stand-in here; what it sends is of test_notify.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """#!/bin/sh
echo "$@" >> {root}/argv
cat {root}/answer
exit $(cat {root}/status)
"""
HOST = "ansible_connection=local ansible_become=false ansible_python_interpreter=" + sys.executable


def play(root: Path, *words: str, status: int = 0, stacks: str = "shop") -> tuple[int, str, list[str]]:
    """How it ended, what it said, and how the command was called."""
    checks = [{"name": "notify mail", "result": "PASS" if not status else "FAIL", "detail": "it answered 421"}]
    (root / "answer").write_text(json.dumps({"checks": checks}))
    (root / "status").write_text(str(status))
    (root / "argv").write_text("")
    (root / "lifeboat").write_text(COMMAND.format(root=root))
    (root / "lifeboat").chmod(0o755)
    hosts = [f"{name}1 {HOST} lifeboat_stack={name}" for name in stacks.split()]
    (root / "hosts").write_text("\n".join(["[lifeboat_stacks]", *hosts, ""]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", str(root / "hosts"), "playbooks/alert_test.yml", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PATH": f"{root}:{os.environ['PATH']}"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, (root / "argv").read_text().splitlines()


@pytest.mark.slow
def test_each_receiver_is_tried_without_prometheus_too(tmp_path: Path) -> None:
    status, said, calls = play(tmp_path, stacks="shop ledger")
    assert (status, sorted(calls)) == (0, [f"notify --test --json --stack {name}" for name in ("ledger", "shop")]), said
    assert "PASS  notify mail  it answered 421" in said
    status, said, calls = play(tmp_path, "-e", "alert_stack=shop", stacks="shop ledger")
    assert (status, calls) == (0, ["notify --test --json --stack shop"]), said


@pytest.mark.slow
def test_a_receiver_that_does_not_take_it_fails_the_play(tmp_path: Path) -> None:
    status, said, calls = play(tmp_path, status=6)
    assert status == 2 and len(calls) == 1
    assert "FAIL  notify mail  it answered 421" in said and "shop on shop1: a receiver of lifeboat_notify" in said
    status, said, _calls = play(tmp_path, status=2)
    assert status == 2, "nobody is named, or the command is too old: no receiver was tried"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--check"], ["-e", "alert_stack=other"]])
def test_who_told_nobody_anything_verified_nothing(tmp_path: Path, words: list[str]) -> None:
    status, said, calls = play(tmp_path, *words)
    assert (status, calls) == (2, [])
    assert "Nothing was sent, so nothing is verified" in said
