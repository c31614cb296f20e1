# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the writer's key makes backups disappear; who has the host silences it. Another machine sees it.

Each attack speaks S3 with that key's rights only. `lifeboat escrow --look` must fail and name the backup, and the
version that is still there. The control is the same look by a machine that remembers nothing, in a bucket without
versions: it finds nothing to complain of.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from builders import make_manifest
from s3_servers import SeaweedFS

NIGHTS = 3


class World:
    """The vault's copies of some nights, and what the other machine has: a kit and a key."""

    def __init__(self, weed: SeaweedFS, root: Path, bucket: str, prefix: str) -> None:
        self.client, self.bucket, self.prefix, self.root = weed.client, bucket, prefix, root
        settings = {
            "type": "s3", "bucket": bucket, "prefix": prefix, "endpoint_url": weed.url, "staging_root": str(root),
        }  # fmt: skip
        repo = repositories.in_bucket(settings, weed.access_key, weed.secret_key)
        repo.stack, now = "shop", datetime.now(timezone.utc)
        self.made = [make_manifest(now - timedelta(days=nights), artefacts=()) for nights in reversed(range(NIGHTS))]
        for manifest in self.made:
            with repo.stage("database", manifest.id) as staging:
                staging.publish(manifest.to_bytes())
        vault = {"endpoint_url": weed.url, "repository_bucket": bucket, "prefix": prefix}
        keys = {"vault_access_key": weed.access_key, "vault_secret_key": weed.secret_key}
        self.files = {"kit": {"stack": "shop", "vault": vault}, "credentials": keys}
        for name, content in self.files.items():
            (root / name).write_text(json.dumps(content))
            (root / name).chmod(0o600)

    def look(self, *more: str) -> int:
        files = [word for name in self.files for word in (f"--{name}", str(self.root / name))]
        return cli.main(["escrow", "--look", *files, "--seen", str(self.root / "seen.json"), *more])

    def key(self, number: int) -> str:
        return f"{self.prefix}/postgresql/{self.made[number].id}/manifest.json"

    def versions(self, number: int) -> list[str]:
        found: Any = self.client.list_object_versions(Bucket=self.bucket, Prefix=self.key(number))
        return [item["VersionId"] for item in found.get("Versions", ())]


def hidden(world: World) -> str:
    world.client.delete_object(Bucket=world.bucket, Key=world.key(1))
    return "was hidden by a delete marker"


def overwritten(world: World) -> str:
    lie = make_manifest(datetime.now(timezone.utc) - timedelta(days=1), id=world.made[1].id, artefacts=())
    world.client.put_object(Bucket=world.bucket, Key=world.key(1), Body=lie.to_bytes())
    return "was overwritten at"


def destroyed(world: World) -> str:
    """As the writer's key can on MinIO, whatever its policy says."""
    for version in world.versions(1):
        world.client.delete_object(Bucket=world.bucket, Key=world.key(1), VersionId=version)
    return "nothing of it is there now, in no version"


ATTACKS = [hidden, overwritten, destroyed]
Make = Callable[[bool], World]


@pytest.fixture
def make(weed: SeaweedFS, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    name = f"look-{abs(hash(request.node.name)) % 10**9}"
    return lambda versioned: World(weed, tmp_path, "versions" if versioned else "plain", name)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_another_machine_names_the_backup_and_the_version(
    make: Make, attack: Callable[[World], str], capsys: pytest.CaptureFixture[str]
) -> None:
    world = make(True)
    assert [world.look(), world.look()] == [3, 0]
    (published,) = world.versions(1)
    words = attack(world)
    capsys.readouterr()
    assert world.look() == 6
    said = capsys.readouterr().out
    assert (world.made[1].id in said, words in said) == (True, True), said
    assert (published in said) == (attack is not destroyed), said
    assert world.look() == 6, "and it stays an alarm"
    assert world.look("--accept", world.made[1].id) == 0


def test_a_marker_is_seen_at_the_first_look_already(make: Make) -> None:
    world = make(True)
    hidden(world)
    assert world.look() == 6


def test_control_a_machine_that_remembers_nothing_finds_the_vault_whole(make: Make) -> None:
    """Without versions, and without a memory, two nights look like two nights."""
    world = make(False)
    world.look()
    hidden(world)
    (world.root / "seen.json").unlink()
    world.look()
    assert world.look() == 0
