# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The instants that continuous protection can go back to: list them, stand at one, find what happened before one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Optional

from ..base import clock, lock
from ..base.clock import format_time, parse_time
from ..base.errors import LifeboatError, Log, UsageError, present
from ..base.text import named
from ..database import server as database_server
from ..database.methods.logical import dump as logical
from ..database.planned import Replay
from ..database.wal import standing, when
from ..database.wal.archive import Archive
from ..repository import sources
from ..repository.manifest import Manifest
from ..site import granted
from ..stack.runtime import Opened
from ..wal.catalogue import GO, Catalogue, Route, Window
from ..wal.instants import At, Instant, Latest, Mark, Position, Table, Transaction, options
from ..wal.records import Event
from ..wal.segments import format_lsn

SINCE = timedelta(hours=2)
ROWS = 1000
LOSSES = 5  # offered as what to go back before
_AGO = re.compile(r"([1-9][0-9]{0,4})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Known:
    """What can be gone back to. passed_over: backups that could not be read, and why."""

    catalogue: Catalogue
    passed_over: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {**self.catalogue.as_dict(), "passed_over": list(self.passed_over)}

    def lines(self) -> list[str]:
        """For a terminal."""
        shown = []
        for window in self.catalogue.windows:
            last, many = window.bases[-1].id, len(window.bases)
            shown.append(
                f"any instant from {format_time(window.since)} to {format_time(window.until.at)}"
                f" ({window.until.lsn}), timeline {window.timeline}; {many} base{'s' if many > 1 else ''}, the newest"
                f" {last}"
            )
            if window.shared is not None:
                shown.append(f"  left: behind {format_time(window.shared)} nothing of it is in a newer timeline")
            if hole := window.run.hole:
                shown.append(f"  then a gap from {format_lsn(hole.start)} to {format_lsn(hole.end)}: {hole.why}")
        if not shown:
            shown = ["no instant can be gone back to: take a base with `lifeboat wal base`"]
        return [*shown, *(f"passed over: {each}" for each in self.passed_over)]


@dataclass(frozen=True)
class Stood:
    """Where a throw-away server stood, and by what it came there. passed_over: backups that could not be read: the
    latest instant without them may be an older one than was received."""

    route: Route
    reached: standing.Reached
    passed_over: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        route = self.route
        return {
            "instant": str(route.instant), "base": route.base.id, "timeline": route.timeline, **self.reached.as_dict(),
            "passed_over": list(self.passed_over),
        }  # fmt: skip

    def lines(self) -> list[str]:
        reached = self.reached
        last = format_time(reached.at) if reached.at else "before the base"
        return [
            f"stood at {reached.lsn}, the last commit was {last}",
            f"  {reached.why or 'nothing was committed between that and the instant'}",
            f"  {self.route.base.id} in {reached.unpacked} s, then {reached.files} files of WAL of timeline"
            f" {self.route.timeline} in {reached.replayed} s",
            *(f"passed over: {each}" for each in self.passed_over),
        ]


def known(run: Opened, source: str = sources.REPOSITORY) -> Known:
    """What can be gone back to, by what lies in the repository, or in the vault (one of sources.LIVE)."""
    with _opened(run, source) as (archive, catalogue):
        return Known(catalogue, tuple(archive.passed_over))


@contextlib.contextmanager
def _opened(run: Opened, source: str = sources.REPOSITORY) -> Iterator[tuple[Archive, Catalogue]]:
    place = sources.open_place(run if source == sources.REPOSITORY else granted.opened(run), source)
    with standing.archive(run, place) as archive:
        yield archive, archive.catalogue()


def stand(run: Opened, instant: Instant, log: Log, timeline: int = 0, source: str = sources.REPOSITORY) -> Stood:
    """Stand at the instant in a throw-away server, which is gone afterwards. Nothing of the stack is touched. source:
    what it is made of; from the vault nothing of the repository is needed."""
    with _standing(run, instant, log, timeline, source) as (server, catalogue):
        return Stood(server.route, present(server.reached), catalogue.passed_over)


@contextlib.contextmanager
def _standing(
    run: Opened, instant: Instant, log: Log, timeline: int, source: str
) -> Iterator[tuple[standing.Standing, Catalogue]]:
    with lock.verifying(run.config.stack, "wal verify"), _opened(run, source) as (archive, catalogue):
        _say(catalogue, log)
        route = catalogue.route(instant, clock.now(), timeline)
        with standing.standing(run, archive, _resolved(run, archive, catalogue, route, log), log) as server:
            yield server, catalogue


def _say(catalogue: Catalogue, log: Log) -> None:
    """The latest instant without what could not be read may be an older one than was received."""
    for each in catalogue.passed_over:
        log(f"passed over: {each}")


def _resolved(run: Opened, archive: Archive, catalogue: Catalogue, route: Route, log: Log) -> Route:
    """The route to what an instant names that the WAL has to be read for."""
    if not isinstance(route.instant, (Transaction, Mark, Table)):
        return route
    position = when.resolved(run, archive, route.window, route.instant, log, ROWS)
    return catalogue.route(position, clock.now(), route.timeline)


def shown(instant: Instant, timeline: int) -> str:
    """The instant as a recovery's plan and its record name it."""
    return f"{instant} on timeline {timeline}" if timeline else str(instant)


def replay(run: Opened, instant: Instant, log: Log, timeline: int = 0) -> Optional[Replay]:
    """How the databases come to be as they were at the instant, by base and WAL. Reads only.

    None for a time before all that can be gone back to, or where there is no continuous protection: a backup has to do
    that is older. UsageError with the nearest instants for any other instant that there is no way to.
    """
    if not run.config.wal.enabled:
        if isinstance(instant, At):
            return None
        cause = (
            "the stack has no continuous protection (lifeboat_wal), so that backups are all that can be gone back to"
        )
        raise UsageError(GO, str(instant), cause, "Name a time or a backup: recovery_time, recovery_point.")
    reading = isinstance(instant, (Transaction, Mark, Table))  # by a throw-away container, of which there is one
    alone = lock.verifying(run.config.stack, "plan the recovery", wait=60) if reading else contextlib.nullcontext()
    with alone, _opened(run) as (archive, catalogue):
        if isinstance(instant, At) and all(instant.moment < window.since for window in catalogue.windows):
            return None
        _say(catalogue, log)
        route = _resolved(run, archive, catalogue, catalogue.route(instant, clock.now(), timeline), log)
        end = archive.end(route)
    recovery_time, before = options(route.instant)
    last = {Position: "", Latest: format_time(route.until.at)}
    return Replay(
        instant=shown(instant, timeline),
        recovery_time=recovery_time,
        before=before,
        timeline=route.timeline,
        base=route.base.id,
        taken_at=format_time(route.base.at),
        wal=max(0, end - route.base.start),
        since=last.get(type(route.instant), str(route.instant)),
    )


def dump(run: Opened, instant: Instant, log: Log, timeline: int = 0, source: str = sources.REPOSITORY) -> Manifest:
    """Take a backup of the databases as they were at the instant, out of a throw-away server that stands there. It is
    a backup as any other, in the repository, and recovered by its name. Nothing of the stack is touched.

    Settings and access rules in it are the living server's: without that one there would be those of the throw-away
    one, so it is asked first.
    """
    config = run.config
    living = database_server.for_backups(run)
    if problem := living.problem():
        remedy = "Recover the server by its newest backup (lifeboat.dr.recover_database), then dump the instant."
        raise UsageError("dump an instant", config.stack, f"the server does not answer: {problem.cause}", remedy)
    with _standing(run, instant, log, timeline, source) as (server, _catalogue):
        reached = present(server.reached)
        # Else the table of a DROP just before which it stands is locked for ever.
        server.promote()
        moment = server.route.instant.moment if isinstance(server.route.instant, At) else reached.at
        # In the directory format pg_dump would need to write in the container, which is read-only.
        inside = replace(config, database=replace(config.database, format="custom"))
        earlier = logical.Earlier(server.server, living, moment or server.route.base.at)
        with lock.held(config.stack, "wal dump", wait=60):
            manifest = logical.take(run.with_config(inside, {}), log=log, override=True, earlier=earlier)
    why = f"the databases as they were at {instant}"
    for row in sources.hold(run, sources.REPOSITORY, manifest.id, why, clock.now()):
        log(row.strip())
    return manifest


def moment(text: str, now: datetime) -> datetime:
    """`2h`, `30m` or `7d` before now, or a time."""
    ago = _AGO.fullmatch(text.strip())
    if not ago:
        return parse_time(text)
    try:
        return now - timedelta(**{_UNITS[ago.group(2)]: int(ago.group(1))})
    except OverflowError as exc:
        raise UsageError("read a time", text, "no calendar goes so far back", "Write it like 2h.") from exc


def happened(
    run: Opened, log: Log, *, since: Optional[datetime] = None, table: str = "", rows: int = ROWS, timeline: int = 0
) -> list[Event]:
    """What lost data since then, oldest first. table, rows: see when.events()."""
    with lock.verifying(run.config.stack, "when"), _opened(run) as (archive, catalogue):
        window = _window(catalogue, timeline)
        since = since or clock.now() - SINCE
        names = when.names_of(run, archive, window, when.surviving(run))
        with when.dump(run, archive, window, when.start_of(archive, window, since), log) as dump:
            return when.events(dump, names, table=table, rows=rows, since=since, log=log)


def choices(run: Opened, backup: str, taken_at: str, log: Log) -> list[str]:
    """What a damaged server can be brought back to, as what an operator adds to the command, the newest loss first.
    backup, taken_at: the newest backup that will do. Empty where there is nothing but that."""
    newest = f"-e recovery_point={backup}  the newest backup that will do, of {taken_at}"
    try:
        windows = known(run).catalogue.windows
        losses = happened(run, log, rows=0) if windows else []
    except LifeboatError as exc:
        return [f"{newest}; what else there is is not known: {exc.cause}"]
    if not windows:
        return []
    until = max((window.until for window in windows), key=lambda reached: reached.at)
    return [
        *(f"-e before={format_lsn(event.lsn)}  before {_happening(event)}" for event in reversed(losses[-LOSSES:])),
        newest,
        f"-e recovery_time=latest  all that was received until {format_time(until.at)}, with each loss",
    ]


def _happening(event: Event) -> str:
    return f"{event.what} {', '.join(map(named, event.names))} at {format_time(event.at)}, transaction {event.xid}"


def _window(catalogue: Catalogue, timeline: int) -> Window:
    fitting = [
        window
        for window in catalogue.windows
        if timeline == window.timeline or (not timeline and (window.system, window.timeline) == catalogue.newest)
    ]
    if not fitting:
        cause = f"no base leads to timeline {timeline}" if timeline else "no base leads to the newest WAL"
        raise UsageError(when.FIND, "the WAL", cause, "See what there is: lifeboat wal instants.")
    return fitting[-1]


def command(stack: str, event: Event) -> str:
    """What to type to have the databases as they were just before it."""
    return f"lifeboat recover database --stack {stack} --before {format_lsn(event.lsn)} --timeline {event.timeline}"


def event_dict(stack: str, event: Event) -> dict[str, object]:
    return {
        "what": event.what,
        "transaction": event.xid,
        "at": format_time(event.at),
        "before": format_lsn(event.lsn),
        "last_commit_before": format_time(event.before) if event.before else "",
        "timeline": event.timeline,
        "database": event.database,
        "relations": list(event.names),
        "oids": list(event.relations),
        "rows": event.rows,
        "command": command(stack, event),
    }


def event_lines(stack: str, event: Event) -> list[str]:
    count = f" of {event.rows} rows" if event.rows else ""
    last = f", last commit {format_time(event.before)}" if event.before else ""
    return [
        f"{format_time(event.at)}  {event.what}{count} {', '.join(map(named, event.names))}, transaction {event.xid}",
        f"  the instant before it: {format_lsn(event.lsn)}{last}",
        f"  {command(stack, event)}",
    ]
