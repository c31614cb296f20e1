# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy before a real S3 server that answers some requests wrongly. What it lets through, the server really does.

with faulty(server, lambda call: DENIED if call.method == "PUT" else None) as proxy:
    Bucket("uploads", proxy.url, ...)

with faulty(server, edit=s3_quirks.rgw_markers) as proxy: ...  # answers as another server would give them
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from s3_servers import Server

HOP = ("connection", "transfer-encoding", "keep-alive", "date", "server")


@dataclass(frozen=True)
class Call:
    """One request, and how many came before it. Headers by lower-case name."""

    method: str
    path: str
    number: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    @property
    def key(self) -> str:
        """Empty: it is about the bucket."""
        return unquote(urlsplit(self.path).path.lstrip("/").partition("/")[2])

    @property
    def access_key(self) -> str:
        signed = re.search(r"Credential=([^/]*)/", self.headers.get("authorization", ""))
        return signed[1] if signed else ""


@dataclass(frozen=True)
class Reply:
    """What is said instead. `pause`: seconds before it. `clock`: all is true but the time, by so many seconds."""

    status: int = 200
    body: str | bytes = ""
    pause: float = 0.0
    clock: float = 0.0
    kind: str = "application/xml"
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str, **more: Any) -> Reply:
    return Reply(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>no</Message></Error>", **more)


Fault = Callable[[Call], "Reply | None"]
Edit = Callable[[Call, bytes], bytes]  # what is made of the body of the server's own answer
EditHeaders = Callable[[Call, "dict[str, str]"], "dict[str, str]"]  # and of its headers, by lower-case name


@dataclass
class Proxy:
    """`fault` may be exchanged while it runs; `calls` are those that came."""

    server: Server
    fault: Fault
    edit: Edit
    name: str = ""  # what it calls itself in its answers
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    without: Collection[str] = ()  # headers that its answers lack, as where a server does not keep them
    edit_headers: EditHeaders = lambda call, headers: headers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def faulty(
    server: Server, fault: Fault = lambda call: None, edit: Edit = lambda call, body: body, calls_itself: str = ""
) -> Iterator[Proxy]:
    proxy = Proxy(server, fault, edit, calls_itself)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def version_string(self) -> str:
            return proxy.name or super().version_string()

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):  # who waited too long has gone
                super().handle_one_request()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            with lock:
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, self.path, len(proxy.calls), headers, body)
                proxy.calls.append(call)
            reply = proxy.fault(call)
            if reply is None or reply.clock:
                self.pass_on(call, reply.clock if reply else 0.0)
                return
            time.sleep(reply.pause)
            self.send_response(reply.status)
            data = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(data)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def pass_on(self, call: Call, clock: float) -> None:
            far = http.client.HTTPConnection("127.0.0.1", proxy.server.port, timeout=30)
            with contextlib.closing(far):
                far.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in HOP:
                        far.putheader(name, value)
                far.endheaders(call.body or None)
                told = far.getresponse()
                data = proxy.edit(call, told.read())
            self.send_response_only(told.status)
            self.send_header("Date", email.utils.formatdate(time.time() + clock, usegmt=True))
            if proxy.name:
                self.send_header("Server", proxy.name)
            of_answer = {name.lower(): value for name, value in told.getheaders()}
            for name, value in proxy.edit_headers(call, of_answer).items():
                if name not in (*HOP, *proxy.without) and (name != "content-length" or self.command == "HEAD"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        listener.block_on_close = False
        proxy.port = listener.server_address[1]
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            listener.shutdown()
