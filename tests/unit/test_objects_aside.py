# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recovery overwrites or removes is still to be had afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.quarantine import Aside, quarantine_name
from object_world import FakeBucket, Object, failure

STAMP = "20261124_030000"
NAME = "uploads-quarantine-20261124-030000"


def aside(bucket: FakeBucket, *, versioned: bool = False, said: list[str] | None = None) -> Aside:
    log: Any = (said if said is not None else []).append
    return Aside(bucket, STAMP, versioned=versioned, log=log)  # type: ignore[arg-type]


def bucket_of(*keys: str) -> FakeBucket:
    return FakeBucket(objects={key: Object(f"body of {key}".encode()) for key in keys})


def test_without_versions_it_is_copied_into_a_bucket_of_its_own() -> None:
    one = bucket_of("a", "b", "c")
    said: list[str] = []
    kept = aside(one, said=said)
    kept.keep(iter(["a", "b"]))
    assert one.aside == {NAME: {"a": b"body of a", "b": b"body of b"}}
    assert sorted(one.objects) == ["a", "b", "c"]
    assert (kept.bucket, kept.copied, said) == (NAME, 2, [f"what is overwritten is kept in the bucket {NAME}"])


def test_with_versions_the_server_keeps_it() -> None:
    one = bucket_of("a", "b")
    kept = aside(one, versioned=True)
    kept.keep(["a"])
    kept.remove(["b"])
    assert (kept.bucket, one.aside, one.diary) == ("", {}, ["delete b"])


def test_removed_only_after_it_was_copied() -> None:
    one = bucket_of("a", "b", "bad")
    one.objects["bad"].error = failure("InternalError", 500)
    said: list[str] = []
    kept = aside(one, said=said)
    kept.remove(["a", "bad", "gone meanwhile"])
    assert one.aside[NAME] == {"a": b"body of a"}
    assert sorted(one.objects) == ["b", "bad"], "what cannot be kept is not removed"
    assert kept.unreadable == 1
    assert any(line.startswith("bad cannot be read, so its damaged bytes cannot be put aside") for line in said)


def test_nothing_to_keep_makes_no_bucket() -> None:
    one = bucket_of()
    kept = aside(one)
    kept.keep([])
    assert (kept.bucket, one.diary) == ("", [])


def test_a_refusal_stops_it_before_anything_is_overwritten() -> None:
    one = bucket_of("a")
    one.objects["a"].error = failure("AccessDenied", 403)
    with pytest.raises(UsageError, match="access denied"):
        aside(one).keep(["a"])


def test_many_keys_go_in_batches() -> None:
    one = bucket_of(*(f"k{n:04d}" for n in range(2500)))
    kept = aside(one)
    kept.keep(iter(sorted(one.objects)))
    assert (kept.copied, len(one.aside[NAME])) == (2500, 2500)


NAMES = [
    ("uploads", NAME),
    ("u" * 63, "u" * 36 + "-quarantine-20261124-030000"),
    ("a." + "b" * 40, "a." + "b" * 34 + NAME[7:]),
]


@pytest.mark.parametrize(("bucket", "name"), NAMES)
def test_the_bucket_has_a_name_that_servers_take(bucket: str, name: str) -> None:
    assert quarantine_name(bucket, STAMP) == name
    assert len(name) <= 63
