# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""Real servers that sometimes answer wrongly: nothing is published, the error says what to do, the next run continues."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, SpaceError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import take
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket, client, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import endpoints
from s3_faults import Call, Fault, Reply, error, faulty
from s3_servers import JuiceFS, SeaweedFS, Server
from test_mirror import World, settled, versioned

MakeBucket = Callable[[Server], str]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is borne for two seconds, which a busy machine may need for an answer, and not for a minute."""
    monkeypatch.setattr(client, "READ_TIMEOUT", 2.0)
    monkeypatch.setattr(signed, "_PAUSE", 0.01)


@pytest.fixture
def world(tmp_path: Path, weed: SeaweedFS, make_bucket: MakeBucket) -> World:
    world = versioned(tmp_path, weed, make_bucket)
    for number in range(12):
        world.put(f"key {number}", b"%d" % number)
    world.database()
    return world


def listing(call: Call) -> bool:
    return call.method == "GET" and "versions=" in call.path


def writing(after: int = 0) -> Callable[[Call], bool]:
    """Uploads, once so many requests went through: in the middle of a mirror."""
    return lambda call: call.method == "PUT" and call.number >= after


def when(which: Callable[[Call], bool], reply: Reply) -> Fault:
    return lambda call: reply if which(call) else None


TIRED = error(503, "SlowDown", pause=0.2)
SILENT = Reply(pause=3)
# (what the vault does) -> (the kind of error, of what it speaks, why, what to do)
VAULT: list[tuple[str, Fault, type[LifeboatError], str, str, str]] = [
    ("a key without rights", when(listing, error(403, "AccessDenied")), UsageError, "s3://", "access denied (AccessDenied: no)", "docs/vault.md"),
    ("a key that expired", when(listing, error(403, "ExpiredToken")), UsageError, "s3://", "the endpoint refuses the key (ExpiredToken", "lifeboat_secrets"),
    ("a key that was taken away in mid-mirror", when(writing(8), error(403, "InvalidAccessKeyId")), UsageError, "'key ", "the endpoint refuses the key", "lifeboat_secrets"),
    ("a clock that is wrong", when(listing, error(403, "RequestTimeTooSkewed")), UsageError, "s3://", "this host's clock is wrong", "timedatectl"),
    ("500 to all", lambda call: error(500, "InternalError"), LifeboatError, "s3://", "InternalError: no", "look at its log"),
    ("500 to uploads", when(writing(8), error(500, "InternalError")), LifeboatError, "'key ", "InternalError: no", "look at its log"),
    ("503, slowly", when(writing(), TIRED), LifeboatError, "'key ", "at this rate (SlowDown: no)", "lifeboat_objects.transfers"),
    ("silence", when(listing, SILENT), LifeboatError, "s3://", "Read timeout", "Check endpoint_url"),
    ("silence in mid-mirror", when(writing(8), SILENT), LifeboatError, "'key ", "Read timeout", "Check endpoint_url"),
    ("200 with an error in it", when(listing, error(200, "InternalError")), LifeboatError, "s3://", "InternalError: no", "Look up"),
    ("200 with a web page", when(listing, Reply(body="<html><body>hello</body></html>")), LifeboatError, "s3://", "is not a bucket listing: <html>", "Is that an S3 endpoint"),
    ("200 with nothing", when(listing, Reply()), LifeboatError, "s3://", "is not S3's: it is not XML", "Is that an S3 endpoint"),
    ("its disk is full", when(writing(8), error(507, "XMinioStorageFull")), SpaceError, "'key ", "the server's storage is full", "Free space there"),
    ("its drives are read-only", when(writing(8), Reply(400, "<Error><Code>Forbidden</Code><Message>drive is read-only</Message></Error>")), LifeboatError, "'key ", "cannot write to its drives", "Make them writable"),
    ("its quota is used up", when(writing(8), error(403, "QuotaExceeded")), SpaceError, "'key ", "the bucket's quota is used up", "Raise the bucket's quota"),
    ("its bucket went away", when(writing(8), error(404, "NoSuchBucket")), UsageError, "'key ", "there is no such bucket", "correct the bucket's name"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "kind", "subject", "cause", "remedy"), [row[1:] for row in VAULT], ids=[row[0] for row in VAULT]
)
def test_a_vault_that_fails(
    world: World, weed: SeaweedFS, fault: Fault, kind: type[LifeboatError], subject: str, cause: str, remedy: str
) -> None:
    with faulty(weed, fault) as proxy:
        config = dataclasses.replace(
            world.config, vault=dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        )
        with pytest.raises(kind) as caught:
            take.take(Opened(config), log=world.lines.append)
        said = caught.value
        assert subject in said.subject, said
        assert (cause in said.cause, remedy in said.remedy, bool(said.attempted)) == (True, True, True), said
        for value in world.secrets.values():
            assert value not in str(said)
        assert repositories.from_settings(config.repository, {}).published("objects") == [], "half a backup is none"
        there = settled(lambda: len(list(bucket.objects(world.vault))))
        proxy.fault = lambda call: None
        manifest = take.take(Opened(config), log=world.lines.append)
    assert manifest.details["unheld"] == [], world.lines
    assert (manifest.details["objects"], manifest.details["copied"]) == (12, 12 - there), "gone on with, not begun anew"
    assert {key: world.held(row) for key, row in world.listing(manifest).items()} == {
        f"key {number}": b"%d" % number for number in range(12)
    }


def test_a_server_that_is_tired_for_a_moment_costs_no_backup(world: World, weed: SeaweedFS) -> None:
    """Every request is refused the first time it comes."""
    known: set[tuple[str, str]] = set()
    lock = threading.Lock()

    def tired(call: Call) -> Reply | None:
        with lock:
            new = (call.method, call.path) not in known
            known.add((call.method, call.path))
        return error(503, "SlowDown") if new and call.method != "HEAD" else None

    with faulty(weed, tired) as proxy:
        config = dataclasses.replace(
            world.config, vault=dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        )
        assert take.take(Opened(config), log=world.lines.append).details["copied"] == 12
    assert sum(method == "PUT" for method, _ in known) == 12


def test_a_200_that_kept_nothing_is_found_out(world: World, weed: SeaweedFS) -> None:
    """What the server said is not believed: the vault is asked what it holds."""
    with faulty(weed, lambda call: Reply() if call.method == "PUT" and "%203" in call.path else None) as proxy:
        config = dataclasses.replace(
            world.config, vault=dataclasses.replace(world.config.vault, endpoint_url=proxy.url)
        )
        try:
            manifest = take.take(Opened(config), log=world.lines.append)
        except LifeboatError as exc:
            assert "key 3" in str(exc)
        else:
            assert [row.key for row in manifest.detailed(ObjectsDetails).primary.unheld] == ["key 3"]
            assert "key 3" not in world.listing(manifest)
    assert world.take().details["objects"] == 12


def test_a_source_whose_clock_is_off(world: World, weed: SeaweedFS) -> None:
    """Objects are held against rows by times: told before anything is read."""
    with faulty(weed, lambda call: Reply(clock=-1200.0)) as proxy:
        objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
        with pytest.raises(UsageError, match=r"its clock is -1[12]\d\d s off this host's.*timedatectl"):
            take.take(Opened(dataclasses.replace(world.config, objects=objects)), log=world.lines.append)


def test_a_source_that_breaks_off_in_the_middle_of_an_object(world: World, weed: SeaweedFS) -> None:
    """Its end is missing: never taken for an object."""
    short = Reply(body="1", kind="application/octet-stream")
    with faulty(weed, when(lambda call: "key%2011" in call.path and "tagging" not in call.path, short)) as proxy:
        objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
        manifest = take.take(Opened(dataclasses.replace(world.config, objects=objects)), log=world.lines.append)
    assert [row.key for row in manifest.detailed(ObjectsDetails).primary.unheld] == ["key 11"]
    assert "key 11" not in world.listing(manifest)


def test_a_setting_that_the_key_may_not_read_is_on_record_as_such(world: World, weed: SeaweedFS) -> None:
    denied = when(lambda call: "policy" in call.path, error(403, "AccessDenied"))
    with faulty(weed, denied) as proxy:
        objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
        manifest = take.take(Opened(dataclasses.replace(world.config, objects=objects)), log=world.lines.append)
    found = manifest.detailed(ObjectsDetails)
    assert (found.primary.settings_denied, "policy" in found.primary.settings) == (("policy",), False)
    assert any("may not read the bucket's policy" in line for line in world.lines)


def test_a_web_page_in_place_of_tags(world: World, weed: SeaweedFS) -> None:
    with faulty(
        weed, when(lambda call: bool(call.key) and "tagging" in call.query, Reply(body="<p>sign in<br>"))
    ) as proxy:
        objects = dataclasses.replace(world.config.objects, endpoint_url=proxy.url)
        with pytest.raises(
            LifeboatError, match=r"read the tags \('key .*the server's answer is not S3's: it is not XML"
        ):
            take.take(Opened(dataclasses.replace(world.config, objects=objects)), log=world.lines.append)


# --- preflight ---


def seen(world: World, **vault: str) -> tuple[str, str]:
    config = dataclasses.replace(world.config, vault=dataclasses.replace(world.config.vault, **vault))
    found = endpoints.ready(Opened(config), now=datetime.now(timezone.utc))
    return found.result, found.detail


def test_preflight_looks_and_touches_nothing(
    world: World, weed: SeaweedFS, gateway: JuiceFS, make_bucket: MakeBucket
) -> None:
    with faulty(weed, lambda call: None) as proxy:
        assert seen(world, endpoint_url=proxy.url)[0] == PASS
        assert {call.method for call in proxy.calls} == {"GET", "HEAD"}
        assert len(proxy.calls) == 3
        for fault, words in (
            (when(listing, error(403, "AccessDenied")), "access denied"),
            (lambda call: error(500, "InternalError"), "busy or failing"),
            (lambda call: Reply(clock=-1200.0), "its clock is -1"),
            (lambda call: SILENT, "Read timeout"),
        ):
            proxy.fault = fault
            result, detail = seen(world, endpoint_url=proxy.url)
            assert (result, words in detail) == (FAIL, True), detail
    assert "no such bucket" in seen(world, objects_bucket="not-there")[1]
    assert "it keeps no versions, so it is of no instant" in seen(world, objects_bucket=make_bucket(weed))[1]
    weed.client.put_bucket_versioning(Bucket=world.vault.name, VersioningConfiguration={"Status": "Suspended"})
    result, detail = seen(world)
    assert (result, "its versioning is suspended" in detail) == (PASS, True), "what it holds can be recovered"
    keys = {"vault_access_key": gateway.access_key, "vault_secret_key": gateway.secret_key}
    world.config = dataclasses.replace(world.config, secrets={**world.config.secrets, **keys})
    found = seen(world, endpoint_url=gateway.url, objects_bucket=make_bucket(gateway))
    assert (found[0], "it keeps no versions" in found[1]) == (FAIL, True), found
