# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database and its receiver that are killed under load: what was acknowledged is there, by the clients' own ledger.

`lifeboat wal enable` switches it on, its own units run, and the database's container does not notice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, cast

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import send, standing, vault
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal.archive import Archive
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import continuous
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories, sources
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import Latest
from continuous_host import Host
from postgres_stack import SUPERUSER, Stack, docker, say
from s3_faults import Call, Reply, error, faulty
from s3_servers import SeaweedFS
from test_lost_server import break_control
from test_lost_to_an_instant import LABEL, Shop, shop
from test_lost_to_an_instant import lose as lose_server
from test_standing import prepared
from test_wal import inspected, until
from test_wal_off_the_host import weed

__all__ = ["shop", "weed"]  # fixtures
IDS = "SELECT coalesce(json_agg(n), '[]') FROM public.acknowledged;"
CLIENTS, RATE = 4, 200  # transactions a second, of all of them
SEED = os.environ.get("SEED", "57")
RPO = 60.0  # seconds off the host, at the default interval


class Client(threading.Thread):
    """Writes one row after the other, and remembers those of which the server said that they are committed."""

    def __init__(self, stack: Stack, number: int) -> None:
        super().__init__(daemon=True)
        self.stack, self.number, self.acknowledged = stack, number, dict[int, float]()
        self.stopped, self.tries = threading.Event(), 0

    def run(self) -> None:
        argv = ["docker", "exec", "-i", "-e", f"PGUSER={SUPERUSER}", "-e", "PGDATABASE=postgres", self.stack.container]
        while not self.stopped.is_set():
            session = subprocess.Popen(
                [*argv, "psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, bufsize=1,
            )  # fmt: skip
            try:
                self.write(session)
            except (BrokenPipeError, ValueError):
                print(f"client {self.number}: the database is away")  # what was not answered is not acknowledged
            session.kill()
            with contextlib.suppress(BrokenPipeError):
                session.communicate()
            self.stopped.wait(0.2)

    def write(self, session: subprocess.Popen[str]) -> None:
        assert session.stdin and session.stdout
        due = time.monotonic()
        while not self.stopped.is_set():
            self.tries += 1
            row = self.tries * CLIENTS + self.number
            session.stdin.write(f"INSERT INTO acknowledged VALUES ({row}) RETURNING n;\n")
            if int(session.stdout.readline()) != row:
                raise ValueError
            self.acknowledged[row] = time.time()
            due += CLIENTS / RATE
            time.sleep(max(0.0, due - time.monotonic()))


class Clients:
    def __init__(self, stack: Stack) -> None:
        self.stack, self.all = stack, list[Client]()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        before = max((each.tries for each in self.all), default=0)
        new = [Client(self.stack, number) for number in range(CLIENTS)]
        for each in new:
            each.tries = before + 1
            each.start()
        self.all += new
        try:
            yield
        finally:
            for each in new:
                each.stopped.set()
            for each in new:
                each.join(30)
        assert not any(each.is_alive() for each in new)

    @property
    def acknowledged(self) -> dict[int, float]:
        """When each row was."""
        return {row: at for each in self.all for row, at in list(each.acknowledged.items())}


@pytest.fixture
def host(
    engine: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, weed: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Host]:  # fmt: skip
    del engine
    stack = Stack(tmp_path_factory.mktemp("project"), f"killed-{os.getpid()}", options=("fsync=on",))
    with stack.up():
        made = Host(stack, tmp_path, weed, "vault")
        made.install()
        made.enter(monkeypatch)
        try:
            yield made
        finally:
            for path in sorted(made.systemctl.run.glob("*.log")):
                print(f"--- {path.name}", path.read_text(errors="replace")[-3000:], sep="\n")
            made.systemctl.kill()
            docker("rm", "--force", made.name, check=False)


def rows(host: Host, place: str) -> set[int]:
    """Of a server that stands at the newest instant, by what is at that place alone."""
    run = host.opened()
    with standing.archive(run, sources.open_place(run, place)) as archive:
        route = archive.catalogue().route(Latest(), clock.now(), 0)
        with standing.standing(run, archive, route, print) as server:
            (ids,) = server.server.execute(IDS, database="postgres", attempted="read what is there")
    return {int(number) for number in cast("list[int]", ids)}


def killed(stack: Stack) -> None:
    docker("kill", "--signal", "KILL", stack.container)
    stack.compose("up", "--detach", "--wait", "db")


def attack(host: Host, clients: Clients) -> dict[int, float]:
    """Three kills of the database, one of the receiver and one of the process that watches it. Returns what was
    acknowledged."""
    began = time.monotonic()
    with clients.writing():
        for victim in ("database", "receiver", "database", "watch", "database", ""):
            time.sleep(7)
            if victim == "database":
                killed(host.stack)
            elif victim == "receiver":
                docker("kill", "--signal", "KILL", host.name)
            elif victim == "watch":
                os.kill(host.systemctl.process(f"{host.unit('wal')}.service"), signal.SIGKILL)
    rows = clients.acknowledged
    print(f"{len(rows)} rows were acknowledged, {len(rows) / (time.monotonic() - began):.0f} a second")
    assert len(rows) > 20 * RATE
    return rows


def lose(host: Host) -> float:
    """Nothing of the host runs any more. Returns when."""
    at = time.time()
    host.systemctl.kill()
    docker("kill", "--signal", "KILL", host.stack.container)
    docker("rm", "--force", host.name, check=False)
    return at


def test_what_was_acknowledged_is_there_whoever_is_killed(host: Host) -> None:
    stack, clients = host.stack, Clients(host.stack)
    before = inspected(stack)
    continuous.enable(host.run, print)
    assert inspected(stack) == before, "the database's container is the same, and was not started again"
    stack.psql("CREATE TABLE acknowledged (n bigint PRIMARY KEY, text text DEFAULT repeat('x', 200))")
    until(lambda: bool(sources.open_place(host.opened(), sources.VAULT).published("base")), 120)
    first = attack(host, clients)
    assert {int(row) for row in stack.psql("SELECT n FROM acknowledged")} >= {*first}
    last = max(first.values())
    until(lambda: reached_there(host) > last, RPO)
    print(f"idle: all of it off the host {time.time() - last:.1f} s after the last row")
    with clients.writing():
        time.sleep(random.Random(SEED).uniform(25, 50))  # noqa: S311 - a lot, no secret
        lost_at = lose(host)
    acknowledged = clients.acknowledged
    there = rows(host, sources.VAULT)
    assert there >= {*first}, "of what was written until it was idle nothing is missing"
    missing = {row: at for row, at in acknowledged.items() if row not in there}
    oldest = lost_at - min(missing.values(), default=lost_at)
    print(
        f"from the vault alone: {len(missing)} of {len(acknowledged)} are missing, the oldest of {oldest:.1f} s before"
    )
    assert oldest <= RPO
    send.send(host.opened(), print)
    lacks = {*acknowledged} - rows(host, sources.REPOSITORY)
    oldest = lost_at - min((acknowledged[row] for row in lacks), default=lost_at)
    print(f"with the spool, the database's disk lost: {len(lacks)} are missing, the oldest of {oldest:.3f} s before")
    assert oldest < 1, "the receiver is asynchronous: what was under way, and no more"
    stack.compose("up", "--detach", "--wait", "db")
    host.receive()
    state = host.sent()
    assert {*acknowledged} - rows(host, sources.REPOSITORY) == set(), "none of what was acknowledged"
    assert state.gaps == ()


def reached_there(host: Host) -> float:
    copied = vault.copied(host.run.config)
    return copied.reached.at.timestamp() if copied and copied.reached else 0.0


# An archive that goes away in mid-replay.


@pytest.fixture
def segmented(stack: Stack, tmp_path: Path, weed: SeaweedFS) -> Iterator[Host]:
    """With a dozen segments behind the base, here and in the vault."""
    with prepared(Host(stack, tmp_path, weed, "vault")) as made:
        made.install()
        assert copies.catch_up(made.run, log=print).failed == ()
        for _ in range(12):
            made.add()
        made.sent()
        yield made


def portrait(host: Host) -> tuple[object, ...]:
    """What a replay elsewhere must not touch."""
    sql = "SELECT pg_is_in_recovery(), timeline_id, system_identifier FROM pg_control_checkpoint(), pg_control_system()"
    state = host.stack.psql(sql)
    return inspected(host.stack), state, host.stack.psql("SELECT count(*) FROM standing"), left(host)


def left(host: Host) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"label=lifeboat.scratch={host.stack.stack}")


def test_a_repository_that_goes_away_in_mid_replay_ends_it_with_the_reason(segmented: Host) -> None:
    """By the command; and once it is back the same command stands there."""
    before = portrait(segmented)
    there, away = segmented.root / "backup/wal", segmented.root / "backup/away"
    with segmented.begin("wal", "verify", "--at", "latest") as running:
        until(lambda: bool(left(segmented)), 60)  # it unpacks the base, whose own WAL is replayed first
        there.rename(away)
        _out, err = running.communicate(timeout=120)
    print(err)
    assert running.returncode not in (0, 2)
    assert "Traceback" not in err
    assert "wal_backup_" in err, "what was read when it went away"
    assert portrait(segmented) == before
    away.rename(there)
    code, answer, _err = segmented.lifeboat("wal", "verify", "--at", "latest")
    assert (code, answer["stopped"]) == (0, "")
    assert portrait(segmented) == before


def test_a_vault_that_goes_away_in_mid_replay_ends_it_with_the_reason(segmented: Host, weed: SeaweedFS) -> None:
    before = portrait(segmented)
    handed: list[str] = []

    def fault(call: Call) -> Optional[Reply]:
        if call.method == "GET" and "/wal/" in call.key and call.key.endswith(".zst.age"):
            handed.append(call.key)
            return error(403, "AccessDenied") if len(handed) > 4 else None
        return None

    with faulty(weed, fault) as proxy:
        segmented.changes["vault"] = {**segmented.changes["vault"], "endpoint_url": proxy.url}
        segmented.configure()
        code, answer, err = segmented.lifeboat("wal", "verify", "--at", "latest", "--from", "vault")
        assert (code, "access denied (AccessDenied" in err) == (2, True)
        assert len(handed) > 4, "it was on the way"
        assert portrait(segmented) == before
        proxy.fault = lambda call: None
        code, answer, _err = segmented.lifeboat("wal", "verify", "--at", "latest", "--from", "vault")
        assert (code, answer["stopped"]) == (0, "")
    assert portrait(segmented) == before


def test_a_lost_server_whose_archive_goes_away_is_not_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is promoted, and the service does not open if it is started; the same command goes on."""
    for _ in range(8):
        shop.add(10)
    shop.sent()
    lose_server(shop, break_control)
    plan = shop.plan()
    folder = repositories.repository_of(shop.run).root / "wal"  # type: ignore[attr-defined]
    away, real, handed = folder.with_name("away"), Archive.write, list[str]()
    promoted: list[str] = []

    def write(archive: Archive, name: str, target: Path) -> bool:
        handed.append(name)
        if len(handed) == 3:
            folder.rename(away)
        return real(archive, name, target)

    with monkeypatch.context() as patched:
        patched.setattr(Archive, "write", write)
        patched.setattr(standing.Standing, "promote", lambda server: promoted.append(server.name))
        with pytest.raises(LifeboatError) as failed:
            database_protect.protect(shop.run, plan, log=say)
    print(failed.value)
    assert failed.value.exit_code not in (0, 2)
    assert promoted == []
    assert docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={shop.stack.stack}") == ""
    with contextlib.suppress(AssertionError):
        shop.stack.compose("up", "--detach", "--wait", "db")
    assert docker("inspect", "--format", "{{.State.Health.Status}}", shop.stack.container).strip() != "healthy"
    away.rename(folder)
    shop.recover()
    assert shop.rows() == 80
