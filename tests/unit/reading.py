# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find by `ast` each function of the plugins that reads or parses what lies outside of the process."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"
CORE = "module_utils/"
# By their full name: parsers, unpackers, processes, and our own ways to a file.
CALLS = {
    "json.loads", "json.load", "typed.load", "typed.maybe", "yaml.load", "yaml.safe_load", "ElementTree.fromstring",
    "ElementTree.parse", "ElementTree.iterparse", "csv.reader", "configparser.ConfigParser", "tomllib.loads",
    "gzip.open", "gzip.decompress", "gzip.GzipFile", "zlib.decompress", "bz2.open", "lzma.open", "tarfile.open",
    "zipfile.ZipFile", "subprocess.Popen", "subprocess.run", "subprocess.check_output",
    "os.popen", "os.read", "os.pread", "open",
    "urllib.request.urlopen", "sqlite3.connect", "pickle.load", "pickle.loads", "marshal.loads", "eval", "exec",
}  # fmt: skip
# By their last name, whatever they are called on.
METHODS = {
    "read", "readline", "readlines", "read_text", "read_bytes", "read_plain", "read_file", "open", "open_file",
    "open_at", "plain_at",
    "open_below", "recv", "feed", "urlopen", "exchange",
}  # fmt: skip
WRITES = frozenset("wax")


def functions() -> dict[str, list[ast.Call]]:
    """By `file:Class.function`, below plugins/ and without module_utils/, the calls by which it reads."""
    return _functions(PLUGINS)


@functools.cache
def _functions(plugins: Path) -> dict[str, list[ast.Call]]:
    found: dict[str, list[ast.Call]] = {}
    for path in sorted(plugins.rglob("*.py")):
        name = path.relative_to(plugins).as_posix().removeprefix(CORE)
        for where, call in _calls(parsed(path), "", _modules(parsed(path))):
            found.setdefault(f"{name}:{where}", []).append(call)
    return found


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def node(where: str) -> ast.AST:
    """The function or class that `file:Class.function` names. LookupError where there is none."""
    name, _colon, inner = where.partition(":")
    path = next((path for path in (PLUGINS / CORE / name, PLUGINS / name) if path.is_file()), None)
    if path is None:
        raise LookupError(where)
    at: ast.AST = parsed(path)
    for part in filter(None, inner.split(".")):
        at = next((child for child in _within(at) if getattr(child, "name", "") == part), None) or _missing(where)
    return at


def _missing(where: str) -> ast.AST:
    raise LookupError(where)


def _within(at: ast.AST) -> Iterator[ast.AST]:
    """Functions and classes that stand in it, not in another one in it."""
    for child in ast.iter_child_nodes(at):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            yield child
        else:
            yield from _within(child)


def names(at: ast.AST) -> set[str]:
    """All names that it uses: of variables, attributes and keywords. Those that it only sets are not among them."""
    found: set[str] = set()
    for child in ast.walk(at):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            found.add(child.id)
        elif isinstance(child, ast.Attribute):
            found.add(child.attr)
        elif isinstance(child, ast.keyword) and child.arg:
            found.add(child.arg)
    return found


def _calls(at: ast.AST, where: str, modules: set[str]) -> Iterator[tuple[str, ast.Call]]:
    for child in ast.iter_child_nodes(at):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            yield from _calls(child, f"{where}.{child.name}".strip("."), modules)
            continue
        if isinstance(child, ast.Call) and _reads(child, modules):
            yield where, child
        yield from _calls(child, where, modules)


def _reads(call: ast.Call, modules: set[str]) -> bool:
    name = _dotted(call.func)
    if name in CALLS:
        return not (name.endswith("open") and _writes(call))
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in METHODS or name == "os.open":
        return False
    # `listing.read()` of a module of ours, `self.read()` of a class of ours: what reads in them is found there.
    if call.func.attr in ("read", "open") and (
        name.partition(".")[0] in modules or name in ("self.read", "super.read")
    ):
        return False
    return not (call.func.attr == "open" and _writes(call))


def _writes(call: ast.Call) -> bool:
    """Whether it opens a file to write only."""
    words = [*call.args, *(named.value for named in call.keywords)]
    modes = [word.value for word in words if isinstance(word, ast.Constant)]
    return any(
        isinstance(mode, str) and len(mode) <= 3 and bool(WRITES & set(mode)) and "+" not in mode for mode in modes
    )


def _dotted(at: ast.AST) -> str:
    if isinstance(at, ast.Attribute):
        return f"{_dotted(at.value)}.{at.attr}"
    return at.id if isinstance(at, ast.Name) else "?"


def _modules(tree: ast.Module) -> set[str]:
    """The names by which a file knows modules of this collection: they are imported relatively, and begin small."""
    return {
        alias.asname or alias.name
        for child in ast.walk(tree)
        if isinstance(child, ast.ImportFrom) and (child.level or "ansible_collections" in (child.module or ""))
        for alias in child.names
        if (alias.asname or alias.name)[:1].islower()
    } - {"filesystem"}
