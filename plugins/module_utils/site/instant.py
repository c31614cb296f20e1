# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The instant that a lost site comes back to, where continuous protection leads to one behind a recovery point.

The rows come from a base and the WAL behind it, the objects from the changes since a backup of theirs; all else is that
of the newest point before. It is decided once, by what did not burn with the machine, and read to its last byte there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..base import clock
from ..base.checks import PASS, Check
from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, Log, UsageError
from ..base.text import PassedOver, human
from ..database.methods.physical import choice, fill
from ..database.methods.physical.fill import Usable
from ..database.wal import standing
from ..database.wal.archive import Archive
from ..mirror import changes
from ..mirror.changes import AsOf, Trail
from ..mirror.listing import Point
from ..repository import catalog
from ..repository.base import Repository
from ..repository.components import OBJECTS
from ..repository.details import ObjectsDetails
from ..stack.runtime import Opened
from ..tools import age
from ..wal import instants
from ..wal.catalogue import Route
from ..wal.instants import At, Instant, Latest, Position

CONSISTENT = "consistent"
ATTEMPTED = "plan the recovery of the site"
_OLDER = 30  # backups of objects that are looked into
_OTHERWISE = (
    "Or the newest recovery point of that time or earlier, by its name: -e recovery_point=<id> (`lifeboat list`)."
)


@dataclass(frozen=True)
class Wish:
    """What an operator names. instant: None where nothing was named, which is all that was received. consistent: the
    last instant that both rows and objects have. timeline: the one that is meant; 0 names none."""

    instant: Optional[Instant] = None
    consistent: bool = False
    timeline: int = 0

    @property
    def moment(self) -> Optional[datetime]:
        """The time that was named; None where none was."""
        return self.instant.moment if isinstance(self.instant, At) else None

    @property
    def named(self) -> bool:
        return self.instant is not None or self.consistent


ANY = Wish()


@dataclass(frozen=True)
class Way:
    """How a site comes back to its instant. Roles hand it on, with these names.

    instant: as it is shown. recovery_time, before, timeline: those of the database's recovery. base: its id. at: all
    that was committed before that is back; until: when the last WAL was received. unpacked, wal: bytes of the base, and
    of the WAL behind it. objects: the time that the bucket is brought to; empty: to that of the recovery point; state:
    what a plan says of it. brought: the backups that this takes, beside those of the point.
    """

    instant: str
    recovery_time: str
    before: str
    timeline: int
    base: str
    at: str
    until: str
    unpacked: int
    wal: int
    stored: int
    objects: str = ""
    state: str = ""
    brought: tuple[str, ...] = ()

    @property
    def needs(self) -> int:
        """Bytes on the machine's disk: the repository's, and the server's."""
        return self.stored + self.unpacked + self.wal


@dataclass(frozen=True)
class Resolved:
    """way: None where the site comes back to a recovery point; cause: why, where an instant would have been better.
    checks: of what was read. passed_over: bases that are damaged. moment: no point behind it will do."""

    way: Optional[Way] = None
    cause: str = ""
    checks: tuple[Check, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    moment: Optional[datetime] = None


def requested(recovery_time: str, before: str, timeline: int = 0) -> Wish:
    """What an operator names by these. UsageError where it is no instant, or none that can be told here."""
    if recovery_time.strip() == CONSISTENT:
        if before:
            raise UsageError(ATTEMPTED, f"before={before}", f"{CONSISTENT} is another instant", "Name one of them.")
        return Wish(consistent=True, timeline=timeline)
    instant = instants.requested(recovery_time, before)
    if timeline and instant is None:
        cause = "a timeline alone is no instant"
        raise UsageError(ATTEMPTED, f"timeline={timeline}", cause, "Name the instant, too: recovery_time or before.")
    if instant is not None and not isinstance(instant, (At, Latest, Position)):
        cause = f"{instant} is found by reading the WAL in the stack's own image, and there is none on this machine yet"
        remedy = "Name the position or the time that `lifeboat when` printed: before=0/A41607C8, or recovery_time."
        raise UsageError(ATTEMPTED, before, cause, remedy)
    return Wish(instant, timeline=timeline)


def find(run: Opened, store: Repository, wish: Wish, log: Log) -> Resolved:
    """How the site comes back to what was named. Reads only, and all that it is going to use. Raises LifeboatError for
    an instant that there is no way to, with the nearest ones; where none was named a recovery point has to do."""
    config = run.config
    if not (config.wal.enabled and config.database.enabled):
        if isinstance(wish.instant, Position):
            cause = "the stack has no continuous protection (lifeboat_wal), so that recovery points are all there is"
            raise UsageError(
                ATTEMPTED, str(wish.instant), cause, "Name a time or a point: recovery_time, recovery_point."
            )
        return Resolved(moment=wish.moment)
    try:
        with standing.archive(run, store) as source:
            return _Search(run, store, source, wish, log).find()
    except LifeboatError as exc:
        without_key = isinstance(exc, age.NoKeyError) and not run.key  # the plan names what is lacking
        if wish.named and not without_key:
            raise
        return Resolved(cause=f"{exc.subject}: {exc.cause}", moment=wish.moment)


@dataclass(frozen=True)
class _Objects:
    """The bucket at an instant. at: which; backup, spans: what leads there."""

    at: datetime
    backup: str
    spans: tuple[str, ...]
    objects: int


@dataclass(frozen=True)
class _Search:
    run: Opened
    store: Repository
    source: Archive
    wish: Wish
    log: Log

    def find(self) -> Resolved:
        wish = self.wish
        catalogue, now = self.source.catalogue(), clock.now()
        instant = wish.instant or Latest()
        try:
            route = catalogue.route(instant, now, wish.timeline)
        except UsageError as exc:
            if wish.named and not choice.by_dump(catalogue, instant):
                exc.remedy = f"{exc.remedy} {_OTHERWISE}"
                raise
            return Resolved(cause=exc.cause, moment=wish.moment)
        objects = self._objects(wish.moment or self._known(route))
        if wish.consistent:
            if objects is None and self.run.config.objects.bucket:
                return Resolved()  # a recovery point is the last instant that both have
            both = min(route.until.at, objects.at) if objects else route.until.at
            route = catalogue.route(At(both), now, wish.timeline)
            objects = self._objects(both)
        self.log(f"the rows come back from {route.base.id} and the WAL behind it: {route.instant}")
        route, usable, passed = choice.first_whole(
            route, lambda tried: fill.require_whole(self.run, self.source, tried, self.log)
        )
        return Resolved(
            self._way(route, usable, objects), "", self._checks(route, usable), passed,
            wish.moment or (choice.known(self.source, route) if isinstance(route.instant, Position) else None),
        )  # fmt: skip

    def _known(self, route: Route) -> Optional[datetime]:
        """Until when objects are wanted; None: all that are known."""
        return choice.known(self.source, route) if isinstance(route.instant, Position) else None

    def _way(self, route: Route, usable: Usable, objects: Optional[_Objects]) -> Way:
        recovery_time, before = instants.options(route.instant)
        at, spans = choice.known(self.source, route), self.source.leading(route)
        made = Way(
            str(route.instant), recovery_time, before, route.timeline, route.base.id, format_time(at),
            format_time(route.until.at), usable.details.bytes, usable.wal, usable.manifest.size + usable.stored,
            brought=(route.base.id, *spans),
        )  # fmt: skip
        if objects is None:
            return made
        apart = (at - objects.at).total_seconds()
        behind = f", {choice.lasting(apart)} before the rows" if apart >= 1 else ""
        state = f"as of {format_time(objects.at)}{behind}, by {objects.backup} and all changes since"
        return replace(
            made, objects=objects.at.isoformat(), state=state, brought=(*made.brought, objects.backup, *objects.spans)
        )

    def _checks(self, route: Route, usable: Usable) -> tuple[Check, ...]:
        base, size = usable.manifest, human(usable.manifest.size)
        return (
            Check(f"{base.id} in the vault", PASS, f"{size}: every byte in the vault is the one written"),
            Check(
                "WAL in the vault", PASS,
                f"{human(usable.stored)}, to {route.until.lsn}: no hole, and every byte is the one written",
            ),
        )  # fmt: skip

    def _objects(self, moment: Optional[datetime]) -> Optional[_Objects]:
        """The bucket at that time, or at the last one before it that its changes lead to; None where that is not behind
        the newest backup, which has more then. moment: None is the last one."""
        bucket, stack = self.run.config.objects.bucket, self.run.config.stack
        if not bucket:
            return None
        trail = Trail.read(self.store, stack)
        target, newest = moment or clock.now(), None
        for identity in list(reversed(self.store.published(OBJECTS)))[:_OLDER]:
            entry = catalog.entry(self.store, OBJECTS, identity)
            manifest = entry.manifest
            if not entry.sound or manifest is None or manifest.stack != stack or manifest.taken_at > target:
                continue
            details, newest = manifest.detailed(ObjectsDetails), newest or manifest.taken_at
            end = trail.reach(details.primary.name, manifest.taken_at, target)
            if end is None or end <= newest:
                continue
            point = changes.as_of(Point(self.store, manifest, keys=age.keys(self.run.config, self.run.key)), trail, end)
            if isinstance(point, AsOf) and not (problem := point.problem()):
                return _Objects(end, identity, _since(trail, manifest.taken_at), details.primary.objects)
            self.log(f"{identity}: {problem if isinstance(point, AsOf) else 'no changes lead on from it'}")
        return None


def _since(trail: Trail, since: datetime) -> tuple[str, ...]:
    """The spans that have changes since then."""
    return tuple(span.id for span in trail.spans if span.details.last_at >= since - changes.MARGIN)


def text(way: Way) -> list[str]:
    """What a plan says of it."""
    ago = choice.lasting((clock.now() - parse_time(way.at)).total_seconds())
    return [
        f"  rows: {way.instant}: all that was committed before {way.at}, {ago} before this plan,"
        f" by {way.base} and {human(way.wal)} of WAL, which was received until {way.until}",
        f"  objects: {way.state or 'those of the recovery point: no changes lead on from it'}",
    ]
