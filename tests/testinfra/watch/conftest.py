"""The chain of this scenario."""

from __future__ import annotations

import pytest
import watching
from watching import Chain


@pytest.fixture(scope="session")
def chain() -> Chain:
    return watching.chain()
