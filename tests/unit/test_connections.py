# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are kept: used again, replaced where dropped, given up after an answer that broke off."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.web import UnusableError
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.connections import ConnectError, Connections, Reply
from builders import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of `answers`, the last again and again; None: it closes instead.

    lines: connections so far; ended: how many of them are over. asked: each request's connection, head and body.
    """

    def __init__(self, wrap: Callable[[socket.socket], socket.socket] = lambda line: line) -> None:
        self.answers: list[bytes | None] = [OK]
        self.asked: list[tuple[int, bytes, bytes]] = []
        self.lines, self.ended, self._wrap = 0, 0, wrap
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                line, _from = self._socket.accept()
            except OSError:
                return
            self.lines += 1
            threading.Thread(target=self._serve, args=(line, self.lines), daemon=True).start()

    def _serve(self, line: socket.socket, number: int) -> None:
        try:
            with self._wrap(line) as wrapped, wrapped.makefile("rb") as file:
                while head := _head(file):
                    size = next(
                        (int(row.split(b":")[1]) for row in head.lower().splitlines() if b"content-length:" in row), 0
                    )
                    self.asked.append((number, head, file.read(size)))
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    if answer is None:
                        return
                    wrapped.sendall(answer)
                    if b"connection: close" in answer.lower() or b"it-hangs-up" in answer:
                        return
        except OSError:
            pass
        finally:
            self.ended += 1

    def close(self) -> None:
        # Closed alone, it would go on to listen for the thread that waits in accept(), and answer once more.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def _head(file: BinaryIO) -> bytes:
    """Of a request; nothing where the line ends before it does."""
    rows = []
    for row in file:
        if row == b"\r\n":
            return b"".join(rows)
        rows.append(row)
    return b""


def to(server: Server, scheme: str = "http", known: str = "", read: float = 20) -> Connections:
    return Connections(f"{scheme}://127.0.0.1:{server.port}", known, connect=20, read=read)


def get(connections: Connections, target: str = "/b/k", method: str = "GET", body: bytes = b"", most: int = 0) -> Reply:
    return connections.request(method, target, {"host": "example", "x-a": "1"}, body, most)


def test_one_connection_serves_one_request_after_the_other(server: Server) -> None:
    connections = to(server)
    for _again in range(3):
        assert get(connections) == Reply(200, {"content-length": "2"}, b"ok")
    assert server.lines == 1
    assert server.asked[0][1] == b"GET /b/k HTTP/1.1\r\nhost: example\r\nx-a: 1\r\n", "no header of anybody else's"


@pytest.mark.parametrize(("method", "body"), [("PUT", b"x" * 100_000), ("PUT", b""), ("POST", b"<a/>")])
def test_a_body_goes_with_its_length(server: Server, method: str, body: bytes) -> None:
    get(to(server), method=method, body=body)
    (asked,) = server.asked
    assert asked[2] == body and f"content-length: {len(body)}\r\n".encode() in asked[1]


def test_a_path_goes_as_it_is(server: Server) -> None:
    get(to(server), "/b/../a/./%2E%2E//x?list-type=2&prefix=%20")
    assert server.asked[0][1].startswith(b"GET /b/../a/./%2E%2E//x?list-type=2&prefix=%20 HTTP/1.1\r\n")


def test_many_threads_have_a_connection_each(server: Server) -> None:
    connections, together = to(server), threading.Barrier(4)

    def work() -> None:
        together.wait()
        for _again in range(20):
            assert get(connections).body == b"ok"

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 80 and server.lines <= 4


def test_what_the_server_closed_is_not_used_again(server: Server) -> None:
    connections = to(server)
    server.answers = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", OK, None, OK]
    assert [get(connections).body for _again in range(2)] == [b"ok", b"ok"]
    assert server.lines == 2
    with pytest.raises(http.client.RemoteDisconnected):
        get(connections)
    assert get(connections).body == b"ok" and server.lines == 3


def test_one_that_was_dropped_while_nobody_used_it_is_replaced(server: Server) -> None:
    connections = to(server)
    server.answers = [b"HTTP/1.1 200 OK\r\nx: it-hangs-up\r\nContent-Length: 2\r\n\r\nok", OK]
    assert get(connections).body == b"ok"
    until(lambda: server.ended == 1)
    assert get(connections).body == b"ok" and server.lines == 2


def test_what_nobody_asked_for_is_no_answer(server: Server) -> None:
    connections = to(server)
    server.answers = [OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", OK]
    assert [get(connections).body for _again in range(2)] == [b"ok", b"ok"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nok",
        b"nonsense\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"connection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nx",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length : 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n folded onto nothing: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_is_none(server: Server, answer: bytes) -> None:
    connections = to(server)
    server.answers = [answer, OK]
    with pytest.raises((OSError, http.client.HTTPException)):
        get(connections)
    assert get(connections).body == b"ok"
    assert server.lines == 2


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", b""),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz", b"zzzz"),
        ("PUT", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    ],
)
def test_each_kind_of_answer(server: Server, method: str, answer: bytes, body: bytes) -> None:
    connections = to(server)
    server.answers = [answer, OK]
    assert get(connections, method=method).body == body
    assert get(connections).body == b"ok"
    assert server.lines == 1


def test_an_answer_without_a_length_ends_with_its_connection(server: Server) -> None:
    connections = to(server)
    server.answers = [b"HTTP/1.1 200 OK\r\nx: it-hangs-up\r\n\r\nok", OK]
    assert [get(connections).body for _again in range(2)] == [b"ok", b"ok"]
    assert server.lines == 2


def test_headers_of_one_name_are_one(server: Server) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nX-Amz-Meta-B: \xe6\x9b\xb8\r\nContent-Length: 0\r\n\r\n"]
    assert get(to(server)).headers == {"x-a": "1, 2", "x-amz-meta-b": "\xe6\x9b\xb8", "content-length": "0"}


def test_no_more_is_read_than_is_taken(server: Server) -> None:
    connections = to(server)
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20
    server.answers = [long, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", long]
    assert get(connections, most=20).body == b"x" * 20
    assert get(connections, most=2).body == b"ok"
    assert server.lines == 1
    with pytest.raises(UnusableError, match="more than 19 bytes"):
        get(connections, most=19)
    assert get(connections, most=20).body == b"x" * 20 and server.lines == 2


@pytest.mark.parametrize("most", [0, 1000])
@pytest.mark.parametrize("answer", [
    b"Content-Length: 100\r\n\r\n", b"Content-Length: 100\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
])  # fmt: skip
def test_a_body_that_is_cut_is_no_answer(server: Server, answer: bytes, most: int) -> None:
    """Nor is one that is cut before its first byte: it would be an object without any."""
    server.answers = [b"HTTP/1.1 200 OK\r\nx: it-hangs-up\r\n" + answer]
    with pytest.raises(http.client.IncompleteRead):
        get(to(server), most=most)


@pytest.mark.parametrize("wrong", [
    b"Content-Length: -2", b"Content-Length: 2, 3", b"Content-Length: +2", b"Content-Length: 2\r\nContent-Length: 2",
    b"Content-Length: " + b"9" * 30, b"Transfer-Encoding: gzip", b"Transfer-Encoding: gzip, chunked",
])  # fmt: skip
def test_where_a_body_ends_is_never_guessed(server: Server, wrong: bytes) -> None:
    connections = to(server)
    server.answers = [b"HTTP/1.1 200 OK\r\n" + wrong + b"\r\n\r\nok", OK]
    with pytest.raises(UnusableError, match=r"the answer's (Content-Length|Transfer-Encoding) is not") as raised:
        get(connections)
    until(lambda: server.ended == 1)
    assert raised.value.__traceback__, "it is closed although what was read of it is still known"
    assert get(connections).body == b"ok" and server.lines == 2


def test_chunks_count_and_not_what_else_is_said_of_the_length(server: Server) -> None:
    connections = to(server)
    chunked = b"Transfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    server.answers = [b"HTTP/1.1 200 OK\r\n" + chunked, OK]
    assert [get(connections).body for _again in range(2)] == [b"ok", b"ok"]


@pytest.mark.parametrize(("said", "lines"), [
    ("HTTP/1.0 200 OK\r\n", 2), ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", 1),
    ("HTTP/1.1 200 OK\r\nConnection: Close\r\n", 2), ("HTTP/1.1 200\r\n", 1),
])  # fmt: skip
def test_how_long_a_connection_is_kept_is_the_servers_to_say(server: Server, said: str, lines: int) -> None:
    connections = to(server)
    server.answers = [said.encode() + b"Content-Length: 2\r\n\r\nok", OK]
    assert [get(connections).body for _again in range(2)] == [b"ok", b"ok"]
    assert server.lines == lines


def test_a_header_may_go_on_in_the_next_line(server: Server) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nX-A: 1 \r\n\t 2\r\n 3 \r\nX-B:\t4\r\nContent-Length: 0\r\n\r\n"]
    assert get(to(server)).headers == {"x-a": "1 2 3 ", "x-b": "4", "content-length": "0"}


@pytest.mark.parametrize(("target", "name", "value"), [
    ("/b/k x", "x", "y"), ("/b/k\r\nx: y", "x", "y"), ("", "x", "y"), ("/b/\xe9", "x", "y"), ("/", "x", "y\r\nz: 1"),
    ("/", "x\n", "y"), ("/", "x", "y\0"), ("/", "x", "\u66f8"),
])  # fmt: skip
def test_what_would_be_another_request_is_not_sent(server: Server, target: str, name: str, value: str) -> None:
    with pytest.raises(ValueError):
        to(server).request("GET", target, {name: value}, b"")
    assert server.lines == 0


def test_nobody_listens() -> None:
    with socket.socket() as taken, pytest.raises(ConnectError) as raised:
        taken.bind(("127.0.0.1", 0))
        get(Connections(f"http://127.0.0.1:{taken.getsockname()[1]}", connect=20, read=20))
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_a_server_that_says_nothing_is_waited_for_so_long(server: Server) -> None:
    server.answers = [b""]
    with pytest.raises(socket.timeout):
        get(to(server, read=0.2))


def certificate(folder: Path, name: str) -> tuple[str, str]:
    key, made = str(folder / "key.pem"), str(folder / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{name}", "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, made


@pytest.mark.parametrize(("name", "known", "well"), [
    ("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", True, False),
])  # fmt: skip
def test_a_certificate_is_checked(tmp_path: Path, name: str, known: bool, well: bool) -> None:
    key, made = certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    server = Server(lambda line: context.wrap_socket(line, server_side=True))
    try:
        connections = to(server, "https", made if known else "")
        if well:
            assert get(connections).body == b"ok" and get(connections).body == b"ok" and server.lines == 1
        else:
            with pytest.raises(ConnectError) as raised:
                get(connections)
            assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
            assert server.asked == []
    finally:
        server.close()


def test_a_proxy_is_told_the_whole_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = {"http": f"http://127.0.0.1:{server.port}", "https": f"127.0.0.1:{server.port}"}
    monkeypatch.setattr(urllib.request, "getproxies", lambda: proxy)
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "here")
    assert get(Connections("http://s3.example:9000", connect=20, read=20)).body == b"ok"
    assert server.asked[0][1].startswith(b"GET http://s3.example:9000/b/k HTTP/1.1\r\n")
    with pytest.raises(ConnectError):  # it answers, and makes no tunnel
        get(Connections("https://s3.example", connect=0.5, read=20))
    assert server.asked[1][1].startswith(b"CONNECT s3.example:443 HTTP/1")
    with pytest.raises(ConnectError):
        get(Connections("http://here:1", connect=20, read=20))
    assert len(server.asked) == 2


@pytest.mark.parametrize("endpoint", ["ftp://x", "x:9000", "http://", ""])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(UsageError, match="it is not like http://host:9000"):
        Connections(endpoint, connect=1, read=1)
