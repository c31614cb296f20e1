"""The lab's writer: what the application acknowledged, on record outside the stack, and what of it is left."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support import ROOT, Host

LEDGER = "/var/tmp/writer.jsonl"
WRITER = "/var/tmp/writer.py"


@contextmanager
def writing(host: Host) -> Iterator[None]:
    """The lab's writer at work: every acknowledged write is in a ledger that lies outside the stack."""
    host.run("sh", "-c", f"rm -f {LEDGER}; cat > {WRITER}", stdin=(ROOT / "tests/lab/writer.py").read_bytes())
    command = f"echo $$ > {WRITER}.pid; exec python3 {WRITER} {LEDGER} --rate 20"
    with subprocess.Popen(["docker", "exec", host.name, "sh", "-c", command], stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            host.run("sh", "-c", f"kill $(cat {WRITER}.pid)")
            process.wait(60)


def wait_for_writes(host: Host, more: int) -> None:
    """Until the application has acknowledged so many more, whatever else the machine is busy with."""
    wanted = acknowledged(host) + more
    deadline = time.monotonic() + 60
    while acknowledged(host) < wanted:
        assert time.monotonic() < deadline, f"the application acknowledged fewer than {more} writes in a minute"
        time.sleep(0.5)


def acknowledged(host: Host) -> int:
    return int(host.probe("grep", "--count", "sha256", LEDGER).stdout or 0)


def left(host: Host, before: str) -> dict[str, Any]:
    """What of the acknowledged writes is still there, asked of the application."""
    found: dict[str, Any] = json.loads(host.run("python3", WRITER, LEDGER, "--compare", "--before", before))
    return found


def carry(ledger: str, host: Host) -> None:
    """Put a ledger, and the writer that reads it, on another machine."""
    host.run("sh", "-c", f"cat > {LEDGER}", stdin=ledger)
    host.run("sh", "-c", f"cat > {WRITER}", stdin=(ROOT / "tests/lab/writer.py").read_bytes())
