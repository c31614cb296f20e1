"""Each rule of monitoring/rules about a keeper, on a lab where the vault's host pulls.

The last of this scenario's tests: they take the stack's key to the vault away, and give it back at their end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from causes import KEEPER_CAUSES, PULLED, SETTING, Cause
from support import APP, ROOT, VAULT, Host, playbook
from watching import INVENTORIES, Chain, fires_is_told_and_resolves

pytestmark = pytest.mark.long

WATCH = ROOT / "molecule/watch"


@pytest.fixture(scope="module")
def keeper(app1: Host) -> Iterator[Host]:
    """The vault's host as a keeper that has what it should, before it is made to say otherwise."""
    pull = yaml.safe_load((WATCH / "vars/pull.yml").read_text(encoding="utf-8"))
    # By the group of the marker lifeboat.dr.keeper sees whether older backups are to be made readable. It is that group
    # already where this module ran before, and there are backups since then that are not.
    app1.run("chgrp", "root", "/backup/repository.json")
    made = playbook(str(WATCH / "keeper.yml"), inventories=INVENTORIES, **pull)
    assert made.status == 0, made.said
    host = Host(VAULT)
    host.run("sh", "-c", SETTING)
    app1.run("lifeboat", "backup", "--stack", "shop")
    host.run("sh", "-c", PULLED)
    yield host
    again = playbook(str(WATCH / "converge.yml"), inventories=INVENTORIES)
    assert again.status == 0, again.said


@pytest.mark.parametrize("cause", [pytest.param(cause, id=cause.name.replace(" ", "-")) for cause in KEEPER_CAUSES])
def test_a_rule_of_a_keeper_fires_is_told_and_resolves(cause: Cause, chain: Chain, keeper: Host) -> None:
    app = Host(APP)
    fires_is_told_and_resolves(
        chain,
        cause.rule,
        cause.labels,
        [(app, cause.cause), (keeper, cause.vault_cause)],
        [(app, cause.repair), (keeper, cause.vault_repair)],
    )
