# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at the stack's database server: does it answer, and is the data of each database there? Reads only."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from ..base.errors import LifeboatError, UsageError, present
from ..base.text import named
from ..recovery.state import DAMAGED, DOWN, HEALTHY
from ..repository import catalog
from ..repository.catalog import Entry
from ..repository.details import DatabaseDetails
from ..repository.manifest import Artefact, Manifest
from ..repository.sources import Sources
from ..settings.config import Config
from ..stack import runtime
from ..stack.runtime import Opened
from . import fingerprint, held, logins
from . import server as database_server
from .fingerprint import FINGERPRINT, LARGEST, Fingerprint, read
from .held import Held
from .server import Living, Server, answers, identifier

# A table that lost every one of at least this many rows is damage; a short queue that ran empty is not.
EMPTIED = 100
READ_SECONDS = 120
PATIENCE = 30
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
    """condition: healthy, damaged (the server answers, the data is wrong) or down (no server). findings: why.

    damaged: the databases that are wrong, as the server names them. databases: all that it has, but those that runs of
    ours made; None where it does not tell. expected: those of which a backup told what should be in them. other: it
    is damaged, and is not the server that was backed up; initialised_again: nor does it hold anything, such as one that
    an image made of a directory that was emptied.
    """

    condition: str
    findings: tuple[str, ...]
    service: str
    unchecked: tuple[str, ...] = ()
    refused: str = ""  # the server lives and does not let us in: this is what it said
    damaged: tuple[str, ...] = ()
    databases: Optional[tuple[str, ...]] = None
    expected: tuple[str, ...] = ()
    initialised_again: bool = False
    other: bool = False


@dataclass(frozen=True)
class Reference:
    """What should be there: a backup, and the fingerprint of each of its databases by its folder in the backup.

    newest: a newer one, where this is the fuller one before it. What it holds besides should be there too, and a
    database that neither it nor the server has was dropped. instead: by their names in it, the databases that are
    spoiled in this one or could not be included, each with the newest backup in which it is good. asked: the one whose
    state was asked for. It says what the database `target` holds (empty: the application's), and which others should
    be there at all: these may have had their own migrations since, of which the newest one tells.
    """

    manifest: Manifest
    fingerprints: Mapping[str, Fingerprint]
    newest: Optional[Reference] = None
    instead: Mapping[str, Reference] = field(default_factory=dict)
    asked: Optional[Reference] = None
    target: str = ""

    def expected(self, application: str, there: Collection[str]) -> Iterator[Expected]:
        """Every database that should be there, the application's first. there: those that the server has."""
        own = held.of(self.manifest, application)
        asked = held.of(self.asked.manifest, application) if self.asked else ()
        newest = held.of(self.newest.manifest, application) if self.newest else ()
        known = held.known(self.newest.manifest, application) if self.newest else None
        by_name = {
            item.live: Expected(item, self, self._besides(item, newest))
            for item in own
            if known is None or item.primary or item.live in {*known, *there}
        }
        for item in newest:
            by_name.setdefault(item.live, Expected(item, present(self.newest)))
        for name, other in self.instead.items():
            items = (item for item in held.of(other.manifest, application) if item.dump.name == name)
            left_out = name in self.manifest.detailed(DatabaseDetails).missing
            by_name.update({item.live: Expected(item, other) for item in items if left_out or item.live in by_name})
        for item in asked:
            target = self.target in (item.live, item.shown) if self.target else item.primary
            if target or item.live not in {*by_name, *there}:
                by_name[item.live] = Expected(item, present(self.asked))
        yield from by_name.values()

    def _besides(self, item: Held, newest: Sequence[Held]) -> tuple[str, ...]:
        """The tables that only the newest one has."""
        own = self.fingerprints.get(item.dump.folder)
        folder = next((other.dump.folder for other in newest if other.live == item.live), None)
        later = self.newest.fingerprints.get(folder) if self.newest and folder is not None else None
        return tuple(name for name in later.tables if name not in own.tables) if own and later else ()


@dataclass(frozen=True)
class Expected:
    """A database that should be there. reference: what tells of it. besides: tables that it should have too."""

    item: Held
    reference: Reference
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    name: str
    unlogged: bool


@dataclass
class _Look:
    """What was seen of the databases so far; the time to read them in is shared."""

    deadline: float
    findings: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    read: bool = False  # a session could be opened


def assess(run: Opened, reference: Optional[Reference]) -> Assessment:
    """Look at the stack's server. `reference`: the newest good backup, of what should be there."""
    stack, service = run.runtime, run.config.database.service
    state = stack.state(service)
    server, why, refused = database_server.reach(run) if state.running else database_server.Reached(None)
    initial = database_server.as_initialised(run) if refused and reference else None
    if initial and reference and _is_other(initial, reference) and holds_nothing(initial):
        server = initial  # the image made it with another password than the one before had
    if server is None:
        said = runtime.last_words(stack.logs(service))
        words = [f"{service} is {state.describe()}" + (f" and does not answer: {why}" if why else "")]
        return Assessment(
            DOWN,
            (*words, *([f"it last said: {said}"] if said else [])),
            state.describe(),
            refused=why if refused else "",
        )
    there = {database.name: database for database in server.living()}
    look, damaged, names = _Look(time.monotonic() + READ_SECONDS), [], list[str]()
    if reference is None:
        look.unchecked.append("no good backup to compare the data with")
        if server.database not in there:
            damaged.append(server.database)
            look = _Look(0, [f"the database {named(server.database)} is missing"])
    else:
        for expected in reference.expected(server.database, there):
            seen, name = len(look.findings), expected.item.live
            names.append(name)
            _look_at(look, run.config, server, expected, there.get(name))
            if len(look.findings) > seen:
                damaged.append(name)
    other = bool(damaged) and reference is not None and _is_other(server, reference)
    initialised_again = other and holds_nothing(server)
    if initialised_again and reference:
        look.findings = [_lost(reference, names)]
    return Assessment(
        DAMAGED if damaged else HEALTHY,
        tuple(look.findings),
        state.describe(),
        tuple(look.unchecked),
        damaged=tuple(damaged),
        databases=tuple(there),
        expected=tuple(names),
        initialised_again=initialised_again,
        other=other,
    )


# From 16384 on, identifiers are those of objects that somebody made. What an extension makes, an image may have made.
# https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT
_MADE_BY_NOBODY = """d WHERE d.classid = '{catalogue}'::regclass AND d.objid = x.oid AND d.deptype IN ('e', 'i')"""
_NOTHING = " AND ".join(
    f"NOT EXISTS (SELECT FROM {catalogue} x WHERE x.oid >= 16384 {which} AND NOT EXISTS (SELECT FROM pg_depend"
    f" {_MADE_BY_NOBODY.format(catalogue=catalogue)}))"
    for catalogue, which in (
        ("pg_class", "AND x.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND x.relnamespace <> 99"),
        ("pg_proc", ""),
        ("pg_type", "AND x.typrelid = 0 AND x.typelem = 0"),
        ("pg_namespace", "AND x.nspname !~ '^pg_'"),
        ("pg_largeobject_metadata", ""),
    )
)


def _is_other(server: Server, reference: Reference) -> bool:
    """Whether the server has another identifier than the one that was backed up: initdb gives each its own."""
    known = reference.fingerprints.get("")
    sql = "SELECT to_json(system_identifier::text) FROM pg_control_system();"
    with contextlib.suppress(LifeboatError):
        now = answers(str, server.execute(sql, attempted="look which server it is"))
        return known is not None and bool(now) and [known.facts.system_identifier] != now
    return False


def holds_nothing(server: Server) -> bool:
    """Whether nobody made anything in any of its databases. One that cannot be read is not empty."""
    with contextlib.suppress(LifeboatError):
        for database in server.living():
            rows = server.execute(
                f"SELECT to_json({_NOTHING});", database=database.name, attempted=f"look into {named(database.name)}"
            )
            if rows != [True]:
                return False
        return True
    return False


def _lost(reference: Reference, names: Collection[str]) -> str:
    """One line for all that is gone: which tables these are tells the backup."""
    tables = sum(len(found.tables) for found in reference.fingerprints.values())
    count = f"{len(names)} database{'s' if len(names) != 1 else ''} with {tables} table{'s' if tables != 1 else ''}"
    return f"the server was initialised again and holds nothing: {count} of {reference.manifest.id} are missing"


def _look_at(look: _Look, config: Config, server: Server, wanted: Expected, living: Optional[Living]) -> None:
    """One database of the backup: is it there, and its data?"""
    item, reference = wanted.item, wanted.reference
    if living is None:
        look.findings.append(f"the database {item.shown} is missing")
        return
    expected = reference.fingerprints.get(item.dump.folder)
    if expected is None:
        look.unchecked.append(f"the database {item.shown}: its fingerprint in {reference.manifest.id} cannot be read")
        return
    if not living.open:
        _shut(look, config, item)
        return
    one = _looked(look, server, item, expected, wanted.besides)
    if one.findings and not item.primary:
        # Did the server die of what was read before, in another database, or have others all of the connections?
        if not _answers(server):
            one = _Look(0, [], [f"the database {item.shown}: the server stopped answering while others were read"])
        else:
            one = _looked(look, server, item, expected, wanted.besides)
            one = _Look(0, [], one.findings) if living.bounded and not one.read else one
    where = f"{item.shown}: " if reference.manifest.detailed(DatabaseDetails).additional else ""
    look.findings += [words if words.startswith("the database ") else where + words for words in one.findings]
    look.unchecked += [words if words.startswith("the database ") else where + words for words in one.unchecked]


def _looked(look: _Look, server: Server, item: Held, expected: Fingerprint, besides: Sequence[str]) -> _Look:
    one = _Look(look.deadline)
    try:
        _look_at_data(one, server, item, expected, besides)
    except LifeboatError as exc:  # its directory is gone, its catalogue is damaged, or the server died of the question
        if _no_damage(exc):
            return _Look(0, [], [f"the database {item.shown} was not read: {exc.cause}"])
        return _Look(0, [f"the database {item.shown} cannot be read: {exc.cause}"], read=one.read)
    return one


def _answers(server: Server) -> bool:
    """A server that crashed is back within seconds, most often."""
    end = time.monotonic() + PATIENCE
    while server.problem() is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _no_damage(exc: LifeboatError) -> bool:
    return exc.sqlstate in _NO_DAMAGE or exc.sqlstate[:2] in _NO_DAMAGE_CLASSES


def _shut(look: _Look, config: Config, item: Held) -> None:
    """Of a database that takes no logins, which most often is a recovery's doing."""
    ours = logins.closed(config)
    if ours and item.live in ours.names:
        look.unchecked.append(
            f"the database {item.shown} is closed to logins since a recovery that did not end;"
            " this is what that one found"
        )
        if ours.damaged:
            look.findings += ours.findings or (f"the database {item.shown} was damaged",)
    elif item.primary:
        remedy = f"ALTER DATABASE {named(identifier(item.live))} ALLOW_CONNECTIONS true;"
        look.findings.append(f"the database {item.shown} takes no logins; if that is all that is wrong: {remedy}")
    else:
        look.unchecked.append(f"the database {item.shown} does not accept our connections")


def refusal(config: Config, said: str) -> UsageError:
    """A server that lives and does not let us in may hold all its data: what is wrong is most likely our access."""
    return UsageError(
        "look at the database",
        f"{config.database.service} of {config.stack}",
        said,
        "Correct lifeboat_database (user) or lifeboat_secrets (database_password), then lifeboat.dr.deploy. Only if its"
        " data is lost, and with it the role: -e method=rebuild, which puts what is there aside.",
    )


def _look_at_data(look: _Look, server: Server, item: Held, reference: Fingerprint, besides: Sequence[str]) -> None:
    """Read every table that should be there, so that a damaged page is met now; bounded in time."""
    database = item.live
    names = fingerprint.names_of(reference.scheme)
    if item.primary:  # roles are the server's
        sql = f"{names}SELECT to_json(rolname) FROM pg_roles;"
        roles = set(answers(str, server.execute(sql, database=database, attempted="list the roles")))
        look.findings += [f"the role {named(name)} is missing" for name in reference.roles if name not in roles]
    rows = server.execute(
        f"{names}SELECT jsonb_build_object('name', format('%I.%I', n.nspname, c.relname),"
        " 'unlogged', c.relpersistence = 'u')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r';",
        database=database,
        attempted="list the tables",
    )
    look.read = True
    there = {table.name: table.unlogged for table in answers(_Table, rows)}
    look.findings += [
        f"the table {named(name)} is missing" for name in (*reference.tables, *besides) if name not in there
    ]
    _read_tables(look, server, item, reference, there)


def _read_tables(look: _Look, server: Server, item: Held, reference: Fingerprint, there: Mapping[str, bool]) -> None:
    """there: the tables that the database has, and which are unlogged."""
    names = fingerprint.names_of(reference.scheme)
    remaining = [name for name in reference.tables if name in there]
    while remaining:
        # An error ends the session: note it, open another for the tables that are left.
        name = ""
        try:
            with server.session(item.live) as session:
                while remaining:
                    name = remaining.pop(0)
                    left = int(1000 * (look.deadline - time.monotonic()))
                    if left <= 0:
                        look.unchecked.append(f"{named(name)} was not read: {READ_SECONDS} s were up")
                        continue
                    count = session.rows(
                        f"{names}SET statement_timeout = {left}; {_PAGES}SELECT to_json(count(*)) FROM ONLY {name};",
                        attempted=f"read {named(name)}",
                    )
                    expected = reference.tables[name].rows
                    # A crash empties unlogged tables, as it must: restoring would lose rows to bring those back.
                    if count == [0] and expected >= EMPTIED and not there[name]:
                        look.findings.append(f"the table {named(name)} is empty, the backup has {expected} rows")
        except LifeboatError as exc:
            if not name and _no_damage(exc):
                look.unchecked.append(f"the database {item.shown} was not read: {exc.cause}")
                return
            if not name:  # not even the session opened
                look.findings.append(f"the database {item.shown} cannot be read: {exc.cause}")
                return
            if exc.sqlstate == QUERY_CANCELED:
                look.unchecked.append(f"{named(name)} was not read to its end in {READ_SECONDS} s")
            elif _no_damage(exc):
                look.unchecked.append(f"{named(name)} was not read: {exc.cause}")
            else:
                look.findings.append(f"the table {named(name)} cannot be read: {exc.cause}")


def reference_of(sources: Sources, asked: Optional[Entry] = None, target: str = "") -> Optional[Reference]:
    """What should be there: the newest good backup, or the fuller one before it, with its fingerprints.

    Their bytes are checked first: a damaged one would make a healthy database look damaged, or a damaged one healthy.
    asked: the backup whose state was named, of the database `target`, empty: of the application's.
    """
    fitting = [entry for entry in reversed(sources.entries) if entry.serves and entry.manifest]
    chosen = reference(sources, asked) if asked and asked.manifest else None
    for entry in fitting:
        if catalog.shrunk(sources.entries, entry.id, gone=False)[0]:
            continue
        base = reference(sources, entry)
        if "" in base.fingerprints:
            newest = reference(sources, fitting[0]) if entry is not fitting[0] else None
            instead = _instead(sources, fitting, entry)
            return replace(base, newest=newest, instead=instead, asked=chosen, target=target)
    return chosen if chosen and "" in chosen.fingerprints else None


def _instead(sources: Sources, fitting: Sequence[Entry], entry: Entry) -> dict[str, Reference]:
    """Of each database that is spoiled in the backup or could not be included, the newest one that has it whole."""
    found: dict[str, Reference] = {}
    for name in (*entry.spoiled, *present(entry.manifest).detailed(DatabaseDetails).missing):
        for other in fitting:
            if name not in other.spoiled and any(item.dump.name == name for item in held.of(present(other.manifest))):
                found[name] = reference(sources, other)
                break
    return found


def reference(sources: Sources, entry: Entry) -> Reference:
    """What that backup says of each of its databases, as far as its fingerprints can be read."""
    manifest = present(entry.manifest)
    prints: dict[str, Fingerprint] = {}
    for item in held.of(manifest):
        with contextlib.suppress(LifeboatError):  # of a newer Lifeboat; restoring it would say so
            fingerprint_of = _fingerprint(sources, entry, item.dump.folder)
            prints.update({item.dump.folder: fingerprint_of} if fingerprint_of else {})
    return Reference(manifest, prints)


def _fingerprint(sources: Sources, entry: Entry, folder: str) -> Optional[Fingerprint]:
    name = f"{folder}/{FINGERPRINT}" if folder else FINGERPRINT
    with sources.repo(entry).open("database", entry.id, name) as file:
        data = file.read(LARGEST + 1)  # what is longer is not whole
    whole = Artefact(name, len(data), hashlib.sha256(data).hexdigest()) in present(entry.manifest).artefacts
    return read(data, entry.id) if whole else None
