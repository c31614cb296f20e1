# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What single servers do that others do not: SeaweedFS itself, and others as s3_quirks reproduces them before it."""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import s3_quirks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import sides, take
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import probe
from s3_faults import Call, Edit, Proxy, faulty
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
    return {row.key: row.why for row in manifest.detailed(ObjectsDetails).primary.unheld}


def through(world: World, vault: Proxy | None = None, source: Proxy | None = None, override: bool = False) -> Manifest:
    """A mirror whose requests pass a proxy at either end."""
    config = world.config
    if vault:
        config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=vault.url))
    if source:
        config = dataclasses.replace(config, objects=dataclasses.replace(config.objects, endpoint_url=source.url))
    return take.take(Opened(config), log=world.lines.append, override=override)


# --- SeaweedFS itself ---


def test_an_object_without_a_name_is_named_and_costs_nothing_else(world: World, weed: SeaweedFS) -> None:
    """SeaweedFS lists objects named / and \\ with an empty key; DELETE /bucket/ removes a bucket with all in it."""
    for key in ("a", "/", "\\"):
        world.put(key)
    world.vault.ask("PUT", "\\", body=b"planted", attempted="plant")
    assert "" in {version.key for version in bucket.versions(world.vault)}
    begun = weed.client.create_multipart_upload(Bucket=world.vault.name, Key="/")
    world.database()
    with faulty(weed) as proxy:
        for _ in range(2):
            manifest = through(world, vault=proxy)
            assert list(world.listing(manifest)) == ["a"]
            assert list(unheld(manifest)) == [""]
            assert "empty name" in unheld(manifest)[""]
            assert manifest.detailed(ObjectsDetails).primary.removed == 0
    assert begun["UploadId"]
    assert not [call for call in proxy.calls if not call.key and call.method in ("PUT", "DELETE")]
    assert bucket.versioning(world.vault) == "Enabled", "the vault is still there"


# --- MinIO ---


def tar_of(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue()


@pytest.mark.parametrize("body", [tar_of(kept=b"planted"), b""], ids=["a tar", "nothing"])
def test_metadata_that_makes_a_server_unpack_an_object(world: World, weed: SeaweedFS, body: bytes) -> None:
    world.put("kept", b"right")
    world.put("archive", body, {"x-amz-meta-snowball-auto-extract": "true", "content-type": "a/b"})
    world.put("other", b"x", {"x-amz-meta-minio-anything": "x", "x-amz-meta-own": "y"})
    world.database()
    with faulty(weed, s3_quirks.minio_unpacks(weed)) as proxy:
        manifest = through(world, vault=proxy)
        rows = world.listing(manifest)
        assert {key: world.held(row) for key, row in rows.items()} == {"kept": b"right", "archive": body, "other": b"x"}
        assert unheld(manifest) == {}
        held = copier.facts(world.vault, "archive").headers
        assert (held["x-amz-meta-snowball-auto-extract"], held["content-type"]) == ("true", "a/b")
        assert copier.facts(world.vault, "other").headers["x-amz-meta-own"] == "y"
        whole = {call.key for call in proxy.calls if call.method == "PUT" and not call.query}
        assert whole == {"kept"}
        assert through(world, vault=proxy).detailed(ObjectsDetails).primary.copied == 0


def test_a_version_that_was_overwritten_in_place_is_copied_again(world: World, weed: SeaweedFS) -> None:
    """Of equal length: only its ETag tells."""
    world.put("a", b"right")
    for key in "bcdefgh":
        world.put(key, b"other")
    world.database()
    first = world.listing(world.take())
    edit = s3_quirks.minio_overwrites(world.vault.name, "a", first["a"]["vault_version"], "0" * 32)
    with faulty(weed, edit=edit) as proxy:
        manifest = through(world, vault=proxy)
    assert manifest.detailed(ObjectsDetails).primary.copied == 1
    again = world.listing(manifest)
    assert again["a"]["vault_version"] != first["a"]["vault_version"]
    assert world.held(again["a"]) == b"right"
    assert any("something else in 1 versions that were copied, the first is 'a'" in line for line in world.lines)


def test_equal_etags_are_not_believed_where_a_write_can_choose_its_own(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody wrote other bytes of that length into the vault, with the ETag of the right ones."""
    monkeypatch.setattr(probe, "APART", 0.1)
    world.put("a", b"right")
    world.put("same", b"same")
    world.vault.ask("PUT", "same", body=b"same", attempted="adopt it")
    planted = world.vault.ask("PUT", "a", body=b"wrong", attempted="plant it").version
    world.database()
    minio = s3_quirks.Minio(weed, weed.access_key, {"Statement": []})
    etag = copier.digest(world.source, "a", 5)[1]
    edit = s3_quirks.minio_overwrites(world.vault.name, "a", planted, etag)
    with faulty(weed, minio.fault, edit, calls_itself="MinIO") as proxy:
        held = dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        config = dataclasses.replace(world.config, vault=held)
        manifest = components.COMPONENTS["objects"].take(Opened(config), True, world.lines.append)
    rows = world.listing(manifest)
    assert {key: world.held(row) for key, row in rows.items()} == {"a": b"right", "same": b"same"}
    assert manifest.detailed(ObjectsDetails).primary.copied == 1, "what is the same is read, not copied"


# --- Ceph RGW ---


def fill(bucket_of: Bucket, keys: list[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: bucket_of.ask("PUT", key, body=b"x", attempted="fill"), keys))


def test_a_page_that_ends_in_a_key_which_looks_encoded(world: World, weed: SeaweedFS) -> None:
    keys = [f"a/{number:04}%ff" for number in range(700)] + [f"b/{number:04}+x" for number in range(700)]
    fill(world.source, keys)
    world.database()
    with faulty(weed, edit=s3_quirks.rgw_markers) as proxy:
        manifest = through(world, source=proxy)
    assert list(world.listing(manifest)) == sorted(keys)
    assert unheld(manifest) == {}
    markers = [call.query["key-marker"] for call in proxy.calls if "key-marker" in call.query]
    assert markers == ["b/0299+x"]


# --- listings that cannot be believed ---


def details(manifest: Manifest) -> ObjectsDetails:
    return manifest.detailed(ObjectsDetails)


def begun(world: World) -> None:
    """A first mirror of eight objects, so that one more or less is below the guard's limit."""
    for number in range(8):
        world.put(f"key {number}", b"%d" % number)
    world.put("p/b", b"below")
    world.database()
    assert details(world.take()).primary.consistency == "snapshot"


def later(world: World) -> None:
    """The next database backup, in a second of its own."""
    time.sleep(2.1)
    world.database()


def test_what_the_source_gives_is_not_removed_for_not_being_listed(world: World, weed: SeaweedFS) -> None:
    """MinIO: `p` hides `p/b`."""
    begun(world)
    world.put("p", b"above")
    world.delete("key 7")
    later(world)
    with faulty(weed, edit=s3_quirks.minio_hides) as proxy:
        manifest = through(world, source=proxy)
    rows = world.listing(manifest)
    assert {key: world.held(row) for key, row in rows.items()} == {
        **{f"key {number}": b"%d" % number for number in range(7)}, "p": b"above", "p/b": b"below",
    }  # fmt: skip
    told = details(manifest)
    assert (told.primary.consistency, told.primary.removed, unheld(manifest)) == ("eventual", 1, {})
    assert told.primary.why == "the source holds 1 objects that it does not list, the first is 'p/b'"
    assert "p/b" in {version.key for version in bucket.objects(world.vault)}


def test_what_neither_side_lists_is_held_and_not_copied_every_night(world: World, weed: SeaweedFS) -> None:
    """MinIO at both ends: once the vault has `p` too, `p/b` is in the last listing alone."""
    begun(world)
    world.put("p", b"above")
    with faulty(weed, edit=s3_quirks.minio_hides) as source, faulty(weed, edit=s3_quirks.minio_hides) as vault:
        for night in range(3):
            later(world)
            manifest = through(world, vault, source)
            rows = world.listing(manifest)
            assert (len(rows), world.held(rows["p/b"]), unheld(manifest)) == (10, b"below", {}), night
        assert (details(manifest).primary.copied, details(manifest).primary.consistency) == (0, "eventual")
        world.put("p/b", b"changed")
        later(world)
        rows = world.listing(through(world, vault, source))
        assert (len(rows), world.held(rows["p/b"])) == (10, b"changed")
        world.delete("p/b")
        later(world)
        assert sorted(world.listing(through(world, vault, source))) == [*(f"key {number}" for number in range(8)), "p"]


@pytest.mark.parametrize(
    ("edit", "change", "held", "told"),
    [
        # Nothing tells what it was at the instant: it is as it is now, and that is no snapshot.
        (
            s3_quirks.minio_hides_below("p/"), "overwritten", b"changed",
            ("eventual", "1 of them were written later, the first is 'p/b', and are as they are now"),
        ),
        (
            s3_quirks.minio_hides_below("p/"), "deleted", None,
            ("eventual", "the source does not tell when it deleted 1 objects that it hides, the first is 'p/b'"),
        ),
        # A listing of this key alone tells all of its past.
        (
            s3_quirks.minio_hides, "overwritten", b"below",
            ("eventual", "the source holds 1 objects that it does not list, the first is 'p/b'"),
        ),
        (None, "made again", None, ("snapshot", "")),
    ],
    ids=["overwritten", "deleted", "overwritten, and listed where asked for alone", "made after it, and listed"],
)  # fmt: skip
def test_what_is_hidden_and_was_changed_after_the_instant(
    world: World, weed: SeaweedFS, edit: Edit | None, change: str, held: bytes | None, told: tuple[str, str]
) -> None:
    """It is never marked as deleted in a point that is called a snapshot."""
    begun(world)
    world.put("p", b"above")
    if change == "made again":
        world.delete("p/b")
    later(world)
    time.sleep(1.1)
    if change == "deleted":
        world.delete("p/b")
    else:
        world.put("p/b", b"changed")
    with faulty(weed, edit=edit or (lambda call, body: body)) as proxy:
        manifest = through(world, source=proxy)
    rows = world.listing(manifest)
    assert (world.held(rows["p/b"]) if "p/b" in rows else None, unheld(manifest)) == (held, {})
    assert len(rows) == (10 if held else 9)
    assert (details(manifest).primary.consistency, told[1] in details(manifest).primary.why) == (told[0], True), (
        details(manifest).primary.why
    )
    live = {version.key for version in bucket.objects(world.vault)}
    assert ("p/b" in live) == (held is not None)


@pytest.mark.parametrize(
    ("edit", "held", "consistency", "why"),
    [
        # Asked for by its name alone it is listed whole.
        (s3_quirks.minio_hides, b"changed", "snapshot", ""),
        # And where it is not: nothing says what it was.
        (s3_quirks.minio_hides_after("p/"), b"changed", "eventual", "no version of 'p/b' is listed as its latest"),
    ],
    ids=["listed where asked for alone", "hidden there too"],
)
def test_a_page_that_begins_with_an_old_version_is_not_believed(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, edit: Edit, held: bytes, consistency: str, why: str
) -> None:
    """The page before ends with the latest version, and hides it for there is `p`; this one knows of no `p`."""
    begun(world)
    world.put("p", b"above")
    world.put("p/b", b"changed")
    later(world)
    monkeypatch.setattr(bucket, "KEYS", 10)
    monkeypatch.setattr(bucket, "SETTLED", timedelta(hours=1))  # however slow this machine is
    with faulty(weed, edit=edit) as proxy:
        manifest = through(world, source=proxy)
    rows = world.listing(manifest)
    assert {call.query.get("key-marker") for call in proxy.calls} >= {"p/b"}, "the page ends there"
    assert (world.held(rows["p/b"]), len(rows), unheld(manifest)) == (held, 10, {})
    assert (details(manifest).primary.consistency, why in details(manifest).primary.why) == (consistency, True), (
        details(manifest).primary.why
    )


def test_of_many_to_be_removed_some_are_asked_for(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "ASKED", 2)
    begun(world)
    for number in range(4):
        world.delete(f"key {number}")
    later(world)
    with faulty(weed) as proxy:
        told = details(through(world, source=proxy, override=True))
    asked = [call for call in proxy.calls if call.method == "HEAD" and call.key.startswith("key ")]
    assert (told.primary.removed, told.primary.consistency, len(asked)) == (4, "snapshot", 2)


@pytest.mark.parametrize("side", ["source", "vault"])
def test_a_listing_out_of_order_removes_nothing(world: World, weed: SeaweedFS, side: str) -> None:
    begun(world)
    world.delete("key 0")
    world.put("new", b"new")
    later(world)
    with faulty(weed, edit=s3_quirks.backwards) as proxy:
        manifest = through(world, **{side: proxy})
    told = details(manifest)
    assert (told.primary.consistency, told.primary.removed) == ("eventual", 0)
    assert f"the {side}'s listing is not in order" in told.primary.why
    assert world.held(world.listing(manifest)["new"]) == b"new"
    assert "key 0" in {version.key for version in bucket.objects(world.vault)}


def test_what_a_listing_lacks_that_is_not_believed_is_asked_for(world: World, weed: SeaweedFS) -> None:
    """It was mirrored before and is still there: left out of the backup, a recovery would not bring it back."""
    begun(world)
    later(world)

    def lacks(call: Call, body: bytes) -> bytes:
        row = rb"<(Contents|Version)>(?:(?!</\1>).)*?<Key>key(?:%20|[+ ])2</Key>.*?</\1>"
        return re.sub(row, b"", s3_quirks.backwards(call, body), flags=re.DOTALL)

    with faulty(weed, edit=lacks) as proxy:
        manifest = through(world, source=proxy)
    told = details(manifest)
    assert (told.primary.consistency, told.primary.removed, told.primary.unheld) == ("eventual", 0, ())
    assert "the source holds 1 objects that it does not list, the first is 'key 2'" in told.primary.why
    assert "key 2" in world.listing(manifest)


def test_times_that_are_not_those_of_the_writes_are_of_no_instant(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "SETTLED", timedelta())
    begun(world)
    world.put("key 1", b"second")
    later(world)
    time.sleep(1.1)
    world.put("key 1", b"third")
    time.sleep(1.1)
    world.delete("key 2")
    with faulty(weed, edit=s3_quirks.versity_times) as proxy:
        manifest = through(world, source=proxy)
    told = details(manifest)
    rows = world.listing(manifest)
    assert told.primary.consistency == "eventual"
    assert told.primary.why
    assert world.held(rows["key 1"]) == b"third", "as it is now, and said to be"
    assert "key 2" not in rows or told.primary.removed == 0


def test_a_version_whose_time_has_changed_is_of_no_instant(world: World, weed: SeaweedFS) -> None:
    """VersityGW, where no probe was possible: the last mirror saw that version with another time."""
    for number in range(8):
        world.put(f"key {number}", b"%d" % number)
    world.database()
    with faulty(weed, edit=s3_quirks.versity_times) as proxy:
        assert details(through(world, source=proxy)).primary.consistency == "snapshot"
        time.sleep(1.1)
        later(world)
        time.sleep(1.1)
        world.put("key 1", b"second")  # after the database backup, of which `1` is the content
        manifest = through(world, source=proxy)
    told = details(manifest)
    assert (told.primary.consistency, told.primary.removed) == ("eventual", 0)
    assert "a version of 'key 1' is listed with another time than at the last mirror" in told.primary.why
    assert world.held(world.listing(manifest)["key 1"]) == b"second", "as it is now, and said to be"


def by_the_command(world: World, server: Server | Proxy) -> Manifest:
    """As `lifeboat backup objects` takes it: after the probe of the source."""
    objects = dataclasses.replace(world.config.objects, endpoint_url=server.url)
    run = Opened(dataclasses.replace(world.config, objects=objects))
    return components.COMPONENTS["objects"].take(run, False, world.lines.append)


def test_the_probe_finds_out_that_times_are_not_those_of_the_writes(world: World, weed: SeaweedFS) -> None:
    """VersityGW, and nothing in the source's own listing shows it yet: a point would have been called a snapshot."""
    begun(world)
    world.put("key 1", b"second")
    later(world)
    with faulty(weed, edit=s3_quirks.versity_times) as proxy:
        told = details(by_the_command(world, proxy))
        assert told.primary.consistency == "eventual"
        assert told.primary.why.startswith("the source's server does not tell when a version was written: ")
        probed = [call for call in proxy.calls if call.path.startswith("/lifeboat-probe-")]
        by_the_command(world, proxy)
        assert probed == [call for call in proxy.calls if call.path.startswith("/lifeboat-probe-")], "once a day"
    assert details(by_the_command(world, weed)).primary.consistency == "snapshot"


def test_the_probe_sees_what_is_lost_by_way_of_parts(weed: SeaweedFS) -> None:
    """Ceph RGW: the tags of CreateMultipartUpload. The copy puts them afterwards, and the probe is a copy."""
    key = {"access_key": weed.access_key, "secret_key": weed.secret_key}
    with faulty(weed, s3_quirks.rgw_tags_of_parts()) as proxy:
        found = probe.probe(Bucket("nothing-there", proxy.url, **key)).features["tagging"]
    afterwards = [call.key for call in proxy.calls if call.method == "PUT" and "tagging" in call.query]
    assert (found.state, afterwards) == ("supported", ["tagged"])


# What SeaweedFS keeps in another order than that of the keys: names that others continue, beside and below them.
CONTINUED = {
    *(f"photos/{number:02}" for number in range(20)), "photos", "photos-1", "photos-2/a", "photos old/x", "photos.d/x",
    "photos.jpg", "photosa", "photos/05-b", "photos/05/x", "photos/05 (1)", "p", "p/b", "q", "q r/s", "q+r", "q-r", "z",
}  # fmt: skip


@pytest.mark.parametrize("keys", [2, 3, 5, 10, 30])
def test_a_name_that_others_continue_is_listed(
    weed: SeaweedFS, make_bucket: Callable[[Server], str], monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    """SeaweedFS itself: with `photos/...` at the end of a page `photos-1` was in none, and so in no backup."""
    monkeypatch.setattr(bucket, "KEYS", keys)
    name = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    where = Bucket(name, weed.url, access_key=weed.access_key, secret_key=weed.secret_key)
    for key in sorted(CONTINUED):
        where.ask("PUT", key, body=b"x", attempted="write")
    listed = list(bucket.versions(where))
    assert ({version.key for version in listed}, {version.size for version in listed}) == (CONTINUED, {1})
    assert all(version.latest and version.version != "null" for version in listed)
    for larger in (1, bucket._LARGER):
        monkeypatch.setattr(bucket, "_LARGER", larger)
        assert {version.key for version in bucket.objects(where)} == CONTINUED


# --- one object that spoils an answer ---


@pytest.mark.parametrize("versioned", [True, False])
def test_a_page_that_one_key_makes_no_xml(
    world: World, weed: SeaweedFS, make_bucket: MakeBucket, versioned: bool
) -> None:
    if not versioned:
        name = make_bucket(weed)
        world.config = dataclasses.replace(world.config, objects=dataclasses.replace(world.config.objects, bucket=name))
        world.source = dataclasses.replace(world.source, name=name)
    for key in ("a", "c\x01d", "z"):
        world.put(key, key.encode())
    world.database()
    with faulty(weed, edit=s3_quirks.versity_bytes) as proxy:
        manifest = through(world, source=proxy)
    assert list(world.listing(manifest)) == ["a", "z"]
    assert unheld(manifest) == {"c\ufffdd": "the source's listing does not tell its name"}


def test_a_page_that_echoes_what_is_no_xml(world: World, weed: SeaweedFS) -> None:
    for key in ("a", "c\x01d", "z"):
        world.put(key, key.encode())
    world.database()
    with faulty(weed, edit=s3_quirks.rgw_echo) as proxy:
        manifest = through(world, source=proxy)
    assert list(world.listing(manifest)) == ["a", "c\x01d", "z"]
    assert unheld(manifest) == {}


def test_an_object_that_a_server_cannot_give(world: World, weed: SeaweedFS) -> None:
    for key in ("a", "b", "z"):
        world.put(key, key.encode())
    world.database()
    with faulty(weed, s3_quirks.not_implemented("b")) as proxy:
        manifest = through(world, source=proxy)
    assert list(world.listing(manifest)) == ["a", "z"]
    assert list(unheld(manifest)) == ["b"]
    assert "it cannot be read: NotImplemented" in unheld(manifest)["b"]


# --- MinIO's versioning with exceptions ---


@pytest.mark.parametrize("edit", [s3_quirks.minio_excludes, s3_quirks.without_versions])
def test_what_has_no_versions_is_of_no_instant(world: World, weed: SeaweedFS, edit: Edit) -> None:
    """Objects that were written after the database backup and have no past got delete markers."""
    for number in range(8):
        world.put(f"key {number}", b"%d" % number)
    world.put("tmp/a", b"one")
    world.database()
    with faulty(weed, edit=edit) as proxy:
        through(world, source=proxy)
        later(world)
        time.sleep(1.1)
        world.put("tmp/a", b"two")
        manifest = through(world, source=proxy)
    told = details(manifest)
    assert (told.primary.consistency, told.primary.removed) == ("eventual", 0)
    assert "tmp/" in told.primary.why
    assert world.held(world.listing(manifest)["tmp/a"]) == b"two"


def test_a_vault_that_excepts_objects_from_versioning_is_refused(world: World, weed: SeaweedFS) -> None:
    world.put("a")
    said = "its versioning is Enabled except for tmp/, folders, so a mirror would"
    with faulty(weed, edit=s3_quirks.minio_excludes) as proxy, pytest.raises(UsageError, match=said):
        through(world, vault=proxy)


def test_a_version_that_the_vault_does_not_list_is_not_lost(world: World, weed: SeaweedFS) -> None:
    """MinIO as a vault: `p` hides `p/b`, of which a backup from before still needs the version."""
    begun(world)
    repo = repositories.from_settings(world.config.repository, {})
    (first,) = catalog.good(catalog.entries(repo, "objects", world.config.stack))
    world.vault.ask("PUT", "p", body=b"above", attempted="hide it")
    with faulty(weed, edit=s3_quirks.minio_hides) as proxy:
        behind = dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        run = Opened(dataclasses.replace(world.config, vault=behind))
        checks = {check.name: check for check in proof.levels(run, repo, first, "archive", 0, world.lines.append)}
    assert checks["versions"].result == PASS, checks["versions"].detail
