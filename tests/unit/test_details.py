# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The buckets of an objects backup: a list in memory, and the form that every Lifeboat reads in a manifest."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldBucket, ObjectsDetails

# Every key that a manifest has, and no other: who is older than the one that writes reads these.
BUCKET: dict[str, Any] = {
    "objects": 2, "bytes": 9, "consistency": "snapshot", "why": "", "versioned": True, "digest": "d" * 64,
    "copied": 1, "copied_bytes": 4, "removed": 3, "unheld": [{"key": "a", "why": "odd"}], "unheld_count": 7,
    "ambiguous": 5, "settings": {"versioning": "Enabled"}, "settings_denied": ["policy"], "properties": None,
    "tags": None, "versions_listed": "2026-11-24T02:00:00.000Z",
}  # fmt: skip
WRITTEN: dict[str, Any] = {
    **BUCKET, "bucket": "uploads", "endpoint": "http://store", "host": "web", "database_backup": "db_backup_1",
    "clock_skew": None, "engine": "lifeboat", "weaknesses": [], "vault": {"endpoint": "http://vault", "bucket": "v"},
    "identities": None, "seconds": 1.5, "unprotected": ["left"], "excluded": [], "unlisted": "",
    "missing": {"lost": "it is gone"}, "excluded_keys": [], "vaults": [], "recipients": [], "host_key": "",
    "others": [
        {**BUCKET, "name": "docs", "folder": "buckets/001", "vault": "v-docs", "gap": "", "objects": 1},
        {**BUCKET, "name": "mail", "folder": "buckets/002", "vault": "v-mail", "gap": "a/b", "bytes": 0},
    ],
}  # fmt: skip


def wrong(field: str, cause: str) -> LifeboatError:
    return IntegrityError("read", "a manifest", f"{field} {cause}")


def read(data: dict[str, Any]) -> ObjectsDetails:
    return typed.build(ObjectsDetails, data, wrong, "details", unknown="ignore")


def test_each_bucket_is_an_entry_of_one_list_and_the_applications_is_the_first() -> None:
    details = read(WRITTEN)
    assert [(each.name, each.primary, each.folder, each.vault, each.gap) for each in details.buckets] == [
        ("uploads", True, "", "v", ""),
        ("docs", False, "buckets/001", "v-docs", ""),
        ("mail", False, "buckets/002", "v-mail", "a/b"),
    ]
    assert [(each.objects, each.bytes, each.in_no_backup) for each in details.buckets] == [
        (2, 9, 7),
        (1, 9, 7),
        (2, 0, 7),
    ]
    assert (details.primary, details.additional) == (details.buckets[0], details.buckets[1:])


def test_what_is_written_is_what_every_earlier_version_reads() -> None:
    details = read(WRITTEN)
    assert typed.plain(details, nulls=True) == WRITTEN
    assert read(typed.plain(details, nulls=True)) == details


def test_what_a_newer_version_added_is_passed_over() -> None:
    data = {**WRITTEN, "newer": 1, "others": [{**each, "newer": 2} for each in WRITTEN["others"]]}
    assert read(data) == read(WRITTEN)


def test_a_manifest_of_before_there_were_others_has_one_bucket() -> None:
    assert read({"objects": 3, "bytes": 5, "bucket": "uploads"}).buckets == (HeldBucket("uploads", "", 3, 5, ""),)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda data: data.pop("objects"), "details lacks objects", id="a count is missing"),
        pytest.param(lambda data: data.update(objects=-1), "details.objects -1 is not between", id="less than none"),
        pytest.param(lambda data: data.update(bucket=5), "details.bucket wants str", id="a name"),
        pytest.param(lambda data: data.update(vault="v"), "details.vault wants a mapping", id="the vault"),
        pytest.param(lambda data: data.update(others=3), "details.others wants a list", id="no list"),
        pytest.param(
            lambda data: data["others"][1].pop("name"), "details.others[1] lacks name", id="one of the others"
        ),
        pytest.param(lambda data: data["unheld"][0].pop("why"), "details.unheld[0] lacks why", id="an object"),
    ],
)
def test_what_is_wrong_is_named_as_it_stands_in_the_file(damage: Callable[[dict[str, Any]], Any], said: str) -> None:
    data = {**WRITTEN, "others": [dict(each) for each in WRITTEN["others"]], "unheld": [{"key": "a", "why": "odd"}]}
    damage(data)
    with pytest.raises(IntegrityError) as caught:
        read(data)
    assert said in caught.value.cause


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "else/001"}, "'else/001' cannot be the folder of a bucket"),
        ({"folder": ""}, "'' cannot be the folder of a bucket"),
        ({"name": ""}, "one of its buckets has no name"),
        ({"name": "uploads"}, "it names the bucket 'uploads' 2 times"),
        ({"name": "lost"}, "it names the bucket 'lost' 2 times"),
        ({"folder": "buckets/002"}, "it names buckets/002 twice"),
        ({"folder": "buckets/003"}, "do not have the same folders: buckets/001, buckets/003"),
    ],
)
def test_none_but_the_first_is_the_applications(change: dict[str, str], said: str) -> None:
    names = ["listing.jsonl.gz", "buckets/001/listing.jsonl.gz", "buckets/002/listing.jsonl.gz"]
    assert read(WRITTEN).impossible(names) == ""
    first, second = WRITTEN["others"]
    assert said in read({**WRITTEN, "others": [{**first, **change}, second]}).impossible(names)
