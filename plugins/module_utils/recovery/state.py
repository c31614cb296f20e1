# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What state a component was found in, and what a host remembers of its last recovery."""

from __future__ import annotations

import json
from typing import Any, Optional

from ..base.filesystem import explained
from ..settings.config import Config

RECOVERING = "recovering"
# While it exists the bucket may be half filled: a mirror of it must never become the newest good backup.
RECOVERING_OBJECTS = "recovering_objects"
HEALTHY = "healthy"
DAMAGED = "damaged"
DOWN = "down"
STOPPED = "stopped.json"
RECOVERED = "recovered.json"


def stopped(config: Config) -> list[str]:
    """Writers that a recovery stopped and that no reopening has started since: it was killed in between."""
    try:
        return [str(load) for load in json.loads((config.state / STOPPED).read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def recovered(config: Config, name: str = RECOVERED) -> Optional[dict[str, Any]]:
    """The last recovery this host completed: {id, at, asked}; None when there was none."""
    try:
        last = dict(json.loads((config.state / name).read_text(encoding="utf-8")))
        return last if {"id", "at"} <= set(last) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def keep(config: Config, name: str, text: str) -> None:
    """Remember `text` on this host under that name; whole or not at all."""
    with explained("remember the recovery", config.state / name):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = config.state / f"{name}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(config.state / name)


def mark(config: Config, name: str) -> None:
    """From now until the data is back the store may be an empty one: a backup of it must not become the newest good."""
    with explained("mark the stack as being recovered", config.state / name):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (config.state / name).touch(mode=0o600)


def unmark(config: Config, name: str) -> None:
    (config.state / name).unlink(missing_ok=True)
