# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/compat/matrix.py: what is said to have run did, by a log of it; what did not is named."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/compat"))
import matrix  # noqa: E402
from matrix import Asked, Record  # noqa: E402

COMMIT, DATE = "4f3fa7d5", "2026-12-02"
MOLECULE = """==> lane a: hosts passed in 285 s
==> lane a: default passed in 2495 s
c | ==> lane a: recover_site passed in 1 s
==> lane b: drill failed in 736 s
==> lane c: recover_frontend
"""
MAJORS = """.15 in 18: verify 31 PASS, 2 COULD_NOT_VERIFY; recovery 40 PASS, 2 COULD_NOT_VERIFY; equal; 61 s
17 in 17: verify 33 PASS; recovery 42 PASS; equal; 55 s
16 in 15: refused
"""
COMPAT = """\x1b[1m==> compat: a recovery under ansible [core 2.19.3]\x1b[0m
\x1b[1m==> compat: a recovery under ansible [core 2.21.5]\x1b[0m
\x1b[1m==> compat: unit tests under ansible [core 2.21.5], Python 3.13.5\x1b[0m
\x1b[1m==> compat: recovery passed in 300 s\x1b[0m
"""


def found(log: str) -> list[tuple[str, ...]]:
    return [record.key for record in matrix.passed(log, commit=COMMIT, date=DATE, core="2.19")]


@pytest.mark.parametrize(
    ("log", "keys"),
    [
        (MOLECULE, [("molecule default", "17", "Debian 13", "2.19")]),
        (MAJORS, [("recovery into 17", "17", "", "")]),
        (MAJORS.replace(".15", "15"), [("recovery into 18", "15", "", ""), ("recovery into 17", "17", "", "")]),
        # Of the unit tests the end is missing: the run was cut off.
        (COMPAT, [("a recovery", "17", "Debian 13", "2.19"), ("a recovery", "17", "Debian 13", "2.21")]),
        ("", []),
    ],
)
def test_only_what_the_log_says_passed_is_recorded(log: str, keys: list[tuple[str, ...]]) -> None:
    assert found(log) == keys


def test_the_words_are_those_that_the_suites_print() -> None:
    """The log of a suite that says it otherwise would record nothing."""
    runner = (ROOT / "tests/molecule.sh").read_text(encoding="utf-8")
    assert r"printf '==> lane %s: %s %s in %d s\n' " in runner and "word=passed" in runner
    compat = (ROOT / "tests/compat/compat.sh").read_text(encoding="utf-8")
    assert r"==> compat: %s\033[0m" in compat and 'say "$part passed in $((SECONDS - began)) s"' in compat
    for part, words in matrix._PARTS.items():
        assert f'say "{words} under $(ansible --version | sed -n 1p)' in compat and re.search(
            rf"^        {part}\)", compat, re.MULTILINE
        )
    majors = (ROOT / "tests/integration/test_majors.py").read_text(encoding="utf-8")
    assert 'f"{old} in {new}: verify {proof}; recovery {recovery}; equal; {took:.0f} s"' in majors


RECORD = Record("molecule default", "17", "Debian 13", "2.19", DATE, COMMIT)


def test_a_later_run_takes_the_place_of_an_earlier_one() -> None:
    later = replace(RECORD, date="2026-12-03", commit="aaaaaaaa")
    other = replace(RECORD, core="2.21")
    assert matrix.merged([RECORD], [later, other]) == [later, other]
    assert matrix.merged([later], [RECORD]) == [later]


def test_what_people_have_and_no_run_is_recorded_of_is_named() -> None:
    asked = [Asked("server", "17", "x", "x"), Asked("server", "14", "y", "z"), Asked("core", "2.21", "y", "z")]
    assert matrix.never([RECORD], asked) == asked[1:]
    english, japanese = (matrix.tables([RECORD], asked, language) for language in ("en", "ja"))
    assert "| PostgreSQL 14 | y |" in english and "| PostgreSQL 14 | z |" in japanese and "17 | x" not in english
    assert f"| molecule default | 17 | Debian 13 | 2.19 | {DATE} | `{COMMIT}` |" in english


def test_a_page_without_a_place_for_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="does not mark"):
        matrix.page("# Tested\n", "table\n")
    once = matrix.page(f"a\n{matrix.BEGIN}old\n{matrix.END}b\n", "table\n")
    assert once == f"a\n{matrix.BEGIN}\ntable\n\n{matrix.END}b\n" == matrix.page(once, "table\n")


def test_the_pages_say_what_is_recorded() -> None:
    records, asked = matrix.load()
    for language, path in matrix.PAGES.items():
        text = path.read_text(encoding="utf-8")
        assert matrix.page(text, matrix.tables(records, asked, language)) == text, "run python tests/compat/matrix.py"
        assert matrix.page(text, matrix.tables(records[1:], asked, language)) != text


def test_every_version_that_is_promised_or_asked_for_is_in_one_of_the_tables() -> None:
    _records, asked = matrix.load()
    values = {axis: {want.value for want in asked if want.axis == axis} for axis in ("server", "host", "core")}
    assert values["server"] >= {str(major) for major in range(14, 19)}
    assert values["core"] == {"2.19", "2.20", "2.21"}, "those of tests/compat"
    assert values["host"] >= {"Debian 12", "Ubuntu 24.04"}
    assert len({(want.axis, want.value) for want in asked}) == len(asked)


def test_the_core_is_that_of_the_commits_own_environment() -> None:
    pinned = re.search(
        r"^ansible-core==(\d+\.\d+)\.", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert pinned and matrix.core_of("HEAD") == pinned[1]
    with pytest.raises(subprocess.CalledProcessError):
        matrix.core_of("0000000")
