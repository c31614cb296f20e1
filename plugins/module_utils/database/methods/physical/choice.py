# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose between a dump, and a base with the WAL behind it, for a server that is lost; plan the latter. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Callable, Optional

from ....base import clock
from ....base.clock import format_time, parse_time
from ....base.errors import IntegrityError, LifeboatError, Log, UsageError
from ....base.text import PassedOver, assessed, cautions, human
from ....recovery import state as recovery_state
from ....recovery.state import DOWN, Unfinished, with_stopped
from ....repository import catalog, repositories
from ....repository.components import BASE
from ....settings.config import Config
from ....settings.scenarios import DATABASE
from ....stack import answer
from ....stack.runtime import Opened
from ....wal import instants
from ....wal.catalogue import Catalogue, Route
from ....wal.instants import At, Instant, Latest, Position
from ...assess import Assessment
from ...planned import Database, Mode, PhysicalRoute, Plan
from ...wal import send, standing
from ...wal.archive import Archive
from ...wal.send import Waiting
from . import fill
from .fill import Usable

METHOD = "physical"
_BY_DUMP = "Or take the newest dump of that time or earlier: -e method=rebuild."
LOST = (
    "replication slots are in no base: all but Lifeboat's own have to be made again",
    "unlogged tables are empty, as after a crash",
)


@dataclass(frozen=True)
class Wish:
    """What an operator asks for. instant: a time, the latest or a position; None where none was named, as timeline 0.
    method, backup, database: as in a plan; empty where none was named. continues: the recovery that has not ended.
    newest: the time of the newest good dump, None where there is none."""

    instant: Optional[Instant] = None
    timeline: int = 0
    method: str = "auto"
    backup: str = ""
    database: str = ""
    continues: Optional[Unfinished] = None
    newest: Optional[datetime] = None

    @property
    def resumed(self) -> Optional[Unfinished]:
        """The replay that has not ended, where it goes on."""
        return self.continues if self.continues and self.continues.replay and self.instant is None else None


@dataclass(frozen=True)
class Choice:
    """route, required: of the way by a base; None: a dump is taken. at: before when all commits are back then, as far
    as is known; tries: a server that is down is started first. passed_over: bases that are damaged. unread: what
    could not be read in the repository. cause: why a dump is taken where a base would have been better; goal: the
    time that was meant then."""

    route: Optional[Route] = None
    required: Optional[Usable] = None
    at: Optional[datetime] = None
    tries: bool = True
    passed_over: tuple[PassedOver, ...] = ()
    unread: tuple[str, ...] = ()
    cause: str = ""
    goal: Optional[datetime] = None

    def headline(self, until: datetime) -> str:
        """What a plan by a dump says first; empty where nothing is to be said. until: what the dump brings back."""
        if not self.cause or self.goal is None:
            return ""
        away = (self.goal - until).total_seconds()
        if away <= 0:
            return ""
        return (
            f"NOT the instant {format_time(self.goal)}, but {format_time(until)}, {lasting(away)} before it:"
            f" {self.cause}"
        )


BY_DUMP = Choice()


def choose(run: Opened, assessment: Assessment, wish: Wish, log: Log) -> Choice:
    """How a server comes back. A base is chosen for one that is lost, or where method=physical was given, and no backup
    and no single database was named. Raises LifeboatError where that cannot be, and no dump is what was asked for."""
    required = wish.method == METHOD
    begun = wish.continues is not None and not wish.continues.replay and wish.instant is None
    replaying = wish.continues is not None and bool(wish.continues.replay)
    lost = replaying or assessment.condition == DOWN or assessment.initialised_again
    if not required and (wish.method != "auto" or begun or not lost):
        return BY_DUMP  # what began by a dump goes on by that
    if wish.backup or wish.database:
        if required:
            named = wish.backup or wish.database
            cause = f"method={METHOD} brings back the whole server to an instant, not {named}"
            raise UsageError(fill.FILL, run.config.stack, cause, "Leave method at auto, or name an instant.")
        return BY_DUMP
    goal = wish.instant.moment if isinstance(wish.instant, At) else None
    if not run.config.wal.enabled:
        cause = "lifeboat_wal is not enabled for this stack"
        if required or isinstance(wish.instant, Position):
            raise UsageError(fill.FILL, run.config.stack, cause, "Name a time, and leave method at auto.")
        return Choice(cause=cause, goal=goal)
    instant = wish.instant or _of(wish.resumed) or Latest()
    timeline = wish.timeline or (wish.resumed.timeline if wish.resumed else 0)
    try:
        with standing.archive(run, repositories.repository_of(run)) as source:
            return _choose(run, source, instant, timeline, wish, log)
    except UsageError:
        raise
    except LifeboatError as exc:
        # Nothing named, and no way by the base: the dump is there, and what it costs is said first.
        if required or wish.instant is not None or wish.resumed:
            raise
        return Choice(cause=f"{exc.subject}: {exc.cause}. {exc.remedy}".strip(), goal=clock.now())


def _of(mark: Optional[Unfinished]) -> Optional[Instant]:
    """The instant of a replay that has not ended."""
    return read(mark.replay) if mark else None


def read(text: str) -> Instant:
    """The instant that written() wrote."""
    kind, _colon, rest = text.partition(" ")
    return instants.parse_before(rest) if kind == "before" else instants.parse(rest)


def written(route: PhysicalRoute) -> str:
    """The instant of a plan, for the mark of its recovery."""
    return f"before {route.before}" if route.before else f"at {route.recovery_time}"


def _choose(
    run: Opened, source: Archive, instant: Instant, timeline: int, wish: Wish, log: Log
) -> Choice:  # fmt: skip
    catalogue, unread = source.catalogue(), tuple(source.passed_over)
    try:
        route = catalogue.route(instant, clock.now(), timeline)
    except UsageError as exc:
        if wish.method == METHOD or wish.resumed or not by_dump(catalogue, instant):
            exc.remedy = f"{exc.remedy} {_BY_DUMP}" if isinstance(instant, (At, Latest)) else exc.remedy
            raise
        ends = max((run.until.at for run in catalogue.runs), default=None)
        return Choice(unread=unread, cause=exc.cause, goal=instant.moment if isinstance(instant, At) else ends)
    if isinstance(instant, Latest) and wish.newest and wish.newest > route.until.at and not wish.resumed:
        log(f"the newest dump is of {format_time(wish.newest)}, and the WAL ends at {format_time(route.until.at)}")
        return replace(BY_DUMP, unread=unread)
    route, found, passed = first_whole(route, lambda tried: fill.require(run, source, tried, log))
    tries = wish.method != METHOD and not wish.resumed
    return Choice(route, found, known(source, route), tries, passed, unread)


def first_whole(
    route: Route, require: Callable[[Route], Usable]
) -> tuple[Route, Usable, tuple[PassedOver, ...]]:  # fmt: skip
    """The route by the newest base that leads to its instant and is whole, and the bases that are not."""
    passed: list[PassedOver] = []
    older = route.window.bases[: route.window.bases.index(route.base) + 1]
    for base in reversed(older):
        tried = replace(route, base=base)
        try:
            return tried, require(tried), tuple(passed)
        except fill.DamagedBaseError as exc:
            passed.append(PassedOver(base.id, exc.cause))
    problems = "; ".join(f"{each.id}: {each.problem}" for each in passed)
    raise IntegrityError(fill.FILL, str(route.instant), problems, f"No base that leads there is whole. {_BY_DUMP}")


def by_dump(catalogue: Catalogue, instant: Instant) -> bool:
    """Whether a dump is what an operator means where there is no way to the instant: of a time before all that can be
    gone to, or where nothing can be. What lies in a gap or in the future, or on two timelines, is named again."""
    if isinstance(instant, At):
        return not catalogue.windows or instant.moment < min(window.since for window in catalogue.windows)
    return isinstance(instant, Latest)


def known(source: Archive, route: Route) -> datetime:
    """Before which time all commits are back, as far as that is known without replaying."""
    if isinstance(route.instant, At):
        return min(route.instant.moment, route.until.at)
    if not isinstance(route.instant, Position):
        return route.until.at
    lsn = route.instant.lsn
    marks = [*(span.reached for span in source.spans), *source.marks]
    lived = [mark.at for mark in marks if mark.system == route.base.system and mark.position <= lsn]
    return max([*lived, route.base.at])


# The plan.


def route_of(choice: Choice, config: Config, waiting: Optional[Waiting] = None) -> Optional[PhysicalRoute]:
    """What the plan, and the phases that follow it, are told. waiting: in the spool."""
    route, required = choice.route, choice.required
    if route is None or required is None or choice.at is None:
        return None
    pace = fill.pace(config)
    return PhysicalRoute(
        str(route.instant), *instants.options(route.instant), route.base.id, route.timeline,
        format_time(route.window.since), format_time(route.until.at), route.until.lsn, format_time(choice.at),
        required.details.bytes, required.wal, round(required.details.bytes / pace.unpack, 1),
        round(required.wal / pace.replay, 1), pace.at,
        *((waiting.bytes, format_time(waiting.at)) if waiting else ()),
    )  # fmt: skip


def plan(
    run: Opened, assessment: Assessment, choice: Choice, why: str, state: str, *, force: bool,
    warnings: Sequence[str], log: Log,
) -> Plan:  # fmt: skip
    """The plan of a recovery by that choice."""
    config, stack, now = run.config, run.runtime, clock.now()
    route = route_of(choice, config, _waiting(choice, config, log))
    if route is None or choice.at is None or choice.required is None:
        raise UsageError(fill.FILL, config.stack, "no base was chosen", "Leave method at auto.")
    repo = repositories.repository_of(run)
    tries = assessment.condition == DOWN and choice.tries
    mode: Mode = "start" if tries else "rebuild"
    entry = catalog.entry(repo, BASE, route.base)
    details = choice.required.details
    backup = {
        **entry.as_dict(now),
        "taken_at": format_time(choice.at),
        "age_seconds": int((now - choice.at).total_seconds()),
        "details": {
            "database_size": details.bytes, "server_version_num": details.server_version_num, "method": METHOD
        },
    }  # fmt: skip
    writers = with_stopped(config, list(config.application.writers) or stack.dependants(config.database.service))
    one_offs = stack.one_offs(config.database.service, *writers)
    target = config.database.name or "postgres"
    what = "unless the server comes up with its data" if tries else "the whole server comes back"
    return Plan(
        needed=True,
        condition=assessment.condition,
        findings=assessment.findings,
        unchecked=assessment.unchecked,
        warnings=(
            *warnings,
            *(f"passed over in the repository: {each}" for each in choice.unread),
            *recovery_state.warnings_of_unanswered(config, answer.PATIENCE),
        ),
        why=why,
        asked=force or bool(state),
        state=state,
        mode=mode,
        backup=backup,
        location=repo.location(BASE, route.base),
        recovery_point="",
        passed_over=choice.passed_over,
        accepted=(),
        writers=tuple(writers),
        stamp=clock.stamp(now),
        steps=tuple(_steps(config, route, [*writers, *one_offs], mode, bool(state))),
        target=target,
        target_seconds=config.target(DATABASE),
        databases=(Database(target, "restored", what, details.bytes),),
        one_offs=tuple(one_offs),
        lost=LOST,
        until=route.at,
        physical=route,
    )


def _waiting(choice: Choice, config: Config, log: Log) -> Optional[Waiting]:
    """What is sent before a replay to the latest begins. A spool that cannot be read is no reason to have no plan."""
    if choice.route is None or not isinstance(choice.route.instant, Latest):
        return None
    try:
        return send.waiting(config)
    except LifeboatError as exc:
        log(f"what waits in the spool is not in this plan: {exc.cause}")
        return None


def _steps(config: Config, route: PhysicalRoute, writers: Sequence[str], mode: Mode, requested: bool) -> list[str]:
    service = config.database.service
    rebuild = [
        f"quarantine the data directory of {service} (moved aside, nothing is deleted)",
        f"unpack {route.base} into the new one, in a throw-away container without a network, and replay the WAL"
        f" behind it: {route.instant}",
        "read every table of every database to its end there; only then put its settings as they are in the base",
        f"start {service} with it",
    ]
    if mode == "start":
        whole = "comes up whole" if requested else "comes up whole, nothing is restored"
        first = f"start {service} and look again; if it {whole}"
        first += (
            " and is what was asked for, nothing is restored" if requested else "; where it is damaged, run this again"
        )
        rebuild = [first, *(f"otherwise {step}" for step in rebuild)]
    return [
        *(f"protect: {step}" for step in (f"stop the writers ({', '.join(writers) or 'none known'})", *rebuild)),
        "restore: see that it is that server, with each database that was proved",
        "reopen: start the application, wait for its health, ask its endpoints",
        "then: take a new base, from which instants on the new timeline can be gone to",
        "record: evidence with the time of each phase",
    ]


def text(made: Plan, route: PhysicalRoute) -> list[str]:
    """The plan for a terminal."""
    age = (clock.now() - parse_time(route.last)).total_seconds()
    measured = f"measured on this host {route.measured}" if route.measured else "as measured elsewhere, never here"
    proven = made.backup.get("proven_at")
    size = made.backup.get("size")
    behind = (clock.now() - parse_time(route.at)).total_seconds()
    return [
        *assessed("the database", made),
        f"the whole server comes back from a base and the WAL behind it: {made.state or route.instant}",
        f"  any instant from {route.first} to {route.last} ({lasting(age)} ago, {route.end}),"
        f" timeline {route.timeline}",
        f"  {route.base}, {human(size if isinstance(size, int) else 0)},"
        f" {f'proven {proven}' if proven else 'NOT proven by a replay'}, then at most {human(route.wal)} of WAL",
        f"  about {route.unpack + route.replay:.0f} s: unpack {route.unpack:.0f}, replay {route.replay:.0f};"
        f" {measured}",
        *cautions(made.warnings, made.passed_over, made.accepted),
        *(f"  {line}" for line in made.lost),
        f"data written after {route.at} ({lasting(behind)} before this plan) will be missing; it is kept aside",
        *(
            [f"  but for {human(route.spool)} of WAL that was received until {route.spooled_at}: it is sent first"]
            if route.spool
            else []
        ),
        *(f"  {number}. {step}" for number, step in enumerate(made.steps, 1)),
    ]


def lasting(seconds: float) -> str:
    """So long, for a person: 4 s, 6 min 20 s, 11 h 2 min."""
    whole = timedelta(seconds=max(0, round(seconds)))
    parts = [
        (whole.days, "d"), (whole.seconds // 3600, "h"), (whole.seconds // 60 % 60, "min"), (whole.seconds % 60, "s")
    ]  # fmt: skip
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"
