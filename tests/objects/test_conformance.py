# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every S3 server, and for stand-ins of those that are not here: docs/servers.md says what it finds."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import conformance
import pytest
import s3_quirks
import s3_servers
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import components
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import ObjectsDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import bucket as s3_bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client as s3_client
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.vault import policy, probe, vault, writer
from conftest import ALONE, BUCKETS, WRITER, MakeBucket
from s3_faults import Call, Edit, Fault, Reply, error, faulty
from s3_servers import SeaweedFS, Server, ServerError
from test_mirror import World
from test_vault import make

KEYS = [f"a/{number:02}%ff" for number in range(25)]  # in pages of ten
WORDS = {probe.SUPPORTED: "yes", probe.MISSING: "no", probe.UNKNOWN: "unknown"}
POWERS = {writer.CAN: "yes", writer.HELD: "no", writer.UNTRIED: "not tried"}


@dataclasses.dataclass(frozen=True)
class Standin:
    """A server that is not here: SeaweedFS behind a proxy that answers as was recorded. rows: what that reproduces."""

    title: str
    rows: frozenset[str]
    make: Callable[[SeaweedFS], tuple[Fault, Edit]]
    calls_itself: str = ""


def after(*edits: Edit) -> Edit:
    def edit(call: Call, body: bytes) -> bytes:
        for change in edits:
            body = change(call, body)
        return body

    return edit


def minio(weed: SeaweedFS) -> tuple[Fault, Edit]:
    quirk = s3_quirks.Minio(weed, WRITER["access_key"], policy.document(BUCKETS, "MinIO"))
    administrators = s3_quirks.Minio(weed, weed.access_key, {"Statement": []})

    def fault(call: Call) -> Reply | None:
        chosen = "x-minio-source-etag" in call.headers or call.path.startswith("/lifeboat-probe-")
        return quirk.fault(call) or (administrators.fault(call) if chosen else None)

    return fault, after(quirk.edit, administrators.edit, s3_quirks.minio_hides)


def versity(weed: SeaweedFS) -> tuple[Fault, Edit]:
    def fault(call: Call) -> Reply | None:
        return error(501, "NotImplemented") if "lifecycle" in call.query else None

    return fault, after(s3_quirks.versity_times, s3_quirks.versity_bytes)


def rgw(weed: SeaweedFS) -> tuple[Fault, Edit]:
    return s3_quirks.rgw_tags_of_parts(), after(s3_quirks.rgw_markers, s3_quirks.rgw_echo)


def garage(_weed: SeaweedFS) -> tuple[Fault, Edit]:
    """The bucket before which it stands is versioned, and it does not say so."""

    def fault(call: Call) -> Reply | None:
        asks = call.method == "GET" and "versioning" in call.query
        return Reply(body="<VersioningConfiguration/>") if asks else s3_quirks.garage(call)

    return fault, after()


FEATURES, ACTS = conformance.FEATURES, conformance.ACTS
_RECORDED = (
    "delete versions", "overwrite versions", "erase by prefix", "unpack archives over versions", "back-date objects",
    "switch versioning off", "choose ETags", "make further keys",
)  # fmt: skip
_MINIO = {FEATURES["etags"], FEATURES["dates"], *(ACTS[act] for act in _RECORDED)}
STANDINS = {
    "minio": Standin("MinIO\\*", frozenset({conformance.HIDDEN, *_MINIO}), minio, "MinIO"),
    "versity": Standin(
        "VersityGW\\*",
        frozenset({FEATURES["times"], FEATURES["lifecycle"], conformance.INSTANT, conformance.CONTROL}), versity,
    ),
    "rgw": Standin("Ceph RGW\\*", frozenset({FEATURES["tagging"], conformance.PAGES, conformance.CONTROL}), rgw),
    "garage-standin": Standin(
        "Garage\\*",
        frozenset({
            *(FEATURES[name] for name in ("versioning", "times", "lifecycle", "tagging")), conformance.INSTANT,
            conformance.AGAIN,
        }),
        garage,
    ),
}  # fmt: skip


EVERY = [ALONE] if ALONE else [*s3_servers.SERVERS, *s3_servers.CONFORMANCE_ONLY, *STANDINS]


@pytest.mark.parametrize("name", EVERY)
def test_a_server_does_what_the_page_says(
    name: str, tmp_path: Path, started: Callable[[str], Server], weed: SeaweedFS, make_bucket: MakeBucket,
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    monkeypatch.setattr(s3_bucket, "KEYS", 10)
    standin = STANDINS.get(name)
    server = weed if standin else start(started, name)
    with ExitStack() as stack:
        stack.callback(leave_no_vault, server)
        url = server.url
        if standin:
            fault, edit = standin.make(weed)
            url = stack.enter_context(faulty(weed, fault, edit, standin.calls_itself)).url
        found = {**features(server, url), conformance.CLOSED: closes(server, url, make_bucket)}
        found.update(mirror(tmp_path, server, url, weed, make_bucket))
        if "versioning" not in server.lacks:
            found.update(powers(server, url))
    title = standin.title if standin else server.kind
    seen = {row: cell for row, cell in found.items() if not standin or row in standin.rows}
    record_property(conformance.COLUMN, {title: seen})
    if os.environ.get("SERVERS_PAGE") != "write":
        told = conformance.published().get(title)
        assert told, f"docs/servers.md has no column {title}: SERVERS_PAGE=write pytest {Path(__file__).name} writes it"
        assert {row: seen.get(row, conformance.UNSEEN) for row in conformance.ROWS} == told


def start(started: Callable[[str], Server], name: str) -> Server:
    """moto is a Python package of requirements.txt: without it this fails in CI, and is told elsewhere."""
    try:
        return started(name)
    except ServerError as exc:
        if name not in s3_servers.CONFORMANCE_ONLY or os.environ.get("CI"):
            raise
        pytest.skip(f"NOT CHECKED on {name}: {exc}")


def leave_no_vault(server: Server) -> None:
    for bucket in server.client.list_buckets()["Buckets"]:
        if bucket["Name"] in BUCKETS:
            s3_servers.wipe(server.client, bucket["Name"])


def features(server: Server, url: str) -> dict[str, str]:
    report = probe.probe(Bucket("nothing-there", url, access_key=server.access_key, secret_key=server.secret_key))
    return {FEATURES[name]: WORDS[feature.state] for name, feature in report.features.items()}


def closes(server: Server, url: str, make_bucket: MakeBucket) -> str:
    bucket = Bucket(make_bucket(server), url, access_key=server.access_key, secret_key=server.secret_key)
    try:
        s3_settings.block(bucket)
    except LifeboatError as exc:
        if s3_client.code(exc) not in s3_client.UNSUPPORTED:
            raise
    return "yes" if s3_settings.blocked(bucket) else "no"


def mirror(root: Path, server: Server, url: str, weed: SeaweedFS, make_bucket: MakeBucket) -> dict[str, str]:
    names = (make_bucket(server), make_bucket(weed))
    for one, bucket in zip((server, weed), names):
        if "versioning" not in one.lacks:
            one.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    world = World(root, server, weed, names)
    for key in (*KEYS, "p/b"):
        world.put(key)
    told = {conformance.CONTROL: "the server does not take it", conformance.HIDDEN: "the server does not take it"}
    control = taken(world, "c\x01d")
    time.sleep(2.1)

    def take() -> tuple[ObjectsDetails, set[str], list[str]]:
        world.database()
        objects = dataclasses.replace(world.config.objects, endpoint_url=url)
        run = Opened(dataclasses.replace(world.config, objects=objects))
        manifest = components.COMPONENTS["objects"].take(run, False, world.lines.append)
        details = manifest.detailed(ObjectsDetails)
        return details, set(world.listing(manifest)), [row.key for row in details.primary.unheld]

    details, held, unheld = take()
    told[conformance.INSTANT] = "yes" if details.primary.consistency == "snapshot" else "no: of now, and says so"
    told[conformance.PAGES] = "held" if {*KEYS} <= held else f"LOST: {len({*KEYS} - held)}"
    if control:
        named = "named as not held" if any(key.startswith("c") for key in unheld) else "LOST"
        told[conformance.CONTROL] = "held" if "c\x01d" in held else named
    told[conformance.AGAIN] = "yes" if take()[0].primary.copied == 0 else "no"
    if taken(world, "p"):
        time.sleep(1.1)
        told[conformance.HIDDEN] = "held" if {"p", "p/b"} <= take()[1] else "LOST"
    return told


def taken(world: World, key: str) -> bool:
    try:
        world.put(key)
    except LifeboatError:
        return False
    return True


def powers(server: Server, url: str) -> dict[str, str]:
    if not server.writers:
        return {}
    vault.ensure(make(server))
    config = make(server, keys=WRITER)
    config = dataclasses.replace(config, vault=dataclasses.replace(config.vault, endpoint_url=url))
    found = writer.attempt(config, access_key=server.access_key, secret_key=server.secret_key)
    worst = found.those(writer.CAN, writer.DESTROYS)
    return {ACTS[name]: "**yes**" if name in worst else POWERS[act.state] for name, act in found.acts.items()}
