# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""What a faithful dump and restore must not change: no false alarm, for no name, no type and no expression."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import named
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import fit_name, identifier, literal
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import PASSWORD, MakeDatabase, Stack, assert_pass, back_up_and_prove, entries, restore_beside, say

ODD_TYPES = (Path(__file__).parent / "odd_types.sql").read_text()


def test_every_odd_type_survives(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    settings = stack.config(tmp_path, database={"name": make_database("odd", ODD_TYPES)})
    back_up_and_prove(settings)
    details = entries(settings)[-1].manifest.detailed(DumpDetails)  # type: ignore[union-attr]
    assert (details.databases[0].fingerprint.tables, details.databases[0].fingerprint.large_objects) == (12, 3)
    # A second generation, restored from a backup of the first, is the same again.
    facts = restore_beside(stack, settings, "second")
    assert_pass(database_restore.compare(stack.server(settings), "second", facts, fresh=True), at_least=7)


def test_what_was_acknowledged_before_the_instant_is_in_it(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """However long the first statement waits between its snapshot and its first row."""
    name = make_database("acknowledged", "CREATE TABLE written (at timestamptz);")
    server = stack.server(stack.config(tmp_path, database={"name": name}))
    with server.session(name) as session, server.session(name) as writer, server.session(name) as other:
        (row,) = other.rows(
            "BEGIN; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE; SELECT to_jsonb(1);", attempted="lock"
        )
        assert row == 1
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(session.rows, dump._HEAD, attempted="export a snapshot")
            while other.rows("SELECT to_jsonb(count(*)) FROM pg_locks WHERE NOT granted;", attempted="look") == [0]:
                time.sleep(0.01)
            (acknowledged,) = writer.rows(
                "INSERT INTO public.written VALUES (clock_timestamp()) RETURNING to_jsonb(at);", attempted="write"
            )
            other.rows("COMMIT; SELECT to_jsonb(1);", attempted="unlock")
            (head,) = asked.result()
        assert session.rows("SELECT to_jsonb(count(*)) FROM public.written;", attempted="count") == [0]
    assert isinstance(head, dict)
    assert datetime.fromisoformat(head["taken_at"]) < datetime.fromisoformat(str(acknowledged))


# What people and other programs have named things. PostgreSQL cuts names at 63 bytes.
HOSTILE = [
    "with space",
    'double " quote',
    "single ' quote",
    "dollar $1 $$ ${HOME} `id`",
    "semi; DROP TABLE x; --",
    "back\\slash \\' \\n",
    "UPPER lower",
    "日本語 ü ß",
    "dbname=x host=/tmp",
    "postgres://u:p@h/d",
    "-- comment",
    "* % ? [a] ~",
    "--help",
    "tab\tand\rreturn",
    "line\u2028 sep\u0085arators",
    "select",
    "a" * 63,
    "語" * 21,
    "x" + "語" * 20 + "y",
]


def hostile_sql(names: list[str]) -> str:
    """For every name a role, a schema, a table, a column, an index, a sequence, a function, a trigger, a policy, a view."""
    lines = []
    for name in names:
        quoted, text = identifier(name), literal(name)
        at = f"{quoted}.{quoted}"
        lines.append(
            f"CREATE ROLE {quoted} LOGIN PASSWORD {literal(PASSWORD)}; COMMENT ON ROLE {quoted} IS {text};"
            f"ALTER ROLE {quoted} SET search_path = {quoted}, public; ALTER ROLE {quoted} SET application_name = {text};"
            f"CREATE SCHEMA {quoted} AUTHORIZATION {quoted}; CREATE TYPE {at} AS ENUM ({text});"
            f"CREATE TABLE {quoted}.{identifier('t')} ({quoted} text PRIMARY KEY DEFAULT {text}, e {at},"
            f" s varchar CHECK (s IN ({text}, 'b')));"
            f"ALTER TABLE {quoted}.t RENAME TO {identifier(fit_name(name, '_t'))};"
        )
        table = f"{quoted}.{identifier(fit_name(name, '_t'))}"
        lines.append(
            f"INSERT INTO {table} VALUES ({text}, {text}, 'b'); CREATE SEQUENCE {quoted}.{identifier(fit_name(name, '_s'))};"
            f"CREATE INDEX {identifier(fit_name(name, '_i'))} ON {table} ({quoted});"
            f"CREATE FUNCTION {at}({quoted} {at}) RETURNS text LANGUAGE sql AS {literal('SELECT ' + text)};"
            f"CREATE FUNCTION {at}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
            f"CREATE TRIGGER {quoted} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {at}({text});"
            f"CREATE POLICY {quoted} ON {table} TO {quoted} USING ({quoted} = {text});"
            f"CREATE VIEW {quoted}.{identifier(fit_name(name, '_v'))} AS SELECT {quoted} AS {quoted} FROM {table} {quoted};"
            f"GRANT ALL ON {table} TO {quoted} WITH GRANT OPTION; COMMENT ON TABLE {table} IS {text};"
            f"ALTER TABLE {table} OWNER TO {quoted};"
        )
    return "\n".join(lines)


def test_every_hostile_name_survives(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    root = tmp_path / 'of a, "quoted" 日本 name'
    root.mkdir()
    settings = stack.config(root, database={"name": make_database("hostile", hostile_sql(HOSTILE))})
    back_up_and_prove(settings)
    # The roles, lost with everything else, come back in a living server, passwords included.
    before = stack.psql("SELECT to_json(a) FROM pg_authid a WHERE oid >= 16384 ORDER BY rolname;", "template1")
    assert len(before) == len(HOSTILE)
    stack.wipe()
    newest = entries(settings)[-1]
    database_recovery.restore_database(Opened(settings), newest.id, fresh=False, stamp="20261124_020000", log=say)
    without_oid = [{**json.loads(row), "oid": 0} for row in before]
    after = stack.psql("SELECT to_json(a) FROM pg_authid a WHERE oid >= 16384 ORDER BY rolname;", "template1")
    assert [{**json.loads(row), "oid": 0} for row in after] == without_oid


DATABASES = [
    "we \"ird' $1 $$;\\ \t\r\u2028\x85 日 --x",
    "x" + "語" * 20 + "y",
    "a" * 63,
    "dbname=x",
    "pg://u:p@h/d",
    "--help",
    "postgres",
]


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_of_any_name_is_swapped_in(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, name: str
) -> None:
    sql = "DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 1 AS a;"
    if name == "postgres":
        stack.psql(sql)
    else:
        make_database(name, sql)
    stack.psql(f"ALTER DATABASE {identifier(name)} SET application_name = {literal(name)};", "template1")
    settings = stack.config(tmp_path, database={"name": name, "format": "custom"})
    taken = dump.take(Opened(settings), log=say)
    stack.psql("INSERT INTO t VALUES (2);", name)
    try:
        done = database_recovery.restore_database(
            Opened(settings), taken.id, fresh=False, stamp="20261124_020000", log=say
        )
        assert stack.psql("SELECT * FROM t;", name) == ["1"]
        names = stack.server(settings).execute("SELECT to_json(datname) FROM pg_database;", attempted="list")
        (kept,) = [name for name in map(str, names) if named(name) == done.quarantined_database]
        assert stack.psql("SELECT * FROM t ORDER BY 1;", kept) == ["1", "2"]
        assert len(kept.encode()) <= 63
        assert {check.result for check in done.checks} == {"PASS"}
        if name != DATABASES[1]:
            return
        # The next second, another one: the first quarantine stays, nothing is in the way.
        again = database_recovery.restore_database(
            Opened(settings), taken.id, fresh=False, stamp="20261124_020001", log=say
        )
        assert again.quarantined_database != named(kept)
        assert stack.psql("SELECT * FROM t ORDER BY 1;", kept) == ["1", "2"]
    finally:
        if name == "postgres":
            stack.psql("DROP TABLE t; ALTER DATABASE postgres RESET ALL;")
