# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket is deleted in one place, by its name said twice, out of reach of what writes to a vault."""

from __future__ import annotations

import layers
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import delete_bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from object_world import FakeBucket

# What runs with the writer's key while a backup is taken or copied.
WRITERS = ("mirror/take", "mirror/prune", "mirror/back", "repository/copies", "repository/s3", "repository/retention")


def test_one_file_deletes_buckets() -> None:
    paths = sorted((layers.ROOT / "plugins").rglob("*.py"))
    found = [path.stem for path in paths if ".delete_bucket(Bucket" in path.read_text(encoding="utf-8")]
    assert found == ["delete_bucket"]
    named = [path.stem for path in paths if "DeleteBucket" in path.read_text(encoding="utf-8")]
    assert named == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_does_not_import_it(writer: str) -> None:
    found = layers.graph()
    assert writer in found
    assert "s3/delete_bucket" not in layers.closure(found, writer)


@pytest.mark.parametrize("confirm", ["", "Uploads", "uploads-backup"])
def test_another_name_deletes_nothing(confirm: str) -> None:
    bucket = FakeBucket("uploads", aside={"uploads": {}})
    with pytest.raises(UsageError, match=f"s3://uploads at .* the name that was confirmed is {confirm!r}"):
        delete_bucket.delete_bucket(bucket, confirm)  # type: ignore[arg-type]
    assert bucket.diary == []


def test_a_bucket_without_a_name_is_not_deleted() -> None:
    with pytest.raises(UsageError, match="confirmed is ''"):
        delete_bucket.delete_bucket(Bucket(""), "")


def test_its_name_said_twice_deletes_it() -> None:
    bucket = FakeBucket("uploads", aside={"uploads": {}})
    delete_bucket.delete_bucket(bucket, "uploads")  # type: ignore[arg-type]
    assert bucket.diary == ["unmake uploads"]
