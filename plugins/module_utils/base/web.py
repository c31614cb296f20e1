# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP whose answers end. urllib's time limit is that of one read: a server that sends a byte now and then, in the
head, the body, a chunk's extension or a trailer, holds its reader for ever.

Http.exchange() gives a whole answer, from the connection to its last byte, so many times the limit that the request is
given. Later it is TimeoutError. S3's own connections use Timed.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPMessage
from typing import IO, Optional

from .errors import UsageError

TIMES = 3  # an answer may take so many times what one read may take
SLOWEST = 1024  # bytes a second that a body brings at least, beyond TIMES times the limit of a read
# Times the limit of a read for the answer to a POST. S3 sends blanks for minutes while it puts an upload's parts
# together. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
TIMES_OF_POST = 15
NOWHERE, OWN_HOST, ANYWHERE = "nowhere", "own host", "anywhere"  # where redirects may lead
ERRORS = (OSError, ValueError, http.client.HTTPException)  # of Http.exchange()
_WORDS = "the answer did not end in time"
_PART = 16  # characters of a part of an address that is a secret
_NOT_IN_URL = re.compile(r"[^!-~]")  # blanks, control characters, and what is not ASCII


class _Answer(http.client.HTTPResponse):
    end: Optional[_End] = None

    def read(self, amt: Optional[int] = None) -> bytes:
        try:
            data = super().read(amt)
        except OSError:
            if self.end and self.end.came:
                raise TimeoutError(_WORDS) from None
            raise
        if self.end and self.end.came:
            raise TimeoutError(_WORDS)  # what was read is only a part, and looks like a whole
        return data

    def close(self) -> None:
        super().close()
        if self.end:
            self.end.cancel()

    def _read_next_chunk_size(self) -> int:
        """A negative one would be read as `until the end`, without a bound (`http.client` takes its sign)."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise http.client.HTTPException(f"a chunk of {size} bytes")
        return size


class _End:
    """Ends a connection's answer, for every reader of it."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.came, self._connection = False, connection
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.came = True
        with contextlib.suppress(OSError):  # it has ended
            self._connection.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> None:
        self._timer.cancel()


class _Bounded(http.client.HTTPConnection):
    response_class = _Answer
    _end: Optional[_End] = None

    def __init__(self, host: str, *, longest: float = 0, **arguments: object) -> None:
        super().__init__(host, **arguments)  # type: ignore[arg-type]
        self._longest = longest

    def connect(self) -> None:
        super().connect()
        if self.timeout:
            self._end = _End(self.sock, self._longest or TIMES * self.timeout)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            answer = super().getresponse()
        except BaseException:
            if self._end:
                self._end.cancel()
                if self._end.came:
                    raise TimeoutError(_WORDS) from None
            raise
        if isinstance(answer, _Answer):
            answer.end = self._end
        return answer


class _BoundedTls(_Bounded, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, context: Optional[ssl.SSLContext], longest: float) -> None:
        super().__init__(context=context)
        self._tls, self._longest = context, longest

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Bounded, req, longest=self._longest)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedTls, req, longest=self._longest, context=self._tls)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, followed: str) -> None:
        self._followed = followed

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Optional[urllib.request.Request]:
        """urllib sends every header along. They may be credentials: another port or scheme of an application's own host
        gets none (RFC 9110, 15.4)."""
        if self._followed == NOWHERE or (self._followed == OWN_HOST and host(newurl) != host(req.full_url)):
            return None
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        other = urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]
        if following and other and self._followed == OWN_HOST:
            following.headers.clear()
        return following


@dataclass(frozen=True)
class Answer:
    """headers: by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """redirects: where they are followed to. proxies: whether those of the environment are used. longest: seconds for a
    whole answer; 0: TIMES the limit of a read."""

    def __init__(
        self, context: Optional[ssl.SSLContext] = None, *, redirects: str = NOWHERE, proxies: bool = True,
        longest: float = 0,
    ) -> None:  # fmt: skip
        more = () if proxies else (urllib.request.ProxyHandler({}),)
        self._opener = urllib.request.build_opener(_Handler(context, longest), _Redirects(redirects), *more)

    def exchange(
        self, url: str, data: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None, *,
        method: Optional[str] = None, timeout: float, most: int, of_error: int = 1 << 16,
    ) -> Answer:  # fmt: skip
        """The answer, whatever its status, and at most so many bytes of its body. Raises one of ERRORS without one."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an http or https address")
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)  # noqa: S310 - looked at above
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return Answer(answer.status, _lower(answer.headers), answer.read(most))
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(exc.code, _lower(exc.headers), exc.read(of_error) if of_error else b"")


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def cause(error: Exception) -> str:
    """Why exchange() raised it."""
    return str(getattr(error, "reason", None) or error) or repr(error)


def host(url: str) -> str:
    """Empty where it is no address."""
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""


def path(url: str) -> str:
    return urllib.parse.urlsplit(url).path


def secret_parts(url: str) -> list[str]:
    """What of a secret address makes it one, which a server may repeat in its answer. A shorter part is a word that a
    text may have for other reasons."""
    parts = urllib.parse.urlsplit(url)
    values = [value for _name, value in urllib.parse.parse_qsl(parts.query)]
    found = (parts.path, parts.path.rpartition("/")[2], parts.query, *values)
    return [part for part in found if len(part) >= _PART]


def address_problem(url: str) -> str:
    """Why nothing can be sent to a secret address; empty: it can. The text never shows the address."""
    try:
        parts = urllib.parse.urlsplit(url)
        name, _port = parts.hostname, parts.port
    except ValueError:  # whose text would show the address
        return "it is not a web address"
    if parts.scheme not in ("http", "https") or not name:
        return "it is not an address that begins with http:// or https://"
    if _NOT_IN_URL.search(url):
        return "it has a blank or another character that no web address has"
    if "@" in parts.netloc:
        return "it has a user name or a password, which are not sent"
    return ""


def secret_cause(error: Exception) -> str:
    """Why exchange() with a secret address raised it. The text never shows the address."""
    if isinstance(error, urllib.error.URLError):
        return str(error.reason) or type(error.reason).__name__
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"its answer is not HTTP ({type(error).__name__})"  # whose text may quote the address


def ssl_context(ca_bundle: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle or None)
    except OSError as exc:
        raise UsageError("read the CA certificates", ca_bundle, exc.strerror or str(exc), "Correct ca_bundle.") from exc


class UnusableError(ValueError):
    """An answer of more bytes than are taken, or with a size that is none. That will be the same in a second."""


def too_long(most: int) -> UnusableError:
    return UnusableError(f"the answer has more than {most} bytes")


def times_of(method: str) -> int:
    return TIMES_OF_POST if method == "POST" else TIMES


class Timed(io.RawIOBase):
    """What comes from a server, which ends.

    Waiting for it may take so many times the limit of a read, and a second more for each SLOWEST bytes that came; what
    was saved up beyond that is lost, so that nobody sends much at first and then a byte now and then. Only waiting
    counts: who reads an object may be slow.

    credit: whether bytes count; in a head they do not, and all its time counts, as nothing bounds how many answers come
    before the answer.
    most: bytes; 0: any number. whole: an end of the connection is an error.
    """

    def __init__(
        self, connection: socket.socket, read: float, times: float, raw: Optional[io.RawIOBase] = None,
        *, credit: bool = True, whole: bool = False,
    ) -> None:  # fmt: skip
        self._connection, self._read, self._raw, self._whole = connection, read, raw, whole
        self._left = self._limit = times * read
        self.credit, self.most, self._came, self._seen = credit, 0, 0, time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._left <= 0:
            raise socket.timeout(_WORDS)
        self._connection.settimeout(min(self._read, self._left))
        began = time.monotonic() if self.credit else self._seen
        try:
            size = self._raw.readinto(buffer) if self._raw else self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._read)
        size = size or 0
        if self._whole and not size:
            raise ConnectionResetError("the connection ended before the answer")
        self._came += size
        if 0 < self.most < self._came:
            raise too_long(self.most)
        self._seen = time.monotonic()
        self._left -= self._seen - began
        if self.credit:
            self._left = min(self._limit, self._left + size / SLOWEST)
        return size

    def close(self) -> None:
        if self._raw:
            self._raw.close()
        super().close()
