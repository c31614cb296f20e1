# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a Compose project would be started, and what of it reaches out of its container. Compose reads the files.

They come from a backup that the stack's host wrote. A container with the machine's root directory, its engine's socket
or its privileges is the machine's root, so what is not known to stay inside is refused unless an operator allows it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..base import filesystem, pipeline, typed
from ..base.checks import PASS, Check
from ..base.errors import UnverifiedError, UsageError, printable
from ..base.pipeline import Command
from ..settings.config import Config
from ..stack import files
from ..stack.compose import MOST_MEMORY, ComposeRuntime
from .allowed import Allowed

NAME = "services as the inventory expects"
_ATTEMPTED = "read what would be started"
# https://github.com/compose-spec/compose-spec/blob/main/05-services.md: what acts inside the container, or limits it.
_KEYS = """
attach blkio_config cap_drop command configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period
cpu_rt_runtime cpu_shares cpus cpuset depends_on deploy develop dns dns_opt dns_search domainname entrypoint env_file
environment expose external_links extra_hosts group_add healthcheck hostname image init label_file labels links
mac_address mem_limit mem_reservation mem_swappiness memswap_limit networks oom_score_adj pids_limit platform ports
profiles pull_policy read_only restart scale secrets shm_size stdin_open stop_grace_period stop_signal storage_opt
sysctls tmpfs tty ulimits user working_dir
"""
_BUILD_KEYS = """
additional_contexts args cache_from cache_to context dockerfile dockerfile_inline extra_hosts labels no_cache platforms
pull shm_size tags target
"""
_INSIDE, _BUILD = frozenset(_KEYS.split()), frozenset(_BUILD_KEYS.split())
_NAMESPACES = ("cgroup", "ipc", "network_mode", "pid", "userns_mode", "uts")
_OWN = ("", "none", "private", "shareable", "bridge")
_NETWORKS = ("", "bridge", "overlay")
_LOGS = ("", "json-file", "local", "journald", "none")  # drivers that send nothing anywhere
_MOST_LINKS = 40  # as many as the kernel follows
# Read only, these tell a container nothing but the time and whom the machine trusts.
_HARMLESS = ("/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/etc/ssl/certs", "/usr/share/ca-certificates")


@dataclass(frozen=True)
class Service:
    """role: what the inventory calls it, empty for a volume, network, secret or config of the project.

    beyond: what of it reaches out, each `<service>: <what>`, by which an operator allows it. allowed: which were.
    """

    name: str
    image: str = ""
    role: str = ""
    ports: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


def readable() -> bool:
    """Return whether Compose is on this machine."""
    return pipeline.probe(Command(["docker", "compose", "version", "--short"]))[0] == 0


def read(
    config: Config, allowed: Allowed, allow: Iterable[str] = (), *, directory: str = "", root: str = ""
) -> tuple[Service, ...]:
    """Return every service that would be started, and what else of the project reaches out.

    directory: where the project lies, if not in its place; root: what to take off its paths. Raises UnverifiedError
    where Compose cannot read it.
    """
    runtime = replace(config.runtime, project_directory=directory or config.runtime.project_directory)
    asked = ComposeRuntime(replace(config, runtime=runtime)).compose("config", "--format", "json")
    model = _answer(asked, config.runtime.project_directory, root)
    # What is in an env_file is among the variables then, and its name is gone.
    as_written = replace(asked, argv=[*asked.argv, "--no-interpolate"])
    raw = _map(_answer(as_written, config.runtime.project_directory, root).get("services"))
    words, paths = set(allow), _Paths(allowed, root)
    again = _Again.from_model(replace(config, runtime=runtime), model, raw, paths)
    found = [*_services(config, model, raw, paths, again), *_resources(model, paths, again)]
    return tuple(replace(one, allowed=tuple(text for text in one.beyond if text in words)) for one in found)


def _answer(command: Command, directory: str, root: str) -> Mapping[str, object]:
    status, out, err = pipeline.probe(replace(command, memory=MOST_MEMORY), timeout=60)
    if status:
        cause = (err.strip().splitlines() or [f"docker ended with {status}"])[-1]
        raise UnverifiedError(
            _ATTEMPTED, directory, f"Compose cannot read it: {cause.replace(root or '//', '')}",
            "Nothing was started. `docker compose config` in that directory shows the same.",
        )  # fmt: skip
    # What a field holds is not shown: it may be a secret.
    return _map(typed.load(out, lambda *_: UnverifiedError(_ATTEMPTED, "docker compose config", "it answers no JSON")))


def refused(services: Iterable[Service]) -> tuple[str, ...]:
    """List what reaches out of its container and was not allowed."""
    return tuple(text for one in services for text in one.beyond if text not in one.allowed)


def refuse(services: Iterable[Service]) -> None:
    """Raise UsageError where any service reaches out and was not allowed to."""
    found = refused(services)
    if found:
        raise UsageError(
            "start the services of the backup", "; ".join(found),
            "they reach out of their containers, and the inventory does not say that they may",
            f"Nothing was started. If your own Compose files have this, allow it by name: {allow_option(found)}",
        )  # fmt: skip


def allow_option(names: Iterable[str]) -> str:
    """Return the option with which an operator allows these names."""
    return f"-e {shlex.quote(json.dumps({'allow': list(names)}, ensure_ascii=False))}"


def check(services: Sequence[Service]) -> Check:
    """Return the check of a recovery for the services that it started."""
    started = [one for one in services if one.role]
    let = [text for one in services for text in one.allowed]
    words = f"{len(started)} services, none reaches out of its container"
    return Check(NAME, PASS, f"{len(started)} services; allowed by name: {'; '.join(let)}" if let else words)


@dataclass(frozen=True)
class _Paths:
    allowed: Allowed
    root: str

    def outside(self, path: object) -> str:
        """Return the path as it will be on the machine; empty where the inventory names it."""
        text = self.placed(str(path))
        if not self.allowed.covers(text):
            return printable(text)
        # In its place a link may lead on; in an unpacked backup it is judged with the files.
        real = text if self.root else filesystem.real(text)
        return "" if self.allowed.covers(real) else printable(real)

    def placed(self, path: str) -> str:
        return (path[len(self.root) :] or "/") if self.root and path.startswith(self.root) else path

    def ways(self, path: str) -> set[str]:
        """Return the path, and what it becomes by each link on its way: who may replace one of these leads it
        elsewhere."""
        found, done, rest, links = {os.path.normpath(path)}, "/", [part for part in path.split("/") if part], 0
        while rest and links < _MOST_LINKS:
            step = os.path.normpath(os.path.join(done, rest.pop(0)))
            target = filesystem.link(step)
            if target is None:
                done = step
                continue
            links += 1
            done = (self.root or "/") if target.startswith("/") else done
            rest = [*(part for part in target.split("/") if part), *rest]
            found.add(os.path.normpath(os.path.join(done, *rest)))
        return {self.placed(way) for way in found}


@dataclass(frozen=True)
class _Again:
    """What the engine and Compose find by its path whenever a service is started. A container that may write above such
    a path can put something else there: a link, which they follow as root, or other Compose files.

    sources: what is mounted or built from, by every path that leads there. composed: what Compose reads, likewise.
    """

    paths: _Paths
    sources: frozenset[str]
    composed: frozenset[str]

    @classmethod
    def from_model(
        cls, config: Config, model: Mapping[str, object], raw: Mapping[str, object], paths: _Paths
    ) -> _Again:
        sources: list[object] = []
        for given in _map(model.get("services")).values():
            service, build = _map(given), _map(_map(given).get("build"))
            sources += [_map(volume).get("source") for volume in _list(service.get("volumes"))]
            sources += [build.get("context"), *_map(build.get("additional_contexts")).values()]
        for key in ("secrets", "configs"):
            sources += [_map(given).get("file") for given in _map(model.get(key)).values()]
        composed = [*files.read_by_compose(config)]
        composed += [str(path) for service in raw.values() for path in _variable_files(_map(service))]
        return cls(paths, _ways(paths, sources), _ways(paths, composed))

    def inside(self, directory: str) -> Iterator[str]:
        """Yield what a container may replace that may write to a directory."""
        ways = self.paths.ways(directory)
        above = tuple(f"{way.rstrip('/')}/" for way in ways)
        if any(path.startswith(above) or path in ways for path in self.composed):
            yield "what Compose reads"
        yield from (printable(path) for path in sorted(self.sources) if path.startswith(above))


def _ways(paths: _Paths, values: Iterable[object]) -> frozenset[str]:
    return frozenset(way for path in values if str(path or "").startswith("/") for way in paths.ways(str(path)))


def _services(
    config: Config, model: Mapping[str, object], raw: Mapping[str, object], paths: _Paths, again: _Again
) -> Iterator[Service]:
    roles = {**dict.fromkeys(config.application.writers, "a writer"), config.objects.service: "the object store"}
    roles.update({config.database.service: "the database"} if config.database.enabled else {})
    for name, given in sorted(_map(model.get("services")).items()):
        service = _map(given)
        writes = [
            words for volume in map(_map, _list(service.get("volumes")))
            if volume.get("type") == "bind" and not volume.get("read_only")
            for words in _writes(str(volume.get("source")), again)
        ]  # fmt: skip
        reaches = dict.fromkeys([*_beyond(service, paths), *_variables(_map(raw.get(name)), paths), *writes])
        beyond = tuple(f"{printable(name)}: {words}" for words in reaches)
        image = printable(str(service.get("image") or "built here"))
        yield Service(printable(name), image, roles.get(name, "not named"), tuple(_ports(service)), beyond)


def _ports(service: Mapping[str, object]) -> Iterator[str]:
    for given in _list(service.get("ports")):
        port = _map(given)
        if port.get("published"):
            yield printable(f"{port.get('host_ip') or '*'}:{port['published']}")


def _beyond(service: Mapping[str, object], paths: _Paths) -> Iterator[str]:
    if service.get("privileged"):
        yield "privileged"
    for key in _NAMESPACES:
        value = str(service.get(key) or "")
        if value not in _OWN and not value.startswith("service:"):
            yield f"{key} {printable(value)}"
    yield from (f"cap_add {printable(str(name))}" for name in _list(service.get("cap_add")))
    yield from (
        f"security_opt {printable(str(text))}" for text in _list(service.get("security_opt")) if not _stricter(text)
    )
    for given in _list(service.get("volumes")):
        yield from _mount(_map(given), paths)
    yield from (
        f"volumes_from {printable(str(text))}" for text in _list(service.get("volumes_from")) if ":" in str(text)
    )
    for key in ("post_start", "pre_stop"):
        yield from (f"{key} privileged" for hook in _list(service.get(key)) if _map(hook).get("privileged"))
    yield from _build(_map(service.get("build")), paths)
    yield from _logging(_map(service.get("logging")))
    known = {*_INSIDE, *_NAMESPACES, "privileged", "cap_add", "security_opt", "volumes", "volumes_from", "post_start",
             "pre_stop", "build", "logging"}  # fmt: skip
    yield from (
        printable(key) for key, value in sorted(service.items()) if value and key not in known and key[:2] != "x-"
    )


def _writes(directory: str, again: _Again) -> Iterator[str]:
    for path in () if again.paths.outside(directory) else again.inside(directory):
        yield f"may write to {printable(again.paths.placed(directory))}, which contains {path}"


def _variable_files(service: Mapping[str, object]) -> Iterator[object]:
    """Files of the machine that Compose reads, as root, into a container's variables or labels."""
    for given in (service.get("env_file"), service.get("label_file")):
        for entry in [given] if isinstance(given, str) else _list(given):
            yield _map(entry).get("path") if isinstance(entry, Mapping) else entry


def _variables(service: Mapping[str, object], paths: _Paths) -> Iterator[str]:
    for path in _variable_files(service):
        out = printable(str(path)) if "$" in str(path) else paths.outside(path)  # what a variable leads to is not known
        if out:
            yield f"reads {out}"


def _stricter(option: object) -> bool:
    name, _sep, value = str(option).replace("=", ":", 1).partition(":")
    return name == "no-new-privileges" and value in ("", "true")


def _mount(volume: Mapping[str, object], paths: _Paths) -> Iterator[str]:
    kind = volume.get("type")
    if kind not in ("bind", "volume", "tmpfs", "image"):
        yield f"mounts a {printable(str(kind))}"
    elif kind == "bind":
        out = paths.outside(volume.get("source"))
        if out and not (volume.get("read_only") and out in _HARMLESS):
            yield f"mounts {out}"


def _logging(logging: Mapping[str, object]) -> Iterator[str]:
    """The engine sends, as root and from the machine's own network, what the service says."""
    driver = str(logging.get("driver") or "")
    here = driver == "syslog" and not _map(logging.get("options")).get("syslog-address")
    if driver not in _LOGS and not here:
        yield f"logging {printable(driver)}"


def _caches(build: Mapping[str, object]) -> Iterator[str]:
    """Where a build takes its cache from, and writes it to, as root. What else stands there may be a password."""
    for key, harmless in (("cache_from", ("", "registry")), ("cache_to", ("inline",))):
        for entry in _list(build.get(key)):
            options = dict(part.partition("=")[::2] for part in str(entry).split(",") if "=" in part)
            kind = options.get("type", "" if not options else "local")
            kind = "registry" if key == "cache_to" and not options else kind  # a name alone is an image's
            if kind not in harmless:
                yield f"build {key} {printable(kind)}"


def _build(build: Mapping[str, object], paths: _Paths) -> Iterator[str]:
    contexts = [build["context"]] if build.get("context") else []
    contexts += _map(build.get("additional_contexts")).values()
    # An address may hold a password, so it is not shown.
    yield from ("builds from elsewhere" for context in contexts if paths.outside(context))
    recipe = os.path.normpath(os.path.join(str(build.get("context") or "/"), str(build.get("dockerfile") or ".")))
    if contexts and paths.outside(recipe) and not paths.outside(build.get("context")):
        yield f"builds by {paths.outside(recipe)}"
    yield from _caches(build)
    yield from (f"build {printable(key)}" for key, value in sorted(build.items()) if value and key not in _BUILD)


def _resources(model: Mapping[str, object], paths: _Paths, again: _Again) -> Iterator[Service]:
    for kind, key in (("secret", "secrets"), ("config", "configs")):
        for name, given in sorted(_map(model.get(key)).items()):
            file = _map(given).get("file")
            yield from _resource(kind, name, f"mounts {paths.outside(file)}" if file and paths.outside(file) else "")
    for name, given in sorted(_map(model.get("volumes")).items()):
        volume, options = _map(given), _map(_map(given).get("driver_opts"))
        driver = str(volume.get("driver") or "local")
        yield from _resource("volume", name, f"driver {printable(driver)}" if driver != "local" else "")
        # Its other options may hold a password.
        yield from _resource("volume", name, f"mounts {printable(str(options.get('device')))}" if options else "")
        for words in _writes(str(options.get("device") or ""), again) if options else ():
            yield from _resource("volume", name, words)
        yield from _resource("volume", name, "is another project's" if volume.get("external") else "")
    for name, given in sorted(_map(model.get("networks")).items()):
        network = _map(given)
        driver = str(network.get("driver") or "")
        own = driver in _NETWORKS and network.get("name") != "host"
        yield from _resource("network", name, "" if own else f"driver {printable(driver or 'host')}")


def _resource(kind: str, name: str, problem: str) -> Iterator[Service]:
    if problem:
        yield Service(f"{kind} {printable(name)}", beyond=(f"{kind} {printable(name)}: {problem}",))


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()
