"""What both test files of this scenario ask of the stack and of a recovery."""

from __future__ import annotations

from typing import Any

from support import Run, Stack

RECOVER = "lifeboat.dr.recover_database"


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


def phase_facts(recovery: Run) -> dict[str, Any]:
    """The phases' facts, flattened: above all, where the damaged data went."""
    record = recovery.result("record | Record the evidence")["record"]
    return {key: value for phase in record["phases"] for key, value in phase.items()}
