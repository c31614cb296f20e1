# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which databases of a server a backup holds, which it leaves out, and which it cannot hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..base.text import human, named
from .server import NO_TEMPLATE, Server, answers

SHOWN = 6


@dataclass(frozen=True)
class Listed:
    """A database of the server but its own templates. size: 0 where the account may not ask. connects: it may be
    entered. torn: what is left of a DROP DATABASE that was interrupted; it can only be dropped.
    """

    oid: int
    name: str
    size: int
    connects: bool
    torn: bool


# -2: https://www.postgresql.org/docs/current/catalog-pg-database.html, "datconnlimit"
LISTED = f"""(SELECT jsonb_agg(jsonb_build_object('oid', oid::bigint, 'name', datname, 'connects', datallowconn,
     'torn', datconnlimit = -2, 'size', CASE WHEN has_database_privilege(oid, 'CONNECT')
       OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) ELSE 0 END)
     ORDER BY datname COLLATE "C") FROM pg_database WHERE {NO_TEMPLATE} OR datname = current_database())"""


@dataclass(frozen=True)
class Chosen:
    """others: besides the application's. missing: those that cannot be in a backup, and why. unknown: excluded names
    that the server does not have."""

    others: tuple[Listed, ...]
    excluded: tuple[str, ...]
    missing: Mapping[str, str]
    unknown: tuple[str, ...]
    torn: tuple[str, ...]


def choose(there: Sequence[Listed], application: str, exclude: Sequence[str], ours: Collection[str]) -> Chosen:
    """ours: those that runs of Lifeboat made."""
    own = [item for item in there if item.name not in (application, *exclude, *ours)]
    names = {item.name for item in there}
    return Chosen(
        others=tuple(item for item in own if item.connects and not item.torn),
        excluded=tuple(sorted(names & set(exclude))),
        missing={
            item.name: "it takes no connections (datallowconn is false)"
            for item in own
            if not item.connects and not item.torn
        },
        unknown=tuple(sorted(set(exclude) - names)),
        torn=tuple(item.name for item in own if item.torn),
    )


def told(server: Server, exclude: Sequence[str]) -> list[str]:
    """What a backup of that server will hold and what it will not, a line each. Raises LifeboatError."""
    (there,) = answers(
        tuple[Listed, ...],
        server.execute(f"SELECT {LISTED};", database=server.database, attempted="list the databases", timeout=60),
    )
    found = choose(there, server.database, exclude, server.made.names())
    held = [item for item in there if item.name == server.database] + list(found.others)
    lines = [
        f"each backup will hold the databases {_few([f'{named(item.name)} ({human(item.size)})' for item in held])}"
    ]
    if found.excluded:
        lines.append(f"lifeboat_database.exclude leaves out {_few(list(map(named, found.excluded)))}")
    if found.unknown:
        lines.append(f"lifeboat_database.exclude names {_few(list(map(named, found.unknown)))}, which the server lacks")
    if found.missing:
        names = _few([f"{named(name)} ({why})" for name, why in found.missing.items()])
        lines.append(
            f"no backup will be good: it cannot hold {names}; allow that, or name it in lifeboat_database.exclude"
        )
    return lines


def _few(words: Sequence[str]) -> str:
    rest = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
