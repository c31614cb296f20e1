# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What surrounds the databases of a server: its settings, access rules, tablespaces, slots, subscriptions, libraries.

No dump has it. It is recorded with a backup, and after a rebuild compared and, where that is safe, restored; all else
is named with the command that brings it back. No secret is recorded: what may be one is masked (MASK), and what was
masked is neither compared nor restored. What the account may not read is recorded as that, and is then not verified.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Optional, TypeVar, Union

from ..base import filesystem, pipeline, typed
from ..base.checks import COULD_NOT_VERIFY, PASS, Check, compared
from ..base.errors import IntegrityError, LifeboatError, Log
from ..base.text import named
from ..base.typed import MOST, Range
from ..recovery.state import keep
from ..settings.config import Config
from .server import Server, answers, identifier, literal, parsed, setting_name, setting_value, wrong_answer

T = TypeVar("T")
CLUSTER = "cluster.json"  # an artefact of a backup
SCHEME = 1
AUTO = "postgresql.auto.conf"  # what ALTER SYSTEM writes
COMMAND_LINE = "command line"
HBA, IDENT = "pg_hba.conf", "pg_ident.conf"
MASK = "***"
# What may be unreadable, and the names of the checks.
SETTINGS, RULES, TABLESPACES, SLOTS = "server settings", "access rules", "tablespaces", "replication slots"
TEMPLATE = "template1"
SHOWN = 8  # of what stands in one line
ORIGINS = "replication origins"
SUBSCRIPTIONS, PUBLICATIONS, LIBRARIES = "subscriptions", "publications", "extension libraries"
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # in JSON, where a backslash is written twice
_ATTEMPT = "read what surrounds the databases"
_TIMEOUT = 300.0  # seconds for all questions together


def _plain(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) else setting_name(name)


@dataclass(frozen=True)
class Setting:
    """One that differs from PostgreSQL's default. source: as pg_settings has it; file: the base name of its file.

    value: as the file has it, or in the setting's own unit. kind: bool, integer, real, enum, string. restart: it takes
    effect when the server starts.
    """

    name: str
    value: str
    source: str
    file: str = ""
    kind: str = "string"
    unit: Optional[str] = None
    restart: bool = False

    @property
    def masked(self) -> bool:
        return MASK in self.value

    @property
    def command(self) -> str:
        value = "..." if self.masked else setting_value(self.name, self.value).strip()
        return f"ALTER SYSTEM SET {_plain(self.name)} = {value};"


@dataclass(frozen=True)
class Tablespace:
    name: str
    owner: str
    location: str
    options: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        parts = (option.partition("=") for option in self.options)
        given = ", ".join(f"{_plain(name)} = {literal(value).strip()}" for name, _equals, value in parts)
        options = f" WITH ({given})" if given else ""
        place = literal(self.location).strip()
        return f"CREATE TABLESPACE {identifier(self.name)} OWNER {identifier(self.owner)} LOCATION {place}{options};"


@dataclass(frozen=True)
class Slot:
    """kind: logical or physical. plugin, database: of a logical one."""

    name: str
    kind: str
    plugin: Optional[str] = None
    database: Optional[str] = None
    two_phase: bool = False
    failover: bool = False

    @property
    def command(self) -> str:
        name = literal(self.name).strip()
        if self.kind != "logical":
            return f"SELECT pg_create_physical_replication_slot({name});"
        more = "".join(f", {key} => true" for key in ("two_phase", "failover") if getattr(self, key))
        plugin = literal(self.plugin or "").strip()
        return f"SELECT pg_create_logical_replication_slot({name}, {plugin}{more}); in the database {self.database}"


@dataclass(frozen=True)
class Origin:
    """How far a subscriber has come. subscription, database: of PostgreSQL's own subscriptions, whose origins it makes
    itself. lsn: None where the account may not read it, or nothing came yet."""

    name: str
    lsn: Optional[str] = None
    subscription: Optional[str] = None
    database: Optional[str] = None

    @property
    def key(self) -> tuple[Optional[str], ...]:
        return (self.database, self.subscription, None if self.subscription else self.name)

    @property
    def shown(self) -> str:
        of = f" of the subscription {self.subscription} of {self.database}" if self.subscription else ""
        return f"{self.name}{of}{f' at {self.lsn}' if self.lsn else ''}"

    @property
    def command(self) -> str:
        """What makes it again, where it was."""
        name = literal(self.name).strip()
        if self.subscription:
            called = literal(self.subscription).strip()
            name = f"(SELECT 'pg_' || oid FROM pg_subscription WHERE subname = {called})"
        made = "" if self.subscription else f"SELECT pg_replication_origin_create({name}); "
        lsn = literal(self.lsn or "...").strip()
        where = f" in the database {self.database}" if self.subscription else ""
        return f"{made}SELECT pg_replication_origin_advance({name}, {lsn});{where}"


@dataclass(frozen=True)
class Subscription:
    """conninfo: masked; None where the account may not read it. options: the other columns of its row, as its major has
    them; None where the account may not read them, or an earlier version of Lifeboat took it."""

    name: str
    database: str
    owner: str
    enabled: bool
    publications: tuple[str, ...]
    slot: Optional[str] = None
    conninfo: Optional[str] = None
    options: Optional[Mapping[str, object]] = None


@dataclass(frozen=True)
class Extension:
    """offered: the server has its files."""

    name: str
    version: str
    offered: bool


@dataclass(frozen=True)
class Inside:
    """What one database has. publications: by name, what defines each."""

    publications: Mapping[str, str]
    extensions: tuple[Extension, ...]


@dataclass(frozen=True)
class Cluster:
    """for_all: ALTER ROLE ALL SET. hba, ident: the rules as lines. origins: None in a backup of before they were
    recorded. databases: by name. unreadable: what, and why. template: what somebody made in template1, as PostgreSQL
    describes it."""

    scheme: Annotated[int, Range(1, MOST)]
    settings: tuple[Setting, ...] = ()
    for_all: tuple[Setting, ...] = ()
    hba: tuple[str, ...] = ()
    ident: tuple[str, ...] = ()
    tablespaces: tuple[Tablespace, ...] = ()
    slots: tuple[Slot, ...] = ()
    origins: Optional[tuple[Origin, ...]] = None
    subscriptions: tuple[Subscription, ...] = ()
    databases: Mapping[str, Inside] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    template: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        text = json.dumps(typed.plain(self), indent=1, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace")  # a byte that is not UTF-8 becomes JSON's own escape


@dataclass(frozen=True)
class Brought:
    """What a rebuild brought back of it. notes: each thing that differs and why. diff: of the access rules."""

    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    diff: str = ""


def read(data: bytes, identity: str) -> Cluster:
    """What to_bytes() wrote. Raises IntegrityError, which names the field that is not as it should be."""

    def wrong(where: str, cause: str) -> LifeboatError:
        what = f"{CLUSTER}: {f'{where} {cause}'.strip()}"
        return IntegrityError("read the server's settings", identity, what, "Choose another backup (`lifeboat list`).")

    body, text = parsed(data, wrong)
    if _NUL.search(text):
        raise wrong("", "it has a NUL, which no text of PostgreSQL has")
    return typed.build(Cluster, body, wrong, unknown="ignore")


def of(folder: Path) -> Optional[Cluster]:
    """What lies among the artefacts; None where the backup is of the time before it was recorded."""
    path = folder / CLUSTER
    if not path.exists():
        return None
    with filesystem.explained("read the server's settings", path):
        return read(filesystem.read_file(path), folder.name)


# --- secrets

# The plural too: radiussecrets of pg_hba.conf is a list of them, and no file is named here.
_SECRET = rf"{pipeline.SECRET_NAME}|(?:secret|token|credential)s\b"
_GIVEN = re.compile(
    rf"""([\w.-]{{0,64}}(?:{_SECRET})[\w.-]{{0,64}}(?:\s*[=:]\s*|\s+))('(?:[^'\\]|\\.)*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$)|\S+)""",
    re.IGNORECASE | re.DOTALL,
)
_URI = re.compile(r"(://[^\s/@:]*:)\S*(?=@)")


def mask(text: str) -> str:
    """Text without the passwords of connection strings, URIs and the like in it."""
    return _GIVEN.sub(rf"\g<1>{MASK}", _URI.sub(rf"\g<1>{MASK}", text))


def masked(setting: Setting) -> Setting:
    """Without what may be a secret. Of a command the program is kept: its arguments are anything."""
    if setting.kind != "string" or not setting.value:
        return setting
    name = setting.name.lower()
    if re.search(_SECRET, name):
        return replace(setting, value=MASK)
    if name.endswith("_command"):
        program, space, _arguments = setting.value.strip().partition(" ")
        value = mask(program)
        return replace(setting, value=f"{value} {MASK}" if space else MASK if "=" in value else value)
    return replace(setting, value=mask(setting.value))


# --- reading

# No backslash in any of these, so that standard_conforming_strings does not matter.
_MAY = """
SELECT jsonb_build_object(
  'files', has_table_privilege('pg_file_settings', 'SELECT')
    AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE'),
  'all', pg_has_role(current_user, 'pg_read_all_settings', 'USAGE'),
  'ident', to_regclass('pg_ident_file_mappings') IS NOT NULL,
  'conninfo', has_column_privilege('pg_subscription', 'subconninfo', 'SELECT'),
  'origins', has_table_privilege('pg_replication_origin_status', 'SELECT')
    AND has_function_privilege('pg_show_replication_origin_status()', 'EXECUTE'));
"""
_OF_SETTING = """'kind', coalesce(s.vartype, 'string'), 'unit', s.unit, 'boot', s.boot_val,
  'restart', coalesce(s.context = 'postmaster', false)"""
# The last line of a name is the one that counts. What the sessions of ours have set hides it in pg_settings.
_FILES = f"""
SELECT DISTINCT ON (lower(f.name)) jsonb_build_object('name', coalesce(s.name, f.name),
  'value', coalesce(f.setting, ''), 'source', 'configuration file',
  'file', regexp_replace(f.sourcefile, '^.*/', ''), {_OF_SETTING})
FROM pg_file_settings f LEFT JOIN pg_settings s ON lower(s.name) = lower(f.name)
WHERE f.name IS NOT NULL ORDER BY lower(f.name), f.seqno DESC;
"""
_SHOWN = f"""
SELECT jsonb_build_object('name', s.name, 'value', coalesce(s.setting, ''), 'source', s.source,
  'file', coalesce(regexp_replace(s.sourcefile, '^.*/', ''), ''), {_OF_SETTING})
FROM pg_settings s WHERE s.source IN ({{sources}}) ORDER BY s.name COLLATE "C";
"""
_FOR_ALL = f"""
SELECT jsonb_build_object('name', g.name, 'value', substr(g.item, length(g.name) + 2), 'source', 'global', 'file', '',
  {_OF_SETTING})
FROM (SELECT item, split_part(item, '=', 1) AS name FROM pg_db_role_setting x, LATERAL unnest(x.setconfig) u(item)
      WHERE x.setrole = 0 AND x.setdatabase = 0) g
LEFT JOIN pg_settings s ON lower(s.name) = lower(g.name) ORDER BY g.name COLLATE "C";
"""
HBA_RULES = """
SELECT jsonb_build_object('type', type, 'databases', coalesce(database, '{}'), 'users', coalesce(user_name, '{}'),
  'address', address, 'netmask', netmask, 'method', auth_method, 'options', coalesce(options, '{}'), 'error', error,
  'line', line_number)
FROM pg_hba_file_rules;
"""
_IDENT = """
SELECT jsonb_build_object('map', map_name, 'system', sys_name, 'role', pg_username, 'error', error, 'line', line_number)
FROM pg_ident_file_mappings;
"""
_TABLESPACES = """
SELECT jsonb_build_object('name', spcname, 'owner', pg_get_userbyid(spcowner), 'location',
  pg_tablespace_location(oid), 'options', coalesce(to_jsonb(spcoptions), '[]'))
FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY spcname;
"""
_SLOTS = """
SELECT jsonb_build_object('name', slot_name, 'kind', slot_type, 'plugin', plugin, 'database', database,
  'two_phase', coalesce(two_phase, false), 'failover', coalesce((to_jsonb(r) ->> 'failover')::bool, false))
FROM pg_replication_slots r WHERE NOT temporary ORDER BY slot_name;
"""
# The origin of a subscription has its number in its name; one with two numbers is of a table's first copy.
_ORIGINS = """
SELECT jsonb_build_object('name', o.roname, 'lsn', {lsn}, 'subscription', s.subname, 'database', d.datname)
FROM pg_replication_origin o LEFT JOIN pg_subscription s ON o.roname = 'pg_' || s.oid
LEFT JOIN pg_database d ON d.oid = s.subdbid WHERE o.roname !~ '^pg_[0-9]+_[0-9]+$' ORDER BY o.roname;
"""
_LSN = "(SELECT t.remote_lsn::text FROM pg_replication_origin_status t WHERE t.local_id = o.roident)"
_SUBSCRIPTIONS = """
SELECT jsonb_build_object('name', subname, 'database', d.datname, 'owner', pg_get_userbyid(subowner),
  'enabled', subenabled, 'publications', to_jsonb(subpublications), 'slot', subslotname, 'conninfo', {conninfo},
  'options', {options})
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid ORDER BY d.datname, subname;
"""
_OPTIONS = """to_jsonb(s) - '{oid,subdbid,subname,subowner,subenabled,subpublications,subslotname}'::text[]
  - '{subconninfo,subskiplsn}'::text[]"""
_INSIDE = """
SELECT jsonb_build_object(
  'publications', (SELECT coalesce(jsonb_object_agg(p.pubname, concat_ws(' ', pg_get_userbyid(p.pubowner),
      (to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text,
      (SELECT md5(string_agg((to_jsonb(t) - 'pubname')::text, ' ' ORDER BY t.schemaname COLLATE "C",
          t.tablename COLLATE "C")) FROM pg_publication_tables t WHERE t.pubname = p.pubname AND NOT p.puballtables))),
      '{}')
    FROM pg_publication p),
  'extensions', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', e.extname, 'version', e.extversion, 'offered',
      EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = e.extname)) ORDER BY e.extname), '[]')
    FROM pg_extension e));
"""

# What initdb makes has lower numbers. https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/access/transam.h
_TEMPLATE = """
SELECT to_jsonb(pg_describe_object(class, oid, 0)) FROM (
  SELECT 'pg_class'::regclass AS class, oid, relnamespace AS schema
  FROM pg_class WHERE relkind IN ('r','p','v','m','S','f')
  UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
  UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type WHERE typtype IN ('d','e','r')
  UNION ALL SELECT 'pg_extension'::regclass, oid, extnamespace FROM pg_extension
  UNION ALL SELECT 'pg_namespace'::regclass, oid, oid FROM pg_namespace) x
WHERE oid >= 16384 AND schema NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg!_%temp!_%' ESCAPE '!')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = x.class AND d.objid = x.oid AND d.deptype IN ('e', 'i'))
ORDER BY pg_describe_object(class, oid, 0) COLLATE "C";
"""


@dataclass(frozen=True)
class _May:
    files: bool
    all: bool
    ident: bool
    conninfo: bool
    origins: bool


@dataclass(frozen=True)
class _Read(Setting):
    boot: Optional[str] = None

    @property
    def default(self) -> Setting:
        return replace(self, value=self.boot or "")

    @property
    def kept(self) -> Setting:
        return masked(Setting(self.name, self.value, self.source, self.file, self.kind, self.unit, self.restart))


@dataclass(frozen=True)
class Rule:
    """A line of pg_hba.conf as PostgreSQL understood it. error: why it did not."""

    type: Optional[str]
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: Optional[str]
    netmask: Optional[str]
    method: Optional[str]
    options: tuple[str, ...]
    error: Optional[str]
    line: Optional[int]

    @property
    def text(self) -> str:
        if self.error is not None:
            return f"# line {self.line} is not valid: {named(mask(self.error))}"
        where = filter(None, (self.address, self.netmask))
        lists = (",".join(map(_word, names)) for names in (self.databases, self.users))
        return " ".join([self.type or "", *lists, *where, self.method or "", *map(_option, self.options)])


@dataclass(frozen=True)
class _Mapping:
    map: Optional[str]
    system: Optional[str]
    role: Optional[str]
    error: Optional[str]
    line: Optional[int]

    @property
    def text(self) -> str:
        if self.error is not None:
            return f"# line {self.line} is not valid: {named(mask(self.error))}"
        return " ".join(_word(part or "") for part in (self.map, self.system, self.role))


def _word(text: str) -> str:
    return text if re.fullmatch(r"[^\s,\"#]+", text) else '"' + text.replace('"', '""') + '"'


def _option(text: str) -> str:
    name, equals, value = text.partition("=")
    return name + equals + (MASK if re.search(_SECRET, name, re.IGNORECASE) else _word(mask(value)))


class _Reader:
    """Asks a server, one question after the other; what cannot be read is noted and does not stop the rest."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.unreadable: dict[str, str] = {}

    def rows(self, topic: str, kind: type[T], sql: str, database: str = "template1") -> list[T]:
        try:
            return answers(kind, self._server.execute(sql, database=database, attempted=_ATTEMPT, timeout=60))
        except LifeboatError as exc:
            self.lacks(topic, exc.cause)
            return []

    def lacks(self, topic: str, why: str) -> None:
        self.unreadable.setdefault(topic, named(mask(why)))

    def may(self) -> _May:
        """What the account may read."""
        nothing = _May(files=False, all=False, ident=True, conninfo=False, origins=False)
        return (self.rows(SETTINGS, _May, _MAY) or [nothing])[0]

    def origins(self, may: _May) -> tuple[Origin, ...]:
        found = self.rows(ORIGINS, Origin, _ORIGINS.replace("{lsn}", _LSN if may.origins else "NULL"))
        if found and not may.origins:
            self.lacks(ORIGINS, "the account may not read pg_replication_origin_status")
        return tuple(found)

    def settings(self, may: _May) -> list[Setting]:
        sources = ["command line", "environment variable"]
        if not may.files:
            sources.append("configuration file")
            self.lacks(SETTINGS, "the account may not read pg_file_settings")
        if not may.all:
            self.lacks(SETTINGS, "the account is not a member of pg_read_all_settings")
        sql = _SHOWN.replace("{sources}", ", ".join(map(literal, sources)))
        found = self.rows(SETTINGS, _Read, _FILES) if may.files else []
        told = self.rows(SETTINGS, _Read, sql)
        over = {setting.name for setting in told}
        both = told + [setting for setting in found if setting.name not in over or setting.file == AUTO]
        kept = [
            each for each in both if each.file == AUTO or each.boot is None or _normal(each) != _normal(each.default)
        ]
        return sorted((setting.kept for setting in kept), key=lambda setting: (setting.name, setting.file))


# Before 15 a publication has whole tables, without a list of columns or a filter of rows.
_TABLES_OF = "to_jsonb(t) - 'pubname'"
_TABLES_BEFORE_15 = "to_jsonb(t) - '{pubname,attnames,rowfilter}'::text[]"


def take(server: Server, databases: Iterable[str], major: int = 0) -> Cluster:
    """What surrounds the databases now. databases: those to look into. major: of the server that it is compared with;
    0: of this one."""
    with server.apart(_TIMEOUT) as asked:
        return _taken(_Reader(asked), databases, major)


def _taken(reader: _Reader, databases: Iterable[str], major: int) -> Cluster:
    sql = _INSIDE.replace(_TABLES_OF, _TABLES_BEFORE_15) if 0 < major < 15 else _INSIDE
    may = reader.may()
    hba = [rule.text for rule in reader.rows(RULES, Rule, HBA_RULES)]
    ident = [rule.text for rule in reader.rows(RULES, _Mapping, _IDENT)] if may.ident else []
    columns = ("subconninfo", _OPTIONS) if may.conninfo else ("NULL", "NULL")
    asked = _SUBSCRIPTIONS.replace("{conninfo}", columns[0]).replace("{options}", columns[1])
    subscriptions = reader.rows(SUBSCRIPTIONS, Subscription, asked)
    if subscriptions and not may.conninfo:
        reader.lacks(SUBSCRIPTIONS, "the account may not read pg_subscription.subconninfo")
    template = tuple(reader.rows(TEMPLATE, str, _TEMPLATE))
    inside = {name: reader.rows(LIBRARIES, Inside, sql, name) for name in databases}
    return Cluster(
        SCHEME,
        tuple(reader.settings(may)),
        tuple(setting.kept for setting in reader.rows(SETTINGS, _Read, _FOR_ALL)),
        tuple(hba),
        tuple(ident),
        tuple(reader.rows(TABLESPACES, Tablespace, _TABLESPACES)),
        tuple(reader.rows(SLOTS, Slot, _SLOTS)),
        reader.origins(may),
        tuple(replace(found, conninfo=found.conninfo and mask(found.conninfo)) for found in subscriptions),
        {name: rows[0] for name, rows in inside.items() if rows},
        reader.unreadable,
        template,
    )


# --- what may be set again

# Settings that take effect at a start and with which a server that ran with them starts again.
_STARTS = {
    "autovacuum_freeze_max_age", "autovacuum_max_workers", "autovacuum_multixact_freeze_max_age", "max_connections",
    "max_files_per_process", "max_locks_per_transaction", "max_pred_locks_per_transaction",
    "max_prepared_transactions", "max_replication_slots", "max_wal_senders", "max_worker_processes",
    "track_activity_query_size", "track_commit_timestamp", "wal_level", "wal_log_hints",
}  # fmt: skip
# Text that names no path, library, command or server.
_TEXTS = {
    "application_name", "createrole_self_grant", "datestyle", "default_text_search_config", "lc_messages",
    "lc_monetary", "lc_numeric", "lc_time", "log_line_prefix", "log_timezone", "search_path", "timezone",
}  # fmt: skip
_REASONS = {
    "archive_command": "the WAL of a rebuilt server must not mix with that of the one before",
    "archive_library": "the WAL of a rebuilt server must not mix with that of the one before",
    "archive_mode": "without a command that works, WAL fills the disk",
    "shared_preload_libraries": "without its libraries a server does not start",
    "synchronous_standby_names": "every commit would wait for a standby that may not be there",
    "primary_conninfo": "the server would follow another one",
    "restore_command": "it runs a program and brings in another server's WAL",
    "ssl": "its certificate and key are files that no dump has",
    "db_user_namespace": "it changes the names by which roles log in",
    "zero_damaged_pages": "it destroys what a damaged page holds",
    "ignore_checksum_failure": "it hides damage",
    "ignore_system_indexes": "it hides damage",
    "data_directory": "it is another host's path",
    "listen_addresses": "it decides where the server is reached",
    "port": "it decides where the server is reached",
    "unix_socket_directories": "it decides where the server is reached",
    "shared_buffers": "this host may not have the memory",
    "huge_pages": "this host may not have them",
}


def kept_out(setting: Setting) -> str:
    """Why a rebuild does not set it again; empty where it does."""
    name = setting.name.lower()
    if setting.masked:
        return "it may hold a secret, so its value is not recorded"
    if name in _REASONS:
        return _REASONS[name]
    if name == "wal_level" and setting.value == "minimal":
        return "a server with max_wal_senders does not start with it"
    if setting.restart and name not in _STARTS:
        return "a wrong value keeps the server from starting"
    if setting.kind not in ("bool", "integer", "real", "enum") and name not in _TEXTS:
        return "it may name a path, a library, a command or another server"
    return ""


def notes(wanted: Cluster) -> list[str]:
    """What a rebuild does not bring back, for the plan: a line each."""
    lines = [_unset(setting) for setting in wanted.settings if setting.file == AUTO and kept_out(setting)]
    lines += [_unset(setting, "ALTER ROLE ALL SET") for setting in wanted.for_all if kept_out(setting)]
    others = [setting for setting in wanted.settings if setting.file != AUTO and setting.source != COMMAND_LINE]
    if others:
        values = ", ".join(f"{setting.name} = {setting.value}" for setting in others)
        lines.append(f"the configuration file's settings, a fresh server has a file of its own: {values}")
    if wanted.hba or wanted.ident:
        count = len(wanted.hba) + len(wanted.ident)
        lines.append(f"the {count} rules of {HBA} and {IDENT}: where they differ they are written aside, with a diff")
    lines += [f"the tablespace {space.name}: {space.command}" for space in wanted.tablespaces]
    lines += [f"the {slot.kind} replication slot {slot.name}: {slot.command}" for slot in wanted.slots]
    lines += [f"the replication origin {origin.shown}: {origin.command}" for origin in wanted.origins or ()]
    lines += [
        f"the state of the subscription {item.name} of {item.database}: it comes back disabled"
        for item in wanted.subscriptions
        if item.enabled
    ]
    if wanted.template:
        lines.append(f"what somebody made in {TEMPLATE}: {_some(wanted.template)}")
    lines += [f"{topic}: not recorded, as {why}" for topic, why in wanted.unreadable.items()]
    return [f"not restored: {named(line)}" for line in lines]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def staying(server: Server, databases: Collection[str]) -> list[str]:
    """What does not come back with a database that is replaced in a server that lives, as it belongs to the one that
    is put aside: its logical replication slots, and the progress of its subscriptions. A line each."""
    reader = _Reader(server)
    lines = []
    for slot in reader.rows(SLOTS, Slot, _SLOTS):
        if slot.database in databases:
            dropped = f"SELECT pg_drop_replication_slot({literal(slot.name).strip()}); in the database put aside"
            lines.append(
                f"the {slot.kind} replication slot {slot.name} stays with the database that is put aside. To have it"
                f" in the restored one: {dropped}, then {slot.command}"
            )
    for origin in reader.origins(reader.may()):
        if origin.database in databases:
            lines.append(
                f"the replication origin {origin.shown} stays with the database that is put aside: the restored"
                f" subscription has one of its own. To set it: {origin.command}"
            )
    lines += [f"{topic} of the database put aside: not read, as {why}" for topic, why in reader.unreadable.items()]
    return [named(line) for line in lines]


def _unset(setting: Setting, by: str = "ALTER SYSTEM SET") -> str:
    return f"{setting.name} = {setting.value}, as {kept_out(setting)}. To set it: {_command(setting, by)}"


def _command(setting: Setting, by: str) -> str:
    return setting.command.replace("ALTER SYSTEM SET", by, 1)


# --- comparing

_BYTES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
_FACTORS: Mapping[str, float] = {**_BYTES, **_TIMES}
_FIGURE = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)")
_TRUE = {"on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"}


def _normal(setting: Setting) -> str:
    """The value, whichever way it was written: 64MB of a setting whose unit is 8kB is 8192."""
    text = setting.value.strip()
    if setting.kind == "bool":
        return "on" if text.lower() in _TRUE else "off"
    if setting.kind in ("integer", "real"):
        unit = re.fullmatch(r"([0-9]*)([A-Za-z]+)", setting.unit or "")
        base = int(unit[1] or 1) * _FACTORS.get(unit[2], 1) if unit else 1
        figure = _FIGURE.fullmatch(text)
        if figure and (figure[2] in _FACTORS or not figure[2]):
            value = float(figure[1]) * (_FACTORS[figure[2]] / base if figure[2] else 1)
            return f"{round(value) if setting.kind == 'integer' else value:.15g}"
    return text.lower() if setting.kind == "enum" or setting.name.lower() in ("datestyle", "timezone") else text


def compare(expected: Cluster, found: Cluster, restored: Collection[str] = (), *, same_major: bool = True) -> Brought:
    """Compare a rebuilt server with the backup's. FAIL: what was to come back, and differs. All else is a note.

    restored: the settings that were set again, in lower case. A server that lived on is not compared: it may rightly
    have changed. same_major: both are of the same PostgreSQL major, and describe a publication in the same words.
    """
    unlike: list[str] = []
    checks: list[Check] = []
    lines: list[str] = []
    topics = (
        (SETTINGS, _settings(expected, found, restored), len(expected.settings)),
        (RULES, _rules(expected, found), len(expected.hba) + len(expected.ident)),
        (TABLESPACES, _lost("tablespace", expected.tablespaces, found.tablespaces), len(expected.tablespaces)),
        (SLOTS, _lost("replication slot", expected.slots, found.slots), len(expected.slots)),
        *([(ORIGINS, _origins(expected, found), len(expected.origins))] if expected.origins is not None else []),
        (SUBSCRIPTIONS, _subscriptions(expected, found), len(expected.subscriptions)),
        (
            PUBLICATIONS,
            _publications(expected, found, unlike if not same_major else None),
            sum(len(one.publications) for one in expected.databases.values()),
        ),
        (LIBRARIES, _libraries(expected, found), sum(len(one.extensions) for one in expected.databases.values())),
    )
    absent = [name for name in expected.databases if name not in found.databases]
    gone = f"in {', '.join(absent)}, not there or not readable now" if absent else ""
    for topic, differences, count in topics:
        told = [(fails, named(words)) for fails, words in differences]
        wrong = [words for fails, words in told if fails]
        noted = [words for fails, words in told if not fails]
        lines += noted
        read_by = LIBRARIES if topic == PUBLICATIONS else topic
        why = (
            expected.unreadable.get(read_by) or found.unreadable.get(read_by) or (gone if read_by == LIBRARIES else "")
        )
        if topic == PUBLICATIONS and unlike:
            why = why or f"{', '.join(unlike)}: another major describes what is published in other words"
        if wrong:
            checks.append(compared(topic, wrong, ""))
        elif why:
            checks.append(Check(topic, COULD_NOT_VERIFY, f"not {'compared' if unlike else 'read'}: {named(why)}"))
        elif not noted:
            checks.append(Check(topic, PASS, f"{count} equal"))
    lacking = [] if TEMPLATE in found.unreadable else [name for name in expected.template if name not in found.template]
    if lacking:
        later = "a database made from now on lacks it, those restored do not"
        lines.append(named(f"in {TEMPLATE} {_some(lacking)} is not there any more: {later}"))
    return Brought(tuple(checks), tuple(lines))


_Differences = Iterator[tuple[bool, str]]  # is it a failure, and what differs


def _settings(expected: Cluster, found: Cluster, restored: Collection[str]) -> _Differences:
    auto, rest = (
        {setting.name.lower(): setting for setting in found.settings if (setting.file == AUTO) is by_system}
        for by_system in (True, False)
    )
    for setting in expected.settings:
        name = setting.name.lower()
        first, then = (auto, rest) if setting.file == AUTO else (rest, auto)
        other = first.get(name) or then.get(name)
        if other and _normal(other) == _normal(setting) and not setting.masked:
            continue
        now = f"the server has {other.value}" if other else "the server has its default"
        if setting.file == AUTO and name in restored:
            yield True, f"{setting.name}: {now}, the backup {setting.value}"
        elif setting.file == AUTO:
            yield False, f"{_unset(setting)} ({now})"
        elif setting.source == COMMAND_LINE:
            yield False, f"{setting.name} = {setting.value} was on the command line, {now}: the Compose file decides"
        else:
            where = setting.file or setting.source
            yield False, f"{setting.name} = {setting.value} of {where}, {now}. To set it: {setting.command}"
    known = {setting.name.lower() for setting in expected.settings}
    for setting in found.settings:
        if setting.name.lower() not in known:
            yield False, f"{setting.name} = {setting.value} was not in the backup ({setting.file or setting.source})"
    had = {setting.name.lower(): setting for setting in found.for_all}
    for setting in expected.for_all:
        other = had.get(setting.name.lower())
        if setting.masked or not other or _normal(other) != _normal(setting):
            by = "ALTER ROLE ALL SET"
            yield setting.name.lower() in restored, _unset(setting, by) if kept_out(setting) else _command(setting, by)


def _rules(expected: Cluster, found: Cluster) -> _Differences:
    for name, before, now in ((HBA, expected.hba, found.hba), (IDENT, expected.ident, found.ident)):
        if before != now:
            yield False, f"{name} has other rules than the backup: {len(now)} here, {len(before)} there"


def _lost(what: str, before: Sequence[Union[Tablespace, Slot]], now: Sequence[Union[Tablespace, Slot]]) -> _Differences:
    for item in before:
        if item not in now:
            yield False, f"the {what} {item.name} is not restored. To make it: {item.command}"


def _origins(expected: Cluster, found: Cluster) -> _Differences:
    """The number of a subscription, and so the name of its origin, is another after a restore."""
    have = {origin.key: origin for origin in found.origins or ()}
    for origin in expected.origins or ():
        now = have.get(origin.key)
        if now is None or now.lsn != origin.lsn:
            yield False, f"the replication origin {origin.shown} is not restored. To set it: {origin.command}"


def _subscriptions(expected: Cluster, found: Cluster) -> _Differences:
    have = {(item.database, item.name): item for item in found.subscriptions}
    for item in expected.subscriptions:
        other = have.get((item.database, item.name))
        if other is None:
            yield False, f"the subscription {item.name} of {item.database} is not there"
        elif replace(other, enabled=item.enabled, options=item.options) != item:
            yield False, f"the subscription {item.name} of {item.database} is defined otherwise than in the backup"
        elif unlike := _unlike_options(item.options, other.options):
            words = ", ".join(f"{name} {now} instead of {before}" for name, (before, now) in sorted(unlike.items()))
            options = ", ".join(f"{name} = {literal(was).strip()}" for name, (was, _now) in sorted(unlike.items()))
            command = f"ALTER SUBSCRIPTION {identifier(item.name)} SET ({options}); in the database {item.database}"
            yield False, f"the subscription {item.name} of {item.database} has other options: {words}. {command}"
        elif item.enabled and not other.enabled:
            command = f"ALTER SUBSCRIPTION {identifier(item.name)} ENABLE; in the database {item.database}"
            yield False, f"the subscription {item.name} is disabled. When its slot is right: {command}"


# The option of each column of pg_subscription, and what a major without the column does: before 16 a subscription was
# applied as its owner. https://www.postgresql.org/docs/current/sql-createsubscription.html
_OPTION_OF: Mapping[str, tuple[str, str]] = {
    "subbinary": ("binary", "false"),
    "substream": ("streaming", "off"),
    "subtwophasestate": ("two_phase", "false"),
    "subdisableonerr": ("disable_on_error", "false"),
    "subpasswordrequired": ("password_required", "true"),
    "subrunasowner": ("run_as_owner", "true"),
    "subfailover": ("failover", "false"),
    "suborigin": ("origin", "any"),
    "subsynccommit": ("synchronous_commit", ""),
}
# Each major's values of two of them. p of the second: it waits to be enabled, which needs the publisher.
_MEANS: Mapping[str, Mapping[str, str]] = {
    "substream": {"false": "off", "true": "on", "f": "off", "t": "on", "p": "parallel"},
    "subtwophasestate": {"d": "false", "p": "true", "e": "true"},
}


def _unlike_options(
    before: Optional[Mapping[str, object]], now: Optional[Mapping[str, object]]
) -> dict[str, tuple[str, str]]:
    """By the option's name what it was and what it is. A column that is not known is of a newer major than this."""
    if before is None or now is None:
        return {}
    unlike = {}
    for column, (option, without) in _OPTION_OF.items():
        was, has = (_value_of(row, column, without) for row in (before, now))
        if was != has and was and has:
            unlike[option] = (was, has)
    return unlike


def _value_of(row: Mapping[str, object], column: str, without: str) -> str:
    if column not in row:
        return without
    value = str(row[column]).lower()
    return _MEANS.get(column, {}).get(value, value)


# As _INSIDE describes a publication: its owner, the columns of its row, and a digest of the tables that it names.
_PUBLICATION = re.compile(r"(?P<owner>.*) (?P<row>\{.*\})(?: (?P<tables>[0-9a-f]{32}))?", re.DOTALL)
_NOT_THERE = (None, "n")  # what a column says that only the newer major has; 18: pubgencols


def _alike(before: str, now: str) -> Optional[bool]:
    """Whether two majors mean the same publication; None where their words do not tell."""
    found = _PUBLICATION.fullmatch(before), _PUBLICATION.fullmatch(now)
    if not (found[0] and found[1]):
        return None
    try:
        was, has = (typed.load(each["row"], wrong_answer) for each in found if each)
    except LifeboatError:
        return None
    same = all(was[name] == value if name in was else value in _NOT_THERE for name, value in has.items())
    if not same or found[0]["owner"] != found[1]["owner"] or not was.keys() <= has.keys():
        return False
    return True if found[0]["tables"] == found[1]["tables"] else None


def _publications(expected: Cluster, found: Cluster, unlike: Optional[list[str]]) -> _Differences:
    """unlike: gets those of which another major's words do not tell whether they differ; None: it is the same major."""
    for name, inside in expected.databases.items():
        have = found.databases.get(name)
        for publication, definition in inside.publications.items() if have else ():
            now = have.publications.get(publication) if have else None
            alike = now == definition
            if now is not None and not alike and unlike is not None:
                told = _alike(definition, now)
                unlike += [f"{publication} of {name}"] if told is None else []
                alike = told is not False
            if not alike:
                yield True, f"{publication} of {name} {'is missing' if now is None else 'differs'}"


def _libraries(expected: Cluster, found: Cluster) -> _Differences:
    for name, inside in expected.databases.items():
        have = found.databases.get(name)
        offered = {extension.name: extension.offered for extension in have.extensions} if have else {}
        for extension in inside.extensions:
            if extension.offered and offered.get(extension.name) is False:
                yield False, f"this server does not have the files of the extension {extension.name} of {name}"


# --- restoring


def restore(server: Server, config: Config, wanted: Cluster, stamp: str, log: Log, *, major: int = 0) -> Brought:
    """Into a server that was made for it, when its databases are back. Never raises for what does not come back.

    major: of the server that the backup was taken of; 0: of this one.
    """
    system = [setting for setting in wanted.settings if setting.file == AUTO and not kept_out(setting)]
    roles = [setting for setting in wanted.for_all if not kept_out(setting)]
    log(f"setting {len(system) + len(roles)} of the server's settings again")
    done = {
        **{f"ALTER SYSTEM SET {_assigned(setting)};": setting for setting in system},
        **{f"ALTER ROLE ALL SET {_assigned(setting)};": setting for setting in roles},
    }
    refused = _run(server, done)
    names = {setting.name.lower() for setting in done.values()} - {done[sql].name.lower() for sql in refused}
    try:
        server.execute("SELECT to_json(pg_reload_conf());", attempted="reload the configuration")
    except LifeboatError as exc:
        refused["SELECT pg_reload_conf();"] = exc.cause
    present = set(server.databases(attempted=_ATTEMPT)) & set(wanted.databases)
    major = major or server.version_num // 10000
    found = take(server, sorted(present), major)
    made = compare(wanted, found, names, same_major=major == server.version_num // 10000)
    lines = [*made.notes, *(named(f"the server refused {sql} {why}") for sql, why in refused.items())]
    later = sorted(setting.name for setting in system if setting.restart and setting.name.lower() in names)
    if later:
        lines.append(f"{', '.join(later)}: set, in effect when {config.database.service} is started again")
    checks = list(made.checks)
    if names and all(check.kind != SETTINGS for check in checks):
        checks.append(Check(SETTINGS, PASS, f"{len(names)} set again as the backup has them"))
    diff, aside = _aside(config, wanted, found, stamp)
    return Brought(tuple(checks), (*lines, *aside), diff)


def _assigned(setting: Setting) -> str:
    return f"{setting_name(setting.name)} = {setting_value(setting.name, setting.value)}"


def _run(server: Server, statements: Iterable[str]) -> dict[str, str]:
    """Each on its own where they do not run as one: ALTER SYSTEM cannot stand in a transaction. Returns the refused."""
    every = list(statements)
    attempted = "set the server's settings again"
    refused: dict[str, str] = {}
    try:
        if every:
            server.execute("\n".join(every), attempted=attempted)
    except LifeboatError:
        for sql in every:
            try:
                server.execute(sql, attempted=attempted)
            except LifeboatError as exc:
                refused[sql] = exc.cause
    return refused


def _aside(config: Config, wanted: Cluster, found: Cluster, stamp: str) -> tuple[str, list[str]]:
    """Write the backup's access rules on this host where they differ: never where a server reads them."""
    diff: list[str] = []
    lines = []
    for name, before, now in ((HBA, wanted.hba, found.hba), (IDENT, wanted.ident, found.ident)):
        if before == now or RULES in wanted.unreadable:
            continue
        file = f"{name}.lifeboat_{stamp}"
        rules = [named(rule) for rule in before]
        keep(config, file, "\n".join(rules))
        differ = list(difflib.unified_diff([named(rule) for rule in now], rules, name, file, lineterm="", n=1))
        keep(config, f"{file}.diff", "\n".join(differ))
        diff += differ
        lines.append(
            f"the backup's rules of {name} are in {config.state / file}, a unified diff in {file}.diff next to it and"
            f" in the record's log; {MASK} stands for secrets"
        )
    return "\n".join(diff), lines
