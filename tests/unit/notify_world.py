# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers on loopback: an SMTP server as strict as RFC 5321 asks, and web servers that refuse what Slack, ntfy and
PagerDuty refuse by their documentation. Not those services themselves."""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import json
import re
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROUTING_KEY = "R0UT1NGKEY0123456789abcdefABCDEF"
SLACK_PATH = "/services/T000/B000/hunter2hunter2"
PASSWORD = "correct-horse-battery"
TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"  # the documentation's own example


def certificate(folder: Path) -> tuple[Path, Path]:
    """The certificate and the key of `localhost`, signed by itself."""
    made, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(made)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


@dataclass
class Mail:
    """One that the server took. lines: as they were sent between DATA and the dot, dots removed."""

    sender: str
    recipients: list[str]
    lines: list[bytes]
    secure: bool
    user: str

    @property
    def message(self) -> EmailMessage:
        parsed = email.message_from_bytes(b"\r\n".join(self.lines), policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def text(self) -> str:
        return str(self.message.get_content()).replace("\r\n", "\n")


@dataclass
class Smtp:
    """What the server does: the folder of its certificate, whether it offers STARTTLS, whom it refuses, whether it
    hangs, what it answers to the end of DATA. problems: where a client broke the protocol."""

    tls: tuple[Path, Path] | None = None
    offers_starttls: bool = True
    wrapped: bool = False
    wants_login: bool = False
    refused: tuple[str, ...] = ()
    end_of_data: str = "250 2.0.0 queued"
    hangs: bool = False
    mails: list[Mail] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    port: int = 0


class _Session:
    """RFC 5321, 4.1 to 4.5: the order of commands, CRLF alone, limits of lines, multi-line replies, dots."""

    def __init__(self, server: Smtp, connection: Any) -> None:
        self.server, self.connection, self.secure = server, connection, server.wrapped
        self.file = connection.makefile("rb")
        self.greeted, self.user = False, ""
        self.sender: str | None = None
        self.recipients: list[str] = []

    def say(self, *lines: str) -> None:
        *first, last = lines
        text = "".join(f"{line[:3]}-{line[4:]}\r\n" for line in first) + f"{last}\r\n"
        self.connection.sendall(text.encode())

    def read(self, most: int = 512) -> bytes | None:
        line = bytes(self.file.readline(2000))
        if not line:
            return None
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or len(line) > most:
            self.server.problems.append(f"a line that is none: {line[:80]!r}")
        return line[:-2]

    def serve(self) -> None:
        self.say("220 mx.test ESMTP", "220 no spam please")
        while (line := self.read()) is not None:
            verb, _, rest = line.decode("ascii", "replace").partition(" ")
            act = getattr(self, f"do_{verb.lower()}", None)
            if act is None:
                self.server.problems.append(f"an unknown command: {verb}")
                self.say("500 5.5.1 unknown")
            elif act(rest) is False:
                return

    def do_ehlo(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F.:]+\]", name):
            self.server.problems.append(f"EHLO {name}")
        self.greeted, self.sender, self.recipients = True, None, []
        offers = ["250 mx.test", "250 PIPELINING", "250 SIZE 10240000"]
        if self.server.tls and self.server.offers_starttls and not self.secure:
            offers.append("250 STARTTLS")
        if self.server.wants_login and self.secure:
            offers.append("250 AUTH PLAIN")
        self.say(*offers, "250 ENHANCEDSTATUSCODES")

    def do_starttls(self, rest: str) -> None:
        if not (self.greeted and self.server.tls and not self.secure):
            self.say("503 5.5.1 not now")
            return
        self.say("220 2.0.0 go ahead")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server.tls)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.file, self.secure, self.greeted = self.connection.makefile("rb"), True, False  # RFC 3207: EHLO again

    def do_auth(self, rest: str) -> None:
        if not self.secure:
            self.server.problems.append("AUTH in the clear")
            self.say("538 5.7.11 not without TLS")
            return
        _empty, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
        self.server.logins.append(user)
        if password != PASSWORD:
            self.say(f"535 5.7.8 {password} is wrong")  # a server that repeats what it was told
            return
        self.user = user
        self.say("235 2.7.0 welcome")

    def do_mail(self, rest: str) -> None:
        found = re.fullmatch(r"FROM:<([^<>\s]*)>( SIZE=\d+)?", rest, re.IGNORECASE)
        if not self.greeted or self.sender is not None or (self.server.wants_login and not self.user):
            self.say("503 5.5.1 not now")
        elif not found:
            self.server.problems.append(f"MAIL {rest}")
            self.say("501 5.5.4 syntax")
        else:
            self.sender = found[1]
            self.say("250 2.1.0 ok")

    def do_rcpt(self, rest: str) -> None:
        found = re.fullmatch(r"TO:<([^<>\s]+)>", rest, re.IGNORECASE)
        if self.sender is None:
            self.say("503 5.5.1 not now")
        elif not found:
            self.server.problems.append(f"RCPT {rest}")
            self.say("501 5.5.4 syntax")
        elif found[1] in self.server.refused:
            self.say("550 5.1.1 no such user", "550 5.1.1 <!channel> here")
        else:
            self.recipients.append(found[1])
            self.say("250 2.1.5 ok")

    def do_data(self, rest: str) -> None:
        if not self.recipients:
            self.say("503 5.5.1 nobody to send it to")
            return
        self.say("354 go ahead")
        lines: list[bytes] = []
        while (line := self.read(1000)) is not None and line != b".":
            if any(byte > 127 or byte == 0 for byte in line):
                self.server.problems.append(f"not ASCII, and 8BITMIME was not offered: {line[:80]!r}")
            lines.append(line[1:] if line.startswith(b".") else line)
        if self.server.hangs:
            self.server.release.wait(60)
            return
        self.server.mails.append(Mail(self.sender or "", self.recipients, lines, self.secure, self.user))
        self.sender, self.recipients = None, []
        self.say(self.server.end_of_data)

    def do_rset(self, rest: str) -> None:
        self.sender, self.recipients = None, []
        self.say("250 2.0.0 ok")

    def do_quit(self, rest: str) -> bool:
        self.say("221 2.0.0 bye")
        return False


@contextlib.contextmanager
def smtp(**settings: Any) -> Iterator[Smtp]:
    server = Smtp(**settings)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection: Any = self.request
            if server.wrapped:
                assert server.tls
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*server.tls)
                connection = context.wrap_socket(connection, server_side=True)
            session = _Session(server, connection)
            with contextlib.suppress(OSError):
                session.serve()
            session.file.close()
            session.connection.close()

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        server.port = port
        yield server
        server.release.set()


@contextlib.contextmanager
def _serving(server: Any) -> Iterator[int]:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Posted:
    path: str
    headers: dict[str, str]
    body: Any


Judge = Callable[[Posted], tuple[int, str]]


@dataclass
class Web:
    """taken: what was right and answered so. refused: why each other one was not. status: what is answered instead of
    the judgement, while it is not 0; -1 hangs."""

    url: str
    judge: Judge
    status: int = 0
    taken: list[Posted] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def web(judge: Judge) -> Iterator[Web]:
    made = Web("", judge)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            made.asked.append(self.path)
            if made.status == -1:
                made.release.wait(60)
                return
            try:
                posted = Posted(
                    self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(raw)
                )
                status, said = made.judge(posted)
            except ValueError as exc:
                status, said = 400, f"no JSON: {exc}"
            else:
                (made.taken.append(posted) if status < 300 and not made.status else made.refused.append(said))
            status, said = (made.status, f"no, {self.path}") if made.status else (status, said)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{made.url}/elsewhere")
            self.send_header("Content-Length", str(len(said.encode())))
            self.end_headers()
            self.wfile.write(said.encode())

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made
        made.release.set()


def any_json(posted: Posted) -> tuple[int, str]:
    known = {"version", "kind", "severity", "stack", "host", "at", "title", "text", "failed", "lasting", "well_again"}
    if set(posted.body) != known:
        return 422, f"keys {sorted(posted.body)}"
    return 200, ""


def slack(posted: Posted) -> tuple[int, str]:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors"""
    known = {"text", "mrkdwn", "parse", "link_names", "unfurl_links", "unfurl_media"}
    if posted.path != SLACK_PATH:
        return 404, "no_service"
    if not isinstance(posted.body, dict) or not set(posted.body) <= known:
        return 400, "invalid_payload"
    text = posted.body.get("text")
    if not isinstance(text, str) or not text:
        return 400, "no_text"
    # https://docs.slack.dev/messaging/formatting-message-text#escaping
    if "<" in text or ">" in text or re.search(r"&(?!(?:amp|lt|gt);)", text):
        return 400, f"markup: {text}"
    return (200, "ok") if len(text) <= 4000 else (400, "too long to be shown whole")


def ntfy(posted: Posted) -> tuple[int, str]:
    """https://docs.ntfy.sh/publish/#publish-as-json"""
    body, text, whole = posted.body, (str, bool), (int, bool)
    if posted.path != "/" or not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", str(body.get("topic", ""))):
        return 400, '{"code":40009,"http":400,"error":"invalid request: topic invalid"}'
    if posted.headers.get("authorization") != f"Bearer {TOKEN}":
        return 403, '{"code":40301,"http":403,"error":"forbidden"}'
    right = {"topic": text, "title": text, "message": text, "priority": whole, "tags": (list, bool)}
    if not all(name in right and isinstance(value, right[name][0]) for name, value in body.items()):
        return 400, '{"code":40024,"http":400,"error":"invalid request: JSON body invalid"}'
    if not 1 <= body["priority"] <= 5 or len(body["message"].encode()) > 4096:
        return 400, '{"code":40007,"http":400,"error":"invalid request"}'
    return 200, '{"id":"sPs71M8A2T","event":"message"}'


def pagerduty(posted: Posted) -> tuple[int, str]:
    """https://developer.pagerduty.com/docs/events-api-v2/trigger-events/"""
    body, wrong = posted.body, []
    if posted.path != "/v2/enqueue" or body.get("routing_key") != ROUTING_KEY:
        wrong.append("'routing_key' is invalid")
    if body.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        wrong.append("'event_action' is invalid")
    if len(body.get("dedup_key") or "") > 255 or (body.get("event_action") != "trigger" and not body.get("dedup_key")):
        wrong.append("'dedup_key' is invalid")
    if body.get("event_action") == "trigger":
        wrong += _payload_errors(body.get("payload") or {})
    if wrong:
        return 400, json.dumps({"status": "invalid event", "message": "Event object is invalid", "errors": wrong})
    return 202, json.dumps({"status": "success", "message": "Event processed", "dedup_key": body.get("dedup_key")})


def _payload_errors(payload: dict[str, Any]) -> Iterator[str]:
    for name in ("summary", "source", "severity"):
        if not isinstance(payload.get(name), str) or not payload[name]:
            yield f"'payload.{name}' is missing or blank"
    if payload.get("severity") not in ("critical", "warning", "error", "info"):
        yield "'payload.severity' is invalid"
    if len(payload.get("summary") or "") > 1024:
        yield "'payload.summary' is too long"
    try:
        datetime.fromisoformat(str(payload.get("timestamp")).replace("Z", "+00:00"))
    except ValueError:
        yield "'payload.timestamp' is invalid"
