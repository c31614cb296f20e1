# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real S3 servers, started once for the whole run where a test asks for one. No Docker."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import conformance
import pytest
import s3_ceph
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing, take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldBucket
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age
from s3_servers import JuiceFS, SeaweedFS, Server

MakeBucket = Callable[..., str]
# `make rgw`: the tests of every server run on this one instead, and those of its own run at all.
ALONE = os.environ.get("S3_SERVER", "")
KINDS: dict[str, type[Server]] = {**s3_servers.SERVERS, **s3_servers.CONFORMANCE_ONLY, "ceph": s3_ceph.RGW}
EACH = [ALONE] if ALONE else [*s3_servers.SERVERS]
collect_ignore = [] if ALONE == "ceph" else ["test_ceph.py"]
# What a listing that was written tells, of all that a manifest says of a bucket.
SAYS, TAGS = operator.attrgetter("objects", "bytes", "digest", "properties"), operator.attrgetter("as_of", "unknown")
POLICY = json.loads((Path(__file__).resolve().parents[2] / "docs/vault-writer-policy.json").read_text())
BUCKETS = ("uploads-backup", "shop-repository")  # those the policy is about
# The vault's writer as docs/vault.md says, and one with no more than SeaweedFS's own words for it.
WRITER: dict[str, Any] = {"name": "writer", "access_key": "writer", "secret_key": "writer-secret-1", "policy": POLICY}
PLAIN: dict[str, Any] = {
    "name": "plain", "access_key": "plain", "secret_key": "plain-secret-1",
    "actions": [f"{action}:{bucket}" for bucket in BUCKETS for action in ("Read", "Write", "List", "Tagging")],
}  # fmt: skip


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tests run in processes of their own, and the table is printed by the one that started these."""
    for name, value in report.user_properties:
        if name == conformance.COLUMN and report.when == "teardown" and isinstance(value, dict):
            conformance.SEEN.update(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table server x behaviour, of the servers that were tried in this run, and those that could not be."""
    untried = [report for report in terminalreporter.stats.get("skipped", ()) if "NOT CHECKED" in str(report.longrepr)]
    for report in untried:
        terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2]}")
    if not conformance.SEEN:
        return
    terminalreporter.write_sep("-", "docs/servers.md")
    terminalreporter.write(conformance.table(conformance.SEEN))
    if os.environ.get("SERVERS_PAGE") == "write":
        conformance.write()


@pytest.fixture(scope="session", autouse=True)
def locks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files that run side by side name their stacks alike: each process has locks of its own."""
    lock.DIRECTORY = tmp_path_factory.mktemp("locks")


@pytest.fixture(autouse=True)
def taken_over(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The backups whose listings were taken over: in every test the ones that would have been written are the same."""
    original, found = take._taken_over, list[str]()

    def checked(last: Optional[listing.Point], state: take.State, path: Path, seal: age.Seal) -> Optional[HeldBucket]:
        told = original(last, state, path, seal)
        if told and last:
            folder = tmp_path_factory.mktemp("written")
            written = take._listed(state, folder, age.OPEN)
            assert SAYS(written) == SAYS(told)
            assert (written.tags and told.tags) and TAGS(written.tags) == TAGS(told.tags)
            if not seal.recipients:
                assert (path / listing.NAME).read_bytes() == (folder / listing.NAME).read_bytes()
            found.append(last.id)
        return told

    monkeypatch.setattr(take, "_taken_over", checked)
    return found


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], Any]]:
    """A server of KINDS by its name, started where a test first asks for it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(name: str) -> Server:
            kind: Any = KINDS[name]
            make = functools.partial(kind, identities=[WRITER, PLAIN]) if kind.writers else kind
            return stack.enter_context(s3_servers.running(make))

        yield start


@pytest.fixture(scope="session")
def weed(started: Callable[[str], SeaweedFS]) -> SeaweedFS:
    return started("weed")


@pytest.fixture(scope="session")
def gateway(started: Callable[[str], JuiceFS]) -> JuiceFS:
    return started("gateway")


@pytest.fixture(params=EACH)
def server(request: pytest.FixtureRequest, started: Callable[[str], Server]) -> Server:
    """Each of them: what is promised for any S3 endpoint must hold on all."""
    return started(request.param)


@pytest.fixture
def make_bucket() -> Iterator[MakeBucket]:
    """Make a bucket of the test's own: make_bucket(server), or with a name. It is gone afterwards with all in it."""
    made: list[tuple[Server, str]] = []

    def make(server: Server, name: str = "") -> str:
        name = name or f"test-{secrets.token_hex(6)}"
        server.client.create_bucket(Bucket=name)
        made.append((server, name))
        return name

    yield make
    for server, name in made:
        server.remove(name)


@pytest.fixture(scope="session")
def witness() -> None:
    """These tests need MinIO's own client. They install it, or fail; where nobody may install anything they say so."""
    if not s3_servers.find_mc():
        pytest.skip("NOT CHECKED by MinIO's own client: there is no mc, and none is installed without root and apt")
