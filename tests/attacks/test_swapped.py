# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's unprivileged owner turns a directory of his into a link, and root writes the project's files there.

What root writes is the owner's: his files are in the backup. He is a process of his own, and may write to nothing but
his home. Where a moment counts he gets it: he acts just after root has looked. Each control is a recovery that writes
by path, or that follows anybody's link.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import place_files
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import redeploy
from ansible_collections.lifeboat.dr.plugins.module_utils.base import filesystem
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import allowed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened

NOBODY = 65534
SWAP = f"""
import os, sys
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
name, target = sys.argv[1:]
os.rename(name, name + ".mine")
os.symlink(target, name)
"""


class World:
    """A machine below `root`: /etc of root's, and the owner's home with his project and a backup of it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.etc, self.project = root / "etc", root / "home/shop"
        (self.etc / "cron.d").mkdir(parents=True)
        (self.project / "conf").mkdir(parents=True)
        monkeypatch.setattr(place_files, "OWN", {"home/shop/compose.yml": (0o644, "services: {}\n")})
        evil = {"home/shop/conf/evil": (0o644, "* * * * * root evil\n"), "home/shop/cron.d/evil": (0o644, "evil\n")}
        monkeypatch.setattr(place_files, "WANTED", evil)
        monkeypatch.setattr(place_files, "LINKS", {})
        place_files.write(root)
        for path in (root, *root.rglob("*")):
            if path.is_relative_to(root / "home"):
                os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755)
        settings = {
            "stack": place_files.STACK,
            "runtime": {"type": "host", "project_directory": str(self.project)},
            "database": {"service": "postgresql", "name": "shop"},
            "repository": {"type": "local", "path": str(root / "backup")},
            "state_directory": str(root / "state"),
        }
        self.config = config.from_mapping(settings)

    def swap(self, name: Path, target: Path) -> None:
        """As the owner, who can."""
        subprocess.run([sys.executable, "-c", SWAP, str(name), str(target)], check=True, cwd="/")

    def recover(self) -> redeploy.Redeployed:
        return redeploy.redeploy(Opened(self.config), identity="latest", key="", stamp="S", log=lambda _: None)

    @property
    def got(self) -> list[str]:
        """What is in /etc now."""
        return sorted(path.name for path in self.etc.rglob("*") if not path.is_dir())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Not below tmp_path, where nobody else may look."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as found:
        yield World(Path(found), monkeypatch)


def acts_in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = allowed.Allowed.way_out

    def way_out(self: allowed.Allowed, path: str, *more: str) -> str:
        found = looked(self, path, *more)
        if path.endswith("conf/evil"):
            world.swap(world.project / "conf", world.etc / "cron.d")
        return found

    monkeypatch.setattr(allowed.Allowed, "way_out", way_out)


def test_control_who_writes_by_path_writes_through_the_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def descend(top: Path, parts: Any, **_: Any) -> int:
        path = top.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    monkeypatch.setattr(filesystem, "descend", descend)
    acts_in_between(world, monkeypatch)
    world.recover()
    assert world.got == ["evil"]


def test_a_directory_that_becomes_a_link_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    acts_in_between(world, monkeypatch)
    with pytest.raises(IntegrityError, match="put the file back"):
        world.recover()
    assert (world.project / "conf").is_symlink(), "the owner did act"
    assert world.got == []


def test_control_who_follows_anybodys_link_to_the_project(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "_turned", lambda path: False)
    world.swap(world.project, world.etc)
    world.recover()
    assert "evil" in world.got


def test_a_project_that_its_owner_turned_elsewhere_is_left_alone(world: World) -> None:
    world.swap(world.project, world.etc)
    with pytest.raises(Exception, match="the files are those of the backup already"):
        world.recover()
    assert world.got == []


def test_a_link_of_roots_is_followed(world: World) -> None:
    """An administrator may keep projects on another disk."""
    moved = world.etc.parent / "disk"
    world.project.rename(moved)
    world.project.symlink_to(moved)
    world.recover()
    assert (moved / "conf/evil").exists()
    assert world.got == []
