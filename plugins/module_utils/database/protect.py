# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The protect phase of a database recovery: what is particular to PostgreSQL in it."""

from __future__ import annotations

import contextlib
from typing import Optional

from ..base.errors import LifeboatError, Log, UsageError
from ..recovery import state as recovery_state
from ..recovery.protect import Protected, Protection
from ..recovery.state import HEALTHY
from ..repository.sources import Sources
from ..stack.runtime import DataMount, Opened, ServiceState, database_mount
from . import assess, logins
from . import server as database_server
from .logins import Closed
from .planned import Plan
from .server import answers

_LOOPBACK = {"", "localhost", "127.0.0.1", "::1"}


class _Protection(Protection[assess.Assessment]):
    restore = "swap"
    mark = recovery_state.RECOVERING
    marked = ("start", "rebuild")
    attempted = "start PostgreSQL"
    assessed = "the assessment read every table"
    whole = "every table of the newest backup is there and was read to its end"

    def __init__(self, run: Opened, planned: Plan, log: Log) -> None:
        super().__init__(run, run.config.database.service, log)
        self._planned = planned
        self._condition, self._findings = planned.condition, planned.findings

    def ask(self, state: ServiceState) -> Optional[str]:
        found = database_server.reach(self.run) if state.running else database_server.Reached(None)
        return None if found.server else found.why

    def look(self) -> assess.Assessment:
        seen = assess.assess(self.run, assess.reference_of(Sources(self.run, "database")))
        self._condition, self._findings = seen.condition, seen.findings
        return seen

    def refusal(self, said: str) -> UsageError:
        return assess.refusal(self.config, said)

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

    def data_mount(self) -> DataMount:
        return database_mount(self.config, self.stack)

    def initialise(self, mount: DataMount) -> None:
        self.stack.initialise(self.service, str(mount.path), self.config.database.user or "postgres")

    def stop(self, writers: tuple[str, ...]) -> tuple[str, ...]:
        one_offs = self._planned.one_offs
        if one_offs:
            self.log(f"stopping containers of `docker compose run`: {', '.join(one_offs)}")
            self.stack.end(one_offs, timeout=120)
        return (*super().stop(writers), *one_offs)

    def shut(self, *, fresh: bool) -> tuple[str, ...]:
        """Clients of others lose their sessions, and nobody logs in to write what the new database will not have."""
        names = (self._planned.target,)
        if fresh:
            shut = Closed(names, True, True, ("the database is the empty one of a fresh server",))
        else:
            shut = Closed(names, False, self._condition != HEALTHY, self._findings)
        cut_off = logins.close(self.config, database_server.of(self.run), shut, log=self.log)
        return tuple(f"ended the session of {client}" for client in cut_off)


def protect(run: Opened, planned: Plan, *, log: Log) -> Protected:
    """What Protection.protect() does, for the stack's database."""
    protection, unchecked = _Protection(run, planned, log), planned.unchecked
    if planned.mode == "reopen" and (run.config.state / logins.CLOSED).exists():
        logins.reopen(run, log=log)
        seen = protection.look()  # the plan could not
        if seen.condition != HEALTHY:
            raise LifeboatError(
                "look at the database", planned.target, "; ".join(seen.findings), "Run the same command again."
            )
        unchecked = seen.unchecked
    return protection.protect(
        planned.mode, planned.writers, asked=planned.asked, unchecked=unchecked, stamp=planned.stamp
    )
