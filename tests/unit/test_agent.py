# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""The zipapp: every core file in it, compiled too, the same inputs each time, and nothing that Python 3.9 does not know."""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.modules import agent

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted(layers.CORE.rglob("*.py"))
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))


built = functools.cache(agent.build)  # of what lies here; what a test changes it builds itself


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def carried() -> set[str]:
    """What the command imports, computed here by other means than the agent's own."""
    return {f"lifeboat/{name}.py" for name in layers.closure(layers.graph(), "command/cli")}


@pytest.mark.slow
def test_it_holds_what_the_command_imports_as_it_is() -> None:
    inside = members(built(sys.executable))
    expected = {name: (layers.CORE / name[len("lifeboat/") :]).read_bytes() for name in carried()}
    folders = {str(folder) for name in expected for folder in PurePosixPath(name).parents} - {"."}
    expected.update({**{f"{folder}/__init__.py": b"" for folder in folders}, "__main__.py": agent.MAIN})
    assert sorted(inside) == sorted([*expected, *(f"{name}c" for name in expected)])
    assert {name: inside[name] for name in expected} == expected


def faults(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("lifeboat/drill/faults/")]


@pytest.mark.slow
def test_no_fault_goes_to_a_host_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks a stack is sent to hosts marked for drills, by the modules of a drill alone."""
    assert faults(agent.sources()) == []
    real = agent.source_of
    planted = "\n\ndef late():\n    from ..drill.faults import database\n"
    monkeypatch.setattr(
        agent, "source_of", lambda name: (real(name) or "") + planted if name.endswith(".cli") else real(name)
    )
    assert "lifeboat/drill/faults/database.py" in faults(agent.sources())


@pytest.mark.slow
def test_each_file_is_compiled_for_its_interpreter_and_asks_for_no_check() -> None:
    inside = members(built(sys.executable))
    for name in [item for item in inside if item.endswith(".py")]:
        hashed = importlib.util.source_hash(inside[name])
        assert inside[f"{name}c"][:16] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0" + hashed, name


@pytest.mark.slow
def test_it_begins_with_its_interpreter_and_tells_what_it_is_made_of() -> None:
    content = built(sys.executable)
    assert content.startswith(f"#!{sys.executable}\n".encode())
    assert agent.made_of(content) == agent.made_of(agent.build(sys.executable)) != ""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


@pytest.mark.slow
def test_its_inputs_are_the_sources_the_interpreter_and_its_version() -> None:
    files, magic = agent.sources(), agent.version_of(sys.executable)
    assert magic == importlib.util.MAGIC_NUMBER.hex()
    asked = agent.inputs(files, sys.executable, magic)
    assert asked == agent.made_of(built(sys.executable))
    others = [
        agent.inputs(files, "/opt/python", magic),
        agent.inputs(files, sys.executable, "610d0d0a"),
        agent.inputs(
            {**files, "lifeboat/command/cli.py": files["lifeboat/command/cli.py"] + b"\n"}, sys.executable, magic
        ),
        agent.inputs({**files, "lifeboat/new.py": b""}, sys.executable, magic),
    ]
    assert len({asked, *others}) == 5


@pytest.mark.parametrize("path", CORE, ids=lambda path: "/".join(path.parts[-2:]))
def test_its_imports_are_those_that_a_parser_finds(path: Path) -> None:
    """It looks for them with an expression, for speed: what it overlooked the command would lack."""
    source = path.read_text(encoding="utf-8")
    parsed = {
        (node.level, node.module or "", alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert relative(source) == parsed


def relative(source: str) -> set[tuple[int, str, str]]:
    return {
        (len(found["dots"]), found["module"], name)
        for found in agent.RELATIVE.finditer(source)
        for name in agent.NAMES.findall(found["names"])
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from . import a, b as c\n", {(1, "", "a"), (1, "", "b")}),
        ("from ..x.y import (\n    a as as_,\n    b,\n)\n", {(2, "x.y", "a"), (2, "x.y", "b")}),
        ("def f():\n    from ..x import a  # noqa: late\n", {(2, "x", "a")}),
        ("from x import a\nimport b\n", set()),
    ],
)
def test_the_forms_of_an_import(source: str, found: set[tuple[int, str, str]]) -> None:
    assert relative(source) == found


@pytest.mark.parametrize("place", [0, 1000, -1000, -200, -100, -1], ids=lambda place: f"byte {place}")
def test_one_bit_of_it_changed_is_not_what_was_built(place: int) -> None:
    content = bytearray(built(sys.executable))
    assert agent.made_of(bytes(content)) != ""
    content[place] ^= 1
    assert agent.made_of(bytes(content)) != agent.made_of(built(sys.executable))
    assert agent.made_of(bytes(content[:-1])) == ""


def test_without_its_interpreter_it_is_the_sources_alone() -> None:
    content = agent.build("/nowhere/python")
    assert [name for name in members(content) if name.endswith(".pyc")] == []
    assert agent.made_of(content) != ""


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


@pytest.mark.slow
@pytest.mark.parametrize("python", INTERPRETERS)
def test_it_runs(tmp_path: Path, python: str) -> None:
    path = tmp_path / "lifeboat"
    path.write_bytes(built(python))
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
    everything = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)"
    names = [
        name.removesuffix(".py").replace("/", ".")
        for name in sorted(carried())
        if not name.endswith(("s3/client.py", "s3/signed.py", "repository/s3.py"))
    ]
    subprocess.run([python, "-W", "error", "-c", everything, str(path), *names], check=True)


def with_sources(content: bytes, source: bytes) -> bytes:
    """The same archive, each of its .py replaced: where that is seen, the source was run."""
    inside, made = members(content), io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, held in inside.items():
            archive.writestr(name, source if name.endswith(".py") else held)
    return made.getvalue()


def test_it_runs_what_is_compiled(tmp_path: Path) -> None:
    path = tmp_path / "lifeboat"
    path.write_bytes(with_sources(built(sys.executable), b"raise SystemExit('the source was run')"))
    done = subprocess.run([sys.executable, path, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not old_python(), reason="NOT CHECKED with another Python: there is no python3.9")
def test_another_python_runs_the_sources(tmp_path: Path) -> None:
    path = tmp_path / "lifeboat"
    content = built(sys.executable)
    path.write_bytes(content)
    argv = [*old_python(), str(path), "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lifeboat" in done.stdout
    path.write_bytes(with_sources(content, b"raise SystemExit('the source was run')"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "the source was run\n")


@pytest.mark.slow
def test_another_version_of_python_means_sources(tmp_path: Path) -> None:
    """As above where there is no second Python: what is compiled says that it is of another version."""
    made, path = io.BytesIO(), tmp_path / "lifeboat"
    with zipfile.ZipFile(made, "w") as archive:
        for name, held in members(built(sys.executable)).items():
            archive.writestr(name, b"\x61\x0d\x0d\x0a" + held[4:] if name.endswith(".pyc") else held)
    path.write_bytes(made.getvalue())
    done = subprocess.run([sys.executable, path, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lifeboat" in done.stdout


@pytest.mark.slow
def test_boto3_is_needed_only_where_s3_is_spoken() -> None:
    """On a host with a local repository nobody installs it."""
    script = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None\nimport ansible_collections.lifeboat.dr.plugins.module_utils.command.cli"
    path = next(item for item in sys.path if item.endswith(".ansible/collections"))
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
            found += [alias.name for alias in node.names if alias.name in NEWER_NAMES]
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += [
                f"{called}({keyword.arg}=)" for keyword in node.keywords if (called, keyword.arg) in NEWER_ARGUMENTS
            ]
            if called in ("isinstance", "issubclass") and len(node.args) > 1 and isinstance(node.args[1], ast.BinOp):
                found.append(f"{called}(x, A | B)")
    return found


@pytest.mark.parametrize("path", [*CORE, *MODULES], ids=lambda path: "/".join(path.parts[-2:]))
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

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        agent.install(path, b"second")
    assert path.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["lifeboat"], "no half of it beside"
