# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever writes while a recovery runs: services behind a profile, `docker compose run`, clients from elsewhere.

Each write that the server acknowledged must be found afterwards, in the database that was put aside or in the new one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LockedError, NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import clients, logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import IMAGE, Stack, docker, entries, say

DATA = """
CREATE TABLE t (who text, id bigint, at timestamptz DEFAULT clock_timestamp());
INSERT INTO t SELECT 'seed', n FROM generate_series(1, 500) n;
ALTER TABLE t OWNER TO w;
"""
# One client logs in for each row, the other keeps its session; both come back for ever. A line is an acknowledged row.
CLIENT = r"""
export PGHOST=db PGUSER=w PGPASSWORD=w PGDATABASE=shop
while :; do i=$((i + 1))
    PGAPPNAME=short psql -XAtqc "INSERT INTO t VALUES ('short', $i)" 2>/dev/null && echo "short $i"
    sleep 0.05
done &
long="INSERT INTO t SELECT 'long', (random() * 1e15)::bigint RETURNING 'long ' || id;"
long="$long DO 'BEGIN PERFORM pg_sleep(0.02); END';"
while :; do
    yes "$long" | PGAPPNAME=long psql -XAtq 2>/dev/null
    sleep 0.1
done
"""


@pytest.fixture
def settings(stack: Stack, tmp_path: Path) -> config.Config:
    stack.psql("CREATE ROLE w LOGIN PASSWORD 'w';\nCREATE DATABASE shop OWNER w;")
    stack.psql(DATA, "shop")
    one = stack.config(tmp_path, database={"name": "shop"})
    dump.take(Opened(one), log=say)
    return one


@pytest.fixture
def elsewhere(stack: Stack, settings: config.Config) -> Iterator[Callable[[], set[str]]]:
    """Clients in a container that is not of the project. Call it for what they were told is written."""
    name = f"{stack.name}-elsewhere"
    words = ["run", "--detach", "--name", name, "--network", f"{stack.name}_default", "--entrypoint", "bash", "--init"]
    docker(*words, IMAGE, "-c", CLIENT)

    def acknowledged() -> set[str]:
        return {line for line in docker("logs", name).splitlines() if line.startswith(("short ", "long "))}

    try:
        wait_for(lambda: {line.split()[0] for line in acknowledged()} == {"short", "long"})
        yield acknowledged
    finally:
        docker("rm", "--force", name)


@pytest.fixture
def jobs(stack: Stack) -> Iterator[str]:
    """A service behind a profile and a container of `docker compose run`, both running; the name of the latter."""
    ran = f"{stack.name}-by-hand"
    try:
        stack.compose("--profile", "jobs", "up", "--detach", "--no-deps", "worker")
        stack.compose("run", "--detach", "--no-deps", "--name", ran, "worker")
        yield ran
    finally:
        docker("rm", "--force", ran, f"{stack.name}-worker-1")


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def running(stack: Stack) -> set[str]:
    shown = docker("ps", "--filter", f"label=com.docker.compose.project={stack.name}", "--format", "{{.Names}}")
    return {name.removeprefix(f"{stack.name}-") for name in shown.split()}


def rows(stack: Stack, database: str) -> set[str]:
    return set(stack.psql("SELECT who || ' ' || id FROM t WHERE who <> 'seed';", database))


def assert_closed(stack: Stack) -> None:
    with pytest.raises(AssertionError, match="not currently accepting connections"):
        stack.psql("SELECT 1;", "shop")


def test_no_acknowledged_write_is_lost(
    stack: Stack, settings: config.Config, elsewhere: Callable[[], set[str]], jobs: str
) -> None:
    """And none is let in between protect and swap, when it could only be lost."""
    made = database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    assert (made.writers, made.one_offs, made.mode) == (("app", "worker"), (jobs,), "swap")
    assert (
        f"stop the writers (app, worker, {jobs} of `docker compose run`, which is not started again)" in made.steps[0]
    )
    (long,) = (line for line in made.warnings if "(long)" in line)
    assert long.startswith("w at ")
    assert " is connected to shop, also when the writers are stopped" in long
    assert running(stack) == {"db-1", "app-1", "worker-1", "by-hand"}, "a plan only reads"

    done = database_protect.protect(Opened(settings), made, log=say)
    assert running(stack) == {"db-1"}
    assert done.stopped == ("app", "worker", jobs)
    assert [note.partition(" at ")[0] for note in done.notes if "(long)" in note] == ["ended the session of w"]
    (closed_at,) = stack.psql("SELECT clock_timestamp();", "template1")
    assert_closed(stack)
    before = elsewhere()
    time.sleep(0.5)
    assert elsewhere() == before, "written into a database that is about to be replaced"
    with pytest.raises(LockedError, match="closed the database to logins"):
        dump.take(Opened(settings), log=say)

    with logins.opened_afterwards(Opened(settings), log=say):
        identity = entries(settings)[-1].id
        restored = database_recovery.restore_database(
            Opened(settings), identity, fresh=False, stamp=made.stamp, log=say
        )
    wait_for(lambda: {line.split()[0] for line in elsewhere() - before} == {"short", "long"})
    docker("stop", "--time", "1", f"{stack.name}-elsewhere")
    old, new = rows(stack, restored.quarantined_database), rows(stack, "shop")
    acknowledged = elsewhere()
    assert acknowledged <= old | new, sorted(acknowledged - old - new)
    assert before <= old, "they are of the time before the recovery"
    assert acknowledged - before <= new
    assert old and new
    late = f"SELECT count(*) FROM t WHERE at > '{closed_at}';"
    assert stack.psql(late, restored.quarantined_database) == ["0"]
    assert stack.psql("SELECT count(*) FROM t WHERE who = 'seed';", "shop") == ["500"]
    assert logins.closed(settings) is None

    found = reopen.reopen(Opened(settings), made.writers, log=say)
    assert checks.verdict(found) == checks.PASS, found
    assert running(stack) == {"db-1", "app-1", "worker-1"}, "a container of `docker compose run` is not started again"


KILLED = """
import json, os, signal, sys
from ansible_collections.lifeboat.dr.plugins.module_utils.database import clients, plan, protect
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
clients.end = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
run = Opened(config.from_mapping(json.loads(sys.argv[1])))
protect.protect(run, plan.make(run, plan.Request(force=True), log=print), log=print)
"""


def test_what_a_killed_recovery_closed_is_opened_by_the_next_run(
    stack: Stack, settings: config.Config, tmp_path: Path
) -> None:
    path = next(path for path in sys.path if path.endswith(".ansible/collections"))
    words = [sys.executable, "-c", KILLED, json.dumps(stack.settings(tmp_path, database={"name": "shop"}))]
    assert (
        subprocess.run(words, check=False, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}).returncode
        == -signal.SIGKILL
    )
    assert_closed(stack)
    assert logins.closed(settings) == logins.Closed(("shop",), False, False)
    with pytest.raises(LockedError, match=r"Finish it \(lifeboat.dr.recover_database\): that opens the database again"):
        dump.take(Opened(settings), log=say)

    made = database_plan.make(Opened(settings), log=say)
    assert (made.condition, made.mode) == ("healthy", "reopen")
    assert made.unchecked == (
        "the database shop is closed to logins since a recovery that did not end; this is what that one found",
    )
    done = database_protect.protect(Opened(settings), made, log=say)
    assert [check.result for check in done.checks] == [checks.PASS], "it was looked at"
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]
    assert checks.verdict(reopen.reopen(Opened(settings), made.writers, log=say)) == checks.PASS
    again = database_plan.make(Opened(settings), log=say)
    assert (again.needed, again.unchecked) == (False, ())
    assert len(entries(settings)) == 1
    dump.take(Opened(settings), log=say)


def test_a_killed_recovery_can_be_started_again(stack: Stack, settings: config.Config) -> None:
    """Another state was asked for, so what is closed is replaced after all."""
    made = database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    database_protect.protect(Opened(settings), made, log=say)
    again = database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    assert typed.plain(again.writers) == ["app"]
    database_protect.protect(Opened(settings), again, log=say)
    assert_closed(stack)
    with logins.opened_afterwards(Opened(settings), log=say):
        identity = entries(settings)[-1].id
        database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp=again.stamp, log=say)
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]
    assert logins.closed(settings) is None
    assert stack.psql("SELECT count(*) FROM pg_database WHERE NOT datallowconn;") == ["1"], "template0 alone"
    assert checks.verdict(reopen.reopen(Opened(settings), again.writers, log=say)) == checks.PASS


def test_a_restore_that_fails_leaves_the_database_open(stack: Stack, settings: config.Config) -> None:
    made = database_plan.make(Opened(settings), database_plan.Request(force=True), log=say)
    database_protect.protect(Opened(settings), made, log=say)
    assert_closed(stack)
    with pytest.raises(NotFoundError), logins.opened_afterwards(Opened(settings), log=say):
        database_recovery.restore_database(
            Opened(settings), "db_backup_20200101_000000", fresh=False, stamp=made.stamp, log=say
        )
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]
    assert logins.closed(settings) is None
    assert checks.verdict(reopen.reopen(Opened(settings), made.writers, log=say)) == checks.PASS


@pytest.mark.parametrize("written", [False, True])
def test_a_fresh_servers_database_stays_closed_until_it_is_filled(
    stack: Stack, settings: config.Config, written: bool
) -> None:
    stack.psql("DROP DATABASE shop;")
    stack.psql("CREATE DATABASE shop OWNER w;")
    if written:  # by a client that was quicker than we
        stack.psql(DATA, "shop")
    clients.shut_out(settings, stack.server(settings), logins.Closed(("shop",), True, True), log=say)
    identity = entries(settings)[-1].id
    with pytest.raises(NotFoundError), logins.opened_afterwards(Opened(settings), log=say):
        database_recovery.restore_database(
            Opened(settings), "db_backup_20200101_000000", fresh=True, stamp="20261124_020000", log=say
        )
    assert logins.reopen(Opened(settings), log=say) == ["shop"]
    assert_closed(stack)
    with logins.opened_afterwards(Opened(settings), log=say):
        done = database_recovery.restore_database(
            Opened(settings), identity, fresh=True, stamp="20261124_020000", log=say
        )
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["500"]
    assert logins.closed(settings) is None
    assert done.quarantined_database == ("shop_quarantine_20261124_020000" if written else "")


WRITTEN = [
    ("SELECT 1;", True),
    ("CREATE TABLE a (b int); CREATE INDEX ON a (b);", True),
    ("CREATE TABLE a (b int); INSERT INTO a VALUES (1);", False),
    ("SELECT lo_create(0);", False),
]


@pytest.mark.parametrize(("sql", "untouched"), WRITTEN)
def test_untouched(stack: Stack, settings: config.Config, sql: str, untouched: bool) -> None:
    stack.psql("CREATE DATABASE empty;")
    stack.psql(sql, "empty")
    assert database_restore.untouched(stack.server(settings), "empty") is untouched
