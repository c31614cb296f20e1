# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Close databases to new logins while a recovery replaces them, and open them again, however it ends.

ALLOW_CONNECTIONS false closes a database to everybody. CONNECTION LIMIT 0 and REVOKE CONNECT let superusers in, and in
the official image the application is one (POSTGRES_USER). We do not need to get in either: what is closed is not read
until it is open again. https://www.postgresql.org/docs/current/sql-alterdatabase.html

The state directory remembers what was closed before it is closed. So a run that was killed leaves a database that the
next one knows: a plan takes the killed run's word for its condition, as nobody could write since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from ..base import clock
from ..base.checks import FAIL, Check
from ..base.errors import LifeboatError, Log
from ..base.text import named
from ..recovery.state import remembered, unmark
from ..settings.config import Config
from ..stack.runtime import Opened
from . import server as database_server
from .server import Server, answers, identifier, literal

CLOSED = "closed.json"


@dataclass(frozen=True)
class Closed:
    """names: of databases. fresh: they are the empty ones of a fresh server, which nobody may fill by mistake.

    damaged, findings: what the assessment said of the application's database.
    """

    names: tuple[str, ...]
    fresh: bool
    damaged: bool
    findings: tuple[str, ...] = ()


def closed(config: Config) -> Optional[Closed]:
    """What a recovery closed and none has opened since; None where that is nothing."""
    return remembered(config, CLOSED, Closed)


def unfinished(config: Config) -> Iterator[Check]:
    """What status says of a recovery that closed databases and has not ended: clients are refused, and so are backups.
    Nothing where there is none."""
    path = config.state / CLOSED
    if not path.exists():
        return
    found = closed(config)
    names = f"closed {_shown(found.names)}" if found else f"closed what {path}, which cannot be read, named"
    words = f"a recovery {names} to logins and has not ended; unless it runs now: lifeboat.dr.recover_database ends it"
    if found and not found.fresh:  # a fresh server's databases are empty, and a writer would fill them
        sql = " ".join(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true;" for name in found.names)
        words += f", or keep the data as it is: {named(sql)} in template1, then rm {path}"
    yield Check("logins", FAIL, words)


@dataclass(frozen=True)
class _Seen:
    name: str
    open: bool


def there(server: Server, names: Collection[str]) -> dict[str, bool]:
    """Of those databases that there are: whether they take logins."""
    if not names:
        return {}
    listed = ", ".join(literal(name) for name in sorted(names))
    sql = (
        "SELECT jsonb_build_object('name', datname, 'open', datallowconn) FROM pg_catalog.pg_database"
        f" WHERE datname IN ({listed});"
    )
    with server.database_for(sql) as other:
        rows = server.execute(sql, database=other, attempted="look for closed databases")
    return {found.name: found.open for found in answers(_Seen, rows)}


def allows(server: Server, name: str) -> Optional[bool]:
    """Does the database take logins? None where there is none of that name."""
    return there(server, [name]).get(name)


def allow(server: Server, names: Sequence[str], allowed: bool) -> None:
    """Let the databases take logins, or none."""
    word, attempted = ("true", "open") if allowed else ("false", "close")
    sql = "\n".join(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS {word};" for name in names)
    if names:
        with server.database_for(sql) as other:
            server.execute(sql, database=other, attempted=f"{attempted} {_shown(names)} to logins")


def _shown(names: Collection[str]) -> str:
    return ", ".join(map(named, names))


def open_again(config: Config, server: Server, names: Collection[str], log: Log) -> None:
    """Open those that are closed, and remember none."""
    left = sorted(name for name, takes in there(server, names).items() if not takes)
    if left:
        log(f"opening {_shown(left)} to logins")
        allow(server, left, True)
    unmark(config, CLOSED)


def _settle(config: Config, server: Server, log: Log) -> list[str]:
    found = closed(config)
    if found is None:
        raise LifeboatError(
            "open the database to logins", str(config.state / CLOSED), "it cannot be read",
            "ALTER DATABASE … ALLOW_CONNECTIONS true; for what is closed, then remove that file.",
        )  # fmt: skip
    if found.fresh and (left := [name for name, takes in there(server, found.names).items() if not takes]):
        return sorted(left)
    open_again(config, server, found.names, log)
    return []


def reopen(run: Opened, *, log: Log) -> list[str]:
    """Open what a recovery closed and left closed; the server is started where it is down.

    Returns what stays closed: databases of a fresh server that none has filled yet.
    """
    return _settle(run.config, _server(run), log) if (run.config.state / CLOSED).exists() else []


def _server(run: Opened) -> Server:
    service, timeout = run.config.database.service, run.config.application.timeout
    run.runtime.start([service], timeout=timeout)
    began = time.monotonic()
    deadline = began + timeout
    while (found := database_server.reach(run)).server is None:
        if time.monotonic() > deadline:
            raise LifeboatError(
                "open the database to logins", service, found.why or "no answer",
                "Start the server, then run the same command again.",
            )  # fmt: skip
        clock.pause(began)
    return found.server


@contextlib.contextmanager
def opened_afterwards(run: Opened, *, log: Log) -> Iterator[None]:
    """Whatever becomes of a restore, the database of a living server is open after it: the new one, or the old one."""
    try:
        yield
    finally:
        if (run.config.state / CLOSED).exists():
            with contextlib.suppress(LifeboatError):  # of a server that is gone: reopen() starts it first
                _settle(run.config, database_server.of(run), log)
