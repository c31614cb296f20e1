# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file of the core imports which: every import statement counts, lazy ones and those for type checkers too."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "plugins" / "module_utils"

# From the ground up: a package imports only packages that stand above it here.
RANKS = (
    "base", "tools", "s3", "settings", "stack", "repository", "wal", "recovery", "database", "mirror", "vault",
    "objects", "configuration", "files", "dumps", "backend", "frontend", "evidence", "reports", "site", "operations",
    "keeper", "drill", "phases", "command", "module",
)  # fmt: skip

Graph = Mapping[str, frozenset[str]]


def graph(core: Path = CORE) -> Graph:
    """{"base/clock": {"base/errors"}, ...}: the files that each file of the core imports."""
    paths = sorted(core.rglob("*.py"))
    files = {path.relative_to(core).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return {name: frozenset(_imports(name, text, set(files))) for name, text in files.items()}


@functools.cache
def _nodes(text: str) -> tuple[ast.AST, ...]:
    """The imports and calls of a source, which many tests ask for."""
    return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.ImportFrom, ast.Call)))


def _imports(name: str, text: str, files: set[str]) -> Iterator[str]:
    for node in _nodes(text):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = PurePosixPath(name, *[".."] * node.level, *(node.module or "").split("."))
            target = _flat(folder)
            yield from [target] if target in files else (_flat(folder / alias.name) for alias in node.names)


def _flat(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def closure(found: Graph, *names: str) -> set[str]:
    """The files that come along when these are imported, themselves included."""
    waiting, seen = list(names), set(names)
    while waiting:
        fresh = found[waiting.pop()] - seen
        waiting += fresh
        seen |= fresh
    return seen


def used_by(path: Path, found: Graph) -> set[str]:
    """The core's files that a module imports itself."""
    prefix = "ansible_collections.lifeboat.dr.plugins.module_utils"
    used = set()
    for node in _nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            target = (node.module or "")[len(prefix) + 1 :].replace(".", "/")
            used |= {target} if target in found else {f"{target}/{alias.name}" for alias in node.names}
    return used


def package(name: str) -> str:
    return name.partition("/")[0]


def offences(core: Path = CORE) -> list[str]:
    """What breaks the order of the core, one line each; empty where nothing does."""
    found = graph(core)
    lines = [f"{name}: a file of the core stands in a package" for name in found if "/" not in name]
    lines += [f"{name}: {package(name)} has no rank" for name in found if "/" in name and package(name) not in RANKS]
    if lines:
        return lines
    for name, used in sorted(found.items()):
        for other in sorted(used):
            if other not in found:
                lines.append(f"{name} imports {other}, which is not there")
            elif RANKS.index(package(other)) > RANKS.index(package(name)):
                lines.append(f"{name} imports {other}, which stands below it")
    lines += [f"{name} imports by name at run time" for name in found if _by_name(core / f"{name}.py")]
    return lines or _circle(found)


def _by_name(path: Path) -> bool:
    """importlib finds modules that no import statement shows; its find_spec only asks whether one is there."""
    for node in _nodes(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__", "exec_module", "run_module", "run_path"):
                return True
        if isinstance(node, ast.ImportFrom) and node.module == "importlib":
            return True
    return False


def _circle(found: Graph) -> list[str]:
    left = dict(found)
    while left:
        free = [name for name, used in left.items() if not used & left.keys()]
        if not free:
            return [f"a circle among {', '.join(sorted(_in_circle(left)))}"]
        for name in free:
            del left[name]
    return []


def _in_circle(left: Graph) -> set[str]:
    among = {name: used & left.keys() for name, used in left.items()}
    return {name for name, used in among.items() if any(name in closure(among, other) for other in used)}


def table(core: Path = CORE) -> list[str]:
    """A line for each package: files, lines, and imports from other packages."""
    found = graph(core)
    lines = ["rank  package        files  lines  imports"]
    for rank, name in enumerate(RANKS, 1):
        files = [file for file in found if package(file) == name]
        length = sum(len((core / f"{file}.py").read_text(encoding="utf-8").splitlines()) for file in files)
        imports = sum(package(other) != name for file in files for other in found[file])
        lines.append(f"{rank:4}  {name:13}  {len(files):5}  {length:5}  {imports:7}")
    return lines


if __name__ == "__main__":
    print("\n".join([*table(), *(offences() or ["0 imports upward, 0 circles"])]))
