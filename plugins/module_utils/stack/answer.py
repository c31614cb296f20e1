# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask an application's endpoints."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPMessage
from typing import IO, Optional

from ..base import clock, pipeline, typed, web
from ..base.checks import FAIL, PASS, Check
from ..base.errors import Log
from ..settings.config import EndpointCheck


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


class _OwnHost(urllib.request.HTTPRedirectHandler):
    """Follows an application to its own addresses only: another host's login page says nothing of the application.

    urllib sends every header along. They may be credentials: another port or scheme gets none (RFC 9110, 15.4).
    """

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Optional[urllib.request.Request]:
        if _host(newurl) != _host(req.full_url):
            return None
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following and urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            following.headers.clear()
        return following


def _host(url: str) -> str:
    """Empty where it is no address."""
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""


_OPENERS = {
    False: urllib.request.build_opener(_Stays, *web.handlers()),
    True: urllib.request.build_opener(_OwnHost, *web.handlers()),
}


def send(request: urllib.request.Request, *, redirects: bool, timeout: float, largest: int) -> tuple[int, bytes]:
    """Status and body of an application's answer, whatever the status. Of a redirect that is not followed the body is
    where to."""
    try:
        with _OPENERS[redirects].open(request, timeout=timeout) as answer:
            return int(answer.status), answer.read(largest)
    except urllib.error.HTTPError as exc:
        with exc:
            where = exc.headers.get("Location", "")
            if 300 <= exc.code < 400 and where:
                other = _host(where) not in ("", _host(request.full_url))
                to = f"another host, {_host(where)}" if other else where.partition("?")[0]
                follow = "" if redirects or other else "; redirects: true follows it"
                return exc.code, f"it sends on to {to}{follow}".encode()
            return exc.code, exc.read(1 << 16)


def endpoint(check: EndpointCheck, deadline: float, log: Optional[Log] = None) -> Check:
    """Ask until the answer is right or the time is up."""
    name, began = f"{check.method} {check.url}", time.monotonic()
    waiting = clock.Waiting(name, deadline, log)
    while True:
        problem = ask(check)
        if not problem:
            return Check(name, PASS, f"status {check.status}" + ("".join(f", {k}={v}" for k, v in check.json.items())))
        if time.monotonic() >= deadline:
            return Check(name, FAIL, problem)
        waiting.note(problem)
        clock.pause(began)


def ask(check: EndpointCheck) -> str:
    """One request; what is wrong with the answer, or nothing."""
    if not check.url.startswith(("http://", "https://")):
        return f"{check.url!r} is not an http or https address"
    data = None if check.body is None else json.dumps(check.body).encode()
    try:
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at above
            check.url, data=data, method=check.method, headers={"Content-Type": "application/json"}
        )
        status, body = send(request, redirects=check.redirects, timeout=10, largest=1 << 20)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        return str(exc) or repr(exc)
    if status != check.status:
        return f"status {status} instead of {check.status}: {pipeline.one_line(body)}"
    if not check.json:
        return ""
    try:
        got = json.loads(body)
        wrong = [
            f"{key} is {typed.shown(got.get(key))} instead of {value!r}"
            for key, value in check.json.items()
            if got.get(key) != value
        ]
    except (ValueError, AttributeError, RecursionError):
        return "the answer is not a JSON object"
    return "; ".join(wrong)
