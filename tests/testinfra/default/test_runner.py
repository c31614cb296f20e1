"""A recovery that is healthy, planned by a job of AWX."""

from __future__ import annotations

import pytest
from support import APP, Stack, job

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def backed_up(shop: Stack) -> str:
    code, taken = shop.host.lifeboat("backup", "database")
    assert code == 0
    return str(taken["id"])


@pytest.mark.parametrize(
    ("check", "answers", "needed"),
    [
        pytest.param(False, {}, False, id="defaults"),
        pytest.param(False, {"recovery_point": "", "recovery_time": "", "reason": ""}, False, id="empty"),
        pytest.param(False, {"force": "true"}, True, id="plan"),
        pytest.param(True, {"force": "true", "confirm": APP}, True, id="dry run"),
    ],
)
def test_a_recovery_is_planned(shop: Stack, backed_up: str, check: bool, answers: dict[str, str], needed: bool) -> None:
    before = (shop.host.world(), shop.portrait())
    run = job("lifeboat.dr.recover_database", check=check, **answers)
    assert run.status == 0, run.said
    plans = [result["plan"] for result in run.results.values() if "plan" in result]
    assert [(plan["needed"], plan["backup"]["id"]) for plan in plans[:1]] == [(needed, backed_up)], run.said
    assert (shop.host.world(), shop.portrait()) == before
