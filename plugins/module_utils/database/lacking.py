# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other backups of the server hold and the one that is to be restored does not: newer ones, and earlier ones of
databases that are gone since."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from ..base.errors import present
from ..base.text import Untested, named, several
from ..repository.catalog import Entry
from ..repository.details import DatabaseDetails
from ..repository.manifest import Manifest
from ..repository.sources import Sources
from ..settings.config import Config
from . import assess, held


@dataclass(frozen=True)
class Lacking:
    """Databases by their names in the server, each with the newest backup that holds it.

    newer: newer backups than `chosen` hold it. dropped: neither the newest backup nor the server has it, and no backup
    says that it left it out. missing: `chosen` could not include it, an older backup did. tables: those that the newest
    backup `tables_of` holds of the databases that are restored, and `chosen` does not, each with its database.
    """

    chosen: str
    newer: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    tables_of: str = ""

    def warnings(self, restored: Collection[str], on_server: Optional[Collection[str]]) -> list[str]:
        """What an operator is told before agreeing. restored: the names of what comes back; on_server: what is there,
        None where the server does not tell."""
        gone = "neither on the server nor in the newest backup"
        gone = gone if on_server is not None else "not in the newest backup, and the server does not answer"
        lines = [
            f"the database {named(name)} is {gone}: it counts as dropped on purpose; if it was not:"
            f" {_to_take(name, backup)}"
            for name, backup in self.dropped.items()
            if name not in restored
        ]
        gone = ", which is not on the server" if on_server is not None else ""
        lines += [
            f"{self.chosen} does not hold the database {named(name)}{gone}; {backup} does: {_to_take(name, backup)}"
            for name, backup in {**self.newer, **self.missing}.items()
            if name not in (on_server or ())
        ]
        if self.tables:
            lines.append(f"{self.chosen} does not hold {several('table', self.tables)}; {self.tables_of} does")
        return lines

    def untested(self, stays: Collection[str]) -> tuple[Untested, ...]:
        """The like for the record of the recovery. stays: the names of databases that are not touched."""
        databases = [
            (f"the database {named(name)}", backup) for name, backup in self.newer.items() if name not in stays
        ]
        tables = [(several("table", self.tables), self.tables_of)] if self.tables else []
        gaps = [(what, f"only newer backups hold it, such as {backup}") for what, backup in databases + tables]
        older = [(name, backup) for name, backup in self.missing.items() if name not in stays]
        gaps += [(f"the database {named(name)}", f"the newest that holds it is {backup}") for name, backup in older]
        return tuple(itertools.starmap(Untested, gaps))


def _to_take(name: str, backup: str) -> str:
    return f"-e recovery_point={backup} -e database={named(name)}"


def of(config: Config, entries: Sequence[Entry], chosen: Manifest, on_server: Optional[Collection[str]]) -> Lacking:
    """By the manifests alone. entries: the backups, oldest first. on_server: as above."""
    readable = [entry for entry in entries if entry.manifest and not entry.unknown and not entry.ahead]
    holders: dict[str, str] = {}
    for entry in readable:
        names = [item.live for item in held.of(present(entry.manifest), config.database.name)]
        holders.update(dict.fromkeys(names, entry.id))
    tell = (held.known(present(entry.manifest), config.database.name) for entry in reversed(readable))
    latest = next((names for names in tell if names is not None), None)
    known = {*config.database.exclude, *(on_server or ()), *(latest or ())}
    own = {item.live for item in held.of(chosen, config.database.name)}
    left_out = {*chosen.detailed(DatabaseDetails).missing} - {*config.database.exclude}
    return Lacking(
        chosen.id,
        newer={
            name: backup
            for name, backup in holders.items()
            if name in known - own - {*config.database.exclude} and backup > chosen.id
        },
        dropped={name: backup for name, backup in holders.items() if latest is not None and name not in known},
        missing={name: backup for name, backup in holders.items() if name in left_out and backup < chosen.id},
    )


def with_tables(lacking: Lacking, sources: Sources, chosen: Entry, restored: Collection[str]) -> Lacking:
    """And the tables of the databases that are restored, as the fingerprints of the two backups tell."""
    newest = next((entry for entry in reversed(sources.entries) if entry.serves and entry.id > chosen.id), None)
    if newest is None:
        return lacking
    had, has = _tables(sources, chosen, restored), _tables(sources, newest, restored)
    lines = [f"{named(table)} of {named(name)}" for name in has if name in had for table in has[name] - had[name]]
    return replace(lacking, tables=tuple(sorted(lines)), tables_of=newest.id)


def _tables(sources: Sources, entry: Entry, databases: Collection[str]) -> dict[str, set[str]]:
    """The tables by database, of those whose fingerprints can be read."""
    reference = assess.reference(sources, entry)
    items = held.of(reference.manifest, sources.run.config.database.name)
    prints = reference.fingerprints
    return {
        item.live: set(prints[item.dump.folder].tables)
        for item in items
        if item.live in databases and item.dump.folder in prints
    }
