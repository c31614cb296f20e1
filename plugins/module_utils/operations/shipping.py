# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines on their way from rsyslog to the bulk API of Elasticsearch or OpenSearch.

rsyslog has the queue, on disk and bounded, and this is its program: omprog with confirmMessages and useTransactions,
https://www.rsyslog.com/doc/configuration/modules/omprog.html. A batch is confirmed when the store has answered for each
of its lines; else rsyslog gives it again. A line's id follows from what it is, and `create` refuses an id that is
there, so that a batch that was sent twice is kept once. rsyslog's own omelasticsearch loses a batch that a proxy or a
store that starts answers with 503.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, TextIO

from ..base import ecs, pipeline
from ..base.errors import UsageError
from ..tools.github import ssl_context

BEGIN, COMMIT = b"BEGIN TRANSACTION", b"COMMIT TRANSACTION"
_PATIENCE = 10.0  # seconds: for one answer of the store
_ENOUGH = 20.0  # for one batch; rsyslog waits longer (confirmTimeout), and tries again after a while of its own
_PAUSES = (0.05, 2.0)  # between two tries of items that the store has no room for: the first, and the longest
_WAITS = (0.5, 15.0)  # the same between two batches that fail: rsyslog itself does not wait
_LARGEST = 4 << 20  # bytes of one request
_THERE = 409  # such an id is there: it was stored by a request whose answer was lost
_BUSY = (408, 429)

Post = Callable[[bytes], tuple[int, bytes]]


@dataclass(frozen=True)
class Document:
    """A line as it is stored. plain: the same without fields of its own, for a store that refuses those."""

    id: str
    body: Mapping[str, object]
    plain: Mapping[str, object]


class Store:
    """One index or data stream. authorization: the value of the header, a secret."""

    def __init__(self, url: str, index: str, authorization: str = "", ca_bundle: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or not index:
            cause = "it is not an http or https address without a password in it, or no index is named"
            raise UsageError("send the log", url.rpartition("@")[2], cause, "Correct --url and --index.")
        self._context = ssl_context(ca_bundle) if parts.scheme == "https" else None
        self._address = (parts.hostname, parts.port or (443 if self._context else 9200))
        self._path = f"{parts.path.rstrip('/')}/{urllib.parse.quote(index, safe='')}/_bulk"
        self._headers = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        self._headers.update({"Authorization": authorization} if authorization else {})

    def post(self, body: bytes) -> tuple[int, bytes]:
        """A redirect is not followed: the header is a secret."""
        connection = (
            http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
            if self._context is None
            else http.client.HTTPSConnection(*self._address, timeout=_PATIENCE, context=self._context)
        )
        try:
            connection.request("POST", self._path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def authorization(said: str) -> str:
    """Of a file: a whole header such as `ApiKey …`, or user:password."""
    words = said.strip()
    if not words or " " in words:
        return words
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def document(line: bytes, secrets: Mapping[str, str]) -> Document:
    """What rsyslog tells of a line (monitoring/logs/rsyslog.conf), as it is stored."""
    told = json.loads(line.decode("utf-8", "backslashreplace"), strict=False)
    said = {name: str(value) for name, value in told.items()}
    text = said.pop("text", "")
    # By the line as it was read: a secret that is blanked tomorrow must not make it another line.
    place = [said.get("host", ""), said.get("file", "")]
    place += [said.get("offset", "")] if said.get("file") else [said.get("received", ""), said.get("process", "")]
    identity = hashlib.sha256("\0".join([*place, text]).encode("utf-8", "surrogatepass")).hexdigest()[:40]
    shown = pipeline.scrub(text, secrets)
    plain = {"@timestamp": said.get("time", ""), "message": shown, "ecs.version": ecs.ECS}
    more = {
        "host.hostname": said.get("host"), "log.file.path": said.get("file"), "process.name": said.get("program"),
        "log.syslog.severity.name": said.get("severity"), "event.dataset": "syslog",
    }  # fmt: skip
    own = json.loads(shown) if ecs.read(shown) else {}
    return Document(identity, own or {**plain, **{name: value for name, value in more.items() if value}}, plain)


def run(lines: Iterable[bytes], out: TextIO, post: Post, secrets: Mapping[str, str]) -> None:
    """Answer rsyslog line by line until it closes the pipe."""

    def say(words: str) -> None:
        out.write(" ".join(words.split()) + "\n")
        out.flush()

    say("OK")  # ready
    batch: list[Document] = []
    wait = _WAITS[0]
    for line in lines:
        words = line.rstrip(b"\r\n")
        if words == BEGIN:
            batch = []
            say("OK")
        elif words == COMMIT:
            problem = stored(batch, post)
            if problem:
                time.sleep(wait)
            wait = min(2 * wait, _WAITS[1]) if problem else _WAITS[0]
            say(f"not stored: {problem}" if problem else "OK")
            batch = []
        else:
            try:
                batch.append(document(words, secrets))
            except (ValueError, AttributeError):
                # Not what our template writes. To refuse it would keep back all that comes after it.
                batch.append(document(json.dumps({"text": words.decode("utf-8", "replace")}).encode(), secrets))
            say("DEFER_COMMIT")


def stored(batch: Sequence[Document], post: Post, clock: Callable[[], float] = time.monotonic) -> str:
    """Send them until the store has answered for each; why it has not, empty where it has."""
    end = clock() + _ENOUGH
    waiting = {item.id: item.body for item in batch}  # the same line twice in a batch is one line
    plain = {item.id: item.plain for item in batch}
    pause, why = _PAUSES[0], ""
    while waiting:
        part = _part(waiting)
        try:
            status, said = post(_request(part))
        except (OSError, http.client.HTTPException) as exc:
            return str(exc) or type(exc).__name__
        found = _items(part, said) if status == 200 else None
        if found is None:
            return f"the store answered {status}" if status != 200 else "the store did not answer for each line"
        for identity, (result, cause) in found.items():
            if 200 <= result < 300 or result == _THERE:
                del waiting[identity]
            elif 400 <= result < 500 and result not in _BUSY and waiting[identity] is not plain[identity]:
                waiting[identity] = plain[identity]  # a field of it does not fit the index
            else:
                why = f"the store answered {result} for a line" + (f": {cause}" if cause else "")
        if waiting and why:
            if clock() >= end:
                return why
            time.sleep(pause)
            pause, why = min(2 * pause, _PAUSES[1]), ""
    return ""


def _reason(error: object) -> str:
    """It may name what is in a field."""
    said = error.get("reason") if isinstance(error, dict) else error
    return pipeline.scrub(str(said or ""))[:200]


def _part(waiting: Mapping[str, Mapping[str, object]]) -> dict[str, bytes]:
    """As many as fit one request, at least one."""
    found: dict[str, bytes] = {}
    size = 0
    for identity, body in waiting.items():
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        size += len(data)
        if found and size > _LARGEST:
            break
        found[identity] = data
    return found


def _request(part: Mapping[str, bytes]) -> bytes:
    return b"".join(
        json.dumps({"create": {"_id": identity}}).encode() + b"\n" + body + b"\n" for identity, body in part.items()
    )


def _items(part: Mapping[str, bytes], said: bytes) -> Optional[dict[str, tuple[int, str]]]:
    """What became of each line, and why; None where the answer is not one to this request."""
    try:
        items = [item["create"] for item in json.loads(said)["items"]]
        found = {str(item["_id"]): (int(item["status"]), _reason(item.get("error"))) for item in items}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if list(found) == list(part) else None
