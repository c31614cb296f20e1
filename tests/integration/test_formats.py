# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""Every format and compression, and databases of every shape: backup, restore-level verification, all equal."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import proof as database_proof
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import MakeDatabase, Stack, assert_pass, back_up_and_prove, docker, entries, say, store

RICH = """
CREATE TABLE item (id serial PRIMARY KEY, name text, data bytea); CREATE INDEX ON item (name);
INSERT INTO item (name, data) SELECT md5(n::text), decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n;
CREATE TABLE small (a int REFERENCES item, j json); INSERT INTO small SELECT n, '{}' FROM generate_series(1, 50) n;
SELECT lo_from_bytea(0, 'large'); CREATE VIEW v AS SELECT count(*) FROM item;
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM item;
"""

FORMATS = [
    ("directory", "zstd:3", "content", 1),
    ("directory", "none", "rows", 4),
    ("directory", "gzip:1", "content", 4),
    ("directory", "lz4", "rows", 1),
    ("custom", "zstd", "content", 4),
    ("custom", "none", "content", 1),
    ("custom", "lz4:1", "rows", 4),
    ("plain", "gzip", "content", 1),
    ("plain", "none", "rows", 1),
    ("plain", "zstd:3", "content", 4),
]


@pytest.fixture(scope="module")
def rich(running: Stack) -> Iterator[str]:
    running.psql("CREATE DATABASE rich;")
    running.psql(RICH, "rich")
    yield "rich"
    running.wipe()


@pytest.mark.parametrize(("form", "compression", "level", "jobs"), FORMATS)
def test_every_format(
    running: Stack, rich: str, tmp_path: Path, form: str, compression: str, level: str, jobs: int
) -> None:
    database = {"name": rich, "format": form, "compression": compression, "fingerprint": level, "jobs": jobs}
    settings = running.config(tmp_path, database=database)
    identity = back_up_and_prove(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest
    names = {artefact.name for artefact in manifest.artefacts}
    assert {"globals.sql.gz", "fingerprint.json"} < names
    # A plain dump needs nothing but gunzip and psql; zstd would need one tool more.
    wanted = {
        "directory": "database.dump/toc.dat",
        "custom": "database.dump",
        "plain": f"{identity}.sql" + ("" if compression == "none" else ".gz"),
    }
    assert wanted[form] in names
    assert manifest.detailed(DumpDetails).databases[0].fingerprint.level == level
    if form == "plain" and compression != "none":
        assert manifest.detailed(DumpDetails).compression.startswith("gzip")
        with store(settings).materialise("database", identity) as folder, gzip.open(folder / wanted[form]) as file:
            assert database_proof.END_OF_DUMP in file.read()[-200:]
    assert running.traces() == []


def test_the_seeds_promise_a_plain_dump_restores_with_gunzip_and_psql(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    settings = stack.config(tmp_path, database={"name": make_database("seed", RICH), "format": "plain"})
    identity = dump.take(Opened(settings), log=say).id
    make_database("by_hand")
    with store(settings).materialise("database", identity) as folder:
        script = gzip.decompress((folder / f"{identity}.sql.gz").read_bytes()).decode()
    stack.psql(script, "by_hand")
    assert stack.psql("SELECT count(*), md5(string_agg(name, '' ORDER BY id)) FROM item;", "by_hand") == stack.psql(
        "SELECT count(*), md5(string_agg(name, '' ORDER BY id)) FROM item;", "seed"
    )


COLUMNS = ", ".join(
    [f'"column {n}" int' for n in range(500)] + [f"c{n} {('text', 'json')[n % 2]}" for n in range(1090)]
)
# (what the database is like, SQL that makes it so, what its backup must say of it)
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "empty": ("CREATE TABLE t ();", {"tables": 1, "rows": 0, "large_objects": 0}),
    "1,590 columns": (
        f"CREATE TABLE wide ({COLUMNS}); INSERT INTO wide (c0, c1, \"column 7\") VALUES ('x', '[]', 1), (NULL, NULL, 2);",
        {"tables": 1, "rows": 2},
    ),
    "rows of many megabytes": (
        "CREATE TABLE fat (t text, b bytea, j jsonb, x json);"
        "INSERT INTO fat SELECT repeat('日\\\"'',', 2000000), decode(repeat('00ff5c0a', 3000000), 'hex'), NULL, NULL;"
        "INSERT INTO fat SELECT NULL, NULL, jsonb_build_object('k', repeat('v', 9000000)), to_json(repeat(E'\\n', 4000000));",
        {"tables": 1, "rows": 2},
    ),
    "many tables": (
        "DO $$ BEGIN FOR n IN 1..1200 LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY DEFAULT %s)', n, n); END LOOP; END $$",
        {"tables": 1200, "rows": 0},
    ),
    "settings that hinder": (
        "CREATE TABLE t AS SELECT 1 AS a; CREATE INDEX ON t (a);"
        "ALTER DATABASE shaped SET default_transaction_read_only = on; ALTER DATABASE shaped SET statement_timeout = '1ms';"
        "ALTER DATABASE shaped SET search_path = nowhere; ALTER DATABASE shaped SET client_encoding = 'LATIN1';"
        "ALTER DATABASE shaped SET standard_conforming_strings = off; ALTER DATABASE shaped SET datestyle = 'German';"
        "ALTER DATABASE shaped SET idle_in_transaction_session_timeout = '1ms'; ALTER DATABASE shaped SET row_security = off;"
        "ALTER DATABASE shaped SET default_tablespace = ''; ALTER DATABASE shaped SET bytea_output = 'escape';",
        {"tables": 1, "rows": 1},
    ),
    "a superuser with limits": (
        "CREATE TABLE t (); DO $$ BEGIN EXECUTE format('ALTER ROLE %I CONNECTION LIMIT 50 VALID UNTIL %L', current_user, '2999-01-01'); END $$",
        {"tables": 1},
    ),
}  # fmt: skip


def test_an_application_without_tables_proves_nothing(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    settings = stack.config(tmp_path, database={"name": make_database("bare", "")})
    result = operations_verify.verify(Opened(settings), dump.take(Opened(settings), log=say).id, "restore", log=say)
    assert [check.name for check in result.checks if check.result != checks.PASS] == ["tables"]
    assert result.verdict == checks.COULD_NOT_VERIFY


@pytest.mark.parametrize("shape", SHAPES)
def test_databases_of_every_shape(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, shape: str, request: pytest.FixtureRequest
) -> None:
    sql, wanted = SHAPES[shape]
    request.addfinalizer(
        lambda: stack.psql(
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %I CONNECTION LIMIT -1 VALID UNTIL %L', current_user, 'infinity'); END $$",
            "template1",
        )
    )
    settings = stack.config(tmp_path, database={"name": make_database("shaped", sql)})
    identity = back_up_and_prove(settings)
    manifest = entries(settings)[-1].manifest
    assert manifest
    summary = manifest.detailed(DumpDetails).databases[0].fingerprint
    assert {key: getattr(summary, key) for key in wanted} == wanted
    # And into the living server, through everything that a recovery does there.
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_020000", log=say)
    assert {check.result for check in done.checks} == {checks.PASS}


LOCALES: list[tuple[str, str]] = [
    ("ICU", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'ja-JP' LOCALE 'C'"),
    ("ICU rules", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&V << w <<< W' LOCALE 'C'"),
    ("builtin", "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
    ("LATIN1", "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"),
    ("SQL_ASCII", "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"),
    ("EUC_JP, limited", "TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C' CONNECTION LIMIT 20"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), LOCALES, ids=[locale[0] for locale in LOCALES])
def test_encodings_and_locales(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, name: str, options: str
) -> None:
    text = "abc" if name == "SQL_ASCII" else "日本" if name.startswith(("EUC", "ICU")) else "é"
    sql = f"CREATE TABLE t (a text PRIMARY KEY); INSERT INTO t VALUES ('{text}'); COMMENT ON TABLE t IS '{text}';"
    make_database("local", options=options)
    stack.psql(f"SET client_encoding = 'UTF8'; {sql}" if name != "SQL_ASCII" else sql, "local")
    back_up_and_prove(stack.config(tmp_path, database={"name": "local"}))


def test_tablespaces_are_left_behind(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Their directories are this host's; on another one the data goes where it fits. In every format."""
    docker("exec", stack.container, "install", "-d", "-o", "postgres", "/var/lib/postgresql/fast")
    stack.psql("CREATE ROLE spaced; CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast';")
    request.addfinalizer(lambda: (stack.wipe(), stack.psql("DROP TABLESPACE fast;")))
    stack.psql("COMMENT ON TABLESPACE fast IS 'x'; GRANT CREATE ON TABLESPACE fast TO spaced WITH GRANT OPTION;")
    stack.psql("REVOKE CREATE ON TABLESPACE fast FROM PUBLIC; ALTER ROLE spaced SET default_tablespace = fast;")
    make_database("spaced", "CREATE TABLE t (a int PRIMARY KEY) TABLESPACE fast; INSERT INTO t VALUES (1);")
    for form in ("directory", "plain"):
        back_up_and_prove(stack.config(tmp_path, database={"name": "spaced", "format": form}))


def test_a_backup_is_of_one_instant_however_busy_the_database(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Writers insert, delete, and move sequences and large objects all the while; the restore equals the snapshot."""
    name = make_database("busy", f"{RICH} CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz DEFAULT now());")
    busy = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        statement = (
            f"INSERT INTO log SELECT FROM generate_series(1, 20); DELETE FROM log WHERE id % 7 = {number};"
            "UPDATE item SET name = name || 'x' WHERE id = 1 + (random() * 4999)::int; SELECT lo_create(0);"
            f"BEGIN; CREATE TABLE made_{number} AS SELECT 1; DROP TABLE made_{number}; COMMIT;"
        )
        while not busy.is_set():
            try:
                stack.psql(statement * 20, name)
            except BaseException as exc:
                failures.append(exc)
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        settings = stack.config(tmp_path, database={"name": name, "jobs": 4})
        while stack.psql("SELECT count(*) > 100 FROM log;", name) != ["t"]:
            pass
        before = int(stack.psql("SELECT last_value FROM log_id_seq;", name)[0])
        taken = dump.take(Opened(settings), log=say)
        while int(stack.psql("SELECT last_value FROM log_id_seq;", name)[0]) <= before:
            pass
    finally:
        busy.set()
        for writer in writers:
            writer.join()
    assert not failures
    assert_pass(operations_verify.verify(Opened(settings), taken.id, "restore", log=say).checks, at_least=13)


def test_an_account_without_a_superusers_rights(stack: Stack, make_database: MakeDatabase, tmp_path: Path) -> None:
    """The backup account of its own: it reads everything, is told so where it cannot, and the restore is proved."""
    name = make_database("least", "CREATE TABLE t AS SELECT 1 AS a;")
    stack.psql("CREATE ROLE backups LOGIN PASSWORD 'p'; GRANT pg_read_all_data TO backups;")
    account: dict[str, Any] = {"name": name, "backup_user": "backups"}
    back_up_and_prove(stack.config(tmp_path, database=account, secrets={"database_backup_password": "p"}))
    manifest = entries(stack.config(tmp_path))[-1].manifest
    assert manifest
    assert manifest.details["role_passwords"] is False
