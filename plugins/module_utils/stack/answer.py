# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask an application's endpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Optional

from ..base import clock, pipeline, typed, web
from ..base.checks import FAIL, PASS, Check
from ..base.errors import Log
from ..settings.config import EndpointCheck

# An application is followed to its own addresses only: another host's login page says nothing of the application.
_HTTP = {False: web.Http(), True: web.Http(redirects=web.OWN_HOST)}
# How long one that answers as wrongly as before anything was lost is waited for, once the services are well.
PATIENCE = 30.0


def send(
    url: str, *, method: str, data: Optional[bytes], headers: Mapping[str, str], redirects: bool, timeout: float,
    largest: int,
) -> tuple[int, bytes]:  # fmt: skip
    """Status and body of an application's answer, whatever the status. Of a redirect that is not followed the body is
    where to."""
    answer = _HTTP[redirects].exchange(url, data, headers, method=method, timeout=timeout, most=largest)
    where = answer.headers.get("location", "")
    if not 300 <= answer.status < 400 or not where:
        return answer.status, answer.body
    other = web.host(where) not in ("", web.host(url))
    to = f"another host, {web.host(where)}" if other else where.partition("?")[0]
    follow = "" if redirects or other else "; redirects: true follows it"
    return answer.status, f"it sends on to {to}{follow}".encode()


def endpoint(
    check: EndpointCheck, deadline: float, log: Optional[Log] = None, was: str = "", seen_at: str = "",
    since: float = 0.0,
) -> Check:  # fmt: skip
    """Ask until the answer is right or the time is up. was: what was wrong with it before anything was lost, as seen_at
    says: where that stays as it is there is little to wait for. since: when the first of several was asked, who share
    that little."""
    same_since = 0.0
    name, began = f"{check.method} {check.url}", time.monotonic()
    waiting = clock.Waiting(name, deadline, log)
    while True:
        problem = ask(check)
        if not problem:
            return Check(name, PASS, f"status {check.status}" + ("".join(f", {k}={v}" for k, v in check.json.items())))
        now = time.monotonic()
        same_since = (same_since or since or now) if was and alike(problem, was) else 0.0
        since = 0.0
        if same_since and (now >= deadline or now - same_since >= PATIENCE):
            words = f"it answered no better at {seen_at}, before this recovery, and was not waited for any longer"
            return Check(name, FAIL, f"{problem}; {words}")
        if now >= deadline:
            return Check(name, FAIL, problem)
        waiting.note(problem)
        clock.pause(began)


def alike(problem: str, was: str) -> bool:
    """Return whether two answers are wrong in the same way. What an answer says beside its status may have a time."""
    return problem.partition(": ")[0] == was.partition(": ")[0]


def ask(check: EndpointCheck) -> str:
    """One request; what is wrong with the answer, or nothing."""
    data = None if check.body is None else json.dumps(check.body).encode()
    try:
        status, body = send(
            check.url, method=check.method, data=data, headers={"Content-Type": "application/json"},
            redirects=check.redirects, timeout=10, largest=1 << 20,
        )  # fmt: skip
    except web.ERRORS as exc:
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
