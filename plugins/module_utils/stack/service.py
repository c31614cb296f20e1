# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a service, and what any runtime can do with one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from ..base.pipeline import Command


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
    """Where a service's data lies on the host: a volume's or a bind mount's directory."""

    kind: str
    name: str
    path: Path


class Runtime(Protocol):
    """Reach and control the services of one stack."""

    label: str

    def state(self, service: str) -> ServiceState: ...

    def command(
        self, service: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False,
        user: str = "",
    ) -> Command: ...  # fmt: skip

    def start(self, services: Sequence[str], *, timeout: float) -> None: ...
    def stop(self, services: Sequence[str], *, timeout: float) -> None: ...
    def discard(self, service: str, *, timeout: float) -> None: ...
    def data_path(self, service: str) -> str: ...
    def initialise(self, service: str, path: str, superuser: str) -> None: ...
    def by_hand(self, service: str) -> tuple[str, str]: ...
    def logs(self, service: str, lines: int = 30) -> str: ...
    def dependants(self, service: str) -> list[str]: ...
    def one_offs(self, service: str, *more: str) -> list[str]: ...
    def end(self, containers: Sequence[str], *, timeout: float) -> None: ...
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
