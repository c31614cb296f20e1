# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the writer's key makes every backup unusable: hides it, overwrites it, or adds to it.

Each attack speaks S3 with that key's rights only. In a bucket with versions a recovery reads what was published, by
version, and says so. The control is the same attack on a bucket without versions: there is nothing to recover from.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import prune as mirror_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point as ListedPoint
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.prune import Pruned
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import clocks, prune, status, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories, show
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.catalog import Entry
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest, backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part, Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import PAST, REPOSITORY, Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.site import plan as site_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.site.store import open_store
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import OBJECTS, make_config, make_manifest
from s3_servers import SeaweedFS

DAY = timedelta(days=1)
NIGHTS = 3
ROLES = Artefact("globals.sql.gz", 5, hashlib.sha256(b"roles").hexdigest())


class World:
    """A repository in a bucket: a backup and a recovery point for each of some nights, the newest of now."""

    def __init__(self, weed: SeaweedFS, root: Path, bucket: str, prefix: str) -> None:
        self.client, self.bucket, self.prefix = weed.client, bucket, prefix
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        place = {
            "type": "s3", "bucket": bucket, "prefix": prefix, "endpoint_url": weed.url,
            "staging_root": str(root / "staging"),
        }  # fmt: skip
        keys = {"s3_access_key": weed.access_key, "s3_secret_key": weed.secret_key}
        self.config: Config = dataclasses.replace(make_config(root, repository=place), secrets=keys)
        self.manifests: list[Manifest] = []
        self.points: list[Point] = []
        repo = repositories.of(self.run)
        for night in reversed(range(NIGHTS)):
            at = self.now - night * DAY
            manifest = make_manifest(at, artefacts=(ROLES,))
            with repo.stage("database", manifest.id) as staging:
                (staging.path / ROLES.name).write_bytes(b"roles")
                staging.publish(manifest.to_bytes())
            parts = {"database": Part(manifest.id, manifest.seal), "objects": None, "config": None}
            tied = Point(f"{at:%Y%m%d_%H%M%S}", "shop", at, at, "eventual", parts, {}, (), ())
            repo.write_point(tied.id, tied.to_bytes())
            self.manifests.append(manifest)
            self.points.append(tied)

    @property
    def run(self) -> Opened:
        """Everything is opened again, as by another command."""
        return Opened(self.config)

    def key(self, manifest: Manifest, name: str = "manifest.json") -> str:
        return f"{self.prefix}/postgresql/{manifest.id}/{name}"

    def point(self, tied: Point) -> str:
        return f"{self.prefix}/recovery-points/{tied.id}.json"

    def hide(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def state(self) -> set[tuple[str, str, bool]]:
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        every = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
        return {(item["Key"], item["VersionId"], item["IsLatest"]) for item in every}


def hidden(world: World) -> None:
    for manifest, tied in zip(world.manifests, world.points):
        world.hide(world.key(manifest))
        world.hide(world.point(tied))


def removed(world: World) -> None:
    """As hidden, and the artefacts too."""
    hidden(world)
    for manifest in world.manifests:
        world.hide(world.key(manifest, ROLES.name))


def lied(world: World) -> None:
    """Another manifest and other bytes under each name, well sealed."""
    for manifest, tied in zip(world.manifests, world.points):
        lie = Artefact(ROLES.name, 6, hashlib.sha256(b"poison").hexdigest())
        other = dataclasses.replace(manifest, artefacts=(lie,))
        world.put(world.key(manifest, ROLES.name), b"poison")
        world.put(world.key(manifest), other.to_bytes())
        parts = {**tied.components, "database": Part(manifest.id, other.seal)}
        world.put(world.point(tied), dataclasses.replace(tied, components=parts).to_bytes())


def damaged(world: World) -> None:
    """Bytes of the same size, which a look at names and sizes does not find."""
    for manifest in world.manifests:
        world.put(world.key(manifest, ROLES.name), b"ruins")


def crowded(world: World) -> None:
    """A file that does not belong to it, so that no backup is whole."""
    for manifest in world.manifests:
        world.put(world.key(manifest, "globals.sql.gz.1"), b"more")


ATTACKS = [hidden, removed, lied, damaged, crowded]
Attack = Callable[[World], None]
Make = Callable[[bool], World]


@pytest.fixture
def make(weed: SeaweedFS, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    name = f"past-{abs(hash(request.node.name)) % 10**9}"
    return lambda versioned: World(weed, tmp_path, "versions" if versioned else "plain", name)


def named(world: World, identity: str) -> tuple[str, bytes, list[str]]:
    """As the database's plan does it: the bytes of the chosen one are read, and the next candidate's where they are
    wrong."""
    sources = Sources(world.run, "database", identity)

    def problem(entry: Entry) -> str:
        with sources.repo(entry).open("database", entry.id, ROLES.name) as stream:
            return "" if stream.read() == b"roles" else "other bytes"

    chosen, _passed = sources.choose(sources.identity, None, problem)
    with sources.repo(chosen).open("database", chosen.id, ROLES.name) as stream:
        return chosen.id, stream.read(), sources.notes


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_control_without_versions_nothing_is_left(make: Make, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(False)
    attack(world)
    if attack is crowded:  # what is live is enough, once what does not belong to it is left out
        monkeypatch.setattr(S3Repository, "past", Repository.past)
    with pytest.raises(LifeboatError):
        named(world, "latest")
    with pytest.raises(LifeboatError):
        named(world, world.manifests[-1].id)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_was_published_is_recovered_and_that_is_said(make: Make, attack: Attack) -> None:
    world = make(True)
    attack(world)
    before = world.state()
    last = world.manifests[-1].id
    for identity in ("latest", last, world.points[-1].id):
        chosen, data, notes = named(world, identity)
        assert (chosen, data) == (last, b"roles")
        assert any(line.startswith(f"{last}: ") and line.endswith("; its old versions are read") for line in notes)
    assert world.state() == before, "nothing is written, and nothing is shown again"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_site_is_planned_from_it_and_that_is_said(make: Make, attack: Attack) -> None:
    world = make(True)
    attack(world)
    for identity in ("latest", world.points[-1].id):
        run = world.run
        store, place = open_store(run)
        request = site_plan.Request(identity)
        chosen, _store, place = site_plan.choose_anywhere(run, store, place, request, lambda line: None)
        assert (chosen.point.id, place) == (world.points[-1].id, PAST[REPOSITORY])
        assert chosen.warnings[0].startswith(f"{chosen.point.id} is read from old versions: ")


def test_verify_reads_it_and_says_so(make: Make) -> None:
    world = make(True)
    first, second, third = (manifest.id for manifest in world.manifests)
    world.hide(world.key(world.manifests[1]))
    lie = dataclasses.replace(world.manifests[2], details={**world.manifests[2].details, "database": "other"})
    world.put(world.key(world.manifests[2]), lie.to_bytes())
    before = world.state()
    verdicts = {}
    for identity in (first, second, third):
        result = verify.verify(world.run, identity, "checksum", log=lambda line: None, record=identity != first)
        verdicts[identity] = (result.verdict, [check.detail for check in result.checks if check.name == "old versions"])
    assert verdicts[first] == ("PASS", [])
    assert verdicts[second][0] == "PASS"
    assert "its manifest was hidden by a delete marker" in verdicts[second][1][0]
    assert verdicts[third][0] == "FAIL"
    assert "its manifest was overwritten at" in verdicts[third][1][0]
    assert world.state() == before


def test_status_and_list_name_it(make: Make) -> None:
    world = make(True)
    world.hide(world.key(world.manifests[-1]))
    lie = dataclasses.replace(world.manifests[0], details={**world.manifests[0].details, "database": "other"})
    world.put(world.key(world.manifests[0]), lie.to_bytes())
    run = world.run
    backups = points.backups(repositories.of(run), "shop")
    tied = points.entries(repositories.of(run), "shop", backups)
    assert [entry.good for entry in backups["database"]] == [False, True]
    assert "its manifest was overwritten at" in backups["database"][0].problem
    gone, _points = clocks.hidden_entries(run, backups, tied, world.now)
    assert [entry.id for entry in gone["database"]] == [world.manifests[-1].id]
    (row,) = [line for line in show.table([], gone, world.now) if line.startswith("db_backup")]
    assert "HIDDEN: its manifest was hidden by a delete marker" in row
    found = {check.name: check for check in status.status(world.run, now=world.now).checks}
    assert found["hidden backups"].result == "FAIL"
    assert found["overwritten backups"].result == "FAIL"
    assert world.manifests[0].id in found["overwritten backups"].detail


def test_a_newer_one_that_was_hidden_is_told(make: Make) -> None:
    world = make(True)
    newest = world.manifests[-1].id
    world.hide(world.key(world.manifests[-1]))
    chosen, _data, notes = named(world, "latest")
    assert chosen == world.manifests[-2].id
    assert [
        line for line in notes if line.startswith(f"{newest} is newer, and in the repository its manifest was hidden")
    ]


def test_the_mirror_keeps_what_a_hidden_listing_names(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes in the mirror stay as long as the backup that names them can be found by its versions."""
    world = make(True)
    vault = {"noncurrent_days": 30, "objects_bucket": "mirror", "endpoint_url": "http://127.0.0.1:1"}
    source = {"service": "minio", "bucket": "uploads", "endpoint_url": "http://127.0.0.1:1"}
    place = {**world.config.repository}
    config = make_config(world.config.state.parent, repository=place, vault=vault, objects=source)
    world.config = dataclasses.replace(config, secrets=world.config.secrets)
    repo, data, manifests = repositories.of(world.run), b"listing", []
    for days in (2, 1, 0):
        at = world.now - days * DAY
        listing = Artefact("listing.jsonl.gz", len(data), hashlib.sha256(data).hexdigest())
        manifest = make_manifest(at, id=backup_id("objects", at), component="objects", artefacts=(listing,))
        manifest = dataclasses.replace(manifest, details={**OBJECTS, "consistency": "eventual"})
        with repo.stage("objects", manifest.id) as staging:
            (staging.path / listing.name).write_bytes(data)
            staging.publish(manifest.to_bytes())
        manifests.append(manifest)
    hide, lie = (f"{world.prefix}/objects/{manifest.id}/manifest.json" for manifest in manifests[:2])
    world.hide(hide)
    world.put(
        lie, dataclasses.replace(manifests[1], details={**OBJECTS, "consistency": "eventual", "objects": 0}).to_bytes()
    )
    named: list[tuple[str, str, bytes]] = []

    def capture(run: Opened, kept: list[ListedPoint], newest: datetime, *, dry_run: bool) -> Pruned:
        del run, newest, dry_run
        for point in kept:
            with point.repo.open("objects", point.id, point.artefact) as stream:
                named.append((point.id, point.manifest.seal, stream.read()))
        return Pruned()

    monkeypatch.setattr(mirror_prune, "prune", capture)
    result = prune.prune(world.run, now=world.now, dry_run=False, log=len)
    assert result["versions"]["waits"] == ""
    assert sorted(named) == sorted((manifest.id, manifest.seal, data) for manifest in manifests)
    assert set(result["hidden"]) == {manifest.id for manifest in manifests[:2]}
