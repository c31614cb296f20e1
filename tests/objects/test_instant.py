# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bucket held at an instant, by the source's clock and by its listings, as far as these tell."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import guard
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import DatabaseSettings
from s3_faults import Call, Reply, faulty
from s3_servers import SeaweedFS
from test_mirror import MakeBucket, World, versioned
from test_quirks import details, later, through, unheld

SECOND = timedelta(seconds=1)


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    return versioned(tmp_path, weed, make_bucket)


def ahead(seconds: float, milliseconds: int) -> tuple[object, object]:
    """As a server whose clock is ahead, and that lists milliseconds."""

    def fault(_call: Call) -> Reply:
        return Reply(clock=seconds)

    def edit(_call: Call, body: bytes) -> bytes:
        def moved(found: re.Match[bytes]) -> bytes:
            at = datetime.strptime(found[1].decode()[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
            at += timedelta(seconds=seconds, milliseconds=milliseconds)
            return f"<LastModified>{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z</LastModified>".encode()

        return re.sub(rb"<LastModified>(.*?)</LastModified>", moved, body)

    return fault, edit


@pytest.mark.parametrize("seconds", [3.0, -3.0])
def test_nothing_is_lost_where_the_sources_clock_is_off(world: World, weed: SeaweedFS, seconds: float) -> None:
    """Written just before the instant: whether they are older than it the server's clock tells to the second only."""
    fault, edit = ahead(seconds, 0)
    for number in range(9):
        world.put(f"key {number}")
    listed = world.source.ask("HEAD", "key 8", attempted="look").modified
    world.database(listed + SECOND - timedelta(milliseconds=1))  # all of them were written by then
    with faulty(weed, fault, edit) as source:  # type: ignore[arg-type]
        manifest = through(world, source=source)
    told = details(manifest)
    assert (told.primary.consistency, len(world.listing(manifest)), unheld(manifest)) == ("snapshot", 9, {})
    assert told.primary.ambiguous > 0


def test_an_object_made_again_in_the_second_of_the_instant_is_no_hidden_one(world: World, weed: SeaweedFS) -> None:
    """A listing tells milliseconds, and a HEAD whole seconds: it seems to be older than the instant, and not listed."""
    world.put("a")
    world.put("b")
    later(world)
    assert details(world.take()).primary.consistency == "snapshot"
    world.delete("b")
    time.sleep(2.1)
    world.put("b", b"again")
    written = world.source.ask("HEAD", "b", attempted="look")
    world.database(written.modified + timedelta(milliseconds=300))

    def edit(_call: Call, body: bytes) -> bytes:
        version = written.version.encode()
        rows = re.split(rb"(?=<Version>|<DeleteMarker>)", body)
        time = f"{written.modified + timedelta(milliseconds=700):%Y-%m-%dT%H:%M:%S}.700Z".encode()
        return b"".join(
            re.sub(rb"<LastModified>.*?</LastModified>", b"<LastModified>" + time + b"</LastModified>", row)
            if version in row else row
            for row in rows
        )  # fmt: skip

    with faulty(weed, edit=edit) as source:
        manifest = through(world, source=source, override=True)
    told = details(manifest)
    assert (told.primary.consistency, told.primary.why, sorted(world.listing(manifest))) == ("snapshot", "", ["a"])


def test_more_than_a_page_of_names_with_control_characters(world: World) -> None:
    """SeaweedFS lists them without their names, and goes on after a page at the wrong one."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.put(f"c\x01{number:04}", b"%d" % number), range(1201)))
    world.put("d", b"plain")
    for night in range(2):
        later(world)
        manifest = world.take(override=True)
        told = manifest.detailed(ObjectsDetails)
        assert (len(world.listing(manifest)), told.primary.unheld_count) == (1202, 0), night
    assert told.primary.consistency == "eventual", "a listing that does not tell its names is no snapshot"
    assert told.primary.copied == 0, "what is there is not copied every night"


def test_without_a_database_the_mirror_is_of_the_instant_at_which_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no rows whose instant it could be of; the store tells what it held all the same."""
    world.config = replace(world.config, database=DatabaseSettings(enabled=False, service=""))
    world.put("before")
    time.sleep(2.1)
    real = guard.choose_instant

    def chosen(*given: Any, **more: Any) -> guard.Instant:
        """Before anything is listed."""
        instant = real(*given, **more)
        time.sleep(2.1)
        world.put("meanwhile")
        return instant

    with monkeypatch.context() as patched:
        patched.setattr(guard, "choose_instant", chosen)
        manifest = world.take()
    told = details(manifest)
    assert (told.primary.consistency, told.primary.why, told.database_backup) == ("snapshot", "", "")
    assert [*world.listing(manifest)] == ["before"]
    later(world)
    assert sorted(world.listing(world.take())) == ["before", "meanwhile"]
