# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for the end of pg_receivewal, and end it where the spool is full.

Run by itself as `python3 -I -S -c <this source> <process> <directory> <bytes> <bytes that stay free>`: the command
takes five times the memory, and has nothing to do until then. Once a second: a busy server writes 100 MB in that time.
"""

from __future__ import annotations

import os
import signal
import sys
import time

ENDED, FULL = 1, 7
EVERY = 1.0


def started(process: int) -> str:
    """Return since when a process has its number; empty where it has ended."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - less to load
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def size(directory: str) -> int:
    """Return the bytes of the files there and in its directories; an open segment counts as if it were full."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                inner = entry.is_dir(follow_symlinks=False)
                total += size(entry.path) if inner else entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue  # it was sent and removed just now
    return total


def full(directory: str, limit: int, free: int) -> bool:
    disk = os.statvfs(directory)
    return size(directory) >= limit or disk.f_bavail * disk.f_frsize < free


def watch(process: int, directory: str, limit: int, free: int) -> int:
    """Return how it ended: ENDED, or FULL where it had to be stopped."""
    since = started(process)
    while since and started(process) == since:
        if full(directory, limit, free):
            os.kill(process, signal.SIGINT)  # the first process of a container has no handler of SIGTERM before 15
            return FULL
        time.sleep(EVERY)
    return ENDED


if __name__ == "__main__":
    raise SystemExit(watch(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
