# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""healthchecks.io's ping protocol, which other dead-man's switches understand: start, success, failure, exit status.

https://healthchecks.io/docs/http_api/. The address is the secret: no error, log line or process argument has it.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Optional
from urllib.parse import urlencode, urlsplit, urlunsplit

from ..base import web
from ..base.errors import UsageError
from ..base.version import VERSION

START, SUCCESS, FAIL = "start", "", "fail"
TIMEOUT = 5.0  # seconds that one answer may take
PATIENCE = 10.0  # seconds that a run may wait for its pings in all
ATTEMPTS = 3
BODY_LIMIT = 10_000  # what a server of one's own keeps of a body; healthchecks.io itself keeps 100 kB
_ANSWER = 200  # bytes of an answer that are read
_CUT = "\n[…]\n"


def address(url: str) -> str:
    """The address without the blanks and newlines around it. Raises UsageError where nothing can be sent to it."""
    url = url.strip()
    cause = web.address_problem(url)
    if cause:
        raise UsageError(
            "tell the dead-man's switch", "its address", cause,
            "Correct lifeboat_secrets.heartbeat_url and run lifeboat.dr.deploy again.",
        )  # fmt: skip
    return url


def host(url: str) -> str:
    """Where the switch is: the part of its address that is no secret."""
    return urlsplit(url).hostname or ""


def body(text: str) -> bytes:
    """At most BODY_LIMIT bytes of it: the beginning and, which says why, the end."""
    data = text.encode("utf-8", "replace")
    if len(data) <= BODY_LIMIT:
        return data
    half = (BODY_LIMIT - len(_CUT.encode())) // 2
    first, last = (part.decode("utf-8", "ignore") for part in (data[:half], data[-half:]))
    return f"{first}{_CUT}{last}".encode()


class Switch:
    """The pings of one run. Whatever the receiver does, the run does not fail, and waits PATIENCE seconds at most.

    Threads, because neither looking up a name nor an answer that comes byte by byte has a time limit of its own.
    """

    def __init__(
        self, url: str, *, timeout: float = TIMEOUT, patience: float = PATIENCE, pause: float = 1.0, run_id: str = "",
    ) -> None:  # fmt: skip
        self._url = address(url)
        self._timeout, self._patience, self._pause = timeout, patience, pause
        self._run_id = run_id or str(uuid.uuid4())  # tells runs that overlap from each other
        self._http = (
            web.Http()
        )  # a switch answers by itself; elsewhere the secret address would be told to somebody else
        self._first: Optional[threading.Thread] = None

    def start(self, text: str = "") -> None:
        """Say that the run begins. Nobody waits for the answer; that a start was not told does no harm."""
        first = threading.Thread(target=self._sent, args=(START, body(text)), daemon=True)
        if _started(first):
            self._first = first

    def end(self, signal: str, text: str) -> str:
        """SUCCESS, FAIL or an exit status. Why it was not delivered; empty: it was."""
        said: list[str] = []
        last = threading.Thread(target=self._end, args=(signal, body(text), said), daemon=True)
        if not _started(last):
            return "the system gives no more threads"
        last.join(self._patience)
        return said[0] if said else f"no answer within {self._patience:.0f} s"

    def _end(self, signal: str, data: bytes, causes: list[str]) -> None:
        if self._first is not None:  # or the run would begin after its end
            self._first.join(self._timeout)
        for attempt in range(1, ATTEMPTS + 1):
            cause, again = self._sent(signal, data)
            if not again or attempt == ATTEMPTS:
                causes.append(cause)
                return
            time.sleep(self._pause)

    def _sent(self, signal: str, data: bytes) -> tuple[str, bool]:
        """(why it was not delivered, whether another attempt may help)."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": f"lifeboat/{VERSION}"}
        url = self._signal(signal)
        try:
            answer = self._http.exchange(url, data, headers, timeout=self._timeout, most=_ANSWER, of_error=0)
            return _judged(answer.status, answer.body.decode("utf-8", "replace").strip())
        except web.ERRORS as exc:
            return web.secret_cause(exc), True

    def _signal(self, signal: str) -> str:
        parts = urlsplit(self._url)
        path = f"{parts.path.rstrip('/')}/{signal}" if signal else parts.path
        query = "&".join(part for part in (parts.query, urlencode({"rid": self._run_id})) if part)
        return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def _judged(status: int, answer: str) -> tuple[str, bool]:
    if 300 <= status < 400:
        return f"it answered {status} and sends elsewhere, which is not followed", False
    if status >= 400:
        return f"it answered {status}", status >= 500 or status == 429
    if answer.startswith("OK ("):  # OK (not found), OK (rate limited): answered with 200, and not counted
        return f"it answered {answer!r}", False
    return "", False
