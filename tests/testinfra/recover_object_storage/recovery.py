"""What both test files of this scenario ask of the stack and of a recovery."""

from __future__ import annotations

from typing import Any

import store
from support import Run, Stack

RECOVER = "lifeboat.dr.recover_object_storage"
URL = "http://127.0.0.1:8000"


def write_a_file(stack: Stack) -> dict[str, Any]:
    """Through the application: that it may write again is what a recovery is for."""
    status, file = stack.host.http("PUT", f"{URL}/files/later.json", {"written": "after the recovery point"})
    assert status == 201, f"the application takes no file: {status} {file}"
    found: dict[str, Any] = file
    return found


def has_file(stack: Stack, file: dict[str, Any]) -> bool:
    """Downloaded through the application."""
    return stack.host.http("GET", f"{URL}/files/{file['id']}") == (200, {"written": "after the recovery point"})


def serves(stack: Stack) -> bool:
    status, health = stack.host.http("GET", f"{URL}/health")
    return not stack.ill() and status == 200 and health["status"] == "ok"


def phase_facts(recovery: Run) -> dict[str, Any]:
    """The phases' facts, flattened: above all, where the damaged data went."""
    record = recovery.result("record | Record the evidence")["record"]
    return {key: value for phase in record["phases"] for key, value in phase.items()}


def forget_quarantine(stack: Stack) -> None:
    """What an operator does when the damaged data is no longer wanted."""
    for name in stack.host.volumes():
        if name.startswith("shop_objectdata_quarantine_"):
            stack.host.run("docker", "volume", "rm", name)


def leave_no_orphans(shop: Stack, backed_up: dict[str, Any]) -> None:
    """The next case starts from the recovery point again: the files that this one wrote go, with their rows."""
    shop.sql("DELETE FROM app.files WHERE name = 'later.json';")
    for key in store.objects_of(shop.host):
        if key not in backed_up["objects"]:
            store.act(shop.host, store.DELETE_PREFIX, key)
