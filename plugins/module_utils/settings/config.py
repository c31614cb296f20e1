# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of one stack: what cron, the modules and the playbooks all read.

On a host it is two files: `/etc/lifeboat/<stack>.json` (no secret in it, so that a diff may be shown) and
`/etc/lifeboat/<stack>.secrets.json`. A module may pass the same two mappings inline.
"""

from __future__ import annotations

import base64
import dataclasses
import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Optional, Union
from urllib.parse import urlsplit

from ..base import filesystem, pipeline, typed
from ..base.errors import NotFoundError, UsageError
from ..base.typed import Range
from .parts import (
    PRODUCTION,
    AnyReceiver,
    DrillSettings,
    DumpsSettings,
    FilesSettings,
    FrontendSettings,
    Hook,
    KeeperSettings,
    LocalSettings,
    MonitoringSettings,
    MountSettings,
    ReadbackSettings,
    RetentionSettings,
    S3Settings,
    WalSettings,
    hook_problems,
    problems,
    wal_problems,
)
from .scenarios import SCENARIOS, Scenario

DIRECTORY = Path("/etc/lifeboat")
KEEPER_DIRECTORY = Path("/etc/lifeboat-keeper")  # of the stacks that this host keeps; read by other users than root
STATE_DIRECTORY = Path("/var/lib/lifeboat")
WAL_NOTE = "wal.json"  # in the state directory, as long as WAL is received
SPOOL_DIRECTORY = Path("/var/lib/lifeboat-wal")  # not below the state directory, which root alone may enter
ELSEWHERE = "elsewhere"  # kept by other means
METHODS = ("logical",)  # by which the component takes its backups
FINGERPRINTS = ("content", "rows")
LEVELS = ("checksum", "archive", "restore")
# The documents that are signed, each in a namespace of its own (repository/sealing.py).
MANIFESTS, RECOVERY_POINTS, VERIFICATIONS, ADOPTIONS = "manifest", "recovery-point", "verification", "adoption"
DRILLS = "drill"
NOTES = "note"  # what is in a span of WAL while it is open
OF_HOST = (MANIFESTS, RECOVERY_POINTS, VERIFICATIONS, DRILLS, NOTES)  # what a host signs
ESCROWS = "escrow"  # what another machine than the host signs: `signers` says so of its key
DOCUMENTS = (*OF_HOST, ADOPTIONS, ESCROWS)
HEARTBEAT = "heartbeat_url"  # the secret address of a dead-man's switch
# Bounds that no clock, thread or process could take more of.
Seconds = Annotated[int, Range(1, 10**9)]
Days = Annotated[int, Range(0, 36_500)]
Hours = Annotated[int, Range(0, 24 * 36_500)]
Port = Annotated[int, Range(1, 65_535)]
_STACK = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_RECIPIENT = re.compile(r"age1[0-9a-z]{6,}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_URL = re.compile(r"https?://[^\s/@]+/\S*|ssh://([^\s/:@]+@)?[^\s/@]+/\S*|[\w.-]+@[\w.-]+:[^\s-]\S*")
_SIGNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,62}")
_KEY = re.compile(r"(?:ssh-|ecdsa-sha2-|sk-)[a-z0-9@.-]{2,40} [A-Za-z0-9+/]{40,2000}={0,2}")
_COMPRESSION = re.compile(r"(none|(gzip|lz4|zstd)(:\d{1,2})?)")


@dataclass(frozen=True)
class RuntimeSettings:
    """How the stack's services are reached. compose: a project; host: systemd units on the machine itself."""

    type: Literal["compose", "host"] = "compose"
    project_directory: str = ""
    project: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatabaseSettings:
    """A database server. `service` is a Compose service, or a systemd unit where the runtime is `host`.

    `enabled` false: the stack has no PostgreSQL, `service` is empty, and nothing else is set. In JSON it is
    `database: false`.
    `name`: the application's database. `exclude`: databases of the server that no backup holds.
    `user` empty: the server image's POSTGRES_USER, else `postgres`. `host` empty: the local socket.
    `os_user` empty: the container's own user (compose) or `postgres` (host).
    `data_directory` empty: the image's PGDATA (compose), or Debian's place for the unit's cluster (host).
    `backup_user`: who takes backups, where that is not `user`; without superuser's rights it cannot read the roles'
    passwords nor, before PostgreSQL 18, other roles' large objects.
    `trust_owners`: restore all rows as the superuser, who then runs the functions of the tables' checks.
    """

    enabled: bool = True
    service: str = "db"
    name: str = ""
    user: str = ""
    host: str = ""
    port: Port = 5432
    os_user: str = ""
    backup_user: str = ""
    data_directory: str = ""
    method: str = "logical"
    format: Literal["directory", "custom", "plain"] = "directory"
    compression: str = "zstd:1"
    jobs: Annotated[int, Range(1, 1000)] = 2
    fingerprint: Literal["content", "rows"] = "content"
    verify_image: str = ""
    exclude: tuple[str, ...] = ()
    trust_owners: bool = False


@dataclass(frozen=True)
class AdminSettings:
    """How the store's identities are kept: users, groups, policies, access keys. `api` empty: nobody keeps them.

    `api`: minio (its admin API), seaweedfs (`identities_file`, which its option -s3.config names, on this host) or
    elsewhere (they are kept by other means). `endpoint_url` empty: the store's own. Secrets of minio:
    objects_admin_access_key, objects_admin_secret_key.
    """

    api: Literal["", "minio", "seaweedfs", "elsewhere"] = ""
    endpoint_url: str = ""
    identities_file: str = ""


@dataclass(frozen=True)
class ObjectsSettings:
    """The bucket of the stack's own object store. `bucket` empty: the stack has none.

    `service`: the Compose service or systemd unit that serves it; empty where it is not ours to start and stop.
    `endpoint_url` empty: the service's own address and `port`. `data_directory`: where it keeps its data, inside the
    container. `change_limit`: percent of the bucket that one mirror may remove or overwrite unasked.
    `bucket`: the application's. `buckets`: others of that store which backups hold too, by name or pattern (`*`: all);
    `exclude`: those of them, and of the rest, which no backup needs to hold, and objects likewise: `bucket/key`,
    `bucket/prefix*`.
    `tags_days`: the tags of every object are read again within so many days, a share each night: they can be changed
    without the object; 0: never.
    `changes_seconds`: how often the store is looked at for changes between two backups, so that its objects of any
    instant can be had; 0: never. A look that takes long is taken more seldom.
    `bandwidth`: bytes a second at most, such as 10M. `keys_query`: SQL that returns the object keys that the database
    knows (columns key, and where known size in bytes, sha256 in hex, bucket).
    Secrets: objects_access_key, objects_secret_key.
    """

    service: str = ""
    endpoint_url: str = ""
    port: Port = 9000
    region: str = ""
    ca_bundle: str = ""
    bucket: str = ""
    buckets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    data_directory: str = ""
    engine: Literal["lifeboat", "mc"] = "lifeboat"
    transfers: Annotated[int, Range(1, 10_000)] = 32
    bandwidth: str = ""
    change_limit: Annotated[int, Range(0, 100)] = 30
    tags_days: Annotated[int, Range(0, 366)] = 7
    changes_seconds: Annotated[int, Range(0, 86_400)] = 0
    keys_query: str = ""
    admin: AdminSettings = field(default_factory=AdminSettings)


@dataclass(frozen=True)
class VaultSettings:
    """The S3 endpoint that does not burn with the host. `objects_bucket` empty: there is no vault.

    `mode`: push, this host sends copies of the repository to `repository_bucket`; pull, a keeper fetches them, and this
    host has no key to where they are.
    `objects_bucket`: the mirror of the stack's bucket, versioned. `repository_bucket`: copies of the repository, under
    `prefix` (empty: the stack's name); empty: none are kept. `noncurrent_days`: how long replaced and removed objects
    can be gone back to. `read_days`: within so many every object is read back by the scheduled verifications.
    `object_lock`: GOVERNANCE or COMPLIANCE for `lock_days`, chosen when the bucket is made.
    Secrets: vault_access_key, vault_secret_key.
    """

    mode: Literal["push", "pull"] = "push"
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""
    objects_bucket: str = ""
    repository_bucket: str = ""
    prefix: str = ""
    noncurrent_days: Annotated[int, Range(1, 36_500)] = 30
    read_days: Annotated[int, Range(1, 3_650)] = 91
    object_lock: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    lock_days: Days = 0


@dataclass(frozen=True)
class GitRepository:
    """A git repository to keep a mirror of: `url` (https, ssh), or `path` where it lies on this host.

    A private https one is read as `user` with the secret git_token_<name>.
    """

    name: str = ""
    url: str = ""
    path: str = ""
    user: str = "x-access-token"


@dataclass(frozen=True)
class ConfigSettings:
    """What rebuilds the stack where nothing is left but the vault. `recipients`: all of it is encrypted for them;
    empty: secrets are left out.

    `secrets`: elsewhere says that they are kept by other means, so that it is right to leave them out.

    `recipients`: age recipients or ssh public keys; their secret keys never come to this host. `files`: files and
    directories besides those that Lifeboat finds; `secret_files`: those that are only kept encrypted; `plain_files`:
    those that hold no secret, whatever they look like. `images`: digests, or archive to keep the images themselves.
    `site_directory`: the built frontend; `site_commit` or the first word of `site_commit_file`: what it was built of.
    `limit_mb`: more than that in one archive is a mistake.
    Secrets: git_token_<name of a repository>.
    """

    enabled: bool = True
    recipients: tuple[str, ...] = ()
    secrets: Literal["sealed", "elsewhere"] = "sealed"
    files: tuple[str, ...] = ()
    secret_files: tuple[str, ...] = ()
    plain_files: tuple[str, ...] = ()
    images: Literal["digests", "archive"] = "digests"
    repositories: tuple[GitRepository, ...] = ()
    site_directory: str = ""
    site_commit: str = ""
    site_commit_file: str = ""
    limit_mb: Annotated[int, Range(1, 10**9)] = 1024


@dataclass(frozen=True)
class EncryptionSettings:
    """For whom backups are encrypted, of every component. `recipients` empty: for nobody, but for the configuration
    where config.recipients are given. Else these are config.recipients, too.

    `host_key_days`: how old the host's own key may be, with which it opens recent backups to verify them; 0: it has
    none. `directory`: where the host decrypts to for a verification or a recovery; empty: the state directory.
    """

    recipients: tuple[str, ...] = ()
    host_key_days: Annotated[int, Range(0, 7)] = 7
    directory: str = ""


@dataclass(frozen=True)
class EndpointCheck:
    """One request that proves the application works: expected status, and JSON fields that must equal. `redirects`: are
    followed within the address's host."""

    url: str = ""
    method: str = "GET"
    status: int = 200
    json: Mapping[str, object] = field(default_factory=dict)
    body: Optional[Mapping[str, object]] = None
    redirects: bool = False


@dataclass(frozen=True)
class ApplicationSettings:
    """Who writes to the stores, and how to see that the application serves again.

    `writers` empty: every service of the project that depends on the database; of a stack without one, every service
    but the object store's. `services`: what scenario 3 recovers;
    empty: every service of the project but the database's and the object store's.
    `timeout`: seconds that services and endpoints have to become well.
    """

    writers: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    checks: tuple[EndpointCheck, ...] = ()
    timeout: Seconds = 180


@dataclass(frozen=True)
class AlarmSettings:
    """When `status` turns red: hours since the last good backup, days since the last restore-level proof, days
    since the escrowed key last opened a backup. `drill_age_days`: when the report calls a drill overdue, a quarter."""

    backup_age_hours: Hours = 26
    proof_age_days: Days = 8
    escrow_age_days: Days = 100
    drill_age_days: Days = 92


@dataclass(frozen=True)
class EvidenceSettings:
    """How records are signed, and what they are extrapolated to.

    `signing_key`: a private key on the host, for `ssh-keygen -Y sign`; empty: records are not signed.
    `production_database_bytes`, `production_objects_bytes`: the sizes for which a time is estimated; 0: none is.
    """

    signing_key: str = ""
    production_database_bytes: int = 0
    production_objects_bytes: int = 0


@dataclass(frozen=True)
class Signer:
    """Who may sign. `key`: the public key, `ssh-ed25519 AAAA…`. `documents`: of DOCUMENTS; empty: what a host signs.
    `expires`: from then on nothing of this key is believed, older documents neither: a signature has no time."""

    name: str = ""
    key: str = ""
    documents: tuple[str, ...] = ()
    expires: Optional[datetime] = None

    @property
    def signs(self) -> tuple[str, ...]:
        return self.documents or OF_HOST


@dataclass(frozen=True)
class Adopted:
    """Older documents that somebody vouches for. `documents`: the list, as `lifeboat adopt` printed it. `signature`:
    what `ssh-keygen -Y sign` made of it."""

    documents: str = ""
    signature: str = ""


@dataclass(frozen=True)
class Config:
    """Everything Lifeboat knows of one stack. `secrets` never leaves this object by repr, log or JSON."""

    stack: str
    timezone: str = "UTC"
    timeout: Seconds = 4 * 3600
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    wal: WalSettings = field(default_factory=WalSettings)
    repository: Union[LocalSettings, S3Settings] = field(default_factory=lambda: LocalSettings(path="/backup"))
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    objects: ObjectsSettings = field(default_factory=ObjectsSettings)
    vault: VaultSettings = field(default_factory=VaultSettings)
    config: ConfigSettings = field(default_factory=ConfigSettings)
    mounts: MountSettings = field(default_factory=MountSettings)
    hooks: tuple[Hook, ...] = ()
    files: FilesSettings = field(default_factory=FilesSettings)
    dumps: DumpsSettings = field(default_factory=DumpsSettings)
    encryption: EncryptionSettings = field(default_factory=EncryptionSettings)
    application: ApplicationSettings = field(default_factory=ApplicationSettings)
    frontend: FrontendSettings = field(default_factory=FrontendSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    targets: Mapping[str, Seconds] = field(default_factory=dict)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    signing_key: str = ""
    signers: tuple[Signer, ...] = ()
    adopted: tuple[Adopted, ...] = ()
    environment: str = PRODUCTION
    drill: DrillSettings = field(default_factory=DrillSettings)
    keeper: KeeperSettings = field(default_factory=KeeperSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    notify: tuple[AnyReceiver, ...] = ()
    readback: ReadbackSettings = field(default_factory=ReadbackSettings)
    state_directory: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    pin: str = ""  # the seal of the recovery point that an operator names; of one run, and in no file

    @property
    def backup_directory(self) -> str:
        """Empty where backups are in a bucket."""
        return self.repository.path if isinstance(self.repository, LocalSettings) else ""

    @property
    def state(self) -> Path:
        """Where this host keeps what it remembers of the stack: recoveries, evidence."""
        return Path(self.state_directory) if self.state_directory else STATE_DIRECTORY / self.stack

    @property
    def spool(self) -> Path:
        """Return where received WAL waits to be sent."""
        return Path(self.wal.spool_directory) if self.wal.spool_directory else SPOOL_DIRECTORY / self.stack

    def textfile(self, whose: str = "lifeboat") -> Path:
        """One file a stack for node_exporter: two stacks of one name are two hosts' matter."""
        return Path(self.monitoring.textfile_directory) / f"{whose}_{self.stack}.prom"

    @property
    def scratch(self) -> Path:
        """Where what is decrypted, or a copy of a database, may lie for as long as it is looked at."""
        return Path(self.encryption.directory or self.state)

    @property
    def monitored(self) -> bool:
        """Return whether anybody hears how a scheduled run ended."""
        return bool(self.monitoring.textfile_directory or self.heard or self.notify)

    @property
    def heard(self) -> bool:
        """Return whether there is a dead-man's switch."""
        return bool(self.secrets.get(HEARTBEAT, "").strip())

    @property
    def identities(self) -> Path:
        """Return the copy of the object store's identities that this host keeps: a secret."""
        return self.state / "identities.zip"

    @property
    def mirrored_elsewhere(self) -> bool:
        """Does a keeper mirror the stack's buckets, so that this host does not?"""
        return self.vault.mode == "pull" and not self.vault.objects_bucket

    @property
    def stores(self) -> list[str]:
        """Return the services that hold the application's data: the database's and the object store's."""
        return [service for service in (self.database.service, self.objects.service) if service]

    @property
    def scenarios(self) -> list[Scenario]:
        """Return what can be lost of this stack, and so must be drilled."""
        return [scenario for scenario in SCENARIOS.values() if operator.attrgetter(scenario.setting)(self)]

    def target(self, scenario: str) -> int:
        """Seconds that a recovery may take. A slower one has the verdict FAIL."""
        return self.targets.get(scenario, SCENARIOS[scenario].target)


def _wrong(where: str, cause: str) -> UsageError:
    return UsageError("read the configuration", where, cause, "Correct the inventory and run lifeboat.dr.deploy again.")


def from_mapping(data: object, secrets: object = None, where: str = "settings") -> Config:
    """Build and check a Config. Raises UsageError naming the setting, what it wants and what it has."""
    if isinstance(data, Mapping) and "secrets" in data:
        raise _wrong(where, "secrets do not belong here")
    if isinstance(data, Mapping) and data.get("pin"):
        raise _wrong(where, "does not know pin; a seal is given to one run: -e seal=<seal>")
    typed.refuse_deep(data, lambda _field, cause: _wrong(where, cause))
    _refuse_unusable(data, where)
    built = typed.build(Config, _with_database(data), _wrong, where)
    config = dataclasses.replace(built, secrets=_secrets(secrets or {}, where))
    if not _STACK.fullmatch(config.stack):
        raise _wrong(f"{where}.stack", f"{config.stack!r} is not a plain lower-case name")
    strange = sorted(set(config.targets) - set(SCENARIOS))
    if strange:
        known = ", ".join(sorted(SCENARIOS))
        raise _wrong(f"{where}.targets", f"does not know {', '.join(strange)}; it knows {known}")
    config = dataclasses.replace(config, database=_checked_database(config.database, f"{where}.database"))
    _check_objects(config, where)
    _check_vault(config, where)
    _check_components(config, where)
    config = dataclasses.replace(config, config=_with_recipients(config, where))
    _check_config(config.config, f"{where}.config")
    _check_signers(config, where)
    for name, cause in problems(
        config.mounts, config.files, config.dumps, config.frontend, config.drill, config.keeper, config.readback,
        config.notify,
    ):  # fmt: skip
        raise _wrong(f"{where}{name}", cause)
    for name, cause in wal_problems(config.wal, config.database.enabled):
        raise _wrong(f"{where}{name}", cause)
    for name, cause in hook_problems(config.hooks, config.runtime.type, config.secrets):
        raise _wrong(f"{where}{name}", cause)
    _check_addresses(config.application.checks, f"{where}.application")
    _check_monitoring(config.monitoring, f"{where}.monitoring")
    if config.keeper.directory:  # the stack runs elsewhere, and the repository is the keeper's own
        state = config.state_directory or f"{config.keeper.directory.rstrip('/')}/state"
        local = LocalSettings(path=config.keeper.repository)
        return dataclasses.replace(config, repository=local, state_directory=state)
    if config.runtime.type == "compose" and not config.runtime.project_directory and not config.runtime.project:
        raise _wrong(f"{where}.runtime", "neither project_directory nor project is given")
    return config


def _refuse_unusable(data: object, where: str) -> None:
    """NUL and halves of characters: no path, word of a command, header or variable can have one, and each use of it
    would fail in its own way."""
    if isinstance(data, str):
        if "\0" in data:
            raise _wrong(where, "has a NUL byte")
        try:
            data.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _wrong(where, "has half a character, which no name can have") from None
    pairs = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, (list, tuple)) else ()
    for name, inner in pairs:
        _refuse_unusable(name, where)
        place = f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}"
        _refuse_unusable(inner, place)
        if isinstance(inner, str) and isinstance(name, str) and name.endswith("url") and not _has_a_place(inner):
            raise _wrong(place, "is not an address: its host or its port cannot be read")


def _has_a_place(url: str) -> bool:
    """False for `http://[::1` and `http://a:99999`, of which urllib raises a ValueError wherever they are used."""
    try:
        parts = urlsplit(url)
        return parts.scheme not in ("http", "https") or parts.port is None or parts.port > 0
    except ValueError:
        return False


def _secrets(value: object, where: str) -> dict[str, str]:
    if isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair):
        return dict(value)
    raise _wrong(f"{where}, secrets", "wants a mapping of text to text")  # and what it has is not for showing


def _with_database(data: object) -> object:
    """Return the same with `database: false`, which an inventory says, as the settings of no database."""
    if isinstance(data, Mapping) and isinstance(data.get("database"), bool):
        return {**data, "database": {} if data["database"] else {"enabled": False}}
    return data


def _checked_database(database: DatabaseSettings, where: str) -> DatabaseSettings:
    if not database.enabled:
        if database != DatabaseSettings(enabled=False):
            raise _wrong(where, "a stack without a database has no settings of one: write `lifeboat_database: false`")
        return dataclasses.replace(database, service="")
    if database.method not in METHODS:
        raise _wrong(f"{where}.method", f"{database.method!r} is not one of {', '.join(METHODS)}")
    if not _COMPRESSION.fullmatch(database.compression):
        raise _wrong(f"{where}.compression", f"{database.compression!r} is not none or method:level")
    for name in database.exclude:
        if not name or "\0" in name or name == database.name:
            cause = "it is database.name" if name else "that is no database"
            raise _wrong(f"{where}.exclude", f"{name!r}: {cause}")
    return database


def _check_objects(config: Config, where: str) -> None:
    objects, vault = config.objects, config.vault
    _check_place(config, where)
    file = objects.admin.identities_file
    if bool(file) is not (objects.admin.api == "seaweedfs") or (file and not file.startswith("/")) or "\0" in file:
        raise _wrong(
            f"{where}.objects.admin", "api seaweedfs wants identities_file, an absolute path, and no other does"
        )
    for name in objects.exclude:
        of, slash, key = name.partition("/")
        if not of or name == objects.bucket or (slash and not key):
            cause = "it is objects.bucket" if of and name == objects.bucket else "that is no bucket, nor a key in one"
            raise _wrong(f"{where}.objects.exclude", f"{name!r}: {cause}")
    for name in objects.buckets:
        if not name or "/" in name or not objects.bucket:
            cause = "that is no bucket" if objects.bucket else "name the application's own bucket in objects.bucket"
            raise _wrong(f"{where}.objects.buckets", f"{name!r}: {cause}")
    if objects.bucket and not vault.objects_bucket and not config.mirrored_elsewhere:
        raise _wrong(f"{where}.vault", "there is a bucket to protect and no objects_bucket to mirror it to")
    if vault.objects_bucket and vault.objects_bucket == vault.repository_bucket:
        raise _wrong(f"{where}.vault", "objects_bucket and repository_bucket must be two buckets")
    if bool(vault.object_lock) != (vault.lock_days > 0):
        raise _wrong(f"{where}.vault", "object_lock and lock_days go together")


def _check_components(config: Config, where: str) -> None:
    """What a stack without a database is made of; one with a bucket alone has no backup that a keeper could pull."""
    queries = {"objects.keys_query": config.objects.keys_query, "files.references": config.files.references}
    for name, query in queries.items():
        if query and not config.database.enabled:
            raise _wrong(f"{where}.{name}", "lifeboat_database is false: no database could be asked")
    if config.database.enabled or config.files.sources or config.config.enabled:
        return
    if not config.objects.bucket or config.vault.mode == "pull" or config.keeper.directory:
        cause = "lifeboat_database is false, lifeboat_files has no source and lifeboat_config is not enabled"
        raise _wrong(f"{where}.database", f"{cause}: nothing would be backed up")


def _check_place(config: Config, where: str) -> None:
    objects, port = config.objects, config.keeper.store.port if config.keeper.directory else 0
    if objects.bucket and port and objects.endpoint_url:
        raise _wrong(f"{where}.keeper.store.port", "the keeper reaches the store by it or by objects.endpoint_url")
    if objects.bucket and not (objects.endpoint_url or objects.service or port):
        raise _wrong(f"{where}.objects", "neither endpoint_url nor service says where the bucket is")


def _check_vault(config: Config, where: str) -> None:
    if config.vault.mode != "pull":
        return
    if config.vault.repository_bucket:
        cause = "with mode pull a keeper has the copies, and this host must have no key to them"
        raise _wrong(f"{where}.vault.repository_bucket", f"{cause}: leave it out")
    if not isinstance(config.repository, LocalSettings) or not config.repository.group:
        cause = "with mode pull it is a directory, and group says who besides root may read it, such as lifeboat-keeper"
        raise _wrong(f"{where}.repository", cause)


def recipient_problem(text: str) -> str:
    """Return why `text` is no recipient, without repeating it: it may be the secret key; empty where it is one."""
    if "SECRET-KEY" in text.upper() or "PRIVATE KEY" in text:
        return "it is a secret key, which must never be on this host; give its recipient (age-keygen -y)"
    if not _RECIPIENT.fullmatch(text):
        return "it is no age recipient (age1…) and no ssh public key"
    if text.startswith("age1"):
        return "" if _whole(text) else "its checksum is wrong: a letter was changed or lost; copy it again"
    kind, body = text.split(" ")[:2]
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        data = b""
    right = data[4 : 4 + int.from_bytes(data[:4], "big")] == kind.encode() and len(data) > 40
    return "" if right else "it is cut: what follows its type is not that type's public key; copy it again"


def _whole(text: str) -> bool:
    """Has a Bech32 text the right checksum? https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki"""
    prefix, _one, data = text.rpartition("1")
    if len(data) < 6 or not set(data) <= set(_BECH32):
        return False
    letters = list(prefix.encode())
    values = [letter >> 5 for letter in letters] + [0] + [letter & 31 for letter in letters]
    checksum = 1
    for value in values + [_BECH32.index(letter) for letter in data]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum == 1


def _with_recipients(config: Config, where: str) -> ConfigSettings:
    """Return the configuration's settings with the recipients of all components, where these are given."""
    encryption, own = config.encryption, config.config
    for number, recipient in enumerate(encryption.recipients):
        problem = recipient_problem(recipient)
        if problem:
            raise _wrong(f"{where}.encryption.recipients[{number}]", problem)
    if encryption.directory and (not encryption.directory.startswith("/") or "\0" in encryption.directory):
        raise _wrong(f"{where}.encryption.directory", f"{encryption.directory!r} is not an absolute path")
    if not encryption.recipients or own.secrets == ELSEWHERE:
        return own
    if own.recipients and sorted(own.recipients) != sorted(encryption.recipients):
        raise _wrong(f"{where}.config.recipients", "they are others than encryption.recipients: remove them there")
    return dataclasses.replace(own, recipients=encryption.recipients)


def _check_signers(config: Config, where: str) -> None:
    if config.signing_key and (not config.signing_key.startswith("/") or "\0" in config.signing_key):
        raise _wrong(f"{where}.signing_key", f"{config.signing_key!r} is not an absolute path")
    names = [signer.name for signer in config.signers]
    keys = [" ".join(signer.key.split()[:2]) for signer in config.signers]
    for number, signer in enumerate(config.signers):
        at = f"{where}.signers[{number}]"
        if "PRIVATE KEY" in signer.key:  # not shown
            raise _wrong(f"{at}.key", "it is a private key; give the public one (.pub)")
        if not _SIGNER.fullmatch(signer.name) or names.count(signer.name) > 1:
            raise _wrong(f"{at}.name", f"{signer.name!r}: a name is plain, and used once")
        if not _KEY.fullmatch(keys[number]) or keys.count(keys[number]) > 1:
            raise _wrong(f"{at}.key", "wants one line of a public key, `ssh-ed25519 AAAA…`, and each key once")
        strange = [name for name in signer.documents if name not in DOCUMENTS]
        if strange:
            raise _wrong(f"{at}.documents", f"does not know {', '.join(strange)}; it knows {', '.join(DOCUMENTS)}")
    if config.adopted and not config.signers:
        raise _wrong(f"{where}.adopted", "nobody may sign it: name who may in signers")


def _check_addresses(checks: Sequence[EndpointCheck], where: str) -> None:
    """Each record, report and log names the address. A user's name alone is refused too: it may be a token."""
    for number, check in enumerate(checks):
        if "@" in check.url.partition("://")[2].partition("/")[0] or pipeline.scrub(check.url) != check.url:
            cause = "credentials do not belong into an address; let the application answer this request without them"
            raise _wrong(f"{where}.checks[{number}].url", cause)


def _check_monitoring(monitoring: MonitoringSettings, where: str) -> None:
    directory = monitoring.textfile_directory
    if directory and (not directory.startswith("/") or "\0" in directory):
        raise _wrong(f"{where}.textfile_directory", f"{directory!r} is not an absolute path")


def _check_config(config: ConfigSettings, where: str) -> None:
    for number, recipient in enumerate(config.recipients):
        problem = recipient_problem(recipient)
        if problem:
            raise _wrong(f"{where}.recipients[{number}]", problem)
    if config.recipients and config.secrets == "elsewhere":
        raise _wrong(f"{where}.secrets", "elsewhere leaves them out, and recipients are given: remove either")
    paths = [*config.files, *config.secret_files, *config.plain_files]
    paths += [*(item.path for item in config.repositories if item.path)]
    for path in [*paths, config.site_directory or "/", config.site_commit_file or "/"]:
        if not path.startswith("/") or "\0" in path:
            raise _wrong(where, f"{path!r} is not an absolute path")
    names = [item.name for item in config.repositories]
    for item in config.repositories:
        if not _NAME.fullmatch(item.name) or names.count(item.name) > 1:
            raise _wrong(f"{where}.repositories", f"{item.name!r}: a name is plain, and used once")
        if bool(item.url) == bool(item.path):
            raise _wrong(f"{where}.repositories.{item.name}", "wants either url or path")
        if item.url and not _URL.fullmatch(item.url):  # not shown: there may be a password in it
            raise _wrong(
                f"{where}.repositories.{item.name}.url",
                f"wants https:// or ssh:// without a password in it; a token is the secret git_token_{item.name}",
            )


def _read(path: Path) -> object:
    try:
        data = filesystem.read_file(path)
    except FileNotFoundError as exc:
        raise NotFoundError(
            "read the configuration", str(path), "there is no such file", "Run lifeboat.dr.deploy on this host first."
        ) from exc
    except PermissionError as exc:
        raise UsageError("read the configuration", str(path), "permission denied", "Run as root.") from exc
    except OSError as exc:
        raise _unreadable(path, exc.strerror or str(exc)) from exc
    return typed.load(data, lambda _field, cause: _unreadable(path, cause))


def _unreadable(path: Path, cause: str) -> UsageError:
    return UsageError("read the configuration", str(path), cause, "Run lifeboat.dr.deploy again.")


def pinned(config: Config, seal: str) -> Config:
    """Return the same, for a run for which an operator names a recovery point by its seal. Empty: he names none."""
    if seal and not re.fullmatch(r"[0-9a-f]{64}", seal):
        cause = "that is no seal"
        raise UsageError("pin the recovery point", repr(seal)[:80], cause, "A seal has 64 hexadecimal digits.")
    return dataclasses.replace(config, pin=seal)


def stacks(directory: Path = DIRECTORY) -> list[str]:
    """Return the stacks configured on this host."""
    return sorted(path.stem for path in directory.glob("*.json") if not path.name.endswith(".secrets.json"))


def load(stack: str = "", directory: Path = DIRECTORY) -> Config:
    """Read one stack's configuration; with no name, the only one there is."""
    if not stack:
        known = stacks(directory)
        if len(known) != 1:
            cause = f"{len(known)} stacks are configured: {', '.join(known)}" if known else "no stack is configured"
            remedy = "Name one with --stack." if known else "Run lifeboat.dr.deploy on this host first."
            raise UsageError("choose the stack", str(directory), cause, remedy)
        stack = known[0]
    path = directory / f"{stack}.json"
    data = _read(path)
    secrets_path = directory / f"{stack}.secrets.json"
    secrets = _read(secrets_path) if os.path.lexists(secrets_path) else {}
    return from_mapping(data, secrets, str(path))
