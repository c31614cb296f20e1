# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The large parts of the configuration: where backups are, a static frontend, how a stack is rehearsed, what a keeper
is told, who is told that a backup failed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Optional, Union

from ..base import pipeline
from ..base.typed import Range

PRODUCTION = "production"
REHEARSED = "drill"  # the only environment in which anything is ever broken on purpose
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:]{2,45}(%\w+)?")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")  # `docker exec --user` takes numbers and a group too
_BYTES = re.compile(r"\d+(\.\d+)?\s*[BKMGT]", re.IGNORECASE)
_RECEIVER = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{0,63}(@[A-Za-z0-9]([A-Za-z0-9.-]{0,252}))?")
_SOURCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
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
class FileSource:
    """A directory that the application keeps files in: `volume`, as in the Compose files, or `path` on the host.

    `name`: what it is called in backups. `exclude`: what no backup needs to hold, `cache/**` from its root, `*.tmp` by
    name. `consistency`: live, nothing is stopped; pause or stop, the services stand still while it is read, for `limit`
    seconds at most. `services`: which; empty: those that write to it.
    """

    name: str = ""
    volume: str = ""
    path: str = ""
    exclude: tuple[str, ...] = ()
    consistency: Literal["live", "pause", "stop"] = "live"
    services: tuple[str, ...] = ()
    limit: Annotated[int, Range(1, 86_400)] = 600


@dataclass(frozen=True)
class FilesSettings:
    """The files of an application. `sources`: the directories; empty: the stack has none that are backed up.

    `references`: SQL that returns the files that the database knows (column path, below `source`, or with the source's
    name before it; and where known size in bytes, sha256 in hex, at).
    """

    sources: tuple[FileSource, ...] = ()
    references: str = ""


# Where the official images keep their data, by preset.
DATA_OF = {
    "mariadb": "/var/lib/mysql", "mysql": "/var/lib/mysql", "valkey": "/data", "redis": "/data",
    "mongodb": "/data/db",
}  # fmt: skip


@dataclass(frozen=True)
class DumpSource:
    """A database server that its own tools dump. `name`: what it is called in backups. `service`: its Compose service.

    `preset`: what is known of such a server; empty: `take`, `restore`, `facts` and `data` are given by hand. take:
    writes the dump to its output. restore: reads it from its input. facts: prints what must be equal afterwards, a line
    each, `name<TAB>value`. Each is a command in the service's container and its arguments.
    `data`: where the server keeps its data in the container. `start`: what the throw-away server is started with;
    empty: as the image says. `stopped`: restore is run before that server is started. `environment`: of that server.
    `image`: of it where the service is not on this host. `user`, `password`: of a preset, the account, and the variable
    or the file in the container that holds its password. `limit`: seconds that each command may take.
    `consistency`, `services`: as of FileSource; empty services: those that depend on it.
    """

    name: str = ""
    service: str = ""
    preset: Literal["", "mariadb", "mysql", "valkey", "redis", "mongodb"] = ""
    take: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    data: str = ""
    start: tuple[str, ...] = ()
    stopped: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    user: str = ""
    password: str = ""
    consistency: Literal["live", "pause", "stop"] = "live"
    services: tuple[str, ...] = ()
    limit: Annotated[int, Range(1, 86_400)] = 3_600

    @property
    def data_path(self) -> str:
        """Where the server keeps its data, inside its container."""
        return self.data or DATA_OF.get(self.preset, "")


@dataclass(frozen=True)
class DumpsSettings:
    """Database servers besides PostgreSQL. `sources`: each; empty: the stack has none that are backed up."""

    sources: tuple[DumpSource, ...] = ()


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
class WalSettings:
    """Continuous protection of the database by its write-ahead log (WAL). `enabled` false: there is none.

    `interval`: seconds between two sends to the repository. `alarm_seconds`: how old the newest protected instant may
    be before `lifeboat wal status` fails. `window_days`: how far back any instant can be gone to.
    `slot_limit`: how much WAL the server holds back for the receiver while it is away, max_slot_wal_keep_size; empty: a
    quarter of what is free where pg_wal lies, at most 16G, at least 2G. `spool_directory`: where received WAL waits to
    be sent, empty: /var/lib/lifeboat-wal/<stack>; `spool_limit`: how much of it may wait there, such as 4G.
    `bandwidth`: bytes a second to the vault, such as 20M; empty: no limit.
    """

    enabled: bool = False
    interval: Annotated[int, Range(5, 3600)] = 30
    alarm_seconds: Annotated[int, Range(10, 86_400)] = 120
    window_days: Annotated[int, Range(1, 366)] = 7
    slot_limit: str = ""
    spool_directory: str = ""
    spool_limit: str = "4G"
    bandwidth: str = ""


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
class Hook:
    """Commands that are run before and after a backup, a recovery or a drill, each a list of words; there is no shell.

    Where `before` fails there is no backup, recovery or drill. `after` is run in any case, also where `before` failed
    and where the run was killed, so it must do no harm twice. `service`: a Compose service in whose container they are
    run; empty: on the host. `user`: as whom; empty: root on the host, the container's user in a service. `timeout`:
    seconds that each of them may take. `components`: run around each of these; empty: around all that is done.
    """

    name: str = ""
    when: Literal["backup", "recovery", "drill"] = "backup"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    service: str = ""
    user: str = ""
    timeout: Annotated[int, Range(1, 24 * 3600)] = 60
    components: tuple[str, ...] = ()


@dataclass(frozen=True)
class MonitoringSettings:
    """How the stack is watched; off where nothing is set.

    `textfile_directory`: where node_exporter's textfile collector reads. `lifeboat metrics` writes a file of the stack
    there, and each scheduled run does when it ends. `log_format`: of the log file; json: lines with ECS's names.
    Secret: heartbeat_url, the address of a dead-man's switch; `{run}` in it is the name of the run.
    """

    textfile_directory: str = ""
    log_format: Literal["text", "json"] = "text"


@dataclass(frozen=True)
class MailReceiver:
    """Mail through an SMTP server, or where `host` is empty through this host's own sendmail.

    `port` 0: 587 for starttls, 465 for tls, 25 for none. Secret: notify_<name>, the password of `user`.
    """

    type: Literal["mail"] = "mail"
    name: str = "mail"
    recipients: tuple[str, ...] = ()
    sender: str = ""
    host: str = ""
    port: Annotated[int, Range(0, 65_535)] = 0
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    ca_bundle: str = ""
    sendmail: str = "/usr/sbin/sendmail"
    weekly: bool = True


@dataclass(frozen=True)
class WebhookReceiver:
    """JSON by POST. Secrets: notify_<name>, the address; notify_<name>_token, a bearer's, where it wants one."""

    type: Literal["webhook"] = "webhook"
    name: str = "webhook"
    ca_bundle: str = ""
    weekly: bool = True


@dataclass(frozen=True)
class SlackReceiver:
    """A channel of Slack, by an incoming webhook. Secret: notify_<name>, its address."""

    type: Literal["slack"] = "slack"
    name: str = "slack"
    ca_bundle: str = ""
    weekly: bool = True


@dataclass(frozen=True)
class NtfyReceiver:
    """A topic of ntfy.sh, or of a server of one's own. Secrets: notify_<name>, the topic's address; notify_<name>_token
    where the topic is protected."""

    type: Literal["ntfy"] = "ntfy"
    name: str = "ntfy"
    ca_bundle: str = ""
    weekly: bool = True


@dataclass(frozen=True)
class PagerDutyReceiver:
    """A service of PagerDuty, by Events API v2: each failure is an incident, which its end resolves. Nobody is paged to
    hear that all is well. Secret: notify_<name>, the integration's key."""

    type: Literal["pagerduty"] = "pagerduty"
    name: str = "pagerduty"
    url: str = "https://events.pagerduty.com/v2/enqueue"
    ca_bundle: str = ""

    @property
    def weekly(self) -> bool:
        return False


AnyReceiver = Union[MailReceiver, WebhookReceiver, SlackReceiver, NtfyReceiver, PagerDutyReceiver]


def problems(
    mounts: MountSettings,
    files: FilesSettings,
    dumps: DumpsSettings,
    frontend: FrontendSettings,
    drill: DrillSettings,
    keeper: KeeperSettings,
    readback: ReadbackSettings,
    notify: Sequence[AnyReceiver],
) -> Iterator[tuple[str, str]]:
    """(the setting's name with a dot before it, what is wrong with its value)."""
    yield from ((f".mounts{name}", cause) for name, cause in _mount_problems(mounts))
    yield from ((f".files{name}", cause) for name, cause in _file_problems(files))
    yield from ((f".dumps{name}", cause) for name, cause in _dump_problems(dumps))
    yield from ((f".keeper{name}", cause) for name, cause in _keeper_problems(keeper))
    yield from ((f".readback{name}", cause) for name, cause in _readback_problems(readback))
    yield from ((f".frontend{name}", cause) for name, cause in _frontend_problems(frontend))
    yield from ((f".drill{name}", cause) for name, cause in _drill_problems(drill))
    yield from _receiver_problems(notify)


def wal_problems(wal: WalSettings, database: bool) -> Iterator[tuple[str, str]]:
    """Yield the setting's name and what is wrong with it. database: whether the stack has one."""
    if wal.enabled and not database:
        yield ".wal.enabled", "lifeboat_database is false: there is no server to receive from"
    directory = wal.spool_directory
    if directory and (os.path.normpath(directory) != directory or directory.count("/") < 2 or directory[0] != "/"):
        yield ".wal.spool_directory", f"{directory!r} is not a plain absolute path below a directory"
    if directory and any(letter in directory for letter in ',"\n\0'):
        yield ".wal.spool_directory", f"{directory!r} has a character that no mount of Docker takes"
    sizes = (("slot_limit", wal.slot_limit), ("spool_limit", wal.spool_limit or "-"), ("bandwidth", wal.bandwidth))
    for name, text in sizes:
        if text and not _BYTES.fullmatch(text):
            yield f".wal.{name}", f"{text!r} is not a number with K, M, G or T, such as 4G"


def _mount_problems(mounts: MountSettings) -> Iterator[tuple[str, str]]:
    names = [entry.name for entry in mounts.exclude]
    for number, entry in enumerate(mounts.exclude):
        if not entry.name.strip() or names.count(entry.name) > 1:
            yield f".exclude[{number}].name", f"{entry.name!r}: a name is not empty, and used once"
        if not any(map(str.isalpha, entry.reason)):  # init leaves dots
            yield f".exclude[{number}].reason", "is empty: say why no backup needs to hold it"


def hook_problems(hooks: Sequence[Hook], runtime: str, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the setting's name and what is wrong with it. runtime: how the services are reached."""
    names = [(hook.when, hook.name) for hook in hooks]
    for number, hook in enumerate(hooks):
        where = f".hooks[{number}]"
        if not _HOOK.fullmatch(hook.name) or names.count((hook.when, hook.name)) > 1:
            yield f"{where}.name", f"{hook.name!r}: a name is plain, and used once for each `when`"
        if not hook.before and not hook.after:
            yield where, "has neither before nor after"
        if any(argv and not argv[0].strip() for argv in (hook.before, hook.after)):
            yield where, "before and after are a command and its arguments, a word each"
        if any(pipeline.scrub(text, secrets) != text for text in map(" ".join, (hook.before, hook.after))):  # not shown
            cause = "a secret does not belong into the words of a command, which every user of the machine can read"
            yield where, f"{cause}; let the command read it from a file"
        if hook.service.startswith("-") or (hook.service and runtime != "compose"):
            yield f"{where}.service", f"{hook.service!r} is not a Compose service; empty: the command runs on the host"
        if hook.user and not _USER.fullmatch(hook.user):
            yield f"{where}.user", f"{hook.user!r} is not a user"


def _file_problems(files: FilesSettings) -> Iterator[tuple[str, str]]:
    if files.references and not files.sources:
        yield ".references", "there is no source in which the files of its rows could be"
    names = [source.name for source in files.sources]
    places = [source.volume or source.path for source in files.sources]
    for number, source in enumerate(files.sources):
        where = f".sources[{number}]"
        if not _SOURCE.fullmatch(source.name) or names.count(source.name) > 1:
            yield f"{where}.name", f"{source.name!r}: a name is plain (a-z, 0-9, - and _), and used once"
        if bool(source.volume) == bool(source.path):
            yield where, "wants either volume or path"
        elif places.count(source.volume or source.path) > 1:
            yield where, f"{source.volume or source.path!r} is named twice"
        if source.path and (
            not source.path.startswith("/") or os.path.normpath(source.path) != source.path or source.path == "/"
        ):
            yield f"{where}.path", f"{source.path!r} is not a plain absolute path below /"
        for pattern in source.exclude:
            if not pattern.strip("/") or ".." in pattern.split("/"):
                yield f"{where}.exclude", f"{pattern!r} is no pattern of what lies below it"
        if source.services and source.consistency == "live":
            yield f"{where}.services", "with consistency live none of them stands still; set pause or stop"


def _dump_problems(dumps: DumpsSettings) -> Iterator[tuple[str, str]]:
    names = [source.name for source in dumps.sources]
    services = [source.service for source in dumps.sources]
    for number, source in enumerate(dumps.sources):
        where = f".sources[{number}]"
        if not _SOURCE.fullmatch(source.name) or names.count(source.name) > 1:
            yield f"{where}.name", f"{source.name!r}: a name is plain (a-z, 0-9, - and _), and used once"
        if not source.service.strip() or source.service.startswith("-") or services.count(source.service) > 1:
            yield f"{where}.service", f"{source.service!r} is not a Compose service that is named once"
        yield from ((f"{where}{name}", cause) for name, cause in _command_problems(source))
        if source.services and source.consistency == "live":
            yield f"{where}.services", "with consistency live none of them stands still; set pause or stop"
        if source.service in source.services:
            yield f"{where}.services", f"names {source.service}, which has to answer while it is dumped"


def _command_problems(source: DumpSource) -> Iterator[tuple[str, str]]:
    commands = {name: getattr(source, name) for name in ("take", "restore", "facts", "start")}
    for name, argv in commands.items():
        if argv and not argv[0].strip():
            yield f".{name}", "is a command and its arguments, a word each"
    lacking = [name for name in ("take", "restore", "facts", "data") if not getattr(source, name)]
    if not source.preset and lacking:
        yield "", f"has no preset, so that it needs {', '.join(lacking)} too"
    if not source.preset and (source.user or source.password):
        yield "", "user and password are a preset's; a command by hand has the container's environment"
    if source.data and (not source.data.startswith("/") or os.path.normpath(source.data) != source.data):
        yield ".data", f"{source.data!r} is not a plain absolute path in the container"
    if source.password.startswith("-") or "=" in source.password:  # not shown: it may be the password
        yield ".password", "is the name of a variable, or the path of a file, in the container"
    if any("=" in name or not name.strip() for name in source.environment):
        yield ".environment", "has a name that no variable can have"


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


def _receiver_problems(receivers: Sequence[AnyReceiver]) -> Iterator[tuple[str, str]]:
    """Yield which setting is wrong, and why."""
    names = [receiver.name for receiver in receivers]
    for number, receiver in enumerate(receivers):
        if not _RECEIVER.fullmatch(receiver.name) or names.count(receiver.name) > 1:
            cause = "a name has small letters, digits and _, and is used once: its secret is notify_<name>"
            yield f".notify[{number}].name", f"{receiver.name!r}: {cause}"
        if receiver.ca_bundle and not receiver.ca_bundle.startswith("/"):
            yield f".notify[{number}].ca_bundle", f"{receiver.ca_bundle!r} is not an absolute path"
        if isinstance(receiver, MailReceiver):
            yield from ((f".notify[{number}]{name}", cause) for name, cause in _mail_problems(receiver))
        elif isinstance(receiver, PagerDutyReceiver) and not receiver.url.startswith(("http://", "https://")):
            yield f".notify[{number}].url", f"{receiver.url!r} is not a web address"


def _mail_problems(receiver: MailReceiver) -> Iterator[tuple[str, str]]:
    if not receiver.recipients:
        yield ".recipients", "is empty: nobody would get the mail"
    for address in receiver.recipients:
        if not _MAIL.fullmatch(address):
            yield ".recipients", f"{address!r} is not a plain mail address"
    if (receiver.host or receiver.sender) and "@" not in receiver.sender:
        yield ".sender", f"{receiver.sender!r} is not a mail address, which an SMTP server wants"
    if receiver.sender and not _MAIL.fullmatch(receiver.sender):
        yield ".sender", f"{receiver.sender!r} is not a plain mail address"
    if receiver.host and not _HOST.fullmatch(receiver.host):
        yield ".host", f"{receiver.host!r} is not the name or address of a host"
    if receiver.user and (receiver.security == "none" or not receiver.host):
        yield ".user", "a password is sent over TLS only: give host, and security starttls or tls"
    if not receiver.sendmail.startswith("/"):
        yield ".sendmail", f"{receiver.sendmail!r} is not an absolute path"
