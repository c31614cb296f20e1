# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run an operator's own SQL with the search_path that the database's sessions have, as far as that is safe.

Lifeboat's role is mostly a superuser. Whoever may create a function in a schema of the path could have it run with that
role's rights: it only has to match an argument better than PostgreSQL's own. So a schema in which another login may
create, and does not own it, is left out. https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..base.errors import LifeboatError
from ..base.text import named
from .server import AS_TEXT, Server, answers, literal

_PATH = "lifeboat_path"
_SESSIONS = (  # nothing but functions and types by their schema may be evaluated while the path is the session's own
    "SET LOCAL search_path TO DEFAULT;\n"
    f"SELECT pg_catalog.current_schemas(false) AS {_PATH} \\gset\n"
    "SET LOCAL search_path = '';\n"
)
_CREATORS = (
    "(SELECT coalesce(jsonb_agg(DISTINCT r.rolname), '[]')"
    " FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a"
    " JOIN pg_roles r ON a.grantee = 0 OR pg_has_role(r.oid, a.grantee, 'MEMBER')"
    " WHERE a.privilege_type = 'CREATE' AND r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user"
    " AND NOT pg_has_role(r.oid, n.nspowner, 'MEMBER'))"
)
_SCHEMAS = (
    f"FROM unnest(:'{_PATH}'::name[]) WITH ORDINALITY AS s(name, number) JOIN pg_namespace n ON n.nspname = s.name"
)
_SAFE = (
    f"SELECT coalesce(string_agg(quote_ident(s.name), ', ' ORDER BY s.number), '''''') AS {_PATH}"
    f" {_SCHEMAS} WHERE {_CREATORS}::text = '[]' \\gset\n"
)
# psql fetches by a cursor where FETCH_COUNT is set, and \gset takes no cursor's rows in every version.
BEGIN = (
    f"BEGIN READ ONLY;\n\\set FETCH_COUNT 0\n{_SESSIONS}{_SAFE}"
    f"SET LOCAL search_path = :{_PATH};\n\\set FETCH_COUNT 5000\n"
)
_RELATION = re.compile(r'relation "([^"]+)" does not exist')
_UNDEFINED_TABLE = "42P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
_WITHOUT_SCHEMA = {"42883", "42704"}  # a function, a type
WRONG_SQL = "42"  # the class of SQLSTATE for what is written wrongly, and for rights that are missing


@dataclass(frozen=True)
class _Schema:
    name: str
    creators: tuple[str, ...] = field(default_factory=tuple)


def explained(server: Server, database: str, variable: str, error: LifeboatError) -> LifeboatError:
    """The error of an operator's SQL with what to write in `variable` instead, where the SQL is what is wrong."""
    if error.sqlstate[:2] != WRONG_SQL:
        return error
    missing = _RELATION.search(error.cause)
    cause, remedy = error.cause, f"Correct {variable}: psql runs it in database {named(database)}."
    if error.sqlstate == _UNDEFINED_TABLE and missing and "." not in missing[1]:
        cause, remedy = _where(server, database, variable, missing[1], cause)
    elif error.sqlstate in _WITHOUT_SCHEMA:
        remedy = f"Write what it does not find with its schema in {variable}, such as app.name."
    return LifeboatError(
        error.attempted, error.subject, cause, remedy, exit_status=error.exit_status, sqlstate=error.sqlstate
    )


def _where(server: Server, database: str, variable: str, name: str, cause: str) -> tuple[str, str]:
    """Cause and remedy where a table, or what is used like one, is not on the path."""
    sql = (
        f"{AS_TEXT}BEGIN READ ONLY;\n{_SESSIONS}"
        f"SELECT json_build_object('name', s.name, 'creators', {_CREATORS}) {_SCHEMAS} ORDER BY s.number;\n"
        "SELECT to_json(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE lower(c.relname) = lower({literal(name)}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
        f" AND n.nspname !~ '^pg_' ORDER BY c.relname = {literal(name)} DESC, n.nspname;\nCOMMIT;"
    )
    try:
        rows = server.execute(sql, database=database, attempted=f"find {named(name)}", timeout=60)
    except LifeboatError:
        return cause, f"Write it with its schema in {variable}."
    schemas = answers(_Schema, [row for row in rows if isinstance(row, dict)])
    places = answers(str, [row for row in rows if isinstance(row, str)])
    left = [
        f"{named(one.name)}: {', '.join(map(named, one.creators[:3]))} may create in it"
        for one in schemas
        if one.creators
    ]
    if not places:
        return cause, f"And no schema of database {named(database)} has it. Correct {variable}."
    remedy = f"Instead write {' or '.join(map(named, places[:5]))} in {variable}."
    if left:
        remedy += f" Of the database's search_path these schemas are not searched, for safety: {'; '.join(left[:5])}."
    return cause, remedy
