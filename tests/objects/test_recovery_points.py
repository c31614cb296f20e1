# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The night's 03:00 run with its own command, on real servers: mirror, seal, copies, retention; then the vault alone.

The database backup of 02:00 is made by hand: no PostgreSQL is needed to see what becomes of it.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, points
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import s3 as s3_repository
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import publish, publish_objects
from s3_servers import SeaweedFS, Server, seaweedfs

MakeBucket = Callable[[Server], str]
SHORT = {"daily_days": 0, "weekly_months": 0, "monthly_months": 0, "minimum": 1}


class Host:
    """A host with a stack whose vault is another server, and the `lifeboat` command."""

    def __init__(self, root: Path, source: SeaweedFS, vault: SeaweedFS, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.source, self.vault, self.capsys = root, source, vault, capsys
        self.buckets = {name: f"{name}-{secrets.token_hex(4)}" for name in ("uploads", "mirror", "copies")}
        for server, names in ((source, ["uploads"]), (vault, ["mirror", "copies"])):
            for name in names:
                self._make(server, self.buckets[name])
        self.settings: dict[str, Any] = {
            "stack": "shop",
            "runtime": {"project": "no-such-project"},
            "repository": {"type": "local", "path": str(root / "backup")},
            "state_directory": str(root / "state"),
            "objects": {"bucket": self.buckets["uploads"], "endpoint_url": source.url, "transfers": 4},
            "vault": {
                "objects_bucket": self.buckets["mirror"],
                "repository_bucket": self.buckets["copies"],
                "endpoint_url": vault.url,
            },
        }
        (root / "etc").mkdir()
        (root / "backup").mkdir()
        keys = {
            f"{whose}_{kind}_key": getattr(server, f"{kind}_key")
            for whose, server in (("objects", source), ("vault", vault))
            for kind in ("access", "secret")
        }
        (root / "etc/shop.secrets.json").write_text(json.dumps(keys))
        self.configure()

    @staticmethod
    def _make(server: SeaweedFS, name: str) -> None:
        server.client.create_bucket(Bucket=name)
        server.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def configure(self, **changes: Any) -> None:
        (self.root / "etc/shop.json").write_text(json.dumps({**self.settings, **changes}))

    @property
    def config(self) -> config.Config:
        return config.load("shop", self.root / "etc")

    def put(self, key: str, body: bytes) -> None:
        self.source.client.put_object(Bucket=self.buckets["uploads"], Key=key, Body=body)

    def lifeboat(self, *words: str) -> tuple[int, Any]:
        code = cli.main([*words, "--json", "--config-directory", str(self.root / "etc")])
        return code, json.loads(self.capsys.readouterr().out)

    def dumped(self) -> str:
        """A database backup of now; ids have steps of a second."""
        time.sleep(1.1)
        return publish(self.root, datetime.now(timezone.utc)).id

    def night(self) -> tuple[str, dict[str, Any]]:
        """The database backup of 02:00 and the run of 03:00."""
        database = self.dumped()
        code, said = self.lifeboat("backup", "objects", "--seal", "--prune")
        assert code == 0, said
        return database, said


@pytest.fixture
def host(
    weed: SeaweedFS, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    real = lock.held
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    with seaweedfs() as vault:
        yield Host(tmp_path, weed, vault, capsys)
    log = logging.getLogger("lifeboat")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def test_a_night_and_the_day_the_host_burns(host: Host) -> None:
    host.put("a.txt", b"one")
    database, said = host.night()
    assert (said["consistency"], said["database_backup"], said["copies"]["failed"]) == ("snapshot", database, [])
    point, objects = said["recovery_point"], said["id"]

    code, listed = host.lifeboat("list")
    assert [(entry["component"], entry["id"], entry["good"]) for entry in listed] == [
        ("point", point, True), ("objects", objects, True), ("database", database, True),
    ]  # fmt: skip
    assert (listed[0]["consistency"], listed[0]["copies"]) == ("snapshot", [copies.location(host.config)])
    code, again = host.lifeboat("backup", "objects", "--seal")
    assert code == 0, again
    assert len(host.lifeboat("list", "--component", "point")[1]) == 2, "another objects backup, another point"

    code, proved = host.lifeboat("verify", point, "--level", "archive")
    assert proved["parts"][1]["verdict"] == "PASS", proved
    checks = {check["name"]: check["result"] for check in proved["checks"]}
    assert checks["recovery point"] == "PASS"
    assert checks["database: archive" if "database: archive" in checks else "database: checksums"] == "PASS"

    code, status = host.lifeboat("status")
    results = {check["name"]: check["result"] for check in status["checks"]}
    assert results["copies"] == results["recovery point"] == results["newest objects backup"] == "PASS"
    assert results["vault endpoint"] == "PASS", status["checks"]
    assert results["vault apart"] == "FAIL", "both servers of this test are on this host"

    shutil.rmtree(host.root / "backup")
    for component, identity in (("database", database), ("objects", objects)):
        sources = Sources(Opened(host.config), component, point)
        assert sources.identity == identity
        one = next(entry for entry in sources.entries if entry.id == identity)
        assert (one.source, one.good) == ("vault", True)
    with sources.repo(one).materialise("objects", objects) as folder:
        assert (folder / "listing.jsonl.gz").stat().st_size


def test_a_vault_that_is_away_at_night_is_made_up_for(host: Host) -> None:
    host.put("a.txt", b"one")
    host.night()
    host.configure(vault={**host.settings["vault"], "repository_bucket": "no-such-bucket"})
    host.dumped()
    code, said = host.lifeboat("backup", "objects", "--seal")
    assert code == 8
    assert "no such bucket" in said["copies"]["failed"][0]
    assert said["recovery_point"], "the recovery point is there all the same"
    code, status = host.lifeboat("status")
    assert {check["name"]: check["result"] for check in status["checks"]}["copies"] == "COULD_NOT_VERIFY"
    host.configure()
    code, status = host.lifeboat("status")
    (copied,) = [check for check in status["checks"] if check["name"] == "copies"]
    assert copied["result"] == "FAIL"
    assert said["id"] in copied["detail"]
    code, said = host.lifeboat("backup", "objects", "--seal")
    assert (code, len(said["copies"]["copied"])) == (0, 3), "the two that were missed, and this one"
    code, status = host.lifeboat("status")
    assert {check["name"]: check["result"] for check in status["checks"]}["copies"] == "PASS"


def test_retention_removes_every_version_in_the_vault(host: Host) -> None:
    host.put("a.txt", b"one")
    past = datetime.now(timezone.utc) - timedelta(days=3)
    first = publish(host.root, past)
    objects = publish_objects(host.root, past, of=first)
    point, _ = points.seal(Opened(host.config), now=past, log=lambda _: None)
    copies.catch_up(Opened(host.config), log=lambda _: None)
    assert copies.send_points(Opened(host.config), log=lambda _: None) == ()
    host.configure(retention=SHORT)
    database, said = host.night()
    gone = [point.id, first.id, objects.id]
    assert said["prune"]["delete"] == gone
    assert (said["prune"]["locked"], said["prune"]["failed"]) == ([], [])
    store = copies.vault(Opened(host.config))
    assert store
    assert store.published("database") == [database]
    assert store.published("objects") == [said["id"]]
    assert store.points() == [said["recovery_point"]]

    def kept() -> set[str]:
        found = host.vault.client.list_object_versions(Bucket=host.buckets["copies"])
        return {version["Key"] for kind in ("Versions", "DeleteMarkers") for version in found.get(kind, ())}

    assert all(any(identity in key for key in kept()) for identity in gone), "hidden, for noncurrent_days"
    days_later(host)
    code, said = host.lifeboat("prune")
    assert (code, said["hidden"], said["locked"]) == (0, {}, [])
    assert kept()
    assert not [key for key in kept() for identity in gone if identity in key], "not even a hidden version"
    tied = points.entries(store, "shop", points.backups(store, "shop"))
    assert [entry.good for entry in tied] == [True]


class KilledError(BaseException):
    """The process ends here."""


def days_later(host: Host) -> None:
    """What the pruner has seen hidden was hidden long ago."""
    record = host.config.state / "noncurrent.json"
    known = json.loads(record.read_text())
    for place in known["places"].values():
        for seen in place.values():
            seen["since"] = "2026-01-01T00:00:00.000Z"
    record.write_text(json.dumps(known))


def test_a_prune_that_is_killed_leaves_nothing_that_no_later_run_finds(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once between its delete markers, and once between the versions that it removes."""
    past = datetime.now(timezone.utc) - timedelta(days=3)
    first = publish(host.root, past)
    copies.catch_up(Opened(host.config), log=lambda _: None)
    host.dumped()
    copies.catch_up(Opened(host.config), log=lambda _: None)
    host.configure(retention=SHORT)
    store = copies.vault(Opened(host.config))
    assert store

    def kept(*kinds: str) -> list[dict[str, Any]]:
        found = host.vault.client.list_object_versions(Bucket=host.buckets["copies"])
        return [version for kind in kinds for version in found.get(kind, ()) if first.id in version["Key"]]

    markers = len(kept("DeleteMarkers"))  # those of the claims
    drop, purge = s3_repository.S3Repository._drop, s3_repository.purge
    left = iter(range(1))

    def dies(work: Callable[[], Any]) -> Any:
        if next(left, None) is None:
            raise KilledError
        return work()

    with monkeypatch.context() as patch:
        patch.setattr(s3_repository.S3Repository, "_drop", lambda repo, key: dies(lambda: drop(repo, key)))
        with pytest.raises(KilledError):
            host.lifeboat("prune")
    live = [version["Key"].rpartition("/")[2] for version in kept("Versions") if version["IsLatest"]]
    assert (len(kept("DeleteMarkers")), "manifest.json" in live, len(live)) == (markers + 1, False, 3)
    code, said = host.lifeboat("prune")
    assert (code, said["hidden"]) == (0, {}), said
    assert not [version for version in kept("Versions") if version["IsLatest"]]
    days_later(host)
    left, there = iter(range(2)), len(kept("Versions", "DeleteMarkers"))

    def purged(client: Any, *where: str, **more: Any) -> list[str]:
        dying = SimpleNamespace(
            get_paginator=client.get_paginator,
            delete_object=lambda **which: dies(lambda: client.delete_object(**which)),
        )
        return purge(dying, *where, **more)

    with monkeypatch.context() as patch:
        patch.setattr(s3_repository, "purge", purged)
        with pytest.raises(KilledError):
            host.lifeboat("prune")
    assert len(kept("Versions", "DeleteMarkers")) == there - 2
    code, said = host.lifeboat("prune")
    assert (code, said["hidden"], said["locked"]) == (0, {}, []), said
    assert kept("Versions", "DeleteMarkers") == []
    assert first.id not in store.published("database")
