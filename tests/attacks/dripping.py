#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: an application or an S3 server answers a byte now and then, so that no read ever waits long and the
client never ends.

It uses HTTP and command lines only. Each client gives a read fifteen seconds, as Lifeboat does; of S3 two seconds, as
with Lifeboat's minute and its three attempts this would take ten.

Usage: dripping.py product|unprotected body|chunk|trailer|listing|object DIRECTORY

product: `lifeboat transaction`; of S3 `lifeboat list`. unprotected: a script that gives a read fifteen seconds; of S3
boto3. Exit 0: it had not ended after PATIENCE.
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
S3_CLI = (
    "from ansible_collections.lifeboat.dr.plugins.module_utils.s3 import client;"
    f" client.connect.__kwdefaults__['patience'] = 2; {CLI}"
)
S3_SCRIPT = """
import sys, boto3, botocore.config
config = botocore.config.Config(read_timeout=2, connect_timeout=2)
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", config=config)
if sys.argv[2] == "listing":
    s3.list_objects_v2(Bucket="backup")
else:
    s3.get_object(Bucket="backup", Key="repository.json")["Body"].read()
"""
PATIENCE = 75  # seconds
EVERY = 5  # seconds between two bytes
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WAYS = {
    "body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
    "chunk": (CHUNKED + b"1;", b"a"),
    "trailer": (CHUNKED + b"1\r\n1\r\n0\r\n", b"X-A: b\r\n"),
}
XML = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 100000\r\n\r\n"
S3_WAYS = {"listing": (XML, b" "), "object": (WAYS["body"][0].replace(b"\r\n\r\n", b'\r\nETag: "e"\r\n\r\n'), b"x")}
LISTED = b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>shop/%s</Key><Size>9</Size><ETag>e</ETag>"
LISTED += b"<LastModified>2026-11-24T02:00:00Z</LastModified></Contents>"
LISTED += b"<CommonPrefixes><Prefix>shop/%s</Prefix></CommonPrefixes></ListBucketResult>"
LISTED %= (b"postgresql/db_backup_20261124_020000/manifest.json", b"postgresql/db_backup_20261124_020000/")
LISTING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(LISTED), LISTED)
NO_VERSIONS = b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def application(way: str, asked: list[float]) -> socket.socket:
    """Its listening socket; when it was asked is noted."""
    listener = socket.create_server(("127.0.0.1", 0))
    head, piece = {**WAYS, **S3_WAYS}[way]
    every = 0.5 if way in S3_WAYS else EVERY

    def answer(line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            request = line.recv(1 << 16)
            if way == "object" and b"?" in request.split(b" ")[1]:
                line.sendall(LISTING if b"list-type" in request else NO_VERSIONS)
                return
            asked.append(time.monotonic())
            line.sendall(head)
            while True:
                line.sendall(piece)
                time.sleep(every)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _from = listener.accept()
                threading.Thread(target=answer, args=(line,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def client(target: str, way: str, directory: Path, url: str) -> list[str]:
    if way in S3_WAYS:
        return s3_client(target, way, directory, url)
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


def s3_client(target: str, way: str, directory: Path, url: str) -> list[str]:
    if target == "unprotected":
        return [sys.executable, "-c", S3_SCRIPT, url, way]
    place = {"type": "s3", "bucket": "backup", "prefix": "shop", "endpoint_url": url}
    settings = {
        "stack": "shop",
        "runtime": {"type": "host", "project_directory": str(directory)},
        "repository": place,
        "database": {"service": "db", "name": "shop", "user": "postgres"},
    }
    (directory / "shop.json").write_text(json.dumps(settings))
    (directory / "shop.secrets.json").touch(mode=0o600)
    (directory / "shop.secrets.json").write_text(json.dumps({"s3_access_key": "a", "s3_secret_key": "b"}))
    return [sys.executable, "-c", S3_CLI, "list", "--config-directory", str(directory)]


def main() -> int:
    target, way, directory = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    asked: list[float] = []
    listener = application(way, asked)
    argv = client(target, way, directory, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    began = time.monotonic()
    environment = {**os.environ, **KEYS, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return 0
    print(f"ended after {time.monotonic() - began:.0f} s: {done.stdout}{done.stderr}", file=sys.stderr)
    if not asked or time.monotonic() - asked[0] < EVERY - (way in S3_WAYS):
        raise SystemExit("it did not wait for the answer, which proves nothing")
    return 1


if __name__ == "__main__":
    ended.end(main)
