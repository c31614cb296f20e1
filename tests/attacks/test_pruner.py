# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pruner.py has a script that believes the writer destroy what was published, and Lifeboat's pruner nothing of it.

Measured before: one marker on each manifest, then a prune, took 43 versions down to 3; manifests with an old date, 40
to 0; planted verifications that failed, 40 to 20. The last two cases are the other side of that promise, and what it
stands on.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from machine import LIFEBOAT, Machine
from pruner import ATTACKS, NIGHTS, World
from s3_servers import SeaweedFS

SCRIPT = Path(__file__).with_name("pruner.py")
Attack = Callable[[str], "subprocess.CompletedProcess[str]"]


def keys(weed: SeaweedFS) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": weed.access_key, "AWS_SECRET_ACCESS_KEY": weed.secret_key}


@pytest.fixture(scope="module")
def attacked(weed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """Each target is attacked once, in all ways."""

    @functools.lru_cache
    def run(target: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(SCRIPT), target, weed.url, "versions", str(tmp_path_factory.mktemp(target))]
        return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **keys(weed)})

    return run


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    found = Machine("the pruner", LIFEBOAT, str(tmp_path_factory.mktemp("locks")))
    yield found
    found.end()


@pytest.fixture
def world(
    weed: SeaweedFS, machine: Machine, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Where the retention removes all but the newest."""
    for name, value in keys(weed).items():
        monkeypatch.setenv(name, value)
    rules = {"daily_days": 3, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
    return World(machine, weed.url, "versions", request.node.name, tmp_path / "world", retention=rules)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_control_a_pruner_that_believes_the_writer(attacked: Attack, attack: str) -> None:
    done = attacked("unprotected")
    lines = done.stdout.splitlines()
    assert (done.returncode, f"{attack}: {NIGHTS - 1} manifests are gone" in lines) == (0, True), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_writer_writes_shortens_the_days(attacked: Attack, attack: str) -> None:
    done = attacked("product")
    assert (done.returncode, attack in done.stdout) == (1, False), f"{done.stdout}{done.stderr}"
    if attack == "markers":
        assert done.stderr.count(f"{attack}: exit 6, 0 removed, hidden: every victim") == 2
        assert f"{NIGHTS - 1} had a manifest in the repository and have none now" in done.stderr


@pytest.mark.slow
def test_what_retention_removes_goes_after_the_days(world: World) -> None:
    """The promise has two sides: the space is free again, when the pruner has known it for so long."""
    before, live = world.versions(), world.live()
    code, done = world.prune()
    assert (code, len(done["delete"]), done["hidden"], len(live)) == (0, NIGHTS - 1, {}, NIGHTS)
    assert world.versions() == before
    assert world.live() == {world.manifests[-1]["id"]}, "artefacts are hidden too"
    _code, done = world.prune(29.9)
    assert (done["hidden"], world.versions()) == ({}, before)
    _code, done = world.prune(30.1)
    assert len([name for name in done["swept"] if "/config/" in name]) == NIGHTS - 1
    assert {key for key, _version in before - world.versions()} == {
        world.key(manifest) for manifest in world.manifests[:-1]
    }


@pytest.mark.slow
def test_a_record_that_others_may_read_stops_the_pruner(world: World) -> None:
    world.prune()
    (world.state / "noncurrent.json").chmod(0o644)
    before = world.versions()
    code, done = world.prune(60)
    assert (code, done["error"]["attempted"]) == (6, "read since when old versions are known")
    assert "it is not a private file" in done["error"]["cause"]
    assert world.versions() == before
