# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a stack's services are reached and controlled: a Compose project, or systemd units on the host itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..base.errors import LifeboatError
from ..settings.config import Config
from .compose import ComposeRuntime, exec_command
from .host import HostRuntime
from .service import DataMount, Runtime, ServiceState, last_words

__all__ = [
    "ComposeRuntime", "DataMount", "HostRuntime", "Runtime", "ServiceState", "connect", "exec_command", "last_words",
    "wait_until_well",
]  # fmt: skip


def connect(config: Config) -> Runtime:
    return ComposeRuntime(config) if config.runtime.type == "compose" else HostRuntime(config)


def wait_until_well(runtime: Runtime, services: Sequence[str], *, timeout: float) -> dict[str, str]:
    """Wait until every service runs and its health check, where it has one, passes. Returns the last words of each."""
    deadline = time.monotonic() + timeout
    while True:
        states = {service: runtime.state(service) for service in services}
        if all(state.well for state in states.values()):
            return {service: state.describe() for service, state in states.items()}
        if time.monotonic() >= deadline:
            ill = [service for service, state in states.items() if not state.well]
            said = last_words(runtime.logs(ill[0]))
            raise LifeboatError(
                "wait for services to be well",
                ", ".join(ill),
                f"after {timeout:.0f} s: "
                + "; ".join(f"{name} is {states[name].describe()}" for name in ill)
                + (f"; it last said: {said}" if said else ""),
                "Look at their logs: docker compose logs --tail 50 " + " ".join(ill),
            )
        time.sleep(0.5)
