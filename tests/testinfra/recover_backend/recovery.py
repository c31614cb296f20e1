"""What the tests of this scenario ask of the stack and of a recovery."""

from __future__ import annotations

from typing import Any

from support import ROOT, Run, Stack

RECOVER = "lifeboat.dr.recover_backend"
HERE = "test-app1"
IDENTITY = ROOT / ".lab/lifeboat-test/age.key"


def serves(stack: Stack) -> bool:
    status, said = stack.host.http("GET", "http://127.0.0.1:8000/health")
    return (status, (said or {}).get("status")) == (200, "ok")


def restored(run: Run) -> Any:
    return run.result(
        "restore | Take the steps, each proved before the next (follow it on the host with journalctl -f)"
    )


def project(stack: Stack) -> list[str]:
    """The project's files with their modes and sums."""
    script = "cd /srv/shop && find . -type f -exec stat -c '%a %U %n' {} + -exec sha256sum {} + | sort"
    return stack.host.run("sh", "-ec", script).splitlines()
