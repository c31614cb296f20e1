# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Told without Prometheus: what each receiver gets, when, and what happens where it does not take it."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import notify_world
import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.checks import COULD_NOT_VERIFY, FAIL, PASS, Check
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError, UnverifiedError, UsageError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.operations import (
    checklist,
    notify,
    notify_look,
    preflight,
    schedule,
    status,
)
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from ansible_collections.lifeboat.dr.plugins.module_utils.tools import mail, notices
from ansible_collections.lifeboat.dr.plugins.module_utils.tools.notices import Sent
from builders import NOW, make_config, prove, publish, settings
from notify_world import PASSWORD, ROUTING_KEY, SLACK_PATH, TOKEN, Smtp, Web

HOST = socket.gethostname()
HOUR = timedelta(hours=1)
MAIL = {"type": "mail", "recipients": ["ops@example.org"], "sender": "lifeboat@shop.example", "host": "localhost"}
SECRET_PATH = "/hook/s3cr3t-of-the-hook?sig=s1gnature-of-it"
EVIL = "</pre><script>alert(1)</script> <!channel> *x* \r\nBcc: evil@example.org\r\n.\r\n\x1b[2J\u202e\x00 %s & x"


class World:
    """Every receiver by HTTP, and what a stack's configuration names them with."""

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self.root = root
        self.webhook = stack.enter_context(notify_world.web(notify_world.any_json))
        self.slack = stack.enter_context(notify_world.web(notify_world.slack))
        self.ntfy = stack.enter_context(notify_world.web(notify_world.ntfy))
        self.pagerduty = stack.enter_context(notify_world.web(notify_world.pagerduty))
        self.receivers: list[dict[str, Any]] = [
            {"type": "webhook"}, {"type": "slack"}, {"type": "ntfy"},
            {"type": "pagerduty", "url": f"{self.pagerduty.url}/v2/enqueue"},
        ]  # fmt: skip
        self.secrets = {
            "notify_webhook": f"{self.webhook.url}{SECRET_PATH}\n", "notify_slack": f"{self.slack.url}{SLACK_PATH}",
            "notify_ntfy": f"{self.ntfy.url}/shop-alerts", "notify_ntfy_token": TOKEN,
            "notify_pagerduty": ROUTING_KEY, "database_password": "hunter2hunter2",
        }  # fmt: skip

    def config(self, *receivers: dict[str, Any], **secrets: str) -> config.Config:
        given = settings(self.root, notify=list(receivers) or self.receivers)
        return config.from_mapping(given, {**self.secrets, **secrets})

    @property
    def web(self) -> dict[str, Web]:
        return {name: getattr(self, name) for name in ("webhook", "slack", "ntfy", "pagerduty")}

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(server.taken) for name, server in self.web.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


def failed(
    made: config.Config, *lines: str, at: datetime = NOW, run: str = "backup_database", code: int = 1
) -> list[str]:
    said: list[str] = []
    notify.ended(made, run, code, lines, at, said.append, quiet=False)
    return said


def texts_of(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False).replace("\\u0000", "\0")


def well(made: config.Config, at: datetime, run: str = "backup_database") -> list[str]:
    said: list[str] = []
    notify.ended(made, run, 0, ["published"], at, said.append, quiet=False)
    return said


def test_a_run_that_failed_is_told_to_each_receiver_as_it_wants_it(world: World) -> None:
    assert failed(world.config(), "Could not dump the database: No space left on device.") == []
    assert {name: server.refused for name, server in world.web.items()} == {name: [] for name in world.web}
    assert world.counts == {"webhook": 1, "slack": 1, "ntfy": 1, "pagerduty": 1}
    (hook,), (slack,), (ntfy,), (page,) = (server.taken for server in world.web.values())
    assert (hook.path, hook.body["kind"], hook.body["severity"]) == (SECRET_PATH, "failure", "critical")
    assert hook.body["title"] == f"shop on {HOST}: FAIL: backup database"
    assert hook.body["failed"][0]["detail"].startswith("failed with exit code 1: Could not dump the database")
    for text in (hook.body["text"], slack.body["text"], ntfy.body["message"]):
        assert f"Stack shop on host {HOST}, 2026-11-24 12:00 UTC" in text, "which, where, when"
        assert "No space left on device" in text, "why"
        assert "lifeboat backup database --stack shop" in text, "and the next command"
    assert (ntfy.body["topic"], ntfy.body["priority"]) == ("shop-alerts", 5)
    assert ntfy.body["title"] == hook.body["title"]
    assert (page.body["event_action"], page.body["payload"]["severity"]) == ("trigger", "critical")
    assert page.body["payload"]["summary"].startswith(f"shop on {HOST}: backup database: failed with exit code 1")
    assert page.body["dedup_key"] == f"lifeboat/shop@{HOST}/run backup_database"


def test_the_same_is_not_told_each_night_and_its_end_is(world: World) -> None:
    made = world.config()
    for hours in (0, 1, 3, 23):
        assert failed(made, "No space left", at=NOW + hours * HOUR) == []
    assert world.counts == dict.fromkeys(world.web, 1), "one message"
    failed(made, "No space left", at=NOW + 24 * HOUR)
    assert world.counts == dict.fromkeys(world.web, 2), "and one a day while it lasts"
    assert "since 2026-11-24 12:00 UTC" in world.slack.taken[-1].body["text"], "with when it began"
    well(made, NOW + 25 * HOUR)
    well(made, NOW + 49 * HOUR)
    assert world.counts == dict.fromkeys(world.web, 3), "its end once"
    assert world.webhook.taken[-1].body["kind"] == "recovery"
    assert f"shop on {HOST}: well again: backup database" in world.slack.taken[-1].body["text"]
    first, _again, last = (posted.body for posted in world.pagerduty.taken)
    assert (last["event_action"], last["dedup_key"]) == ("resolve", first["dedup_key"]), "the incident ends"
    failed(made, "No space left", at=NOW + 50 * HOUR)
    assert world.counts == dict.fromkeys(world.web, 4), "and what fails anew is news"


def test_the_cause_is_told_however_much_a_run_says(world: World) -> None:
    made = world.config({"type": "webhook"})
    passed = [f"PASS             table {number}: its rows are those of the backup" for number in range(300)]
    wrong = "FAIL             table orders: 7 rows, and there should be 9"
    failed(made, *passed, wrong, *passed, "FAIL  db_backup_20261124_020000  restore", run="verify", code=6)
    text = world.webhook.taken[0].body["text"]
    assert f"failed with exit code 6: {' '.join(wrong.split())} FAIL db_backup_20261124_020000 restore" in text
    failed(made, f"Could not dump the database: {'x' * 9000} Free some space.", run="prune")
    assert "Could not dump the database: xxx" in world.webhook.taken[1].body["text"], "what was attempted"
    assert "xxx Free some space." in world.webhook.taken[1].body["text"], "and what to do next"


def test_a_backup_of_everything_makes_up_for_one_of_a_component(world: World) -> None:
    made = world.config({"type": "webhook"})
    failed(made, "x"), failed(made, "y", run="verify", code=3)
    assert world.webhook.taken[-1].body["title"] == f"shop on {HOST}: could not verify: verify"
    well(made, NOW + HOUR, run="backup")
    assert [trouble["name"] for trouble in world.webhook.taken[-1].body["well_again"]] == ["backup database"]


def test_what_somebody_sees_is_not_told_but_that_it_is_well_again(world: World) -> None:
    made, said = world.config({"type": "webhook"}), list[str]()
    notify.ended(made, "prune", 1, ["x"], NOW, said.append, quiet=True)
    assert world.webhook.taken == []
    failed(made, "x", run="prune")
    notify.ended(made, "prune", 0, [], NOW + HOUR, said.append, quiet=True)
    assert (said, [posted.body["kind"] for posted in world.webhook.taken]) == ([], ["failure", "recovery"])


# --- a receiver that does not take it ---


def test_every_receiver_is_tried_and_who_missed_it_is_told_later(world: World) -> None:
    made = world.config()
    world.webhook.status, world.ntfy.status = 503, 302
    said = failed(made, "No space left")
    assert said == [
        "notify webhook: it answered 503: no, ********?sig=********",
        "notify ntfy: it answered 302 and sends elsewhere, which is not followed",
    ]
    assert world.counts == {"webhook": 0, "slack": 1, "ntfy": 0, "pagerduty": 1}
    found = {check.name: check for check in notify.checks(made, NOW)}
    assert {name: check.result for name, check in found.items()} == {
        "notify webhook": FAIL, "notify slack": PASS, "notify ntfy": FAIL, "notify pagerduty": PASS,
    }  # fmt: skip
    assert "it answered 503" in found["notify webhook"].detail
    assert "lifeboat notify --test --stack shop" in found["notify webhook"].detail
    world.webhook.status = world.ntfy.status = 0
    assert failed(made, "No space left", at=NOW + HOUR) == []
    assert (world.counts["webhook"], world.counts["ntfy"]) == (1, 1)
    assert {check.result for check in notify.checks(made, NOW + HOUR)} == {PASS}
    assert "/elsewhere" not in world.ntfy.asked, "a secret address is told to nobody else"


def test_the_others_hear_that_one_cannot_be_told(world: World) -> None:
    made = world.config({"type": "webhook"}, {"type": "slack"})
    world.slack.status = 404

    def told(hours: int) -> list[dict[str, Any]]:
        before = len(world.webhook.taken)
        notify.tell(made, NOW + hours * HOUR, [])
        return [posted.body for posted in world.webhook.taken[before:]]

    failed(made, "x")
    assert told(1) == [], "it may have been a moment's matter"
    (body,) = told(2)
    assert [trouble["name"] for trouble in body["failed"]] == ["notify slack"]
    world.slack.status = 0
    assert told(3) == []
    assert len(world.slack.taken) == 1, "it hears what it missed"
    (body,) = told(4)
    assert [trouble["name"] for trouble in body["well_again"]] == ["notify slack"]
    assert "notify slack" not in "".join(posted.body["text"] for posted in world.slack.taken), "itself is not told"


def test_a_receiver_that_hangs_delays_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.config()
    world.slack.status = -1
    real = notify.send
    monkeypatch.setattr(notify, "send", lambda made, found: real(made, found, patience=2))
    began = time.monotonic()
    assert failed(made, "x") == ["notify slack: no answer within 2 s"]
    assert time.monotonic() - began < 30
    assert not world.slack.release.is_set(), "it hangs to the end"
    assert world.counts == {"webhook": 1, "slack": 0, "ntfy": 1, "pagerduty": 1}
    assert notify.PATIENCE <= 20, "as the documentation says"


def test_a_system_without_threads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    made = world.config({"type": "webhook"})
    monkeypatch.setattr(notify.threading.Thread, "start", refused)
    notice = notices.Notice(notices.TEST, "shop", HOST, NOW)
    assert notify.send(made, {"webhook": notice}) == {"webhook": Sent("the system gives no more threads")}


def test_nothing_of_it_fails_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world.config()
    with monkeypatch.context() as patch:
        patch.setattr(notify, "_WAIT", 0.1)
        with lock.held("shop.notify", "a test"):
            (said,) = failed(made, "x")
        assert said.startswith("nobody is told how backup_database ended: Could not take the lock")
        patch.setattr(notify, "tell", lambda *_: 1 / 0)
        (said,) = failed(made, "x")
        assert said.endswith("ended: ZeroDivisionError, which Lifeboat does not foresee")
    notify.tell(made, NOW + HOUR, [])
    assert world.counts == dict.fromkeys(world.web, 1), "that it failed was noted, and is told with the next look"


MISSING = [
    ({"type": "webhook"}, {"notify_webhook": ""}, "lifeboat_secrets.notify_webhook is missing"),
    ({"type": "slack"}, {"notify_slack": "x.example/hunter2"}, "begins with http:// or https://"),
    ({"type": "webhook"}, {"notify_webhook": "https://u:hunter2@x.example/"}, "it has a user name or a password"),
    ({"type": "ntfy"}, {"notify_ntfy": "https://ntfy.example/a/b-hunter2"}, "it is not the address of one topic"),
    ({"type": "ntfy"}, {"notify_ntfy_token": "hunter2 hunter2"}, "notify_ntfy_token has a blank"),
    ({"type": "pagerduty"}, {"notify_pagerduty": "hunter2"}, "is not an integration key"),
    ({**MAIL, "user": "shop"}, {}, "lifeboat_secrets.notify_mail is missing, the password of shop"),
]


@pytest.mark.parametrize(("receiver", "secrets", "said"), MISSING)
def test_a_secret_that_cannot_be_used_is_said_without_it(
    world: World, receiver: dict[str, Any], secrets: dict[str, str], said: str
) -> None:
    made = world.config(receiver, **secrets)
    (problem,) = preflight.addresses(made)
    assert said in problem and "hunter2" not in problem, "deploy refuses it"
    (warning,) = failed(made, "x")
    assert said in warning and "hunter2" not in warning, "and one that came by another way is told"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "fax"}, "settings.notify[0].type"),
    ({"type": "slack", "name": "A b"}, "settings.notify[0].name"),
    ({"type": "slack", "url": "https://hooks.example/"}, "does not know url"),
    ({"type": "slack", "ca_bundle": "x"}, "settings.notify[0].ca_bundle"),
    ({"type": "pagerduty", "url": "events.example"}, "settings.notify[0].url"),
    ({"type": "mail"}, "settings.notify[0].recipients"),
    ({**MAIL, "recipients": ["-OQueueDirectory=/tmp"]}, "settings.notify[0].recipients"),
    ({**MAIL, "recipients": ["a@x.example\nBcc: b@x.example"]}, "settings.notify[0].recipients"),
    ({**MAIL, "sender": ""}, "settings.notify[0].sender"),
    ({**MAIL, "sender": "a b@x.example"}, "settings.notify[0].sender"),
    ({**MAIL, "host": "a b"}, "settings.notify[0].host"),
    ({**MAIL, "user": "x", "security": "none"}, "settings.notify[0].user"),
    ({**MAIL, "sendmail": "sendmail"}, "settings.notify[0].sendmail"),
]


@pytest.mark.parametrize(("receiver", "said"), WRONG)
def test_a_receiver_that_cannot_be_is_refused(tmp_path: Path, receiver: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        make_config(tmp_path, notify=[receiver])
    assert said in str(error.value)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="used once"):
        make_config(tmp_path, notify=[{"type": "slack"}, {"type": "slack"}])
    make_config(tmp_path, notify=[{"type": "slack"}, {"type": "slack", "name": "night"}])


# --- hostile text, secrets ---


def test_hostile_text_is_harmless_to_every_receiver(world: World) -> None:
    with notify_world.smtp() as server:
        made = world.config(*world.receivers, {**MAIL, "port": server.port, "security": "none"})
        assert failed(made, EVIL * 200) == []
        assert {name: receiver.refused for name, receiver in world.web.items()} == {name: [] for name in world.web}
        assert server.problems == []
        (sent,) = server.mails
    assert sent.recipients == ["ops@example.org"] and "Bcc" not in sent.message
    assert set(sent.message.keys()) == {
        "From", "Message-ID", "To", "Subject", "Date", "Auto-Submitted", "Importance", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip
    texts = [sent.text, sent.message["Subject"], *(texts_of(server.taken[0].body) for server in world.web.values())]
    for text in texts:
        assert "\x1b" not in text and "\u202e" not in text and "\x00" not in text
        assert len(text) < 5000, "of bounded length"
    assert "&lt;!channel&gt;" in world.slack.taken[0].body["text"]


def test_a_hostile_name_begins_no_header(world: World) -> None:
    trouble = notices.Trouble("k", "x\r\nBcc: evil@example.org", FAIL, "d", NOW)
    notice = notices.Notice(notices.FAILURE, "shop", "host\r\nBcc: evil@example.org", NOW, [trouble])
    assert "\n" not in notice.title
    head = mail.letter(notice, "a@x.example", ["b@x.example"]).partition(b"\r\n\r\n")[0]
    assert not [line for line in head.split(b"\r\n") if line.lower().startswith(b"bcc")]


def test_no_secret_leaves_and_none_is_kept(world: World, tmp_path: Path) -> None:
    with notify_world.smtp(tls=notify_world.certificate(tmp_path), wants_login=True) as server:
        mailed = {**MAIL, "port": server.port, "user": "shop", "ca_bundle": str(tmp_path / "cert.pem")}
        made = world.config(*world.receivers, mailed, notify_mail=PASSWORD)
        line = f"password=hunter2hunter2 {PASSWORD} {world.secrets['notify_slack']} {ROUTING_KEY} {TOKEN} {SECRET_PATH}"
        assert failed(made, line) == []
        texts = ["\n".join(line.decode() for line in server.mails[0].lines)]
    for name, receiver in world.web.items():
        body = dict(receiver.taken[0].body)
        assert name != "pagerduty" or body.pop("routing_key") == ROUTING_KEY
        texts.append(json.dumps(body))
    texts += [path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(texts) > 6
    for text in texts:
        for secret in ("hunter2hunter2", PASSWORD, ROUTING_KEY, TOKEN):
            assert secret not in text


def test_what_a_receiver_answers_is_said_without_its_secret(world: World) -> None:
    made = world.config({"type": "slack"})
    world.slack.status = 404  # it repeats the path, which is the secret's
    (said,) = failed(made, "x")
    assert said.startswith("notify slack: it answered 404") and world.slack.url not in said
    world.slack.status, made = 0, world.config({"type": "slack"}, notify_slack="http://127.0.0.1:9/hunter2hunter2")
    (said,) = failed(made, "x", at=NOW + HOUR)
    assert "Connection refused" in said and "hunter2" not in said


def test_a_short_word_of_an_address_is_not_taken_out_of_every_text(world: World) -> None:
    made = world.config({"type": "webhook"}, notify_webhook=f"{world.webhook.url}/hooks/database")
    failed(made, "Could not dump the database (/hooks/database)")
    assert "Could not dump the database (/hooks/database)" in world.webhook.taken[0].body["text"]


# --- mail ---


def mailed(world: World, server: Smtp, **changes: Any) -> config.Config:
    receiver = {**MAIL, "port": server.port, "user": "shop", **changes}
    return world.config(receiver, notify_mail=PASSWORD)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_tls_with_a_password(world: World, tmp_path: Path, security: str) -> None:
    tls = notify_world.certificate(tmp_path)
    with notify_world.smtp(tls=tls, wrapped=security == "tls", wants_login=True) as server:
        made = mailed(
            world, server, security=security, ca_bundle=str(tls[0]), recipients=["a@x.example", "b@x.example"]
        )
        assert failed(made, ".", ".hidden", "Ende: 終わり", run="verify") == []
        (sent,), problems = server.mails, server.problems
    assert (problems, sent.secure, sent.user) == ([], True, "shop")
    assert (sent.sender, sent.recipients) == ("lifeboat@shop.example", ["a@x.example", "b@x.example"])
    assert sent.message["Subject"] == f"[lifeboat] shop on {HOST}: FAIL: verify"
    assert sent.message["Auto-Submitted"] == "auto-generated" and sent.message["Message-ID"].endswith("@shop.example>")
    assert "終わり" in sent.text and "next: grep ERROR" in sent.text
    assert all(len(line) <= 78 for line in sent.lines)


def test_a_dot_alone_ends_no_mail(world: World) -> None:
    with notify_world.smtp() as server:
        notice = notices.Notice(notices.WEEKLY, "shop", HOST, NOW, remarks=[".", "..", ".x", "the end"])
        smtp = mail.Server("localhost", server.port, "none")
        letter = mail.letter(notice, "a@x.example", ["b@x.example"])
        assert mail.send(smtp, letter, "a@x.example", ["b@x.example"]) == Sent()
        (sent,) = server.mails
    assert "\n.\n..\n.x\nthe end\n" in sent.text


SMTP_FAILS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("no STARTTLS", {"offers_starttls": False}, {}, "STARTTLS extension not supported"),
    ("another's certificate", {}, {"ca_bundle": ""}, "CERTIFICATE_VERIFY_FAILED"),
    ("another's name", {}, {"host": "127.0.0.1"}, "CERTIFICATE_VERIFY_FAILED"),
    ("a wrong password", {}, {"password": "hunter2hunter2"}, "the server answered 535"),
    ("nobody", {"refused": ("ops@example.org",)}, {}, "ops@example.org was refused: 550"),
    ("full", {"end_of_data": "452 4.3.1 no space"}, {}, "the server answered 452: 4.3.1 no space"),
    ("no such file", {}, {"ca_bundle": "/nowhere"}, "read the CA certificates"),
]


@pytest.mark.parametrize(("what", "does", "changes", "said"), SMTP_FAILS, ids=[case[0] for case in SMTP_FAILS])
def test_mail_that_is_not_taken(
    world: World, tmp_path: Path, what: str, does: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    tls = notify_world.certificate(tmp_path)
    with notify_world.smtp(tls=tls, wants_login=True, **does) as server:
        password = changes.pop("password", PASSWORD) if "password" in changes else PASSWORD
        receiver = {**MAIL, "port": server.port, "user": "shop", "ca_bundle": str(tls[0]), **changes}
        (warning,) = failed(world.config(receiver, notify_mail=password), "x")
        assert said in warning and password not in warning
        assert server.problems == [], "nothing is sent in the clear"
        assert what == "full" or server.mails == []
        assert what not in ("no STARTTLS", "another's certificate", "another's name") or server.logins == []


def test_who_of_several_is_refused_is_named(world: World) -> None:
    with notify_world.smtp(refused=("b@x.example",)) as server:
        receiver = {**MAIL, "port": server.port, "security": "none", "recipients": ["a@x.example", "b@x.example"]}
        (warning,) = failed(world.config(receiver), "x")
        assert warning == "notify mail: b@x.example was refused: 550 5.1.1 no such user 5.1.1 <!channel> here"
        assert server.mails[0].recipients == ["a@x.example"]
        assert failed(world.config(receiver), "x", at=NOW + HOUR) == [], "who has the mail does not get it each hour"
        assert [check.result for check in notify.checks(world.config(receiver), NOW + HOUR)] == [FAIL]


def test_mail_by_sendmail(world: World, tmp_path: Path) -> None:
    program, got = tmp_path / "sendmail", tmp_path / "got"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {got}.argv\ncat > {got}\n')
    program.chmod(0o755)
    receiver = {"type": "mail", "recipients": ["root", "ops@example.org"], "sendmail": str(program)}
    assert failed(world.config(receiver), EVIL) == []
    assert Path(f"{got}.argv").read_text() == "-i\n-t\n", "no text of ours is an option"
    text = got.read_bytes()
    assert b"To: root, ops@example.org\r\n" in text and b"Subject: [lifeboat] shop on" in text
    program.write_text("#!/bin/sh\necho mailq is full >&2; exit 75\n")
    (said,) = failed(world.config(receiver), "x", at=NOW + 24 * HOUR)
    assert said == f"notify mail: {program} ended with 75: mailq is full"
    program.unlink()
    (said,) = failed(world.config(receiver), "x", at=NOW + 25 * HOUR)
    assert "ended with 127" in said


# --- the hourly look ---


def checked(*found: Check) -> Any:
    return lambda run, *, now: status.Status("shop", now, found, (), {})


def test_status_that_goes_from_well_to_ill_and_back_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Opened(world.config({"type": "webhook"}))

    def look(hours: float, *found: Check) -> list[dict[str, Any]]:
        monkeypatch.setattr(status, "status", checked(*found))
        before = len(world.webhook.taken)
        notify_look.report(run, now=NOW + hours * HOUR)
        return [posted.body for posted in world.webhook.taken[before:]]

    good = Check("newest database backup", PASS, "2 h old", kind="newest", subject="database")
    bad = Check("newest database backup", FAIL, "30 h old", kind="newest", subject="database")
    space = Check("space", COULD_NOT_VERIFY, "no backup to judge by")
    assert [body["kind"] for body in look(0, good)] == ["weekly"], "who is named now hears that it works"
    assert look(1, good) == []
    (told,) = look(2, bad)
    assert (told["kind"], told["failed"][0]["remedy"]) == ("failure", "lifeboat backup database --stack shop")
    assert look(3, bad) == []
    (told,) = look(4, bad, space)
    assert [trouble["name"] for trouble in told["failed"]] == ["space"], "what is new"
    assert [trouble["name"] for trouble in told["lasting"]] == ["newest database backup"], "beside what is not"
    assert (told["severity"], "FAIL  newest database backup" in told["text"]) == ("warning", True)
    (told,) = look(5, bad, Check("space", FAIL, "1 kB free"))
    assert [trouble["result"] for trouble in told["failed"]] == ["FAIL"], "what could not be verified has failed"
    (told,) = look(6, good, Check("space", FAIL, "1 kB free"))
    assert (told["kind"], told["well_again"][0]["since"]) == ("recovery", "2026-11-24T14:00:00.000Z")
    assert [trouble["name"] for trouble in told["lasting"]] == ["space"]
    (told,) = look(30, good, Check("space", FAIL, "1 kB free"))
    assert told["failed"][0]["name"] == "space", "again, as it lasts"
    (told,) = look(31, good)
    assert told["kind"] == "recovery"
    assert look(167, good) == []
    (told,) = look(168, good)
    assert told["kind"] == "weekly"


def test_a_status_that_cannot_be_asked_heals_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Opened(world.config({"type": "webhook"}))
    monkeypatch.setattr(status, "status", checked(Check("space", FAIL, "full")))
    notify_look.report(run, now=NOW)

    def broken(run: Opened, *, now: datetime) -> Any:
        raise UnverifiedError("read the repository", "/backup", "Input/output error")

    monkeypatch.setattr(status, "status", broken)
    notify_look.report(run, now=NOW + HOUR)
    last = world.webhook.taken[-1].body
    assert (last["kind"], last["well_again"]) == ("failure", [])
    assert [(trouble["name"], trouble["result"]) for trouble in last["failed"]] == [("status", COULD_NOT_VERIFY)]
    assert [trouble["name"] for trouble in last["lasting"]] == ["space"]


def test_the_weekly_word_says_what_there_is_to_recover_from(world: World) -> None:
    backup = publish(world.root, NOW - 2 * HOUR)
    prove(world.root, backup, at=NOW - HOUR)
    run = Opened(
        world.config(
            *world.receivers,
            environment := {"type": "webhook", "name": "second"},
            notify_second=world.secrets["notify_webhook"],
        )
    )
    assert environment and notify_look.report(run, now=NOW)
    assert world.counts == {"webhook": 2, "slack": 1, "ntfy": 1, "pagerduty": 0}, "nobody is paged for it"
    text = world.webhook.taken[0].body["text"]
    assert "checks passed." in text and "Last proof of the database by a restore: 0.0 days ago" in text
    assert "Next drill of the database: now, as there was none that passed" in text
    assert {check.result for check in notify.checks(run.config, NOW) if check.subject != "pagerduty"} == {PASS}
    (page,) = (check for check in notify.checks(run.config, NOW) if check.subject == "pagerduty")
    assert page.result == COULD_NOT_VERIFY and "it was never told anything" in page.detail


def test_no_weekly_word_while_something_is_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Opened(world.config({"type": "webhook"}, {"type": "slack", "weekly": False}))
    failed(run.config, "x")
    monkeypatch.setattr(status, "status", checked(Check("space", PASS, "room")))
    notify_look.report(run, now=NOW + HOUR)
    assert [posted.body["kind"] for posted in world.webhook.taken] == ["failure"], "a run failed"
    well(run.config, NOW + 2 * HOUR)
    monkeypatch.setattr(status, "status", checked())
    notify_look.report(run, now=NOW + 3 * HOUR)
    assert [posted.body["kind"] for posted in world.webhook.taken] == ["failure", "recovery"], "no check proves nothing"
    monkeypatch.setattr(status, "status", checked(Check("space", PASS, "room")))
    notify_look.report(run, now=NOW + 4 * HOUR)
    assert [posted.body["kind"] for posted in world.webhook.taken] == ["failure", "recovery", "weekly"]
    assert len(world.slack.taken) == 2, "who wants none gets none"


def test_nobody_who_looks_is_said_by_status(world: World) -> None:
    made = world.config({"type": "webhook"})
    (never,) = notify.checks(made, NOW)
    assert never.result == COULD_NOT_VERIFY and "lifeboat notify --test --stack shop" in never.detail
    notify.tell(made, NOW, [], ["all is well"])
    assert [check.result for check in notify.checks(made, NOW + 25 * HOUR)] == [PASS]
    notify.tell(made, NOW + timedelta(days=101), [])
    (long_ago,) = notify.checks(made, NOW + timedelta(days=101))
    assert (long_ago.result, long_ago.detail.partition(";")[0]) == (
        COULD_NOT_VERIFY,
        "it was last told anything at 2026-11-24 12:00 UTC",
    )
    notify.tell(made, NOW, [])
    (late,) = notify.checks(made, NOW + 27 * HOUR)
    assert late.result == FAIL and "nobody has looked since 2026-11-24 12:00 UTC" in late.detail


def test_what_is_remembered_and_damaged_is_told_again(world: World) -> None:
    made = world.config({"type": "webhook"})
    failed(made, "x")
    path = made.state / "notify" / "memory.json"
    assert path.stat().st_mode & 0o077 == 0
    for damage in (b"", b"{", b'{"receivers": {"webhook": {"reported": 7}}}', b"[" * 5000):
        path.write_bytes(damage)
        count = len(world.webhook.taken)
        assert failed(made, "x", at=NOW + HOUR) == []
        assert len(world.webhook.taken) == count + 1, "rather twice than never"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert failed(made, "x", at=NOW + HOUR) == []


def test_a_clock_that_was_ahead_silences_nobody(world: World) -> None:
    made = world.config({"type": "webhook"})
    failed(made, "x", at=NOW + timedelta(days=400))
    failed(made, "x", at=NOW)
    failed(made, "x", at=NOW + HOUR)
    assert len(world.webhook.taken) == 2


def test_a_receiver_that_is_named_later_hears_what_is_wrong(world: World) -> None:
    failed(world.config({"type": "webhook"}), "x")
    notify.tell(world.config({"type": "webhook"}, {"type": "slack"}), NOW + HOUR, [])
    assert (len(world.webhook.taken), len(world.slack.taken)) == (1, 1)
    notify.tell(world.config({"type": "slack"}), NOW + HOUR, [])
    assert set(notify.memory(world.config({"type": "slack"})).receivers) == {"slack"}


def test_more_than_can_be_read_is_counted(world: World) -> None:
    made = world.config()
    troubles = [notices.Trouble(f"status {n}", f"check {n}", FAIL, "x" * 5000, NOW) for n in range(60)]
    assert {check.result for check in notify.tell(made, NOW, troubles)} == {PASS}
    text = world.webhook.taken[0].body["text"]
    assert "and 40 more" in text and len(text) < 20_000
    assert len(world.pagerduty.taken) == notices.MOST


# --- the command ---


@pytest.fixture
def etc(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "shop.json").write_text(json.dumps(settings(tmp_path, notify=world.receivers)))
    (directory / "shop.secrets.json").write_text(json.dumps(world.secrets))
    (directory / "shop.secrets.json").chmod(0o600)
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    publish(tmp_path, datetime.now(timezone.utc).replace(microsecond=0) - HOUR)
    return directory


def run(etc: Path, *words: str) -> int:
    return cli.main([*words, "--config-directory", str(etc)])


def test_a_scheduled_run_tells_and_ends_as_it_would(
    etc: Path, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(etc, "prune") == 0
    assert world.counts == dict.fromkeys(world.web, 0)
    real = cli._VERBS["prune"]
    monkeypatch.setitem(cli._VERBS, "prune", real._replace(run=lambda *_: (6, {}, ["it is damaged"])))
    world.slack.status = 500
    assert run(etc, "prune") == 6, "whoever does not take it"
    assert "notify slack: it answered 500" in caplog.text
    assert "it is damaged" in world.webhook.taken[0].body["text"]
    monkeypatch.setitem(cli._VERBS, "prune", real)
    world.slack.status = 0
    assert run(etc, "prune", "--dry-run") == 0
    assert world.counts["webhook"] == 1, "no scheduled work"
    assert run(etc, "prune") == 0
    assert world.webhook.taken[-1].body["kind"] == "recovery"


@pytest.mark.parametrize("wrong", [RuntimeError("x"), KeyboardInterrupt(), LifeboatError("dump", "shop", "No space")])
def test_a_run_that_breaks_off_is_told(
    etc: Path, world: World, monkeypatch: pytest.MonkeyPatch, wrong: BaseException
) -> None:
    def broken(*_: Any) -> Any:
        raise wrong

    monkeypatch.setitem(cli._VERBS, "prune", cli._VERBS["prune"]._replace(run=broken))
    with contextlib.suppress(RuntimeError):
        assert run(etc, "prune") in (1, 130)
    how = (
        "failed with exit code 1: Could not dump" if isinstance(wrong, LifeboatError) else "was interrupted, or failed"
    )
    assert world.webhook.taken[0].body["failed"][0]["detail"].startswith(how)


def test_the_command_tests_each_receiver(etc: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(etc, "notify", "--test", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {check["name"]: check["result"] for check in answer["checks"]} == {
        "notify webhook": PASS, "notify slack": PASS, "notify ntfy": PASS, "notify pagerduty": PASS,
    }  # fmt: skip
    assert all(answer["id"] in json.dumps(server.taken[0].body) for server in world.web.values())
    first, last = (posted.body for posted in world.pagerduty.taken)
    assert (first["event_action"], first["payload"]["severity"], last["event_action"]) == ("trigger", "info", "resolve")
    assert first["dedup_key"] == last["dedup_key"]
    world.ntfy.status = 403
    assert run(etc, "notify", "--test") == 6
    assert "FAIL             notify ntfy: it answered 403" in capsys.readouterr().out
    assert {check.name: check.result for check in notify.checks(world.config(), datetime.now(timezone.utc))} == {
        "notify webhook": PASS, "notify slack": PASS, "notify ntfy": FAIL, "notify pagerduty": PASS,
    }  # fmt: skip


def test_the_command_looks(etc: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(etc, "notify") == 0, "each receiver took it, however the stack is"
    assert world.webhook.taken[0].body["kind"] == "failure", "the backup was never proved"
    assert run(etc, "notify") == 0
    assert "nothing to tell" in capsys.readouterr().out
    assert run(etc, "status") == 3
    assert "PASS             notify webhook: it took a message at" in capsys.readouterr().out


def test_without_a_receiver_the_command_says_so(etc: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (etc / "shop.json").write_text(json.dumps(settings(tmp_path)))
    assert run(etc, "notify") == 2
    assert "lifeboat_notify names no receiver" in caplog.text


def test_the_schedule_and_the_monthly_list_ask_for_it(world: World) -> None:
    assert "notify" not in schedule.required(make_config(world.root))
    assert schedule.required(world.config())["notify"] == "notify"
    made = checklist.work_through(Opened(world.config()), "monthly", now=NOW)
    (line,) = (line for line in made.lines if line.name == "alert test")
    assert "lifeboat.dr.alert_test -e alert_stack=shop" in line.figure
