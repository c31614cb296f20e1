#!/usr/bin/env python3
# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack, which nobody need mean: retention deletes a backup while it is being verified.

It uses files and command lines only. `lifeboat verify` proves an old config backup, and is stopped in the middle of
that: while it waits for the `docker` that it asks, which is one of ours. Then what deletes old backups runs, to its
end, and the verification goes on.

Usage: prune_verify.py product|unprotected DIRECTORY

product: `lifeboat prune`. unprotected: `find … -delete`, as cron jobs have it, which knows of no lock. Prints what is
gone of the backup that was being verified, a line each. Exit 0: something.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ended
import hostile_archive

ROOT, STACK = Path(__file__).parents[2], "attacked-prune"
DOCKER = """#!/bin/sh
case " $* " in *" config "*) ;; *) exit 0 ;; esac
echo >{directory}/reached
while [ ! -e {directory}/go ]; do sleep 0.05; done
"""


def command(directory: Path, *words: str) -> list[str]:
    return [sys.executable, "-c", hostile_archive.CLI, *words, "--config-directory", str(directory / "etc")]


def attack(target: str, directory: Path, environment: dict[str, str]) -> list[str]:
    repository = directory / "backup"
    old, _new = (
        hostile_archive.plant(repository, day, hostile_archive.HARMLESS, directory, STACK, compose_files=["/file"])
        for day in (0, 1)
    )
    folder = repository / "config" / old
    before = sorted(path.name for path in folder.iterdir())
    prune = command(directory, "prune", "--trust-clock")
    if target == "unprotected":
        prune = ["find", str(repository), "-path", f"*/{old}*", "-delete"]
    else:
        would = subprocess.run([*prune, "--dry-run"], check=False, capture_output=True, text=True, env=environment)
        print(f"{would.returncode} {would.stdout}{would.stderr}", file=sys.stderr)
        if f"would delete  {old}\n" not in would.stdout:
            raise SystemExit("retention would not delete that backup, so that nothing is shown")
    verify = subprocess.Popen(
        command(directory, "verify", old, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    while not (directory / "reached").exists():
        if verify.poll() is not None:
            raise SystemExit(f"docker was not asked, which proves nothing: {verify.communicate()}")
        time.sleep(0.02)
    verify.send_signal(signal.SIGSTOP)  # in the middle of it, for as long as the other takes
    pruned = subprocess.run(prune, check=False, capture_output=True, text=True, env=environment)
    after = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    (directory / "go").touch()
    verify.send_signal(signal.SIGCONT)
    out, err = verify.communicate()
    print(f"{pruned.returncode} {pruned.stdout}{pruned.stderr}\n{verify.returncode} {out}{err}", file=sys.stderr)
    return [f"{name} is gone" for name in before if name not in after]


def main() -> int:
    target, directory = sys.argv[1], Path(sys.argv[2]).resolve()
    settings = {
        "stack": STACK,
        "runtime": {"project_directory": "/"},
        "repository": {"type": "local", "path": str(directory / "backup")},
        "state_directory": str(directory / "state"),
        "retention": {"daily_days": 0, "weekly_months": 0, "monthly_months": 0, "minimum": 1},
    }
    for name in ("bin", "etc"):
        (directory / name).mkdir()
    (directory / f"etc/{STACK}.json").write_text(json.dumps(settings))
    docker = directory / "bin/docker"
    docker.write_text(DOCKER.format(directory=directory))
    docker.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
    environment["PATH"] = f"{docker.parent}:{environment['PATH']}"
    found = attack(target, directory, environment)
    print("".join(f"{line}\n" for line in found), end="")
    return 0 if found else 1


if __name__ == "__main__":
    ended.end(main)
