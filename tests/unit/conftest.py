# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process runner, replaced: what the core would run is recorded, what it is answered is in the test's own table."""

from __future__ import annotations

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils import pipeline
from builders import Runner


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    one = Runner()
    for name in ("output", "probe", "run"):
        monkeypatch.setattr(pipeline, name, getattr(one, name))
    return one
