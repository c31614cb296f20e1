# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention tells the mirror of objects to keep, where the backups that name it are hidden or overwritten.

It is no attack by a public face: what is passed on is seen inside alone, as bytes are deleted days later at soonest.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import prune as mirror_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.prune import Pruned
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import OBJECTS, make_config, make_manifest
from conftest import MakeBucket
from s3_servers import SeaweedFS


def test_the_mirror_keeps_what_a_hidden_listing_names(
    weed: SeaweedFS, make_bucket: MakeBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes in the mirror stay as long as the backup that names them can be found by its versions."""
    bucket, now = make_bucket(weed), datetime.now(timezone.utc).replace(microsecond=0)
    weed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    vault = {"noncurrent_days": 30, "objects_bucket": "mirror", "endpoint_url": "http://127.0.0.1:1"}
    source = {"service": "minio", "bucket": "uploads", "endpoint_url": "http://127.0.0.1:1"}
    place = {
        "type": "s3", "bucket": bucket, "prefix": "shop", "endpoint_url": weed.url,
        "staging_root": str(tmp_path / "staging"),
    }  # fmt: skip
    keys = {"s3_access_key": weed.access_key, "s3_secret_key": weed.secret_key}
    config = dataclasses.replace(make_config(tmp_path, repository=place, vault=vault, objects=source), secrets=keys)
    repo, data, manifests = repositories.repository_of(Opened(config)), b"listing", []
    for days in (2, 1, 0):
        at = now - timedelta(days=days)
        listing = Artefact("listing.jsonl.gz", len(data), hashlib.sha256(data).hexdigest())
        manifest = make_manifest(at, id=backup_id("objects", at), component="objects", artefacts=(listing,))
        manifest = dataclasses.replace(manifest, details={**OBJECTS, "consistency": "eventual"})
        with repo.stage("objects", manifest.id) as staging:
            (staging.path / listing.name).write_bytes(data)
            staging.publish(manifest.to_bytes())
        manifests.append(manifest)
    hide, lie = (f"shop/objects/{manifest.id}/manifest.json" for manifest in manifests[:2])
    weed.client.delete_object(Bucket=bucket, Key=hide)
    other = dataclasses.replace(manifests[1], details={**OBJECTS, "consistency": "eventual", "objects": 0})
    weed.client.put_object(Bucket=bucket, Key=lie, Body=other.to_bytes())
    named: list[tuple[str, str, bytes]] = []

    def capture(run: Opened, kept: list[Point], newest: datetime, *, dry_run: bool) -> Pruned:
        del run, newest, dry_run
        for point in kept:
            with point.repo.open("objects", point.id, point.artefact) as stream:
                named.append((point.id, point.manifest.seal, stream.read()))
        return Pruned()

    monkeypatch.setattr(mirror_prune, "prune", capture)
    result = prune.prune(Opened(config), now=now, dry_run=False, log=len)
    assert result["versions"]["waits"] == ""
    assert sorted(named) == sorted((manifest.id, manifest.seal, data) for manifest in manifests)
    assert set(result["hidden"]) == {manifest.id for manifest in manifests[:2]}
