# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the relations of a server are called: WAL has only their numbers. A base lists them, for those that are gone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Optional

from ...base import typed
from ...base.errors import IntegrityError, LifeboatError
from ...base.text import named
from ...wal.records import Names, Relation
from ...wal.segments import wrong
from ..server import Server, answers

FILE = "relations.jsonl.zst"
MOST_BYTES = 256 << 20  # unpacked: some million relations
_READ = "read the names of relations"


@dataclass(frozen=True)
class Entry:
    """One relation, by the OID of its database. file: its number below the database's directory; None where it has
    none. kind: pg_class.relkind."""

    database: int
    oid: int
    schema: str
    name: str
    kind: str
    file: Optional[int] = None
    datname: str = ""


_DATABASES = """SELECT jsonb_build_object('oid', oid::bigint, 'name', datname) FROM pg_database
  WHERE datallowconn ORDER BY oid;"""
_RELATIONS = """SELECT jsonb_build_object('database', d.oid::bigint, 'datname', d.datname, 'oid', c.oid::bigint,
  'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'file', pg_relation_filenode(c.oid)::bigint)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_database d
  WHERE d.datname = current_database() AND c.oid >= 16384 AND c.relkind NOT IN ('v', 'c') ORDER BY c.oid;"""


@dataclass(frozen=True)
class _Database:
    oid: int
    name: str


def read(server: Server) -> list[Entry]:
    """Of every database that answers; nothing where the server does not: names are a help, and no more."""
    entries: list[Entry] = []
    try:
        for database in answers(_Database, server.execute(_DATABASES, attempted=_READ, timeout=60)):
            with contextlib.suppress(LifeboatError):
                rows = server.execute(_RELATIONS, database=database.name, attempted=_READ, timeout=300)
                entries += answers(Entry, rows)
    except LifeboatError:
        return entries
    return entries


def to_bytes(entries: Iterable[Entry]) -> bytes:
    return b"".join(json.dumps(typed.plain(entry), sort_keys=True).encode() + b"\n" for entry in entries)


def parse(data: bytes, subject: str) -> list[Entry]:
    """Raises IntegrityError where a line is not one that to_bytes() wrote."""

    def bad(number: int, name: str, cause: str) -> IntegrityError:
        return wrong(_READ, f"{subject}, line {number}", f"{name} {cause}".strip())

    entries = []
    for number, row in enumerate(data.split(b"\n"), 1):
        if row:
            report = partial(bad, number)
            entries.append(typed.build(Entry, typed.load(row, report), report))
    return entries


def names(entries: Sequence[Entry]) -> Names:
    """By OID and by file. Of two entries with one number the later one counts."""
    by_oid: dict[Relation, tuple[str, str]] = {}
    by_file: dict[Relation, tuple[str, str]] = {}
    for entry in entries:
        shown = (f"{named(entry.schema)}.{named(entry.name)}", entry.kind)
        by_oid[entry.database, entry.oid] = shown
        if entry.file is not None:
            by_file[entry.database, entry.file] = shown
    return Names(by_oid, by_file, {entry.database: named(entry.datname) for entry in entries if entry.datname})
