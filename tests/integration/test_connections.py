# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server all of whose connections are taken: backup, assess and recovery say so, and nothing changes."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import STACK, Stack, entries, say

MOST = 6
OPTIONS = (f"max_connections={MOST}", "superuser_reserved_connections=1", "max_wal_senders=0", "autovacuum=off")
FULL = "sorry, too many clients already|remaining connection slots are reserved"


@pytest.fixture(scope="module")
def small(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    del engine
    one = Stack(tmp_path_factory.mktemp("small"), f"{STACK}-small", options=OPTIONS)
    with one.up():
        one.psql("CREATE DATABASE shop;")
        one.psql("CREATE TABLE t AS SELECT n AS a FROM generate_series(1, 50) n;", "shop")
        yield one


@pytest.fixture
def settings(small: Stack, tmp_path: Path) -> Config:
    return small.config(tmp_path, database={"name": "shop"})


def answers(stack: Stack) -> bool:
    words = ["docker", "exec", "-e", f"PGUSER={stack.user}", "-e", "PGDATABASE=postgres", stack.container]
    return subprocess.run([*words, "psql", "-XAtqc", ""], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def full(stack: Stack) -> Iterator[None]:
    """While every connection is taken by clients that only hold theirs."""
    words = ["docker", "exec", "-i", "-e", f"PGUSER={stack.user}", "-e", "PGDATABASE=postgres", stack.container]
    deadline = time.monotonic() + 120
    with contextlib.ExitStack() as clients:
        while answers(stack):  # one that is refused ends, and the next one has its place
            one = clients.enter_context(
                subprocess.Popen([*words, "psql", "-XAtq"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
            assert one.stdin
            clients.callback(one.stdin.close)
            assert time.monotonic() < deadline, "the server still has connections"
        yield
    while not answers(stack):
        assert time.monotonic() < deadline + 120, "the server is still full"
        time.sleep(0.2)


def content(stack: Stack) -> list[str]:
    names = stack.psql("SELECT datname FROM pg_database ORDER BY datname;")
    return [*names, *stack.psql("SELECT sum(a) FROM t;", "shop")]


def test_a_backup_says_so_and_publishes_nothing(small: Stack, settings: Config) -> None:
    before = content(small)
    with full(small), pytest.raises(LifeboatError, match=FULL) as raised:
        dump.take(Opened(settings), log=say)
    assert (raised.value.attempted, raised.value.subject) == ("connect to the database", "shop")
    assert "max_connections" in raised.value.remedy
    assert entries(settings) == []
    assert content(small) == before and small.traces() == []
    dump.take(Opened(settings), log=say)


def test_a_server_that_is_full_is_not_called_damaged(small: Stack, settings: Config) -> None:
    dump.take(Opened(settings), log=say)
    before = content(small)
    with full(small), pytest.raises(LifeboatError, match=FULL) as raised:
        made = database_plan.make(Opened(settings), log=say)
        pytest.fail(f"it plans {made.mode}: {made.findings}")
    assert raised.value.remedy
    assert content(small) == before and small.traces() == []


def test_a_recovery_that_finds_the_server_full_changes_nothing(small: Stack, settings: Config) -> None:
    taken = dump.take(Opened(settings), log=say)
    small.psql("DELETE FROM t WHERE a > 40;", "shop")
    before = content(small)
    run = Opened(settings)
    made = database_plan.make(run, database_plan.Request(identity=taken.id), log=say)
    with full(small), pytest.raises(LifeboatError, match=FULL):
        database_protect.protect(run, made, log=say)
        database_recovery.restore_database(run, taken.id, fresh=False, stamp=made.stamp, log=say)
    assert content(small) == before and small.traces() == []
