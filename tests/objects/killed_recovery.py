# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery of a store as a process of its own, so that it can be killed: its configuration comes on stdin, pickled.

The argument is the number of the change of the host's own state before which it kills itself, 0 for none.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any, Callable

from ansible_collections.lifeboat.dr.plugins.module_utils.base import typed
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import plan as objects_plan
from ansible_collections.lifeboat.dr.plugins.module_utils.objects import recovery as objects_recovery
from ansible_collections.lifeboat.dr.plugins.module_utils.objects.choose import Request
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import protect as recovery_protect
from ansible_collections.lifeboat.dr.plugins.module_utils.recovery import state as recovery_state
from ansible_collections.lifeboat.dr.plugins.module_utils.stack import runtime
from ansible_collections.lifeboat.dr.plugins.module_utils.stack.runtime import Opened, ServiceState


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
        Opened(config), str(made.backup["id"]), log=log, fresh=done.fresh, others=made.others, bucket=made.bucket,
        stamp=made.stamp, prefix=made.prefix, exact=made.exact, partial=made.partial, asked=made.asked,
        state=made.state,
    )  # fmt: skip
    return {**plan, **typed.plain(done), **typed.plain(restored)}


if __name__ == "__main__":
    config, request = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the test that started this process
    elsewhere({})
    dying(int(sys.argv[1]))
    recover(config, lambda _line: None, **request)
