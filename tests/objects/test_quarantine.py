# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A quarantine bucket on real servers: found by its name, counted, removed with all it holds."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from ansible_collections.lifeboat.dr.plugins.module_utils.objects import quarantine
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket as s3_bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from botocore.exceptions import ClientError
from conftest import MakeBucket
from s3_servers import Server

STAMP = "20261121_120000"
KEYS = ["a b/ü", "deep/er", "plain"]


def test_a_quarantine_bucket_is_found_counted_and_removed(server: Server, make_bucket: MakeBucket) -> None:
    name, other = make_bucket(server), make_bucket(server)
    source = Bucket(name, server.url, "us-east-1", "", server.access_key, server.secret_key)
    kept = quarantine.Aside(source, STAMP, versioned=False, log=lambda _: None)
    for key in KEYS:
        server.client.put_object(Bucket=name, Key=key, Body=b"four")
    kept.remove(KEYS)
    quarantine.Aside(replace(source, name=other), STAMP, versioned=False, log=lambda _: None)
    try:
        (found,) = quarantine.quarantined(source)
        assert found.name == kept.bucket == f"{name}-quarantine-20261121-120000"
        assert sorted(version.key for version in s3_bucket.objects(found)) == sorted(KEYS)
        assert sum(version.size for version in s3_bucket.objects(found)) == 4 * len(KEYS)
        # Somebody may have looked at it and switched versions on: nothing of them stays either.
        with contextlib.suppress(ClientError):
            server.client.put_bucket_versioning(Bucket=found.name, VersioningConfiguration={"Status": "Enabled"})
            server.client.put_object(Bucket=found.name, Key="a b/ü", Body=b"a second version")
        assert quarantine.quarantined(replace(source, name=other)) == []
    finally:
        quarantine.remove(replace(source, name=kept.name))
    assert (quarantine.quarantined(source), settings.exists(replace(source, name=kept.name))) == ([], False)
    assert settings.exists(source)
