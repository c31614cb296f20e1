# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan the recovery of a bucket: read only, decided once, printed before anything is touched."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, Optional

from ..base import clock, filesystem, throttle
from ..base.checks import SHOWN
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, SpaceError, UsageError, present
from ..base.text import Planned, Untested, assessed, cautions, human, named, several
from ..base.typed import plain
from ..mirror import store
from ..mirror.listing import Point
from ..recovery import state as recovery_state
from ..recovery.state import DAMAGED, DOWN, HEALTHY, RECOVERING_OBJECTS, Unfinished
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.details import A_VAULT, EXCLUDED, ObjectsDetails, Store
from ..repository.sources import FROM_VAULT, Sources
from ..s3 import bucket
from ..s3 import settings as s3_settings
from ..s3.inventory import UNHELD, Inventory
from ..settings.config import Config
from ..settings.scenarios import OBJECT_STORAGE
from ..stack import answer, buckets
from ..stack.runtime import Opened, objects_mount
from ..vault import endpoints
from . import assess, choose, compare, condition, identities, lacking, put_back
from .choose import Request, reference_of
from .compare import DIFFERS, GONE, UNKNOWN_TO_POINT, to_restore
from .condition import Assessment

RECOVERED = f"{recovery_state.RECOVERED_OBJECTS}.json"
METHODS = ("auto", "fill", "rebuild")


@dataclass(frozen=True)
class Difference:
    """What stands between the bucket and the point: keys that are gone, that differ, and that the point has not."""

    gone: int = 0
    differ: int = 0
    extra: int = 0
    later: int = 0  # of the extra ones, written after the point's instant


@dataclass(frozen=True)
class Counts(Difference):
    """And what nobody is shown."""

    bytes: int = 0  # to be copied
    objects: int = 0  # the point has, below the prefix
    lacking: str = ""  # what the vault no longer has of what is to be copied


Mode = Literal["none", "start", "fill", "rebuild", "reopen", "settings"]
Action = Literal["restored", "untouched", "copied", "quarantined"]
NOWHERE = "in no backup"
NOT_IN_IT = "the backup could not include it"
NOT_THERE = "the store does not have it, and it is not brought back"
_NO_KEY: tuple[Optional[buckets.Key], tuple[str, ...]] = (None, ())
_CHOICE = (
    "-e others=restore (what is in the backup comes back, the rest is copied out of the old server first, as far as"
    " that gives it) or -e others=aside (all of them stay aside)"
)
OF_THE_BACKUP = "of the same backup"
_NOWHERE_TO_BE_HAD = "no backup that could be read has the objects of those rows; lifeboat.dr.reconcile lists the rows"
_ASKED: Mapping[str, Mode] = {"fill": "fill", "rebuild": "rebuild"}


@dataclass(frozen=True)
class Bucket:
    """What happens to one bucket of the store, and why. action: restored (of the backup), copied (out of the server
    that is put aside, into the fresh one), quarantined (it stays in the data directory that is put aside), untouched.

    objects, bytes: of one that is copied, or that an operator may have copied.
    """

    name: str
    action: Action
    why: str
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Plan(Planned):
    """What is wrong and what will be done. Roles see it as JSON, with these names.

    mode: none; start (it is down: start it and look; if it does not come up, or empty, rebuild); fill (it lives: make
    the bucket where it is gone, copy back what is missing or wrong); rebuild (quarantine the data directory, fresh
    server, buckets as they were); reopen (a recovery was killed when the data was back and the writers were not);
    settings (the objects are left alone, and nothing is stopped). settings: as in the request.
    asked, state, prefix, exact, partial: as in the request. unreadable: as in the assessment. target: the bucket.
    buckets: those of the store. untested: what of the store no recovery brings back, and why. bucket: as in the
    request. additional: buckets that are restored with it. asks: those that a rebuild would move aside for good,
    and that nobody said may be; while there are any, none is done. rows_without, held_by: as in the assessment.
    aside: in a rebuild all other buckets are to stay aside, so that none is copied out of the old server. turn: the
    number of the host's changes when it was made. newer: buckets that newer backups hold and this one does not, and
    that ought to be there afterwards. instant: what is said of the time that was named, where the backup is of another.
    """

    mode: Mode
    unreadable: bool
    backup: Mapping[str, object]
    service: str
    prefix: str
    exact: bool
    partial: bool
    counts: Difference
    buckets: tuple[Bucket, ...] = ()
    untested: tuple[Untested, ...] = ()
    bucket: str = ""
    additional: tuple[str, ...] = field(default=(), metadata={"json": "others"})
    asks: tuple[str, ...] = ()
    rows_without: int = 0
    held_by: str = ""
    settings: str = ""
    aside: bool = False
    turn: int = 0
    newer: tuple[str, ...] = ()
    instant: str = ""

    @property
    def copied(self) -> tuple[Bucket, ...]:
        return tuple(one for one in self.buckets if one.action == "copied")


def make(run: Opened, request: Request, *, log: Log) -> Plan:
    """The plan of a bucket's recovery. Reads only. Raises LifeboatError when no recovery is possible."""
    with recovery_state.planning(run.config) as number:  # before anything is looked at
        return replace(_make(run, request, log), turn=number)


def _make(run: Opened, request: Request, log: Log) -> Plan:
    config, stack = run.config, run.runtime
    if not config.objects.bucket:
        raise UsageError("plan the recovery", config.stack, "the stack has no bucket", "Set lifeboat_objects.bucket.")
    whole, request = run, _continuing(run, request)
    run, alone = meant(run, request.bucket)
    config = run.config
    by_time = choose.reach(run)
    sources = Sources(run, "objects", request.identity, request.before, accept=request.accept, reach=by_time)
    request = replace(request, identity=sources.identity)
    log("assessing the bucket")
    reference = reference_of(sources, alone)
    seen = assess.assess(
        run, reference, choose.older(sources, reference), instead=choose.instead(sources, reference),
        whole=not request.bucket, log=log,
    )  # fmt: skip
    lost = ""
    if seen.refused and request.method != "rebuild":
        lost = identities.needed(run)
        if not lost:
            raise refusal(config, seen.refused, seen.remedy)
        seen = replace(seen, condition=DAMAGED, findings=(lost,), refused="")
    entry, chosen, passed_over = choose.choose(config, sources, request, alone, _only_additional(seen, request))
    counting = _Counting(run, _points(config, chosen, request), request, seen, log)
    needed, why = _needed(counting)
    counts, unlike = counting.total([chosen]), {} if needed else _unlike(counting)
    mode: Mode = "none"
    fresh_key, no_key = _NO_KEY
    back: tuple[str, ...] = ()
    if needed:
        mode = _mode(config, seen, request.method)
        if request.bucket and mode != "fill":
            raise _of_the_whole_store(config, seen, request)
        fresh_key, no_key = _fresh_key(run, mode)
        back = _back(counting, mode, unseen=bool(lost or seen.emptied or choose.unfinished_of(config)))
        counts = counting.total(counting.count(counting.returning(back)))
        _require(run, chosen, request, counts, mode)
    elif unlike:
        needed, mode, back = True, "settings", tuple(name for name in unlike if name)
        why = f"not as in {chosen.id}: {'; '.join(text for words in unlike.values() for text in words)}"
    elif left := recovery_state.interrupted(config, RECOVERING_OBJECTS):
        needed, mode, why = True, "reopen", left
    seen, why = _with_rows(seen, why, needed)
    service = config.objects.service
    running = list(config.application.writers) or (stack.dependants(service) if service else [])
    writers = recovery_state.with_stopped(config, running)
    now = datetime.now(timezone.utc)
    given = counting.returning(back) if mode not in ("none", "reopen", "settings") else []
    uncarried = [gap for point in given for gap in point.held_bucket.not_carried]
    rest, unlisted, in_store = _rest(whole, config, seen, present(entry.manifest).detailed(ObjectsDetails), mode, back)
    lacks = _lacking(config, sources, entry, request, in_store)
    rest = _copied(run, rest, request) if mode == "rebuild" else rest
    made = Plan(
        needed=needed,
        condition=seen.condition,
        findings=seen.findings,
        unchecked=(*seen.unchecked, *unlisted),
        warnings=(
            *sources.notes,
            *seen.warnings,
            *_warnings(run, sources.entries, entry, counts),
            *lacks.warnings(in_store),
            *(identities.warnings(run) if lost or mode in ("start", "rebuild") else ()),
            *_of_fresh_key(fresh_key),
            *(f"{gap.what}: {gap.why}" for gap in uncarried),
            *_rights(run, seen),
            *(recovery_state.warnings_of_unanswered(run.config, answer.PATIENCE) if needed else ()),
            *no_key,
        ),
        why=why,
        asked=request.explicit,
        mode=mode,
        unreadable=seen.unreadable,
        backup={**entry.as_dict(now), "details": _told_of(entry, chosen)},
        location=sources.where(entry),
        recovery_point=sources.point,
        passed_over=tuple(passed_over),
        accepted=sources.accepted,
        service=service,
        writers=() if mode == "settings" else tuple(writers),
        stamp=clock.stamp(now),
        target=config.objects.bucket,
        target_seconds=config.target(OBJECT_STORAGE),
        prefix=request.prefix,
        exact=request.exact,
        partial=request.partial,
        state=request.state,
        counts=Difference(counts.gone, counts.differ, counts.extra, counts.later),
        steps=(),
        buckets=(Bucket(config.objects.bucket, "untouched" if mode in ("none", "reopen") else "restored", why), *rest),
        untested=(
            *(
                Untested(several("bucket", names), why)
                for (action, why), names in _alike(rest)
                if action != "copied" and (action == "quarantined" or why in (NOWHERE, EXCLUDED))
            ),
            *uncarried,
            *(lacks.untested(in_store or () if mode == "fill" else ()) if given else ()),
        ),
        newer=tuple(name for name in (*lacks.newer, *lacks.missing) if not request.state or name in seen.additional),
        bucket=request.bucket,
        additional=back,
        asks=_asks(rest, mode, request),
        rows_without=seen.rows_without,
        held_by=seen.held_by,
        settings=request.bucket_settings,
        aside=request.other_buckets == "aside",
        instant=choose.instant_text(chosen, request.instant),
    )
    _require_room(run, made, counts.bytes)
    return replace(made, steps=tuple(_steps(made, entry.id, run, _locked(given)))) if needed else made


def _only_additional(assessment: Assessment, request: Request) -> tuple[str, ...]:
    """Return the additional buckets if nothing else is wrong and no state was requested."""
    return assessment.additional if assess.only_others(assessment) and not request.explicit else ()


def _lacking(
    config: Config, sources: Sources, entry: Entry, request: Request, in_store: Optional[frozenset[str]]
) -> lacking.Lacking:
    """Nothing where one bucket is meant, or a part of it."""
    if request.bucket or request.prefix:
        return lacking.Lacking(entry.id)
    return lacking.find(config.objects, sources.entries, entry, in_store)


def _locked(points: Sequence[Point]) -> list[str]:
    """The step that gives objects their locks back; after it they cannot be removed."""
    held = [point.held_bucket.properties for point in points if point.held_bucket.properties]
    retained, held_back = sum(one.retained for one in held), sum(one.legal_holds for one in held)
    said = [f"the retention of {retained} objects"] if retained else []
    said += [f"the legal hold of {held_back} objects"] if held_back else []
    return [f"restore: {' and '.join(said)}, where it still lasts"] if said else []


def _with_rows(assessment: Assessment, why: str, needed: bool) -> tuple[Assessment, str]:
    """A bucket is not healthy while rows have no object, as status says; what no backup has cannot be restored."""
    if not assessment.lacking or assessment.condition != HEALTHY:
        return assessment, why
    unchecked = tuple(thing for thing in assessment.unchecked if thing not in assessment.lacking)
    assessment = replace(assessment, condition=DAMAGED, findings=assessment.lacking, unchecked=unchecked)
    return assessment, why if needed else _NOWHERE_TO_BE_HAD


def _fresh_key(run: Opened, mode: Mode) -> tuple[Optional[buckets.Key], tuple[str, ...]]:
    """The key for a fresh store, and what is to be said where there is none. Of a store that is only down nobody knows
    yet whether it must be rebuilt."""
    if mode not in ("start", "rebuild"):
        return _NO_KEY
    try:
        key = buckets.for_fresh(run)
        return (key if mode == "rebuild" else None), ()
    except UsageError as exc:
        if mode == "rebuild":
            raise
        return None, (f"should it not come up, nothing is moved: {exc.cause}. {exc.remedy.partition(', then')[0]}",)


def _of_fresh_key(key: Optional[buckets.Key]) -> list[str]:
    return [f"a fresh store does not know the stack's own key: it is filled with {key.source}"] if key else []


def _points(config: Config, chosen: Point, request: Request) -> list[Point]:
    """The buckets that a recovery is about: the chosen one, and those beside it that the configuration still wants."""
    return [chosen, *([] if request.bucket or request.prefix else choose.beside(config, chosen))]


class _Counting:
    """What stands between the buckets that a recovery is about and the point, each counted once."""

    def __init__(
        self, run: Opened, points: Sequence[Point], request: Request, assessment: Assessment, log: Log
    ) -> None:
        self.run, self.points, self.request, self.assessment, self._log = run, points, request, assessment, log
        self._counts: dict[str, Counts] = {}

    def returning(self, back: Sequence[str]) -> list[Point]:
        """The first, and those of the others that are restored."""
        return [point for point in self.points if point is self.points[0] or point.bucket in back]

    def count(self, points: Sequence[Point]) -> Sequence[Point]:
        """See to it that these are counted. One beside the first that cannot be compared counts as gone."""
        rest = [point for point in points if point.bucket not in self._counts]
        here = buckets.addressed(self.run) if any(point is not self.points[0] for point in rest) else self.run
        looked = replace(self.assessment, condition=DOWN if self.assessment.condition == DOWN else DAMAGED)

        def each(point: Point) -> Counts:
            if point is self.points[0]:
                self._log(f"comparing with {point.id} and the vault")
                return _count(self.run, point, self.request, self.assessment, self._log)
            return _count(buckets.alone(here, point.bucket), point, self.request, looked, self._log)

        self._counts.update(zip((point.bucket for point in rest), throttle.mapped(each, rest)))
        return points

    def total(self, points: Sequence[Point]) -> Counts:
        """Of those of them that were counted."""
        total, lacking = Counter[str](), list[str]()
        for point in points:
            if counts := self._counts.get(point.bucket):
                total.update({name: number for name, number in vars(counts).items() if name != "lacking"})
                of = "" if point is self.points[0] else f"{named(point.bucket)}: "
                lacking += [of + counts.lacking] if counts.lacking else []
        return Counts(**total, lacking="; ".join(lacking))


def _needed(counting: _Counting) -> tuple[bool, str]:
    """Whether there is anything to do, and why."""
    run, chosen, request, seen = counting.run, counting.points[0], counting.request, counting.assessment
    last = recovered(run.config, chosen.bucket)
    same = last if last and last.prefix in ("", request.prefix) else None
    judged = HEALTHY if _of_newer_alone(chosen, request, seen) else seen.condition
    needed, why = recovery_state.needed("bucket", judged, request.state, request.force, same)
    if needed or request.prefix or request.state or request.exact or choose.unfinished_of(run.config):
        counting.count([chosen])
    counts = counting.total([chosen])
    only = {*seen.findings} <= {*seen.lacking}
    if seen.held_by and only and not request.explicit and not counts.gone + counts.differ:
        raise _of_an_older_backup(run.config, seen)
    differing = "" if needed else _differing(counting)
    needed, why = (True, differing) if differing else (needed, why)
    unfinished = choose.unfinished_of(run.config)
    return (True, _continued(unfinished, why)) if unfinished else (needed, why)


def _of_newer_alone(chosen: Point, request: Request, assessment: Assessment) -> bool:
    """A state was named, and what is wrong is with buckets that it does not hold: a reason to restore none of it."""
    held = {point.bucket for point in chosen.points()[1:]}
    return bool(request.state) and assess.only_others(assessment) and not held & {*assessment.additional}


def _continuing(run: Opened, request: Request) -> Request:
    unfinished = choose.unfinished_of(run.config)
    return request.continued(unfinished, condition.answers(run).condition == HEALTHY) if unfinished else request


def _continued(unfinished: Unfinished, why: str) -> str:
    """Why there is something to do while a recovery has not ended, whatever is seen of the bucket: only a comparison of
    all that it was to bring back ends it."""
    of = f" of {unfinished.backup}" if unfinished.backup else ""
    since = f" that began at {unfinished.since}" if unfinished.since else ""
    return f"the recovery{of}{since} has not ended; {why}"


def _told_of(entry: Entry, chosen: Point) -> dict[str, object]:
    """What the plan tells of the backup's details: of one bucket alone, that one's."""
    kept = ("objects", "bytes", "consistency", "database_backup", "versioned", "settings")
    details = {key: value for key, value in present(entry.manifest).details.items() if key in kept}
    own = vars(chosen.held_bucket) if chosen.bucket else {}
    return {**details, **{key: value for key, value in own.items() if key in details}}


def _unlike(counting: _Counting) -> dict[str, list[str]]:
    """The settings that are not those of the point, where these were asked for, by bucket."""
    asked = counting.request.bucket_settings and counting.assessment.condition == HEALTHY
    return put_back.assess(counting.run, counting.points) if asked else {}


def _differing(counting: _Counting) -> str:
    """Why healthy buckets are not what was asked for, although they may have been recovered to that before. The others
    are looked at where the first is, by their listings."""
    request, (chosen, *others) = counting.request, counting.points

    def differing(point: Point, where: str) -> list[str]:
        counts = counting.total([point])
        changed = counts.gone + counts.differ if request.explicit else 0
        told = [f"{changed} objects{where} are not those of {point.id}"] if changed else []
        if request.exact and counts.extra:
            told.append(f"{counts.extra} objects{where} are not in {point.id}, and exact was given")
        return told

    words = differing(chosen, f" below {request.prefix}" if request.prefix else "")
    if request.state and not request.prefix:
        have = s3_settings.read(buckets.source(counting.run))
        words += [s3_settings.describe(name, chosen.settings, have) for name in s3_settings.lost(chosen.settings, have)]
    if words or not (request.explicit or request.exact):
        return "; ".join(words)
    of_each = (differing(point, f" of the bucket {named(point.bucket)}") for point in counting.count(others))
    return "; ".join([text for some in of_each for text in some][:SHOWN])


def meant(run: Opened, bucket: str) -> tuple[Opened, str]:
    """The stack as if it had the bucket alone that was asked for, and its name; the whole, and no name, where that is
    the application's or none was named."""
    other = "" if bucket == run.config.objects.bucket else bucket
    return (buckets.alone(run, other), other) if other else (run, "")


def _of_the_whole_store(config: Config, assessment: Assessment, request: Request) -> UsageError:
    said = "; ".join(assessment.findings[:2]) or "method=rebuild was given"
    return UsageError(
        "recover one bucket", f"{request.bucket} of {config.stack}", f"that needs another server: {said}",
        "Leave -e bucket= away: a server that is started again or rebuilt has all buckets of the store.",
    )  # fmt: skip


def _back(counting: _Counting, mode: Mode, *, unseen: bool) -> tuple[str, ...]:
    """The other buckets of the backup that are restored: all, or into a server that lives those that are wrong.

    unseen: it did not let us look at them. A recovery does, and leaves what is whole.
    """
    request = counting.request
    if request.other_buckets == "aside":
        return ()
    whole = request.explicit or request.exact or unseen or mode in ("start", "rebuild")
    return tuple(
        point.bucket for point in counting.points[1:] if whole or point.bucket in counting.assessment.additional
    )


def _asks(rest: Sequence[Bucket], mode: Mode, request: Request) -> tuple[str, ...]:
    """What a rebuild needs leave for. Where none was planned, for every other bucket: the plan says that none moves."""
    if mode == "fill":
        return tuple(one.name for one in rest)
    aside = [one.name for one in rest if one.action == "quarantined"]
    return () if request.other_buckets or mode not in ("start", "rebuild") else tuple(aside)


def _of_an_older_backup(config: Config, assessment: Assessment) -> NotFoundError:
    return NotFoundError(
        "choose a backup", config.stack, f"{assessment.findings[0]}; the newest good backup has none of these",
        "lifeboat.dr.reconcile copies only these back, from the vault's older versions. For the whole bucket as it was"
        f" then: -e recovery_point={assessment.held_by}.",
    )  # fmt: skip


def unasked(config: Config, names: Sequence[str]) -> UsageError:
    """A rebuild would move aside what it does not bring back."""
    return UsageError(
        "rebuild the object store", config.stack, f"it would put {several('bucket', names)} aside, and nobody said so",
        f"Nothing was moved. Look at the plan of -e method=rebuild, then say {_CHOICE}.",
    )  # fmt: skip


def refusal(config: Config, cause: str, remedy: str = "") -> UsageError:
    """An endpoint that lives and does not let us in may hold all its objects. remedy: of what it said; where there is
    none, what is wrong is most likely our key."""
    return UsageError(
        "look at the bucket", f"{config.objects.bucket} of {config.stack}", cause,
        f"{remedy} Nothing was found to be damaged, so nothing is rebuilt." if remedy else
        "Correct lifeboat_objects or lifeboat_secrets (objects_access_key, objects_secret_key) and deploy again."
        " Only if its data is lost, and with it the key: -e method=rebuild, which puts what is there aside.",
    )  # fmt: skip


def _rest(
    run: Opened, target: Config, assessment: Assessment, details: ObjectsDetails, mode: Mode, back: Sequence[str]
) -> tuple[tuple[Bucket, ...], tuple[str, ...], Optional[frozenset[str]]]:
    """The store's other buckets, and what is not known of them. Where it does not tell, those of the backup's time.
    Last: the names of all that it has, None where it does not tell.

    back: those that are restored.
    """
    own = target.objects.bucket
    held = [one.name for one in details.buckets if one.name != own]
    found = Store((), unlisted="it does not answer") if assessment.condition == DOWN else store.read_store(run, held)
    unprotected, excluded = (*found.protected, *found.unprotected), found.excluded
    unknown: tuple[str, ...] = ()
    vaults = found.vaults
    names = frozenset((*found.protected, *found.unprotected, *found.excluded, *found.vaults))
    in_store = None if found.unlisted else names
    if found.unlisted:
        unprotected, excluded = (*details.missing, *(details.unprotected or ())), details.excluded
        vaults = details.vaults
        listed = details.unprotected is not None and not details.unlisted
        what = "which buckets were made since the backup" if listed else "which other buckets the store has"
        unknown = (f"{what}: {found.unlisted}",)
    moved = mode in ("start", "rebuild")
    action: Action = "quarantined" if moved else "untouched"
    kept = "others=aside was given" if moved else "nothing is wrong with it" if mode == "fill" else "as it is"
    rest = [
        Bucket(named(name), "restored" if name in back else action, OF_THE_BACKUP if name in back else kept)
        for name in held
        if in_store is None or name in in_store or name in back
    ]
    rest += [
        Bucket(named(name), "untouched", NOT_THERE)
        for name in held
        if not (in_store is None or name in in_store or name in back)
    ]
    known = {*held, own}
    for some, why in ((unprotected, NOWHERE), (excluded, EXCLUDED), (vaults, A_VAULT)):
        rest += [
            Bucket(named(name), action, NOT_IN_IT if name in details.missing else why)
            for name in some
            if name not in known
        ]
    return tuple(rest), unknown, in_store


def _copied(run: Opened, rest: Sequence[Bucket], request: Request) -> tuple[Bucket, ...]:
    """Which of them can be copied out of the server before it is rebuilt, and are where that was asked for."""
    if request.other_buckets == "aside":
        return tuple(rest)
    action: Action = "copied" if request.other_buckets == "restore" else "quarantined"

    def measure(item: Bucket) -> Bucket:
        if (
            item.action != "quarantined" or item.why == A_VAULT
        ):  # copies of its newest versions would be none to recover
            return item
        try:
            found = [version.size for version in bucket.objects(buckets.source(run).sibling(item.name))]
            return replace(item, action=action, objects=len(found), bytes=sum(found))
        except LifeboatError as exc:
            return replace(item, why=f"{item.why}, and it cannot be copied out: {exc.cause}")

    return tuple(throttle.mapped(measure, rest))


def _alike(rest: Sequence[Bucket]) -> list[tuple[tuple[Action, str], list[str]]]:
    """Their names by what happens to them, and why."""
    found: dict[tuple[Action, str], list[str]] = {}
    for one in rest:
        found.setdefault((one.action, one.why), []).append(one.name)
    return list(found.items())


def _mode(config: Config, assessment: Assessment, method: str) -> Mode:
    ours = bool(config.objects.service)
    attempted = "plan the recovery"
    if assessment.condition == DOWN and not ours:
        remedy = "Bring the endpoint back, then run this again; or set lifeboat_objects.service."
        raise UsageError(
            attempted, config.stack, f"{assessment.findings[0]}, and no service of the stack serves it", remedy
        )
    if method == "rebuild" and not ours:
        raise UsageError(attempted, config.stack, "method=rebuild needs lifeboat_objects.service", "Use method=fill.")
    if method == "fill" and assessment.condition == DOWN:
        raise UsageError(attempted, config.stack, "method=fill needs a server that answers", "Leave method at auto.")
    if method in _ASKED:
        return _ASKED[method]
    return (
        "start"
        if assessment.condition == DOWN
        else "rebuild"
        if ours and (assessment.emptied or assessment.ruined)
        else "fill"
    )


def _count(run: Opened, chosen: Point, request: Request, assessment: Assessment, log: Log) -> Counts:
    """Hold the point against the live bucket, where there is one, and against what the vault still has."""
    with Inventory(share=throttle.SIDE_BY_SIDE if chosen.bucket else 1) as inventory:
        try:
            if assessment.condition == DOWN or assessment.emptied:
                raise NotFoundError("compare the bucket", run.config.objects.bucket, "there is none to be seen")
            compare.hold(run, inventory, buckets.source(run), chosen, prefix=request.prefix, log=log)
        except LifeboatError as exc:
            if assessment.condition == HEALTHY:
                raise
            log(f"{run.config.objects.bucket} cannot be compared, all of it counts as gone: {exc.cause}")
            compare.all_gone(inventory, chosen, prefix=request.prefix)
        vault, wanted = buckets.vault(run), to_restore(keep=not request.explicit)
        inventory.add_held(bucket.versions(vault, request.prefix))
        inventory.add_unlisted(vault, wanted)
        return Counts(
            gone=inventory.counted(f"{GONE} AND {wanted}")[0],
            differ=inventory.counted(f"{DIFFERS} AND {wanted}")[0],
            extra=inventory.counted(UNKNOWN_TO_POINT)[0],
            later=inventory.counted(f"{UNKNOWN_TO_POINT} AND l.modified > ?", chosen.at.timestamp())[0],
            bytes=int(inventory.value(f"SELECT coalesce(sum(p.size), 0) FROM point p WHERE {wanted}")),
            objects=inventory.count("point"),
            lacking=inventory.summary(f"point p WHERE {wanted} AND {UNHELD}"),
        )


def _require(run: Opened, chosen: Point, request: Request, counts: Counts, mode: str) -> None:
    """What would stop the recovery half-way is said now."""
    config = run.config
    attempted = "plan the recovery"
    if same_server(run) and config.vault.objects_bucket == config.objects.bucket:
        raise UsageError(
            attempted, config.objects.bucket, "the vault's bucket is the very bucket that is to be recovered",
            "Correct lifeboat_vault.objects_bucket.",
        )  # fmt: skip
    if mode in ("start", "rebuild") and same_server(run):
        raise UsageError(
            attempted, config.vault.endpoint_url,
            f"the vault is served by {config.objects.service} too: it would be put aside with the bucket",
            "Start the service by hand if it is only stopped. Keep a vault on another machine.",
        )  # fmt: skip
    if counts.lacking and not request.partial:
        raise IntegrityError(
            attempted, chosen.id, f"the vault no longer has {counts.lacking} of {counts.objects} objects",
            "Choose a newer recovery point (`lifeboat list`); or -e partial=true recovers all the others.",
        )  # fmt: skip
    if request.prefix and not counts.objects:
        remedy = "Correct the prefix; it is not a pattern."
        raise NotFoundError(attempted, chosen.id, f"it has no object below {request.prefix!r}", remedy)


def _require_room(run: Opened, plan: Plan, needed: int) -> None:
    """Is there room for what is copied, and for what is copied out of the old server first and back?

    needed: bytes that come from the vault.
    """
    config = run.config
    if not config.objects.service or not plan.needed:
        return
    copied = sum(one.bytes for one in plan.copied)
    try:
        data = objects_mount(config, run.runtime).path
        sizes = {data: needed + copied}
        if copied:
            state = config.state if config.state.is_dir() else config.state.parent
            sizes = {state: copied, **({data: needed + 2 * copied} if _device(state) == _device(data) else sizes)}
        free = {path: filesystem.free(path) for path in sizes}
    except (LifeboatError, OSError):
        return  # a volume that is gone: the fresh one is the engine's matter
    for path, size in sizes.items():
        if free[path] < size * 1.1:
            told = f"{human(free[path])} free, about {human(size * 1.1)} needed"
            remedy = "Free space there: nothing was changed yet."
            remedy += f" Or leave what is in no backup aside: -e others=aside ({_sum(plan.copied)})." if copied else ""
            raise SpaceError("plan the recovery", str(path), told, remedy)


def _device(path: Path) -> int:
    return path.stat().st_dev


def same_server(run: Opened) -> bool:
    """Is the vault at the address where the stack's own service listens?"""
    return store.same_server(run, run.config.vault.endpoint_url, run.config.vault.region)


def _rights(run: Opened, assessment: Assessment) -> list[str]:
    """What the key of a store that answers may not do, and the next backup needs."""
    denied = [] if assessment.condition == DOWN else endpoints.denied(run)
    lines = [f"the key may not {', '.join(denied)}, which every backup needs: see docs/mirror.md"] if denied else []
    return [*lines, *endpoints.recovery_denied(run.config)]


def _warnings(run: Opened, entries: list[Entry], chosen: Entry, counts: Counts) -> list[str]:
    less, fuller = catalog.shrunk(entries, chosen.id)
    lines = [f"{less}; to use that one: -e recovery_point={fuller}"] if less else []
    if counts.lacking:
        lines.append(f"the vault no longer has {counts.lacking}: they stay lost (partial=true)")
    if same_server(run):
        lines.append("the vault is at the stack's own endpoint: what burns one burns both")
    details = present(chosen.manifest).detailed(ObjectsDetails)
    lines += [f"the bucket {named(name)} is not in {chosen.id}: {why}" for name, why in details.missing.items()]
    if details.primary.consistency == "eventual":
        lines.append("the backup is not of one instant with the database: see what reconciling says")
    unheld = sum(held.in_no_backup for held in details.buckets)
    return lines + ([f"{unheld} objects were never in the vault and cannot come back"] if unheld else [])


def _steps(plan: Plan, backup: str, run: Opened, locked: Sequence[str]) -> list[str]:
    config, service, counts = run.config, plan.service, plan.counts
    if plan.mode == "settings":
        return [
            f"restore: {plan.why}; what is replaced is kept on this host",
            "verify: every setting that is on record; no object is touched, and nothing is stopped",
            "reopen: see that the application is well, ask its endpoints",
            "record: evidence with the time of each phase",
        ]
    where = f" below {plan.prefix}" if plan.prefix else ""
    copied = f"{counts.gone} missing and {counts.differ} other objects{where}"
    what = copied if plan.mode == "fill" else f"every object{where} that is missing or wrong"
    out = [several("bucket", [one.name for one in plan.copied]), _sum(plan.copied)] if plan.copied else []
    if plan.mode == "rebuild" and counts.extra and not plan.exact:
        out.append(f"{counts.extra} objects that the point does not know")
    then = [
        *identities.step(run),
        f"restore: {what}, from {config.vault.objects_bucket} in the vault, then the bucket's settings that are"
        f" {'not as they were' if plan.settings else 'lost'}",
        *([f"restore: likewise {several('bucket', plan.additional)}"] if plan.additional else []),
        *([f"restore: put back what was copied out of the old {service}, each bucket with its check"] if out else []),
        *([f"restore: put {counts.extra} objects that the point does not know aside"] if plan.exact else []),
        *([f"verify: restart {service}, so that only what is on its disk counts"] if service else []),
        f"verify: every object{where} against {backup}, metadata, tags, settings; then rows and objects",
        *locked,
    ]
    living = [f"restart {service}, to see what is really on its disk"] if plan.unreadable and service else []
    fresh = f"; make {plan.target} with its versioning, lifecycle and policy"
    steps = recovery_state.steps(plan.mode, service, plan.writers, then, living=living, fresh=fresh)
    if out:
        steps.insert(1, f"protect: copy out of {service} what it still gives of {', '.join(out)}, to {config.state}")
    return steps


def _sum(copied: Sequence[Bucket]) -> str:
    return f"{sum(one.objects for one in copied)} objects, {human(sum(one.bytes for one in copied))}"


def recovered(config: Config, bucket: str = "") -> Optional[recovery_state.Last]:
    """The last recovery that this host completed, of the other bucket that is named; None when there was none."""
    return recovery_state.recovered(config, remembered(bucket))


def remembered(bucket: str) -> str:
    """Under what name."""
    name = f"{recovery_state.RECOVERED_OBJECTS}_{hashlib.sha256(bucket.encode()).hexdigest()[:16]}.json"
    return name if bucket else RECOVERED


def text(plan: Plan) -> list[str]:
    """The plan for a terminal, as an operator reads it before typing the confirmation."""
    backup, counts = plan.backup, plan.counts
    details = plain(backup)["details"]
    proof = f"proven {backup['proven_at']}" if backup["proven_at"] else "NOT proven by a restore"
    lines = [*([plan.instant] if plan.instant else []), *assessed(f"the bucket {plan.target}", plan)]
    lines.append(
        f"backup: {backup['id']} of {backup['taken_at']}, {details.get('objects')} objects,"
        f" {human(int(details.get('bytes') or 0))}, {proof}"
    )
    lines += [f"  it is the bucket of recovery point {plan.recovery_point}"] if plan.recovery_point else []
    lines += [f"  its listing is taken from the vault: {plan.location}"] if backup["place"] in FROM_VAULT else []
    lines += cautions(plan.warnings, plan.passed_over, plan.accepted)
    fates: dict[Action, str] = {
        "restored": "its settings are put back too" if plan.mode == "settings" else "restored too",
        "untouched": "not touched",
        "copied": "copied out of the old server first, and put back",
        "quarantined": "put aside with the data directory, and not brought back"
        if plan.mode == "rebuild"
        else "where the data directory must be put aside, they go with it and are not brought back",
    }
    for (action, why), names in _alike(plan.buckets[1:]):
        lines.append(f"  {fates[action]}: {several('bucket', names, len(names))} ({why})")
    if plan.copied:
        lines.append(f"    that is {_sum(plan.copied)}; older versions are not copied")
    if plan.asks and plan.mode in ("start", "rebuild"):
        count = f"{len(plan.asks)} bucket{'s' if len(plan.asks) > 1 else ''}"
        lines.append(f"  a rebuild would move {count} aside for good; it is not done before you say {_CHOICE}")
    if plan.mode in ("start", "rebuild") and plan.condition == DOWN:
        comes_up = "; unless it comes up when it is started, and gives it then" if plan.mode == "start" else ""
        lines.append(
            f"the server does not answer, so nothing can be copied out of it: what is in no backup, such as objects"
            f" written after {backup['taken_at']}, goes aside with the data directory and is kept there{comes_up}"
        )
    elif plan.mode == "rebuild" and plan.exact:
        lines.append(f"objects written after {backup['taken_at']} go aside with the data directory and are kept there")
    elif plan.mode == "rebuild":
        lines.append(
            f"objects written after {backup['taken_at']} that the backup does not know ({counts.extra} are listed) are"
            " copied out of the old server first, as far as it gives them, and put back; those that were changed become"
            " as they were then"
        )
    if plan.mode == "fill":
        fate = "are put into quarantine" if plan.exact else "stay as they are"
        lines.append(
            f"{counts.extra} objects that the backup does not know, {counts.later} of them written after"
            f" {backup['taken_at']}, {fate}; {counts.differ} that differ become as they were then, what they are now"
            " is kept as an older version or in a quarantine bucket"
        )
    return lines + [f"  {number}. {step}" for number, step in enumerate(plan.steps, 1)]
