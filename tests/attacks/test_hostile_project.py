# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_project.py has Compose fetch what a project's owner likes, Lifeboat nothing; and its memory is bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import compose
from hostile_project import REMOTE

SCRIPT = Path(__file__).with_name("hostile_project.py")
ASKED = ["docker", "compose", "version"]


def compose_is_here() -> bool:
    try:
        return subprocess.run(ASKED, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not compose_is_here(), reason="NOT CHECKED: only Compose reads a hostile project so")


def attack(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), target, str(directory)]
    return subprocess.run(words, check=False, capture_output=True, text=True)


def test_control_compose_fetches_what_the_owner_likes(tmp_path: Path) -> None:
    done = attack("unprotected", tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, list(REMOTE)), done.stderr


def test_a_backup_fetches_nothing(tmp_path: Path) -> None:
    done = attack("product", tmp_path)
    assert (done.returncode, done.stdout.split()) == (1, []), done.stderr


@pytest.mark.parametrize("endless", [False, True], ids=["control: a file with an end", "/dev/zero"])
def test_a_file_of_variables_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endless: bool
) -> None:
    """Compose reads it whole, as root. With the same bound it reads an honest project."""
    monkeypatch.setattr(compose, "MOST_MEMORY", 256 << 20)
    (tmp_path / "web.env").write_text("A=1\n")
    named = "/dev/zero" if endless else "web.env"
    (tmp_path / "compose.yml").write_text(f"name: shop\nservices: {{web: {{image: web, env_file: [{named}]}}}}\n")
    settings = {"stack": "shop", "runtime": {"project_directory": str(tmp_path)}}
    project = compose.ComposeRuntime(config.from_mapping(settings))
    if not endless:
        assert project.model.name == "shop"
        return
    with pytest.raises(LifeboatError, match="out of memory"):
        project.read(compose.Project, "config")
