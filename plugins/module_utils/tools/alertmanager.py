# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few questions that an alert test asks Alertmanager: its API v2, and its own counts of what it sent.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml. What it counts by receiver it counts only with
`--enable-feature=receiver-name-in-metrics` (0.27 and later).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Callable, Optional
from urllib.parse import urlencode, urlsplit

from ..base import typed, web
from ..base.errors import IntegrityError, UnverifiedError, UsageError
from ..base.version import VERSION

FEATURE = "--enable-feature=receiver-name-in-metrics"
AHEAD = 300  # seconds that the clocks of two hosts may differ
_ANSWER = 32 << 20
_TIMEOUT = 10.0
_REMEDY = "Look at Alertmanager: systemctl status prometheus-alertmanager. Then run it again."
_COUNT = re.compile(r"alertmanager_notification_requests_(failed_)?total\{(.*)\} (\S+)(?: (-?\d+))?")
_STARTED = re.compile(r"process_start_time_seconds (\S+)(?: -?\d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Count:
    """Requests that ended, and those of them that failed: counted when the receiver has answered."""

    ended: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Counts:
    """started: of the process, which counts from 0. sent: by integration (slack, email) and receiver; empty where
    Alertmanager does not tell receivers apart."""

    started: float
    sent: Mapping[tuple[str, str], Count]


@dataclass(frozen=True)
class Receiver:
    name: str


@dataclass(frozen=True)
class Status:
    """state: active, suppressed or unprocessed."""

    state: str
    silencedBy: tuple[str, ...] = ()
    inhibitedBy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alert:
    """As Alertmanager has it. receivers: where its route leads."""

    status: Status
    receivers: tuple[Receiver, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


class Client:
    def __init__(self, url: str, *, now: Callable[[], float] = time.time, timeout: float = _TIMEOUT) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # http://[::1
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            cause = "it is not an http or https address without a password in it"
            raise UsageError("ask Alertmanager", url, cause, "Give one such as http://127.0.0.1:9093.")
        self._url, self._now, self._timeout = url.rstrip("/"), now, timeout
        self._http = web.Http(proxies=False)

    def counts(self) -> Counts:
        """Raises IntegrityError where a figure is none: nothing can be concluded from the others then."""
        text = self._ask("read what Alertmanager has sent", "/metrics").decode("utf-8", "replace")
        started, found = math.nan, dict[tuple[str, str], Count]()
        for line in text.splitlines():
            begun, count = _STARTED.fullmatch(line), _COUNT.fullmatch(line)
            if begun:
                started = self._figure("process_start_time_seconds", begun[1])
            if count is None:
                continue
            labels = dict(_LABEL.findall(count[2]))
            value = self._figure(line.partition(" ")[0], count[3])
            if count[4] and int(count[4]) / 1000 > self._now() + AHEAD:
                raise self._no_figure(line.partition(" ")[0], f"it is of the future: {count[4]}")
            key = labels.get("integration", ""), labels.get("receiver_name", "")
            if all(key):
                before = found.get(key, Count())
                found[key] = Count(before.ended, int(value)) if count[1] else Count(int(value), before.failed)
        if math.isnan(started):
            raise self._no_figure("process_start_time_seconds", "it is missing")
        if started > self._now() + AHEAD:
            raise self._no_figure("process_start_time_seconds", f"it is of the future: {started:.0f}")
        return Counts(started, found)

    def send(self, labels: Mapping[str, str], annotations: Mapping[str, str], begun: datetime, ends: datetime) -> None:
        times = {"startsAt": _time(begun), "endsAt": _time(ends)}
        body = json.dumps([{"labels": dict(labels), "annotations": dict(annotations), **times}]).encode()
        self._ask("send an alert to Alertmanager", "/api/v2/alerts", body)

    def find(self, label: str, value: str) -> Optional[Alert]:
        """The alert that has this label; None where Alertmanager has none."""
        attempted = "look for the alert in Alertmanager"
        answer = self._ask(attempted, "/api/v2/alerts?" + urlencode({"filter": f'{label}="{value}"'}))

        def wrong(name: str, cause: str) -> UnverifiedError:
            return UnverifiedError(attempted, self._url, f"{name} {cause}: is this Alertmanager's API v2?", _REMEDY)

        alerts = typed.build(tuple[Alert, ...], typed.load(answer, wrong), wrong, unknown="ignore")
        return next((alert for alert in alerts if alert.labels.get(label) == value), None)

    def _figure(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise self._no_figure(name, f"{text[:40]} is not a count")
        return value

    def _no_figure(self, name: str, cause: str) -> IntegrityError:
        return IntegrityError("read what Alertmanager has sent", f"{self._url}/metrics", f"{name}: {cause}", _REMEDY)

    def _ask(self, attempted: str, path: str, body: Optional[bytes] = None) -> bytes:
        headers = {"User-Agent": f"lifeboat/{VERSION}", "Content-Type": "application/json"}
        try:
            answer = self._http.exchange(
                self._url + path, body, headers, timeout=self._timeout, most=_ANSWER, of_error=300
            )
        except web.ERRORS as exc:
            raise UnverifiedError(attempted, self._url, web.cause(exc), _REMEDY) from exc
        if 200 <= answer.status < 300:
            return answer.body
        said = " ".join(answer.body.decode("utf-8", "replace").split())
        raise UnverifiedError(attempted, self._url, f"it answered {answer.status}: {said}", _REMEDY)


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
