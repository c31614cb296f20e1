# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/suites.sh over a shim of make: lanes run side by side, logs stay whole, and a failure is red and told last."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from builders import until

RUNNER = Path(__file__).resolve().parents[1] / "suites.sh"
# `left` and `right` each wait until the other has begun.
SHIM = """#!/bin/sh
echo "begin $2"
touch "$SHIM/$2"
case $2 in
left) until [ -e "$SHIM/right" ]; do sleep 0.05; done ;;
right) until [ -e "$SHIM/left" ]; do sleep 0.05; done ;;
bad) echo "FAILED test_of_bad"; exit 2 ;;
slow) sleep 60 ;;
esac
echo "end $2"
"""
# (arguments, the suites by their result, the order in which the logs end)
CASES = {
    "one": (["a"], {"a": "passed"}, ["a"]),
    "side by side, the shown one first": (["left,right"], {"left": "passed", "right": "passed"}, ["right", "left"]),
    "one after the other": (["a+b,c", "d"], dict.fromkeys("abcd", "passed"), ["c", "a", "b", "d"]),
    "a lane goes on after a failure, the next stage does not begin": (
        ["bad+b,c", "d+e,f"],
        {"bad": "failed", "b": "passed", "c": "passed", "d": "not run", "e": "not run", "f": "not run"},
        ["c", "b"],
    ),
    "the shown lane fails": (["a,bad"], {"a": "passed", "bad": "failed"}, ["a"]),
}


def environment(tmp_path: Path) -> dict[str, str]:
    shim = tmp_path / "make"
    shim.write_text(SHIM, encoding="utf-8")
    shim.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SHIM": str(tmp_path), "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize("case", CASES)
def test_suites(tmp_path: Path, case: str) -> None:
    stages, results, order = CASES[case]
    done = subprocess.run(
        [str(RUNNER), *stages], env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert dict(re.findall(r"^\| (\w+) \| (passed|failed|not run) \|", done.stdout, re.MULTILINE)) == results
    assert re.findall(r"^end (\w+)$", done.stdout, re.MULTILINE) == order
    assert all(f"begin {name}\nend {name}\n" in done.stdout for name in order), "a log is whole"
    failed = "failed" in results.values()
    assert done.returncode == failed
    if failed:
        assert done.stdout.count("FAILED test_of_bad") == 2
        assert "--- make bad\nFAILED test_of_bad\n\n| suite" in done.stdout, "once more at the end"


def alive(session: int) -> list[str]:
    """The processes of a session, without those that only wait for their parent to notice."""
    argv = ["ps", "-o", "stat=,args=", "-s", str(session)]
    found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in found if not line.startswith("Z")]


def test_what_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [str(RUNNER), "slow,right"], env=environment(tmp_path), stdout=subprocess.DEVNULL, start_new_session=True
    )
    until(lambda: (tmp_path / "slow").exists() and (tmp_path / "right").exists())
    assert len(alive(running.pid)) >= 4
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 130
    until(lambda: not alive(running.pid))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["make", "right", "slow"], "its folder is gone"


def test_the_tests_that_hold_what_make_release_alone_runs_are_there() -> None:
    page = (RUNNER.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| only in `make release` |")[2].partition("\n\n")[0]
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", table)
    assert len(named) > 20
    for file, test in named:
        text = (Path(__file__).with_name(file)).read_text(encoding="utf-8")
        assert f"def {test or 'test_'}" in text, f"{file}::{test}"
