"""A recovery point taken while the application writes: rows and files come back as of one instant, and none is lost."""

from __future__ import annotations

from typing import Any

import pytest
from ledger import left, wait_for_writes, writing
from support import APP, Stack, another_host_is_refused, job, playbook

RECOVERIES: dict[str, dict[str, bool]] = {
    "lifeboat.dr.recover_database": {},
    "lifeboat.dr.recover_object_storage": {"exact": True},
}


@pytest.fixture(scope="module")
def point(shop: Stack) -> dict[str, Any]:
    """The recovery point, taken by the playbook in the middle of the writing."""
    shop.wait_until_well(60)
    with writing(shop.host):
        wait_for_writes(shop.host, 60)
        run = playbook("lifeboat.dr.backup")
        assert run.status == 0, run.said
        wait_for_writes(shop.host, 60)
    taken = run.result("Take a recovery point")
    listed = shop.host.lifeboat("list", "--component", "point")[1]
    found: dict[str, Any] = next(entry for entry in listed if entry["id"] == taken["id"])
    return found


def test_it_ties_rows_and_objects_of_one_instant(shop: Stack, point: dict[str, Any]) -> None:
    assert (point["good"], point["consistency"]) == (True, "snapshot")
    assert {name for name, part in point["components"].items() if part} == {"database", "objects", "config"}
    # boto3 sends a checksum with each object, and no server takes another's over.
    lacks = [note for note in point["notes"] if not note.startswith("objects: the checksums of ")]
    assert lacks == [], "it lacks nothing else"
    services = set(shop.compose("config", "--services").split())
    assert set(point["images"]) == services
    assert all("@sha256:" in image for image in point["images"].values())
    assert len(point["copies"]) == 1
    assert point["copies"][0].startswith("s3://shop-repository/shop at http")


def test_a_young_one_is_enough(point: dict[str, Any]) -> None:
    again = playbook("lifeboat.dr.backup", max_age=7200)
    assert (again.status, again.changed) == (0, 0), again.said
    assert again.result("Take a recovery point")["id"] == point["id"]


def test_it_is_proved_by_its_parts(shop: Stack, point: dict[str, Any]) -> None:
    run = playbook("lifeboat.dr.verify", recovery_point=point["id"])
    assert run.status == 0, run.said
    checks = {check["name"]: check["result"] for check in run.result("Prove the backup")["checks"]}
    assert {"recovery point", "database: tables", "objects: bytes", "objects: metadata and tags"} <= set(checks)
    assert set(checks.values()) == {"PASS"}
    listed = shop.host.lifeboat("list", "--component", "point")[1]
    assert next(entry["proven"] for entry in listed if entry["id"] == point["id"])
    status = shop.host.lifeboat("status")[1]
    results = {check["name"]: check["result"] for check in status["checks"]}
    for name in ("recovery point", "copies", "proof", "objects proof", "newest objects backup", "config proof"):
        assert results[name] == "PASS", status["checks"]


def test_both_come_back_as_of_that_instant(shop: Stack, point: dict[str, Any]) -> None:
    """Back to the point, the database first: what was acknowledged before it is there, and every row has its object."""
    had = left(shop.host, point["taken_at"])
    assert had["lost"] == 0
    assert had["before"]["acknowledged"] > 50
    assert had["after"]["acknowledged"] > 50
    for name, exact in RECOVERIES.items():
        run = playbook(name, confirm=APP, recovery_point=point["id"], **exact)
        assert run.status == 0, run.said
    shop.wait_until_well()
    now = left(shop.host, point["taken_at"])
    assert now["before"]["lost"] == 0, now["lost_examples"]
    assert now["rows_without_bytes"] == 0
    assert now["after"]["present"] < now["after"]["acknowledged"], "what came later is not in it"


@pytest.mark.long
def test_a_second_recovery_to_it_changes_nothing(point: dict[str, Any]) -> None:
    for name, exact in RECOVERIES.items():
        again = playbook(name, confirm=APP, recovery_point=point["id"], **exact)
        assert (again.status, again.changed) == (0, 0), again.said


def test_rows_and_objects_agree_afterwards(shop: Stack) -> None:
    for confirm in ("", APP):
        reconciled = job("lifeboat.dr.reconcile", confirm=confirm)
        assert reconciled.status == 0, reconciled.said
    another_host_is_refused("lifeboat.dr.reconcile")
    shop.forget_quarantine()
