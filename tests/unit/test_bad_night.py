# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bad night, as a person hears of it: what each service gets from a real Alertmanager by the documented file.

The receivers are the stand-ins of the scenario `watch`. The alerts have the annotations of their rules. That they are
those of such a night promtool says, by the files that the product's own commands wrote in one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import alertmanager
import debian
import pytest
import yaml
from ansible_collections.lifeboat.dr.plugins.module_utils.base import lock
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import NotFoundError
from ansible_collections.lifeboat.dr.plugins.module_utils.command import cli
from ansible_collections.lifeboat.dr.plugins.module_utils.database import server
from ansible_collections.lifeboat.dr.plugins.module_utils.repository import repositories
from ansible_collections.lifeboat.dr.plugins.module_utils.settings import config as settings_config
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened
from builders import publish, settings, until
from test_alertmanager import CONFIG, TEMPLATE
from test_rules import RULES, tried

ROOT = Path(__file__).resolve().parents[2]
# The disk is not mounted, a backup was killed, the database is down, and the keeper's pull is refused; that of
# another stack on the same keeper, too.
NIGHT: list[tuple[str, dict[str, str]]] = [
    ("LifeboatRepositoryNotKnown", {}),
    ("LifeboatBackupKilled", {"run": "backup_database"}),
    ("LifeboatRunFailed", {"run": "backup_database"}),
    ("LifeboatDatabaseDown", {}),
    ("LifeboatEndpointDown", {"endpoint": "https://shop.example/health"}),
    ("LifeboatKeeperAlarm", {"kind": "stopped"}),
    ("LifeboatKeeperAlarm", {"stack": "wiki", "kind": "stopped"}),
]


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ask(url: str, body: Any = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - on loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return str(answer.read().decode())


def answers(url: str) -> bool:
    try:
        ask(url)
    except OSError:
        return False
    return True


def told(name: str, labels: dict[str, str], ended: bool = False) -> dict[str, Any]:
    """The alert as Prometheus sends it."""
    every = {"stack": "shop", **labels}

    def filled(text: str) -> str:
        for label, value in every.items():
            text = text.replace(f"{{{{ $labels.{label} }}}}", value)
        return text.replace("{{ $value }}", "7")

    rule, now = RULES[name], datetime.now(timezone.utc)
    ends = {"endsAt": now.isoformat()} if ended else {}
    return {
        "labels": {"alertname": name, "severity": rule["labels"]["severity"], **every},
        "annotations": {key: filled(text) for key, text in rule["annotations"].items()},
        "startsAt": (now - timedelta(minutes=5)).isoformat(), **ends,
    }  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The addresses of Alertmanager and of the receivers."""
    program = debian.required("prometheus-alertmanager")
    mine, theirs = port(), port()
    receivers = f"http://127.0.0.1:{theirs}"
    config = json.loads(json.dumps(CONFIG))
    config["templates"] = [str(TEMPLATE)]
    secrets = {"slack_url": f"{receivers}/slack", "pagerduty_key": "k" * 32, "webhook_url": f"{receivers}/ping/w",
               "watchdog_url": f"{receivers}/ping/watchdog", "smtp_password": "x", "teams_url": f"{receivers}/teams",
               "opsgenie_key": "00000000-0000-0000-0000-000000000000"}  # fmt: skip
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    for receiver in config["receivers"]:
        receiver.pop("email_configs", None)
        for way in receiver.get("pagerduty_configs", ()):
            way["url"] = f"{receivers}/pagerduty"
        for way in receiver.get("opsgenie_configs", ()):
            way["api_url"] = f"{receivers}/opsgenie/"
    text = yaml.safe_dump(config).replace("/etc/prometheus/lifeboat/", f"{tmp_path}/")
    text = text.replace("group_wait: 30s", "group_wait: 1s").replace("group_interval: 5m", "group_interval: 1s")
    (tmp_path / "alertmanager.yml").write_text(text)
    argv = [program, f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{mine}", "--cluster.listen-address="]  # fmt: skip
    share = Path(program).parents[1] / "share"
    if not Path("/usr/share/prometheus/alertmanager/default.tmpl").exists():  # only unpacked: it looks nowhere else
        if os.geteuid() != 0:
            pytest.skip("NOT CHECKED by Alertmanager: it is not installed, and only root can show it its templates")
        over = f'mount -t overlay -o lowerdir={share}:/usr/share overlay /usr/share && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", over, "sh", *argv]
    stand_in = [sys.executable, str(ROOT / "molecule/watch/files/receivers.py"), str(theirs)]
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(stand_in, stderr=said) as other,
        subprocess.Popen(argv, stdout=said, stderr=said) as own,
    ):
        try:
            until(lambda: answers(f"{receivers}/got") and answers(f"http://127.0.0.1:{mine}/-/ready"))
            yield f"http://127.0.0.1:{mine}", receivers
        finally:
            own.terminate(), other.terminate()


def show(calls: list[dict[str, Any]], cards: list[list[str]]) -> None:
    for call in calls:
        print(f"Opsgenie   {call['priority']} {call['message']}\n           {call['details']['command']}")
    for title, text in cards:
        print(f"Teams      {title}")
        print("".join(f"           {line}\n" for line in text.splitlines() if line), end="")


def others_say_so(calls: list[dict[str, Any]], cards: list[list[str]], page: dict[str, Any]) -> None:
    """Opsgenie and Teams say what PagerDuty's page says."""
    payload = page["payload"]
    runbook = payload["custom_details"]["runbook"]
    (call,) = [each for each in calls if each["message"] == payload["summary"]]
    assert (call["priority"], call["source"]) == ("P1", payload["source"])
    command = payload["custom_details"]["command"]
    assert {"command": command, "runbook": runbook}.items() <= call["details"].items()
    assert any(f"Run on {command}\n" in text and f"keeper: {runbook}\n" in text for _title, text in cards)


@pytest.mark.slow
def test_each_message_of_a_bad_night_is_what_a_person_needs(chain: tuple[str, str]) -> None:
    address, receivers = chain

    def got(to: str) -> list[Any]:
        lines = map(json.loads, ask(f"{receivers}/got").splitlines())
        return [line["body"] for line in lines if line["to"].partition("?")[0] == to]

    def sent_to(service: str) -> list[str]:
        lines = map(json.loads, ask(f"{receivers}/got").splitlines())
        return [to for line in lines if (to := line["to"].partition("?")[0]).startswith(service)]

    def pages(action: str) -> dict[str, Any]:
        return {page["dedup_key"]: page for page in got("pagerduty") if page["event_action"] == action}

    critical = [one for one in NIGHT if RULES[one[0]]["labels"]["severity"] == "critical"]
    for number, one in enumerate(NIGHT):
        ask(f"{address}/api/v2/alerts", [told(*one)])
        if one in critical:
            count = sum(earlier in critical for earlier in NIGHT[: number + 1])
            until(lambda count=count: len(pages("trigger")) == count)  # type: ignore[misc]
    until(lambda: any("and 4 more" in part["title"] for body in got("slack") for part in body["attachments"]))
    ask(f"{address}/api/v2/alerts", [told(*NIGHT[1], ended=True)])
    until(lambda: len(pages("resolve")) == 1)
    until(lambda: any(line.endswith("/close") for line in sent_to("opsgenie")))
    until(lambda: any("and 3 more" in part["title"] and "Resolved: " in part["text"]
                      for body in got("slack") for part in body["attachments"]))  # fmt: skip

    shown = [part for body in got("slack") for part in body["attachments"]]
    for part in shown:
        print(f"Slack      {part['title']}")
        print("".join(f"           {line}\n" for line in part["text"].splitlines()), end="")
    for page in pages("trigger").values():
        payload = page["payload"]
        print(f"PagerDuty  {payload['summary']}\n           {payload['custom_details']['command']}")
        print(f"           {payload['custom_details']['runbook']}")
    calls = list({one["alias"]: one for one in got("opsgenie/v2/alerts")}.values())
    cards = [
        [part["text"] for part in card["content"]["body"]] for body in got("teams") for card in body["attachments"]
    ]
    show(calls, cards)
    assert ask(f"{receivers}/refused") == ""
    assert [part["title"] for part in shown if re.search(r"\d+ alerts", part["title"])] == []
    assert all(re.match(r"\[(critical|warning|resolved)\] (shop|wiki): ", part["title"]) for part in shown)
    assert {re.split(r"[] :]+", part["title"])[1] for part in shown} == {"shop", "wiki"}, "a message of each stack"
    assert all(
        re.search(r"`lifeboat explain Lifeboat\w+ --stack (shop|wiki)`", part["text"])
        for part in shown
        if "resolved" not in part["title"]
    )
    assert not [
        part for part in [*shown, *pages("trigger").values()] if part.get("title_link") or part.get("client_url")
    ]
    assert len(pages("trigger")) == len(calls) == len(critical), "an incident for each"
    assert {title for title, _text in cards} == {part["title"] for part in shown}, "Teams says what Slack says"
    for one in critical:
        wanted = told(*one)["annotations"]
        (page,) = [
            each for each in pages("trigger").values()
            if each["payload"]["summary"] == f"[critical] {wanted['summary']}"
        ]  # fmt: skip
        assert page["payload"]["custom_details"]["runbook"] == wanted["runbook"]
        assert page["payload"]["custom_details"]["command"] == f"{wanted['where']}: {wanted['command']}"
        others_say_so(calls, cards, page)
        assert any(wanted["command"] in part["text"] for part in shown), "Slack says what to type, too"


# The same night, as the product's own commands tell it.


def lifeboat(etc: Path, *words: str) -> int:
    return cli.main([*words, "--config-directory", str(etc)])


def host(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `lifeboat metrics` has written on the stack's host: its backup disk is not mounted, so a backup fails; the
    next is killed; and the database is down."""
    for name in ("etc", "locks", "textfiles"):
        (root / name).mkdir(parents=True)
    given = settings(root, monitoring={"textfile_directory": str(root / "textfiles")})
    (root / "etc/shop.json").write_text(json.dumps(given))
    held = lock.held
    monkeypatch.setattr(lock, "held", lambda *a, **kw: held(*a, **{**kw, "directory": root / "locks"}))

    def down(*_: object) -> None:
        raise NotFoundError("find the database", "db", "its service does not run")

    monkeypatch.setattr(server, "of", down)
    publish(root, datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1))
    repositories.repository_of(Opened(settings_config.load("shop", root / "etc"))).check(writable=True)
    (root / "backup").rename(root / "the disk")
    (root / "backup").mkdir()
    assert lifeboat(root / "etc", "backup", "database", "--stack", "shop") != 0
    with held("shop", "another run", directory=root / "locks"):
        child = os.fork()
        if not child:
            lifeboat(root / "etc", "backup", "database", "--wait", "600", "--stack", "shop")
            os._exit(0)
        until(lambda: any((root / "state/runs").glob(f"backup_database.{child}.begun")))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert lifeboat(root / "etc", "metrics", "--stack", "shop") == 0
    return root / "textfiles/lifeboat_shop.prom"


def keeper(root: Path, stack: str) -> Path:
    """What `lifeboat keeper metrics` has written of one of the keeper's stacks, after a good night and a pull that was
    refused."""
    host, kept = root / f"host-of-{stack}", root / f"kept/{stack}"
    for directory in (root / "etc", root / "textfiles", host / "backup", kept):
        directory.mkdir(parents=True, exist_ok=True)

    def configure(source: dict[str, Any]) -> None:
        one = {"directory": str(kept), "source": source, "quota": "1G"}
        told = {"monitoring": {"textfile_directory": str(root / "textfiles")}, "config": {"enabled": False}}
        (root / f"etc/{stack}.json").write_text(json.dumps({"stack": stack, "keeper": one, **told}))

    publish(host, datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1), stack=stack)
    configure({"mounted": str(host / "backup")})
    assert lifeboat(root / "etc", "keeper", "pull", "--stack", stack) == 0
    ssh = {"identity_file": str(root / "key"), "known_hosts": str(root / "known")}
    configure({"host": "127.0.0.1", "port": port(), "user": f"keeper-{stack}", **ssh})
    assert lifeboat(root / "etc", "keeper", "pull", "--stack", stack) != 0
    assert lifeboat(root / "etc", "keeper", "metrics", "--stack", stack) == 0
    return root / f"textfiles/lifeboat-keeper_{stack}.prom"


def series(text: str, now: float, at: int) -> dict[str, str]:
    """Each line as one that stays as it is, `now` being `at` minutes; but the file itself is written every minute."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _space, value = line.rpartition(" ")
        figure = float(value)
        if "metrics_timestamp_seconds" in name:
            found[name] = f"0+60x{at + 60}"
        else:
            shifted = figure - now + 60 * at if "timestamp_seconds" in name and figure else figure
            found[name] = f"{shifted:.0f}x{at + 60}"
    return found


@pytest.mark.slow
def test_the_commands_own_metrics_of_that_night_fire_these_alerts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NIGHT, and what Alertmanager keeps back, is what promtool makes of the files that real commands wrote."""
    monkeypatch.setattr(cli, "LOG_DIRECTORY", tmp_path / "log")
    of_keeper = [keeper(tmp_path / "keeper", stack) for stack in ("shop", "wiki")]
    files = [host(tmp_path / "app", monkeypatch), *of_keeper]
    at, told_of = 120, dict[str, str]()
    for file in files:
        told_of |= series(file.read_text(), time.time(), at)
    # Of the blackbox exporter and the list of stacks: not of a command of ours.
    site = 'stack="shop",endpoint="https://shop.example/health"'
    told_of[f"lifeboat_expected_endpoint{{{site}}}"] = f"1x{at + 60}"
    told_of[f'probe_success{{{site},job="lifeboat-endpoint_shop"}}'] = f"0x{at + 60}"
    asked = 'count by (alertname, stack, severity, run, kind, endpoint, of, check) (ALERTS{alertstate="firing"})'
    body = {
        "name": "night", "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in told_of.items()],
        "promql_expr_test": [{"expr": asked, "eval_time": f"{at}m", "exp_samples": []}],
    }  # fmt: skip
    done = tried(tmp_path, [body])
    text = (done.stdout + done.stderr).partition("got:")[2] or done.stdout + done.stderr
    firing = [dict(re.findall(r'(\w+)="([^"]*)"', labels)) for labels in re.findall(r"\{(alertname=[^{}]*)\}", text)]
    assert firing, done.stdout + done.stderr
    labels = "alertname", "stack", "run", "kind"

    def heard(alerts: list[dict[str, str]]) -> set[tuple[str, ...]]:
        return {tuple(one.get(label, "") for label in labels) for one in alertmanager.told(CONFIG, alerts)}

    night = [told(*one)["labels"] for one in NIGHT]
    assert heard(firing) - heard([{"alertname": "LifeboatWatchdog"}]) == heard(night)
    fired = {tuple(one.get(label, "") for label in labels) for one in firing}
    assert {tuple(one.get(label, "") for label in labels) for one in night} <= fired, "also what another keeps back"
