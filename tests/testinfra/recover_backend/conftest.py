"""The state that every case starts from: a healthy stack, and a recovery point of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support import Stack


@pytest.fixture(scope="session")
def backed_up(shop: Stack) -> Sequence[str]:
    """A recovery point, and what the database holds, by psql."""
    shop.wait_until_well(60)
    code, taken = shop.host.lifeboat("backup")
    assert code == 0, taken
    shop.marks["files"] = shop.files()
    return shop.portrait()
