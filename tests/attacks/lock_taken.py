#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a local user takes the lock of a stack before root does, so that no backup is made.

It uses files and command lines only. He is a process of his own without privileges. He makes the lock's file in each
directory that he may write to, and holds it. `/run/lock` is everybody's on Debian: there the kernel lets root open no
file that somebody else made (see fs.protected_regular in proc(5)), or root waits for one that somebody else holds.

Usage: lock_taken.py product|everybodys|unprotected DIRECTORY

product: `lifeboat backup config`. everybodys: the same where its directory of locks is one that everybody may write to,
mounted over it for this run. unprotected: a backup by a script, as cron jobs have it, with flock(1) in a directory as
/run/lock is. Prints the name of the lock that kept root from a backup. Exit 0: there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ended
from hostile_archive import CLI, ROOT

NOBODY = 65534
STACK = f"attacked-lock-{os.getpid()}"  # its lock is the machine's, where others may run this too
LOCK = f"lifeboat-{STACK}.lock"
PLACES = [Path(place) for place in ("/run/lifeboat", "/run/lock", "/run", "/var/lock", "/var/tmp", "/tmp")]
ATTACK = f"""
import fcntl, os, sys
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
held = []
for place in sys.argv[1:]:
    try:
        os.makedirs(place, exist_ok=True)
        handle = os.open(f"{{place}}/{LOCK}", os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(place)
    except OSError:
        pass
print(*held, flush=True)
sys.stdin.read()
"""
NAIVE = 'exec 9>"$0" && flock --nonblock 9 && tar --create --file "$2/backup.tar" --directory "$1" .'
OVER = 'mount --bind "$0" /run/lifeboat && exec "$@"'


@contextlib.contextmanager
def attacker(*places: Path) -> Iterator[list[str]]:
    """In which of these directories he holds the lock."""
    words = [sys.executable, "-c", ATTACK, *map(str, places)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert process.stdout
        yield process.stdout.readline().split()
    finally:
        process.communicate()  # the end of its input is its end
        for place in places:
            (place / LOCK).unlink(missing_ok=True)


def command(target: str, directory: Path, shared: Path) -> list[str]:
    project, backup = directory / "project", directory / "backup"
    if target == "unprotected":
        return ["sh", "-c", NAIVE, str(shared / LOCK), str(project), str(backup)]
    words = [sys.executable, "-c", CLI, "backup", "config", "--config-directory", str(directory / "etc")]
    return ["unshare", "--mount", "sh", "-c", OVER, str(shared), *words] if target == "everybodys" else words


def backed_up(target: str, directory: Path, shared: Path) -> bool:
    """Whether root's command made a backup. What it says goes to standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    words = command(target, directory, shared)
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(f"{done.stdout}{done.stderr}exit {done.returncode}", file=sys.stderr)
    backup = directory / "backup"
    made = (backup / "backup.tar").exists() or any(backup.glob("config/*/manifest.json"))
    if made != (done.returncode == 0):
        raise SystemExit("the command does not end as it did its work, which proves nothing")
    return made


def main() -> int:
    target, directory = sys.argv[1], Path(sys.argv[2]).resolve()
    settings = {
        "stack": STACK,
        "runtime": {"type": "host", "project_directory": str(directory / "project")},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
    }
    for name in ("etc", "project", "backup"):
        (directory / name).mkdir()
    (directory / "project/app.conf").write_text("x = 1\n")
    (directory / f"etc/{STACK}.json").write_text(json.dumps(settings))
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as made:  # not below DIRECTORY, where nobody else may look
        shared = Path(made)
        shared.chmod(0o1777)
        if target == "unprotected" and not backed_up(target, directory, shared):
            raise SystemExit("the script makes no backup without the attack either, which proves nothing")
        for path in (shared / LOCK, directory / "backup/backup.tar"):  # as after the machine's start
            path.unlink(missing_ok=True)
        with attacker(*PLACES, shared) as held:
            if str(shared) not in held:
                raise SystemExit("the attacker holds no lock in a directory that is everybody's, which proves nothing")
            print(f"he holds the lock in {', '.join(held)}", file=sys.stderr)
            kept = not backed_up(target, directory, shared)
    print(f"{LOCK}\n" if kept else "", end="")
    return 0 if kept else 1


if __name__ == "__main__":
    ended.end(main)
