# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talk to a PostgreSQL server through its own tools, wherever they run: in its container, or on this host.

psql is driven over stdin and answers in JSON, one line per row, so that no name, however hostile, is ever parsed.

Names are bytes. Those of roles and databases belong to no encoding: each is stored as the session that made it sent
it, and a database of another encoding reads the same bytes. So nothing is converted on the way: client_encoding is
SQL_ASCII, by which PostgreSQL means "as it is stored", and here the bytes are UTF-8 with surrogateescape: what is not
UTF-8 comes back as the bytes that it was. In JSON files such a byte is an escape (`\\udce9`), for people `\\xe9`.
https://www.postgresql.org/docs/current/multibyte.html
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import re
import secrets
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Callable, NamedTuple, Optional, Protocol, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..base import pipeline, typed
from ..base.errors import LifeboatError, NotFoundError, UnverifiedError, UsageError, present, printable
from ..base.filesystem import explained
from ..base.pipeline import Command
from ..recovery.state import RECOVERING, unfinished
from ..settings.config import Config
from ..stack.runtime import ComposeRuntime, Opened, Runtime, exec_command

T = TypeVar("T")
_MADE = "made"  # in the stack's state directory: an empty file for each: = and its name, percent-encoded
_MADE_LIKE = re.compile(r".+_(quarantine|restore)_\d{8}_\d{6}", re.DOTALL | re.ASCII)
_REMEMBER = "remember which databases Lifeboat made"
# Values and expressions must print the same on every server we compare: pin whatever changes their text.
# https://www.postgresql.org/docs/current/runtime-config-client.html
PINNED = {
    "client_min_messages": "warning",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "",
    "row_security": "off",  # an error rather than rows silently left out
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "quote_all_identifiers": "off",
}

# The owner of a table may put a view in its place after we saw a table there, and a function of his would run as the
# superuser that reads it. What is read in a session is tables and the catalogue. Minor releases before August 2024 do
# not know the setting. https://www.postgresql.org/support/security/CVE-2024-7348/
_NO_VIEWS = (
    "SELECT pg_catalog.count(pg_catalog.set_config(name, 'view, foreign-table', false)) AS lifeboat_restricted"
    " FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind' \\gset\n"
)
# What ALTER DATABASE or ALTER ROLE may have set and would stop vacuumdb, pg_amcheck or pg_restore half-way.
_UNHINDERED = " ".join(
    f"-c {name}={PINNED[name]}"
    for name in (
        "default_transaction_read_only",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    )
)
# verbose: errors come with their SQLSTATE, which pipeline.failed() takes out of the words again.
_STRICT = ("-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
_FOREIGN = "Look whether the psql there is PostgreSQL's own."
AS_STORED = "SQL_ASCII"  # a client_encoding: nothing is converted, in either direction
AS_TEXT = "SET client_encoding = 'UTF8';\n"
ANSWER = 256 << 20  # bytes of what one statement answers, as pipeline.output() takes them
ROW = 64 << 20  # bytes of one row where they are read one by one
BAD_CONNECTION = 2  # psql's status where it got no session
OBJECT_IN_USE = "55006"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
_CENTRE = "template1"
_ANY_BYTES = "lifeboat_any_bytes"
# Settings whose stored value is a list, already quoted item by item: pg_dump's variable_is_guc_list_quote().
# https://github.com/postgres/postgres/blob/REL_17_STABLE/src/bin/pg_dump/dumputils.c
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}
_SIZED = 10  # seconds to tell how large a directory is
SCRATCH = "/var/tmp"  # noqa: S108 - in the file system of the tools; every name below it is made unique


def identifier(name: str) -> str:
    """Quote a name for SQL. Always quoted: no list of keywords to keep."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a string for SQL, whatever standard_conforming_strings says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted


def encoded(text: str) -> bytes:
    """The bytes that PostgreSQL stores or prints for it."""
    return text.encode("utf-8", "surrogateescape")


def parsed(data: bytes, wrong: typed.Wrong) -> tuple[object, str]:
    """JSON of ours about a server, and its text: each of its characters stands for bytes."""
    body = typed.load(data, wrong)
    text = json.dumps(body, ensure_ascii=False)
    try:
        encoded(text)
    except UnicodeEncodeError as exc:
        raise wrong("", "it has half a character, which stands for no byte") from exc
    return body, text


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    return encoded(text) == text.encode("utf-8", "replace")


def setting_value(name: str, value: str) -> str:
    """A setting's value, as the catalogue or a configuration file has it, for `SET name TO`: lists item by item."""
    if name.lower() not in _LISTS:
        return literal(value)
    items = re.findall(r'"((?:[^"]|"")*)"|([^,\s][^,]*)', value)
    return ", ".join(literal(quoted.replace('""', '"') or bare.strip()) for quoted, bare in items) or "''"


def setting_name(name: str) -> str:
    return ".".join(identifier(part) for part in name.split("."))


def conninfo(**parts: str) -> str:
    """A libpq connection string. A bare name with `=` or `://` in it would be taken for one, so always write one.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
    """
    escaped = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in parts.items()}
    return " ".join(f"{key}='{value}'" for key, value in escaped.items())


def fit_name(name: str, suffix: str) -> str:
    """`name` + `suffix` within PostgreSQL's 63 bytes, cut at a character, never inside one."""
    room = 63 - len(encoded(suffix))
    while len(encoded(name)) > room:
        name = name[:-1]
    return name + suffix


def as_words(argv: Sequence[str]) -> list[str]:
    """The same words so that a byte which is not UTF-8 arrives: Docker replaces it on its way into a container.

    Such a word is written in octal, and the shell there, which need not know anything else, makes its bytes again.
    """
    if all(map(is_utf8, argv)):
        return list(argv)
    octal = ("".join(f"\\0{byte:03o}" for byte in encoded(word)) for word in argv)
    # The x keeps line breaks at a word's end, which $() drops.
    words = " ".join(f"\"$(printf %b '{word}x')\"" for word in octal)
    return ["sh", "-c", f'for word in {words}; do set -- "$@" "${{word%x}}"; done; exec "$@"']


class Executor(Protocol):
    """Makes the command that runs `argv` where the server's tools are."""

    def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bool) -> Command: ...


def alike(name: str) -> bool:
    """Is that a name as runs of ours give them?"""
    return _MADE_LIKE.fullmatch(name) is not None


class Made:
    """The databases that Lifeboat made.

    A name alone tells nothing: somebody may call a database of his own `shop_restore_20260101_120000`. So each name is
    recorded before a database gets it. Where the record is lost, such a database is only backed up like any other.

    folder: where the names are recorded; None keeps them for this process alone.
    """

    def __init__(self, folder: Optional[Path] = None) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def names(self) -> Set[str]:
        if self._folder is None:
            return frozenset(self._names)
        with explained(_REMEMBER, self._folder):
            files = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        return {unquote_to_bytes(file[1:]).decode("utf-8", "surrogateescape") for file in files}

    def add(self, name: str) -> None:
        """Before the database has that name."""
        self._names.add(name)
        if self._folder:
            with explained(_REMEMBER, self._folder):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path(self._folder, name).touch(mode=0o600)

    def forget(self, name: str) -> None:
        """When the database is gone, or has another name."""
        self._names.discard(name)
        if self._folder:
            with explained(_REMEMBER, self._folder):
                self._path(self._folder, name).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"={quote_from_bytes(name.encode('utf-8', 'surrogateescape'), safe='')}"


@dataclass(frozen=True)
class Account:
    user: str
    password: str = field(repr=False)


class Server:
    """One PostgreSQL server, reached with one user.

    initial: what an image was told to make, None where it is not known. configured: the server as the configuration
    reaches it, where it does not let that account in yet, as it is a fresh one whose roles are not restored.
    """

    def __init__(
        self,
        execute: Executor,
        *,
        user: str,
        database: str = "postgres",
        password: str = "",
        host: str = "",
        port: int = 5432,
        application: str = "lifeboat",
        timeout: float = 3600,
        mount: str = "",
    ) -> None:
        self._execute = execute
        self.made = Made()
        self.mount = mount  # where a backup's artefacts already lie for the tools, if they do
        self.user = user
        self.database = database  # the one that the configuration is about
        self.timeout = timeout
        self.host = host  # empty: over the socket
        self.application = application
        self.image = ""  # of its container, where it runs in one
        self.initial: Callable[[], Optional[Account]] = lambda: None
        self.configured: Optional[Server] = None
        self._kept: Optional[contextlib.ExitStack] = None
        self._open: Optional[Session] = None
        self._goes = False
        self._env = {
            "PGUSER": user,
            "PGAPPNAME": application,
            "PGCONNECT_TIMEOUT": "10",
            "PGCLIENTENCODING": AS_STORED,
            "LC_ALL": "C",  # the tools' words in English: pipeline.without_rows() knows rows by them
            "PGOPTIONS": _UNHINDERED,
        }
        if password:
            self._env["PGPASSWORD"] = password
        if host:
            self._env["PGHOST"] = host
        if host or port != 5432:
            self._env["PGPORT"] = str(port)

    def as_user(self, user: str, password: str, host: str = "") -> Server:
        """The same server as another role reaches it, whose sessions have no options of a superuser's. host: instead of
        the way that this one goes."""
        other = copy.copy(self)
        other.user, other._kept, other._open = user, None, None
        other._env = {**self._env, "PGUSER": user, "PGPASSWORD": password, **({"PGHOST": host} if host else {})}
        other.__dict__["silent"] = ""
        return other

    def log_in_as_configured(self) -> None:
        """From the next session on."""
        if self.configured:
            self.user, self._env, self.configured = self.configured.user, self.configured._env, None

    def run_command(self, argv: Sequence[str], *, stdin: bool = False) -> Command:
        """Any command where the tools are: mktemp, tar, rm."""
        return self._execute(as_words(argv), env={}, stdin=stdin)

    def tool(
        self, name: str, *args: str, database: str = "", stdin: bool = False, options: str = "",
        wrapper: Sequence[str] = (),
    ) -> Command:  # fmt: skip
        """One of PostgreSQL's tools, connected by environment and connection string. options: of its sessions.
        wrapper: the words of a program that runs it."""
        argv = [*wrapper, name, *args]
        if database:
            argv += ["--dbname", conninfo(dbname=database)]
        return self._execute(as_words(argv), env=self._with(options), stdin=stdin)

    def _with(self, options: str) -> Mapping[str, str]:
        return {**self._env, "PGOPTIONS": f"{_UNHINDERED} {options}"} if options else self._env

    def _psql(self, database: str) -> Command:
        argv = ["psql", "-XAtqw", *_STRICT, "-d", conninfo(dbname=database)]
        return self._execute(as_words(argv), env=self._env, stdin=True)

    def execute(
        self, sql: str, *, database: str = "template1", attempted: str, timeout: Optional[float] = None
    ) -> list[object]:
        """Run SQL; every row must be one JSON value in one column. Returns them: answers() gives them a type."""
        if self._kept is not None and (database == _CENTRE or self._goes):
            return self._asked(self._kept, sql, attempted, database)
        text = pipeline.output(
            self._psql(database),
            attempted=attempted,
            subject=f"database {database}",
            source=io.BytesIO(encoded(_pins() + sql + "\n")),
            timeout=timeout or self.timeout,
            errors="surrogateescape",
        )
        return _parsed(text.split("\n"), attempted, f"database {database}")  # only this one: names may hold U+2028

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Within it template1 is asked in one session: to start psql takes longer than most answers."""
        with contextlib.ExitStack() as kept:
            self._kept = kept
            try:
                yield
            finally:
                self._open, self._kept = None, None

    def beside(self) -> Server:
        """The same server for another thread: each question in a process of its own."""
        other = copy.copy(self)
        other._kept, other._open, other._goes = None, None, False
        return other

    @contextlib.contextmanager
    def apart(self, timeout: float) -> Iterator[Server]:
        """The same server for a thread beside others, with one session of its own, of at most so many seconds, that
        goes from one database to another; itself where it is kept open."""
        if self._kept is not None:
            yield self
            return
        other = copy.copy(self)
        other.timeout, other._goes = min(timeout, self.timeout), True
        with other.kept_open():
            yield other

    def _asked(self, kept: contextlib.ExitStack, sql: str, attempted: str, database: str) -> list[object]:
        """In the session, as it was when it was opened. An error ends a session: the next question opens another."""
        session = self._open or kept.enter_context(self.session(database))
        self._open = None
        if self._goes:
            try:
                session.go(database)
            except LifeboatError:  # psql connects before it leaves, and a limit may allow no connection more
                session = kept.enter_context(self.session(database))
        rows = session.rows(f"RESET ALL;\n{_pins()}{sql}", attempted=attempted)
        self._open = session
        return rows

    def stream(self, sql: str, take: Callable[[object], object], *, database: str, attempted: str) -> None:
        """Like execute(), and hand every row to `take` as it comes: neither psql nor we ever hold them all.

        For the application's own data: it is text, converted from the database's encoding.
        """
        # https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-VARIABLES-FETCH-COUNT: for SELECT only
        source = io.BytesIO(encoded(f"{_pins()}{AS_TEXT}\\set FETCH_COUNT 5000\n{sql}\n"))
        pipeline.run(
            [self._psql(database)],
            attempted=attempted,
            subject=f"database {database}",
            source=source,
            sink=_Rows(take, attempted, f"database {database}"),
            timeout=self.timeout,
        )

    def psql_script(self, database: str, options: str = "") -> Command:
        """psql that runs its stdin in one transaction, stopping at the first error. options: of its session."""
        argv = ["psql", "-Xqw", "--single-transaction", *_STRICT, "-d", conninfo(dbname=database)]
        return self._execute(as_words([*argv, "-f", "-"]), env=self._with(options), stdin=True)

    def script(self, sql: bytes, *, database: str, attempted: str, remedy: str = "") -> None:
        """Run a whole SQL script in one transaction; any error undoes all of it."""
        pipeline.run(
            [self.psql_script(database)],
            attempted=attempted,
            subject=f"database {database}",
            source=io.BytesIO(sql),
            timeout=self.timeout,
            remedy=remedy,
        )

    def session(self, database: str, *, timeout: Optional[float] = None) -> Session:
        """A connection that stays open: one transaction over several statements."""
        return Session(self._psql(database), database, timeout or self.timeout)

    def databases(self, *, attempted: str = "list the databases") -> list[str]:
        sql = "SELECT to_json(datname) FROM pg_catalog.pg_database WHERE datallowconn ORDER BY datname;"
        return answers(str, self.execute(sql, attempted=attempted, timeout=60))

    def living(self) -> list[Living]:
        """Every database but PostgreSQL's own templates and those that a run of ours made."""
        rows, made = self.execute(_LIVING, attempted="list the databases", timeout=60), self.made.names()
        return [database for database in answers(Living, rows) if database.name not in made]

    def problem(self, database: str = "template1") -> Optional[LifeboatError]:
        """Why the server does not accept a query; None where it does."""
        try:
            self.execute("SELECT 1;", database=database, attempted="reach PostgreSQL", timeout=30)
        except LifeboatError as exc:
            return exc
        return None

    def major(self) -> int:
        """The major version of the server's own tools: known even when the server does not run."""
        text = ""
        for tool in ("postgres", "pg_dump"):  # Debian keeps the former off the path
            with contextlib.suppress(LifeboatError):
                text = text or pipeline.output(
                    self.run_command([tool, "--version"]), attempted="read its version", subject=tool, timeout=60
                )
        found = re.search(r"(\d+)(\.|beta|rc|devel)", text)
        if not found:
            raise UnverifiedError("read the server's version", "postgres --version", f"it said {text!r}")
        return int(found.group(1))

    @functools.cached_property
    def version_num(self) -> int:
        """The running server's version as PostgreSQL counts it: 170012 is 17.12."""
        sql = "SELECT to_json(pg_catalog.current_setting('server_version_num')::int);"
        for number in answers(int, self.execute(sql, attempted="read the server's version", timeout=60)):
            return number
        raise wrong_answer("server_version_num", "there is none")

    @functools.cached_property
    def silent(self) -> str:
        """Options of a session in which no event trigger fires, where there are such: from PostgreSQL 17 on.

        pg_restore refreshes materialised views when it has made event triggers, and what one of them then records is
        no content of the backup. https://www.postgresql.org/docs/current/runtime-config-client.html
        """
        sql = (
            "SELECT to_json(rolsuper AND pg_catalog.current_setting('event_triggers', true) IS NOT NULL)"
            " FROM pg_catalog.pg_roles WHERE rolname = current_user;"
        )
        rows = self.execute(sql, attempted="look how event triggers can be kept silent", timeout=60)
        return "-c event_triggers=off" if rows == [True] else ""

    def reap(self, session: Optional[Session] = None) -> int:
        """End sessions that an earlier run of ours left behind. Only for the holder of the stack's lock."""
        sql = (
            "SELECT to_json(count(pg_catalog.pg_terminate_backend(pid))) FROM pg_catalog.pg_stat_activity"
            f" WHERE application_name = {literal(self.application)} AND pid <> pg_catalog.pg_backend_pid();"
        )
        attempted = "end left-over sessions"
        if session is not None:
            return answers(int, session.rows(sql, attempted=attempted))[0]
        return answers(int, self.execute(sql, attempted=attempted, timeout=60))[0]

    @contextlib.contextmanager
    def database_for(self, sql: str) -> Iterator[str]:
        """A database in which SQL about roles and databases can run, whatever bytes their names are.

        That is template1, unless its encoding refuses them: then one that has no encoding is made, and dropped again.
        """
        if sql.isascii() or self._takes(sql):
            yield "template1"
            return
        for left in sorted(name for name in self.made.names() if name.startswith(_ANY_BYTES)):
            with contextlib.suppress(LifeboatError):  # of a run that was killed, or of one that still needs it
                drop(self, left)
        name = f"{_ANY_BYTES}_{secrets.token_hex(4)}"
        self.made.add(name)
        make = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';"
        self.execute(make, attempted="make a database that takes every name")
        try:
            yield name
        finally:
            drop(self, name)

    def alter(self, sql: str, *, attempted: str) -> list[object]:
        """execute() of SQL about databases, in one whose encoding takes their names."""
        with self.database_for(sql) as database:
            return self.execute(sql, database=database, attempted=attempted)

    def _takes(self, sql: str) -> bool:
        asked = "SELECT to_json(pg_catalog.current_setting('server_encoding'));"
        (encoding,) = answers(str, self.execute(asked, attempted="read the encoding of template1", timeout=60))
        return encoding == AS_STORED or (encoding == "UTF8" and is_utf8(sql))

    @contextlib.contextmanager
    def scratch_directory(self) -> Iterator[str]:
        """A private directory where the tools run, removed afterwards; those of killed runs are swept first."""
        self.sweep()
        path = pipeline.output(
            self.run_command(["mktemp", "-d", f"{SCRATCH}/{self.application}.XXXXXXXX"]),
            attempted="make a scratch directory",
            subject=f"{SCRATCH} where PostgreSQL's tools run",
            timeout=60,
        ).strip()
        try:
            yield path
        finally:
            self.remove(path)

    @property
    def scratch_names(self) -> str:
        """How scratch directories are called, as a pattern of find."""
        return f"{self.application}.????????"

    def scratch_path(self) -> str:
        """The like, for a tool that makes its directory itself: a name nobody has. Sweep before, remove afterwards."""
        return f"{SCRATCH}/{self.application}.{secrets.token_hex(4)}"

    def free_bytes(self, path: str = SCRATCH) -> Optional[int]:
        """Return how much can be written below a path where the tools run; None where they do not tell."""
        status, out, _err = pipeline.probe(self.run_command(["df", "-Pk", path]))
        columns = out.splitlines()[-1].split() if status == 0 and out.strip() else []
        told = columns[3] if len(columns) > 5 else ""
        return int(told) * 1024 if told.isascii() and told.isdigit() else None

    def is_full(self, path: str) -> bool:
        """Is that a directory, where the tools run, into which nothing more can be written? They tell it in words."""
        if pipeline.probe(self.run_command(["test", "-d", path]))[0] != 0:
            return False
        words = ["dd", "if=/dev/zero", f"of={path}/{self.application}", "bs=65536", "count=16"]
        return pipeline.probe(self.run_command(words))[0] == 1

    def size(self, path: str) -> int:
        """Bytes of a directory where the tools run, in whole kilobytes; 0 where they cannot be told."""
        code, out, _stderr = pipeline.probe(self.run_command(["du", "-sk", path]), timeout=_SIZED)
        figure = out.split(maxsplit=1)[:1]
        return int(figure[0]) << 10 if code == 0 and figure and figure[0].isdecimal() else 0

    def remove(self, path: str) -> None:
        """Remove a scratch directory. What cannot be removed now is swept by the next run."""
        self._tidy(["rm", "-rf", "--", path])

    def sweep(self) -> None:
        """Remove the scratch directories of killed runs. Only for the holder of the stack's lock."""
        found = ["find", SCRATCH, "-maxdepth", "1", "-type", "d", "-name", self.scratch_names]
        self._tidy([*found, "-exec", "rm", "-rf", "{}", "+"])

    def _tidy(self, argv: Sequence[str]) -> None:
        with contextlib.suppress(LifeboatError):
            pipeline.run([self.run_command(argv)], attempted="remove scratch directories", subject=SCRATCH, timeout=300)


@dataclass(frozen=True)
class Living:
    """A database of the server. open: it accepts our connections, if it is whole. bounded: only so many at a time."""

    name: str
    open: bool
    bounded: bool


# Not by datistemplate: somebody may have made a template of his own, and filled it.
NO_TEMPLATE = "datname NOT IN ('template0', 'template1')"
# A limit of -2 marks a database whose removal was interrupted: nothing can connect to it any more.
_LIVING = f"""SELECT jsonb_build_object('name', datname,
  'open', (datallowconn OR datconnlimit = -2) AND has_database_privilege(oid, 'CONNECT'),
  'bounded', datconnlimit >= 0 AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
FROM pg_database WHERE {NO_TEMPLATE} ORDER BY datname;"""


class _Rows:
    """A sink that reads one JSON value a line."""

    def __init__(self, take: Callable[[object], object], attempted: str, subject: str) -> None:
        self._take = take
        self._attempted, self._subject = attempted, subject
        self._rest = b""

    def write(self, data: bytes, /) -> int:
        whole, _newline, self._rest = (self._rest + data).rpartition(b"\n")
        if len(self._rest) > ROW:
            raise _too_long("a row of PostgreSQL's answer", ROW, self._attempted, self._subject)
        try:
            lines = whole.decode().split("\n")
        except UnicodeDecodeError as exc:
            cause = f"PostgreSQL's answer is not UTF-8: {exc.reason}"
            raise LifeboatError(self._attempted, self._subject, cause, _FOREIGN) from exc
        for row in _parsed(lines, self._attempted, self._subject):
            self._take(row)
        return len(data)


def _too_long(what: str, most: int, attempted: str, subject: str) -> LifeboatError:
    return LifeboatError(attempted, subject, f"{what} has more than {most >> 20} MiB", _FOREIGN)


def _parsed(lines: Iterable[str], attempted: str, subject: str) -> list[object]:
    """The rows that psql printed, one JSON value a line. Parsed as one list: to parse each line takes twice as long."""
    try:
        rows: list[object] = json.loads(f"[{','.join(filter(None, lines))}]")
    except (ValueError, RecursionError) as exc:
        cause = f"PostgreSQL's answer is not JSON that can be read: {str(exc) or type(exc).__name__}"
        raise LifeboatError(attempted, subject, cause, _FOREIGN) from exc
    return rows


def answers(kind: type[T], rows: Iterable[object]) -> list[T]:
    """The rows of an answer, each of that type."""
    return [typed.build(kind, row, wrong_answer) for row in rows]


def wrong_answer(field: str, cause: str) -> LifeboatError:
    return LifeboatError("read PostgreSQL's answer", field or "a row", cause, _FOREIGN)


class Session:
    """An open psql. Bounded in time, and each answer in bytes; an error in it names the server's own words."""

    def __init__(self, command: Command, database: str, timeout: float) -> None:
        self._errors = pipeline.Tail()
        self._database, self._subject = database, f"database {database}"
        try:
            self._process = subprocess.Popen(
                list(command.argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors.fileno(),
                env=command.environment(),
            )
        except OSError as exc:
            self._errors.close()
            raise LifeboatError("start psql", self._subject, str(exc)) from exc
        self._errors.started()
        self._timeout = timeout
        self._timer = self._timed()

    def _timed(self) -> threading.Timer:
        timer = threading.Timer(self._timeout, self._process.kill)
        timer.daemon = True
        timer.start()
        return timer

    def __enter__(self) -> Session:
        try:
            self._settle()
        except BaseException as exc:
            self.__exit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    def _settle(self) -> None:
        self.rows(_pins() + _NO_VIEWS, attempted="open a session")

    def again(self, database: str) -> None:
        """Reuse the session in another database, with its whole time limit."""
        self._timer.cancel()
        self._timer = self._timed()
        self.go(database)
        self._settle()

    def go(self, database: str) -> None:
        """Leave the database for another, of the same server and with the same account."""
        if database == self._database:
            return
        self._database, self._subject = database, f"database {database}"
        # In octal psql takes every byte as it is, but for double quotes, which \\connect takes off as an identifier's.
        octal = "".join(f"\\{byte:03o}" for byte in encoded(identifier(conninfo(dbname=database))))
        self.rows(f"\\connect -reuse-previous=on '{octal}'", attempted="connect to the database")

    def rows(self, sql: str, *, attempted: str) -> list[object]:
        """Run SQL whose every row is one JSON value; return them: answers() gives them a type."""
        return next(self.each([(sql, attempted)]))

    def each(self, asked: Iterable[tuple[str, str]]) -> Iterator[list[object]]:
        """rows() of each statement and what it is for. psql has the next one before we read what this one answers."""
        waiting: list[tuple[str, str]] = []
        for sql, attempted in asked:
            waiting.append((self._ask(sql), attempted))
            if len(waiting) > 1:
                yield self._answer(*waiting.pop(0))
        for end, attempted in waiting:
            yield self._answer(end, attempted)

    def _ask(self, sql: str) -> str:
        """Returns the line by which the answer ends."""
        stdin, end = present(self._process.stdin), f"--{secrets.token_hex(8)}--"
        with contextlib.suppress(BrokenPipeError):
            stdin.write(encoded(f"{sql}\n\\echo {end}\n"))
            stdin.flush()
        return end

    def _answer(self, end: str, attempted: str) -> list[object]:
        lines, left, stdout = list[str](), ANSWER, present(self._process.stdout)
        while raw := stdout.readline(left + 1):
            left -= len(raw)
            if left < 0:
                self._process.kill()  # it may have more, and would wait for a reader of it
                raise _too_long("PostgreSQL's answer", ANSWER, attempted, self._subject)
            line = decoded(raw).rstrip("\n")
            if line == end:
                return _parsed(lines, attempted, self._subject)
            lines.append(line)
        ended = pipeline.Finished(Command(["psql"]), self._process.wait(), self._errors.text())
        raise pipeline.failed(attempted, self._subject, pipeline.with_output(ended, "\n".join(lines).encode()))

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, if it has not ended."""
        self._timer.cancel()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()  # end of input ends psql, and with it the transaction
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def _pins() -> str:
    return "".join(f"SET {name} = {literal(value)};\n" for name, value in PINNED.items())


def require_database(server: Server, name: str) -> int:
    """The database's size in bytes. Raises NotFoundError naming those there are."""
    sql = f"SELECT to_json(pg_database_size(oid)) FROM pg_database WHERE datname = {literal(name)};"
    if rows := server.execute(sql, attempted="find the database", timeout=300):
        return answers(int, rows)[0]
    raise NotFoundError(
        "find the database",
        name,
        f"the server has {', '.join(map(printable, server.databases()))}",
        "Correct lifeboat_database.name.",
    )


def drop(server: Server, name: str, *, force: bool = False) -> None:
    """Drop a half-made database, or by force one that sessions use. No script(): that is one transaction."""
    sql = f"DROP DATABASE {identifier(name)} WITH (FORCE);" if force else f"DROP DATABASE IF EXISTS {identifier(name)};"
    try:
        server.alter(sql, attempted=f"drop {name}")
    except LifeboatError as exc:
        if exc.sqlstate != OBJECT_IN_USE or not _without_subscriptions(server, name):
            raise
        server.alter(sql, attempted=f"drop {name}")
    server.made.forget(name)


def _without_subscriptions(server: Server, name: str) -> bool:
    """Drop a database's subscriptions, which keep it from being dropped. Were there any?

    Their slots at the publishers are left: the database in whose place this one stood may use the same.
    """
    attempted = f"drop the subscriptions of {name}"
    sql = (
        "SELECT to_json(s.subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        f" WHERE d.datname = {literal(name)};"
    )
    found = [identifier(subscription) for subscription in answers(str, server.alter(sql, attempted=attempted))]
    for each in found:  # no transaction: one that has a slot cannot be dropped in it
        words = (f"ALTER SUBSCRIPTION {each} DISABLE;", f"ALTER SUBSCRIPTION {each} SET (slot_name = NONE);")
        server.execute("\n".join([*words, f"DROP SUBSCRIPTION {each};"]), database=name, attempted=attempted)
    return bool(found)


class Reached(NamedTuple):
    """A server that answers, or why it does not. refused: it lives and does not let us in, so its data may be whole."""

    server: Optional[Server]
    why: str = ""
    refused: bool = False


def reach(run: Opened) -> Reached:
    """The stack's server, if it answers a query now, else why it does not.

    One that dies and is started again by the engine runs at one look and is gone at the next: that is no error here.
    """
    try:
        server = of(run)
    except LifeboatError as exc:
        return Reached(None, exc.cause)
    problem = server.problem()
    if problem is None:
        return Reached(server)
    return Reached(None, problem.cause, _refused(server, problem, run.runtime.data_path(run.config.database.service)))


def _refused(server: Server, problem: LifeboatError, data: str) -> bool:
    """Does the server take connections, have its catalogue, and end ours? Decided on statuses: before a session begins
    psql tells no SQLSTATE, and its words are in the server's language.

    pg_isready ends with 0 where the server answers, even with an error, with 1 while it starts, 2 where it is silent.
    https://www.postgresql.org/docs/current/app-pg-isready.html
    """
    if problem.exit_status != BAD_CONNECTION:
        return False
    if pipeline.probe(server.tool("pg_isready", database="template1"))[0] != 0:
        return False
    if pipeline.probe(server.run_command(["test", "-s", f"{data}/global/pg_filenode.map"]))[0] == 1:
        return False  # no session can begin without it: the data was removed below a server that runs
    other = server.problem(server.database)  # template1's own directory may be what is gone
    return other is not None and other.exit_status == BAD_CONNECTION


def refuse_without(config: Config, attempted: str) -> None:
    """Raise UsageError where the stack has no database."""
    if not config.database.enabled:
        raise UsageError(
            attempted, config.stack, "the stack has no database: lifeboat_database is false",
            "If it has one, describe it in lifeboat_database and run lifeboat.dr.deploy.",
        )  # fmt: skip


def of(run: Opened) -> Server:
    """The stack's server, in the container that it has now; NotFoundError where it does not run."""
    return connect(run.config, run.runtime)


def for_backups(run: Opened) -> Server:
    """The like, as the account that takes backups, where the configuration names one of its own."""
    return connect(run.config, run.runtime, backup=True)


def as_initialised(run: Opened) -> Optional[Server]:
    """The server as the image made it, where it does not let the configured account in and lets that one in."""
    server = _as_initialised(of(run))
    return server if server and server.problem() is None else None


def _as_initialised(server: Server) -> Optional[Server]:
    account = server.initial()
    if account is None:
        return None
    found = copy.copy(server)
    found._env = {**server._env, "PGUSER": account.user, "PGPASSWORD": account.password}
    found.user, found.configured = account.user, server
    return found if found._env != server._env else None


def connect(config: Config, runtime: Runtime, *, backup: bool = False) -> Server:
    """Resolves the container once, so a handle does not outlive it.

    A fresh server knows neither the roles nor the passwords of the one before: until a recovery has restored them it
    is reached with what its image was told, if it refuses the configured account.
    """
    refuse_without(config, "reach the database")
    server = _connect(config, runtime, backup=backup)
    mark = unfinished(config, RECOVERING) if not backup else None
    if mark and mark.begun and mark.empty:
        problem = server.problem()
        other = _as_initialised(server) if problem and problem.exit_status == BAD_CONNECTION else None
        return other if other and other.problem() is None else server
    return server


def _connect(config: Config, runtime: Runtime, *, backup: bool) -> Server:
    settings = config.database
    user, database = settings.user, settings.name
    initial: Callable[[], Optional[Account]] = lambda: None  # noqa: E731
    image = ""
    if isinstance(runtime, ComposeRuntime):
        # What the image was told: https://hub.docker.com/_/postgres, "Environment Variables".
        found = runtime.state(settings.service)
        if not found.running:
            runtime.command(settings.service, [])  # raises, and says what the container does instead
        environment, image = found.environment or {}, found.image
        user = user or environment.get("POSTGRES_USER", "")
        database = database or environment.get("POSTGRES_DB", "")
        execute: Executor = functools.partial(exec_command, found.id, user=settings.os_user)
        initial = functools.partial(_initial, environment, execute)
    else:
        execute = functools.partial(runtime.command, settings.service)
    own = backup and bool(settings.backup_user)
    server = Server(
        execute,
        user=settings.backup_user if own else user or "postgres",
        database=database or user or "postgres",
        password=config.secrets.get("database_backup_password" if own else "database_password", ""),
        host=settings.host,
        port=settings.port,
        application=f"lifeboat-{config.stack}",
        timeout=config.timeout,
    )
    server.made = Made(config.state / _MADE)
    server.initial, server.image = initial, image
    return server


def _initial(environment: Mapping[str, str], execute: Optional[Executor]) -> Optional[Account]:
    """What an image makes a new server with. execute: reads the file that has the password, where one has it."""
    password, file = (environment.get(f"POSTGRES_PASSWORD{suffix}", "") for suffix in ("", "_FILE"))
    if not password and file:
        if execute is None:
            return None
        try:
            command = execute(["cat", "--", file], env={}, stdin=False)
            password = pipeline.output(command, attempted="read the password", subject=file, timeout=60).rstrip("\n")
        except LifeboatError:
            return None
    return Account(environment.get("POSTGRES_USER") or "postgres", password) if password else None


def initial_account(run: Opened) -> Optional[Account]:
    """What the image of the stack's server was told to make, as far as that is known of a server that may be down."""
    environment = run.runtime.state(run.config.database.service).environment
    return _initial(environment or {}, None)
