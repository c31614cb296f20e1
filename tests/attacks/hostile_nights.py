#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: night after night who is root on one stack's host writes all that it can at a keeper that fetches from
three, to fill its disk, its inodes, its memory or its time, so that the other two are not fetched.

It uses files and command lines only. Each night it spends its share of bytes and of files in one way: a large backup,
one of empty files, names, manifests of many values, documents of every folder, depth and names, files without an end,
old backups with other bytes. What it can write to ssh's errors is the attack of full_keeper.py.
The clock of the keeper's commands goes a day further each night.

Usage: hostile_nights.py product|unprotected ROOT NIGHTS DISK BYTES FILES

product: `lifeboat keeper pull --prune` and `status` of each stack, the hostile one first. unprotected: a copy of each
repository. DISK: of the keeper, which is a file system of its own for as long as this runs. BYTES, FILES: that the host
may write in all. Prints each night in which another stack was not fetched, not pruned or not told; on standard error
the peaks. Exit 0: there was one.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import ended
import hostile_host
from hostile_host import DAY, NOW, identity, publish

OTHERS = ("blog", "wiki")
COUNTED = 16384  # bytes that ext4 has for an inode
ROWS = 64 << 10  # bytes of an honest backup


class Host:
    """Who spends bytes and files; what it spent before is taken away again every few nights, so as to write more."""

    def __init__(self, root: Path, size: int, files: int) -> None:
        self.root, self.size, self.files = root, size, files
        self.folder = root / "backup/postgresql"
        self.written = [0, 0]

    def spend(self, night: int) -> None:
        ways: tuple[Callable[[int], None], ...] = (
            self.large, self.empty, self.names, self.manifests, self.documents, self.deep, self.endless, self.again,
        )  # fmt: skip
        if night % 10 == 9:
            for name in ("postgresql", "recovery-points", "config", "holds"):
                shutil.rmtree(self.root / "backup" / name, ignore_errors=True)
        ways[night % len(ways)](night)

    def backup(self, night: int, second: int, artefacts: dict[str, bytes]) -> Path:
        moment = NOW - (Night.all - night) * DAY + timedelta(seconds=second)
        publish(self.root, identity(moment), moment, artefacts)
        self.written[0] += sum(map(len, artefacts.values()))
        self.written[1] += len(artefacts) + 1
        return self.folder / identity(moment)

    def large(self, night: int) -> None:
        for second in range(4):
            self.backup(night, second, {"database.dump": os.urandom(self.size // 4)})

    def empty(self, night: int) -> None:
        for second in range(4):
            self.backup(night, second, {f"{number}.dat": b"" for number in range(self.files // 4)})

    def names(self, night: int) -> None:
        for number in range(self.files):
            moment = NOW - (Night.all - night) * DAY - timedelta(seconds=number + 10)
            (self.folder / identity(moment)).mkdir(parents=True, exist_ok=True)
        self.written[1] += self.files

    def manifests(self, night: int) -> None:
        honest = hostile_host.DETAILS
        try:
            for second in range(4):
                many: list[list[str]] = [[]] * min(2_000_000, self.size // 16)
                hostile_host.DETAILS = {**honest, "more": many}
                made = self.backup(night, second, {"database.dump": b"rows"})
                self.written[0] += (made / "manifest.json").stat().st_size
        finally:
            hostile_host.DETAILS = honest

    def documents(self, night: int) -> None:
        backup = self.root / "backup"
        for number, folder in enumerate(("recovery-points", "holds", "config", "escrow", "", "postgresql")):
            (backup / folder).mkdir(parents=True, exist_ok=True)
            for file in range(self.files // 6):
                (backup / folder / f"{night}-{number}-{file}.json").write_bytes(b"[" * 100)
            (backup / folder / "repository.json").write_bytes(b"x" * (self.size // 6))
        (backup / "repository.json").unlink()
        self.written[0] += self.size
        self.written[1] += self.files

    def deep(self, night: int) -> None:
        at = self.backup(night, 0, {"database.dump": b"rows"})
        for depth in range(min(200, self.files)):
            at = at / f"{depth}"
        at.mkdir(parents=True)
        for number in range(self.files // 2):
            (self.folder / f"{night}-{number}-{'x' * 200}").touch()
        os.mkfifo(at / "pipe")
        (self.folder / f"link-{night}").symlink_to("/")
        self.written[1] += self.files

    def endless(self, night: int) -> None:
        for second in range(4):
            made = self.backup(night, second, {"database.dump": b"rows"})
            with (made / "database.dump").open("wb") as file:
                file.truncate(1 << 40)
            with (made / "verification.json").open("wb") as file:
                file.truncate(1 << 40)

    def again(self, night: int) -> None:
        for made in sorted(self.folder.glob("db_backup_*/database.dump"))[:8]:
            if made.stat().st_size < 1 << 30:
                made.write_bytes(os.urandom(self.size // 8))
                self.written[0] += self.size // 8


class Night:
    """all: how many there are."""

    all = 0


class Keeper:
    """The commands of a keeper as its timer runs them, each in a process of its own, and what the dearest of all took.

    Python and what it imports are begun once, as that takes longer than most commands do.
    """

    def __init__(self, root: Path, disk: int) -> None:
        self.root, self.peaks = root, {"bytes": 0, "inodes": 0, "memory": 0, "seconds": 0.0}
        (root / "etc").mkdir()
        for stack in (hostile_host.STACK, *OTHERS):
            directory = root / "vault" / stack
            directory.mkdir()
            source = {"mounted": str(root / stack / "backup")}
            quota = disk // 2 if stack == hostile_host.STACK else disk // 5
            keeper = {"directory": str(directory), "source": source, "quota": f"{quota // 1000}K", "silent_hours": 30}
            (root / f"etc/{stack}.json").write_text(
                json.dumps({"stack": stack, "config": {"enabled": False}, "keeper": keeper})
            )
        os.environ["TMPDIR"] = str(root / "vault")  # what it leaves there is on its disk
        sys.path.insert(0, str(Path(__file__).parents[2] / ".ansible/collections"))
        self.main = importlib.import_module("ansible_collections.lifeboat.dr.plugins.module_utils.command.cli").main

    def run(self, night: int, *words: str) -> tuple[int, str]:
        log, began = self.root / "log", time.monotonic()
        child = os.fork()
        if not child:
            code = 70
            try:
                with log.open("wb") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                offset(timedelta(days=night - Night.all, minutes=30))
                code = self.main(["keeper", *words, "--config-directory", str(self.root / "etc")])
                sys.stdout.flush()
            finally:
                os._exit(code)
        _child, status, used = os.wait4(child, 0)
        self.look(used.ru_maxrss, time.monotonic() - began)
        return os.waitstatus_to_exitcode(status), log.read_text("utf-8", "replace")

    def look(self, memory: int, seconds: float) -> None:
        disk = os.statvfs(self.root / "vault")
        found = {
            "bytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize, "inodes": disk.f_files - disk.f_ffree,
            "memory": memory << 10, "seconds": round(seconds, 1),
        }  # fmt: skip
        self.peaks = {name: max(value, found[name]) for name, value in self.peaks.items()}


def offset(by: timedelta) -> None:
    """Have the keeper see another time, as if its machine's clock had gone on."""
    clock = importlib.import_module("ansible_collections.lifeboat.dr.plugins.module_utils.base.clock")
    real = clock.now
    clock.now = lambda: real() + by  # type: ignore[attr-defined]


def product(root: Path, host: Host, disk: int) -> list[str]:
    keeper, lost, alarms = Keeper(root, disk), [], 0
    for night in range(Night.all):
        names = honest(root, night)
        host.spend(night)
        code, said = keeper.run(night, "pull", "--prune", "--stack", hostile_host.STACK)
        alarms += code != 0
        if "Traceback" in said:
            raise SystemExit(f"night {night}: {said[-2000:]}")
        for stack in OTHERS:
            code, said = keeper.run(night, "pull", "--prune", "--stack", stack)
            there = root / "vault" / stack / "repository/postgresql" / names[stack]
            if code or not (there / "manifest.json").exists():
                lost.append(f"night {night}: {stack} was not fetched: exit {code} {said[-300:]}")
            code, said = keeper.run(night, "status", "--stack", stack)
            if code or names[stack][-15:-7] not in said.replace("-", ""):
                lost.append(f"night {night}: {stack} was not told: exit {code} {said[-600:]}")
        code, said = keeper.run(night, "status", "--stack", hostile_host.STACK)
        alarms += code != 0
        print(f"night {night}: {keeper.peaks}, written {host.written}", file=sys.stderr)
    if Night.all > 8 and not alarms:
        raise SystemExit("the hostile stack was never told, which proves nothing")
    print(f"peaks of {Night.all} nights: {json.dumps(keeper.peaks)}; the host wrote {host.written}", file=sys.stderr)
    return lost


def unprotected(root: Path, host: Host) -> list[str]:
    lost: list[str] = []
    for night in range(Night.all):
        names = honest(root, night)
        host.spend(night)
        for stack in (hostile_host.STACK, *OTHERS):
            words = ["timeout", "20", "cp", "-RL", "--", f"{root / stack}/backup/postgresql", f"{root}/vault/{stack}"]
            subprocess.run(words, check=False, stderr=subprocess.DEVNULL)
        lost += [
            f"night {night}: {stack}"
            for stack in OTHERS
            if not list((root / "vault" / stack).rglob(f"{names[stack]}/manifest.json"))
        ]
        if lost:
            break
    return lost


def honest(root: Path, night: int) -> dict[str, str]:
    """A backup of each other stack; the names."""
    moment, found, hostile = NOW - (Night.all - night) * DAY, {}, hostile_host.STACK
    for stack in OTHERS:
        hostile_host.STACK = stack
        found[stack] = identity(moment)
        publish(root / stack, found[stack], moment, {"database.dump": os.urandom(ROWS)})
    hostile_host.STACK = hostile
    return found


def main() -> int:
    target, root = sys.argv[1], Path(sys.argv[2])
    Night.all, disk, size, files = map(int, sys.argv[3:7])
    if os.environ.get("LIFEBOAT_DISK") != str(root):
        script = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
        (root / "vault").mkdir()
        options = f"size={disk},nr_inodes={disk // COUNTED},mode=700"
        words = [
            "unshare",
            *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
            "--mount",
            "sh",
            "-c",
            script,
        ]
        words += ["sh", options, str(root / "vault"), sys.executable, *sys.argv]
        return subprocess.run(words, check=False, env={**os.environ, "LIFEBOAT_DISK": str(root)}).returncode
    for stack in (hostile_host.STACK, *OTHERS):
        (root / stack / "backup").mkdir(parents=True)
    host = Host(root / hostile_host.STACK, size // Night.all, files // Night.all)
    lost = product(root, host, disk) if target == "product" else unprotected(root, host)
    print("\n".join(lost))
    return 0 if lost else 1


if __name__ == "__main__":
    ended.end(main, hostile_host.STACK)
