# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply retention: one plan over recovery points and backups, carried out in the repository and in the vault.

The plan is made of all that either side has. A side deletes what that plan deletes and what a plan of its own backups
alone would delete too: one that lacks the newest ones (its copies fail) keeps its older ones, as when backups fail.

Where a store keeps versions, what the plan deletes is hidden at first. Its versions go `noncurrent_days` after this
pruner has recorded that (clocks.py): the plan is made of manifests and verifications, which may be a writer's lies.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Optional, TypedDict, TypeVar, Union

from ..base import lock
from ..base.errors import IntegrityError, LifeboatError, Log, UntrustedError, UnverifiedError, present
from ..base.filesystem import STALE
from ..base.text import human
from ..mirror import changes
from ..mirror import prune as mirror_prune
from ..mirror.listing import Point
from ..mirror.prune import Pruned
from ..recovery.state import RECOVERING_OBJECTS, refuse_while_unfinished
from ..repository import catalog, copies, points, repositories, retention
from ..repository.base import Repository
from ..repository.catalog import Entry
from ..repository.components import BASE, CHANGES, KINDS, OBJECTS, WAL, configured
from ..repository.manifest import component_of
from ..repository.points import PointEntry
from ..repository.retention import Plan
from ..settings.config import Config
from ..stack.runtime import Opened
from ..wal import trail
from . import clocks
from .clocks import Sighting

E = TypeVar("E", Entry, PointEntry)
B = TypeVar("B", retention.Backup, retention.Point)


@dataclass(frozen=True)
class Side:
    """One of the two places, and what is there."""

    name: str
    repo: Repository
    backups: Mapping[str, Sequence[Entry]]
    points: Sequence[PointEntry]

    @property
    def entries(self) -> list[Union[Entry, PointEntry]]:
        return [*itertools.chain(*self.backups.values()), *self.points]

    @property
    def ids(self) -> set[str]:
        return {entry.id for entry in self.entries}


class Versions(TypedDict):
    """Old versions in the mirror: how many went, and why they were not looked at, where they were not."""

    deleted: int
    bytes: int
    waits: str


class Pruning(TypedDict):
    """unknown: what could not be read and so not be judged, and why; unread() turns it into an error. untrusted: those
    of them that no pinned signer signed. locked: what a store keeps although it was deleted, and why. hidden: what had
    a manifest, has none or another one now and was not removed by any retention, and where; alarm() turns it into an
    error. failed: what of the vault could not be done, which copies.problem() turns into an error."""

    keep: dict[str, list[str]]
    delete: list[str]
    unknown: dict[str, str]
    untrusted: list[str]
    swept: list[str]
    locked: list[str]
    hidden: dict[str, str]
    versions: Versions
    failed: list[str]


def policy(config: Config) -> retention.Policy:
    return retention.policy(config)


def prune(run: Opened, *, now: datetime, dry_run: bool, log: Log, trust_clock: bool = False) -> Pruning:
    """Delete what the plan deletes. The caller holds the stack's lock. A failing vault does not stop the repository.

    Raises UsageError where this host's clock is wrong or may have jumped, unless an operator trusts it; LockedError
    where a verification is under way: it reads artefacts for as long as it takes, and what it finds changes the plan;
    and while a recovery has not ended, which may need any of them.
    """
    if not dry_run:
        refuse_while_unfinished(run.config, "prune")
    with contextlib.nullcontext() if dry_run else lock.verifying(run.config.stack, "prune"):
        return _prune(run, now, dry_run, log, trust_clock)


def _prune(run: Opened, now: datetime, dry_run: bool, log: Log, trust_clock: bool) -> Pruning:
    sides, failed = _sides(run)
    if not trust_clock:
        clocks.require(run.config, _dates(sides), now)
    held = _holds(run.config, sides, now, dry_run, log)
    whole, own = plans(sides, policy(run.config), now, held)
    trails = _trails(run.config, sides, now, held)
    whole = Plan({**whole.keep, **_together(trails)}, [*whole.delete, *_gone(trails)])
    doomed_of = [
        [*(text for text in whole.delete if text in side.ids and text not in plan.keep), *spans.delete]
        for side, plan, spans in zip(sides, own, trails)
    ]
    deleted: set[str] = set()
    swept: list[str] = []
    locked: list[str] = []
    hidden: dict[str, str] = {}
    for side, doomed in zip(sides, doomed_of):
        try:
            keeper = _Keeper(run.config, side, now, dry_run, held)
            keeper.begin(doomed)
            for identity in doomed:
                place = "" if side is sides[0] else f" in the {side.name}"
                log(f"{'would delete' if dry_run else 'deleting'} {identity}{place}")
                if not dry_run:
                    locked += _hide(side.repo, identity)
                deleted.add(identity)
            swept += side.repo.sweep(older_than=STALE, now=now, dry_run=dry_run)
            gone, stays, lost = keeper.end()
            swept += gone
            locked += stays
            hidden.update(dict.fromkeys(lost, side.name))
        except LifeboatError as exc:
            if side is sides[0]:
                raise
            failed.append(str(exc))
    needs, unclear = _followed(sides, doomed_of, run.config)
    old, waits = old_versions(
        run, _mirrored(sides, doomed_of, run.config.stack), now, dry_run, failed, log,
        _by_version(sides, held) or unclear, needs,
    )  # fmt: skip
    if not dry_run:
        clocks.accept(run.config, now)
    locked += old.retained
    for line in locked:
        log(f"kept by the store: {line}")
    for identity, name in hidden.items():
        log(f"ALARM: {identity} had a manifest in the {name} and has none or another one now; its old versions stay")
    return {
        "keep": _reasons(whole, sides, own, deleted),
        "delete": [text for text in whole.delete if text in deleted],
        "unknown": _unknown(sides, log),
        "untrusted": sorted({entry.id for side in sides for entry in side.entries if entry.untrusted}),
        "swept": sorted(set(swept)),
        "locked": locked,
        "hidden": hidden,
        "versions": {"deleted": old.versions, "bytes": old.bytes, "waits": waits},
        "failed": failed,
    }


def _trails(config: Config, sides: Sequence[Side], now: datetime, holds: Mapping[str, str]) -> list[Plan]:
    """Of each side which bases and spans of WAL stay, by what that side has: one that lacks the newest, as its copies
    fail, keeps its older ones. A base that was proved anywhere is proved. What was never written costs nothing."""
    there = [{BASE: [], WAL: [], CHANGES: [], **points.continuous(side.repo, config.stack)} for side in sides]
    proved = {entry.id for backups in there for entry in backups[BASE] if entry.good and entry.proven_at}
    plans = [
        trail.trail(
            trail.bases_of(backups[BASE], proved, holds), trail.spans_of(backups[WAL], holds), config.wal.window_days,
            now, policy(config).timezone,
        )
        for backups in there
    ]  # fmt: skip
    window = timedelta(days=config.wal.window_days)
    for side, plan, backups in zip(sides, plans, there):
        spans = [changes.of_manifest(entry.manifest) for entry in backups[CHANGES] if entry.manifest]
        spans += _orphans(side, sides[0], config.stack)
        nights = [entry.taken_at for entry in side.backups.get(OBJECTS, ()) if entry.good and entry.taken_at]
        recovering = [entry.taken_at for entry in side.backups.get(OBJECTS, ()) if entry.id in holds and entry.taken_at]
        gone = changes.outdated(spans, nights, window, recovering)
        plan.delete.extend(gone)
        for entry in backups[CHANGES]:
            if entry.id not in gone:
                plan.keep.setdefault(entry.id, []).append(f"the window of {config.wal.window_days} days needs it")
    return plans


def _orphans(side: Side, source: Side, stack: str) -> list[changes.Span]:
    """The open spans of changes of a copy that the repository, which they were sent from, does not have: nobody closes
    them. One that cannot be read stays."""
    if side is source or CHANGES not in side.repo.folders:
        return []
    there = {*source.repo.ids(CHANGES)} if CHANGES in source.repo.folders else set[str]()
    lost = [identity for identity in side.repo.growing(CHANGES) if identity not in there]
    return changes.read_open(side.repo, lost, stack)


def _together(trails: Sequence[Plan]) -> dict[str, list[str]]:
    return {name: reasons for plan in reversed(trails) for name, reasons in plan.keep.items()}


def _gone(trails: Sequence[Plan]) -> list[str]:
    """What goes anywhere, each once."""
    return list(dict.fromkeys(name for plan in trails for name in plan.delete))


def _holds(config: Config, sides: Sequence[Side], now: datetime, dry_run: bool, log: Log) -> dict[str, str]:
    """What recoveries hold, on either side, and why: with the parts of a point. What does not count is removed."""
    held: dict[str, str] = {}
    for side in sides:
        for identity, data in side.repo.holds().items():
            found = retention.hold_of(identity, config.stack, data, now)
            if found is not None:
                held[identity] = found.detail
            elif not dry_run:
                log(f"removing the hold on {identity} in the {side.name}: it is over, or not one of this stack's")
                side.repo.remove_hold(identity)
    for side in sides:
        for entry in side.points:
            parts = entry.point.parts.values() if entry.id in held and entry.point else ()
            held.update({part.id: f"part of {entry.id}, {held[entry.id]}" for part in parts if part.id not in held})
    return held


def _by_version(sides: Sequence[Side], holds: Mapping[str, str]) -> str:
    """Why the mirror's old versions wait: what a recovery holds is read by version, and its listing is not live."""
    gone = sorted(set(holds) - {identity for side in sides for identity in side.ids})
    return f"a recovery holds {', '.join(gone[:3])}, which is not live" if gone else ""


class _Keeper:
    """Old versions of one side: since when this pruner knows them, and which may go."""

    def __init__(self, config: Config, side: Side, now: datetime, dry_run: bool, holds: Collection[str]) -> None:
        self._config, self._side, self._now, self._dry_run = config, side, now, dry_run
        self._holds = holds

    def _record(self, known: dict[str, Sighting]) -> None:
        if self._dry_run or (not known and not self._known()):
            return
        clocks.write_hidden(self._config, {**clocks.read_hidden(self._config), self._side.repo.address: known})

    def _known(self) -> dict[str, Sighting]:
        return clocks.read_hidden(self._config).get(self._side.repo.address, {})

    def begin(self, doomed: Sequence[str]) -> None:
        """Record what this run is going to hide, before it does; and finish what a killed one began."""
        if not self._side.repo.keeps_versions:
            return
        hidden = self._side.repo.hidden()
        known = clocks.seen_hidden(self._known(), hidden, self._now)
        self._record(clocks.removed_hidden(known, doomed, self._now))
        for identity, item in hidden.items():
            if known[identity].removed and not item.whole and not self._dry_run:
                _hide(self._side.repo, identity)

    def end(self) -> tuple[list[str], list[str], list[str]]:
        """Remove what may go. Returns that, what stays and why, and the ids that are an alarm."""
        repo, days = self._side.repo, self._config.vault.noncurrent_days
        if not repo.keeps_versions:
            return [], [], []
        hidden, altered = repo.look_back()
        known = clocks.seen_hidden(self._known(), hidden, self._now)
        lost = clocks.alarms(hidden, known, self._side.backups, self._side.points, policy(self._config), self._now)
        lost += clocks.overwritten(altered)
        due = clocks.due(hidden, known, [*lost, *self._holds], days, self._now)
        gone, stays = repo.purge_hidden(self._now - timedelta(days=days), self._dry_run, due)
        self._record(known)
        return gone, stays, lost


def _dates(sides: Sequence[Side]) -> list[datetime]:
    """Of all that is good, of each side."""
    every = (entry for side in sides for some in side.backups.values() for entry in some)
    return [entry.taken_at for entry in every if entry.good and entry.taken_at]


def _unknown(sides: Sequence[Side], log: Log) -> dict[str, str]:
    found: dict[str, str] = {}
    for side in sides:
        for entry in side.entries:
            if entry.unknown:
                place = "" if side is sides[0] else f" (in the {side.name})"
                found.setdefault(entry.id, f"{entry.problem}{place}")
    for identity, why in found.items():
        log(f"not judged, so that it stays: {identity}: {why}")
    return found


def unread(stack: str, result: Pruning) -> Optional[LifeboatError]:
    """The error where something could not be judged: it stays, with all that may be a part of it."""
    found = result["unknown"]
    if not found:
        return None
    said = "; ".join(f"{identity}: {why}" for identity, why in list(found.items())[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    if result["untrusted"]:
        remedy = "They stay, with all that may be a part of them: docs/signatures.md#untrusted-documents."
        return UntrustedError("judge every backup by the retention", stack, f"{said}{more}", remedy)
    remedy = "They stay, with all that may be a part of them. See that they can be read, or upgrade Lifeboat here."
    return UnverifiedError("judge every backup by the retention", stack, f"{said}{more}", remedy)


def alarm(stack: str, result: Pruning) -> Optional[IntegrityError]:
    """The error where backups are hidden that no retention removed: somebody else did."""
    found = result["hidden"]
    if not found:
        return None
    cause = clocks.hidden_words(sorted(found), f"the {' and the '.join(sorted({*found.values()}))}")
    remedy = "Find out who removed them, and change that key: docs/vault.md#hidden-backups."
    return IntegrityError("find every backup that was there", stack, cause, remedy)


def _sides(run: Opened) -> tuple[list[Side], list[str]]:
    """The two places, and what of the vault could not be opened."""
    repo = repositories.repository_of(run)
    repo.check(writable=False)  # a full disk is what pruning is for
    repo.require_ours()
    sides = [_side("repository", run.config, repo)]
    try:
        store = copies.vault(run)
        if store is not None:
            store.check(writable=False)
            store.require_ours()
            sides.append(_side("vault", run.config, store))
    except LifeboatError as exc:
        return sides, [f"{copies.location(run.config)}: {exc}"]
    return sides, []


def _mirrored(sides: Sequence[Side], doomed_of: Sequence[Sequence[str]], stack: str) -> dict[str, list[Point]]:
    """Every backup that stays and needs the mirror, wherever it is, and what of them is there as old versions."""
    past = {side.name: _published(side, stack) for side in sides}
    left: dict[str, list[Point]] = {}
    for side, doomed in zip(sides, doomed_of):
        entries = [entry for name, some in side.backups.items() if KINDS[name].elsewhere for entry in some]
        for entry in entries:
            if entry.id not in doomed and entry.id not in past[side.name]:
                left.setdefault(entry.id, []).extend([Point(side.repo, entry.manifest)] if entry.manifest else [])
    for side in sides:
        for identity, places in past[side.name].items():
            left.setdefault(identity, []).extend(places)
    return left


def _followed(sides: Sequence[Side], doomed_of: Sequence[Sequence[str]], config: Config) -> tuple[list[Point], str]:
    """What the changes that stay need of the mirror, open spans too; and why that is not known, where it is not."""
    needs: dict[str, Point] = {}
    problems: dict[str, str] = {}
    for side, doomed in zip(sides, doomed_of):
        trail = changes.Trail.read(side.repo, config.stack)
        problems.update(trail.unread)
        for span in trail.spans:
            if span.id in needs or span.id in doomed or not span.files:
                continue
            need = changes.needs(side.repo, span, config.objects.bucket)
            if problem := need.problem():
                problems[span.id] = problem
            else:
                needs[span.id] = need
    broken = {identity: why for identity, why in problems.items() if identity not in needs}
    cause = next((f"what {identity} needs is not known: {why}" for identity, why in broken.items()), "")
    return list(needs.values()), cause


def _published(side: Side, stack: str) -> dict[str, list[Point]]:
    """The backups that need the mirror and are hidden or overwritten, by this pruner too: as they were published.

    A recovery finds them until their versions go, which is so long after this pruner first saw them hidden. So long
    the mirror has what their listings name: this record is the one of its versions, too (decision 41).
    """
    found: dict[str, list[Point]] = {}
    for component, kind in KINDS.items():
        altered = side.repo.altered(component) if kind.elsewhere and side.repo.keeps_versions else {}
        past = side.repo.past() if altered else None
        for identity in altered if past else ():
            manifest = catalog.entry(present(past), component, identity).manifest
            if manifest is None or manifest.stack == stack:
                found[identity] = [Point(present(past), manifest)] if manifest else []
    return found


def _reasons(whole: Plan, sides: Sequence[Side], by_side: Sequence[Plan], deleted: set[str]) -> dict[str, list[str]]:
    """Why each that stays does, for a side's own reasons where the whole plan has none."""
    keep = {text: list(reasons) for text, reasons in whole.keep.items() if text not in deleted}
    for side, plan in zip(sides, by_side):
        for text, reasons in plan.keep.items():
            if text not in keep and text not in deleted:
                keep[text] = [f"{reason} (of what the {side.name} has)" for reason in reasons]
    return keep


def old_versions(
    run: Opened,
    left: Mapping[str, Sequence[Point]],
    now: datetime,
    dry_run: bool,
    failed: list[str],
    log: Log,
    hold: str,
    needs: Sequence[Point] = (),
) -> tuple[Pruned, str]:
    """Old versions in the mirror; and why they have to wait, where they do. What is not known to be free stays. needs:
    what the changes need that stay."""
    if not (run.config.vault.objects_bucket and any(kind.elsewhere for kind in configured(run.config))):
        return Pruned(), ""
    kept: list[Point] = []
    if failed:
        waits = "it is not known what the vault's backups need"
    elif hold:
        waits = hold
    elif (run.config.state / RECOVERING_OBJECTS).exists():  # of a dry run
        waits = "a recovery of the bucket has begun and not ended"
    else:
        kept, waits = _readable(left)
    newest = max((point.manifest.finished_at for point in kept if point.manifest.finished_at <= now), default=None)
    if waits or newest is None:
        if waits:
            log(f"old versions in the mirror were not looked at: {waits}")
        return Pruned(), waits
    try:
        old = mirror_prune.prune(run, [*kept, *needs], newest, dry_run=dry_run)
    except LifeboatError as exc:
        failed.append(str(exc))
        return Pruned(), exc.cause
    if old.versions:
        log(f"{'would delete' if dry_run else 'deleted'} {old.versions} old versions in the mirror, {human(old.bytes)}")
    return old, ""


def _readable(left: Mapping[str, Sequence[Point]]) -> tuple[list[Point], str]:
    """Of each backup a copy whose listing can be read; and which has none, as what that needs is not known."""
    kept = []
    for identity, places in left.items():
        problems = []
        for point in places:
            try:
                problem = point.problem()
            except LifeboatError as exc:
                problem = exc.cause
            if not problem:
                kept.append(point)
                break
            problems.append(problem)
        else:
            said = "; ".join(problems) or "its manifest cannot be read"
            return kept, f"what {identity} needs is not known: {said}"
    return kept, ""


def report(result: Pruning, word: str) -> list[str]:
    """What became of the mirror's old versions and of what a store keeps, for a terminal."""
    old = result["versions"]
    lines = [f"{word}  {old['deleted']} old versions in the mirror, {human(old['bytes'])}"] if old["deleted"] else []
    lines += [f"old versions in the mirror were not looked at: {old['waits']}"] if old["waits"] else []
    return lines + [f"kept by the store  {line}" for line in result["locked"]]


def plans(
    sides: Sequence[Side], rules: retention.Policy, now: datetime, holds: Mapping[str, str] = MappingProxyType({})
) -> tuple[Plan, list[Plan]]:
    """The plan of all that any side has, and each side's own. What is good on one side is good. holds: of _holds()."""
    own = [_plan(side.points, side.backups, rules, now, holds) for side in sides]
    components = {component: None for side in sides for component in side.backups}
    backups = {component: _merged([side.backups.get(component, ()) for side in sides]) for component in components}
    return _plan(_merged([side.points for side in sides]), backups, rules, now, holds), own


def _plan(
    tied: Sequence[PointEntry], backups: Mapping[str, Sequence[Entry]], rules: retention.Policy, now: datetime,
    holds: Mapping[str, str],
) -> Plan:  # fmt: skip
    plain = [_with_holds(catalog.for_retention(some), holds) for some in backups.values()]
    return retention.plan_all(_with_holds(points.for_retention(tied), holds), plain, rules, now)


def _with_holds(entries: Sequence[B], holds: Mapping[str, str]) -> list[B]:
    return [replace(item, hold=holds.get(item.id, "")) for item in entries]


def _merged(sides: Sequence[Sequence[E]]) -> list[E]:
    """Each once, the better of two."""
    found: dict[str, E] = {}
    for item in itertools.chain.from_iterable(sides):
        found[item.id] = max(
            found.get(item.id, item),
            item,
            key=lambda entry: (
                entry.good,
                entry.unknown,
                entry.incomplete,
                entry.serves,
                -len(entry.spoiled),
                entry.failures == 1,
                entry.failures > 0,
                entry.proven_at is not None,
                entry.sealed is not None,
            ),
        )
    return [found[identity] for identity in sorted(found)]


def _side(name: str, config: Config, repo: Repository) -> Side:
    backups = points.backups(repo, config.stack)
    return Side(name, repo, backups, points.entries(repo, config.stack, backups))


def _hide(repo: Repository, identity: str) -> Sequence[str]:
    if points.is_id(identity):
        return repo.hide_point(identity)
    return repo.hide(component_of(identity), identity)
