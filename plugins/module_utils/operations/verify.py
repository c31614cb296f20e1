# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a backup, at one of three levels, each including the ones before it; a recovery point by all its parts.

checksum: every artefact is there, nothing else is, and every byte is the one that was written.
archive:  the real tools read every byte back.
restore:  it is restored into something of its own, and compared with what was backed up.
What archive and restore are of a component, its own proof.py says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from ..base import lock
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, PartCheck, compared, ended, verdict
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, UnverifiedError, UsageError
from ..base.text import Untested
from ..database.wal import proof as base_proof
from ..evidence import record as evidence_record
from ..evidence import store
from ..evidence.phases import ReportedPhase
from ..evidence.schema import Verification, Verified
from ..mirror import changes
from ..repository import catalog, points, repositories
from ..repository.base import Altered, Repository
from ..repository.checksums import checksums
from ..repository.components import BASE, CHANGES, CONFIG, KINDS, WAL, component_kind, configured, every
from ..repository.details import ConfigDetails
from ..repository.manifest import Manifest, component_of, parse
from ..settings.config import LEVELS, Config
from ..stack.runtime import Opened
from ..tools import age
from ..wal import spans
from .levels import PROOFS
from .proof import Proof, Result

HISTORY = 50  # results that a record keeps of what was found before


def targets(config: Config, repo: Repository, identity: str) -> tuple[list[str], list[Check]]:
    """The ids of the backups to verify, and what a recovery point is checked for itself.

    identity: of a backup or a recovery point, or `latest`: the newest published one of each component, whatever its
    state, unless its date is yet to come or nobody signed it who may: never yesterday's in place of today's. A
    component of the stack that has none is a check that did not pass. The name of a component: its newest one.
    """
    if identity in every():
        return [_newest_of(config, repo, identity)], []
    if identity in ("", "latest"):
        return _latest(config, repo)
    if not points.is_id(identity):
        component = component_of(identity)
        if identity not in repo.ids(component):
            repo.manifest(component, identity)  # raises: one that is not there; a typing error is no verdict
        return [identity], []
    altered = repo.altered("", identity).get(identity)
    read = [_by_version(identity, altered)] if altered and repo.by_version else []
    data = repo.read_point(identity)
    try:
        point = points.parse(data, expected_id=identity)
    except UsageError as exc:
        return [], [Check("recovery point", COULD_NOT_VERIFY, str(exc))]
    except LifeboatError as exc:
        return [], [Check("recovery point", FAIL, exc.cause)]
    differences = []
    parts = {name: part for name, part in point.parts.items() if name in KINDS}
    for component, part in parts.items():
        one = catalog.entry(repo, component, part.id)
        if one.manifest is None:
            differences.append(f"{part.id}: {one.problem}")
        elif one.manifest.seal != part.seal:
            differences.append(f"{part.id} is another than the one that was sealed")
    sealed = f"sealed {point.seal[:12]}, consistency {point.consistency}"
    known = [part.id for component, part in parts.items() if part.id in repo.published(component)]
    strange = [Check("recovery point, other parts", COULD_NOT_VERIFY, point.strange)] if point.strange else []
    return known, [compared("recovery point", differences, sealed), *strange, *read]


def _latest(config: Config, repo: Repository) -> tuple[list[str], list[Check]]:
    found = points.backups(repo, config.stack)
    newest = [_newest(found[component]).id for component in KINDS if found[component]]
    if not newest:
        remedy = "Take one: lifeboat backup database."
        raise UnverifiedError("verify the newest backup", config.stack, "the repository holds no backup", remedy)
    return newest, [_never(kind.name) for kind in configured(config) if not found[kind.name]]


def _newest_of(config: Config, repo: Repository, component: str) -> str:
    entries = catalog.entries(repo, component, config.stack) if component in repo.folders else []
    if not entries:
        remedy = f"Take one: lifeboat backup {component}."
        raise UnverifiedError("verify the newest backup", config.stack, f"there is no {component} backup", remedy)
    return _newest(entries).id


def _newest(entries: Sequence[catalog.Entry]) -> catalog.Entry:
    return ([entry for entry in entries if not (entry.ahead or entry.untrusted)] or entries)[-1]


def _by_version(identity: str, altered: Altered) -> Check:
    """What was overwritten is a difference that was seen; who hid a backup may have had the right to."""
    return Check("old versions", PASS if altered.gone else FAIL, f"{identity}: {altered.detail}; that is what was read")


def _opened(run: Opened, identity: str, log: Log) -> Repository:
    """The repository; its old versions, where what was named is not live as it was published."""
    repo = repositories.repository_of(run)
    if identity in ("", "latest", *every()):
        return repo
    component = "" if points.is_id(identity) else component_of(identity)
    altered = repo.altered(component, identity).get(identity)
    past = repo.past() if altered else None
    if altered is None or past is None:
        return repo
    log(f"{identity}: {altered.detail}; that is what is read")
    return past


def _never(component: str) -> Check:
    return Check(component, COULD_NOT_VERIFY, f"it was never backed up; run: lifeboat backup {component}")


def verify(
    run: Opened,
    identity: str,
    level: str,
    *,
    sample: Optional[int] = None,
    log: Log,
    record: bool = True,
    wait: float = 0,
) -> Result:
    """Verify what `identity` names, leave `verification.json` beside each backup, and a record on this host.

    A failed check is no error. sample: of so many objects the restore is tried; 0: of all; None: of those whose turn
    it is, so that each is read once in vault.read_days. wait: so long for another verification, or a prune, to end;
    LockedError if it does not.
    """
    if level not in LEVELS:
        raise UsageError("verify a backup", identity, f"unknown level {level!r}", f"One of: {', '.join(LEVELS)}.")
    if sample is not None and sample < 0:
        raise UsageError("verify a backup", identity, f"a sample of {sample} objects", "Give a number, or 0 for all.")
    with lock.verifying(run.config.stack, "verify", wait=wait):  # what is chosen now stays till the end
        return _verified(run, identity, level, sample, log, record)


def _verified(run: Opened, identity: str, level: str, sample: Optional[int], log: Log, record: bool) -> Result:
    started = datetime.now(timezone.utc)
    repo = _opened(run, identity, log)
    ids, checks = targets(run.config, repo, identity)
    parts = [_verify_backup(run, repo, text, level, sample, log, record) for text in ids]
    if record:
        _destroy_keys(run, log)
    if len(parts) == 1 and not checks:
        return _recorded(run.config, parts[0], log) if record else parts[0]
    found = [replace(check, name=f"{component_of(part.id)}: {check.name}") for part in parts for check in part.checks]
    name = identity if points.is_id(identity) else ", ".join(ids)
    gaps = tuple(gap for part in parts for gap in part.gaps)
    result = Result(name, level, (*checks, *found), started, datetime.now(timezone.utc), tuple(parts), gaps=gaps)
    if checks:
        log(f"{name}: {result.verdict} at level {level}")
    return _recorded(run.config, result, log) if record else result


def _destroy_keys(run: Opened, log: Log) -> None:
    """The host's own keys that have nothing left to verify: the newest backup of each component that one opens is
    proved. Those before it are not verified by schedule."""
    keys, now = age.HostKeys(run.config.state), datetime.now(timezone.utc)
    if not keys.all():
        return
    try:
        newest: dict[tuple[str, str], catalog.Entry] = {}
        for component, entries in points.backups(repositories.repository_of(run), run.config.stack).items():
            for entry in entries:
                if entry.manifest:
                    newest[component, entry.manifest.host_key] = entry
        wanted = {key for (component, key), entry in newest.items() if not entry.proven_at}
        keys.destroy(now, run.config.encryption.host_key_days, wanted.__contains__, log)
    except LifeboatError as exc:  # the next verification does it
        log(str(exc))


def _recorded(config: Config, result: Result, log: Log) -> Result:
    parts = result.parts or (result,)
    backups = tuple(Verified(part.id, part.verdict, part.taken_at, part.size) for part in parts)
    phases = [
        ReportedPhase(part.started_at, part.finished_at, name=f"verify {part.id}", bytes=part.size) for part in parts
    ]
    kept = evidence_record.of_verification(
        config, Verification(result.id, result.level, backups), results=result.checks, phases=phases,
        started=result.started_at, finished=result.finished_at, gaps=result.gaps,
    )  # fmt: skip
    path, _record = store.write(config, kept)
    store.sign(config, path, log)
    return result


def _verify_backup(
    run: Opened, repo: Repository, identity: str, level: str, sample: Optional[int], log: Log, record: bool
) -> Result:
    component = component_of(identity)
    started = datetime.now(timezone.utc)
    log(f"{identity}: verifying at level {level}")
    manifest: Optional[Manifest] = None
    found: list[Check] = []
    try:
        manifest = parse(repo.manifest(component, identity), component=component, expected_id=identity)
        altered = repo.altered(component, identity).get(identity) if repo.by_version else None
        found += [_by_version(identity, altered)] if altered else []
        found.extend(_levels(Proof(run, repo, manifest, level=level, sample=sample, log=log, record=record)))
    except LifeboatError as exc:
        found.append(ended("manifest" if manifest is None else "verification", exc))
    except (OSError, MemoryError) as exc:  # of this machine: a full disk, no memory, a file that cannot be read
        found.append(Check("verification", COULD_NOT_VERIFY, str(exc) or type(exc).__name__))
    taken, size = (format_time(manifest.taken_at), manifest.size) if manifest else ("", 0)
    now = datetime.now(timezone.utc)
    result = Result(
        identity, level, tuple(check.plain for check in found), started, now, taken_at=taken, size=size,
        databases=_by_database(manifest, level, found) if manifest else {},
        gaps=_gaps(run.config, manifest, log) if manifest else (),
    )  # fmt: skip
    log(f"{identity}: {result.verdict} at level {level}")
    if record and manifest is not None and not repo.by_version:
        for each in filter(None, (_replayed(result), result)):
            keep(run, repo, manifest, each)
    return result


def _replayed(result: Result) -> Optional[Result]:
    """What a base is proved at that could not be compared: that it was replayed is the level below."""
    names = [check.name for check in result.checks]
    unknown = component_of(result.id) == BASE and (result.level, result.verdict) == (LEVELS[-1], COULD_NOT_VERIFY)
    if not unknown or base_proof.CUT not in names:
        return None
    checks = result.checks[: names.index(base_proof.CUT)]
    return replace(result, level=LEVELS[-2], checks=checks) if verdict(checks) == PASS else None


def _gaps(config: Config, manifest: Manifest, log: Log) -> tuple[Untested, ...]:
    """What no backup holds of what the stack mounts, as a backup of the configuration says."""
    if manifest.component != CONFIG:
        return ()
    try:
        state = manifest.detailed(ConfigDetails).state
    except LifeboatError:  # the manifest's own check says so
        return ()
    inventory = state.judged(config) if state else None
    for words in inventory.warnings if inventory else ():
        log(f"WARNING: {words}")
    return inventory.gaps if inventory else ()


def keep(run: Opened, repo: Repository, manifest: Manifest, result: Result) -> None:
    """Write the result beside what it proves, under its level. What could not be verified leaves an older proof be.

    It replaces the level's older result, and a pass also the failures of the levels that it includes; they stay on
    record as what was found before.
    """
    known = catalog.read_proof(repo, manifest.component, manifest)
    if result.verdict == COULD_NOT_VERIFY and result.level in known and known[result.level].verdict != COULD_NOT_VERIFY:
        return
    included = LEVELS[: LEVELS.index(result.level)] if result.verdict == PASS else ()
    replaced = {level: known[level] for level in included if level in known and known[level].verdict == FAIL}
    replaced.update({level: proof for level, proof in known.items() if level == result.level})
    before = [said for proof in replaced.values() for said in proof.history if said.get("verdict") != COULD_NOT_VERIFY]
    before.sort(key=lambda result: str(result.get("finished_at")))
    said = {**result.as_dict(), **({catalog.BEFORE: before[-HISTORY:]} if before else {})}
    levels = {level: proof.record for level, proof in known.items() if level not in replaced}
    levels[result.level] = said
    repositories.publish_verification(run, repo, manifest, levels)


def _levels(proof: Proof) -> Iterator[Check]:
    """The checks of each level in turn; a level is not entered when the one before it failed."""
    repo, manifest = proof.repo, proof.manifest
    yield Check("manifest", PASS, f"sealed {manifest.seal[:12]}, schema 1")
    with repo.materialise(manifest.component, manifest.id) as folder:
        found = checksums(repo, manifest, folder)
        yield from found
        spoiled = [check.part for check in found if isinstance(check, PartCheck)]
        kind = component_kind(manifest.component)
        if manifest.component in _SPANS:
            found = [*found, _SPANS[manifest.component](repo, manifest)]
            yield found[-1]
        left = set(kind.alone(manifest.detailed(kind.details))).difference(spoiled)
        whole = all(check.result == PASS for check in found if not isinstance(check, PartCheck))
        if whole and (left or not spoiled) and proof.level != "checksum":
            prove = PROOFS.get(manifest.component, _unproved)
            yield from prove(replace(proof, folder=folder, spoiled=spoiled))


_SPANS = {WAL: spans.check, CHANGES: changes.check}


def _unproved(proof: Proof) -> Iterator[Check]:
    """What continuous protection writes is proved by a server that replays it."""
    cause = f"a backup of {proof.manifest.component} is verified at the level checksum; add --level checksum"
    yield Check(proof.level, COULD_NOT_VERIFY, cause)


def _by_database(manifest: Manifest, level: str, checks: Sequence[Check]) -> dict[str, tuple[str, str]]:
    """The verdict on each database, and the first of what was found of it; none where all passed, or where something
    that every one needs did not."""
    kind = component_kind(manifest.component)
    names = kind.alone(manifest.detailed(kind.details))
    single = [check for check in checks if isinstance(check, PartCheck)]
    common = [check for check in checks if not isinstance(check, PartCheck)]
    if not names or verdict(checks) == PASS or any(check.result != PASS for check in common):
        return {}
    verdicts: dict[str, tuple[str, str]] = {}
    for name in names:
        own = [check for check in single if check.part == name]
        result = PASS if not own and level == "checksum" else verdict(own)
        told = [f"{check.name}: {check.detail}" for check in own if check.result == result and result != PASS]
        verdicts[name] = (result, "; ".join(told[:2]))
    return verdicts
