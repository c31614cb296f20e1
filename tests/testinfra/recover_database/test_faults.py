"""Each way a database is lost, done for real to a running stack, and recovered with one command.

The order of a case: the application writes a row after the backup; the fault; the plan, which must change nothing; the
recovery; proof by psql against the portrait that was taken with the backup.
"""

from __future__ import annotations

import hashlib

import pytest
from faults import FAULTS, Fault
from support import Stack, playbook

RECOVER = "lifeboat.dr.recover_database"
HERE = "test-app1"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_is_recovered(shop: Stack, backed_up: list[str], fault: Fault) -> None:
    shop.forget_quarantine()
    row = write_a_row(shop)
    expected = backed_up if fault.loses else shop.portrait()
    databases, volumes = set(shop.databases()), set(shop.host.world()["volumes"])
    fault.inject(shop)
    before = shop.host.world()

    plan = playbook(RECOVER)
    assert (plan.status, plan.changed) == (0, 0), plan.said
    assert f"the database is {fault.condition}" in plan.said
    assert fault.finding in plan.said
    assert f"run the same command again with -e confirm={HERE}" in plan.said
    assert without_pids(shop.host.world()) == without_pids(before)

    recovery = playbook(RECOVER, confirm=HERE, reason=f"test: {fault.name}")
    assert recovery.status == 0, recovery.said
    assert recovery.result("protect | Stop writers and put damaged data aside")["mode"] == fault.mode
    record = recovery.result("record | Record the evidence")["record"]
    assert record["verdict"] == "PASS"
    assert record["reason"] == f"test: {fault.name}"
    assert shop.portrait() == (without_unlogged(expected) if fault.killed else expected)
    assert serves(shop)
    assert has_row(shop, row) is not fault.loses

    kept = {
        "database": sorted(set(shop.databases()) - databases),
        "volume": sorted(set(shop.host.world()["volumes"]) - volumes),
    }
    if fault.kept == "database":
        name = record_of(recovery)["quarantined_database"]
        assert kept["database"] == [name]
        assert shop.sql(f"SELECT id FROM app.items WHERE id = {row};", database=name) == [str(row)]
    if fault.kept == "volume":
        assert len(kept["volume"]) == 1
        inside = shop.data_directory(kept["volume"][0])
        assert record_of(recovery)["quarantine"] == inside
        assert shop.host.run("cat", f"{inside}/PG_VERSION").strip() == "17"
        assert f"way back: mv {inside} {shop.data_directory()}" in recovery.said
    if not fault.kept and fault.mode == "started":
        assert not kept["database"] and not kept["volume"]

    again = playbook(RECOVER, confirm=HERE)
    assert (again.status, again.changed) == (0, 0), again.said
    assert "nothing to do" in again.said


def record_of(recovery):
    """The phases' facts, flattened: where the damaged data went."""
    record = recovery.result("record | Record the evidence")["record"]
    return {key: value for phase in record["phases"] for key, value in phase.items()}


def without_unlogged(portrait):
    """After a crash: https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-UNLOGGED"""
    nothing = hashlib.md5(b"").hexdigest()
    return [f"table app.sessions|0|{nothing}" if line.startswith("table app.sessions|") else line for line in portrait]


def without_pids(world):
    """A server that fails to start is started again and again by the engine: its process changes, nothing else may."""
    return {**world, "containers": [line.rpartition(" ")[0] for line in world["containers"]]}


def write_a_row(stack: Stack) -> int:
    """Through the application: that it may write again is what a recovery is for."""
    status, item = stack.host.http("POST", "http://127.0.0.1:8000/items", {"name": "written after the backup"})
    assert status == 201, f"the application does not take a row: {status} {item}"
    return int(item["id"])


def has_row(stack: Stack, row: int) -> bool:
    return stack.host.http("GET", f"http://127.0.0.1:8000/items/{row}")[0] == 200


def serves(stack: Stack) -> bool:
    status, health = stack.host.http("GET", "http://127.0.0.1:8000/health")
    return not stack.ill() and status == 200 and health["status"] == "ok"
