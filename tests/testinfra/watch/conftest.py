"""The chain of this scenario, and a stack that nothing is to be said of."""

from __future__ import annotations

import pytest
import watching
from support import Host, identity
from watching import Chain


@pytest.fixture(scope="session")
def chain() -> Chain:
    return watching.chain()


@pytest.fixture(scope="session")
def backed_up(app1: Host) -> None:
    """A stack with a backup of everything: no alert is critical."""
    app1.run("lifeboat", "backup", "--stack", "shop")


@pytest.fixture(scope="session")
def well(app1: Host, backed_up: None) -> None:
    """A stack that has everything that a rule asks for, so that each cause is told apart from what was never done."""
    app1.run("sh", "-c", "umask 077 && cat > /run/age.key", stdin=identity())
    for words in ("verify", "prune", "escrow --identity /run/age.key", "metrics --ask"):
        done = app1.probe("lifeboat", *words.split(), "--stack", "shop")
        assert done.returncode == 0, (words, done.stdout, done.stderr)
