# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out the plan for the other database servers: restore next to the living one, compare, swap, start, compare.

Until its dump is restored and proved the living server goes on. Killed at any step, the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Optional

from ..base import filesystem
from ..base.checks import FAIL, PASS, Check, ended
from ..base.clock import format_time
from ..base.errors import LifeboatError, Log, UnverifiedError
from ..database import scratch
from ..recovery import reopen
from ..recovery import state as recovery_state
from ..recovery.sources import planned_backup, stop
from ..recovery.state import DOWN, HEALTHY, RECOVERING_DUMPS, Unfinished
from ..repository.base import Repository
from ..repository.details import DumpsDetails
from ..repository.manifest import Manifest
from ..stack import quarantine
from ..stack.runtime import DataMount, Opened
from ..stack.service import last_words
from ..tools import age
from . import fresh, sources
from .facts import DUMPS, Facts, opened, read_facts
from .fresh import Data
from .plan import RECOVERED, Plan, Source
from .proof import comparison
from .sources import Server

_COMES_UP = 60.0  # seconds for a server that was only stopped
_STARTS = 300.0  # seconds for one with data of ours
_PAUSE = 0.5


@dataclass(frozen=True)
class Recovered:
    """restored: bytes of the dumps that came back, by source. quarantine: where what they replaced is. Modules return
    it as it is."""

    checks: tuple[Check, ...] = ()
    restored: Mapping[str, int] = field(default_factory=dict)
    quarantine: str = ""
    way_back: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Prepared:
    """Restored data that was proved, and where it goes."""

    source: Source
    server: Server
    facts: Facts
    bytes: int
    mount: DataMount
    data: Data


class _Recovery:
    """One recovery in the doing. reopens: who writes is stopped, and started again."""

    def __init__(
        self, run: Opened, planned: Plan, repo: Repository, manifest: Manifest, reopens: bool, log: Log
    ) -> None:
        self._run, self._planned, self._repo, self._manifest, self._log = run, planned, repo, manifest, log
        self._keys, self._reopens = age.keys(run.config, run.key), reopens
        self._servers = {server.name: server for server in sources.servers(run)}
        self.writers: list[str] = []
        self.checks: list[Check] = []
        self.restored: dict[str, int] = {}
        self.complete: set[str] = set()
        self.quarantine: list[str] = []
        self.way_back: list[str] = []

    def doing(self, names: Sequence[str]) -> Unfinished:
        """The mark: a server's data is moved out of its place before the restored data is moved in."""
        planned = self._planned
        return Unfinished(
            self._manifest.id, empty=True, requested=planned.requested, additional=tuple(names), stamp=planned.stamp
        )

    def prepare(self, each: Source, open_until: contextlib.ExitStack, *, begun: bool) -> Optional[_Prepared]:
        """The restored data of one server, proved; None where it lacks nothing, or could not be proved. begun: an
        earlier run began with it, so that what is there is believed only if it is complete."""
        server = self._servers[each.name]
        with self._reported(each):
            facts = read_facts(self._repo, self._manifest, each.name, self._keys)
            if not self._complete(server, each, facts, begun=begun):
                return self._restored(server, each, facts, open_until)
        return None

    @contextlib.contextmanager
    def _reported(self, each: Source) -> Iterator[None]:
        """An error of one server is a check, and the others are recovered all the same."""
        try:
            yield
        except LifeboatError as exc:
            self._log(str(exc))
            self.checks.append(replace(ended(f"dump {each.name}", exc), kind=DUMPS, subject=each.name))

    def _complete(self, server: Server, each: Source, facts: Facts, *, begun: bool) -> bool:
        """Does it hold all that the backup has, once it was started where it only lay still?"""
        planned = self._planned
        if each.condition == DOWN and (begun or planned.requested or not _filled(each.data)):
            return False
        if each.condition == DOWN:
            self._log(f"starting {each.service}")
            with contextlib.suppress(LifeboatError):
                self._run.runtime.start([each.service], timeout=_COMES_UP)
            if not self._answers(server, _COMES_UP):
                return False
        elif each.condition != HEALTHY or not begun:
            return False
        wrong = facts.differences(sources.reach(self._run, server).facts()).wrong
        left = wrong if planned.requested else [item for item in wrong if item.endswith(" is missing")]
        if left:
            return False
        words = f"{each.service} came up, and lacks nothing of {self._manifest.id}"
        self.checks.append(Check(f"dump {each.name}", PASS, words, kind=DUMPS, subject=each.name))
        self.complete.add(each.name)
        return True

    def _answers(self, server: Server, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(LifeboatError):
                reached = sources.reach(self._run, server)
                if reached.answers() and reached.facts():
                    return True
            time.sleep(_PAUSE)
        return False

    def _restored(
        self, server: Server, each: Source, facts: Facts, open_until: contextlib.ExitStack
    ) -> Optional[_Prepared]:
        entry = self._manifest.detailed(DumpsDetails).sources[each.name]
        mount = each.data if each.path and Path(each.path).is_dir() else self._created_mount(each, server)
        dump = partial(opened, self._repo, self._manifest, entry.artefact, self._keys)
        data = open_until.enter_context(_beside(self._run.config.stack, mount, self._planned.stamp))
        self._log(f"restoring {each.name} into a fresh server, next to the living one")
        with fresh.restored(self._run, server, entry, dump, data) as reached:
            title = f"dump {each.name}, before the swap"
            checks = list(comparison(title, each.name, facts, reached.facts()))
            if any(check.result == FAIL for check in checks):
                self.checks += checks
                return None  # the living one stays as it is
            if entry.append_only:
                fresh.settle(reached)
            fresh.stop(reached)
        return _Prepared(each, server, facts, entry.bytes, mount, data)

    def swap(self, ready: _Prepared) -> None:
        """Put the living server's data into quarantine, the restored data into its place, and compare again."""
        each, config = ready.source, self._run.config
        runtime, kept = sources.compose(self._run, each.name), ""
        with self._reported(each):
            if _filled(ready.mount):
                kept, back = quarantine.put_aside(
                    config.stack, runtime, each.service, ready.mount, self._planned.stamp, log=self._log
                )
                self.quarantine += [kept]
                self.way_back += back
            else:
                runtime.discard(each.service, timeout=120)
            _swap(ready.data, ready.mount)
            self._log(f"starting {each.service} with the restored data")
            runtime.start([each.service], timeout=_STARTS)
            if not self._answers(ready.server, _STARTS):
                raise UnverifiedError(
                    "start the recovered server", each.service,
                    f"it does not answer; it last said: {last_words(runtime.logs(each.service))}",
                    f"docker compose logs {each.service}. The old data lies in {kept or 'no quarantine'}.",
                )  # fmt: skip
            now = sources.reach(self._run, ready.server).facts()
            self.checks += comparison(f"dump {each.name}", each.name, ready.facts, now)
            self.restored[each.name] = ready.bytes

    def stop(self, ready: Sequence[_Prepared]) -> None:
        """Who writes there, until all are swapped."""
        self.writers = sorted({name for each in ready for name in each.source.writers}) if self._reopens else []
        if self.writers:
            self.writers = recovery_state.with_stopped(self._run.config, self.writers)
            stop(self._run, self.writers, self._log)

    def _created_mount(self, each: Source, server: Server) -> DataMount:
        """Its volume as Compose makes it, with its labels, by making its container; of a bind mount the directory."""
        runtime = sources.compose(self._run, each.name)
        if each.kind == "volume" and each.path:  # the engine knows it: a run was killed while it swapped
            with filesystem.explained("make the directory", each.path):
                Path(each.path).mkdir(exist_ok=True)
        elif each.kind == "volume":
            self._log(f"making the volume {each.mount}")
            words = ("up", "--no-start", "--no-deps", "--force-recreate", each.service)
            runtime.control(*words, attempted="make the volume", subject=each.mount, timeout=300)
        else:
            with filesystem.explained("make the directory", each.mount), filesystem.within(each.mount):
                self._log(f"made {each.mount}")
        return runtime.data_mount(each.service, server.source.data_path)


def recover(run: Opened, planned: Plan, *, reopens: bool = True, log: Log) -> Recovered:
    """The caller holds the stack's lock, and has the turn. What is not as in the backup then is a failed check.
    reopens: stop who writes there, and start them again; False where nobody of them runs.
    """
    config = run.config
    identity = str(planned.backup["id"])
    repo, manifest = planned_backup(run, DUMPS, planned)
    scratch.sweep(config.stack)
    scratch.sweep_volumes(config.stack)
    todo = [each for each in planned.sources if each.needed]
    empty = {each.name for each in todo if not _filled(each.data)}
    earlier = recovery_state.unfinished(config, RECOVERING_DUMPS)
    begun = earlier.additional if earlier else ()
    work = _Recovery(run, planned, repo, manifest, reopens, log)
    with contextlib.ExitStack() as open_until:
        ready = [made for each in todo if (made := work.prepare(each, open_until, begun=each.name in begun))]
        if ready:  # until now nothing was changed
            names = tuple(one.source.name for one in ready)
            recovery_state.mark(config, RECOVERING_DUMPS, work.doing(names))
        work.stop(ready)
        for one in ready:
            work.swap(one)
    wrong = {check.subject for check in work.checks if check.result == FAIL}
    done = {*work.restored, *work.complete} - wrong
    recovery_state.complete(config, RECOVERING_DUMPS, Unfinished(identity, additional=tuple(sorted(done))))
    if lost := sorted(empty - done):  # who uses it would make it, and fill it
        recovery_state.mark(config, RECOVERING_DUMPS, work.doing(lost))
    at = format_time(datetime.now(timezone.utc))
    for name in done if planned.requested else ():
        recovery_state.keep(config, RECOVERED + name, json.dumps({"id": identity, "at": at, "asked": identity}))
    writers = recovery_state.with_stopped(config, planned.writers) if reopens else []
    checks = [*work.checks, *(reopen.reopen(run, writers, log=log) if writers else [])]
    return Recovered(tuple(checks), work.restored, ", ".join(work.quarantine), tuple(work.way_back))


def _filled(mount: DataMount) -> bool:
    """Does anything lie there?"""
    return mount.path != Path() and filesystem.is_filled(mount.path)


@contextlib.contextmanager
def _beside(stack: str, mount: DataMount, stamp: str) -> Iterator[Data]:
    """Where the fresh server keeps its data, on the same disk: what is not swapped in is gone afterwards."""
    if mount.kind == "volume":
        with fresh.volume(stack) as data:
            yield data
        return
    path = mount.path.with_name(f"{mount.path.name}.restored_{stamp}")
    with filesystem.explained("make a directory for the fresh server", path):
        for left in sorted(mount.path.parent.glob(f"{mount.path.name}.restored_*")):
            filesystem.remove(left)  # of a run that was killed
        filesystem.create_directory(path, mount.path.stat())
    try:
        yield fresh.directory(path)
    finally:
        if path.exists():
            filesystem.remove(path)


def _swap(data: Data, mount: DataMount) -> None:
    """The restored data in the place of the old, which is empty now."""
    attempted, where = "put the restored data into its place", str(mount.path)
    try:
        with contextlib.suppress(FileNotFoundError):  # a run was killed here
            mount.path.rmdir()
        data.path.rename(mount.path)
        if data.volume:
            data.path.mkdir()  # or the engine could not remove the volume
    except OSError as exc:
        remedy = f"By hand: mv {shlex.quote(str(data.path))} {shlex.quote(where)}; or run the recovery again."
        raise LifeboatError(attempted, where, exc.strerror or str(exc), remedy) from exc
