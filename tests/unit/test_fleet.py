# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All stacks in one table, worst first, with one verdict: the table, the page, the module and the playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import fleet
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import site as reports_site
from builders import NOW
from evidence_world import HOSTILE, kept, record
from test_evidence_faces import ELEMENTS, Seen

ROOT = Path(__file__).resolve().parents[2]


def check(name: str, result: str = PASS, detail: str = "as it should be", **more: Any) -> dict[str, Any]:
    return {"name": name, "result": result, "detail": detail, **more}


def said(number: int = 0, *more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A stack that is well, as backup_info tells of it, and further checks."""
    own = [
        check("newest backup", measured=2.0, limit=26, unit="h"),
        check("newest objects backup", measured=3.5, limit=26, unit="h"),
        check("proof", measured=1.25, limit=8, unit="days"),
    ]
    status = {"stack": "shop", "verdict": PASS, "checks": [*own, *more]}
    return {"host": f"app{number}", "stack": f"shop{number}", "status": status, **changes}


def only(given: dict[str, Any]) -> fleet.StackRow:
    (line,) = fleet.judge([given])
    return line


def test_a_stack_that_is_well() -> None:
    line = only(said())
    assert (line.verdict, line.explanation, line.hours, line.days) == (PASS, "", 3.5, 1.25)
    assert fleet.summary([line]) == "1 stack: 1 PASS"


NOT_WELL: dict[str, tuple[dict[str, Any], str, str]] = {
    "a check that failed": (said(0, check("vault", FAIL, "no such bucket")), FAIL, "vault: no such bucket"),
    "a check that was not made": (said(0, check("vault", COULD_NOT_VERIFY, "away")), COULD_NOT_VERIFY, "vault: away"),
    "a result that nobody knows": (said(0, check("vault", "GREEN", "fine")), COULD_NOT_VERIFY, "vault: fine"),
    "a verdict without checks": (
        said(status={"verdict": PASS, "checks": []}), COULD_NOT_VERIFY, "status: it says nothing",
    ),
    "nobody asked": ({"host": "a", "stack": "b"}, COULD_NOT_VERIFY, "status: it was not asked"),
    "rubbish": (said(status={"checks": 5}), COULD_NOT_VERIFY, "status: its answer cannot be read"),
    "no mapping": (said(status="PASS"), COULD_NOT_VERIFY, "status: its answer cannot be read"),
    "a host that is away": (
        {"host": "a", "stack": "b", "problem": "timed out"}, COULD_NOT_VERIFY, "no answer: timed out",
    ),
    "a keeper that lacks a copy": (
        said(keeper={"checks": [check("last pull", FAIL, "9 days ago")]}), FAIL, "keeper: last pull: 9 days ago",
    ),
    "a result that is none of ours": (
        said(0, check("newest backup", "SPLENDID", "0.1 h old")), COULD_NOT_VERIFY, "newest backup: 0.1 h old",
    ),
    "a keeper that says nothing": (said(keeper={"verdict": PASS}), COULD_NOT_VERIFY, "keeper: status: it says nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_WELL)
def test_a_stack_that_is_not(case: str) -> None:
    given, verdict, words = NOT_WELL[case]
    line = only(given)
    assert line.verdict == verdict
    assert line.explanation.startswith(words)
    assert fleet.verdict([line, only(said())]) == verdict, "one of many is enough"


def test_a_backup_of_unknown_age_hides_behind_no_other() -> None:
    assert only(said(0, check("newest config backup", FAIL, "there is no good backup"))).hours is None


def test_of_none_nothing_is_known() -> None:
    assert (fleet.judge([]), fleet.verdict([]), fleet.summary([])) == ([], COULD_NOT_VERIFY, "0 stacks: none was asked")
    assert len(fleet.text([])) == 3


def hundred() -> list[dict[str, Any]]:
    """Two failed, one of them worse; one is away; one could not look at something."""
    given = [said(number) for number in range(100)]
    given[70] = said(70, check("vault", FAIL, "no such bucket"))
    given[40] = said(40, *(check(f"check {number}", FAIL, "x" * 300) for number in range(9)))
    given[99] = {"host": "app99", "stack": "shop99", "problem": "timed out"}
    given[10] = said(10, check("vault", COULD_NOT_VERIFY, "away"))
    return given


def test_a_hundred_stacks_worst_first() -> None:
    lines = fleet.judge(hundred())
    assert [line.stack for line in lines[:5]] == ["shop40", "shop70", "shop99", "shop10", "shop0"]
    assert lines == fleet.judge(hundred()[::-1]), "whatever order they come in"
    told = fleet.text(lines)
    assert told[0] == "100 stacks: 2 FAIL, 2 COULD NOT VERIFY, 96 PASS"
    assert told[2].split() == ["VERDICT", "STACK", "HOST", "BACKUP", "PROVED", "WHAT", "IS", "WRONG"]
    assert len(told) == 103
    assert max(map(len, told)) < 200
    assert {line.index("app") for line in told[3:]} == {told[2].index("HOST")}, "columns stay columns"


def test_names_of_every_width_keep_the_columns() -> None:
    given = [said(0, check("v", FAIL, "x")), said(1, check("v", FAIL, "y"), stack="商店" * 30), said(2, stack="")]
    _, _, head, *rows = fleet.text(fleet.judge(given))
    assert {fleet._width(row[: row.index(" app")]) for row in rows} == {head.index("HOST") - 1}
    assert "…" in rows[1] and fleet._width(rows[1]) < 100


def test_hostile_words_stay_words_in_the_table() -> None:
    given = [said(0, check(HOSTILE, FAIL, HOSTILE), host=HOSTILE, stack=HOSTILE), {"host": HOSTILE, "problem": HOSTILE}]
    told = fleet.text(fleet.judge(given))
    assert len(told) == 5
    assert all(line.isprintable() for line in told)


def test_why_a_host_does_not_answer_is_told_without_its_secrets() -> None:
    line = only({"host": "app1", "stack": "shop", "problem": "ssh: password=correct-horse-7 was refused"})
    assert line.explanation == f"no answer: ssh: password={pipeline.BLANK} was refused"


def test_the_page(tmp_path: Path) -> None:
    page = fleet.html(fleet.judge(hundred()), NOW, {("app40", "shop40"): "app40/shop40/x.html"})
    seen = Seen(page)
    shown = " ".join("".join(seen.words).split())
    assert (seen.open, seen.elements <= ELEMENTS) == ([], True)
    assert seen.links == ["data:,", "index.html", "app40/shop40/x.html"], "nothing is fetched from elsewhere"
    assert shown.index("shop40") < shown.index("shop70") < shown.index("shop99") < shown.index("shop10")
    assert "Stacks 100" in re.sub(r"(?<=[a-z])(?=\d)", " ", shown)
    assert "2026-11-24 12:00, UTC" in shown


def test_hostile_words_stay_words_on_the_page() -> None:
    given = [said(0, check(HOSTILE, FAIL, HOSTILE), host=HOSTILE, stack=HOSTILE), {"host": HOSTILE, "problem": HOSTILE}]
    page = fleet.html(fleet.judge(given), NOW, {})
    seen = Seen(page)
    assert (seen.open, seen.elements <= ELEMENTS, seen.attributes & {"onerror", "onload"}) == ([], True, set())
    assert "<script" not in page and "alert(1)" in "".join(seen.words)


def test_the_report_has_it_and_both_pages_lead_to_each_other(tmp_path: Path) -> None:
    body = record(tmp_path)
    evidence = {
        "scenarios": ["database"], "components": ["database"], "drill_age_days": 92, "proof_age_days": 8,
        "records": [kept(body)],
    }  # fmt: skip
    given = [{**said(), **evidence}, {"host": "app2", "stack": "blog", "problem": "away"}]
    _, files = reports_site.site(given, NOW, fleet=True)
    page, index = files["fleet.html"].decode(), files["index.html"].decode()
    assert 'href="fleet.html"' in index and 'href="index.html"' in page
    shown = "".join(Seen(page).words)
    assert "drill of the database: never done, every 92 days" in shown, "what is overdue counts"
    assert shown.index("shop0") < shown.index("blog")
    assert [link for link in Seen(page).links if "/" in link] == [f"app0/shop0/{body['id']}.html"]
    assert all(link in files for link in Seen(page).links[1:])
    alone = reports_site.site(given, NOW)[1]
    assert "fleet.html" not in alone and b"fleet.html" not in alone["index.html"], "a host knows of itself only"
    bad = {**said(), **evidence, "records": [kept(body, problem="edited")]}
    assert "1 that are not evidence" in reports_site.site([bad], NOW, fleet=True)[1]["fleet.html"].decode()


def playbook(inventory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    given = {"target": "all", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "-e", json.dumps(given),
            *words, str(ROOT / "playbooks/status.yml"),
        ],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "500"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_playbook_tells_of_all_in_one_table_and_fails_once(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts"
    inventory.write_text(
        "here ansible_connection=local lifeboat_stack=gone\n"
        "away ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_retries=0 lifeboat_stack=blog\n"
    )
    done = playbook(inventory)
    assert done.returncode == 2, done.stdout + done.stderr
    shown = done.stdout
    assert re.search(r"COULD NOT VERIFY  blog +away .*no answer: .*127\.0\.0\.1", shown), shown
    assert re.search(r"COULD NOT VERIFY  gone +here .*no answer: ", shown), shown
    assert shown.count("2 stacks: 2 COULD NOT VERIFY") == 2, "in the table, and where it fails"


@pytest.mark.slow
def test_the_playbook_passes_where_all_are_well_and_counts_a_keeper_that_was_not_asked(tmp_path: Path) -> None:
    """From the end on, with what the hosts would have said."""
    inventory = tmp_path / "hosts"
    inventory.write_text("a lifeboat_stack=one\nb lifeboat_stack=two\n[all:vars]\nansible_connection=local\n")
    given = json.dumps({"__status": {"status": said()["status"]}})
    keeper = json.dumps({"lifeboat_keeper": {"host": "b"}, "__keeper": {"msg": "permission denied"}})
    good = playbook(inventory, "-e", given, "--start-at-task", "Weigh all stacks")
    assert (good.returncode, "2 stacks: 2 PASS" in good.stdout) == (0, True), good.stdout + good.stderr
    bad = playbook(inventory, "-e", given, "-e", keeper, "--start-at-task", "Weigh all stacks")
    assert bad.returncode == 2
    assert "keeper: it was asked: permission denied" in bad.stdout
