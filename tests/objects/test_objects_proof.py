# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects backups proved against a real vault: the intact one passes, then one thing is broken and it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof as objects_proof
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_servers import SeaweedFS, Server

MakeBucket = Callable[[Server], str]

OBJECTS = {"a.txt": b"one", "b/größe.bin": b"two" * 500, "empty": b"", "c.json": b"{}"}


@pytest.fixture
def settings(weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A stack whose bucket and vault are two buckets of one server; the vault keeps versions."""
    source, vault = make_bucket(weed), make_bucket(weed)
    for name in (source, vault):
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for key, body in OBJECTS.items():
        weed.client.put_object(
            Bucket=source, Key=key, Body=body, ContentType="text/x-own", Metadata={"who": "me"}, Tagging="kind=test"
        )
    real = lock.held
    (tmp_path / "locks").mkdir()
    (tmp_path / "backup").mkdir()
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    return config.from_mapping(
        {
            "stack": "shop",
            "runtime": {"project": "shop"},
            "repository": {"type": "local", "path": str(tmp_path / "backup")},
            "state_directory": str(tmp_path / "state"),
            "objects": {"bucket": source, "endpoint_url": weed.url, "transfers": 4},
            "vault": {"objects_bucket": vault, "endpoint_url": weed.url},
        },
        {
            f"{whose}_{kind}_key": getattr(weed, f"{kind}_key")
            for whose in ("objects", "vault")
            for kind in ("access", "secret")
        },
    )


@pytest.fixture
def taken(settings: Config) -> Manifest:
    return take.take(Opened(settings), log=lambda _: None)


def prove(settings: Config, level: str = "restore", **more: Any) -> Result:
    newest = repositories.from_settings(settings.repository, {}).published("objects")[-1]
    return operations_verify.verify(Opened(settings), newest, level, log=lambda _: None, **more)


def left(weed: SeaweedFS) -> list[str]:
    return [
        bucket["Name"]
        for bucket in weed.client.list_buckets()["Buckets"]
        if bucket["Name"].startswith(objects_proof.PREFIX)
    ]


def test_an_intact_one_passes_and_nothing_stays(weed: SeaweedFS, settings: Config, taken: Manifest) -> None:
    result = prove(settings)
    assert (result.id, result.verdict) == (taken.id, checks.PASS), result.checks
    said = {check.name: check.detail for check in result.checks}
    assert list(said) == [
        "manifest", "checksums", "listing", "versions", "sizes and tags", "restore", "objects", "bytes",
        "metadata and tags",
    ]  # fmt: skip
    assert said["restore"] == "all 4 objects, into a bucket of their own"
    assert said["sizes and tags"].endswith("as told by the server: no byte was read")
    assert left(weed) == []
    sampled = prove(settings, sample=2)
    assert sampled.verdict == checks.PASS
    assert "2 of 4 objects, chosen at random, into a bucket of their own" in [check.detail for check in sampled.checks]
    repo = repositories.from_settings(settings.repository, {})
    (found,) = operations_verify.catalog.entries(repo, "objects", "shop")
    assert found.proven_at


def test_each_night_reads_what_is_due_until_all_was_read(
    weed: SeaweedFS, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that no listing shows is found within the stated days, wherever it is."""
    settings = dataclasses.replace(settings, vault=dataclasses.replace(settings.vault, read_days=4))
    for number in range(20):
        weed.client.put_object(Bucket=settings.objects.bucket, Key=f"more/{number}", Body=b"%d" % number)
    take.take(Opened(settings), log=lambda _: None)
    monkeypatch.setattr(objects_proof, "LEAST", 1)
    read: list[set[str]] = []
    real = objects_proof.mirror_verify.verify_objects

    def verified(run: Opened, listing: Any, *rest: Any, **more: Any) -> list[checks.Check]:
        rows = list(listing)
        read.append({row.key for row in rows})
        return real(run, rows, *rest, **more)

    monkeypatch.setattr(objects_proof.mirror_verify, "verify_objects", verified)
    today = datetime.now(timezone.utc)
    for days in range(4):
        monkeypatch.setattr(objects_proof.clock, "now", lambda days=days: today + timedelta(days=days))
        result = prove(settings, record=days < 3)
        assert result.verdict == checks.PASS, result.checks
    assert len(read[0]) == 24, "nothing is known of before: what was due in a week"
    said = next(check.detail for check in result.checks if check.name == "restore")
    assert "objects, whose turn it is: each is read once in 4 days, into" in said
    assert read[1] and not read[1] & read[2], "another part each night"
    monkeypatch.setattr(objects_proof.clock, "now", lambda: today + timedelta(days=4))
    prove(settings)
    assert read[1] | read[2] | read[4] == read[0], "and all of them in four; what was not to be recorded comes again"


def versions(settings: Config, key: str) -> list[bucket.Version]:
    return [version for version in bucket.versions(buckets.vault(Opened(settings)), key) if not version.deleted]


def lose_version(weed: SeaweedFS, settings: Config) -> None:
    (one,) = versions(settings, "c.json")
    weed.client.delete_object(Bucket=settings.vault.objects_bucket, Key="c.json", VersionId=one.version)


def lose_all(weed: SeaweedFS, settings: Config) -> None:
    for key in OBJECTS:
        for version in versions(settings, key):
            weed.client.delete_object(Bucket=settings.vault.objects_bucket, Key=key, VersionId=version.version)


def cut_listing(weed: SeaweedFS, settings: Config) -> None:
    path = next(Path(settings.backup_directory).glob("objects/*/listing.jsonl.gz"))
    path.write_bytes(path.read_bytes()[:-1])


BROKEN: list[tuple[str, Callable[[SeaweedFS, Config], None], str, str]] = [
    ("a version is gone", lose_version, "versions", "the vault no longer has these versions: 1 (c.json)"),
    ("all are gone", lose_all, "versions", "no longer has these versions: 4 ("),
    ("the listing was cut", cut_listing, "checksums", "listing.jsonl.gz has"),
]


@pytest.mark.parametrize(
    ("break_it", "check", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_what_is_broken_is_named(
    weed: SeaweedFS,
    settings: Config,
    taken: Manifest,
    break_it: Callable[[SeaweedFS, Config], None],
    check: str,
    words: str,
) -> None:
    assert prove(settings, "archive", record=False).verdict == checks.PASS
    break_it(weed, settings)
    result = prove(settings)
    assert result.verdict == checks.FAIL
    bad = [found for found in result.checks if found.result != checks.PASS]
    assert [found.name for found in bad] == [check]
    assert words in bad[0].detail
    assert left(weed) == []


def test_the_scratch_bucket_takes_what_the_vault_took(weed: SeaweedFS, settings: Config) -> None:
    """Without versions SeaweedFS refuses long names, and makes text/plain of a .txt of unknown type."""
    for key in ("k" * 1024, "dir/", "dir/b.txt"):
        body = b"" if key.endswith("/") else b"x"
        kind = "application/octet-stream"
        weed.client.put_object(Bucket=settings.objects.bucket, Key=key, Body=body, ContentType=kind)
    take.take(Opened(settings), log=lambda _: None)
    result = prove(settings)
    assert result.verdict == checks.PASS, result.checks
    assert left(weed) == []


def test_what_was_adopted_is_compared_by_its_version(
    weed: SeaweedFS, settings: Config, make_bucket: MakeBucket
) -> None:
    """It was in the vault before that kept versions: it is version `null`, also when others came after it."""
    vault = make_bucket(weed)
    settings = dataclasses.replace(settings, vault=dataclasses.replace(settings.vault, objects_bucket=vault))
    for key, body in OBJECTS.items():
        weed.client.put_object(
            Bucket=vault, Key=key, Body=body, ContentType="text/x-own", Metadata={"who": "me"}, Tagging="kind=test"
        )
    weed.client.put_bucket_versioning(Bucket=vault, VersioningConfiguration={"Status": "Enabled"})
    take.take(Opened(settings), log=lambda _: None)
    assert [version.version for version in versions(settings, "a.txt")] == ["null"], "adopted"
    weed.client.put_object(Bucket=vault, Key="a.txt", Body=b"other", ContentType="text/later")
    result = prove(settings)
    assert result.verdict == checks.PASS, result.checks


def test_a_newer_state_of_the_vault_does_not_matter(weed: SeaweedFS, settings: Config, taken: Manifest) -> None:
    """Overwritten and deleted since: the listing names versions, and those are still there."""
    weed.client.put_object(Bucket=settings.vault.objects_bucket, Key="a.txt", Body=b"later")
    weed.client.delete_object(Bucket=settings.vault.objects_bucket, Key="c.json")
    assert prove(settings).verdict == checks.PASS


def test_a_vault_that_does_not_answer_proves_nothing(settings: Config, taken: Manifest) -> None:
    away = config.from_mapping(
        {
            "stack": "shop",
            "runtime": {"project": "shop"},
            "repository": vars(settings.repository),
            "objects": {"bucket": settings.objects.bucket, "endpoint_url": "http://127.0.0.1:9"},
            "vault": {"objects_bucket": settings.vault.objects_bucket, "endpoint_url": "http://127.0.0.1:9"},
        },
        settings.secrets,
    )
    result = prove(away, "archive")
    assert result.verdict == checks.COULD_NOT_VERIFY
    assert prove(settings, "archive").verdict == checks.PASS, "it is not called broken for that"


@pytest.fixture
def writer(weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key that may make no bucket."""
    from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
    from botocore.exceptions import ClientError

    real = Bucket("x", weed.url, "", "", weed.access_key, weed.secret_key).client

    def refuse(**_: Any) -> None:
        answer = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "CreateBucket")

    monkeypatch.setattr(real, "create_bucket", refuse)
    monkeypatch.setattr(Bucket, "client", real)
    yield


def test_a_key_that_may_make_no_bucket(settings: Config, taken: Manifest, writer: None) -> None:
    result = prove(settings)
    assert result.verdict == checks.COULD_NOT_VERIFY
    assert f"buckets named {objects_proof.PREFIX}*" in result.checks[-1].detail


def test_what_a_killed_verification_left_is_removed(weed: SeaweedFS, settings: Config, taken: Manifest) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        objects_proof._scratch(settings, buckets.vault(Opened(settings)), lambda _: None) as made,
    ):
        raise KeyboardInterrupt
    assert made.name not in left(weed), "interrupted, it cleans up"
    old = datetime.now(timezone.utc) - timedelta(days=2)
    prefix = made.name.rsplit("-", 2)[0]
    stale, foreign = f"{prefix}-{old:%Y%m%d%H%M%S}-abcdef", f"{objects_proof.PREFIX}00000000-{old:%Y%m%d%H%M%S}-abcdef"
    for name in (stale, foreign):
        weed.client.create_bucket(Bucket=name)
    weed.client.put_object(Bucket=stale, Key="x", Body=b"x")
    assert prove(settings).verdict == checks.PASS
    assert left(weed) == [foreign], "another stack's is not ours"
    weed.client.delete_bucket(Bucket=foreign)
