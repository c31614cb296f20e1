# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A keeper mirrors the stack's store into a vault of its own: real servers, a key that may only read, its own command.

The stack's repository is mounted; what OpenSSH does between the two, tests/unit/test_keeper_sftp.py checks.
"""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import publish
from s3_servers import SeaweedFS, seaweedfs

READER = {"access_key": "reader", "secret_key": "reader-secret-1"}
DAY = timedelta(days=1)


class Keeper:
    """The `lifeboat` command of a keeper whose vault is on another server than the store."""

    def __init__(self, root: Path, store: SeaweedFS, vault: SeaweedFS, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.store, self.vault, self.capsys = root, store, vault, capsys
        self.bucket, self.mirror = f"uploads-{secrets.token_hex(4)}", f"mirror-{secrets.token_hex(4)}"
        for server, name in ((store, self.bucket), (vault, self.mirror)):
            server.client.create_bucket(Bucket=name)
            server.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for name in ("etc", "kept", "backup"):
            (root / name).mkdir()
        keys = {
            **{f"objects_{name}": text for name, text in READER.items()},
            "vault_access_key": vault.access_key,
            "vault_secret_key": vault.secret_key,
        }
        (root / "etc/shop.secrets.json").write_text(json.dumps(keys))
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/signing")]
        subprocess.run(argv, check=True)
        self.configure()

    def configure(self, **store: Any) -> None:
        given = {
            "stack": "shop",
            "config": {"enabled": False},
            "signing_key": str(self.root / "etc/signing"),
            "keeper": {
                "directory": str(self.root / "kept"),
                "source": {"mounted": str(self.root / "backup")},
                "quota": "1G",
                "store": {"quota": "1G", **store},
            },
            "objects": {"bucket": self.bucket, "endpoint_url": self.store.url, "transfers": 4},
            "vault": {"objects_bucket": self.mirror, "endpoint_url": self.vault.url},
        }
        (self.root / "etc/shop.json").write_text(json.dumps(given))

    @property
    def run(self) -> Opened:
        return Opened(config.load("shop", self.root / "etc"))

    def put(self, key: str, body: bytes) -> None:
        self.store.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def published(self, before: timedelta = timedelta()) -> str:
        """On the stack's host: a database backup of so long ago."""
        return publish(self.root, datetime.now(timezone.utc) - before).id

    def lifeboat(self, *words: str) -> tuple[int, Any]:
        code = cli.main(["keeper", *words, "--json", "--config-directory", str(self.root / "etc")])
        return code, json.loads(self.capsys.readouterr().out)

    def objects(self) -> list[ObjectsDetails]:
        entries = catalog.entries(repositories.repository_of(self.run), "objects", "shop")
        return [entry.manifest.detailed(ObjectsDetails) for entry in entries if entry.manifest]

    def held(self) -> dict[str, bytes]:
        """What the newest objects backup says of the store, by the versions of the vault."""
        entry = catalog.entries(repositories.repository_of(self.run), "objects", "shop")[-1]
        assert entry.manifest
        return {
            listed.key: self.vault.client.get_object(
                Bucket=self.mirror, Key=listed.key, VersionId=listed.vault_version
            )["Body"].read()
            for listed in Point(repositories.repository_of(self.run), entry.manifest).entries()
        }  # fmt: skip

    def status(self) -> dict[str, str]:
        return {check["name"]: check["result"] for check in self.lifeboat("status")[1]["checks"]}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[SeaweedFS, SeaweedFS]]:
    reader = {"name": "reader", **READER, "actions": ["Read", "List"]}
    with seaweedfs([reader]) as store, seaweedfs() as vault:
        yield store, vault


@pytest.fixture
def keeper(
    servers: tuple[SeaweedFS, SeaweedFS], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Keeper]:  # fmt: skip
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    yield Keeper(tmp_path, *servers, capsys)
    log = logging.getLogger("lifeboat")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def test_the_store_is_mirrored_as_of_the_backup(keeper: Keeper) -> None:
    keeper.put("a.txt", b"one")
    database = keeper.published(timedelta(seconds=-2))  # the store tells whole seconds
    code, said = keeper.lifeboat("pull", "--stack", "shop")
    assert code == 0, said
    objects, point = said["made"]
    (details,) = keeper.objects()
    assert (details.primary.consistency, details.database_backup, details.primary.objects) == ("snapshot", database, 1)
    assert keeper.held() == {"a.txt": b"one"}
    tied = json.loads(repositories.repository_of(keeper.run).read_point(point))
    repo, key = repositories.repository_of(keeper.run), sealing.public(str(keeper.root / "etc/signing"))
    made = {"manifest": (repo.manifest("objects", objects), objects), "recovery-point": (repo.read_point(point), point)}
    for document, (data, identity) in made.items():
        signed = sealing.opened(data, identity, document)
        assert signed.signature and signed.key == key
        assert sealing.verify(signed.message, signed.signature.value, document, key) == ""
    assert {name: part and part["id"] for name, part in tied["components"].items()} == {
        "database": database, "objects": objects, "config": None,
    }  # fmt: skip
    assert keeper.lifeboat("pull", "--stack", "shop")[1]["made"] == [], "nothing new is published"
    found = keeper.status()
    names = "objects", "source versions", "checksums", "store key"
    assert {name: found[name] for name in names} == dict.fromkeys(names, "PASS")
    assert "objects" not in [item["kind"] for item in keeper.lifeboat("prune", "--dry-run")[1]["alarms"]]


def test_a_key_of_the_store_that_can_write_is_named_until_it_is_replaced(keeper: Keeper) -> None:
    keeper.put("a.txt", b"one")
    keeper.published(timedelta(seconds=-2))
    path = keeper.root / "etc/shop.secrets.json"
    keys = json.loads(path.read_text())
    strong = {"objects_access_key": keeper.store.access_key, "objects_secret_key": keeper.store.secret_key}
    path.write_text(json.dumps({**keys, **strong}))
    before = keeper.store.client.list_object_versions(Bucket=keeper.bucket)
    code, said = keeper.lifeboat("pull", "--stack", "shop")
    assert code == 0, said
    code, told = keeper.lifeboat("status")
    (check,) = [one for one in told["checks"] if one["name"] == "store key"]
    assert (code, check["result"]) == (6, "FAIL"), check
    assert "can write objects and delete versions, and should only read" in check["detail"]
    after = keeper.store.client.list_object_versions(Bucket=keeper.bucket)
    assert [len(after.get(what, ())) for what in ("Versions", "DeleteMarkers")] == [1, 0]
    assert before["Versions"] == after["Versions"], "it was tried without writing"
    assert "Uploads" not in keeper.store.client.list_multipart_uploads(Bucket=keeper.bucket)
    assert 'lifeboat_keeper_check_passed{stack="shop",check="store key"} 0' in keeper.lifeboat("metrics")[1]["metrics"]
    path.write_text(json.dumps(keys))
    assert keeper.status()["store key"] == "FAIL", "until a pull tried another one"
    assert keeper.lifeboat("pull", "--stack", "shop")[0] == 0
    assert keeper.status()["store key"] == "PASS"


def test_nights_that_the_keeper_was_away_are_made_up_for(keeper: Keeper) -> None:
    """Each as of its own instant; the store's versions say what it held."""
    keeper.put("a.txt", b"one")
    first = keeper.published(2 * DAY)
    second = keeper.published(DAY)
    now = keeper.published(timedelta(seconds=-2))
    code, said = keeper.lifeboat("pull", "--stack", "shop")
    assert code == 0, said
    assert [(item.database_backup, item.primary.objects) for item in keeper.objects()] == [
        (first, 0),
        (second, 0),
        (now, 1),
    ]
    assert len(said["made"]) == 6, "a point of each"


def test_a_store_that_lost_much_is_an_alarm_and_the_vault_is_as_it_was(keeper: Keeper) -> None:
    for number in range(6):
        keeper.put(f"{number}.txt", b"one")
    keeper.published(timedelta(seconds=-2))
    assert keeper.lifeboat("pull", "--stack", "shop")[0] == 0
    for number in range(4):
        keeper.store.client.delete_object(Bucket=keeper.bucket, Key=f"{number}.txt")
    keeper.published(timedelta(seconds=-4))
    code, said = keeper.lifeboat("pull", "--stack", "shop")
    assert (code, "4 of the 6 objects there would be removed" in said["unmirrored"]) == (2, True), said
    assert "lifeboat keeper pull --stack shop --override 4" in said["unmirrored"]
    assert len(keeper.held()) == 6
    code, pruned = keeper.lifeboat("prune", "--stack", "shop")
    assert ("objects" in [item["kind"] for item in pruned["alarms"]], pruned["delete"]) == (True, [])
    code, said = keeper.lifeboat("pull", "--stack", "shop", "--override", "4")
    assert (code, len(keeper.held())) == (0, 2), said


def test_a_full_vault_ends_the_mirror_before_it_copies(keeper: Keeper) -> None:
    keeper.configure(quota="1K")
    keeper.put("a.txt", b"x" * 2000)
    keeper.published(timedelta(seconds=-2))
    said = keeper.lifeboat("pull", "--stack", "shop")[1]
    assert "the quota of 1.0 kB is full" in said["unmirrored"], said
    assert keeper.vault.client.list_objects_v2(Bucket=keeper.mirror).get("KeyCount") == 0
    keeper.configure()
    assert keeper.lifeboat("pull", "--stack", "shop")[0] == 0


def test_what_the_store_lists_is_bounded(keeper: Keeper) -> None:
    for number in range(3):
        keeper.put(f"{number}.txt", b"one")
    keeper.published(timedelta(seconds=-2))
    keeper.configure(versions=2)
    found = keeper.lifeboat("pull", "--stack", "shop")[1]
    assert "it lists more than 2 versions" in found["unmirrored"], found
    assert (len(found["received"]), found["made"]) == (1, []), "the database backup is here all the same"
    keeper.store.client.create_bucket(Bucket=f"more-{secrets.token_hex(4)}")
    keeper.configure(buckets=1)
    assert keeper.lifeboat("pull", "--stack", "shop")[0] == 0
    assert "more than 1 buckets" in keeper.objects()[0].unlisted


def test_a_rule_that_forgets_before_the_keeper_is_back_is_shown(keeper: Keeper) -> None:
    rule = {
        "ID": "short", "Filter": {"Prefix": ""}, "Status": "Enabled",
        "NoncurrentVersionExpiration": {"NoncurrentDays": 3},
    }  # fmt: skip
    keeper.put("a.txt", b"one")
    keeper.store.client.put_bucket_lifecycle_configuration(
        Bucket=keeper.bucket, LifecycleConfiguration={"Rules": [rule]}
    )
    keeper.published(timedelta(seconds=-2))
    assert keeper.lifeboat("pull", "--stack", "shop")[0] == 0
    assert keeper.status()["source versions"] == "FAIL"
    keeper.configure(absence_days=3)
    assert keeper.status()["source versions"] == "PASS"
