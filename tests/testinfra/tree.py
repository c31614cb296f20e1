"""A directory as the kernel and SQLite have it, in lines, by nothing of Lifeboat. On a host: tree.py DIRECTORY...

A line for each entry: name, type and mode, owner, group, attributes, names, size, time, holes, content; a line for each
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
from pathlib import Path

_SQLITE = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")


def lines(top: Path) -> Iterator[str]:
    for found, folders, names in os.walk(top):
        folder = Path(found)
        folders[:] = sorted(name for name in folders if not name.startswith(".lifeboat-"))
        yield from entry(top, folder)
        for path in [folder / name for name in sorted([*names, *folders])]:
            if (path.is_symlink() or not path.is_dir()) and not path.name.startswith(".lifeboat-"):
                yield from [] if _beside(path) else entry(top, path)


def _beside(path: Path) -> bool:
    """Is it the log of a database that lies there?"""
    return any(path.name.endswith(end) and _is_sqlite(Path(str(path)[: -len(end)])) for end in _BESIDE)


def _is_sqlite(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def entry(top: Path, path: Path) -> Iterator[str]:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    words = [ascii(str(path.relative_to(top))), stat.filemode(status.st_mode), f"{status.st_uid}:{status.st_gid}"]
    words += attributes(path)
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
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        words.append(digest.hexdigest())
    elif kind == stat.S_IFLNK:
        words.append(ascii(str(path.readlink())))
    yield " ".join(words)


def attributes(path: Path) -> list[str]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:  # the file system has none
        return []
    return [f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in names]


def rows(path: Path) -> list[str]:
    """Of a copy with its log, as SQLite may write into a database that it opens."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        for end in ("", *_BESIDE):
            if Path(f"{path}{end}").exists():
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        connection = sqlite3.connect(copy)
        try:
            checked = connection.execute("PRAGMA integrity_check").fetchall()
            return [f"integrity_check: {checked}", *connection.iterdump()]
        finally:
            connection.close()


if __name__ == "__main__":
    for directory in sys.argv[1:]:
        print(f"== {Path(directory).name}")
        for text in lines(Path(directory)):
            print(text.encode("utf-8", "backslashreplace").decode())
