# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a database has and its dump does not carry: found in the catalogue, told as sentences with the command to use.

Each of them was seen with PostgreSQL 17 (tests/integration/test_cluster.py). Seen too, and so in no sentence: a dump
keeps disabled triggers, rules and event triggers, the rows of unlogged tables where it is not a standby's, invalid
indexes of partitioned tables, owners and privileges of large objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..base.errors import UsageError
from ..base.text import named
from .server import Server, Session, answers, identifier, literal

_ATTEMPT = "look for what a dump does not carry"
SHOWN = 20  # sentences of one kind; the rest is counted


@dataclass(frozen=True)
class _Found:
    """kind: of _WORDS. name: quoted, as SQL wants it. more: what else its sentence tells."""

    kind: str
    name: str
    more: str = ""


_WORDS = {
    "triggers": "table {name}: its constraints {more} are not enforced now (ALTER TABLE ... DISABLE TRIGGER ALL) and"
    " come back enforced; rows that break them stop the restore. To disable them again: ALTER TABLE {name} DISABLE"
    " TRIGGER ALL;",
    "index": "index {name} of {more} is invalid, so no dump has it. REINDEX INDEX {name}; makes it valid, DROP INDEX"
    " {name}; removes it",
    "unlogged": "unlogged table {name} comes back empty: a standby does not have its rows. To have them in the next"
    " backup: ALTER TABLE {name} SET LOGGED; on the primary",
    "view": "materialised view {name} may have other content after a restore, which computes it again: its query uses"
    " {more}. To keep what it holds now: CREATE TABLE ... AS TABLE {name};",
    "subscription": "subscription {name} comes back disabled. When its slot at the publisher is right: ALTER"
    " SUBSCRIPTION {name} ENABLE; ALTER SUBSCRIPTION {name} REFRESH PUBLICATION WITH (copy_data = false);",
    "prepared": "prepared transaction {more} has changes that are in no dump. To end it: COMMIT PREPARED {name}; or"
    " ROLLBACK PREPARED {name};",
    "tablespace": "{more} come back in the database's default tablespace and not in {name}. To move one: ALTER TABLE"
    " ... SET TABLESPACE {name};",
    "home": "the database lies in the tablespace {more} and comes back in pg_default. To move it: ALTER DATABASE {name}"
    " SET TABLESPACE {more};",
    "template": "the database is a template and comes back as none. To make it one again: ALTER DATABASE {name}"
    " IS_TEMPLATE true;",
    "member": "table {name} belongs to the extension {more}, which does not mark it for dumps: its rows come back as"
    " CREATE EXTENSION makes them. To have them dumped: ALTER EXTENSION {more} DROP TABLE {name};",
}

# No backslash, so that standard_conforming_strings does not matter. The functions that a view calls are in its parsed
# query alone: pg_depend does not tell of those that initdb made.
_QUERY = """
WITH RECURSIVE own AS (
  SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'),
member AS (
  SELECT d.objid, quote_ident(e.extname) AS extension, e.extconfig
  FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
reads(top, at) AS (
  SELECT oid, oid FROM pg_class WHERE relkind = 'm'
  UNION
  SELECT reads.top, d.refobjid
  FROM reads JOIN pg_rewrite r ON r.ev_class = reads.at
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'v'),
calls AS (
  SELECT reads.top, p.proname || '()' AS what
  FROM reads JOIN pg_rewrite r ON r.ev_class = reads.at,
  LATERAL regexp_matches(r.ev_action::text, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') f(found)
  JOIN pg_proc p ON p.oid = f.found[1]::oid AND p.provolatile = 'v'
  UNION
  SELECT reads.top, p.proname || '()'
  FROM reads JOIN pg_rewrite r ON r.ev_class = reads.at,
  LATERAL regexp_matches(r.ev_action::text, ':(?:funcid) ([0-9]+)', 'g') f(found)
  JOIN pg_proc p ON p.oid = f.found[1]::oid AND p.pronamespace = 'pg_catalog'::regnamespace
    AND p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'current_setting', 'pg_backend_pid')
  UNION
  SELECT reads.top, 'the time, the user or the database of the session'
  FROM reads JOIN pg_rewrite r ON r.ev_class = reads.at WHERE r.ev_action::text ~ '{SQLVALUEFUNCTION ')
SELECT to_jsonb(found) FROM (
  SELECT 'triggers' AS kind, own.name, string_agg(DISTINCT quote_ident(k.conname), ', ') AS more
  FROM own JOIN pg_trigger t ON t.tgrelid = own.oid AND t.tgisinternal AND t.tgenabled <> 'O'
  JOIN pg_constraint k ON k.oid = t.tgconstraint
  GROUP BY own.name
  UNION ALL
  SELECT 'index', format('%I.%I', n.nspname, i.relname), own.name
  FROM own JOIN pg_index x ON x.indrelid = own.oid AND NOT x.indisvalid
  JOIN pg_class i ON i.oid = x.indexrelid AND i.relkind = 'i' JOIN pg_namespace n ON n.oid = i.relnamespace
  UNION ALL
  SELECT 'unlogged', name, '' FROM own WHERE relkind = 'r' AND relpersistence = 'u' AND pg_is_in_recovery()
  UNION ALL
  SELECT 'view', own.name, string_agg(calls.what, ', ' ORDER BY calls.what)
  FROM own JOIN calls ON calls.top = own.oid WHERE own.relispopulated GROUP BY own.name
  UNION ALL
  SELECT 'subscription', quote_ident(s.subname), '' FROM pg_subscription s
  WHERE s.subenabled AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL
  SELECT 'prepared', x.gid, concat_ws(' of ', x.gid, x.owner) FROM pg_prepared_xacts x
  WHERE x.database = current_database()
  UNION ALL
  SELECT 'tablespace', quote_ident(s.spcname), concat_ws(' ', min(own.name), CASE WHEN count(*) > 1 THEN
    format('and %s more tables, indexes or materialised views', count(*) - 1) END)
  FROM own JOIN pg_tablespace s ON s.oid = own.reltablespace GROUP BY s.spcname
  UNION ALL
  SELECT 'home', quote_ident(d.datname), quote_ident(s.spcname)
  FROM pg_database d JOIN pg_tablespace s ON s.oid = d.dattablespace AND s.spcname <> 'pg_default'
  WHERE d.datname = current_database()
  UNION ALL
  SELECT 'template', quote_ident(datname), '' FROM pg_database WHERE datistemplate AND datname = current_database()
  UNION ALL
  SELECT 'member', own.name, member.extension FROM own JOIN member ON member.objid = own.oid
  WHERE own.relkind = 'r' AND (own.oid = ANY (member.extconfig)) IS NOT TRUE
    AND (own.relpersistence = 'u' AND pg_is_in_recovery()) IS NOT TRUE AND pg_relation_size(own.oid) > 0) found
ORDER BY kind, name;
"""


@dataclass(frozen=True)
class Prepared:
    """A transaction that waits, in `database`, for somebody to commit it or to roll it back."""

    gid: str
    database: str
    owner: str


def take(session: Session) -> tuple[str, ...]:
    """A sentence for each thing of the session's database that its dump does not carry."""
    found = answers(_Found, session.rows(_QUERY, attempted=_ATTEMPT))
    return tuple(line for kind in _WORDS for line in _told(kind, [item for item in found if item.kind == kind]))


def _told(kind: str, found: Sequence[_Found]) -> Iterator[str]:
    for item in found[:SHOWN]:
        name = literal(item.name).strip() if kind == "prepared" else item.name
        yield named(_WORDS[kind].format(name=name, more=item.more))
    if len(found) > SHOWN:
        yield f"{len(found) - SHOWN} more of the last kind"


def prepared(server: Server, names: Sequence[str]) -> tuple[Prepared, ...]:
    """The prepared transactions of these databases."""
    among = ", ".join(literal(name) for name in names)
    sql = (
        "SELECT jsonb_build_object('gid', gid, 'database', database, 'owner', owner) FROM pg_prepared_xacts"
        f" WHERE database IN ({among}) ORDER BY prepared, gid;"
    )
    return tuple(answers(Prepared, server.alter(sql, attempted="look for prepared transactions"))) if names else ()


def refuse_prepared(server: Server, names: Sequence[str]) -> None:
    """Raise UsageError where a database has prepared transactions: PostgreSQL neither renames nor drops it then."""
    waiting = prepared(server, names)
    if not waiting:
        return
    first = waiting[0]
    gid = literal(first.gid).strip()
    told = ", ".join(f"{literal(item.gid).strip()} of {item.owner} in {item.database}" for item in waiting[:SHOWN])
    more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    raise UsageError(
        "plan the recovery",
        named(first.database),
        named(f"prepared transactions wait in it, so it can be neither renamed nor replaced: {told}{more}"),
        named(
            f"End each, connected to its database as its owner or a superuser (psql, \\connect"
            f" {identifier(first.database)}): COMMIT PREPARED {gid}; or ROLLBACK PREPARED {gid}; Nothing was changed."
        ),
    )
