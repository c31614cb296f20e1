# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An alert counts when its delivery was seen. Against a stand-in that answers as Alertmanager 0.28 does.

What it counts, and when, is that of notify/notify.go: a request when it has ended, its failure right after."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import alert_test, checklist
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.alert_test import Result
from ansible_collections.lifeboat.dr.plugins.module_utils.operations.checklist_line import BY_HAND
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.alertmanager import Client
from builders import NOW, Run, make_config

Series = dict[tuple[str, str], list[Any]]  # (integration, receiver) -> [ended, failed]


class Alertmanager:
    """`deliver`: what happens when it is asked for its counts after the alert came, the number of the time is given."""

    def __init__(self) -> None:
        self.sent: Series = {(name, "critical"): [7, 2] for name in ("slack", "pagerduty")}
        self.sent |= {("webhook", "watchdog"): [900, 0], ("slack", "nobody"): [0, 0]}
        self.started: Any = 1000.5
        self.suffix = ""
        self.named = True
        self.receivers = ["critical"]
        self.state = {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
        self.alerts: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.times = 0
        self.status = 200
        self.knows = True
        self.deliver: Callable[[int], None] = self.both
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                outer.asked.append(parts.path)
                self._answer(outer.metrics() if parts.path == "/metrics" else json.dumps(outer.found(parts.query)))

            def do_POST(self) -> None:
                outer.asked.append(self.path)
                outer.alerts += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer("")

            def _answer(self, text: str) -> None:
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def both(self, time: int) -> None:
        if time == 1:
            for key in (("slack", "critical"), ("pagerduty", "critical")):
                self.sent[key][0] += 1

    def metrics(self) -> str:
        if self.alerts:
            self.times += 1
            self.deliver(self.times)
        lines = ["# HELP process_start_time_seconds Start time.", f"process_start_time_seconds {self.started}"]
        for (integration, receiver), (ended, failed) in self.sent.items():
            named = f',receiver_name="{receiver}"' if self.named else ""
            for name, value in (("", ended), ("failed_", failed)):
                labels = f'{{integration="{integration}"{named}}}'
                lines.append(f"alertmanager_notification_requests_{name}total{labels} {value}{self.suffix}")
        return "\n".join([*lines, 'alertmanager_notifications_total{integration="slack"} 99', ""])

    def found(self, query: str) -> list[dict[str, Any]]:
        name, _, value = parse_qs(query)["filter"][0].partition("=")
        return [
            {"labels": alert["labels"], "status": self.state, "receivers": [{"name": name} for name in self.receivers],
             "annotations": {}, "fingerprint": "f"}
            for alert in self.alerts[:1] if self.knows and alert["labels"].get(name) == json.loads(value)
        ]  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chain() -> Iterator[Alertmanager]:
    made = Alertmanager()
    yield made
    made.close()


def sent(chain: Alertmanager, stack: str = "shop", arrived: str = "", **words: Any) -> Result:
    """The clock of the test moves by what is slept."""
    slept: list[float] = []
    client = Client(chain.url, now=NOW.timestamp)
    asked = alert_test.request_of(stack, "critical", 60, arrived)
    return alert_test.send(
        client, asked, now=NOW, log=lambda _line: None, sleep=slept.append, monotonic=lambda: sum(slept), **words
    )


def results(found: Result) -> dict[str, str]:
    return {check.name: check.result for check in found.checks}


def test_an_alert_that_each_receiver_took(chain: Alertmanager) -> None:
    found = sent(chain)
    assert (found.verdict, results(found)) == (PASS, {"pagerduty of critical": PASS, "slack of critical": PASS})
    assert found.checks[0].detail == "the receiver took it: 1 of 1 requests"
    first, last = chain.alerts
    assert first["labels"] == {
        "alertname": "LifeboatAlertTest", "severity": "critical", "stack": "shop", "test": found.id,
    }  # fmt: skip
    assert found.id in first["annotations"]["description"], "so that it can be found where it arrives"
    assert first["startsAt"] == "2026-11-24T12:00:00.000Z"
    assert last["labels"] == first["labels"] and last["endsAt"] == "2026-11-24T12:00:01.000Z", "and it is ended"


def counts(slack: list[Any]) -> Callable[[Alertmanager], None]:
    """What Slack's are after the alert was sent."""

    def change(chain: Alertmanager) -> None:
        chain.deliver = lambda time: chain.sent.update({("slack", "critical"): slack})
        del chain.sent["pagerduty", "critical"]

    return change


def put(name: str, value: Any) -> Callable[[Alertmanager], None]:
    return lambda chain: setattr(chain, name, value)


def later(**changes: Any) -> Callable[[Alertmanager], None]:
    """Something of Alertmanager changes after the alert was sent."""

    def change(chain: Alertmanager) -> None:
        def deliver(time: int) -> None:
            chain.both(time)
            vars(chain).update(changes)

        chain.deliver = deliver

    return change


SILENCED = {"state": "suppressed", "silencedBy": ["0815"], "inhibitedBy": []}
BAD: list[tuple[str, Callable[[Alertmanager], None], str, str]] = [
    ("nothing was sent", counts(slack=[7, 2]), FAIL, "slack of critical: no request ended within 60 s"),
    ("refused", counts(slack=[10, 5]), FAIL, "all 3 requests failed"),
    (
        "one of two services",
        lambda c: c.sent.update({("email", "critical"): [0, 0]}),
        FAIL,
        "email of critical: no req",
    ),
    ("fewer than before", counts(slack=[3, 2]), FAIL, "its counts went from 7, 2 failed, to 3, 2 failed"),
    ("more failed than ended", counts(slack=[8, 9]), FAIL, "its counts went from 7, 2 failed, to 8, 9 failed"),
    ("not a number", counts(slack=["NaN", 2]), FAIL, "NaN is not a count"),
    ("infinite", counts(slack=["+Inf", 2]), FAIL, "+Inf is not a count"),
    ("negative", counts(slack=[-1, 2]), FAIL, "-1 is not a count"),
    ("not a figure", counts(slack=["many", 2]), FAIL, "many is not a count"),
    ("of the future", put("suffix", " 4102444800000"), FAIL, "it is of the future: 4102444800000"),
    ("started in the future", put("started", 4102444800), FAIL, "it is of the future: 4102444800"),
    ("started never", put("started", "NaN"), FAIL, "NaN is not a count"),
    ("restarted in the middle", later(started=2000), FAIL, "it was started again in the middle"),
    ("silenced", put("state", SILENCED), FAIL, "a silence or another alert keeps it back: 0815"),
    ("lost", put("knows", False), FAIL, "took the alert, and does not have it"),
    ("no receiver", put("receivers", []), COULD_NOT_VERIFY, "its route leads to no receiver"),
    ("a receiver of nothing", put("receivers", ["hole"]), COULD_NOT_VERIFY, "hole: this receiver sends nowhere"),
    ("not told apart", put("named", False), COULD_NOT_VERIFY, "--enable-feature=receiver-name-in-metrics"),
    ("it answers 500", put("status", 500), COULD_NOT_VERIFY, "it answered 500"),
    ("it sends elsewhere", put("status", 302), COULD_NOT_VERIFY, "it answered 302"),
    ("another API", put("state", []), COULD_NOT_VERIFY, "is this Alertmanager's API v2?"),
    ("it is gone", lambda chain: chain.close(), COULD_NOT_VERIFY, "Connection refused"),
]


@pytest.mark.parametrize(("what", "change", "verdict", "said"), BAD, ids=[case[0] for case in BAD])
def test_what_did_not_arrive_does_not_pass(
    chain: Alertmanager, what: str, change: Callable[[Alertmanager], None], verdict: str, said: str
) -> None:
    change(chain)
    found = sent(chain)
    assert (found.verdict, said in alert_test.summary(found.checks)) == (verdict, True), alert_test.summary(
        found.checks
    )
    assert len(chain.alerts) in (0, 2), "what was begun is ended"


def test_a_failure_that_is_counted_a_moment_later_is_seen(chain: Alertmanager) -> None:
    """Alertmanager counts the request, then that it failed: between the two it looks delivered."""

    def deliver(time: int) -> None:
        chain.both(time)
        if time == 2:
            chain.sent["slack", "critical"][1] += 1

    chain.deliver = deliver
    assert results(sent(chain)) == {"pagerduty of critical": PASS, "slack of critical": FAIL}


def test_another_try_that_succeeds_counts(chain: Alertmanager) -> None:
    def deliver(time: int) -> None:
        if time == 1:
            chain.sent["slack", "critical"] = [8, 3]
        if time == 3:
            chain.sent["slack", "critical"], chain.sent["pagerduty", "critical"] = [9, 3], [8, 2]

    chain.deliver = deliver
    found = sent(chain)
    assert found.verdict == PASS
    assert "1 of 2 requests" in {check.name: check.detail for check in found.checks}["slack of critical"]


def test_what_a_receiver_got_must_have_the_id(chain: Alertmanager, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    assert sent(chain, arrived=str(inbox)).checks[-1].result == COULD_NOT_VERIFY, "there is no such file"
    chain.sent, chain.alerts, chain.times = Alertmanager().sent, [], 0
    inbox.write_text("another test's id")
    assert results(sent(chain, arrived=str(inbox)))["arrived"] == FAIL
    chain.alerts, chain.times = [], 0
    chain.deliver = lambda time: (chain.both(time), inbox.write_text(json.dumps(chain.alerts)))[0]
    chain.named = False
    found = sent(chain, arrived=str(inbox))
    assert results(found) == {"arrived": PASS}, "it is seen where it arrives, whatever Alertmanager counts"


def test_without_a_stack_or_in_check_mode_nothing_is_sent_and_nothing_passes(chain: Alertmanager) -> None:
    assert results(sent(chain, stack="")) == {"stack": COULD_NOT_VERIFY}
    assert results(sent(chain, dry=True)) == {"alert": COULD_NOT_VERIFY}
    assert chain.alerts == []


@pytest.mark.parametrize("words", [("shop", "critical", 0, ""), ("shop", "critical", 60, "inbox")])
def test_what_cannot_be_asked_is_refused(words: tuple[str, str, float, str]) -> None:
    with pytest.raises(UsageError, match="Nothing was sent"):
        alert_test.request_of(*words)


@pytest.mark.parametrize("url", ["127.0.0.1:9093", "file:///etc/passwd", "http://user:hunter2@x:9093", "http://"])
def test_an_address_that_is_not_one(url: str) -> None:
    with pytest.raises(UsageError, match="http or https"):
        Client(url)


def test_alert_test_never_changes(chain: Alertmanager, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_test.time, "sleep", lambda _seconds: None)
    found = run("alert_test", plain=True, url=chain.url, stack_name="shop")
    assert (found["changed"], found["verdict"]) == (False, PASS)
    assert found["log"] == [f"sent LifeboatAlertTest {found['id']}: critical, stack shop"]
    assert datetime.fromisoformat(found["phase"]["started_at"].replace("Z", "+00:00"))


def test_alert_test_fails(chain: Alertmanager, run: Run) -> None:
    found = run("alert_test", plain=True, url=chain.url, stack_name="shop", check=True)
    assert found["failed"] and found["msg"] == "COULD_NOT_VERIFY: alert: in check mode none is sent"
    assert run("alert_test", plain=True, url=chain.url)["verdict"] == COULD_NOT_VERIFY
    assert "http or https" in run("alert_test", plain=True, url="x", stack_name="shop")["msg"]
    assert chain.alerts == []


def test_the_monthly_list_asks_for_it_where_the_stack_is_watched(tmp_path: Path) -> None:
    def lines(**changes: Any) -> list[Any]:
        made = checklist.work_through(Opened(make_config(tmp_path, **changes)), "monthly", now=NOW)
        return [line for line in made.lines if line.name == "alert test"]

    assert lines() == []
    (line,) = lines(monitoring={"textfile_directory": "/var/lib/prometheus/node-exporter"})
    assert line.result == BY_HAND and "lifeboat.dr.alert_test -e alert_stack=shop" in line.figure
