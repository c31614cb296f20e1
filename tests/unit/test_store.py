# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which buckets a store has, which of them backups hold, and which are Lifeboat's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Store
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import parse
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import probe
from builders import settings
from object_world import OBJECTS, SECRETS, VAULT, publish_objects

HERE = "http://127.0.0.1:9000"
S3 = {"type": "s3", "bucket": "backups"}
AMAZON = "https://s3.eu-central-1.amazonaws.com"


def run(root: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], **given: Any) -> Opened:
    monkeypatch.setattr(bucket, "names", lambda one: sorted(names))
    objects, vault = ({**base, **given.pop(key, {})} for key, base in (("objects", OBJECTS), ("vault", VAULT)))
    return Opened(config.from_mapping(settings(root, objects=objects, vault=vault, **given), SECRETS))


def test_every_bucket_is_protected_excluded_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run(tmp_path, monkeypatch, ["uploads", "docs", "avatars", "cache"], objects={"exclude": ["cache", "gone"]})
    assert store.look(opened) == Store(("uploads",), ("avatars", "docs"), ("cache",))
    assert [(gap.what, gap.why) for gap in store.look(opened).left] == [
        ("the buckets avatars, docs", "in no backup, as lifeboat_objects.bucket names uploads alone"),
        ("the bucket cache", "left out by lifeboat_objects.exclude"),
    ]
    assert store.look(run(tmp_path, monkeypatch, ["uploads"])).left == ()


OURS = ["uploads-backup", "mirror", "backups"]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"vault": {"endpoint_url": HERE, "repository_bucket": "mirror"}}, ["backups"]),
        ({"vault": {"endpoint_url": "http://localhost:9000"}}, ["backups", "mirror"]),
        ({"vault": {"endpoint_url": "http://127.0.0.1:9001", "repository_bucket": "mirror"}}, sorted(OURS)),
        ({"repository": {**S3, "endpoint_url": HERE}}, ["mirror", "uploads-backup"]),
        ({"repository": {**S3, "endpoint_url": "http://vault.invalid:9000"}}, sorted(OURS)),
        (
            {
                "objects": {"endpoint_url": AMAZON},
                "vault": {"endpoint_url": "", "region": "us-west-2", "repository_bucket": "mirror"},
            },
            ["backups"],
        ),
    ],
)
def test_the_vault_and_the_repository_are_ours_at_the_stores_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], left: list[str]
) -> None:
    """A bucket elsewhere of the same name says nothing of the one that is here."""
    monkeypatch.setattr(store, "addresses", lambda host: {"127.0.0.1"} if host == "localhost" else {host})
    opened = run(tmp_path, monkeypatch, ["uploads", *OURS], **given)
    assert store.look(opened).unprotected == tuple(left)


def test_buckets_of_a_moment_and_in_quarantine_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 24, 3, 0, 1)
    ours = [
        f"{recovery.SCRATCH}{at:%Y%m%d-%H%M%S}", f"{proof.PREFIX}0123abcd-{at:%Y%m%d%H%M%S}-0a1b2c",
        f"{probe.PREFIX}{at:%Y%m%d%H%M%S}-0123abcd", f"{probe.PREFIX}{at:%Y%m%d%H%M%S}-0123abcd-lock",
        store.quarantine_name("uploads", f"{at:%Y%m%d_%H%M%S}"),
    ]  # fmt: skip
    alike = ["docs-quarantine-20261124-030001", "lifeboat-check-ours", "uploads-quarantine-soon"]
    found = store.look(run(tmp_path, monkeypatch, ["uploads", *ours, *alike]))
    assert found.unprotected == tuple(sorted(alike)), "what only looks like ours is somebody's"


def test_a_key_that_may_not_list_buckets_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run(tmp_path, monkeypatch, [], objects={"exclude": ["cache"]})

    def denied(one: Any) -> list[str]:
        raise UsageError("list the buckets", one.endpoint_url, "access denied")

    monkeypatch.setattr(bucket, "names", denied)
    assert store.look(opened) == Store(("uploads",), excluded=("cache",), unlisted="access denied")
    assert [gap.what for gap in store.look(opened).left] == ["the bucket cache", "which other buckets the store has"]


def test_a_thousand_buckets_are_counted_and_a_hostile_name_is_shown_plainly(tmp_path: Path) -> None:
    gap = Store(("uploads",), ("a\nb\x1b[1m", *(f"b{number:04}" for number in range(1000)))).left[0]
    assert gap.what.startswith("the buckets a\\nb\\x1b[1m, b0000, ")
    assert gap.what.endswith(" b0006 and 993 more")


@pytest.mark.parametrize("twice", [{"unprotected": ["uploads"]}, {"unprotected": ["a"], "excluded": ["a"]}])
def test_a_manifest_that_names_a_bucket_twice_is_refused(tmp_path: Path, twice: dict[str, list[str]]) -> None:
    made = publish_objects(tmp_path, {}).manifest
    assert parse(made.to_bytes(), component="objects", expected_id=made.id)
    made = publish_objects(tmp_path, {}, made.taken_at.replace(hour=1), **twice).manifest
    with pytest.raises(LifeboatError, match=r"it names the bucket '(uploads|a)' 2 times"):
        parse(made.to_bytes(), component="objects", expected_id=made.id)
