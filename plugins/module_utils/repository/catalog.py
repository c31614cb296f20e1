# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repository holds, read once: backups with their manifests, what was proved of each, and which to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional, Protocol, TypeVar

from ..base import typed
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, NotFoundError, UsageError
from ..settings.config import LEVELS
from . import retention
from .base import VERIFICATION, Repository
from .components import DATABASE, KINDS
from .manifest import ID, Manifest, backup_id, parse


@dataclass(frozen=True)
class Proof:
    """What one verification left on record. said: all of it, as it was written."""

    verdict: str
    finished_at: Optional[datetime]
    said: Mapping[str, object]


@dataclass(frozen=True)
class Entry:
    """One published backup. `problem`: why it cannot be used, empty when it can. `proof`: what verifications left.

    `place`: `repository`, or `vault` where this is the copy there.
    """

    id: str
    manifest: Optional[Manifest] = None
    problem: str = ""
    proof: Mapping[str, Proof] = field(default_factory=dict)
    component: str = DATABASE
    place: str = "repository"

    @property
    def good(self) -> bool:
        """Fit to recover from, as far as a look at it tells and no verification has said otherwise."""
        return self.manifest is not None and not self.problem

    @property
    def stack(self) -> str:
        return self.manifest.stack if self.manifest else ""

    @property
    def taken_at(self) -> Optional[datetime]:
        return self.manifest.taken_at if self.manifest else None

    @property
    def proven_at(self) -> Optional[datetime]:
        """When a restore last proved it."""
        result = self.proof.get("restore")
        return result.finished_at if result and result.verdict == PASS and self.good else None

    @property
    def proof_words(self) -> str:
        if not self.proof:
            return "not verified"
        level = max(self.proof, key=LEVELS.index)
        return f"{self.proof[level].verdict} at level {level}"

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For JSON and modules: times ISO 8601 UTC, sizes in bytes, age in seconds."""
        one = self.manifest
        return {
            "id": self.id,
            "component": self.component,
            "place": self.place,
            "good": self.good,
            "problem": self.problem,
            "proven": self.proven_at is not None,
            "proven_at": format_time(self.proven_at) if self.proven_at else None,
            "verification": {level: result.verdict for level, result in self.proof.items()},
            "taken_at": format_time(one.taken_at) if one else None,
            "age_seconds": int((now - one.taken_at).total_seconds()) if one else None,
            "size": one.size if one else None,
            "stack": one.stack if one else None,
            "details": dict(one.details) if one else {},
        }


def entry(repo: Repository, component: str, identity: str) -> Entry:
    """Read one published backup, and see that every artefact is there with its size. Reads no artefact's content."""
    try:
        manifest = parse(repo.manifest(component, identity), component=component, expected_id=identity)
        files = repo.files(component, identity)
    except LifeboatError as exc:
        return Entry(identity, problem=exc.cause, component=component)
    wanted = {artefact.name: artefact.size for artefact in manifest.artefacts}
    problems = [f"{name} is missing" for name in wanted if name not in files]
    problems += [
        f"{name} has {files[name]} bytes instead of {size}"
        for name, size in wanted.items()
        if name in files and files[name] != size
    ]
    problems += [f"{name} does not belong to it" for name in files if name not in wanted]
    proof = read_proof(repo, component, manifest)
    problems += [f"verification at level {level} failed" for level, item in proof.items() if item.verdict == FAIL]
    return Entry(identity, manifest, "; ".join(problems[:4]), proof, component)


@dataclass(frozen=True)
class _Record:
    """seal: of the manifest that was verified."""

    seal: str
    levels: Mapping[str, Mapping[str, object]]


def read_proof(repo: Repository, component: str, manifest: Manifest) -> dict[str, Proof]:
    """The verifications on record, by level; those of another manifest (an edited or swapped backup) do not count."""

    def wrong(field: str, cause: str) -> LifeboatError:
        return IntegrityError("read the verifications", manifest.id, f"{VERIFICATION}: {field} {cause}")

    raw = repo.read_record(component, manifest.id, VERIFICATION)
    try:
        record = typed.build(_Record, typed.load(raw or b"{}", wrong), wrong, unknown="ignore")
    except LifeboatError:
        return {}
    said = record.levels if record.seal == manifest.seal else {}
    return {level: proof for level in LEVELS if (proof := _proof(said.get(level, {})))}


def _proof(said: Mapping[str, object]) -> Optional[Proof]:
    """A verdict as verify.keep() writes one. The record has no seal of its own, and a pass without a time is none."""
    verdict = str(said.get("verdict"))
    try:
        finished = parse_time(str(said.get("finished_at")))
    except UsageError:
        finished = None
    counts = verdict in (FAIL, COULD_NOT_VERIFY) or (verdict == PASS and finished is not None)
    return Proof(verdict, finished, said) if counts else None


def entries(repo: Repository, component: str, stack: str) -> list[Entry]:
    """Every published backup of the stack, oldest first: ids carry the time, so their order is the order of time.

    Another stack's backup in the same repository is not ours to judge; one whose manifest cannot be read may be ours.
    """
    found = (entry(repo, component, identity) for identity in sorted(repo.published(component)))
    return [item for item in found if item.manifest is None or item.manifest.stack == stack]


class Dated(Protocol):
    """What choose() must know of a backup or a recovery point. taken_at: None where it cannot be read."""

    @property
    def id(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def good(self) -> bool: ...
    @property
    def stack(self) -> str: ...
    @property
    def taken_at(self) -> Optional[datetime]: ...


E = TypeVar("E", bound=Dated)


def choose(
    found: Sequence[E], stack: str, *, what: str = "backup", identity: str = "latest", before: Optional[datetime] = None
) -> tuple[E, list[E]]:
    """The one to recover from, and newer ones passed over because they cannot be used.

    identity: an id, or `latest`. before: the newest taken at or before that time. Raises NotFoundError when there is
    none, IntegrityError when the named one cannot be used, UsageError when it is another stack's.
    """
    attempted = f"choose a {what}"
    if identity not in ("", "latest"):
        named = next((item for item in found if item.id == identity), None)
        if named is None:
            near = ", ".join(item.id for item in found[-5:]) or "none at all"
            raise NotFoundError(attempted, identity, f"the repository has {near}", "`lifeboat list` shows all.")
        if not named.good:
            raise IntegrityError(attempted, identity, named.problem, "Choose another (`lifeboat list`).")
        if named.stack != stack:
            raise UsageError(attempted, identity, f"it is of the stack {named.stack}, not {stack}")
        return named, []
    fit = [item for item in found if item.stack in ("", stack)]
    if before is not None:
        early = [item for item in fit if item.taken_at and item.taken_at <= before]
        if fit and not early:
            first = next(filter(None, (item.taken_at for item in fit)), None)
            raise NotFoundError(
                attempted, f"taken at or before {format_time(before)}",
                f"the first is of {format_time(first)}" if first else "none can be read",
                "Ask for a later recovery_time.",
            )  # fmt: skip
        fit = early
    good = [item for item in fit if item.good]
    if not good:
        cause = "; ".join(f"{item.id}: {item.problem}" for item in fit[-3:]) or f"the repository holds no {what}"
        raise NotFoundError(attempted, stack, cause, "Take one (lifeboat.dr.backup), or name another repository.")
    return good[-1], fit[fit.index(good[-1]) + 1 :]


def free_id(repo: Repository, component: str, moment: datetime) -> str:
    """An id nobody has: ids have one-second steps, and two backups may start within one."""
    taken = set(repo.ids(component))
    while backup_id(component, moment) in taken:
        moment += timedelta(seconds=1)
    return backup_id(component, moment)


def for_retention(found: Sequence[Entry]) -> list[retention.Backup]:
    """What the retention plan needs. A backup whose manifest cannot be read takes its time from its id."""
    plain = []
    for item in found:
        if item.manifest is not None:
            taken_at = item.manifest.taken_at
        else:
            match = ID.fullmatch(item.id)
            if match is None:
                continue
            taken_at = parse_time(datetime.strptime(match.group(2), "%Y%m%d_%H%M%S").isoformat())
        needs = tuple(sorted(held_of(item)))
        plain.append(
            retention.Backup(item.id, taken_at, good=item.good, verified=item.proven_at is not None, needs=needs)
        )
    return plain


def held_of(one: Entry) -> dict[str, int]:
    """The earlier backups that hold parts of this one, and how many bytes of it."""
    if one.manifest is None:
        return {}
    kind = KINDS[one.component]
    held = kind.held(one.manifest.detailed(kind.details))
    return {identity: size for identity, size in held.items() if identity != one.id}


def shrunk(found: Sequence[Entry], identity: str = "") -> tuple[str, str]:
    """Does a backup (the newest good one, where none is named) hold far less than one of the seven before it?

    An emptied database backs up without an error, and a wiped bucket may be mirrored too.

    Far less: under half of what its component counts. Returns (what to say, the id of the larger one), or ("", "").
    """
    good = [entry.manifest for entry in found if entry.good and entry.manifest]
    index = next((n for n, manifest in enumerate(good) if manifest.id == identity), 0) if identity else len(good) - 1
    for before in reversed(good[max(0, index - 7) : index]):
        kind = KINDS[before.component]
        has, had = (kind.counted(manifest.detailed(kind.details)) for manifest in (good[index], before))
        for what, more in had.items():
            if 2 * has[what] < more:
                return f"{good[index].id} holds {has[what]} {what}, {before.id} {more}", before.id
    return "", ""
