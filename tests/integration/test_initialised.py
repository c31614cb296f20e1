# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""Servers that were initialised otherwise than initdb's defaults: proved, destroyed, recovered, and the same again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from foreign_server import CONTENT
from postgres_stack import IMAGE, STACK, Stack, assert_pass, docker, recover, say

# What initdb writes into a server that is not in any database.
SERVER = """
SELECT datname, pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, datlocale, daticurules FROM pg_database WHERE datname LIKE 'template%' ORDER BY 1;
SELECT name, setting FROM pg_settings WHERE name IN ('data_checksums', 'wal_segment_size', 'server_encoding', 'default_text_search_config', 'work_mem', 'password_encryption') ORDER BY 1;
"""
ROWS = "CREATE TABLE word (a text PRIMARY KEY, b serial); INSERT INTO word (a) SELECT chr(65 + n % 26) || chr(97 + n % 7) || n FROM generate_series(1, 300) n; CREATE VIEW late AS SELECT a FROM word WHERE a > 'Q' ORDER BY a;"
TEMPLATE = """
CREATE TABLE everywhere (a int PRIMARY KEY, b text); INSERT INTO everywhere VALUES (1, 'of the template'); CREATE EXTENSION pg_trgm; CREATE SCHEMA tools;
CREATE FUNCTION tools.one() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE USAGE ON SCHEMA public FROM PUBLIC; COMMENT ON TABLE everywhere IS 'of the template';
"""


@dataclass(frozen=True)
class Made:
    """A server made with these options. databases: how others in it are made, by name."""

    options: str
    databases: dict[str, str]


UTF8 = "TEMPLATE template0 ENCODING 'UTF8'"
SERVERS = {
    "ICU, checksums, segments of 64 MB, group access": Made(
        "--locale-provider=icu --icu-locale=de-AT --locale=en_US.utf8 --encoding=UTF8"
        " --data-checksums --wal-segsize=64 --allow-group-access --text-search-config=german --set=work_mem=7MB"
        " --set=password_encryption=md5 --auth=scram-sha-256 --auth-local=trust",
        {
            "of the C library": f"{UTF8} LOCALE_PROVIDER libc LOCALE 'en_US.utf8'",
            "C": f"{UTF8} LOCALE_PROVIDER libc LOCALE 'C'",
            "other rules": f"{UTF8} LOCALE_PROVIDER icu ICU_LOCALE 'ja-JP' ICU_RULES '&a < b' LOCALE 'C'",
            "built in": f"{UTF8} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
        },
    ),
    # PostgreSQL refuses a database of another provider there: it takes the rules from template0.
    "ICU with rules": Made(
        "--locale-provider=icu --icu-locale=und --icu-rules=&V<w<<<W --locale=C --encoding=UTF8",
        {"no rules": f"{UTF8} LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '' LOCALE 'C'"},
    ),
    "PostgreSQL's own provider": Made(
        "--locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C --encoding=UTF8 --wal-segsize=1 --no-sync",
        {
            "of the C library": f"{UTF8} LOCALE_PROVIDER libc LOCALE 'en_US.utf8'",
            "icu": f"{UTF8} LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'",
            "own C": f"{UTF8} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C' LOCALE 'C'",
        },
    ),
    "Latin 1, each category of its own": Made(
        "--encoding=LATIN1 --locale=C --lc-messages=C --lc-time=en_US.utf8 --lc-numeric=C --lc-monetary=C --auth=trust",
        {"utf8": f"{UTF8} LOCALE 'ja_JP.utf8'", "mixed": f"{UTF8} LC_COLLATE 'C' LC_CTYPE 'en_US.utf8'"},
    ),
    "no encoding": Made("--encoding=SQL_ASCII --no-locale", {"euc": "TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C'"}),
}


@pytest.fixture(params=SERVERS, scope="module")
def made(request: pytest.FixtureRequest, engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    del engine
    found = SERVERS[request.param]
    stack = Stack(tmp_path_factory.mktemp("made"), f"{STACK}-made", user="postgres")
    stack.definition["services"]["db"]["environment"]["POSTGRES_INITDB_ARGS"] = found.options
    stack.write()
    try:
        with stack.up():
            fill(stack, found)
            yield stack
    finally:
        aside = docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}_data_quarantine_").split()
        if aside:
            docker("volume", "rm", *aside)


def fill(stack: Stack, found: Made) -> None:
    stack.psql(TEMPLATE, "template1")
    for name, options in {"shop": "", **found.databases}.items():
        stack.psql(f"CREATE DATABASE {identifier(name)} {options};")
        stack.psql(ROWS, name)


def portrait(stack: Stack) -> dict[str, list[str]]:
    """By the database: what PostgreSQL's own tools say of it."""
    found = {"": stack.psql(SERVER)}
    for name in stack.psql("SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template1' ORDER BY 1;"):
        words = ("exec", "-e", "PGUSER=postgres", stack.container, "pg_dump", "--schema-only", "--create")
        schema = docker(*words, "--dbname", f"dbname='{name}'").splitlines()
        found[name] = [line for line in schema if "restrict " not in line] + stack.psql(CONTENT, name)
    return found


def test_it_is_proved_destroyed_and_recovered_as_it_was(made: Stack, tmp_path: Path) -> None:
    before = portrait(made)
    settings = made.config(tmp_path, database={"name": "shop"})
    taken = dump.take(Opened(settings), log=say).id
    proof = operations_verify.verify(Opened(settings), taken, "restore", log=say)
    assert_pass(proof.checks, at_least=13 + 7 * (len(before) - 2))
    assert portrait(made) == before, "the backup changed the server"

    made.psql("DROP TABLE word CASCADE;", "shop")
    assert_pass(recovered(made, tmp_path, taken, mode="swap").checks, at_least=7)
    made.psql(f"DROP DATABASE {identifier(quarantined(made))};")
    assert portrait(made) == before

    docker("exec", "-u", "0", made.container, "sh", "-ec", ": >$PGDATA/global/pg_control")
    docker("kill", made.container)
    done = recovered(made, tmp_path, taken, mode="rebuild")
    assert_pass(done.checks, at_least=7 * (len(before) - 1))
    assert portrait(made) == before
    # No backup holds template1: what was made in it is named.
    gone = "in template1 extension pg_trgm, function tools.one(), schema tools, table public.everywhere is not there any more"
    assert any(gone in note for note in done.notes), done.notes


def quarantined(stack: Stack) -> str:
    (name,) = stack.psql("SELECT datname FROM pg_database WHERE datname LIKE '%quarantine%';")
    return name


def recovered(stack: Stack, root: Path, backup: str, *, mode: str) -> database_recovery.Recovered:
    plan, protected, done = recover(stack.config(root, database={"name": "shop"}))
    assert (protected.mode, plan.backup["id"]) == (mode, backup)
    return done


def test_the_labs_image_is_initialised_at_the_port_of_its_environment(engine: None, tmp_path: Path) -> None:
    """As the official image is: the server and psql both take PGPORT, and no host of the environment is asked."""
    del engine
    # The container's user reads both, whatever the checkout's modes are.
    entry, script = tmp_path / "docker-entrypoint.sh", tmp_path / "begin/one.sql"
    shutil.copy(Path(__file__).parents[1] / "lab/images/postgres/docker-entrypoint.sh", entry)
    script.parent.mkdir()
    script.write_text("CREATE TABLE begun (a int);")
    for path, mode in ((entry, 0o755), (script, 0o644), (script.parent, 0o755)):
        path.chmod(mode)
    environment = {"POSTGRES_PASSWORD": "x", "POSTGRES_DB": "shop", "PGPORT": "5433", "PGHOST": "elsewhere.invalid"}
    name = f"{STACK}-port"
    docker(
        "run", "--detach", "--name", name, "--volume", f"{entry}:/usr/local/bin/docker-entrypoint.sh:ro",
        "--volume", f"{script.parent}:/docker-entrypoint-initdb.d:ro",
        *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")), IMAGE,
    )  # fmt: skip
    try:
        ask = ("exec", "--user", "postgres", name, "psql", "--host=/var/run/postgresql", "--port=5433", "-tAc")
        deadline = time.monotonic() + 60
        while not (found := docker(*ask, "SELECT count(*) FROM begun", "shop", check=False)):
            running = docker("inspect", "--format", "{{.State.Running}}", name).strip()
            assert running == "true" and time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.5)
        assert found.split() == ["0"]
    finally:
        docker("rm", "--force", "--volumes", name)
