# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The protect phase of a database recovery: what is particular to PostgreSQL in it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ..base import clock, filesystem
from ..base.checks import Check
from ..base.errors import LifeboatError, Log, NotFoundError, UsageError, present
from ..base.text import named
from ..recovery import state as recovery_state
from ..recovery.protect import Protected, Protection
from ..recovery.state import DAMAGED, DOWN, HEALTHY, Unfinished
from ..repository import repositories
from ..repository.sources import Sources
from ..stack.runtime import DataMount, Opened, ServiceState, database_mount
from . import aside, assess, clients, logins
from . import server as database_server
from .logins import Closed
from .methods.base import Outcome
from .methods.physical import choice, fill
from .plan import UNKNOWN_OTHERS
from .planned import PhysicalRoute, Plan, resumed
from .server import answers
from .wal import receiver, send, standing

# What PostgreSQL reads of its control file, at the least; a whole one has 8192 bytes.
CONTROL_BYTES = 256
_LOOPBACK = {"", "localhost", "127.0.0.1", "::1"}


class _Protection(Protection[assess.Assessment]):
    restore = "swap"
    temporary = True
    mark = recovery_state.RECOVERING
    marked = ("start", "rebuild")
    attempted = "start PostgreSQL"
    assessed = "the assessment read every table"
    whole = "every table of the newest backup is there and was read to its end"

    def __init__(self, run: Opened, planned: Plan, log: Log) -> None:
        super().__init__(run, run.config.database.service, log)
        self.planned, self.copied = planned, ""
        self.seen: Optional[assess.Assessment] = None

    def to_bring_back(self) -> Unfinished:
        planned = self.planned
        return Unfinished(
            str(planned.backup["id"]), requested=planned.asked, state=planned.state, additional=planned.replaced
        )

    def resumes(self, earlier: Unfinished) -> bool:
        """Of a server that lived only databases were replaced, each at one stroke: an assessment sees what is left."""
        return earlier.begun and earlier.empty

    def to_replace(self) -> tuple[str, ...]:
        """Of a server that was started: the target where its state was asked for, and what is damaged."""
        target, wrong = self.planned.target, [named(name) for name in present(self.seen).damaged]
        if self.planned.named:
            return (target,)
        first = [target] if self.planned.asked or target in wrong else []
        found = tuple(name for name in dict.fromkeys([*first, *wrong]) if name in self.planned.replaced)
        if not found:
            raise NotFoundError(
                "restore the database", ", ".join(wrong), "the chosen backup does not hold it",
                "Run the recovery again: the server is up now. Or name another backup: -e recovery_point=<id>.",
            )  # fmt: skip
        return found

    def hopeless(self) -> str:
        """No PostgreSQL starts without its control file, and the image makes no other where there is a PG_VERSION.
        https://www.postgresql.org/docs/current/storage-file-layout.html
        """
        with contextlib.suppress(LifeboatError, OSError):
            mount = self.data_mount()
            if fill.half_filled(mount):
                return f"a recovery that was filling {mount.data} has not ended"
            data = mount.path
            control = data / "global" / "pg_control"
            # A link may lead elsewhere in a container; a volume that is gone has no path.
            if data == Path() or control.parent.is_symlink() or control.is_symlink():
                return ""
            if not (data / "PG_VERSION").is_file() or not control.parent.is_dir():
                return ""
            if not control.exists():
                return f"{control} is missing"
            if (size := control.stat().st_size) < CONTROL_BYTES:
                return f"{control} has {size} bytes"
        return ""

    def ask(self, state: ServiceState) -> Optional[str]:
        found = database_server.reach(self.run) if state.running else database_server.Reached(None)
        if found.refused:  # one that its image initialised again has the password that the image was told
            initial = database_server.as_initialised(self.run)
            if initial and assess.holds_nothing(initial):
                return None
        return None if found.server else found.why

    def assess(self) -> assess.Assessment:
        planned, sources = self.planned, Sources(self.run, "database")
        named_by = (entry for entry in sources.entries if planned.state and entry.id == planned.backup["id"])
        reference = assess.reference_of(sources, next(named_by, None), planned.target if planned.named else "")
        seen = assess.assess(self.run, reference)
        self.seen = seen if seen.condition != DOWN else None
        if self.planned.named and seen.condition == DAMAGED and self.planned.target not in map(named, seen.damaged):
            return replace(seen, condition=HEALTHY)  # the others were not asked for
        return seen

    def before_rebuild(self) -> None:
        if self.planned.copied:
            self.copied = aside.take(self.run, self.planned.copied, self.planned.stamp, self.log)

    def refusal(self, response: str) -> UsageError:
        return assess.refusal(self.config, response)

    def refused(self) -> str:
        found = database_server.reach(self.run)
        return found.why if found.refused else ""

    def settled(self) -> bool:
        """Images keep the server with which they initialise to its socket, or to the loopback."""
        sql = "SELECT to_json(pg_catalog.current_setting('listen_addresses'));"
        server = database_server.reach(self.run).server
        with contextlib.suppress(LifeboatError):
            told = answers(str, server.execute(sql, attempted="see where it listens")) if server else []
            return any({address.strip() for address in addresses.split(",")} - _LOOPBACK for addresses in told)
        return False

    def blank(self) -> bool:
        """Then nobody's roles and settings are in it: it gets all that a rebuilt one gets. That a database was dropped
        makes no other server of it."""
        if self.planned.named:
            return False
        return (
            self.planned.mode == "fill"
            or bool(self.seen and self.seen.initialised_again)
            or resumed(self.config) is not None
        )

    def data_mount(self) -> DataMount:
        return database_mount(self.config, self.stack)

    def initialise(self, mount: DataMount) -> None:
        self.stack.initialise(self.service, str(mount.path), self.config.database.user or "postgres")

    def stop(self, writers: tuple[str, ...]) -> tuple[str, ...]:
        one_offs = self.planned.one_offs
        if one_offs:
            self.log(f"stopping containers of `docker compose run`: {', '.join(one_offs)}")
            for words in self.stack.end(one_offs, timeout=120) or ():
                self.log(words)
        return (*super().stop(writers), *one_offs)

    def shut(self, *, fresh: bool) -> tuple[str, ...]:
        """Clients of others lose their sessions, and nobody logs in to write what the new database will not have."""
        if fresh:  # from now on nobody may use it before it is filled
            recovery_state.mark(self.config, self.mark, replace(self.to_bring_back(), empty=True))
        server, planned, seen = database_server.of(self.run), self.planned, self.seen
        replaced = planned.replaced if fresh or planned.mode in ("swap", "fill") else self.to_replace()
        names = tuple(database.name for database in server.living() if named(database.name) in replaced)
        if fresh:
            shut = Closed(names, True, True, ("the database is the empty one of a fresh server",))
        elif seen is None:
            shut = Closed(names, False, planned.condition != HEALTHY, planned.findings)
        else:
            shut = Closed(names, False, seen.condition != HEALTHY, seen.findings)
        cut_off = clients.shut_out(self.config, server, shut, log=self.log)
        return tuple(f"ended the session of {client}" for client in cut_off)


class _FromBase(_Protection):
    """Of a server that comes back from a base and WAL: its new data directory is filled before it starts."""

    filling = True

    def __init__(self, run: Opened, planned: Plan, route: PhysicalRoute, log: Log) -> None:
        super().__init__(run, planned, log)
        self.route = route

    def to_bring_back(self) -> Unfinished:
        planned, route = self.planned, self.route
        return Unfinished(
            route.base, requested=planned.asked, state=planned.state, replay=choice.written(route),
            timeline=route.timeline,
        )  # fmt: skip

    def hopeless(self) -> str:
        """Where no data lies the image would make an empty server, which is no other than none."""
        with contextlib.suppress(LifeboatError, OSError):
            mount = self.data_mount()
            if mount.path == Path():
                return f"there is no {mount.kind} {mount.name}"
            if mount.path.is_dir() and not filesystem.is_filled(mount.data):
                return f"{mount.data} is empty"
        return super().hopeless()

    def shut(self, *, fresh: bool) -> tuple[str, ...]:
        """Nobody: the server starts with data that was proved."""
        return ()

    def _start_and_assess(self, requested: bool, resumed: bool) -> tuple[str, tuple[Check, ...]]:
        mode, checks = super()._start_and_assess(requested, resumed)
        if mode != self.restore:
            return mode, checks
        seen = self.seen
        if not requested and seen is not None and seen.condition == DAMAGED and not seen.initialised_again:
            raise LifeboatError(
                "bring the server back from a base", self.planned.target, "; ".join(seen.findings),
                "The server is up, and some of its data is wrong: run the same command again, which plans for that.",
            )  # fmt: skip
        return "rebuild", ()

    def _rebuild(self, stamp: str) -> tuple[str, tuple[str, ...]]:
        """Go on behind what an earlier run has filled; else put aside what is there, and fill it."""
        if fill.completed(self.config, self.data_mount()):
            self.log("an earlier run has filled the data directory: it goes on from there")
            self.start_fresh()
            return "", ()
        return super()._rebuild(stamp)

    def before_rebuild(self) -> None:
        fill.clear(self.config, self.data_mount())

    def fill(self, mount: DataMount) -> None:
        """From the base, to the instant of the plan, or to the end of what has been received since."""
        if mount.path == Path() or not mount.path.is_dir():
            self.stack.prepare(self.service, timeout=300)
            mount = self.data_mount()
        instant = choice.read(choice.written(self.route))
        if receiver.enabled(self.config) is not None:
            try:
                send.send(self.run, self.log)
            except LifeboatError as exc:
                self.log(f"what was received last may be missing: {exc.cause}")
        with standing.archive(self.run, repositories.repository_of(self.run)) as source:
            route = source.catalogue().route(instant, clock.now(), self.route.timeline)
            bases = [base for base in route.window.bases if base.id == self.route.base]
            route = replace(route, base=bases[0]) if bases else route
            fill.fill(self.run, source, route, mount, self.log)


@dataclass(frozen=True)
class ProtectedDatabase(Protected):
    """replaced: the databases to restore, the one that must prove first; none where a fresh server gets every one.

    copied: where those lie that the backup does not hold and the fresh server gets. databases: what became of others.
    """

    replaced: tuple[str, ...] = ()
    copied: str = ""
    databases: tuple[Outcome, ...] = ()


def protect(run: Opened, planned: Plan, *, log: Log) -> ProtectedDatabase:
    """What Protection.protect() does, for the stack's database."""
    route, unchecked = planned.physical, planned.unchecked
    protection = _FromBase(run, planned, route, log) if route else _Protection(run, planned, log)
    left = aside.waiting(run.config)  # before this recovery marks itself as one that has not ended
    if not left:
        aside.settle(run.config)
    if planned.mode == "reopen" and (run.config.state / logins.CLOSED).exists():
        logins.reopen(run, log=log)
        seen = protection.assess()  # the plan could not
        if seen.condition != HEALTHY:
            raise LifeboatError(
                "look at the database", planned.target, "; ".join(seen.findings), "Run the same command again."
            )
        unchecked = seen.unchecked
    checks: tuple[Check, ...] = ()
    brought: Sequence[Outcome] = ()
    if planned.mode == "reopen" and left:
        checks, brought = aside.bring_back(run.config, database_server.of(run), Path(left), planned.stamp, log)
    if planned.mode == "fill":  # from now on nobody may use it before it is filled
        recovery_state.mark(run.config, protection.mark, replace(protection.to_bring_back(), empty=True))
    mode = "swap" if planned.mode == "fill" else planned.mode
    done = protection.protect(mode, planned.writers, requested=planned.asked, unchecked=unchecked, stamp=planned.stamp)
    if planned.mode != "reopen" and done.mode == "started" and left:
        checks, brought = aside.bring_back(run.config, database_server.of(run), Path(left), planned.stamp, log)
    done = replace(done, checks=(*done.checks, *checks))
    replaced: tuple[str, ...] = ()
    if done.mode == "swap" and not done.fresh:
        replaced = planned.replaced if planned.mode == "swap" else protection.to_replace()
    outcomes = _left(planned) if done.fresh and done.quarantine else ()
    copied = "" if done.mode == "started" else protection.copied or left
    return ProtectedDatabase(**vars(done), replaced=replaced, copied=copied, databases=(*outcomes, *brought))


def _left(planned: Plan) -> tuple[Outcome, ...]:
    """The databases that stay in the data directory that was put aside, as far as they are known."""
    left = [Outcome(item.name, item.action, item.why) for item in planned.databases if item.action == "quarantined"]
    if UNKNOWN_OTHERS in planned.unchecked:
        left.append(Outcome("any other", "quarantined", "the server did not answer, so what else it had is not known"))
    return tuple(left)
