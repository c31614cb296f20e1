# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others wrote is read by the functions that readers.py lists, in the bounds that stand there, and by no other."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import reading
from readers import OWN, READERS, Reader

PAGE = Path(__file__).parents[2] / "docs/security.md"
BEGIN, END = "<!-- written by tests/unit/test_readers.py -->", "<!-- as far as here -->"
CORE = "ansible_collections.lifeboat.dr.plugins.module_utils"
BOUND = re.compile(r"\{([a-z0-9_/]+\.py):([A-Za-z_.]+)(?:\((\w+)\))?\|(\w)\}")
FORBIDDEN = ("pickle", "marshal", "eval", "exec", "os.popen", "yaml.load")


def functions(places: Mapping[str, str]) -> Iterator[str]:
    for file, names in places.items():
        for name in names.split() or [""]:
            yield f"{file}:{name}"


def value_of(file: str, name: str, parameter: str) -> Any:
    """What a bound names: a constant, the default of a dataclass's field, or that of a parameter."""
    module = importlib.import_module(f"{CORE}.{file[:-3].replace('/', '.')}")
    owner, _dot, inner = name.partition(".")
    found = getattr(module, owner)
    if inner:
        return next(field.default for field in dataclasses.fields(found) if field.name == inner)
    return inspect.signature(found).parameters[parameter].default if parameter else found


def shown(value: float, unit: str) -> str:
    if unit == "b":
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value >= size and value % size == 0:
                return f"{value // size} {name}"
        return f"{value:,} bytes"
    if unit == "s":
        return f"{value / 3600:g} h" if value >= 3600 else f"{value:g} s"
    return f"{value:,}"


def filled(text: str) -> str:
    return BOUND.sub(lambda found: shown(value_of(found[1], found[2], found[3] or ""), found[4]), text)


def cells(reader: Reader) -> list[str]:
    parts = (reader.what, reader.writer, reader.bytes, reader.entries, reader.depth, reader.seconds, reader.beyond)
    return [filled(part) for part in parts]


def table() -> str:
    head = ["What is read", "Who can have written it", "Bytes", "Entries", "Depth", "Seconds", "Beyond that"]
    rows = [head, ["---"] * len(head), *map(cells, READERS)]
    return "\n".join(f"| {' | '.join(row)} |".replace("| --- ", "|---").replace("--- |", "---|") for row in rows)


def test_each_call_that_reads_is_listed_once() -> None:
    found = set(reading.functions())
    listed = [where for reader in READERS for where in functions(reader.code)]
    own = [where for places in OWN.values() for where in functions(places)]
    assert sorted(found - {*listed, *own}) == [], (
        "it reads: list it in readers.py with its bounds, or say there why nobody else writes what it reads"
    )
    assert sorted(set(own) - found) == [], "it reads nothing any more"
    twice = {where for where in [*listed, *own] if [*listed, *own].count(where) > 1}
    assert twice == set()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.what[:40])
def test_a_reader_is_in_the_code_with_its_bounds(reader: Reader) -> None:
    """And each constant is used by one of the functions that are named."""
    nodes = [reading.node(where) for places in (reader.code, reader.through) for where in functions(places)]
    mentioned = {name for node in nodes for name in reading.names(node)}
    used = [found for part in (reader.bytes, reader.entries, reader.depth, reader.seconds, reader.beyond)
            for found in BOUND.finditer(part)]  # fmt: skip
    assert all("{" not in filled(cell) for cell in cells(reader))
    assert [found[0] for found in used if (found[3] or found[2].rpartition(".")[2]) not in mentioned] == []
    assert used or reader.bytes == "16 bytes", "no bound"
    assert set(functions(reader.code)) & set(reading.functions()), "nothing in it reads"


@pytest.mark.parametrize("word", FORBIDDEN)
def test_nothing_that_others_wrote_is_run(word: str) -> None:
    found = [call for calls in reading.functions().values() for call in calls]
    assert [ast.unparse(call) for call in found if ast.unparse(call.func).startswith(word)] == []


def test_a_reader_that_is_not_listed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of its ways, in a function of a class, and not by what only has such a name."""
    (tmp_path / "module_utils").mkdir()
    (tmp_path / "module_utils/new.py").write_text(
        "from ..mirror import listing\n"
        "class A:\n"
        "    def parse(self, text):\n        return json.loads(text)\n"
        "    def whole(self):\n        return (self.path / 'a').read_bytes()\n"
        "    def open(self, path):\n        return path.open('rb')\n"
        "    def write(self, path):\n        return path.open('wb')\n"
        "    def same(self, file):\n        return listing.read(file)\n"
        "def page(opener):\n    return opener.open('http://a').read()\n"
        "def run():\n    return subprocess.Popen(['a'])\n"
    )
    monkeypatch.setattr(reading, "PLUGINS", tmp_path)
    assert sorted(reading.functions()) == [
        "new.py:A.open",
        "new.py:A.parse",
        "new.py:A.whole",
        "new.py:page",
        "new.py:run",
    ]


def test_the_table_of_the_docs_is_the_code() -> None:
    text = PAGE.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    written, end, after = rest.partition(END)
    assert begin and end, f"{PAGE.name} has no place for the table"
    if os.environ.get("READERS_PAGE") == "write":
        PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", "utf-8")
        return
    assert written.strip() == table(), "READERS_PAGE=write pytest tests/unit/test_readers.py writes it"
