#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: an application answers a byte now and then, so that no read ever waits long and whoever asks never ends.

It uses HTTP and command lines only. Each client gives a read fifteen seconds, as Lifeboat does.

Usage: dripping.py product|unprotected body|chunk|trailer DIRECTORY

product: `lifeboat transaction`. unprotected: a script that gives a read fifteen seconds. Exit 0: it had not ended after
PATIENCE.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
SCRIPT = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=15).read()"
PATIENCE = 75  # seconds
EVERY = 5  # seconds between two bytes
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WAYS = {
    "body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
    "chunk": (CHUNKED + b"1;", b"a"),
    "trailer": (CHUNKED + b"1\r\n1\r\n0\r\n", b"X-A: b\r\n"),
}


def application(way: str, asked: list[float]) -> socket.socket:
    """Its listening socket; when it was asked is noted."""
    listener = socket.create_server(("127.0.0.1", 0))
    head, piece = WAYS[way]

    def answer(line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.recv(1 << 16)
            asked.append(time.monotonic())
            line.sendall(head)
            while True:
                line.sendall(piece)
                time.sleep(EVERY)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _from = listener.accept()
                threading.Thread(target=answer, args=(line,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def client(target: str, directory: Path, url: str) -> list[str]:
    if target == "unprotected":
        return [sys.executable, "-c", SCRIPT, url]
    settings = {
        "stack": "shop",
        "runtime": {"type": "host", "project_directory": str(directory)},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "drill": {
            "transactions": [{"name": "one", "write": {"url": f"{url}{{token}}"}, "read": {"url": f"{url}{{token}}"}}]
        },
    }
    (directory / "shop.json").write_text(json.dumps(settings))
    return [sys.executable, "-c", CLI, "transaction", "--config-directory", str(directory)]


def main() -> int:
    target, way, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    asked: list[float] = []
    listener = application(way, asked)
    argv = client(target, directory, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return 0
    print(f"ended after {time.monotonic() - began:.0f} s: {done.stdout}{done.stderr}", file=sys.stderr)
    if not asked or time.monotonic() - asked[0] < EVERY:
        raise SystemExit("it did not wait for the answer, which proves nothing")
    return 1


if __name__ == "__main__":
    ended.end(main)
