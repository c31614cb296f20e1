# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of the scenario files, on real directories: each is seen to take, and comes back as the drill does it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import evidence_world
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import beside, clean
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import files as drill_files
from ansible_collections.lifeboat.dr.plugins.module_utils.files import sources
from ansible_collections.lifeboat.dr.plugins.module_utils.files.sources import Directory
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import FileSource
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.scenarios import SCENARIOS
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import Runner, flip, make_config
from test_evidence import phase
from test_files import World, portrait

FAULTS = SCENARIOS["files"].faults
STATED = ("files_altered", "files_encrypted")  # faults after which the drill names the state, as an operator would


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.settings["environment"] = "drill"
    return world


def broken(world: World, name: str, seed: str = "7") -> str:
    return fault.inject(world.run, fault.choose(world.run.config, "files", name), seed, log=world.said.append)


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_broken_comes_back_as_the_drill_recovers_it(world: World, name: str) -> None:
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    assert str(world.root) in broken(world, name)
    assert portrait(world.root) != before
    asked = {"identity": taken.id, "exact": True} if name in STATED else {}
    assert world.plan(**asked).needed
    done = world.recover(**asked)
    assert [check.result for check in done.checks] == [PASS], done.checks
    assert portrait(world.root) == before
    assert not world.plan(**asked).needed


def test_what_was_altered_stays_unless_the_state_of_before_is_named(world: World) -> None:
    world.fill()
    world.take()
    broken(world, "files_altered")
    made = world.plan()
    assert (made.needed, made.sources[0].changed > 0) == (False, True)
    assert any("-e recovery_point=" in words for words in made.warnings)


def test_what_an_attacker_left_stays_without_exact(world: World) -> None:
    world.fill()
    taken = world.take()
    broken(world, "files_encrypted")
    world.recover(identity=taken.id)
    assert [*world.root.rglob("*.locked")], "which an application may serve"
    world.recover(identity=taken.id, exact=True)
    assert not [path for path in world.root.rglob("*.locked") if ".lifeboat-" not in str(path)]


@pytest.mark.parametrize("environment", ["production", "", "Drill", "staging"])
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_broken_where_that_is_not_allowed(world: World, name: str, environment: str) -> None:
    world.fill()
    before = portrait(world.root)
    world.settings["environment"] = environment
    with pytest.raises(UsageError, match="nothing was touched"):
        broken(world, name)
    assert portrait(world.root) == before


@pytest.mark.parametrize("name", FAULTS)
def test_where_there_is_nothing_to_lose_nothing_is_rehearsed(world: World, name: str) -> None:
    (world.root / "directory").mkdir()
    with pytest.raises(UsageError, match="uploads holds no file"):
        broken(world, name)
    world.settings["files"] = {"sources": []}
    with pytest.raises(UsageError, match=r"lifeboat_files\.sources is empty"):
        broken(world, name)


@pytest.mark.parametrize("name", FAULTS)
def test_no_link_is_followed(world: World, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(8):
        (outside / f"of the host {number}").write_text("whole")
        (world.root / f"link {number}").symlink_to(outside / f"of the host {number}")
    (world.root / "directory").symlink_to(outside)
    (world.root / "file").write_text("an upload")
    before = portrait(outside)
    broken(world, name)
    assert portrait(outside) == before


def test_half_of_the_files_are_deleted_and_one_seed_chooses_the_same(world: World) -> None:
    def fill() -> set[str]:
        for number in range(40):
            (world.root / f"{number}.txt").write_text("x")
        proof = broken(world, "files_deleted", "3")
        assert proof == f"20 of 40 files of {world.root} deleted"
        return {path.name for path in world.root.iterdir()}

    first = fill()
    assert (len(first), fill()) == (20, first)


def test_what_was_altered_has_its_size_and_its_time(world: World) -> None:
    def facts() -> dict[str, tuple[int, int, bytes]]:
        return {
            path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
            for path in world.root.iterdir()
        }

    for number in range(10):
        (world.root / f"{number}").write_bytes(bytes(1 + number * 100))
    (world.root / "empty").touch()
    before = facts()
    assert broken(world, "files_altered").startswith("5 of 10 files of ")
    after = facts()
    assert {name: found[:2] for name, found in after.items()} == {name: found[:2] for name, found in before.items()}
    assert sum(after[name] != before[name] for name in before) == 5


def test_nothing_is_left_readable_of_what_was_encrypted(world: World) -> None:
    (world.root / "a").mkdir()
    for name in ("a/one", "two", "n" * 255):
        (world.root / name).write_text("a known word" * 1000)
    (world.root / "empty").touch()
    assert broken(world, "files_encrypted").startswith("4 files of ")
    found = [path for path in world.root.rglob("*") if path.is_file()]
    assert len(found) == 4
    assert all(path.name.endswith(".locked") and b"known" not in path.read_bytes() for path in found)


def test_what_no_backup_has_is_not_broken(tmp_path: Path) -> None:
    """What is excluded, and what SQLite keeps beside a database: without it rows would be lost that no backup lacks."""
    world = World(tmp_path, exclude=["cache"])
    world.settings["environment"] = "drill"
    (world.root / "cache").mkdir()
    (world.root / "cache" / "page").write_text("x")
    path = world.root / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (n INTEGER)")
        database.commit()
        assert (world.root / "app.db-wal").exists()
        for name in ("files_altered", "files_deleted"):
            assert " 1 files" in broken(world, name)
        assert (world.root / "app.db-wal").exists()
    assert not path.exists()
    assert (world.root / "cache" / "page").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "call"), [("files_deleted", "unlink"), ("files_altered", "pwrite"), ("files_encrypted", "rename")]
)
def test_a_fault_that_did_not_take_is_no_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    for number in range(6):
        (world.root / f"{number}").write_text("whole")
    monkeypatch.setattr(drill_files.os, call, lambda *_, **_how: 0)
    with pytest.raises(LifeboatError, match="see that the fault took"):
        broken(world, name)


def test_a_file_that_goes_meanwhile_is_no_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (world.root / f"{number}").write_text("whole")

    def among(directory: Directory, paths: Any) -> Any:
        for entry in real(directory, paths):
            if entry.path == max(paths):
                (world.root / entry.name).unlink()
            yield entry

    real = drill_files._among
    monkeypatch.setattr(drill_files, "_among", among)
    assert broken(world, "files_altered").startswith("1 of 4 files")
    assert broken(world, "files_deleted").startswith("1 of 3 files")


# --- a volume ---

MINE = {"Id": "c1", "Name": "/shop-backend-1", "Config": {"Labels": {
    "com.docker.compose.project": "shop", "com.docker.compose.service": "backend",
}}}  # fmt: skip
OTHERS = {"Id": "c2", "Name": "/other-web-1", "Config": {"Labels": {"com.docker.compose.project": "other"}}}


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of the volume shop_uploads, beside a path that holds more."""
    place = tmp_path / "volumes" / "shop_uploads" / "_data"
    place.mkdir(parents=True)
    (place / "upload").write_text("x")
    (tmp_path / "path").mkdir()
    for number in range(3):
        (tmp_path / "path" / f"{number}").write_text("x")
    found = [
        Directory(FileSource("a", path=str(tmp_path / "path")), str(tmp_path / "path")),
        Directory(FileSource("uploads", volume="uploads"), str(place), "shop_uploads", ("backend",)),
    ]
    monkeypatch.setattr(sources, "directories", lambda _run: found)
    return place


def opened(tmp_path: Path) -> Opened:
    return Opened(make_config(tmp_path, environment="drill", runtime={"project": "shop"}))


def ask(runner: Runner, place: Path, *using: dict[str, Any]) -> None:
    runner.expect("docker volume inspect", f"{place}\n")
    runner.expect("docker ps --all .*volume=shop_uploads", "".join(f"{one['Id']}\n" for one in using))
    runner.expect("docker inspect", json.dumps(using))


def test_a_volume_goes_with_the_containers_that_mount_it(
    tmp_path: Path, runner: Runner, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(runner, volume, MINE)
    done: list[tuple[str, ...]] = []

    def docker(_attempted: str, _subject: str, *words: str, **_how: Any) -> None:
        done.append(words)
        if words[:2] == ("volume", "rm"):
            (volume / "upload").unlink()
            volume.rmdir()

    monkeypatch.setattr(drill_files.drill_service, "docker", docker)
    proof = drill_files.remove(opened(tmp_path), random.Random(1), lambda _: None)  # noqa: S311
    assert proof == "volume shop_uploads is gone, and the containers of backend, which mounted it"
    assert done == [("rm", "--force", "c1"), ("volume", "rm", "shop_uploads")]
    assert len([*(tmp_path / "path").iterdir()]) == 3


def test_a_volume_that_is_still_there_is_no_fault(tmp_path: Path, runner: Runner, volume: Path) -> None:
    ask(runner, volume)
    runner.expect("docker volume rm shop_uploads")
    with pytest.raises(LifeboatError, match="see that the fault took"):
        drill_files.remove(opened(tmp_path), random.Random(1), lambda _: None)  # noqa: S311


def test_a_volume_that_another_project_mounts_is_not_removed(tmp_path: Path, runner: Runner, volume: Path) -> None:
    ask(runner, volume, MINE, OTHERS)
    with pytest.raises(UsageError, match="other-web-1 of another project mounts it too; nothing was touched"):
        drill_files.remove(opened(tmp_path), random.Random(1), lambda _: None)  # noqa: S311
    assert not [words for words in runner.ran if " rm " in words]


def test_a_volume_that_binds_a_directory_is_emptied(tmp_path: Path, runner: Runner, volume: Path) -> None:
    """The engine would remove its name alone."""
    ask(runner, Path("/var/lib/docker/volumes/shop_uploads/_data"), MINE)
    proof = drill_files.remove(opened(tmp_path), random.Random(1), lambda _: None)  # noqa: S311
    assert (proof, [*volume.iterdir()]) == (f"1 entries of {volume} deleted", [])


# --- next to production ---


def test_all_of_the_files_are_restored_beside_production_also_where_nothing_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "portrait", lambda _: {"volume shop_uploads": "there"})
    world.fill()
    world.take()
    second = world.take()
    assert [artefact.name for artefact in second.artefacts] == ["listing.zst"]
    made = beside.rehearse(world.run, "files", reason="r", operator="o", target=60, log=world.said.append)
    assert (made.verdict, made.backup and made.backup.id) == (PASS, second.id), made.checks
    assert "restore of pack 1" in [check.name for check in made.checks]


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_files_are_restored_beside_production(world: World, monkeypatch: pytest.MonkeyPatch, spoilt: bool) -> None:
    monkeypatch.setattr(beside, "portrait", lambda _: {"volume shop_uploads": "there"})
    world.fill()
    taken = world.take()
    before = portrait(world.root)
    if spoilt:
        flip(world.backups / "files" / taken.id / "pack-1.tar.zst")
    made = beside.rehearse(world.run, "files", reason="r", operator="o", target=60, log=world.said.append)
    results = {check.name: check.result for check in made.checks}
    assert results["production untouched"] == PASS
    assert results.get("restore of pack 1") == (None if spoilt else PASS), results
    assert (made.verdict, made.backup and made.backup.id) == (FAIL if spoilt else PASS, taken.id)
    assert portrait(world.root) == before


def test_the_volumes_of_other_stacks_are_no_part_of_production(world: World, runner: Runner) -> None:
    """Red where every volume of the engine was compared: on a host with two stacks, either's rehearsal failed by the
    other's recovery."""
    runtime = {"type": "compose", "project_directory": str(world.root), "project": "shop"}
    world.settings.update(runtime=runtime, database={"enabled": False})
    runner.expect("^docker compose .* config ", json.dumps({"name": "shop", "services": {}}))
    runner.expect("^docker ps ", "")
    runner.expect("^docker volume ls --quiet .*label=com.docker.compose.project=shop$", "shop_uploads\n")
    runner.expect("^docker volume ls --quiet .*label=lifeboat.quarantine=shop$", "")
    runner.expect("^docker volume ls --quiet$", "shop_uploads\n")
    before = beside.portrait(world.run)
    runner.answers[-1] = ("^docker volume ls --quiet$", "shop_uploads\nwiki_data\n")
    after = beside.portrait(world.run)
    assert [name for name in after if name.startswith("volume ")] == ["volume shop_uploads"]
    assert beside.untouched(before, after).result == PASS


@pytest.mark.parametrize(("another", "result"), [(False, FAIL), (True, COULD_NOT_VERIFY)])
def test_what_another_run_changed_meanwhile_was_not_the_rehearsal(
    world: World, monkeypatch: pytest.MonkeyPatch, another: bool, result: str
) -> None:
    looks = iter([{"container shop-web-1": "abc"}, {"container shop-web-1": "def"}])

    def look(_: Any) -> dict[str, str]:
        portrait = next(looks)
        if another and portrait["container shop-web-1"] == "def":
            with recovery_state.own_turn(world.run.config, "recover the backend", "20261130_120000", 0):
                pass
        return portrait

    world.fill()
    world.take()
    monkeypatch.setattr(beside, "portrait", look)
    made = beside.rehearse(world.run, "files", reason="r", operator="o", target=60, log=world.said.append)
    (production,) = (check for check in made.checks if check.name == "production untouched")
    assert production.result == result
    assert "container shop-web-1: abc, now def" in production.detail
    assert ("another run (recover the backend, at " in production.detail) == another


# --- afterwards ---


@pytest.mark.parametrize("scenario", ["files", "backend"])
def test_what_the_recovery_replaced_is_removed_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    monkeypatch.setattr(clean.ledger, "remove", lambda *_: (0, 4))
    world.fill()
    before = portrait(world.root)
    taken = world.take()
    (world.root / ".lifeboat-aside-20260101_000000").mkdir()  # of a recovery that was no drill
    broken(world, "files_altered")
    done = world.recover(identity=taken.id, exact=True)
    (mine,) = done.aside
    assert Path(mine).is_dir()
    phases = [phase("assess", 0, 1), phase("restore", 1, 2, way_back=list(done.way_back))]
    record = evidence_world.typed(evidence_world.record(world.root.parent, scenario=scenario, phases=phases))
    removed, left, after = clean.clean(world.run, record, "files_altered", log=world.said.append)
    if scenario == "files":
        assert (removed, left, Path(mine).exists()) == ([mine], [], False)
        assert after.phases == (record.phases[0], dataclasses.replace(record.phases[1], way_back=()))
    else:
        assert (removed, left, after) == ([], [], record)
    assert (world.root / ".lifeboat-aside-20260101_000000").is_dir()
    assert portrait(world.root) == before


def test_what_cannot_be_removed_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean.ledger, "remove", lambda *_: (0, 4))
    aside = world.root / ".lifeboat-aside-20261124_120000"
    aside.mkdir()

    def refuse(_path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", os.fspath(aside))

    monkeypatch.setattr(clean, "remove", refuse)
    phases = [
        phase("restore", 1, 2, way_back=[f"tar -C {aside} -cf - . | tar -C {world.root} -xpf - --no-overwrite-dir"])
    ]
    record = evidence_world.typed(evidence_world.record(world.root.parent, scenario="files", phases=phases))
    removed, left, after = clean.clean(world.run, record, "files_altered", log=world.said.append)
    assert (removed, after) == ([], record)
    assert ["remove the files that were put aside" in words for words in left] == [True]
