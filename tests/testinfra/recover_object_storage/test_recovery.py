"""Each way an object store is lost, done for real to a running stack, and recovered with one command.

The order of a case: the application writes a file after the recovery point; the fault; the plan, which must change
nothing; the recovery; proof by boto3 against the portrait that was taken with the backup.
"""

from __future__ import annotations

from typing import Any

import pytest
import store
from faults import FAULTS, Fault
from recovery import RECOVER, forget_quarantine, has_file, leave_no_orphans, phase_facts, serves, write_a_file
from support import APP, Stack, another_host_is_refused, cases, job, playbook

# The first of each way to recover is also planned without a confirmation before, and asked for again afterwards.
THOROUGH = {fault.mode: fault for fault in reversed(FAULTS)}


@pytest.mark.parametrize("fault", cases(FAULTS, [THOROUGH["rebuild"]]))
def test_fault_is_recovered(shop: Stack, backed_up: dict[str, Any], fault: Fault) -> None:
    forget_quarantine(shop)
    file = write_a_file(shop)
    volumes = set(shop.host.volumes())
    fault.inject(shop)
    if fault in THOROUGH.values():
        the_plan_alone_changes_nothing(shop, fault)

    recovery = job(RECOVER, confirm=APP, reason=f"test: {fault.name}")
    assert recovery.status == 0, recovery.said
    assert f"the bucket uploads is {fault.condition}" in recovery.said
    assert fault.finding in recovery.said
    assert recovery.result("protect | Stop writers and see to a server that can be filled")["mode"] == fault.mode
    record = recovery.result("record | Record the evidence")["record"]
    assert record["verdict"] == "PASS"
    assert record["reason"] == f"test: {fault.name}"

    found = store.portrait(shop.host)
    later = {key for key in found["objects"] if key not in backed_up["objects"]}
    assert {key: found["objects"][key] for key in backed_up["objects"]} == backed_up["objects"]
    assert found["versioning"] == "Enabled"
    lost = file["key"] not in later
    assert fault.loses in (lost, None)
    assert serves(shop)
    assert has_file(shop, file) is not lost
    assert has_file(shop, write_a_file(shop)), "the application may write again"
    if fault.mode != "started":
        said = {check["name"]: check for check in record["checks"]}
        assert said["rows without objects"]["result"] == "PASS"
        assert (file["key"] in said["rows without objects"]["detail"]) is lost, "what is lost is told"

    kept = sorted(set(shop.host.volumes()) - volumes)
    assert len(kept) == (1 if fault.kept else 0)
    if fault.kept:
        inside = shop.data_directory(kept[0])
        assert phase_facts(recovery)["quarantine"] == inside
        assert f"way back: mv {inside}" in recovery.said

    if fault in THOROUGH.values():
        again = playbook(RECOVER, confirm=APP)
        assert (again.status, again.changed) == (0, 0), again.said
        assert "nothing to do" in again.said
    leave_no_orphans(shop, backed_up)


def the_plan_alone_changes_nothing(shop: Stack, fault: Fault) -> None:
    before = shop.host.world()
    another_host_is_refused(RECOVER)
    plan = job(RECOVER)
    assert (plan.status, plan.changed) == (0, 0), plan.said
    assert f"the bucket uploads is {fault.condition}" in plan.said
    assert fault.finding in plan.said
    assert f"run the same command again with -e confirm={APP}" in plan.said
    assert without_pids(shop.host.world()) == without_pids(before)


def without_pids(world: dict[str, Any]) -> dict[str, Any]:
    """A server that fails to start is started again and again by the engine: its process changes, nothing else may."""
    return {**world, "containers": [line.rpartition(" ")[0] for line in world["containers"]]}
