#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of the bulk API of Elasticsearch and OpenSearch: not the products, but what is published of it.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk. The unit tests use it in their own process.
A lab host runs it as a program (molecule/watch/files/bulk.service), which keeps its documents over a restart.

Usage: bulk_store.py PORT DIRECTORY

DIRECTORY/documents.ndjson   {"_id": …, "_source": …}, each that was created
DIRECTORY/bodies.ndjson      every request, as it came
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


class Bulk:
    """A store with one data stream. down: what every request is answered. busy: so many items get 429, each once, or
    as often as they come where it is `always`. odd: a line with this word gets 400."""

    def __init__(self, directory: Optional[Path] = None) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.down, self.busy, self.lost_answers = 0, 0, 0
        self.refused: set[str] = set()
        self.always, self.odd = False, "never"
        self.plain_index = False  # lines came before the template: no data stream was made
        self.seen: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self._directory = directory
        if directory:
            self.odd = ""
        if directory and (kept := directory / "documents.ndjson").exists():
            found = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
            self.documents = {said["_id"]: said["_source"] for said in found}

    def post(self, body: bytes) -> tuple[int, bytes]:
        self._came(body)
        if self.down:
            self.seen[str(self.down)] += 1
            return self.down, b'{"error":"away"}'
        lines = body.decode().split("\n")
        assert lines.pop() == "", "the last line ends too"
        items = [self._create(json.loads(head), json.loads(said)) for head, said in zip(lines[::2], lines[1::2])]
        if self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionResetError("the answer is lost")
        errors = any(item["create"]["status"] >= 300 for item in items)
        return 200, json.dumps({"took": 1, "errors": errors, "items": items}).encode()

    def _create(self, head: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        ((verb, about),) = head.items()
        assert verb == "create"
        id = about["_id"]
        error: dict[str, str] = {}
        if self.always or (self.busy and id not in self.refused):
            self.busy -= 1
            self.refused.add(id)
            status = 429
            error = {"type": "es_rejected_execution_exception", "reason": "no room here"}
        elif id in self.documents:
            status = 409
            error = {"type": "version_conflict_engine_exception"}
        elif self.odd and ("odd.field" in said or self.odd in str(said["message"])):
            status = 400
            error = {"type": "document_parsing_exception"}
        elif not _DATE.fullmatch(str(said["@timestamp"])):
            status = 400
            reason = "failed to parse field [@timestamp] of type [date]"
            error = {"type": "document_parsing_exception", "reason": reason}
        else:
            status = 201
            self.documents[id] = said
            self._created(id, said)
        self.seen[str(status)] += 1
        index = "logs-lifeboat-default" if self.plain_index else ".ds-logs-lifeboat-default-2026.11.24-000001"
        return {"create": {"_index": index, "_id": id, "status": status, **({"error": error} if error else {})}}

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
                status, said = bulk.post(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    return _Server((host, port), Handler)


if __name__ == "__main__":
    server(Bulk(Path(sys.argv[2])), "0.0.0.0", int(sys.argv[1])).serve_forever()  # noqa: S104 - the lab's own network
