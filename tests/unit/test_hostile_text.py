# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others can write, in the texts that people and programs read: no line of its own, no word to a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import gzip
import http.client
import io
import json
import shutil
import socket
import struct
import tarfile
import threading
import time
import types
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.backend import assess, host
from ansible_collections.lifeboat.dr.plugins.module_utils.base import ecs, errors, pipeline, text, typed, web
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster, fingerprint, majors, server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import feed, relations, spool
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.rows import Rows
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import transaction as drill_transaction
from ansible_collections.lifeboat.dr.plugins.module_utils.dumps import facts as dumps_facts
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store as evidence_store
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import metrics, nagios
from ansible_collections.lifeboat.dr.plugins.module_utils.files import contents as files_contents
from ansible_collections.lifeboat.dr.plugins.module_utils.files import listing as files_listing
from ansible_collections.lifeboat.dr.plugins.module_utils.files import packs
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site
from ansible_collections.lifeboat.dr.plugins.module_utils.keeper import receipts
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import changes, listing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import discover, escrow_look, schedule, shipping
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import (
    base,
    checksums,
    manifest,
    points,
    retention,
    sealing,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client as s3_client
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import identities, listing_parser, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Bucket, Listed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import EndpointCheck
from ansible_collections.lifeboat.dr.plugins.module_utils.site import point_fetch
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer as stack_answer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import compose, contents, hook_debts, mounts
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import files as stack_files
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import ComposeRuntime
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import (
    age,
    alertmanager,
    github,
    healthchecks,
    tar,
    webhooks,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import cuts, notes, segments
from ansible_collections.lifeboat.dr.plugins.plugin_utils import inventory
from builders import entries, make_config, make_manifest, settings, store
from keeper_world import PULLED, World
from readers import READERS
from test_fingerprint import facts

MIB = 1 << 20
FORGED = "2026-11-24T02:00:00+0000 shop[99] DEBUG backup ends"
HOSTILE = f"a\x1b[2J\x9b2Jb\r\x00\x08\u2028\u2029\x85\u202e\x7f\U000e0041\udce9日本\n{FORGED}"


def unseen(shown: str) -> set[str]:
    """The letters of a text that a terminal acts on, or that nobody sees."""
    return {
        letter for letter in shown if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()

    (tmp_path / "log").mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    return directory


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "JSON"])
@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
def test_what_a_container_says_is_one_line_and_harmless(
    tmp_path: Path, etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    """On the terminal, to a reader of JSON, and in the log, by which the scheduled runs are judged."""

    def take(run: Any, *_: Any, log: Any, **more: Any) -> Any:
        log(f"it said {HOSTILE}")
        if fails:
            raise errors.LifeboatError("dump the database", f"shop {HOSTILE}", HOSTILE, "Mend it.")
        return types.SimpleNamespace(
            unheld=(), missing=(), refused=None, pruned=None, failed=(),
            as_dict=lambda: {HOSTILE: [HOSTILE]}, lines=lambda: [HOSTILE],
        )  # fmt: skip

    monkeypatch.setattr(operations_backup, "take", take)
    assert cli.main(["backup", "database", *words, "--config-directory", str(etc)]) == int(fails)
    shown, log = capsys.readouterr(), (tmp_path / "log/shop.log").read_text("utf-8")
    assert [unseen(part) for part in (shown.out, shown.err, log)] == [set(), set(), set()]
    assert "日本" in log
    if words and not fails:
        assert json.loads(shown.out) == {HOSTILE: [HOSTILE]}
    found = schedule.runs(make_config(tmp_path))
    assert [bool(run.problem) for run in found] == [fails], "nobody else's line is a run"


def test_what_nagios_gets() -> None:
    lines = [nagios.unknown("shop", HOSTILE)[1], nagios.status("shop", [Check("a", "FAIL", HOSTILE)])[1]]
    assert [(unseen(line), line.count("\n")) for line in lines] == [(set(), 0)] * 2


def test_json_says_the_same() -> None:
    """And a text of one line is as long as it was, where all of it can be read."""
    value = {HOSTILE: ["\U0001f6df", HOSTILE, 1e308, None]}
    assert json.loads(text.printable_json(value)) == value
    assert unseen(text.printable_json(value)) == set()
    assert text.printable_json({"店": "a b"}) == '{"店": "a b"}'
    assert errors.printable_lines("a b\n日本") == "a b\n日本"


def test_spaces_that_people_type_are_shown_as_they_are() -> None:
    """Of French before `:` and `!`, and of Japanese; what only looks like one is escaped."""
    said = "Attention\u00a0: déjà vu\u202f! 東京\u3000大阪"
    assert [errors.printable(said), errors.printable_lines(said), json.loads(text.printable_json(said))] == [said] * 3
    assert text.printable_json(said) == f'"{said}"'
    for letter in "\u2028\u2029\u200b\u00ad\ufeff\u2066\x85":
        assert letter not in errors.printable(f"{said}{letter}") + text.printable_json(f"{said}{letter}")


SEED, DAMAGES = 32, 12  # documents of each kind that are damaged at random; always the same ones
MARKER, POINT = "repository.json", "recovery-points/20261124_020000.json"
NIGHT = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
NOTE = notes.Note(
    "wal_backup_20261124_020000", "shop", 1, notes.Reached("7412345678901234567", 1, "0/A4160000", NIGHT),
    segments.DEFAULT, 170_002, (notes.Entry("0000000100000000000000A4.0012c000.zst", 48211, "9f" * 32, 212992),),
)  # fmt: skip
CHANGE = changes.Change("uploads", NIGHT, Listed("a", 1, "b", NIGHT, "v", "w", "c"))
# XLogLongPageHeaderData, as PostgreSQL 17 writes it: magic, info, timeline, address, system, size of segment and page.
SEGMENT_HEAD = struct.pack(
    "<HHIQIxxxxQII", 0xD116, 2, 1, segments.DEFAULT, 0, int(NOTE.reached.system), segments.DEFAULT, 8192
)
DEEP = (900, 100_000)  # what Python's parser follows, and what it does not
PAIRS = (("[", "]"), ('{"a":', "}"), ("<a>", "</a>"))
ATOMS = (
    "", "\0", "\x1b[2J\x1b]0;title\x07", "\x9b2J", "\r", "\r\n", "\n", "\u2028", "\u2029", "\x85", "\u202e", "\ud800",
    "\udcff",
    "1e308", "-1e308", "1e999", "-1", "9" * 5000, "NaN", "-Infinity", "null", "0123", "no", "~", "2026-02-30T25:00:00Z",
    "x" * MIB,
    "${a" * 300_000,
    "\\" * 1000, '"', "'", "`id`", "$(id)", "; id #", "| id", "%n%s", "{{ 7*7 }}", "{% for a in b %}",
    "!!python/object/apply:os.system ['id']", "&a [*a, *a]", "- |\n  x",
    "[section]\nkey = value", "@reboot root id\n",
    "\n[Service]\nExecStart=/bin/sh\n", f"\n{FORGED}\n", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<![foo[",
    "../../etc/passwd",
    *(f"{opened * depth}{closed * depth}" for depth in DEEP for opened, closed in PAIRS),
)  # fmt: skip
VALUES: tuple[Any, ...] = (*ATOMS[:32], None, True, -1, 1e308, 2**63, 10**400, [], {}, [[]] * 1000, {"\0": "\x1b"})


def documents() -> dict[str, bytes]:
    """A sound one of each kind, by the reader's name below."""
    cut = {"system": "7412345678901234567", "timeline": 1, "lsn": "0/3000028", "until": "0/3000100"}
    backup = make_manifest(NIGHT, details={"cut": {**cut, "snapshot": "745:747:745"}})
    line = {
        "key": "a", "size": 1, "etag": "e", "last_modified": "2026-11-24T02:00:00Z", "source_version": None,
        "vault_version": "v", "vault_etag": "e", "sha256": "0" * 64,
    }  # fmt: skip
    listed = {
        "path": "/a",
        "mode": "0644",
        "uid": 0,
        "gid": 0,
        "mtime": 0,
        "type": "file",
        "size": 1,
        "sha256": "0" * 64,
    }
    return {
        "manifest": backup.to_bytes(),
        "fingerprint": json.dumps(facts()).encode(),
        "files": json.dumps({"schema": "lifeboat.dr/files", "version": [1, 0], "files": [listed]}).encode(),
        "listing": json.dumps(line).encode() + b"\n",
        "seaweedfs": b'{"identities": [{"name": "a", "credentials": [{"accessKey": "a", "secretKey": "b"}]}]}',
        "inspect": b'[{"Id": "a", "Name": "/a", "State": {"Status": "running"}, "Config": {"Env": ["A=b"]}}]',
        "compose": b'{"name": "shop", "services": {"web": {"image": "a", "environment": {"A": "b"}, "ports": []}}}',
        "volumes": b'[{"Name": "a", "Driver": "local", "Mountpoint": "/a", "Options": {"o": "bind", "device": "/b"}}]',
        "mounted": b"17\n",
        "sqlite": b"SQLite format 3\0" + bytes(84),
        "tree": b'{"schema": "lifeboat.dr/file-listing", "version": [1, 0]}\n'
        b'"a/b"\tfile 644 0 0 1 2 3 4\t1\t{"sha256": "a"}\n',
        "pack": tarred(),
        "facts": b'{"schema": "lifeboat.dr/dump-facts", "version": [1, 0], "facts": {"a": "b"}, "before": {"c": null}}',
        "projects": b'[{"Name": "shop", "ConfigFiles": "/srv/shop/compose.yml"}]',
        "bulk": b'{"items": [{"create": {"_id": "a", "status": 201, "error": {"type": "b", "reason": "c"}}}]}',
        "syslog": b'{"time": "2026-11-24T02:00:00Z", "host": "a", "program": "b", "text": " c", "received": "d"}',
        "ecs": b'{"@timestamp": "2026-11-24T02:00:00Z", "log.level": "info", "message": "m", "process.pid": 1}',
        "record": b'{"schema": "lifeboat.dr/evidence", "version": [1, 0], "id": "recovery_20261124_020000"}',
        "marker": b'{"commit": "0123456789abcdef", "id": "a"}',
        "page": b'<html><head><meta name="commit" content="0123456789abcdef"></head></html>',
        "xml": b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
        "rows": b'{"a": 1}\n"b"\n',
        "age": b"age-encryption.org/v1\n-> X25519 a\n--- " + b"a" * 43 + b"\nx",
        "github": b'{"message": "a", "sha": "b"}',
        "repository": backup.to_bytes(),
        "note": notes.to_bytes(NOTE),
        "change": CHANGE.encoded,
        "relations": b'{"database": 5, "oid": 16384, "schema": "a", "name": "b", "kind": "r", "file": 1}\n',
        "wanted": b"000000010000000000000001",
        "waldump": b"rmgr: Transaction len (rec/tot): 34/34, tx: 745, lsn: 0/00AEF350, prev 0/00AEF300, desc: COMMIT"
        b"_PREPARED 745: 2026-12-02 04:11:09.932553 UTC; subxacts: 746\n",
        "history": b"1\t0/3000000\tno recovery target specified\n",
        "segment": SEGMENT_HEAD + bytes(8192 - len(SEGMENT_HEAD)),
        "hold": b'{"schema": "lifeboat.dr/hold", "version": [1, 0], "stack": "shop", "why": "a"}',
        "receipts": receipt(),
        "version": b"17\n",
        "stderr": b"could not a\n",
        "pulled": backup.to_bytes(),
        "ping": b"OK",
        "taken": b"no_service",
        "endpoint": b"ok",
        "project": b"A=b\nservices:\n  a:\n    extends: {file: b.yml}\n    image: ${C:?d}\n",
        "answer": b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
        "header": b"abc",
        "alerts": b'[{"labels": {"a": "b"}, "annotations": {"c": "d"}, "status": {"state": "active"}}]',
        "process": b"python\0-m\0a",
        "environment": b"PATH=/bin\0LIFEBOAT_RUN=1-backup-page\0",
        "looks": b'{"schema": "lifeboat.dr/escrow-look", "version": [1, 0], "places": {}}',
        "tar": tarred(),
        "log": f"{FORGED}\n".encode(),
    }  # fmt: skip


def receipt() -> bytes:
    record = receipts.Record(0, NIGHT, receipts.FIRST, "received", id=make_manifest(NIGHT).id, digest="0" * 64)
    return record.to_line()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


HEADS = tuple(
    b"HTTP/1.1 200 OK\r\n" + line + b"\r\n"
    for line in (
        b'ETag: "@"', b"Last-Modified: @", b"Content-Type: @", b"Content-Length: @", b"x-amz-meta-sha256: @",
        b"x-amz-object-lock-retain-until-date: @", b"@: a",
    )
)  # fmt: skip

# The kinds of documents, and so the readers of them, by the row of the table of docs/security.md.
ROWS = {
    "documents of a repository or a vault": ("manifest", "repository"),
    "a span of WAL in a repository": ("note", "history"),
    "the changes of objects in such a span": ("change",),
    "WAL that pg_receivewal wrote": ("segment", "history"),
    "a base in a repository": ("relations",),
    "what a throw-away server asks": ("wanted",),
    "holds of a repository": ("hold",),
    "the repository that a keeper pulls": ("pulled",),
    "a keeper's backup on its way back": ("pulled",),
    "a keeper's log of receipts": ("receipts",),
    "archives: a configuration": ("tar", "age"),
    "artefacts that are compared by SHA-256": ("listing", "repository"),
    "listing and secrets of a configuration's backup": ("files", "tar"),
    "fingerprint, settings and globals": ("fingerprint",),
    "what PostgreSQL answers": ("rows",),
    "the version in a data directory": ("version",),
    "what a tool prints": ("inspect", "compose", "volumes", "projects", "stderr", "waldump"),
    "what the services mount": ("mounted",),
    "an application's files": ("sqlite",),
    "the listing and the packs of a files backup": ("tree", "pack", "age"),
    "the dumps and the facts of a dumps backup": ("facts", "age"),
    "files of the project": ("project",),
    "the environment of each process": ("environment",),
    "the stack's S3 server, or a vault": ("xml", "seaweedfs", "answer", "header"),
    "objects of an S3 server": ("answer", "header"),
    "an application's endpoints": ("marker", "endpoint"),
    "a static site and its marker": ("page", "marker"),
    "GitHub's API": ("github",),
    "Alertmanager": ("alerts",),
    "a dead-man's switch": ("ping",),
    "the receivers of lifeboat_notify": ("taken",),
    "the log store's answer": ("bulk",),
    "lines of the log": ("syslog", "ecs", "log"),
    "evidence of a recovery or a drill": ("record",),
    "names of processes and control groups": ("process",),
    "what was in a vault at the last look": ("looks",),
}


def test_each_reader_of_the_table_is_given_hostile_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: Answering
) -> None:
    rows = {row: [reader.what for reader in READERS if reader.what.startswith(row)] for row in ROWS}
    assert [row for row, found in rows.items() if len(found) != 1] == []
    assert sorted(what for found in rows.values() for what in found) == sorted(reader.what for reader in READERS)
    given = readers(tmp_path, monkeypatch, answering)
    assert {kind for kinds in ROWS.values() for kind in kinds} == set(given) == set(documents())
    assert [kind for kind, each in given.items() if not each] == []


class Nothing:
    """An archive that has no file."""

    def write(self, name: str, target: Path) -> bool:
        return False


class Answering:
    """A server that answers each connection with its head and its body, and ends it. `@`: the body in the head."""

    def __init__(self, listener: socket.socket) -> None:
        self.head, self.body, self._listener = b"", b"", listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _from = self._listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(5)
                    connection.recv(1 << 16)
                    length = b"" if b"Content-Length" in self.head else b"Content-Length: %d\r\n" % len(self.body)
                    head = self.head.replace(b"@", self.body[:4096]) + length + b"Connection: close\r\n\r\n"
                    connection.sendall(head + self.body)


@pytest.fixture
def answering() -> Iterator[Answering]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Answering(listener)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def texts(value: object) -> set[str]:
    """Each text in a value that a reader gave, however deep."""
    found: set[str] = set()
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, str):
            found.add(inner)
        elif isinstance(inner, Mapping):
            left += [*inner, *inner.values()]
        elif isinstance(inner, (list, tuple, set, frozenset)):
            left += inner
        elif dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            left += [getattr(inner, field.name) for field in dataclasses.fields(inner)]
    return found


def survives(value: object) -> None:
    """Each of Lifeboat's writers writes such a text as one value, and no reader takes a part of it as a command.

    Cron files and units of systemd hold the inventory's texts only: `tests/unit/test_schedule.py`.
    """
    for said in sorted(texts(value)):
        assert json.loads(text.printable_json({"a": said})) == {"a": said}
        assert unseen(text.printable_json(said)) | unseen(errors.printable(said)) == set()
        assert "\n" not in errors.printable(said), "a line of the log"
        sample = metrics.Sample("a", {"b": said}, 1)
        lines = metrics.exposition({"a": "c"}, [sample]).splitlines()
        assert len(lines) == 3 and unseen("\n".join(lines)) == set(), "a sample of a prom file"
        with contextlib.suppress(errors.LifeboatError):  # too long, or not UTF-8
            inventory_of(said)


def inventory_of(said: str) -> None:
    """An inventory in which a host says that, read again by YAML: it is that text, or one that is marked as such."""
    told = {
        "stack": "shop", "variables": {"lifeboat_database": {"service": said, "name": said}}, "later": {},
        "unclear": [said], "wanted": [said],
    }  # fmt: skip
    written = inventory.text(inventory.draft_of(told))
    assert written.isascii() and unseen(written) == set()
    back = yaml.load(written, Loader=Unsafe)  # noqa: S506 - a SafeLoader with one tag more
    assert back == {"lifeboat_stack": "shop", "lifeboat_database": {"service": said, "name": said}}


class Unsafe(yaml.SafeLoader):
    """Of Ansible's tag only the text."""


Unsafe.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def wrong(at: str, cause: str) -> errors.LifeboatError:
    return errors.LifeboatError("read", at, cause)


def readers(  # noqa: C901, PLR0915 - one adapter for each way that a document comes
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: Answering
) -> dict[str, list[Callable[[bytes], object]]]:
    """What reads a document, by the kind of the document, as it comes: in a file, from a server, from a tool."""
    made = make_config(tmp_path)
    said: list[bytes] = [b""]
    real_output, real_probe, real_send = pipeline.output, pipeline.probe, stack_answer.send
    monkeypatch.setattr(pipeline, "output", lambda *_, **__: said[0].decode("utf-8", "replace"))
    monkeypatch.setattr(pipeline, "probe", lambda *_, **__: (0, said[0].decode("utf-8", "replace"), ""))
    monkeypatch.setattr(stack_answer, "send", lambda *_, **__: (200, said[0]))
    check = EndpointCheck("http://127.0.0.1/", "GET", 200, json={"id": "x"})
    asked = {"write": {"url": "http://127.0.0.1/{token}"}, "read": {"url": "http://127.0.0.1/{id}"}}
    drilled = make_config(tmp_path, drill={"transactions": [{"name": "order", **asked}]})

    def given(read: Callable[[], object]) -> Callable[[bytes], object]:
        """Of a tool or a server, which says the document."""

        def told(data: bytes) -> object:
            said[0] = data
            return read()

        return told

    def kept(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        """Of a file."""

        def laid(data: bytes) -> object:
            path = tmp_path / name
            path.touch(mode=0o600)
            path.write_bytes(data)
            return read(path)

        return laid

    def rows(data: bytes) -> object:
        found: list[object] = []
        server._Rows(found.append, "read", "a").write(data)
        return server._parsed(data.decode("utf-8", "replace").split("\n"), "read", "a")

    id = make_manifest(NIGHT).id
    here = tmp_path / "here"
    here.mkdir()

    def published(data: bytes, path: str = "") -> World:
        """On a stack's host, of which a keeper pulls and a machine reads back."""
        shutil.rmtree(tmp_path / "host", ignore_errors=True)
        (tmp_path / "host").mkdir()
        world = World(tmp_path / "host", monkeypatch)
        world.publish(NIGHT)
        world.now = NIGHT + PULLED
        path = path or f"postgresql/{id}/manifest.json"
        (world.host / path).parent.mkdir(exist_ok=True)
        (world.host / path).write_bytes(data)
        return world

    def pulled(path: str) -> Callable[[bytes], object]:
        def pull(data: bytes) -> object:
            world = published(data, path)
            found = world.pull()
            return found, [vars(alarm) for alarm in world.alarms()], world.said, receipts.load(world.kept).pulls

        return pull

    def brought(data: bytes) -> object:
        world = published(data)
        shutil.rmtree(here)
        here.mkdir()
        (here / "backup").mkdir()
        back = store(here)
        machine = types.SimpleNamespace(config=made)
        return point_fetch._bring(machine, store(world.root), back, id, False, world.said.append), world.said

    def in_repository(path: str, read: Callable[[World], object]) -> Callable[[bytes], object]:
        return lambda data: read(published(data, path))

    def in_artefact(data: bytes) -> object:
        world = published(make_manifest(NIGHT).to_bytes())
        found = store(world.root).manifest("database", id)
        read_back = manifest.parse(found, component="database", expected_id=id)
        (world.host / "postgresql" / id / read_back.artefacts[0].name).write_bytes(data)
        return checksums.in_place(store(world.root), read_back)

    def of_hook(data: bytes) -> list[str]:
        output = hook_debts._Output()
        output.write(data)
        return output.lines({})

    def printed(data: bytes) -> object:
        """As the last words of a tool that fails, and as its name where it says that."""
        laid = tmp_path / "printed"
        laid.write_bytes(data)
        command = pipeline.Command(["sh", "-c", 'cat "$0" >&2; exit 1', str(laid)])
        status, out, err = real_probe(command, timeout=20)
        with contextlib.suppress(errors.LifeboatError):
            real_output(command, attempted="look", subject="a", timeout=20)
        return status, out, err

    def served(read: Callable[[str], object], head: bytes = b"HTTP/1.1 200 OK\r\n") -> Callable[[bytes], object]:
        """By a server, to a client of ours."""

        def ask(data: bytes) -> object:
            answering.head, answering.body = head, data
            return read(answering.url)

        return ask

    monkeypatch.setattr(signed, "PATIENCE", 1)

    @functools.cache
    def s3(url: str) -> Any:
        # botocore leaves the connection open of an answer with a body whose head it cannot parse.
        warnings.simplefilter("ignore", ResourceWarning)
        return s3_client.connect(url, "", "a", "b", patience=10, attempts=1)

    def got(url: str) -> object:
        with s3_client.open_object(s3(url), "a", "b") as body:
            return len(body.read())

    def headed(url: str) -> object:
        with s3_client.translated_errors("look at", "a"):
            return s3(url).head_object(Bucket="a", Key="b")

    def asked_ours(url: str) -> object:
        return ours(url).ask("GET", "b", attempted="look").body

    @functools.cache
    def ours(url: str) -> Bucket:
        return Bucket("a", url, access_key="a", secret_key="b", attempts=1, patience=10)

    def at_url(url: str) -> object:
        with contextlib.suppress(OSError, http.client.HTTPException):  # as its callers do
            return real_send(url, method="GET", data=None, headers={}, redirects=False, timeout=10, largest=MIB)

    def process(name: str) -> Callable[[bytes], object]:
        def look(data: bytes) -> object:
            folder = tmp_path / "proc/7"
            (folder / "fd").mkdir(parents=True, exist_ok=True)
            if not (folder / "fd/3").is_symlink():
                (folder / "fd/3").symlink_to("socket:[1]")
            for file in ("cmdline", "comm", "cgroup"):
                (folder / file).write_bytes(data if file == name else b"")
            return host.owner("1")

        return look

    monkeypatch.setattr(host, "PROC", tmp_path / "proc")
    project = tmp_path / "project"
    project.mkdir()
    beside = make_config(tmp_path, runtime={"type": "host", "project_directory": str(project)})

    def of_project(data: bytes) -> object:
        for name in (".env", "compose.yml", "compose.yaml"):
            (project / name).write_bytes(data)
        files = [str(project / "compose.yml")]
        return (
            stack_files._values(str(project / ".env")), stack_files._fragments(files, str(project), set()),
            assess._env(beside), assess.needed_variables(beside),
        )  # fmt: skip

    def of_name(data: bytes) -> object:
        (project / "name").write_bytes(data)
        try:
            return discover.text_of(str(project / "name"))
        except UnicodeDecodeError:
            return ""  # as its docstring says

    def volumes() -> object:
        problems: list[str] = []
        names = said[0].decode("utf-8", "replace").splitlines()
        return typed.plain(mounts._volumes(names, problems)), problems

    def dumped(data: bytes) -> object:
        search = cuts.Search(cuts.parse("745:747:745"))
        Rows("read", [search]).write(data + b"\n")
        return search.first, search.late, search.commits

    def asked_of_feeder(data: bytes) -> object:
        exchange = tmp_path / "exchange"
        exchange.mkdir()
        with feed.Feeder(Nothing(), exchange, str(exchange), 1 << 24), contextlib.ExitStack() as stack:
            have, want = (stack.enter_context((exchange / name).open("r+b", buffering=0)) for name in ("have", "want"))
            want.write(data[:2048] + b"\n")
            said = have.read(1 << 16)
        shutil.rmtree(exchange)
        return said

    monkeypatch.setattr(feed, "_EVERY", 1)  # how soon it ends
    (tmp_path / "mount").mkdir()
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(schedule, "LOGS", tmp_path / "log")
    return {
        "manifest": [
            lambda data: manifest.parse(data, component="database", expected_id=id),
            lambda data: points.parse(data, expected_id="20261124_020000"),
            lambda data: sealing.opened(data, "a", "manifest"), lambda data: sealing.opened_record(data, "a", "mark"),
            lambda data: retention.hold_of(id, "shop", data, NIGHT), base.marker_of,
            lambda data: typed.load(data, wrong),
        ],
        "fingerprint": [lambda data: fingerprint.read(data, id), lambda data: cluster.read(data, id)],
        "files": [lambda data: restore.parse_listing(data, id)],
        "listing": [
            lambda data: list(listing.read(io.BytesIO(gzip.compress(data, 1)), id)),
            lambda data: list(listing.read_lines(io.BytesIO(gzip.compress(data, 1)), id)),
            lambda data: list(listing.read(io.BytesIO(data), id)),
        ],
        "seaweedfs": [identities.of_seaweedfs, identities.of_minio, identities.quotas],
        "inspect": [given(lambda: compose.inspect(["a"], attempted="look", subject="a"))],
        "compose": [given(lambda: ComposeRuntime(made).read(discover.Project, "config"))],
        "volumes": [given(volumes)],
        "mounted": [
            kept("mount/PG_VERSION", lambda path: contents.read(path.parent).kinds),
            kept("mount/a", lambda path: contents.read(path).kinds),
        ],
        "sqlite": [kept("app.db", files_contents.check_database)],
        "tree": [lambda data: [row.entry for row in files_listing.read(io.BytesIO(data), id)]],
        "pack": [
            lambda data: [(path, content.read()) for path, content in packs._members(io.BytesIO(data), id)],
            lambda data: packs.sparse_pieces(io.BytesIO(data.ljust(512, b"\n")), 1 << 40, id),
        ],
        "facts": [lambda data: dumps_facts.facts_from(data, "x")],
        "projects": [given(discover._projects)],
        "bulk": [lambda data: shipping._items({"a": b"{}"}, data)],
        "syslog": [lambda data: shipping.document(json.dumps({"text": data.decode("utf-8", "replace")}).encode(), {})],
        "ecs": [lambda data: ecs.read(data.decode("utf-8", "replace"))],
        "record": [kept("recovery_20261124_020000.json", evidence_store._read)],
        "marker": [
            lambda data: site.commit_of("commit.json", data), lambda data: site.commit_of("commit.txt", data),
            given(lambda: stack_answer.ask(check)),
            given(lambda: drill_transaction.write(drilled, drilled.drill.transactions[0], "t")),
        ],
        "page": [lambda data: site.commit_of("index.html", data)],
        "xml": [
            lambda data: signed.xml(data, "list", "a"), lambda data: listing_parser.read(data, "list", "a"),
            signed._error,
        ],
        "rows": [rows],
        "age": [lambda data: age.stanzas(io.BytesIO(data), "a")],
        "github": [
            lambda data: github._message(web.Answer(400, {}, data)),
            lambda data: github._built(dict, web.Answer(200, {}, data), "ask", "a"),
        ],
        "tar": [
            lambda data: tar.read(io.BytesIO(gzip.compress(data, 1)), "a"),
            lambda data: tar.read(io.BytesIO(data), "a"),
        ],
        "log": [kept("log/shop.log", lambda _: schedule.runs(made))],
        "repository": [
            in_repository("", lambda world: entries(world.root)),
            in_repository(POINT, lambda world: points.backups(store(world.root), "shop")),
            in_repository(MARKER, lambda world: base.marker_of(store(world.root)._read((MARKER,)) or b"")),
            in_artefact,
        ],
        "note": [lambda data: notes.parse(data, NOTE.id, NOTE.number, NOTE.stack)],
        "change": [lambda data: changes.parse_line(data, "line 1")],
        "relations": [lambda data: relations.parse(data, id)],
        "wanted": [asked_of_feeder],
        "waldump": [dumped],
        "history": [lambda data: segments.parse_history(data, 2)],
        "segment": [kept("segment", lambda path: spool.written(path, segments.Segment(1, 1), NOTE.reached.system))],
        "hold": [in_repository(f"holds/{id}.json", lambda world: store(world.root).holds())],
        "pulled": [*map(pulled, ("", MARKER, POINT)), brought],
        "receipts": [kept(receipts.NAME, lambda path: receipts.load(path.parent).pulls)],
        "version": [kept("PG_VERSION", lambda path: majors._major_of(path.parent))],
        "stderr": [printed, of_hook],
        "project": [of_project, of_name],
        "answer": [served(got, b'HTTP/1.1 200 OK\r\nETag: "e"\r\n'), served(asked_ours)],
        "header": [served(read, head) for read in (headed, got, asked_ours) for head in HEADS],
        "ping": [served(lambda url: (healthchecks.Switch(url, timeout=10, patience=20, pause=0).end("", "a"), 1))],
        "taken": [served(lambda url: webhooks.post(webhooks.Request(url, {})), b"HTTP/1.1 404 No\r\n")],
        "endpoint": [served(at_url)],
        "alerts": [served(lambda url: alertmanager.Client(url, timeout=10).find("a", "b"))],
        "process": [process(name) for name in ("cmdline", "comm", "cgroup")],
        "environment": [kept("environ", lambda path: b"LIFEBOAT_RUN=1-backup-page" in hook_debts._environment(path))],
        "looks": [kept("looks.json", escrow_look._read)],
    }  # fmt: skip


def leaves(body: Any) -> list[tuple[Any, Any]]:
    """Each place in a document that holds a value: what holds it, and under which key or number."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [pair for key, value in items for pair in ((body, key), *leaves(value))]


def damaged(data: bytes, rng: Random) -> bytes:
    """One value of another kind where it is JSON, else some bytes put in or left out."""
    try:
        body = json.loads(data)
    except ValueError:
        at = rng.randrange(len(data))
        return data[:at] + raw(rng.choice(ATOMS)) + data[at + rng.randrange(4) :]
    if not leaves(body):
        return data
    holder, key = rng.choice(leaves(body))
    holder[key] = rng.choice(VALUES)
    return json.dumps(body).encode()


def raw(atom: str) -> bytes:
    return atom.encode("utf-8", "surrogatepass")


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(documents()))
def test_hostile_text_ends_in_an_error_of_ours_or_in_a_harmless_answer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: Answering
) -> None:
    """Each reader, of each hostile text and of a sound document that has one. An error can be shown."""
    sound, rng = documents()[kind], Random(f"{SEED} {kind}")  # noqa: S311 - always the same ones
    given = [*map(raw, ATOMS), *(damaged(sound, rng) for _turn in range(DAMAGES))]
    each = readers(tmp_path, monkeypatch, answering)[kind]
    assert each[0](sound) not in (None, ""), "one that is sound is read"
    for read in each:
        for data in given:
            began = time.monotonic()
            try:
                survives(read(data))
            except errors.LifeboatError as exc:
                assert len(str(exc)) < 100_000, "a log and a record of evidence keep it"
                assert unseen(errors.printable(exc.subject)) | unseen(errors.printable_lines(str(exc))) == set()
            assert time.monotonic() - began < 20, f"{data[:60]!r}"
    gc.collect()  # what s3() says of connections, while it is ignored
