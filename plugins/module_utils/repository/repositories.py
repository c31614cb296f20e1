# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open the repository that a stack's settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ..base import typed
from ..base.errors import UsageError
from ..stack.runtime import Opened
from .base import Repository, bad_setting
from .local import LocalRepository
from .s3 import STAGING, S3Repository


@dataclass(frozen=True)
class _Local:
    """folders: component -> folder."""

    type: str = "local"
    path: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _S3:
    """staging_root: where backups are put together."""

    type: str
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    ca_bundle: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    staging_root: str = ""


def of(run: Opened) -> Repository:
    """The stack's own repository, opened once a run."""
    return run.once(_open)


def _open(run: Opened) -> Repository:
    found = from_settings(run.config.repository, run.config.secrets)
    found.stack = run.config.stack
    return found


def in_vault(run: Opened) -> Optional[S3Repository]:
    """The copies in the vault, opened once a run; None where none are kept, or where the repository is that bucket."""
    return run.once(_open_vault)


def _open_vault(run: Opened) -> Optional[S3Repository]:
    config, one, own = run.config, run.config.vault, run.config.repository
    ours = (own.get("type"), own.get("bucket"), str(own.get("endpoint_url", "")).rstrip("/"))
    if not one.repository_bucket or ours == ("s3", one.repository_bucket, one.endpoint_url.rstrip("/")):
        return None
    keys = [config.secrets.get(name, "") for name in ("vault_access_key", "vault_secret_key")]
    if not all(keys):
        remedy = "Set them in lifeboat_secrets (vaulted) and deploy."
        raise UsageError("reach the vault", config.stack, "vault_access_key or vault_secret_key is not set", remedy)
    layout = {name: own[name] for name in ("folders", "staging_root") if name in own}
    server = {name: getattr(one, name) for name in ("endpoint_url", "region", "ca_bundle")}
    named = {"type": "s3", "bucket": one.repository_bucket, "prefix": one.prefix or config.stack}
    found = in_bucket({**named, **server, **layout}, *keys)
    found.stack = config.stack
    return found


def from_settings(settings: Mapping[str, object], secrets: Mapping[str, str]) -> Repository:
    """Build the repository that the settings name; raises UsageError for a setting that is missing or unknown.

    {type: local, path} or {type: s3, bucket, ...}. secrets: s3_access_key, s3_secret_key.
    """
    kind = settings.get("type", "local")
    if kind == "local":
        local = typed.build(_Local, settings, _wrong(settings))
        return LocalRepository(Path(local.path), local.folders)
    if kind != "s3":
        raise bad_setting("type", kind, "it must be local or s3")
    return in_bucket(settings, secrets.get("s3_access_key", ""), secrets.get("s3_secret_key", ""))


def in_bucket(settings: Mapping[str, object], access_key: str, secret_key: str) -> S3Repository:
    """The repository of type s3 that the settings name, opened with these keys."""
    given = vars(typed.build(_S3, settings, _wrong(settings)))
    return S3Repository(
        **{name: value for name, value in given.items() if name not in ("type", "staging_root")},
        access_key=access_key,
        secret_key=secret_key,
        staging_root=Path(given["staging_root"] or STAGING),
    )


def _wrong(settings: Mapping[str, object]) -> typed.Wrong:
    return lambda name, cause: bad_setting(name, settings.get(name.partition(".")[0]), cause)
