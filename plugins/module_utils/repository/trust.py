# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may sign what lies in a repository, and whether a document is one of theirs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Optional

from ..base import filesystem, typed
from ..base.clock import format_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UntrustedError, UsageError, present, printable
from ..settings.config import ADOPTIONS, ESCROWS, MANIFESTS, NOTES, RECOVERY_POINTS, VERIFICATIONS, Config
from . import sealing
from .base import Repository, dated
from .components import CONFIG
from .details import ConfigDetails
from .sealing import Sealed, Signature

KNOWN = "signatures.json"  # what this host checked
_KNOWN_SCHEMA = "lifeboat.dr/signatures"
_MOST = 20_000  # lines of that
_CHECK = "check the signature"


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
        self._changed = False
        self._known, self.problem = _read(self._path)  # why what was checked before is not known
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
        other = (found.stack, found.id, found.component) != (self._config.stack, identity, component)
        what = f"it is {printable(found.id)} of the stack {printable(found.stack)}" if other else ""
        return self._signed(document, component, identity, found, what)

    def _signed(self, document: str, component: str, identity: str, opened: sealing.Opened, other: str) -> Known:
        """Return what is known of a document that one who may sign it did sign. other: why it is another one."""
        if opened.signature is None:
            raise self._untrusted(identity, "it is not signed")
        if other:
            raise self._untrusted(identity, other)
        self._permitted(document, identity, opened.key)
        why = self._wrong(document, component, opened, opened.signature)
        if why:
            raise self._untrusted(identity, f"its signature is wrong: {why}")
        return _known(document, component, identity, opened.key, opened.seal, opened.signature)

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
        other = f"it is of {printable(found.id)}" if found.id != identity else ""
        return self._signed(document, component, identity, found, other)

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
        there, self.problem = _read(self._path)
        self._known = {**there, **self._known}  # another reader may have added to it
        newest = dict(sorted(self._known.items(), key=lambda pair: pair[1].at)[-_MOST:])
        data = json.dumps(typed.plain(_Checked(known=newest)), separators=(",", ":")).encode() + b"\n"
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            filesystem.write(self._path, data, temporary)
            self._changed = False


def _read(path: Path) -> tuple[dict[str, Known], str]:
    """Return what was checked, nothing where there is no such file; and why it is not known, where it is not as this
    code writes it."""
    try:
        with filesystem.open_below(path.parent, (path.name,)) as file:
            mode, data = os.fstat(file.fileno()), file.read()
    except FileNotFoundError:
        return {}, ""
    except OSError as exc:
        return {}, f"{path}: {exc.strerror}"
    except LifeboatError as exc:
        return {}, "" if isinstance(exc, NotFoundError) else f"{path}: {exc.cause}"
    found = typed.maybe(_Checked, data)
    if mode.st_mode & 0o077 or mode.st_uid != os.geteuid():
        return {}, f"{path} is not a private file of this user (0600)"
    if found is None or (found.schema, found.version[:1]) != (_KNOWN_SCHEMA, (1,)):
        return {}, f"{path} is not as it was written"
    return dict(found.known), ""


def _known(document: str, component: str, identity: str, key: str, seal: str, bound: Signature) -> Known:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return Known(document, component, identity, key, seal, bound.repository, bound.sequence, bound.previous, now)


def _bare(key: str) -> str:
    """A public key without its comment."""
    return " ".join(key.split()[:2])
