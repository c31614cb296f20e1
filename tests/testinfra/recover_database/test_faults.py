"""Each way a database is lost, done for real to a running stack, and recovered with one command.

The order of a case: the application writes a row after the backup; the fault; the plan, which must change nothing; the
recovery; proof by psql against the portrait that was taken with the backup.
"""

from __future__ import annotations

from typing import Any

import pytest
from faults import FAULTS, Fault
from recovery import RECOVER, has_row, phase_facts, serves, write_a_row
from support import APP, Stack, another_host_is_refused, cases, job, playbook

MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"


# The first of each way to recover is also planned without a confirmation before, and asked for again afterwards.
THOROUGH = {fault.mode: fault for fault in reversed(FAULTS)}


@pytest.mark.parametrize("fault", cases(FAULTS, [fault for fault in THOROUGH.values() if fault.loses]))
def test_fault_is_recovered(shop: Stack, backed_up: list[str], fault: Fault) -> None:
    shop.forget_quarantine()
    row = write_a_row(shop)
    expected = backed_up if fault.loses else shop.portrait()
    databases, volumes = set(shop.databases()), set(shop.host.volumes())
    fault.inject(shop)
    containers = without_pids(shop.host.world())["containers"]
    if fault in THOROUGH.values():
        the_plan_alone_changes_nothing(shop, fault)

    recovery = job(RECOVER, confirm=APP, reason=f"test: {fault.name}")
    assert recovery.status == 0, recovery.said
    assert f"the database is {fault.condition}" in recovery.said
    assert fault.finding in recovery.said
    assert recovery.result("protect | Stop writers and put damaged data aside")["mode"] == fault.mode
    record = recovery.result("record | Record the evidence")["record"]
    assert record["verdict"] == "PASS"
    assert record["reason"] == f"test: {fault.name}"
    if fault.killed:
        assert after_a_crash(shop.portrait()) == after_a_crash(expected)
    else:
        assert shop.portrait() == expected
    assert serves(shop)
    assert has_row(shop, row) is not fault.loses

    kept = {
        "database": sorted(set(shop.databases()) - databases),
        "volume": sorted(set(shop.host.volumes()) - volumes),
    }
    if fault.kept == "database":
        name = phase_facts(recovery)["quarantined_database"]
        assert kept["database"] == [name]
        assert shop.sql(f"SELECT id FROM app.items WHERE id = {row};", database=name) == [str(row)]
    if fault.kept == "volume":
        assert len(kept["volume"]) == 1
        inside = shop.data_directory(kept["volume"][0])
        assert phase_facts(recovery)["quarantine"] == inside
        assert shop.host.run("cat", f"{inside}/PG_VERSION").strip() == "17"
        assert f"way back: mv {inside} {shop.data_directory()}" in recovery.said
    if fault.mode == "started":
        assert not kept["database"] and not kept["volume"]
    if fault.mode != "rebuild":  # stopped and started, none replaced
        assert set(containers) <= set(without_pids(shop.host.world())["containers"])

    if fault in THOROUGH.values():
        again = playbook(RECOVER, confirm=APP)
        assert (again.status, again.changed) == (0, 0), again.said
        assert "nothing to do" in again.said


def the_plan_alone_changes_nothing(shop: Stack, fault: Fault) -> None:
    before = shop.host.world()
    another_host_is_refused(RECOVER)
    plan = job(RECOVER)
    assert (plan.status, plan.changed) == (0, 0), plan.said
    assert f"the database is {fault.condition}" in plan.said
    assert fault.finding in plan.said
    assert f"run the same command again with -e confirm={APP}" in plan.said
    assert without_pids(shop.host.world()) == without_pids(before)


def after_a_crash(portrait: list[str]) -> list[str]:
    """What a crash of PostgreSQL itself may change: unlogged tables come back empty, and sequences skip ahead, since
    their values are logged 32 in advance (SEQ_LOG_VALS in src/backend/commands/sequence.c).
    """
    return [
        f"table app.sessions|0|{MD5_OF_NOTHING}" if line.startswith("table app.sessions|") else line
        for line in portrait
        if not line.startswith("sequence|")
    ]


def without_pids(world: dict[str, Any]) -> dict[str, Any]:
    """A server that fails to start is started again and again by the engine: its process changes, nothing else may."""
    return {**world, "containers": [line.rpartition(" ")[0] for line in world["containers"]]}
