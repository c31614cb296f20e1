# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a real gateway of Ceph shows. `make rgw` runs these; see conftest.collect_ignore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_servers
import urllib3
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import vault, writer
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.writer import CAN, HELD
from botocore.exceptions import ClientError
from conftest import BUCKETS, WRITER, MakeBucket
from s3_servers import SeaweedFS, Server
from test_mirror import World
from test_vault import make, short

OBJECTS = BUCKETS[0]
MANY = [f"k/{number:04}%ff" for number in range(1400)]  # more than a page, each with what looks encoded


@pytest.fixture(autouse=True)
def no_vault_left(server: Server) -> Iterator[None]:
    yield
    for bucket in server.client.list_buckets()["Buckets"]:
        if bucket["Name"] in BUCKETS:
            s3_servers.wipe(server.client, bucket["Name"])


def test_a_page_that_ends_in_a_key_which_looks_encoded(
    tmp_path: Path, server: Server, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    """Of 1,400 objects a mirror of before held 1,000, and called itself a success."""
    names = (make_bucket(server), make_bucket(weed))
    for one, name in zip((server, weed), names):
        one.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    source = World(tmp_path, server, weed, names)
    for key in MANY:
        source.put(key)
    source.database()
    assert set(source.listing(source.take())) == {*MANY}


def test_the_vault_blocks_public_access_once(server: Server) -> None:
    one = make(server, repository_bucket="")
    assert f"{OBJECTS}: block public access" in short(vault.ensure(one))
    assert vault.ensure(one) == vault.ensure(one, check=True) == []
    for acl in ("bucket-owner-full-control", "public-read"):
        server.client.put_object(Bucket=OBJECTS, Key="a", Body=b"1", ACL=acl)
    stranger = urllib3.PoolManager()
    assert stranger.request("GET", f"{server.url}/{OBJECTS}/a").status == 403
    server.client.delete_public_access_block(Bucket=OBJECTS)
    assert stranger.request("GET", f"{server.url}/{OBJECTS}/a").status == 200, "the object itself is public"


def test_the_writer_can_write_and_cannot_destroy(server: Server) -> None:
    vault.ensure(make(server))
    key = server.connect(WRITER["access_key"], WRITER["secret_key"])
    first = key.put_object(Bucket=OBJECTS, Key="a", Body=b"1")["VersionId"]
    key.put_object(Bucket=OBJECTS, Key="a", Body=b"2")
    with pytest.raises(ClientError, match="AccessDenied"):
        key.delete_object(Bucket=OBJECTS, Key="a", VersionId=first)
    key.delete_object(Bucket=OBJECTS, Key="a")
    assert len(server.client.list_object_versions(Bucket=OBJECTS)["Versions"]) == 2
    admin = {"access_key": server.access_key, "secret_key": server.secret_key}
    found = writer.attempt(make(server, keys=WRITER), **admin)
    assert found.those(CAN, writer.DESTROYS) == [], found.acts
    assert {found.acts[act].state for act in ("delete versions", "make objects public")} == {HELD}, found.acts
