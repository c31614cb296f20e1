"""The drills' shop keeps more than rows and objects: see molecule/inventory/hosts.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def with_other_stores() -> Iterator[None]:
    """Whatever a test runs finds the inventory's group of that name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LIFEBOAT_OTHER_STORES", "1")
        yield
