"""Fixtures that every scenario uses."""

from __future__ import annotations

import pytest
from support import APP, Host, Stack


@pytest.fixture(scope="session")
def app1() -> Host:
    return Host(APP)


@pytest.fixture(scope="session")
def shop(app1: Host) -> Stack:
    """The sample stack of the lab."""
    return Stack(
        app1, directory="/srv/shop", project="shop", service="db", user="shop", database="shop", volume="shop_pgdata"
    )
