# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a files recovery, by their real main() on real files: check mode, change, no change, failure."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.files import backup
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as configuration
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import Run, settings


def given(root: Path, **more: Any) -> dict[str, Any]:
    files = {"sources": [{"name": "uploads", "path": str(root / "uploads")}]}
    return {"settings": settings(root, runtime={"type": "host"}, files=files), **more}


def backed_up(root: Path) -> dict[str, Any]:
    (root / "uploads" / "a").mkdir(parents=True)
    (root / "uploads" / "a" / "one").write_text("one")
    found = given(root)
    backup.take(Opened(configuration.from_mapping(found["settings"])), log=lambda line: None)
    return found


def test_files_plan_info_never_changes(run: Run, tmp_path: Path) -> None:
    found = backed_up(tmp_path)
    healthy = run("files_plan_info", **found)
    assert (healthy["changed"], healthy["needed"]) == (False, False)
    shutil.rmtree(tmp_path / "uploads" / "a")
    result = run("files_plan_info", **found)
    assert (result["changed"], result["needed"]) == (False, True)
    assert result["text"][0] == "the files of uploads are damaged"
    assert [source["missing"] for source in result["plan"]["sources"]] == [2]
    assert not (tmp_path / "uploads" / "a").exists()


def test_an_endpoint_that_was_down_before_the_loss_is_in_the_plan(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_state, "warnings_of_unanswered", lambda config, patience: [f"it is {patience}"])
    found = backed_up(tmp_path)
    assert "it is 30.0" not in run("files_plan_info", **found)["plan"]["warnings"], "nobody will wait for it"
    shutil.rmtree(tmp_path / "uploads" / "a")
    assert "it is 30.0" in run("files_plan_info", **found)["plan"]["warnings"]


def test_files_plan_info_fails_without_files(run: Run) -> None:
    result = run("files_plan_info")
    assert result["failed"]
    assert result["cause"] == "the stack has no files to recover"


def test_files_recover_changes(run: Run, tmp_path: Path) -> None:
    found = backed_up(tmp_path)
    shutil.rmtree(tmp_path / "uploads")
    planned = run("files_plan_info", **found)["plan"]
    checked = run("files_recover", check=True, plan=planned, **found)
    assert (checked["changed"], (tmp_path / "uploads").exists()) == (True, False)
    done = run("files_recover", plan=planned, **found)
    assert done["changed"]
    assert [(check["kind"], check["subject"], check["result"]) for check in done["checks"]] == [
        ("files", "uploads", "PASS")
    ]
    assert (tmp_path / "uploads" / "a" / "one").read_text() == "one"
    assert run("files_plan_info", **found)["needed"] is False
    again = run("files_recover", plan=planned, **found)
    assert again["failed"]
    assert "another run" in again["cause"], "by the same plan, again"


def test_files_recover_fails_where_the_backup_is_gone(run: Run, tmp_path: Path) -> None:
    found = backed_up(tmp_path)
    shutil.rmtree(tmp_path / "uploads" / "a")
    planned = run("files_plan_info", **found)["plan"]
    gone = {**planned, "backup": {**planned["backup"], "id": "files_backup_20200101_000000"}}
    result = run("files_recover", plan=gone, **found)
    assert result["failed"]
    assert "there is no such backup" in result["cause"]
    assert not (tmp_path / "uploads" / "a").exists()
