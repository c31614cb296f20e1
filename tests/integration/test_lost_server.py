# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is lost whole: its roles' passwords, its slots and origins, and one that was initialised again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres_stack
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.planned import Plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database.protect import ProtectedDatabase
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import identifier
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import HEALTHY
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import PASSWORD, SUPERUSER, Stack, assert_pass, docker, say

DATA = "/var/lib/postgresql/data"
ROWS = "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500);"
ROTATED, NEWER = "rotated 'ß日\"$", "newer still"
LOGICAL = ("wal_level=logical", "max_replication_slots=5")


class Locked(Stack):
    """A server that asks for a password on its socket, too."""

    password = PASSWORD

    def psql(self, sql: str, database: str = "postgres", *, user: str = "") -> list[str]:
        words = [f"PGUSER={user or self.user}", f"PGDATABASE={database}", f"PGPASSWORD={self.password}"]
        given = [word for each in words for word in ("-e", each)]
        argv = ["exec", "-i", *given, self.container, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        return docker(*argv, stdin=sql).split("\n")[:-1]

    def rotate(self, password: str) -> None:
        self.psql(f"ALTER ROLE {identifier(self.user)} PASSWORD E'{password.replace(chr(39), chr(92) + chr(39))}';")
        self.password = password


@pytest.fixture
def locked(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    del engine
    made = Locked(tmp_path_factory.mktemp("project"), f"lost-{os.getpid()}")
    made.definition["services"]["db"]["environment"]["POSTGRES_INITDB_ARGS"] = "--auth=scram-sha-256"
    made.write()
    with made.up():
        yield made
    forget(made)


def forget(stack: Stack) -> None:
    """Remove the data directories that recoveries put aside."""
    left = docker("volume", "ls", "--quiet", "--filter", f"name={stack.name}_data_quarantine").split()
    if left:
        docker("volume", "rm", *left)


@pytest.fixture
def open_one(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with logical decoding, whose socket trusts."""
    del engine
    made = Stack(tmp_path_factory.mktemp("project"), f"lost-{os.getpid()}", options=LOGICAL)
    with made.up():
        yield made
    forget(made)


def settings_of(stack: Stack, root: Path, password: str = "") -> config.Config:
    secrets = {"database_password": password} if password else None
    return stack.config(
        root, secrets=secrets, database={"name": "shop", "format": "custom"}, application={"timeout": 60}
    )


def fill(stack: Stack) -> None:
    stack.psql("CREATE DATABASE shop;")
    stack.psql(ROWS, "shop")
    stack.psql("CREATE DATABASE blog;")
    stack.psql(ROWS, "blog")
    stack.psql("CREATE ROLE app LOGIN PASSWORD 'of the application';")


def back_up(settings: config.Config) -> str:
    return dump.take(Opened(settings), log=say).id


def wipe(stack: Stack) -> None:
    """The files are removed below the server, and the engine starts it again: the image makes a new cluster."""
    docker("exec", stack.container, "sh", "-c", f"rm -rf {DATA}/* {DATA}/.[!.]*")
    docker("kill", stack.container)
    docker("start", stack.container)
    end = time.monotonic() + 60
    while "ready" not in docker("logs", "--since", "60s", stack.container) or docker(
        "inspect", "--format", "{{.State.Health.Status}}", stack.container
    ).strip() != "healthy":  # fmt: skip
        assert time.monotonic() < end, docker("logs", stack.container)
        time.sleep(0.3)


def break_control(stack: Stack) -> None:
    docker("exec", stack.container, "truncate", "-s", "0", f"{DATA}/global/pg_control")
    docker("kill", stack.container)


def empty(stack: Stack) -> None:
    docker("exec", stack.container, "sh", "-c", f"rm -rf {DATA}/* {DATA}/.[!.]*")
    docker("kill", stack.container)


def recover(settings: config.Config, **asked: Any) -> tuple[Plan, ProtectedDatabase, database_recovery.Recovered]:
    made, protected, done = postgres_stack.recover(settings, **asked)
    assert_pass(done.checks, at_least=1)
    return made, protected, done


def verifiers(stack: Stack) -> list[str]:
    return stack.psql("SELECT rolname || ' ' || rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL ORDER BY 1;")


def test_the_superuser_s_rotated_password_is_back_after_a_rebuild(open_one: Stack, tmp_path: Path) -> None:
    settings = settings_of(open_one, tmp_path)
    fill(open_one)
    open_one.psql(f"ALTER ROLE {identifier(SUPERUSER)} PASSWORD '{NEWER}';")
    before = verifiers(open_one)
    assert len(before) == 2
    back_up(settings)
    break_control(open_one)
    made, _protected, done = recover(settings)
    assert verifiers(open_one) == before
    words = f"the role {SUPERUSER} has the password of the backup, which is not POSTGRES_PASSWORD"
    assert [line for line in made.lost if words in line]
    assert [note for note in done.notes if words in note]
    assert "role passwords" in [check.name for check in done.checks]


@pytest.mark.parametrize("lost", [break_control, wipe, empty])
def test_the_recovery_logs_in_with_the_password_that_it_was_given(locked: Locked, tmp_path: Path, lost: Any) -> None:
    """A server that asks for a password, whose environment has another than lifeboat_secrets."""
    settings = settings_of(locked, tmp_path, ROTATED)
    fill(locked)
    locked.rotate(ROTATED)
    before = verifiers(locked)
    back_up(settings)
    lost(locked)
    _made, protected, _done = recover(settings)
    assert protected.fresh
    locked.password = ROTATED
    assert verifiers(locked) == before
    assert database_plan.make(Opened(settings), log=say).condition == HEALTHY


def test_a_password_that_is_newer_than_the_backup_stays_and_is_named(locked: Locked, tmp_path: Path) -> None:
    fill(locked)
    back_up(settings_of(locked, tmp_path, PASSWORD))
    locked.rotate(ROTATED)
    break_control(locked)
    settings = settings_of(locked, tmp_path, ROTATED)
    made, _protected, done = recover(settings)
    words = f"the role {SUPERUSER} keeps the password of lifeboat_secrets.database_password: the backup has another"
    assert [line for line in made.lost if words in line]
    assert [note for note in done.notes if words in note]
    assert locked.psql("SELECT count(*) FROM t;", "shop") == ["500"], "ROTATED logs in"
    assert database_plan.make(Opened(settings), log=say).condition == HEALTHY


def test_a_server_that_the_image_made_anew_is_a_lost_server(open_one: Stack, tmp_path: Path) -> None:
    settings = settings_of(open_one, tmp_path)
    fill(open_one)
    docker("exec", "--user", "postgres", open_one.container, "mkdir", "/var/lib/postgresql/space")
    open_one.psql("CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/space';")
    open_one.psql("ALTER SYSTEM SET work_mem = '65MB';")
    open_one.psql("SELECT pg_create_logical_replication_slot('feed', 'test_decoding');", "shop")
    open_one.psql("SELECT pg_replication_origin_create('upstream');")
    open_one.psql("SELECT pg_replication_origin_advance('upstream', '0/1234567');")
    back_up(settings)
    wipe(open_one)
    made, protected, done = recover(settings)
    assert (made.mode, protected.fresh) == ("fill", True)
    assert len(made.findings) == 1, made.findings
    assert "initialised again" in made.findings[0] and "3 databases with 2 tables" in made.findings[0]
    assert set(made.replaced) == {"shop", "blog", "postgres"}
    for words in ("pg_hba.conf", "replication slot feed", "tablespace fast", "origin upstream"):
        assert any(words in line for line in made.lost), (words, made.lost)
    told = "\n".join(done.notes)
    for words in ("replication slot feed", "tablespace fast", "origin upstream", "0/1234567"):
        assert words in told, told
    assert {item.name: item.action for item in done.databases} == dict.fromkeys(
        ("shop", "blog", "postgres"), "restored"
    )
    assert open_one.psql("SELECT setting FROM pg_file_settings WHERE name = 'work_mem';") == ["65MB"]
    assert database_plan.make(Opened(settings), log=say).condition == HEALTHY


def test_slots_that_stay_with_the_quarantined_database_are_named(open_one: Stack, tmp_path: Path) -> None:
    settings = settings_of(open_one, tmp_path)
    fill(open_one)
    open_one.psql("SELECT pg_create_logical_replication_slot('feed', 'test_decoding');", "shop")
    open_one.psql("SELECT pg_create_logical_replication_slot('other', 'test_decoding');", "blog")
    sql = "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE);"
    open_one.psql(sql, "shop")
    (origin,) = open_one.psql("SELECT roname FROM pg_replication_origin;")
    open_one.psql(f"SELECT pg_replication_origin_advance('{origin}', '0/1234567');")
    back_up(settings)
    open_one.psql("DROP TABLE t;", "shop")
    made, _protected, done = recover(settings)
    for told in ("\n".join(made.lost), "\n".join(done.notes)):
        assert "replication slot feed" in told
        assert f"{origin} of the subscription sub" in told and "0/1234567" in told
        assert "other" not in told
    assert made.mode == "swap"
