# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at one machine: what of the stack is on it, what runs, and which recovery each component needs. Reads only.

It must work on a machine that has nothing yet, not even an engine, and on one where the stack is half dead.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union
from urllib.parse import urlsplit

from ..base import pipeline
from ..base.errors import LifeboatError, UnverifiedError
from ..base.pipeline import Command
from ..database import assess as database_assess
from ..objects import assess as objects_assess
from ..objects import choose
from ..recovery import state as recovery_state
from ..repository.components import DATABASE, OBJECTS, configured
from ..repository.sources import Sources
from ..settings.config import Config
from ..settings.scenarios import BACKEND, SCENARIOS, of_component
from ..stack import runtime
from ..stack.runtime import Opened
from . import state as site_state

Log = Callable[[str], None]
Assessment = Union[database_assess.Assessment, objects_assess.Assessment]
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
        if self.condition not in (recovery_state.DAMAGED, recovery_state.DOWN):
            return ""
        scenario = SCENARIOS[BACKEND] if self.name == APPLICATION else of_component(self.name)
        return f"lifeboat.dr.{scenario.playbook}"

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "findings": list(self.findings), "scenario": self.scenario}


def look(config: Config, *, deep: bool, log: Log) -> dict[str, Any]:
    """What is on this machine.

    deep: assess the components too, where anything of the stack is here.
    Returns {host, running, stopped, unknown, components, machine, recovery}. running, stopped: the stack's services
    with a container (or unit) here. unknown: why these could not be told; a new machine's engine need not run yet.
    recovery: what a recovery of the site left here, see site_state.
    """
    running: list[str] = []
    stopped: list[str] = []
    unknown = ""
    try:
        running, stopped = services(config)
    except UnverifiedError as exc:
        unknown = exc.cause
    components: list[Component] = []
    if deep and (running or stopped):
        log("assessing the components")
        components = [_assessed(config, kind.name, log) for kind in configured(config) if kind.name in ASSESS]
        components.append(_application(config, running, stopped))
    return {
        "host": socket.gethostname(),
        "running": running,
        "stopped": stopped,
        "unknown": unknown,
        "components": [component.as_dict() for component in components],
        "machine": machine(config),
        "recovery": site_state.read(config),
    }


def doubt(seen: Any) -> str:
    """Why nothing is known of what runs on a machine that answers; empty where it was looked at, or is lost.

    Containers outlive an engine that was killed, and users reach them: such a machine is no lost one.
    """
    if not isinstance(seen, Mapping):
        return ""
    if "running" not in seen:
        return str(seen.get("failed") or "it did not say why")
    return str(seen.get("unknown") or "")


def services(config: Config) -> tuple[list[str], list[str]]:
    """The stack's services with a container or unit on this machine: those that run, and those that do not.

    By Compose's labels alone: the compose file may be gone while its containers run. UnverifiedError where there is an
    engine and it does not tell.
    """
    if config.runtime.type == "host":
        units = [config.database.service, *([config.objects.service] if config.objects.service else [])]
        stack = runtime.connect(config)
        states = {unit: stack.state(unit) for unit in [*units, *config.application.writers]}
        here = {unit: state for unit, state in states.items() if state.exists}
        return [text for text, state in here.items() if state.running], [
            text for text, state in here.items() if not state.running
        ]
    label = f"{_PROJECT}={config.runtime.project}"
    if not config.runtime.project:
        label = f"{_PROJECT}.working_dir={os.path.normpath(config.runtime.project_directory)}"
    shown = '{{.State}}\t{{.Label "com.docker.compose.service"}}'
    argv = ["docker", "ps", "--all", "--filter", f"label={label}", "--filter", f"label={_PROJECT}", "--format", shown]
    status, out, said = pipeline.probe(Command(argv))
    if status not in (0, 127):
        why = said.strip().splitlines()[-1] if said.strip() else f"docker ps exited {status}"
        raise UnverifiedError(
            "list the stack's containers", socket.gethostname(), f"its engine does not answer: {why}", ""
        )
    rows = [line.split("\t", 1) for line in out.splitlines() if "\t" in line] if status == 0 else []
    running = sorted({name for state, name in rows if state in ("running", "restarting", "paused")})
    return running, sorted({name for _state, name in rows} - set(running))


def _of_database(config: Config, sources: Optional[Sources], log: Log) -> Assessment:
    return database_assess.assess(Opened(config), database_assess.reference_of(sources) if sources else None)


def _of_objects(config: Config, sources: Optional[Sources], log: Log) -> Assessment:
    return objects_assess.assess(config, choose.reference_of(sources) if sources else None, log=log)


# How a component is looked at that can be broken and recovered by itself.
ASSESS: Mapping[str, Callable[[Config, Optional[Sources], Log], Assessment]] = {
    DATABASE: _of_database,
    OBJECTS: _of_objects,
}


def _assessed(config: Config, name: str, log: Log) -> Component:
    try:
        seen = ASSESS[name](config, Sources(Opened(config), name), log)
        return Component(name, seen.condition, seen.findings)
    except LifeboatError as exc:
        log(f"{name} could not be assessed: {exc.cause}")
        return Component(name, UNKNOWN, (exc.cause,))


def _application(config: Config, running: list[str], stopped: list[str]) -> Component:
    stack = runtime.connect(config)
    stores = {config.database.service, config.objects.service}
    try:
        states = {text: stack.state(text) for text in [*running, *stopped] if text not in stores}
    except LifeboatError as exc:
        return Component(APPLICATION, UNKNOWN, (exc.cause,))
    ill = [f"{text} is {state.describe()}" for text, state in states.items() if not state.well]
    if not ill:
        return Component(APPLICATION, recovery_state.HEALTHY if states else ABSENT)
    return Component(APPLICATION, recovery_state.DAMAGED if len(ill) < len(states) else recovery_state.DOWN, tuple(ill))


def machine(config: Config) -> dict[str, Any]:
    """What a recovery must know of the machine: its system, its room, its engine, what is missing, what is taken."""
    root = _existing(Path("/var/lib/docker") if config.runtime.type == "compose" else Path("/var/lib"))
    room = os.statvfs(root)
    status, engine, _err = pipeline.probe(Command(["docker", "version", "--format", "{{.Server.Version}}"]))
    compose, version, _err = pipeline.probe(Command(["docker", "compose", "version", "--short"]))
    return {
        "system": _system(),
        "cpus": os.cpu_count() or 0,
        "free_bytes": room.f_bavail * room.f_frsize,
        "free_at": str(root),
        "engine": engine.strip() if status == 0 else "",
        "compose": version.strip() if compose == 0 else "",
        "missing": missing_tools(),
        "taken": [port for port in ports(config) if _answers(port)],
    }


def missing_tools() -> list[str]:
    """What must be here before the vault can be read and the configuration be decrypted, as Debian's packages."""
    packages = [] if importlib.util.find_spec("boto3") else ["python3-boto3"]
    return packages + ([] if shutil.which("age") else ["age"])


def ports(config: Config) -> list[int]:
    """The ports of this machine on which the stack will answer, as far as the configuration tells."""
    urls = [check.url for check in config.application.checks] + [config.objects.endpoint_url]
    local = [urlsplit(url) for url in urls if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")]
    return sorted({split_result.port or (443 if split_result.scheme == "https" else 80) for split_result in local})


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
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unknown system"
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "Linux")


def described(where: str, seen: Optional[dict[str, Any]], why: str = "") -> list[str]:
    """One machine for a terminal; None is one that could not be reached."""
    if seen is None:
        return [f"{where}: lost, it cannot be reached ({why})"]
    if doubt(seen):
        return [f"{where}: what runs there could not be seen ({doubt(seen)})"]
    if not seen["running"] and not seen["stopped"]:
        return [f"{where}: nothing of the stack is on it"]
    lines = [f"{where}: {len(seen['running'])} services run, {len(seen['stopped'])} do not"]
    for component in seen["components"]:
        told = "".join(f"; {finding}" for finding in component["findings"][:3])
        lines.append(
            f"  {component['name']}: {component['condition']}{told}"
            + (f" -> {component['scenario']}" if component["scenario"] else "")
        )
    return lines
