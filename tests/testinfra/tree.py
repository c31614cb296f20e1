"""A directory as the kernel and SQLite have it, in lines. Nothing here is Lifeboat's. Runs on a host: tree.py DIRECTORY...

A line for each entry: name, type and mode, owner, group, names, size, time, attributes, holes, content; a line for each
row of a SQLite database. Left out is what a running application changes: a directory's time, and all of a database but
its rows; and what a recovery put aside.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator

_SQLITE = b"SQLite format 3\0"
_BESIDE = (b"-wal", b"-shm", b"-journal")


def lines(top: bytes) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(b".lifeboat-"))
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from entry(top, folder)
        for name in sorted([*names, *links]):
            if not name.startswith(b".lifeboat-") and not _beside(folder, name):
                yield from entry(top, os.path.join(folder, name))


def _beside(folder: bytes, name: bytes) -> bool:
    """Is it the log of a database that lies beside it?"""
    return any(name.endswith(end) and _is_sqlite(os.path.join(folder, name[: -len(end)])) for end in _BESIDE)


def _is_sqlite(path: bytes) -> bool:
    if not os.path.isfile(path) or os.path.islink(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def entry(top: bytes, path: bytes) -> Iterator[str]:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    words = [repr(os.path.relpath(path, top)), stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
    words += [f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in attributes(path)]
    if kind == stat.S_IFDIR:
        yield " ".join(words)
        return
    words.append(f"{status.st_nlink} names")
    if kind == stat.S_IFREG and _is_sqlite(path):
        yield " ".join([*words, "SQLite"])
        yield from (f"{words[0]}: {row}" for row in rows(path))
        return
    words.append(f"{status.st_size} bytes at {status.st_mtime_ns}")
    if kind == stat.S_IFREG:
        sparse = status.st_size > 1 << 20 and status.st_blocks * 512 < status.st_size // 2
        words += ["sparse"] if sparse else []
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        words.append(digest.hexdigest())
    elif kind == stat.S_IFLNK:
        words.append(repr(os.readlink(path)))
    yield " ".join(words)


def attributes(path: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return []


def rows(path: bytes) -> list[str]:
    """Of a copy with its log, as whoever opens it may write into it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(os.fsencode(folder), b"copy")
        for end in (b"", *_BESIDE):
            if os.path.exists(path + end):
                shutil.copyfile(path + end, copy + end)
        connection = sqlite3.connect(os.fsdecode(copy))
        try:
            checked = connection.execute("PRAGMA integrity_check").fetchall()
            return [f"integrity_check: {checked}", *connection.iterdump()]
        finally:
            connection.close()


if __name__ == "__main__":
    for directory in sys.argv[1:]:
        print(f"== {directory}")
        print("\n".join(lines(os.fsencode(directory))))
