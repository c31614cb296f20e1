# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold the paths that the database knows against the files there are: rows without files, files without rows.

What the database knows is what `lifeboat_files.references` returns, as `lifeboat_objects.keys_query` does of objects:
`path`, and where known `size`, `sha256` and `at`. A column `source` says below which source the path is; without it,
or where it is NULL, the path begins with the source's name, as in the `paths` of a recovery.
"""

from __future__ import annotations

import itertools
import posixpath
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Callable, Optional

from ..base.checks import COULD_NOT_VERIFY, SHOWN, Check
from ..base.errors import LifeboatError, UnverifiedError
from ..base.text import named
from ..database import server as database_server
from ..objects import reconcile
from ..objects.reconcile import FILE_COLUMNS, Report
from ..repository import catalog, repositories
from ..repository.base import Repository
from ..repository.manifest import Manifest
from ..s3.inventory import Inventory
from ..stack.runtime import Opened
from ..tools import age
from . import sources, walk
from .listing import FILE
from .packs import FILES, listed
from .walk import Problems

CHECK = "rows and files"
_NO_VERSION = (None,) * 5  # what the table `point` has of objects alone
_KNOWN = "place TEXT, key TEXT, size INT, sha256 TEXT, at REAL, PRIMARY KEY (place, key, size, sha256)"
_AS_LISTED = "SELECT p.sha256 FROM point p WHERE p.key = live.key AND p.size = live.size AND p.etag = live.etag"
Within = Callable[[str], bool]


def checks(run: Opened) -> list[Check]:
    """Compare the rows with the files as they are now. Nothing of a stack without a query."""
    return _checked(run, None, lambda _path: True)


def checks_of(run: Opened, repo: Repository, manifest: Manifest, within: Within) -> list[Check]:
    """The like after a recovery: rows that were written after the backup have no file that it could bring back.
    within: is a path one of those that were recovered?"""
    return _checked(run, (repo, manifest), within)


def _checked(run: Opened, recovered: Optional[tuple[Repository, Manifest]], within: Within) -> list[Check]:
    if not run.config.files.references:
        return []
    try:
        with Inventory() as inventory:
            left = _rows(run, inventory, within)
            problems = Problems()
            inventory.add("live", _files(run, inventory, within, problems))
            report = _compared(run, inventory, recovered, within)
    except UnverifiedError as exc:
        return [Check(CHECK, COULD_NOT_VERIFY, str(exc))]
    except LifeboatError as exc:
        return [Check(CHECK, COULD_NOT_VERIFY, reconcile.problem_of(exc))]
    except OSError as exc:
        return [Check(CHECK, COULD_NOT_VERIFY, f"{exc.filename or 'a source'}: {exc.strerror or exc}")]
    unread = [f"{path}: {why}" for path, why in itertools.islice(problems.first.items(), SHOWN)]
    words = f"{problems.count} could not be read: {'; '.join(unread)}"
    return [*report.checks(FILE_COLUMNS), *left, *([Check(CHECK, COULD_NOT_VERIFY, words)] if unread else [])]


def _read_rows(run: Opened, inventory: Inventory, known: Inventory) -> None:
    server = database_server.of(run)
    query = run.config.files.references
    reconcile.read_rows(inventory, server, server.database, query, additional=known, columns=FILE_COLUMNS)


def _rows(run: Opened, inventory: Inventory, within: Within) -> list[Check]:
    """Fill `rows`; of those that no backup can serve the checks that say so."""
    excluders = {source.name: walk.excluder(source.exclude) for source in run.config.files.sources}
    strange: dict[str, int] = {}
    excluded: list[str] = []

    def stored() -> Iterator[tuple[object, ...]]:
        for directory, key, *rest in itertools.chain(
            raw.each("SELECT '', key, size, sha256, at FROM rows"),
            known.each("SELECT place, key, size, sha256, at FROM known"),
        ):
            path = _path(directory, key)
            source, _slash, inside = path.partition("/")
            if source not in excluders:
                strange[source] = strange.get(source, 0) + 1
            elif _excluded(excluders[source], inside):
                excluded.append(path)
                del excluded[SHOWN + 1 :]
            elif within(path):
                yield (path, *rest)

    with Inventory() as raw, Inventory({"known": _KNOWN}) as known:
        _read_rows(run, raw, known)
        inventory.add("rows", stored())
    return [*_of_other_sources(strange), *_of_excluded(excluded)]


def _path(directory: str, key: str) -> str:
    """The row's path as listings have it; one that leads out of its source is of another directory."""
    return posixpath.normpath(posixpath.join(directory, key.lstrip("/")) if directory else key.lstrip("/"))


def _excluded(excluder: Within, inside: str) -> bool:
    """What is below an excluded directory goes with it."""
    parts = inside.split("/")
    return any(excluder("/".join(parts[:number])) for number in range(1, len(parts) + 1))


def _of_other_sources(strange: Mapping[str, int]) -> list[Check]:
    told = "; ".join(f"{count} rows name {named(name)}" for name, count in itertools.islice(strange.items(), SHOWN))
    words = f"{told}: lifeboat_files has no source of that name, so no backup holds their files"
    return [Check("rows of other directories", COULD_NOT_VERIFY, words)] if strange else []


def _of_excluded(excluded: list[str]) -> list[Check]:
    more = " and more" if len(excluded) > SHOWN else ""
    words = f"rows name files that lifeboat_files excludes: {', '.join(map(named, excluded[:SHOWN]))}{more}"
    return [Check("rows of excluded files", COULD_NOT_VERIFY, words)] if excluded else []


def _files(run: Opened, inventory: Inventory, within: Within, problems: Problems) -> Iterator[tuple[object, ...]]:
    """Every file of every source, and the directories that rows name, as the table `live` has them. etag: the time, by
    which its listing is recognised."""
    of_a_row = "SELECT count(*) FROM rows WHERE key = ?"
    for directory in sources.directories(run):
        left_out = walk.excluder(directory.source.exclude)
        for node in walk.walk(directory.path, directory.name, problems, left_out):
            status, path = node.status, _plain(node.path)
            mode = status.st_mode
            if not within(node.path) or (stat.S_ISDIR(mode) and not inventory.value(of_a_row, path)):
                continue
            size = status.st_size if stat.S_ISREG(mode) else None  # a link to a file is a file for who follows it
            yield path, size, str(status.st_mtime_ns), "", status.st_mtime


def _plain(path: str) -> str:
    """Bytes of a name that are no UTF-8 as the database could never have them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _compared(
    run: Opened, inventory: Inventory, recovered: Optional[tuple[Repository, Manifest]], within: Within
) -> Report:
    """Hash nothing: a file that has the size and the time of a listing has the hash of it."""
    hashed = inventory.value("SELECT count(*) FROM rows WHERE sha256 <> ''") > 0
    if recovered or hashed:
        repo, manifest = recovered or (repositories.repository_of(run), _newest(run))
        if manifest is not None:
            inventory.add("point", _listed(run, repo, manifest, within))
            inventory.change(f"UPDATE live SET sha256 = ({_AS_LISTED}) WHERE EXISTS ({_AS_LISTED} AND p.sha256 <> '')")
    if recovered:
        return reconcile.compare(inventory, recovered[1].taken_at)
    inventory.change("DELETE FROM point")
    return reconcile.compare(inventory, datetime.now(timezone.utc))


def _newest(run: Opened) -> Optional[Manifest]:
    good = catalog.good(catalog.entries(repositories.repository_of(run), FILES, run.config.stack))
    return good[-1] if good else None


def _listed(run: Opened, repo: Repository, manifest: Manifest, within: Within) -> Iterator[tuple[object, ...]]:
    """The files of a backup, as the table `point` has them. The hash of a sparse file, and of SQLite's own copy of a
    database, is not that of the file's bytes."""
    with listed(repo, manifest, age.keys(run.config, run.key)) as rows:
        for row in rows:
            entry = row.entry
            if not within(row.path):
                continue
            plain = entry.type == FILE and not entry.rest.sparse and not entry.rest.database
            digest = entry.rest.sha256 if plain else ""
            size = entry.size if entry.type == FILE else None
            yield _plain(row.path), size, str(entry.mtime), digest, entry.mtime / 1e9, *_NO_VERSION
