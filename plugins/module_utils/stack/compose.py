# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reach and control the services of a Compose project."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional, TypeVar, Union

from ..base import pipeline, typed
from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..base.pipeline import Command
from ..settings.config import Config
from . import judged
from .service import DataMount, ServiceState, signal_in_vain

T = TypeVar("T")
_LABEL = "com.docker.compose."
# A project may include files from the network, and switch that on in its `.env`: its owner would have root fetch what
# he likes. And such a file could be another when it is used than when it was read.
ALONE = {"COMPOSE_EXPERIMENTAL_GIT_REMOTE": "false", "COMPOSE_EXPERIMENTAL_OCI_REMOTE": "false"}
# Compose reads an env_file whole, and /dev/zero has no end. It needs a twentieth of this.
MOST_MEMORY = 1 << 30
_AT_ONCE = ("-t", "1")


@dataclass(frozen=True)
class Volume:
    """Where a service mounts what: a directory of the host, or a volume by its name in the project."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False


@dataclass(frozen=True)
class Port:
    published: Union[str, int] = ""
    host_ip: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True)
class Dependency:
    condition: str = ""


@dataclass(frozen=True)
class _Deploy:
    replicas: Optional[int] = None


@dataclass(frozen=True)
class Service:
    """A service as Compose resolves it. https://github.com/compose-spec/compose-spec/blob/main/spec.md"""

    image: str = ""
    scale: Optional[int] = None
    deploy: _Deploy = _Deploy()
    depends_on: Union[Mapping[str, Dependency], tuple[str, ...]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Volume, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Resource:
    """A volume, a config or a secret of a project. file: of the host, which holds it; empty where none does."""

    name: str = ""
    file: str = ""


@dataclass(frozen=True)
class Project:
    name: str
    services: Mapping[str, Service] = field(default_factory=dict)
    volumes: Mapping[str, Resource] = field(default_factory=dict)
    configs: Mapping[str, Resource] = field(default_factory=dict)
    secrets: Mapping[str, Resource] = field(default_factory=dict)


def _engine_field(name: str, default: T) -> T:
    """A field by the name that the engine gives it."""
    given: T = field(default=default, metadata={"json": name})
    return given


def _by_name(name: str) -> Mapping[str, T]:
    given: Mapping[str, T] = field(default_factory=dict, metadata={"json": name})
    return given


@dataclass(frozen=True)
class _Probe:
    output: str = _engine_field("Output", "")


@dataclass(frozen=True)
class _Health:
    status: str = _engine_field("Status", "none")
    log: tuple[_Probe, ...] = _engine_field("Log", ())


@dataclass(frozen=True)
class _State:
    status: str = _engine_field("Status", "")
    running: bool = _engine_field("Running", False)
    restarting: bool = _engine_field("Restarting", False)
    paused: bool = _engine_field("Paused", False)
    oom_killed: bool = _engine_field("OOMKilled", False)
    exit_code: int = _engine_field("ExitCode", 0)
    error: str = _engine_field("Error", "")
    started_at: str = _engine_field("StartedAt", "")
    pid: int = _engine_field("Pid", 0)
    health: Optional[_Health] = _engine_field("Health", None)


@dataclass(frozen=True)
class _ContainerConfig:
    image: str = _engine_field("Image", "")
    environment: tuple[str, ...] = _engine_field("Env", ())
    labels: Mapping[str, str] = _by_name("Labels")
    stop_signal: str = _engine_field("StopSignal", "")
    stop_timeout: Optional[int] = _engine_field("StopTimeout", None)


@dataclass(frozen=True)
class _Binding:
    address: str = _engine_field("HostIp", "")
    port: str = _engine_field("HostPort", "")


@dataclass(frozen=True)
class _Host:
    network_mode: str = _engine_field("NetworkMode", "")
    restart_policy: Mapping[str, object] = _by_name("RestartPolicy")
    port_bindings: Mapping[str, tuple[_Binding, ...]] = _by_name("PortBindings")


@dataclass(frozen=True)
class _Network:
    address: str = _engine_field("IPAddress", "")
    address6: str = _engine_field("GlobalIPv6Address", "")


@dataclass(frozen=True)
class _Networks:
    networks: Mapping[str, _Network] = _by_name("Networks")


@dataclass(frozen=True)
class Mount:
    """What is mounted in a container. name: of a volume. source: of a bind mount, on the host."""

    type: str = _engine_field("Type", "")
    name: str = _engine_field("Name", "")
    source: str = _engine_field("Source", "")
    destination: str = _engine_field("Destination", "")
    writable: bool = _engine_field("RW", True)


@dataclass(frozen=True)
class Container:
    """What the engine says of a container. https://docs.docker.com/reference/api/engine/version/v1.47/#operation/ContainerInspect"""

    id: str = _engine_field("Id", "")
    path: str = _engine_field("Name", "")
    image: str = _engine_field("Image", "")
    restarts: int = _engine_field("RestartCount", 0)
    state: _State = _engine_field("State", _State())
    config: _ContainerConfig = _engine_field("Config", _ContainerConfig())
    host: _Host = _engine_field("HostConfig", _Host())
    mounts: tuple[Mount, ...] = _engine_field("Mounts", ())
    network: _Networks = _engine_field("NetworkSettings", _Networks())

    @property
    def name(self) -> str:
        return self.path.lstrip("/")

    @property
    def service(self) -> str:
        return self.config.labels.get(f"{_LABEL}service", "")

    @property
    def project(self) -> str:
        return self.config.labels.get(f"{_LABEL}project", "")

    @property
    def stop_signal(self) -> str:
        return self.config.stop_signal or "SIGTERM"

    @property
    def deaf(self) -> bool:
        """Does only the engine's kill end it? A time of its own (stop_grace_period) is left to it: a program may end
        without being told."""
        patient = self.config.stop_timeout is not None or not self.state.running
        return not patient and signal_in_vain(self.id, self.state.pid, self.stop_signal)

    @property
    def killed(self) -> str:
        """What a person reads of one that is deaf."""
        return f"its program has no handler for {self.stop_signal}: killed after 1 s, not after Docker's 10 s"

    @property
    def addresses(self) -> set[str]:
        """Where it connects from, in each of its networks."""
        networks = self.network.networks.values()
        return {found for network in networks for found in (network.address, network.address6) if found}


@dataclass(frozen=True)
class _Inspected:
    containers: tuple[Container, ...]


def inspect(ids: Sequence[str], *, attempted: str, subject: str) -> tuple[Container, ...]:
    """Ask the engine for containers; one that has gone since it was listed is left out. Holds secrets: their
    environment."""
    if not ids:
        return ()
    command = Command(["docker", "inspect", *ids])
    status, raw, err = pipeline.probe(command, timeout=60)
    # The engine prints the others nevertheless.
    if status and not (err and all("no such object" in line.lower() for line in err.splitlines())):
        raise pipeline.failed(attempted, subject, pipeline.Finished(command, status, err))
    wrong = _wrong(attempted, subject, "Is it Docker's own engine? `docker version`.")
    return foreign(_Inspected, {"containers": typed.load(raw, wrong)}, wrong).containers


def _wrong(attempted: str, subject: str, remedy: str) -> typed.Wrong:
    """What a field holds instead is not said: it may be a secret."""
    return lambda at, cause: LifeboatError(
        attempted, subject, f"the answer cannot be used: {f'{at} {cause}'.strip().partition(', has ')[0]}", remedy
    )


def foreign(kind: type[T], answer: object, wrong: typed.Wrong) -> T:
    """JSON of a foreign tool, which writes null for what is not there."""
    return typed.build(kind, _without_nulls(answer), wrong, unknown="ignore")


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


class ComposeRuntime:
    """A Compose project, by its directory. Containers are found by Compose's own labels, so a broken compose file or
    a stopped service does not hide them; `docker exec` is used rather than `docker compose exec`, which is slower."""

    def __init__(self, config: Config) -> None:
        self._directory = config.runtime.project_directory
        self._files = config.runtime.files
        self._project = config.runtime.project
        self._data_directory = config.database.data_directory
        self._state = config.state
        self._model: Optional[Project] = None
        self._ahead: Optional[Future[Project]] = None
        self._every: Union[Project, LifeboatError, None] = None
        self._borne = ""
        self.label = f"compose project {self._project or self._directory}"

    def compose(self, *argv: str) -> Command:
        """`docker compose`, told where the project is."""
        words = ["docker", "compose"]
        if self._directory:
            words += ["--project-directory", self._directory]
        for file in self._files:
            words += ["--file", os.path.join(self._directory, file)]
        if self._project:
            words += ["--project-name", self._project]
        return Command([*words, *argv], ALONE)

    @property
    def model(self) -> Project:
        """The project as Compose itself resolves it. Holds secrets: never logged, never returned by a module."""
        if self._model is None:
            ahead, self._ahead = self._ahead, None
            self._model = ahead.result() if ahead else self.read(Project, "config")
        return self._model

    def read_ahead(self) -> None:
        """Begin to read the project, where its name is not configured: Compose takes longer than the engine."""
        if not self._project and self._model is None and self._ahead is None:
            pool = ThreadPoolExecutor(1)
            self._ahead = pool.submit(self.read, Project, "config")
            pool.shutdown(wait=False)

    def read(self, kind: type[T], *arguments: str) -> T:
        """What `docker compose config` says of the project, asked in these words."""
        text, wrong = self._query(*arguments)
        return foreign(kind, typed.load(text, wrong), wrong)

    def _query(self, *arguments: str) -> tuple[str, typed.Wrong]:
        attempted, subject = "read the Compose project", self._directory or self._project
        if self._directory and not Path(self._directory).is_dir():
            raise NotFoundError(
                attempted, subject, "there is no such directory", "Correct lifeboat_runtime.project_directory."
            )
        remedy = (
            "`docker compose config` in that directory shows the same, except for what the project includes from the"
            " network: Lifeboat does not fetch it. Keep a copy in the project."
        )
        asked = replace(self.compose(*arguments, "--format", "json"), memory=MOST_MEMORY)
        text = pipeline.output(asked, attempted=attempted, subject=subject, timeout=60, remedy=remedy)
        return text, _wrong(attempted, subject, remedy)

    def note_judged(self) -> None:
        """From now on, until the recovery ends, start the project only as it is."""
        judged.note(self._state, self._query("config")[0])

    @property
    def directory(self) -> str:
        return self._directory

    @property
    def project(self) -> str:
        """Its name: as configured, as Compose says, or as its containers bear it where Compose cannot read it."""
        if self._project or self._borne:
            return self._project or self._borne
        try:
            return self.model.name
        except LifeboatError:
            borne = self._projects_here()
            if len(borne) != 1:
                raise
            self._borne = borne[0]
            return self._borne

    def _projects_here(self, *more: str, running: bool = False) -> list[str]:
        """The names of the projects whose containers, or those that run, were made from our directory."""
        if not self._directory:
            return []
        labels = [f"{_LABEL}project.working_dir={self._directory}", *more]
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        shown = '{{.Label "com.docker.compose.project"}}'
        every = [] if running else ["--all"]
        _status, out, _err = pipeline.probe(Command(["docker", "ps", *every, *filters, "--format", shown]))
        return sorted(set(out.split()))

    def services(self) -> list[str]:
        """Those that the project runs; one with no replica is none."""
        found = self.model.services
        return sorted(name for name, item in found.items() if 0 not in (item.scale, item.deploy.replicas))

    def containers(self, *, one_off: bool = False) -> tuple[Container, ...]:
        """What the engine says of each container of the project. one_off: of those that `docker compose run` made."""
        attempted, subject = "ask the engine for the containers", self.project
        return inspect(self._ids(attempted, subject, one_off=one_off), attempted=attempted, subject=subject)

    def volumes(self) -> list[str]:
        """The names of those that Compose made for the project, and of those that its containers mount."""
        labelled = Command(["docker", "volume", "ls", "--quiet", "--filter", f"label={_LABEL}project={self.project}"])
        names = pipeline.output(labelled, attempted="list the volumes", subject=self.project, timeout=60).split()
        mounted = (mount for container in self.containers() for mount in container.mounts if mount.type == "volume")
        return sorted({*names, *(mount.name for mount in mounted)})

    def _ids(
        self, attempted: str, subject: str, *labels: str, one_off: bool = False, shown: Sequence[str] = ("--quiet",)
    ) -> list[str]:  # fmt: skip
        words = ["docker", "ps", "--all", *shown, "--no-trunc"]
        for label in (f"project={self.project}", *labels, f"oneoff={one_off}"):
            words += ["--filter", f"label={_LABEL}{label}"]
        remedy = "Is the Docker Engine running? `systemctl status docker`."
        return pipeline.output(Command(words), attempted=attempted, subject=subject, timeout=60, remedy=remedy).split()

    def definition(self, service: str) -> Service:
        """The service as Compose resolves it. Holds secrets."""
        services = self.model.services
        if service not in services:
            raise NotFoundError(
                "find the service", f"{service} in {self.project}", f"the project has {', '.join(sorted(services))}",
                "Correct the service's name in the inventory.",
            )  # fmt: skip
        return services[service]

    def state(self, service: str) -> ServiceState:
        found = self._newest(service)
        return ServiceState() if found is None else _state(found)

    def states(self, services: Iterable[str]) -> dict[str, ServiceState]:
        """By service, of one look at the containers of all of them."""
        names = list(dict.fromkeys(services))
        attempted, subject = "ask the engine for the services", ", ".join(names)
        shown = self._ids(attempted, subject, shown=("--format", f'{{{{.ID}}}}={{{{.Label "{_LABEL}service"}}}}'))
        theirs = [key for key, _sep, name in (text.partition("=") for text in shown) if name in names]
        found = inspect(theirs, attempted="inspect the services", subject=subject)
        of_each: dict[str, list[Container]] = {}
        for one in found:
            of_each.setdefault(one.service, []).append(one)
        chosen = {name: _newest_of(of_each.get(name, ())) for name in names}
        # Of one without a container it is asked whether the project has such a service at all.
        return {name: self.state(name) if one is None else _state(one) for name, one in chosen.items()}

    def _newest(self, service: str) -> Optional[Container]:
        """The service's container that runs, else any; None where it has none. A name nobody knows is an error."""
        ids = self._ids("ask the engine for the service", service, f"service={service}")
        found = inspect(ids, attempted="inspect the service", subject=service)
        if not found:
            self.definition(service)
            self._refuse_other_project(service)
        return _newest_of(found)

    def _refuse_other_project(self, service: str) -> None:
        """The same directory may run under another project name: starting ours would make a second, empty database."""
        others = self.elsewhere(service)
        if others:
            raise UsageError(
                "find the service", f"{service} in project {self.project}",
                f"{self._directory} runs as project {', '.join(others)}", "Set lifeboat_runtime.project to that name.",
            )  # fmt: skip

    def elsewhere(self, service: str, *, running: bool = False) -> list[str]:
        """Other projects of our directory that have the service, or run it."""
        return sorted({*self._projects_here(f"{_LABEL}service={service}", running=running)} - {self.project})

    def command(
        self, service: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False,
        user: str = "",
    ) -> Command:  # fmt: skip
        found = self.state(service)
        if not found.running:
            raise NotFoundError(
                "reach the service", f"{service} of {self.project}", f"its container is {found.describe()}",
                f"Start it (docker compose up -d {service}), or recover it with lifeboat.dr.recover_database.",
            )  # fmt: skip
        return exec_command(found.id, argv, env=env, stdin=stdin, user=user)

    def start(self, services: Sequence[str], *, timeout: float) -> None:
        """Start the containers there are, make those that are missing; a recovery is no time for a new version.

        Without --no-recreate Compose replaces every container that depends on another: --no-deps leaves what it depends
        on out of what it compares.
        """
        words = ("up", "--detach", "--no-deps", "--no-recreate", *services)
        if services:
            self.control(*words, attempted="start services", subject=", ".join(services), timeout=timeout)

    def stop(self, services: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        """Returns what is to be told of it: which were not given the time in which a program ends by itself."""
        if not services:
            return ()
        running = [each for each in self.containers() if each.service in services and each.state.running]
        hearing = {each.service for each in running if not each.deaf}
        by_service = sorted(running, key=lambda each: each.service)
        deaf = {each.service: each for each in by_service if each.service not in hearing}
        rest, names = [name for name in services if name not in deaf], ", ".join(services)

        def stop(arguments: Sequence[str]) -> None:
            self.control("stop", *arguments, attempted="stop services", subject=names, timeout=timeout)

        _beside(stop, list(deaf), rest)
        return tuple(f"{name}: {each.killed}" for name, each in deaf.items())

    def discard(self, service: str, *, timeout: float) -> None:
        """Remove the service's container; its volumes stay."""
        attempted = "remove the container of services"
        self.control("rm", "--stop", "--force", service, attempted=attempted, subject=service, timeout=timeout)

    def prepare(self, service: str, *, timeout: float) -> None:
        """Make the service's container and its volumes, and start nothing: a volume gets its owner from the image."""
        words = ("up", "--no-start", "--no-deps", "--no-recreate", service)
        self.control(*words, attempted="make the container of services", subject=service, timeout=timeout)

    def control(self, *arguments: str, attempted: str, subject: str, timeout: float, remedy: str = "") -> None:
        """A command of Compose that changes what runs."""
        shows = f"docker compose --project-directory {self._directory} ps -a"
        remedy = remedy or f"Look at `{shows}` and the services' logs."
        if arguments[0] == "up" and judged.pending(self._state):
            judged.require(self._state, self._query("config")[0])
        pipeline.run([self.compose(*arguments)], attempted=attempted, subject=subject, timeout=timeout, remedy=remedy)

    def data_path(self, service: str) -> str:
        """Where the server keeps its data, inside the container."""
        environment = self.state(service).environment or self.definition(service).environment
        return self._data_directory or environment.get("PGDATA") or "/var/lib/postgresql/data"

    def initialise(self, service: str, path: str, superuser: str) -> None:
        """Nothing to do: the image initialises an empty data directory when it starts."""

    def by_hand(self, service: str) -> tuple[str, str]:
        """What an operator types to take the service away, and to start everything."""
        words = shlex.join(self.compose().argv)
        return f"{words} rm --stop --force {shlex.quote(service)}", f"{words} up --detach"

    def logs(self, service: str, lines: int = 30) -> str:
        found = self.state(service)
        if not found.exists:
            return ""
        status, out, err = pipeline.probe(Command(["docker", "logs", "--tail", str(lines), found.id]))
        return pipeline.scrub(out + err) if status == 0 else ""

    def dependants(self, service: str) -> list[str]:
        """Services that depend on `service`, directly or through others: they write, so they are stopped first.

        One behind a profile that is not active is a writer as long as its container runs.
        """
        found = self._depending(service)
        active = found & {*self.model.services}
        if found != active:
            active |= found & {container.service for container in self.containers() if container.state.running}
        return sorted(active)

    def _depending(self, service: str) -> set[str]:
        """The like, whatever their profiles are."""
        services = self._of_every_profile()
        found: set[str] = set()
        while more := {name for name in services if {service, *found} & {*services[name].depends_on}} - found:
            found |= more
        return found

    def _of_every_profile(self) -> Mapping[str, Service]:
        services = self.model.services
        # A mistake behind a profile that nobody uses stops no recovery; what runs there is found as a client.
        with contextlib.suppress(LifeboatError):
            return {**self.with_profiles().services, **services}
        return services

    def with_profiles(self) -> Project:
        """The project with the services and volumes of every profile, active or not."""
        if isinstance(self._every, LifeboatError):
            raise self._every
        if self._every is None:
            try:
                self._every = self.read(Project, "--profile", "*", "config")
            except LifeboatError as exc:
                self._every = exc
                raise
        return self._every

    def one_offs(self, service: str, *more: str) -> list[str]:
        """Containers of `docker compose run` that run, and are of one of `more`, or of what depends on `service`."""
        wanted = {*more, *self._depending(service)}
        found = self.containers(one_off=True)
        return sorted(container.name for container in found if container.state.running and container.service in wanted)

    def end(self, containers: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        """Stop containers of `docker compose run`; those that have ended meanwhile are no error. Returns as stop()."""
        there = {one.name: one for one in self.containers(one_off=True) if one.name in containers}
        deaf = {name: one for name, one in there.items() if one.deaf}

        def stop(arguments: Sequence[str]) -> None:
            pipeline.run(
                [Command(["docker", "stop", *arguments])],
                attempted="stop containers of `docker compose run`", subject=", ".join(sorted(there)),
                timeout=timeout, remedy="Stop them by hand: docker rm --force <name>.",
            )  # fmt: skip

        _beside(stop, sorted(deaf), sorted({*there} - {*deaf}))
        return tuple(f"{name}: {each.killed}" for name, each in deaf.items())

    def addresses(self, services: Sequence[str], one_offs: Sequence[str]) -> set[str]:
        """Where these services and containers of `docker compose run` connect from."""
        found = [container for container in self.containers() if container.service in services]
        found += [container for container in self.containers(one_off=True) if container.name in one_offs]
        return {address for container in found for address in container.addresses}

    def data_mount(self, service: str, inside: str) -> DataMount:
        """The mount that holds the path `inside` the container, by the project's definition, else the container's."""
        holding = [volume for volume in self.definition(service).volumes if within(inside, volume.target)]
        if holding:
            volume = max(holding, key=lambda volume: len(volume.target))
            below = _below(inside, volume.target)
            if volume.type == "bind":
                return DataMount("bind", volume.source, Path(volume.source), below)
            if volume.source:
                return self._volume(self.model.volumes.get(volume.source, Resource()).name or volume.source, below)
        container = self._newest(service)
        for mount in container.mounts if container else ():
            if mount.type == "volume" and within(inside, mount.destination):
                return self._volume(mount.name, _below(inside, mount.destination))
        raise NotFoundError(
            "find the data volume", f"{service}:{inside}", "no volume or bind mount of the service holds that path",
            "Its data lives in the container's own layer; give the service a named volume.",
        )  # fmt: skip

    def _volume(self, name: str, below: str) -> DataMount:
        asked = Command(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])
        status, out, err = pipeline.probe(asked)
        if status:  # gone, unless the engine lists it or does not answer: what cannot be seen is not gone
            listing = Command(["docker", "volume", "ls", "--quiet", "--filter", f"name={name}"])
            unanswered, listed, _err = pipeline.probe(listing)
            if unanswered or name in listed.split():
                cause = err.strip() or f"docker ended with {status}"
                raise LifeboatError("find the data volume", name, cause, "Is the Docker Engine running?")
        return DataMount("volume", name, Path(out.strip()) if status == 0 else Path(), below)

    def image(self, service: str) -> str:
        found = self.state(service)
        return found.image or self.definition(service).image or f"{self.project}-{service}"

    def images(self) -> dict[str, str]:
        """Service -> what its container was made from: name@digest as a registry knows it, else name@image id."""
        used = {container.service: (container.config.image, container.image) for container in self.containers()}
        if not used:
            return {}
        # An image that is gone while its container runs on fails the whole question; its id is known all the same.
        # No `join`: with Docker 26 it ends the whole answer at the first image that no registry knows.
        shown = "{{.Id}}{{range .RepoDigests}} {{.}}{{end}}"
        wanted = sorted({image for _service, image in used.values()})
        _status, out, _err = pipeline.probe(Command(["docker", "image", "inspect", "--format", shown, *wanted]))
        digests = {image: known for image, *known in filter(None, map(str.split, out.splitlines()))}
        found = {}
        for service, (name, image) in sorted(used.items()):
            known = digests.get(image, [])
            repository = name.partition("@")[0].rpartition(":")[0] or name
            found[service] = next((text for text in known if text.startswith(f"{repository}@")), "".join(known[:1]))
            found[service] = found[service] or f"{name.partition('@')[0]}@{image}"
        return found


def _beside(stop: Callable[[Sequence[str]], None], deaf: Sequence[str], rest: Sequence[str]) -> None:
    """Stop both at the same time: those that must be killed need not wait for those that take their time."""
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(stop, [*_AT_ONCE, *deaf]) if deaf else None
        if rest:
            stop(rest)
        if killed:
            killed.result()


def _runs(container: Container) -> bool:
    state = container.state
    return state.running and not state.restarting and not state.paused


def _newest_of(containers: Sequence[Container]) -> Optional[Container]:
    """The one that runs, else any; None where there is none."""
    return next(filter(_runs, containers), containers[0] if containers else None)


def _state(container: Container) -> ServiceState:
    state, made = container.state, container.config
    return ServiceState(
        exists=True,
        running=_runs(container),
        status=state.status,
        health=state.health.status if state.health else "none",
        exit_code=state.exit_code,
        restarts=container.restarts,
        image=made.image,
        image_id=container.image,
        id=container.id,
        environment=dict(item.split("=", 1) for item in made.environment if "=" in item),
    )


def within(path: str, parent: str) -> bool:
    inner, outer = Path(os.path.normpath(path)), Path(os.path.normpath(parent))
    return outer in (inner, *inner.parents)


def _below(path: str, parent: str) -> str:
    """The way from a mount to a path inside it; empty where they are the same."""
    relative = os.path.relpath(os.path.normpath(path), os.path.normpath(parent))
    return "" if relative == "." else relative


def exec_command(
    container: str, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None, stdin: bool = False, user: str = ""
) -> Command:
    """`docker exec`, secrets passed by name: `-e PGPASSWORD` takes the value from our environment, not from argv."""
    words = ["docker", "exec"]
    if stdin:
        words.append("--interactive")
    if user:
        words += ["--user", user]
    for name in env or {}:
        words += ["--env", name]
    return Command([*words, container, *argv], env)
