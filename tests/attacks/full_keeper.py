#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who is root on a stack's host fills the disk, the inodes or the memory of what fetches from it, or makes
its alarm blind. Other stacks are fetched by the same host.

It uses files and command lines only. `stderr`: what answers at the SSH port writes without end where errors are
written. `nodes`: backups of empty files, which a quota of bytes does not see. `manifests`: well-formed ones, of values
that nobody needs. `names`: the host deletes its backups, and leaves names in their place. `ids`: so many backups that
the log's line of the night on which they are removed is longer than what reads the log takes.

Usage: full_keeper.py product|unprotected stderr|nodes|manifests|names|ids ROOT

product: `lifeboat keeper`, with a quota of 20 MB. unprotected: what scripts do: ssh with its errors in a file, a copy,
a count of names. Exit 0: it got what it wanted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import ended
import hostile_host
import machine
from hostile_host import DAY, NOW, STACK, identity, publish
from machine import Machine

QUOTA, MEGABYTES = "20M", 64
IDS, LINE = 9600, 256 << 10  # of backups; bytes of a line that a reader takes
# As ssh does, it hands on what the other side writes to its errors. It notes how large the file of its own is by then.
SSH = """#!{python}
import os, stat
block = b"x" * (1 << 20)
for _ in range({megabytes}):
    os.write(2, block)
found = os.fstat(2)
open({mark!r}, "w").write(str(found.st_size if stat.S_ISREG(found.st_mode) else 0))
"""


def keeper(root: Path, *words: str, path: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    """before: what Python does first."""
    command = [sys.executable, "-c", before + hostile_host.COMMAND, "keeper", *words, "--stack", STACK]
    command += ["--config-directory", str(root / "etc")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / ".ansible/collections")}
    environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=3000)
    print(f"exit {done.returncode}\n{done.stdout}{done.stderr[-3000:]}", file=sys.stderr)
    return done


def settings(root: Path, source: dict[str, object], **more: object) -> None:
    for name in ("etc", "vault"):
        (root / name).mkdir()
    told = {"directory": str(root / "vault"), "source": source, "quota": QUOTA, "silent_hours": 100_000, **more}
    (root / "etc/shop.json").write_text(json.dumps({"stack": STACK, "config": {"enabled": False}, "keeper": told}))


def stderr(target: str, root: Path) -> bool:
    mark, tools = root / "mark", root / "bin"
    tools.mkdir()
    ssh = tools / "ssh"
    ssh.write_text(SSH.format(python=sys.executable, mark=str(mark), megabytes=MEGABYTES))
    ssh.chmod(0o755)
    if target == "unprotected":
        with (root / "errors").open("wb") as errors:
            subprocess.run([str(ssh), "shop1"], check=True, stderr=errors)
    else:
        for name in ("key", "known_hosts"):
            (root / name).write_text("")
        source = {"host": "shop1", "user": "keeper", "identity_file": str(root / "key"),
                  "known_hosts": str(root / "known_hosts"), "directory": "/"}  # fmt: skip
        settings(root, source)
        keeper(root, "pull", path=str(tools))
    if not mark.exists():
        raise SystemExit("ssh was not called, or it did not come to its end, which proves nothing")
    return int(mark.read_text()) > 1 << 20


def nodes(target: str, root: Path) -> bool:
    for number in range(4):
        empty = {f"{part}_{file}": b"" for part in range(10) for file in range(60)}
        publish(root, identity(NOW - number * DAY), NOW - number * DAY, {"database.dump": b"rows", **empty})
    if target == "unprotected":
        shutil.copytree(root / "backup", root / "vault/repository")
    else:
        settings(root, {"mounted": str(root / "backup")})
        keeper(root, "pull")
    there = sum(1 for _path in (root / "vault").rglob("*"))
    if not any((root / "vault").rglob("database.dump")):
        raise SystemExit("no backup was received, which proves nothing")
    return there * 16384 > 20 << 20  # more inodes than ext4 makes for that many bytes


def manifests(target: str, root: Path) -> bool:
    """Of 14 with 2,000,000 values each, prune and status ended in a MemoryError below 1 GiB."""
    honest = {**hostile_host.DETAILS}
    publish(root, identity(NOW - 30 * DAY), NOW - 30 * DAY, {"database.dump": b"rows"})
    for number in range(2):
        hostile_host.DETAILS = {**honest, "more": [[]] * (100_000 - number)}
        publish(root, identity(NOW - number * DAY), NOW - number * DAY, {"database.dump": b"rows"})
    if target == "unprotected":
        shutil.copytree(root / "backup", root / "vault/repository")
    else:
        settings(root, {"mounted": str(root / "backup")})
        keeper(root, "pull")
    if not any((root / "vault").rglob("database.dump")):
        raise SystemExit("no backup was received, which proves nothing")
    return sum(path.stat().st_size for path in (root / "vault").rglob("manifest.json")) > 1 << 20


def names(target: str, root: Path) -> bool:
    host = root / "backup/postgresql"
    nights = [NOW - (20 - number) * DAY for number in range(20)]
    for moment in nights:
        publish(root, identity(moment), moment, {"database.dump": moment.isoformat().encode()})
    if target == "product":
        settings(root, {"mounted": str(root / "backup")})
        keeper(root, "pull")
    had = len(list(host.iterdir()))
    for moment in nights[:-1]:
        shutil.rmtree(host / identity(moment))
        (host / identity(moment + timedelta(seconds=1))).mkdir()
    if target == "unprotected":
        return len(list(host.iterdir())) >= had
    done = keeper(root, "pull", "--prune")
    if done.returncode not in (0, 6):
        raise SystemExit("the pull failed, which proves nothing")
    return "fewer: the stack has 1 backups" not in done.stdout + done.stderr


def ids(target: str, root: Path) -> bool:
    moments = [NOW - 9 * DAY + timedelta(minutes=number) for number in range(IDS)]
    if target == "unprotected":
        log = root / "log"
        log.write_text(json.dumps({"pruned": [identity(moment) for moment in moments]}) + "\n")
        with log.open() as file:
            return not file.readline(LINE).endswith("\n")
    for moment in moments:
        publish(root, identity(moment), moment, {"database.dump": b"rows"})
    settings(root, {"mounted": str(root / "backup")}, quota="4G", limits={"names": 2 * IDS})
    # A disk takes a minute to be told of so many files, one by one, which is not what is tried.
    keeper(root, "pull", before="import os; os.fsync = lambda handle: None; ")
    publish(root, identity(NOW), NOW, {"database.dump": b"rows"})  # without a good one since, nothing is removed
    later = Machine("keeper", machine.LIFEBOAT, str(root / "locks"))
    try:
        words = ["--json", "--stack", STACK, "--config-directory", str(root / "etc")]
        # By then the keeper was off for long, which its operator knows.
        for action in (["pull"], ["acknowledge", "--why", "it was off"], ["pull", "--prune"]):
            print(*later.run("keeper", *action, *words, days=800), file=sys.stderr)
        there = len(list((root / "vault/repository/postgresql").iterdir()))
        if there > IDS / 10:
            raise SystemExit(f"{there} backups are there still, which proves nothing")
        code, said = later.run("keeper", "pull", *words, days=800)
    finally:
        later.end()
    print(code, said, file=sys.stderr)
    return "error" in said


def main() -> int:
    target, way, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    ways = {"stderr": stderr, "nodes": nodes, "manifests": manifests, "names": names, "ids": ids}
    return 0 if ways[way](target, root) else 1


if __name__ == "__main__":
    ended.end(main, STACK)
