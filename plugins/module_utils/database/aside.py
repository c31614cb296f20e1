# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases that the backup does not hold: out of a server that is to be rebuilt, and into the fresh one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..base import filesystem
from ..base.checks import COULD_NOT_VERIFY, Check, ended
from ..base.errors import LifeboatError, Log
from ..base.filesystem import create, explained
from ..base.text import named, of_other
from ..recovery.state import RECOVERING
from ..repository.base import MANIFEST
from ..repository.manifest import Manifest, parse
from ..settings.config import Config
from ..stack.runtime import Opened
from . import held
from . import server as database_server
from .methods import registry as methods
from .methods.base import Outcome, Restoration
from .methods.logical import dump
from .server import Server, answers

EVERYWHERE = "postgres"  # every new server has it
_RESTORED = "copied"
_COPIES = "others_"  # directories of the stack's state: this, and the stamp of the recovery that made it
_SETTLED = "settled"  # a file in one that no recovery takes up again
# From this number on, identifiers are those of objects that somebody made.
# https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT
_FILLED = " OR ".join(
    f"EXISTS (SELECT FROM {catalogue} WHERE oid >= 16384)"
    for catalogue in ("pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_largeobject_metadata", "pg_extension")
)


@dataclass(frozen=True)
class Size:
    """Bytes that a database takes in the server; filled: anybody made something in it."""

    bytes: int
    filled: bool


def size(server: Server, name: str) -> Size:
    """Raises LifeboatError where the database cannot be opened: then it cannot be copied either, and that is said."""
    sql = f"SELECT jsonb_build_object('bytes', pg_database_size(current_database()), 'filled', {_FILLED});"
    return answers(Size, server.execute(sql, database=name, attempted=f"look at the database {named(name)}"))[0]


def take(run: Opened, names: Sequence[str], stamp: str, log: Log) -> str:
    """Dump these databases of the server, named as named() prints them, into a private directory; returns where.

    Nothing was changed yet: what fails leaves the server as it is.
    """
    config, server = run.config, database_server.of(run)
    wanted = [database.name for database in server.living() if named(database.name) in names]
    folder = config.state / f"{_COPIES}{stamp}"
    with explained("copy the databases that the backup does not hold", folder):
        for half in _folders(config, whole=False):
            filesystem.remove(half)  # of a run that was killed while it copied
        folder.mkdir(mode=0o700, parents=True)
        filesystem.require_room(folder, sum(size(server, name).bytes for name in wanted) // 3)
        try:
            _fill(config, server, wanted, folder, log)
        except BaseException:
            filesystem.remove(folder)
            raise
    return str(folder)


def _fill(config: Config, server: Server, names: Sequence[str], folder: Path, log: Log) -> None:
    manifest = dump.copy(config, server, names, _identity(folder), folder, log)
    with create(folder / MANIFEST) as raw:
        raw.write(manifest.to_bytes())


def _identity(folder: Path) -> str:
    """What was copied has the form of a backup, and so an id."""
    return f"db_backup_{folder.name.removeprefix(_COPIES)}"


def _folders(config: Config, *, whole: bool) -> list[Path]:
    return sorted(path for path in config.state.glob(f"{_COPIES}*") if (path / MANIFEST).exists() is whole)


def waiting(config: Config) -> str:
    """The directory of a recovery that copied databases and did not end; empty where there is none."""
    if not (config.state / RECOVERING).exists():
        return ""
    found = [path for path in _folders(config, whole=True) if not (path / _SETTLED).exists()]
    return str(found[-1]) if found else ""


def settle(config: Config) -> None:
    """Before a recovery that takes nothing up: what lies there is of one that ended, or that somebody ended by hand."""
    for folder in _folders(config, whole=True):
        with explained("look at what was copied", folder):
            (folder / _SETTLED).touch(mode=0o600)


def copied(config: Config) -> tuple[str, ...]:
    """The names, as named() prints them, of what waits."""
    folder = waiting(config)
    return tuple(item.shown for item in held.of(_manifest(Path(folder)))) if folder else ()


def _manifest(folder: Path) -> Manifest:
    with explained("read what was copied", folder):
        return parse((folder / MANIFEST).read_bytes(), component="database", expected_id=_identity(folder))


def bring_back(
    config: Config, server: Server, folder: Path, stamp: str, log: Log
) -> tuple[tuple[Check, ...], list[Outcome]]:
    """Restore what take() copied and compare it. What does not come back whole stays in the directory, and in the data
    directory that was put aside; it stops nothing else.

    What an earlier recovery copied, by its stamp, replaces nothing: that one may have brought it back before it ended.
    """
    manifest = _manifest(folder)
    checks: list[Check] = []
    outcomes = []
    there = {database.name for database in server.living()} if folder.name != f"{_COPIES}{stamp}" else set()
    for item in held.of(manifest):
        one = replace(item, primary=False)
        if item.live in there and _filled(server, item.live):
            words = f"the server has it, and it was not compared with its copy in {folder}"
            checks.append(of_other(Check("copy", COULD_NOT_VERIFY, words), item.live))
            outcomes.append(Outcome(item.shown, "untouched", words))
            continue
        wanted = Restoration(
            config, server, manifest, manifest.taken_at, folder, False, stamp, lambda: None, log, (one,), one
        )
        try:
            done = methods.of(manifest).restore(wanted)
            checks += [check for check in done.checks if check.subject == item.live]
            why = "; ".join(("out of the server that was put aside", *done.notes))
            outcomes.append(Outcome(item.shown, _RESTORED, why))
        except LifeboatError as exc:
            log(f"{item.shown} was not brought back: {named(exc.cause)}")
            checks.append(of_other(ended("restore", exc), item.live))
            outcomes.append(Outcome(item.shown, "failed", f"{named(exc.cause)}; its copy is in {folder}"))
    if all(outcome.action == _RESTORED for outcome in outcomes):
        filesystem.remove(folder)
    else:
        (folder / _SETTLED).touch(mode=0o600)
    return tuple(checks), outcomes


def _filled(server: Server, name: str) -> bool:
    try:
        return size(server, name).filled
    except LifeboatError:
        return True  # what cannot be opened is not ours to replace
