# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which buckets a store has, which of them backups hold, and which are Lifeboat's own."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import store
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import proof, recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import Store
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import parse
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import probe
from builders import settings
from object_world import OBJECTS, SECRETS, VAULT, publish_objects

HERE = "http://127.0.0.1:9000"
S3 = {"type": "s3", "bucket": "backups"}
AMAZON = "https://s3.eu-central-1.amazonaws.com"


def run(root: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], **given: Any) -> Opened:
    monkeypatch.setattr(bucket, "names", lambda one: sorted(names))
    monkeypatch.setattr(store, "_tagged", lambda one: one.name == "vault-of-blog")
    objects, vault = ({**base, **given.pop(key, {})} for key, base in (("objects", OBJECTS), ("vault", VAULT)))
    return Opened(config.from_mapping(settings(root, objects=objects, vault=vault, **given), SECRETS))


def test_every_bucket_is_protected_excluded_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run(tmp_path, monkeypatch, ["uploads", "docs", "avatars", "cache"], objects={"exclude": ["cache", "gone"]})
    assert store.read_store(opened) == Store(("uploads",), ("avatars", "docs"), ("cache",))
    assert [(gap.what, gap.why) for gap in store.read_store(opened).left] == [
        ("the buckets avatars, docs", "in no backup, as lifeboat_objects.bucket names uploads alone"),
        ("the bucket cache", "left out by lifeboat_objects.exclude"),
    ]
    assert store.read_store(run(tmp_path, monkeypatch, ["uploads"])).left == ()


@pytest.mark.parametrize(
    ("buckets", "exclude", "seen"),
    [
        (["*"], [], Store(("uploads", "avatars", "cache", "docs"))),
        (["*"], ["cache"], Store(("uploads", "avatars", "docs"), (), ("cache",))),
        (["*"], ["c*", "docs/tmp/*"], Store(("uploads", "avatars", "docs"), (), ("cache",))),
        (["d*"], [], Store(("uploads", "docs"), ("avatars", "cache"))),
        (["docs", "uploads"], ["docs"], Store(("uploads",), ("avatars", "cache"), ("docs",))),
    ],
)
def test_buckets_are_chosen_by_name_or_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: list[str], exclude: list[str], seen: Store
) -> None:
    names = ["uploads", "docs", "avatars", "cache"]
    opened = run(tmp_path, monkeypatch, names, objects={"buckets": buckets, "exclude": exclude})
    assert store.read_store(opened) == seen


def test_another_stacks_vault_is_neither_protected_nor_unprotected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["uploads", "docs", "vault-of-blog"]
    left_out = Store(("uploads", "docs"), vaults=("vault-of-blog",))
    assert store.read_store(run(tmp_path, monkeypatch, names, objects={"buckets": ["*"]})) == left_out
    named = run(tmp_path, monkeypatch, names, objects={"buckets": ["*", "vault-of-blog"]})
    assert store.read_store(named).protected == ("uploads", "docs", "vault-of-blog")
    excluded = run(tmp_path, monkeypatch, names, objects={"buckets": ["*"], "exclude": ["v*"]})
    assert store.read_store(excluded).excluded == ("vault-of-blog",)


def test_each_bucket_is_asked_once_whether_it_is_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its tag; on a server that keeps none of buckets by its rule, of which the first one told."""
    opened = run(tmp_path, monkeypatch, ["uploads", "a", "b", "c"], objects={"buckets": ["*"]})
    asked: list[str] = []

    def told(what: str, answer: Optional[bool]) -> Any:
        return lambda one: asked.append(f"{what} {one.name}") or answer

    monkeypatch.setattr(store, "_tagged", told("tag", False))
    assert store.read_store(opened).vaults == ()
    assert sorted(asked) == ["tag a", "tag b", "tag c"]
    asked.clear()
    monkeypatch.setattr(store, "_tagged", told("tag", None))
    monkeypatch.setattr(store, "_ruled", told("rule", True))
    assert store.read_store(opened).vaults == ("a", "b", "c")
    assert sorted(asked) == ["rule a", "rule b", "rule c", "tag a"]


def test_the_places_of_other_buckets_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a vault at the store's own address would be mirrored into itself, every night once more."""
    names = ["uploads", "docs", "uploads-backup", "uploads-backup-docs", "uploads-backup-gone"]
    given = {"objects": {"buckets": ["*"]}, "vault": {"endpoint_url": HERE}}
    assert store.read_store(run(tmp_path, monkeypatch, names, **given), ["gone"]) == Store(("uploads", "docs"))
    assert "uploads-backup-gone" in store.read_store(run(tmp_path, monkeypatch, names, **given)).protected


def test_a_bucket_that_is_named_and_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run(tmp_path, monkeypatch, ["uploads"], objects={"buckets": ["docs", "d*"]})
    assert store.absent(opened.config.objects, store.read_store(opened)) == ["docs"]


@pytest.mark.parametrize("name", ["../repository", "a/b", "", "..", "a..b", "a" * 300, "a b", "-a"])
def test_a_name_that_no_bucket_can_have_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A store says what its buckets are called, and the vault is not its."""
    with pytest.raises(UsageError, match="a bucket cannot have this name"):
        buckets.suffixed(run(tmp_path, monkeypatch, []).config, name)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Docs", "docs"), ("my_bucket", "my-bucket"), ("a.-b", "a-b"), ("a--b", ""), ("my.bucket.v1", ""), ("0", "")],
)
def test_a_name_that_only_path_style_takes_has_a_place_that_every_vault_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plain: str
) -> None:
    place = buckets.suffixed(run(tmp_path, monkeypatch, []).config, name)
    if plain:
        assert re.fullmatch(rf"uploads-backup-{plain}-[0-9a-f]{{10}}", place)
    else:
        assert place == f"uploads-backup-{name}"
    assert place != buckets.suffixed(run(tmp_path, monkeypatch, []).config, "docs")


def test_a_long_name_keeps_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(tmp_path, monkeypatch, []).config
    names = {buckets.suffixed(one, "a" * 62 + end) for end in "bc"}
    assert (len(names), {len(name) for name in names}) == (2, {63})
    assert buckets.suffixed(one, "a" * 48) == "uploads-backup-" + "a" * 48


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"buckets": [""]}, "that is no bucket"),
        ({"buckets": ["a/b"]}, "that is no bucket"),
        ({"exclude": ["/a"]}, "no bucket, nor a key in one"),
        ({"exclude": ["a/"]}, "no bucket, nor a key in one"),
        ({"buckets": ["*"], "bucket": ""}, "name the application's own bucket"),
    ],
)
def test_what_no_bucket_is_chosen_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objects: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        run(tmp_path, monkeypatch, [], objects=objects)


def test_what_a_backup_says_of_its_buckets_is_possible(tmp_path: Path) -> None:
    other = {"name": "docs", "folder": "buckets/001", "objects": 0, "bytes": 0, "consistency": "eventual"}
    for others, words in (
        ([other], "do not have the same folders: buckets/001"),
        ([{**other, "folder": "../x"}], "cannot be the folder of a bucket"),
        ([{**other, "name": ""}], "has no name"),
        ([{**other, "name": "uploads"}], "names the bucket 'uploads' 2 times"),
        ([other, {**other, "name": "two"}], "names buckets/001 twice"),
    ):
        point = publish_objects(tmp_path, {}, others=others)
        with pytest.raises(LifeboatError, match=words):
            parse(point.repo.manifest("objects", point.id), component="objects", expected_id=point.id)
        point.repo.delete("objects", point.id)


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
    assert store.read_store(opened).unprotected == tuple(left)


def test_buckets_of_a_moment_and_in_quarantine_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 24, 3, 0, 1)
    ours = [
        f"{recovery.SCRATCH}{at:%Y%m%d-%H%M%S}", f"{proof.PREFIX}0123abcd-{at:%Y%m%d%H%M%S}-0a1b2c",
        f"{probe.PREFIX}{at:%Y%m%d%H%M%S}-0123abcd", f"{probe.PREFIX}{at:%Y%m%d%H%M%S}-0123abcd-lock",
        store.quarantine_name("uploads", f"{at:%Y%m%d_%H%M%S}"),
    ]  # fmt: skip
    alike = ["docs-quarantine-20261124-030001", "lifeboat-check-ours", "uploads-quarantine-soon"]
    found = store.read_store(run(tmp_path, monkeypatch, ["uploads", *ours, *alike]))
    assert found.unprotected == tuple(sorted(alike)), "what only looks like ours is somebody's"


def test_a_key_that_may_not_list_buckets_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run(tmp_path, monkeypatch, [], objects={"exclude": ["cache"]})

    def denied(one: Any) -> list[str]:
        raise UsageError("list the buckets", one.endpoint_url, "access denied")

    monkeypatch.setattr(bucket, "names", denied)
    assert store.read_store(opened) == Store(("uploads",), excluded=("cache",), unlisted="access denied")
    assert [gap.what for gap in store.read_store(opened).left] == [
        "the bucket cache",
        "which other buckets the store has",
    ]


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
