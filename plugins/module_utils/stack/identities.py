# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identities of the stack's own object store: where they are now, and the copy of them that this host keeps.

The copy is the newest one, whatever state the data is brought to: an older one would bring keys back that were revoked.
It is a secret file of the config backup, which seals it; on this host it is root's alone, as is the admin key.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ..base import filesystem, typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UsageError
from ..s3 import admin, identities
from ..s3.identities import MINIO, SEAWEEDFS, Form
from ..settings.config import Config
from . import buckets
from .runtime import Opened

_SCHEMA = "lifeboat.dr/identities"
_ABOUT, _IAM, _QUOTAS, _FILE = "about.json", "iam.zip", "quotas.zip", "identities.json"


@dataclass(frozen=True)
class _About:
    schema: str
    version: tuple[int, ...]
    api: str
    backup: str
    taken_at: datetime
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The identities of one moment. backup: the objects backup that they were taken with. members: secrets.

    uses: what of the server's configuration buckets depend on, and no backup holds. buckets: those that are there, of
    an export.
    """

    api: str
    members: Mapping[str, bytes] = field(repr=False)
    backup: str = ""
    uses: tuple[str, ...] = ()
    taken_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    buckets: frozenset[str] = field(default=frozenset(), compare=False)

    @functools.cached_property
    def form(self) -> Form:
        return identities.FORMS[self.api](self.members[_IAM if self.api == MINIO else _FILE])

    @functools.cached_property
    def quotas(self) -> Mapping[str, bytes]:
        data = self.members.get(_QUOTAS)
        return identities.quotas(data) if data else {}

    def to_bytes(self) -> bytes:
        about = {
            "schema": _SCHEMA, "version": [1, 0], "api": self.api, "backup": self.backup,
            "taken_at": format_time(self.taken_at), "uses": self.uses,
        }  # fmt: skip
        return identities.packed({_ABOUT: json.dumps(about).encode(), **self.members})

    def __str__(self) -> str:
        quotas = f", {identities.many(len(self.quotas), 'quota')}" if self.quotas else ""
        return f"{identities.counts(self.form)}{quotas}"


class Store(abc.ABC):
    """Where the identities of a store are. Each call asks again. Errors are LifeboatErrors and show no secret."""

    @abc.abstractmethod
    def export(self) -> Snapshot:
        """What they are now. Reads only."""

    @abc.abstractmethod
    def put(self, snapshot: Snapshot, log: Log) -> None:
        """Make the identities what they were. What the store has besides stays."""

    def put_quotas(self, snapshot: Snapshot, log: Log) -> None:
        """Set the quotas of buckets again, which are there by now."""
        del snapshot, log

    def exceptions(self, snapshot: Snapshot) -> Mapping[str, str]:
        """The identities that put() leaves out, and why."""
        del snapshot
        return {}


class _MinIO(Store):
    def __init__(self, server: admin.Admin, access_key: str, environment: Mapping[str, str]) -> None:
        self._server, self._access_key, self._environment = server, access_key, environment

    def export(self) -> Snapshot:
        members = {_IAM: self._server.export_identities()}
        metadata = self._server.export_buckets()
        found = identities.quotas(metadata)
        members[_QUOTAS] = identities.packed({f"{bucket}/{identities.QUOTA}": data for bucket, data in found.items()})
        uses = tuple(identities.uses(metadata, self._environment))
        return Snapshot(MINIO, members, uses=uses, buckets=identities.buckets(metadata))

    def put(self, snapshot: Snapshot, log: Log) -> None:
        left_out = [name.partition(f"{identities.KEY} ")[2] for name in self.exceptions(snapshot)]
        # A user with the name of the server's root would end the import. It signs this request, so it is there.
        without = {*filter(None, left_out), self._access_key}
        done = self._server.import_identities(identities.importable(snapshot.members[_IAM], without=without))
        for name, told in snapshot.form.items():  # an import enables every group
            if name.startswith(f"{identities.GROUP} ") and told.get("status") == "disabled":
                self._server.set_group(name.partition(" ")[2], enabled=False)
        log(f"the server took {done.added.count} identities and mappings, {done.failed.count} failed")

    def put_quotas(self, snapshot: Snapshot, log: Log) -> None:
        there = identities.buckets(self._server.export_buckets())  # an import would make the others
        for bucket, data in sorted(snapshot.quotas.items()):
            if bucket not in there:
                continue
            try:
                self._server.import_bucket(bucket, identities.packed({f"{bucket}/{identities.QUOTA}": data}))
            except LifeboatError as exc:
                log(f"the quota of {bucket} could not be set: {exc.cause}")

    def exceptions(self, snapshot: Snapshot) -> Mapping[str, str]:
        found = identities.not_carried(snapshot.form, datetime.now(timezone.utc))
        root = f"{identities.USER} {self._access_key}"
        return {**found, **({root: "it has the name of the admin key"} if root in snapshot.form else {})}


class _SeaweedFS(Store):
    """A file on this host that the server reads when it starts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self) -> Snapshot:
        with filesystem.explained("read the identities", self._path), self._path.open("rb") as file:
            data = file.read(identities.LIMIT + 1)
        return Snapshot(SEAWEEDFS, {_FILE: data})

    def put(self, snapshot: Snapshot, log: Log) -> None:
        """Only where it is gone: a file that is there is the operator's."""
        if self._path.exists():
            return
        with filesystem.explained("write the identities", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write(self._path, snapshot.members[_FILE])
        log(f"wrote {self._path}")


def store_of(run: Opened) -> Optional[Store]:
    """The store's identities, by what the configuration says of them; None where it does not say how to read them.

    Raises UsageError where it has no keys, NotFoundError where the server is not up and its address is unknown.
    """
    config, one = run.config, run.config.objects
    if one.admin.api == SEAWEEDFS:
        return _SeaweedFS(Path(one.admin.identities_file))
    if one.admin.api != MINIO:
        return None
    access_key, secret_key = (config.secrets.get(f"objects_admin_{name}", "") for name in ("access_key", "secret_key"))
    if not access_key or not secret_key:
        raise UsageError(
            "find the object store's admin key", config.stack, f"{admin.KEYS} are not both set",
            "Set them in lifeboat_secrets (vaulted) and deploy; or set lifeboat_objects.admin to {api: elsewhere}.",
        )  # fmt: skip
    endpoint = one.admin.endpoint_url or buckets.source(run).endpoint_url
    return _MinIO(admin.Admin(endpoint, one.region, access_key, secret_key, one.ca_bundle), access_key, _variables(run))


def _variables(run: Opened) -> Mapping[str, str]:
    """Return what configures the server; empty where the engine does not tell."""
    with contextlib.suppress(LifeboatError):
        return buckets.environment(run)
    return {}


def keep(config: Config, snapshot: Snapshot) -> None:
    file = config.identities
    with filesystem.explained("keep the identities", file):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file, snapshot.to_bytes())


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.lifeboat")
    filesystem.remove(temporary)  # of a run that was killed
    filesystem.write(file, data, temporary)


def newest(config: Config) -> Optional[Snapshot]:
    """The copy that this host keeps; None where it has none. Raises IntegrityError where it is not what was written."""
    file = config.identities
    try:
        with filesystem.explained("read the identities", file), file.open("rb") as stream:
            data = stream.read(identities.LIMIT + 1)
    except NotFoundError:
        return None

    def wrong(where: str, cause: str) -> IntegrityError:
        remedy = "Remove it; the next objects backup writes it again."
        return IntegrityError("read the identities", str(file), f"{where} {cause}".strip(), remedy)

    members = identities.unpacked(data, (_ABOUT, _IAM, _QUOTAS, _FILE))
    about = typed.build(_About, typed.load(members.pop(_ABOUT, b""), wrong), wrong, unknown="ignore")
    if (about.schema, about.version[:1]) != (_SCHEMA, (1,)) or about.api not in identities.FORMS:
        raise wrong("", "it is not a copy that this Lifeboat reads")
    if (_IAM if about.api == MINIO else _FILE) not in members:
        raise wrong("", "it holds no identities")
    return Snapshot(about.api, members, about.backup, about.uses, about.taken_at)
