# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a backup back into a running server: beside what is there, proved, then swapped in by name."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional, cast

from ....base import pipeline, progress
from ....base.checks import COULD_NOT_VERIFY, Check, compared
from ....base.errors import IntegrityError, LifeboatError, Log, unable
from ....base.pipeline import Command, Finished
from ....base.text import named
from ....repository.details import DumpDetails
from ....repository.manifest import Manifest
from ....tools import age
from ... import fingerprint, passwords
from ...fingerprint import DUMP, GLOBALS, Facts, Fingerprint
from ...logins import allows
from ...server import (
    BAD_CONNECTION,
    Account,
    Server,
    answers,
    decoded,
    drop,
    encoded,
    fit_name,
    identifier,
    literal,
    require_database,
    setting_name,
    setting_value,
)
from . import cause, forms, owners

_DUMP = "restore the dump"


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class Dumped:
    """The dump of one database. directory: its own folder, its artefacts already checked."""

    manifest: Manifest
    directory: Path

    def lines(self, server: Server) -> Iterator[str]:
        """Its statements, line by line; those of its schema alone, where the format tells them apart."""
        if self.manifest.detailed(DumpDetails).format == "plain":
            with open_plain(self.manifest, self.directory) as source:
                yield from map(decoded, source)
            return
        yield from self._schema(server).splitlines(keepends=True)

    def _schema(self, server: Server) -> str:
        with _dump_where_the_tools_are(server, self.manifest, self.directory) as path:
            return pipeline.output(
                server.tool("pg_restore", "--schema-only", "--file=-", path),
                attempted="read the dump's definitions", subject=self.manifest.id, timeout=server.timeout,
                errors="surrogateescape",
            )  # fmt: skip


@contextlib.contextmanager
def _dump_where_the_tools_are(server: Server, manifest: Manifest, directory: Path) -> Iterator[str]:
    """The dump's path as the server's tools see it; copied there unless the backup is mounted already."""
    if server.mount:
        yield "/".join(filter(None, (server.mount, folder_of(manifest, directory), DUMP)))
        return
    with server.scratch_directory() as inside:
        pipeline.run(
            [
                Command(["tar", "-C", str(directory), "-cf", "-", DUMP]),
                server.run_command(["tar", "--no-same-owner", "-xf", "-", "-C", inside], stdin=True),
            ],
            attempted="bring the dump to the server",
            subject=str(directory),
            timeout=server.timeout,
            remedy="It needs as much free space where the server runs as the backup has.",
        )
        yield f"{inside}/{DUMP}"


def roles(
    server: Server, directory: Path, facts: Fingerprint, *, fresh: bool, account: Optional[Account] = None,
    recorded: bool = True,
) -> list[str]:  # fmt: skip
    """Restore roles, memberships and role settings from the globals. Returns the names of the roles it made.

    fresh: the server was made for this, so every role becomes what it was. Else only missing roles are made: a
    password changed since the backup is the one that the application now uses. account: Lifeboat's own, as it is
    configured, whose password (empty: none) goes on to work. None: our own role keeps the password that it has.
    recorded: the backup has passwords.
    """
    names = fingerprint.names_of(facts.scheme)
    sql = f"{names}SELECT jsonb_build_object('name', rolname) FROM pg_roles;"
    rows = server.execute(sql, attempted="list the roles")
    have = {role.name for role in answers(_Named, rows)}
    missing = [name for name in facts.roles if name not in have]
    if not fresh and not missing:
        return []
    found = statements(decoded(fingerprint.globals_of(directory)))
    if not names:  # as they were stored, so they are stored again
        found = [statement for statement in found if not statement.startswith("SET client_encoding ")]
    if fresh and account:
        stored = passwords.of_globals(found)
        other = bool(account.password) and not passwords.matches(
            stored.get(account.user), account.user, account.password
        )
        script = keep_globals(found, have, missing, account.user if other else "", fresh=True)
        if other and account.user in stored:
            script += _password_sql(account.user, passwords.verifier_of(account.password))
        if recorded:
            without = [role for role, verifier in stored.items() if verifier is None and role in have]
            script += "".join(_password_sql(role, None) for role in without if not other or role != account.user)
        with _not_locked_out(server):
            _run_globals(server, script)
    else:
        _run_globals(server, keep_globals(found, have, missing, server.user, fresh=fresh))
    return list(map(named, missing))


def _run_globals(server: Server, script: str) -> None:
    with server.database_for(script) as database_name:
        server.script(
            encoded(script),
            database=database_name,
            attempted="restore roles and other globals",
            remedy="No role was changed. The statements are in the backup's globals.sql.gz.",
        )


def _password_sql(role: str, verifier: Optional[str]) -> str:
    return f"ALTER ROLE {identifier(role)} PASSWORD {literal(verifier).strip() if verifier else 'NULL'};\n"


@contextlib.contextmanager
def _not_locked_out(server: Server) -> Iterator[None]:
    """Where our own role gets a password with which we do not get in, it gets back the one that it had."""
    role, attempted = server.user, "keep our way into the server"
    with server.session("template1") as session:
        sql = f"SELECT to_json(coalesce(rolpassword, '')) FROM pg_authid WHERE rolname = {literal(role)};"
        before = list[str]()
        with contextlib.suppress(LifeboatError):  # an account that may not read it
            before = answers(str, session.rows(sql, attempted=attempted))
        yield
        if server.configured and server.configured.problem() is None:
            server.log_in_as_configured()
        elif (problem := server.problem()) and problem.exit_status == BAD_CONNECTION and before:
            session.rows(_password_sql(role, before[0]), attempted=attempted)


@dataclass(frozen=True)
class _Role:
    name: str
    password: Optional[str]


def role_passwords(
    server: Server, directory: Path, facts: Fingerprint, account: Account, *, recorded: bool
) -> tuple[list[Check], list[str]]:
    """Whether each role of a fresh server has the password of the backup; and a note of each that has another.

    recorded: the backup has them.
    """
    names = fingerprint.names_of(facts.scheme)
    stored = passwords.of_globals(statements(decoded(fingerprint.globals_of(directory))))
    if not recorded:
        return [], [f"no role has the password that it had: the backup has none ({', '.join(map(named, stored))})"]
    sql = f"{names}SELECT jsonb_build_object('name', rolname, 'password', rolpassword) FROM pg_authid;"
    try:
        rows = answers(_Role, server.execute(sql, attempted="read the roles' passwords"))
    except LifeboatError as exc:
        return [Check(PASSWORDS, COULD_NOT_VERIFY, f"not read: {exc.cause}")], []
    found = {role.name: role.password for role in rows}
    other = [name for name, verifier in stored.items() if found.get(name) != verifier]
    notes, wrong = list[str](), list[str]()
    if server.configured:
        notes.append(
            f"Lifeboat logged in as {named(server.user)}: {named(account.user)}, as configured, is not let in now"
        )
    for name in other:
        if name == account.user and account.password and passwords.matches(found.get(name), name, account.password):
            notes.append(keeps_password(name))
        else:
            wrong.append(f"the role {named(name)} has another password than the backup")
    initial = server.initial()
    if initial and initial.user not in other and other_than_initial(stored, initial):
        notes.append(not_the_initial(initial))
    return [compared(PASSWORDS, wrong, f"{len(stored) - len(other)} as the backup has them")], notes


PASSWORDS = "role passwords"


def keeps_password(role: str) -> str:
    """What is said of a role whose password in the backup is not the one that the recovery was given."""
    return f"the role {named(role)} keeps the password of lifeboat_secrets.database_password: the backup has another"


def other_than_initial(stored: Mapping[str, Optional[str]], initial: Account) -> bool:
    """Whether the backup has another password of that role than the one that the image was told."""
    return initial.user in stored and passwords.matches(stored[initial.user], initial.user, initial.password) is False


def not_the_initial(initial: Account) -> str:
    return (
        f"the role {named(initial.user)} has the password of the backup, which is not POSTGRES_PASSWORD of the"
        " database's service: a login with that one is refused"
    )


_STATEMENT = re.compile(r"""\s*(--[^\n]*|\\[^\n]*|(?:[^;'"]|'[^']*'|"[^"]*")+;)""")


def statements(script: str) -> list[str]:
    """The statements of a globals script, whole: a name, a comment or a setting may hold line breaks and semicolons.

    Cutting at the lines instead would run what stands on a line of its own within somebody's text, as a superuser.
    """
    return [found for found in _STATEMENT.findall(script) if not found.startswith("--")]


def keep_globals(found: Sequence[str], have: set[str], missing: Sequence[str], superuser: str, *, fresh: bool) -> str:
    """The statements of `pg_dumpall --globals-only` that apply here.

    Dropped always: CREATE ROLE of a role that is there; tablespaces (their directories are another host's); the
    password of the role `superuser`, which keeps the one that it has (empty: none does).
    """

    def names(candidates: Sequence[str]) -> str:
        return "|".join(re.escape(form) for name in candidates for form in (name, identifier(name))) or "(?!)"

    tablespace = re.compile(
        r"(CREATE|ALTER|COMMENT ON) TABLESPACE |(GRANT|REVOKE)( GRANT OPTION FOR)? (ALL|CREATE) ON TABLESPACE "
    )
    create_existing = re.compile(rf"CREATE ROLE ({names(sorted(have))});")
    alter_self = re.compile(rf"ALTER ROLE ({names([superuser] if superuser else [])}) WITH ")
    of_missing = re.compile(
        rf"(CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ({names(missing)})[ ;]|GRANT ({names(missing)}) TO "
        rf"|GRANT .* TO ({names(missing)})( WITH .*| GRANTED BY .*)?;",
        re.DOTALL,
    )
    kept = []
    for text in found:
        own = alter_self.match(text)  # the rest of it, a limit or an expiry, is restored
        statement = own.group() + re.sub(r" PASSWORD '(?:[^']|'')*'", "", text[own.end() :]) if own else text
        if statement.startswith("\\connect") or tablespace.match(statement) or create_existing.fullmatch(statement):
            continue
        if fresh or of_missing.match(statement) or statement.startswith(("SET ", "\\restrict", "\\unrestrict")):
            kept.append(statement)
    return "\n".join(kept) + "\n"


def database(
    server: Server, manifest: Manifest, directory: Path, facts: Fingerprint, name: str, *, jobs: int, log: Log,
    trust_owners: bool = False,
) -> None:  # fmt: skip
    """Create the database `name` as the backup's was, and restore the dump into it.

    trust_owners: all of it as the superuser (owners.py); a plain dump always is.

    `directory` is the database's own folder, its artefacts already checked. Stops at the first error; a half-made
    database is left for the caller to drop. Always into an empty database: restoring into a used one doubles every
    table without a key.
    """
    _create(server, facts, name)
    log(f"restoring {manifest.id} into {named(name)}")
    with progress.going(_gauge(server, manifest, directory, name)):
        _restore(server, manifest, directory, facts, name, jobs, log, trust_owners)
    properties = fingerprint.names_of(facts.scheme) + _properties_sql(facts.facts, name)
    server.alter(properties, attempted=f"restore the settings of {name}")


def _gauge(server: Server, manifest: Manifest, directory: Path, name: str) -> progress.Gauge:
    """Return how far a restore is, by the size that the database has by now and had when it was backed up."""
    folder, other = folder_of(manifest, directory), server.beside()
    databases = manifest.detailed(DumpDetails).databases
    size = next((each.size for each in databases if each.folder == folder), None)
    what = f"{manifest.id} into {named(name)}"
    return progress.Gauge(what, size, about=True, meter=lambda: require_database(other, name), pace=5.0)


def _restore(
    server: Server, manifest: Manifest, directory: Path, facts: Fingerprint, name: str, jobs: int, log: Log,
    trust_owners: bool,
) -> None:  # fmt: skip
    if manifest.detailed(DumpDetails).format == "plain":
        _plain(server, manifest, directory, name, facts)
    else:
        with _dump_where_the_tools_are(server, manifest, directory) as path:
            try:
                _archive(server, manifest, path, name, jobs, facts, trust_owners)
            except LifeboatError as exc:
                # One job attaches a partition's index while another locks its table: a single one meets nobody.
                if jobs == 1 or not _deadlocked(server, name):
                    _require_readable(server, manifest, path, exc)
                    raise
                log(f"{jobs} jobs of pg_restore stood in one another's way: once more with one")
                known = name in server.made.names()
                drop(server, name)
                if known:
                    server.made.add(name)
                _create(server, facts, name)
                _archive(server, manifest, path, name, 1, facts, trust_owners)


def creating(name: str) -> str:
    """What was attempted where an empty database could not even be made."""
    return f"create the database {name}"


def _create(server: Server, facts: Fingerprint, name: str) -> None:
    """An empty database: without what template0 has and the backup has not, for no dump says that something is gone."""
    # 14 knows no provider but the C library's, and no word for it.
    known = facts.facts.locale.datlocprovider is not None or server.version_num >= 150000
    locale = facts.facts.locale
    clear = locale.datlocprovider == "i" and not locale.daticurules and _has_rules_by_default(server, name)
    server.alter(_create_sql(facts.facts, name, provider=known, clear_rules=clear), attempted=creating(name))
    gone = [
        *([] if "schema public" in facts.schema else ["DROP SCHEMA IF EXISTS public;"]),
        *([] if "plpgsql" in facts.facts.extensions else ["DROP EXTENSION IF EXISTS plpgsql;"]),
    ]
    if gone:
        server.execute("\n".join(gone), database=name, attempted=f"empty the database {name}")


def _has_rules_by_default(server: Server, name: str) -> bool:
    """Whether a database made of template0 gets rules of ICU that nobody named: those of initdb --icu-rules."""
    if server.version_num < 160000:
        return False
    sql = "SELECT to_json(coalesce(daticurules, '') <> '') FROM pg_database WHERE datname = 'template0';"
    return answers(bool, server.execute(sql, attempted=creating(name))) == [True]


def _deadlocked(server: Server, name: str) -> bool:
    """Did sessions of a new database ever block one another? pg_restore shows no SQLSTATE, the server counts them."""
    where = f"FROM pg_stat_activity WHERE datname = {literal(name)};"
    sql = (  # a session reports what it counted when it ends
        f"SELECT to_json(count(pg_terminate_backend(pid, 10000))) {where}\n"
        f"SELECT to_json(deadlocks) FROM pg_stat_database WHERE datname = {literal(name)};"
    )
    try:
        return any(server.alter(sql, attempted="look for deadlocks")[1:])
    except LifeboatError:
        return False  # the error that brought us here is the one to show


def _require_readable(server: Server, manifest: Manifest, path: str, exc: LifeboatError) -> None:
    """Raises IntegrityError where a restore failed, with `exc`, because pg_restore cannot read the dump. Its bytes
    are those that were recorded, so no other server could restore it either."""
    if exc.exit_status is None or unable(exc.exit_status):
        return
    status, _out, err = pipeline.probe(server.tool("pg_restore", "--file=/dev/null", path), timeout=server.timeout)
    said = [line for line in err.splitlines() if line.startswith("pg_restore: ")]  # Docker's failures end with 1 too
    if status and said and not unable(status) and not cause.of_the_reader(err):
        raise IntegrityError(
            "read the dump", manifest.id, f"pg_restore cannot read it: {said[-1]}", "Choose another (`lifeboat list`)."
        ) from exc  # fmt: skip


def _archive(
    server: Server, manifest: Manifest, path: str, name: str, jobs: int, facts: Fingerprint, trust_owners: bool
) -> None:
    def restore(by: Server, entries: owners.Entries, attempted: str, remedy: str = "") -> None:
        if entries or not in_turn:
            _entries(by, manifest, path, name, jobs, facts, entries, attempted, remedy)

    in_turn = None if trust_owners else _in_turn(server, manifest, path)
    if in_turn is None:
        restore(server, (), _DUMP)
        return
    restore(server, in_turn.before, _DUMP)
    with owners.session(server, name) as role:
        restore(role, in_turn.rows, owners.ATTEMPTED, owners.REMEDY)
        restore(server, in_turn.rest, _DUMP)
        if in_turn.checks:
            with owners.as_owners(server, role, name):
                restore(role, in_turn.checks, owners.ATTEMPTED, owners.REMEDY)
    restore(server, in_turn.after, _DUMP)


def _in_turn(server: Server, manifest: Manifest, path: str) -> Optional[owners.Order]:
    """The archive's entries by who restores them; None where everything is the superuser's."""
    roles = owners.roles_of(server)
    if all(superuser for _name, superuser in roles):
        return None
    whole, before, data = (
        pipeline.output(
            server.tool("pg_restore", "--list", *section, path),
            attempted="read the dump's list", subject=manifest.id, timeout=server.timeout, errors="surrogateescape",
        )
        for section in ((), ("--section=pre-data",), ("--section=data",))
    )  # fmt: skip
    found = owners.order(whole, before, data, roles)
    return found if found.rows or found.checks else None


def _entries(
    server: Server, manifest: Manifest, path: str, name: str, jobs: int, facts: Fingerprint, entries: owners.Entries,
    attempted: str, remedy: str,
) -> None:  # fmt: skip
    """Restore these entries of the archive; all where there are none."""
    words = [f"--jobs={jobs}", "--exit-on-error", "--no-tablespaces", "--no-password"]
    source = io.BytesIO("".join(f"{entry};\n" for entry in entries).encode()) if entries else None
    words += ["--use-list=/dev/stdin"] if entries else []
    subject = f"{manifest.id} into {name}"
    command = server.tool("pg_restore", *words, path, database=name, options=server.silent, stdin=bool(entries))
    done = _run(server, command, source, attempted, subject)
    if done.status:
        failed = pipeline.failed(attempted, subject, done, remedy)
        raise cause.explained(failed, done.stderr, facts.schema)


def _run(server: Server, command: Command, source: Optional[IO[bytes]], attempted: str, subject: str) -> Finished:
    (done,) = pipeline.run(
        [command], attempted=attempted, subject=subject, source=source, timeout=server.timeout, ok=lambda _: True
    )
    return done


def folder_of(manifest: Manifest, directory: Path) -> str:
    """Which of the backup's folders `directory` is; empty for its own, where the application's database lies."""
    others, own = manifest.detailed(DumpDetails).additional, "/".join(directory.parts[-2:])
    return next((dump.folder for dump in others if dump.folder == own), "")


def open_plain(manifest: Manifest, directory: Path) -> IO[bytes]:
    """The text of a plain dump that lies in `directory`, the database's own folder."""
    path = directory / plain_name(manifest, folder_of(manifest, directory)).rpartition("/")[2]
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def plain_name(manifest: Manifest, folder: str = "") -> str:
    """The artefact that is the plain dump of the database in that folder, as it is called where it is not encrypted."""
    inside = (
        item.name[: -len(age.SUFFIX)] if item.name.endswith(age.SUFFIX) else item.name
        for item in manifest.artefacts
        if item.name.rpartition("/")[0] == folder
    )
    return next(name for name in inside if name.endswith((".sql", ".sql.gz")) and name != GLOBALS)


def _plain(server: Server, manifest: Manifest, directory: Path, name: str, facts: Fingerprint) -> None:
    """psql accepts a dump cut in mid-table with exit 0; the caller's checksums and fingerprint are what notice."""
    attempted, subject = "restore the plain dump", f"{manifest.id} into {name}"
    with open_plain(manifest, directory) as source:
        done = _run(server, server.psql_script(name, server.silent), source, attempted, subject)
    if done.status:
        with open_plain(manifest, directory) as script:
            raise cause.explained(pipeline.failed(attempted, subject, done), done.stderr, facts.schema, script)


def _create_sql(facts: Facts, name: str, *, provider: bool = True, clear_rules: bool = False) -> str:
    """https://www.postgresql.org/docs/current/sql-createdatabase.html: what is not said is that of template0, which the
    server was initialised with. provider: the server knows locale providers. clear_rules: its template0 has rules of
    ICU and the backup's database has none: for pg_dump not the same as empty ones, which are said only then."""
    locale = facts.locale
    words = [
        f"CREATE DATABASE {identifier(name)} TEMPLATE template0 ENCODING {literal(facts.encoding)}",
        f"LC_COLLATE {literal(locale.datcollate)} LC_CTYPE {literal(locale.datctype)}",
    ]
    named_by = {"i": "ICU", "b": "BUILTIN"}.get(locale.datlocprovider or "c")
    if named_by:
        words.append(f"LOCALE_PROVIDER {named_by.lower()} {named_by}_LOCALE {literal(locale.of_provider or '')}")
        if named_by == "ICU" and (locale.daticurules or clear_rules):
            words.append(f"ICU_RULES {literal(locale.daticurules or '')}")
    elif provider:
        words.append("LOCALE_PROVIDER libc")
    return " ".join(words) + ";"


def _properties_sql(facts: Facts, name: str) -> str:
    """What pg_dump writes with --create only and is lost without: owner, limits, comment, settings, privileges."""
    target, limit = identifier(name), facts.locale.datconnlimit
    lines = [f"ALTER DATABASE {target} OWNER TO {identifier(facts.owner)};"]
    if limit not in (None, -1):
        lines.append(f"ALTER DATABASE {target} CONNECTION LIMIT {limit};")
    if facts.comment:
        lines.append(f"COMMENT ON DATABASE {target} IS {literal(facts.comment)};")
    for item in facts.settings:
        key, _sep, value = item.setting.partition("=")
        whom = f"ROLE {identifier(item.role)} IN DATABASE {target}" if item.role else f"DATABASE {target}"
        lines.append(f"ALTER {whom} SET {setting_name(key)} TO {setting_value(key, value)};")
    if not facts.acl_is_default:  # else there is nothing to say, and saying it would be a difference
        lines.append(f"REVOKE ALL ON DATABASE {target} FROM PUBLIC;")
        lines.append(f"REVOKE ALL ON DATABASE {target} FROM {identifier(facts.owner)};")
        for granted in facts.acl or ():
            grantee = identifier(granted.grantee) if granted.grantee else "PUBLIC"
            option = " WITH GRANT OPTION" if granted.grantable else ""
            lines.append(f"GRANT {granted.privilege} ON DATABASE {target} TO {grantee}{option};")
    return "BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;"


def compare(
    server: Server, name: str, expected: Fingerprint, *, fresh: bool, application: bool = True,
    dumped: Optional[Dumped] = None,
) -> list[Check]:  # fmt: skip
    """Take the restored database's fingerprint at the backup's level and compare it with the backup's.

    fresh, application: see fingerprint.compare(), where fresh is `exact`. dumped: the dump that it was restored from.
    """
    with server.session(name) as session:
        session.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", attempted="compare the restored database")
        found = fingerprint.take(session, expected.level, expected.scheme, expected.facts.major)
    if dumped and expected.facts.major == found.facts.major:
        with contextlib.suppress(LifeboatError):  # then what differs stays a difference
            expected = forms.accepted(server, name, expected, found, dumped.lines(server))
    return fingerprint.compare(expected, found, roles="exact" if fresh else "present", application=application)


def analyze(server: Server, name: str, jobs: int) -> None:
    """A restored database has no statistics: without them the first queries after reopening crawl."""
    pipeline.run(
        [server.tool("vacuumdb", "--analyze-only", f"--jobs={jobs}", "--quiet", "--no-password", database=name)],
        attempted="analyse the restored database",
        subject=name,
        timeout=server.timeout,
    )


def refresh_collations(server: Server, log: Log) -> list[str]:
    """Where the image's C library moved, indexes on text may be out of order: reindex, then note the new version.

    A library without versions, such as Alpine's, cannot be noted. The data is back by now: what cannot be mended is
    told, and ends no recovery. Returns the databases it mended. https://www.postgresql.org/docs/current/sql-altercollation.html
    """
    if server.version_num < 150000:
        return []
    rows = server.execute(
        "SELECT jsonb_build_object('name', datname) FROM pg_database WHERE datallowconn"
        " AND datcollversion <> pg_database_collation_actual_version(oid);",
        attempted="compare collation versions",
    )
    mended, ours = [], server.made.names()
    for name in [database.name for database in answers(_Named, rows) if database.name not in ours]:
        try:
            server.execute(f"REINDEX DATABASE {identifier(name)};", database=name, attempted=f"reindex {name}")
            server.execute(
                f"ALTER DATABASE {identifier(name)} REFRESH COLLATION VERSION;",
                database=name,
                attempted=f"note the collation version of {name}",
            )
            mended.append(named(name))
        except LifeboatError as exc:
            log(f"the collations of {named(name)} moved, and its indexes could not be rebuilt: {named(exc.cause)}")
    return mended


def swap(server: Server, live: str, restored: str, stamp: str) -> str:
    """Put the restored database in the live one's place; return the name under which the old one is kept, or "".

    Both renames are one transaction: there is never a moment with neither, nor with both.
    """
    open_before = allows(server, live)
    kept = "" if open_before is None else _free_name(server, live, stamp)
    if kept:
        server.made.add(kept)
        # No new connections, end the old ones, rename. Without the first a quick client is back before the rename.
        server.alter(
            f"ALTER DATABASE {identifier(live)} ALLOW_CONNECTIONS false;\n"
            "SELECT to_json(count(pg_terminate_backend(pid, 10000))) FROM pg_stat_activity"
            f" WHERE datname = {literal(live)};",
            attempted=f"close {live}",
        )
    renames = [f"ALTER DATABASE {identifier(restored)} RENAME TO {identifier(live)};"]
    if kept:
        renames.insert(0, f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(kept)};")
        # A template could not be dropped when nobody needs it any more.
        renames.insert(1, f"ALTER DATABASE {identifier(kept)} ALLOW_CONNECTIONS true IS_TEMPLATE false;")
    try:
        server.alter("BEGIN;\n" + "\n".join(renames) + "\nCOMMIT;", attempted="swap in the database")
    except BaseException:
        if open_before:  # one that was closed is for who closed it to open
            with contextlib.suppress(LifeboatError):
                server.alter(f"ALTER DATABASE {identifier(live)} ALLOW_CONNECTIONS true;", attempted=f"reopen {live}")
        raise
    return kept


def untouched(server: Server, name: str) -> bool:
    """Has nobody stored anything in it? A client may have been quicker than we with a fresh server's database."""
    sql = (
        "SELECT to_json(NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm')"
        " AND pg_catalog.pg_relation_size(oid) > 0) AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata));"
    )
    return answers(bool, server.execute(sql, database=name, attempted=f"look into {name}")) == [True]


def _free_name(server: Server, live: str, stamp: str) -> str:
    """Names that are as long as they may be can begin alike, and are cut where they differ."""
    for number in itertools.count(1):
        name = fit_name(live, f"{f'_{number}' if number > 1 else ''}_quarantine_{stamp}")
        if not exists(server, name):
            return name
    raise AssertionError("a count ended")


def exists(server: Server, name: str) -> bool:
    """Also one that a killed swap left closed to connections."""
    sql = f"SELECT to_json(datname) FROM pg_database WHERE datname = {literal(name)};"
    return bool(server.alter(sql, attempted="look for the database"))
