# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a Compose project that runs here, and draft the inventory of its stack. The controller writes it as a file.

Names, addresses and paths are taken over; the value of a password or a key never is. What a project does not tell is
not guessed: it is listed for the operator.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Optional, Union
from urllib.parse import urlsplit

from ..base import filesystem, pipeline, typed
from ..base.errors import LifeboatError, NotFoundError, UsageError
from ..base.pipeline import Command
from ..settings import config as settings
from ..settings.config import ELSEWHERE, Config
from ..settings.parts import DATA_OF
from ..stack import files, mounts
from ..stack.compose import ComposeRuntime, Resource, Volume, within
from ..stack.state import StateInventory, StateMount
from . import certificates, discover_files

_ATTEMPTED = "read the Compose projects of this host"
# The last part of an image's name, without its tag.
_POSTGRES = re.compile(r"postgres(ql)?|postgis|timescaledb(-ha)?|pgvector|spilo-\d+")
_TEXT = 1 << 20  # bytes of a file that a project names
_STORES = {"minio": 9000, "seaweedfs": 8333, "juicefs": 9000, "versitygw": 7070, "garage": 3900}
_DATA = "/var/lib/postgresql"
# What the official image and Bitnami's are told, by what it is.
_SAID = {"name": ("POSTGRES_DB", "POSTGRESQL_DATABASE"), "user": ("POSTGRES_USER", "POSTGRESQL_USERNAME")}
_BUCKET = re.compile(r"(.*_)?BUCKET(_NAME)?")
_ENDPOINT = re.compile(r"(.*_)?(S3|MINIO|AWS)_(.*_)?(ENDPOINT|ENDPOINT_URL|URL)(_S3)?")
_URL = re.compile(r"(https?)://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::(\d+))?(/[^\s'\"|;)?#]*)?")
# A key of S3, by the names that services are given it under; each may end in _FILE.
_KEYS = re.compile(
    r"(.*_)?(S3|MINIO|AWS)_(KEY(_ID)?|SECRET|(.*_)?(ACCESS_KEY(_ID)?|ACCESS_SECRET|SECRET_KEY|SECRET_ACCESS_KEY))(_FILE)?"
)
_ROOT = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
_CERTIFICATES = ("", "public.crt", "certs/public.crt", "tls.crt", "server.crt", "cert.pem", "fullchain.pem")
PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
# What stands in the place of what only the operator knows.
VAULT, RECIPIENT, _BUCKET_HERE, _REASON = "https://s3.elsewhere.example", "age1...", "...", "..."
_MOUNTS = 100  # that a draft names


@dataclass(frozen=True)
class _Port:
    target: Union[str, int] = ""
    published: Union[str, int] = ""
    protocol: str = "tcp"


@dataclass(frozen=True)
class _Health:
    test: Union[str, tuple[str, ...]] = ()


@dataclass(frozen=True)
class _Secret:
    source: str = ""


@dataclass(frozen=True)
class _Service:
    image: str = ""
    environment: Mapping[str, object] = field(default_factory=dict)
    ports: tuple[_Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    depends_on: Union[Mapping[str, object], tuple[str, ...]] = ()
    healthcheck: _Health = _Health()
    network_mode: str = ""
    secrets: tuple[_Secret, ...] = ()
    configs: tuple[_Secret, ...] = ()

    @property
    def kind(self) -> str:
        """What the image is called: postgres of docker.io/library/postgres:17@sha256:…"""
        return self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]

    def published(self, port: int) -> int:
        """Where the host reaches the container's port; 0 where it does not."""
        if self.network_mode == "host":
            return port
        found = [item.published for item in self.ports if item.protocol == "tcp" and str(item.target) == str(port)]
        return int(found[0]) if found and re.fullmatch(r"[0-9]{1,5}", str(found[0])) else 0


@dataclass(frozen=True)
class Project:
    """What `docker compose config` says. Holds secrets."""

    name: str = ""
    services: Mapping[str, _Service] = field(default_factory=dict)
    secrets: Mapping[str, Resource] = field(default_factory=dict)
    configs: Mapping[str, Resource] = field(default_factory=dict)


@dataclass(frozen=True)
class _Listed:
    name: str = field(default="", metadata={"json": "Name"})
    files: str = field(default="", metadata={"json": "ConfigFiles"})


@dataclass(frozen=True)
class Draft:
    """An inventory. unclear: what an operator has to check. required: what only the operator can provide."""

    stack: str
    variables: Mapping[str, object]
    later: Mapping[str, Mapping[str, object]]  # written as comments: not complete without what is required
    unclear: tuple[str, ...]
    required: tuple[str, ...] = field(metadata={"json": "wanted"})


def survey(name: str = "") -> Draft:
    """The project of that name, or the only one that there is."""
    listed = _projects()
    chosen = [item for item in listed if item.name == name] if name else listed
    if len(chosen) != 1:
        there = ", ".join(sorted(item.name for item in listed)) or "none"
        remedy = "Name one: -e project=<name>." if listed else "Start the stack (docker compose up -d), then try again."
        raise (UsageError if chosen else NotFoundError)(_ATTEMPTED, name or "all", f"there is {there}", remedy)
    paths = [path for path in chosen[0].files.split(",") if path]
    directory = _directory(chosen[0].name) or str(Path(paths[0] if paths else "/x").parent)
    usual = [*files.NAMES, *files.OVERRIDES]
    own = [os.path.relpath(path, directory) for path in paths]
    runtime: dict[str, object] = {"project_directory": directory}
    if any(path not in usual for path in own):
        runtime["files"] = own
    if chosen[0].name != re.sub(r"[^a-z0-9_-]", "", os.path.basename(directory).lower()).lstrip("_-"):
        runtime["project"] = chosen[0].name
    stack = chosen[0].name if PLAIN.fullmatch(chosen[0].name) else "stack"
    config = settings.from_mapping({"stack": stack, "runtime": runtime})
    opened = ComposeRuntime(config)
    project = opened.read(Project, "config")
    try:
        secret, problem = tuple(files.find(config, opened).secret), ""
    except LifeboatError as exc:
        secret, problem = (), f"secret files: {exc}"
    drafted = draft(project, stack, runtime, secret, problem=problem)
    inventory = mounts.of_project(_config(drafted), opened)
    if drafted.variables["lifeboat_database"] is False:
        drafted = with_files(drafted, inventory, mounts.places_of(opened), directory)
        inventory = mounts.of_project(_config(drafted), opened)
    images = {name: item.kind for name, item in project.services.items()}
    return with_state(drafted, inventory, images)


def _projects() -> tuple[_Listed, ...]:
    asked = Command(["docker", "compose", "ls", "--all", "--format", "json"])
    remedy = "Is the Docker Engine running, and docker compose version 2? `docker compose ls`."
    said = pipeline.output(asked, attempted=_ATTEMPTED, subject="docker compose ls", timeout=60, remedy=remedy)

    def wrong(at: str, cause: str) -> LifeboatError:
        return LifeboatError(_ATTEMPTED, "docker compose ls", f"{at} {cause}", remedy)

    return typed.build(tuple[_Listed, ...], typed.load(said, wrong), wrong, unknown="ignore")


def _directory(project: str) -> str:
    shown = '{{.Label "com.docker.compose.project.working_dir"}}'
    wanted = f"label=com.docker.compose.project={project}"
    _status, out, _err = pipeline.probe(Command(["docker", "ps", "--all", "--filter", wanted, "--format", shown]))
    found = sorted({line for line in out.splitlines() if line.startswith("/")})
    return found[0] if len(found) == 1 else ""


def text_of(path: str) -> str:
    """A file that a project names: its owner may name a pipe or a device. OSError and UnicodeDecodeError."""
    return filesystem.read_file(Path(path), _TEXT).decode("utf-8")


def draft(
    project: Project, stack: str, runtime: Mapping[str, object], secret: tuple[str, ...] = (), *, problem: str = "",
    read: Callable[[str], str] = text_of,
) -> Draft:  # fmt: skip
    """The inventory of a project. `read`: a file that holds a name, where the environment gives a file instead."""
    unclear = [problem] if problem else []
    wanted: list[str] = []
    variables: dict[str, object] = {"lifeboat_runtime": runtime}
    later: dict[str, Mapping[str, object]] = {}
    services = project.services
    database = _only(services, _is_database, "PostgreSQL", "lifeboat_database.service", unclear)
    store = _only(services, lambda item: item.kind in _STORES, "", "lifeboat_objects.service", unclear)
    if database:
        variables["lifeboat_database"] = _database(project, database, read, unclear, wanted)
        writers = [name for name, item in services.items() if database in item.depends_on]
        if not writers:
            unclear.append(f"no service depends on {database}: name those that write in lifeboat_application.writers")
    else:
        variables["lifeboat_database"] = False
    variables["lifeboat_repository"] = {"type": "local", "path": f"/backup/{stack}"}
    checks = []
    for name, item in services.items():
        if name in (database, store):
            continue
        url = _health(item)
        if url:
            checks.append({"url": url})
        elif item.ports:
            unclear.append(f"{name} publishes a port, and its healthcheck names no address: add one that proves that it"
                           " works to lifeboat_application.checks")  # fmt: skip
    variables["lifeboat_application"] = {"checks": checks}
    objects = _objects(project, store, unclear, read)
    if objects:
        later["lifeboat_objects"] = objects
        later["lifeboat_vault"] = {
            "endpoint_url": VAULT, "objects_bucket": f"{stack}-objects",
            "repository_bucket": f"{stack}-repository",
        }  # fmt: skip
        wanted.append("lifeboat_vault: an S3 endpoint that is not lost with this host, and two buckets there")
        wanted.append("lifeboat_secrets: objects_access_key, objects_secret_key, vault_access_key, vault_secret_key")
        wanted += _keys(project, store)
    if secret:
        later["lifeboat_config"] = {"recipients": [RECIPIENT]}
        wanted.append(
            f"lifeboat_config.recipients: without one these stay out of every backup: {', '.join(secret)}"
            " (or secrets: elsewhere, if you keep them by other means)"
        )
    wanted.append("lifeboat_repository: a disk of its own at the least, or a bucket")
    return Draft(stack, variables, later, tuple(unclear), tuple(wanted))


def _only(
    services: Mapping[str, _Service], fits: Callable[[_Service], bool], expected: str, variable: str, unclear: list[str]
) -> str:
    """The one service that fits; none is said where one is `expected`, and of several the operator chooses."""
    found = sorted(name for name, item in services.items() if fits(item))
    if len(found) > 1:
        unclear.append(f"{variable}: {', '.join(found)} fit; {found[0]} was taken, the others are not protected")
    if not found and expected:
        unclear.append(
            f"{variable}: no service was recognised as {expected}, so lifeboat_database is false; if one is, describe"
            " it: lifeboat_database: {service: <its name>}; other databases are for lifeboat_dumps"
        )
    return found[0] if found else ""


def _is_database(item: _Service) -> bool:
    return bool(_POSTGRES.fullmatch(item.kind)) or any(within(volume.target, _DATA) for volume in item.volumes)


def _database(
    project: Project, service: str, read: Callable[[str], str], unclear: list[str], required: list[str]
) -> dict[str, object]:
    environment, found = project.services[service].environment, {"service": service}
    for key, names in _SAID.items():
        text = _setting(project, environment, names, read)
        if text is None:
            unclear.append(f"lifeboat_database.{key}: it comes from a file that could not be read")
        elif text:
            found[key] = text
    if "user" in found:
        found.setdefault("name", found["user"])
    if any(name.startswith("POSTGRESQL_") for name in environment) or "auth" in str(
        environment.get("POSTGRES_INITDB_ARGS", "")
    ):
        required.append("lifeboat_secrets.database_password: this image may ask for it on its own socket, too")
    return dict(found)


def _setting(
    project: Project, environment: Mapping[str, object], names: tuple[str, ...], read: Callable[[str], str]
) -> Optional[str]:
    """The name that the image was told, directly or by a file; empty where it was not, None where it cannot be read."""
    for name in names:
        if environment.get(name) not in (None, ""):
            return str(environment[name])
        inside = str(environment.get(f"{name}_FILE") or "")
        if inside:
            secret = project.secrets.get(os.path.basename(inside), Resource())
            try:
                return read(secret.file).strip() if secret.file else None
            except (OSError, UnicodeDecodeError):
                return None
    return ""


def _health(item: _Service) -> str:
    """The address that the service's own check asks, as the host reaches it."""
    test = item.healthcheck.test
    match = _URL.search(test if isinstance(test, str) else " ".join(test))
    if not match:
        return ""
    scheme, port, path = match.groups()
    published = item.published(int(port or (443 if scheme == "https" else 80)))
    return f"{scheme}://127.0.0.1:{published}{path or '/'}" if published else ""


def _objects(project: Project, store: str, unclear: list[str], read: Callable[[str], str]) -> dict[str, object]:
    """The bucket, by the names of the variables that the services are given."""
    services = project.services
    given = [(name, str(value)) for item in services.values() for name, value in item.environment.items() if value]
    variables = {value for name, value in given if _BUCKET.fullmatch(name.upper())}
    if not variables:  # Bitnami's image makes those, each with its policy after a colon
        several = [value for name, value in given if name == "MINIO_DEFAULT_BUCKETS"]
        variables = {part.partition(":")[0] for value in several for part in re.split(r"[,;\s]+", value) if part}
    named = sorted(variables)
    found: dict[str, object] = {}
    if store:
        found = _store(project, store, unclear, read)
    elif named:
        urls = sorted({value for name, value in given if _ENDPOINT.fullmatch(name.upper())})
        plain = [url for url in urls if url.startswith(("http://", "https://")) and not urlsplit(url).username]
        if len(plain) != 1:
            unclear.append("lifeboat_objects.endpoint_url: a bucket is named, and not one address of its S3 server")
        found.update({"endpoint_url": plain[0].partition("?")[0]} if len(plain) == 1 else {})
    if not store and not named:
        return {}
    if len(named) != 1:
        unclear.append(
            f"lifeboat_objects.bucket: {', '.join(named) or 'no service is given one'}; name the one to protect"
        )
    return {**found, "bucket": named[0] if len(named) == 1 else _BUCKET_HERE}


def _store(project: Project, store: str, unclear: list[str], read: Callable[[str], str]) -> dict[str, object]:
    """The stack's own server: where it listens, by TLS or not, where its data is, and who knows its users."""
    item = project.services[store]
    found: dict[str, object] = {"service": store}
    published = item.published(_STORES[item.kind])
    certificate, alone = _certificate(project, item, read)
    tls = certificate or any(
        urlsplit(str(value)).scheme == "https" and urlsplit(str(value)).hostname == store
        for service in project.services.values()
        for name, value in service.environment.items() if _ENDPOINT.fullmatch(name.upper())
    )  # fmt: skip
    if published:
        found["endpoint_url"] = f"{'https' if tls else 'http'}://127.0.0.1:{published}"
    else:
        found["port"] = _STORES[item.kind]
    if tls:
        unclear.append(
            f"lifeboat_objects.endpoint_url: {store} speaks TLS; it must have a name that its certificate names"
            + ("" if published else ", at a port that it publishes")
        )
    if alone:
        found["ca_bundle"] = certificate
    elif tls:
        unclear.append("lifeboat_objects.ca_bundle: the file of the CA, unless this host trusts it already")
    if data := _data(item):
        found["data_directory"] = data
    if item.kind == "minio":
        found["admin"] = {"api": "minio"}
    found["buckets"] = ["*"]
    return found


def _data(item: _Service) -> str:
    """Where it keeps its objects: the one place that is written to, rather than its certificates or a configuration."""
    places = [volume.target for volume in item.volumes if volume.type in ("volume", "bind") and not volume.read_only]
    likely = [target for target in places if within(target, "/data") or "data" in os.path.basename(target)]
    named = [volume.target for volume in item.volumes if volume.type == "volume" and not volume.read_only]
    return next(iter([*likely, *named, *places]), "")


def _certificate(project: Project, item: _Service, read: Callable[[str], str]) -> tuple[str, bool]:
    """The file on this host that is mounted as the server's certificate, and whether it is its own issuer."""
    paths = [volume.source for volume in item.volumes if volume.type == "bind"]
    paths += [project.secrets.get(each.source, Resource()).file for each in item.secrets]
    paths += [project.configs.get(each.source, Resource()).file for each in item.configs]
    for path in filter(None, paths):
        for name in _CERTIFICATES:
            try:
                whole = os.path.join(path, name) if name else path
                return whole, certificates.self_signed(read(whole))
            except (OSError, ValueError):  # not there, or something else
                continue
    return "", False


def _keys(project: Project, store: str) -> Iterator[str]:
    """Where the keys are given that Lifeboat needs: the names of variables and files, never what they hold."""
    for name, item in project.services.items():
        given = [key for key, value in item.environment.items() if value and _is_key(key, root=name == store)]
        files = [project.secrets.get(os.path.basename(str(item.environment[key])), Resource()).file for key in given]
        told = [f"{key} (the file {file})" if file else key for key, file in zip(given, files)]
        whose = "objects_admin" if name == store else "objects"
        if told:
            yield f"lifeboat_secrets.{whose}_access_key, {whose}_secret_key: {name} is given {', '.join(told)}"


def _is_key(name: str, *, root: bool) -> bool:
    return name.upper().removesuffix("_FILE") in _ROOT if root else bool(_KEYS.fullmatch(name.upper()))


def _config(drafted: Draft) -> Config:
    """What the draft says of where the database and the store keep their data."""
    values: dict[str, object] = {"stack": drafted.stack, "config": {"secrets": ELSEWHERE}}
    values["runtime"] = drafted.variables["lifeboat_runtime"]
    values["database"] = drafted.variables.get("lifeboat_database", {})
    values["files"] = drafted.variables.get("lifeboat_files", {})
    store = {name: value for name, value in drafted.later.get("lifeboat_objects", {}).items() if name != "admin"}
    vault = drafted.later.get("lifeboat_vault", {})
    try:
        return settings.from_mapping({**values, "objects": store, "vault": vault})
    except UsageError:  # where the store is, is for the operator to say
        return settings.from_mapping(values)


def with_files(
    drafted: Draft, inventory: StateInventory, places: Sequence[mounts.MountLocation], directory: str
) -> Draft:  # fmt: skip
    """The draft with the directories that a stack without a database keeps its files in."""
    store = str(drafted.later.get("lifeboat_objects", {}).get("service", ""))
    found = discover_files.sources(inventory.unprotected, places, directory, [store] if store else [])
    if not found:
        return drafted
    wanted = (
        "lifeboat_files: each is read while it may be written (consistency: live); set pause or stop where its files"
        " must fit one another, and delete what no backup needs to hold",
    )
    variables = {**drafted.variables, "lifeboat_files": {"sources": found}}
    return replace(drafted, variables=variables, required=(*drafted.required, *wanted))


def _preset(kind: str, image: str) -> str:
    """The preset of lifeboat_dumps for a server, by what lies in its data; of two that are alike, by the image."""
    if kind == "MySQL or MariaDB":
        kind = "MySQL" if "mysql" in image else "MariaDB"
    if kind == "Redis or Valkey":
        kind = "Valkey" if "valkey" in image else "Redis"
    return kind.lower() if kind.lower() in DATA_OF else ""


def _dumps(unprotected: Sequence[StateMount], images: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By mount, what dumps the server whose data it is: of one that a service has there where its image keeps it."""
    found: dict[str, dict[str, str]] = {}
    for mount in unprotected:
        for use in mount.uses if len(mount.servers) == 1 else ():
            service, _colon, target = use.partition(":")
            preset = _preset(mount.servers[0], images.get(service, ""))
            name = re.sub(r"[^a-z0-9_-]", "-", service.lower()).lstrip("_-")
            alike = [source["service"] for source in found.values()]
            if preset and name and PLAIN.fullmatch(name) and service not in alike and mount.name not in found:
                place = {} if target == DATA_OF[preset] else {"data": target}
                found[mount.name] = {"name": name, "service": service, "preset": preset, **place}
    return found


def with_state(drafted: Draft, inventory: StateInventory, images: Mapping[str, str] = MappingProxyType({})) -> Draft:
    """The draft with what dumps the servers that were found, and every other mount that no backup holds, by name: what
    it keeps, and how it is excluded. images: of each service, what its image is called."""
    dumps = _dumps(inventory.unprotected[:_MOUNTS], images)
    unprotected = [mount for mount in inventory.unprotected if mount.name not in dumps][:_MOUNTS]
    variables = dict(drafted.variables)
    if dumps:
        variables["lifeboat_dumps"] = {"sources": list(dumps.values())}
    unclear = [f"{mount.shortened.display} is in no backup: {mount.why}" for mount in unprotected]
    unclear += [f"mounts: {problem}" for problem in inventory.problems]
    left = len(inventory.unprotected) - len(dumps) - len(unprotected)
    if left:
        unclear.append(f"mounts: {left} more are in no backup")
    later, wanted = dict(drafted.later), list(drafted.required)
    if dumps:
        services = ", ".join(source["service"] for source in dumps.values())
        wanted.append(
            f"lifeboat_dumps: the container of {services} must hold its password in a variable that docs/dumps.md"
            " names; else name it: password. Take and prove a backup: lifeboat backup dumps, lifeboat verify"
        )
    names = [mount.name for mount in unprotected if mount.name == mount.shortened.name]
    if names:
        later["lifeboat_mounts"] = {"exclude": [{"name": name, "reason": _REASON} for name in names]}
        wanted.append(
            "lifeboat_mounts.exclude: of each mount that is in no backup, why none needs to hold it; delete the others:"
            " until they are protected, status says COULD_NOT_VERIFY"
        )
    return replace(
        drafted, variables=variables, later=later, unclear=(*drafted.unclear, *unclear), required=tuple(wanted)
    )
