"""The state that every case starts from: the newest commit is built, deployed and served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forge import Forge
from support import FORGE, Host


@pytest.fixture(scope="session")
def forge(app1: Host) -> Iterator[Forge]:
    found = Forge(Host(FORGE), app1)
    yield found
    found.well()  # a drill, which may be next on these hosts, begins with a site that is served


@pytest.fixture
def served(forge: Forge) -> str:
    """The commit that is served when the case begins."""
    return forge.well()
