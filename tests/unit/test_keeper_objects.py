# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A keeper mirrors the stack's store: when, by what way, and no more than it takes. The mirror itself, on real servers:
tests/objects/test_keeper_mirror.py."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import objects, receive, status
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take as mirror
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import points, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import FilesDetails, HeldFiles
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Artefact, Manifest, backup_id
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, lifecycle, write_rights
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.copier import Room
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.signed import Bounds
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.write_rights import DELETE, WRITE, WriteRights
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import StoreSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import sftp
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.source import Source
from builders import make_manifest, publish_objects, settings
from keeper_world import DAY, PULLED, START, World, keeper_settings
from object_world import SECRETS, VAULT

STORE = {"bucket": "uploads", "endpoint_url": "http://127.0.0.1:9000"}


class Mirroring(World):
    """A keeper of a stack with a store; the mirror makes an objects backup of what a test says."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        given = settings(root, keeper=keeper_settings(root), objects=STORE, vault=VAULT)
        self.config = config.from_mapping(given, SECRETS)
        self.asked: list[str] = []
        self.details: dict[str, Any] = {}
        self.error: Optional[Exception] = None
        self.at: timedelta = timedelta()
        monkeypatch.setattr(mirror, "take", self._take)
        monkeypatch.setattr(lifecycle, "read", lambda source: [])
        self.rights = WriteRights()
        monkeypatch.setattr(write_rights, "attempt", lambda source: self.rights)

    def _take(self, run: Opened, **given: Any) -> Manifest:
        database: Manifest = given["database"]
        self.asked.append(database.id)
        if self.error:
            raise self.error
        eventual = self.details.get("consistency") == "eventual"
        # `publish_objects` writes below `backup`: the keeper's repository is one of the same layout.
        kept = self.root / "kept" / "repository"
        link = self.root / "made" / "backup"
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(kept)
        at = self.now if eventual else database.taken_at
        return publish_objects(self.root / "made", at, of=None if eventual else database, **self.details)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirroring:
    return Mirroring(tmp_path, monkeypatch)


def test_each_new_database_backup_is_mirrored_once_and_tied(world: Mirroring) -> None:
    first, pulled = world.night(0)
    assert (world.asked, pulled.mirrored.why) == ([first.id], "")
    made, point = pulled.mirrored.created
    (entry,) = points.entries(world.repo, "shop", points.backups(world.repo, "shop"))
    assert entry.point and entry.good
    assert entry.point.ids == {"database": first.id, "objects": made, "config": None}
    assert {"made"} == {record.kind for record in world.log._records if record.id in (made, point)}
    assert world.pull().mirrored.created == []
    second, _pulled = world.night(1)
    assert world.asked == [first.id, second.id]
    assert world.kinds() == []


def received_files(world: Mirroring, taken_at: datetime) -> str:
    """A backup of the stack's files, here already."""
    listing = b"listing"
    artefact = Artefact("listing.jsonl.zst", len(listing), hashlib.sha256(listing).hexdigest())
    made = make_manifest(
        taken_at, id=backup_id("files", taken_at), component="files", artefacts=(artefact,),
        details=typed.plain(FilesDetails(sources={"uploads": HeldFiles("/srv/uploads")})),
    )  # fmt: skip
    with world.repo.stage("files", made.id) as staging:
        (staging.path / artefact.name).write_bytes(listing)
        staging.publish(made.to_bytes())
    return made.id


def test_what_came_of_a_stack_is_in_the_points_whatever_the_keeper_is_configured_for(world: Mirroring) -> None:
    """Its configuration does not say that the stack has files: a site that is recovered would lack them."""
    world.night(0)
    received_files(world, START - 9 * DAY)  # when the stack still had files
    world.night(1)
    tied = points.entries(world.repo, "shop", points.backups(world.repo, "shop"))
    assert [entry.point and "files" in entry.point.ids for entry in tied] == [False, False]
    files = received_files(world, START + 2 * DAY - timedelta(minutes=5))
    made, _pulled = world.night(2)
    entry = points.entries(world.repo, "shop", points.backups(world.repo, "shop"))[-1]
    assert entry.point
    assert (entry.point.ids["database"], entry.point.ids["files"]) == (made.id, files)
    assert "dumps" not in entry.point.ids


@pytest.mark.slow
def test_nights_without_the_keeper_are_made_up_for_and_not_longer_than_it_may_be_away(world: Mirroring) -> None:
    made = [world.publish(START + number * DAY) for number in range(12)]
    again = world.publish(START + 11 * DAY + timedelta(hours=1))
    world.now = again.taken_at + PULLED
    world.pull()
    assert world.asked == [*(item.id for item in made[5:11]), again.id], "of one day the newest"


def test_no_mirror_begins_when_the_time_of_the_pull_is_up(world: Mirroring, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [world.publish(START + number * DAY) for number in range(2)]
    world.now = made[-1].taken_at + PULLED
    sources: list[Source] = []
    monkeypatch.setattr(
        mirror, "take", lambda run, **given: (setattr(sources[0].budget, "_ends", 0.0), world._take(run, **given))[1]
    )
    pulled = world.pull(lambda source: sources.append(source) or source)
    assert world.asked == [made[0].id]
    assert "did not end in" in pulled.mirrored.why


def test_a_backup_that_stays_due_is_mirrored_once_in_a_pull(world: Mirroring, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where two clocks disagree; without a bound the pull would never end."""
    made, real = world.publish(START), objects.due
    world.now = made.taken_at + PULLED

    def again(*given: Any) -> list[Manifest]:
        assert len(world.asked) < 3, "it goes on and on"
        return real(*given) or [made]

    monkeypatch.setattr(objects, "due", again)
    world.pull()
    assert world.asked == [made.id]


def test_a_store_that_tells_no_past_is_mirrored_once_for_the_newest_rows(world: Mirroring) -> None:
    world.details = {"consistency": "eventual", "why": "the source bucket keeps no versions", "versioned": False}
    made = [world.publish(START + number * DAY) for number in range(3)]
    world.now = made[-1].taken_at + PULLED
    world.pull()
    assert len(world.asked) == 1
    (entry,) = points.entries(world.repo, "shop", points.backups(world.repo, "shop"))
    assert entry.point and entry.point.ids["database"] == made[-1].id
    assert entry.point.consistency == "eventual"


def test_what_the_host_says_of_its_store_and_its_own_points_are_not_taken(world: Mirroring) -> None:
    publish_objects(world.root, START)
    made, pulled = world.night(0)
    assert pulled.received == [made.id]
    assert set(pulled.listed) == {"database", "files", "dumps", "config"}


FAILURES: dict[str, tuple[Exception, str]] = {
    "an error": (UsageError("mirror the bucket", "s3://uploads", "4 of the 6 objects would be removed"), "4 of the 6"),
    "a size that is no number": (ValueError("invalid literal for int()"), "its answer cannot be read"),
    "a nesting without end": (RecursionError("maximum recursion depth"), "its answer cannot be read"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_store_that_is_not_mirrored_is_an_alarm_until_it_is(world: Mirroring, failure: str) -> None:
    world.night(0)
    assert world.kinds() == []
    world.error, said = FAILURES[failure]
    made, pulled = world.night(1)
    assert (pulled.received, pulled.problem) == ([made.id], None), "the database backup is here all the same"
    assert said in pulled.mirrored.why
    (alarm,) = world.alarms()
    assert (alarm.kind, said in alarm.message) == ("objects", True)
    assert world.prune().delete == ()
    world.error = None
    assert len(world.pull().mirrored.created) == 2
    assert world.kinds() == []


def test_a_backup_of_another_time_is_no_instant_to_mirror(world: Mirroring) -> None:
    world.error = LifeboatError("mirror the bucket", "s3://uploads", "it does not answer")
    world.night(5)
    world.error, world.asked = None, []
    planted = world.publish(START + 3 * DAY)
    made, pulled = world.night(6)
    assert planted.id in pulled.received
    assert planted.id not in world.asked and world.asked[-1] == made.id


def test_a_store_that_is_never_mirrored_is_silence(world: Mirroring) -> None:
    world.error = LifeboatError("mirror the bucket", "s3://uploads", "it does not answer")
    for number in range(3):
        world.night(number)
    assert [alarm.message for alarm in world.alarms() if alarm.kind == "silent"] == [
        "no backup of objects was ever received"
    ]


def test_half_of_the_objects_is_a_shrink(world: Mirroring) -> None:
    world.details = {"objects": 100}
    world.night(0)
    world.details = {"objects": 40}
    world.night(1)
    assert world.kinds() == ["shrunk"]


def test_what_is_in_no_backup_is_an_alarm(world: Mirroring) -> None:
    world.details = {"missing": {"invoices": "the key may not read it"}}
    _made, pulled = world.night(0)
    assert "the bucket invoices: the key may not read it" in pulled.mirrored.why
    assert len(pulled.mirrored.created) == 2, "what is there is kept and tied"
    assert "objects" in world.kinds()


def test_an_old_rule_of_the_store_makes_it_eventual(world: Mirroring, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    rules = [lifecycle.rule("short", 1)]
    monkeypatch.setattr(lifecycle, "read", lambda source: rules)
    monkeypatch.setattr(mirror, "take", lambda run, **given: seen.append(given["doubts"]) or world._take(run, **given))
    world.publish(START)
    world.now = START + DAY + PULLED
    world.pull()
    assert "removes what is replaced within 3 days" in seen[0].times
    assert seen[0].etags == "the stack's host is not trusted"
    rules[:] = [lifecycle.rule("long", 30)]
    world.night(2)
    assert seen[-1].times == ""


def lifecycle_of(days: int) -> str:
    return (
        "<LifecycleConfiguration><Rule><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>"
        f"{days}</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>"
    )


OUTLIVES: dict[str, tuple[dict[str, Any], str]] = {
    "no rule": ({"settings": {"lifecycle": None}}, PASS),
    "a long one": ({"settings": {"lifecycle": lifecycle_of(7)}}, PASS),
    "a short one": ({"settings": {"lifecycle": lifecycle_of(6)}}, FAIL),
    "not told": ({"settings": {}, "settings_denied": ["lifecycle"]}, COULD_NOT_VERIFY),
    "no versions": ({"versioned": False}, COULD_NOT_VERIFY),
}


@pytest.mark.parametrize("case", OUTLIVES)
def test_how_long_the_store_keeps_what_is_replaced(world: Mirroring, case: str) -> None:
    changes, result = OUTLIVES[case]
    world.details = changes
    world.night(0)
    found = {
        check.name: check
        for check in objects.backup_checks(world.config, points.backups(world.repo, "shop")["objects"])
    }
    assert (found["source versions"].result, found["objects"].result) == (result, PASS)


def test_the_way_is_one_port_of_the_loopback() -> None:
    forward, url = objects.way(StoreSettings(port=9000))
    port = url.rpartition(":")[2]
    assert (forward, url) == (f"127.0.0.1:{port}:127.0.0.1:9000", f"http://127.0.0.1:{port}")
    assert objects.way(StoreSettings(port=9000, address="fd00::1"))[0].endswith(":[fd00::1]:9000")
    assert objects.way(StoreSettings()) == ("", "")
    argv = sftp.command("app1", 22, "keeper-shop", "/k", "/h", forward)
    assert argv[argv.index("-L") + 1] == forward
    assert "-oClearAllForwardings=no" in argv and "-oExitOnForwardFailure=yes" in argv


def test_a_port_that_may_not_be_forwarded_is_told(world: Mirroring, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "channel 2: open failed: administratively prohibited: open failed"
    monkeypatch.setattr(Source, "last_error", lambda self: said)
    monkeypatch.setattr(Source, "store", "http://127.0.0.1:1")
    world.error = LifeboatError("mirror the bucket", "s3://uploads", "the connection was closed")
    _made, pulled = world.night(0)
    assert said in pulled.mirrored.why and "lifeboat.dr.keeper" in str(pulled.mirrored.problem)


# What a hostile store answers.


class Hostile(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: Mapping[str, Callable[[Hostile], None]]

    server_version = "MinIO"

    def log_message(self, *_words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for data in self.server.answer(self.path):  # type: ignore[attr-defined]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass


@pytest.fixture
def hostile() -> Iterator[Callable[[Callable[[str], Iterator[bytes]]], Bucket]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    bounds = Bounds(answer=1 << 20, about=1 << 20, versions=2500, key=1024, buckets=10)

    def answering(answer: Callable[[str], Iterator[bytes]]) -> Bucket:
        server.answer = answer  # type: ignore[attr-defined]
        return Bucket("uploads", f"http://127.0.0.1:{server.server_port}", "", "", "K", "S", bounds=bounds)

    yield answering
    server.shutdown()
    server.server_close()


def endless(_path: str) -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def row(key: str) -> bytes:
    return (
        f"<Version><Key>{key}</Key><VersionId>v</VersionId><IsLatest>true</IsLatest><Size>1</Size><ETag>e</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Version>"
    ).encode()


def page(*keys: str, more: str = "") -> Iterator[bytes]:
    head = f"<IsTruncated>true</IsTruncated><NextKeyMarker>{more}</NextKeyMarker>" if more else ""
    yield f"<ListVersionsResult>{head}".encode() + b"".join(map(row, keys)) + b"</ListVersionsResult>"


def without_end(path: str) -> Iterator[bytes]:
    number = int(path.partition("key-marker=k")[2].partition("&")[0] or 0) + 1000
    return page(*(f"k{number + at:09}" for at in range(1000)), more=f"k{number + 999:09}")


def empty_pages(path: str) -> Iterator[bytes]:
    number = int(path.partition("key-marker=k")[2].partition("&")[0] or 0) + 1
    return page(more=f"k{number}")


def tags_without_end(path: str) -> Iterator[bytes]:
    number = int(path.partition("continuation-token=")[2].partition("&")[0] or 0) + 1
    head = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>"
    contents = "<Contents><Key>k</Key><ETag>e</ETag><UserMetadata/></Contents>"
    yield f"<ListBucketResult>{head}{contents}</ListBucketResult>".encode()


def always_more(path: str) -> Iterator[bytes]:
    """It lists under every prefix a name with which that begins."""
    prefix = path.partition("prefix=")[2].partition("&")[0] or "q"
    return page("z") if "key-marker" in path else page(f"{prefix}-1", more=f"{prefix}-1")


def always_more_below(path: str) -> Iterator[bytes]:
    """The same of folders, and more begins like each of them."""
    prefix = path.partition("prefix=")[2].partition("&")[0] or "q"
    return page("z") if "key-marker" in path else page(f"{prefix}/1", more=f"{prefix}/1")


def as_seaweedfs(one: Bucket) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket, "server", lambda _bucket: "SeaweedFS 4")
        patch.setattr(bucket, "_DEEPEST", 3)
        return list(bucket.versions(one))


def few(one: Bucket) -> Bucket:
    return dataclasses.replace(one, bounds=Bounds(versions=20))


def many_buckets(_path: str) -> Iterator[bytes]:
    names = b"".join(b"<Bucket><Name>b%d</Name></Bucket>" % number for number in range(11))
    yield b"<ListAllMyBucketsResult><Buckets>" + names + b"</Buckets></ListAllMyBucketsResult>"


HOSTILE: dict[str, tuple[Callable[[str], Iterator[bytes]], Callable[[Bucket], object], str]] = {
    "an object without end": (endless, lambda one: one.ask("GET", "a", attempted="read"), "more than 1048576 bytes"),
    "a setting without end": (endless, lambda one: one.ask_xml("read", {"policy": ""}), "more than 1048576 bytes"),
    "a listing without end": (without_end, lambda one: list(bucket.versions(one)), "more than 2500 versions"),
    "a name of 1025 bytes": (lambda _path: page("k" * 1025), lambda one: list(bucket.versions(one)), "1024 bytes"),
    "11 buckets": (many_buckets, bucket.names, "more than 10 buckets"),
    "pages of nothing without end": (empty_pages, lambda one: list(bucket.versions(few(one))), "more than 20 versions"),
    "tags without end": (tags_without_end, lambda one: list(bucket.tagged(few(one))), "more than 20 versions"),
    "names that go on without end": (always_more, as_seaweedfs, "names that go on without end"),
    "folders that go on without end": (always_more_below, lambda one: as_seaweedfs(few(one)), "more than 20 pages"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_hostile_store_answers_is_bounded(hostile: Any, case: str) -> None:
    answer, ask, said = HOSTILE[case]
    with pytest.raises(IntegrityError, match=said):
        ask(hostile(answer))


def test_within_the_bounds_it_is_read(hostile: Any) -> None:
    assert [found.key for found in bucket.versions(hostile(lambda _path: page("a", "k" * 1024)))] == ["a", "k" * 1024]
    assert hostile(lambda _path: iter([b"x" * (1 << 20)])).ask("GET", "a", attempted="read").body == b"x" * (1 << 20)


def test_only_a_keepers_source_is_bounded(world: Mirroring, tmp_path: Path) -> None:
    found = buckets.source(Opened(world.config)).bounds
    assert (found.versions, found.buckets, found.key) == (1_000_000, 100, 1024)
    assert buckets.vault(Opened(world.config)).bounds == Bounds()
    own = config.from_mapping(settings(tmp_path, objects=STORE, vault=VAULT), SECRETS)
    assert buckets.source(Opened(own)).bounds == Bounds()


def test_a_vault_has_room_for_its_quota() -> None:
    room = Room(100)
    room.take(60, "s3://vault")
    with pytest.raises(SpaceError, match="the quota of 100 B is full: 60 B are used, 41 B would come"):
        room.take(41, "s3://vault")
    room.take(40, "s3://vault")
    Room().take(10**15, "s3://vault")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "two ways": ({"keeper": {"store": {"port": 9000}, "source": {"host": "h", "user": "u", "identity_file": "/k",
                                                                   "known_hosts": "/h"}}}, "keeper.store.port"),
    "no connection": ({"objects": {"bucket": "uploads"}, "keeper": {"store": {"port": 9000}}}, "keeper.store.port"),
    "no quota": ({"keeper": {"store": {"quota": "0G"}}}, "keeper.store.quota"),
    "an address": ({"keeper": {"store": {"address": "-oX"}}}, "keeper.store.address"),
    "no vault": ({"vault": {}}, "vault"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, bad: str) -> None:
    changes, said = BAD[bad]
    (tmp_path / "kept").mkdir()
    given = settings(tmp_path, objects=STORE, vault=VAULT, keeper=keeper_settings(tmp_path))
    config.from_mapping(given, SECRETS)
    own = {**given, **changes, "keeper": {**given["keeper"], **changes.get("keeper", {})}}
    if "source" in changes.get("keeper", {}):
        own["keeper"].pop("mounted", None)
    with pytest.raises(UsageError, match=said):
        config.from_mapping(own, SECRETS)


def test_the_stacks_host_leaves_its_store_to_the_keeper(tmp_path: Path) -> None:
    local = {"type": "local", "path": str(tmp_path / "backup"), "group": "lifeboat-keeper"}
    given = settings(tmp_path, objects=STORE, vault={"mode": "pull"}, repository=local)
    found = config.from_mapping(given)
    assert found.mirrored_elsewhere
    repositories.repository_of(Opened(found))
    with pytest.raises(UsageError, match="no objects_bucket to mirror it to"):
        config.from_mapping(settings(tmp_path, objects=STORE))


KEYS = [
    (WriteRights(), PASS, "can neither write objects nor delete versions"),
    (WriteRights((WRITE,)), FAIL, "can write objects, and should only read"),
    (WriteRights((DELETE,), "write objects: it hangs up"), FAIL, "can delete versions, and should only read"),
    (WriteRights((), "write objects: it hangs up"), COULD_NOT_VERIFY, "it hangs up"),
]


@pytest.mark.parametrize(("rights", "result", "words"), KEYS)
def test_what_the_stores_key_can_do_is_told_by_status(
    world: Mirroring, rights: WriteRights, result: str, words: str
) -> None:
    world.rights = rights
    world.night(0)
    for _ in range(2):
        found = status.status(Opened(world.config), now=world.now).checks
        (check,) = [one for one in found if one.name == "store key"]
        assert check.result == result and words in check.detail
        # One that ends early tries nothing, and what was seen before still holds.
        receive.unreached(Opened(world.config), LifeboatError("pull", "shop", "nobody answers"))


def test_before_a_pull_tried_it_nobody_knows_what_the_stores_key_can_do(world: Mirroring) -> None:
    check = objects.store_key(world.log)
    assert (check.result, check.detail) == (
        COULD_NOT_VERIFY, "no pull has tried what the key of the stack's store may do",
    )  # fmt: skip
