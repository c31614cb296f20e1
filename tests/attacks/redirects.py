#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who holds the application sends a drill's request on to a server of his own, and reads its credentials.

It uses HTTP and a command line only. The application answers every request with a redirect: to another host, and to
another port of its own host, which another user of the machine may listen on. Both note what they are sent.

Usage: redirects.py product|unprotected DIRECTORY

product: `lifeboat transaction`, as a drill's writer runs it, once as it comes and once told to follow redirects.
unprotected: the same requests with Python's own client. Prints who was sent what, a line each. Exit 0: somebody was.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
AUTHORIZATION, HEADER = "Bearer canary-authorization", "canary-header"
CANARIES = {AUTHORIZATION: "the header Authorization", HEADER: "another header", "canary-body": "the body"}


class Server(ThreadingHTTPServer):
    """sends_on: where each request is sent on to; empty: it is taken. got: the canaries that it was sent."""

    def __init__(self, sends_on: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sends_on = sends_on
        self.asked = 0
        self.got: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        told = f"{self.headers}{self.rfile.read(int(self.headers.get('Content-Length') or 0)).decode()}"
        self.server.asked += 1
        self.server.got |= {what for canary, what in CANARIES.items() if canary in told}
        self.send_response(302 if self.server.sends_on else 200)
        if self.server.sends_on:
            self.send_header("Location", f"{self.server.sends_on}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Its port."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield str(server.server_port)
        server.shutdown()


def unprotected(directory: Path, url: str) -> None:
    headers = {"Authorization": AUTHORIZATION, "X-Token": HEADER}
    for data in (None, b"canary-body"):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers))  # noqa: S310 - our own server


def product(directory: Path, url: str) -> None:
    for redirects in (False, True):
        asked = {"url": f"{url}/{{token}}", "headers": {"X-Token": HEADER}, "redirects": redirects}
        write = {**asked, "method": "POST", "json": {"a": "canary-body"}}
        settings = {
            "stack": "shop",
            "runtime": {"type": "host", "project_directory": str(directory)},
            "repository": {"type": "local", "path": str(directory / "backup")},
            "drill": {
                "transactions": [
                    {"name": "first", "write": write, "read": asked},
                    {"name": "second", "write": {**asked, "method": "GET"}, "read": asked},
                ]
            },
        }
        (directory / "shop.json").write_text(json.dumps(settings))
        (directory / "shop.secrets.json").write_text(json.dumps({"drill_authorization": AUTHORIZATION}))
        words = [sys.executable, "-c", CLI, "transaction", "--config-directory", str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
        print(done.stdout + done.stderr, file=sys.stderr)
        if "first" not in done.stdout:
            raise SystemExit("the command did not run, which proves nothing")


CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"


def main() -> int:
    target, directory = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2])
    lines = []
    for name, where in (("another host", "localhost"), ("another port", "127.0.0.1")):
        listener, application = Server(), Server()
        with serving(listener) as port, serving(application) as own:
            application.sends_on = f"http://{where}:{port}"
            target(directory, f"http://127.0.0.1:{own}")
        if application.got != set(CANARIES.values()):
            raise SystemExit("the application itself was not sent everything: there was nothing to take")
        lines += [f"{name}: {what}" for what in sorted(listener.got)]
        print(f"{name}: asked {listener.asked} times", file=sys.stderr)
    print("\n".join(lines))
    return 0 if lines else 1


if __name__ == "__main__":
    ended.end(main)
