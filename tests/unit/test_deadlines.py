# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What boto3 reads of an S3 server ends, however the server sends it; an honest one that is slow is read to its end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import web
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client

PATIENCE = 0.4  # seconds
ENDS = 120  # seconds, on a busy machine: no attempt of these may take as long
HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\n'
OBJECT = HEAD + b"Content-Length: 1000000\r\n\r\n"
Answer = Callable[[socket.socket], None]


def drip(head: bytes, piece: bytes = b"x", every: float = 0.1, first: bytes = b"") -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head + first)
        while True:
            connection.sendall(piece)
            time.sleep(every)

    return answer


@contextlib.contextmanager
def server(answer: Answer) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(1 << 16)
            answer(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def connected(url: str, patience: float = PATIENCE) -> Any:
    return client.connect(url, "", "a", "b", patience=patience, attempts=1)


def get(made: Any) -> int:
    with client.open_object(made, "bucket", "key") as body:
        return len(body.read())


def listed(made: Any) -> int:
    with client.translated_errors("list", "bucket"):
        return len(made.list_objects_v2(Bucket="bucket").get("Contents", ()))


def put(made: Any) -> int:
    with client.translated_errors("write", "bucket"):
        made.put_object(Bucket="bucket", Key="key", Body=b"x" * 100)
    return 0


WAYS: dict[str, tuple[Callable[[Any], int], Answer]] = {
    "object": (get, drip(OBJECT)),
    "object after much": (get, drip(OBJECT, first=b"x" * 100_000)),
    "head": (get, drip(HEAD, b"X-A: b\r\n")),
    "head of one line": (listed, drip(HEAD + b"X-A: ", b"b")),
    "listing": (listed, drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" ")),
    "listing in chunks": (listed, drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a")),
    "answers before the answer": (listed, drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, every=0)),
    "listing without an end": (listed, drip(HEAD + b"\r\n", b" " * 65536, every=0)),
    "error without an end": (get, drip(b"HTTP/1.1 404 Not Found\r\n\r\n", b" " * 65536, every=0)),
    "error": (get, drip(b"HTTP/1.1 404 Not Found\r\n\r\n")),
    "end before a body": (put, lambda connection: connection.sendall(b"HTTP/1.1 100 Continue\r\n")),
    "headers before a body": (put, drip(b"HTTP/1.1 100 Continue\r\n", b"X-A: b\r\n" * 100, every=0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_boto3_reads_ends(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = WAYS[way]
    monkeypatch.setattr(client, "_ABOUT", 8 << 20)
    ended = threading.Event()
    errors: list[BaseException] = []

    def ask(url: str) -> None:
        try:
            asked(connected(url))
        except BaseException as exc:
            errors.append(exc)
        ended.set()

    with server(answer) as url:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
        assert ended.wait(ENDS), "it has not ended"
    assert [isinstance(exc, LifeboatError) and len(str(exc)) < 1000 for exc in errors] == [True], errors


@pytest.mark.slow
def test_a_large_object_that_goes_on_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than three times the limit of a read, and so does its reader, who rests meanwhile."""
    monkeypatch.setattr(web, "SLOWEST", 100_000)
    pieces, patience = 9, 1.0

    def answer(connection: socket.socket) -> None:
        connection.sendall(OBJECT.replace(b"ETag", b"Connection: close\r\nETag"))
        for number in range(pieces):
            connection.sendall(b"x" * (1_000_000 * (number + 1) // pieces - 1_000_000 * number // pieces))
            time.sleep(patience / 2)

    with server(answer) as url:
        made, began = connected(url, patience), time.monotonic()
        assert get(made) == 1_000_000
        assert time.monotonic() - began > 4 * patience
        with client.open_object(made, "bucket", "key") as body:
            time.sleep(4 * patience)
            assert len(body.read()) == 1_000_000


@pytest.mark.slow
def test_connections_are_used_again() -> None:
    """By each request on one of them, also after an answer of whose time little was left."""
    count, patience = 0, 2.0

    def answer(connection: socket.socket) -> None:
        nonlocal count
        count += 1
        while True:
            time.sleep(patience / 2)
            connection.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            if not connection.recv(1 << 16):
                return

    with server(answer) as url:
        made = connected(url, patience)
        assert [get(made) for _turn in range(7)] == [1] * 7
    assert count == 1
