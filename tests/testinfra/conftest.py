"""Fixtures that every scenario uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import APP, Clock, Host, Stack


@pytest.fixture(scope="session")
def app1() -> Host:
    return Host(APP)


@pytest.fixture(scope="session", autouse=True)
def cron(app1: Host) -> Iterator[Clock]:
    """Whatever the hour, no scheduled job comes between two lines of a test."""
    clock = Clock(app1)
    clock.stop()
    yield clock
    clock.run()


@pytest.fixture(scope="session")
def shop(app1: Host) -> Stack:
    """The sample stack of the lab."""
    return Stack(
        app1, directory="/srv/shop", project="shop", service="db", user="shop", database="shop", volume="shop_pgdata"
    )
