"""The site as it was: two recovery points in the vault, and what was written behind the second one. Then the machine is
gone."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import store
from ledger import LEDGER, wait_for_writes, writing
from support import SPARE, Host, Stack

# Without the superuser's: the image sets that one from .env, the same password with a salt of its own.
PASSWORDS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin AND NOT rolsuper ORDER BY 1;"


@dataclass
class Site:
    """What a recovery must bring back, and the machine it must do it on."""

    older: str = ""
    point: str = ""
    taken_at: str = ""  # of the point
    lost_at: str = ""  # nothing was written later
    rows: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    env: str = ""
    ledger: str = ""


@pytest.fixture(scope="session")
def spare1() -> Host:
    return Host(SPARE)


@pytest.fixture(scope="session")
def recovered(spare1: Host) -> Stack:
    """The stack where it will be."""
    return Stack(
        spare1, directory="/srv/shop", project="shop", service="db", user="shop", database="shop", volume="shop_pgdata"
    )


@pytest.fixture(scope="session")
def site(shop: Stack) -> Site:
    """Rows and files written through the application, a recovery point meanwhile, then more writes, which only WAL and
    changes have."""
    shop.wait_until_well(60)
    backup = ("backup", "--stack", "shop", "--wait", "300")  # for the base that was begun when WAL was enabled
    assert shop.host.lifeboat(*backup)[0] == 0
    deadline = time.monotonic() + 300
    while not shop.host.lifeboat("wal", "instants", "--stack", "shop")[1]["windows"]:
        assert time.monotonic() < deadline, "that base is not in the repository"
        time.sleep(2)
    with writing(shop.host):
        wait_for_writes(shop.host, 30)
        code, said = shop.host.lifeboat(*backup)
        assert code == 0, said
        wait_for_writes(shop.host, 30)
    points = shop.host.lifeboat("list", "--stack", "shop", "--component", "point")[1]
    older, newest = points[-2], points[-1]
    found = Site(older["id"], newest["id"], newest["taken_at"], shop.host.run("date", "-u", "+%FT%T.%3NZ").strip())
    for command in ("changes look", "wal send"):  # as the timers do
        code, said = shop.host.lifeboat(*command.split(), "--stack", "shop")
        assert code == 0, said
    found.rows, found.passwords = shop.portrait(), shop.sql(PASSWORDS)
    found.objects = store.portrait(shop.host)
    found.env = shop.host.run("cat", "/srv/shop/.env")
    found.ledger = shop.host.run("cat", LEDGER)
    return found


@pytest.fixture(scope="session")
def burned(shop: Stack, site: Site) -> Site:
    """The machine is switched off, and its volumes and its repository are gone before: only the vault is left."""
    shop.host.run("docker", "compose", "--project-directory", "/srv/shop", "down", "--volumes", "--timeout", "2")
    shop.host.run("rm", "-rf", "/backup", "/srv/shop", "/var/lib/lifeboat")
    subprocess.run(["docker", "stop", "--time", "10", shop.host.name], check=True, capture_output=True)
    return site
