# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else is connected, how sessions are ended, and how logins are closed and always opened again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.database import clients, logins
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server as database_server
from ansible_collections.lifeboat.dr.plugins.module_utils.database.clients import Client
from ansible_collections.lifeboat.dr.plugins.module_utils.database.logins import Closed
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Reached
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import make_config

HOSTILE = 'it\'s "x"'


class Server:
    """Databases that are open or closed, and sessions that end when they are told to, after so many looks."""

    application = "lifeboat-shop"

    def __init__(self, databases: dict[str, bool], sessions: Optional[list[dict[str, Any]]] = None) -> None:
        self.databases = databases
        self.sessions = sessions or []
        self.stubborn = 0
        self.late: list[dict[str, Any]] = []  # logins that were let in before the database was closed
        self.fail = ""
        self.diary: list[str] = []

    @contextlib.contextmanager
    def database_for(self, sql: str) -> Iterator[str]:
        yield "template1"

    def execute(self, sql: str, *, database: str, attempted: str, timeout: float = 0) -> list[Any]:
        assert database == "template1", "a closed one lets nobody in"
        if self.fail and self.fail in sql:
            raise LifeboatError(attempted, "shop", f"{self.fail} failed")
        if "datallowconn" in sql:
            return [{"name": name, "open": open_} for name, open_ in self.databases.items() if self._names(name, sql)]
        if sql.startswith("ALTER DATABASE"):
            for quoted, word in re.findall(
                r'^ALTER DATABASE "(.*)" ALLOW_CONNECTIONS (true|false);$', sql, re.MULTILINE
            ):
                name = quoted.replace('""', '"')
                assert name in self.databases
                self.databases[name] = word == "true"
                self.diary.append(f"{word} {name}")
            return []
        found = [session for session in self.sessions if self._names(session["database"], sql)]
        if "pg_terminate_backend" not in sql:
            return list(found)
        self.diary.append("end")
        self.stubborn -= 1
        if self.stubborn < 0:
            self.sessions = [session for session in self.sessions if session not in found] + self.late
            self.late = []
        return [*found, len(found)]

    @staticmethod
    def _names(name: str, sql: str) -> bool:
        return database_server.literal(name) in sql


def session(pid: int = 1, **changes: Any) -> dict[str, Any]:
    plain = {
        "pid": pid,
        "database": "shop",
        "user": "app",
        "application": "psql",
        "address": "10.0.0.9",
        "state": "idle",
    }
    return {**plain, "since": "2026-11-24T02:00:00Z", **changes}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients.time, "sleep", lambda _: None)


def fake(server: Server) -> database_server.Server:
    return server  # type: ignore[return-value]


WORDS = [
    (Client(1, "shop", "app", "psql", "10.0.0.9", "idle", "2026-11-24T02:00:00Z"),
     "app at 10.0.0.9 (psql), connected to shop, since 2026-11-24T02:00:00Z, idle"),
    (Client(1, "shop", "app", "", None, None, None), "app at a local socket, connected to shop"),
    (Client(1, "sh\udce9p", "r\udce9", "x"), "r\\xe9 at a local socket (x), connected to sh\\xe9p"),
    (Client(1, "shop"), "an unknown role at a local socket, connected to shop"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "words"), WORDS)
def test_a_client_in_words(client: Client, words: str) -> None:
    assert str(client) == words


def test_only_those_of_the_databases_asked_for_are_listed() -> None:
    server = Server({"shop": True}, [session(), session(2, database="other")])
    assert [client.pid for client in clients.connected(fake(server), ["shop", HOSTILE])] == [1]


def test_those_at_the_addresses_of_what_is_stopped_do_not_last() -> None:
    found = [
        Client(pid, "shop", "app", "x", address)
        for pid, address in enumerate(["10.0.0.1", "10.0.0.2", "10.0.0.2", None])
    ]
    lines = clients.lasting(found, {"10.0.0.1"})
    assert [line.partition(", also")[0] for line in lines] == [
        "app at 10.0.0.2 (x) is connected to shop (2 sessions)", "app at a local socket (x) is connected to shop",
    ]  # fmt: skip
    assert " (x) is connected to shop and may be a writer: it is cut off" in clients.lasting(found[:1], set())[0]


def test_sessions_are_ended_until_none_is_seen_twice() -> None:
    server = Server({"shop": False}, [session(1), session(2), session(3, database="other")])
    server.stubborn, server.late = 2, [session(4)]
    assert [client.pid for client in clients.end(fake(server), ["shop"])] == [1, 2, 4], "each once, the late one too"
    assert [left["pid"] for left in server.sessions] == [3]
    assert server.diary == ["end"] * 6


def test_a_session_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE", -1.0)
    server = Server({"shop": False}, [session()])
    server.stubborn = 9
    with pytest.raises(LifeboatError, match=r"still there after .*app at 10.0.0.9 \(psql\).*Stop these clients"):
        clients.end(fake(server), ["shop"])


SHUT = Closed(("shop",), False, True, ("it was emptied",))


def close(tmp_path: Path, server: Server, wanted: Closed = SHUT) -> list[Client]:
    return clients.shut_out(make_config(tmp_path), fake(server), wanted, log=server.diary.append)


def test_closing_remembers_first_then_closes_then_ends(tmp_path: Path) -> None:
    server = Server({"shop": True, "other": True}, [session()])
    server.fail = "ALTER DATABASE"
    with pytest.raises(LifeboatError):
        close(tmp_path, server)
    server.fail = ""
    assert [client.pid for client in close(tmp_path, server)] == [1]
    assert server.databases == {"shop": False, "other": True}
    assert server.diary[-6:-1] == ["closing shop to logins", "false shop", "end", "end", "end"]
    assert logins.closed(make_config(tmp_path)) == SHUT
    assert close(tmp_path, server) == [], "again: nothing is left to do"
    assert (logins.closed(make_config(tmp_path)), server.databases["shop"]) == (SHUT, False)


def test_it_is_remembered_before_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"shop": True})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logins, "allow", killed)
    monkeypatch.setattr(logins, "open_again", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        close(tmp_path, server)
    assert logins.closed(make_config(tmp_path)) == SHUT


def test_a_database_that_is_missing_or_was_closed_by_somebody_else_is_not_ours(tmp_path: Path) -> None:
    server = Server({"shop": False})
    close(tmp_path, server, Closed(("shop", "gone"), False, True))
    assert logins.closed(make_config(tmp_path)) == Closed((), False, True)
    assert server.diary == ["end", "end"], "a session outlives the closing"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_failure_opens_a_living_servers_database_again(tmp_path: Path, fresh: bool) -> None:
    server = Server({"shop": True})
    server.fail = "pg_terminate_backend"
    with pytest.raises(LifeboatError, match="pg_terminate_backend failed"):
        close(tmp_path, server, Closed(("shop",), fresh, True))
    assert server.databases["shop"] is not fresh
    assert (logins.closed(make_config(tmp_path)) is not None) is fresh


class Runtime:
    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, services: Any, *, timeout: float) -> None:
        self.started += services


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, Runtime]:
    server, stack = Server({"shop": True}), Runtime()
    monkeypatch.setattr(runtime, "connect", lambda config: stack)
    monkeypatch.setattr(database_server, "connect", lambda config, runtime: server)
    answers = [Reached(None, "it starts"), Reached(fake(server))]
    monkeypatch.setattr(database_server, "reach", lambda run: answers.pop(0) if len(answers) > 1 else answers[0])
    return server, stack


def reopen(tmp_path: Path) -> list[str]:
    return logins.reopen(Opened(make_config(tmp_path)), log=lambda _: None)


def test_reopening_starts_the_server_and_opens_what_we_closed(tmp_path: Path, world: tuple[Server, Runtime]) -> None:
    server, stack = world
    assert (reopen(tmp_path), stack.started) == ([], []), "nothing was closed: nobody is asked"
    close(tmp_path, server)
    assert reopen(tmp_path) == []
    assert (server.databases, stack.started) == ({"shop": True}, ["db"])
    assert logins.closed(make_config(tmp_path)) is None


def test_reopening_leaves_an_empty_fresh_server_closed(tmp_path: Path, world: tuple[Server, Runtime]) -> None:
    server, _stack = world
    close(tmp_path, server, Closed(("shop",), True, True))
    assert (reopen(tmp_path), server.databases) == (["shop"], {"shop": False})
    close(tmp_path, server)  # by the next run, for which the server merely lives
    assert (reopen(tmp_path), server.databases) == (["shop"], {"shop": False}), "it is empty still"
    server.databases["shop"] = True  # swapped in
    assert (reopen(tmp_path), logins.closed(make_config(tmp_path))) == ([], None)
    close(tmp_path, server)
    assert (reopen(tmp_path), server.databases) == ([], {"shop": True}), "and forgotten"


def test_a_server_that_does_not_come_up_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "connect", lambda config: Runtime())
    monkeypatch.setattr(database_server, "reach", lambda run: Reached(None, "connection refused"))
    recovery_state.mark(make_config(tmp_path), logins.CLOSED)
    with pytest.raises(LifeboatError, match=r"connection refused.*Start the server"):
        logins.reopen(Opened(make_config(tmp_path, application={"timeout": 1})), log=lambda _: None)
    assert (make_config(tmp_path).state / logins.CLOSED).exists()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_however_a_restore_ends_the_database_is_open(
    tmp_path: Path, world: tuple[Server, Runtime], fails: bool, fresh: bool
) -> None:
    server, stack = world
    close(tmp_path, server, Closed(("shop",), fresh, True))
    with contextlib.suppress(KeyboardInterrupt), logins.opened_afterwards(Opened(make_config(tmp_path)), log=print):
        if fails:
            raise KeyboardInterrupt
        server.databases["shop"] = True  # the swap puts an open one there
    assert server.databases["shop"] is not (fails and fresh), "an empty one stays closed"
    assert (logins.closed(make_config(tmp_path)) is None) is not (fails and fresh)
    assert stack.started == []


def test_a_server_that_died_of_the_restore_does_not_hide_why(tmp_path: Path, world: tuple[Server, Runtime]) -> None:
    server, _stack = world
    close(tmp_path, server)
    with (
        pytest.raises(LifeboatError, match="the first error"),
        logins.opened_afterwards(Opened(make_config(tmp_path)), log=print),
    ):
        server.fail = "datallowconn"
        raise LifeboatError("restore", "shop", "the first error")
    assert logins.closed(make_config(tmp_path)) == SHUT, "for the reopening"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"names": 1, "fresh": false, "damaged": true}', '{"names": []}'])
def test_what_is_remembered_and_cannot_be_read_opens_nothing(
    tmp_path: Path, world: tuple[Server, Runtime], text: str
) -> None:
    server, _stack = world
    server.databases["shop"] = False
    recovery_state.keep(make_config(tmp_path), logins.CLOSED, text)
    assert logins.closed(make_config(tmp_path)) is None
    with pytest.raises(LifeboatError, match=r"closed.json\): it cannot be read. ALTER DATABASE"):
        reopen(tmp_path)
    assert server.databases["shop"] is False
