#!/usr/bin/env python3
"""Stand-ins for what Alertmanager sends to, and a dead-man's switch: no products, but what their documentation says.

POST /slack      https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: answers `ok`
POST /pagerduty  https://developer.pagerduty.com/docs/send-alert-event: answers 202
POST /opsgenie/v2/alerts  https://docs.opsgenie.com/docs/alert-api: answers 202, also to /ALIAS/close below it
POST /teams      https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors: answers 202
POST /ping/NAME  https://healthchecks.io/docs/http_api/: answers `OK`
GET  /got        what arrived and was taken, a JSON line each, with the time
GET  /switch/NAME  up or down: down where it heard of a failure, or nothing for GRACE seconds
GET  /refused    what did not keep to the contract

Usage: receivers.py PORT
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOT: list[dict[str, Any]] = []
REFUSED: list[dict[str, Any]] = []
LOCK = threading.Lock()
GRACE = 20  # seconds
SEVERITIES = ("critical", "warning", "error", "info")


def slack(body: Any) -> str:
    """What is wrong with it; empty: nothing."""
    if not isinstance(body, dict):
        return "invalid_payload"
    texts = [body.get("text"), *(part.get("text") for part in body.get("attachments", ()))]
    return "" if any(texts) else "no_text"


def pagerduty(body: Any) -> str:
    if not isinstance(body, dict):
        return "Event object is invalid"
    if len(str(body.get("routing_key", ""))) != 32:
        return "routing_key must be 32 characters"
    if body.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        return "event_action must be trigger, acknowledge or resolve"
    if body["event_action"] != "trigger":
        return "" if body.get("dedup_key") else "dedup_key is required"
    payload = body.get("payload", {})
    if not payload.get("summary") or len(payload["summary"]) > 1024 or not payload.get("source"):
        return "payload needs a summary of at most 1024 characters, and a source"
    return "" if payload.get("severity") in SEVERITIES else "severity must be one of critical, warning, error, info"


def opsgenie(path: str, key: str, body: Any) -> str:
    parts, _question, query = path.partition("?")
    below = parts.split("/")[2:]
    if key != f"GenieKey {'0' * 8}-{'0' * 4}-{'0' * 4}-{'0' * 4}-{'0' * 12}":
        return "Could not authenticate"
    if not isinstance(body, dict):
        return "Request body is not processable"
    if below[:2] == ["v2", "alerts"] and below[3:] == ["close"]:
        return "" if below[2] and query == "identifierType=alias" else "identifier is not an alias"
    if below != ["v2", "alerts"]:
        return "no such endpoint"
    if not 0 < len(body.get("message", "")) <= 130:
        return "Message can not be empty, and has at most 130 characters"
    if len(body.get("alias", "")) > 512 or len(body.get("description", "")) > 15000:
        return "alias has at most 512 characters, description 15000"
    return "" if body.get("priority") in ("P1", "P2", "P3", "P4", "P5") else "Priority should be one of P1 to P5"


def teams(body: Any) -> str:
    cards = body.get("attachments", ()) if isinstance(body, dict) and body.get("type") == "message" else ()
    if not cards:
        return "Property 'type' must be 'message', with attachments"
    for card in cards:
        content = card.get("content", {})
        kinds = card.get("contentType"), content.get("type")
        if kinds != ("application/vnd.microsoft.card.adaptive", "AdaptiveCard"):
            return "it is no adaptive card"
        if not content.get("version") or not any(part.get("text") for part in content.get("body", ())):
            return "the card says nothing"
    return ""


def switch(name: str, now: float) -> str:
    """As healthchecks.io judges: a start says nothing yet, and an exit status other than 0 is a failure."""
    pings = [(line["at"], line["to"].partition("?")[0]) for line in GOT if line["to"].startswith(f"ping/{name}")]
    ends = [(at, to.removeprefix(f"ping/{name}").lstrip("/")) for at, to in pings if not to.endswith("/start")]
    return "up" if ends and ends[-1][1] in ("", "0") and now - ends[-1][0] <= GRACE else "down"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8")
        kind = self.path.split("/")[1].partition("?")[0]
        body: Any = text
        wrong = ""
        if kind != "ping":
            try:
                body = json.loads(text)
            except ValueError:
                body = None
            if kind == "opsgenie":
                wrong = opsgenie(self.path, self.headers.get("Authorization", ""), body)
            else:
                known = {"slack": slack, "pagerduty": pagerduty, "teams": teams}
                wrong = known.get(kind, lambda _body: "no such receiver")(body)
        with LOCK:
            (REFUSED if wrong else GOT).append(
                {"at": time.time(), "to": self.path.lstrip("/"), "body": body, **({"wrong": wrong} if wrong else {})}
            )
        if wrong:
            self.answer(400, wrong)
        elif kind == "pagerduty":
            self.answer(202, json.dumps({"status": "success", "message": "Event processed"}))
        elif kind == "opsgenie":
            self.answer(202, json.dumps({"result": "Request will be processed", "took": 0.1, "requestId": "0"}))
        elif kind == "teams":
            self.answer(202, "")
        else:
            self.answer(200, "ok" if kind == "slack" else "OK")

    def do_GET(self) -> None:
        if self.path.startswith("/switch/"):
            with LOCK:
                state = switch(self.path.removeprefix("/switch/"), time.time())
            self.answer(200, state)
            return
        with LOCK:
            found = list(GOT if self.path == "/got" else REFUSED)
        self.answer(200, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found))

    def answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_words: object) -> None:
        """The journal has no use for it."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Receiver).serve_forever()  # noqa: S104 - the lab's own network
