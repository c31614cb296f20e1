# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repository holds, read once: backups with their manifests, what was proved of each, and which to use."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional, TypeVar

from ..base import clock, typed
from ..base.checks import CHECKSUMS, COULD_NOT_VERIFY, FAIL, PASS, kind_of
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UntrustedError, UnverifiedError, UsageError
from ..base.text import named
from ..settings.config import LEVELS, MANIFESTS
from . import retention
from .base import ID, LATEST, VERIFICATION, Altered, Repository, Trust, dated
from .components import CONFIG, DATABASE, FILES, component_kind
from .manifest import Manifest, backup_id, outline, parse
from .sealing import Sealed

_VERDICTS = (PASS, FAIL, COULD_NOT_VERIFY)
BY_DATABASE = "databases"  # in the record of a verification: the verdict on each
BEFORE = "before"  # in the record of a verification: the results that it replaced
_SUDDEN = timedelta(days=32)  # two firsts of a month


class Published(ABC):
    """A published backup or recovery point. `problem`: why it cannot be used, empty when it can.

    `unknown`: that is because it could not be read, or a newer Lifeboat wrote it: it may be whole, and nothing may be
    concluded from it. `ahead`: that is only because its date has not come yet, so that a wrong clock gave it or a wrong
    clock reads it. It can be named, and is never the newest.
    `incomplete`: it lacks something that should be in it; what is in it is as good as in another. It can be named too.
    `lacking`: the components that lack something, where it is incomplete.
    `spoiled`: where all that is wrong is wrong with single databases, each of these and why; the others are as good as
    in another backup. It is not good, and is a choice for these others.
    `failures`: where the only problem is that verifications failed, how many did since the last one that passed.
    `untrusted`: it is unknown because signers are pinned, and none of them signed it.
    `hidden`: why its old versions are read and not what is live, where that is so.
    """

    id: str
    problem: str
    unknown: bool
    failures: int
    ahead: bool
    incomplete: bool
    untrusted: bool
    hidden: str
    spoiled: Mapping[str, str]

    @property
    @abstractmethod
    def lacking(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def sealed(self) -> Optional[Sealed]:
        """What it says of itself; None where that cannot be read."""

    @property
    @abstractmethod
    def proven_at(self) -> Optional[datetime]:
        """When a restore last proved it."""

    @property
    def good(self) -> bool:
        """Fit to recover from, as far as a look at it tells and no verification has said otherwise."""
        return self.sealed is not None and not self.problem

    @property
    def failed(self) -> str:
        """What verifications found, where nothing else is wrong: an operator may accept that."""
        return self.problem if self.failures else ""

    @property
    def sound(self) -> bool:
        """Good, or not good only because something is not in it."""
        return self.good or (self.incomplete and not self.ahead)

    @property
    def serves(self) -> bool:
        """Good, or good for some of its databases or buckets: the others are spoiled or not in it."""
        whole = self.incomplete and not self.ahead and not {CONFIG, FILES}.intersection(self.lacking)
        return self.good or ((bool(self.spoiled) or whole) and self.sealed is not None)

    @property
    def stack(self) -> str:
        return self.sealed.stack if self.sealed else ""

    @property
    def taken_at(self) -> Optional[datetime]:
        return self.sealed.taken_at if self.sealed else None

    @property
    def dated(self) -> datetime:
        """When it was taken; by its id where it cannot be read. When it was written, where that is yet to come."""
        if self.ahead and self.sealed:
            return self.sealed.written_at
        return self.taken_at or dated(self.id)

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For JSON and modules: times ISO 8601 UTC, sizes in bytes, age in seconds."""
        return {
            "id": self.id,
            "good": self.good,
            "unknown": self.unknown,
            "ahead": self.ahead,
            "incomplete": self.incomplete,
            "problem": self.problem,
            "proven": self.proven_at is not None,
            "proven_at": format_time(self.proven_at) if self.proven_at else None,
            "taken_at": format_time(self.taken_at) if self.taken_at else None,
            "age_seconds": int((now - self.taken_at).total_seconds()) if self.taken_at else None,
            "stack": self.stack or None,
            "seal": self.sealed.seal if self.sealed else None,
            **({"untrusted": True} if self.untrusted else {}),
            **({"hidden": self.hidden} if self.hidden else {}),
            **({"spoiled": dict(self.spoiled)} if self.spoiled else {}),
        }


@dataclass(frozen=True)
class Proof:
    """What one verification left behind. record: all of it, as it was written, and what it replaced: `before`."""

    verdict: str
    finished_at: Optional[datetime]
    record: Mapping[str, object]

    @property
    def history(self) -> list[Mapping[str, object]]:
        """The results that it replaced, oldest first, and its own."""
        before = self.record.get(BEFORE)
        own = {name: value for name, value in self.record.items() if name != BEFORE}
        return [*(item for item in before if isinstance(item, dict)), own] if isinstance(before, list) else [own]

    @property
    def failures(self) -> int:
        """How many results in a row failed, up to the last one."""
        return len(list(itertools.takewhile(lambda result: result.get("verdict") == FAIL, reversed(self.history))))

    @property
    def whole(self) -> bool:
        """Whether the bytes were those that were written: what failed all the same fails of every copy."""
        found = self.record.get("checks")
        checks = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        results = [item.get("result") for item in checks if kind_of(str(item.get("name"))) == CHECKSUMS]
        return bool(results) and all(result == PASS for result in results)

    def by_database(self, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """The verdict on each of these, which are all that the backup holds, and why it did not pass. None where the
        record does not tell that of each: of the time when a verdict was of the whole backup, or damaged."""
        found = self.record.get(BY_DATABASE)
        items = found if isinstance(found, dict) else {}
        told = {name: item if isinstance(item, dict) else {} for name, item in items.items()}
        verdicts = {name: (str(item.get("verdict")), str(item.get("reason") or "")) for name, item in told.items()}
        results = [result for result, _why in verdicts.values()]
        whole = set(verdicts) == {*names} and {*results} <= {*_VERDICTS}
        return verdicts if whole and (FAIL in results) == (self.verdict == FAIL) else {}

    @property
    def reason(self) -> str:
        """What failed, in the words of the first checks that did; empty where none is on record."""
        return self._details(FAIL)

    @property
    def gap(self) -> str:
        """What could not be verified, in the same way."""
        return self._details(COULD_NOT_VERIFY)

    def _details(self, result: str) -> str:
        found = self.record.get("checks")
        checks = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        told = [f"{item.get('name')}: {item.get('detail')}" for item in checks if item.get("result") == result]
        return "; ".join(told[:2])


@dataclass(frozen=True)
class Entry(Published):
    """One published backup. `proof`: what verifications left. `source`: one of sources.PLACES."""

    id: str
    manifest: Optional[Manifest] = None
    problem: str = ""
    proof: Mapping[str, Proof] = field(default_factory=dict)
    component: str = DATABASE
    source: str = "repository"
    unknown: bool = False
    failures: int = 0
    ahead: bool = False
    incomplete: bool = False
    untrusted: bool = False
    hidden: str = ""
    spoiled: Mapping[str, str] = field(default_factory=dict)

    @property
    def sealed(self) -> Optional[Manifest]:
        return self.manifest

    @property
    def lacking(self) -> tuple[str, ...]:
        return (self.component,) if self.incomplete else ()

    @property
    def flawed(self) -> bool:
        """Whether it failed though its bytes are the written ones, so that a copy of it is no better. Not known of the
        configuration: it may lack a part that an earlier backup keeps, and that lacks in one place only."""
        failed = [proof for proof in self.proof.values() if proof.verdict == FAIL]
        return self.component != CONFIG and any(proof.whole for proof in failed)

    @property
    def proven_at(self) -> Optional[datetime]:
        result = self.proof.get("restore")
        return result.finished_at if result and result.verdict == PASS and self.good else None

    def as_dict(self, now: datetime) -> dict[str, object]:
        return {
            **super().as_dict(now),
            "component": self.component,
            "place": self.source,
            "verification": {level: result.verdict for level, result in self.proof.items()},
            "size": self.manifest.size if self.manifest else None,
            "details": dict(self.manifest.details) if self.manifest else {},
        }


def entry(repo: Repository, component: str, identity: str) -> Entry:
    """Read one published backup, and see that every artefact is there with its size. Reads no artefact's content."""
    found = _published(repo, component, identity)
    if found is None:
        return Entry(identity, problem="there is no such backup", component=component)
    return _judged(repo, found, repo.altered(component, identity))


def entry_of(repo: Repository, component: str, identity: str, stack: str) -> Optional[Entry]:
    """One of those that entries() would return; None where there is no manifest, or another stack's. Nothing is seen
    of what others contradict, so that it is for a repository without signers."""
    published = _published(repo, component, identity)
    if published is None:
        return None
    judged = _judged(repo, published, repo.altered(component, identity))
    return judged if judged.manifest is None or judged.unknown or judged.manifest.stack == stack else None


def _judged(repo: Repository, entry: Entry, altered: Mapping[str, Altered]) -> Entry:
    """A manifest that was overwritten says nothing of what was published, and nothing is concluded from it."""
    seen = altered.get(entry.id)
    if seen is None:
        return entry
    if repo.by_version:
        return replace(entry, hidden=seen.detail)
    return replace(entry, problem=seen.detail, unknown=True, failures=0, ahead=False, incomplete=False, spoiled={})


def _consistent(repo: Repository, entry: Entry) -> Entry:
    """Once all are read: what others that are as well signed contradict is no choice."""
    manifest, trust = entry.manifest, repo.trust
    cause = trust.contradicted(MANIFESTS, entry.id, manifest.seal) if trust and manifest else ""
    return Entry(entry.id, problem=cause, component=entry.component, unknown=True, untrusted=True) if cause else entry


def _outlined(repo: Repository, component: str, identity: str) -> Optional[Entry]:
    found = _published(repo, component, identity)
    return replace(found, manifest=outline(found.manifest)) if found and found.manifest else found


def _published(repo: Repository, component: str, identity: str) -> Optional[Entry]:
    """None where there is no manifest: then it is not a backup."""
    manifest: Optional[Manifest] = None
    try:
        manifest = parse(repo.manifest(component, identity), component=component, expected_id=identity)
        files = repo.files(component, identity)
        proof, doubt = _on_record(repo, component, manifest)
    except LifeboatError as exc:
        if manifest is None and isinstance(exc, NotFoundError):
            return None
        untrusted = isinstance(exc, UntrustedError)
        return Entry(identity, manifest, exc.cause, component=component, unknown=inconclusive(exc), untrusted=untrusted)
    wrong = _artefacts(manifest, files)
    problems = list(wrong.values())
    failures = 0 if problems else sum(item.failures for item in proof.values()) + bool(doubt)
    early = clock.ahead(manifest.written_at)
    problems += [_failed(level, item) for level, item in proof.items() if item.verdict == FAIL]
    problems += [doubt] if doubt else []
    kind = component_kind(component)
    lacks = kind.lacks(manifest.detailed(kind.details))
    said = "; ".join([*problems, *lacks, *filter(None, [early])][:4])
    spoiled = {} if doubt or early or lacks else _spoiled(manifest, wrong, proof)
    return Entry(
        identity,
        manifest,
        said,
        proof,
        component,
        failures=0 if early else failures,
        ahead=bool(early) and not problems,
        incomplete=bool(lacks) and not problems,
        spoiled=spoiled,
    )


def _artefacts(manifest: Manifest, files: Mapping[str, int]) -> dict[str, str]:
    """What is wrong with the artefacts that are there, by name. files: their sizes."""
    wanted = {artefact.name: artefact.size for artefact in manifest.artefacts}
    problems = {name: f"{name} is missing" for name in wanted if name not in files}
    for name, size in files.items():
        if name not in wanted:
            problems[name] = f"{name} does not belong to it"
        elif size != wanted[name]:
            problems[name] = f"{name} has {size} bytes instead of {wanted[name]}"
    return problems


def _spoiled(manifest: Manifest, artefacts: Mapping[str, str], proof: Mapping[str, Proof]) -> dict[str, str]:
    """The databases that cannot be recovered from it, and why; none where it can be used for no database, or for all.

    A failure counts until the database passes at the same level or a higher one.
    """
    kind = component_kind(manifest.component)
    details = manifest.detailed(kind.details)
    names = kind.alone(details)
    found: dict[str, str] = {}
    for artefact, problem in artefacts.items():
        name = kind.part_of(details, artefact)
        if name is None:
            return {}
        found.setdefault(name, problem)
    passed = dict.fromkeys(names, datetime.min.replace(tzinfo=timezone.utc))
    for level in reversed(LEVELS):
        item = proof.get(level)
        verdicts = item.by_database(names) if item else {}
        if item and item.verdict == FAIL and not verdicts:
            return {}
        for name, (result, why) in verdicts.items():
            if result == FAIL and (item is None or item.finished_at is None or item.finished_at >= passed[name]):
                found.setdefault(name, f"verification at level {level} failed" + (f" ({why})" if why else ""))
            elif result == PASS and item and item.finished_at:
                passed[name] = max(passed[name], item.finished_at)
    return found if len(found) < len(names) else {}


def inconclusive(error: LifeboatError) -> bool:
    """Does it leave open what is there? A disk or a server that fails does, and a schema that is newer than ours. So
    does a signature that is missing or wrong: nothing that such a document says may be believed."""
    return isinstance(error, UntrustedError) or not isinstance(error, (IntegrityError, NotFoundError))


def _failed(level: str, proof: Proof) -> str:
    return f"verification at level {level} failed" + (f" ({proof.reason})" if proof.reason else "")


@dataclass(frozen=True)
class _Record:
    """seal: of the manifest that was verified; id: of the backup."""

    seal: str
    levels: Mapping[str, Mapping[str, object]]
    id: str = ""


def read_proof(repo: Repository, component: str, manifest: Manifest) -> dict[str, Proof]:
    """The verifications on record, by level; those of another manifest (an edited or swapped backup) do not count, nor
    those that nobody signed who may, where signers are pinned."""
    return _on_record(repo, component, manifest)[0]


def _on_record(repo: Repository, component: str, manifest: Manifest) -> tuple[dict[str, Proof], str]:
    """The same, and why a failure may be lost in what is on record, as a disk may have damaged it. Without a signature
    it has no seal of its own: a pass counts only where everything fits, and a failure is not forgotten because
    something does not."""
    data = repo.read_record(component, manifest.id, VERIFICATION)
    if data and repo.trust and repo.trust.refused(component, manifest.id, data):
        return {}, ""  # `verifications` of the trust has why
    record = typed.maybe(_Record, data)
    said = record.levels if record and record.seal == manifest.seal else {}
    found = {level: proof for level in LEVELS if (proof := _proof(said.get(level, {})))}
    lost = data is not None and (record is None or record.id not in ("", manifest.id))
    for level, item in record.levels.items() if record else ():
        counts = record is not None and record.seal == manifest.seal and level in LEVELS
        lost |= item.get("verdict") not in _VERDICTS if counts else item.get("verdict") == FAIL
    doubt = f"what verifications found of it is damaged; ask again: lifeboat verify {manifest.id}"
    return found, doubt if lost else ""


def _proof(record: Mapping[str, object]) -> Optional[Proof]:
    """A verdict as verify.keep() writes one. The record has no seal of its own, and a pass without a time is none."""
    verdict = str(record.get("verdict"))
    try:
        finished = parse_time(str(record.get("finished_at")))
    except UsageError:
        finished = None
    counts = verdict in (FAIL, COULD_NOT_VERIFY) or (verdict == PASS and finished is not None)
    return Proof(verdict, finished, record) if counts else None


def entries(repo: Repository, component: str, stack: str, *, outlined: bool = False) -> list[Entry]:
    """Every published backup of the stack, oldest first: ids carry the time, so their order is the order of time.

    outlined: without their lists of artefacts, once each has been read: for a repository that others fill.
    Another stack's backup in the same repository is not ours to judge; one whose manifest cannot be read may be ours.
    """
    altered = repo.altered(component)
    # The newest first: it vouches for the one before it, so that a chain of signatures costs one process.
    read = _outlined if outlined else _published
    newest_first = [read(repo, component, identity) for identity in reversed(repo.ids(component))]
    found = [item for item in reversed(newest_first) if item]
    judged = [_judged(repo, _consistent(repo, item), altered) for item in found]
    if repo.trust:
        repo.trust.keep()
    return [item for item in judged if item.manifest is None or item.unknown or item.manifest.stack == stack]


def proved(entry: Entry) -> str:
    """The highest level at which what it holds was read and passed; empty where nobody did."""
    passed = [level for level in ("archive", "restore") if level in entry.proof and entry.proof[level].verdict == PASS]
    return passed[-1] if passed else ""


def good(entries: Iterable[Entry]) -> list[Manifest]:
    """The manifests of those that are fit to recover from."""
    return [item.manifest for item in entries if item.good and item.manifest]


def sound(entries: Iterable[Entry]) -> list[Manifest]:
    """Of those too that only lack something: each is the newest state of what is in it."""
    return [item.manifest for item in entries if item.sound and item.manifest]


E = TypeVar("E", bound=Published)


def snapshot(published: Published, target: datetime) -> Optional[datetime]:
    """The instant that is in it, where that is not after the target."""
    return published.taken_at if published.taken_at and published.taken_at <= target else None


def require_named(accept: Optional[bool], identity: str) -> None:
    """Raises UsageError where a failed backup is to be accepted and none was named."""
    if accept and identity in LATEST:
        raise UsageError(
            "accept a failed backup", "accept=failed", "it needs the id of a backup or of a recovery point",
            "Name it: -e recovery_point=<id> -e accept=failed (`lifeboat list` shows all).",
        )  # fmt: skip


def choose(
    entries: Sequence[E],
    stack: str,
    *,
    what: str = "backup",
    identity: str = "latest",
    before: Optional[datetime] = None,
    accept: Optional[bool] = None,
    partly: bool = False,
    reach: Callable[[E, datetime], Optional[datetime]] = snapshot,
) -> tuple[E, list[E]]:
    """The one to recover from, and newer ones passed over because they cannot be used.

    identity: an id, or `latest`. before: the one that reaches the newest instant at or before that time; reach: which
    instant that is of each, None where it reaches none. accept: the named one may be used
    although verifications of it failed, if nothing else is wrong; None where the caller offers no such choice. partly:
    one that is good for some databases or buckets will do, and the caller sees to it that it recovers no other. Raises
    NotFoundError when there is none, IntegrityError when the named one cannot be used, UsageError when it is another
    stack's.
    """
    attempted = f"choose a {what}"
    require_named(accept, identity)
    if identity not in LATEST:
        asked = next((item for item in entries if item.id == identity), None)
        if asked is None:
            near = ", ".join(item.id for item in entries[-5:]) or "none at all"
            raise NotFoundError(attempted, identity, f"the repository has {near}", "`lifeboat list` shows all.")
        if asked.unknown:
            raise _unknown(attempted, asked)
        fits = asked.good or asked.ahead or asked.incomplete or (partly and asked.serves)
        if not (fits or (accept and asked.failed)):
            remedy = "Choose another (`lifeboat list`)."
            if asked.failed and accept is not None:
                remedy += although(identity)
            raise IntegrityError(attempted, identity, asked.problem, remedy)
        if asked.stack != stack:
            raise UsageError(attempted, identity, f"it is of the stack {asked.stack}, not {stack}")
        return asked, []
    fit = [item for item in entries if item.stack in ("", stack)]
    if before is not None:
        instants = ((item, reach(item, before)) for item in fit)
        early = [item for item, _at in sorted(((item, at) for item, at in instants if at), key=lambda pair: pair[1])]
        if fit and not early:
            first = next(filter(None, (item.taken_at for item in fit)), None)
            cause = f"the first is of {format_time(first)}" if first else "none can be read"
            subject = f"taken at or before {format_time(before)}"
            raise NotFoundError(attempted, subject, cause, "Ask for a later recovery_time.")
        fit = early
    usable = [item for item in fit if item.good or (partly and item.serves)]
    if not usable:
        cause = "; ".join(f"{item.id}: {item.problem}" for item in fit[-3:]) or f"the repository holds no {what}"
        lacking = [item.id for item in fit if item.incomplete]
        name = f"name one for what it has (-e recovery_point={lacking[-1]}), " if lacking else ""
        remedy = f"Take one (lifeboat.dr.backup), {name}or name another repository."
        raise NotFoundError(attempted, stack, cause, remedy)
    return usable[-1], fit[fit.index(usable[-1]) + 1 :]


def although(identity: str) -> str:
    """What else can be done with a backup that verifications found to be wrong."""
    return (
        f" A new check may revise the verdict: `lifeboat verify {identity}`. To use it although it failed:"
        f" -e recovery_point={identity} -e accept=failed."
    )


def require_newest(trust: Optional[Trust], document: str, component: str, entries: Iterable[Published]) -> None:
    """Refuse `latest` where a newer document was seen, signed, and is not there as it was: which of the others will do
    is for an operator to say. component: empty for recovery points."""
    there = [item.id for item in entries if not item.untrusted]
    gone = trust.newer(document, component, there) if trust else ""
    if gone:
        remedy = "Find out what became of it. To take one that is there, name it: -e recovery_point=<id>."
        raise UntrustedError("choose the newest", component or "recovery point", gone, remedy)


def _unknown(attempted: str, entry: Published) -> LifeboatError:
    if entry.untrusted:
        remedy = "Choose another (`lifeboat list`). If it is yours: docs/signatures.md#adopt-older-backups."
        return UntrustedError(attempted, entry.id, entry.problem, remedy)
    return UnverifiedError(attempted, entry.id, entry.problem, "Try again, or choose another (`lifeboat list`).")


def free_id(repo: Repository, component: str, moment: datetime) -> str:
    """An id that no backup has."""
    return unused(repo.ids(component), lambda at: backup_id(component, at), moment)


def unused(taken: Sequence[str], named: Callable[[datetime], str], moment: datetime) -> str:
    """Ids have one-second steps, and two of a kind may start within one."""
    while (identity := named(moment)) in taken:
        moment += timedelta(seconds=1)
    return identity


def for_retention(entries: Sequence[Entry]) -> list[retention.Backup]:
    """What the retention plan needs."""
    return [
        retention.Backup(
            item.id,
            item.dated,
            item.good,
            item.proven_at is not None,
            doubted=item.failures == 1,
            incomplete=item.incomplete,
            needs=tuple(sorted(held_of(item))),
            unknown=item.problem if item.unknown else "",
            spoiled=tuple(sorted(item.spoiled)),
        )
        for item in entries
        if item.manifest or ID.fullmatch(item.id)
    ]


def held_of(entry: Entry) -> dict[str, int]:
    """The earlier backups that hold parts of this one, and how many bytes of it."""
    if entry.manifest is None:
        return {}
    kind = component_kind(entry.component)
    held = kind.earlier(entry.manifest.detailed(kind.details))
    return {identity: size for identity, size in held.items() if identity != entry.id}


def _named(entry: Entry, identity: str) -> bool:
    """Is it the one that was named, and good for some of its databases or buckets?"""
    return entry.id == identity and entry.serves


def shrunk(entries: Sequence[Entry], identity: str = "", *, accepts: bool = True, gone: bool = True) -> tuple[str, str]:
    """Does a backup (the newest good one, where none is named) hold far less than one before it did?

    An emptied database backs up without an error, and a wiped bucket may be mirrored too. Far less: under half of what
    any part of it held in one of the seven before it, or still under half since such a drop. Nights that pass do not
    make a loss right: it is over when what was lost is back, or when an operator takes a backup that accepts it.
    accepts: whether that counts, which the stack's host says. gone: whether a part counts that is not in it at all: a
    database that was dropped, and not emptied.

    Returns (what to say, the id of the larger one), or ("", "").
    """
    usable = [entry.manifest for entry in entries if entry.manifest and (entry.good or _named(entry, identity))]
    last = len(usable) - 1
    index = next((n for n, manifest in enumerate(usable) if manifest.id == identity), 0) if identity else last
    kind = component_kind(usable[index].component) if usable else None
    if kind is None or not kind.counts:
        return "", ""
    details = [manifest.detailed(kind.details) for manifest in usable[: index + 1]]
    parts = [kind.held_parts(detail) for detail in details]
    first = max((number for number, detail in enumerate(details) if accepts and kind.accepted(detail)), default=0)
    for drop in [index] if kind.guarded else range(index, first, -1):
        for before in range(drop - 1, max(first, drop - 7) - 1, -1):
            if drop != index and usable[drop].taken_at - usable[before].taken_at > _SUDDEN:
                break  # of what retention left of last year's nights: a year's shrinking is no drop
            for part, counts in parts[before].items():
                now, then = kind.held_part(details[index], part), kind.held_part(details[drop], part)
                if now is None or then is None or not (now or gone):
                    continue
                for what, had in counts.items():
                    has = now.get(what, 0)
                    if 2 * max(has, then.get(what, 0)) < had:
                        of = f" of {kind.name} {named(part)}" if part else ""
                        said = f"{usable[index].id} holds {has} {what}{of}, {usable[before].id} {had}"
                        return said, usable[before].id
    return "", ""
