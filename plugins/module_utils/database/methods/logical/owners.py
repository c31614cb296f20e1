# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the rows of tables whose owners are no superusers without a superuser's rights.

PostgreSQL runs the functions of a table's checks, domains and generated columns as the role that writes its rows. So an
owner could leave a function in a check that makes it a superuser at the next restore. A session that gave up its rights
(SET SESSION AUTHORIZATION, SET ROLE) can take them back, and so can such a function: the rows come over a session of a
role that has none to take back. It may read and write every table, which no order of a restore makes superfluous.

What builds indexes, refreshes materialised views and analyses runs as the owner already, and cannot take other rights.
https://www.postgresql.org/docs/current/sql-refreshmaterializedview.html
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ....base.errors import LifeboatError
from ...server import Server, answers, identifier, literal

ATTEMPTED = "restore the rows of owners without a superuser's rights"
REMEDY = (
    "Where you trust the owners of the database's tables, set lifeboat_database.trust_owners: true. Their functions"
    " then run as the superuser."
)
_ROLE = "lifeboat_restore_"
_ENTRY = re.compile(r"(?P<id>\d+); \d+ \d+ (?P<words>.+)")
_ROWS, _CHECK, _PRIVILEGES = "TABLE DATA ", "CHECK CONSTRAINT ", ("ACL ", "DEFAULT ACL ")
Entries = Sequence[str]  # numbers of an archive's entries, in its order


@dataclass(frozen=True)
class Order:
    """The entries of an archive in the order in which they are restored.

    before: what the rows need, without privileges: one that is revoked would stop them. rows: of owners who are no
    superusers. rest: of the data. checks: that look at rows which are there. after: everything else.
    """

    before: Entries
    rows: Entries
    rest: Entries
    checks: Entries
    after: Entries


@dataclass(frozen=True)
class _Role:
    name: str
    superuser: bool


def order(whole: str, before: str, data: str, roles: Sequence[tuple[str, bool]]) -> Order:
    """whole, before, data: what `pg_restore --list` says of all, of the section pre-data, and of data. roles: name,
    and whether it is a superuser."""
    every, first, rows = _entries(whole), _entries(before), _entries(data)
    theirs = [key for key, words in rows.items() if words.startswith(_ROWS) and not _of_superuser(words, roles)]
    checks = [
        key
        for key, words in every.items()
        if words.startswith(_CHECK) and key not in first and not _of_superuser(words, roles)
    ]
    if not theirs and not checks:
        return Order((), (), (), (), tuple(every))
    begun = [key for key, words in first.items() if not words.startswith(_PRIVILEGES)]
    rest = [key for key, words in rows.items() if key not in {*theirs, *begun} and not words.startswith(_PRIVILEGES)]
    done = {*begun, *theirs, *rest, *checks}
    return Order(begun, theirs, rest, checks, [key for key in every if key not in done])


def _entries(listing: str) -> dict[str, str]:
    return {found["id"]: found["words"] for found in map(_ENTRY.fullmatch, listing.split("\n")) if found}


def _of_superuser(words: str, roles: Sequence[tuple[str, bool]]) -> bool:
    """The owner is the end of an entry, and names may hold spaces: where it may be either, it is not the superuser."""
    owners = [superuser for name, superuser in roles if words.endswith(f" {_as_listed(name)}")]
    return bool(owners) and all(owners)


def _as_listed(name: str) -> str:
    return name.replace("\n", " ").replace("\r", " ")


def roles_of(server: Server) -> list[tuple[str, bool]]:
    sql = (
        "SELECT jsonb_build_object('name', rolname, 'superuser', rolsuper) FROM pg_catalog.pg_roles"
        " WHERE rolname !~ '^pg_';"
    )
    rows = server.execute(sql, attempted="list the roles")
    return [(role.name, role.superuser) for role in answers(_Role, rows)]


@contextlib.contextmanager
def session(server: Server, database: str) -> Iterator[Server]:
    """The server as a role reaches it that reads and writes rows and can do nothing else. It is gone afterwards."""
    name, password = f"{_ROLE}{secrets.token_hex(4)}", secrets.token_hex(16)
    _sweep(server)
    server.execute(
        f"BEGIN;\nCREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT PASSWORD {literal(password)};\n"
        f"GRANT pg_write_all_data TO {name};\nCOMMIT;",
        attempted="make a role that writes rows",
    )
    try:
        _let_read(server, name, database)
        yield _let_in(server, name, password, database)
    finally:
        with contextlib.suppress(LifeboatError):  # the database may be gone; _sweep() looks again
            server.execute(f"DROP OWNED BY {name};", database=database, attempted="drop what a restore's role made")
        with contextlib.suppress(LifeboatError):
            _drop(server, name)


def _let_in(server: Server, name: str, password: str, database: str) -> Server:
    """As the superuser is reached, or else with the password: Debian's pg_hba.conf asks the operating system who comes
    over the socket."""
    role = server.as_user(name, password)
    problem = role.problem(database)
    if problem is None:
        return role
    other = server.as_user(name, password, "127.0.0.1")
    if other.problem(database) is None:
        return other
    raise LifeboatError(
        ATTEMPTED, database, f"pg_hba.conf does not let a role with a password in: {problem.cause}", REMEDY
    )


def _let_read(server: Server, name: str, database: str) -> None:
    """A check may look into other tables. Not by pg_read_all_data, which reads the roles' passwords too."""
    sql = (
        "SELECT to_json(nspname) FROM pg_catalog.pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema';"
    )
    attempted = "let a restore's role read"
    schemas = ", ".join(map(identifier, answers(str, server.execute(sql, database=database, attempted=attempted))))
    if schemas:
        granted = f"GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO {name};"
        server.execute(granted, database=database, attempted=attempted)


@contextlib.contextmanager
def as_owners(server: Server, role: Server, database: str) -> Iterator[None]:
    """Within it the role may alter what those own who are no superusers: a check is added by a table's owner."""
    sql = (
        "SELECT to_json(r.rolname) FROM pg_catalog.pg_roles r WHERE NOT r.rolsuper AND r.rolname !~ '^pg_'"
        " AND (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relowner = r.oid)"
        " OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.typowner = r.oid));"
    )
    rows = server.execute(sql, database=database, attempted="list the owners")
    owners = ", ".join(map(identifier, answers(str, rows)))
    if owners:
        server.alter(f"GRANT {owners} TO {role.user};", attempted=ATTEMPTED)
    try:
        yield
    finally:
        if owners:
            server.alter(f"REVOKE {owners} FROM {role.user};", attempted=ATTEMPTED)


def _drop(server: Server, name: str) -> None:
    ended = f"SELECT to_json(count(pg_terminate_backend(pid, 10000))) FROM pg_stat_activity WHERE usename = '{name}';"
    server.execute(f"{ended}\nDROP ROLE IF EXISTS {name};", attempted="drop the role that wrote rows")


def _sweep(server: Server) -> None:
    """Drop those that a killed run left, and what they own. Only for the holder of the stack's lock."""
    sql = f"SELECT to_json(rolname) FROM pg_catalog.pg_roles WHERE rolname ~ '^{_ROLE}[0-9a-f]{{8}}$';"
    for name in answers(str, server.execute(sql, attempted="look for roles of killed runs")):
        with contextlib.suppress(LifeboatError):
            _drop(server, name)
