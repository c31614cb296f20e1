# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real S3 servers, started once for the whole run where a test asks for one. No Docker."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Callable

import pytest
import s3_servers
from s3_servers import JuiceFS, SeaweedFS, Server

MakeBucket = Callable[[Server], str]


@pytest.fixture(scope="session")
def weed() -> Iterator[SeaweedFS]:
    with s3_servers.seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def gateway() -> Iterator[JuiceFS]:
    with s3_servers.juicefs() as server:
        yield server


@pytest.fixture(params=["weed", "gateway"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two: what is promised for any S3 endpoint must hold on both."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def make_bucket() -> Iterator[MakeBucket]:
    """Make a bucket of the test's own: make_bucket(server). It is gone afterwards, whatever was put in it."""
    made: list[tuple[Server, str]] = []

    def make(server: Server) -> str:
        name = f"test-{secrets.token_hex(6)}"
        server.client.create_bucket(Bucket=name)
        made.append((server, name))
        return name

    yield make
    for server, name in made:
        s3_servers.wipe(server.client, name)


@pytest.fixture(scope="session")
def witness() -> None:
    """These tests need MinIO's own client; where it cannot be had they say so, they do not pass."""
    if not s3_servers.find_mc():
        pytest.skip("NOT CHECKED by MinIO's own client: there is no mc and apt could not install minio-client")
