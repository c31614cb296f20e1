# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A million keys without a server that holds them: two buckets that exist only as the pages of their listings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.mirror import listing
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.bucket import Listed

MODIFIED = "2026-11-01T00:00:00.000Z"
PAGE = 1000
SIZE = 1000


def key(number: int) -> str:
    return f"customers/{number % 1000:03}/documents/{number:09}.pdf"


def etag(number: int) -> str:
    return f"{number:032x}"


def ordered(count: int) -> list[int]:
    """The numbers in the order of their keys."""
    return [number for start in range(min(count, 1000)) for number in range(start, count, 1000)]


def rows(count: int) -> Iterator[Listed]:
    """The listing of the backup before: every key as it is."""
    moment, now = parse_time(MODIFIED), datetime.now(timezone.utc)
    for number in ordered(count):
        held = (f"s{number}", f"v{number}", etag(number), "0" * 64)
        yield Listed(key(number), SIZE, etag(number), moment, *held, "", "", "", now, moment)


def publish_listing(path: Path, count: int) -> listing.Summary:
    return listing.write(path / listing.NAME, rows(count))


def _objects(order: list[int], start: int) -> str:
    end = min(start + PAGE, len(order))
    found = "".join(
        f"<Contents><Key>{key(number)}</Key><LastModified>{MODIFIED}</LastModified>"
        f"<ETag>&quot;{etag(number)}&quot;</ETag><Size>{SIZE}</Size></Contents>"
        for number in order[start:end]
    )
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(order) else ""
    return f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{found}</ListBucketResult>"


def _versions(order: list[int], source: bool, start: int) -> str:
    letter, end = "s" if source else "v", min(start + PAGE, len(order))
    found = "".join(
        f"<Version><Key>{key(number)}</Key><VersionId>{letter}{number}</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{MODIFIED}</LastModified><ETag>&quot;{etag(number)}&quot;</ETag><Size>{SIZE}</Size>"
        "</Version>"
        for number in order[start:end]
    )
    more = f"<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>{end}</NextVersionIdMarker>"
    truncated = str(end < len(order)).lower()
    return f"<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{more}{found}</ListVersionsResult>"


@contextlib.contextmanager
def buckets(count: int) -> Iterator[str]:
    """The address of a server whose every bucket holds `count` keys; versions in `uploads` begin with s, else v."""
    order = ordered(count)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, text: str, status: int = 200) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query, keep_blank_values=True)
            if "versioning" in asked:
                self.say("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
            elif "versions" in asked:
                self.say(
                    _versions(order, parts.path.strip("/") == "uploads", int(asked.get("version-id-marker", ["0"])[0]))
                )
            elif "list-type" in asked:
                self.say(_objects(order, int(asked.get("continuation-token", ["0"])[0])))
            elif "uploads" in asked:
                self.say("<ListMultipartUploadsResult></ListMultipartUploadsResult>")
            else:
                self.say("<Error><Code>NotImplemented</Code></Error>", 501)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        listener.block_on_close = False
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
