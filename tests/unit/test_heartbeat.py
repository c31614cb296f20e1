# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man's switch, against a receiver on loopback that speaks healthchecks.io's protocol as it is documented
(https://healthchecks.io/docs/http_api/). Not against healthchecks.io itself."""

from __future__ import annotations

import functools
import io
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock, progress
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import heartbeat, preflight
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import healthchecks
from builders import NOW, make_config, publish, settings
from keeper_world import DAY, PULLED, START, World, keeper_settings

CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"  # the documentation's own example


class Asked(NamedTuple):
    path: str
    run_id: str
    body: str
    query: str


class Receiver:
    """`answers`: (status, body) to the pings, in order, afterwards 200 OK; status 0 hangs until `release` is set."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.asked: list[Asked] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                parts = urlsplit(self.path)
                outer.asked.append(Asked(parts.path, parse_qs(parts.query)["rid"][0], body, parts.query))
                status, said = outer.answers.pop(0) if outer.answers else (200, "OK")
                if not status:
                    outer.release.wait(60)
                    return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said.encode())

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{CHECK}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def paths(self) -> list[str]:
        return [asked.path.replace(CHECK, "check") for asked in self.asked]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (tmp_path / "locks").mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path)))
    real = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: real(*a, **{**kw, "directory": tmp_path / "locks"}))
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    patient = functools.partial(healthchecks.Switch, timeout=60, patience=120, pause=0)
    monkeypatch.setattr(healthchecks, "Switch", patient)
    publish(tmp_path, datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1))
    return directory


def told(etc: Path, url: str, **more: str) -> Path:
    path = etc / "shop.secrets.json"
    path.write_text(json.dumps({config.HEARTBEAT: url, **more}))
    path.chmod(0o600)
    return etc


def with_switch(root: Path, url: str) -> config.Config:
    return replace(make_config(root), secrets={config.HEARTBEAT: url})


def run(etc: Path, *words: str) -> int:
    return cli.main([*words, "--config-directory", str(etc)])


def test_a_run_says_that_it_begins_and_that_it_ended_well(etc: Path, receiver: Receiver) -> None:
    assert run(told(etc, receiver.url), "prune") == 0
    assert receiver.paths == ["/check/start", "/check"]
    first, last = receiver.asked
    assert first.run_id == last.run_id, "one run"
    host = socket.gethostname()
    assert first.body == f"prune of stack shop on {host} begins\n"
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"prune of stack shop on {host} ended well\nfrom {time} to {time}, \d+ s\n", last.body)
    assert run(etc, "prune") == 0
    assert receiver.asked[2].run_id != first.run_id


def test_a_run_that_fails_tells_its_exit_code_and_why(etc: Path, receiver: Receiver) -> None:
    (etc.parent / "backup").rename(etc.parent / "away")
    assert run(told(etc, receiver.url), "prune") == 2
    assert receiver.paths == ["/check/start", "/check/2"]
    body = receiver.asked[-1].body
    assert "prune of stack shop" in body and "failed with exit code 2" in body
    assert f"{etc.parent}/backup" in body, "the cause"
    assert "lifeboat status --stack shop" in body, "and the command"


def test_a_bad_verdict_is_a_failure_with_its_lines(
    etc: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"line {number}" for number in range(100)]
    prune = cli._VERBS["prune"]._replace(run=lambda *_: (6, {}, lines))
    monkeypatch.setitem(cli._VERBS, "prune", prune)
    assert run(told(etc, receiver.url), "prune") == 6
    assert receiver.paths[-1] == "/check/6"
    assert "line 99" in receiver.asked[-1].body and "line 79" not in receiver.asked[-1].body


@pytest.mark.parametrize("wrong", [RuntimeError("hunter2hunter2"), KeyboardInterrupt()])
def test_a_run_that_breaks_off_is_a_failure(
    etc: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, wrong: BaseException
) -> None:
    def broken(*_: Any) -> Any:
        raise wrong

    monkeypatch.setitem(cli._VERBS, "prune", cli._VERBS["prune"]._replace(run=broken))
    try:
        assert run(told(etc, receiver.url), "prune") == 130
    except RuntimeError as exc:
        assert exc is wrong
    assert receiver.paths == ["/check/start", "/check/fail"]
    assert "was interrupted, or failed unforeseen" in receiver.asked[-1].body


def test_a_scheduled_run_that_found_the_lock_held_was_not_done(etc: Path, receiver: Receiver) -> None:
    with lock.held("shop", "a test"):
        assert run(told(etc, receiver.url), "prune") == 4
    assert receiver.paths[-1] == "/check/4"


def test_what_is_no_scheduled_run_tells_nothing(etc: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    told(etc, receiver.url)
    assert run(etc, "prune", "--dry-run") == 0
    assert run(etc, "list") == 0
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert run(etc, "prune") == 0, "somebody typed it"
    assert receiver.asked == []
    monkeypatch.setattr(sys, "stdin", None)  # as a daemon may have it
    assert run(etc, "prune") == 0
    assert receiver.paths == ["/check/start", "/check"]


def test_no_secret_and_no_more_than_the_limit_leaves(
    etc: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"password=correct-horse-battery {receiver.url} 秘密 " + "x" * 3000
    monkeypatch.setitem(cli._VERBS, "prune", cli._VERBS["prune"]._replace(run=lambda *_: (1, {}, [line] * 10)))
    assert run(told(etc, f"{receiver.url}\n", database_password="correct-horse-battery"), "prune") == 1
    body = receiver.asked[-1].body
    assert "correct-horse" not in body and CHECK not in body
    assert body.startswith("prune of stack shop") and body.endswith("lifeboat status --stack shop\n")
    assert len(body.encode()) <= healthchecks.BODY_LIMIT


def test_an_address_from_a_file_has_a_newline(etc: Path, receiver: Receiver) -> None:
    assert run(told(etc, f" {receiver.url}\r\n"), "prune") == 0
    assert receiver.paths == ["/check/start", "/check"]


def test_each_kind_of_run_has_a_switch_of_its_own(etc: Path, receiver: Receiver) -> None:
    url = receiver.url.replace(CHECK, "key/shop-{run}/?create=1")
    assert run(told(etc, url), "prune") == 0
    assert receiver.paths == ["/key/shop-prune/start", "/key/shop-prune/"]
    assert receiver.asked[0].query.startswith("create=1&rid=")


SILENT = [
    ([(500, "")] * 9, "it answered 500"),
    ([(200, "OK"), (503, ""), (404, "")], "it answered 404"),
    ([(301, "")] * 9, "it answered 301 and sends elsewhere"),
    ([(307, "")] * 9, "it answered 307 and sends elsewhere"),
    ([(200, "OK (not found)")] * 9, "it answered 'OK (not found)'"),
]


@pytest.mark.parametrize(("answers", "cause"), SILENT)
def test_whatever_the_receiver_does_the_run_ends_well(
    etc: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture, answers: list[tuple[int, str]], cause: str
) -> None:
    receiver.answers = list(answers)
    assert run(told(etc, receiver.url), "prune") == 0
    assert f"the dead-man's switch at 127.0.0.1 was not told how prune ended: {cause}" in caplog.text
    assert CHECK not in caplog.text
    assert "/elsewhere" not in receiver.paths, "the address is told to nobody else"


def test_a_switch_that_repeats_its_address_does_not_give_it_away(
    etc: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(200, f"OK (no check at /{CHECK}?key=0123456789)")] * 9
    assert run(told(etc, f"{receiver.url}?key=0123456789"), "prune") == 0
    assert "was not told how prune ended: it answered 'OK (no check at" in caplog.text
    assert CHECK not in caplog.text and "0123456789" not in caplog.text


def test_a_receiver_that_hangs_is_not_waited_for(
    etc: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [(0, "")] * 9
    hasty = functools.partial(healthchecks.Switch, timeout=60, patience=0.1)
    monkeypatch.setattr(healthchecks, "Switch", hasty)
    waits, real = [], threading.Thread.join

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            waits.append(timeout)
        real(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    assert run(told(etc, receiver.url), "prune") == 0
    assert waits == [0.1, progress._ENDS], "the run waits for the switch once, and then for who shows how far it is"
    assert healthchecks.TIMEOUT <= healthchecks.PATIENCE <= 10, "as the documentation says"
    assert not receiver.release.is_set(), "it hangs to the end"
    assert "was not told how prune ended: no answer within 0 s" in caplog.text


def test_an_answer_has_a_time_limit(receiver: Receiver) -> None:
    receiver.answers = [(0, "")]
    assert healthchecks.Switch(receiver.url, timeout=0.1, patience=120, pause=0).end("", "x") == ""
    assert receiver.paths == ["/check"] * 2, "the second attempt was answered"


def test_nobody_is_there(etc: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.close()
    assert run(told(etc, receiver.url), "prune") == 0
    assert "Connection refused" in caplog.text and CHECK not in caplog.text


def test_a_failure_that_passes_is_tried_again(etc: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers = [(200, "OK"), (502, ""), (429, "")]
    assert run(told(etc, receiver.url), "prune") == 0
    assert receiver.paths == ["/check/start", *["/check"] * 3]
    assert "switch" not in caplog.text


NO_ADDRESS = [
    f"hc-ping.com/{CHECK}", f"file:///etc/{CHECK}", f"ftp://hc-ping.com/{CHECK}", f"https:///{CHECK}",
    f"https://hc-ping.com/{CHECK} x", f"https://hc-ping.com/{CHECK}\nx", f"https://user:{CHECK}@hc-ping.com/",
    f"https://hc-ping.com:port/{CHECK}", f"https://[{CHECK}/", f"https://hc-ping.com/é{CHECK}",
]  # fmt: skip


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_what_is_not_an_address_is_asked_of_nobody(
    etc: Path, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(healthchecks, "Switch", asked.append)
    assert run(told(etc, url), "prune") == 0
    assert asked == []
    assert "the dead-man's switch is not told" in caplog.text and "lifeboat_secrets.heartbeat_url" in caplog.text
    assert CHECK not in caplog.text
    with pytest.raises(UsageError):
        healthchecks.address(url)
    found = preflight.addresses(with_switch(etc.parent, url))
    assert [problem.split(":")[0] for problem in found] == ["lifeboat_secrets.heartbeat_url"], "deploy refuses it"
    assert CHECK not in found[0]


def test_deploy_takes_one_that_is_an_address(tmp_path: Path) -> None:
    assert preflight.addresses(with_switch(tmp_path, f"https://hc-ping.com/{CHECK}\n")) == []


def test_without_one_nobody_is_told(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(heartbeat, "Heartbeat", lambda *_: made.append(1))
    assert run(told(etc, "  \n"), "prune") == 0
    assert made == []


def test_a_system_without_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    said: list[str] = []
    one = with_switch(tmp_path, f"http://127.0.0.1:9/{CHECK}")
    heartbeat.Heartbeat(one, "verify", NOW, said.append).ended(0, NOW, [])
    assert said == [
        "the dead-man's switch at 127.0.0.1 was not told how verify ended: the system gives no more threads"
    ]


def test_a_keeper_tells_its_own_switch_of_each_pull(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    etc = tmp_path / "keeper"
    etc.mkdir()
    (etc / "shop.json").write_text(json.dumps(settings(tmp_path, keeper=keeper_settings(tmp_path))))
    told(etc, receiver.url.replace(CHECK, "key/{run}"))
    monkeypatch.setattr(config, "KEEPER_DIRECTORY", etc)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    made = world.publish(START)
    world.now = START + PULLED
    assert cli.main(["keeper", "pull", "--prune"]) == 0
    assert receiver.paths == ["/key/keeper_pull/start", "/key/keeper_pull"]
    (world.folder(made) / "manifest.json").write_bytes(b"{}")
    world.now += DAY
    assert cli.main(["keeper", "pull", "--prune"]) == 6
    assert receiver.paths[-1] == "/key/keeper_pull/6"
    assert "lifeboat keeper status --stack shop" in receiver.asked[-1].body
    assert cli.main(["keeper", "status"]) == 6
    assert len(receiver.asked) == 4, "what only looks tells nothing"
