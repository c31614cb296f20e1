# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines on their way from rsyslog to the bulk API of Elasticsearch or OpenSearch.

rsyslog has the queue, on disk and bounded, and this is its program: omprog with confirmMessages and useTransactions,
https://www.rsyslog.com/doc/configuration/modules/omprog.html. A batch is confirmed when the store has answered for each
of its lines, and rsyslog waits meanwhile. A line's id follows from what it is, and `create` refuses an id that is
there, so that a batch that was sent twice is kept once. rsyslog's own omelasticsearch loses a batch that a proxy or a
store that starts answers with 503.

A batch that waits is on the disk here too (Kept): rsyslog 8.2504 has taken it for done before it is confirmed
(runtime/ruleset.c, processBatch), and begins a transaction that broke off again at the line that failed, not at its
first (action.c, doTransaction). To refuse a batch costs a transaction for each of its lines (action.c, actionCommit),
so this asks for more time instead, by omprog's dots.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import select
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Optional, TextIO

from ..base import clock, ecs, filesystem, pipeline, web
from ..base.errors import Log, UsageError

BEGIN, COMMIT = b"BEGIN TRANSACTION", b"COMMIT TRANSACTION"
_PATIENCE = 10.0  # seconds: for a piece of the store's answer
_LONGEST = 20.0  # for all of it
_ENOUGH = 20.0  # for one try of a batch; with _LONGEST less than confirmTimeout, which each dot begins again
_HOLD = 6 * 3600.0  # for one batch; a line of dots that is longer than 4,095 would be taken for garbage
_PAUSES = (0.05, 2.0)  # between two tries of items that the store has no room for: the first, and the longest
_WAITS = (0.5, 15.0)  # the same between two tries of a batch
_LARGEST = 4 << 20  # bytes of one request
_ANSWER = 64 << 20  # bytes of an answer
_REFUSED = 16 << 20  # bytes of lines that the store does not take
_WAITING = 64 << 20  # bytes of lines that wait; each restart of rsyslog may add a batch
_DOUBT = 3600.0  # seconds: a store that has taken no line yet may have no index for them; then it is the line
_SMALL = 1024  # bytes of a request that is not worth compressing
_THERE = 409  # such an id is there: it was stored by a request whose answer was lost
_ODD = 400  # what it says of a document that no index of this template takes
_LARGE = 413
_NO_ROOM = 429
_UNKNOWN = 415  # of a proxy that does not know the encoding
_STREAM = ".ds-"  # how the names of a data stream's own indexes begin

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
        secure = parts.scheme == "https"
        server = parts.netloc if parts.port else f"{parts.netloc.rstrip(':')}:{443 if secure else 9200}"
        self._url = f"{parts.scheme}://{server}{parts.path.rstrip('/')}/{urllib.parse.quote(index, safe='')}/_bulk"
        self._http = web.Http(web.ssl_context(ca_bundle) if secure else None, proxies=False, longest=_LONGEST)
        self._headers = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        self._headers.update({"Authorization": authorization} if authorization else {})
        self._compresses = True

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Compressed, until somebody on the way says that he does not know that."""
        if self._compresses and len(body) > _SMALL:
            status, said = self._post(gzip.compress(body, 6), {"Content-Encoding": "gzip"})
            if status != _UNKNOWN:
                return status, said
            self._compresses = False
        return self._post(body, {})

    def _post(self, body: bytes, more: Mapping[str, str]) -> tuple[int, bytes]:
        """A redirect is not followed: the header is a secret."""
        headers, most = {**self._headers, **more}, _ANSWER + 1
        answer = self._http.exchange(self._url, body, headers, timeout=_PATIENCE, most=most, of_error=most)
        return answer.status, answer.body if len(answer.body) < most else b""


def authorization(text: str) -> str:
    """Of a file: a whole header such as `ApiKey …`, or user:password."""
    words = text.strip()
    if not words or " " in words:
        return words
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def document(raw: bytes, secrets: Mapping[str, str]) -> Document:
    """What rsyslog tells of a line (monitoring/logs/rsyslog.conf), as it is stored."""
    told = json.loads(raw.decode("utf-8", "backslashreplace"), strict=False)
    said = {name: str(value) for name, value in told.items()}
    text = said.pop("text", "")
    # By the line as it was read: a secret that is blanked tomorrow must not make it another line.
    place = [said.get("host", ""), said.get("file", "")]
    place += [said.get("offset", "")] if said.get("file") else [said.get("received", ""), said.get("process", "")]
    identity = filesystem.sha256("\0".join([*place, text]).encode("utf-8", "surrogatepass"))[:40]
    # In what comes by a socket rsyslog leaves the space that parts it from its tag.
    shown = pipeline.scrub(text if said.get("file") else text.removeprefix(" "), secrets)
    # Every store refuses a text that is no date, and with it the line: what has no time is of now.
    plain = {"@timestamp": said.get("time") or clock.format_time(clock.now()), "message": shown, "ecs.version": ecs.ECS}
    more = {
        "host.hostname": said.get("host"), "log.file.path": said.get("file"), "process.name": said.get("program"),
        "log.syslog.severity.name": said.get("severity"), "event.dataset": "syslog",
    }  # fmt: skip
    own = json.loads(shown) if ecs.read(shown) else {}
    return Document(identity, own or {**plain, **{name: value for name, value in more.items() if value}}, plain)


class Queue:
    """Lines that rsyslog has given and the store has not answered for, and those that it does not take; blanked, in
    files that only root reads. A directory is used by one process at a time."""

    def __init__(self, directory: Path, log: Log) -> None:
        self.waiting: dict[str, Document] = {}
        self.took = False  # has the store taken a line of this process?
        self.sample: Optional[Document] = None  # the smallest of those
        self._looked = False
        self._log, self._began, self._reported = log, time.monotonic(), False
        self._refused = directory / "refused.ndjson"
        with filesystem.explained("keep lines that wait for the store", directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(directory / "waiting.ndjson", flags, 0o600)
            with os.fdopen(os.dup(self._handle), "rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError, TypeError):  # a line whose writing was cut off
                        found = Document(**json.loads(line))
                        self.waiting[found.id] = found

    def add(self, item: Document) -> None:
        """Before rsyslog is told that it is here. Where the disk is full the memory must do."""
        if item.id in self.waiting:
            return
        self.waiting[item.id] = item
        size = os.fstat(self._handle).st_size
        data = _encoded(asdict(item))
        try:
            if os.write(self._handle, data) < len(data):
                raise OSError("the disk is full")
        except OSError as exc:
            os.ftruncate(self._handle, size)
            if not self._reported:
                self._reported = True
                self._log(f"lines that wait for the log store are only in memory: {exc.strerror or exc}")

    def sync(self) -> None:
        os.fdatasync(self._handle)

    @property
    def many(self) -> bool:
        return os.fstat(self._handle).st_size > _WAITING

    def taken(self, identity: str) -> None:
        self.took = True
        item = self.waiting.pop(identity, None)
        if item and (self.sample is None or len(str(item.body)) < len(str(self.sample.body))):
            self.sample = item

    def check_index(self, answer: bytes) -> None:
        """Tell once of a store that keeps lines in a plain index, where a data stream should be: it came before the
        template. There dates are texts, nothing rolls over, and nothing is ever deleted."""
        if self._looked:
            return
        # An item that was refused may have the stream's own name: nobody looked yet which index is behind it.
        items = [item["create"] for item in json.loads(answer)["items"]]
        index = next((str(item.get("_index", "")) for item in items if 200 <= int(item["status"]) < 300), "")
        self._looked = bool(index)
        if index.startswith("logs-"):
            self._log(
                f"WARNING: the log store keeps lines in the plain index {index}, not in a data stream: it had no"
                " template when the first came. Put the template, then delete that index: docs/monitoring.md"
            )

    def clear(self) -> None:
        self.waiting.clear()
        os.ftruncate(self._handle, 0)

    def refuse(self, item: Document, cause: str) -> bool:
        """Put a line aside that the store does not take, so that the others pass; False where it must wait with them:
        the store takes no line at all, or too many are aside."""
        if not self.took and time.monotonic() - self._began < _DOUBT:
            return False
        data = _encoded({"id": item.id, "cause": cause, "line": item.body})
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._refused, flags, 0o600), "ab") as file:
                first = file.tell() == 0
                if file.tell() + len(data) > _REFUSED:
                    return False
                file.write(data)
        except OSError:
            return False
        self.waiting.pop(item.id, None)
        if first:  # not for each: what is said here becomes a line too
            self._log(f"the log store does not take a line ({cause}): it is in {self._refused}")
        return True


_AGAIN = "refused.again.ndjson"


def again(directory: Path, post: Post) -> tuple[int, int, str]:
    """Send what was put aside, when the store takes it now. What it still does not take is put aside as before.

    Returns how many it has taken, how many are left, and why one is left."""
    source, sending = directory / "refused.ndjson", directory / _AGAIN
    with filesystem.explained("send again what the log store did not take", source):
        if not sending.exists() and source.exists():
            source.rename(sending)  # who puts a line aside meanwhile begins a new file
        if not sending.exists():
            return 0, 0, ""
        lines = [line for line in sending.read_bytes().splitlines(keepends=True) if line.strip()]
        taken, left, why = 0, list[bytes](), ""
        for line in lines:
            try:
                said = json.loads(line)
                item = Document(str(said["id"]), said["line"], said["line"])
            except (ValueError, LookupError, TypeError, RecursionError):
                left.append(line)
                continue
            cause = stored([item], post)
            taken += not cause
            left += [line] if cause else []
            why = cause or why
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(source, flags, 0o600), "ab") as file:
            file.writelines(left)
            file.flush()
            os.fsync(file.fileno())
        sending.unlink()
        if not left and not source.stat().st_size:
            source.unlink()
    return taken, len(left), why


def run(lines: Iterable[bytes], out: TextIO, post: Post, secrets: Mapping[str, str], queue: Queue, log: Log) -> None:
    """Answer rsyslog line by line until it closes the pipe."""

    def say(text: str) -> None:
        out.write(" ".join(text.split()) + "\n")
        out.flush()

    if queue.many:
        _committed(out, post, queue, log)
    say("OK")  # ready
    for line in lines:
        words = line.rstrip(b"\r\n")
        if words == BEGIN:  # what waits of a batch that broke off stays, and goes with this one
            say("OK")
        elif words == COMMIT:
            problem = _committed(out, post, queue, log)
            say(f"not stored: {problem}" if problem else "OK")
        else:
            try:
                found = document(words, secrets)
            except (ValueError, AttributeError):
                # Not what our template writes. To refuse it would keep back all that comes after it.
                found = document(json.dumps({"text": words.decode("utf-8", "replace")}).encode(), secrets)
            queue.add(found)
            say("DEFER_COMMIT")


def _committed(out: TextIO, post: Post, queue: Queue, log: Log) -> str:
    """Send what waits until the store has it; why it has not, where that takes too long."""
    began, wait, problem = time.monotonic(), _WAITS[0], ""
    while True:
        before, problem = problem, stored(list(queue.waiting.values()), post, queue)
        if not problem:
            queue.clear()
            if before:
                log("the log store takes lines again")
            return ""
        if not before:
            queue.sync()
            log(f"lines wait for the log store: {problem}")
        if time.monotonic() - began >= _HOLD:
            return problem
        out.write(".")
        out.flush()
        # An error is told without being asked for: rsyslog has closed its end, and may have begun another of us.
        gone = select.poll()
        gone.register(out.fileno(), 0)
        if gone.poll(1000 * wait):
            raise BrokenPipeError("rsyslog has ended")
        wait = min(2 * wait, _WAITS[1])


def stored(
    batch: Sequence[Document],
    post: Post,
    queue: Optional[Queue] = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> str:
    """Send them until the store has answered for each; why it has not, empty where it has.

    queue: where they wait, and where one that the store does not take is put aside."""
    end = monotonic() + _ENOUGH
    items = {item.id: item for item in batch}  # the same line twice in a batch is one line
    waiting = {item.id: item.body for item in batch}
    pause, largest, refused = _PAUSES[0], _LARGEST, ""
    while waiting:
        part = _part(waiting, largest)
        try:
            status, said = post(_request(part))
        except web.ERRORS as exc:
            return web.cause(exc)
        if status in (_LARGE, _NO_ROOM) and len(part) > 1:  # also of a store whose room is less than the request
            largest = sum(map(len, part.values())) // 2
            time.sleep(pause * (status == _NO_ROOM))
            continue
        found = _items(part, said) if status == 200 else None
        if status == _LARGE:
            found, problem = _too_large(part, [item for key, item in items.items() if key not in waiting], queue, post)
            if problem:
                return problem
        elif found and queue:
            queue.check_index(said)
        if found is None:
            return f"the store answered {status}" if status != 200 else "the store did not answer for each line"
        busy, odd = _settled(found, waiting, items, queue)
        refused = odd or refused
        if busy:
            if monotonic() >= end:
                return busy
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])
    return refused


def _too_large(
    part: Mapping[str, bytes], taken: Sequence[Document], queue: Optional[Queue], post: Post
) -> tuple[dict[str, tuple[int, str]], str]:
    """What becomes of a line alone that is too large; or why it waits, where it is not the line."""
    ((identity, data),) = part.items()
    if _takes_smaller(len(data), taken, queue, post):
        return {identity: (_LARGE, "it is too large")}, ""
    return {}, f"the store answered {_LARGE} for a request of {len(data)} bytes: is that a proxy's limit?"


def _takes_smaller(size: int, taken: Sequence[Document], queue: Optional[Queue], post: Post) -> bool:
    """Whether it is the line that is too large, and not the store or a proxy that takes nothing: a line that was taken
    before is sent again, which makes no second one."""
    for sample in [*taken, *([queue.sample] if queue and queue.sample else [])]:
        part = _part({sample.id: sample.body}, _LARGEST)
        if len(part[sample.id]) >= size:
            continue
        try:
            status, said = post(_request(part))
        except web.ERRORS:
            return False
        found = _items(part, said) if status == 200 else None
        return found is not None and found[sample.id][0] in (201, _THERE)
    return False


def _settled(
    results: Mapping[str, tuple[int, str]],
    waiting: dict[str, Mapping[str, object]],
    items: Mapping[str, Document],
    queue: Optional[Queue],
) -> tuple[str, str]:
    """Take from what waits what the store has, and what it does not take, where that is put aside or not.

    Returns why something waits that it may take soon, and why something is left that it does not take."""
    busy = refused = ""
    for identity in [one for one, (result, _cause) in results.items() if 200 <= result < 300 or result == _THERE]:
        del waiting[identity]
        if queue:
            queue.taken(identity)
    for identity in [one for one in results if one in waiting]:
        result, cause = results[identity]
        told = f"the store answered {result} for a line" + (f": {cause}" if cause else "")
        if result not in (_ODD, _LARGE):  # it is of the store: no room, no right, no index
            busy = told
        elif waiting[identity] is not items[identity].plain:
            waiting[identity] = items[identity].plain  # a field of it does not fit the index
        else:  # it would say the same of it at once
            del waiting[identity]
            if not queue or not queue.refuse(items[identity], told):
                refused = told
    return busy, refused


def _reason(error: object) -> str:
    """It may name what is in a field."""
    said = error.get("reason") if isinstance(error, dict) else error
    return pipeline.scrub(str(said or ""))[:200]


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _part(waiting: Mapping[str, Mapping[str, object]], largest: int) -> dict[str, bytes]:
    """As many as fit one request, at least one."""
    found: dict[str, bytes] = {}
    size = 0
    for identity, body in waiting.items():
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        size += len(data)
        if found and size > largest:
            break
        found[identity] = data
    return found


def _request(part: Mapping[str, bytes]) -> bytes:
    return b"".join(
        json.dumps({"create": {"_id": identity}}).encode() + b"\n" + body + b"\n" for identity, body in part.items()
    )


def _items(part: Mapping[str, bytes], answer: bytes) -> Optional[dict[str, tuple[int, str]]]:
    """What became of each line, and why; None where the answer is not one to this request."""
    try:
        items = [item["create"] for item in json.loads(answer)["items"]]
        found = {str(item["_id"]): (int(item["status"]), _reason(item.get("error"))) for item in items}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    return found if list(found) == list(part) else None
