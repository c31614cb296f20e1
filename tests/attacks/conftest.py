# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several files of attacks need. A file with needs of its own has its own server."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_servers
from nights import Attack
from s3_servers import SeaweedFS


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    """With a bucket that keeps versions, and one that does not."""
    with s3_servers.seaweedfs() as server:
        for bucket in ("versions", "plain"):
            server.client.create_bucket(Bucket=bucket)
        server.client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        yield server


@pytest.fixture(scope="module")
def attack(weed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    """A script and its target, made once against that server, with a key to it; and the directory it was made in."""
    here = Path(__file__).parent
    own = {"AWS_ENDPOINT_URL": weed.url, "AWS_ACCESS_KEY_ID": weed.access_key, "AWS_SECRET_ACCESS_KEY": weed.secret_key}
    own["PYTHONPATH"] = os.pathsep.join([str(here.parents[1] / ".ansible/collections"), str(here.parent / "unit")])

    @functools.cache
    def made(script: str, target: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        directory = tmp_path_factory.mktemp(target)
        words = [sys.executable, str(here / script), target, str(directory)]
        done = subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ, **own})
        return done, directory

    return made
