# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiving WAL: what is in the way of it and which line allows it, how the receiver is started, what ends it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    LifeboatError,
    LockedError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.cluster import Rule
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import preflight, receiver, watch
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.preflight import Facts, RoleState, SlotState
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.receiver import Enabled, Way
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import WalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime as stack_runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import Runner, make_config

GIB = 1 << 30
SYSTEM = "7412000000000000001"
PLAIN = Facts(
    version=170012, system=SYSTEM, standby=False, superuser=True, wal_level="replica", senders=10, senders_used=0,
    slots=10, limit=-1, limit_source="default", alter_system=True, idle_timeout=0, synchronous="", segment=16 << 20,
    data="/var/lib/postgresql/data", port=5432,
)  # fmt: skip
OURS = SlotState(preflight.SLOT, "physical", False)
THEIRS = dataclasses.replace(OURS, pid=71, application="pg_receivewal", address="10.0.0.9")
UNSET = WalSettings()
ROLE = RoleState(login=True, replication=True, superuser=False)


def rule(text: str, error: str | None = None) -> Rule:
    kind, databases, users, *where, method = text.split()
    address, _, mask = where[0].partition("/") if where else ("", "", "")
    netmask = {"": None, "32": "255.255.255.255"}.get(mask, mask)
    return Rule(
        kind, tuple(databases.split(",")), tuple(users.split(",")), address or None, netmask, method, (), error, 1
    )


IMAGE = [rule("local all all trust"), rule("host all all 127.0.0.1/32 trust"),
         rule("local replication all trust"), rule("host replication all 127.0.0.1/32 trust"),
         rule("host all all all scram-sha-256")]  # fmt: skip
DEBIAN = [rule("local all postgres peer"), rule("local all all peer"), rule("local replication all peer"),
          rule("host replication all 127.0.0.1/32 scram-sha-256")]  # fmt: skip


def obstacles(
    facts: Facts = PLAIN, rules: list[Rule] = IMAGE, wal: WalSettings = UNSET, container: bool = True
) -> list[preflight.Obstacle]:
    user = preflight.ROLE if container else "postgres"
    return list(preflight.obstacles(facts, rules, wal, container=container, user=user))


def test_the_official_image_and_debians_server_are_fine() -> None:
    assert obstacles() == []
    assert obstacles(rules=DEBIAN, container=False) == []
    assert obstacles(rules=[]) == [], "an account that may not read pg_hba.conf: it is tried"
    preflight.refuse("shop", [])


# what is otherwise -> what is said of it, and the line that would allow it
WAYS: list[tuple[str, dict[str, Any], str, str]] = [
    ("too old", {"version": 130020}, "PostgreSQL 13 is too old", "upgrade the server"),
    ("a standby", {"standby": True}, "is a standby", "the primary's stack"),
    ("minimal", {"wal_level": "minimal"}, "wal_level is minimal", "wal_level = replica"),
    ("no sender", {"senders": 0}, "max_wal_senders, it is 0", "max_wal_senders = 10"),
    ("senders in use", {"senders": 10, "senders_used": 10}, "all 10 are in use", "max_wal_senders = 12"),
    ("no slot", {"slots": 0}, "max_replication_slots is 0", "max_replication_slots = 10"),
    ("18 drops it", {"idle_timeout": 30}, "idle_replication_slot_timeout is 30 s", "= 0; SELECT pg_reload_conf()"),
    ("any standby", {"synchronous": "*"}, "commits would wait", "without * and without lifeboat_wal"),
    ("first of any", {"synchronous": 'FIRST 1 ("a", *)'}, "commits would wait", "without *"),
    ("we by name", {"synchronous": "Lifeboat_WAL"}, "commits would wait", "name the standbys"),
    ("no superuser", {"superuser": False, "role": ROLE, "limit": 4096}, "may not make one",
     "pg_create_physical_replication_slot('lifeboat_wal', true)"),
    ("no role", {"superuser": False, "slot_states": (OURS,), "limit": 4096}, "no role lifeboat_wal",
     "CREATE ROLE lifeboat_wal LOGIN REPLICATION"),
    ("no limit", {"superuser": False, "slot_states": (OURS,), "role": ROLE}, "the account may not set it",
     "ALTER SYSTEM SET max_slot_wal_keep_size"),
    ("command line", {"limit_source": "command line"}, "on the server's command line", "take it out there"),
    ("no ALTER SYSTEM", {"alter_system": False}, "allow_alter_system is off", "max_slot_wal_keep_size = 4GB"),
    ("a tiny limit", {"limit": 256}, "max_slot_wal_keep_size is 256 MB", "= '2GB'"),
    ("a replica's slot", {"slot_states": (SlotState("replica", "physical", False),)}, "for replica, too", "slot_limit"),
    ("a logical slot", {"slot_states": (dataclasses.replace(OURS, kind="logical"),)}, "somebody's logical one",
     "pg_drop_replication_slot('lifeboat_wal')"),
    ("another receiver", {"slot_states": (THEIRS,)},
     "process 71 (pg_receivewal) at 10.0.0.9", "two hosts cannot share a slot"),
    ("a superuser of the name", {"role": RoleState(True, True, True)}, "is a superuser", "NOSUPERUSER"),
    ("no replication", {"role": RoleState(True, False, False)}, "may not log in for replication", "LOGIN REPLICATION"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "cause", "allow"), [case[1:] for case in WAYS], ids=[case[0] for case in WAYS])
def test_what_is_in_the_way_names_the_line_that_allows_it(change: dict[str, Any], cause: str, allow: str) -> None:
    found = obstacles(dataclasses.replace(PLAIN, **change))
    assert len(found) == 1, found
    assert cause in found[0].cause
    assert allow in found[0].allow
    with pytest.raises(UsageError) as refused:
        preflight.refuse("shop", found)
    assert found[0].allow in refused.value.remedy
    assert "Nothing was changed" in refused.value.remedy


def test_all_of_it_is_told_at_once() -> None:
    found = obstacles(dataclasses.replace(PLAIN, wal_level="minimal", senders=0), [rule("local all all trust")])
    assert [item.allow.split(" ")[0] for item in found] == ["wal_level", "max_wal_senders", "host"]


@pytest.mark.parametrize(
    "change",
    [
        {"synchronous": "replica1, replica2"},
        {"synchronous": "ANY 1 (a, b)"},
        {"slot_states": (dataclasses.replace(OURS, pid=71, application=preflight.SLOT),), "role": ROLE},
        {"slot_states": (dataclasses.replace(OURS, status="lost"),)},
        {"limit": 2048},
        {"slots": 1, "slot_states": (OURS,)},
    ],
    ids=[
        "named standbys",
        "any of two",
        "our receiver runs",
        "lost: it is made again",
        "bounded",
        "the last slot is ours",
    ],
)
def test_what_is_no_obstacle(change: dict[str, Any]) -> None:
    assert obstacles(dataclasses.replace(PLAIN, **change)) == []


def test_a_bound_that_somebody_chose_for_all_slots() -> None:
    facts = dataclasses.replace(PLAIN, slot_states=(SlotState("replica", "physical", False),))
    assert obstacles(facts, wal=WalSettings(slot_limit="16G")) == []
    assert obstacles(dataclasses.replace(PLAIN, limit=256), wal=WalSettings(slot_limit="1G")) == []


HBA = [
    ("none for replication", ["host all all 127.0.0.1/32 trust"], True, "no line for replication"),
    ("from elsewhere alone", ["host replication all 10.0.0.0/255.0.0.0 trust"], True, "no line for replication"),
    ("of others alone", ["host replication standby 127.0.0.1/32 trust"], True, "no line for replication"),
    ("a password", ["host replication all 127.0.0.1/32 scram-sha-256"], True, "scram-sha-256"),
    ("refused before", ["host replication all all reject", "host replication all 127.0.0.1/32 trust"], True, "reject"),
    ("a socket is no loopback", ["local replication all trust"], True, "no line for replication"),
    ("the image's", ["host replication all 127.0.0.1/32 trust"], True, ""),
    ("of a group: tried", ["host replication +backup 127.0.0.1/32 trust"], True, ""),
    ("by a host's name: tried", ["host replication all db.example trust"], True, ""),
    ("peer", ["local replication all peer"], False, ""),
    ("peer of another", ["local replication barman peer"], False, "no line for replication"),
    ("md5", ["local replication all md5"], False, "md5"),
]


@pytest.mark.parametrize(("rows", "container", "cause"), [case[1:] for case in HBA], ids=[case[0] for case in HBA])
def test_what_pg_hba_conf_says_of_the_receiver(rows: list[str], container: bool, cause: str) -> None:
    found = obstacles(rules=[rule(row) for row in rows], container=container)
    if not cause:
        assert found == []
        return
    assert len(found) == 1
    assert cause in found[0].cause
    line = "host replication lifeboat_wal 127.0.0.1/32 trust" if container else "local replication postgres peer"
    assert found[0].allow.startswith(line)


def test_a_line_that_the_server_does_not_understand_leaves_it_to_the_trial() -> None:
    assert obstacles(rules=[rule("local all all trust", error="bad")]) == []


@pytest.mark.parametrize(
    ("free", "setting", "limit"),
    [
        (100 * GIB, "", 16 * GIB),
        (40 * GIB, "", 10 * GIB),
        (6 * GIB, "", 2 * GIB),
        (None, "", 2 * GIB),
        (100 * GIB, "30G", 30 * GIB),
        (None, "500M", 500 << 20),
    ],
)
def test_how_much_the_slot_may_hold_back(free: int | None, setting: str, limit: int) -> None:
    assert preflight.slot_limit(free, setting) == limit


@pytest.mark.parametrize(("free", "setting"), [(2 * GIB, ""), (3 * GIB - 1, ""), (20 * GIB, "20G")])
def test_a_disk_that_the_slot_could_fill_is_refused(free: int, setting: str) -> None:
    with pytest.raises(UsageError, match="the disk of pg_wal"):
        preflight.slot_limit(free, setting)


def test_on_one_disk_the_receiver_stops_before_the_slot_has_no_room() -> None:
    assert preflight.floor(4 * GIB, shared=True) == 5 * GIB
    assert preflight.floor(4 * GIB, shared=False) == GIB
    assert preflight.spool_limit(WalSettings()) == 4 * GIB
    assert preflight.spool_limit(WalSettings(spool_limit="300M")) == 300 << 20


# The receiver's words.

CONTAINER = Way(preflight.ROLE, 5432, (70, 70), "c0ffee", "sha256:1234", "127.0.0.1")


def test_the_receiver_runs_in_the_databases_network_with_no_rights() -> None:
    words = receiver.argv("shop", CONTAINER, Path("/spool,1/x"))
    text = " ".join(words)
    assert words[:2] == ["docker", "run"]
    assert words[words.index("--network") + 1] == "container:c0ffee"
    assert words[words.index("--user") + 1] == "70:70"
    assert words[words.index("--mount") + 1] == 'type=bind,"source=/spool,1/x",target=/spool'
    assert words[words.index("--entrypoint") + 1 :][:2] == ["pg_receivewal", "sha256:1234"], "the image by its id"
    for flag in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--memory 64m", "--no-loop",
                 "--synchronous", "--slot lifeboat_wal", "--no-password", "--host 127.0.0.1",
                 "--name lifeboat-wal-shop"):  # fmt: skip
        assert flag in text
    assert "--publish" not in text
    assert "--restart" not in text, "the engine must not start it again in a network that is gone"
    assert "PGPASSWORD" not in text


def test_on_a_host_it_runs_as_the_servers_user_over_the_socket() -> None:
    words = receiver.argv("shop", Way("postgres", 5433, (105, 113)), Path("/spool"))
    assert words[:7] == ["setpriv", "--reuid", "105", "--regid", "113", "--init-groups", "--"]
    assert words[7] == "pg_receivewal"
    assert "--host" not in words
    assert words[words.index("--port") + 1] == "5433"


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1"])
def test_a_server_elsewhere_is_refused(tmp_path: Path, host: str) -> None:
    config = make_config(tmp_path, database={"name": "shop", "host": host})
    with pytest.raises(UsageError, match="the server is elsewhere"):
        receiver.refuse_elsewhere(config)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "/var/run/postgresql"])
def test_this_hosts_own_server_is_not(tmp_path: Path, host: str) -> None:
    receiver.refuse_elsewhere(make_config(tmp_path, database={"name": "shop", "host": host}))


# The trial.


def host_run(root: Path, **changes: Any) -> Opened:
    runtime = {"type": "host"}
    return Opened(
        make_config(root, runtime=runtime, wal={"enabled": True, "spool_directory": f"{root}/spool"}, **changes)
    )


def test_the_connection_is_tried_as_the_receiver_makes_it(tmp_path: Path, runner: Runner) -> None:
    runner.expect("IDENTIFY_SYSTEM", f"{SYSTEM} 1 0/15D68C50 \n")
    receiver.try_connection(host_run(tmp_path), Way("postgres", 5432, (1, 1)), PLAIN)
    assert "replication='true'" in runner.ran[0]
    assert "host=" not in runner.ran[0]


def test_a_server_that_refuses_says_which_line_lets_it_in(tmp_path: Path, runner: Runner) -> None:
    runner.expect("IDENTIFY_SYSTEM", (2, "", "psql: error: no pg_hba.conf entry for replication connection"))
    with pytest.raises(UsageError, match=r"no pg_hba\.conf entry") as refused:
        receiver.try_connection(host_run(tmp_path), Way("postgres", 5432, (1, 1)), PLAIN)
    assert "local replication postgres peer" in refused.value.remedy


def test_another_server_behind_the_address_is_refused(tmp_path: Path, runner: Runner) -> None:
    runner.expect("IDENTIFY_SYSTEM", "7000000000000000000 1 0/1 \n")
    with pytest.raises(LifeboatError, match="another server answers"):
        receiver.try_connection(host_run(tmp_path), Way("postgres", 5432, (1, 1)), PLAIN)


# The slot.


class Asked:
    """A server that records what it is asked."""

    def __init__(self, answer: list[object] | None = None) -> None:
        self.sql: list[str] = []
        self.answer = answer or []

    def execute(self, sql: str, **_: Any) -> list[object]:
        self.sql.append(sql)
        return self.answer

    def run_command(self, argv: Any, **_: Any) -> pipeline.Command:
        return pipeline.Command(list(argv))


def made(facts: Facts) -> tuple[bool, list[str], list[str]]:
    server, told = Asked(), list[str]()
    return receiver.make_slot(server, facts, told.append), server.sql, told  # type: ignore[arg-type]


def test_a_slot_is_made_where_there_is_none() -> None:
    fresh, sql, _told = made(PLAIN)
    assert fresh
    assert len(sql) == 1
    assert "pg_create_physical_replication_slot('lifeboat_wal', true)" in sql[0], "WAL is held back at once"


def test_a_slot_that_is_there_stays() -> None:
    assert made(dataclasses.replace(PLAIN, slot_states=(OURS,))) == (False, [], [])


def test_a_lost_slot_is_dropped_and_made_again() -> None:
    fresh, sql, told = made(dataclasses.replace(PLAIN, slot_states=(dataclasses.replace(OURS, status="lost"),)))
    assert fresh
    assert ["pg_drop" in sql[0], "pg_create" in sql[1]] == [True, True]
    assert "is lost" in told[0]


def test_another_receiver_is_named_and_left_alone() -> None:
    theirs = dataclasses.replace(OURS, pid=9, application="barman", address=None)
    with pytest.raises(LockedError, match=r"process 9 \(barman\) at a local socket"):
        made(dataclasses.replace(PLAIN, slot_states=(theirs,)))


def test_a_slot_is_dropped_after_its_receiver_was_ended() -> None:
    server = Asked([""])
    assert receiver.drop_slot(server)  # type: ignore[arg-type]
    assert "pg_terminate_backend" in server.sql[0]
    assert "pg_drop_replication_slot" in server.sql[1]
    assert not receiver.drop_slot(Asked())  # type: ignore[arg-type]


# The spool, and what ends the receiver.


def test_a_full_spool_is_refused_and_says_that_the_server_keeps_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "000000010000000000000001").write_bytes(b"x" * 4096)
    receiver.refuse_full(config, tmp_path, 1 << 30, 0)
    with pytest.raises(SpaceError, match="wait there to be sent") as refused:
        receiver.refuse_full(config, tmp_path, 4096, 0)
    assert "The server keeps the WAL meanwhile" in refused.value.remedy
    with pytest.raises(SpaceError, match="of at least"):
        receiver.refuse_full(config, tmp_path, 1 << 30, 1 << 60)


def test_each_server_has_a_spool_of_its_own_that_its_user_alone_reads(tmp_path: Path, narrow_umask: None) -> None:
    config = make_config(tmp_path, wal={"spool_directory": f"{tmp_path}/wal/shop"})
    owner = (os.getuid(), os.getgid())
    first = receiver.make_spool(config, SYSTEM, owner)
    second = receiver.make_spool(config, "8", owner)
    assert first.stat().st_mode & 0o777 == 0o700
    assert config.spool.stat().st_mode & 0o777 == 0o711
    assert {*receiver.spools(config)} == {first, second}
    (config.spool / "lost+found").mkdir()
    assert {*receiver.spools(config)} == {first, second}


def started(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *words])


def alone(process: int, directory: Path, limit: int, free: int) -> subprocess.Popen[bytes]:
    source = Path(watch.__file__).read_text(encoding="utf-8")
    words = [sys.executable, "-I", "-S", "-c", source, str(process), str(directory), str(limit), str(free)]
    return subprocess.Popen(words)


def test_the_watch_ends_with_the_receiver(tmp_path: Path) -> None:
    process = started([])
    waiting = alone(process.pid, tmp_path, 1 << 30, 0)
    process.kill()
    process.wait()
    assert waiting.wait(60) == watch.ENDED


@pytest.mark.parametrize(("limit", "free"), [(1, 0), (1 << 30, 1 << 62)], ids=["the limit", "the disk"])
def test_the_watch_ends_the_receiver_before_the_disk_is_full(tmp_path: Path, limit: int, free: int) -> None:
    (tmp_path / "segment").write_bytes(b"x")
    process = started([])
    try:
        assert alone(process.pid, tmp_path, limit, free).wait(60) == watch.FULL
        assert process.wait(60) != 0
    finally:
        process.kill()


def test_the_watch_knows_a_receiver_that_nobody_has_waited_for(tmp_path: Path) -> None:
    process = started([])
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watch.started(process.pid) == ""
    assert watch.watch(process.pid, str(tmp_path), 1 << 30, 0) == watch.ENDED
    process.wait()


# receive(): what the unit runs.


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A server of this host that answers, as this very user's. Returns what was started, and what may be changed."""
    found: dict[str, Any] = {"facts": PLAIN, "started": [], "server": Asked(), "exec": None}
    monkeypatch.setattr(database_server, "connect", lambda config, runtime: found["server"])
    monkeypatch.setattr(preflight, "read", lambda server: found["facts"])
    monkeypatch.setattr(receiver, "way", lambda run, server, facts: Way("postgres", 5432, (os.getuid(), os.getgid())))
    monkeypatch.setattr(receiver, "shared_disk", lambda run, facts: False)
    monkeypatch.setattr(preflight, "floor", lambda limit, shared: 0)
    monkeypatch.setattr(receiver, "start", lambda stack, route, spool: found["started"].append(spool) or 4711)

    def replaced(path: str, words: list[str]) -> None:
        found["exec"] = words
        raise SystemExit

    monkeypatch.setattr(os, "execv", replaced)
    return found


def enabled(run: Opened) -> None:
    receiver.remember(run.config, Enabled(SYSTEM, 4 * GIB))


def test_the_unit_becomes_the_watch_of_what_it_started(tmp_path: Path, world: dict[str, Any]) -> None:
    run = host_run(tmp_path)
    enabled(run)
    with pytest.raises(SystemExit):
        receiver.receive(run, lambda text: None)
    assert world["started"] == [tmp_path / "spool" / f"{SYSTEM}-0001"]
    assert world["exec"][1:4] == ["-I", "-S", "-c"]
    compile(world["exec"][4], "watch", "exec")
    assert "def watch" in world["exec"][4]
    assert world["exec"][5:] == ["4711", str(tmp_path / "spool"), str(4 * GIB), "0"]
    assert "pg_create_physical_replication_slot" in world["server"].sql[0]


def test_another_server_gets_another_spool(tmp_path: Path, world: dict[str, Any]) -> None:
    run = host_run(tmp_path)
    enabled(run)
    world["facts"] = dataclasses.replace(PLAIN, system="8000000000000000000")
    told: list[str] = []
    with pytest.raises(SystemExit):
        receiver.receive(run, told.append)
    assert world["started"] == [tmp_path / "spool" / "8000000000000000000-0001"]
    assert any("is another server" in text for text in told)
    note = receiver.enabled(run.config)
    assert note is not None
    assert note.system == "8000000000000000000"


def test_nothing_is_received_that_was_not_enabled(tmp_path: Path, world: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not enabled on this host"):
        receiver.receive(host_run(tmp_path), print)
    assert world["started"] == []
    off = Opened(make_config(tmp_path, runtime={"type": "host"}))
    enabled(off)
    with pytest.raises(UsageError, match="not enabled on this host"):
        receiver.receive(off, print)


def test_a_standby_and_a_full_spool_end_it_before_anything_starts(tmp_path: Path, world: dict[str, Any]) -> None:
    run = host_run(tmp_path)
    enabled(run)
    world["facts"] = dataclasses.replace(PLAIN, standby=True)
    with pytest.raises(UsageError, match="a standby"):
        receiver.receive(run, print)
    world["facts"] = PLAIN
    spool = receiver.make_spool(run.config, SYSTEM, (os.getuid(), os.getgid()))
    with (spool / "000000010000000000000001").open("wb") as file:
        os.truncate(file.fileno(), 5 * GIB)
    with pytest.raises(SpaceError):
        receiver.receive(run, print)
    assert world["started"] == []
    assert world["server"].sql == [], "no slot holds WAL back for a receiver that cannot start"


def test_what_enable_did_is_remembered_and_a_damaged_note_is_told(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert receiver.enabled(config) is None
    note = Enabled(SYSTEM, 1, limit_set=True, role_made=True, at="2026-12-01T00:00:00Z")
    receiver.remember(config, note)
    assert receiver.enabled(config) == note
    (config.state / "wal.json").write_text("{")
    with pytest.raises(UsageError, match="it is damaged"):
        receiver.enabled(config)
    receiver.remember(config, None)
    assert receiver.enabled(config) is None


# A container: what the engine is asked.


class Compose(stack_runtime.ComposeRuntime):
    def __init__(self) -> None:
        pass

    def state(self, service: str) -> stack_runtime.ServiceState:
        return stack_runtime.ServiceState(exists=True, running=True, id="c0ffee", image_id="sha256:1234")


@pytest.mark.parametrize("answer", ["70 70\n", "999 999"])
def test_the_way_into_a_container(tmp_path: Path, runner: Runner, answer: str) -> None:
    run = Opened(make_config(tmp_path))
    run.runtime = Compose()
    runner.expect("stat -c %u %g /var/lib/postgresql/data", answer)
    route = receiver.way(run, Asked(), PLAIN)  # type: ignore[arg-type]
    number = int(answer.split(maxsplit=1)[0])
    assert route == Way(preflight.ROLE, 5432, (number, number), "c0ffee", "sha256:1234", "127.0.0.1")


def test_an_owner_that_cannot_be_told_is_refused(tmp_path: Path, runner: Runner) -> None:
    run = Opened(make_config(tmp_path))
    run.runtime = Compose()
    runner.expect("stat", "root root")
    with pytest.raises(LifeboatError, match="its owner cannot be told"):
        receiver.way(run, Asked(), PLAIN)  # type: ignore[arg-type]


def test_an_image_without_the_program_is_refused(runner: Runner) -> None:
    runner.expect("pg_receivewal --version", (127, "", "exec: pg_receivewal: not found"))
    with pytest.raises(NotFoundError, match="not found"):
        receiver.refuse_without_tool(Asked())  # type: ignore[arg-type]


def test_a_container_that_ends_at_once_says_why(runner: Runner) -> None:
    runner.expect("^docker run", "abc")
    runner.expect("State.Pid", "0")
    runner.expect("docker logs", (0, "", "pg_receivewal: error: could not connect: connection refused"))
    with pytest.raises(LifeboatError, match="connection refused"):
        receiver.start("shop", CONTAINER, Path("/spool"))
    runner.answers.insert(0, ("State.Pid", "4711\n"))
    assert receiver.start("shop", CONTAINER, Path("/spool")) == 4711


def test_the_receiver_before_is_removed_and_its_last_words_are_told(runner: Runner) -> None:
    told: list[str] = []
    runner.expect("docker logs", (1, "", "No such container"))
    receiver.clear("shop", CONTAINER, told.append)
    assert (told, len(runner.ran)) == ([], 1)
    runner.answers.insert(0, ("docker logs", (0, "", "pg_receivewal: error: disconnected")))
    runner.expect("docker rm --force lifeboat-wal-shop")
    receiver.clear("shop", CONTAINER, told.append)
    assert told == ["the receiver before ended: pg_receivewal: error: disconnected"]
    assert runner.ran[-1] == "docker rm --force lifeboat-wal-shop"


def test_the_disks_of_the_spool_and_of_pg_wal(tmp_path: Path) -> None:
    run = host_run(tmp_path)
    (tmp_path / "pg_wal").mkdir()
    assert receiver.shared_disk(run, dataclasses.replace(PLAIN, data=str(tmp_path)))
    assert receiver.shared_disk(run, dataclasses.replace(PLAIN, data="/not/there")), "nobody knows: as if it did"
    (tmp_path / "pg_wal").rmdir()
    (tmp_path / "pg_wal").symlink_to("/proc")
    assert not receiver.shared_disk(run, dataclasses.replace(PLAIN, data=str(tmp_path)))


# The settings.


def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert not config.wal.enabled
    assert config.spool == Path("/var/lib/lifeboat-wal/shop")


@pytest.mark.parametrize(
    ("wal", "cause"),
    [
        ({"interval": 1}, "interval"),
        ({"slot_limit": "much"}, "'much' is not a number with K, M, G or T"),
        ({"spool_limit": ""}, "is not a number with K, M, G or T"),
        ({"spool_directory": "spool"}, "not a plain absolute path"),
        ({"spool_directory": "/spool"}, "below a directory"),
        ({"spool_directory": "/srv/../etc"}, "not a plain absolute path"),
        ({"spool_directory": "/srv/a,b"}, "no mount of Docker takes"),
        ({"always": True}, "does not know always"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, wal: dict[str, Any], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        make_config(tmp_path, wal=wal)


def test_a_stack_without_a_database_has_no_wal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server to receive from"):
        make_config(tmp_path, database=False, config={"enabled": True}, wal={"enabled": True})
