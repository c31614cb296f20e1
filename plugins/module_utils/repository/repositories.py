# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open the repository that a stack's settings name, and sign what this host writes there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, TypeVar, Union

from ..base import filesystem, typed
from ..base.errors import IntegrityError, NotFoundError, UsageError
from ..settings.config import ESCROWS, RECOVERY_POINTS, VERIFICATIONS, Config
from ..settings.parts import LocalSettings, S3Settings
from ..stack.runtime import Opened
from . import sealing
from .base import LATEST, POINT_ID, VERIFICATION, Repository
from .components import CONTINUOUS
from .local import LocalRepository
from .manifest import Manifest
from .sealing import Sealed, Signature
from .trust import SignedTrust

if TYPE_CHECKING:
    from .s3 import S3Repository

S = TypeVar("S", bound=Sealed)
R = TypeVar("R", bound=Repository)
_TRIED = 50  # backups that are read for the last one that this host signed


def repository_of(run: Opened) -> Repository:
    """The stack's own repository, opened once a run."""
    return run.once(_open)


def _open(run: Opened) -> Repository:
    found = from_settings(run.config.repository, run.config.secrets)
    found.stack = run.config.stack
    # A bucket is never an empty mount point. A keeper has its log on the same disk.
    if isinstance(found, LocalRepository) and not run.config.keeper.directory:
        found.memory = HostMemory(run.config, found.address)
    return _believed(run, found)


REPOSITORY = "repository.json"  # which repository this host used


@dataclass(frozen=True)
class Remembered:
    """new: this host made it, when it knew of no other."""

    repository: str
    path: str = field(metadata={"json": "place"})
    new: bool


class HostMemory:
    """Which repository this host used at a path: an empty mount point, or another disk, is another one."""

    def __init__(self, config: Config, path: str) -> None:
        self._path, self._repository = config.state / REPOSITORY, path

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def remembered(self) -> Optional[Remembered]:
        """None where there was none at that path. Raises LifeboatError where the file is there and cannot be read."""
        try:
            data = filesystem.read_plain(self._path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            remedy = "Look at it. Without it this host cannot tell its repository from another one."
            raise UsageError("recall the repository", self.path, exc.strerror or str(exc), remedy) from exc
        found = typed.maybe(Remembered, data)
        if found is None:
            remedy = "Look whether the right disk is mounted, and remove the file: the next run writes it again."
            raise UsageError("recall the repository", self.path, "it is damaged", remedy)
        return found if found.path == self._repository else None

    def identity(self) -> str:
        kept = self.remembered
        return kept.repository if kept else ""

    def remember(self, identity: str, new: bool) -> None:
        """Where this fails, for a full disk or a reader that is not root, the next run remembers it."""
        data = json.dumps(typed.plain(Remembered(identity, self._repository, new)), indent=1).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            filesystem.write(self._path, data, self._path.with_name(f".{REPOSITORY}.{os.getpid()}"))


def in_vault(run: Opened) -> Optional[S3Repository]:
    """The copies in the vault, opened once a run; None where none are kept, or where the repository is that bucket."""
    return run.once(_open_vault)


class _Granted:
    """The keeper's repository of the stack, as long as its operator lets this host read it."""

    def __init__(self, run: Opened) -> None:
        del run
        self.opener: Optional[Callable[[], Repository]] = None


def grant(run: Opened, opener: Callable[[], Repository]) -> None:
    """From now on what this opens stands where copies in the vault would."""
    run.once(_Granted).opener = opener


def granted(run: Opened) -> Optional[Repository]:
    """What grant() named, opened once a run; None where nothing is granted."""
    return run.once(_open_granted)


def _open_granted(run: Opened) -> Optional[Repository]:
    opener = run.once(_Granted).opener
    if opener is None:
        return None
    found = opener()
    found.stack = run.config.stack
    return _believed(run, found)


def _open_vault(run: Opened) -> Optional[S3Repository]:
    config, one, own = run.config, run.config.vault, run.config.repository
    ours = (own.bucket, own.endpoint_url.rstrip("/")) if isinstance(own, S3Settings) else None
    if not one.repository_bucket or ours == (one.repository_bucket, one.endpoint_url.rstrip("/")):
        return None
    keys = [config.secrets.get(name, "") for name in ("vault_access_key", "vault_secret_key")]
    if not all(keys):
        remedy = "Set them in lifeboat_secrets (vaulted) and deploy."
        raise UsageError("reach the vault", config.stack, "vault_access_key or vault_secret_key is not set", remedy)
    staging = own.staging_root if isinstance(own, S3Settings) else ""
    copies = S3Settings(
        bucket=one.repository_bucket, prefix=one.prefix or config.stack, endpoint_url=one.endpoint_url,
        region=one.region, ca_bundle=one.ca_bundle, folders=own.folders, staging_root=staging,
    )  # fmt: skip
    found = in_bucket(copies, *keys)
    found.stack = config.stack
    return _believed(run, found)


def _believed(run: Opened, repo: R) -> R:
    pinned = trust(run)
    if pinned and run.config.pin:
        pinned.find(repo)
    repo.trust = pinned
    return repo


def from_settings(settings: Union[LocalSettings, S3Settings], secrets: Mapping[str, str]) -> Repository:
    """Build the repository that the settings name. secrets: s3_access_key, s3_secret_key."""
    if isinstance(settings, LocalSettings):
        return LocalRepository(Path(settings.path), settings.folders, settings.group, settings.mounted)
    return in_bucket(settings, secrets.get("s3_access_key", ""), secrets.get("s3_secret_key", ""))


def in_bucket(settings: S3Settings, access_key: str, secret_key: str) -> S3Repository:
    """The repository of type s3 that the settings name, opened with these keys."""
    from .s3 import STAGING, S3Repository  # a repository of this host does without HTTP and its like

    given = vars(settings)
    return S3Repository(
        **{name: value for name, value in given.items() if name not in ("type", "staging_root")},
        access_key=access_key,
        secret_key=secret_key,
        staging_root=Path(given["staging_root"] or STAGING),
    )


# Who may sign.


def trust(run: Opened) -> Optional[SignedTrust]:
    """None where no signers are pinned, and no recovery point is."""
    return run.once(_trust)


def named(run: Opened, identity: str) -> str:
    """What an operator asked for: where he gave a seal and no id, the id of the recovery point that has it."""
    config, found = run.config, trust(run)
    if not config.pin or found is None or not (identity in LATEST or POINT_ID.fullmatch(identity)):
        return identity
    for opener in (repository_of, in_vault):
        if not found.pinned:
            opener(run)
    if not found.pinned:
        remedy = "`lifeboat list --json` shows what is there; see that the seal is that of a recovery point."
        raise NotFoundError("find the recovery point", config.pin, "none has that seal", remedy)
    if identity not in (*LATEST, found.pinned):
        cause, remedy = f"the seal is that of {found.pinned}", "Give the id or the seal, or both of one recovery point."
        raise UsageError("find the recovery point", identity, cause, remedy)
    return found.pinned


def _trust(run: Opened) -> Optional[SignedTrust]:
    return SignedTrust(run.config) if run.config.signers or run.config.pin else None


# What this host signs.

SIGNED = "signed.json"  # the last of each chain
VERIFIED = "signed-verifications.json"  # the like: a verification may run while a backup does
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
    stack's lock; for what continuous protection writes, that of its sender. Returns it as it was written. Raises
    LifeboatError where it cannot be signed: nothing is written then.
    """
    key = run.config.signing_key
    if not key:
        write(document.to_bytes())
        return document
    repo, mine, place = repository_of(run), sealing.public(key), getattr(document, "component", "")
    chain = f"{document.document}/{place}"
    # A sender runs beside a backup: of two that write one file, one would forget what the other one signed.
    file = f"signed-{place}.json" if place in CONTINUOUS else SIGNED
    kept = _signed(run.config, mine, file)
    head = _last(repo, document.document, place, mine, kept.heads.get(chain, _Head()))
    signed = document.signed(Signature(repo.identity(), head.sequence + 1, head.seal), key)
    data = signed.to_bytes()
    write(data)
    _remember(run.config, replace(kept, heads={**kept.heads, chain: _Head(head.sequence + 1, signed.seal)}), file)
    pinned = trust(run)
    if pinned:
        pinned.learn(signed, mine, data)
    return signed


def publish_verification(run: Opened, repo: Repository, manifest: Manifest, levels: Mapping[str, object]) -> None:
    """Write what verifications found beside what they proved, signed where this host has a key. Raises LifeboatError
    where it cannot be signed: then nothing is written."""
    body, key = manifest.record_body("verification", levels=levels), run.config.signing_key
    component = manifest.component
    if not key:
        repo.write_record(component, manifest.id, VERIFICATION, sealing.render(body))
        return
    mine = sealing.public(key)
    kept = _signed(run.config, mine, VERIFIED)
    head = kept.heads.get(component) or _last_record(repo, component, mine)
    data = sealing.signed_record(body, Signature(repo.identity(), head.sequence + 1, head.seal), key, VERIFICATIONS)
    repo.write_record(component, manifest.id, VERIFICATION, data)
    head = _Head(head.sequence + 1, filesystem.sha256(data))
    _remember(run.config, replace(kept, heads={**kept.heads, component: head}), VERIFIED)
    pinned = trust(run)
    if pinned and not pinned.refused(component, manifest.id, data):
        pinned.keep()


def signed_escrow(repo: Repository, stack: str, body: Mapping[str, object], key: str) -> bytes:
    """The record of an escrow check, signed with the key of the machine that made it. It names the one before it, where
    that was signed with this key. Raises LifeboatError where it cannot be signed."""
    mine, head = sealing.public(key), _Head()
    with contextlib.suppress(IntegrityError):
        before = sealing.opened_record(repo.read_escrow(stack) or b"", stack, ESCROWS)
        bound = before.signature
        if bound and before.key == mine and not sealing.verify(before.message, bound.value, ESCROWS, mine):
            head = _Head(bound.sequence, before.seal)
    place = Signature(repo.identity(), head.sequence + 1, head.seal)
    return sealing.signed_record(body, place, key, ESCROWS)


def _last_record(repo: Repository, component: str, mine: str) -> _Head:
    """The last of the chain, where this host does not remember it."""
    head = _Head()
    for identity in list(reversed(repo.published(component)))[:_TRIED]:
        data = repo.read_record(component, identity, VERIFICATION)
        try:
            found = sealing.opened_record(data or b"", identity, VERIFICATIONS)
        except IntegrityError:
            continue
        bound = found.signature
        newer = bound is not None and found.key == mine and bound.sequence > head.sequence
        if bound and newer and not sealing.verify(found.message, bound.value, VERIFICATIONS, mine):
            head = _Head(bound.sequence, found.seal)
    return head


def _last(repo: Repository, document: str, component: str, mine: str, known: _Head) -> _Head:
    """The head of the chain: as this host remembers it, or as it lies in the repository, where a run was killed before
    it remembered, or the memory was lost."""
    point = document == RECOVERY_POINTS
    ids = repo.points() if point else repo.published(component)
    for identity in list(reversed(ids))[: 1 if known.sequence else _TRIED]:
        try:
            found = sealing.opened(
                repo.read_point(identity) if point else repo.manifest(component, identity), identity, document
            )
        except (IntegrityError, NotFoundError):
            continue
        bound = found.signature
        newer = bound is not None and found.key == mine and bound.sequence > known.sequence
        if bound and newer and not sealing.verify(found.message, bound.value, document, mine):
            return _Head(bound.sequence, found.seal)
    return known


def _signed(config: Config, mine: str, name: str = SIGNED) -> _Signed:
    """With another key a chain begins again."""
    try:
        found = typed.maybe(_Signed, filesystem.read_plain(config.state / name))
    except OSError:
        found = None
    return found if found and found.key == mine else _Signed(mine)


def _remember(config: Config, signed: _Signed, name: str = SIGNED) -> None:
    """Where this fails it is found in the repository."""
    path, data = config.state / name, json.dumps(typed.plain(signed), indent=1).encode() + b"\n"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)
        filesystem.write(path, data, temporary)
