# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a backend and at what it stands on. Reads only; works with a broken compose file and without an engine."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from ..base import filesystem, pipeline
from ..base.checks import FAIL, PASS, Check
from ..base.clock import parse_time
from ..base.errors import LifeboatError, Log
from ..base.pipeline import Command
from ..recovery import state as recovery_state
from ..recovery.state import RECOVERING, RECOVERING_OBJECTS
from ..settings.config import Config, EndpointCheck
from ..stack import answer
from ..stack import files as stack_files
from ..stack.compose import ComposeRuntime, Container, inspect
from ..stack.runtime import Opened, Runtime
from . import host, images
from . import stores as backend_stores
from .facts import BACKEND, DATABASE, OBJECTS, OTHER, Holder, Observations, Store, Unit, role_of
from .redact import Redactor, assignments, secrets_of

LINES = 25
HASTY = 3.0  # seconds; an endpoint that took longer to fail has had its time
_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$(?:\{([A-Za-z_]\w*)(:?[-?+])?[^}]{0,1024}\}|([A-Za-z_]\w*))")
_OWN = "com.docker.compose."
_TEXT = 1 << 20


def redactor_of(config: Config, containers: Sequence[Container] = ()) -> Redactor:
    """Knows the stack's secrets: of the configuration, of `.env`, of the environments that containers were given."""
    redactor = Redactor(config.secrets.values())
    redactor.learn(secrets_of(environment(config)))
    for item in containers:
        redactor.learn(secrets_of(assignments("\n".join(item.config.environment))))
    return redactor


def environment(config: Config) -> dict[str, str]:
    """Return what `.env` says; nothing where it is not there or cannot be read."""
    return assignments(_env(config))


def _env(config: Config) -> str:
    directory = config.runtime.project_directory
    try:
        data = filesystem.read_file(Path(directory) / ".env", _TEXT, cut=True) if directory else b""
        return data.decode("utf-8", "replace")
    except OSError:
        return ""


def needed_variables(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the variables that the Compose files name: those that Compose refuses to go without, and those left blank."""
    have = {**os.environ, **environment(config)}
    missing, blank = set(), set()
    for path in stack_files.project_files(config):
        try:
            text = filesystem.read_file(path, _TEXT, cut=True).decode("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            if line.lstrip().startswith("#"):
                continue
            for match in _VARIABLE.finditer(line):
                name, how = match.group(1) or match.group(3), match.group(2) or ""
                if (name not in have or (not have[name] and how != "?")) and how in ("?", ":?"):
                    missing.add(name)
                elif not have.get(name) and not how:
                    blank.add(name)
    return tuple(sorted(missing)), tuple(sorted(blank - missing))


def glance(run: Opened, *, logs: bool = False) -> Observations:
    """Return how the services are and whether the endpoints answer, now: asked again and again while a step
    is judged."""
    config, stack = run.config, run.reread()
    if not isinstance(stack, ComposeRuntime):
        return _of_units(config, stack, logs=logs)
    problem = _compose_problem(stack, config)
    try:
        raw = stack.containers()
    except LifeboatError as exc:
        if not problem:  # not the files: the engine itself does not answer
            unreachable = redactor_of(config).one_line(exc.cause)
            return Observations(host.read_host(_places(config), engine=True), not_looked=(unreachable,))
        raw = ()
    redactor = redactor_of(config, raw)
    services = [] if problem else stack.services()
    once = set() if problem else _run_once(stack)
    seen = tuple(_observe(config, item, redactor, once, logs=logs) for item in raw)
    there = {service.service for service in seen}
    mine = tuple(name for name in services if role_of(config, name) != OTHER)
    backend = mine or tuple(sorted({service.service for service in seen if service.role != OTHER}))
    return Observations(
        host=host.read_host(_places(config), engine=True),
        compose=problem,
        services=tuple(name for name in backend if role_of(config, name) == BACKEND),
        units=tuple(service for service in seen if not mine or service.service in services or service.role != BACKEND),
        absent=tuple(name for name in mine if name not in there),
        endpoints=tuple(_answer(check, redactor) for check in config.application.checks),
    )


def observe(run: Opened, *, log: Log) -> Observations:
    """Observe the whole stack."""
    config, stack = run.config, run.runtime
    log("looking at the machine, the engine and the services")
    first = glance(run, logs=True)
    pending, component = _pending(config)
    missing, blank = needed_variables(config) if config.runtime.type == "compose" else ((), ())
    found = replace(first, pending=pending, pending_component=component, env_missing=missing, env_blank=blank)
    if found.host.engine or (found.healthy and not found.host.full):
        return found
    if isinstance(stack, ComposeRuntime):
        elsewhere = _elsewhere(found, stack, config.stores)
        if elsewhere:  # its stores would seem lost, and its ports stolen
            return replace(found, elsewhere=elsewhere)
        found = replace(
            found,
            images_gone=_images_gone(found, stack),
            images_changed=images.changed(run, found),
            ports=_ports(found, stack, config.stores),
        )
    stores, unsure = backend_stores.assess_stores(run, found, log=log)
    redactor = redactor_of(config)
    told = tuple(Store(store.role, store.service, redactor.one_line(store.broken)) for store in stores)
    return replace(found, stores=told, not_looked=(*found.not_looked, *unsure))


def _elsewhere(observations: Observations, stack: ComposeRuntime, stores: Collection[str]) -> tuple[str, ...]:
    """List other projects of our directory that have a store which ours has not, or run one which ours does not."""
    names: set[str] = set()
    for service in stores:
        ours = [item for item in observations.units if item.service == service]
        if any(item.status in ("running", "paused", "restarting") for item in ours):
            continue
        try:
            names.update(stack.elsewhere(service, running=bool(ours)))
        except LifeboatError:  # nobody knows what ours is called
            continue
    return tuple(sorted(names))


def _places(config: Config) -> list[str]:
    root = host.docker_root()
    below = [f"{root}/{name}" for name in ("containers", "overlay2", "volumes")] if Path(root).is_dir() else []
    engine = [root, *below, "/var/lib/containerd"] if config.runtime.type == "compose" else []
    return [*engine[:1], "/", *engine[1:], config.runtime.project_directory or "/", "/var"]


def _compose_problem(stack: ComposeRuntime, config: Config) -> str:
    """Return why Compose cannot read the project. Compose quotes lines of `.env`: they are redacted."""
    try:
        stack.model  # noqa: B018 - read for its error
    except LifeboatError as exc:
        redactor = redactor_of(config)
        for line in _env(config).splitlines():
            redactor.learn((line, line.strip().removeprefix("export "), line.partition("=")[2]))
        return redactor.one_line(exc.cause.removeprefix("docker: "))
    return ""


def _run_once(stack: ComposeRuntime) -> set[str]:
    """List services that others wait for to complete: a migration, a bucket's maker."""
    return {
        name
        for service in stack.model.services.values()
        if isinstance(service.depends_on, Mapping)
        for name, how in service.depends_on.items()
        if how.condition == "service_completed_successfully"
    }


def _observe(config: Config, raw: Container, redactor: Redactor, once: set[str], *, logs: bool) -> Unit:
    state = raw.state
    service = pipeline.one_line(raw.service)
    policy = raw.host.restart_policy.get("Name") or "no"
    bare = not state.health and not raw.host.port_bindings
    probed = state.health.log if state.health and state.health.status != "healthy" else ()
    unit = Unit(
        service=service,
        name=pipeline.one_line(raw.name),
        role=role_of(config, service),
        id=raw.id,
        status=pipeline.one_line(state.status),
        health=pipeline.one_line(state.health.status if state.health else "none"),
        exit_code=state.exit_code,
        restarts=raw.restarts,
        oom=state.oom_killed,
        error=redactor.one_line(state.error),
        image=pipeline.one_line(raw.config.image),
        made_from=raw.image,
        up=_age(state.started_at),
        once=service in once or (policy in ("no", "") and bare),
        health_output=redactor.one_line(probed[-1].output) if probed else "",
    )
    if logs and not unit.well:
        _status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", str(4 * LINES), unit.id]))
        unit = replace(unit, log=redactor.lines(f"{out}\n{err}", LINES))
    return unit


def _age(started: str) -> float:
    """Return the seconds since an instant that the engine wrote; its zero time is long ago."""
    try:
        return max(0.0, (datetime.now(timezone.utc) - parse_time(started)).total_seconds())
    except (LifeboatError, OverflowError):
        return 0.0


def _of_units(config: Config, stack: Runtime, *, logs: bool) -> Observations:
    """Systemd units: those that the operator named, and the stores'."""
    redactor = redactor_of(config)
    backend = list(config.application.services or config.application.writers)
    names = dict.fromkeys([*config.stores, *backend])
    units = []
    for name in filter(None, names):
        state = stack.state(name)
        role = {config.database.service: DATABASE, config.objects.service: OBJECTS}.get(name, BACKEND)
        looping = state.status == "activating" and state.restarts > 0
        status = "restarting" if looping else state.status if state.exists else "absent"
        unit = Unit(name, name, role, name, status, exit_code=state.exit_code or 0, restarts=state.restarts)
        log = redactor.lines(stack.logs(name, 4 * LINES), LINES) if logs and not unit.well else ()
        units.append(replace(unit, log=log))
    return Observations(
        host=host.read_host(_places(config), engine=False),
        services=tuple(backend),
        units=tuple(units),
        endpoints=tuple(_answer(check, redactor) for check in config.application.checks),
    )


def _answer(check: EndpointCheck, redactor: Redactor) -> Check:
    """Ask one endpoint, twice at most: an answer that was late once is no failure."""
    began = time.monotonic()
    name, problem = f"{check.method} {check.url}", answer.ask(check)
    if problem and time.monotonic() - began < HASTY:
        time.sleep(0.5)
        problem = answer.ask(check)
    return Check(
        redactor.one_line(name), FAIL if problem else PASS, redactor.one_line(problem) or f"status {check.status}"
    )


def _pending(config: Config) -> tuple[str, str]:
    """(what says that a recovery of the data has not ended, empty where none is; of which component). The backend is
    stopped on purpose then."""
    state = config.state
    if (state / RECOVERING_OBJECTS).exists():
        return "a recovery of the object storage has begun and not ended", OBJECTS
    if (state / RECOVERING).exists() or recovery_state.stopped(config):
        return "a recovery of the database has begun and not ended", DATABASE
    return "", DATABASE


def _images_gone(observations: Observations, stack: ComposeRuntime) -> dict[str, str]:
    """Return images that a service which does not run would need and the engine does not have."""
    down = {item.service for item in observations.ill if item.status != "running"} | set(observations.absent)
    gone = {}
    for service in sorted(down):
        try:
            image = stack.image(service)
        except LifeboatError:
            continue
        status, _out, err = pipeline.probe(Command(["docker", "image", "inspect", "--format", "{{.Id}}", image]))
        if status and "no such image" in err.lower():
            gone[service] = pipeline.one_line(image)
    return gone


def _ports(observations: Observations, stack: ComposeRuntime, stores: Collection[str]) -> tuple[Holder, ...]:
    """Return who holds the ports of services that do not run. One that is paused or restarting holds its own."""
    running = {item.service for item in observations.units if item.status in ("running", "paused", "restarting")}
    wanted = [(service, port) for service, port in _required_ports(observations, stack) if service not in running]
    if not wanted:
        return ()
    sockets, others = host.listeners(), _published(observations, stack, stores)
    holders = []
    for service, port in wanted:
        name = f"{port.port}/{port.protocol}"
        held = next((holder for holder in others if holder.listener.clashes(port)), None)
        listening = next((listener for listener in sockets if listener.clashes(port)), None)
        if held:
            holders.append(Holder(name, service, container=held.container, ours=held.ours))
        elif listening:
            pid, command, unit = host.owner(listening.inode)
            holders.append(Holder(name, service, pid, command, unit))
    return tuple(holders)


def _required_ports(observations: Observations, stack: ComposeRuntime) -> list[tuple[str, host.Listener]]:
    """Return the ports of the host that services need, by the project or else by their containers."""
    wanted = []
    units = (unit.service for unit in observations.units)
    for service in sorted({*observations.services, *units, *observations.absent}):
        with contextlib.suppress(LifeboatError):
            wanted += [
                (service, host.Listener(port.protocol, port.host_ip, int(port.published)))
                for port in stack.definition(service).ports
                if str(port.published).isdecimal()
            ]
    if observations.compose:
        wanted += [(container.service, port) for container in stack.containers() for port in _bindings(container)]
    return wanted


def _bindings(container: Container) -> list[host.Listener]:
    return [
        host.Listener(inside.partition("/")[2] or "tcp", place.address, int(place.port))
        for inside, places in container.host.port_bindings.items()
        for place in places
        if place.port.isdecimal()
    ]


class _Published(NamedTuple):
    """A port that a container holds. ours: it was made from our directory."""

    listener: host.Listener
    container: str
    ours: bool


def _published(observations: Observations, stack: ComposeRuntime, stores: Collection[str]) -> list[_Published]:
    """Ports that running containers hold which are none of the services' own."""
    mine = {service.id for service in observations.units}
    _status, out, _err = pipeline.probe(Command(["docker", "ps", "--quiet", "--no-trunc"]))
    ids = [part for part in out.split() if part not in mine]
    every = inspect(ids, attempted="look at other containers", subject="engine")
    # The whole stack may run from our directory under another project name: that is the live one, and no stray.
    whole = {container.project for container in every if container.service in stores}
    result = []
    for container in every:
        here = bool(stack.directory) and container.config.labels.get(f"{_OWN}project.working_dir") == stack.directory
        ours = here and container.project not in whole
        result += [_Published(port, pipeline.one_line(container.name), ours) for port in _bindings(container)]
    return result
