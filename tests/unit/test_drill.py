# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Business transactions and ledgers against a real HTTP server, the choice of a fault, and who may break anything."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

import evidence_world
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import clock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.clock import parse_time
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.text import named
from ansible_collections.lifeboat.dr.plugins.module_utils.database.server import Made
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import clean, drill, ledger
from ansible_collections.lifeboat.dr.plugins.module_utils.drill import transaction as drill_transaction
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import fault
from ansible_collections.lifeboat.dr.plugins.module_utils.drill.faults import service as drill_service
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence import schema
from ansible_collections.lifeboat.dr.plugins.module_utils.evidence.drill import Compared, Injected
from ansible_collections.lifeboat.dr.plugins.module_utils.settings.config import Config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import NOW, make_config, until
from test_evidence import phase

SECRET = "Bearer s3cr3t-t0ken-of-the-drill"


class Application:
    """Rows by number, as an application with a sequence has them. `fails`: what it answers instead, by method.

    falters: the requests of each kind and path, counted from one, to which it answers 503. moved: where else rows are.
    """

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.next = 1
        self.fails: dict[str, int] = {}
        self.falters: tuple[int, ...] = ()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.said = b""
        self.moved: Optional[str] = None
        self.headers: list[dict[str, str]] = []
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                here.headers.append(dict(self.headers))
                if status := here.refusal(self.command, self.path):
                    return self.answer(status, b"broken")
                identity = here.next
                here.next += 1
                here.rows[identity] = body
                return self.answer(201, here.said or json.dumps({"id": identity}).encode())

            def do_GET(self) -> None:
                if status := here.refusal(self.command, self.path):
                    return self.answer(status, b"broken")
                if self.path == "/health":
                    return self.answer(200, b"ok")
                here.headers.append(dict(self.headers))
                found = here.rows.get(int(self.path.rpartition("/")[2]))
                return self.answer(404, b"no such row") if found is None else self.answer(200, found)

            def do_DELETE(self) -> None:
                if status := here.refusal(self.command, self.path):
                    return self.answer(status, b"broken")
                found = here.rows.pop(int(self.path.rpartition("/")[2]), None)
                return self.answer(404 if found is None else 204, b"")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Location", f"{here.moved}/new{self.path}")  # a client looks only where it is sent on
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def refusal(self, method: str, path: str) -> int:
        """The status to answer with; 0: none."""
        self.asked[method, path] += 1
        if method == "GET" and self.moved is not None and not path.startswith("/new"):
            return 302
        return self.fails.get(method, 503 if self.asked[method, path] in self.falters else 0)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def app() -> Iterator[Application]:
    application = Application()
    yield application
    application.stop()


def transactions(app: Application) -> list[dict[str, Any]]:
    read = {"url": f"{app.url}/rows/{{id}}"}
    return [
        {"name": "item", "read": read,
         "write": {"method": "POST", "url": f"{app.url}/rows", "json": {"deep": [{"name": "演習 {token}"}]}}},
        {"name": "file", "read": read, "write": {"method": "POST", "url": f"{app.url}/rows?{{token}}", "size": 4096}},
    ]  # fmt: skip


def stack(root: Path, app: Application, **changes: Any) -> Config:
    given: dict[str, Any] = {
        "environment": "drill",
        "drill": {"transactions": transactions(app), "rate": 50},
        "application": {"checks": [{"url": f"{app.url}/health"}], "timeout": 2},
    }
    (root / "state" / "drill").mkdir(parents=True, exist_ok=True)
    return make_config(root, **{**given, **changes})


# --- the configuration ---

GOOD = {"name": "a", "write": {"url": "http://x/{token}"}, "read": {"url": "http://x/{id}"}}
WRONG: dict[str, tuple[Any, str]] = {
    "no name": ({**GOOD, "name": ""}, "a name is not empty"),
    "no address": ({**GOOD, "read": {}}, "wants an http or https address"),
    "a password in the address": ({**GOOD, "read": {"url": "http://u:p@x/{id}"}}, "without a password"),
    "a method that removes": ({**GOOD, "write": {"url": "http://x/{token}", "method": "DELETE"}}, "is not one of"),
    "a removal that is none": ({**GOOD, "remove": {"url": "ftp://x"}}, "remove.url"),
    "two bodies": ({**GOOD, "write": {"url": "http://x/", "json": {}, "size": 1}}, "not both"),
    "nothing to tell it by": ({**GOOD, "write": {"url": "http://x/"}}, "{token} is nowhere in it"),
    "an unknown word": ({**GOOD, "verify": True}, "does not know verify"),
}


@pytest.mark.parametrize(("one", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_transaction_is_named(tmp_path: Path, one: Any, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as error:
        make_config(tmp_path, drill={"transactions": [one]})
    assert "transactions[0]" in str(error.value)
    assert "u:p" not in str(error.value)


def test_names_are_used_once_and_the_rate_has_bounds(tmp_path: Path) -> None:
    for wrong in ({"transactions": [GOOD, GOOD]}, {"rate": 0}, {"rate": 101}, {"rpo_target_seconds": 0}):
        with pytest.raises(UsageError):
            make_config(tmp_path, drill=wrong)
    assert make_config(tmp_path, drill={"transactions": [GOOD]}).drill.rate == 5
    assert make_config(tmp_path).environment == "production", "what nobody named is production"


# --- a transaction ---


def test_a_transaction_is_told_from_every_other(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    for transaction in held.drill.transactions:
        token = drill_transaction.new_token()
        identity = drill_transaction.write(held, transaction, token)
        assert drill_transaction.read(held, transaction, token, identity) == drill_transaction.PRESENT
        assert (
            drill_transaction.read(held, transaction, drill_transaction.new_token(), identity)
            == drill_transaction.OTHER
        )
        del app.rows[int(identity)]
        assert drill_transaction.read(held, transaction, token, identity) == drill_transaction.LOST
        assert "Authorization" not in app.headers[-1]


def test_the_authorization_is_sent_and_never_shown(tmp_path: Path, app: Application) -> None:
    held = dataclasses.replace(stack(tmp_path, app), secrets={"drill_authorization": SECRET})
    transaction = held.drill.transactions[0]
    drill_transaction.write(held, transaction, "t")
    assert app.headers[-1]["Authorization"] == SECRET
    app.fails["POST"] = 500
    with pytest.raises(LifeboatError) as error:
        drill_transaction.write(held, transaction, "t")
    assert SECRET not in str(error.value)
    assert "status 500" in str(error.value)


@pytest.mark.parametrize(
    ("place", "redirects", "said"),
    [
        ("", False, "status 302: it sends on to /new/rows/1; redirects: true follows it"),
        ("", True, "present"),
        ("http://localhost:{port}", True, "status 302: it sends on to another host, localhost"),
    ],
    ids=["not configured", "its own address", "another host"],
)
def test_a_redirect_is_followed_where_that_is_configured(
    tmp_path: Path, app: Application, place: str, redirects: bool, said: str
) -> None:
    held = dataclasses.replace(stack(tmp_path, app), secrets={"drill_authorization": SECRET})
    transaction = held.drill.transactions[0]
    app.moved = place.format(port=app.server.server_port)
    reads = dataclasses.replace(transaction, read=dataclasses.replace(transaction.read, redirects=redirects))
    drill_transaction.write(held, reads, "t")
    try:
        found = drill_transaction.read(held, reads, "t", "1")
    except LifeboatError as exc:
        found = exc.cause
    assert found == said
    assert [sent.get("Authorization") for sent in app.headers] == [SECRET] * (2 if said == "present" else 1), (
        "the write, and the read that was answered"
    )


def test_an_answer_without_an_id_is_no_acknowledgement(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    with pytest.raises(LifeboatError, match="the answer has no field number"):
        drill_transaction.write(held, dataclasses.replace(held.drill.transactions[0], id="number"), "t")
    app.said = b'{"id": ' + b"[" * 100_000
    with pytest.raises(LifeboatError, match="the answer has no field id"):
        drill_transaction.write(held, held.drill.transactions[0], "t")


@pytest.mark.slow
def test_silence_is_not_a_loss(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    transaction = held.drill.transactions[0]
    app.stop()
    with pytest.raises(UnverifiedError):
        drill_transaction.read(held, transaction, "t", "1")


# --- a ledger ---


def filled(held: Config, count: int = 6) -> Path:
    path: Path = ledger.path_of(held)
    for number in range(count):
        ledger.hold(held, held.drill.transactions[number % 2], path)
    return path


def test_a_ledger_is_compared(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    path = filled(held)
    found = ledger.compare(held, path)
    assert found == Compared(6, 6, 0, 0, last_present=found.last_present)
    assert ledger.age_of_loss(found, NOW) == 0.0
    for gone in (5, 6):
        del app.rows[gone]
    with path.open("ab") as file:
        file.write(b'{"name": "item", "token": "cut')  # the machine died in the middle of a line
    found = ledger.compare(held, path)
    assert [getattr(found, key) for key in ("acknowledged", "present", "lost", "unexpected")] == [6, 4, 2, 0]
    lines = [json.loads(line) for line in path.read_text().splitlines()[:6]]
    assert found.first_lost == parse_time(lines[4]["time"])
    assert found.last_present == parse_time(lines[3]["time"])
    assert ledger.age_of_loss(found, found.first_lost + timedelta(seconds=2)) == 2.0


def test_names_that_come_back_after_a_recovery_are_lost_writes_and_strangers_are_noticed(
    tmp_path: Path, app: Application
) -> None:
    held = stack(tmp_path, app)
    path = filled(held)
    del app.rows[5], app.rows[6]
    app.next = 5  # the sequence is where the backup had it
    ledger.hold(held, held.drill.transactions[0], path)
    found = ledger.compare(held, path)
    assert [getattr(found, key) for key in ("acknowledged", "present", "lost", "unexpected")] == [7, 5, 2, 0]
    app.rows[6] = b"nobody's"
    found = ledger.compare(held, path)
    assert [getattr(found, key) for key in ("present", "lost", "unexpected")] == [5, 2, 1]


def test_the_writers_own_writes_are_removed_and_nobody_elses(
    tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    remove = {"method": "DELETE", "url": f"{app.url}/rows/{{id}}"}
    held = stack(
        tmp_path, app, drill={"transactions": [{**transaction, "remove": remove} for transaction in transactions(app)]}
    )
    path = filled(held)
    app.rows[99] = b"a user's"
    app.rows[6] = b"a user's, under a name that the recovery gave out again"
    del app.rows[5]
    assert ledger.remove(held, path) == (4, 6)
    assert sorted(app.rows) == [6, 99]
    keeps = stack(tmp_path, app)
    assert ledger.remove(keeps, filled(keeps, 2)) == (0, 8), "where nobody says how"


@pytest.mark.parametrize("falters", [1, 2])
def test_an_application_that_is_busy_for_a_moment_is_asked_again(
    tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch, falters: int
) -> None:
    """Twice for one that took over a name: what it is, and whether a later write is there."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(ledger, "_READERS", 1)
    remove = {"method": "DELETE", "url": f"{app.url}/rows/{{id}}"}
    held = stack(
        tmp_path, app, drill={"transactions": [{**transaction, "remove": remove} for transaction in transactions(app)]}
    )
    path = filled(held)
    del app.rows[6]
    app.next = 6
    ledger.hold(held, held.drill.transactions[1], path)
    app.falters, app.asked = (falters,), Counter()
    found = ledger.compare(held, path)
    assert (found.present, found.lost, found.unexpected) == (6, 1, 0)
    app.asked.clear()
    assert ledger.remove(held, path) == (6, 7)
    assert app.rows == {}
    app.rows[1] = b"not gone"
    app.asked.clear()
    app.falters = (1, 2, 3)
    with pytest.raises(LifeboatError, match="503"):
        ledger.remove(held, path)


def test_what_the_application_cannot_give_back_is_removed_too_where_the_name_is_the_writers_alone(
    tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    remove = {"method": "DELETE", "url": f"{app.url}/rows/{{id}}"}
    held = stack(
        tmp_path, app, drill={"transactions": [{**transaction, "remove": remove} for transaction in transactions(app)]}
    )
    path = filled(held, 3)
    app.next = 3
    ledger.hold(held, held.drill.transactions[0], path)
    app.fails["GET"] = 502
    assert ledger.remove(held, path) == (2, 4)
    assert sorted(app.rows) == [3]


@pytest.mark.slow
def test_what_the_application_cannot_give_back_is_lost(
    tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    held = stack(tmp_path, app)
    path = filled(held, 2)
    app.fails["GET"] = 502
    assert ledger.compare(held, path).lost == 2
    app.stop()
    with pytest.raises(UnverifiedError):
        ledger.compare(held, path)


def test_an_application_that_lets_everybody_wait_is_not_asked_for_ever(
    tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = stack(tmp_path, app)
    path = filled(held, 3)
    monkeypatch.setattr(ledger, "_PATIENCE", -1.0)
    with pytest.raises(UnverifiedError, match="took more than"):
        ledger.compare(held, path)


def test_no_ledger_is_no_pass(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    with pytest.raises(UnverifiedError, match="it holds no acknowledged write"):
        ledger.compare(held, tmp_path / "none")
    path = filled(held, 1)
    path.write_text(path.read_text().replace('"item"', '"other"'))
    with pytest.raises(UnverifiedError, match="nobody knows how to read back other"):
        ledger.compare(held, path)


def line(**changes: Any) -> bytes:
    return json.dumps({"name": "item", "token": "t", "id": "1", "time": "2026-11-24T12:00:00Z", **changes}).encode()


# What stands in a line that nobody of ours wrote -> the field, or what is wrong with all of it.
LINES: dict[str, tuple[bytes, str]] = {
    "a wrong type": (line(token=7), "token: wants str, has 7"),
    "an impossible date": (line(time="2026-02-30T12:00:00Z"), "time: wants a time"),
    "a year that no clock showed": (line(time="9999-01-01T00:00:00Z"), "time: has the year 9999"),
    "a huge number": (line(id=10**400), "id: wants str, has 1000"),
    "deep nesting": (b'{"name": ' + b"[" * 9000 + b"]" * 9000 + b"}", "it is"),
    "no object": (b"[1]", "wants a mapping, has [1]"),
    "a field that is not known": (line(more=1), "does not know more"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), LINES.values(), ids=list(LINES))
def test_a_ledger_of_somebody_elses_making_is_refused_by_line_and_field(
    tmp_path: Path, app: Application, line: bytes, words: str
) -> None:
    held = stack(tmp_path, app)
    path = filled(held, 2)
    assert ledger.compare(held, path).acknowledged == 2
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(LifeboatError, match=re.escape(words)) as error:
        ledger.compare(held, path)
    assert f"{path}:3" in str(error.value)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The command as the host has it, on this test's own configuration."""
    path = tmp_path / "lifeboat"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {sys.path!r}\n"
        "from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli\n"
        f"sys.exit(cli.main([*sys.argv[1:], '--config-directory', {str(tmp_path / 'etc')!r}]))\n"
    )
    path.chmod(0o755)
    yield str(path)
    ledger.stop(make_config(tmp_path))  # of a test that failed: it would write for hours


def deployed(root: Path, held: Config) -> None:
    (root / "etc").mkdir(exist_ok=True)
    known = {key: value for key, value in dataclasses.asdict(held).items() if key != "secrets"}
    (root / "etc" / "shop.json").write_text(json.dumps(known))


@pytest.mark.slow
def test_a_writer_outlives_us_and_stops_when_told(tmp_path: Path, app: Application, agent: str) -> None:
    held = stack(tmp_path, app)
    deployed(tmp_path, held)
    assert ledger.start(held, agent) >= 1
    before = len(ledger.acknowledged(ledger.path_of(held))[0])
    until(lambda: len(ledger.acknowledged(ledger.path_of(held))[0]) > before)
    app.fails["POST"] = 503
    until(lambda: ledger.acknowledged(ledger.path_of(held))[1] >= 1)
    assert ledger.stop(held) is True
    assert ledger.stop(held) is False
    app.fails.clear()
    found = ledger.compare(held, ledger.path_of(held))
    assert found.lost == 0
    assert found.errors >= 1, "what was refused is in the ledger, as that"
    first = {line.token for line in ledger.acknowledged(ledger.path_of(held))[0]}
    assert ledger.start(held, agent) >= 1
    second = {line.token for line in ledger.acknowledged(ledger.path_of(held))[0]}
    assert first.isdisjoint(second), "each drill has its own"
    ledger.stop(held)


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_no_lock(tmp_path: Path, app: Application, agent: str) -> None:
    held = stack(tmp_path, app)
    deployed(tmp_path, held)
    ledger.start(held, agent)
    holder = int(ledger.path_of(held).with_suffix(".lock").read_text())
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert ledger.stop(held) is False
    assert ledger.compare(held, ledger.path_of(held)).lost == 0


def test_a_lock_that_names_no_process_is_refused(tmp_path: Path) -> None:
    held = make_config(tmp_path)
    path = ledger.path_of(held).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    path.write_text("1; rm -rf /")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LifeboatError, match="no process has the number"):
            ledger.stop(held)
    assert ledger.stop(held) is False, "a lock that nobody holds is no writer's"


@pytest.mark.slow
def test_a_writer_that_cannot_write_says_why(
    tmp_path: Path, app: Application, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = stack(tmp_path, app)
    with pytest.raises(LifeboatError, match=r"no stack is configured|there is no such file"):
        ledger.start(held, agent)
    deployed(tmp_path, held)
    app.fails["POST"] = 500
    real, asked = time.monotonic, len(app.headers)
    # The time is over once it is asked for the second write, as the first is in the ledger by then.
    monkeypatch.setattr(time, "monotonic", lambda: real() + (3600 if len(app.headers) >= asked + 2 else 0))
    with pytest.raises(LifeboatError, match=r"nothing was acknowledged in 30 s; [1-9]\d* writes failed"):
        ledger.start(held, agent)
    assert ledger.stop(held) is False


@pytest.mark.slow
def test_the_command(tmp_path: Path, app: Application, agent: str) -> None:
    def call(*argv: str) -> tuple[int, str]:
        done = subprocess.run([agent, "transaction", *argv], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    deployed(tmp_path, stack(tmp_path, app))
    assert call()[0] == 0
    assert call("--ledger", str(tmp_path / "l"), "--seconds", "0.5")[0] == 0
    status, said = call("--compare", str(tmp_path / "l"), "--json")
    assert (status, json.loads(said)["lost"]) == (0, 0)
    assert call("--remove", str(tmp_path / "l"))[1].startswith("0 of "), "no transaction says how"
    app.rows.clear()
    assert call("--compare", str(tmp_path / "l"))[0] == 6
    app.fails["POST"] = 500
    status, said = call()
    assert status == 6
    assert "status 500" in said
    app.stop()
    assert call()[0] == 3
    deployed(tmp_path, make_config(tmp_path))
    status, said = call()
    assert (status, "lifeboat_drill.transactions is empty" in said) == (2, True)


# --- a drill ---


@pytest.mark.slow
def test_what_is_not_well_is_not_broken(tmp_path: Path, app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "_STEADY", 0.1)
    held = stack(tmp_path, app)
    app.fails["GET"] = 500
    with pytest.raises(LifeboatError, match="Recover what is broken first"):
        drill.begin(held, "database", "/nonexistent", log=lambda _: None)
    with pytest.raises(UsageError, match="transactions is empty"):
        drill.begin(stack(tmp_path, app, drill={}), "database", "/nonexistent", log=lambda _: None)


@pytest.mark.slow
def test_the_clock_ends_with_the_first_transaction_that_holds(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app)
    filled(held)
    app.fails["POST"] = 503
    threading.Timer(0.8, app.fails.clear).start()
    said: list[str] = []
    began = Injected(injected_at=NOW, monotonic=time.monotonic())
    found = drill.end(held, "database", began, recovered=True, log=said.append)
    assert any("not yet" in line for line in said)
    assert found.problems == ()
    assert found.transaction_at
    assert found.seconds is None, "two boots' clocks are not subtracted"
    assert found.ledger
    assert (found.ledger.acknowledged, found.ledger.present) == (8, 8)
    assert found.rpo_seconds == 0.0


def test_the_writers_transactions_after_the_reopen_end_the_clock(tmp_path: Path, app: Application) -> None:
    """Ours come after the recovery has recorded what it did, for which no user waits."""
    held = stack(tmp_path, app)
    path = filled(held, 2)
    reopened = ledger.acknowledged(path)[0][-1].time + timedelta(microseconds=1)
    time.sleep(0.01)
    filled(held, 4)
    lines = ledger.acknowledged(path)[0]
    del app.rows[3]  # the first one afterwards is not there: the next one of its kind counts
    assert ledger.served(held, path, reopened) == lines[4].time
    assert ledger.served(held, path, lines[-1].time) is None, "one kind of two was not made"
    assert ledger.served(held, path, lines[-1].time + timedelta(seconds=1)) is None
    app.fails["GET"] = 503
    assert ledger.served(held, path, reopened) is None, "nobody knows"
    app.fails.clear()
    boot = clock.start()
    began = Injected(injected_at=NOW, monotonic=boot.monotonic - 100, boot=boot.boot)
    early = drill.end(held, "database", began, recovered=True, reopened=reopened, log=lambda _: None)
    late = drill.end(held, "database", began, recovered=True, log=lambda _: None)
    assert early.transaction_at == lines[4].time
    assert late.transaction_at
    assert late.transaction_at > early.transaction_at
    if boot.boot:
        assert early.seconds
        assert late.seconds
        assert 99 < early.seconds < late.seconds


@pytest.mark.slow
def test_what_cannot_be_found_out_is_said(tmp_path: Path, app: Application) -> None:
    held = stack(tmp_path, app, application={"timeout": 1})
    app.fails["POST"] = 503
    found = drill.end(held, "database", Injected(), recovered=True, log=lambda _: None)
    assert (found.transaction_at, found.ledger, len(found.problems)) == (None, None, 2)
    told = '{"name": "item", "token": "t", "id": "1", "time": "2026-11-24T12:00:00.000Z"}\n'
    brought = drill.end(held, "site", Injected(ledger=told), recovered=False, log=lambda _: None).ledger
    assert brought
    assert brought.lost == 1, "the ledger of a machine that is no more"


@pytest.mark.parametrize("scenario", ["files", "backend"])
def test_a_drill_of_files_begins_and_ends_as_one_of_the_backend(
    tmp_path: Path, app: Application, scenario: str
) -> None:
    """That every file is as in the backup is the recovery's check; the drill's is that users find what they wrote."""
    held = stack(tmp_path, app)
    assert [check.name for check in drill.steady(held, scenario)] == [f"GET {app.url}/health"]
    filled(held)
    del app.rows[3]
    boot = clock.start()
    began = Injected(injected_at=NOW, monotonic=boot.monotonic - 5, boot=boot.boot)
    found = drill.end(held, scenario, began, recovered=True, log=lambda _: None)
    assert (found.problems, found.transaction_at is not None) == ((), True)
    assert found.ledger
    assert (found.ledger.acknowledged, found.ledger.present, found.ledger.lost) == (8, 7, 1)


# --- a fault ---


@pytest.mark.parametrize("continuous", [False, True])
def test_a_fault_is_chosen(tmp_path: Path, continuous: bool) -> None:
    config = make_config(tmp_path, wal={"enabled": continuous})
    for scenario, every in fault.FAULTS.items():
        known = [each for each in every if continuous or each.prepare is None]
        assert fault.choose(config, scenario) is known[0]
        assert [fault.choose(config, scenario, offered.name) for offered in known] == known
        drawn = {fault.choose(config, scenario, fault.RANDOM, str(seed)).name for seed in range(99)}
        assert drawn == {offered.name for offered in known}
        assert fault.choose(config, scenario, fault.RANDOM, "7") is fault.choose(config, scenario, fault.RANDOM, "7")
        with pytest.raises(UsageError, match="it has"):
            fault.choose(config, scenario, "meteor")
    with pytest.raises(UsageError, match="the scenarios are database"):
        fault.choose(config, "network")


@pytest.mark.parametrize("name", ["receiver_killed", "slot_lost"])
def test_a_fault_of_continuous_protection_takes_that(tmp_path: Path, name: str) -> None:
    assert name in {each.name for each in fault.offered("database", make_config(tmp_path, wal={"enabled": True}))}
    with pytest.raises(UsageError, match=r"it has corrupted, .*, database_dropped, and random") as refused:
        fault.choose(make_config(tmp_path), "database", name)
    assert "lifeboat_wal" in refused.value.remedy


@pytest.mark.parametrize("environment", ["production", "", "Drill", "staging"])
def test_nothing_is_broken_where_that_is_not_allowed(tmp_path: Path, environment: str) -> None:
    held = make_config(tmp_path, environment=environment)
    with pytest.raises(UsageError, match="nothing was touched"):
        fault.inject(Opened(held), fault.choose(held, "database"), "", log=lambda _: None)


# --- what breaking is made of ---


def test_noise_changes_bytes_and_no_size(tmp_path: Path) -> None:
    import random

    path = tmp_path / "f"
    path.write_bytes(bytes(100_000))
    assert drill_service.noise(path, random.Random(1)) > 30_000  # noqa: S311
    assert path.stat().st_size == 100_000
    assert path.read_bytes()[32768:] == bytes(100_000 - 32768)
    path.write_bytes(b"")
    with pytest.raises(LifeboatError, match="nothing that could be overwritten"):
        drill_service.noise(path, random.Random(1))  # noqa: S311


def test_emptying_an_empty_directory_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "d" / "below").mkdir(parents=True)
    (tmp_path / "d" / "below" / "f").write_text("x")
    assert drill_service.empty(tmp_path / "d") == 1
    with pytest.raises(LifeboatError, match="0 entries before"):
        drill_service.empty(tmp_path / "d")


class Asked:
    """A server that answers every statement, or none."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.sql: list[str] = []
        self.made = Made()
        self.there = ["shop", "shop_quarantine_1"]

    def databases(self) -> list[str]:
        return self.there

    def alter(self, sql: str, *, attempted: str) -> list[Any]:
        self.sql.append(sql)
        if self.problem:
            raise LifeboatError(attempted, "database shop", self.problem)
        return []


def test_a_database_is_cleaned_up_whose_name_no_record_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Asked()
    server.there = ["shop", "sh\udcf6p_quarantine_1"]
    monkeypatch.setattr(clean.database_server, "connect", lambda *_: server)
    assert clean._drop(Opened(make_config(tmp_path)), named(server.there[1])) == "sh\\xf6p_quarantine_1"
    assert server.sql == ['DROP DATABASE "sh\udcf6p_quarantine_1" WITH (FORCE);']


def gone(phase: schema.Phase) -> schema.Phase:
    """Without the way back to what is gone."""
    return dataclasses.replace(phase, quarantine="", quarantined_database="", way_back=())


@pytest.mark.parametrize("problem", ["", "the disk is full"])
def test_what_cannot_be_cleaned_up_is_said_and_stays_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    server = Asked(problem)
    monkeypatch.setattr(clean.ledger, "remove", lambda *_: (3, 4))
    monkeypatch.setattr(clean.database_server, "connect", lambda *_: server)
    kept = phase("restore", 1, 2, quarantined_database="shop_quarantine_1", way_back=["psql"])
    record = evidence_world.typed(evidence_world.record(tmp_path, phases=[phase("assess", 0, 1), kept]))
    removed, left, after = clean.clean(Opened(make_config(tmp_path)), record, "table_dropped", log=lambda _: None)
    # outside a transaction, which DROP DATABASE refuses to run in
    assert server.sql == ['DROP DATABASE "shop_quarantine_1" WITH (FORCE);']
    if problem:
        assert (removed, after) == (["3 of 4 writes"], record)
        assert [problem in cause for cause in left] == [True]
    else:
        assert (removed, left) == (["3 of 4 writes", "shop_quarantine_1"], [])
        assert after.phases == (record.phases[0], gone(record.phases[1]))
        assert schema.read(json.loads(json.dumps(schema.plain(after))))[1] == "", "it is sealed again"


def test_a_directory_that_was_put_aside_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean.ledger, "remove", lambda *_: (0, 4))
    mine, other = tmp_path / "main.quarantine_1", tmp_path / "main"
    for data in (mine, other):
        (data / "base").mkdir(parents=True)
    # An empty path is the directory we are in, and so it is for a relative one of such a name.
    (tmp_path / "x.quarantine_1").mkdir()
    monkeypatch.chdir(tmp_path)
    places = (str(mine), str(other), "", "x.quarantine_1")
    phases = [phase("restore", 1, 2, quarantine=place, way_back=["mv"]) for place in places]
    record = evidence_world.typed(evidence_world.record(tmp_path, phases=phases))
    removed, left, after = clean.clean(Opened(make_config(tmp_path)), record, "corrupted", log=lambda _: None)
    assert (removed, left) == ([str(mine)], [])
    assert after.phases == (gone(record.phases[0]), *record.phases[1:])
    assert (mine.exists(), other.exists(), (tmp_path / "x.quarantine_1").exists()) == (False, True, True)
