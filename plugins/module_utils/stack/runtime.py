# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a stack's services are reached and controlled: a Compose project, or systemd units of this machine.

`Opened` is what one run has open of its stack, and hands down.
"""

from __future__ import annotations

import contextlib
import copy
import re
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional, TypeVar, cast

from ..base import clock, pipeline
from ..base.errors import LifeboatError, Log
from ..base.pipeline import Command
from ..base.text import named
from ..settings.config import Config
from .compose import ComposeRuntime, exec_command
from .service import DataMount, Runtime, ServiceState, last_words

__all__ = [
    "ComposeRuntime", "DataMount", "HostRuntime", "Opened", "Runtime", "ServiceState", "connect", "database_mount",
    "exec_command", "last_words", "objects_mount", "states_of", "wait_until_well",
]  # fmt: skip
T = TypeVar("T")
OBJECTS_DIRECTORY = "/data"  # where MinIO's image and its kin keep it


class HostRuntime:
    """Services are systemd units of this machine; PostgreSQL's tools run as its operating system user."""

    def __init__(self, config: Config) -> None:
        self._default_user = config.database.os_user or "postgres"
        self._data_directory = config.database.data_directory
        self.label = "this host"

    def state(self, service: str) -> ServiceState:
        properties = "--property=LoadState,ActiveState,SubState,NRestarts,ExecMainStatus"
        status, out, err = pipeline.probe(Command(["systemctl", "show", properties, service]))
        if status:
            raise LifeboatError("ask systemd for the unit", service, err.strip() or f"systemctl ended with {status}")
        facts = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        active = facts.get("ActiveState", "unknown")
        return ServiceState(
            exists=facts.get("LoadState") == "loaded",
            running=active == "active",
            status="running" if active == "active" else active,
            exit_code=_number(service, facts, "ExecMainStatus"),
            restarts=_number(service, facts, "NRestarts"),
            id=service,
        )

    def command(
        self, service: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False,
        user: str = "",
    ) -> Command:  # fmt: skip
        del service, stdin
        return Command(["runuser", "--user", user or self._default_user, "--", *argv], env)

    def _systemctl(self, verb: str, services: Sequence[str], timeout: float) -> None:
        if services:
            pipeline.run(
                [Command(["systemctl", verb, *services])], attempted=f"{verb} units", subject=", ".join(services),
                timeout=timeout, remedy="Look at `journalctl -u <unit>`.",
            )  # fmt: skip

    def start(self, services: Sequence[str], *, timeout: float) -> None:
        if services:  # with none named, all would be meant
            # A unit that crashed too often while its database was away is not started again before it is forgiven.
            pipeline.probe(Command(["systemctl", "reset-failed", *services]))
        self._systemctl("start", services, timeout)

    def stop(self, services: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        self._systemctl("stop", services, timeout)
        return ()

    def discard(self, service: str, *, timeout: float) -> None:
        self.stop([service], timeout=timeout)

    def prepare(self, service: str, *, timeout: float) -> None:
        """Nothing to do: a unit has no volumes."""

    def data_path(self, service: str) -> str:
        """Debian's unit `postgresql@17-main` is the cluster in /var/lib/postgresql/17/main."""
        match = re.fullmatch(r"postgresql@(\d+)-(.+?)(\.service)?", service)
        if self._data_directory or not match:
            return self._data_directory or "/var/lib/postgresql/data"
        return f"/var/lib/postgresql/{match.group(1)}/{match.group(2)}"

    def by_hand(self, service: str) -> tuple[str, str]:
        """What an operator types to stop and to start the unit."""
        return f"systemctl stop {shlex.quote(service)}", f"systemctl start {shlex.quote(service)}"

    def initialise(self, service: str, path: str, superuser: str) -> None:
        """initdb into the empty directory; the server's configuration is left where it is (/etc on Debian)."""
        places = ("lib/postgresql/*/bin/initdb", "pgsql-*/bin/initdb")
        found = [item for place in places for item in sorted(Path("/usr").glob(place))]
        major = re.search(r"\d+", path.replace("postgresql", "")) or re.search(r"\d+", service)
        fitting = [item for item in found if major and major.group() in item.parts[-3]] or found
        argv = [str(fitting[-1]) if fitting else "initdb", "-D", path, "-U", superuser, "--data-checksums"]
        pipeline.run(
            [self.command(service, [*argv, "--auth-local=peer", "--auth-host=scram-sha-256"])],
            attempted="initialise a fresh server",
            subject=path,
            timeout=300,
            remedy="Set lifeboat_database.data_directory if that is not where the server keeps its data.",
        )

    def logs(self, service: str, lines: int = 30) -> str:
        words = ["journalctl", "--unit", service, "--lines", str(lines), "--no-pager"]
        return pipeline.scrub(pipeline.probe(Command(words))[1])

    def dependants(self, service: str) -> list[str]:
        del service
        return []  # systemd's dependency graph is the whole machine; lifeboat_application_writers names them

    def one_offs(self, service: str, *more: str) -> list[str]:
        del service, more
        return []

    def end(self, containers: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        """Nothing to do: there are none."""
        return ()

    def addresses(self, services: Sequence[str], one_offs: Sequence[str]) -> set[str]:
        """None is known: units of one machine share its addresses."""
        del services, one_offs
        return set()

    def data_mount(self, service: str, inside: str) -> DataMount:
        del service
        return DataMount("bind", inside, Path(inside))

    def image(self, service: str) -> str:
        del service
        return ""

    def images(self) -> dict[str, str]:
        """Units come from packages: no image."""
        return {}


def _number(service: str, facts: Mapping[str, str], name: str) -> int:
    text = facts.get(name) or "0"
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise LifeboatError("ask systemd for the unit", service, f"its {name} is not a number: {text[:40]!r}")
    return int(text)


def database_mount(config: Config, stack: Runtime) -> DataMount:
    """The volume or directory that holds the database server's data."""
    return stack.data_mount(config.database.service, stack.data_path(config.database.service))


def wal_elsewhere(config: Config, stack: Runtime) -> str:
    """Where `pg_wal` of the server's data leads to (`initdb --waldir`, or a link that somebody made); empty where it is
    a directory there, or cannot be read."""
    with contextlib.suppress(LifeboatError, OSError, ValueError):
        data = database_mount(config, stack).path
        return named(str((data / "pg_wal").readlink())) if data != Path() else ""  # a volume that is gone has no path
    return ""


def objects_mount(config: Config, stack: Runtime) -> DataMount:
    """The volume or directory that holds the object store's data."""
    return stack.data_mount(config.objects.service, config.objects.data_directory or OBJECTS_DIRECTORY)


def connect(config: Config) -> Runtime:
    return ComposeRuntime(config) if config.runtime.type == "compose" else HostRuntime(config)


class Opened:
    """The stack's configuration, its runtime, and what the openers of other packages opened so far.

    A recovery makes containers again, so what depends on one (the database server, the address of the stack's own
    bucket) is looked up each time that it is needed, and is not kept here.

    key: the identity that an operator gave to open encrypted backups, as text.
    """

    def __init__(self, config: Config, key: str = "") -> None:
        self.config, self.key = config, key
        self.runtime = connect(config)
        self._cache: dict[object, object] = {}
        self._lock = threading.RLock()

    def read_ahead(self) -> None:
        """Begin with what takes longest to find out, beside what is done before it is needed."""
        if isinstance(self.runtime, ComposeRuntime):
            self.runtime.read_ahead()

    def once(self, opener: Callable[[Opened], T]) -> T:
        """What the opener opens, opened when it is first asked for. One that fails is tried again."""
        with self._lock:
            if opener not in self._cache:
                self._cache[opener] = opener(self)
            return cast(T, self._cache[opener])

    def with_config(self, config: Config, cache: Mapping[object, object]) -> Opened:
        """The same stack by other settings of it, over the same runtime. cache: by opener, what is open of that."""
        found = copy.copy(self)
        found.config, found._cache, found._lock = config, dict(cache), threading.RLock()
        return found

    def reread(self) -> Runtime:
        """The runtime, which reads the project again: its files may have changed since."""
        self.runtime = connect(self.config)
        return self.runtime


def states_of(runtime: Runtime, services: Sequence[str]) -> dict[str, ServiceState]:
    """By service. A Compose project's are all in one answer of the engine."""
    if isinstance(runtime, ComposeRuntime) and len(services) > 1:
        return runtime.states(services)
    return {service: runtime.state(service) for service in services}


def wait_until_well(
    runtime: Runtime, services: Sequence[str], *, timeout: float, log: Optional[Log] = None
) -> dict[str, str]:
    """Wait until every service runs and its health check, where it has one, passes. Returns the last words of each."""
    began = time.monotonic()
    deadline = began + timeout
    waiting = clock.Waiting("services to be well", deadline, log)
    while True:
        states = states_of(runtime, services)
        if all(state.well for state in states.values()):
            return {service: state.describe() for service, state in states.items()}
        ill = [service for service, state in states.items() if not state.well]
        told = "; ".join(f"{name} is {states[name].describe()}" for name in ill)
        waiting.note(told)
        if time.monotonic() >= deadline:
            said = last_words(runtime.logs(ill[0]))
            raise LifeboatError(
                "wait for services to be well", ", ".join(ill),
                f"after {timeout:.0f} s: {told}" + (f"; it last said: {said}" if said else ""),
                f"Look at their logs: docker compose logs --tail 50 {' '.join(ill)}",
            )  # fmt: skip
        clock.pause(began)
