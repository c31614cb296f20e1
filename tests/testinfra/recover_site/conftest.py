"""The site as it was: two recovery points in the vault, and what the second one holds. Then the machine is gone."""

from __future__ import annotations

import subprocess
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
    taken_at: str = ""
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
    """Rows and files written through the application, then a recovery point while nobody writes, then more writes."""
    shop.wait_until_well(60)
    assert shop.host.lifeboat("backup", "--stack", "shop")[0] == 0
    with writing(shop.host):
        wait_for_writes(shop.host, 30)
    code, said = shop.host.lifeboat("backup", "--stack", "shop")
    assert code == 0, said
    points = shop.host.lifeboat("list", "--stack", "shop", "--component", "point")[1]
    older, newest = points[-2], points[-1]
    found = Site(older["id"], newest["id"], newest["taken_at"])
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
