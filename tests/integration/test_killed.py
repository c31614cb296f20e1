# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every moment of a backup, a verification and a restore; then a normal run succeeds and nothing is left.

A stand-in for the docker command stops the world at the chosen moment: no test depends on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks
from ansible_collections.lifeboat.dr.plugins.module_utils.base.filesystem import STALE
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import verify as operations_verify
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from postgres_stack import STACK, SUPERUSER, Agent, Stack, docker, entries, say, store

DATA = """
CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
"""
# Runs the real docker, except for the one command that is to be stopped: that one gets as far as it says here.
SHIM = """#!/bin/sh
case "$*" in
*{pattern}*)
    {action}
    : > {reached}
    exec sleep 600 ;;
esac
exec {docker} "$@"
"""
MOMENTS: dict[str, tuple[str, str]] = {
    "nothing was asked yet": ("psql", ":"),
    "the snapshot is held, the dump begins": ("pg_dump --format", ":"),
    "the dump lies in the container": ("pg_dump --format", '{docker} "$@" | head -c 1'),
    "half of it was brought out": ("tar -C", '{docker} "$@" | head -c 20000'),
    "all but the globals is there": ("pg_dumpall", ":"),
    "the globals are half written": ("pg_dumpall", '{docker} "$@" | head -c 200'),
}


def stop_at(root: Path, pattern: str, action: str) -> tuple[dict[str, str], Path]:
    """An environment whose docker stops at that command, and the file that appears when it does."""
    real, reached = str(shutil.which("docker")), root / "reached"
    (root / "bin").mkdir(exist_ok=True)
    shim = root / "bin" / "docker"
    shim.write_text(
        SHIM.format(pattern=f'"{pattern}"', action=action.format(docker=real), reached=reached, docker=real)
    )
    shim.chmod(0o755)
    return {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}, reached


@contextlib.contextmanager
def started(argv: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, of which nothing is left at the end."""
    # Started in the background by a shell, we ignore Ctrl-C, and whom we start would inherit that.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(argv, env=environment, start_new_session=True, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, ignored)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(process: subprocess.Popen[bytes], happened: object) -> None:
    """Until the file is there, or the condition holds; the process must still be at it."""
    while not (happened.exists() if isinstance(happened, Path) else happened()):  # type: ignore[operator]
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


@pytest.fixture
def settings(stack: Stack, tmp_path: Path) -> config.Config:
    stack.psql("CREATE DATABASE shop;")
    stack.psql(DATA, "shop")
    one = stack.config(tmp_path, database={"name": "shop"})
    dump.take(Opened(one), log=say)
    return one


def assert_a_normal_run_succeeds(stack: Stack, settings: config.Config, agent: Agent) -> None:
    first = [entry.id for entry in entries(settings)]
    assert len(first) == 1, "the killed one was published"
    assert operations_verify.verify(Opened(settings), first[0], "checksum", log=say).verdict == checks.PASS
    code, said, err = agent.run("backup", "database", "--prune")
    assert code == 0, err
    assert [entry.id for entry in entries(settings)] == [*first, said["id"]]
    assert operations_verify.verify(Opened(settings), said["id"], "archive", log=say).verdict == checks.PASS
    assert stack.traces() == []
    # What lies in the repository is no backup to anybody, and goes when it is a day old: another host may be writing.
    root = Path(settings.backup_directory)
    left = sorted(str(path) for path in root.rglob(".*"))
    tomorrow = datetime.now(timezone.utc) + timedelta(hours=25)
    assert store(settings).sweep(older_than=STALE, now=tomorrow) == left
    assert not list(root.rglob(".*"))
    assert len(entries(settings)) == 2


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_backup(stack: Stack, settings: config.Config, tmp_path: Path, moment: str) -> None:
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "shop"}))
    environment, reached = stop_at(tmp_path, *MOMENTS[moment])
    with started(agent.argv("backup", "database"), environment) as process:
        wait_for(process, reached)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert_a_normal_run_succeeds(stack, settings, agent)


def test_a_killed_backup_whose_dump_goes_on_in_the_container(
    stack: Stack, settings: config.Config, tmp_path: Path
) -> None:
    """`docker exec` dies with us, what it started does not: a pg_dump that waits for a lock waits on."""
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "shop"}))
    statement = "BEGIN; LOCK t; SELECT pg_sleep(600) -- the blocker"
    words = ("exec", "-e", f"PGUSER={SUPERUSER}", stack.container, "psql", "-d", "shop", "-c", statement)
    blocker = threading.Thread(target=docker, args=words, kwargs={"check": False})
    blocker.start()
    waits = f"application_name = 'lifeboat-{STACK}' AND wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'"
    try:
        with started(agent.argv("backup", "database"), dict(os.environ)) as process:
            wait_for(process, lambda: stack.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {waits};") != ["0"])
            process.kill()
        assert stack.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {waits};") == ["1"], "it did not go on"
    finally:
        stack.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%the blocker';")
        blocker.join()
    assert_a_normal_run_succeeds(stack, settings, agent)


def test_a_terminated_backup_leaves_nothing_at_once(stack: Stack, settings: config.Config, tmp_path: Path) -> None:
    """Ctrl-C, unlike kill -9, can still be tidied up after."""
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "shop"}))
    environment, reached = stop_at(tmp_path, "tar -C", '{docker} "$@" | head -c 20000')
    with started(agent.argv("backup", "database"), environment) as process:
        wait_for(process, reached)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert not list(Path(settings.backup_directory).rglob(".*"))
    assert stack.traces() == []
    assert len(entries(settings)) == 1


@pytest.mark.parametrize(
    ("pattern", "action"),
    [("initdb", ":"), ("pg_restore --jobs", ":"), ("pg_restore --jobs", '{docker} "$@"')],
    ids=["before its server is there", "before the restore", "after the restore"],
)
def test_a_killed_verification(
    stack: Stack, settings: config.Config, tmp_path: Path, pattern: str, action: str
) -> None:
    agent = Agent(tmp_path, stack.settings(tmp_path, database={"name": "shop"}))
    environment, reached = stop_at(tmp_path, pattern, action)
    ours = ("ps", "-aq", "--filter", f"label=lifeboat.scratch={STACK}")
    with started(agent.argv("verify"), environment) as process:
        wait_for(process, reached)
        process.kill()
    assert len(docker(*ours).split()) == 1, "nothing can be swept that is not there"
    assert not entries(settings)[0].proof, "a verification that did not end proves nothing"
    code, said, err = agent.run("verify", entries(settings)[0].id)
    assert (code, said["verdict"]) == (0, checks.PASS), err
    assert docker(*ours) == ""
    assert entries(settings)[0].proven_at is not None


RESTORE = """
import json, sys
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
recovery.restore_database(Opened(config.from_mapping(json.loads(sys.argv[1]))), sys.argv[2], fresh=False,
                          stamp="20261124_020000", log=print)
"""


@pytest.mark.parametrize(
    ("pattern", "action"),
    [
        ("tar --no-same-owner", ":"),
        ("pg_restore --jobs", ":"),
        ("pg_restore --jobs", '{docker} "$@"'),
        ("vacuumdb", '{docker} "$@"'),
    ],
    ids=["before it is in the container", "the database is made", "restored, not compared", "all but swapped in"],
)
def test_a_killed_restore(stack: Stack, settings: config.Config, tmp_path: Path, pattern: str, action: str) -> None:
    """The live database is as it was at any moment before the swap; the next run drops the half-made one."""
    identity = entries(settings)[0].id
    stack.psql("INSERT INTO t VALUES (0, 'newer than the backup');", "shop")
    environment, reached = stop_at(tmp_path, pattern, action)
    environment["PYTHONPATH"] = next(path for path in sys.path if path.endswith(".ansible/collections"))
    words = [json.dumps(stack.settings(tmp_path, database={"name": "shop"})), identity]
    with started([sys.executable, "-c", RESTORE, *words], environment) as process:
        wait_for(process, reached)
        process.kill()
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["20001"]
    done = database_recovery.restore_database(Opened(settings), identity, fresh=False, stamp="20261124_030000", log=say)
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["20000"]
    databases = stack.psql("SELECT datname FROM pg_database WHERE datname ~ 'shop' ORDER BY 1;")
    assert databases == ["shop", done.quarantined_database]
    assert stack.psql("SELECT count(*) FROM t;", done.quarantined_database) == ["20001"]


def test_a_swap_that_was_killed_half_way_is_finished(stack: Stack, settings: config.Config) -> None:
    """Closed to connections, sessions ended, killed before the rename: nobody can reach the live database."""
    stack.psql("ALTER DATABASE shop ALLOW_CONNECTIONS false;")
    database_recovery.restore_database(
        Opened(settings), entries(settings)[0].id, fresh=False, stamp="20261124_030000", log=say
    )
    assert stack.psql("SELECT count(*) FROM t;", "shop") == ["20000"]
    assert stack.psql("SELECT count(*) FROM pg_database WHERE NOT datallowconn;") == ["1"], "template0 alone"
