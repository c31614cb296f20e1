# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes long has a gauge, which ends at all that was to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import progress
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import checksums
from builders import publish, store
from keeper_world import START, World
from test_files import World as Files


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each gauge showed at its end, without the rate."""
    found: dict[str, str] = {}
    going = progress.going

    @contextlib.contextmanager
    def noted(gauge: progress.Gauge) -> Iterator[progress.Gauge]:
        gauge._pace = 0.0
        with going(gauge):
            yield gauge
        found[gauge.what] = gauge.text().partition(",")[0]

    monkeypatch.setattr(progress, "going", noted)
    return found


def test_reading_and_fetching_a_backup(tmp_path: Path, ended: dict[str, str]) -> None:
    manifest, repo = publish(tmp_path), store(tmp_path)
    assert checksums.in_place(repo, manifest) == []
    assert ended == {f"{manifest.id}: reading": "100 %"}
    repo.fetch(manifest.component, manifest.id, tmp_path / "fetched")
    ended.clear()
    assert [check.result for check in checksums.checksums(repo, manifest, tmp_path / "fetched")] == ["PASS"]
    assert ended == {f"{manifest.id}: reading": "100 %"}


def test_fetching_counts_the_artefacts(tmp_path: Path, ended: dict[str, str]) -> None:
    manifest = publish(tmp_path)
    store(tmp_path).fetch(manifest.component, manifest.id, tmp_path / "fetched")
    assert ended == {f"{manifest.id}: fetching": "100 %"}


def test_a_keepers_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: dict[str, str]) -> None:
    world = World(tmp_path, monkeypatch)
    manifest, _pulled = world.night(0)
    assert ended[manifest.id] == "100 %"
    assert world.now >= START


def test_files_are_guessed_by_the_last_backup_and_recovered_by_the_listing(
    tmp_path: Path, ended: dict[str, str]
) -> None:
    world = Files(tmp_path)
    world.fill()
    first = world.take()
    assert ended[first.id] == "100 kB", "nothing to guess by"
    (world.root / "a" / "half.bin").write_bytes(b"x" * 50)
    second = world.take()
    assert ended[second.id] == "100 kB", "more than the guess: no percentage"
    (world.root / "a" / "half.bin").unlink()
    third = world.take()
    assert ended[third.id] == "about 99 %"
    (world.root / "a" / "b" / "two.bin").unlink()
    assert all(check.result == "PASS" for check in world.recover().checks)
    assert ended["files from the packs"] == "100 %"
    world.levels(third)
    assert ended[f"{third.id}: reading packs"] == "100 %"
    assert ended[f"{third.id}: restoring packs"] == "100 %"
