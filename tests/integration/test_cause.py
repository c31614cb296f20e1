# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""A schema that no dump can bring back is reported with its cause, and the remedy that is given helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import MakeDatabase, Stack, back_up_and_prove, say

BASE = """
CREATE SCHEMA shop; SET search_path = shop;
CREATE TABLE lookup (k int PRIMARY KEY, v text); INSERT INTO lookup VALUES (1, 'one'), (2, 'two');
CREATE FUNCTION in_sql(i int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT v FROM lookup WHERE k = i';
CREATE FUNCTION "In Pl"(i int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT v FROM lookup WHERE k = i); END';
CREATE FUNCTION helped(i int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT in_sql(i)';
CREATE TABLE item (a int);
"""
ROW = "INSERT INTO item VALUES (1);"
# (what calls the function, the dump's format, what is named: the object, the function, what it does not find)
CASES = {
    "an index": (
        f'CREATE INDEX i ON item ("In Pl"(a)); {ROW}', "custom",
        'CREATE INDEX i ON shop.item USING btree (shop."In Pl"(a));', 'shop."In Pl"(integer)', 'relation "lookup"'),
    "an index in a script": (
        f'CREATE INDEX i ON item ("In Pl"(a)); {ROW}', "plain", "index i", 'shop."In Pl"(integer)', 'relation "lookup"'),
    "a constraint": (
        f"ALTER TABLE item ADD CHECK (in_sql(a) <> ''); {ROW}", "directory",
        'rows of the table "item"', "shop.in_sql(integer)", 'relation "lookup"'),
    "a constraint in a script": (
        f"ALTER TABLE item ADD CHECK (in_sql(a) <> ''); {ROW}", "plain", "table data item", "shop.in_sql(integer)", 'relation "lookup"'),
    "a materialised view": (
        f'CREATE MATERIALIZED VIEW m AS SELECT "In Pl"(a) FROM item; {ROW}', "directory",
        "REFRESH MATERIALIZED VIEW shop.m;", 'shop."In Pl"(integer)', 'relation "lookup"'),
    "a generated column": (
        "ALTER TABLE item ADD g text GENERATED ALWAYS AS (in_sql(a)) STORED;", "custom",
        "CREATE TABLE shop.item (", "shop.in_sql(integer)", 'relation "lookup"'),
    "a function that calls one": (
        f"ALTER TABLE item ADD CHECK (helped(a) <> ''); {ROW}", "custom",
        'rows of the table "item"', "shop.helped(integer)", "function in_sql(integer)"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_function_that_relies_on_search_path_is_named(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, case: str
) -> None:
    sql, form, where, function, missing = CASES[case]
    settings = stack.config(tmp_path, database={"name": make_database("relies", BASE + sql), "format": form})
    taken = dump.take(Opened(settings), log=say)
    result = operations_verify.verify(Opened(settings), taken.id, "restore", log=say)
    (failed,) = [check for check in result.checks if check.result == checks.FAIL]
    assert failed.name == "restore"
    assert failed.detail.startswith(
        f"{where}: the function {function} relies on search_path, which is empty while a dump is restored:"
        f" {missing} does not exist; In the application's database: ALTER FUNCTION {function} SET search_path = shop;"
    )
    with pytest.raises(LifeboatError, match=re.escape(f"the function {function} relies on search_path")):
        database_recovery.restore_database(Opened(settings), taken.id, fresh=False, stamp="20261124_020000", log=say)
    assert stack.psql("SELECT count(*) FROM shop.lookup;", "relies") == ["2"]


def test_the_remedy_helps(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    """Of a function that reads no table: what an index of one holds depends on the order of the restore."""
    sql = (
        "CREATE FUNCTION half(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i / 2';"
        "CREATE FUNCTION shown(i int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN half(i); END';"
        f"CREATE INDEX i ON item (shown(a)); {ROW}"
    )
    settings = stack.config(tmp_path, database={"name": make_database("remedied", BASE + sql)})
    result = operations_verify.verify(Opened(settings), dump.take(Opened(settings), log=say).id, "restore", log=say)
    remedy = "ALTER FUNCTION shop.shown(integer) SET search_path = shop;"
    (failed,) = [check for check in result.checks if check.result == checks.FAIL]
    assert remedy in failed.detail
    stack.psql(remedy, "remedied")
    back_up_and_prove(settings)


def test_what_is_no_matter_of_search_path_keeps_the_servers_words(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """The function names the schema; pg_dump, which does not look into it, makes its table afterwards."""
    sql = (
        "CREATE FUNCTION f(i int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT v FROM shop.lookup WHERE k = i';"
        "ALTER TABLE item ADD g text GENERATED ALWAYS AS (f(a)) STORED;"
    )
    settings = stack.config(tmp_path, database={"name": make_database("ordered", BASE + sql), "format": "custom"})
    taken = dump.take(Opened(settings), log=say)
    result = operations_verify.verify(Opened(settings), taken.id, "restore", log=say)
    (failed,) = [check for check in result.checks if check.result == checks.FAIL]
    assert 'relation "shop.lookup" does not exist' in failed.detail
    assert "search_path" not in failed.detail
