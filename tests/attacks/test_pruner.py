# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the writer's key lets the pruner, which may delete versions, do what the key may not.

Each attack speaks S3 with that key's rights only: it writes objects and sets delete markers. Measured before: one
marker on each manifest, then a prune, took 43 versions down to 3; manifests with an old date, 40 to 0; planted
verifications that failed, 40 to 20. The control is a pruner that deletes versions at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import Hidden, Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config, make_manifest
from s3_servers import SeaweedFS

DAY = timedelta(days=1)
NIGHTS = 5
APART = 8 * DAY  # so that the oldest are kept for their week, and only while they are good
ROLES = Artefact("globals.sql.gz", 5, hashlib.sha256(b"roles").hexdigest())
Versions = set[tuple[str, str]]


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    with s3_servers.seaweedfs() as server:
        yield server


class World:
    """A repository in a bucket with versions: a backup for each of some weeks, the newest of now."""

    def __init__(self, weed: SeaweedFS, root: Path, bucket: str) -> None:
        self.client, self.bucket, self.now = weed.client, bucket, datetime.now(timezone.utc)
        self.client.create_bucket(Bucket=bucket)
        self.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        place = {"type": "s3", "bucket": bucket, "endpoint_url": weed.url, "staging_root": str(root / "staging")}
        keys = {"s3_access_key": weed.access_key, "s3_secret_key": weed.secret_key}
        vault = {"noncurrent_days": 30}
        self.config: Config = dataclasses.replace(make_config(root, repository=place, vault=vault), secrets=keys)
        self.manifests: list[Manifest] = []
        repo = repositories.of(Opened(self.config))
        for nights in reversed(range(NIGHTS)):
            manifest = make_manifest(self.now - nights * APART, artefacts=(ROLES,))
            with repo.stage("database", manifest.id) as staging:
                (staging.path / ROLES.name).write_bytes(b"roles")
                staging.publish(manifest.to_bytes())
            self.manifests.append(manifest)

    def key(self, manifest: Manifest, name: str = "manifest.json") -> str:
        return f"postgresql/{manifest.id}/{name}"

    def versions(self) -> Versions:
        """Of manifests, with what is in them: key and version."""
        found = self.client.list_object_versions(Bucket=self.bucket).get("Versions", ())
        return {(item["Key"], item["VersionId"]) for item in found if item["Key"].endswith("manifest.json")}

    def prune(self, days: float) -> prune.Pruning:
        return prune.prune(Opened(self.config), now=self.now + days * DAY, dry_run=False, log=len)


@pytest.fixture
def world(weed: SeaweedFS, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(lock, "DIRECTORY", tmp_path)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(timezone.utc) + 400 * DAY)
    return World(weed, tmp_path, f"prune-{abs(hash(request.node.name)) % 10**9}")


def markers(world: World) -> None:
    """One delete marker on each manifest but the newest."""
    for manifest in world.manifests[:-1]:
        world.client.delete_object(Bucket=world.bucket, Key=world.key(manifest))


def old_dates(world: World) -> None:
    """Each manifest but the newest once more, well sealed, as if it were two years old."""
    for manifest in world.manifests[:-1]:
        old = world.now - 700 * DAY
        lie = dataclasses.replace(manifest, taken_at=old, finished_at=old)
        world.client.put_object(Bucket=world.bucket, Key=world.key(manifest), Body=lie.to_bytes())


def failures(world: World) -> None:
    """A verification that found each backup but the newest damaged, twice."""
    said = {"verdict": "FAIL", "finished_at": "2026-11-24T02:00:00.000Z"}
    for manifest in world.manifests[:-1]:
        body = {"seal": manifest.seal, "levels": {"checksum": {**said, "before": [said]}}}
        key = world.key(manifest, "verification.json")
        world.client.put_object(Bucket=world.bucket, Key=key, Body=json.dumps(body).encode())


ATTACKS = [markers, old_dates, failures]


def unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes with all versions, sweeps what has no manifest, keeps no record, and believes what is live."""
    monkeypatch.setattr(S3Repository, "hide", S3Repository.delete)
    monkeypatch.setattr(S3Repository, "keeps_versions", False)
    monkeypatch.setattr(S3Repository, "_had", lambda self, key: False)
    monkeypatch.setattr(S3Repository, "altered", lambda self, component, id="": {})


def attacked(world: World, attack: Callable[[World], None], days: float) -> tuple[Versions, prune.Pruning]:
    """The versions of manifests that were there before the attack and are gone after it and two prunes."""
    world.prune(0)
    before = world.versions()
    attack(world)
    world.prune(0.1)
    result = world.prune(days)
    return before - world.versions(), result


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_control_a_pruner_that_believes_the_writer(
    world: World, attack: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    unprotected(monkeypatch)
    lost, _result = attacked(world, attack, 2)
    assert lost


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_that_a_writer_writes_shortens_the_days(world: World, attack: Callable[[World], None]) -> None:
    lost, result = attacked(world, attack, 29)
    assert lost == set()
    alarm = prune.alarm("shop", result)
    if attack is markers:
        assert set(result["hidden"]) == {manifest.id for manifest in world.manifests[:-1]}
        assert alarm is not None
        assert f"{NIGHTS - 1} had a manifest in the repository and have none now" in alarm.cause


def test_what_retention_removes_goes_after_the_days(world: World) -> None:
    """The promise has two sides: the space is free again, when the pruner has known it for so long."""
    rules = {"daily_days": 3, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
    world.config = dataclasses.replace(world.config, retention=rules)
    before = world.versions()
    done = world.prune(0)
    assert len(done["delete"]) == NIGHTS - 1
    assert (world.versions(), done["hidden"]) == (before, {})
    assert (world.prune(29.9)["hidden"], world.versions()) == ({}, before)
    repo: Repository = repositories.of(Opened(world.config))
    assert set(repo.hidden().values()) == {Hidden(document=True, whole=True)}
    swept = world.prune(30)["swept"]
    assert len(swept) == NIGHTS - 1
    assert {key for key, _version in before - world.versions()} == {
        world.key(manifest) for manifest in world.manifests[: NIGHTS - 1]
    }


def test_a_record_that_others_may_read_stops_the_pruner(world: World) -> None:
    rules = {"daily_days": 3, "weekly_months": 0, "monthly_months": 0, "minimum": 1}
    world.config = dataclasses.replace(world.config, retention=rules)
    world.prune(0)
    (world.config.state / "noncurrent.json").chmod(0o644)
    before = world.versions()
    with pytest.raises(IntegrityError, match="read since when old versions are known"):
        world.prune(60)
    assert world.versions() == before
