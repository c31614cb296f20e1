# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What deploy refuses before it installs anything: mistakes of an inventory that would show at night, or in a recovery.

Every problem is one sentence that begins with the variable to correct.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable
from urllib.parse import urlsplit

from ..base import filesystem, pipeline, typed, web
from ..base.errors import LifeboatError, UsageError
from ..base.pipeline import Command
from ..configuration import files
from ..database import listed
from ..database import server as database_server
from ..database.methods.logical import dump
from ..objects import reconcile
from ..repository import repositories
from ..repository.base import OtherStackError
from ..repository.components import KINDS
from ..s3.bucket import Bucket
from ..settings import config as settings
from ..settings.config import Config
from ..settings.parts import S3Settings
from ..stack import buckets, mounts
from ..stack.runtime import Opened
from . import receivers

NOT_UP = "If the stack is not up yet, say so: -e agent_reach_database=false"
NO_DATABASE = (
    "The inventory does not describe lifeboat_database: name its service, or, where the stack has no PostgreSQL, say"
    " `lifeboat_database: false`."
)
SHOWN = 8  # so that an answer has at most ten lines
_PREFIX = "lifeboat_"
_ATTEMPTS, _PAUSE = 3, 1.0  # a service that has just been started may take a moment to listen
_PORTS = {"http": 80, "https": 443}
# What a package of Debian's name brings, however it came there: commands of which one is enough, modules, directories.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "age": ("age",),
    "cron": ("cron", "crond"),
    "git": ("git",),
    "logrotate": ("logrotate",),
    "openssh-client": ("ssh-keygen",),
    "python3-boto3": (),
    "tzdata": (),
    "zstd": ("zstd",),
}
ZONES = Path("/usr/share/zoneinfo/UTC")
INTERPRETER = "/usr/bin/python3"  # runs the installed command
_HAS_BOTO3 = "import importlib.util, sys; sys.exit(importlib.util.find_spec('boto3') is None)"
_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EACH = "give each stack a path or prefix of its own"


@dataclass(frozen=True)
class Location:
    """Where a stack of the play keeps its backups. machine: the hosts of one machine share its directories."""

    host: str
    machine: str
    stack: str
    repository: Mapping[str, object]

    @property
    def address(self) -> tuple[str, ...]:
        """Equal for two stacks whose backups would lie among each other's."""
        if self.repository.get("type", "local") == "s3":
            given = {name: str(self.repository.get(name, "")) for name in ("endpoint_url", "bucket", "prefix")}
            return ("s3", given["endpoint_url"].rstrip("/"), given["bucket"], given["prefix"].strip("/"))
        return (self.machine, os.path.normpath(str(self.repository.get("path", ""))))


@dataclass(frozen=True)
class _Deployed:
    """What is read of another stack's configuration, which an older version may have written."""

    repository: Mapping[str, object] = field(default_factory=dict)


def refuse(problems: Sequence[str], subject: str) -> None:
    """Raise one error that names them all, or the first of very many."""
    if problems:
        rest = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UsageError(
            "deploy", subject, "; ".join([*problems[:SHOWN], *rest]),
            "Nothing was changed. Correct the inventory and run lifeboat.dr.deploy again.",
        )  # fmt: skip


def unknown(variables: Iterable[str], known: Iterable[str]) -> list[str]:
    """The variables that nothing reads, each with the name that was probably meant."""
    names, found = {name.removeprefix(_PREFIX): name for name in known}, []
    for name in sorted({*variables} - {*names.values()}):
        near = difflib.get_close_matches(name.removeprefix(_PREFIX), sorted(names), 1)
        meant = f"did you mean {names[near[0]]}? If not, rename it" if near else "rename it"
        found.append(f"{name} is unknown; {meant}: names that begin with {_PREFIX} are Lifeboat's own")
    return found


def configuration(values: object, secrets: object) -> Config:
    """The stack's configuration; an error names the inventory's variable."""
    try:
        return settings.from_mapping(values, secrets)
    except LifeboatError as exc:
        variable = exc.subject.replace("settings.", "lifeboat_", 1)
        raise UsageError(exc.attempted, variable, exc.cause, f"Nothing was changed. {exc.remedy}") from exc


def addresses(config: Config) -> list[str]:
    """Addresses without a scheme, which no request could be sent to."""
    given = {f"lifeboat_application.checks[{n}].url": check.url for n, check in enumerate(config.application.checks)}
    endpoints = {
        "lifeboat_objects.endpoint_url": config.objects.endpoint_url,
        "lifeboat_objects.admin.endpoint_url": config.objects.admin.endpoint_url,
        "lifeboat_vault.endpoint_url": config.vault.endpoint_url,
        "lifeboat_repository.endpoint_url": getattr(config.repository, "endpoint_url", ""),
    }
    given.update({name: url for name, url in endpoints.items() if url})
    switch = web.address_problem(config.secrets[settings.HEARTBEAT].strip()) if config.heard else ""
    hidden = [f"lifeboat_secrets.{settings.HEARTBEAT}: {switch}"] if switch else []
    hidden += [cause for receiver in config.notify if (cause := receivers.problem(config.secrets, receiver))]
    return hidden + [
        f"{name} is {typed.shown(url)}, which does not begin with http:// or https://"
        for name, url in given.items()
        if not url.startswith(("http://", "https://")) or not _host(url)
    ]


def hooks(config: Config) -> list[str]:
    """Hooks around a component that no stack has: they would never be run."""
    return [
        f"lifeboat_hooks[{number}].components: {typed.shown(name)} is none of {', '.join(KINDS)}"
        for number, hook in enumerate(config.hooks)
        for name in hook.components
        if name not in KINDS
    ]


def shared(location: Location, places: Iterable[Location], directory: Path = settings.DIRECTORY) -> list[str]:
    """Other stacks with this one's repository: on the hosts of the play, or deployed on this host before."""
    found = []
    for place in places:
        same = (
            place.host == location.host
            or not place.stack
            or (place.stack, place.machine) == (location.stack, location.machine)
        )
        if place.address == location.address and not same:
            found.append(f"lifeboat_repository is also that of stack {place.stack} on {place.host}; {_EACH}")
    for stack in settings.stacks(directory):
        path = directory / f"{stack}.json"
        try:
            there = None if stack == location.stack else typed.maybe(_Deployed, filesystem.read_plain(path))
        except OSError:  # of another stack's file: its own runs tell of it
            there = None
        if there is None:
            continue
        if Location(location.host, location.machine, stack, there.repository).address == location.address:
            found.append(
                f"lifeboat_repository is also that of stack {stack}, which is deployed here ({path}); {_EACH}, or, if"
                " that stack is gone, remove that file and its schedule in /etc/cron.d"
            )
    return found


def unreachable(run: Opened, *, stack: bool) -> list[str]:
    """What does not answer, or refuses the key. `stack`: the stack is said to be up, so it is looked at, too."""
    return [*(_stack(run) if stack else ()), *_elsewhere(run), *_owned(run)]


def missing(packages: Iterable[str]) -> list[str]:
    """The packages that the host lacks. It is asked what it can do and not its package manager, which is slow."""
    return [name for name in packages if not _there(name)]


def _there(package: str) -> bool:
    if package == "tzdata":
        return ZONES.exists()
    if package == "python3-boto3":
        return pipeline.probe(Command([INTERPRETER, "-c", _HAS_BOTO3]))[0] == 0
    return any(shutil.which(name, path=_PLACES) for name in PACKAGES[package])


def notes(run: Opened) -> list[str]:
    """What a deployment is not refused for, and its operator had better know at once."""
    return [*_secret_files(run), *_databases(run), *_identities(run.config), *_mounts(run)]


def _mounts(run: Opened) -> list[str]:
    """The table of the stack's state: what each mount is protected by, and what is in no backup."""
    inventory = run.once(mounts.inventory)
    return [f"mount {row}" for row in inventory.table] if inventory else []


def _databases(run: Opened) -> list[str]:
    if not run.config.database.enabled:
        return []
    try:
        return listed.told(database_server.for_backups(run), run.config.database.exclude)
    except LifeboatError:
        return []  # the task that logs in says why


def _identities(config: Config) -> Iterator[str]:
    """The users and keys of an object store that is the stack's own."""
    api, secrets = config.objects.admin.api, config.secrets
    lacks = [name for name in ("objects_admin_access_key", "objects_admin_secret_key") if not secrets.get(name)]
    so = "so the users, groups, policies and access keys of the object store will be in no backup, and status will say"
    if not config.objects.bucket or not config.objects.service:
        return
    if not api:
        words = "If they are kept by other means: {api: elsewhere}"
        yield f"lifeboat_objects.admin is not set, {so} COULD_NOT_VERIFY (docs/mirror.md#identities). {words}"
    elif api == "minio" and lacks:
        yield f"lifeboat_secrets has no {' and no '.join(lacks)}, {so} COULD_NOT_VERIFY"


def _secret_files(run: Opened) -> list[str]:
    try:
        left = files.left_out(run)
    except LifeboatError as exc:
        return [f"lifeboat_config: the files of the stack could not be found, so no backup will hold them: {exc}"]
    if not left:
        return []
    return [
        f"lifeboat_config.recipients names no key, so {len(left)} secret files will be in no backup"
        f" ({', '.join(left[:3])}{', …' if len(left) > 3 else ''}), and verify and status will say COULD_NOT_VERIFY."
        " Make a key (docs/config-backup.md). If they are kept by other means: lifeboat_config.secrets: elsewhere"
    ]


def _stack(run: Opened) -> Iterator[str]:
    problem = _database_problem(run) if run.config.database.enabled else ""
    if problem:
        yield problem
        return
    if run.config.database.enabled:
        yield from _compression(run)
    if run.config.objects.bucket:
        yield from _bucket("lifeboat_objects", lambda: buckets.source(run), f". {NOT_UP}")
        if run.config.objects.keys_query:
            problem = _patiently(lambda: reconcile.query_problem(run))
            yield from [f"lifeboat_objects.keys_query: {problem} {NOT_UP}"] if problem else ()
    if run.config.files.references:
        problem = _patiently(lambda: reconcile.query_problem(run, reconcile.FILE_COLUMNS))
        yield from [f"lifeboat_files.references: {problem} {NOT_UP}"] if problem else ()
    for number, check in enumerate(run.config.application.checks):
        problem = _patiently(lambda url=check.url: _listens(url))  # type: ignore[misc]
        if problem:
            yield f"lifeboat_application.checks[{number}].url: {check.url} does not answer: {problem}. {NOT_UP}"


def _database_problem(run: Opened) -> str:
    """Return why the database's service cannot be used as it is; empty where nothing is known against it."""
    service = run.config.database.service
    try:
        state = run.runtime.state(service)
    except LifeboatError as exc:
        # The default: nobody has said yet whether there is a database.
        unsaid = f" {NO_DATABASE}" if run.config.database == settings.DatabaseSettings() else ""
        return f"lifeboat_database.service: {exc}{unsaid}"
    if state.exists and not state.running:
        return f"lifeboat_database.service: {service} is {state.describe()}. Start it. {NOT_UP}"
    return ""


def _compression(run: Opened) -> Iterator[str]:
    with contextlib.suppress(LifeboatError):  # the task that logs in says why
        if problem := dump.compression_problem(run):
            yield f"{dump.COMPRESSION}: {problem} {NOT_UP}"


def _elsewhere(run: Opened) -> Iterator[str]:
    config, secrets, repository = run.config, run.config.secrets, run.config.repository
    name = config.vault.objects_bucket or config.vault.repository_bucket
    if name:
        yield from _bucket("lifeboat_vault", lambda: buckets.in_vault(config, name))
    if isinstance(repository, S3Settings) and secrets.get(
        "s3_access_key"
    ):  # without one, the machine's own role is used
        server = (repository.bucket, repository.endpoint_url, repository.region, repository.ca_bundle)
        keys = (secrets["s3_access_key"], secrets.get("s3_secret_key", ""))
        yield from _bucket("lifeboat_repository", lambda: Bucket(*server, *keys))


def _owned(run: Opened) -> Iterator[str]:
    """Repository and vault, where they are marked as another stack's. What cannot be read yet says nothing: a host has
    no boto3, and no directory for its backups, before it is deployed."""
    for variable, opener in (
        ("lifeboat_repository", repositories.repository_of),
        ("lifeboat_vault", repositories.in_vault),
    ):
        try:
            found = opener(run)
            if found is not None:
                found.require_ours()
        except OtherStackError as exc:
            yield f"{variable}: {exc}"
        except LifeboatError:
            continue


def _bucket(variable: str, opener: Callable[[], Bucket], more: str = "") -> Iterator[str]:
    try:
        bucket = opener()
    except LifeboatError as exc:
        yield f"{variable}: {exc}"
        return
    problem = _patiently(lambda: bucket.requests.refusal(bucket.name))
    if problem:
        yield f"{variable}: {bucket.url}: {problem}{more}"


def _patiently(ask: Callable[[], str]) -> str:
    """The problem that is still there after a moment."""
    for _attempt in range(_ATTEMPTS - 1):
        if not ask():
            return ""
        time.sleep(_PAUSE)
    return ask()


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _listens(url: str) -> str:
    """Why nothing can be connected to there; a request is not sent, as it may write."""
    parts = urlsplit(url)
    try:
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc):
            return ""  # the proxy's to know
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), timeout=5).close()
    except (OSError, ValueError) as exc:
        return str(exc)
    return ""
