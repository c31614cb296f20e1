"""A stack without containers: PostgreSQL and the application are systemd's, broken for real and recovered.

Meanwhile cron's clock runs on the other stack's host, which none of this touches: its jobs are looked at last.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_default
from support import LAB, LEDGER, ROOT, Clock, Host, Run, Stack, playbook

DEPLOY = "lifeboat.dr.deploy"
CRON = test_default.CRON
INVENTORIES = ("molecule/foreign_stack/systemd",)
UNIT = """
[Service]
User=postgres
ExecStart=/usr/bin/python3 /srv/ledger.py
Restart=always
[Install]
WantedBy=multi-user.target
"""
ROWS = """
CREATE TABLE orders (id serial PRIMARY KEY, customer text NOT NULL, at timestamptz NOT NULL DEFAULT now());
INSERT INTO orders (customer) SELECT '客 ' || g FROM generate_series(1, 20000) g;
"""
SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq --no-install-recommends install postgresql >/dev/null 2>&1
systemctl is-active postgresql@17-main
runuser -u postgres -- createdb ledger
systemctl daemon-reload
systemctl enable --quiet --now ledger
"""


@pytest.fixture(scope="module")
def clock(app1: Host, shop: Stack, cron: Clock) -> Iterator[dict[str, Any]]:
    """Both jobs of the sample stack every minute for once: only the time of what the deployment wrote is another. The
    backup that was there before, so that the proof finds something in the first minute; and `schedule`, what was
    deployed."""
    shop.wait_until_well()
    code, typed = app1.lifeboat("backup", "database")
    assert code == 0, typed
    assert not any(backup["proven"] for backup in app1.lifeboat("list")[1] if backup["id"] == typed["id"])
    deployed = app1.run("cat", CRON)
    jobs = r"(?m)^(?:\S+ ){5}(root lifeboat (?:backup database|verify) )"
    often, number = re.subn(jobs, r"* * * * * \1", deployed)
    assert number == 2, deployed
    app1.run("sh", "-c", f"cat > {CRON}", stdin=often)
    cron.run()
    yield {**typed, "schedule": deployed}
    app1.run("sh", "-c", f"cat > {CRON}", stdin=deployed)
    cron.stop()
    test_default.test_the_schedule_is_the_strategy(app1)


@pytest.fixture(scope="module")
def ledger(clock: object) -> Iterator[Host]:
    """A machine of its own, so that the empty one of the scenarios that follow stays empty."""
    subprocess.run(["docker", "rm", "--force", "--volumes", LEDGER], capture_output=True, check=False)
    subprocess.run(
        ["docker", "run", "--detach", "--name", LEDGER, "--hostname", LEDGER, "--privileged", "--cgroupns", "private",
         "--label", f"lifeboat.lab={LAB}", "--tmpfs", "/run", "--tmpfs", "/run/lock",
         "lifeboat-lab/spare:trixie"],
        capture_output=True, check=True,
    )  # fmt: skip
    host = Host(LEDGER)
    deadline = time.monotonic() + 60
    while host.probe("systemctl", "is-system-running").stdout.strip() not in ("running", "degraded"):
        assert time.monotonic() < deadline, "systemd has not started"
        time.sleep(0.5)
    program = Path(ROOT, "molecule/foreign_stack/files/ledger.py").read_text(encoding="utf-8")
    host.run("sh", "-c", "cat > /srv/ledger.py", stdin=program)
    host.run("sh", "-c", "cat > /etc/systemd/system/ledger.service", stdin=UNIT)
    host.run("sh", "-s", stdin=SCRIPT)
    psql(host, ROWS)
    deployed = playbook(DEPLOY, inventories=INVENTORIES)
    assert deployed.status == 0, deployed.said
    yield host
    subprocess.run(["docker", "rm", "--force", "--volumes", LEDGER], capture_output=True, check=False)


def psql(host: Host, sql: str) -> str:
    argv = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "ledger", "-f", "-"]
    return host.run(*argv, stdin=sql)


def drill(tmp_path: Path, fault: str) -> Run:
    return playbook(
        "lifeboat.dr.drill", inventories=INVENTORIES, scenario="database", fault=fault, confirm=LEDGER, write_seconds=1,
        report_directory=str(tmp_path),
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("fault", ["corrupted", "volume_removed", "database_dropped"])
def test_a_database_under_systemd_is_recovered(ledger: Host, tmp_path: Path, fault: str) -> None:
    portrait = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o WHERE customer LIKE '客%';"
    before = psql(ledger, portrait)
    run = drill(tmp_path, fault)
    assert run.status == 0, run.said
    assert psql(ledger, portrait) == before
    assert ledger.http("GET", "http://127.0.0.1:8080/health") == (200, {"orders": 20000})
    assert "quarantine" not in ledger.run("ls", "/var/lib/postgresql/17"), "the drill cleans up after itself"
    again = playbook("lifeboat.dr.recover_database", inventories=INVENTORIES, confirm=LEDGER)
    assert (again.status, again.changed) == (0, 0), again.said


@pytest.mark.long
def test_without_docker_nothing_is_called_proved(ledger: Host) -> None:
    code, _ = ledger.lifeboat("verify")
    assert code == 3
    assert "there is no docker command on this machine" in ledger.probe("lifeboat", "verify").stdout


def test_cron_really_fires(app1: Host, clock: dict[str, Any]) -> None:
    """A backup that nobody typed and a proof that nobody typed, in log and journal."""
    taken: list[dict[str, Any]] = []
    proven: list[dict[str, Any]] = []
    deadline = time.monotonic() + 600
    while not (taken and proven) and time.monotonic() < deadline:
        listed = app1.lifeboat("list", "--component", "database")[1]
        taken = [backup for backup in listed if backup["id"] > clock["id"]]
        proven = [backup for backup in listed if backup["proven"] and backup["id"] >= clock["id"]]
        if taken:  # the proof began in the same minute: more of both would only keep it waiting
            app1.run("sh", "-c", f"cat > {CRON}", stdin=clock["schedule"])
        time.sleep(1)
    assert taken, "cron took no backup: " + app1.run("journalctl", "-q", "-n", "20", "-u", "cron")
    assert proven, "cron proved no backup: " + app1.run("journalctl", "-q", "-n", "20", "-u", "cron")
    assert taken[0]["good"]
    for said in (f"{taken[0]['id']}: published", f"{proven[0]['id']}: PASS at level restore"):
        assert said in app1.run("cat", "/var/log/lifeboat/shop.log")
        assert said in app1.run("journalctl", "-q")
