# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - tables
"""When a recovery is needed, in which mode, with which backup: decided from what is seen, nothing touched."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import checks, clock, typed
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import (
    IntegrityError,
    LifeboatError,
    NotFoundError,
    SpaceError,
    UsageError,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import PassedOver
from ansible_collections.lifeboat.dr.plugins.module_utils.database import assess as database_assess
from ansible_collections.lifeboat.dr.plugins.module_utils.database import carried, cluster, logins, planned
from ansible_collections.lifeboat.dr.plugins.module_utils.database import plan as database_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.database import recovery as database_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.assess import Assessment, Reference
from ansible_collections.lifeboat.dr.plugins.module_utils.database.fingerprint import Fingerprint
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery.state import DAMAGED, DOWN, HEALTHY
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import copies, repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.points import Part, Point
from ansible_collections.lifeboat.dr.plugins.module_utils.repository.sources import Sources
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.parts import LocalSettings
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState
from builders import FACTS, NOW, entries, fingerprint, folder, make_config, make_manifest, prove, publish, store

DAY = timedelta(days=1)
ID, OTHER = "db_backup_20261124_020000", "db_backup_20261123_020000"
BEFORE = datetime.fromisoformat("2026-11-24T11:00:00+09:00")
SAME_INSTANT = datetime.fromisoformat("2026-11-24T02:00:00+00:00")


def seen(condition: str) -> Assessment:
    return Assessment(condition, ("why",), "running", damaged=("shop",) if condition == DAMAGED else ())


# (condition, what was asked, the last recovery, force) -> (needed, words of the reason)
NEEDED: list[tuple[str, str, Optional[datetime], Optional[dict[str, str]], bool, bool, str]] = [
    (HEALTHY, "latest", None, None, False, False, "healthy and no recovery point was asked for"),
    (HEALTHY, "", None, None, False, False, "healthy and no recovery point was asked for"),
    (HEALTHY, "latest", None, {"id": ID, "asked": ""}, False, False, "no recovery point was asked for"),
    (HEALTHY, "latest", None, None, True, True, "force was given"),
    (HEALTHY, ID, None, {"id": ID, "asked": ""}, True, True, "force was given"),
    (HEALTHY, ID, None, None, False, True, f"{ID} was asked for"),
    (HEALTHY, ID, None, {"id": OTHER, "asked": ""}, False, True, f"{ID} was asked for"),
    (HEALTHY, ID, None, {"id": ID, "asked": ""}, False, False, f"was recovered to {ID}"),
    (HEALTHY, "latest", BEFORE, None, False, True, "2026-11-24T02:00:00.000Z was asked for"),
    (HEALTHY, "latest", BEFORE, {"id": ID, "asked": ""}, False, True, "was asked for"),
    (HEALTHY, "latest", BEFORE, {"id": ID, "asked": clock.format_time(SAME_INSTANT)}, False, False, "recovered to"),
    (HEALTHY, "latest", BEFORE + DAY, {"id": ID, "asked": clock.format_time(BEFORE)}, False, True, "was asked for"),
    (DAMAGED, "latest", None, None, False, True, "the database is damaged"),
    (DAMAGED, ID, None, {"id": ID, "asked": ""}, False, True, "the database is damaged"),
    (DOWN, "latest", None, {"id": ID, "asked": ""}, False, True, "the database is down"),
    (DOWN, "latest", BEFORE, None, True, True, "the database is down"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "identity", "before", "last", "force", "needed", "words"), NEEDED)
def test_needed(
    tmp_path: Path, condition: str, identity: str, before: Optional[datetime], last: Optional[dict[str, str]],
    force: bool, needed: bool, words: str,
) -> None:  # fmt: skip
    settings = make_config(tmp_path)
    if last:
        database_recovery.remember(settings, {**last, "at": "2026-11-24T03:00:00.000Z"})
    found, why = database_plan._needed(settings, seen(condition), database_plan._named(identity, before), force)
    assert (found, words in why) == (needed, True), why


@pytest.mark.parametrize("text", ["", "{", "[", "5", "null", "{}"])
def test_what_is_remembered_may_be_broken(tmp_path: Path, text: str) -> None:
    settings = make_config(tmp_path)
    settings.state.mkdir()
    (settings.state / "recovered.json").write_text(text)
    assert recovery_state.recovered(settings) is None
    (settings.state / recovery_state.STOPPED).write_text(text)
    assert recovery_state.stopped(settings) == []


class Stack:
    """A runtime of what a test says."""

    label = "a test"

    def __init__(self, state: Optional[ServiceState] = None, log: str = "") -> None:
        self.found = state or ServiceState(exists=True, running=True, status="running")
        self.log = log
        self.mount = DataMount("volume", "data", Path("/"))
        self.ran: list[str] = []

    def state(self, service: str) -> ServiceState:
        assert service == "db"
        return self.found

    def logs(self, service: str, lines: int = 30) -> str:
        return self.log

    def dependants(self, service: str) -> list[str]:
        return ["backend", "worker"]

    def one_offs(self, service: str, *more: str) -> list[str]:
        assert (service, *more) in (
            ("db", "backend", "worker"),
            ("db", "backend", "worker", "profiled"),
            ("db", "queue"),
        )
        return list(self.ran)

    def addresses(self, services: Any, one_offs: Any) -> set[str]:
        assert [*one_offs] == self.ran
        return {"172.20.0.2"}

    def data_path(self, service: str) -> str:
        return "/var/lib/postgresql/data"

    def data_mount(self, service: str, inside: str) -> DataMount:
        return self.mount

    def image(self, service: str) -> str:
        return "postgres:17"


class Server:
    """A server of what a test says: its tables with their rows, and what breaks when it is read."""

    user = "postgres"
    database = "shop"
    application = "lifeboat-shop"
    host = ""

    def free_bytes(self) -> None:
        return None

    def __init__(self, tables: Optional[dict[str, Any]] = None, **more: Any) -> None:
        self.tables = {"public.t": 500} if tables is None else tables
        self.roles = more.get("roles", ["postgres"])
        self.names = more.get("names", ["shop"])
        self.unlogged = more.get("unlogged", [])
        self.catalogue = more.get("catalogue")
        self.number = more.get("major", 17)
        self.clients = more.get("clients", [])
        self.closed = more.get("closed", False)
        self.owned, self.rules = more.get("owned", 0), more.get("rules", [])
        self.read: list[str] = []

    def living(self) -> list[database_server.Living]:
        shut = [database_server.Living("shop", False, False)] if self.closed else []
        return [*(database_server.Living(name, True, False) for name in self.names), *shut]

    def problem(self) -> None:
        return None

    def major(self) -> int:
        return int(self.number)

    def execute(self, sql: str, **_: Any) -> list[Any]:
        if "datallowconn" in sql:
            return [{"name": "shop", "open": False}] if self.closed else []
        if "pg_stat_activity" in sql:
            return list(self.clients)
        if self.catalogue:
            raise LifeboatError("list", "shop", self.catalogue, sqlstate=self.catalogue * (len(self.catalogue) == 5))
        if "pg_shdepend" in sql:
            return [self.owned]
        if "pg_hba_file_rules" in sql:
            return self.rules
        if "pg_roles" in sql:
            return list(self.roles)
        return [{"name": name, "unlogged": name in self.unlogged} for name in self.tables]

    @contextlib.contextmanager
    def database_for(self, sql: str) -> Iterator[str]:
        yield "template1"

    def session(self, database: str) -> Server:
        return self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rows(self, sql: str, *, attempted: str) -> list[Any]:
        name = attempted.removeprefix("read ")
        assert f"ONLY {name};" in sql
        assert "statement_timeout" in sql
        self.read.append(name)
        rows = self.tables[name]
        if isinstance(rows, str):
            raise LifeboatError(attempted, "shop", rows, sqlstate=rows if len(rows) == 5 else "")
        return [rows]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stack and the server that the core meets; a test changes them."""
    found: dict[str, Any] = {"stack": Stack(), "server": Server(), "why": "", "refused": False}
    monkeypatch.setattr(carried, "prepared", lambda server, names: found.get("prepared", ()))
    monkeypatch.setattr(runtime, "connect", lambda config: found["stack"])
    monkeypatch.setattr(
        database_server,
        "reach",
        lambda run: database_server.Reached(found["server"], found["why"], found["refused"]),
    )
    monkeypatch.setattr(database_server, "connect", lambda config, stack, backup=False: found["server"])
    monkeypatch.setattr(database_server, "as_initialised", lambda run: found.get("initial"))
    return found


CONTENT = fingerprint(
    roles={"postgres": "", "app": ""},
    tables={"public.t": {"rows": 500, "method": "none"}, "public.u": {"rows": 3, "method": "none"}},
)
REFERENCE = Reference(make_manifest(), {"": CONTENT})
WHOLE = {"public.t": 499, "public.u": 0}
# (the server's tables and more, the condition, what must be found, what stays unchecked)
ASSESSMENTS: list[tuple[str, Server, str, list[str], list[str]]] = [
    ("whole", Server(WHOLE, roles=["postgres", "app"]), HEALTHY, [], []),
    ("a table missing", Server({"public.t": 1}, roles=["postgres", "app"]), DAMAGED, ["the table public.u is missing"], []),
    ("a role missing", Server(WHOLE), DAMAGED, ["the role app is missing"], []),
    ("emptied", Server({**WHOLE, "public.t": 0}, roles=["postgres", "app"]), DAMAGED,
     ["the table public.t is empty, the backup has 500 rows"], []),
    ("emptied, unlogged", Server({**WHOLE, "public.t": 0}, roles=["postgres", "app"], unlogged=["public.t"]), HEALTHY, [], []),
    ("a damaged page", Server({**WHOLE, "public.t": "invalid page in block 7"}, roles=["postgres", "app"]), DAMAGED,
     ["the table public.t cannot be read: invalid page in block 7"], []),
    ("too large to read", Server({**WHOLE, "public.t": "57014"},
     roles=["postgres", "app"]), HEALTHY, [], ["public.t was not read to its end in 120 s"]),
    ("not the code of a timeout", Server({**WHOLE, "public.t": "XX001"}, roles=["postgres", "app"]), DAMAGED,
     ["the table public.t cannot be read: XX001"], []),
    *((words, Server({**WHOLE, "public.t": code}, roles=["postgres", "app"]), HEALTHY, [],
       [f"public.t was not read: {code}"]) for code, words in {
           "42809": "it became a view", "42501": "no privilege", "55P03": "locked", "53200": "no memory",
           "53300": "no connection left", "40001": "a standby gave way to replication"}.items()),
    *((words, Server({**WHOLE, "public.t": code}, roles=["postgres", "app"]), DAMAGED,
       [f"the table public.t cannot be read: {code}"], []) for code, words in {
           "58030": "the disk fails", "58P01": "its file is gone", "XX002": "an index is corrupt"}.items()),
    ("no connection left for the catalogue", Server(WHOLE, catalogue="53300"), HEALTHY, [],
     ["the database shop was not read: 53300"]),
    ("a damaged catalogue", Server(WHOLE, catalogue="could not open file"), DAMAGED,
     ["the database shop cannot be read: could not open file"], []),
    ("dropped", Server(names=["postgres"]), DAMAGED, ["the database shop is missing"], []),
    ("closed by an operator", Server(names=["postgres"], closed=True), DAMAGED,
     ["the database shop takes no logins; if that is all that is wrong: ALTER DATABASE \"shop\" ALLOW_CONNECTIONS true;"], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("server", "condition", "findings", "unchecked"),
    [case[1:] for case in ASSESSMENTS],
    ids=[case[0] for case in ASSESSMENTS],
)
def test_assess(
    tmp_path: Path, world: dict[str, Any], server: Server, condition: str, findings: list[str], unchecked: list[str]
) -> None:
    world["server"] = server
    found = database_assess.assess(Opened(make_config(tmp_path)), REFERENCE)
    assert (found.condition, list(found.findings), list(found.unchecked)) == (condition, findings, unchecked)


def test_after_a_damaged_table_the_others_are_still_read(tmp_path: Path, world: dict[str, Any]) -> None:
    world["server"] = server = Server({"public.t": "broken", "public.u": "broken too"}, roles=["postgres", "app"])
    assert len(database_assess.assess(Opened(make_config(tmp_path)), REFERENCE).findings) == 2
    assert server.read == ["public.t", "public.u"]


def test_when_the_time_is_up_the_rest_is_unchecked_not_passed(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_assess, "READ_SECONDS", 0)
    world["server"] = server = Server(WHOLE, roles=["postgres", "app"])
    found = database_assess.assess(Opened(make_config(tmp_path)), REFERENCE)
    assert list(found.unchecked) == [f"{name} was not read: 0 s were up" for name in ("public.t", "public.u")]
    assert server.read == []


def test_without_a_good_backup_health_is_no_more_than_an_answer(tmp_path: Path, world: dict[str, Any]) -> None:
    found = database_assess.assess(Opened(make_config(tmp_path)), None)
    assert (found.condition, found.unchecked) == (HEALTHY, ("no good backup to compare the data with",))


STOPPED = ServiceState(exists=True, status="exited", exit_code=1)
DOWNS = [
    (Stack(STOPPED, "x\nPANIC:  could not locate a valid checkpoint record"), None, "", [
        "db is exited, exit code 1", "it last said: PANIC:  could not locate a valid checkpoint record"], ""),
    (Stack(ServiceState()), None, "", ["db is absent"], ""),
    (Stack(), None, "connection refused", ["db is running and does not answer: connection refused"], ""),
    (Stack(), None, 'role "app" does not exist', ["db is running and does not answer: role \"app\" does not exist"],
     'role "app" does not exist'),
    (Stack(), None, "password authentication failed", ["db is running and does not answer: password authentication failed"],
     "password authentication failed"),
]  # fmt: skip


@pytest.mark.parametrize(("stack", "server", "why", "findings", "refused"), DOWNS)
def test_down_and_why(
    tmp_path: Path, world: dict[str, Any], stack: Stack, server: None, why: str, findings: list[str], refused: str
) -> None:
    world.update(stack=stack, server=server, why=why, refused=bool(refused))
    found = database_assess.assess(Opened(make_config(tmp_path)), REFERENCE)
    assert (found.condition, list(found.findings), found.refused) == (DOWN, findings, refused)


def wrong(field: str, cause: str) -> UsageError:
    return UsageError("read the plan", field, cause)


def make(tmp_path: Path, **asked: Any) -> planned.Plan:
    return database_plan.make(Opened(make_config(tmp_path)), database_plan.Request(**asked), log=lambda _: None)


DAMAGED_SERVER = Server({})
# (the world, what is asked) -> (needed, mode)
MODES: list[tuple[str, dict[str, Any], dict[str, Any], bool, str]] = [
    ("healthy", {}, {}, False, "none"),
    ("healthy, forced", {}, {"force": True}, True, "swap"),
    ("damaged", {"server": DAMAGED_SERVER}, {}, True, "swap"),
    ("damaged, rebuild", {"server": DAMAGED_SERVER}, {"method": "rebuild"}, True, "rebuild"),
    ("down", {"stack": Stack(STOPPED), "server": None}, {}, True, "start"),
    ("down, rebuild", {"stack": Stack(STOPPED), "server": None}, {"method": "rebuild"}, True, "rebuild"),
    (
        "refused, rebuild",
        {"server": None, "why": 'role "x" does not exist', "refused": True},
        {"method": "rebuild"},
        True,
        "rebuild",
    ),
]


@pytest.mark.parametrize(
    ("changes", "asked", "needed", "mode"), [case[1:] for case in MODES], ids=[case[0] for case in MODES]
)
def test_mode(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    asked: dict[str, Any], needed: bool, mode: str,
) -> None:  # fmt: skip
    one = publish(tmp_path)
    world.update(changes)
    monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
    made = make(tmp_path, **asked)
    assert (made.needed, made.mode, made.backup["id"]) == (needed, mode, one.id)
    assert made.writers == ("backend", "worker")
    assert bool(made.steps) is needed
    shown = json.loads(json.dumps(typed.plain(made)))
    assert typed.build(planned.Plan, shown, wrong) == made
    assert {"needed", "backup", "passed_over", "state", "target_seconds"} <= set(shown)
    text = "\n".join(database_plan.text(made))
    assert ("\nto do: " in text) is needed
    assert ("quarantine" in text) is (mode in ("rebuild", "start"))
    assert ("will be missing from shop" in text) is needed


@pytest.mark.parametrize(("method", "server_too"), [("swap", False), ("rebuild", True)])
def test_what_does_not_come_back_as_it_was_is_said_before(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, method: str, server_too: bool
) -> None:
    del world
    lines = tuple(f"index i{number} is invalid" for number in range(database_plan.LOST))
    publish(tmp_path, details={"not_carried": lines})
    around = cluster.Cluster(1, slots=(cluster.Slot("s", "physical"),))
    monkeypatch.setattr(cluster, "of", lambda folder: around)
    monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
    made = make(tmp_path, force=True, method=method)
    first = "in a rebuild not restored: the physical replication slot s"
    assert made.lost[0].startswith(first) is server_too
    assert made.lost[-1] == f"shop: {lines[-1]}"
    text = database_plan.text(made)
    assert f"  {made.lost[0]}" in text
    assert ("  and 1 more: the module's result has them all (lost)" in text) is server_too


def test_an_earlier_recovery_that_left_the_writers_stopped_is_finished(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path)
    settings = make_config(tmp_path)
    settings.state.mkdir()
    (settings.state / recovery_state.STOPPED).write_text('["backend"]')
    made = make(tmp_path)
    assert (made.needed, made.mode) == (True, "reopen")
    assert "backend" in made.why
    assert [step.partition(":")[0] for step in made.steps] == ["reopen", "record"]
    assert "will be missing" not in "\n".join(database_plan.text(made)), "nothing is restored"
    assert make(tmp_path, force=True).mode == "swap"
    (settings.state / recovery_state.STOPPED).write_text('["backend", "profiled"]')
    assert "profiled" in make(tmp_path, force=True).writers, "no dependant, as its profile is not on"


NOTE = "the database shop is closed to logins since a recovery that did not end; this is what that one found"


@pytest.mark.parametrize(
    ("damaged", "fresh", "mode"), [(False, False, "reopen"), (True, False, "swap"), (True, True, "swap")]
)
def test_of_a_database_that_a_killed_recovery_closed_its_word_is_taken(
    tmp_path: Path, world: dict[str, Any], damaged: bool, fresh: bool, mode: str
) -> None:
    """Nobody could write since, and nobody can look."""
    publish(tmp_path)
    world["server"] = Server(names=["postgres"], closed=True)
    settings = make_config(tmp_path)
    found = logins.Closed(("shop",), fresh, damaged, ("it was emptied",) if damaged else ())
    recovery_state.keep(settings, logins.CLOSED, json.dumps(typed.plain(found)))
    made = make(tmp_path)
    assert (made.needed, made.mode, made.findings, made.unchecked) == (True, mode, found.findings, (NOTE,))
    assert damaged or "closed the database to logins and did not come to its end" in made.why
    recovery_state.keep(settings, logins.CLOSED, json.dumps(typed.plain(logins.Closed(("other",), False, False))))
    assert make(tmp_path).mode == "swap", "another's: what was found of it is not known"


def client(**changes: Any) -> dict[str, Any]:
    plain = {"pid": 1, "database": "shop", "user": "app", "application": "cron", "address": "10.0.0.9", "state": "idle"}
    return {**plain, "since": "2026-11-24T02:00:00Z", **changes}


def test_who_stays_connected_when_the_writers_are_stopped_is_named(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path)
    seen = [client(), client(pid=2), client(pid=3, address="172.20.0.2"), client(pid=4, address=None, application="")]
    world["server"] = Server(clients=seen)
    world["stack"].ran = ["shop-seed-run-1"]
    made = make(tmp_path, force=True)
    assert [line.partition(", also")[0] for line in made.warnings] == [
        "app at 10.0.0.9 (cron) is connected to shop (2 sessions)", "app at a local socket is connected to shop",
    ]  # fmt: skip
    assert made.one_offs == ("shop-seed-run-1",)
    assert made.steps[0] == (
        "protect: stop the writers (backend, worker, shop-seed-run-1 of `docker compose run`, which is not started again)"
    )
    assert made.steps[1].startswith("protect: close what is replaced to logins")
    assert make(tmp_path).warnings == (), "nothing is stopped"


@pytest.mark.parametrize(
    ("owned", "trust", "host", "warned"),
    [(3, False, "", True), (0, False, "", False), (3, True, "", False), (3, False, "db.invalid", False)],
)
def test_a_file_that_lets_no_role_with_a_password_in_is_in_the_plan(
    tmp_path: Path, world: dict[str, Any], owned: int, trust: bool, host: str, warned: bool
) -> None:
    """It ended the restore, after the writers were stopped."""
    publish(tmp_path)
    rule = {"type": "local", "databases": ["all"], "users": ["all"], "method": "peer", "options": [], "line": 1}
    world["server"] = Server(owned=owned, rules=[{**rule, "address": None, "netmask": None, "error": None}])
    world["server"].host = host
    settings = make_config(tmp_path, database={"name": "shop", "trust_owners": trust})
    made = database_plan.make(Opened(settings), database_plan.Request(force=True), log=lambda _: None)
    found = [
        line for line in made.warnings if line.startswith("pg_hba.conf lets no new role with a password in (local")
    ]
    assert bool(found) is warned
    assert not database_plan.make(Opened(settings), log=lambda _: None).warnings, "nothing is restored"


def test_an_endpoint_that_was_down_before_the_loss_is_in_the_plan(tmp_path: Path, world: dict[str, Any]) -> None:
    del world
    publish(tmp_path)
    settings = make_config(tmp_path, application={"checks": [{"url": "http://x.invalid/a"}]})
    recovery_state.keep_unanswered(settings, settings.application.checks, ["status 502 instead of 200: x"], NOW)

    def warned(force: bool) -> list[str]:
        made = database_plan.make(Opened(settings), database_plan.Request(force=force), log=lambda _: None)
        return [line for line in made.warnings if line.startswith("the endpoint GET http://x.invalid/a did not answer")]

    assert len(warned(True)) == 1
    assert warned(False) == [], "nobody will wait for it"


def test_clients_that_cannot_be_listed_are_no_reason_to_stop(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path)
    world["server"] = Server(clients=[{"pid": "no number"}])
    assert "who else is connected is not known" in make(tmp_path, force=True).warnings[-1]


PREPARED = (carried.Prepared("it's \\ x", "shop", "app"),)
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], type[LifeboatError], str]] = [
    (
        "swap while down",
        {"stack": Stack(STOPPED), "server": None},
        {"method": "swap"},
        UsageError,
        "needs a server that",
    ),
    (
        "prepared transactions",
        {"prepared": PREPARED},
        {"force": True},
        UsageError,
        "ROLLBACK PREPARED E'it''s \\\\ x'; Nothing was changed.",
    ),
    (
        "refused",
        {"server": None, "why": "password authentication failed", "refused": True},
        {},
        UsageError,
        "password authentication",
    ),
    ("an older server", {"server": Server({}, major=16)}, {}, UsageError, "it is of PostgreSQL 17, the server is 16"),
    ("an unknown id", {}, {"identity": ID}, NotFoundError, "the repository has"),
    ("before the first", {}, {"before": NOW - DAY}, NotFoundError, "the first is of"),
]


@pytest.mark.parametrize(
    ("changes", "asked", "error", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_refused_before_anything_is_touched(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    asked: dict[str, Any], error: type[LifeboatError], words: str,
) -> None:  # fmt: skip
    publish(tmp_path)
    world.update(changes)
    if changes.get("server", 1) is None:
        monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
    with pytest.raises(error) as raised:
        make(tmp_path, **asked)
    assert words in str(raised.value)


def test_no_space_for_a_second_copy_is_said_before_anything_is_touched(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, details={"database_size": 10**18})
    with pytest.raises(SpaceError, match="nothing was changed yet"):
        make(tmp_path, force=True)
    assert make(tmp_path).mode == "none", "a healthy one needs none"

    def gone(*_: Any) -> DataMount:
        raise NotFoundError("find the data volume", "db", "it is gone")

    monkeypatch.setattr(Stack, "data_mount", gone)
    assert make(tmp_path, force=True).needed, "a volume that is gone: the fresh one is the engine's matter"


def test_a_backup_whose_bytes_are_wrong_is_passed_over_and_said_so(tmp_path: Path, world: dict[str, Any]) -> None:
    older, newer = publish(tmp_path, NOW - DAY), publish(tmp_path)
    (folder(tmp_path, newer) / "database.dump").write_bytes(b"DUMP")
    assert all(entry.good for entry in entries(tmp_path)), "as long, so a look at it does not tell"
    made = make(tmp_path, force=True)
    assert made.backup["id"] == older.id
    assert made.passed_over == (PassedOver(newer.id, "database.dump has another SHA-256 than when it was written"),)
    with pytest.raises(IntegrityError, match="another SHA-256"):
        make(tmp_path, identity=newer.id)
    (folder(tmp_path, older) / "database.dump").write_bytes(b"DUMP")
    with pytest.raises(NotFoundError, match="No backup is whole"):
        make(tmp_path, force=True)


def test_a_failed_backup_is_planned_with_if_it_is_named_and_accepted(tmp_path: Path, world: dict[str, Any]) -> None:
    one = publish(tmp_path)
    prove(tmp_path, one, checks.FAIL)
    with pytest.raises(IntegrityError, match="-e accept=failed"):
        make(tmp_path, identity=one.id)
    made = make(tmp_path, identity=one.id, accept=True)
    assert made.accepted == ("verification at level restore failed (tables: x)",)
    assert f"  ACCEPTED although it failed: {made.accepted[0]}" in database_plan.text(made)
    with pytest.raises(UsageError, match="it needs the id of a backup"):
        make(tmp_path, accept=True)
    with pytest.raises(UsageError, match="it needs the id of a backup"):
        make(tmp_path, before=NOW, accept=True)
    (folder(tmp_path, one) / "database.dump").write_bytes(b"DUMP")
    words = "database.dump has another SHA-256 than when it was written"
    assert make(tmp_path, identity=one.id, accept=True).accepted == (*made.accepted, words)
    world["server"] = Server({}, major=16)
    with pytest.raises(UsageError, match="the server is 16"):
        make(tmp_path, identity=one.id, accept=True)


def expected(sources: Sources) -> Optional[Fingerprint]:
    """What the application's database should hold."""
    found = database_assess.reference_of(sources)
    return found.fingerprints[""] if found else None


def test_a_backup_that_shrank_is_never_recovered_to_unasked(tmp_path: Path, world: dict[str, Any]) -> None:
    full = publish(tmp_path, NOW - DAY)
    small = {"level": "content", "tables": 0, "rows": 0, "large_objects": 0, "objects": 0}
    empty = publish(tmp_path, details={"fingerprint": small})
    world["server"] = Server({})
    assert (
        database_assess.assess(Opened(make_config(tmp_path)), Reference(make_manifest(), {"": fingerprint()})).condition
        == DAMAGED
    ), "held against the fuller one"
    with pytest.raises(UsageError, match=f"-e recovery_point={full.id}"):
        make(tmp_path)
    assert make(tmp_path, identity=full.id).backup["id"] == full.id
    made = make(tmp_path, identity=empty.id)
    assert made.backup["id"] == empty.id
    assert "holds 0 tables" in made.warnings[0]
    assert "WARNING" in "\n".join(database_plan.text(made))


def test_the_reference_is_the_newest_good_one_whose_fingerprint_is_whole(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path, NOW - DAY)
    newest = publish(tmp_path)
    settings = make_config(tmp_path)
    assert expected(Sources(Opened(settings), "database")) == fingerprint()
    (folder(tmp_path, newest) / "fingerprint.json").write_text("x" * len(json.dumps(FACTS)))
    assert expected(Sources(Opened(settings), "database")) == fingerprint()
    assert expected(Sources(Opened(make_config(tmp_path, stack="blog")), "database")) is None


def test_a_reference_that_cannot_be_read_is_passed_over(tmp_path: Path, world: dict[str, Any]) -> None:
    """Its bytes are those that were written: by a Lifeboat that writes otherwise."""
    older = publish(tmp_path, NOW - DAY)
    sources = Sources(Opened(make_config(tmp_path)), "database")
    assert expected(sources) == fingerprint()
    publish(tmp_path, facts={**FACTS, "tables": []})
    sources = Sources(Opened(make_config(tmp_path)), "database")
    assert [entry.good for entry in sources.entries] == [True, True]
    assert expected(sources) == fingerprint()
    shutil.rmtree(folder(tmp_path, older))
    assert expected(Sources(Opened(make_config(tmp_path)), "database")) is None


def test_a_backup_without_role_passwords_is_warned_of(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path, details={"role_passwords": False})
    assert "no role passwords" in make(tmp_path).warnings[0]


def test_configured_writers_win(tmp_path: Path, world: dict[str, Any]) -> None:
    publish(tmp_path)
    made = database_plan.make(
        Opened(make_config(tmp_path, application={"writers": ["queue"]})),
        database_plan.Request(force=True),
        log=lambda _: None,
    )
    assert made.writers == ("queue",)
    assert "stop the writers (queue)" in made.steps[0]


def test_a_recovery_point_stands_for_its_database(tmp_path: Path, world: dict[str, Any]) -> None:
    one = publish(tmp_path)
    publish(tmp_path, NOW + DAY)
    settings = make_config(tmp_path)
    point = Point(
        "20261124_130000",
        "shop",
        NOW,
        NOW,
        "snapshot",
        {"database": Part(one.id, one.seal), "objects": None},
        {},
        (),
        (),
    )
    store(tmp_path).write_point(point.id, point.to_bytes())
    made = make(tmp_path, identity=point.id)
    assert (made.backup["id"], made.recovery_point, made.why) == (one.id, point.id, f"{one.id} was asked for")
    assert f"  it is the database of recovery point {point.id}" in database_plan.text(made)
    database_recovery.remember(settings, {"id": one.id, "at": "2026-11-24T03:00:00.000Z"})
    assert not make(tmp_path, identity=point.id).needed, "the same state, by whichever name"
    with pytest.raises(NotFoundError, match="none of that name"):
        make(tmp_path, identity="20200101_000000")


def test_a_time_takes_the_recovery_point_of_that_time(tmp_path: Path, world: dict[str, Any]) -> None:
    """Its rows, though a loose backup is newer; and once it turns out damaged, the one before it, and that is said."""
    old, one = publish(tmp_path, NOW - DAY), publish(tmp_path)
    loose = publish(tmp_path, NOW + timedelta(hours=1))
    point = Point(
        "20261124_130000",
        "shop",
        NOW,
        NOW,
        "snapshot",
        {"database": Part(one.id, one.seal), "objects": None},
        {},
        (),
        (),
    )
    store(tmp_path).write_point(point.id, point.to_bytes())
    asked = {"before": NOW + DAY}
    made = make(tmp_path, **asked)
    assert (made.backup["id"], made.recovery_point) == (one.id, point.id)
    assert f"-e recovery_point={loose.id}" in made.warnings[0]
    database_recovery.remember(make_config(tmp_path), {"id": one.id, "at": "x", "asked": clock.format_time(NOW + DAY)})
    assert not make(tmp_path, **asked).needed
    loose_id = make(tmp_path, before=NOW + DAY, identity=loose.id).backup["id"]
    assert loose_id == loose.id, "a name is stronger than a time"
    (folder(tmp_path, one) / "database.dump").write_bytes(b"DUMP")
    made = make(tmp_path, force=True, **asked)
    assert (made.backup["id"], made.recovery_point) == (old.id, "")
    assert f"{one.id} of recovery point {point.id} cannot be used" in "".join(made.warnings)


OTHER_MAJOR = """db  | 2026-11-30 20:00:00.123 UTC [1] FATAL:  database files are incompatible with server
db  | 2026-11-30 20:00:00.123 UTC [1] DETAIL:  The data directory was initialized by PostgreSQL version 15, which is not compatible with this version 17.10 (Debian 17.10-1.pgdg13+1).
"""


@pytest.mark.parametrize(
    ("version", "major", "refused"),
    [("15\n", "17", True), ("17\n", "17", False), ("15\n", "", True), ("", "17", False), ("x", "17", False)],
)
def test_an_image_of_another_major_is_no_loss(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch, version: str, major: str, refused: bool
) -> None:
    """`postgres:latest` over an old volume: the image of before brings everything back."""
    publish(tmp_path)
    monkeypatch.setattr(database_plan, "_require_major", lambda *_: None)
    environment = {"PG_MAJOR": major} if major else {}
    world["server"], world["why"] = None, "it does not answer"
    stack = world["stack"] = Stack(
        ServiceState(exists=True, status="restarting", exit_code=1, environment=environment), OTHER_MAJOR
    )
    stack.mount = DataMount("volume", "data", tmp_path / "data")
    stack.mount.path.mkdir()
    (stack.mount.path / "PG_VERSION").write_text(version)
    words = "the data of db was made by PostgreSQL 15, and its image is of PostgreSQL 17, which cannot open it: nothing is lost"
    if refused:
        with pytest.raises(UsageError, match=words):
            make(tmp_path)
    else:
        assert make(tmp_path).mode == "start"
    forced = make(tmp_path, method="rebuild")
    assert [warning for warning in forced.warnings if words in warning] == list(forced.warnings[: int(refused)])
    told = (
        "The data directory was initialized by PostgreSQL version 15, which is not compatible with this version 17.10"
    )
    assert any(told in finding for finding in forced.findings)


def test_the_plan_says_when_it_takes_from_the_vault(
    tmp_path: Path, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that only reading every byte finds: the copy in the vault is the same backup, so nothing older is used."""
    publish(tmp_path, NOW - DAY)
    one = publish(tmp_path)
    shutil.copytree(tmp_path / "backup", tmp_path / "vault")
    vault = repositories.from_settings(LocalSettings(path=str(tmp_path / "vault")), {})
    (folder(tmp_path, one) / "database.dump").write_bytes(b"DUMP")
    with pytest.raises(IntegrityError, match="another SHA-256"):
        make(tmp_path, identity=one.id)
    monkeypatch.setattr(copies, "vault", lambda config: vault)
    for identity in ("latest", one.id):
        made = make(tmp_path, identity=identity, force=True)
        assert (made.backup["id"], made.backup["place"]) == (one.id, "vault")
        assert "in the repository; the vault has a copy" in made.passed_over[0].problem
        assert "  it is taken from the vault: s3:///shop at Amazon S3" in database_plan.text(made)
    shutil.rmtree(tmp_path / "backup")
    made = make(tmp_path, force=True)
    assert made.backup["place"] == "vault"
    assert made.warnings[0] == "the repository holds no backup"
