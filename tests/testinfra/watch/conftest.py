"""The chain of this scenario, and a stack that nothing is to be said of."""

from __future__ import annotations

import pytest
import watching
from support import Clock, Host, identity
from watching import Chain, alerts, until


@pytest.fixture(scope="session", autouse=True)
def cron(app1: Host) -> Clock:
    """Here it runs: the agent's figures come from its job of each minute."""
    return Clock(app1)


@pytest.fixture(scope="session")
def chain() -> Chain:
    return watching.chain()


@pytest.fixture(scope="session")
def backed_up(app1: Host, chain: Chain) -> None:
    """A stack with a backup of everything, whose history begins here: beside another scenario's backup, with the images
    in it, this one is suspiciously small. One critical alert more, and PagerDuty is not told that another is over."""
    app1.run("find", "/backup", "-mindepth", "2", "-delete")
    app1.run("lifeboat", "backup", "--stack", "shop")
    until("no alert is critical", lambda: not alerts(chain, labels=(("severity", "critical"),)))


@pytest.fixture(scope="session")
def well(app1: Host, backed_up: None) -> None:
    """A stack that has everything that a rule asks for, so that each cause is told apart from what was never done."""
    app1.run("sh", "-c", "umask 077 && cat > /run/age.key", stdin=identity())
    for words in ("verify", "prune", "escrow --identity /run/age.key", "metrics --ask"):
        done = app1.probe("lifeboat", *words.split(), "--stack", "shop")
        assert done.returncode == 0, (words, done.stdout, done.stderr)
