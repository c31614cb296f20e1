# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes between two mirrors, of a real server, and the bucket of an instant brought back from the vault."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back, changes, follow
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import following
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from config_world import keys as new_key
from s3_servers import SeaweedFS, wipe
from test_mirror import HOSTILE, MakeBucket, World, body_of, other, versioned
from test_quirks import later
from test_recover import KEYS, Case, bad


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    made = versioned(tmp_path, weed, make_bucket)
    made.config = replace(made.config, objects=replace(made.config.objects, changes_seconds=60))
    return made


def test_a_bucket_of_an_instant_between_two_mirrors(world: World, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    """SeaweedFS tells whole seconds, so that what is told apart lies some seconds apart."""
    run = Opened(world.config)
    for key in ("stays", "changes", "goes/日本 a+b"):
        world.put(key, b"at the mirror", {"content-type": "text/x"})
    later(world)
    manifest = world.take()
    time.sleep(2.1)
    world.put("changes", b"once more")
    world.put("new", b"new")
    time.sleep(2.1)
    instant = datetime.now(timezone.utc)
    time.sleep(2.1)
    world.delete("goes/日本 a+b")
    world.put("changes", b"and again")
    state = follow.follow(run, log=world.lines.append)
    assert (state.changes, state.objects, dict(state.left)) == (4, 3, {})
    again = follow.follow(run, log=world.lines.append)
    assert again.changes == 0, "what is known is not written down again"
    repo = repositories.repository_of(run)
    trail = changes.Trail.read(repo, world.config.stack)
    point = changes.as_of(Point(repo, manifest), trail, instant)
    assert isinstance(point, changes.AsOf)
    assert point.problem() == ""
    entries = list(point.entries())
    assert [entry.key for entry in entries] == ["changes", "goes/日本 a+b", "new", "stays"]
    target = other(world, weed, make_bucket)
    done = back.copy_back(run, entries, target, log=world.lines.append)
    assert (done.copied, done.failed_count) == (4, 0)
    assert {entry.key: body_of(target, entry.key) for entry in entries} == {
        "changes": b"once more", "goes/日本 a+b": b"at the mirror", "new": b"new", "stays": b"at the mirror",
    }  # fmt: skip
    # The next mirror finds in the vault what the looks have copied, and knows what was overwritten since the last one.
    later(world)
    night = world.take(override=True).detailed(ObjectsDetails).primary
    assert (night.objects, night.copied, night.unheld) == (3, 0, ())
    assert changes.as_of(Point(repo, manifest), trail, instant + timedelta(days=1)) == Point(repo, manifest)


# SeaweedFS keeps the versions of `a` in `a.versions`, so that these are listed before it; and it begins each of them.
BEFORE = ["a", "a b", "a!", "a+b", "a,b", "a-1", "a.b", "a/b", "aa"]


def test_no_key_is_taken_for_another_one(world: World, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    """Each is overwritten, written anew or deleted between two mirrors, whatever its name is."""
    run, keys = Opened(world.config), [*BEFORE, *HOSTILE]
    for key in keys:
        with contextlib.suppress(LifeboatError):  # such a name this server does not take
            world.put(key, b"first")
    later(world)
    manifest = world.take()
    known = {key: body_of(world.source, key) for key in world.listing(manifest)}
    assert {*BEFORE} <= {*known}
    time.sleep(2.1)
    for number, key in enumerate(known):
        if number % 3 == 0:
            world.put(key, b"second")
            world.put(key, b"third")
        elif number % 3 == 1:
            world.delete(key)
    for key in BEFORE:
        world.put(f"{key}~new", b"new")
    state = follow.follow(run, log=world.lines.append)
    assert (dict(state.left), dict(state.reached.behind)) == ({}, {}), world.lines
    repo = repositories.repository_of(run)
    trail = changes.Trail.read(repo, world.config.stack)
    found = changes.as_of(Point(repo, manifest), trail, state.reached.at)
    assert isinstance(found, changes.AsOf)
    entries = list(found.entries())
    there = {version.key: body_of(world.source, version.key) for version in bucket.objects(world.source)}
    target = other(world, weed, make_bucket)
    done = back.copy_back(run, entries, target, log=world.lines.append)
    assert done.failed_count == 0, done
    assert {entry.key: body_of(target, entry.key) for entry in entries} == there
    assert len(there) < len(known) + len(BEFORE), "some were deleted"
    again = follow.follow(run, log=world.lines.append)
    written = [*changes.Trail.read(repo, world.config.stack).changes(world.source.name, manifest.taken_at, None)]
    # Of a folder's own object SeaweedFS lists another ETag among the versions than it gives.
    twice = [(each.entry.key, each.at) for each in written[state.changes :] if each.entry.key != "dir/"]
    assert not twice, again


@pytest.fixture
def case(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A stack whose bucket is followed, with copies of its repository in the vault, encrypted."""
    made = Case(tmp_path, weed, make_bucket(weed), weed, make_bucket(weed), False)
    weed.client.put_bucket_versioning(Bucket=made.bucket, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setattr(runtime, "connect", lambda config: made.process)
    made.key, recipient = new_key(tmp_path)
    made.config = replace(
        made.config,
        objects=replace(made.config.objects, changes_seconds=1),
        vault=replace(made.config.vault, repository_bucket=make_bucket(weed)),
        encryption=replace(made.config.encryption, recipients=(recipient,)),
    )
    return made


@pytest.mark.parametrize("wiped", [False, True], ids=["bucket altered", "bucket lost"])
def test_an_instant_of_the_open_hour_from_the_vault_alone(case: Case, wiped: bool) -> None:
    """The repository of the host is gone, and what it remembers. The span was never closed."""
    run = Opened(case.config)
    case.fill()
    case.backup()
    assert copies.catch_up(run, log=case.said.append).failed == ()
    time.sleep(2.1)
    put = {"Bucket": case.bucket, "ContentType": "text/y", "Metadata": {"origin": "later"}}
    case.client.put_object(Key="root", Body=b"overwritten", Tagging="kind=second", **put)
    case.client.put_object(Key="new", Body=b"new", **put)
    case.client.delete_object(Bucket=case.bucket, Key=KEYS[0])
    assert following.observe(run, clock.now(), case.said.append, force=True)
    time.sleep(2.1)
    case.client.put_object(Key="root", Body=b"overwritten twice", **put)
    case.client.delete_object(Bucket=case.bucket, Key="new")
    case.client.delete_object(Bucket=case.bucket, Key=KEYS[1])
    time.sleep(2.1)
    instant, expected = datetime.now(timezone.utc), case.portrait()
    time.sleep(2.1)
    for key in KEYS[2:]:
        case.client.put_object(Key=key, Body=b"encrypted by somebody", **put)
    case.client.delete_object(Bucket=case.bucket, Key="big")
    assert following.observe(run, clock.now(), case.said.append, force=True)
    store = copies.vault(run)
    assert store is not None
    assert (store.published("changes"), len(store.growing("changes"))) == ([], 1)
    (off,) = (check for check in following.checks(case.config, clock.now()) if check.name == follow.OFF_THE_HOST)
    assert off.result == "PASS", off.detail
    assert " in the vault" in str([check.detail for check in following.checks(case.config, clock.now())])
    shutil.rmtree(case.root / "backup")
    shutil.rmtree(case.root / "state")
    if wiped:
        wipe(case.client, case.bucket)
    found = case.recover(before=instant, exact=True)
    assert found["backup"]["place"] == "vault"
    assert bad(found) == []
    assert case.portrait() == expected
