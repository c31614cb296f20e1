"""What a test of the chain sees: what arrived at the receivers, and what Prometheus holds to be so.

The receivers are stand-ins (molecule/watch/files/receivers.py). Nothing waits for a fixed time: what is awaited is
asked for until it is there, for as long as a busy machine may need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from support import LANE, ROOT, VAULT, Host

WATCH = f"{LANE}-watch1"
INVENTORIES = ("molecule/inventory", "molecule/watch/inventory")
RECEIVERS = "http://127.0.0.1:8500"
RULES: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "monitoring/rules/lifeboat.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
SEVERITY = {name: rule["labels"]["severity"] for name, rule in RULES.items()}
PATIENCE = 300.0  # seconds


def until(what: str, seen: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `seen` returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


@dataclass(frozen=True)
class Chain:
    """watch: the host with Prometheus and Alertmanager. elsewhere: the host with the receivers."""

    watch: Host
    elsewhere: Host

    def got(self, to: str) -> list[Any]:
        """The bodies that this receiver took, oldest first."""
        lines = self.elsewhere.run("curl", "--silent", "--fail", f"{RECEIVERS}/got").splitlines()
        return [line["body"] for line in map(json.loads, lines) if line["to"].partition("?")[0] == to]

    def refused(self) -> list[str]:
        return self.elsewhere.run("curl", "--silent", "--fail", f"{RECEIVERS}/refused").splitlines()

    def switch(self, name: str) -> str:
        """up or down, as a dead-man's switch judges what it heard."""
        return self.elsewhere.run("curl", "--silent", "--fail", f"{RECEIVERS}/switch/{name}").strip()

    def slack(self, since: int = 0) -> list[dict[str, Any]]:
        return [part for body in self.got("slack")[since:] for part in body["attachments"]]

    def pages(self, since: int = 0) -> list[dict[str, Any]]:
        return self.got("pagerduty")[since:]


def chain() -> Chain:
    return Chain(Host(WATCH), Host(VAULT))


def tells(alert: str) -> str:
    """What each message of the alert that fires has in it, and no other alert's."""
    return f"lifeboat explain {alert}"


def alerts(chain: Chain, name: str = "", labels: tuple[tuple[str, str], ...] = ()) -> list[dict[str, str]]:
    """The alerts of this name, if one is given, and these labels that fire, as Prometheus has them."""
    status, answer = chain.watch.http("GET", "http://127.0.0.1:9090/api/v1/alerts")
    assert status == 200, f"Prometheus does not answer: {status}"
    found = [alert["labels"] for alert in answer["data"]["alerts"] if alert["state"] == "firing"]
    return [one for one in found if name in ("", one["alertname"]) and set(labels) <= set(one.items())]


def fires_is_told_and_resolves(
    chain: Chain,
    rule: str,
    labels: tuple[tuple[str, str], ...],
    causes: Sequence[tuple[Host, str]],
    repairs: Sequence[tuple[Host, str]],
) -> None:
    """What holds of each rule. causes, repairs: what root types where, in this order; no repair may fail."""
    until(f"{rule} is quiet", lambda: not alerts(chain, rule, labels))
    messages, pages = len(chain.got("slack")), len(chain.got("pagerduty"))
    try:
        for host, words in causes:
            host.probe("sh", "-c", words or "true")
        until(f"{rule} fires", lambda: alerts(chain, rule, labels))
        until("Slack is told", lambda: any(tells(rule) in part["text"] for part in chain.slack(messages)))
        if SEVERITY[rule] == "critical":
            until("PagerDuty is told", lambda: any(tells(rule) in str(page) for page in chain.pages(pages)))
    finally:
        repaired = [host.probe("sh", "-c", words or "true") for host, words in repairs]
    assert not any(done.returncode for done in repaired), [(done.stdout, done.stderr) for done in repaired]
    until(f"{rule} is resolved", lambda: not alerts(chain, rule, labels))
    assert chain.refused() == []
