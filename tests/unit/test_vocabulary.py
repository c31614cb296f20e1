# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names say what a thing is: no parameter, function, class or attribute has a name that could mean anything."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend.planned import Plan, Rung
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import planned as objects_planned
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import checklist_line, discover, escrow_look
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import Last, Unfinished
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, details, repositories, trust
from ansible_collections.lifeboat.dr.plugins.module_utils.site import show
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints, writer
from ansible_collections.lifeboat.dr.plugins.modules import drill_begin

PLUGINS = layers.ROOT / "plugins"
REFUSED = frozenset(
    {
        "found", "told", "said", "seen", "held", "kept", "made", "wanted", "given", "asked", "words", "place", "look",
        "of", "one", "few", "own", "others", "line",
    }
)  # fmt: skip
# Packages whose names are still to be changed. Take a package off as soon as the test asks for it; add none.
TO_DO = frozenset({"base", "database"})


class Name(NamedTuple):
    """A name and where it is defined. file: below plugins. owner: the class or function that it belongs to."""

    file: str
    row: int
    owner: str
    name: str

    @property
    def package(self) -> str:
        parts = Path(self.file).parts
        return parts[1] if parts[0] == "module_utils" else parts[0]

    def __str__(self) -> str:
        return f"plugins/{self.file}:{self.row}: {self.name} in {self.owner or 'the module'}"


def arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from filter(None, (arguments.vararg, arguments.kwarg))


def defined(node: ast.AST, owner: str = "", in_class: bool = False) -> Iterator[tuple[int, str, str]]:
    """Yield line, owner and name of each parameter, function, class and attribute that is defined below a node."""
    for child in ast.iter_child_nodes(node):
        inner, is_class = owner, False
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child.lineno, owner, child.name
            inner, is_class = child.name, isinstance(child, ast.ClassDef)
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from ((parameter.lineno, inner, parameter.arg) for parameter in arguments(child.args))
        if isinstance(child, ast.Attribute) and ast.unparse(child.value) in ("self", "cls"):
            yield from [(child.lineno, owner, child.attr)] if isinstance(child.ctx, ast.Store) else ()
        if in_class and isinstance(child, (ast.Assign, ast.AnnAssign)):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            yield from ((name.lineno, owner, name.id) for name in names)
        yield from defined(child, inner, is_class)


@functools.cache
def refused(root: Path = PLUGINS) -> tuple[Name, ...]:
    return tuple(
        Name(str(path.relative_to(root)), row, owner, name)
        for path in sorted(root.rglob("*.py"))
        for row, owner, name in defined(ast.parse(path.read_text(encoding="utf-8")))
        if name.lower().lstrip("_") in REFUSED
    )


@pytest.mark.slow
def test_names_say_what_a_thing_is() -> None:
    names = [name for name in refused() if name.package not in TO_DO]
    assert not names, "\n".join(map(str, names))


@pytest.mark.slow
def test_what_is_done_leaves_the_list() -> None:
    names = refused()
    assert sorted(TO_DO - {name.package for name in names}) == [], "these have no such name any more: take them off"


# Users have these keys in files, facts and results, whatever the field is called.
KEYS: dict[type, set[str]] = {
    objects_planned.Plan: {"others"},
    schema.Record: {"found"},
    schema.Database: {"kept"},
    show.Plan: {"place"},
    Plan: {"asked"},
    Rung: {"words"},
    Last: {"asked"},
    Unfinished: {"asked", "others"},
    checklist_line.Item: {"seen"},
    discover.Draft: {"wanted"},
    escrow_look.Snapshot: {"seen"},
    copies.Copy: {"place"},
    details.HeldProperties: {"held"},
    repositories.Remembered: {"place"},
    trust.Known: {"place"},
    endpoints._Remembered: {"of"},
    writer.Rights: {"of"},
    drill_begin.Chosen: {"words"},
}
ALIKE: dict[type, str] = {show.Plan: "Plan of the site", objects_planned.Plan: "Plan of the objects"}


@pytest.mark.parametrize("kind", KEYS, ids=lambda kind: ALIKE.get(kind, kind.__name__))
def test_a_field_with_another_name_keeps_its_key(kind: Any) -> None:
    fields = {typed.key(field): field.name for field in dataclasses.fields(kind)}
    assert KEYS[kind] <= fields.keys()
    assert not {fields[key] for key in KEYS[kind]} & REFUSED


def test_a_mark_of_an_earlier_version_is_read() -> None:
    data = b'{"backup": "db_backup_20261124_120000", "asked": true, "others": ["blog"]}'
    mark = typed.maybe(Unfinished, data)
    assert mark and (mark.requested, mark.additional) == (True, ("blog",))
    assert {"asked": True, "others": ["blog"]}.items() <= typed.plain(mark).items()


PLANTED = {
    "a parameter": "def read({}): ...",
    "a parameter by keyword": "def read(*, _{}=None): ...",
    "many arguments": "def read(*{}): ...",
    "many keywords": "def read(**{}): ...",
    "a parameter of a lambda": "read = lambda {}: None",
    "a function": "def {}(): ...",
    "a private function": "def __{}(): ...",
    "a function in a function": "def read():\n    def {}(): ...",
    "a coroutine": "async def {}(): ...",
    "a method": "class Report:\n    def _{}(self): ...",
    "a class": "class {}: ...",
    "a private class": "class _{}: ...",
    "a field": "class Report:\n    {}: str",
    "a class variable": "class Report:\n    size, _{} = 1, 2",
    "an attribute": "class Report:\n    def __init__(self):\n        self._{} = 1",
    "an attribute of many": "class Report:\n    def __init__(self):\n        self.size, self.{} = 1, 2",
    "an attribute with a type": "class Report:\n    def __init__(self):\n        self.{}: int = 1",
    "an attribute of a class": "class Report:\n    @classmethod\n    def begin(cls):\n        cls.{} = 1",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_word_is_refused(tmp_path: Path, planted: str) -> None:
    for spelt in (str, str.title, str.upper):
        for word in REFUSED:
            folder = tmp_path / "module_utils" / word
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "planted.py").write_text(PLANTED[planted].format(spelt(word)) + "\n", encoding="utf-8")
        names = refused.__wrapped__(tmp_path)
        assert sorted(name.package for name in names) == sorted(REFUSED)
        assert {name.name.strip("_") for name in names} == {spelt(word) for word in REFUSED}


def test_locals_and_longer_names_are_free(tmp_path: Path) -> None:
    (tmp_path / "free.py").write_text(
        "def read(line_number, found_at):\n    found = line_number\n    for line in found_at:\n"
        "        found += line\n    return [one for one in found]\n",
        encoding="utf-8",
    )
    assert refused(tmp_path) == ()
