# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the keys in docs/security.md: each row names a test that shows it, and each of these tests is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
SERVERS = ("SeaweedFS", "Ceph RGW", "MinIO", "JuiceFS", "Amazon S3")  # what the docs say of a vault


def rows(page: str) -> list[list[str]]:
    """The cells of the table, without its head."""
    table = page.partition("## Keys, and what each may do")[2].partition("\n\n|")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def problems(page: str) -> list[str]:
    found = []
    for cells in rows(page):
        tests = NAMED.findall(cells[-1])
        if not tests or len(cells) != 6:
            found.append(f"{cells[0]}: no test is named")
        for file, name in tests:
            path = ROOT / file
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            if name not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
                found.append(f"{cells[0]}: {file} has no {name}")
    return found


def test_every_row_names_a_test_that_is_there() -> None:
    assert len(rows(PAGE)) >= 20
    assert problems(PAGE) == []


def test_each_server_that_may_be_a_vault_has_a_row() -> None:
    vault = [cells[0] for cells in rows(PAGE) if "the vault, on" in cells[0] or cells[0].startswith("the same, ")]
    assert [server for server in SERVERS if not any(server in name for name in vault)] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("::test_the_policy_holds_on_seaweedfs`", "::test_of_nothing`", "test_writer.py has no test_of_nothing"),
        ("`tests/unit/test_keeper_log.py::", "`tests/unit/test_gone.py::", "tests/unit/test_gone.py has no test_lines"),
        ("`tests/unit/test_github.py::", "`docs/test_github.py::", "`github_token`: no test is named"),
    ],
)
def test_what_is_wrong_is_found(old: str, new: str, said: str) -> None:
    assert old in PAGE
    (problem,) = problems(PAGE.replace(old, new))
    assert said in problem
