# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module checklist and the command: one list, two faces, and an exit code that says the verdict."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import errors
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist as operations_checklist
from builders import Run, prove, publish, settings


def young(root: Path) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    backup = publish(root, now - timedelta(hours=1))
    prove(root, backup, at=now)


@pytest.mark.parametrize("check", [False, True])
def test_checklist_info_never_changes(run: Run, tmp_path: Path, check: bool) -> None:
    young(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("checklist_info", check=check)
    assert (result["changed"], result["verdict"]) == (False, "PASS")
    assert sorted(tmp_path.rglob("*")) == before
    assert {line["name"] for line in result["lines"]} == {"newest backup"}
    assert result["text"][-1] == "PASS  shop"
    assert result["markdown"].startswith("# daily checklist of shop")
    assert result["html"].startswith("<!doctype html>")


def test_checklist_info_fails_after_two_days(run: Run, tmp_path: Path) -> None:
    young(tmp_path)
    result = run("checklist_info", ahead_days=2)
    assert (result["failed"], result["verdict"]) == (False, "FAIL")
    assert result["text"][-1] == "FAIL  shop: newest backup"


@pytest.mark.parametrize("days", [-1, 100000])
def test_checklist_looks_ahead_only(run: Run, tmp_path: Path, days: float) -> None:
    """Back in time a list that is red could be green."""
    result = run("checklist_info", ahead_days=days)
    assert result["failed"]
    assert "it must be from 0 to" in result["msg"]


def test_checklist_refuses_a_period_that_there_is_not(run: Run) -> None:
    assert "value of period must be one of" in run("checklist_info", plain=True, period="yearly")["msg"]


def command(root: Path, *words: str) -> int:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/shop.json").write_text(json.dumps(settings(root)))
    return cli.main(["checklist", *words, "--config-directory", str(root / "etc")])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    young(tmp_path)
    pages = [tmp_path / "list.md", tmp_path / "list.html"]
    assert command(tmp_path, "--markdown", str(pages[0]), "--html", str(pages[1])) == 0
    assert "newest backup" in capsys.readouterr().out
    assert ["newest backup" in path.read_text() for path in pages] == [True, True]
    assert command(tmp_path, "--ahead-days", "2") == errors.IntegrityError.exit_code
    assert command(tmp_path, "--period", "weekly") == errors.UnverifiedError.exit_code
    capsys.readouterr()
    command(tmp_path, "--json")
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert made["verdict"] == "PASS"
    assert command(tmp_path, "--html", str(tmp_path / "none/list.html")) == errors.NotFoundError.exit_code
    assert command(tmp_path, "--ahead-days", "-1") == errors.UsageError.exit_code


@pytest.mark.parametrize("period", operations_checklist.PERIODS)
def test_every_list_has_a_line(run: Run, tmp_path: Path, period: str) -> None:
    """With nothing there and nothing that answers: red, line by line, and no traceback."""
    result = run("checklist_info", period=period)
    assert result["lines"]
    assert result["verdict"] != "PASS"
