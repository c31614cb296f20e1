# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags that change in place: they reach the vault within the period, and a backup gives back those of its time."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import s3_quirks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back, sweep, take, verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldTags, ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Reply, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World, body_of, listed, other, versioned
from test_quirks import through, unheld

MakeBucket = Callable[[Server], str]
DAYS = 3
KEYS = [f"key {number}" for number in range(12)]
DAY = 86_400


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    """Mirrored once, each object with a tag."""
    made = versioned(tmp_path, weed, make_bucket)
    made.config = dataclasses.replace(made.config, objects=dataclasses.replace(made.config.objects, tags_days=DAYS))
    for key in KEYS:
        made.put(key, key.encode(), {"x-amz-tagging": "state=new&n=a%20b%2B"})
    made.database()
    return made


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the sweep take it for so many nights later."""

    def later(number: int) -> None:
        monkeypatch.setattr(sweep, "time", SimpleNamespace(time=lambda: time.time() + number * DAY))

    return later


def retag(world: World, key: str, **tags: str) -> None:
    """As any client does it: no new version."""
    said = [{"Key": name, "Value": value} for name, value in tags.items()]
    world.source.client.put_object_tagging(Bucket=world.source.name, Key=key, Tagging={"TagSet": said})


def tags_of(where: Bucket, key: str) -> dict[str, str]:
    return dict(copier.tags(where, key) or [])


def told(manifest: Manifest) -> HeldTags:
    found = manifest.detailed(ObjectsDetails).primary.tags
    assert found is not None
    return found


def asked_for_tags(calls: list[Call]) -> Counter[str]:
    return Counter(call.key for call in calls if "tagging" in call.query and call.key)


def test_a_tag_changed_in_place_reaches_the_vault_within_the_period(
    world: World, weed: SeaweedFS, night: Callable[[int], None]
) -> None:
    world.take()
    for key in KEYS[1:]:
        retag(world, key, state="changed", more="é")
    retag(world, KEYS[1])
    asked: Counter[str] = Counter()
    changed = 0
    with faulty(weed) as source, faulty(weed) as vault:
        for number in range(1, DAYS + 1):
            night(number)
            source.calls.clear()
            vault.calls.clear()
            manifest = through(world, vault=vault, source=source)
            found = told(manifest)
            asked += asked_for_tags(source.calls)
            changed += found.changed
            assert manifest.detailed(ObjectsDetails).primary.copied == 0
            assert found.read == asked_for_tags(source.calls).total() < len(KEYS)
            assert asked_for_tags(vault.calls).total() == 2 * found.changed, "put, and read back"
            source.calls.clear()
            again = through(world, source=source)
            assert (asked_for_tags(source.calls), told(again).read) == ({}, 0), "that night's share was read"
    assert asked == Counter(KEYS)
    assert (changed, told(again).unknown) == (len(KEYS) - 1, 0)
    rows = world.listing(again)
    for key in KEYS:
        assert tags_of(world.vault, key) == tags_of(world.source, key)
    assert (rows[KEYS[0]]["tags"], rows[KEYS[1]]["tags"]) == ("n=a%20b%2B&state=new", "")
    assert rows[KEYS[2]]["tags"] == "more=%C3%A9&state=changed"
    assert told(again).as_of == min(row["tags_as_of"] for row in rows.values())


def test_where_a_listing_tells_tags_a_change_is_seen_the_same_night(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MinIO lists them. What it lists is asked for: of a key that may not read tags it lists none."""
    monkeypatch.setattr(bucket, "KEYS", 5)
    world.take()
    retag(world, KEYS[2], state="changed", more="é =+ x")
    retag(world, KEYS[7])
    with faulty(weed, edit=s3_quirks.minio_tells_tags(weed), calls_itself="MinIO") as source:
        manifest = through(world, source=source)
        assert asked_for_tags(source.calls) == {KEYS[2]: 1, KEYS[7]: 1}
        listings = [call for call in source.calls if not call.key and {"versions", "list-type"} & call.query.keys()]
        assert len(listings) == 3, "a page of five objects each, and no second listing"
        assert all("metadata" in call.query for call in listings)
        assert (told(manifest).read, told(manifest).changed) == (2, 2)
        source.calls.clear()
        again = through(world, source=source)
        assert (asked_for_tags(source.calls), told(again).read) == ({}, 0)
    for key in KEYS:
        assert tags_of(world.vault, key) == tags_of(world.source, key)
    assert world.listing(again)[KEYS[2]]["tags"] == "more=%C3%A9%20%3D%2B%20x&state=changed"
    retag(world, KEYS[3], state="changed")
    with faulty(weed, calls_itself="MinIO") as source:
        assert told(through(world, source=source)).read == 0, "it calls itself so and tells none: in their turn"
        pages = len([call for call in source.calls if "metadata" in call.query])
        assert pages <= 4, "neither listing is asked for them to the end; the next page is asked for ahead"
    with faulty(weed) as source:
        through(world, source=source)
        assert not [call for call in source.calls if "metadata" in call.query]


@pytest.mark.parametrize("now", [False, True], ids=["as of an instant", "the current state"])
@pytest.mark.parametrize("of_versions", [True, False], ids=["tells them of versions", "before 2023"])
def test_what_a_listing_tells_of_tags_is_that_of_the_objects_that_are_mirrored(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch, now: bool, of_versions: bool
) -> None:
    """One listing tells both, or a second one tells the tags; old versions have others, and markers none."""
    monkeypatch.setattr(bucket, "KEYS", 5)
    if now:
        for backup in list(world.root.rglob("db_backup_*")):
            shutil.rmtree(backup)
    edit = s3_quirks.minio_tells_tags(weed, of_versions=of_versions)
    with faulty(weed, edit=edit, calls_itself="MinIO") as source:
        through(world, source=source)
        world.put(KEYS[1], b"new", {"x-amz-tagging": "state=newer"})
        world.source.client.delete_object(Bucket=world.source.name, Key=KEYS[2])
        time.sleep(0 if now else 1.1)  # for a mirror of that instant
        if not now:
            world.database()
        through(world, source=source, override=True)
        retag(world, KEYS[1], state="changed +:=@ / more")
        retag(world, KEYS[3], a="1", b="2")
        source.calls.clear()
        manifest = through(world, source=source)
        assert asked_for_tags(source.calls) == {KEYS[1]: 1, KEYS[3]: 1}
        listings = [call for call in source.calls if not call.key and {"versions", "list-type"} & call.query.keys()]
        kinds = {"list-type" if "list-type" in call.query else "versions" for call in listings}
        assert kinds == ({"list-type"} if now else {"versions"} if of_versions else {"versions", "list-type"})
        assert (told(manifest).read, told(manifest).changed) == (2, 2)
    for key in (*KEYS[:2], *KEYS[3:]):
        assert tags_of(world.vault, key) == tags_of(world.source, key)


def test_metadata_whose_name_is_no_xml_costs_the_tags_alone(world: World, weed: SeaweedFS) -> None:
    """MinIO makes an element of each, whatever it is called: the listing is asked for once more without."""
    world.take()
    world.put("more", b"more")
    world.database()
    tells = s3_quirks.minio_tells_tags(weed)

    def edit(call: Call, body: bytes) -> bytes:
        return tells(call, body).replace(b"content-type>", b"x-amz-meta-a+b>")

    with faulty(weed, edit=edit, calls_itself="MinIO") as source:
        manifest = through(world, source=source)
    assert told(manifest).read == 0
    assert (
        manifest.detailed(ObjectsDetails).primary.copied,
        manifest.detailed(ObjectsDetails).primary.consistency,
    ) == (1, "snapshot")
    assert len([line for line in world.lines if "does not list its objects' tags" in line]) == 1


@pytest.mark.parametrize("answer", [error(403, "AccessDenied"), error(501, "NotImplemented")])
def test_a_refused_listing_of_tags_costs_no_backup(world: World, weed: SeaweedFS, answer: Reply) -> None:
    world.take()

    def fault(call: Call) -> Reply | None:
        return answer if "metadata" in call.query else None

    with faulty(weed, fault, calls_itself="MinIO") as source:
        assert told(through(world, source=source)).read == 0
    assert any("does not list its objects' tags, so they are read in their turn" in line for line in world.lines)


def test_a_backup_gives_back_the_tags_of_its_time(
    world: World, weed: SeaweedFS, make_bucket: MakeBucket, night: Callable[[int], None]
) -> None:
    world.put("large", b"x" * (9 << 20), {"x-amz-tagging": "state=new&n=a%20b%2B"})
    world.database()
    first = world.listing(world.take())
    for key in first:
        retag(world, key, state="changed")
    for number in range(1, DAYS + 1):
        night(number)
        second = world.listing(world.take())
    assert {key: row["vault_version"] for key, row in first.items()} == {
        key: row["vault_version"] for key, row in second.items()
    }, "one copy in the vault serves both"
    target = other(world, weed, make_bucket)
    run, log = Opened(world.config), world.lines.append
    for rows, tags in ((first, {"state": "new", "n": "a b+"}), (second, {"state": "changed"}), (first, None)):
        wanted = {"state": "new", "n": "a b+"} if tags is None else tags
        assert back.copy_back(run, listed(rows), target, log=log).copied == len(first)
        assert {key: tags_of(target, key) for key in rows} == dict.fromkeys(rows, wanted)
        assert [check.result for check in verify.verify_objects(run, listed(rows), target)] == [PASS] * 3
        assert back.copy_back(run, listed(rows), target, log=log).copied == 0, "it is right now"


def refuses_tags(call: Call) -> Reply | None:
    sent = call.method == "PUT" and "tagging" in call.query
    return error(400, "InvalidTag") if call.key and (sent or "x-amz-tagging" in call.headers) else None


def test_a_vault_that_refuses_tags_names_them_and_holds_the_bytes(
    world: World, weed: SeaweedFS, make_bucket: MakeBucket, night: Callable[[int], None]
) -> None:
    world.put("plain")
    world.put("large", b"x" * (9 << 20), {"x-amz-tagging": "a=1"})
    world.database()
    with faulty(weed, refuses_tags) as vault:
        manifest = through(world, vault=vault)
        rows, found = world.listing(manifest), told(manifest)
        retag(world, "plain", state="changed")
        night(DAYS)
        vault.calls.clear()
        later = through(world, vault=vault)
    details = manifest.detailed(ObjectsDetails)
    assert (details.primary.in_no_backup, details.primary.objects) == (0, len(KEYS) + 2)
    assert (found.refused_count, {lost.key for lost in found.refused}) == (len(KEYS) + 1, {*KEYS, "large"})
    assert "InvalidTag" in found.refused[0].why
    assert any("WARNING: the vault does not keep the tags of 13 objects" in line for line in world.lines)
    assert [lost.key for lost in told(later).refused] == ["plain"], "what is as it was is not tried again"
    assert asked_for_tags(vault.calls) == {"plain": 1}
    target = other(world, weed, make_bucket)
    done = back.copy_back(Opened(world.config), listed(rows), target, log=world.lines.append)
    assert (done.copied, done.failed_count) == (len(rows), 0)
    assert (body_of(target, "key 1"), tags_of(target, "key 1")) == (b"key 1", {"state": "new", "n": "a b+"})
    assert tags_of(target, "large") == {"a": "1"}


def test_tags_that_an_upload_in_parts_loses_are_put_afterwards(world: World, weed: SeaweedFS) -> None:
    world.put("large", b"x" * (9 << 20), {"x-amz-tagging": "a=1&b=c%20d"})
    world.database()
    with faulty(weed, s3_quirks.rgw_tags_of_parts()) as vault:
        manifest = through(world, vault=vault)
        assert dict(copier.tags(dataclasses.replace(world.vault, endpoint_url=vault.url), "large") or []) == {
            "a": "1", "b": "c d",
        }  # fmt: skip
    assert told(manifest).refused == ()
    assert [call.key for call in vault.calls if call.method == "PUT" and "tagging" in call.query] == ["large"]


def test_a_killed_sweep_goes_on(world: World, night: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    world.take()
    for key in KEYS:
        retag(world, key, state="changed")
    night(DAYS)  # every object has had its turn
    asked: list[str] = []
    real = copier.tags

    def tags(bucket: Bucket, key: str, version: str = "") -> copier.Tags | None:
        if bucket.name == world.source.name:
            if len(asked) >= len(KEYS) // 2 and dies:
                raise LifeboatError("read the tags", key, "killed")
            asked.append(key)
        return real(bucket, key, version)

    monkeypatch.setattr(copier, "tags", tags)
    world.config = dataclasses.replace(world.config, objects=dataclasses.replace(world.config.objects, transfers=1))
    dies = True
    with pytest.raises(LifeboatError, match="killed"):
        world.take()
    dies = False
    done = told(world.take())
    assert sorted(asked) == sorted(KEYS), "each was read once in both runs together"
    assert done.read == len(KEYS) - len(KEYS) // 2
    for key in KEYS:
        assert tags_of(world.vault, key) == {"state": "changed"}


def test_tags_that_may_not_be_read_are_named_and_stay_on_record(
    world: World, weed: SeaweedFS, night: Callable[[int], None]
) -> None:
    before = world.listing(world.take())
    night(DAYS)
    with faulty(
        weed, lambda call: error(403, "AccessDenied") if "tagging" in call.query and call.key else None
    ) as proxy:
        manifest = through(world, source=proxy)
    found = told(manifest)
    assert (found.read, found.unread_count, len(found.unread)) == (0, len(KEYS), len(KEYS))
    assert any("WARNING: the tags could not be read of 12 objects" in line for line in world.lines)
    assert world.listing(manifest) == before
    assert told(world.take()).read == len(KEYS), "they have their turn again"


def test_what_was_recorded_counts_and_not_what_the_vault_has_now(world: World) -> None:
    """Headers and metadata too: a server at which the copy lost one does not make the record wrong."""
    world.put("a", b"a", {"content-type": "text/x", "x-amz-meta-own": "1  2"})
    world.database()
    row = world.listing(world.take())["a"]
    assert row["headers"] == "content-type=text%2Fx&x-amz-meta-own=1%20%202"
    wrong = dataclasses.replace(listed({"a": row})[0], headers="content-type=text%2Fy")
    found = verify.verify_objects(Opened(world.config), [wrong], world.source)
    assert "other content-type" in found[-1].detail or "does not keep the content-type" in found[-1].detail
    assert take.JOURNAL not in {path.name for path in world.config.state.iterdir()}


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("MethodNotAllowed", 405)])
def test_tags_that_may_not_be_read_cost_no_new_object_its_bytes(
    world: World, weed: SeaweedFS, night: Callable[[int], None], code: str, status: int
) -> None:
    """One object whose tags may not be read ended the mirror of all."""
    world.put("new", b"new", {"x-amz-tagging": "a=b"})
    world.database()

    def refuses(call: Call) -> Reply | None:
        return error(status, code) if "tagging" in call.query and call.key == "new" else None

    with faulty(weed, refuses) as proxy:
        manifest = through(world, source=proxy)
        row = world.listing(manifest)["new"]
        assert (world.held(row), row["tags"], row["tags_as_of"]) == (b"new", None, None)
        found = told(manifest)
        assert (found.unknown, [named.key for named in found.unread], unheld(manifest)) == (1, ["new"], {})
        assert any("the tags could not be read of 1 objects" in line and "'new'" in line for line in world.lines)
        assert through(world, source=proxy).detailed(ObjectsDetails).primary.copied == 0
    night(DAYS)
    assert world.listing(world.take())["new"]["tags"] == "a=b", "in its turn"
    assert tags_of(world.vault, "new") == {"a": "b"}
