# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at the stack's database: does it answer, and is all of its data there? Reads only."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import Optional

from ..base.errors import LifeboatError, UsageError
from ..recovery.state import DAMAGED, DOWN, HEALTHY
from ..repository import catalog
from ..repository.manifest import Artefact
from ..repository.sources import Sources
from ..settings.config import Config
from ..stack import runtime
from ..stack.runtime import Opened
from . import fingerprint, logins
from . import server as database_server
from .fingerprint import FINGERPRINT, Fingerprint, read
from .server import Server, answers, identifier, shown

# A table that lost every one of at least this many rows is damage; a short queue that ran empty is not.
EMPTIED = 100
READ_SECONDS = 120
QUERY_CANCELED = "57014"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
# What says nothing of the data: no privilege, a table that became something else meanwhile, a lock that was not had;
# the classes of a transaction that gave way (to replication, to another) and of too little memory, disk, connections.
_NO_DAMAGE = (QUERY_CANCELED, "42501", "42809", "55P03")
_NO_DAMAGE_CLASSES = ("40", "53")


# Of a table that was vacuumed an index alone can count the rows, and no page of the table would be read.
# https://www.postgresql.org/docs/current/indexes-index-only-scans.html
_PAGES = "SET enable_indexonlyscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off; "


@dataclass(frozen=True)
class Assessment:
    """condition: healthy, damaged (the server answers, the data is wrong) or down (no server). findings: why."""

    condition: str
    findings: tuple[str, ...]
    service: str
    unchecked: tuple[str, ...] = ()
    refused: str = ""  # the server lives and does not let us in: this is what it said


@dataclass(frozen=True)
class _Table:
    name: str
    unlogged: bool


def assess(run: Opened, reference: Optional[Fingerprint]) -> Assessment:
    """Look at the stack's database. `reference`: the fingerprint of the newest good backup, what should be there."""
    stack, service = run.runtime, run.config.database.service
    state = stack.state(service)
    server, why, refused = database_server.reach(run) if state.running else database_server.Reached(None)
    if server is None:
        said = runtime.last_words(stack.logs(service))
        words = [f"{service} is {state.describe()}" + (f" and does not answer: {why}" if why else "")]
        return Assessment(
            DOWN,
            (*words, *([f"it last said: {said}"] if said else [])),
            state.describe(),
            refused=why if refused else "",
        )
    name = server.database
    if name not in server.databases():
        return _out_of_reach(run.config, server, name, state.describe())
    if reference is None:
        return Assessment(HEALTHY, (), state.describe(), ("no good backup to compare the data with",))
    try:
        findings, unchecked = _look_at_data(server, name, reference)
    except LifeboatError as exc:  # its directory is gone, its catalogue is damaged, or the server died of the question
        if _no_damage(exc):
            return Assessment(HEALTHY, (), state.describe(), (f"the database {name} was not read: {exc.cause}",))
        return Assessment(DAMAGED, (f"the database {name} cannot be read: {exc.cause}",), state.describe())
    return Assessment(DAMAGED if findings else HEALTHY, tuple(findings), state.describe(), tuple(unchecked))


def _no_damage(exc: LifeboatError) -> bool:
    return exc.sqlstate in _NO_DAMAGE or exc.sqlstate[:2] in _NO_DAMAGE_CLASSES


def _out_of_reach(config: Config, server: Server, name: str, service: str) -> Assessment:
    """Of a database that takes no logins, or is missing."""
    if logins.allows(server, name) is None:
        return Assessment(DAMAGED, (f"the database {name} is missing",), service)
    ours = logins.closed(config)
    if ours and name in ours.names:
        note = f"{name} is closed to logins since a recovery that did not end; this is what that one found"
        return Assessment(DAMAGED if ours.damaged else HEALTHY, ours.findings, service, (note,))
    remedy = f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true;"
    return Assessment(
        DAMAGED, (f"the database {name} takes no logins; if that is all that is wrong: {remedy}",), service
    )


def refusal(config: Config, said: str) -> UsageError:
    """A server that lives and does not let us in may hold all its data: what is wrong is most likely our access."""
    return UsageError(
        "look at the database",
        f"{config.database.service} of {config.stack}",
        said,
        "Correct lifeboat_database (user) or lifeboat_secrets (database_password), then lifeboat.dr.deploy. Only if its"
        " data is lost, and with it the role: -e method=rebuild, which puts what is there aside.",
    )


def _look_at_data(server: Server, database: str, reference: Fingerprint) -> tuple[list[str], list[str]]:
    """Read every table that should be there, so that a damaged page is met now; bounded in time."""
    findings: list[str] = []
    unchecked: list[str] = []
    names = fingerprint.names_of(reference.scheme)
    sql = f"{names}SELECT to_json(rolname) FROM pg_roles;"
    roles = set(answers(str, server.execute(sql, database=database, attempted="list the roles")))
    findings += [f"the role {shown(name)} is missing" for name in reference.roles if name not in roles]
    rows = server.execute(
        f"{names}SELECT jsonb_build_object('name', format('%I.%I', n.nspname, c.relname),"
        " 'unlogged', c.relpersistence = 'u')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r';",
        database=database,
        attempted="list the tables",
    )
    there = {table.name: table.unlogged for table in answers(_Table, rows)}
    findings += [f"the table {shown(name)} is missing" for name in reference.tables if name not in there]
    deadline = time.monotonic() + READ_SECONDS
    remaining = [name for name in reference.tables if name in there]
    while remaining:
        # An error ends the session: note it, open another for the tables that are left.
        name = ""
        try:
            with server.session(database) as session:
                while remaining:
                    name = remaining.pop(0)
                    left = int(1000 * (deadline - time.monotonic()))
                    if left <= 0:
                        unchecked.append(f"{shown(name)} was not read: {READ_SECONDS} s were up")
                        continue
                    count = session.rows(
                        f"{names}SET statement_timeout = {left}; {_PAGES}SELECT to_json(count(*)) FROM ONLY {name};",
                        attempted=f"read {shown(name)}",
                    )
                    expected = reference.tables[name].rows
                    # A crash empties unlogged tables, as it must: restoring would lose rows to bring those back.
                    if count == [0] and expected >= EMPTIED and not there[name]:
                        findings.append(f"the table {shown(name)} is empty, the backup has {expected} rows")
        except LifeboatError as exc:
            if not name and _no_damage(exc):
                return findings, [*unchecked, f"the database {database} was not read: {exc.cause}"]
            if not name:  # not even the session opened
                return [*findings, f"the database {database} cannot be read: {exc.cause}"], unchecked
            if exc.sqlstate == QUERY_CANCELED:
                unchecked.append(f"{name} was not read to its end in {READ_SECONDS} s")
            elif _no_damage(exc):
                unchecked.append(f"{name} was not read: {exc.cause}")
            else:
                findings.append(f"the table {name} cannot be read: {exc.cause}")
    return findings, unchecked


def reference_of(sources: Sources) -> Optional[Fingerprint]:
    """What should be there: the fingerprint of the newest good backup, or of the fuller one before it.

    Its bytes are checked first: a damaged one would make a healthy database look damaged, or a damaged one healthy.
    """
    for entry in reversed(sources.found):
        if entry.good and entry.manifest and not catalog.shrunk(sources.found, entry.id)[0]:
            with sources.repo(entry).open("database", entry.id, FINGERPRINT) as file:
                data = file.read()
            if Artefact(FINGERPRINT, len(data), hashlib.sha256(data).hexdigest()) in entry.manifest.artefacts:
                with contextlib.suppress(LifeboatError):  # of a newer Lifeboat; restoring it would say so
                    return read(data, entry.id)
    return None
