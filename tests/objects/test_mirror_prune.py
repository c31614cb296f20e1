# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Old versions of a real mirror: what goes, and above all what stays."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import builders
import conftest
import pytest
import s3_quirks
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import prune as mirror_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.prune import Pruned
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import prune as operations_prune
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, Fault, Reply, error, faulty
from s3_servers import SeaweedFS, Server
from test_mirror import World, versioned

MakeBucket = Callable[[Server], str]
DAY = timedelta(days=1)
ODD = ["a&b<c>", "sp ace", "r\rn\nt\t", "日本/語", "-rf", "plus+%41"]


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    return versioned(tmp_path, weed, make_bucket)


def point(world: World, taken: Manifest) -> Point:
    return Point(repositories.from_settings(world.config.repository, {}), taken)


def versions(world: World) -> dict[str, list[str]]:
    """Every key of the vault: `object` or `marker` for each version, newest first."""
    found: dict[str, list[tuple[datetime, str]]] = {}
    for each in bucket.versions(world.vault):
        found.setdefault(each.key, []).append((each.modified, "marker" if each.deleted else "object"))
    return {key: [kind for _, kind in sorted(several, reverse=True)] for key, several in found.items()}


def run(world: World, kept: list[Manifest], after: timedelta = 31 * DAY, dry_run: bool = False) -> Pruned:
    newest = datetime.now(timezone.utc) + after
    return mirror_prune.prune(Opened(world.config), [point(world, each) for each in kept], newest, dry_run=dry_run)


def history(world: World) -> list[Manifest]:
    """Three mirrors: `stays` never changes, `new` is overwritten twice, `gone` is deleted, `back` came back."""
    taken = []
    for turn in range(3):
        if turn:
            time.sleep(1.1)  # the server tells time in seconds
        else:
            for key in ["stays", "gone", "back", *ODD]:
                world.put(key, key.encode())
        world.put("new", b"%d" % turn)
        if turn == 1:
            for key in ("gone", "back", *ODD):
                world.delete(key)
        if turn == 2:
            world.put("back", b"again")
        taken.append(world.take(override=True))
    return taken


def test_what_was_replaced_goes_and_what_is_live_or_needed_stays(world: World) -> None:
    taken = history(world)
    whole = versions(world)
    assert whole["new"] == ["object"] * 3
    assert whole["gone"] == ["marker", "object"]
    assert whole["back"] == ["object", "marker", "object"]

    assert run(world, taken[2:], after=29 * DAY) == Pruned(), "too young"
    assert versions(world) == whole

    planned = run(world, taken[1:], dry_run=True)
    assert versions(world) == whole
    # The first `new` and `back`, the marker on it, `gone` and the odd ones, each with its marker.
    assert planned.versions == 3 + 2 + 2 * len(ODD)
    done = run(world, taken[1:])
    assert (done.versions, done.bytes, done.retained) == (planned.versions, planned.bytes, ())
    assert versions(world) == {"stays": ["object"], "new": ["object"] * 2, "back": ["object"]}
    for taken_then in taken[1:]:  # every kept backup can be restored to the last byte
        for key, row in world.listing(taken_then).items():
            assert world.held(row) == {"stays": b"stays", "back": b"again"}.get(key, world.held(row))
    assert world.held(world.listing(taken[1])["new"]) == b"1"

    assert run(world, taken[1:]) == Pruned(), "a second run finds nothing"
    assert run(world, taken[2:]).versions == 1, "the backup that needed it is no more"
    assert versions(world) == {"stays": ["object"], "new": ["object"], "back": ["object"]}


def test_a_marker_stays_while_it_hides_what_a_backup_needs(world: World) -> None:
    """Else what was deleted would be the bucket's newest again."""
    taken = history(world)
    run(world, [taken[0], taken[2]])
    assert versions(world)["gone"] == ["marker", "object"]
    assert world.held(world.listing(taken[0])["gone"]) == b"gone"
    assert "gone" not in {each.key for each in bucket.objects(world.vault)}


@pytest.fixture
def locked(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, request: pytest.FixtureRequest) -> World:
    name = f"locked-{secrets.token_hex(6)}"
    weed.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": request.param, "Days": 1}}
    weed.client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    # It cannot be removed before tomorrow; the server goes with all that it holds.
    return World(tmp_path, weed, weed, (make_bucket(weed), name))


@pytest.mark.parametrize(
    ("locked", "mode"), [(mode, mode) for mode in ("GOVERNANCE", "COMPLIANCE")], indirect=["locked"]
)
def test_locked_versions_are_reported_and_no_failure(locked: World, mode: str) -> None:
    taken = history(locked)
    whole = versions(locked)
    done = run(locked, taken[2:])
    objects, checks = sorted(done.retained, key=lambda line: "checks" in line)
    assert "10 old versions, the first is '-rf': locked until 20" in objects
    assert "1 leftovers of Lifeboat's own checks, the first is '.lifeboat-name-" in checks
    assert f"({mode})" in objects and f"({mode})" in checks
    left = versions(locked)
    assert left["gone"] == ["marker", "object"], "a marker whose object is locked stays, else it would be back"
    assert {key: kinds.count("object") for key, kinds in left.items()} == {
        key: kinds.count("object") for key, kinds in whole.items()
    }


def test_a_key_that_may_not_delete_versions(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    """The writer's key of docs/vault.md: said once, with who does it then, and no failure."""
    name = conftest.BUCKETS[0]
    weed.client.create_bucket(Bucket=name)
    try:
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        world = World(tmp_path, weed, weed, (make_bucket(weed), name))
        taken = history(world)
        whole = versions(world)
        key = conftest.WRITER
        given = {"vault_access_key": key["access_key"], "vault_secret_key": key["secret_key"]}
        world.config = dataclasses.replace(world.config, secrets={**world.secrets, **given})
        done = run(world, taken[2:])
        assert (done.versions, len(done.retained)) == (0, 1)
        assert "the key may not delete it (AccessDenied); the bucket's own lifecycle rule has to" in done.retained[0]
        assert versions(world) == whole
    finally:
        conftest.s3_servers.wipe(weed.client, name)


def through(world: World, fault: Fault, kept: list[Manifest], weed: SeaweedFS) -> Pruned:
    """As run(), with a server before which a proxy stands."""
    with faulty(weed, fault) as proxy:
        vault = dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        config, world.config = world.config, dataclasses.replace(world.config, vault=vault)
        try:
            return run(world, kept)
        finally:
            world.config = config


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("InvalidRequest", 400)])
def test_what_is_refused_is_locked_only_where_its_lock_says_so(
    tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, code: str, status: int
) -> None:
    """One answer: of a version under a legal hold, of one whose retention has ended, of one without a lock."""
    name = f"locked-{secrets.token_hex(6)}"
    weed.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    world = World(tmp_path, weed, weed, (make_bucket(weed), name))
    for key in ("held", "ended", "free"):
        world.put(key)
    first = world.listing(world.take())
    hold = {"Bucket": name, "Key": "held", "VersionId": first["held"]["vault_version"]}
    weed.client.put_object_legal_hold(**hold, LegalHold={"Status": "ON"})
    ended = {"Bucket": name, "Key": "ended", "VersionId": first["ended"]["vault_version"]}
    until = datetime.now(timezone.utc) + timedelta(seconds=2)
    weed.client.put_object_retention(**ended, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    for key in ("held", "ended", "free"):
        world.delete(key)
    world.put("stays")
    last = world.take(override=True)
    time.sleep(2.1)
    done = through(world, s3_quirks.refuses_deletion(("held", "ended", "free"), code, status), [last], weed)
    url = f"s3://{name} at "
    said = sorted(line.partition(": ")[2] for line in done.retained if line.startswith(url))
    assert said == [
        "1 old versions, the first is 'held': locked by a legal hold",
        f"2 old versions, the first is 'ended': the key may not delete it ({code}); the bucket's own lifecycle rule has"
        " to remove them",
    ]  # fmt: skip
    weed.client.put_object_legal_hold(**hold, LegalHold={"Status": "OFF"})


def test_who_refuses_several_at_once_is_asked_for_each(world: World, weed: SeaweedFS) -> None:
    taken = history(world)
    whole = versions(world)
    done = through(world, s3_quirks.rgw_refuses_several, taken[2:], weed)
    assert (done.retained, versions(world)["new"], versions(world)["stays"]) == ((), ["object"], ["object"])
    assert done.versions == sum(map(len, whole.values())) - 3, "all but the three that are live"


def test_a_key_that_may_delete_nothing_is_not_asked_for_all(
    world: World, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_prune, "_HOPELESS", 3)
    taken = history(world)
    denied: list[str] = []

    def fault(call: Call) -> Reply | None:
        if call.method == "DELETE":
            denied.append(call.key)
            return error(403, "AccessDenied")
        return s3_quirks.rgw_refuses_several(call)

    done = through(world, fault, taken[2:], weed)
    assert (done.versions, len(done.retained), len(denied)) == (0, 1, 3)
    assert "the key may not delete it (AccessDenied)" in done.retained[0]


def test_retention_does_it_and_only_where_it_knows_what_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    history(world)
    late = datetime.now(timezone.utc) + 40 * DAY
    monkeypatch.setattr(clock, "now", lambda: late)
    store = repositories.from_settings(world.config.repository, {})

    def retain(dry_run: bool = False) -> operations_prune.Pruning:
        return operations_prune.prune(Opened(world.config), now=late, dry_run=dry_run, log=world.lines.append)

    whole = versions(world)
    assert retain()["versions"] == {"deleted": 0, "bytes": 0, "waits": ""}, "no mirror since: the window stands still"
    manifest = world.take()
    moved = dataclasses.replace(
        manifest, id=f"objects_backup_{late - DAY:%Y%m%d_%H%M%S}", taken_at=late - DAY, finished_at=late - DAY
    )
    with store.materialise("objects", manifest.id) as folder, store.stage("objects", moved.id) as staging:
        for path in folder.glob("listing*"):
            (staging.path / path.name).write_bytes(path.read_bytes())
        staging.publish(moved.to_bytes())
    # The second backup goes; the first stays for its week and its month, and the newest three always.
    first, second = sorted(store.published("objects"))[:2]
    needed = world.listing(dataclasses.replace(manifest, id=first))
    done = retain()
    assert done["delete"] == [second]
    assert done["versions"]["deleted"] == 2, "what only the second one named, and the marker that `back` got over"
    assert (versions(world)["new"], world.held(needed["new"])) == (["object"] * 2, b"0")
    assert versions(world)["gone"] == whole["gone"]

    listing = next((world.root / "backup").glob(f"*/{first}/listing*"))
    builders.flip(listing, -1)
    said = retain()
    assert said["versions"] == {
        "deleted": 0, "bytes": 0,
        "waits": f"what {first} needs is not known: listing.jsonl.gz has another SHA-256 than when it was written",
    }  # fmt: skip
    assert versions(world)["gone"] == whole["gone"]
