# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real server that is lost: it comes back from its base and its WAL, to the row, in its own data directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import IntegrityError, LifeboatError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import planned, scratch
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import dump as logical
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.physical import fill
from ansible_collections.lifeboat.dr.plugins.module_utils.database.wal import base, receiver, standing
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import instants
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import HEALTHY
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import images
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import database_mount
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.instants import At, Instant, Latest, Position
from ansible_collections.lifeboat.dr.plugins.module_utils.wal.segments import parse_lsn
from postgres_stack import IMAGE, Stack, assert_pass, docker, say
from test_lost_server import DATA, break_control, empty, forget, wipe
from test_standing import recovered
from test_wal import Receiving, until

LABEL = "lifeboat.scratch"
ROWS = "SELECT to_json(count(*)) FROM public.items;"
OPTIONS = ("max_prepared_transactions=5", "max_connections=40")


@dataclass(frozen=True)
class Recovered:
    """What the three phases returned."""

    plan: planned.Plan
    protected: database_protect.ProtectedDatabase
    done: database_recovery.Recovered


class Shop(Receiving):
    """A stack with a database of its own, whose WAL is received, and a base."""

    def prepare(self) -> None:
        self.stack.psql("CREATE DATABASE shop")
        self.stack.psql("CREATE TABLE items (n int PRIMARY KEY, text text)", "shop")
        self.stack.psql("CREATE UNLOGGED TABLE cache AS SELECT 1 AS n", "shop")
        self.stack.psql("CREATE ROLE app LOGIN PASSWORD 'of the application'")
        self.stack.psql("ALTER SYSTEM SET work_mem = '65MB'")
        self.enable()
        self.receive()
        base.take(self.run, print)
        self.sent()
        logical.take(self.run, log=say)

    def add(self, count: int = 100) -> datetime:
        """So many rows more. Returns an instant at which they are there."""
        sql = "INSERT INTO items SELECT m + i, repeat('x', 3000) FROM (SELECT coalesce(max(n), 0) m FROM items) a,"
        self.stack.psql(f"{sql} generate_series(1, {count}) i", "shop")
        (after,) = self.stack.psql("SELECT clock_timestamp()::text")
        self.stack.psql("SELECT pg_switch_wal()")
        return clock.parse_time(after)

    def received(self) -> None:
        """Wait until all that is acknowledged now is in the spool."""
        (end,) = self.stack.psql("SELECT pg_current_wal_flush_lsn()")
        until(lambda: (slot := self.facts().ours) is not None and parse_lsn(slot.restart or "0/0") >= parse_lsn(end))

    def rows(self) -> int:
        return int(self.stack.psql("SELECT count(*) FROM items", "shop")[0])

    def files(self) -> dict[str, str]:
        """Owner, group, mode and content of the settings, and of the directory."""
        names = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
        found = {}
        for name in (".", *names):
            script = f"cd {DATA} && stat -c '%U:%G %a' {name} && if [ -f {name} ]; then sha256sum {name}; fi"
            found[name] = docker("exec", self.stack.container, "sh", "-c", script)
        return found

    def lying(self) -> list[str]:
        """What lies in the data directory, and beside it."""
        path = database_mount(self.run.config, self.run.runtime).path
        return sorted(str(each) for folder in (path, path.parent) for each in folder.iterdir())

    def plan(self, instant: Optional[Instant] = None, timeline: int = 0, **request: Any) -> planned.Plan:
        if instant:
            replay = instants.replay(self.run, instant, say, timeline)
            request.update(state=instants.shown(instant, timeline), replay=replay)
        made = database_plan.make(self.run, database_plan.Request(**request), log=say)
        print("\n".join(database_plan.text(made)))
        return made

    def recover(self, **request: Any) -> Recovered:
        made = self.plan(**request)
        protected = database_protect.protect(self.run, made, log=say)
        done = database_recovery.finish(self.run, str(made.backup["id"]), log=say)
        return Recovered(made, protected, done)

    def receive_again(self) -> None:
        """As the unit does it, which starts the receiver whenever it has ended."""
        docker("rm", "--force", self.name, check=False)
        self.receive()


@pytest.fixture
def shop(engine: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Shop]:
    del engine
    stack = Stack(tmp_path_factory.mktemp("project"), f"lost-{os.getpid()}", options=OPTIONS)
    with stack.up():
        made = Shop(stack, tmp_path)
        try:
            made.prepare()
            yield made
        finally:
            docker("rm", "--force", made.name, check=False)
    forget(stack)


def lose(shop: Shop, how: Any) -> None:
    docker("rm", "--force", shop.name, check=False)
    how(shop.stack)


def gone(stack: Stack) -> None:
    """The volume, too."""
    docker("rm", "--force", "--volumes", stack.container)
    docker("volume", "rm", f"{stack.name}_data")


@pytest.mark.parametrize("how", [break_control, wipe, empty, gone])
def test_a_lost_server_has_every_row_that_was_sent(shop: Shop, how: Any) -> None:
    """To the end of its WAL, with the settings, the owner and the modes that it had, and no trace of ours."""
    before = shop.files()
    shop.add()
    shop.stack.psql("BEGIN; INSERT INTO items VALUES (9999, 'prepared'); PREPARE TRANSACTION 'it''s';", "shop")
    shop.add()
    shop.sent()
    old = instants.known(shop.run).catalogue.windows[-1]
    shop.add()
    shop.received()
    lose(shop, how)
    found = shop.recover()
    assert found.plan.physical is not None
    assert (found.plan.physical.instant, found.protected.mode, found.protected.fresh) == ("latest", "rebuild", True)
    assert found.plan.physical.spool > 0, "and what was received and not sent yet"
    assert shop.rows() == 300
    assert shop.files() == before
    assert_pass(found.done.checks, at_least=4)
    assert {item.name for item in found.done.databases} == {"shop", "postgres"}
    left = docker("exec", shop.stack.container, "ls", "-A", DATA).split()
    assert not {"standby.signal", "recovery.signal", "backup_manifest", "backup_label.old", fill.FILLING} & {*left}
    assert shop.stack.psql("SELECT setting FROM pg_settings WHERE name = 'work_mem'") == [str(65 << 10)]
    ours = "name LIKE 'recovery_target%' OR name IN ('restore_command', 'full_page_writes', 'autovacuum')"
    assert shop.stack.psql(f"SELECT name FROM pg_settings WHERE setting <> boot_val AND ({ours})") == []
    notes = "\n".join(found.done.notes)
    assert "unlogged tables are empty" in notes and "public.cache in shop" in notes
    assert "COMMIT PREPARED 'it''s'" in notes and "ROLLBACK PREPARED 'it''s'" in notes
    shop.stack.psql("COMMIT PREPARED 'it''s'", "shop")
    assert shop.rows() == 301
    assert shop.plan().condition == HEALTHY
    shop.receive_again()
    shop.sent()
    windows = instants.known(shop.run).catalogue.windows
    assert [window.timeline for window in windows] == [old.timeline, old.timeline + 1], "a new base was taken"


@pytest.mark.parametrize("by", ["nothing", "time", "table"])
def test_its_phases_prove_it_and_the_second_run_has_nothing_to_do(shop: Shop, by: str) -> None:
    """Also where the second run cannot find the instant again: it was left behind with its timeline."""
    moment = shop.add()
    shop.add(11)
    if by == "table":
        shop.stack.psql("DROP TABLE items", "shop")
    shop.sent()
    lose(shop, break_control)
    wish: dict[str, dict[str, object]] = {
        "table": {"before": "public.items"}, "time": {"recovery_time": moment.isoformat()}
    }  # fmt: skip
    options = wish.get(by, {})
    state = recovered(shop.run.config, options)
    assert (state.error, state.result("evidence")["verdict"]) == ("", PASS)
    assert str(state.result("restored")["id"]).startswith("base_backup_")
    assert shop.rows() == (100 if by == "time" else 111)
    again = recovered(shop.run.config, options)
    assert (again.error, again.result("plan")["needed"]) == ("", False)


def test_the_window_goes_on_without_a_hole(shop: Shop) -> None:
    """From the base of before the loss to an instant after it, as from the new one."""
    shop.add()
    shop.sent()
    lose(shop, break_control)
    shop.recover()
    shop.receive_again()
    after = shop.add()
    shop.sent()
    found = instants.known(shop.run).catalogue
    assert not [run.hole for run in found.runs if run.hole]
    newest = found.windows[-1]
    assert len(newest.bases) == 2, "the old base leads there, too"
    for first in newest.bases:
        with stands(shop, At(after), first.id) as server:
            (count,) = server.server.execute(
                "SELECT to_json(count(*)) FROM public.items;", database="shop", attempted="count"
            )
        assert count == 200


@contextlib.contextmanager
def stands(shop: Shop, instant: Instant, identity: str) -> Iterator[standing.Standing]:
    with standing.archive(shop.run, repositories.repository_of(shop.run)) as archive:
        way = archive.catalogue().route(instant, clock.now())
        way = replace(way, base=next(each for each in way.window.bases if each.id == identity))
        with standing.standing(shop.run, archive, way, print) as server:
            yield server


def test_it_goes_to_the_instant_that_was_named_and_the_rest_is_on_the_old_timeline(shop: Shop) -> None:
    first = shop.add()
    second = shop.add()
    shop.sent()
    lose(shop, break_control)
    assert shop.recover(instant=At(first)).plan.state
    assert shop.rows() == 100
    shop.receive_again()
    shop.add(7)
    shop.sent()
    assert shop.rows() == 107
    lose(shop, break_control)
    assert shop.recover(instant=At(second), timeline=1).plan.physical is not None
    assert shop.rows() == 200, "what was left behind is gone back to by its timeline"


def test_before_a_drop_the_table_is_there_and_not_locked(shop: Shop) -> None:
    shop.add()
    (before,) = shop.stack.psql("SELECT pg_current_wal_insert_lsn()")
    shop.stack.psql("DROP TABLE items", "shop")
    shop.sent()
    since = clock.now() - timedelta(minutes=30)
    (event,) = [
        each for each in instants.happened(shop.run, print, since=since, rows=0) if each.lsn > parse_lsn(before)
    ]
    lose(shop, break_control)
    found = shop.recover(instant=Position(event.lsn))
    assert shop.rows() == 100
    assert_pass(found.done.checks, at_least=4)


def test_a_server_that_was_only_stopped_is_only_started(shop: Shop) -> None:
    shop.add()
    shop.sent()
    docker("kill", shop.stack.container)
    made = shop.plan()
    assert made.mode == "start"
    protected = database_protect.protect(shop.run, made, log=say)
    assert (protected.mode, shop.rows()) == ("started", 100)


def test_what_cannot_be_is_refused_before_anything_is_touched(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    after = shop.add()
    shop.sent()
    lose(shop, break_control)
    there = shop.lying()
    volumes = docker("volume", "ls", "--quiet")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("it has not come yet", {"instant": At(after + timedelta(days=1))}),
        ("no base leads", {"instant": Position(1 << 20)}),
    ]
    for words, request in refused:
        with pytest.raises(UsageError) as error:
            shop.plan(**request)
        assert words in str(error.value)
        assert error.value.exit_code == 2
    with monkeypatch.context() as patched, pytest.raises(UsageError, match="and the image has 16"):
        patched.setattr(images, "image_id", lambda reference: "sha256:another")
        patched.setattr(scratch, "image_major", lambda name: 16)
        shop.plan()
    assert shop.lying() == there
    assert docker("volume", "ls", "--quiet") == volumes
    assert docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={shop.stack.stack}") == ""


def test_a_flipped_byte_of_wal_is_found_before_anything_is_touched(shop: Shop) -> None:
    shop.add()
    shop.add()
    shop.sent()
    folder = repositories.repository_of(shop.run).root / "wal"  # type: ignore[attr-defined]
    piece = sorted(folder.glob("*/*.zst"))[-2]
    piece.chmod(0o600)
    data = bytearray(piece.read_bytes())
    data[len(data) // 2] ^= 1
    piece.write_bytes(data)
    lose(shop, break_control)
    there = shop.lying()
    with pytest.raises(IntegrityError, match=r"another length or SHA-256.*before="):
        shop.plan(instant=Latest())
    assert shop.lying() == there


KILLED = ("unpack", "go", "promote", "leave", "_move_up", "start_fresh")


@pytest.mark.parametrize("moment", KILLED)
def test_wherever_it_is_killed_the_same_command_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """And whoever starts the service meanwhile finds no server that opens."""
    shop.add()
    shop.sent()
    lose(shop, break_control)
    made = shop.plan()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill(patched, moment)
        database_protect.protect(shop.run, made, log=say)
    left = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={shop.stack.stack}").split()
    if left:
        docker("rm", "--force", "--volumes", *left)  # of a run that was killed with -9; a plan removes them
    with pytest.raises(LifeboatError, match="has not ended"):
        base.take(shop.run, print)
    if moment not in ("start_fresh",):
        with contextlib.suppress(AssertionError):
            shop.stack.compose("up", "--detach", "--wait", "db")
        assert docker("inspect", "--format", "{{.State.Health.Status}}", shop.stack.container).strip() != "healthy"
    found = shop.recover()
    assert found.plan.mode == "rebuild"
    assert shop.rows() == 100
    assert_pass(found.done.checks, at_least=4)
    assert planned.resumed(shop.run.config) is None


def kill(patched: pytest.MonkeyPatch, moment: str) -> None:
    where: Any = {"_move_up": fill, "start_fresh": database_protect._FromBase}.get(moment, standing.Standing)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    patched.setattr(where, moment, killed)


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_every_major_comes_back(
    engine: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, version: int
) -> None:
    """18 keeps its data one level down what is mounted."""
    del engine
    image = IMAGE.replace(":17", f":{version}")
    if not docker("images", "--quiet", image).strip():
        pytest.skip(f"{image} is not built here")
    stack = Stack(tmp_path_factory.mktemp("project"), f"major-{os.getpid()}", image=image, options=OPTIONS)
    if version >= 18:
        stack.definition["services"]["db"]["volumes"] = ["data:/var/lib/postgresql"]
        stack.write()
    with stack.up():
        made = Shop(stack, tmp_path)
        try:
            made.prepare()
            made.add()
            made.sent()
            inside: Optional[str] = docker("exec", stack.container, "sh", "-c", "echo $PGDATA").strip()
            docker("rm", "--force", made.name, check=False)
            docker("exec", stack.container, "truncate", "-s", "0", f"{inside}/global/pg_control")
            docker("kill", stack.container)
            made.recover()
            assert made.rows() == 100
            assert receiver.enabled(made.run.config) is not None
        finally:
            docker("rm", "--force", made.name, check=False)
    forget(stack)
