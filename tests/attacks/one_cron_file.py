#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack: who may name a stack of his own `a_b` takes the schedule of the stack `a.b` on the same machine.

It uses a playbook and files only. cron reads no file with a dot in its name, and both have a job of the same name. What
they write is in a directory of this run, which is put over /etc/cron.d for it alone.

Usage: one_cron_file.py product|unprotected DIRECTORY

product: the collection's module `schedule`. unprotected: a script that turns the dots of a name into
underscores. Prints each stack that has no job any more, a line each. Exit 0: there is one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ended

ROOT = Path(__file__).parents[2]
STACKS, NAME = ("a.b", "a_b"), "lifeboat backup database"


NAIVE = """for stack; do
  echo "0 2 * * * root lifeboat backup database --stack $stack" >/etc/cron.d/lifeboat-$(echo $stack | tr . _)
done"""


def task(stack: str) -> dict[str, object]:
    job = {"name": NAME, "schedule": "0 2 * * *", "job": f"{NAME} --stack {stack}"}
    return {"lifeboat.dr.schedule": {"stack_name": stack, "jobs": [job]}}


def product(directory: Path) -> list[str]:
    playbook = directory / "playbook.json"
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task(stack) for stack in STACKS]}
    playbook.write_text(json.dumps([play]))
    words = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(playbook)]
    return [*words, "-e", f"ansible_python_interpreter={sys.executable}"]


def unprotected(_directory: Path) -> list[str]:
    return ["sh", "-c", NAIVE, "sh", *STACKS]


def main() -> int:
    target, directory = {"product": product, "unprotected": unprotected}[sys.argv[1]], Path(sys.argv[2]).resolve()
    cron = directory / "cron.d"
    cron.mkdir()
    over = 'mount --bind "$0" /etc/cron.d && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", over, str(cron), *target(directory)],
        check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ,
    )  # fmt: skip
    print(done.stdout + done.stderr, file=sys.stderr)
    if done.returncode:
        raise SystemExit("it failed, which proves nothing")
    words = [line.split() for path in cron.iterdir() for line in path.read_text().splitlines()]
    found = [stack for stack in STACKS if not any(line[-1:] == [stack] for line in words)]
    if len(found) == len(STACKS):
        raise SystemExit("no stack has a job, which proves nothing")
    print("".join(f"{stack}\n" for stack in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
