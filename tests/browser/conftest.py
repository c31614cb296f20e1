# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One browser for all tests of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from chromium import Chromium, found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = found()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium here: make browser installs it")
        pytest.skip("NOT CHECKED in a browser: there is no Chromium, and none is installed without root and apt")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as started:
        yield started
