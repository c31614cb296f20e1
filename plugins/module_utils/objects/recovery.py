# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The acting phases of a bucket's recovery: protect, restore and verify. What is damaged is put aside, not deleted."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, NamedTuple, Optional, TypeVar

from ..base import progress, throttle
from ..base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, Verdict, compared, ended, verdict
from ..base.clock import format_time, parse_time
from ..base.errors import IntegrityError, LifeboatError, Log, NotFoundError, UsageError, present
from ..base.text import named, several
from ..mirror import back
from ..mirror import identities as mirror_identities
from ..mirror import verify as mirror_verify
from ..mirror.back import CopiedBack
from ..mirror.listing import Point
from ..mirror.store import folded
from ..recovery import state as recovery_state
from ..recovery.protect import Protected, Protection
from ..recovery.state import RECOVERING_OBJECTS, Unfinished
from ..repository.manifest import parse
from ..repository.sources import REPOSITORY, Sources, open_place
from ..s3 import bucket as s3_bucket
from ..s3 import client as s3_client
from ..s3 import delete_bucket, error_registry
from ..s3 import settings as s3_settings
from ..s3.bucket import Bucket
from ..s3.copier import Shared
from ..s3.inventory import Inventory
from ..settings.config import Config
from ..stack import buckets
from ..stack.runtime import DataMount, Opened, ServiceState, objects_mount
from ..tools import age
from . import assess, choose, compare, condition, identities, locks, plan, proof, put_back, reconcile, spool
from .aside import Aside
from .compare import RIGHT, UNKNOWN_TO_POINT, to_restore
from .condition import Assessment

T = TypeVar("T")
SCRATCH = "lifeboat-check-"
CHECKING = "checking.json"  # the name of that bucket while it exists: a run that is killed leaves it behind
NEWER = "buckets of newer backups"
SETTLING = 60.0  # seconds that a store may take from its first answer until it finds every object


class _Protection(Protection[Assessment]):
    restore = "fill"
    mark = recovery_state.RECOVERING_OBJECTS
    marked = ("start", "rebuild", "fill")
    attempted = "start the object store"
    assessed = "the assessment compared the bucket"
    whole = "every object of the newest backup is listed, and a sample was read"
    stamp = ""
    unreadable = False
    remedy = ""
    fresh_key: Optional[buckets.Key] = None
    planned: Optional[plan.Plan] = None

    def ask(self, state: ServiceState) -> Optional[str]:
        """Whether the endpoint says that the bucket is there. What it refuses is for the operator, not for us."""
        if not state.running or state.health == "starting":
            return ""
        try:
            s3_settings.exists(buckets.source(self.run))
            return None
        except LifeboatError as exc:
            if isinstance(exc, UsageError) and identities.revive(self.run, log=self.log):
                return ""
            if condition.fresh(self.run, exc):
                self.log("it is a fresh store, which does not know the stack's own key")
                return None
            if isinstance(exc, UsageError):
                raise
            if cause := error_registry.cause_of(exc):
                raise plan.refusal(self.config, exc.cause, cause.remedy) from exc
            return exc.cause

    def to_bring_back(self) -> Unfinished:
        return _unfinished(present(self.planned))

    def initialise(self, mount: DataMount) -> None:
        del mount
        buckets.use(self.run, self.fresh_key)

    def refused(self) -> str:
        told = condition.ended(self.run)
        self.remedy = told.remedy if told else ""
        return told.cause if told else ""

    def assess(self) -> Assessment:
        """A store that has just been started may list its objects long before it finds their bytes: until it does."""
        sources = Sources(self.run, "objects")
        reference = choose.reference_of(sources)
        instead = choose.instead(sources, reference)
        deadline = time.monotonic() + min(self.config.application.timeout, SETTLING)
        while True:
            seen = assess.assess(self.run, reference, instead=instead, log=self.log)
            self.remedy = seen.remedy
            wrong = seen.condition == recovery_state.DOWN or seen.unreadable or seen.ruined
            if not wrong or seen.refused or time.monotonic() > deadline:
                return seen
            self.log(f"it does not serve all it lists yet: {'; '.join(seen.findings[:1])}")
            time.sleep(3)

    def refusal(self, response: str) -> UsageError:
        return plan.refusal(self.config, response, self.remedy)

    def data_mount(self) -> DataMount:
        return objects_mount(self.config, self.stack)

    def beyond_repair(self, assessment: Assessment) -> bool:
        return super().beyond_repair(assessment) or assessment.emptied or assessment.ruined or not self._takes_objects()

    def before_rebuild(self) -> None:
        """A fresh store must know a key that is known here; from then on that one is used.

        A server that answers may have identities that no export has yet; one that lost them replaces none. So it is
        with its buckets. What an operator did not agree to move stays where it is.
        """
        planned = present(self.planned)
        if planned.asks:
            raise plan.unasked(self.config, planned.asks)
        self.fresh_key = buckets.for_fresh(self.run)
        mirror_identities.take(self.run, f"{self.stamp}, before the rebuild", override=False, log=self.log)
        if self.stack.state(self.service).running:
            point = _point(self.run, str(planned.backup["place"]), str(planned.backup["id"]), "", planned.state)
            spool.take(
                self.run, self.stamp, _points(point, planned.additional), whole=not planned.aside,
                exact=planned.exact, prefix=planned.prefix, log=self.log,
            )  # fmt: skip

    def fitting(self, mode: str) -> str:
        """Filling needs a server that keeps what it is given. Started again it shows what is really on its disk."""
        if self.service and self.unreadable:
            self.log(f"starting {self.service} again, to see what is really on its disk")
            try:
                self.restart()
            except LifeboatError as exc:
                if why := self.refused():
                    raise self.refusal(why) from exc
                self.log(f"it does not come up again: {exc.cause}")
                return "rebuild"
        return mode if not self.service or self._takes_objects() else "rebuild"

    def restart(self) -> None:
        """Stop and start the object store; returns when it answers."""
        self.stack.stop([self.service], timeout=120)
        self.stack.start([self.service], timeout=120)
        self.wait()

    def require_rights(self, names: Sequence[str]) -> None:
        """Before anything is stopped: a key that may make no bucket cannot bring back those that are missing."""
        source, missing = buckets.source(self.run), list[str]()
        for name in names:
            with contextlib.suppress(LifeboatError):  # what does not let itself be looked at is met later
                missing += [] if s3_settings.exists(source.sibling(name)) else [name]
        try:
            if missing:
                self._try_server()
        except UsageError as exc:
            raise UsageError(
                "recover the objects",
                self.config.stack,
                f"{several('bucket', missing)} {'is' if len(missing) == 1 else 'are'} missing, and the key may make no"
                f" bucket ({exc.cause})",
                "Let lifeboat_objects' key make buckets (s3:CreateBucket), or make these by hand; then run the same"
                " command again. Nothing was changed.",
            ) from exc
        except LifeboatError as exc:
            self.log(f"whether the key may make a bucket is not known: {exc.cause}")

    def _takes_objects(self) -> bool:
        """Does the server keep what it is given? Raises what a fresh server would not cure."""
        try:
            return self._try_server()
        except UsageError as exc:
            self.log(f"the key may make no bucket to try the server with ({exc.cause}); it is taken to be fit")
            return True
        except LifeboatError as exc:
            if cause := error_registry.cause_of(exc):
                raise plan.refusal(self.config, exc.cause, cause.remedy) from exc
            self.log(f"it takes no objects: {exc.cause}")
            return False

    def _try_server(self) -> bool:
        """Write an object into a bucket of our own, read it, remove both."""
        source = buckets.source(self.run)
        name = f"{SCRATCH}{self.stamp.replace('_', '-')}"
        client, body = source.client, name.encode()
        left = recovery_state.remembered(self.config, CHECKING, str)
        if left and left.startswith(SCRATCH):
            # It may never have been made.
            with (
                contextlib.suppress(LifeboatError),
                s3_client.translated_errors("remove the bucket of a check", source.url),
            ):
                client.delete_object(Bucket=left, Key="check")
                delete_bucket.delete_bucket(replace(source, name=left), confirm=left)
        recovery_state.keep(self.config, CHECKING, json.dumps(name))
        with s3_client.translated_errors("try the server", source.url):
            client.create_bucket(Bucket=name)
            try:
                client.put_object(Bucket=name, Key="check", Body=body)
                took = bool(client.get_object(Bucket=name, Key="check")["Body"].read(len(body) + 1) == body)
                client.delete_object(Bucket=name, Key="check")
            finally:
                delete_bucket.delete_bucket(replace(source, name=name), confirm=name)
        recovery_state.unmark(self.config, CHECKING)
        return took


def protect(run: Opened, planned: plan.Plan, *, log: Log) -> Protected:
    """What Protection.protect() does, for the stack's object store."""
    work = _Protection(run, run.config.objects.service, log)
    work.stamp, work.unreadable, work.planned = planned.stamp, planned.unreadable, planned
    if planned.mode == "settings":
        return Protected(planned.mode)
    if planned.mode == "rebuild" and planned.asks:
        raise plan.unasked(run.config, planned.asks)
    if planned.mode == work.restore:
        work.require_rights([planned.target, *planned.additional])
    left = spool.waiting(run.config)  # before this recovery marks itself as one that has not ended
    if not left:
        spool.settle(run.config)
    checks = _returned(run, left, log) if planned.mode == "reopen" else []
    done = work.protect(
        planned.mode, planned.writers, requested=planned.asked, unchecked=planned.unchecked, stamp=planned.stamp
    )
    if done.mode == "started" and planned.mode != "reopen":
        checks = _returned(run, left, log)
    return replace(done, checks=(*done.checks, *checks))


def _unfinished(planned: plan.Plan) -> Unfinished:
    return Unfinished(
        str(planned.backup["id"]), requested=planned.asked, state=planned.state, prefix=planned.prefix,
        bucket=planned.bucket, exact=planned.exact, partial=planned.partial, additional=planned.additional,
        stamp=planned.stamp,
    )  # fmt: skip


def _returned(run: Opened, folders: Sequence[Path], log: Log) -> list[Check]:
    """Into a store that is whole: what a recovery copied out of the old server that did not end."""
    return spool.Return(run, folders, log).bring().checks()


def _point(run: Opened, location: str, identity: str, bucket: str, state: str) -> Point:
    """state: that was asked for; where it is a time which the changes reach, the bucket at that instant."""
    repo = open_place(run, location)
    manifest = parse(repo.manifest("objects", identity), component="objects", expected_id=identity)
    point = Point(repo, manifest, bucket, age.keys(run.config, run.key))
    return choose.instants(run).as_of(point, location, choose.instant_of(state))


@dataclass(frozen=True)
class Restored:
    """What restore_objects() did, and what it proved."""

    id: str
    checks: tuple[Check, ...]
    copied: CopiedBack
    quarantine_bucket: str
    settings: tuple[str, ...]
    reconciled: Mapping[str, object]
    seconds: Mapping[str, float]


def restore_objects(
    run: Opened, identity: str, *, location: str = REPOSITORY, stamp: str, prefix: str = "", exact: bool = False,
    partial: bool = False, fresh: bool = False, requested: bool = True, state: str = "", sample: int = 0,
    accept: bool = False, bucket: str = "", additional: Sequence[str] = (), bucket_settings: str = "",
    newer: Sequence[str] = (), log: Log,
) -> Restored:  # fmt: skip
    """Bring the bucket to a backup, and prove it. Raises IntegrityError when objects cannot be made what they were.

    location: where its listing is, the repository or the vault's copy of it. requested: a state was named, so that not
    even what the database knows to be right now is left. sample: how many objects are read back, 0 for all. accept:
    objects that are not what they were stay as failed checks, and end nothing. bucket: this one of the store's in place
    of the application's. additional: these of the same backup too; what is wrong with one of them is a failed check.
    bucket_settings: `restore` puts back those that differ, too; `only` does nothing else. newer: buckets that newer
    backups hold and this one does not; a check says whether the store has them.
    """
    run, alone = plan.meant(run, bucket)
    config = run.config
    when = format_time(parse_time(state)) if state and "T" in state else state
    point = _point(run, location, identity, alone, state)
    points = _points(point, additional)
    problem = "; ".join(filter(None, throttle.mapped(Point.problem, points)))
    if problem:
        raise IntegrityError("restore the objects", identity, problem, "Choose another (`lifeboat list`).")
    if bucket_settings == "only":
        return _settings_alone(run, points, stamp, log)
    done = Unfinished(
        identity, requested=requested, state=state, prefix=prefix, bucket=alone, exact=exact, partial=partial,
        additional=tuple(additional), empty=fresh, stamp=stamp,
    )  # fmt: skip
    earlier = choose.unfinished_of(config)
    recovery_state.mark(config, RECOVERING_OBJECTS, done)
    known = identities.bring(run, log=log)  # first: without them the stack's own key may be unknown
    own_key = _key_for(run, log)
    clock = [time.monotonic()]
    how = _How(
        stamp, fresh, requested, exact, partial, sample, bucket_settings, Shared(at_once=config.objects.transfers),
        earlier is not None and earlier.stamp != stamp,
    )  # fmt: skip
    with Inventory() as inventory:
        store = _Store(run, points, inventory, prefix, how, log)
        own = store.bring()
        copies = spool.Return(run, [] if alone else spool.waiting(config), log).bring()
        clock.append(time.monotonic())
        if config.objects.service:
            log(f"starting {config.objects.service} again: only what is on its disk counts")
            _Protection(run, config.objects.service, log).restart()
        checks = store.prove(own, accept=accept)
        checks += [*copies.checks(sample), *put_back.check_replaced(run, stamp)]
        checks += [*identities.checks(run, known, fresh=fresh, created=own.created, log=log), *own_key]
        reconciled, report = _rows(run, inventory, point, prefix)
    clock.append(time.monotonic())
    checks += [*_ended(config, done, store.incomplete, accept=accept), *_newer(run, newer, identity)]
    found = {"id": identity, "at": format_time(datetime.now(timezone.utc)), "asked": when, "prefix": prefix}
    recovery_state.keep(config, plan.remembered(alone), json.dumps(found))
    return Restored(
        id=identity,
        checks=(*checks, *reconciled),
        copied=store.added(replace(own.copied, failed=own.copied.failed[:20])),
        quarantine_bucket=", ".join(filter(None, [own.aside, *store.aside])),
        settings=own.applied.changed,
        reconciled=report.as_dict() if report else {},
        seconds={name: round(end - start, 2) for name, start, end in zip(("restore", "verify"), clock, clock[1:])},
    )


def _newer(run: Opened, names: Sequence[str], identity: str) -> Iterator[Check]:
    """Whether the store has the buckets that newer backups hold and this one does not."""
    if not names:
        return
    try:
        here = buckets.addressed(run)
        missing = [name for name in names if not s3_settings.exists(buckets.source(buckets.alone(here, name)))]
        words = [f"the bucket {named(name)} is not back: {identity} does not hold it" for name in missing]
        yield compared(NEWER, words, f"the store has {several('bucket', names)}")
    except LifeboatError as exc:
        yield Check(NEWER, COULD_NOT_VERIFY, exc.cause)


def _ended(config: Config, done: Unfinished, incomplete: Sequence[str], *, accept: bool) -> list[Check]:
    """Remove the mark, now that all was compared; what an earlier recovery began beyond this one stays to be done."""
    if incomplete and not accept:
        words = f"not complete: {several('bucket', incomplete)}. Mirrors are refused until the same command ends it"
        return [Check("recovery", FAIL, words)]
    if recovery_state.complete(config, RECOVERING_OBJECTS, done):
        return []
    before = present(recovery_state.unfinished(config, RECOVERING_OBJECTS))
    words = (
        f"that of {before.backup or 'an earlier backup'}, begun at {before.since or 'an earlier time'}, has not ended:"
        " it was to bring back more than this one. lifeboat.dr.recover_object_storage without bucket and prefix ends it"
    )
    return [Check("earlier recovery", FAIL, words)]


def _settings_alone(run: Opened, points: Sequence[Point], stamp: str, log: Log) -> Restored:
    """Every object is left as it is."""
    began = time.monotonic()
    first, made = buckets.source(run), list[str]()

    def each(point: Point) -> Iterator[Check]:
        source = first if point is points[0] else first.sibling(point.bucket)
        applied = put_back.put_back(run, source, point, stamp, log)
        made.extend(applied.changed if point is points[0] else ())
        yield from _settings_checks(source, point, applied, created=False)

    checks = [*each(points[0]), *folded((point.bucket, each(point)) for point in points[1:])]
    return Restored(
        id=points[0].id,
        checks=(*checks, *put_back.check_replaced(run, stamp)),
        copied=CopiedBack(0, 0, 0, 0, 0, ()),
        quarantine_bucket="",
        settings=tuple(made),
        reconciled={},
        seconds={"restore": round(time.monotonic() - began, 2)},
    )


def _points(point: Point, names: Sequence[str]) -> list[Point]:
    """That bucket, then those of these names in the same backup. Raises where it does not hold one of them."""
    found = {other.bucket: other for other in point.points()[1:]} if names else {}
    if lacking := [name for name in names if name not in found]:
        raise NotFoundError(
            "restore the objects", point.id, f"it does not hold {several('bucket', lacking)}",
            "Choose another (`lifeboat list`).",
        )  # fmt: skip
    return [point, *(found[name] for name in names)]


class _How(NamedTuple):
    """What is asked of every bucket's recovery, as in restore_objects(). shared: what all of them have together.

    resumed: it continues one that has not ended, so that what is missing is damage and nothing is left uncompared.
    """

    stamp: str
    fresh: bool
    requested: bool
    exact: bool
    partial: bool
    sample: int
    settings: str
    shared: Shared
    resumed: bool = False


class _Brought(NamedTuple):
    """One bucket that was brought back. lost: what the vault no longer has of it. created: the bucket was gone. lock:
    as in copy_back(). keep: what the database has otherwise than the backup stays; left: its keys. aside: the bucket in
    which lies what was replaced."""

    point: Point
    copied: CopiedBack
    lost: str
    applied: s3_settings.Applied
    created: bool
    lock: bool
    keep: bool
    aside: str
    left: tuple[str, ...] = ()


def _bring(
    run: Opened, point: Point, inventory: Inventory, how: _How, log: Log, *, created: bool, prefix: str = ""
) -> _Brought:
    """Copy back what is missing or wrong of one bucket, and set again what is lost of its settings."""
    source = buckets.source(run)
    first = _apply(source, point, log, created=created, first=True)
    compare.hold(run, inventory, source, point, prefix=prefix, created=created, log=log)
    if inventory.count("point") and not inventory.count("live"):
        _mark_empty(run.config)
    # In a bucket that lost everything nothing was the application's own doing.
    keep = not (how.requested or how.fresh or created) and inventory.count("live") > 0
    wanted = to_restore(keep=keep)
    lost = compare.leave_out_unheld(run, inventory, prefix, wanted) if how.partial else ""
    aside = Aside(source, how.stamp, versioned=s3_bucket.versioning(source) == "Enabled", log=log)
    aside.keep(key for (key,) in inventory.each(f"SELECT key FROM live p WHERE {wanted}"))
    if how.exact:
        aside.remove(key for (key,) in inventory.each(f"SELECT key FROM {UNKNOWN_TO_POINT}"))
    count = inventory.counted(f"point p WHERE {wanted}")[0]
    log(f"copying {count} objects from the vault to {source.url}")
    lock = locks.may(source, point)
    with progress.going(progress.Gauge(f"objects to {source.url}", count, unit=progress.OBJECTS)) as gauge:
        again = gauge.counting(inventory.entries(f"point p WHERE {wanted}"))
        copied = back.copy_back(run, again, source, log=log, compare=False, lock=lock, shared=how.shared)
    applied = _both(first, _apply(source, point, log, created=created))
    if how.settings:
        applied = put_back.and_what_differs(run, source, point, applied, how.stamp, log)
    return _Brought(point, copied, lost, applied, created, lock, keep, aside.bucket)


class _Store:
    """The application's bucket, or the one that is recovered alone, and at the same time others of the store, some at
    once, from the same budgets.

    An error of one of the others is a check that did not pass. One of the first ends the recovery, when the others are
    brought back and proved.
    """

    def __init__(
        self, run: Opened, points: Sequence[Point], inventory: Inventory, prefix: str, how: _How, log: Log
    ) -> None:
        """inventory, prefix: of the first bucket, which is the one that `run` is of."""
        self._run, self._first, self._additional = run, points[0], points[1:]
        self._inventory, self._prefix, self._how, self._log = inventory, prefix, how, log
        self._brought: list[_Brought] = []
        self._ended: list[Check] = []
        self._whole: list[str] = []
        self._over = False
        self.aside: list[str] = []
        self.incomplete: list[str] = []  # those that are not brought back

    def bring(self) -> _Brought:
        """Returns what became of the first."""
        here = buckets.addressed(self._run) if self._additional else self._run
        own = self._beside(
            lambda: present(self._bring(here, self._first)),
            lambda: throttle.each(
                lambda point: self._bring_other(here, point), self._additional, throttle.SIDE_BY_SIDE
            ),
        )
        self._brought.sort(key=lambda brought: brought[0].bucket)  # they ended in any order
        self._ended.sort(key=lambda check: check.name)
        self._whole.sort()
        self.aside.sort()
        return own

    def _beside(self, primary: Callable[[], T], additional: Callable[[], None]) -> T:
        """Both at once. An error of the first is raised when the others have ended."""
        done: list[T] = []
        failed: list[LifeboatError] = []

        def first() -> None:
            try:
                done.append(primary())
            except LifeboatError as exc:
                self._over = _of_the_store(exc)
                failed.append(exc)

        if self._additional:
            throttle.each(lambda work: work(), [first, additional], 2)
        else:
            first()
        if failed:
            raise failed[0]
        return done[0]

    def _compared(self, point: Point) -> contextlib.AbstractContextManager[Inventory]:
        """What is known of the first stays; of the others there may be a thousand."""
        first = point is self._first
        return contextlib.nullcontext(self._inventory) if first else Inventory(share=throttle.SIDE_BY_SIDE)

    def _bring(self, here: Opened, point: Point) -> Optional[_Brought]:
        """None of one of the others with which nothing is wrong, where no state was asked for."""
        first, how = point is self._first, self._how
        run = self._run if first else proof.placed(here, point)
        made = _create_bucket(run.config, buckets.source(run), point, self._log)
        if not (first or made or how.requested or how.exact or how.fresh or how.resumed) and self._left(here, point):
            return None
        with self._compared(point) as inventory:
            one = _bring(run, point, inventory, how, self._log, created=made, prefix=self._prefix if first else "")
            left = () if first or not one.keep else inventory.each(f"SELECT key FROM settled WHERE how = '{RIGHT}'")
            return one._replace(left=tuple(key for (key,) in left))

    def _bring_other(self, here: Opened, point: Point) -> None:
        if self._over:
            return
        try:
            one = self._bring(here, point)
            self._brought += [one] if one else []
            self.aside += [one.aside] if one and one.aside else []
        except LifeboatError as exc:
            self._log(f"the bucket {named(point.bucket)} is not restored: {exc}")
            self._ended.append(ended(f"bucket {named(point.bucket)}", exc))
            self.incomplete.append(point.bucket)

    def _left(self, here: Opened, point: Point) -> bool:
        """Is nothing seen to be wrong with it? What could not be looked at stays as it is too, and is no pass."""
        seen = assess.bucket(here, point, log=self._log)
        if seen.condition != recovery_state.HEALTHY:
            return False
        if seen.unchecked:
            words = f"left as it is, and not all of it is known: {'; '.join(seen.unchecked)}"
            self._ended.append(Check(f"bucket {named(point.bucket)}", COULD_NOT_VERIFY, words))
        else:
            self._whole.append(point.bucket)
        return True

    def prove(self, primary: _Brought, *, accept: bool) -> list[Check]:
        """The checks of the first, then those of the others. accept: as in restore_objects()."""
        here = buckets.addressed(self._run) if self._additional else self._run
        others: list[Check] = []
        try:
            checks = self._beside(
                lambda: list(self._prove(here, primary, accept=accept)), lambda: others.extend(self._prove_others(here))
            )
        except LifeboatError:
            for check in others:
                if check.result != PASS:
                    self._log(f"{check.name}: {check.result}: {check.detail}")
            raise
        return [*checks, *others]

    def _prove_others(self, here: Opened) -> Iterator[Check]:
        """One check a name of those that passed it, and each that did not with its bucket."""
        yield from self._ended
        yield from folded((one.point.bucket, self._prove(here, one, accept=True)) for one in self._brought)
        if self._whole:
            yield Check("other buckets left as they are", PASS, several("bucket", self._whole))

    def _prove(self, here: Opened, brought: _Brought, *, accept: bool) -> Iterator[Check]:
        point, first, log = brought.point, brought.point is self._first, self._log
        run = self._run if first else buckets.alone(here, point.bucket)
        self.incomplete.append(point.bucket)  # until it is compared
        with self._compared(point) as inventory:
            if not first:
                inventory.add_listing("point", point.entries())
                inventory.add("settled", ((key, RIGHT) for key in brought.left))
                if brought.lost:
                    compare.leave_out_unheld(run, inventory, "", "1")
            expected = compare.expected(keep=brought.keep)
            checks = _prove(run, inventory, expected, brought, self._how, log, accept=accept)
            if verdict(checks) != FAIL:
                self.incomplete.remove(point.bucket)
            yield from checks
            yield from _lost(brought)
            yield from locks.bring(run, point, inventory, expected, log=log)
            if not first:  # its rows are read when all the others are proved
                yield from _rows(run, inventory, point, "")[0]
        yield from _settings_checks(buckets.source(run), point, brought.applied, created=brought.created)

    def added(self, copied: CopiedBack) -> CopiedBack:
        """What was copied back of all buckets."""
        each = [copied, *(one.copied for one in self._brought)]
        names = ("objects", "copied", "copied_bytes", "skipped", "failed_count", "denied")
        return replace(copied, **{name: sum(getattr(one, name) for one in each) for name in names})


def _rows(
    run: Opened, inventory: Inventory, point: Point, prefix: str
) -> tuple[list[Check], Optional[reconcile.Report]]:
    """Of a bucket that is not the application's only where rows name it."""
    if point.bucket and not reconcile.names(run, point.bucket):
        return [], None
    return reconcile.checked(run.config, lambda: _reconciled(run, inventory, point, prefix))


def _of_the_store(error: LifeboatError) -> bool:
    """Is it the server that refuses or no longer answers, so that its other buckets need not be tried?"""
    cause = error_registry.cause_of(error)
    return cause.whole if cause else error.exit_code == LifeboatError.exit_code and not s3_client.status(error)


def _lost(brought: _Brought) -> list[Check]:
    return (
        [Check("held by the vault", FAIL, f"lost, for the vault no longer has them: {brought.lost}")]
        if brought.lost
        else []
    )


def _prove(
    run: Opened, inventory: Inventory, expected: str, brought: _Brought, how: _How, log: Log, *, accept: bool
) -> list[Check]:
    """Compare with the listing. What is listed rightly and is wrong all the same is copied once more.

    expected: the condition on a row p of the table `point` of an object that the bucket must have.
    """
    log("comparing with the backup's listing")
    among, copied = f"point p WHERE {expected}", brought.copied
    checks = _verified(run, inventory, among, brought, how)
    if verdict(checks) == FAIL:
        log(f"not yet: {'; '.join(check.detail for check in checks if check.result == FAIL)}")
        source = buckets.source(run)
        bad = compare.damaged(inventory, source, buckets.vault(run), among)
        with progress.going(progress.Gauge(f"objects to {source.url} again", unit=progress.OBJECTS)) as gauge:
            again = gauge.counting(inventory.entries(f"point p WHERE {bad}"))
            copied = back.copy_back(run, again, source, log=log, compare=False, lock=brought.lock, shared=how.shared)
        checks = _verified(run, inventory, among, brought, how)
    if verdict(checks) == FAIL and not accept:
        wrong = [f"{check.name}: {check.detail}" for check in checks if check.result == FAIL]
        wrong += [f"{lost.key}: {lost.why}" for lost in copied.failed[:3]]
        remedy = "Run the same command again; where the server is to blame, with -e method=rebuild, into an empty one."
        raise IntegrityError("prove the restored objects", run.config.objects.bucket, "; ".join(wrong), remedy)
    return checks


def _verified(run: Opened, inventory: Inventory, among: str, brought: _Brought, how: _How) -> list[Check]:
    """An object that cannot be read is a failed check here: there is something to be done about it."""
    share = throttle.SIDE_BY_SIDE if brought.point.bucket else 1
    try:
        return mirror_verify.verify_objects(
            run, inventory.entries(among), buckets.source(run), sample=how.sample or None, shared=how.shared,
            share=share,
        )  # fmt: skip
    except LifeboatError as exc:
        if error_registry.cause_of(exc):
            raise
        return [Check("objects", FAIL, f"{exc.subject}: {exc.cause}")]


def _key_for(run: Opened, log: Log) -> list[Check]:
    """Take another key where the store does not know the stack's own, and say so: the application's may be that one."""
    try:
        s3_settings.exists(buckets.source(run))
        return []
    except LifeboatError as exc:
        cause = error_registry.cause_of(exc)
        key = buckets.for_fresh(run) if cause and cause.name == error_registry.CREDENTIALS else None
        if key is None:
            raise
        buckets.use(run, key)
        log(f"the store does not know the stack's own key ({exc.cause}); {key.source} is used")
        words = (
            f"the store does not know it ({exc.cause}): the objects were filled in with {key.source}. Make the stack's"
            " own key there again, with its policy"
        )
        return [Check("the stack's own key", FAIL, words)]


def _apply(source: Bucket, point: Point, log: Log, *, created: bool, first: bool = False) -> s3_settings.Applied:
    """Set again what is lost of the settings that come first, or of all others; in a bucket that was made just now what
    differs too. What the server refuses is a failed check later, and stops nothing."""
    wanted = {name: value for name, value in point.settings.items() if (name in s3_settings.FIRST) is first}
    applied = s3_settings.apply(source, wanted, whole=created)
    for name in applied.changed:
        log(f"set the bucket's {name} as it was")
    for name, why in applied.refused.items():
        log(f"the bucket's {name} is not set as it was: {why}")
    return applied


def _create_bucket(config: Config, source: Bucket, point: Point, log: Log) -> bool:
    """Make the bucket where it is missing; returns whether it was. From then on, until the recovery ends, the
    application would tell its users that their files are gone."""
    lock = bool(point.settings.get(s3_settings.LOCK))
    made = s3_settings.make(source, lock=lock, missing=functools.partial(_mark_empty, config))
    if made:
        log(f"made {source.url}")
    return made


def _mark_empty(config: Config) -> None:
    recovery_state.mark(config, RECOVERING_OBJECTS, Unfinished(begun=False, empty=True))


def _both(first: s3_settings.Applied, then: s3_settings.Applied) -> s3_settings.Applied:
    return s3_settings.Applied((*first.changed, *then.changed), {**first.refused, **then.refused})


def _settings_checks(source: Bucket, point: Point, applied: s3_settings.Applied, *, created: bool) -> Iterator[Check]:
    """One check a setting that is on record, or that nobody could read when the backup was made."""
    told = s3_settings.inspect(source)
    wanted = {name: value for name, value in point.settings.items() if value}
    for name in wanted:
        yield Check(f"bucket {name}", *_setting(name, wanted, told, applied))
    for name in point.settings_denied:
        words = "not on record: the key might not read it when the backup was made"
        yield Check(f"bucket {name}", COULD_NOT_VERIFY, words)
    lock = s3_settings.LOCK
    if created and lock in told.values and lock not in (*point.settings, *point.settings_denied):
        words = "the backup is older than the record of it, so the bucket was made without"
        yield Check(f"bucket {lock}", COULD_NOT_VERIFY, words)
    extra = s3_settings.added(point.settings, told.values)
    for name in extra:
        words = "on record there is none: it is set, perhaps rightly, and stays; to remove it is for the operator"
        yield Check(f"bucket {name}", COULD_NOT_VERIFY, words)
    if not wanted and not point.settings_denied and not extra:
        yield Check("bucket settings", PASS, "none are on record")


def _setting(
    name: str, expected: Mapping[str, object], actual: s3_settings.BucketSettings, applied: s3_settings.Applied
) -> tuple[Verdict, str]:
    if name in applied.refused:
        return FAIL, f"not restored: {applied.refused[name]}"
    if name not in actual.values:
        why = "the key may not read it" if name in actual.denied else "the server does not tell it"
        return COULD_NOT_VERIFY, why
    only = {name: expected[name]}
    if s3_settings.lost(only, actual.values):
        return FAIL, s3_settings.describe(name, expected, actual.values)
    if not s3_settings.changed(only, actual.values):
        return PASS, "as on record"
    if name in applied.changed:
        return FAIL, "it was set as on record, and the server made another of it"
    return COULD_NOT_VERIFY, "it is not as on record, perhaps rightly, and is left as it is"


def _reconciled(run: Opened, inventory: Inventory, point: Point, prefix: str) -> reconcile.Report:
    """The database against the bucket as it is now, below the prefix."""
    compare.look_again(run, inventory, buckets.source(run), prefix)
    # The bytes were compared with the listing, so what it knows of them holds.
    same = "p.key = live.key AND p.size = live.size AND p.etag = live.etag"
    inventory.change(f"UPDATE live SET sha256 = coalesce((SELECT p.sha256 FROM point p WHERE {same}), '')")
    return reconcile.compare(inventory, point.at)
