#!/usr/bin/env python3
"""Write through the application for as long as told, and remember what it acknowledged; later, ask what is left.

    writer.py LEDGER [--url URL] [--rate N] [--seconds S]     insert items and upload files until S or SIGTERM
    writer.py --compare LEDGER [--url URL] [--before TIME]    JSON: acknowledged, present, lost

The ledger lies outside the stack. A line is fsynced only after the application said the write is durable, so a
line whose write is missing afterwards is a lost write: what a recovery point objective is about. Standard library
only, as it runs on the lab's hosts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FILE_EVERY = 5  # one write in five is a file


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def parse_time(text: str) -> datetime:
    """ISO 8601; without a zone it is UTC, as everything in the ledger."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def request(url: str, method: str = "GET", body: bytes | None = None, kind: str = "application/json") -> bytes:
    asked = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=15) as answer:  # noqa: S310 - the URL is the operator's
        return bytes(answer.read())


class Ledger:
    """One JSON line per acknowledged write or failed attempt; on disk before the next write begins."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a", encoding="utf-8")

    def add(self, **line: Any) -> None:
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def write_item(url: str) -> dict[str, Any]:
    name = f"書き込み {uuid.uuid4()}"
    body = json.dumps({"name": name, "payload": {"writer": True}}).encode()
    answer = json.loads(request(f"{url}/items", "POST", body))
    return {"kind": "item", "id": answer["id"], "sha256": hashlib.sha256(name.encode()).hexdigest()}


def write_file(url: str) -> dict[str, Any]:
    body = os.urandom(random.randrange(1, 50_000))  # noqa: S311 - a size
    name = urllib.parse.quote(f"writer-{uuid.uuid4()}.bin")
    answer = json.loads(request(f"{url}/files/{name}", "PUT", body, "application/octet-stream"))
    digest = hashlib.sha256(body).hexdigest()
    if answer["sha256"] != digest:
        raise ValueError(f"the application acknowledged file {answer['id']} with another hash")
    return {"kind": "file", "id": answer["id"], "sha256": digest, "key": answer["key"]}


def write(ledger: Ledger, url: str, rate: float, seconds: float | None) -> dict[str, int]:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    end = time.monotonic() + seconds if seconds else float("inf")
    counts = {"acknowledged": 0, "errors": 0}
    attempt = 0
    while not stop.is_set() and time.monotonic() < end:
        began, attempt = time.monotonic(), attempt + 1
        kind = "file" if attempt % FILE_EVERY == 0 else "item"
        try:
            done = write_file(url) if kind == "file" else write_item(url)
            ledger.add(time=now(), **done)
            counts["acknowledged"] += 1
            pause = 1 / rate
        except (OSError, ValueError, KeyError) as error:  # URLError and timeouts are OSErrors
            ledger.add(time=now(), kind=kind, error=f"{type(error).__name__}: {error}")
            counts["errors"] += 1
            pause = max(1 / rate, 0.5)  # an application that is down is asked twice a second, not as fast as it refuses
        stop.wait(max(0.0, began + pause - time.monotonic()))
    return counts


# --- afterwards ------------------------------------------------------------------------------------------------------


def read_ledger(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Acknowledged writes and the number of failed attempts. A last line cut short was never acknowledged to anyone."""
    writes, errors = [], 0
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "error" in line:
            errors += 1
        else:
            writes.append(line)
    return writes, errors


def rows(url: str, kind: str, ids: list[int]) -> dict[int, str]:
    """Id to the hash of what the database has under it. An id can come back after a recovery with another content."""
    found: dict[int, str] = {}
    for start in range(0, len(ids), 1000):
        body = json.dumps({f"{kind}s": ids[start : start + 1000]}).encode()
        for row in json.loads(request(f"{url}/presence", "POST", body))[f"{kind}s"]:
            found[row["id"]] = row["sha256"] if kind == "file" else hashlib.sha256(row["name"].encode()).hexdigest()
    return found


def bytes_present(url: str, line: dict[str, Any]) -> bool:
    """Whether the file can be downloaded whole: a row without its object is a lost file."""
    try:
        return hashlib.sha256(request(f"{url}/files/{line['id']}")).hexdigest() == str(line["sha256"])
    except urllib.error.HTTPError as error:
        if error.code in (404, 502):
            return False
        raise


def count(writes: list[dict[str, Any]]) -> dict[str, Any]:
    lost = [line for line in writes if not line["present"]]
    return {"acknowledged": len(writes), "present": len(writes) - len(lost), "lost": len(lost)}


def compare(path: Path, url: str, before: datetime | None) -> dict[str, Any]:
    writes, errors = read_ledger(path)
    for kind in ("item", "file"):
        mine = [line for line in writes if line["kind"] == kind]
        there = rows(url, kind, [line["id"] for line in mine])
        for line in mine:
            line["present"] = line["row"] = there.get(line["id"]) == line["sha256"]
    files = [line for line in writes if line["kind"] == "file" and line["row"]]
    with ThreadPoolExecutor(8) as pool:
        for line, whole in zip(files, pool.map(lambda line: bytes_present(url, line), files)):
            line["present"] = whole
    lost = [line for line in writes if not line["present"]]
    kept = [line for line in writes if line["present"]]
    result: dict[str, Any] = {
        **count(writes),
        "items": count([line for line in writes if line["kind"] == "item"]),
        "files": count([line for line in writes if line["kind"] == "file"]),
        "rows_without_bytes": sum(line["row"] and not line["present"] for line in writes),
        "errors": errors,
        "last_present": max((line["time"] for line in kept), default=None),
        "first_lost": min((line["time"] for line in lost), default=None),
        "last_lost": max((line["time"] for line in lost), default=None),
        "lost_examples": [{key: line[key] for key in ("time", "kind", "id")} for line in lost[:20]],
    }
    if before is not None:
        early = [line for line in writes if parse_time(line["time"]) < before]
        late = [line for line in writes if parse_time(line["time"]) >= before]
        result["before"] = {"time": before.isoformat(), **count(early)}
        result["after"] = count(late)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--compare", action="store_true", help="do not write; ask what is left")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the application (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, help="writes a second at most (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after so long (default: on SIGTERM)")
    parser.add_argument("--before", type=parse_time, help="also count the writes acknowledged before this time")
    options = parser.parse_args()
    if not options.compare:
        print(json.dumps(write(Ledger(options.ledger), options.url, options.rate, options.seconds)))
        return 0
    try:
        print(json.dumps(compare(options.ledger, options.url, options.before), indent=2))
    except OSError as error:
        print(
            f"writer: comparing {options.ledger} with {options.url} failed: {error}. "
            "Nothing can be said about lost writes.\n"
            "Next: see that the application is healthy (curl URL/health), then compare again",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
