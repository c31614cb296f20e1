# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which database servers keep data in a directory, by the files that they leave there.

What lies there is an application's and not trusted: no link is followed, no pipe or device is opened, and entries,
levels and seconds are bounded. It may be on a file system that never answers: then the thread that waits is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from ..base import filesystem
from ..base.errors import LifeboatError
from ..base.text import named

POSTGRESQL, SQLITE, MINIO = "PostgreSQL", "SQLite", "MinIO"
ENTRIES, LEVELS, SECONDS = 10_000, 6, 2.0
_PATIENCE = 3.0  # seconds beyond these, for an answer of the file system
_SHOWN = 5
SQLITE_HEAD = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat2.html#magic_header_string
_VERSION = re.compile(rb"[0-9]{1,2}(\.[0-9]{1,2})?\s*")


@dataclass(frozen=True)
class Server:
    """A database server's data. kind: with its version, where its files tell that. path: in the directory, printable;
    empty where it is the directory itself."""

    kind: str
    path: str = ""

    @property
    def text(self) -> str:
        return f"{self.kind} in {self.path}" if self.path else self.kind


@dataclass(frozen=True)
class Contents:
    """What was read of a directory. real: its path without links, empty where nobody knows. special: it is a socket or
    a device itself, but no disk. sockets: it holds sockets and nothing else. empty: it holds nothing. partly: why not
    all of it was read, empty where it was. problem: why nothing could be."""

    servers: tuple[Server, ...] = ()
    real: str = ""
    special: bool = False
    sockets: bool = False
    empty: bool = False
    partly: str = ""
    problem: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The servers as text; of very many files of SQLite the first and how many."""
        files = [server for server in self.servers if server.kind == SQLITE]
        rest = [server.text for server in self.servers if server.kind != SQLITE]
        if len(files) > 1:
            names = ", ".join(server.path for server in files[:_SHOWN])
            more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
            return (*rest[:_SHOWN], f"{SQLITE} in {names}{more}")
        return (*rest[:_SHOWN], *(server.text for server in files))


@dataclass
class _Walk:
    """One directory in the reading."""

    top: Path
    until: float
    servers: list[Server] = field(default_factory=list)
    sockets: int = 0
    entries: int = 0
    partly: str = ""


def read(path: Path, *, seconds: float = SECONDS) -> Contents:
    """Return what lies at `path`, a directory or a file, in bounded time whatever it is."""
    results: list[Contents] = []
    worker = threading.Thread(target=lambda: results.append(_read(path, seconds)), daemon=True)
    worker.start()
    worker.join(seconds + _PATIENCE)
    if not results:
        return Contents(problem=f"its file system did not answer within {seconds + _PATIENCE:g} s")
    return results[0]


def _read(path: Path, seconds: float) -> Contents:
    real = ""
    try:
        real = filesystem.real(path)
        mode = path.stat().st_mode
        if stat.S_ISBLK(mode):
            return Contents(real=real, problem="it is a block device, whose data is not read")
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return Contents(real=real, special=True)
        if not stat.S_ISDIR(mode):
            with filesystem.open_file(path) as file:
                head = file.read(len(SQLITE_HEAD))
            return Contents((Server(SQLITE),) if head == SQLITE_HEAD else (), real, empty=not head)
        walk = _Walk(path, time.monotonic() + seconds)
        _walk(walk)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        return Contents(real=real, problem=f"it could not be read: {reason}")
    except LifeboatError as exc:
        return Contents(problem=exc.cause)
    only = bool(walk.sockets) and walk.sockets == walk.entries and not walk.partly
    return Contents(tuple(walk.servers), real, False, only, not walk.entries and not walk.partly, walk.partly)


def _walk(walk: _Walk) -> None:
    """The directories nearest to the top first: a server's own files lie there, and below may be millions."""
    waiting: deque[tuple[str, ...]] = deque([()])
    while waiting and not _over(walk):
        parts = waiting.popleft()
        try:
            at = filesystem.descend(walk.top, parts)
        except OSError as exc:
            if not parts:
                raise
            # Gone, or a link by now: nothing that is there is left out. What may not be entered is another matter.
            if isinstance(exc, PermissionError):
                walk.partly = walk.partly or f"{named('/'.join(parts))} could not be read: {exc.strerror}"
            continue
        try:
            below = list(_directory(walk, at, parts))
        finally:
            os.close(at)
        if len(parts) < LEVELS:
            waiting.extend((*parts, name) for name in below)
        elif below:
            walk.partly = walk.partly or f"only its first {LEVELS} levels were read"


def _over(walk: _Walk) -> bool:
    if walk.entries >= ENTRIES:
        walk.partly = f"only its first {ENTRIES} entries were read"
    elif time.monotonic() > walk.until:
        walk.partly = f"only what could be read in time: {walk.entries} entries"
    else:
        return False
    return True


def _directory(walk: _Walk, at: int, parts: tuple[str, ...]) -> Iterator[str]:
    """The directories in the one that `at` is a handle of; none of a server whose data this is, whole."""
    where = named("/".join(parts))
    servers, whole = _servers(at)
    walk.servers += [Server(kind, where) for kind in servers]
    if whole:
        walk.entries += 1
        return
    with os.scandir(at) as entries:
        for entry in entries:
            if _over(walk):
                return
            walk.entries += 1
            with contextlib.suppress(OSError):  # gone since
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name
                elif entry.is_file(follow_symlinks=False):
                    if _head(at, entry.name, len(SQLITE_HEAD)) == SQLITE_HEAD:
                        walk.servers.append(Server(SQLITE, named("/".join((*parts, entry.name)))))
                elif not entry.is_symlink() and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                    walk.sockets += 1


def _servers(at: int) -> tuple[list[str], bool]:
    """The servers whose data lies in this very directory, and whether all below it is theirs."""
    version = _head(at, "PG_VERSION", 16)
    if version is not None and _VERSION.fullmatch(version):
        return [f"{POSTGRESQL} {version.decode().strip()}"], True
    if _is(at, "ibdata1", stat.S_ISREG):
        mariadb = _is(at, "aria_log_control", stat.S_ISREG)
        mysql = _is(at, "mysql.ibd", stat.S_ISREG)
        return ["MariaDB" if mariadb else "MySQL" if mysql else "MySQL or MariaDB"], True
    if _is(at, "WiredTiger", stat.S_ISREG):
        return ["MongoDB"], True
    if _is(at, ".minio.sys", stat.S_ISDIR):
        return [MINIO], True
    redis = (("dump.rdb", stat.S_ISREG), ("appendonly.aof", stat.S_ISREG), ("appendonlydir", stat.S_ISDIR))
    return ["Redis or Valkey"] if any(_is(at, name, kind) for name, kind in redis) else [], False


def _is(at: int, name: str, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _head(at: int, name: str, size: int) -> Optional[bytes]:
    """The first bytes of a plain file; None where there is none that can be read."""
    try:
        with filesystem.open_at(at, name) as file:
            return file.read(size)
    except OSError:
        return None
