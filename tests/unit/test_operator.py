# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is written into the evidence: never nobody, wherever a playbook runs."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.lookup.operator import LookupModule

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("SUDO_USER", "USER", "LOGNAME")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"USER": "mika"}, "mika"),
        ({"USER": "root", "SUDO_USER": "rin"}, "rin"),
        ({"USER": "", "LOGNAME": "mika"}, "mika"),
    ],
)
def test_the_environment_names_the_operator(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert LookupModule().run([]) == [expected]


def test_without_an_environment_the_system_names_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert LookupModule().run([]) == [pwd.getpwuid(os.getuid()).pw_name]

    def unknown(_number: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert LookupModule().run([]) == [str(os.getuid())]


def test_every_role_that_leaves_evidence_names_the_operator() -> None:
    given = {
        path.relative_to(ROOT).as_posix(): re.findall(r"^ +operator: (.*)$", path.read_text(), re.MULTILINE)
        for path in ROOT.glob("roles/*/tasks/*.yml")
    }
    found = {path: words for path, words in given.items() if words}
    assert len(found) == 3
    expected = "\"{{ awx_user_name | default(lookup('lifeboat.dr.operator'), true) }}\""
    assert {word for words in found.values() for word in words} == {expected}
