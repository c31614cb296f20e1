# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove a backup of the database server, each of its databases.

archive: pg_restore reads every byte to nowhere, or gunzip to the dump's last line.
restore: a throw-away PostgreSQL restores it; the fingerprint must match; amcheck reads every table and index.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from ....base import pipeline
from ....base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check, PartCheck, compared, ended
from ....base.errors import LifeboatError, Log, UnverifiedError, of_machine, unable
from ....base.pipeline import Command
from ....base.text import named, of_other
from ....repository.details import DatabaseDump, DumpDetails
from ....repository.manifest import Manifest
from ....settings.config import Config
from ....stack.runtime import exec_command
from ... import cluster, scratch
from ...fingerprint import DUMP, EXTENSIONS, Fingerprint, facts_of, globals_of
from ...server import Server, answers, conninfo, decoded, drop, literal
from . import cause, owners
from . import restore as database_restore

# What Python says of a file whose content is not what it should be; any other OSError is the machine's.
_NOT_WRITTEN_SO = (gzip.BadGzipFile, EOFError, ValueError, zlib.error)
# A feature or a file that is not there, also one of a dictionary. The throw-away server's data is new: all are of its
# programs. https://www.postgresql.org/docs/current/errcodes-appendix.html
_NOT_OFFERED = ("0A000", "58P01", "F0000")
_REFUSED_BY_CHECK = "23514"  # also a row that is not of its partition
_NO_RIGHT = "42501"  # insufficient_privilege
_UNKNOWN_TO_IT = "42"  # the class of names and arguments that nothing fits
_VERIFIED = "lifeboat_verify"
_NAME_ONE = "name one that has it in lifeboat_database.verify_image"
ROLES = "roles"  # the check of what is the server's, made once
END_OF_DUMP = b"-- PostgreSQL database dump complete"


def levels(
    config: Config, manifest: Manifest, folder: Path, level: str, log: Log, spoiled: Collection[str] = ()
) -> Iterator[Check]:
    """The checks of archive, and of restore where that is asked for; the checksums were compared before. spoiled: the
    databases of which they differ. A database that does not pass keeps no other from the next level."""
    image = config.database.verify_image or manifest.detailed(DumpDetails).image
    if not image:
        raise UnverifiedError(
            "verify a backup", manifest.id, "no image is known to verify with", "Set lifeboat_database.verify_image."
        )
    with contextlib.ExitStack() as stack:
        scratch.sweep(config.stack)  # no other verification of this stack runs: lock.verifying()
        dumps = [dump for dump in manifest.detailed(DumpDetails).databases if dump.name not in spoiled]
        limit = config.timeout * len(dumps)
        name = stack.enter_context(scratch.container(image, config.stack, folder, timeout=limit))
        log(f"{manifest.id}: reading the archives back")
        for check in _server(manifest, folder):
            yield check
            if check.result != PASS:
                return  # no database can be restored without
        whole = []
        for dump in dumps:
            check = _archive(config, manifest, folder, dump, name)
            yield _of(dump, check)
            whole += [dump] if check.result == PASS else []
        if whole and level == "restore":
            yield from _restored(config, manifest, folder, whole, name, log)


def _of(dump: DatabaseDump, check: Check) -> PartCheck:
    """The check of one database, by the name of the other than the application's."""
    told = of_other(check, dump.name) if dump.folder else check
    return PartCheck(**vars(told), part=dump.name)


def _server(manifest: Manifest, folder: Path) -> Iterator[Check]:
    """The roles, what surrounds the databases, and the fingerprint of the application's, which has both."""
    own = manifest.detailed(DumpDetails).primary.name
    try:
        facts, script = facts_of(folder), globals_of(folder)
        cluster.of(folder)
    except (*_NOT_WRITTEN_SO, LifeboatError) as exc:
        yield _unread(exc)
        return
    yield from _taken_of(facts, own)
    yield _globals(manifest, facts, script)


def _unread(exc: Exception) -> Check:
    name = "globals and fingerprint"
    return ended(name, exc) if isinstance(exc, LifeboatError) else Check(name, FAIL, str(exc))


def _taken_of(facts: Fingerprint, name: str) -> list[Check]:
    """A failed check where the fingerprint is another database's."""
    found = str(facts.facts.row.get("datname", name))
    return [] if found == name else [Check("fingerprint", FAIL, f"it was taken of the database {named(found)}")]


def _archive(config: Config, manifest: Manifest, folder: Path, dump: DatabaseDump, name: str) -> Check:
    if dump.folder:
        try:
            facts = facts_of(folder / dump.folder)
        except (*_NOT_WRITTEN_SO, LifeboatError) as exc:
            return _unread(exc)
        for check in _taken_of(facts, dump.name):
            return check
    return _read(config, manifest, folder, dump, name)


def _globals(manifest: Manifest, facts: Fingerprint, script: bytes) -> Check:
    found = database_restore.statements(decoded(script))
    roles = sum(statement.startswith("CREATE ROLE ") for statement in found)
    return compared(
        "globals",
        [] if roles == len(facts.roles) else [f"{roles} roles, the fingerprint has {len(facts.roles)}"],
        f"{roles} roles" + ("" if manifest.detailed(DumpDetails).role_passwords else ", without passwords"),
    )


def _read(config: Config, manifest: Manifest, folder: Path, dump: DatabaseDump, name: str) -> Check:
    if manifest.detailed(DumpDetails).format == "plain":
        return _plain_archive(manifest, folder, dump.folder)
    inside = f"{scratch.MOUNT}/{dump.folder}/{DUMP}".replace("//", "/")
    status, _out, err = pipeline.probe(
        exec_command(name, ["pg_restore", "--file=/dev/null", inside], user="0"), timeout=config.timeout
    )
    if status == 0:
        return Check("archive", PASS, "pg_restore reads every byte")
    words = err.strip().splitlines()
    said = words[-1] if words else f"pg_restore ended with {status}"
    lacked = said if unable(status) else scratch.ended(name)
    if not lacked:
        _require_major(manifest, name)
        lacked = cause.of_the_reader(err)
    return Check("archive", COULD_NOT_VERIFY if lacked else FAIL, lacked or said)


def _require_major(manifest: Manifest, name: str) -> None:
    """An older PostgreSQL cannot read the dump of a newer one."""
    needed = manifest.detailed(DumpDetails).server_version_num // 10000
    have = scratch.image_major(name)
    if have < needed:
        raise UnverifiedError(
            "verify a backup",
            manifest.id,
            f"it is of PostgreSQL {needed}, the image has {have}",
            "Name an image of that major in lifeboat_database.verify_image.",
        )


def _plain_archive(manifest: Manifest, folder: Path, inside: str) -> Check:
    artefact, tail = database_restore.plain_name(manifest, inside), b""
    try:
        with database_restore.open_plain(manifest, folder / inside) as file:
            while data := file.read(pipeline.CHUNK):
                tail = (tail + data)[-4096:]
    except _NOT_WRITTEN_SO as exc:
        return Check("archive", FAIL, f"{artefact}: {exc}")
    whole = END_OF_DUMP in tail
    return compared(
        "archive",
        [] if whole else [f"{artefact} does not end as a dump ends: it was cut"],
        "read to pg_dump's last line",
    )


def _restored(
    config: Config, manifest: Manifest, folder: Path, dumps: Sequence[DatabaseDump], name: str, log: Log
) -> Iterator[Check]:
    """Restore into the container's own server and compare it with the fingerprints: one database at a time, dropped
    after its check, so that the disk holds the largest and never all."""
    details = manifest.detailed(DumpDetails)
    _require_major(manifest, name)
    locks = max(_locks(dump, details.format) for dump in dumps)
    with scratch.bounded(name, max(dump.size for dump in dumps)), scratch.server(
        name, superuser=details.superuser, preload=details.preload, timeout=config.timeout, locks=locks,
        initialised=facts_of(folder).facts.initialised,
    ) as server:  # fmt: skip
        try:
            database_restore.roles(server, folder, facts_of(folder), fresh=True)
        except LifeboatError as exc:
            yield _refused(exc, name, server)
            return
        for number, dump in enumerate(dumps, 1):
            if number > 1:
                server.reap()  # of a restore that was stopped
                drop(server, _VERIFIED)
                scratch.forget(name)
            many = f" {number} of {len(dumps)}" if len(dumps) > 1 else ""
            log(f"{manifest.id}: restoring {named(dump.name)}{many}")
            for check in _one(config, manifest, folder, dump, name, server, log):
                yield check if check.kind == ROLES and not dump.folder else _of(dump, check)
            if died := scratch.ended(name):
                yield from (_of(rest, Check("restore", COULD_NOT_VERIFY, died)) for rest in dumps[number:])
                return


def _one(
    config: Config, manifest: Manifest, folder: Path, dump: DatabaseDump, name: str, server: Server, log: Log
) -> Iterator[Check]:
    """One database, which stays in the server. name: of the container."""
    inside, jobs = folder / dump.folder, config.database.jobs
    facts = facts_of(inside)
    try:
        database_restore.database(
            server, manifest, inside, facts, _VERIFIED, jobs=jobs, log=log, trust_owners=config.database.trust_owners
        )
    except LifeboatError as exc:
        lacks = "" if scratch.full(name) else _lacks(exc, name, server, facts, database_restore.creating(_VERIFIED))
        yield _not_offered(exc, lacks) if lacks else _refused(exc, name, server)
        return
    yield Check("restore", PASS, "restored without an error")
    log(f"{manifest.id}: comparing with the fingerprint")
    dumped = database_restore.Dumped(manifest, inside)
    for check in database_restore.compare(
        server, _VERIFIED, facts, fresh=True, application=not dump.folder, dumped=dumped
    ):
        yield _of_another_version(check, facts, server) if check.kind == EXTENSIONS and check.result == FAIL else check
    yield amcheck(name, server, jobs, config.timeout, conninfo(dbname=_VERIFIED))


@dataclass(frozen=True)
class _Offered:
    """An extension that can be made. version: the one that it then has."""

    name: str
    version: Optional[str]
    installed: Optional[str] = None


def _offered(server: Server, database: str) -> dict[str, _Offered]:
    sql = (
        "SELECT jsonb_build_object('name', name, 'version', default_version, 'installed', installed_version)"
        " FROM pg_available_extensions;"
    )
    rows = server.execute(sql, database=database, attempted="list the extensions")
    return {item.name: item for item in answers(_Offered, rows)}


def _others(facts: Fingerprint, offered: Mapping[str, _Offered]) -> str:
    """The extensions that the image has in another version than the database had."""
    return ", ".join(
        f"{named(name)} {named(version)} (it has {named(offered[name].version or 'none')})"
        for name, version in facts.facts.extensions.items()
        if name in offered and offered[name].version != version
    )


def _sorts_otherwise(server: Server, facts: Fingerprint) -> str:
    """The collation version that the database was made with, where the image sorts its text by another one."""
    was, sql = (
        facts.facts.row.get("datcollversion"),
        f"""SELECT to_json(pg_database_collation_actual_version(oid))
        FROM pg_database WHERE datname = {literal(_VERIFIED)};""",
    )
    if not isinstance(was, str):
        return ""
    with contextlib.suppress(LifeboatError):
        for has in answers(str, server.execute(sql, attempted="look how it sorts")):
            return f"the version {named(was)} of its collations (it has {named(has)})" if has != was else ""
    return ""


def _of_another_version(check: Check, facts: Fingerprint, server: Server) -> Check:
    """A dump names no version of an extension: a restore makes the one of the image. That is no difference of the
    backup where each extension is there, in the image's version."""
    offered = _offered(server, _VERIFIED)
    made = {name for name, item in offered.items() if item.installed is not None}
    as_offered = all(
        offered[name].installed in (version, offered[name].version)
        for name, version in facts.facts.extensions.items()
        if name in made
    )
    if made != set(facts.facts.extensions) or not as_offered:
        return check
    words = f"the image lacks the extension {_others(facts, offered)}; {_NAME_ONE}"
    return replace(check, result=COULD_NOT_VERIFY, detail=words)


def _lacks(exc: LifeboatError, name: str, server: Server, facts: Fingerprint, creating: str) -> str:
    """What the database needs and the image of the throw-away server does not have, where a restore stopped for that.

    The same dump was taken of a server that had it, so that nothing is said of the backup.
    """
    if exc.exit_status is None or unable(exc.exit_status):
        return ""
    offered: Mapping[str, _Offered] = {}
    with contextlib.suppress(LifeboatError):  # of a server that died
        offered = _offered(server, "template1")
        missing = [named(extension) for extension in facts.facts.extensions if extension not in offered]
        if missing:
            return f"the extension {', '.join(missing)}"
    code, words = (exc.sqlstate, exc.cause) if exc.sqlstate else scratch.first_error(name)
    if code in _NOT_OFFERED or cause.lacked(words):
        return f"what this needs ({words})"
    if code[:2] == _UNKNOWN_TO_IT and (others := _others(facts, offered)):
        return f"the extension {others}"
    if code == _REFUSED_BY_CHECK and (sorts := _sorts_otherwise(server, facts)):
        return sorts
    empty = exc.attempted == creating and code and not of_machine(code)
    return "the locale or the encoding of the database" if empty else ""


def _not_offered(exc: LifeboatError, lacks: str) -> Check:
    words = f"the image lacks {lacks}; {_NAME_ONE}: {exc.cause}"
    return Check("restore", COULD_NOT_VERIFY, words)


def _refused(exc: LifeboatError, name: str, server: Server) -> Check:
    """The check of a restore that stopped: it tells of the backup only where the machine lacked nothing."""
    if why := scratch.full(name):
        return Check("restore", COULD_NOT_VERIFY, why)
    if exc.exit_status is None or unable(exc.exit_status) or of_machine(exc.sqlstate):
        return ended("restore", exc)
    lacked = scratch.trouble(name, server)
    if exc.attempted == owners.ATTEMPTED and scratch.first_error(name)[0] == _NO_RIGHT:
        lacked = "a function of an owner's needs a superuser's rights"
    words = "; ".join(filter(None, (lacked, exc.cause, exc.remedy)))
    return Check("restore", COULD_NOT_VERIFY if lacked else FAIL, words)


def _locks(dump: DatabaseDump, form: str) -> int:
    """How many locks one transaction of a restore and of its comparison holds, at most."""
    content = dump.fingerprint
    # Backups that do not say: a table has a TOAST table with an index, and each index is among the objects.
    relations = dump.relations or content.objects + 3 * content.tables
    if form != "plain":
        return relations
    return relations + content.objects + content.large_objects  # psql restores everything in one transaction


def amcheck(name: str, server: Server, jobs: int, timeout: float, databases: str) -> Check:
    """Read every table and index of the server in the container `name`. databases: the word that says which.

    https://www.postgresql.org/docs/current/app-pgamcheck.html: exit 2 means corruption was found."""
    words = ("--heapallindexed", "--install-missing", "--no-password", f"--jobs={jobs}")
    sound = _amchecked(server.tool("pg_amcheck", *words, databases), timeout)
    # pg_amcheck calls every error of its queries a damage.
    lacked = scratch.trouble(name, server) if sound.result == FAIL else ""
    return Check(sound.name, COULD_NOT_VERIFY, lacked) if lacked else sound


def _amchecked(command: Command, timeout: float) -> Check:
    status, out, err = pipeline.probe(command, timeout=timeout)
    words = " ".join(line.strip() for line in (out.strip() or err.strip()).splitlines()[:2])  # where, and what
    if status == 0:
        return Check("amcheck", PASS, "every table and B-tree index is sound")
    return Check("amcheck", FAIL if status == 2 else COULD_NOT_VERIFY, words or f"exit {status}")
