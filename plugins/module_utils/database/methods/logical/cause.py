# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stopped a restore: the object, and where it is the cause, a function that relies on search_path, which is empty
while a dump is restored. And whether it was something that the server's image does not have.

An index, a constraint or a generated column may call a function, and pg_dump does not look into functions. Where one
names a table without its schema, the application's search_path finds the table, and a restore does not.

What is read here are the words of the server and of libpq, in English. Of another language nothing is understood, and
the server's own words remain what is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import IO, Optional

from ....base.errors import LifeboatError
from ...server import identifier

# The innermost function comes first: sql_inline_error_callback(), plpgsql_exec_error_callback() and their like in
# https://github.com/postgres/postgres/tree/REL_17_STABLE/src
_FUNCTION = re.compile(
    r'^(?:CONTEXT:  )?(?:(?:SQL function|compilation of PL/pgSQL function) "(?P<bare>.+)" (?:during|statement|near) '
    r"|PL/pgSQL function (?P<whole>.+\(.*\)) line \d)",
    re.MULTILINE,
)
_MISSING = re.compile(
    r'(?:(?:relation|type|collation|schema|text search \w+) "(?P<quoted>.+)"'
    r"|(?:function|procedure) (?P<called>[^(]+)\(.*\)) does not exist|operator does not exist: .+"
)
# A collation, a dictionary and the like of pg_catalog are of initdb, which takes them from the image; no dump has them.
# pg_locale.c, pg_locale_libc.c, pg_locale_icu.c and dfmgr.c in the same tree.
_OF_THE_IMAGE = re.compile(
    r'(?:collation|text search \w+) "pg_catalog\.[^"]+"(?: for encoding "[^"]+")? does not exist'
    r'|could not create locale "[^"]*"|could not (?:open collator for|get language from|convert) (?:ICU )?locale'
    r"|ICU is not supported in this build"
    r'|could not (?:load|access file) (?:library )?"[^"]+"|incompatible library "[^"]+"'
    r'|could not find function "[^"]+" in file "[^"]+"'
)
# pg_backup_archiver.c there: every pg_restore knows each version from 1.0 up to its own.
_OF_THE_READER = re.compile(
    r"^pg_restore: (?:error: )?(?P<said>unsupported version \([1-9]\d*\.\d+\) in file header"
    r"|cannot restore from compressed archive .*|.*: Input/output error)$",
    re.MULTILINE,
)
# supports_compression() and parse_compress_specification() in src/bin/pg_dump and src/common there.
_COMPRESSION = re.compile(r"this build does not support compression with \w+")
_ERROR = re.compile(r"ERROR:  (?:[0-9A-Z]{5}: )?(.+)")
_COMMAND = re.compile(r"^Command was: (.+)$|^pg_restore: error: COPY failed for (table .+): ERROR: ", re.MULTILINE)
_LINE = re.compile(r"^psql:<stdin>:(\d+): ERROR: ", re.MULTILINE)
# The comment that pg_dump writes above each object of a script.
_TITLE = re.compile(rb"-- (?:Data for )?Name: (.+); Type: ([A-Z ]+); Schema: ")
_OBJECT = (
    r"(?:table|partitioned table|view|materialized view|sequence|foreign table|composite type|type|function)"
    r' (?P<schema>"(?:[^"]|"")+"|[^".(]+)\.'
)


def explained(
    error: LifeboatError, stderr: str, objects: Iterable[str], script: Optional[IO[bytes]] = None
) -> LifeboatError:
    """The error of a restore with the object that was being restored, and its cause where that is search_path.

    stderr: of pg_restore or psql. objects: those of the backup, as its fingerprint names them. script: the one that
    psql was given, from its beginning: psql tells the line.
    """
    said = _ERROR.search(stderr)
    where = _command(stderr) if script is None else _title(stderr, script)
    if said is None or not where:
        return error
    words, remedy = said[1], error.remedy
    missing, called = _MISSING.fullmatch(words), _FUNCTION.search(stderr, said.end())
    name = (missing["quoted"] or missing["called"] or "") if missing else ""
    if missing and called and "." not in name:  # with its schema: it is not there, or not yet
        named = sorted(objects)
        function = called["whole"] or " or ".join(_functions(called["bare"], named)) or identifier(called["bare"])
        schemas = {found["schema"] for found in map(re.compile(f"{_OBJECT}{_name(name)}").fullmatch, named) if found}
        words = f"the function {function} relies on search_path, which is empty while a dump is restored: {words}"
        remedy = (
            f"In the application's database: ALTER FUNCTION {function} SET search_path ="
            f" {', '.join(sorted(schemas)) or 'the schemas that it needs'}; a backup taken after that can be restored."
            " This one can by hand: docs/troubleshooting.md."
        )
    return LifeboatError(
        error.attempted, error.subject, f"{where}: {words}", remedy,
        exit_status=error.exit_status, sqlstate=error.sqlstate,
    )  # fmt: skip


def lacked(words: str) -> str:
    """What the server's image does not have, in the server's words; empty where these tell of something else."""
    found = _OF_THE_IMAGE.search(words)
    return found[0] if found else ""


def of_the_reader(stderr: str) -> str:
    """Why this pg_restore cannot read an archive that another may read: a newer PostgreSQL wrote it, this build lacks
    its compression, the disk failed. Empty where the archive itself is the reason."""
    found = _OF_THE_READER.search(stderr)
    return found["said"] if found else ""


def of_the_compression(words: str) -> str:
    """Return pg_dump's words about a compression that its build lacks; empty where these tell of something else."""
    found = _COMPRESSION.search(words)
    return found[0] if found else ""


def _name(name: str) -> str:
    """What matches an object of that name, with or without arguments."""
    return rf"(?:{re.escape(name)}|{re.escape(identifier(name))})(?:\(.*\))?"


def _functions(name: str, objects: Iterable[str]) -> list[str]:
    fits = re.compile(rf"function (?P<whole>.+\.{_name(name)})").fullmatch
    return [found["whole"] for found in map(fits, objects) if found]


def _command(stderr: str) -> str:
    found = _COMMAND.search(stderr)
    return (found[1] or f"rows of the {found[2]}")[:200] if found else ""


def _title(stderr: str, script: IO[bytes]) -> str:
    found, title = _LINE.search(stderr), b""
    for number, line in enumerate(script, 1):
        if found is None or number > int(found[1]):
            break
        about = _TITLE.match(line)
        title = b" ".join((about[2].lower(), about[1])) if about else title
    return title.decode("utf-8", "replace")
