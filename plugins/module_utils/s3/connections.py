# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to one server, kept open for the next request, for many threads at once.

A small object costs what its requests cost, and for one urllib3 takes about five times the processor time of this. What
it would do more (redirects, decompression, cookies, retries) is not wanted here; nor is Python's own reading of a head,
which is an e-mail's. How a body is read is http.client's to know.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import select
import socket
import ssl
import urllib.request
import weakref
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ..base.errors import UsageError
from ..base.web import Timed, UnusableError, times_of, too_long

_MOST = 256  # that are kept
_LINE = 65536  # bytes of a line of a head; as http.client
_HEADERS = 100  # of one answer; as http.client
_INTERIM = 16  # answers that say only that another one comes
_BLANKS = " \t"
_NAME = re.compile(r"[!-9;-~]+")
_CONTROL = re.compile(r"[\x00\r\n]")
_TARGET = re.compile(r"[!-~]+")
_SIZE = re.compile(r"[0-9]{0,18}")


class ConnectError(OSError):
    """Nothing was asked yet: there is no connection. Its cause says why."""


class Reply(NamedTuple):
    """headers: by lower-case name, as Latin-1; those of one name are one, with commas."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connections:
    """To one `endpoint`, through the proxy that the environment names. Nothing is opened before the first request.

    known: a file of the authorities that may have signed its certificate; empty: the system's. connect, read: seconds.
    """

    def __init__(self, endpoint: str, known: str = "", *, connect: float, read: float) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            remedy = "Correct endpoint_url."
            raise UsageError("connect to S3", endpoint, "it is not like http://host:9000 or https://host", remedy)
        self._connect, self._read = connect, read
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._secure else 80)
        self._context = ssl.create_default_context(cafile=known or None) if self._secure else None
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if not proxy or urllib.request.proxy_bypass(parts.hostname):
            self._proxy = urlsplit("")
        elif self._proxy.scheme != "http":
            raise UsageError("connect to S3", endpoint, f"the proxy is asked by {self._proxy.scheme}", "Use http.")
        # A proxy is told the whole address of what it is to ask; through its tunnel the server itself is asked.
        self._prefix = f"{parts.scheme}://{parts.netloc}" if self._proxy.hostname and not self._secure else ""
        self._idle: list[http.client.HTTPConnection] = []
        weakref.finalize(self, _close, self._idle)

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes, most: int = 0) -> Reply:
        """Send one request on a connection of its own. most: bytes of a body; 0: any number.

        Raises ConnectError, UnusableError, OSError and HTTPException.
        """
        head = _head(method, self._prefix + target, headers, body)
        connection = self._taken()
        try:
            # A small body goes in the same packet; a large one would be copied.
            connection.sock.sendall(head + body if len(body) <= _LINE else head)
            if len(body) > _LINE:
                connection.sock.sendall(body)
            with _Answer(connection.sock, method, self._read, times_of(method)) as answer:
                answer.begin()
                data = answer.body(most)
            connection.sock.settimeout(self._read)
        except BaseException:
            connection.close()
            raise
        if answer.will_close or len(self._idle) >= _MOST:
            connection.close()
        else:
            self._idle.append(connection)
        return Reply(answer.status, answer.header_fields, data)

    def _taken(self) -> http.client.HTTPConnection:
        """Return one that is open, the last that was used before the others, or else a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._opened()
            if not _dropped(connection):
                return connection
            connection.close()

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._proxy.hostname:
            host, port = self._proxy.hostname, self._proxy.port or 80
        connection = (
            http.client.HTTPSConnection(host, port, timeout=self._connect, context=self._context)
            if self._secure
            else http.client.HTTPConnection(host, port, timeout=self._connect)
        )
        if self._proxy.hostname and self._secure:
            connection.set_tunnel(self._host, self._port)
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            raise ConnectError(*exc.args) from exc
        connection.sock.settimeout(self._read)
        return connection


class _Answer(http.client.HTTPResponse):
    """An answer. header_fields: by lower-case name. read: seconds for one read; all of them get `times` as many."""

    header_fields: dict[str, str]

    def __init__(self, connection: socket.socket, method: str, read: float, times: float) -> None:
        super().__init__(connection, method=method)
        self.fp.close()
        self.fp = io.BufferedReader(Timed(connection, read, times), _LINE)
        self._bodiless = method == "HEAD"

    def begin(self) -> None:
        """Read its head, and see how its body will end: https://www.rfc-editor.org/rfc/rfc9112#name-message-body-length"""
        for _number in range(_INTERIM):
            version, self.status, self.reason = self._read_status()  # type: ignore[attr-defined]
            self.header_fields = self._fields()
            if self.status >= http.HTTPStatus.OK:
                break
        else:
            raise http.client.HTTPException(f"no answer after {_INTERIM} that say that one comes")
        self.code, self.version = self.status, 10 if version == "HTTP/1.0" else 11
        coding = self.header_fields.get("transfer-encoding", "").lower()
        length = self.header_fields.get("content-length", "")
        if not _SIZE.fullmatch(length):
            raise UnusableError(f"the answer's Content-Length is not a size: {length[:40]!r}")
        if coding not in ("", "chunked"):
            raise UnusableError(f"the answer's Transfer-Encoding is not known: {coding[:40]!r}")
        self.chunked, self.chunk_left, self.length = bool(coding), None, int(length) if length and not coding else None
        if self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED) or self._bodiless:
            self.chunked, self.length = False, 0
        said = self.header_fields.get("connection", "").lower()
        ends = "close" in said or (self.version == 10 and "keep-alive" not in said)
        self.will_close = ends or (not self.chunked and self.length is None)

    def body(self, most: int) -> bytes:
        """Return all of it; UnusableError where it has more than `most` bytes. 0: there is no bound."""
        if most and (self.length or 0) > most:
            raise too_long(most)
        if not most or self.length is not None:
            return self.read()  # of a part http.client says nothing where it is cut before its first byte
        data = self.read(most + 1)
        if len(data) > most:
            raise too_long(most)
        self.read()  # the end of it, of which no byte is left
        return data

    def _fields(self) -> dict[str, str]:
        found: dict[str, str] = {}
        lower = ""
        for _number in range(_HEADERS + 1):
            line = self.fp.readline(_LINE + 1)
            if len(line) > _LINE:
                raise http.client.LineTooLong("header line")
            if line in (b"\r\n", b"\n"):
                return found
            if not line.endswith(b"\n"):
                raise http.client.IncompleteRead(line)
            row = line.decode("latin-1").rstrip("\r\n")
            # More of the line before: https://www.rfc-editor.org/rfc/rfc9112#name-obsolete-line-folding
            if lower and row.startswith((" ", "\t")):
                found[lower] = f"{found[lower].rstrip(_BLANKS)} {row.lstrip(_BLANKS)}"
                continue
            name, colon, value = row.partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise http.client.HTTPException(f"a header line that is none: {row[:40]!r}")
            lower, value = name.lower(), value.lstrip(_BLANKS)
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
        raise http.client.HTTPException(f"more than {_HEADERS} headers")


def _head(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Raises ValueError for what would be another request than is meant."""
    rows = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if method in ("PUT", "POST"):
        rows.append(f"content-length: {len(body)}")
    if not _TARGET.fullmatch(target) or any(map(_CONTROL.search, rows)):
        raise ValueError(f"no request can say this: {method} {target!r} with {sorted(headers)}")
    return "\r\n".join([*rows, "", ""]).encode("latin-1")


def _dropped(connection: http.client.HTTPConnection) -> bool:
    """Did the server end it, or say something that nobody asked for?"""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _close(idle: list[http.client.HTTPConnection]) -> None:
    while idle:
        with contextlib.suppress(OSError):
            idle.pop().close()
