# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The protect phase of a recovery: stop the writers, try to start the server, put its data aside. Deletes nothing."""

from __future__ import annotations

import abc
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Optional, Protocol, TypeVar

from ..base import clock
from ..base.checks import COULD_NOT_VERIFY, PASS, Check
from ..base.errors import LifeboatError, Log, UsageError
from ..stack import quarantine, runtime
from ..stack.runtime import DataMount, Opened, ServiceState
from . import state as recovery_state
from .state import DOWN, HEALTHY, STOPPED, Unfinished, keep, mark, unmark

# A server that keeps exiting will not come up; one that replays its log says so, and may take as long as it needs.
PATIENCE_WHEN_EXITED = 15.0
RESTARTS_ENOUGH = 3


class Assessed(Protocol):
    """The assessment of a store, whatever its kind."""

    @property
    def condition(self) -> str: ...
    @property
    def findings(self) -> tuple[str, ...]: ...
    @property
    def unchecked(self) -> tuple[str, ...]: ...
    @property
    def refused(self) -> str: ...


@dataclass(frozen=True)
class Protected:
    """mode `started`: it came up whole, nothing is restored. stopped: None where nothing had to be. notes: who else
    wrote, and was cut off."""

    mode: str
    checks: tuple[Check, ...] = ()
    fresh: bool = False
    quarantine: str = ""
    way_back: tuple[str, ...] = ()
    stopped: Optional[tuple[str, ...]] = None
    notes: tuple[str, ...] = ()


S = TypeVar("S", bound=Assessed)


class Protection(abc.ABC, Generic[S]):
    """What differs from store to store. restore: the mode of a restore into a server that lives.

    mark: the file that keeps backups away while the store may be an empty one; marked: the modes that set it.
    assessed, whole: what has been looked at when an assessment found nothing wrong, before and after a start.
    temporary: images initialise such a store with a server that answers as well, and settled() tells the two apart.
    filling: a run that was killed may have left an empty data directory, which is not put aside.
    """

    restore: str
    mark: str
    marked: Sequence[str]
    attempted: str
    assessed: str
    whole: str
    temporary = False
    filling = False

    def __init__(self, run: Opened, service: str, log: Log) -> None:
        self.run, self.config, self.stack, self.service, self.log = run, run.config, run.runtime, service, log

    @abc.abstractmethod
    def ask(self, state: ServiceState) -> Optional[str]:
        """None where the server answers, else why not, as far as that is known. UsageError where it refuses our key."""

    @abc.abstractmethod
    def assess(self) -> S:
        """Assess the server that has been started."""

    @abc.abstractmethod
    def refusal(self, response: str) -> UsageError:
        """Return the error for a server that runs and refuses our key: nothing of it is ours to move."""

    @abc.abstractmethod
    def data_mount(self) -> DataMount: ...

    def refused(self) -> str:
        """Return what a server that did not come up says, if it only refuses us."""
        return ""

    def hopeless(self) -> str:
        """Return why the server cannot come up, if its files alone tell that."""
        return ""

    def beyond_repair(self, assessment: S) -> bool:
        """Return whether a server that came up incomplete can be restored only into a fresh one."""
        return assessment.condition == DOWN

    def fitting(self, mode: str) -> str:
        """Return the mode if the server is neither to be started nor rebuilt."""
        return mode

    def settled(self) -> bool:
        """Return whether what answers is certainly not the temporary server with which an image initialises."""
        return False

    def before_rebuild(self) -> None:
        """Save what must be brought out of the server before its data is put aside."""
        return

    def blank(self) -> bool:
        """Return whether what answers holds nothing, such as an image makes of a directory that was emptied."""
        return False

    @abc.abstractmethod
    def to_bring_back(self) -> Unfinished:
        """Return what this recovery brings back, for the mark."""

    def resumes(self, earlier: Unfinished) -> bool:
        """Return whether what that recovery began must be compared, whatever the assessment says."""
        return earlier.begun

    def initialise(self, mount: DataMount) -> None:
        """Prepare an empty data directory, where starting the service does not."""
        del mount

    def fill(self, mount: DataMount) -> None:
        """Put into the empty data directory what the fresh server begins with."""
        self.initialise(mount)

    def stop(self, writers: tuple[str, ...]) -> tuple[str, ...]:
        """Stop the writers. Returns the names of what was stopped."""
        self.log(f"stopping the writers: {', '.join(writers) or 'none known'}")
        for words in self.stack.stop(writers, timeout=120) or ():
            self.log(words)
        return writers

    def shut(self, *, fresh: bool) -> tuple[str, ...]:
        """Keep everybody else away from what will be replaced. Returns who was cut off. fresh: the server is."""
        del fresh
        return ()

    def protect(
        self, mode: str, writers: tuple[str, ...], *, requested: bool, unchecked: Sequence[str], stamp: str
    ) -> Protected:
        """Stop the writers; where the server is down, start it, or put its data aside and start a fresh one."""
        earlier = recovery_state.unfinished(self.config, self.mark)
        resumed = earlier is not None and self.resumes(earlier)
        if mode == "reopen":
            if not resumed:
                unmark(self.config, self.mark)
            return Protected("started", (Check("data", COULD_NOT_VERIFY if unchecked else PASS, self.assessed),))
        if told := recovery_state.with_stopped(self.config, writers):  # of none nobody would remove the list
            keep(self.config, STOPPED, json.dumps(told))
        stopped = self.stop(writers)
        if mode in self.marked:
            mark(self.config, self.mark, Unfinished(begun=False) if mode == "start" else self.to_bring_back())
        checks: tuple[Check, ...] = ()
        if mode == "start":
            mode, checks = self._start_and_assess(requested, resumed)
            if mode == self.restore and mode in self.marked:
                mark(self.config, self.mark, self.to_bring_back())
        elif mode == self.restore:
            mode = self.fitting(mode)
        if mode != "rebuild":
            fresh = mode == self.restore and self.blank()
            cut_off = self.shut(fresh=fresh) if mode == self.restore else ()
            return Protected(mode, checks, fresh, stopped=stopped, notes=cut_off)
        kept, way_back = self._rebuild(stamp)
        return Protected(mode, checks, True, kept, way_back, stopped, self.shut(fresh=True))

    def _start_and_assess(self, requested: bool, resumed: bool) -> tuple[str, tuple[Check, ...]]:
        """Take the smallest step first: a server that was merely stopped loses nothing when it is merely started."""
        if why := self.hopeless():
            self.log(f"{self.service} is not started: {why}")
            return "rebuild", ()
        self.log(f"starting {self.service} to see whether it comes up")
        try:
            self.stack.start([self.service], timeout=120)
            self.wait()
        except UsageError:
            raise
        except LifeboatError as exc:
            why = self.refused()
            if why:
                raise self.refusal(why) from exc
            self.log(f"it does not: {exc.cause}")
            return "rebuild", ()
        real = not self.temporary or self.settled()
        assessment = self.assess()
        if not assessment.refused and (assessment.condition == DOWN or (assessment.condition != HEALTHY and not real)):
            # What answered may be the temporary server with which an image initialises an empty directory.
            with contextlib.suppress(LifeboatError):
                self._settle()
                assessment = self.assess()
        if assessment.refused:
            raise self.refusal(assessment.refused)
        if assessment.condition == HEALTHY and requested:
            self.log("it came up whole; another state of it was asked for")
            return self.restore, ()
        if assessment.condition == HEALTHY and resumed:
            self.log("it came up; what an earlier recovery began to bring back is compared before anything else")
            return self.restore, ()
        if assessment.condition == HEALTHY:
            self.log("it came up, and all of its data is there")
            unmark(self.config, self.mark)
            result = COULD_NOT_VERIFY if assessment.unchecked else PASS
            return "started", (Check("data", result, "; ".join(assessment.unchecked) or self.whole),)
        self.log(f"it came up {assessment.condition}: {'; '.join(assessment.findings[:3])}")
        return ("rebuild" if self.beyond_repair(assessment) else self.restore), ()

    def wait(self) -> None:
        """Wait until the server that has been started answers."""
        began = time.monotonic()
        deadline = began + self.config.application.timeout
        exited_since, why = 0.0, ""
        waiting = clock.Waiting(f"{self.service} to answer", deadline, self.log)
        while time.monotonic() < deadline:
            state = self.stack.state(self.service)
            said = self.ask(state)
            if said is None:
                return
            why = said or why
            if not state.running:
                exited_since = exited_since or time.monotonic()
            hopeless = exited_since and time.monotonic() - exited_since > PATIENCE_WHEN_EXITED
            if hopeless or (not state.running and state.restarts >= RESTARTS_ENOUGH):
                words = runtime.last_words(self.stack.logs(self.service))
                why = f"{self.service} is {state.describe()}" + (f"; it last said: {words}" if words else "")
                break
            waiting.note(f"{self.service} is {state.describe()}" + (f", {why}" if why else ""))
            clock.pause(began)
        raise LifeboatError(
            self.attempted, self.service, why or "no answer", f"docker compose logs --tail 50 {self.service}"
        )

    def _settle(self) -> None:
        """Wait until the server stays up: images initialise with a temporary one, which answers and then stops."""
        began = time.monotonic()
        deadline = began + self.config.application.timeout
        calm = 0
        waiting = clock.Waiting(f"{self.service} to stay up", deadline, self.log)
        while calm < 4:
            if time.monotonic() > deadline:
                raise LifeboatError(self.attempted, self.service, "it does not stay up")
            state = self.stack.state(self.service)
            waiting.note(f"it is {state.describe()}")
            up = state.running and self.ask(state) is None
            if up and self.settled():
                return
            calm = calm + 1 if up and state.health != "starting" else 0
            if calm:
                time.sleep(0.5)
            else:
                clock.pause(began)

    def start_fresh(self) -> None:
        """Start the server whose data directory was filled, and wait until it stays up."""
        self.stack.start([self.service], timeout=300)
        self.wait()
        self._settle()

    def _rebuild(self, stamp: str) -> tuple[str, tuple[str, ...]]:
        """Move the data directory aside and let the stack's own definition start a fresh server."""
        self.before_rebuild()
        mount = self.data_mount()
        mark(self.config, self.mark, replace(self.to_bring_back(), empty=True))
        aside = quarantine.put_aside(
            self.config.stack, self.stack, self.service, mount, stamp, empty=not self.filling, log=self.log
        )
        try:
            self.fill(mount)
            self.log(f"starting a fresh {self.service}")
            self.start_fresh()
        except LifeboatError as exc:
            kept, way_back = aside
            if kept:
                exc.remedy = f"{exc.remedy} The old data lies in {kept}. To go back: {'; '.join(way_back)}".strip()
            raise
        return aside
