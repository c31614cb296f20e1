"""A second Compose project with hostile names everywhere, protected and recovered by inventory alone."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from support import APP, Host, Stack, playbook

INVENTORIES = ("molecule/inventory", "molecule/foreign_stack/inventory")
FILES = (
    "'/srv/zweite app' /etc/lifeboat/zweite.* /etc/cron.d/lifeboat-zweite* /var/lib/lifeboat/zweite"
    " /var/log/lifeboat/zweite.log* /backup/zweite"
)
PASSWORD = " " + string.punctuation + " "
ROWS = """
CREATE SCHEMA "Schéma ""1"" $$";
CREATE ROLE "Rolle; 'x' $1" LOGIN PASSWORD 'it''s \\ "secret"';
CREATE TABLE "Schéma ""1"" $$"."Tabelle; --" (id serial PRIMARY KEY, "Spalte "" $1" text);
INSERT INTO "Schéma ""1"" $$"."Tabelle; --" ("Spalte "" $1") SELECT '値 ' || g FROM generate_series(1, 5000) g;
GRANT USAGE ON SCHEMA "Schéma ""1"" $$" TO "Rolle; 'x' $1";
GRANT SELECT ON ALL TABLES IN SCHEMA "Schéma ""1"" $$" TO "Rolle; 'x' $1";
"""


@pytest.fixture(scope="module")
def stack(app1: Host) -> Iterator[Stack]:
    """Seen from outside Lifeboat, with the password that the inventory has.

    Afterwards it goes with all that is of it: on a host of two stacks the scenarios that follow had to name theirs.
    """
    password = app1.run("cat", "/srv/zweite app/password")
    assert set(string.printable.split("\t")[0]) | {" "} <= set(password)
    yield Stack(
        app1, directory="/srv/zweite app", project="zweite", service="datenbank", user='Chef vom Dienst; É',
        database="Läden & $Kunden; 'DROP'", password=password, volume="zweite_daten",
    )  # fmt: skip
    app1.run("docker", "compose", "--project-directory", "/srv/zweite app", "down", "--volumes", "--timeout", "2")
    app1.run("sh", "-c", f"rm -rf {FILES}")


def test_it_is_recovered_when_its_volume_is_gone(stack: Stack) -> None:
    stack.wait_until_well()
    assert stack.psql("SELECT 1;").returncode == 0
    wrong = Stack(**{**stack.__dict__, "password": "wrong"})
    assert wrong.psql("SELECT 1;").returncode != 0, "the socket asks for no password, so nothing is proved here"
    stack.sql(ROWS)
    assert web(stack) == (200, {"rows": 5000}), "its own role cannot read"
    taken = playbook("lifeboat.dr.backup", inventories=INVENTORIES)
    assert taken.status == 0, taken.said
    proved = playbook("lifeboat.dr.verify", inventories=INVENTORIES)
    assert proved.status == 0, proved.said
    expected = stack.portrait()

    stack.compose("rm", "--stop", "--force", "datenbank")
    stack.host.run("docker", "volume", "rm", "zweite_daten")
    plan = playbook("lifeboat.dr.recover_database", inventories=INVENTORIES)
    assert (plan.status, plan.changed) == (0, 0), plan.said
    assert "stop the writers (web)" in plan.said
    recovery = playbook("lifeboat.dr.recover_database", inventories=INVENTORIES, confirm=APP)
    assert recovery.status == 0, recovery.said
    assert stack.portrait() == expected
    assert not stack.ill()
    assert web(stack) == (200, {"rows": 5000})
    again = playbook("lifeboat.dr.recover_database", inventories=INVENTORIES, confirm=APP)
    assert (again.status, again.changed) == (0, 0), again.said


def web(stack: Stack) -> tuple[int, object]:
    """What its web service says, which logs in with a role and a password of its own."""
    return stack.host.http("GET", "http://127.0.0.1:8001/")


def test_its_password_is_nowhere(stack: Stack) -> None:
    """Not in the configuration, the log, the journal or the evidence; in the secrets file, for root alone."""
    written = stack.host.run(
        "sh",
        "-c",
        "cat /etc/lifeboat/zweite.json /var/log/lifeboat/zweite.log /var/lib/lifeboat/zweite/evidence/*; journalctl -q",
    )
    assert stack.password not in written
    assert stack.password.strip()[10:40] not in written
    assert stack.host.run("stat", "--format", "%a", "/etc/lifeboat/zweite.secrets.json").strip() == "600"


def test_two_stacks_on_one_host_must_be_named(app1: Host, stack: Stack) -> None:
    if app1.probe("test", "-e", "/etc/lifeboat/shop.json").returncode:  # no other scenario has run before
        assert playbook("lifeboat.dr.deploy", database_backup_enabled=False).status == 0
    done = app1.probe("lifeboat", "list")
    assert done.returncode == 2
    assert "Name one with --stack" in done.stderr
    for name in ("shop", "zweite"):
        code, listed = app1.lifeboat("list", "--stack", name)
        assert code == 0
        assert {backup["stack"] for backup in listed} <= {name}
