# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The databases that a backup holds, each with the name that it has in the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..base.errors import NotFoundError, UsageError
from ..base.text import named
from ..repository import checksums as repository_checksums
from ..repository.base import Repository
from ..repository.checksums import Artefacts
from ..repository.details import DatabaseDetails, DatabaseEntry
from ..repository.manifest import Manifest


@dataclass(frozen=True)
class Held:
    """One database in a backup. live: its name in the server. primary: it is the application's own."""

    live: str
    dump: DatabaseEntry
    primary: bool

    @property
    def shown(self) -> str:
        return named(self.live)


def of(manifest: Manifest, name: str = "") -> tuple[Held, ...]:
    """Every database of the backup, the application's first. name: the application's in the configuration.

    The backup's application database comes back under that name, unless another database of the backup has it: then
    each comes back under its own, and that one is the application's.
    """
    dumps = manifest.detailed(DatabaseDetails).databases
    renamed = bool(name) and name not in (dump.name for dump in dumps)
    own = name if name and not renamed else dumps[0].name
    found = [Held(name if renamed and dump.name == own else dump.name, dump, dump.name == own) for dump in dumps]
    return tuple(sorted(found, key=lambda item: not item.primary))


def known(manifest: Manifest, name: str) -> Optional[frozenset[str]]:
    """The databases that the server had when the backup was taken, whether or not the backup holds them. None where it
    does not tell, as it is of the time when a backup held the application's alone. name: as in of()."""
    details = manifest.detailed(DatabaseDetails)
    if not details.surveyed:
        return None
    return frozenset(
        (*(item.live for item in of(manifest, name)), *details.excluded, *details.missing, *details.created)
    )


def find(found: Sequence[Held], name: str, identity: str) -> Held:
    """The database that an operator named, as named() prints it.

    Two names may be printed alike: one has a byte that is not UTF-8, the other the letters that stand for it.
    """
    fits = [item for item in found if name in (item.live, item.shown)]
    if len(fits) > 1:
        raise UsageError(
            "find the database", name, f"{len(fits)} databases of {identity} are printed so, and no name tells which",
            "Rename one of them (ALTER DATABASE … RENAME TO …) and take a backup, or rebuild the server, which brings"
            " every one back: -e method=rebuild.",
        )  # fmt: skip
    if fits:
        return fits[0]
    there = ", ".join(item.shown for item in found)
    raise NotFoundError("find the database", name, f"{identity} holds {there}", "Name one of them: -e database=<name>.")


def checksums(repo: Repository, manifest: Manifest, folder: Path) -> dict[Optional[str], Artefacts]:
    """The artefacts of each database, by its name in the backup. None: those of the server, which every one needs."""
    details = manifest.detailed(DatabaseDetails)
    names = [dump.name for dump in details.databases]
    return repository_checksums.by_part(repo, manifest, folder, names, details.part_of)
