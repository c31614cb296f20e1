# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of an attack: a process that runs a command as often as it is told to, and says how each ended.

One that runs `lifeboat` many times would else import the same each time, which takes longer than the command does. It
has a directory of locks of its own, as several machines are one here, and a clock that may be set forward.

And a module, run as Ansible runs it on a host, JSON in and JSON out: a playbook of two tasks takes four times as long.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostile_archive import ROOT

# Each line is the words of a command, and by how many days the machine's clock is ahead of this one's. The answer is
# what that prints, and its exit code. The first is not forked: what it imports, the others find there.
LIFEBOAT = """
import gc, json, os, sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock, lock
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
lock._directory = lambda: Path(sys.argv[1])
class Ahead(datetime):
    by = timedelta(0)
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.by
for number, line in enumerate(sys.stdin):
    gc.freeze()  # a child that collects it would copy it all
    child = os.fork() if number else 0
    if not child:
        words, days = json.loads(line)
        if days:
            Ahead.by, cli.datetime, clock.now = timedelta(days=days), Ahead, lambda: Ahead.now(timezone.utc)
        code = cli.main(words)
        sys.stdout.flush()
        if number:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else code, flush=True)
"""


class Machine:
    """program: LIFEBOAT, whose word is its directory of locks, or what stands for it and reads and answers the same."""

    def __init__(self, name: str, program: str, *words: str, path: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible/collections")}
        environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
        self.name, command = name, [sys.executable, "-c", program, *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def begin(self, *words: str, days: float = 0) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([words, days]).encode() + b"\n")
        self._process.stdin.flush()

    def ended(self) -> bool:
        """Whether what it was told is done, or itself has ended."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def answer(self) -> tuple[int, dict[str, Any]]:
        """The exit code of the command, and the JSON that it printed."""
        assert self._process.stdout
        told: dict[str, Any] = {}
        for line in self._process.stdout:
            if line.strip().lstrip(b"-").isdigit():
                return int(line), told
            told = json.loads(line)
        raise SystemExit(f"{self.name} gave no answer, which proves nothing")

    def run(self, *words: str, days: float = 0) -> tuple[int, dict[str, Any]]:
        self.begin(*words, days=days)
        return self.answer()

    def end(self) -> None:
        self._process.communicate()  # the end of its input is its end


def module(directory: Path, name: str, asked: Mapping[str, object]) -> list[str]:
    """The words that run a module. asked: its options, which lie in a file of the directory."""
    file = directory / f"{name}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": asked}))
    return [sys.executable, "-m", f"ansible_collections.lifeboat.dr.plugins.modules.{name}", str(file)]


def with_modules(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PYTHONPATH": str(ROOT / ".ansible/collections")}


def planned(directory: Path, name: str, asked: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, Any]:
    """The plan that a module makes."""
    words = module(directory, name, asked)
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    print(f"{done.stdout}{done.stderr}", file=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{name} made no plan, which proves nothing")
    plan: dict[str, Any] = json.loads(done.stdout)["plan"]
    return plan
