# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of a database, taken in the dump's own snapshot, and their comparison with a restored one.

Per table: rows and an order-independent content hash, the sum of one 64-bit hash a row (a sum, not an exclusive or:
two equal rows must not cancel out). Beside it sequences, large objects, the schema's every definition, settings, roles.

Equal means: equal in all that a dump carries. docs/fingerprint.md says of each catalogue column that is hashed here
whether pg_dump keeps its order and form, and what the queries do where it does not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple, Optional, Union

from ..base import filesystem, typed
from ..base.checks import COULD_NOT_VERIFY, Check, compared
from ..base.errors import IntegrityError, LifeboatError, UsageError
from ..base.text import named
from ..base.typed import MOST, Range
from ..repository.details import Content
from ..settings.config import FINGERPRINTS
from .server import AS_TEXT, Session, answers, encoded, literal, parsed, wrong_answer

LARGEST = 256 << 20  # bytes of an artefact that is read whole: ten thousand tables have fewer than 20 MiB
DUMP, GLOBALS, FINGERPRINT = "database.dump", "globals.sql.gz", "fingerprint.json"  # a backup's artefacts
EXTENSIONS = "extensions"  # the name of a check
NOWHERE: Mapping[str, int] = MappingProxyType({})
_VALUE = re.compile(r"-?\d{1,20}")  # of a sequence: 64 bits
# Raised whenever the queries below describe a definition or a role otherwise than before. What the scheme before asked
# is kept (_AS_SCHEME_2): a restored database is described in its backup's scheme. Of scheme 1 only names are compared.
SCHEME = 3
_OLDEST = 2
# Types whose hash function depends on the value alone. Left out on purpose: enum, oid and reg* types hash an object id,
# which a restore changes; text under a non-deterministic collation hashes a sort key of the ICU version.
_HASHABLE = (
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "char", "name", "bytea",
    "date", "time", "timetz", "timestamp", "timestamptz", "interval", "uuid", "inet", "cidr", "macaddr", "macaddr8",
    "jsonb",
)  # fmt: skip

_TABLES = """
SELECT jsonb_build_object(
  'name', format('%I.%I', n.nspname, c.relname),
  'columns', coalesce(cols.list, ''),
  'hashable', coalesce(cols.hashable, true),
  'empty', c.relpersistence = 'u' AND pg_is_in_recovery(),
  'bytes', pg_table_size(c.oid))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT string_agg('x.' || quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C") AS list,
         bool_and(coalesce(b.typname = ANY (ARRAY[{hashable}]) OR e.typname = ANY (ARRAY[{hashable}]), false)
                  AND coalesce(l.collisdeterministic, true)) AS hashable
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
       AND b.typnamespace = 'pg_catalog'::regnamespace AND b.typtype = 'b'
  LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
       AND e.typnamespace = 'pg_catalog'::regnamespace AND e.typtype = 'b'
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) cols ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY pg_table_size(c.oid) DESC, 1;
"""

_SEQUENCES = """
SELECT jsonb_build_object('name', format('%I.%I', schemaname, sequencename),
  'last', last_value::text, 'up', increment_by > 0, 'cycle', cycle)
FROM pg_sequences s WHERE NOT EXISTS (
  SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e'
    AND c.relname = s.sequencename AND n.nspname = s.schemaname)
ORDER BY 1;
"""

_LARGE_OBJECTS = """
SELECT jsonb_build_object('count', count(DISTINCT o.oid), 'bytes', coalesce(sum(length(o.piece)), 0),
  'hash', coalesce(sum(hashtextextended(
     o.oid::text || ':' || o.n::text || ':' || md5(o.piece), 0)), 0)::text)
FROM (SELECT m.oid, g.n, lo_get(m.oid, g.n * 1048576, 1048576) AS piece
      FROM pg_largeobject_metadata m,
      LATERAL generate_series(0, (SELECT coalesce(max(p.pageno), 0)
              FROM pg_largeobject p WHERE p.loid = m.oid) / 512) AS g(n)) o;
"""

_FACTS = """
SELECT jsonb_build_object(
  'server_version', current_setting('server_version'),
  'server_version_num', current_setting('server_version_num')::int,
  'data_checksums', current_setting('data_checksums'),
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'preload', (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'),
  'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'superuser', (SELECT rolname FROM pg_roles WHERE oid = 10),
  'initialised', (SELECT jsonb_build_object('encoding', pg_encoding_to_char(t.encoding), 'collate', t.datcollate,
      'ctype', t.datctype, 'provider', to_jsonb(t)->>'datlocprovider',
      'locale', coalesce(to_jsonb(t)->>'datlocale', to_jsonb(t)->>'daticulocale'), 'rules', to_jsonb(t)->>'daticurules',
      'wal_segment', pg_size_bytes(current_setting('wal_segment_size')))
    FROM pg_database t WHERE t.datname = 'template0'),
  'size', pg_database_size(d.oid),
  'comment', shobj_description(d.oid, 'pg_database'),
  'owner', pg_get_userbyid(d.datdba),
  'encoding', pg_encoding_to_char(d.encoding),
  'row', to_jsonb(d) - ARRAY['datfrozenxid', 'datminmxid', 'datlastsysoid', 'oid', 'datdba', 'encoding', 'datacl'],
  'acl_is_default', d.datacl IS NULL,
  'acl', (SELECT jsonb_agg(jsonb_build_object('grantee', CASE WHEN a.grantee = 0 THEN '' ELSE
            pg_get_userbyid(a.grantee) END, 'privilege', a.privilege_type, 'grantable', a.is_grantable)
            ORDER BY CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END COLLATE "C", a.privilege_type)
          FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a),
  'settings', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', coalesce(r.rolname, ''), 'setting', s.one)
                 ORDER BY r.rolname COLLATE "C", s.one COLLATE "C"), '[]')
               FROM pg_db_role_setting x LEFT JOIN pg_roles r ON r.oid = x.setrole,
               LATERAL unnest(x.setconfig) AS s(one) WHERE x.setdatabase = d.oid),
  'extensions', (SELECT coalesce(jsonb_object_agg(extname, extversion), '{}') FROM pg_extension))
FROM pg_database d WHERE d.datname = current_database();
"""

_ROLES = """
SELECT jsonb_build_object('name', r.rolname, 'facts', md5(concat_ws('|', r.rolsuper, r.rolinherit,
  r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil,
  r.rolconfig::text, (SELECT string_agg(DISTINCT concat_ws('/', g.rolname, m.admin_option,
      to_jsonb(m)->>'inherit_option', to_jsonb(m)->>'set_option') COLLATE "C", ',')
    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))))
FROM pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1;
"""
# Before 16 a membership has no options: it inherits where its member does, and SET ROLE is always allowed. So a newer
# server is asked what it has otherwise. https://www.postgresql.org/docs/16/release-16.html
_OPTIONS = "to_jsonb(m)->>'inherit_option', to_jsonb(m)->>'set_option'"
_OPTIONS_BEFORE_16 = """NULLIF((to_jsonb(m)->>'inherit_option')::bool, r.rolinherit),
      NULLIF((to_jsonb(m)->>'set_option')::bool, true)"""


def _acl(kind: str, acl: str, owner: str) -> str:
    """Privileges as sorted text: NULL and an explicit default are the same thing, and order means nothing."""
    return (
        "(SELECT string_agg(y.x, ',' ORDER BY y.x COLLATE \"C\") FROM (SELECT concat_ws('/',"
        " quote_ident(pg_get_userbyid(a.grantor)), CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE"
        " quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable) AS x"
        f" FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) a) y)"
    )


def _sorted(options: str) -> str:
    """An array of options as text: their order means nothing, and pg_dump does not always keep it."""
    return f"(SELECT string_agg(o, ',' ORDER BY o COLLATE \"C\") FROM unnest({options}) o)"


_N_DISTINCT = "(SELECT string_agg(o, ',' ORDER BY o COLLATE \"C\") FROM unnest(a.attoptions) o WHERE o ~ '^n_distinct')"
_FOREIGN_TABLE = f"""(SELECT concat_ws('/', quote_ident(fs.srvname), {_sorted("ft.ftoptions")}) FROM pg_foreign_table ft
              JOIN pg_foreign_server fs ON fs.oid = ft.ftserver WHERE ft.ftrelid = own.oid),"""
_FOREIGN_COLUMN = f", {_sorted('a.attfdwoptions')}"
_WRAPPERS = f"""
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, concat_ws('/', NULLIF(fdwhandler, 0)::regproc,
        NULLIF(fdwvalidator, 0)::regproc, {_sorted("fdwoptions")}) FROM pg_foreign_data_wrapper"""
# typdefault is the text that was printed under the search_path of its making; pg_dump prints the expression.
_DOMAIN_DEFAULT = "coalesce(pg_get_expr(t.typdefaultbin, 'pg_type'::regclass), t.typdefault)"
# Printed in the physical order of the columns, which a restored child of several tables does not keep.
_STATISTICS = """concat_ws('/', stxrelid::regclass, stxkind, (SELECT string_agg(quote_ident(a.attname), ','
        ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = stxrelid AND a.attnum = ANY (stxkeys)),
        (SELECT string_agg(e, ',' ORDER BY e COLLATE "C") FROM unnest(pg_get_statisticsobjdef_expressions(oid)) e))"""
# In a restored database the schema public has the oid that initdb gave it, even where the source made it again.
_PUBLIC = "x.classoid = 'pg_namespace'::regclass AND x.objoid = to_regnamespace('public')"
_COMMENTED = f"""(x.objoid >= 16384 OR {_PUBLIC})
    AND ({_PUBLIC} AND x.description = 'standard public schema') IS NOT TRUE"""

_VIEW = "pg_get_viewdef(own.oid)"

# One row an object: its kind and name, and the md5 of everything that defines it. Members of extensions are left out:
# the extension and its version stand for them.
_SCHEMA = f"""
WITH own AS (
  SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                    AND d.objid = c.oid AND d.deptype = 'e')),
member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
described AS (
  SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
           WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table'
           ELSE 'composite type' END AS kind, name,
         concat_ws('|', quote_ident(pg_get_userbyid(relowner)), relpersistence, {_sorted("reloptions")}, relrowsecurity,
           relforcerowsecurity, relreplident, relispopulated, pg_get_expr(relpartbound, own.oid),
           CASE WHEN relkind = 'p' THEN pg_get_partkeydef(own.oid) END,
           CASE WHEN relkind IN ('v', 'm') THEN {_VIEW} END,
           (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
              FROM pg_inherits i WHERE i.inhrelid = own.oid),
           CASE WHEN relkind = 'S' THEN (SELECT concat_ws('/', q.seqtypid::regtype, q.seqstart, q.seqincrement,
              q.seqmax, q.seqmin, q.seqcache, q.seqcycle) FROM pg_sequence q WHERE q.seqrelid = own.oid) END,
           {_FOREIGN_TABLE}
           CASE WHEN relkind = 'c' THEN NULL WHEN relkind = 'S'
             THEN {_acl("s", "relacl", "relowner")}
             ELSE {_acl("r", "relacl", "relowner")} END) AS body
  FROM own WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
  UNION ALL
  SELECT 'column', own.name || '.' || quote_ident(a.attname),
         concat_ws('|', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
           pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text, a.attstorage,
           {_acl("c", "a.attacl", "own.relowner")},
           {_N_DISTINCT}{_FOREIGN_COLUMN})
  FROM own JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE own.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
  UNION ALL
  SELECT 'constraint', own.name || '.' || quote_ident(k.conname),
         concat_ws('|', pg_get_constraintdef(k.oid), k.convalidated)
  FROM own JOIN pg_constraint k ON k.conrelid = own.oid WHERE k.contype NOT IN ('n', 't')
    AND NOT (k.contype = 'f' AND k.conparentid <> 0)  -- clones on partitions: PostgreSQL names them again
  UNION ALL
  SELECT 'index', format('%I.%I', n.nspname, i.relname), pg_get_indexdef(x.indexrelid)
  FROM own JOIN pg_index x ON x.indrelid = own.oid AND x.indisvalid
  JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
  UNION ALL
  SELECT 'trigger', own.name || '.' || quote_ident(t.tgname),
         concat_ws('|', pg_get_triggerdef(t.oid), t.tgenabled)
  FROM own JOIN pg_trigger t ON t.tgrelid = own.oid AND NOT t.tgisinternal
  UNION ALL
  SELECT 'rule', own.name || '.' || quote_ident(r.rulename),
         concat_ws('|', pg_get_ruledef(r.oid), r.ev_enabled)
  FROM own JOIN pg_rewrite r ON r.ev_class = own.oid AND r.rulename <> '_RETURN'
  UNION ALL
  SELECT 'policy', own.name || '.' || quote_ident(p.polname),
         concat_ws('|', p.polcmd, p.polpermissive, (SELECT string_agg(CASE WHEN u = 0 THEN 'PUBLIC'
           ELSE quote_ident(pg_get_userbyid(u)) END, ',' ORDER BY pg_get_userbyid(u)) FROM unnest(p.polroles) u),
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  FROM own JOIN pg_policy p ON p.polrelid = own.oid
  UNION ALL
  SELECT 'function', p.oid::regprocedure::text, concat_ws('|', quote_ident(pg_get_userbyid(p.proowner)),
         CASE WHEN p.prokind = 'a' THEN (SELECT concat_ws('/', g.aggkind, g.aggtransfn::text, g.aggfinalfn::text,
           g.agginitval) FROM pg_aggregate g WHERE g.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END,
         {_acl("f", "p.proacl", "p.proowner")})
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
  UNION ALL
  SELECT 'type', t.oid::regtype::text, concat_ws('|', quote_ident(pg_get_userbyid(t.typowner)), t.typtype,
         (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
         CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END, {_DOMAIN_DEFAULT}, t.typnotnull,
         (SELECT string_agg(pg_get_constraintdef(k.oid), ',' ORDER BY k.conname)
            FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype <> 'n'),
         {_acl("T", "t.typacl", "t.typowner")})
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
  UNION ALL
  SELECT 'schema', quote_ident(n.nspname),
         concat_ws('|', quote_ident(pg_get_userbyid(n.nspowner)), {_acl("n", "n.nspacl", "n.nspowner")})
  FROM pg_namespace n WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid)
  UNION ALL
  SELECT i.type, i.identity, objects.body FROM (
    SELECT 'pg_operator'::regclass AS c, oid AS o, oprcode::text AS body FROM pg_operator
    UNION ALL SELECT 'pg_collation'::regclass, l.oid, concat_ws('/', l.collprovider, l.collisdeterministic,
        l.collcollate, l.collctype, to_jsonb(l)->>'colllocale', to_jsonb(l)->>'colliculocale') FROM pg_collation l
    UNION ALL SELECT 'pg_ts_config'::regclass, f.oid, (SELECT string_agg(concat_ws(':', m.maptokentype, m.mapseqno,
        m.mapdict::regdictionary), ',' ORDER BY m.maptokentype, m.mapseqno)
        FROM pg_ts_config_map m WHERE m.mapcfg = f.oid) FROM pg_ts_config f
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictinitoption FROM pg_ts_dict
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid,
        concat_ws('/', evtevent, evtenabled, evttags::text, evtfoid::regproc) FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, b.oid, concat_ws('/', (to_jsonb(b) - '{{oid,pubowner}}'::text[])::text,
        (SELECT string_agg(pr.prrelid::regclass::text, ',' ORDER BY pr.prrelid::regclass::text COLLATE "C")
         FROM pg_publication_rel pr WHERE pr.prpubid = b.oid)) FROM pg_publication b
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, {_STATISTICS} FROM pg_statistic_ext
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, concat_ws('/', srvtype, srvversion, {_sorted("srvoptions")})
        FROM pg_foreign_server{_WRAPPERS}
    UNION ALL SELECT 'pg_cast'::regclass, oid, concat_ws('/', castcontext, castmethod, castfunc::regproc) FROM pg_cast
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcdefault::text FROM pg_opclass
    UNION ALL SELECT 'pg_default_acl'::regclass, oid, (SELECT string_agg(concat_ws('/', CASE WHEN a.grantee = 0
        THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable), ','
        ORDER BY a.grantee = 0, pg_get_userbyid(a.grantee) COLLATE "C", a.privilege_type)
        FROM aclexplode(defaclacl) a) FROM pg_default_acl) objects,
    LATERAL pg_identify_object(objects.c, objects.o, 0) i
  WHERE objects.o >= 16384
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = objects.c AND m.objid = objects.o)
  UNION ALL
  SELECT 'comment', i.type || ' ' || i.identity, x.description
  FROM pg_description x, LATERAL pg_identify_object(x.classoid, x.objoid, x.objsubid) i
  WHERE {_COMMENTED}
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = x.classoid AND m.objid = x.objoid)
    AND x.classoid <> 'pg_extension'::regclass
)
SELECT jsonb_build_object('k', kind || ' ' || name) || CASE
  -- Expressions that print otherwise after a restore: see settled(). A function's source text is left as it is.
  WHEN kind <> 'comment' AND body ~ '[(]ARRAY[[]|[)] (AND|OR) ' AND (kind <> 'function' OR body !~ 'AS [$]function[$]')
  THEN jsonb_build_object('b', body) ELSE jsonb_build_object('h', md5(body)) END
FROM described ORDER BY 1;
"""

# What scheme 2 had in the place of these.
_AS_SCHEME_2 = {
    _sorted("reloptions"): "reloptions::text",
    _FOREIGN_TABLE: "",
    _N_DISTINCT + _FOREIGN_COLUMN: _N_DISTINCT.replace(' COLLATE "C"', ""),
    _DOMAIN_DEFAULT: "t.typdefault",
    _STATISTICS: "pg_get_statisticsobjdef(oid)",
    _sorted("srvoptions"): "srvoptions::text",
    _WRAPPERS: "",
    _COMMENTED: "x.objoid >= 16384",
}
_EVERY_SEQUENCE = _SEQUENCES.partition(" s WHERE")[0] + " ORDER BY 1;"

_ATTEMPT = "take the fingerprint"


def names_of(scheme: int) -> str:
    """SQL after which names read as those of the scheme's fingerprints: until 2 as text, then as they are stored."""
    return AS_TEXT if scheme <= 2 else ""


def _roles_of(major: int) -> str:
    """SQL that describes the roles of this server as one of that major describes them. 0: as this one does."""
    return _ROLES.replace(_OPTIONS, _OPTIONS_BEFORE_16) if 0 < major < 16 else _ROLES


def _schema_of(scheme: int) -> str:
    sql = _SCHEMA
    for ours, before in _AS_SCHEME_2.items() if scheme <= 2 else ():
        sql = sql.replace(ours, before)
    return sql


def bodies_sql(scheme: int, viewdef: str, keys: Sequence[str]) -> str:
    """SQL for what defines the views with these keys, which are literals, with `viewdef` for the text of each."""
    asked = _schema_of(scheme).partition("SELECT jsonb_build_object('k', kind")[0].replace(_VIEW, viewdef)
    wanted = f"kind || ' ' || name IN ({', '.join(keys)})"
    body = "jsonb_build_object('k', kind || ' ' || name, 'b', body)"
    return f"{names_of(scheme)}{asked}SELECT {body} FROM described WHERE {wanted};"


def digest(body: str) -> str:
    """As take() has it of what defines an object."""
    return _md5(settled(body))


@dataclass(frozen=True)
class Privilege:
    """grantee: empty for PUBLIC."""

    grantee: str
    grantable: bool
    privilege: str


@dataclass(frozen=True)
class Setting:
    """`name=value`, for one role in this database or, where that is empty, for all."""

    role: str
    setting: str


@dataclass(frozen=True)
class Locale:
    """Of the row of pg_database what a restore brings back. A major has some columns and not others: 14 no provider,
    15 and 16 `daticulocale`, which 17 calls `datlocale`, 15 no rules."""

    datcollate: str
    datctype: str
    datlocprovider: Optional[str] = None
    datlocale: Optional[str] = None
    daticulocale: Optional[str] = None
    daticurules: Optional[str] = None
    datconnlimit: Optional[int] = None

    @property
    def of_provider(self) -> Optional[str]:
        """The locale of ICU or of PostgreSQL's own provider, whatever the major calls the column."""
        return self.datlocale or self.daticulocale


@dataclass(frozen=True)
class Initialised:
    """What the server was initialised with, as its template0 tells. wal_segment: bytes."""

    encoding: str
    collate: str
    ctype: str
    provider: Optional[str] = None
    locale: Optional[str] = None
    rules: Optional[str] = None
    wal_segment: Annotated[int, Range(0, MOST)] = 0


@dataclass(frozen=True)
class Facts:
    """What the database and its server are. row: that of pg_database, as this major has it.

    preload: None where the account may not read the setting. initialised: None where an earlier version took it.
    """

    acl: Optional[tuple[Privilege, ...]]
    row: Mapping[str, object]
    size: int
    owner: str
    comment: Optional[str]
    preload: Optional[str]
    encoding: str
    settings: tuple[Setting, ...]
    superuser: str
    extensions: Mapping[str, str]
    is_superuser: bool
    acl_is_default: bool
    data_checksums: str
    server_version: str
    system_identifier: str
    server_version_num: Annotated[int, Range(0, 10**8)]
    initialised: Optional[Initialised] = None

    def as_dict(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "initialised" or value is not None}

    @property
    def locale(self) -> Locale:
        return locale_of(self.row, lambda field, cause: LifeboatError("read the fingerprint", field, cause))

    @property
    def major(self) -> int:
        return self.server_version_num // 10000


@dataclass(frozen=True)
class Position:
    """Where a sequence stands. last: None where it was never used."""

    up: bool
    last: Optional[str]
    cycle: bool


@dataclass(frozen=True)
class Sequences:
    """Read before the dump, and again after it."""

    before: Mapping[str, Position]
    after: Optional[Mapping[str, Position]] = None


@dataclass(frozen=True)
class Table:
    """method: how its rows were hashed, see docs/fingerprint.md; `none` where they were only counted."""

    rows: Annotated[int, Range(0, MOST)]
    method: str
    hash: Optional[str] = None

    def as_dict(self) -> dict[str, object]:
        return {**({} if self.hash is None else {"hash": self.hash}), "rows": self.rows, "method": self.method}


@dataclass(frozen=True)
class LargeObjects:
    count: Annotated[int, Range(0, MOST)]
    bytes: Annotated[int, Range(0, MOST)]
    hash: str

    def as_dict(self) -> dict[str, object]:
        names = ("hash", "bytes", "count") if self.count else ("count", "bytes", "hash")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Fingerprint:
    """roles, schema: the MD5 of everything that defines the object. scheme: of these descriptions, SCHEME today."""

    scheme: Annotated[int, Range(1, MOST)]
    level: str
    facts: Facts
    roles: Mapping[str, str]
    schema: Mapping[str, str]
    sequences: Sequences
    tables: Mapping[str, Table]
    large_objects: LargeObjects

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def summary(self) -> Content:
        """The few figures a manifest and a list show."""
        return Content(self.level, len(self.tables), self.rows, self.large_objects.count, len(self.schema))

    def to_bytes(self) -> bytes:
        text = json.dumps(self, default=_members, indent=1, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace")  # a byte that is not UTF-8 becomes JSON's own escape


def locale_of(row: Mapping[str, object], wrong: typed.Wrong) -> Locale:
    return typed.build(Locale, row, wrong, "facts.row", unknown="ignore")


def _members(part: object) -> Mapping[str, object]:
    return part.as_dict() if isinstance(part, (Table, LargeObjects, Facts)) else vars(part)


def read(data: bytes, identity: str) -> Fingerprint:
    """What to_bytes() wrote. Raises IntegrityError, which names the field that is not as it should be."""

    def wrong(field: str, cause: str) -> LifeboatError:
        what = f"{FINGERPRINT}: {f'{field} {cause}'.strip()}"
        return IntegrityError("read the fingerprint", identity, what, "Choose another backup (`lifeboat list`).")

    body, _text = parsed(data, wrong)
    if isinstance(body, dict):
        body.setdefault("scheme", 1)
        if isinstance(body.get("facts"), dict):  # the first fingerprints told neither of them
            body["facts"].setdefault("acl_is_default", False)
    found = typed.build(Fingerprint, body, wrong, unknown="ignore")
    if found.level not in FINGERPRINTS:
        raise wrong("level", f"{typed.shown(found.level)} is not one of {', '.join(FINGERPRINTS)}")
    locale_of(found.facts.row, wrong)
    for when, positions in (("before", found.sequences.before), ("after", found.sequences.after or {})):
        for name, position in positions.items():
            if position.last is not None and not _VALUE.fullmatch(position.last):
                raise wrong(f"sequences.{when}.{name}.last", f"{typed.shown(position.last)} is not a whole number")
    return found


def facts_of(folder: Path) -> Fingerprint:
    """The fingerprint that lies among the artefacts."""
    with filesystem.explained("read the fingerprint", folder / FINGERPRINT):
        return read(filesystem.read_file(folder / FINGERPRINT, LARGEST), folder.name)


def globals_of(folder: Path) -> bytes:
    """The statements of the globals that lie among the artefacts. OSError, EOFError and zlib.error where it is not what
    gzip writes; IntegrityError where there is more than any server has: a MiB of gzip's may be a GiB."""
    with gzip.open(folder / GLOBALS, "rb") as file:
        script = file.read(LARGEST + 1)
    if len(script) > LARGEST:
        cause = f"{GLOBALS} unpacks to more than {LARGEST >> 20} MiB"
        raise IntegrityError("read the globals", folder.name, cause, "Choose another backup (`lifeboat list`).")
    return script


@dataclass(frozen=True)
class _Sequence(Position):
    name: str


@dataclass(frozen=True)
class _Table:
    """columns: quoted, by name. hashable: whether a hash of their values depends on the values alone. empty: it is not
    logged and this is a standby, where such a table has no rows, cannot be read, and is dumped without its data."""

    name: str
    columns: str
    hashable: bool
    empty: bool
    bytes: int

    def method(self, level: str) -> str:
        if level != "content" or not self.columns:
            return "none"
        return "record" if self.hashable else "text"


@dataclass(frozen=True)
class _Rows:
    rows: int
    hash: Optional[str] = None


@dataclass(frozen=True)
class _Version:
    server_version: str
    server_version_num: int


@dataclass(frozen=True)
class _Definition:
    """k: kind and name. h: the MD5 of what defines it. b: that itself, where it is not settled yet."""

    k: str
    h: str = ""
    b: str = ""


@dataclass(frozen=True)
class _Role:
    name: str
    facts: str


def sequences(session: Session, scheme: int = SCHEME) -> dict[str, Position]:
    """Where every sequence stands now, save those of extensions: sequences know no snapshot."""
    rows = session.rows(_SEQUENCES if scheme > 2 else _EVERY_SEQUENCE, attempted=_ATTEMPT)
    return {row.name: Position(row.up, row.last, row.cycle) for row in answers(_Sequence, rows)}


_RESERVE = """SELECT jsonb_build_object('name', format('%I.%I', schemaname, sequencename),
  'step', abs(increment_by), 'cache', cache_size) FROM pg_sequences ORDER BY 1;"""
_LOGGED_AHEAD = 32  # values of a sequence that are in the WAL before they are given out: SEQ_LOG_VALS


@dataclass(frozen=True)
class _Reserve:
    name: str
    step: int
    cache: int


def reserve(session: Session) -> dict[str, int]:
    """How much further than in the server that wrote the WAL each sequence may stand in one that replayed it."""
    rows = answers(_Reserve, session.rows(_RESERVE, attempted=_ATTEMPT))
    return {row.name: _LOGGED_AHEAD * row.step * row.cache for row in rows}


def tables_sql() -> str:
    """SQL for what content_sql() has to know of every ordinary table, the largest first."""
    return _TABLES.replace("{hashable}", ", ".join(literal(name) for name in _HASHABLE))


def content_sql(tables: Iterable[object]) -> list[str]:
    """SQL for the rows and the hash of each of these, as tables_sql() describes them."""
    return [_table_sql(table, table.method("content")) for table in answers(_Table, tables)]


def _tables(session: Session, level: str) -> dict[str, Table]:
    """Rows, and at level `content` the hash, of every ordinary table."""
    there = answers(_Table, session.rows(tables_sql(), attempted=_ATTEMPT))
    asked = ((_table_sql(table, table.method(level)), f"{_ATTEMPT} of {table.name}") for table in there)
    counted = (answers(_Rows, rows)[0] for rows in session.each(asked))
    return {table.name: Table(row.rows, table.method(level), row.hash) for table, row in zip(there, counted)}


def _table_sql(table: _Table, method: str) -> str:
    """Columns by name, so that their physical order does not matter. sum(bigint) is numeric: it cannot overflow."""
    row_hash = {
        "record": f"hash_record_extended(ROW({table.columns}), 0)",
        "text": f"hashtextextended(ROW({table.columns})::text, 0)",
    }.get(method)
    if table.empty:
        none = ", 'hash', '0'" if row_hash else ""
        return f"SELECT jsonb_build_object('rows', 0{none});"
    hashed = f", 'hash', coalesce(sum({row_hash}), 0)::text" if row_hash else ""
    return f"SELECT jsonb_build_object('rows', count(*){hashed}) FROM ONLY {table.name} x;"


def _md5(text: str) -> str:
    return hashlib.md5(encoded(text), usedforsecurity=False).hexdigest()


_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[()\[\],]|[^'"()\[\],]+|.""", re.DOTALL)
_UNSETTLED = re.compile(r"\]\)::|\) (AND|OR) ")  # without it there is nothing of the two
_NAME = r"""("([^"]|"")+"|[^"().,\[\]]+)"""
_CAST = re.compile(rf"::({_NAME}\.)?{_NAME}(\(\d+(,\d+)?\))?")


class _Group(NamedTuple):
    """Brackets and what is in them: `parts` are texts and groups, `text` is all of it printed."""

    parts: list[Union[str, _Group]]
    text: str


_Part = Union[str, _Group]


def settled(text: str) -> str:
    """Definitions as PostgreSQL prints them once they were dumped and read again; what is settled stays as it is.

    It prints two things otherwise than it was told them, and takes the print for granted when it reads it back:
    `s IN ('a', 'b')` of a varchar is `(ARRAY['a'::varchar, 'b'::varchar])::text[]` at first, and then
    `ARRAY[('a'::varchar)::text, ('b'::varchar)::text]`; `a BETWEEN 1 AND 2 AND b` is `((a >= 1) AND (a <= 2)) AND b`
    at first, and then `(a >= 1) AND (a <= 2) AND b`, for its grammar flattens the left side.
    https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/parser/gram.y (makeAndExpr, makeOrExpr)
    """
    if not _UNSETTLED.search(text):
        return text
    levels: list[list[_Part]] = [[]]
    for token in _TOKEN.findall(text):
        if token in "([":
            levels.append([token])
        elif token in ")]" and len(levels) > 1:
            parts = _flattened(_pushed_down([*levels.pop(), token]))
            levels[-1].append(_Group(parts, _printed(parts)))
        else:
            levels[-1].append(token)
    return "".join(_printed(_pushed_down(parts)) for parts in levels)


def _printed(parts: list[_Part]) -> str:
    return "".join(part if isinstance(part, str) else part.text for part in parts)


def _pushed_down(parts: list[_Part]) -> list[_Part]:
    """`(ARRAY[a, b])::type[]` becomes `ARRAY[(a)::type, (b)::type]`."""
    done: list[_Part] = []
    at = 0
    while at < len(parts):
        part = parts[at]
        at += 1
        elements = _elements(part) if isinstance(part, _Group) else None
        if elements:
            end = next(
                (n for n, item in enumerate(parts[at:], at) if isinstance(item, _Group) and item.text == "[]"), at
            )
            cast = _printed(parts[at:end])
            if _CAST.fullmatch(cast):
                done += ["ARRAY", _cast_each(elements, cast)]
                at = end + 1
                continue
        done.append(part)
    return done


def _elements(part: _Group) -> Optional[_Group]:
    """The `[a, b]` of `(ARRAY[a, b])`."""
    if part.parts[:2] != ["(", "ARRAY"] or len(part.parts) != 4:
        return None
    return part.parts[2] if isinstance(part.parts[2], _Group) else None


def _cast_each(elements: _Group, cast: str) -> _Group:
    """Every element of `[a, b]` with the cast; a nested array passes it on to its own."""
    done: list[_Part] = ["["]
    element: list[_Part] = []
    for part in elements.parts[1:]:
        if part not in (",", "]"):
            element.append(part)
            continue
        plain = _printed(element).strip()
        if plain.startswith("ARRAY[") and len(element) == 2 and isinstance(element[1], _Group):
            done += ["ARRAY", _cast_each(element[1], cast)]
        else:
            done.append(f"({plain}){cast}")
        done.append(", " if part == "," else "]")
        element = []
    return _Group(done, _printed(done))


def _flattened(parts: list[_Part]) -> list[_Part]:
    """`((a AND b) AND c)` becomes `(a AND b AND c)`; so does OR. Only at the left: the right side prints as it is."""
    left, then = parts[1], parts[2] if len(parts) > 2 else ""
    if parts[0] == "(" and isinstance(left, _Group) and left.parts[0] == "(" and isinstance(then, str):
        word = re.match(r" (AND|OR) ", then)
        bare = " () ".join(part for part in left.parts[1:-1] if isinstance(part, str) and part[0] not in "'\"")
        if word and re.search(rf"\b{word[1]}\b", bare) and not re.search(r"\b(SELECT|CASE|BETWEEN)\b", bare):
            return ["(", *left.parts[1:-1], *parts[2:]]
    return parts


def take(session: Session, level: str, scheme: int = SCHEME, major: int = 0) -> Fingerprint:
    """The whole fingerprint, in the session's own snapshot; in an earlier scheme, to be compared with such a one.

    major: of the server whose fingerprint it is compared with; 0: of this one.
    """
    scheme = min(max(scheme, _OLDEST), SCHEME)
    (known,) = session.rows(names_of(scheme) + _FACTS, attempted=_ATTEMPT)
    version = typed.build(_Version, known, wrong_answer, unknown="ignore")
    if version.server_version_num < 140000:
        raise UsageError(
            _ATTEMPT, f"PostgreSQL {version.server_version}", "Lifeboat needs PostgreSQL 14 or newer", "Upgrade it."
        )
    (facts,) = answers(Facts, [known])
    roles = answers(_Role, session.rows(_roles_of(major), attempted=_ATTEMPT))
    schema = answers(_Definition, session.rows(_schema_of(scheme), attempted=_ATTEMPT))
    return Fingerprint(
        scheme,
        level,
        facts,
        {role.name: role.facts for role in roles},
        {row.k: row.h or _md5(settled(row.b)) for row in schema},
        Sequences(sequences(session, scheme)),
        _tables(session, level),
        _large_objects(session),
    )


def _large_objects(session: Session) -> LargeObjects:
    """Count, bytes and content hash. Reading them takes a superuser, so do not ask where there are none."""
    if session.rows("SELECT to_json(count(*)) FROM pg_largeobject_metadata;", attempted=_ATTEMPT) == [0]:
        return LargeObjects(0, 0, "0")
    return answers(LargeObjects, session.rows(_LARGE_OBJECTS, attempted=_ATTEMPT))[0]


def compare(
    expected: Fingerprint, found: Fingerprint, *, roles: str = "exact", application: bool = True,
    ahead: Mapping[str, int] = NOWHERE,
) -> list[Check]:  # fmt: skip
    """Hold a restored database against the fingerprint of its backup. Both taken at the same level.

    ahead: how much further than it did a sequence may stand, as reserve() tells of one that was replayed.
    application: it is the application's own database, of which nothing is known where it has no table.
    roles: `exact` in a fresh server; `present` in a server that lived on, where a role may rightly have changed since.
    """
    same_major = expected.facts.major == found.facts.major
    same_scheme = expected.scheme == found.scheme
    extensions = expected.facts.extensions
    checks = [
        _tables_check(expected, found, application),
        _sequences_check(expected.sequences, found.sequences.before, ahead),
        compared(
            "large objects",
            _changed(vars(expected.large_objects), vars(found.large_objects)),
            f"{expected.large_objects.count} identical",
        ),
        _schema_check(expected.schema, found.schema, same_major, same_scheme),
        compared(
            EXTENSIONS, _changed(extensions, found.facts.extensions, values=same_major), f"{len(extensions)} present"
        ),
        _settings_check(expected.facts, found.facts, same_major),
        compared(
            "roles",
            _changed(expected.roles, found.roles, values=roles == "exact" and same_scheme, more=False),
            f"{len(expected.roles)} present",
        ),
    ]
    return [replace(check, detail=named(check.detail)) for check in checks]


def _changed(
    expected: Mapping[str, object], found: Mapping[str, object], *, values: bool = True, more: bool = True
) -> list[str]:
    differences = [f"{key} is missing" for key in expected if key not in found]
    if more:
        differences += [f"{key} was not in the backup" for key in found if key not in expected]
    if values:
        differences += [f"{key} differs" for key, value in expected.items() if key in found and found[key] != value]
    return sorted(differences)


def _tables_check(expected: Fingerprint, found: Fingerprint, application: bool) -> Check:
    wanted, had = expected.tables, found.tables
    differences = _changed(wanted, had, values=False)
    for name, table in wanted.items():
        other = had.get(name, table)
        if table.rows != other.rows:
            differences.append(f"{name} has {other.rows} rows, the backup {table.rows}")
        elif table.hash != other.hash:
            differences.append(f"{name} has other content (content hash {other.hash}, the backup {table.hash})")
    if application and not wanted and not differences:
        words = (
            "the application's database had no table when it was backed up: is lifeboat_database.name the right one?"
        )
        return Check("tables", COULD_NOT_VERIFY, words)
    how = "rows and content" if expected.level == "content" else "row counts"
    return compared("tables", sorted(differences), f"{len(wanted)} tables, {expected.rows} rows: {how} equal")


def _sequences_check(expected: Sequences, found: Mapping[str, Position], ahead: Mapping[str, int]) -> Check:
    """A sequence moves outside any snapshot: the dump read it between our two readings, so it must lie between them.
    ahead: and so much further, by name."""
    before, after = expected.before, expected.after or {}
    differences = [f"{name} is missing" for name in before if name not in found and name in after]
    differences += [f"{name} was not in the backup" for name in found if name not in after and name not in before]
    for name, position in found.items():
        low, high = before.get(name), after.get(name)
        if low is None or high is None or position.cycle:
            continue
        if not position.up:
            low, high = high, low
        first, value, last = (_position(known.last, position.up) for known in (low, position, high))
        more = ahead.get(name, 0)
        below, above = (0, more) if position.up else (more, 0)
        if not first - below <= value <= last + above:
            differences.append(f"{name} stands at {position.last}, the backup between {low.last} and {high.last}")
    return compared("sequences", sorted(differences), f"{len(found)} stand where they stood")


def _position(last: Optional[str], up: bool) -> float:
    """A sequence never used has no last value: it stands before every value it can give."""
    if last is None:
        return float("-inf") if up else float("inf")
    return float(last) if abs(int(last)) < 1 << 53 else int(last)


def _schema_check(expected: Mapping[str, str], found: Mapping[str, str], same_major: bool, same_scheme: bool) -> Check:
    differences = _changed(expected, found, values=same_major and same_scheme)
    check = compared("schema", differences, f"{len(expected)} definitions equal")
    why = "" if same_major else "definitions print differently across majors"
    why = why or (
        "" if same_scheme else "another version of Lifeboat took its fingerprint, so only names were compared"
    )
    return (
        Check("schema", COULD_NOT_VERIFY, f"{len(expected)} objects present; {why}")
        if why and not differences
        else check
    )


def _granted(acl: Optional[tuple[Privilege, ...]]) -> Optional[set[tuple[str, str, bool]]]:
    """Who may do what, and whether they may pass it on: once, however many have granted it."""
    if acl is None:
        return None
    wider = {(granted.grantee, granted.privilege) for granted in acl if granted.grantable}
    pairs = {(granted.grantee, granted.privilege) for granted in acl}
    return {(*pair, pair in wider) for pair in pairs}


def _settings_check(expected: Facts, found: Facts, same_major: bool) -> Check:
    differences = []
    for of, before, now in (
        (("owner", "encoding", "acl", "settings", "comment"), expected, found),
        (("datcollate", "datctype", "datconnlimit"), expected.locale, found.locale),
    ):
        was, has = typed.plain(before, nulls=True), typed.plain(now, nulls=True)
        if "acl" in of and _granted(expected.acl) == _granted(found.acl):
            has["acl"] = was["acl"]
        differences += [f"{key}: {has[key]!r}, the backup {was[key]!r}" for key in of if has[key] != was[key]]
    before, now = expected.locale, found.locale
    for key, had, have in (
        ("datlocprovider", before.datlocprovider or "c", now.datlocprovider or "c"),
        ("daticurules", before.daticurules or None, now.daticurules or None),
    ):
        differences += [f"{key}: {have!r}, the backup {had!r}"] if had != have else []
    unlike = f"datlocale: {now.of_provider!r}, the backup {before.of_provider!r}"
    if before.of_provider == now.of_provider or (not same_major and _alike(before.of_provider, now.of_provider)):
        unlike = ""
    elif same_major or "@" not in (before.of_provider or ""):
        differences.append(unlike)
        unlike = ""
    check = compared("database settings", differences, "settings, owner, privileges, locale equal")
    if unlike and not differences:
        return Check(check.name, COULD_NOT_VERIFY, f"{unlike}; majors write the options of a locale differently")
    return check


def _alike(before: Optional[str], now: Optional[str]) -> bool:
    """16 and newer write an ICU locale as a language tag: en_US is en-US."""
    return bool(before and now) and str(before).replace("_", "-").lower() == str(now).replace("_", "-").lower()
