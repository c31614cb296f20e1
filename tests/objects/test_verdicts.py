# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of an object, a version or a vault, where a server's answer alone would mislead."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import s3_quirks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import prune, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import compare, proof
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, client, copier, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Edit, Fault, Reply, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World, listed, versioned
from test_quirks import details, through, unheld

MakeBucket = Callable[[Server], str]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT", 5)
    monkeypatch.setattr(signed, "_PAUSE", 0.01)


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    return versioned(tmp_path, weed, make_bucket)


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
        assert details(through(world)).primary.objects == 4, "as soon as it keeps it"


def test_a_key_that_may_not_read_back_is_not_called_an_unreadable_source(world: World, weed: SeaweedFS) -> None:
    world.put("a", b"1")

    def fault(call: Call) -> Reply | None:
        if call.key == "a" and call.method == "GET":
            return error(403, "AccessDenied")
        return forgets("a", "")(call)

    with faulty(weed, fault) as proxy, pytest.raises(client.LifeboatError, match=r"write the object .*access denied"):
        through(world, vault=proxy)


# --- what is not ours, and what cannot be believed ---


def test_what_no_mirror_put_into_the_vault_stays(world: World) -> None:
    for key in ("a", "b", "c", "d", "dir/"):
        world.put(key, b"" if key == "dir/" else b"1")
    world.vault.ask("PUT", "theirs", body=b"foreign", attempted="plant")
    first = world.take()
    for key in ("d", "dir/"):
        world.delete(key)
    assert details(world.take()).primary.removed == 1
    assert {version.key for version in bucket.objects(world.vault)} == {"a", "b", "c", "dir/", "theirs"}
    assert any("1 objects in s3://" in line and "the first is 'theirs': they stay" in line for line in world.lines)
    repo = repositories.from_settings(world.config.repository, {})
    checks = proof.levels(Opened(world.config), repo, first, "archive", 0, world.lines.append)
    assert {check.name: check.result for check in checks}["versions"] == PASS, "the placeholder too"


def test_a_listing_that_cannot_be_believed_prunes_nothing(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "SETTLED", timedelta())
    for key in ("a", "b", "c", "d"):
        world.put(key)
    world.take()
    time.sleep(1.1)
    world.delete("a")
    world.put("b", b"later")
    kept = Point(repositories.from_settings(world.config.repository, {}), world.take(override=True))
    before = sorted(version.version for version in bucket.versions(world.vault))
    for edit, said in ((s3_quirks.backwards, "it is not in order"), (s3_quirks.versity_times, "is listed as older")):
        with faulty(weed, edit=edit) as proxy:
            vault = dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
            run = Opened(dataclasses.replace(world.config, vault=vault))
            done = prune.prune(run, [kept], datetime.now(timezone.utc) + timedelta(days=40), dry_run=False)
        assert (done.versions, [said in line for line in done.retained]) == (0, [True]), done
    assert sorted(version.version for version in bucket.versions(world.vault)) == before


def test_verify_asks_for_what_the_live_bucket_does_not_list(world: World, weed: SeaweedFS) -> None:
    for key in ("p", "p/b", "q", "r"):
        world.put(key, b"1")
    rows = listed(world.listing(world.take()))
    with faulty(weed, edit=s3_quirks.minio_hides) as proxy:
        live = dataclasses.replace(world.source, endpoint_url=proxy.url)
        run = Opened(world.config)
        assert [check.result for check in verify.verify_objects(run, rows, live)] == [PASS] * 3
        proxy.fault = lambda call: error(403, "AccessDenied") if call.method == "HEAD" and call.key == "p/b" else None
        told = verify.verify_objects(run, rows, live)[0]
        assert (told.result, "'p/b' is not listed and cannot be asked for" in told.detail) == (COULD_NOT_VERIFY, True)
        proxy.fault = lambda call: None
        world.delete("p/b")
        told = verify.verify_objects(run, rows, live)[0]
        assert (told.result, told.detail) == (FAIL, "'p/b' is missing"), "it was asked for, and is not there"


def without_the_first(call: Call, body: bytes) -> bytes:
    """A listing that goes back, and lacks an object."""
    body = s3_quirks.backwards(call, body)
    return re.sub(rb"<Contents>.*?</Contents>", b"", body, count=1, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("edit", "asked"), [(s3_quirks.minio_hides, 100), (without_the_first, 0)], ids=["hidden", "out of order"]
)
def test_what_the_live_bucket_does_not_list_is_asked_for_before_it_is_called_gone(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, edit: Edit, asked: int
) -> None:
    """A recovery would have been planned for objects that are there."""
    monkeypatch.setattr(compare, "ASKED", asked)
    for key in ("p", "p/b", "q", "r"):
        world.put(key, b"1")
    point = Point(repositories.from_settings(world.config.repository, {}), world.take())
    gone: list[str] = []
    with faulty(weed, edit=edit) as proxy:
        for _time in range(2):
            live = dataclasses.replace(world.source, endpoint_url=proxy.url)
            with Inventory() as inventory:
                compare.hold(Opened(world.config), inventory, live, point, log=world.lines.append)
                gone.append(inventory.summary(compare.GONE))
            world.delete("p/b")
    assert gone == ["", "1 (p/b)"], "it was asked for, and is not there"


@pytest.mark.parametrize("exact", [False, True], ids=["of now", "of an instant"])
def test_an_object_that_is_deleted_between_its_bytes_and_its_tags(world: World, weed: SeaweedFS, exact: bool) -> None:
    """A mirror of now ended with an error: the 404 was one of the tags, and not of the object."""
    for key in ("a", "b", "c"):
        world.put(key, b"1234", {"x-amz-tagging": "k=v"})
    if exact:
        world.database()

    def fault(call: Call) -> Reply | None:
        if call.key == "b" and "tagging" in call.query:
            for version in [item.version for item in bucket.versions(world.source, "b")]:
                weed.client.delete_object(Bucket=world.source.name, Key="b", VersionId=version)
        return None

    with faulty(weed, fault) as proxy:
        manifest = through(world, source=proxy)
    assert sorted(world.listing(manifest)) == ["a", "c"]
    assert unheld(manifest) == ({"b": "it is listed and not there"} if exact else {})
    assert copier.facts(world.vault, "a").tags == [("k", "v")]
