"""The state that every case starts from: a healthy stack, an older backup and a newer one, proved."""

from __future__ import annotations

import pytest
from support import Stack


@pytest.fixture(scope="session")
def backed_up(shop: Stack) -> list[str]:
    """Two backups, a row apart; the portrait of the newer one, taken while nobody writes.

    The newer one is of a recovery point, as a time means the newest recovery point where there are any.
    """
    shop.wait_until_well(60)
    assert shop.host.lifeboat("backup", "database")[0] == 0
    shop.marks["older"] = shop.host.lifeboat("list")[1][-1]["id"]
    shop.marks["older portrait"] = shop.portrait()
    shop.sql("INSERT INTO app.clicks VALUES ('between the backups', '2026-11-24');")
    code, taken = shop.host.lifeboat("backup")
    assert code == 0, taken
    shop.marks["newer"] = taken["components"]["database"]
    portrait = shop.portrait()
    assert portrait != shop.marks["older portrait"]
    return portrait
