# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""Content that is equal passes, in the database's own encoding: each case was once reported as a difference, or failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.verify_proof import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import IMAGE, MakeDatabase, Stack, assert_pass, back_up_and_prove, docker, entries, say

EQUAL = {
    "options of foreign servers": "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (port '1', host 'h', dbname 'd');"
    "CREATE FOREIGN TABLE f (a int OPTIONS (column_name 'z')) SERVER s OPTIONS (table_name 't', schema_name 's', fetch_size '9'); CREATE TABLE t (a int);",
    "options of a wrapper": "CREATE FOREIGN DATA WRAPPER w OPTIONS (z '1', \"A\" 'x,y', b '{}'); CREATE TABLE t (a int);",
    "a view's check option": "CREATE TABLE t (a int); CREATE VIEW v WITH (check_option = local, security_barrier = true) AS SELECT a FROM t;",
    "a domain's default": "SET search_path = public; CREATE SEQUENCE s; CREATE DOMAIN d AS int DEFAULT nextval('s'); CREATE TABLE t (a d);",
    "statistics of a child": "CREATE TABLE m (a int); CREATE TABLE c (c int, d int) INHERITS (m); ALTER TABLE m ADD e int;"
    "CREATE STATISTICS st ON c, e FROM c; CREATE STATISTICS su ON (c + 1), e, (a + 2), d FROM c;",
    "no schema public": "CREATE SCHEMA x; DROP SCHEMA public; CREATE TABLE x.t (a int);",
    "no plpgsql": "DROP EXTENSION plpgsql; CREATE TABLE t (a int);",
    "public made again": "DROP SCHEMA public; CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'ours'; CREATE TABLE public.t (a int);",
    "a privilege granted twice": "CREATE ROLE g1; CREATE ROLE g2; GRANT CREATE ON DATABASE equal TO g1 WITH GRANT OPTION; GRANT CREATE ON DATABASE equal TO g2;"
    "SET ROLE g1; GRANT CREATE ON DATABASE equal TO g2; RESET ROLE; CREATE TABLE t (a int);",
    "settings of many kinds": "CREATE ROLE c1; ALTER ROLE c1 SET work_mem = '1MB'; ALTER ROLE c1 SET search_path = z, \"Y y\"; ALTER ROLE c1 SET work_mem = '2MB';"
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = '1MB' SET search_path = b, \"A\" SET datestyle = 'German' AS 'SELECT 1'; ALTER FUNCTION f() SET work_mem = '2MB'; CREATE TABLE t (a int);",
    "labels in the middle": "CREATE TYPE e AS ENUM ('b', 'd'); ALTER TYPE e ADD VALUE 'c' BEFORE 'd'; ALTER TYPE e ADD VALUE 'a' BEFORE 'b'; CREATE TABLE t (a e);",
}  # fmt: skip


RECORDS = """
CREATE TABLE log (command text); CREATE TABLE t AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER audited ON ddl_command_end EXECUTE FUNCTION audit(); ALTER EVENT TRIGGER audited ENABLE ALWAYS;
"""


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_an_event_trigger_does_not_record_the_restore(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, form: str
) -> None:
    """pg_restore and a dump's script refresh materialised views last of all, when the event trigger is there."""
    database = {"name": make_database("recorded", RECORDS), "format": form, "jobs": 1}
    settings = stack.config(tmp_path, database=database)
    identity = back_up_and_prove(settings)
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_020000", log=say)
    assert_pass(done.checks, at_least=7)


@pytest.mark.parametrize("sql", EQUAL.values(), ids=EQUAL)
def test_equal_content_passes(stack: Stack, make_database: MakeDatabase, tmp_path: Path, sql: str) -> None:
    back_up_and_prove(stack.config(tmp_path, database={"name": make_database("equal", sql)}))


LATIN1, SQL_ASCII = (f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'" for encoding in ("LATIN1", "SQL_ASCII"))
# Roles made in UTF8 and in LATIN1: the latter is one byte, which no UTF8 database can say.
LATIN = (
    'SET client_encoding = \'UTF8\'; CREATE ROLE "né" LOGIN; CREATE TABLE "é" AS SELECT \'é\'::text AS a; ALTER TABLE "é" OWNER TO "né";'
    "COMMENT ON TABLE \"é\" IS 'ü'; COMMENT ON DATABASE latin IS 'ü'; GRANT CREATE ON DATABASE latin TO \"né\";"
    'ALTER ROLE "né" IN DATABASE latin SET search_path = \'é\'; ALTER DATABASE latin OWNER TO "né";'
)
BYTES = (
    "CREATE TABLE t AS SELECT E'\\xe9\\xff'::text AS a; DO $x$ BEGIN EXECUTE E'CREATE TABLE \"t\\xe9\" (a int CHECK (a IN (1, 2) AND a BETWEEN 1 AND 2 AND a > 0))';"
    "EXECUTE E'CREATE ROLE \"r\\xff\"; ALTER TABLE t OWNER TO \"r\\xff\"; COMMENT ON DATABASE ascii IS ''\\xff\\xfe'''; END $x$;"
)


@pytest.mark.parametrize("form", ["directory", "plain"])
@pytest.mark.parametrize(("name", "options", "sql"), [("latin", LATIN1, LATIN), ("ascii", SQL_ASCII, BYTES)])
def test_names_and_content_of_any_encoding(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, name: str, options: str, sql: str, form: str
) -> None:
    make_database(name, sql, options)
    stack.psql(f'CREATE ROLE "Bénédicte"; GRANT CONNECT ON DATABASE {name} TO "Bénédicte";')
    settings = stack.config(tmp_path, database={"name": name, "format": form})
    identity = back_up_and_prove(settings)
    # And in the living server, whose template1 is UTF8.
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_020000", log=say)
    assert_pass(done.checks, at_least=7)
    roles = stack.psql("SELECT encode(rolname::text::bytea, 'hex') FROM pg_roles WHERE oid >= 16384 ORDER BY 1;", name)
    assert roles == ["42c3a96ec3a96469637465", {"latin": "6ee9", "ascii": "72ff"}[name]]


def test_a_role_that_no_text_names_does_not_stop_the_backup_of_a_utf8_database(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    make_database("latin", LATIN, LATIN1)
    back_up_and_prove(
        stack.config(tmp_path, database={"name": make_database("plain", "CREATE TABLE t AS SELECT 1 AS a;")})
    )


EXTENSION = {
    "owns.control": "comment = 'x'\ndefault_version = '1.0'\nrelocatable = false\nschema = 'pg_catalog'\n",
    "owns--1.0.sql": "CREATE SCHEMA owned; GRANT USAGE ON SCHEMA owned TO PUBLIC; CREATE TABLE owned.job (id serial PRIMARY KEY, a text);",
}


@pytest.fixture
def image_with_extension(stack: Stack) -> Iterator[str]:
    """An image with an extension that makes a schema of its own; the stack's server has it too."""
    name = f"{stack.name}-extension"
    docker("run", "--detach", "--name", name, "--entrypoint", "sleep", IMAGE, "300")
    try:
        for container in (stack.container, name):
            into(container, EXTENSION)
        docker("commit", name, f"{name}:1")
        yield f"{name}:1"
    finally:
        docker("rm", "--force", "--volumes", name)
        docker("rmi", "--force", f"{name}:1", check=False)


def test_a_schema_that_exists_only_through_an_extension(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, image_with_extension: str
) -> None:
    sql = "CREATE EXTENSION owns; INSERT INTO owned.job (a) VALUES ('x'); CREATE TABLE owned.ours (a int);"
    database = {"name": make_database("extended", sql), "verify_image": image_with_extension}
    back_up_and_prove(stack.config(tmp_path, database=database))


def test_an_image_without_the_extension_proves_nothing(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, image_with_extension: str
) -> None:
    for form in ("directory", "plain"):
        name = make_database(f"lacks_{form}", "CREATE EXTENSION owns; CREATE TABLE ours (a int);")
        settings = stack.config(tmp_path, database={"name": name, "verify_image": IMAGE, "format": form})
        manifest = dump.take(Opened(settings), log=say)
        result = operations_verify.verify(Opened(settings), manifest.id, "restore", log=say)
        assert result.verdict == COULD_NOT_VERIFY, said(result)
        unproved = [check.detail for check in result.checks if check.result == COULD_NOT_VERIFY]
        assert unproved  # of each database that has it
        assert all("the image lacks the extension owns; name one that has it" in words for words in unproved), unproved


COLLATED = """SET allow_system_table_mods = on;
CREATE COLLATION pg_catalog."xx_XX.utf8" (provider = libc, locale = 'C.utf8'); RESET allow_system_table_mods;
CREATE TABLE t (a text COLLATE pg_catalog."xx_XX.utf8"); INSERT INTO t VALUES ('é');"""
NEWER = {
    "owns.control": EXTENSION["owns.control"].replace("1.0", "1.1"),
    "owns--1.1.sql": EXTENSION["owns--1.0.sql"] + " CREATE FUNCTION owned.f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
}


def said(result: Result) -> str:
    return "\n".join(f"{check.result} {check.name}: {check.detail}" for check in result.checks)


def into(container: str, files: dict[str, str]) -> None:
    for file, text in files.items():
        path = f"/usr/share/postgresql/17/extension/{file}"
        docker("exec", "-u", "0", "-i", container, "sh", "-c", f"cat >{path}; chmod 644 {path}", stdin=text)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (COLLATED, 'the image lacks what this needs (ERROR:  collation "pg_catalog.xx_XX.utf8" for encoding "UTF8"'),
        ("CREATE EXTENSION owns;", "the image lacks the extension owns 1.1 (it has 1.0); name one that has it"),
        (
            "CREATE EXTENSION owns; CREATE VIEW v AS SELECT owned.f() AS a;",
            "the image lacks the extension owns 1.1 (it has 1.0); name one that has it",
        ),
    ],
    ids=["a collation of its C library", "a version of an extension", "what a version of an extension has"],
)
def test_an_image_of_another_build_proves_nothing(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, image_with_extension: str, sql: str, words: str
) -> None:
    """The server's C library knows a locale, and it has an extension in a version, that the image does not have."""
    into(stack.container, NEWER)
    settings = stack.config(
        tmp_path, database={"name": make_database("built", sql), "verify_image": image_with_extension}
    )
    manifest = dump.take(Opened(settings), log=say)
    result = operations_verify.verify(Opened(settings), manifest.id, "restore", log=say)
    assert result.verdict == COULD_NOT_VERIFY, said(result)
    (unproved,) = [check for check in result.checks if check.result == COULD_NOT_VERIFY and check.name != "tables"]
    assert unproved.detail.startswith(words), unproved
    assert entries(settings)[-1].good


TABLES = 10_000


def test_ten_thousand_tables(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    """The temporary server's lock table is made for them; the stack's own server has one that is large enough."""
    stack.psql("ALTER SYSTEM SET max_locks_per_transaction = 1000;")
    stack.compose("restart", "db")
    stack.compose("up", "--detach", "--wait", "db")
    try:
        make_database("many")
        for first in range(0, TABLES, 1000):
            stack.psql(
                f"DO $$ BEGIN FOR n IN {first + 1}..{first + 1000} LOOP EXECUTE format('CREATE TABLE t%s (a int)', n); END LOOP; END $$;",
                "many",
            )
        settings = stack.config(tmp_path, timeout=1800, database={"name": "many", "format": "custom"})
        back_up_and_prove(settings)
        details = entries(settings)[-1].manifest.detailed(DumpDetails)  # type: ignore[union-attr]
        assert details.databases[0].relations == details.databases[0].fingerprint.tables == TABLES
    finally:
        stack.psql("ALTER SYSTEM RESET max_locks_per_transaction;")
        stack.psql("DROP DATABASE IF EXISTS many WITH (FORCE);")
        stack.compose("restart", "db")
        stack.compose("up", "--detach", "--wait", "db")
