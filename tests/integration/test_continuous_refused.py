# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A slot that is lost and two receivers, on a real server: what is said, what is refused by the command, what is not
touched, and what an alert is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous, instants, metrics
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Latest
from continuous_host import Host
from postgres_stack import SUPERUSER, Stack, docker
from test_standing import prepared
from test_wal import inspected, until


@pytest.fixture
def host(stack: Stack, tmp_path: Path) -> Iterator[Host]:
    with prepared(Host(stack, tmp_path)) as made:
        made.install()
        for sql in ("ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'", "SELECT pg_reload_conf()"):
            made.stack.psql(sql)  # as `wal enable` does
        yield made


def portrait(host: Host) -> tuple[object, ...]:
    """What a refusal must not touch."""
    sql = "SELECT pg_is_in_recovery(), timeline_id, system_identifier FROM pg_control_checkpoint(), pg_control_system()"
    files = {str(path): path.stat().st_size for path in (host.root / "backup").rglob("*") if path.is_file()}
    scratch = docker("ps", "--all", "--quiet", "--filter", f"label=lifeboat.scratch={host.stack.stack}")
    rows = host.stack.psql("SELECT count(*) FROM standing")
    return inspected(host.stack), host.stack.psql(sql), rows, files, scratch, docker("volume", "ls", "--quiet")


def measured(host: Host) -> dict[str, float]:
    """What the alert LifeboatWalCheckFailed is told."""
    samples = metrics.HERE["wal"](metrics.Facts(host.opened(), clock.now()))
    return {each.labels["check"]: each.value for each in samples if each.name == "lifeboat_wal_check_passed"}


def failed(host: Host) -> set[str]:
    return {check.name for check in continuous.status(host.opened(), clock.now()).checks if check.result == "FAIL"}


def lose_the_slot(host: Host) -> None:
    """Somebody drops it while nobody receives, and the server removes the WAL."""
    docker("rm", "--force", host.name)
    until(lambda: (slot := host.facts().ours) is not None and slot.pid is None)
    host.stack.psql("SELECT pg_drop_replication_slot('lifeboat_wal')")
    for _ in range(4):
        host.add()
        host.stack.psql("CHECKPOINT")


def test_a_slot_that_was_lost_leaves_a_gap_that_is_refused_and_both_sides_of_it(host: Host) -> None:
    first = host.add()
    host.sent()
    assert failed(host) == set()
    lose_the_slot(host)
    assert (measured(host)["wal slot"], failed(host)) == (0, {"wal slot"})
    inside = datetime.now(timezone.utc)
    host.receive()
    host.sent()
    assert (measured(host)["wal gaps"], measured(host)["wal base"]) == (0, 0)
    assert failed(host) == {"wal gaps", "wal base"}
    code, answer, _err = host.lifeboat("wal", "verify", "--at", "latest")
    assert (code, "no base was taken since" in answer["error"]["cause"]) == (2, True)
    base.take(host.run, print)
    last = host.add()
    host.sent()
    assert failed(host) == set()
    assert set(measured(host).values()) == {1}
    known = instants.known(host.run).catalogue.windows
    assert len(known) == 2
    before = portrait(host)
    tomorrow, yesterday = datetime.now(timezone.utc) + timedelta(days=1), known[0].since - timedelta(days=1)
    nearest = [format_time(known[0].until.at), format_time(known[1].since)]
    for moment, cause, near in [
        (inside, "it is in a gap: the WAL between was not received: the slot or the spool was lost", nearest),
        (tomorrow, "it has not come yet", [format_time(known[1].until.at)]),
        (yesterday, "it is before all that can be gone back to", [format_time(known[0].since)]),
    ]:
        commands = [
            ("wal", "verify", "--at", format_time(moment)),
            ("wal", "dump", "--at", format_time(moment)),
            ("recover", "database", "--recovery-time", format_time(moment), "--confirm", socket.gethostname()),
        ]
        for words in commands:
            code, answer, _err = host.lifeboat(*words)
            if moment == yesterday and words[0] == "recover":
                continue  # of a time before the window a dump is taken, and there is none: said by another test
            assert code == 2, answer
            assert cause in answer["error"]["cause"]
            for each in near:
                assert each in answer["error"]["remedy"]
            assert portrait(host) == before
    assert [host.rows(instant) for instant in (At(first), At(last), Latest())] == [100, 600, 600]


def test_of_two_receivers_the_second_is_refused_and_named(host: Host) -> None:
    docker("rm", "--force", host.name)
    until(lambda: (slot := host.facts().ours) is not None and slot.pid is None)
    words = ["--no-loop", "--slot", "lifeboat_wal", "--username", SUPERUSER, "--directory", "/tmp"]
    docker("exec", "--detach", host.stack.container, "pg_receivewal", *words)
    try:
        until(lambda: (slot := host.facts().ours) is not None and bool(slot.theirs))
        before = portrait(host)
        code, answer, _err = host.lifeboat("wal", "receive")
        assert (code, answer["error"]["cause"].startswith("another receiver has it: process ")) == (4, True)
        assert "pg_receivewal" in answer["error"]["cause"]
        assert "Two hosts cannot share a slot" in answer["error"]["remedy"]
        assert (measured(host)["wal receiver"], "wal receiver" in failed(host)) == (0, True)
        assert portrait(host) == before
        assert host.facts().ours is not None
    finally:
        docker("exec", host.stack.container, "pkill", "pg_receivewal", check=False)
        sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL"
        host.stack.psql(sql)
    until(lambda: (slot := host.facts().ours) is not None and slot.pid is None)
    host.receive()
    host.add()
    assert host.sent().gaps == ()
