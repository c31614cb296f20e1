# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forty nights of a host that fell to an attacker, then four hundred days of pruning: nothing goes before it is due."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import prune, status
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sealing import Signature
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_manifest, store
from keeper_world import DAY, PULLED, START, World

CLEAN = 30  # nights before
HOSTILE = 40
DAYS = 400
APART = 4  # of these days there is a backup each fourth, and after two months a pruning as well


def due(day: date) -> date:
    """The last day on which a backup that was received on that day is promised: told again, by the words of the docs.

    30 days; Sunday's 3 months; that of the 1st a year.
    """
    ends = [day + timedelta(days=30)]
    if day.weekday() == 6:
        ends.append(day + timedelta(days=88))  # three months are never shorter
    if day.day == 1:
        ends.append(day.replace(year=day.year + 1))
    return max(ends)


def signed(world: World, made: Manifest, sequence: int) -> Manifest:
    """With the host's own key, which who took the host has."""
    return made.signed(Signature("a repository", sequence + 1, ""), str(world.root / "host"))


def rewrite(world: World, made: Manifest, data: bytes, night: int) -> None:
    """Other bytes under a published id, well sealed and signed by the host."""
    (world.folder(made) / "database.dump").write_bytes(data)
    artefacts = tuple(
        Artefact(item.name, len(data), hashlib.sha256(data).hexdigest()) if item.name == "database.dump" else item
        for item in made.artefacts
    )
    evil = signed(world, dataclasses.replace(made, artefacts=artefacts), night)
    (world.folder(made) / "manifest.json").write_bytes(evil.to_bytes())
    world.seal(evil)


def endless(world: World, night: int) -> None:
    """A file without an end, of which the manifest names a few bytes: of a night, and under an id of its own."""
    made = make_manifest(
        START + night * DAY + timedelta(seconds=7), artefacts=(Artefact("globals.sql.gz", 5, "0" * 64),)
    )
    folder = world.host / "postgresql" / made.id
    folder.mkdir()
    (folder / "manifest.json").write_bytes(signed(world, made, night).to_bytes())
    with (folder / "globals.sql.gz").open("wb") as file:
        file.truncate(1 << 40)  # sparse: more than the disk has


def climbing(world: World, night: int) -> None:
    """An artefact whose name leads out of the folder, to a file that is there."""
    (world.host.parent / "stolen").write_bytes(b"roles")
    stolen = Artefact("../../../stolen", 5, hashlib.sha256(b"roles").hexdigest())
    made = make_manifest(START + night * DAY + timedelta(seconds=8), artefacts=(stolen,))
    folder = world.host / "postgresql" / made.id
    folder.mkdir()
    (folder / "manifest.json").write_bytes(signed(world, made, night).to_bytes())


def garbage(world: World, night: int, clean: list[Manifest]) -> None:
    """What an attacker with the host's own root publishes in one night."""
    now = START + night * DAY
    made = signed(world, make_manifest(now, artefacts=()), night)  # of this night, and well sealed
    with store(world.root).stage("database", made.id) as staging:
        staging.publish(made.to_bytes())
    world.seal(made)
    old = clean[night % len(clean)]
    if night % 4 == 0 and world.folder(old).exists():
        rewrite(world, old, os.urandom(8), night)
    elif night % 4 == 1 and world.folder(old).exists():
        shutil.rmtree(world.folder(old))
        (world.host / "recovery-points" / f"{points.stamp(old.taken_at)}.json").unlink()
    elif night % 4 == 2:
        for year in (2001, 2099):
            odd = world.publish(datetime(year, 1 + night % 12, 1 + night % 28, tzinfo=now.tzinfo))
            assert odd.id
    else:
        for name in ("db_backup_19700101_000000", "db_backup_20260231_000000"):
            folder = world.host / "postgresql" / name
            folder.mkdir(exist_ok=True)
            (folder / "manifest.json").write_bytes(b'{"schema": "lifeboat.dr/backup"}')
        link = world.host / "postgresql" / f"db_backup_202603{night % 28 + 1:02d}_235959"
        link.symlink_to("/etc") if not link.is_symlink() else None
    if night % 10 == 5:
        endless(world, night)
        climbing(world, night)


@pytest.mark.slow
@pytest.mark.long
def test_every_point_from_before_is_there_until_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    world = World(tmp_path, monkeypatch, silent_hours=24 * (APART + 1))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    clean = [world.night(number)[0] for number in range(CLEAN)]
    assert world.kinds() == []
    received = {made.id: world.log.received[made.id].at.date() for made in clean}
    before = dict(world.bytes())
    for night in range(CLEAN, CLEAN + HOSTILE):
        garbage(world, night, clean)
        world.now = START + night * DAY + PULLED
        world.pull()
        found = world.prune()
        assert found.alarms and found.delete == (), "while there is an alarm nothing is deleted"
    assert before.items() <= world.bytes().items(), "every byte is as it was received"
    assert not [path for path in world.kept.rglob("*") if path.name == "stolen"]
    assert sum(path.stat().st_size for path in world.kept.rglob("*") if path.is_file()) < 10 << 20, "it has an end"

    status.acknowledge(Opened(world.config), "the host was taken over, and is built anew", now=world.now)
    world.forget_host()
    gone: set[str] = set()
    for number in range(DAYS):
        if number > 60 and number % APART:
            continue
        if number % APART == 0:
            world.night(CLEAN + HOSTILE + number, artefacts=())
        world.now = START + (CLEAN + HOSTILE + number) * DAY + PULLED
        found = world.prune()
        assert found.alarms == (), found.alarms
        gone.update(found.delete)
        today = world.now.date()
        early = [made.id for made in clean if made.id in gone and today <= due(received[made.id])]
        assert early == [], f"deleted on {today}, before it was due"
        if number % 50 == 0:
            has = world.bytes()
            left = [made for made in clean if made.id not in gone]
            for made in left:
                names = [
                    f"postgresql/{made.id}/{item.name}" for item in (*made.artefacts, Artefact("manifest.json", 0, ""))
                ]
                names.append(f"recovery-points/{points.stamp(made.taken_at)}.json")
                assert {name: has[name] for name in names} == {name: before[name] for name in names}
            for made in left if number % 200 == 0 else left[:2]:
                checked = verify.verify(
                    Opened(world.config), points.stamp(made.taken_at), "checksum", log=len, record=False
                )
                assert checked.verdict == PASS
    assert gone >= {made.id for made in clean if due(received[made.id]) < world.now.date() - 31 * DAY}, (
        "and then it goes"
    )


@pytest.mark.slow
def test_by_the_documents_dates_it_would_have_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a retention that believes the dates that the host writes."""
    world = World(tmp_path, monkeypatch)
    clean = [world.night(number)[0] for number in range(5)]
    odd = world.publish(START + 300 * DAY)  # dated ahead, and by then believed
    world.now += 301 * DAY
    world.pull()
    monkeypatch.setattr(prune, "_by_receipt", lambda found, *rest: list(found))
    monkeypatch.setattr(prune, "alarms", lambda *given: [])
    found = world.prune()
    assert odd.id not in found.delete
    assert {made.id for made in clean} & set(found.delete), "with the receipts' times none of them is due"
