# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The large parts of the configuration: where backups are, a static frontend, how a stack is rehearsed, what a keeper
is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Optional

from ..base.typed import Range

PRODUCTION = "production"
REHEARSED = "drill"  # the only environment in which anything is ever broken on purpose
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:]{2,45}(%\w+)?")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_BYTES = re.compile(r"\d+(\.\d+)?\s*[BKMGT]", re.IGNORECASE)
_SECRET_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class ExcludedMount:
    """A mount that no backup needs to hold. `name`: of a volume as in the Compose files; the path on the host of a bind
    mount; service:/target of an anonymous volume. `reason`: why, for everybody who reads what is in no backup."""

    name: str = ""
    reason: str = ""


@dataclass(frozen=True)
class MountSettings:
    """What the services mount besides what backups hold. `exclude`: the mounts that no backup needs to hold."""

    exclude: tuple[ExcludedMount, ...] = ()


@dataclass(frozen=True)
class LocalSettings:
    """A repository in a directory. `folders`: component -> folder. `group`: who may read it besides root, for a keeper.
    `mounted`: it must be a mount."""

    type: Literal["local"] = "local"
    path: str = ""
    group: str = ""
    mounted: bool = False
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class S3Settings:
    """A repository in a bucket. `staging_root`: where backups are put together. Secrets: s3_access_key,
    s3_secret_key."""

    type: Literal["s3"] = "s3"
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    staging_root: str = ""


@dataclass(frozen=True)
class RetentionSettings:
    """What is kept. Days and months of 0 switch that rule off; the floors cannot be switched off. `timezone`: empty is
    that of the stack."""

    daily_days: Annotated[int, Range(0, 36500)] = 30
    weekly_months: Annotated[int, Range(0, 1200)] = 3
    monthly_months: Annotated[int, Range(0, 1200)] = 12
    weekly_day: str = "sunday"
    monthly_day: Annotated[int, Range(1, 31)] = 1
    minimum: Annotated[int, Range(1, 100000)] = 3
    timezone: str = ""


@dataclass(frozen=True)
class FallbackSettings:
    """Where the last good site is published when GitHub cannot: a directory that a web server of this host serves, or a
    bucket. `url`: its public address. Secrets of a bucket: fallback_access_key, fallback_secret_key.
    """

    url: str = ""
    directory: str = ""
    bucket: str = ""
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""


@dataclass(frozen=True)
class FrontendSettings:
    """A static site on GitHub Pages. `url`, its public address, empty: the stack has none.

    `repository`: owner/name. `remote_url` empty: github.com. `workflow`: the file's name, which builds and deploys
    `branch`. `dispatch_input`: the workflow's own input that takes a commit to deploy; empty: it has none, and the last
    good commit comes back by a commit that reverts. `build`: commands that are run in `directory`, `output` what they
    leave there. `marker`: the file of the site that tells its commit (see frontend_site). `domain`: the custom domain.
    `builder_image` empty: the host's own Node, as `build_user`, found on `builder_path` first.
    `timeout`: seconds that a workflow run and the site after it may take. Secret: github_token.
    """

    url: str = ""
    repository: str = ""
    api_url: str = "https://api.github.com"
    remote_url: str = ""
    branch: str = "main"
    workflow: str = "pages.yml"
    dispatch_input: str = ""
    directory: str = "frontend"
    build: tuple[tuple[str, ...], ...] = (("npm", "ci"), ("npm", "run", "build"))
    output: str = "dist"
    marker: str = "version.json"
    domain: str = ""
    builder_image: str = ""
    builder_path: str = ""
    build_user: str = "nobody"
    build_timeout: Annotated[int, Range(1, 10**9)] = 600
    timeout: Annotated[int, Range(1, 10**9)] = 900
    rate_limit_patience: Annotated[int, Range(0, 10**9)] = 120
    ca_bundle: str = ""
    fallback: FallbackSettings = field(default_factory=FallbackSettings)


@dataclass(frozen=True)
class RequestSettings:
    """One HTTP request. `{token}` is a word that no other transaction has, `{id}` what the application called it.

    `json`: its body; or `size`: a body of so many bytes, made of the token. `status` 0: any of 200 to 299. `redirects`:
    are followed within the address's host.
    """

    url: str = ""
    method: str = "GET"
    json: Optional[Mapping[str, object]] = None
    size: Annotated[int, Range(0, 10**9)] = 0
    headers: Mapping[str, object] = field(default_factory=dict)
    status: int = 0
    redirects: bool = False


@dataclass(frozen=True)
class TransactionSettings:
    """Something that a user does and must find again. `id`: the field of the write's JSON answer that names it.

    What `read` answers must hold the token; where `write` sent `size` bytes, it must be those bytes. `remove`, where it
    is given, takes it away again when a drill is over.
    """

    name: str = ""
    write: RequestSettings = field(default_factory=RequestSettings)
    read: RequestSettings = field(default_factory=RequestSettings)
    remove: RequestSettings = field(default_factory=RequestSettings)
    id: str = "id"


@dataclass(frozen=True)
class DrillSettings:
    """`transactions` empty: no drill can pass, as nobody knows what the application is for. `rate`: writes a second
    while a drill runs. `rpo_target_seconds`: how much time may be lost; daily backups promise a day.

    Secret: drill_authorization, sent as the header Authorization.
    """

    transactions: tuple[TransactionSettings, ...] = ()
    rate: Annotated[int, Range(1, 100)] = 5
    rpo_target_seconds: Annotated[int, Range(1, 10**9)] = 24 * 3600


@dataclass(frozen=True)
class SourceSettings:
    """Where a keeper pulls from: the stack's host, by SFTP, or a directory that is mounted here.

    `directory`: the repository, as the account sees it there. `identity_file`: the keeper's private key. `known_hosts`:
    a file with the host's pinned key, and nothing else.
    """

    host: str = ""
    port: Annotated[int, Range(1, 65_535)] = 22
    user: str = ""
    directory: str = "/"
    identity_file: str = ""
    known_hosts: str = ""
    mounted: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LimitSettings:
    """The most that a keeper takes of a stack. `names`: in one folder of its repository. `per_day`: new backups and
    points, on average since the last pull. `files`, `depth`: of one backup. `name_bytes`: of one file's name.
    `manifest_bytes`: of one manifest or point. `backup`: bytes of one backup, as text such as 200G; empty: the quota.
    """

    names: Annotated[int, Range(1, 10**6)] = 10_000
    per_day: Annotated[int, Range(1, 10**6)] = 48
    files: Annotated[int, Range(1, 10**7)] = 100_000
    depth: Annotated[int, Range(1, 100)] = 8
    name_bytes: Annotated[int, Range(16, 4096)] = 1024
    manifest_bytes: Annotated[int, Range(1024, 10**9)] = 16 << 20
    backup: str = ""


@dataclass(frozen=True)
class StoreSettings:
    """How a keeper reads the stack's object store, of which objects.bucket names a bucket, and the most that it takes.

    `port`: of the store on the stack's host, at `address` as that host sees it; the keeper reaches it through its SSH
    connection. 0: it is reached at objects.endpoint_url. `absence_days`: how long the keeper may be away and still
    mirror the store as of each night; the store must keep what is replaced so long. `quota`: bytes of all versions that
    the keeper's vault holds of the stack, such as 500G. `versions`: that one bucket lists, delete markers among them.
    `buckets`: that the store has.
    Secrets: objects_access_key, objects_secret_key, which may only read; vault_access_key, vault_secret_key.
    """

    address: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 0
    absence_days: Annotated[int, Range(1, 3_650)] = 7
    quota: str = "100G"
    versions: Annotated[int, Range(1, 10**9)] = 1_000_000
    buckets: Annotated[int, Range(1, 10**5)] = 100


@dataclass(frozen=True)
class KeeperSettings:
    """A keeper of this stack: it pulls the repository of the stack's host into one of its own. `directory` empty: this
    host is no keeper.

    `directory`: all that the keeper has of the stack; its repository is `repository` in it. `quota`: bytes of all that,
    such as 500G. `timeout`: seconds that one pull may take; `stall`: that an answer may take. `bandwidth`: bytes a
    second, such as 10M. `tolerance_hours`: a backup that is dated so long before the last pull, or after now, takes no
    place in the retention; a backup must be published so soon after its instant. `silent_hours`: without a new backup
    for so long it is an alarm.
    """

    directory: str = ""
    source: SourceSettings = field(default_factory=SourceSettings)
    quota: str = "100G"
    timeout: Annotated[int, Range(1, 10**9)] = 6 * 3600
    stall: Annotated[int, Range(1, 10**6)] = 120
    bandwidth: str = ""
    tolerance_hours: Annotated[int, Range(1, 24 * 366)] = 24
    silent_hours: Annotated[int, Range(1, 24 * 36_500)] = 30
    limits: LimitSettings = field(default_factory=LimitSettings)
    store: StoreSettings = field(default_factory=StoreSettings)

    @property
    def repository(self) -> str:
        return f"{self.directory.rstrip('/')}/repository"


@dataclass(frozen=True)
class ReadbackSettings:
    """Where a recovery reads what a keeper has of the stack, while its operator grants that (lifeboat.dr.readback).

    `source`: the keeper's repository of the stack, by SFTP, or mounted here. `timeout`: seconds that one step may take.
    `objects_bucket`: of the keeper's vault; empty: the keeper mirrors no objects. `port`: of that vault, at `address`
    as the keeper sees it; it is reached through the same connection. 0: it is reached at `endpoint_url`.
    Secrets of the vault: vault_access_key, vault_secret_key, which may only read.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    objects_bucket: str = ""
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""
    address: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 0
    timeout: Annotated[int, Range(1, 10**9)] = 24 * 3600

    @property
    def configured(self) -> bool:
        return bool(self.source.host or self.source.mounted)


@dataclass(frozen=True)
class MonitoringSettings:
    """How the stack is watched; off where nothing is set.

    `textfile_directory`: where node_exporter's textfile collector reads. `lifeboat metrics` writes a file of the stack
    there, and each scheduled run does when it ends. `log_format`: of the log file; json: lines with ECS's names.
    Secret: heartbeat_url, the address of a dead-man's switch; `{run}` in it is the name of the run.
    """

    textfile_directory: str = ""
    log_format: Literal["text", "json"] = "text"


def problems(
    mounts: MountSettings,
    frontend: FrontendSettings,
    drill: DrillSettings,
    keeper: KeeperSettings,
    readback: ReadbackSettings,
) -> Iterator[tuple[str, str]]:
    """(the setting's name with a dot before it, what is wrong with its value)."""
    yield from ((f".mounts{name}", cause) for name, cause in _mount_problems(mounts))
    yield from ((f".keeper{name}", cause) for name, cause in _keeper_problems(keeper))
    yield from ((f".readback{name}", cause) for name, cause in _readback_problems(readback))
    yield from ((f".frontend{name}", cause) for name, cause in _frontend_problems(frontend))
    yield from ((f".drill{name}", cause) for name, cause in _drill_problems(drill))


def _mount_problems(mounts: MountSettings) -> Iterator[tuple[str, str]]:
    names = [entry.name for entry in mounts.exclude]
    for number, entry in enumerate(mounts.exclude):
        if not entry.name.strip() or names.count(entry.name) > 1:
            yield f".exclude[{number}].name", f"{entry.name!r}: a name is not empty, and used once"
        if not any(map(str.isalpha, entry.reason)):  # init leaves dots
            yield f".exclude[{number}].reason", "is empty: say why no backup needs to hold it"


def _frontend_problems(frontend: FrontendSettings) -> Iterator[tuple[str, str]]:
    if not frontend.url:
        return
    addresses = (frontend.url, frontend.api_url, frontend.fallback.url or frontend.url)
    if not all(address.startswith(("https://", "http://")) and "@" not in address for address in addresses):
        yield "", "url, api_url and fallback.url are http or https addresses, without a password in them"
    if not _REPOSITORY.fullmatch(frontend.repository):
        yield ".repository", f"{frontend.repository!r} is not owner/name"
    if _SECRET_IN_URL.search(frontend.remote_url):
        yield ".remote_url", "a password does not belong into an address; give github_token in secrets"
    if frontend.remote_url.startswith("-"):
        yield ".remote_url", f"{frontend.remote_url!r} is not an address"
    for name in ("branch", "workflow", "directory", "output", "marker"):
        value = getattr(frontend, name)
        if not value or value.startswith(("-", "/")) or ".." in value.split("/"):
            yield f".{name}", f"{value!r} is not a plain relative name"
    if not frontend.build or not all(frontend.build):
        yield ".build", "wants a list of commands, each a list of words"
    yield from _fallback_problems(frontend.fallback)


def _source_problems(source: SourceSettings, paths: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """paths: others that must be of the same kind."""
    paths = {**paths, "source.directory": source.directory}
    if source.mounted:
        paths["source.mounted"] = source.mounted
    else:
        if not _HOST.fullmatch(source.host):
            yield ".source.host", f"{source.host!r} is not the name or address of a host"
        if not _ACCOUNT.fullmatch(source.user):
            yield ".source.user", f"{source.user!r} is not the name of an account"
        paths.update({"source.identity_file": source.identity_file, "source.known_hosts": source.known_hosts})
    for name, path in paths.items():
        # ssh reads % and blanks in the paths of its options in a way of its own.
        if not path.startswith("/") or ".." in path.split("/") or any(letter in path for letter in '\0\n "%$'):
            yield f".{name}", f"{path!r} is not a plain absolute path"


def _readback_problems(readback: ReadbackSettings) -> Iterator[tuple[str, str]]:
    if not readback.configured:
        return
    yield from _source_problems(readback.source, {})
    if not _HOST.fullmatch(readback.address):
        yield ".address", f"{readback.address!r} is not the name or address of a host"
    if readback.port and readback.source.mounted:
        yield ".port", "source.mounted is no SSH connection to reach the vault by; give endpoint_url"


def _keeper_problems(keeper: KeeperSettings) -> Iterator[tuple[str, str]]:
    source = keeper.source
    if not keeper.directory:
        return
    yield from _source_problems(source, {"directory": keeper.directory})
    if keeper.directory.rstrip("/").count("/") < 2:
        yield ".directory", f"{keeper.directory!r} is not a directory below another one"
    yield from _size_problems(keeper)
    if not _HOST.fullmatch(keeper.store.address):
        yield ".store.address", f"{keeper.store.address!r} is not the name or address of a host"
    if keeper.store.port and source.mounted:
        yield ".store.port", "source.mounted is no SSH connection to reach it by; give objects.endpoint_url"


def _size_problems(keeper: KeeperSettings) -> Iterator[tuple[str, str]]:
    for name, text in (
        ("quota", keeper.quota),
        ("bandwidth", keeper.bandwidth),
        ("limits.backup", keeper.limits.backup),
        ("store.quota", keeper.store.quota),
    ):
        if text and not _BYTES.fullmatch(text):
            yield f".{name}", f"{text!r} is not a number with K, M, G or T, such as 500G"
    for name, text in (("quota", keeper.quota), ("store.quota", keeper.store.quota)):
        if not re.search("[1-9]", text):
            yield f".{name}", "is empty: a host that is not trusted must not fill the keeper's disk"


def _fallback_problems(fallback: FallbackSettings) -> Iterator[tuple[str, str]]:
    if (fallback.directory or fallback.bucket) and not fallback.url:
        yield ".fallback", "url is missing, by which it is seen that the fallback serves"
    if fallback.directory and (not fallback.directory.startswith("/") or fallback.directory.count("/") < 2):
        yield ".fallback.directory", f"{fallback.directory!r} is not an absolute path below a directory"


def _drill_problems(drill: DrillSettings) -> Iterator[tuple[str, str]]:
    names = [transaction.name for transaction in drill.transactions]
    for number, transaction in enumerate(drill.transactions):
        where = f".transactions[{number}]"
        if not transaction.name or names.count(transaction.name) > 1:
            yield f"{where}.name", f"{transaction.name!r}: a name is not empty, and used once"
        parts = {"write": transaction.write, "read": transaction.read, "remove": transaction.remove}
        for which, asked in parts.items():
            if which == "remove" and not asked.url:
                continue
            if not asked.url.startswith(("http://", "https://")) or "@" in asked.url.split("?")[0]:
                yield f"{where}.{which}.url", "wants an http or https address without a password in it"
            if asked.method not in METHODS or (asked.method == "DELETE") > (which == "remove"):
                yield f"{where}.{which}.method", f"{asked.method!r} is not one of {', '.join(METHODS)}"
            if asked.json is not None and asked.size:
                yield f"{where}.{which}", "has a body of json or of size bytes, not both"
        if transaction.write.json is None and not transaction.write.size and "{token}" not in transaction.write.url:
            yield f"{where}.write", "{token} is nowhere in it: nobody could tell afterwards what it wrote"
