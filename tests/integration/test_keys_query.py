# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keys_query finds a table as the application does, except where a stranger's function could be run in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import reconcile
from ansible_collections.lifeboat.dr.plugins.module_utils.s3.inventory import Inventory
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import MakeDatabase, Stack

FILES = "CREATE TABLE files (key text, size int); INSERT INTO files VALUES ('a', 1), ('b', 2);"
MOVED = 'CREATE SCHEMA "Né App"; SET search_path = "Né App"; ' + FILES
# What makes the database, options of it, the query.
FOUND = {
    "in public": (FILES, "", "SELECT key, size FROM files;"),
    "with its schema": (FILES, "", "SELECT key FROM public.files -- all"),
    "on the database's own path": (
        f'{MOVED} ALTER DATABASE d SET search_path = nowhere, "Né App", public;', "", "SELECT key FROM files"),
    "in another encoding": (
        f'{MOVED} ALTER DATABASE d SET search_path = "Né App";',
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", "SELECT key FROM files"),
    "through a function of the application": (
        f"{FILES} CREATE FUNCTION path(text) RETURNS text LANGUAGE sql AS 'SELECT $1';", "",
        "SELECT path(key) AS key FROM files"),
}  # fmt: skip


def read(stack: Stack, root: Path, query: str) -> list[str]:
    objects = {"service": "objects", "bucket": "uploads", "keys_query": query}
    run = Opened(stack.config(root, database={"name": "d"}, objects=objects, vault={"objects_bucket": "copy"}))
    with Inventory() as inventory:
        reconcile.read_known(run, inventory)
        return sorted(key for (key,) in inventory.each("SELECT key FROM rows"))


@pytest.mark.parametrize("case", FOUND)
def test_a_table_is_found_as_the_application_finds_it(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, case: str
) -> None:
    sql, options, query = FOUND[case]
    make_database("d", sql, options)
    assert read(stack, tmp_path, query) == ["a", "b"]


def test_a_schema_in_which_others_may_create_is_not_searched(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """A better match than pg_catalog's own function would run with the rights of the server's superuser."""
    make_database("d", f"{FILES} GRANT CREATE ON SCHEMA public TO PUBLIC;")
    assert read(stack, tmp_path, "SELECT key FROM files") == ["a", "b"], "nobody else can log in"
    stack.psql("CREATE ROLE guest LOGIN;")
    stack.psql(
        "CREATE TABLE ran (); GRANT USAGE ON SCHEMA public TO guest; SET ROLE guest;"
        " CREATE FUNCTION lower(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'stranger''s' $$;",
        "d",
    )
    query = "SELECT lower(key::varchar) AS key FROM public.files"
    assert read(stack, tmp_path, query) == ["a", "b"], "pg_catalog's own ran"
    with pytest.raises(LifeboatError, match=r"write public\.files .*search_path .*public: guest may create in it"):
        read(stack, tmp_path, "SELECT key FROM files")


# The query, and what the error says to write.
WRONG = {
    "SELECT key FROM files": r'relation "files" does not exist.* write app\.files or "Z z"\."Files" in'
    r" lifeboat_objects\.keys_query",
    "SELECT key FROM nothing": r'relation "nothing" does not exist.* no schema of database d has it.*keys_query',
    "SELECT key FROM app.nothing": r'relation "app\.nothing" does not exist.*Correct lifeboat_objects\.keys_query',
    "SELECT hidden(key) AS key FROM app.files": r"function hidden\(text\) does not exist.*with its schema.*keys_query",
    "SELECT path AS key FROM app.files": r'column "path" does not exist.*Correct lifeboat_objects\.keys_query',
}


@pytest.mark.parametrize("query", WRONG)
def test_what_to_write_instead_is_said(stack: Stack, make_database: MakeDatabase, tmp_path: Path, query: str) -> None:
    make_database(
        "d",
        'CREATE SCHEMA app; CREATE TABLE app.files (key text); CREATE SCHEMA "Z z";'
        ' CREATE VIEW "Z z"."Files" AS SELECT 1;'
        " CREATE FUNCTION app.hidden(text) RETURNS text LANGUAGE sql AS 'SELECT $1';",
    )
    with pytest.raises(LifeboatError, match=WRONG[query]) as caught:
        read(stack, tmp_path, query)
    objects = {"service": "objects", "bucket": "uploads", "keys_query": query}
    config = stack.config(tmp_path, objects=objects, vault={"objects_bucket": "copy"})

    def fail() -> reconcile.Report:
        raise caught.value

    (check,), _ = reconcile.checked(config, fail)
    assert check.result == COULD_NOT_VERIFY
    assert "lifeboat_objects.keys_query" in check.detail
