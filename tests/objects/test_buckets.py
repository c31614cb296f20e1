# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of several buckets: mirrored, proved, lost in every way and brought back. Looked at with boto3 alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import builders
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError, SpaceError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import guard, prune, take
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror.listing import Point
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import carry_over, proof, refetch
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import planned as objects_planned
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import status, status_checks
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import catalog, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.components import KINDS
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import HeldBucket, ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import vault
from s3_faults import Call, error, faulty
from s3_servers import SeaweedFS, seaweedfs, wipe
from test_recover import BIG, Case, bad, empty, portrait

ON = {"Status": "Enabled"}
OTHERS = ("docs", "empty", "plain", "ruled")


class Many(Case):
    """The application's bucket and four others, in a server of the stack's own."""

    mirrored_manifest: Manifest
    monkeypatch: pytest.MonkeyPatch

    def fill(self) -> None:
        super().fill()
        for name in OTHERS:
            self.client.create_bucket(Bucket=name)
        for name in ("docs", "ruled"):
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration=ON)
        self.client.put_bucket_lifecycle_configuration(
            Bucket="ruled",
            LifecycleConfiguration={"Rules": [{
                "ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 9},
            }]},
        )  # fmt: skip
        for name in ("docs", "plain", "ruled"):
            for number in range(8):
                self.client.put_object(
                    Bucket=name, Key=f"same/{number}", Body=f"{name} {number}".encode(), ContentType="text/plain",
                    Metadata={"of": name}, Tagging=f"of={name}",
                )  # fmt: skip

    def settings(self, **changes: Any) -> None:
        self.config = dataclasses.replace(self.config, objects=dataclasses.replace(self.config.objects, **changes))

    def places(self, *names: str) -> None:
        """As lifeboat.dr.vault makes them."""
        vault.ensure(self.config, additional=names)

    def take(self, **options: Any) -> Manifest:
        made = take.take(Opened(self.config), log=self.said.append, **options)
        self.id = made.id
        return made

    def known(self, *rows: Any) -> None:
        """The database answers, and knows these: key, bucket."""
        self.settings(keys_query="SELECT key, bucket FROM f")

        class Database:
            database = "shop"

            def stream(self, sql: str, take: Any, **_: Any) -> None:
                for key, bucket in rows:
                    take([key, None, None, None, True, bucket])

        self.monkeypatch.setattr(server, "connect", lambda config, stack: Database())

    def details(self, **options: Any) -> ObjectsDetails:
        return self.take(**options).detailed(ObjectsDetails)

    def good(self) -> bool:
        repo = repositories.repository_of(Opened(self.config))
        return catalog.entries(repo, "objects", "shop")[-1].good

    def every(self) -> dict[str, Any]:
        names = [found["Name"] for found in self.client.list_buckets()["Buckets"]]
        return {
            name: (portrait(self.client, name), self.client.get_bucket_versioning(Bucket=name).get("Status"))
            for name in names
        }

    def recover(self, **request: Any) -> dict[str, Any]:
        made = self.plan(**request)
        assert made["needed"], "; ".join(made["steps"])
        protected = typed.plain(objects_recovery.protect(Opened(self.config), self.made, log=self.said.append))
        return self.restore(made, protected)

    def restore(self, made: dict[str, Any], protected: dict[str, Any]) -> dict[str, Any]:
        if protected["mode"] == "started":
            return {**made, **protected}
        names = ("stamp", "prefix", "exact", "partial", "state", "bucket")
        restored = objects_recovery.restore_objects(
            Opened(self.config), made["backup"]["id"], log=self.said.append, fresh=protected["fresh"],
            bucket_settings="only" if made["mode"] == "settings" else made["settings"],
            requested=made["asked"], additional=made["others"], **{name: made[name] for name in names},
        )  # fmt: skip
        return {**made, **protected, **typed.plain(restored)}

    def prove(self, level: str = "restore", sample: int = 0) -> list[tuple[str, str]]:
        run = Opened(self.config)
        repo = repositories.repository_of(run)
        entry = catalog.entries(repo, "objects", "shop")[-1]
        assert entry.manifest
        found = proof.levels(run, repo, entry.manifest, level, sample, self.said.append)
        return [(check.name, check.result) for check in found]


@pytest.fixture
def case(tmp_path: Path, weed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[Many]:
    monkeypatch.setattr(protect, "PATIENCE_WHEN_EXITED", 0.0)
    mirrored = f"mirror-{datetime.now(timezone.utc):%H%M%S%f}"
    with seaweedfs() as own:
        own.client.create_bucket(Bucket="uploads")
        own.client.put_bucket_versioning(Bucket="uploads", VersioningConfiguration=ON)
        weed.client.create_bucket(Bucket=mirrored)
        one = Many(tmp_path, own, "uploads", weed, mirrored, True)
        one.monkeypatch = monkeypatch
        monkeypatch.setattr(runtime, "connect", lambda config: one.process)
        one.settings(buckets=("*",))
        one.fill()
        one.places(*OTHERS)
        yield one
    for found in weed.client.list_buckets()["Buckets"]:
        if found["Name"].startswith(mirrored):
            wipe(weed.client, found["Name"])


def test_one_backup_holds_every_bucket_and_each_has_its_place(case: Many) -> None:
    details = case.details()
    assert [(held.name, held.folder, held.objects) for held in details.buckets] == [
        ("uploads", "", 7), ("docs", "buckets/001", 8), ("empty", "buckets/002", 0), ("plain", "buckets/003", 8),
        ("ruled", "buckets/004", 8),
    ]  # fmt: skip
    assert (details.missing, details.left, case.good()) == ({}, (), True)
    for name in OTHERS:
        assert portrait(case.vault.client, f"{case.mirrored}-{name}") == portrait(case.client, name)
    again = case.details()
    assert [held.copied for held in again.buckets] == [0] * 5, "what was copied is not copied again"
    assert [held.digest for held in again.buckets] == [held.digest for held in details.buckets]


def test_the_applications_bucket_stays_where_it_is_when_others_join(case: Many) -> None:
    case.settings(buckets=())
    alone = case.details()
    assert (alone.additional, alone.unprotected) == ((), OTHERS)
    case.settings(buckets=("*",))
    joined = case.details()
    assert (joined.primary.copied, [held.copied for held in joined.additional]) == (0, [8, 0, 8, 8])
    case.settings(buckets=("d*", "ruled"), exclude=("plain",))
    some = case.details()
    assert [held.name for held in some.additional] == ["docs", "ruled"]
    assert (some.unprotected, some.excluded, some.missing) == (("empty",), ("plain",), {})


def everything_wiped_while_it_is_down(case: Many) -> None:
    case.process.stop(["objects"], timeout=1)
    empty(case.source.data)


def everything_wiped_while_it_runs(case: Many) -> None:
    empty(case.source.data)


def one_bucket_deleted(case: Many) -> None:
    wipe(case.client, "docs")


def two_damaged(case: Many) -> None:
    for number in range(4):
        case.client.delete_object(Bucket="plain", Key=f"same/{number}")
    case.client.put_bucket_versioning(Bucket="ruled", VersioningConfiguration={"Status": "Suspended"})


@pytest.mark.parametrize(
    "fault",
    [
        everything_wiped_while_it_is_down,
        pytest.param(everything_wiped_while_it_runs, marks=pytest.mark.long),
        one_bucket_deleted,
        pytest.param(two_damaged, marks=pytest.mark.long),
    ],
)
def test_every_bucket_comes_back(case: Many, fault: Any) -> None:
    expected = case.every()
    case.take()
    fault(case)
    found = case.recover()
    assert bad(found) == []
    assert case.every() == expected
    again = case.plan()
    assert (again["mode"], again["condition"]) == ("reopen", "healthy"), again["why"]


def test_what_is_intact_is_not_touched(case: Many) -> None:
    case.take()
    case.client.put_object(Bucket="ruled", Key="same/1", Body=b"changed since, and rightly so")
    case.client.put_object(Bucket="ruled", Key="later", Body=b"written since")
    before = case.every()
    wipe(case.client, "docs")
    found = case.recover()
    assert (found["mode"], found["others"], bad(found)) == ("fill", ["docs"], [])
    assert case.every() == before
    fates = {one["name"]: one["action"] for one in found["buckets"]}
    assert fates == {
        "uploads": "restored",
        "docs": "restored",
        **dict.fromkeys(("empty", "plain", "ruled"), "untouched"),
    }


def test_a_state_that_is_asked_for_is_that_of_all_buckets(case: Many) -> None:
    expected = case.every()
    case.take()
    older = case.id
    for name in ("docs", "uploads"):
        case.client.put_object(Bucket=name, Key="same/1", Body=b"the second version")
    case.take()
    found = case.recover(identity=older, exact=True)
    assert (bad(found), case.every()) == ([], expected)
    assert case.plan(identity=older)["mode"] == "reopen", "nothing but the application is left"
    case.client.delete_object(Bucket="ruled", Key="same/0")
    assert case.plan(identity=older)["why"] == f"1 objects of the bucket ruled are not those of {older}"


def test_exactly_is_meant_of_every_bucket(case: Many) -> None:
    """What was written since is nowhere but in another bucket than the application's."""
    expected = case.every()
    case.take()
    case.client.put_object(Bucket="docs", Key="later", Body=b"written since")
    assert case.plan()["needed"] is False, "what the point does not know stays"
    made = case.plan(exact=True)
    assert made["why"] == f"1 objects of the bucket docs are not in {case.id}, and exact was given"
    assert (made["mode"], made["counts"]["extra"]) == ("fill", 1)
    found = case.recover(exact=True)
    assert (bad(found), case.every()) == ([], expected)


def test_a_bucket_that_could_not_be_looked_at_is_not_called_whole(case: Many) -> None:
    """It may be listed and not read: nothing is done to it, and nothing is claimed."""
    case.take()
    expected = case.every()
    wipe(case.client, "docs")
    case.process.stop(["objects"], timeout=1)

    def refusing(call: Call) -> Any:
        return error(403, "AccessDenied") if call.method == "GET" and call.path.startswith("/plain/same") else None

    with faulty(case.source, refusing) as proxy:
        case.settings(endpoint_url=proxy.url)
        found = case.recover()
    assert (found["others"], case.every()) == (list(OTHERS), expected)
    ((name, result, words),) = [(one["name"], one["result"], one["detail"]) for one in bad(found)]
    assert (name, result) == ("bucket plain", COULD_NOT_VERIFY)
    assert "it was not looked at: access denied" in words
    assert [one["detail"] for one in found["checks"] if one["name"] == "other buckets left as they are"] == [
        "the buckets empty, ruled"
    ]


def test_one_bucket_by_its_name(case: Many) -> None:
    case.take()
    expected = case.every()
    for name in ("docs", "ruled"):
        case.client.put_object(Bucket=name, Key="same/1", Body=b"other")
    found = case.recover(bucket="docs", identity=case.id)
    assert (found["target"], found["others"], bad(found)) == ("docs", [], [])
    now = case.every()
    assert now["docs"] == expected["docs"]
    assert now["ruled"] != expected["ruled"], "nobody asked for it"
    assert case.plan(bucket="docs", identity=case.id)["mode"] == "reopen", "nothing but the application is left"
    with pytest.raises(UsageError, match="Leave -e bucket= away"):
        case.plan(bucket="docs", method="rebuild", force=True)


def test_a_rebuild_asks_before_it_moves_what_is_in_no_backup(case: Many) -> None:
    case.settings(exclude=("plain",))
    case.take()
    before = case.every()
    made = case.plan(force=True, method="rebuild")
    assert made["asks"] == ["plain"]
    with pytest.raises(UsageError, match="rebuilding would also move the bucket plain aside"):
        case.recover(force=True, method="rebuild")
    assert (case.every(), case.process.up) == (before, True)
    found = case.recover(force=True, method="rebuild", other_buckets="restore")
    assert bad(found) == []
    assert case.every() == before, "the server still gave the one that is in no backup"


def uncovered(case: Many) -> dict[str, Any]:
    """One bucket is left out, one is young, and objects of the others are; returns what there is."""
    case.settings(buckets=("docs", "empty", "ruled"), exclude=("plain",))
    case.take()
    case.client.create_bucket(Bucket="young")
    case.client.put_bucket_versioning(Bucket="young", VersioningConfiguration=ON)
    case.client.put_bucket_tagging(Bucket="young", Tagging={"TagSet": [{"Key": "of", "Value": "somebody"}]})
    body = BIG + b"more"
    case.client.put_object(Bucket="young", Key="a/" + "k" * 1000, Body=body, ContentType="video/mp4", Tagging="x=1")
    for name in ("uploads", "docs"):
        case.client.put_object(Bucket=name, Key="later/\u5199", Body=b"since", Metadata={"n": "1"}, Tagging="since=1")
    return case.every()


def copies(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        check["name"].removeprefix("copy of the bucket "): (check["result"], check["detail"])
        for check in found["checks"]
        if check["name"].startswith("copy of the bucket ")
    }


def left(case: Many) -> list[Path]:
    """What was copied out and is on this host."""
    return sorted(case.config.state.glob("buckets.quarantine_*"))


def test_a_rebuild_copies_out_first_what_no_backup_holds(case: Many) -> None:
    expected = uncovered(case)
    made = case.plan(force=True, method="rebuild")
    assert made["asks"] == ["young", "plain"]
    made = case.plan(force=True, method="rebuild", other_buckets="restore")
    copied = {one["name"]: one["objects"] for one in made["buckets"] if one["action"] == "copied"}
    assert copied == {"plain": 8, "young": 1}
    told = " ".join([*objects_planned.text(case.made), *made["steps"]])
    assert "copied out of the old server first, and put back: the bucket young (in no backup)" in told
    assert "that is 9 objects, 16.8 MB" in told
    assert "the buckets young, plain, 9 objects, 16.8 MB, 2 objects that the point does not know" in told
    found = case.recover(force=True, method="rebuild", other_buckets="restore")
    assert bad(found) == []
    assert case.every() == expected
    assert case.client.get_bucket_tagging(Bucket="young")["TagSet"] == [{"Key": "of", "Value": "somebody"}]
    assert copies(found) == {
        "uploads": (PASS, "1 objects (5 B) as they were before the rebuild"),
        "docs": (PASS, "1 objects (5 B) as they were before the rebuild"),
        "young": (PASS, "1 objects (16.8 MB) and its settings as they were before the rebuild"),
        "plain": (PASS, "8 objects (56 B) and its settings as they were before the rebuild"),
    }
    assert left(case) == []
    assert not [gap for gap in found["untested"] if "plain" in gap["what"]]


def test_what_the_old_server_does_not_give_is_named(case: Many) -> None:
    """A bucket of which an object cannot be read, and one that cannot be listed: the others come back all the same.

    What was written to a protected bucket after the backup is lost with the disk, as rows are: named, and no FAIL.
    """
    expected = uncovered(case)

    def damaged(call: Call) -> Any:
        path = call.path.partition("?")[0].strip("/")
        broken = call.method in ("GET", "HEAD") and path in ("plain/same/3", "docs/later/%E5%86%99")
        listed = call.method == "GET" and path == "young" and "list-type" in call.query
        return error(500, "InternalError") if (broken or listed) and not restored else None

    restored: list[str] = []
    with faulty(case.source, damaged) as proxy:
        case.settings(endpoint_url=proxy.url)
        made = case.plan(force=True, method="rebuild", other_buckets="restore")
        fates = {one["name"]: (one["action"], one["why"]) for one in made["buckets"]}
        assert fates["young"][0] == "quarantined" and "it cannot be copied out" in fates["young"][1]
        protected = typed.plain(objects_recovery.protect(Opened(case.config), case.made, log=case.said.append))
        restored.append("from now on it is another server")
        found = case.restore(made, protected)
    told = copies(found)
    assert (
        told["plain"][0] == FAIL and "1 objects could not be read out of the old server; same/3: " in told["plain"][1]
    )
    assert told["young"][0] == FAIL and "it was not listed to its end" in told["young"][1]
    assert told["docs"][0] == PASS and "lost, as the backup does not have them: 1 objects" in told["docs"][1]
    assert told["uploads"][0] == PASS and "lost" not in told["uploads"][1]
    now = case.every()
    del expected["plain"][0]["same/3"], expected["docs"][0]["later/\u5199"]
    expected["young"][0].clear()
    assert now == expected
    assert left(case) == [], "there is nothing more in them"


def test_a_killed_rebuild_is_taken_up(case: Many) -> None:
    """Before anything is restored, and after all of the backup is back."""
    expected = uncovered(case)
    made = case.plan(force=True, method="rebuild", other_buckets="restore")
    objects_recovery.protect(Opened(case.config), case.made, log=case.said.append)
    assert len(left(case)) == 1

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with case.monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(carry_over.Return, "bring", killed)
        case.recover()
    assert case.plan()["mode"] == "fill", "what the backup holds is back, and nothing has compared it"
    found = case.recover()
    assert {result for result, _words in copies(found).values()} == {PASS}
    assert sorted(copies(found)) == ["docs", "plain", "uploads", "young"]
    assert (case.every(), left(case)) == (expected, [])
    assert made["needed"] and case.plan()["mode"] == "reopen", "nothing but the application is left"


def test_no_room_for_what_is_copied_out(case: Many) -> None:
    expected = uncovered(case)

    def full(directory: Path, size: int) -> None:
        raise SpaceError("write below", str(directory), "No space left on device")

    case.monkeypatch.setattr(carry_over.filesystem, "require_room", full)
    with pytest.raises(SpaceError):
        case.recover(force=True, method="rebuild", other_buckets="restore")
    assert (case.every(), case.process.up, left(case)) == (expected, True, [])
    case.recover(force=True, method="rebuild", other_buckets="aside", exact=True)
    assert sorted(case.every()) == ["uploads"]


def test_a_store_that_does_not_answer_gives_nothing(case: Many) -> None:
    uncovered(case)
    case.process.stop(["objects"], timeout=1)
    made = case.plan()
    assert (made["mode"], made["asks"]) == ("start", ["plain"])
    told = " ".join(objects_planned.text(case.made))
    assert "the server does not answer, so nothing can be copied out of it" in told
    assert "it is not done before you say -e others=restore" in told


def test_others_that_are_to_stay_aside(case: Many) -> None:
    case.take()
    found = case.recover(force=True, method="rebuild", other_buckets="aside")
    assert (bad(found), sorted(case.every())) == ([], ["uploads"])
    assert {one["action"] for one in found["buckets"][1:]} == {"quarantined"}


def test_a_bucket_that_appears_and_one_that_goes(case: Many) -> None:
    case.take()
    case.client.create_bucket(Bucket="young")
    case.client.put_object(Bucket="young", Key="a", Body=b"a")
    first = case.details()
    assert first.missing == {
        "young": f"the vault has no bucket {case.mirrored}-young for it yet; lifeboat.dr.vault makes it"
    }
    assert not case.good(), "a backup that lacks one is not good"
    case.places("young")
    assert (case.details().additional[-1].name, case.good()) == ("young", True)
    wipe(case.client, "docs")
    gone = case.details()
    assert list(gone.missing) == ["docs"] and "--override" in gone.missing["docs"]
    assert list(case.details().missing) == ["docs"], "it is not forgotten after one night"
    assert (case.details(override=True).missing, case.good()) == ({}, True)


def test_a_bucket_that_was_left_out_for_a_while_is_remembered(case: Many) -> None:
    """What the vault has of it is known, its gap is named, and no instant of it is called a snapshot."""

    def held(manifest: Manifest) -> HeldBucket:
        return next(held for held in manifest.detailed(ObjectsDetails).additional if held.name == "docs")

    def later() -> None:
        time.sleep(1.1)
        builders.publish(case.root, datetime.now(timezone.utc))

    later()
    before = case.take()
    assert (held(before).consistency, held(before).gap) == ("snapshot", "")
    case.settings(exclude=("docs",))
    later()
    case.client.delete_object(Bucket="docs", Key="same/0")
    case.client.put_object(Bucket="docs", Key="new", Body=b"written in the gap")
    without = case.take()
    assert "docs" not in {held.name for held in without.detailed(ObjectsDetails).additional}
    case.settings(exclude=())
    with case.monkeypatch.context() as patch:

        def refused(config: Config, source: Bucket, vault: Bucket) -> None:
            raise UsageError("mirror the bucket", source.name, "not tonight")

        patch.setattr(guard, "require_place", refused)
        assert "docs" in case.take().detailed(ObjectsDetails).missing, "it fails in its first night"
    again = case.take()  # of the same database backup: nobody looked at that instant
    gap = f"{clock.format_time(before.taken_at)}/{clock.format_time(without.taken_at)}"
    assert (held(again).gap, held(again).consistency) == (gap, "eventual")
    assert "nobody looked at it at that instant" in held(again).why
    later()
    case.said.clear()
    after = case.take()
    assert (held(after).gap, held(after).consistency) == (gap, "snapshot"), (
        "it is named while there is a backup of before"
    )
    said = "no backup after {} and until {} holds it".format(*gap.split("/"))
    assert f"WARNING: the bucket docs: {said}" in case.said
    assert f"the bucket docs: {said}" in KINDS["objects"].notes(after.detailed(ObjectsDetails))
    assert held(after).removed == 1, "what went in the gap is removed, as the backup of before it tells what was ours"
    assert portrait(case.vault.client, f"{case.mirrored}-docs") == portrait(case.client, "docs")


def test_an_override_is_of_all_buckets_together(case: Many, weed: SeaweedFS) -> None:
    """The number that the refusal of one bucket names let as many be removed in each of the others."""
    case.take()
    for name in ("uploads", "docs"):
        for content in case.client.list_objects_v2(Bucket=name)["Contents"]:
            case.client.delete_object(Bucket=name, Key=content["Key"])

    def held() -> int:
        return len(weed.client.list_objects_v2(Bucket=f"{case.mirrored}-docs").get("Contents", ()))

    with pytest.raises(UsageError, match="--override 7`"):
        case.take()
    assert "the bucket is empty, and 8 of the 8 objects" in case.details(override=14).missing["docs"], "7 and 8 are 15"
    assert held() == 8
    assert case.details(override=15).missing == {}
    assert held() == 0, "what is in the vault of a bucket that a backup lacked is not forgotten"


def test_a_bucket_that_goes_or_appears_while_the_mirror_runs(case: Many) -> None:
    """One before it is looked at, one while it is copied: neither is held as empty, and the others are mirrored."""
    case.take()
    expected = case.every()
    older = case.id
    case.client.put_object(Bucket="plain", Key="same/1", Body=b"the second version")
    case.client.put_object(Bucket="uploads", Key="new", Body=b"of the application")
    done: list[str] = []

    def happens(line: str) -> None:
        case.said.append(line)
        gone = "docs" if line.startswith("objects_backup") else "plain" if line.startswith("plain: ") else ""
        if gone and gone not in done:
            done.append(gone)
            wipe(case.client, gone)
            case.client.create_bucket(Bucket=f"young-{gone}")

    details = take.take(Opened(case.config), log=happens).detailed(ObjectsDetails)
    assert done == ["docs", "plain"]
    assert (sorted(details.missing), case.good()) == (["docs", "plain"], False), case.said
    assert [held.name for held in details.additional] == ["empty", "ruled"]
    assert sorted(case.details().missing) == ["docs", "plain", "young-docs", "young-plain"]
    found = case.recover()
    assert (found["backup"]["id"], found["others"], bad(found)) == (older, ["docs", "plain"], [])
    now = case.every()
    assert {name: now[name] for name in ("docs", "plain")} == {name: expected[name] for name in ("docs", "plain")}


def test_two_stacks_that_share_a_store(case: Many, tmp_path: Path) -> None:
    """Both hold all of it. What one brings back leaves alone what the other has written since."""
    (tmp_path / "blog").mkdir()
    mirrored = f"{case.mirrored}-of-blog"
    case.vault.client.create_bucket(Bucket=mirrored)
    blog = Many(tmp_path / "blog", case.source, "docs", case.vault, mirrored, True)
    blog.config = dataclasses.replace(blog.config, stack="blog")
    blog.process = case.process
    blog.settings(buckets=("*",))
    blog.places("uploads", "empty", "plain", "ruled")
    case.take()
    blog.take()
    assert (case.details().missing, blog.details().missing) == ({}, {})
    case.client.put_object(Bucket="docs", Key="post", Body=b"written by the other stack since")
    case.client.put_object(Bucket="docs", Key="same/1", Body=b"changed by the other stack since")
    expected = case.every()
    case.client.delete_object(Bucket="uploads", Key="root")
    for number in range(8):
        case.client.delete_object(Bucket="plain", Key=f"same/{number}")
    found = case.recover()
    assert (found["mode"], found["others"], bad(found)) == ("fill", ["plain"], [])
    assert case.every() == expected
    assert blog.plan()["condition"] == "healthy"
    case.settings(buckets=())
    assert case.details().unprotected == ("docs", "empty", "plain", "ruled"), "each may hold its own alone"


def test_another_stacks_vault_on_the_store_is_left_out(case: Many) -> None:
    """It would be a backup of backups. A bucket that is named is held all the same."""
    case.vault.client.create_bucket(Bucket=f"{case.mirrored}-blog-backup")
    theirs = {"endpoint_url": case.source.url, "objects_bucket": "blog-backup", "repository_bucket": "blog-repository"}
    keys = {"vault_access_key": case.source.access_key, "vault_secret_key": case.source.secret_key}
    blog = dataclasses.replace(
        case.config, stack="blog", vault=dataclasses.replace(case.config.vault, **theirs),
        secrets={**case.config.secrets, **keys},
    )  # fmt: skip
    vault.ensure(blog)
    details = case.details()
    assert (details.vaults, details.missing) == (("blog-backup", "blog-repository"), {})
    assert ([held.name for held in details.additional], details.unprotected) == (list(OTHERS), ())
    repo = repositories.repository_of(Opened(case.config))
    manifest = catalog.entries(repo, "objects", "shop")[-1].manifest
    assert manifest
    judged = status_checks._objects_judged(case.config, repo, manifest)
    ((result, words),) = [(one.result, one.detail) for one in judged if one.name == "buckets"]
    told = "the buckets blog-backup, blog-repository: another stack's vault, which no backup holds"
    assert result == PASS and words.endswith(told)
    made = case.plan(force=True, method="rebuild", other_buckets="restore")
    aside = [(one["name"], one["why"]) for one in made["buckets"] if one["action"] == "quarantined"]
    assert aside == [("blog-backup", "another stack's vault"), ("blog-repository", "another stack's vault")]
    assert case.plan(force=True, method="rebuild")["asks"] == ["blog-backup", "blog-repository"]
    case.settings(buckets=("*", "blog-backup"))
    assert case.details().vaults == ("blog-repository",)
    case.settings(buckets=("*",))
    marked = case.details()
    assert "is marked as another stack's vault now" in marked.missing["blog-backup"], "a mark hides nothing silently"


def test_a_bucket_that_was_wiped_does_not_become_the_newest_mirror(case: Many) -> None:
    case.take()
    expected = portrait(case.client, "docs")
    for number in range(8):
        case.client.delete_object(Bucket="docs", Key=f"same/{number}")
    details = case.details()
    assert "the bucket is empty, and 8 of the 8 objects there would be removed" in details.missing["docs"]
    assert [held.name for held in details.additional] == ["empty", "plain", "ruled"]
    assert portrait(case.vault.client, f"{case.mirrored}-docs") == expected
    case.recover()
    assert portrait(case.client, "docs") == expected


def test_a_place_that_is_another_stacks_is_left_alone(case: Many) -> None:
    case.vault.client.put_bucket_tagging(
        Bucket=f"{case.mirrored}-docs", Tagging={"TagSet": [{"Key": "lifeboat", "Value": "other/objects"}]}
    )
    assert "is marked as that of other/objects" in case.details().missing["docs"]
    assert portrait(case.vault.client, f"{case.mirrored}-docs") == {}


def test_each_bucket_is_proved(case: Many) -> None:
    case.take()
    found = case.prove()
    assert {result for _name, result in found} == {PASS}
    assert {"versions", "restore", "other buckets: versions", "other buckets: restore"} <= {name for name, _ in found}
    assert {result for _name, result in case.prove(sample=3)} == {PASS}
    (lost,) = case.vault.client.list_object_versions(Bucket=f"{case.mirrored}-docs", Prefix="same/3")["Versions"]
    case.vault.client.delete_object(Bucket=f"{case.mirrored}-docs", Key="same/3", VersionId=lost["VersionId"])
    wrong = [check for check in case.prove() if check[1] != PASS]
    assert wrong == [("bucket docs: versions", FAIL)]


def test_old_versions_go_from_every_place(case: Many) -> None:
    first = case.take()
    case.client.put_object(Bucket="docs", Key="same/1", Body=b"the second version")
    second = case.take()
    repo = repositories.repository_of(Opened(case.config))
    later = datetime.now(timezone.utc).replace(year=datetime.now(timezone.utc).year + 1)
    both = [Point(repo, first), Point(repo, second)]
    assert prune.prune(Opened(case.config), both, later, dry_run=True).versions == 0
    assert prune.prune(Opened(case.config), both[1:], later, dry_run=False).versions == 1
    kept = case.vault.client.list_object_versions(Bucket=f"{case.mirrored}-docs", Prefix="same/1")["Versions"]
    assert len(kept) == 1
    assert {result for _name, result in case.prove("archive")} == {PASS}


def test_keys_that_are_left_out(case: Many) -> None:
    case.settings(exclude=("docs/same/1", "plain/same/*"))
    details = case.details()
    assert {held.name: held.objects for held in details.additional} == {"docs": 7, "empty": 0, "plain": 0, "ruled": 8}
    assert [gap.what for gap in details.left] == ["the objects docs/same/1", "the objects plain/same/*"]
    before = case.every()
    found = case.recover(identity=case.id, force=True, exact=True)
    assert (bad(found), case.every()) == ([], before), "what no backup holds is not put aside as unknown"


def test_rows_are_compared_with_the_bucket_that_they_name(case: Many) -> None:
    """Two of eight are below the limit: without the column nobody could say that they are lost."""
    case.take()
    expected = case.every()
    for key in ("same/1", "same/2"):
        case.client.delete_object(Bucket="docs", Key=key)
        case.client.delete_object(Bucket="plain", Key=key)
    case.known(
        ("same/1", "docs"), ("same/2", "docs"), ("same/0", "plain"), *((key, None) for key in expected["uploads"][0])
    )
    rows = {check.name: (check.result, check.detail) for check in status._rows_of_others(Opened(case.config))}
    assert rows["bucket docs: rows without objects"] == (FAIL, "2 rows have no object: same/1, same/2")
    assert rows["other buckets: rows without objects"] == (PASS, "plain: all 1 rows have their object")
    found = case.recover()
    assert "the bucket docs: objects are gone that the database knows: 2 (same/1, same/2)" in found["findings"]
    assert (found["others"], bad(found)) == (["docs"], [])
    assert case.every()["docs"] == expected["docs"]
    assert ("other buckets: rows without objects", PASS) in [(one["name"], one["result"]) for one in found["checks"]]


def test_rows_of_a_bucket_whose_objects_only_an_older_backup_has(case: Many) -> None:
    case.take()
    older = case.id
    case.client.delete_object(Bucket="plain", Key="same/1")
    case.take()
    own = [(key, None) for key in portrait(case.client, "uploads")]
    case.known(("same/1", "plain"), ("same/0", "plain"), ("never", "empty"), *own)
    words = rf"the bucket plain: rows have no object: 1 \(same/1\); {older} has 1 of them"
    with pytest.raises(NotFoundError, match=rf"(?s){words}.*-e recovery_point={older}"):
        case.plan()
    found = refetch.live(Opened(case.config), fetch=True, log=case.said.append)
    assert [(offer.bucket, offer.key) for offer in found.offers] == [("plain", "same/1")]
    assert (found.fetched, found.unfit, found.verdict) == (1, 1, FAIL)
    assert "fetched: plain/same/1" in " ".join(refetch.text(found))
    made = case.plan()
    assert (made["needed"], made["condition"], made["rows_without"]) == (False, "damaged", 1)
    case.known(("a", "docs"), ("b", "other"), *own)
    case.settings(exclude=("docs",))
    rows = {check.name: check for check in status._rows_of_others(Opened(case.config))}
    assert {check.result for check in rows.values()} == {COULD_NOT_VERIFY}
    assert "1 rows name the bucket docs" in rows["rows of other buckets"].detail
    assert "bucket other: rows and objects" in rows, "it is not there"


def test_settings_that_differ_are_put_back_in_every_bucket_and_nothing_else(case: Many) -> None:
    """A rule that expires sooner, and one that was not there and stays. One of the objects was changed since."""

    def rules(bucket: str) -> Any:
        try:
            return case.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        except case.client.exceptions.ClientError:
            return None

    def rule(bucket: str, days: int) -> None:
        case.client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": [{
                "ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": days},
            }]},
        )  # fmt: skip

    case.take()
    wanted = {name: rules(name) for name in ("uploads", *OTHERS)}
    rule("ruled", 1)
    rule("docs", 1)
    case.client.put_object(Bucket="ruled", Key="same/1", Body=b"changed since")
    before = case.every()
    assert case.plan()["needed"] is False
    found = case.recover(bucket_settings="restore")
    assert (found["mode"], found["others"], bad(found)) == ("settings", ["ruled"], [])
    assert (rules("ruled"), rules("uploads")) == (wanted["ruled"], wanted["uploads"])
    assert rules("docs"), "a setting is never removed"
    assert (case.every(), case.process.up) == (before, True)
    assert case.plan(bucket_settings="restore")["needed"] is False
    (kept,) = (check["detail"] for check in found["checks"] if check["name"] == "settings that were replaced")
    assert "<NoncurrentDays>1</NoncurrentDays>" in Path(kept.partition("kept in ")[2]).read_text()
