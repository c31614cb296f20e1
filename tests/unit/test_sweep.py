# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One night's share of the tags, from servers that answer as they like. tests/objects has real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.state import State
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.sweep import Sweep
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, client, copier
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Listed, Version
from botocore.exceptions import ClientError

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
SOURCE, VAULT = Bucket("uploads", "http://store:9000"), Bucket("mirror", "http://vault:9000")
COUNT = 150
Answer = Callable[[], Optional[list[tuple[str, str]]]]


class World:
    """All tags are due. `source`, `vault`: what either answers; `asked`, `put`: the keys of requests."""

    def __init__(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = state
        self.lines: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.put: list[str] = []
        self.source: Answer = lambda: [("a", "1")]
        self.vault: Answer = lambda: [("a", "1")]
        monkeypatch.setattr(bucket, "tagged", lambda source: iter(()))
        monkeypatch.setattr(copier, "tags", self.tags)
        monkeypatch.setattr(copier, "ensure_tags", lambda bucket, key, *_: self.put.append(key) or "")

    def tags(self, where: Bucket, key: str, version: str = "") -> Optional[list[tuple[str, str]]]:
        self.asked.append((where.name, version))
        return self.source() if where is SOURCE else self.vault()

    def sweep(self, tags: Optional[str], count: int = COUNT) -> Sweep:
        keys = [f"{number:03}" for number in range(count)]
        self.state.read_source((Version(key, 1, "e", AT, "v") for key in keys), None)
        self.state.read_vault(Version(key, 1, "e", AT, "w") for key in keys)
        noted = {"tags": tags, "tags_as_of": AT} if tags is not None else {}
        self.state.read_copies(Listed(key, 1, "e", AT, "v", "w", "e", **noted) for key in keys)
        done = Sweep(SOURCE, VAULT, self.state, self.lines.append)
        done.run(1, 0.0, 1, exact=True)
        return done


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with State(tmp_path / "state/mirror.jsonl") as state:
        yield World(state, monkeypatch)


def test_tags_that_are_as_they_were_cost_one_request_each(world: World) -> None:
    done = world.sweep("a=1")
    assert (done.read, done.changed, world.put) == (COUNT, 0, [])
    assert world.asked == [("uploads", "v")] * COUNT
    assert len(list(world.state.lines())) == COUNT
    assert world.state.tags_known()[0] == 0 and (world.state.tags_known()[1] or AT) > AT


def test_a_server_that_knows_no_tags_is_asked_once(world: World) -> None:
    world.source = lambda: None
    done = world.sweep("")
    assert (done.read, done.changed, world.asked) == (COUNT, 0, [("uploads", "v")])


def test_a_key_without_the_right_is_not_tried_with_every_object(world: World) -> None:
    def denied() -> None:
        error = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        with client.translated_errors("read the tags", "one"):
            raise ClientError(error, "GetObjectTagging")  # type: ignore[arg-type,unused-ignore]

    world.source = denied
    done = world.sweep("a=1")
    assert (done.read, done.unread_count, len(world.asked), len(done.unread)) == (0, 100, 100, 20)
    assert "the tags could not be read of 100 objects" in world.lines[-1]
    assert len(list(world.state.lines())) == COUNT
    assert world.state.tags_known() == (0, AT), "what is on record stays"


def test_a_server_that_fails_ends_the_sweep(world: World) -> None:
    def fails() -> None:
        raise LifeboatError("read the tags", "one", "the line was cut")

    world.source = fails
    with pytest.raises(LifeboatError, match="the line was cut"):
        world.sweep("a=1")


@pytest.mark.parametrize(("vault", "changed"), [([("a", "1")], 0), ([("a", "2")], 3)])
def test_what_no_listing_tells_is_compared_with_the_vaults(
    world: World, vault: list[tuple[str, str]], changed: int
) -> None:
    world.vault = lambda: vault
    done = world.sweep(None, count=3)
    assert (done.read, done.changed, len(world.put)) == (3, changed, changed)
    assert sorted(world.asked) == [("mirror", "w")] * 3 + [("uploads", "v")] * 3
