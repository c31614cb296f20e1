# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was seen of a backend and of the machine below it: plain facts, from which the cause is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..base.checks import PASS, Check
from ..settings.config import Config

BACKEND, DATABASE, OBJECTS, OTHER = "backend", "database", "objects", "other"
LOOPING = 3  # so many restarts are no accident any more
YOUNG = 20.0  # seconds; one that was restarted so lately may be about to fall again
FULL_BYTES, FULL_SHARE = 64 << 20, 0.05
FULL_INODES = 0.01


@dataclass(frozen=True)
class Disk:
    """The file system below `path`. inodes 0: it has no fixed number of them."""

    path: str
    size: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    @property
    def full(self) -> str:
        """Of what there is none left, or nothing."""
        if self.free < min(FULL_BYTES, self.size * FULL_SHARE):
            return "space"
        return "inodes" if self.inodes and self.free_inodes < self.inodes * FULL_INODES else ""


@dataclass(frozen=True)
class Host:
    """load: of the last minute. engine: why it does not answer, empty when it does. unit: its systemd unit's state."""

    load: float = 0.0
    cpus: int = 1
    memory: int = 1
    memory_free: int = 1
    disks: tuple[Disk, ...] = ()
    engine: str = ""
    unit: str = ""

    @property
    def full(self) -> list[Disk]:
        return [disk for disk in self.disks if disk.full]


@dataclass(frozen=True)
class Unit:
    """One container or systemd unit. health_output: the last of its health check. log: its last lines, without secrets.

    made_from: the image by its id. there: whether that image is still on the host. up: seconds since it was started.
    once: it was meant to run once and end.
    """

    service: str
    name: str
    role: str = BACKEND
    id: str = ""
    status: str = "running"
    health: str = "none"
    exit_code: int = 0
    restarts: int = 0
    oom: bool = False
    error: str = ""
    image: str = ""
    made_from: str = ""
    there: bool = True
    up: float = 3600.0
    once: bool = False
    health_output: str = ""
    log: tuple[str, ...] = ()

    @property
    def looping(self) -> bool:
        fell = self.status == "restarting" or self.up < YOUNG
        return (
            fell and self.health != "healthy" and self.restarts >= LOOPING and self.status in ("restarting", "running")
        )

    @property
    def well(self) -> bool:
        if self.once and self.status == "exited" and not self.exit_code:
            return True
        shaky = self.health == "none" and self.restarts > 0 and self.up < YOUNG
        return self.status == "running" and self.health in ("healthy", "none") and not shaky

    def describe(self) -> str:
        words = self.status + (f", {self.health}" if self.health != "none" and self.status == "running" else "")
        words += f", exit code {self.exit_code}" if self.exit_code and self.status != "running" else ""
        words += f", restarted {self.restarts} times" if self.restarts else ""
        return words + (", killed for memory" if self.oom else "")


@dataclass(frozen=True)
class Holder:
    """Who listens on a port that a service of ours needs. ours: a container made from the project's own directory."""

    port: str
    service: str
    pid: int = 0
    command: str = ""
    unit: str = ""
    container: str = ""
    ours: bool = False

    def describe(self) -> str:
        if self.container:
            return f"the container {self.container}"
        return f"process {self.pid} ({self.command})" if self.pid else "a process that cannot be seen"

    @property
    def stop(self) -> str:
        """Return the command that an operator types, once he knows that it may go."""
        if self.container:
            return f"docker stop {self.container}"
        if self.unit:
            return f"systemctl stop {self.unit}"
        return (
            f"kill {self.pid}" if self.pid else f"ss --listening --processes 'sport = :{self.port.partition('/')[0]}'"
        )


@dataclass(frozen=True)
class Store:
    """The database or the object store below. broken: why it will not do however often it is started."""

    role: str
    service: str
    broken: str = ""


@dataclass(frozen=True)
class Observations:
    """All that was observed at one time.

    compose: why Compose cannot read the project, empty when it can. env_missing: variables that it cannot do without
    and `.env` lacks; env_blank: those that become empty words. services: the backend's, by the project's definition
    where it can be read. absent: those without a container. images_gone: service -> image that is not on the host.
    images_changed: service -> the recovery point in which it ran another image. elsewhere: other projects that have the
    stores of ours, made from our directory. pending, pending_component: a data recovery that has not ended, and of
    what. endpoints: the operator's.
    not_looked: what could not be looked at.
    """

    host: Host = field(default_factory=Host)
    compose: str = ""
    env_missing: tuple[str, ...] = ()
    env_blank: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    absent: tuple[str, ...] = ()
    images_gone: Mapping[str, str] = field(default_factory=dict)
    images_changed: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Holder, ...] = ()
    stores: tuple[Store, ...] = ()
    elsewhere: tuple[str, ...] = ()
    pending: str = ""
    pending_component: str = DATABASE
    endpoints: tuple[Check, ...] = ()
    not_looked: tuple[str, ...] = ()

    @property
    def ill(self) -> list[Unit]:
        return [item for item in self.units if item.role != OTHER and not item.well]

    @property
    def ill_backend(self) -> list[Unit]:
        return [item for item in self.ill if item.role == BACKEND]

    @property
    def unanswered(self) -> list[Check]:
        return [check for check in self.endpoints if check.result != PASS]

    @property
    def serves(self) -> bool:
        """Return whether every service runs as it should and every endpoint of the operator's answers."""
        return not (self.host.engine or self.ill or self.absent or self.unanswered)

    @property
    def healthy(self) -> bool:
        """It serves, and could be started again."""
        return self.serves and not (self.compose or self.env_missing or self.pending)


def role_of(config: Config, service: str) -> str:
    """Return which part of the stack a service is. The operator's list (if any) says what the backend is."""
    if service and service == config.database.service:
        return DATABASE
    if service and service == config.objects.service:
        return OBJECTS
    mine = config.application.services
    return BACKEND if not mine or service in mine else OTHER
