# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What crosses a border has a type of its own: no other name for a mapping of anything, and few files may say Any."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "plugins").rglob("*.py"))
MAPPINGS = ("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict")
MOST = 20


def aliases(text: str) -> list[str]:
    """The names that a module gives, by itself or within another type, to a mapping from text to anything."""
    return [name for name, value in _named(ast.parse(text)) if any(_anything(node) for node in ast.walk(value))]


def _named(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, base) for base in node.bases)
        elif isinstance(node, ast.Assign) and _is_type(node.value):
            yield ast.unparse(node.targets[0]), node.value
        elif isinstance(node, ast.AnnAssign) and node.value and "TypeAlias" in ast.unparse(node.annotation):
            text = node.value.value if isinstance(node.value, ast.Constant) else ast.unparse(node.value)
            yield ast.unparse(node.target), ast.parse(str(text), mode="eval").body


def _is_type(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in ("NewType", "TypeVar")
    return isinstance(value, (ast.Subscript, ast.BinOp))


def _anything(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)):
        return False
    name = ast.unparse(node.value).rpartition(".")[2]
    return name in MAPPINGS and ast.unparse(node.slice.elts[-1]).rpartition(".")[2] in ("object", "Any")


PLANTED = {
    "an alias": "Row = dict[str, object]",
    "of another mapping": "Row = Mapping[str, object]",
    "with Any": "Row = typing.Mapping[str, typing.Any]",
    "said to be one": "Row: TypeAlias = dict[str, object]",
    "as text": "Row: typing.TypeAlias = 'Mapping[str, object]'",
    "within another type": "Row = Callable[[str], Sequence[dict[str, object]]]",
    "or another type": "Row = Optional[dict[str, object]]",
    "as a new type": "Row = NewType('Row', dict[str, object])",
    "as a class": "class Row(dict[str, object]): ...",
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=list(PLANTED))
def test_an_alias_of_a_mapping_of_anything_is_found(planted: str) -> None:
    fine = "Log = Callable[[str], None]\nSizes = Mapping[str, int]\nFACTS = {'a': object()}\nclass Row: ...\n"
    assert aliases(fine) == []
    assert aliases(f"{fine}{planted}\n") == ["Row"]


def test_no_alias_stands_for_a_mapping_of_anything() -> None:
    found = [f"{path.relative_to(ROOT)}: {name}" for path in FILES for name in aliases(path.read_text("utf-8"))]
    assert found == []


def exempt(text: str) -> dict[str, str]:
    """The modules in pyproject.toml that may say Any, each with the reason in the comment on its line or above it."""
    found: dict[str, str] = {}
    for table in text.split("[[tool.mypy.overrides]]\n"):
        above = ""
        for line in table.partition("]")[0].splitlines() if "\ndisallow_any_explicit = false" in table else ():
            reason = line.partition("#")[2].strip()
            if '"' in line:
                found[line.split('"')[1]] = reason or above
            above = "" if '"' in line else reason
    return found


def faults(found: dict[str, str]) -> list[str]:
    """What is wrong with such a list: a whole package, no reason, a file without Any, too many."""
    wrong = [f"{name}: no file of its own" for name in found if not _file(name).is_file()]
    wrong += [f"{name}: no reason" for name, reason in found.items() if not reason]
    wrong += [f"{name}: it does not need it" for name in found if _file(name).is_file() and "Any" not in _words(name)]
    return wrong + ([f"{len(found)} files are exempt"] if len(found) > MOST else [])


def _file(module: str) -> Path:
    return ROOT / f"{module.removeprefix('ansible_collections.lifeboat.dr.').replace('.', '/')}.py"


def _words(module: str) -> set[str]:
    tree = ast.parse(_file(module).read_text("utf-8"))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_few_files_may_say_any_each_for_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = exempt(text)
    assert found
    assert faults(found) == []
    core = "ansible_collections.lifeboat.dr.plugins.module_utils"
    assert faults({f"{core}.evidence.*": "many"}) == [f"{core}.evidence.*: no file of its own"]
    assert faults({f"{core}.base.typed": ""}) == [f"{core}.base.typed: no reason"]
    assert faults({f"{core}.base.text": "old"}) == [f"{core}.base.text: it does not need it"]
    assert f"{MOST + 1} files are exempt" in faults({f"{core}.{number}": "x" for number in range(MOST + 1)})
