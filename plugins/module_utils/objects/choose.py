# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator asks of a bucket's recovery, and which backup answers it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Callable, Optional

from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, NotFoundError, UsageError, present
from ..base.text import PassedOver, named
from ..mirror import changes, store
from ..mirror.changes import AsOf, Trail
from ..mirror.listing import Point
from ..recovery import state as recovery_state
from ..recovery.state import RECOVERING_OBJECTS, Unfinished
from ..repository import catalog
from ..repository.base import LATEST
from ..repository.catalog import Entry
from ..repository.details import ObjectsDetails
from ..repository.sources import Sources, open_place
from ..settings.config import Config
from ..stack.runtime import Opened
from ..tools import age

_LOOKED_INTO = 30  # older backups, for what the newest does not have


@dataclass(frozen=True)
class Request:
    """What the operator asked for. identity: a recovery point, an objects backup, or `latest`, which asks for none.

    prefix: only these keys. exact: what the point does not know goes into quarantine. partial: recover what can be,
    where the vault no longer has all of it. accept: the backup that is named, although it failed. bucket: this one
    of the store's alone. other_buckets: what a rebuild does with these; empty: it moves none aside that it cannot
    bring back. bucket_settings: `restore` puts settings back that are not those of the point. continues: the recovery
    that has not ended and whose state this is, where none was named.
    """

    identity: str = "latest"
    before: Optional[datetime] = None
    force: bool = False
    method: str = "auto"
    prefix: str = ""
    exact: bool = False
    partial: bool = False
    accept: bool = False
    bucket: str = ""
    other_buckets: str = ""
    bucket_settings: str = ""
    continues: Optional[Unfinished] = None

    @property
    def state(self) -> str:
        """The state that was named, in the words it is remembered by."""
        if self.continues:
            return self.continues.state
        return self.identity if self.identity not in LATEST else format_time(self.before) if self.before else ""

    @property
    def instant(self) -> Optional[datetime]:
        """The time that was named; None where it was a backup, or nothing."""
        return instant_of(self.state)

    @property
    def explicit(self) -> bool:
        return bool(self.force or self.state or self.prefix or (self.continues and self.continues.requested))

    def continued(self, unfinished: Unfinished, answers: bool) -> Request:
        """As that recovery asked for it, where this one names no state: it is to bring back the same.

        answers: the server does, so that one bucket or a prefix alone can be brought back.
        """
        if self.identity not in LATEST or self.before:
            return self
        alone = answers and not self.bucket and not self.prefix
        return replace(
            self, identity=unfinished.backup or self.identity, exact=self.exact or unfinished.exact,
            partial=self.partial or unfinished.partial, continues=unfinished,
            bucket=unfinished.bucket if alone else self.bucket, prefix=unfinished.prefix if alone else self.prefix,
        )  # fmt: skip


def instant_of(state: str) -> Optional[datetime]:
    """The time that a state is, in the words it is remembered by; None where it is the name of a backup, or none."""
    return parse_time(state) if "T" in state else None


class Instants:
    """The changes of objects that each repository has, read once."""

    def __init__(self, run: Opened) -> None:
        self._run = run
        self.trail = functools.lru_cache(maxsize=None)(self._read)

    def _read(self, source: str) -> Optional[Trail]:
        """None where that place cannot be read: then nothing reaches beyond its backups."""
        try:
            return Trail.read(open_place(self._run, source), self._run.config.stack)
        except LifeboatError:
            return None

    def reach(self, entry: Entry, target: datetime) -> Optional[datetime]:
        """Which instant at or before the target a backup gives, by its changes or by itself; None where none."""
        own = catalog.snapshot(entry, target)
        trail = self.trail(entry.source) if own and entry.manifest else None
        reached = trail and entry.manifest and changes.reaches(entry.manifest, trail, target)
        return target if reached else own

    def as_of(self, point: Point, source: str, target: Optional[datetime]) -> Point:
        """The bucket at that instant, where changes that are whole reach it; else as the backup has it."""
        trail = self.trail(source) if target else None
        found = changes.as_of(point, trail, target) if trail else point
        return point if isinstance(found, AsOf) and found.problem() else found


def instants(run: Opened) -> Instants:
    return run.once(Instants)


def reach(run: Opened) -> Callable[[Entry, datetime], Optional[datetime]]:
    """As catalog.snapshot(), with the changes."""
    return instants(run).reach


def instant_text(point: Point, instant: Optional[datetime]) -> str:
    """What a plan says of the instant that was named; empty where none was, or the backup is of it."""
    if instant is None or point.manifest.taken_at == instant:
        return ""
    if isinstance(point, AsOf):
        why = point.held_bucket.why
        return f"the objects as of {format_time(instant)}: {point.id}, and all changes until then ({why})"
    seconds = (instant - point.manifest.taken_at).total_seconds()
    what = f"those of {point.id}, {_span(seconds)} before"
    return f"NOT the objects of {format_time(instant)}: {what}, as no changes reach that instant"


def _span(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def unfinished_of(config: Config) -> Optional[Unfinished]:
    """The recovery of objects that has replaced some and has not ended."""
    found = recovery_state.unfinished(config, RECOVERING_OBJECTS)
    return found if found and found.begun else None


def reference_of(sources: Sources, bucket: str = "") -> Optional[Point]:
    """What should be there: the newest good backup, or the fuller one before it; its bytes are checked. One that could
    not include every bucket is good for the others: see instead().

    bucket: another one of the store than the application's. Of a recovery that has not ended it is the backup that this
    one brings back.
    """
    unfinished = unfinished_of(sources.run.config)
    begun = [entry for entry in sources.entries if unfinished and entry.id == unfinished.backup and entry.manifest]
    for entry in [*begun, *reversed(sources.entries)]:
        if entry in begun or (entry.serves and not catalog.shrunk(sources.entries, entry.id)[0]):
            point = _point(sources, entry, bucket)
            if not _problem(point):
                return point
    return None


def instead(sources: Sources, reference: Optional[Point]) -> list[Point]:
    """List the buckets that the reference could not include, each of the newest backup that has it whole."""
    found = []
    for name in reference.manifest.detailed(ObjectsDetails).missing if reference and not reference.bucket else ():
        points = (_point(sources, entry, name) for entry in reversed(sources.entries) if entry.serves)
        found += list(itertools.islice((point for point in points if point.holds and not point.problem()), 1))
    return found


def beside(config: Config, point: Point) -> list[Point]:
    """List the other buckets of the same backup that the configuration still wants."""
    return [each for each in point.points() if each.bucket and store.is_selected(config.objects, each.bucket)]


def older(sources: Sources, reference: Optional[Point]) -> Iterator[Point]:
    """The good backups before that one, the newest first, as far as anyone would go back."""
    before = [entry for entry in sources.entries if entry.serves and reference and entry.id < reference.id]
    for entry in list(reversed(before))[:_LOOKED_INTO]:
        yield _point(sources, entry, reference.bucket if reference else "")


def choose(
    config: Config, sources: Sources, request: Request, bucket: str = "", wrong: Collection[str] = ()
) -> tuple[Entry, Point, list[PassedOver]]:
    """The backup, its listing's bytes checked. A broken newest one is passed over, and said so. bucket: as above.
    wrong: the other buckets, where they alone are wrong: one that could include none of them will not do."""

    def problem(entry: Entry) -> str:
        less, fuller = catalog.shrunk(sources.entries, entry.id)
        if less and request.identity in LATEST:
            raise UsageError(
                "choose a backup", config.stack, f"{less}: which of them is right is not ours to guess",
                f"Name the one you want: -e recovery_point={fuller} (or {entry.id}).",
            )  # fmt: skip
        return _absent(entry, wrong) or _problem(_point(sources, entry, bucket))

    chosen, passed = sources.choose(request.identity, request.before, problem, partly=True)
    point = _point(sources, chosen, bucket)
    return chosen, instants(sources.run).as_of(point, chosen.source, request.instant), passed


def _absent(entry: Entry, wrong: Collection[str]) -> str:
    """Why a backup will not do that could not include what is wrong; empty where it holds some of that."""
    details = present(entry.manifest).detailed(ObjectsDetails)
    if any(held.name in wrong for held in details.additional):
        return ""
    causes = {name: why for name, why in details.missing.items() if name in wrong}
    return "; ".join(f"the bucket {named(name)} is not in it: {why}" for name, why in causes.items())


def _problem(point: Point) -> str:
    """Why it cannot be used: of the whole backup, unless one bucket alone is meant."""
    for each in [point] if point.bucket else point.points():
        try:
            problem = each.problem()
        except NotFoundError as exc:  # the bucket is not in it
            problem = exc.cause
        if problem:
            return problem
    return ""


def _point(sources: Sources, entry: Entry, bucket: str) -> Point:
    keys = age.keys(sources.run.config, sources.run.key)
    return Point(sources.repo(entry), present(entry.manifest), bucket, keys)
