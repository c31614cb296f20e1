# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - SQL
"""Servers that take no writes: a streaming standby is backed up, and said to be one; a read-only server as any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import facts_of
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.details import DumpDetails
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import (
    IMAGE,
    STACK,
    MakeDatabase,
    Stack,
    assert_pass,
    back_up_and_prove,
    docker,
    entries,
    say,
    store,
)

FOLLOW = (
    'pg_basebackup -h db -U postgres -D "$$PGDATA" -R -X stream -c fast && exec postgres -c fsync=off -c hot_standby=on'
)
SQL = """
CREATE TABLE t AS SELECT n AS a, md5(n::text) AS b FROM generate_series(1, 500) n; CREATE SEQUENCE s; SELECT nextval('s');
CREATE UNLOGGED TABLE u (id serial PRIMARY KEY, a int); INSERT INTO u (a) VALUES (7); CREATE UNLOGGED TABLE bare (); INSERT INTO bare DEFAULT VALUES; SELECT lo_from_bytea(0, 'large');
"""


class Following(Stack):
    """A project whose service `standby` follows `db`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, f"{STACK}-standby", user="postgres")
        self.definition["services"]["standby"] = {
            "image": IMAGE,
            "user": "postgres",
            "profiles": ["later"],
            "entrypoint": ["sh", "-ec", FOLLOW],
            "environment": {"POSTGRES_USER": "postgres", "PGDATA": "/var/lib/postgresql/data/followed"},
            "volumes": ["followed:/var/lib/postgresql/data"],
            "healthcheck": {"test": ["CMD", "pg_isready", "-q"], "interval": "300ms", "retries": 200},
        }
        self.definition["volumes"]["followed"] = {}
        self.write()

    def follow(self) -> None:
        docker("exec", self.container, "sh", "-c", "echo 'host replication postgres all trust' >>$PGDATA/pg_hba.conf")
        self.psql("SELECT pg_reload_conf();")
        self.compose("--profile", "later", "up", "--detach", "--wait", "standby")
        self.caught_up()

    def caught_up(self) -> None:
        (position,) = self.psql("SELECT pg_current_wal_lsn();")
        while self.psql(f"SELECT replay_lsn >= '{position}' FROM pg_stat_replication;") != ["t"]:
            time.sleep(0.1)


@pytest.fixture(scope="module")
def following(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    del engine
    one = Following(tmp_path_factory.mktemp("following"))
    with one.up():
        one.psql("CREATE DATABASE shop;")
        one.psql(SQL, "shop")
        one.follow()
        yield one


@pytest.fixture
def settings(following: Following, tmp_path: Path) -> Config:
    return following.config(tmp_path, database={"name": "shop", "service": "standby"})


@pytest.mark.parametrize("form", ["directory", "custom", "plain"])
def test_a_standby_is_backed_up_and_said_to_be_one(following: Following, tmp_path: Path, form: str) -> None:
    settings = following.config(tmp_path, database={"name": "shop", "service": "standby", "format": form})
    lines: list[str] = []
    taken = dump.take(Opened(settings), log=lines.append)
    (entry,) = entries(settings)
    assert entry.good, entry.problem
    assert entry.manifest
    assert entry.manifest.detailed(DumpDetails).standby is True
    assert any("standby" in line for line in lines), lines
    with store(settings).materialise("database", taken.id) as folder:
        rows = {name: table.rows for name, table in facts_of(folder).tables.items()}
    assert rows == {"public.t": 500, "public.u": 0, "public.bare": 0}, (
        "an unlogged table's rows are the primary's alone"
    )
    result = operations_verify.verify(Opened(settings), taken.id, "restore", log=say)
    assert_pass(result.checks, at_least=13)


def test_a_recovery_into_a_standby_is_refused_and_changes_nothing(following: Following, settings: Config) -> None:
    taken = dump.take(Opened(settings), log=say)
    before = following.psql("SELECT datname FROM pg_database ORDER BY 1;")
    with pytest.raises(LifeboatError, match=r"standby|read-only transaction|during recovery"):
        database_recovery.restore_database(Opened(settings), taken.id, fresh=False, stamp="20261124_020000", log=say)
    assert following.psql("SELECT datname FROM pg_database ORDER BY 1;") == before
    assert following.psql("SELECT count(*) FROM t;", "shop") == ["500"]


def test_a_read_only_server_is_backed_up_and_recovered(
    stack: Stack, make_database: MakeDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = make_database("kept", SQL)
    stack.psql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf();")
    reset = "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only;"
    request.addfinalizer(lambda: stack.psql(f"{reset} SELECT pg_reload_conf();"))
    settings = stack.config(tmp_path, database={"name": name})
    identity = back_up_and_prove(settings)
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_020000", log=say)
    assert {check.result for check in done.checks} == {checks.PASS}
    assert stack.psql("SHOW default_transaction_read_only;", name) == ["on"], "it is left as it was found"
