# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror, from two servers that differ to a versioned vault, and back again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import builders
import conftest
import pytest
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, LockedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import (
    back,
    guard,
    listing,
    mc,
    sides,
    take,
    verify,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.base import OtherRepositoryError, TakenError
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails, Unheld
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.manifest import Manifest
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, copier, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import buckets
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from s3_faults import Call, faulty
from s3_servers import JuiceFS, SeaweedFS, Server

MakeBucket = Callable[[Server], str]
HOSTILE = [
    "plain", "a b", " lead", "trail ", "a+b", "a%20b", "a%2Fb", "100%", "%", "a&b", "<xml>", "&amp;", "\"quoted\"",
    "it's", "q?x=1#f", "a=b&c=d", "semi;colon", "comma,", "$HOME", "`id`", "$(id)", "*?[x]", "~", "!", "@", "(a)",
    "{b}", "[c]", "^", "|", "a\\b", "back\\", "\u00e9", "e\u0301", "\u65e5\u672c\u8a9e/\u5199\u771f.jpg", "\U0001f600",
    "\u2028line", "\u200bzero", "\u202ertl", "tab\there", "new\nline", "cr\rhere", "\x01control", "dir/", "dir/x",
    "a//b", "/lead", "../up", "./here", "x/../y", "-rf", "--flag", "nul.", "CON", "k" * 1024, "/".join(["d" * 50] * 20),
]  # fmt: skip
TAGS = [("a", "1"), ("b c", "d e:/@+")]
HEADERS = {
    "content-type": "text/x; charset=a",
    "cache-control": "max-age=3, must-revalidate",
    "content-disposition": 'attachment; filename="a\'b.txt"',
    "x-amz-meta-own": "one  two",
    "x-amz-meta-mtime": "77",
}


class World:
    """A stack with a bucket, its vault, and database backups as needed."""

    def __init__(self, root: Path, source: Server, vault: Server, names: tuple[str, str]) -> None:
        self.root = root
        made = builders.make_config(
            root,
            objects={"bucket": names[0], "endpoint_url": source.url, "transfers": 8},
            vault={"objects_bucket": names[1], "endpoint_url": vault.url},
        )
        keys = {"objects": source, "vault": vault}
        self.secrets = {f"{whose}_access_key": key.access_key for whose, key in keys.items()}
        self.secrets |= {f"{whose}_secret_key": key.secret_key for whose, key in keys.items()}
        self.config: Config = dataclasses.replace(made, secrets=self.secrets)
        self.lines: list[str] = []
        self.source, self.vault = buckets.source(Opened(self.config)), buckets.vault(Opened(self.config))

    def take(self, **options: Any) -> Manifest:
        return take.take(Opened(self.config), log=self.lines.append, **options)

    def database(self, at: datetime | None = None) -> str:
        while at is None:
            with contextlib.suppress(TakenError):  # one a second
                return builders.publish(self.root, datetime.now(timezone.utc)).id
            time.sleep(0.1)
        return builders.publish(self.root, at).id

    def listing(self, manifest: Manifest) -> dict[str, dict[str, Any]]:
        repo = repositories.from_settings(self.config.repository, {})
        with repo.open("objects", manifest.id, listing.NAME) as file:
            return {row.key: typed.plain(row, nulls=True) for row in listing.read(file, manifest.id)}

    def put(self, key: str, body: bytes = b"x", headers: dict[str, str] | None = None) -> None:
        self.source.requests.call(
            "PUT", self.source.name, key, headers=headers or {}, body=body, attempted="put", subject=key
        )

    def delete(self, key: str) -> None:
        self.source.requests.call("DELETE", self.source.name, key, attempted="delete", subject=key)

    def held(self, entry: dict[str, Any]) -> bytes:
        query = {"versionId": entry["vault_version"]}
        ask = self.vault.requests.call
        return ask("GET", self.vault.name, entry["key"], query, attempted="get", subject=entry["key"]).body


def listed(rows: dict[str, dict[str, Any]]) -> list[Listed]:
    return [typed.build(Listed, row, lambda *why: LifeboatError("read it", *why)) for row in rows.values()]


MakeWorld = Callable[..., World]


def versioned(root: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    """Both of its buckets keep versions."""
    names = (make_bucket(weed), make_bucket(weed))
    for name in names:
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return World(root, weed, weed, names)


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> MakeWorld:
    def make(source: Server = weed, versioned: bool = True) -> World:
        names = (make_bucket(source), make_bucket(weed))
        on = {"Status": "Enabled"}
        weed.client.put_bucket_versioning(Bucket=names[1], VersioningConfiguration=on)
        if versioned and source is weed:
            weed.client.put_bucket_versioning(Bucket=names[0], VersioningConfiguration=on)
        return World(tmp_path, source, weed, names)

    return make


def other(world: World, weed: SeaweedFS, make_bucket: MakeBucket) -> Bucket:
    """An empty bucket to restore into. SeaweedFS takes the longest keys only where it keeps versions."""
    name = make_bucket(weed)
    weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return dataclasses.replace(world.vault, name=name)


def body_of(where: Bucket, key: str) -> bytes:
    return where.requests.call("GET", where.name, key, attempted="get", subject=key).body


def test_the_stores_other_buckets_are_named_in_the_backup(
    world: MakeWorld, make_bucket: MakeBucket, weed: SeaweedFS
) -> None:
    one = world()
    other, excluded = make_bucket(weed), make_bucket(weed)
    objects = dataclasses.replace(one.config.objects, exclude=(excluded,))
    one.config = dataclasses.replace(one.config, objects=objects)
    one.put("a")
    details = one.take().detailed(ObjectsDetails)
    assert details.unprotected is not None and details.unlisted == ""
    assert (other in details.unprotected, details.excluded) == (True, (excluded,))
    assert not {one.source.name, one.vault.name} & {*details.unprotected}, "the vault's is at the same server"
    assert any(line.startswith("NOT in this backup: the bucket") and other in line for line in one.lines)


def test_a_key_sees_no_bucket_that_it_may_not_list(weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    """SeaweedFS and MinIO leave out of their answer what the key may not see, and say nothing of it."""
    theirs, own = make_bucket(weed), conftest.BUCKETS[0]
    weed.client.create_bucket(Bucket=own)
    try:
        key = dataclasses.replace(
            Bucket(own, weed.url), access_key=conftest.PLAIN["access_key"], secret_key=conftest.PLAIN["secret_key"]
        )
        seen = bucket.names(key)
        every = bucket.names(dataclasses.replace(key, access_key=weed.access_key, secret_key=weed.secret_key))
    finally:
        s3_servers.wipe(weed.client, own)
    assert (own in seen, theirs in seen) == (True, False)
    assert {own, theirs} <= {*every}


def test_every_server_lists_its_buckets(server: Server, make_bucket: MakeBucket) -> None:
    name = make_bucket(server)
    one = Bucket(name, server.url, access_key=server.access_key, secret_key=server.secret_key)
    assert name in bucket.names(one)


def test_hostile_keys_there_and_back(
    world: MakeWorld, server: Server, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    one = world(server)
    for number, key in enumerate(HOSTILE):
        try:
            one.put(key, f"{number}".encode())
        except LifeboatError:
            continue  # the source itself does not take such a name
    there = {version.key for version in bucket.objects(one.source)}
    assert len(there) >= 40
    one.database()
    manifest = one.take()
    known = one.listing(manifest)
    unheld = {row.key for row in manifest.detailed(ObjectsDetails).primary.unheld}
    assert set(known) | unheld == there
    assert not set(known) & unheld
    # Ceph takes every name. SeaweedFS' own bucket does not take what a vault on SeaweedFS does not keep, but for these.
    odd = {key for key in there if any(pattern.search(key) for pattern, _example in sides._ODD.values())}
    assert unheld <= (odd if server.kind == "Ceph RGW" else {"a\\b", "back\\"}), manifest.details["unheld"]
    assert bool(unheld) == any(line.startswith("WARNING: the vault does not hold") for line in one.lines)
    target = other(one, weed, make_bucket)
    done = back.copy_back(Opened(one.config), listed(known), target, log=one.lines.append)
    assert (done.copied, done.failed) == (len(known), ())
    for key in known:
        assert body_of(target, key) == body_of(one.source, key), key
    assert [one.result for one in verify.verify_objects(Opened(one.config), listed(known), target)] == [PASS] * 3


def test_what_an_object_is_beside_its_bytes(
    world: MakeWorld, server: Server, weed: SeaweedFS, make_bucket: MakeBucket
) -> None:
    one = world(server)
    tagging = "a=1&b%20c=d%20e%3A%2F%40%2B"
    one.put("a", b"hello", {**HEADERS, "x-amz-tagging": tagging})
    one.put("empty", b"", {"content-type": "image/png"})
    large = os.urandom(70 << 20)
    parts = one.source.client.create_multipart_upload(Bucket=one.source.name, Key="large", ContentType="video/mp4")
    upload = {"Bucket": one.source.name, "Key": "large", "UploadId": parts["UploadId"]}
    sums = []
    for number in range(5):
        data = large[number * (14 << 20) : (number + 1) * (14 << 20)]
        put = one.source.client.upload_part(PartNumber=number + 1, Body=data, **upload)
        sums.append({"PartNumber": number + 1, "ETag": put["ETag"]})
    one.source.client.complete_multipart_upload(MultipartUpload={"Parts": sums}, **upload)
    one.database()
    manifest = one.take()
    assert manifest.details["unheld"] == []
    known = one.listing(manifest)
    assert known["large"]["sha256"] == hashlib.sha256(large).hexdigest()
    assert known["large"]["etag"].endswith("-5")
    ours = copier.facts(one.source, "a")
    assert ours.tags == TAGS
    assert {name: ours.headers[name] for name in HEADERS} == HEADERS
    assert copier.facts(one.vault, "a") == ours
    target = other(one, weed, make_bucket)
    assert back.copy_back(Opened(one.config), listed(known), target, log=one.lines.append).copied == 3
    for key in known:
        assert copier.facts(target, key) == copier.facts(one.source, key)
    assert body_of(target, "large") == large
    again = back.copy_back(Opened(one.config), listed(known), target, log=one.lines.append)
    assert (again.copied, again.skipped) == (0, 3)
    # Nothing to do is nothing done, for a multipart object and for one with headers too.
    assert one.take().details["copied"] == 0


def test_a_change_of_headers_or_tags_alone_is_carried(world: MakeWorld) -> None:
    one = world()
    for key in ("a", "b", "c"):
        one.put(key, b"same")
    one.database()
    one.take()
    time.sleep(1.1)
    one.put("a", b"same", {"cache-control": "no-store"})
    one.put("b", b"same", {"x-amz-tagging": "t=1"})
    one.put("c", b"same")
    one.database()
    assert one.take().details["copied"] == 2
    assert copier.facts(one.vault, "a").headers["cache-control"] == "no-store"
    assert copier.facts(one.vault, "b").tags == [("t", "1")]


@pytest.mark.parametrize("versioned", [True, False], ids=["with versions", "without"])
def test_new_headers_within_the_second_of_the_mirror_are_carried(
    world: MakeWorld, weed: SeaweedFS, versioned: bool
) -> None:
    """The same bytes, written again after the mirror and within the second that the server tells: nothing in a listing
    of a bucket without versions shows it, and it must not be missed for ever."""
    one = world(versioned=versioned)
    second = f"<LastModified>{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}.000Z</LastModified>".encode()

    def told(call: Call, body: bytes) -> bytes:
        return body if call.key else re.sub(rb"<LastModified>.*?</LastModified>", second, body)

    with faulty(weed, edit=told) as proxy:
        objects = dataclasses.replace(one.config.objects, endpoint_url=proxy.url)
        one.config = dataclasses.replace(one.config, objects=objects)
        one.put("a", b"same", {"cache-control": "no-store", "content-type": "text/x"})
        one.put("b", b"same", {"cache-control": "no-store", "content-type": "text/x"})
        one.database()
        assert one.listing(one.take())["a"]["headers"] == "cache-control=no-store&content-type=text%2Fx"
        one.put("a", b"same", {"cache-control": "no-cache", "content-type": "text/x"})
        one.database()
        manifest = one.take()
        assert manifest.details["copied"] == 1
        assert one.listing(manifest)["a"]["headers"] == "cache-control=no-cache&content-type=text%2Fx"
        assert copier.facts(one.vault, "a").headers == {"cache-control": "no-cache", "content-type": "text/x"}
        assert one.take().details["copied"] == 0


def test_as_it_was_at_the_instant_of_the_dump(world: MakeWorld) -> None:
    """A writer puts, overwrites and deletes all the time; the mirror is of one instant in the middle of it."""
    one = world()
    done: list[tuple[float, str, bytes | None]] = []
    stop = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            key = f"{name}/{number % 25}"
            if number % 7 == 6:
                one.delete(key)
                done.append((time.time(), key, None))
            else:
                body = f"{name} {number}".encode()
                one.put(key, body)
                done.append((time.time(), key, body))
            number += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    time.sleep(3)
    identity = one.database()
    at = datetime.now(timezone.utc).timestamp()
    time.sleep(1.5)
    manifest = one.take()
    stop.set()
    for thread in threads:
        thread.join()
    assert (manifest.details["consistency"], manifest.details["database_backup"]) == ("snapshot", identity)
    # S3 tells whole seconds: what was touched in the second of the instant may be either.
    second = int(manifest.taken_at.timestamp())
    either = {key for when, key, _ in done if second - 0.2 <= when <= at + 1.2}
    wanted: dict[str, bytes | None] = {}
    for when, key, body in sorted(done, key=lambda entry: entry[0]):
        if when < second:
            wanted[key] = body
    known = one.listing(manifest)
    settled = {key: body for key, body in wanted.items() if key not in either}
    assert len([when for when, _, _ in done if when > at + 1]) > 20, "nothing was written after the instant"
    assert {key: one.held(known[key]) if key in known else None for key in settled} == settled
    assert set(known) - either == {key for key, body in settled.items() if body is not None}


def test_what_was_made_since_the_last_mirror_and_deleted_just_after_the_instant(world: MakeWorld) -> None:
    """No other list has it: not the last mirror's, not that of the current objects."""
    one = world()
    kept = {f"kept {number}" for number in range(4)}
    for key in kept:
        one.put(key)
    one.database()
    one.take()
    time.sleep(1.1)  # S3 tells whole seconds
    one.put("brief", b"brief")
    time.sleep(1.1)
    one.database()
    time.sleep(1.1)
    one.delete("brief")
    assert {version.key for version in bucket.objects(one.source)} == kept
    manifest = one.take()
    rows = one.listing(manifest)
    assert (manifest.details["consistency"], manifest.details["ambiguous"], {*rows}) == (
        "snapshot",
        0,
        {"brief", *kept},
    )
    assert one.held(rows["brief"]) == b"brief"
    time.sleep(1.1)  # what was deleted in the second of the instant is kept
    one.database()
    assert {*one.listing(one.take())} == kept
    assert one.held(rows["brief"]) == b"brief"


def test_the_current_state_where_the_source_has_no_versions(world: MakeWorld, gateway: JuiceFS) -> None:
    one = world(gateway)
    for key in ("a", "b"):
        one.put(key, key.encode())
    one.database()
    manifest = one.take()
    assert manifest.details["consistency"] == "eventual"
    assert manifest.details["why"] == "the source bucket keeps no versions"
    assert manifest.details["database_backup"] == ""
    one.put("a", b"other")
    one.delete("b")
    changed = one.take(override=True)
    known = one.listing(changed)
    assert (changed.details["copied"], changed.details["removed"]) == (1, 1)
    assert {key: one.held(row) for key, row in known.items()} == {"a": b"other"}
    # And the vault still has what it had.
    assert one.held(one.listing(manifest)["b"]) == b"b"
    assert one.take().details["copied"] == 0


def test_without_a_database_backup_the_current_state(world: MakeWorld) -> None:
    one = world()
    one.put("a")
    manifest = one.take()
    assert (manifest.details["consistency"], manifest.details["objects"]) == ("eventual", 1)
    one.database(datetime.now(timezone.utc) - timedelta(days=3))
    assert "which is long ago" in one.take().detailed(ObjectsDetails).primary.why


def test_the_change_guard(world: MakeWorld) -> None:
    one = world()
    for number in range(20):
        one.put(f"{number:02}")
    one.take()
    for number in range(6):
        one.delete(f"{number:02}")
    assert one.take().details["removed"] == 6, "30 % is not more than 30 %"
    for number in range(6, 9):
        one.delete(f"{number:02}")
    one.put("09", b"encrypted")
    one.put("10", b"encrypted")
    with pytest.raises(UsageError) as caught:
        one.take()
    said = str(caught.value)
    assert "3 of the 14 objects there would be removed and 2 overwritten, 36 % where 30 % is the limit" in said
    assert "; the first: '06', '07', '08', '09', '10'. If" in said and "--override 5`" in said
    with pytest.raises(UsageError):
        one.take(override=4)
    assert len(list(bucket.objects(one.vault))) == 14, "nothing was touched"
    assert one.take(override=5).details["objects"] == 11
    assert any("WARNING, and done all the same: 3 of the 14 objects" in line for line in one.lines)
    for number in range(9, 20):
        one.delete(f"{number:02}")
    with pytest.raises(UsageError, match="the bucket is empty, and 11 of the 11 objects there would be removed"):
        one.take()
    assert one.take(override=True).details["objects"] == 0


SCRIPT = """
import dataclasses, json, sys
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
said = json.load(sys.stdin)
one = config.from_mapping(said["settings"], said["secrets"])
print(take.take(Opened(one), log=lambda line: print(line, flush=True)).details["copied"])
"""


def started(one: World, script: str = SCRIPT, **objects: Any) -> subprocess.Popen[bytes]:
    """A mirror in a process of its own."""
    said = {
        "settings": builders.settings(
            one.root,
            objects=dataclasses.asdict(one.config.objects) | objects,
            vault=dataclasses.asdict(one.config.vault),
        ),
        "secrets": one.secrets,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": next(path for path in sys.path if path.endswith(".ansible/collections"))},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(said).encode())
    process.stdin.close()
    return process


def test_nothing_to_do_does_not_load_boto3(world: MakeWorld) -> None:
    """It takes longer to load than the two listings of a small bucket."""
    one = world()
    one.put("a")
    one.take()
    process = started(one, SCRIPT + "print('boto3' in sys.modules)")
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read().decode().splitlines()[-2:] == ["0", "False"]
    assert process.wait() == 0


def test_a_night_without_a_change_takes_the_listing_over(world: MakeWorld, taken_over: list[str]) -> None:
    one, keys = world(), ["plain", "a b", "\u00e9", "\U0001f600", 'a"b', "tab\there", "dir/x"]
    for key in keys:
        one.put(key)
    first = one.take()
    time.sleep(1.1)
    second = one.take()
    assert taken_over == [first.id]
    assert second.artefacts == first.artefacts
    same = ("objects", "bytes", "digest", "properties")
    assert [second.details[name] for name in same] == [first.details[name] for name in same]
    one.put("plain", b"other")
    time.sleep(1.1)
    third = one.take()
    assert len(taken_over) == 1
    assert third.artefacts != first.artefacts
    one.delete("plain")
    time.sleep(1.1)
    fourth = one.take(override=True)
    assert (len(taken_over), fourth.details["objects"]) == (1, len(keys) - 1)


@pytest.mark.parametrize("at", [-1, 9], ids=["the-length-at-its-end", "the-system-in-its-head"])
def test_a_damaged_listing_is_not_taken_over(world: MakeWorld, taken_over: list[str], at: int) -> None:
    """What it says can be read to its end all the same: the head of a gzip file is under no checksum."""
    one = world()
    one.put("a")
    first = one.take()
    path = Path(one.config.backup_directory) / "objects" / first.id / listing.NAME
    builders.flip(path, at)
    time.sleep(1.1)
    second = one.take()
    assert (taken_over, second.details["copied"]) == ([], 0)
    assert one.listing(second)["a"]["size"] == 1


def settled(count: Callable[[], int]) -> int:
    """What is counted when nothing is added for a second: a server ends what a client that is gone had sent it."""
    before, found = -1, count()
    while found != before:
        time.sleep(1)
        before, found = found, count()
    return found


def command_lines() -> bytes:
    """The argv of every process there is; one that ends while it is read is none."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes()
    return found


def test_killed_and_taken_up_again(world: MakeWorld) -> None:
    one = world()
    total = 400
    for number in range(total):
        one.put(f"{number:03}", os.urandom(2000))
    journal = one.config.state / take.JOURNAL
    process = started(one, bandwidth="150k", transfers=4)
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_text().count("\n") < 50:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    seen = command_lines()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    for value in one.secrets.values():
        assert value.encode() not in output + journal.read_bytes()
        # The servers' own keys are in files; they are not in argv either.
        assert value.encode() not in seen
    done = settled(lambda: len(list(bucket.objects(one.vault))))
    assert 50 <= done < total
    manifest = one.take()
    assert manifest.details["copied"] == total - done
    known = one.listing(manifest)
    assert len(known) == total
    # A few were copied, and the kill came before their line was written: compared, not read again.
    assert sum(not row.sha256 for row in listed(known)) <= 8
    assert not journal.exists()
    assert [check.result for check in verify.verify_objects(Opened(one.config), listed(known), one.source)] == [
        PASS
    ] * 3


def test_a_lost_repository_copies_nothing_again(world: MakeWorld, tmp_path: Path) -> None:
    one = world()
    for number in range(30):
        one.put(f"{number}", os.urandom(100), {"x-amz-meta-n": str(number)})
    one.take()
    (tmp_path / "backup").rename(tmp_path / "lost")
    (tmp_path / "backup").mkdir()
    with pytest.raises(OtherRepositoryError, match="Is its disk mounted"):
        one.take()
    (one.config.state / "repository.json").unlink()  # as the error says: it replaces the old one for good
    manifest = one.take()
    assert (manifest.details["objects"], manifest.details["copied"]) == (30, 0)


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        pytest.param(None, "", "", id="intact"),
        pytest.param("drop", "objects", "'b' is missing", id="a key is gone"),
        pytest.param("longer", "objects", "'b' has another size", id="another size"),
        pytest.param("flip", "bytes", "'b': other bytes", id="a byte flipped"),
        pytest.param("header", "metadata and tags", "'b': other cache-control", id="a header"),
        pytest.param("meta", "metadata and tags", "'b': other x-amz-meta-own", id="user metadata"),
        pytest.param("tags", "metadata and tags", "'b': other tags", id="tags"),
    ],
)
def test_a_verification_sees_every_change(
    world: MakeWorld,
    weed: SeaweedFS,
    make_bucket: MakeBucket,
    change: str | None,
    check: str,
    said: str,
) -> None:
    one = world()
    one.put("a", b"other")
    headers = {"cache-control": "no-store", "x-amz-meta-own": "1", "x-amz-tagging": "t=1"}
    one.put("b", b"hello", headers)
    known = one.listing(one.take())
    assert [row.result for row in verify.verify_objects(Opened(one.config), listed(known), one.source)] == [PASS] * 3
    if change == "drop":
        one.delete("b")
    elif change in ("longer", "flip"):
        one.put("b", b"hello!" if change == "longer" else b"hellp", headers)
    elif change is not None:
        lost = {"header": "cache-control", "meta": "x-amz-meta-own", "tags": "x-amz-tagging"}[change]
        one.put("b", b"hello", {name: value for name, value in headers.items() if name != lost})
    found = {row.name: row for row in verify.verify_objects(Opened(one.config), listed(known), one.source)}
    failed = {name for name, row in found.items() if row.result != PASS}
    # Other bytes have another ETag, and with another size they are no copy: each is seen twice.
    twice = {"longer": {"objects", "bytes"}, "flip": {"objects", "bytes"}}
    assert failed == (twice.get(change, {check}) if change else set())
    if check:
        assert found[check].result == FAIL
        assert said in found[check].detail
    target = other(one, weed, make_bucket)
    assert back.copy_back(Opened(one.config), listed(known), target, log=one.lines.append).copied == 2
    repaired = back.copy_back(Opened(one.config), listed(known), one.source, log=one.lines.append)
    assert repaired.copied == (1 if change else 0)
    assert [row.result for row in verify.verify_objects(Opened(one.config), listed(known), one.source)] == [PASS] * 3


def test_a_sample_says_that_it_is_one(world: MakeWorld) -> None:
    one = world()
    for number in range(10):
        one.put(f"{number}")
    known = one.listing(one.take())
    found = {row.name: row for row in verify.verify_objects(Opened(one.config), listed(known), one.source, 3)}
    assert found["objects"].detail.startswith("all 10 objects are there")
    assert found["bytes"].detail.startswith("3 of 10 objects were read")
    none = {row.name: row for row in verify.verify_objects(Opened(one.config), listed(known), one.source, 0)}
    assert none["bytes"].result == "COULD_NOT_VERIFY"


def test_a_version_that_is_gone_from_the_vault(world: MakeWorld, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    one = world()
    one.put("a", b"1")
    one.put("b", b"2")
    known = one.listing(one.take())
    one.vault.client.delete_object(Bucket=one.vault.name, Key="a", VersionId=known["a"]["vault_version"])
    target = other(one, weed, make_bucket)
    done = back.copy_back(Opened(one.config), listed(known), target, log=one.lines.append)
    assert (done.copied, done.failed) == (1, (Unheld("a", "it is listed and not there"),))
    # The next mirror heals the vault.
    assert one.take().details["copied"] == 1


def test_damage_in_the_vault_is_not_restored(world: MakeWorld, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    one = world()
    one.put("a", b"hello")
    row = one.listing(one.take())["a"]
    target = other(one, weed, make_bucket)
    wrong = {**row, "sha256": hashlib.sha256(b"hellp").hexdigest()}
    done = back.copy_back(Opened(one.config), listed({"a": wrong}), target, log=one.lines.append)
    assert "SHA-256 differs" in done.failed[0].why
    assert list(bucket.objects(target)) == []


def test_what_a_mirror_refuses(world: MakeWorld) -> None:
    one = world()
    one.put("a")

    def refuse(said: str, kind: type[LifeboatError] = UsageError, **changes: Any) -> None:
        made = dataclasses.replace(one.config, **changes)
        with pytest.raises(kind) as caught:
            take.take(Opened(made), log=one.lines.append)
        assert said in str(caught.value)
        for value in one.secrets.values():
            assert value not in str(caught.value).replace(one.secrets["objects_access_key"], "")

    objects, vault = one.config.objects, one.config.vault
    refuse("no such bucket", objects=dataclasses.replace(objects, bucket="not-there"))
    refuse("no such bucket", vault=dataclasses.replace(vault, objects_bucket="not-there"))
    refuse("is its own vault", vault=dataclasses.replace(vault, objects_bucket=objects.bucket))
    refuse("refuses the key", secrets={**one.secrets, "vault_secret_key": secrets.token_hex(8)})
    refuse("is not a number with K, M or G", objects=dataclasses.replace(objects, bandwidth="fast"))
    refuse("Check endpoint_url", LifeboatError, vault=dataclasses.replace(vault, endpoint_url="http://127.0.0.1:9"))
    one.vault.client.put_bucket_versioning(Bucket=one.vault.name, VersioningConfiguration={"Status": "Suspended"})
    refuse("it keeps no versions")
    (one.config.state / "recovering").touch()
    refuse("has not ended: what is there now may lack some of it", LockedError)


class Cut:
    """A proxy that lets so many bytes of requests through and then cuts every connection."""

    def __init__(self, port: int, allowed: int) -> None:
        self._port, self._left = port, allowed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if counted:
                    self._left -= len(data)
                    if self._left < 0:
                        break
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


def test_the_network_cut_in_mid_upload(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "_PAUSE", 0.01)
    one = world()
    one.put("large", os.urandom(30 << 20))
    one.put("small", b"x")
    there = Cut(int(one.vault.endpoint_url.rpartition(":")[2]), 20 << 20)
    cut = dataclasses.replace(one.config, vault=dataclasses.replace(one.config.vault, endpoint_url=there.url))
    with pytest.raises(LifeboatError, match="Check endpoint_url, the route and the firewall"):
        take.take(Opened(cut), log=one.lines.append)
    there.close()
    assert "large" not in {version.key for version in bucket.versions(one.vault)}, "half an object"
    # The abort was cut off as well: what lies there is swept a day later, and not before.
    now = datetime.now(timezone.utc)
    assert guard.sweep(one.vault, timedelta(days=1), now) == []
    assert guard.sweep(one.vault, timedelta(days=1), now + timedelta(days=2)) == ["large"]
    assert guard.sweep(one.vault, timedelta(days=1), now + timedelta(days=2)) == []
    known = one.listing(one.take())
    assert set(known) == {"large", "small"}
    assert [row.result for row in verify.verify_objects(Opened(one.config), listed(known), one.source)] == [PASS] * 3


def test_by_the_minio_client(world: MakeWorld, witness: None) -> None:
    one = world()
    one.config = dataclasses.replace(one.config, objects=dataclasses.replace(one.config.objects, engine="mc"))
    for number in range(10):
        one.put(f"{number}", b"x" * number, HEADERS | {"x-amz-tagging": "t=1"})
    manifest = one.take()
    assert (manifest.details["consistency"], manifest.details["why"]) == ("eventual", mc.BY_MC)
    assert manifest.details["weaknesses"]
    known = one.listing(manifest)
    assert len(known) == 10
    for key in known:
        assert copier.facts(one.vault, key) == copier.facts(one.source, key)
        assert one.held(known[key]) == b"x" * int(key)
    assert not any(value in line for line in one.lines for value in one.secrets.values())


@pytest.mark.parametrize("who", ["WRITER", "PLAIN"])
def test_with_no_more_than_the_writers_key(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket, who: str) -> None:
    """The key that docs/vault.md gives the host is enough, whatever it has to do."""
    key = getattr(conftest, who)
    name = conftest.BUCKETS[0]
    weed.client.create_bucket(Bucket=name)
    try:
        weed.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        one = World(tmp_path, weed, weed, (make_bucket(weed), name))
        given = {"vault_access_key": key["access_key"], "vault_secret_key": key["secret_key"]}
        one.config = dataclasses.replace(one.config, secrets={**one.secrets, **given})
        one.put("a", b"1", {"x-amz-tagging": "t=1"})
        one.put("large", os.urandom(20 << 20))
        one.put("dir//odd", b"2")
        assert one.take().detailed(ObjectsDetails).primary.copied >= 2
        one.put("a", b"2")
        one.delete("large")
        manifest = one.take(override=True)
        assert (manifest.details["copied"], manifest.details["removed"]) == (1, 1)
        known = one.listing(manifest)
        found = verify.verify_objects(Opened(one.config), listed(known), one.source)
        assert [row.result for row in found] == [PASS] * 3
    finally:
        s3_servers.wipe(weed.client, name)


def test_a_vault_with_object_lock(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> None:
    name = f"locked-{secrets.token_hex(6)}"
    weed.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    try:
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        weed.client.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        one = World(tmp_path, weed, weed, (make_bucket(weed), name))
        one.put("a", b"1")
        one.put("large", os.urandom(20 << 20))
        one.put("tab\t", b"2")
        first = one.listing(one.take())
        assert set(first) == {"a", "large", "tab\t"}
        one.delete("a")
        assert one.take(override=True).details["removed"] == 1
        assert one.held(first["a"]) == b"1"
        with pytest.raises(weed.client.exceptions.ClientError, match="AccessDenied"):
            weed.client.delete_object(Bucket=name, Key="a", VersionId=first["a"]["vault_version"])
    finally:
        s3_servers.wipe(weed.client, name)
