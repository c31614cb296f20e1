# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/molecule.sh over a shim of Molecule: passing at the second try is green and said, failing twice is red."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[1] / "molecule.sh"
SHIM = """#!/bin/sh
echo "$*" >> "$SHIM/log"
case "$1 $3" in
"verify once") [ -e "$SHIM/tried" ] || { touch "$SHIM/tried"; echo "FAILED test_of_once"; exit 1; } ;;
"verify never") echo "FAILED test_of_never"; exit 1 ;;
esac
"""
# (scenarios, exit code, what is said, what is not)
CASES = [
    (["good"], 0, ["1 scenarios passed"], ["FLAKY", "failed"]),
    (["good", "once"], 0, ["FLAKY, failed first and passed on fresh hosts", "FAILED test_of_once"], ["failed after"]),
    (["never", "good"], 1, ["failed after", "FAILED test_of_never"], ["FLAKY", "scenarios passed"]),
    (["once", "never"], 1, ["FLAKY", "failed after"], ["scenarios passed"]),
]  # fmt: skip


@pytest.mark.parametrize(("scenarios", "code", "said", "unsaid"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_a_second_try_is_said_and_a_second_failure_is_red(
    tmp_path: Path, scenarios: list[str], code: int, said: list[str], unsaid: list[str]
) -> None:
    shim = tmp_path / "molecule"
    shim.write_text(SHIM, encoding="utf-8")
    shim.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SHIM": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [str(RUNNER), *scenarios], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    words = done.stdout + done.stderr
    assert done.returncode == code, words
    assert all(one in words for one in said), words
    assert not any(one in words.replace(": failed in", "") for one in unsaid), words
    # fresh hosts before the second try, and none left at the end
    ran = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    again = [index for index, one in enumerate(ran) if one == f"converge --scenario-name {scenarios[-1]}"][1:]
    assert all(ran[index - 1] == "destroy --scenario-name default" for index in again)
    assert ran[-1] == "destroy --scenario-name default"
