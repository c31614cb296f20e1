# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics from what is remembered of each backup say what metrics from a reading of all of them say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UnverifiedError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import glances, metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.local import LocalRepository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import (
    BUCKET,
    NOW,
    folder,
    make_config,
    make_manifest,
    prove,
    publish,
    publish_config,
    publish_objects,
    store,
)

HOUR = timedelta(hours=1)
WITH_BUCKET = {**BUCKET, "config": {"enabled": True}}
World = tuple[Path, list[Manifest]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve database backups, two of them proved, one damaged, one of another stack, and a recovery point."""
    root = tmp_path_factory.mktemp("world")
    taken = [publish(root, NOW - hours * HOUR) for hours in range(12, 0, -1)]
    prove(root, taken[2], at=NOW - 8 * HOUR)
    prove(root, taken[4], at=NOW - 6 * HOUR)
    (folder(root, taken[3]) / "globals.sql.gz").unlink()
    publish_objects(root, NOW - HOUR, of=taken[-1])
    publish_config(root, NOW - HOUR)
    points.seal(Opened(make_config(root, **WITH_BUCKET)), now=NOW, log=lambda _: None)
    publish(root, NOW - timedelta(minutes=90), stack="blog")
    return root, taken


@pytest.fixture
def world(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, for one test."""
    monkeypatch.setattr(glances, "_SETTLED", -1e9)  # the files of a test are young
    monkeypatch.setattr(LocalRepository, "free_bytes", lambda self: 10**9)  # which others change all the time
    root, taken = made
    shutil.copytree(root, tmp_path / "own")
    return tmp_path / "own", taken


def told(root: Path) -> str:
    return metrics.textfile(Opened(make_config(root, **WITH_BUCKET)), now=NOW, again=True)


def fully(root: Path) -> str:
    """From a reading of everything."""
    for name in (glances.FILE, metrics.CATALOG):
        (root / "state" / name).unlink(missing_ok=True)
    return told(root)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backups whose manifests were read."""
    found: list[str] = []
    real = catalog._published
    monkeypatch.setattr(catalog, "_published", lambda repo, name, id: found.append(id) or real(repo, name, id))
    return found


def test_what_has_not_changed_is_not_read_again(world: World, read: list[str]) -> None:
    root, taken = world
    first = told(root)
    assert set(read) >= {backup.id for backup in taken}
    assert 'lifeboat_backups{stack="shop",component="database",state="good"} 11' in first
    del read[:]
    assert told(root) == first
    old, bad = {backup.id for backup in taken[:3]}, taken[3].id
    assert not old & set(read), "those before the newest and the seven of its median"
    assert bad in read, "what is not good is read every time"


def edited(root: Path, backup: Manifest, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder(root, backup) / "verification.json"
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


CHANGES: dict[str, Callable[[Path, list[Manifest]], Any]] = {
    "nothing": lambda root, taken: None,
    "a new one": lambda root, taken: publish(root, NOW - timedelta(minutes=1)),
    "the newest is gone": lambda root, taken: shutil.rmtree(folder(root, taken[-1])),
    "an old one is gone": lambda root, taken: shutil.rmtree(folder(root, taken[1])),
    "an old artefact is cut": lambda root, taken: (folder(root, taken[1]) / "database.dump").write_bytes(b"du"),
    "an old artefact is gone": lambda root, taken: (folder(root, taken[1]) / "database.dump").unlink(),
    "a file too many": lambda root, taken: (folder(root, taken[1]) / "more").touch(),
    "an old manifest is damaged": lambda root, taken: (folder(root, taken[1]) / "manifest.json").write_text("{}"),
    "an old manifest is gone": lambda root, taken: (folder(root, taken[1]) / "manifest.json").unlink(),
    "it is another stack's": lambda root, taken: (folder(root, taken[1]) / "manifest.json").write_bytes(
        make_manifest(taken[1].taken_at, stack="blog").to_bytes()
    ),
    "a proof of an old one": lambda root, taken: prove(root, taken[1], at=NOW),
    "a failure of an old one": lambda root, taken: prove(root, taken[1], FAIL, at=NOW),
    "a proof is withdrawn": lambda root, taken: (folder(root, taken[4]) / "verification.json").unlink(),
    "a proof is edited": lambda root, taken: edited(
        root, taken[4], lambda body: body["levels"]["restore"].update(verdict=FAIL)
    ),
    "the damaged one is whole": lambda root, taken: (folder(root, taken[3]) / "globals.sql.gz").write_bytes(b"roles"),
    "the point is gone": lambda root, taken: shutil.rmtree(root / "backup" / "recovery-points"),
    "the point's database is damaged": lambda root, taken: (folder(root, taken[-1]) / "database.dump").write_bytes(b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_figures_are_those_of_a_whole_reading(world: World, change: str) -> None:
    root, taken = world
    before = told(root)
    assert (root / "state" / glances.FILE).stat().st_mode & 0o077 == 0
    CHANGES[change](root, taken)
    found = told(root)
    assert found == fully(root)
    assert (found == before) is (change == "nothing"), "each change can be seen, so that this test can"


RUBBISH = ["", "{", "[]", "5", '{"version": "0"}', '{"version": 1, "stack": "shop", "backups": []}']


@pytest.mark.parametrize("text", RUBBISH)
def test_a_memory_that_is_damaged_is_none(world: World, text: str) -> None:
    root, _taken = world
    wanted = told(root)
    path = root / "state" / glances.FILE
    memory = json.loads(path.read_text())
    assert len(memory["backups"]) == 13
    rows = {id: [*row[:3], "much", *row[4:]] for id, row in memory["backups"].items()}
    for bad in (text, json.dumps({**memory, "backups": rows}), json.dumps({**memory, "backups": {"x": [1, 2]}})):
        path.write_text(bad)
        assert told(root) == wanted
        assert json.loads(path.read_text()) == memory, "and it is remembered again"


@pytest.mark.parametrize("name", ["version", "stack"])
def test_a_memory_of_another_version_or_stack_is_none(world: World, read: list[str], name: str) -> None:
    root, taken = world
    first = told(root)
    path = root / "state" / glances.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "another"}))
    del read[:]
    assert told(root) == first
    assert set(read) >= {backup.id for backup in taken}, "all of them are read"


def test_a_file_of_just_now_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could change within the same tick of the clock."""
    root, _taken = world
    monkeypatch.setattr(glances, "_SETTLED", 1e9)
    told(root)
    assert json.loads((root / "state" / glances.FILE).read_text())["backups"] == {}


def test_with_signers_everything_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One signed document may contradict another."""
    root, _taken = world
    told(root)
    repo = store(root)
    repo.trust = object()  # type: ignore[assignment]
    asked: list[str] = []
    monkeypatch.setattr(points, "backups", lambda repo, stack: asked.append(stack) or {})
    assert glances.everything(repo, make_config(root, **WITH_BUCKET)) == glances.Listing({})
    assert asked == ["shop"]


def test_one_that_goes_away_while_it_is_looked_at_is_no_figure(world: World) -> None:
    root, taken = world
    told(root)
    found = glances.everything(store(root), make_config(root, **WITH_BUCKET)).backups["database"]
    assert found[0].entry is None and found[0].full().manifest == taken[0]
    shutil.rmtree(folder(root, taken[0]))
    with pytest.raises(UnverifiedError):
        found[0].full()


HISTORY = 'lifeboat_collector_success{stack="shop",collector="history"}'


@pytest.mark.parametrize("most", [1, 3, 5])
def test_what_was_never_read_is_read_over_some_runs(world: World, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    root, _taken = world
    whole = fully(root)
    assert f"{HISTORY} 1" in whole
    for name in (glances.FILE, metrics.CATALOG):
        (root / "state" / name).unlink()
    monkeypatch.setattr(glances, "_AT_ONCE", most)
    looked: list[str] = []
    real = catalog.entry_of
    monkeypatch.setattr(
        catalog, "entry_of", lambda repo, name, id, stack: looked.append(id) or real(repo, name, id, stack)
    )
    known: set[str] = set()
    runs, found = 0, ""
    while found != whole and runs < 20:
        runs += 1
        del looked[:]
        found = metrics.textfile(Opened(make_config(root, **WITH_BUCKET)), now=NOW)  # as every minute
        assert 0 < len(set(looked) - known) <= most
        known |= set(looked)
        assert f"{HISTORY} {int(found == whole)}" in found
        wrong = set(found.splitlines()) - set(whole.splitlines()) - {f"{HISTORY} 0"}
        assert not wrong, "what is told is true, and what needs the others is left out"
    assert runs == -(-15 // most), "fifteen backups are in the repository"
    del looked[:]
    assert metrics.textfile(Opened(make_config(root, **WITH_BUCKET)), now=NOW) == whole
    assert not looked, "the list of backups is the same"


def test_figures_that_need_the_newest_only_are_told_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    root, taken = world
    whole = fully(root)
    (root / "state" / glances.FILE).unlink()
    monkeypatch.setattr(glances, "_AT_ONCE", 5)
    found = told(root)
    at = f"{taken[-1].taken_at.timestamp():.15g}"
    assert f'lifeboat_duty_last_success_timestamp_seconds{{stack="shop",duty="backup",of="database"}} {at}' in found
    assert 'lifeboat_backup_last_error_status{stack="shop",component="database"} 0' in found
    for name in ("lifeboat_backups{", "lifeboat_repository_largest_backup_bytes{", 'duty="verify_restore"'):
        assert name in whole.replace("lifeboat_duty_allowed_age_seconds", "")
    left = [line for line in found.splitlines() if line.startswith("lifeboat_backups{") and "database" in line]
    assert not left, "how many there are is not known yet"
    assert told(root) != whole and told(root) == whole, "fifteen of them, five at a time, also after a run"


def test_what_waits_is_not_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that changed, newer than some that did not."""
    root, taken = world
    whole = fully(root)
    for backup in taken[4:]:
        (folder(root, backup) / "manifest.json").touch()
    monkeypatch.setattr(glances, "_AT_ONCE", 2)
    first = told(root)
    assert f"{HISTORY} 0" in first
    kept = json.loads((root / "state" / glances.FILE).read_text())["backups"]
    assert {backup.id for backup in taken[:3]} <= kept.keys()
    for _run in range(3):
        assert f"{HISTORY} 0" in first
        first = told(root)
    assert first == whole
