# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of an object, a version or a vault, where a server's answer alone would mislead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client, signed
from s3_faults import Call, Fault, Reply, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World
from test_quirks import details, through, unheld

MakeBucket = Callable[[Server], str]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT", 5)
    monkeypatch.setattr(signed, "_PAUSE", 0.01)


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    names = (make_bucket(weed), make_bucket(weed))
    for name in names:
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return World(tmp_path, weed, weed, names)


# --- a vault that takes an object and does not have it ---


def forgets(key: str, etag: str) -> Fault:
    """It answers 200 to the PUT, with that ETag, and keeps nothing."""
    reply = Reply(headers={"ETag": f'"{etag}"'} if etag else {})
    return lambda call: reply if call.method == "PUT" and call.key == key else None


MD5_OF_1 = "c4ca4238a0b923820dcc509a6f75849b"


@pytest.mark.parametrize("etag", ["", MD5_OF_1], ids=["is read back", "is believed at first"])
@pytest.mark.parametrize("exact", [False, True], ids=["of now", "of an instant"])
def test_what_the_vault_took_and_does_not_have_is_unheld(world: World, weed: SeaweedFS, etag: str, exact: bool) -> None:
    """A 404 of the vault does not mean that the source's object was deleted, and stops no later mirror."""
    for number in range(4):
        world.put(f"key {number}", b"%d" % number)
    if exact:
        world.database()
    with faulty(weed, forgets("key 1", etag)) as proxy:
        for _ in range(2):
            manifest = through(world, vault=proxy)
            assert sorted(world.listing(manifest)) == ["key 0", "key 2", "key 3"]
            assert list(unheld(manifest)) == ["key 1"]
            assert "does not" in unheld(manifest)["key 1"]
        assert details(through(world)).objects == 4, "as soon as it keeps it"


def test_a_key_that_may_not_read_back_is_not_called_an_unreadable_source(world: World, weed: SeaweedFS) -> None:
    world.put("a", b"1")

    def fault(call: Call) -> Reply | None:
        if call.key == "a" and call.method == "GET":
            return error(403, "AccessDenied")
        return forgets("a", "")(call)

    with faulty(weed, fault) as proxy, pytest.raises(client.LifeboatError, match=r"write the object .*access denied"):
        through(world, vault=proxy)
