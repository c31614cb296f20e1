"""Logs on a whole host: systemd's journal, Debian's rsyslog and Docker, to a stand-in of the store beside the vault.

The store is of molecule/watch/logs.yml: not Elasticsearch or OpenSearch, but what is published of their bulk API. It
keeps what it has over a restart, as they do.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support import Host, Run, Stack, playbook
from watching import INVENTORIES, Chain, until

SETUP = "molecule/watch/logs.yml"
QUEUE = "/var/spool/rsyslog"
ROLE_FILE = "/etc/rsyslog.d/lifeboat-shop.conf"
STORE = "/var/lib/bulk"
# The inventory's password of the store.
KEY = "canary-hunter2-of-the-store"


IMPATIENT, TOLD = "/usr/local/bin/impatient", "/var/lib/lifeboat/told"  # rsyslog.service may not write below /usr
OF_3_SECONDS = f"""#!/usr/bin/python3
import pathlib, sys
sys.path.insert(0, "/usr/local/bin/lifeboat")
from lifeboat.command import cli
from lifeboat.operations import shipping
shipping._HOLD = 3
committed = shipping._committed
def told(*words):
    said = committed(*words)
    if said:
        pathlib.Path("{TOLD}").write_text("not stored: " + said)
    return said
shipping._committed = told
sys.exit(cli.main())
"""
pytestmark = pytest.mark.long  # a playbook alone takes longer than the rest of the scenario may wait


def written(word: str) -> str:
    """As it is in the store's file."""
    return json.dumps(word)[1:-1]


def setup(**extra: object) -> Run:
    return playbook(SETUP, inventories=INVENTORIES, **extra)


class Logs:
    """The host that sends, and the store."""

    def __init__(self, host: Host, store: Host) -> None:
        self.host, self.store = host, store

    def documents(self, word: str) -> list[dict[str, Any]]:
        """What the store has with this word, each as often as it has it."""
        said = self.store.probe("grep", "--fixed-strings", written(word), f"{STORE}/documents.ndjson").stdout
        return [json.loads(line)["_source"] for line in said.splitlines()]

    def count(self, word: str) -> int:
        return int(self.store.probe("grep", "-c", "-F", written(word), f"{STORE}/documents.ndjson").stdout or 0)

    def came(self, word: str) -> bool:
        """Was it in any request at all?"""
        return self.store.probe("grep", "-q", "-F", word, f"{STORE}/bodies.ndjson").returncode == 0

    def arrived(self, word: str, number: int = 1) -> list[dict[str, Any]]:
        until(f"{number} lines with {word}", lambda: self.count(word) >= number, 120)
        return self.documents(word)

    def away(self) -> None:
        self.store.run("systemctl", "stop", "bulk")

    def back(self) -> None:
        self.store.run("systemctl", "start", "bulk")

    def journal(self, *lines: str) -> None:
        self.host.run("systemd-cat", "--identifier=trial", stdin="".join(f"{line}\n" for line in lines))

    def file(self, *lines: str, name: str = "trial") -> None:
        """As a run of Lifeboat writes; to a file that no other test reads."""
        self.host.run("sh", "-c", f"cat >> /var/log/lifeboat/{name}.log", stdin="".join(f"{line}\n" for line in lines))

    def waiting(self) -> int:
        """How many lines the queue on the disk has, by the file that says so."""
        script = f"sed -n 's/^+iQueueSize:2:[0-9]*:\\([0-9]*\\):$/\\1/p' {QUEUE}/lifeboat_ship.qi"
        return int(self.host.probe("sh", "-c", script).stdout or 0)

    def size(self) -> int:
        """Bytes of the queue on the disk."""
        return int(self.host.run("sh", "-c", f"cat {QUEUE}/lifeboat_ship.0* | wc --bytes"))

    def whole(self, word: str, number: int, blanked: str = "") -> None:
        """As many lines of the journal and as many of a file have arrived, each once and with each of its letters."""
        self.arrived(f"{word} journal ", number)
        self.arrived(f"{word} file ", number)
        for source in ("journal", "file"):
            found = Counter(str(one["message"]) for one in self.documents(f"{word} {source} "))
            assert found == Counter(f"{word} {source} {n} 「書く」{blanked}" for n in range(number)), source

    def write(self, word: str, start: int, end: int, secret: str = "") -> None:
        for source, write in (("journal", self.journal), ("file", self.file)):
            write(*(f"{word} {source} {n} 「書く」{secret}" for n in range(start, end)))


@pytest.fixture(scope="module")
def logs(app1: Host, chain: Chain) -> Iterator[Logs]:
    made = setup()
    assert made.status == 0, made.said
    there = json.loads(chain.elsewhere.run("cat", f"{STORE}/objects.json"))
    assert {path.rpartition("/")[0] for path in there} == {"/_index_template", "/_plugins/_ism/policies"}, there
    yield Logs(app1, chain.elsewhere)
    ended = setup(log_shipping_enabled=False)
    assert ended.status == 0, ended.said
    left = app1.run("sh", "-c", f"ls {ROLE_FILE} /etc/lifeboat/shop.logs.key 2>/dev/null; true")
    assert left == "", left
    app1.run("rm", "-f", "/var/log/lifeboat/trial.log", IMPATIENT, TOLD)
    chain.elsewhere.run("sh", "-c", "systemctl stop bulk; rm -rf /var/lib/private/bulk /var/lib/bulk")


def test_every_source_arrives_with_its_fields(logs: Logs, shop: Stack) -> None:
    """The journal, a container of the stack, and Lifeboat's own log; what is secret has left none of them."""
    secret = json.loads(logs.host.run("cat", "/etc/lifeboat/shop.secrets.json"))["objects_secret_key"]
    said = "行 「書く」 の 一"
    logs.journal(f"{said} journal {secret} postgresql://app:hunter2pass@db/x {KEY}")
    logs.file(f"2026-11-24T02:00:00+0000 shop[1] INFO {said} own {secret}", name="shop")
    shop.sql(f"DO $$ BEGIN RAISE LOG '{said} container {secret}'; END $$;")

    (journal,) = logs.arrived(f"{said} journal")
    assert journal["message"] == f"{said} journal ******** postgresql://app:********@db/x ********", journal
    assert (journal["process.name"], journal["log.syslog.severity.name"]) == ("trial", "info")
    (own,) = logs.arrived(f"{said} own")
    assert own["message"].endswith(f"{said} own ********") and own["log.file.path"] == "/var/log/lifeboat/shop.log"
    container = next(one for one in logs.arrived(f"{said} container") if "LOG:  " in one["message"])
    assert container["log.file.path"].startswith("/var/lib/docker/containers/")
    assert f"{said} container ********" in json.loads(container["message"])["log"]
    for found in (journal, own, container):
        assert found["host.hostname"] == logs.host.name
        assert {"@timestamp", "ecs.version", "event.dataset"} <= set(found), found
    assert not logs.came(secret) and not logs.came("hunter2"), "a secret left the host"


def test_ten_thousand_lines_with_the_store_away_and_rsyslog_restarted(logs: Logs) -> None:
    """Of the journal and of a file, half each. The journal's come in bursts."""
    secret = json.loads(logs.host.run("cat", "/etc/lifeboat/shop.secrets.json"))["objects_secret_key"]
    logs.write("万", 0, 1500, secret)
    logs.arrived("万 journal ", 1500)
    logs.away()
    try:
        logs.write("万", 1500, 2500, secret)
        until("they wait on the disk", lambda: logs.waiting() >= 1500, 60)
        logs.host.run("systemctl", "restart", "rsyslog")
        logs.write("万", 2500, 4000, secret)
        until("the others wait there too", lambda: logs.waiting() >= 4500, 60)
        assert logs.waiting() < 100_000 and 0 < logs.size() < 1 << 30
    finally:
        logs.back()
    logs.write("万", 4000, 5000, secret)
    logs.whole("万", 5000, "********")
    assert not logs.came(secret), "a secret left the host"
    # It crashed at its end where a signal had ended `lifeboat ship`.
    assert "code=dumped" not in logs.host.run("journalctl", "--unit=rsyslog")


def test_a_store_that_is_away_for_some_minutes(logs: Logs) -> None:
    """With the settings of a production. Lines come all the time, of which none is sent yet."""
    logs.away()
    try:
        for number in range(12):
            logs.write("分", 10 * number, 10 * number + 10)
            time.sleep(10)
        assert logs.count("分 ") == 0 and logs.waiting() >= 100
    finally:
        logs.back()
    logs.whole("分", 120)


def test_a_store_that_is_away_for_longer_than_a_batch_is_held(logs: Logs) -> None:
    """That is 6 hours; a program that holds it for 3 s stands for it. Then rsyslog is told no, and has to ask again
    and again: without an end, and at most a minute later."""
    logs.host.run("sh", "-c", f"cat > {IMPATIENT} && chmod 0755 {IMPATIENT}", stdin=OF_3_SECONDS)
    assert setup(log_shipping_agent_path=IMPATIENT).status == 0
    logs.away()
    try:
        logs.write("時", 0, 300)
        told = until("rsyslog is told no", lambda: logs.host.probe("cat", TOLD).stdout, 60)
        assert "not stored" in told
        time.sleep(30)
    finally:
        logs.back()
    logs.whole("時", 300)


def test_a_queue_that_is_full_keeps_them_where_they_come_from(logs: Logs) -> None:
    """Its size is kept to, the host's own log goes on, and nothing is lost. rsyslog is not stopped meanwhile: then
    8.2504 gives up lines that it has noted as read, 31 of a file and one of the journal where this was tried."""
    assert setup(log_shipping_lines=1000).status == 0

    def said() -> list[str]:
        return logs.host.probe("grep", "lines wait for the log store", "/var/log/lifeboat/shop.log").stdout.splitlines()

    before = len(said())
    logs.away()
    try:
        logs.write("満", 0, 2500)
        until("it is full", lambda: logs.waiting() >= 950, 60)
        logs.host.run("logger", "the host's own log goes on")
        until("it does", lambda: not logs.host.probe("grep", "-q", "own log goes on", "/var/log/syslog").returncode, 30)
        time.sleep(5)
        assert logs.waiting() <= 1000 and logs.size() < 4 << 20
        assert len(said()) > before, "nothing tells that lines wait"
    finally:
        logs.back()
    logs.whole("満", 2500)


def test_the_role_changes_nothing_twice_and_its_check_tells_the_truth(logs: Logs) -> None:
    assert setup().status == 0  # as the inventory says, whatever a test before this one wanted
    again = setup()
    assert (again.status, again.changed_tasks) == (0, ()), again.said
    before = logs.host.run("cat", ROLE_FILE)
    told = playbook(SETUP, inventories=INVENTORIES, check=True, log_shipping_lines=5000)
    assert told.status == 0 and logs.host.run("cat", ROLE_FILE) == before, told.said
    done = setup(log_shipping_lines=5000)
    assert (done.status, done.changed_tasks) == (0, told.changed_tasks), (done.said, told.changed_tasks)
    assert len(done.changed_tasks) == 2, done.changed_tasks
