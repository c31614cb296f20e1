# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to one server, kept open for the next request: http.client's, for many threads at once.

urllib3, which is made of http.client too, takes twice the processor time of it for a small object: 0.31 ms a request
against 0.16. What it would do more (redirects, decompression, cookies, retries) is not wanted here.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import ssl
import urllib.request
import weakref
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ..base.errors import UsageError

_MOST = 256  # that are kept


class ConnectError(OSError):
    """Nothing was asked yet: there is no connection. Its cause says why."""


class TooMuchError(ValueError):
    """More bytes than are taken. The line was cut, for nobody reads the rest."""


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
        """One request on a connection of its own. most: bytes of a body; 0: any number.

        Raises ConnectError, TooMuchError, OSError and HTTPException.
        """
        line = self._taken()
        try:
            line.putrequest(method, self._prefix + target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                line.putheader(name, value)
            if method in ("PUT", "POST"):
                line.putheader("content-length", str(len(body)))
            line.endheaders(body or None)
            answer = line.getresponse()
            told: dict[str, str] = {}
            for name, value in answer.headers.items():
                lower = name.lower()
                told[lower] = f"{told[lower]}, {value}" if lower in told else value
            data = answer.read(most + 1) if most else answer.read()
            if most and len(data) > most:
                raise TooMuchError(f"the answer has more than {most} bytes")
            if most and not answer.isclosed():
                answer.read()  # the end of it, of which no byte is left
        except BaseException:
            line.close()
            raise
        if answer.will_close or len(self._idle) >= _MOST:
            line.close()
        else:
            self._idle.append(line)
        return Reply(answer.status, told, data)

    def _taken(self) -> http.client.HTTPConnection:
        """One that is open, the last that was used before the others, or else a new one."""
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return self._opened()
            if not _dropped(line):
                return line
            line.close()

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._proxy.hostname:
            host, port = self._proxy.hostname, self._proxy.port or 80
        line = (
            http.client.HTTPSConnection(host, port, timeout=self._connect, context=self._context)
            if self._secure
            else http.client.HTTPConnection(host, port, timeout=self._connect)
        )
        if self._proxy.hostname and self._secure:
            line.set_tunnel(self._host, self._port)
        try:
            line.connect()
        except (OSError, http.client.HTTPException) as exc:
            line.close()
            raise ConnectError(*exc.args) from exc
        line.sock.settimeout(self._read)
        return line


def _dropped(line: http.client.HTTPConnection) -> bool:
    """Did the server end it, or say something that nobody asked for?"""
    poll = select.poll()
    poll.register(line.sock, select.POLLIN)
    return bool(poll.poll(0))


def _close(idle: list[http.client.HTTPConnection]) -> None:
    while idle:
        with contextlib.suppress(OSError):
            idle.pop().close()
