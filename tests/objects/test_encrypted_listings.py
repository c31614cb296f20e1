# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings that are encrypted: what a reader finds, who verifies and recovers, and a prune that needs no key."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import canaries
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from config_world import keys as new_key
from s3_servers import SeaweedFS, Server
from test_mirror import World, versioned
from test_mirror_prune import run, versions

MakeBucket = Callable[[Server], str]


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    return versioned(tmp_path, weed, make_bucket)


def encrypted(world: World, recipient: str) -> None:
    encryption = dataclasses.replace(world.config.encryption, recipients=(recipient,))
    world.config = dataclasses.replace(world.config, encryption=encryption)


def verdict(world: World, taken: Manifest, key: str = "") -> str:
    result = operations_verify.verify(Opened(world.config, key), taken.id, "restore", sample=0, log=print)
    print(*result.checks, sep="\n")
    return result.verdict


def lose(world: World) -> None:
    for key in age.HostKeys(world.config.state).all():
        key.path.unlink()


def test_listings_exist_only_encrypted_and_a_prune_needs_no_key(
    world: World, tmp_path: Path, taken_over: list[str]
) -> None:
    identity, recipient = new_key(tmp_path)
    world.put("stays", b"stays", {"cache-control": "canary-of-a-header"})
    world.put("gone", b"gone")
    clear = world.take()
    root = Path(world.config.backup_directory)
    words = ["canary-of-a-header"]
    assert canaries.found(root, words)[words[0]], "the search can find it"
    # It is begun later: no new mirror, the same listing, and what was clear before stays as it was.
    encrypted(world, recipient)
    time.sleep(1.1)
    first = world.take()
    assert first.details["copied"] == 0
    assert not taken_over, "it is for others"
    folder = root / "objects" / first.id
    names = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    assert names == ["listing.jsonl.gz.age", "versions.jsonl.gz"]
    assert canaries.found(folder, words) == {words[0]: set()}
    keys = age.keys(world.config)
    points = [Point(repositories.from_settings(world.config.repository, {}), taken) for taken in (clear, first)]
    opened = Point(points[1].repo, first, keys=keys)
    assert list(opened.entries()) == list(points[0].entries())
    assert list(opened.versions()) == list(points[0].versions())
    assert verdict(world, first) == PASS
    world.delete("gone")
    world.put("new", b"new")
    time.sleep(1.1)
    second = world.take(override=True)
    assert second.details["copied"] == 1
    # Years later: no key of the host opens the first.
    lose(world)
    assert verdict(world, first) == COULD_NOT_VERIFY
    assert verdict(world, first, new_key(tmp_path)[0]) == COULD_NOT_VERIFY
    assert run(world, [first, second], after=timedelta(days=31)).retained == ()
    assert versions(world)["gone"][-1] == "object", "the first backup needs it"
    assert verdict(world, first, identity) == PASS
    # A mirror goes on without the last listing, which it cannot read.
    world.put("later", b"later")
    time.sleep(1.1)
    third = world.take()
    assert (third.details["copied"], third.details["objects"]) == (1, 3)
    assert verdict(world, third) == PASS
    assert run(world, [second, third], after=timedelta(days=31)).versions
    assert "gone" not in versions(world)


def test_a_night_without_a_change_takes_both_files_over(world: World, tmp_path: Path, taken_over: list[str]) -> None:
    identity, recipient = new_key(tmp_path)
    encrypted(world, recipient)
    for key in ("a", "é"):
        world.put(key)
    taken = [world.take()]
    for number in range(2):
        time.sleep(1.1)
        taken.append(world.take())
        assert taken_over == [one.id for one in taken[: number + 1]]
    first, *others = [{one.name: one for one in manifest.artefacts} for manifest in taken]
    assert sorted(first) == ["listing.jsonl.gz.age", "versions.jsonl.gz"]
    assert others == [first, first]
    assert verdict(world, taken[-1], identity) == PASS
    lose(world)  # a host that has a new key is another recipient
    time.sleep(1.1)
    assert verdict(world, world.take(), identity) == PASS
    assert len(taken_over) == 2
