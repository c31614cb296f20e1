"""The state that every case starts from: a healthy stack, and a recovery point of it."""

from __future__ import annotations

from typing import Any

import pytest
import store
from support import Stack


@pytest.fixture(scope="session")
def backed_up(shop: Stack) -> dict[str, Any]:
    """A recovery point; the bucket as it was then, while nobody wrote."""
    shop.wait_until_well(60)
    found = store.portrait(shop.host)
    assert len(found["objects"]) >= 20
    code, taken = shop.host.lifeboat("backup")
    assert code == 0, taken
    points = shop.host.lifeboat("list", "--component", "point")[1]
    shop.marks["point"] = points[-1]["id"]
    shop.marks["backup"] = points[-1]["components"]["objects"]
    assert points[-1]["consistency"] == "snapshot"
    assert store.portrait(shop.host) == found
    return found
