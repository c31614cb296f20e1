# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can happen to a database. Each is done for real, and looked at."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ...base.errors import LifeboatError, Log
from ...database import server as database_server
from ...database.server import Server
from ...settings import scenarios
from ...stack.runtime import Opened
from ...stack.service import DataMount
from . import service as drill_service
from .service import did_not_take

# Catalogues are PostgreSQL's, and a table of a page or two is soon full of noise that nobody reads.
_LARGEST = """
    SELECT jsonb_build_object('name', format('%I.%I', n.nspname, c.relname), 'path', pg_relation_filepath(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^(pg_|information_schema$)'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
      AND pg_relation_size(c.oid) > 0
    ORDER BY pg_relation_size(c.oid) DESC, 1 LIMIT 1;
"""


@dataclass(frozen=True)
class _Table:
    name: str
    path: str


def _largest(server: Server) -> _Table:
    """Return the largest table with rows in it."""
    rows = server.execute(_LARGEST, database=server.database, attempted="find the largest table")
    found = database_server.answers(_Table, rows)
    if not found:
        raise did_not_take(server.database, "it has no table with a row that could be lost")
    return found[0]


def _data(run: Opened) -> DataMount:
    stack, service = run.runtime, run.config.database.service
    return drill_service.mount(run, service, stack.data_path(service))


def _silent(run: Opened) -> str:
    """That the server does not answer any more, in words."""
    service = run.config.database.service
    state = drill_service.stopped(run, service)
    if database_server.reach(run).server:
        raise did_not_take(service, "the server still answers")
    return f"{service} is {state.describe()}, and the server does not answer"


def corrupt(run: Opened, lot: random.Random, log: Log) -> str:
    """Killed in the middle of work, with noise in the largest table's file and an empty control file."""
    table, data = _largest(database_server.of(run)), _data(run)
    drill_service.kill(run, run.config.database.service)
    changed = drill_service.noise(data.path / table.path, lot)
    log(f"{changed} bytes of {table.name} are noise now")
    control = data.path / "global" / "pg_control"
    size = control.stat().st_size
    with control.open("r+b") as opened:
        opened.truncate(0)
    if not size or control.stat().st_size:
        raise did_not_take(str(control), f"it had {size} bytes and has {control.stat().st_size}")
    return f"{changed} bytes of {table.name} overwritten, pg_control cut from {size} bytes to 0; {_silent(run)}"


def kill(run: Opened, _lot: random.Random, _log: Log) -> str:
    drill_service.kill(run, run.config.database.service)
    return _silent(run)


def empty(run: Opened, _lot: random.Random, _log: Log) -> str:
    data = _data(run)
    drill_service.kill(run, run.config.database.service)
    return f"{drill_service.empty(data.path)} entries of {data.path} deleted; {_silent(run)}"


def remove(run: Opened, _lot: random.Random, _log: Log) -> str:
    return drill_service.remove_volume(run, run.config.database.service, _data(run))


def drop_table(run: Opened, _lot: random.Random, _log: Log) -> str:
    """The server is as well as ever; a table and everything that depends on it is not there any more."""
    server = database_server.of(run)
    name = _largest(server).name
    sql = database_server.encoded(f"DROP TABLE {name} CASCADE;")
    server.script(sql, database=server.database, attempted="drop the largest table")
    question = f"SELECT to_json(to_regclass({database_server.literal(name)}) IS NULL);"
    if server.execute(question, database=server.database, attempted="look for the table") != [True]:
        raise did_not_take(name, "the table is still there")
    return f"DROP TABLE {name} CASCADE; the table is gone"


def drop_database(run: Opened, _lot: random.Random, _log: Log) -> str:
    server = database_server.of(run)
    name = server.database
    other = "template1" if name == "postgres" else "postgres"
    sql = f"DROP DATABASE {database_server.identifier(name)} WITH (FORCE);"
    server.execute(sql, database=other, attempted="drop the database")
    try:
        there = name in server.databases()
    except LifeboatError as exc:  # it is the one that the server is asked in
        return f"DROP DATABASE; it cannot be reached: {exc.cause}"
    if there:
        raise did_not_take(name, "the database is still there")
    return f"DROP DATABASE {name}; it is gone"


SCENARIO = scenarios.DATABASE
FAULTS = (
    ("corrupted", "the server is killed, its largest table overwritten with noise, its control file emptied", corrupt),
    ("killed", "the server is killed", kill),
    ("data_directory_emptied", "the server is killed, and everything in its data directory is deleted", empty),
    ("volume_removed", "the server's container and its volume are removed", remove),
    ("table_dropped", "the largest table is dropped, with all that depends on it", drop_table),
    ("database_dropped", "the database is dropped", drop_database),
)
