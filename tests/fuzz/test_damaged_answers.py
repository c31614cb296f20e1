# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools and servers say, spoiled: Docker, systemd, git, PostgreSQL, GitHub, an application; whole documents."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, pipeline, throttle, web
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command, Finished
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster, fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import receipts
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import certificates
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import manifest, points, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import documents, identities, properties
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import settings as s3_settings
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import files as stack_files
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import ComposeRuntime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import HostRuntime
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age, git, github, tar
from builders import FACTS, NOW, make_manifest
from damage import cut_up, spoiled
from fuzzing import attempt, fuzz
from world import World, called, plain

EACH = 3
CONTAINER = {
    "Id": "c" * 64, "Name": "/shop-db-1", "Image": "sha256:" + "1" * 64, "RestartCount": 0,
    "State": {"Status": "running", "Running": True, "ExitCode": 0, "StartedAt": "2026-11-24T02:00:00.123456789Z",
              "Health": {"Status": "healthy", "Log": [{"ExitCode": 0, "Output": "ok"}]}},
    "Config": {"Image": "postgres:17", "Env": ["PGDATA=/data", "POSTGRES_USER=app"],
               "Labels": {"com.docker.compose.service": "db", "com.docker.compose.project": "shop"}},
    "HostConfig": {"NetworkMode": "shop_default", "RestartPolicy": {"Name": "always"},
                   "PortBindings": {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5432"}]}},
    "Mounts": [{"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/x", "Destination": "/data"}],
    "NetworkSettings": {"Networks": {"shop_default": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": ""}}},
}  # fmt: skip
PROJECT = {
    "name": "shop",
    "services": {
        "db": {"image": "postgres:17", "environment": {"POSTGRES_DB": "shop"},
               "volumes": [{"type": "volume", "source": "data", "target": "/data"}]},
        "web": {"image": "web:1", "depends_on": {"db": {"condition": "service_healthy"}}, "deploy": {"replicas": 2},
                "env_file": [{"path": "web.env", "required": True}, "more.env"],
                "healthcheck": {"test": ["CMD-SHELL", "curl -f http://localhost:8000/health || exit 1"]},
                "environment": {"DATABASE_URL": "postgres://app:x@db/shop"},
                "ports": [{"mode": "ingress", "target": 8000, "published": "18000", "protocol": "tcp"}]},
    },
    "volumes": {"data": {"name": "shop_data"}}, "secrets": {"s": {"name": "s", "file": "/srv/s"}}, "configs": {},
}  # fmt: skip
UNIT = "LoadState=loaded\nActiveState=active\nSubState=running\nExecMainStatus=0\nNRestarts=0\n"
ROWS = [
    "shop", 170012, True, {"name": "shop", "open": True, "bounded": False}, {"rolsuper": True}, None, 8_000_000,
    {"name": "app", "bytes": 8192, "database": "shop", "owner": "app", "size": 1},
]  # fmt: skip
# By what the words of the command have; the first that fits is said.
SAYS: dict[str, bytes] = {
    "config": json.dumps(PROJECT).encode(),
    "docker inspect": json.dumps([CONTAINER]).encode(),
    "docker image inspect": b"sha256:" + b"1" * 64 + b" postgres@sha256:" + b"2" * 64 + b"\n",
    "docker volume inspect": b"/var/lib/docker/volumes/shop_data/_data\n",
    "--quiet": b"c" * 64 + b"\n",
    "docker ps": b"shop\n",
    "docker logs": b"LOG:  database system is ready\nPANIC:  could not locate a valid checkpoint record\n",
    "docker": b"27.5.1\n",
    "show": UNIT.encode(),
    "is-active": b"active\n",
    "journalctl": b"Nov 24 02:00:00 app1 postgres[1]: LOG:  ready\n",
    "ls-remote": b"a" * 40 + b"\trefs/heads/main\n",
    "rev-list": b"a" * 40 + b"\n" + b"b" * 40 + b"\n",
    "psql": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    "--version": b"pg_dump (PostgreSQL) 17.2\n",
    "age-keygen": b"# public key: age1px20ruqptq3ct67gnhrw5hhnmsnnsux0w6jmn5lezs2g7qppqcpsa6fxz0\nAGE-SECRET-KEY-1X\n",
    "": b"",
}


@dataclass
class Tools:
    """In place of every process: it says what is in the table, or what is left of that."""

    says: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)

    def run(
        self, commands: Sequence[Command], *, attempted: str, subject: str, source: object = None, sink: Any = None,
        timeout: float = 0, remedy: str = "",
        ok: Callable[[Finished], bool] = lambda finished: finished.status == 0,
    ) -> list[Finished]:  # fmt: skip
        done = []
        for command in commands:
            words = " ".join(command.argv)
            which = next(name for name in SAYS if name in words)
            said = self.says.get(which, SAYS[which])
            done.append(Finished(command, self.statuses.get(which, 0), pipeline.scrub(said.decode("utf-8", "replace"))))
            if not ok(done[-1]):
                raise pipeline.failed(attempted, subject, done[-1], remedy)
            if sink is not None and command is commands[-1]:
                sink.write(said)
        return done


@pytest.fixture
def tools(world: World, monkeypatch: pytest.MonkeyPatch) -> Tools:
    made = Tools()
    monkeypatch.setattr(pipeline, "run", made.run)
    monkeypatch.setattr(clock, "pause", lambda since: None)
    return made


def compose(work: Callable[[ComposeRuntime], object]) -> Callable[[World], object]:
    return lambda world: work(ComposeRuntime(config.load("shop", world.root / "etc")))


def host(work: Callable[[HostRuntime], object]) -> Callable[[World], object]:
    return lambda world: work(HostRuntime(config.load("shop", world.root / "etc")))


ASKED: tuple[Callable[[World], object], ...] = (
    compose(lambda stack: [stack.services(), stack.project, stack.containers(), stack.images()]),
    compose(lambda stack: [stack.state("db").describe(), stack.image("db"), stack.data_path("db"), stack.logs("db")]),
    compose(lambda stack: [stack.data_mount("db", "/data"), stack.elsewhere("db")]),
    compose(lambda stack: [stack.dependants("db"), stack.one_offs("db"), stack.addresses(["db"], [])]),
    lambda world: stack_files.find(
        loaded := config.load("shop", world.root / "etc"), ComposeRuntime(loaded)
    ),
    host(lambda stack: [stack.state("postgresql").describe(), stack.logs("postgresql")]),
    lambda world: git.Remote("https://git.example/app.git", "main", "").head(),
    lambda world: git.Clone(Path("/x")).history("x", 3),
    lambda world: age.HostKeys(world.root / "state").recipient(NOW, 7, len),
    plain("checklist", "--period", "incident"), plain("quarantine", "--json"), plain("backup", "config", "--json"),
    plain("backup", "database", "--json"), plain("verify", "--level", "archive", "--json"),
    called("stack_info", project="/srv/shop"), called("site_scope_info"), called("database_plan_info"),
    called("backend_plan_info"), called("database_info"), called("stack_check_info"),
)  # fmt: skip


def test_what_tools_say(world: World, tools: Tools) -> None:
    world.renew()
    for work in ASKED:
        attempt(work, world, "nothing is spoiled")

    def body(rng: Random) -> None:
        tools.says.clear()
        tools.statuses.clear()
        told = []
        for which in rng.sample(list(SAYS), rng.choice((1, 1, 2))):
            tools.says[which], words = spoiled(rng, SAYS[which])
            tools.statuses[which] = rng.choice((0, 0, 0, 0, 1, 2, 125, 127, -9))
            told.append(f"{which or 'another tool'}: {words}, status {tools.statuses[which]}")
        for work in rng.sample(ASKED, EACH):
            attempt(work, world, "; ".join(told))

    fuzz(0.15, EACH, body)


# Documents and answers that are read whole.


def rows_of_a_listing() -> bytes:
    row = {"key": "a b", "size": 3, "etag": "e", "modified": "2026-11-24T02:00:00.000Z", "version": "v",
           "vault_version": "w", "vault_etag": "e", "sha256": None}  # fmt: skip
    more = {"properties": "hold=1", "headers": "content-type=text%2Fx", "tags": "a=1&b%20c=d", "storage": "GLACIER",
            "tags_as_of": "2026-11-24T02:00:00.000Z"}  # fmt: skip
    return b"".join(json.dumps(line).encode() + b"\n" for line in (row, {**row, **more}))


def listed(data: bytes) -> object:
    return list(listing.read(io.BytesIO(gzip.compress(data)), "x"))


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/file", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.pax_headers = kind, {"mtime": "1764000000.5", "uid": "5", "path": name}
            if kind == tarfile.REGTYPE:
                member.size = 700
            member.linkname = "file" if kind == tarfile.SYMTYPE else ""
            made.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def unpacked(data: bytes) -> object:
    return tar.read(io.BytesIO(gzip.compress(data, 1)), "x")


def of_github(data: bytes) -> object:
    """Each question gets the same answer, with one of several statuses."""
    client = github.Client("https://api.example", "a/b", "", sleep=lambda _: None, now=lambda: 0.0)
    status = (200, 200, 200, 403, 404, 422, 429)[len(data) % 7]
    client._send = lambda *_: web.Answer(status, {"retry-after": "9" * 9}, data)  # type: ignore[method-assign]
    asked: tuple[Callable[[], object], ...] = (
        client.pages, lambda: client.workflow("x"), lambda: client.runs("x", "main"), lambda: client.jobs(3),
    )  # fmt: skip
    for question in asked:
        with contextlib.suppress(LifeboatError):
            question()
    return None


def told(data: bytes) -> object:
    """What an application answers to a check."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "send", lambda *_, **__: (200, data))
        return answer.ask(config.EndpointCheck("http://127.0.0.1/", json={"status": "ok"}))


def fine(work: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Of a reader that says ValueError for what it cannot read, as its words have it."""

    def tried(data: bytes) -> object:
        try:
            return work(data)
        except ValueError as exc:
            return str(exc)

    return tried


def text(work: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: work(data.decode("utf-8", "surrogateescape"))


def in_file(work: Callable[[Path], object], name: str) -> Callable[[World, bytes], object]:
    def written(world: World, data: bytes) -> object:
        (world.root / name).write_bytes(data)
        return work((world.root / name).parent)

    return written


BACKUP = make_manifest(NOW)
POINT = points.Point(
    id=BACKUP.id[-15:], stack="shop", sealed_at=NOW, taken_at=NOW, consistency="snapshot", images={}, copies=(),
    notes=(), components={"database": points.Part(BACKUP.id, BACKUP.seal), "objects": None, "config": None},
)  # fmt: skip
FILES = {"schema": "lifeboat.dr/files", "version": [1, 0], "files": [
    {"path": "/srv/x", "type": "file", "mode": "0644", "uid": 0, "gid": 0, "mtime": 0, "size": 3, "sha256": "a" * 64}
]}  # fmt: skip
CLUSTER = cluster.Cluster(
    scheme=1,
    settings=(cluster.Setting("work_mem", "64MB", "configuration file", cluster.AUTO, "integer", "kB"),),
    for_all=(), hba=("local all all peer",), ident=("m a b",), tablespaces=(cluster.Tablespace("fast", "o", "/x"),),
    slots=(cluster.Slot("s", "physical"),), subscriptions=(),
    databases={"d\udce9": cluster.Inside({"p": "all"}, (cluster.Extension("e", "1", True),))},
    unreadable={"slots": "why"},
)  # fmt: skip
SEAWEEDFS = {"identities": [{"name": "a", "credentials": [{"accessKey": "k", "secretKey": "s"}], "actions": ["Read"]}]}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:Get"]}],
}
XML = b'<LifecycleConfiguration xmlns="x"><Rule><ID>a</ID><Status>Enabled</Status></Rule></LifecycleConfiguration>'
PEM = b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ0FOQVJZ\n-----END CERTIFICATE-----\n"
ARMOUR = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTk=\n-----END SSH SIGNATURE-----\n"
SETTINGS = {
    "stack": "shop", "runtime": {"project_directory": "/srv"}, "repository": {"type": "local", "path": "/b"},
    "application": {"checks": [{"url": "http://127.0.0.1/x", "json": {"a": 1}}]}, "targets": {"database": 60},
    "objects": {"bucket": "a", "endpoint_url": "http://127.0.0.1:9", "buckets": ["b*"]}, "retention": {"daily_days": 3},
    "vault": {"objects_bucket": "m", "endpoint_url": "http://127.0.0.1:9"},
    "database": {"name": "shop", "exclude": ["x"]},
    "signers": [{"name": "a", "key": "ssh-ed25519 " + "A" * 68}],
    "frontend": {"url": "https://www.example", "repository": "a/b"},
}  # fmt: skip
READERS: tuple[tuple[str, bytes, Callable[[bytes], object]], ...] = (
    ("manifest", BACKUP.to_bytes(), lambda data: manifest.parse(data, component="database", expected_id=BACKUP.id)),
    ("recovery point", POINT.to_bytes(), lambda data: points.parse(data, expected_id=POINT.id)),
    ("signed", BACKUP.to_bytes(), lambda data: sealing.opened(data, "x", "manifest")),
    ("record", sealing.render({"id": "x", "seal": "y"}), lambda data: sealing.opened_record(data, "x", "verification")),
    ("armour", ARMOUR.encode(), text(lambda said: sealing.unarmoured(said, "x", "manifest"))),
    ("fingerprint", json.dumps(FACTS).encode(), lambda data: fingerprint.read(data, "x")),
    ("cluster", CLUSTER.to_bytes(), lambda data: cluster.read(data, "x")),
    ("files", json.dumps(FILES).encode(), lambda data: restore.parse_listing(data, "x")),
    ("listing", rows_of_a_listing(), listed),
    ("archive", archive(), unpacked),
    ("packed archive", gzip.compress(archive(), 1), lambda data: tar.read(io.BytesIO(data), "x")),
    (
        "age header",
        b"age-encryption.org/v1\n-> X25519 aaaa\nbbbb\n--- " + b"c" * 43 + b"\nx",
        lambda data: age.stanzas(io.BytesIO(data), "x"),
    ),
    ("identity", b"AGE-SECRET-KEY-1QQQ\n", text(age.check_identity)),
    ("seaweedfs", json.dumps(SEAWEEDFS).encode(), identities.of_seaweedfs),
    (
        "minio",
        identities.packed({f"{identities._FOLDER}/{name}": b"{}" for name in identities._MEMBERS}),
        identities.of_minio,
    ),
    ("policy", json.dumps(POLICY).encode(), fine(text(lambda said: s3_settings.alike("policy", said, POLICY)))),
    ("a setting", XML, text(lambda said: documents.same(said, XML.decode(), "x"))),
    ("properties", b"hold=1&retain=GOVERNANCE", fine(text(properties.parse))),
    ("tags", b"a=1&b%20c=d", fine(text(properties.pairs))),
    ("GitHub", json.dumps({"cname": None, "workflow_runs": [{"id": 1}], "state": "active"}).encode(), of_github),
    ("an application", b'{"status": "ok"}', told),
    ("a marker", b'{"lifeboat": {"commit": "' + b"a" * 40 + b'"}}', lambda data: site.commit_of("v.json", data)),
    ("a page", b'<meta name="commit" content="aaaa">', lambda data: site.commit_of("i.html", data)),
    ("a certificate", PEM, fine(text(certificates.self_signed))),
    ("a time", b"2026-11-24T02:00:00.123+09:00", text(clock.parse_time)),
    ("a rate", b"10M", text(throttle.parse_rate)),
    ("settings", json.dumps(SETTINGS).encode(), lambda data: config.from_mapping(read(data))),
)


def read(data: bytes) -> object:
    """As a module gets it: whatever JSON can say."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


# It would take a key to make a whole one.
UNREAL = dict.fromkeys(("armour", "identity", "record", "signed"), (LifeboatError,))
LEDGER = b'{"name": "orders", "token": "a", "time": "2026-11-24T02:00:00Z", "id": "1"}\n'
RECEIPT = receipts.Record(0, NOW, receipts.FIRST, "acknowledged", why="x").to_line()
IN_FILES: tuple[tuple[str, bytes, Callable[[World, bytes], object]], ...] = (
    ("ledger", LEDGER, in_file(lambda folder: ledger.acknowledged(folder / "ledger"), "ledger")),
    ("receipts", RECEIPT, in_file(receipts.load, receipts.NAME)),
)


def cases() -> Iterator[tuple[str, bytes, Callable[[World, bytes], object]]]:
    for name, base, work in READERS:
        yield name, base, lambda _world, data, work=work: work(data)  # type: ignore[misc]
    yield from IN_FILES


def test_what_is_read_whole(world: World) -> None:
    world.renew()
    every = list(cases())
    for name, base, work in every:
        with contextlib.suppress(*UNREAL.get(name, ())):
            work(world, base)

    def body(rng: Random) -> None:
        name, base, work = rng.choice(every)
        data, words = (cut_up if name.endswith("archive") else spoiled)(rng, base)
        if rng.random() < 0.3:
            data, more = spoiled(rng, data)
            words += f"; {more}"
        attempt(lambda given: work(world, given), data, f"{name}: {words}: {data[:300]!r}")

    fuzz(0.15, 1, body)
