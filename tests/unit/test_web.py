# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a server sends, its answer ends: with what it is, or with an error of ours."""

from __future__ import annotations

import ast
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import reading
from ansible_collections.lifeboat.dr.plugins.module_utils.base import web
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import alert_test
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.connections import Connections
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import EndpointCheck
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import github

LIMIT = 0.3
PATIENCE = 20 * LIMIT  # so long every server here goes on, a byte now and then
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What comes at once, and what comes again and again.
ENDLESS = {
    "a dripping status line": (b"HTTP/1.1 200 ", b"O"),
    "dripping headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "a dripping body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "dripping chunks": (CHUNKED, b"1\r\nx\r\n"),
    "a dripping chunk's extension": (CHUNKED + b"1;", b"a"),
    "dripping trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n"),
    "an error with a dripping body": (b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
}
# Whole answers with a size that none has.
ABSURD = {
    "a negative chunk": CHUNKED + b"-5\r\n" + b"x" * 100_000,
    "a chunk of a word": CHUNKED + b"many\r\nx\r\n0\r\n\r\n",
    "a chunk of more than there is": CHUNKED + b"f" * 30 + b"\r\nx\r\n",
    "a length of more than there is": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nx",
    "a status of a word": b"HTTP/1.1 many OK\r\n\r\n",
    "a header without an end": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 1_000_000,
    "a million headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000,
}


@contextlib.contextmanager
def serving(first: bytes, again: bytes = b"") -> Iterator[str]:
    """Its address. One connection; with `again` it goes on for PATIENCE."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(first)
                end = time.monotonic() + (PATIENCE if again else 0)
                while time.monotonic() < end:
                    connection.sendall(again)
                    time.sleep(LIMIT / 6)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def send(url: str) -> tuple[int, bytes]:
    return answer.send(url, method="GET", data=None, headers={}, redirects=False, timeout=LIMIT, largest=1 << 20)


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_that_does_not_end_is_ended(name: str) -> None:
    began = time.monotonic()
    with serving(*ENDLESS[name]) as url, pytest.raises((OSError, http.client.HTTPException)):
        send(url)
    assert time.monotonic() - began < web.TIMES * LIMIT + 3 * LIMIT


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_size_is_an_error_or_what_is_there(name: str) -> None:
    with serving(ABSURD[name]) as url:
        try:
            status, body = send(url)
        except (OSError, ValueError, http.client.HTTPException):
            return
    assert status == 200 and body in (b"x", b""), "never more than the server sent as a body"


def test_a_negative_chunk_is_an_error() -> None:
    with serving(ABSURD["a negative chunk"]) as url, pytest.raises(http.client.HTTPException, match="a chunk of -5"):
        send(url)


def test_an_answer_in_time_is_read_whole() -> None:
    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", CHUNKED + b"3;a=b\r\nabc\r\n0\r\nX-A: b\r\n\r\n"):
        with serving(head) as url:
            assert send(url) == (200, b"abc")
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        assert timer.finished.wait(1), "none is left"


def test_an_endpoint_that_drips_is_wrong_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMES", 0.05)  # of ten seconds
    with serving(*ENDLESS["a dripping body"]) as url:
        assert answer.ask(EndpointCheck(url=url)) == "the answer did not end in time"


@pytest.mark.parametrize("said", ["a status of a word", "a negative chunk", "a million headers"])
def test_who_received_an_alert_and_answers_what_is_no_http_is_not_known(said: str) -> None:
    with serving(ABSURD[said]) as url:
        assert alert_test._arrived(url, "an id").result == COULD_NOT_VERIFY


OWN_CONNECTIONS = {"base/web.py", "s3/connections.py"}  # S3's are kept, and counted by the object


def test_http_is_asked_in_one_place() -> None:
    """Time limits, redirects, proxies and certificates are decided there."""
    found = set()
    for path in reading.PLUGINS.rglob("*.py"):
        used = {node.attr for node in ast.walk(reading.parsed(path)) if isinstance(node, ast.Attribute)}
        used |= {node.name for node in ast.walk(reading.parsed(path)) if isinstance(node, ast.alias)}
        asked = {"urlopen", "build_opener", "HTTPConnection", "HTTPSConnection", "HTTPRedirectHandler"}
        found |= {path.relative_to(reading.PLUGINS).as_posix().removeprefix(reading.CORE)} if asked & used else set()
    assert found == OWN_CONNECTIONS


@pytest.mark.parametrize("redirects", [web.NOWHERE, web.OWN_HOST, web.ANYWHERE])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_is_followed_where_it_may_be(redirects: str, host: str) -> None:
    """On its own host without the headers, which another port must not see."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as other:

        def listen() -> None:
            with contextlib.suppress(OSError), other.accept()[0] as connection:
                heads.append(connection.recv(1 << 16))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        threading.Thread(target=listen, daemon=True).start()
        to = f"http://{host}:{other.getsockname()[1]}/"
        with serving(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 2\r\n\r\nno".encode()) as url:
            found = web.Http(redirects=redirects).exchange(url, headers={"X-Key": "hunter2"}, timeout=5, most=10)
        followed = redirects == web.ANYWHERE or (redirects == web.OWN_HOST and host == "127.0.0.1")
        assert (found.status, found.body) == ((200, b"hi") if followed else (302, b"no"))
        assert (b"hunter2" in b"".join(heads)) is (redirects == web.ANYWHERE)
    if not followed:
        assert found.headers["location"] == to


@pytest.mark.parametrize("name", ENDLESS)
def test_github_has_no_more_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in its place, in the site's drill as well."""
    monkeypatch.setattr(github, "ATTEMPTS", 1)
    began = time.monotonic()
    with serving(*ENDLESS[name]) as url, pytest.raises(github.GithubError):
        github.Client(url, "a/b", "", timeout=LIMIT).workflow("site.yml")
    assert time.monotonic() - began < web.TIMES * LIMIT + 3 * LIMIT


def test_github_in_time_is_read_whole() -> None:
    body = b'{"state": "active"}'
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as url:
        assert github.Client(url, "a/b", "").workflow("site.yml") == github.Workflow("active")


@pytest.mark.parametrize("name", ENDLESS)
def test_an_s3_server_has_no_more_time(name: str) -> None:
    """A server that drips less than the slowest network brings."""
    began = time.monotonic()
    with serving(*ENDLESS[name]) as url, pytest.raises((OSError, http.client.HTTPException)):
        Connections(url, connect=LIMIT, read=LIMIT).request("GET", "/a", {}, b"", 1 << 20)
    assert time.monotonic() - began < web.TIMES * LIMIT + 3 * LIMIT


def test_an_s3_server_that_puts_an_upload_together_has_minutes() -> None:
    """It sends blanks meanwhile: more of them than another request's answer may take."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n")
                for _number in range(60):
                    connection.sendall(b" ")
                    time.sleep(LIMIT / 12)
                connection.sendall(b"<ok>")

        threading.Thread(target=serve, daemon=True).start()
        url, began = f"http://127.0.0.1:{server.getsockname()[1]}/", time.monotonic()
        found = Connections(url, connect=LIMIT, read=LIMIT).request("POST", "/a", {}, b"", 1 << 20)
    assert found.body.strip() == b"<ok>"
    assert time.monotonic() - began > web.TIMES * LIMIT


@pytest.mark.slow
def test_an_s3_servers_answer_over_a_slow_network_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long as a server may drip, and brings more."""
    monkeypatch.setattr(web, "SLOWEST", 100)
    limit = 1.0  # on a busy machine the server may rest for half of it
    piece, pieces = b"x" * 100, 220
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * pieces)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(head)
                for _number in range(pieces):
                    connection.sendall(piece)
                    time.sleep(limit / 50)

        threading.Thread(target=serve, daemon=True).start()
        url, began = f"http://127.0.0.1:{server.getsockname()[1]}/", time.monotonic()
        found = Connections(url, connect=limit, read=limit).request("GET", "/a", {}, b"", 1 << 20)
    assert found.body == piece * pieces
    assert time.monotonic() - began > web.TIMES * limit
