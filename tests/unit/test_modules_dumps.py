# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a dumps recovery, by their real main(): check mode, change, no change, failure. Commands of this
machine are in the place of a container's; the servers are in tests/integration/test_dumps.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import backup
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from builders import Run, settings
from test_dumps import Runtime, here, opened, restores, silent, source

__all__ = ["here"]  # a fixture


@pytest.fixture
def given(here: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a module is told of the stack; there is a backup."""
    named = source(here)
    backup.take(opened(here, named), log=silent)
    monkeypatch.setattr(runtime, "connect", lambda *_, **__: Runtime(here / "data"))
    return {"settings": settings(here, dumps={"sources": [named]})}


def test_dumps_plan_info_never_changes(run: Run, given: dict[str, Any], here: Path) -> None:
    healthy = run("dumps_plan_info", **given)
    assert (healthy["changed"], healthy["needed"]) == (False, False)
    (here / "facts").write_text("account root\tx\n")
    found = run("dumps_plan_info", **given)
    assert (found["changed"], found["needed"]) == (False, True)
    assert any(line.endswith("is damaged") for line in found["text"])
    assert not (here / "restored").exists()


def test_dumps_plan_info_fails_without_dumps(run: Run) -> None:
    result = run("dumps_plan_info")
    assert result["failed"]
    assert result["cause"] == "the stack has no dumps to recover from"


def test_dumps_recover_changes(run: Run, given: dict[str, Any], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "facts").write_text("account root\tx\n")
    planned = run("dumps_plan_info", **given)["plan"]
    checked = run("dumps_recover", check=True, plan=planned, **given)
    assert (checked["changed"], (here / "restored").exists()) == (True, False)
    restores("account root\tx\n", monkeypatch, here)
    done = run("dumps_recover", plan=planned, reopen=False, **given)
    assert done["changed"]
    assert {(check["subject"], check["result"]) for check in done["checks"]} == {("wiki", "FAIL")}
    assert (here / "restored").read_bytes() == b"the dump\n"
    again = run("dumps_recover", plan=planned, **given)
    assert again["failed"]
    assert "another run" in again["cause"], "by the same plan, again"


def test_dumps_recover_fails_where_the_backup_is_gone(run: Run, given: dict[str, Any], here: Path) -> None:
    (here / "facts").write_text("account root\tx\n")
    planned = run("dumps_plan_info", **given)["plan"]
    gone = {**planned, "backup": {**planned["backup"], "id": "dumps_backup_20200101_000000"}}
    result = run("dumps_recover", plan=gone, **given)
    assert result["failed"]
    assert "there is no such backup" in result["cause"]
    assert not (here / "restored").exists()
