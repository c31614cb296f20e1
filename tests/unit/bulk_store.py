#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of Elasticsearch and OpenSearch for lines, templates and lifecycles: not the products, but what is
published of them, with the errors as they name them.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk. The unit tests use it in their own process.
A lab host runs it as a program (molecule/watch/files/bulk.service), which keeps its documents over a restart.

Usage: bulk_store.py PORT DIRECTORY

DIRECTORY/documents.ndjson   {"_id": …, "_source": …}, each that was created
DIRECTORY/bodies.ndjson      every request, as it came
DIRECTORY/objects.json       templates and lifecycles, by their paths
"""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socketserver
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Optional

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
TEMPLATE = "/_index_template/"
LIFECYCLE = {"opensearch": "/_plugins/_ism/policies/", "elasticsearch": "/_ilm/policy/"}
_STREAM, _BACKING = "logs-lifeboat-default", ".ds-logs-lifeboat-default-000001"
# By product: how it calls what is odd in a document, and that it has no room.
_ODD = {"opensearch": "mapper_parsing_exception", "elasticsearch": "document_parsing_exception"}
_BUSY = {"opensearch": "rejected_execution_exception", "elasticsearch": "es_rejected_execution_exception"}
_WHOLE = {
    400: "illegal_argument_exception", 401: "security_exception", 403: "security_exception",
    404: "resource_not_found_exception", 409: "version_conflict_engine_exception", 429: "circuit_breaking_exception",
    503: "cluster_block_exception",
}  # fmt: skip


class Bulk:
    """A store. down: what every request is answered. busy: so many items get 429, each once, or as often as they come
    where it is `always`. odd: a line with this word gets 400. denied: whoever asks for this header's value gets 403
    for anything but lines. In a process of its own it has no template yet."""

    def __init__(self, directory: Optional[Path] = None) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.down, self.busy, self.lost_answers = 0, 0, 0
        self.refused: set[str] = set()
        self.always, self.odd = False, "never"
        self.product, self.denied = "opensearch", "nobody"
        self.objects: dict[str, Any] = {} if directory else {f"{TEMPLATE}lifeboat": {"data_stream": {}}}
        self.plain_index: Optional[bool] = None  # decided by the first line, for ever
        self.seen: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self._directory = directory
        if directory:
            self.odd = ""
        if directory and (kept := directory / "documents.ndjson").exists():
            found = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
            self.documents = {said["_id"]: said["_source"] for said in found}
        if directory and (kept := directory / "objects.json").exists():
            self.objects = json.loads(kept.read_text(encoding="utf-8"))

    def post(self, body: bytes) -> tuple[int, bytes]:
        self._came(body)
        if self.down:
            self.seen[str(self.down)] += 1
            return self._failed(self.down, "away")
        lines = body.decode().split("\n")
        assert lines.pop() == "", "the last line ends too"
        items = [self._create(json.loads(head), json.loads(said)) for head, said in zip(lines[::2], lines[1::2])]
        if self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionResetError("the answer is lost")
        errors = any(item["create"]["status"] >= 300 for item in items)
        return 200, json.dumps({"took": 1, "errors": errors, "items": items}).encode()

    def get(self, path: str, authorization: str) -> tuple[int, bytes]:
        """What it is, or a template or lifecycle as it shows them."""
        if self.down or authorization == self.denied:
            return self._failed(self.down or 403, "no permissions")
        name = path.rpartition("/")[2]
        if path == "/":
            version = {"number": "3.9.0", "distribution": "opensearch"}
            version = version if self.product == "opensearch" else {"number": "9.1.0", "build_flavor": "default"}
            return 200, json.dumps({"name": "node-1", "version": version, "tagline": "search"}).encode()
        if path not in self.objects:
            return self._failed(404, f"{name} not found")
        found = self.objects[path]
        if path.startswith(TEMPLATE):
            shown: dict[str, Any] = {"index_templates": [{"name": name, "index_template": found}]}
        elif path.startswith(LIFECYCLE["opensearch"]):
            shown = {"_id": name, "_version": 1, "_primary_term": 1, "_seq_no": 7, **found}
        else:
            shown = {name: {"version": 1, "modified_date": "2026-11-24T02:00:00.000Z", **found}}
        return 200, json.dumps(shown).encode()

    def put(self, path: str, body: bytes, authorization: str) -> tuple[int, bytes]:
        if self.down or authorization == self.denied:
            return self._failed(self.down or 403, "no permissions")
        said = json.loads(body)
        if not path.startswith((TEMPLATE, LIFECYCLE[self.product])):
            return self._failed(400, f"no handler found for uri [{path}] and method [PUT]")
        if path.startswith(LIFECYCLE["opensearch"]) and path in self.objects:
            return self._failed(409, "version conflict, document already exists (current version [1])")
        if path.startswith(TEMPLATE) and said["template"]["settings"].get("index.lifecycle.name", "") == "":
            assert self.product == "opensearch", "nothing rolls over"
        elif path.startswith(TEMPLATE):
            assert self.product == "elasticsearch", "unknown setting [index.lifecycle.name]"
        self.objects[path] = said
        if self._directory:
            (self._directory / "objects.json").write_text(json.dumps(self.objects), encoding="utf-8")
        return (201, b'{"_id":"lifeboat"}') if "_ism" in path else (200, b'{"acknowledged":true}')

    def _failed(self, status: int, reason: str) -> tuple[int, bytes]:
        cause = {"type": _WHOLE.get(status, "exception"), "reason": reason}
        return status, json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}).encode()

    def _create(self, head: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        ((verb, about),) = head.items()
        assert verb == "create"
        id = about["_id"]
        error: dict[str, Any] = {}
        if self.plain_index is None:
            self.plain_index = not any(path.startswith(TEMPLATE) for path in self.objects)
        index = _STREAM if self.plain_index else _BACKING
        if self.always or (self.busy and id not in self.refused):
            self.busy -= 1
            self.refused.add(id)
            status = 429
            error = {"type": _BUSY[self.product], "reason": "rejected execution of coordinating operation"}
            index = _STREAM  # it was not looked for yet where that is
        elif id in self.documents:
            status = 409
            reason = f"[{id}]: version conflict, document already exists (current version [1])"
            error = {"type": "version_conflict_engine_exception", "reason": reason, "index": index, "shard": "0"}
        elif self.odd and ("odd.field" in said or self.odd in str(said["message"])):
            status = 400
            error = {"type": _ODD[self.product], "reason": f"failed to parse field [odd] in document with id '{id}'"}
        elif not self.plain_index and not _DATE.fullmatch(str(said["@timestamp"])):
            status = 400
            reason = f"failed to parse field [@timestamp] of type [date] in document with id '{id}'."
            caused = {"type": "illegal_argument_exception", "reason": "cannot parse empty date"}
            error = {"type": _ODD[self.product], "reason": reason, "caused_by": caused}
        else:
            status = 201
            self.documents[id] = said
            self._created(id, said)
        self.seen[str(status)] += 1
        more = {"error": error} if error else {"_version": 1, "result": "created", "_seq_no": len(self.documents)}
        return {"create": {"_index": index, "_id": id, "status": status, **more}}

    def _came(self, body: bytes) -> None:
        if self._directory:
            with (self._directory / "bodies.ndjson").open("ab") as file:
                file.write(body)
        else:
            self.bodies.append(body)

    def _created(self, id: str, said: dict[str, Any]) -> None:
        if self._directory:
            with (self._directory / "documents.ndjson").open("a", encoding="ascii") as file:
                file.write(json.dumps({"_id": id, "_source": said}) + "\n")


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    allow_reuse_address = True
    daemon_threads = True


def server(bulk: Bulk, host: str, port: int) -> http.server.HTTPServer:
    """One that serves it, one request after the other."""
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with lock:
                self.answer(*bulk.post(body))

        def do_GET(self) -> None:
            with lock:
                self.answer(*bulk.get(self.path, self.headers.get("Authorization", "")))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                self.answer(*bulk.put(self.path, body, self.headers.get("Authorization", "")))

        def answer(self, status: int, said: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    return _Server((host, port), Handler)


if __name__ == "__main__":
    server(Bulk(Path(sys.argv[2])), "0.0.0.0", int(sys.argv[1])).serve_forever()  # noqa: S104 - the lab's own network
