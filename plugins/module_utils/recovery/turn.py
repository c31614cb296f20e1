# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A phase of a recovery changes the host: under the stack's lock, in the turn of its plan, between the hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Optional

from ..base import lock
from ..base.errors import Log
from ..settings.config import Config
from ..stack import hooks
from . import state


@contextlib.contextmanager
def changing(
    config: Config, what: str, stamp: str, log: Log, *,
    planned: Optional[int] = None, component: str = "", verb: str = "recover", alone: bool = False,
) -> Iterator[None]:  # fmt: skip
    """Have the turn for one phase. planned: see state.own_turn(); component, alone: see hooks.continued()."""
    turn = state.own_turn(config, f"{verb} the {what}", stamp, planned)
    hooked = hooks.continued(config, hooks.RECOVERY, component, log, alone=alone)
    with lock.held(config.stack, f"{verb} {what}", wait=60), turn, hooked:
        yield
