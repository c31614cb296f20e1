"""The chain on whole hosts: from a cause on the stack's host to what arrives at the receivers, and back."""

from __future__ import annotations

import json
import subprocess

import pytest
from support import Host, playbook
from watching import INVENTORIES, WATCH, Chain, tells, until

BAD = "LifeboatNewestBackupBad"
FLIP = """
import pathlib, sys
files = [path for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()]
file = max(files, key=lambda path: path.stat().st_size)
data = bytearray(file.read_bytes())
data[len(data) // 2] ^= 1
file.write_bytes(data)
"""


@pytest.mark.long
def test_both_playbooks_change_nothing_twice() -> None:
    for name in ("lifeboat.dr.monitoring_agent", "lifeboat.dr.monitoring"):
        again = playbook(name, inventories=INVENTORIES)
        assert (again.status, again.changed_tasks) == (0, ()), (name, again.said)


def test_a_test_alert_arrives(chain: Chain) -> None:
    run = playbook(
        "lifeboat.dr.alert_test", inventories=INVENTORIES, alert_stack="shop",
        arrived=f"http://{chain.elsewhere.name}:8500/got",
    )  # fmt: skip
    assert run.status == 0, run.said
    checks = {check["name"]: check["result"] for check in run.result("Send it and wait")["checks"]}
    ways = "slack of critical", "msteamsv2 of critical", "pagerduty of critical-pages", "opsgenie of critical-pages"
    assert checks == dict.fromkeys((*ways, "arrived"), "PASS")


def test_a_damaged_backup_is_told_and_its_repair_too(app1: Host, chain: Chain, backed_up: None) -> None:
    messages, pages = len(chain.got("slack")), len(chain.got("pagerduty"))
    code, taken = app1.lifeboat("backup", "database")
    assert code == 0, taken
    newest = taken["id"]
    place = f"/backup/postgresql/{newest}"
    app1.python(FLIP, place)
    assert app1.lifeboat("verify", newest)[0] != 0, "the damage is found"
    message = until(
        "Slack is told", lambda: next((part for part in chain.slack(messages) if tells(BAD) in part["text"]), None)
    )
    assert message["color"] == "danger" and message["title"].startswith("[critical] shop: "), message
    assert "the newest backup of the database cannot be used" in message["text"]
    assert "`lifeboat list --component database --stack shop`" in message["text"]
    page = until(
        "PagerDuty is told", lambda: next((page for page in chain.pages(pages) if tells(BAD) in json.dumps(page)), None)
    )
    assert (page["event_action"], page["payload"]["severity"], page["payload"]["source"]) == (
        "trigger",
        "critical",
        "shop",
    )
    told = chain.got("ping/shop-verify/6")
    assert told and told[-1].startswith(f"verify of stack shop on {app1.name} failed with exit code 6"), told
    assert chain.switch("shop-verify") == "down"

    app1.run("rm", "-r", place)
    code, repaired = app1.lifeboat("backup", "database")
    assert code == 0, repaired
    assert app1.lifeboat("verify", repaired["id"], "--level", "checksum")[0] == 0
    assert chain.switch("shop-verify") == "up"
    until("Slack is told that it is over", lambda: any(
        "Resolved: shop: the newest backup of the database" in part["text"] for part in chain.slack(messages)
    ))  # fmt: skip
    until("PagerDuty is told that it is over", lambda: any(
        (end["event_action"], end["dedup_key"]) == ("resolve", page["dedup_key"]) for end in chain.pages(pages)
    ))  # fmt: skip
    assert chain.refused() == []


@pytest.mark.parametrize(
    "lost, back",
    [
        pytest.param(
            f"docker exec {WATCH} systemctl stop prometheus",
            f"docker exec {WATCH} systemctl start prometheus",
            id="Prometheus",
        ),
        pytest.param(f"docker pause {WATCH}", f"docker unpause {WATCH}", id="the-whole-host", marks=pytest.mark.long),
    ],
)
def test_who_watches_is_watched(lost: str, back: str, chain: Chain) -> None:
    """No alert can say that nobody alerts any more. The dead-man's switch does."""
    until("the watchdog is heard", lambda: chain.switch("watchdog") == "up")
    subprocess.run(lost.split(), check=True, capture_output=True)
    try:
        until("the switch tells", lambda: chain.switch("watchdog") == "down")
    finally:
        subprocess.run(back.split(), check=True, capture_output=True)
    until("the switch tells that it is over", lambda: chain.switch("watchdog") == "up")
