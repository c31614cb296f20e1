# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One alert through the real chain, and whether it arrived. An alert counts when its delivery was seen.

Seen is, by each integration of each receiver that the route leads to, that a request ended and did not fail; and where
somebody can look at what arrived, that the test's own id is in it. What was only sent, or is still waited for, is not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Callable, Optional

from ..base import checks, web
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ..base.errors import IntegrityError, LifeboatError, Log, UsageError
from ..tools import alertmanager
from ..tools.alertmanager import Alert, Client, Counts

NAME = "LifeboatAlertTest"
SEVERITIES = ("critical", "warning", "info")
_LABEL = "test"
_LARGEST = 16 << 20  # bytes of what arrived that are looked at, from the end
_LASTS = timedelta(minutes=15)  # then it ends by itself, should this process not come to it


@dataclass(frozen=True)
class Request:
    """stack, severity: what the alert says, by which it is routed. seconds: how long to wait. arrived: a file, or an
    address, where what a receiver got can be read; empty: only Alertmanager is asked."""

    stack: str
    severity: str
    seconds: float
    arrived: str = ""


@dataclass(frozen=True)
class Result:
    """id: what the alert's label `test` says."""

    id: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        return checks.verdict(self.checks)


def send(
    client: Client, request: Request, *, now: datetime, log: Log, dry: bool = False,
    sleep: Callable[[float], None] = time.sleep, monotonic: Callable[[], float] = time.monotonic,
) -> Result:  # fmt: skip
    """dry: send nothing, so that nothing is verified."""
    identity = uuid.uuid4().hex
    if not request.stack:
        return Result(
            identity, (Check("stack", COULD_NOT_VERIFY, "none is named, so that no stack's alert was tried"),)
        )
    try:
        before = client.counts()
        if dry:
            return Result(identity, (Check("alert", COULD_NOT_VERIFY, "in check mode none is sent"),))
        return Result(identity, _through(client, request, identity, before, now, log, sleep, monotonic))
    except IntegrityError as exc:
        return Result(identity, (Check("alertmanager", FAIL, str(exc)),))
    except LifeboatError as exc:
        return Result(identity, (Check("alertmanager", COULD_NOT_VERIFY, str(exc)),))


def _through(
    client: Client, request: Request, identity: str, before: Counts, now: datetime, log: Log,
    sleep: Callable[[float], None], monotonic: Callable[[], float],
) -> tuple[Check, ...]:  # fmt: skip
    labels = {"alertname": NAME, "severity": request.severity, "stack": request.stack, _LABEL: identity}
    annotations = {
        "summary": f"{request.stack}: this is a test of the alerts",
        "description": f"Nothing is wrong. Somebody runs lifeboat.dr.alert_test ({identity}).",
    }
    client.send(labels, annotations, now, now + _LASTS)
    log(f"sent {NAME} {identity}: {request.severity}, stack {request.stack}")
    deadline, good = monotonic() + request.seconds, False
    try:
        while True:
            found = tuple(_judged(client.find(_LABEL, identity), before, client.counts(), request, identity))
            # A failure is counted a moment after the end of its request: what passes is looked at twice.
            before_it, good = good, checks.verdict(found) == PASS
            if (good and before_it) or any(check.kind == "kept back" for check in found):
                return found
            if monotonic() >= deadline and not good:
                return found
            sleep(2.0)
    finally:
        _end(client, labels, annotations, now, log)


def _end(client: Client, labels: dict[str, str], annotations: dict[str, str], now: datetime, log: Log) -> None:
    try:
        client.send(labels, annotations, now, now + timedelta(seconds=1))
    except LifeboatError as exc:
        log(f"the alert ends by itself in {_LASTS}: {exc}")


def _judged(alert: Optional[Alert], before: Counts, after: Counts, request: Request, identity: str) -> Iterator[Check]:
    if alert is None:
        yield Check("route", FAIL, "Alertmanager took the alert, and does not have it")
        return
    if alert.status.state == "suppressed":
        by = ", ".join((*alert.status.silencedBy, *alert.status.inhibitedBy)) or "something"
        yield Check("kept back", FAIL, f"a silence or another alert keeps it back: {by}")
        return
    names = [receiver.name for receiver in alert.receivers]
    if not names:
        yield Check("route", COULD_NOT_VERIFY, "its route leads to no receiver")
    elif after.started != before.started:
        yield Check("alertmanager", FAIL, "it was started again in the middle, so that its counts say nothing")
    elif not after.sent and not request.arrived:
        words = f"Alertmanager does not count by receiver; start it with {alertmanager.FEATURE}, or give arrived"
        yield Check("delivery", COULD_NOT_VERIFY, words)
    elif after.sent:
        for name in names:
            yield from _sent(name, before, after, request)
    if request.arrived:
        yield _arrived(request.arrived, identity)


def _sent(receiver: str, before: Counts, after: Counts, request: Request) -> Iterator[Check]:
    integrations = sorted(integration for integration, name in after.sent if name == receiver)
    if not integrations:
        yield Check(receiver, COULD_NOT_VERIFY, "this receiver sends nowhere")
    for integration in integrations:
        name, key = f"{integration} of {receiver}", (integration, receiver)
        then, count = before.sent.get(key, alertmanager.Count()), after.sent[key]
        ended, failed = count.ended - then.ended, count.failed - then.failed
        if ended < 0 or not 0 <= failed <= ended:
            words = f"its counts went from {then.ended}, {then.failed} failed, to {count.ended}, {count.failed} failed"
            yield Check(name, FAIL, words)
        elif ended > failed:
            yield Check(name, PASS, f"the receiver took it: {ended - failed} of {ended} requests")
        elif failed:
            yield Check(name, FAIL, f"all {failed} requests failed; why: journalctl -u prometheus-alertmanager")
        else:
            yield Check(name, FAIL, f"no request ended within {request.seconds:.0f} s")


def _arrived(where: str, identity: str) -> Check:
    name = "arrived"
    try:
        text = _read(where)
    except web.ERRORS as exc:
        return Check(name, COULD_NOT_VERIFY, f"{_shown(where)} cannot be read: {getattr(exc, 'strerror', None) or exc}")
    if identity.encode() in text:
        return Check(name, PASS, f"{_shown(where)} has {identity}")
    return Check(name, FAIL, f"{_shown(where)} does not have {identity}")


def _read(where: str) -> bytes:
    if where.startswith(("http://", "https://")):
        answer = web.Http(redirects=web.ANYWHERE).exchange(where, timeout=10, most=_LARGEST, of_error=0)
        if not 200 <= answer.status < 300:
            raise OSError(f"it answers {answer.status}")
        return answer.body
    with Path(where).open("rb") as file:
        file.seek(max(0, Path(where).stat().st_size - _LARGEST))
        return file.read(_LARGEST)


def _shown(where: str) -> str:
    """Without what an address may carry as a secret."""
    return where.partition("?")[0] if "@" not in where else "what arrived"


def request_of(stack: str, severity: str, seconds: float, arrived: str) -> Request:
    if arrived and not arrived.startswith(("/", "http://", "https://")):
        cause = "it is neither an absolute path nor an http or https address"
        raise UsageError("look for what arrived", arrived, cause, "Correct arrived. Nothing was sent.")
    if not 1 <= seconds <= 3600:
        raise UsageError("wait for the alert", f"{seconds:g} s", "it must be from 1 to 3600", "Nothing was sent.")
    return Request(stack, severity, seconds, arrived)


def summary(results: Sequence[Check]) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in results if check.result != PASS)
