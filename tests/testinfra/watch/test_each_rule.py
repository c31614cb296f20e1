"""Each rule of monitoring/rules: its cause is made on the lab, the alert arrives, and the repair resolves it."""

from __future__ import annotations

import pytest
from causes import CAUSES, SETTING, Cause
from support import APP, VAULT, Host, playbook
from watching import INVENTORIES, Chain, alerts, fires_is_told_and_resolves, until


@pytest.fixture(scope="module")
def clock(app1: Host) -> None:
    """What runs a command with another clock."""
    app1.run("sh", "-c", SETTING)


@pytest.mark.long
@pytest.mark.parametrize("cause", [pytest.param(cause, id=cause.name.replace(" ", "-")) for cause in CAUSES])
def test_a_rule_fires_is_told_and_resolves(cause: Cause, chain: Chain, well: None, clock: None) -> None:
    app, vault = Host(APP), Host(VAULT)
    fires_is_told_and_resolves(
        chain,
        cause.rule,
        cause.labels,
        [(vault, cause.vault_cause), (app, cause.cause)],
        [(vault, cause.vault_repair), (app, cause.repair)],
    )


@pytest.mark.long
def test_a_drill_that_never_was(app1: Host, chain: Chain, well: None) -> None:
    """It is not late in a young stack. One that is late is promtool's matter (tests/unit/test_rules.py): a backup has
    the date of the database's own clock, so that no stack here is old enough."""
    labels = (("of", "database"),)
    assert not alerts(chain, "LifeboatDrillOverdue", labels)
    drill = playbook(
        "lifeboat.dr.drill", inventories=INVENTORIES, scenario="database", fault="database_dropped", confirm=APP
    )
    assert drill.status == 0, drill.said
    app1.run("lifeboat", "metrics", "--stack", "shop")
    until("it is done", lambda: not alerts(chain, "LifeboatDrillOverdue", labels))
