# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait until a started service answers."""

from __future__ import annotations

import time
from typing import Callable, Optional

from ..base.errors import LifeboatError
from ..settings.config import Config
from ..stack import runtime
from ..stack.runtime import Runtime, ServiceState

# A server that keeps exiting will not come up; one that replays its log says so, and may take as long as it needs.
PATIENCE_WHEN_EXITED = 15.0
RESTARTS_ENOUGH = 4


def wait_for_answer(
    config: Config, stack: Runtime, service: str, ask: Callable[[ServiceState], Optional[str]], *, attempted: str
) -> None:
    """Until `ask` says None, which is an answer; a text is why there is none yet, empty where that is not known."""
    deadline = time.monotonic() + config.application.timeout
    exited_since: float = 0
    why = ""
    while time.monotonic() < deadline:
        state = stack.state(service)
        said = ask(state)
        if said is None:
            return
        why = said or why
        if not state.running:
            exited_since = exited_since or time.monotonic()
        hopeless = exited_since and time.monotonic() - exited_since > PATIENCE_WHEN_EXITED
        if hopeless or (not state.running and state.restarts >= RESTARTS_ENOUGH):
            words = runtime.last_words(stack.logs(service))
            why = f"{service} is {state.describe()}" + (f"; it last said: {words}" if words else "")
            break
        time.sleep(0.5)
    raise LifeboatError(attempted, service, why or "no answer", f"docker compose logs --tail 50 {service}")
