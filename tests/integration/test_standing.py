# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server whose WAL is received: stood up again at any instant, in a container without a network, to the row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import format_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, NotFoundError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump as logical
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base, receiver, standing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.recoveries import RECOVERIES
from ansible_collections.lifeboat.dr.plugins.module_utils.phases.recovery import Request, Runner, State, mapping, texts
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.wal import instants as wal_instants
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest, Mark, Position
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn
from postgres_stack import Stack, docker, recover
from test_wal import Receiving

ROWS = "SELECT to_json(count(*)) FROM public.standing;"


class Protected(Receiving):
    """A stack with a base, and a table that gets a hundred rows at each of `steps`."""

    def prepare(self) -> None:
        self.enable()
        self.receive()
        self.stack.psql("CREATE TABLE standing (n int)")
        base.take(self.run, print)
        self.sent()

    def add(self) -> datetime:
        """A hundred rows more. Returns an instant at which they are there."""
        self.stack.psql("INSERT INTO standing SELECT generate_series(1, 100)")
        (after,) = self.stack.psql("SELECT clock_timestamp()::text")
        self.stack.psql("SELECT pg_switch_wal()")
        return clock.parse_time(after)

    @contextlib.contextmanager
    def at(self, instant: Instant, timeline: int = 0) -> Iterator[standing.Standing]:
        repo = repositories.repository_of(self.run)
        with standing.archive(self.run, repo) as archive:
            route = archive.catalogue().route(instant, clock.now(), timeline)
            with standing.standing(self.run, archive, route, print) as server:
                yield server

    def rows(self, instant: Instant) -> int:
        with self.at(instant) as server:
            (count,) = server.server.execute(ROWS, database="postgres", attempted="count")
        return int(str(count))


P = TypeVar("P", bound=Protected)


@contextlib.contextmanager
def prepared(made: P) -> Iterator[P]:
    try:
        made.prepare()
        yield made
    finally:
        docker("rm", "--force", made.name, check=False)
        receiver.drop_slot(database_server.connect(made.run.config, made.run.runtime))
        for sql in (
            "DROP TABLE IF EXISTS standing", "DROP ROLE IF EXISTS lifeboat_wal",
            "ALTER SYSTEM RESET max_slot_wal_keep_size",
        ):  # fmt: skip
            made.stack.psql(sql)


@pytest.fixture
def protected(stack: Stack, tmp_path: Path) -> Iterator[Protected]:
    with prepared(Protected(stack, tmp_path)) as made:
        yield made


def test_every_instant_has_the_rows_that_it_had(protected: Protected) -> None:
    times = [protected.add() for _ in range(3)]
    protected.stack.psql("INSERT INTO standing VALUES (0)")
    protected.sent()
    assert [protected.rows(At(moment)) for moment in times] == [100, 200, 300]
    assert protected.rows(Latest()) == 301
    with protected.at(At(times[0])) as server:
        assert server.reached is not None
        assert "recovery stopping before commit" in server.reached.why
        networks = docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", server.name).strip()
        assert networks == "none"
        later = At(times[2])
        with standing.archive(protected.run, repositories.repository_of(protected.run)) as archive:
            server.move(archive.catalogue().route(later, clock.now()))
        (count,) = server.server.execute(ROWS, database="postgres", attempted="count")
        assert count == 300
        server.promote()
        server.server.execute("CREATE TABLE public.written ();", database="postgres", attempted="write")


def test_the_instant_before_a_drop_is_found_and_stood_at(protected: Protected) -> None:
    protected.add()
    protected.stack.psql("DROP TABLE standing")
    protected.sent()
    since = datetime.now(timezone.utc) - timedelta(minutes=30)
    (event,) = instants.happened(protected.run, print, since=since, rows=0)
    assert (event.what, event.names) == ("DROP TABLE", ("public.standing",))
    with protected.at(Position(event.lsn)) as server:
        # Until the server is promoted, the table is locked by the transaction that dropped it.
        server.promote()
        (count,) = server.server.execute(ROWS, database="postgres", attempted="count")
    assert count == 100
    protected.stack.psql("CREATE TABLE standing (n int)")


def test_rows_that_were_deleted_are_counted(protected: Protected) -> None:
    protected.add()
    protected.stack.psql("DELETE FROM standing WHERE n <= 60")
    protected.sent()
    since = datetime.now(timezone.utc) - timedelta(minutes=30)
    for table in ("", "public.standing"):
        (event,) = instants.happened(protected.run, print, since=since, rows=50, table=table)
        assert (event.what, event.rows, event.names) == ("DELETE", 60, ("public.standing",))
    assert protected.rows(Position(event.lsn)) == 100


def test_a_table_that_was_dropped_comes_back_by_a_dump_of_the_instant_before(
    protected: Protected, tmp_path: Path
) -> None:
    """Beside the living database and by a swap, as any backup; what was written to the others since stays."""
    stack = protected.stack
    stack.psql("CREATE DATABASE standing_app")
    try:
        settings = stack.config(
            tmp_path, wal={"enabled": True, "spool_directory": str(protected.run.config.spool)},
            database={"name": "standing_app"},
        )  # fmt: skip
        stack.psql("CREATE TABLE items AS SELECT generate_series(1, 100) AS n", "standing_app")
        stack.psql("DROP TABLE items", "standing_app")
        protected.add()
        protected.sent()
        run = Opened(settings)
        events = instants.happened(run, print, since=datetime.now(timezone.utc) - timedelta(minutes=30), rows=0)
        (event,) = [event for event in events if event.names == ("public.items",) or "relation" in str(event.names)]
        manifest = instants.dump(run, Position(event.lsn), print)
        assert manifest.taken_at < event.at
        made, _protected, _done = recover(settings, identity=manifest.id)
        assert made.mode == "swap"
        assert stack.psql("SELECT count(*) FROM items", "standing_app") == ["100"]
        assert stack.psql("SELECT count(*) FROM standing") == ["100"], "written after it, in another database"
    finally:
        names = [name for name in stack.psql("SELECT datname FROM pg_database") if "standing_app" in name]
        for name in names:
            stack.psql(f'DROP DATABASE "{name}" WITH (FORCE)')


def recovered(settings: Config, options: dict[str, object]) -> State:
    """By the phases of `lifeboat recover database`, confirmed."""
    recovery, state = RECOVERIES["database"], State(Request("here", options, confirmed=True))
    runner = Runner(settings, print)
    assert runner.run(recovery.assess, state), state.error
    if state.result("plan")["needed"]:
        runner.recover(recovery, state)
    return state


@pytest.mark.parametrize("by", ["table", "time", "latest"])
def test_a_recovery_goes_to_any_instant(protected: Protected, tmp_path: Path, by: str) -> None:
    """Planned, proved, on record; the second run has nothing to do; the other databases keep what came since."""
    stack = protected.stack
    stack.psql("CREATE DATABASE standing_app")
    try:
        settings = stack.config(
            tmp_path, wal={"enabled": True, "spool_directory": str(protected.run.config.spool)},
            database={"name": "standing_app"},
        )  # fmt: skip
        run = Opened(settings)
        stack.psql("CREATE TABLE items AS SELECT generate_series(1, 100) AS n", "standing_app")
        stack.psql("CREATE TABLE stays AS SELECT 1 AS n", "standing_app")
        logical.take(run, log=print)
        base.take(run, print)
        stack.psql("INSERT INTO items SELECT generate_series(1, 11)", "standing_app")
        moment = protected.add()
        stack.psql("DROP TABLE items", "standing_app")
        protected.add()
        protected.sent()
        unnamed = State(Request("here", {}, confirmed=True))
        assert not Runner(settings, print).run(RECOVERIES["database"].assess, unnamed), "it does not guess"
        for choice in (
            "-e before=",
            "DROP TABLE public.items",
            "-e recovery_point=db_backup_",
            "-e recovery_time=latest",
        ):
            assert choice in unnamed.error
        wish: dict[str, dict[str, object]] = {
            "table": {"before": "public.items"},
            "time": {"recovery_time": format_time(moment)},
        }
        options = wish.get(by, {"recovery_time": "latest", "force": True})
        state = recovered(settings, options)
        assert (state.error, state.result("evidence")["verdict"]) == ("", PASS)
        assert "stand: base_backup_" in "\n".join(texts(state.result("plan")["text"]))
        assert mapping(state.plan["backup"])["id"] == state.result("stood")["id"]
        assert stack.psql("SELECT count(*) FROM standing") == ["200"], "written since, in another database"
        tables = stack.psql("SELECT count(*) FROM pg_class WHERE relname = 'items'", "standing_app")
        assert tables == ["0" if by == "latest" else "1"]
        if by != "latest":
            assert stack.psql("SELECT count(*) FROM items", "standing_app") == ["111"], "none of what was acknowledged"
            assert not recovered(settings, options).result("plan")["needed"]
    finally:
        names = [name for name in stack.psql("SELECT datname FROM pg_database") if "standing_app" in name]
        for name in names:
            stack.psql(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_mark_and_a_transaction_are_instants(protected: Protected) -> None:
    protected.add()
    protected.stack.psql("SELECT pg_create_restore_point('before-upgrade')")
    (xid,) = protected.stack.psql("INSERT INTO standing VALUES (0) RETURNING pg_current_xact_id()::text")
    protected.sent()
    for text in ("mark:before-upgrade", xid):
        stood = instants.stand(protected.run, wal_instants.parse_before(text), print)
        assert protected.rows(Position(parse_lsn(stood.reached.lsn))) == 100
    with pytest.raises(NotFoundError, match="it is not in the WAL"):
        instants.stand(protected.run, Mark("nosuch"), print)


def test_what_cannot_be_gone_to_is_refused_and_nothing_is_started(protected: Protected) -> None:
    protected.add()
    protected.sent()
    containers = docker("ps", "--all", "--quiet")
    known = instants.known(protected.run).catalogue.windows[0]
    for instant in (
        At(datetime.now(timezone.utc) + timedelta(days=1)), At(known.since - timedelta(days=1)),
        Position(known.until.position + (64 << 20)),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            instants.stand(protected.run, instant, print)
        assert error.value.exit_code == 2
        assert format_time(known.since) in error.value.remedy or format_time(known.until.at) in error.value.remedy
    assert docker("ps", "--all", "--quiet") == containers


def test_an_archive_that_goes_away_ends_it_and_nothing_is_promoted(
    protected: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = [protected.add() for _ in range(4)][-1]
    protected.sent()
    repo = repositories.repository_of(protected.run)
    with standing.archive(protected.run, repo) as archive:
        route = archive.catalogue().route(At(last), clock.now())
        real = archive.write
        promoted: list[str] = []

        def write(name: str, target: Path) -> bool:
            if len(promoted) > 2:
                raise LifeboatError("read the WAL", name, "the disk of the repository is gone")
            promoted.append(name)
            return real(name, target)

        monkeypatch.setattr(archive, "write", write)
        with contextlib.ExitStack() as opened, pytest.raises(LifeboatError, match="the disk of the repository is gone"):
            opened.enter_context(standing.standing(protected.run, archive, route, print))
    assert docker("ps", "--all", "--quiet", "--filter", f"label=lifeboat.scratch={protected.stack.stack}") == ""


def test_a_timeline_that_was_left_is_gone_to_by_name(protected: Protected, stack: Stack) -> None:
    """The server is promoted, as after a recovery: what it writes from then on is on a new timeline."""
    protected.add()
    protected.sent()
    before = instants.known(protected.run).catalogue.windows[-1].timeline
    docker("exec", "--user", "postgres", stack.container, "sh", "-c", "touch $PGDATA/standby.signal")
    stack.compose("restart", "db")
    stack.compose("up", "--detach", "--wait")
    stack.psql("SELECT pg_promote(true, 60)")
    protected.receive()
    after = protected.add()
    protected.sent()
    windows = instants.known(protected.run).catalogue.windows
    assert [window.timeline for window in windows] == [before, before + 1]
    assert protected.rows(At(after)) == 200
    assert protected.rows(Latest()) == 200


def test_an_image_of_another_major_is_refused(protected: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    protected.add()
    protected.sent()
    monkeypatch.setattr(images, "image_id", lambda reference: "sha256:another")
    monkeypatch.setattr(scratch, "image_major", lambda name: 16)
    with pytest.raises(UsageError, match="it is of PostgreSQL 17, and the image has 16"):
        instants.stand(protected.run, Latest(), print)
