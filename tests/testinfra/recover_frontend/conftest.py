"""The state that every case starts from: the newest commit is built, deployed and served."""

from __future__ import annotations

import pytest
from forge import Forge
from support import Host


@pytest.fixture(scope="session")
def forge(app1: Host) -> Forge:
    return Forge(Host(app1.name.replace("app1", "forge1")), app1)


@pytest.fixture
def served(forge: Forge) -> str:
    """The commit that is served when the case begins."""
    return forge.well()
