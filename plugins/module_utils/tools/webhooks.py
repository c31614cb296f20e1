# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notices by HTTP: a webhook of one's own, Slack, ntfy, PagerDuty. The address is a secret: no text here shows it.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, https://docs.ntfy.sh/publish/#publish-as-json,
https://developer.pagerduty.com/docs/events-api-v2/trigger-events/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from ..base import pipeline, typed, web
from ..base.clock import format_time
from ..base.errors import LifeboatError
from ..base.version import VERSION
from .notices import CRITICAL, INFO, MOST, TEST, WARNING, Notice, shortened

TIMEOUT = 10.0  # seconds for one read of an answer
_ANSWER = 2000  # bytes of it that are read
_SLACK = 3000  # characters of a text, of which Slack shows all
_NTFY = 3500  # bytes: from 4,096 on ntfy makes a file of them
_SUMMARY, _DEDUP = 1024, 255  # characters, PagerDuty's own limits
_PRIORITIES = {CRITICAL: 5, WARNING: 4, INFO: 3}
_TAGS = {CRITICAL: "rotating_light", WARNING: "warning", INFO: "white_check_mark"}


@dataclass(frozen=True)
class Request:
    url: str
    payload: object


def webhook(url: str, notice: Notice) -> Iterator[Request]:
    """Yield the notice as it is: a program reads it, and escapes what its own output needs."""
    yield Request(
        url,
        {
            "version": 1,
            "kind": notice.kind,
            "severity": notice.severity,
            "stack": notice.stack,
            "host": notice.host,
            "at": format_time(notice.at),
            "title": notice.title,
            "text": notice.text(),
            "failed": typed.plain(notice.failed),
            "lasting": typed.plain(notice.lasting),
            "well_again": typed.plain(notice.over),
        },
    )


def slack(url: str, notice: Notice) -> Iterator[Request]:
    """Yield plain text: no mention, no link and no format of Slack's can come from a name or a cause."""
    text = f"{notice.title}\n{notice.text()}"
    text = text if len(text) <= _SLACK else f"{text[: _SLACK - 1]}…"
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(letter, entity)
    quiet = {"mrkdwn": False, "parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False}
    yield Request(url, {"text": text, **quiet})


def ntfy(url: str, notice: Notice) -> Iterator[Request]:
    """Yield it as JSON to the server's root, as in a header no letter but ASCII is sure to arrive."""
    parts = urlsplit(url)
    yield Request(
        urlunsplit((parts.scheme, parts.netloc, "/", "", "")),
        {
            "topic": parts.path.strip("/"),
            "title": notice.title,
            "message": notice.text().encode()[:_NTFY].decode("utf-8", "ignore"),
            "priority": _PRIORITIES[notice.severity],
            "tags": [_TAGS[notice.severity]],
        },
    )


def pagerduty(url: str, key: str, notice: Notice) -> Iterator[Request]:
    """Yield an event for each trouble: an incident while it lasts, resolved when it is over. A test is both."""

    def event(action: str, name: str, **more: object) -> Request:
        dedup = shortened(f"lifeboat/{notice.stack}@{notice.host}/{name}", _DEDUP)
        return Request(url, {"routing_key": key, "event_action": action, "dedup_key": dedup, **more})

    def trigger(name: str, summary: str, severity: str, details: object) -> Request:
        payload = {
            "summary": shortened(summary, _SUMMARY),
            "source": shortened(notice.host, 64) or "unknown",
            "severity": severity,
            "timestamp": format_time(notice.at),
            "component": notice.stack,
            "custom_details": details,
        }
        return event("trigger", name, payload=payload, client="Lifeboat")

    if notice.kind == TEST:
        yield trigger(TEST, notice.title, INFO, {"text": notice.text()})
        yield event("resolve", TEST)
    for trouble in [*notice.failed, *notice.lasting][:MOST]:
        summary = f"{notice.stack} on {notice.host}: {trouble.name}: {trouble.detail}"
        yield trigger(trouble.key, summary, trouble.severity, {"text": "\n".join(trouble.lines)})
    for trouble in notice.over:
        yield event("resolve", trouble.key)


def post(request: Request, *, token: str = "", ca_bundle: str = "") -> str:
    """Send it. Return why it was not taken; empty: the receiver answered that it has it."""
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"lifeboat/{VERSION}"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        context = web.ssl_context(ca_bundle) if request.url.startswith("https:") else None
        http, body = web.Http(context), json.dumps(request.payload).encode()
        answer = http.exchange(request.url, body, headers, timeout=TIMEOUT, most=_ANSWER, of_error=_ANSWER)
    except LifeboatError as exc:
        return str(exc)
    except web.ERRORS as exc:
        return web.secret_cause(exc)
    if 200 <= answer.status < 300:
        return ""
    if 300 <= answer.status < 400:
        return f"it answered {answer.status} and sends elsewhere, which is not followed"
    return f"it answered {answer.status}: {pipeline.one_line(answer.body)}"
