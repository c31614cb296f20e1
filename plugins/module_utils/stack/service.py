# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a service, and what any runtime can do with one."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Protocol

from ..base.pipeline import Command

_PROC = Path("/proc")
_MOST = 1 << 16  # bytes of a file in /proc


@dataclass(frozen=True)
class ServiceState:
    """What the engine says of a service. health: healthy, unhealthy, starting, or none where no check is defined."""

    exists: bool = False
    running: bool = False
    status: str = "absent"
    health: str = "none"
    exit_code: Optional[int] = None
    restarts: int = 0
    image: str = ""
    image_id: str = ""
    id: str = ""
    environment: Optional[Mapping[str, str]] = None

    @property
    def well(self) -> bool:
        return self.running and self.status == "running" and self.health in ("healthy", "none")

    def describe(self) -> str:
        words = self.status
        if self.health != "none":
            words += f", {self.health}"
        if self.exit_code and not self.running:
            words += f", exit code {self.exit_code}"
        return words + (f", restarted {self.restarts} times" if self.restarts else "")


@dataclass(frozen=True)
class DataMount:
    """Where a service's data lies on the host: a volume's or a bind mount's directory. below: where in that, as a
    relative path; empty where the data begins with it. PostgreSQL 18's images have it in `18/docker`."""

    kind: str
    name: str
    path: Path
    below: str = field(default="", compare=False)

    @property
    def data(self) -> Path:
        """The data directory itself."""
        return self.path / self.below


class Runtime(Protocol):
    """Reach and control the services of one stack."""

    label: str

    def state(self, service: str) -> ServiceState: ...

    def command(
        self, service: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False,
        user: str = "",
    ) -> Command: ...  # fmt: skip

    def start(self, services: Sequence[str], *, timeout: float) -> None: ...
    def stop(self, services: Sequence[str], *, timeout: float) -> tuple[str, ...]: ...
    def discard(self, service: str, *, timeout: float) -> None: ...
    def prepare(self, service: str, *, timeout: float) -> None: ...
    def data_path(self, service: str) -> str: ...
    def initialise(self, service: str, path: str, superuser: str) -> None: ...
    def by_hand(self, service: str) -> tuple[str, str]: ...
    def logs(self, service: str, lines: int = 30) -> str: ...
    def dependants(self, service: str) -> list[str]: ...
    def one_offs(self, service: str, *more: str) -> list[str]: ...
    def end(self, containers: Sequence[str], *, timeout: float) -> tuple[str, ...]: ...
    def addresses(self, services: Sequence[str], one_offs: Sequence[str]) -> set[str]: ...
    def data_mount(self, service: str, inside: str) -> DataMount: ...
    def image(self, service: str) -> str: ...
    def images(self) -> dict[str, str]: ...


# https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/utils/init/miscinit.c (ValidatePgVersion)
_OTHER_MAJOR = re.compile(
    r"The data directory was initialized by PostgreSQL version [0-9.]+,"
    r" which is not compatible with this version [0-9.]+"
)


def last_words(log: str) -> str:
    """The last line that says why a service ended. STATEMENT, DETAIL and CONTEXT lines may hold rows: never quoted, but
    for the one that says of which PostgreSQL the data is."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    plain = [line for line in lines if not re.search(r"\b(STATEMENT|DETAIL|CONTEXT|QUERY):", line)]
    telling = [line for line in plain if re.search(r"\b(PANIC|FATAL|ERROR|error|failed|cannot|No such)\b", line)]
    said = (telling or plain or [""])[-1]
    if "database files are incompatible with server" in said:
        said += next((f": {found[0]}" for found in map(_OTHER_MAJOR.search, reversed(lines)) if found), "")
    return said[:300]


def signal_in_vain(identity: str, pid: int, name: str) -> bool:
    """Is a container's stop signal lost on its program? To wait for its end is then to wait for Docker to kill it.

    The first process of a container gets only those signals that it has a handler for, and Docker sends the signal to
    it alone. https://man7.org/linux/man-pages/man7/pid_namespaces.7.html

    True where that is sure. identity: of the container. pid: of its first process, as the engine says. name: of the
    signal.
    """
    number = _number(name)
    if pid <= 0 or number is None or not identity:
        return False
    try:
        status = dict(line.split(":", 1) for line in _read(pid, "status").splitlines() if ":" in line)
        # An engine of another machine has other processes under the same number.
        ours = identity in _read(pid, "cgroup")
        numbers = status["NSpid"].split()
        handled = (int(status["SigCgt"], 16) | int(status["SigBlk"], 16)) >> (number - 1) & 1
        # Who waits for a signal, as Docker's own init does, needs no handler, and does not show it as blocked.
        sleeps_in = _read(pid, "wchan").strip("\0\n ")
    except (OSError, LookupError, ValueError):
        return False
    known = sleeps_in not in ("", "0") and "sig" not in sleeps_in
    return ours and known and len(numbers) > 1 and numbers[-1] == "1" and not handled


def _read(pid: int, name: str) -> str:
    with (_PROC / str(pid) / name).open(encoding="utf-8", errors="replace") as file:
        return file.read(_MOST)


def _number(name: str) -> Optional[int]:
    """SIGTERM, TERM or 15. None for what only Docker understands, and for what no program can handle."""
    try:
        word = f"SIG{name.upper().removeprefix('SIG')}"
        found = signal.Signals(int(name)) if name.isdecimal() else signal.Signals[word]
    except (ValueError, KeyError):
        return None
    return None if found in (signal.SIGKILL, signal.SIGSTOP) else int(found)
