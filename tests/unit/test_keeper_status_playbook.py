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
import yaml

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"), [(0, None), (6, "keeper: last pull"), (4, "keeper: it was asked"), (127, "keeper: it was asked")]
)
def test_the_report_has_what_the_keeper_says(tmp_path: Path, code: int, said: str | None) -> None:
    """The whole playbook; what a stack's host answers is a stand-in's, too."""
    result = "PASS" if code == 0 else "FAIL"
    stand_in = tmp_path / "lifeboat"
    stand_in.write_text(f"#!/bin/sh\necho '{json.dumps({'checks': [{**CHECKS[0], 'result': result}]})}'\nexit {code}\n")
    stand_in.chmod(0o755)
    play = yaml.safe_load((ROOT / "playbooks/report.yml").read_text(encoding="utf-8"))
    answers = {
        "lifeboat.dr.evidence_info": {
            "evidence": {"stack": "shop", "records": [], "scenarios": [], "drill_age_days": 90, "proof_age_days": 8}
        },
        "lifeboat.dr.backup_info": {"status": {"checks": CHECKS}},
    }
    for task in play[0]["tasks"]:
        for name in [name for name in answers if name in task]:
            del task[name]
            task["ansible.builtin.set_fact"] = {task.pop("register"): answers[name]}
    play[0]["tasks"] = play[0]["tasks"][:4]
    path = tmp_path / "report.yml"
    path.write_text(yaml.safe_dump(play, sort_keys=False))
    given = {
        "target": "shop1", "ansible_become": False, "ansible_connection": "local", "lifeboat_stack": "shop",
        "ansible_python_interpreter": sys.executable, "lifeboat_keeper": {"host": "keeper1"},
        "report_directory": str(tmp_path / "report"),
    }  # fmt: skip
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "shop1,", "-e", json.dumps(given), str(path)],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "report" / "fleet.html").read_text(encoding="utf-8")
    assert ("keeper: " in page) is (said is not None)
    assert said is None or said in page
