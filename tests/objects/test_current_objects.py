# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Most nights list current objects alone, where versions cost several times as much: what that must never overlook."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import sides, take
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import UNBOUNDED, Bounds
from s3_faults import Call, Proxy, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World, versioned

MakeBucket = Callable[[Server], str]


class Seen(World):
    """A world in which both sides are reached through one proxy. It tells what was listed; of a bucket's own side."""

    proxy: Proxy

    def listed(self, where: Bucket) -> set[str]:
        """How its whole was listed since the last time that was asked."""
        calls = [call for call in self.proxy.calls if call.path.startswith(f"/{where.name}?")]
        del self.proxy.calls[:]
        return {kind for call in calls for kind in ("versions", "list-type") if call.query.get("prefix") == ""
                and kind in call.query}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> Iterator[Seen]:
    with faulty(weed) as proxy:
        made = versioned(tmp_path, weed, make_bucket)
        one = Seen(tmp_path, weed, weed, (made.source.name, made.vault.name))
        objects = dataclasses.replace(one.config.objects, endpoint_url=proxy.url, change_limit=100)
        vault = dataclasses.replace(one.config.vault, endpoint_url=proxy.url)
        one.config = dataclasses.replace(one.config, objects=objects, vault=vault)
        one.proxy = proxy
        yield one


def real(where: Bucket) -> dict[str, str]:
    """The versions of its current objects."""
    return {one.key: one.version for one in bucket.versions(where) if one.latest and not one.deleted}


def details(manifest: Manifest) -> ObjectsDetails:
    return manifest.detailed(ObjectsDetails)


def vault_put(world: World, key: str, body: bytes, **headers: str) -> None:
    """In another second than what came before: SeaweedFS lists whole ones."""
    time.sleep(1.1 - time.time() % 1 if key in real(world.vault) else 0)
    world.vault.ask("PUT", key, headers=headers, body=body, attempted="write beside the mirror")


def filled(world: Seen, snapshot: bool = True) -> Manifest:
    """A mirror of four objects, and what was listed for it is forgotten."""
    for key in "abcd":
        world.put(key, key.encode(), {"content-type": "a/b"})
    if snapshot:
        world.database()
    first = world.take()
    del world.proxy.calls[:]
    return first


def unsettled(world: Seen) -> None:
    """Source and vault tell whole seconds, and everything was written in the one in which the test began."""
    moment = datetime.now(timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", ".000Z").encode()
    written = b"<LastModified>" + moment + b"</LastModified>"
    world.proxy.edit = lambda call, body: re.sub(rb"<LastModified>.*?</LastModified>", written, body)


def test_with_nothing_to_do_no_version_in_the_vault_is_listed(world: Seen) -> None:
    first = filled(world)
    again = world.take()
    assert world.listed(world.vault) == {"list-type"}
    assert [details(one).primary.versions_listed for one in (first, again)] == [
        details(first).primary.versions_listed
    ] * 2
    assert (details(again).primary.copied, details(again).primary.consistency) == (0, "snapshot")
    rows = [world.listing(one) for one in (first, again)]
    assert {key: row["vault_version"] for key, row in rows[1].items()} == real(world.vault)
    assert rows[0] == rows[1] or all(  # its own answer has whole seconds, its listing perhaps more
        {**old, "vault_modified": ""} == {**rows[1][key], "vault_modified": ""} for key, old in rows[0].items()
    )
    assert world.take() and world.listed(world.source) == {"versions"}, "what it held at the instant tells nothing else"


def test_a_bucket_as_it_is_now_needs_no_versions_at_either_side(world: Seen) -> None:
    world.put("old", b"1")
    filled(world, snapshot=False)
    world.take()
    assert world.listed(world.source) | {"versions"} == {"versions", "list-type"}
    world.put("a", b"changed")
    world.put("new", b"new")
    world.delete("b")
    third = world.take()
    assert (details(third).primary.copied, details(third).primary.removed, details(third).primary.consistency) == (
        2,
        1,
        "eventual",
    )
    assert world.listed(world.source) == {"list-type"}
    rows = world.listing(third)
    assert {key: world.held(row) for key, row in rows.items()} == {
        "a": b"changed", "c": b"c", "d": b"d", "new": b"new", "old": b"1",
    }  # fmt: skip
    assert {key: row["version"] for key, row in rows.items()} == real(world.source), "those are on record all the same"
    time.sleep(1.1)  # what was deleted in the second of the instant is kept
    world.database()
    assert details(world.take()).primary.copied == 0
    assert not any("compare" in line and " 0 to compare" not in line for line in world.lines[-3:]), world.lines


def interrupted(world: Seen, patched: pytest.MonkeyPatch) -> None:
    (world.config.state / take.JOURNAL).write_text("")


def a_recovery(world: Seen, patched: pytest.MonkeyPatch) -> None:
    recovery_state.keep(world.config, f"{recovery_state.RECOVERED_OBJECTS}.json", "{}")


def its_day(world: Seen, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(sides, "CYCLE", 0)


def short_lives(world: Seen, patched: pytest.MonkeyPatch) -> None:
    world.config = dataclasses.replace(world.config, vault=dataclasses.replace(world.config.vault, noncurrent_days=1))


def refused(world: Seen, patched: pytest.MonkeyPatch) -> None:
    world.proxy.fault = lambda call: error(501, "NotImplemented") if of_the_vault(world, call) else None


def out_of_order(world: Seen, patched: pytest.MonkeyPatch) -> None:
    def edit(call: Call, body: bytes) -> bytes:
        if not of_the_vault(world, call):
            return body
        head, *rows = re.split(rb"(?=<Contents>)", body)
        rows[-1], _, end = rows[-1].partition(b"</Contents>")
        return head + b"".join([rows[-1] + b"</Contents>", *rows[:-1]]) + end

    world.proxy.edit = edit


def without_names(world: Seen, patched: pytest.MonkeyPatch) -> None:
    world.proxy.edit = lambda call, body: (
        body.replace(b"<Key>d</Key>", "<Key>\ufffd</Key>".encode()) if of_the_vault(world, call) else body
    )


def cut_short(world: Seen, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(sides, "_FEWEST", 1)
    world.proxy.edit = lambda call, body: (
        re.sub(rb"<Contents>.*(?=</ListBucketResult>)", b"", body) if of_the_vault(world, call) else body
    )


def nothing_is_as_before(world: Seen, patched: pytest.MonkeyPatch) -> None:
    patched.setattr(sides, "_FEWEST", 1)
    for key in "abc":
        vault_put(world, key, key.encode(), **{"content-type": "a/b"})


def another_than_it_gives(world: Seen, patched: pytest.MonkeyPatch) -> None:
    world.proxy.edit = lambda call, body: (
        body.replace(b"<Size>1</Size>", b"<Size>2</Size>", 1) if of_the_vault(world, call) else body
    )


def of_the_vault(world: Seen, call: Call) -> bool:
    return call.path.startswith(f"/{world.vault.name}?") and "list-type" in call.query


@pytest.mark.parametrize(
    "because",
    [
        interrupted, a_recovery, its_day, short_lives, refused, out_of_order, without_names, cut_short,
        nothing_is_as_before, another_than_it_gives,
    ],
)  # fmt: skip
def test_every_version_is_listed(
    world: Seen, because: Callable[[Seen, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filled(world)
    because(world, monkeypatch)
    del world.lines[:]
    again = world.take()
    assert "versions" in world.listed(world.vault)
    assert [line for line in world.lines if line.startswith("every version in")], world.lines
    assert (details(again).primary.copied, details(again).primary.consistency) == (0, "snapshot")
    before, noted = details(first).primary.versions_listed, details(again).primary.versions_listed
    assert before and noted and noted > before
    assert {key: row["vault_version"] for key, row in world.listing(again).items()} == real(world.vault)


def test_another_vault_has_other_versions(world: Seen, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    """Even one whose objects have the same times: its listing is no longer asked what it was asked of the first."""
    filled(world)
    other = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=other, VersioningConfiguration={"Status": "Enabled"})
    world.config = dataclasses.replace(
        world.config, vault=dataclasses.replace(world.config.vault, objects_bucket=other)
    )
    world.vault = dataclasses.replace(world.vault, name=other)
    again = world.take()
    assert world.listed(world.vault) == {"versions"}
    assert details(again).primary.copied == 4


def test_what_somebody_wrote_into_the_vault(world: Seen) -> None:
    """The same bytes again, others, and with other headers: each is found without a list of versions."""
    filled(world)
    for key, body, kind in (("a", b"a", "a/b"), ("b", b"X", "a/b"), ("c", b"c", "other/type")):
        vault_put(world, key, body, **{"content-type": kind})
    vault_put(world, "theirs", b"theirs")
    again = world.take()
    assert world.listed(world.vault) == {"list-type"}
    rows = world.listing(again)
    assert {key: world.held(row) for key, row in rows.items()} == {key: key.encode() for key in "abcd"}
    assert {key: copier.facts(world.vault, key).headers["content-type"] for key in rows} == dict.fromkeys("abcd", "a/b")
    assert details(again).primary.copied == 2
    assert {key: row["vault_version"] for key, row in rows.items()} | {"theirs": real(world.vault)["theirs"]} == real(
        world.vault
    )


def test_an_older_version_that_came_back_in_the_vault(world: Seen) -> None:
    """Somebody removed the version that the backups name: below it lies another with the same bytes."""
    vault_put(world, "a", b"a", **{"content-type": "a/b"})
    held = world.listing(filled(world))["a"]["vault_version"]
    vault_put(world, "a", b"a", **{"content-type": "a/b"})
    newest = real(world.vault)["a"]
    second = world.take()
    assert world.listing(second)["a"]["vault_version"] == newest != held
    world.vault.ask("DELETE", "a", {"versionId": newest}, attempted="remove")
    third = world.take()
    assert world.held(world.listing(third)["a"]) == b"a"
    assert world.listing(third)["a"]["vault_version"] == real(world.vault)["a"]


def test_what_was_deleted_in_the_vault_is_copied_again(world: Seen) -> None:
    filled(world)
    world.vault.ask("DELETE", "a", attempted="hide")
    again = world.take()
    assert details(again).primary.copied == 1
    assert world.held(world.listing(again)["a"]) == b"a"


def test_two_writes_in_one_second_of_a_server_without_milliseconds(world: Seen) -> None:
    """A list of current objects shows the same before and after; a minute later there is no more doubt."""
    unsettled(world)
    filled(world, snapshot=False)
    world.put("a", b"a", {"content-type": "other/type"})
    again = world.take()
    assert world.listed(world.source) == {"list-type"}
    assert details(again).primary.copied == 1
    row = world.listing(again)["a"]
    assert copier.facts(world.vault, "a", row["vault_version"]).headers["content-type"] == "other/type"


def test_an_object_that_changes_between_its_listing_and_its_comparison(world: Seen) -> None:
    """Its ETag in the listing is that of the vault's copy; what is compared by name has other bytes by then."""
    filled(world, snapshot=False)
    world.put("a", b"X", {"content-type": "a/b"})
    etag = {one.key: one.etag for one in bucket.objects(world.vault)}["a"]

    def edit(call: Call, body: bytes) -> bytes:
        if not call.path.startswith(f"/{world.source.name}?") or "list-type" not in call.query:
            return body
        rows = re.split(rb"(?=<Contents>)", body)
        tag = f"<ETag>&#34;{etag}&#34;</ETag>".encode()
        return b"".join(re.sub(rb"<ETag>.*?</ETag>", tag, row) if b"<Key>a<" in row else row for row in rows)

    world.proxy.edit = edit
    again = world.take()
    assert world.listed(world.source) == {"list-type"}
    assert world.held(world.listing(again)["a"]) == b"X"


def test_many_removals_are_seen_among_the_versions(world: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many not each is asked for by its name, and one that is just being replaced is in no list of objects."""
    filled(world, snapshot=False)
    world.config = dataclasses.replace(
        world.config, objects=dataclasses.replace(world.config.objects, change_limit=100)
    )
    monkeypatch.setattr(sides, "ASKED", 1)
    for key in "abc":
        world.delete(key)
    again = world.take()
    assert world.listed(world.source) == {"list-type", "versions"}
    assert (details(again).primary.removed, list(world.listing(again))) == (3, ["d"])


def test_many_new_objects_at_the_source_are_seen_among_the_versions(
    world: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(world, snapshot=False)
    monkeypatch.setattr(sides, "_FEWEST", 1)
    for key in "efg":
        world.put(key, key.encode())
    again = world.take()
    assert world.listed(world.source) == {"list-type", "versions"}
    assert {key: row["version"] for key, row in world.listing(again).items()} == real(world.source)


def test_the_day_of_the_cycle(world: Seen) -> None:
    """By whole days, whatever the hour; and a clock that went back is no reason to believe."""
    first = filled(world)
    noted = details(first).primary.versions_listed
    assert noted
    for days, listed in ((0, False), (6, False), (7, True), (30, True), (-1, True)):
        assert bool(sides._due(world.config, noted, noted + timedelta(days=days))) == listed, days


def test_an_object_that_lived_only_around_the_instant(world: Seen) -> None:
    """Made since the last mirror, deleted just after the instant: it is among the source's versions, and nowhere else.
    So a mirror of an instant lists these, whatever it lists of the vault."""
    filled(world)
    world.put("short-lived", b"was there")
    time.sleep(1.1)
    at = world.database()
    time.sleep(1.1)
    world.delete("short-lived")
    again = world.take()
    assert world.listed(world.source) == {"versions"}
    assert (details(again).primary.consistency, details(again).database_backup) == ("snapshot", at)
    assert world.held(world.listing(again)["short-lived"]) == b"was there"


def test_the_same_bytes_with_other_headers_at_the_source(world: Seen) -> None:
    """Written again in another second: the time of a current object tells, and what it is then has its own version."""
    filled(world, snapshot=False)
    time.sleep(1.1)
    world.put("a", b"a", {"content-type": "other/type"})
    again = world.take()
    assert world.listed(world.source) == {"list-type"}
    row = world.listing(again)["a"]
    assert row["version"] == real(world.source)["a"]
    assert copier.facts(world.vault, "a", row["vault_version"]).headers["content-type"] == "other/type"


def test_pages_are_larger_where_the_server_gives_them(
    weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS does; another may refuse to. One of a keeper's may be no longer than its bound, whatever it holds."""
    monkeypatch.setattr(bucket, "KEYS", 2)
    name = make_bucket(weed)
    for key in "abcdefghijklm":
        weed.client.put_object(Bucket=name, Key=key, Body=b"x")
    for calls_itself, bounds, pages in (
        (weed.kind, UNBOUNDED, ["10"] * 2), ("MinIO", UNBOUNDED, ["2"] * 7), (weed.kind, Bounds(about=9999), ["2"] * 7),
    ):  # fmt: skip
        with faulty(weed, calls_itself=calls_itself) as proxy:
            one = Bucket(name, proxy.url, access_key=weed.access_key, secret_key=weed.secret_key, bounds=bounds)
            assert {version.key for version in bucket.objects(one)} == {*"abcdefghijklm"}
        whole = [call for call in proxy.calls if call.method == "GET" and call.query.get("prefix") == ""]
        assert [call.query["max-keys"] for call in whole] == pages
