# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only a real gateway of Ceph shows. `make rgw` runs these; see conftest.collect_ignore."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import s3_servers
import urllib3
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import vault, writer
from ansible_collections.lifeboat.dr.plugins.module_utils.vault.writer import CAN, HELD
from botocore.exceptions import ClientError
from builders import publish
from conftest import BUCKETS, WRITER, MakeBucket
from s3_servers import SeaweedFS, Server
from test_mirror import World
from test_recover import Case, bad
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


def test_what_was_there_at_the_instant_is_mirrored_and_brought_back(
    tmp_path: Path, server: Server, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    """Written, overwritten and deleted just before and just after it."""
    case = Case(tmp_path, server, make_bucket(server), weed, make_bucket(weed), False)
    server.client.put_bucket_versioning(Bucket=case.bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(key: str, body: bytes) -> None:
        server.client.put_object(Bucket=case.bucket, Key=key, Body=body)

    def delete(key: str) -> None:
        server.client.delete_object(Bucket=case.bucket, Key=key)

    for key in ("stays", "overwritten before", "overwritten after", "deleted before", "deleted after", "and back"):
        put(key, b"first")
    put("overwritten before", b"second")
    delete("deleted before")
    delete("and back")
    put("and back", b"again")
    time.sleep(2.1)  # a listing tells seconds
    publish(tmp_path, datetime.now(timezone.utc))
    time.sleep(2.1)
    put("written after", b"new")
    put("overwritten after", b"third")
    put("deleted before", b"made again")
    delete("deleted after")
    put("and gone", b"new")
    delete("and gone")
    taken = take.take(Opened(case.config), log=case.said.append)
    primary = taken.detailed(ObjectsDetails).primary
    assert (primary.consistency, primary.why) == ("snapshot", "")
    expected = {"stays": b"first", "overwritten before": b"second", "overwritten after": b"first"}
    expected |= {"deleted after": b"first", "and back": b"again"}
    for key in [*expected, "written after", "deleted before"]:
        delete(key)
    assert bad(case.recover()) == []
    names = [row["Key"] for row in server.client.list_objects_v2(Bucket=case.bucket)["Contents"]]
    found = {key: server.client.get_object(Bucket=case.bucket, Key=key)["Body"].read() for key in names}
    assert found == expected


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
