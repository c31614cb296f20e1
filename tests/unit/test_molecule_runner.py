# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/molecule.sh over a shim of Molecule: three lanes, any failure is red, no host is left, times are told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[1] / "molecule.sh"
SHIM = """#!/bin/sh
set -- "$1" $(echo "$*" | sed 's/.*--scenario-name //')
echo "$LIFEBOAT_LANE $1 $2" >> "$SHIM/log"
echo "$PYTEST_ADDOPTS" >> "$SHIM/options"
echo "output of $1 $2 in $LIFEBOAT_LANE with $MOLECULE_EPHEMERAL_DIRECTORY"
case " $FAILING " in *" $1:$2 "*) echo "FAILED test_of_$2"; exit 1 ;; esac
case " $HANGING " in *" $1:$2 "*) touch "$SHIM/hangs.$LIFEBOAT_LANE"; exec sleep 60 ;; esac
"""
LANE_B = ["recover_object_storage", "recover_backend"]
LANE_C = ["recover_database", "recover_frontend"]


def start(tmp_path: Path, *arguments: str, failing: str = "", hanging: str = "") -> subprocess.Popen[str]:
    shim = tmp_path / "molecule"
    shim.write_text(SHIM, encoding="utf-8")
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SHIM": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "FAILING": failing,
        "HANGING": hanging,
    }
    # What a shell starts in the background ignores an interrupt, and a script of it cannot change that.
    command = ["env", "--default-signal=INT", str(RUNNER), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(tmp_path: Path, *arguments: str, failing: str = "") -> tuple[int, str]:
    with start(tmp_path, *arguments, failing=failing) as process:
        words = process.communicate(timeout=60)[0]
    return process.returncode, words


def steps(tmp_path: Path, lane: str) -> list[str]:
    """What Molecule was asked in that lane, in order: `verify drill`."""
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{lane} ")]


def test_each_lane_has_hosts_of_its_own_and_one_deployment_for_what_differs_in_nothing(tmp_path: Path) -> None:
    code, words = run(tmp_path)
    assert code == 0, words
    made = ["destroy default", "create default"]
    assert steps(tmp_path, "a")[:-1] == [
        *made,
        "converge default",
        "idempotence default",
        "verify default",
        "converge recover_site",
        "verify recover_site",
        "destroy default",
    ]
    assert steps(tmp_path, "b")[:-1] == [
        *made,
        "converge recover_object_storage",
        *(f"verify {name}" for name in LANE_B),
        "destroy default",
    ]
    assert steps(tmp_path, "c")[:-1] == [
        *made,
        "converge recover_database",
        *(f"verify {name}" for name in LANE_C),
        "destroy default",
    ]
    for lane in ("a", "b", "c"):
        assert steps(tmp_path, lane)[-1] == "destroy default"
    assert "6 scenarios passed" in words
    assert re.search(r"\| b \| recover_backend \| verify \| \d+ \|", words)
    # A step's output stands together, and says whose it is.
    assert "a | output of verify recover_site in a with" in words
    assert words.index("b | ==> recover_backend: verify") + 1 < words.index("b | output of verify recover_backend in b")
    assert words.count("state.a\n") and words.count("state.b\n")


# (arguments, what fails, exit code, what is said, what is not)
CASES = [
    (["default"], "", 0, ["1 scenarios passed"], ["lane b", "lane c"]),
    (["drill", "recover_site"], "verify:drill", 1, ["FAILED test_of_drill", "drill failed"], ["scenarios passed"]),
    (["default"], "create:default", 1, ["hosts failed", "failed after"], ["default passed"]),
    (["default", "drill"], "idempotence:default", 1, ["default failed", "drill passed"], ["scenarios passed"]),
    (["nothing"], "", 2, ["there is no scenario nothing"], ["passed"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "failing", "code", "said", "unsaid"), CASES)
def test_any_failure_is_red(
    tmp_path: Path, arguments: list[str], failing: str, code: int, said: list[str], unsaid: list[str]
) -> None:
    returned, words = run(tmp_path, *arguments, failing=failing)
    assert returned == code, words
    assert [text for text in said if text not in words] == [], words
    assert [text for text in unsaid if text in words] == [], words
    assert not list(tmp_path.glob("tmp.*")), "nothing of its own is left"


def test_what_follows_a_failure_begins_on_fresh_hosts(tmp_path: Path) -> None:
    code, words = run(tmp_path, "recover_backend", "drill", failing="verify:recover_backend")
    assert code == 1
    ran = steps(tmp_path, "b")
    between = ran[ran.index("verify recover_backend") + 1 : ran.index("verify drill")]
    assert between == ["destroy default", "create default", "converge drill"]
    assert "drill passed" in words


@pytest.mark.parametrize(("arguments", "everything"), [((), False), (("--long",), True)])
def test_the_longest_tests_run_when_they_are_asked_for(
    tmp_path: Path, arguments: tuple[str, ...], everything: bool
) -> None:
    assert run(tmp_path, *arguments, "recover_database")[0] == 0
    options = (tmp_path / "options").read_text(encoding="utf-8")
    assert ("-m 'not long'" not in options) is everything


def test_a_drill_runs_where_it_is_named_or_everything_is_asked_for(tmp_path: Path) -> None:
    code, words = run(tmp_path, "--long")
    assert code == 0 and "11 scenarios passed" in words, words
    assert steps(tmp_path, "c")[2:-1] == [
        "converge foreign_stack", "verify foreign_stack", "converge recover_database",
        *(f"verify {name}" for name in LANE_C), "converge watch", "verify watch", "destroy default",
    ]  # fmt: skip
    assert [step for step in steps(tmp_path, "b") if step.startswith("verify")][-1] == "verify drill"
    (tmp_path / "log").unlink()
    assert run(tmp_path, "drill")[0] == 0
    assert [step for step in steps(tmp_path, "b") if step.startswith("verify")] == ["verify drill"]


def test_an_interrupted_run_leaves_no_host(tmp_path: Path) -> None:
    with start(tmp_path, hanging="verify:default verify:recover_object_storage verify:recover_frontend") as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("hangs.*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=20)[0]
    assert process.returncode == 130, words
    for lane in ("a", "b", "c"):
        assert steps(tmp_path, lane)[-1] == "destroy default"
    assert "recover_site passed" not in words and "scenarios passed" not in words
