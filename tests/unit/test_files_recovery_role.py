# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role files_recovery: what an operator is told of a recovery that stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_awx import render

ROLE = Path(__file__).resolve().parents[2] / "roles" / "files_recovery"
STOPPED = [
    ({}, "nothing was changed"),
    ({"__files_recovery_done": {"failed": True, "msg": "no space"}}, "the services may be stopped, and some"),
    ({"__files_recovery_done": {"checks": [{"name": "files uploads"}]}}, "the files are as the checks above say"),
]  # fmt: skip


@pytest.mark.parametrize(("registered", "words"), STOPPED, ids=["not begun", "ended by an error", "a failed check"])
def test_the_state_says_how_far_it_had_come(registered: dict[str, Any], words: str) -> None:
    state = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__files_recovery_state"]
    assert str(render(state, registered)).startswith(words)
