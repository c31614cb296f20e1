# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which instants can be gone back to, and by which base and timeline. Pure: no clock, no files.

A **run** is WAL of one timeline without a hole. A **window** is a run, or its part, to which a base leads: of the same
timeline, or of one that it was forked off. Inside a window any instant can be gone to, and outside none.

A timeline is left where another one begins: by a recovery or a promotion. What was written on it behind that position
is in no newer timeline: such an instant is *abandoned*, and is gone to only where its timeline is named.

https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..base.clock import format_time
from ..base.errors import UsageError
from .instants import At, Instant, Latest, Position
from .notes import Reached
from .segments import Fork, ancestors, format_lsn
from .spans import Span

GO = "go back to an instant"
_SHOW = "See them all: lifeboat wal instants."
_UNREAD = 3  # of the backups that could not be read, so many are named
Stream = tuple[str, int]  # the system identifier of a server, and a timeline


@dataclass(frozen=True)
class Base:
    """A base as the catalogue needs it. start, stop: the WAL that makes it whole, which is inside. at: when its stop
    was written at the latest."""

    id: str
    system: str
    version: int
    timeline: int
    start: int
    stop: int
    at: datetime
    segment: int


@dataclass(frozen=True)
class Hole:
    """Where WAL is missing. until: the last instant before it that is known. why: of the gap on record."""

    start: int
    end: int
    until: Optional[Reached]
    why: str


@dataclass(frozen=True)
class Run:
    """WAL of one timeline from start to end. since: when its first note was written. until: what is complete of it.
    hole: what it ends with; None where the WAL goes on, or was left."""

    system: str
    timeline: int
    start: int
    end: int
    since: datetime
    until: Reached
    hole: Optional[Hole] = None


@dataclass(frozen=True)
class Window:
    """Instants to which a base leads. bases: those that do, oldest first. path: the forks from the first timeline to
    this one. left: where the newest timeline goes another way, and shared: until when both have the same; None where
    this is the newest."""

    run: Run
    bases: tuple[Base, ...]
    path: tuple[Fork, ...]
    since: datetime
    left: Optional[int] = None
    shared: Optional[datetime] = None

    @property
    def system(self) -> str:
        return self.run.system

    @property
    def timeline(self) -> int:
        return self.run.timeline

    @property
    def until(self) -> Reached:
        return self.run.until

    @property
    def first(self) -> int:
        """The first position that can be gone to."""
        begins = max(self.run.start, self.path[-1].position) if self.path else self.run.start
        return max(begins, min(base.stop for base in self.bases))

    def as_dict(self) -> dict[str, object]:
        hole = self.run.hole
        return {
            "system": self.system,
            "timeline": self.timeline,
            "from": format_time(self.since),
            "to": format_time(self.until.at),
            "lsn": self.until.lsn,
            "bases": [base.id for base in self.bases],
            "left": format_time(self.shared) if self.shared else "",
            "gap": {"from": format_lsn(hole.start), "to": format_lsn(hole.end), "why": hole.why} if hole else None,
        }


@dataclass(frozen=True)
class Route:
    """How to go to an instant: from the base along the timeline. until: where the WAL ends that leads there."""

    instant: Instant
    base: Base
    timeline: int
    window: Window

    @property
    def until(self) -> Reached:
        return self.window.until


@dataclass(frozen=True)
class Catalogue:
    """windows: oldest first. newest: the timeline that the newest WAL is of; None where there is no WAL. passed_over:
    backups that could not be read, and why: an instant in them is in no window, and the refusal of it says so."""

    windows: tuple[Window, ...]
    runs: tuple[Run, ...]
    newest: Optional[Stream] = None
    passed_over: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {"windows": [window.as_dict() for window in self.windows]}

    def route(self, instant: Instant, now: datetime, timeline: int = 0) -> Route:
        """The base and the timeline for an instant. UsageError with the nearest instants where there is no way.

        timeline: the one that is meant where two lived; 0: nobody said.
        """
        if not self.windows:
            cause = "no base leads to WAL that was received" if self.runs else "no WAL was received"
            raise UsageError(GO, str(instant), f"{cause}{self._unread}", "Take a base: lifeboat wal base.")
        own = [window for window in self.windows if timeline in (0, window.timeline)]
        if not own:
            there = ", ".join(str(number) for number in sorted({window.timeline for window in self.windows}))
            raise UsageError(GO, str(instant), f"no base leads to timeline {timeline}", f"Timelines: {there}. {_SHOW}")
        if not isinstance(instant, (At, Position)):
            return self._last(instant, own, timeline)
        parents = {(window.system, fork.parent) for window in own for fork in window.path}
        windows = [each for each in self.windows if each in own or (each.system, each.timeline) in parents]
        if isinstance(instant, At):
            return self._at(instant, windows, now, timeline)
        return self._position(instant, windows, timeline)

    def _at(self, instant: At, windows: Sequence[Window], now: datetime, timeline: int) -> Route:
        moment = instant.moment
        if moment > now and moment > max(window.until.at for window in windows):
            raise self._refused(instant, windows, f"it has not come yet: it is {format_time(now)}")
        there = [window for window in windows if self._has(window, moment)]
        left = [window for window in there if window.shared is not None and moment > window.shared]
        window = self._chosen(instant, there, left, timeline)
        if window is None:
            raise self._refused(instant, windows, self._why(windows, moment))
        earlier = [base for base in window.bases if base.at <= moment]
        return Route(instant, (earlier or window.bases[:1])[-1], window.timeline, window)

    def _has(self, window: Window, moment: datetime) -> bool:
        """Whether the window has that instant. A timeline that was forked off begins where both have the same: until
        its first commit it is as it was at the fork."""
        since = window.since
        if window.path and window.bases[0].timeline != window.timeline:
            parent = (window.system, window.path[-1].parent)
            # One that ended before the fork goes on in this one, whose first segment begins with a copy of its last.
            shared = [each.shared or each.until.at for each in self.windows if (each.system, each.timeline) == parent]
            if shared and max(shared) < since:
                return max(shared) < moment <= window.until.at
        return since <= moment <= window.until.at

    def _why(self, windows: Sequence[Window], moment: datetime) -> str:
        before = [window for window in windows if window.until.at < moment]
        if not before:
            return "it is before all that can be gone back to"
        hole = before[-1].run.hole
        if len(before) == len(windows):
            behind = f"it is behind a gap ({hole.why}), and no base was taken since" if hole else ""
            return behind or "what was written then is not in the repository yet"
        return f"it is in a gap: {hole.why}" if hole else "no base leads to it"

    def _position(self, instant: Position, windows: Sequence[Window], timeline: int) -> Route:
        lsn = instant.lsn
        there = [window for window in windows if window.first <= lsn <= window.until.position]
        left = [window for window in there if window.left is not None and lsn > window.left]
        window = self._chosen(instant, there, left, timeline)
        if window is None:
            last = max((each.until for each in windows), key=lambda until: until.position)
            behind = f"it is behind {last.lsn}, where the WAL ends that was received"
            cause = behind if lsn > last.position else "no base leads to WAL that has it"
            raise self._refused(instant, windows, cause)
        return Route(instant, [base for base in window.bases if base.stop <= lsn][-1], window.timeline, window)

    def _chosen(
        self, instant: Instant, there: Sequence[Window], left: Sequence[Window], timeline: int
    ) -> Optional[Window]:
        """The window that is meant; None where none has the instant. left: those whose timeline was left before it."""
        if timeline:
            there = [window for window in there if window.timeline == timeline or window not in left]
            there = [window for window in there if window.timeline == timeline] or there
            return there[-1] if there else None
        if left or len({window.timeline for window in there if window.system == there[-1].system}) > 1:
            raise _ambiguous(instant, there, left)
        return there[-1] if there else None

    def _last(self, instant: Instant, windows: Sequence[Window], timeline: int) -> Route:
        """To the end of the WAL, or to a record that is found by reading it."""
        newest = [window for window in windows if timeline or (window.system, window.timeline) == self.newest]
        if not newest:
            raise self._refused(instant, windows, "no base was taken since the last gap or fork")
        last = newest[-1]
        if isinstance(instant, Latest) and last.run.hole:
            cause = f"the newest WAL is behind a gap ({last.run.hole.why}), and no base was taken since"
            raise self._refused(instant, windows, cause)
        return Route(instant, last.bases[-1], last.timeline, last)

    def _refused(self, instant: Instant, windows: Sequence[Window], cause: str) -> UsageError:
        """With the nearest instants on both sides."""
        if isinstance(instant, At):
            before = [window.until.at for window in windows if window.until.at < instant.moment]
            after = [window.since for window in windows if window.since > instant.moment]
            near = [
                *([f"the last one before it: {format_time(max(before))}"] if before else []),
                *([f"the first one after it: {format_time(min(after))}"] if after else []),
            ]
        else:
            near = [f"{format_time(window.since)} to {format_time(window.until.at)}" for window in windows[-2:]]
        remedy = f"Instants that can be gone to: {'; '.join(near)}. {_SHOW}"
        return UsageError(GO, str(instant), f"{cause}{self._unread}", remedy)

    @property
    def _unread(self) -> str:
        """What of the repository may have had it."""
        return f" (passed over: {'; '.join(self.passed_over[-_UNREAD:])})" if self.passed_over else ""


def _ambiguous(instant: Instant, there: Sequence[Window], left: Sequence[Window]) -> UsageError:
    """Each timeline that lived then, with what going to it loses."""
    options = [
        f"timeline={window.timeline} (nothing that a newer one wrote since {format_time(window.shared)})"
        if window in left and window.shared
        else f"timeline={window.timeline} (nothing that an older one wrote behind its fork)"
        for window in there
    ]
    if len(there) > 1:
        return UsageError(GO, str(instant), "two timelines lived then", f"Name the one: {' or '.join(options)}.")
    cause = f"it is on timeline {there[0].timeline}, which was left before that"
    shared = there[0].shared
    other = f" The last instant that the newest one has, too: {format_time(shared)}." if shared else ""
    return UsageError(GO, str(instant), cause, f"Name it: {options[0]}.{other}")


def assemble(
    bases: Sequence[Base], spans: Sequence[Span], histories: Mapping[Stream, Sequence[Fork]],
    marks: Sequence[Reached] = (),
) -> Catalogue:  # fmt: skip
    """The catalogue of what there is. histories: where timelines were forked off. marks: what notes say was reached,
    by which a hole or a fork is found in time; without them the manifests of spans do."""
    known = sorted({*marks, *(span.reached for span in spans)}, key=lambda mark: (mark.at, mark.position))
    runs = [run for stream in _streams(spans) for run in _runs(stream, spans, known)]
    newest = max(runs, key=lambda run: (run.until.at, run.timeline), default=None)
    windows = list(_windows(bases, runs, histories))
    windows = [_left(window, runs, histories, known) for window in windows]
    windows.sort(key=lambda window: (window.since, window.until.at, window.timeline))
    return Catalogue(tuple(windows), tuple(runs), (newest.system, newest.timeline) if newest else None)


def _streams(spans: Sequence[Span]) -> list[Stream]:
    return sorted({(span.system, span.timeline) for span in spans if span.pieces})


def _runs(stream: Stream, spans: Sequence[Span], marks: Sequence[Reached]) -> Iterator[Run]:
    """The WAL of one timeline, in its order."""
    system, timeline = stream
    own = [span for span in spans if (span.system, span.timeline) == stream and span.pieces]
    own.sort(key=lambda span: (span.start, span.id))
    mine = [mark for mark in marks if (mark.system, mark.timeline) == stream]
    gaps = {(gap.start, gap.end): gap.why for span in own for gap in span.gaps if gap.system == system}
    start, end, since = own[0].start, own[0].start, own[0].first_at
    for span in own:
        for piece in span.pieces:
            if piece.start > end:
                why = gaps.get((format_lsn(end), format_lsn(piece.start)), "nothing has the WAL between")
                before = _before(mine, end)
                yield Run(system, timeline, start, end, since, before or _unknown(own[0], end), Hole(
                    end, piece.start, before, why,
                ))  # fmt: skip
                start, since = piece.start, span.first_at
            end = max(end, piece.end)
    yield Run(system, timeline, start, end, since, own[-1].reached)


def _before(marks: Sequence[Reached], position: int) -> Optional[Reached]:
    """The newest instant of which all that was committed until then lies before that position."""
    return max((mark for mark in marks if mark.position <= position), key=lambda mark: mark.at, default=None)


def _unknown(span: Span, position: int) -> Reached:
    return replace(span.reached, lsn=format_lsn(position), at=span.first_at)


def _windows(
    bases: Sequence[Base], runs: Sequence[Run], histories: Mapping[Stream, Sequence[Fork]]
) -> Iterator[Window]:
    for run in runs:
        fitting, path = [], tuple(histories.get((run.system, run.timeline), ()))
        for base in sorted(bases, key=lambda base: (base.at, base.id)):
            if base.system == run.system and _leads(base, run, path, runs):
                fitting.append(base)
        if fitting:
            here = [base.at for base in fitting if base.timeline == run.timeline]
            since = run.since if len(here) < len(fitting) else min(here)
            yield Window(run, tuple(fitting), path, since)


def _leads(base: Base, run: Run, path: Sequence[Fork], runs: Sequence[Run]) -> bool:
    """Whether there is WAL without a hole from the base to the run. The segment in which a timeline was left is in the
    newer one as well, whole."""
    reach = ancestors(run.timeline, path)
    position = base.stop - base.stop % base.segment
    if base.timeline == run.timeline:
        return run.start <= position and base.stop <= run.until.position
    if base.stop > reach.get(base.timeline, 0):
        return False
    for timeline in sorted(number for number in reach if base.timeline <= number < run.timeline):
        end = reach[timeline] - reach[timeline] % base.segment
        if end > position and not any(
            (each.system, each.timeline) == (run.system, timeline) and each.start <= position and each.end >= end
            for each in runs
        ):
            return False
        position = max(position, end)
    return run.start <= position


def _left(
    window: Window, runs: Sequence[Run], histories: Mapping[Stream, Sequence[Fork]], marks: Sequence[Reached]
) -> Window:
    """With where the newest timeline went another way, and the last instant before that."""
    newest = max(run.timeline for run in runs if run.system == window.system)
    reach = ancestors(newest, histories.get((window.system, newest), ()))
    position = reach.get(window.timeline, 0)
    if position >= window.run.end:
        return window
    mine = [mark for mark in marks if (mark.system, mark.timeline) == (window.system, window.timeline)]
    before = _before(mine, position)
    return replace(window, left=position, shared=min(before.at, window.until.at) if before else window.since)
