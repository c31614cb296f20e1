# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with the command, and as much of systemd as the units of continuous protection need: they are really run.

The unit files are those that `lifeboat wal enable` wrote. ExecStart is carried out as it stands there; Restart=always
and OnUnitInactiveSec are loops of a shell. What happens at a boot, and limits, are not there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous
from ansible_collections.lifeboat.dr.plugins.modules import agent
from test_wal_off_the_host import Elsewhere

_SCRIPT = """#!/bin/bash
# {units}: where the units are
units={units} run={units}/.run
mkdir -p "$run"
field() {{ sed -n "s/^$2=-\\?//p" "$units/$1" | head -n 1; }}
stop() {{
    [ -f "$run/$1.pid" ] || return 0
    kill -KILL -- "-$(cat "$run/$1.pid")" 2>/dev/null
    rm -f "$run/$1.pid"
}}
begin() {{
    [ -f "$run/$1.pid" ] && kill -0 "$(cat "$run/$1.pid")" 2>/dev/null && return 0
    case $1 in
    *.timer)
        pause=$(field "$1" OnUnitInactiveSec)
        loop="sleep 1; while :; do $(field "${{1%.timer}}.service" ExecStart); sleep $pause; done" ;;
    *)
        loop=$(field "$1" ExecStart)
        if grep -q '^Restart=always' "$units/$1"; then
            loop="while :; do $loop; $(field "$1" ExecStopPost); sleep 2; done"
        fi ;;
    esac
    setsid bash -c "$loop" </dev/null >>"$run/$1.log" 2>&1 &
    echo $! >"$run/$1.pid"
}}
verb=$1
for name in "${{@:2}}"; do
    case $name in --*) continue ;; esac
    case $verb in
    enable | start) begin "$name" ;;
    restart) stop "$name"; begin "$name" ;;
    disable | stop) stop "$name" ;;
    esac
done
exit 0
"""


class Systemctl:
    """The command, in a directory to be put on PATH. units: where the unit files are written."""

    def __init__(self, directory: Path, units: Path) -> None:
        self.run = units / ".run"
        directory.mkdir(exist_ok=True)
        units.mkdir(exist_ok=True)
        self.path = directory / "systemctl"
        self.path.write_text(_SCRIPT.format(units=units))
        self.path.chmod(0o755)

    def groups(self) -> list[int]:
        return [int(path.read_text()) for path in self.run.glob("*.pid")]

    def log(self, unit: str) -> str:
        """What a unit has printed."""
        path = self.run / f"{unit}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def process(self, unit: str) -> int:
        """The process that the unit runs now."""
        group = int((self.run / f"{unit}.pid").read_text())
        done = subprocess.run(["pgrep", "-P", str(group)], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[0])

    def kill(self) -> None:
        """As where the host is gone: nothing is asked."""
        for group in self.groups():
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                print(f"{group} had ended", file=sys.stderr)
        for path in self.run.glob("*.pid"):
            path.unlink()


class Host(Elsewhere):
    """With the command, its configuration, and the units that `wal enable` writes."""

    def install(self) -> None:
        for name in ("bin", "units"):
            (self.root / name).mkdir()
        self.systemctl = Systemctl(self.root / "bin", self.root / "units")
        (self.root / "lifeboat.pyz").write_bytes(agent.build(sys.executable))
        self.configure()
        words = f'#!/bin/sh\nexec {sys.executable} {self.root}/lifeboat.pyz "$@" --config-directory {self.root}/etc\n'
        path = self.root / "bin" / "lifeboat"
        path.write_text(words)
        path.chmod(0o755)

    def configure(self) -> None:
        """As a deployment writes it."""
        etc, stack = self.root / "etc", self.stack.stack
        etc.mkdir(exist_ok=True)
        (etc / f"{stack}.json").write_text(json.dumps(self.settings()))
        (etc / f"{stack}.secrets.json").write_text(json.dumps(self.keys))

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be on that host: what this process starts finds its commands first."""
        monkeypatch.setenv("PATH", f"{self.root}/bin:{os.environ['PATH']}")
        monkeypatch.setattr(continuous, "UNITS", self.root / "units")
        monkeypatch.setattr(continuous, "_RUNS", self.root / "units")

    def begin(self, *words: str) -> subprocess.Popen[str]:
        argv = [f"{self.root}/bin/lifeboat", *words, "--stack", self.stack.stack]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lifeboat(self, *words: str) -> tuple[int, Any, str]:
        """Exit code, what --json printed, and what was said."""
        with self.begin(*words, "--json") as running:
            out, err = running.communicate(timeout=300)
        print(err)
        assert "Traceback" not in err
        return running.returncode, json.loads(out) if out.strip() else None, err

    def unit(self, kind: str) -> str:
        return f"lifeboat-{kind}-{self.stack.stack}"
