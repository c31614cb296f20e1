# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others can write, in the texts that people and programs read: no line of its own, no word to a terminal."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
import types
import unicodedata
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import ecs, errors, pipeline, text, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import Check
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.configuration import restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database import cluster, fingerprint, server
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import transaction as drill_transaction
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import store as evidence_store
from ansible_collections.lifeboat.dr.plugins.module_utils.faces import nagios
from ansible_collections.lifeboat.dr.plugins.module_utils.frontend import site
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import discover, schedule, shipping
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import base, manifest, points, retention, sealing
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import identities, pages, signed
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import EndpointCheck
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer as stack_answer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import compose
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.compose import ComposeRuntime
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import age, github, tar
from builders import make_config, make_manifest, settings
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
NIGHT = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
DEEP = (900, 100_000)  # what Python's parser follows, and what it does not
PAIRS = (("[", "]"), ('{"a":', "}"), ("<a>", "</a>"))
ATOMS = (
    "", "\0", "\x1b[2J\x1b]0;title\x07", "\x9b2J", "\r", "\r\n", "\n", "\u2028", "\u2029", "\x85", "\u202e", "\ud800",
    "\udcff",
    "1e308", "-1e308", "1e999", "-1", "9" * 5000, "NaN", "-Infinity", "null", "0123", "no", "~", "2026-02-30T25:00:00Z",
    "x" * MIB, "\\" * 1000, '"', "'", "`id`", "$(id)", "; id #", "| id", "%n%s", "{{ 7*7 }}", "{% for a in b %}",
    "!!python/object/apply:os.system ['id']", "&a [*a, *a]", "- |\n  x",
    "[section]\nkey = value", "@reboot root id\n",
    "\n[Service]\nExecStart=/bin/sh\n", f"\n{FORGED}\n", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<![foo[",
    "../../etc/passwd",
    *(f"{opened * depth}{closed * depth}" for depth in DEEP for opened, closed in PAIRS),
)  # fmt: skip
VALUES: tuple[Any, ...] = (*ATOMS[:32], None, True, -1, 1e308, 2**63, 10**400, [], {}, [[]] * 1000, {"\0": "\x1b"})


def documents() -> dict[str, bytes]:
    """A sound one of each kind, by the reader's name below."""
    backup = make_manifest(NIGHT)
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
        "tar": tarred(),
        "log": f"{FORGED}\n".encode(),
    }  # fmt: skip


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


def wrong(at: str, cause: str) -> errors.LifeboatError:
    return errors.LifeboatError("read", at, cause)


def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Callable[[bytes], object]]]:
    """What reads a document, by the kind of the document. readers.py lists more: those that end in one of these."""
    made = make_config(tmp_path)
    said: list[bytes] = [b""]
    monkeypatch.setattr(pipeline, "output", lambda *_, **__: said[0].decode("utf-8", "replace"))
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
            path.write_bytes(data)
            return read(path)

        return laid

    def rows(data: bytes) -> object:
        found: list[object] = []
        server._Rows(found.append, "read", "a").write(data)
        return server._parsed(data.decode("utf-8", "replace").split("\n"), "read", "a")

    id = make_manifest(NIGHT).id
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
        "xml": [lambda data: signed.xml(data, "list", "a"), lambda data: pages.read(data, "list", "a"), signed._error],
        "rows": [rows],
        "age": [lambda data: age.stanzas(io.BytesIO(data), "a")],
        "github": [
            lambda data: github._message(github._Answer(400, {}, data)),
            lambda data: github._built(dict, github._Answer(200, {}, data), "ask", "a"),
        ],
        "tar": [
            lambda data: tar.read(io.BytesIO(gzip.compress(data, 1)), "a"),
            lambda data: tar.read(io.BytesIO(data), "a"),
        ],
        "log": [kept("log/shop.log", lambda _: schedule.runs(made))],
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
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reader, of each hostile text and of a sound document that has one. An error can be shown."""
    sound, rng = documents()[kind], Random(f"{SEED} {kind}")  # noqa: S311 - always the same ones
    given = [*map(raw, ATOMS), *(damaged(sound, rng) for _turn in range(DAMAGES))]
    each = readers(tmp_path, monkeypatch)[kind]
    assert each[0](sound) not in (None, ""), "one that is sound is read"
    for read in each:
        for data in given:
            began = time.monotonic()
            try:
                read(data)
            except errors.LifeboatError as exc:
                assert len(str(exc)) < 100_000, "a log and a record of evidence keep it"
                assert unseen(errors.printable(exc.subject)) | unseen(errors.printable_lines(str(exc))) == set()
            assert time.monotonic() - began < 20, f"{data[:60]!r}"
