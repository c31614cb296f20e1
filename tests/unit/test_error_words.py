# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an error names can be typed: the variable as people write it, not what the code calls it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import layers
import pytest

CORE = layers.ROOT / "plugins/module_utils"
# The settings say which variable is meant: their errors begin with it. The others do not know whether it is that of the
# source or of the vault: their subject is its address.
FREE = {
    "settings": {""},
    "s3": {"endpoint_url", "ca_bundle"},
    "vault/probe.py": {"endpoint_url"},
    "base/web.py": {"ca_bundle"},
    "mirror/mc.py": {"endpoint_url"},
}


@functools.cache
def options() -> re.Pattern[str]:
    """Every option with an underscore, which no sentence has by chance."""
    found: set[str] = set()
    for path in (CORE / "settings").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            fields = node.body if isinstance(node, ast.ClassDef) else []
            targets = [field.target for field in fields if isinstance(field, ast.AnnAssign)]
            found |= {target.id for target in targets if isinstance(target, ast.Name) and "_" in target.id}
    return re.compile(rf"(?<![\w./])({'|'.join(sorted(found))})(?![\w=])")


def sentences(tree: ast.AST) -> Iterator[ast.Constant]:
    """Texts with a space in them, but for docstrings and SQL."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, kinds) and node.body
            if isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        if text and " " in node.value and "SELECT" not in node.value:
            yield node


def named(text: str) -> set[str]:
    return {match[1] for match in options().finditer(text)}


@pytest.mark.slow
def test_an_error_names_the_variable_that_people_write() -> None:
    wrong = []
    for path in sorted(CORE.rglob("*.py")):
        place = path.relative_to(CORE)
        free = FREE.get(place.parts[0], set()) | FREE.get(str(place), set())
        for node in sentences(ast.parse(path.read_text(encoding="utf-8"))):
            left = named(node.value) - free if "" not in free else set()
            wrong += [f"{place}:{node.lineno}: {option} in {node.value!r}" for option in left]
    assert not wrong, "\n".join(wrong)


def test_such_a_name_is_seen() -> None:
    (node,) = sentences(ast.parse('"""lock_days here"""\nraise UsageError("a", "b", "remove lock_days, then deploy")'))
    assert named(node.value) == {"lock_days"}
    assert named("remove lifeboat_vault.lock_days, then deploy") == set()
