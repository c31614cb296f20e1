# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The zipapp: every core file in it, the same bytes each time, and nothing that Python 3.9 does not know."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.modules import agent

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted(path for path in (ROOT / "plugins/module_utils").glob("*.py"))
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_every_core_file_as_it_is() -> None:
    """A new file of plugins/module_utils must be named in plugins/modules/agent.py; module.py alone is Ansible's."""
    inside = members(agent.build("/usr/bin/python3"))
    expected = {f"lifeboat/{path.name}": path.read_bytes() for path in CORE if path.name != "module.py"}
    assert sorted(inside) == sorted([*expected, "__main__.py", "lifeboat/__init__.py"])
    assert {name: inside[name] for name in expected} == expected


def test_it_has_the_same_bytes_each_time_and_begins_with_its_interpreter() -> None:
    content = agent.build("/usr/bin/python3")
    assert content == agent.build("/usr/bin/python3")
    assert content.startswith(b"#!/usr/bin/python3\n")
    assert agent.build("/opt/python") != content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def old_python() -> list[str]:
    """A Python 3.9, where this machine has one: by name, or where pyenv keeps its own."""
    places = [*os.environ["PATH"].split(":"), *map(str, Path.home().glob(".pyenv/versions/3.9*/bin"))]
    for place in places:
        path = Path(place) / "python3.9"
        if path.exists() and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return [str(path)]
    return []


INTERPRETERS = [sys.executable, *old_python()]
VERBS = ["--help", "--version", *(f"{verb} --help" for verb in ("backup", "verify", "prune", "list", "status"))]


@pytest.mark.parametrize("python", INTERPRETERS)
def test_it_runs(tmp_path: Path, python: str) -> None:
    path = tmp_path / "lifeboat"
    path.write_bytes(agent.build(python))
    path.chmod(0o755)
    for words in VERBS:
        done = subprocess.run([str(path), *words.split()], capture_output=True, text=True, cwd="/", check=False)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "lifeboat" in done.stdout
    empty = subprocess.run(
        [str(path), "list", "--config-directory", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert empty.returncode == 2
    assert "no stack is configured" in empty.stderr
    everything = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__('lifeboat.' + name)"
    names = [one.stem for one in CORE if one.name not in ("module.py", "s3.py", "repository_s3.py")]
    subprocess.run([python, "-W", "error", "-c", everything, str(path), *names], check=True)


def test_boto3_is_needed_only_where_s3_is_spoken() -> None:
    """On a host with a local repository nobody installs it."""
    script = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None\nimport ansible_collections.lifeboat.dr.plugins.module_utils.cli"
    path = next(one for one in sys.path if one.endswith(".ansible/collections"))
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=True)


# What came after 3.9 and no parser of 3.9 would stumble over. https://docs.python.org/3/whatsnew/
NEWER_NAMES = {
    "pairwise", "batched", "bit_count", "tomllib", "ExceptionGroup", "BaseExceptionGroup",
    "TaskGroup", "StrEnum", "hash_file", "file_digest", "UTC", "Self", "TypeAlias", "ParamSpec",
    "assert_never", "NotRequired", "Required", "LiteralString", "is_junction", "aiter", "anext", "EncodingWarning",
    "add_note", "hardlink_to",
}  # fmt: skip
NEWER_ARGUMENTS = {
    ("dataclass", "slots"), ("dataclass", "kw_only"), ("dataclass", "weakref_slot"), ("field", "kw_only"),
    ("zip", "strict"), ("mkdtemp", "delete"), ("NamedTemporaryFile", "delete_on_close"),
    ("glob", "root_dir"), ("Popen", "process_group"), ("run", "process_group"), ("rmtree", "onexc"), ("rmtree", "dir_fd"),
    ("readlink", "strict"), ("walk", "walk_up"),
}  # fmt: skip


def newer(tree: ast.Module) -> list[str]:
    """What a module uses that Python 3.9 has not, by name, by argument, or by an annotation that is evaluated."""
    found = []
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in NEWER_NAMES:
            found.append(name)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [one.name for one in node.names if one.name in NEWER_NAMES]
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += [f"{called}({one.arg}=)" for one in node.keywords if (called, one.arg) in NEWER_ARGUMENTS]
            if called in ("isinstance", "issubclass") and len(node.args) > 1 and isinstance(node.args[1], ast.BinOp):
                found.append(f"{called}(x, A | B)")
    return found


@pytest.mark.parametrize("path", [*CORE, *MODULES], ids=lambda path: path.name)
def test_nothing_newer_than_python_3_9(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    assert newer(tree) == []
    assert "from __future__ import annotations" in source, "or `list[str] | None` would be evaluated"


@pytest.mark.parametrize(
    "source",
    [
        "zip(a, b, strict=True)",
        "datetime.UTC",
        "from itertools import pairwise",
        "isinstance(a, int | str)",
        "@dataclass(slots=True)\nclass A: ...",
    ],
)
def test_the_check_for_newer_python_can_fail(source: str) -> None:
    assert newer(ast.parse(source)) != []


@pytest.mark.parametrize("source", ["match a:\n  case 1: ...", "try: ...\nexcept* A: ..."])
def test_the_check_for_newer_syntax_can_fail(source: str) -> None:
    with pytest.raises(SyntaxError):
        ast.parse(source, feature_version=(3, 9))


def test_install_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lifeboat"
    agent.install(path, b"first")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o755)

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        agent.install(path, b"second")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["lifeboat"], "no half of it beside"
