#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a tool that root's backup calls says more than a memory holds, and leaves a process behind.

It is a program `docker`, first in PATH. On `docker compose … config` it writes one line of 100 MB to its standard
error and ends with an error. What it leaves behind has its standard output open, and would live for an hour.

Usage: noisy_tool.py product|unprotected DIRECTORY

product: `lifeboat backup config`. unprotected: a script that asks Compose with Python's subprocess.run. Prints what the
tool could do, a line each: keep the caller waiting, fill its memory, fill its log, leave a process. Exit 0: something.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
CLI = "import sys; from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli; sys.exit(cli.main())"
NAIVE = "import subprocess; print(subprocess.run(['docker', 'compose', 'config'], capture_output=True).stderr)"
FLOOD = 100_000_000
TOOL = """#!/bin/sh
case " $* " in *" config "*) ;; *) exit 0 ;; esac
( flock 9; exec sleep 3600 ) 9>{directory}/lock &
echo $! >{directory}/left
head -c {flood} /dev/zero | tr '\\0' x >&2
echo >{directory}/ended
exit 1
"""
LIMIT = "no end after"  # what Lifeboat says where it waited for as long as it waits at all


def words(target: str, directory: Path) -> list[str]:
    if target == "unprotected":
        return [sys.executable, "-c", NAIVE]
    etc, project = directory / "etc", directory / "project"
    for made in (etc, project, directory / "backup"):
        made.mkdir()
    (project / "compose.yml").write_text("services: {}\n")
    settings = {
        "stack": "attacked-by-a-tool",
        "runtime": {"project_directory": str(project)},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
    }
    (etc / "attacked-by-a-tool.json").write_text(json.dumps(settings))
    return [sys.executable, "-c", CLI, "backup", "config", "--config-directory", str(etc)]


def lives(directory: Path) -> bool:
    """Whether what the tool left behind is still there."""
    with (directory / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def attack(target: str, directory: Path) -> list[str]:
    tool = directory / "bin/docker"
    tool.parent.mkdir()
    tool.write_text(TOOL.format(directory=directory, flood=FLOOD))
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT / ".ansible/collections")
    log, found = directory / "log", []
    with log.open("wb") as sink:
        process = subprocess.Popen(words(target, directory), stdout=sink, stderr=sink, env=environment)
    # The end of the tool, and then of its caller: one that waits for what was left behind would do so for an hour.
    end = time.monotonic() + 300
    ended, usage = None, None
    while usage is None:
        pid, _status, used = os.wait4(process.pid, os.WNOHANG)
        usage = used if pid else None
        if ended is None and (directory / "ended").exists():
            ended = time.monotonic()
        patience = 3 if target == "unprotected" else 300
        if usage is None and (time.monotonic() > end or (ended and time.monotonic() > ended + patience)):
            found.append("keep its caller waiting")
            os.kill(int((directory / "left").read_text()), signal.SIGKILL)
            usage = os.wait4(process.pid, 0)[2]
        time.sleep(0.02)
    process.returncode = 0  # it was waited for
    if not (directory / "ended").exists():
        raise SystemExit(f"the tool was not asked, which proves nothing: {log.read_text()[-2000:]}")
    said = log.read_text(errors="replace")
    print(f"{said[:2000]}\n{usage.ru_maxrss} kB of memory at most, {len(said)} characters", file=sys.stderr)
    if LIMIT in said:
        found.append("keep its caller waiting")
    if usage.ru_maxrss * 1024 > FLOOD:
        found.append("fill the memory")
    if len(said) > 100_000:
        found.append("fill the log")
    if not found and lives(directory):
        os.kill(int((directory / "left").read_text()), signal.SIGKILL)
        found.append("leave a process")
    return found


def main() -> int:
    found = attack(sys.argv[1], Path(sys.argv[2]).resolve())
    print("".join(f"{line}\n" for line in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
