# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real main() of escrow; what it proves, test_escrow.py tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import escrow
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Result
from builders import NOW, Run, settings


@pytest.mark.parametrize(("verdict", "check"), [(PASS, False), (PASS, True), (FAIL, False)])
def test_escrow_never_changes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str, check: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def prove(config: Any, identity: str, **more: Any) -> Result:
        asked.append({"identity": identity, **more})
        return Result("20261124_033000", "escrow", (Check("config: secrets", verdict, "as listed"),), NOW, NOW)

    monkeypatch.setattr(escrow, "prove", prove)
    done = run("escrow", check=check, settings=settings(tmp_path), identity="AGE-SECRET-KEY-1hunter2", point="x")
    assert (done["verdict"], done["changed"], done["id"]) == (verdict, False, "20261124_033000")
    assert (asked[0]["identity"], asked[0]["record"], asked[0]["point"]) == ("AGE-SECRET-KEY-1hunter2", not check, "x")
    assert bool(done.get("failed")) == (verdict == FAIL)
    if verdict == FAIL:
        assert done["msg"] == "FAIL: 20261124_033000: config: secrets: as listed"
