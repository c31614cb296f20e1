# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell a view that PostgreSQL prints otherwise after a restore from one that is another.

A dump has the text that the server printed of a view, and the fingerprint its digest. PostgreSQL may print the restored
view otherwise: `NULL::integer` of a column without a name becomes `NULL::integer AS int4`. So the dump's own text is
held against the fingerprint first, and is then made a view once more: what is printed of that is what a restore gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ....base.errors import LifeboatError
from ... import fingerprint
from ...fingerprint import Fingerprint
from ...server import Server, answers, literal

_KINDS = ("view ", "materialized view ")
_MADE = re.compile(r"CREATE (?:OR REPLACE )?(MATERIALIZED )?VIEW ", re.IGNORECASE)
_ENDS = re.compile(r"(?:\n  WITH (?:LOCAL|CASCADED) CHECK OPTION|\n  WITH NO DATA)?;\n\Z")
_LONGEST = 4 << 20  # characters of a statement
_PLACE = "\x01"  # stands for the text of a view: no text in a database is known to have it


@dataclass(frozen=True)
class _Body:
    """k: kind and name. b: all that defines the view, with _PLACE for its text."""

    k: str
    b: str


def statements(lines: Iterable[str]) -> Iterator[str]:
    """What may be the statements of a dump that make views: up to each line that ends with a semicolon, for it may be
    one of a text or of a name.

    What is no whole statement has not the digest of the fingerprint, so that nothing is taken for equal.
    """
    statement: list[str] = []
    size = 0
    for line in lines:
        if _MADE.match(line):
            statement, size = [], 0
        elif line.startswith("-- Name: ") or size > _LONGEST or not statement:
            statement, size = [], 0
            continue
        statement.append(line)
        size += len(line)
        if line.endswith(";\n"):
            yield "".join(statement)


def _texts(statement: str, name: str) -> Iterator[str]:
    """What the server printed of that view, without the semicolon."""
    made = _MADE.match(statement)
    rest = statement[made.end() :] if made else ""
    if not rest.startswith(name):
        return
    rest = rest[len(name) :]
    head = re.match(r"(?: WITH \([^\n]*\))? AS\n", rest)
    end = _ENDS.search(rest)
    if head and end:
        # The words at the end may be the text's own.
        yield from dict.fromkeys((rest[head.end() : end.start()], rest[head.end() : -2]))


def accepted(
    server: Server, database: str, expected: Fingerprint, restored: Fingerprint, lines: Iterable[str]
) -> Fingerprint:
    """The expected fingerprint with the digests of the restored database where the difference is one of print alone."""
    differing = {
        key: restored.schema[key]
        for key, digest in expected.schema.items()
        if key.startswith(_KINDS) and restored.schema.get(key, digest) != digest
    }
    if not differing:
        return expected
    bodies = _bodies(server, database, expected.scheme, differing)
    names = {key: key.split("view ", 1)[1] for key in bodies}
    same: dict[str, str] = {}
    for statement in statements(lines):
        for key, name in names.items():
            for text in _texts(statement, name) if key not in same else ():
                if fingerprint.digest(bodies[key].replace(_PLACE, f"{text};")) != expected.schema[key]:
                    continue
                printed = _printed(server, database, text)
                if printed and fingerprint.digest(bodies[key].replace(_PLACE, printed)) == differing[key]:
                    same[key] = differing[key]
    return replace(expected, schema={**expected.schema, **same})


def _bodies(server: Server, database: str, scheme: int, keys: Iterable[str]) -> Mapping[str, str]:
    rows = server.execute(
        fingerprint.bodies_sql(scheme, "chr(1)", [literal(key) for key in keys]),
        database=database, attempted="read the definitions of views",
    )  # fmt: skip
    return {row.k: row.b for row in answers(_Body, rows)}


def _printed(server: Server, database: str, text: str) -> str:
    """What the server prints of a view with that text; empty where it does not take it."""
    sql = (
        f"BEGIN;\nCREATE TEMPORARY VIEW lifeboat_form AS\n{text};\n"
        "SELECT to_json(pg_catalog.pg_get_viewdef('pg_temp.lifeboat_form'::pg_catalog.regclass));\nROLLBACK;"
    )
    try:
        printed = answers(str, server.execute(sql, database=database, attempted="make a view once more"))
    except LifeboatError:
        return ""
    return printed[0] if printed else ""
