# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a faithful dump and restore must not change: no false alarm, for no name, no type and no expression."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils import restore
from conftest import MakeDatabase
from postgres_stack import Stack, assert_pass, back_up_and_prove, entries, restore_beside

ODD_TYPES = (Path(__file__).parent / "odd_types.sql").read_text()


def test_every_odd_type_survives(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    settings = stack.config(tmp_path, database={"name": make_database("odd", ODD_TYPES)})
    back_up_and_prove(settings)
    details = entries(settings)[-1].manifest.details  # type: ignore[union-attr]
    assert details["fingerprint"]["tables"] == 12
    assert details["fingerprint"]["large_objects"] == 3
    # A second generation, restored from a backup of the first, is the same again.
    facts = restore_beside(stack, settings, "second")
    assert_pass(restore.compare(stack.server(settings), "second", facts, fresh=True), at_least=7)
