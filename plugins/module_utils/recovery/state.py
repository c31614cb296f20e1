# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What state a component was found in, what a host remembers of its last recovery, and what every plan says of one."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Optional, TypeVar

from ..base import filesystem, lock, pipeline, typed
from ..base.checks import FAIL, Check
from ..base.clock import format_time
from ..base.errors import LifeboatError, LockedError
from ..base.filesystem import explained
from ..settings.config import Config, EndpointCheck

T = TypeVar("T")
RECOVERING = "recovering"
# While it exists the bucket may be half filled: a mirror of it must never become the newest good backup.
RECOVERING_OBJECTS = "recovering_objects"
# While it exists the stack's files may be half placed: they must never become the newest good backup.
RECOVERING_CONFIG = "recovering_config"
# While it exists files may be half back: a backup of what is there must not become the newest good one.
RECOVERING_FILES = "recovering_files"
# While it exists a server of lifeboat_dumps may be half back: a dump of it must not become the newest good one.
RECOVERING_DUMPS = "recovering_dumps"
# The store is being given its identities: it may have some of them, and has lost the others.
GIVING_IDENTITIES = "giving_identities"
HEALTHY = "healthy"
DAMAGED = "damaged"
DOWN = "down"
STOPPED = "stopped.json"
RECOVERED = "recovered.json"
RECOVERED_OBJECTS = "recovered_objects"  # how the names of those begin that are of a bucket
DIFFERS = "differs: "  # how a phase's note begins that names what no restore brings back as it was


@dataclass(frozen=True)
class Last:
    """The last recovery of a component that this host completed. requested: the backup or time, empty if none was.

    databases: those that it brought back; empty where it does not say, and it was the application's.
    """

    id: str
    at: str
    requested: str = field(default="", metadata={"json": "asked"})
    prefix: str = ""  # of the keys that were recovered, empty: all of them
    databases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unfinished:
    """What a recovery that has begun is to bring back, as its mark says: until a complete comparison removes the mark,
    whatever of it is missing is damage.

    backup: its id; empty in a mark that an earlier version wrote. since: when it began. begun: false where a server is
    only started to see whether it comes up, so that nothing of it was replaced yet. empty: it fills a store that was a
    fresh or an empty one, which nobody may use before it is filled. requested, state, prefix, bucket, exact, partial:
    as in the plan. additional: buckets or databases that come back with it. stamp: of the run that began it. replay:
    where backup is a base, the instant to which WAL is replayed behind it, on that timeline: the whole server is back
    then.
    """

    backup: str = ""
    since: str = ""
    begun: bool = True
    empty: bool = False
    requested: bool = field(default=False, metadata={"json": "asked"})
    state: str = ""
    prefix: str = ""
    bucket: str = ""
    exact: bool = False
    partial: bool = False
    additional: tuple[str, ...] = field(default=(), metadata={"json": "others"})
    stamp: str = ""
    replay: str = ""
    timeline: int = 0

    def covers(self, other: Unfinished) -> bool:
        """Does this one bring back whatever the other was to bring back, of its own backup or of another?"""
        if self.replay:
            return True
        if not other.prefix.startswith(self.prefix):
            return False
        if self.bucket == other.bucket:
            return set(other.additional) <= set(self.additional)
        return not self.bucket and not self.prefix and other.bucket in self.additional


def unfinished(config: Config, name: str) -> Optional[Unfinished]:
    """Return the recovery whose mark has that name; None if there is none."""
    if not (config.state / name).exists():
        return None
    return remembered(config, name, Unfinished) or Unfinished()


# What is unfinished while a mark stands, and the playbook that continues it.
_CONTINUED_BY = {
    RECOVERING: ("the database", "lifeboat.dr.recover_database"),
    RECOVERING_OBJECTS: ("the object storage", "lifeboat.dr.recover_object_storage"),
    RECOVERING_FILES: ("the application's files", "lifeboat.dr.recover_files"),
    RECOVERING_DUMPS: ("the other databases", "lifeboat.dr.recover_dumps"),
    RECOVERING_CONFIG: ("the stack's files", "lifeboat.dr.recover_site"),
}


def refuse_while_unfinished(config: Config, attempted: str, names: Collection[str] = tuple(_CONTINUED_BY)) -> None:
    """Raise LockedError while the mark of one of those recoveries stands: what is there may lack some of the data."""
    for cause, remedy in _not_ended(config, names):
        raise LockedError(attempted, config.stack, cause, remedy)


def checked(config: Config) -> Iterator[Check]:
    """Yield what status says of recoveries that have not ended; nothing where there is none."""
    for cause, remedy in _not_ended(config, tuple(_CONTINUED_BY)):
        yield Check("recovery", FAIL, f"{cause}. {remedy}")


def _not_ended(config: Config, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield why something waits, and what to do, of each recovery whose mark stands."""
    for name in names:
        mark_of = unfinished(config, name)
        if mark_of is None:
            continue
        what, playbook = _CONTINUED_BY[name]
        of = f" of {mark_of.backup}" if mark_of.backup else ""
        since = f" that began at {mark_of.since}" if mark_of.since else ""
        cause = f"a recovery of {what}{of}{since} has not ended: what is there now may lack some of it"
        again = f"Unless it runs now: {playbook} again, which brings back what is missing"
        yield cause, f"{again}. If everything is right as it is: rm {config.state / name}"


def kept_closed(config: Config) -> Iterator[str]:
    """Yield why the application stays stopped: a recovery into an empty store has begun and has not ended."""
    for name, (what, playbook) in _CONTINUED_BY.items():
        mark_of = unfinished(config, name)
        if mark_of and mark_of.begun and mark_of.empty:
            was = "were" if what.endswith("s") else "was"
            yield (
                f"the application stays stopped: {what} {was} empty, and the recovery of {mark_of.backup} has not"
                f" ended. Run {playbook} again; to start it all the same: rm {config.state / name}"
            )


def stopped(config: Config) -> list[str]:
    """Writers that a recovery stopped and that no reopening has started since: it was killed in between."""
    try:
        writers = typed.load(
            _stored(config, STOPPED) or b"[]", lambda _at, why: LifeboatError("read the writers", STOPPED, why)
        )
    except LifeboatError:
        return []
    return [str(writer) for writer in writers] if isinstance(writers, list) else []


@dataclass(frozen=True)
class Turn:
    """The last recovery that changed anything on this host: a plan that was made before that is no longer true.

    number: of the changes so far. stamp: of the run, as its plan has it. what: it was about.
    """

    number: int = 0
    stamp: str = ""
    what: str = ""
    at: str = ""


TURN = "turn.json"


def turn(config: Config) -> Turn:
    """Who had the last turn; a plan reads it before it looks at anything."""
    return remembered(config, TURN, Turn) or Turn()


@contextlib.contextmanager
def own_turn(config: Config, what: str, stamp: str, planned: Optional[int] = None) -> Iterator[None]:
    """Change the host, under the stack's lock. Raises LockedError where another run had its turn since the plan.

    planned: the number when the plan was made; None for a later phase, whose own run must have had the last turn. Where
    there is no stamp either no plan was made.
    """
    last = turn(config)
    changed = last.number != planned if planned is not None else bool(stamp) and last.stamp not in ("", stamp)
    if changed:
        raise LockedError(
            what, config.stack,
            f"another run ({last.what}, at {last.at}) changed the stack since this one's plan was made, so the plan may"
            " not be true any more; nothing was done",
            "Run the same command again: it makes a new plan.",
        )  # fmt: skip
    try:
        _took_turn(config, what, stamp)
        yield
    finally:
        _took_turn(config, what, stamp)  # a plan that was made meanwhile saw only a part of it


@contextlib.contextmanager
def planning(config: Config) -> Iterator[int]:
    """Yield the number for the plan. What it could not look at because another run has its turn raises LockedError."""
    number = turn(config).number
    try:
        yield number
    except LifeboatError as exc:
        if not disturbed(config, number):
            raise
        raise disturbance(config, exc.attempted, exc.subject, exc.cause) from exc


def disturbed(config: Config, number: int) -> bool:
    """Return whether another run had its turn since a plan with that number was begun, or has it now."""
    last = turn(config)
    under_way = bool(last.number % 2) and lock.busy(config.stack)  # a turn counts when it begins and when it ends
    return last.number != number or under_way


def disturbance(config: Config, attempted: str, subject: str, cause: str) -> LockedError:
    """Return the error of a plan that another run disturbed. cause: what the plan would have ended with."""
    last = turn(config)
    return LockedError(
        attempted, subject,
        f"another run ({last.what}, at {last.at}) changed the stack while this one's plan was made: {cause};"
        " nothing was done",
        "Run the same command again: it makes a new plan.",
    )  # fmt: skip


def _took_turn(config: Config, what: str, stamp: str) -> None:
    taken = Turn(turn(config).number + 1, stamp, what, format_time(datetime.now(timezone.utc)))
    keep(config, TURN, json.dumps(typed.plain(taken)))


def interrupted(config: Config, name: str) -> str:
    """Return why a recovery is needed that has nothing to bring back: the one before was killed when all was back.
    Empty where it is not. name: of its mark."""
    left = stopped(config)
    if not left and unfinished(config, name) is None:
        return ""
    return f"an earlier recovery stopped {', '.join(left) or 'nothing'} and did not come to its end"


def with_stopped(config: Config, writers: Sequence[str]) -> list[str]:
    """Return the writers, and what an earlier recovery stopped and did not start again, such as a service
    of a profile."""
    return [*dict.fromkeys([*writers, *stopped(config)])]


UNANSWERED = "unanswered.json"
_ENDPOINT, _DID_NOT = "the endpoint ", " did not answer as it should: "  # of the note in a recovery point


@dataclass(frozen=True)
class Unanswered:
    """The application's endpoints that did not answer when the last backup was taken, before anything was lost.

    problems: what was wrong, by the name of the endpoint's check. at: when that was seen.
    """

    at: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def problem(self, config: Config, name: str) -> str:
        """Return what was wrong with an endpoint; empty where it answered, or nobody looked."""
        return self.problems.get(pipeline.scrub(name, config.secrets), "")

    @property
    def notes(self) -> list[str]:
        """Return the lines for a recovery point, so that a recovery on another host knows them."""
        return [f"{_ENDPOINT}{name}{_DID_NOT}{problem}" for name, problem in self.problems.items()]


def warnings_of_unanswered(config: Config, patience: float) -> list[str]:
    """Return what a plan says of endpoints that nobody will wait for as long as for the others. patience: how long."""
    known = unanswered(config)
    names = [f"{check.method} {check.url}" for check in config.application.checks]
    return [
        f"{_ENDPOINT}{pipeline.scrub(name, config.secrets)} did not answer as it should at {known.at}, when the last"
        f" backup was taken: {problem}; while it answers no better it is waited for {patience:.0f} s"
        for name in names
        if (problem := known.problem(config, name))
    ]


def unanswered(config: Config) -> Unanswered:
    """Return what the last backup saw; nothing where there was none."""
    return remembered(config, UNANSWERED, Unanswered) or Unanswered()


def keep_unanswered(
    config: Config, checks: Sequence[EndpointCheck], problems: Sequence[str], now: datetime
) -> Unanswered:  # fmt: skip
    """Remember which endpoints do not answer. problems: of each, empty where it does."""
    told = {f"{check.method} {check.url}": problem for check, problem in zip(checks, problems) if problem}
    secrets = config.secrets
    found = {pipeline.scrub(name, secrets): pipeline.scrub(problem, secrets) for name, problem in told.items()}
    made = Unanswered(format_time(now), found)
    keep(config, UNANSWERED, json.dumps(typed.plain(made)))
    return made


def adopt_unanswered(config: Config, notes: Sequence[str], at: datetime) -> None:
    """Remember what a recovery point says of endpoints, on a machine that has seen nothing of its own."""
    problems: dict[str, str] = {}
    for note in notes:
        name, middle, problem = note.partition(_DID_NOT)
        if middle and name.startswith(_ENDPOINT):
            problems[name[len(_ENDPOINT) :]] = problem
    if problems and not unanswered(config).at:
        keep(config, UNANSWERED, json.dumps(typed.plain(Unanswered(format_time(at), problems))))


def recovered(config: Config, name: str = RECOVERED) -> Optional[Last]:
    """None where there was none."""
    return remembered(config, name, Last)


def remembered(config: Config, name: str, kind: type[T]) -> Optional[T]:
    """Return what this host remembers under that name; None if that is nothing, or cannot be read."""
    return typed.maybe(kind, _stored(config, name))


def _stored(config: Config, name: str) -> Optional[bytes]:
    try:
        return filesystem.read_plain(config.state / name)
    except OSError:  # also a directory, a link or a pipe of that name: no recovery of ours wrote it
        return None


def keep(config: Config, name: str, text: str) -> None:
    """Remember `text` on this host under that name; whole or not at all."""
    with explained("remember the recovery", config.state / name):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = config.state / f"{name}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(config.state / name)


_MARKING = threading.Lock()  # several buckets are brought back at a time


def mark(config: Config, name: str, what: Optional[Unfinished] = None) -> None:
    """From now until the data is back the store may be an empty one: a backup of it must not become the newest good.

    A mark that stands is replaced only by one that covers it, so that what an earlier recovery began is not forgotten.
    """
    if what is None:
        with explained("mark the stack as being recovered", config.state / name):
            config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            (config.state / name).touch(mode=0o600)
        return
    with _MARKING:
        before = unfinished(config, name)
        if before and before.begun:
            covers = what.begun and what.covers(before)
            empty = what.empty or before.empty
            what = replace(what if covers else before, empty=empty, since=before.since, stamp=before.stamp)
        what = replace(what, since=what.since or format_time(datetime.now(timezone.utc)))
        if what != before:
            keep(config, name, json.dumps(typed.plain(what)))


def unmark(config: Config, name: str) -> None:
    (config.state / name).unlink(missing_ok=True)


def complete(config: Config, name: str, done: Unfinished) -> bool:
    """Remove the mark after a complete comparison of what `done` brought back. Returns whether none stands now: one of
    a recovery that was to bring back more than that stays."""
    before = unfinished(config, name)
    if before and before.begun and not done.covers(before):
        return False
    unmark(config, name)
    return True


def needed(what: str, condition: str, requested: str, force: bool, last: Optional[Last]) -> tuple[bool, str]:
    """Return whether a recovery is needed, and why. A healthy stack that has what is requested needs none."""
    if condition != HEALTHY:
        return True, f"the {what} is {condition}"
    if force:
        return True, "force was given"
    if not requested:
        return False, f"the {what} is healthy and no recovery point was asked for"
    if last and requested in (last.id, last.requested):
        return False, f"the {what} is healthy and was recovered to {last.id} at {last.at}"
    return True, f"{requested} was asked for"


def steps(
    mode: str, service: str, writers: Sequence[str], then: Sequence[str], *, living: Sequence[str] = (), fresh: str = ""
) -> list[str]:
    """List what will be done, in the words of the runbook, one line per step.

    then: from the restore on. living: what is done first to a server that lives; fresh: also to a fresh one.
    """
    reopen = [
        "reopen: start the application, wait for its health, ask its endpoints",
        "record: evidence with the time of each phase",
    ]
    if mode == "reopen":
        return reopen
    rebuild = [
        f"quarantine the data directory of {service} (moved aside, nothing is deleted)",
        f"start a fresh, empty {service}{fresh}",
    ]
    start = f"start {service} and look again; if it comes up whole and nothing else was asked for, nothing is restored"
    first = {"start": [start, *(f"otherwise {step}" for step in rebuild)], "rebuild": rebuild}.get(mode, living)
    stop = f"stop the writers ({', '.join(writers) or 'none known'})"
    return [*(f"protect: {step}" for step in (stop, *first)), *then, *reopen]
