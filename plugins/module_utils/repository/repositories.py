# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open the repository that a stack's settings name; and what this host signs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional, TypeVar

from ..base import filesystem, typed
from ..base.errors import IntegrityError, NotFoundError, UsageError
from ..settings.config import RECOVERY_POINTS, Config
from ..stack.runtime import Opened
from . import sealing
from .base import Repository, bad_setting
from .local import LocalRepository
from .s3 import STAGING, S3Repository
from .sealing import Sealed, Signature

S = TypeVar("S", bound=Sealed)
_TRIED = 50  # backups that are read for the last one that this host signed


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


# What this host signs.

SIGNED = "signed.json"  # the last of each chain
_SIGNED_SCHEMA = "lifeboat.dr/signed"


@dataclass(frozen=True)
class _Head:
    """The last document of a chain; before the first one the sequence is 0."""

    sequence: int = 0
    seal: str = ""


@dataclass(frozen=True)
class _Signed:
    key: str
    heads: Mapping[str, _Head] = field(default_factory=dict)
    schema: str = _SIGNED_SCHEMA
    version: tuple[int, ...] = (1, 0)


def publish(run: Opened, document: S, write: Callable[[bytes], object]) -> S:
    """Sign the document with this host's key, where it has one, and give its bytes to `write`. The caller holds the
    stack's lock. Returns it as it was written. Raises LifeboatError where it cannot be signed: nothing is written then.
    """
    key = run.config.signing_key
    if not key:
        write(document.to_bytes())
        return document
    repo, mine, place = of(run), sealing.public(key), getattr(document, "component", "")
    chain = f"{document.document}/{place}"
    kept = _signed(run.config, mine)
    head = _last(repo, document.document, place, mine, kept.heads.get(chain, _Head()))
    signed = document.signed(Signature(repo.identity(), head.sequence + 1, head.seal), key)
    write(signed.to_bytes())
    _remember(run.config, replace(kept, heads={**kept.heads, chain: _Head(head.sequence + 1, signed.seal)}))
    return signed


def _last(repo: Repository, document: str, place: str, mine: str, known: _Head) -> _Head:
    """The head of the chain: as this host remembers it, or as it lies in the repository, where a run was killed before
    it remembered, or the memory was lost."""
    point = document == RECOVERY_POINTS
    ids = repo.points() if point else repo.published(place)
    for identity in list(reversed(ids))[: 1 if known.sequence else _TRIED]:
        try:
            found = sealing.opened(
                repo.read_point(identity) if point else repo.manifest(place, identity), identity, document
            )
        except (IntegrityError, NotFoundError):
            continue
        bound = found.signature
        newer = bound is not None and found.key == mine and bound.sequence > known.sequence
        if bound and newer and not sealing.verify(found.message, bound.value, document, mine):
            return _Head(bound.sequence, found.seal)
    return known


def _signed(config: Config, mine: str) -> _Signed:
    """With another key a chain begins again."""
    try:
        found = typed.maybe(_Signed, (config.state / SIGNED).read_bytes())
    except OSError:
        found = None
    return found if found and found.key == mine else _Signed(mine)


def _remember(config: Config, signed: _Signed) -> None:
    """Where this fails it is found in the repository."""
    path, data = config.state / SIGNED, json.dumps(typed.plain(signed), indent=1).encode() + b"\n"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)
        filesystem.write(path, data, temporary)
