# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one command and see what it took: seconds, processor seconds, memory, and what else the machine was doing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

TICK = os.sysconf("SC_CLK_TCK")
POLL = 0.02


@dataclass
class Sample:
    """One run. `own_peak`: bytes of our process and what it started, docker's client apart. `others`: share of the
    machine's processors that went to anything but the command and the database's container while it ran."""

    seconds: float
    cpu_seconds: float
    others: float
    own_peak: int = 0
    docker_peak: int = 0
    size: int = 0
    output: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        found = {key: value for key, value in asdict(self).items() if value and key not in ("output", "extra")}
        return {**{key: round(value, 3) for key, value in found.items()}, **self.extra}


def busy() -> float:
    """Processor seconds the machine has worked since it started."""
    user, nice, system, _, _, irq, soft = (int(part) for part in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / TICK


def container_cpu(identity: str) -> float:
    """Processor seconds of a container, wherever this machine's cgroups keep them; 0 where they are not found."""
    if not identity:  # else a path that names none is that of all containers together
        return 0.0
    places = (
        (f"/sys/fs/cgroup/system.slice/docker-{identity}.scope/cpu.stat", 1e6),
        (f"/sys/fs/cgroup/docker/{identity}/cpu.stat", 1e6),
        (f"/sys/fs/cgroup/cpuacct/docker/{identity}/cpuacct.usage", 1e9),
        (f"/sys/fs/cgroup/cpuacct/system.slice/docker-{identity}.scope/cpuacct.usage", 1e9),
    )
    for path, unit in places:
        with contextlib.suppress(OSError):
            words = Path(path).read_text().split()
            return int(words[1] if words[0] == "usage_usec" else words[0]) / unit
    return 0.0


def wait_for_quiet(limit: float) -> float:
    """Wait until other work leaves the machine alone, at most `limit` seconds; the share that was busy at the end."""
    deadline = time.monotonic() + limit
    while True:
        before = busy()
        time.sleep(1)
        share = (busy() - before) / (os.cpu_count() or 1)
        if share < 0.1 or time.monotonic() > deadline:
            return share


def _children(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _children(int(child))
    return found


def _memory(pid: int) -> tuple[bool, int]:
    """(is it docker's client?, the most memory it ever held)."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return facts["Name"].strip().startswith("docker"), int(facts.get("VmHWM", "0 kB").split()[0]) * 1024


def memory(pid: int) -> int:
    """The most bytes of memory that a process ever held."""
    return _memory(pid)[1]


def run(
    argv: Sequence[str],
    *,
    container: str = "",
    env: Optional[Mapping[str, str]] = None,
    memory: bool = False,
    cwd: Optional[Path] = None,
) -> Sample:
    """Run to the end. Raises RuntimeError with its own words when it fails: a failed run has no speed."""
    own = docker = 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        machine, inside, children, start = busy(), container_cpu(container), os.times(), time.monotonic()
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **(env or {})}, cwd=cwd
        )
        while memory and process.poll() is None:
            sums = [0, 0]
            for pid in _children(process.pid):
                with contextlib.suppress(OSError, KeyError):
                    is_docker, peak = _memory(pid)
                    sums[is_docker] += peak
            own, docker = max(own, sums[0]), max(docker, sums[1])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
        status = process.wait()
        seconds = time.monotonic() - start
        after = os.times()
        cpu = container_cpu(container) - inside + after[2] + after[3] - children[2] - children[3]
        others = max(0.0, busy() - machine - cpu) / seconds / (os.cpu_count() or 1)
        out.seek(0)
        err.seek(0)
        if status:
            raise RuntimeError(f"{argv[0]} ended with {status}: {err.read().decode(errors='replace').strip()[-800:]}")
        return Sample(seconds, cpu, others, own, docker, output=out.read().decode())


def disk_write_speed(directory: Path, size: int = 1 << 29) -> float:
    """Bytes a second to a file there, to the end of its fsync."""
    path, block = directory / "write-speed", os.urandom(1 << 20)
    start = time.monotonic()
    try:
        with path.open("wb") as file:
            for _ in range(size >> 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return size / (time.monotonic() - start)
    finally:
        path.unlink()
