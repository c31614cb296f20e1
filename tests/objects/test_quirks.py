# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What single servers do that others do not: SeaweedFS itself, and others as s3_quirks reproduces them before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Proxy, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World

MakeBucket = Callable[[Server], str]


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    names = (make_bucket(weed), make_bucket(weed))
    for name in names:
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return World(tmp_path, weed, weed, names)


def unheld(manifest: Manifest) -> dict[str, str]:
    return {row.key: row.why for row in manifest.detailed(ObjectsDetails).unheld}


def through(world: World, vault: Proxy | None = None, source: Proxy | None = None) -> Manifest:
    """A mirror whose requests pass a proxy at either end."""
    config = world.config
    if vault:
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=vault.url))
    if source:
        config = dataclasses.replace(config, objects=dataclasses.replace(config.objects, endpoint_url=source.url))
    return take.take(Opened(config), log=world.lines.append)


# --- SeaweedFS itself ---


def test_an_object_without_a_name_is_named_and_costs_nothing_else(world: World, weed: SeaweedFS) -> None:
    """SeaweedFS lists objects named / and \\ with an empty key; DELETE /bucket/ removes a bucket with all in it."""
    for key in ("a", "/", "\\"):
        world.put(key)
    world.vault.ask("PUT", "\\", body=b"planted", attempted="plant")
    assert "" in {version.key for version in bucket.versions(world.vault)}
    begun = weed.client.create_multipart_upload(Bucket=world.vault.name, Key="/")
    with faulty(weed) as proxy:
        for _ in range(2):
            world.database()
            manifest = through(world, vault=proxy)
            assert list(world.listing(manifest)) == ["a"]
            assert list(unheld(manifest)) == [""]
            assert "empty name" in unheld(manifest)[""]
            assert manifest.detailed(ObjectsDetails).removed == 0
    assert begun["UploadId"]
    assert not [call for call in proxy.calls if not call.key and call.method in ("PUT", "DELETE")]
    assert bucket.versioning(world.vault) == "Enabled", "the vault is still there"
