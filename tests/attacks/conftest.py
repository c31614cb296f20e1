# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several files of attacks need. A file with needs of its own has its own server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import s3_servers
from s3_servers import SeaweedFS


@pytest.fixture(scope="module")
def weed() -> Iterator[SeaweedFS]:
    """With a bucket that keeps versions, and one that does not."""
    with s3_servers.seaweedfs() as server:
        for bucket in ("versions", "plain"):
            server.client.create_bucket(Bucket=bucket)
        server.client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        yield server
