# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions are made on data: no code of the core searches, compares or splits the text of an error."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import layers
import pytest

TAKEN_APART = {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "find", "index", "count"}
PATTERNS = {"search", "match", "fullmatch", "split", "findall", "finditer"}
# Tools that have one status for several reasons, so that only their words tell them apart.
EXCEPTIONS = {
    "backend/assess _images_gone": "docker ends with 1 for a missing image and for an engine that does not answer",
    "configuration/restore _image_id": "docker ends with 1 for a missing image and for an engine that does not answer",
    "database/methods/logical/cause explained": "what stopped a restore is told as well; nothing is decided",
    "database/methods/logical/cause of_the_reader": "pg_restore ends with 1 whatever the reason is",
    "database/methods/logical/cause _command": "what stopped a restore is told as well; nothing is decided",
    "database/methods/logical/cause _title": "what stopped a restore is told as well; nothing is decided",
    "database/search_path explained": "where the table is that an operator's query misses is told; nothing is decided",
    "database/wal/base points": "pg_basebackup says nowhere else where the WAL of a base begins and ends",
    "database/wal/when _judge": "pg_waldump says nowhere else at which position it could not go on",
    "tools/age _explained": "age ends with 1 for a wrong key, a damaged file and an identity that is none",
    "tools/age _plain": "age's invitation to report its words is left out; nothing is decided",
    "mirror/mc find": "both programs called mc end with 0; which of them it is only its version's text says",
}


def _is_text(node: ast.AST, names: set[str]) -> bool:
    """An error's `cause`, `str(exc)`, what a tool wrote to stderr, or such a text in lower case or stripped."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("cause", "stderr")
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
            return isinstance(node.args[0], ast.Name) and node.args[0].id in names | {"exc", "error"}
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "upper", "strip", "casefold"):
            return _is_text(node.func.value, names)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left, names) or _is_text(node.right, names)
    return isinstance(node, ast.Name) and node.id in ("err", "stderr", "cause")


def _decides(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Compare):
        searched = isinstance(node.ops[0], (ast.In, ast.NotIn))
        compared = [part for part in (node.left, *node.comparators) if searched or not isinstance(part, ast.Name)]
        # Whether there is a text at all does not depend on its words, and what equals a constant's name is a code.
        return any(_is_text(part, names) for part in compared) and not any(
            (isinstance(part, ast.Constant) and part.value in ("", None))
            or (isinstance(part, ast.Name) and part.id.isupper() and not searched)
            for part in (node.left, *node.comparators)
        )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in TAKEN_APART and _is_text(node.func.value, names):
            return bool(node.args)  # split() without arguments only folds white space
        return node.func.attr in PATTERNS and any(_is_text(argument, names) for argument in node.args)
    return False


def offences(core: Path) -> Iterator[str]:
    """`package/file function`, for each place that looks into an error's text."""
    for path in sorted(core.rglob("*.py")):
        name = path.relative_to(core).with_suffix("").as_posix()
        if name in ("base/errors", "base/pipeline"):  # they make errors of what processes say
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            if any(_decides(node, caught) for node in ast.walk(function)):
                yield f"{name} {function.name}"


def test_no_decision_is_made_on_a_sentence() -> None:
    assert sorted(set(offences(layers.CORE))) == sorted(EXCEPTIONS)


PLANTED = [
    'return "boto3" in exc.cause',
    'return exc.cause.split(", limit ")[0] == "x"',
    'return "deadlock detected" in str(exc)',
    'return "no such image" in err.lower()',
    'return re.search("role .* does not exist", exc.cause) is not None',
    'return exc.cause == "it was overwritten"',
    'return cause.startswith("git: No such file")',
]
FINE = ['return f"{exc.cause}"', "return bool(err.split())", 'return exc.cause != ""', "return exc.exit_status == 127"]


@pytest.mark.parametrize("line", [*PLANTED, *FINE])
def test_a_planted_line_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "base").mkdir()
    text = "def decide(out, err, cause):\n    try:\n        act()\n    except ValueError as exc:\n        "
    (tmp_path / "base/planted.py").write_text(text + line + "\n")
    assert list(offences(tmp_path)) == (["base/planted decide"] if line in PLANTED else [])
