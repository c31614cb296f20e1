# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for an S3 server that has a thousand buckets: SeaweedFS makes volumes for each, and takes minutes.

It is in memory, knows of S3 what a backup and a recovery ask for, checks no signature, and is a process of its own, so
that what it takes is not counted. With a pause it is far away.

    with running(pause=0.01) as store:
        store.fill({"a": {"key": "text"}, "empty": {}})
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Optional
from urllib.parse import parse_qs, quote, unquote, urlsplit

ACCESS_KEY, SECRET_KEY = "stand-in", "stand-in-secret-1"
PAGE = 1000
COUNTS = "/-/counts"
LOSE = "/-/lose"
FILL = "/-/fill"
VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
_KEPT = re.compile(r"content-type|cache-control|content-(?:disposition|encoding|language)|expires|x-amz-meta-.*")


@dataclass
class _Version:
    id: str
    body: bytes
    headers: Mapping[str, str]
    at: float
    deleted: bool = False

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


@dataclass
class _Bucket:
    keys: dict[str, list[_Version]] = field(default_factory=dict)  # the newest version last
    told: dict[str, bytes] = field(default_factory=dict)  # a setting's XML, by the name of its request


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet, else each answer waits 40 ms for the other side's acknowledgement
    server_version = sys_version = ""
    buckets: dict[str, _Bucket]
    lock: threading.Lock
    counts: Counter[str]
    busy: list[int]
    pause: float
    number: list[int]

    def log_message(self, *_: object) -> None:
        """It is quiet."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if parts.path == COUNTS:
            with self.lock:
                objects = sum(len(one.keys) for one in self.buckets.values())
                said = json.dumps({"requests": 0, "at once": 0, **self.counts, "objects": objects})
                self.counts.clear()
            self._say(200, said.encode())
            return
        if parts.path == FILL:
            with self.lock:
                for name, keys in json.loads(body).items():
                    made = self.buckets.setdefault(name, _Bucket(told={"versioning": VERSIONED}))
                    for key, text in keys.items():
                        self.number[0] += 1
                        made.keys[key] = [_Version(f"v{self.number[0]}", text.encode(), {}, time.time())]
            self._say(200)
            return
        with self.lock:
            self.busy[0] += 1
            self.counts["requests"] += 1
            self.counts["at once"] = max(self.counts["at once"], self.busy[0])
        try:
            time.sleep(self.pause)
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
            if parts.path == LOSE:
                with self.lock:
                    self.buckets.clear()
                self._say(200)
            elif not bucket:
                names = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in sorted(self.buckets))
                self._say(200, f"<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>".encode())
            elif self.command == "PUT" and not key and not query:
                with self.lock:
                    self.buckets.setdefault(bucket, _Bucket())
                self._say(200)
            elif bucket not in self.buckets:
                self._refuse(404, "NoSuchBucket")
            elif key:
                self._object(self.buckets[bucket], key, query, body)
            else:
                self._whole(self.buckets[bucket], query, body)
        finally:
            with self.lock:
                self.busy[0] -= 1

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _whole(self, bucket: _Bucket, query: Mapping[str, str], body: bytes) -> None:
        kind = next((name for name in ("versioning", "tagging", "lifecycle", "policy", "cors") if name in query), "")
        if "versions" in query or "list-type" in query:
            self._list(bucket, query, versions="versions" in query)
        elif "uploads" in query:
            self._say(200, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
        elif self.command == "HEAD":
            self._say(200)
        elif self.command == "PUT" and kind:
            bucket.told[kind] = body
            self._say(200)
        elif kind in bucket.told:
            self._say(200, bucket.told[kind])
        elif kind == "versioning":
            self._say(200, b"<VersioningConfiguration></VersioningConfiguration>")
        else:
            absent = {"tagging": "NoSuchTagSet", "lifecycle": "NoSuchLifecycleConfiguration",
                      "policy": "NoSuchBucketPolicy", "cors": "NoSuchCORSConfiguration"}  # fmt: skip
            self._refuse(*((404, absent[kind]) if kind in absent else (501, "NotImplemented")))

    def _list(self, bucket: _Bucket, query: Mapping[str, str], *, versions: bool) -> None:
        with self.lock:
            found = [
                (key, held, held is several[-1])
                for key, several in sorted(bucket.keys.items())
                for held in reversed(several)
                if key.startswith(query.get("prefix", "")) and (versions or (held is several[-1] and not held.deleted))
            ]
        start = int(query.get("version-id-marker") or query.get("continuation-token") or 0)
        page, more = found[start : start + PAGE], len(found) > start + PAGE
        rows = "".join(
            f"<{'DeleteMarker' if held.deleted else 'Version' if versions else 'Contents'}><Key>{quote(key)}</Key>"
            f"<VersionId>{held.id}</VersionId><IsLatest>{str(latest).lower()}</IsLatest><LastModified>"
            f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(held.at))}</LastModified>"
            f"<ETag>&quot;{held.etag}&quot;</ETag><Size>{len(held.body)}</Size>"
            f"</{'DeleteMarker' if held.deleted else 'Version' if versions else 'Contents'}>"
            for key, held, latest in page
        )
        root = "ListVersionsResult" if versions else "ListBucketResult"
        marks = (
            f"<NextKeyMarker>{quote(page[-1][0])}</NextKeyMarker><NextVersionIdMarker>{start + PAGE}"
            f"</NextVersionIdMarker><NextContinuationToken>{start + PAGE}</NextContinuationToken>"
            if more
            else ""
        )
        head = f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{marks}"
        self._say(200, f"<{root}>{head}{rows}</{root}>".encode())

    def _object(self, bucket: _Bucket, key: str, query: Mapping[str, str], body: bytes) -> None:
        with self.lock:
            several = bucket.keys.setdefault(key, []) if self.command == "PUT" else bucket.keys.get(key, [])
            if self.command in ("PUT", "DELETE") and "versionId" not in query:
                versioned = b"Enabled" in bucket.told.get("versioning", b"")
                self.number[0] += 1
                headers = {name.lower(): value for name, value in self.headers.items() if _KEPT.fullmatch(name.lower())}
                made = _Version(f"v{self.number[0]}" if versioned else "null", body, headers, time.time())
                made.deleted = self.command == "DELETE"
                if not versioned:
                    several.clear()
                if versioned or not made.deleted:
                    several.append(made)
                if not several:
                    bucket.keys.pop(key, None)
                found: Optional[_Version] = made
            else:
                wanted = query.get("versionId") or (several[-1].id if several else "")
                found = next((one for one in several if one.id == wanted and not one.deleted), None)
                if self.command == "DELETE" and found:
                    several.remove(found)
        if found is None:
            self._refuse(404, "NoSuchKey")
        elif "tagging" in query:
            self._say(200, b"<Tagging><TagSet></TagSet></Tagging>")
        elif self.command in ("GET", "HEAD"):
            modified = formatdate(found.at, usegmt=True)
            said = {**found.headers, "x-amz-tagging-count": "0", "last-modified": modified}
            self._say(200, found.body, etag=found.etag, version=found.id, headers=said)
        else:
            self._say(200 if self.command == "PUT" else 204, etag=found.etag, version=found.id)

    def _refuse(self, status: int, code: str) -> None:
        self._say(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _say(
        self,
        status: int,
        body: bytes = b"",
        etag: str = "",
        version: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if version not in ("", "null"):
            self.send_header("x-amz-version-id", version)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Store:
    """The server, from outside."""

    access_key, secret_key = ACCESS_KEY, SECRET_KEY

    def __init__(self, url: str) -> None:
        self.url = url

    def lose(self) -> None:
        """Everything that is in it."""
        self._ask(LOSE)

    def fill(self, found: Mapping[str, Mapping[str, str]]) -> None:
        """Make buckets that keep versions. found: by bucket and key, what is in each object."""
        self._ask(FILL, json.dumps(found).encode())

    def counts(self) -> dict[str, int]:
        """What it was asked since this was called last: `requests`, and how many of them `at once`; its `objects`."""
        return dict(json.loads(self._ask(COUNTS)))

    def _ask(self, path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(f"{self.url}{path}", body)  # noqa: S310 - a scheme was given
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def running(pause: float = 0.0) -> Iterator[Store]:
    """A server of one's own. pause: seconds that it takes for an answer."""
    argv = [sys.executable, __file__, f"--pause={pause}"]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield Store(process.stdout.readline().strip())
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for an S3 server; it says its address.")
    parser.add_argument("--pause", type=float, default=0.0)
    state = {"buckets": {}, "lock": threading.Lock(), "counts": Counter(), "busy": [0], "number": [0]}
    handler = type("Handler", (_Handler,), {**state, "pause": parser.parse_args().pause})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{listener.server_address[1]}", flush=True)
        sys.stdin.read()  # it does not outlive who started it


if __name__ == "__main__":
    main()
