# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery of a store as a process of its own, so that it can be killed: its configuration comes on stdin, pickled.

The argument is the number of the change of the host's own state before which it kills itself, 0 for none.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.selection import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect as recovery_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import DataMount, Opened, ServiceState


class Elsewhere:
    """A stack whose object store is not its own to start and stop."""

    label = "a process"

    def stop(self, services: Any, *, timeout: float) -> None:
        pass

    start = stop

    def state(self, service: str) -> ServiceState:
        return ServiceState(exists=True, running=True, status="running")

    def dependants(self, service: str) -> list[str]:
        return ["backend"]

    def images(self) -> dict[str, str]:
        return {}


class Own(Elsewhere):
    """A stack whose object store is a process that each run starts and stops, by the number that is in a file.

    server: argv, its environment, the directory that it runs in, its data, and that file.
    """

    def __init__(self, server: dict[str, Any]) -> None:
        self.server = server

    def _number(self) -> int:
        """0 where it does not run; nobody may wait for the one that a killed run has started."""
        try:
            number = int(Path(self.server["pid"]).read_text())
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return 0
        return 0 if state == "Z" else number

    def state(self, service: str) -> ServiceState:
        up = service != "objects" or self._number() > 0
        return ServiceState(exists=True, running=up, status="running" if up else "exited", exit_code=1)

    def start(self, services: Any, *, timeout: float) -> None:
        if "objects" not in services or self._number():
            return
        begin = """setsid sh -c 'echo $$ >"$0"; exec "$@"' "$@" &"""  # nobody waits for it
        with Path(self.server["log"]).open("ab") as log:
            subprocess.run(
                ["sh", "-c", begin, "sh", self.server["pid"], *self.server["argv"]], check=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.server["directory"],
                env={**os.environ, **self.server["environment"]},
            )  # fmt: skip
        while not self._number():
            time.sleep(0.05)

    def stop(self, services: Any, *, timeout: float) -> None:
        if "objects" in services and (number := self._number()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
            while self._number():
                time.sleep(0.05)

    def discard(self, service: str, *, timeout: float) -> None:
        self.stop([service], timeout=timeout)

    def logs(self, service: str) -> str:
        return ""

    def data_mount(self, service: str, inside: str) -> DataMount:
        return DataMount("bind", self.server["data"], Path(self.server["data"]))

    def by_hand(self, service: str) -> tuple[str, str]:
        return "stop", "start"


def own(job: dict[str, Any]) -> None:
    """For tests/integration/kill_everywhere.py: the store is a process of the test's."""
    stack = Own(job["server"])
    runtime.connect = lambda config: stack  # type: ignore[assignment,return-value]


def elsewhere(job: dict[str, Any]) -> None:
    """For tests/integration/kill_everywhere.py: no container is started or stopped."""
    del job
    stack = Elsewhere()
    runtime.connect = lambda config: stack  # type: ignore[assignment,return-value]


def dying(at: int) -> None:
    """Let the process be killed before its change number `at` of the state directory."""
    count = 0

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def change(*args: Any, **more: Any) -> None:
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*args, **more)

        return change

    for name in ("keep", "mark", "unmark"):
        replaced = counted(getattr(recovery_state, name))
        setattr(recovery_state, name, replaced)
        if hasattr(recovery_protect, name):
            setattr(recovery_protect, name, replaced)


def recover(config: Any, log: Callable[[str], None], **request: Any) -> dict[str, Any]:
    """As the role does it: plan, protect, restore; returns what each of them said."""
    made = objects_plan.make(Opened(config), Request(**request), log=log)
    plan: dict[str, Any] = typed.plain(made)
    if not made.needed:
        return plan
    done = objects_recovery.protect(Opened(config), made, log=log)
    if done.mode == "started":
        return {**plan, **typed.plain(done)}
    restored = objects_recovery.restore_objects(
        Opened(config), str(made.backup["id"]), log=log, fresh=done.fresh, additional=made.additional,
        bucket=made.bucket, stamp=made.stamp, prefix=made.prefix, exact=made.exact, partial=made.partial,
        requested=made.asked, state=made.state,
    )  # fmt: skip
    return {**plan, **typed.plain(done), **typed.plain(restored)}


if __name__ == "__main__":
    config, request = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the test that started this process
    elsewhere({})
    dying(int(sys.argv[1]))
    recover(config, lambda _line: None, **request)
