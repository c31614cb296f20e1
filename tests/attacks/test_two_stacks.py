# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two stacks with one bucket, and one id: what becomes of what each of them reports as published.

Measured before there were claims: of 30 races in 15 both reported success and one backup survived, and in 11 one
reported success and nothing was there. The control is a publisher without claims; it must lose something.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import OtherStackError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.s3 import S3Repository
from s3_servers import Server

RACES = {"SeaweedFS": 30, "JuiceFS": 3}  # the second takes seconds for each
WELL = ("one published, and its backup is whole", "none published, and nothing is there")


class Unprotected(S3Repository):
    """Looks whether the id is free, writes, and removes all below the id where it fails."""

    @contextlib.contextmanager
    def _claimed(self, key: str, run: str, *, resumed: bool = False) -> Iterator[None]:
        yield

    def _put_new(self, key: str, data: bytes) -> bool:
        self._put(key, data)
        return True

    def _undo(self, key: str, manifest: bytes, sent: Sequence[str]) -> None:
        self._erase(key.rpartition("/")[0])


@pytest.fixture(scope="module", params=list(s3_servers.SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with s3_servers.running(s3_servers.SERVERS[request.param]) as started:
        started.client.create_bucket(Bucket="shared")
        yield started


def opened(kind: type[S3Repository], server: Server, staging: Path) -> S3Repository:
    return kind(
        "shared", endpoint_url=server.url, access_key=server.access_key, secret_key=server.secret_key,
        staging_root=staging,
    )  # fmt: skip


def race(kind: type[S3Repository], server: Server, root: Path, number: int) -> str:
    """What came of it, in words. Each stack publishes three files of its own bytes and the same sizes."""
    id, barrier = f"db_backup_20261124_0200{number:02d}", threading.Barrier(2)
    published: list[str] = []

    def run(stack: str) -> None:
        repo = opened(kind, server, root / stack)
        with repo.stage("database", id) as staging:
            for name in ("a", "b", "c"):
                (staging.path / name).write_bytes(stack.encode() * 50_000)
            barrier.wait()
            with contextlib.suppress(LifeboatError):
                staging.publish(stack.encode())
                published.append(stack)

    threads = [threading.Thread(target=run, args=(stack,)) for stack in ("shop", "wiki")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    look = opened(S3Repository, server, root / "look")
    there: dict[str, bytes] = {}
    for name in ("a", "b", "c"):
        with contextlib.suppress(LifeboatError), look.open("database", id, name) as stream:
            there[name] = stream.read()
    whole = [
        stack
        for stack in published
        if there == dict.fromkeys("abc", stack.encode() * 50_000) and look.manifest("database", id) == stack.encode()
    ]
    if len(published) == 1 and whole:
        return WELL[0]
    if not published and not there:
        return WELL[1]
    return f"{len(published)} reported success, {len(whole)} backups are whole, {len(there)} files are there"


def test_control_without_claims_something_reported_is_lost(server: Server, tmp_path: Path) -> None:
    seen = (race(Unprotected, server, tmp_path, number) for number in range(20))
    assert any(outcome not in WELL for outcome in seen)


def test_what_is_reported_as_published_is_there(server: Server, tmp_path: Path) -> None:
    seen = Counter(race(S3Repository, server, tmp_path, 20 + number) for number in range(RACES[server.kind]))
    assert not set(seen) - set(WELL), seen
    if "conditions" not in server.lacks:
        assert set(seen) == {WELL[0]}, "one of two wins where the server heeds the condition"


@pytest.mark.parametrize("marked", [False, True], ids=["control: no stack is named", "each names its stack"])
def test_a_second_stack_in_the_same_place(server: Server, tmp_path: Path, marked: bool) -> None:
    """Not at once but a day later: two inventories with one bucket, and no prefix."""
    ids = {"shop": f"db_backup_2026112{4 + 2 * marked}_030000", "wiki": f"db_backup_2026112{5 + 2 * marked}_030000"}
    refused = []
    for stack, id in ids.items():
        repo = opened(S3Repository, server, tmp_path)
        repo.prefix = f"day-{marked}"
        repo.stack = stack if marked else ""
        try:
            with repo.stage("database", id) as staging:
                staging.publish(b'{"stack": "%s"}' % stack.encode())
        except OtherStackError:
            refused.append(stack)
    assert refused == (["wiki"] if marked else [])
