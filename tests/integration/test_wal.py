# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL of a real server, received in its container's network: what it acknowledged is sent, nothing of it changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import preflight, receiver, send
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import spans
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn
from postgres_stack import Stack, docker


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


class Receiving:
    """The receiver of a stack, without its units: started and stopped by hand."""

    def __init__(self, stack: Stack, root: Path) -> None:
        settings = {"wal": {"enabled": True, "spool_directory": f"{root}/spool/{stack.stack}"}}
        self.stack, self.run = stack, Opened(stack.config(root, **settings))
        self.name = f"lifeboat-wal-{stack.stack}"

    def facts(self) -> preflight.Facts:
        return preflight.read(database_server.connect(self.run.config, self.run.runtime))

    def enable(self) -> None:
        server = database_server.connect(self.run.config, self.run.runtime)
        facts = preflight.read(server)
        if facts.role is None:
            receiver.make_role(server)
        receiver.try_connection(self.run, receiver.way(self.run, server, facts), facts)
        receiver.remember(self.run.config, receiver.Enabled(facts.system, 2 << 30, True, True))

    def receive(self) -> None:
        """Until it is connected."""
        child = os.fork()
        if not child:
            try:
                receiver.receive(self.run, lambda text: None)
            finally:
                os._exit(1)
        until(lambda: (slot := self.facts().ours) is not None and slot.pid is not None)

    def sent(self) -> send.Ledger:
        """A pass after all that is acknowledged now."""
        (end,) = self.stack.psql("SELECT pg_current_wal_flush_lsn()")
        until(lambda: parse_lsn(send.send(self.run, print).position) >= parse_lsn(end))
        return send.send(self.run, print)


@pytest.fixture
def receiving(stack: Stack, tmp_path: Path) -> Iterator[Receiving]:
    made = Receiving(stack, tmp_path)
    yield made
    docker("rm", "--force", made.name, check=False)
    server = database_server.connect(made.run.config, made.run.runtime)
    receiver.drop_slot(server)
    server.execute("DROP ROLE IF EXISTS lifeboat_wal;", attempted="clean up")
    server.execute("ALTER SYSTEM RESET max_slot_wal_keep_size;", attempted="clean up")


def inspected(stack: Stack) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", stack.container))
    return {key: found[key] for key in ("Id", "RestartCount", "Image", "HostConfig")} | {
        "started": found["State"]["StartedAt"]
    }


def test_nothing_of_the_stack_changes_and_what_is_acknowledged_is_sent(receiving: Receiving, stack: Stack) -> None:
    before = inspected(stack)
    facts = receiving.facts()
    rules = preflight.rules(database_server.connect(receiving.run.config, receiving.run.runtime))
    found = list(preflight.obstacles(facts, rules, receiving.run.config.wal, container=True, user=preflight.ROLE))
    assert found == [], "the official image's rule for 127.0.0.1 is enough"
    receiving.enable()
    receiving.receive()
    stack.psql("CREATE TABLE wal_test AS SELECT g, repeat('x', 500) FROM generate_series(1, 50000) g")
    stack.psql("SELECT pg_switch_wal()")
    stack.psql("INSERT INTO wal_test VALUES (0, 'last')")
    state = receiving.sent()
    assert state.gaps == ()
    (identity,) = repositories.repository_of(receiving.run).ids("wal")
    span = spans.read(repositories.repository_of(receiving.run), identity)
    assert spans.damaged(repositories.repository_of(receiving.run), span) == {}
    assert inspected(stack) == before
    stack.psql("DROP TABLE wal_test")


def test_a_restart_of_the_database_loses_nothing(receiving: Receiving, stack: Stack) -> None:
    receiving.enable()
    receiving.receive()
    stack.psql("CREATE TABLE wal_test (n int)")
    docker("kill", "--signal", "KILL", stack.container)
    stack.compose("up", "--detach", "--wait")
    stack.psql("INSERT INTO wal_test SELECT generate_series(1, 1000)")
    receiving.receive()
    assert receiving.sent().gaps == ()
    stack.psql("DROP TABLE wal_test")


def test_a_dropped_slot_is_made_again(receiving: Receiving, stack: Stack) -> None:
    receiving.enable()
    receiving.receive()
    receiving.sent()
    docker("rm", "--force", receiving.name)
    until(lambda: (slot := receiving.facts().ours) is not None and slot.pid is None)
    stack.psql("SELECT pg_drop_replication_slot('lifeboat_wal')")
    standing = continuous.status(receiving.run, receiving.sent().noted_at)  # type: ignore[arg-type]
    assert any(check.name == "wal slot" and check.result == "FAIL" for check in standing.checks)
    receiving.receive()
    assert receiving.facts().ours is not None
