# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes between two mirrors, of a real server, and the bucket of an instant brought back from the vault."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import back, changes, follow
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_servers import SeaweedFS
from test_mirror import MakeBucket, World, body_of, other, versioned
from test_quirks import later


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
