# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine below a backend: load, memory, disks, the engine's unit, and who listens on a port."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..base import pipeline
from ..base.pipeline import Command
from .facts import Disk, Host

PROC = Path("/proc")
DOCKER_ROOT = "/var/lib/docker"
UNITS = ("docker.service", "snap.docker.dockerd.service")
_LISTEN, _UDP_OPEN = "0A", "07"


def read_host(paths: Iterable[str], *, engine: bool) -> Host:
    """Return the state of the host. engine: whether to ask one; a stack of systemd units has none."""
    memory = _memory()
    return Host(
        load=round(os.getloadavg()[0], 2),
        cpus=os.cpu_count() or 1,
        memory=memory.get("MemTotal", 1),
        memory_free=memory.get("MemAvailable", 1),
        disks=disks(paths),
        engine=engine_problem() if engine else "",
        unit=unit()[1] if engine else "",
    )


def _memory() -> dict[str, int]:
    """Return bytes by the kernel's own names."""
    lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
    return {name: 1024 * int(rest.split()[0]) for name, _sep, rest in (line.partition(":") for line in lines)}


def disks(paths: Iterable[str]) -> tuple[Disk, ...]:
    """Each file system once, by the first path that lies on it; a path that is not there by what is above it."""
    found: dict[int, Disk] = {}
    for given in paths:
        path = Path(given)
        while not path.exists() and path != path.parent:
            path = path.parent
        with contextlib.suppress(OSError):
            state = os.statvfs(path)
            size, free = state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize
            found.setdefault(path.stat().st_dev, Disk(str(path), size, free, state.f_files, state.f_favail))
    return tuple(found.values())


def docker_root() -> str:
    """Where the engine keeps images and containers, whether it runs or not."""
    try:
        said = json.loads(Path("/etc/docker/daemon.json").read_text(encoding="utf-8")).get("data-root")
    except (OSError, ValueError, AttributeError, RecursionError):
        said = ""
    return str(said or DOCKER_ROOT)


def engine_problem(timeout: float = 20) -> str:
    """Return why the engine does not answer; empty when it does."""
    status, _out, err = pipeline.probe(
        Command(["docker", "version", "--format", "{{.Server.Version}}"]), timeout=timeout
    )
    return "" if status == 0 else pipeline.one_line(err) or f"docker version ended with {status}"


def unit() -> tuple[str, str]:
    """Return the engine's systemd unit and its state; empty words where there is none."""
    for name in UNITS:
        words = ["systemctl", "show", "--property=LoadState,ActiveState,Result", name]
        status, out, _err = pipeline.probe(Command(words))
        facts = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        if status == 0 and facts.get("LoadState") in ("loaded", "masked"):
            masked = "masked, " if facts["LoadState"] == "masked" else ""
            result = facts.get("Result", "success")
            return name, masked + facts.get("ActiveState", "unknown") + (f", {result}" if result != "success" else "")
    return "", ""


@dataclass(frozen=True)
class Listener:
    """protocol: tcp or udp. inode: of the socket, by which its process is found."""

    protocol: str
    address: str  # empty: of every interface
    port: int
    inode: str = ""

    def clashes(self, other: Listener) -> bool:
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        places = {ipaddress.ip_address(listener.address or "0.0.0.0") for listener in (self, other)}  # noqa: S104 - compared
        return len(places) == 1 or any(place.is_unspecified for place in places)


def listeners() -> list[Listener]:
    """Return every socket of this machine that something may connect or send to."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == (_LISTEN if name.startswith("tcp") else _UDP_OPEN):
                    address, _sep, port = words[1].partition(":")
                    found.append(Listener(name[:3], _address(address), int(port, 16), words[9]))
    return found


def _address(text: str) -> str:
    """The kernel writes each 32-bit word in its own byte order; Docker's machines are little-endian."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    six = ipaddress.IPv6Address(raw)
    return str(six.ipv4_mapped or six)


def owner(inode: str) -> tuple[int, str, str]:
    """Return the process that holds a socket: number, command line (no secrets' place, but often misused) and systemd
    unit."""
    wanted = f"socket:[{inode}]"
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(path) == wanted for path in (process / "fd").iterdir()):  # noqa: PTH115 - not a path
                words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                command = pipeline.one_line(" ".join(words)) or pipeline.one_line(_text(process / "comm"))
                return int(process.name), command, _unit_of(process)
    return 0, "", ""


def _text(path: Path) -> str:
    """Of /proc, where a process may have any bytes for its name or its control group's."""
    return path.read_bytes().decode("utf-8", "replace").strip()


def _unit_of(process: Path) -> str:
    found = re.findall(r"/([A-Za-z0-9@:_.\\-]+\.service)", _text(process / "cgroup"))
    return found[-1] if found and found[-1] not in UNITS else ""
