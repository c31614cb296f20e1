# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the inventory of a stack's state: every mount of the Compose model, of every profile, and of the containers.

What protects a mount is asked of each component in turn (PROTECTORS). Image names decide nothing: what lies in a mount
does, and where the configuration says that a server keeps its data.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from ..base import filesystem, pipeline, typed
from ..base.errors import LifeboatError
from ..base.pipeline import Command
from ..base.text import named
from ..settings.config import ELSEWHERE, Config
from . import contents, files, state
from .compose import ComposeRuntime, Container, Project, Resource, foreign, within
from .contents import Contents
from .runtime import OBJECTS_DIRECTORY, Opened
from .state import (
    ANONYMOUS,
    BIND,
    EXCLUDED,
    NO_STATE,
    PROTECTED,
    UNPROTECTED,
    VOLUME,
    Protection,
    StateInventory,
    StateMount,
)

DATABASE, OBJECTS, FILES, DUMPS, CONFIG = "database", "objects", "files", "dumps", "config"  # see repository/components
POSTGRESQL_DIRECTORY = "/var/lib/postgresql/data"  # of the official image up to 17
MOST = 1_000  # mounts
SECONDS = 20.0  # for all of them
_ID = re.compile(r"[0-9a-f]{64}")  # how the engine calls a volume that nobody named
_LINKS = 1_000  # tablespaces that are looked for
# What a machine has of its own. Of these a stack reads; what it writes there is not known to be none of its state.
_RUNNING = ("/dev", "/proc", "/sys", "/run", "/var/run")
_DISKS = ("/run/media", "/var/run/media")  # where desktops and udisks mount what is plugged in
_HOSTS_OWN = (
    "/etc/localtime", "/etc/timezone", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd", "/etc/group",
    "/etc/machine-id", "/etc/os-release", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr", "/lib", "/bin",
    "/sbin", "/boot", "/var/log", "/var/lib/docker",
)  # fmt: skip


@dataclass(frozen=True)
class _Volume:
    """What the engine says of a volume."""

    name: str = field(default="", metadata={"json": "Name"})
    driver: str = field(default="local", metadata={"json": "Driver"})
    mountpoint: str = field(default="", metadata={"json": "Mountpoint"})
    options: Mapping[str, str] = field(default_factory=dict, metadata={"json": "Options"})

    @property
    def path(self) -> str:
        """Where its data lies on the host; of a directory that it binds that one, which is there at any time."""
        bound = "bind" in self.options.get("o", "").split(",")
        return self.options.get("device", "") if bound else self.mountpoint

    @property
    def in_memory(self) -> bool:
        return self.driver == "local" and self.options.get("type") == "tmpfs"


@dataclass(frozen=True)
class _Volumes:
    volumes: tuple[_Volume, ...] = ()


@dataclass
class _Mount:
    """A mount in the making. source: of a volume the engine's name, of a bind mount the path on the host."""

    type: str
    source: str
    name: str = ""
    uses: dict[str, bool] = field(default_factory=dict)  # service:/target -> may it write?
    path: str = ""
    driver: str = "local"
    gone: str = ""
    in_memory: bool = False
    contents: Contents = field(default_factory=Contents)

    @property
    def real(self) -> str:
        return self.contents.real or os.path.normpath(self.path)

    def targets(self, service: str) -> list[str]:
        return [use.partition(":")[2] for use in self.uses if use.partition(":")[0] == service]

    def writers(self, *but: str) -> list[str]:
        """The services that may write to it, without these."""
        return sorted({use.partition(":")[0] for use, writes in self.uses.items() if writes} - {*but})


@dataclass(frozen=True)
class Stack:
    """What the protectors ask: the configuration, the runtime and every mount, and what is read of them once."""

    config: Config
    runtime: ComposeRuntime
    mounts: Sequence[_Mount] = ()

    def holding(self, service: str, inside: str) -> list[_Mount]:
        """The mounts that hold the path `inside` the service; two where its container has another than the model."""
        lengths = [
            max((len(target) for target in mount.targets(service) if within(inside, target)), default=0)
            for mount in self.mounts
        ]
        return [mount for mount, length in zip(self.mounts, lengths) if length and length == max(lengths)]

    @functools.cached_property
    def data_path(self) -> str:
        """Where the database's data lies inside its container: as that says, or where there is none the model."""
        service, configured = self.config.database.service, self.config.database.data_directory
        with contextlib.suppress(LifeboatError):
            return self.runtime.data_path(service)
        with contextlib.suppress(LifeboatError):
            return configured or self.runtime.definition(service).environment.get("PGDATA") or POSTGRESQL_DIRECTORY
        return configured or POSTGRESQL_DIRECTORY

    @functools.cached_property
    def database(self) -> list[_Mount]:
        return self.holding(self.config.database.service, self.data_path) if self.config.database.enabled else []

    @functools.cached_property
    def database_links(self) -> tuple[str, ...]:
        """Where the tablespaces and the write-ahead log lead from the database's data, inside its container."""
        service, found = self.config.database.service, list[str]()
        for mount in self.database:
            targets = [target for target in mount.targets(service) if within(self.data_path, target)]
            if mount.path and targets:
                found += _links(Path(mount.path) / os.path.relpath(self.data_path, max(targets, key=len)))
        return tuple(found)

    @functools.cached_property
    def objects(self) -> list[_Mount]:
        return self.holding(self.config.objects.service, self.config.objects.data_directory or OBJECTS_DIRECTORY)

    @functools.cached_property
    def files(self) -> tuple[frozenset[str], frozenset[str]]:
        """What a configuration backup takes as it is, and as a secret."""
        one, plain, secret = self.config.config, set[str](), set[str]()
        with contextlib.suppress(LifeboatError):  # it is a problem of the inventory already
            project = files.find(self.config, self.runtime)
            plain, secret = {*project.compose, *project.plain}, {*project.secret}
        plain |= {*one.files, *filter(None, [one.site_directory])}
        return frozenset(map(_real, plain)), frozenset(map(_real, {*secret, *one.secret_files}))


class Judgement(NamedTuple):
    protection: Protection
    why: str


Protector = Callable[[Stack, _Mount], Optional[Judgement]]


def _by_database(stack: Stack, mount: _Mount) -> Optional[Judgement]:
    """The server's data, its tablespaces and its write-ahead log: a dump brings back the rows of all of them."""
    service = stack.config.database.service
    if mount in stack.database:
        whole = any(
            server.kind.startswith(contents.POSTGRESQL) and not server.path for server in mount.contents.servers
        )
        others = [] if whole else mount.writers(service)
        if others:
            return _shared("the database's data lies in it", others)
        return Judgement(PROTECTED, f"the data of {service}, whose databases are backed up")
    if any(within(link, target) for link in stack.database_links for target in mount.targets(service)):
        return Judgement(PROTECTED, f"a tablespace or the write-ahead log of {service}, whose databases are backed up")
    return None


def _by_objects(stack: Stack, mount: _Mount) -> Optional[Judgement]:
    objects = stack.config.objects
    if not objects.bucket or not objects.service:
        return None
    drive = any(server.kind == contents.MINIO and not server.path for server in mount.contents.servers)
    if mount not in stack.objects and not (drive and mount.targets(objects.service)):
        return None
    if others := mount.writers(objects.service):
        return _shared("the store's objects lie in it", others)
    keeper = ", by its keeper" if stack.config.mirrored_elsewhere else ""
    return Judgement(PROTECTED, f"the data of {objects.service}, whose buckets are mirrored{keeper}")


def _shared(what: str, writers: Sequence[str]) -> Judgement:
    return Judgement(UNPROTECTED, f"{what}, and {', '.join(writers)} may keep files there too")


def _by_config(stack: Stack, mount: _Mount) -> Optional[Judgement]:
    config = stack.config.config
    if not mount.path or not config.enabled:
        return None
    plain, secret = stack.files
    path = mount.real
    openly = any(within(path, name) for name in plain)
    if not openly and not any(within(path, name) for name in secret):
        return None
    if mount.contents.servers and mount.writers():
        words = "a configuration backup copies its files one after the other, which of a database at work is no backup"
        return Judgement(UNPROTECTED, words)
    if openly or config.recipients:
        return Judgement(PROTECTED, "in the configuration backup")
    if config.secrets == ELSEWHERE:
        return Judgement(EXCLUDED, "a secret file, kept by other means (lifeboat_config.secrets: elsewhere)")
    return Judgement(UNPROTECTED, "a secret file, and lifeboat_config.recipients names no key")


def _by_files(stack: Stack, mount: _Mount) -> Optional[Judgement]:
    """A directory of lifeboat_files, or what lies below one."""
    for source in stack.config.files.sources:
        named_so = source.volume and mount.type == VOLUME and source.volume in (mount.name, mount.source)
        if not named_so and not (source.path and mount.path and within(mount.real, _real(source.path))):
            continue
        servers = [server.kind for server in mount.contents.servers if server.kind != contents.SQLITE]
        if servers and source.consistency != "stop" and mount.writers():
            if _by_dumps(stack, mount) is not None:
                return None  # what a dump holds needs no consistent copy of the server's files
            words = f"its files are backed up while {', '.join(servers)} is at work, which is no backup of a database"
            return Judgement(UNPROTECTED, f"{words}; set consistency: stop for {source.name}, or dump it")
        left = f", but for {', '.join(source.exclude)}" if source.exclude else ""
        return Judgement(PROTECTED, f"in the files backup as {source.name} ({source.consistency}){left}")
    return None


def _by_dumps(stack: Stack, mount: _Mount) -> Optional[Judgement]:
    """The data of a server of lifeboat_dumps."""
    for source in stack.config.dumps.sources:
        if mount not in stack.holding(source.service, source.data_path):
            continue
        whole = any(server.kind != contents.SQLITE and not server.path for server in mount.contents.servers)
        if others := [] if whole else mount.writers(source.service):
            return _shared(f"the data of {source.service} lies in it", others)
        return Judgement(PROTECTED, f"the data of {source.service}, which is dumped as {source.name}")
    return None


# By component: what of its backups says about a mount, and why; None where it says nothing.
PROTECTORS: Mapping[str, Protector] = {
    DATABASE: _by_database,
    OBJECTS: _by_objects,
    FILES: _by_files,
    DUMPS: _by_dumps,
    CONFIG: _by_config,
}


def inventory(run: Opened) -> Optional[StateInventory]:
    """Return the inventory of the stack's state on this host; None of a stack that is no Compose project, and on a
    keeper, where nothing of it runs. Raises nothing: what could not be looked at is one of its problems."""
    runtime = run.runtime
    if not isinstance(runtime, ComposeRuntime) or run.config.keeper.directory:
        return None
    return of_project(run.config, runtime)


@dataclass(frozen=True)
class MountLocation:
    """Where one mount of the stack lies. volume: it is one that has a name. writers: the services that may write to
    it, of its users. problem: why nothing of it is there, or can be read from here."""

    name: str
    source: str
    volume: bool
    path: str
    writers: tuple[str, ...]
    users: tuple[str, ...]
    problem: str = ""


def places(run: Opened) -> list[MountLocation]:
    """Every mount of the stack, as far as the engine and the Compose files tell."""
    return places_of(run.runtime) if isinstance(run.runtime, ComposeRuntime) else []


def places_of(runtime: ComposeRuntime) -> list[MountLocation]:
    """The like of a project that has no configuration yet."""
    problems: list[str] = []
    found = _mounts(runtime, problems)
    _locate(found, problems)
    made = []
    for mount in found:
        foreign_driver = f"it is of the volume driver {named(mount.driver)}" if mount.driver != "local" else ""
        memory = "it is in memory" if mount.in_memory else ""
        made.append(
            MountLocation(
                mount.name or mount.source, mount.source, mount.type == VOLUME, mount.path, tuple(mount.writers()),
                tuple(sorted({use.partition(":")[0] for use in mount.uses})), mount.gone or foreign_driver or memory,
            )
        )  # fmt: skip
    return made


def of_project(config: Config, runtime: ComposeRuntime) -> StateInventory:
    """The like of a project that may have no configuration yet but what is drafted for it."""
    problems: list[str] = []
    mounts = _mounts(runtime, problems)
    if len(mounts) > MOST:
        problems.append(f"the stack has {len(mounts)} mounts, of which {MOST} were looked at")
    kept = mounts[:MOST]
    _locate(kept, problems)
    until = time.monotonic() + SECONDS
    for mount in kept:
        mount.contents = _contents(mount, until)
    stack = Stack(config, runtime, tuple(kept))
    return state.judge([_judged(stack, mount) for mount in kept], config, tuple(problems))


def _mounts(runtime: ComposeRuntime, problems: list[str]) -> list[_Mount]:
    """The mounts of the model and of the containers, each once, in the order of their names."""
    by_source: dict[tuple[str, str], _Mount] = {}
    for mount, use, writes in (*_of_model(_project(runtime, problems)), *_of_containers(runtime, problems)):
        _add(by_source, mount, use, writes)
    return sorted(by_source.values(), key=lambda mount: (mount.name or mount.source, mount.type))


def _of_model(project: Project) -> Iterator[tuple[_Mount, str, bool]]:
    """Each mount, where it is used, and whether that may write."""
    for service, definition in project.services.items():
        for volume in definition.volumes:
            use, writes = f"{service}:{volume.target}", not volume.read_only
            if volume.type == "bind":
                yield _Mount(BIND, os.path.normpath(volume.source)), use, writes
            elif volume.type in ("volume", "cluster") and volume.source:
                resource = project.volumes.get(volume.source, Resource())
                yield _Mount(VOLUME, resource.name or volume.source, volume.source), use, writes
            elif volume.type == "volume":
                yield _Mount(ANONYMOUS, "", use), use, writes


def _of_containers(runtime: ComposeRuntime, problems: list[str]) -> Iterator[tuple[_Mount, str, bool]]:
    for container in _containers(runtime, problems):
        for item in container.mounts:
            use = f"{container.service}:{item.destination}"
            if item.type == "bind":
                yield _Mount(BIND, os.path.normpath(item.source)), use, item.writable
            elif item.type == "volume" and (_ID.fullmatch(item.name) or not item.name):
                yield _Mount(ANONYMOUS, item.name, use), use, item.writable
            elif item.type == "volume":
                yield _Mount(VOLUME, item.name, item.name), use, item.writable


def _add(by_source: dict[tuple[str, str], _Mount], mount: _Mount, use: str, writes: bool) -> None:
    """An anonymous volume is one for each use: the engine's name of it changes with each container."""
    key = (mount.type, mount.name if mount.type == ANONYMOUS else mount.source)
    known = by_source.setdefault(key, mount)
    known.source = known.source or mount.source
    known.uses[use] = known.uses.get(use, False) or writes


def _project(runtime: ComposeRuntime, problems: list[str]) -> Project:
    try:
        return runtime.with_profiles()
    except LifeboatError as exc:
        cause = exc.cause
    try:
        project = runtime.model
    except LifeboatError as exc:
        if runtime.directory:  # of a project that is known by its name alone the containers are all that there is
            problems.append(f"the Compose project could not be read: {exc.cause}")
        return Project("")
    problems.append(f"the services of inactive profiles could not be read: {cause}")
    return project


def _containers(runtime: ComposeRuntime, problems: list[str]) -> list[Container]:
    try:
        return [*runtime.containers(), *runtime.containers(one_off=True)]
    except LifeboatError as exc:
        problems.append(f"the containers could not be looked at: {exc.cause}")
        return []


def _locate(mounts: Sequence[_Mount], problems: list[str]) -> None:
    """Where the data of each lies on this host."""
    names = sorted({mount.source for mount in mounts if mount.type != BIND and mount.source})
    volumes = _volumes(names, problems)
    for mount in mounts:
        volume = volumes.get(mount.source) if volumes is not None else None
        if mount.type == BIND:
            mount.path = mount.source
        elif volumes is None:
            mount.gone = "the engine could not be asked for it"
        elif volume is None:
            mount.gone = "the engine has no such volume (yet)"
        else:
            mount.path, mount.driver, mount.in_memory = volume.path, volume.driver, volume.in_memory


def _volumes(names: Sequence[str], problems: list[str]) -> Optional[dict[str, _Volume]]:
    """What the engine says of those that there are; None where it does not. To ask for a missing one fails for all."""
    attempted, subject = "ask the engine for the volumes", "docker volume"

    def wrong(at: str, cause: str) -> LifeboatError:
        return LifeboatError(attempted, subject, f"{at} {cause}".strip())

    def output(*arguments: str) -> str:
        command = Command(["docker", "volume", *arguments])
        return pipeline.output(command, attempted=attempted, subject=subject, timeout=60)

    try:
        there = {*output("ls", "--format", "{{.Name}}").splitlines()} if names else set()
        existing = [name for name in names if name in there]
        answer = typed.load(output("inspect", *existing), wrong) if existing else []
        volumes = foreign(_Volumes, {"volumes": answer}, wrong).volumes
    except LifeboatError as exc:
        problems.append(f"the volumes could not be looked at: {exc.cause}")
        return None
    return {volume.name: volume for volume in volumes}


def _contents(mount: _Mount, until: float) -> Contents:
    if mount.gone:
        return Contents(problem=mount.gone)
    if mount.driver != "local":
        return Contents(problem=f"it is of the volume driver {named(mount.driver)}, whose data is not read from here")
    if mount.in_memory or not mount.path or _system(mount):
        return Contents()
    left = until - time.monotonic()
    if left <= 0:
        return Contents(problem=f"there was no time left, of {SECONDS:g} s for all mounts")
    return contents.read(Path(mount.path), seconds=min(left, contents.SECONDS))


def _judged(stack: Stack, mount: _Mount) -> StateMount:
    """What protects it, by the first component that says so; else why it is no state, or that nothing does."""
    none, by = _no_state(mount), ""
    judgement = Judgement(NO_STATE, none) if none else Judgement(UNPROTECTED, "no component protects it")
    for component, protector in PROTECTORS.items() if not none else ():
        if (answer := protector(stack, mount)) is not None:
            judgement, by = answer, component if answer.protection != UNPROTECTED else ""
            break
    uses = tuple(sorted(map(named, mount.uses)))
    return StateMount(
        name=uses[0] if mount.type == ANONYMOUS else named(mount.name or mount.source), type=mount.type, uses=uses,
        protection=judgement.protection, why=named(judgement.why), by=by, servers=mount.contents.kinds,
        volume=named(mount.source) if mount.type == VOLUME else "",
        unseen=mount.contents.problem or mount.contents.partly,
    )  # fmt: skip


def _no_state(mount: _Mount) -> str:
    if mount.in_memory:
        return "it is in memory"
    if mount.contents.special or mount.contents.sockets:
        return "a socket or device, which holds no data" if mount.contents.special else "it holds sockets only"
    if mount.type == ANONYMOUS and mount.contents.empty:
        return "it is empty: an image asks for it, and nothing is kept there"
    return _system(mount)


def _system(mount: _Mount) -> str:
    """Why a bind mount is the host's own and no state of the stack; empty where it may be state."""
    if mount.type != BIND:
        return ""
    disk = any(within(mount.source, path) for path in _DISKS) or Path(mount.source).is_block_device()
    if not disk and any(within(mount.source, path) for path in _RUNNING):
        return "the running system's own, made again at each start"
    if mount.writers():
        return ""
    if mount.source == "/" or any(within(mount.source, path) for path in _HOSTS_OWN):
        return "the host's own, and only read"
    return ""


def _links(data: Path) -> tuple[str, ...]:
    names = [data / "pg_wal"]
    with contextlib.suppress(OSError), os.scandir(data / "pg_tblspc") as entries:
        names += [data / "pg_tblspc" / entry.name for _number, entry in zip(range(_LINKS), entries)]
    return tuple(link for name in names if (link := filesystem.link(name)))


def _real(path: str) -> str:
    try:
        return filesystem.real(path)
    except (LifeboatError, ValueError):
        return os.path.normpath(path)
