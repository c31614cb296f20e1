# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The acting phases on a stack made of a directory: what is moved, in which order, and what is never deleted."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import clients, cluster, logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import fingerprint as database_fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.database import protect as database_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.clients import Client
from ansible_collections.lifeboat.dr.plugins.module_utils.database.methods.logical import restore as database_restore
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Made, Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import backup as operations_backup
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect as recovery_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import reopen
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import EndpointCheck
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import answer as stack_answer
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from builders import NOW, PLAN, Runner, fingerprint, folder, make_config, publish


class Listening:
    """A server that answers. `addresses`: where it listens."""

    addresses = "*"

    def execute(self, sql: str, **_: Any) -> list[object]:
        return [self.addresses]

    def living(self) -> list[database_server.Living]:
        return [database_server.Living(name, True, False) for name in ("postgres", "shop")]


SERVER: Any = Listening()
UP = ServiceState(exists=True, running=True, status="running")
CRASHED = ServiceState(exists=True, status="exited", exit_code=1)


class Stack:
    """A stack that keeps a diary. `comes_up`: whether its server answers once it was started."""

    def __init__(self, mount: DataMount, comes_up: bool = True) -> None:
        self.mount = mount
        self.comes_up = comes_up
        self.up = False
        self.diary: list[str] = []
        self.log = "PANIC:  could not locate a valid checkpoint record"
        self.fresh_answers = True
        self.closed: list[logins.Closed] = []

    def state(self, service: str) -> ServiceState:
        return UP if self.up else CRASHED

    def start(self, services: Any, *, timeout: float) -> None:
        self.diary.append(f"start {' '.join(services)}")
        self.up = self.comes_up or (self.fresh_answers and "initialise" in " ".join(self.diary))

    def stop(self, services: Any, *, timeout: float) -> None:
        self.diary.append(f"stop {' '.join(services)}")

    def discard(self, service: str, *, timeout: float) -> None:
        self.diary.append(f"discard {service}")

    def end(self, containers: Any, *, timeout: float) -> None:
        self.diary.append(f"end {' '.join(containers)}")

    def initialise(self, service: str, path: str, superuser: str) -> None:
        self.diary.append(f"initialise {path} for {superuser}")

    def data_path(self, service: str) -> str:
        return "/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount

    def by_hand(self, service: str) -> tuple[str, str]:
        return f"stop {service}", "start all"

    def logs(self, service: str, lines: int = 30) -> str:
        return self.log


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "it's data"
    path.mkdir(mode=0o700)
    (path / "PG_VERSION").write_text("17")
    (path / "global").mkdir()
    (path / "global" / "pg_control").write_bytes(bytes(8192))
    return path


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, data: Path) -> Stack:
    stack = Stack(DataMount("bind", str(data), data))
    monkeypatch.setattr(runtime, "connect", lambda config: stack)
    monkeypatch.setattr(database_server, "reach", lambda run: Reached(SERVER if stack.up else None, "it is down"))
    monkeypatch.setattr(database_server, "connect", lambda config, runtime: SERVER)
    monkeypatch.setattr(recovery_protect, "PATIENCE_WHEN_EXITED", -1.0)
    monkeypatch.setattr(recovery_protect.time, "sleep", lambda _: None)

    def close(config: Any, server: Any, wanted: logins.Closed, *, log: Any) -> list[Client]:
        assert stack.up or stack.diary == ["stop backend worker"] or "end" in stack.diary[0], "of a server that answers"
        stack.closed.append(wanted)
        return [Client(7, "shop", "app", "psql", "172.20.0.9", "idle", "2026-11-24T02:00:00Z")]

    monkeypatch.setattr(clients, "shut_out", close)
    return stack


def protect(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    done = database_protect.protect(Opened(make_config(tmp_path)), replace(PLAN, **changes), log=lambda _: None)
    return dict(typed.plain(done))


def assess_as(monkeypatch: pytest.MonkeyPatch, condition: str, unchecked: tuple[str, ...] = ()) -> None:
    monkeypatch.setattr(
        database_assess,
        "assess",
        lambda config, reference: database_assess.Assessment(
            condition, ("why",), "", unchecked, damaged=("shop",) if condition == recovery_state.DAMAGED else ()
        ),
    )


def test_swap_stops_the_writers_and_nothing_else(tmp_path: Path, world: Stack, data: Path) -> None:
    done = protect(tmp_path)
    assert (done["mode"], done["fresh"], done["quarantine"]) == ("swap", False, "")
    assert world.diary == ["stop backend worker"]
    assert world.closed == [logins.Closed(("shop",), False, True)], "as found: nobody can look at it until it is open"
    assert done["notes"] == [
        "ended the session of app at 172.20.0.9 (psql), connected to shop, since 2026-11-24T02:00:00Z, idle"
    ]
    assert (data / "PG_VERSION").exists()
    assert recovery_state.stopped(make_config(tmp_path)) == ["backend", "worker"], (
        "remembered, lest a kill leave them stopped"
    )
    assert not (tmp_path / "state" / recovery_state.RECOVERING).exists(), (
        "the live database lives on: it may be backed up"
    )


def test_containers_of_compose_run_are_stopped_with_the_writers(tmp_path: Path, world: Stack) -> None:
    done = protect(tmp_path, one_offs=("shop-seed-run-1",))
    assert world.diary == ["end shop-seed-run-1", "stop backend worker"]
    assert done["stopped"] == ["backend", "worker", "shop-seed-run-1"]
    assert recovery_state.stopped(make_config(tmp_path)) == ["backend", "worker"], "no service: it is not started again"


def test_rebuild_moves_the_data_aside_and_deletes_nothing(tmp_path: Path, world: Stack, data: Path) -> None:
    done = protect(tmp_path, mode="rebuild")
    aside = data.with_name("it's data.quarantine_S")
    empty = "the database is the empty one of a fresh server"
    assert world.closed == [logins.Closed(("shop",), True, True, (empty,))]
    assert (done["mode"], done["fresh"], done["quarantine"]) == ("rebuild", True, str(aside))
    assert (aside / "PG_VERSION").read_text() == "17"
    assert list(data.iterdir()) == []
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data.stat().st_uid, data.stat().st_gid) == (os.getuid(), os.getgid())
    assert world.diary == ["stop backend worker", "discard db", f"initialise {data} for postgres", "start db"]
    quoted = "'\"'\"'".join(str(data).split("'"))
    assert done["way_back"] == [
        "stop db", f"mv '{quoted}' '{quoted}.recovered'", f"mv '{quoted}.quarantine_S' '{quoted}'", "start all",
    ]  # fmt: skip
    assert (tmp_path / "state" / recovery_state.RECOVERING).exists(), (
        "no backup of an empty server may become the newest good one"
    )


def test_the_data_directory_may_be_filled_before_the_fresh_server_starts(
    tmp_path: Path, world: Stack, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a method that brings the whole server back: what was there is aside already, and nothing is initialised."""

    def fill(_: object, mount: DataMount) -> None:
        assert (list(mount.path.iterdir()), data.with_name("it's data.quarantine_S").is_dir()) == ([], True)
        (mount.path / "PG_VERSION").write_text("17")
        world.diary.append("fill it")

    monkeypatch.setattr(database_protect._Protection, "fill", fill)
    protect(tmp_path, mode="rebuild")
    assert world.diary == ["stop backend worker", "discard db", "fill it", "start db"]


@pytest.mark.parametrize(
    ("addresses", "looks"), [("*", 0), ("localhost, 10.0.0.5", 0), ("", 4), ("127.0.0.1,::1", 4), ("localhost", 4)]
)
def test_a_server_with_which_an_image_initialises_is_watched_until_it_stays(
    tmp_path: Path, world: Stack, monkeypatch: pytest.MonkeyPatch, addresses: str, looks: int
) -> None:
    """It listens to its socket or to the loopback alone, and makes room for the real one after it has answered."""
    slept: list[float] = []
    monkeypatch.setattr(recovery_protect.time, "sleep", slept.append)
    monkeypatch.setattr(Listening, "addresses", addresses)
    assert protect(tmp_path, mode="rebuild")["fresh"] is True
    assert len(slept) == looks


def test_the_way_back_works(tmp_path: Path, world: Stack, data: Path) -> None:
    done = protect(tmp_path, mode="rebuild")
    (data / "fresh").touch()
    for command in done["way_back"][1:3]:
        subprocess.run(["sh", "-c", command], check=True)
    assert sorted(path.name for path in data.iterdir()) == ["PG_VERSION", "global"]
    assert [path.name for path in Path(f"{data}.recovered").iterdir()] == ["fresh"]


def test_a_volume_is_quarantined_as_a_volume(tmp_path: Path, world: Stack, data: Path, runner: Runner) -> None:
    other = tmp_path / "volumes" / "quarantine"
    other.mkdir(parents=True)
    world.mount = DataMount("volume", "shop_data", data)
    runner.expect("^docker volume ls .*lifeboat.quarantine=shop$", "")
    runner.expect(
        "^docker volume create --label lifeboat.quarantine=shop shop_data_quarantine_S$", "shop_data_quarantine_S\n"
    )
    runner.expect("^docker volume inspect .* shop_data_quarantine_S$", f"{other}\n")
    done = protect(tmp_path, mode="rebuild")
    assert done["quarantine"] == str(other)
    assert (other / "PG_VERSION").exists()
    assert list(data.iterdir()) == []


def test_what_a_killed_run_left_without_data_is_removed_first(
    tmp_path: Path, world: Stack, data: Path, runner: Runner
) -> None:
    """One was killed before the rmdir in the new volume, one after it, one while a container looked at it."""
    names = [f"shop_data_quarantine_{name}" for name in ("before", "after", "used", "full")]
    places = {name: tmp_path / "volumes" / name for name in [*names, "shop_data_quarantine_S", "wiki_quarantine_S"]}
    for name, place in places.items():
        if not name.endswith("after"):
            place.mkdir(parents=True)
    (places[names[3]] / "PG_VERSION").touch()
    world.mount = DataMount("volume", "shop_data", data)
    runner.expect("^docker volume ls .*lifeboat.quarantine=shop$", "\n".join([*names, "wiki_quarantine_S"]))
    for name in names[:2]:
        runner.expect(f"^docker volume rm {name}$")
    runner.expect(f"^docker volume rm {names[2]}$", (1, "", "volume is in use"))
    runner.expect("^docker volume create .* shop_data_quarantine_S$", "shop_data_quarantine_S\n")
    runner.expect("^docker volume inspect .*}} shop_data_quarantine_S$", f"{places['shop_data_quarantine_S']}\n")
    listed = "\n".join(f"{name} {place}" for name, place in places.items() if name != "shop_data_quarantine_S")
    runner.expect("^docker volume inspect .*{{.Name}}", listed)
    done = protect(tmp_path, mode="rebuild")
    assert done["quarantine"] == str(places["shop_data_quarantine_S"])
    assert [command for command in runner.ran if "volume rm" in command] == [
        f"docker volume rm {name}" for name in names[:3]
    ]


def test_a_volume_that_is_gone_needs_no_quarantine(tmp_path: Path, world: Stack) -> None:
    world.mount = DataMount("volume", "gone", Path())
    done = protect(tmp_path, mode="rebuild")
    assert (done["mode"], done["fresh"], done["quarantine"], done["way_back"]) == ("rebuild", True, "", [])


def test_data_that_cannot_be_moved_stays_and_says_so(tmp_path: Path, world: Stack, data: Path) -> None:
    (data.with_name("it's data.quarantine_S")).mkdir()
    (data.with_name("it's data.quarantine_S") / "earlier").touch()
    with pytest.raises(LifeboatError, match=r"Directory not empty.*by hand"):
        protect(tmp_path, mode="rebuild")
    assert (data / "PG_VERSION").exists()
    assert "start db" not in world.diary


def test_a_server_that_comes_up_whole_is_not_restored(
    tmp_path: Path, world: Stack, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assess_as(monkeypatch, recovery_state.HEALTHY)
    done = protect(tmp_path, mode="start")
    assert (done["mode"], done["fresh"]) == ("started", False)
    assert done["checks"][0]["result"] == checks.PASS
    assert world.diary == ["stop backend worker", "start db"]
    assert (world.closed, done["notes"]) == ([], []), "nothing is replaced"
    assert not (tmp_path / "state" / recovery_state.RECOVERING).exists()
    assess_as(monkeypatch, recovery_state.HEALTHY, ("public.t was not read",))
    assert protect(tmp_path, mode="start")["checks"][0]["result"] == checks.COULD_NOT_VERIFY


@pytest.mark.parametrize("size", [None, 0, 255])
def test_a_server_without_a_control_file_is_not_even_started(
    tmp_path: Path, world: Stack, data: Path, size: Optional[int]
) -> None:
    control = data / "global" / "pg_control"
    control.unlink()
    if size is not None:
        control.write_bytes(bytes(size))
    done = protect(tmp_path, mode="start")
    assert (done["mode"], done["fresh"]) == ("rebuild", True)
    assert world.diary[:2] == ["stop backend worker", "discard db"]


def test_a_server_without_any_data_is_started_as_ever(
    tmp_path: Path, world: Stack, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image initialises an empty directory: whether that is right is seen afterwards."""
    assess_as(monkeypatch, recovery_state.HEALTHY)
    control = data / "global" / "pg_control"
    control.unlink()
    control.symlink_to("/in/the/container")
    assert protect(tmp_path, mode="start")["mode"] == "started", "a link leads where we do not see"
    control.unlink()
    (data / "PG_VERSION").unlink()
    assert protect(tmp_path, mode="start")["mode"] == "started"
    monkeypatch.chdir(data)
    (data / "PG_VERSION").write_text("17")
    world.mount = DataMount("volume", "gone", Path())
    assert protect(tmp_path, mode="start")["mode"] == "started", "of a volume that is gone nothing is known"


STARTS = [
    (recovery_state.HEALTHY, True, "swap", "another state of it was asked for"),
    (recovery_state.DAMAGED, False, "swap", "damaged: it is restored beside"),
    (recovery_state.DOWN, False, "rebuild", "gone again while it was looked at"),
]


@pytest.mark.parametrize(("condition", "asked", "mode", "why"), STARTS)
def test_a_server_that_comes_up_otherwise(
    tmp_path: Path, world: Stack, monkeypatch: pytest.MonkeyPatch, condition: str, asked: bool, mode: str, why: str
) -> None:
    assess_as(monkeypatch, condition)
    done = protect(tmp_path, mode="start", asked=asked)
    assert (done["mode"], done["fresh"]) == (mode, mode == "rebuild"), why
    assert (tmp_path / "state" / recovery_state.RECOVERING).exists()
    (shut,) = world.closed
    assert (shut.fresh, shut.damaged) == (mode == "rebuild", condition != recovery_state.HEALTHY), "as seen when it ran"


def test_the_temporary_server_of_an_image_is_not_taken_for_one_that_fails(
    tmp_path: Path, world: Stack, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emptied directory is initialised by a server that answers, stops, and makes room for the real one."""
    conditions = [recovery_state.DOWN, recovery_state.DAMAGED]
    monkeypatch.setattr(
        database_assess,
        "assess",
        lambda *_: database_assess.Assessment(conditions.pop(0), ("why",), "", damaged=("shop",)),
    )
    done = protect(tmp_path, mode="start")
    assert (done["mode"], done["fresh"], conditions) == ("swap", False, [])
    assert (data / "PG_VERSION").exists(), "nothing was put aside"


@pytest.mark.parametrize(("settled", "looks"), [([False, True], 2), ([True], 1)])
def test_what_the_temporary_server_lacks_is_looked_for_in_the_real_one(
    tmp_path: Path, world: Stack, monkeypatch: pytest.MonkeyPatch, settled: list[bool], looks: int
) -> None:
    """It may answer long enough to be found damaged. A real one is not read twice."""
    seen: list[str] = []

    def assess(*_: Any) -> database_assess.Assessment:
        seen.append("look")
        return database_assess.Assessment(recovery_state.DAMAGED, ("why",), "", damaged=("shop",))

    monkeypatch.setattr(database_assess, "assess", assess)
    monkeypatch.setattr(database_protect._Protection, "settled", lambda _: settled.pop(0))
    assert protect(tmp_path, mode="start")["mode"] == "swap"
    assert (len(seen), settled) == (looks, [])


def test_a_server_that_does_not_come_up_is_rebuilt(tmp_path: Path, world: Stack, data: Path) -> None:
    world.comes_up = False
    done = protect(tmp_path, mode="start")
    assert (done["mode"], done["fresh"]) == ("rebuild", True)
    assert world.diary[:3] == ["stop backend worker", "start db", "discard db"]


def test_a_server_that_only_refuses_us_is_never_rebuilt(
    tmp_path: Path, world: Stack, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.comes_up = False
    monkeypatch.setattr(database_server, "reach", lambda *_: Reached(None, 'role "app" does not exist', True))
    with pytest.raises(UsageError, match=r'role "app" does not exist.*method=rebuild'):
        protect(tmp_path, mode="start")
    assert (data / "PG_VERSION").exists()


def test_a_fresh_server_that_does_not_start_tells_its_last_words(tmp_path: Path, world: Stack, data: Path) -> None:
    world.comes_up = world.fresh_answers = False
    with pytest.raises(LifeboatError, match=r"it last said: PANIC:  could not locate"):
        protect(tmp_path, mode="rebuild")
    assert (data.with_name("it's data.quarantine_S") / "PG_VERSION").exists()


def test_a_recovery_that_only_has_to_reopen_touches_nothing(tmp_path: Path, world: Stack) -> None:
    done = protect(tmp_path, mode="reopen")
    assert (done["mode"], world.diary) == ("started", [])
    assert done["checks"][0]["result"] == checks.PASS
    assert protect(tmp_path, mode="reopen", unchecked=("x",))["checks"][0]["result"] == checks.COULD_NOT_VERIFY


@pytest.mark.parametrize("condition", [recovery_state.HEALTHY, recovery_state.DAMAGED])
def test_what_a_killed_recovery_closed_is_opened_and_looked_at(
    tmp_path: Path, world: Stack, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    """The plan could not look into it, so its "not checked" is no longer true."""
    opened: list[str] = []
    monkeypatch.setattr(logins, "reopen", lambda run, log: opened.append("opened"))
    assess_as(monkeypatch, condition)
    recovery_state.mark(make_config(tmp_path), logins.CLOSED)
    if condition == recovery_state.HEALTHY:
        done = protect(tmp_path, mode="reopen", unchecked=("shop is closed",))
        assert (done["mode"], done["checks"][0]["result"], world.diary) == ("started", checks.PASS, [])
    else:
        with pytest.raises(LifeboatError, match=r"shop\): why. Run the same command again"):
            protect(tmp_path, mode="reopen")
    assert opened == ["opened"]


# --- restore beside, prove, swap ---


class Server:
    version_num = 170012
    user, configured = "postgres", None

    def __init__(self, diary: list[str], names: list[str], left: list[str]) -> None:
        self.diary = diary
        self.names = names
        self.made = Made()
        for name in left:
            self.made.add(name)

    def kept_open(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def reap(self, *_: Any) -> int:
        self.diary.append("reap")
        return 0

    def databases(self) -> list[str]:
        return list(self.names)

    def living(self) -> list[database_server.Living]:
        return [database_server.Living(name, True, False) for name in self.names]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, world: Stack) -> dict[str, Any]:
    """The steps of a restore, each of which may fail or find a difference."""
    diary: list[str] = []
    found: dict[str, Any] = {
        "diary": diary,
        "fail": "",
        "checks": [checks.Check("tables", checks.PASS, "")],
        "names": ["shop"],
        "left": [],
        "untouched": True,
    }

    def step(name: str, answer: Any = None) -> Any:
        def run(*arguments: Any, **_: Any) -> Any:
            words = [str(argument) for argument in arguments if isinstance(argument, str)]
            diary.append(" ".join([name, *words]))
            if found["fail"] == name:
                raise LifeboatError(name, "shop", f"{name} failed")
            return answer() if callable(answer) else answer

        return run

    monkeypatch.setattr(database_server, "connect", lambda config, stack: Server(diary, found["names"], found["left"]))
    monkeypatch.setattr(database_restore, "exists", lambda server, name: name in found["names"])
    monkeypatch.setattr(database_restore, "roles", step("roles", ["app"]))
    monkeypatch.setattr(database_restore, "role_passwords", lambda *_, **__: ([], []))
    monkeypatch.setattr(cluster, "staying", lambda *_: [])
    monkeypatch.setattr(database_restore, "database", step("restore"))
    monkeypatch.setattr(database_restore, "compare", step("compare", lambda: list(found["checks"])))
    monkeypatch.setattr(database_restore, "analyze", step("analyze"))
    monkeypatch.setattr(database_restore, "swap", step("swap", "shop_quarantine_S"))
    monkeypatch.setattr(database_restore, "untouched", lambda *_: found["untouched"])
    monkeypatch.setattr(database_server, "drop", step("drop"))
    monkeypatch.setattr(database_restore, "refresh_collations", step("collations", []))
    return found


def recover(tmp_path: Path, **options: Any) -> database_recovery.Recovered:
    one = publish(tmp_path)
    plain = {"fresh": False, "stamp": "20261124_020000", "log": lambda _: None}
    return database_recovery.restore_database(Opened(make_config(tmp_path)), one.id, **{**plain, **options})


def test_restore_proves_before_it_swaps(tmp_path: Path, server: dict[str, Any]) -> None:
    settings = make_config(tmp_path)
    settings.state.mkdir()
    (settings.state / recovery_state.RECOVERING).touch()
    done = recover(tmp_path, asked="2026-11-24T11:00:00+09:00")
    server["diary"][3:5] = sorted(server["diary"][3:5], reverse=True)  # at the same time
    assert server["diary"] == [
        "reap", "roles", "restore shop_restore_20261124_020000", "compare shop_restore_20261124_020000",
        "analyze shop_restore_20261124_020000", "swap shop shop_restore_20261124_020000 20261124_020000", "collations",
    ]  # fmt: skip
    assert (done.quarantined_database, done.roles) == ("shop_quarantine_S", ("app",))
    assert [check.name for check in done.checks] == ["checksums", "tables"]
    assert set(done.seconds) == {"restore", "verify", "swap"}
    last = recovery_state.recovered(settings)
    assert last is not None
    assert (last.id, last.requested) == (done.id, "2026-11-24T02:00:00.000Z")
    assert not (settings.state / recovery_state.RECOVERING).exists()


def test_on_a_fresh_server_the_empty_database_is_dropped_after_the_swap(tmp_path: Path, server: dict[str, Any]) -> None:
    done = recover(tmp_path, fresh=True)
    assert server["diary"][-2:] == ["drop shop_quarantine_S", "collations"]
    assert done.quarantined_database == ""


def test_the_empty_database_is_dropped_while_the_application_runs_already(
    tmp_path: Path, server: dict[str, Any]
) -> None:
    later: list[Any] = []
    done = recover(tmp_path, fresh=True, wanted=database_recovery.Wanted(later=later))
    assert (server["diary"][-1], done.quarantined_database) == ("collations", ""), "not while the application waits"
    (drop,) = later
    drop()
    assert server["diary"][-1] == "drop shop_quarantine_S"


def test_on_a_fresh_server_what_a_client_wrote_before_we_closed_it_is_kept(
    tmp_path: Path, server: dict[str, Any]
) -> None:
    server["untouched"] = False
    assert recover(tmp_path, fresh=True).quarantined_database == "shop_quarantine_S"
    assert not [entry for entry in server["diary"] if entry.startswith("drop")]


@pytest.mark.parametrize("step", ["restore", "compare", "analyze"])
def test_what_fails_beside_is_dropped_and_the_live_database_untouched(
    tmp_path: Path, server: dict[str, Any], step: str
) -> None:
    server["fail"] = step
    with pytest.raises(LifeboatError, match=f"{step} failed"):
        recover(tmp_path)
    assert server["diary"][-2:] == ["reap", "drop shop_restore_20261124_020000"]
    assert not [entry for entry in server["diary"] if entry.startswith("swap")]
    assert recovery_state.recovered(make_config(tmp_path)) is None


def test_a_difference_is_an_error_before_the_swap(tmp_path: Path, server: dict[str, Any]) -> None:
    server["checks"] = [checks.Check("tables", checks.FAIL, "public.t differs"), checks.Check("roles", checks.PASS)]
    with pytest.raises(IntegrityError, match=r"tables: public.t differs. shop is untouched"):
        recover(tmp_path)
    assert server["diary"][-1] == "drop shop_restore_20261124_020000"


def test_an_accepted_difference_is_let_through_and_stays_a_failed_check(tmp_path: Path, server: dict[str, Any]) -> None:
    server["checks"] = [checks.Check("tables", checks.FAIL, "public.t differs")]
    with pytest.raises(IntegrityError, match="-e recovery_point=db_backup_20261124_120000 -e accept=failed"):
        recover(tmp_path)
    done = accepting(tmp_path)
    assert [check.result for check in done.checks] == [checks.PASS, checks.FAIL]
    assert done.quarantined_database == "shop_quarantine_S"
    assert server["diary"][-2:] == ["swap shop shop_restore_20261124_020000 20261124_020000", "collations"]


def damaged(tmp_path: Path) -> None:
    path = folder(tmp_path, publish(tmp_path)) / "database.dump"
    path.write_bytes(b"X" * path.stat().st_size)


def accepting(tmp_path: Path) -> database_recovery.Recovered:
    return database_recovery.restore_database(
        Opened(make_config(tmp_path)),
        "db_backup_20261124_120000",
        fresh=False,
        stamp="20261124_020000",
        accept=True,
        log=len,
    )


def test_accepted_bytes_are_tried_and_stay_a_failed_check(tmp_path: Path, server: dict[str, Any]) -> None:
    damaged(tmp_path)
    assert [check.result for check in accepting(tmp_path).checks] == [checks.FAIL, checks.PASS]


def test_what_cannot_be_restored_at_all_ends_an_accepted_recovery_too(tmp_path: Path, server: dict[str, Any]) -> None:
    damaged(tmp_path)
    server["fail"] = "restore"
    with pytest.raises(LifeboatError, match="restore failed"):
        accepting(tmp_path)
    assert server["diary"][-2:] == ["reap", "drop shop_restore_20261124_020000"]
    assert recovery_state.recovered(make_config(tmp_path)) is None


@pytest.mark.parametrize("error", [EOFError("cut"), gzip.BadGzipFile("CRC"), zlib.error("-3")])
def test_accepted_bytes_that_cannot_be_read_are_an_error_with_a_cause(
    tmp_path: Path, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def roles(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(database_restore, "roles", roles)
    damaged(tmp_path)
    with pytest.raises(IntegrityError, match=rf"database\.dump has another SHA-256 .*; it cannot be read: .*{error}"):
        accepting(tmp_path)
    assert not [entry for entry in server["diary"] if entry.startswith("swap")]


def test_what_could_not_be_compared_does_not_stop_a_recovery(tmp_path: Path, server: dict[str, Any]) -> None:
    """Into a newer major definitions print otherwise: the evidence says so, and the data is back."""
    server["checks"].append(checks.Check("schema", checks.COULD_NOT_VERIFY, "majors"))
    assert recover(tmp_path).checks[-1].result == checks.COULD_NOT_VERIFY


def test_a_failed_role_stops_before_a_database_is_made(tmp_path: Path, server: dict[str, Any]) -> None:
    server["fail"] = "roles"
    with pytest.raises(LifeboatError, match="roles failed"):
        recover(tmp_path)
    assert server["diary"] == ["reap", "roles"]


LEFT = [
    (["shop_restore_20250101_000000", "shop_restore_20261124_010000", "語" * 13 + "_restore_20261124_010000"], True),
    (["shop_quarantine_20261124_010000", "lifeboat_any_bytes_1234abcd"], False),
]


@pytest.mark.parametrize(("left", "dropped"), LEFT)
def test_only_what_a_killed_run_left_is_dropped(
    tmp_path: Path, server: dict[str, Any], left: list[str], dropped: bool
) -> None:
    server["left"], server["names"] = left, ["shop", "shop_restore_20240101_010000", *left]  # the second is somebody's
    one = publish(tmp_path)
    settings = make_config(tmp_path, database={"name": "shop"})
    database_recovery.restore_database(
        Opened(settings), one.id, fresh=False, stamp="20261124_020000", log=lambda _: None
    )
    assert [each for each in server["diary"] if each.startswith("drop")] == [f"drop {each}" for each in left if dropped]


def test_a_backup_that_was_damaged_meanwhile_is_not_used(tmp_path: Path, server: dict[str, Any]) -> None:
    one = publish(tmp_path)
    (folder(tmp_path, one) / "database.dump").write_bytes(b"DUMP")
    with pytest.raises(IntegrityError, match="another SHA-256"):
        database_recovery.restore_database(
            Opened(make_config(tmp_path)), one.id, fresh=False, stamp="S", log=lambda _: None
        )
    assert server["diary"] == ["reap"]
    with pytest.raises(NotFoundError):
        database_recovery.restore_database(
            Opened(make_config(tmp_path)), "db_backup_20200101_000000", fresh=False, stamp="S", log=print
        )
    assert database_fingerprint.facts_of(folder(tmp_path, one)) == fingerprint()


# --- reopen ---


class Application(http.server.BaseHTTPRequestHandler):
    """/health answers 503 at first; /wrong never right; /echo what it is sent; /moved, /login another address."""

    asked = 0

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path == "/health":
            self.answer(503 if type(self).asked < 3 else 200, b'{"status": "ok", "depth": {"a": 1}}')
        elif self.path == "/list":
            self.answer(200, b"[1]")
        elif self.path in ("/moved", "/login"):
            self.send_response(302)
            name = "127.0.0.1" if self.path == "/moved" else "localhost"
            self.send_header("Location", f"http://{name}:{self.server.server_address[1]}/list")  # type: ignore[attr-defined]
            self.end_headers()
        elif self.path == "/astray":
            self.send_response(404)
            self.send_header("Location", "http://[")
            self.end_headers()
        elif self.path == "/deep":
            self.answer(200, b"[" * 200_000)
        else:
            self.answer(500, b"<html>\n  password=hunter2 " + b"x" * 500)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, json.dumps({"sent": json.loads(sent), "type": self.headers["Content-Type"]}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def application() -> Iterator[str]:
    Application.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def ask(base: str, path: str, patience: float = 60, **more: Any) -> checks.Check:
    return stack_answer.endpoint(
        EndpointCheck(url=f"{base}{path}", **more), recovery_protect.time.monotonic() + patience
    )


ENDPOINTS: list[tuple[str, dict[str, Any], float, str, str]] = [
    ("/health", {"json": {"status": "ok", "depth": {"a": 1}}}, 60, "PASS", "status 200, status=ok"),
    ("/health", {}, 0, "FAIL", "status 503 instead of 200"),
    ("/health", {"status": 503}, 0, "PASS", "status 503"),
    (
        "/echo",
        {
            "method": "POST",
            "body": {"a": "日"},
            "status": 201,
            "json": {"sent": {"a": "日"}, "type": "application/json"},
        },
        0,
        "PASS",
        "status 201",
    ),
    (
        "/echo",
        {"method": "POST", "body": {"a": 1}, "status": 201, "json": {"sent": {"a": 2}}},
        0,
        "FAIL",
        "sent is {'a': 1} instead of {'a': 2}",
    ),
    ("/list", {"json": {"a": 1}}, 0, "FAIL", "the answer is not a JSON object"),
    ("/moved", {}, 0, "FAIL", "status 302 instead of 200: it sends on to http://127.0.0.1:"),
    ("/moved", {"redirects": True}, 0, "PASS", "status 200"),
    ("/login", {"redirects": True}, 0, "FAIL", "status 302 instead of 200: it sends on to another host, localhost"),
    ("/login", {"status": 302}, 0, "PASS", "status 302"),
    ("/astray", {}, 0, "FAIL", "status 404 instead of 200"),
    ("/deep", {"json": {"a": 1}}, 0, "FAIL", "the answer is not a JSON object"),
    ("/wrong", {}, 0, "FAIL", "status 500 instead of 200: <html> password=******** xxx"),
]


@pytest.mark.parametrize(("path", "more", "patience", "result", "words"), ENDPOINTS)
def test_endpoints(
    application: str,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    more: dict[str, Any],
    patience: float,
    result: str,
    words: str,
) -> None:
    monkeypatch.setattr(recovery_protect.time, "sleep", lambda _: None)
    found = ask(application, path, patience, **more)
    assert (found.name, found.result) == (f"{more.get('method', 'GET')} {application}{path}", result)
    assert words in found.detail
    assert "\n" not in found.detail
    assert len(found.detail) < 300


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://nowhere.invalid/", "file:///etc/passwd", "ftp://x/", "", "http://[/"]
)
def test_addresses_that_do_not_answer(url: str) -> None:
    assert ask("", url, 0).result == checks.FAIL


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n", b"\xff" * 70000])
def test_what_speaks_no_http(said: bytes) -> None:
    """A service that is starting, or another one on its port: a failed check, never a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as peer:
                peer.recv(1000)
                peer.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        found = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "/", 0)
        thread.join()
    assert found.result == checks.FAIL
    assert found.detail


class Services:
    """What the application's services do once they are started."""

    def __init__(self, problem: Optional[str]) -> None:
        self.problem = problem
        self.started: list[str] = []

    def start(self, services: Any, *, timeout: float) -> None:
        self.started = list(services)
        if self.problem:
            raise LifeboatError("start services", "backend", self.problem)

    def state(self, service: str) -> ServiceState:
        return UP if service in self.started else CRASHED


def test_what_runs_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose would wait for its health before it starts what depends on it."""
    stack = Services(None)
    stack.started = ["db"]
    asked: list[list[str]] = []
    monkeypatch.setattr(runtime, "connect", lambda config: stack)
    monkeypatch.setattr(Services, "start", lambda self, names, timeout: asked.append(names))
    monkeypatch.setattr(runtime, "wait_until_well", lambda stack, names, **_: dict.fromkeys(names, "well"))
    found = reopen.reopen(Opened(make_config(tmp_path)), ["backend"], log=lambda _: None)
    assert asked == [["backend"]]
    assert [check.name for check in found] == ["service db", "service backend"]


@pytest.mark.parametrize(("problem", "verdict"), [(None, checks.PASS), ("port is taken", checks.FAIL)])
def test_reopen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str, problem: Optional[str], verdict: str
) -> None:
    stack = Services(problem)
    monkeypatch.setattr(runtime, "connect", lambda config: stack)
    settings = make_config(tmp_path, application={"checks": [{"url": f"{application}/list"}], "timeout": 1})
    settings.state.mkdir()
    (settings.state / recovery_state.STOPPED).write_text('["backend"]')
    found = reopen.reopen(Opened(settings), ["backend"], log=lambda _: None)
    assert stack.started == ["db", "backend"], "the database first, or the writers find none"
    assert checks.verdict(found) == verdict
    assert [check.name for check in found][-1] == f"GET {application}/list", "what is wrong is found all at once"
    assert (recovery_state.stopped(settings) == []) is (verdict == checks.PASS), "remembered until they run"
    if problem:
        assert found[0] == checks.Check("services", checks.FAIL, problem)
    else:
        assert [check.name for check in found[:2]] == ["service db", "service backend"]


def asked(settings: Any) -> list[str]:
    """What a backup asks and remembers, as notes for its recovery point."""
    return operations_backup._unanswered(Opened(settings), pytest.fail)


def remember(settings: Any, name: str, problem: str) -> None:
    kept = recovery_state.Unanswered("2026-11-24T00:00:00.000Z", {name: problem})
    recovery_state.keep(settings, recovery_state.UNANSWERED, json.dumps(typed.plain(kept)))


def test_an_endpoint_that_was_down_before_the_loss_is_not_waited_for_the_whole_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    """181 s for an address that nobody had served for months."""
    monkeypatch.setattr(runtime, "connect", lambda config: Services(None))
    monkeypatch.setattr(stack_answer, "PATIENCE", 0.2)
    wanted = [{"url": f"{application}/wrong"}, {"url": f"{application}/list"}]
    settings = make_config(tmp_path, application={"checks": wanted, "timeout": 9})
    problem = stack_answer.ask(settings.application.checks[0])
    assert asked(settings) == [f"the endpoint GET {application}/wrong did not answer as it should: {problem}"]
    at = recovery_state.unanswered(settings).at
    began = time.monotonic()
    found = reopen.reopen(Opened(settings), ["backend"], log=lambda _: None)
    assert time.monotonic() - began < 5
    assert [check.result for check in found[2:]] == [checks.FAIL, checks.PASS]
    assert found[2].detail.startswith("status 500 instead of 200")
    assert f"it answered no better at {at}, before this recovery" in found[2].detail


def test_endpoints_that_were_down_before_the_loss_are_waited_for_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Services(None))
    monkeypatch.setattr(stack_answer, "PATIENCE", 1.0)
    wanted = [{"url": f"{application}/wrong?{number}"} for number in range(6)]
    settings = make_config(tmp_path, application={"checks": wanted, "timeout": 60})
    assert len(asked(settings)) == 6
    began = time.monotonic()
    found = reopen.reopen(Opened(settings), ["backend"], log=lambda _: None)
    assert 1.0 <= time.monotonic() - began < 4
    assert [check.result for check in found[2:]] == [checks.FAIL] * 6


def test_a_plan_says_which_endpoints_were_down_before_the_loss(tmp_path: Path) -> None:
    wanted = [{"url": "http://x.invalid/a"}, {"url": "http://x.invalid/b"}]
    settings = make_config(tmp_path, application={"checks": wanted})
    assert recovery_state.warnings_of_unanswered(settings, 30.0) == []
    remember(settings, "GET http://x.invalid/b", "status 502 instead of 200: x")
    assert recovery_state.warnings_of_unanswered(settings, 30.0) == [
        "the endpoint GET http://x.invalid/b did not answer as it should at 2026-11-24T00:00:00.000Z, when the last"
        " backup was taken: status 502 instead of 200: x; while it answers no better it is waited for 30 s"
    ]
    remember(settings, "GET http://x.invalid/gone", "status 502 instead of 200: x")
    assert recovery_state.warnings_of_unanswered(settings, 30.0) == [], "nobody will ask that one"


def test_what_is_otherwise_wrong_than_before_the_loss_has_the_whole_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Services(None))
    monkeypatch.setattr(stack_answer, "PATIENCE", 0.0)
    settings = make_config(tmp_path, application={"checks": [{"url": f"{application}/health"}], "timeout": 9})
    name = f"GET {application}/health"
    remember(settings, name, "status 502 instead of 200: x")
    assert reopen.reopen(Opened(settings), [], log=lambda _: None)[-1].result == checks.PASS, "it is starting"
    Application.asked = 0
    remember(settings, name, "status 503 instead of 200: another body")
    assert reopen.reopen(Opened(settings), [], log=lambda _: None)[-1].result == checks.FAIL
    assert asked(settings) != [] and asked(settings) == []
    assert not recovery_state.unanswered(settings).problems, "it is forgotten"


def test_a_machine_that_saw_nothing_takes_what_the_recovery_point_says(tmp_path: Path) -> None:
    settings = make_config(tmp_path, application={"checks": [{"url": "http://x.invalid/a"}]})
    told = recovery_state.Unanswered("", {"GET http://x.invalid/a": "status 502 instead of 200: b: c"})
    recovery_state.adopt_unanswered(settings, ["objects: of another instant", *told.notes], NOW)
    assert recovery_state.unanswered(settings) == replace(told, at=clock.format_time(NOW))
    recovery_state.adopt_unanswered(settings, replace(told, problems={"GET http://x.invalid/b": "y"}).notes, NOW)
    assert recovery_state.unanswered(settings).problems == told.problems, "its own are newer"
    posted = make_config(tmp_path, application={"checks": [{"url": "http://127.0.0.1:1/", "method": "POST"}]})
    assert asked(posted) == [], "a POST may change something"


def test_what_is_waited_for_is_said_and_what_does_not_stay_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    """A site's recovery waited 132 s in silence for an application that restarted for ever."""

    class Restarting(Services):
        def state(self, service: str) -> ServiceState:
            return (
                replace(UP, restarts=7) if service == "backend" and service in self.started else super().state(service)
            )

        def logs(self, service: str, lines: int = 30) -> str:
            return f"{service}: FATAL: no such file: /run/key"

    stack, said = Restarting(None), list[str]()
    monkeypatch.setattr(runtime, "connect", lambda config: stack)
    monkeypatch.setattr(clock, "SAY_EVERY", 0.2)
    settings = make_config(
        tmp_path, application={"checks": [{"url": f"{application}/list", "status": 201}], "timeout": 1}
    )
    found = reopen.reopen(Opened(settings), ["backend"], log=said.append)
    assert found[-1].result == checks.FAIL
    words = "; backend is running, restarted 7 times; backend last said: backend: FATAL: no such file: /run/key"
    assert found[-1].detail.startswith("status 200 instead of 201") and found[-1].detail.endswith(words)
    waited = [line for line in said if line.startswith(f"waiting for GET {application}/list for ")]
    assert len(waited) >= 2, said
    assert "s more at most: status 200 instead of 201" in waited[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "\x80",
        '{"id": "x"}',
        '{"id": 7, "at": "x"}',
        '{"id": "x", "at": "y", "asked": []}',
        "[" * 200_000,
    ],
)
def test_what_is_remembered_and_cannot_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    settings = make_config(tmp_path)
    recovery_state.keep(settings, recovery_state.RECOVERED, '{"id": "x", "at": "y", "newer": 1}')
    assert recovery_state.recovered(settings) == recovery_state.Last("x", "y")
    for name in (recovery_state.RECOVERED, recovery_state.STOPPED):
        (settings.state / name).write_text(text, encoding="latin-1")
    assert (recovery_state.recovered(settings), recovery_state.stopped(settings)) == (None, [])
