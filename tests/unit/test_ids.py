# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/ids/check.py: no test goes without a replacement that is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "ids"
SPEC = importlib.util.spec_from_file_location("ids_check", FOLDER / "check.py")
assert SPEC and SPEC.loader
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)

BEFORE = {"t/a.py::one[x]", "t/a.py::one[y]", "t/a.py::two"}
# (what is there now, replaced.txt, what is said of it)
CASES = {
    "nothing went": (BEFORE | {"t/a.py::three"}, "", []),
    "unnamed": ({"t/a.py::one[x]", "t/a.py::one[y]"}, "", ["does not name it: t/a.py::two"]),
    "replaced by two": (
        {"t/a.py::one[x]", "t/a.py::one[y]", "u::v", "u::w"}, "# why\nt/a.py::two\n  u::v\n  u::w\n", [],
    ),
    "one of two is not there": (
        {"t/a.py::one[x]", "t/a.py::one[y]", "u::v"}, "t/a.py::two\n  u::v\n  u::w\n", ["t/a.py::two -> u::w"],
    ),
    "replaced by nothing": ({"t/a.py::one[x]", "t/a.py::one[y]"}, "t/a.py::two\n", ["none is named"]),
    "a file renamed": (
        {"t/b.py::one[x]", "t/b.py::one[y]", "t/b.py::two"}, "t/a.py\n  t/b.py\n", [],
    ),
    "a test renamed, a parameter lost": (
        {"t/a.py::first[x]", "t/a.py::two"}, "t/a.py::one\n  t/a.py::first\n", ["t/a.py::one[y] -> t/a.py::first"],
    ),
    "the longest name counts": (
        {"t/b.py::one[x]", "t/b.py::one[y]", "u::v"}, "t/a.py\n  t/b.py\nt/a.py::two\n  u::v\n", [],
    ),
    "a name is not cut in a word": (
        {"t/a.py::one[x]", "t/a.py::one[y]"}, "t/a.py::tw\n  t/a.py::one[x]\n", ["went", "did not go"],
    ),
    "other parameters, as many": (
        {"t/a.py::one[p]", "t/a.py::one[q]", "t/a.py::two"}, "t/a.py::one\n  t/a.py::one[*]\n", [],
    ),
    "other parameters, fewer": (
        {"t/a.py::one[p]", "t/a.py::two"}, "t/a.py::one\n  t/a.py::one[*]\n", ["one[x] -> ", "one[y] -> "],
    ),
    "what did not go": (BEFORE, "t/a.py::two\n  t/a.py::one[x]\n", ["names what did not go: t/a.py::two"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_test_that_went_is_replaced(case: str) -> None:
    now, replaced, expected = CASES[case]
    found = check.problems(BEFORE, now, check.replacements(replaced))
    assert len(found) == len(expected), found
    assert all(words in line for words, line in zip(expected, found)), found


@pytest.mark.slow
def test_the_ids_of_a_checkout(tmp_path: Path) -> None:
    top, two = tmp_path / "tests/test_top.py", tmp_path / "tests/two/test_two.py"
    two.parent.mkdir(parents=True)
    top.write_text("def test_top() -> None: ...\n", encoding="utf-8")
    values = "@pytest.mark.parametrize('p', ['/opt/x/bin/python3.9', '/usr/bin/python3', 'a', OSError])"
    two.write_text(f"import pytest\n{values}\ndef test_p(p): ...\n", encoding="utf-8")
    names = {*(f"two/test_two.py::test_p[{word}]" for word in ("python", "a", "OSError")), "test_top.py::test_top"}
    assert check.collect(tmp_path) == {f"tests/{name}" for name in names}
    two.write_text("import nothing_of_this_name\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"tests/two cannot be collected"):
        check.collect(tmp_path)
