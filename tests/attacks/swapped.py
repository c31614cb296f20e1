#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a project's unprivileged owner turns a directory of his into a link, and root writes his files there.

It uses files, command lines and modules only. What root writes is the owner's: his files are in the backup. He is a
process of his own, and may write to nothing but his home. Everything lies below one directory, which stands for the
machine's root: /etc of root's, and the owner's home with his project.

Usage: swapped.py product|unprotected in-between|turned|roots

in-between: the owner exchanges a directory of his for a link to /etc/cron.d and back, all the time. Root meets the
moment after his look by chance, so he is tried again, a bounded number of times. turned: the whole project is a link to
/etc, before root begins. roots: it is a link that root made, to another disk; then it is to be followed.

product: the modules that the playbook recover_backend puts files back with. unprotected: a script that looks whether
the directory is a link, and then copies by path. Prints what is in /etc, a line each. Exit 0: there is something; 1:
nothing; 3: nothing, and the moment was not met, so that nothing is known.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ended
import machine
import place_files

NOBODY = 65534
STACK = f"attacked-swap-{os.getpid()}"  # its lock is the machine's, where others may run this too
# An engine that answers, and a project without services: none is to be started.
DOCKER = """#!/bin/sh
case " $* " in *" config "*) echo '{"name": "shop", "services": {}}' ;; esac
"""
COUNT = 100  # of files in the directory: so often root looks and writes in one run
ROUNDS = {"product": 5, "unprotected": 500}
MET = "Not a directory: conf"  # what the kernel says of a link that is there where a directory was looked at
AS_OWNER = f"import ctypes, os, sys, time; os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})\n"
TURN = "name, target = sys.argv[1:]; os.rename(name, name + '.mine'); os.symlink(target, name)"
# renameat2(2): both names are there at any time, and each is the one or the other.
EXCHANGE = """
name, target, first = sys.argv[1:]
other = name + ".mine"
os.symlink(target, other)
kernel = ctypes.CDLL(None, use_errno=True)
def exchange():
    if kernel.renameat2(-100, os.fsencode(name), -100, os.fsencode(other), 2):
        sys.exit(os.strerror(ctypes.get_errno()))
exchange()
exchange()
print("exchanged", flush=True)
while not os.path.exists(first):
    time.sleep(0.001)
while True:
    exchange()
    time.sleep(0.00002)  # so that it is woken while root works, also where they share a processor
"""
NAIVE = """
import os, shutil, sys
source, target = sys.argv[1:]
for folder, _, names in os.walk(source):
    for name in names:
        place = target + folder[len(source):]
        os.makedirs(place, exist_ok=True)
        if not os.path.islink(place):
            shutil.copyfile(os.path.join(folder, name), os.path.join(place, name))
"""


class World:
    """The machine below `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.etc, self.project = root, root / "etc", root / "home/shop"
        (self.etc / "cron.d").mkdir(parents=True)
        own = {"home/shop/compose.yml": (0o644, "services: {}\n"), "home/shop/cron.d/evil": (0o644, "evil\n")}
        evil = {f"home/shop/conf/evil{number}": (0o644, "* * * * * root evil\n") for number in range(COUNT)}
        place_files.write(root, own, evil, {}, STACK)
        (root / "bin").mkdir()
        (root / "bin/docker").write_text(DOCKER)
        for name, (_mode, text) in {**own, **evil}.items():
            path = root / "unpacked" / Path(name).relative_to("home/shop")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.empty()
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)

    def empty(self) -> None:
        """The owner's project as it is before a recovery: his directory, without files."""
        if self.project.exists():
            shutil.rmtree(self.project)
        (self.project / "conf").mkdir(parents=True)
        for path in (self.project.parent, self.project, self.project / "conf"):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755)

    def recover(self, target: str) -> str:
        """As root. Returns what it said."""
        words = [sys.executable, "-c", NAIVE, str(self.root / "unpacked"), str(self.project)]
        environment = machine.with_modules({**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"})
        if target == "product":
            own = {"settings": self.settings()}
            again = {**own, "method": "redeploy", "force": True}
            plan = machine.planned(self.root, "backend_plan_info", again, environment)
            words = machine.module(self.root, "backend_recover", {**own, "plan": plan})
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
        if done.returncode and '"failed": true' not in done.stdout:  # a module's answer that it refuses is one
            raise SystemExit(f"the recovery did not run, which proves nothing: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def settings(self) -> dict[str, object]:
        return {
            "stack": STACK,
            "runtime": {"project_directory": str(self.project)},
            "database": {"service": ""},
            "repository": {"type": "local", "path": str(self.root / "backup")},
            "state_directory": str(self.root / "state"),
        }

    def got(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.etc.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def exchanging(name: Path, target: Path, first: Path) -> Iterator[None]:
    """The owner's process, which begins when root has written his first file, and goes on until the block ends."""
    words = [sys.executable, "-c", AS_OWNER + EXCHANGE, str(name), str(target), str(first)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert process.stdout
        if not process.stdout.readline():
            raise SystemExit("the owner cannot exchange his directory, which proves nothing")
        yield
    finally:
        process.kill()
        process.communicate()


def in_between(world: World, target: str) -> int:
    for number in range(ROUNDS[target]):
        world.empty()
        with exchanging(world.project / "conf", world.etc / "cron.d", world.project / "compose.yml"):
            said = world.recover(target)
        if not (world.project / "compose.yml").is_file():
            raise SystemExit(f"the project's own file is not there, this was no recovery: {said}")
        if world.got() or MET in said:
            print(f"{said[-20_000:]}\nafter {number + 1} rounds", file=sys.stderr)
            return 0 if world.got() else 1
    return 3


def turned(world: World, target: str) -> int:
    words = [sys.executable, "-c", AS_OWNER + TURN, str(world.project), str(world.etc)]
    subprocess.run(words, check=True, cwd="/")
    print(world.recover(target), file=sys.stderr)
    return 0 if world.got() else 1


def roots(world: World, target: str) -> int:
    moved = world.root / "disk"
    world.project.rename(moved)
    world.project.symlink_to(moved)
    print(world.recover(target), file=sys.stderr)
    if len([*moved.glob("conf/evil*")]) != COUNT:
        raise SystemExit("the project's files are not there, this was no recovery")
    return 0 if world.got() else 1


def main() -> int:
    target, how = sys.argv[1], {"in-between": in_between, "turned": turned, "roots": roots}[sys.argv[2]]
    with tempfile.TemporaryDirectory(prefix="lifeboat-") as found:  # where others may look
        world = World(Path(found))
        code = how(world, target)
        print("".join(f"{name}\n" for name in world.got()), end="")
    return code


if __name__ == "__main__":
    ended.end(main, STACK)
