# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hidden.py keeps the newest backup from being recovered where no versions are kept; where they are, it is, and told.

Each kind of attack is looked at by itself, in what one run said.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hidden import NAMED
from nights import Attack

pytestmark = pytest.mark.slow
ATTACKS = ["hidden", "removed", "lied", "damaged", "crowded"]
RESTORED = {"lied": "poison", "damaged": "ruins", "crowded": "rolesmore"}  # by a script


def said(attack: Attack, target: str, code: int, which: str) -> tuple[list[str], dict[str, Any]]:
    """What of it was kept from being recovered, and everything that was said of it."""
    done, directory = attack("hidden.py", target)
    assert done.returncode == code, done.stderr
    told = json.loads((directory / "said.json").read_text(encoding="utf-8"))[which]
    return [line for line in done.stdout.splitlines() if line.startswith(f"{which}: ")], told


@pytest.mark.parametrize("which", ATTACKS)
def test_control_without_versions_nothing_is_left(attack: Attack, which: str) -> None:
    lines, _told = said(attack, "unprotected", 0, which)
    assert lines == [f"{which}: the script: {RESTORED.get(which, 'nothing')}"]
    if which == "crowded":  # what is live is enough there, once what does not belong to it is left out
        return
    lines, told = said(attack, "plain", 0, which)
    named = [f"database {told['backups'][-1]}"] if which in NAMED else []
    assert [line.split(": ")[1] for line in lines] == ["database latest", *named]


@pytest.mark.parametrize("which", ATTACKS)
def test_what_was_published_is_recovered_and_that_is_said(attack: Attack, which: str) -> None:
    lines, told = said(attack, "product", 1, which)
    last = told["backups"][-1]
    assert lines == []
    for asked in ("latest", *([last, told["points"][-1]] if which in NAMED else [])):
        plan = told[f"database {asked}"]
        assert plan["id"] == last
        said_so = [line for line in plan["text"] if line.endswith("; its old versions are read")]
        assert any(line.lstrip().startswith(f"WARNING: {last}: ") for line in said_so)
    assert told["nothing is written"], "and nothing is shown again"


@pytest.mark.parametrize("which", ATTACKS)
def test_the_site_is_planned_from_it_and_that_is_said(attack: Attack, which: str) -> None:
    lines, told = said(attack, "product", 1, which)
    last = told["points"][-1]
    assert lines == []
    for asked in ("latest", *([last] if which in NAMED else [])):
        plan = told[f"site {asked}"]
        assert plan["id"] == last
        warnings = [line for line in plan["text"] if "WARNING: " in line]
        assert warnings[0].lstrip().startswith(f"WARNING: {last} is read from old versions: ")


def test_verify_reads_it_and_says_so(attack: Attack) -> None:
    _lines, told = said(attack, "product", 1, "verify")
    verdicts = [
        (result["verdict"], [check["detail"] for check in result["checks"] if check["name"] == "old versions"])
        for _code, result in told["said"]
    ]
    assert [code for code, _result in told["said"]] == [0, 0, 6]
    assert verdicts[0] == ("PASS", [])
    assert verdicts[1][0] == "PASS"
    assert "its manifest was hidden by a delete marker" in verdicts[1][1][0]
    assert verdicts[2][0] == "FAIL"
    assert "its manifest was overwritten at" in verdicts[2][1][0]
    assert told["nothing is written"]


def test_status_and_list_name_it(attack: Attack) -> None:
    _lines, told = said(attack, "product", 1, "list")
    oldest, before, newest = told["backups"]
    _code, listed = told["said"]
    entries = {entry["id"]: entry for entry in listed}
    assert [entries[name]["good"] for name in (oldest, before)] == [False, True]
    assert "its manifest was overwritten at" in entries[oldest]["problem"]
    assert "its manifest was hidden by a delete marker" in entries[newest]["hidden"]
    (row,) = [line for line in told["table"].splitlines() if newest in line and line.startswith("db_backup")]
    assert "HIDDEN: its manifest was hidden by a delete marker" in row
    _code, status = said(attack, "product", 1, "status")[1]["said"]
    found = {check["name"]: check for check in status["checks"]}
    assert found["hidden backups"]["result"] == "FAIL"
    assert found["overwritten backups"]["result"] == "FAIL"
    assert oldest in found["overwritten backups"]["detail"]


def test_a_newer_one_that_was_hidden_is_told(attack: Attack) -> None:
    _lines, told = said(attack, "product", 1, "plan")
    newest = told["backups"][-1]
    assert told["id"] == told["backups"][-2]
    words = f"{newest} is newer, and in the repository its manifest was hidden"
    assert [line for line in told["text"] if words in line]
