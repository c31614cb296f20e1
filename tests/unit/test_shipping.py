# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines to the bulk API: none lost, none twice, no secret, by a stand-in of the store and Debian's own rsyslog."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import json
import logging
import os
import random
import re
import shlex
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import debian
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import ecs, pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import shipping
from builders import settings, until
from bulk_store import LIFECYCLE, TEMPLATE, Bulk, server
from test_monitoring_roles import load, refusals, written

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-hunter2-of-the-store"
ODD = re.compile(r"the store answered 400 for a line: failed to parse field \[odd\] in document with id '\w{40}'$")
PATIENCE = 300  # seconds without any request; a batch takes less than one where nothing else runs


def line(text: str, **more: str) -> bytes:
    told = {"text": text, "host": "app1", "time": "2026-11-24T02:00:00.000000+00:00", "file": "/l", "offset": "0"}
    return json.dumps({**told, **more}, ensure_ascii=False).encode()


def documents(*texts: str) -> list[shipping.Document]:
    return [shipping.document(line(text, offset=str(number)), {}) for number, text in enumerate(texts)]


@pytest.fixture
def bulk(monkeypatch: pytest.MonkeyPatch) -> Bulk:
    monkeypatch.setattr(shipping, "_PAUSES", (0, 0))
    monkeypatch.setattr(shipping, "_WAITS", (0, 0))
    monkeypatch.setattr(shipping, "_HOLD", 0)
    return Bulk()


def test_a_batch_is_confirmed_when_each_line_is_there(bulk: Bulk) -> None:
    batch = documents(*map(str, range(5)))
    assert shipping.stored(batch, bulk.post) == ""
    assert [said["message"] for said in bulk.documents.values()] == ["0", "1", "2", "3", "4"]
    assert shipping.stored(batch, bulk.post) == "", "sent again, it is there already"
    assert (len(bulk.documents), bulk.seen["409"]) == (5, 5)


@pytest.mark.parametrize("status", [301, 401, 404, 413, 429, 500, 502, 503])
def test_a_request_that_is_refused_as_a_whole_is_not_confirmed(bulk: Bulk, status: int) -> None:
    bulk.down = status
    assert str(status) in shipping.stored(documents("a"), bulk.post)
    bulk.down = 0
    assert shipping.stored(documents("a"), bulk.post) == ""


@pytest.mark.parametrize(
    "answer",
    [b"", b"OK", b"{}", b'{"errors":false,"items":[]}', b'{"items":[{"create":{"_id":"x","status":201}}]}',
     b'{"items":5}', b'{"items":[{"index":{"_id":"x","status":201}}]}'],
)  # fmt: skip
def test_an_answer_that_does_not_name_each_line_confirms_nothing(answer: bytes) -> None:
    assert "each line" in shipping.stored(documents("a"), lambda body: (200, answer))


def test_items_without_room_are_sent_again_alone(bulk: Bulk) -> None:
    bulk.busy = 3
    assert shipping.stored(documents("a", "b", "c", "d"), bulk.post) == ""
    assert [len(body.splitlines()) // 2 for body in bulk.bodies] == [4, 3]
    bulk.always = True
    times = iter(range(0, 1000, 7))
    said = shipping.stored(documents("e"), bulk.post, monotonic=lambda: next(times))
    assert said == "the store answered 429 for a line: rejected execution of coordinating operation"


def test_an_answer_that_is_lost_makes_no_second_line(bulk: Bulk) -> None:
    bulk.lost_answers = 1
    assert "lost" in shipping.stored(documents("a", "b"), bulk.post)
    assert shipping.stored(documents("a", "b"), bulk.post) == ""
    assert len(bulk.documents) == 2


def test_a_field_that_does_not_fit_does_not_keep_the_others_back(bulk: Bulk) -> None:
    own = ecs.Formatter("shop", "backup").format(logging.makeLogRecord({"msg": "x", "levelname": "INFO"}))
    odd = json.dumps({**json.loads(own), "odd.field": 1})
    assert shipping.stored(documents("a", odd, "b"), bulk.post) == ""
    assert sorted(said["message"] for said in bulk.documents.values()) == sorted(["a", "b", odd])


def test_requests_are_bounded(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_LARGEST", 400)
    assert shipping.stored(documents("x" * 1000, "y" * 150, "z"), bulk.post) == ""
    assert len(bulk.bodies) >= 2 and len(bulk.documents) == 3


def test_an_id_is_of_the_line_and_its_place() -> None:
    first = shipping.document(line("a"), {}).id
    assert first == shipping.document(line("a", received="later"), {}).id, "read again after a crash"
    others = [line("b"), line("a", offset="2"), line("a", file="/m"), line("a", host="app2"), line("a", file="")]
    assert len({first, *(shipping.document(other, {}).id for other in others)}) == 6
    of_journal = [line("a", file="", received=at, process="1") for at in ("1", "2")]
    assert len({shipping.document(said, {}).id for said in of_journal}) == 2


def test_our_own_lines_keep_their_fields_and_others_get_some() -> None:
    own = ecs.Formatter("shop", "backup").format(logging.makeLogRecord({"msg": "行 「書く」", "levelname": "INFO"}))
    assert shipping.document(line(own), {}).body == json.loads(own)
    found = shipping.document(line("行 「書く」 \u2028 \\", program="dockerd", severity="err"), {}).body
    assert found == {
        "@timestamp": "2026-11-24T02:00:00.000000+00:00", "message": "行 「書く」 \u2028 \\", "ecs.version": ecs.ECS,
        "host.hostname": "app1", "log.file.path": "/l", "process.name": "dockerd", "log.syslog.severity.name": "err",
        "event.dataset": "syslog",
    }  # fmt: skip


def test_the_space_behind_the_tag_is_not_of_the_message() -> None:
    of_journal, of_file = (shipping.document(line("  a", file=file), {}).body for file in ("", "/l"))
    assert (of_journal["message"], of_file["message"]) == (" a", "  a")


def test_secrets_are_blanked_and_do_not_make_it_another_line() -> None:
    secrets = {"shop database_password": CANARY}
    told = line(f"sent {CANARY} and postgresql://app:hunter2pass@db/x")
    found = shipping.document(told, secrets)
    assert CANARY not in json.dumps(found.body) and "hunter2pass" not in json.dumps(found.body)
    assert CANARY not in json.dumps(found.plain) and found.id == shipping.document(told, {}).id


def kept(place: Path, told: Optional[list[str]] = None) -> shipping.Queue:
    return shipping.Queue(place, (told if told is not None else []).append)


def given(place: Path, post: shipping.Post, *texts: bytes, told: Optional[list[str]] = None) -> list[str]:
    """What one process answers to these."""
    out, told = io.StringIO(), told if told is not None else []
    shipping.run((words + b"\n" for words in texts), out, post, {"x": CANARY}, kept(place, told), told.append)
    return out.getvalue().splitlines()


def test_the_conversation_with_rsyslog(bulk: Bulk, tmp_path: Path) -> None:
    out = io.StringIO()
    words_given = [
        shipping.BEGIN,
        line("a"),
        b"not JSON \xff",
        b"[]",
        shipping.COMMIT,
        shipping.BEGIN,
        line("b"),
        shipping.COMMIT,
    ]
    shipping.run((words + b"\n" for words in words_given), out, bulk.post, {}, kept(tmp_path), print)
    assert out.getvalue().split("\n") == [
        "OK", "OK", "DEFER_COMMIT", "DEFER_COMMIT", "DEFER_COMMIT", "OK", "OK", "DEFER_COMMIT", "OK", "",
    ]  # fmt: skip
    assert len(bulk.documents) == 4
    bulk.down, out = 503, io.StringIO()
    shipping.run(
        (words + b"\n" for words in words_given[:2] + words_given[4:5]), out, bulk.post, {}, kept(tmp_path), print
    )
    assert out.getvalue().splitlines()[-1] == "not stored: the store answered 503"


def test_a_process_that_ends_in_a_batch_leaves_it_to_the_next(bulk: Bulk, tmp_path: Path) -> None:
    """rsyslog goes on with the line whose answer it did not get, not with the first of the batch."""
    secret = line(f"b {CANARY}")
    assert given(tmp_path, bulk.post, shipping.BEGIN, line("a"), secret)[-1] == "DEFER_COMMIT"
    (waits,) = tmp_path.iterdir()
    assert waits.stat().st_mode & 0o777 == 0o600 and CANARY not in waits.read_text(encoding="utf-8")
    waits.write_text(waits.read_text(encoding="utf-8") + '{"id":"cut')
    assert given(tmp_path, bulk.post, shipping.BEGIN, line("c"), shipping.COMMIT)[-1] == "OK"
    assert [said["message"] for said in bulk.documents.values()] == ["a", f"b {pipeline.BLANK}", "c"]
    assert waits.read_bytes() == b""


def test_a_batch_waits_for_the_store_and_rsyslog_with_it(bulk: Bulk, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shipping, "_HOLD", 60)
    reader, writer = os.pipe()
    bulk.down, told = 503, list[str]()

    def post(body: bytes) -> tuple[int, bytes]:
        bulk.down = 0 if bulk.seen["503"] == 3 else 503
        return bulk.post(body)

    batch = (shipping.BEGIN, line("a"), shipping.COMMIT)
    with os.fdopen(writer, "w") as out:
        shipping.run((words + b"\n" for words in batch), out, post, {}, kept(tmp_path), told.append)
    with os.fdopen(reader) as said:
        assert said.read().splitlines() == ["OK", "OK", "DEFER_COMMIT", "...OK"]
    assert told == ["lines wait for the log store: the store answered 503", "the log store takes lines again"]
    reader, writer = os.pipe()
    bulk.down = 503

    def ended(body: bytes) -> tuple[int, bytes]:
        os.close(reader)
        return bulk.post(body)

    out = os.fdopen(writer, "w", buffering=1)
    with pytest.raises(BrokenPipeError):
        shipping.run((words + b"\n" for words in batch), out, ended, {}, kept(tmp_path), told.append)
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # what it holds yet
    out.close()
    assert given(tmp_path, Bulk().post, shipping.BEGIN, shipping.COMMIT) == ["OK", "OK", "OK"]


def test_a_line_that_the_store_never_takes_is_put_aside(bulk: Bulk, tmp_path: Path, monkeypatch: Any) -> None:
    told: list[str] = []
    bad = [line(f"never {number} {CANARY}", offset=str(number)) for number in range(3)]
    batch = [shipping.BEGIN, line("a"), *bad[:2], line("b"), shipping.COMMIT]
    assert given(tmp_path, bulk.post, *batch, told=told)[-1] == "OK"
    assert [said["message"] for said in bulk.documents.values()] == ["a", "b"]
    aside = (tmp_path / "refused.ndjson").read_text(encoding="utf-8")
    lines = [json.loads(found) for found in aside.splitlines()]
    assert [found["line"]["message"] for found in lines] == [f"never {n} {pipeline.BLANK}" for n in range(2)]
    assert all(ODD.match(found["cause"]) for found in lines)
    assert told == [f"the log store does not take a line ({lines[0]['cause']}): it is in {tmp_path}/refused.ndjson"]
    # A store that takes no line at all may have no index for them: they wait.
    alone = (shipping.BEGIN, bad[2], shipping.COMMIT)
    assert ODD.match(given(tmp_path, bulk.post, *alone)[-1].removeprefix("not stored: "))
    monkeypatch.setattr(shipping, "_DOUBT", 0)
    monkeypatch.setattr(shipping, "_REFUSED", len(aside) + 10)
    assert given(tmp_path, bulk.post, *alone)[-1].startswith("not stored"), "no more room for it"
    monkeypatch.setattr(shipping, "_REFUSED", 1 << 20)
    assert given(tmp_path, bulk.post, *alone)[-1] == "OK"


def test_a_line_that_is_refused_is_not_sent_again_at_once(bulk: Bulk, tmp_path: Path) -> None:
    """As it is, and without its fields: what the store said of it then, it would say for as long as one asks."""
    never = documents("never")
    assert ODD.match(shipping.stored(never, bulk.post, kept(tmp_path)))
    assert len(bulk.bodies) == 2
    waits = kept(tmp_path)
    assert shipping.stored([*never, *documents("x", "y")[1:]], bulk.post, waits) == "", "it takes others: put aside"
    assert len(bulk.bodies) == 4 and (tmp_path / "refused.ndjson").exists()


def test_a_request_that_is_too_large_is_parted_down_to_the_line(bulk: Bulk, tmp_path: Path) -> None:
    def post(body: bytes) -> tuple[int, bytes]:
        return (413, b"") if len(body) > 1200 else bulk.post(body)

    batch = [line("x" * 300, offset=str(number)) for number in range(8)]
    batch.insert(3, line("y" * 2000))
    assert given(tmp_path, post, shipping.BEGIN, *batch, shipping.COMMIT)[-1] == "OK"
    assert len(bulk.documents) == 8
    assert "y" * 2000 in (tmp_path / "refused.ndjson").read_text(encoding="utf-8")


def test_a_413_is_not_believed_of_a_line_where_nothing_passes(bulk: Bulk, tmp_path: Path) -> None:
    """A proxy that takes nothing, or only less than any line: 600 lines of 400 bytes were put aside for ever."""
    said = given(tmp_path, bulk.post, shipping.BEGIN, line("first"), shipping.COMMIT)
    assert said[-1] == "OK"
    batch = [line("x" * 300, offset=str(number)) for number in range(20)]
    told = given(tmp_path, lambda _body: (413, b""), shipping.BEGIN, *batch, shipping.COMMIT)
    assert "413 for a request of" in told[-1] and not (tmp_path / "refused.ndjson").exists()
    assert given(tmp_path, bulk.post, shipping.BEGIN, shipping.COMMIT)[-1] == "OK"
    assert len(bulk.documents) == 21, "they have waited, and none is lost"


def test_a_line_alone_that_is_too_large_is_put_aside_where_others_pass(bulk: Bulk, tmp_path: Path) -> None:
    waits = kept(tmp_path)
    assert shipping.stored(documents("small"), bulk.post, waits) == ""
    waits.add(documents("small")[0])
    waits.taken(documents("small")[0].id)

    def post(body: bytes) -> tuple[int, bytes]:
        return (413, b"") if len(body) > 1200 else bulk.post(body)

    assert shipping.stored(documents("y" * 2000), post, waits) == ""
    assert "y" * 2000 in (tmp_path / "refused.ndjson").read_text(encoding="utf-8")
    assert len(bulk.documents) == 1, "what was sent to find that out is no second line"


def test_a_request_for_which_there_is_no_room_is_halved(bulk: Bulk) -> None:
    def post(body: bytes) -> tuple[int, bytes]:
        return (429, b"") if len(body) > 3000 else bulk.post(body)

    assert shipping.stored(documents(*["x" * 300 for _line in range(40)]), post) == ""
    assert len(bulk.documents) == 40
    assert shipping.stored(documents("a"), lambda _body: (429, b"")) == "the store answered 429"


def test_what_was_put_aside_is_sent_again(bulk: Bulk, tmp_path: Path) -> None:
    batch = [shipping.BEGIN, line("a"), *(line(f"never {n}", offset=str(n)) for n in range(3)), shipping.COMMIT]
    assert given(tmp_path, bulk.post, *batch)[-1] == "OK"
    aside = tmp_path / "refused.ndjson"
    assert len(aside.read_text().splitlines()) == 3
    taken, left, why = shipping.again(tmp_path, bulk.post)
    assert (taken, left) == (0, 3) and ODD.match(why)
    assert len(aside.read_text().splitlines()) == 3, "nothing of it is lost"
    bulk.odd = "never 2"
    assert shipping.again(tmp_path, bulk.post)[:2] == (2, 1)
    bulk.odd = "nothing"
    assert shipping.again(tmp_path, bulk.post) == (1, 0, "")
    assert not aside.exists() and len(bulk.documents) == 4
    assert shipping.again(tmp_path, bulk.post) == (0, 0, "")


def test_what_a_killed_run_was_sending_again_is_not_lost(bulk: Bulk, tmp_path: Path) -> None:
    given(tmp_path, bulk.post, shipping.BEGIN, line("a"), line("never"), shipping.COMMIT)

    def killed(_body: bytes) -> tuple[int, bytes]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shipping.again(tmp_path, killed)
    bulk.odd = "nothing"
    assert shipping.again(tmp_path, bulk.post) == (1, 0, "")


def test_a_line_that_is_not_of_our_template_has_a_date(bulk: Bulk, tmp_path: Path) -> None:
    """The first line of a process blocked all others for an hour: every store refuses a date that is none."""
    assert given(tmp_path, bulk.post, shipping.BEGIN, b"rsyslogd: something odd", shipping.COMMIT)[-1] == "OK"
    (said,) = bulk.documents.values()
    assert said["message"] == "rsyslogd: something odd"


@pytest.mark.parametrize("plain", [False, True])
def test_a_plain_index_is_a_warning_once(bulk: Bulk, tmp_path: Path, plain: bool) -> None:
    bulk.plain_index, told = plain, list[str]()
    batches = [words for text in "abc" for words in (shipping.BEGIN, line(text, offset=text), shipping.COMMIT)]
    assert given(tmp_path, bulk.post, *batches, told=told)[-1] == "OK"
    assert ["plain index logs-lifeboat-default" in words for words in told] == [True] * plain


@pytest.mark.parametrize("product", ["opensearch", "elasticsearch"])
def test_an_item_that_was_refused_is_no_sign_of_a_plain_index(bulk: Bulk, tmp_path: Path, product: str) -> None:
    """A store without room answers before it has looked which index is written to: by the stream's name alone."""
    bulk.product, bulk.busy, told = product, 1, list[str]()
    batches = [words for text in "abc" for words in (shipping.BEGIN, line(text, offset=text), shipping.COMMIT)]
    assert given(tmp_path, bulk.post, *batches, told=told)[-1] == "OK"
    assert bulk.seen["429"] == 1 and len(bulk.documents) == 3
    assert [words for words in told if "plain index" in words] == []


@pytest.mark.parametrize("knows", [True, False])
def test_requests_are_compressed_where_that_is_known(bulk: Bulk, knows: bool) -> None:
    came: list[tuple[str, int]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            encoding = self.headers.get("Content-Encoding", "")
            came.append((encoding, len(data)))
            body = gzip.decompress(data) if encoding else data
            status, said = bulk.post(body) if knows or not encoding else (415, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = shipping.Store(f"http://127.0.0.1:{server.server_address[1]}", "x")
        for turn in range(2):
            assert shipping.stored(documents(*(f"{turn} a line like others {n}" for n in range(200))), store.post) == ""
        server.shutdown()
    assert len(bulk.documents) == 400
    assert [encoding for encoding, _size in came] == (["gzip", "gzip"] if knows else ["gzip", "", ""])
    if knows:
        assert sum(map(len, bulk.bodies)) > 5 * sum(size for _encoding, size in came)


def test_where_the_disk_is_full_lines_wait_in_memory(bulk: Bulk, tmp_path: Path, monkeypatch: Any) -> None:
    told: list[str] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:5]))
    batch = (shipping.BEGIN, line("a"), line("b"), shipping.COMMIT)
    assert given(tmp_path, bulk.post, *batch, told=told)[-1] == "OK"
    assert len(bulk.documents) == 2 and told == [
        "lines that wait for the log store are only in memory: the disk is full"
    ]


def test_too_many_that_wait_go_before_more_are_taken(bulk: Bulk, tmp_path: Path, monkeypatch: Any) -> None:
    given(tmp_path, bulk.post, shipping.BEGIN, line("a"))
    monkeypatch.setattr(shipping, "_WAITING", 10)
    assert given(tmp_path, bulk.post) == ["OK"] and len(bulk.documents) == 1


@pytest.mark.parametrize("url", ["", "logs", "ftp://logs/", "https://user:hunter2@logs/", "https://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        shipping.Store(url, "logs")
    assert "hunter2" not in str(caught.value)


def test_a_redirect_is_not_followed_and_the_header_is_sent() -> None:
    heads: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heads.append((self.path, self.headers["Authorization"], self.headers["Content-Type"]))
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = shipping.Store(
            f"http://127.0.0.1:{server.server_address[1]}/es", "a b", shipping.authorization("u:p\n")
        )
        assert store.post(b"x")[0] == 307
        server.shutdown()
    assert heads == [("/es/a%20b/_bulk", "Basic dTpw", "application/x-ndjson")]
    assert shipping.authorization("ApiKey abc\n") == "ApiKey abc"


def test_an_answer_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends a byte now and then passes every limit of a single read."""
    monkeypatch.setattr(shipping, "_LONGEST", 1.0)  # longer than a busy machine takes for the head of the answer
    ends = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                while not ends.wait(0.02):
                    self.request.sendall(b" ")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = shipping.Store(f"http://127.0.0.1:{server.server_address[1]}", "x")
        assert shipping.stored(documents("a"), store.post) == "the answer did not end in time"
        monkeypatch.setattr(shipping, "_ANSWER", 3)
        assert store.post(b"x") == (200, b""), "nor is one read that is too long"
        ends.set()
        server.shutdown()


# With Debian's rsyslogd.


@pytest.fixture
def serving(bulk: Bulk) -> Iterator[Any]:
    """serve(port) and stop()."""
    servers: list[Any] = []

    def serve(port: int = 0) -> int:
        # Below the ports that the kernel gives to connections: while the store is away nobody else gets its own.
        for number in [port] if port else random.sample(range(20_000, 32_768), 20):
            try:
                servers.append(server(bulk, "127.0.0.1", number))
                break
            except OSError:
                if number == port:
                    raise
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return int(servers[-1].server_address[1])

    def stop() -> None:
        while servers:
            servers[-1].shutdown()
            servers.pop().server_close()

    yield serve, stop
    stop()


# `lifeboat ship`, whose first process ends in the middle of a batch.
MORTAL = f"""
import os, sys
from pathlib import Path
from {cli.__name__.rpartition(".")[0]} import cli

class Lines:
    def __iter__(self):
        given = 0
        for line in sys.__stdin__.buffer:
            given = 0 if line.startswith(b"BEGIN") else given + 1
            if given == 50 and not Path("DIED").exists():
                Path("DIED").touch()
                os._exit(9)
            yield line

class Stdin:
    buffer = Lines()

sys.stdin = Stdin()
cli.LOG_DIRECTORY = Path("/none")
sys.exit(cli.main())
"""


def configured(here: Path, port: int) -> str:
    """The file that is documented, with this test's paths, no journal, and a short wait between two tries."""
    return adapted((ROOT / "monitoring" / "logs" / "rsyslog.conf").read_text(encoding="utf-8"), here, port)


def adapted(text: str, here: Path, port: int) -> str:
    code = MORTAL.replace("DIED", str(here / "died"))
    command = ["env", f"PYTHONPATH={ROOT}/.ansible/collections", sys.executable, "-c", code]
    (here / "ship").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@" --config-directory {here}/etc\n')
    (here / "ship").chmod(0o700)
    changes = {
        "/usr/local/bin/lifeboat ship": f"{here}/ship ship", "/etc/lifeboat/logs.key": f"{here}/key",
        "https://logs.example.org:9200": f"http://127.0.0.1:{port}", "/var/log/lifeboat/*.log": f"{here}/log/*.log",
        'action.resumeInterval="5"': 'action.resumeInterval="1"', 'action.resumeIntervalMax="60"': "",
        'queue.timeoutShutdown="5000" queue.timeoutActionCompletion="20000"': 'queue.timeoutShutdown="500"',
    }  # fmt: skip
    for before, after in changes.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    if 'module(load="imjournal"' in text:
        start = text.index('module(load="imjournal"')
        text = text[:start] + text[text.index("\n\n", start) :]
    text = re.split("# The journal, and|# What the journal gives", text)[0]
    return f'global(workDirectory="{here}/work" maxMessageSize="64k")\n{text}'


class Host:
    """A host with rsyslog, and a log that is written."""

    def __init__(self, root: Path, port: int, text: str = "", program: str = "") -> None:
        for name in ("etc", "log", "work"):
            (root / name).mkdir()
        (root / "etc" / "shop.json").write_text(json.dumps(settings(root)))
        (root / "etc" / "shop.secrets.json").write_text(json.dumps({"database_password": CANARY}))
        (root / "key").write_text("lifeboat:hunter2-of-the-log-store\n")
        for private in (root / "etc" / "shop.secrets.json", root / "key"):
            private.chmod(0o600)
        (root / "rsyslog.conf").write_text(text or configured(root, port))
        self.find(program)
        self.argv = [*self.program, "-n", "-iNONE", "-f", str(root / "rsyslog.conf")]
        self.root, self.texts = root, list[str]()
        self.formatter = ecs.Formatter("shop", "backup")
        self.start()

    def find(self, program: str = "") -> None:
        """rsyslogd, with its modules and libraries where it is only unpacked."""
        program = program or debian.required("rsyslogd")
        usr = Path(program).parents[1]
        libraries = [str(path.parent) for path in usr.glob("lib/*/libestr.so.0")]
        modules = [str(path.parent) for path in usr.glob("lib/*/rsyslog/omprog.so")]
        self.program = [program, *(["-M", *modules] if modules else [])]
        self.environment = {**os.environ, **({"LD_LIBRARY_PATH": libraries[0]} if libraries else {})}

    def start(self) -> None:
        with (self.root / "said").open("ab") as out:
            self.process = subprocess.Popen(self.argv, env=self.environment, stdout=out, stderr=out)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=120) == 0, (self.root / "said").read_text(encoding="utf-8")

    def write(self, count: int) -> None:
        with (self.root / "log" / "shop.log").open("a", encoding="utf-8") as file:
            for _line in range(count):
                text = f'行 {len(self.texts)} を「書く」 "q" \\ '
                record = logging.makeLogRecord({"msg": text + CANARY, "levelname": "INFO"})
                file.write(self.formatter.format(record) + "\n")
                self.texts.append(text + pipeline.BLANK)


def arrive(bulk: Bulk, count: int) -> None:
    """Wait as long as requests come: rsyslog and its program wait for each other at each line, which is long on a busy
    machine."""
    end, before = time.monotonic() + PATIENCE, -1
    while len(bulk.documents) < count:
        if before != sum(bulk.seen.values()):
            end, before = time.monotonic() + PATIENCE, sum(bulk.seen.values())
        assert time.monotonic() < end, f"{len(bulk.documents)} of {count} arrived, then none: {dict(bulk.seen)}"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.long
def test_ten_thousand_lines_with_the_store_away_in_the_middle(tmp_path: Path, bulk: Bulk, serving: Any) -> None:
    """Our program ends in a batch, then 503 for whole requests, rsyslog restarted while a batch waits, connection
    refused, 503, then 429 for items, then an answer that is lost.

    A batch that rsyslog had in its hands was lost where either of them ended: 59 of 100 lines, and 60 of 125.
    """
    serve, stop = serving
    port = serve()
    host = Host(tmp_path, port)
    try:
        host.write(3000)
        arrive(bulk, 3000)
        assert (tmp_path / "died").exists()
        bulk.down = 503
        host.write(1000)
        until(lambda: bulk.seen["503"] >= 2)  # the second time it has told rsyslog that it waits
        host.stop()
        stop()
        host.start()
        host.write(3000)
        serve(port)
        tried = bulk.seen["503"]
        until(lambda: bulk.seen["503"] >= tried + 2)
        bulk.busy, bulk.down = 300, 0
        arrive(bulk, 7000)
        bulk.lost_answers = 1
        host.write(3000)
        arrive(bulk, 10_000)
    finally:
        host.stop()
    assert bulk.seen["429"] == 300 and bulk.seen["409"] > 0
    assert sorted(str(found["message"]) for found in bulk.documents.values()) == sorted(host.texts)
    sent = b"".join(bulk.bodies) + (tmp_path / "said").read_bytes()
    assert CANARY.encode() not in sent and b"hunter2" not in sent


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("more", [{}, {"__log_shipping_found": {"stdout": "rsyslogd  8.2302.0 (x)"}}], ids=["13", "12"])
def test_no_line_of_a_file_is_lost_while_the_queue_is_full(
    tmp_path: Path, bulk: Bulk, serving: Any, more: dict[str, Any]
) -> None:
    """The configuration of Debian 12's rsyslog too, by the rsyslogd that is here. 2 s after the queue was full it lost
    lines of files without a word."""
    full_for(8, tmp_path, bulk, serving, more)


RELEASES = {"bookworm": "8.2302.", "trixie": "8.2504."}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("release", RELEASES)
def test_no_line_of_a_file_is_lost_in_a_minute_with_a_full_queue(
    tmp_path: Path, bulk: Bulk, serving: Any, release: str
) -> None:
    """By the rsyslogd of Debian 12 and of 13, each with what the role writes for it."""
    host = Host.__new__(Host)
    host.find(debian.required_of("rsyslogd", release))
    argv = [host.program[0], "-v"]
    said = subprocess.run(argv, env=host.environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith(f"rsyslogd  {RELEASES[release]}"), said
    full_for(60, tmp_path, bulk, serving, {"__log_shipping_found": {"stdout": said}}, host.program[0])


def full_for(seconds: float, tmp_path: Path, bulk: Bulk, serving: Any, more: dict[str, Any], program: str = "") -> None:
    """The store is away, the queue's disk is full, and more lines are written while it is."""
    serve, _stop = serving
    given = {**ROLE, "log_shipping_disk": "32m"}
    template = written("log_shipping", "rsyslog.conf.j2", given, **more)
    template = template.replace('"32m"', '"1m" queue.maxFileSize="100k"').replace("/shop.logs.key", "/logs.key")
    (tmp_path / "died").touch()
    bulk.down = 503
    port = serve()
    host = Host(tmp_path, port, adapted(template, tmp_path, port), program)
    try:
        host.write(5000)
        until(lambda: bulk.seen["503"] >= 2)
        until(lambda: sum(file.stat().st_size for file in (tmp_path / "work").glob("lifeboat_ship.*")) > 800_000)
        time.sleep(seconds)
        bulk.down = 0
        arrive(bulk, 5000)
    finally:
        host.stop()
    assert sorted(str(found["message"]) for found in bulk.documents.values()) == sorted(host.texts)


LOGS = ROOT / "monitoring" / "logs"


def test_the_files_for_the_store_name_fields_that_are_sent() -> None:
    template = json.loads((LOGS / "index-template.json").read_text(encoding="utf-8"))
    fields = template["template"]["mappings"]["properties"]
    ended = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "exit_code": 0})
    own = json.loads(ecs.Formatter("shop", "backup").format(ended))
    others = shipping.document(line("x", program="p", severity="err"), {}).body
    sent = {*own, *others, "labels.stack"} - {"labels"}
    assert set(fields) == sent
    assert "data_stream" in template and template["index_patterns"] == ["logs-lifeboat-*"]
    lines = (LOGS / "saved-searches.ndjson").read_text(encoding="utf-8").splitlines()
    (pattern, *searches) = map(json.loads, lines)
    assert (pattern["type"], pattern["attributes"]["title"]) == ("index-pattern", "logs-lifeboat-*")
    for search in searches:
        assert search["type"] == "search" and set(search["attributes"]["columns"]) <= sent
        asked = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
        named = set(re.findall(r"([\w.]+): ", asked))
        assert named and named <= sent
        assert [reference["id"] for reference in search["references"]] == [pattern["id"]]


def test_both_lifecycles_roll_over_and_delete_after_the_same_time() -> None:
    elastic = json.loads((LOGS / "elasticsearch-lifecycle.json").read_text(encoding="utf-8"))["policy"]["phases"]
    states = json.loads((LOGS / "opensearch-lifecycle.json").read_text(encoding="utf-8"))["policy"]["states"]
    hot, delete = states
    assert elastic["delete"]["min_age"] == hot["transitions"][0]["conditions"]["min_rollover_age"] == "90d"
    rolled = elastic["hot"]["actions"]["rollover"], hot["actions"][0]["rollover"]
    assert rolled[0]["max_age"] == rolled[1]["min_index_age"] == "7d"
    assert delete["actions"] == [{"delete": {}}]


ROLE: dict[str, Any] = {
    "log_shipping_stack": "shop",
    "log_shipping_url": "https://logs.example.org:9200",
    "log_shipping_authorization": "u:p",
}


def directives(text: str) -> list[str]:
    """Without comments and empty lines."""
    return [said.strip() for said in text.splitlines() if said.strip() and not said.startswith("#")]


def test_the_role_writes_what_is_documented() -> None:
    made = written("log_shipping", "rsyslog.conf.j2", ROLE)
    documented = (
        (LOGS / "rsyslog.conf").read_text(encoding="utf-8").replace("/lifeboat/logs.key", "/lifeboat/shop.logs.key")
    )
    assert directives(made) == directives(documented)
    assert "u:p" not in made
    more = {
        "log_shipping_files": ["/srv/x/*.log"], "log_shipping_journal": False, "log_shipping_ca": "/etc/ca.pem",
        "log_shipping_authorization": "", "log_shipping_lines": 5000, "log_shipping_disk": "50m",
    }  # fmt: skip
    made = written("log_shipping", "rsyslog.conf.j2", {**ROLE, **more})
    assert 'file="/srv/x/*.log"' in made and "imjournal" not in made and "--authorization" not in made
    assert "--ca /etc/ca.pem" in made and 'queue.size="5000"' in made and 'queue.maxDiskSpace="50m"' in made


def test_an_older_rsyslog_gets_what_it_knows() -> None:
    """That of Debian 12 reads the journal, but not for one set of rules."""
    for release, reads in (("8.2302.0", False), ("8.2312.0", True), ("8.2504.0", True)):
        said = {"stdout": f"rsyslogd  {release} (aka 20{release[2:4]}.{release[4:6]}) compiled with:\n\tPLATFORM:"}
        made = directives(written("log_shipping", "rsyslog.conf.j2", ROLE, __log_shipping_found=said))
        assert ('input(type="imjournal" ruleset="lifeboat_ship" main="on")' in made) is reads, release
        assert ('if $programname != "lifeboat" then {' in made) is not reads
        text = "\n".join(made)
        assert ("call lifeboat_journal" in text) is not reads
        queues = dict(re.findall(r'ruleset\(name="(\w+)".*?queue.timeoutEnqueue="(\d+)"', text, re.DOTALL))
        assert queues.pop("lifeboat_ship") == "2000000000", "lines of files wait in their files"
        assert queues == ({} if reads else {"lifeboat_journal": "2000"}), "the host's other logs wait for nothing"


@pytest.mark.parametrize(
    "given",
    [
        {"log_shipping_url": ""},
        {"log_shipping_url": "https://u:hunter2@logs"},
        {"log_shipping_url": 'https://x" binary="/bin/sh'},
        {"log_shipping_url": "https://x\nmodule(load=x)"},
        {"log_shipping_stack": ""},
        {"log_shipping_index": "a b"},
        {"log_shipping_ca": "ca.pem"},
        {"log_shipping_disk": "all"},
        {"log_shipping_disk": "10m"},  # less than one file of the queue: nothing is sent until a restart
        {"log_shipping_disk": "4096k"},
        {"log_shipping_lines": 0},
        {"log_shipping_files": ['/x" ']},
        {"log_shipping_agent_path": "lifeboat"},
    ],
)
def test_the_role_refuses(given: dict[str, Any]) -> None:
    assert refusals("log_shipping", ROLE) == []
    (said,) = refusals("log_shipping", {**ROLE, **given})
    assert said.endswith("Nothing was changed.") and "hunter2" not in said


def test_the_roles_credentials_are_a_private_file() -> None:
    (task,) = (task for task in load("log_shipping/tasks/send.yml") if "ansible.builtin.copy" in task)
    assert (task["no_log"], task["diff"], task["ansible.builtin.copy"]["mode"]) == (True, False, "0600")
    assert refusals("log_shipping", {**ROLE, "log_shipping_url": "", "log_shipping_enabled": False}) == []


OLDER = {"stdout": "rsyslogd  8.2302.0 (aka 2023.02) compiled with:"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "release"),
    [({}, ""), ({"__log_shipping_found": OLDER}, ""), ({"__log_shipping_found": OLDER}, "bookworm")],
    ids=["Debian 13", "Debian 12", "Debian 12's own"],
)
def test_rsyslog_accepts_what_the_role_writes(tmp_path: Path, more: dict[str, Any], release: str) -> None:
    host = Host.__new__(Host)
    host.find(debian.required_of("rsyslogd", release) if release else "")
    made = written("log_shipping", "rsyslog.conf.j2", {**ROLE, "log_shipping_files": ["/x/*"]}, **more)
    (tmp_path / "x.conf").write_text(f'global(workDirectory="{tmp_path}")\n{made}')  # as Debian's rsyslog.conf has one
    argv = [*host.program, "-N1", "-f", str(tmp_path / "x.conf")]
    done = subprocess.run(argv, env=host.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "x.conf").write_text("ruleset(name=")
    assert subprocess.run(argv, env=host.environment, capture_output=True, timeout=120, check=False).returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: the role's files belong to root")
@pytest.mark.parametrize("before", ["# as it was\n", ""], ids=["there was one", "there was none"])
def test_what_rsyslog_does_not_accept_is_not_left_there(tmp_path: Path, before: str) -> None:
    """An rsyslog that accepts nothing."""
    written, key = tmp_path / "rsyslog.d/lifeboat.conf", tmp_path / "key"
    written.parent.mkdir()
    if before:
        written.write_text(before)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rsyslogd").write_text("#!/bin/sh\necho there is an error >&2; exit 1\n")
    (tmp_path / "bin/rsyslogd").chmod(0o755)
    given = {
        "log_shipping_stack": "shop", "log_shipping_url": "https://logs.example.org:9200",
        "log_shipping_install_packages": False, "__log_shipping_file": str(written), "__log_shipping_key": str(key),
        "log_shipping_template": False,
    }  # fmt: skip
    done = role(tmp_path, given)
    assert done.returncode == 2 and "there is an error" in done.stdout, done.stdout + done.stderr
    assert [path.read_text() for path in written.parent.iterdir()] == ([before] if before else [])


def role(here: Path, given: dict[str, Any], tasks: str = "main", *more: str) -> subprocess.CompletedProcess[str]:
    """Run the role on this machine, or one file of its tasks."""
    included = {"ansible.builtin.include_role": {"name": "lifeboat.dr.log_shipping", "tasks_from": tasks}}
    (here / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [included]}]))
    known = {"log_shipping_stack": "shop", "ansible_python_interpreter": sys.executable, **given}
    argv = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(here / "play.json")]
    argv += ["-e", json.dumps(known), *more]
    environment = {
        **os.environ,
        "PATH": f"{here}/bin:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.findall(r"changed=(\d+)", done.stdout)[-1])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("product", ["opensearch", "elasticsearch"])
def test_the_role_puts_what_the_store_needs_before_a_line_comes(
    tmp_path: Path, bulk: Bulk, serving: Any, product: str
) -> None:
    """A store that got lines first had a plain index for ever."""
    bulk.objects, bulk.product = {}, product
    serve, _stop = serving
    given = {"log_shipping_url": f"http://127.0.0.1:{serve()}", "log_shipping_authorization": f"u:{CANARY}"}
    lifecycle = f"{LIFECYCLE[product]}lifeboat"
    assert changed(role(tmp_path, given, "store", "--check")) > 0 and bulk.objects == {}, "a check that says so"
    assert changed(role(tmp_path, given, "store")) == 1
    assert set(bulk.objects) == {f"{TEMPLATE}lifeboat", lifecycle}
    template = json.loads((LOGS / "index-template.json").read_text(encoding="utf-8"))
    if product == "elasticsearch":
        template["template"]["settings"]["index.lifecycle.name"] = "lifeboat"
    assert bulk.objects[f"{TEMPLATE}lifeboat"] == template
    assert bulk.objects[lifecycle] == json.loads((LOGS / f"{product}-lifecycle.json").read_text(encoding="utf-8"))
    store = shipping.Store(given["log_shipping_url"], "logs-lifeboat-default")
    told = list[str]()
    found = shipping.Queue(tmp_path / "kept", told.append)
    assert shipping.stored(documents("a"), store.post, found) == "" and told == [] and bulk.plain_index is False
    bulk.objects[lifecycle] = {"policy": {"description": "an operator's own: 30 days"}}
    done = role(tmp_path, given, "store", "-vvv")
    assert changed(done) == 0 and "30 days" in str(bulk.objects[lifecycle]), "what is there is the operator's"
    assert CANARY not in done.stdout + done.stderr
    bulk.objects = {}
    assert changed(role(tmp_path, {**given, "log_shipping_template": False}, "store")) == 0 and bulk.objects == {}
    assert changed(role(tmp_path, {**given, "log_shipping_index": "others"}, "store")) == 0 and bulk.objects == {}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: the role's files belong to root")
def test_where_the_template_cannot_be_put_nothing_is_sent(tmp_path: Path, bulk: Bulk, serving: Any) -> None:
    """A key that may only write lines, and a store that is away; the key of somebody who may puts them."""
    serve, stop = serving
    bulk.objects, bulk.denied = {}, "ApiKey of-lines"
    port = serve()
    written, key = tmp_path / "lifeboat.conf", tmp_path / "key"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rsyslogd").write_text("#!/bin/sh\n")
    (tmp_path / "bin/rsyslogd").chmod(0o755)
    given = {
        "log_shipping_url": f"http://127.0.0.1:{port}", "log_shipping_authorization": bulk.denied,
        "log_shipping_install_packages": False, "__log_shipping_file": str(written), "__log_shipping_key": str(key),
    }  # fmt: skip
    done = role(tmp_path, given)
    assert done.returncode == 2 and not written.exists() and not key.exists() and bulk.objects == {}, done.stdout
    said = re.sub(r"\s+", " ", done.stdout)
    assert "answered 403" in said and "log_shipping_setup_authorization" in said and "of-lines" not in said
    assert "Nothing was changed" in said
    assert changed(role(tmp_path, {**given, "log_shipping_setup_authorization": "a:b"}, "store")) == 1
    stop()
    done = role(tmp_path, given)
    assert done.returncode == 2 and "did not answer" in re.sub(r"\s+", " ", done.stdout) and not written.exists()
