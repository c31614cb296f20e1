# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run per stack at a time. A lock whose holder died is free: the kernel lets go of it, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import LifeboatError, LockedError

DIRECTORY = Path("/run/lock")


@contextlib.contextmanager
def held(stack: str, purpose: str, *, wait: float = 0, directory: Path | None = None) -> Iterator[None]:
    """Hold the stack's lock while the block runs; wait up to `wait` seconds for it. flock() is tied to the open file,
    not to the file's existence: nothing is ever stale and nothing is deleted."""
    path = (directory or DIRECTORY) / f"lifeboat-{stack}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise LifeboatError("take the lock", str(path), exc.strerror or str(exc), "Run as root.") from exc
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    remedy = "Wait for it to end, or stop that process."
                    raise LockedError("take the lock", str(path), _holder(handle), remedy) from None
                time.sleep(0.2)
        note = {"pid": os.getpid(), "purpose": purpose, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {note['pid']} holds it since {note['since']} ({note['purpose']})"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "another process holds it"
