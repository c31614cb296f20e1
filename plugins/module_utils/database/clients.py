# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is connected to a database, and how they are shut out of it.

A writer need not be a service of the stack: a container of another project, a cron job of the host, an operator's psql.
pg_stat_activity knows them all. https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from ..base import typed
from ..base.errors import LifeboatError, Log
from ..base.text import named
from ..recovery.state import keep
from ..settings.config import Config
from . import logins
from .logins import Closed
from .server import Server, answers, literal

PATIENCE = 30.0  # seconds for a session to notice that it was ended: it may be writing to a slow disk
# A login that was let in an instant before the database was closed is seen only now.
SECOND_LOOK = 0.1


@dataclass(frozen=True)
class Client:
    """A session. address: None at a Unix socket. What our role may not see of another's session is None."""

    pid: int
    database: str
    user: Optional[str] = None
    application: Optional[str] = None
    address: Optional[str] = None
    state: Optional[str] = None
    since: Optional[str] = None

    @property
    def who(self) -> str:
        """Without what changes from one of its sessions to the next."""
        name = f" ({named(self.application)})" if self.application else ""
        return f"{named(self.user or 'an unknown role')} at {self.address or 'a local socket'}{name}"

    def __str__(self) -> str:
        details = [
            f"connected to {named(self.database)}",
            f"since {self.since}" if self.since else "",
            self.state or "",
        ]
        return ", ".join(filter(None, [self.who, *details]))


# A role that is not a member of pg_read_all_stats sees no backend_type of others.
_SEEN = (
    "jsonb_build_object('pid', pid, 'database', datname, 'user', usename, 'application', application_name,"
    " 'address', pg_catalog.host(client_addr), 'state', state,"
    " 'since', pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
)
_CLIENTS = "coalesce(backend_type, 'client backend') IN ('client backend', 'walsender')"


def _in(names: Collection[str]) -> str:
    listed = ", ".join(literal(name) for name in sorted(names))
    return f"FROM pg_catalog.pg_stat_activity WHERE datname IN ({listed}) AND pid <> pg_catalog.pg_backend_pid()"


def _listed(server: Server, names: Collection[str]) -> str:
    """Neither our own sessions nor workers of the server."""
    ours = f"application_name IS NOT DISTINCT FROM {literal(server.application)}"
    return f"SELECT {_SEEN} {_in(names)} AND {_CLIENTS} AND NOT {ours} ORDER BY backend_start;"


def connected(server: Server, names: Collection[str]) -> list[Client]:
    """The sessions of clients in these databases."""
    sql = _listed(server, names)
    with server.database_for(sql) as other:
        return answers(Client, server.execute(sql, database=other, attempted="list the clients", timeout=60))


def end(server: Server, names: Collection[str]) -> list[Client]:
    """End every session in these databases, which take no new logins. Returns those of clients.

    Raises LifeboatError where one does not end in time.
    """
    ended: dict[int, Client] = {}
    terminate = f"SELECT to_json(pg_catalog.count(pg_catalog.pg_terminate_backend(pid))) {_in(names)};"
    sql = f"{_listed(server, names)}\n{terminate}"
    deadline, calm = time.monotonic() + PATIENCE, 0
    with server.database_for(sql) as other:
        while calm < 2:
            *rows, _count = server.execute(sql, database=other, attempted="end the sessions of clients", timeout=60)
            found = answers(Client, rows)
            ended.update({client.pid: client for client in found})
            calm = 0 if found else calm + 1
            if found and time.monotonic() > deadline:
                raise LifeboatError(
                    "end the sessions of clients", ", ".join(map(named, names)),
                    f"still there after {PATIENCE:.0f} s: {'; '.join(map(str, found))}",
                    "Stop these clients where they run, then run the same command again.",
                )  # fmt: skip
            if calm < 2:
                time.sleep(SECOND_LOOK)
    return list(ended.values())


def shut_out(config: Config, server: Server, wanted: Closed, *, log: Log) -> list[Client]:
    """Close the databases that there are to logins and end the sessions in them. Returns the clients that were cut off.

    On failure those of a living server are open again. One that somebody else closed is not remembered as ours.
    """
    before = logins.closed(config)
    seen = logins.there(server, {*wanted.names, *(before.names if before else ())})
    ours = [name for name in (before.names if before else ()) if seen.get(name) is False]
    here = [name for name in wanted.names if name in seen]
    names = [name for name in here if seen[name]]
    fresh = wanted.fresh or bool(before and before.fresh and ours)
    now = replace(wanted, names=tuple(sorted({*names, *ours})), fresh=fresh)
    keep(config, logins.CLOSED, json.dumps(typed.plain(now)))
    try:
        if names:
            log(f"closing {', '.join(map(named, names))} to logins")
            logins.allow(server, names, False)
        ended = end(server, here) if here else []
    except BaseException:
        if not fresh:
            with contextlib.suppress(LifeboatError):  # the error that brought us here is the one to show
                logins.open_again(config, server, now.names, log)
        raise
    for client in ended:
        log(f"ended the session of {client}")
    return ended


def lasting(found: Sequence[Client], stopped: Collection[str]) -> list[str]:
    """Those that stopping the writers, which connect from the addresses `stopped`, does not end: one line each.

    Where no address is known, as of units of one machine, any of them may be a writer.
    """
    when = ", also when the writers are stopped" if stopped else " and may be a writer"
    left = Counter((client.database, client.who) for client in found if client.address not in stopped)
    return [
        f"{who} is connected to {named(database)}{f' ({count} sessions)' if count > 1 else ''}{when}: it is cut off"
        " until the database is replaced; what it writes before that is only kept aside"
        for (database, who), count in left.items()
    ]
