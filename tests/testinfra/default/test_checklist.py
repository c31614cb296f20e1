"""The lists on a whole host: green where all is well, red after two days in which nothing ran, and read only."""

from __future__ import annotations

import pytest
from support import Run, Stack, playbook

pytestmark = pytest.mark.long
CHECKLIST = "lifeboat.dr.checklist"


@pytest.fixture(scope="module")
def backed_up(shop: Stack) -> str:
    code, taken = shop.host.lifeboat("backup")
    assert code == 0, taken
    return str(taken["id"])


def line(run: Run, name: str) -> dict[str, str]:
    return next(line for line in run.result("Make its checks")["lines"] if line["name"] == name)


def test_two_days_without_a_backup(shop: Stack, backed_up: str) -> None:
    before = shop.host.world()
    today = playbook(CHECKLIST, period="daily")
    for name in ("newest backup", "newest objects backup", "recovery point", "copies"):
        assert line(today, name)["result"] == "PASS", today.said
    later = playbook(CHECKLIST, period="daily", ahead_days="2")
    assert later.status != 0
    for name in ("newest backup", "newest objects backup", "recovery point"):
        assert line(later, name)["result"] == "FAIL"
    assert (today.changed, later.changed) == (0, 0)
    assert shop.host.world() == before


def test_the_schedule_is_there(shop: Stack, backed_up: str) -> None:
    run = playbook(CHECKLIST, period="monthly")
    for name in ("schedule", "cron", "command", "last runs"):
        assert line(run, name)["result"] == "PASS", run.said
    code, made = shop.host.lifeboat("checklist", "--period", "monthly")
    assert [line["result"] for line in made["lines"]] == [
        line["result"] for line in run.result("Make its checks")["lines"]
    ]
    assert (code == 0) == (run.status == 0)


def test_an_incident(shop: Stack, backed_up: str) -> None:
    well = playbook(CHECKLIST, period="incident")
    assert backed_up in line(well, "recovery point")["seen"]
    for name in ("object storage", "application"):
        assert [line for line in well.result("Make its checks")["lines"] if line["name"] == name][-1][
            "result"
        ] == "PASS"
    shop.host.run("docker", "stop", "--time", "10", shop.container)
    try:
        broken = playbook(CHECKLIST, period="incident")
    finally:
        shop.host.run("docker", "start", shop.container)
        shop.wait_until_well()
    assert broken.status != 0
    found = [line for line in broken.result("Make its checks")["lines"] if line["name"] == "database"][-1]
    assert found["result"] == "FAIL"
    assert "lifeboat.dr.recover_database" in found["seen"]
