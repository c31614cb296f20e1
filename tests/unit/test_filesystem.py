# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of other users, who change them while root looks."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError

TEMPORARY = ("TemporaryDirectory", "mkdtemp")
UTILS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A directory behind a link that its owner takes away between a look and the reading of it, so many times."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    left, readlink = [request.param], os.readlink

    def turned(path: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        return readlink(path, **more)

    monkeypatch.setattr(os, "readlink", turned)
    return tmp_path / "link"


@pytest.mark.parametrize("way", [0, 1, 5], indirect=True)
def test_a_link_that_is_none_when_it_is_read_is_looked_at_again(way: Path) -> None:
    assert filesystem.real(way / "file") == str(way.parent / "there/file")


@pytest.mark.parametrize("way", [10_000], indirect=True)
def test_one_that_never_holds_still_is_refused(way: Path) -> None:
    with pytest.raises(IntegrityError, match="becomes something else while it is read"):
        filesystem.real(way / "file")


def test_one_that_leads_back_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(IntegrityError, match="leads back to itself"):
        filesystem.real(tmp_path / "link/file")


def test_where_nothing_is_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    assert filesystem.real(tmp_path / "link/file") == str(tmp_path / "nothing/file")


@pytest.mark.parametrize("way", [10_000], indirect=True)
def test_what_a_link_says_is_nothing_where_it_is_none_any_more(way: Path) -> None:
    assert filesystem.link(way) is None


def test_what_a_link_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("./file")
    assert [filesystem.link(tmp_path / name) for name in ("file", "link", "nothing")] == [None, "./file", None]


def test_nobody_asks_the_library_where_a_directory_lies() -> None:
    """os.path.realpath() and Path.resolve() raise OSError where a link is turned at that moment: a traceback."""
    found = [
        str(path.relative_to(UTILS))
        for path in UTILS.rglob("*.py")
        if path.name != "filesystem.py" and ("realpath(" in path.read_text() or ".resolve(" in path.read_text())
    ]
    assert found == ["lookup/known_variables.py"]  # its own place, on the controller


def test_a_scratch_directory_takes_what_killed_runs_left_with_it(tmp_path: Path) -> None:
    """Of its prefix, and nobody's any more; what a living run holds stays."""
    for name in (".deploying-0123dead", ".deploying-file", "other-dead"):
        (tmp_path / name).mkdir()
    (tmp_path / ".deploying-0123dead/secret").write_text("x")
    (tmp_path / ".deploying-file").rmdir()
    (tmp_path / ".deploying-file").write_text("no directory")
    (tmp_path / ".deploying-link").symlink_to(tmp_path / "other-dead")
    with filesystem.scratch(".deploying-", tmp_path) as first, filesystem.scratch(".deploying-", tmp_path) as second:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {first.name, second.name, ".deploying-file", ".deploying-link", "other-dead"}
    assert {path.name for path in tmp_path.iterdir()} == {".deploying-file", ".deploying-link", "other-dead"}


HOLDS = """
import sys, time
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
with filesystem.scratch("lifeboat-test-") as made:
    (made / "secret").write_text("x")
    print(made, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_left_among_temporary_files_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9: the kernel lets go of it. Directories of other programs there are not ours to remove."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = (tmp_path / "lifeboat-test-mine", tmp_path / "lifeboat-test-0123abcd", tmp_path / "lifeboat-test-x.held")
    for other in others:
        other.mkdir()
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout
        held = Path(process.stdout.readline().strip())
        try:
            with filesystem.scratch("lifeboat-test-") as made:
                assert (held / "secret").exists(), "it lives"
                assert made.parent == tmp_path and (made.stat().st_mode & 0o777) == 0o700
        finally:
            process.kill()
    assert (held / "secret").exists(), "nobody has looked since"
    with filesystem.scratch("lifeboat-test-") as made:
        assert sorted(tmp_path.iterdir()) == sorted([*others, made])
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_every_temporary_directory_is_one_that_the_next_run_removes() -> None:
    found = [
        f"{path.relative_to(UTILS)}: {node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id}"
        for path in UTILS.rglob("*.py")
        if path.name != "filesystem.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name))
        if (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) in TEMPORARY
    ]
    assert found == []


def test_a_directory_that_another_run_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = tempfile.mkdtemp, []

    def mkdtemp(**named: Any) -> str:
        made = real(**named)
        if not swept:
            swept.append(made)
            filesystem.sweep("lifeboat-x-", tmp_path)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with filesystem.locked_directory("lifeboat-x-", tmp_path) as made:
        assert [made] == list(tmp_path.iterdir())
        assert str(made) not in swept
