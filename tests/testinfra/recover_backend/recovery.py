"""What the tests of this scenario ask of the stack and of a recovery."""

from __future__ import annotations

from typing import Any

from support import Run, Stack

RECOVER = "lifeboat.dr.recover_backend"


def serves(stack: Stack) -> bool:
    status, said = stack.host.http("GET", "http://127.0.0.1:8000/health")
    return (status, (said or {}).get("status")) == (200, "ok")


def restored(run: Run) -> Any:
    return run.result(
        "restore | Take the steps, each proved before the next (follow it on the host with journalctl -f)"
    )
