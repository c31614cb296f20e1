#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: an application answers a drill with its own secrets, as many do where they fail, and a report shows them.

It uses HTTP and command lines only. Each answer holds secrets in the forms in which frameworks, databases and clouds
tell them. What the command prints, writes into its log and gives as JSON is searched for them.

Usage: telling.py product|unprotected DIRECTORY

product: `lifeboat transaction`, as text and as JSON. unprotected: a script that prints why a request failed. Prints
the form of each secret that got out, a line each. Exit 0: one did.
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
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
# Short: of an answer the first 120 characters are shown.
ANSWERS = {
    "JSON": '{"error": "no row", "password": "canary"}',
    "JSON in JSON": r'{"error": "{\"password\": \"canary\"}"}',
    "a Python dictionary": "{'secret': 'canary', 'host': 'db'}",
    "SQL": "ALTER ROLE app PASSWORD 'canary'",
    "a verifier": "app SCRAM-SHA-256$4096:canary$canary:canary",
    "an age identity": "AGE-SECRET-KEY-1CANARY",
    "a private key": "-----BEGIN PRIVATE KEY-----\ncanary\n",
    "an address": "postgresql://app:canary@db/shop",
    "a token in an address": "GET /login?token=canary&next=/",
    "a signature": "https://s3/x?X-Amz-Signature=canary0123456789",
    "a header": "Authorization: Bearer canarycanary",
    "a cookie": "Set-Cookie: sid=canary",
    "a command line": "tool --password canary --list",
    "XML": "<SecretAccessKey>canary</SecretAccessKey>",
    "the drill's own": "who is canary correct horse?",  # from its own secrets
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        number = int(self.path.split("/")[1])
        body = (
            list(ANSWERS.values())[number].replace("canary", canary(number)).replace("CANARY", canary(number).upper())
        )
        self.send_response(500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


def canary(number: int) -> str:
    """The word to look for, a different one in each answer."""
    return f"canary{number:02d}"


@contextlib.contextmanager
def application() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def unprotected(directory: Path, url: str) -> str:
    told = ""
    for number in range(len(ANSWERS)):
        try:
            urllib.request.urlopen(f"{url}/{number}/")  # noqa: S310 - our own server
        except urllib.error.HTTPError as exc:
            told += f"could not write: {exc.read().decode()}\n"
    return told


OWN = f"{canary(len(ANSWERS) - 1)} correct horse"


def product(directory: Path, url: str) -> str:
    asked = [{"url": f"{url}/{number}/{{token}}"} for number in range(len(ANSWERS))]
    settings = {
        "stack": "shop",
        "runtime": {"type": "host", "project_directory": str(directory)},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "drill": {"transactions": [{"name": f"t{n}", "write": each, "read": each} for n, each in enumerate(asked)]},
    }
    (directory / "shop.json").write_text(json.dumps(settings))
    (directory / "shop.secrets.json").write_text(json.dumps({"drill_authorization": OWN}))
    told = ""
    for words in ([], ["--json"]):
        argv = [sys.executable, "-c", CLI, "transaction", *words, "--config-directory", str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
        if done.stdout.count("status 500") != len(ANSWERS):
            raise SystemExit(f"the command did not tell the answers, which proves nothing: {done.stderr}")
        told += done.stdout + done.stderr
    return told


def main() -> int:
    target, directory = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2])
    with application() as url:
        told = target(directory, url).lower()
    out = [form for number, form in enumerate(ANSWERS) if canary(number) in told]
    print("\n".join(out))
    print(f"searched for the secrets of {len(ANSWERS)} answers", file=sys.stderr)
    return 0 if out else 1


if __name__ == "__main__":
    ended.end(main)
