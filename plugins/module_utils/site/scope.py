# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at one machine: what of the stack is on it, what runs, and which recovery each component needs. Reads only.

It must work on a machine that has nothing yet, not even an engine, and on one where the stack is half dead.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, ClassVar, Optional, Union
from urllib.parse import urlsplit

from ..base import filesystem, pipeline, typed
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..base.pipeline import Command
from ..database import assess as database_assess
from ..dumps import plan as dumps_plan
from ..files import plan as files_plan
from ..objects import assess as objects_assess
from ..objects import condition as objects_condition
from ..objects import selection
from ..recovery.state import DAMAGED, DOWN, HEALTHY
from ..repository.components import DATABASE, DUMPS, FILES, OBJECTS, configured
from ..repository.sources import Sources
from ..settings.config import Config
from ..settings.scenarios import BACKEND, SCENARIOS, of_component
from ..stack.runtime import Opened
from . import state as site_state

Assessment = Union[database_assess.Assessment, objects_condition.Assessment, files_plan.Plan, dumps_plan.Plan]
ABSENT, UNKNOWN = "absent", "unknown"
APPLICATION = "application"
_PROJECT = "com.docker.compose.project"


@dataclass(frozen=True)
class Component:
    """condition: healthy, damaged, down, absent, or unknown where it could not be looked at. findings: why."""

    name: str
    condition: str
    findings: tuple[str, ...] = ()

    @property
    def scenario(self) -> str:
        """The recovery that mends it where it is."""
        if self.condition not in (DAMAGED, DOWN):
            return ""
        scenario = SCENARIOS[BACKEND] if self.name == APPLICATION else of_component(self.name)
        return f"lifeboat.dr.{scenario.playbook}"

    def as_dict(self) -> dict[str, object]:
        return {**vars(self), "scenario": self.scenario}

    @property
    def summary(self) -> str:
        return f"{self.name} is {self.condition}"


@dataclass(frozen=True)
class Machine:
    """What a recovery must know of a machine. engine, compose: their versions, empty where they are not there.

    missing: Debian's packages without which the vault cannot be read and the configuration not be decrypted. taken:
    ports of the stack on which something answers.
    """

    system: str = ""
    cpus: int = 0
    free_bytes: int = 0
    free_at: str = ""
    engine: str = ""
    compose: str = ""
    missing: tuple[str, ...] = ()
    taken: tuple[int, ...] = ()


@dataclass(frozen=True)
class HostState:
    """What is on a machine. running, stopped: the stack's services with a container (or unit) there.

    unknown: why these could not be told; a new machine's engine need not run yet. recovery: what a recovery of the site
    left there. lost: why the machine was not reached.
    """

    SPARSE: ClassVar[tuple[str, ...]] = ("lost",)
    host: str = ""
    running: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    unknown: str = ""
    components: tuple[Component, ...] = ()
    machine: Machine = Machine()
    recovery: Optional[site_state.Recovery] = None
    lost: str = ""


def assess_host(run: Opened, *, deep: bool, log: Log) -> HostState:
    """What is on this machine. deep: assess the components too, where anything of the stack is here."""
    seen = HostState(socket.gethostname(), machine=machine(run.config), recovery=site_state.read(run.config))
    try:
        running, stopped = services(run)
    except UnverifiedError as exc:
        return replace(seen, unknown=exc.cause)
    components: list[Component] = []
    if deep and (running or stopped):
        log("assessing the components")
        components = [_assessed(run, kind.name, log) for kind in configured(run.config) if kind.name in ASSESS]
        components.append(_application(run, running, stopped))
    return replace(seen, running=running, stopped=stopped, components=tuple(components))


def answered(answer: object) -> HostState:
    """What another machine said of itself: what assess_host() returned; {"failed": why}; or as text why it was
    not reached.

    A machine that answers and cannot be looked at is no lost one: containers outlive an engine that was killed, and
    users reach them.
    """
    if not isinstance(answer, Mapping):
        return HostState(lost=str(answer) or "it did not say why")
    if "running" not in answer:
        return HostState(unknown=str(answer.get("failed") or "it did not say why"))
    try:
        return typed.build(HostState, {**answer, "recovery": None, "lost": ""}, _wrong, unknown="ignore")
    except LifeboatError as exc:
        return HostState(unknown=f"its answer is of another shape: {exc.subject} {exc.cause}")


def _wrong(where: str, cause: str) -> LifeboatError:
    return LifeboatError("look at the machine", where, cause)


def services(run: Opened) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The stack's services with a container or unit on this machine: those that run, and those that do not.

    By Compose's labels alone: the compose file may be gone while its containers run. UnverifiedError where there is an
    engine and it does not tell.
    """
    config = run.config
    if config.runtime.type == "host":
        states = {unit: run.runtime.state(unit) for unit in [*config.stores, *config.application.writers]}
        here = {unit: state.running for unit, state in states.items() if state.exists}
        return tuple(unit for unit in here if here[unit]), tuple(unit for unit in here if not here[unit])
    label = f"{_PROJECT}={config.runtime.project}"
    if not config.runtime.project:
        label = f"{_PROJECT}.working_dir={os.path.normpath(config.runtime.project_directory)}"
    shown = '{{.State}}\t{{.Label "com.docker.compose.service"}}'
    argv = ["docker", "ps", "--all", "--filter", f"label={label}", "--filter", f"label={_PROJECT}", "--format", shown]
    status, out, said = pipeline.probe(Command(argv))
    if status not in (0, 127):
        why = said.strip().splitlines()[-1] if said.strip() else f"docker ps exited {status}"
        raise UnverifiedError("list the stack's containers", socket.gethostname(), f"its engine does not answer: {why}")
    rows = [line.split("\t", 1) for line in out.splitlines() if "\t" in line] if status == 0 else []
    running = {name for state, name in rows if state in ("running", "restarting", "paused")}
    return tuple(sorted(running)), tuple(sorted({name for _state, name in rows} - running))


def _objects(run: Opened, sources: Optional[Sources], log: Log) -> Assessment:
    reference = selection.reference_of(sources) if sources else None
    instead = selection.instead(sources, reference) if sources else ()
    return objects_assess.assess(run, reference, instead=instead, log=log)


# How a component is looked at that can be broken and recovered by itself.
ASSESS: Mapping[str, Callable[[Opened, Optional[Sources], Log], Assessment]] = {
    DATABASE: lambda run, sources, _log: database_assess.assess(
        run, database_assess.reference_of(sources) if sources else None
    ),
    OBJECTS: _objects,
    FILES: lambda run, _sources, log: files_plan.make(run, files_plan.Request(), log=log),
    DUMPS: lambda run, _sources, log: dumps_plan.make(run, dumps_plan.Request(reads=False), log=log),
}


def _assessed(run: Opened, name: str, log: Log) -> Component:
    try:
        seen = ASSESS[name](run, Sources(run, name), log)
        return Component(name, seen.condition, seen.findings)
    except LifeboatError as exc:
        log(f"{name} could not be assessed: {exc.cause}")
        return Component(name, UNKNOWN, (exc.cause,))


def _application(run: Opened, running: Sequence[str], stopped: Sequence[str]) -> Component:
    stores = run.config.stores
    try:
        states = {text: run.runtime.state(text) for text in [*running, *stopped] if text not in stores}
    except LifeboatError as exc:
        return Component(APPLICATION, UNKNOWN, (exc.cause,))
    ill = [f"{text} is {state.describe()}" for text, state in states.items() if not state.well]
    if not ill:
        return Component(APPLICATION, HEALTHY if states else ABSENT)
    return Component(APPLICATION, DAMAGED if len(ill) < len(states) else DOWN, tuple(ill))


def machine(config: Config) -> Machine:
    root = _existing(Path("/var/lib/docker") if config.runtime.type == "compose" else Path("/var/lib"))
    status, engine, _err = pipeline.probe(Command(["docker", "version", "--format", "{{.Server.Version}}"]))
    compose, version, _err = pipeline.probe(Command(["docker", "compose", "version", "--short"]))
    return Machine(
        system=_system(),
        cpus=os.cpu_count() or 0,
        free_bytes=filesystem.free(root),
        free_at=str(root),
        engine=engine.strip() if status == 0 else "",
        compose=version.strip() if compose == 0 else "",
        missing=missing_tools(),
        taken=tuple(port for port in ports(config) if _answers(port)),
    )


def missing_tools() -> tuple[str, ...]:
    here = {"python3-boto3": importlib.util.find_spec("boto3"), "age": shutil.which("age")}
    return tuple(package for package, found in here.items() if not found)


def ports(config: Config) -> list[int]:
    """The ports of this machine on which the stack will answer, as far as the configuration tells."""
    found = set()
    for url in [*(check.url for check in config.application.checks), config.objects.endpoint_url]:
        with contextlib.suppress(ValueError):  # an address that is none: its own check says so
            parts = urlsplit(url)
            if parts.hostname in ("127.0.0.1", "localhost", "::1"):
                found.add(parts.port or (443 if parts.scheme == "https" else 80))
    return sorted(found)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _system(path: Path = Path("/etc/os-release")) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "an unknown system"
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "Linux")


def described(where: str, host: HostState) -> list[str]:
    """One machine for a terminal."""
    if host.lost:
        return [f"{where}: lost, it cannot be reached ({host.lost})"]
    if host.unknown:
        return [f"{where}: what runs there could not be seen ({host.unknown})"]
    if not host.running and not host.stopped:
        return [f"{where}: nothing of the stack is on it"]
    lines = [f"{where}: {len(host.running)} services run, {len(host.stopped)} do not"]
    for component in host.components:
        told = "".join(f"; {finding}" for finding in component.findings[:3])
        mends = f" -> {component.scenario}" if component.scenario else ""
        lines.append(f"  {component.name}: {component.condition}{told}{mends}")
    return lines
