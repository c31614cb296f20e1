# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk-throughs of CONTRIBUTING.md: each is done to a copy, touches the files that it names, and works there."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST = 5
PARTS = ("plugins", "roles", "playbooks", "docs", "meta", "tests/unit", "galaxy.yml", "pyproject.toml")
# What is new in a scenario, besides the files that change.
NEW = ("playbooks/recover_proxy.yml", "roles/proxy_recovery/", "docs/runbook-proxy.md", "docs/ja/runbook-proxy.md")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "copy"
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, root / part)
    collections = root / ".ansible/collections/ansible_collections/lifeboat"
    collections.mkdir(parents=True)
    (collections / "dr").symlink_to(root)
    return root


def script(name: str) -> ModuleType:
    return importlib.import_module(f"add_{name}")


def contents(root: Path) -> dict[str, bytes]:
    paths = (path for part in PARTS for path in [root / part, *(root / part).rglob("*")])
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip


def ran(root: Path, *words: str) -> str:
    paths = [root / ".ansible/collections", root / "tests/unit"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "component",
        pytest.param("method", marks=pytest.mark.long),
        "scenario",
        pytest.param("check", marks=pytest.mark.long),
    ],
)
def test_a_walk_through_touches_what_it_names_and_works(copy: Path, name: str) -> None:
    before, walk = contents(copy), script(name)
    walk.add(copy)
    after = contents(copy)
    touched = {path for path in after if after[path] != before.get(path)}
    touched = {path for path in touched if name != "scenario" or not path.startswith(NEW)}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition(f"### Add a {name}\n")[2].partition("\n#")[0]
    named = set(re.findall(r"^\d\. `([^`]+)`", section, re.MULTILINE))
    assert {path if path in before else Path(path).name for path in touched} == named
    assert len(touched) <= MOST
    assert f"`tests/walkthroughs/add_{name}.py`" in section
    (copy / "world").mkdir()
    shown = ran(copy, "-c", walk.SHOWN, str(copy / "world"))
    assert [line for line in walk.EXPECTED if line not in shown] == [], shown
    tests = ("tests/unit/test_registries.py", "tests/unit/test_layers.py::test_arrows_go_down_only")
    ran(copy, "-m", "pytest", "-q", "-n", "0", *tests)


def test_a_walk_through_whose_place_is_gone_says_so(copy: Path) -> None:
    (copy / "plugins/module_utils/operations/checklist.py").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="is there 0 times"):
        script("check").add(copy)
