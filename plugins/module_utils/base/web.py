# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP whose answers end. urllib's time limit is that of one read: a server that sends a byte now and then, in the
head, the body, a chunk's extension or a trailer, holds its reader for ever.

Put handlers() into an opener. A whole answer, from the connection to its last byte, then has so many times the limit
that the request is given. Later it is TimeoutError.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.request
from typing import Optional

TIMES = 3  # an answer may take so many times what one read may take
_WORDS = "the answer did not end in time"


class _Answer(http.client.HTTPResponse):
    end: Optional[_End] = None

    def read(self, amt: Optional[int] = None) -> bytes:
        data = super().read(amt)
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
    """Ends a connection's answer, whoever reads it then."""

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

    def connect(self) -> None:
        super().connect()
        if self.timeout:
            self._end = _End(self.sock, TIMES * self.timeout)

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


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Bounded, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: Optional[ssl.SSLContext]) -> None:
        super().__init__(context=context)
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedTls, req, context=self._tls)


def handlers(context: Optional[ssl.SSLContext] = None) -> tuple[urllib.request.BaseHandler, ...]:
    """For urllib.request.build_opener()."""
    return _Http(), _Https(context)
