# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""forged.py has its backup recovered where nobody is pinned, and where the host's key is, what the host signed is.

Each kind of attack is looked at by itself, in what one run said.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from nights import Attack

pytestmark = pytest.mark.slow
PLANS = ("database latest", "site latest")


def said(attack: Attack, target: str, code: int, which: str) -> tuple[list[str], dict[str, Any]]:
    """What of it would be recovered, and everything that was said of it."""
    done, directory = attack("forged.py", target)
    assert done.returncode == code, done.stderr
    told = json.loads((directory / "said.json").read_text(encoding="utf-8"))[which]
    return [line for line in done.stdout.splitlines() if line.startswith(f"{which}: ")], told


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_control_without_signers_the_forged_one_is_recovered(attack: Attack, which: str) -> None:
    lines, told = said(attack, "unpinned", 0, which)
    backup, tied = told["forged"]
    assert lines == [
        f"{which}: database latest: {backup}",
        f"{which}: site latest: {tied}",
        f"{which}: database {tied}: {backup}",
    ]


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_with_signers_it_is_not(attack: Attack, which: str) -> None:
    lines, told = said(attack, "product", 1, which)
    backups, points = told["backups"], told["points"]
    assert lines == []
    if which == "plant":
        assert [told[asked]["id"] for asked in PLANS] == [backups[-1], points[-1]]
    else:  # the newest one is lost, which is an operator's matter: he names the one before it
        for asked, lost in zip(PLANS, (backups[-1], points[-1])):
            assert f"{lost} was seen with sequence 2" in told[asked]["refused"]
        assert {told[f"database {named}"]["id"] for named in (backups[-2], points[-2])} == {backups[-2]}
    for identity in told["forged"]:
        assert "untrusted: " in told[f"database {identity}"]["refused"]


@pytest.mark.parametrize("which", ["plant", "alter"])
def test_every_command_says_so_and_none_deletes_it(attack: Attack, which: str) -> None:
    lines, told = said(attack, "product", 1, f"{which}, files")
    forged, newest = told["forged"], told["backups"][-1]
    assert lines == []
    _code, listed = told["list"]
    assert {entry["id"] for entry in listed if entry.get("untrusted")} >= set(forged)
    assert not [entry for entry in listed if entry["id"] in forged and entry["good"]]
    code, status = told["status"]
    results = {check["name"]: check["result"] for check in status["checks"]}
    assert (code, results["untrusted backups"], results["untrusted recovery points"]) == (6, "FAIL", "FAIL")
    code, verified = told["verify"]
    assert (code, "untrusted" in verified["checks"][0]["detail"]) == (6, True)
    code, pruned = told["prune"]
    assert code == 6
    assert set(forged) <= set(pruned["untrusted"])
    assert set(forged) <= set(pruned["keep"])
    assert pruned["delete"] == []
    plan = told["database latest"]
    if which == "plant":
        assert plan["id"] == newest
    else:
        assert f"{newest} was seen with sequence 2" in plan["refused"]


def test_what_was_signed_is_found_below_what_was_forged(attack: Attack) -> None:
    """By the writer's key of a bucket that keeps versions: the newest documents are overwritten, newer are planted."""
    lines, told = said(attack, "product", 1, "both")
    backup, tied = told["backups"][-1], told["points"][-1]
    assert lines == []
    for asked, own in ((f"database {backup}", backup), (f"database {tied}", backup), ("site latest", tied)):
        assert (told[asked]["id"], told[asked]["place"]) == (own, "repository_versions")
    assert f"{backup} was seen with sequence 2" in told["database latest"]["refused"]
    assert told["forged"][:2] == [backup, tied]
    for identity in told["forged"][2:]:
        assert "untrusted: " in told[f"database {identity}"]["refused"]


def test_control_without_signers_the_plan_of_the_site_says_what_cannot_be_known(attack: Attack) -> None:
    _lines, told = said(attack, "site", 1, "at once")
    assert told["unpinned id"] == told["forged"][-1], "the planted one"
    (words,) = [line for line in told["unpinned text"] if "nobody is pinned (lifeboat_signers)" in line]
    assert "whether the host published this point, or somebody else who could write there, cannot be known" in words


def test_the_site_is_recovered_to_the_right_point_where_all_is_done_at_once(attack: Attack) -> None:
    """Older backups are hidden, the newest is overwritten, and a newer one is planted."""
    lines, told = said(attack, "site", 1, "at once")
    plan = told["site latest"]
    assert lines == []
    assert (plan["id"], plan["place"]) == (told["points"][-1], "repository_versions")
    assert any(f"{plan['id']} is read from old versions: " in line for line in plan["text"])
    assert not any("nobody is pinned" in line for line in plan["text"])
