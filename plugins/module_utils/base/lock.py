# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run per stack at a time. A lock whose holder died is free: the kernel lets go of it, kill -9 included."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .errors import LifeboatError, LockedError

DIRECTORY = Path("/run/lifeboat")  # root's; /run/lock is everybody's on Debian


def _directory() -> Path:
    """Where nobody else may write: who can make a file there first can keep each stack from being backed up."""
    user = os.geteuid()
    if user == 0:
        return DIRECTORY
    session = Path(f"/run/user/{user}")
    try:
        return (session if session.is_dir() else Path.home() / ".cache") / DIRECTORY.name
    except RuntimeError as exc:  # as in a container that runs under a number that no user has
        raise LifeboatError("take the lock", f"user {user}", str(exc), "Set HOME to a directory of that user.") from exc


def _opened(place: Path) -> int:
    """The directory, made where it is not there."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        remedy = f"It must be a directory of the user who runs this, root on a stack's host: ls -ld {place}"
        raise LifeboatError("take the lock", str(place), exc.strerror or str(exc), remedy) from exc
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        os.close(folder)
        cause = f"others may write there (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})"
        raise LifeboatError("take the lock", str(place), cause, f"Look at what made it, then: rm -r {place}")
    return folder


@contextlib.contextmanager
def held(stack: str, purpose: str, *, wait: float = 0, directory: Path | None = None) -> Iterator[None]:
    """Hold the stack's lock while the block runs; wait up to `wait` seconds for it. flock() is tied to the open file,
    not to the file's existence: nothing is ever stale and nothing is deleted."""
    place = directory or _directory()
    path, folder = place / f"lifeboat-{stack}.lock", _opened(place)
    try:
        handle = os.open(path.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    except OSError as exc:
        raise LifeboatError("take the lock", str(path), exc.strerror or str(exc), "Run as root.") from exc
    finally:
        os.close(folder)
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
        # Closing is not enough: a program that another thread is starting has the file open too, until exec().
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def verifying(stack: str, purpose: str, *, wait: float = 0) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of verifications, beside the stack's: backups go on while one runs, for as long as it takes.

    A verification reads what retention deletes, and removes what killed ones left: no two, and no prune, at once.
    """
    return held(f"{stack}.verify", purpose, wait=wait)


def mirroring(stack: str, purpose: str, *, wait: float = 0) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of what writes to the vault's mirror, beside the stack's: its changes are followed while a database
    is dumped, and not while a mirror is taken or pruned."""
    return held(f"{stack}.mirror", purpose, wait=wait)


def busy(stack: str, directory: Optional[Path] = None) -> bool:
    """Whether somebody holds it. Takes it for a moment, beside others who only look."""
    directory = directory or _directory()
    try:
        handle = os.open(directory / f"lifeboat-{stack}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise LifeboatError("look at the lock", str(directory), exc.strerror or str(exc), "Run as root.") from exc
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _holder(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {note['pid']} holds it since {note['since']} ({note['purpose']})"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "another process holds it"
