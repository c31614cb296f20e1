# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet_info."""

from __future__ import annotations

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.reports import fleet
from builders import Run
from test_fleet import hundred, said


@pytest.mark.parametrize("dry", [False, True])
def test_fleet_info_never_changes(run: Run, dry: bool) -> None:
    done = run("fleet_info", plain=True, check=dry, hosts=hundred())
    assert (done["changed"], done["verdict"], done["summary"]) == (
        False, FAIL, "100 stacks: 2 FAIL, 2 COULD NOT VERIFY, 96 PASS",
    )  # fmt: skip
    assert done["stacks"][2] == {
        "host": "app99", "stack": "shop99", "verdict": COULD_NOT_VERIFY, "words": "no answer: timed out",
    }  # fmt: skip
    assert done["table"] == fleet.text(fleet.judge(hundred()))
    assert run("fleet_info", plain=True, hosts=[said()])["verdict"] == PASS
    assert run("fleet_info", plain=True, hosts=[])["verdict"] == COULD_NOT_VERIFY
