# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open the repository that a stack's settings name; who may sign what lies in it, and what this host signs itself."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, TypeVar, Union

from ..base import filesystem, typed
from ..base.clock import format_time
from ..base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UntrustedError,
    UsageError,
    present,
    printable,
)
from ..settings.config import ADOPTIONS, ESCROWS, MANIFESTS, NOTES, RECOVERY_POINTS, VERIFICATIONS, Config
from ..settings.parts import LocalSettings, S3Settings
from ..stack.runtime import Opened
from . import sealing
from .base import LATEST, POINT_ID, VERIFICATION, Repository, dated
from .components import CONFIG, CONTINUOUS
from .details import ConfigDetails
from .local import LocalRepository
from .manifest import Manifest
from .sealing import Sealed, Signature

if TYPE_CHECKING:
    from .s3 import S3Repository

S = TypeVar("S", bound=Sealed)
R = TypeVar("R", bound=Repository)
KNOWN = "signatures.json"  # what this host checked
_KNOWN_SCHEMA = "lifeboat.dr/signatures"
_MOST = 20_000  # lines of that
_TRIED = 50  # backups that are read for the last one that this host signed
_CHECK = "check the signature"


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


@dataclass(frozen=True)
class Known:
    """A document whose signature this host has checked. key: that signed it. at: when it was first seen here."""

    document: str
    component: str = field(metadata={"json": "place"})
    id: str
    key: str
    seal: str
    repository: str
    sequence: int
    previous: str
    at: datetime

    @property
    def chain(self) -> tuple[str, str, str]:
        return self.key, self.document, self.component


@dataclass(frozen=True)
class _Checked:
    """By the SHA-256 of the document's bytes."""

    schema: str = _KNOWN_SCHEMA
    version: tuple[int, ...] = (1, 0)
    known: Mapping[str, Known] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """One line of a list of documents that somebody vouches for."""

    document: str
    id: str
    seal: str


@dataclass(frozen=True)
class _Adoption:
    schema: str
    stack: str
    documents: tuple[Listed, ...]


ADOPTION_SCHEMA = "lifeboat.dr/adoption"


@dataclass(frozen=True)
class _Part:
    id: str
    seal: str


@dataclass(frozen=True)
class _Tied:
    """What of a recovery point a pin needs."""

    components: Mapping[str, Optional[_Part]]


@dataclass(frozen=True)
class _Holding:
    """What of a config backup a pin needs."""

    details: ConfigDetails


@dataclass(frozen=True)
class _Bare:
    """What of a record says whether it is signed at all."""

    signature: Optional[Signature] = None


class SignedTrust:
    """A document is trusted if a pinned signer signed it, or vouches for it in a list, and no other one contradicts it.

    What was checked is remembered in the stack's state directory, where no writer of the repository reaches: a process
    for each document would make a list of thousands take minutes, and a lower sequence than before is seen by that
    only.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._path = config.state / KNOWN
        self.signers = {_bare(signer.key): signer for signer in config.signers}
        self.problem = ""  # why what was checked before is not known
        self._changed = False
        self._known: dict[str, Known] = self._read()
        self.verifications: dict[str, str] = {}  # which do not count, and why
        self._verified: dict[tuple[str, str, str], int] = {}
        self._by_seal: dict[tuple[str, str, str], Known] = {}
        self._by_id: dict[tuple[str, str, str], set[str]] = {}
        self._by_sequence: dict[tuple[tuple[str, str, str], int], set[tuple[str, str]]] = {}
        self._after: dict[tuple[tuple[str, str, str], int], str] = {}
        for item in self._known.values():
            self._index(item)
        self._adopted = set(self._adoptions())
        self._with_parts: set[str] = set()
        self.pinned = ""  # the id of the recovery point that an operator named by its seal

    def find(self, store: Repository) -> None:
        """Look for the recovery point that an operator pinned, also among old versions. It and its parts are believed.
        A repository that cannot be read says so to each that asks next."""
        with contextlib.suppress(LifeboatError):
            self._find(store)
            past = store.past() if not self.pinned else None
            if past is not None:
                self._find(past)

    def _find(self, store: Repository) -> None:
        for identity in [] if self.pinned else store.points():
            try:
                data = store.read_point(identity)
                found = sealing.opened(data, identity, RECOVERY_POINTS, unsigned=True)
            except (IntegrityError, NotFoundError):
                continue
            if (found.seal, found.stack, found.id) == (self._config.pin, self._config.stack, identity):
                self.pinned = identity
                self._adopted.add((RECOVERY_POINTS, identity, found.seal))
                tied = typed.maybe(_Tied, data)
                for name, part in tied.components.items() if tied else ():
                    self._vouch(store, name, part)

    def _vouch(self, store: Repository, component: str, part: Optional[_Part]) -> None:
        """A config backup keeps parts in earlier ones, and has their SHA-256."""
        if part is None:
            return
        self._adopted.add((MANIFESTS, part.id, part.seal))
        if component == CONFIG:
            data = store.manifest(component, part.id)
            held = typed.maybe(_Holding, data)
            if sealing.opened(data, part.id, MANIFESTS, unsigned=True).seal == part.seal and held:
                self._with_parts |= {one.backup for one in held.details.parts.values()}

    def check(self, document: str, component: str, identity: str, data: bytes) -> None:
        if not self.signers:
            return
        digest = filesystem.sha256(data)
        item = self._known.get(digest)
        if item is None:
            item = self._checked(document, component, identity, data)
            if item is None:
                return
            self._known[digest], self._changed = item, True
            self._index(item)
        elif (item.document, item.component, item.id) != (document, component, identity):
            raise self._untrusted(identity, f"it is the {item.document} {item.id}")
        elif self._vouched(document, identity, item.seal):
            return
        else:
            self._permitted(document, identity, item.key)
        cause = self._contradicted(item)
        if cause:
            raise self._untrusted(identity, cause)

    def _checked(self, document: str, component: str, identity: str, data: bytes) -> Optional[Known]:
        """None: somebody vouches for it in a list, or by a seal."""
        try:
            if self._adopted or self._with_parts:
                bare = sealing.opened(data, identity, document, unsigned=True)
                if self._vouched(document, identity, bare.seal):
                    return None
            found = sealing.opened(data, identity, document)
        except IntegrityError as exc:
            raise self._untrusted(identity, exc.cause) from exc
        if found.signature is None:
            raise self._untrusted(identity, "it is not signed")
        if (found.stack, found.id, found.component) != (self._config.stack, identity, component):
            raise self._untrusted(identity, f"it is {printable(found.id)} of the stack {printable(found.stack)}")
        self._permitted(document, identity, found.key)
        why = self._wrong(document, component, found, found.signature)
        if why:
            raise self._untrusted(identity, f"its signature is wrong: {why}")
        return _known(document, component, identity, found.key, found.seal, found.signature)

    def _wrong(self, document: str, component: str, opened: sealing.Opened, bound: Signature) -> str:
        """Why the signature is not that key's. The document after it, which is known to be the key's, names it by its
        seal, and the seal is of all of it, the signature too: then that key has vouched for it, and no process has to.
        So a chain costs one process where its newest document is read first."""
        if self._after.get(((opened.key, document, component), bound.sequence)) == opened.seal:
            return ""
        return sealing.verify(opened.message, bound.value, document, opened.key)

    def _vouched(self, document: str, identity: str, seal: str) -> bool:
        """Whether a list or a pin vouches for it."""
        return (document, identity, seal) in self._adopted or (document == MANIFESTS and identity in self._with_parts)

    def _permitted(self, document: str, identity: str, key: str) -> None:
        """Refuse a key that may not sign it; whether it did is not known by this."""
        signer = self.signers.get(key)
        if signer is None:
            raise self._untrusted(identity, "it is signed with a key that lifeboat_signers does not name")
        if document not in signer.signs:
            raise self._untrusted(identity, f"{signer.name} may not sign this: {document}")
        if signer.expires and datetime.now(timezone.utc) >= signer.expires:
            raise self._untrusted(identity, f"{signer.name} signed it, whose key expired {format_time(signer.expires)}")

    def _index(self, item: Known) -> None:
        if item.document not in (MANIFESTS, RECOVERY_POINTS):
            last = (item.key, item.component, item.id)
            self._verified[last] = max(item.sequence, self._verified.get(last, 0))
            self._by_sequence.setdefault((item.chain, item.sequence), set()).add((item.id, item.seal))
            self._after.setdefault((item.chain, item.sequence - 1), item.previous)
            return
        self._by_seal[item.document, item.id, item.seal] = item
        self._by_id.setdefault((item.document, item.component, item.id), set()).add(item.seal)
        self._by_sequence.setdefault((item.chain, item.sequence), set()).add((item.id, item.seal))
        if item.previous:
            self._after.setdefault((item.chain, item.sequence - 1), item.previous)

    def _contradicted(self, item: Known) -> str:
        """Why it is no choice although its signature is right, unless somebody vouches for it."""
        if (item.document, item.id, item.seal) in self._adopted:
            return ""
        if len(self._by_id.get((item.document, item.component, item.id), ())) > 1:
            return "two valid documents with this id were seen: someone with the key signed another one"
        there = self._by_sequence.get((item.chain, item.sequence), set())
        if len(there) > 1:
            return f"{' and '.join(sorted(id for id, _seal in there))} have the same sequence, {item.sequence}"
        after = self._after.get((item.chain, item.sequence))
        if after and after != item.seal and there:
            return f"the document after it, sequence {item.sequence + 1}, names another one as the one before"
        return ""

    def refused(self, component: str, identity: str, data: bytes) -> str:
        if not self.signers:
            return ""
        digest = filesystem.sha256(data)
        try:
            item = self._known.get(digest) or self._record(component, identity, data)
            self._permitted(VERIFICATIONS, identity, item.key)
        except LifeboatError as exc:
            cause = exc.cause
        else:
            if digest not in self._known:
                self._known[digest], self._changed = item, True
                self._index(item)
            newest = self._verified.get((item.key, component, identity), 0)
            fits = (item.document, item.component, item.id) == (VERIFICATIONS, component, identity)
            cause = "" if fits and item.sequence >= newest else "untrusted: it is an older one, put back"
            twice = [seal for id, seal in self._by_sequence[item.chain, item.sequence] if id == identity]
            if not cause and len(twice) > 1:
                cause = f"untrusted: two valid ones with the sequence {item.sequence} were seen"
        if cause:
            self.verifications[identity] = cause
        return cause

    def _record(self, component: str, identity: str, data: bytes, document: str = VERIFICATIONS) -> Known:
        found = sealing.opened_record(data, identity, document)
        if found.signature is None:
            raise self._untrusted(identity, "it is not signed")
        if found.id != identity:
            raise self._untrusted(identity, f"it is of {printable(found.id)}")
        self._permitted(document, identity, found.key)
        why = self._wrong(document, component, found, found.signature)
        if why:
            raise self._untrusted(identity, f"its signature is wrong: {why}")
        return _known(document, component, identity, found.key, found.seal, found.signature)

    def refused_escrow(self, point: str, data: bytes) -> str:
        """Why the record of an escrow check does not count. There is one, so it is checked each time. An older one that
        was put back is of an earlier day, and that is all that it says."""
        bare = typed.maybe(_Bare, data)
        try:
            if self.signers and (bare is None or bare.signature is None):  # an earlier Lifeboat's has no id either
                raise self._untrusted(point, "it is not signed")
            if self.signers:
                self._record("", point, data, ESCROWS)
        except LifeboatError as exc:
            return exc.cause
        return ""

    def refused_note(self, component: str, identity: str, data: bytes) -> str:
        """Why a note does not count. It is of a span, whose chain of notes another one may not continue."""
        try:
            if self.signers:
                self._record(component, identity, data, NOTES)
        except LifeboatError as exc:
            return exc.cause
        return ""

    def learn(self, signed: Sealed, key: str, data: bytes) -> None:
        """What this host has just signed itself."""
        place, bound = getattr(signed, "component", ""), present(signed.signature)
        item = _known(signed.document, place, signed.id, key, signed.seal, bound)
        self._known[filesystem.sha256(data)], self._changed = item, True
        self._index(item)
        self.keep()

    def contradicted(self, document: str, identity: str, seal: str) -> str:
        """Why a document that was checked in this run is no choice, now that the others were, too."""
        item = self._by_seal.get((document, identity, seal)) if self._changed else None
        cause = self._contradicted(item) if item else ""
        return f"untrusted: {cause}" if cause else ""

    def newer(self, document: str, component: str, there: Iterable[str]) -> str:
        """Of a chain whose newest document is gone: which that was; empty where it is there."""
        return next(iter(self._gone(document, component, there)), "")

    def _untrusted(self, identity: str, cause: str) -> UntrustedError:
        remedy = "If you know that it is yours: docs/signatures.md#adopt-older-backups. Else find out who wrote it."
        return UntrustedError(_CHECK, identity, f"untrusted: {cause}", remedy)

    def _adoptions(self) -> Iterator[tuple[str, str, str]]:
        """What lists vouch for. One that is not right counts for nothing, and `problems` has why."""
        self.problems: list[str] = []
        for number, given in enumerate(self._config.adopted):
            try:
                yield from self._adoption(f"lifeboat_adopted[{number}]", given.documents, given.signature)
            except LifeboatError as exc:
                self.problems.append(f"{exc.subject}: {exc.cause}")

    def _adoption(self, subject: str, text: str, armoured: str) -> Iterator[tuple[str, str, str]]:
        wrong = partial(UsageError, _CHECK)
        listed = typed.build(
            _Adoption, typed.load(text, lambda _field, cause: wrong(subject, cause)),
            lambda name, cause: wrong(subject, f"{name} {cause}".strip()), unknown="ignore",
        )  # fmt: skip
        if (listed.schema, listed.stack) != (ADOPTION_SCHEMA, self._config.stack):
            raise wrong(subject, f"it is not a list of the stack {self._config.stack}")
        value, key = sealing.unarmoured(armoured, subject, ADOPTIONS)
        self._permitted(ADOPTIONS, subject, key)
        whole = text.rstrip("\n") + "\n"  # as it was printed; what reads a file for an inventory may cut its end
        why = sealing.verify(whole.encode(), value, ADOPTIONS, key)
        if why:
            raise self._untrusted(subject, f"its signature is wrong: {why}")
        yield from ((item.document, item.id, item.seal) for item in listed.documents)

    def _chains(self, document: str, component: str, there: Iterable[str]) -> Iterator[tuple[Known, list[Known]]]:
        """Of each chain what was seen last, and what of it is there, by sequence."""
        ids, chains = set(there), dict[str, list[Known]]()
        for item in self._known.values():
            if item.key in self.signers and (item.document, item.component) == (document, component):
                chains.setdefault(item.key, []).append(item)
        for chain in chains.values():
            chain.sort(key=lambda known: known.sequence)
            yield chain[-1], [item for item in chain if item.id in ids]

    def _gone(self, document: str, component: str, there: Iterable[str]) -> list[str]:
        """Of the chain that was continued last. The last document of a key that signs no longer is removed by retention
        before those that represent its weeks and months."""
        chains = list(self._chains(document, component, there))
        last, here = max(chains, key=lambda chain: (chain[0].at, chain[0].id[-15:])) if chains else (None, [])
        if last is None or (here and here[-1].sequence >= last.sequence):
            return []
        newest = "none of its key is there"
        if here:
            newest = f"the newest that is there is {here[-1].id} with {here[-1].sequence}"
        return [f"{last.id} was seen with sequence {last.sequence}; {newest}"]

    def alarms(self, document: str, component: str, there: Sequence[str], since: datetime) -> list[str]:
        """What the signed documents that are there tell of those that are not. there: the ids. since: what is of after
        that time no retention has removed yet."""
        said = self._gone(document, component, there)
        for _last_seen, here in self._chains(document, component, there):
            for before, after in zip(here, here[1:]):
                missing = after.sequence - before.sequence - 1
                if missing > 0 and dated(before.id) >= since:
                    said.append(f"{missing} between {before.id} and {after.id}, by their sequence")
        return said

    def keep(self) -> None:
        """Write down what was checked. A reader that may not write here checks it again the next time."""
        if not self._changed or self.problem:
            return
        self._known = {**self._read(), **self._known}  # another reader may have added to it
        newest = dict(sorted(self._known.items(), key=lambda pair: pair[1].at)[-_MOST:])
        data = json.dumps(typed.plain(_Checked(known=newest)), separators=(",", ":")).encode() + b"\n"
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            filesystem.write(self._path, data, temporary)
            self._changed = False

    def _read(self) -> dict[str, Known]:
        """Nothing where there is no such file; `problem` where it is not as this code writes it."""
        try:
            with filesystem.open_below(self._path.parent, (self._path.name,)) as file:
                mode, data = os.fstat(file.fileno()), file.read()
        except (OSError, LifeboatError) as exc:
            if not isinstance(exc, (FileNotFoundError, NotFoundError)):
                self.problem = f"{self._path}: {exc.cause if isinstance(exc, LifeboatError) else exc.strerror}"
            return {}
        found = typed.maybe(_Checked, data)
        if mode.st_mode & 0o077 or mode.st_uid != os.geteuid():
            self.problem = f"{self._path} is not a private file of this user (0600)"
        elif found is None or (found.schema, found.version[:1]) != (_KNOWN_SCHEMA, (1,)):
            self.problem = f"{self._path} is not as it was written"
        return dict(found.known) if found and not self.problem else {}


def _known(document: str, component: str, identity: str, key: str, seal: str, bound: Signature) -> Known:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return Known(document, component, identity, key, seal, bound.repository, bound.sequence, bound.previous, now)


def _bare(key: str) -> str:
    """A public key without its comment."""
    return " ".join(key.split()[:2])


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
